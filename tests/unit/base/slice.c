/* Slices: absence and emptiness, comparison. */
#include "base/slice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void compares(void **state)
{
    assert_true(slice_is_null(SLICE_NULL));
    assert_false(slice_is_null(SLICE_LIT("")));
    assert_true(slice_eq(SLICE_NULL, SLICE_LIT("")));
    assert_true(slice_eq_str(SLICE_LIT("ab"), "ab"));
    assert_false(slice_eq_str(SLICE_LIT("ab"), "abc"));
    assert_false(slice_eq_str(SLICE_LIT("ab"), "aB"));
    assert_true(slice_has_prefix(SLICE_LIT("abc"), SLICE_LIT("ab")));
    assert_true(slice_has_prefix(SLICE_LIT("abc"), SLICE_NULL));
    assert_false(slice_has_prefix(SLICE_LIT("a"), SLICE_LIT("ab")));
    assert_int_equal(SLICE_LIT("a\0b").len, 3);
    assert_int_equal(slice_str(NULL).len, 0);
}

static void trims(void **state)
{
    struct slice blanks = SLICE_LIT(" \t");

    assert_true(slice_eq_str(slice_trim(SLICE_LIT(" \ta b\t "), blanks), "a b"));
    assert_true(slice_eq_str(slice_trim(SLICE_LIT("\ra\n"), blanks), "\ra\n"));
    assert_int_equal(slice_trim(SLICE_LIT(" \t "), blanks).len, 0);
    assert_true(slice_is_null(slice_trim(SLICE_NULL, blanks)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(compares), cmocka_unit_test(trims)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
