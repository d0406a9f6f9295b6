/* Requests to $JS.API.>: which stream they are for, where they are handled, answers, errors.
 *
 * A request comes on its account's loop, as messages do, and is copied, as it cannot be answered
 * while the receivers of its message are walked. One about a stream is posted to the stream's loop,
 * where it waits while the stream is loaded; so requests about one stream keep their order. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "io/io.h"
#include "proto/nats/js_header.h"
#include "proto/nats/js_implicit.h"
#include "proto/nats/js_stream.h"

#define API       "$JS.API."
#define EVENT     "$JS.EVENT."
#define TYPE_ROOM 128u

/* ---- answers ---- */

uint32_t js_send(struct nloop *l, struct naccount *a, struct slice to, struct slice subject,
                 struct slice reply, struct slice headers, struct slice payload)
{
    struct buf *b = &js_loop(l->n->js, l)->scratch;
    struct nmsg m = {.subject = subject, .reply = reply, .to = to, .header_len = headers.len};

    if (slice_eq(to, subject))
        m.to = SLICE_NULL;
    if (!headers.len) {
        m.body = payload;
    } else if (headers.ptr + headers.len == payload.ptr) {
        m.body = slice_of(headers.ptr, headers.len + payload.len);
    } else {
        buf_clear(b);
        buf_append_slice(b, headers);
        buf_append_slice(b, payload);
        m.body = buf_slice(b);
    }
    return nats_route(l, a, &m);
}

uint32_t js_send_status(struct nloop *l, struct naccount *a, struct slice to, const char *status,
                        const char *more)
{
    char text[512];
    int n = snprintf(text, sizeof text, "%s\r\n%s\r\n", status, more ? more : "");

    ASSERT(n > 0 && (size_t)n < sizeof text);
    return js_send(l, a, to, to, SLICE_NULL, slice_of(text, (size_t)n), SLICE_NULL);
}

void jreq_free(struct jreq *r)
{
    if (r->stream)
        jstream_unref(r->stream);
    json_decref(r->json);
    json_decref(r->gathered);
    free(r);
}

static void answer(struct jreq *r, const char *type, json_t *o)
{
    char text[TYPE_ROOM];
    json_t *root = json_object();
    char *out;

    snprintf(text, sizeof text, "io.nats.jetstream.api.v1.%s_response", type);
    json_object_set_new(root, "type", json_string(text));
    if (o)
        json_object_update(root, o);
    json_decref(o);
    out = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (out && r->reply.len)
        js_send(r->l, r->account, r->reply, r->reply, SLICE_NULL, SLICE_NULL, slice_str(out));
    free(out);
}

void js_answer(struct jreq *r, const char *type, json_t *o)
{
    answer(r, type, o);
    jreq_free(r);
}

void js_nobody(struct jreq *r)
{
    if (r->reply.len)
        js_send_status(r->l, r->account, r->reply, NHEADER_LINE " 503", NULL);
    jreq_free(r);
}

json_t *js_text(struct slice s)
{
    json_t *o = json_stringn((const char *)s.ptr, s.len);
    struct buf b;

    if (o)
        return o;
    buf_init(&b, SIZE_MAX);
    json_write_string(&b, s);
    o = json_loadb((const char *)b.ptr, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    buf_fini(&b);
    return o;
}

json_t *js_error_json(const struct js_fault *f)
{
    return json_pack("{s:i, s:i, s:o}", "code", js_error_code(f->e), "err_code", (int)f->e,
                     "description", js_text(slice_str(f->text)));
}

void js_fault(struct jreq *r, const char *type, const struct js_fault *f)
{
    atomic_fetch_add_explicit(&r->ja->errors, 1, memory_order_relaxed);
    answer(r, type, json_pack("{s:o}", "error", js_error_json(f)));
    jreq_free(r);
}

void js_fail(struct jreq *r, const char *type, enum js_error e, const char *fmt, ...)
{
    struct js_fault f;
    char text[sizeof f.text];
    va_list ap;

    if (!fmt) {
        js_fault_set(&f, e, NULL);
    } else {
        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        js_fault_set(&f, e, "%s", text);
    }
    js_fault(r, type, &f);
}

/* ---- events ---- */

struct jevent {
    struct jlater later;
    struct jstream *s;
    char *text;
    size_t subject_len;
    char subject[];
};

static void event_send(struct jlater *j)
{
    struct jevent *v = list_entry(j, struct jevent, later);
    struct slice subject = slice_of(v->subject, v->subject_len);

    if (v->text)
        js_send(v->s->l, v->s->account, subject, subject, SLICE_NULL, SLICE_NULL,
                slice_str(v->text));
    jstream_unref(v->s);
    free(v->text);
    free(v);
}

void js_id_make(struct js *js, char out[JS_ID_LEN + 1])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint8_t random[JS_ID_LEN];
    unsigned i;

    io_random(js->n->conf.io, random, sizeof random);
    for (i = 0; i < JS_ID_LEN; i++)
        out[i] = digits[random[i] % (sizeof digits - 1)];
    out[JS_ID_LEN] = 0;
}

void js_advise(struct jstream *s, const char *subject, const char *type, json_t *o)
{
    size_t n = sizeof EVENT - 1 + strlen(subject);
    struct jevent *v;
    char id[JS_ID_LEN + 1], time[JTIME_TEXT_LEN + 1];
    json_t *root;

    v = xcalloc(1, sizeof *v + n + 1);
    snprintf(v->subject, n + 1, "%s%s", EVENT, subject);
    v->subject_len = n;
    if (!interest_any(&s->account->interest, slice_of(v->subject, n))) {
        free(v);
        json_decref(o);
        return;
    }
    js_id_make(s->js, id);
    jtime_text(js_now_ns(s->js), time);
    root = json_pack("{s:s, s:s, s:s}", "type", type, "id", id, "timestamp", time);
    json_object_update(root, o);
    json_decref(o);
    v->text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    v->s = jstream_ref(s);
    v->later.fn = event_send;
    js_later(js_loop(s->js, s->l), &v->later);
}

/* ---- going to each stream ---- */

struct jvisit {
    struct jstream **v;
    size_t n, at;
    void (*each)(struct jreq *r, struct jstream *s);
    void (*end)(struct jreq *r);
    struct nloop *home;
};

static bool note(void *arg, struct jstream *s)
{
    struct jvisit *w = arg;

    w->v = xrealloc(w->v, (w->n + 1) * sizeof(struct jstream *));
    w->v[w->n++] = jstream_ref(s);
    return true;
}

static void visit_next(struct jreq *r)
{
    struct jvisit *w = r->visit;
    struct jstream *s;

    for (; w->at < w->n; jstream_unref(s), w->at++) {
        s = w->v[w->at];
        if (s->l != r->l) {
            js_post(r, s->l, visit_next);
            return;
        }
        if (s->loading) {
            r->run = visit_next;
            list_push_back(&s->waits, &r->link);
            return;
        }
        if (!s->gone)
            w->each(r, s);
    }
    if (r->l != w->home) {
        js_post(r, w->home, visit_next);
        return;
    }
    r->visit = NULL;
    w->end(r);
    free(w->v);
    free(w);
}

void js_visit(struct jreq *r, void (*each)(struct jreq *r, struct jstream *s),
              void (*end)(struct jreq *r))
{
    struct jvisit *w = r->visit = xcalloc(1, sizeof *w);

    w->each = each;
    w->end = end;
    w->home = r->l;
    js_streams_each(r->js, r->account, note, w);
    visit_next(r);
}

/* ---- dispatch ---- */

struct slice js_token(struct slice subject, unsigned i)
{
    struct slice token = SLICE_NULL;

    do
        if (!subject_token(&subject, &token))
            return SLICE_NULL;
    while (i--);
    return token;
}

/* What there is, by prefix; `stream`: which token names one, 0: none. */
static const struct call {
    const char *prefix, *type;
    unsigned stream;
    void (*run)(struct jreq *r);
    enum { BODY, NO_BODY, ANY_BODY } body; /* NO_BODY: refused; ANY_BODY: not looked at */
} calls[] = {
    {"INFO", "account_info", 0, js_account_info, ANY_BODY},
    {"STREAM.CREATE.", "stream_create", 0, js_stream_create, BODY},
    {"STREAM.NAMES", "stream_names", 0, js_stream_names, BODY},
    {"STREAM.LIST", "stream_list", 0, js_stream_list, BODY},
    {"STREAM.UPDATE.", "stream_update", 2, jstream_request, BODY},
    {"STREAM.INFO.", "stream_info", 2, jstream_request, BODY},
    {"STREAM.DELETE.", "stream_delete", 2, jstream_request, NO_BODY},
    {"STREAM.PURGE.", "stream_purge", 2, jstream_request, BODY},
    {"STREAM.SNAPSHOT.", "stream_snapshot", 2, jstream_request, BODY},
    {"STREAM.RESTORE.", "stream_restore", 0, js_stream_restore_request, BODY},
    {"STREAM.MSG.GET.", "stream_msg_get", 3, jstream_request, BODY},
    {"STREAM.MSG.DELETE.", "stream_msg_delete", 3, jstream_request, BODY},
    {"STREAM.PEER.REMOVE.", "stream_remove_peer", 3, jstream_request, BODY},
    {"STREAM.LEADER.STEPDOWN.", "stream_leader_stepdown", 3, jstream_request, BODY},
    {"DIRECT.GET.", NULL, 2, jstream_request, BODY},
    {"CONSUMER.DURABLE.CREATE.", "consumer_create", 3, jconsumer_request, BODY},
    {"CONSUMER.CREATE.", "consumer_create", 2, jconsumer_request, BODY},
    {"CONSUMER.NAMES.", "consumer_names", 2, jconsumer_request, BODY},
    {"CONSUMER.LIST.", "consumer_list", 2, jconsumer_request, BODY},
    {"CONSUMER.INFO.", "consumer_info", 2, jconsumer_request, NO_BODY},
    {"CONSUMER.DELETE.", "consumer_delete", 2, jconsumer_request, NO_BODY},
    {"CONSUMER.MSG.NEXT.", NULL, 3, jconsumer_request, ANY_BODY}, /* see jpull_body_read */
    {"CONSUMER.PAUSE.", "consumer_pause", 2, jconsumer_request, BODY},
    {"CONSUMER.RESET.", "consumer_reset", 2, jconsumer_request, BODY},
    {"CONSUMER.UNPIN.", "consumer_unpin", 2, jconsumer_request, BODY},
    {"CONSUMER.LEADER.STEPDOWN.", "consumer_leader_stepdown", 3, jconsumer_request, BODY},
};

static const struct call *call_of(struct slice subject)
{
    unsigned i;

    for (i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct slice p = slice_str(calls[i].prefix);

        if (p.ptr[p.len - 1] == '.' ? slice_has_prefix(subject, p) && subject.len > p.len
                                    : slice_eq(subject, p))
            return &calls[i];
    }
    return NULL;
}

static void posted(struct loop_task *t)
{
    struct jreq *r = list_entry(t, struct jreq, task);

    js_end(r->js);
    r->run(r);
}

void js_post(struct jreq *r, struct nloop *l, void (*run)(struct jreq *r))
{
    r->l = l;
    r->run = run;
    r->task.fn = posted;
    js_begin(r->js);
    loop_post(l->loop, &r->task);
}

/* On the stream's loop. */
static void stream_ready(struct jreq *r)
{
    if (r->stream->loading) {
        r->run = stream_ready;
        list_push_back(&r->stream->waits, &r->link);
    } else {
        r->then(r);
    }
}

void js_post_stream(struct jreq *r, void (*run)(struct jreq *r))
{
    r->then = run;
    js_post(r, r->stream->l, stream_ready);
}

static void stream_named(struct jreq *r);

static void stream_run(struct jreq *r)
{
    const struct call *c = call_of(r->subject);
    struct jstream *s = r->stream;

    if (!s->gone) {
        c->run(r);
    } else if (s->implicit) { /* it is loaded anew, if its topic is there */
        r->stream = NULL;
        js_post(r, r->ja->l, stream_named);
        jstream_unref(s);
    } else if (c->type) {
        js_fail(r, c->type, JSE_STREAM_NOT_FOUND, NULL);
    } else {
        js_nobody(r);
    }
}

void jstream_waits_run(struct jstream *s)
{
    struct list_head waits;
    struct jreq *r;

    list_init(&waits);
    while (!list_empty(&s->waits))
        list_push_back(&waits, list_pop_front(&s->waits));
    while (!list_empty(&waits)) {
        r = list_entry(list_pop_front(&waits), struct jreq, link);
        r->run(r);
    }
}

/* Of a request: what it may say of itself in a header. */
static bool level_known(const struct jreq *r)
{
    struct slice v = nheader_find(r->headers, SLICE_LIT("Nats-Required-Api-Level"));

    return slice_is_null(v) || (nats_number(v) >= 0 && nats_number(v) <= JS_API_LEVEL);
}

/* On the account's loop. */
static void stream_named(struct jreq *r)
{
    const struct call *c = call_of(r->subject);
    struct js_fault f;

    r->stream = jimplicit_find(r->js, r->account, js_token(r->subject, c->stream), &f);
    if (r->stream)
        js_post_stream(r, stream_run);
    else if (c->type)
        js_fault(r, c->type, &f);
    else
        js_nobody(r);
}

/* False: it was refused. */
static bool body_read(struct jreq *r, const struct call *c)
{
    json_error_t why;

    if (!r->body.len || c->body == ANY_BODY)
        return true;
    r->json = json_loadb((const char *)r->body.ptr, r->body.len, 0, &why);
    if (c->body == NO_BODY && (!json_is_object(r->json) || json_object_size(r->json))) {
        js_fail(r, c->type, JSE_NOT_EMPTY_REQUEST, NULL);
        return false;
    }
    if (!r->json && c->type) { /* those without a type answer for themselves */
        js_fail(r, c->type, JSE_INVALID_JSON, "%s", why.text);
        return false;
    }
    return true;
}

static void dispatch(struct jreq *r)
{
    const struct call *c = call_of(r->subject);

    if (!c) { /* nobody there answers */
        jreq_free(r);
        return;
    }
    atomic_fetch_add_explicit(&r->ja->requests, 1, memory_order_relaxed);
    if (c->type && !level_known(r)) {
        js_fail(r, c->type, JSE_REQUIRED_API_LEVEL, NULL);
        return;
    }
    if (!body_read(r, c))
        return;
    if (c->stream)
        stream_named(r);
    else
        c->run(r);
}

static void on_api(struct nsub *sub, struct nmsg *m)
{
    struct jaccount *ja = sub->arg;
    struct slice subject =
        slice_of(m->subject.ptr + sizeof API - 1, m->subject.len - (sizeof API - 1));
    struct jreq *r;
    uint8_t *at;

    if (atomic_load_explicit(&ja->js->ending, memory_order_relaxed))
        return;
    r = xcalloc(1, sizeof *r + subject.len + m->reply.len + m->body.len);
    r->js = ja->js;
    r->ja = ja;
    r->account = ja->account;
    r->came_ns = js_now_ns(ja->js);
    at = r->text;
    r->subject = slice_of(memcpy(at, subject.ptr, subject.len), subject.len);
    at += subject.len;
    if (m->reply.len)
        r->reply = slice_of(memcpy(at, m->reply.ptr, m->reply.len), m->reply.len);
    at += m->reply.len;
    if (m->body.len)
        memcpy(at, m->body.ptr, m->body.len);
    r->headers = slice_of(at, m->header_len);
    r->body = slice_of(at + m->header_len, m->body.len - m->header_len);
    js_post(r, ja->l, dispatch);
}

void js_api_open(struct jaccount *ja)
{
    ja->api =
        nats_sub_new(ja->l, ja->account, SLICE_LIT(API ">"), SLICE_NULL, on_api, ja, &ja->pressed);
}

uint64_t js_offset(const struct jreq *r)
{
    json_int_t v = json_integer_value(json_object_get(r->json, "offset"));

    return v > 0 ? (uint64_t)v : 0;
}
