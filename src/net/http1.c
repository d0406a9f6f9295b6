/* HTTP/1.0 and 1.1 on a connection, parsed by llhttp (strict: nothing lenient is switched on).
 *
 * Requests queue in order of arrival; only the first may put bytes into the connection's output, the
 * others collect theirs in req->out until it is their turn. Parsing pauses when pipeline_max requests
 * wait, when output is full, and after a request to upgrade until it is answered; what was read but not
 * parsed is kept in `rest`. `busy` counts the activations on the stack: the state is freed when the
 * last one returns. */
/* llhttp's names for methods are ours, too: its own get another prefix. */
#define HTTP_GET LLHTTP_GET
#define HTTP_HEAD LLHTTP_HEAD
#define HTTP_POST LLHTTP_POST
#define HTTP_PUT LLHTTP_PUT
#define HTTP_PATCH LLHTTP_PATCH
#define HTTP_DELETE LLHTTP_DELETE
#define HTTP_OPTIONS LLHTTP_OPTIONS
#include <llhttp.h>
#undef HTTP_GET
#undef HTTP_HEAD
#undef HTTP_POST
#undef HTTP_PUT
#undef HTTP_PATCH
#undef HTTP_DELETE
#undef HTTP_OPTIONS

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "net/http_int.h"

struct http1 {
    struct list_node resume; /* in the loop's list while resuming is due */
    llhttp_t p;
    struct http_loop *hl;
    struct conn *c;
    struct list_head queue; /* unanswered requests; the last may still be coming in */
    unsigned queue_n;
    struct http_req *cur; /* being parsed */
    struct buf rest;
    int status; /* why parsing stops, to be answered */
    const char *why;
    unsigned busy;
    bool in_name, in_value; /* what the last header callback was */
    bool dead, broken, close_after, waiting_upgrade, resume_due, eof;
    uint64_t body_since_ms;
    size_t body_seen;
};

static const struct req_ops ops;
static void feed(struct http1 *h, struct slice data);

static struct http1 *of(struct conn *c)
{
    return c->state;
}

static int fail(struct http1 *h, int status, const char *why)
{
    if (!h->status) {
        h->status = status;
        h->why = why;
    }
    return HPE_USER;
}

/* ---- parser callbacks ---------------------------------------------------------------------------- */

static int cb_begin(llhttp_t *p)
{
    struct http1 *h = p->data;

    h->cur = req_new(h->hl, h->c);
    h->cur->proto = h;
    h->cur->ops = &ops;
    h->in_name = h->in_value = false;
    list_push_back(&h->queue, &h->cur->link);
    h->queue_n++;
    conn_deadline(h->c, h->hl->s->conf.head_ms);
    return 0;
}

static int cb_url(llhttp_t *p, const char *at, size_t n)
{
    struct http1 *h = p->data;
    int s = req_target_add(h->cur, slice_of(at, n));

    return s ? fail(h, s, "the request target is too long") : 0;
}

static int cb_field(llhttp_t *p, const char *at, size_t n)
{
    struct http1 *h = p->data;
    int s = req_header_add(h->cur, true, !h->in_name, slice_of(at, n));

    h->in_name = true;
    h->in_value = false;
    return s ? fail(h, s, "too many or too long headers") : 0;
}

static int cb_value(llhttp_t *p, const char *at, size_t n)
{
    struct http1 *h = p->data;
    int s = req_header_add(h->cur, false, !h->in_value, slice_of(at, n));

    h->in_value = true;
    h->in_name = false;
    return s ? fail(h, s, "too many or too long headers") : 0;
}

/* An empty value has no value callback: the pair is completed here. */
static int cb_value_done(llhttp_t *p)
{
    struct http1 *h = p->data;

    if (h->cur->hs_n % 2)
        req_header_add(h->cur, false, true, slice_of("", 0));
    h->in_name = h->in_value = false;
    return 0;
}

static enum http_method method_of(llhttp_t *p)
{
    const char *name = llhttp_method_name((llhttp_method_t)p->method);
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
    unsigned i;

    for (i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i]) == 0)
            return (enum http_method)i;
    return HTTP_OTHER;
}

static bool expects_continue(const struct http_req *r)
{
    struct slice v = http_header(r, "expect");

    return v.ptr && v.len == 12 && strncasecmp((const char *)v.ptr, "100-continue", 12) == 0;
}

static int check_head(struct http1 *h, struct http_req *r)
{
    unsigned hosts = 0;
    uint32_t i;

    for (i = 0; i < r->hdr_n; i++)
        hosts += r->hdr[i].name.len == 4 &&
                 strncasecmp((const char *)r->hdr[i].name.ptr, "host", 4) == 0;
    if (hosts > 1 || (hosts == 0 && r->version == 11))
        return fail(h, 400, "exactly one Host header is needed");
    if (r->method == HTTP_OTHER)
        return fail(h, 501, "this method is not known here");
    if (h->p.flags & F_CONTENT_LENGTH && h->p.content_length > h->hl->s->conf.body_max)
        return fail(h, 413, "the body is larger than the limit");
    return 0;
}

static int cb_head_done(llhttp_t *p)
{
    struct http1 *h = p->data;
    struct http_server_conf *conf = &h->hl->s->conf;
    struct http_req *r = h->cur;
    int s;

    r->version = p->http_major * 10 + p->http_minor;
    if (r->version != 10 && r->version != 11)
        return fail(h, 505, "HTTP/1.0, 1.1 and 2 are spoken here");
    r->method = method_of(p);
    r->head_only = r->method == HTTP_HEAD;
    r->upgrade = p->upgrade;
    r->keep_alive = llhttp_should_keep_alive(p);
    if ((s = req_head_done(r)))
        return fail(h, s, "the request target does not decode");
    if ((s = check_head(h, r)))
        return s;
    if (conf->on_head && (s = conf->on_head(conf->ctx, h->hl->index, r)))
        return fail(h, s, "refused");
    if (expects_continue(r) && r->version == 11 &&
        (p->flags & F_CHUNKED || p->content_length > 0) && h->queue.node.next == &r->link)
        conn_send(h->c, SLICE_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
    h->body_since_ms = loop_now_ms(h->hl->loop);
    h->body_seen = 0;
    conn_deadline(h->c, 10000);
    return 0;
}

static int cb_body(llhttp_t *p, const char *at, size_t n)
{
    struct http1 *h = p->data;

    h->body_seen += n;
    return buf_append(&h->cur->body, at, n) ? fail(h, 413, "the body is larger than the limit")
                                            : 0;
}

static int cb_done(llhttp_t *p)
{
    struct http1 *h = p->data;
    struct http_req *r = h->cur;

    h->cur = NULL;
    conn_deadline(h->c, 0);
    if (!r->keep_alive || h->hl->draining)
        h->close_after = true;
    if (r->upgrade)
        h->waiting_upgrade = true;
    req_dispatch(r);
    if (h->dead || h->c->proto != &http1_proto)
        return 0;
    if (h->close_after || h->queue_n >= h->hl->s->conf.pipeline_max || conn_full(h->c))
        return HPE_PAUSED;
    return 0;
}

static const llhttp_settings_t settings = {
    .on_message_begin = cb_begin,
    .on_url = cb_url,
    .on_header_field = cb_field,
    .on_header_value = cb_value,
    .on_header_value_complete = cb_value_done,
    .on_headers_complete = cb_head_done,
    .on_body = cb_body,
    .on_message_complete = cb_done,
};

/* ---- sending ------------------------------------------------------------------------------------- */

static bool is_first(const struct http_req *r)
{
    const struct http1 *h = r->proto;

    return h->queue.node.next == &r->link;
}

/* Room in the connection's output, or in the request's own until its turn. */
static uint8_t *out_room(struct http_req *r, size_t n)
{
    if (is_first(r))
        return conn_out(r->c, n);
    if (buf_reserve(&r->out, n)) {
        conn_close(r->c, false);
        return NULL;
    }
    return r->out.ptr + r->out.len;
}

static void out_done(struct http_req *r, size_t n)
{
    if (is_first(r))
        conn_out_done(r->c, n);
    else
        r->out.len += n;
}

static uint8_t *put(uint8_t *p, const void *s, size_t n)
{
    memcpy(p, s, n);
    return p + n;
}

static uint8_t *put_number(uint8_t *p, uint64_t v)
{
    char t[20];
    int i = sizeof t;

    do
        t[--i] = (char)('0' + v % 10);
    while (v /= 10);
    return put(p, t + i, sizeof t - (size_t)i);
}

static void h1_head(struct http_req *r, int status, const struct http_hdr *hd, unsigned n,
                    int64_t body_len)
{
    struct http1 *h = r->proto;
    const char *reason = http_reason(status), *date = http_date(h->hl);
    size_t need = 192 + strlen(reason);
    bool no_body = status == 204 || status == 304 || status < 200;
    uint8_t *start, *p;
    unsigned i;

    if (h->dead)
        return;
    r->chunked = body_len < 0 && r->version == 11 && !no_body;
    if (body_len < 0 && !r->chunked)
        r->keep_alive = false;
    for (i = 0; i < n; i++)
        need += hd[i].name.len + hd[i].value.len + 4;
    start = p = out_room(r, need);
    if (!p)
        return;
    p = put(p, r->version == 10 ? "HTTP/1.0 " : "HTTP/1.1 ", 9);
    p = put_number(p, (uint64_t)status);
    *p++ = ' ';
    p = put(p, reason, strlen(reason));
    p = put(p, "\r\n", 2);
    p = put(p, date, strlen(date));
    for (i = 0; i < n; i++) {
        p = put(p, hd[i].name.ptr, hd[i].name.len);
        p = put(p, ": ", 2);
        p = put(p, hd[i].value.ptr, hd[i].value.len);
        p = put(p, "\r\n", 2);
    }
    if (r->chunked)
        p = put(p, "transfer-encoding: chunked\r\n", 28);
    else if (body_len >= 0 && !no_body)
        p = put_number(put(p, "content-length: ", 16), (uint64_t)body_len), p = put(p, "\r\n", 2);
    if ((!r->keep_alive || h->hl->draining) && status != 101 && !r->refused)
        p = put(p, "connection: close\r\n", 19);
    else if (r->version == 10 && r->keep_alive)
        p = put(p, "connection: keep-alive\r\n", 24);
    p = put(p, "\r\n", 2);
    out_done(r, (size_t)(p - start));
}

static void h1_data(struct http_req *r, struct slice data)
{
    struct http1 *h = r->proto;
    uint8_t *start, *p;

    if (h->dead || !(start = p = out_room(r, data.len + 32)))
        return;
    if (r->chunked)
        p += snprintf((char *)p, 24, "%zx\r\n", data.len);
    p = put(p, data.ptr, data.len);
    if (r->chunked)
        p = put(p, "\r\n", 2);
    out_done(r, (size_t)(p - start));
}

static void resume_later(struct http1 *h)
{
    if (h->resume_due || h->dead)
        return;
    h->resume_due = true;
    list_push_back(&h->hl->resume, &h->resume);
}

static void pop(struct http1 *h, struct http_req *r)
{
    list_remove(&r->link);
    h->queue_n--;
    if (r->upgrade)
        h->waiting_upgrade = false;
    req_free(r);
}

/* The first request is answered: the next ones may send what they have. */
static void advance(struct http1 *h)
{
    while (!list_empty(&h->queue)) {
        struct http_req *r = list_entry(h->queue.node.next, struct http_req, link);

        if (r->out.len) {
            conn_send(h->c, buf_slice(&r->out));
            if (h->dead)
                return;
            buf_clear(&r->out);
        }
        if (!r->ended)
            return;
        if (!r->keep_alive) {
            pop(h, r);
            h->broken = true;
            conn_close(h->c, true);
            return;
        }
        pop(h, r);
    }
    if (!h->dead && !h->cur)
        conn_deadline(h->c, h->hl->s->conf.idle_ms);
}

static void h1_end(struct http_req *r)
{
    struct http1 *h = r->proto;

    if (h->dead)
        return; /* req_gone frees it */
    if (r->chunked && !r->head_only) {
        uint8_t *p = out_room(r, 5);

        if (!p)
            return;
        memcpy(p, "0\r\n\r\n", 5);
        out_done(r, 5);
    }
    if (!is_first(r))
        return;
    advance(h);
    if (!h->dead && (h->c->paused || h->rest.len))
        resume_later(h);
}

static size_t h1_queued(const struct http_req *r)
{
    return is_first(r) ? conn_queued(r->c) : r->out.len;
}

static const struct req_ops ops = {h1_head, h1_data, h1_end, h1_queued};

/* ---- input --------------------------------------------------------------------------------------- */

static void state_free(struct http1 *h)
{
    buf_fini(&h->rest);
    free(h);
}

static const char *error_text(llhttp_errno_t e, const char *reason)
{
    return e == HPE_CLOSED_CONNECTION ? "data after the last request" : reason;
}

/* Parsing failed: answer with the status after all earlier answers, then close. */
static void refuse(struct http1 *h, llhttp_errno_t e)
{
    struct http_req *r = h->cur;
    char why[128];
    size_t i;

    if (!h->status) {
        h->status = e == HPE_INVALID_VERSION ? 505 : e == HPE_INVALID_METHOD ? 501 : 400;
        h->why = error_text(e, llhttp_get_error_reason(&h->p));
    }
    snprintf(why, sizeof why, "%s", h->why && h->why[0] ? h->why : "the request does not parse");
    for (i = 0; why[i]; i++)
        if (why[i] == '"' || why[i] == '\\' || (unsigned char)why[i] < 32)
            why[i] = '\'';
    h->broken = true;
    if (!r) {
        cb_begin(&h->p);
        r = h->cur;
    }
    h->cur = NULL;
    if (!r->version)
        r->version = 11;
    conn_deadline(h->c, 5000);
    req_refuse(r, h->status, why);
}

static bool must_wait(struct http1 *h)
{
    return h->waiting_upgrade || h->close_after || h->queue_n >= h->hl->s->conf.pipeline_max ||
           conn_full(h->c);
}

/* Parses; what cannot be parsed now is put into rest. */
static void parse(struct http1 *h, struct slice data)
{
    llhttp_errno_t e = llhttp_execute(&h->p, (const char *)data.ptr, data.len);
    bool upgraded = h->c->proto != &http1_proto;
    const char *pos;
    size_t left = 0;

    if (h->dead && !upgraded)
        return;
    if (e == HPE_PAUSED || e == HPE_PAUSED_UPGRADE) {
        pos = llhttp_get_error_pos(&h->p);
        left = data.len - (size_t)(pos - (const char *)data.ptr);
        if (upgraded) { /* inside the callback: the rest is the new protocol's */
            if (left)
                h->c->proto->on_data(h->c, slice_of(pos, left));
            return;
        }
        if (e == HPE_PAUSED)
            llhttp_resume(&h->p);
        else
            llhttp_resume_after_upgrade(&h->p);
        if (left && buf_append(&h->rest, pos, left))
            conn_close(h->c, false);
        if (!h->dead && must_wait(h))
            conn_pause(h->c, true);
        else if (!h->dead && left)
            resume_later(h);
        return;
    }
    if (e != HPE_OK && !upgraded)
        refuse(h, e);
}

static void feed(struct http1 *h, struct slice data)
{
    h->busy++;
    if (h->broken) {
        /* nothing more is wanted from this peer */
    } else if (h->rest.len || must_wait(h)) {
        if (buf_append_slice(&h->rest, data))
            conn_close(h->c, false);
        else if (must_wait(h))
            conn_pause(h->c, true);
    } else {
        parse(h, data);
    }
    if (--h->busy == 0 && h->dead)
        state_free(h);
}

void http1_resume(struct list_node *n)
{
    struct http1 *h = list_entry(n, struct http1, resume);
    struct buf rest = h->rest;

    h->resume_due = false;
    if (h->broken || must_wait(h))
        return;
    conn_pause(h->c, false);
    if (!rest.len)
        return;
    buf_init(&h->rest, rest.max);
    feed(h, buf_slice(&rest));
    buf_fini(&rest);
}

static bool starts_http2(struct slice d)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    size_t n = d.len < 24 ? d.len : 24;

    return n >= 14 && memcmp(d.ptr, preface, n) == 0;
}

static void on_data(struct conn *c, struct slice data)
{
    struct http1 *h = of(c);

    if (h->hl && h->p.data && list_empty(&h->queue) && !h->cur && starts_http2(data) &&
        h->p.http_major == 0) {
        struct http_loop *hl = h->hl;

        if (h->resume_due)
            list_remove(&h->resume);
        state_free(h);
        http2_open(hl, c, data);
        return;
    }
    feed(h, data);
}

static void on_drain(struct conn *c)
{
    struct http1 *h = of(c);
    struct http_req *r;

    h->busy++;
    if (!list_empty(&h->queue)) {
        r = list_entry(h->queue.node.next, struct http_req, link);
        if (r->was_full && r->on_drain && !r->ended) {
            r->was_full = false;
            r->on_drain(r);
        }
    }
    if (!h->dead && (c->paused || h->rest.len))
        resume_later(h);
    if (--h->busy == 0 && h->dead)
        state_free(h);
}

static void on_timeout(struct conn *c)
{
    struct http1 *h = of(c);
    uint64_t ms = loop_now_ms(h->hl->loop) - h->body_since_ms;

    if (!h->cur) { /* idle, or the handler takes its time */
        if (list_empty(&h->queue))
            conn_close(c, false);
        return;
    }
    if (h->cur->hdr_n && h->body_since_ms &&
        h->body_seen * 1000 >= (uint64_t)h->hl->s->conf.body_rate_min * ms) {
        conn_deadline(c, 10000); /* slow, but coming */
        return;
    }
    h->busy++;
    fail(h, 408, "the request came too slowly");
    refuse(h, HPE_USER);
    if (--h->busy == 0 && h->dead)
        state_free(h);
}

static void on_close(struct conn *c)
{
    struct http1 *h = of(c);

    h->dead = true;
    if (h->resume_due)
        list_remove(&h->resume);
    h->resume_due = false;
    h->busy++;
    while (!list_empty(&h->queue)) {
        struct http_req *r = list_entry(list_pop_front(&h->queue), struct http_req, link);

        req_gone(r);
    }
    if (--h->busy == 0)
        state_free(h);
}

const struct conn_proto http1_proto = {on_data, on_drain, on_timeout, on_close};

void http1_open(struct http_loop *hl, struct conn *c)
{
    struct http1 *h = xcalloc(1, sizeof *h);

    llhttp_init(&h->p, HTTP_REQUEST, &settings);
    h->p.data = h;
    h->hl = hl;
    h->c = c;
    list_init(&h->queue);
    buf_init(&h->rest, 1u << 20);
    c->proto = &http1_proto;
    c->state = h;
    conn_deadline(c, hl->s->conf.idle_ms);
}

void http1_drain(struct conn *c)
{
    struct http1 *h = of(c);

    h->close_after = true;
    if (list_empty(&h->queue))
        conn_close(c, true);
}

bool http1_detach(struct http_req *req, struct buf *rest)
{
    struct http1 *h = req->proto;

    if (req->ops != &ops || !is_first(req) || h->dead)
        return false;
    *rest = h->rest;
    buf_init(&h->rest, 1);
    if (h->resume_due)
        list_remove(&h->resume);
    h->resume_due = false;
    list_remove(&req->link);
    req_free(req);
    h->dead = true;
    conn_pause(h->c, false);
    conn_deadline(h->c, 0);
    if (h->busy == 0)
        state_free(h);
    return true;
}
