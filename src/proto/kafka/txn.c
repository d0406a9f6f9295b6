/* Producers' ids and transactions: the broker's calls in Kafka's words.
 *
 * The broker knows which partitions a transaction wrote to from the batches themselves, so adding a
 * partition or a group's offsets says no more than that a transaction is open; batches of an open
 * transaction are taken in any partition. The end of a transaction is one durable unit, so no
 * transaction is ever seen in Kafka's prepared states.
 *
 * Rules: KIP-98, KIP-360, KIP-890, KIP-994; codes by version: TransactionCoordinator and KafkaApis of
 * Apache Kafka 4.2. A handler runs on its request's loop; txn_answered and added are called by any
 * thread. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "proto/kafka/kafka_int.h"
#include "proto/kafka/txn_codes.h"

#define FENCED_SINCE_INIT 4 /* versions from which PRODUCER_FENCED is known */
#define FENCED_SINCE      2

int16_t kafka_txn_code(enum err e, bool fenced_known)
{
    switch (e) {
    case ERR_PRODUCER_FENCED:
        return fenced_known ? kafka_code(e) : kafka_code(ERR_PRODUCER_EPOCH);
    case ERR_OVERLOADED:
    case ERR_CLOSED:
    case ERR_IO:
    case ERR_NO_SPACE:
    case ERR_READ_ONLY:
        return KE_COORDINATOR_NOT_AVAILABLE; /* clients try again */
    case ERR_LIMIT:
        return KE_POLICY_VIOLATION;
    default:
        return kafka_code(e);
    }
}

/* An answer that the broker gives later. */
struct txn_call {
    enum err e;
    int64_t producer_id;
    int16_t epoch;
    void (*reply)(struct kreq *q);
};

static void txn_answered(void *arg, enum err e, const struct errinfo *info, int64_t producer_id,
                         int16_t epoch)
{
    struct kreq *q = arg;
    struct txn_call *c = q->state_of;

    c->e = e;
    c->producer_id = producer_id;
    c->epoch = epoch;
    kreq_post(q, c->reply);
}

static bool txn_id_allowed(struct kreq *q, struct slice name)
{
    return kafka_allowed(q, KOP_WRITE, KRES_TRANSACTIONAL_ID, name);
}

/* ---- InitProducerId ---- */

static void init_reply(struct kreq *q, int16_t code, int64_t producer_id, int16_t epoch)
{
    struct kafka_init_producer_id_response s;

    kafka_init_producer_id_response_init(&s);
    s.error_code = code;
    s.producer_id = code ? -1 : producer_id;
    s.producer_epoch = code ? -1 : epoch;
    KREQ_REPLY(q, init_producer_id, &s);
}

static void init_answered(struct kreq *q)
{
    const struct txn_call *c = q->state_of;

    init_reply(q, kafka_txn_code(c->e, q->version >= FENCED_SINCE_INIT), c->producer_id, c->epoch);
}

static int16_t init_check(struct kreq *q, const struct kafka_init_producer_id_request *m)
{
    if (slice_is_null(m->transactional_id))
        return kafka_allowed(q, KOP_IDEMPOTENT_WRITE, KRES_CLUSTER, KAFKA_CLUSTER_NAME) ||
                       kafka_allowed_some(q, KOP_WRITE, KRES_TOPIC) /* KIP-679 */
                   ? KE_NONE
                   : KE_CLUSTER_AUTHORIZATION_FAILED;
    if (!txn_id_allowed(q, m->transactional_id))
        return KE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    if ((m->producer_id == -1) != (m->producer_epoch == -1))
        return KE_INVALID_REQUEST;
    return KE_NONE;
}

void kafka_on_init_producer_id(struct kreq *q)
{
    struct kafka_init_producer_id_request m;
    struct txn_call *c = kreq_alloc(q, 1, sizeof *c);
    struct errinfo info = {0};
    int16_t code;
    enum err e;

    if (!c || !KREQ_DECODE(q, init_producer_id, &m))
        return;
    if ((code = init_check(q, &m))) {
        init_reply(q, code, -1, -1);
        return;
    }
    c->reply = init_answered;
    q->state_of = c;
    if (slice_is_null(m.transactional_id))
        e = producer_id_new(q->b, txn_answered, q, &info);
    else
        e = txn_init(q->b, m.transactional_id, m.transaction_timeout_ms, m.producer_id,
                     m.producer_epoch, txn_answered, q, &info);
    if (e)
        init_reply(q, kafka_txn_code(e, q->version >= FENCED_SINCE_INIT), -1, -1);
}

/* ---- AddPartitionsToTxn ---- */

struct add_txn {
    struct kreq *q;
    struct kafka_add_partitions_to_txn_request_transaction *m;
    struct kafka_add_partitions_to_txn_response_transaction *s;
    enum err e;
    bool call; /* the broker's: e is what it answers */
};

struct add_call {
    struct kafka_add_partitions_to_txn_response s;
    struct add_txn *txns;
    uint32_t txns_n;
    atomic_uint left; /* answers awaited, and 1 */
};

static int16_t add_code(struct kreq *q, enum err e)
{
    return kafka_txn_code(e, q->version >= FENCED_SINCE);
}

static void add_codes_set(struct add_txn *t, int16_t code)
{
    uint32_t i, j;

    for (i = 0; i < t->s->topic_results_n; i++)
        for (j = 0; j < t->s->topic_results[i].results_by_partition_n; j++)
            t->s->topic_results[i].results_by_partition[j].partition_error_code = code;
}

static void add_reply(struct kreq *q)
{
    struct add_call *c = q->state_of;
    uint32_t i;

    for (i = 0; i < c->txns_n; i++)
        if (c->txns[i].call)
            add_codes_set(&c->txns[i], add_code(q, c->txns[i].e));
    if (q->version < 4) {
        c->s.results_by_topic_v3_and_below = c->txns[0].s->topic_results;
        c->s.results_by_topic_v3_and_below_n = c->txns[0].s->topic_results_n;
        c->s.results_by_transaction = NULL;
        c->s.results_by_transaction_n = 0;
    }
    KREQ_REPLY(q, add_partitions_to_txn, &c->s);
}

static void added(void *arg, enum err e, const struct errinfo *info, int64_t producer_id,
                  int16_t epoch)
{
    struct add_txn *t = arg;
    struct kreq *q = t->q;
    struct add_call *c = q->state_of;

    t->e = e;
    if (atomic_fetch_sub(&c->left, 1) == 1)
        kreq_post(q, add_reply);
}

/* Whether the producer's transaction is open, and could be written to. */
static enum err add_verify(struct kreq *q, const struct add_txn *t)
{
    struct txn_info x;

    if (txn_get(q->b, t->m->transactional_id, &x, NULL, NULL) || x.producer_id != t->m->producer_id)
        return ERR_PRODUCER_ID;
    if (x.epoch != t->m->producer_epoch)
        return ERR_PRODUCER_FENCED;
    if (x.ending)
        return ERR_TXN_CONCURRENT;
    return x.started_ms >= 0 ? ERR_OK : ERR_TXN_STATE;
}

/* Fills the answer with what is wrong with single partitions; false if anything is. */
static bool add_topics(struct kreq *q, struct add_txn *t)
{
    struct kafka_add_partitions_to_txn_request_topic *m;
    struct kafka_add_partitions_to_txn_response_topic *s;
    struct topic *topic;
    int16_t code, bad;
    bool ok = true;
    uint32_t i, j;

    for (i = 0; i < t->m->topics_n; i++) {
        m = &t->m->topics[i];
        s = &t->s->topic_results[i];
        s->name = m->name;
        if (!(s->results_by_partition =
                  kreq_alloc(q, m->partitions_n, sizeof *s->results_by_partition)))
            return false;
        s->results_by_partition_n = m->partitions_n;
        topic = kafka_topic(q, m->name, NULL, false, &code);
        if (q->version < 4 && !kafka_allowed(q, KOP_WRITE, KRES_TOPIC, m->name))
            code = KE_TOPIC_AUTHORIZATION_FAILED;
        for (j = 0; j < m->partitions_n; j++) {
            bad = code || topic_partition(topic, m->partitions[j]) ? code
                                                                   : KE_UNKNOWN_TOPIC_OR_PARTITION;
            ok = ok && !bad;
            s->results_by_partition[j] = (struct kafka_add_partitions_to_txn_response_partition){
                m->partitions[j], bad ? bad : KE_OPERATION_NOT_ATTEMPTED};
        }
        topic_unref(&topic);
    }
    return ok;
}

/* Makes room for the answer, and gives it if it is known already. */
static void add_prepare(struct kreq *q, struct add_txn *t)
{
    enum err e;

    t->s->transactional_id = t->m->transactional_id;
    t->s->topic_results = kreq_alloc(q, t->m->topics_n, sizeof *t->s->topic_results);
    if (!t->s->topic_results)
        return;
    t->s->topic_results_n = t->m->topics_n;
    if (!add_topics(q, t))
        return;
    if (!txn_id_allowed(q, t->m->transactional_id)) {
        add_codes_set(t, KE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    } else if (t->m->transactional_id.len == 0) {
        add_codes_set(t, KE_INVALID_REQUEST);
    } else if (t->m->verify_only) {
        e = add_verify(q, t);
        add_codes_set(t, e == ERR_TXN_STATE && q->version >= 5 ? KE_TRANSACTION_ABORTABLE
                                                               : add_code(q, e));
    } else {
        t->call = true;
    }
}

static void add_begin(struct kreq *q, struct add_call *c, struct add_txn *t)
{
    struct errinfo info = {0};
    enum err e;

    atomic_fetch_add(&c->left, 1);
    e = txn_begin(q->b, t->m->transactional_id, t->m->producer_id, t->m->producer_epoch, added, t,
                  &info);
    if (e) {
        t->e = e;
        atomic_fetch_sub(&c->left, 1);
    }
}

/* The one transaction of a version before 4, as if it were in a batch. */
static bool add_single(struct kreq *q, struct kafka_add_partitions_to_txn_request *m)
{
    struct kafka_add_partitions_to_txn_request_transaction *t = kreq_alloc(q, 1, sizeof *t);

    if (!t)
        return false;
    t->transactional_id = m->v3_and_below_transactional_id;
    t->producer_id = m->v3_and_below_producer_id;
    t->producer_epoch = m->v3_and_below_producer_epoch;
    t->topics = m->v3_and_below_topics;
    t->topics_n = m->v3_and_below_topics_n;
    m->transactions = t;
    m->transactions_n = 1;
    return true;
}

void kafka_on_add_partitions_to_txn(struct kreq *q)
{
    struct kafka_add_partitions_to_txn_request m;
    struct add_call *c = kreq_alloc(q, 1, sizeof *c);
    uint32_t i;

    if (!c || !KREQ_DECODE(q, add_partitions_to_txn, &m) || (q->version < 4 && !add_single(q, &m)))
        return;
    q->state_of = c;
    kafka_add_partitions_to_txn_response_init(&c->s);
    if (q->version >= 4 &&
        !kafka_allowed(q, KOP_CLUSTER_ACTION, KRES_CLUSTER, KAFKA_CLUSTER_NAME)) {
        c->s.error_code = KE_CLUSTER_AUTHORIZATION_FAILED;
        KREQ_REPLY(q, add_partitions_to_txn, &c->s);
        return;
    }
    c->txns = kreq_alloc(q, m.transactions_n, sizeof *c->txns);
    if (!c->txns || !(c->s.results_by_transaction =
                          kreq_alloc(q, m.transactions_n, sizeof *c->s.results_by_transaction)))
        return;
    c->txns_n = c->s.results_by_transaction_n = m.transactions_n;
    atomic_init(&c->left, 1);
    for (i = 0; i < c->txns_n && q->state != KREQ_DONE; i++) {
        c->txns[i].q = q;
        c->txns[i].m = &m.transactions[i];
        c->txns[i].s = &c->s.results_by_transaction[i];
        add_prepare(q, &c->txns[i]);
    }
    if (q->state == KREQ_DONE)
        return;
    for (i = 0; i < c->txns_n; i++)
        if (c->txns[i].call)
            add_begin(q, c, &c->txns[i]);
    if (atomic_fetch_sub(&c->left, 1) == 1)
        add_reply(q);
}

/* ---- AddOffsetsToTxn ---- */

static void offsets_reply(struct kreq *q, int16_t code)
{
    struct kafka_add_offsets_to_txn_response s;

    kafka_add_offsets_to_txn_response_init(&s);
    s.error_code = code;
    KREQ_REPLY(q, add_offsets_to_txn, &s);
}

static void offsets_answered(struct kreq *q)
{
    const struct txn_call *c = q->state_of;

    offsets_reply(q, kafka_txn_code(c->e, q->version >= FENCED_SINCE));
}

void kafka_on_add_offsets_to_txn(struct kreq *q)
{
    struct kafka_add_offsets_to_txn_request m;
    struct txn_call *c = kreq_alloc(q, 1, sizeof *c);
    struct errinfo info = {0};
    enum err e;

    if (!c || !KREQ_DECODE(q, add_offsets_to_txn, &m))
        return;
    c->reply = offsets_answered;
    q->state_of = c;
    if (!txn_id_allowed(q, m.transactional_id)) {
        offsets_reply(q, KE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    } else if (!kafka_allowed(q, KOP_READ, KRES_GROUP, m.group_id)) {
        offsets_reply(q, KE_GROUP_AUTHORIZATION_FAILED);
    } else if (m.transactional_id.len == 0) {
        offsets_reply(q, KE_INVALID_REQUEST);
    } else if (m.group_id.len == 0 || m.group_id.len > LIMIT_GROUP_NAME) {
        offsets_reply(q, kafka_code(ERR_GROUP_ID));
    } else {
        e = txn_begin(q->b, m.transactional_id, m.producer_id, m.producer_epoch, txn_answered, q,
                      &info);
        if (e)
            offsets_reply(q, kafka_txn_code(e, q->version >= FENCED_SINCE));
    }
}

/* ---- EndTxn ---- */

static void end_reply(struct kreq *q, int16_t code, int64_t producer_id, int16_t epoch)
{
    struct kafka_end_txn_response s;

    kafka_end_txn_response_init(&s);
    s.error_code = code;
    if (!code) {
        s.producer_id = producer_id;
        s.producer_epoch = epoch;
    }
    KREQ_REPLY(q, end_txn, &s);
}

static void end_answered(struct kreq *q)
{
    const struct txn_call *c = q->state_of;

    end_reply(q, kafka_txn_code(c->e, q->version >= FENCED_SINCE), c->producer_id, c->epoch);
}

/* From version 5 on each end raises the epoch (KIP-890). */
void kafka_on_end_txn(struct kreq *q)
{
    struct kafka_end_txn_request m;
    struct txn_call *c = kreq_alloc(q, 1, sizeof *c);
    struct errinfo info = {0};
    enum err e;

    if (!c || !KREQ_DECODE(q, end_txn, &m))
        return;
    c->reply = end_answered;
    q->state_of = c;
    if (!txn_id_allowed(q, m.transactional_id)) {
        end_reply(q, KE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, -1, -1);
        return;
    }
    if (m.transactional_id.len == 0) {
        end_reply(q, KE_INVALID_REQUEST, -1, -1);
        return;
    }
    e = txn_end(q->b, m.transactional_id, m.producer_id, m.producer_epoch, m.committed,
                q->version >= 5, txn_answered, q, &info);
    if (e)
        end_reply(q, kafka_txn_code(e, q->version >= FENCED_SINCE), -1, -1);
}
