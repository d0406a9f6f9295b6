/* Every route and error of events over HTTP, against a real broker on loopback. */
#include "fixture.h"

#include <ctype.h>

#include "broker/tier.h"
#include "journal/journal.h"
#include "proto/http/http_int.h"
#include "proto/http/openapi.h"

static struct fix fx;

static int setup(void **state)
{
    fix_start(&fx, NULL);
    return 0;
}

static int teardown(void **state)
{
    fix_stop(&fx);
    return 0;
}

static json_t *get(const char *target)
{
    return call(&fx, "GET", target, NULL, 200);
}

static void problem(const char *method, const char *target, const char *headers, const char *body,
                    int status, const char *code)
{
    struct reply r = request(&fx, method, target, headers, body);

    expect_problem(&r, status, code);
}

/* ---- writing ---- */

static void test_emit_and_read(void **state)
{
    json_t *j = call(
        &fx, "POST", "/events",
        "{\"type\":\"order.created\",\"stream\":\"basics:c-1\",\"data\":{ \"total\" : 12.50 }}",
        201);
    char *id = strdup(text_of(j, "id")), *raw;
    const json_t *e;
    struct reply r;

    assert_string_equal(text_of(j, "stream"), "basics");
    assert_int_equal(int_of(j, "partition"), 0);
    assert_int_equal(int_of(j, "offset"), 0);
    assert_int_equal(strlen(id), 20);
    assert_int_equal(strtoull(id + 4, NULL, 16), int_of(j, "position"));
    json_decref(j);

    r = request(&fx, "GET", "/events?stream=basics", "", NULL);
    raw = strdup(r.body);
    j = reply_json(&r, 200);
    assert_int_equal(json_array_size(json_object_get(j, "events")), 1);
    e = json_array_get(json_object_get(j, "events"), 0);
    assert_string_equal(text_of(e, "id"), id);
    assert_string_equal(text_of(e, "type"), "order.created");
    assert_string_equal(text_of(e, "stream"), "basics");
    assert_string_equal(text_of(e, "key"), "c-1");
    assert_string_equal(text_of(j, "next"), id);
    assert_null(json_object_get(e, "headers"));
    assert_non_null(strstr(raw, "\"data\":{ \"total\" : 12.50 }")); /* the very bytes */
    free(raw);
    free(id);
    json_decref(j);
}

static void test_emit_default_stream(void **state)
{
    json_t *j = call(&fx, "POST", "/events", "{\"type\":\"category.added\"}", 201);

    assert_string_equal(text_of(j, "stream"), "categories");
    json_decref(j);
    j = call(&fx, "POST", "/events?stream=named", "{\"type\":\"category.added\"}", 201);
    assert_string_equal(text_of(j, "stream"), "named");
    json_decref(j);
    j = get("/events?stream=categories");
    /* no data: no value */
    assert_null(json_object_get(json_array_get(json_object_get(j, "events"), 0), "data"));
    json_decref(j);
}

static void test_emit_forms(void **state)
{
    struct reply r;
    json_t *j = call(
        &fx, "POST", "/events",
        " [ {\"type\":\"a\",\"stream\":\"forms\"}, {\"type\":\"b\",\"stream\":\"forms:k\"} ]", 201);
    const json_t *list = json_object_get(j, "events");

    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(int_of(json_array_get(list, 1), "offset"), 1);
    assert_int_equal(int_of(json_array_get(list, 1), "position"),
                     int_of(json_array_get(list, 0), "position") + 1);
    json_decref(j);

    r = request(
        &fx, "POST", "/events", "Content-Type: application/x-ndjson\r\n",
        "{\"type\":\"c\",\"stream\":\"forms\"}\n\n \r\n{\"type\":\"d\",\"stream\":\"forms\"}");
    j = reply_json(&r, 201);
    assert_int_equal(json_array_size(json_object_get(j, "events")), 2);
    json_decref(j);

    r = request(&fx, "POST", "/events",
                "Content-Type: application/cloudevents+json; charset=utf-8\r\n",
                "{\"specversion\":\"1.0\",\"type\":\"e\",\"source\":\"/"
                "s\",\"id\":\"1\",\"stream\":\"forms\","
                "\"data\":[1]}");
    json_decref(reply_json(&r, 201));
    r = request(&fx, "POST", "/events", "Content-Type: application/cloudevents-batch+json\r\n",
                "[{\"specversion\":\"1.0\",\"type\":\"f\",\"source\":\"/"
                "s\",\"id\":\"2\",\"stream\":\"forms\"}]");
    j = reply_json(&r, 201);
    assert_int_equal(json_array_size(json_object_get(j, "events")), 1);
    json_decref(j);
    r = request(
        &fx, "POST", "/events?stream=forms",
        "Content-Type: text/plain\r\nce-specversion: 1.0\r\nCe-Type: g\r\nce-source: /caf%C3%A9\r\n"
        "ce-id: 3\r\nce-traceid: abc\r\nce-time: 2020-01-02T03:04:05Z\r\n",
        "hello");
    json_decref(reply_json(&r, 201));

    j = get("/events?stream=forms");
    list = json_object_get(j, "events");
    assert_int_equal(json_array_size(list), 7);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(text_of(json_array_get(list, i), "type")[0], 'a' + (int)i);
    assert_string_equal(text_of(json_array_get(list, 4), "source"), "/s");
    assert_string_equal(text_of(json_array_get(list, 4), "event_id"), "1");
    assert_string_equal(text_of(json_array_get(list, 6), "source"), "/caf\xc3\xa9");
    assert_string_equal(text_of(json_array_get(list, 6), "data"), "hello");
    assert_null(json_object_get(json_array_get(list, 6), "data_base64"));
    assert_string_equal(text_of(json_array_get(list, 6), "datacontenttype"), "text/plain");
    assert_string_equal(text_of(json_array_get(list, 6), "ts"), "2020-01-02T03:04:05.000Z");
    assert_int_equal(json_array_size(json_object_get(json_array_get(list, 6), "headers")), 3);
    json_decref(j);
}

static void test_emit_refused(void **state)
{
    struct reply r;
    json_t *j;

    problem("POST", "/events", JSON_TYPE, "", 400, "corrupt_input");
    problem("POST", "/events", JSON_TYPE, "{\"type\":", 400, "corrupt_input");
    problem("POST", "/events", JSON_TYPE, "{}", 400, "invalid_argument");
    problem("POST", "/events", JSON_TYPE, "{\"type\":\"a\"} x", 400, "corrupt_input");
    problem("POST", "/events", JSON_TYPE, "[]", 400, "invalid_argument");
    problem("POST", "/events", JSON_TYPE, "[{\"type\":\"a\"}", 400, "corrupt_input");
    problem("POST", "/events", JSON_TYPE, "{\"type\":\"a\",\"stream\":\"bad name\"}", 400,
            "invalid_topic_name");
    problem("POST", "/events", "Content-Type: text/plain\r\n", "{\"type\":\"a\"}", 415,
            "unsupported");
    problem("POST", "/events", JSON_TYPE "Content-Encoding: gzip\r\n", "{\"type\":\"a\"}", 415,
            "unsupported");
    problem("POST", "/events", "Content-Type: application/x-ndjson\r\n", "\n\n", 400,
            "invalid_argument");
    problem("POST", "/events", JSON_TYPE "ce-type: a\r\n", "{}", 400, "invalid_argument");
    problem("POST", "/events", JSON_TYPE "Idempotency-Key:\r\n", "{\"type\":\"a\"}", 400,
            "invalid_argument");

    /* one bad event rejects all, with its index */
    r = request(&fx, "POST", "/events", JSON_TYPE,
                "[{\"type\":\"a\",\"stream\":\"whole\"},{\"type\":\"b\",\"stream\":\"whole\"},{"
                "\"stream\":\"whole\"}]");
    j = reply_json(&r, 400);
    assert_int_equal(int_of(j, "index"), 2);
    assert_non_null(strstr(text_of(j, "detail"), "event 2: \"type\" is missing"));
    json_decref(j);
    r = request(&fx, "GET", "/events?stream=whole", "", NULL);
    if (r.status == 200) {
        j = reply_json(&r, 200);
        assert_int_equal(json_array_size(json_object_get(j, "events")), 0);
        json_decref(j);
    } else {
        expect_problem(&r, 404, "topic_not_found");
    }
}

static void test_partial(void **state)
{
    struct reply r;
    const json_t *errors, *events;
    json_t *j = call(&fx, "POST", "/events?partial=true",
                     "[{\"type\":\"a\",\"stream\":\"part\"},{\"type\":7},{\"type\":\"c\","
                     "\"stream\":\"part\",\"x\":[{}]},"
                     "{\"type\":\"d\",\"stream\":\"part\"}]",
                     201);

    events = json_object_get(j, "events");
    errors = json_object_get(j, "errors");
    assert_int_equal(json_array_size(events), 2);
    assert_int_equal(int_of(json_array_get(events, 1), "index"), 3);
    assert_int_equal(json_array_size(errors), 2);
    assert_int_equal(int_of(json_array_get(errors, 0), "index"), 1);
    assert_string_equal(text_of(json_array_get(errors, 1), "code"), "invalid_argument");
    json_decref(j);

    r = request(
        &fx, "POST", "/events?partial=true", "Content-Type: application/x-ndjson\r\n",
        "{\"type\":\"a\",\"stream\":\"part\"}\nnot json\n{\"type\":\"b\",\"stream\":\"part\"} 5\n");
    j = reply_json(&r, 201);
    assert_int_equal(json_array_size(json_object_get(j, "events")), 1);
    assert_int_equal(json_array_size(json_object_get(j, "errors")), 2);
    json_decref(j);

    j = call(&fx, "POST", "/events?partial=true", "[{},{}]", 400);
    assert_int_equal(json_array_size(json_object_get(j, "errors")), 2);
    json_decref(j);
    problem("POST", "/events?partial=true", JSON_TYPE, "[{\"type\":\"a\"},]", 400, "corrupt_input");

    j = get("/events?stream=part");
    assert_int_equal(json_array_size(json_object_get(j, "events")), 3);
    json_decref(j);
}

static void test_event_id_makes_retry_harmless(void **state)
{
    static const char body[] = "{\"type\":\"a\",\"stream\":\"dedup\",\"id\":\"one\"}";
    json_t *first = call(&fx, "POST", "/events", body, 201);
    json_t *second = call(&fx, "POST", "/events", body, 200);

    assert_null(json_object_get(first, "duplicate"));
    assert_true(json_is_true(json_object_get(second, "duplicate")));
    assert_string_equal(text_of(first, "id"), text_of(second, "id"));
    json_decref(first);
    json_decref(second);
    /* in one request, too */
    first = call(&fx, "POST", "/events",
                 "[{\"type\":\"a\",\"stream\":\"dedup\",\"id\":\"two\"},"
                 "{\"type\":\"a\",\"stream\":\"dedup\",\"id\":\"two\"}]",
                 201);
    assert_string_equal(text_of(json_array_get(json_object_get(first, "events"), 0), "id"),
                        text_of(json_array_get(json_object_get(first, "events"), 1), "id"));
    json_decref(first);
    first = get("/events?stream=dedup");
    assert_int_equal(json_array_size(json_object_get(first, "events")), 2);
    json_decref(first);
}

static void test_idempotency_key(void **state)
{
    static const char body[] =
        "[{\"type\":\"a\",\"stream\":\"idem\"},{\"type\":\"b\",\"stream\":\"idem\"}]";
    struct reply r = request(&fx, "POST", "/events", JSON_TYPE "Idempotency-Key: k1\r\n", body);
    json_t *first = reply_json(&r, 201), *second;
    char *replayed;

    r = request(&fx, "POST", "/events", JSON_TYPE "Idempotency-Key: k1\r\n", body);
    replayed = head_get(r.head, "idempotency-replayed");
    assert_non_null(replayed);
    free(replayed);
    second = reply_json(&r, 200);
    for (size_t i = 0; i < 2; i++)
        assert_string_equal(text_of(json_array_get(json_object_get(first, "events"), i), "id"),
                            text_of(json_array_get(json_object_get(second, "events"), i), "id"));
    json_decref(first);
    json_decref(second);
    problem("POST", "/events", JSON_TYPE "Idempotency-Key: k1\r\n",
            "{\"type\":\"a\",\"stream\":\"idem\"}", 422, "idempotency_mismatch");
    r = request(&fx, "POST", "/events", JSON_TYPE "Idempotency-Key: k2\r\n", body);
    json_decref(reply_json(&r, 201));
    first = get("/events?stream=idem");
    assert_int_equal(json_array_size(json_object_get(first, "events")), 4);
    json_decref(first);
}

/* Two at the same time with one key: written once, whatever the order. */
static void test_idempotency_key_concurrent(void **state)
{
    static const char body[] = "{\"type\":\"a\",\"stream\":\"idem2\"}";
    struct client c[8];
    char id[32] = "";
    json_t *j;

    for (int i = 0; i < 8; i++)
        client_open(&c[i], &fx);
    for (int i = 0; i < 8; i++)
        client_send(&c[i], "POST", "/events", JSON_TYPE "Idempotency-Key: both\r\n", body,
                    strlen(body));
    for (int i = 0; i < 8; i++) {
        struct reply r;

        client_read(&c[i], &r, false);
        assert_true(r.status == 201 || r.status == 200);
        j = reply_json(&r, r.status);
        if (*id)
            assert_string_equal(text_of(j, "id"), id);
        snprintf(id, sizeof id, "%s", text_of(j, "id"));
        json_decref(j);
        client_close(&c[i]);
    }
    j = get("/events?stream=idem2");
    assert_int_equal(json_array_size(json_object_get(j, "events")), 1);
    json_decref(j);
}

/* Many requests that all need the same new topics at once. */
static void test_topics_by_first_use_concurrent(void **state)
{
    struct client c[16];
    char body[128];
    json_t *j;

    for (int i = 0; i < 16; i++)
        client_open(&c[i], &fx);
    for (int i = 0; i < 16; i++) {
        int n = snprintf(
            body, sizeof body,
            "[{\"type\":\"a\",\"stream\":\"first-x\"},{\"type\":\"a\",\"stream\":\"first-%d\"}]",
            i % 4);

        client_send(&c[i], "POST", "/events", JSON_TYPE, body, (size_t)n);
    }
    for (int i = 0; i < 16; i++) {
        struct reply r;

        client_read(&c[i], &r, false);
        json_decref(reply_json(&r, 201));
        client_close(&c[i]);
    }
    j = get("/events?stream=first-*");
    assert_int_equal(json_array_size(json_object_get(j, "events")), 32);
    json_decref(j);
}

static void test_pipelined(void **state)
{
    struct client c;
    long long last = 0;

    client_open(&c, &fx);
    for (int i = 0; i < 200; i++) {
        char body[96];
        int n = snprintf(body, sizeof body,
                         i % 10 ? "{\"type\":\"a\",\"stream\":\"pipe\",\"data\":%d}"
                                : "[{\"type\":\"a\",\"stream\":\"pipe\",\"data\":%d}]",
                         i);

        client_send(&c, "POST", "/events", JSON_TYPE, body, (size_t)n);
    }
    for (int i = 0; i < 200; i++) {
        struct reply r;
        json_t *j;

        client_read(&c, &r, false);
        j = reply_json(&r, 201);
        {
            long long at =
                int_of(i % 10 ? j : json_array_get(json_object_get(j, "events"), 0), "position");

            assert_true(at > last);
            last = at;
        }
        json_decref(j);
    }
    client_close(&c);
}

/* ---- reading ---- */

static void test_read_parameters(void **state)
{
    static const char *const wrong[] = {
        "/events?stream=basics&limit=0",
        "/events?stream=basics&limit=10001",
        "/events?stream=basics&limit=x",
        "/events?stream=basics&after=12",
        "/events?stream=basics&after=evt_zz",
        "/events?stream=basics&from=yesterday",
        "/events?stream=basics&wait=61",
        "/events?stream=basics&wait=-1",
        "/events?stream=basics&wait=5m",
        "/events?stream=:k",
        "/events?stream=basics:",
        "/events?stream=bad%20name",
        "/events?stream=basics&type=",
        "/events?stream=basics&after=evt_0000000000000001&from=LATEST",
    };

    emit(&fx, "{\"type\":\"a\",\"stream\":\"basics\"}");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        problem("GET", wrong[i], "", NULL, 400, "invalid_argument");
    problem("GET", "/events?stream=nothing-here", "", NULL, 404, "topic_not_found");
    problem("GET", "/events?stream=basics", "Accept: text/html\r\n", NULL, 406, "not_acceptable");
}

static void test_read_places(void **state)
{
    char target[128], iso[32];
    json_t *j;

    emit(&fx, "{\"type\":\"a\",\"stream\":\"places\",\"ts\":1000}");
    emit(&fx, "{\"type\":\"b\",\"stream\":\"places\",\"ts\":\"1970-01-01T00:00:05Z\"}");
    j = call(&fx, "POST", "/events", "{\"type\":\"c\",\"stream\":\"places:k\",\"ts\":9000}", 201);
    snprintf(target, sizeof target, "/events?stream=places&after=evt_%016llx",
             (unsigned long long)int_of(j, "position") - 1);
    json_decref(j);

    j = get(target);
    assert_int_equal(json_array_size(json_object_get(j, "events")), 1);
    json_decref(j);
    j = get("/events?stream=places&from=TRIM_HORIZON&limit=2");
    assert_int_equal(json_array_size(json_object_get(j, "events")), 2);
    json_decref(j);
    j = get("/events?stream=places&from=LATEST");
    assert_int_equal(json_array_size(json_object_get(j, "events")), 0);
    assert_int_equal(strlen(text_of(j, "next")), 20);
    json_decref(j);
    snprintf(iso, sizeof iso, "1970-01-01T01:00:05+01:00");
    snprintf(target, sizeof target, "/events?stream=places&from=%s", iso); /* + is sent as it is */
    j = get(target);
    assert_int_equal(json_array_size(json_object_get(j, "events")), 2);
    json_decref(j);
    j = get("/events?stream=places:k");
    assert_int_equal(json_array_size(json_object_get(j, "events")), 1);
    json_decref(j);
    j = get("/events?topic=places:*");
    assert_int_equal(json_array_size(json_object_get(j, "events")), 1);
    json_decref(j);
    j = get("/events?stream=places&type=a,c");
    assert_int_equal(json_array_size(json_object_get(j, "events")), 2);
    json_decref(j);
    j = get("/events?stream=pla*&type=none"); /* next although nothing matched */
    assert_int_equal(json_array_size(json_object_get(j, "events")), 0);
    assert_true(strcmp(text_of(j, "next"), "evt_0000000000000000") > 0);
    json_decref(j);
}

static bool page_lost(struct fix *f, const char *stream, const char *place, size_t events)
{
    char target[160];
    bool lost;
    json_t *j;

    snprintf(target, sizeof target, "/events?stream=%s%s", stream, place);
    j = call(f, "GET", target, NULL, 200);
    assert_int_equal(json_array_size(json_object_get(j, "events")), events);
    lost = json_object_get(j, "lost") == json_true();
    assert_int_equal(lost, json_object_get(j, "lost") != NULL);
    json_decref(j);
    return lost;
}

static void trim(struct fix *f, const char *target)
{
    struct reply r = request(f, "DELETE", target, "", NULL);

    assert_int_equal(r.status, 204);
    reply_free(&r);
}

/* Events 0 to 2 of 6 are deleted. */
static void lost_topic(struct fix *f, char after[6][40])
{
    char body[128];
    json_t *j;

    for (int i = 0; i < 6; i++) {
        snprintf(body, sizeof body, "{\"type\":\"a\",\"stream\":\"gone\",\"ts\":%d}", i * 1000);
        j = call(f, "POST", "/events", body, 201);
        snprintf(after[i], sizeof after[i], "&after=%s", text_of(j, "id"));
        json_decref(j);
        json_decref(call(f, "POST", "/events", "{\"type\":\"b\",\"stream\":\"kept\"}", 201));
    }
    trim(f, "/topics/gone/records?partition=0&before=3");
}

/* A reader that begins below the oldest event is told whether that cost it events. */
static void test_read_lost(void **state)
{
    char after[6][40], dir[64], *v;
    struct reply r;
    struct fix f;

    fix_start(&f, NULL);
    lost_topic(&f, after);
    assert_true(page_lost(&f, "gone", after[0], 3));
    assert_true(page_lost(&f, "gone", after[1], 3));
    assert_false(page_lost(&f, "gone", after[2], 3)); /* it had seen all that is deleted */
    assert_false(page_lost(&f, "gone", after[5], 0));
    assert_false(page_lost(&f, "gone", "", 3));
    assert_false(page_lost(&f, "gone", "&from=TRIM_HORIZON", 3));
    assert_false(page_lost(&f, "gone", "&from=LATEST", 0));
    assert_true(page_lost(&f, "gone", "&from=1970-01-01T00:00:02Z", 3));
    assert_false(page_lost(&f, "gone", "&from=1970-01-01T00:00:03Z", 3));
    assert_true(page_lost(&f, "g*", after[1], 3));
    assert_false(page_lost(&f, "g*", after[2], 3));
    assert_false(page_lost(&f, "kept", after[0], 6));
    snprintf(dir, sizeof dir, "/events?stream=gone%s", after[0]);
    r = request(&f, "GET", dir, "Accept: application/x-ndjson\r\n", NULL);
    v = head_get(r.head, "weir-lost");
    assert_string_equal(v, "true");
    free(v);
    reply_free(&r);
    trim(&f, "/topics/gone/records?partition=0&before=6");
    assert_true(page_lost(&f, "gone", after[4], 0));
    assert_false(page_lost(&f, "gone", after[5], 0));
    snprintf(dir, sizeof dir, "%s", f.dir);
    fix_halt(&f);
    fix_start_in(&f, dir, NULL);
    assert_true(page_lost(&f, "gone", after[4], 0));
    assert_false(page_lost(&f, "gone", after[5], 0));
    fix_stop(&f);
}

static void test_read_lines_and_head(void **state)
{
    struct reply r;
    char *v;

    emit(&fx, "{\"type\":\"a\",\"stream\":\"lines\",\"data\":{\n\"x\":\r\n1}}");
    emit(&fx, "{\"type\":\"b\",\"stream\":\"lines\"}");
    r = request(&fx, "GET", "/events?stream=lines", "Accept: application/x-ndjson\r\n", NULL);
    assert_int_equal(r.status, 200);
    v = head_get(r.head, "content-type");
    assert_string_equal(v, "application/x-ndjson");
    free(v);
    v = head_get(r.head, "weir-next");
    assert_int_equal(strlen(v), 20);
    free(v);
    v = strchr(r.body, '\n'); /* one line an event, whatever the payload */
    assert_int_equal(v[1], '{');
    assert_ptr_equal(strchr(v + 1, '\n'), r.body + r.body_n - 1);
    reply_free(&r);
    r = request(&fx, "HEAD", "/events?stream=lines&wait=30", "", NULL);
    assert_int_equal(r.status, 200);
    v = head_get(r.head, "content-length");
    assert_true(v && strtoul(v, NULL, 10) > 100);
    free(v);
    reply_free(&r);
}

/* Records that other protocols wrote: nothing is lost, whatever the bytes. */
static void test_foreign_records(void **state)
{
    const struct record_header odd[] = {
        {SLICE_LIT("trace"), SLICE_LIT("t\"1\n")},  {SLICE_LIT("none"), SLICE_NULL},
        {SLICE_LIT("bin"), SLICE_LIT("\xff\x00")},  {SLICE_LIT("\xc0name"), SLICE_LIT("")},
        {SLICE_LIT("ce_type"), SLICE_LIT("first")}, {SLICE_LIT("ce_type"), SLICE_LIT("second")},
        {SLICE_LIT("ce_id"), SLICE_LIT("\xfe")},
    };
    const struct record_header text[] = {{SLICE_LIT("content-type"), SLICE_LIT("text/plain")}},
                               json[] = {{SLICE_LIT("content-type"), SLICE_LIT("text/json")}};
    const struct append_record records[] = {
        {.timestamp_ms = 1, .key = SLICE_LIT("\xff\x01"), .value = SLICE_LIT("{\"a\":1}")},
        {.timestamp_ms = 2, .key = SLICE_LIT(""), .value = SLICE_NULL},
        {.timestamp_ms = 3, .key = SLICE_LIT("k\x01"), .value = SLICE_LIT("")},
        {.timestamp_ms = 4, .value = SLICE_LIT("not json"), .headers = odd, .headers_n = 7},
        {.timestamp_ms = 5, .value = SLICE_LIT("5"), .headers = text, .headers_n = 1},
        {.timestamp_ms = 6,
         .value = SLICE_LIT("caf\xc3\xa9 \"1\"\n\x01"),
         .headers = text,
         .headers_n = 1},
        {.timestamp_ms = 7, .value = SLICE_LIT("caf\xe9"), .headers = text, .headers_n = 1},
        {.timestamp_ms = 8, .value = SLICE_LIT("not json"), .headers = json, .headers_n = 1},
    };
    struct append *a = append_new(fx.broker, NULL, NULL);
    struct topic *t;
    const json_t *list, *e, *h;
    json_t *j;

    json_decref(call(&fx, "POST", "/topics", "{\"name\":\"foreign\"}", 201));
    t = topic_find(fx.broker, SLICE_LIT("foreign"));
    for (size_t i = 0; i < 8; i++) {
        struct append_slot slot;

        assert_int_equal(append_record(a, t, 0, &records[i], &slot, NULL), ERR_OK);
    }
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    append_free(&a);
    topic_unref(&t);

    j = get("/events?stream=foreign");
    list = json_object_get(j, "events");
    assert_int_equal(json_array_size(list), 8);
    e = json_array_get(list, 0);
    assert_true(json_is_null(json_object_get(e, "type")));
    assert_string_equal(text_of(e, "key_base64"), "/wE=");
    assert_int_equal(int_of(json_object_get(e, "data"), "a"), 1);
    assert_string_equal(text_of(e, "ts"), "1970-01-01T00:00:00.001Z");
    e = json_array_get(list, 1);
    assert_string_equal(text_of(e, "key"), "");
    assert_null(json_object_get(e, "data"));
    assert_null(json_object_get(e, "data_base64"));
    e = json_array_get(list, 2);
    assert_string_equal(text_of(e, "key"), "k\x01");
    assert_string_equal(text_of(e, "data_base64"), "");
    e = json_array_get(list, 3);
    assert_null(json_object_get(e, "key"));
    assert_string_equal(text_of(e, "type"), "first");
    assert_string_equal(text_of(e, "data_base64"), "bm90IGpzb24=");
    h = json_object_get(e, "headers");
    assert_int_equal(json_array_size(h), 6);
    assert_string_equal(text_of(json_array_get(h, 0), "value"), "t\"1\n");
    assert_true(json_is_null(json_object_get(json_array_get(h, 1), "value")));
    assert_string_equal(text_of(json_array_get(h, 2), "value_base64"), "/wA=");
    assert_string_equal(text_of(json_array_get(h, 3), "name_base64"), "wG5hbWU=");
    assert_string_equal(text_of(json_array_get(h, 4), "value"), "second");
    assert_string_equal(text_of(json_array_get(h, 5), "name"), "ce_id");
    e = json_array_get(list, 4);
    assert_string_equal(text_of(e, "data"), "5");
    e = json_array_get(list, 5);
    assert_string_equal(text_of(e, "data"), "caf\xc3\xa9 \"1\"\n\x01");
    assert_string_equal(text_of(e, "datacontenttype"), "text/plain");
    e = json_array_get(list, 6); /* it is not what it says */
    assert_string_equal(text_of(e, "data_base64"), "Y2Fm6Q==");
    e = json_array_get(list, 7);
    assert_string_equal(text_of(e, "data_base64"), "bm90IGpzb24=");
    json_decref(j);
}

/* Pages while four writers write: every event once, in order. */
struct writer {
    pthread_t thread;
    int id, n;
};

static void *write_all(void *arg)
{
    struct writer *w = arg;
    struct client c;

    client_open(&c, &fx);
    for (int i = 0; i < w->n; i++) {
        char body[128];
        struct reply r;
        int n = snprintf(body, sizeof body,
                         "{\"type\":\"w%d\",\"stream\":\"paged-%d:k%d\",\"data\":%d}", w->id, i % 3,
                         i % 7, i);

        client_send(&c, "POST", "/events", JSON_TYPE, body, (size_t)n);
        client_read(&c, &r, false);
        if (r.status != 201)
            abort();
        reply_free(&r);
    }
    client_close(&c);
    return NULL;
}

static void test_paging_under_writes(void **state)
{
    enum { WRITERS = 4, EACH = 500 };
    struct writer w[WRITERS];
    int next[WRITERS] = {0}, seen = 0;
    char after[32] = "evt_0000000000000000", last[32] = "";
    uint64_t until = now_ms() + 90000;

    for (int i = 0; i < 3; i++) {
        char body[64];

        snprintf(body, sizeof body, "{\"name\":\"paged-%d\",\"partitions\":3}", i);
        json_decref(call(&fx, "POST", "/topics", body, 201));
    }
    for (int i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){.id = i, .n = EACH};
        assert_int_equal(pthread_create(&w[i].thread, NULL, write_all, &w[i]), 0);
    }
    while (seen < WRITERS * EACH && now_ms() < until) {
        char target[128];
        const json_t *list;
        json_t *j;

        snprintf(target, sizeof target, "/events?stream=paged-*&after=%s&limit=37&wait=1", after);
        j = get(target);
        list = json_object_get(j, "events");
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *e = json_array_get(list, i);
            int id = text_of(e, "type")[1] - '0';

            assert_true(strcmp(text_of(e, "id"), last) > 0);
            snprintf(last, sizeof last, "%s", text_of(e, "id"));
            assert_int_equal(int_of(e, "data"), next[id]);
            next[id]++;
            seen++;
        }
        snprintf(after, sizeof after, "%s", text_of(j, "next"));
        json_decref(j);
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(w[i].thread, NULL);
    assert_int_equal(seen, WRITERS * EACH);
}

static void test_long_poll(void **state)
{
    struct client c;
    struct reply r;
    uint64_t from;
    json_t *j;

    emit(&fx, "{\"type\":\"a\",\"stream\":\"poll\"}");
    from = now_ms();
    j = get("/events?stream=poll&from=LATEST&wait=300ms");
    assert_int_equal(json_array_size(json_object_get(j, "events")), 0);
    assert_true(now_ms() - from >= 290);
    json_decref(j);
    client_open(&c, &fx);
    client_send(&c, "GET", "/events?stream=poll&from=LATEST&wait=60", "", "", 0);
    usleep(50000);
    emit(&fx, "{\"type\":\"news\",\"stream\":\"poll\"}");
    client_read(&c, &r, false);
    j = reply_json(&r, 200);
    assert_string_equal(text_of(json_array_get(json_object_get(j, "events"), 0), "type"), "news");
    json_decref(j);
    /* a peer that goes while it waits leaves nothing behind: fix_stop would find it */
    client_send(&c, "GET", "/events?stream=poll&from=LATEST&wait=20", "", "", 0);
    usleep(20000);
    client_close(&c);
}

/* ---- checkpoints ---- */

static void test_checkpoints(void **state)
{
    struct group_offset at;
    struct topic *t;
    struct reply r;
    char body[128], id[32];
    json_t *j;

    for (int i = 0; i < 3; i++) {
        j = call(&fx, "POST", "/events", "{\"type\":\"a\",\"stream\":\"checks:k\"}", 201);
        if (i == 1)
            snprintf(id, sizeof id, "%s", text_of(j, "id"));
        json_decref(j);
    }
    problem("GET", "/checkpoints/billing/checks", "", NULL, 404, "not_found");
    snprintf(body, sizeof body, "{\"after\":\"%s\",\"metadata\":\"m\\\"1\"}", id);
    j = call(&fx, "PUT", "/checkpoints/billing/checks", body, 200);
    assert_string_equal(text_of(j, "after"), id);
    json_decref(j);
    j = get("/checkpoints/billing/checks");
    assert_string_equal(text_of(j, "after"), id);
    assert_string_equal(text_of(j, "metadata"), "m\"1");
    assert_string_equal(text_of(j, "consumer"), "billing");
    assert_string_equal(text_of(j, "stream"), "checks");
    json_decref(j);
    /* the Kafka group of the same name is at the third record */
    t = topic_find(fx.broker, SLICE_LIT("checks"));
    assert_int_equal(group_offset_get(fx.broker, SLICE_LIT("billing"), topic_partition(t, 0), &at),
                     ERR_OK);
    assert_int_equal(at.offset, 2);
    topic_unref(&t);
    /* a key's checkpoint commits no offsets; the key may have a slash */
    json_decref(call(&fx, "PUT", "/checkpoints/other/checks:a/b", body, 200));
    t = topic_find(fx.broker, SLICE_LIT("checks"));
    assert_int_equal(group_offset_get(fx.broker, SLICE_LIT("other"), topic_partition(t, 0), &at),
                     ERR_NOT_FOUND);
    topic_unref(&t);
    json_decref(call(&fx, "PUT", "/checkpoints/billing/checks:k", body, 200));
    j = get("/checkpoints/billing");
    assert_int_equal(json_array_size(json_object_get(j, "checkpoints")), 2);
    json_decref(j);
    r = request(&fx, "DELETE", "/checkpoints/billing/checks", "", NULL);
    assert_int_equal(r.status, 204);
    reply_free(&r);
    problem("DELETE", "/checkpoints/billing/checks", "", NULL, 404, "not_found");
    problem("PUT", "/checkpoints/billing/checks", JSON_TYPE, "{\"after\":\"x\"}", 400,
            "invalid_argument");
    problem("PUT", "/checkpoints/billing/checks", JSON_TYPE, "{", 400, "corrupt_input");
    problem("PUT", "/checkpoints/billing/checks", JSON_TYPE,
            "{\"after\":\"evt_0000000000000001\",\"x\":1}", 400, "invalid_argument");
    problem("PUT", "/checkpoints/billing/no-such", JSON_TYPE,
            "{\"after\":\"evt_0000000000000001\"}", 404, "topic_not_found");
}

/* A keeper of older records that can only search: record n is at old_at[n]. */
#define OLD 10
static uint64_t old_at[OLD];
static atomic_bool old_closed, old_broken;
static atomic_uint old_asked;

static enum err old_open(void *arg, struct partition *p, int64_t from, int64_t to,
                         struct tier_pass **out, struct errinfo *info)
{
    return errinfo_set(info, ERR_UNSUPPORTED, "nothing is read here");
}

static enum err old_next(struct tier_pass *s, size_t bytes, struct tier_block *out,
                         struct errinfo *info)
{
    return ERR_EOF;
}

static void old_close(struct tier_pass **s)
{
}

static enum err old_find(void *arg, struct partition *p, enum tier_by by, int64_t value,
                         int64_t from, int64_t to, int64_t *offset, int64_t *ts_ms,
                         struct errinfo *info)
{
    atomic_fetch_add(&old_asked, 1);
    while (atomic_load(&old_closed))
        usleep(1000);
    if (atomic_load(&old_broken))
        return errinfo_set(info, ERR_NETWORK, "nobody is there");
    for (*offset = from; *offset < to; ++*offset)
        if (by == TIER_BY_POSITION && old_at[*offset] >= (uint64_t)value)
            return ERR_OK;
    return ERR_EOF;
}

/* A topic whose records are all in the lake alone. */
static void old_topic(struct fix *f, struct topic **out)
{
    static const struct tier_ops ops = {
        .open = old_open, .next = old_next, .close = old_close, .find = old_find};
    struct plog_info now = {0};
    struct topic_conf c;
    json_t *j;

    assert_int_equal(tier_start(f->broker, &ops, NULL), ERR_OK);
    topic_conf_default(f->broker, &c);
    c.lake_enable = 1;
    c.retention_ms = -1;
    c.local_retention_bytes = 0;
    assert_int_equal(topic_create_wait(f->broker, SLICE_LIT("old"), 1, &c, NULL), ERR_OK);
    *out = topic_find(f->broker, SLICE_LIT("old"));
    for (int i = 0; i < OLD; i++) {
        j = call(f, "POST", "/events", "{\"type\":\"a\",\"stream\":\"old\"}", 201);
        old_at[i] = (uint64_t)int_of(j, "position");
        json_decref(j);
    }
    partition_hold(topic_partition(*out, 0), OLD);
    while (now.start_offset < OLD) {
        usleep(10000);
        plog_info_get(partition_log(topic_partition(*out, 0)), &now);
    }
}

static void old_body(int after, char body[64])
{
    snprintf(body, 64, "{\"after\":\"evt_%016llx\"}", (unsigned long long)old_at[after]);
}

/* The group's offset is that of the lake, not where the local log begins. */
static void test_checkpoint_in_lake(void **state)
{
    struct group_offset at;
    struct client c;
    struct reply r;
    struct topic *t;
    char body[64];
    struct fix f;

    fix_start(&f, NULL);
    old_topic(&f, &t);
    for (int after = 0; after < OLD; after += 3) {
        old_body(after, body);
        json_decref(call(&f, "PUT", "/checkpoints/g/old", body, 200));
        assert_int_equal(group_offset_get(f.broker, SLICE_LIT("g"), topic_partition(t, 0), &at),
                         ERR_OK);
        assert_int_equal(at.offset, after + 1);
    }
    /* a peer that goes while the lake is asked leaves nothing behind: fix_stop would find it */
    atomic_store(&old_closed, true);
    atomic_store(&old_asked, 0);
    old_body(1, body);
    client_open(&c, &f);
    client_send(&c, "PUT", "/checkpoints/gone/old", JSON_TYPE, body, strlen(body));
    while (atomic_load(&old_asked) == 0)
        usleep(1000);
    client_close(&c);
    atomic_store(&old_broken, true);
    atomic_store(&old_closed, false);
    old_body(4, body);
    r = request(&f, "PUT", "/checkpoints/g/old", JSON_TYPE, body);
    expect_problem(&r, 503, "lake_unavailable");
    assert_int_equal(group_offset_get(f.broker, SLICE_LIT("g"), topic_partition(t, 0), &at),
                     ERR_OK);
    assert_int_equal(at.offset, 10);
    assert_int_equal(group_offset_get(f.broker, SLICE_LIT("gone"), topic_partition(t, 0), &at),
                     ERR_NOT_FOUND);
    topic_unref(&t);
    fix_stop(&f);
}

/* ---- topics ---- */

static void test_topics(void **state)
{
    struct reply r;
    json_t *j =
        call(&fx, "POST", "/topics",
             "{\"name\":\"t-one\",\"partitions\":2,\"config\":{\"retention.ms\":3600000}}", 201);

    assert_int_equal(int_of(j, "partitions"), 2);
    assert_string_equal(text_of(json_object_get(j, "config"), "retention.ms"), "3600000");
    json_decref(j);
    problem("POST", "/topics", JSON_TYPE, "{\"name\":\"t-one\"}", 409, "topic_exists");
    problem("POST", "/topics", JSON_TYPE, "{\"name\":\"bad name\"}", 400, "invalid_topic_name");
    problem("POST", "/topics", JSON_TYPE, "{\"partitions\":1}", 400, "invalid_argument");
    problem("POST", "/topics", JSON_TYPE, "{\"name\":\"x\",\"partitions\":0}", 400,
            "invalid_argument");
    problem("POST", "/topics", JSON_TYPE, "{\"name\":\"x\",\"shape\":0}", 400, "invalid_argument");
    problem("POST", "/topics", JSON_TYPE, "{\"name\":\"x\",\"config\":{\"no.such\":\"1\"}}", 400,
            "invalid_config");
    problem("POST", "/topics", JSON_TYPE, "{\"name\":\"x\",\"config\":{\"retention.ms\":[]}}", 400,
            "invalid_config");
    problem("POST", "/topics", JSON_TYPE, "[1", 400, "corrupt_input");

    j = call(&fx, "PATCH", "/topics/t-one",
             "{\"partitions\":3,\"config\":{\"retention.bytes\":\"1000000\"}}", 200);
    assert_int_equal(int_of(j, "partitions"), 3);
    assert_string_equal(text_of(json_object_get(j, "config"), "retention.ms"),
                        "3600000"); /* kept */
    json_decref(j);
    problem("PATCH", "/topics/t-one", JSON_TYPE, "{\"partitions\":1}", 400, "invalid_argument");
    problem("PATCH", "/topics/none", JSON_TYPE, "{\"partitions\":1}", 404, "topic_not_found");
    problem("GET", "/topics/none", "", NULL, 404, "topic_not_found");
    problem("GET", "/topics/none/partitions", "", NULL, 404, "topic_not_found");
    problem("DELETE", "/topics/none", "", NULL, 404, "topic_not_found");

    emit(&fx, "[{\"type\":\"a\",\"stream\":\"t-one:a\"},{\"type\":\"a\",\"stream\":\"t-one:a\"}]");
    j = get("/topics/t-one/partitions");
    {
        const json_t *list = json_object_get(j, "partitions");
        long long end = 0;
        char target[64];

        assert_int_equal(json_array_size(list), 3);
        for (size_t i = 0; i < 3; i++) {
            long long n = int_of(json_array_get(list, i), "end");

            if (n) {
                snprintf(target, sizeof target, "/topics/t-one/records?partition=%zu&before=1", i);
                r = request(&fx, "DELETE", target, "", NULL);
                assert_int_equal(r.status, 204);
                reply_free(&r);
            }
            end += n;
        }
        assert_int_equal(end, 2);
    }
    json_decref(j);
    j = get("/events?stream=t-one");
    assert_int_equal(json_array_size(json_object_get(j, "events")), 1);
    json_decref(j);
    problem("DELETE", "/topics/t-one/records?before=5", "", NULL, 400, "invalid_argument");
    problem("DELETE", "/topics/t-one/records?partition=9", "", NULL, 404, "partition_not_found");
    problem("DELETE", "/topics/t-one/records?partition=0&before=99", "", NULL, 416,
            "offset_out_of_range");
    r = request(&fx, "DELETE", "/topics/t-one/records", "", NULL);
    assert_int_equal(r.status, 204);
    reply_free(&r);
    j = get("/events?stream=t-one");
    assert_int_equal(json_array_size(json_object_get(j, "events")), 0);
    json_decref(j);
    r = request(&fx, "DELETE", "/topics/t-one", "", NULL);
    assert_int_equal(r.status, 204);
    reply_free(&r);
    problem("GET", "/topics/t-one", "", NULL, 404, "topic_not_found");
    /* and it can be made again by use */
    emit(&fx, "{\"type\":\"a\",\"stream\":\"t-one\"}");
}

static void test_topics_list(void **state)
{
    char after[64] = "";
    int n = 0, pages = 0;

    for (int i = 0; i < 150; i++) {
        char body[64];

        snprintf(body, sizeof body, "{\"name\":\"list-%03d\"}", i);
        json_decref(call(&fx, "POST", "/topics", body, 201));
    }
    do {
        char target[128];
        json_t *j;
        const json_t *list;

        snprintf(target, sizeof target, "/topics?pattern=list-*&limit=70&after=%s", after);
        j = get(target);
        list = json_object_get(j, "topics");
        for (size_t i = 0; i < json_array_size(list); i++, n++)
            assert_int_equal(strtol(text_of(json_array_get(list, i), "name") + 5, NULL, 10), n);
        *after = 0;
        if (json_object_get(j, "next"))
            snprintf(after, sizeof after, "%s", text_of(j, "next"));
        json_decref(j);
        pages++;
    } while (*after && pages < 10);
    assert_int_equal(n, 150);
    assert_int_equal(pages, 3);
    problem("GET", "/topics?limit=0", "", NULL, 400, "invalid_argument");
}

/* ---- the server itself ---- */

static void test_operations(void **state)
{
    static const char *const names[] = {
        "weir_http_requests_total{method=\"POST\",route=\"/events\",status=\"2xx\"}",
        "weir_http_request_duration_seconds_bucket", "weir_http_events_written_total"};
    struct reply r = request(&fx, "GET", "/metrics", "", NULL);
    char *v;

    assert_int_equal(r.status, 200);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!strstr(r.body, names[i]))
            fail_msg("no %s in %s", names[i], r.body);
    }
    reply_free(&r);
    json_decref(get("/healthz"));
    json_decref(get("/readyz"));
    json_decref(get("/"));
    r = request(&fx, "GET", "/openapi.yaml", "", NULL);
    assert_int_equal(r.status, 200);
    assert_int_equal(r.body_n, openapi_document().len);
    reply_free(&r);
    problem("GET", "/nothing", "", NULL, 404, "not_found");
    problem("GET", "/topics/a/b", "", NULL, 404, "not_found");
    r = request(&fx, "DELETE", "/events", "", NULL);
    v = head_get(r.head, "allow");
    assert_string_equal(v, "POST, HEAD, GET, OPTIONS");
    free(v);
    expect_problem(&r, 405, "method_not_allowed");
    r = request(&fx, "OPTIONS", "/topics/x", "", NULL);
    assert_int_equal(r.status, 204);
    v = head_get(r.head, "allow");
    assert_string_equal(v, "HEAD, GET, PATCH, DELETE, OPTIONS");
    free(v);
    reply_free(&r);
}

static void test_origins_default(void **state)
{
    struct reply r;
    char own[128], *v;

    /* a page from elsewhere may not write to a server on this machine */
    problem("POST", "/events", JSON_TYPE "Origin: http://evil.example\r\n", "{\"type\":\"a\"}", 403,
            "origin_not_allowed");
    problem("POST", "/events", "Origin: null\r\n", "{\"type\":\"a\"}", 403, "origin_not_allowed");
    problem("GET", "/events?stream=a",
            "Origin: http://evil.example\r\nConnection: Upgrade\r\nUpgrade: "
            "websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            NULL, 403, "origin_not_allowed");
    snprintf(own, sizeof own, JSON_TYPE "Origin: http://test\r\n");
    r = request(&fx, "POST", "/events", own, "{\"type\":\"a\"}");
    v = head_get(r.head, "access-control-allow-origin");
    assert_null(v);
    json_decref(reply_json(&r, 201));
}

/* Each documented path and method is there, and each route is documented. */
static void test_openapi_and_routes(void **state)
{
    struct slice doc = openapi_document();
    char *text = strndup((const char *)doc.ptr, doc.len), *line, *rest = text, path[96] = "";
    bool found[64] = {false}, in_paths = false;

    while ((line = strsep(&rest, "\n"))) {
        char method[16];

        if (strcmp(line, "paths:") == 0) {
            in_paths = true;
            continue;
        }
        if (*line && *line != ' ')
            in_paths = false;
        if (!in_paths)
            continue;
        if (strncmp(line, "  /", 3) == 0) {
            snprintf(path, sizeof path, "%.*s", (int)strcspn(line + 2, ":"), line + 2);
        } else if (sscanf(line, "    %15[a-z]:", method) == 1 && strncmp(line, "     ", 5) != 0 &&
                   strcmp(method, "parameters") != 0) {
            char target[96] = {0};
            struct reply r;
            bool known = false;

            for (char *p = method; *p; p++)
                *p = (char)toupper((unsigned char)*p);
            for (unsigned i = 0; i < routes_count(); i++) {
                if (strcmp(route_method(i), method) == 0 && strcmp(route_path(i), path) == 0)
                    found[i] = known = true;
            }
            if (!known)
                fail_msg("documented but not there: %s %s", method, path);
            for (const char *p = path; *p; p++) { /* each {part} becomes x */
                target[strlen(target)] = *p == '{' ? 'x' : *p;
                if (*p == '{')
                    p = strchr(p, '}');
            }
            if (strcmp(path, "/events/stream") == 0)
                snprintf(method, sizeof method, "HEAD");
            r = request(&fx, method, target, "", NULL);
            if (r.status == 405 || (r.status == 404 && strstr(r.body, "there is nothing")))
                fail_msg("%s %s answers %d", method, target, r.status);
            reply_free(&r);
        }
    }
    for (unsigned i = 0; i < routes_count(); i++) {
        if (!found[i])
            fail_msg("not documented: %s %s", route_method(i), route_path(i));
    }
    free(text);
}

/* ---- other configurations ---- */

static void small(struct fix *f)
{
    f->conf.topics_auto_create = false;
    f->conf.limits.batch_events_max = 3;
    f->conf.limits.event_bytes_max = 200;
    f->conf.limits.depth_max = 4;
}

static void test_configured(void **state)
{
    struct fix f;
    struct reply r;
    char body[400];

    fix_start(&f, small);
    r = request(&f, "POST", "/events", JSON_TYPE, "{\"type\":\"a\",\"stream\":\"s\"}");
    expect_problem(&r, 404, "topic_not_found");
    json_decref(call(&f, "POST", "/topics", "{\"name\":\"as\"}", 201));
    r = request(&f, "POST", "/events", JSON_TYPE,
                "[{\"type\":\"a\"},{\"type\":\"a\"},{\"type\":\"a\"},{\"type\":\"a\"}]");
    expect_problem(&r, 413, "too_large");
    snprintf(body, sizeof body, "{\"type\":\"a\",\"data\":\"%0250d\"}", 0);
    r = request(&f, "POST", "/events", JSON_TYPE, body);
    expect_problem(&r, 413, "too_large");
    json_decref(call(&f, "POST", "/events", "{\"type\":\"a\",\"data\":[[[[]]]]}", 201));
    r = request(&f, "POST", "/events", JSON_TYPE, "{\"type\":\"a\",\"data\":[[[[[]]]]]}");
    expect_problem(&r, 400, "corrupt_input");
    fix_stop(&f);
}

static const char *const origins[] = {"http://app.example"};

static void with_cors(struct fix *f)
{
    f->conf.cors_origins = origins;
    f->conf.cors_origins_n = 1;
}

static void test_cors(void **state)
{
    struct fix f;
    struct reply r;
    char *v;

    fix_start(&f, with_cors);
    r = request(&f, "OPTIONS", "/events",
                "Origin: http://app.example\r\nAccess-Control-Request-Method: POST\r\n"
                "Access-Control-Request-Headers: content-type, idempotency-key\r\n",
                NULL);
    assert_int_equal(r.status, 204);
    v = head_get(r.head, "access-control-allow-origin");
    assert_string_equal(v, "http://app.example");
    free(v);
    v = head_get(r.head, "access-control-allow-methods");
    assert_non_null(strstr(v, "POST"));
    free(v);
    v = head_get(r.head, "access-control-allow-headers");
    assert_string_equal(v, "content-type, idempotency-key");
    free(v);
    reply_free(&r);
    r = request(&f, "POST", "/events", JSON_TYPE "Origin: http://app.example\r\n",
                "{\"type\":\"a\"}");
    v = head_get(r.head, "access-control-allow-origin");
    assert_string_equal(v, "http://app.example");
    free(v);
    v = head_get(r.head, "vary");
    assert_string_equal(v, "Origin");
    free(v);
    json_decref(reply_json(&r, 201));
    r = request(&f, "GET", "/healthz", "Origin: http://other.example\r\n", NULL);
    v = head_get(r.head, "access-control-allow-origin");
    assert_null(v);
    reply_free(&r);
    fix_stop(&f);
}

/* What was answered is there after a restart, and a retry is still harmless. */
static void test_restart(void **state)
{
    static const char body[] =
        "[{\"type\":\"a\",\"stream\":\"stay\"},{\"type\":\"b\",\"stream\":\"stay\",\"id\":\"i\"}]";
    struct fix f;
    char dir[64];
    struct reply r;
    json_t *first, *second;

    fix_start(&f, NULL);
    r = request(&f, "POST", "/events", JSON_TYPE "Idempotency-Key: k\r\n", body);
    first = reply_json(&r, 201);
    json_decref(
        call(&f, "PUT", "/checkpoints/c/stay", "{\"after\":\"evt_0000000000000001\"}", 200));
    snprintf(dir, sizeof dir, "%s", f.dir);
    fix_halt(&f);
    fix_start_in(&f, dir, NULL);
    r = request(&f, "POST", "/events", JSON_TYPE "Idempotency-Key: k\r\n", body);
    second = reply_json(&r, 200);
    for (size_t i = 0; i < 2; i++)
        assert_string_equal(text_of(json_array_get(json_object_get(first, "events"), i), "id"),
                            text_of(json_array_get(json_object_get(second, "events"), i), "id"));
    json_decref(first);
    json_decref(second);
    first = call(&f, "GET", "/events?stream=stay", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(first, "events")), 2);
    json_decref(first);
    json_decref(call(&f, "GET", "/checkpoints/c/stay", NULL, 200));
    fix_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_emit_and_read),
        cmocka_unit_test(test_emit_default_stream),
        cmocka_unit_test(test_emit_forms),
        cmocka_unit_test(test_emit_refused),
        cmocka_unit_test(test_partial),
        cmocka_unit_test(test_event_id_makes_retry_harmless),
        cmocka_unit_test(test_idempotency_key),
        cmocka_unit_test(test_idempotency_key_concurrent),
        cmocka_unit_test(test_topics_by_first_use_concurrent),
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_read_parameters),
        cmocka_unit_test(test_read_places),
        cmocka_unit_test(test_read_lines_and_head),
        cmocka_unit_test(test_foreign_records),
        cmocka_unit_test(test_read_lost),
        cmocka_unit_test(test_paging_under_writes),
        cmocka_unit_test(test_long_poll),
        cmocka_unit_test(test_checkpoints),
        cmocka_unit_test(test_checkpoint_in_lake),
        cmocka_unit_test(test_topics),
        cmocka_unit_test(test_topics_list),
        cmocka_unit_test(test_operations),
        cmocka_unit_test(test_origins_default),
        cmocka_unit_test(test_openapi_and_routes),
        cmocka_unit_test(test_configured),
        cmocka_unit_test(test_cors),
        cmocka_unit_test(test_restart),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
