/* Looking at share groups, and moving them: ShareGroupDescribe, DescribeShareGroupOffsets,
 * AlterShareGroupOffsets, DeleteShareGroupOffsets. All on the request's loop. */
#include <stdlib.h>
#include <string.h>

#include "broker/coordinator.h"
#include "broker/cursor.h"
#include "proto/kafka/admin_int.h"
#include "proto/kafka/groups.h"
#include "proto/kafka/share.h"

#define CHANGE_MS 30000

/* A code unless it is a share group; `empty`: without members. */
static int16_t group_code(struct kreq *q, struct slice group, bool empty, struct slice *message)
{
    struct group_description d;
    enum err e = group_describe(q->b, group, &d);
    bool there = !e && d.state != GROUP_DEAD && d.kind == GROUP_SHARE;
    bool members = !e && d.members_n > 0;

    group_description_fini(&d);
    if (e)
        return kafka_group_code(e);
    if (!there) {
        *message = SLICE_LIT("there is no such share group");
        return kafka_code(ERR_GROUP_NOT_FOUND);
    }
    if (empty && members) {
        *message = SLICE_LIT("the share group has members");
        return kafka_code(ERR_GROUP_NOT_EMPTY);
    }
    return KE_NONE;
}

/* ---- ShareGroupDescribe ---- */

typedef struct kafka_share_group_describe_response_group described;

static void assignment_fill(struct kreq *q, const struct group_description_member *m,
                            struct kafka_share_group_describe_response_assignment *s)
{
    struct kafka_share_group_describe_response_topic_partition *o;
    unsigned i;

    if (!(s->topic_partitions = kreq_alloc(q, m->assigned_n, sizeof *s->topic_partitions)))
        return;
    s->topic_partitions_n = m->assigned_n;
    for (i = 0; i < m->assigned_n && q->state != KREQ_DONE; i++) {
        const struct group_topic_partitions *tp = &m->assigned[i];

        o = &s->topic_partitions[i];
        memcpy(o->topic_id, tp->topic_uuid, 16);
        o->topic_name = kreq_keep(q, tp->topic);
        if (!(o->partitions = kreq_alloc(q, tp->n, sizeof *o->partitions)))
            return;
        o->partitions_n = tp->n;
        memcpy(o->partitions, tp->partitions, tp->n * sizeof *o->partitions);
    }
}

static void member_fill(struct kreq *q, const struct group_description_member *m,
                        struct kafka_share_group_describe_response_member *o)
{
    unsigned i;

    o->member_id = kreq_keep(q, m->member_id);
    o->rack_id = kreq_keep(q, m->rack_id);
    o->member_epoch = m->epoch;
    o->client_id = kreq_keep(q, m->client_id);
    o->client_host = kreq_keep(q, m->client_host);
    o->subscribed_topic_names = kreq_alloc(q, m->topics_n, sizeof *o->subscribed_topic_names);
    if (!o->subscribed_topic_names)
        return;
    o->subscribed_topic_names_n = m->topics_n;
    for (i = 0; i < m->topics_n && q->state != KREQ_DONE; i++)
        o->subscribed_topic_names[i] = kreq_keep(q, m->topics[i]);
    assignment_fill(q, m, &o->assignment);
}

static void describe_fill(struct kreq *q, const struct group_description *d, described *s)
{
    unsigned i;

    s->group_state = slice_str(group_state_text(d->state));
    s->group_epoch = d->generation;
    s->assignment_epoch = d->assignment_epoch;
    s->assignor_name = d->protocol.len ? kreq_keep(q, d->protocol) : SLICE_LIT("simple");
    if (q->state == KREQ_DONE || !(s->members = kreq_alloc(q, d->members_n, sizeof *s->members)))
        return;
    s->members_n = d->members_n;
    for (i = 0; i < d->members_n && q->state != KREQ_DONE; i++)
        member_fill(q, &d->members[i], &s->members[i]);
}

static void describe_one(struct kreq *q, struct slice group, bool operations, described *s)
{
    struct group_description d;

    kafka_share_group_describe_response_group_init(s);
    s->group_id = group;
    if (!kafka_allowed(q, KOP_DESCRIBE, KRES_GROUP, group)) {
        s->error_code = KE_GROUP_AUTHORIZATION_FAILED;
        return;
    }
    if ((s->error_code = group_code(q, group, false, &s->error_message)))
        return;
    if (group_describe(q->b, group, &d) == ERR_OK) {
        if (kafka_group_topics_allowed(q, &d)) {
            describe_fill(q, &d, s);
        } else {
            s->error_code = KE_TOPIC_AUTHORIZATION_FAILED;
            s->error_message = SLICE_LIT("the group has topics that may not be described");
        }
    }
    group_description_fini(&d);
    if (operations)
        s->authorized_operations = kafka_operations(q, KRES_GROUP, group);
}

void kafka_on_share_group_describe(struct kreq *q)
{
    struct kafka_share_group_describe_response s;
    struct kafka_share_group_describe_request m;
    uint32_t i;

    if (!KREQ_DECODE(q, share_group_describe, &m))
        return;
    kafka_share_group_describe_response_init(&s);
    if (!(s.groups = kreq_alloc(q, m.group_ids_n, sizeof *s.groups)))
        return;
    s.groups_n = m.group_ids_n;
    for (i = 0; i < m.group_ids_n && q->state != KREQ_DONE; i++)
        describe_one(q, m.group_ids[i], m.include_authorized_operations, &s.groups[i]);
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, share_group_describe, &s);
}

/* ---- DescribeShareGroupOffsets ---- */

typedef struct kafka_describe_share_group_offsets_request_group offsets_in;
typedef struct kafka_describe_share_group_offsets_response_group offsets_out;
typedef struct kafka_describe_share_group_offsets_response_topic offsets_topic;
typedef struct kafka_describe_share_group_offsets_response_partition offsets_part;

static void offset_fill(struct cursor *c, struct partition *p, offsets_part *o)
{
    struct cursor_info info;
    struct plog_info log;

    kafka_describe_share_group_offsets_response_partition_init(o);
    o->partition_index = partition_index(p);
    o->start_offset = o->lag = -1;
    if (!c)
        return;
    cursor_info_get(c, &info);
    plog_info_get(partition_log(p), &log);
    o->start_offset = info.start;
    o->lag = (int64_t)info.undone;
    if (log.end_offset > info.next)
        o->lag += log.end_offset - info.next;
}

static void offsets_named(struct kreq *q, const offsets_in *in, offsets_topic *o,
                          const struct kafka_describe_share_group_offsets_request_topic *t)
{
    bool allowed = kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, t->topic_name);
    struct topic *topic = topic_find(q->b, t->topic_name);
    struct cursor *c;
    uint32_t i;

    o->topic_name = t->topic_name;
    o->partitions = kreq_alloc(q, t->partitions_n, sizeof *o->partitions);
    for (i = 0; o->partitions && i < t->partitions_n; i++) {
        struct partition *p = topic ? topic_partition(topic, t->partitions[i]) : NULL;

        kafka_describe_share_group_offsets_response_partition_init(&o->partitions[i]);
        o->partitions[i].partition_index = t->partitions[i];
        if (!allowed)
            o->partitions[i].error_code = KE_TOPIC_AUTHORIZATION_FAILED;
        else if (!p)
            o->partitions[i].error_code = KE_UNKNOWN_TOPIC_OR_PARTITION;
        if (o->partitions[i].error_code)
            continue;
        c = cursor_find(q->b, in->group_id, p);
        offset_fill(c, p, &o->partitions[i]);
        cursor_unref(&c);
    }
    o->partitions_n = o->partitions ? t->partitions_n : 0;
    if (topic && allowed)
        memcpy(o->topic_id, topic_uuid(topic), 16);
    topic_unref(&topic);
}

/* All that the group has; it grows in the arena. */
struct all {
    struct kreq *q;
    offsets_topic *topics;
    uint32_t n, cap, parts_cap;
};

static void *grown(struct kreq *q, void *v, uint32_t n, uint32_t *cap, size_t size)
{
    uint32_t more = *cap ? *cap * 2 : 4;
    void *out;

    if (n < *cap)
        return v;
    out = kreq_alloc(q, more, size);
    if (out && n)
        memcpy(out, v, n * size);
    *cap = more;
    return out;
}

static void all_add(void *arg, struct cursor *c, struct partition *p)
{
    struct topic *t = partition_topic(p);
    struct all *all = arg;
    offsets_topic *o = all->n ? &all->topics[all->n - 1] : NULL;

    if (all->q->state == KREQ_DONE ||
        !kafka_allowed(all->q, KOP_DESCRIBE, KRES_TOPIC, slice_str(topic_name(t))))
        return;
    if (!o || memcmp(o->topic_id, topic_uuid(t), 16) != 0) { /* they come in order of topic */
        if (!(all->topics = grown(all->q, all->topics, all->n, &all->cap, sizeof *o)))
            return;
        o = &all->topics[all->n++];
        kafka_describe_share_group_offsets_response_topic_init(o);
        memcpy(o->topic_id, topic_uuid(t), 16);
        o->topic_name = kreq_keep(all->q, slice_str(topic_name(t)));
        all->parts_cap = 0;
    }
    o->partitions =
        grown(all->q, o->partitions, o->partitions_n, &all->parts_cap, sizeof *o->partitions);
    if (o->partitions)
        offset_fill(c, p, &o->partitions[o->partitions_n++]);
}

static void offsets_one(struct kreq *q, const offsets_in *in, offsets_out *s)
{
    struct all all = {.q = q};
    uint32_t i;

    kafka_describe_share_group_offsets_response_group_init(s);
    s->group_id = in->group_id;
    if (!kafka_allowed(q, KOP_DESCRIBE, KRES_GROUP, in->group_id))
        s->error_code = KE_GROUP_AUTHORIZATION_FAILED;
    else
        s->error_code = group_code(q, in->group_id, false, &s->error_message);
    if (s->error_code)
        return;
    if (in->topics_null) {
        cursor_each(q->b, in->group_id, all_add, &all);
        s->topics = all.topics;
        s->topics_n = all.n;
        return;
    }
    if (!(s->topics = kreq_alloc(q, in->topics_n, sizeof *s->topics)))
        return;
    s->topics_n = in->topics_n;
    for (i = 0; i < in->topics_n && q->state != KREQ_DONE; i++)
        offsets_named(q, in, &s->topics[i], &in->topics[i]);
}

void kafka_on_describe_share_group_offsets(struct kreq *q)
{
    struct kafka_describe_share_group_offsets_response s;
    struct kafka_describe_share_group_offsets_request m;
    uint32_t i;

    if (!KREQ_DECODE(q, describe_share_group_offsets, &m))
        return;
    kafka_describe_share_group_offsets_response_init(&s);
    if (!(s.groups = kreq_alloc(q, m.groups_n, sizeof *s.groups)))
        return;
    s.groups_n = m.groups_n;
    for (i = 0; i < m.groups_n && q->state != KREQ_DONE; i++)
        offsets_one(q, &m.groups[i], &s.groups[i]);
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, describe_share_group_offsets, &s);
}

/* ---- AlterShareGroupOffsets ---- */

typedef struct kafka_alter_share_group_offsets_response_topic altered_topic;

struct altering {
    struct kafka_alter_share_group_offsets_request m;
    struct kafka_alter_share_group_offsets_response s;
};

static void altered_reply(struct kreq *q)
{
    struct kgather *g = q->state_of;
    struct altering *al = g->state;
    uint32_t i, k, n = 0;

    for (i = 0; i < al->s.responses_n; i++)
        for (k = 0; k < al->s.responses[i].partitions_n; k++) {
            struct kafka_alter_share_group_offsets_response_partition *o =
                &al->s.responses[i].partitions[k];

            if (!o->error_code)
                o->error_code = kgather_result(q, &g->jobs[n], &o->error_message);
            n++;
        }
    KREQ_REPLY(q, alter_share_group_offsets, &al->s);
}

static int16_t alter_one(struct kreq *q, struct slice group, struct topic *t, int32_t index,
                         int64_t start, struct kgather_job *job)
{
    struct partition *p = t ? topic_partition(t, index) : NULL;
    struct errinfo info = {0};
    enum err e;

    if (!p)
        return KE_UNKNOWN_TOPIC_OR_PARTITION;
    kgather_begin(job);
    if ((e = cursor_set(q->b, group, p, start, kgather_done, job, &info)))
        kgather_done(job, e, &info);
    return KE_NONE;
}

static void alter_topics(struct kreq *q, struct altering *al, struct kgather *g)
{
    uint32_t i, k, n = 0;

    for (i = 0; i < al->m.topics_n; i++) {
        const struct kafka_alter_share_group_offsets_request_topic *t = &al->m.topics[i];
        bool allowed = kafka_allowed(q, KOP_READ, KRES_TOPIC, t->topic_name);
        struct topic *topic = topic_find(q->b, t->topic_name);
        altered_topic *o = &al->s.responses[i];

        o->topic_name = t->topic_name;
        if (topic && allowed)
            memcpy(o->topic_id, topic_uuid(topic), 16);
        for (k = 0; k < t->partitions_n; k++, n++) {
            kafka_alter_share_group_offsets_response_partition_init(&o->partitions[k]);
            o->partitions[k].partition_index = t->partitions[k].partition_index;
            o->partitions[k].error_code =
                !allowed ? KE_TOPIC_AUTHORIZATION_FAILED
                         : alter_one(q, al->m.group_id, topic, t->partitions[k].partition_index,
                                     t->partitions[k].start_offset, &g->jobs[n]);
        }
        topic_unref(&topic);
    }
}

void kafka_on_alter_share_group_offsets(struct kreq *q)
{
    struct altering *al = kreq_alloc(q, 1, sizeof *al);
    struct kgather *g;
    uint32_t i, n = 0;

    if (!al || !KREQ_DECODE(q, alter_share_group_offsets, &al->m))
        return;
    kafka_alter_share_group_offsets_response_init(&al->s);
    if (!kafka_allowed(q, KOP_READ, KRES_GROUP, al->m.group_id))
        al->s.error_code = KE_GROUP_AUTHORIZATION_FAILED;
    else
        al->s.error_code = group_code(q, al->m.group_id, true, &al->s.error_message);
    if (al->s.error_code) {
        KREQ_REPLY(q, alter_share_group_offsets, &al->s);
        return;
    }
    if (!(al->s.responses = kreq_alloc(q, al->m.topics_n, sizeof *al->s.responses)))
        return;
    al->s.responses_n = al->m.topics_n;
    for (i = 0; i < al->m.topics_n; i++) {
        altered_topic *o = &al->s.responses[i];

        o->partitions_n = al->m.topics[i].partitions_n;
        if (!(o->partitions = kreq_alloc(q, o->partitions_n, sizeof *o->partitions)))
            return;
        n += o->partitions_n;
    }
    if (!(g = kgather_new(q, n, altered_reply, al)))
        return;
    alter_topics(q, al, g);
    kgather_wait(g, CHANGE_MS);
}

/* ---- DeleteShareGroupOffsets ---- */

struct deleting {
    struct kafka_delete_share_group_offsets_request m;
    struct kafka_delete_share_group_offsets_response s;
    uint32_t *topic_of; /* of each job */
};

static void deleted_reply(struct kreq *q)
{
    struct kgather *g = q->state_of;
    struct deleting *de = g->state;
    uint32_t i;

    for (i = 0; i < g->jobs_n; i++) {
        struct kafka_delete_share_group_offsets_response_topic *o =
            &de->s.responses[de->topic_of[i]];

        if (!o->error_code)
            o->error_code = kgather_result(q, &g->jobs[i], &o->error_message);
    }
    KREQ_REPLY(q, delete_share_group_offsets, &de->s);
}

static void delete_topic(struct kreq *q, const struct deleting *de, uint32_t i, struct topic *t,
                         struct kgather *g, uint32_t *n)
{
    struct errinfo info = {0};
    int32_t k;

    for (k = 0; k < topic_partitions(t) && *n < g->jobs_n; k++) {
        struct kgather_job *job = &g->jobs[*n];
        enum err e;

        de->topic_of[(*n)++] = i;
        kgather_begin(job);
        e = cursor_delete(q->b, de->m.group_id, topic_partition(t, k), kgather_done, job, &info);
        if (e) /* that it has no place there is no error */
            kgather_done(job, e == ERR_NOT_FOUND ? ERR_OK : e, &info);
    }
}

/* The topics of the request, referenced, where there are such; *n: their partitions. NULL: no
 * room. */
static struct topic **delete_topics(struct kreq *q, struct deleting *de, uint32_t *n)
{
    struct topic **t = kreq_alloc(q, de->m.topics_n, sizeof(struct topic *));
    uint32_t i;

    for (i = 0; t && i < de->m.topics_n; i++) {
        struct kafka_delete_share_group_offsets_response_topic *o = &de->s.responses[i];

        kafka_delete_share_group_offsets_response_topic_init(o);
        o->topic_name = de->m.topics[i].topic_name;
        if (!kafka_allowed(q, KOP_READ, KRES_TOPIC, o->topic_name)) {
            o->error_code = KE_TOPIC_AUTHORIZATION_FAILED;
        } else if (!(t[i] = topic_find(q->b, o->topic_name))) {
            o->error_code = KE_UNKNOWN_TOPIC_OR_PARTITION;
        } else {
            memcpy(o->topic_id, topic_uuid(t[i]), 16);
            *n += (uint32_t)topic_partitions(t[i]);
        }
    }
    return t;
}

void kafka_on_delete_share_group_offsets(struct kreq *q)
{
    struct deleting *de = kreq_alloc(q, 1, sizeof *de);
    struct kgather *g = NULL;
    struct topic **t;
    uint32_t i, n = 0, at = 0;

    if (!de || !KREQ_DECODE(q, delete_share_group_offsets, &de->m))
        return;
    kafka_delete_share_group_offsets_response_init(&de->s);
    if (!kafka_allowed(q, KOP_DELETE, KRES_GROUP, de->m.group_id))
        de->s.error_code = KE_GROUP_AUTHORIZATION_FAILED;
    else
        de->s.error_code = group_code(q, de->m.group_id, true, &de->s.error_message);
    if (de->s.error_code) {
        KREQ_REPLY(q, delete_share_group_offsets, &de->s);
        return;
    }
    if (!(de->s.responses = kreq_alloc(q, de->m.topics_n, sizeof *de->s.responses)))
        return;
    de->s.responses_n = de->m.topics_n;
    if (!(t = delete_topics(q, de, &n)))
        return;
    if ((de->topic_of = kreq_alloc(q, n, sizeof *de->topic_of)))
        g = kgather_new(q, n, deleted_reply, de);
    for (i = 0; i < de->m.topics_n; i++) {
        if (g && t[i])
            delete_topic(q, de, i, t[i], g, &at);
        topic_unref(&t[i]);
    }
    if (g)
        kgather_wait(g, CHANGE_MS);
}
