/* Reading single messages: for consumers (jreader), and for requests: get, direct get, batches.
 *
 * A reader has what it read last, and where it is in the batch that it takes apart, so that reading
 * in order looks at each batch once. What is not in memory is read by a worker; the reader is not to
 * be touched meanwhile, and one that is freed then frees itself when the worker is done. */
#include "proto/nats/js_get.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "journal/journal.h"
#include "proto/nats/js_header.h"
#include "proto/nats/js_store.h"
#include "proto/nats/record.h"

#define READ_BYTES    (256u << 10)
#define KEPT_BYTES    (1u << 20)
#define HEADERS_QUICK 64u
#define MULTI_MAX     1024u
#define PASS_BYTES    (1u << 20) /* sent in one go, before others have their turn */

/* ---- readers ---- */

struct jreader {
    struct jstream *s; /* referenced */
    struct work work;
    struct loop_task task;
    bool busy, freed;
    enum err e;
    struct plog_read read;
    unsigned batch; /* that `it` is in; read.n: none */
    struct batch_iter it;
    struct record rec; /* the last that `it` gave */
    bool has_rec;
    int64_t wanted;
    bool came; /* what was wanted was read, and not looked at */
    struct buf scratch, text, subject;
    void (*ready)(void *arg);
    void *arg;
};

static void read_run(struct work *w)
{
    struct jreader *r = list_entry(w, struct jreader, work);

    r->read.memory_only = false;
    r->e = plog_read(partition_log(r->s->p), r->wanted, READ_BYTES, &r->read, NULL);
    loop_post(r->s->l->loop, &r->task);
}

static void reader_end(struct jreader *r)
{
    plog_read_release(&r->read);
    buf_fini(&r->scratch);
    buf_fini(&r->text);
    buf_fini(&r->subject);
    jstream_unref(r->s);
    free(r);
}

static void read_done(struct loop_task *t)
{
    struct jreader *r = list_entry(t, struct jreader, task);

    js_end(r->s->js);
    r->busy = false;
    r->came = true;
    if (r->freed)
        reader_end(r);
    else
        r->ready(r->arg);
}

struct jreader *jreader_new(struct jstream *s)
{
    struct jreader *r = xcalloc(1, sizeof *r);

    r->s = jstream_ref(s);
    r->work.fn = read_run;
    r->task.fn = read_done;
    buf_init(&r->scratch, LIMIT_BATCH_INFLATED);
    buf_init(&r->text, SIZE_MAX);
    buf_init(&r->subject, SIZE_MAX);
    return r;
}

void jreader_free(struct jreader **rp)
{
    struct jreader *r = *rp;

    *rp = NULL;
    if (!r)
        return;
    if (r->busy)
        r->freed = true;
    else
        reader_end(r);
}

/* Whether it is among the batches that were read; `it` is then before or at it. */
static bool find_batch(struct jreader *r, int64_t offset)
{
    unsigned i;

    if (r->has_rec && r->batch < r->read.n && offset >= r->rec.offset &&
        offset <= r->read.batch[r->batch].last_offset)
        return true;
    r->has_rec = false;
    for (i = 0; i < r->read.n; i++)
        if (offset >= r->read.batch[i].base_offset && offset <= r->read.batch[i].last_offset) {
            r->batch = i;
            return batch_iter_init(&r->it, r->read.batch[i].data, &r->scratch) == ERR_OK;
        }
    return false;
}

static enum err find_record(struct jreader *r, int64_t offset)
{
    enum err e = ERR_OK;

    while (!r->has_rec || r->rec.offset < offset) {
        e = batch_iter_next(&r->it, &r->rec);
        if (e)
            break;
        r->has_rec = true;
    }
    if (!e && r->rec.offset == offset)
        return ERR_OK;
    return e && e != ERR_EOF ? e : ERR_NOT_FOUND;
}

static enum err read_more(struct jreader *r, int64_t offset)
{
    enum err e;

    r->read.memory_only = true;
    r->has_rec = false;
    e = plog_read(partition_log(r->s->p), offset, READ_BYTES, &r->read, NULL);
    if (e != ERR_AGAIN)
        return e == ERR_OFFSET_RANGE ? ERR_NOT_FOUND : e;
    r->wanted = offset;
    r->busy = true;
    js_begin(r->s->js);
    workers_run(r->s->js->workers, &r->work);
    return ERR_AGAIN;
}

/* The headers' text, then the payload, in r->text, if there are headers. */
static enum err text_make(struct jreader *r, struct jmsg *out)
{
    struct record_header quick[HEADERS_QUICK], *h = quick;
    size_t len;
    uint32_t n;
    enum err e;

    out->headers = SLICE_NULL;
    out->payload = r->rec.value;
    if (!r->rec.headers_n)
        return ERR_OK;
    if (r->rec.headers_n > HEADERS_QUICK)
        h = xmalloc(LIMIT_RECORD_HEADERS * sizeof *h);
    e = record_headers(&r->rec, h, h == quick ? HEADERS_QUICK : LIMIT_RECORD_HEADERS, &n);
    if (!e) {
        if (r->text.cap > KEPT_BYTES)
            buf_fini(&r->text);
        buf_clear(&r->text);
        len = record_nats_headers(h, n, &r->text);
        buf_append_slice(&r->text, r->rec.value);
        out->headers = slice_of(r->text.ptr, len);
        out->payload = slice_of(r->text.ptr + len, r->rec.value.len);
    }
    if (h != quick)
        free(h);
    return e;
}

enum err jreader_get(struct jreader *r, uint64_t seq, struct jmsg *out, void (*ready)(void *arg),
                     void *arg)
{
    int64_t offset = jstream_offset(r->s, seq);
    bool came = r->came && r->wanted == offset;
    enum err e = ERR_OK;

    ASSERT(!r->busy);
    r->came = false;
    if (r->s->gone || !jindex_has(&r->s->index, seq))
        return ERR_NOT_FOUND;
    r->ready = ready;
    r->arg = arg;
    if (!find_batch(r, offset)) {
        /* what a worker read for this very call is there now, or it is nowhere, or cannot be read */
        if (came)
            return r->e && r->e != ERR_OFFSET_RANGE ? r->e : ERR_NOT_FOUND;
        e = read_more(r, offset);
        if (e)
            return e;
        if (!find_batch(r, offset))
            return ERR_NOT_FOUND;
    }
    if ((e = find_record(r, offset)))
        return e;
    *out = (struct jmsg){.seq = seq,
                         .time_ns = jtime_ns(r->rec.timestamp_ms),
                         .subject = jstore_subject(r->s, r->rec.key, &r->subject)};
    return text_make(r, out);
}

/* ---- what a request asks for ---- */

struct wish {
    uint64_t seq, up_to_seq, batch, max_bytes;
    int64_t start_ms, up_to_ms; /* INT64_MIN: none */
    struct slice last_for, next_for;
    const json_t *multi; /* NULL: none */
    bool no_headers;
};

static bool time_of(const json_t *o, const char *name, int64_t *ms)
{
    const char *text = json_string_value(json_object_get(o, name));
    int64_t ns;

    *ms = INT64_MIN;
    if (!text)
        return true;
    if (!jtime_read(slice_str(text), &ns))
        return false;
    *ms = (ns + 999999) / 1000000;
    return true;
}

static uint64_t number(const json_t *o, const char *name)
{
    json_int_t v = json_integer_value(json_object_get(o, name));

    return v > 0 ? (uint64_t)v : 0;
}

static bool wish_read(const json_t *o, struct wish *w)
{
    *w = (struct wish){.seq = number(o, "seq"),
                       .up_to_seq = number(o, "up_to_seq"),
                       .batch = number(o, "batch"),
                       .max_bytes = number(o, "max_bytes"),
                       .last_for = slice_str(json_string_value(json_object_get(o, "last_by_subj"))),
                       .next_for = slice_str(json_string_value(json_object_get(o, "next_by_subj"))),
                       .multi = json_object_get(o, "multi_last"),
                       .no_headers = json_is_true(json_object_get(o, "no_hdr"))};
    if (!json_is_array(w->multi) || !json_array_size(w->multi))
        w->multi = NULL;
    return time_of(o, "start_time", &w->start_ms) && time_of(o, "up_to_time", &w->up_to_ms);
}

/* Whether it asks for one thing. */
static bool wish_ok(const struct wish *w)
{
    bool last = w->last_for.len, next = w->next_for.len, time = w->start_ms != INT64_MIN;

    return !(w->seq && last) && !(w->seq && time) && !(time && last) && !(last && next) &&
           !(last && w->batch) && !(last && w->multi) && !(next && w->multi) &&
           !(w->up_to_seq && w->up_to_ms != INT64_MIN) &&
           (w->seq || last || next || time || w->multi);
}

static struct jfilter *filter_of(struct slice pattern)
{
    return pattern.len ? jfilter_new(&pattern, 1) : NULL;
}

/* The first that it asks for; 0: there is none, as for what is no subject. */
static uint64_t wish_first(struct jstream *s, const struct wish *w)
{
    struct slice subject = w->last_for.len ? w->last_for : w->next_for;
    const struct jindex *x = &s->index;
    uint64_t seq = w->seq, out;
    struct jfilter *f;

    if (subject.len && !subject_valid(subject))
        return 0;
    f = filter_of(subject);
    if (w->start_ms != INT64_MIN)
        seq = jindex_seek_time(x, w->start_ms);
    if (w->last_for.len)
        out = jindex_prev(x, f, x->last);
    else if (w->next_for.len)
        out = w->start_ms != INT64_MIN && !seq ? 0 : jindex_next(x, f, seq ? seq : 1);
    else
        out = w->batch && seq ? jindex_next(x, NULL, seq) : seq && jindex_has(x, seq) ? seq : 0;
    jfilter_free(&f);
    return out;
}

/* ---- STREAM.MSG.GET ---- */

struct get {
    struct jreq *r;
    struct jreader *reader;
    uint64_t seq;
};

static json_t *base64(struct slice s)
{
    struct buf b;
    json_t *o;

    buf_init(&b, SIZE_MAX);
    json_write_base64(&b, s);
    o = json_stringn((const char *)b.ptr + 1, b.len - 2);
    buf_fini(&b);
    return o;
}

static json_t *message_json(const struct jmsg *m, bool headers)
{
    char time[JTIME_TEXT_LEN + 1];
    json_t *o = json_object();

    jtime_text(m->time_ns, time);
    json_object_set_new(o, "subject", js_text(m->subject));
    json_object_set_new(o, "seq", json_integer((json_int_t)m->seq));
    if (m->headers.len && headers)
        json_object_set_new(o, "hdrs", base64(m->headers));
    if (m->payload.len)
        json_object_set_new(o, "data", base64(m->payload));
    json_object_set_new(o, "time", json_string(time));
    return json_pack("{s:o}", "message", o);
}

static void get_go(void *arg)
{
    struct get *g = arg;
    struct jmsg m;
    enum err e = jreader_get(g->reader, g->seq, &m, get_go, g);

    if (e == ERR_AGAIN)
        return;
    if (e == ERR_NOT_FOUND)
        js_fail(g->r, "stream_msg_get", JSE_NO_MESSAGE_FOUND, NULL);
    else if (e)
        js_fail(g->r, "stream_msg_get", JSE_STREAM_STORE_FAILED, "%s", err_text(e));
    else
        js_answer(g->r, "stream_msg_get",
                  message_json(&m, !json_is_true(json_object_get(g->r->json, "no_hdr"))));
    jreader_free(&g->reader);
    free(g);
}

void jget_msg(struct jreq *r)
{
    struct get *g;
    struct wish w;
    uint64_t seq;

    if (!r->json || !wish_read(r->json, &w) || w.batch || w.max_bytes || w.multi || !wish_ok(&w)) {
        js_fail(r, "stream_msg_get", JSE_BAD_REQUEST, NULL);
        return;
    }
    if (!(seq = wish_first(r->stream, &w))) {
        js_fail(r, "stream_msg_get", JSE_NO_MESSAGE_FOUND, NULL);
        return;
    }
    g = xcalloc(1, sizeof *g);
    *g = (struct get){r, jreader_new(r->stream), seq};
    get_go(g);
}

/* ---- STREAM.MSG.DELETE ---- */

struct deletion {
    struct jdone done;
    struct jreq *r;
};

static void deleted(struct jdone *d)
{
    struct deletion *g = list_entry(d, struct deletion, done);

    if (d->e)
        js_fail(g->r, "stream_msg_delete", JSE_STREAM_MSG_DELETE_FAILED, "%s", err_text(d->e));
    else
        js_answer(g->r, "stream_msg_delete", json_pack("{s:b}", "success", 1));
    free(g);
}

void jget_delete(struct jreq *r)
{
    uint64_t seq = number(r->json, "seq");
    struct jstream *s = r->stream;
    struct deletion *g;

    if (!r->json) {
        js_fail(r, "stream_msg_delete", JSE_BAD_REQUEST, NULL);
    } else if (s->conf.sealed) {
        js_fail(r, "stream_msg_delete", JSE_STREAM_SEALED, NULL);
    } else if (s->conf.deny_delete) {
        js_fail(r, "stream_msg_delete", JSE_STREAM_MSG_DELETE_FAILED,
                "message delete not permitted");
    } else if (!jindex_has(&s->index, seq)) {
        if (seq && seq < s->index.last)
            js_fail(r, "stream_msg_delete", JSE_NO_MESSAGE_FOUND, NULL);
        else
            js_fail(r, "stream_msg_delete", JSE_SEQUENCE_NOT_FOUND, "%" PRIu64, seq);
    } else {
        g = xcalloc(1, sizeof *g);
        g->r = r;
        jstore_remove(s, seq);
        jstore_flush(s, &g->done, deleted);
    }
}

/* ---- DIRECT.GET ---- */

struct direct {
    struct jreq *r;
    struct jreader *reader;
    struct wish w;
    struct jfilter *f;
    struct loop_task task;
    uint64_t *seqs; /* multi_last */
    size_t seqs_n, at;
    uint64_t next, left, pending, last, sent, up_to;
    struct buf text;
};

static void status(struct jreq *r, const char *text)
{
    if (r->reply.len)
        js_send_status(r->l, r->account, r->reply, text, NULL);
    jreq_free(r);
}

static void direct_end(struct direct *d)
{
    jreader_free(&d->reader);
    jfilter_free(&d->f);
    free(d->seqs);
    buf_fini(&d->text);
    jreq_free(d->r);
    free(d);
}

static void direct_eob(struct direct *d)
{
    char more[160];
    int n;

    if (d->w.batch || d->w.multi) {
        n = snprintf(more, sizeof more,
                     "Nats-Num-Pending: %" PRIu64 "\r\nNats-Last-Sequence: %" PRIu64 "\r\n",
                     d->pending, d->last);
        if (d->w.multi)
            snprintf(more + n, sizeof more - (size_t)n, "Nats-UpTo-Sequence: %" PRIu64 "\r\n",
                     d->up_to);
        js_send_status(d->r->l, d->r->account, d->r->reply, NHEADER_LINE " 204 EOB", more);
    }
    direct_end(d);
}

static void direct_send(struct direct *d, const struct jmsg *m)
{
    struct buf *b = &d->text;
    struct slice own = m->headers, line;
    char time[JTIME_TEXT_LEN + 1];
    size_t len;

    buf_clear(b);
    jtime_text(m->time_ns, time);
    if (!d->w.no_headers) {
        line = own.len ? slice_of(own.ptr, own.len - 2) : SLICE_LIT(NHEADER_LINE "\r\n");
        buf_append_slice(b, line);
        buf_printf(b,
                   "Nats-Stream: %s\r\nNats-Subject: %.*s\r\nNats-Sequence: %" PRIu64
                   "\r\nNats-Time-Stamp: %s\r\n",
                   d->r->stream->conf.name, (int)m->subject.len, (const char *)m->subject.ptr,
                   m->seq, time);
        if (d->w.batch || d->w.multi)
            buf_printf(b, "Nats-Num-Pending: %" PRIu64 "\r\nNats-Last-Sequence: %" PRIu64 "\r\n",
                       d->pending, d->last);
        buf_append_str(b, "\r\n");
    }
    len = b->len;
    buf_append_slice(b, m->payload);
    js_send(d->r->l, d->r->account, d->r->reply, d->r->reply, SLICE_NULL, slice_of(b->ptr, len),
            slice_of(b->ptr + len, m->payload.len));
}

static void direct_go(void *arg);

static void direct_again(struct loop_task *t)
{
    struct direct *d = list_entry(t, struct direct, task);

    js_end(d->r->js);
    direct_go(d);
}

/* The next one to send; 0: that was all. */
static uint64_t direct_next(struct direct *d)
{
    if (!d->left || (d->sent && d->sent >= d->w.max_bytes))
        return 0;
    if (d->w.multi)
        return d->at < d->seqs_n ? d->seqs[d->at] : 0;
    return d->next;
}

static void direct_on(struct direct *d, const struct jmsg *m)
{
    d->last = m->seq;
    d->left--;
    d->at++;
    d->sent += m->subject.len + m->headers.len + m->payload.len;
    d->next = d->left ? jindex_next(&d->r->stream->index, d->f, m->seq + 1) : 0;
}

static void direct_go(void *arg)
{
    struct direct *d = arg;
    uint64_t seq, pass = d->sent;
    struct jmsg m;
    enum err e;

    while ((seq = direct_next(d))) {
        if (d->sent - pass > PASS_BYTES) {
            d->task.fn = direct_again;
            js_begin(d->r->js);
            loop_post(d->r->l->loop, &d->task);
            return;
        }
        e = jreader_get(d->reader, seq, &m, direct_go, d);
        if (e == ERR_AGAIN)
            return;
        if (e) {
            if (!d->sent)
                js_send_status(d->r->l, d->r->account, d->r->reply,
                               NHEADER_LINE " 404 Message Not Found", NULL);
            if (!d->sent) {
                direct_end(d);
                return;
            }
            break;
        }
        if (d->pending)
            d->pending--;
        direct_send(d, &m);
        direct_on(d, &m);
    }
    direct_eob(d);
}

struct multi {
    struct direct *d;
    bool many;
};

static bool multi_note(void *arg, const struct jindex_subject_info *i)
{
    struct multi *m = arg;
    struct direct *d = m->d;
    uint64_t seq = i->last;

    while (seq > d->up_to)
        seq = jindex_subject_prev(&d->r->stream->index, seq);
    if (!seq || seq < d->w.seq)
        return true;
    if (d->seqs_n == MULTI_MAX) {
        m->many = true;
        return false;
    }
    d->seqs[d->seqs_n++] = seq;
    return true;
}

/* NULL, or the status to answer with. */
static const char *direct_multi(struct direct *d)
{
    const struct jindex *x = &d->r->stream->index;
    struct slice patterns[64];
    struct multi m = {d, false};
    size_t i, n = json_array_size(d->w.multi);
    uint64_t seq;

    if (n > sizeof patterns / sizeof *patterns)
        return NHEADER_LINE " 413 Too Many Results";
    for (i = 0; i < n; i++) {
        patterns[i] = slice_str(json_string_value(json_array_get(d->w.multi, i)));
        if (!subject_valid(patterns[i]))
            return NHEADER_LINE " 408 Bad Request";
    }
    d->up_to = d->w.up_to_seq ? d->w.up_to_seq : x->last;
    if (d->w.up_to_ms != INT64_MIN) {
        seq = jindex_seek_time(x, d->w.up_to_ms);
        if (seq && seq <= x->first)
            return NHEADER_LINE " 404 No Results";
        d->up_to = seq ? seq - 1 : x->last;
    }
    d->f = jfilter_new(patterns, (unsigned)n);
    d->seqs = xcalloc(MULTI_MAX, sizeof *d->seqs);
    jindex_subjects(x, d->f, multi_note, &m);
    if (m.many)
        return NHEADER_LINE " 413 Too Many Results";
    if (!d->seqs_n)
        return NHEADER_LINE " 404 No Results";
    qsort(d->seqs, d->seqs_n, sizeof *d->seqs, js_by_number);
    d->left = d->w.batch ? d->w.batch : UINT64_MAX;
    d->pending = d->seqs_n;
    return NULL;
}

static const char *direct_single(struct direct *d)
{
    struct jstream *s = d->r->stream;
    uint64_t first = wish_first(s, &d->w);

    if (!first)
        return NHEADER_LINE " 404 Message Not Found";
    d->f = filter_of(d->w.next_for);
    d->next = first;
    d->left = d->w.batch ? d->w.batch : 1;
    if (d->w.batch)
        d->pending = jindex_count(&s->index, d->f, first);
    return NULL;
}

/* $JS.API.DIRECT.GET.<stream>.<subject>: the subject, or empty. */
static struct slice direct_subject(const struct jreq *r)
{
    size_t n = sizeof "DIRECT.GET." - 1 + js_token(r->subject, 2).len + 1;

    return r->subject.len > n ? slice_of(r->subject.ptr + n, r->subject.len - n) : SLICE_NULL;
}

static const char *direct_read(struct jreq *r, struct wish *w)
{
    struct slice subject = direct_subject(r);

    if (r->body.len && !json_is_object(r->json))
        return NHEADER_LINE " 408 Malformed Request";
    if (!wish_read(r->json, w))
        return NHEADER_LINE " 408 Malformed Request";
    if (subject.len) {
        if (w->seq || w->last_for.len || w->next_for.len || w->multi || w->batch)
            return NHEADER_LINE " 408 Bad Request";
        w->last_for = subject;
    } else if (!w->seq && !w->last_for.len && !w->next_for.len && !w->multi &&
               w->start_ms == INT64_MIN) {
        return NHEADER_LINE " 408 Empty Request";
    }
    return wish_ok(w) ? NULL : NHEADER_LINE " 408 Bad Request";
}

void jget_direct(struct jreq *r)
{
    struct jstream *s = r->stream;
    const char *why;
    struct direct *d;
    struct wish w;

    if (!r->reply.len) {
        jreq_free(r);
        return;
    }
    if (!s->conf.allow_direct) { /* as if nobody listened there */
        js_nobody(r);
        return;
    }
    if ((why = direct_read(r, &w))) {
        status(r, why);
        return;
    }
    d = xcalloc(1, sizeof *d);
    d->r = r;
    d->w = w;
    if (!d->w.max_bytes)
        d->w.max_bytes = LIMIT_APPEND_BYTES;
    buf_init(&d->text, SIZE_MAX);
    why = w.multi ? direct_multi(d) : direct_single(d);
    if (why) {
        js_send_status(r->l, r->account, r->reply, why, NULL);
        direct_end(d);
        return;
    }
    d->reader = jreader_new(s);
    direct_go(d);
}
