/* Messages of PostgreSQL's protocol: every cut of a good one is refused, lengths are not believed; values in
 * their binary forms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "proto/pgwire/msg.h"
#include "proto/pgwire/types.h"

static void frames(void **state)
{
    static const uint8_t in[] = "Q\0\0\0\x0dSELECT 1", big[] = {'Q', 0x7f, 0, 0, 0},
                         small[] = {'Q', 0, 0, 0, 3};
    struct slice body = SLICE_NULL;
    size_t used = 0, need = 0, i;
    uint8_t type = 0;

    for (i = 0; i < sizeof in; i++)
        assert_int_equal(pg_frame(slice_of(in, i), false, 1000, &type, &body, &used, &need),
                         ERR_AGAIN);
    assert_int_equal(pg_frame(slice_of(in, sizeof in), false, 1000, &type, &body, &used, &need),
                     ERR_OK);
    assert_int_equal(type, 'Q');
    assert_int_equal(used, sizeof in);
    assert_string_equal((const char *)body.ptr, "SELECT 1");
    assert_int_equal(pg_frame(slice_of(big, 5), false, 1000, &type, &body, &used, &need),
                     ERR_TOO_LARGE);
    assert_int_equal(pg_frame(slice_of(small, 5), false, 1000, &type, &body, &used, &need),
                     ERR_CORRUPT_INPUT);
}

static void startup(void **state)
{
    static const uint8_t in[] = "\0\3\0\0user\0ann\0database\0shop\0";
    struct pg_startup m;
    size_t i;

    assert_int_equal(pg_startup_decode(slice_of(in, sizeof in), &m), ERR_OK);
    assert_true(slice_eq_str(m.user, "ann") && slice_eq_str(m.db, "shop"));
    for (i = 0; i < sizeof in; i++)
        if (i != 5 && i != 14 && in[i - (i > 0)] != 0)
            assert_int_not_equal(pg_startup_decode(slice_of(in, i), &m), ERR_OK);
    assert_int_equal(pg_startup_decode(SLICE_LIT("\0\2\0\0\0"), &m), ERR_UNSUPPORTED);
}

static void bind(void **state)
{
    static const uint8_t in[] = "p\0s\0\0\1\0\1\0\2\0\0\0\4\0\0\0\x2a\xff\xff\xff\xff\0\1\0";
    struct slice rest, v;
    struct pg_bind m;
    size_t i, n = sizeof in; /* the literal's NUL is the last byte of the format */

    assert_int_equal(pg_bind_decode(slice_of(in, n), &m), ERR_OK);
    assert_true(m.params_n == 2 && m.results_n == 1 && pg_format(m.formats, m.formats_n, 1) == 1);
    rest = m.params;
    v = pg_bind_param(&rest);
    assert_true(v.len == 4 && be32_load(v.ptr) == 42);
    assert_true(slice_is_null(pg_bind_param(&rest)));
    for (i = 0; i < n; i++)
        assert_int_equal(pg_bind_decode(slice_of(in, i), &m), ERR_CORRUPT_INPUT);
}

static void numeric(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *text;
    } rows[] = {{"\0\0\0\0\0\0\0\0", 8, "0"},
                {"\0\2\0\0\0\0\0\2\0\x0c\x13\x88", 12, "12.50"},
                {"\0\1\xff\xff\x40\0\0\4\0\1", 10, "-0.0001"},
                {"\0\1\0\1\0\0\0\0\0\1", 10, "10000"}};
    struct errinfo info = {0};
    struct sql_param p;
    struct arena a;
    unsigned i;

    arena_init(&a, 1024, 65536);
    for (i = 0; i < 4; i++) {
        assert_int_equal(
            pg_param_read(PG_NUMERIC, 1, slice_of(rows[i].bytes, rows[i].n), &a, &p, &info),
            ERR_OK);
        assert_true(p.type == SQL_VARCHAR && slice_eq_str(p.bytes, rows[i].text));
    }
    assert_int_equal(pg_param_read(PG_NUMERIC, 1, slice_of("\0\2\0\0\0\0\0\2\0", 9), &a, &p, &info),
                     ERR_CORRUPT_INPUT);
    assert_int_equal(pg_param_read(PG_INT8, 1, SLICE_LIT("1234"), &a, &p, &info),
                     ERR_CORRUPT_INPUT);
    assert_int_equal(pg_param_read(PG_INT8, 0, SLICE_LIT("-12"), &a, &p, &info), ERR_OK);
    assert_true(p.type == SQL_BIGINT && p.i64 == -12);
    assert_int_equal(pg_param_read(PG_BYTEA, 0, SLICE_LIT("\\x00fG"), &a, &p, &info),
                     ERR_CORRUPT_INPUT);
    assert_int_equal(pg_param_read(PG_BYTEA, 0, SLICE_LIT("\\x00fF"), &a, &p, &info), ERR_OK);
    assert_true(p.bytes.len == 2 && memcmp(p.bytes.ptr, "\0\xff", 2) == 0);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(frames), cmocka_unit_test(startup),
                                       cmocka_unit_test(bind), cmocka_unit_test(numeric)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
