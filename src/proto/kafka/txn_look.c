/* Looking at producers and transactions: DescribeProducers, DescribeTransactions, ListTransactions.
 * Snapshots, answered at once. All on the request's loop. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/state.h"
#include "broker/topic_regex.h"
#include "io/io.h"
#include "proto/kafka/kafka_int.h"

#define PRODUCERS_FIRST 256u
#define PARTS_FIRST     16u
#define STATES          5u

/* As Kafka names them. Its prepared states are never seen here; they can be asked for. */
static const char *const states[] = {[TXN_EMPTY] = "Empty",
                                     [TXN_ONGOING] = "Ongoing",
                                     [TXN_COMMITTED] = "CompleteCommit",
                                     [TXN_ABORTED] = "CompleteAbort",
                                     [TXN_DEAD] = "Dead"};
static const char *const states_unseen[] = {"PrepareCommit", "PrepareAbort", "PrepareEpochFence"};

/* ---- DescribeProducers ---- */

struct producers_seen {
    struct producer_info *p;
    size_t cap;
};

/* All producers of the partition, in memory that is used again. */
static size_t producers_get(struct producers_seen *s, struct partition *p)
{
    size_t n;

    for (;;) {
        n = partition_producers(p, s->p, s->cap);
        if (n < s->cap || s->cap >= LIMIT_PRODUCERS)
            return n;
        s->cap = s->cap ? s->cap * 4 : PRODUCERS_FIRST;
        s->p = xrealloc(s->p, s->cap * sizeof *s->p);
    }
}

static void producers_fill(struct kreq *q, struct producers_seen *seen, struct partition *p,
                           struct kafka_describe_producers_response_partition *s)
{
    size_t i, n = producers_get(seen, p);

    if (!(s->active_producers = kreq_alloc(q, n, sizeof *s->active_producers)))
        return;
    s->active_producers_n = (uint32_t)n;
    for (i = 0; i < n; i++)
        s->active_producers[i] = (struct kafka_describe_producers_response_active_producer){
            .producer_id = seen->p[i].producer_id,
            .producer_epoch = seen->p[i].epoch,
            .last_sequence = seen->p[i].last_sequence,
            .last_timestamp = seen->p[i].last_ms,
            .coordinator_epoch = -1, /* of a marker's writer: there are none */
            .current_txn_start_offset = seen->p[i].txn_first_offset};
}

static void producers_topic(struct kreq *q, struct producers_seen *seen,
                            const struct kafka_describe_producers_request_topic *m,
                            struct kafka_describe_producers_response_topic *s)
{
    struct kafka_describe_producers_response_partition *o;
    struct partition *p;
    struct topic *t;
    int16_t code;
    uint32_t i;

    s->name = m->name;
    if (!(s->partitions = kreq_alloc(q, m->partition_indexes_n, sizeof *s->partitions)))
        return;
    s->partitions_n = m->partition_indexes_n;
    t = kafka_topic(q, m->name, NULL, false, &code);
    if (!kafka_allowed(q, KOP_READ, KRES_TOPIC, m->name))
        code = KE_TOPIC_AUTHORIZATION_FAILED;
    for (i = 0; i < s->partitions_n && q->state != KREQ_DONE; i++) {
        o = &s->partitions[i];
        o->partition_index = m->partition_indexes[i];
        o->error_code = code;
        if (code)
            continue;
        if ((p = topic_partition(t, o->partition_index)))
            producers_fill(q, seen, p, o);
        else
            o->error_code = KE_UNKNOWN_TOPIC_OR_PARTITION;
    }
    topic_unref(&t);
}

void kafka_on_describe_producers(struct kreq *q)
{
    struct kafka_describe_producers_response s;
    struct kafka_describe_producers_request m;
    struct producers_seen seen = {NULL, 0};
    uint32_t i;

    if (!KREQ_DECODE(q, describe_producers, &m))
        return;
    kafka_describe_producers_response_init(&s);
    if (!(s.topics = kreq_alloc(q, m.topics_n, sizeof *s.topics)))
        return;
    s.topics_n = m.topics_n;
    for (i = 0; i < m.topics_n && q->state != KREQ_DONE; i++)
        producers_topic(q, &seen, &m.topics[i], &s.topics[i]);
    free(seen.p);
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, describe_producers, &s);
}

/* ---- DescribeTransactions ---- */

struct part_seen {
    uint32_t topic;
    int32_t index;
};
struct parts_seen {
    struct part_seen *p;
    size_t n, cap;
};

static void part_note(void *arg, struct partition *p)
{
    struct parts_seen *s = arg;

    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : PARTS_FIRST;
        s->p = xrealloc(s->p, s->cap * sizeof *s->p);
    }
    s->p[s->n++] = (struct part_seen){topic_id(partition_topic(p)), partition_index(p)};
}

static int part_order(const void *a, const void *b)
{
    const struct part_seen *x = a, *y = b;

    if (x->topic != y->topic)
        return x->topic < y->topic ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Partitions from `at` on that are of one topic; how many. */
static size_t parts_of_topic(struct kreq *q, const struct parts_seen *seen, size_t at,
                             struct kafka_describe_transactions_response_transaction_state *s)
{
    struct kafka_describe_transactions_response_topic *o = &s->topics[s->topics_n];
    struct topic *t = topic_find_id(q->b, seen->p[at].topic);
    size_t i, n = 1;

    while (at + n < seen->n && seen->p[at + n].topic == seen->p[at].topic)
        n++;
    if (t && kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, slice_str(topic_name(t))) &&
        (o->partitions = kreq_alloc(q, n, sizeof *o->partitions))) {
        o->topic = arena_dup(&q->arena, slice_str(topic_name(t)));
        o->partitions_n = (uint32_t)n;
        for (i = 0; i < n; i++)
            o->partitions[i] = seen->p[at + i].index;
        s->topics_n++;
    }
    topic_unref(&t);
    return n;
}

static void txn_fill(struct kreq *q, struct slice name, struct parts_seen *seen,
                     struct kafka_describe_transactions_response_transaction_state *s)
{
    struct txn_info x;
    enum err e;
    size_t i;

    s->transactional_id = name;
    s->transaction_start_time_ms = s->producer_id = s->producer_epoch = -1;
    seen->n = 0;
    if (!kafka_allowed(q, KOP_DESCRIBE, KRES_TRANSACTIONAL_ID, name)) {
        s->error_code = KE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
        return;
    }
    e = name.len ? txn_get(q->b, name, &x, part_note, seen) : ERR_INVALID;
    if (e) {
        s->error_code = kafka_code(e);
        return;
    }
    s->transaction_state = slice_str(states[x.state]);
    s->transaction_timeout_ms = x.timeout_ms;
    s->transaction_start_time_ms = x.started_ms;
    s->producer_id = x.producer_id;
    s->producer_epoch = x.epoch;
    if (seen->n == 0)
        return;
    qsort(seen->p, seen->n, sizeof *seen->p, part_order);
    if (!(s->topics = kreq_alloc(q, seen->n, sizeof *s->topics)))
        return;
    for (i = 0; i < seen->n && q->state != KREQ_DONE;)
        i += parts_of_topic(q, seen, i, s);
}

void kafka_on_describe_transactions(struct kreq *q)
{
    struct kafka_describe_transactions_response s;
    struct kafka_describe_transactions_request m;
    struct parts_seen seen = {NULL, 0, 0};
    uint32_t i;

    if (!KREQ_DECODE(q, describe_transactions, &m))
        return;
    kafka_describe_transactions_response_init(&s);
    s.transaction_states = kreq_alloc(q, m.transactional_ids_n, sizeof *s.transaction_states);
    if (!s.transaction_states)
        return;
    s.transaction_states_n = m.transactional_ids_n;
    for (i = 0; i < m.transactional_ids_n && q->state != KREQ_DONE; i++)
        txn_fill(q, m.transactional_ids[i], &seen, &s.transaction_states[i]);
    free(seen.p);
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, describe_transactions, &s);
}

/* ---- ListTransactions ---- */

struct listing {
    struct kreq *q;
    const struct kafka_list_transactions_request *m;
    bool states[STATES];
    struct topic_regex *pattern; /* NULL: any */
    int64_t now_ms;
    struct kafka_list_transactions_response s;
    uint32_t cap; /* of s.transaction_states; 0: only count */
    uint32_t n;
    bool full;
};

static int id_order(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static bool listed(const struct listing *l, const struct txn_info *t)
{
    const struct kafka_list_transactions_request *m = l->m;

    if (m->producer_id_filters_n && !bsearch(&t->producer_id, m->producer_id_filters,
                                             m->producer_id_filters_n, sizeof(int64_t), id_order))
        return false;
    if (t->state >= STATES || (m->state_filters_n && !l->states[t->state]))
        return false;
    if (m->duration_filter >= 0 &&
        (t->started_ms < 0 || l->now_ms - t->started_ms <= m->duration_filter))
        return false;
    return !l->pattern || topic_regex_match(l->pattern, t->name);
}

/* A lock of the broker is held. */
static void list_one(void *arg, const struct txn_info *t)
{
    struct listing *l = arg;
    struct kafka_list_transactions_response_transaction_state *o;

    if (!listed(l, t))
        return;
    l->n++;
    if (l->s.transaction_states_n == l->cap)
        return; /* counting, or it came meanwhile */
    o = &l->s.transaction_states[l->s.transaction_states_n];
    o->transactional_id = arena_dup(&l->q->arena, t->name);
    if (slice_is_null(o->transactional_id)) {
        l->full = true;
        return;
    }
    o->producer_id = t->producer_id;
    o->transaction_state = slice_str(states[t->state]);
    l->s.transaction_states_n++;
}

/* Takes out what the client may not see. */
static void list_hide(struct listing *l)
{
    struct kafka_list_transactions_response *s = &l->s;
    uint32_t i, n = 0;

    for (i = 0; i < s->transaction_states_n; i++)
        if (kafka_allowed(l->q, KOP_DESCRIBE, KRES_TRANSACTIONAL_ID,
                          s->transaction_states[i].transactional_id))
            s->transaction_states[n++] = s->transaction_states[i];
    s->transaction_states_n = n;
}

/* False: there is no room. */
static bool list_states(struct listing *l)
{
    const struct kafka_list_transactions_request *m = l->m;
    uint32_t i, j;
    bool known;

    l->s.unknown_state_filters =
        kreq_alloc(l->q, m->state_filters_n, sizeof *l->s.unknown_state_filters);
    if (!l->s.unknown_state_filters)
        return false;
    for (i = 0; i < m->state_filters_n; i++) {
        known = false;
        for (j = 0; j < STATES; j++)
            if (slice_eq_str(m->state_filters[i], states[j]))
                known = l->states[j] = true;
        for (j = 0; j < sizeof states_unseen / sizeof *states_unseen; j++)
            known = known || slice_eq_str(m->state_filters[i], states_unseen[j]);
        if (!known)
            l->s.unknown_state_filters[l->s.unknown_state_filters_n++] = m->state_filters[i];
    }
    return true;
}

static void list_reply(struct kreq *q, struct listing *l)
{
    txn_each(q->b, list_one, l);
    l->s.transaction_states = kreq_alloc(q, l->n, sizeof *l->s.transaction_states);
    if (!l->s.transaction_states)
        return;
    l->cap = l->n;
    txn_each(q->b, list_one, l);
    if (l->full) {
        kreq_fail(q, ERR_TOO_LARGE);
        return;
    }
    list_hide(l);
    KREQ_REPLY(q, list_transactions, &l->s);
}

void kafka_on_list_transactions(struct kreq *q)
{
    struct kafka_list_transactions_request m;
    struct listing l = {.q = q, .m = &m, .now_ms = io_wall_ms(broker_io(q->b))};
    struct errinfo info = {0};

    if (!KREQ_DECODE(q, list_transactions, &m))
        return;
    if (m.producer_id_filters_n)
        qsort(m.producer_id_filters, m.producer_id_filters_n, sizeof(int64_t), id_order);
    kafka_list_transactions_response_init(&l.s);
    if (!list_states(&l))
        return;
    if (m.transactional_id_pattern.len &&
        topic_regex_new(m.transactional_id_pattern, &l.pattern, &info)) {
        l.s.error_code = kafka_code(ERR_REGEX);
        KREQ_REPLY(q, list_transactions, &l.s);
        return;
    }
    list_reply(q, &l);
    topic_regex_free(&l.pattern);
}
