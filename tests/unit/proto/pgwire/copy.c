/* COPY … TO STDOUT: statements of today and of old, what is refused; rows in each format, to the byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/pgwire/copy.h"

static enum err parse(const char *sql, struct copy *c, char *query, size_t n, bool *moved)
{
    struct errinfo info = {0};
    struct buf b;
    enum err e;

    buf_init(&b, 1000);
    e = copy_parse(slice_str(sql), c, &b, moved, &info);
    assert_true(b.len < n);
    memcpy(query, b.ptr ? b.ptr : (const uint8_t *)"", b.len);
    query[b.len] = 0;
    buf_fini(&b);
    assert_int_equal(e != ERR_OK, info.text[0] != 0);
    return e;
}

static void statements(void **state)
{
    static const struct {
        const char *sql, *query, *null;
        bool moved, header;
        enum copy_form form;
        char delimiter, quote, escape;
    } good[] = {
        {"COPY (SELECT ')' AS a) TO STDOUT", "      SELECT ')' AS a", "\\N", false, false,
         COPY_TEXT, '\t', '"', '"'},
        {"copy ( SELECT (1) ) to stdout csv header", "       SELECT (1) ", "", false, true,
         COPY_CSV, ',', '"', '"'},
        {"COPY orders TO STDOUT WITH (FORMAT csv, HEADER true, DELIMITER ';', NULL 'nil', QUOTE "
         "'''')",
         "SELECT * FROM orders", "nil", true, true, COPY_CSV, ';', '\'', '\''},
        {"COPY public.\"O r\" (a, \"b)\") TO STDOUT (HEADER off, ENCODING 'utf8')",
         "SELECT a, \"b)\" FROM public.\"O r\"", "\\N", true, false, COPY_TEXT, '\t', '"', '"'},
        {"COPY (SELECT 1) TO STDOUT WITH DELIMITER AS E'\\t' NULL '-' CSV QUOTE '|' ESCAPE '\\'",
         "      SELECT 1", "-", false, false, COPY_CSV, '\t', '|', '\\'},
        {"COPY (SELECT 1) TO STDOUT (FORMAT BINARY)", "      SELECT 1", "\\N", false, false,
         COPY_BINARY, '\t', '"', '"'},
    };
    struct copy c;
    char query[200];
    bool moved;
    size_t i;

    for (i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(parse(good[i].sql, &c, query, sizeof query, &moved), ERR_OK);
        assert_string_equal(query, good[i].query);
        assert_string_equal(c.null, good[i].null);
        assert_true(moved == good[i].moved && c.header == good[i].header && c.form == good[i].form);
        assert_true(c.delimiter == good[i].delimiter && c.quote == good[i].quote &&
                    c.escape == good[i].escape);
    }
}

static void refusals(void **state)
{
    static const struct {
        const char *sql;
        enum err e;
    } bad[] = {
        {"COPY", ERR_INVALID},
        {"COPY (SELECT 1", ERR_INVALID},
        {"COPY (SELECT 1)", ERR_INVALID},
        {"COPY orders (a TO STDOUT", ERR_INVALID},
        {"COPY orders FROM STDIN", ERR_UNSUPPORTED},
        {"COPY orders TO '/tmp/x'", ERR_UNSUPPORTED},
        {"COPY orders TO PROGRAM 'x'", ERR_UNSUPPORTED},
        {"COPY orders TO STDOUT (FORMAT xml)", ERR_INVALID},
        {"COPY orders TO STDOUT (FORMAT csv", ERR_INVALID},
        {"COPY orders TO STDOUT (FORMAT csv,)", ERR_INVALID},
        {"COPY orders TO STDOUT (FORCE_QUOTE *)", ERR_UNSUPPORTED},
        {"COPY orders TO STDOUT (DELIMITER 'ab')", ERR_INVALID},
        {"COPY orders TO STDOUT (DELIMITER 'a')", ERR_INVALID},
        {"COPY orders TO STDOUT (QUOTE '|')", ERR_INVALID},
        {"COPY orders TO STDOUT (FORMAT csv, DELIMITER '\"')", ERR_INVALID},
        {"COPY orders TO STDOUT (FORMAT binary, HEADER)", ERR_INVALID},
        {"COPY orders TO STDOUT CSV 1", ERR_INVALID},
        {"COPY orders TO STDOUT NULL", ERR_INVALID},
    };
    struct copy c;
    char query[200];
    bool moved;
    size_t i;

    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        if (parse(bad[i].sql, &c, query, sizeof query, &moved) != bad[i].e)
            fail_msg("%s", bad[i].sql);
    assert_true(copy_is(SLICE_LIT(" /* x */ cOpY a TO STDOUT")));
    assert_false(copy_is(SLICE_LIT("SELECT copy")));
}

/* ---- rows ---- */

#define WORD "x,\"y\"\t\\\n, long enough"

static void expect(const char *sql, const void *head, size_t head_len, const void *row, size_t n)
{
    static const struct sql_column_type types[2] = {{.type = SQL_VARCHAR}, {.type = SQL_BIGINT}};
    static const char *const names[2] = {"a,\t", "n"};
    const struct sql_columns columns = {2, names, types};
    struct sql_string words[1] = {{.length = sizeof WORD - 1, .rest.ptr = WORD}};
    int64_t numbers[1] = {-5};
    uint64_t none = 0;
    struct sql_vector v[2] = {{.type = &types[0], .data = words},
                              {.type = &types[1], .data = numbers}};
    struct sql_chunk chunk = {.rows = 1, .columns_n = 2, .column = v};
    struct buf out, tmp;
    struct copy c;
    char query[100];
    bool moved;

    assert_int_equal(parse(sql, &c, query, sizeof query, &moved), ERR_OK);
    buf_init(&out, 10000);
    buf_init(&tmp, 10000);
    assert_int_equal(copy_head(&c, &columns, &out), ERR_OK);
    assert_int_equal(out.len, head_len);
    assert_memory_equal(out.ptr, head, head_len);
    buf_clear(&out);
    assert_int_equal(copy_row(&c, &chunk, 0, true, &tmp, &out), ERR_OK);
    assert_int_equal(out.len, n);
    assert_memory_equal(out.ptr, row, n);
    assert_int_equal(tmp.len, 0);
    v[0].valid = v[1].valid = &none;
    buf_clear(&out);
    assert_int_equal(copy_row(&c, &chunk, 0, true, &tmp, &out), ERR_OK);
    if (c.form != COPY_BINARY)
        assert_int_equal(out.len, 5 + 2 * strlen(c.null) + 2);
    buf_fini(&out);
    buf_init(&out, 20);
    v[0].valid = v[1].valid = NULL;
    assert_int_equal(copy_row(&c, &chunk, 0, true, &tmp, &out), ERR_TOO_LARGE);
    assert_int_equal(out.len, 0);
    buf_fini(&out);
    buf_fini(&tmp);
}

#define BYTES(lit) (lit), sizeof(lit) - 1

static void rows(void **state)
{
    expect("COPY (SELECT 1) TO STDOUT", BYTES("H\0\0\0\x0b\0\0\2\0\0\0\0"),
           BYTES("d\0\0\0\x20x,\"y\"\\t\\\\\\n, long enough\t-5\n"));
    expect("COPY (SELECT 1) TO STDOUT CSV HEADER",
           BYTES("H\0\0\0\x0b\0\0\2\0\0\0\0d\0\0\0\x0c\"a,\t\",n\n"),
           BYTES("d\0\0\0\x21\"x,\"\"y\"\"\t\\\n, long enough\",-5\n"));
    expect(
        "COPY (SELECT 1) TO STDOUT (FORMAT binary)", BYTES("H\0\0\0\x0b\1\0\2\0\1\0\1"),
        BYTES(
            "d\0\0\0\x3ePGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"
            "\0\2\0\0\0\x15x,\"y\"\t\\\n, long enough\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xfb"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statements),
        cmocka_unit_test(refusals),
        cmocka_unit_test(rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
