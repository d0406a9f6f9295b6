/* Arrays as parameters: PostgreSQL's texts and binary forms as lists that SQL reads, and what is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "proto/pgwire/types.h"

static struct arena arena;

static enum err read(uint32_t oid, uint16_t format, struct slice v, char out[256])
{
    struct errinfo info = {0};
    struct sql_param p;
    enum err e = pg_param_read(oid, format, v, &arena, &p, &info);

    out[0] = 0;
    if (e)
        return e;
    assert_int_equal(p.type, SQL_VARCHAR);
    assert_true(p.bytes.len < 256);
    memcpy(out, p.bytes.ptr, p.bytes.len);
    out[p.bytes.len] = 0;
    return ERR_OK;
}

static void test_text(void **state)
{
    static const struct {
        uint32_t oid;
        const char *in, *want; /* NULL: refused */
    } rows[] = {{1016, "{1,NULL,-3}", "[1,NULL,-3]"},
                {1016, "{\"1\",2}", "[1,2]"},
                {1016, "{}", "[]"},
                {1016, "{{1,2},{3,4}}", "[[1,2],[3,4]]"},
                {1016, "{1,x}", NULL},
                {1016, "{1,", NULL},
                {1016, "{1}}", NULL},
                {1016, "{1},{2}", NULL},
                {1016, "1,2", NULL},
                {1009, "{a,\"b c\",null,\"NULL\",\"\",\"q\\\"\\\\\"}",
                 "[\"a\",\"b c\",NULL,\"NULL\",\"\",\"q\\\"\\\\\"]"},
                {1009, "{\"a}", NULL},
                {1009, "{\"a\\", NULL},
                {1000, "{t,f}", "[true,false]"},
                {1001, "{\"\\\\x00ff\"}", "[\"\\\\x00\\\\xFF\"]"},
                {1022, "{1.5,-0.25}", "[1.5,-0.25]"}};
    char out[256];
    size_t i;

    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum err e = read(rows[i].oid, 0, slice_str(rows[i].in), out);

        if (rows[i].want) {
            assert_int_equal(e, ERR_OK);
            assert_string_equal(out, rows[i].want);
        } else {
            assert_int_equal(e, ERR_CORRUPT_INPUT);
        }
    }
}

/* dimensions, flags, element; sizes with 1 each; then what the test appends. */
static size_t head(uint8_t *b, uint32_t element, uint32_t dimensions, uint32_t one, uint32_t two)
{
    be32_store(b, dimensions);
    be32_store(b + 4, 0);
    be32_store(b + 8, element);
    be32_store(b + 12, one);
    be32_store(b + 16, 1);
    be32_store(b + 20, two);
    be32_store(b + 24, 1);
    return 12 + 8 * dimensions;
}

static void test_binary(void **state)
{
    uint8_t b[128];
    char out[256];
    size_t n = head(b, PG_INT4, 1, 3, 0), k;

    for (k = 0; k < 2; k++, n += 8) {
        be32_store(b + n, 4);
        be32_store(b + n + 4, (uint32_t)(k ? -7 : 7));
    }
    be32_store(b + n, UINT32_MAX);
    n += 4;
    assert_int_equal(read(1007, 1, slice_of(b, n), out), ERR_OK);
    assert_string_equal(out, "[7,-7,NULL]");
    for (k = 0; k < n; k++) /* cut anywhere */
        assert_int_equal(read(1007, 1, slice_of(b, k), out), ERR_CORRUPT_INPUT);
    be32_store(b + 12, UINT32_MAX); /* more elements than bytes */
    assert_int_equal(read(1007, 1, slice_of(b, n), out), ERR_CORRUPT_INPUT);

    n = head(b, PG_TEXT, 2, 2, 1);
    for (k = 0; k < 2; k++, n += 6) {
        be32_store(b + n, 2);
        memcpy(b + n + 4, k ? "\"x" : "ab", 2);
    }
    assert_int_equal(read(1009, 1, slice_of(b, n), out), ERR_OK);
    assert_string_equal(out, "[[\"ab\"],[\"\\\"x\"]]");
    be32_store(b, 7); /* dimensions */
    assert_int_equal(read(1009, 1, slice_of(b, n), out), ERR_CORRUPT_INPUT);
    n = head(b, PG_INT8, 0, 0, 0);
    assert_int_equal(read(1016, 1, slice_of(b, n), out), ERR_OK);
    assert_string_equal(out, "[]");
    head(b, 1016, 1, 1, 0); /* arrays in arrays are dimensions */
    be32_store(b + 20, 4);
    assert_int_equal(read(1016, 1, slice_of(b, 28), out), ERR_CORRUPT_INPUT);
}

/* What it takes grows with the list, not with its square. */
static void test_long(void **state)
{
    enum { N = 50000 };
    static char text[8 * N + 2];
    struct arena a;
    struct errinfo info;
    struct sql_param p;
    size_t n = 0;
    int i;

    for (i = 0; i < N; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%c%d", i ? ',' : '{', i);
    text[n++] = '}';
    arena_init(&a, 4096, 4 * sizeof text);
    assert_int_equal(pg_param_read(1016, 0, slice_of(text, n), &a, &p, &info), ERR_OK);
    assert_int_equal(p.bytes.len, n);
    arena_fini(&a);
}

static void test_types(void **state)
{
    assert_string_equal(pg_list_type(1016), "BIGINT[]");
    assert_null(pg_list_type(PG_INT8));
    assert_null(pg_list_type(0));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text), cmocka_unit_test(test_binary), cmocka_unit_test(test_long),
        cmocka_unit_test(test_types)};
    int failed;

    arena_init(&arena, 4096, 1u << 20);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_fini(&arena);
    return failed;
}
