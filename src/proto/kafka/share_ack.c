/* What members say of records: ShareAcknowledge, and the acknowledgements in a ShareFetch. Facts:
 * Apache Kafka 4.2 (KafkaApis, SharePartitionManager). */
#include <stdlib.h>
#include <string.h>

#include "proto/kafka/groups.h"
#include "proto/kafka/share.h"

typedef struct kafka_share_acknowledge_request_acknowledgement_batch ack_batch;
typedef struct kafka_share_acknowledge_request_partition ack_part;
typedef struct kafka_share_acknowledge_request_topic ack_topic;

int16_t share_code(enum err e)
{
    switch (e) {
    case ERR_OK:
        return KE_NONE;
    case ERR_INVALID:
        return KE_INVALID_REQUEST;
    case ERR_NOT_FOUND:
        return KE_INVALID_RECORD_STATE; /* deleted: nobody has its records */
    case ERR_TOPIC_NOT_FOUND:
        return KE_UNKNOWN; /* of the dead letters: not the one asked for */
    default:
        return kafka_group_code(e);
    }
}

/* ---- what they say ---- */

/* AcknowledgeType; -1: there is no such. */
static int settlement_of(int8_t type)
{
    static const uint8_t of[] = {CURSOR_VOID, CURSOR_ACCEPT, CURSOR_RELEASE, CURSOR_REJECT,
                                 CURSOR_RENEW};

    return type < 0 || (size_t)type >= sizeof of ? -1 : of[type];
}

/* Adds a batch as ranges of one kind; `v` has room for one for each of its types. */
static int16_t batch_ranges(const ack_batch *b, bool renew, struct cursor_ack *v, uint32_t *n)
{
    uint32_t i;

    if (b->first_offset < 0 || b->last_offset < b->first_offset || b->acknowledge_types_n == 0 ||
        (b->acknowledge_types_n > 1 &&
         b->acknowledge_types_n - 1 != (uint64_t)(b->last_offset - b->first_offset)))
        return KE_INVALID_REQUEST;
    for (i = 0; i < b->acknowledge_types_n; i++) {
        int what = settlement_of(b->acknowledge_types[i]);

        if (what < 0 || (what == CURSOR_RENEW && !renew))
            return KE_INVALID_REQUEST;
        if (i && v[*n - 1].what == what)
            v[*n - 1].last++;
        else
            v[(*n)++] = (struct cursor_ack){
                .first = b->first_offset + i, .last = b->first_offset + i, .what = (uint8_t)what};
    }
    if (b->acknowledge_types_n == 1)
        v[*n - 1].last = b->last_offset;
    return KE_NONE;
}

/* All ranges of a partition; NULL: there is no room, the request is over. */
static struct cursor_ack *part_ranges(struct kreq *q, const ack_part *p, bool renew, uint32_t *n,
                                      int16_t *code)
{
    struct cursor_ack *v;
    size_t most = 0;
    uint32_t i;

    for (i = 0; i < p->acknowledgement_batches_n; i++)
        most += p->acknowledgement_batches[i].acknowledge_types_n;
    *n = 0;
    if (!(v = kreq_alloc(q, most, sizeof *v)))
        return NULL;
    for (i = 0; i < p->acknowledgement_batches_n && !*code; i++)
        *code = batch_ranges(&p->acknowledgement_batches[i], renew, v, n);
    return v;
}

/* ---- settling ---- */

/* Any thread, but never the last one while acks are being begun. */
static void ack_done(void *arg, enum err e, const struct errinfo *info)
{
    struct share_ack *a = arg;
    struct share_acks *all = a->all;

    a->code = share_code(e);
    if (atomic_fetch_sub(&all->left, 1) == 1)
        kreq_post(all->q, all->then);
}

static int16_t topic_code(struct kreq *q, const uint8_t id[16], int32_t index, struct topic **t)
{
    int16_t code;

    *t = kafka_topic(q, SLICE_NULL, id, true, &code);
    if (*t && !kafka_allowed(q, KOP_READ, KRES_TOPIC, slice_str(topic_name(*t))))
        return KE_TOPIC_AUTHORIZATION_FAILED;
    if (*t && !topic_partition(*t, index))
        return KE_UNKNOWN_TOPIC_OR_PARTITION;
    return code;
}

static void ack_begin(struct share_ack *a, struct share_session *ss)
{
    struct share_part *sp = share_part_find(ss, a->id, a->index);
    struct topic *t = NULL;
    enum err e;

    if (!a->code)
        a->code = topic_code(a->all->q, a->id, a->index, &t);
    topic_unref(&t);
    if (!a->code && (!sp || !sp->c))
        a->code = KE_INVALID_RECORD_STATE; /* it has none of this partition */
    if (a->code)
        return;
    atomic_fetch_add(&a->all->left, 1);
    e = cursor_settle(sp->c, share_owner(ss), a->ranges, a->ranges_n, kafka_groups_now(a->all->q),
                      ack_done, a, NULL);
    if (e) {
        a->code = share_code(e);
        atomic_fetch_sub(&a->all->left, 1);
    }
}

bool share_acks_begin(struct share_acks *all, struct kreq *q, struct share_session *ss,
                      const struct share_conf *conf, const ack_topic *topics, uint32_t n,
                      void (*then)(struct kreq *q))
{
    uint32_t i, k, parts = 0;

    for (i = 0; i < n; i++)
        for (k = 0; k < topics[i].partitions_n; k++)
            parts += topics[i].partitions[k].acknowledgement_batches_n > 0;
    *all = (struct share_acks){.q = q, .then = then};
    atomic_init(&all->left, 1);
    if (!(all->v = kreq_alloc(q, parts, sizeof *all->v)))
        return false;
    /* all memory first: none may be wanting while some are on their way */
    for (i = 0; i < n; i++)
        for (k = 0; k < topics[i].partitions_n; k++) {
            const ack_part *p = &topics[i].partitions[k];
            struct share_ack *a = &all->v[all->n];

            if (p->acknowledgement_batches_n == 0)
                continue;
            all->n++;
            a->all = all;
            memcpy(a->id, topics[i].topic_id, 16);
            a->index = p->partition_index;
            a->ranges = part_ranges(q, p, conf->renew, &a->ranges_n, &a->code);
            if (!a->ranges)
                return false;
        }
    for (i = 0; i < all->n; i++)
        ack_begin(&all->v[i], ss);
    if (atomic_fetch_sub(&all->left, 1) == 1)
        then(q);
    return true;
}

/* ---- ShareAcknowledge ---- */

struct acknowledge {
    struct kafka_share_acknowledge_request m;
    struct share_conf conf;
    struct share_session *ss; /* while there is a connection */
    struct share_acks acks;
};

static void acknowledge_refuse(struct kreq *q, int16_t code)
{
    struct kafka_share_acknowledge_response s;

    kafka_share_acknowledge_response_init(&s);
    s.error_code = code;
    KREQ_REPLY(q, share_acknowledge, &s);
}

static void acknowledge_reply(struct kreq *q)
{
    struct acknowledge *ak = q->state_of;
    struct kafka_share_acknowledge_response_partition *rows;
    struct kafka_share_acknowledge_response_topic *t = NULL;
    struct kafka_share_acknowledge_response s;
    uint32_t i;

    if (!q->kc || q->state == KREQ_DONE) {
        if (q->state != KREQ_DONE)
            kreq_done(q);
        return;
    }
    if (ak->m.share_session_epoch == SHARE_EPOCH_LAST)
        share_session_close(q->kc, &ak->ss);
    kafka_share_acknowledge_response_init(&s);
    s.acquisition_lock_timeout_ms = ak->conf.cursor.lease_ms;
    if (!(s.responses = kreq_alloc(q, ak->acks.n, sizeof *s.responses)) ||
        !(rows = kreq_alloc(q, ak->acks.n, sizeof *rows)))
        return;
    for (i = 0; i < ak->acks.n; i++) {
        const struct share_ack *a = &ak->acks.v[i];

        kafka_share_acknowledge_response_partition_init(&rows[i]);
        rows[i].partition_index = a->index;
        rows[i].error_code = a->code;
        if (!t || memcmp(t->topic_id, a->id, 16) != 0) {
            t = &s.responses[s.responses_n++];
            memcpy(t->topic_id, a->id, 16);
            t->partitions = &rows[i];
        }
        t->partitions_n++;
    }
    KREQ_REPLY(q, share_acknowledge, &s);
}

void kafka_on_share_acknowledge(struct kreq *q)
{
    struct acknowledge *ak = kreq_alloc(q, 1, sizeof *ak);
    int16_t code;

    if (!ak || !KREQ_DECODE(q, share_acknowledge, &ak->m))
        return;
    q->state_of = ak;
    if (!kafka_allowed(q, KOP_READ, KRES_GROUP, ak->m.group_id)) {
        acknowledge_refuse(q, KE_GROUP_AUTHORIZATION_FAILED);
        return;
    }
    code = share_session_open(q, ak->m.group_id, ak->m.member_id, ak->m.share_session_epoch, false,
                              &ak->ss);
    if (code) {
        acknowledge_refuse(q, code);
        return;
    }
    share_conf_get(q->b, ak->m.group_id, &ak->conf);
    share_acks_begin(&ak->acks, q, ak->ss, &ak->conf, ak->m.topics, ak->m.topics_n,
                     acknowledge_reply);
}
