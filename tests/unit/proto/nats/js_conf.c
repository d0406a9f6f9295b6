/* Configurations of streams and consumers: fields, defaults, what is refused and with which number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <string.h>

#include "proto/nats/js_conf.h"

static json_t *parse(const char *text)
{
    json_error_t e;
    json_t *o = json_loads(text, JSON_ALLOW_NUL, &e);

    if (!o)
        fail_msg("%s: %s", text, e.text);
    return o;
}

/* The error of a stream's configuration; JSE_NONE: there is none. */
static enum js_error stream_error(const char *text, struct jstream_conf *c, bool pedantic)
{
    struct js_fault f = {JSE_NONE, ""};
    json_t *o = parse(text);

    if (!jstream_conf_read(c, o, false, &f))
        memset(c, 0, sizeof(*c));
    else if (!jstream_conf_check(c, pedantic, &f))
        jstream_conf_fini(c);
    json_decref(o);
    return f.e;
}

static void check_stream(const char *text, enum js_error e)
{
    struct jstream_conf c;
    enum js_error got = stream_error(text, &c, false);

    if (got != e)
        fail_msg("%s: %d, not %d", text, (int)got, (int)e);
    jstream_conf_fini(&c);
}

static enum js_error consumer_error(const char *text, const char *stream, struct jconsumer_conf *c)
{
    struct js_fault f = {JSE_NONE, ""};
    struct jstream_conf s;
    json_t *o = parse(text);

    assert_int_equal(stream_error(stream, &s, false), JSE_NONE);
    if (!jconsumer_conf_read(c, o, false, &f))
        memset(c, 0, sizeof(*c));
    else if (!jconsumer_conf_check(c, &s, false, &f))
        jconsumer_conf_fini(c);
    json_decref(o);
    jstream_conf_fini(&s);
    return f.e;
}

static void check_consumer_of(const char *stream, const char *text, enum js_error e)
{
    struct jconsumer_conf c;
    enum js_error got = consumer_error(text, stream, &c);

    if (got != e)
        fail_msg("%s: %d, not %d", text, (int)got, (int)e);
    jconsumer_conf_fini(&c);
}

static void check_consumer(const char *text, enum js_error e)
{
    check_consumer_of("{\"name\":\"S\",\"subjects\":[\"a.>\"]}", text, e);
}

static void test_errors(void **state)
{
    struct js_fault f;

    (void)state;
    assert_int_equal(JSE_CONSUMER_NOT_FOUND, 10014);
    assert_int_equal(js_error_code(JSE_CONSUMER_NOT_FOUND), 404);
    assert_false(js_fault_set(&f, JSE_STREAM_WRONG_LAST_SEQUENCE, "%d", 17));
    assert_string_equal(f.text, "wrong last sequence: 17");
    assert_false(js_fault_set(&f, JSE_CONSUMER_BAD_DURABLE_NAME, NULL));
    assert_string_equal(f.text, "durable name can not contain '.', '*', '>'");
    assert_false(js_fault_set(&f, JSE_STREAM_EXTERNAL_API_OVERLAP, "%s", "x"));
    assert_int_equal(f.e, 10021);
}

static void check_time(const char *text, int64_t ns, const char *again)
{
    char out[JTIME_TEXT_LEN + 1];
    int64_t got;

    assert_true(jtime_read(slice_str(text), &got));
    assert_true(got == ns);
    jtime_text(got, out);
    assert_string_equal(out, again);
}

static void test_times(void **state)
{
    int64_t ns;

    (void)state;
    check_time("1970-01-01T00:00:01.123456789Z", 1123456789, "1970-01-01T00:00:01.123456789Z");
    check_time("2026-01-02T03:04:05.6+01:00", 1767319445600000000,
               "2026-01-02T02:04:05.600000000Z");
    check_time("1950-01-01T00:00:00Z", 0, "1970-01-01T00:00:00.000000000Z");
    assert_true(jtime_read(SLICE_LIT("9999-01-01T00:00:00Z"), &ns));
    assert_true(ns == INT64_MAX);
    assert_false(jtime_read(SLICE_LIT("yesterday"), &ns));
    assert_true(jtime_ns(1767319445600) == 1767319445600000000 && jtime_ns(-1) == -1000000);
    assert_true(jtime_ns(INT64_MAX) == INT64_MAX && jtime_ns(INT64_MIN) == -INT64_MAX);
}

static void test_names(void **state)
{
    (void)state;
    assert_true(jname_valid(SLICE_LIT("a-B_1\xc3\xa9")));
    assert_false(jname_valid(SLICE_LIT("")) || jname_valid(SLICE_LIT("a.b")));
    assert_false(jname_valid(SLICE_LIT("\xff")) || jname_valid(SLICE_LIT("a\xc3")));
}

static void test_stream_defaults(void **state)
{
    struct jstream_conf c, d;
    json_t *o;

    (void)state;
    assert_int_equal(
        stream_error("{\"name\":\"S\",\"max_age\":1000000000,\"metadata\":{\"a\":\"b\"},"
                     "\"description\":null,\"unknown\":[1]}",
                     &c, false),
        JSE_NONE);
    assert_int_equal(c.subjects.n, 1);
    assert_true(slice_eq_str(jlist_text(&c.subjects, 0), "S"));
    assert_true(c.max_msgs == -1 && c.max_bytes == -1 && c.max_msgs_per_subject == -1);
    assert_true(c.max_msg_size == -1 && c.max_consumers == -1 && c.replicas == 1);
    assert_true(c.duplicates_ns == 1000000000);
    jstream_conf_copy(&d, &c);
    assert_true(jstream_conf_equal(&c, &d));
    d.max_msgs = 5;
    assert_false(jstream_conf_equal(&c, &d));
    o = jstream_conf_write(&c);
    assert_string_equal(json_string_value(json_object_get(o, "retention")), "limits");
    assert_string_equal(json_string_value(json_object_get(o, "compression")), "none");
    assert_true(json_is_false(json_object_get(o, "sealed")));
    assert_true(json_is_object(json_object_get(o, "consumer_limits")));
    assert_null(json_object_get(o, "description"));
    json_decref(o);
    jstream_conf_fini(&c);
    jstream_conf_fini(&d);
}

/* All that can be said comes back as it was said. */
static void test_stream_all(void **state)
{
    static const char text[] =
        "{\"name\":\"S\",\"description\":\"d\",\"retention\":\"interest\",\"max_consumers\":3,"
        "\"max_msgs\":4,\"max_bytes\":5,\"max_age\":600000000,\"max_msgs_per_subject\":7,"
        "\"max_msg_size\":8,\"discard\":\"new\",\"storage\":\"memory\",\"num_replicas\":1,"
        "\"no_ack\":true,\"duplicate_window\":200000000,\"placement\":{\"cluster\":\"c\","
        "\"tags\":[\"t\"]},\"sources\":[{\"name\":\"A\",\"opt_start_seq\":9,\"filter_subject\":"
        "\"f\"},{\"name\":\"B\",\"opt_start_time\":\"2026-01-02T03:04:05.000000006Z\","
        "\"subject_transforms\":[{\"src\":\"x\",\"dest\":\"y\"}],\"external\":{\"api\":\"a\","
        "\"deliver\":\"d\"}}],\"compression\":\"s2\",\"first_seq\":10,\"subjects\":[\"q\"],"
        "\"subject_transform\":{\"src\":\"q\",\"dest\":\"w\"},\"republish\":{\"src\":\"w\","
        "\"dest\":\"r\",\"headers_only\":true},\"allow_direct\":true,\"mirror_direct\":false,"
        "\"discard_new_per_subject\":true,\"sealed\":false,\"deny_delete\":true,\"deny_purge\":"
        "false,\"allow_rollup_hdrs\":true,\"consumer_limits\":{\"inactive_threshold\":11,"
        "\"max_ack_pending\":12},\"allow_msg_ttl\":true,\"subject_delete_marker_ttl\":"
        "13000000000,\"allow_atomic\":true,\"allow_batched\":true,\"metadata\":{\"m\":\"n\"}}";
    struct jstream_conf c;
    json_t *o, *want = parse(text);

    (void)state;
    assert_int_equal(stream_error(text, &c, true), JSE_NONE);
    o = jstream_conf_write(&c);
    assert_true(json_equal(o, want));
    json_decref(o);
    json_decref(want);
    jstream_conf_fini(&c);
}

static void test_stream_refused(void **state)
{
    struct jstream_conf c;
    struct js_fault f;
    json_t *o = parse("{\"name\":\"S\",\"colour\":1}");

    (void)state;
    assert_false(jstream_conf_read(&c, o, true, &f));
    assert_int_equal(f.e, 10025);
    json_decref(o);
    check_stream("[]", 10025);
    check_stream("{\"name\":7}", 10025);
    check_stream("{\"name\":\"S\",\"subjects\":\"a\"}", 10025);
    check_stream("{\"name\":\"S\",\"subjects\":[\"a\",1]}", 10025);
    check_stream("{\"name\":\"S\",\"sources\":[{\"name\":\"A\"},7]}", 10025);
    check_stream("{\"name\":\"S\",\"mirror\":{\"name\":\"A\",\"external\":{\"api\":1}}}", 10025);
    check_stream("{\"name\":\"S\",\"retention\":\"forever\"}", 10025);
    check_stream("{\"name\":\"S\",\"max_msg_size\":4294967296}", 10025);
    check_stream("{\"name\":\"S\",\"metadata\":{\"a\":1}}", 10025);
    check_stream("{}", 10052);
    check_stream("{\"name\":\"a.b\"}", 10052);
    check_stream("{\"name\":\"S\",\"num_replicas\":3}", 10074);
    check_stream("{\"name\":\"S\",\"num_replicas\":-1}", 10133);
    check_stream("{\"name\":\"S\",\"max_age\":5}", 10052);
    check_stream("{\"name\":\"S\",\"duplicate_window\":5}", 10052);
    check_stream("{\"name\":\"S\",\"subjects\":[\"a.*\",\"*.b\"]}", 10052);
    check_stream("{\"name\":\"S\",\"subjects\":[\">\"]}", 10052);
    check_stream("{\"name\":\"S\",\"subjects\":[\">\"],\"no_ack\":true}", JSE_NONE);
    check_stream("{\"name\":\"S\",\"subjects\":[\"$JS.API.x\"]}", 10052);
    check_stream("{\"name\":\"S\",\"subjects\":[\"$JS.EVENT.x\"]}", JSE_NONE);
    check_stream("{\"name\":\"S\",\"deny_purge\":true,\"allow_rollup_hdrs\":true}", 10052);
    check_stream("{\"name\":\"S\",\"mirror\":{\"name\":\"A\"},\"subjects\":[\"a\"]}", 10034);
    check_stream("{\"name\":\"S\",\"mirror\":{\"name\":\"A.b\"}}", 10142);
    check_stream("{\"name\":\"S\",\"mirror\":{\"name\":\"A\"},\"first_seq\":3}", 10143);
    check_stream("{\"name\":\"S\",\"sources\":[{\"name\":\"A\"},{\"name\":\"A\"}]}", 10140);
    check_stream("{\"name\":\"S\",\"subjects\":[\"a\"],\"republish\":{\"dest\":\"a\"}}", 10052);
    check_stream("{\"name\":\"S\",\"discard_new_per_subject\":true}", 10052);
    check_stream("{\"name\":\"S\",\"allow_msg_counter\":true,\"retention\":\"workqueue\"}", 10052);
    assert_int_equal(stream_error("{\"name\":\"S\",\"max_msgs\":-7}", &c, true), 10157);
}

static void check_update(const char *old, const char *next, enum js_error e)
{
    struct jstream_conf a, b;
    struct js_fault f = {JSE_NONE, ""};

    assert_int_equal(stream_error(old, &a, false), JSE_NONE);
    assert_int_equal(stream_error(next, &b, false), JSE_NONE);
    assert_int_equal(jstream_conf_update_check(&b, &a, &f), e == JSE_NONE);
    assert_int_equal(f.e, e);
    if (!e && b.sealed)
        assert_true(b.deny_purge && b.deny_delete && b.discard == JDISCARD_NEW);
    jstream_conf_fini(&a);
    jstream_conf_fini(&b);
}

static void test_stream_update(void **state)
{
    (void)state;
    check_update("{\"name\":\"S\"}", "{\"name\":\"S\",\"max_msgs\":4}", JSE_NONE);
    check_update("{\"name\":\"S\"}", "{\"name\":\"S\",\"sealed\":true}", JSE_NONE);
    check_update("{\"name\":\"S\",\"sealed\":true}", "{\"name\":\"S\"}", 10052);
    check_update("{\"name\":\"S\"}", "{\"name\":\"S\",\"storage\":\"memory\"}", 10052);
    check_update("{\"name\":\"S\"}", "{\"name\":\"S\",\"retention\":\"workqueue\"}", 10052);
    check_update("{\"name\":\"S\"}", "{\"name\":\"S\",\"retention\":\"interest\"}", JSE_NONE);
    check_update("{\"name\":\"S\",\"mirror\":{\"name\":\"A\"}}", "{\"name\":\"S\"}", JSE_NONE);
    check_update("{\"name\":\"S\",\"mirror\":{\"name\":\"A\"}}",
                 "{\"name\":\"S\",\"mirror\":{\"name\":\"B\"}}", 10055);
    check_update("{\"name\":\"S\"}", "{\"name\":\"S\",\"mirror\":{\"name\":\"B\"}}", 10055);
}

static void test_consumer_defaults(void **state)
{
    static const char limited[] =
        "{\"name\":\"S\",\"consumer_limits\":{\"inactive_threshold\":5,\"max_ack_pending\":7}}";
    struct jconsumer_conf c, d;
    struct js_fault f;

    (void)state;
    assert_int_equal(consumer_error("{\"ack_policy\":\"explicit\"}", "{\"name\":\"S\"}", &c), 0);
    assert_true(c.ack_wait_ns == 30000000000 && c.max_deliver == -1 && c.max_waiting == 512);
    assert_true(c.max_ack_pending == 1000 && c.start_time_ns == JTIME_NONE);
    assert_int_equal(jconsumer_conf_filters(&c), 0);
    jconsumer_conf_copy(&d, &c);
    assert_true(jconsumer_conf_equal(&c, &d));
    d.max_deliver = 3;
    assert_true(jconsumer_conf_update_check(&d, &c, false, &f));
    d.ack = JACK_ALL;
    assert_false(jconsumer_conf_update_check(&d, &c, false, &f));
    assert_int_equal(f.e, 10012);
    assert_string_equal(f.text, "ack policy can not be updated");
    jconsumer_conf_fini(&c);
    jconsumer_conf_fini(&d);
    assert_int_equal(consumer_error("{\"ack_policy\":\"all\",\"backoff\":[3,4]}", limited, &c), 0);
    assert_true(c.ack_wait_ns == 3 && c.max_ack_pending == 7 && c.inactive_ns == 5);
    jconsumer_conf_fini(&c);
    check_consumer_of(limited, "{\"ack_policy\":\"all\",\"max_ack_pending\":8}", 10121);
    check_consumer_of(limited, "{\"inactive_threshold\":6}", 10153);
}

static void test_consumer_refused(void **state)
{
    (void)state;
    check_consumer("{\"durable_name\":\"a.b\"}", 10052);
    check_consumer("{\"ack_policy\":\"never\"}", 10025);
    check_consumer("{\"num_replicas\":2}", 10126);
    check_consumer("{\"ack_policy\":\"explicit\",\"backoff\":[-1]}", 10184);
    check_consumer("{\"ack_policy\":\"explicit\",\"ack_wait\":-1}", 10183);
    check_consumer("{\"backoff\":[1,2,3],\"max_deliver\":2}", 10116);
    check_consumer("{\"ack_policy\":\"flow_control\"}", 10218);
    check_consumer("{\"deliver_subject\":\"a.*\"}", 10079);
    check_consumer("{\"deliver_subject\":\"a..b\"}", 10112);
    check_consumer("{\"deliver_subject\":\"a.b\"}", 10081);
    check_consumer("{\"deliver_subject\":\"b\",\"max_waiting\":5}", 10080);
    check_consumer("{\"deliver_subject\":\"b\",\"max_ack_pending\":5}", 10082);
    check_consumer("{\"deliver_subject\":\"b\",\"idle_heartbeat\":5}", 10083);
    check_consumer("{\"deliver_subject\":\"b\",\"flow_control\":true}", 10108);
    check_consumer("{\"rate_limit_bps\":5}", 10086);
    check_consumer("{\"idle_heartbeat\":1000000000}", 10088);
    check_consumer("{\"flow_control\":true}", 10089);
    check_consumer("{\"max_expires\":5}", 10115);
    check_consumer("{\"direct\":true}", 10090);
    check_consumer("{\"direct\":true,\"deliver_subject\":\"b\",\"durable_name\":\"d\"}", 10091);
    check_consumer("{\"filter_subject\":\"a.b\",\"filter_subjects\":[\"a.c\"]}", 10136);
    check_consumer("{\"filter_subjects\":[\"a.c\",\"\"]}", 10139);
    check_consumer("{\"filter_subjects\":[\"a.c\",\"a.*\"]}", 10138);
    check_consumer("{\"filter_subjects\":[\"a.c\",\"a.d\"]}", JSE_NONE);
    check_consumer("{\"deliver_policy\":\"all\",\"opt_start_seq\":4}", 10094);
    check_consumer("{\"deliver_policy\":\"by_start_sequence\"}", 10094);
    check_consumer("{\"deliver_policy\":\"by_start_time\"}", 10094);
    check_consumer("{\"deliver_policy\":\"last_per_subject\"}", 10094);
    check_consumer("{\"sample_freq\":\"often\"}", 10095);
    check_consumer("{\"sample_freq\":\"50%\"}", JSE_NONE);
    check_consumer("{\"durable_name\":\"a\",\"name\":\"b\"}", 10132);
    check_consumer("{\"priority_policy\":\"overflow\"}", 10159);
    check_consumer("{\"priority_groups\":[\"A\"]}", 10196);
    check_consumer("{\"priority_policy\":\"overflow\",\"priority_groups\":[\"\"]}", 10161);
    check_consumer("{\"priority_policy\":\"overflow\",\"priority_groups\":[\"A B\"]}", 10162);
    check_consumer("{\"priority_timeout\":5}", 10197);
    check_consumer("{\"priority_policy\":\"overflow\",\"priority_groups\":[\"A\"],"
                   "\"deliver_subject\":\"b\"}",
                   10178);
    check_consumer_of("{\"name\":\"S\",\"retention\":\"workqueue\"}", "{}", 10084);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_stream_defaults),
        cmocka_unit_test(test_stream_all),
        cmocka_unit_test(test_stream_refused),
        cmocka_unit_test(test_stream_update),
        cmocka_unit_test(test_consumer_defaults),
        cmocka_unit_test(test_consumer_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
