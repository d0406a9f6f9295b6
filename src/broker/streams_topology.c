/* The topology of a streams group: what its members said of their application, kept in one piece of
 * memory; which of its topics are there; how many partitions those are to have that the group makes;
 * and how many tasks that is.
 *
 *   - a repartition topic that says no number of partitions gets that of the subtopologies which write
 *     to it, which have as many as the largest topic that they read
 *   - topics that are joined (a copartition group) must have equally many: the others, and repartition
 *     topics that say a number, decide; those that say none are given it
 *   - a changelog has a partition for each task of its subtopology, and is made if it is not what that
 *     reads anyway
 *   - a subtopology has as many tasks as the largest topic that it reads has partitions
 *
 * Facts: Apache Kafka 4.2 (InternalTopicManager, RepartitionTopics, CopartitionedTopicsEnforcer,
 * ChangelogTopics). Under the lock of the group's shard. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/ordered.h"
#include "broker/streams_int.h"

#define CLIP(s) (int)((s).len < 120 ? (s).len : 120), (const char *)(s).ptr

/* ---- checking what a member says ---- */

static enum err sub_check(const struct streams_subtopology *s, size_t *topics, size_t *bytes,
                          struct errinfo *info)
{
    const struct streams_topic *of[2] = {s->changelogs, s->repartitions};
    const unsigned of_n[2] = {s->changelogs_n, s->repartitions_n};
    unsigned i, k, l;

    *topics += s->sources_n + s->sinks_n + s->changelogs_n + s->repartitions_n;
    *bytes += sizeof *s + s->id.len;
    for (i = 0; i < s->sources_n; i++)
        *bytes += sizeof(struct slice) + s->sources[i].len;
    for (i = 0; i < s->sinks_n; i++)
        *bytes += sizeof(struct slice) + s->sinks[i].len;
    for (l = 0; l < 2; l++)
        for (i = 0; i < of_n[l]; i++) {
            *bytes += sizeof **of + of[l][i].name.len;
            for (k = 0; k < of[l][i].configs_n; k++)
                *bytes += sizeof(struct streams_pair) + of[l][i].configs[k].key.len +
                          of[l][i].configs[k].value.len;
        }
    for (i = 0; i < s->copartitions_n; i++) {
        const struct streams_copartition *c = &s->copartitions[i];

        *bytes += sizeof *c + 2 * (c->sources_n + c->repartitions_n);
        for (k = 0; k < c->sources_n; k++)
            if (c->sources[k] < 0 || (unsigned)c->sources[k] >= s->sources_n)
                return errinfo_set(info, ERR_STREAMS_TOPOLOGY, "there is no such source topic");
        for (k = 0; k < c->repartitions_n; k++)
            if (c->repartitions[k] < 0 || (unsigned)c->repartitions[k] >= s->repartitions_n)
                return errinfo_set(info, ERR_STREAMS_TOPOLOGY,
                                   "there is no such repartition topic");
    }
    for (i = 0; i < s->changelogs_n; i++)
        if (s->changelogs[i].partitions)
            return errinfo_set(
                info, ERR_STREAMS_TOPOLOGY,
                "Changelog topic %.*s must have an undefined partition count, but it "
                "is set to %d.",
                CLIP(s->changelogs[i].name), (int)s->changelogs[i].partitions);
    for (i = 0; i < s->repartitions_n; i++)
        if (s->repartitions[i].partitions < 0 || s->repartitions[i].partitions > LIMIT_PARTITIONS)
            return errinfo_set(info, ERR_STREAMS_TOPOLOGY,
                               "repartition topic %.*s cannot have %d partitions",
                               CLIP(s->repartitions[i].name), (int)s->repartitions[i].partitions);
    return ERR_OK;
}

static int slice_order(const void *x, const void *y)
{
    return ordered_compare(*(const struct slice *)x, *(const struct slice *)y);
}

/* One of them that is there twice; null: none is. Sorts them. */
static struct slice twice(struct slice *names, unsigned n)
{
    unsigned i;

    if (n)
        qsort(names, n, sizeof *names, slice_order);
    for (i = 1; i < n; i++)
        if (slice_eq(names[i - 1], names[i]))
            return names[i];
    return SLICE_NULL;
}

/* What a subtopology reads it reads once: else it would be told to every member that often. */
static enum err reads_check(const struct streams_subtopology *s, struct errinfo *info)
{
    unsigned i, n = s->sources_n + s->repartitions_n;
    struct slice *names, more;

    if (n == 0)
        return errinfo_set(info, ERR_STREAMS_TOPOLOGY,
                           "No source topics found for subtopology %.*s", CLIP(s->id));
    names = xcalloc(n, sizeof *names);
    for (i = 0; i < n; i++)
        names[i] = i < s->sources_n ? s->sources[i] : s->repartitions[i - s->sources_n].name;
    more = twice(names, n);
    free(names);
    return slice_is_null(more)
               ? ERR_OK
               : errinfo_set(info, ERR_STREAMS_TOPOLOGY, "subtopology %.*s reads topic %.*s twice",
                             CLIP(s->id), CLIP(more));
}

static enum err ids_check(const struct streams_topology *tp, struct errinfo *info)
{
    struct slice *ids = xcalloc(tp->n + 1, sizeof *ids), more;
    unsigned i;

    for (i = 0; i < tp->n; i++)
        ids[i] = tp->subs[i].id.len ? tp->subs[i].id : slice_of("", 0);
    more = twice(ids, tp->n);
    free(ids);
    return slice_is_null(more) ? ERR_OK
                               : errinfo_set(info, ERR_STREAMS_TOPOLOGY,
                                             "there are two subtopologies %.*s", CLIP(more));
}

enum err streams_topology_check(const struct streams_topology *tp, struct errinfo *info)
{
    size_t topics = 0, bytes = 0;
    enum err e = ERR_OK;
    unsigned i;

    if (tp->n > LIMIT_STREAMS_SUBTOPOLOGIES)
        return errinfo_set(info, ERR_TOO_LARGE, "a topology has at most %u subtopologies",
                           LIMIT_STREAMS_SUBTOPOLOGIES);
    for (i = 0; i < tp->n; i++) {
        if ((e = sub_check(&tp->subs[i], &topics, &bytes, info)))
            return e;
        if (topics > LIMIT_STREAMS_TOPICS || bytes > LIMIT_STREAMS_BYTES)
            return errinfo_set(info, ERR_TOO_LARGE,
                               "a topology names at most %u topics, in %u bytes",
                               LIMIT_STREAMS_TOPICS, LIMIT_STREAMS_BYTES);
    }
    for (i = 0; i < tp->n && !e; i++)
        e = reads_check(&tp->subs[i], info);
    return e ? e : ids_check(tp, info);
}

/* ---- the copy ---- */

static struct slice *slices_copy(struct arena *a, const struct slice *in, unsigned n)
{
    struct slice *out = arena_zalloc(a, n + 1, sizeof *out);
    unsigned i;

    for (i = 0; i < n; i++)
        out[i] = in[i].len ? arena_dup(a, in[i]) : slice_of("", 0);
    return out;
}

static struct streams_topic *topics_copy(struct arena *a, const struct streams_topic *in,
                                         unsigned n)
{
    struct streams_topic *out = arena_zalloc(a, n + 1, sizeof *out);
    struct streams_pair *pairs;
    unsigned i, k;

    for (i = 0; i < n; i++) {
        out[i] = in[i];
        out[i].name = arena_dup(a, in[i].name);
        pairs = arena_zalloc(a, in[i].configs_n + 1, sizeof *pairs);
        for (k = 0; k < in[i].configs_n; k++)
            pairs[k] = (struct streams_pair){arena_dup(a, in[i].configs[k].key),
                                             arena_dup(a, in[i].configs[k].value)};
        out[i].configs = pairs;
    }
    return out;
}

static int16_t *places_copy(struct arena *a, const int16_t *in, unsigned n)
{
    int16_t *out = arena_zalloc(a, n + 1, sizeof *out);

    if (n)
        memcpy(out, in, n * sizeof *out);
    return out;
}

static void sub_copy(struct arena *a, const struct streams_subtopology *in,
                     struct streams_subtopology *out)
{
    struct streams_copartition *c = arena_zalloc(a, in->copartitions_n + 1, sizeof *c);
    unsigned i;

    *out = *in;
    out->id = in->id.len ? arena_dup(a, in->id) : slice_of("", 0);
    out->sources = slices_copy(a, in->sources, in->sources_n);
    out->sinks = slices_copy(a, in->sinks, in->sinks_n);
    out->changelogs = topics_copy(a, in->changelogs, in->changelogs_n);
    out->repartitions = topics_copy(a, in->repartitions, in->repartitions_n);
    for (i = 0; i < in->copartitions_n; i++) {
        c[i] = in->copartitions[i];
        c[i].sources = places_copy(a, c[i].sources, c[i].sources_n);
        c[i].repartitions = places_copy(a, c[i].repartitions, c[i].repartitions_n);
    }
    out->copartitions = c;
}

static int sub_order(const void *x, const void *y)
{
    return ordered_compare(((const struct streams_subtopology *)x)->id,
                           ((const struct streams_subtopology *)y)->id);
}

static int name_order(const void *x, const void *y)
{
    return ordered_compare(((const struct streams_name *)x)->name,
                           ((const struct streams_name *)y)->name);
}

static struct streams_name *name_find(const struct streams_group *sg, struct slice name)
{
    struct streams_name key = {.name = name};

    return sg->names_n ? bsearch(&key, sg->names, sg->names_n, sizeof key, name_order) : NULL;
}

static void name_add(struct streams_group *sg, struct slice name, const struct streams_topic *made)
{
    sg->names[sg->names_n++] = (struct streams_name){.name = name, .made = made};
}

/* Every name once; a repartition topic is so wherever it is named. */
static void names_make(struct streams_group *sg)
{
    uint32_t i, k, n = 0, total = 0;

    for (i = 0; i < sg->topology.n; i++) {
        const struct streams_subtopology *s = &sg->topology.subs[i];

        total += s->sources_n + s->sinks_n + s->changelogs_n + s->repartitions_n;
    }
    sg->names = arena_zalloc(&sg->memory, total + 1, sizeof *sg->names);
    for (i = 0; i < sg->topology.n; i++) {
        const struct streams_subtopology *s = &sg->topology.subs[i];

        for (k = 0; k < s->sources_n; k++)
            name_add(sg, s->sources[k], NULL);
        for (k = 0; k < s->sinks_n; k++)
            name_add(sg, s->sinks[k], NULL);
        for (k = 0; k < s->changelogs_n; k++)
            name_add(sg, s->changelogs[k].name, NULL);
        for (k = 0; k < s->repartitions_n; k++)
            name_add(sg, s->repartitions[k].name, &s->repartitions[k]);
    }
    if (total)
        qsort(sg->names, total, sizeof *sg->names, name_order);
    for (i = 0; i < total; i++) {
        if (n == 0 || !slice_eq(sg->names[n - 1].name, sg->names[i].name))
            sg->names[n++] = sg->names[i];
        else if (sg->names[i].made)
            sg->names[n - 1].made = sg->names[i].made;
    }
    sg->names_n = n;
}

static uint32_t place_of(const struct streams_group *sg, struct slice name)
{
    return (uint32_t)(name_find(sg, name) - sg->names);
}

/* Changelogs are made, but for those that are what their subtopology reads anyway: a table's source,
 * which an optimized topology restores the table from, is the user's. */
static void changelogs_make(struct streams_group *sg)
{
    uint32_t *seen = xcalloc(sg->names_n + 1, sizeof *seen), i, k; /* a source of subs[seen - 1] */

    for (i = 0; i < sg->topology.n; i++) {
        const struct streams_sub *s = &sg->subs[i];

        for (k = 0; k < s->def->sources_n; k++)
            seen[s->reads[k]] = i + 1;
        for (k = 0; k < s->def->changelogs_n; k++) {
            struct streams_name *name = &sg->names[s->changelogs[k]];

            if (seen[s->changelogs[k]] != i + 1 && !name->made)
                name->made = &s->def->changelogs[k];
        }
    }
    free(seen);
}

/* Who reads each topic. */
static void readers_make(struct streams_group *sg)
{
    uint32_t i, k, *at;

    for (i = 0; i < sg->topology.n; i++)
        for (k = 0; k < sg->subs[i].reads_n; k++)
            sg->names[sg->subs[i].reads[k]].readers_n++;
    for (i = 0; i < sg->names_n; i++) {
        sg->names[i].readers = arena_alloc(&sg->memory, (sg->names[i].readers_n + 1) * sizeof *at);
        sg->names[i].readers_n = 0;
    }
    for (i = 0; i < sg->topology.n; i++)
        for (k = 0; k < sg->subs[i].reads_n; k++) {
            struct streams_name *name = &sg->names[sg->subs[i].reads[k]];

            name->readers[name->readers_n++] = i;
        }
}

static void subs_make(struct streams_group *sg)
{
    uint32_t i, k;

    sg->subs = arena_zalloc(&sg->memory, sg->topology.n + 1, sizeof *sg->subs);
    for (i = 0; i < sg->topology.n; i++) {
        const struct streams_subtopology *s = &sg->topology.subs[i];
        uint32_t *reads = arena_zalloc(&sg->memory, s->sources_n + s->repartitions_n + 1, 4);
        uint32_t *changelogs = arena_zalloc(&sg->memory, s->changelogs_n + 1, 4);
        uint32_t *sinks = arena_zalloc(&sg->memory, s->sinks_n + 1, 4);

        for (k = 0; k < s->sources_n; k++)
            reads[k] = place_of(sg, s->sources[k]);
        for (k = 0; k < s->repartitions_n; k++)
            reads[s->sources_n + k] = place_of(sg, s->repartitions[k].name);
        for (k = 0; k < s->changelogs_n; k++)
            changelogs[k] = place_of(sg, s->changelogs[k].name);
        for (k = 0; k < s->sinks_n; k++)
            sinks[k] = place_of(sg, s->sinks[k]);
        sg->subs[i] = (struct streams_sub){.def = s,
                                           .reads = reads,
                                           .changelogs = changelogs,
                                           .sinks = sinks,
                                           .reads_n = s->sources_n + s->repartitions_n};
    }
    changelogs_make(sg);
    readers_make(sg);
    sg->missing = arena_zalloc(&sg->memory, sg->names_n + 1, sizeof(struct streams_name *));
}

enum err streams_topology_take(struct live_group *g, const struct streams_topology *tp)
{
    struct streams_group *sg = g->streams;
    struct streams_subtopology *subs;
    unsigned i;

    ASSERT(!sg->has_topology);
    arena_init(&sg->memory, 4096, SIZE_MAX / 2);
    subs = arena_zalloc(&sg->memory, tp->n + 1, sizeof *subs);
    for (i = 0; i < tp->n; i++)
        sub_copy(&sg->memory, &tp->subs[i], &subs[i]);
    if (tp->n)
        qsort(subs, tp->n, sizeof *subs, sub_order);
    sg->topology = (struct streams_topology){tp->epoch, subs, tp->n};
    names_make(sg);
    subs_make(sg);
    sg->bytes = sg->memory.total;
    if (!coordinator_take(g->broker->coordinator, sg->bytes)) {
        sg->bytes = 0;
        arena_fini(&sg->memory);
        return ERR_COORDINATOR;
    }
    sg->has_topology = true;
    sg->topics_seen = UINT64_MAX;
    return ERR_OK;
}

void streams_topology_fini(struct live_group *g)
{
    struct streams_group *sg = g->streams;

    coordinator_give(g->broker->coordinator, sg->bytes + sg->task_bytes);
    if (sg->has_topology)
        arena_fini(&sg->memory);
}

/* ---- is it the same? ---- */

static bool slices_same(const struct slice *a, unsigned a_n, const struct slice *b, unsigned b_n)
{
    unsigned i;

    for (i = 0; a_n == b_n && i < a_n; i++)
        if (!slice_eq(a[i], b[i]))
            return false;
    return a_n == b_n;
}

static bool topics_same(const struct streams_topic *a, unsigned a_n, const struct streams_topic *b,
                        unsigned b_n)
{
    unsigned i, k;

    for (i = 0; a_n == b_n && i < a_n; i++) {
        if (!slice_eq(a[i].name, b[i].name) || a[i].partitions != b[i].partitions ||
            a[i].replication != b[i].replication || a[i].configs_n != b[i].configs_n)
            return false;
        for (k = 0; k < a[i].configs_n; k++)
            if (!slice_eq(a[i].configs[k].key, b[i].configs[k].key) ||
                !slice_eq(a[i].configs[k].value, b[i].configs[k].value))
                return false;
    }
    return a_n == b_n;
}

static bool places_same(const int16_t *a, unsigned a_n, const int16_t *b, unsigned b_n)
{
    return a_n == b_n && (a_n == 0 || memcmp(a, b, a_n * sizeof *a) == 0);
}

static bool sub_same(const struct streams_subtopology *a, const struct streams_subtopology *b)
{
    unsigned i;

    if (!slices_same(a->sources, a->sources_n, b->sources, b->sources_n) ||
        !slices_same(a->sinks, a->sinks_n, b->sinks, b->sinks_n) ||
        !topics_same(a->changelogs, a->changelogs_n, b->changelogs, b->changelogs_n) ||
        !topics_same(a->repartitions, a->repartitions_n, b->repartitions, b->repartitions_n) ||
        a->copartitions_n != b->copartitions_n)
        return false;
    for (i = 0; i < a->copartitions_n; i++) {
        const struct streams_copartition *c = &a->copartitions[i], *d = &b->copartitions[i];

        if (!places_same(c->sources, c->sources_n, d->sources, d->sources_n) ||
            !places_same(c->repartitions, c->repartitions_n, d->repartitions, d->repartitions_n))
            return false;
    }
    return true;
}

bool streams_topology_same(const struct streams_group *sg, const struct streams_topology *tp)
{
    unsigned i;

    if (sg->topology.epoch != tp->epoch || sg->topology.n != tp->n)
        return false;
    for (i = 0; i < tp->n; i++) {
        int32_t at = streams_sub_find(sg, tp->subs[i].id);

        if (at < 0 || !sub_same(sg->subs[at].def, &tp->subs[i]))
            return false;
    }
    return true;
}

int32_t streams_sub_find(const struct streams_group *sg, struct slice id)
{
    struct streams_subtopology key = {.id = id};
    const struct streams_subtopology *s =
        sg->topology.n ? bsearch(&key, sg->topology.subs, sg->topology.n, sizeof key, sub_order)
                       : NULL;

    return s ? (int32_t)(s - sg->topology.subs) : -1;
}

/* ---- how many partitions ---- */

/* What is wrong; the first of it is told. */
static bool wrong(struct streams_group *sg, enum streams_status_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static bool wrong(struct streams_group *sg, enum streams_status_code code, const char *fmt, ...)
{
    va_list ap;

    sg->has_status = true;
    sg->status = code;
    va_start(ap, fmt);
    vsnprintf(sg->detail, sizeof sg->detail, fmt, ap);
    va_end(ap);
    return false;
}

static int32_t partitions_of(const struct streams_name *n)
{
    return n->there ? n->there : n->decided;
}

/* The largest that the subtopology reads; 0: not known yet. */
static int32_t reads_most(const struct streams_group *sg, const struct streams_sub *s, bool decided)
{
    int32_t most = 0, n;
    uint32_t i;

    for (i = 0; i < s->reads_n; i++) {
        const struct streams_name *name = &sg->names[s->reads[i]];

        n = decided && i >= s->def->sources_n ? name->decided : partitions_of(name);
        if (n > most)
            most = n;
    }
    return most;
}

static bool sources_there(struct streams_group *sg)
{
    char list[256] = "";
    size_t at = 0;
    uint32_t i, k, n = 0;

    for (i = 0; i < sg->names_n; i++)
        sg->names[i].decided = 0;
    for (i = 0; i < sg->topology.n; i++)
        for (k = 0; k < sg->subs[i].def->sources_n; k++) {
            const struct streams_name *name = &sg->names[sg->subs[i].reads[k]];

            if (name->there || n++ >= 5)
                continue;
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%.*s", at ? ", " : "",
                                   (int)(name->name.len < 40 ? name->name.len : 40),
                                   (const char *)name->name.ptr);
        }
    if (n > 5)
        snprintf(list + at, sizeof list - at, ", …");
    return n == 0 || wrong(sg, STREAMS_MISSING_SOURCES, "Source topics %s are missing.", list);
}

static enum err repartitions_decide(struct streams_group *sg, struct errinfo *info)
{
    bool more = true, open = true;
    uint32_t i, k;

    for (i = 0; i < sg->topology.n; i++)
        for (k = 0; k < sg->subs[i].def->repartitions_n; k++)
            sg->names[sg->subs[i].reads[sg->subs[i].def->sources_n + k]].decided =
                sg->subs[i].def->repartitions[k].partitions;
    while (more && open) {
        more = open = false;
        for (i = 0; i < sg->topology.n; i++) {
            int32_t most = -1; /* looked for once, not for every sink */

            for (k = 0; k < sg->subs[i].def->sinks_n; k++) {
                struct streams_name *name = &sg->names[sg->subs[i].sinks[k]];

                if (name->decided)
                    continue;
                most = most < 0 ? reads_most(sg, &sg->subs[i], true) : most;
                name->decided = most;
                *(most ? &more : &open) = true;
            }
        }
    }
    if (open)
        return errinfo_set(
            info, ERR_STREAMS_TOPOLOGY,
            "Failed to compute number of partitions for all repartition topics. There "
            "may be loops in the topology that cannot be resolved.");
    for (i = 0; i < sg->topology.n; i++)
        for (k = 0; k < sg->subs[i].def->repartitions_n; k++)
            if (!sg->names[sg->subs[i].reads[sg->subs[i].def->sources_n + k]].decided)
                return errinfo_set(info, ERR_STREAMS_TOPOLOGY,
                                   "Failed to compute number of partitions for all repartition "
                                   "topics, because a repartition source topic is never used as a "
                                   "sink topic.");
    return ERR_OK;
}

/* The topics of one copartition group: the place of each in the group's names. */
static uint32_t joined(const struct streams_sub *s, const struct streams_copartition *c, uint32_t i)
{
    return i < c->sources_n
               ? s->reads[c->sources[i]]
               : s->reads[s->def->sources_n + (uint32_t)c->repartitions[i - c->sources_n]];
}

static bool copartition(struct streams_group *sg, const struct streams_sub *s,
                        const struct streams_copartition *c)
{
    uint32_t i, n = c->sources_n + c->repartitions_n;
    int32_t want = 0, most = 0;
    struct slice by = SLICE_NULL;

    for (i = 0; i < n; i++) {
        struct streams_name *name = &sg->names[joined(s, c, i)];
        bool given =
            i < c->sources_n || s->def->repartitions[c->repartitions[i - c->sources_n]].partitions;
        int32_t has = i < c->sources_n ? partitions_of(name) : name->decided;

        if (!given) {
            most = has > most ? has : most;
            continue;
        }
        if (want && has != want)
            return wrong(sg, STREAMS_WRONG_PARTITIONS,
                         "Following topics do not have the same number of partitions: %.*s has %d, "
                         "%.*s has %d",
                         CLIP(by), (int)want, CLIP(name->name), (int)has);
        want = has;
        by = name->name;
    }
    for (i = c->sources_n; i < n; i++)
        if (!s->def->repartitions[c->repartitions[i - c->sources_n]].partitions)
            sg->names[joined(s, c, i)].decided = want ? want : most;
    return true;
}

static bool copartitions_decide(struct streams_group *sg)
{
    uint32_t i, k;

    for (i = 0; i < sg->topology.n; i++)
        for (k = 0; k < sg->subs[i].def->copartitions_n; k++)
            if (!copartition(sg, &sg->subs[i], &sg->subs[i].def->copartitions[k]))
                return false;
    return true;
}

/* Changelogs, and the numbers of tasks. Returns how many that are, of all subtopologies. */
static uint64_t tasks_decide(struct streams_group *sg)
{
    uint64_t total = 0;
    uint32_t i, k;

    for (i = 0; i < sg->topology.n; i++) {
        struct streams_sub *s = &sg->subs[i];

        s->tasks = reads_most(sg, s, false);
        for (k = 0; k < s->def->changelogs_n; k++)
            sg->names[s->changelogs[k]].decided = s->tasks;
        total += (uint64_t)s->tasks;
    }
    return total;
}

static bool internals_there(struct streams_group *sg)
{
    char list[256] = "";
    size_t at = 0;
    uint32_t i;

    for (i = 0; i < sg->names_n; i++) {
        const struct streams_name *n = &sg->names[i];

        if (!n->made)
            continue;
        if (n->there && n->there != n->decided) {
            sg->configured = false;
            sg->missing_n = 0;
            return wrong(
                sg, STREAMS_WRONG_PARTITIONS,
                "Existing topic %.*s has different number of partitions: expected %d, found "
                "%d",
                CLIP(n->name), (int)n->decided, (int)n->there);
        }
        if (n->there)
            continue;
        if (sg->missing_n++ < 3)
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%.*s", at ? ", " : "",
                                   (int)(n->name.len < 70 ? n->name.len : 70),
                                   (const char *)n->name.ptr);
        sg->missing[sg->missing_n - 1] = n;
    }
    if (sg->missing_n > 3)
        snprintf(list + at, sizeof list - at, ", …");
    return sg->missing_n == 0 ||
           wrong(sg, STREAMS_MISSING_INTERNAL, "Internal topics are missing: %s", list);
}

/* Room for who has which task; given back with the topology. */
static enum err tasks_room(struct live_group *g, uint64_t tasks, int32_t standbys)
{
    struct streams_group *sg = g->streams;
    size_t bytes = (size_t)tasks * (size_t)(1 + standbys) *
                   (4 * sizeof(struct topic_part) + sizeof(struct streams_owner) + 32);

    if (bytes > sg->task_bytes) {
        if (!coordinator_take(g->broker->coordinator, bytes - sg->task_bytes))
            return ERR_COORDINATOR;
        sg->task_bytes = bytes;
    }
    return ERR_OK;
}

static enum err configure(struct live_group *g, int32_t standbys, struct errinfo *info)
{
    struct streams_group *sg = g->streams;
    uint64_t tasks;
    enum err e;

    sg->configured = sg->ready = sg->has_status = false;
    sg->missing_n = 0;
    if (!sources_there(sg))
        return ERR_OK;
    if ((e = repartitions_decide(sg, info)))
        return e;
    if (!copartitions_decide(sg))
        return ERR_OK;
    tasks = tasks_decide(sg);
    if (tasks > LIMIT_STREAMS_TASKS)
        return errinfo_set(info, ERR_STREAMS_TOPOLOGY, "a group has at most %u tasks, not %llu",
                           LIMIT_STREAMS_TASKS, (unsigned long long)tasks);
    if ((e = tasks_room(g, tasks, standbys)))
        return e;
    sg->configured = true;
    sg->ready = internals_there(sg);
    return ERR_OK;
}

/* Looks at the topics; returns a hash of what is there. */
static uint64_t topics_look(struct broker *b, struct streams_group *sg)
{
    uint64_t hash = 1;
    uint32_t i;

    for (i = 0; i < sg->names_n; i++) {
        struct topic *t = topic_find(b, sg->names[i].name);
        bool there = t && !topic_deleted(t);

        sg->names[i].id = there ? topic_id(t) : 0;
        sg->names[i].there = there ? topic_partitions(t) : 0;
        hash = hash_u64((uint64_t)sg->names[i].id << 32 | (uint32_t)sg->names[i].there, hash);
        topic_unref(&t);
    }
    return hash;
}

enum err streams_topology_refresh(struct live_group *g, int32_t standbys, bool *changed,
                                  struct errinfo *info)
{
    struct streams_group *sg = g->streams;
    uint64_t seen = atomic_load(&g->broker->recent_topics.n), hash;
    enum err e;

    *changed = false;
    if (seen == sg->topics_seen && standbys == sg->standbys)
        return ERR_OK;
    hash = topics_look(g->broker, sg);
    if ((e = configure(g, standbys, info))) {
        sg->topics_seen = UINT64_MAX; /* again with the next heartbeat */
        return e;
    }
    *changed = hash != sg->topics_hash;
    sg->topics_seen = seen;
    sg->topics_hash = hash;
    return ERR_OK;
}

/* ---- what is read ---- */

bool streams_reads(const struct live_group *g, struct slice topic)
{
    const struct streams_group *sg = g->streams;
    struct topic_part p;
    uint32_t at = 0;

    return sg->has_topology && streams_task_of(sg, topic, 0, &at, &p);
}

bool streams_task_of(const struct streams_group *sg, struct slice topic, int32_t partition,
                     uint32_t *at, struct topic_part *out)
{
    const struct streams_name *name = name_find(sg, topic);

    if (!name || *at >= name->readers_n)
        return false;
    *out = (struct topic_part){name->readers[(*at)++], partition};
    return true;
}
