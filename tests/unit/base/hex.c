/* Hexadecimal and base64: RFC 4648's examples, refusals, every length there and back. */
#include "base/hex.h"

#include <string.h>

#include "../vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void hex(void **state)
{
    static const uint8_t bytes[] = {0, 1, 0x7f, 0x80, 0xab, 0xff};
    char text[16];
    uint8_t out[8];

    hex_encode(bytes, sizeof bytes, text);
    assert_string_equal(text, "00017f80abff");
    assert_true(hex_decode(text, 6, out));
    assert_memory_equal(out, bytes, 6);
    assert_true(hex_decode("AbFf", 2, out));
    assert_memory_equal(out, "\xab\xff", 2);
    assert_false(hex_decode("0g", 1, out));
    assert_false(hex_decode("g0", 1, out));
    assert_false(hex_decode(" 1", 1, out));
    hex_encode(NULL, 0, text);
    assert_string_equal(text, "");
}

static void base64_examples(void **state)
{
    static const char *const rows[][2] = {{"", ""},
                                          {"f", "Zg=="},
                                          {"fo", "Zm8="},
                                          {"foo", "Zm9v"},
                                          {"foob", "Zm9vYg=="},
                                          {"fooba", "Zm9vYmE="},
                                          {"foobar", "Zm9vYmFy"}};
    char text[16];
    uint8_t out[16];
    size_t i, n;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        base64_encode(rows[i][0], strlen(rows[i][0]), text);
        assert_string_equal(text, rows[i][1]);
        assert_true(base64_decode(text, strlen(text), out, &n));
        assert_int_equal(n, strlen(rows[i][0]));
        assert_memory_equal(out, rows[i][0], n);
    }
}

static void base64_refused(void **state)
{
    static const char *const rows[] = {
        "Zg",    "Zg=",      "Z===", "====", "Zm9v=", "Zg==Zg==", "Zm-v",
        "Zm9 v", "Zm9vYg=a", "=m9v", "Z=9v", "Zh==",  "Zm9="};
    uint8_t out[16];
    size_t i, n;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (base64_decode(rows[i], strlen(rows[i]), out, &n))
            fail_msg("%s was accepted", rows[i]);
    }
}

static void there_and_back(void **state)
{
    uint64_t seed = test_seed();
    uint8_t in[100], out[102];
    char text[220];
    size_t len, i, n;

    for (len = 0; len <= sizeof in; len++) {
        for (i = 0; i < len; i++)
            in[i] = (uint8_t)test_random(&seed);
        base64_encode(in, len, text);
        assert_int_equal(strlen(text), BASE64_LEN(len));
        assert_true(base64_decode(text, strlen(text), out, &n));
        assert_int_equal(n, len);
        assert_memory_equal(in, out, len);
        hex_encode(in, len, text);
        assert_true(hex_decode(text, len, out));
        assert_memory_equal(in, out, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hex),
        cmocka_unit_test(base64_examples),
        cmocka_unit_test(base64_refused),
        cmocka_unit_test(there_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
