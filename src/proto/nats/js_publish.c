/* What is published to a stream: checks, appends, PubAcks. See js_publish.h.
 *
 * A message is checked by what is known in memory, what is on its way to the log included, and put
 * into the open batch. At the end of a turn the batch becomes one append, and another is opened; when
 * BATCHES are on their way it stays open until one of them comes back, so batches grow as publishers
 * get faster. One that is as large as an append may be is closed, and waits while the next one
 * fills. What is durable goes through the store (jstore_written), which sees to it that what others
 * wrote before is in the index first; then it is added to the index, answered, and told to
 * consumers.
 *
 * What is refused, or was there before, is an entry of the batch as well, so that answers come in
 * the order of the messages. All answers are sent from tasks and ends of turns: see js_int.h.
 *
 * While the stream is being loaded messages are held, in order, and are dealt with when it is there.
 *
 * Others append to the topic, too. What was decided on what is in the log (an expected sequence, room
 * for new messages) is in a guarded batch, whose append is refused by the broker if its first record
 * would not get the offset that follows from what was looked at. Then all is held until what others
 * appended is in the index, and the messages of guarded batches are checked anew. Who is late again
 * and again reserves the partition for that time, so that it gets on beside the fastest.
 *
 * What cannot be kept is answered with an error. Who asked for no answer gets none, so the server's
 * log tells of it, and a counter.
 *
 *   handle -> open batch -> submit -> batch_came (writer thread) -> batch_back -> jstore_written
 *                 ^           |                                                -> batch_apply
 *                 +-- redo <--+ others were first */
#include "proto/nats/js_publish.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/siphash.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "proto/nats/js_batch.h"
#include "proto/nats/js_counter.h"
#include "proto/nats/js_facts.h"
#include "proto/nats/js_header.h"
#include "proto/nats/js_schedule.h"
#include "proto/nats/js_source.h"
#include "proto/nats/js_store.h"
#include "proto/nats/js_transform.h"

#define BATCHES       2u           /* on their way at once */
#define BATCH_BYTES   (4u << 20)   /* of an append at most, but for a single larger message */
#define PRESSED_BYTES (16u << 20)  /* publishers are slowed down from here on … */
#define BYTES_MAX     (256u << 20) /* … and refused from here on */
#define ENTRIES_KEPT  (1u << 20)
#define RETRY_MS      5u
#define RECORD_ROOM   512u /* of a record beside its bytes, at most */
#define TAIL_MAX      512u /* bytes that a PubAck has more */
#define TOLD_MS       1000u
#define REDO_MS       20u  /* between looks at whether the index has come far enough */
#define LATE_MAX      2u   /* times that a batch was refused, until others have to wait: */
#define RESERVE_MS    200u /* … not longer than that */

enum kind { STORED, KNOWN, REFUSED, FILLED };

/* A message that waits: subject, reply, headers, payload, and the tail of its PubAck. */
struct held {
    struct list_node link;
    uint32_t subject_len, reply_len, header_len, payload_len, tail_len;
    bool more; /* the next one is of the same unit: jpublish_all */
    uint8_t text[];
};

/* In a batch: this, then subject, reply, id, text, tail (of a PubAck), schedule, padded. */
struct entry {
    uint8_t kind;
    uint8_t rollup;
    bool copied; /* of another stream, or a batch: who put it in tells of it */
    uint32_t subject_len, reply_len, id_len, text_len, tail_len, schedule_len;
    uint32_t bytes;
    int64_t ttl_s;
    uint64_t seq; /* KNOWN, or when it is applied; FILLED: how many */
    struct append_slot slot;
};

struct jbatch {
    struct jwritten w; /* first */
    struct loop_task task;
    struct list_node link;
    struct jstream *s;
    struct append *a;
    struct buf entries;
    uint32_t stored;
    uint64_t bytes;
    struct append_slot first, last;
    enum err e;
    bool guarded;          /* it holds only right behind what was looked at: … */
    int64_t base;          /* … if its first record gets this offset */
    struct list_head told; /* struct held: what was put in since it is guarded */
    size_t told_bytes;
};

struct jpublish {
    struct jstream *s;
    struct jlater later;
    struct jbatch *open;
    struct jbatch *spare;
    struct list_head batches; /* under way, in order */
    struct list_head closed;  /* full ones that wait, in order: before the open one */
    struct list_head held;    /* struct held: came while the stream was being loaded */
    size_t batch_bytes, held_bytes;
    uint64_t lost, told_ms; /* not kept, without an answer, since the log told of it; when */
    uint32_t under_way;     /* batches that were submitted and are not applied */
    uint32_t submitted;     /* … that are not back */
    uint64_t msgs, bytes;   /* in the open one and those under way */
    uint64_t away;          /* messages of those under way */
    bool redoing;           /* nothing is submitted until the index has come to: */
    int64_t redo_from;      /* offset */
    unsigned late;          /* times that a guarded batch was refused, since one was not */
    bool reserved;          /* the partition is, for this stream */
    struct loop_timer retry;
    bool stopped, copying;
    bool together; /* what is put in now is of one unit */
    /* of messages on their way, by hash of their subject; while tracking */
    bool tracking;
    struct u64map last, count;
    struct buf last_id;
    struct buf tail, schedule; /* for the next entry that is added */
    char *ack;
    size_t ack_len;
    struct buf mapped, sent; /* a subject, a message that is sent on */
    struct buf amended;      /* headers */
    struct record_header *headers;
};

/* ---- batches ---- */

static void batch_came(struct append *a, void *arg, enum err e)
{
    struct jbatch *b = arg;

    (void)a;
    b->e = e;
    loop_post(b->s->l->loop, &b->task);
}

static void batch_back(struct loop_task *t);
static void batch_apply(struct jwritten *w);

static struct jbatch *batch_new(struct jpublish *p)
{
    struct jbatch *b = p->spare;

    p->spare = NULL;
    if (!b) {
        b = xcalloc(1, sizeof *b);
        b->a = append_new(p->s->js->b, batch_came, b);
        buf_init(&b->entries, SIZE_MAX);
        b->s = p->s;
        b->task.fn = batch_back;
        b->w.apply = batch_apply;
        list_init(&b->told);
    }
    return b;
}

static void told_clear(struct jpublish *p, struct jbatch *b)
{
    while (!list_empty(&b->told))
        free(list_entry(list_pop_front(&b->told), struct held, link));
    p->held_bytes -= b->told_bytes;
    b->told_bytes = 0;
    b->guarded = false;
}

static void batch_free(struct jbatch *b)
{
    append_free(&b->a);
    buf_fini(&b->entries);
    free(b);
}

static void batch_done(struct jpublish *p, struct jbatch *b)
{
    told_clear(p, b);
    if (p->spare || p->stopped) {
        batch_free(b);
        return;
    }
    append_reset(b->a);
    if (b->entries.cap > ENTRIES_KEPT)
        buf_fini(&b->entries);
    buf_clear(&b->entries);
    b->stored = 0;
    b->bytes = 0;
    b->e = ERR_OK;
    p->spare = b;
}

static size_t padded(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

static struct slice entry_subject(const struct entry *e)
{
    return slice_of(e + 1, e->subject_len);
}

static struct slice entry_reply(const struct entry *e)
{
    return slice_of((const uint8_t *)(e + 1) + e->subject_len, e->reply_len);
}

static struct slice entry_id(const struct entry *e)
{
    return slice_of((const uint8_t *)(e + 1) + e->subject_len + e->reply_len, e->id_len);
}

static struct slice entry_text(const struct entry *e)
{
    return slice_of((const uint8_t *)(e + 1) + e->subject_len + e->reply_len + e->id_len,
                    e->text_len);
}

static struct slice entry_tail(const struct entry *e)
{
    return slice_of((const uint8_t *)(e + 1) + e->subject_len + e->reply_len + e->id_len +
                        e->text_len,
                    e->tail_len);
}

/* A line each: pattern, zone, by, next; empty: it is none. */
static struct slice entry_schedule(const struct entry *e)
{
    return slice_of((const uint8_t *)(e + 1) + e->subject_len + e->reply_len + e->id_len +
                        e->text_len + e->tail_len,
                    e->schedule_len);
}

static size_t entry_size(const struct entry *e)
{
    return padded(sizeof *e + e->subject_len + e->reply_len + e->id_len + e->text_len +
                  e->tail_len + e->schedule_len);
}

static struct entry *entry_next(struct jbatch *b, size_t *at)
{
    struct entry *e;

    if (*at == b->entries.len)
        return NULL;
    e = (struct entry *)(void *)(b->entries.ptr + *at);
    *at += entry_size(e);
    return e;
}

static uint8_t *put(uint8_t *at, struct slice s)
{
    return s.len ? (uint8_t *)memcpy(at, s.ptr, s.len) + s.len : at;
}

static struct entry *entry_add(struct jpublish *p, enum kind kind, struct slice subject,
                               struct slice reply, struct slice id, struct slice text)
{
    struct entry is = {.kind = kind,
                       .subject_len = (uint32_t)subject.len,
                       .reply_len = (uint32_t)reply.len,
                       .id_len = (uint32_t)id.len,
                       .text_len = (uint32_t)text.len,
                       .tail_len = (uint32_t)p->tail.len,
                       .schedule_len = (uint32_t)p->schedule.len};
    struct jbatch *b = p->open ? p->open : (p->open = batch_new(p));
    size_t n = entry_size(&is);
    struct entry *e;
    uint8_t *at;

    if (buf_reserve(&b->entries, n))
        abort(); /* no memory */
    e = (struct entry *)(void *)(b->entries.ptr + b->entries.len);
    *e = is;
    at = put((uint8_t *)(e + 1), subject);
    at = put(at, reply);
    at = put(at, id);
    at = put(at, text);
    at = put(at, buf_slice(&p->tail));
    put(at, buf_slice(&p->schedule));
    buf_clear(&p->tail);
    buf_clear(&p->schedule);
    b->entries.len += n;
    js_later(js_loop(p->s->js, p->s->l), &p->later);
    return e;
}

/* ---- what is on its way, by subject ---- */

static uint64_t subject_hash(const struct jpublish *p, struct slice subject)
{
    return siphash64(p->s->js->seed, subject.ptr, subject.len);
}

static uint64_t get(const struct u64map *m, uint64_t hash)
{
    return (uint64_t)(uintptr_t)u64map_find(m, hash);
}

static void set(struct u64map *m, uint64_t hash, uint64_t v)
{
    u64map_remove(m, hash);
    if (v)
        u64map_put(m, hash, (void *)(uintptr_t)v);
}

static void ahead_add(struct jpublish *p, struct slice subject, uint64_t seq)
{
    uint64_t hash = subject_hash(p, subject);

    set(&p->last, hash, seq);
    set(&p->count, hash, get(&p->count, hash) + 1);
}

static void ahead_take(struct jpublish *p, struct slice subject)
{
    uint64_t hash = subject_hash(p, subject), n = get(&p->count, hash);

    set(&p->count, hash, n - 1);
    if (n == 1)
        u64map_remove(&p->last, hash);
}

static void ahead_scan(struct jpublish *p, struct jbatch *b, uint64_t *seq)
{
    struct entry *e;
    size_t at = 0;

    while ((e = entry_next(b, &at)))
        if (e->kind == STORED)
            ahead_add(p, entry_subject(e), ++*seq);
}

/* From now on what is on its way is known by subject, until nothing is any more. */
static void ahead_track(struct jpublish *p)
{
    uint64_t seq = p->s->index.last;
    struct jbatch *b;

    if (p->tracking)
        return;
    p->tracking = true;
    list_for_each(b, &p->batches, struct jbatch, link) ahead_scan(p, b, &seq);
    list_for_each(b, &p->closed, struct jbatch, link) ahead_scan(p, b, &seq);
    if (p->open)
        ahead_scan(p, p->open, &seq);
}

/* ---- answers ---- */

static void fault_text(const struct jstream *s, const struct js_fault *f, struct buf *out)
{
    json_t *o =
        json_pack("{s:o, s:s, s:i}", "error", js_error_json(f), "stream", s->conf.name, "seq", 0);
    char *text = json_dumps(o, JSON_COMPACT);

    buf_append_str(out, text ? text : "");
    free(text);
    json_decref(o);
}

/* Messages are not kept whose publishers are not told. */
static void lose(struct jpublish *p, uint64_t n, const char *why)
{
    uint64_t now = loop_now_ms(p->s->l->loop);

    atomic_fetch_add_explicit(&p->s->js->lost, n, memory_order_relaxed);
    p->lost += n;
    if (p->told_ms && now - p->told_ms < TOLD_MS)
        return;
    LOG(p->s->js->n->conf.log, LOG_WARN,
        "messages could not be kept, and their publishers wanted no answer",
        LOG_STR("stream", p->s->conf.name), LOG_U64("messages", p->lost), LOG_STR("error", why));
    p->lost = 0;
    p->told_ms = now;
}

/* Is answered with the fault, after what came before it. */
static void refuse(struct jpublish *p, struct slice reply, const struct js_fault *f)
{
    struct buf text;

    if (!reply.len || p->s->conf.no_ack)
        return;
    buf_init(&text, SIZE_MAX);
    fault_text(p->s, f, &text);
    entry_add(p, REFUSED, SLICE_NULL, reply, SLICE_NULL, buf_slice(&text));
    buf_fini(&text);
}

static void send(struct jstream *s, struct slice to, struct slice text)
{
    struct nmsg m = {.subject = to, .body = text};

    nats_route(s->l, s->account, &m);
}

static void ack(struct jpublish *p, const struct entry *e, bool duplicate)
{
    static const char dup[] = ", \"duplicate\": true";
    char text[JCONF_NAME_MAX * 6 + 128 + TAIL_MAX];
    struct slice tail = entry_tail(e);
    size_t n = p->ack_len;

    if (tail.len > TAIL_MAX) { /* a counter's */
        buf_clear(&p->sent);
        buf_printf(&p->sent, "%.*s%" PRIu64 "%.*s}", (int)n, p->ack, e->seq, (int)tail.len,
                   (const char *)tail.ptr);
        send(p->s, entry_reply(e), buf_slice(&p->sent));
        return;
    }
    memcpy(text, p->ack, n);
    n += (size_t)snprintf(text + n, sizeof text - n, "%" PRIu64 "%s%.*s}", e->seq,
                          duplicate ? dup : "", (int)tail.len, (const char *)tail.ptr);
    send(p->s, entry_reply(e), slice_of(text, n));
}

static void answer(struct jpublish *p, struct entry *e, enum err failed)
{
    struct js_fault f;
    struct buf text;

    if (!e->reply_len)
        return;
    if (e->kind == REFUSED) {
        send(p->s, entry_reply(e), entry_text(e));
        return;
    }
    if (e->kind == KNOWN && e->id_len) { /* of one that was on its way then */
        e->seq = jstore_dedup_find(p->s, entry_id(e));
        failed = e->seq && e->seq != UINT64_MAX ? ERR_OK : ERR_IO;
    } else if (e->kind == KNOWN) {
        failed = ERR_OK;
    }
    if (!failed) {
        ack(p, e, e->kind == KNOWN);
        return;
    }
    js_fault_set(&f, JSE_STREAM_STORE_FAILED, "%s", err_text(failed));
    buf_init(&text, SIZE_MAX);
    fault_text(p->s, &f, &text);
    send(p->s, entry_reply(e), buf_slice(&text));
    buf_fini(&text);
}

/* ---- what comes back ---- */

static void pressed_set(struct jpublish *p)
{
    atomic_store_explicit(&p->s->pressed, p->bytes + p->held_bytes > PRESSED_BYTES,
                          memory_order_relaxed);
}

static void answers(struct jpublish *p, struct jbatch *b, enum err failed)
{
    struct entry *e;
    size_t at = 0;

    while ((e = entry_next(b, &at)))
        answer(p, e, failed);
}

/* Sends on what was kept of a message, saying where it is; before: the last one of its subject. */
static void republish(struct jpublish *p, const struct entry *e, uint64_t before, int64_t time_ms)
{
    const struct jrepublish *r = p->s->conf.republish;
    struct slice text = entry_text(e), subject = entry_subject(e), size = SLICE_LIT("");
    char time[JTIME_TEXT_LEN + 1];
    struct nmsg m = {0};
    uint32_t n;

    memcpy(&n, text.ptr, sizeof n);
    if (!r || !jtransform_apply(slice_str(r->src), slice_str(r->dest), subject, &p->mapped))
        return;
    jtime_text(time_ms * 1000000, time);
    buf_clear(&p->sent);
    buf_append(&p->sent, text.ptr + sizeof n, n);
    buf_printf(&p->sent,
               "Nats-Stream: %s\r\nNats-Subject: %.*s\r\nNats-Sequence: %" PRIu64
               "\r\nNats-Time-Stamp: %s\r\nNats-Last-Sequence: %" PRIu64 "\r\n",
               p->s->conf.name, (int)subject.len, (const char *)subject.ptr, e->seq, time, before);
    text = slice_of(text.ptr + sizeof n + n, text.len - sizeof n - n);
    if (r->headers_only) {
        buf_printf(&p->sent, "Nats-Msg-Size: %.*s\r\n", (int)text.len, (const char *)text.ptr);
        text = size;
    }
    buf_append_str(&p->sent, "\r\n");
    m.header_len = p->sent.len;
    buf_append_slice(&p->sent, text);
    m.subject = buf_slice(&p->mapped);
    m.body = buf_slice(&p->sent);
    nats_route(p->s->l, p->s->account, &m);
}

static struct slice line_take(struct slice *rest)
{
    const uint8_t *end = memchr(rest->ptr, '\n', rest->len);
    struct slice line = slice_of(rest->ptr, (size_t)(end - rest->ptr));

    *rest = slice_of(end + 1, rest->len - line.len - 1);
    return line.len ? line : SLICE_NULL;
}

static void schedule_get(const struct entry *e, struct jfacts_schedule *out)
{
    struct slice rest = entry_schedule(e);

    *out = (struct jfacts_schedule){0};
    if (!rest.len)
        return;
    out->pattern = line_take(&rest);
    out->zone = line_take(&rest);
    out->by = line_take(&rest);
    out->next = line_take(&rest);
}

static void schedule_put(struct jpublish *p, const struct jfacts_schedule *c)
{
    if (c->pattern.len || c->by.len)
        buf_printf(&p->schedule, "%.*s\n%.*s\n%.*s\n%.*s\n", (int)c->pattern.len,
                   (const char *)c->pattern.ptr, (int)c->zone.len, (const char *)c->zone.ptr,
                   (int)c->by.len, (const char *)c->by.ptr, (int)c->next.len,
                   (const char *)c->next.ptr);
}

static void entry_apply(struct jpublish *p, struct jbatch *b, struct entry *e)
{
    struct jfacts f = {.subject = entry_subject(e),
                       .msg_id = entry_id(e),
                       .bytes = e->bytes,
                       .ttl_s = e->ttl_s,
                       .rollup = (enum jrollup)e->rollup};
    struct append_place place;
    enum err err = append_place(b->a, e->slot, &place);

    ASSERT(!err);
    e->seq = jstream_seq(p->s, place.offset);
    f.time_ms = place.timestamp_ms;
    schedule_get(e, &f.schedule);
    if (e->text_len)
        republish(p, e, jindex_subject_last(&p->s->index, f.subject), f.time_ms);
    jstore_add(p->s, e->seq, &f);
}

static void gap_apply(struct jpublish *p, struct jbatch *b, const struct entry *e)
{
    struct append_place place;
    enum err err = append_place(b->a, e->slot, &place);

    ASSERT(!err);
    jstore_gap(p->s, e->seq, jstream_seq(p->s, place.offset));
}

static void uncount(struct jpublish *p, struct jbatch *b, enum err failed)
{
    struct jfacts_schedule made = {0};
    uint64_t lost = 0;
    struct entry *e;
    size_t at = 0;

    while ((p->tracking || failed) && (e = entry_next(b, &at))) {
        if (e->kind != STORED)
            continue;
        if (p->tracking)
            ahead_take(p, entry_subject(e));
        if (failed && e->id_len)
            jstore_dedup_cancel(p->s, entry_id(e));
        if (failed) {
            schedule_get(e, &made);
            jschedules_failed(p->s, made.by);
        }
        lost += !e->reply_len && !e->copied;
    }
    if (failed)
        jcounters_forget(p->s, SLICE_NULL);
    if (failed && lost && !p->stopped)
        lose(p, lost, err_text(failed));
    p->msgs -= b->stored;
    p->bytes -= b->bytes;
    if (!p->msgs) {
        p->tracking = false;
        buf_clear(&p->last_id);
    }
    pressed_set(p);
}

/* Who takes nothing of it does not keep it: retention by interest. */
static void forget_unwanted(struct jstream *s, struct jbatch *b)
{
    struct entry *e;
    size_t at = 0;

    if (s->conf.retention != JRETENTION_INTEREST)
        return;
    while ((e = entry_next(b, &at)))
        if (e->kind == STORED && !jconsumers_take(s, entry_subject(e)))
            jstore_remove(s, e->seq);
}

static struct jbatch *batch_next(struct jpublish *p);
static void submit(struct jpublish *p);

static void batch_apply(struct jwritten *w)
{
    struct jbatch *b = list_entry(w, struct jbatch, w);
    struct jstream *s = b->s;
    struct jpublish *p = s->pub;
    struct entry *e;
    size_t at = 0;

    p->under_way--;
    p->away -= b->stored;
    list_remove(&b->link);
    uncount(p, b, ERR_OK);
    if (!s->gone) {
        while ((e = entry_next(b, &at)))
            if (e->kind == STORED)
                entry_apply(p, b, e);
            else if (e->kind == FILLED)
                gap_apply(p, b, e);
        answers(p, b, ERR_OK);
        forget_unwanted(s, b);
        jconsumers_stored(s, jstream_seq(s, w->first), jstream_seq(s, w->last));
    }
    jsources_came(s, b, ERR_OK);
    batch_done(p, b);
    if (p->redoing || batch_next(p) || !list_empty(&p->held))
        js_later(js_loop(s->js, s->l), &p->later);
}

static void batch_back(struct loop_task *t)
{
    struct jbatch *b = list_entry(t, struct jbatch, task);
    struct jstream *s = b->s;
    struct jpublish *p = s->pub;
    struct append_place first, last;

    p->submitted--;
    if (b->e) {
        p->under_way--;
        p->away -= b->stored;
        list_remove(&b->link);
        uncount(p, b, b->e);
        answers(p, b, b->e);
        jsources_came(s, b, b->e);
        batch_done(p, b);
        jstore_follow(s);
        if (!list_empty(&p->held))
            js_later(js_loop(s->js, s->l), &p->later);
    } else {
        append_place(b->a, b->first, &first);
        append_place(b->a, b->last, &last);
        b->w.first = first.offset;
        b->w.last = last.offset;
        jstore_written(s, &b->w);
    }
    submit(p);
    js_end(s->js);
    jstream_unref(s);
}

/* ---- the end of a turn ---- */

static void batch_fail(struct jpublish *p, struct jbatch *b, enum err e)
{
    uncount(p, b, e);
    answers(p, b, e);
    jsources_came(p->s, b, e);
    batch_done(p, b);
}

/* The open one is as large as an append may be. */
static void batch_close(struct jpublish *p)
{
    list_push_back(&p->closed, &p->open->link);
    p->open = NULL;
}

/* The one that is to be submitted next, which may be now; NULL: none. */
static struct jbatch *batch_next(struct jpublish *p)
{
    struct jbatch *b =
        list_empty(&p->closed) ? p->open : list_entry(p->closed.node.next, struct jbatch, link);
    bool busy;

    if (!b)
        return NULL;
    busy = b->stored && !b->e ? p->submitted >= BATCHES : p->submitted || p->under_way;
    return busy ? NULL : b;
}

static void batch_take(struct jpublish *p, struct jbatch *b)
{
    if (b == p->open)
        p->open = NULL;
    else
        list_remove(&b->link);
}

static void reserve_end(struct jpublish *p)
{
    if (p->reserved)
        partition_reserve_end(p->s->p);
    p->reserved = false;
}

/* It is with the broker. */
static void batch_taken(struct jpublish *p, struct jbatch *b)
{
    batch_take(p, b);
    p->submitted++;
    p->under_way++;
    p->away += b->stored;
    list_push_back(&p->batches, &b->link);
    if (b->guarded) {
        reserve_end(p);
        p->late = 0;
    }
}

/* Others were first: what they appended is to be in the index before anything goes on. */
static void redo_later(struct jpublish *p)
{
    struct jstream *s = p->s;

    p->redoing = true;
    if (++p->late > LATE_MAX) {
        partition_reserve(s->p, RESERVE_MS);
        p->reserved = true;
    }
    p->redo_from = partition_next_offset(s->p);
    loop_timer_arm(s->l->loop, &p->retry, REDO_MS);
}

/* False: not now. */
static bool submit_one(struct jpublish *p, struct jbatch *b)
{
    struct jstream *s = p->s;
    enum err e = ERR_TOPIC_NOT_FOUND; /* if there is nothing in it that could fail, or all does */

    if (b->e) {
        e = b->e;
    } else if (b->stored && !p->stopped) {
        jstream_ref(s);
        js_begin(s->js);
        if (!b->guarded)
            reserve_end(p);
        else
            append_expect(b->a, s->p, b->base);
        e = append_submit(b->a, true, NULL);
        if (!e) {
            batch_taken(p, b);
            return true;
        }
        js_end(s->js);
        jstream_unref(s);
        if (e == ERR_OFFSET_TAKEN) {
            redo_later(p);
            return false;
        }
        if (e == ERR_OVERLOADED) {
            loop_timer_arm(s->l->loop, &p->retry, RETRY_MS);
            return false;
        }
        if (p->under_way) { /* answers keep their order */
            b->e = e;
            return false;
        }
    }
    batch_take(p, b);
    batch_fail(p, b, e);
    return true;
}

static void submit(struct jpublish *p)
{
    struct jbatch *b;

    while (!p->redoing && (b = batch_next(p)) && submit_one(p, b))
        ;
    if (!p->redoing)
        reserve_end(p);
}

static void redo_try(struct jpublish *p);

static void on_later(struct jlater *j)
{
    struct jpublish *p = list_entry(j, struct jpublish, later);

    if (p->redoing)
        redo_try(p);
    else
        jpublish_go_on(p->s);
    if (!loop_timer_armed(&p->retry))
        submit(p);
}

static void on_retry(struct loop_timer *t)
{
    struct jpublish *p = list_entry(t, struct jpublish, retry);
    int64_t next;

    if (p->redoing) { /* what the journal gave up does not come */
        next = partition_next_offset(p->s->p);
        if (next < p->redo_from)
            p->redo_from = next;
        redo_try(p);
        if (p->redoing)
            loop_timer_arm(p->s->l->loop, &p->retry, REDO_MS);
    }
    submit(p);
}

void jpublish_followed(struct jstream *s)
{
    if (s->pub && s->pub->redoing)
        js_later(js_loop(s->js, s->l), &s->pub->later);
}

/* ---- checks ---- */

static uint64_t last_seq(const struct jpublish *p)
{
    return p->s->index.last + p->msgs;
}

/* The last message of a subject, of those on their way too; a pattern takes several. */
static uint64_t subject_last(struct jpublish *p, struct slice subject)
{
    struct jfilter *f;
    uint64_t seq;

    ahead_track(p);
    seq = p->tracking ? get(&p->last, subject_hash(p, subject)) : 0;
    if (seq)
        return seq;
    if (!subject_has_wildcard(subject))
        return jindex_subject_last(&p->s->index, subject);
    f = jfilter_new(&subject, 1);
    seq = jindex_prev(&p->s->index, f, p->s->index.last);
    jfilter_free(&f);
    return seq;
}

uint64_t jpublish_last(struct jstream *s, struct slice subject)
{
    return subject_last(s->pub, subject);
}

static uint64_t subject_count(struct jpublish *p, struct slice subject)
{
    ahead_track(p);
    return jindex_subject_count(&p->s->index, subject) +
           (p->tracking ? get(&p->count, subject_hash(p, subject)) : 0);
}

static bool check_expected(struct jpublish *p, const struct jwish *w, struct slice subject,
                           struct js_fault *f)
{
    struct jstream *s = p->s;
    struct slice of = w->expect_for.len ? w->expect_for : subject, id;
    uint64_t seq;

    if (w->expect_stream.len && !slice_eq_str(w->expect_stream, s->conf.name))
        return js_fault_set(f, JSE_STREAM_NOT_MATCH, NULL);
    if (w->has_subject_seq) {
        seq = subject_last(p, of);
        if (seq != w->subject_seq)
            return js_fault_set(f, JSE_STREAM_WRONG_LAST_SEQUENCE, "%" PRIu64, seq);
    } else if (w->expect_for.len) {
        return js_fault_set(f, JSE_STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID, NULL);
    }
    if (w->has_last_seq && w->last_seq != last_seq(p))
        return js_fault_set(f, JSE_STREAM_WRONG_LAST_SEQUENCE, "%" PRIu64, last_seq(p));
    if (w->expect_id.len) {
        id = p->msgs ? buf_slice(&p->last_id) : jstore_last_id(s);
        if (!slice_eq(w->expect_id, id))
            return js_fault_set(f, JSE_STREAM_WRONG_LAST_MSG_ID, "%.*s", (int)id.len,
                                (const char *)id.ptr);
    }
    return true;
}

static bool check_wish(struct jpublish *p, const struct jwish *w, struct js_fault *f)
{
    const struct jstream_conf *c = &p->s->conf;

    if (w->ttl_bad)
        return js_fault_set(f, JSE_MESSAGE_TTL_INVALID, NULL);
    if (w->facts.ttl_s && !c->allow_ttl)
        return js_fault_set(f, JSE_MESSAGE_TTL_DISABLED, NULL);
    if (w->rollup_bad)
        return js_fault_set(f, JSE_STREAM_ROLLUP_FAILED, "rollup value invalid: \"%.*s\"",
                            (int)w->rollup.len, (const char *)w->rollup.ptr);
    if (w->facts.rollup && (!c->allow_rollup || c->deny_purge))
        return js_fault_set(f, JSE_STREAM_ROLLUP_FAILED, "%s", "rollup not permitted");
    return true;
}

static bool check_limits(struct jpublish *p, struct slice subject, uint32_t bytes,
                         struct js_fault *f)
{
    const struct jstream_conf *c = &p->s->conf;
    const struct jindex *x = &p->s->index;
    bool full_subject = false;

    if (c->discard != JDISCARD_NEW)
        return true;
    if (c->max_msgs_per_subject > 0)
        full_subject = subject_count(p, subject) >= (uint64_t)c->max_msgs_per_subject;
    if (full_subject && c->discard_new_per)
        return js_fault_set(f, JSE_STREAM_STORE_FAILED, "%s",
                            "maximum messages per subject exceeded");
    if (c->max_msgs > 0 && x->msgs + p->msgs >= (uint64_t)c->max_msgs && !full_subject)
        return js_fault_set(f, JSE_STREAM_STORE_FAILED, "%s", "maximum messages exceeded");
    if (c->max_bytes > 0 && x->bytes + p->bytes + bytes > (uint64_t)c->max_bytes && !full_subject)
        return js_fault_set(f, JSE_STREAM_STORE_FAILED, "%s", "maximum bytes exceeded");
    return true;
}

static bool check(struct jpublish *p, const struct jwish *w, struct slice headers,
                  struct slice payload, struct js_fault *f)
{
    const struct jstream_conf *c = &p->s->conf;

    if (c->sealed)
        return js_fault_set(f, JSE_STREAM_SEALED, NULL);
    if (headers.len > UINT16_MAX)
        return js_fault_set(f, JSE_STREAM_HEADER_EXCEEDS_MAXIMUM, NULL);
    if (c->max_msg_size >= 0 && headers.len + payload.len > (uint64_t)c->max_msg_size)
        return js_fault_set(f, JSE_STREAM_MESSAGE_EXCEEDS_MAXIMUM, NULL);
    if (p->bytes > BYTES_MAX)
        return js_fault_set(f, JSE_STREAM_TOO_MANY_REQUESTS, NULL);
    if (!jcounters_check(p->s, w, payload.len, f))
        return false;
    if (w->stream_source.len)
        return js_fault_set(f, JSE_MESSAGE_SOURCE_HDR_NOT_ALLOWED, NULL);
    if (c->allow_counter && !w->incr.len)
        return js_fault_set(f, JSE_MESSAGE_INCR_MISSING, NULL);
    return check_wish(p, w, f) && check_expected(p, w, w->facts.subject, f) &&
           jschedules_check(p->s, w, f) && check_limits(p, w->facts.subject, w->facts.bytes, f);
}

/* Whether what is decided on a message holds only as long as nobody else appends. */
static bool depends(const struct jpublish *p, const struct jwish *w)
{
    const struct jstream_conf *c = &p->s->conf;

    if (w->has_subject_seq || w->has_last_seq || w->expect_id.len || c->allow_counter)
        return true;
    return c->discard == JDISCARD_NEW && (c->max_msgs > 0 || c->max_bytes > 0 ||
                                          (c->max_msgs_per_subject > 0 && c->discard_new_per));
}

/* Whether a publisher may know of more than the index has: what others appended is durable already.
 * Then it is waited for. */
static bool knows_more(struct jpublish *p, const struct jwish *w)
{
    uint64_t wants = w->has_subject_seq ? w->subject_seq : w->has_last_seq ? w->last_seq : 0;
    int64_t end;

    if (wants <= p->s->index.last)
        return false;
    end = partition_lso(p->s->p);
    if (end <= jstore_next(p->s) + (int64_t)p->away)
        return false;
    p->redoing = true;
    p->redo_from = end;
    loop_timer_arm(p->s->l->loop, &p->retry, REDO_MS);
    return true;
}

/* ---- a message comes ---- */

/* Whether it was there before, or is on its way: then it is answered so. */
static bool known(struct jpublish *p, struct slice reply, struct slice id)
{
    uint64_t seq = jstore_dedup_find(p->s, id);
    struct entry *e;

    if (!seq)
        return false;
    if (reply.len && !p->s->conf.no_ack) {
        e = entry_add(p, KNOWN, SLICE_NULL, reply, seq == UINT64_MAX ? id : SLICE_NULL, SLICE_NULL);
        e->seq = seq;
    }
    return true;
}

/* What a record may take of a batch. */
static size_t record_room(const struct jwish *w, struct slice headers, struct slice payload)
{
    return w->facts.subject.len + 3 * headers.len + payload.len + RECORD_ROOM;
}

static bool fits(const struct jpublish *p, size_t room)
{
    return !p->open || !p->open->stored || append_bytes(p->open->a) + room <= p->batch_bytes;
}

static enum err record_put(struct jpublish *p, const struct jwish *w, struct slice headers,
                           struct slice payload, struct append_slot *slot)
{
    struct append_record r = {.timestamp_ms = w->facts.time_ms ? w->facts.time_ms : -1,
                              .key = w->facts.subject,
                              .value = payload};
    size_t room = record_room(w, headers, payload);
    uint32_t n = 0;

    if (headers.len && !nheader_to_record(headers, p->headers, LIMIT_RECORD_HEADERS, &n))
        return ERR_TOO_LARGE;
    if (slice_is_null(r.value))
        r.value = SLICE_LIT("");
    r.headers = p->headers;
    r.headers_n = n;
    if (!p->together && !fits(p, room))
        batch_close(p);
    if (!p->open)
        p->open = batch_new(p);
    return append_record(p->open->a, p->s->topic, 0, &r, slot, NULL);
}

/* What is kept of a message that is to be sent on once it is durable: headers without the last line,
 * how many bytes that is, payload. Nothing: it is not. */
static struct slice republished(struct jpublish *p, struct slice subject, struct slice headers,
                                struct slice payload)
{
    const struct jrepublish *r = p->s->conf.republish;
    struct slice head =
        headers.len > 2 ? slice_of(headers.ptr, headers.len - 2) : SLICE_LIT("NATS/1.0\r\n");
    uint32_t n = (uint32_t)head.len;

    if (!r || !r->dest || (r->src && *r->src && !subject_match(slice_str(r->src), subject)))
        return SLICE_NULL;
    buf_clear(&p->sent);
    buf_append(&p->sent, &n, sizeof n);
    buf_append_slice(&p->sent, head);
    if (!r->headers_only)
        buf_append_slice(&p->sent, payload);
    else
        buf_printf(&p->sent, "%zu", payload.len);
    return buf_slice(&p->sent);
}

/* So many records are in the open batch, up to the one at this slot. */
static void batch_count(struct jpublish *p, struct append_slot first, struct append_slot last,
                        uint32_t n, uint32_t bytes)
{
    struct jbatch *b = p->open;

    if (!b->stored)
        b->first = first;
    b->stored += n;
    b->last = last;
    b->bytes += bytes;
    p->bytes += bytes;
    p->msgs += n;
}

static enum err store(struct jpublish *p, struct slice reply, const struct jwish *w,
                      struct slice headers, struct slice payload)
{
    struct append_slot slot;
    struct entry *e;
    enum err err = record_put(p, w, headers, payload, &slot);

    if (err)
        return err;
    schedule_put(p, &w->facts.schedule);
    e = entry_add(p, STORED, w->facts.subject, p->s->conf.no_ack ? SLICE_NULL : reply,
                  w->facts.msg_id, republished(p, w->facts.subject, headers, payload));
    e->rollup = (uint8_t)w->facts.rollup;
    e->copied = p->copying;
    e->ttl_s = w->facts.ttl_s;
    e->bytes = w->facts.bytes;
    e->slot = slot;
    batch_count(p, slot, slot, 1, w->facts.bytes);
    if (p->tracking)
        ahead_add(p, w->facts.subject, last_seq(p));
    jcounters_note(p->s, w, last_seq(p));
    buf_clear(&p->last_id);
    if (w->facts.msg_id.len) {
        buf_append_slice(&p->last_id, w->facts.msg_id);
        if (p->s->conf.duplicates_ns > 0)
            jstore_dedup_begin(p->s, w->facts.msg_id);
    }
    pressed_set(p);
    return ERR_OK;
}

static struct slice mapped(struct jpublish *p, struct slice subject)
{
    const struct jtransform *t = p->s->conf.transform;

    return t && t->dest &&
                   jtransform_apply(slice_str(t->src), slice_str(t->dest), subject, &p->mapped)
               ? buf_slice(&p->mapped)
               : subject;
}

/* A schedule replaces the one before it. */
static void amend_schedule(struct jwish *w, struct jmsg *m, struct buf *text)
{
    w->facts.rollup = JROLLUP_SUBJECT;
    buf_clear(text);
    buf_append(text, m->headers.ptr, m->headers.len - 2);
    buf_append_str(text, "Nats-Rollup: sub\r\n\r\n");
    w->facts.bytes += (uint32_t)(text->len - m->headers.len);
    m->headers = buf_slice(text);
}

/* m, a checked message, becomes what is to be stored, perhaps in text. ERR_AGAIN: that is not known
 * yet; ERR_INVALID: f. */
static enum err amend(struct jpublish *p, struct jwish *w, struct jmsg *m, bool copied,
                      struct buf *text, struct js_fault *f)
{
    if (w->incr.len && p->s->conf.allow_counter)
        return jcounters_add(p->s, w, m, copied, text, f);
    if (w->facts.schedule.pattern.len && !w->facts.rollup && !copied)
        amend_schedule(w, m, text);
    return ERR_OK;
}

static struct held *held_new(struct slice subject, struct slice reply, struct slice headers,
                             struct slice payload, struct slice tail)
{
    const struct slice part[] = {subject, reply, headers, payload, tail};
    struct held *h =
        xmalloc(sizeof *h + subject.len + reply.len + headers.len + payload.len + tail.len);
    uint8_t *at = h->text;
    unsigned i;

    *h = (struct held){.subject_len = (uint32_t)subject.len,
                       .reply_len = (uint32_t)reply.len,
                       .header_len = (uint32_t)headers.len,
                       .payload_len = (uint32_t)payload.len,
                       .tail_len = (uint32_t)tail.len};
    for (i = 0; i < sizeof part / sizeof *part; at += part[i++].len)
        if (part[i].len)
            memcpy(at, part[i].ptr, part[i].len);
    return h;
}

static size_t held_size(const struct held *h)
{
    return sizeof *h + h->subject_len + h->reply_len + h->header_len + h->payload_len + h->tail_len;
}

/* A message is put in that depends on what is in the log, or not: those that do not, and are made
 * anew by nobody, stay apart. */
static void guard_begin(struct jpublish *p, bool depending)
{
    if (p->open && p->open->entries.len && p->open->guarded != depending)
        batch_close(p);
}

/* What was put into the open batch is remembered, if it may have to be checked anew. */
static void guard_tell(struct jpublish *p, bool depending, struct held *h)
{
    struct jbatch *b = p->open;

    if (!b || !(depending || b->guarded)) {
        free(h);
        return;
    }
    if (!b->guarded) /* what came meanwhile makes it too small */
        b->base = jstore_next(p->s) + (int64_t)(p->msgs - b->stored);
    b->guarded = true;
    b->told_bytes += held_size(h);
    p->held_bytes += held_size(h);
    list_push_back(&b->told, &h->link);
    pressed_set(p);
}

static void message_refuse(struct jpublish *p, struct slice reply, const struct js_fault *f,
                           bool lost)
{
    refuse(p, reply, f);
    if (!reply.len && (lost || f->e == JSE_STREAM_TOO_MANY_REQUESTS))
        lose(p, 1, f->text);
}

/* False: it waits, as there is more in the log than was looked at. */
static bool message_take(struct jpublish *p, struct jwish *w, struct slice reply,
                         struct slice headers, struct slice payload, bool may_wait)
{
    struct jmsg m = {.headers = headers, .payload = payload};
    struct js_fault f;
    enum err e;

    if (w->facts.msg_id.len && p->s->conf.duplicates_ns > 0 && known(p, reply, w->facts.msg_id))
        return true;
    if (!check(p, w, headers, payload, &f)) {
        if (may_wait && knows_more(p, w))
            return false;
        message_refuse(p, reply, &f, false);
        return true;
    }
    e = amend(p, w, &m, false, &p->amended, &f);
    if (e == ERR_AGAIN)
        return false;
    if (!e && w->sum.len)
        buf_printf(&p->tail, ", \"val\": \"%.*s\"", (int)w->sum.len, (const char *)w->sum.ptr);
    if (!e && (e = store(p, reply, w, m.headers, m.payload)))
        js_fault_set(&f, JSE_STREAM_STORE_FAILED, "%s", err_text(e));
    if (e) {
        buf_clear(&p->tail);
        message_refuse(p, reply, &f, e != ERR_INVALID);
    }
    return true;
}

static bool message(struct jpublish *p, struct slice as, struct slice reply, struct slice headers,
                    struct slice payload, bool may_wait)
{
    struct slice subject = mapped(p, as);
    struct jwish w = {.facts.subject = subject};
    bool depending;

    if (headers.len)
        jwish_read(&w, headers);
    if (w.batch.len) {
        if (!jbatches_ready(p->s, &w))
            return false;
        guard_begin(p, false);
        jbatches_take(p->s, &w,
                      &(struct jmsg){.subject = subject, .headers = headers, .payload = payload},
                      reply);
        return true;
    }
    w.facts.bytes = jstream_msg_bytes(subject.len, headers.len, payload.len);
    depending = depends(p, &w);
    if (depending)
        guard_begin(p, true);
    if (!message_take(p, &w, reply, headers, payload, may_wait))
        return false;
    if (depending || (p->open && p->open->guarded))
        guard_tell(p, depending, held_new(as, reply, headers, payload, SLICE_NULL));
    return true;
}

/* ---- while the stream is being loaded, or others' records are looked at ---- */

static void hold(struct jpublish *p, const struct nmsg *m)
{
    struct js_fault f;
    struct held *h;

    if (p->held_bytes + m->subject.len + m->reply.len + m->body.len > BYTES_MAX) {
        js_fault_set(&f, JSE_STREAM_TOO_MANY_REQUESTS, NULL);
        refuse(p, m->reply, &f);
        if (!m->reply.len)
            lose(p, 1, f.text);
        return;
    }
    h = held_new(m->subject, m->reply, slice_of(m->body.ptr, m->header_len),
                 slice_of(m->body.ptr + m->header_len, m->body.len - m->header_len), SLICE_NULL);
    list_push_back(&p->held, &h->link);
    p->held_bytes += held_size(h);
    pressed_set(p);
}

static bool redo_one(struct jpublish *p, struct list_head *told, bool may_wait);

/* Subject, reply, headers, payload, tail. */
static void held_parts(const struct held *h, struct slice part[5])
{
    const uint32_t len[] = {h->subject_len, h->reply_len, h->header_len, h->payload_len,
                            h->tail_len};
    const uint8_t *at = h->text;
    unsigned i;

    for (i = 0; i < 5; at += len[i++])
        part[i] = slice_of(at, len[i]);
}

static void held_end(struct jpublish *p, bool loaded)
{
    struct held *h, *end;
    size_t n;

    while (!loaded && !list_empty(&p->held)) {
        h = list_entry(list_pop_front(&p->held), struct held, link);
        p->held_bytes -= held_size(h);
        free(h);
    }
    while (!list_empty(&p->held) && !p->redoing) {
        h = list_entry(p->held.node.next, struct held, link);
        for (n = held_size(h), end = h; end->more; n += held_size(end))
            end = list_entry(end->link.next, struct held, link);
        if (!redo_one(p, &p->held, true))
            break;
        p->held_bytes -= n;
    }
    pressed_set(p);
}

void jpublish_loaded(struct jstream *s)
{
    held_end(s->pub, true);
}

void jpublish_go_on(struct jstream *s)
{
    struct jpublish *p = s->pub;

    if (p && !p->stopped && !s->loading && !p->redoing)
        held_end(p, true);
}

void jpublish_handle(struct nsub *sub, struct nmsg *m)
{
    struct jstream *s = sub->arg;
    struct jpublish *p = s->pub;

    if (s->gone || !p || p->stopped)
        return;
    if (s->loading || p->redoing || !list_empty(&p->held) ||
        !message(p, m->subject, m->reply, slice_of(m->body.ptr, m->header_len),
                 slice_of(m->body.ptr + m->header_len, m->body.len - m->header_len), true))
        hold(p, m);
}

void jpublish_own(struct jstream *s, struct slice subject, struct slice headers,
                  struct slice payload)
{
    if (s->pub && !s->pub->stopped)
        message(s->pub, subject, SLICE_NULL, headers, payload, false);
}

/* ---- several at once ---- */

void jpublish_answer(struct jstream *s, struct slice reply, const struct js_fault *f)
{
    if (f)
        refuse(s->pub, reply, f);
    else if (reply.len && !s->conf.no_ack)
        entry_add(s->pub, REFUSED, SLICE_NULL, reply, SLICE_NULL, SLICE_NULL);
}

/* What one message of several changes in what is on its way, so that it can be taken back. */
struct ahead {
    uint64_t hash, last;
    struct jwish w;
    struct jmsg m; /* as it is to be stored, perhaps in: */
    struct buf amended;
};

struct several {
    struct jpublish *p;
    struct ahead *v;
    unsigned n; /* that count as if they were on their way */
    struct map ids;
    size_t room; /* that all of them take in an append, at most */
};

static void several_add(struct several *sv, struct ahead *a)
{
    struct jpublish *p = sv->p;

    ahead_track(p);
    a->hash = subject_hash(p, a->w.facts.subject);
    a->last = get(&p->last, a->hash);
    p->msgs++;
    p->bytes += a->w.facts.bytes;
    ahead_add(p, a->w.facts.subject, last_seq(p));
    jcounters_note(p->s, &a->w, last_seq(p));
    sv->n++;
}

static void several_undo(struct several *sv)
{
    struct jpublish *p = sv->p;
    struct ahead *a;

    while (sv->n) {
        a = &sv->v[--sv->n];
        ahead_take(p, a->w.facts.subject);
        jcounters_forget(p->s, a->w.facts.subject);
        set(&p->last, a->hash, a->last);
        p->msgs--;
        p->bytes -= a->w.facts.bytes;
    }
}

/* Whether a message before it has this subject. */
static bool several_has(const struct several *sv, struct slice subject)
{
    unsigned i;

    for (i = 0; i < sv->n; i++)
        if (slice_eq(sv->v[i].w.facts.subject, subject))
            return true;
    return false;
}

static bool several_id(struct several *sv, const struct jwish *w, struct js_fault *f)
{
    struct jstream *s = sv->p->s;
    uint64_t seq;

    if (!w->facts.msg_id.len || s->conf.duplicates_ns <= 0)
        return true;
    seq = jstore_dedup_find(s, w->facts.msg_id);
    if (seq == UINT64_MAX)
        return js_fault_set(f, JSE_STREAM_DUPLICATE_MESSAGE_CONFLICT, NULL);
    if (seq || map_put(&sv->ids, w->facts.msg_id, sv))
        return js_fault_set(f, JSE_ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE, NULL);
    return true;
}

static bool several_check(struct several *sv, struct ahead *a, const struct jmsg *m,
                          struct js_fault *f)
{
    struct jpublish *p = sv->p;
    struct jwish *w = &a->w;
    uint32_t headers = 0;
    enum err e;

    w->facts.subject = m->subject;
    jwish_read(w, m->headers);
    w->facts.bytes = jstream_msg_bytes(m->subject.len, m->headers.len, m->payload.len);
    if (w->expect_id.len)
        return js_fault_set(f, JSE_ATOMIC_PUBLISH_UNSUPPORTED_HEADER_BATCH, "%s",
                            "Nats-Expected-Last-Msg-Id");
    if ((w->has_last_seq && sv->n) ||
        (w->has_subject_seq && several_has(sv, w->expect_for.len ? w->expect_for : m->subject)))
        return js_fault_set(f, JSE_STREAM_WRONG_LAST_SEQUENCE_CONSTANT, NULL);
    if (!nheader_to_record(m->headers, p->headers, LIMIT_RECORD_HEADERS, &headers))
        return js_fault_set(f, JSE_STREAM_STORE_FAILED, "%s", err_text(ERR_TOO_LARGE));
    if (!several_id(sv, w, f) || !check(p, w, m->headers, m->payload, f))
        return false;
    a->m = *m;
    e = amend(p, w, &a->m, false, &a->amended, f);
    if (e == ERR_AGAIN)
        js_fault_set(f, JSE_STREAM_STORE_FAILED, "%s", err_text(e));
    sv->room += record_room(w, a->m.headers, a->m.payload);
    return !e;
}

static bool several_checked(struct several *sv, const struct jmsg *v, unsigned n,
                            struct js_fault *f)
{
    struct jpublish *p = sv->p;
    bool ok = true;
    unsigned i;

    for (i = 0; ok && i < n; i++) {
        ok = several_check(sv, &sv->v[i], &v[i], f);
        if (ok)
            several_add(sv, &sv->v[i]);
    }
    several_undo(sv);
    if (ok && sv->room > append_bytes_max(p->s->js->b))
        ok = js_fault_set(f, JSE_ATOMIC_PUBLISH_TOO_LARGE_BATCH, "%zu bytes",
                          append_bytes_max(p->s->js->b));
    return ok;
}

static bool several_depend(const struct several *sv, unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i++)
        if (depends(sv->p, &sv->v[i].w))
            return true;
    return false;
}

static void several_tell(struct jpublish *p, struct slice reply, struct slice tail,
                         const struct jmsg *v, unsigned n)
{
    struct held *h;
    unsigned i;

    for (i = 0; i < n; i++) {
        h = held_new(v[i].subject, i + 1 == n ? reply : SLICE_NULL, v[i].headers, v[i].payload,
                     i + 1 == n ? tail : SLICE_NULL);
        h->more = i + 1 < n;
        guard_tell(p, true, h);
    }
}

bool jpublish_all(struct jstream *s, struct slice reply, struct slice tail, const struct jmsg *v,
                  unsigned n, struct js_fault *f)
{
    struct several sv = {.p = s->pub, .v = xcalloc(n, sizeof(struct ahead))};
    enum err e = ERR_OK;
    bool ok, depending;
    unsigned i;

    map_init(&sv.ids, n, s->js->seed);
    for (i = 0; i < n; i++)
        buf_init(&sv.v[i].amended, SIZE_MAX);
    ok = several_checked(&sv, v, n, f);
    depending = ok && several_depend(&sv, n);
    if (depending)
        guard_begin(s->pub, true);
    if (ok && !fits(s->pub, sv.room))
        batch_close(s->pub);
    s->pub->together = true;
    for (i = 0; ok && i < n && !e; i++) {
        s->pub->copying = i + 1 < n;
        if (i + 1 == n)
            buf_append_slice(&s->pub->tail, tail);
        e = store(s->pub, i + 1 == n ? reply : SLICE_NULL, &sv.v[i].w, sv.v[i].m.headers,
                  sv.v[i].m.payload);
    }
    s->pub->together = s->pub->copying = false;
    if (e && i > 1)
        s->pub->open->e = e; /* what is in it already goes with it */
    if (e) {
        buf_clear(&s->pub->tail);
        ok = js_fault_set(f, JSE_STREAM_STORE_FAILED, "%s", err_text(e));
    }
    if (ok && depending)
        several_tell(s->pub, reply, tail, v, n);
    map_fini(&sv.ids);
    for (i = 0; i < n; i++)
        buf_fini(&sv.v[i].amended);
    free(sv.v);
    return ok;
}

/* ---- again, as others were first ---- */

/* What is of one unit, from the first of the list on. */
static void redo_several(struct jpublish *p, struct list_head *told)
{
    struct slice part[5], reply, tail;
    struct list_head mine;
    struct js_fault f;
    struct jmsg *v = NULL;
    struct held *h;
    unsigned n = 0;
    bool more;

    list_init(&mine);
    do {
        h = list_entry(list_pop_front(told), struct held, link);
        list_push_back(&mine, &h->link);
        more = h->more;
        held_parts(h, part);
        v = xrealloc(v, (n + 1) * sizeof *v);
        v[n++] = (struct jmsg){.subject = part[0], .headers = part[2], .payload = part[3]};
        reply = part[1];
        tail = part[4];
    } while (more);
    guard_begin(p, false);
    if (!jpublish_all(p->s, reply, tail, v, n, &f))
        jpublish_answer(p->s, reply, &f);
    while (!list_empty(&mine))
        free(list_entry(list_pop_front(&mine), struct held, link));
    free(v);
}

/* Whether the first of the list, with what is of one unit, can be stored as far as sums go. */
static bool unit_ready(struct jpublish *p, const struct list_head *list)
{
    struct slice part[5];
    struct held *h;

    if (!p->s->conf.allow_counter)
        return true;
    list_for_each(h, list, struct held, link)
    {
        held_parts(h, part);
        if (!jcounters_ready(p->s, part[0]))
            return false;
        if (!h->more)
            break;
    }
    return true;
}

/* False: the first one waits. */
static bool redo_one(struct jpublish *p, struct list_head *told, bool may_wait)
{
    struct held *h = list_entry(told->node.next, struct held, link);
    struct slice part[5];

    if (h->more) {
        if (!unit_ready(p, told))
            return false;
        redo_several(p, told);
        return true;
    }
    held_parts(h, part);
    if (!message(p, part[0], part[1], part[2], part[3], may_wait))
        return false;
    list_remove(&h->link);
    free(h);
    return true;
}

/* Those that wait do so before all that came later. */
static void redo_hold(struct jpublish *p, struct list_head *told)
{
    struct list_head later;
    struct held *h;

    list_init(&later);
    while (!list_empty(&p->held))
        list_push_back(&later, list_pop_front(&p->held));
    while (!list_empty(told)) {
        h = list_entry(list_pop_front(told), struct held, link);
        p->held_bytes += held_size(h);
        list_push_back(&p->held, &h->link);
    }
    while (!list_empty(&later))
        list_push_back(&p->held, list_pop_front(&later));
}

/* It is as if what is in the batch had not come yet. */
static void redo_uncount(struct jpublish *p, struct jbatch *b)
{
    struct entry *e;
    size_t at = 0;

    while ((e = entry_next(b, &at)))
        if (e->kind == STORED) {
            if (p->tracking)
                ahead_take(p, entry_subject(e));
            if (b->guarded && e->id_len)
                jstore_dedup_cancel(p->s, entry_id(e));
        }
    p->msgs -= b->stored;
    p->bytes -= b->bytes;
}

/* What depends on nothing stays as it was made, behind what came before it. */
static void redo_keep(struct jpublish *p, struct jbatch *b)
{
    uint64_t seq = last_seq(p);
    struct entry *e;
    size_t at = 0;

    if (p->open)
        batch_close(p);
    if (p->tracking)
        ahead_scan(p, b, &seq);
    while ((e = entry_next(b, &at)))
        if (e->kind == STORED) {
            buf_clear(&p->last_id);
            buf_append_slice(&p->last_id, entry_id(e));
        }
    p->msgs += b->stored;
    p->bytes += b->bytes;
    list_push_back(&p->closed, &b->link);
}

static void redo(struct jpublish *p)
{
    struct list_head old, told;
    bool waits = false;
    struct jbatch *b;

    loop_timer_cancel(p->s->l->loop, &p->retry);
    if (p->open)
        batch_close(p);
    list_init(&old);
    list_init(&told);
    while (!list_empty(&p->closed))
        list_push_back(&old, list_pop_front(&p->closed));
    list_for_each(b, &old, struct jbatch, link) redo_uncount(p, b);
    ASSERT(!p->msgs && !p->bytes);
    p->tracking = p->redoing = false;
    jcounters_forget(p->s, SLICE_NULL);
    buf_clear(&p->last_id);
    while (!list_empty(&old)) {
        b = list_entry(list_pop_front(&old), struct jbatch, link);
        if (!b->guarded || b->e) {
            redo_keep(p, b);
            continue;
        }
        while (!list_empty(&b->told))
            list_push_back(&told, list_pop_front(&b->told));
        batch_done(p, b);
        while (!waits && !list_empty(&told))
            waits = !redo_one(p, &told, false);
    }
    redo_hold(p, &told);
    held_end(p, true);
}

/* As soon as the index has what others appended. */
static void redo_try(struct jpublish *p)
{
    if (!p->stopped && !p->under_way && jstore_next(p->s) >= p->redo_from)
        redo(p);
}

/* ---- what is copied of other streams ---- */

static enum jcopied copy_check(struct jpublish *p, const struct jwish *w, const struct jmsg *m)
{
    const struct jstream_conf *c = &p->s->conf;
    struct js_fault f;

    if (m->headers.len > UINT16_MAX ||
        (c->max_msg_size >= 0 && m->headers.len + m->payload.len > (uint64_t)c->max_msg_size))
        return JCOPY_PASSED;
    if (p->bytes > BYTES_MAX || c->sealed || !check_limits(p, w->facts.subject, w->facts.bytes, &f))
        return JCOPY_LATER;
    return JCOPIED;
}

/* Where sums are stored, m becomes one. What may have to be added up anew is not added to. */
static enum jcopied copy_sum(struct jpublish *p, struct jwish *w, struct jmsg *m)
{
    struct js_fault f;
    struct jbatch *b;
    enum err e;

    if (!p->s->conf.allow_counter)
        return JCOPIED;
    if (!w->incr.len)
        return JCOPY_PASSED;
    if (p->redoing || (p->open && p->open->guarded))
        return JCOPY_LATER;
    list_for_each(b, &p->closed, struct jbatch, link) if (b->guarded) return JCOPY_LATER;
    e = amend(p, w, m, true, &p->amended, &f);
    return !e ? JCOPIED : e == ERR_AGAIN ? JCOPY_LATER : JCOPY_PASSED;
}

enum jcopied jpublish_copy(struct jstream *s, const struct jmsg *m, bool mirror)
{
    struct jmsg made = *m;
    struct jpublish *p = s->pub;
    struct jwish w = {.facts.subject = mapped(p, m->subject)};
    enum jcopied c;
    enum err e;

    guard_begin(p, false);
    if (m->headers.len)
        jwish_read(&w, m->headers);
    w.facts.bytes = jstream_msg_bytes(w.facts.subject.len, m->headers.len, m->payload.len);
    if (mirror)
        w.facts.time_ms = m->time_ns / 1000000;
    else if (w.facts.msg_id.len && s->conf.duplicates_ns > 0 &&
             jstore_dedup_find(s, w.facts.msg_id))
        return JCOPY_PASSED;
    if ((c = copy_check(p, &w, m)) != JCOPIED ||
        (!mirror && (c = copy_sum(p, &w, &made)) != JCOPIED))
        return c;
    if (!fits(p, record_room(&w, made.headers, made.payload)))
        return JCOPY_LATER; /* where to go on is written in the unit of what was copied */
    p->copying = true;
    e = store(p, SLICE_NULL, &w, made.headers, made.payload);
    p->copying = false;
    return !e ? JCOPIED : e == ERR_TOO_LARGE ? JCOPY_PASSED : JCOPY_LATER;
}

enum jcopied jpublish_scheduled(struct jstream *s, const struct jmsg *m, const char *ns,
                                struct slice key, struct slice value)
{
    struct jpublish *p = s->pub;
    struct jwish w = {.facts.subject = mapped(p, m->subject)};
    enum jcopied c;
    enum err e;

    jwish_read(&w, m->headers);
    w.facts.bytes = jstream_msg_bytes(w.facts.subject.len, m->headers.len, m->payload.len);
    if ((c = copy_check(p, &w, m)) != JCOPIED)
        return c;
    guard_begin(p, false);
    if (!fits(p, record_room(&w, m->headers, m->payload) + key.len + value.len))
        batch_close(p);
    p->copying = true;
    e = store(p, SLICE_NULL, &w, m->headers, m->payload);
    p->copying = false;
    if (!e && key.len)
        e = append_kv(p->open->a, ns, key, value);
    return !e ? JCOPIED : e == ERR_TOO_LARGE ? JCOPY_PASSED : JCOPY_LATER;
}

enum err jpublish_fill(struct jstream *s, uint64_t n)
{
    const struct append_record r = {.timestamp_ms = -1, .key = SLICE_LIT(""), .value = SLICE_NULL};
    struct jpublish *p = s->pub;
    struct jbatch *b = p->open ? p->open : (p->open = batch_new(p));
    struct append_slot first = {0}, slot = {0};
    struct entry *entry;
    uint64_t i;
    enum err e = ERR_OK;

    for (i = 0; i < n; i++) {
        if (!fits(p, RECORD_ROOM))
            e = ERR_LIMIT;
        else
            e = append_record(b->a, s->topic, 0, &r, &slot, NULL);
        if (e)
            break;
        if (!i)
            first = slot;
    }
    if (!i)
        return e;
    entry = entry_add(p, FILLED, SLICE_NULL, SLICE_NULL, SLICE_NULL, SLICE_NULL);
    entry->seq = i;
    entry->slot = slot;
    batch_count(p, first, slot, (uint32_t)i, 0);
    return e;
}

uint64_t jpublish_next(const struct jstream *s)
{
    return last_seq(s->pub) + 1;
}

const void *jpublish_copied(struct jstream *s, const char *ns, struct slice key, struct slice value)
{
    struct jbatch *b = s->pub->open;

    if (!b || !b->stored || append_kv(b->a, ns, key, value))
        return NULL;
    return b;
}

void jpublish_marker(struct jstream *s, struct slice subject, const char *reason)
{
    char text[256];
    int n = snprintf(text, sizeof text,
                     "NATS/1.0\r\nNats-Marker-Reason: %s\r\nNats-TTL: %" PRId64 "s\r\n"
                     "Nats-Rollup: sub\r\n\r\n",
                     reason, s->conf.marker_ttl_ns / 1000000000);

    jpublish_own(s, subject, slice_of(text, (size_t)n), SLICE_NULL);
}

bool jpublish_under_way(const struct jstream *s)
{
    return s->pub && s->pub->submitted;
}

/* ---- begin and end ---- */

void jpublish_changed(struct jstream *s)
{
    struct jpublish *p = s->pub;
    json_t *name = json_string(s->conf.name);
    char *text = json_dumps(name, JSON_ENCODE_ANY);
    size_t room = strlen(text) + 32;

    json_decref(name);
    free(p->ack);
    p->ack = xmalloc(room);
    p->ack_len = (size_t)snprintf(p->ack, room, "{\"stream\":%s, \"seq\":", text);
    free(text);
}

void jpublish_begin(struct jstream *s)
{
    struct jpublish *p = s->pub = xcalloc(1, sizeof *p);

    p->s = s;
    p->later.fn = on_later;
    p->batch_bytes = append_bytes_max(s->js->b);
    if (p->batch_bytes > BATCH_BYTES)
        p->batch_bytes = BATCH_BYTES;
    list_init(&p->batches);
    list_init(&p->closed);
    list_init(&p->held);
    loop_timer_init(&p->retry, on_retry);
    u64map_init(&p->last, LIMIT_JS_BLOCKS, 0);
    u64map_init(&p->count, LIMIT_JS_BLOCKS, 0);
    buf_init(&p->last_id, SIZE_MAX);
    buf_init(&p->tail, SIZE_MAX);
    buf_init(&p->schedule, SIZE_MAX);
    buf_init(&p->amended, SIZE_MAX);
    buf_init(&p->mapped, SIZE_MAX);
    buf_init(&p->sent, SIZE_MAX);
    p->headers = xcalloc(LIMIT_RECORD_HEADERS, sizeof *p->headers);
    jpublish_changed(s);
}

void jpublish_stop(struct jstream *s)
{
    struct jpublish *p = s->pub;
    struct jbatch *b;

    if (!p || p->stopped)
        return;
    p->stopped = true;
    p->redoing = false;
    reserve_end(p);
    loop_timer_cancel(s->l->loop, &p->retry);
    js_later_cancel(&p->later);
    held_end(p, false);
    if (p->open)
        batch_close(p);
    while (!list_empty(&p->closed)) {
        b = list_entry(list_pop_front(&p->closed), struct jbatch, link);
        batch_fail(p, b, ERR_TOPIC_NOT_FOUND);
    }
    if (p->spare)
        batch_free(p->spare);
    p->spare = NULL;
}

void jpublish_free(struct jstream *s)
{
    struct jpublish *p = s->pub;

    if (!p)
        return;
    ASSERT(!p->open && !p->spare && !p->under_way && list_empty(&p->closed) &&
           list_empty(&p->held));
    u64map_fini(&p->last);
    u64map_fini(&p->count);
    buf_fini(&p->last_id);
    buf_fini(&p->tail);
    buf_fini(&p->schedule);
    buf_fini(&p->amended);
    buf_fini(&p->mapped);
    buf_fini(&p->sent);
    free(p->headers);
    free(p->ack);
    free(p);
    s->pub = NULL;
}
