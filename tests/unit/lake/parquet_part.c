/* Parts of Parquet files: which row groups are kept for what is wanted, what the new footer says, and
 * that nothing that a footer may have does harm. The footers are written here, by the specification. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "lake/parquet_part.h"

#define GROUPS    20
#define GROUP_AT  100000 /* bytes from one group to the next */
#define DATA_END  (4 + GROUPS * GROUP_AT)
#define CHUNK     400
#define BLOOM_AT  300
#define BLOOM_LEN 40

static void put_varint(struct buf *b, uint64_t v)
{
    for (; v > 127; v >>= 7)
        buf_append_u8(b, (uint8_t)(v | 128));
    buf_append_u8(b, (uint8_t)v);
}

/* A field's head: ids here grow by less than 16. */
static void put_field(struct buf *b, int *last, int id, int type)
{
    buf_append_u8(b, (uint8_t)((id - *last) << 4 | type));
    *last = id;
}

static void put_int(struct buf *b, int *last, int id, int type, int64_t v)
{
    put_field(b, last, id, type);
    put_varint(b, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
}

static void put_binary(struct buf *b, int *last, int id, const void *p, size_t n)
{
    put_field(b, last, id, 8);
    put_varint(b, n);
    buf_append(b, p, n);
}

static void put_leaf(struct buf *b, const char *name, int field_id, bool micros)
{
    int last = 0;

    put_int(b, &last, 1, 5, 2);
    put_binary(b, &last, 4, name, strlen(name));
    if (micros)
        put_int(b, &last, 6, 5, 10);
    put_int(b, &last, 9, 5, field_id);
    buf_append_u8(b, 0);
}

static void put_chunk(struct buf *b, int64_t at, int64_t min, int64_t max, bool bloom)
{
    uint8_t lo[8], hi[8];
    int last = 0, inner = 0, stats = 0, i;

    for (i = 0; i < 8; i++) {
        lo[i] = (uint8_t)((uint64_t)min >> 8 * i);
        hi[i] = (uint8_t)((uint64_t)max >> 8 * i);
    }
    put_int(b, &last, 2, 6, at);
    put_field(b, &last, 3, 12);
    put_int(b, &inner, 1, 5, 2);
    put_field(b, &inner, 2, 9); /* encodings */
    buf_append_u8(b, 2 << 4 | 5);
    put_varint(b, 0);
    put_varint(b, 16);
    put_int(b, &inner, 7, 6, CHUNK);
    put_int(b, &inner, 9, 6, at + 50);
    put_int(b, &inner, 11, 6, at);
    put_field(b, &inner, 12, 12);
    put_int(b, &stats, 3, 6, 0);
    put_binary(b, &stats, 5, hi, 8);
    put_binary(b, &stats, 6, lo, 8);
    buf_append_u8(b, 0);
    if (bloom) {
        put_int(b, &inner, 14, 6, BLOOM_AT);
        put_int(b, &inner, 15, 5, BLOOM_LEN);
    }
    buf_append_u8(b, 0);
    buf_append_u8(b, 0);
}

/* Group i has offsets i * 100 to i * 100 + 99 and a second for each. */
static void footer_make(struct buf *b, bool micros)
{
    int last = 0, root = 0, group, i;

    put_int(b, &last, 1, 5, 2);
    put_field(b, &last, 2, 9);
    buf_append_u8(b, 3 << 4 | 12);
    put_binary(b, &root, 4, "root", 4);
    put_int(b, &root, 5, 5, 2);
    buf_append_u8(b, 0);
    put_leaf(b, "offset", 2, false);
    put_leaf(b, "timestamp", 4, micros);
    put_int(b, &last, 3, 6, GROUPS * 100);
    put_field(b, &last, 4, 9);
    buf_append_u8(b, 0xf0 | 12);
    put_varint(b, GROUPS);
    for (i = 0; i < GROUPS; i++) {
        group = 0;
        put_field(b, &group, 1, 9);
        buf_append_u8(b, 2 << 4 | 12);
        put_chunk(b, 4 + i * GROUP_AT + 1000, i * 100, i * 100 + 99, i == 3);
        put_chunk(b, 4 + i * GROUP_AT + 1000 + CHUNK, i * 100000000LL, i * 100000000LL + 99000000,
                  false);
        put_int(b, &group, 2, 6, 1000);
        put_int(b, &group, 3, 6, 100);
        buf_append_u8(b, 0);
    }
    put_binary(b, &last, 6, "a writer", 8);
    buf_append_u8(b, 0);
}

static const struct lake_wanted all = {-1,        INT64_MIN, INT64_MAX, INT64_MIN,
                                       INT64_MAX, INT64_MIN, INT64_MAX};

static void expect(struct slice footer, const struct lake_wanted *w, const char *groups,
                   struct parquet_part *p)
{
    assert_int_equal(parquet_part_make(p, footer, DATA_END, w), ERR_OK);
    buf_append_u8(&p->groups, 0);
    assert_string_equal((const char *)p->groups.ptr, groups);
}

static void test_groups(void **state)
{
    struct parquet_part *p = xcalloc(1, sizeof *p);
    struct lake_wanted w = all;
    struct buf b, plain;

    buf_init(&b, 1u << 20);
    buf_init(&plain, 1u << 20);
    footer_make(&b, true);
    footer_make(&plain, false);
    w.offset_min = 750;
    w.offset_max = 900;
    expect(buf_slice(&b), &w, "7,8,9", p);
    assert_int_equal(p->ranges_n, 3);
    assert_int_equal(p->range[0].from, 4 + 7 * GROUP_AT + 1000);
    assert_int_equal(p->range[0].to, 4 + 7 * GROUP_AT + 1000 + 2 * CHUNK);
    assert_int_equal(p->bytes, 3 * 2 * CHUNK);
    /* The new footer is one: with what is in it, nothing more is left out. */
    {
        struct parquet_part *q = xcalloc(1, sizeof *q);

        expect(buf_slice(&p->footer), &all, "0,1,2", q);
        assert_int_equal(q->range[2].from, p->range[2].from);
        assert_int_equal(q->footer.len, p->footer.len);
        assert_memory_equal(q->footer.ptr, p->footer.ptr, p->footer.len);
        parquet_part_fini(q);
        free(q);
    }
    parquet_part_fini(p);
    w.time_min_us = 800000000;
    w.time_max_us = 899000000;
    expect(buf_slice(&b), &w, "8", p);
    parquet_part_fini(p);
    expect(buf_slice(&plain), &w, "7,8,9", p); /* times of another unit are not understood */
    parquet_part_fini(p);
    w = all;
    w.offset_max = 399;
    w.offset_min = 300;
    expect(buf_slice(&b), &w, "3", p);
    assert_int_equal(p->ranges_n, 2); /* and its filter */
    assert_int_equal(p->range[0].from, BLOOM_AT);
    assert_int_equal(p->range[0].to, BLOOM_AT + BLOOM_LEN);
    parquet_part_fini(p);
    w.offset_min = w.offset_max = 5000;
    expect(buf_slice(&b), &w, "", p);
    assert_int_equal(p->bytes, 0);
    parquet_part_fini(p);
    expect(buf_slice(&b), &all, "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19", p);
    assert_memory_equal(p->footer.ptr, b.ptr, b.len);
    parquet_part_fini(p);
    assert_int_equal(parquet_part_make(p, buf_slice(&b), 4 + 5 * GROUP_AT, &all), ERR_UNSUPPORTED);
    parquet_part_fini(p);
    buf_fini(&b);
    buf_fini(&plain);
    free(p);
}

/* Cut off anywhere, or with any byte changed, it is refused or a part of the file. */
static void test_hostile(void **state)
{
    struct parquet_part *p = xcalloc(1, sizeof *p);
    struct lake_wanted w = all;
    struct buf b;
    uint8_t *copy;
    uint32_t k;
    size_t i;
    int bit;

    buf_init(&b, 1u << 20);
    footer_make(&b, true);
    w.offset_max = 250;
    for (i = 0; i < b.len; i++) {
        copy = xmemdup(b.ptr, i ? i : 1); /* of its own, so that reading on is seen */
        if (i)
            assert_int_equal(parquet_part_make(p, slice_of(copy, i), DATA_END, &w),
                             ERR_UNSUPPORTED);
        else
            parquet_part_make(p, SLICE_NULL, DATA_END, &w);
        parquet_part_fini(p);
        free(copy);
    }
    copy = xmemdup(b.ptr, b.len);
    for (i = 0; i < b.len; i++)
        for (bit = 0; bit < 8; bit++) {
            copy[i] = (uint8_t)(b.ptr[i] ^ 1 << bit);
            if (parquet_part_make(p, slice_of(copy, b.len), DATA_END, &w) == ERR_OK)
                for (k = 0; k < p->ranges_n; k++)
                    assert_true(p->range[k].from <= p->range[k].to && p->range[k].to <= DATA_END);
            parquet_part_fini(p);
            copy[i] = b.ptr[i];
        }
    free(copy);
    buf_fini(&b);
    free(p);
}

/* A footer with one column and one group, of this size at this place. */
static void put_group(struct buf *b, int64_t at, int64_t bytes, int64_t rows)
{
    int last = 0, chunk = 0, inner = 0;

    put_field(b, &last, 1, 9);
    buf_append_u8(b, 1 << 4 | 12);
    put_field(b, &chunk, 3, 12);
    put_int(b, &inner, 7, 6, bytes);
    put_int(b, &inner, 9, 6, at);
    buf_append_u8(b, 0);
    buf_append_u8(b, 0);
    put_int(b, &last, 3, 6, rows);
    buf_append_u8(b, 0);
}

static void footer_begin(struct buf *b, int *last)
{
    put_field(b, last, 2, 9);
    buf_append_u8(b, 1 << 4 | 12);
    put_leaf(b, "offset", 2, false);
    put_int(b, last, 3, 6, 1);
}

static void expect_refused(struct buf *b)
{
    struct parquet_part *p = xcalloc(1, sizeof *p);

    assert_int_equal(parquet_part_make(p, buf_slice(b), DATA_END, &all), ERR_UNSUPPORTED);
    parquet_part_fini(p);
    free(p);
    buf_clear(b);
}

/* Numbers near the end of what their types hold: sums of them are not computed. */
static void test_sums(void **state)
{
    static const int64_t at[] = {100, INT64_MIN, INT64_MAX}, bytes[] = {INT64_MAX, -1, 10};
    struct buf b;
    size_t i;
    int last;

    buf_init(&b, 1u << 20);
    for (i = 0; i < sizeof at / sizeof *at; i++) {
        last = 0;
        footer_begin(&b, &last);
        put_field(&b, &last, 4, 9);
        buf_append_u8(&b, 1 << 4 | 12);
        put_group(&b, at[i], bytes[i], 1);
        buf_append_u8(&b, 0);
        expect_refused(&b);
    }
    last = 0; /* more rows than can be */
    footer_begin(&b, &last);
    put_field(&b, &last, 4, 9);
    buf_append_u8(&b, 2 << 4 | 12);
    put_group(&b, 100, 10, INT64_MAX);
    put_group(&b, 200, 10, INT64_MAX);
    buf_append_u8(&b, 0);
    expect_refused(&b);
    last = 0; /* a field behind the last that there can be */
    footer_begin(&b, &last);
    buf_append_u8(&b, 3);
    put_varint(&b, 2ull * INT32_MAX);
    buf_append_u8(&b, 1);
    buf_append_u8(&b, 5 << 4 | 3);
    buf_append_u8(&b, 1);
    buf_append_u8(&b, 0);
    expect_refused(&b);
    buf_fini(&b);
}

/* A second count of rows, behind the groups: which one counts is nobody's to guess. */
static void test_rows_twice(void **state)
{
    struct buf b;
    int last = 0;

    buf_init(&b, 1u << 20);
    footer_begin(&b, &last);
    put_field(&b, &last, 4, 9);
    buf_append_u8(&b, 1 << 4 | 12);
    put_group(&b, 100, 10, 1);
    buf_append_u8(&b, 6); /* the id in full, as it is less than the last */
    put_varint(&b, 2 * 3);
    put_varint(&b, 2);
    buf_append_u8(&b, 0);
    expect_refused(&b);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_rows_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
