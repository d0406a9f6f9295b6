/* JSON strings and numbers. */
#include "base/json_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void check(struct slice in, const char *want)
{
    struct buf b;

    buf_init(&b, 1000);
    assert_int_equal(json_write_string(&b, in), ERR_OK);
    assert_int_equal(buf_append_u8(&b, 0), ERR_OK);
    assert_string_equal((char *)b.ptr, want);
    buf_fini(&b);
}

static void strings(void **state)
{
    check(SLICE_LIT(""), "\"\"");
    check(SLICE_NULL, "\"\"");
    check(SLICE_LIT("plain /text/"), "\"plain /text/\"");
    check(SLICE_LIT("q\"b\\n\nr\rt\t"), "\"q\\\"b\\\\n\\nr\\rt\\t\"");
    check(SLICE_LIT("\0\1\x1f\x7f"), "\"\\u0000\\u0001\\u001f\x7f\"");
    check(SLICE_LIT("\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80"),
          "\"\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80\"");
}

#define BAD "\xef\xbf\xbd"
static void not_utf8(void **state)
{
    check(SLICE_LIT("a\xff"
                    "b"),
          "\"a" BAD "b\"");
    check(SLICE_LIT("\xc0\xaf"), "\"" BAD BAD "\"");
    check(SLICE_LIT("\xed\xa0\x80"), "\"" BAD BAD BAD "\"");
    check(SLICE_LIT("\xe4\xb8"), "\"" BAD BAD "\"");
}

/* Eight bytes are looked at together: a special one is seen at any place, and no other is taken for
 * it. */
static void any_place(void **state)
{
    static const char plain[] = "!#[]^~\x7f{z Aa09";
    uint8_t in[24], quoted;
    unsigned at, c, i;
    struct buf b;

    buf_init(&b, 200);
    for (c = 0; c < 256; c++) {
        for (at = 0; at < sizeof in; at++) {
            for (i = 0; i < sizeof in; i++)
                in[i] = (uint8_t)plain[i % (sizeof plain - 1)];
            in[at] = (uint8_t)c;
            buf_clear(&b);
            assert_int_equal(json_write_string(&b, slice_of(in, sizeof in)), ERR_OK);
            quoted = c < 0x20 || c == '"' || c == '\\' || c >= 0x80;
            assert_int_equal(b.len > sizeof in + 2, quoted);
            if (!quoted)
                assert_memory_equal(b.ptr + 1, in, sizeof in);
            else
                assert_memory_equal(b.ptr + 1, in, at);
        }
    }
    buf_fini(&b);
}

static void numbers(void **state)
{
    struct buf b;

    buf_init(&b, 1000);
    json_write_i64(&b, 0);
    buf_append_u8(&b, ' ');
    json_write_i64(&b, INT64_MIN);
    buf_append_u8(&b, ' ');
    json_write_i64(&b, INT64_MAX);
    buf_append_u8(&b, ' ');
    json_write_u64(&b, UINT64_MAX);
    buf_append_u8(&b, 0);
    assert_string_equal((char *)b.ptr, "0 -9223372036854775808 9223372036854775807 "
                                       "18446744073709551615");
    buf_fini(&b);
}

static void bytes(void **state)
{
    struct buf b;
    size_t max;

    buf_init(&b, 1000);
    assert_int_equal(json_write_bytes(&b, "k", SLICE_NULL), ERR_OK);
    assert_int_equal(json_write_bytes(&b, "k", SLICE_LIT("")), ERR_OK);
    assert_int_equal(json_write_bytes(&b, "k", SLICE_LIT("a\"\xc3\xa4")), ERR_OK);
    assert_int_equal(json_write_bytes(&b, "k", SLICE_LIT("\xff\0\1")), ERR_OK);
    assert_int_equal(json_write_base64(&b, SLICE_LIT("")), ERR_OK);
    buf_append_u8(&b, 0);
    assert_string_equal((char *)b.ptr, "\"k\":null\"k\":\"\"\"k\":\"a\\\"\xc3\xa4\""
                                       "\"k_base64\":\"/wAB\"\"\"");
    buf_fini(&b);
    for (max = 1; max < 17; max++) {
        buf_init(&b, max);
        assert_int_equal(json_write_bytes(&b, "k", SLICE_LIT("\xff\0\1")), ERR_TOO_LARGE);
        buf_fini(&b);
    }
}

static void max_is_kept(void **state)
{
    struct buf b;
    size_t max;

    for (max = 1; max < 14; max++) {
        buf_init(&b, max);
        assert_int_equal(json_write_string(&b, SLICE_LIT("ab\n\xff\1")), ERR_TOO_LARGE);
        buf_fini(&b);
    }
    buf_init(&b, 3);
    assert_int_equal(json_write_i64(&b, -123), ERR_TOO_LARGE);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings), cmocka_unit_test(not_utf8),    cmocka_unit_test(any_place),
        cmocka_unit_test(numbers), cmocka_unit_test(max_is_kept), cmocka_unit_test(bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
