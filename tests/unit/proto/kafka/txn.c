/* Producer ids and transactions by Kafka's requests, each in every version. Records of transactions
 * are appended to the broker itself. */
#include "base/tbl/limits.h"
#include "journal/batch.h"

#include "detached.h"

#define FENCED 90

struct fx {
    struct dk d;
    struct dconn c;
};

/* Who produces. */
struct who {
    const char *name;
    int64_t id;
    int16_t epoch;
    int32_t sequence[4]; /* of t's partitions and of u */
};

static int setup(void **state)
{
    struct fx *f = calloc(1, sizeof *f);
    struct errinfo info = {0};

    dk_start(&f->d);
    dconn_open(&f->d, &f->c);
    assert_int_equal(topic_create_wait(f->d.b, SLICE_LIT("t"), 3, NULL, &info), ERR_OK);
    assert_int_equal(topic_create_wait(f->d.b, SLICE_LIT("u"), 1, NULL, &info), ERR_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fx *f = *state;

    dk_end(&f->d);
    dconn_fini(&f->c);
    free(f);
    return 0;
}

/* ---- requests ---- */

static int16_t init(struct fx *f, int16_t v, struct who *w, int64_t id, int16_t epoch,
                    int32_t timeout_ms)
{
    struct kafka_init_producer_id_request q;
    struct kafka_init_producer_id_response s;

    kafka_init_producer_id_request_init(&q);
    q.transactional_id = w->name ? slice_str(w->name) : SLICE_NULL;
    q.transaction_timeout_ms = timeout_ms;
    if (v >= 3) {
        q.producer_id = id;
        q.producer_epoch = epoch;
    }
    dcall(&f->c, 22, init_producer_id, v, &q, &s);
    if (s.error_code) {
        assert_int_equal(s.producer_id, -1);
    } else {
        w->id = s.producer_id;
        w->epoch = s.producer_epoch;
        memset(w->sequence, 0, sizeof w->sequence);
    }
    return s.error_code;
}

/* Adds partitions 0 and `second` of t to the transaction: their codes. */
static void add(struct fx *f, int16_t v, const struct who *w, bool verify, int32_t second,
                int16_t *first_code, int16_t *second_code)
{
    int32_t index[2] = {0, second};
    struct kafka_add_partitions_to_txn_request_topic t = {SLICE_LIT("t"), index, 2};
    struct kafka_add_partitions_to_txn_request_transaction x = {
        slice_str(w->name), w->id, w->epoch, verify, &t, 1};
    struct kafka_add_partitions_to_txn_response_topic *o;
    struct kafka_add_partitions_to_txn_request q;
    struct kafka_add_partitions_to_txn_response s;

    kafka_add_partitions_to_txn_request_init(&q);
    if (v < 4) {
        q.v3_and_below_transactional_id = x.transactional_id;
        q.v3_and_below_producer_id = x.producer_id;
        q.v3_and_below_producer_epoch = x.producer_epoch;
        q.v3_and_below_topics = &t;
        q.v3_and_below_topics_n = 1;
    } else {
        q.transactions = &x;
        q.transactions_n = 1;
    }
    dcall(&f->c, 24, add_partitions_to_txn, v, &q, &s);
    if (v < 4) {
        assert_int_equal(s.results_by_topic_v3_and_below_n, 1);
        o = s.results_by_topic_v3_and_below;
    } else {
        assert_int_equal(s.error_code, 0);
        assert_int_equal(s.results_by_transaction_n, 1);
        assert_slice(s.results_by_transaction[0].transactional_id, w->name);
        o = s.results_by_transaction[0].topic_results;
    }
    assert_slice(o->name, "t");
    assert_int_equal(o->results_by_partition_n, 2);
    assert_int_equal(o->results_by_partition[1].partition_index, second);
    *first_code = o->results_by_partition[0].partition_error_code;
    *second_code = o->results_by_partition[1].partition_error_code;
}

static int16_t add_offsets(struct fx *f, int16_t v, const struct who *w, const char *group)
{
    struct kafka_add_offsets_to_txn_request q;
    struct kafka_add_offsets_to_txn_response s;

    kafka_add_offsets_to_txn_request_init(&q);
    q.transactional_id = slice_str(w->name);
    q.producer_id = w->id;
    q.producer_epoch = w->epoch;
    q.group_id = slice_str(group);
    dcall(&f->c, 25, add_offsets_to_txn, v, &q, &s);
    return s.error_code;
}

static int16_t commit_offset(struct fx *f, int16_t v, const struct who *w, const char *group,
                             int32_t generation, const char *topic, int64_t offset)
{
    struct kafka_txn_offset_commit_request_partition p = {
        .partition_index = 0, .committed_offset = offset, .committed_metadata = SLICE_LIT("m")};
    struct kafka_txn_offset_commit_request_topic t = {slice_str(topic), &p, 1};
    struct kafka_txn_offset_commit_request q;
    struct kafka_txn_offset_commit_response s;

    p.committed_leader_epoch = -1;
    kafka_txn_offset_commit_request_init(&q);
    q.transactional_id = slice_str(w->name);
    q.group_id = slice_str(group);
    q.producer_id = w->id;
    q.producer_epoch = w->epoch;
    if (v >= 3)
        q.generation_id = generation;
    q.topics = &t;
    q.topics_n = 1;
    dcall(&f->c, 28, txn_offset_commit, v, &q, &s);
    assert_int_equal(s.topics_n, 1);
    assert_slice(s.topics[0].name, topic);
    assert_int_equal(s.topics[0].partitions_n, 1);
    return s.topics[0].partitions[0].error_code;
}

/* From version 5 on the producer goes on with what the answer says. */
static int16_t end(struct fx *f, int16_t v, struct who *w, bool commit)
{
    struct kafka_end_txn_request q;
    struct kafka_end_txn_response s;

    kafka_end_txn_request_init(&q);
    q.transactional_id = slice_str(w->name);
    q.producer_id = w->id;
    q.producer_epoch = w->epoch;
    q.committed = commit;
    dcall(&f->c, 26, end_txn, v, &q, &s);
    if (v >= 5 && !s.error_code) {
        if (s.producer_epoch != w->epoch)
            memset(w->sequence, 0, sizeof w->sequence);
        w->id = s.producer_id;
        w->epoch = s.producer_epoch;
    } else if (v >= 5) {
        assert_int_equal(s.producer_id, -1);
    }
    return s.error_code;
}

static void produce(struct fx *f, struct who *w, const char *topic, int32_t partition)
{
    struct topic *t = topic_find(f->d.b, slice_str(topic));
    struct append *a = append_new(f->d.b, NULL, NULL);
    struct errinfo info = {0};
    struct batch_builder bb;
    struct append_slot slot;
    struct append_place at;
    struct slice batch;

    batch_builder_init(&bb, CODEC_NONE, 4096);
    assert_int_equal(batch_builder_add(&bb, 1000, SLICE_LIT("k"), SLICE_LIT("v"), NULL, 0, NULL),
                     ERR_OK);
    assert_int_equal(batch_builder_finish(&bb, w->name ? BATCH_TRANSACTIONAL : 0, w->id, w->epoch,
                                          w->sequence[*topic == 'u' ? 3 : partition]++, &batch),
                     ERR_OK);
    assert_int_equal(append_batch(a, topic_partition(t, partition), batch, &slot, &info), ERR_OK);
    assert_int_equal(append_submit_wait(a, &info), ERR_OK);
    assert_int_equal(append_place(a, slot, &at), ERR_OK);
    append_free(&a);
    batch_builder_fini(&bb);
    topic_unref(&t);
}

static int64_t offset_of(struct fx *f, const char *group)
{
    struct topic *t = topic_find(f->d.b, SLICE_LIT("t"));
    struct group_offset o;
    enum err e = group_offset_get(f->d.b, slice_str(group), topic_partition(t, 0), &o);

    topic_unref(&t);
    return e ? -1 : o.offset;
}

/* ---- tests ---- */

static void ids_are_new(void **state)
{
    struct fx *f = *state;
    struct who w[6] = {{0}};
    int16_t v, i;

    for (v = 0; v <= 5; v++) {
        assert_int_equal(init(f, v, &w[v], -1, -1, 60000), 0);
        assert_int_equal(w[v].epoch, 0);
        for (i = 0; i < v; i++)
            assert_int_not_equal(w[i].id, w[v].id);
    }
}

static void init_fences(void **state)
{
    struct fx *f = *state;
    struct who a = {.name = "a"}, old, other = {.name = "a"};
    int16_t v, c1, c2;

    for (v = 0; v <= 5; v++) {
        assert_int_equal(init(f, v, &a, -1, -1, 60000), 0);
        assert_int_equal(a.epoch, v);
    }
    /* its own wish to go on with the next epoch, asked twice (KIP-360) */
    old = a;
    assert_int_equal(init(f, 4, &a, a.id, a.epoch, 60000), 0);
    assert_int_equal(a.epoch, old.epoch + 1);
    assert_int_equal(init(f, 4, &old, old.id, old.epoch, 60000), 0);
    assert_int_equal(old.epoch, a.epoch);
    /* another takes it over: the former owner may not */
    assert_int_equal(init(f, 4, &other, -1, -1, 60000), 0);
    assert_int_equal(init(f, 4, &a, a.id, a.epoch, 60000), FENCED);
    assert_int_equal(init(f, 3, &a, a.id, a.epoch, 60000), kafka_code(ERR_PRODUCER_EPOCH));
    for (v = 0; v <= 5; v++) {
        add(f, v, &a, false, 1, &c1, &c2);
        assert_int_equal(c1, v < 2 ? kafka_code(ERR_PRODUCER_EPOCH) : FENCED);
        assert_int_equal(c2, c1);
        if (v < 5)
            assert_int_equal(add_offsets(f, v, &a, "g"), c1);
        assert_int_equal(end(f, v, &a, true), c1);
        assert_int_equal(commit_offset(f, v, &a, "g", -1, "t", 1), kafka_code(ERR_PRODUCER_EPOCH));
    }
}

static void init_refused(void **state)
{
    struct fx *f = *state;
    struct who w = {.name = "w"}, stranger = {.name = "none", .id = 77};
    char name[LIMIT_TXN_NAME + 2];
    int16_t c1, c2;

    assert_int_equal(init(f, 4, &w, -1, 3, 60000), KE_INVALID_REQUEST);
    assert_int_equal(init(f, 4, &w, 3, -1, 60000), KE_INVALID_REQUEST);
    assert_int_equal(init(f, 4, &w, -1, -1, 0), kafka_code(ERR_TXN_TIMEOUT));
    assert_int_equal(init(f, 4, &w, -1, -1, INT32_MAX), kafka_code(ERR_TXN_TIMEOUT));
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    w.name = name;
    assert_int_equal(init(f, 4, &w, -1, -1, 60000), KE_INVALID_REQUEST);
    w.name = "";
    assert_int_equal(init(f, 4, &w, -1, -1, 60000), KE_INVALID_REQUEST);
    add(f, 4, &w, false, 1, &c1, &c2);
    assert_int_equal(c1, KE_INVALID_REQUEST);
    assert_int_equal(end(f, 3, &w, true), KE_INVALID_REQUEST);
    assert_int_equal(add_offsets(f, 3, &w, "g"), KE_INVALID_REQUEST);
    /* an id that nobody asked for */
    add(f, 3, &stranger, false, 1, &c1, &c2);
    assert_int_equal(c1, kafka_code(ERR_PRODUCER_ID));
    assert_int_equal(end(f, 3, &stranger, true), kafka_code(ERR_PRODUCER_ID));
    assert_int_equal(add_offsets(f, 3, &stranger, "g"), kafka_code(ERR_PRODUCER_ID));
    assert_int_equal(commit_offset(f, 3, &stranger, "g", -1, "t", 1), kafka_code(ERR_PRODUCER_ID));
}

/* Offsets of a transaction are seen when it is committed, and never when it is not. */
static void transactions(void **state)
{
    struct fx *f = *state;
    struct who w = {.name = "flow"};
    int16_t v, c1, c2, epoch;

    assert_int_equal(init(f, 5, &w, -1, -1, 60000), 0);
    for (v = 0; v <= 5; v++) {
        epoch = w.epoch;
        assert_int_equal(end(f, v < 5 ? v : 4, &w, true), kafka_code(ERR_TXN_STATE));
        add(f, v, &w, false, 1, &c1, &c2);
        assert_int_equal(c1, 0);
        assert_int_equal(c2, 0);
        produce(f, &w, "t", 0);
        assert_int_equal(add_offsets(f, v < 4 ? v : 4, &w, "g"), 0);
        assert_int_equal(commit_offset(f, v, &w, "g", -1, "t", 10 + v), 0);
        assert_int_equal(offset_of(f, "g"), v ? 9 + v : -1);
        assert_int_equal(end(f, v, &w, true), 0);
        assert_int_equal(offset_of(f, "g"), 10 + v);
        assert_int_equal(w.epoch, v < 5 ? epoch : epoch + 1);
        assert_int_equal(end(f, v < 5 ? v : 4, &w, true), 0); /* its answer was lost */
        add(f, v, &w, false, 1, &c1, &c2);
        produce(f, &w, "t", 1);
        assert_int_equal(commit_offset(f, v, &w, "g", -1, "t", 99), 0);
        assert_int_equal(end(f, v, &w, false), 0);
        assert_int_equal(offset_of(f, "g"), 10 + v);
        if (v == 5)
            assert_int_equal(w.epoch, epoch + 2);
        /* committing what was aborted */
        assert_int_equal(end(f, v, &w, true), kafka_code(ERR_TXN_STATE));
        /* without a word that offsets come: only the newest version may */
        assert_int_equal(commit_offset(f, v, &w, "h", -1, "t", 1),
                         v < 5 ? kafka_code(ERR_TXN_STATE) : 0);
    }
    assert_int_equal(end(f, 5, &w, true), 0);
    assert_int_equal(offset_of(f, "h"), 1);
}

static void partitions_refused(void **state)
{
    struct fx *f = *state;
    struct who w = {.name = "parts"};
    struct txn_info x;
    int16_t v, c1, c2;

    assert_int_equal(init(f, 5, &w, -1, -1, 60000), 0);
    for (v = 0; v <= 5; v++) {
        add(f, v, &w, false, 3, &c1, &c2);
        assert_int_equal(c1, 55); /* OPERATION_NOT_ATTEMPTED */
        assert_int_equal(c2, KE_UNKNOWN_TOPIC_OR_PARTITION);
        add(f, v, &w, false, -1, &c1, &c2);
        assert_int_equal(c2, KE_UNKNOWN_TOPIC_OR_PARTITION);
    }
    assert_int_equal(txn_get(f->d.b, SLICE_LIT("parts"), &x, NULL, NULL), ERR_OK);
    assert_int_equal(x.started_ms, -1); /* nothing was begun */
    add(f, 4, &w, true, 1, &c1, &c2);
    assert_int_equal(c1, kafka_code(ERR_TXN_STATE));
    add(f, 5, &w, true, 1, &c1, &c2);
    assert_int_equal(c1, 120); /* TRANSACTION_ABORTABLE */
    add(f, 5, &w, false, 1, &c1, &c2);
    add(f, 4, &w, true, 1, &c1, &c2);
    assert_int_equal(c1, 0);
    w.epoch++;
    add(f, 4, &w, true, 1, &c1, &c2);
    assert_int_equal(c1, FENCED);
    w.id++;
    add(f, 4, &w, true, 1, &c1, &c2);
    assert_int_equal(c1, kafka_code(ERR_PRODUCER_ID));
}

/* A batch of several transactions: each has its own answer. */
static void partitions_batched(void **state)
{
    struct fx *f = *state;
    struct who a = {.name = "a"}, b = {.name = "b"};
    int32_t index = 0;
    struct kafka_add_partitions_to_txn_request_topic t = {SLICE_LIT("t"), &index, 1},
                                                     none = {SLICE_LIT("none"), &index, 1};
    struct kafka_add_partitions_to_txn_request_transaction x[3];
    struct kafka_add_partitions_to_txn_request q;
    struct kafka_add_partitions_to_txn_response s;
    struct txn_info i;

    init(f, 5, &a, -1, -1, 60000);
    init(f, 5, &b, -1, -1, 60000);
    x[0] = (struct kafka_add_partitions_to_txn_request_transaction){SLICE_LIT("a"), a.id, a.epoch,
                                                                    false,          &t,   1};
    x[1] = (struct kafka_add_partitions_to_txn_request_transaction){SLICE_LIT("c"), 99, 0,
                                                                    false,          &t, 1};
    x[2] = (struct kafka_add_partitions_to_txn_request_transaction){SLICE_LIT("b"), b.id,  b.epoch,
                                                                    false,          &none, 1};
    kafka_add_partitions_to_txn_request_init(&q);
    q.transactions = x;
    q.transactions_n = 3;
    dcall(&f->c, 24, add_partitions_to_txn, 5, &q, &s);
    assert_int_equal(s.results_by_transaction_n, 3);
#define CODE(n) \
    s.results_by_transaction[n].topic_results[0].results_by_partition[0].partition_error_code
    assert_int_equal(CODE(0), 0);
    assert_int_equal(CODE(1), kafka_code(ERR_PRODUCER_ID));
    assert_int_equal(CODE(2), KE_UNKNOWN_TOPIC_OR_PARTITION);
#undef CODE
    assert_int_equal(txn_get(f->d.b, SLICE_LIT("a"), &i, NULL, NULL), ERR_OK);
    assert_true(i.started_ms >= 0);
    assert_int_equal(txn_get(f->d.b, SLICE_LIT("b"), &i, NULL, NULL), ERR_OK);
    assert_int_equal(i.started_ms, -1);
}

static void offsets_refused(void **state)
{
    struct fx *f = *state;
    struct who w = {.name = "offs"};
    char group[LIMIT_GROUP_NAME + 2];

    memset(group, 'g', sizeof group - 1);
    group[sizeof group - 1] = 0;
    init(f, 5, &w, -1, -1, 60000);
    assert_int_equal(commit_offset(f, 5, &w, "g", -1, "none", 1), KE_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(commit_offset(f, 5, &w, "g", -1, "t", -1), KE_INVALID_REQUEST);
    assert_int_equal(commit_offset(f, 5, &w, "g", 4, "t", 1), kafka_code(ERR_ILLEGAL_GENERATION));
    assert_int_equal(commit_offset(f, 5, &w, group, -1, "t", 1), kafka_code(ERR_GROUP_ID));
    assert_int_equal(commit_offset(f, 5, &w, "", -1, "t", 1), kafka_code(ERR_GROUP_ID));
    assert_int_equal(add_offsets(f, 4, &w, group), kafka_code(ERR_GROUP_ID));
    assert_int_equal(add_offsets(f, 4, &w, ""), kafka_code(ERR_GROUP_ID));
    assert_int_equal(end(f, 5, &w, true), kafka_code(ERR_TXN_STATE)); /* nothing was begun */
}

/* One who asks for stable offsets is told to wait while a transaction holds them. */
static void offsets_unstable(void **state)
{
    struct fx *f = *state;
    int32_t index = 0;
    struct kafka_offset_fetch_request_topic t = {SLICE_LIT("t"), &index, 1};
    struct kafka_offset_fetch_request q;
    struct kafka_offset_fetch_response s;
    struct who w = {.name = "stable"};

    init(f, 5, &w, -1, -1, 60000);
    assert_int_equal(commit_offset(f, 5, &w, "g", -1, "t", 5), 0);
    kafka_offset_fetch_request_init(&q);
    q.group_id = SLICE_LIT("g");
    q.topics = &t;
    q.topics_n = 1;
    dcall(&f->c, 9, offset_fetch, 7, &q, &s);
    assert_int_equal(s.topics[0].partitions[0].error_code, 0);
    assert_int_equal(s.topics[0].partitions[0].committed_offset, -1);
    q.require_stable = true;
    dcall(&f->c, 9, offset_fetch, 7, &q, &s);
    assert_int_equal(s.topics[0].partitions[0].error_code, KE_UNSTABLE_OFFSET_COMMIT);
    assert_int_equal(s.topics[0].partitions[0].committed_offset, -1);
    assert_int_equal(end(f, 5, &w, true), 0);
    dcall(&f->c, 9, offset_fetch, 7, &q, &s);
    assert_int_equal(s.topics[0].partitions[0].error_code, 0);
    assert_int_equal(s.topics[0].partitions[0].committed_offset, 5);
}

/* ---- looking ---- */

static void producers_described(void **state)
{
    struct fx *f = *state;
    int32_t index[3] = {0, 1, 9};
    struct kafka_describe_producers_request_topic t[2] = {{SLICE_LIT("t"), index, 3},
                                                          {SLICE_LIT("none"), index, 1}};
    struct kafka_describe_producers_response_active_producer *p;
    struct kafka_describe_producers_request q;
    struct kafka_describe_producers_response s;
    struct who w = {.name = "seen"}, plain = {.name = NULL};
    int16_t c1, c2;

    init(f, 5, &w, -1, -1, 60000);
    init(f, 5, &plain, -1, -1, 60000);
    produce(f, &plain, "t", 1);
    produce(f, &plain, "t", 1);
    add(f, 5, &w, false, 1, &c1, &c2);
    produce(f, &w, "t", 0);
    kafka_describe_producers_request_init(&q);
    q.topics = t;
    q.topics_n = 2;
    dcall(&f->c, 61, describe_producers, 0, &q, &s);
    assert_int_equal(s.topics_n, 2);
    assert_int_equal(s.topics[0].partitions[0].active_producers_n, 1);
    p = s.topics[0].partitions[0].active_producers;
    assert_int_equal(p->producer_id, w.id);
    assert_int_equal(p->last_sequence, 0);
    assert_int_equal(p->last_timestamp, 1000);
    assert_int_equal(p->current_txn_start_offset, 0);
    assert_int_equal(s.topics[0].partitions[1].active_producers_n, 1);
    p = s.topics[0].partitions[1].active_producers;
    assert_int_equal(p->producer_id, plain.id);
    assert_int_equal(p->last_sequence, 1);
    assert_int_equal(p->current_txn_start_offset, -1);
    assert_int_equal(s.topics[0].partitions[2].error_code, KE_UNKNOWN_TOPIC_OR_PARTITION);
    assert_int_equal(s.topics[1].partitions[0].error_code, KE_UNKNOWN_TOPIC_OR_PARTITION);
}

static void transactions_described(void **state)
{
    struct fx *f = *state;
    struct slice names[3] = {SLICE_LIT("open"), SLICE_LIT("never"), SLICE_LIT("")};
    struct kafka_describe_transactions_request q;
    struct kafka_describe_transactions_response s;
    struct who w = {.name = "open"};
    int16_t c1, c2;

    init(f, 5, &w, -1, -1, 30000);
    add(f, 5, &w, false, 2, &c1, &c2);
    produce(f, &w, "t", 2);
    produce(f, &w, "t", 0);
    produce(f, &w, "u", 0);
    kafka_describe_transactions_request_init(&q);
    q.transactional_ids = names;
    q.transactional_ids_n = 3;
    dcall(&f->c, 65, describe_transactions, 0, &q, &s);
    assert_int_equal(s.transaction_states_n, 3);
    assert_int_equal(s.transaction_states[0].error_code, 0);
    assert_slice(s.transaction_states[0].transaction_state, "Ongoing");
    assert_int_equal(s.transaction_states[0].transaction_timeout_ms, 30000);
    assert_int_equal(s.transaction_states[0].producer_id, w.id);
    assert_true(s.transaction_states[0].transaction_start_time_ms > 0);
    assert_int_equal(s.transaction_states[0].topics_n, 2);
    assert_slice(s.transaction_states[0].topics[0].topic, "t");
    assert_int_equal(s.transaction_states[0].topics[0].partitions_n, 2);
    assert_int_equal(s.transaction_states[0].topics[0].partitions[0], 0);
    assert_int_equal(s.transaction_states[0].topics[0].partitions[1], 2);
    assert_slice(s.transaction_states[0].topics[1].topic, "u");
    assert_int_equal(s.transaction_states[1].error_code, kafka_code(ERR_TXN_NOT_FOUND));
    assert_int_equal(s.transaction_states[2].error_code, KE_INVALID_REQUEST);
    end(f, 5, &w, true);
    dcall(&f->c, 65, describe_transactions, 0, &q, &s);
    assert_slice(s.transaction_states[0].transaction_state, "CompleteCommit");
    assert_int_equal(s.transaction_states[0].transaction_start_time_ms, -1);
    assert_int_equal(s.transaction_states[0].topics_n, 0);
}

static void transactions_listed(void **state)
{
    struct fx *f = *state;
    struct slice filters[2] = {SLICE_LIT("Ongoing"), SLICE_LIT("Asleep")};
    struct kafka_list_transactions_request q;
    struct kafka_list_transactions_response s;
    struct who idle = {.name = "idle"}, open = {.name = "open-1"}, done = {.name = "done"};
    int64_t ids[2];
    int16_t v, c1, c2;

    init(f, 5, &idle, -1, -1, 60000);
    init(f, 5, &open, -1, -1, 60000);
    init(f, 5, &done, -1, -1, 60000);
    add(f, 5, &open, false, 1, &c1, &c2);
    add(f, 5, &done, false, 1, &c1, &c2);
    assert_int_equal(end(f, 4, &done, false), 0);
    for (v = 0; v <= 2; v++) {
        kafka_list_transactions_request_init(&q);
        dcall(&f->c, 66, list_transactions, v, &q, &s);
        assert_int_equal(s.transaction_states_n, 3);
        q.state_filters = filters;
        q.state_filters_n = 2;
        dcall(&f->c, 66, list_transactions, v, &q, &s);
        assert_int_equal(s.transaction_states_n, 1);
        assert_slice(s.transaction_states[0].transactional_id, "open-1");
        assert_slice(s.transaction_states[0].transaction_state, "Ongoing");
        assert_int_equal(s.transaction_states[0].producer_id, open.id);
        assert_int_equal(s.unknown_state_filters_n, 1);
        assert_slice(s.unknown_state_filters[0], "Asleep");
        q.state_filters = filters + 1; /* nothing is in a state that there is not */
        q.state_filters_n = 1;
        dcall(&f->c, 66, list_transactions, v, &q, &s);
        assert_int_equal(s.transaction_states_n, 0);
        q.state_filters_n = 0;
        ids[0] = done.id;
        ids[1] = 12345;
        q.producer_id_filters = ids;
        q.producer_id_filters_n = 2;
        dcall(&f->c, 66, list_transactions, v, &q, &s);
        assert_int_equal(s.transaction_states_n, 1);
        assert_slice(s.transaction_states[0].transaction_state, "CompleteAbort");
    }
    kafka_list_transactions_request_init(&q);
    q.duration_filter = 3600000;
    dcall(&f->c, 66, list_transactions, 1, &q, &s);
    assert_int_equal(s.transaction_states_n, 0);
    usleep(3000);
    q.duration_filter = 0;
    dcall(&f->c, 66, list_transactions, 1, &q, &s);
    assert_int_equal(s.transaction_states_n, 1);
    kafka_list_transactions_request_init(&q);
    q.transactional_id_pattern = SLICE_LIT("(open-\\d|idle)");
    dcall(&f->c, 66, list_transactions, 2, &q, &s);
    assert_int_equal(s.transaction_states_n, 2);
    q.transactional_id_pattern = SLICE_LIT("(");
    dcall(&f->c, 66, list_transactions, 2, &q, &s);
    assert_int_equal(s.error_code, kafka_code(ERR_REGEX));
    assert_int_equal(s.transaction_states_n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ids_are_new, setup, teardown),
        cmocka_unit_test_setup_teardown(init_fences, setup, teardown),
        cmocka_unit_test_setup_teardown(init_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(transactions, setup, teardown),
        cmocka_unit_test_setup_teardown(partitions_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(partitions_batched, setup, teardown),
        cmocka_unit_test_setup_teardown(offsets_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(offsets_unstable, setup, teardown),
        cmocka_unit_test_setup_teardown(producers_described, setup, teardown),
        cmocka_unit_test_setup_teardown(transactions_described, setup, teardown),
        cmocka_unit_test_setup_teardown(transactions_listed, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
