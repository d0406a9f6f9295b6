/* The window of duplicates: what came lately, what is on its way, what was in vain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/nats/js_ids.h"

static const uint8_t seed[16] = "fifteen letters";

static void test_window(void **state)
{
    struct jids x;

    (void)state;
    jids_init(&x, seed);
    assert_int_equal(jids_find(&x, SLICE_LIT("a")), 0);
    jids_begin(&x, SLICE_LIT("a"), 100);
    assert_true(jids_find(&x, SLICE_LIT("a")) == JIDS_UNDER_WAY);
    jids_expire(&x, 1000); /* it is not known yet what it became */
    assert_true(jids_find(&x, SLICE_LIT("a")) == JIDS_UNDER_WAY);
    jids_note(&x, SLICE_LIT("a"), 7, 101, false);
    jids_note(&x, SLICE_LIT("b"), 8, 200, true);
    jids_note(&x, SLICE_LIT("c"), 9, 300, false);
    assert_int_equal(jids_find(&x, SLICE_LIT("a")), 7);
    assert_int_equal(jids_find(&x, SLICE_LIT("b")), 8);
    assert_int_equal(jids_find(&x, SLICE_LIT("c")), 0);
    jids_expire(&x, 200);
    assert_int_equal(jids_find(&x, SLICE_LIT("a")), 0);
    assert_int_equal(jids_find(&x, SLICE_LIT("b")), 8);
    jids_fini(&x);
}

static void test_cancelled(void **state)
{
    struct jids x;

    (void)state;
    jids_init(&x, seed);
    jids_begin(&x, SLICE_LIT("a"), 100);
    jids_cancel(&x, SLICE_LIT("a"));
    assert_int_equal(jids_find(&x, SLICE_LIT("a")), 0);
    jids_begin(&x, SLICE_LIT("a"), 150); /* once more: the first one's time takes nothing of it */
    jids_note(&x, SLICE_LIT("a"), 5, 150, false);
    jids_cancel(&x, SLICE_LIT("a"));
    jids_expire(&x, 120);
    assert_int_equal(jids_find(&x, SLICE_LIT("a")), 5);
    jids_expire(&x, 151);
    assert_int_equal(jids_find(&x, SLICE_LIT("a")), 0);
    jids_note(&x, SLICE_LIT("b"), 6, 160, true); /* the list goes on behind an empty one */
    jids_expire(&x, 155);
    assert_int_equal(jids_find(&x, SLICE_LIT("b")), 6);
    jids_fini(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_cancelled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
