/* Share groups by Kafka's requests: sessions, records acquired and settled, long polls, isolation,
 * dead letters, offsets, configuration. */
#include "broker/coordinator.h"
#include "journal/batch.h"

#include "detached.h"

#define CLIENTS 2
#define GROUP   "sharers"

enum { GAP, ACCEPT, RELEASE, REJECT, RENEW };

struct fx {
    struct dk d;
    struct dconn c[CLIENTS];
    struct topic *t;
};

static int setup(void **state)
{
    struct fx *f = calloc(1, sizeof *f);
    struct errinfo info = {0};
    unsigned i;

    dk_start(&f->d);
    for (i = 0; i < CLIENTS; i++)
        dconn_open(&f->d, &f->c[i]);
    assert_int_equal(topic_create_wait(f->d.b, SLICE_LIT("jobs"), 1, NULL, &info), ERR_OK);
    f->t = topic_find(f->d.b, SLICE_LIT("jobs"));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fx *f = *state;
    unsigned i;

    topic_unref(&f->t);
    dk_end(&f->d);
    for (i = 0; i < CLIENTS; i++)
        dconn_fini(&f->c[i]);
    free(f);
    return 0;
}

static void put(struct fx *f, unsigned n)
{
    struct append_record r = {
        .timestamp_ms = -1, .key = SLICE_LIT("k"), .value = SLICE_LIT("value")};
    struct append_slot slot;
    struct append *a;

    for (; n; n--) { /* a batch each */
        a = append_new(f->d.b, NULL, NULL);
        assert_int_equal(append_record(a, f->t, 0, &r, &slot, NULL), ERR_OK);
        assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
        append_free(&a);
    }
}

/* ---- requests ---- */

struct share_client {
    struct fx *f;
    struct dconn *c;
    const char *member;
    int32_t epoch; /* of the session */
    int16_t v;
    int32_t wait_ms, records;
    int8_t mode;
    /* acknowledgements to go with the next request */
    int64_t first, last;
    int8_t types[8];
    uint32_t types_n;
    /* answers */
    struct kafka_share_fetch_response s;
    struct kafka_share_fetch_response_partition *p; /* NULL: not told */
};

static struct share_client client(struct fx *f, unsigned n)
{
    static const char *const names[] = {"m-a", "m-b"};

    return (struct share_client){.f = f, .c = &f->c[n], .member = names[n], .v = 2, .records = 500};
}

static void ack_set(struct share_client *x, int64_t first, int64_t last, int8_t type)
{
    x->first = first;
    x->last = last;
    x->types[0] = type;
    x->types_n = 1;
}

static void fetch_send(struct share_client *x)
{
    struct kafka_share_fetch_request_acknowledgement_batch b = {x->first, x->last, x->types,
                                                                x->types_n};
    struct kafka_share_fetch_request_partition p = {0, x->types_n ? &b : NULL, x->types_n != 0};
    struct kafka_share_fetch_request_topic t = {.partitions = &p, .partitions_n = 1};
    struct kafka_share_fetch_request q;

    memcpy(t.topic_id, topic_uuid(x->f->t), 16);
    kafka_share_fetch_request_init(&q);
    q.group_id = SLICE_LIT(GROUP);
    q.member_id = slice_str(x->member);
    q.share_session_epoch = x->epoch;
    q.max_wait_ms = x->wait_ms;
    q.min_bytes = 1;
    q.max_records = x->records;
    q.batch_size = 100;
    if (x->v >= 2) {
        q.share_acquire_mode = x->mode;
        q.is_renew_ack = x->types_n && x->types[0] == RENEW;
    }
    if (x->epoch == 0 || x->types_n) {
        q.topics = &t;
        q.topics_n = 1;
    }
    dcall_begin(x->c, 78, x->v);
    kafka_share_fetch_request_encode(&x->c->w, x->v, &q);
    dcall_send(x->c);
    x->types_n = 0;
}

static int16_t fetch_got(struct share_client *x)
{
    dcall_open(x->c, 78, x->v);
    assert_int_equal(kafka_share_fetch_response_decode(&x->c->r, x->v, &x->c->arena, &x->s),
                     ERR_OK);
    assert_int_equal(kreader_left(&x->c->r), 0);
    x->p = x->s.responses_n ? &x->s.responses[0].partitions[0] : NULL;
    if (x->s.error_code == 0)
        x->epoch = x->epoch == -1 ? 0 : x->epoch + 1;
    return x->s.error_code;
}

static int16_t fetch(struct share_client *x)
{
    fetch_send(x);
    return fetch_got(x);
}

#define assert_acquired(x, i, from, to, count)                               \
    do {                                                                     \
        assert_non_null((x)->p);                                             \
        assert_int_equal((x)->p->error_code, 0);                             \
        assert_true((x)->p->acquired_records_n > (i));                       \
        assert_int_equal((x)->p->acquired_records[i].first_offset, from);    \
        assert_int_equal((x)->p->acquired_records[i].last_offset, to);       \
        assert_int_equal((x)->p->acquired_records[i].delivery_count, count); \
    } while (0)

/* ShareAcknowledge; returns the partition's code. */
static int16_t acknowledge(struct share_client *x, int16_t *top)
{
    struct kafka_share_acknowledge_request_acknowledgement_batch b = {x->first, x->last, x->types,
                                                                      x->types_n};
    struct kafka_share_acknowledge_request_partition p = {0, &b, 1};
    struct kafka_share_acknowledge_request_topic t = {.partitions = &p, .partitions_n = 1};
    struct kafka_share_acknowledge_request q;
    struct kafka_share_acknowledge_response s;

    memcpy(t.topic_id, topic_uuid(x->f->t), 16);
    kafka_share_acknowledge_request_init(&q);
    q.group_id = SLICE_LIT(GROUP);
    q.member_id = slice_str(x->member);
    q.share_session_epoch = x->epoch;
    if (x->types_n) {
        q.topics = &t;
        q.topics_n = 1;
    }
    dcall(x->c, 79, share_acknowledge, x->v, &q, &s);
    x->types_n = 0;
    if (top)
        *top = s.error_code;
    if (s.error_code)
        return s.error_code;
    if (x->v >= 2)
        assert_true(s.acquisition_lock_timeout_ms > 0);
    x->epoch = x->epoch == -1 ? 0 : x->epoch + 1;
    return s.responses_n ? s.responses[0].partitions[0].error_code : 0;
}

static int16_t configure(struct fx *f, const char *name, const char *value)
{
    struct kafka_incremental_alter_configs_request_config c = {
        .name = slice_str(name), .config_operation = value ? 0 : 1, .value = slice_str(value)};
    struct kafka_incremental_alter_configs_request_resource r = {
        .resource_type = 32, .resource_name = SLICE_LIT(GROUP), .configs = &c, .configs_n = 1};
    struct kafka_incremental_alter_configs_request q;
    struct kafka_incremental_alter_configs_response s;

    kafka_incremental_alter_configs_request_init(&q);
    q.resources = &r;
    q.resources_n = 1;
    dcall(&f->c[0], 44, incremental_alter_configs, 1, &q, &s);
    assert_int_equal(s.responses_n, 1);
    return s.responses[0].error_code;
}

#define conf_set(f, name, value) assert_int_equal(configure(f, name, value), 0)

/* ---- sessions ---- */

static void sessions(void **state)
{
    struct share_client a = client(*state, 0);
    int16_t top;

    a.epoch = 1;
    assert_int_equal(fetch(&a), 122); /* there is none */
    a.epoch = 0;
    ack_set(&a, 0, 0, ACCEPT);
    assert_int_equal(fetch(&a), 42);
    assert_int_equal(fetch(&a), 0);
    a.epoch = 7;
    assert_int_equal(fetch(&a), 123);
    a.epoch = 1;
    assert_int_equal(fetch(&a), 0);
    a.epoch = 0;
    assert_int_equal(acknowledge(&a, &top), 123); /* only a fetch begins one */
    assert_int_equal(top, 123);
    a.epoch = 2;
    ack_set(&a, 0, 0, ACCEPT);
    assert_int_equal(acknowledge(&a, NULL), 121); /* it has none */
    a.epoch = -1;
    assert_int_equal(fetch(&a), 0);
    a.epoch = 3;
    assert_int_equal(fetch(&a), 122);
    a.epoch = 0;
    a.member = "";
    assert_int_equal(fetch(&a), 42);
}

static void latest_and_earliest(void **state)
{
    struct fx *f = *state;
    struct share_client a = client(f, 0);

    put(f, 3);
    assert_int_equal(fetch(&a), 0); /* begins at the end */
    assert_null(a.p);
    put(f, 2);
    assert_int_equal(fetch(&a), 0);
    assert_acquired(&a, 0, 3, 4, 1);
    assert_int_equal(a.s.acquisition_lock_timeout_ms, 30000);
}

static void by_duration(void **state)
{
    struct fx *f = *state;
    struct share_client a = client(f, 0);

    put(f, 3);
    assert_int_equal(configure(f, "share.auto.offset.reset", "by_duration:1H"), 40);
    assert_int_equal(configure(f, "share.auto.offset.reset", "by_duration:PT"), 40);
    assert_int_equal(configure(f, "share.auto.offset.reset", "by_duration:PT1M2H"), 40);
    conf_set(f, "share.auto.offset.reset", "by_duration:P1DT2H3M4.5S");
    assert_int_equal(fetch(&a), 0);
    assert_acquired(&a, 0, 0, 2, 1);
}

/* ---- records ---- */

static void two_members(void **state)
{
    struct fx *f = *state;
    struct share_client a = client(f, 0), b = client(f, 1);

    conf_set(f, "share.auto.offset.reset", "earliest");
    put(f, 6);
    a.records = 2;
    assert_int_equal(fetch(&a), 0);
    assert_acquired(&a, 0, 0, 1, 1);
    assert_true(a.p->records.spans_n || a.p->records.bytes.len);
    assert_int_equal(fetch(&b), 0);
    assert_acquired(&b, 0, 2, 5, 1);
    /* what is another's is refused; own ones by the next fetch, or apart */
    ack_set(&b, 0, 0, ACCEPT);
    assert_int_equal(fetch(&b), 0);
    assert_int_equal(b.p->acknowledge_error_code, 121);
    assert_int_equal(b.p->acquired_records_n, 0);
    ack_set(&a, 0, 0, ACCEPT);
    a.records = 500;
    assert_int_equal(fetch(&a), 0);
    assert_int_equal(a.p->acknowledge_error_code, 0);
    b.types[0] = ACCEPT, b.types[1] = RELEASE, b.types[2] = RELEASE, b.types[3] = REJECT;
    b.types_n = 4;
    b.first = 2, b.last = 5;
    assert_int_equal(acknowledge(&b, NULL), 0);
    assert_int_equal(fetch(&a), 0);
    assert_acquired(&a, 0, 3, 4, 2);
    /* types do not fit the range, or are unknown */
    ack_set(&a, 3, 4, 9);
    assert_int_equal(acknowledge(&a, NULL), 42);
    ack_set(&a, 4, 3, ACCEPT);
    assert_int_equal(acknowledge(&a, NULL), 42);
    a.types[0] = a.types[1] = a.types[2] = ACCEPT;
    a.types_n = 3;
    a.first = 3, a.last = 4;
    assert_int_equal(acknowledge(&a, NULL), 42);
}

static void batches_and_limits(void **state)
{
    struct fx *f = *state;
    struct share_client a = client(f, 0);
    struct append_record r = {.timestamp_ms = -1, .value = SLICE_LIT("v")};
    struct append *ap = append_new(f->d.b, NULL, NULL);
    struct append_slot slot;
    int i;

    conf_set(f, "share.auto.offset.reset", "earliest");
    conf_set(f, "share.partition.max.record.locks", "8");
    for (i = 0; i < 6; i++) /* one batch */
        assert_int_equal(append_record(ap, f->t, 0, &r, &slot, NULL), ERR_OK);
    assert_int_equal(append_submit_wait(ap, NULL), ERR_OK);
    append_free(&ap);
    put(f, 6);
    a.records = 2;
    a.mode = 1; /* no more than that */
    assert_int_equal(fetch(&a), 0);
    assert_acquired(&a, 0, 0, 1, 1);
    a.mode = 0; /* whole batches */
    assert_int_equal(fetch(&a), 0);
    assert_acquired(&a, 0, 2, 5, 1);
    a.records = 500;
    assert_int_equal(fetch(&a), 0);
    assert_acquired(&a, 0, 6, 7, 1);
    assert_int_equal(fetch(&a), 0);
    assert_null(a.p); /* as many as may be in flight */
    ack_set(&a, 3, 4, ACCEPT);
    assert_int_equal(fetch(&a), 0);
    assert_acquired(&a, 0, 8, 9, 1);
}

static void long_poll(void **state)
{
    struct fx *f = *state;
    struct share_client a = client(f, 0), b = client(f, 1);

    conf_set(f, "share.auto.offset.reset", "earliest");
    assert_int_equal(fetch(&a), 0);
    a.wait_ms = 20000;
    fetch_send(&a);
    put(f, 1);
    assert_int_equal(fetch_got(&a), 0);
    assert_acquired(&a, 0, 0, 0, 1);
    /* a release wakes others, too */
    b.wait_ms = 20000;
    fetch_send(&b);
    loop_turn(f->d.loop, false);
    assert_false(dcall_answered(b.c));
    ack_set(&a, 0, 0, RELEASE);
    assert_int_equal(acknowledge(&a, NULL), 0);
    assert_int_equal(fetch_got(&b), 0);
    assert_acquired(&b, 0, 0, 0, 2);
    /* nothing comes */
    a.wait_ms = 30;
    assert_int_equal(fetch(&a), 0);
    assert_null(a.p);
    /* the connection ends meanwhile */
    a.wait_ms = 20000;
    fetch_send(&a);
    loop_turn(f->d.loop, false);
    conn_close(a.c->c, true, CONN_LOCAL);
    loop_turn(f->d.loop, false);
}

static void leases(void **state)
{
    struct fx *f = *state;
    struct share_client a = client(f, 0), b = client(f, 1);

    conf_set(f, "share.auto.offset.reset", "earliest");
    conf_set(f, "share.record.lock.duration.ms", "1000");
    conf_set(f, "share.delivery.count.limit", "2");
    put(f, 2);
    assert_int_equal(fetch(&a), 0);
    assert_acquired(&a, 0, 0, 1, 1);
    assert_int_equal(a.s.acquisition_lock_timeout_ms, 1000);
    b.wait_ms = 60000; /* until they are free again */
    assert_int_equal(fetch(&b), 0);
    assert_acquired(&b, 0, 0, 1, 2);
    conf_set(f, "share.record.lock.duration.ms", "60000"); /* b has time */
    ack_set(&a, 0, 1, ACCEPT);
    assert_int_equal(acknowledge(&a, NULL), 121); /* too late */
    ack_set(&b, 0, 0, RENEW);
    assert_int_equal(acknowledge(&b, NULL), 0);
    conf_set(f, "share.renew.acknowledge.enable", "false");
    ack_set(&b, 0, 0, RENEW);
    assert_int_equal(acknowledge(&b, NULL), 42);
    ack_set(&b, 0, 1, RELEASE);
    assert_int_equal(acknowledge(&b, NULL), 0); /* that was the last time */
    b.wait_ms = 0;
    assert_int_equal(fetch(&b), 0);
    assert_null(b.p);
}

static void connection_ends(void **state)
{
    struct fx *f = *state;
    struct share_client a = client(f, 0), b = client(f, 1);

    conf_set(f, "share.auto.offset.reset", "earliest");
    put(f, 2);
    assert_int_equal(fetch(&a), 0);
    assert_acquired(&a, 0, 0, 1, 1);
    b.wait_ms = 20000;
    fetch_send(&b);
    loop_turn(f->d.loop, false);
    conn_close(a.c->c, true, CONN_LOCAL);
    assert_int_equal(fetch_got(&b), 0);
    assert_acquired(&b, 0, 0, 1, 2); /* who knows what it did with them */
    /* a session that is closed gives back what was not looked at */
    b.wait_ms = 0;
    b.epoch = -1;
    ack_set(&b, 0, 0, ACCEPT);
    assert_int_equal(acknowledge(&b, NULL), 0);
    b.wait_ms = 5000;
    assert_int_equal(fetch(&b), 0);
    assert_acquired(&b, 0, 1, 1, 2);
}

static void dead_letters(void **state)
{
    struct fx *f = *state;
    struct share_client a = client(f, 0);
    struct reader_conf rc = {
        .selector = SLICE_LIT("dlq.jobs"), .partition = -1, .from = READ_FROM_START};
    struct reader_record rec;
    struct reader *r;

    conf_set(f, "share.auto.offset.reset", "earliest");
    conf_set(f, "errors.deadletterqueue.topic.name", "dlq.jobs");
    assert_int_equal(configure(f, "errors.deadletterqueue.topic.name", "no/topic"), 40);
    put(f, 2);
    assert_int_equal(fetch(&a), 0);
    assert_acquired(&a, 0, 0, 1, 1);
    ack_set(&a, 1, 1, REJECT);
    assert_int_equal(acknowledge(&a, NULL), 0);
    assert_int_equal(reader_open(f->d.b, &rc, &r, NULL), ERR_OK);
    assert_int_equal(reader_next(r, &rec, NULL), ERR_OK);
    assert_slice(rec.value, "value");
    assert_int_equal(rec.headers_n, 6);
    assert_slice(rec.headers[2].value, "1");
    assert_int_equal(reader_next(r, &rec, NULL), ERR_AGAIN);
    reader_close(&r);
}

/* ---- transactions ---- */

struct txn_told {
    atomic_bool done;
    enum err e;
    int64_t id;
    int16_t epoch;
};

static void told(void *arg, enum err e, const struct errinfo *info, int64_t id, int16_t epoch)
{
    struct txn_told *t = arg;

    t->e = e;
    t->id = id;
    t->epoch = epoch;
    atomic_store(&t->done, true);
}

static void told_wait(struct txn_told *t)
{
    while (!atomic_load(&t->done))
        usleep(100);
    assert_int_equal(t->e, ERR_OK);
    atomic_store(&t->done, false);
}

/* One record in a transaction of its own. */
static void put_txn(struct fx *f, struct txn_told *p, bool commit)
{
    struct append *a = append_new(f->d.b, NULL, NULL);
    struct batch_builder bb;
    struct append_slot slot;
    struct slice batch;

    batch_builder_init(&bb, CODEC_NONE, 4096);
    assert_int_equal(batch_builder_add(&bb, 1, SLICE_NULL, SLICE_LIT("txn"), NULL, 0, NULL),
                     ERR_OK);
    assert_int_equal(batch_builder_finish(&bb, BATCH_TRANSACTIONAL, p->id, p->epoch, 0, &batch),
                     ERR_OK);
    append_txn_starts(a);
    assert_int_equal(append_batch(a, topic_partition(f->t, 0), batch, &slot, NULL), ERR_OK);
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    append_free(&a);
    batch_builder_fini(&bb);
    assert_int_equal(txn_end(f->d.b, SLICE_LIT("x"), p->id, p->epoch, commit, true, told, p, NULL),
                     ERR_OK);
    told_wait(p);
}

static void isolation(void **state)
{
    struct fx *f = *state;
    struct share_client a = client(f, 0);
    struct txn_told p = {.done = false};

    assert_int_equal(txn_init(f->d.b, SLICE_LIT("x"), 60000, -1, -1, told, &p, NULL), ERR_OK);
    told_wait(&p);
    conf_set(f, "share.auto.offset.reset", "earliest");
    conf_set(f, "share.isolation.level", "read_committed");
    put(f, 1);             /* 0 */
    put_txn(f, &p, false); /* 1, marker 2 */
    put_txn(f, &p, true);  /* 3, marker 4 */
    put(f, 1);             /* 5 */
    assert_int_equal(fetch(&a), 0);
    assert_int_equal(a.p->acquired_records_n, 3);
    assert_acquired(&a, 0, 0, 0, 1);
    assert_acquired(&a, 1, 3, 3, 1);
    assert_acquired(&a, 2, 5, 5, 1);
}

static void uncommitted(void **state)
{
    struct fx *f = *state;
    struct share_client a = client(f, 0);
    struct txn_told p = {.done = false};

    assert_int_equal(txn_init(f->d.b, SLICE_LIT("x"), 60000, -1, -1, told, &p, NULL), ERR_OK);
    told_wait(&p);
    conf_set(f, "share.auto.offset.reset", "earliest");
    put_txn(f, &p, false); /* 0, marker 1 */
    put(f, 1);
    assert_int_equal(fetch(&a), 0);
    assert_int_equal(a.p->acquired_records_n, 2);
    assert_acquired(&a, 0, 0, 0, 1);
    assert_acquired(&a, 1, 2, 2, 1);
}

/* ---- members and offsets ---- */

static int16_t beat(struct fx *f, int32_t epoch, struct kafka_share_group_heartbeat_response *s)
{
    struct slice topic = SLICE_LIT("jobs");
    struct kafka_share_group_heartbeat_request q;

    kafka_share_group_heartbeat_request_init(&q);
    q.group_id = SLICE_LIT(GROUP);
    q.member_id = SLICE_LIT("m-a");
    q.member_epoch = epoch;
    q.subscribed_topic_names_null = epoch != 0;
    if (epoch == 0) {
        q.subscribed_topic_names = &topic;
        q.subscribed_topic_names_n = 1;
    }
    dcall(&f->c[0], 76, share_group_heartbeat, 1, &q, s);
    return s->error_code;
}

static void offsets_get(struct fx *f, int16_t *code, int64_t *start, int64_t *lag, bool all)
{
    int32_t zero = 0;
    struct kafka_describe_share_group_offsets_request_topic t = {SLICE_LIT("jobs"), &zero, 1};
    struct kafka_describe_share_group_offsets_request_group g = {
        .group_id = SLICE_LIT(GROUP), .topics = &t, .topics_n = 1, .topics_null = all};
    struct kafka_describe_share_group_offsets_request q;
    struct kafka_describe_share_group_offsets_response s;

    kafka_describe_share_group_offsets_request_init(&q);
    q.groups = &g;
    q.groups_n = 1;
    dcall(&f->c[1], 90, describe_share_group_offsets, 1, &q, &s);
    *code = s.groups[0].error_code;
    *start = *lag = -2;
    if (*code || s.groups[0].topics_n == 0)
        return;
    assert_slice(s.groups[0].topics[0].topic_name, "jobs");
    *start = s.groups[0].topics[0].partitions[0].start_offset;
    *lag = s.groups[0].topics[0].partitions[0].lag;
}

static int16_t alter(struct fx *f, int64_t start, int32_t index, int16_t *part)
{
    struct kafka_alter_share_group_offsets_request_partition p = {index, start};
    struct kafka_alter_share_group_offsets_request_topic t = {SLICE_LIT("jobs"), &p, 1};
    struct kafka_alter_share_group_offsets_request q;
    struct kafka_alter_share_group_offsets_response s;

    kafka_alter_share_group_offsets_request_init(&q);
    q.group_id = SLICE_LIT(GROUP);
    q.topics = &t;
    q.topics_n = 1;
    dcall(&f->c[1], 91, alter_share_group_offsets, 0, &q, &s);
    *part = s.responses_n ? s.responses[0].partitions[0].error_code : -1;
    return s.error_code;
}

static int16_t forget(struct fx *f, const char *topic, int16_t *part)
{
    struct kafka_delete_share_group_offsets_request_topic t = {slice_str(topic)};
    struct kafka_delete_share_group_offsets_request q;
    struct kafka_delete_share_group_offsets_response s;

    kafka_delete_share_group_offsets_request_init(&q);
    q.group_id = SLICE_LIT(GROUP);
    q.topics = &t;
    q.topics_n = 1;
    dcall(&f->c[1], 92, delete_share_group_offsets, 0, &q, &s);
    *part = s.responses_n ? s.responses[0].error_code : -1;
    return s.error_code;
}

static void members_and_offsets(void **state)
{
    struct fx *f = *state;
    struct kafka_share_group_heartbeat_response hb;
    struct kafka_share_group_describe_request dq;
    struct kafka_share_group_describe_response ds;
    struct share_client a = client(f, 0);
    struct slice group = SLICE_LIT(GROUP);
    int64_t start, lag;
    int32_t epoch;
    int16_t code, part;

    offsets_get(f, &code, &start, &lag, false);
    assert_int_equal(code, 69);
    conf_set(f, "share.auto.offset.reset", "earliest");
    assert_int_equal(beat(f, 0, &hb), 0);
    assert_true(hb.member_epoch > 0 && hb.heartbeat_interval_ms == 5000);
    assert_non_null(hb.assignment);
    assert_int_equal(hb.assignment->topic_partitions_n, 1);
    epoch = hb.member_epoch;
    assert_int_equal(beat(f, epoch, &hb), 0);
    assert_null(hb.assignment);
    assert_int_equal(beat(f, epoch + 5, &hb), 110);
    kafka_share_group_describe_request_init(&dq);
    dq.group_ids = &group;
    dq.group_ids_n = 1;
    dcall(&f->c[0], 77, share_group_describe, 1, &dq, &ds);
    assert_int_equal(ds.groups[0].error_code, 0);
    assert_slice(ds.groups[0].group_state, "Stable");
    assert_slice(ds.groups[0].assignor_name, "simple");
    assert_int_equal(ds.groups[0].members_n, 1);
    assert_slice(ds.groups[0].members[0].subscribed_topic_names[0], "jobs");
    assert_int_equal(ds.groups[0].members[0].assignment.topic_partitions_n, 1);

    offsets_get(f, &code, &start, &lag, false);
    assert_true(code == 0 && start == -1 && lag == -1); /* it has not begun */
    put(f, 5);
    a.records = 3;
    assert_int_equal(fetch(&a), 0);
    ack_set(&a, 0, 1, ACCEPT);
    assert_int_equal(acknowledge(&a, NULL), 0);
    offsets_get(f, &code, &start, &lag, true);
    assert_true(code == 0 && start == 2 && lag == 3);
    assert_int_equal(alter(f, 1, 0, &part), 68); /* not while it has members */
    assert_int_equal(forget(f, "jobs", &part), 68);
    assert_int_equal(beat(f, -1, &hb), 0);
    assert_int_equal(alter(f, 1, 0, &part), 0);
    assert_int_equal(part, 0);
    assert_int_equal(alter(f, 1, 9, &part), 0);
    assert_int_equal(part, 3);
    offsets_get(f, &code, &start, &lag, true);
    assert_true(code == 0 && start == 1 && lag == 4);
    a.records = 500;
    assert_int_equal(fetch(&a), 0);
    assert_acquired(&a, 0, 1, 4, 1);
    assert_int_equal(forget(f, "none", &part), 0);
    assert_int_equal(part, 3);
    assert_int_equal(forget(f, "jobs", &part), 0);
    assert_int_equal(part, 0);
    offsets_get(f, &code, &start, &lag, false);
    assert_true(code == 0 && start == -1);
    assert_int_equal(fetch(&a), 0); /* and begins anew */
    assert_acquired(&a, 0, 0, 4, 1);
}

/* ---- configuration ---- */

static void configuration(void **state)
{
    struct fx *f = *state;
    struct kafka_describe_configs_request_resource r = {
        .resource_type = 32, .resource_name = SLICE_LIT(GROUP), .configuration_keys_null = true};
    struct kafka_describe_configs_request q;
    struct kafka_describe_configs_response s;
    struct kafka_list_config_resources_request lq;
    struct kafka_list_config_resources_response ls;
    int8_t type = 32;
    bool seen = false;
    uint32_t i;

    assert_int_equal(configure(f, "share.record.lock.duration.ms", "10"), 40);
    assert_int_equal(configure(f, "share.delivery.count.limit", "x"), 40);
    assert_int_equal(configure(f, "share.isolation.level", "serial"), 40);
    assert_int_equal(configure(f, "no.such", "1"), 40);
    conf_set(f, "share.record.lock.duration.ms", "20000");
    conf_set(f, "share.delivery.count.limit", "7");
    conf_set(f, "share.delivery.count.limit", NULL); /* the default again */
    kafka_describe_configs_request_init(&q);
    q.resources = &r;
    q.resources_n = 1;
    dcall(&f->c[0], 32, describe_configs, 4, &q, &s);
    assert_int_equal(s.results[0].error_code, 0);
    for (i = 0; i < s.results[0].configs_n; i++) {
        struct kafka_describe_configs_response_config *c = &s.results[0].configs[i];

        if (slice_eq_str(c->name, "share.record.lock.duration.ms")) {
            assert_slice(c->value, "20000");
            assert_int_equal(c->config_source, 8);
            assert_false(c->read_only);
            seen = true;
        } else if (slice_eq_str(c->name, "share.delivery.count.limit")) {
            assert_slice(c->value, "5");
            assert_int_equal(c->config_source, 5);
        }
    }
    assert_true(seen);
    kafka_list_config_resources_request_init(&lq);
    lq.resource_types = &type;
    lq.resource_types_n = 1;
    dcall(&f->c[0], 74, list_config_resources, 1, &lq, &ls);
    assert_int_equal(ls.config_resources_n, 1);
    assert_slice(ls.config_resources[0].resource_name, GROUP);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(sessions),           T(latest_and_earliest), T(by_duration), T(two_members),
        T(batches_and_limits), T(long_poll),           T(leases),      T(connection_ends),
        T(dead_letters),       T(isolation),           T(uncommitted), T(members_and_offsets),
        T(configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
