/* Offsets of logs: ListOffsets and OffsetForLeaderEpoch. */
#include <stdlib.h>
#include <string.h>

#include "base/tbl/limits.h"
#include "broker/tier.h"
#include "journal/batch.h"
#include "journal/journal.h"
#include "proto/kafka/kafka_int.h"

/* Timestamps that mean something else (ListOffsetsRequest). */
#define AT_LATEST            (-1)
#define AT_EARLIEST          (-2)
#define AT_MAX_TIMESTAMP     (-3)
#define AT_EARLIEST_LOCAL    (-4)
#define AT_LATEST_TIERED     (-5)
#define AT_EARLIEST_UNTIERED (-6) /* KIP-1023: the first that is not in the lake yet */

/* ---- by time ---- */

/* The first record at or behind `from` with at least this timestamp, below `end`. ERR_NOT_FOUND. */
static enum err seek_record(struct partition *p, int64_t from, int64_t end, int64_t ts,
                            int64_t *offset, int64_t *found)
{
    struct plog_read *rd = calloc(1, sizeof *rd);
    enum err e = rd ? ERR_NOT_FOUND : ERR_NO_MEMORY;
    struct errinfo info;
    struct buf scratch;
    bool more = !e || e == ERR_NOT_FOUND;

    buf_init(&scratch, LIMIT_BATCH_INFLATED);
    while (rd && more && from < end) {
        unsigned i;

        more = !plog_read(partition_log(p), from, 1, rd, &info) && rd->n;
        for (i = 0; more && e && i < rd->n; i++) {
            struct batch_iter it;
            struct record r;

            from = rd->batch[i].last_offset + 1;
            if (rd->batch[i].max_timestamp_ms < ts ||
                batch_iter_init(&it, rd->batch[i].data, &scratch) ||
                it.info.attributes & BATCH_CONTROL)
                continue;
            while (e && !batch_iter_next(&it, &r))
                if (r.timestamp_ms >= ts && r.offset < end) {
                    *offset = r.offset;
                    *found = r.timestamp_ms;
                    e = ERR_OK;
                }
        }
        more = more && e;
    }
    buf_fini(&scratch);
    if (rd) {
        plog_read_release(rd);
        free(rd);
    }
    return e;
}

static void at_local_time(struct partition *p, int64_t end, int64_t ts,
                          struct kafka_list_offsets_response_partition *o)
{
    struct errinfo info;
    int64_t from;
    enum err e = plog_seek_time(partition_log(p), ts, &from, &info);

    if (!e)
        e = seek_record(p, from, end, ts, &o->offset, &o->timestamp);
    if (e == ERR_NOT_FOUND)
        return; /* -1, as there is none */
    o->error_code = kafka_code(e);
}

/* Among older records first. False: they are being looked through. */
static bool at_time(struct partition *p, int64_t end, int64_t ts,
                    struct kafka_list_offsets_response_partition *o)
{
    struct errinfo info;
    struct plog_info now;
    enum err e = ERR_EOF;

    plog_info_get(partition_log(p), &now);
    if (now.gone_ts < 0 || ts <= now.gone_ts)
        e = tier_find(p, TIER_BY_TIME, ts, &o->offset, &o->timestamp, &info);
    if (e == ERR_AGAIN)
        return false;
    if (e)
        o->offset = o->timestamp = -1;
    if (e == ERR_EOF)
        at_local_time(p, end, ts, o);
    else
        o->error_code = kafka_code(e);
    return true;
}

static void at_max(struct partition *p, int64_t end,
                   struct kafka_list_offsets_response_partition *o)
{
    struct plog_info now;

    plog_info_get(partition_log(p), &now);
    if (now.start_offset < now.end_offset)
        at_local_time(p, end, now.max_timestamp_ms, o);
}

/* False: to be asked again when the topic has something new. */
static bool list_one(struct partition *p, bool committed, int64_t ts,
                     struct kafka_list_offsets_response_partition *o)
{
    struct plog_info now;
    int64_t end;

    plog_info_get(partition_log(p), &now);
    end = committed ? partition_lso(p) : now.end_offset;
    switch (ts) {
    case AT_LATEST:
        o->offset = end;
        break;
    case AT_EARLIEST:
        o->offset = partition_start(p);
        break;
    case AT_EARLIEST_LOCAL:
        o->offset = now.start_offset;
        break;
    case AT_LATEST_TIERED:
        if (partition_covered(p) > partition_start(p))
            o->offset = partition_covered(p) - 1;
        break;
    case AT_EARLIEST_UNTIERED:
        if (partition_covered(p) > partition_start(p))
            o->offset = partition_covered(p);
        break;
    case AT_MAX_TIMESTAMP:
        at_max(p, end, o);
        break;
    default:
        if (ts < 0)
            o->error_code = KE_UNSUPPORTED_VERSION;
        else if (!at_time(p, end, ts, o))
            return false;
    }
    o->leader_epoch = o->offset < 0 ? -1 : 0;
    return true;
}

struct listing {
    struct kafka_list_offsets_request m;
    struct kafka_list_offsets_response s;
    uint32_t topic_at, part_at; /* what is to be looked at next */
    struct topic *t;            /* of topic_at; referenced */
    int16_t code;
    struct kreq *q;
    struct waiter waiter; /* older records are being looked through */
    atomic_bool woken;
};

static void list_go(struct kreq *q);

/* Any thread. */
static void list_wake(struct waiter *w)
{
    struct listing *l = list_entry(w, struct listing, waiter);

    if (!atomic_exchange(&l->woken, true))
        kreq_post(l->q, list_go);
}

static void list_over(struct kreq *q)
{
    struct listing *l = q->state_of;

    topic_unref(&l->t);
    kreq_done(q);
}

/* The connection is gone. */
static void list_cancel(struct kreq *q)
{
    struct listing *l = q->state_of;

    if (atomic_exchange(&l->woken, true))
        return; /* list_go is on its way */
    waiter_cancel(&l->waiter);
    list_over(q);
}

static void list_wait(struct kreq *q, uint64_t seen)
{
    struct listing *l = q->state_of;

    atomic_store(&l->woken, false);
    l->waiter.wake = list_wake;
    q->cancel = list_cancel;
    if (!topic_wait(l->t, seen, &l->waiter))
        list_wake(&l->waiter);
}

/* Once for each topic. */
static void list_topic(struct kreq *q, struct listing *l)
{
    const struct kafka_list_offsets_request_topic *want = &l->m.topics[l->topic_at];
    struct kafka_list_offsets_response_topic *s = &l->s.topics[l->topic_at];

    l->code = KE_NONE;
    l->t = kafka_topic(q, want->name, NULL, false, &l->code);
    if (l->t && !kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, want->name))
        l->code = KE_TOPIC_AUTHORIZATION_FAILED;
    s->name = want->name;
    s->partitions = kreq_alloc(q, want->partitions_n, sizeof *s->partitions);
}

/* False: see list_one. */
static bool list_partition(struct kreq *q, struct listing *l)
{
    const struct kafka_list_offsets_request_partition *want =
        &l->m.topics[l->topic_at].partitions[l->part_at];
    struct kafka_list_offsets_response_topic *s = &l->s.topics[l->topic_at];
    struct kafka_list_offsets_response_partition *o = &s->partitions[s->partitions_n];
    struct partition *p = l->t ? topic_partition(l->t, want->partition_index) : NULL;

    kafka_list_offsets_response_partition_init(o);
    o->partition_index = want->partition_index;
    o->offset = o->timestamp = o->leader_epoch = -1;
    o->error_code = l->code ? l->code : p ? KE_NONE : KE_UNKNOWN_TOPIC_OR_PARTITION;
    if (!o->error_code && want->current_leader_epoch > 0)
        o->error_code = KE_UNKNOWN_LEADER_EPOCH;
    if (!o->error_code && !list_one(p, l->m.isolation_level == 1, want->timestamp, o))
        return false;
    if (q->version < 4)
        o->leader_epoch = -1; /* there is no room for another */
    s->partitions_n++;
    return true;
}

/* A search by time reads and inflates: the rest may be for the next turn. */
static void list_go(struct kreq *q)
{
    struct listing *l = q->state_of;

    q->cancel = NULL;
    if (!q->kc) { /* it went while somebody looked */
        list_over(q);
        return;
    }
    while (l->topic_at < l->m.topics_n && q->state != KREQ_DONE) {
        if (l->part_at == 0 && !l->t)
            list_topic(q, l);
        if (q->state != KREQ_DONE && l->part_at < l->m.topics[l->topic_at].partitions_n) {
            uint64_t seen = l->t ? topic_commits(l->t) : 0;

            if (!list_partition(q, l)) {
                list_wait(q, seen);
                return;
            }
            l->part_at++;
        }
        if (q->state == KREQ_DONE || l->part_at >= l->m.topics[l->topic_at].partitions_n) {
            topic_unref(&l->t);
            l->topic_at++;
            l->part_at = 0;
        }
        if (l->topic_at < l->m.topics_n && q->state != KREQ_DONE && kreq_yield(q, list_go))
            return;
    }
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, list_offsets, &l->s);
}

void kafka_on_list_offsets(struct kreq *q)
{
    struct listing *l = kreq_alloc(q, 1, sizeof *l);

    if (!l || !KREQ_DECODE(q, list_offsets, &l->m))
        return;
    kafka_list_offsets_response_init(&l->s);
    l->s.topics = kreq_alloc(q, l->m.topics_n, sizeof *l->s.topics);
    if (!l->s.topics)
        return;
    l->s.topics_n = l->m.topics_n;
    l->q = q;
    q->state_of = l;
    list_go(q);
}

/* ---- OffsetForLeaderEpoch: all records are of epoch 0 ---- */

static void epoch_one(struct topic *t, int16_t code,
                      const struct kafka_offset_for_leader_epoch_request_partition *want,
                      struct kafka_offset_for_leader_epoch_response_partition *o)
{
    struct partition *p = t ? topic_partition(t, want->partition) : NULL;
    struct plog_info now;

    kafka_offset_for_leader_epoch_response_partition_init(o);
    o->partition = want->partition;
    o->leader_epoch = -1;
    o->end_offset = -1;
    o->error_code = code ? code : p ? KE_NONE : KE_UNKNOWN_TOPIC_OR_PARTITION;
    if (!o->error_code && want->current_leader_epoch > 0)
        o->error_code = KE_UNKNOWN_LEADER_EPOCH;
    if (o->error_code || want->leader_epoch != 0)
        return;
    plog_info_get(partition_log(p), &now);
    o->leader_epoch = 0;
    o->end_offset = now.end_offset;
}

void kafka_on_offset_for_leader_epoch(struct kreq *q)
{
    struct kafka_offset_for_leader_epoch_response s;
    struct kafka_offset_for_leader_epoch_request m;
    uint32_t i, k;

    if (!KREQ_DECODE(q, offset_for_leader_epoch, &m))
        return;
    kafka_offset_for_leader_epoch_response_init(&s);
    s.topics = kreq_alloc(q, m.topics_n, sizeof *s.topics);
    for (i = 0; q->state != KREQ_DONE && i < m.topics_n; i++) {
        const struct kafka_offset_for_leader_epoch_request_topic *want = &m.topics[i];
        struct kafka_offset_for_leader_epoch_response_topic *o = &s.topics[s.topics_n++];
        int16_t code = KE_NONE;
        struct topic *t = kafka_topic(q, want->topic, NULL, false, &code);

        if (t && !kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, want->topic))
            code = KE_TOPIC_AUTHORIZATION_FAILED;
        o->topic = want->topic;
        o->partitions = kreq_alloc(q, want->partitions_n, sizeof *o->partitions);
        for (k = 0; o->partitions && k < want->partitions_n; k++)
            epoch_one(t, code, &want->partitions[k], &o->partitions[o->partitions_n++]);
        topic_unref(&t);
    }
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, offset_for_leader_epoch, &s);
}
