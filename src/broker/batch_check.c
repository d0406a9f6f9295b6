/* Checking what a client calls a record batch: what is stored must decode for every reader, and say
 * the truth about itself. As Kafka's broker does (LogValidator), a batch is refused as a whole, and
 * the greatest timestamp in its header is not taken from the client.
 *
 * One pass over the records, without making anything of them. No state: any thread. */
#include <string.h>

#include "base/varint.h"
#include "broker/broker_int.h"
#include "journal/batch.h"
#include "journal/compress.h"

#define BATCH_MAGIC_AT 16u

/* What is looked for while walking. */
struct walk {
    int64_t base_ts;
    int64_t min_ts, max_ts; /* of those that are not -1; min > max: there is none */
    bool keys;              /* each record needs one */
    bool keyless;           /* one has none */
};

/* A varint of up to `max` bytes. Most have one or two. */
static inline bool take(const uint8_t **p, const uint8_t *end, size_t max, uint64_t *v)
{
    const uint8_t *s = *p;
    size_t n;

    if (end - s >= 2 && s[1] < 0x80) {
        *v = s[0] < 0x80 ? s[0] : (uint64_t)(s[0] & 0x7f) | (uint64_t)s[1] << 7;
        *p = s + (s[0] < 0x80 ? 1 : 2);
        return true;
    }
    n = uvarint_read(s, (size_t)(end - s), max, v);
    *p = s + n;
    return n > 0;
}

static inline bool take_int(const uint8_t **p, const uint8_t *end, int64_t *v)
{
    uint64_t u;

    if (!take(p, end, VARINT_MAX, &u) || u > UINT32_MAX)
        return false;
    *v = unzigzag(u);
    return true;
}

/* A length and so many bytes, which are passed by. */
static inline bool skip(const uint8_t **p, const uint8_t *end, int64_t least, int64_t *len)
{
    if (!take_int(p, end, len) || *len < least || *len > end - *p)
        return false;
    *p += *len > 0 ? *len : 0;
    return true;
}

static bool headers_walk(const uint8_t **p, const uint8_t *end)
{
    int64_t n, len;

    if (!take_int(p, end, &n) || n < 0 || n > LIMIT_RECORD_HEADERS)
        return false;
    while (n-- > 0)
        if (!skip(p, end, 0, &len) || !skip(p, end, -1, &len))
            return false;
    return true;
}

/* The record of this index; *p: what follows it. See batch.c for the bytes. */
static bool record_walk(const uint8_t **p, const uint8_t *end, int32_t index, struct walk *w)
{
    int64_t len, ts, at, key;
    const uint8_t *body;
    uint64_t u;

    if (!take_int(p, end, &len) || len < 1 || len > end - *p)
        return false;
    body = *p + 1;
    end = *p += len;
    if (!take(&body, end, VARLONG_MAX, &u))
        return false;
    ts = (int64_t)((uint64_t)w->base_ts + (uint64_t)unzigzag(u));
    if (!take_int(&body, end, &at) || at != index || !skip(&body, end, -1, &key) ||
        !skip(&body, end, -1, &len) || !headers_walk(&body, end) || body != end)
        return false;
    w->keyless |= key < 0;
    if (ts != -1) {
        w->min_ts = ts < w->min_ts ? ts : w->min_ts;
        w->max_ts = ts > w->max_ts ? ts : w->max_ts;
    }
    return true;
}

/* How large a client's batch may become. Its checking keeps others waiting, so it is bound by what
 * the topic takes, not by what any reader could decode: a client fills a batch to about
 * max.message.bytes before it compresses it, or by an estimate of the result. Records that people
 * write pack to a third or a tenth, logs to a twentieth; a bomb, to a thousandth and less. */
static size_t inflated_max(const struct topic *t)
{
    size_t n = (size_t)t->max_message_bytes * LIMIT_CLIENT_INFLATED_TIMES;

    n = n < LIMIT_CLIENT_INFLATED_LEAST ? LIMIT_CLIENT_INFLATED_LEAST : n;
    return n < LIMIT_BATCH_INFLATED ? n : LIMIT_BATCH_INFLATED;
}

/* The batch is whole, for its checksum is right: to send it again would be of no use, which
 * ERR_CORRUPT_INPUT would have clients do. */
static enum err undecodable(enum err e, struct errinfo *info)
{
    return errinfo_set(info, e == ERR_CORRUPT_INPUT ? ERR_RECORD : e,
                       "the batch's records do not decode");
}

/* The bytes of the records; ERR_AGAIN: they are more than a quick check looks at. */
static enum err records_get(struct slice batch, const struct batch_info *bi, const struct topic *t,
                            bool quick, struct buf *scratch, struct slice *out,
                            struct errinfo *info)
{
    enum codec codec = (enum codec)(bi->attributes & BATCH_CODEC_MASK);
    size_t max = inflated_max(t);
    enum err e;

    *out = slice_of(batch.ptr + BATCH_HEADER, batch.len - BATCH_HEADER);
    if (codec == CODEC_NONE)
        return ERR_OK;
    buf_clear(scratch);
    scratch->max = quick && max > LIMIT_CHECK_QUICK ? LIMIT_CHECK_QUICK : max;
    e = codec_inflate(codec, *out, scratch);
    *out = buf_slice(scratch);
    if (e == ERR_TOO_LARGE && scratch->max < max)
        return ERR_AGAIN;
    return e ? undecodable(e, info) : ERR_OK;
}

/* timestamp.before.max.ms and after.max.ms; records of LogAppendTime may say what they like. */
static bool times_allowed(const struct topic *t, const struct walk *w, int64_t now)
{
    int64_t before = atomic_load_explicit(&t->timestamp_before_max_ms, memory_order_relaxed);
    int64_t after = atomic_load_explicit(&t->timestamp_after_max_ms, memory_order_relaxed);

    return w->min_ts > w->max_ts || ((before >= now || w->min_ts >= now - before) &&
                                     (after > INT64_MAX - now || w->max_ts <= now + after));
}

/* Which records it is that are refused, for want of a key or for their time. */
static void bad_find(struct slice records, const struct topic *t, bool keys, bool times,
                     int64_t now, struct batch_checked *c)
{
    const uint8_t *p = records.ptr, *end = p + records.len;
    int32_t i;

    for (i = 0; i < c->info.count && c->bad_n < BATCH_BAD_MAX; i++) {
        struct walk w = {c->info.base_ts, INT64_MAX, INT64_MIN, keys, false};

        if (!record_walk(&p, end, i, &w))
            return;
        if ((keys && w.keyless) || (times && !times_allowed(t, &w, now)))
            c->bad[c->bad_n++] = i;
    }
}

static enum err records_check(struct slice records, struct topic *t, bool log_time,
                              struct batch_checked *c, struct errinfo *info)
{
    struct walk w = {c->info.base_ts, INT64_MAX, INT64_MIN, topic_needs_keys(t), false};
    const uint8_t *p = records.ptr, *end = p + records.len;
    int64_t now = journal_wall_ms(t->broker->journal);
    int32_t i;

    for (i = 0; i < c->info.count; i++)
        if (!record_walk(&p, end, i, &w))
            return undecodable(ERR_CORRUPT_INPUT, info);
    if (p != end)
        return undecodable(ERR_CORRUPT_INPUT, info);
    if (w.keys && w.keyless) {
        bad_find(records, t, true, false, now, c);
        return errinfo_set(info, ERR_RECORD, "\"%s\" is compacted: its records need keys", t->name);
    }
    if (!log_time && !times_allowed(t, &w, now)) {
        bad_find(records, t, false, true, now, c);
        return errinfo_set(info, ERR_TIMESTAMP,
                           "a timestamp is further from now than message.timestamp.before.max.ms "
                           "or message.timestamp.after.max.ms of \"%s\" allows",
                           t->name);
    }
    c->max_ts = w.max_ts < -1 ? -1 : w.max_ts;
    return ERR_OK;
}

static enum err header_check(const struct batch_info *bi, bool log_time, struct errinfo *info)
{
    if (bi->count <= 0 || bi->last_offset_delta + 1 != bi->count)
        return errinfo_set(info, ERR_RECORD, "the batch's number of records is wrong");
    if (bi->attributes & BATCH_CONTROL)
        return errinfo_set(info, ERR_RECORD, "a client does not write control batches");
    if (bi->producer_id >= 0 && bi->producer_epoch < 0)
        return errinfo_set(info, ERR_PRODUCER_EPOCH, "the batch has a producer's id and no epoch");
    if (bi->producer_id >= 0 ? bi->base_sequence < 0 : bi->attributes & BATCH_TRANSACTIONAL)
        return errinfo_set(info, ERR_RECORD,
                           "the batch's producer id, epoch and sequence do not go together");
    if (bi->attributes & BATCH_LOG_APPEND_TIME && (log_time || bi->max_ts == -1))
        return errinfo_set(info, ERR_TIMESTAMP,
                           "a producer does not set the type of timestamps to LogAppendTime");
    return ERR_OK;
}

/* Not one batch that says the truth about its length. ERR_CORRUPT_INPUT: it may have been damaged on
 * its way; of more bytes than a batch may have, nobody asks. */
static enum err not_a_batch(struct slice batch, uint32_t max, enum err parsed, struct errinfo *info)
{
    bool old = batch.len > BATCH_MAGIC_AT && batch.ptr[BATCH_MAGIC_AT] < 2;
    bool cut = parsed == ERR_EOF && batch.len >= BATCH_HEADER;

    if (old)
        return errinfo_set(info, ERR_RECORD,
                           "message sets of the formats before version 2 are not taken");
    return errinfo_set(info,
                       !parsed || cut || batch.len > max || batch_crc_ok(batch) ? ERR_RECORD
                                                                                : ERR_CORRUPT_INPUT,
                       "not one record batch of version 2");
}

enum err batch_check(struct topic *t, struct slice batch, bool quick, struct buf *scratch,
                     struct batch_checked *out, struct errinfo *info)
{
    bool log_time = atomic_load_explicit(&t->timestamp_type, memory_order_relaxed) == 1;
    struct slice records;
    enum err e = batch_parse(batch, &out->info);

    out->bad_n = 0;
    if (e || out->info.length != batch.len)
        return not_a_batch(batch, (uint32_t)t->max_message_bytes, e, info);
    if (batch.len > (uint32_t)t->max_message_bytes)
        return batch_too_large(batch.len, t, info);
    if (quick && batch.len > (out->info.attributes & BATCH_CODEC_MASK ? LIMIT_CHECK_QUICK_PACKED
                                                                      : LIMIT_CHECK_QUICK))
        return ERR_AGAIN;
    if (!batch_crc_ok(batch))
        return errinfo_set(info, ERR_CORRUPT_INPUT, "the batch's checksum is wrong");
    e = header_check(&out->info, log_time, info);
    if (!e)
        e = records_get(batch, &out->info, t, quick, scratch, &records, info);
    if (!e)
        e = records_check(records, t, log_time, out, info);
    return e;
}
