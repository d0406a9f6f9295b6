/* When scheduled messages are due: what nats-server's patterns mean. */
#include "proto/nats/js_cron.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/buf.h"
#include "proto/nats/js_conf.h"

static int64_t at(const char *text)
{
    int64_t ns;

    assert_true(jtime_read(slice_str(text), &ns));
    return ns;
}

static void check_in(const struct tz *z, const char *pattern, const char *from, const char *now,
                     const char *want)
{
    char text[JCRON_TIME_LEN + 1] = "none";
    struct jcron c;

    if (jcron_next(slice_str(pattern), z, z, at(from), at(now), &c))
        jcron_time(c.ns, z, text);
    if (strcmp(text, want) != 0)
        fail_msg("%s after %s: %s, not %s", pattern, from, text, want);
}

static void check(const char *pattern, const char *from, const char *want)
{
    check_in(NULL, pattern, from, from, want);
}

static void test_once(void **state)
{
    struct jcron c;

    (void)state;
    check("@at 2026-05-06T07:08:09Z", "2026-01-01T00:00:00Z", "2026-05-06T07:08:09Z");
    check("@at 2026-05-06T07:08:09+02:00", "2027-01-01T00:00:00Z", "2026-05-06T05:08:09Z");
    check("@at 2026-05-06T07:08:09", "2026-01-01T00:00:00Z", "none");
    check("@at 2026-05-06", "2026-01-01T00:00:00Z", "none");
    check("@at tomorrow", "2026-01-01T00:00:00Z", "none");
    assert_true(jcron_next(SLICE_LIT("@at 2026-05-06T07:08:09.25Z"), false, NULL, 0, 0, &c));
    assert_true(!c.repeat && c.ns == at("2026-05-06T07:08:09.25Z"));
    assert_false(jcron_next(SLICE_LIT("@at 2026-05-06T07:08:09Z"), true, NULL, 0, 0, &c));
}

static void test_every(void **state)
{
    struct jcron c;

    (void)state;
    check("@every 1s", "2026-01-01T00:00:00.4Z", "2026-01-01T00:00:01Z");
    check("@every 90s", "2026-01-01T00:00:00.5Z", "2026-01-01T00:01:31Z");
    check_in(NULL, "@every 1m", "2026-01-01T00:00:00Z", "2026-01-01T05:00:30Z",
             "2026-01-01T05:01:30Z");
    check("@every 999ms", "2026-01-01T00:00:00Z", "none");
    check("@every", "2026-01-01T00:00:00Z", "none");
    check("@every 5", "2026-01-01T00:00:00Z", "none");
    check("@every 2562047h", "2026-01-01T00:00:00Z", "none");
    assert_true(jcron_next(SLICE_LIT("@every 5s"), false, NULL, 0, 0, &c) && c.repeat);
    assert_false(jcron_next(SLICE_LIT("@every 5s"), true, NULL, 0, 0, &c));
}

static void test_cron(void **state)
{
    (void)state;
    check("* * * * * *", "2026-01-01T00:00:00.9Z", "2026-01-01T00:00:01Z");
    check("0 30 14 * * *", "2026-01-01T14:30:00Z", "2026-01-02T14:30:00Z");
    check("0 0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z");
    check("0 0 0 30 2 *", "2026-01-01T00:00:00Z", "none");
    check("*/15 * * * * *", "2026-01-01T00:00:31Z", "2026-01-01T00:00:45Z");
    check("50/5 * * * * ?", "2026-01-01T00:00:00Z", "2026-01-01T00:00:50Z");
    check("0 0 9-17/4 * * *", "2026-01-01T10:00:00Z", "2026-01-01T13:00:00Z");
    check("0 5,10 * * * *", "2026-01-01T00:05:00Z", "2026-01-01T00:10:00Z");
    check("0 0 0 * jan-MAR mon", "2026-04-01T00:00:00Z", "2027-01-04T00:00:00Z");
    check("0 0 0 13 * fri", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"); /* either */
    check("0 0 0 13 * *", "2026-01-01T00:00:00Z", "2026-01-13T00:00:00Z");
    check("@hourly", "2026-12-31T23:10:00Z", "2027-01-01T00:00:00Z");
    check("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
    check("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z");
    check("0 0 0 1 5 *", "2262-01-01T00:00:00Z", "none"); /* no nanoseconds can tell it */
    check("@daily", "2262-04-11T23:47:16.854775807Z", "none");
    check("@hourly", "2262-04-11T22:00:00Z", "2262-04-11T23:00:00Z");
    check_in(NULL, "0 0 * * * *", "2026-01-01T00:00:00Z", "2026-01-03T07:20:00Z",
             "2026-01-03T08:00:00Z");
}

static void test_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "* * * * *",
                                      "* * * * * * *",
                                      "60 * * * * *",
                                      "* * 24 * * *",
                                      "* * * 0 * *",
                                      "* * * * 13 *",
                                      "* * * * * 7",
                                      "5-1 * * * * *",
                                      "1-2-3 * * * * *",
                                      "*/0 * * * * *",
                                      "1/2/3 * * * * *",
                                      "-1 * * * * *",
                                      "x * * * * *",
                                      "* * * * * monday",
                                      "1/ * * * * *",
                                      "@fortnightly",
                                      ", * * * * *", /* also quickly */
                                      "* , * * * *",
                                      "* * ,, * * *",
                                      "* * * , * *",
                                      "* * * * , *",
                                      "99999999999 * * * * *"};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        check(bad[i], "2026-01-01T00:00:00Z", "none");
}

/* A file without times, whose rule is Central Europe's. */
static struct tz *europe(void)
{
    struct tz *z;
    struct buf b;
    int i, j;

    buf_init(&b, 1024);
    for (i = 0; i < 2; i++) {
        buf_append_str(&b, "TZif2");
        for (j = 0; j < 31; j++)
            buf_append_u8(&b, 0);
        buf_append_be32(&b, 1);
        buf_append_be32(&b, 1);
        buf_append(&b, "\0\0\0\0\0\0", 7);
    }
    buf_append_str(&b, "\nCET-1CEST,M3.5.0,M10.5.0/3\n");
    assert_int_equal(tz_new(buf_slice(&b), &z), ERR_OK);
    buf_fini(&b);
    return z;
}

static void test_zones(void **state)
{
    struct tz *z = europe();

    (void)state;
    check_in(z, "0 30 14 * * *", "2026-01-01T14:00:00Z", "2026-01-01T14:00:00Z",
             "2026-01-02T14:30:00+01:00");
    check_in(z, "0 0 0 * 7 *", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z",
             "2026-07-01T00:00:00+02:00");
    check_in(z, "0 30 2 * * *", "2026-03-29T00:00:00Z", "2026-03-29T00:00:00Z",
             "2026-03-30T02:30:00+02:00"); /* that night has no such time */
    check_in(z, "0 30 2 * * *", "2026-10-25T00:00:00Z", "2026-10-25T00:00:00Z",
             "2026-10-25T02:30:00+02:00"); /* that one has two */
    check_in(z, "0 30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-25T00:30:00Z",
             "2026-10-25T02:30:00+01:00");
    tz_free(&z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_once), cmocka_unit_test(test_every),
                                       cmocka_unit_test(test_cron), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_zones)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
