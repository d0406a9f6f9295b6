/* Members of streams groups: StreamsGroupHeartbeat (KIP-1071).
 *
 * The coordinator's answer says, besides, which internal topics of the application are missing. Here
 * they are made, if the client may create topics; the answer does not wait for them, later
 * heartbeats find them. What may be said is checked as by Apache Kafka 4.2 (KafkaApis,
 * GroupCoordinatorService). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "base/topic_name.h"
#include "broker/streams.h"
#include "proto/kafka/groups.h"
#include "proto/kafka/kafka_int.h"
#include "proto/kafka/share_conf.h"

typedef struct kafka_streams_group_heartbeat_request request;
typedef struct kafka_streams_group_heartbeat_response response;

/* ---- the request ---- */

static struct streams_topic *topics_read(
    struct kreq *q, const struct kafka_streams_group_heartbeat_request_topic_info *in, uint32_t n)
{
    struct streams_topic *out = kreq_alloc(q, n, sizeof *out);
    struct streams_pair *pairs;
    uint32_t i, k;

    for (i = 0; out && i < n; i++) {
        if (!(pairs = kreq_alloc(q, in[i].topic_configs_n, sizeof *pairs)))
            return NULL;
        for (k = 0; k < in[i].topic_configs_n; k++)
            pairs[k] =
                (struct streams_pair){in[i].topic_configs[k].key, in[i].topic_configs[k].value};
        out[i] = (struct streams_topic){.name = in[i].name,
                                        .partitions = in[i].partitions,
                                        .replication = in[i].replication_factor,
                                        .configs = pairs,
                                        .configs_n = in[i].topic_configs_n};
    }
    return out;
}

static bool sub_read(struct kreq *q,
                     const struct kafka_streams_group_heartbeat_request_subtopology *in,
                     struct streams_subtopology *out)
{
    struct streams_copartition *c = kreq_alloc(q, in->copartition_groups_n, sizeof *c);
    uint32_t i;

    if (!c)
        return false;
    *out = (struct streams_subtopology){.id = in->subtopology_id,
                                        .sources = in->source_topics,
                                        .sources_n = in->source_topics_n,
                                        .sinks = in->repartition_sink_topics,
                                        .sinks_n = in->repartition_sink_topics_n,
                                        .changelogs_n = in->state_changelog_topics_n,
                                        .repartitions_n = in->repartition_source_topics_n,
                                        .copartitions = c,
                                        .copartitions_n = in->copartition_groups_n};
    for (i = 0; i < in->copartition_groups_n; i++)
        c[i] = (struct streams_copartition){
            .sources = in->copartition_groups[i].source_topics,
            .sources_n = in->copartition_groups[i].source_topics_n,
            .repartitions = in->copartition_groups[i].repartition_source_topics,
            .repartitions_n = in->copartition_groups[i].repartition_source_topics_n};
    out->changelogs = topics_read(q, in->state_changelog_topics, in->state_changelog_topics_n);
    out->repartitions =
        topics_read(q, in->repartition_source_topics, in->repartition_source_topics_n);
    return out->changelogs && out->repartitions;
}

static struct streams_topology *topology_read(struct kreq *q, const request *m)
{
    struct streams_topology *tp = kreq_alloc(q, 1, sizeof *tp);
    struct streams_subtopology *subs = kreq_alloc(q, m->topology->subtopologies_n, sizeof *subs);
    uint32_t i;

    if (!tp || !subs)
        return NULL;
    *tp = (struct streams_topology){m->topology->epoch, subs, m->topology->subtopologies_n};
    for (i = 0; i < tp->n; i++)
        if (!sub_read(q, &m->topology->subtopologies[i], &subs[i]))
            return NULL;
    return tp;
}

static bool tasks_read(struct kreq *q, const struct kafka_streams_group_heartbeat_request_tasks *in,
                       uint32_t n, bool null, const struct streams_tasks **out, unsigned *out_n)
{
    struct streams_tasks *ts;
    uint32_t i;

    if (null)
        return true;
    if (!(ts = kreq_alloc(q, n, sizeof *ts)))
        return false;
    for (i = 0; i < n; i++)
        ts[i] = (struct streams_tasks){in[i].subtopology_id, in[i].partitions, in[i].partitions_n};
    *out = ts;
    *out_n = n;
    return true;
}

/* False: there is no room, the request is over. */
static bool beat_fill(struct kreq *q, const request *m, struct group_streams_heartbeat *h)
{
    struct streams_pair *tags;
    struct share_conf conf;
    uint32_t i;

    share_conf_get(q->b, m->group_id, &conf);
    *h = (struct group_streams_heartbeat){.group = m->group_id,
                                          .member_id = m->member_id,
                                          .member_epoch = m->member_epoch,
                                          .endpoint_epoch = m->endpoint_information_epoch,
                                          .instance_id = m->instance_id,
                                          .rack_id = m->rack_id,
                                          .client_id = q->head.client_id,
                                          .client_host = kafka_client_host(q),
                                          .process_id = m->process_id,
                                          .rebalance_timeout_ms = m->rebalance_timeout_ms,
                                          .shutdown = m->shutdown_application,
                                          .session_timeout_ms = conf.streams_session_timeout_ms,
                                          .heartbeat_ms = conf.streams_heartbeat_ms,
                                          .standby_replicas = conf.streams_standby_replicas,
                                          .initial_delay_ms = conf.streams_initial_delay_ms,
                                          .interval_ms = conf.streams_interval_ms};
    if (m->user_endpoint) {
        h->endpoint_host = m->user_endpoint->host;
        h->endpoint_port = m->user_endpoint->port;
    }
    if (m->topology && !(h->topology = topology_read(q, m)))
        return false;
    if (!m->client_tags_null) {
        if (!(tags = kreq_alloc(q, m->client_tags_n, sizeof *tags)))
            return false;
        for (i = 0; i < m->client_tags_n; i++)
            tags[i] = (struct streams_pair){m->client_tags[i].key, m->client_tags[i].value};
        h->tags = tags;
        h->tags_n = m->client_tags_n;
    }
    return tasks_read(q, m->active_tasks, m->active_tasks_n, m->active_tasks_null,
                      &h->owned[STREAMS_ACTIVE], &h->owned_n[STREAMS_ACTIVE]) &&
           tasks_read(q, m->standby_tasks, m->standby_tasks_n, m->standby_tasks_null,
                      &h->owned[STREAMS_STANDBY], &h->owned_n[STREAMS_STANDBY]) &&
           tasks_read(q, m->warmup_tasks, m->warmup_tasks_n, m->warmup_tasks_null,
                      &h->owned[STREAMS_WARMUP], &h->owned_n[STREAMS_WARMUP]);
}

/* ---- what is refused before the group is asked ---- */

typedef int16_t (*name_fn)(struct kreq *q, struct slice name, bool made, void *arg);

/* Calls back for each topic that the subtopology names, until one is not KE_NONE. made: the group
 * makes it, if it is not there. */
static int16_t names_each(struct kreq *q,
                          const struct kafka_streams_group_heartbeat_request_subtopology *s,
                          name_fn fn, void *arg)
{
    int16_t code = KE_NONE;
    uint32_t i;

    for (i = 0; i < s->source_topics_n && !code; i++)
        code = fn(q, s->source_topics[i], false, arg);
    for (i = 0; i < s->repartition_sink_topics_n && !code; i++)
        code = fn(q, s->repartition_sink_topics[i], true, arg);
    for (i = 0; i < s->repartition_source_topics_n && !code; i++)
        code = fn(q, s->repartition_source_topics[i].name, true, arg);
    for (i = 0; i < s->state_changelog_topics_n && !code; i++)
        code = fn(q, s->state_changelog_topics[i].name, true, arg);
    return code;
}

static const char *const kafka_internal[] = {"__consumer_offsets", "__transaction_state",
                                             "__share_group_state"};
#define KAFKA_INTERNAL (sizeof kafka_internal / sizeof *kafka_internal)

/* Notes which of them the topology names. */
static int16_t internal_note(struct kreq *q, struct slice name, bool made, void *arg)
{
    bool *named = arg;
    unsigned i;

    for (i = 0; i < KAFKA_INTERNAL; i++)
        named[i] |= slice_eq_str(name, kafka_internal[i]);
    return KE_NONE;
}

/* What Kafka keeps in topics of these names is not in topics here; but a client that names them is
 * told what Kafka tells it, not that they are missing. */
static int16_t internal_check(struct kreq *q,
                              const struct kafka_streams_group_heartbeat_request_topology *tp,
                              struct slice *text)
{
    bool named[KAFKA_INTERNAL] = {false};
    char list[80] = "";
    unsigned k;
    size_t n = 0;
    uint32_t i;

    for (i = 0; i < tp->subtopologies_n; i++)
        names_each(q, &tp->subtopologies[i], internal_note, named);
    for (k = 0; k < KAFKA_INTERNAL; k++)
        if (named[k])
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? "," : "",
                                  kafka_internal[k]);
    if (n == 0)
        return KE_NONE;
    *text = kreq_printf(
        q, "Use of Kafka internal topics %s in a Kafka Streams topology is prohibited.", list);
    return kafka_code(ERR_STREAMS_TOPOLOGY);
}

static int16_t topic_check(struct kreq *q, struct slice name, bool made, void *arg)
{
    struct slice *text = arg;

    if (!topic_name_valid(name)) {
        *text = made ? SLICE_LIT("Some internal topic names of the topology are invalid.")
                     : SLICE_LIT("Some topic names of the topology are invalid.");
        return kafka_code(ERR_STREAMS_TOPOLOGY);
    }
    if (kafka_allowed(q, KOP_DESCRIBE, KRES_TOPIC, name))
        return KE_NONE;
    return KE_TOPIC_AUTHORIZATION_FAILED;
}

static int16_t topology_check(struct kreq *q,
                              const struct kafka_streams_group_heartbeat_request_topology *tp,
                              struct slice *text)
{
    int16_t code = KE_NONE;
    uint32_t i;

    for (i = 0; i < tp->subtopologies_n; i++)
        if (tp->subtopologies[i].source_topic_regex_n) {
            *text = SLICE_LIT("Regular expressions for source topics are not supported yet.");
            return KE_INVALID_REQUEST;
        }
    code = internal_check(q, tp, text);
    for (i = 0; i < tp->subtopologies_n && !code; i++)
        code = names_each(q, &tp->subtopologies[i], topic_check, text);
    return code;
}

/* More than a topology may name: the coordinator would refuse it, but after each name is looked at. */
static bool too_many(const struct kafka_streams_group_heartbeat_request_topology *tp)
{
    uint64_t names = 0;
    uint32_t i;

    for (i = 0; i < tp->subtopologies_n; i++) {
        const struct kafka_streams_group_heartbeat_request_subtopology *s = &tp->subtopologies[i];

        names += (uint64_t)s->source_topics_n + s->repartition_sink_topics_n +
                 s->repartition_source_topics_n + s->state_changelog_topics_n;
    }
    return names > LIMIT_STREAMS_TOPICS || tp->subtopologies_n > LIMIT_STREAMS_SUBTOPOLOGIES;
}

static int16_t beat_check(struct kreq *q, const request *m, struct slice *text)
{
    *text = SLICE_NULL;
    if (!kafka_allowed(q, KOP_READ, KRES_GROUP, m->group_id))
        return KE_GROUP_AUTHORIZATION_FAILED;
    if (m->group_id.len == 0)
        *text = SLICE_LIT("GroupId can't be empty.");
    else if (!m->task_offsets_null)
        *text = SLICE_LIT("TaskOffsets are not supported yet.");
    else if (!m->task_end_offsets_null)
        *text = SLICE_LIT("TaskEndOffsets are not supported yet.");
    else if (m->warmup_tasks_n)
        *text = SLICE_LIT("WarmupTasks are not supported yet.");
    else if (m->topology && too_many(m->topology))
        *text = SLICE_LIT("The topology has too many subtopologies or topics.");
    if (!slice_is_null(*text))
        return KE_INVALID_REQUEST;
    return m->topology ? topology_check(q, m->topology, text) : KE_NONE;
}

static void beat_refuse(struct kreq *q, int16_t code, struct slice text)
{
    response s;

    kafka_streams_group_heartbeat_response_init(&s);
    s.error_code = code;
    s.error_message = text;
    KREQ_REPLY(q, streams_group_heartbeat, &s);
}

/* ---- the internal topics ---- */

static void made(void *arg, enum err e, const struct errinfo *info)
{
    /* who asks or joins again finds out whether it is there */
}

static bool create_allowed(struct kreq *q, struct slice name)
{
    return kafka_allowed(q, KOP_CREATE, KRES_CLUSTER, KAFKA_CLUSTER_NAME) ||
           kafka_allowed(q, KOP_CREATE, KRES_TOPIC, name);
}

static enum err topic_make(struct kreq *q, const struct streams_topic *t, struct errinfo *info)
{
    struct topic_conf conf;
    unsigned i;
    enum err e = ERR_OK;

    topic_conf_default(q->b, &conf);
    for (i = 0; i < t->configs_n && !e; i++)
        e = topic_conf_set(&conf, t->configs[i].key, t->configs[i].value, info);
    if (!e && t->replication > 1)
        e = errinfo_set(info, ERR_CONFIG, "there is one broker, not %d", (int)t->replication);
    if (!e)
        e = topic_create(q->b, t->name, t->partitions, &conf, made, NULL, info);
    return e == ERR_TOPIC_EXISTS ? ERR_OK : e;
}

/* Begins to make them; what is wrong is added to the status that says that they are missing. */
static void topics_make(struct kreq *q, struct group_streams_result *r)
{
    struct errinfo info = {0};
    struct slice wrong = SLICE_NULL;
    unsigned i;

    for (i = 0; i < r->missing_n && q->state != KREQ_DONE; i++) {
        int len = (int)r->missing[i].name.len;
        const char *name = (const char *)r->missing[i].name.ptr;

        if (!create_allowed(q, r->missing[i].name))
            wrong = kreq_printf(q, "Unauthorized to CREATE on topics %.*s.", len, name);
        else if (topic_make(q, &r->missing[i], &info))
            wrong = kreq_printf(q, "Creation of topic %.*s failed: %s", len, name, info.text);
    }
    for (i = 0; i < r->status_n && wrong.len; i++)
        if (r->status[i].code == STREAMS_MISSING_INTERNAL)
            r->status[i].text = kreq_printf(q, "%.*s; %.*s", (int)r->status[i].text.len,
                                            (const char *)r->status[i].text.ptr, (int)wrong.len,
                                            (const char *)wrong.ptr);
}

/* ---- the topology, as it is kept for when there are no members ---- */

struct said {
    /* topology: a request that says nothing else; null: it is too large to be kept */
    struct slice group, topology;
};

/* NULL: no topology is said. */
static struct said *topology_said(struct kreq *q, const request *m)
{
    struct said *s = m->topology ? kreq_alloc(q, 1, sizeof *s) : NULL;
    struct kwriter w;
    struct buf b;
    request only;

    if (!s)
        return NULL;
    kafka_streams_group_heartbeat_request_init(&only);
    only.topology = m->topology;
    *s = (struct said){m->group_id, SLICE_NULL};
    kwriter_init(&w, LIMIT_KV_VALUE);
    buf_init(&b, LIMIT_KV_VALUE);
    if (kafka_streams_group_heartbeat_request_encode(&w, 0, &only) == ERR_OK &&
        kwriter_flatten(&w, &b) == ERR_OK)
        s->topology = kreq_keep(q, buf_slice(&b));
    buf_fini(&b);
    kwriter_fini(&w);
    return s;
}

/* One that cannot be kept, for its size or because there is no room for more, ends the one before:
 * that is no longer what the group runs. */
static void topology_keep(struct kreq *q, const struct said *s)
{
    struct errinfo info = {0};
    struct buf was;
    bool known;

    buf_init(&was, LIMIT_KV_VALUE);
    known = kv_get(q->b, STREAMS_TOPOLOGY_NS, s->group, &was) == ERR_OK;
    if ((known ? !slice_eq(buf_slice(&was), s->topology) : s->topology.len > 0) &&
        kv_put(q->b, STREAMS_TOPOLOGY_NS, s->group, s->topology, 0, made, NULL, &info) ==
            ERR_LIMIT &&
        known)
        kv_put(q->b, STREAMS_TOPOLOGY_NS, s->group, SLICE_NULL, 0, made, NULL, &info);
    buf_fini(&was);
}

const struct streams_description *kafka_streams_kept(struct kreq *q, struct slice group)
{
    struct streams_description *d = NULL;
    struct streams_topology *tp;
    struct kreader r;
    struct buf kept;
    request m;

    buf_init(&kept, LIMIT_KV_VALUE);
    if (kv_get(q->b, STREAMS_TOPOLOGY_NS, group, &kept) == ERR_OK) {
        kreader_init(&r, kreq_keep(q, buf_slice(&kept)), LIMIT_KAFKA_ARENA);
        if (q->state != KREQ_DONE &&
            kafka_streams_group_heartbeat_request_decode(&r, 0, &q->arena, &m) == ERR_OK &&
            m.topology && (tp = topology_read(q, &m)) && (d = kreq_alloc(q, 1, sizeof *d)))
            *d = (struct streams_description){true, *tp};
    }
    buf_fini(&kept);
    return d;
}

/* ---- the answer ---- */

struct answer {
    struct group_streams_result r;
    struct arena memory; /* what r points to */
};

static void answer_drop(void *copy)
{
    struct answer *a = copy;

    arena_fini(&a->memory);
    free(a);
}

static void beat_done(void *arg, struct group_streams_result *r)
{
    struct answer *a = xmalloc(sizeof *a);

    a->r = *r;
    a->memory = *r->memory;
    arena_init(r->memory, 512, 512);
    a->r.memory = &a->memory;
    kafka_wait_copied(arg, a);
}

static struct kafka_streams_group_heartbeat_response_tasks *tasks_write(
    struct kreq *q, const struct streams_tasks *in, unsigned n)
{
    struct kafka_streams_group_heartbeat_response_tasks *out = kreq_alloc(q, n, sizeof *out);
    unsigned i;

    for (i = 0; out && i < n; i++)
        out[i] = (struct kafka_streams_group_heartbeat_response_tasks){
            in[i].subtopology, (int32_t *)(uintptr_t)in[i].partitions, in[i].n};
    return out;
}

static struct kafka_streams_group_heartbeat_response_topic_partition *partitions_write(
    struct kreq *q, const struct streams_topic_partitions *in, unsigned n)
{
    struct kafka_streams_group_heartbeat_response_topic_partition *out =
        kreq_alloc(q, n, sizeof *out);
    unsigned i;

    for (i = 0; out && i < n; i++)
        out[i] = (struct kafka_streams_group_heartbeat_response_topic_partition){
            in[i].topic, (int32_t *)(uintptr_t)in[i].partitions, in[i].n};
    return out;
}

static void endpoints_write(struct kreq *q, const struct group_streams_result *r, response *s)
{
    struct kafka_streams_group_heartbeat_response_endpoint_partitions *o;
    unsigned i;

    s->partitions_by_user_endpoint_null = false;
    s->partitions_by_user_endpoint = kreq_alloc(q, r->endpoints_n, sizeof *o);
    if (!s->partitions_by_user_endpoint)
        return;
    s->partitions_by_user_endpoint_n = r->endpoints_n;
    for (i = 0; i < r->endpoints_n && q->state != KREQ_DONE; i++) {
        const struct streams_endpoint *e = &r->endpoints[i];

        o = &s->partitions_by_user_endpoint[i];
        o->user_endpoint =
            (struct kafka_streams_group_heartbeat_response_endpoint){e->host, e->port};
        o->active_partitions = partitions_write(q, e->active, e->active_n);
        o->active_partitions_n = e->active_n;
        o->standby_partitions = partitions_write(q, e->standby, e->standby_n);
        o->standby_partitions_n = e->standby_n;
    }
}

static void tasks_all_write(struct kreq *q, const struct group_streams_result *r, response *s)
{
    s->active_tasks_null = s->standby_tasks_null = s->warmup_tasks_null = false;
    s->active_tasks = tasks_write(q, r->tasks[STREAMS_ACTIVE], r->tasks_n[STREAMS_ACTIVE]);
    s->active_tasks_n = r->tasks_n[STREAMS_ACTIVE];
    s->standby_tasks = tasks_write(q, r->tasks[STREAMS_STANDBY], r->tasks_n[STREAMS_STANDBY]);
    s->standby_tasks_n = r->tasks_n[STREAMS_STANDBY];
    s->warmup_tasks = tasks_write(q, r->tasks[STREAMS_WARMUP], r->tasks_n[STREAMS_WARMUP]);
    s->warmup_tasks_n = r->tasks_n[STREAMS_WARMUP];
}

static void beat_reply(struct kreq *q)
{
    struct kafka_wait *w = q->state_of;
    struct answer *a = w->copy;
    struct group_streams_result *r = &a->r;
    response s;
    unsigned i;

    if (r->e) {
        beat_refuse(q, r->e == ERR_TOO_LARGE ? KE_INVALID_REQUEST : kafka_group_code(r->e),
                    slice_str(r->text));
        return;
    }
    kafka_streams_group_heartbeat_response_init(&s);
    topics_make(q, r);
    if (w->of && !(r->status_n && r->status[0].code == STREAMS_STALE_TOPOLOGY))
        topology_keep(q, w->of);
    s.member_id = r->member_id;
    s.member_epoch = r->member_epoch;
    s.heartbeat_interval_ms = r->heartbeat_ms;
    s.endpoint_information_epoch = r->endpoint_epoch;
    if (r->status_n || r->member_epoch < 0) {
        s.status_null = false;
        if (q->state == KREQ_DONE || !(s.status = kreq_alloc(q, r->status_n, sizeof *s.status)))
            return;
        s.status_n = r->status_n;
        for (i = 0; i < r->status_n; i++)
            s.status[i] = (struct kafka_streams_group_heartbeat_response_status){
                (int8_t)r->status[i].code, r->status[i].text};
    }
    if (r->has_tasks)
        tasks_all_write(q, r, &s);
    if (r->has_endpoints && q->state != KREQ_DONE)
        endpoints_write(q, r, &s);
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, streams_group_heartbeat, &s);
}

void kafka_on_streams_group_heartbeat(struct kreq *q)
{
    struct group_streams_heartbeat h;
    struct kafka_wait *w;
    struct slice text;
    request m;
    int16_t code;

    if (!KREQ_DECODE(q, streams_group_heartbeat, &m))
        return;
    if ((code = beat_check(q, &m, &text))) {
        beat_refuse(q, code, text);
        return;
    }
    if (!beat_fill(q, &m, &h) || !(w = kafka_wait_new(q, beat_reply)))
        return;
    w->drop = answer_drop;
    w->of = topology_said(q, &m);
    if (q->state == KREQ_DONE)
        return;
    group_streams_heartbeat(q->b, &h, kafka_groups_now(q), &w->w, beat_done, q);
}
