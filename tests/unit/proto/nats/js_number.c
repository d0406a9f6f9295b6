/* Numbers of any size. */
#include "proto/nats/js_number.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void check(const char *a, const char *b, bool minus, const char *want)
{
    struct buf out;

    buf_init(&out, 1 << 20);
    buf_append_str(&out, "=");
    jnumber_add(slice_str(a), slice_str(b), minus, &out);
    if (!slice_eq_str(slice_of(out.ptr + 1, out.len - 1), want))
        fail_msg("%s %c %s: %.*s", a, minus ? '-' : '+', b, (int)out.len, (char *)out.ptr);
    buf_fini(&out);
}

static void test_valid(void **state)
{
    static const char *const good[] = {"0", "-0", "+5", "007", "-12345678901234567890123"};
    static const char *const bad[] = {"", "-", "+", "1.5", "1e3", " 1", "1 ", "0x1", "--1", "1_0"};
    char *digits = malloc(JNUMBER_MAX + 2);
    size_t i;

    (void)state;
    for (i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(jnumber_valid(slice_str(good[i])));
    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(jnumber_valid(slice_str(bad[i])));
    memset(digits, '7', JNUMBER_MAX + 2);
    digits[0] = '-';
    assert_true(jnumber_valid(slice_of(digits, JNUMBER_MAX + 1)));
    assert_false(jnumber_valid(slice_of(digits, JNUMBER_MAX + 2)));
    free(digits);
}

static void test_add(void **state)
{
    (void)state;
    check("", "", false, "0");
    check("", "-5", false, "-5");
    check("+005", "", false, "5");
    check("999", "1", false, "1000");
    check("-999", "-1", false, "-1000");
    check("1000", "-1", false, "999");
    check("1", "-1000", false, "-999");
    check("5", "-5", false, "0");
    check("-0", "-0", true, "0");
    check("5", "-5", true, "10");
    check("18446744073709551615", "1", false, "18446744073709551616");
    check("-100000000000000000000", "1", false, "-99999999999999999999");
    check("100000000000000000000", "100000000000000000001", true, "-1");
}

/* Against the machine's own, over all signs and many lengths. */
static void test_small(void **state)
{
    char x[32], y[32], want[32];
    int64_t a, b;

    (void)state;
    for (a = -1200; a <= 1200; a += 37)
        for (b = -1100; b <= 1100; b += 29) {
            (void)snprintf(x, sizeof x, "%" PRId64, a);
            (void)snprintf(y, sizeof y, "%" PRId64, b);
            (void)snprintf(want, sizeof want, "%" PRId64, a + b);
            check(x, y, false, want);
            (void)snprintf(want, sizeof want, "%" PRId64, a - b);
            check(x, y, true, want);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_valid), cmocka_unit_test(test_add),
                                       cmocka_unit_test(test_small)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
