/* Time zones: files made here, as the tz database has them. */
#include "base/tz.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/timefmt.h"

static void header(struct buf *b, uint32_t times, uint32_t types, uint32_t chars)
{
    unsigned i;

    buf_append(b, "TZif2", 5);
    for (i = 0; i < 15; i++)
        buf_append_u8(b, 0);
    buf_append_be32(b, 0);
    buf_append_be32(b, 0);
    buf_append_be32(b, 0);
    buf_append_be32(b, times);
    buf_append_be32(b, types);
    buf_append_be32(b, chars);
}

/* An old part with nothing in it, then times (each with the type of its number), offsets, a rule. */
static void file(struct buf *b, const int64_t *times, uint32_t n, const int32_t *offsets,
                 uint32_t types, const char *rule)
{
    uint32_t i;

    header(b, 0, 1, 1);
    buf_append(b, "\0\0\0\0\0\0", 7);
    header(b, n, types, 1);
    for (i = 0; i < n; i++)
        buf_append_be64(b, (uint64_t)times[i]);
    for (i = 0; i < n; i++)
        buf_append_u8(b, (uint8_t)(i + 1));
    for (i = 0; i < types; i++) {
        buf_append_be32(b, (uint32_t)offsets[i]);
        buf_append_u8(b, 0);
        buf_append_u8(b, 0);
    }
    buf_append_u8(b, 0);
    buf_printf(b, "\n%s\n", rule);
}

static struct tz *zone(const char *rule)
{
    static const int64_t times[] = {-1000, 1000};
    static const int32_t offsets[] = {60, 120, 7200};
    struct tz *z;
    struct buf b;

    buf_init(&b, 4096);
    file(&b, times, 2, offsets, 3, rule);
    assert_int_equal(tz_new(buf_slice(&b), &z), ERR_OK);
    buf_fini(&b);
    return z;
}

static int64_t at(const char *text)
{
    int64_t ms;

    assert_true(time_parse(slice_str(text), &ms));
    return ms / 1000;
}

static void check(const struct tz *z, const char *text, int32_t offset)
{
    if (tz_offset_s(z, at(text)) != offset)
        fail_msg("%s: %d", text, tz_offset_s(z, at(text)));
}

static void test_times(void **state)
{
    struct tz *z = zone("");

    (void)state;
    assert_int_equal(tz_offset_s(NULL, 5), 0);
    assert_int_equal(tz_offset_s(z, -1001), 60);
    assert_int_equal(tz_offset_s(z, -1000), 120);
    assert_int_equal(tz_offset_s(z, 999), 120);
    assert_int_equal(tz_offset_s(z, 1000), 7200);
    assert_int_equal(tz_offset_s(z, INT64_C(1) << 40), 7200);
    tz_free(&z);
}

static void test_rules(void **state)
{
    struct tz *z = zone("CET-1CEST,M3.5.0,M10.5.0/3");

    (void)state;
    check(z, "2026-03-29T00:59:59Z", 3600);
    check(z, "2026-03-29T01:00:00Z", 7200);
    check(z, "2026-10-25T00:59:59Z", 7200);
    check(z, "2026-10-25T01:00:00Z", 3600);
    check(z, "2040-07-01T00:00:00Z", 7200);
    tz_free(&z);
    z = zone("AEST-10AEDT,M10.1.0,M4.1.0/3"); /* south: summer is over the new year */
    check(z, "2026-01-01T00:00:00Z", 39600);
    check(z, "2026-04-04T15:59:59Z", 39600);
    check(z, "2026-04-04T16:00:00Z", 36000);
    check(z, "2026-10-03T16:00:00Z", 39600);
    tz_free(&z);
    z = zone("<+0330>-3:30");
    check(z, "2026-01-01T00:00:00Z", 12600);
    tz_free(&z);
    z = zone("<-02>2<-01>,M3.5.0/-1,M10.5.0/0");
    check(z, "2026-03-29T00:59:59Z", -7200);
    check(z, "2026-03-29T01:00:00Z", -3600);
    tz_free(&z);
    z = zone("XXX3YYY2,J60/0,300/0");
    check(z, "2024-03-01T02:59:59Z", -10800);
    check(z, "2024-03-01T03:00:00Z", -7200);
    check(z, "2024-10-27T01:59:59Z", -7200);
    check(z, "2024-10-27T02:00:00Z", -10800);
    tz_free(&z);
}

static void test_local(void **state)
{
    struct tz *z = zone("CET-1CEST,M3.5.0,M10.5.0/3");

    (void)state;
    assert_int_equal(tz_from_local(NULL, 77), 77);
    assert_int_equal(tz_from_local(z, at("2026-01-01T12:00:00Z")), at("2026-01-01T11:00:00Z"));
    assert_int_equal(tz_from_local(z, at("2026-03-29T00:00:00Z")), at("2026-03-28T23:00:00Z"));
    assert_int_equal(tz_from_local(z, at("2026-03-29T02:30:00Z")), at("2026-03-29T01:30:00Z"));
    assert_int_equal(tz_from_local(z, at("2026-03-29T12:00:00Z")), at("2026-03-29T10:00:00Z"));
    assert_int_equal(tz_from_local(z, at("2026-10-25T02:30:00Z")), at("2026-10-25T00:30:00Z"));
    assert_int_equal(tz_from_local(z, at("2026-10-25T12:00:00Z")), at("2026-10-25T11:00:00Z"));
    tz_free(&z);
}

static void test_damage(void **state)
{
    static const int64_t times[] = {-1000, 1000}, turned[] = {1000, -1000};
    static const int32_t offsets[] = {60, 120, 7200}, far[] = {0, 0, 999999};
    static const char *const rules[] = {"C-1",
                                        "CET",
                                        "CET-1CEST,M3.5.0",
                                        "CET-1CEST,M13.5.0,M10.5.0",
                                        "CET-1CEST,M3.6.0,M10.5.0",
                                        "<CET-1",
                                        "CET-27",
                                        "CET-1CEST-90,M3.5.0,M10.5.0",
                                        "CET-1CEST,M3.5.0,M10.5.0/3x"};
    struct tz *z;
    struct buf b;
    size_t i;

    (void)state;
    buf_init(&b, 4096);
    file(&b, times, 2, offsets, 3, "CET-1CEST,M3.5.0,M10.5.0/3");
    for (i = 0; i < b.len; i++)
        assert_int_equal(tz_new(slice_of(b.ptr, i), &z), ERR_CORRUPT);
    for (i = 0; i < sizeof rules / sizeof *rules; i++) {
        buf_clear(&b);
        file(&b, times, 2, offsets, 3, rules[i]);
        assert_int_equal(tz_new(buf_slice(&b), &z), ERR_CORRUPT);
    }
    buf_clear(&b);
    file(&b, turned, 2, offsets, 3, "");
    assert_int_equal(tz_new(buf_slice(&b), &z), ERR_CORRUPT);
    buf_clear(&b);
    file(&b, times, 2, far, 3, "");
    assert_int_equal(tz_new(buf_slice(&b), &z), ERR_CORRUPT);
    buf_clear(&b);
    file(&b, times, 2, offsets, 2, ""); /* a type that is not there */
    assert_int_equal(tz_new(buf_slice(&b), &z), ERR_CORRUPT);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_times), cmocka_unit_test(test_rules),
                                       cmocka_unit_test(test_local), cmocka_unit_test(test_damage)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
