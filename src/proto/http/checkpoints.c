/* /checkpoints: where a consumer is in a stream. Stored in the broker's key-value space
 * "checkpoint" under consumer, NUL, stream as {"after":…,"metadata":…,"updated":…}: the answer's
 * own members. For the stream of a whole topic the offsets of the group of the same name are
 * committed in the same atomic append, so that a Kafka group of that name goes on there.
 *
 *   put ─> offsets of one partition after the other ─> append ─> answer
 *            └─ one is looked for in the lake: woken ──> goes on there
 *
 * Threads: the loop's, but for woken(), which runs on whichever thread wakes waiters and only posts
 * the task. Invariant as in read.c: while the task is posted, the put is not freed, but marked
 * `over`. */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/assert.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "base/utf8.h"
#include "broker/tier.h"
#include "io/io.h"
#include "proto/http/http_int.h"

#define NS           "checkpoint"
#define CONSUMER_MAX 255u
#define METADATA_MAX 255u
#define KEY_MAX      1024u

struct key {
    size_t len;
    uint8_t bytes[KEY_MAX];
};

static bool plain(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
            return false;
    }
    return utf8_valid(s);
}

/* Checks consumer and stream of the path, and the permission; makes the key. */
static enum err key_make(struct rq *rq, struct key *k, struct errinfo *info)
{
    struct slice consumer = rq->seg[0], stream = rq->seg[1], topic, key;

    if (consumer.len > CONSUMER_MAX || !plain(consumer))
        return errinfo_set(info, ERR_INVALID,
                           "a consumer's name is 1 to %u bytes of UTF-8 without control characters",
                           CONSUMER_MAX);
    if (!stream_split(stream, &topic, &key) || !plain(stream) ||
        consumer.len + 1 + stream.len > KEY_MAX)
        return errinfo_set(info, ERR_INVALID, "the stream must be topic or topic:key");
    memcpy(k->bytes, consumer.ptr, consumer.len);
    k->bytes[consumer.len] = 0;
    memcpy(k->bytes + consumer.len + 1, stream.ptr, stream.len);
    k->len = consumer.len + 1 + stream.len;
    return rq_permit(rq, AUTH_READ, topic, info);
}

/* {"consumer":…,"stream":…,<members>} */
static enum err put_checkpoint(struct buf *out, struct slice consumer, struct slice stream,
                               struct slice stored)
{
    enum err e = buf_append_str(out, "{\"consumer\":");

    e = e ? e : json_write_string(out, consumer);
    e = e ? e : buf_append_str(out, ",\"stream\":");
    e = e ? e : json_write_string(out, stream);
    e = e ? e : buf_append_str(out, ",");
    return e ? e : buf_append(out, stored.ptr + 1, stored.len - 1); /* its own brace closes */
}

void route_checkpoint_get(struct rq *rq)
{
    struct buf *b = &rq->ctx->scratch;
    struct errinfo info = {0};
    struct key k;
    enum err e = key_make(rq, &k, &info);

    buf_clear(b);
    if (!e) {
        e = kv_get(rq->ctx->proto->conf.broker, NS, slice_of(k.bytes, k.len), b);
        if (e)
            errinfo_set(&info, e, "the consumer has no checkpoint for this stream");
    }
    e = e ? e : put_checkpoint(&rq->out, rq->seg[0], rq->seg[1], buf_slice(b));
    if (e)
        rq_fail(rq, e, &info);
    else
        rq_reply_out(rq, 200, MEDIA_JSON);
}

/* ---- list ---- */

struct listing {
    struct rq *rq;
    enum err e;
    bool any;
};

static bool list_one(void *arg, struct slice key, struct slice value)
{
    struct listing *l = arg;
    struct slice consumer = l->rq->seg[0], stream, topic, k;

    if (key.len <= consumer.len || key.ptr[consumer.len] != 0 || !slice_has_prefix(key, consumer))
        return true;
    stream = slice_of(key.ptr + consumer.len + 1, key.len - consumer.len - 1);
    if (!stream_split(stream, &topic, &k) || !auth_permits(l->rq->who, AUTH_READ, topic))
        return true;
    if (l->any)
        l->e = buf_append_u8(&l->rq->out, ',');
    l->any = true;
    l->e = l->e ? l->e : put_checkpoint(&l->rq->out, consumer, stream, value);
    return l->e == ERR_OK;
}

void route_checkpoints_list(struct rq *rq)
{
    struct listing l = {.rq = rq};

    l.e = buf_append_str(&rq->out, "{\"checkpoints\":[");
    if (!l.e)
        kv_each(rq->ctx->proto->conf.broker, NS, list_one, &l);
    l.e = l.e ? l.e : buf_append_str(&rq->out, "]}");
    if (l.e)
        rq_fail(rq, l.e, NULL);
    else
        rq_reply_out(rq, 200, MEDIA_JSON);
}

/* ---- put ---- */

/* The stored members from the request's body. */
static enum err body_parse(struct rq *rq, uint64_t *position, struct buf *out, struct errinfo *info)
{
    struct slice body = http_body(rq->req);
    json_error_t why;
    json_t *o = json_loadb((const char *)body.ptr, body.len, JSON_REJECT_DUPLICATES, &why);
    const json_t *after = json_object_get(o, "after"), *meta = json_object_get(o, "metadata");
    char id[EVENT_ID_LEN + 1], now[TIME_TEXT_LEN + 1];
    enum err e = ERR_OK;

    if (!json_is_object(o))
        e = errinfo_set(info, ERR_CORRUPT_INPUT, "the body is no JSON object: %s",
                        o ? "" : why.text);
    else if (!json_is_string(after) ||
             !event_id_parse(slice_str(json_string_value(after)), position))
        e = errinfo_set(info, ERR_INVALID, "\"after\" must be an event id");
    else if (meta && (!json_is_string(meta) || json_string_length(meta) > METADATA_MAX))
        e = errinfo_set(info, ERR_INVALID, "\"metadata\" must be text of at most %u bytes",
                        METADATA_MAX);
    else if (json_object_size(o) != (meta ? 2u : 1u))
        e = errinfo_set(info, ERR_INVALID, "a checkpoint has after and metadata only");
    if (!e) {
        event_id_format(*position, id);
        time_format(io_wall_ms(broker_io(rq->ctx->proto->conf.broker)), now);
        e = buf_printf(out, "{\"after\":\"%s\",\"updated\":\"%s\"", id, now);
        if (!e && meta) {
            e = buf_append_str(out, ",\"metadata\":");
            e = e ? e : json_write_string(out, slice_str(json_string_value(meta)));
        }
        e = e ? e : buf_append_str(out, "}");
    }
    json_decref(o);
    return e;
}

struct put {
    struct ctx *ctx;
    struct rq *rq;
    struct append *a;
    struct topic *t;   /* whose offsets are committed, referenced; NULL: none are */
    int32_t partition; /* to be looked at next */
    uint64_t first;    /* position behind the checkpoint */
    struct waiter waiter;
    struct loop_task task;
    atomic_bool posted;
    bool over;
};

static void put_release(struct put *p)
{
    append_free(&p->a);
    topic_unref(&p->t);
    free(p);
}

static void put_free(struct put *p)
{
    p->over = true;
    waiter_cancel(&p->waiter);
    if (!atomic_load(&p->posted))
        put_release(p); /* otherwise task_run does */
}

/* The peer has gone while an offset is being looked for. */
static void put_gone(struct rq *rq)
{
    put_free(rq->state);
    rq_free(rq);
}

/* The topic whose offsets are to be committed; NULL: the stream is not a whole topic. */
static enum err put_topic(struct rq *rq, struct topic **out, struct errinfo *info)
{
    struct slice topic, key;

    *out = NULL;
    if (!stream_split(rq->seg[1], &topic, &key) || key.ptr)
        return ERR_OK;
    if (memchr(topic.ptr, '*', topic.len) || memchr(topic.ptr, '?', topic.len))
        return ERR_OK;
    *out = topic_find(rq->ctx->proto->conf.broker, topic);
    return *out ? ERR_OK
                : errinfo_set(info, ERR_TOPIC_NOT_FOUND, "there is no topic \"%.*s\"",
                              (int)topic.len, (const char *)topic.ptr);
}

/* Adds the group's offsets. ERR_AGAIN: one is being looked for in the lake. */
static enum err put_offsets(struct put *p, struct errinfo *info)
{
    enum err e = ERR_OK;

    for (; !e && p->t && p->partition < topic_partitions(p->t); p->partition += !e) {
        struct partition *part = topic_partition(p->t, p->partition);
        int64_t offset;

        e = partition_seek(part, TIER_BY_POSITION, (int64_t)p->first, &offset, info);
        e = e ? e : append_offset(p->a, p->rq->seg[0], part, offset, slice_of("", 0));
    }
    return e;
}

/* Writer thread. */
static void appended(struct append *a, void *arg, enum err e)
{
    rq_done(arg, e, NULL);
}

static void put_done(struct rq *rq)
{
    put_free(rq->state);
    if (rq->err)
        rq_fail(rq, rq->err, NULL);
    else
        rq_reply_out(rq, 200, MEDIA_JSON);
}

static void again(struct put *p)
{
    if (!atomic_exchange(&p->posted, true))
        loop_post(p->ctx->loop, &p->task);
}

/* Any thread. */
static void woken(struct waiter *w)
{
    again(list_entry(w, struct put, waiter));
}

static void put_go(struct put *p)
{
    uint64_t seen = p->t ? topic_commits(p->t) : 0;
    struct errinfo info = {0};
    struct rq *rq = p->rq;
    enum err e = put_offsets(p, &info);

    if (e == ERR_AGAIN) {
        rq->gone = put_gone;
        if (!topic_wait(p->t, seen, &p->waiter))
            again(p);
        return;
    }
    rq->gone = NULL;
    rq_begin(rq, put_done);
    rq_one_more(rq);
    e = e ? e : append_submit(p->a, true, &info);
    if (e) {
        put_free(p);
        rq_fail(rq, e, &info);
    }
}

static void task_run(struct loop_task *t)
{
    struct put *p = list_entry(t, struct put, task);

    atomic_store(&p->posted, false);
    if (p->over)
        put_release(p);
    else
        put_go(p);
}

void route_checkpoint_put(struct rq *rq)
{
    struct buf *b = &rq->ctx->scratch;
    struct put *p = xcalloc(1, sizeof *p);
    struct errinfo info = {0};
    uint64_t position = 0;
    struct key k;
    enum err e = key_make(rq, &k, &info);

    p->ctx = rq->ctx;
    p->rq = rq;
    p->task.fn = task_run;
    p->waiter.wake = woken;
    p->a = append_new(rq->ctx->proto->conf.broker, appended, rq);
    buf_clear(b);
    e = e ? e : body_parse(rq, &position, b, &info);
    e = e ? e : put_topic(rq, &p->t, &info);
    e = e ? e : append_kv(p->a, NS, slice_of(k.bytes, k.len), buf_slice(b));
    e = e ? e : put_checkpoint(&rq->out, rq->seg[0], rq->seg[1], buf_slice(b));
    if (e) {
        put_free(p);
        rq_fail(rq, e, &info);
        return;
    }
    p->first = position + (position < UINT64_MAX);
    rq->state = p;
    put_go(p);
}

void route_checkpoint_delete(struct rq *rq)
{
    struct broker *b = rq->ctx->proto->conf.broker;
    struct errinfo info = {0};
    struct key k;
    enum err e = key_make(rq, &k, &info);

    buf_clear(&rq->ctx->scratch);
    if (!e) {
        e = kv_get(b, NS, slice_of(k.bytes, k.len), &rq->ctx->scratch);
        if (e)
            errinfo_set(&info, e, "the consumer has no checkpoint for this stream");
    }
    if (!e) {
        rq_begin(rq, rq_reply_done);
        rq_one_more(rq);
        e = kv_put(b, NS, slice_of(k.bytes, k.len), SLICE_NULL, 0, rq_done, rq, &info);
    }
    if (e)
        rq_fail(rq, e, &info);
}
