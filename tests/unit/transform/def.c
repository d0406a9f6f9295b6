/* Definitions of transforms: files and JSON, what is refused and in which words, the statements made of
 * them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/tbl/limits.h"
#include "transform/transform_def.h"

static void from_file(struct transform_def *d, const char *text)
{
    struct errinfo info;

    transform_def_init(d);
    if (transform_def_file(d, slice_str(text), &info))
        fail_msg("%s", info.text);
}

static void test_file(void **state)
{
    struct transform_def d;
    struct errinfo info;

    from_file(&d, "\xef\xbb\xbf-- Orders by minute: a comment.\r\n"
                  "\n"
                  "-- input: orders\r\n"
                  "--output:  by-minute \n"
                  "-- name: m\n"
                  "-- max_seconds: 0.25\n"
                  "-- window: 1 minute\n"
                  "-- lateness: 10 seconds\n"
                  "-- late: drop\n-- emit: update\n-- start: latest\n-- lake: true\n"
                  "-- columns: a DECIMAL(9,2), \"b c\" DATE\n"
                  "SELECT 1 -- input: not a header\nFROM __input__ ;\n ; \n");
    assert_int_equal(transform_def_check(&d, &info), ERR_OK);
    assert_string_equal(d.input, "orders");
    assert_string_equal(d.output, "by-minute");
    assert_string_equal(d.dead_letters, "m.dead-letters");
    assert_string_equal(d.sql, "SELECT 1 -- input: not a header\nFROM __input__");
    assert_string_equal(d.time, "timestamp");
    assert_int_equal(d.max_ms, 250);
    assert_true(d.late_drop && d.update && d.latest && d.lake && !d.paused);
    transform_def_fini(&d);
}

static void test_refused(void **state)
{
    static const struct {
        const char *text, *word;
    } bad[] = {
        {"-- colour: red\n", "colour"},
        {"-- input: no spaces\n", "input"},
        {"-- max_bytes: 12\n", "max_bytes"},
        {"-- max_bytes: 4096.5\n", "max_bytes"},
        {"-- max_seconds: soon\n", "max_seconds"},
        {"-- max_seconds: -1\n", "max_seconds"},
        {"-- emit: never\n", "emit"},
        {"-- lake: yes\n", "lake"},
        {"-- time:\n", "time"},
        {"-- input: a\n-- name: x\nSELECT 1 FROM __input__", "output"},
        {"-- input: a\n-- output: b\nSELECT 1 FROM __input__", "name"},
        {"-- name: x\n-- input: a\n-- output: b\n", "statement"},
        {"-- name: x\n-- input: a\n-- output: b\nSELECT 1 FROM a", "__input__"},
        {"-- name: x\n-- input: a\n-- output: a\nSELECT 1 FROM __input__", "different"},
        {"-- name: x\n-- input: a\n-- output: b\n-- dead_letters: a\nSELECT 1 FROM __input__",
         "different"},
        {"-- name: x\n-- input: a\n-- output: b\n-- lateness: 1 day\nSELECT 1 FROM __input__",
         "window"},
        {"-- name: x\n-- input: a\n-- output: b\n-- window: 1' day\nSELECT 1 FROM __input__",
         "INTERVAL"},
    };
    struct transform_def d;
    struct errinfo info;
    size_t i;

    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(&info, 0, sizeof info);
        transform_def_init(&d);
        if (!transform_def_file(&d, slice_str(bad[i].text), &info))
            assert_int_equal(transform_def_check(&d, &info), ERR_CONFIG);
        assert_int_equal(info.code, ERR_CONFIG);
        if (!strstr(info.text, bad[i].word))
            fail_msg("\"%s\" does not name %s", info.text, bad[i].word);
        transform_def_fini(&d);
    }
}

/* What is written is read back the same; of what is no definition nothing is made. */
static void test_json(void **state)
{
    static const char *const bad[] = {"",
                                      "[]",
                                      "{",
                                      "{\"input\":[]}",
                                      "{\"sql\":[]}",
                                      "{\"paused\":1}",
                                      "{\"input\":\"a\",\"input\":\"b\"}",
                                      "{\"max_bytes\":null}"};
    struct transform_def a, b;
    struct errinfo info;
    struct buf text;
    size_t i;

    from_file(&a, "-- name: x\n-- input: a\n-- output: b\n-- key: k\n-- window: 2 hours\n-- time: "
                  "\"t\"\n-- max_seconds: 1.5\n-- partitions: 3\n-- lake: true\n-- late: "
                  "drop\nSELECT 'ä\"\\' AS k FROM __input__");
    assert_int_equal(transform_def_check(&a, &info), ERR_OK);
    a.paused = a.any_topic = true;
    buf_init(&text, LIMIT_KV_VALUE);
    assert_int_equal(transform_def_write(&a, true, &text), ERR_OK);
    assert_int_equal(buf_append_u8(&text, '}'), ERR_OK);
    transform_def_init(&b);
    assert_int_equal(transform_def_json(&b, buf_slice(&text), &info), ERR_OK);
    assert_int_equal(transform_def_check(&b, &info), ERR_OK);
    assert_true(transform_def_same(&a, &b));
    assert_true(b.paused && b.any_topic && b.lake && b.partitions == 3 && b.max_ms == 1500);
    b.max_bytes++;
    assert_false(transform_def_same(&a, &b));
    transform_def_fini(&b);
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        transform_def_init(&b);
        assert_int_not_equal(transform_def_json(&b, slice_str(bad[i]), &info), ERR_OK);
        transform_def_fini(&b);
    }
    transform_def_fini(&a);
    buf_fini(&text);
}

static void expect(const char *header, const char *sql, int64_t from, int64_t to, const char *want)
{
    char file[1024];
    struct transform_def d;
    struct buf out;

    snprintf(file, sizeof file, "%s%s", header, sql);
    from_file(&d, file);
    buf_init(&out, 8192);
    assert_int_equal(transform_statement(&d, from, to, &out), ERR_OK);
    assert_string_equal((const char *)out.ptr, want);
    buf_fini(&out);
    transform_def_fini(&d);
}

static void test_statements(void **state)
{
    expect("", "SELECT a FROM __input__", 1, 2, "SELECT a FROM __input__");
    expect("-- window: 1 day\n-- time: t\n", "SELECT a FROM __input__", INT64_MIN, 5,
           "WITH __input__ AS (SELECT * FROM (SELECT * FROM __records__ WHERE TRY(CAST((t) AS "
           "TIMESTAMPTZ)) IS NOT NULL AND TRY(CAST((t) AS TIMESTAMPTZ)) < make_timestamptz(5))) "
           "SELECT a FROM __input__");
    expect("-- columns: A INT, \"b\" VARCHAR, c\n", "/* x */ with y AS (SELECT 1) SELECT a FROM y",
           0, 0,
           "WITH __input__ AS (SELECT COLUMNS(lambda c: lower(c) NOT IN ('a', 'b', 'c')), "
           "CAST((value ->> '$.\"A\"') AS INT) AS \"A\", CAST((value ->> '$.\"b\"') AS VARCHAR) "
           "AS \"b\", CAST((value ->> '$.\"c\"') AS VARCHAR) AS \"c\" FROM __records__), "
           "y AS (SELECT 1) SELECT a FROM y");
    expect("-- columns: n DECIMAL(9,2), m INT\n",
           "WITH RECURSIVE r AS (SELECT 1) SELECT n FROM __input__", 0, 0,
           "WITH RECURSIVE __input__ AS (SELECT COLUMNS(lambda c: lower(c) NOT IN ('n', 'm')), "
           "CAST((value ->> '$.\"n\"') AS DECIMAL(9,2)) AS \"n\", CAST((value ->> '$.\"m\"') AS "
           "INT) AS \"m\" FROM __records__), r AS (SELECT 1) SELECT n FROM __input__");
    expect("-- columns: n INT\n", "WITHIN", 0, 0,
           "WITH __input__ AS (SELECT COLUMNS(lambda c: lower(c) NOT IN ('n')), CAST((value ->> "
           "'$.\"n\"') AS INT) AS \"n\" FROM __records__) WITHIN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_statements),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
