/* Looking at groups and deleting them: DescribeGroups, ConsumerGroupDescribe, ListGroups,
 * DeleteGroups.
 *
 * What is described is copied into the request's arena group by group, so that a request that names
 * many large groups is bounded by the arena. All on the request's loop, but group_removed. */
#include <stdlib.h>
#include <string.h>

#include "broker/coordinator.h"
#include "proto/kafka/groups.h"
#include "proto/kafka/kafka_int.h"

#define LIST_FIRST      64u
#define MEMBER_CLASSIC  0 /* ConsumerGroupDescribe's member types */
#define MEMBER_CONSUMER 1

bool kafka_group_topics_allowed(struct kreq *q, const struct group_description *d)
{
    unsigned i, j;

    for (i = 0; i < d->members_n; i++) {
        const struct group_description_member *m = &d->members[i];

        for (j = 0; j < m->topics_n; j++)
            if (!kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, m->topics[j]))
                return false;
        for (j = 0; j < m->assigned_n; j++)
            if (!kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, m->assigned[j].topic))
                return false;
        for (j = 0; j < m->target_n; j++)
            if (!kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, m->target[j].topic))
                return false;
    }
    return true;
}

/* ---- DescribeGroups ---- */

static void classic_fill(struct kreq *q, const struct group_description *d,
                         struct kafka_describe_groups_response_group *s)
{
    struct kafka_describe_groups_response_member *o;
    const struct group_description_member *m;
    unsigned i;

    s->group_state = slice_str(group_state_text(d->state));
    s->protocol_type = kreq_keep(q, d->protocol_type);
    if (d->state == GROUP_STABLE)
        s->protocol_data = kreq_keep(q, d->protocol);
    if (!(s->members = kreq_alloc(q, d->members_n, sizeof *s->members)))
        return;
    s->members_n = d->members_n;
    for (i = 0; i < d->members_n && q->state != KREQ_DONE; i++) {
        m = &d->members[i];
        o = &s->members[i];
        o->member_id = kreq_keep(q, m->member_id);
        o->group_instance_id = kreq_keep(q, m->instance_id);
        o->client_id = kreq_keep(q, m->client_id);
        o->client_host = kreq_keep(q, m->client_host);
        o->member_metadata = kreq_keep(q, m->metadata);
        o->member_assignment = kreq_keep(q, m->assignment);
    }
}

static void classic_one(struct kreq *q, struct slice group, bool operations,
                        struct kafka_describe_groups_response_group *s)
{
    struct group_description d;
    enum err e;

    kafka_describe_groups_response_group_init(s);
    s->group_id = group;
    if (!kafka_allowed(q, KOP_DESCRIBE, KRES_GROUP, group)) {
        s->error_code = KE_GROUP_AUTHORIZATION_FAILED;
        return;
    }
    if ((e = group_describe(q->b, group, &d))) {
        s->error_code = kafka_group_code(e);
        return;
    }
    if (d.state == GROUP_DEAD || d.kind != GROUP_CLASSIC) {
        s->group_state = slice_str(group_state_text(GROUP_DEAD));
        if (q->version >= 6) {
            s->error_code = kafka_code(ERR_GROUP_NOT_FOUND);
            s->error_message = d.state == GROUP_DEAD ? SLICE_LIT("there is no such group")
                                                     : SLICE_LIT("it is not a classic group");
        }
    } else {
        classic_fill(q, &d, s);
    }
    group_description_fini(&d);
    if (operations)
        s->authorized_operations = kafka_operations(q, KRES_GROUP, group);
}

void kafka_on_describe_groups(struct kreq *q)
{
    struct kafka_describe_groups_response s;
    struct kafka_describe_groups_request m;
    uint32_t i;

    if (!KREQ_DECODE(q, describe_groups, &m))
        return;
    kafka_describe_groups_response_init(&s);
    if (!(s.groups = kreq_alloc(q, m.groups_n, sizeof *s.groups)))
        return;
    s.groups_n = m.groups_n;
    for (i = 0; i < m.groups_n && q->state != KREQ_DONE; i++)
        classic_one(q, m.groups[i], m.include_authorized_operations, &s.groups[i]);
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, describe_groups, &s);
}

/* ---- ConsumerGroupDescribe ---- */

static void assignment_fill(struct kreq *q, const struct group_topic_partitions *tp, unsigned n,
                            struct kafka_consumer_group_describe_response_assignment *s)
{
    struct kafka_consumer_group_describe_response_topic_partition *o;
    unsigned i;

    if (!(s->topic_partitions = kreq_alloc(q, n, sizeof *s->topic_partitions)))
        return;
    s->topic_partitions_n = n;
    for (i = 0; i < n && q->state != KREQ_DONE; i++) {
        o = &s->topic_partitions[i];
        memcpy(o->topic_id, tp[i].topic_uuid, 16);
        o->topic_name = kreq_keep(q, tp[i].topic);
        if (!(o->partitions = kreq_alloc(q, tp[i].n, sizeof *o->partitions)))
            return;
        o->partitions_n = tp[i].n;
        memcpy(o->partitions, tp[i].partitions, tp[i].n * sizeof *o->partitions);
    }
}

static void member_fill(struct kreq *q, const struct group_description_member *m,
                        struct kafka_consumer_group_describe_response_member *o)
{
    unsigned i;

    o->member_id = kreq_keep(q, m->member_id);
    o->instance_id = kreq_keep(q, m->instance_id);
    o->rack_id = kreq_keep(q, m->rack_id);
    o->member_epoch = m->epoch;
    o->client_id = kreq_keep(q, m->client_id);
    o->client_host = kreq_keep(q, m->client_host);
    o->subscribed_topic_regex = kreq_keep(q, m->topic_regex);
    o->member_type = m->classic ? MEMBER_CLASSIC : MEMBER_CONSUMER;
    o->subscribed_topic_names = kreq_alloc(q, m->topics_n, sizeof *o->subscribed_topic_names);
    if (!o->subscribed_topic_names)
        return;
    o->subscribed_topic_names_n = m->topics_n;
    for (i = 0; i < m->topics_n && q->state != KREQ_DONE; i++)
        o->subscribed_topic_names[i] = kreq_keep(q, m->topics[i]);
    assignment_fill(q, m->assigned, m->assigned_n, &o->assignment);
    assignment_fill(q, m->target, m->target_n, &o->target_assignment);
}

static void consumer_fill(struct kreq *q, const struct group_description *d,
                          struct kafka_consumer_group_describe_response_group *s)
{
    unsigned i;

    s->group_state = slice_str(group_state_text(d->state));
    s->group_epoch = d->generation;
    s->assignment_epoch = d->assignment_epoch;
    s->assignor_name = kreq_keep(q, d->protocol);
    if (q->state == KREQ_DONE || !(s->members = kreq_alloc(q, d->members_n, sizeof *s->members)))
        return;
    s->members_n = d->members_n;
    for (i = 0; i < d->members_n && q->state != KREQ_DONE; i++)
        member_fill(q, &d->members[i], &s->members[i]);
}

static void consumer_one(struct kreq *q, struct slice group, bool operations,
                         struct kafka_consumer_group_describe_response_group *s)
{
    struct group_description d;
    enum err e;

    kafka_consumer_group_describe_response_group_init(s);
    s->group_id = group;
    if (!kafka_allowed(q, KOP_DESCRIBE, KRES_GROUP, group)) {
        s->error_code = KE_GROUP_AUTHORIZATION_FAILED;
        return;
    }
    if ((e = group_describe(q->b, group, &d))) {
        s->error_code = kafka_group_code(e);
        return;
    }
    if (d.state == GROUP_DEAD || d.kind != GROUP_CONSUMER) {
        s->error_code = kafka_code(ERR_GROUP_NOT_FOUND);
        s->error_message = d.state == GROUP_DEAD ? SLICE_LIT("there is no such group")
                                                 : SLICE_LIT("it is not a consumer group");
    } else if (!kafka_group_topics_allowed(q, &d)) {
        s->error_code = KE_TOPIC_AUTHORIZATION_FAILED;
        s->error_message = SLICE_LIT("the group has topics that may not be described");
    } else {
        consumer_fill(q, &d, s);
    }
    group_description_fini(&d);
    if (operations)
        s->authorized_operations = kafka_operations(q, KRES_GROUP, group);
}

void kafka_on_consumer_group_describe(struct kreq *q)
{
    struct kafka_consumer_group_describe_response s;
    struct kafka_consumer_group_describe_request m;
    uint32_t i;

    if (!KREQ_DECODE(q, consumer_group_describe, &m))
        return;
    kafka_consumer_group_describe_response_init(&s);
    if (!(s.groups = kreq_alloc(q, m.group_ids_n, sizeof *s.groups)))
        return;
    s.groups_n = m.group_ids_n;
    for (i = 0; i < m.group_ids_n && q->state != KREQ_DONE; i++)
        consumer_one(q, m.group_ids[i], m.include_authorized_operations, &s.groups[i]);
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, consumer_group_describe, &s);
}

/* ---- ListGroups ---- */

struct list {
    struct kreq *q;
    bool all; /* may see any */
    struct kafka_list_groups_response s;
    uint32_t cap;
};

static bool list_room(struct list *l)
{
    struct kafka_list_groups_response_group *more;
    uint32_t cap = l->cap ? l->cap * 2 : LIST_FIRST;

    if (l->s.groups_n < l->cap)
        return true;
    if (!(more = kreq_alloc(l->q, cap, sizeof *more)))
        return false;
    if (l->cap)
        memcpy(more, l->s.groups, l->cap * sizeof *more);
    l->s.groups = more;
    l->cap = cap;
    return true;
}

static void list_one(void *arg, const struct group_listing *g)
{
    struct list *l = arg;
    struct kreq *q = l->q;

    if (q->state == KREQ_DONE || (!l->all && !kafka_allowed(q, KOP_DESCRIBE, KRES_GROUP, g->group)))
        return;
    if (!list_room(l))
        return;
    l->s.groups[l->s.groups_n++] = (struct kafka_list_groups_response_group){
        .group_id = kreq_keep(q, g->group),
        .protocol_type = kreq_keep(q, g->protocol_type),
        .group_state = slice_str(group_state_text(g->state)),
        .group_type = slice_str(group_kind_text(g->kind))};
}

void kafka_on_list_groups(struct kreq *q)
{
    struct list l = {.q = q};
    struct kafka_list_groups_request m;
    struct group_filter f;

    if (!KREQ_DECODE(q, list_groups, &m))
        return;
    kafka_list_groups_response_init(&l.s);
    l.all = kafka_allowed(q, KOP_DESCRIBE, KRES_CLUSTER, KAFKA_CLUSTER_NAME);
    f = (struct group_filter){m.states_filter, m.types_filter, m.states_filter_n, m.types_filter_n};
    groups_list(q->b, &f, list_one, &l);
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, list_groups, &l.s);
}

/* ---- DeleteGroups ---- */

struct removal {
    struct kreq *q;
    enum err e;
    int16_t code; /* not 0: it was not tried */
};

struct removals {
    struct kafka_delete_groups_request m;
    struct removal *r;
    atomic_uint left; /* answers awaited, and 1 */
};

static void removed_reply(struct kreq *q)
{
    struct removals *rs = q->state_of;
    struct kafka_delete_groups_response s;
    uint32_t i;

    kafka_delete_groups_response_init(&s);
    if (!q->kc) {
        kreq_done(q);
        return;
    }
    if (!(s.results = kreq_alloc(q, rs->m.groups_names_n, sizeof *s.results)))
        return;
    s.results_n = rs->m.groups_names_n;
    for (i = 0; i < s.results_n; i++)
        s.results[i] = (struct kafka_delete_groups_response_result){
            rs->m.groups_names[i], rs->r[i].code ? rs->r[i].code : kafka_group_code(rs->r[i].e)};
    KREQ_REPLY(q, delete_groups, &s);
}

static void group_removed(void *arg, enum err e, const struct errinfo *info)
{
    struct removal *r = arg;
    struct kreq *q = r->q;
    struct removals *rs = q->state_of;

    r->e = e;
    if (atomic_fetch_sub(&rs->left, 1) == 1)
        kreq_post(q, removed_reply);
}

void kafka_on_delete_groups(struct kreq *q)
{
    struct removals *rs = kreq_alloc(q, 1, sizeof *rs);
    struct errinfo info = {0};
    uint32_t i;
    enum err e;

    if (!rs || !KREQ_DECODE(q, delete_groups, &rs->m) ||
        !(rs->r = kreq_alloc(q, rs->m.groups_names_n, sizeof *rs->r)))
        return;
    q->state_of = rs;
    atomic_init(&rs->left, 1);
    for (i = 0; i < rs->m.groups_names_n; i++) {
        struct removal *r = &rs->r[i];

        r->q = q;
        if (!kafka_allowed(q, KOP_DELETE, KRES_GROUP, rs->m.groups_names[i])) {
            r->code = KE_GROUP_AUTHORIZATION_FAILED;
            continue;
        }
        atomic_fetch_add(&rs->left, 1);
        e = group_remove(q->b, rs->m.groups_names[i], group_removed, r, &info);
        if (e) {
            r->e = e;
            atomic_fetch_sub(&rs->left, 1);
        }
    }
    if (atomic_fetch_sub(&rs->left, 1) == 1)
        removed_reply(q);
}
