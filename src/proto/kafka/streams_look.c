/* Looking at streams groups: StreamsGroupDescribe. All on the request's loop. */
#include <string.h>

#include "broker/streams.h"
#include "proto/kafka/groups.h"
#include "proto/kafka/kafka_int.h"

typedef struct kafka_streams_group_describe_response_group described;
typedef struct kafka_streams_group_describe_response_topic_info topic_info;
typedef struct kafka_streams_group_describe_response_key_value key_value;

static key_value *pairs_fill(struct kreq *q, const struct streams_pair *in, unsigned n)
{
    key_value *out = kreq_alloc(q, n, sizeof *out);
    unsigned i;

    for (i = 0; out && i < n && q->state != KREQ_DONE; i++)
        out[i] = (key_value){kreq_keep(q, in[i].key), kreq_keep(q, in[i].value)};
    return out;
}

static struct slice *names_fill(struct kreq *q, const struct slice *in, unsigned n)
{
    struct slice *out = kreq_alloc(q, n, sizeof *out);
    unsigned i;

    for (i = 0; out && i < n && q->state != KREQ_DONE; i++)
        out[i] = kreq_keep(q, in[i]);
    return out;
}

static topic_info *topics_fill(struct kreq *q, const struct streams_topic *in, unsigned n)
{
    topic_info *out = kreq_alloc(q, n, sizeof *out);
    unsigned i;

    for (i = 0; out && i < n && q->state != KREQ_DONE; i++)
        out[i] = (topic_info){.name = kreq_keep(q, in[i].name),
                              .partitions = in[i].partitions,
                              .replication_factor = in[i].replication,
                              .topic_configs = pairs_fill(q, in[i].configs, in[i].configs_n),
                              .topic_configs_n = in[i].configs_n};
    return out;
}

static void topology_fill(struct kreq *q, const struct streams_description *d, described *s)
{
    struct kafka_streams_group_describe_response_subtopology *o;
    unsigned i;

    if (!(s->topology = kreq_alloc(q, 1, sizeof *s->topology)))
        return;
    kafka_streams_group_describe_response_topology_init(s->topology);
    s->topology->epoch = d ? d->topology.epoch : 0;
    s->topology->subtopologies_null = d && !d->configured;
    if (!d || !d->configured)
        return;
    if (!(s->topology->subtopologies = kreq_alloc(q, d->topology.n, sizeof *o)))
        return;
    s->topology->subtopologies_n = d->topology.n;
    for (i = 0; i < d->topology.n && q->state != KREQ_DONE; i++) {
        const struct streams_subtopology *in = &d->topology.subs[i];

        o = &s->topology->subtopologies[i];
        o->subtopology_id = kreq_keep(q, in->id);
        o->source_topics = names_fill(q, in->sources, in->sources_n);
        o->source_topics_n = in->sources_n;
        o->repartition_sink_topics = names_fill(q, in->sinks, in->sinks_n);
        o->repartition_sink_topics_n = in->sinks_n;
        o->state_changelog_topics = topics_fill(q, in->changelogs, in->changelogs_n);
        o->state_changelog_topics_n = in->changelogs_n;
        o->repartition_source_topics = topics_fill(q, in->repartitions, in->repartitions_n);
        o->repartition_source_topics_n = in->repartitions_n;
    }
}

static void tasks_fill(struct kreq *q, const struct streams_tasks *in, unsigned n,
                       struct kafka_streams_group_describe_response_tasks **out, uint32_t *out_n)
{
    unsigned i;

    if (!(*out = kreq_alloc(q, n, sizeof **out)))
        return;
    *out_n = n;
    for (i = 0; i < n && q->state != KREQ_DONE; i++) {
        (*out)[i].subtopology_id = kreq_keep(q, in[i].subtopology);
        if (!((*out)[i].partitions = kreq_alloc(q, in[i].n, sizeof(int32_t))))
            return;
        (*out)[i].partitions_n = in[i].n;
        memcpy((*out)[i].partitions, in[i].partitions, in[i].n * sizeof(int32_t));
    }
}

static void assignment_fill(struct kreq *q, const struct streams_tasks *const tasks[STREAMS_ROLES],
                            const unsigned n[STREAMS_ROLES],
                            struct kafka_streams_group_describe_response_assignment *s)
{
    tasks_fill(q, tasks[STREAMS_ACTIVE], n[STREAMS_ACTIVE], &s->active_tasks, &s->active_tasks_n);
    if (q->state != KREQ_DONE)
        tasks_fill(q, tasks[STREAMS_STANDBY], n[STREAMS_STANDBY], &s->standby_tasks,
                   &s->standby_tasks_n);
    if (q->state != KREQ_DONE)
        tasks_fill(q, tasks[STREAMS_WARMUP], n[STREAMS_WARMUP], &s->warmup_tasks,
                   &s->warmup_tasks_n);
}

static void member_fill(struct kreq *q, const struct group_description_member *m,
                        struct kafka_streams_group_describe_response_member *o)
{
    const struct streams_member_description *d = m->streams;

    kafka_streams_group_describe_response_member_init(o);
    o->member_id = kreq_keep(q, m->member_id);
    o->member_epoch = m->epoch;
    o->instance_id = kreq_keep(q, m->instance_id);
    o->rack_id = kreq_keep(q, m->rack_id);
    o->client_id = kreq_keep(q, m->client_id);
    o->client_host = kreq_keep(q, m->client_host);
    o->topology_epoch = d->topology_epoch;
    o->process_id = kreq_keep(q, d->process_id);
    if (!slice_is_null(d->endpoint_host)) {
        if (!(o->user_endpoint = kreq_alloc(q, 1, sizeof *o->user_endpoint)))
            return;
        o->user_endpoint->host = kreq_keep(q, d->endpoint_host);
        o->user_endpoint->port = d->endpoint_port;
    }
    o->client_tags = pairs_fill(q, d->tags, d->tags_n);
    o->client_tags_n = d->tags_n;
    if (q->state != KREQ_DONE)
        assignment_fill(q, d->assigned, d->assigned_n, &o->assignment);
    if (q->state != KREQ_DONE)
        assignment_fill(q, d->target, d->target_n, &o->target_assignment);
}

/* Every topic of the topology. */
static bool topology_allowed(struct kreq *q, const struct streams_description *d)
{
    unsigned i, k;

    for (i = 0; d && i < d->topology.n; i++) {
        const struct streams_subtopology *s = &d->topology.subs[i];

        for (k = 0; k < s->sources_n; k++)
            if (!kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, s->sources[k]))
                return false;
        for (k = 0; k < s->sinks_n; k++)
            if (!kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, s->sinks[k]))
                return false;
        for (k = 0; k < s->changelogs_n; k++)
            if (!kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, s->changelogs[k].name))
                return false;
        for (k = 0; k < s->repartitions_n; k++)
            if (!kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, s->repartitions[k].name))
                return false;
    }
    return true;
}

static void group_fill(struct kreq *q, const struct group_description *d,
                       const struct streams_description *topology, described *s)
{
    unsigned i;

    s->group_state = slice_str(group_state_text(d->state));
    s->group_epoch = d->generation;
    s->assignment_epoch = d->assignment_epoch;
    topology_fill(q, topology, s);
    if (q->state == KREQ_DONE || !(s->members = kreq_alloc(q, d->members_n, sizeof *s->members)))
        return;
    s->members_n = d->members_n;
    for (i = 0; i < d->members_n && q->state != KREQ_DONE; i++)
        if (d->members[i].streams)
            member_fill(q, &d->members[i], &s->members[i]);
}

static void describe_one(struct kreq *q, struct slice group, bool operations, described *s)
{
    const struct streams_description *topology;
    struct group_description d;
    enum err e;

    kafka_streams_group_describe_response_group_init(s);
    s->group_id = group;
    if (!kafka_allowed(q, KOP_DESCRIBE, KRES_GROUP, group)) {
        s->error_code = KE_GROUP_AUTHORIZATION_FAILED;
        return;
    }
    if ((e = group_describe(q->b, group, &d))) {
        s->error_code = kafka_group_code(e);
        return;
    }
    topology = d.state == GROUP_EMPTY ? kafka_streams_kept(q, group) : d.streams;
    if (d.state == GROUP_DEAD || d.kind != GROUP_STREAMS) {
        s->error_code = kafka_code(ERR_GROUP_NOT_FOUND);
        s->error_message = kreq_printf(q,
                                       d.state == GROUP_DEAD ? "Group %.*s not found."
                                                             : "Group %.*s is not a streams group.",
                                       (int)group.len, (const char *)group.ptr);
    } else if (!topology_allowed(q, topology)) {
        s->error_code = KE_TOPIC_AUTHORIZATION_FAILED;
        s->error_message = SLICE_LIT("The described group uses topics that the client is not "
                                     "authorized to describe.");
    } else {
        group_fill(q, &d, topology, s);
    }
    group_description_fini(&d);
    if (q->state == KREQ_DONE)
        return;
    if (operations && !s->error_code)
        s->authorized_operations = kafka_operations(q, KRES_GROUP, group);
}

void kafka_on_streams_group_describe(struct kreq *q)
{
    struct kafka_streams_group_describe_response s;
    struct kafka_streams_group_describe_request m;
    uint32_t i;

    if (!KREQ_DECODE(q, streams_group_describe, &m))
        return;
    kafka_streams_group_describe_response_init(&s);
    if (!(s.groups = kreq_alloc(q, m.group_ids_n, sizeof *s.groups)))
        return;
    s.groups_n = m.group_ids_n;
    for (i = 0; i < m.group_ids_n && q->state != KREQ_DONE; i++)
        describe_one(q, m.group_ids[i], m.include_authorized_operations, &s.groups[i]);
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, streams_group_describe, &s);
}
