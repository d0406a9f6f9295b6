/* What is told of a streams group: tasks and endpoints in answers to heartbeats, descriptions, the
 * published texts. Under the lock of the group's shard. */
#include <string.h>

#include "base/buf.h"
#include "base/json_write.h"
#include "base/tbl/limits.h"
#include "broker/streams_int.h"

/* ---- answers ---- */

/* A set by subtopology. NULL: no room. */
static struct streams_tasks *tasks_of(struct arena *a, const struct streams_group *sg,
                                      const struct part_set *set, unsigned *n)
{
    int32_t *p = arena_alloc(a, (set->n + 1) * sizeof *p);
    struct streams_tasks *out, *ts = NULL;
    unsigned subs = 0;
    uint32_t i;

    for (i = 0; i < set->n; i++)
        subs += i == 0 || set->v[i].topic != set->v[i - 1].topic;
    out = arena_zalloc(a, subs + 1, sizeof *out);
    *n = 0;
    if (!p || !out)
        return NULL;
    for (i = 0; i < set->n; i++) {
        if (i == 0 || set->v[i].topic != set->v[i - 1].topic) {
            struct slice id = sg->topology.subs[set->v[i].topic].id;

            ts = &out[(*n)++];
            ts->subtopology = id.len ? arena_dup(a, id) : slice_of("", 0);
            ts->partitions = &p[i];
        }
        p[i] = set->v[i].partition;
        ts->n++;
    }
    return out;
}

void streams__tasks(struct arena *a, const struct streams_group *sg, const struct task_sets *sets,
                    const struct streams_tasks *out[STREAMS_ROLES], unsigned n[STREAMS_ROLES])
{
    unsigned r;

    for (r = 0; r < STREAMS_ROLES; r++)
        out[r] = tasks_of(a, sg, &sets->of[r], &n[r]);
}

/* The partitions that tasks of one subtopology read, topic by topic: each has the first of the tasks,
 * in one list for all. False: no room. */
static bool sub_reads(struct arena *a, const struct streams_group *sg, const struct part_set *set,
                      uint32_t from, uint32_t end, size_t *room,
                      struct streams_topic_partitions *out, unsigned *n)
{
    const struct streams_sub *s = &sg->subs[set->v[from].topic];
    int32_t *p = arena_alloc(a, (end - from) * sizeof *p);
    uint32_t i, k;

    for (i = from; p && i < end; i++)
        p[i - from] = set->v[i].partition;
    for (k = 0; p && k < s->reads_n; k++) {
        const struct streams_name *name = &sg->names[s->reads[k]];
        struct streams_topic_partitions *tp = &out[*n];
        size_t bytes;

        for (i = end - from; i > 0 && p[i - 1] >= name->there; i--)
            ;
        if (i == 0)
            continue;
        bytes = sizeof *tp + name->name.len + i * sizeof *p;
        *tp = (struct streams_topic_partitions){arena_dup(a, name->name), p, i};
        if (!tp->topic.ptr || bytes > *room)
            return false;
        *room -= bytes;
        ++*n;
    }
    return p != NULL;
}

/* The partitions that tasks of the set read, in at most *room bytes, as they are to be written, and
 * those are taken off. NULL: no room. */
static struct streams_topic_partitions *reads_of(struct arena *a, const struct streams_group *sg,
                                                 const struct part_set *set, size_t *room,
                                                 unsigned *n)
{
    struct streams_topic_partitions *out;
    uint32_t i, end, most = 0;

    for (i = 0; i < set->n; i++)
        if (i == 0 || set->v[i].topic != set->v[i - 1].topic)
            most += sg->subs[set->v[i].topic].reads_n;
    out = arena_zalloc(a, most + 1, sizeof *out);
    *n = 0;
    for (i = 0; out && i < set->n; i = end) {
        for (end = i; end < set->n && set->v[end].topic == set->v[i].topic; end++)
            ;
        if (!sub_reads(a, sg, set, i, end, room, out, n)) {
            *n = 0;
            return NULL;
        }
    }
    return out;
}

static bool endpoints_fill(struct arena *a, const struct live_group *g,
                           struct streams_endpoint *out, unsigned *n)
{
    const struct streams_member *m;
    struct streams_endpoint *o;
    size_t room = LIMIT_STREAMS_ENDPOINTS;

    for (m = streams_first(g); out && m; m = streams_next(g, m)) {
        if (slice_is_null(m->host))
            continue;
        o = &out[(*n)++];
        o->host = m->host.len ? arena_dup(a, m->host) : slice_of("", 0);
        o->port = m->port;
        o->active = reads_of(a, g->streams, &m->assigned.of[STREAMS_ACTIVE], &room, &o->active_n);
        o->standby =
            reads_of(a, g->streams, &m->assigned.of[STREAMS_STANDBY], &room, &o->standby_n);
        if (!o->host.ptr || !o->active || !o->standby)
            return false;
    }
    return out != NULL;
}

void streams__endpoints(struct arena *a, const struct live_group *g, struct group_streams_result *r)
{
    struct streams_endpoint *out;
    size_t max = a->max;
    unsigned n = 0;

    a->max = a->total + LIMIT_STREAMS_ENDPOINTS;
    out = arena_zalloc(a, g->members.n + 1, sizeof *out);
    if (endpoints_fill(a, g, out, &n)) {
        r->has_endpoints = true;
        r->endpoints = out;
        r->endpoints_n = n;
    }
    a->max = max;
}

static struct streams_pair *pairs_copy(struct arena *a, const struct streams_pair *in, unsigned n)
{
    struct streams_pair *out = arena_zalloc(a, n + 1, sizeof *out);
    unsigned i;

    for (i = 0; out && i < n; i++)
        out[i] =
            (struct streams_pair){in[i].key.len ? arena_dup(a, in[i].key) : slice_of("", 0),
                                  in[i].value.len ? arena_dup(a, in[i].value) : slice_of("", 0)};
    return out;
}

static void topic_copy(struct arena *a, const struct streams_topic *in, struct streams_topic *out)
{
    *out = *in;
    out->name = in->name.len ? arena_dup(a, in->name) : slice_of("", 0);
    out->configs = pairs_copy(a, in->configs, in->configs_n);
    out->configs_n = out->configs ? in->configs_n : 0;
}

void streams__missing(struct arena *a, const struct streams_group *sg,
                      struct group_streams_result *r)
{
    uint32_t i, n = sg->missing_n < LIMIT_STREAMS_MAKES ? sg->missing_n : LIMIT_STREAMS_MAKES;
    struct streams_topic *out;

    if (n == 0 || !(out = arena_zalloc(a, n, sizeof *out)))
        return;
    for (i = 0; i < n; i++) {
        topic_copy(a, sg->missing[i]->made, &out[i]);
        out[i].partitions = sg->missing[i]->decided;
    }
    r->missing = out;
    r->missing_n = n;
}

/* ---- descriptions ---- */

enum group_state streams_state(const struct live_group *g)
{
    const struct streams_group *sg = g->streams;
    const struct streams_member *m;

    if (g->members.n == 0)
        return GROUP_EMPTY;
    if (!sg->ready)
        return GROUP_NOT_READY;
    if (g->generation > sg->assignment_epoch)
        return GROUP_ASSIGNING;
    for (m = streams_first(g); m; m = streams_next(g, m))
        if (m->state != STREAMS_MEMBER_STABLE || m->epoch != sg->assignment_epoch)
            return GROUP_RECONCILING;
    return GROUP_STABLE;
}

static struct slice text(struct arena *a, struct slice s)
{
    return s.len ? arena_dup(a, s) : slice_is_null(s) ? SLICE_NULL : slice_of("", 0);
}

static struct slice *texts(struct arena *a, const struct slice *in, unsigned n)
{
    struct slice *out = arena_zalloc(a, n + 1, sizeof *out);
    unsigned i;

    for (i = 0; out && i < n; i++)
        out[i] = text(a, in[i]);
    return out;
}

/* With the numbers of partitions, of those that the group decides (changelogs: 0, as they come). */
static struct streams_topic *topics_copy(struct arena *a, const struct streams_group *sg,
                                         const struct streams_topic *in, unsigned n,
                                         const uint32_t *places)
{
    struct streams_topic *out = arena_zalloc(a, n + 1, sizeof *out);
    unsigned i;

    for (i = 0; out && i < n; i++) {
        topic_copy(a, &in[i], &out[i]);
        if (sg->configured && places)
            out[i].partitions = sg->names[places[i]].decided;
    }
    return out;
}

static const struct streams_description *topology_copy(struct arena *a,
                                                       const struct streams_group *sg)
{
    struct streams_description *d = arena_zalloc(a, 1, sizeof *d);
    struct streams_subtopology *subs = arena_zalloc(a, sg->topology.n + 1, sizeof *subs);
    unsigned i;

    if (!d || !subs)
        return NULL;
    d->configured = sg->configured;
    d->topology = (struct streams_topology){sg->topology.epoch, subs, sg->topology.n};
    for (i = 0; i < sg->topology.n; i++) {
        const struct streams_subtopology *s = &sg->topology.subs[i];

        subs[i] = (struct streams_subtopology){
            .id = text(a, s->id),
            .sources = texts(a, s->sources, s->sources_n),
            .sources_n = s->sources_n,
            .sinks = texts(a, s->sinks, s->sinks_n),
            .sinks_n = s->sinks_n,
            .changelogs =
                topics_copy(a, sg, s->changelogs, s->changelogs_n, sg->subs[i].changelogs),
            .changelogs_n = s->changelogs_n,
            .repartitions = topics_copy(a, sg, s->repartitions, s->repartitions_n,
                                        sg->subs[i].reads + s->sources_n),
            .repartitions_n = s->repartitions_n};
        if (!subs[i].sources || !subs[i].sinks || !subs[i].changelogs || !subs[i].repartitions)
            return NULL;
    }
    return d;
}

static void describe_streams(const struct streams_member *m, struct streams_member_description *d,
                             struct arena *a)
{
    const struct streams_group *sg = m->group->streams;

    d->topology_epoch = m->topology_epoch;
    d->process_id = text(a, m->process->id);
    d->endpoint_host = text(a, m->host);
    d->endpoint_port = m->port;
    d->tags = pairs_copy(a, m->tags, m->tags_n);
    d->tags_n = d->tags ? m->tags_n : 0;
    streams__tasks(a, sg, &m->assigned, d->assigned, d->assigned_n);
    streams__tasks(a, sg, &m->target, d->target, d->target_n);
}

/* What its active tasks read, as members of other groups have partitions. NULL: no room. */
static struct group_topic_partitions *parts_of(struct arena *a, const struct streams_group *sg,
                                               const struct part_set *set, size_t *room,
                                               unsigned *n)
{
    const struct streams_topic_partitions *tp = reads_of(a, sg, set, room, n);
    struct group_topic_partitions *out = tp ? arena_zalloc(a, *n + 1, sizeof *out) : NULL;
    unsigned i;

    if (!out)
        *n = 0;
    for (i = 0; i < *n; i++)
        out[i] = (struct group_topic_partitions){
            .topic = tp[i].topic, .partitions = tp[i].partitions, .n = tp[i].n};
    return out;
}

static void describe_member(const struct streams_member *m, struct group_description_member *d,
                            size_t *room, struct arena *a)
{
    const struct streams_group *sg = m->group->streams;
    struct streams_member_description *s = arena_zalloc(a, 1, sizeof *s);

    d->member_id = text(a, m->id);
    d->instance_id = text(a, m->instance_id);
    d->client_id = text(a, m->client_id);
    d->client_host = text(a, m->client_host);
    d->rack_id = m->rack ? text(a, blob_slice(m->rack)) : SLICE_NULL;
    d->epoch = m->epoch;
    d->assigned = parts_of(a, sg, &m->assigned.of[STREAMS_ACTIVE], room, &d->assigned_n);
    d->target = parts_of(a, sg, &m->target.of[STREAMS_ACTIVE], room, &d->target_n);
    if (s)
        describe_streams(m, s, a);
    d->streams = s;
}

void streams_describe(const struct live_group *g, struct group_description *d, struct arena *a)
{
    const struct streams_member *m;
    size_t room = LIMIT_STREAMS_ENDPOINTS;

    d->kind = g->kind;
    d->state = streams_state(g);
    d->generation = g->generation;
    d->assignment_epoch = g->streams->assignment_epoch;
    d->protocol_type = slice_str(group_kind_text(g->kind));
    d->protocol = SLICE_LIT("sticky");
    d->streams = topology_copy(a, g->streams);
    d->members = arena_zalloc(a, g->members.n + 1, sizeof *d->members);
    for (m = streams_first(g); m && d->members; m = streams_next(g, m))
        describe_member(m, &d->members[d->members_n++], &room, a);
}

/* ---- published texts ---- */

static enum err image_parts(const struct streams_member *m, struct arena *a, struct buf *b)
{
    size_t room = LIMIT_STREAMS_BYTES;
    unsigned n, i, k;
    const struct group_topic_partitions *tp =
        parts_of(a, m->group->streams, &m->assigned.of[STREAMS_ACTIVE], &room, &n);
    enum err e = tp ? buf_append_u8(b, '{') : ERR_TOO_LARGE;

    for (i = 0; i < n && !e; i++) {
        if (i)
            e = buf_append_str(b, ",");
        if (!e)
            e = json_write_string(b, tp[i].topic);
        if (!e)
            e = buf_append_str(b, ":[");
        for (k = 0; k < tp[i].n && !e; k++) {
            if (k)
                e = buf_append_str(b, ",");
            if (!e)
                e = json_write_i64(b, tp[i].partitions[k]);
        }
        if (!e)
            e = buf_append_str(b, "]");
    }
    return e ? e : buf_append_str(b, "}");
}

enum err streams_images(const struct live_group *g, struct buf *members, struct buf *assignment)
{
    const struct streams_member *m;
    struct arena a;
    bool first = true;
    enum err e = ERR_OK;

    arena_init(&a, 4096, LIMIT_STREAMS_BYTES);
    for (m = streams_first(g); m && !e; m = streams_next(g, m)) {
        e = json_member(members, first, m->id, m->instance_id, m->client_id, m->client_host);
        if (!e)
            e = json_member_key(assignment, first, m->id);
        if (!e)
            e = image_parts(m, &a, assignment);
        arena_reset(&a);
        first = false;
    }
    arena_fini(&a);
    return e;
}
