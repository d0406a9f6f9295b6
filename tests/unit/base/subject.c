/* Subjects: tables of what is valid and what takes what; patterns against patterns checked by
 * trying all subjects of a small alphabet. */
#include "base/subject.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static bool match(const char *p, const char *s)
{
    return subject_match(slice_str(p), slice_str(s));
}

static void test_valid(void **state)
{
    static const char *const good[] = {"a",   "a.b",    "*",  ">",    "a.*.c",
                                       "a.>", "$SYS.x", "a*", "a>b.c"};
    static const char *const bad[] = {"", ".", "a.", ".a", "a..b", "a.>.b", ">.a", "a b", "a\tb"};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(subject_valid(slice_str(good[i])));
    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(subject_valid(slice_str(bad[i])));
    assert_true(subject_literal(slice_str("a*.b")));
    assert_false(subject_literal(slice_str("a.*")));
    assert_false(subject_literal(slice_str(">")));
}

static void test_match(void **state)
{
    (void)state;
    assert_true(match("a.b", "a.b"));
    assert_false(match("a.b", "a.b.c"));
    assert_false(match("a.b", "a"));
    assert_true(match("a.*", "a.b"));
    assert_false(match("a.*", "a"));
    assert_false(match("a.*", "a.b.c"));
    assert_true(match("a.>", "a.b.c"));
    assert_false(match("a.>", "a"));
    assert_true(match(">", "a"));
    assert_true(match("*.*", "a.b"));
    assert_true(match("a.*.c.>", "a.b.c.d.e"));
    assert_false(match("a.*.c.>", "a.b.c"));
}

/* The n-th text of up to three tokens out of `tokens`. */
static bool nth(unsigned n, const char *const *tokens, unsigned k, char *out)
{
    unsigned len = n % 3 + 1, i;

    n /= 3;
    *out = '\0';
    for (i = 0; i < len; i++) {
        if (i)
            strcat(out, ".");
        strcat(out, tokens[n % k]);
        n /= k;
    }
    return n == 0;
}

static void test_patterns(void **state)
{
    static const char *const all[] = {"a", "b", "*", ">"}, *const plain[] = {"a", "b", "c"};
    char p[16], q[16], s[16];
    unsigned i, j, k, pairs = 0;

    (void)state;
    for (i = 0; i < 192; i++)
        for (j = 0; j < 192; j++) {
            bool covers = true, meet = false;

            if (!nth(i, all, 4, p) || !nth(j, all, 4, q) || !subject_valid(slice_str(p)) ||
                !subject_valid(slice_str(q)))
                continue;
            for (k = 0; k < 81; k++) {
                if (!nth(k, plain, 3, s))
                    continue;
                covers = covers && (!match(q, s) || match(p, s));
                meet = meet || (match(q, s) && match(p, s));
            }
            /* `>` behind the third token has no subject here to show it */
            if (strlen(q) == 5 && q[4] == '>')
                continue;
            pairs++;
            if (subject_covers(slice_str(p), slice_str(q)))
                assert_true(covers);
            assert_int_equal(subjects_meet(slice_str(p), slice_str(q)), meet);
            assert_int_equal(subject_covers(slice_str(p), slice_str(q)) &&
                                 subject_covers(slice_str(q), slice_str(p)),
                             strcmp(p, q) == 0);
        }
    assert_true(pairs > 2000);
    assert_true(subject_covers(slice_str("a.>"), slice_str("a.*.b")));
    assert_true(subject_covers(slice_str(">"), slice_str(">")));
    assert_false(subject_covers(slice_str("a.*"), slice_str("a.>")));
    assert_false(subject_covers(slice_str("a.b"), slice_str("a.*")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_patterns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
