/* What is kept of a message until its append is back: entries of a batch. See js_publish_int.h.
 *
 * What is refused, or was there before, is an entry of the batch as well, so that answers come in
 * the order of the messages. All answers are sent from tasks and ends of turns: see js_int.h.
 *
 * What cannot be kept is answered with an error. Who asked for no answer gets none, so the server's
 * log tells of it, and a counter. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/subject.h"
#include "proto/nats/js_publish_int.h"
#include "proto/nats/js_schedule.h"
#include "proto/nats/js_transform.h"

#define TAIL_MAX 512u /* bytes that a PubAck has more, unless it is a counter's */
#define TOLD_MS  1000u

/* ---- its parts ---- */

static size_t padded(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

struct slice jpub_entry_subject(const struct jpub_entry *e)
{
    return slice_of(e + 1, e->subject_len);
}

static struct slice entry_reply(const struct jpub_entry *e)
{
    return slice_of((const uint8_t *)(e + 1) + e->subject_len, e->reply_len);
}

struct slice jpub_entry_id(const struct jpub_entry *e)
{
    return slice_of((const uint8_t *)(e + 1) + e->subject_len + e->reply_len, e->id_len);
}

static struct slice entry_text(const struct jpub_entry *e)
{
    return slice_of((const uint8_t *)(e + 1) + e->subject_len + e->reply_len + e->id_len,
                    e->text_len);
}

static struct slice entry_tail(const struct jpub_entry *e)
{
    return slice_of((const uint8_t *)(e + 1) + e->subject_len + e->reply_len + e->id_len +
                        e->text_len,
                    e->tail_len);
}

/* A line each: pattern, zone, by, next; empty: it is none. */
static struct slice entry_schedule(const struct jpub_entry *e)
{
    return slice_of((const uint8_t *)(e + 1) + e->subject_len + e->reply_len + e->id_len +
                        e->text_len + e->tail_len,
                    e->schedule_len);
}

static size_t entry_size(const struct jpub_entry *e)
{
    return padded(sizeof *e + e->subject_len + e->reply_len + e->id_len + e->text_len +
                  e->tail_len + e->schedule_len);
}

struct jpub_entry *jpub_entry_next(struct jpub_batch *b, size_t *at)
{
    struct jpub_entry *e;

    if (*at == b->entries.len)
        return NULL;
    e = (struct jpub_entry *)(void *)(b->entries.ptr + *at);
    *at += entry_size(e);
    return e;
}

/* ---- added ---- */

static uint8_t *put(uint8_t *at, struct slice s)
{
    return s.len ? (uint8_t *)memcpy(at, s.ptr, s.len) + s.len : at;
}

struct jpub_entry *jpub_entry_add(struct jpublish *p, enum jpub_kind kind, struct slice subject,
                                  struct slice reply, struct slice id, struct slice text)
{
    struct jpub_entry is = {.kind = kind,
                            .subject_len = (uint32_t)subject.len,
                            .reply_len = (uint32_t)reply.len,
                            .id_len = (uint32_t)id.len,
                            .text_len = (uint32_t)text.len,
                            .tail_len = (uint32_t)p->tail.len,
                            .schedule_len = (uint32_t)p->schedule.len};
    struct jpub_batch *b = jpub_batch_open(p);
    size_t n = entry_size(&is);
    struct jpub_entry *e;
    uint8_t *at;

    if (buf_reserve(&b->entries, n))
        abort(); /* no memory */
    e = (struct jpub_entry *)(void *)(b->entries.ptr + b->entries.len);
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
    p->entry_bytes += n;
    jpub_pressed_set(p);
    js_later(js_loop(p->s->js, p->s->l), &p->later);
    return e;
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

static void schedule_put(struct jpublish *p, const struct jfacts_schedule *c)
{
    if (c->pattern.len || c->by.len)
        buf_printf(&p->schedule, "%.*s\n%.*s\n%.*s\n%.*s\n", (int)c->pattern.len,
                   (const char *)c->pattern.ptr, (int)c->zone.len, (const char *)c->zone.ptr,
                   (int)c->by.len, (const char *)c->by.ptr, (int)c->next.len,
                   (const char *)c->next.ptr);
}

void jpub_entry_stored(struct jpublish *p, const struct jwish *w, struct slice reply,
                       struct slice headers, struct slice payload, struct append_slot slot)
{
    struct jpub_entry *e;

    schedule_put(p, &w->facts.schedule);
    e = jpub_entry_add(p, JPUB_STORED, w->facts.subject, p->s->conf.no_ack ? SLICE_NULL : reply,
                       w->facts.msg_id, republished(p, w->facts.subject, headers, payload));
    e->rollup = (uint8_t)w->facts.rollup;
    e->copied = p->copying;
    e->ttl_s = w->facts.ttl_s;
    e->bytes = w->facts.bytes;
    e->slot = slot;
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

void jpub_lose(struct jpublish *p, uint64_t n, const char *why)
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

void jpub_refuse(struct jpublish *p, struct slice reply, const struct js_fault *f)
{
    struct buf text;

    if (!reply.len || p->s->conf.no_ack)
        return;
    buf_init(&text, SIZE_MAX);
    fault_text(p->s, f, &text);
    jpub_entry_add(p, JPUB_REFUSED, SLICE_NULL, reply, SLICE_NULL, buf_slice(&text));
    buf_fini(&text);
}

static void send(struct jstream *s, struct slice to, struct slice text)
{
    struct nmsg m = {.subject = to, .body = text};

    nats_route(s->l, s->account, &m);
}

static void ack(struct jpublish *p, const struct jpub_entry *e, bool duplicate)
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

static void answer(struct jpublish *p, struct jpub_entry *e, enum err failed)
{
    struct js_fault f;
    struct buf text;

    if (!e->reply_len)
        return;
    if (e->kind == JPUB_REFUSED) {
        send(p->s, entry_reply(e), entry_text(e));
        return;
    }
    if (e->kind == JPUB_KNOWN && e->id_len) { /* of one that was on its way then */
        e->seq = jstore_dedup_find(p->s, jpub_entry_id(e));
        failed = e->seq && e->seq != UINT64_MAX ? ERR_OK : ERR_IO;
    } else if (e->kind == JPUB_KNOWN) {
        failed = ERR_OK;
    }
    if (!failed) {
        ack(p, e, e->kind == JPUB_KNOWN);
        return;
    }
    js_fault_set(&f, JSE_STREAM_STORE_FAILED, "%s", err_text(failed));
    buf_init(&text, SIZE_MAX);
    fault_text(p->s, &f, &text);
    send(p->s, entry_reply(e), buf_slice(&text));
    buf_fini(&text);
}

void jpub_answers(struct jpublish *p, struct jpub_batch *b, enum err failed)
{
    struct jpub_entry *e;
    size_t at = 0;

    while ((e = jpub_entry_next(b, &at)))
        answer(p, e, failed);
}

/* ---- what becomes of it ---- */

/* Sends on what was kept of a message, saying where it is; before: the last one of its subject. */
static void republish(struct jpublish *p, const struct jpub_entry *e, uint64_t before,
                      int64_t time_ms)
{
    const struct jrepublish *r = p->s->conf.republish;
    struct slice text = entry_text(e), subject = jpub_entry_subject(e), size = SLICE_LIT("");
    char time[JTIME_TEXT_LEN + 1];
    struct nmsg m = {0};
    uint32_t n;

    memcpy(&n, text.ptr, sizeof n);
    if (!r || !jtransform_apply(slice_str(r->src), slice_str(r->dest), subject, &p->mapped))
        return;
    jtime_text(jtime_ns(time_ms), time);
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

static void schedule_get(const struct jpub_entry *e, struct jfacts_schedule *out)
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

static void entry_apply(struct jpublish *p, struct jpub_batch *b, struct jpub_entry *e)
{
    struct jfacts f = {.subject = jpub_entry_subject(e),
                       .msg_id = jpub_entry_id(e),
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

static void gap_apply(struct jpublish *p, struct jpub_batch *b, const struct jpub_entry *e)
{
    struct append_place place;
    enum err err = append_place(b->a, e->slot, &place);

    ASSERT(!err);
    jstore_gap(p->s, e->seq, jstream_seq(p->s, place.offset));
}

void jpub_entries_apply(struct jpublish *p, struct jpub_batch *b)
{
    struct jpub_entry *e;
    size_t at = 0;

    while ((e = jpub_entry_next(b, &at)))
        if (e->kind == JPUB_STORED)
            entry_apply(p, b, e);
        else if (e->kind == JPUB_FILLED)
            gap_apply(p, b, e);
}

void jpub_entry_failed(struct jpublish *p, const struct jpub_entry *e)
{
    struct jfacts_schedule made;

    if (e->id_len)
        jstore_dedup_cancel(p->s, jpub_entry_id(e));
    schedule_get(e, &made);
    jschedules_failed(p->s, made.by);
}
