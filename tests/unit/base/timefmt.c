/* RFC 3339 times there and back; what is not a time. */
#include "base/timefmt.h"

#include <string.h>
#include <time.h>

#include "../vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void formats(void **state)
{
    char t[TIME_TEXT_LEN + 1];

    assert_int_equal(time_format(0, t), TIME_TEXT_LEN);
    assert_string_equal(t, "1970-01-01T00:00:00.000Z");
    time_format(1700000000123, t);
    assert_string_equal(t, "2023-11-14T22:13:20.123Z");
    time_format(-1, t);
    assert_string_equal(t, "1969-12-31T23:59:59.999Z");
    time_format(951782400000, t);
    assert_string_equal(t, "2000-02-29T00:00:00.000Z");
    time_format(INT64_MAX, t);
    assert_string_equal(t, "9999-12-31T23:59:59.999Z");
    time_format(INT64_MIN, t);
    assert_string_equal(t, "0000-01-01T00:00:00.000Z");
}

static void microseconds(void **state)
{
    assert_true(time_us(1700000000123) == 1700000000123000 && time_us(-1) == -1000);
    assert_true(time_us(9223372036854775) == 9223372036854775000);
    assert_true(time_us(9223372036854776) == 9223372036854775000);
    assert_true(time_us(INT64_MAX) == 9223372036854775000);
    assert_true(time_us(-9223372022400000) == -9223372022400000000);
    assert_true(time_us(-9223372022400001) == -9223372022400000000);
    assert_true(time_us(INT64_MIN) == -9223372022400000000);
}

static void parses(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } rows[] = {{"1970-01-01T00:00:00Z", 0},
                {"1970-01-01", 0},
                {"2023-11-14T22:13:20.123Z", 1700000000123},
                {"2023-11-14t22:13:20.123z", 1700000000123},
                {"2023-11-14 22:13:20.123Z", 1700000000123},
                {"2023-11-14T22:13:20.1234567891Z", 1700000000123},
                {"2023-11-14T22:13:20.1Z", 1700000000100},
                {"2023-11-15T00:13:20.123+02:00", 1700000000123},
                {"2023-11-14T16:43:20.123-05:30", 1700000000123},
                {"1969-12-31T23:59:59.999Z", -1},
                {"2016-12-31T23:59:60Z", 1483228800000},
                {"0000-02-29T00:00:00Z", -62162121600000},
                {"9999-12-31T23:59:59.999Z", 253402300799999}};
    size_t i;
    int64_t ms;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!time_parse(slice_str(rows[i].text), &ms))
            fail_msg("%s was refused", rows[i].text);
        assert_true(ms == rows[i].ms);
    }
}

static void refuses(void **state)
{
    static const char *const rows[] = {"",
                                       "2023",
                                       "2023-11",
                                       "2023-13-01",
                                       "2023-00-01",
                                       "2023-11-31",
                                       "2023-02-29",
                                       "1900-02-29",
                                       "2023-11-14T",
                                       "2023-11-14T22",
                                       "2023-11-14T22:13",
                                       "2023-11-14T24:00:00Z",
                                       "2023-11-14T22:60:00Z",
                                       "2023-11-14T22:13:61Z",
                                       "2023-11-14T22:13:20.Z",
                                       "2023-11-14T22:13:20Zx",
                                       "2023-11-14T22:13:20+2:00",
                                       "2023-11-14T22:13:20+0200",
                                       "2023-11-14T22:13:20+24:00",
                                       "+023-11-14",
                                       "2023-1-14",
                                       "2023-11-14X22:13:20Z",
                                       " 2023-11-14",
                                       "2023-11-14 ",
                                       "1700000000",
                                       "2023-11-14T22:13:20 Z"};
    size_t i;
    int64_t ms;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (time_parse(slice_str(rows[i]), &ms))
            fail_msg("%s was accepted", rows[i]);
    assert_false(time_parse(SLICE_NULL, &ms));
}

/* Random times agree with the C library's calendar and come back unchanged. */
static void there_and_back(void **state)
{
    uint64_t seed = test_seed();
    char t[TIME_TEXT_LEN + 1], want[96];
    int i;

    for (i = 0; i < 20000; i++) {
        int64_t ms = (int64_t)test_below(&seed, 315569519999999ull) - 62167219200000ll, back;
        time_t s = (time_t)((ms - (ms % 1000 + 1000) % 1000) / 1000);
        struct tm tm;

        assert_non_null(gmtime_r(&s, &tm));
        snprintf(want, sizeof want, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
                 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                 (int)((ms % 1000 + 1000) % 1000));
        time_format(ms, t);
        assert_string_equal(t, want);
        assert_true(time_parse(slice_str(t), &back));
        assert_true(back == ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats), cmocka_unit_test(microseconds),   cmocka_unit_test(parses),
        cmocka_unit_test(refuses), cmocka_unit_test(there_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
