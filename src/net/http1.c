/* HTTP/1.0 and 1.1 on a connection, parsed by llhttp (strict: nothing lenient is switched on).
 *
 * Requests queue in order of arrival; only the first may put bytes into the connection's output,
 * the others collect theirs in req->out until it is their turn.
 *
 * Input goes to llhttp in two ways. A head is looked at line by line first (head_span), as llhttp
 * lets pass what intermediaries read in different ways: lone CR or LF, folded lines, control
 * characters. A body goes as it comes. The parser pauses after each request, so the two never mix.
 *
 * Parsing stops (must_wait) when pipeline_max requests or their bodies wait, when output is full,
 * and after a request to upgrade until it is answered; what was read but not parsed is kept in
 * `rest`, and reading pauses. It goes on in the turn after the reason has ended. */
/* llhttp's names for methods are ours, too: its own get another prefix. */
#define HTTP_GET     LLHTTP_GET
#define HTTP_HEAD    LLHTTP_HEAD
#define HTTP_POST    LLHTTP_POST
#define HTTP_PUT     LLHTTP_PUT
#define HTTP_PATCH   LLHTTP_PATCH
#define HTTP_DELETE  LLHTTP_DELETE
#define HTTP_OPTIONS LLHTTP_OPTIONS
#include <llhttp.h>
#undef HTTP_GET
#undef HTTP_HEAD
#undef HTTP_POST
#undef HTTP_PUT
#undef HTTP_PATCH
#undef HTTP_DELETE
#undef HTTP_OPTIONS

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "net/http_int.h"

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"; /* RFC 9113 section 3.4 */
#define PREFACE_LEN (sizeof preface - 1)

struct http1 {
    struct list_node grave;
    llhttp_t p;
    struct http_loop *hl;
    struct conn *c;
    struct list_head queue; /* unanswered requests; the last may still be coming in */
    unsigned queue_n;
    struct http_req *cur; /* being parsed */
    struct buf rest;
    size_t held;   /* bytes of answers that wait for their turn */
    size_t bodies; /* bytes of bodies of requests given to the handler */
    int status;    /* why parsing stops, to be answered */
    const char *why;
    size_t line_len;        /* of the head's line that is coming in */
    uint32_t lines;         /* of the head, complete */
    bool line_cr;           /* its last byte is a CR */
    bool fresh;             /* nothing was parsed yet: it may become HTTP/2 */
    bool in_name, in_value; /* what the last header callback was */
    bool in_body;           /* which includes the trailer */
    bool in_trailer;
    bool whole;       /* the bytes that llhttp has now end the head or trailer */
    bool broken;      /* nothing more is wanted from the peer */
    bool close_after; /* no request is taken behind the last one */
    bool waiting_upgrade, eof, detached;
    enum conn_why why_end; /* of a connection ended after an answer */
    size_t raw, body_seen; /* bytes of the body, with and without chunk framing */
    uint64_t rate_ms;      /* since when the rate is measured */
    size_t rate_seen;      /* body_seen then */
};

static const struct req_ops ops;
static void advance(struct http1 *h);

static struct http1 *of(struct conn *c)
{
    ASSERT(c->proto == &http1_proto);
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

/* ---- parser callbacks ---- */

static void begin(struct http1 *h)
{
    struct http_req *r = req_new(h->hl, h->c);

    r->proto = h;
    r->ops = &ops;
    r->method = HTTP_OTHER;
    h->cur = r;
    h->in_name = h->in_value = false;
    list_push_back(&h->queue, &r->link);
    h->queue_n++;
    conn_deadline(h->c, h->hl->s->conf.head_ms);
}

static int cb_begin(llhttp_t *p)
{
    begin(p->data);
    return 0;
}

static int cb_url(llhttp_t *p, const char *at, size_t n)
{
    struct http1 *h = p->data;
    int s = req_target_add(h->cur, slice_of(at, n));

    return s ? fail(h, s, "the request target is too long") : 0;
}

static int header_add(struct http1 *h, bool name, bool fresh, const char *at, size_t n)
{
    int s;

    if (h->in_body) /* a trailer */
        return 0;
    s = req_header_add(h->cur, name, fresh, slice_of(at, n));
    return s ? fail(h, s, "too many or too long headers") : 0;
}

static int cb_field(llhttp_t *p, const char *at, size_t n)
{
    struct http1 *h = p->data;
    bool fresh = !h->in_name;

    h->in_name = true;
    h->in_value = false;
    return header_add(h, true, fresh, at, n);
}

static int cb_value(llhttp_t *p, const char *at, size_t n)
{
    struct http1 *h = p->data;
    bool fresh = !h->in_value;

    h->in_value = true;
    h->in_name = false;
    return header_add(h, false, fresh, at, n);
}

/* An empty value has no value callback: the pair is completed here. */
static int cb_value_done(llhttp_t *p)
{
    struct http1 *h = p->data;
    int e = 0;

    if (!h->in_body && h->cur->hs_n % 2)
        e = header_add(h, false, true, "", 0);
    h->in_name = h->in_value = false;
    return e;
}

static bool is(struct slice s, const char *text)
{
    return s.len == strlen(text) && strncasecmp((const char *)s.ptr, text, s.len) == 0;
}

/* What decides about the framing and the place of the message, and may be there once. */
struct framing {
    unsigned hosts, lengths, encodings;
    bool chunked, expect, expect_other;
};

static struct framing framing_of(const struct http_req *r)
{
    struct framing f = {0};
    uint32_t i;

    for (i = 0; i < r->hdr_n; i++) {
        struct slice n = r->hdr[i].name, v = r->hdr[i].value;

        if (n.len == 4 && is(n, "host")) {
            f.hosts++;
        } else if (n.len == 14 && is(n, "content-length")) {
            f.lengths++;
        } else if (n.len == 17 && is(n, "transfer-encoding")) {
            f.encodings++;
            f.chunked = is(v, "chunked");
        } else if (n.len == 6 && is(n, "expect")) {
            f.expect = is(v, "100-continue");
            f.expect_other = !f.expect;
        }
    }
    return f;
}

static int check_head(struct http1 *h, struct http_req *r)
{
    struct framing f = framing_of(r);

    if (f.hosts > 1 || (f.hosts == 0 && r->version == 11))
        return fail(h, 400, "exactly one Host header is needed");
    if (f.lengths > 1 || (f.lengths && f.encodings))
        return fail(h, 400, "one Content-Length or one Transfer-Encoding, not both");
    if (f.encodings && r->version == 10)
        return fail(h, 400, "HTTP/1.0 has no Transfer-Encoding");
    if (f.encodings && (f.encodings > 1 || !f.chunked))
        return fail(h, 501, "the only Transfer-Encoding known here is chunked");
    if (r->method == HTTP_OTHER)
        return fail(h, 501, "this method is not known here");
    if (f.expect_other)
        return fail(h, 417, "the only expectation known here is 100-continue");
    if (f.lengths && h->p.content_length > h->hl->s->conf.body_max)
        return fail(h, 413, "the body is larger than the limit");
    r->has_body = f.encodings || (f.lengths && h->p.content_length > 0);
    r->expect = f.expect && r->has_body && r->version == 11;
    return 0;
}

static void body_begin(struct http1 *h, struct http_req *r)
{
    h->in_body = true;
    h->raw = h->body_seen = h->rate_seen = 0;
    h->rate_ms = loop_now_ms(h->hl->loop);
    conn_deadline(h->c, HTTP_RATE_MS);
    if (r->expect && list_is_first(&h->queue, &r->link)) {
        conn_send(h->c, SLICE_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
        r->expect = false;
    }
}

static int cb_head_done(llhttp_t *p)
{
    struct http1 *h = p->data;
    struct http_req *r = h->cur;
    int s;

    if (!h->whole)
        return fail(h, 400, "the head does not end with an empty line");
    r->version = p->http_major * 10 + p->http_minor;
    if (r->version != 10 && r->version != 11)
        return fail(h, 505, "HTTP/1.0, 1.1 and 2 are spoken here");
    r->method = req_method_of(slice_str(llhttp_method_name((llhttp_method_t)p->method)));
    r->head_only = r->method == HTTP_HEAD;
    r->upgrade = p->upgrade;
    r->keep_alive = llhttp_should_keep_alive(p);
    if ((s = req_head_done(r)))
        return fail(h, s, "the request target does not decode");
    if ((s = check_head(h, r)))
        return s;
    if (!req_head_ask(r) && r->has_body) {
        h->broken = true; /* the body may or may not come: nothing behind it can be told apart */
        return HPE_USER;
    }
    if (r->has_body)
        body_begin(h, r);
    return 0;
}

static int cb_body(llhttp_t *p, const char *at, size_t n)
{
    struct http1 *h = p->data;
    int s = req_body_add(h->cur, slice_of(at, n));

    h->body_seen += n;
    if (s == 503)
        return fail(h, s, "the server holds too much already; try again");
    return s ? fail(h, s, "the body is larger than the limit") : 0;
}

/* Pauses behind the last chunk: the trailer's lines are looked at first. */
static int cb_chunk(llhttp_t *p)
{
    struct http1 *h = p->data;

    if (p->content_length)
        return 0;
    h->in_trailer = true;
    return HPE_PAUSED;
}

/* Always pauses: what is behind the request is looked at first. */
static int cb_done(llhttp_t *p)
{
    struct http1 *h = p->data;
    struct http_req *r = h->cur;

    if (h->in_trailer && !h->whole)
        return fail(h, 400, "the trailer does not end with an empty line");
    h->cur = NULL;
    h->in_body = h->in_trailer = false;
    conn_deadline(h->c, h->eof ? NET_HALF_CLOSED_MS : 0);
    if (!r->keep_alive || h->hl->draining)
        h->close_after = true;
    if (r->refused) { /* by on_head */
        if (list_is_first(&h->queue, &r->link))
            advance(h);
        return HPE_PAUSED;
    }
    h->waiting_upgrade = r->upgrade;
    h->bodies += r->body.len;
    req_dispatch(r);
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_message_begin = cb_begin,
    .on_url = cb_url,
    .on_header_field = cb_field,
    .on_header_value = cb_value,
    .on_header_value_complete = cb_value_done,
    .on_headers_complete = cb_head_done,
    .on_chunk_header = cb_chunk,
    .on_body = cb_body,
    .on_message_complete = cb_done,
};

/* ---- sending ---- */

static bool is_first(const struct http_req *r)
{
    const struct http1 *h = r->proto;

    return list_is_first(&h->queue, &r->link);
}

/* May n more bytes wait in a request's own output? */
static bool may_hold(struct http_req *r, size_t n)
{
    struct http1 *h = r->proto;
    size_t have = conn_queued(h->c) + h->held, max = conn_hard_max(h->c);

    if (conn_closing(h->c))
        return false;
    if (n <= max && have <= max - n)
        return true;
    conn_close(h->c, false, CONN_LIMIT);
    return false;
}

/* Room in the connection's output, or in the request's own until its turn. */
static uint8_t *out_room(struct http_req *r, size_t n)
{
    if (is_first(r))
        return conn_out(r->c, n);
    return may_hold(r, n) ? outq_room(&r->out, &r->c->cl->pool, n) : NULL;
}

static void out_done(struct http_req *r, size_t n)
{
    struct http1 *h = r->proto;

    if (is_first(r)) {
        conn_out_done(r->c, n);
        return;
    }
    outq_done(&r->out, n);
    h->held += n;
}

static uint8_t *put(uint8_t *p, const void *s, size_t n)
{
    memcpy(p, s, n);
    return p + n;
}

/* Nobody's header ends the line that it is in. */
static uint8_t *put_text(uint8_t *p, struct slice s)
{
    size_t i;

    for (i = 0; i < s.len; i++)
        p[i] = s.ptr[i] >= 32 || s.ptr[i] == '\t' ? s.ptr[i] : ' ';
    return p + s.len;
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

static uint8_t *put_status(uint8_t *p, const struct http_req *r, int status, const char *reason)
{
    p = put(p, r->version == 10 ? "HTTP/1.0 " : "HTTP/1.1 ", 9);
    p = put_number(p, (uint64_t)status);
    *p++ = ' ';
    p = put(p, reason, strlen(reason));
    return put(p, "\r\n", 2);
}

static void h1_head(struct http_req *r, int status, const struct http_hdr *hd, unsigned n,
                    int64_t body_len)
{
    struct http1 *h = r->proto;
    const char *reason = http_reason(status), *date = http_date(h->hl);
    bool no_body = status == 204 || status == 304 || status < 200;
    size_t need = 192 + strlen(reason) + strlen(date);
    uint8_t *start, *p;
    unsigned i;

    r->chunked = body_len < 0 && r->version == 11 && !no_body;
    if ((body_len < 0 && !r->chunked && !no_body) || (r->in_head && r->has_body) ||
        (h->hl->draining && h->queue.node.prev == &r->link)) /* the last that is taken */
        r->keep_alive = false;
    for (i = 0; i < n; i++)
        need += hd[i].name.len + hd[i].value.len + 4;
    start = p = out_room(r, need);
    if (!p)
        return;
    p = put_status(p, r, status, reason);
    p = put(p, date, strlen(date));
    for (i = 0; i < n; i++) {
        p = put_text(p, hd[i].name);
        p = put(p, ": ", 2);
        p = put_text(p, hd[i].value);
        p = put(p, "\r\n", 2);
    }
    if (r->chunked)
        p = put(p, "transfer-encoding: chunked\r\n", 28);
    else if (body_len >= 0 && !no_body)
        p = put(put_number(put(p, "content-length: ", 16), (uint64_t)body_len), "\r\n", 2);
    if (!r->keep_alive && status != 101)
        p = put(p, "connection: close\r\n", 19);
    else if (r->version == 10 && r->keep_alive)
        p = put(p, "connection: keep-alive\r\n", 24);
    p = put(p, "\r\n", 2);
    out_done(r, (size_t)(p - start));
}

static void h1_data(struct http_req *r, struct slice data)
{
    uint8_t *start = out_room(r, data.len + 32), *p = start;

    if (!p)
        return;
    if (r->chunked)
        p += snprintf((char *)p, 24, "%zx\r\n", data.len);
    p = put(p, data.ptr, data.len);
    if (r->chunked)
        p = put(p, "\r\n", 2);
    out_done(r, (size_t)(p - start));
}

static void h1_lend(struct http_req *r, struct slice data, void (*release)(void *arg), void *arg)
{
    struct http1 *h = r->proto;

    ASSERT(!r->chunked);
    if (is_first(r)) {
        conn_send_lent(r->c, data, release, arg);
    } else if (may_hold(r, data.len)) {
        outq_lend(&r->out, &r->c->cl->pool, data, release, arg);
        h->held += data.len;
    } else {
        release(arg);
    }
}

static bool must_wait(const struct http1 *h)
{
    return h->waiting_upgrade || h->close_after || h->queue_n >= h->hl->s->conf.pipeline_max ||
           h->bodies >= h->hl->s->conf.body_max || conn_full(h->c) || h->held >= h->c->output_max;
}

static void pop(struct http1 *h, struct http_req *r)
{
    list_remove(&r->link);
    h->queue_n--;
    if (r->dispatched)
        h->bodies -= r->body.len;
    if (r->upgrade)
        h->waiting_upgrade = false;
    req_free(r);
}

/* All that was asked is answered. */
static void quiet(struct http1 *h)
{
    if (h->eof && !h->rest.len)
        conn_close(h->c, true, CONN_PEER);
    else if (h->close_after)
        conn_close(h->c, true, CONN_LOCAL);
    else
        conn_deadline(h->c, h->hl->s->conf.idle_ms);
}

/* The first request changed: it and the next ones may send what they have. */
static void advance(struct http1 *h)
{
    while (!list_empty(&h->queue)) {
        struct http_req *r = list_entry(h->queue.node.next, struct http_req, link);

        if (r->out.bytes) {
            h->held -= r->out.bytes;
            conn_send_queue(h->c, &r->out);
        }
        if (!r->ended || r == h->cur) {
            if (r->expect && r == h->cur && h->in_body)
                conn_send(h->c, SLICE_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
            r->expect = false;
            break;
        }
        if (!r->keep_alive) {
            pop(h, r);
            h->broken = true;
            conn_close(h->c, true, h->why_end);
            return;
        }
        pop(h, r);
    }
    if (list_empty(&h->queue))
        quiet(h);
    if ((h->c->paused || h->rest.len) && !must_wait(h))
        conn_later(h->c);
}

static void h1_end(struct http_req *r)
{
    struct http1 *h = r->proto;

    if (r->chunked && !r->head_only) {
        uint8_t *p = out_room(r, 5);

        if (p) {
            memcpy(p, "0\r\n\r\n", 5);
            out_done(r, 5);
        }
    }
    if (!r->in_head && is_first(r))
        advance(h);
}

static size_t h1_queued(const struct http_req *r)
{
    return is_first(r) ? conn_queued(r->c) : r->out.bytes;
}

static void h1_abort(struct http_req *r)
{
    conn_close(r->c, true, CONN_LOCAL);
}

static const struct req_ops ops = {h1_head, h1_data, h1_lend, h1_end, h1_queued, h1_abort};

/* ---- input ---- */

static int error_status(const llhttp_t *p, llhttp_errno_t e)
{
    const char *at = llhttp_get_error_pos(p);

    if (e == HPE_INVALID_VERSION)
        return 505;
    /* A word, but none that is known; or no word at all. */
    return e == HPE_INVALID_METHOD && at && *at >= 'A' && *at <= 'z' ? 501 : 400;
}

/* Parsing failed: answer with the status after all earlier answers, then close. */
static void refuse(struct http1 *h, llhttp_errno_t e)
{
    const char *reason = llhttp_get_error_reason(&h->p);
    struct http_req *r;
    char why[128];
    size_t i;

    if (h->broken) { /* it was answered by on_head */
        h->cur = NULL;
        advance(h);
        return;
    }
    if (!h->status)
        fail(h, error_status(&h->p, e),
             reason && reason[0] ? reason : "the request does not parse");
    snprintf(why, sizeof why, "%s", h->why);
    for (i = 0; why[i]; i++)
        if (why[i] == '"' || why[i] == '\\' || (unsigned char)why[i] < 32)
            why[i] = '\'';
    h->broken = true;
    if (!h->cur)
        begin(h);
    r = h->cur;
    h->cur = NULL;
    r->version = r->version == 10 ? 10 : 11;
    r->keep_alive = r->head_only = false;
    conn_deadline(h->c, 0);
    req_refuse(r, h->status, why);
}

/* How many of the bytes belong to the head or trailer that is coming in, looking at them as lines;
 * h->whole: it ends there. -1: a line that is none. */
static long lines_span(struct http1 *h, struct slice d)
{
    size_t at = 0;

    h->whole = false;
    while (at < d.len) {
        const uint8_t *p = d.ptr + at, *nl = memchr(p, '\n', d.len - at);
        size_t n = nl ? (size_t)(nl - p) : d.len - at;
        const uint8_t *cr = n ? memchr(p, '\r', n) : NULL;
        bool ends_cr = n ? cr != NULL : h->line_cr;

        if ((n && h->line_cr) || (cr && cr != p + n - 1) || (nl && !ends_cr) ||
            (n && memchr(p, 0, n)) ||
            (n && h->line_len == 0 && (*p == ' ' || *p == '\t' || *p == ':')))
            return -1;
        h->line_len += n;
        h->line_cr = ends_cr;
        if (!nl)
            break;
        at += n + 1;
        n = h->line_len - 1;
        h->line_len = 0;
        h->line_cr = false;
        if (n) {
            h->lines++;
        } else if (h->lines || h->in_trailer) {
            h->lines = 0; /* empty lines before a request are let pass (RFC 9112 section 2.2) */
            h->whole = true;
            return (long)at;
        }
    }
    return (long)d.len;
}

/* The parser has paused behind a request. After one that asks for an upgrade it would pause again.
 */
static void next_message(struct http1 *h)
{
    llhttp_resume(&h->p);
    if (!h->in_body && h->p.upgrade && llhttp_execute(&h->p, "", 0) == HPE_PAUSED_UPGRADE)
        llhttp_resume_after_upgrade(&h->p);
}

/* Gives llhttp what it is due; how many bytes it took. False: the request is refused. */
static bool execute(struct http1 *h, struct slice d, size_t *used)
{
    bool body = h->in_body, lines = !body || h->in_trailer;
    long n = lines ? lines_span(h, d) : (long)d.len;
    llhttp_errno_t e;

    if (n < 0) {
        fail(h, 400, "a line does not end with CRLF, is folded, has no name or has a NUL");
        refuse(h, HPE_USER);
        return false;
    }
    e = llhttp_execute(&h->p, (const char *)d.ptr, (size_t)n);
    *used = (size_t)n;
    if (e == HPE_PAUSED) {
        *used = (size_t)(llhttp_get_error_pos(&h->p) - (const char *)d.ptr);
        next_message(h);
    }
    /* The end, or not, as the lines say it: no two opinions. */
    if ((e != HPE_OK && e != HPE_PAUSED) || (lines && *used != (size_t)n) ||
        (lines && h->whole && e == HPE_OK && (!h->in_body || h->in_trailer))) {
        refuse(h, e);
        return false;
    }
    if (body && h->in_body) {
        h->raw += *used;
        if (h->raw - h->body_seen > HTTP_CHUNK_SLACK + 16 * h->body_seen) {
            fail(h, 400, "chunks of next to nothing");
            refuse(h, HPE_USER);
            return false;
        }
    }
    return true;
}

/* Parses; what cannot be parsed now is put into rest (which is empty). */
static void parse(struct http1 *h, struct slice data)
{
    size_t used;

    while (data.len && !h->broken && !conn_closing(h->c) && !must_wait(h)) {
        if (!execute(h, data, &used))
            return;
        data.ptr += used;
        data.len -= used;
        if (h->detached) {
            ws_rest_add(h->c, data);
            return;
        }
    }
    if (h->broken || conn_closing(h->c))
        return;
    if (data.len && buf_append_slice(&h->rest, data)) {
        conn_close(h->c, false, CONN_LIMIT);
        return;
    }
    if (must_wait(h))
        conn_pause(h->c, true);
}

static void state_free(struct http1 *h)
{
    buf_fini(&h->rest);
    free(h);
}

void http1_bury(struct list_node *grave)
{
    state_free(list_entry(grave, struct http1, grave));
}

/* The first bytes of a connection: do they begin HTTP/2? True: they were taken, or wait in rest. */
static bool first_bytes(struct http1 *h, struct slice data)
{
    struct http_loop *hl = h->hl;
    struct conn *c = h->c;
    struct buf all = h->rest;
    size_t n;

    if (buf_append_slice(&all, data)) {
        h->rest = all;
        return false;
    }
    n = all.len < PREFACE_LEN ? all.len : PREFACE_LEN;
    if (memcmp(all.ptr, preface, n) == 0 && n < PREFACE_LEN) {
        if (!h->rest.len)
            conn_deadline(c, hl->s->conf.head_ms);
        h->rest = all;
        return true;
    }
    buf_init(&h->rest, all.max);
    h->fresh = false;
    if (n == PREFACE_LEN && memcmp(all.ptr, preface, n) == 0) {
        state_free(h);
        http2_open(hl, c, buf_slice(&all));
    } else {
        parse(h, buf_slice(&all));
    }
    buf_fini(&all);
    return true;
}

static void resume(struct http1 *h)
{
    struct buf rest = h->rest;

    if (h->broken || must_wait(h))
        return;
    conn_pause(h->c, false);
    if (rest.len && !h->fresh) {
        buf_init(&h->rest, rest.max);
        parse(h, buf_slice(&rest));
        buf_fini(&rest);
    }
    if (!h->detached && h->eof && !h->rest.len && list_empty(&h->queue))
        quiet(h);
}

static void on_data(struct conn *c, struct slice data)
{
    struct http1 *h = of(c);

    if (h->broken)
        return;
    if (!data.len) {
        resume(h);
        return;
    }
    if (h->fresh && (data.ptr[0] == 'P' || h->rest.len)) {
        if (!first_bytes(h, data))
            conn_close(c, false, CONN_LIMIT);
        return;
    }
    h->fresh = false;
    if (!h->rest.len)
        parse(h, data);
    else if (buf_append_slice(&h->rest, data))
        conn_close(c, false, CONN_LIMIT);
}

/* What was asked is answered; a request that has not come whole will not. */
static void on_eof(struct conn *c)
{
    struct http1 *h = of(c);
    struct http_req *r = h->cur;

    h->eof = true;
    if (r && !h->rest.len) {
        h->cur = NULL;
        h->broken = true;
        pop(h, r);
    }
    if (list_empty(&h->queue) && (!h->rest.len || h->fresh)) {
        conn_close(c, true, CONN_PEER);
        return;
    }
    conn_deadline(c, NET_HALF_CLOSED_MS);
}

static void on_drain(struct conn *c)
{
    struct http1 *h = of(c);

    if (!list_empty(&h->queue))
        req_drained(list_entry(h->queue.node.next, struct http_req, link));
    if ((c->paused || h->rest.len) && !must_wait(h))
        conn_later(c);
}

static void on_timeout(struct conn *c)
{
    struct http1 *h = of(c);
    const struct http_server_conf *conf = &h->hl->s->conf;
    uint64_t now = loop_now_ms(h->hl->loop);

    if (h->eof) {
        conn_close(c, false, CONN_PEER);
        return;
    }
    if (!h->cur) { /* idle; or the handler takes its time, then there is no deadline */
        if (!list_empty(&h->queue) || conn_queued(c)) /* slow readers have their own deadline */
            conn_deadline(c, conf->idle_ms);
        else
            conn_close(c, false, CONN_TIMEOUT);
        return;
    }
    if (c->paused) { /* it is this side that makes it wait */
        h->rate_ms = now;
        h->rate_seen = h->body_seen;
        conn_deadline(c, h->in_body ? HTTP_RATE_MS : conf->head_ms);
        return;
    }
    if (h->in_body && (h->body_seen - h->rate_seen) * 1000 >=
                          (uint64_t)conf->body_rate_min * (now - h->rate_ms)) {
        h->rate_ms = now;
        h->rate_seen = h->body_seen;
        conn_deadline(c, HTTP_RATE_MS);
        return;
    }
    h->why_end = CONN_TIMEOUT;
    fail(h, 408, "the request came too slowly");
    refuse(h, HPE_USER);
}

static void on_close(struct conn *c)
{
    struct http1 *h = c->state;

    h->cur = NULL;
    while (!list_empty(&h->queue))
        req_gone(list_entry(list_pop_front(&h->queue), struct http_req, link));
    state_free(h);
}

const struct conn_proto http1_proto = {.on_data = on_data,
                                       .on_eof = on_eof,
                                       .on_drain = on_drain,
                                       .on_timeout = on_timeout,
                                       .on_close = on_close};

void http1_open(struct http_loop *hl, struct conn *c)
{
    struct http1 *h = xcalloc(1, sizeof *h);

    llhttp_init(&h->p, HTTP_REQUEST, &settings);
    h->p.data = h;
    h->hl = hl;
    h->c = c;
    h->fresh = true;
    h->why_end = CONN_LOCAL;
    list_init(&h->queue);
    buf_init(&h->rest, HTTP_REST_BYTES);
    c->proto = &http1_proto;
    c->state = h;
    conn_deadline(c, hl->s->conf.idle_ms);
}

void http1_drain(struct conn *c)
{
    struct http1 *h = of(c);

    if (list_empty(&h->queue)) {
        conn_close(c, true, CONN_LOCAL);
        return;
    }
    if (!h->cur) /* a request that is coming in is still answered */
        h->close_after = true;
}

bool http1_may_detach(const struct http_req *req)
{
    const struct http1 *h = req->proto;

    return req->ops == &ops && is_first(req) && h->queue_n == 1 && !conn_closing(req->c);
}

void http1_detach(struct http_req *req, struct buf *rest)
{
    struct http1 *h = req->proto;

    ASSERT(http1_may_detach(req));
    *rest = h->rest;
    buf_init(&h->rest, 1);
    list_remove(&req->link);
    req_free(req);
    ASSERT(list_empty(&h->queue));
    h->detached = true;
    conn_pause(h->c, false);
    conn_deadline(h->c, 0);
    list_push_back(&h->hl->graves, &h->grave);
}
