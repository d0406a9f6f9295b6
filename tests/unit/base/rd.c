/* Reading bytes from outside: as many as there are, and bad from the first short read on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rd.h"

static void takes_what_there_is(void **state)
{
    struct slice s = SLICE_LIT("abcdef");
    struct rd r = rd_of(s);

    assert_ptr_equal(rd_take(&r, 2), s.ptr);
    assert_ptr_equal(rd_take(&r, 0), s.ptr + 2);
    assert_true(slice_eq_str(rd_bytes(&r, 3), "cde"));
    assert_ptr_equal(rd_take(&r, 1), s.ptr + 5);
    assert_int_equal(r.left, 0);
    assert_non_null(rd_take(&r, 0));
    assert_false(r.bad);
}

static void is_bad_after_a_short_read(void **state)
{
    static const size_t wanted[] = {4, SIZE_MAX};
    unsigned i;

    for (i = 0; i < 2; i++) {
        struct rd r = rd_of(SLICE_LIT("abc"));
        struct slice none;

        assert_null(rd_take(&r, wanted[i]));
        assert_true(r.bad);
        assert_int_equal(r.left, 3);
        assert_null(rd_take(&r, 1)); /* also what there would be */
        none = rd_bytes(&r, 1);
        assert_int_equal(none.len, 0);
        assert_non_null(none.ptr);
    }
}

static void nothing_is_no_error(void **state)
{
    struct rd r = rd_of(SLICE_NULL);

    assert_int_equal(rd_bytes(&r, 0).len, 0);
    assert_false(r.bad);
    assert_null(rd_take(&r, 1));
    assert_true(r.bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_there_is),
        cmocka_unit_test(is_bad_after_a_short_read),
        cmocka_unit_test(nothing_is_no_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
