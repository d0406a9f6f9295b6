/* The JSON scanner: the grammar case by case, differences from jansson on mutated texts, numbers,
 * escapes. */
#include "base/jtext.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>
#include <jansson.h>

static bool valid(const char *text)
{
    return jtext_valid(slice_str(text), 64);
}

static void test_accepts(void **state)
{
    static const char *const good[] = {
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-1.5e+10",
        "1E5",
        "0.1",
        "\"\"",
        "\"a\\u00e9\"",
        "\"\\ud83d\\ude00\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "[]",
        "{}",
        " [ ] ",
        "[1,2,3]",
        "{\"a\":1}",
        "{\"a\":{\"b\":[{},[],null]}}",
        "\t\n\r [ 1 , { \"a\" : [ ] } ]\n",
        "\"0123456789abcdef0123456789abcdef\"",
        "\"0123456789abcde\xc3\xa9 tail of it\"",
        "\"\xe2\x82\xac\xf0\x9f\x98\x80\"",
        "123456789012345678901234567890",
        "\"\x7f\"",
    };

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (!valid(good[i]))
            fail_msg("refused: %s", good[i]);
    }
}

static void test_refuses(void **state)
{
    static const char *const wrong[] = {
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "+1",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x10",
        "NaN",
        "\"",
        "\"a",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u123\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"a\nb\"",
        "\"tab\there\"",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "[1}",
        "{\"a\":1]",
        "1 2",
        "[] []",
        "'a'",
        "// c\n1",
        "\"\xff\"",
        "\"\xc0\x80\"",
        "\"\xe0\x80\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xc3\"",
        "\"\xe2\x82\"",
        "\"\xf0\x9f\x98\"",
        "\xef\xbb\xbf{}",
        "[\"a\",\n4\n,1,",
        "\"0123456789abcdef\x01\"",
    };

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (valid(wrong[i]))
            fail_msg("accepted: %s", wrong[i]);
    }
    assert_false(jtext_valid(slice_of("\"a\0b\"", 5), 64));
    assert_false(jtext_valid(slice_of("1\0", 2), 64));
}

static void test_depth(void **state)
{
    char text[2 * JTEXT_DEPTH_CAP + 3];

    for (unsigned n = 1; n <= JTEXT_DEPTH_CAP + 1; n++) {
        memset(text, '[', n);
        memset(text + n, ']', n);
        assert_int_equal(jtext_valid(slice_of(text, 2 * n), 64), n <= 64);
        assert_int_equal(jtext_valid(slice_of(text, 2 * n), 1u << 30), n <= JTEXT_DEPTH_CAP);
    }
    memset(text, '[', sizeof text);
    assert_false(jtext_valid(slice_of(text, sizeof text), 1u << 30));
}

/* Mutated texts: what we accept jansson must accept, and the reverse but for what we refuse on
 * purpose (jansson has its own depth limit and number ranges, which these texts do not reach). */
static void test_against_jansson(void **state)
{
    static const char base[] =
        "{\"type\":\"a.b\",\"data\":{\"x\":[1,-2.5e3,true,null,\"\\u00e9\\n\"],"
        "\"k\":\"h\xc3\xa9llo, world, long enough\"},\"id\":\"7\"}";
    static const char alphabet[] = "{}[]\",:\\ueE+-.0129tfnabc \n\x80\xc3\xa9\xe2\xff\x01";
    uint32_t seed = 12345;
    unsigned same = 0, ok = 0;

    for (int round = 0; round < 60000; round++) {
        char text[sizeof base];
        size_t n = sizeof base - 1;
        json_error_t why;
        json_t *tree;
        bool ours;

        memcpy(text, base, n);
        for (unsigned k = 0; k < 1 + (unsigned)round % 3; k++) {
            seed = seed * 1664525 + 1013904223;
            text[(seed >> 8) % n] = alphabet[(seed >> 20) % (sizeof alphabet - 1)];
        }
        if (round % 7 == 0)
            n = (seed >> 4) % n;
        ours = jtext_valid(slice_of(text, n), 64);
        tree = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
        if (ours != (tree != NULL))
            fail_msg("differs (ours %d): %.*s", ours, (int)n, text);
        same++;
        ok += ours;
        json_decref(tree);
    }
    assert_int_equal(same, 60000);
    assert_true(ok > 1000); /* the mutations leave enough valid texts to mean something */
}

static void test_every_prefix_fails(void **state)
{
    static const char text[] = "{\"a\":[1,\"b\\u00e9\",{\"c\":null}],\"d\":-1.5e3}";

    for (size_t n = 0; n < sizeof text - 1; n++) {
        uint8_t *copy = malloc(n ? n : 1); /* its own block: reads past the end show under ASan */

        memcpy(copy, text, n);
        assert_false(jtext_valid(slice_of(copy, n), 64));
        free(copy);
    }
    assert_true(valid(text));
}

static void test_extent(void **state)
{
    struct jtext_scan s;
    struct slice raw, inner;
    enum jtext_type type;
    bool escaped;

    jtext_scan_init(&s, SLICE_LIT(" {\"a\" : { \"b\" : [ 1 ] } , \"c\":\"x\\ty\" } rest"), 8);
    assert_true(jtext_expect(&s, '{', ""));
    assert_true(jtext_string(&s, &inner, &escaped));
    assert_true(slice_eq_str(inner, "a") && !escaped);
    assert_true(jtext_expect(&s, ':', ""));
    assert_true(jtext_value(&s, &raw, &type));
    assert_true(slice_eq_str(raw, "{ \"b\" : [ 1 ] }"));
    assert_int_equal(type, JTEXT_OBJECT);
    assert_true(jtext_accept(&s, ','));
    assert_true(jtext_string(&s, &inner, &escaped) && slice_eq_str(inner, "c"));
    assert_true(jtext_expect(&s, ':', ""));
    assert_true(jtext_string(&s, &inner, &escaped) && escaped);
    assert_true(jtext_expect(&s, '}', ""));
    assert_true(jtext_more(&s) && *s.p == 'r');
}

static void test_unescape_and_escape(void **state)
{
    static const char in[] = "\\u00e9\\ud83d\\ude00\\u20ac\\n\\\"\\\\\\/\\b\\f\\r\\t\\u0041z";
    static const char want[] = "\xc3\xa9\xf0\x9f\x98\x80\xe2\x82\xac\n\"\\/\b\f\r\tAz";
    uint8_t out[128], all[256], esc[JTEXT_ESCAPE_MAX(256)], *end;
    size_t n = jtext_unescape(slice_str(in), out);

    assert_int_equal(n, sizeof want - 1);
    assert_memory_equal(out, want, n);
    /* every ASCII byte survives a round trip */
    for (unsigned i = 0; i < 128; i++)
        all[i] = (uint8_t)i;
    end = jtext_escape(esc, slice_of(all, 128));
    assert_true(jtext_valid(slice_of(esc, (size_t)(end - esc)), 1));
    n = jtext_unescape(slice_of(esc + 1, (size_t)(end - esc - 2)), out);
    assert_int_equal(n, 128);
    assert_memory_equal(out, all, 128);
    end = jtext_escape(esc, SLICE_LIT("a\x01\"\xc3\xa9"));
    assert_true(slice_eq_str(slice_of(esc, (size_t)(end - esc)), "\"a\\u0001\\\"\xc3\xa9\""));
    end = jtext_escape(esc, SLICE_NULL);
    assert_true(slice_eq_str(slice_of(esc, (size_t)(end - esc)), "\"\""));
}

static void test_numbers(void **state)
{
    static const uint64_t values[] = {0, 9, 10, 99, 100, 101, 12345, UINT32_MAX, UINT64_MAX};
    int64_t v;

    assert_true(jtext_int(SLICE_LIT("9223372036854775807"), &v) && v == INT64_MAX);
    assert_true(jtext_int(SLICE_LIT("-9223372036854775808"), &v) && v == INT64_MIN);
    assert_false(jtext_int(SLICE_LIT("9223372036854775808"), &v));
    assert_false(jtext_int(SLICE_LIT("-9223372036854775809"), &v));
    assert_false(jtext_int(SLICE_LIT("1.0"), &v));
    assert_false(jtext_int(SLICE_LIT("1e3"), &v));
    assert_false(jtext_int(SLICE_LIT("-"), &v));
    assert_false(jtext_int(SLICE_LIT(""), &v));
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char want[32];
        uint8_t got[32] = {0};

        snprintf(want, sizeof want, "%llu", (unsigned long long)values[i]);
        *jtext_u64(got, values[i]) = 0;
        assert_string_equal((char *)got, want);
    }
    {
        uint8_t got[32] = {0};

        *jtext_i64(got, INT64_MIN) = 0;
        assert_string_equal((char *)got, "-9223372036854775808");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_against_jansson),
        cmocka_unit_test(test_every_prefix_fails),
        cmocka_unit_test(test_extent),
        cmocka_unit_test(test_unescape_and_escape),
        cmocka_unit_test(test_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
