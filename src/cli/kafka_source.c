/* `weir consume` over Kafka's protocol: one fetch under way at each leader, sessionless. Errors that go
 * away (a new leader, a lost connection) are tried over for FAILING_MS with new metadata. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "cli/kafka_group.h"
#include "io/io.h"

#define FAILING_MS  30000
#define PAUSE_MS    100
#define WAIT_MS     500 /* that a leader waits for records */
#define WAIT_SHORT  50  /* if the end is all that is waited for, or there are more leaders */
#define FETCH_BYTES (16 << 20)
#define PART_BYTES  (1 << 20)
#define LEADERS_MAX 64 /* asked in one round */

struct kafka_source {
    struct source source; /* first */
    struct kafka_client *c;
    struct kafka_group *group;
    struct arena arena;
    uint64_t failing_ms; /* since when; 0: all is well */
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

/* Something failed that may go away: the leaders are looked for again. False: not any more. */
static bool again(struct kafka_source *k)
{
    uint64_t now = now_ms();
    unsigned i;

    k->failing_ms = k->failing_ms ? k->failing_ms : now;
    for (i = 0; i < k->source.parts_n; i++)
        k->source.parts[i].leader = -1;
    if (now - k->failing_ms > FAILING_MS)
        return false;
    pause_ms(PAUSE_MS);
    return true;
}

/* ---- leaders ---- */

/* All partitions of the topic, or the one wanted. */
static void parts_of(struct kafka_source *k, const struct kafka_metadata_response_topic *t)
{
    int32_t only = k->source.conf->partition;
    uint32_t i;

    for (i = 0; i < t->partitions_n; i++)
        if (only < 0 || t->partitions[i].partition_index == only)
            source_part_add(&k->source, t->name, t->partitions[i].partition_index);
}

static void leaders_of(struct kafka_source *k, const struct kafka_metadata_response_topic *t)
{
    uint32_t i;
    unsigned n;

    for (n = 0; n < k->source.parts_n; n++) {
        struct part *p = &k->source.parts[n];

        for (i = 0; i < t->partitions_n && slice_eq_str(t->name, p->topic); i++)
            if (t->partitions[i].partition_index == p->index && !t->partitions[i].error_code)
                p->leader = t->partitions[i].leader_id;
    }
}

/* add: makes the parts. *retry: what is wrong may go away. */
static bool leaders_find(struct kafka_source *k, bool add, bool *retry)
{
    const struct source_conf *conf = k->source.conf;
    struct kafka_metadata_response s;
    uint32_t i;

    *retry = true;
    arena_reset(&k->arena);
    if (!kafka_client_metadata(k->c, conf->topics, conf->topics_n, false, &k->arena, &s))
        return false;
    for (i = 0; i < s.topics_n; i++) {
        int16_t code = s.topics[i].error_code;
        char name[256];

        snprintf(name, sizeof name, "%.*s", (int)s.topics[i].name.len,
                 (const char *)s.topics[i].name.ptr);
        *retry = kafka_error_again(code) && (!add || code != KAFKA_ERR_UNKNOWN_TOPIC_OR_PARTITION);
        if (code)
            return kafka_client_code(k->c, name, code);
        if (add)
            parts_of(k, &s.topics[i]);
        leaders_of(k, &s.topics[i]);
    }
    return true;
}

static bool leaders_known(struct kafka_source *k)
{
    unsigned i;
    bool retry;

    for (i = 0; i < k->source.parts_n && k->source.parts[i].leader >= 0; i++)
        ;
    if (i == k->source.parts_n)
        return true;
    if (!leaders_find(k, false, &retry))
        return retry && again(k);
    for (i = 0; i < k->source.parts_n; i++)
        if (k->source.parts[i].leader < 0) {
            kafka_client_code(k->c, k->source.parts[i].topic, KAFKA_ERR_LEADER_NOT_AVAILABLE);
            return again(k);
        }
    return true;
}

/* ---- first offsets ---- */

static bool list_call(struct kafka_source *k, struct kafka_conn *conn, int16_t v, struct part *p,
                      int64_t ts, int64_t *offset, int16_t *code)
{
    struct kafka_list_offsets_request_partition qp;
    struct kafka_list_offsets_request_topic qt = {
        .name = slice_str(p->topic), .partitions = &qp, .partitions_n = 1};
    struct kafka_list_offsets_request q;
    struct kafka_list_offsets_response s;

    kafka_list_offsets_request_partition_init(&qp);
    qp.partition_index = p->index;
    qp.timestamp = ts;
    kafka_list_offsets_request_init(&q);
    q.replica_id = -1;
    q.isolation_level = v >= 2 && k->source.conf->committed;
    q.topics = &qt;
    q.topics_n = 1;
    arena_reset(&k->arena);
    if (!KAFKA_CALL(conn, 2, v, list_offsets, &q, &k->arena, &s, KAFKA_TIMEOUT_MS))
        return false;
    if (s.topics_n != 1 || s.topics[0].partitions_n != 1)
        return kafka_client_fail(k->c, "%s: the broker does not tell its offsets", p->topic);
    *code = s.topics[0].partitions[0].error_code;
    *offset = s.topics[0].partitions[0].offset;
    return *code == 0 || kafka_client_code(k->c, p->topic, *code);
}

/* -2 the start, -1 the end, else the first record that is not older; -1 if there is none. */
static bool offset_at(struct kafka_source *k, struct part *p, int64_t ts, int64_t *offset,
                      bool *retry)
{
    struct kafka_conn *conn = kafka_client_node(k->c, p->leader);
    int16_t v = conn ? kafka_conn_version(conn, 2, 7) : -1, code = 0;

    *retry = conn == NULL;
    if (v < 0)
        return false;
    if (list_call(k, conn, v, p, ts, offset, &code))
        return true;
    *retry = code == 0 || kafka_error_again(code);
    return false;
}

static bool start_find(struct kafka_source *k, struct part *p, bool *retry)
{
    const struct source_conf *c = k->source.conf;
    int64_t first = 0, at = -1;

    *retry = true;
    if (c->from == FROM_OFFSET) {
        p->next = c->from_value;
        return true;
    }
    if (!offset_at(k, p,
                   c->from == FROM_START  ? -2
                   : c->from == FROM_TIME ? c->from_value
                                          : -1,
                   &at, retry))
        return false;
    if (at < 0 && !offset_at(k, p, -1, &at, retry))
        return false;
    if (c->from == FROM_LAST) {
        if (!offset_at(k, p, -2, &first, retry))
            return false;
        at = at - c->from_value > first ? at - c->from_value : first;
    }
    p->next = at;
    return true;
}

static bool starts_known(struct kafka_source *k)
{
    unsigned i;
    bool retry;

    for (i = 0; i < k->source.parts_n; i++)
        if (k->source.parts[i].next < 0 && !start_find(k, &k->source.parts[i], &retry))
            return retry && again(k);
    return true;
}

/* ---- fetching ---- */

static bool is_wanted(const struct kafka_source *k, const struct part *p)
{
    return p->next >= 0 && p->leader >= 0 && !(k->source.conf->exit_at_end && part_at_end(p));
}

/* The leaders of parts that are wanted. */
static unsigned leaders_list(const struct kafka_source *k, int32_t out[LEADERS_MAX])
{
    unsigned i, j, n = 0;

    for (i = 0; i < k->source.parts_n; i++) {
        if (!is_wanted(k, &k->source.parts[i]))
            continue;
        for (j = 0; j < n && out[j] != k->source.parts[i].leader; j++)
            ;
        if (j == n && n < LEADERS_MAX)
            out[n++] = k->source.parts[i].leader;
    }
    return n;
}

static bool fetch_send(struct kafka_source *k, struct kafka_conn *conn, int16_t v, int32_t node,
                       bool brief)
{
    struct source *s = &k->source;
    struct kafka_fetch_request q;
    struct kafka_fetch_request_topic *t = xcalloc(s->parts_n, sizeof *t);
    struct kafka_fetch_request_partition *p = xcalloc(s->parts_n, sizeof *p);
    unsigned i;
    bool ok;

    kafka_fetch_request_init(&q);
    q.max_wait_ms = brief ? WAIT_SHORT : WAIT_MS;
    q.min_bytes = 1;
    q.max_bytes = FETCH_BYTES;
    q.isolation_level = s->conf->committed;
    q.topics = t;
    for (i = 0; i < s->parts_n; i++) {
        if (!is_wanted(k, &s->parts[i]) || s->parts[i].leader != node)
            continue;
        kafka_fetch_request_partition_init(&p[i]);
        p[i].partition = s->parts[i].index;
        p[i].fetch_offset = s->parts[i].next;
        p[i].partition_max_bytes = PART_BYTES;
        t[q.topics_n].topic = slice_str(s->parts[i].topic);
        t[q.topics_n].partitions = &p[i];
        t[q.topics_n++].partitions_n = 1;
    }
    ok = KAFKA_SEND(conn, 1, v, fetch, &q);
    free(t);
    free(p);
    return ok;
}

struct taker {
    source_batches_fn fn;
    void *arg;
    bool more;
};

static bool out_of_range(struct kafka_source *k, struct part *p)
{
    bool retry;
    int64_t first, end, old = p->next;

    if (!offset_at(k, p, -2, &first, &retry) || !offset_at(k, p, -1, &end, &retry))
        return retry && again(k);
    p->next = p->next < first ? first : end;
    fail("%s [%d]: offset %lld is not there; going on at %lld", p->topic, (int)p->index,
         (long long)old, (long long)p->next);
    return true;
}

static bool part_take(struct kafka_source *k, struct part *p,
                      const struct kafka_fetch_response_partition *s, struct taker *t)
{
    struct aborted_txn *aborted;
    uint32_t i;

    if (s->error_code) {
        kafka_client_code(k->c, p->topic, s->error_code);
        return kafka_error_again(s->error_code) && again(k);
    }
    p->end = k->source.conf->committed && s->last_stable_offset >= 0 ? s->last_stable_offset
                                                                     : s->high_watermark;
    if (s->records.bytes.len == 0)
        return true;
    aborted = xcalloc(s->aborted_transactions_n + 1, sizeof *aborted);
    for (i = 0; i < s->aborted_transactions_n; i++)
        aborted[i] = (struct aborted_txn){s->aborted_transactions[i].producer_id,
                                          s->aborted_transactions[i].first_offset};
    t->more = t->fn(t->arg, p, s->records.bytes, aborted, s->aborted_transactions_n);
    free(aborted);
    return true;
}

static struct part *part_find(struct kafka_source *k, struct slice topic, int32_t index)
{
    unsigned i;

    for (i = 0; i < k->source.parts_n; i++)
        if (k->source.parts[i].index == index && slice_eq_str(topic, k->source.parts[i].topic))
            return &k->source.parts[i];
    return NULL;
}

static bool answer_take(struct kafka_source *k, const struct kafka_fetch_response *s,
                        struct taker *t)
{
    struct part *lost = NULL;
    uint32_t i, j;
    bool ok = s->error_code == 0;

    if (!ok)
        return kafka_client_code(k->c, "fetching", s->error_code) ||
               (kafka_error_again(s->error_code) && again(k));
    for (i = 0; i < s->responses_n; i++)
        for (j = 0; j < s->responses[i].partitions_n && ok && t->more; j++) {
            const struct kafka_fetch_response_partition *sp = &s->responses[i].partitions[j];
            struct part *p = part_find(k, s->responses[i].topic, sp->partition_index);

            if (p && sp->error_code == KAFKA_ERR_OFFSET_OUT_OF_RANGE)
                lost = p;
            else if (p)
                ok = part_take(k, p, sp, t);
        }
    return ok && (!lost || out_of_range(k, lost)); /* which uses the connection anew */
}

/* One round: all leaders are asked, then their answers taken one by one. */
static bool fetch(struct kafka_source *k, struct taker *t)
{
    int32_t nodes[LEADERS_MAX];
    struct kafka_conn *conns[LEADERS_MAX];
    int16_t v[LEADERS_MAX];
    unsigned i, n = leaders_list(k, nodes);
    bool failed = false, ok = true;

    if (n == 0)
        pause_ms(k->source.conf->exit_at_end && k->source.settled ? 0 : PAUSE_MS);
    for (i = 0; i < n; i++)
        if (!(conns[i] = kafka_client_node(k->c, nodes[i])))
            failed = true;
        else if ((v[i] = kafka_conn_version(conns[i], 1, 12)) < 0)
            return false;
    for (i = 0; i < n; i++)
        if (conns[i] &&
            !fetch_send(k, conns[i], v[i], nodes[i], n > 1 || k->source.conf->exit_at_end)) {
            conns[i] = NULL;
            failed = true;
        }
    for (i = 0; i < n; i++) {
        struct kafka_fetch_response s;

        if (!conns[i])
            continue;
        arena_reset(&k->arena);
        if (!KAFKA_RECEIVE(conns[i], 1, v[i], fetch, &k->arena, &s, KAFKA_TIMEOUT_MS))
            failed = true;
        else if (ok && t->more)
            ok = answer_take(k, &s, t);
    }
    if (!failed && ok)
        k->failing_ms = 0;
    return ok && (!failed || again(k));
}

/* ---- the source ---- */

static bool poll_source(struct source *s, source_batches_fn fn, void *arg)
{
    struct kafka_source *k = (struct kafka_source *)s;
    struct taker t = {fn, arg, true};
    bool ok;

    ok = (!k->group || kafka_group_poll(k->group)) && leaders_known(k) && starts_known(k) &&
         fetch(k, &t);
    if (!ok)
        fail("%s", kafka_client_error(k->c));
    return ok;
}

static bool commit(struct source *s)
{
    struct kafka_source *k = (struct kafka_source *)s;
    bool ok = !k->group || kafka_group_commit(k->group);

    if (!ok)
        fail("%s", kafka_client_error(k->c));
    return ok;
}

static void close_source(struct source *s)
{
    struct kafka_source *k = (struct kafka_source *)s;

    kafka_group_leave(&k->group);
    while (s->parts_n)
        source_part_remove(s, s->parts_n - 1);
    free(s->parts);
    arena_fini(&k->arena);
    kafka_client_free(&k->c);
    free(k);
}

static const struct source_ops ops = {poll_source, commit, close_source};

struct source *kafka_source_open(const struct source_conf *conf)
{
    struct kafka_client *c = kafka_client_new(conf->a);
    struct kafka_source *k;
    bool retry, ok = true;

    if (!c)
        return NULL;
    k = xcalloc(1, sizeof *k);
    k->source.ops = &ops;
    k->source.conf = conf;
    k->source.settled = conf->group == NULL;
    k->c = c;
    arena_init(&k->arena, 65536, KAFKA_ARRAYS_MAX);
    if (conf->group)
        k->group = kafka_group_new(c, &k->source);
    else
        ok = leaders_find(k, true, &retry);
    if (ok && !conf->group && k->source.parts_n == 0)
        ok = kafka_client_fail(c, "there is no partition %d", (int)conf->partition);
    if (ok)
        return &k->source;
    fail("%s", kafka_client_error(c));
    close_source(&k->source);
    return NULL;
}
