/* Following: WebSocket and server-sent events, history and live, resume, slow readers, publishing.
 */
#include "fixture.h"

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

/* A list of n events, each printed by one. */
static void emit_list(const char *stream, int from, int n, size_t each,
                      int (*one)(char *out, size_t max, const char *stream, int i))
{
    size_t max = (size_t)n * each + 3, at = 1;
    char *body = malloc(max);

    body[0] = '[';
    for (int i = 0; i < n; i++) {
        if (i)
            body[at++] = ',';
        at += (size_t)one(body + at, max - at, stream, from + i);
        assert_true(at < max - 2);
    }
    body[at++] = ']';
    body[at] = 0;
    emit(&fx, body);
    free(body);
}

static int small_event(char *out, size_t max, const char *stream, int i)
{
    return snprintf(out, max, "{\"type\":\"t%d\",\"stream\":\"%s\",\"data\":%d}", i % 2, stream, i);
}

static int padded_event(char *out, size_t max, const char *stream, int i)
{
    return snprintf(out, max,
                    "{\"type\":\"a\",\"stream\":\"%s\",\"data\":{\"n\":%d,\"pad\":\"%02000d\"}}",
                    stream, i, 0);
}

/* n events with data from `from` on. */
static void emit_many(const char *stream, int from, int n)
{
    emit_list(stream, from, n, 96, small_event);
}

/* n events of some 2 KB, numbered from `from` on. */
static void emit_padded(const char *stream, int from, int n)
{
    emit_list(stream, from, n, 2200, padded_event);
}

/* The next n messages are the events with data from `from` on, in steps. */
static void expect(struct client *c, int from, int n, int step)
{
    for (int i = 0; i < n; i++) {
        json_t *j = ws_json(c);

        if (!json_object_get(j, "data"))
            fail_msg("no event: %s", json_dumps(j, 0));
        assert_int_equal(int_of(j, "data"), from + i * step);
        json_decref(j);
    }
}

static void test_ws_history_then_live(void **state)
{
    struct client c, live, filtered;

    emit_many("hist", 0, 500);
    ws_connect(&c, &fx, "/events?topic=hist&from=TRIM_HORIZON", "");
    ws_connect(&live, &fx, "/events?stream=hist", "");
    ws_connect(&filtered, &fx, "/events?stream=hist&from=TRIM_HORIZON&type=t1,none", "");
    expect(&c, 0, 500, 1);
    expect(&filtered, 1, 250, 2);
    emit_many("hist", 500, 100);
    expect(&c, 500, 100, 1);
    expect(&live, 500, 100, 1);
    expect(&filtered, 501, 50, 2);
    client_close(&c);
    client_close(&live);
    client_close(&filtered);
}

static void test_ws_wildcards_and_later_topics(void **state)
{
    struct client all, keyed, key;

    emit_many("wild-a:k", 0, 1);
    ws_connect(&all, &fx, "/events?topic=wild-*", "");
    ws_connect(&keyed, &fx, "/events?topic=wild-a:*", "");
    ws_connect(&key, &fx, "/events?topic=wild-a:z", "");
    emit_many("wild-a", 1, 1);
    emit_many("wild-b:k", 2, 1); /* did not exist */
    emit_many("wild-a:z", 3, 1);
    expect(&all, 1, 3, 1);
    expect(&keyed, 3, 1, 1);
    expect(&key, 3, 1, 1);
    client_close(&all);
    client_close(&keyed);
    client_close(&key);
}

static void test_ws_resume(void **state)
{
    struct client c;
    char target[96];
    json_t *j;

    emit_many("resume", 0, 10);
    ws_connect(&c, &fx, "/events?stream=resume&from=TRIM_HORIZON", "");
    expect(&c, 0, 4, 1);
    j = ws_json(&c);
    snprintf(target, sizeof target, "/events?stream=resume&after=%s", text_of(j, "id"));
    json_decref(j);
    client_close(&c);
    ws_connect(&c, &fx, target, "");
    expect(&c, 5, 5, 1);
    emit_many("resume", 10, 1);
    expect(&c, 10, 1, 1);
    client_close(&c);
}

/* Many followers of one topic get the same; some come and go meanwhile. */
static void test_ws_many(void **state)
{
    enum { N = 60 };
    struct client c[N];

    emit_many("many", 0, 1);
    for (int i = 0; i < N; i++)
        ws_connect(&c[i], &fx,
                   i % 2 ? "/events?stream=many&from=TRIM_HORIZON" : "/events?stream=many", "");
    for (int i = 0; i < N; i += 2)
        ws_text(&c[i], "{\"type\":\"x\",\"stream\":\"many-side\",\"ref\":1}");
    for (int i = 0; i < N; i += 2)
        json_decref(ws_json(&c[i])); /* so they are there */
    for (int i = 1; i <= 50; i++)
        emit_many("many", i * 20 - 19, 20);
    for (int i = 0; i < N; i++) {
        expect(&c[i], i % 2 ? 0 : 1, i % 2 ? 501 : 500, 1);
        if (i % 3 == 0)
            client_close(&c[i]);
    }
    for (int i = 0; i < N; i++) {
        if (i % 3 == 0)
            continue;
        expect(&c[i], 501, 500, 1);
        client_close(&c[i]);
    }
}

/* The next event's "n"; notes of lag are counted. */
static int next_n(struct client *c, int *lags)
{
    for (;;) {
        json_t *j = ws_json(c);
        const json_t *lag = json_object_get(j, "lag");
        int n = lag ? -1 : (int)int_of(json_object_get(j, "data"), "n");

        if (lag)
            assert_int_equal(strlen(text_of(lag, "after")), 20);
        json_decref(j);
        if (n >= 0)
            return n;
        ++*lags;
    }
}

static void narrow(struct fix *f)
{
    f->conf.limits.subscriber_buffer_bytes = 16384;
    f->conf.limits.publishes_max = 4;
}

/* A reader that does not read holds no memory, is told, and misses nothing; others are not held up.
 */
static void test_ws_slow(void **state)
{
    enum { N = 3000 };
    struct client slow, quick;
    int n, lags = 0, quick_lags = 0, size = 4096;

    fix_stop(&fx);
    fix_start(&fx, narrow);
    emit(&fx, "{\"type\":\"a\",\"stream\":\"slow\",\"data\":\"first\"}");
    client_open(&slow, &fx);
    close(slow.fd);
    {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(fx.port)};
        struct timeval limit = {.tv_sec = 20};
        static const char head[] =
            "GET /events?stream=slow HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: "
            "websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        struct reply r;

        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        slow.fd = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(slow.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size); /* before connect */
        setsockopt(slow.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        assert_int_equal(connect(slow.fd, (struct sockaddr *)&a, sizeof a), 0);
        client_write(&slow, head, sizeof head - 1);
        client_head(&slow, &r);
        assert_int_equal(r.status, 101);
        reply_free(&r);
    }
    ws_connect(&quick, &fx, "/events?stream=slow", "");
    usleep(100000);
    for (int i = 0; i < N; i += 50) {
        emit_padded("slow", i, 50);
        for (int k = i; k < i + 50; k++)
            assert_int_equal(next_n(&quick, &quick_lags), k);
    }
    for (n = 0; n < N; n++)
        assert_int_equal(next_n(&slow, &lags), n);
    assert_true(lags > 0);
    client_close(&slow);
    client_close(&quick);
}

static void test_ws_publish(void **state)
{
    struct client c;
    json_t *j;
    const json_t *ack;

    ws_connect(&c, &fx, "/events", ""); /* publishing only */
    ws_text(&c, "{\"type\":\"order.made\",\"data\":{\"ref\": 1 },\"ref\":\"r1\"}");
    j = ws_json(&c);
    ack = json_object_get(j, "ack");
    assert_string_equal(text_of(ack, "ref"), "r1");
    assert_string_equal(text_of(ack, "stream"), "orders");
    json_decref(j);
    ws_text(&c, "{ \"ref\" : 7 , \"type\":\"order.made\"}");
    j = ws_json(&c);
    assert_int_equal(int_of(json_object_get(j, "ack"), "ref"), 7);
    json_decref(j);
    ws_text(&c, "{\"events\":[{\"type\":\"a\",\"stream\":\"pub\"},{\"type\":\"b\",\"stream\":"
                "\"pub\"}],\"ref\":\"two\"}");
    j = ws_json(&c);
    assert_int_equal(json_array_size(json_object_get(json_object_get(j, "ack"), "events")), 2);
    json_decref(j);
    ws_text(&c, "{\"ref\":\"bad\",\"data\":1}");
    j = ws_json(&c);
    assert_string_equal(text_of(json_object_get(j, "error"), "ref"), "bad");
    assert_string_equal(text_of(json_object_get(j, "error"), "code"), "invalid_argument");
    json_decref(j);
    ws_text(&c, "{\"type\":\"a\",\"ref\":{}}");
    j = ws_json(&c);
    assert_string_equal(text_of(json_object_get(j, "error"), "code"), "invalid_argument");
    json_decref(j);
    ws_text(&c, "not json");
    j = ws_json(&c);
    assert_string_equal(text_of(json_object_get(j, "error"), "code"), "corrupt_input");
    json_decref(j);
    ws_text(&c, "{\"type\":\"a\",\"stream\":\"pub\"");
    j = ws_json(&c);
    assert_string_equal(text_of(json_object_get(j, "error"), "code"), "corrupt_input");
    json_decref(j);
    j = call(&fx, "GET", "/events?stream=orders", NULL, 200);
    {
        const json_t *e = json_array_get(json_object_get(j, "events"), 0);

        assert_int_equal(int_of(json_object_get(e, "data"), "ref"), 1);
        assert_int_equal(json_array_size(json_object_get(j, "events")), 2);
    }
    json_decref(j);
    client_close(&c);
}

static void test_ws_refused(void **state)
{
    struct reply r =
        request(&fx, "GET", "/events?stream=none",
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                NULL);

    expect_problem(&r, 404, "topic_not_found");
    r = request(&fx, "GET", "/events?stream=pub",
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                NULL);
    expect_problem(&r, 426, "bad_upgrade");
    r = request(&fx, "GET", "/events?stream=pub&from=LATEST",
                "Connection: Upgrade\r\nUpgrade: h2c\r\n", NULL);
    json_decref(reply_json(&r, 200)); /* an upgrade that is none of ours is ignored */
}

/* The only topic goes: the follower is told and let go. */
static void test_ws_topic_deleted(void **state)
{
    struct client c;
    struct reply r;
    json_t *j;
    char *t;
    int op;

    emit_many("gone", 0, 1);
    ws_connect(&c, &fx, "/events?stream=gone&from=TRIM_HORIZON", "");
    expect(&c, 0, 1, 1);
    r = request(&fx, "DELETE", "/topics/gone", "", NULL);
    assert_int_equal(r.status, 204);
    reply_free(&r);
    j = ws_json(&c);
    assert_string_equal(text_of(json_object_get(j, "error"), "code"), "topic_not_found");
    json_decref(j);
    t = ws_frame(&c, &op);
    assert_int_equal(op, 8);
    free(t);
    client_close(&c);
}

/* ---- server-sent events ---- */

struct message {
    char id[8192], event[8192], data[8192];
};

static void sse_connect(struct client *c, const char *target, const char *headers)
{
    struct reply r;
    char *v;

    client_open(c, &fx);
    client_send(c, "GET", target, headers, "", 0);
    client_head(c, &r);
    if (r.status != 200)
        fail_msg("%s", r.head);
    v = head_get(r.head, "content-type");
    assert_string_equal(v, "text/event-stream");
    free(v);
    reply_free(&r);
}

/* Drops n bytes of the chunk, and the line end behind its last. */
static void chunk_eat(struct client *c, size_t n, size_t *left)
{
    client_eat(c, n);
    *left -= n;
    if (*left)
        return;
    while (c->n < 2)
        assert_true(client_more(c));
    client_eat(c, 2);
}

/* One line of the chunked body, without its end. *left: bytes of the chunk still to come. */
static bool sse_line(struct client *c, char *out, size_t max, size_t *left)
{
    size_t n = 0;

    for (;;) {
        size_t have;
        char *end;

        if (*left == 0) { /* a chunk's size */
            while (!c->n || !(end = strstr(c->in, "\r\n"))) {
                if (!client_more(c))
                    return false;
            }
            *left = strtoul(c->in, NULL, 16);
            client_eat(c, (size_t)(end - c->in) + 2);
            if (*left == 0)
                return false;
        }
        while (!c->n) {
            if (!client_more(c))
                return false;
        }
        have = c->n < *left ? c->n : *left;
        end = memchr(c->in, '\n', have);
        if (end)
            have = (size_t)(end - c->in);
        assert_true(n + have < max);
        memcpy(out + n, c->in, have);
        n += have;
        out[n] = 0;
        chunk_eat(c, have + (end != NULL), left);
        if (end)
            return true;
    }
}

static bool sse_message(struct client *c, struct message *m, size_t *left, int *comments)
{
    char line[8192];

    memset(m, 0, sizeof *m);
    for (;;) {
        if (!sse_line(c, line, sizeof line, left))
            return false;
        if (line[0] == 0 && *m->data)
            return true;
        if (line[0] == ':')
            ++*comments;
        else if (strncmp(line, "id: ", 4) == 0)
            snprintf(m->id, sizeof m->id, "%s", line + 4);
        else if (strncmp(line, "event: ", 7) == 0)
            snprintf(m->event, sizeof m->event, "%s", line + 7);
        else if (strncmp(line, "data: ", 6) == 0)
            snprintf(m->data, sizeof m->data, "%s", line + 6);
    }
}

static void sse_expect(struct client *c, size_t *left, int from, int n, char last[32])
{
    int comments = 0;

    for (int i = 0; i < n; i++) {
        struct message m;
        json_t *j;

        assert_true(sse_message(c, &m, left, &comments));
        assert_string_equal(m.event, "");
        j = json_loads(m.data, 0, NULL);
        assert_non_null(j);
        assert_int_equal(int_of(j, "data"), from + i);
        assert_string_equal(text_of(j, "id"), m.id);
        snprintf(last, 32, "%.31s", m.id);
        json_decref(j);
    }
}

static void test_sse(void **state)
{
    struct client c;
    size_t left = 0;
    char last[32], headers[128];

    emit_many("sse", 0, 5);
    sse_connect(&c, "/events/stream?stream=sse&from=TRIM_HORIZON", "");
    sse_expect(&c, &left, 0, 5, last);
    emit_many("sse", 5, 3);
    sse_expect(&c, &left, 5, 2, last);
    client_close(&c);
    emit_many("sse", 8, 2);
    /* as a browser comes back */
    snprintf(headers, sizeof headers, "Accept: text/event-stream\r\nLast-Event-ID: %s\r\n", last);
    sse_connect(&c, "/events/stream?stream=sse", headers);
    left = 0;
    sse_expect(&c, &left, 7, 3, last);
    emit_many("sse", 10, 1);
    sse_expect(&c, &left, 10, 1, last);
    client_close(&c);
}

/* A follower that begins below the oldest event is told so first. */
static void test_start_lost(void **state)
{
    char target[96], headers[64], want[64], id[32];
    int comments = 0;
    size_t left = 0;
    struct message m;
    struct client c;
    struct reply r;
    json_t *j;

    j = call(&fx, "POST", "/events", "{\"type\":\"t\",\"stream\":\"late\",\"data\":0}", 201);
    snprintf(id, sizeof id, "%s", text_of(j, "id"));
    json_decref(j);
    emit_many("late", 1, 3);
    emit_many("late", 4, 2);
    r = request(&fx, "DELETE", "/topics/late/records?partition=0&before=4", "", NULL);
    assert_int_equal(r.status, 204);
    reply_free(&r);

    snprintf(target, sizeof target, "/events?stream=late&after=%s", id);
    ws_connect(&c, &fx, target, "");
    j = ws_json(&c);
    assert_string_equal(text_of(json_object_get(j, "lost"), "after"), id);
    json_decref(j);
    expect(&c, 4, 2, 1);
    emit_many("late", 6, 1);
    expect(&c, 6, 1, 1);
    client_close(&c);

    snprintf(headers, sizeof headers, "Last-Event-ID: %s\r\n", id);
    sse_connect(&c, "/events/stream?stream=late", headers);
    assert_true(sse_message(&c, &m, &left, &comments));
    assert_string_equal(m.event, "lost");
    snprintf(want, sizeof want, "{\"after\":\"%s\"}", id);
    assert_string_equal(m.data, want);
    sse_expect(&c, &left, 4, 3, id);
    client_close(&c);

    ws_connect(&c, &fx, "/events?stream=late&from=TRIM_HORIZON", "");
    expect(&c, 4, 3, 1);
    client_close(&c);
}

static void beating(struct fix *f)
{
    f->conf.limits.heartbeat_ms = 100;
    f->conf.limits.subscriber_buffer_bytes = 16384;
}

static void test_sse_heartbeat_and_slow(void **state)
{
    struct client c;
    struct message m;
    size_t left = 0;
    int comments = 0, next = 0;

    fix_stop(&fx);
    fix_start(&fx, beating);
    emit(&fx, "{\"type\":\"a\",\"stream\":\"beat\",\"data\":{\"n\":-1}}");
    sse_connect(&c, "/events/stream?stream=beat", "");
    while (comments < 4) { /* a chunk each: a line and an empty one */
        char line[64];

        assert_true(sse_line(&c, line, sizeof line, &left));
        comments += line[0] == ':';
    }
    for (int i = 0; i < 2500; i += 50) /* some 5 MB that nobody reads yet */
        emit_padded("beat", i, 50);
    while (next < 2500) {
        json_t *j;

        assert_true(sse_message(&c, &m, &left, &comments));
        if (strcmp(m.event, "lag") == 0)
            continue;
        j = json_loads(m.data, 0, NULL);
        assert_int_equal(int_of(json_object_get(j, "data"), "n"), next);
        json_decref(j);
        next++;
    }
    client_close(&c);
}

static void test_sse_refused(void **state)
{
    struct reply r = request(&fx, "GET", "/events/stream?stream=none", "", NULL);

    expect_problem(&r, 404, "topic_not_found");
    emit_many("sse", 0, 1);
    r = request(&fx, "GET", "/events/stream?stream=sse", "Last-Event-ID: 12\r\n", NULL);
    expect_problem(&r, 400, "invalid_argument");
    r = request(&fx, "GET", "/events/stream?stream=sse", "Accept: application/json\r\n", NULL);
    expect_problem(&r, 406, "not_acceptable");
    r = request(&fx, "HEAD", "/events/stream?stream=sse", "", NULL);
    assert_int_equal(r.status, 200);
    reply_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ws_history_then_live),
        cmocka_unit_test(test_ws_wildcards_and_later_topics),
        cmocka_unit_test(test_ws_resume),
        cmocka_unit_test(test_ws_many),
        cmocka_unit_test(test_ws_publish),
        cmocka_unit_test(test_ws_refused),
        cmocka_unit_test(test_ws_topic_deleted),
        cmocka_unit_test(test_sse),
        cmocka_unit_test(test_start_lost),
        cmocka_unit_test(test_sse_refused),
        cmocka_unit_test(test_sse_heartbeat_and_slow),
        cmocka_unit_test(test_ws_slow),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
