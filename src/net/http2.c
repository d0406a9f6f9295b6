/* HTTP/2 by nghttp2, mapped on the same requests and replies as HTTP/1.1. A stream is a request;
 * its answer's bytes wait in req->out until the peer's windows let them go.
 *
 * nghttp2 writes frames into the connection's output when it is pumped, at the end of a turn, while
 * there is room. Requests end in cb_close, when nghttp2 closes the stream.
 *
 * Bounds, for each connection: concurrent streams (pipeline_max), header list (head_max, and the
 * number of CONTINUATION frames), bodies (body_max each, and 4 of these together), output (as
 * HTTP/1), the rate at which heads and bodies come, and a budget for what costs more to answer than
 * to send: cancelled requests (CVE-2023-44487), PING, SETTINGS and the like, empty DATA. */
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "net/http_int.h"

#define BODIES_TIMES 4u /* bodies of a connection together, in body_max */

struct http2 {
    nghttp2_session *ng;
    struct http_loop *hl;
    struct conn *c;
    struct list_head reqs;
    unsigned reqs_n;
    unsigned incoming;               /* requests that have not come whole */
    size_t held, bodies;             /* bytes of output and of bodies in all requests */
    unsigned resets, control, empty; /* since window_ms */
    uint64_t window_ms;
    bool rate_check; /* the deadline is for the rate of what is coming in */
    bool draining, calm;
};

static const struct req_ops ops;

/* Lets nghttp2 write frames into the connection's output while there is room. */
static void pump(struct http2 *h)
{
    const uint8_t *p;
    ssize_t n = 0;

    while (!conn_closing(h->c) && !conn_full(h->c) && (n = nghttp2_session_mem_send(h->ng, &p)) > 0)
        conn_send(h->c, slice_of(p, (size_t)n));
    if (n < 0)
        conn_close(h->c, false, CONN_ERROR);
    else if ((!nghttp2_session_want_read(h->ng) && !nghttp2_session_want_write(h->ng)) ||
             (h->draining && list_empty(&h->reqs) && !nghttp2_session_want_write(h->ng)))
        conn_close(h->c, true, CONN_LOCAL);
    conn_pause(h->c, conn_full(h->c)); /* who does not read its answers cannot ask for more */
}

/* ---- answers ---- */

static ssize_t cb_data(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t cap, uint32_t *flags,
                       nghttp2_data_source *src, void *arg)
{
    struct http2 *h = arg;
    struct http_req *r = src->ptr;
    size_t n = outq_take(&r->out, &h->c->cl->pool, buf, cap);

    h->held -= n;
    if (n)
        r->moved_ms = loop_now_ms(h->hl->loop);
    if (r->was_full && r->out.bytes < h->hl->s->conf.output_max / 4)
        conn_later(h->c);
    if (r->out.bytes == 0) {
        if (r->ended)
            *flags |= NGHTTP2_DATA_FLAG_EOF;
        else if (n == 0)
            return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)n;
}

static nghttp2_nv pair(struct slice name, struct slice value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name.ptr, (uint8_t *)(uintptr_t)value.ptr, name.len,
                        value.len, NGHTTP2_NV_FLAG_NONE};
}

/* A header of HTTP/1 connections only (RFC 9113 section 8.2.2). */
static bool connection_header(struct slice n)
{
    static const char *const names[] = {"connection", "keep-alive", "transfer-encoding", "upgrade"};
    unsigned i;

    for (i = 0; i < sizeof names / sizeof *names; i++)
        if (n.len == strlen(names[i]) && strncasecmp((const char *)n.ptr, names[i], n.len) == 0)
            return true;
    return false;
}

/* Lower case, and no control characters. */
static struct slice clean(struct http_req *r, struct slice s, bool lower)
{
    uint8_t *p = NULL;
    size_t i;

    for (i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];

        if (c < 32 && c != '\t')
            c = ' ';
        else if (lower && c >= 'A' && c <= 'Z')
            c |= 32;
        if (c != s.ptr[i]) {
            if (!p) {
                p = http_alloc(r, s.len);
                if (!p)
                    return SLICE_NULL;
                memcpy(p, s.ptr, s.len);
            }
            p[i] = c;
        }
    }
    return p ? slice_of(p, s.len) : s;
}

static void h2_head(struct http_req *r, int status, const struct http_hdr *hd, unsigned n,
                    int64_t body_len)
{
    struct http2 *h = r->proto;
    nghttp2_data_provider body = {.source.ptr = r, .read_callback = cb_data};
    nghttp2_nv few[24], *nv = n + 3 <= 24 ? few : xmalloc((n + 3) * sizeof *nv);
    char code[12], len[24];
    bool none = status == 204 || status == 304 || r->head_only || body_len == 0;
    size_t k = 0;
    unsigned i;

    snprintf(code, sizeof code, "%d", status);
    nv[k++] = pair(SLICE_LIT(":status"), slice_str(code));
    nv[k++] = pair(SLICE_LIT("date"), slice_of(http_date(h->hl) + 6, 29));
    for (i = 0; i < n; i++) {
        struct slice name = clean(r, hd[i].name, true);

        if (name.len && !connection_header(name))
            nv[k++] = pair(name, clean(r, hd[i].value, false));
    }
    if (body_len >= 0 && status != 204 && status != 304) {
        snprintf(len, sizeof len, "%lld", (long long)body_len);
        nv[k++] = pair(SLICE_LIT("content-length"), slice_str(len));
    }
    r->moved_ms = loop_now_ms(h->hl->loop);
    r->chunked = !none;
    if (!conn_closing(h->c) &&
        nghttp2_submit_response(h->ng, r->stream, nv, k, none ? NULL : &body))
        conn_close(h->c, false, CONN_ERROR);
    if (nv != few)
        free(nv);
}

/* May n more bytes be held? */
static bool may_hold(struct http2 *h, size_t n)
{
    size_t have = h->held + conn_queued(h->c), max = conn_hard_max(h->c);

    if (conn_closing(h->c))
        return false;
    if (n <= max && have <= max - n)
        return true;
    conn_close(h->c, false, CONN_LIMIT);
    return false;
}

static void h2_data(struct http_req *r, struct slice data)
{
    struct http2 *h = r->proto;

    if (!may_hold(h, data.len))
        return;
    outq_copy(&r->out, &h->c->cl->pool, data);
    h->held += data.len;
    nghttp2_session_resume_data(h->ng, r->stream);
    conn_touch(h->c);
}

static void h2_lend(struct http_req *r, struct slice data, void (*release)(void *arg), void *arg)
{
    struct http2 *h = r->proto;

    if (!may_hold(h, data.len)) {
        release(arg);
        return;
    }
    outq_lend(&r->out, &h->c->cl->pool, data, release, arg);
    h->held += data.len;
}

/* r stays until the stream closes (cb_close): its output may still wait for a window. */
static void h2_end(struct http_req *r)
{
    struct http2 *h = r->proto;

    if (r->chunked)
        nghttp2_session_resume_data(h->ng, r->stream);
    conn_touch(h->c);
}

static size_t h2_queued(const struct http_req *r)
{
    return r->out.bytes;
}

static void h2_abort(struct http_req *r)
{
    struct http2 *h = r->proto;

    nghttp2_submit_rst_stream(h->ng, NGHTTP2_FLAG_NONE, r->stream, NGHTTP2_INTERNAL_ERROR);
    conn_touch(h->c);
}

static const struct req_ops ops = {h2_head, h2_data, h2_lend, h2_end, h2_queued, h2_abort};

/* ---- requests ---- */

static int cb_begin(nghttp2_session *ng, const nghttp2_frame *f, void *arg)
{
    struct http2 *h = arg;
    struct http_req *r;

    if (f->hd.type != NGHTTP2_HEADERS || f->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    r = req_new(h->hl, h->c);
    r->proto = h;
    r->ops = &ops;
    r->stream = f->hd.stream_id;
    r->version = 20;
    r->keep_alive = true;
    r->method = HTTP_OTHER;
    r->since_ms = loop_now_ms(h->hl->loop);
    r->has_body = true; /* until END_STREAM */
    list_push_back(&h->reqs, &r->link);
    h->reqs_n++;
    h->incoming++;
    nghttp2_session_set_stream_user_data(ng, r->stream, r);
    return 0;
}

static void whole(struct http2 *h, struct http_req *r)
{
    if (!r->has_body)
        return;
    r->has_body = false;
    h->incoming--;
}

static int cb_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *name, size_t nlen,
                     const uint8_t *value, size_t vlen, uint8_t flags, void *arg)
{
    struct http_req *r = nghttp2_session_get_stream_user_data(ng, f->hd.stream_id);
    struct slice n = slice_of(name, nlen), v = slice_of(value, vlen);

    if (!r || r->head_done || r->bad) /* trailers, or it is refused already */
        return 0;
    if (slice_eq_str(n, ":method")) {
        r->method = req_method_of(v);
        r->head_only = r->method == HTTP_HEAD;
    } else if (slice_eq_str(n, ":path")) {
        r->target.at = (uint32_t)r->head.len;
        r->bad = req_target_add(r, v);
    } else {
        if (slice_eq_str(n, ":authority"))
            n = SLICE_LIT("host");
        if (n.len && n.ptr[0] != ':') {
            r->bad = req_header_add(r, true, true, n);
            if (!r->bad)
                r->bad = req_header_add(r, false, true, v);
        }
    }
    return 0;
}

static const char *why_bad(int s)
{
    return s == 431   ? "too many or too long headers"
           : s == 414 ? "the request target is too long"
           : s == 501 ? "this method is not known here"
                      : "the request target does not decode";
}

static void head_done(struct http2 *h, struct http_req *r)
{
    int s = r->bad ? r->bad : req_head_done(r);
    struct slice len = http_header(r, "content-length");
    char text[24];

    r->head_done = true;
    if (!s && r->method == HTTP_OTHER)
        s = 501;
    if (s) {
        req_refuse(r, s, why_bad(s));
        return;
    }
    if (len.len && len.len < sizeof text) { /* digits: nghttp2 has looked */
        memcpy(text, len.ptr, len.len);
        text[len.len] = 0;
        if (strtoull(text, NULL, 10) > h->hl->s->conf.body_max) {
            req_refuse(r, 413, "the body is larger than the limit");
            return;
        }
    }
    if (req_head_ask(r) && r->has_body && slice_eq_str(http_header(r, "expect"), "100-continue")) {
        nghttp2_nv nv = pair(SLICE_LIT(":status"), SLICE_LIT("100"));

        nghttp2_submit_headers(h->ng, NGHTTP2_FLAG_NONE, r->stream, NULL, &nv, 1, NULL);
    }
}

/* More cancelling and control traffic than use: false. */
static bool within_budget(struct http2 *h)
{
    uint64_t now = loop_now_ms(h->hl->loop);

    if (now - h->window_ms >= 1000) {
        h->window_ms = now;
        h->resets = h->control = h->empty = 0;
    }
    h->calm = h->resets <= HTTP2_RESETS_MAX && h->control <= HTTP2_CONTROL_MAX &&
              h->empty <= HTTP2_EMPTY_MAX;
    return h->calm;
}

static void count(struct http2 *h, const nghttp2_frame *f, const struct http_req *r)
{
    switch (f->hd.type) {
    case NGHTTP2_PING:
    case NGHTTP2_SETTINGS:
    case NGHTTP2_PRIORITY:
        h->control++;
        break;
    case NGHTTP2_WINDOW_UPDATE: /* one for each frame of an answer is fair */
        h->control += h->held == 0 && conn_queued(h->c) == 0 && !r;
        break;
    case NGHTTP2_RST_STREAM:
        h->resets += r && !r->ended;
        break;
    case NGHTTP2_DATA:
        h->empty += f->hd.length == 0 && !(f->hd.flags & NGHTTP2_FLAG_END_STREAM);
        break;
    default:
        break;
    }
}

static int cb_frame(nghttp2_session *ng, const nghttp2_frame *f, void *arg)
{
    struct http2 *h = arg;
    struct http_req *r = nghttp2_session_get_stream_user_data(ng, f->hd.stream_id);
    bool end = f->hd.flags & NGHTTP2_FLAG_END_STREAM &&
               (f->hd.type == NGHTTP2_HEADERS || f->hd.type == NGHTTP2_DATA);

    count(h, f, r);
    if (!within_budget(h))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (!r || r->dispatched)
        return 0;
    if (end)
        whole(h, r);
    if (f->hd.type == NGHTTP2_HEADERS && f->headers.cat == NGHTTP2_HCAT_REQUEST)
        head_done(h, r);
    if (end && !r->refused && r->head_done && !conn_closing(h->c))
        req_dispatch(r);
    return 0;
}

static int cb_chunk(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                    void *arg)
{
    struct http2 *h = arg;
    struct http_req *r = nghttp2_session_get_stream_user_data(ng, id);
    size_t most = (size_t)h->hl->s->conf.body_max * BODIES_TIMES;
    int s;

    if (!r || r->refused || r->dispatched)
        return 0;
    r->seen += n;
    s = h->bodies + n > most ? 503 : req_body_add(r, slice_of(p, n));
    if (!s)
        h->bodies += n;
    else
        req_refuse(r, s,
                   s == 413 ? "the body is larger than the limit"
                            : "the server holds too much already; try again");
    return 0;
}

/* An answer is out. If the peer still sends the request, it may stop (RFC 9113 section 8.1). */
static int cb_sent(nghttp2_session *ng, const nghttp2_frame *f, void *arg)
{
    struct http_req *r = nghttp2_session_get_stream_user_data(ng, f->hd.stream_id);

    if (r && r->has_body && f->hd.flags & NGHTTP2_FLAG_END_STREAM &&
        (f->hd.type == NGHTTP2_HEADERS || f->hd.type == NGHTTP2_DATA))
        nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, f->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

static void forget(struct http2 *h, struct http_req *r)
{
    whole(h, r);
    list_remove(&r->link);
    h->reqs_n--;
    h->held -= r->out.bytes;
    h->bodies -= r->body.len;
    req_gone(r);
}

static int cb_close(nghttp2_session *ng, int32_t id, uint32_t code, void *arg)
{
    struct http_req *r = nghttp2_session_get_stream_user_data(ng, id);

    if (!r)
        return 0;
    nghttp2_session_set_stream_user_data(ng, id, NULL);
    forget(arg, r);
    return 0;
}

/* ---- the connection ---- */

/* While something is coming in, its rate is looked at every HTTP_RATE_MS; otherwise it is idleness
 * that has a limit. */
static void deadline_set(struct http2 *h)
{
    if (!h->incoming) {
        h->rate_check = false;
        conn_deadline(h->c, h->hl->s->conf.idle_ms);
    } else if (!h->rate_check) {
        h->rate_check = true;
        conn_deadline(h->c, HTTP_RATE_MS);
    }
}

static void drained(struct http2 *h)
{
    struct list_node *n, *next;

    for (n = h->reqs.node.next; n != &h->reqs.node; n = next) {
        struct http_req *r = list_entry(n, struct http_req, link);

        next = n->next; /* an answer does not end r here: cb_close does, when pumped */
        if (r->out.bytes < h->hl->s->conf.output_max / 4)
            req_drained(r);
    }
}

static void on_data(struct conn *c, struct slice data)
{
    struct http2 *h = c->state;
    ssize_t n = 0;

    if (data.len)
        n = nghttp2_session_mem_recv(h->ng, data.ptr, data.len);
    else
        drained(h);
    if (n < 0 && !conn_closing(c)) {
        nghttp2_session_terminate_session(h->ng, n == NGHTTP2_ERR_FLOODED || !h->calm
                                                     ? NGHTTP2_ENHANCE_YOUR_CALM
                                                     : NGHTTP2_PROTOCOL_ERROR);
        pump(h);
        conn_close(c, true, CONN_LIMIT);
        return;
    }
    conn_touch(c);
    deadline_set(h);
}

static void on_flush(struct conn *c)
{
    pump(c->state);
}

static void on_drain(struct conn *c)
{
    drained(c->state);
    conn_touch(c);
}

/* What comes too slowly, or does not leave, ends. False: the connection with it. */
static bool rates_check(struct http2 *h, uint64_t now)
{
    const struct http_server_conf *conf = &h->hl->s->conf;
    struct list_node *n, *next;

    for (n = h->reqs.node.next; n != &h->reqs.node; n = next) {
        struct http_req *r = list_entry(n, struct http_req, link);

        next = n->next;
        if (r->has_body && !r->refused && now - r->since_ms >= HTTP_RATE_MS) {
            if (!r->head_done)
                return false;
            if (r->seen * 1000 < (uint64_t)conf->body_rate_min * (now - r->since_ms))
                req_refuse(r, 408, "the request came too slowly");
            r->since_ms = now;
            r->seen = 0;
        } else if (r->out.bytes && now - r->moved_ms > conf->send_ms) {
            nghttp2_submit_rst_stream(h->ng, NGHTTP2_FLAG_NONE, r->stream, NGHTTP2_CANCEL);
        }
    }
    return true;
}

static void on_timeout(struct conn *c)
{
    struct http2 *h = c->state;
    bool ok;

    h->rate_check = false;
    if (list_empty(&h->reqs)) {
        nghttp2_session_terminate_session(h->ng, NGHTTP2_NO_ERROR);
        pump(h);
        conn_close(c, true, CONN_TIMEOUT);
        return;
    }
    ok = rates_check(h, loop_now_ms(h->hl->loop));
    if (!ok) {
        nghttp2_session_terminate_session(h->ng, NGHTTP2_ENHANCE_YOUR_CALM);
        pump(h);
        conn_close(c, true, CONN_TIMEOUT);
        return;
    }
    conn_touch(c);
    deadline_set(h);
}

static void on_close(struct conn *c)
{
    struct http2 *h = c->state;

    while (!list_empty(&h->reqs)) {
        struct http_req *r = list_entry(h->reqs.node.next, struct http_req, link);

        nghttp2_session_set_stream_user_data(h->ng, r->stream, NULL);
        forget(h, r);
    }
    nghttp2_session_del(h->ng);
    free(h);
}

const struct conn_proto http2_proto = {.on_data = on_data,
                                       .on_flush = on_flush,
                                       .on_drain = on_drain,
                                       .on_timeout = on_timeout,
                                       .on_close = on_close};

static nghttp2_session *session_new(struct http2 *h)
{
    nghttp2_session_callbacks *cb = NULL;
    nghttp2_option *opt = NULL;
    nghttp2_session *ng = NULL;

    ASSERT(nghttp2_session_callbacks_new(&cb) == 0 && nghttp2_option_new(&opt) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, cb_begin);
    nghttp2_session_callbacks_set_on_header_callback(cb, cb_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, cb_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, cb_chunk);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, cb_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, cb_close);
    nghttp2_option_set_max_outbound_ack(opt, HTTP2_ACKS_MAX);
    nghttp2_option_set_max_continuations(opt, HTTP2_CONTINUATIONS_MAX);
    nghttp2_option_set_no_closed_streams(opt,
                                         1); /* no tree of priorities of streams that are gone */
    ASSERT(nghttp2_session_server_new2(&ng, cb, h, opt) == 0);
    nghttp2_option_del(opt);
    nghttp2_session_callbacks_del(cb);
    return ng;
}

void http2_open(struct http_loop *hl, struct conn *c, struct slice first)
{
    struct http2 *h = xcalloc(1, sizeof *h);
    nghttp2_settings_entry iv[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, hl->s->conf.pipeline_max},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, hl->s->conf.head_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_WINDOW},
    };

    h->hl = hl;
    h->c = c;
    list_init(&h->reqs);
    h->ng = session_new(h);
    c->proto = &http2_proto;
    c->state = h;
    h->calm = true;
    ASSERT(nghttp2_submit_settings(h->ng, NGHTTP2_FLAG_NONE, iv, 3) == 0 &&
           nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, 0, HTTP2_WINDOW_CONN) ==
               0);
    if (first.len) {
        on_data(c, first);
        return;
    }
    conn_touch(c);
    deadline_set(h);
}

/* Says which was the last stream taken, lets those there finish. */
void http2_drain(struct conn *c)
{
    struct http2 *h = c->state;

    h->draining = true;
    nghttp2_submit_goaway(h->ng, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h->ng),
                          NGHTTP2_NO_ERROR, NULL, 0);
    conn_touch(c);
}
