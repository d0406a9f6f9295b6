/* The HTTP server: requests, replies and the parts that do not depend on the version. See http.h. */
#include "net/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/mem.h"
#include "net/http_int.h"

static const struct {
    int status;
    const char *text;
} reasons[] = {
    {100, "Continue"}, {101, "Switching Protocols"}, {200, "OK"}, {201, "Created"},
    {202, "Accepted"}, {204, "No Content"}, {206, "Partial Content"}, {207, "Multi-Status"},
    {301, "Moved Permanently"}, {302, "Found"}, {303, "See Other"}, {304, "Not Modified"},
    {307, "Temporary Redirect"}, {308, "Permanent Redirect"}, {400, "Bad Request"},
    {401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
    {406, "Not Acceptable"}, {408, "Request Timeout"}, {409, "Conflict"}, {410, "Gone"},
    {411, "Length Required"}, {412, "Precondition Failed"}, {413, "Content Too Large"},
    {414, "URI Too Long"}, {415, "Unsupported Media Type"}, {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"}, {421, "Misdirected Request"}, {422, "Unprocessable Content"},
    {426, "Upgrade Required"}, {428, "Precondition Required"}, {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"},
    {501, "Not Implemented"}, {502, "Bad Gateway"}, {503, "Service Unavailable"},
    {504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"}, {507, "Insufficient Storage"},
};

const char *http_reason(int status)
{
    size_t i;

    for (i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status)
            return reasons[i].text;
    return "Unknown";
}

/* "Date: …\r\n", made once a second (RFC 9110 section 5.6.7). */
const char *http_date(struct http_loop *hl)
{
    uint64_t now = loop_now_ms(hl->loop);
    struct tm tm;
    time_t t;

    if (hl->date[0] && now - hl->date_ms < 500)
        return hl->date;
    hl->date_ms = now;
    t = time(NULL);
    gmtime_r(&t, &tm);
    strftime(hl->date, sizeof hl->date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
    return hl->date;
}

/* ---- requests ------------------------------------------------------------------------------------ */

struct http_req *req_new(struct http_loop *hl, struct conn *c)
{
    struct http_req *r;

    if (!list_empty(&hl->pool)) {
        r = list_entry(list_pop_front(&hl->pool), struct http_req, link);
        hl->pool_n--;
    } else {
        r = xcalloc(1, sizeof *r);
        buf_init(&r->head, (size_t)hl->s->conf.head_max + hl->s->conf.line_max);
        buf_init(&r->body, hl->s->conf.body_max);
        buf_init(&r->out, (size_t)hl->s->conf.output_max * 64);
    }
    r->hl = hl;
    r->c = c;
    return r;
}

static void req_clear(struct http_req *r)
{
    struct http_req keep = *r;
    struct chunk *ch, *next;

    for (ch = r->chunks; ch; ch = next) {
        next = ch->next;
        free(ch);
    }
    free(r->path_mem);
    memset(r, 0, sizeof *r);
    r->head = keep.head;
    r->body = keep.body;
    r->out = keep.out;
    r->hs = keep.hs;
    r->hs_cap = keep.hs_cap;
    r->hdr = keep.hdr;
    r->hdr_cap = keep.hdr_cap;
    buf_clear(&r->head);
    buf_clear(&r->body);
    buf_clear(&r->out);
    if (r->body.cap > 64u << 10)
        buf_fini(&r->body);
    if (r->out.cap > 64u << 10)
        buf_fini(&r->out);
}

static void req_delete(struct http_req *r)
{
    buf_fini(&r->head);
    buf_fini(&r->body);
    buf_fini(&r->out);
    free(r->hs);
    free(r->hdr);
    free(r);
}

void req_free(struct http_req *r)
{
    struct http_loop *hl = r->hl;

    req_clear(r);
    if (hl->pool_n >= REQ_POOL_MAX) {
        req_delete(r);
        return;
    }
    list_push_back(&hl->pool, &r->link);
    hl->pool_n++;
}

int req_target_add(struct http_req *r, struct slice s)
{
    if (r->target.len + s.len > r->hl->s->conf.line_max || buf_append_slice(&r->head, s))
        return 414;
    r->target.len += (uint32_t)s.len;
    return 0;
}

/* fresh: begins a new name or value; else it continues the last one. */
int req_header_add(struct http_req *r, bool name, bool fresh, struct slice s)
{
    struct span *sp;

    if (fresh) {
        if (name && r->hs_n / 2 >= r->hl->s->conf.headers_max)
            return 431;
        if (r->hs_n == r->hs_cap) {
            r->hs_cap = r->hs_cap ? r->hs_cap * 2 : 32;
            r->hs = xrealloc(r->hs, r->hs_cap * sizeof *r->hs);
        }
        r->hs[r->hs_n++] = (struct span){(uint32_t)r->head.len, 0};
    }
    sp = &r->hs[r->hs_n - 1];
    if (r->head.len - r->target.len + s.len > r->hl->s->conf.head_max ||
        buf_append_slice(&r->head, s))
        return 431;
    sp->len += (uint32_t)s.len;
    return 0;
}

static int hex_of(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decodes into dst (as long as src at most); -1 for a broken escape or a NUL. */
static long decode(uint8_t *dst, struct slice s, bool plus)
{
    size_t i, n = 0;

    for (i = 0; i < s.len; i++) {
        if (s.ptr[i] == '%') {
            int hi = i + 2 < s.len + 0 ? hex_of(s.ptr[i + 1]) : -1;
            int lo = hi >= 0 ? hex_of(s.ptr[i + 2]) : -1;

            if (lo < 0 || (hi == 0 && lo == 0))
                return -1;
            dst[n++] = (uint8_t)(hi << 4 | lo);
            i += 2;
        } else {
            dst[n++] = plus && s.ptr[i] == '+' ? ' ' : s.ptr[i];
        }
    }
    return (long)n;
}

static int path_set(struct http_req *r)
{
    struct slice t = slice_of(r->head.ptr + r->target.at, r->target.len);
    const uint8_t *q;
    long n;

    if (t.len == 0)
        return 400;
    if (t.ptr[0] != '/' && !slice_eq_str(t, "*")) { /* absolute form: http://host/path */
        const uint8_t *p = memmem(t.ptr, t.len, "://", 3);
        const uint8_t *slash =
            p ? memchr(p + 3, '/', t.len - (size_t)(p + 3 - t.ptr)) : NULL;

        if (!slash)
            return 400;
        t.len -= (size_t)(slash - t.ptr);
        t.ptr = slash;
    }
    q = memchr(t.ptr, '?', t.len);
    r->query = SLICE_NULL;
    if (q) {
        r->query = slice_of(q + 1, t.len - (size_t)(q + 1 - t.ptr));
        t.len = (size_t)(q - t.ptr);
    }
    if (!memchr(t.ptr, '%', t.len)) {
        r->path = t;
        return 0;
    }
    r->path_mem = xmalloc(t.len);
    n = decode(r->path_mem, t, false);
    if (n < 0)
        return 400;
    r->path = slice_of(r->path_mem, (size_t)n);
    return 0;
}

int req_head_done(struct http_req *r)
{
    uint32_t i;

    if (r->hs_n / 2 > r->hdr_cap) {
        r->hdr_cap = r->hs_n / 2 + 16;
        r->hdr = xrealloc(r->hdr, r->hdr_cap * sizeof *r->hdr);
    }
    r->hdr_n = r->hs_n / 2;
    for (i = 0; i < r->hdr_n; i++) {
        struct span n = r->hs[2 * i], v = r->hs[2 * i + 1];

        r->hdr[i].name = slice_of(r->head.ptr + n.at, n.len);
        while (v.len && (r->head.ptr[v.at + v.len - 1] == ' ' ||
                         r->head.ptr[v.at + v.len - 1] == '\t'))
            v.len--;
        r->hdr[i].value = slice_of(r->head.ptr + v.at, v.len);
    }
    return path_set(r);
}

void req_dispatch(struct http_req *r)
{
    struct http_server_conf *conf = &r->hl->s->conf;

    r->dispatched = true;
    r->hl->requests++;
    conf->on_request(conf->ctx, r->hl->index, r);
}

void req_gone(struct http_req *r)
{
    struct http_server_conf *conf = &r->hl->s->conf;

    if (r->dispatched && !r->ended && !r->refused && conf->on_close)
        conf->on_close(conf->ctx, r->hl->index, r);
    req_free(r);
}

void req_refuse(struct http_req *r, int status, const char *detail)
{
    char body[512];
    struct http_hdr h[2] = {
        {SLICE_LIT("content-type"), SLICE_LIT("application/problem+json")},
        {SLICE_LIT("connection"), SLICE_LIT("close")},
    };
    int n = snprintf(body, sizeof body,
                     "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"detail\":\"%s\"}\n",
                     http_reason(status), status, detail);

    r->refused = true;
    r->keep_alive = false;
    http_reply(r, status, h, r->version == 20 ? 1 : 2, slice_of(body, (size_t)n));
}

/* ---- what handlers ask --------------------------------------------------------------------------- */

enum http_method http_method(const struct http_req *r)
{
    return r->method;
}

struct slice http_method_text(const struct http_req *r)
{
    static const char *const names[] = {"GET",   "HEAD",   "POST",    "PUT",
                                        "PATCH", "DELETE", "OPTIONS", "OTHER"};

    return slice_str(names[r->method]);
}

struct slice http_path(const struct http_req *r)
{
    return r->path;
}

struct slice http_target(const struct http_req *r)
{
    return slice_of(r->head.ptr + r->target.at, r->target.len);
}

static struct slice decoded(struct http_req *r, struct slice s)
{
    uint8_t *p;
    long n;

    if (!memchr(s.ptr, '%', s.len) && !memchr(s.ptr, '+', s.len))
        return s;
    p = http_alloc(r, s.len + 1);
    n = p ? decode(p, s, true) : -1;
    return n < 0 ? s : slice_of(p, (size_t)n);
}

/* Takes the next name=value off *rest. */
static bool query_next(struct slice *rest, struct slice *name, struct slice *value)
{
    const uint8_t *amp, *eq;

    if (rest->len == 0)
        return false;
    amp = memchr(rest->ptr, '&', rest->len);
    *name = slice_of(rest->ptr, amp ? (size_t)(amp - rest->ptr) : rest->len);
    rest->ptr += name->len + (amp != NULL);
    rest->len -= name->len + (amp != NULL);
    eq = memchr(name->ptr, '=', name->len);
    *value = slice_of(name->ptr + name->len, 0);
    if (eq) {
        *value = slice_of(eq + 1, name->len - (size_t)(eq + 1 - name->ptr));
        name->len = (size_t)(eq - name->ptr);
    }
    return true;
}

struct slice http_query(struct http_req *r, const char *want)
{
    struct slice rest = r->query, name, value;

    while (query_next(&rest, &name, &value))
        if (slice_eq_str(decoded(r, name), want))
            return decoded(r, value);
    return SLICE_NULL;
}

void http_query_each(struct http_req *r, bool (*fn)(void *arg, struct slice n, struct slice v),
                     void *arg)
{
    struct slice rest = r->query, name, value;

    while (query_next(&rest, &name, &value))
        if (!fn(arg, decoded(r, name), decoded(r, value)))
            return;
}

struct slice http_header(const struct http_req *r, const char *name)
{
    size_t len = strlen(name);
    uint32_t i;

    for (i = 0; i < r->hdr_n; i++)
        if (r->hdr[i].name.len == len &&
            strncasecmp((const char *)r->hdr[i].name.ptr, name, len) == 0)
            return r->hdr[i].value;
    return SLICE_NULL;
}

size_t http_headers(const struct http_req *r, const struct http_hdr **out)
{
    *out = r->hdr;
    return r->hdr_n;
}

struct slice http_body(const struct http_req *r)
{
    return buf_slice(&r->body);
}

const char *http_remote(const struct http_req *r)
{
    return r->c->remote;
}

bool http_is_tls(const struct http_req *r)
{
    return r->c->ssl != NULL;
}

int http_version(const struct http_req *r)
{
    return r->version;
}

struct loop *http_loop(const struct http_req *r)
{
    return r->hl->loop;
}

void *http_user(const struct http_req *r)
{
    return r->user;
}

void http_user_set(struct http_req *r, void *user)
{
    r->user = user;
}

void *http_alloc(struct http_req *r, size_t n)
{
    struct chunk *ch;

    if (n > REQ_ALLOC_MAX - r->chunks_n)
        return NULL;
    r->chunks_n += n;
    ch = xmalloc(sizeof *ch + n);
    ch->next = r->chunks;
    r->chunks = ch;
    return ch + 1;
}

/* ---- replies ------------------------------------------------------------------------------------- */

static void count(struct http_req *r, int status)
{
    if (status >= 500)
        r->hl->errors_5xx++;
    else if (status >= 400)
        r->hl->errors_4xx++;
}

void http_reply(struct http_req *r, int status, const struct http_hdr *h, unsigned n,
                struct slice body)
{
    ASSERT(!r->started && !r->ended);
    count(r, status);
    r->started = true;
    r->ops->head(r, status, h, n, (int64_t)body.len);
    if (body.len && !r->head_only && status != 204 && status != 304)
        r->ops->data(r, body);
    r->ended = true;
    r->ops->end(r);
}

void http_reply_start(struct http_req *r, int status, const struct http_hdr *h, unsigned n,
                      void (*on_drain)(struct http_req *req))
{
    ASSERT(!r->started && !r->ended);
    count(r, status);
    r->started = true;
    r->on_drain = on_drain;
    r->ops->head(r, status, h, n, -1);
}

size_t http_reply_write(struct http_req *r, struct slice data)
{
    size_t queued;

    ASSERT(r->started && !r->ended);
    if (data.len && !r->head_only)
        r->ops->data(r, data);
    queued = r->ops->queued(r);
    if (queued >= r->hl->s->conf.output_max)
        r->was_full = r->c->was_full = true; /* the connection's flush looks at its own */
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

/* ---- the server ---------------------------------------------------------------------------------- */

static void defaults(struct http_server_conf *c)
{
    c->line_max = c->line_max ? c->line_max : 8u << 10;
    c->head_max = c->head_max ? c->head_max : 32u << 10;
    c->headers_max = c->headers_max ? c->headers_max : 100;
    c->body_max = c->body_max ? c->body_max : 16u << 20;
    c->pipeline_max = c->pipeline_max ? c->pipeline_max : 256;
    c->output_max = c->output_max ? c->output_max : 1u << 20;
    c->idle_ms = c->idle_ms ? c->idle_ms : 75000;
    c->head_ms = c->head_ms ? c->head_ms : 10000;
    c->body_rate_min = c->body_rate_min ? c->body_rate_min : 100;
    c->conns_max = c->conns_max ? c->conns_max : 20000;
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

    while (!list_empty(&hl->resume))
        http1_resume(list_pop_front(&hl->resume));
}

enum err http_server_new(const struct http_server_conf *conf, struct http_server **out,
                         struct errinfo *info)
{
    struct http_server *s = xcalloc(1, sizeof *s);
    struct conn_server_conf cc;
    unsigned i;
    enum err e;

    s->conf = *conf;
    defaults(&s->conf);
    s->hl = xcalloc(conf->loops_n, sizeof *s->hl);
    for (i = 0; i < conf->loops_n; i++) {
        struct http_loop *hl = &s->hl[i];

        hl->s = s;
        hl->index = i;
        hl->loop = conf->loops[i];
        list_init(&hl->pool);
        list_init(&hl->resume);
        hl->hook = (struct loop_hook){.fn = on_turn_end, .arg = hl};
        loop_hook_add(hl->loop, &hl->hook, true); /* before the connections' own, which sends */
    }
    cc = (struct conn_server_conf){.loops = conf->loops,
                                   .loops_n = conf->loops_n,
                                   .conns_max = s->conf.conns_max,
                                   .conns_ip_max = s->conf.conns_ip_max,
                                   .output_max = s->conf.output_max,
                                   .on_open = on_open,
                                   .ctx = s};
    e = conn_server_new(&cc, &s->cs, info);
    *out = s;
    return e;
}

enum err http_server_listen(struct http_server *s, const char *addr, struct tls_conf *tls,
                            uint16_t *port, struct errinfo *info)
{
    return conn_server_listen(s->cs, addr, tls, port, info);
}

struct drain_wait {
    struct loop_timer timer;
    struct loop_task task;
    struct http_server *s;
    uint32_t waited_ms;
};

#define DRAIN_STEP_MS 20

static void drain_look(struct loop_timer *t)
{
    struct drain_wait *w = (struct drain_wait *)(void *)t;
    struct http_server *s = w->s;

    w->waited_ms += DRAIN_STEP_MS;
    if (conn_server_open(s->cs) > 0 && w->waited_ms < s->grace_ms) {
        loop_timer_arm(s->hl[0].loop, t, DRAIN_STEP_MS);
        return;
    }
    s->drain_done(s->drain_arg);
}

static void drain_start(struct loop_task *t)
{
    struct drain_wait *w =
        (struct drain_wait *)(void *)((char *)t - offsetof(struct drain_wait, task));

    loop_timer_arm(w->s->hl[0].loop, &w->timer, DRAIN_STEP_MS);
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

void http_server_drain(struct http_server *s, uint32_t grace_ms, void (*done)(void *arg), void *arg)
{
    unsigned i;

    ASSERT(!s->wait);
    s->drain_done = done;
    s->drain_arg = arg;
    s->grace_ms = grace_ms;
    for (i = 0; i < s->conf.loops_n; i++)
        s->hl[i].draining = true;
    conn_server_drain(s->cs, drain_conn);
    s->wait = xcalloc(1, sizeof *s->wait);
    s->wait->s = s;
    loop_timer_init(&s->wait->timer, drain_look);
    s->wait->task.fn = drain_start;
    loop_post(s->hl[0].loop, &s->wait->task);
}

void http_server_free(struct http_server **sp)
{
    struct http_server *s = *sp;
    unsigned i;

    if (!s)
        return;
    conn_server_free(&s->cs);
    for (i = 0; i < s->conf.loops_n; i++) {
        struct http_loop *hl = &s->hl[i];

        loop_hook_del(&hl->hook);
        while (!list_empty(&hl->pool))
            req_delete(list_entry(list_pop_front(&hl->pool), struct http_req, link));
    }
    if (s->wait)
        loop_timer_cancel(s->hl[0].loop, &s->wait->timer);
    free(s->wait);
    free(s->hl);
    free(s);
    *sp = NULL;
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
                               .timeouts = st.timeouts};
    for (i = 0; i < s->conf.loops_n; i++) {
        out->requests += s->hl[i].requests;
        out->errors_4xx += s->hl[i].errors_4xx;
        out->errors_5xx += s->hl[i].errors_5xx;
    }
}
