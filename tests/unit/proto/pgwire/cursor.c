/* DECLARE, FETCH, MOVE taken apart: every way to write them, what cannot be done and what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/pgwire/cursor.h"

static void declares(void **state)
{
    static const struct {
        const char *sql, *name, *code;
        bool hold, binary;
    } cases[] = {
        {"DECLARE c CURSOR FOR SELECT 1", "c", NULL, false, false},
        {"declare _psql_cursor NO SCROLL CURSOR FOR\nSELECT 1", "_psql_cursor", NULL, false, false},
        {"DECLARE \"A \"\"b\" BINARY INSENSITIVE NO SCROLL CURSOR WITH HOLD FOR SELECT 1", "A \"b",
         NULL, true, true},
        {"DECLARE C ASENSITIVE CURSOR WITHOUT HOLD FOR SELECT 1", "c", NULL, false, false},
        {"DECLARE c SCROLL CURSOR FOR SELECT 1", "c", "0A000", false, false},
        {"DECLARE", "", "42601", false, false},
        {"DECLARE \"\" CURSOR FOR SELECT 1", "", "42601", false, false},
        {"DECLARE c", "c", "42601", false, false},
        {"DECLARE c CURSOR", "c", "42601", false, false},
        {"DECLARE c CURSOR FOR", "c", "42601", false, false},
        {"DECLARE c CURSOR WITH FOR SELECT 1", "c", "42601", false, false},
        {"DECLARE c CURSOR FOR COPY a TO STDOUT", "c", "42601", false, false},
    };
    struct cursor_stmt c;
    size_t i;

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        cursor_parse(slice_str(cases[i].sql), &c);
        assert_int_equal(c.what, CURSOR_DECLARE);
        assert_string_equal(c.name, cases[i].name);
        assert_string_equal(c.code ? c.code : "", cases[i].code ? cases[i].code : "");
        if (c.code)
            continue;
        assert_null(c.message);
        assert_true(c.hold == cases[i].hold && c.binary == cases[i].binary);
        assert_memory_equal(c.query.ptr + 1, "SELECT 1", 8);
        assert_int_equal(c.query.len, 9);
    }
}

static void fetches(void **state)
{
    static const struct {
        const char *sql;
        uint32_t rows;
        const char *code;
    } cases[] = {
        {"FETCH c", 1, NULL},
        {"fetch next from c", 1, NULL},
        {"FETCH 7 IN c", 7, NULL},
        {"MOVE FORWARD 100 FROM \"c\"", 100, NULL},
        {"FETCH FORWARD FROM c", 1, NULL},
        {"FETCH FORWARD ALL FROM c", 0, NULL},
        {"FETCH ALL c", 0, NULL},
        {"MOVE 99999999999999999999999 FROM c", UINT32_MAX - 1, NULL},
        {"FETCH 0 FROM c", 0, "55000"},
        {"FETCH -1 FROM c", 0, "55000"},
        {"FETCH FORWARD -1 FROM c", 0, "55000"},
        {"FETCH BACKWARD ALL FROM c", 0, "55000"},
        {"MOVE ABSOLUTE 3 FROM c", 0, "55000"},
        {"FETCH 1.5 FROM c", 0, "42601"},
        {"FETCH", 0, "42601"},
        {"FETCH 5 FROM", 0, "42601"},
        {"FETCH 5 FROM c c", 0, "42601"},
    };
    struct cursor_stmt c;
    size_t i;

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        cursor_parse(slice_str(cases[i].sql), &c);
        assert_int_equal(c.what, *cases[i].sql == 'M' ? CURSOR_MOVE : CURSOR_FETCH);
        assert_string_equal(c.code ? c.code : "", cases[i].code ? cases[i].code : "");
        if (c.code)
            continue;
        assert_string_equal(c.name, "c");
        assert_int_equal(c.rows, cases[i].rows);
    }
    cursor_parse(SLICE_LIT("SELECT fetch FROM move"), &c);
    assert_int_equal(c.what, CURSOR_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(declares), cmocka_unit_test(fetches)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
