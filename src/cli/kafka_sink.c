/* `weir produce` over Kafka's protocol: acks=all, one request in flight for each leader. The producer is
 * idempotent where the broker allows it, so that a batch whose answer was lost is sent again without
 * being written twice; elsewhere a lost answer is an error. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "cli/kafka_client.h"
#include "cli/sink.h"
#include "io/io.h"

#define TRY_MS   30000 /* that a delivery may take */
#define FIND_MS  5000  /* that a topic may take to be there */
#define PAUSE_MS 100   /* between tries */

struct kafka_sink {
    struct sink sink; /* first */
    struct kafka_client *c;
    char *topic;
    int32_t *leader; /* of each partition; -1 none */
    struct arena arena;
};

static uint64_t now_ms(void)
{
    return io_mono_ns(io_real()) / 1000000;
}

static void pause_ms(long ms)
{
    struct timespec t = {.tv_nsec = ms * 1000000};

    nanosleep(&t, NULL);
}

/* ---- where to ---- */

static bool leaders_take(struct kafka_sink *k, const struct kafka_metadata_response_topic *t)
{
    uint32_t i;

    if (t->partitions_n == 0)
        return kafka_client_code(k->c, k->topic, KAFKA_ERR_LEADER_NOT_AVAILABLE);
    if ((uint32_t)k->sink.partitions < t->partitions_n) {
        k->leader = xrealloc(k->leader, t->partitions_n * sizeof *k->leader);
        k->sink.partitions = (int32_t)t->partitions_n;
    }
    for (i = 0; i < (uint32_t)k->sink.partitions; i++)
        k->leader[i] = -1;
    for (i = 0; i < t->partitions_n; i++)
        if (t->partitions[i].partition_index >= 0 &&
            t->partitions[i].partition_index < k->sink.partitions && !t->partitions[i].error_code)
            k->leader[t->partitions[i].partition_index] = t->partitions[i].leader_id;
    return true;
}

/* One look; *again: another may be worth it. */
static bool leaders_look(struct kafka_sink *k, bool *again)
{
    struct kafka_metadata_response s;
    const char *name = k->topic;
    int16_t code;

    arena_reset(&k->arena);
    *again = true;
    if (!kafka_client_metadata(k->c, &name, 1, true, &k->arena, &s))
        return false;
    if (s.topics_n != 1)
        return kafka_client_fail(k->c, "%s: the broker says nothing of it", k->topic);
    code = s.topics[0].error_code;
    *again = kafka_error_again(code) || code == KAFKA_ERR_NONE;
    return code ? kafka_client_code(k->c, k->topic, code) : leaders_take(k, &s.topics[0]);
}

static bool leaders_find(struct kafka_sink *k, uint64_t until)
{
    bool again;

    while (!leaders_look(k, &again)) {
        if (!again || now_ms() > until)
            return false;
        pause_ms(PAUSE_MS);
    }
    return true;
}

/* ---- delivering ---- */

struct delivery {
    const struct sink_batch *b;
    unsigned n;
    bool *done;  /* of each */
    bool *tried; /* in this round */
    bool *mine;  /* sent in the request under way */
};

static bool request_send(struct kafka_sink *k, struct kafka_conn *conn, int16_t v,
                         struct delivery *d, int32_t node)
{
    struct kafka_produce_request q;
    struct kafka_produce_request_topic t = {.name = slice_str(k->topic)};
    unsigned i;
    bool ok;

    t.partition_data = xcalloc(d->n, sizeof *t.partition_data);
    for (i = 0; i < d->n; i++) {
        d->mine[i] = !d->done[i] && k->leader[d->b[i].partition] == node;
        if (!d->mine[i])
            continue;
        d->tried[i] = true;
        t.partition_data[t.partition_data_n].index = d->b[i].partition;
        t.partition_data[t.partition_data_n++].records.bytes = d->b[i].data;
    }
    kafka_produce_request_init(&q);
    q.acks = -1;
    q.timeout_ms = TRY_MS;
    q.topic_data = &t;
    q.topic_data_n = 1;
    ok = KAFKA_SEND(conn, 0, v, produce, &q);
    free(t.partition_data);
    return ok;
}

/* False: it is not worth another try. */
static bool answer_take(struct kafka_sink *k, struct delivery *d,
                        const struct kafka_produce_response_partition *p)
{
    unsigned i;

    for (i = 0; i < d->n; i++) {
        if (!d->mine[i] || d->b[i].partition != p->index)
            continue;
        if (p->error_code == KAFKA_ERR_NONE ||
            p->error_code == KAFKA_ERR_DUPLICATE_SEQUENCE_NUMBER) {
            d->done[i] = true;
        } else {
            kafka_client_code(k->c, k->topic, p->error_code);
            if (p->error_message.len)
                kafka_client_fail(k->c, "%s: %.*s (%d)", k->topic, (int)p->error_message.len,
                                  (const char *)p->error_message.ptr, p->error_code);
            return kafka_error_again(p->error_code);
        }
    }
    return true;
}

static bool answers_take(struct kafka_sink *k, struct delivery *d,
                         const struct kafka_produce_response *s)
{
    uint32_t i, j;
    bool ok = true;

    for (i = 0; i < s->responses_n; i++)
        for (j = 0; j < s->responses[i].partition_responses_n; j++)
            ok = answer_take(k, d, &s->responses[i].partition_responses[j]) && ok;
    return ok;
}

/* What is left for one leader. False: it is not worth another try. */
static bool node_deliver(struct kafka_sink *k, struct delivery *d, int32_t node)
{
    struct kafka_conn *conn = kafka_client_node(k->c, node);
    int16_t v = conn ? kafka_conn_version(conn, 0, 12) : 0;
    struct kafka_produce_response s;

    if (!conn)
        return true;
    if (v < 0)
        return false;
    arena_reset(&k->arena);
    if (!request_send(k, conn, v, d, node) ||
        !KAFKA_RECEIVE(conn, 0, v, produce, &k->arena, &s, TRY_MS + 5000))
        return k->sink.producer_id >= 0;
    return answers_take(k, d, &s);
}

/* One round over all leaders. False: give up. *left: how many are not delivered. */
static bool round_deliver(struct kafka_sink *k, struct delivery *d, unsigned *left)
{
    unsigned i;

    memset(d->tried, 0, d->n * sizeof *d->tried);
    for (i = 0; i < d->n; i++) {
        int32_t node = k->leader[d->b[i].partition];

        if (d->done[i] || d->tried[i])
            continue;
        if (node < 0)
            kafka_client_code(k->c, k->topic, KAFKA_ERR_LEADER_NOT_AVAILABLE);
        else if (!node_deliver(k, d, node))
            return false;
    }
    for (*left = 0, i = 0; i < d->n; i++)
        *left += !d->done[i];
    return true;
}

static bool deliver(struct sink *s, const struct sink_batch *b, unsigned n)
{
    struct kafka_sink *k = (struct kafka_sink *)s;
    uint64_t until = now_ms() + TRY_MS;
    struct delivery d = {.b = b, .n = n};
    unsigned left = n;
    bool ok;

    d.done = xcalloc(3 * n, sizeof *d.done);
    d.tried = d.done + n;
    d.mine = d.tried + n;
    while ((ok = round_deliver(k, &d, &left)) && left) {
        ok = now_ms() < until;
        if (!ok)
            break;
        pause_ms(PAUSE_MS);
        if (!(ok = leaders_find(k, until)))
            break;
    }
    free(d.done);
    if (!ok)
        fail("%s", kafka_client_error(k->c));
    return ok;
}

/* ---- opening ---- */

/* Without an id a broker still takes records; it may not permit ids. */
static bool producer_id_get(struct kafka_sink *k)
{
    struct kafka_conn *conn = kafka_client_any(k->c);
    int16_t v = conn ? kafka_conn_version(conn, 22, 4) : -1;
    struct kafka_init_producer_id_request q;
    struct kafka_init_producer_id_response s;
    uint64_t until = now_ms() + TRY_MS;

    if (!conn)
        return false;
    if (v < 0)
        return true;
    kafka_init_producer_id_request_init(&q);
    q.transactional_id = SLICE_NULL;
    q.transaction_timeout_ms = TRY_MS;
    for (;;) {
        if (!KAFKA_CALL(conn, 22, v, init_producer_id, &q, &k->arena, &s, KAFKA_TIMEOUT_MS))
            return false;
        if (!kafka_error_again(s.error_code) || now_ms() > until)
            break;
        pause_ms(PAUSE_MS);
    }
    if (s.error_code == KAFKA_ERR_NONE) {
        k->sink.producer_id = s.producer_id;
        k->sink.producer_epoch = s.producer_epoch;
    }
    return true;
}

static void close_sink(struct sink *s)
{
    struct kafka_sink *k = (struct kafka_sink *)s;

    kafka_client_free(&k->c);
    arena_fini(&k->arena);
    free(k->leader);
    free(k->topic);
    free(k);
}

static const struct sink_ops ops = {deliver, close_sink};

struct sink *kafka_sink_open(const struct args *a, const char *topic)
{
    struct kafka_client *c = kafka_client_new(a);
    struct kafka_sink *k;

    if (!c)
        return NULL;
    k = xcalloc(1, sizeof *k);
    k->sink.ops = &ops;
    k->sink.producer_id = -1;
    k->sink.producer_epoch = -1;
    k->c = c;
    k->topic = xstrdup(topic);
    arena_init(&k->arena, 65536, KAFKA_ARRAYS_MAX);
    if (leaders_find(k, now_ms() + FIND_MS) && producer_id_get(k))
        return &k->sink;
    fail("%s", kafka_client_error(c));
    close_sink(&k->sink);
    return NULL;
}
