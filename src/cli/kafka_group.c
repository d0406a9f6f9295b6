/* See kafka_group.h.
 *
 * epoch 0: not joined. poll() heartbeats every interval, and at once when what the member has changed.
 * An answer with an assignment is taken in one step (partitions that go away are committed before); the
 * next heartbeat says what the member has then. FENCED_MEMBER_EPOCH and UNKNOWN_MEMBER_ID: all partitions
 * are given up, uncommitted, and the member joins anew. */
#include "cli/kafka_group.h"

#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/mem.h"
#include "io/io.h"

#define REBALANCE_MS  60000
#define FAILING_MS    30000 /* errors that go away may last so long */
#define RETRY_MS      500
#define MEMBER_ID_MAX 255

struct kafka_group {
    struct kafka_client *c;
    struct source *source;
    char member[MEMBER_ID_MAX + 1];
    int32_t epoch, coordinator;   /* node, -1 not known */
    bool changed;                 /* parts are not what the coordinator was told */
    uint64_t next_ms, failing_ms; /* next heartbeat; since when it fails, 0 it does not */
    int32_t interval_ms;
    struct arena arena;
};

static uint64_t now_ms(void)
{
    return io_mono_ns(io_real()) / 1000000;
}

static struct slice name_of(const struct kafka_group *g)
{
    return slice_str(g->source->conf->group);
}

/* For errors that go away. False: they have lasted too long. */
static bool later(struct kafka_group *g)
{
    uint64_t now = now_ms();

    g->failing_ms = g->failing_ms ? g->failing_ms : now;
    g->next_ms = now + RETRY_MS;
    return now - g->failing_ms < FAILING_MS;
}

/* ---- the coordinator ---- */

static bool find(struct kafka_group *g)
{
    struct kafka_conn *conn = kafka_client_any(g->c);
    int16_t v = conn ? kafka_conn_version(conn, 10, 3) : -1;
    struct kafka_find_coordinator_request q;
    struct kafka_find_coordinator_response s;

    if (v < 0)
        return false;
    kafka_find_coordinator_request_init(&q);
    q.key = name_of(g);
    arena_reset(&g->arena);
    if (!KAFKA_CALL(conn, 10, v, find_coordinator, &q, &g->arena, &s, KAFKA_TIMEOUT_MS))
        return false;
    if (s.error_code)
        return kafka_client_code(g->c, g->source->conf->group, s.error_code);
    kafka_client_node_set(g->c, s.node_id, s.host, s.port);
    g->coordinator = s.node_id;
    return true;
}

static struct kafka_conn *coordinator(struct kafka_group *g)
{
    struct kafka_conn *conn;

    if (g->coordinator < 0 && !find(g))
        return NULL;
    conn = kafka_client_node(g->c, g->coordinator);
    if (!conn)
        g->coordinator = -1;
    return conn;
}

static bool is_lost(int16_t code)
{
    return code == KAFKA_ERR_NOT_COORDINATOR || code == KAFKA_ERR_COORDINATOR_NOT_AVAILABLE ||
           code == KAFKA_ERR_COORDINATOR_LOAD_IN_PROGRESS;
}

/* ---- offsets ---- */

/* Parts whose number of commits is to be told, as topics of one partition each. */
static bool commit_call(struct kafka_group *g, struct kafka_conn *conn, int16_t v,
                        struct kafka_offset_commit_response *s)
{
    struct source *src = g->source;
    struct kafka_offset_commit_request q;
    struct kafka_offset_commit_request_topic *t = xcalloc(src->parts_n, sizeof *t);
    struct kafka_offset_commit_request_partition *p = xcalloc(src->parts_n, sizeof *p);
    unsigned i;
    bool ok;

    kafka_offset_commit_request_init(&q);
    q.group_id = name_of(g);
    q.generation_id_or_member_epoch = g->epoch;
    q.member_id = slice_str(g->member);
    q.topics = t;
    for (i = 0; i < src->parts_n; i++) {
        if (src->parts[i].next < 0 || src->parts[i].next == src->parts[i].committed)
            continue;
        kafka_offset_commit_request_partition_init(&p[i]);
        p[i].partition_index = src->parts[i].index;
        p[i].committed_offset = src->parts[i].next;
        p[i].committed_metadata = SLICE_LIT("");
        t[q.topics_n].name = slice_str(src->parts[i].topic);
        t[q.topics_n].partitions = &p[i];
        t[q.topics_n++].partitions_n = 1;
    }
    ok = KAFKA_CALL(conn, 8, v, offset_commit, &q, &g->arena, s, KAFKA_TIMEOUT_MS);
    free(t);
    free(p);
    return ok;
}

static bool commit_taken(struct kafka_group *g, const struct kafka_offset_commit_response_topic *t)
{
    struct source *src = g->source;
    uint32_t i;
    unsigned k;

    for (i = 0; i < t->partitions_n; i++) {
        int16_t code = t->partitions[i].error_code;

        for (k = 0; k < src->parts_n && !code; k++)
            if (src->parts[k].index == t->partitions[i].partition_index &&
                slice_eq_str(t->name, src->parts[k].topic))
                src->parts[k].committed = src->parts[k].next;
        if (is_lost(code))
            g->coordinator = -1;
        if (code == KAFKA_ERR_FENCED_MEMBER_EPOCH || code == KAFKA_ERR_UNKNOWN_MEMBER_ID)
            g->next_ms = 0; /* the next heartbeat hears of it, too */
        else if (code && !kafka_error_again(code))
            return kafka_client_code(g->c, "committing offsets", code);
    }
    return true;
}

bool kafka_group_commit(struct kafka_group *g)
{
    struct kafka_offset_commit_response s;
    struct kafka_conn *conn;
    unsigned i, n = 0;
    int16_t v;

    for (i = 0; i < g->source->parts_n; i++)
        n += g->source->parts[i].next >= 0 &&
             g->source->parts[i].next != g->source->parts[i].committed;
    if (n == 0 || g->epoch <= 0)
        return true;
    if (!(conn = coordinator(g)))
        return later(g);
    if ((v = kafka_conn_version(conn, 8, 9)) < 0)
        return false;
    arena_reset(&g->arena);
    if (!commit_call(g, conn, v, &s))
        return later(g);
    for (i = 0; i < s.topics_n; i++)
        if (!commit_taken(g, &s.topics[i]))
            return false;
    return true;
}

static bool fetched(struct kafka_group *g, const struct kafka_offset_fetch_response_topic *t)
{
    struct source *src = g->source;
    uint32_t i;
    unsigned k;

    for (i = 0; i < t->partitions_n; i++) {
        const struct kafka_offset_fetch_response_partition *p = &t->partitions[i];

        if (p->error_code)
            return kafka_client_code(g->c, "the group's offsets", p->error_code);
        for (k = 0; k < src->parts_n; k++)
            if (src->parts[k].index == p->partition_index && src->parts[k].next < 0 &&
                slice_eq_str(t->name, src->parts[k].topic) && p->committed_offset >= 0)
                src->parts[k].next = src->parts[k].committed = p->committed_offset;
    }
    return true;
}

/* The group's offsets of parts that have none, from the one numbered `from` on. */
static bool offsets_fetch(struct kafka_group *g, unsigned from)
{
    struct kafka_conn *conn = coordinator(g);
    int16_t v = conn ? kafka_conn_version(conn, 9, 7) : -1;
    struct source *src = g->source;
    struct kafka_offset_fetch_request q;
    struct kafka_offset_fetch_request_topic *t;
    struct kafka_offset_fetch_response s;
    unsigned i;
    bool ok;

    if (v < 0)
        return false;
    kafka_offset_fetch_request_init(&q);
    t = xcalloc(src->parts_n, sizeof *t);
    q.group_id = name_of(g);
    q.topics = t;
    q.require_stable = v >= 7 && src->conf->committed;
    for (i = from; i < src->parts_n; i++) {
        t[q.topics_n].name = slice_str(src->parts[i].topic);
        t[q.topics_n].partition_indexes = &src->parts[i].index;
        t[q.topics_n++].partition_indexes_n = 1;
    }
    arena_reset(&g->arena);
    ok = KAFKA_CALL(conn, 9, v, offset_fetch, &q, &g->arena, &s, KAFKA_TIMEOUT_MS);
    free(t);
    if (ok && s.error_code)
        ok = kafka_client_code(g->c, "the group's offsets", s.error_code);
    for (i = 0; ok && i < s.topics_n; i++)
        ok = fetched(g, &s.topics[i]);
    return ok;
}

/* ---- assignment ---- */

/* One that was assigned: id of its topic, number. */
struct place {
    uint8_t id[16];
    int32_t index;
    bool here;
};
struct places {
    struct place *v;
    uint32_t n;
};

static struct places places_of(const struct kafka_consumer_group_heartbeat_response_assignment *as)
{
    struct places out = {0};
    uint32_t i, k, n = 0;

    for (i = 0; i < as->topic_partitions_n; i++)
        n += as->topic_partitions[i].partitions_n;
    out.v = xcalloc(n ? n : 1, sizeof *out.v);
    for (i = 0; i < as->topic_partitions_n; i++)
        for (k = 0; k < as->topic_partitions[i].partitions_n; k++) {
            memcpy(out.v[out.n].id, as->topic_partitions[i].topic_id, 16);
            out.v[out.n++].index = as->topic_partitions[i].partitions[k];
        }
    return out;
}

static bool is_part(const struct place *at, const struct part *p)
{
    return p->index == at->index && memcmp(p->topic_id, at->id, 16) == 0;
}

/* Adds what is not there yet; topics that metadata does not know are left for the next assignment. */
static bool add_new(struct kafka_group *g, const struct places *to, unsigned *first)
{
    const struct source_conf *conf = g->source->conf;
    struct kafka_metadata_response s;
    uint32_t i, k;

    *first = g->source->parts_n;
    arena_reset(&g->arena);
    if (!kafka_client_metadata(g->c, conf->topics, conf->topics_n, false, &g->arena, &s))
        return false;
    for (i = 0; i < to->n; i++) {
        for (k = 0; k < s.topics_n && memcmp(s.topics[k].topic_id, to->v[i].id, 16) != 0; k++)
            ;
        if (to->v[i].here || k == s.topics_n)
            continue;
        memcpy(source_part_add(g->source, s.topics[k].name, to->v[i].index)->topic_id, to->v[i].id,
               16);
    }
    return true;
}

static bool assign(struct kafka_group *g, struct places *to)
{
    struct source *src = g->source;
    bool gone = false;
    unsigned i, first;
    uint32_t k;

    for (i = 0; i < src->parts_n; i++) {
        for (k = 0; k < to->n && !is_part(&to->v[k], &src->parts[i]); k++)
            ;
        gone = gone || k == to->n;
    }
    if (gone && !kafka_group_commit(g))
        return false;
    for (i = src->parts_n; i-- > 0;) {
        for (k = 0; k < to->n && !is_part(&to->v[k], &src->parts[i]); k++)
            ;
        if (k == to->n)
            source_part_remove(src, i);
        else
            to->v[k].here = true;
    }
    if (!add_new(g, to, &first) || (first < src->parts_n && !offsets_fetch(g, first))) {
        while (src->parts_n > first) /* without the group's offsets they must not be read */
            source_part_remove(src, src->parts_n - 1);
        return false;
    }
    src->settled = true;
    g->changed = true;
    g->next_ms = 0;
    return true;
}

/* ---- heartbeats ---- */

static void give_up_all(struct kafka_group *g)
{
    while (g->source->parts_n)
        source_part_remove(g->source, g->source->parts_n - 1);
    g->source->settled = false;
    g->epoch = 0;
    g->next_ms = 0;
}

static bool beat_call(struct kafka_group *g, struct kafka_conn *conn, int16_t v,
                      struct kafka_consumer_group_heartbeat_response *s)
{
    const struct source_conf *conf = g->source->conf;
    struct kafka_consumer_group_heartbeat_request q;
    struct kafka_consumer_group_heartbeat_request_topic_partition *t =
        xcalloc(g->source->parts_n + 1, sizeof *t);
    struct slice *names = xcalloc(conf->topics_n, sizeof *names);
    unsigned i;
    bool ok;

    kafka_consumer_group_heartbeat_request_init(&q);
    q.group_id = name_of(g);
    q.member_id = slice_str(g->member);
    q.member_epoch = g->epoch;
    if (g->epoch == 0) {
        for (i = 0; i < conf->topics_n; i++)
            names[i] = slice_str(conf->topics[i]);
        q.subscribed_topic_names = names;
        q.subscribed_topic_names_n = conf->topics_n;
        q.subscribed_topic_names_null = false;
        q.rebalance_timeout_ms = REBALANCE_MS;
    }
    if (g->epoch == 0 || g->changed) {
        q.topic_partitions_null = false;
        q.topic_partitions = t;
        for (i = 0; i < g->source->parts_n; i++) {
            memcpy(t[i].topic_id, g->source->parts[i].topic_id, 16);
            t[i].partitions = &g->source->parts[i].index;
            t[i].partitions_n = 1;
        }
        q.topic_partitions_n = g->source->parts_n;
    }
    arena_reset(&g->arena);
    ok = KAFKA_CALL(conn, 68, v, consumer_group_heartbeat, &q, &g->arena, s, KAFKA_TIMEOUT_MS);
    free(t);
    free(names);
    return ok;
}

static bool beat_taken(struct kafka_group *g,
                       const struct kafka_consumer_group_heartbeat_response *s)
{
    struct places to;
    bool ok;

    if (s->member_id.len && s->member_id.len <= MEMBER_ID_MAX) {
        memcpy(g->member, s->member_id.ptr, s->member_id.len);
        g->member[s->member_id.len] = 0;
    }
    g->epoch = s->member_epoch;
    g->changed = false;
    g->interval_ms = s->heartbeat_interval_ms > 0 ? s->heartbeat_interval_ms : 3000;
    g->next_ms = now_ms() + (uint64_t)g->interval_ms;
    if (!s->assignment)
        return true;
    to = places_of(s->assignment);
    ok = assign(g, &to);
    free(to.v);
    if (ok)
        return true;
    give_up_all(g); /* by joining again the assignment comes again */
    return later(g);
}

bool kafka_group_poll(struct kafka_group *g)
{
    struct kafka_consumer_group_heartbeat_response s;
    struct kafka_conn *conn;
    int16_t v;

    if (now_ms() < g->next_ms)
        return true;
    if (!(conn = coordinator(g)))
        return later(g);
    if ((v = kafka_conn_version(conn, 68, 1)) < 0)
        return kafka_client_fail(g->c, "the broker has no groups of the new protocol (KIP-848), "
                                       "which Weir and Apache Kafka 4.0 have");
    if (!beat_call(g, conn, v, &s))
        return later(g);
    if (is_lost(s.error_code))
        g->coordinator = -1;
    if (s.error_code == KAFKA_ERR_FENCED_MEMBER_EPOCH ||
        s.error_code == KAFKA_ERR_UNKNOWN_MEMBER_ID) {
        give_up_all(g);
        return later(g);
    }
    if (s.error_code) {
        kafka_client_code(g->c, g->source->conf->group, s.error_code);
        if (s.error_message.len)
            kafka_client_fail(g->c, "%s: %.*s (%d)", g->source->conf->group,
                              (int)s.error_message.len, (const char *)s.error_message.ptr,
                              s.error_code);
        return kafka_error_again(s.error_code) && later(g);
    }
    g->failing_ms = 0;
    return beat_taken(g, &s);
}

/* ---- life ---- */

struct kafka_group *kafka_group_new(struct kafka_client *c, struct source *source)
{
    struct kafka_group *g = xcalloc(1, sizeof *g);
    uint8_t id[16];

    g->c = c;
    g->source = source;
    g->coordinator = -1;
    io_random(io_real(), id, sizeof id);
    hex_encode(id, sizeof id, g->member);
    arena_init(&g->arena, 65536, KAFKA_ARRAYS_MAX);
    return g;
}

void kafka_group_leave(struct kafka_group **gp)
{
    struct kafka_group *g = *gp;
    struct kafka_consumer_group_heartbeat_response s;
    struct kafka_conn *conn;
    int16_t v;

    if (!g)
        return;
    if (g->epoch > 0 && (conn = coordinator(g)) && (v = kafka_conn_version(conn, 68, 1)) >= 0) {
        g->epoch = -1;
        g->changed = false;
        beat_call(g, conn, v, &s);
    }
    arena_fini(&g->arena);
    free(g);
    *gp = NULL;
}
