/* Log lines: quoting, cutting, levels, holding back. */
#include "base/log.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char last[LOG_LINE_MAX];
static enum log_level last_level;
static unsigned lines;
static uint64_t clock_ms;

static void sink(void *arg, enum log_level level, const char *text, size_t len)
{
    assert_int_equal(strlen(text), len);
    assert_ptr_equal(arg, &clock_ms);
    memcpy(last, text, len + 1);
    last_level = level;
    lines++;
}

static uint64_t now(void *arg)
{
    return *(uint64_t *)arg;
}

static int reset(void **state)
{
    last[0] = 0;
    lines = 0;
    clock_ms = 5000;
    return 0;
}

static const struct log log_all = {sink, &clock_ms, now, LOG_DEBUG};

static void formats(void **state)
{
    const struct log *l = &log_all;

    LOG(l, LOG_INFO, "ready");
    assert_string_equal(last, "msg=ready");
    assert_int_equal(last_level, LOG_INFO);
    LOG(l, LOG_WARN, "the disk is full", LOG_STR("dir", "/var/lib/weir"),
        LOG_U64("free", UINT64_MAX), LOG_I64("delta", -5), LOG_HEX("id", 0xabc));
    assert_string_equal(last,
                        "msg=\"the disk is full\" dir=/var/lib/weir free=18446744073709551615 "
                        "delta=-5 id=0000000000000abc");
}

/* What a peer sends cannot end the line, forge a field or reach the terminal's control codes. */
static void hostile_values(void **state)
{
    const struct log *l = &log_all;

    LOG(l, LOG_ERROR, "x", LOG_SLICE("a", SLICE_LIT("p q=\"r\"\n\x1b[31m\\")), LOG_STR("b", ""),
        LOG_SLICE("c", SLICE_NULL), LOG_STR("d", "\xc3\xa9"));
    assert_string_equal(last,
                        "msg=x a=\"p q=\\\"r\\\"\\x0a\\x1b[31m\\\\\" b=\"\" c=null d=\"\xc3\xa9\"");
}

static void cuts(void **state)
{
    const struct log *l = &log_all;
    char longer[3000], out[32];
    size_t n;

    memset(longer, 'y', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    LOG(l, LOG_INFO, "m", LOG_STR("k", longer), LOG_STR("after", "z"));
    assert_string_equal(last, "msg=m k= ...");
    longer[5] = '\n';
    LOG(l, LOG_INFO, "m", LOG_STR("k", longer));
    assert_in_range(strlen(last), LOG_LINE_MAX - 8, LOG_LINE_MAX - 1);
    assert_string_equal(last + strlen(last) - 4, " ...");
    n = log_format(out, sizeof out, "m", &LOG_STR("k", "12345678901234567890"), 1, 0);
    assert_in_range(n, 1, sizeof out - 1);
    assert_int_equal(log_format(out, 1, "m", NULL, 0, 0), 0);
    assert_int_equal(out[0], 0);
    assert_int_equal(log_format(out, 0, "m", NULL, 0, 0), 0);
}

static void levels(void **state)
{
    struct log l = log_all;

    l.level = LOG_WARN;
    LOG(&l, LOG_INFO, "no");
    LOG((struct log *)NULL, LOG_ERROR, "no");
    assert_int_equal(lines, 0);
    LOG(&l, LOG_WARN, "yes");
    LOG(&l, LOG_ERROR, "yes");
    assert_int_equal(lines, 2);
    l.sink = NULL;
    LOG(&l, LOG_ERROR, "no");
    assert_int_equal(lines, 2);
    assert_string_equal(log_level_name(LOG_DEBUG), "debug");
}

static void repeat(const struct log *l)
{
    LOG(l, LOG_WARN, "again");
}

static void holds_back(void **state)
{
    unsigned i;

    for (i = 0; i < 25; i++)
        repeat(&log_all);
    assert_int_equal(lines, LOG_SITE_BURST);
    LOG(&log_all, LOG_WARN, "another site");
    assert_int_equal(lines, LOG_SITE_BURST + 1);
    clock_ms += LOG_SITE_WINDOW_MS;
    repeat(&log_all);
    assert_string_equal(last, "msg=again held_back=15");
    repeat(&log_all);
    assert_string_equal(last, "msg=again");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(formats, reset),    cmocka_unit_test_setup(hostile_values, reset),
        cmocka_unit_test_setup(cuts, reset),       cmocka_unit_test_setup(levels, reset),
        cmocka_unit_test_setup(holds_back, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
