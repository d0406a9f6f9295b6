/* SQL as tokens: statements are told apart whatever is in literals and comments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rows/lex.h"

static void statements(void **state)
{
    static const char *const want[] = {"SELECT ';', \"a;b\" -- ;\n, $x$;$x$", "",
                                       "b /* ; /* ; */ */ c", "E'\\';' d"};
    struct slice in = slice_str(
                     "SELECT ';', \"a;b\" -- ;\n, $x$;$x$ ;; b /* ; /* ; */ */ c; E'\\';' d"),
                 s;
    unsigned i;

    for (i = 0; i < 4; i++) {
        assert_true(lex_statement(&in, &s));
        assert_int_equal(s.len, strlen(want[i]));
        assert_memory_equal(s.ptr, want[i], s.len);
    }
    assert_false(lex_statement(&in, &s));
}

static void tokens(void **state)
{
    static const enum lex_kind kinds[] = {LEX_WORD,  LEX_OTHER,  LEX_QUOTED, LEX_OTHER, LEX_WORD,
                                          LEX_PARAM, LEX_NUMBER, LEX_STRING, LEX_END};
    struct slice in = slice_str("a_1.\"B\"\"c\"::text $12 1.5e-3 'it''s'");
    char text[16];
    struct lex_token t;
    unsigned i;

    for (i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        t = lex_next(&in);
        assert_int_equal(t.kind, kinds[i]);
        if (t.kind == LEX_QUOTED) {
            assert_true(lex_name(&t, text, sizeof text));
            assert_string_equal(text, "B\"c");
        }
        if (t.kind == LEX_STRING) {
            assert_true(lex_string(&t, text, sizeof text));
            assert_string_equal(text, "it's");
        }
    }
    assert_int_equal(lex_params(slice_str("$3 + $1 + '$9' -- $8")), 3);
}

/* Literals and comments that do not end, end with the text. */
static void open_ends(void **state)
{
    static const char *const texts[] = {"'", "\"", "$a$", "/*", "E'\\", "--", "$1", "/*/*", "."};
    unsigned i;

    for (i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct slice in = slice_str(texts[i]), s;
        unsigned n = 0;

        while (lex_statement(&in, &s))
            assert_true(++n < 3);
        assert_int_equal(in.len, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(statements), cmocka_unit_test(tokens),
                                       cmocka_unit_test(open_ends)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
