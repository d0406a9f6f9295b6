/* Reading and deleting offsets of groups: OffsetFetch, OffsetDelete. Codes by version: KafkaApis and
 * OffsetMetadataManager of Apache Kafka 4.2. On the request's loop, but offset_deleted. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/coordinator.h"
#include "broker/group.h"
#include "proto/kafka/groups.h"
#include "proto/kafka/kafka_int.h"

#define PAGE 256u /* offsets taken from a group at a time */

/* ---- OffsetFetch ---- */

/* All versions are answered as those from 8 on, which ask for several groups. */
struct fetch {
    struct kreq *q;
    struct kafka_offset_fetch_request_group *m; /* present group */
    struct kafka_offset_fetch_response_group *s;
    bool stable;    /* offsets of transactions that are open are waited for */
    char *metadata; /* room for that of one offset */
};

static void fetch_partition(struct fetch *f, struct partition *p,
                            struct kafka_offset_fetch_response_group_partition *o)
{
    struct group_offset at;

    if (f->stable && group_offset_pending(f->q->b, f->m->group_id, p)) {
        o->error_code = KE_UNSTABLE_OFFSET_COMMIT;
        return;
    }
    if (group_offset_get_full(f->q->b, f->m->group_id, p, &at, f->metadata))
        return;
    o->committed_offset = at.offset;
    if (at.metadata.len)
        o->metadata = arena_dup(&f->q->arena, at.metadata);
    if (slice_is_null(o->metadata))
        kreq_fail(f->q, ERR_TOO_LARGE);
}

static void partition_init(struct kafka_offset_fetch_response_group_partition *o, int32_t index,
                           int16_t code)
{
    kafka_offset_fetch_response_group_partition_init(o);
    o->partition_index = index;
    o->committed_offset = -1;
    o->error_code = code;
}

/* One topic that was asked for. One that is not there has no offsets, which is no error, unless it
 * was asked for by id. */
static void fetch_topic(struct fetch *f, const struct kafka_offset_fetch_request_group_topic *m,
                        struct kafka_offset_fetch_response_group_topic *s)
{
    bool by_id = f->q->version >= 10;
    struct partition *p;
    struct topic *t;
    int16_t code;
    uint32_t i;

    s->name = m->name;
    memcpy(s->topic_id, m->topic_id, 16);
    if (!(s->partitions = kreq_alloc(f->q, m->partition_indexes_n, sizeof *s->partitions)))
        return;
    s->partitions_n = m->partition_indexes_n;
    t = kafka_topic(f->q, m->name, m->topic_id, by_id, &code);
    if (!by_id)
        code = KE_NONE;
    if ((t || !by_id) &&
        !kafka_allowed(f->q, KOP_DESCRIBE, KRES_TOPIC, by_id ? slice_str(topic_name(t)) : m->name))
        code = KE_TOPIC_AUTHORIZATION_FAILED;
    for (i = 0; i < s->partitions_n && f->q->state != KREQ_DONE; i++) {
        partition_init(&s->partitions[i], m->partition_indexes[i], code);
        p = t && !code ? topic_partition(t, m->partition_indexes[i]) : NULL;
        if (p)
            fetch_partition(f, p, &s->partitions[i]);
    }
    topic_unref(&t);
}

/* All places that a group has offsets for, in order; on the heap. */
static struct group_offset_at *places_all(struct broker *b, struct slice group, size_t *n)
{
    struct group_offset_at *at = NULL;
    size_t cap = 0, got;

    *n = 0;
    do {
        if (cap - *n < PAGE) {
            cap = cap * 2 + PAGE;
            at = xrealloc(at, cap * sizeof *at);
        }
        got = group_offsets_get(b, group, *n ? at[*n - 1].topic : 0,
                                *n ? (int64_t)at[*n - 1].partition : -1, at + *n, PAGE);
        *n += got;
    } while (got == PAGE);
    return at;
}

/* The n offsets at `at` are of one topic. */
static void fetch_all_topic(struct fetch *f, const struct group_offset_at *at, size_t n)
{
    struct kafka_offset_fetch_response_group_topic *s = &f->s->topics[f->s->topics_n];
    struct topic *t = topic_find_id(f->q->b, at->topic);
    struct partition *p;
    size_t i;

    if (t && kafka_allowed(f->q, KOP_DESCRIBE, KRES_TOPIC, slice_str(topic_name(t))) &&
        (s->partitions = kreq_alloc(f->q, n, sizeof *s->partitions))) {
        f->s->topics_n++;
        if (f->q->version < 10)
            s->name = arena_dup(&f->q->arena, slice_str(topic_name(t)));
        memcpy(s->topic_id, topic_uuid(t), 16);
        for (i = 0; i < n && f->q->state != KREQ_DONE; i++)
            if ((p = topic_partition(t, (int32_t)at[i].partition))) {
                partition_init(&s->partitions[s->partitions_n], (int32_t)at[i].partition, KE_NONE);
                fetch_partition(f, p, &s->partitions[s->partitions_n++]);
            }
    }
    topic_unref(&t);
}

static void fetch_all(struct fetch *f)
{
    struct group_offset_at *at;
    size_t i, run, n, topics = 0;

    at = places_all(f->q->b, f->m->group_id, &n);
    for (i = 0; i < n; i++)
        topics += i == 0 || at[i].topic != at[i - 1].topic;
    if ((f->s->topics = kreq_alloc(f->q, topics, sizeof *f->s->topics)))
        for (i = 0; i < n && f->q->state != KREQ_DONE; i += run) {
            for (run = 1; i + run < n && at[i + run].topic == at[i].topic; run++)
                ;
            fetch_all_topic(f, at + i, run);
        }
    free(at);
}

static void fetch_group(struct fetch *f)
{
    struct group_member who = {.group = f->m->group_id,
                               .member_id = f->m->member_id,
                               .instance_id = SLICE_NULL,
                               .generation = f->m->member_epoch};
    uint32_t i;

    f->s->group_id = f->m->group_id;
    f->s->error_code = kafka_allowed(f->q, KOP_DESCRIBE, KRES_GROUP, f->m->group_id)
                           ? kafka_group_code(group_fetch_check(f->q->b, &who))
                           : KE_GROUP_AUTHORIZATION_FAILED;
    if (f->s->error_code)
        return;
    if (f->m->topics_null) {
        fetch_all(f);
        return;
    }
    if (!(f->s->topics = kreq_alloc(f->q, f->m->topics_n, sizeof *f->s->topics)))
        return;
    f->s->topics_n = f->m->topics_n;
    for (i = 0; i < f->m->topics_n && f->q->state != KREQ_DONE; i++)
        fetch_topic(f, &f->m->topics[i], &f->s->topics[i]);
}

/* The one group of a version before 8, as if it were one of several. */
static bool fetch_single(struct kreq *q, struct kafka_offset_fetch_request *m)
{
    struct kafka_offset_fetch_request_group *g = kreq_alloc(q, 1, sizeof *g);
    uint32_t i;

    if (!g || !(g->topics = kreq_alloc(q, m->topics_n, sizeof *g->topics)))
        return false;
    g->group_id = m->group_id;
    g->member_epoch = -1;
    g->topics_n = m->topics_n;
    g->topics_null = m->topics_null;
    for (i = 0; i < m->topics_n; i++) {
        g->topics[i].name = m->topics[i].name;
        g->topics[i].partition_indexes = m->topics[i].partition_indexes;
        g->topics[i].partition_indexes_n = m->topics[i].partition_indexes_n;
    }
    m->groups = g;
    m->groups_n = 1;
    return true;
}

/* Version 1 has no code for the whole: each partition says it. */
static void fetch_code_spread(struct fetch *f)
{
    uint32_t i, j;

    if (!(f->s->topics = kreq_alloc(f->q, f->m->topics_n, sizeof *f->s->topics)))
        return;
    f->s->topics_n = f->m->topics_n;
    for (i = 0; i < f->m->topics_n; i++) {
        const struct kafka_offset_fetch_request_group_topic *m = &f->m->topics[i];
        struct kafka_offset_fetch_response_group_topic *s = &f->s->topics[i];

        s->name = m->name;
        if (!(s->partitions = kreq_alloc(f->q, m->partition_indexes_n, sizeof *s->partitions)))
            return;
        s->partitions_n = m->partition_indexes_n;
        for (j = 0; j < s->partitions_n; j++)
            partition_init(&s->partitions[j], m->partition_indexes[j], f->s->error_code);
    }
}

static void fetch_reply_single(struct kreq *q, struct fetch *f,
                               struct kafka_offset_fetch_response *s)
{
    struct kafka_offset_fetch_response_topic *o;
    uint32_t i, j;

    if (f->s->error_code && q->version == 1)
        fetch_code_spread(f);
    if (q->state == KREQ_DONE || !(s->topics = kreq_alloc(q, f->s->topics_n, sizeof *s->topics)))
        return;
    s->error_code = f->s->error_code;
    s->topics_n = f->s->topics_n;
    for (i = 0; i < s->topics_n; i++) {
        const struct kafka_offset_fetch_response_group_topic *t = &f->s->topics[i];

        o = &s->topics[i];
        o->name = t->name;
        if (!(o->partitions = kreq_alloc(q, t->partitions_n, sizeof *o->partitions)))
            return;
        o->partitions_n = t->partitions_n;
        for (j = 0; j < o->partitions_n; j++)
            o->partitions[j] = (struct kafka_offset_fetch_response_partition){
                t->partitions[j].partition_index, t->partitions[j].committed_offset,
                t->partitions[j].committed_leader_epoch, t->partitions[j].metadata,
                t->partitions[j].error_code};
    }
    s->groups = NULL;
    s->groups_n = 0;
    KREQ_REPLY(q, offset_fetch, s);
}

void kafka_on_offset_fetch(struct kreq *q)
{
    struct kafka_offset_fetch_response s;
    struct kafka_offset_fetch_request m;
    struct fetch f = {.q = q};
    uint32_t i;

    if (!KREQ_DECODE(q, offset_fetch, &m) || (q->version < 8 && !fetch_single(q, &m)))
        return;
    kafka_offset_fetch_response_init(&s);
    f.stable = m.require_stable;
    if (!(s.groups = kreq_alloc(q, m.groups_n, sizeof *s.groups)) ||
        !(f.metadata = kreq_alloc(q, LIMIT_GROUP_METADATA, 1)))
        return;
    s.groups_n = m.groups_n;
    for (i = 0; i < m.groups_n && q->state != KREQ_DONE; i++) {
        f.m = &m.groups[i];
        f.s = &s.groups[i];
        fetch_group(&f);
    }
    if (q->state == KREQ_DONE)
        return;
    if (q->version < 8)
        fetch_reply_single(q, &f, &s);
    else
        KREQ_REPLY(q, offset_fetch, &s);
}

/* ---- OffsetDelete ---- */

struct deletion {
    struct kreq *q;
    enum err e;
    int16_t code; /* not 0: it was not tried */
};

struct deletions {
    struct kafka_offset_delete_request m;
    struct deletion *d; /* of all topics, in order */
    int16_t code;       /* of the whole */
    atomic_uint left;   /* answers awaited, and 1 */
};

static void deleted_reply(struct kreq *q)
{
    struct deletions *ds = q->state_of;
    const struct deletion *d = ds->d;
    struct kafka_offset_delete_response s;
    struct kafka_offset_delete_response_topic *o;
    uint32_t i, j;

    if (!q->kc) {
        kreq_done(q);
        return;
    }
    kafka_offset_delete_response_init(&s);
    s.error_code = ds->code;
    if (!(s.topics = kreq_alloc(q, ds->m.topics_n, sizeof *s.topics)))
        return;
    s.topics_n = ds->code ? 0 : ds->m.topics_n;
    for (i = 0; i < s.topics_n; i++) {
        o = &s.topics[i];
        o->name = ds->m.topics[i].name;
        if (!(o->partitions = kreq_alloc(q, ds->m.topics[i].partitions_n, sizeof *o->partitions)))
            return;
        o->partitions_n = ds->m.topics[i].partitions_n;
        for (j = 0; j < o->partitions_n; j++, d++)
            o->partitions[j] = (struct kafka_offset_delete_response_partition){
                ds->m.topics[i].partitions[j].partition_index,
                d->code ? d->code : kafka_group_code(d->e)};
    }
    KREQ_REPLY(q, offset_delete, &s);
}

static void offset_deleted(void *arg, enum err e, const struct errinfo *info)
{
    struct deletion *d = arg;
    struct kreq *q = d->q;
    struct deletions *ds = q->state_of;

    d->e = e;
    if (atomic_fetch_sub(&ds->left, 1) == 1)
        kreq_post(q, deleted_reply);
}

static void delete_partition(struct kreq *q, struct deletions *ds, struct partition *p,
                             struct deletion *d)
{
    struct errinfo info = {0};
    enum err e;

    if (!p) {
        d->code = KE_UNKNOWN_TOPIC_OR_PARTITION;
        return;
    }
    atomic_fetch_add(&ds->left, 1);
    e = group_offset_delete(q->b, ds->m.group_id, p, offset_deleted, d, &info);
    if (!e)
        return;
    atomic_fetch_sub(&ds->left, 1);
    d->e = e;
    if (e == ERR_GROUP_NOT_FOUND || e == ERR_GROUP_NOT_EMPTY || e == ERR_GROUP_ID)
        ds->code = kafka_group_code(e);
}

static void delete_topic(struct kreq *q, struct deletions *ds,
                         const struct kafka_offset_delete_request_topic *m, struct deletion *d)
{
    struct topic *t;
    int16_t code;
    uint32_t i;

    t = kafka_topic(q, m->name, NULL, false, &code);
    if (!kafka_allowed(q, KOP_READ, KRES_TOPIC, m->name))
        code = KE_TOPIC_AUTHORIZATION_FAILED;
    for (i = 0; i < m->partitions_n && !ds->code; i++) {
        d[i].q = q;
        d[i].code = code;
        if (!code)
            delete_partition(q, ds, topic_partition(t, m->partitions[i].partition_index), &d[i]);
    }
    topic_unref(&t);
}

void kafka_on_offset_delete(struct kreq *q)
{
    struct deletions *ds = kreq_alloc(q, 1, sizeof *ds);
    size_t n = 0;
    uint32_t i;

    if (!ds || !KREQ_DECODE(q, offset_delete, &ds->m))
        return;
    for (i = 0; i < ds->m.topics_n; i++)
        n += ds->m.topics[i].partitions_n;
    if (!(ds->d = kreq_alloc(q, n, sizeof *ds->d)))
        return;
    q->state_of = ds;
    atomic_init(&ds->left, 1);
    if (!kafka_allowed(q, KOP_DELETE, KRES_GROUP, ds->m.group_id))
        ds->code = KE_GROUP_AUTHORIZATION_FAILED;
    for (i = 0, n = 0; i < ds->m.topics_n && !ds->code; i++) {
        delete_topic(q, ds, &ds->m.topics[i], &ds->d[n]);
        n += ds->m.topics[i].partitions_n;
    }
    if (atomic_fetch_sub(&ds->left, 1) == 1)
        deleted_reply(q);
}
