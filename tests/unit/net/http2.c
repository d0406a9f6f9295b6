/* HTTP/2: requests and answers by nghttp2's own client, without sockets; windows, limits, floods,
 * draining. */
#include "fixture.h"

#include <nghttp2/nghttp2.h>

#define STREAMS 1024

struct stream {
    int status;
    struct buf head, body;
    bool closed;
    uint32_t code;
};

struct client {
    struct fx *f;
    nghttp2_session *ng;
    struct stream st[STREAMS];
    unsigned closed;
    bool goaway, manual;
    uint32_t goaway_code;
    int32_t goaway_last;
    const uint8_t *upload; /* the body being sent */
    size_t upload_n, upload_at;
    bool upload_stalls;
};

static struct stream *stream_of(struct client *c, int32_t id)
{
    MUST(id > 0 && id / 2 < STREAMS);
    return &c->st[id / 2];
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *n, size_t nlen,
                     const uint8_t *v, size_t vlen, uint8_t flags, void *arg)
{
    struct stream *s = stream_of(arg, f->hd.stream_id);

    if (nlen == 7 && memcmp(n, ":status", 7) == 0)
        s->status = (int)strtol((const char *)v, NULL, 10);
    else
        MUST(buf_printf(&s->head, "%.*s=%.*s\n", (int)nlen, n, (int)vlen, v) == ERR_OK);
    return 0;
}

static int on_chunk(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                    void *arg)
{
    MUST(buf_append(&stream_of(arg, id)->body, p, n) == ERR_OK);
    return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *arg)
{
    struct client *c = arg;
    struct stream *s = stream_of(c, id);

    s->closed = true;
    s->code = code;
    c->closed++;
    return 0;
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *f, void *arg)
{
    struct client *c = arg;

    if (f->hd.type == NGHTTP2_GOAWAY) {
        c->goaway = true;
        c->goaway_code = f->goaway.error_code;
        c->goaway_last = f->goaway.last_stream_id;
    }
    return 0;
}

static ssize_t on_upload(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t n, uint32_t *flags,
                         nghttp2_data_source *src, void *arg)
{
    struct client *c = arg;

    if (c->upload_n - c->upload_at < n)
        n = c->upload_n - c->upload_at;
    if (!n && c->upload_stalls)
        return NGHTTP2_ERR_DEFERRED;
    memcpy(buf, c->upload + c->upload_at, n);
    c->upload_at += n;
    if (c->upload_at == c->upload_n && !c->upload_stalls)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static void client_new(struct client *c, struct fx *f, bool manual)
{
    nghttp2_session_callbacks *cb;
    nghttp2_option *opt;
    unsigned i;

    memset(c, 0, sizeof *c);
    c->f = f;
    c->manual = manual;
    for (i = 0; i < STREAMS; i++) {
        buf_init(&c->st[i].head, 1u << 20);
        buf_init(&c->st[i].body, 64u << 20);
    }
    nghttp2_session_callbacks_new(&cb);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_option_new(&opt);
    nghttp2_option_set_no_auto_window_update(opt, manual);
    nghttp2_option_set_peer_max_concurrent_streams(opt, 1000);
    assert_int_equal(nghttp2_session_client_new2(&c->ng, cb, c, opt), 0);
    nghttp2_option_del(opt);
    nghttp2_session_callbacks_del(cb);
    nghttp2_submit_settings(c->ng, 0, NULL, 0);
}

static void client_free(struct client *c)
{
    unsigned i;

    nghttp2_session_del(c->ng);
    for (i = 0; i < STREAMS; i++) {
        buf_fini(&c->st[i].head);
        buf_fini(&c->st[i].body);
    }
}

/* Moves bytes both ways until nobody has any more, in pieces to the server. */
static void talk_in(struct client *c, size_t piece)
{
    bool moved = true;
    const uint8_t *p;
    ssize_t n;

    while (moved) {
        moved = false;
        while (fx_is_open(c->f) && (n = nghttp2_session_mem_send(c->ng, &p)) > 0) {
            fx_feed_n(c->f, p, (size_t)n, piece);
            moved = true;
        }
        fx_turn(c->f, 3);
        if (c->f->out.len) {
            struct buf got = c->f->out;

            buf_init(&c->f->out, got.max);
            n = nghttp2_session_mem_recv(c->ng, got.ptr, got.len);
            assert_int_equal(n, got.len);
            buf_fini(&got);
            moved = true;
        }
    }
}

static void talk(struct client *c)
{
    talk_in(c, 100000);
}

static int32_t ask(struct client *c, const char *method, const char *path, const char *extra,
                   const char *value, bool body)
{
    nghttp2_nv nv[] = {
        {(uint8_t *)":method", (uint8_t *)(uintptr_t)method, 7, strlen(method), 0},
        {(uint8_t *)":path", (uint8_t *)(uintptr_t)path, 5, strlen(path), 0},
        {(uint8_t *)":scheme", (uint8_t *)"http", 7, 4, 0},
        {(uint8_t *)":authority", (uint8_t *)"h", 10, 1, 0},
        {(uint8_t *)(uintptr_t)extra, (uint8_t *)(uintptr_t)value, extra ? strlen(extra) : 0,
         value ? strlen(value) : 0, 0},
    };
    nghttp2_data_provider d = {.read_callback = on_upload};
    int32_t id = nghttp2_submit_request(c->ng, NULL, nv, extra ? 5 : 4, body ? &d : NULL, NULL);

    assert_true(id > 0);
    return id;
}

static const char *body_of(struct client *c, int32_t id)
{
    struct buf *b = &stream_of(c, id)->body;

    buf_append_u8(b, 0);
    b->len--;
    return (const char *)b->ptr;
}

static const char *head_of(struct client *c, int32_t id)
{
    struct buf *b = &stream_of(c, id)->head;

    buf_append_u8(b, 0);
    b->len--;
    return (const char *)b->ptr;
}

static struct client *begin(struct fx *f, bool manual)
{
    static struct client c;

    fx_start(f);
    client_new(&c, f, manual);
    return &c;
}

static void end(struct fx *f, struct client *c)
{
    client_free(c);
    fx_stop(f);
}

/* ---- requests and answers ---- */

static void requests_in_all_pieces(void **state)
{
    static const size_t pieces[] = {1, 3, 13, 23, 24, 25, 100000};
    size_t i;

    for (i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        int32_t get, post, head, text, none;
        struct client *c;
        struct fx f;

        fx_init(&f);
        c = begin(&f, false);
        c->upload = (const uint8_t *)"the body";
        c->upload_n = 8;
        get = ask(c, "GET", "/a%20b?q=1", "x-thing", "v", false);
        post = ask(c, "POST", "/echo", NULL, NULL, true);
        head = ask(c, "HEAD", "/owned?size=5000", NULL, NULL, false);
        text = ask(c, "GET", "/text", NULL, NULL, false);
        none = ask(c, "DELETE", "/status?code=204", NULL, NULL, false);
        talk_in(c, pieces[i]);
        assert_int_equal(c->closed, 5);
        assert_int_equal(stream_of(c, get)->status, 200);
        assert_string_equal(body_of(c, get), "GET /a b /a%20b q=1 v=20 tls=0 [host=h] [x-thing=v]");
        assert_non_null(strstr(head_of(c, get), "content-type=text/plain\n"));
        assert_non_null(strstr(head_of(c, get), "date="));
        assert_string_equal(body_of(c, post), "the body");
        assert_string_equal(body_of(c, head), "");
        assert_non_null(strstr(head_of(c, head), "content-length=5000\n"));
        assert_string_equal(body_of(c, text), "one,two");
        assert_int_equal(stream_of(c, none)->status, 204);
        assert_int_equal(f.closes, 0);
        end(&f, c);
    }
}

static void answers_in_any_order(void **state)
{
    int32_t id[100], last;
    struct client *c;
    struct fx f;
    unsigned i;
    char t[32];

    fx_init(&f);
    c = begin(&f, false);
    for (i = 0; i < 100; i++)
        id[i] = ask(c, "GET", "/hold", NULL, NULL, false);
    talk(c);
    assert_int_equal(f.held_n, 100);
    last = ask(c, "GET", "/release", NULL, NULL, false);
    talk(c);
    for (i = 0; i < 100; i++) {
        snprintf(t, sizeof t, "held %u", i);
        assert_string_equal(body_of(c, id[i]), t);
    }
    assert_string_equal(body_of(c, last), "released");
    end(&f, c);
}

static void large_bodies(void **state)
{
    uint8_t *body = xmalloc(5000000);
    int32_t id, owned;
    struct client *c;
    struct fx f;
    size_t i;

    for (i = 0; i < 5000000; i++)
        body[i] = (uint8_t)(i * 31 >> 5);
    fx_init(&f);
    c = begin(&f, false);
    c->upload = body;
    c->upload_n = 5000000;
    id = ask(c, "POST", "/echo", NULL, NULL, true);
    owned = ask(c, "GET", "/owned?size=3000000", NULL, NULL, false);
    talk(c);
    assert_int_equal(stream_of(c, id)->body.len, 5000000);
    assert_memory_equal(stream_of(c, id)->body.ptr, body, 5000000);
    assert_int_equal(stream_of(c, owned)->body.len, 3000000);
    assert_int_equal(f.releases, 1);
    end(&f, c);
    free(body);
}

/* A client that opens no window: the stream waits, is bounded, and goes on when there is room. */
static void streams_wait_for_windows(void **state)
{
    size_t want = 1000u * 10000u, rounds;
    struct client *c;
    struct fx f;
    int32_t id;

    fx_init(&f);
    f.conf.output_max = 200000;
    c = begin(&f, true);
    id = ask(c, "GET", "/stream?n=1000&size=10000", NULL, NULL, false);
    talk(c);
    assert_int_equal(stream_of(c, id)->body.len, 65535); /* the initial window */
    assert_true(f.queued_most >= 200000 && f.queued_most < 211000);
    for (rounds = 0; stream_of(c, id)->body.len < want && rounds < 1000; rounds++) {
        size_t n = stream_of(c, id)->body.len;

        nghttp2_session_consume(c->ng, id, 65535 < n ? 65535 : n);
        talk(c);
    }
    assert_int_equal(stream_of(c, id)->body.len, want);
    assert_true(stream_of(c, id)->closed);
    assert_true(f.queued_most < 211000);
    assert_true(f.drains > 10);
    end(&f, c);
}

static void headers_are_cleaned(void **state)
{
    struct client *c;
    struct fx f;
    int32_t id;

    fx_init(&f);
    c = begin(&f, false);
    id = ask(c, "GET", "/inject", NULL, NULL, false);
    talk(c);
    assert_true(stream_of(c, id)->closed);
    assert_null(strstr(head_of(c, id), "\nx-evil"));
    end(&f, c);
}

/* ---- refusals ---- */

static void refusals(void **state)
{
    char *longest = xcalloc(1, 3000);
    struct {
        const char *method, *path, *extra, *value;
        int status;
    } t[] = {
        {"BREW", "/", NULL, NULL, 501},
        {"GET", "/%00", NULL, NULL, 400},
        {"GET", longest, NULL, NULL, 414},
        {"GET", "/", "x-long", longest, 431},
        {"POST", "/", "content-length", "1001", 413},
        {"GET", "/head/401", NULL, NULL, 401},
        {"GET", "/head/own", NULL, NULL, 403},
    };
    struct client *c;
    struct fx f;
    size_t i;

    memset(longest, 'x', 2900);
    longest[0] = '/';
    fx_init(&f);
    f.conf.line_max = 500;
    f.conf.head_max = 2000;
    f.conf.body_max = 1000;
    c = begin(&f, false);
    for (i = 0; i < sizeof t / sizeof *t; i++) {
        int32_t id = ask(c, t[i].method, t[i].path, t[i].extra, t[i].value, t[i].status == 413);

        c->upload_stalls = t[i].status == 413; /* it says much and sends nothing */
        talk(c);
        if (stream_of(c, id)->status != t[i].status || !stream_of(c, id)->closed)
            fail_msg("%s %.20s: %d instead of %d", t[i].method, t[i].path, stream_of(c, id)->status,
                     t[i].status);
        if (t[i].status != 403)
            assert_non_null(strstr(head_of(c, id), "content-type=application/problem+json\n"));
    }
    assert_int_equal(f.requests, 0);
    assert_true(fx_is_open(&f)); /* the connection is none the worse */
    c->upload_stalls = false;
    c->upload = (const uint8_t *)longest;
    c->upload_n = 1001;
    i = (size_t)ask(c, "POST", "/echo", NULL, NULL, true);
    talk(c);
    assert_int_equal(stream_of(c, (int32_t)i)->status, 413);
    end(&f, c);
    free(longest);
}

static void headers_have_a_number(void **state)
{
    nghttp2_nv nv[200];
    struct client *c;
    struct fx f;
    int32_t id;
    unsigned i;

    fx_init(&f);
    f.conf.headers_max = 50;
    c = begin(&f, false);
    nv[0] = (nghttp2_nv){(uint8_t *)":method", (uint8_t *)"GET", 7, 3, 0};
    nv[1] = (nghttp2_nv){(uint8_t *)":path", (uint8_t *)"/", 5, 1, 0};
    nv[2] = (nghttp2_nv){(uint8_t *)":scheme", (uint8_t *)"http", 7, 4, 0};
    nv[3] = (nghttp2_nv){(uint8_t *)":authority", (uint8_t *)"h", 10, 1, 0};
    for (i = 4; i < 200; i++)
        nv[i] = (nghttp2_nv){(uint8_t *)"a", (uint8_t *)"b", 1, 1, 0};
    id = nghttp2_submit_request(c->ng, NULL, nv, 200, NULL, NULL);
    talk(c);
    assert_int_equal(stream_of(c, id)->status, 431);
    end(&f, c);
}

static void streams_have_a_number(void **state)
{
    unsigned i, refused = 0;
    struct client *c;
    struct fx f;

    fx_init(&f);
    f.conf.pipeline_max = 10;
    c = begin(&f, false);
    for (i = 0; i < 50; i++) /* before the client knows */
        ask(c, "GET", "/hold", NULL, NULL, false);
    talk(c);
    assert_int_equal(f.held_n, 10);
    fx_answer_held(&f);
    talk(c);
    for (i = 0; i < 50; i++)
        refused += c->st[i].closed && c->st[i].code == NGHTTP2_REFUSED_STREAM;
    assert_true(refused > 0 || f.held_n == 10); /* sent away, or held back by the client */
    assert_true(f.held_n <= 10);
    end(&f, c);
}

/* ---- time ---- */

static void time_out(struct fx *f)
{
    fx_sleep_ms(3);
    f->c->deadline_ms = 1;
    loop_timer_arm(f->loops[0], &f->c->timer, 0);
    fx_sleep_ms(3);
    fx_turn(f, 3);
}

static void idle_connections_end(void **state)
{
    struct client *c;
    struct fx f;

    fx_init(&f);
    c = begin(&f, false);
    ask(c, "GET", "/a", NULL, NULL, false);
    talk(c);
    time_out(&f);
    assert_false(fx_is_open(&f));
    talk(c);
    assert_true(c->goaway);
    assert_int_equal(c->goaway_code, NGHTTP2_NO_ERROR);
    end(&f, c);
}

static void waiting_is_not_idle(void **state)
{
    struct client *c;
    struct fx f;
    int32_t id;

    fx_init(&f);
    c = begin(&f, false);
    id = ask(c, "GET", "/hold", NULL, NULL, false);
    talk(c);
    time_out(&f);
    time_out(&f);
    fx_answer_held(&f);
    talk(c);
    assert_string_equal(body_of(c, id), "held 0");
    end(&f, c);
}

/* ---- floods ---- */

static void sent_away(struct client *c)
{
    talk(c);
    assert_false(fx_is_open(c->f));
    assert_true(c->goaway);
    assert_int_equal(c->goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
}

/* CVE-2023-44487: requests that are cancelled as soon as they are made. */
static void rapid_reset(void **state)
{
    struct client *c;
    struct fx f;
    unsigned i;

    fx_init(&f);
    c = begin(&f, false);
    talk(c);
    for (i = 0; i < 900 && fx_is_open(&f); i++) {
        int32_t id = ask(c, "GET", "/hold", NULL, NULL, false);
        const uint8_t *p;
        ssize_t n;

        while ((n = nghttp2_session_mem_send(c->ng, &p)) > 0) /* the request, before its end */
            fx_feed_n(&f, p, (size_t)n, (size_t)n);
        nghttp2_submit_rst_stream(c->ng, 0, id, NGHTTP2_CANCEL);
        while ((n = nghttp2_session_mem_send(c->ng, &p)) > 0)
            fx_feed_n(&f, p, (size_t)n, (size_t)n);
    }
    assert_true(i > 100 && i < 300);
    sent_away(c);
    assert_int_equal(f.requests, f.closes); /* the handler has forgotten all of them */
    assert_int_equal(f.held_n, 0);
    end(&f, c);
}

static void flood_of(unsigned type)
{
    static const uint8_t ping[17] = {0, 0, 8, 6};
    static const uint8_t settings[9] = {0, 0, 0, 4};
    static const uint8_t priority[14] = {0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 3, 1};
    static const uint8_t empty[9] = {0, 0, 0, 0, 0, 0, 0, 0, 1};
    const uint8_t *frames[] = {ping, settings, priority, empty};
    static const size_t sizes[] = {17, 9, 14, 9};
    struct client *c;
    struct buf b;
    struct fx f;
    unsigned i;

    fx_init(&f);
    c = begin(&f, false);
    if (type == 3) { /* empty DATA need a stream that is open */
        c->upload_stalls = true;
        ask(c, "POST", "/echo", NULL, NULL, true);
    }
    talk(c);
    buf_init(&b, 1u << 20);
    for (i = 0; i < 5000; i++)
        buf_append(&b, frames[type], sizes[type]);
    fx_feed_n(&f, b.ptr, b.len, b.len);
    sent_away(c);
    buf_fini(&b);
    end(&f, c);
}

static void control_floods(void **state)
{
    unsigned type;

    for (type = 0; type < 4; type++)
        flood_of(type);
}

/* A header block without end, in frames that each are fine. */
static void continuation_flood(void **state)
{
    static const uint8_t headers[10] = {0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82};
    static const uint8_t more[10] = {0, 0, 1, 9, 0, 0, 0, 0, 1, 0x84};
    struct client *c;
    struct fx f;
    unsigned i;

    fx_init(&f);
    c = begin(&f, false);
    talk(c);
    fx_feed_n(&f, headers, sizeof headers, sizeof headers);
    for (i = 0; i < 1000 && fx_is_open(&f); i++)
        fx_feed_n(&f, more, sizeof more, sizeof more);
    assert_true(i < 20);
    assert_int_equal(f.requests, 0);
    end(&f, c);
}

static void rubbish(void **state)
{
    struct client *c;
    struct fx f;

    fx_init(&f);
    c = begin(&f, false);
    talk(c);
    fx_feed_n(&f, "\0\0\4\3\0\0\0\0\0\0\0\0\0", 13, 13); /* RST_STREAM of stream 0 */
    talk(c);
    assert_false(fx_is_open(&f));
    assert_true(c->goaway);
    assert_int_equal(c->goaway_code, NGHTTP2_PROTOCOL_ERROR);
    end(&f, c);
}

static void bodies_have_a_rate(void **state)
{
    struct client *c;
    struct fx f;
    int32_t id;

    fx_init(&f);
    c = begin(&f, false);
    c->upload = (const uint8_t *)"0123456789";
    c->upload_n = 10;
    c->upload_stalls = true;
    id = ask(c, "POST", "/echo", NULL, NULL, true);
    talk(c);
    time_out(&f); /* too early to tell */
    assert_true(fx_is_open(&f));
    assert_true(f.c->deadline_ms > 0);
    f.last_head->since_ms -= HTTP_RATE_MS; /* 10 bytes in 10 s */
    time_out(&f);
    talk(c);
    assert_int_equal(stream_of(c, id)->status, 408);
    assert_true(stream_of(c, id)->closed);
    assert_true(fx_is_open(&f));
    assert_int_equal(f.requests, 0);
    end(&f, c);
}

/* ---- the end ---- */

static void drain(void **state)
{
    struct client *c;
    struct fx f;
    int32_t id;

    fx_init(&f);
    c = begin(&f, false);
    id = ask(c, "GET", "/hold", NULL, NULL, false);
    talk(c);
    http_server_drain(f.s, 5000, NULL, NULL);
    talk(c);
    assert_true(c->goaway);
    assert_int_equal(c->goaway_code, NGHTTP2_NO_ERROR);
    assert_int_equal(c->goaway_last, id);
    assert_true(fx_is_open(&f)); /* the one there is still answered */
    fx_answer_held(&f);
    talk(c);
    assert_string_equal(body_of(c, id), "held 0");
    assert_false(fx_is_open(&f));
    end(&f, c);
}

static void peer_goes_away(void **state)
{
    struct client *c;
    struct fx f;

    fx_init(&f);
    c = begin(&f, true); /* opens no window: the stream waits */
    ask(c, "GET", "/hold", NULL, NULL, false);
    ask(c, "GET", "/stream?n=1000&size=100000", NULL, NULL, false);
    talk(c);
    conn_close(f.c, false, CONN_PEER);
    assert_int_equal(f.closes, 0);
    fx_turn(&f, 1);
    assert_int_equal(f.closes, 2);
    assert_int_equal(f.held_n, 0);
    end(&f, c);
}

/* Another implementation, where there is one. */
static void curl(void **state)
{
    char cmd[300], got[4000];
    struct fx f;
    FILE *p;
    size_t n;

    if (system("curl --version 2>/dev/null | grep -q HTTP2"))
        skip();
    fx_init(&f);
    fx_listen(&f);
    snprintf(
        cmd, sizeof cmd,
        "curl -sS -i --http2-prior-knowledge --data-binary hello http://127.0.0.1:%u/echo 2>&1",
        f.port);
    p = popen(cmd, "r");
    assert_non_null(p);
    n = fread(got, 1, sizeof got - 1, p);
    got[n] = 0;
    assert_int_equal(pclose(p), 0);
    assert_int_equal(strncmp(got, "HTTP/2 200", 10), 0);
    assert_non_null(strstr(got, "\r\n\r\nhello"));
    fx_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_in_all_pieces),
        cmocka_unit_test(answers_in_any_order),
        cmocka_unit_test(large_bodies),
        cmocka_unit_test(streams_wait_for_windows),
        cmocka_unit_test(headers_are_cleaned),
        cmocka_unit_test(refusals),
        cmocka_unit_test(headers_have_a_number),
        cmocka_unit_test(streams_have_a_number),
        cmocka_unit_test(idle_connections_end),
        cmocka_unit_test(waiting_is_not_idle),
        cmocka_unit_test(rapid_reset),
        cmocka_unit_test(control_floods),
        cmocka_unit_test(continuation_flood),
        cmocka_unit_test(rubbish),
        cmocka_unit_test(bodies_have_a_rate),
        cmocka_unit_test(drain),
        cmocka_unit_test(peer_goes_away),
        cmocka_unit_test(curl),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
