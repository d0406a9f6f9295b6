/* Record batches: bytes that other clients made, there and back from seeds, every cut and flip. */
#include "journal/batch.h"

#include <stdio.h>
#include <stdlib.h>

#include "../vectors.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/tbl/limits.h"
#include "base/varint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct buf scratch;

static int setup(void **state)
{
    buf_init(&scratch, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    buf_fini(&scratch);
    return 0;
}

/* ---- what others wrote ---- */

/* As kafkajs 2.2.4 and librdkafka 2.0.2 encode them. */
static const char repeated_header[] =
    "000000000000000000000048000000000202bacbb90000000000000000018bcfe568000000018bcfe56800ffffffff"
    "ff"
    "ffffffffffffffffff000000012c000000026b0276060468310278046831027904683200";
static const char null_both[] = "0000000000000000000000380000000002c428857f0000000000000000018bcfe5"
                                "68000000018bcfe56800ffffffffff"
                                "ffffffffffffffffff000000010c000000010100";
static const char earlier_second[] =
    "0000000000000000000000430000000002f74ec2640000000000010000018bcfe568000000018bcfe56800ffffffff"
    "ff"
    "ffffffffffffffffff00000002100000000261023100100009020262023200";
static const char offset_1000_gzip[] = "00000000000003e800000057000000000224b57ab800010000000100000"
                                       "18bcfe568000000018bcfe56800ffffffffff"
                                       "ffffffffffffffffff000000021f8b080000000000000313606060604a6"
                                       "4326410606060624a6232620000ed517f9a12"
                                       "000000";
static const char idempotent[] = "000000000000000000000043000000000225465b7b0000000000010000018bcfe"
                                 "568000000018bcfe568000000000000"
                                 "000fa000030000001100000002100000000261023100100000020262023200";
static const char transactional[] =
    "0000000000000000000000430000000002f9bc0f810010000000010000018bcfe568000000018bcfe5680000200000"
    "00"
    "00000100010000000000000002100000000261023100100000020262023200";
static const char empty_batch[] = "0000000000000000000000310000000002739c1b940000000000000000018bcf"
                                  "e568000000018bcfe56800ffffffffff"
                                  "ffffffffffffffffff00000000";
static const char idempotent_snappy[] = "00000000000000000000006f0000000002db8da3ff0002000000040000"
                                        "01a1fc33c32b000001a1fc33c32b0000000000"
                                        "000fa000030000000000000005f2023c90010000000182016964656d2d"
                                        "312d61e201000000014a0002114a0032fe4a00"
                                        "0004114a0033fe4a000006114a0034fe4a000008114a0035ee4a00";
static const char big_lz4[] =
    "0000000000000000000000660000000002808f646b000300000000000001a1fc33c5b8000001a1fc33c5b8ffff"
    "ffffffffffffffffffffffff0000000104224d18604082260000009f9e4e00000001904e710100ffffffffffff"
    "ffffffffffffffffffffffffff8350717171710000000000";
static const char big_zstd[] =
    "00000000000000000000004b0000000002cd6bcda2000400000000000001a1fc33c854000001a1fc33c854ffff"
    "ffffffffffffffffffffffff0000000128b52ffd00588d0000509e4e00000001904e7100010084d38323";

static struct slice bytes_of(const char *hex)
{
    size_t n;
    uint8_t *p = vectors_hex(hex, &n);

    return slice_of(p, n);
}

static void done_with(struct slice s)
{
    free((void *)(uintptr_t)s.ptr);
}

static void header_fields(void **state)
{
    struct slice b = bytes_of(idempotent), t = bytes_of(transactional);
    struct batch_info i;

    assert_int_equal(batch_parse(b, &i), ERR_OK);
    assert_int_equal(i.base_offset, 0);
    assert_int_equal(i.length, b.len);
    assert_int_equal(i.leader_epoch, 0);
    assert_int_equal(i.crc, 0x25465b7b);
    assert_int_equal(i.attributes, 0);
    assert_int_equal(i.last_offset_delta, 1);
    assert_true(i.base_ts == 1700000000000);
    assert_true(i.max_ts == 1700000000000);
    assert_int_equal(i.producer_id, 4000);
    assert_int_equal(i.producer_epoch, 3);
    assert_int_equal(i.base_sequence, 17);
    assert_int_equal(i.count, 2);
    assert_true(batch_crc_ok(b));
    assert_int_equal(batch_parse(t, &i), ERR_OK);
    assert_int_equal(i.attributes, BATCH_TRANSACTIONAL);
    assert_true(i.producer_id == 9007199254740993);
    done_with(b);
    done_with(t);
}

static void records_of_others(void **state)
{
    struct slice b = bytes_of(repeated_header);
    struct record_header h[3];
    struct batch_iter it;
    struct record r;
    uint32_t n;

    assert_int_equal(batch_validate(b, &scratch), ERR_OK);
    assert_int_equal(batch_iter_init(&it, b, &scratch), ERR_OK);
    assert_int_equal(batch_iter_next(&it, &r), ERR_OK);
    assert_true(slice_eq_str(r.key, "k") && slice_eq_str(r.value, "v"));
    assert_int_equal(r.headers_n, 3);
    assert_int_equal(record_headers(&r, h, 3, &n), ERR_OK);
    assert_int_equal(n, 3);
    assert_true(slice_eq_str(h[1].key, "h1") && slice_eq_str(h[1].value, "y"));
    assert_true(slice_eq_str(h[2].key, "h2") && !slice_is_null(h[2].value) && !h[2].value.len);
    assert_int_equal(record_headers(&r, h, 2, &n), ERR_OK);
    assert_int_equal(n, 2);
    assert_int_equal(batch_iter_next(&it, &r), ERR_EOF);
    done_with(b);

    b = bytes_of(null_both);
    assert_int_equal(batch_iter_init(&it, b, &scratch), ERR_OK);
    assert_int_equal(batch_iter_next(&it, &r), ERR_OK);
    assert_true(slice_is_null(r.key) && slice_is_null(r.value));
    done_with(b);

    b = bytes_of(earlier_second);
    assert_int_equal(batch_iter_init(&it, b, &scratch), ERR_OK);
    assert_int_equal(batch_iter_next(&it, &r), ERR_OK);
    assert_int_equal(batch_iter_next(&it, &r), ERR_OK);
    assert_true(r.timestamp_ms == 1699999999995);
    assert_int_equal(r.offset, 1);
    done_with(b);
}

static void compressed_by_others(void **state)
{
    static const char *const rows[] = {offset_1000_gzip, idempotent_snappy, big_lz4, big_zstd};
    static const int64_t first[] = {1000, 0, 0, 0};
    static const size_t value[] = {1, 65, 5000, 5000}, count[] = {2, 5, 1, 1};
    size_t i, k;

    for (i = 0; i < 4; i++) {
        struct slice b = bytes_of(rows[i]);
        struct batch_iter it;
        struct record r;

        assert_int_equal(batch_validate(b, &scratch), ERR_OK);
        assert_int_equal(batch_iter_init(&it, b, &scratch), ERR_OK);
        assert_int_equal(it.info.attributes & BATCH_CODEC_MASK, i + 1);
        for (k = 0; batch_iter_next(&it, &r) == ERR_OK; k++) {
            assert_int_equal(r.offset, first[i] + (int64_t)k);
            assert_int_equal(r.value.len, value[i]);
        }
        assert_int_equal(k, count[i]);
        done_with(b);
    }
}

/* A batch without records can be walked (compaction leaves such), but is not valid as sent. */
static void empty(void **state)
{
    struct slice b = bytes_of(empty_batch);
    struct batch_iter it;
    struct record r;

    assert_true(batch_crc_ok(b));
    assert_int_equal(batch_iter_init(&it, b, &scratch), ERR_OK);
    assert_int_equal(batch_iter_next(&it, &r), ERR_EOF);
    assert_int_equal(batch_validate(b, &scratch), ERR_CORRUPT_INPUT);
    done_with(b);
}

static void builder_writes_the_same(void **state)
{
    struct batch_builder bb;
    struct record_header h[3] = {{SLICE_LIT("h1"), SLICE_LIT("x")},
                                 {SLICE_LIT("h1"), SLICE_LIT("y")},
                                 {SLICE_LIT("h2"), SLICE_LIT("")}};
    struct slice want = bytes_of(repeated_header), out;
    uint8_t copy[128];

    batch_builder_init(&bb, CODEC_GZIP, 1000); /* too small to shrink: stays uncompressed */
    assert_int_equal(
        batch_builder_add(&bb, 1700000000000, SLICE_LIT("k"), SLICE_LIT("v"), h, 3, NULL), ERR_OK);
    assert_int_equal(batch_builder_finish(&bb, 0, -1, -1, -1, &out), ERR_OK);
    assert_int_equal(out.len, want.len);
    memcpy(copy, out.ptr, out.len);
    assert_int_equal(be32_load(copy + 12), UINT32_MAX);
    batch_set_leader_epoch(copy, 0);
    assert_memory_equal(copy, want.ptr, want.len);
    done_with(want);

    want = bytes_of(idempotent);
    batch_builder_reset(&bb);
    batch_builder_add(&bb, 1700000000000, SLICE_LIT("a"), SLICE_LIT("1"), NULL, 0, NULL);
    batch_builder_add(&bb, 1700000000000, SLICE_LIT("b"), SLICE_LIT("2"), NULL, 0, NULL);
    assert_int_equal(batch_builder_finish(&bb, 0, 4000, 3, 17, &out), ERR_OK);
    assert_int_equal(out.len, want.len);
    memcpy(copy, out.ptr, out.len);
    batch_set_leader_epoch(copy, 0);
    assert_memory_equal(copy, want.ptr, want.len);
    done_with(want);
    batch_builder_fini(&bb);
}

/* ---- from seeds ---- */

struct model {
    int64_t ts;
    struct slice key, value;
    struct record_header h[4];
    uint32_t h_n;
};

static uint8_t pool[20000];

static struct slice some(uint64_t *seed, size_t max, bool nullable)
{
    size_t n = test_below(seed, 4) ? test_below(seed, 40) : test_below(seed, max);

    if (nullable && test_below(seed, 8) == 0)
        return SLICE_NULL;
    return slice_of(pool + test_below(seed, sizeof pool - max), n);
}

static void model_make(uint64_t *seed, struct model *m)
{
    static const int64_t steps[] = {0, 1, -1, 1000, 1ll << 40, -(1ll << 40)};
    uint32_t i;

    m->ts = 1700000000000 + steps[test_below(seed, 6)] * (int64_t)test_below(seed, 3);
    m->key = some(seed, 300, true);
    m->value = some(seed, 10000, true);
    m->h_n = (uint32_t)test_below(seed, 5);
    for (i = 0; i < m->h_n; i++) {
        m->h[i].key = some(seed, 200, false);
        m->h[i].value = some(seed, 200, true);
    }
}

static void same(struct slice a, struct slice b)
{
    assert_int_equal(slice_is_null(a), slice_is_null(b));
    assert_true(slice_eq(a, b));
}

static void model_check(const struct model *m, unsigned n, struct slice batch, int64_t base)
{
    struct record_header h[4];
    struct batch_iter it;
    struct record r;
    int64_t max = INT64_MIN;
    uint32_t i, k, got;

    assert_int_equal(batch_validate(batch, &scratch), ERR_OK);
    assert_int_equal(batch_iter_init(&it, batch, &scratch), ERR_OK);
    for (i = 0; i < n; i++) {
        assert_int_equal(batch_iter_next(&it, &r), ERR_OK);
        assert_true(r.offset == base + i);
        assert_true(r.timestamp_ms == m[i].ts);
        same(r.key, m[i].key);
        same(r.value, m[i].value);
        assert_int_equal(record_headers(&r, h, 4, &got), ERR_OK);
        assert_int_equal(got, m[i].h_n);
        for (k = 0; k < got; k++) {
            same(h[k].key, m[i].h[k].key);
            same(h[k].value, m[i].h[k].value);
        }
        max = m[i].ts > max ? m[i].ts : max;
    }
    assert_int_equal(batch_iter_next(&it, &r), ERR_EOF);
    assert_true(it.info.max_ts == max && it.info.base_ts == m[0].ts);
}

static void there_and_back(void **state)
{
    static struct model m[60];
    struct batch_builder bb[CODEC_N];
    uint64_t seed = test_seed();
    unsigned round, i, n;
    struct slice out;
    int32_t index;
    int c;

    for (i = 0; i < sizeof pool; i++)
        pool[i] = (uint8_t)(i % 997 < 500 ? 'a' + i % 13 : test_random(&seed));
    for (c = 0; c < CODEC_N; c++)
        batch_builder_init(&bb[c], (enum codec)c, 1 << 20);
    for (round = 0; round < 300; round++) {
        n = 1 + (unsigned)test_below(&seed, 60);
        for (i = 0; i < n; i++)
            model_make(&seed, &m[i]);
        for (c = 0; c < CODEC_N; c++) {
            uint8_t *copy;

            batch_builder_reset(&bb[c]);
            for (i = 0; i < n; i++) {
                size_t before = batch_builder_bytes(&bb[c]);

                assert_int_equal(batch_builder_add(&bb[c], m[i].ts, m[i].key, m[i].value, m[i].h,
                                                   m[i].h_n, &index),
                                 ERR_OK);
                assert_int_equal(index, i);
                assert_true(batch_builder_bytes(&bb[c]) - before <=
                            (i ? 0 : BATCH_HEADER) +
                                record_size_max(m[i].key, m[i].value, m[i].h, m[i].h_n));
            }
            assert_int_equal(batch_builder_finish(&bb[c], 0, -1, -1, -1, &out), ERR_OK);
            assert_true(out.len <= batch_builder_bytes(&bb[c]));
            model_check(m, n, out, 0);
            copy = malloc(out.len);
            memcpy(copy, out.ptr, out.len);
            batch_set_base_offset(copy, 1ll << 40);
            batch_set_leader_epoch(copy, 9);
            model_check(m, n, slice_of(copy, out.len), 1ll << 40);
            free(copy);
        }
    }
    for (c = 0; c < CODEC_N; c++)
        batch_builder_fini(&bb[c]);
}

static void make_sample(struct batch_builder *bb, enum codec c, struct slice *out)
{
    struct record_header h = {SLICE_LIT("ce_type"), SLICE_LIT("order.created")};
    int i;

    batch_builder_init(bb, c, 10000);
    for (i = 0; i < 8; i++)
        assert_int_equal(batch_builder_add(bb, 1700000000000 + i, SLICE_LIT("key"),
                                           SLICE_LIT("value value value value"), &h, 1, NULL),
                         ERR_OK);
    assert_int_equal(batch_builder_finish(bb, 0, 1, 2, 3, out), ERR_OK);
}

/* Any flipped bit is found: by the CRC, or, in front of it, by the header's checks, or it shows in
 * fields that a broker sets (base offset, leader epoch). */
static void every_flip_is_found(void **state)
{
    struct batch_builder bb;
    struct slice out;
    size_t bit;
    int c;

    for (c = 0; c < CODEC_N; c++) {
        uint8_t *b;

        make_sample(&bb, (enum codec)c, &out);
        b = malloc(out.len);
        memcpy(b, out.ptr, out.len);
        assert_int_equal(batch_validate(slice_of(b, out.len), &scratch), ERR_OK);
        for (bit = 0; bit < out.len * 8; bit++) {
            size_t byte = bit / 8;

            b[byte] ^= (uint8_t)(1 << bit % 8);
            if (byte < 8 || (byte >= 12 && byte < 16))
                batch_validate(slice_of(b, out.len), &scratch);
            else if (batch_validate(slice_of(b, out.len), &scratch) == ERR_OK)
                fail_msg("bit %zu of codec %d", bit, c);
            b[byte] ^= (uint8_t)(1 << bit % 8);
        }
        free(b);
        batch_builder_fini(&bb);
    }
}

/* As above with the CRC made right again: decoders are on their own. Nothing is asked but to stay
 * in bounds and to end. */
static void flips_behind_the_crc(void **state)
{
    struct batch_builder bb;
    struct slice out;
    size_t bit;
    int c;

    for (c = 0; c < CODEC_N; c++) {
        uint8_t *b;

        make_sample(&bb, (enum codec)c, &out);
        b = malloc(out.len);
        memcpy(b, out.ptr, out.len);
        for (bit = 21 * 8; bit < out.len * 8; bit++) {
            b[bit / 8] ^= (uint8_t)(1 << bit % 8);
            be32_store(b + 17, crc32c(0, b + 21, out.len - 21));
            batch_validate(slice_of(b, out.len), &scratch);
            b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        free(b);
        batch_builder_fini(&bb);
    }
}

static void every_cut_is_found(void **state)
{
    struct batch_builder bb;
    struct batch_info info;
    struct slice out;
    size_t n;
    uint8_t *b;
    int c;

    for (c = 0; c < CODEC_N; c++) {
        make_sample(&bb, (enum codec)c, &out);
        for (n = 0; n < out.len; n++) {
            b = malloc(n + 1); /* its own, so that sanitizers see a read behind the end */
            memcpy(b, out.ptr, n);
            assert_int_equal(batch_parse(slice_of(b, n), &info), ERR_EOF);
            assert_int_equal(batch_validate(slice_of(b, n), &scratch), ERR_EOF);
            if (n >= BATCH_HEADER) { /* a length that fits the cut, and a right CRC */
                be32_store(b + 8, (uint32_t)n - 12);
                be32_store(b + 17, crc32c(0, b + 21, n - 21));
                assert_int_not_equal(batch_validate(slice_of(b, n), &scratch), ERR_OK);
            }
            free(b);
        }
        batch_builder_fini(&bb);
    }
}

/* ---- lies ---- */

static enum err parse_with(size_t at, int width, uint64_t v)
{
    struct slice b = bytes_of(idempotent);
    struct batch_info info;
    uint8_t *p = (uint8_t *)(uintptr_t)b.ptr;
    enum err e;

    if (width == 1)
        p[at] = (uint8_t)v;
    else if (width == 2)
        be16_store(p + at, (uint16_t)v);
    else if (width == 4)
        be32_store(p + at, (uint32_t)v);
    else
        be64_store(p + at, v);
    e = batch_parse(b, &info);
    done_with(b);
    return e;
}

static void header_lies(void **state)
{
    assert_int_equal(parse_with(8, 4, 48), ERR_CORRUPT_INPUT);
    assert_int_equal(parse_with(8, 4, (uint64_t)-1), ERR_CORRUPT_INPUT);
    assert_int_equal(parse_with(8, 4, LIMIT_BATCH_BYTES), ERR_CORRUPT_INPUT);
    assert_int_equal(parse_with(8, 4, 1000), ERR_EOF);
    assert_int_equal(parse_with(16, 1, 1), ERR_CORRUPT_INPUT);
    assert_int_equal(parse_with(16, 1, 3), ERR_CORRUPT_INPUT);
    assert_int_equal(parse_with(21, 2, 5), ERR_CORRUPT_INPUT);
    assert_int_equal(parse_with(0, 8, (uint64_t)-1), ERR_CORRUPT_INPUT);
    assert_int_equal(parse_with(0, 8, INT64_MAX), ERR_CORRUPT_INPUT);
    assert_int_equal(parse_with(23, 4, (uint64_t)-1), ERR_CORRUPT_INPUT);
    assert_int_equal(parse_with(23, 4, INT32_MAX), ERR_CORRUPT_INPUT);
    assert_int_equal(parse_with(23, 4, 0), ERR_CORRUPT_INPUT); /* two records, one offset */
    assert_int_equal(parse_with(57, 4, (uint64_t)-1), ERR_CORRUPT_INPUT);
    assert_int_equal(parse_with(57, 4, 3), ERR_CORRUPT_INPUT);
    assert_int_equal(parse_with(57, 4, 1), ERR_OK); /* compacted */
}

/* One record of the given body; the answer of batch_validate. */
static enum err body_with(const uint8_t *body, size_t n, int32_t count)
{
    uint8_t b[BATCH_HEADER + 64] = {0};
    size_t len = BATCH_HEADER + n;
    uint8_t *copy = malloc(len);
    enum err e;

    be32_store(b + 8, (uint32_t)len - 12);
    b[16] = 2;
    be32_store(b + 23, (uint32_t)count - 1);
    be32_store(b + 57, (uint32_t)count);
    memcpy(b + BATCH_HEADER, body, n);
    be32_store(b + 17, crc32c(0, b + 21, len - 21));
    memcpy(copy, b, len);
    e = batch_validate(slice_of(copy, len), &scratch);
    free(copy);
    return e;
}

#define BODY(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})
static void record_lies(void **state)
{
    assert_int_equal(body_with(BODY(12, 0, 0, 0, 0, 0, 0), 1), ERR_OK);
    assert_int_equal(body_with(BODY(12, 0, 0, 0, 1, 1, 0), 1), ERR_OK);
    assert_int_equal(body_with(BODY(12, 0, 0, 2, 0, 0, 0), 1), ERR_CORRUPT_INPUT);  /* offset 1 */
    assert_int_equal(body_with(BODY(12, 0, 0, 1, 0, 0, 0), 1), ERR_CORRUPT_INPUT);  /* offset -1 */
    assert_int_equal(body_with(BODY(12, 0, 0, 0, 3, 0, 0), 1), ERR_CORRUPT_INPUT);  /* key -2 */
    assert_int_equal(body_with(BODY(12, 0, 0, 0, 40, 0, 0), 1), ERR_CORRUPT_INPUT); /* long key */
    assert_int_equal(body_with(BODY(12, 0, 0, 0, 0, 40, 0), 1), ERR_CORRUPT_INPUT);
    assert_int_equal(body_with(BODY(12, 0, 0, 0, 0, 0, 2), 1), ERR_CORRUPT_INPUT); /* a header */
    assert_int_equal(body_with(BODY(12, 0, 0, 0, 0, 0, 1), 1), ERR_CORRUPT_INPUT); /* -1 headers */
    assert_int_equal(body_with(BODY(14, 0, 0, 0, 0, 0, 0, 0), 1), ERR_CORRUPT_INPUT); /* longer */
    assert_int_equal(body_with(BODY(10, 0, 0, 0, 0, 0, 0), 1), ERR_CORRUPT_INPUT);    /* shorter */
    assert_int_equal(body_with(BODY(12, 0, 0, 0, 0, 0, 0, 9), 1), ERR_CORRUPT_INPUT); /* behind */
    assert_int_equal(body_with(BODY(12, 0, 0, 0, 0, 0, 0), 2), ERR_CORRUPT_INPUT); /* one missing */
    assert_int_equal(body_with(BODY(1, 0), 1), ERR_CORRUPT_INPUT);                 /* length -1 */
    assert_int_equal(body_with(BODY(0), 1), ERR_CORRUPT_INPUT);
    assert_int_equal(body_with(BODY(16, 0, 0, 0, 0, 0, 2, 0, 0), 1), ERR_OK); /* h: "" -> "" */
    assert_int_equal(body_with(BODY(16, 0, 0, 0, 0, 0, 2, 1, 0), 1),
                     ERR_CORRUPT_INPUT);                                      /* name null */
    assert_int_equal(body_with(BODY(16, 0, 0, 0, 0, 0, 2, 0, 1), 1), ERR_OK); /* value null */
    assert_int_equal(body_with(BODY(12, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0), 2),
                     ERR_CORRUPT_INPUT); /* the same offset twice */
    assert_int_equal(body_with(BODY(12, 0, 0, 0, 0, 0, 0, 12, 0, 0, 2, 0, 0, 0), 2), ERR_OK);
}

/* More records than bytes could hold are seen before any work. */
static void inflated_is_bounded(void **state)
{
    static uint8_t zeros[100000];
    struct batch_builder bb;
    struct batch_iter it;
    struct buf small;
    struct slice out;

    batch_builder_init(&bb, CODEC_GZIP, 1 << 20);
    assert_int_equal(
        batch_builder_add(&bb, 1, SLICE_NULL, slice_of(zeros, sizeof zeros), NULL, 0, NULL),
        ERR_OK);
    batch_builder_finish(&bb, 0, -1, -1, -1, &out);
    assert_true(out.len < 1000);
    buf_init(&small, 50000);
    assert_int_equal(batch_iter_init(&it, out, &small), ERR_TOO_LARGE);
    assert_true(small.cap <= 50000);
    buf_fini(&small);
    batch_builder_fini(&bb);
}

static void builder_limits(void **state)
{
    static struct record_header h[LIMIT_RECORD_HEADERS + 1];
    struct batch_builder bb;
    struct slice out;
    uint8_t value[100] = {0};
    size_t len;
    int n = 0;

    batch_builder_init(&bb, CODEC_NONE, 1000);
    while (batch_builder_add(&bb, 5, SLICE_NULL, slice_of(value, 100), NULL, 0, NULL) == ERR_OK)
        n++;
    assert_int_equal(n, 8);
    len = batch_builder_bytes(&bb);
    assert_int_equal(batch_builder_add(&bb, 5, SLICE_NULL, slice_of(value, 100), NULL, 0, NULL),
                     ERR_TOO_LARGE);
    assert_int_equal(batch_builder_bytes(&bb), len);
    assert_int_equal(batch_builder_finish(&bb, BATCH_LOG_APPEND_TIME, -1, -1, -1, &out), ERR_OK);
    assert_true(out.len <= 1000);
    assert_int_equal(batch_validate(out, &scratch), ERR_OK);
    batch_builder_reset(&bb);
    assert_int_equal(batch_builder_add(&bb, 5, SLICE_NULL,
                                       slice_of(value, LIMIT_BATCH_BYTES + 1ull), NULL, 0, NULL),
                     ERR_TOO_LARGE);
    assert_int_equal(
        batch_builder_add(&bb, 5, SLICE_NULL, SLICE_NULL, h, LIMIT_RECORD_HEADERS + 1, NULL),
        ERR_TOO_LARGE);
    assert_int_equal(batch_builder_add(&bb, 5, SLICE_NULL, SLICE_NULL, NULL, 0, NULL), ERR_OK);
    batch_builder_fini(&bb);
}

/* With log append time, readers see the batch's time, whatever the records say. */
static void log_append_time(void **state)
{
    struct batch_builder bb;
    struct batch_iter it;
    struct record r;
    struct slice out;

    batch_builder_init(&bb, CODEC_NONE, 1000);
    batch_builder_add(&bb, 100, SLICE_NULL, SLICE_LIT("a"), NULL, 0, NULL);
    batch_builder_add(&bb, 300, SLICE_NULL, SLICE_LIT("b"), NULL, 0, NULL);
    batch_builder_add(&bb, 200, SLICE_NULL, SLICE_LIT("c"), NULL, 0, NULL);
    batch_builder_finish(&bb, BATCH_LOG_APPEND_TIME, -1, -1, -1, &out);
    batch_iter_init(&it, out, &scratch);
    while (batch_iter_next(&it, &r) == ERR_OK)
        assert_true(r.timestamp_ms == 300);
    batch_builder_fini(&bb);
}

/* ---- the shared vectors ---- */

static unsigned vectors_of(const char *file)
{
    FILE *f = vectors_open(file);
    char *line = NULL, *col[8];
    size_t cap = 0;
    unsigned rows = 0;

    if (!f)
        return 0;
    vectors_row(f, &line, &cap, col, 8);
    while (vectors_row(f, &line, &cap, col, 8) == 8) {
        struct slice b = bytes_of(col[7]);
        struct batch_iter it;
        struct record r;
        int64_t n = 0, records = strtoll(col[2], NULL, 10);

        assert_int_equal(batch_iter_init(&it, b, &scratch), ERR_OK);
        assert_int_equal(it.info.count, records);
        assert_int_equal(it.info.base_offset, strtoll(col[3], NULL, 10));
        assert_int_equal(it.info.attributes, strtol(col[4], NULL, 10));
        assert_int_equal(it.info.crc, strtoul(col[5], NULL, 16));
        assert_int_equal(it.info.length, strtoul(col[6], NULL, 10));
        assert_string_equal(codec_name(it.info.attributes & BATCH_CODEC_MASK), col[1]);
        while (batch_iter_next(&it, &r) == ERR_OK) {
            assert_int_equal(r.offset, it.info.base_offset + n);
            n++;
        }
        assert_int_equal(batch_iter_next(&it, &r), ERR_EOF);
        assert_int_equal(n, records);
        assert_int_equal(batch_validate(b, &scratch), records ? ERR_OK : ERR_CORRUPT_INPUT);
        done_with(b);
        rows++;
    }
    free(line);
    fclose(f);
    return rows;
}

static void shared_vectors(void **state)
{
    unsigned a = vectors_of("kafka/vectors/record-batches-kafkajs.csv");
    unsigned b = vectors_of("kafka/vectors/record-batches-librdkafka.csv");

    if (a + b == 0)
        skip();
    assert_int_equal(a, 42);
    assert_int_equal(b, 29);
}

/* A producer has an epoch, and a sequence unless it writes a marker. */
static void producers(void **state)
{
    static const struct {
        struct batch_info bi;
        bool ok;
    } rows[] = {
        {{.producer_id = -1, .producer_epoch = -1, .base_sequence = -1}, true},
        {{.producer_id = 7, .producer_epoch = 0, .base_sequence = 0}, true},
        {{.producer_id = 7, .producer_epoch = INT16_MAX, .base_sequence = INT32_MAX}, true},
        {{.producer_id = 7, .producer_epoch = -1, .base_sequence = 0}, false},
        {{.producer_id = 7, .producer_epoch = INT16_MIN, .base_sequence = 5}, false},
        {{.producer_id = 7, .producer_epoch = 0, .base_sequence = -1}, false},
        {{.producer_id = 7, .base_sequence = -1, .attributes = BATCH_CONTROL}, true},
        {{.producer_id = 7, .producer_epoch = -1, .attributes = BATCH_CONTROL}, false},
    };
    size_t i;

    for (i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(batch_producer_ok(&rows[i].bi), rows[i].ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_fields),
        cmocka_unit_test(records_of_others),
        cmocka_unit_test(compressed_by_others),
        cmocka_unit_test(empty),
        cmocka_unit_test(builder_writes_the_same),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(every_flip_is_found),
        cmocka_unit_test(flips_behind_the_crc),
        cmocka_unit_test(every_cut_is_found),
        cmocka_unit_test(header_lies),
        cmocka_unit_test(producers),
        cmocka_unit_test(record_lies),
        cmocka_unit_test(inflated_is_bounded),
        cmocka_unit_test(builder_limits),
        cmocka_unit_test(log_append_time),
        cmocka_unit_test(shared_vectors),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
