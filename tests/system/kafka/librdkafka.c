/* librdkafka: `librdkafka BOOTSTRAP PREFIX`. Prints a line for each step (kafka_clients.py); what a
 * step finds wrong ends it by longjmp. One thread: consumers are polled in turn. */
#include <librdkafka/rdkafka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MEMBERS    3
#define PARTITIONS 6
#define PHASE      600
#define SEEN_MAX   10000
#define WAIT_MS    30000

static const char *bootstrap, *prefix;
static jmp_buf step_end;
static char why[1024];

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    longjmp(step_end, 1);
}

#define CHECK(cond, ...)       \
    do {                       \
        if (!(cond))           \
            fail(__VA_ARGS__); \
    } while (0)

static long long now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* Some are called several times a line: each call has a place of its own. */
static const char *named(const char *name)
{
    static char text[8][100];
    static unsigned next;
    char *t = text[next++ % 8];

    snprintf(t, sizeof text[0], "%s-rd-%s", prefix, name);
    return t;
}

/* ---- clients ---- */

static void set(rd_kafka_conf_t *conf, const char *key, const char *value)
{
    char err[300];

    CHECK(rd_kafka_conf_set(conf, key, value, err, sizeof err) == RD_KAFKA_CONF_OK, "%s", err);
}

static rd_kafka_t *client(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
    char err[300];
    rd_kafka_t *rk;

    set(conf, "bootstrap.servers", bootstrap);
    rk = rd_kafka_new(type, conf, err, sizeof err);
    CHECK(rk, "%s", err);
    return rk;
}

static unsigned delivered, refused;

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg)
{
    (void)rk;
    (void)arg;
    if (m->err)
        refused++;
    else
        delivered++;
}

static rd_kafka_t *producer(const char *codec, const char *txn_id)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    set(conf, "compression.codec", codec);
    set(conf, "linger.ms", "5");
    set(conf, "enable.idempotence", "true");
    if (txn_id)
        set(conf, "transactional.id", txn_id);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    return client(RD_KAFKA_PRODUCER, conf);
}

static void put(rd_kafka_t *rk, const char *topic, int32_t part, const char *key, const char *value)
{
    rd_kafka_resp_err_t e;

    do {
        e = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(part),
                              RD_KAFKA_V_KEY(key, strlen(key)),
                              RD_KAFKA_V_VALUE((void *)value, strlen(value)),
                              RD_KAFKA_V_HEADER("h", value, strlen(value) < 5 ? strlen(value) : 5),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        rd_kafka_poll(rk, e == RD_KAFKA_RESP_ERR__QUEUE_FULL ? 50 : 0);
    } while (e == RD_KAFKA_RESP_ERR__QUEUE_FULL);
    CHECK(!e, "produce: %s", rd_kafka_err2str(e));
}

/* Values PREFIXfrom … PREFIXto-1, keys k0 … k49. */
static void put_many(const char *codec, const char *topic, const char *what, int from, int to)
{
    rd_kafka_t *rk = producer(codec, NULL);
    char key[20], value[200];
    int i;

    delivered = refused = 0;
    for (i = from; i < to; i++) {
        snprintf(key, sizeof key, "k%d", i % 50);
        snprintf(value, sizeof value, "%s%d", what, i);
        put(rk, topic, RD_KAFKA_PARTITION_UA, key, value);
    }
    CHECK(!rd_kafka_flush(rk, WAIT_MS), "flush of %s", topic);
    CHECK((int)delivered == to - from && !refused, "%u delivered, %u refused", delivered, refused);
    rd_kafka_destroy(rk);
}

struct consumer {
    rd_kafka_t *rk;
    int got;
    char first[100], last[100];
};

static rd_kafka_conf_t *consumer_conf(const char *group)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    set(conf, "group.id", group);
    set(conf, "auto.offset.reset", "earliest");
    set(conf, "enable.auto.commit", "false");
    set(conf, "enable.partition.eof", "false");
    set(conf, "heartbeat.interval.ms", "300");
    set(conf, "session.timeout.ms", "6000");
    return conf;
}

static struct consumer subscribed(rd_kafka_conf_t *conf, const char *topic)
{
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);
    struct consumer c = {.rk = client(RD_KAFKA_CONSUMER, conf)};
    rd_kafka_resp_err_t e;

    rd_kafka_poll_set_consumer(c.rk);
    rd_kafka_topic_partition_list_add(l, topic, RD_KAFKA_PARTITION_UA);
    e = rd_kafka_subscribe(c.rk, l);
    rd_kafka_topic_partition_list_destroy(l);
    CHECK(!e, "subscribe: %s", rd_kafka_err2str(e));
    return c;
}

/* Partition 0 of the topic from `offset`. */
static struct consumer assigned(rd_kafka_conf_t *conf, const char *topic, int64_t offset)
{
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);
    struct consumer c = {.rk = client(RD_KAFKA_CONSUMER, conf)};
    rd_kafka_resp_err_t e;

    rd_kafka_poll_set_consumer(c.rk);
    rd_kafka_topic_partition_list_add(l, topic, 0)->offset = offset;
    e = rd_kafka_assign(c.rk, l);
    rd_kafka_topic_partition_list_destroy(l);
    CHECK(!e, "assign: %s", rd_kafka_err2str(e));
    return c;
}

static void closed(struct consumer *c)
{
    rd_kafka_resp_err_t e;

    if (!c->rk)
        return;
    e = rd_kafka_consumer_close(c->rk);
    rd_kafka_destroy(c->rk);
    c->rk = NULL;
    CHECK(!e, "close: %s", rd_kafka_err2str(e));
}

/* One message if there is one within `ms`: copied to value. */
static bool take(struct consumer *c, int ms, char value[100])
{
    rd_kafka_message_t *m = rd_kafka_consumer_poll(c->rk, ms);
    const void *h;
    size_t h_len;

    if (!m)
        return false;
    CHECK(!m->err, "consume: %s", rd_kafka_message_errstr(m));
    snprintf(value, 100, "%.*s", (int)m->len, (const char *)m->payload);
    if (!c->got++)
        memcpy(c->first, value, sizeof c->first);
    memcpy(c->last, value, sizeof c->last);
    if (m->key_len) {
        rd_kafka_headers_t *hs = NULL;

        CHECK(!rd_kafka_message_headers(m, &hs) && !rd_kafka_header_get_last(hs, "h", &h, &h_len) &&
                  memcmp(h, value, h_len) == 0,
              "headers of %s", value);
    }
    rd_kafka_message_destroy(m);
    return true;
}

static void take_n(struct consumer *c, int n)
{
    long long end = now_ms() + WAIT_MS;
    char value[100];

    while (c->got < n) {
        take(c, 100, value);
        CHECK(now_ms() < end, "%d records of %d", c->got, n);
    }
}

/* n records and then none for a while. */
static void take_exactly(struct consumer *c, int n)
{
    char value[100];

    take_n(c, n);
    CHECK(!take(c, 300, value), "a record too many: %s", value);
}

/* ---- admin ---- */

static rd_kafka_event_t *answer(rd_kafka_queue_t *q, const char *what)
{
    rd_kafka_event_t *ev = rd_kafka_queue_poll(q, WAIT_MS);

    CHECK(ev, "no answer to %s", what);
    CHECK(!rd_kafka_event_error(ev), "%s: %s", what, rd_kafka_event_error_string(ev));
    return ev;
}

static rd_kafka_resp_err_t topic_make(rd_kafka_t *rk, const char *name, int partitions)
{
    rd_kafka_queue_t *q = rd_kafka_queue_new(rk);
    rd_kafka_NewTopic_t *t = rd_kafka_NewTopic_new(name, partitions, 1, NULL, 0);
    const rd_kafka_topic_result_t **r;
    rd_kafka_resp_err_t e;
    rd_kafka_event_t *ev;
    size_t n;

    rd_kafka_CreateTopics(rk, &t, 1, NULL, q);
    ev = answer(q, "CreateTopics");
    r = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(ev), &n);
    CHECK(n == 1, "%zu topics made", n);
    e = rd_kafka_topic_result_error(r[0]);
    rd_kafka_event_destroy(ev);
    rd_kafka_NewTopic_destroy(t);
    rd_kafka_queue_destroy(q);
    return e;
}

static rd_kafka_t *admin;

static const char *topic_new(const char *name, int partitions)
{
    rd_kafka_resp_err_t e = topic_make(admin, named(name), partitions);

    CHECK(!e, "create %s: %s", name, rd_kafka_err2name(e));
    return named(name);
}

/* Partitions of a topic; -1: it is not there. */
static int partitions_of(const char *name)
{
    const struct rd_kafka_metadata *m;
    rd_kafka_resp_err_t e = rd_kafka_metadata(admin, 1, NULL, &m, WAIT_MS);
    int i, n = -1;

    CHECK(!e, "metadata: %s", rd_kafka_err2str(e));
    for (i = 0; i < m->topic_cnt; i++)
        if (strcmp(m->topics[i].topic, name) == 0 && !m->topics[i].err)
            n = m->topics[i].partition_cnt;
    rd_kafka_metadata_destroy(m);
    return n;
}

/* ---- steps ---- */

static void step_topics(void)
{
    const char *name = topic_new("topics", 3);
    rd_kafka_resp_err_t e;

    CHECK(partitions_of(name) == 3, "%d partitions", partitions_of(name));
    e = topic_make(admin, name, 3);
    CHECK(e == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS, "made twice: %s", rd_kafka_err2name(e));
    e = topic_make(admin, named("b/d"), 3);
    CHECK(e == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, "a bad name: %s", rd_kafka_err2name(e));
}

static void step_codecs(void)
{
    static const char *const codecs[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    const char *name = topic_new("codecs", 1);
    char value[100], want[100];
    struct consumer c;
    unsigned i;
    int k;

    for (i = 0; i < 5; i++)
        put_many(codecs[i], name, codecs[i], 0, 1000);
    c = assigned(consumer_conf(named("codecs")), name, RD_KAFKA_OFFSET_BEGINNING);
    for (i = 0; i < 5; i++)
        for (k = 0; k < 1000; k++) {
            CHECK(take(&c, 10000, value), "%u codecs and %d records, no more", i, k);
            snprintf(want, sizeof want, "%s%d", codecs[i], k);
            CHECK(strcmp(value, want) == 0, "%s instead of %s", value, want);
        }
    closed(&c);
}

struct group {
    struct consumer c[MEMBERS];
    const char *topic;
    int sent, got;
    bool once; /* a record that comes twice is an error */
    bool seen[SEEN_MAX];
};

static bool shared_out(struct group *g)
{
    int live = 0, i, all = 0;
    bool even = true;

    for (i = 0; i < MEMBERS; i++)
        live += g->c[i].rk != NULL;
    for (i = 0; i < MEMBERS; i++) {
        rd_kafka_topic_partition_list_t *l;

        if (!g->c[i].rk)
            continue;
        CHECK(!rd_kafka_assignment(g->c[i].rk, &l), "assignment");
        even = even && l->cnt == PARTITIONS / live;
        all += l->cnt;
        rd_kafka_topic_partition_list_destroy(l);
    }
    return even && all == PARTITIONS;
}

static void group_poll(struct group *g)
{
    char value[100];
    int i;

    for (i = 0; i < MEMBERS; i++)
        if (g->c[i].rk && take(&g->c[i], 5, value)) {
            long v = strtol(value + 1, NULL, 10);

            CHECK(value[0] == 'v' && v >= 0 && v < g->sent, "record %s", value);
            CHECK(!g->seen[v] || !g->once, "%s twice, after %d of %d", value, g->got, g->sent);
            g->got += !g->seen[v];
            g->seen[v] = true;
            rd_kafka_commit(g->c[i].rk, NULL, 1);
        }
}

/* The members share the partitions; then all of what is sent comes, each record once. */
static void group_phase(struct group *g)
{
    long long end = now_ms() + WAIT_MS;
    int i;

    while (!shared_out(g)) {
        group_poll(g);
        CHECK(now_ms() < end, "the partitions are not shared out");
    }
    put_many("lz4", g->topic, "v", g->sent, g->sent + PHASE);
    g->sent += PHASE;
    while (g->got < g->sent) {
        group_poll(g);
        CHECK(now_ms() < end, "%d records of %d", g->got, g->sent);
    }
    for (i = 0; i < MEMBERS; i++) {
        rd_kafka_resp_err_t e = g->c[i].rk ? rd_kafka_commit(g->c[i].rk, NULL, 0) : 0;

        CHECK(!e || e == RD_KAFKA_RESP_ERR__NO_OFFSET, "commit: %s", rd_kafka_err2name(e));
    }
}

/* Three members, one leaves, one joins. */
static void group_with(const char *name, const char *strategy, bool once)
{
    static struct group g;
    int i;

    memset(&g, 0, sizeof g);
    g.once = once;
    g.topic = topic_new(name, PARTITIONS);
    for (i = 0; i < MEMBERS; i++) {
        rd_kafka_conf_t *conf = consumer_conf(named(name));

        set(conf, "partition.assignment.strategy", strategy);
        g.c[i] = subscribed(conf, g.topic);
    }
    group_phase(&g);
    closed(&g.c[1]);
    group_phase(&g);
    {
        rd_kafka_conf_t *conf = consumer_conf(named(name));

        set(conf, "partition.assignment.strategy", strategy);
        g.c[1] = subscribed(conf, g.topic);
    }
    group_phase(&g);
    for (i = 0; i < MEMBERS; i++)
        closed(&g.c[i]);
}

static void step_group(void)
{
    group_with("range", "range", true);
    group_with("roundrobin", "roundrobin", true);
}

/* Before 2.1 librdkafka does not say that such a member leaves, so that its session has to expire,
 * and starts anew at offset 0 in partitions that it keeps. */
static void step_cooperative(void)
{
    group_with("coop", "cooperative-sticky", rd_kafka_version() >= 0x02010000);
}

/* A static member that comes back in time keeps its partitions: nobody is rebalanced. */
static void step_static(void)
{
    const char *name = topic_new("static", 2);
    struct consumer c[2];
    int i;

    for (i = 0; i < 2; i++) {
        rd_kafka_conf_t *conf = consumer_conf(named("static"));

        set(conf, "group.instance.id", i ? "two" : "one");
        c[i] = subscribed(conf, name);
    }
    put_many("none", name, "v", 0, 100);
    while (c[0].got + c[1].got < 100) {
        char value[100];
        bool one = take(&c[0], 50, value), two = take(&c[1], 50, value);

        CHECK(one || two || c[0].got + c[1].got < 100, "stuck");
        if (one)
            rd_kafka_commit(c[0].rk, NULL, 0);
        if (two)
            rd_kafka_commit(c[1].rk, NULL, 0);
    }
    closed(&c[0]);
    {
        rd_kafka_conf_t *conf = consumer_conf(named("static"));
        int before = c[1].got;

        set(conf, "group.instance.id", "one");
        c[0] = subscribed(conf, name);
        put_many("none", name, "v", 100, 200);
        while (c[0].got + c[1].got - before < 100) {
            char value[100];

            take(&c[0], 50, value);
            take(&c[1], 50, value);
        }
        CHECK(c[0].got > 0, "the member that came back got nothing");
    }
    closed(&c[0]);
    closed(&c[1]);
}

static void commit_at(struct consumer *c, const char *topic, int64_t offset, const char *note)
{
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *p = rd_kafka_topic_partition_list_add(l, topic, 0);
    rd_kafka_resp_err_t e;

    p->offset = offset;
    p->metadata = strdup(note);
    p->metadata_size = strlen(note);
    e = rd_kafka_commit(c->rk, l, 0);
    rd_kafka_topic_partition_list_destroy(l);
    CHECK(!e, "commit: %s", rd_kafka_err2str(e));
}

static void step_resume(void)
{
    const char *name = topic_new("resume", 1);
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);
    struct consumer c;

    put_many("none", name, "v", 0, 100);
    c = subscribed(consumer_conf(named("resume")), name);
    take_n(&c, 100);
    commit_at(&c, name, 40, "note");
    closed(&c);
    c = subscribed(consumer_conf(named("resume")), name);
    rd_kafka_topic_partition_list_add(l, name, 0);
    CHECK(!rd_kafka_committed(c.rk, l, WAIT_MS), "committed");
    CHECK(l->elems[0].offset == 40 && l->elems[0].metadata_size == 4 &&
              memcmp(l->elems[0].metadata, "note", 4) == 0,
          "committed %lld", (long long)l->elems[0].offset);
    rd_kafka_topic_partition_list_destroy(l);
    take_exactly(&c, 60);
    CHECK(strcmp(c.first, "v40") == 0 && strcmp(c.last, "v99") == 0, "%s … %s", c.first, c.last);
    closed(&c);
}

static void step_seek(void)
{
    const char *name = topic_new("seek", 1);
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *p = rd_kafka_topic_partition_list_add(l, name, 0);
    struct consumer c;
    int64_t low, high;
    char value[100];

    put_many("none", name, "v", 0, 200);
    usleep(20000);
    p->offset = now_ms();
    usleep(20000);
    put_many("none", name, "v", 200, 300);
    CHECK(!rd_kafka_offsets_for_times(admin, l, WAIT_MS) && p->offset == 200,
          "offset of a time %lld", (long long)p->offset);
    CHECK(!rd_kafka_query_watermark_offsets(admin, name, 0, &low, &high, WAIT_MS) && low == 0 &&
              high == 300,
          "watermarks");
    c = assigned(consumer_conf(named("seek")), name, 150);
    CHECK(take(&c, 10000, value) && strcmp(value, "v150") == 0, "at 150: %s", value);
    p->offset = 10;
    rd_kafka_error_destroy(rd_kafka_seek_partitions(c.rk, l, WAIT_MS));
    CHECK(!p->err, "seek: %s", rd_kafka_err2str(p->err));
    CHECK(take(&c, 10000, value) && strcmp(value, "v10") == 0, "at 10: %s", value);
    rd_kafka_topic_partition_list_destroy(l);
    closed(&c);
}

/* Frees and fails. */
static void txn_ok(rd_kafka_error_t *e, const char *what)
{
    char text[300];

    if (!e)
        return;
    snprintf(text, sizeof text, "%s: %s", what, rd_kafka_error_string(e));
    rd_kafka_error_destroy(e);
    fail("%s", text);
}

static void txn_offsets(rd_kafka_t *rk, const char *topic, int64_t offset)
{
    struct consumer c = subscribed(consumer_conf(named("txn")), topic);
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);
    rd_kafka_consumer_group_metadata_t *meta;

    take_n(&c, 1);
    meta = rd_kafka_consumer_group_metadata(c.rk);
    rd_kafka_topic_partition_list_add(l, topic, 0)->offset = offset;
    txn_ok(rd_kafka_send_offsets_to_transaction(rk, l, meta, WAIT_MS), "send offsets");
    rd_kafka_consumer_group_metadata_destroy(meta);
    rd_kafka_topic_partition_list_destroy(l);
    closed(&c);
}

static void txn_read(const char *topic, const char *level, const char *const *want, int n)
{
    rd_kafka_conf_t *conf = consumer_conf(named("txn-read"));
    struct consumer c;
    char value[100];
    int i;

    set(conf, "isolation.level", level);
    c = assigned(conf, topic, RD_KAFKA_OFFSET_BEGINNING);
    for (i = 0; i < n; i++) {
        CHECK(take(&c, 10000, value), "%s: %d records of %d", level, i, n);
        CHECK(strcmp(value, want[i]) == 0, "%s: %s instead of %s", level, value, want[i]);
    }
    CHECK(!take(&c, 300, value), "%s: a record too many: %s", level, value);
    closed(&c);
}

static void step_transactions(void)
{
    static const char *const all[] = {"one", "two", "three"}, *const some[] = {"one", "three"};
    const char *name = topic_new("txn", 1), *input = topic_new("txn-in", 1);
    rd_kafka_t *rk = producer("none", named("txn")), *fenced;
    rd_kafka_error_t *e;
    struct consumer c;
    int i;

    put_many("none", input, "v", 0, 10);
    txn_ok(rd_kafka_init_transactions(rk, WAIT_MS), "init");
    for (i = 0; i < 3; i++) {
        txn_ok(rd_kafka_begin_transaction(rk), "begin");
        put(rk, name, 0, "k", all[i]);
        if (i == 2)
            txn_offsets(rk, input, 7);
        rd_kafka_flush(rk, WAIT_MS);
        if (i == 1)
            txn_ok(rd_kafka_abort_transaction(rk, WAIT_MS), "abort");
        else
            txn_ok(rd_kafka_commit_transaction(rk, WAIT_MS), "commit");
    }
    txn_read(name, "read_committed", some, 2);
    txn_read(name, "read_uncommitted", all, 3);
    c = subscribed(consumer_conf(named("txn")), input);
    take_exactly(&c, 3);
    CHECK(strcmp(c.first, "v7") == 0, "resumed at %s", c.first);
    closed(&c);
    /* Another one of the same name: this one is over. */
    txn_ok(rd_kafka_begin_transaction(rk), "begin");
    put(rk, name, 0, "k", "fenced");
    rd_kafka_flush(rk, WAIT_MS);
    fenced = producer("none", named("txn"));
    txn_ok(rd_kafka_init_transactions(fenced, WAIT_MS), "init of the second");
    e = rd_kafka_commit_transaction(rk, WAIT_MS);
    CHECK(e && rd_kafka_error_is_fatal(e), "the first was not fenced: %s",
          e ? rd_kafka_error_string(e) : "it committed");
    rd_kafka_error_destroy(e);
    rd_kafka_destroy(fenced);
    rd_kafka_destroy(rk);
    txn_read(name, "read_committed", some, 2);
}

/* ---- admin ---- */

static void config_alter(const char *topic, const char *key, const char *value)
{
    rd_kafka_queue_t *q = rd_kafka_queue_new(admin);
    rd_kafka_ConfigResource_t *r = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    const rd_kafka_ConfigResource_t **out;
    rd_kafka_event_t *ev;
    size_t n;

    rd_kafka_ConfigResource_set_config(r, key, value);
    rd_kafka_AlterConfigs(admin, &r, 1, NULL, q);
    ev = answer(q, "AlterConfigs");
    out = rd_kafka_AlterConfigs_result_resources(rd_kafka_event_AlterConfigs_result(ev), &n);
    CHECK(n == 1 && !rd_kafka_ConfigResource_error(out[0]), "alter %s: %s", key,
          n ? rd_kafka_ConfigResource_error_string(out[0]) : "no answer");
    rd_kafka_event_destroy(ev);
    rd_kafka_ConfigResource_destroy(r);
    rd_kafka_queue_destroy(q);
}

static void config_is(const char *topic, const char *key, const char *value)
{
    rd_kafka_queue_t *q = rd_kafka_queue_new(admin);
    rd_kafka_ConfigResource_t *r = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    const rd_kafka_ConfigResource_t **out;
    const rd_kafka_ConfigEntry_t **entries;
    const char *found = NULL;
    rd_kafka_event_t *ev;
    size_t n, i;

    rd_kafka_DescribeConfigs(admin, &r, 1, NULL, q);
    ev = answer(q, "DescribeConfigs");
    out = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(ev), &n);
    CHECK(n == 1 && !rd_kafka_ConfigResource_error(out[0]), "describe configs");
    entries = rd_kafka_ConfigResource_configs(out[0], &n);
    for (i = 0; i < n; i++)
        if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), key) == 0)
            found = rd_kafka_ConfigEntry_value(entries[i]);
    CHECK(found && strcmp(found, value) == 0, "%s is %s", key, found ? found : "not there");
    rd_kafka_event_destroy(ev);
    rd_kafka_ConfigResource_destroy(r);
    rd_kafka_queue_destroy(q);
}

static void partitions_add(const char *topic, size_t n)
{
    rd_kafka_queue_t *q = rd_kafka_queue_new(admin);
    rd_kafka_NewPartitions_t *np = rd_kafka_NewPartitions_new(topic, n, NULL, 0);
    const rd_kafka_topic_result_t **r;
    rd_kafka_event_t *ev;
    size_t k;

    rd_kafka_CreatePartitions(admin, &np, 1, NULL, q);
    ev = answer(q, "CreatePartitions");
    r = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(ev), &k);
    CHECK(k == 1 && !rd_kafka_topic_result_error(r[0]), "create partitions: %s",
          k ? rd_kafka_topic_result_error_string(r[0]) : "no answer");
    rd_kafka_event_destroy(ev);
    rd_kafka_NewPartitions_destroy(np);
    rd_kafka_queue_destroy(q);
    CHECK(partitions_of(topic) == (int)n, "%d partitions", partitions_of(topic));
}

static void records_delete(const char *topic, int64_t before)
{
    rd_kafka_queue_t *q = rd_kafka_queue_new(admin);
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);
    rd_kafka_DeleteRecords_t *d;
    rd_kafka_event_t *ev;
    int64_t low, high;

    rd_kafka_topic_partition_list_add(l, topic, 0)->offset = before;
    d = rd_kafka_DeleteRecords_new(l);
    rd_kafka_DeleteRecords(admin, &d, 1, NULL, q);
    ev = answer(q, "DeleteRecords");
    rd_kafka_event_destroy(ev);
    rd_kafka_DeleteRecords_destroy(d);
    rd_kafka_topic_partition_list_destroy(l);
    rd_kafka_queue_destroy(q);
    CHECK(!rd_kafka_query_watermark_offsets(admin, topic, 0, &low, &high, WAIT_MS) && low == before,
          "low watermark after deleting");
}

static bool group_listed(const char *group)
{
    rd_kafka_queue_t *q = rd_kafka_queue_new(admin);
    const rd_kafka_ConsumerGroupListing_t **v;
    rd_kafka_event_t *ev;
    bool found = false;
    size_t n, i;

    rd_kafka_ListConsumerGroups(admin, NULL, q);
    ev = answer(q, "ListConsumerGroups");
    v = rd_kafka_ListConsumerGroups_result_valid(rd_kafka_event_ListConsumerGroups_result(ev), &n);
    for (i = 0; i < n; i++)
        found = found || strcmp(rd_kafka_ConsumerGroupListing_group_id(v[i]), group) == 0;
    rd_kafka_event_destroy(ev);
    rd_kafka_queue_destroy(q);
    return found;
}

static void group_described(const char *group, rd_kafka_consumer_group_state_t state,
                            size_t members)
{
    rd_kafka_queue_t *q = rd_kafka_queue_new(admin);
    const rd_kafka_ConsumerGroupDescription_t **d;
    rd_kafka_event_t *ev;
    size_t n;

    rd_kafka_DescribeConsumerGroups(admin, &group, 1, NULL, q);
    ev = answer(q, "DescribeConsumerGroups");
    d = rd_kafka_DescribeConsumerGroups_result_groups(
        rd_kafka_event_DescribeConsumerGroups_result(ev), &n);
    CHECK(n == 1 && !rd_kafka_ConsumerGroupDescription_error(d[0]), "describe group");
    CHECK(rd_kafka_ConsumerGroupDescription_state(d[0]) == state, "the group is %s",
          rd_kafka_consumer_group_state_name(rd_kafka_ConsumerGroupDescription_state(d[0])));
    CHECK(rd_kafka_ConsumerGroupDescription_member_count(d[0]) == members, "%zu members",
          rd_kafka_ConsumerGroupDescription_member_count(d[0]));
    rd_kafka_event_destroy(ev);
    rd_kafka_queue_destroy(q);
}

static void group_delete(const char *group)
{
    rd_kafka_queue_t *q = rd_kafka_queue_new(admin);
    rd_kafka_DeleteGroup_t *d = rd_kafka_DeleteGroup_new(group);
    const rd_kafka_group_result_t **r;
    rd_kafka_event_t *ev;
    size_t n;

    rd_kafka_DeleteGroups(admin, &d, 1, NULL, q);
    ev = answer(q, "DeleteGroups");
    r = rd_kafka_DeleteGroups_result_groups(rd_kafka_event_DeleteGroups_result(ev), &n);
    CHECK(n == 1 && !rd_kafka_group_result_error(r[0]), "delete group: %s",
          n ? rd_kafka_error_string(rd_kafka_group_result_error(r[0])) : "no answer");
    rd_kafka_event_destroy(ev);
    rd_kafka_DeleteGroup_destroy(d);
    rd_kafka_queue_destroy(q);
}

static void topic_delete(const char *topic)
{
    rd_kafka_queue_t *q = rd_kafka_queue_new(admin);
    rd_kafka_DeleteTopic_t *d = rd_kafka_DeleteTopic_new(topic);
    const rd_kafka_topic_result_t **r;
    rd_kafka_event_t *ev;
    size_t n;

    rd_kafka_DeleteTopics(admin, &d, 1, NULL, q);
    ev = answer(q, "DeleteTopics");
    r = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(ev), &n);
    CHECK(n == 1 && !rd_kafka_topic_result_error(r[0]), "delete topic");
    rd_kafka_event_destroy(ev);
    rd_kafka_DeleteTopic_destroy(d);
    rd_kafka_queue_destroy(q);
    CHECK(partitions_of(topic) == -1, "the topic is still there");
}

static void step_admin(void)
{
    const char *name = topic_new("admin", 1), *group = named("admin");
    struct consumer c;

    put_many("none", name, "v", 0, 20);
    config_alter(name, "retention.ms", "123456789");
    config_is(name, "retention.ms", "123456789");
    partitions_add(name, 4);
    records_delete(name, 5);
    c = subscribed(consumer_conf(group), name);
    take_n(&c, 1);
    CHECK(strcmp(c.first, "v5") == 0, "first record %s", c.first);
    commit_at(&c, name, 6, "");
    group_described(group, RD_KAFKA_CONSUMER_GROUP_STATE_STABLE, 1);
    closed(&c);
    group_described(group, RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY, 0);
    CHECK(group_listed(group), "the group is not listed");
    group_delete(group);
    CHECK(!group_listed(group), "the group is still listed");
    topic_delete(name);
}

static const struct step {
    const char *name;
    void (*run)(void);
} steps[] = {{"topics", step_topics}, {"codecs", step_codecs},
             {"group", step_group},   {"cooperative", step_cooperative},
             {"static", step_static}, {"resume", step_resume},
             {"seek", step_seek},     {"transactions", step_transactions},
             {"admin", step_admin}};

int main(int argc, char **argv)
{
    volatile unsigned i, failed = 0;
    char *p;

    if (argc < 3)
        return 2;
    bootstrap = argv[1];
    prefix = argv[2];
    if (setjmp(step_end)) {
        printf("fail start: %s\n", why);
        return 1;
    }
    admin = client(RD_KAFKA_PRODUCER, rd_kafka_conf_new());
    for (i = 0; i < sizeof steps / sizeof *steps; i++) {
        if (argc > 3 && strcmp(argv[3], steps[i].name) != 0)
            continue;
        if (!setjmp(step_end)) {
            steps[i].run();
            printf("ok %s\n", steps[i].name);
        } else {
            while ((p = strchr(why, '\n')))
                *p = ' ';
            printf("fail %s: %s\n", steps[i].name, why);
            failed++;
        }
        fflush(stdout);
    }
    rd_kafka_destroy(admin);
    return failed != 0;
}
