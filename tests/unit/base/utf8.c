/* UTF-8: every code point, every two-byte start, what RFC 3629 forbids. */
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static size_t encode(uint32_t c, uint8_t *p)
{
    if (c < 0x80) {
        p[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        p[0] = (uint8_t)(0xc0 | c >> 6);
        p[1] = (uint8_t)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        p[0] = (uint8_t)(0xe0 | c >> 12);
        p[1] = (uint8_t)(0x80 | (c >> 6 & 63));
        p[2] = (uint8_t)(0x80 | (c & 63));
        return 3;
    }
    p[0] = (uint8_t)(0xf0 | c >> 18);
    p[1] = (uint8_t)(0x80 | (c >> 12 & 63));
    p[2] = (uint8_t)(0x80 | (c >> 6 & 63));
    p[3] = (uint8_t)(0x80 | (c & 63));
    return 4;
}

static void every_code_point(void **state)
{
    uint8_t b[4];
    uint32_t c;
    size_t n, k;

    for (c = 0; c < 0x120000; c++) {
        bool ok = c < 0x110000 && (c < 0xd800 || c > 0xdfff);

        n = encode(c, b);
        if (utf8_next(slice_of(b, n)) != (ok ? n : 0) || utf8_valid(slice_of(b, n)) != ok)
            fail_msg("U+%X", c);
        for (k = 1; ok && k < n; k++)
            assert_int_equal(utf8_next(slice_of(b, k)), 0);
    }
}

static void forbidden(void **state)
{
    static const char *const rows[] = {"\x80",
                                       "\xbf",
                                       "\xc0\x80",
                                       "\xc1\xbf",
                                       "\xe0\x9f\xbf",
                                       "\xed\xa0\x80",
                                       "\xf0\x8f\xbf\xbf",
                                       "\xf4\x90\x80\x80",
                                       "\xf5\x80\x80\x80",
                                       "\xff",
                                       "\xc3(",
                                       "\xe4\xb8(",
                                       "\xf0\x9f\x98("};
    size_t i;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_false(utf8_valid(slice_str(rows[i])));
}

/* The fast path must not miss a bad byte at any place. */
static void any_place(void **state)
{
    uint8_t b[40];
    size_t len, at;

    assert_true(utf8_valid(SLICE_NULL));
    for (len = 1; len <= sizeof b; len++) {
        memset(b, 'a', sizeof b);
        assert_true(utf8_valid(slice_of(b, len)));
        for (at = 0; at < len; at++) {
            b[at] = 0xff;
            assert_false(utf8_valid(slice_of(b, len)));
            b[at] = 'a';
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point),
        cmocka_unit_test(forbidden),
        cmocka_unit_test(any_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
