/* HTTP/2 by nghttp2, mapped on the same requests and replies as HTTP/1.1. A stream is a request; its
 * answer's bytes wait in req->out until the peer's windows let them go.
 *
 * Bounds: concurrent streams (pipeline_max), header list (head_max), body (body_max, and flow-control
 * windows that are only opened as bodies are taken), and a budget for resets, pings and settings: a peer
 * that makes and cancels streams faster than it could use them is sent away (CVE-2023-44487). */
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "net/http_int.h"

#define RESETS_MAX 200  /* of streams not yet answered, by the peer, a second */
#define CONTROL_MAX 1000 /* pings, settings and priorities, a second */

struct http2 {
    nghttp2_session *ng;
    struct http_loop *hl;
    struct conn *c;
    struct list_head reqs;
    unsigned reqs_n;
    unsigned busy, resets, control;
    uint64_t window_ms;
    bool dead, draining;
};

static const struct req_ops ops;

static void state_free(struct http2 *h)
{
    nghttp2_session_del(h->ng);
    free(h);
}

/* Lets nghttp2 write frames into the connection's output while there is room. */
static void pump(struct http2 *h)
{
    const uint8_t *p;
    ssize_t n = 0;

    h->busy++;
    while (!h->dead && conn_queued(h->c) < h->hl->s->conf.output_max &&
           (n = nghttp2_session_mem_send(h->ng, &p)) > 0)
        conn_send(h->c, slice_of(p, (size_t)n));
    if (!h->dead && conn_queued(h->c) >= h->hl->s->conf.output_max)
        h->c->was_full = true;
    if (!h->dead && (n < 0 || (!nghttp2_session_want_read(h->ng) &&
                               !nghttp2_session_want_write(h->ng))))
        conn_close(h->c, true);
    if (--h->busy == 0 && h->dead)
        state_free(h);
}

/* ---- answers ------------------------------------------------------------------------------------- */

static ssize_t cb_data(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t cap, uint32_t *flags,
                       nghttp2_data_source *src, void *arg)
{
    struct http_req *r = src->ptr;
    size_t n = r->out.len - r->out_at;

    if (n > cap)
        n = cap;
    if (n)
        memcpy(buf, r->out.ptr + r->out_at, n);
    r->out_at += n;
    if (r->out_at == r->out.len) {
        buf_clear(&r->out);
        r->out_at = 0;
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

static void h2_head(struct http_req *r, int status, const struct http_hdr *hd, unsigned n,
                    int64_t body_len)
{
    struct http2 *h = r->proto;
    nghttp2_data_provider body = {.source.ptr = r, .read_callback = cb_data};
    nghttp2_nv *nv = xmalloc((n + 3) * sizeof *nv);
    char code[4], len[24], date[40];
    bool none = status == 204 || status == 304 || r->head_only || body_len == 0;
    size_t k = 0;
    unsigned i;

    snprintf(code, sizeof code, "%d", status);
    nv[k++] = pair(SLICE_LIT(":status"), slice_str(code));
    snprintf(date, sizeof date, "%.29s", http_date(h->hl) + 6);
    nv[k++] = pair(SLICE_LIT("date"), slice_str(date));
    for (i = 0; i < n; i++)
        if (strncasecmp((const char *)hd[i].name.ptr, "connection", hd[i].name.len) != 0)
            nv[k++] = pair(hd[i].name, hd[i].value);
    if (body_len >= 0 && status != 204 && status != 304) {
        snprintf(len, sizeof len, "%lld", (long long)body_len);
        nv[k++] = pair(SLICE_LIT("content-length"), slice_str(len));
    }
    nghttp2_submit_response(h->ng, r->stream, nv, k, none ? NULL : &body);
    r->chunked = !none; /* there is a body that must be ended */
    free(nv);
}

static void h2_data(struct http_req *r, struct slice data)
{
    struct http2 *h = r->proto;

    if (buf_append_slice(&r->out, data)) {
        nghttp2_submit_rst_stream(h->ng, NGHTTP2_FLAG_NONE, r->stream, NGHTTP2_INTERNAL_ERROR);
        buf_clear(&r->out);
    }
    nghttp2_session_resume_data(h->ng, r->stream);
    if (h->busy == 0)
        pump(h);
}

static void h2_end(struct http_req *r)
{
    struct http2 *h = r->proto;

    if (r->chunked)
        nghttp2_session_resume_data(h->ng, r->stream);
    /* r stays until the stream closes (cb_close): its output may still wait for a window */
    if (h->busy == 0)
        pump(h);
}

static size_t h2_queued(const struct http_req *r)
{
    return r->out.len - r->out_at;
}

static const struct req_ops ops = {h2_head, h2_data, h2_end, h2_queued};

/* ---- requests ------------------------------------------------------------------------------------ */

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
    list_push_back(&h->reqs, &r->link);
    h->reqs_n++;
    nghttp2_session_set_stream_user_data(ng, r->stream, r);
    return 0;
}

static void method_set(struct http_req *r, struct slice v)
{
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
    unsigned i;

    for (i = 0; i < sizeof known / sizeof *known; i++)
        if (slice_eq_str(v, known[i]))
            r->method = (enum http_method)i;
    r->head_only = r->method == HTTP_HEAD;
}

static int cb_header(nghttp2_session *ng, const nghttp2_frame *f, const uint8_t *name, size_t nlen,
                     const uint8_t *value, size_t vlen, uint8_t flags, void *arg)
{
    struct http_req *r = nghttp2_session_get_stream_user_data(ng, f->hd.stream_id);
    struct slice n = slice_of(name, nlen), v = slice_of(value, vlen);
    int s = 0;

    if (!r || r->dispatched || f->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    if (slice_eq_str(n, ":method")) {
        method_set(r, v);
    } else if (slice_eq_str(n, ":path")) {
        r->target.at = (uint32_t)r->head.len;
        s = req_target_add(r, v);
    } else {
        if (slice_eq_str(n, ":authority"))
            n = SLICE_LIT("host");
        if (n.len && n.ptr[0] != ':') {
            s = req_header_add(r, true, true, n);
            if (!s)
                s = req_header_add(r, false, true, v);
        }
    }
    return s ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : 0;
}

static void head_done(struct http2 *h, struct http_req *r)
{
    struct http_server_conf *conf = &h->hl->s->conf;
    int s = req_head_done(r);

    if (!s && r->method == HTTP_OTHER)
        s = 501;
    if (!s && conf->on_head)
        s = conf->on_head(conf->ctx, h->hl->index, r);
    if (s)
        req_refuse(r, s, "refused");
}

static int cb_frame(nghttp2_session *ng, const nghttp2_frame *f, void *arg)
{
    struct http2 *h = arg;
    struct http_req *r = nghttp2_session_get_stream_user_data(ng, f->hd.stream_id);

    if (f->hd.type == NGHTTP2_PING || f->hd.type == NGHTTP2_SETTINGS ||
        f->hd.type == NGHTTP2_PRIORITY || f->hd.type == NGHTTP2_WINDOW_UPDATE)
        h->control++;
    if (f->hd.type == NGHTTP2_RST_STREAM && r && !r->ended)
        h->resets++;
    if (!r || r->refused || r->dispatched)
        return 0;
    if (f->hd.type == NGHTTP2_HEADERS && f->headers.cat == NGHTTP2_HCAT_REQUEST)
        head_done(h, r);
    if (!r->refused && f->hd.flags & NGHTTP2_FLAG_END_STREAM &&
        (f->hd.type == NGHTTP2_HEADERS || f->hd.type == NGHTTP2_DATA))
        req_dispatch(r);
    return 0;
}

static int cb_chunk(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                    void *arg)
{
    struct http_req *r = nghttp2_session_get_stream_user_data(ng, id);

    if (!r || r->refused || r->dispatched)
        return 0;
    if (buf_append(&r->body, p, n))
        req_refuse(r, 413, "the body is larger than the limit");
    return 0;
}

static int cb_close(nghttp2_session *ng, int32_t id, uint32_t code, void *arg)
{
    struct http2 *h = arg;
    struct http_req *r = nghttp2_session_get_stream_user_data(ng, id);

    if (!r)
        return 0;
    nghttp2_session_set_stream_user_data(ng, id, NULL);
    list_remove(&r->link);
    h->reqs_n--;
    req_gone(r);
    return 0;
}

/* ---- the connection ------------------------------------------------------------------------------ */

/* More cancelling and control traffic than use: false. */
static bool within_budget(struct http2 *h)
{
    uint64_t now = loop_now_ms(h->hl->loop);

    if (now - h->window_ms >= 1000) {
        h->window_ms = now;
        h->resets = h->control = 0;
    }
    return h->resets <= RESETS_MAX && h->control <= CONTROL_MAX + h->reqs_n * 16;
}

static void idle_deadline(struct http2 *h)
{
    if (!h->dead)
        conn_deadline(h->c, h->hl->s->conf.idle_ms);
}

static void on_data(struct conn *c, struct slice data)
{
    struct http2 *h = c->state;
    ssize_t n;

    h->busy++;
    n = nghttp2_session_mem_recv(h->ng, data.ptr, data.len);
    if (!h->dead && (n < 0 || !within_budget(h))) {
        nghttp2_session_terminate_session(h->ng, n < 0 ? NGHTTP2_PROTOCOL_ERROR
                                                       : NGHTTP2_ENHANCE_YOUR_CALM);
        pump(h);
        if (!h->dead)
            conn_close(c, true);
    }
    if (!h->dead)
        pump(h);
    idle_deadline(h);
    if (--h->busy == 0 && h->dead)
        state_free(h);
}

static void on_drain(struct conn *c)
{
    struct http2 *h = c->state;
    struct list_node *n, *next;

    h->busy++;
    for (n = h->reqs.node.next; !h->dead && n != &h->reqs.node; n = next) {
        struct http_req *r = list_entry(n, struct http_req, link);

        next = n->next;
        if (r->was_full && r->on_drain && !r->ended &&
            h2_queued(r) < h->hl->s->conf.output_max / 4) {
            r->was_full = false;
            r->on_drain(r);
        }
    }
    if (!h->dead)
        pump(h);
    if (--h->busy == 0 && h->dead)
        state_free(h);
}

static void on_timeout(struct conn *c)
{
    struct http2 *h = c->state;

    if (!list_empty(&h->reqs)) { /* answers are being made, or streams are open */
        idle_deadline(h);
        return;
    }
    nghttp2_session_terminate_session(h->ng, NGHTTP2_NO_ERROR);
    pump(h);
}

static void on_close(struct conn *c)
{
    struct http2 *h = c->state;

    h->dead = true;
    h->busy++;
    while (!list_empty(&h->reqs)) {
        struct http_req *r = list_entry(list_pop_front(&h->reqs), struct http_req, link);

        nghttp2_session_set_stream_user_data(h->ng, r->stream, NULL);
        req_gone(r);
    }
    if (--h->busy == 0)
        state_free(h);
}

const struct conn_proto http2_proto = {on_data, on_drain, on_timeout, on_close};

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
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, cb_close);
    nghttp2_option_set_max_outbound_ack(opt, 100);
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
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1u << 20},
    };

    h->hl = hl;
    h->c = c;
    list_init(&h->reqs);
    h->ng = session_new(h);
    c->proto = &http2_proto;
    c->state = h;
    nghttp2_submit_settings(h->ng, NGHTTP2_FLAG_NONE, iv, 3);
    nghttp2_session_set_local_window_size(h->ng, NGHTTP2_FLAG_NONE, 0, 4 << 20);
    idle_deadline(h);
    if (first.len)
        on_data(c, first);
    else
        pump(h);
}

void http2_drain(struct conn *c)
{
    struct http2 *h = c->state;

    h->draining = true;
    nghttp2_session_terminate_session(h->ng, NGHTTP2_NO_ERROR);
    pump(h);
}
