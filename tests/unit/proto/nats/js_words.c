/* What clients say to consumers: acknowledgements, delays, requests for messages. */
#include "proto/nats/js_words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static void test_subjects(void **state)
{
    struct jack_subject a;

    (void)state;
    assert_true(jack_subject_read(SLICE_LIT("2.17.5.1700000000000000000.9"), &a));
    assert_true(a.deliveries == 2 && a.seq == 17 && a.dseq == 5);
    assert_false(jack_subject_read(SLICE_LIT("2.17"), &a));
    assert_false(jack_subject_read(SLICE_LIT("2.x.5.1.9"), &a));
    assert_false(jack_subject_read(SLICE_LIT("2.99999999999999999999.5.1.9"), &a));
    assert_false(jack_subject_read(SLICE_NULL, &a));
}

static void check_body(const char *body, enum jack_what what, int64_t delay_ns, const char *rest)
{
    struct jack_body b;

    jack_body_read(slice_str(body), &b);
    if (b.what != what || b.delay_ns != delay_ns || !slice_eq_str(b.rest, rest))
        fail_msg("%s: %d, %lld", body, (int)b.what, (long long)b.delay_ns);
}

static void test_bodies(void **state)
{
    (void)state;
    check_body("", JACK_ACK, 0, "");
    check_body("+ACK", JACK_ACK, 0, "");
    check_body("+OK", JACK_ACK, 0, "");
    check_body("+ACKS", JACK_NOTHING, 0, "");
    check_body("-NAK", JACK_NAK, 0, "");
    check_body("-NAK {\"delay\": 1500}", JACK_NAK, 1500, "");
    check_body("-NAK {\"delay\": \"soon\"}", JACK_NAK, 0, "");
    check_body("-NAK {\"delay\"", JACK_NAK, 0, "");
    check_body("-NAK 2s", JACK_NAK, 2000000000, "");
    check_body("+WPI", JACK_PROGRESS, 0, "");
    check_body("+NXT {\"batch\":2}", JACK_NEXT, 0, " {\"batch\":2}");
    check_body("+TERM", JACK_TERM, 0, "");
    check_body("+TERM  of no use ", JACK_TERM, 0, "of no use");
    check_body("hello", JACK_NOTHING, 0, "");
}

static void check_duration(const char *text, bool ok, int64_t ns)
{
    int64_t got = 0;
    bool is = jduration_read(slice_str(text), &got);

    if (is != ok || got != ns)
        fail_msg("%s: %d, %lld", text, is, (long long)got);
}

static void test_durations(void **state)
{
    (void)state;
    check_duration("0", true, 0);
    check_duration("1h2m3.5s", true, 3723500000000);
    check_duration("100ms", true, 100000000);
    check_duration("-1us", true, -1000);
    check_duration("2\xc2\xb5s", true, 2000);
    check_duration("", false, 0);
    check_duration("5", false, 0);
    check_duration("s", false, 0);
    check_duration("1s2", false, 0);
    check_duration("99999999999h", false, 0);
}

static void test_pulls(void **state)
{
    char fault[JPULL_FAULT];
    struct jpull_body b;

    (void)state;
    assert_true(jpull_body_read(SLICE_LIT(""), &b, fault) && b.batch == 1);
    assert_true(jpull_body_read(SLICE_LIT(" 25 "), &b, fault) && b.batch == 25);
    assert_true(jpull_body_read(SLICE_LIT("{}"), &b, fault) && b.batch == 1);
    assert_true(jpull_body_read(
        SLICE_LIT("{\"batch\":3,\"max_bytes\":4,\"expires\":50,\"idle_heartbeat\":25,"
                  "\"no_wait\":true,\"group\":\"A\",\"id\":\"x\",\"min_pending\":7,"
                  "\"min_ack_pending\":8,\"priority\":9}"),
        &b, fault));
    assert_true(b.batch == 3 && b.max_bytes == 4 && b.expires_ns == 50 && b.heartbeat_ns == 25);
    assert_true(b.no_wait && b.min_pending == 7 && b.min_ack_pending == 8 && b.priority == 9);
    assert_string_equal(b.group, "A");
    assert_string_equal(b.id, "x");
    assert_false(jpull_body_read(SLICE_LIT("{\"expires\":50,\"idle_heartbeat\":26}"), &b, fault));
    assert_string_equal(fault, "Bad Request - heartbeat value too large");
    assert_false(jpull_body_read(SLICE_LIT("{\"batch\":\"many\"}"), &b, fault));
    assert_false(jpull_body_read(SLICE_LIT("{\"batch\""), &b, fault));
    assert_false(jpull_body_read(SLICE_LIT("{\"no_wait\":1}"), &b, fault));
    assert_false(jpull_body_read(
        SLICE_LIT(
            "{\"group\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}"),
        &b, fault));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subjects),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_pulls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
