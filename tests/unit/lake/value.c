/* Iceberg's values: the hash vectors of the specification, binary forms there and back, order, bounds
 * that hold for every string between them. */
#include "lake/value.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SECONDS(h, m, s) ((int64_t)(h)*3600 + (m)*60 + (s))
#define DAY              17486 /* 2017-11-16 */

static struct ice_value of_int(int64_t i)
{
    return (struct ice_value){.i = i};
}

static struct ice_value of_bytes(const void *p, size_t n)
{
    return (struct ice_value){.bytes = slice_of(p, n)};
}

/* Iceberg specification, appendix B. */
static void hashes(void **state)
{
    static const uint8_t uuid[16] = {0xf7, 0x9c, 0x3e, 0x09, 0x67, 0x7c, 0x4b, 0xbd,
                                     0xa4, 0x79, 0x3f, 0x34, 0x9c, 0xb7, 0x85, 0xe7};
    int64_t stamp = (DAY * 86400ll + SECONDS(22, 31, 8)) * 1000000;
    const struct {
        enum ice_kind kind;
        struct ice_value v;
        int32_t want;
    } rows[] = {
        {ICE_INT, of_int(34), 2017239379},
        {ICE_LONG, of_int(34), 2017239379},
        {ICE_DECIMAL, of_bytes("\x05\x8c", 2), -500754589},
        {ICE_DECIMAL, of_bytes("\x00\x00\x05\x8c", 4), -500754589},
        {ICE_DATE, of_int(DAY), -653330422},
        {ICE_TIME, of_int(SECONDS(22, 31, 8) * 1000000), -662762989},
        {ICE_TIMESTAMP, of_int(stamp), -2047944441},
        {ICE_TIMESTAMP, of_int(stamp + 1), -1207196810},
        {ICE_TIMESTAMPTZ, of_int(stamp), -2047944441},
        {ICE_TIMESTAMPTZ, of_int(stamp + 1), -1207196810},
        {ICE_TIMESTAMP_NS, of_int((stamp + 1) * 1000 + 1), -1207196810},
        {ICE_STRING, of_bytes("iceberg", 7), 1210000089},
        {ICE_UUID, of_bytes(uuid, 16), 1488055340},
        {ICE_FIXED, of_bytes("\0\1\2\3", 4), -188683207},
        {ICE_BINARY, of_bytes("\0\1\2\3", 4), -188683207},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(
            (int32_t)ice_value_hash((struct ice_type){.kind = rows[i].kind}, &rows[i].v),
            rows[i].want);
    assert_false(ice_value_hashes(ICE_DOUBLE));
    assert_false(ice_value_hashes(ICE_STRUCT));
}

static void type_names(void **state)
{
    static const char *const good[] = {
        "boolean",   "int",    "long",         "float",          "double",        "decimal(9, 2)",
        "date",      "time",   "timestamp",    "timestamptz",    "string",        "uuid",
        "fixed[16]", "binary", "timestamp_ns", "timestamptz_ns", "decimal(38, 0)"};
    static const char *const bad[] = {
        "",           "Long",          "struct",       "list",         "decimal",
        "decimal(9)", "decimal(39,1)", "decimal(2,3)", "fixed[]",      "fixed[16",
        "fixed[16]x", "varchar",       "fixed[x]",     "decimal(0,0)", "fixed[99999999999]"};
    char text[ICE_TYPE_TEXT];
    struct ice_type t;

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(ice_type_parse(slice_str(good[i]), &t));
        ice_type_text(t, text);
        assert_string_equal(text, good[i]);
    }
    assert_true(ice_type_parse(SLICE_LIT("decimal(9,2)"), &t));
    assert_int_equal(t.scale, 2);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(ice_type_parse(slice_str(bad[i]), &t));
}

static void promotion(void **state)
{
    static const struct {
        const char *from, *to;
        bool may;
    } rows[] = {{"int", "long", true},
                {"float", "double", true},
                {"long", "int", false},
                {"long", "double", false},
                {"int", "string", false},
                {"date", "timestamp", false},
                {"int", "int", false},
                {"decimal(9,2)", "decimal(12,2)", true},
                {"decimal(9,2)", "decimal(12,3)", false}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ice_type a, b;

        assert_true(ice_type_parse(slice_str(rows[i].from), &a));
        assert_true(ice_type_parse(slice_str(rows[i].to), &b));
        assert_int_equal(ice_type_promotes(a, b), rows[i].may);
    }
}

static void binary_form(void **state)
{
    static const struct {
        enum ice_kind kind;
        int64_t i;
        double d;
        const char *bytes;
        size_t n;
    } rows[] = {
        {ICE_BOOLEAN, 1, 0, "\1", 1},
        {ICE_BOOLEAN, 0, 0, "\0", 1},
        {ICE_INT, -2, 0, "\xfe\xff\xff\xff", 4},
        {ICE_LONG, 1, 0, "\1\0\0\0\0\0\0\0", 8},
        {ICE_FLOAT, 0, 1.5, "\0\0\xc0\x3f", 4},
        {ICE_DOUBLE, 0, -2.0, "\0\0\0\0\0\0\0\xc0", 8},
        {ICE_DATE, 17486, 0, "\x4e\x44\0\0", 4},
        {ICE_TIMESTAMPTZ, 1000000, 0, "\x40\x42\x0f\0\0\0\0\0", 8},
    };
    struct buf b;

    buf_init(&b, 1024);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ice_type t = {.kind = rows[i].kind};
        struct ice_value v = {.i = rows[i].i, .d = rows[i].d}, back;

        buf_clear(&b);
        assert_int_equal(ice_value_write(t, &v, &b), ERR_OK);
        assert_int_equal(b.len, rows[i].n);
        assert_memory_equal(b.ptr, rows[i].bytes, b.len);
        assert_true(ice_value_read(t, buf_slice(&b), &back));
        assert_int_equal(ice_value_compare(t, &v, &back), 0);
        assert_false(ice_value_read(t, slice_of(b.ptr, b.len - 1), &back));
    }
    buf_fini(&b);
    struct ice_value v;

    assert_true(
        ice_value_read((struct ice_type){.kind = ICE_LONG}, SLICE_LIT("\xff\xff\xff\xff"), &v));
    assert_int_equal(v.i, -1); /* written as an int */
    assert_true(
        ice_value_read((struct ice_type){.kind = ICE_DOUBLE}, SLICE_LIT("\0\0\xc0\x3f"), &v));
    assert_true(v.d == 1.5);
}

static void order(void **state)
{
    struct ice_type d = {.kind = ICE_DOUBLE}, dec = {.kind = ICE_DECIMAL}, s = {.kind = ICE_STRING};
    static const double up[] = {-INFINITY, -1, -0.0, 0.0, 1, INFINITY, NAN};
    const struct ice_value decs[] = {of_bytes("\x80", 1), of_bytes("\xff\x7f", 2),
                                     of_bytes("\xff", 1), of_bytes("\0", 1),
                                     of_bytes("\x7f", 1), of_bytes("\0\x80", 2)};

    for (size_t i = 0; i + 1 < sizeof up / sizeof up[0]; i++) {
        struct ice_value a = {.d = up[i]}, b = {.d = up[i + 1]};

        assert_true(ice_value_compare(d, &a, &b) < 0);
        assert_true(ice_value_compare(d, &b, &a) > 0);
        assert_int_equal(ice_value_compare(d, &a, &a), 0);
    }
    assert_true(ice_value_compare(dec, &decs[1], &decs[0]) < 0); /* -129 < -128 */
    for (size_t i = 2; i + 1 < sizeof decs / sizeof decs[0]; i++)
        assert_true(ice_value_compare(dec, &decs[i], &decs[i + 1]) < 0);
    struct ice_value a = of_bytes("a", 1), ab = of_bytes("ab", 2), e = of_bytes("\xc3\xa9", 2);

    assert_true(ice_value_compare(s, &a, &ab) < 0);
    assert_true(ice_value_compare(s, &ab, &e) < 0);
}

/* The bounds of a value, as values; *some_high: there is an upper one. */
static void bounds_of(struct ice_type t, const struct ice_value *v, struct buf *lo, struct buf *hi,
                      bool *some_high)
{
    bool some;

    buf_clear(lo);
    buf_clear(hi);
    assert_int_equal(ice_bound_lower(t, v, lo, &some), ERR_OK);
    assert_true(some);
    assert_int_equal(ice_bound_upper(t, v, hi, some_high), ERR_OK);
}

static void bounds_examples(void **state)
{
    struct ice_type s = {.kind = ICE_STRING}, b = {.kind = ICE_BINARY}, d = {.kind = ICE_DOUBLE};
    struct buf lo, hi;
    struct ice_value v;
    bool some;

    buf_init(&lo, 1024);
    buf_init(&hi, 1024);
    v = of_bytes("0123456789abcdefghij", 20);
    bounds_of(s, &v, &lo, &hi, &some);
    assert_true(some && slice_eq_str(buf_slice(&lo), "0123456789abcdef"));
    assert_true(slice_eq_str(buf_slice(&hi), "0123456789abcdeg"));
    v = of_bytes("0123456789abcdef", 16); /* as long as may be: exact */
    bounds_of(s, &v, &lo, &hi, &some);
    assert_true(some && slice_eq(buf_slice(&lo), buf_slice(&hi)));
    v = of_bytes("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\1", 17);
    bounds_of(b, &v, &lo, &hi, &some);
    assert_false(some);
    assert_int_equal(hi.len, 0);
    v = of_bytes("\1\2\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\1", 17);
    bounds_of(b, &v, &lo, &hi, &some);
    assert_true(some && hi.len == 2);
    assert_memory_equal(hi.ptr, "\1\3", 2);
    v = of_bytes("aaaaaaaaaaaaaaa\xed\x9f\xbfz", 19); /* U+D7FF: the next is U+E000 */
    bounds_of(s, &v, &lo, &hi, &some);
    assert_true(some && hi.len == 18);
    assert_memory_equal(hi.ptr + 15, "\xee\x80\x80", 3);
    v = of_bytes("aaaaaaaaaaaaaaa\xf4\x8f\xbf\xbfz", 20); /* the last character there is */
    bounds_of(s, &v, &lo, &hi, &some);
    assert_true(some && slice_eq_str(buf_slice(&hi), "aaaaaaaaaaaaaab"));
    v = (struct ice_value){.d = NAN};
    assert_int_equal(ice_bound_upper(d, &v, &hi, &some), ERR_OK);
    assert_false(some);
    buf_fini(&lo);
    buf_fini(&hi);
}

/* Bounds enclose the value, are valid text, and are short: for many random values. */
static void bounds_enclose(void **state)
{
    static const char *const pieces[] = {"a",
                                         "z",
                                         "\x7f",
                                         "\xc3\xa9",
                                         "\xed\x9f\xbf",
                                         "\xef\xbf\xbf",
                                         "\xf4\x8f\xbf\xbf",
                                         "\xf0\x90\x80\x80"};
    struct buf lo, hi;
    unsigned seed = 7;

    buf_init(&lo, 1024);
    buf_init(&hi, 1024);
    for (int round = 0; round < 20000; round++) {
        struct ice_type t = {.kind = round & 1 ? ICE_STRING : ICE_BINARY};
        char text[256];
        size_t n = 0, want = (size_t)rand_r(&seed) % 40;
        struct ice_value v, l, h;
        bool some;

        for (size_t i = 0; i < want; i++) {
            const char *p = pieces[(unsigned)rand_r(&seed) % 8];

            if (t.kind == ICE_BINARY)
                text[n++] = (char)(rand_r(&seed) % 3 ? 0xff : rand_r(&seed));
            else
                for (; *p; p++)
                    text[n++] = *p;
        }
        v = of_bytes(text, n);
        bounds_of(t, &v, &lo, &hi, &some);
        l = of_bytes(lo.ptr, lo.len);
        h = of_bytes(hi.ptr, hi.len);
        assert_true(ice_value_compare(t, &l, &v) <= 0);
        assert_true(!some || ice_value_compare(t, &v, &h) <= 0);
        assert_true(some || n > ICE_BOUND_LEN);
        if (t.kind == ICE_STRING)
            assert_true(utf8_valid(buf_slice(&lo)) && utf8_valid(buf_slice(&hi)));
        else
            assert_true(lo.len <= ICE_BOUND_LEN && hi.len <= ICE_BOUND_LEN);
    }
    buf_fini(&lo);
    buf_fini(&hi);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes),         cmocka_unit_test(type_names),
        cmocka_unit_test(promotion),      cmocka_unit_test(binary_form),
        cmocka_unit_test(order),          cmocka_unit_test(bounds_examples),
        cmocka_unit_test(bounds_enclose),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
