/* The HTTP server: replies, and the parts that do not depend on the version. See http.h. */
#include "net/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "net/http_int.h"
#include "net/ws_deflate.h"

const char *http_reason(int status)
{
    static const char *const reasons[512] = {
        [100] = "Continue",
        [101] = "Switching Protocols",
        [200] = "OK",
        [201] = "Created",
        [202] = "Accepted",
        [204] = "No Content",
        [206] = "Partial Content",
        [207] = "Multi-Status",
        [301] = "Moved Permanently",
        [302] = "Found",
        [303] = "See Other",
        [304] = "Not Modified",
        [307] = "Temporary Redirect",
        [308] = "Permanent Redirect",
        [400] = "Bad Request",
        [401] = "Unauthorized",
        [403] = "Forbidden",
        [404] = "Not Found",
        [405] = "Method Not Allowed",
        [406] = "Not Acceptable",
        [408] = "Request Timeout",
        [409] = "Conflict",
        [410] = "Gone",
        [411] = "Length Required",
        [412] = "Precondition Failed",
        [413] = "Content Too Large",
        [414] = "URI Too Long",
        [415] = "Unsupported Media Type",
        [416] = "Range Not Satisfiable",
        [417] = "Expectation Failed",
        [421] = "Misdirected Request",
        [422] = "Unprocessable Content",
        [425] = "Too Early",
        [426] = "Upgrade Required",
        [428] = "Precondition Required",
        [429] = "Too Many Requests",
        [431] = "Request Header Fields Too Large",
        [451] = "Unavailable For Legal Reasons",
        [500] = "Internal Server Error",
        [501] = "Not Implemented",
        [502] = "Bad Gateway",
        [503] = "Service Unavailable",
        [504] = "Gateway Timeout",
        [505] = "HTTP Version Not Supported",
        [507] = "Insufficient Storage",
    };

    return status >= 100 && status < 512 && reasons[status] ? reasons[status] : "Unknown";
}

/* "date: …\r\n", made once a second (RFC 9110 section 5.6.7). */
const char *http_date(struct http_loop *hl)
{
    uint64_t now = loop_now_ms(hl->loop);
    struct tm tm;
    time_t t;

    if (hl->date[0] && now - hl->date_ms < 1000)
        return hl->date;
    hl->date_ms = now;
    t = time(NULL);
    gmtime_r(&t, &tm);
    strftime(hl->date, sizeof hl->date, "date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
    return hl->date;
}

/* ---- requests and the handler ---- */

void req_refuse(struct http_req *r, int status, const char *detail)
{
    char body[512];
    struct http_hdr h = {SLICE_LIT("content-type"), SLICE_LIT("application/problem+json")};
    int n =
        snprintf(body, sizeof body,
                 "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"detail\":\"%s\"}\n",
                 http_reason(status), status, detail);

    ASSERT(n > 0 && (size_t)n < sizeof body);
    r->refused = true;
    http_reply(r, status, &h, 1, slice_of(body, (size_t)n));
}

bool req_head_ask(struct http_req *r)
{
    const struct http_server_conf *conf = &r->hl->s->conf;
    int s;

    if (!conf->on_head)
        return true;
    r->in_head = true;
    s = conf->on_head(conf->ctx, r->hl->index, r);
    ASSERT((s < 0) == r->ended);
    if (s > 0)
        req_refuse(r, s, "the server does not take this request");
    r->in_head = false;
    r->refused = s != 0;
    return s == 0;
}

void req_dispatch(struct http_req *r)
{
    const struct http_server_conf *conf = &r->hl->s->conf;

    r->dispatched = true;
    conn_stat_add(&r->hl->requests, 1);
    conf->on_request(conf->ctx, r->hl->index, r);
}

void req_gone(struct http_req *r)
{
    const struct http_server_conf *conf = &r->hl->s->conf;

    if (r->dispatched && !r->ended && conf->on_close)
        conf->on_close(conf->ctx, r->hl->index, r);
    req_free(r);
}

void req_drained(struct http_req *r)
{
    if (!r->was_full || r->ended)
        return;
    r->was_full = false;
    if (r->on_drain)
        r->on_drain(r);
}

/* ---- replies ---- */

static void count(struct http_req *r, int status)
{
    if (status >= 500)
        conn_stat_add(&r->hl->errors_5xx, 1);
    else if (status >= 400)
        conn_stat_add(&r->hl->errors_4xx, 1);
}

static bool has_content(const struct http_req *r, int status)
{
    return !r->head_only && status != 204 && status != 304;
}

void http_reply(struct http_req *r, int status, const struct http_hdr *h, unsigned n,
                struct slice body)
{
    ASSERT(!r->started && !r->ended && status >= 200);
    count(r, status);
    r->started = true;
    r->ops->head(r, status, h, n, (int64_t)body.len);
    if (body.len && has_content(r, status))
        r->ops->data(r, body);
    r->ended = true;
    r->ops->end(r);
}

void http_reply_abort(struct http_req *r)
{
    ASSERT(r->started && !r->ended);
    r->ops->abort(r);
}

void http_reply_owned(struct http_req *r, int status, const struct http_hdr *h, unsigned n,
                      struct slice body, void (*release)(void *arg), void *arg)
{
    ASSERT(!r->started && !r->ended && status >= 200);
    count(r, status);
    r->started = true;
    r->ops->head(r, status, h, n, (int64_t)body.len);
    if (body.len && has_content(r, status))
        r->ops->lend(r, body, release, arg);
    else
        release(arg);
    r->ended = true;
    r->ops->end(r);
}

void http_reply_start(struct http_req *r, int status, const struct http_hdr *h, unsigned n,
                      void (*on_drain)(struct http_req *req))
{
    ASSERT(!r->started && !r->ended && !r->in_head && status >= 200);
    count(r, status);
    r->started = true;
    r->on_drain = on_drain;
    r->ops->head(r, status, h, n, -1);
    if (!has_content(r, status))
        r->head_only = true; /* what is written goes nowhere */
}

size_t http_reply_write(struct http_req *r, struct slice data)
{
    size_t queued;

    ASSERT(r->started && !r->ended);
    if (data.len && !r->head_only)
        r->ops->data(r, data);
    queued = r->ops->queued(r);
    if (queued >= r->hl->s->conf.output_max)
        r->was_full = true;
    return queued;
}

size_t http_reply_queued(const struct http_req *r)
{
    return r->ops->queued(r);
}

void http_reply_end(struct http_req *r)
{
    ASSERT(r->started && !r->ended);
    r->ended = true;
    r->ops->end(r);
}

/* ---- the server ---- */

static void defaults(struct http_server_conf *c)
{
    c->line_max = c->line_max ? c->line_max : HTTP_LINE_DEFAULT;
    c->head_max = c->head_max ? c->head_max : HTTP_HEAD_DEFAULT;
    c->headers_max = c->headers_max ? c->headers_max : HTTP_HEADERS_DEFAULT;
    c->body_max = c->body_max ? c->body_max : HTTP_BODY_DEFAULT;
    c->bodies_max = c->bodies_max ? c->bodies_max : HTTP_BODIES_DEFAULT;
    c->pipeline_max = c->pipeline_max ? c->pipeline_max : HTTP_PIPELINE_DEFAULT;
    c->output_max = c->output_max ? c->output_max : NET_OUTPUT_DEFAULT;
    c->idle_ms = c->idle_ms ? c->idle_ms : HTTP_IDLE_MS_DEFAULT;
    c->head_ms = c->head_ms ? c->head_ms : HTTP_HEAD_MS_DEFAULT;
    c->send_ms = c->send_ms ? c->send_ms : NET_SEND_MS_DEFAULT;
    c->body_rate_min = c->body_rate_min ? c->body_rate_min : HTTP_BODY_RATE_DEFAULT;
    c->conns_max = c->conns_max ? c->conns_max : NET_CONNS_DEFAULT;
    if (c->bodies_max / c->loops_n < c->body_max) /* one body of any size is taken */
        c->bodies_max = (uint64_t)c->body_max * c->loops_n;
}

static void on_open(void *ctx, unsigned loop, struct conn *c, const char *alpn)
{
    struct http_server *s = ctx;

    if (strcmp(alpn, "h2") == 0)
        http2_open(&s->hl[loop], c, SLICE_NULL);
    else
        http1_open(&s->hl[loop], c);
}

static void on_turn_end(void *arg)
{
    struct http_loop *hl = arg;

    while (!list_empty(&hl->graves))
        http1_bury(list_pop_front(&hl->graves));
}

static void loop_init(struct http_loop *hl, struct http_server *s, unsigned i)
{
    hl->s = s;
    hl->index = i;
    hl->loop = s->conf.loops[i];
    list_init(&hl->pool);
    list_init(&hl->graves);
    hl->hook = (struct loop_hook){.fn = on_turn_end, .arg = hl};
    loop_hook_add(hl->loop, &hl->hook, true);
}

enum err http_server_new(const struct http_server_conf *conf, struct http_server **out,
                         struct errinfo *info)
{
    struct http_server *s;
    struct conn_server_conf cc;
    unsigned i;

    *out = NULL;
    if (!conf->loops_n || !conf->on_request)
        return errinfo_set(info, ERR_INVALID, "an HTTP server needs a loop and a handler");
    s = xcalloc(1, sizeof *s);
    s->conf = *conf;
    defaults(&s->conf);
    s->hl = xcalloc(conf->loops_n, sizeof *s->hl);
    for (i = 0; i < conf->loops_n; i++)
        loop_init(&s->hl[i], s, i);
    cc = (struct conn_server_conf){.loops = conf->loops,
                                   .loops_n = conf->loops_n,
                                   .conns_max = s->conf.conns_max,
                                   .conns_ip_max = s->conf.conns_ip_max,
                                   .output_max = s->conf.output_max,
                                   .send_ms = s->conf.send_ms,
                                   .on_open = on_open,
                                   .ctx = s};
    *out = s;
    return conn_server_new(&cc, &s->cs, info);
}

enum err http_server_listen(struct http_server *s, const char *addr, struct tls_conf *tls,
                            uint16_t *port, struct errinfo *info)
{
    return conn_server_listen(s->cs, addr, tls, port, info);
}

struct conn_server *http_server_conns(struct http_server *s)
{
    return s->cs;
}

/* ---- draining ---- */

static void drain_look(struct loop_timer *t)
{
    struct http_server *s = list_entry(t, struct http_server, drain_timer);

    if (conn_server_open(s->cs) > 0 && s->drained_ms < s->grace_ms) {
        s->drained_ms += HTTP_DRAIN_STEP_MS;
        loop_timer_arm(s->hl[0].loop, t, HTTP_DRAIN_STEP_MS);
        return;
    }
    s->drain_done(s->drain_arg);
}

static void drain_conn(struct conn *c)
{
    if (c->proto == &http1_proto)
        http1_drain(c);
    else if (c->proto == &http2_proto)
        http2_drain(c);
    else if (c->proto == &ws_proto)
        ws_drain_conn(c);
}

static void drain_loop(struct loop_task *t)
{
    struct http_loop *hl = list_entry(t, struct http_loop, drain);

    hl->draining = true;
    if (hl->index == 0)
        loop_timer_arm(hl->loop, &hl->s->drain_timer, HTTP_DRAIN_STEP_MS);
}

void http_server_drain(struct http_server *s, uint32_t grace_ms, void (*done)(void *arg), void *arg)
{
    unsigned i;

    ASSERT(!s->draining);
    s->draining = true;
    s->drain_done = done;
    s->drain_arg = arg;
    s->grace_ms = grace_ms;
    loop_timer_init(&s->drain_timer, drain_look);
    for (i = 0; i < s->conf.loops_n; i++) {
        s->hl[i].drain.fn = drain_loop;
        loop_post(s->hl[i].loop, &s->hl[i].drain);
    }
    conn_server_drain(s->cs, drain_conn); /* tasks run in the order posted */
}

void http_server_free(struct http_server **sp)
{
    struct http_server *s = *sp;
    unsigned i;

    if (!s)
        return;
    conn_server_free(&s->cs);
    if (s->draining)
        loop_timer_cancel(s->hl[0].loop, &s->drain_timer);
    for (i = 0; i < s->conf.loops_n; i++) {
        struct http_loop *hl = &s->hl[i];

        on_turn_end(hl);
        loop_hook_del(&hl->hook);
        ws_deflate_free(&hl->deflate);
        while (!list_empty(&hl->pool))
            req_delete(list_entry(list_pop_front(&hl->pool), struct http_req, link));
    }
    free(s->hl);
    free(s);
    *sp = NULL;
}

static uint64_t get(const conn_stat *v)
{
    return atomic_load_explicit((conn_stat *)(uintptr_t)v, memory_order_relaxed);
}

void http_server_stats(const struct http_server *s, struct http_stats *out)
{
    struct conn_stats st;
    unsigned i;

    conn_server_stats(s->cs, &st);
    *out = (struct http_stats){.conns_accepted = st.accepted,
                               .conns_refused = st.refused,
                               .conns_open = st.open,
                               .bytes_in = st.bytes_in,
                               .bytes_out = st.bytes_out,
                               .timeouts = st.closed[CONN_TIMEOUT],
                               .slow = st.closed[CONN_SLOW]};
    for (i = 0; i < s->conf.loops_n; i++) {
        out->requests += get(&s->hl[i].requests);
        out->errors_4xx += get(&s->hl[i].errors_4xx);
        out->errors_5xx += get(&s->hl[i].errors_5xx);
        out->body_bytes += get(&s->hl[i].bodies);
    }
}
