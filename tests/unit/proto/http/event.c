/* Events as clients write them: plain, CloudEvents structured and binary; streams, plurals.
 */
#include "proto/http/event.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

static struct event_parser parser;
static struct event ev;
static struct errinfo info;

static enum err parse(const char *text, bool ce)
{
    struct jtext_scan s;

    memset(&info, 0, sizeof info);
    jtext_scan_init(&s, slice_str(text), 64);
    return event_parse(&parser, &s, ce, &ev, &info);
}

static void eq(struct slice got, const char *want)
{
    if (!want) {
        assert_null(got.ptr);
        return;
    }
    if (!slice_eq_str(got, want))
        fail_msg("%.*s, not %s", (int)got.len, (const char *)got.ptr, want);
}

static void header(const char *name, const char *want)
{
    for (unsigned i = 0; i < ev.headers_n; i++) {
        if (slice_eq_str(ev.headers[i].key, name)) {
            eq(ev.headers[i].value, want);
            return;
        }
    }
    if (want)
        fail_msg("no header %s", name);
}

static int setup(void **state)
{
    event_parser_init(&parser, 64, 100000);
    return 0;
}

static int teardown(void **state)
{
    event_parser_fini(&parser);
    return 0;
}

static void test_plain(void **state)
{
    assert_int_equal(parse("{\"type\":\"order.created\",\"data\":{ \"a\" : 1.50 }}", false),
                     ERR_OK);
    eq(ev.topic, "orders");
    eq(ev.key, NULL);
    eq(ev.value, "{ \"a\" : 1.50 }"); /* exactly as sent */
    eq(ev.id, NULL);
    assert_int_equal(ev.timestamp_ms, -1);
    assert_int_equal(ev.headers_n, 1);
    header("ce_type", "order.created");

    assert_int_equal(parse("{\"id\":\"i-1\",\"ts\":1500,\"payload\":null,\"stream\":\"a:b:c\","
                           "\"type\":\"t\\u00e9\",\"source\":\"/s\"}",
                           false),
                     ERR_OK);
    eq(ev.topic, "a");
    eq(ev.key, "b:c");
    eq(ev.value, "null");
    eq(ev.type, "t\xc3\xa9");
    eq(ev.dedup_id, "i-1\x1f/s");
    assert_int_equal(ev.timestamp_ms, 1500);
    header("ce_id", "i-1");
    header("ce_source", "/s");

    assert_int_equal(parse("{\"type\":\"x\",\"ts\":\"1970-01-01T00:00:01.5Z\",\"key\":\"k\","
                           "\"stream\":null,\"id\":null}",
                           false),
                     ERR_OK);
    assert_int_equal(ev.timestamp_ms, 1500);
    eq(ev.topic, "xes");
    eq(ev.key, "k");
    eq(ev.value, NULL);
    eq(ev.dedup_id, NULL);
}

static void test_plain_refused(void **state)
{
    static const struct {
        const char *text;
        enum err err;
        const char *why;
    } rows[] = {
        {"{}", ERR_INVALID, "type"},
        {"{\"type\":\"\"}", ERR_INVALID, "empty"},
        {"{\"type\":5}", ERR_INVALID, "string"},
        {"{\"type\":null}", ERR_INVALID, "string"},
        {"{\"type\":\"a\",\"type\":\"b\"}", ERR_INVALID, "twice"},
        {"{\"type\":\"a\",\"data\":1,\"payload\":2}", ERR_INVALID, "twice"},
        {"{\"type\":\"a\",\"strem\":\"b\"}", ERR_INVALID, "unknown field \"strem\""},
        {"{\"type\":\"a\",\"specversion\":\"1.0\"}", ERR_INVALID, "cloudevents+json"},
        {"{\"type\":\"a\",\"stream\":\":k\"}", ERR_INVALID, "neither part empty"},
        {"{\"type\":\"a\",\"stream\":\"b:\"}", ERR_INVALID, "neither part empty"},
        {"{\"type\":\"a\",\"stream\":\"b:k\",\"key\":\"l\"}", ERR_INVALID, "differs"},
        {"{\"type\":\"a\",\"ts\":-1}", ERR_INVALID, "ts"},
        {"{\"type\":\"a\",\"ts\":1.5}", ERR_INVALID, "ts"},
        {"{\"type\":\"a\",\"ts\":\"yesterday\"}", ERR_INVALID, "ISO"},
        {"{\"type\":\"a\\nb\"}", ERR_INVALID, "control"},
        {"{\"type\":\"a\\u0000b\"}", ERR_INVALID, "control"},
        {"{\"type\":\"\xc3\xa9\"}", ERR_INVALID, "topic name"},
        {"{\"type\":\".a\"}", ERR_INVALID, "topic name"},
        {"{\"type\":\"a\"", ERR_CORRUPT_INPUT, "ends early"},
        {"{\"type\":\"a\",}", ERR_CORRUPT_INPUT, "at byte"},
        {"[]", ERR_CORRUPT_INPUT, "object"},
        {"5", ERR_CORRUPT_INPUT, "object"},
        {"{\"type\":\"a\",\"data\":{\"x\":[1,}}", ERR_CORRUPT_INPUT, "value"},
        {"{\"type\":\"a\",\"data\":\"\xff\"}", ERR_CORRUPT_INPUT, "UTF-8"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum err e = parse(rows[i].text, false);

        if (e != rows[i].err || !strstr(info.text, rows[i].why))
            fail_msg("%s: %s, %s", rows[i].text, err_code(e), info.text);
    }
}

static void test_limits(void **state)
{
    char text[200000];
    int n;

    n = snprintf(text, sizeof text, "{\"type\":\"%0*d\"}", EVENT_TYPE_MAX, 0);
    assert_true(n > 0);
    assert_int_equal(parse(text, false),
                     ERR_INVALID); /* the plural has no room: not a topic name */
    snprintf(text, sizeof text, "{\"stream\":\"s\",\"type\":\"%0*d\"}", EVENT_TYPE_MAX, 0);
    assert_int_equal(parse(text, false), ERR_OK);
    snprintf(text, sizeof text, "{\"stream\":\"s\",\"type\":\"%0*d\"}", EVENT_TYPE_MAX + 1, 0);
    assert_int_equal(parse(text, false), ERR_TOO_LARGE);
    snprintf(text, sizeof text, "{\"type\":\"a\",\"stream\":\"%0*d\"}", EVENT_TOPIC_MAX + 1, 0);
    assert_int_equal(parse(text, false), ERR_TOO_LARGE);
    snprintf(text, sizeof text, "{\"type\":\"a\",\"key\":\"\\u00e9%0*d\"}", EVENT_KEY_MAX, 0);
    assert_int_equal(parse(text, false), ERR_TOO_LARGE);
    /* escapes cannot exhaust the parser's memory */
    n = snprintf(text, sizeof text, "{\"type\":\"a\",\"key\":\"");
    for (int i = 0; i < 20000; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "\\u0041");
    snprintf(text + n, sizeof text - (size_t)n, "\"}");
    assert_int_equal(parse(text, false), ERR_TOO_LARGE);
    snprintf(text, sizeof text, "{\"type\":\"a\",\"data\":\"%0*d\"}", 100000, 0);
    assert_int_equal(parse(text, false), ERR_TOO_LARGE);
}

static void test_cloudevents(void **state)
{
    assert_int_equal(
        parse(
            "{\"specversion\":\"1.0\",\"type\":\"com.example.x\",\"source\":\"/app\",\"id\":\"7\","
            "\"time\":\"2020-02-29T12:00:00+01:00\",\"subject\":\"s\",\"stream\":\"t:k\","
            "\"trace\":\"abc\",\"n\":5,\"flag\":true,\"none\":null,\"data\":[1, 2]}",
            true),
        ERR_OK);
    eq(ev.topic, "t");
    eq(ev.key, "k");
    eq(ev.value, "[1, 2]");
    assert_int_equal(ev.timestamp_ms, 1582974000000);
    header("ce_specversion", "1.0");
    header("ce_time", "2020-02-29T12:00:00+01:00");
    header("ce_subject", "s");
    header("ce_trace", "abc");
    header("ce_n", "5");
    header("ce_flag", "true");
    header("ce_none", NULL);
    header("content-type", NULL);
    eq(ev.dedup_id, "7\x1f/app");

    assert_int_equal(parse("{\"specversion\":\"1.0\",\"type\":\"a\",\"source\":\"/\",\"id\":\"7\","
                           "\"partitionkey\":\"p\",\"datacontenttype\":\"text/plain\","
                           "\"data\":\"a\\nb\"}",
                           true),
                     ERR_OK);
    eq(ev.value, "a\nb");
    eq(ev.key, "p");
    header("content-type", "text/plain");

    assert_int_equal(parse("{\"specversion\":\"1.0\",\"type\":\"a\",\"source\":\"/\",\"id\":\"7\","
                           "\"datacontenttype\":\"image/x\",\"data_base64\":\"AAEC\"}",
                           true),
                     ERR_OK);
    assert_int_equal(ev.value.len, 3);
    assert_memory_equal(ev.value.ptr, "\0\1\2", 3);
}

static void test_cloudevents_refused(void **state)
{
    static const char *const rows[][2] = {
        {"{\"type\":\"a\",\"source\":\"/\",\"id\":\"7\"}", "specversion"},
        {"{\"specversion\":\"0.3\",\"type\":\"a\",\"source\":\"/\",\"id\":\"7\"}", "specversion"},
        {"{\"specversion\":\"1.0\",\"type\":\"a\",\"id\":\"7\"}", "source"},
        {"{\"specversion\":\"1.0\",\"type\":\"a\",\"source\":\"/\"}", "\"id\""},
        {"{\"specversion\":\"1.0\",\"source\":\"/\",\"id\":\"7\"}", "type"},
        {"{\"specversion\":\"1.0\",\"type\":\"a\",\"source\":\"/\",\"id\":\"7\",\"Bad\":\"x\"}",
         "attribute name"},
        {"{\"specversion\":\"1.0\",\"type\":\"a\",\"source\":\"/\",\"id\":\"7\",\"x\":{}}",
         "extension"},
        {"{\"specversion\":\"1.0\",\"type\":\"a\",\"source\":\"/\",\"id\":\"7\",\"x\":1,\"x\":2}",
         "twice"},
        {"{\"specversion\":\"1.0\",\"type\":\"a\",\"source\":\"/\",\"id\":\"7\",\"data\":1,"
         "\"data_base64\":\"AA==\"}",
         "both"},
        {"{\"specversion\":\"1.0\",\"type\":\"a\",\"source\":\"/\",\"id\":\"7\","
         "\"data_base64\":\"A\"}",
         "base64"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (parse(rows[i][0], true) != ERR_INVALID || !strstr(info.text, rows[i][1]))
            fail_msg("%s: %s", rows[i][0], info.text);
    }
}

static enum err binary(const char *const (*attrs)[2], size_t n, const char *type, const char *body)
{
    enum err e = ERR_OK;

    event_binary_begin(&parser, &ev);
    for (size_t i = 0; i < n && !e; i++)
        e = event_binary_attribute(&parser, &ev, slice_str(attrs[i][0]), slice_str(attrs[i][1]),
                                   &info);
    return e ? e : event_binary_end(&parser, &ev, slice_str(type), slice_str(body), &info);
}

static void test_binary(void **state)
{
    static const char *const attrs[][2] = {
        {"specversion", "1.0"},     {"Type", "user.made"},
        {"source", "/caf%C3%A9"},   {"id", "9"},
        {"traceparent", "00-1%20"}, {"time", "1970-01-01T00:00:00Z"},
    };

    assert_int_equal(binary(attrs, 6, "application/json", "{\"a\":1}"), ERR_OK);
    eq(ev.topic, "users");
    eq(ev.value, "{\"a\":1}");
    header("ce_source", "/caf\xc3\xa9");
    header("ce_traceparent", "00-1 ");
    header("content-type", NULL);
    assert_int_equal(ev.timestamp_ms, 0);

    assert_int_equal(binary(attrs, 6, "text/plain; charset=utf-8", "hello"), ERR_OK);
    eq(ev.value, "hello");
    header("content-type", "text/plain; charset=utf-8");

    assert_int_equal(binary(attrs, 6, "application/json", "{\"a\":}"), ERR_CORRUPT_INPUT);
    assert_int_equal(binary(attrs, 2, "application/json", "{}"), ERR_INVALID);
    assert_int_equal(binary(attrs, 6, "application/json", ""), ERR_OK);
    eq(ev.value, NULL);
}

static void test_plural(void **state)
{
    static const char *const rows[][2] = {
        {"order", "orders"},        {"orders", "orders"},
        {"category", "categories"}, {"day", "days"},
        {"box", "boxes"},           {"status", "statuses"},
        {"address", "addresses"},   {"batch", "batches"},
        {"dish", "dishes"},         {"analysis", "analyses"},
        {"person", "people"},       {"child", "children"},
        {"data", "data"},           {"news", "news"},
        {"quiz", "quizzes"},        {"y", "ys"},
        {"Order", "Orders"},
    };
    char out[EVENT_TOPIC_MAX + 1], small[6];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t n = plural(slice_str(rows[i][0]), out, sizeof out);

        eq(slice_of(out, n), rows[i][1]);
    }
    assert_int_equal(plural(SLICE_LIT("order"), small, sizeof small), 0);
    assert_int_equal(stream_from_type(SLICE_LIT("order.created.v2"), out), 6);
    assert_string_equal(out, "orders");
    assert_int_equal(stream_from_type(SLICE_LIT("a b.c"), out), 0);
    assert_int_equal(stream_from_type(SLICE_LIT(""), out), 0);
    assert_int_equal(stream_from_type(SLICE_LIT(".x"), out), 0);
}

static void test_media(void **state)
{
    static const char *const text[] = {"text/plain",
                                       "TEXT/HTML",
                                       "text/csv ; header=present",
                                       "application/xml",
                                       "image/svg+xml",
                                       "text/plain;charset=UTF-8",
                                       "text/plain; charset=\"us-ascii\"; x=y"};
    static const char *const other[] = {"text/json",
                                        "text/vnd.x+json",
                                        "text/",
                                        "+xml",
                                        "application/octet-stream",
                                        "",
                                        ";charset=utf-8",
                                        "text/plain;charset=iso-8859-1",
                                        "text/plain; x=y; Charset=\"utf-16\""};
    size_t i;

    assert_true(media_is_json(SLICE_LIT("application/json")));
    assert_true(media_is_json(SLICE_LIT("Application/JSON; charset=utf-8")));
    assert_true(media_is_json(SLICE_LIT("application/vnd.x+json ;v=1")));
    assert_false(media_is_json(SLICE_LIT("application/jsonx")));
    assert_false(media_is_json(SLICE_LIT("+json")));
    assert_false(media_is_json(SLICE_LIT("")));
    for (i = 0; i < sizeof text / sizeof *text; i++)
        if (!media_is_text(slice_str(text[i])) || media_is_json(slice_str(text[i])))
            fail_msg("%s is text", text[i]);
    for (i = 0; i < sizeof other / sizeof *other; i++)
        if (media_is_text(slice_str(other[i])))
            fail_msg("%s is no text", other[i]);
    assert_false(media_is_text(SLICE_NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_plain_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_cloudevents),
        cmocka_unit_test(test_cloudevents_refused),
        cmocka_unit_test(test_binary),
        cmocka_unit_test(test_plural),
        cmocka_unit_test(test_media),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
