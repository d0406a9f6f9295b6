/* /checkpoints: where a consumer is in a stream. Stored in the broker's key-value space
 * "checkpoint" under consumer, NUL, stream as {"after":…,"metadata":…,"updated":…}: the answer's
 * own members. For the stream of a whole topic the offsets of the group of the same name are
 * committed in the same atomic append, so that a Kafka group of that name goes on there. */
#include <string.h>

#include <jansson.h>

#include "base/assert.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "base/utf8.h"
#include "io/io.h"
#include "journal/journal.h"
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

/* Adds the group's offsets if the stream is a whole topic. */
static enum err add_offsets(struct rq *rq, struct append *a, uint64_t position,
                            struct errinfo *info)
{
    struct slice stream = rq->seg[1], topic, key;
    struct topic *t;
    enum err e = ERR_OK;

    if (!stream_split(stream, &topic, &key) || key.ptr)
        return ERR_OK;
    if (memchr(topic.ptr, '*', topic.len) || memchr(topic.ptr, '?', topic.len))
        return ERR_OK;
    t = topic_find(rq->ctx->proto->conf.broker, topic);
    if (!t)
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "there is no topic \"%.*s\"", (int)topic.len,
                           (const char *)topic.ptr);
    for (int32_t i = 0; !e && i < topic_partitions(t); i++) {
        struct partition *p = topic_partition(t, i);
        uint64_t first = position + (position < UINT64_MAX);
        int64_t offset;

        e = plog_seek_position(partition_log(p), first, &offset, info);
        e = e ? e : append_offset(a, rq->seg[0], p, offset, slice_of("", 0));
    }
    topic_unref(&t);
    return e;
}

/* Writer thread. */
static void appended(struct append *a, void *arg, enum err e)
{
    rq_done(arg, e, NULL);
}

static void put_done(struct rq *rq)
{
    struct append *a = rq->state;

    append_free(&a);
    if (rq->err)
        rq_fail(rq, rq->err, NULL);
    else
        rq_reply_out(rq, 200, MEDIA_JSON);
}

void route_checkpoint_put(struct rq *rq)
{
    struct buf *b = &rq->ctx->scratch;
    struct errinfo info = {0};
    struct append *a = append_new(rq->ctx->proto->conf.broker, appended, rq);
    uint64_t position;
    struct key k;
    enum err e = key_make(rq, &k, &info);

    buf_clear(b);
    e = e ? e : body_parse(rq, &position, b, &info);
    e = e ? e : add_offsets(rq, a, position, &info);
    e = e ? e : append_kv(a, NS, slice_of(k.bytes, k.len), buf_slice(b));
    e = e ? e : put_checkpoint(&rq->out, rq->seg[0], rq->seg[1], buf_slice(b));
    if (!e) {
        rq->state = a;
        rq_begin(rq, put_done);
        rq_one_more(rq);
        e = append_submit(a, true, &info);
    }
    if (e) {
        append_free(&a);
        rq_fail(rq, e, &info);
    }
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
