/* The topics of a consumer group: what its members subscribe to, which topics that is now, and the
 * target assignment of their partitions.
 *
 * A subscription is names and a regular expression; equal ones are one object. Topics come, go and
 * grow: the broker's recent_topics tells which, so a group looks only at those that changed since
 * its last heartbeat, and at all topics only when it fell too far behind or for a new regular
 * expression. A change of the topics, or of their numbers of partitions, shows in topics_hash.
 *
 * Under the lock of the group's shard; topics are looked up under topics_lock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "broker/consumer_int.h"

#define TOPICS_AT_ONCE 256u

/* ---- sorted ids ---- */

static int id_order(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

    return (a > b) - (a < b);
}

static bool ids_has(const uint32_t *ids, uint32_t n, uint32_t id)
{
    return n && bsearch(&id, ids, n, sizeof *ids, id_order) != NULL;
}

static void matched_add(struct subscription *s, uint32_t id)
{
    uint32_t i;

    if (ids_has(s->matched, s->matched_n, id))
        return;
    if (s->matched_n == s->matched_cap) {
        s->matched_cap = s->matched_cap ? s->matched_cap * 2 : 16;
        s->matched = xrealloc(s->matched, s->matched_cap * sizeof *s->matched);
    }
    for (i = s->matched_n++; i && s->matched[i - 1] > id; i--)
        s->matched[i] = s->matched[i - 1];
    s->matched[i] = id;
}

static void matched_remove(struct subscription *s, uint32_t id)
{
    uint32_t i;

    for (i = 0; i < s->matched_n && s->matched[i] != id; i++)
        ;
    if (i == s->matched_n)
        return;
    s->matched_n--;
    memmove(&s->matched[i], &s->matched[i + 1], (s->matched_n - i) * sizeof *s->matched);
}

/* ---- topics ---- */

struct group_topic *consumer_topic(const struct live_group *g, uint32_t id)
{
    return u64map_find(&g->consumer->topics, id);
}

struct group_topic *consumer_topic_uuid(const struct live_group *g, const uint8_t uuid[16])
{
    return map_find(&g->consumer->uuids, slice_of(uuid, 16));
}

/* What a partition takes: its owner here, and its place in the sets of a member. */
#define PARTITION_BYTES (sizeof(void *) + 4 * sizeof(struct topic_part))

static void topic_drop(struct live_group *g, struct group_topic *gt)
{
    ASSERT(gt->owned == 0);
    u64map_remove(&g->consumer->topics, gt->id);
    map_remove(&g->consumer->uuids, slice_of(gt->uuid, 16));
    coordinator_give(g->broker->coordinator, gt->bytes);
    free(gt->owner);
    free(gt);
}

static bool topic_grow(struct live_group *g, struct group_topic *gt, int32_t partitions)
{
    size_t more = (size_t)(partitions - gt->partitions) * PARTITION_BYTES;

    if (!coordinator_take(g->broker->coordinator, more))
        return false;
    gt->bytes += more;
    gt->owner = xrealloc(gt->owner, (size_t)partitions * sizeof(struct consumer_member *));
    memset(gt->owner + gt->partitions, 0,
           (size_t)(partitions - gt->partitions) * sizeof(struct consumer_member *));
    gt->partitions = partitions;
    return true;
}

/* The group knows the topic as it is now. False: no memory for it. */
static bool topic_know(struct live_group *g, struct topic *t)
{
    struct group_topic *gt = consumer_topic(g, topic_id(t));
    int32_t partitions = topic_partitions(t);
    size_t len;

    if (!gt) {
        len = strlen(topic_name(t));
        if (!coordinator_take(g->broker->coordinator, sizeof *gt + len + 64))
            return false;
        gt = xcalloc(1, sizeof *gt + len + 1);
        gt->id = topic_id(t);
        gt->bytes = sizeof *gt + len + 64;
        gt->name_len = len;
        memcpy(gt->uuid, topic_uuid(t), 16);
        memcpy(gt->name, topic_name(t), len);
        if (u64map_put(&g->consumer->topics, gt->id, gt) ||
            map_put(&g->consumer->uuids, slice_of(gt->uuid, 16), gt))
            ASSERT(false);
    }
    return partitions <= gt->partitions || topic_grow(g, gt, partitions);
}

/* ---- subscriptions ---- */

void consumer_topics_init(struct live_group *g)
{
    struct consumer_group *cg;

    if (g->consumer)
        return;
    cg = xcalloc(1, sizeof *cg);
    cg->assignment_epoch = g->generation;
    list_init(&cg->subscriptions);
    u64map_init(&cg->topics, UINT32_MAX >> 2, g->broker->hash_seed_word);
    map_init(&cg->uuids, UINT32_MAX >> 2, g->broker->hash_seed);
    cg->topics_seen = atomic_load(&g->broker->recent_topics.n);
    g->consumer = cg;
}

void consumer_topics_fini(struct live_group *g)
{
    struct consumer_group *cg = g->consumer;
    uint32_t at = 0;
    void *gt;

    if (!cg)
        return;
    ASSERT(list_empty(&cg->subscriptions));
    while (u64map_next(&cg->topics, &at, NULL, &gt)) {
        topic_drop(g, gt);
        at = 0;
    }
    u64map_fini(&cg->topics);
    map_fini(&cg->uuids);
    free(cg);
    g->consumer = NULL;
}

static int name_order(const void *x, const void *y)
{
    return ordered_compare(*(const struct slice *)x, *(const struct slice *)y);
}

static uint64_t names_hash(const struct slice *names, uint32_t n, struct slice regex)
{
    uint64_t h = hash64(regex.ptr, regex.len, n);
    uint32_t i;

    for (i = 0; i < n; i++)
        h = hash64(names[i].ptr, names[i].len, h);
    return h;
}

static struct subscription *subscription_find(struct consumer_group *cg, uint64_t hash,
                                              const struct slice *names, uint32_t n,
                                              struct slice regex)
{
    struct subscription *s;
    uint32_t i;

    list_for_each(s, &cg->subscriptions, struct subscription, link)
    {
        if (s->hash != hash || s->names_n != n || !slice_eq(s->regex, regex))
            continue;
        for (i = 0; i < n && slice_eq(s->names[i], names[i]); i++)
            ;
        if (i == n)
            return s;
    }
    return NULL;
}

static struct subscription *subscription_new(const struct slice *names, uint32_t n,
                                             struct slice regex)
{
    size_t bytes = sizeof(struct subscription) + n * sizeof *names + regex.len;
    struct subscription *s;
    uint8_t *at;
    uint32_t i;

    for (i = 0; i < n; i++)
        bytes += names[i].len;
    s = xcalloc(1, bytes);
    s->names = (struct slice *)(s + 1);
    s->names_n = n;
    s->bytes = bytes;
    at = (uint8_t *)&s->names[n];
    for (i = 0; i < n; i++) {
        s->names[i] = slice_of(at, names[i].len);
        memcpy(at, names[i].ptr, names[i].len);
        at += names[i].len;
    }
    s->regex = slice_of(at, regex.len);
    if (regex.len)
        memcpy(at, regex.ptr, regex.len);
    s->stale = true;
    s->rescan = regex.len > 0;
    return s;
}

static void subscription_free(struct coordinator *c, struct subscription *s)
{
    coordinator_give(c, s->bytes);
    topic_regex_free(&s->compiled);
    free(s->matched);
    free(s->ids);
    free(s);
}

static enum err subscription_make(struct turn *t, const struct slice *names, uint32_t n,
                                  struct slice regex, struct subscription **out,
                                  struct errinfo *info)
{
    struct subscription *s = subscription_new(names, n, regex);
    enum err e = regex.len ? topic_regex_new(regex, &s->compiled, info) : ERR_OK;

    if (s->compiled)
        s->bytes += topic_regex_bytes(s->compiled);
    if (!e && !coordinator_take(t->c, s->bytes))
        e = ERR_COORDINATOR;
    if (e) {
        topic_regex_free(&s->compiled);
        free(s);
        return e;
    }
    *out = s;
    return ERR_OK;
}

/* Copies of the slices, sorted, each once. ERR_TOO_LARGE: one is not a topic's name in size. */
static enum err names_sort(const struct slice *in, uint32_t *n, struct slice **out)
{
    struct slice *v = xmalloc((*n + 1) * sizeof *v);
    uint32_t i, k = 0;

    for (i = 0; i < *n; i++) {
        if (in[i].len == 0 || in[i].len > LIMIT_GROUP_WORD) {
            free(v);
            return ERR_TOO_LARGE;
        }
        v[i] = in[i];
    }
    qsort(v, *n, sizeof *v, name_order);
    for (i = 0; i < *n; i++)
        if (k == 0 || !slice_eq(v[k - 1], v[i]))
            v[k++] = v[i];
    *n = k;
    *out = v;
    return ERR_OK;
}

enum err subscription_get(struct turn *t, const struct slice *names, uint32_t n, struct slice regex,
                          struct subscription **out, struct errinfo *info)
{
    struct consumer_group *cg = t->g->consumer;
    struct subscription *s;
    struct slice *sorted;
    uint64_t hash;
    enum err e;

    *out = NULL;
    if (n > LIMIT_MEMBER_TOPICS)
        return errinfo_set(info, ERR_TOO_LARGE, "a member subscribes to at most %u topics",
                           LIMIT_MEMBER_TOPICS);
    if ((e = names_sort(names, &n, &sorted)))
        return errinfo_set(info, e, "a topic's name has 1 to %u bytes", LIMIT_GROUP_WORD);
    hash = names_hash(sorted, n, regex);
    s = subscription_find(cg, hash, sorted, n, regex);
    if (!s && !(e = subscription_make(t, sorted, n, regex, &s, info))) {
        s->hash = hash;
        list_push_back(&cg->subscriptions, &s->link);
        cg->subscriptions_n++;
    }
    if (s)
        s->refs++;
    free(sorted);
    *out = s;
    return e;
}

void subscription_unref(struct live_group *g, struct subscription **sp)
{
    struct subscription *s = *sp;

    *sp = NULL;
    if (!s || --s->refs)
        return;
    list_remove(&s->link);
    g->consumer->subscriptions_n--;
    g->consumer->counts_stale = true;
    subscription_free(g->broker->coordinator, s);
}

/* ---- which topics that is ---- */

static void rescan(struct live_group *g, struct subscription *s)
{
    struct topic *found[TOPICS_AT_ONCE];
    struct slice after = SLICE_LIT("");
    char last[LIMIT_GROUP_WORD + 1];
    size_t n, i;

    s->matched_n = 0;
    do {
        n = topic_list(g->broker, after, NULL, found, TOPICS_AT_ONCE);
        for (i = 0; i < n; i++)
            if (topic_regex_match(s->compiled, slice_str(topic_name(found[i]))))
                matched_add(s, topic_id(found[i]));
        if (n) {
            snprintf(last, sizeof last, "%s", topic_name(found[n - 1]));
            after = slice_str(last);
        }
        for (i = 0; i < n; i++)
            topic_unref(&found[i]);
    } while (n == TOPICS_AT_ONCE);
    s->rescan = false;
}

/* Finds the topics of a stale subscription. False: no memory. */
static bool resolve(struct live_group *g, struct subscription *s)
{
    uint32_t *ids, n = 0, i, k = 0;
    struct topic *t;
    bool room = true;

    if (s->rescan)
        rescan(g, s);
    ids = xmalloc((s->names_n + s->matched_n + 1) * sizeof *ids);
    for (i = 0; i < s->names_n + s->matched_n && room; i++) {
        t = i < s->names_n ? topic_find(g->broker, s->names[i])
                           : topic_find_id(g->broker, s->matched[i - s->names_n]);
        if (t && !topic_deleted(t)) {
            room = topic_know(g, t);
            ids[n++] = topic_id(t);
        }
        topic_unref(&t);
    }
    if (!room) {
        free(ids);
        return false;
    }
    qsort(ids, n, sizeof *ids, id_order);
    for (i = 0; i < n; i++)
        if (k == 0 || ids[k - 1] != ids[i])
            ids[k++] = ids[i];
    free(s->ids);
    s->ids = ids;
    s->ids_n = k;
    s->stale = false;
    return true;
}

/* A topic has been made, altered or deleted. */
static void topic_changed(struct live_group *g, uint32_t id)
{
    struct topic *t = topic_find_id(g->broker, id);
    struct subscription *s;

    list_for_each(s, &g->consumer->subscriptions, struct subscription, link)
    {
        struct slice name;

        if (!t || topic_deleted(t)) {
            matched_remove(s, id);
            s->stale |= ids_has(s->ids, s->ids_n, id);
            continue;
        }
        name = slice_str(topic_name(t));
        if (s->compiled && topic_regex_match(s->compiled, name)) {
            matched_add(s, id);
            s->stale = true;
        }
        if (s->names_n && bsearch(&name, s->names, s->names_n, sizeof name, name_order))
            s->stale = true;
    }
    topic_unref(&t);
}

static void changes_take(struct live_group *g)
{
    struct consumer_group *cg = g->consumer;
    struct subscription *s;
    uint32_t *ids, n, i;

    if (atomic_load(&g->broker->recent_topics.n) == cg->topics_seen)
        return;
    ids = xmalloc(RECENT_MAX * sizeof *ids);
    n = recent_since(&g->broker->recent_topics, &cg->topics_seen, ids);
    if (n == UINT32_MAX)
        list_for_each(s, &cg->subscriptions, struct subscription, link)
        {
            s->stale = true;
            s->rescan = s->compiled != NULL;
        }
    else
        for (i = 0; i < n; i++)
            topic_changed(g, ids[i]);
    free(ids);
}

/* Forgets topics that are of no concern any more. */
static void topics_forget(struct live_group *g)
{
    struct consumer_group *cg = g->consumer;
    struct group_topic **out = xmalloc((cg->topics.n + 1) * sizeof(struct group_topic *));
    uint32_t at = 0, n = 0;
    void *v;

    while (u64map_next(&cg->topics, &at, NULL, &v)) {
        struct group_topic *gt = v;

        if (gt->subscriptions == 0 && gt->owned == 0)
            out[n++] = gt;
    }
    while (n)
        topic_drop(g, out[--n]);
    free(out);
}

/* Counts the subscriptions of each topic; returns the hash of those that have some. */
static uint64_t topics_count(struct live_group *g)
{
    struct consumer_group *cg = g->consumer;
    struct subscription *s;
    uint64_t hash = 0;
    uint32_t at = 0, i;
    void *v;

    while (u64map_next(&cg->topics, &at, NULL, &v))
        ((struct group_topic *)v)->subscriptions = 0;
    list_for_each(s, &cg->subscriptions, struct subscription, link) for (i = 0; i < s->ids_n; i++)
        consumer_topic(g, s->ids[i])
            ->subscriptions++;
    at = 0;
    while (u64map_next(&cg->topics, &at, NULL, &v)) {
        const struct group_topic *gt = v;

        if (gt->subscriptions)
            hash += hash_u64((uint64_t)gt->id << 32 | (uint32_t)gt->partitions, 1);
    }
    topics_forget(g);
    return hash;
}

enum err consumer_topics_refresh(struct turn *t, bool *changed)
{
    struct consumer_group *cg = t->g->consumer;
    struct subscription *s;
    uint64_t hash;

    *changed = false;
    changes_take(t->g);
    list_for_each(s, &cg->subscriptions, struct subscription, link) if (s->stale)
    {
        if (!resolve(t->g, s))
            return ERR_COORDINATOR;
        cg->counts_stale = true;
    }
    if (!cg->counts_stale)
        return ERR_OK;
    hash = topics_count(t->g);
    cg->counts_stale = false;
    *changed = hash != cg->topics_hash;
    cg->topics_hash = hash;
    return ERR_OK;
}

/* ---- the target ---- */

static const char *const assignor_names[] = {"uniform", "range", "roundrobin"};

const char *assignor_text(enum assignor a)
{
    return assignor_names[a == ASSIGNOR_NONE ? ASSIGNOR_UNIFORM : a];
}

enum assignor assignor_of(struct slice name)
{
    unsigned i;

    for (i = 0; i < ASSIGNOR_NONE; i++)
        if (slice_eq_str(name, assignor_names[i]))
            return (enum assignor)i;
    return ASSIGNOR_NONE;
}

enum assignor consumer_assignor(const struct live_group *g)
{
    uint32_t votes[ASSIGNOR_NONE + 1] = {0};
    struct consumer_member *m;

    for (m = consumer_first(g); m; m = consumer_next(g, m))
        votes[m->assignor]++;
    if (votes[ASSIGNOR_ROUNDROBIN] > votes[ASSIGNOR_UNIFORM] &&
        votes[ASSIGNOR_ROUNDROBIN] > votes[ASSIGNOR_RANGE])
        return ASSIGNOR_ROUNDROBIN;
    return votes[ASSIGNOR_RANGE] > votes[ASSIGNOR_UNIFORM] ? ASSIGNOR_RANGE : ASSIGNOR_UNIFORM;
}

static int assign_topic_order(const void *x, const void *y)
{
    uint32_t a = ((const struct assign_topic *)x)->id, b = ((const struct assign_topic *)y)->id;

    return (a > b) - (a < b);
}

void consumer_target(struct live_group *g)
{
    struct consumer_group *cg = g->consumer;
    struct assign_topic *topics = xmalloc((cg->topics.n + 1) * sizeof *topics);
    struct assign_member *in = xcalloc(g->members.n + 1, sizeof *in);
    uint32_t topics_n = 0, n = 0, at = 0;
    struct consumer_member *m;
    void *v;

    while (u64map_next(&cg->topics, &at, NULL, &v)) {
        const struct group_topic *gt = v;

        if (gt->subscriptions)
            topics[topics_n++] = (struct assign_topic){gt->id, gt->partitions};
    }
    qsort(topics, topics_n, sizeof *topics, assign_topic_order);
    for (m = consumer_first(g); m; m = consumer_next(g, m))
        in[n++] = (struct assign_member){.id = m->id,
                                         .instance_id = m->instance_id,
                                         .topics = m->subscription ? m->subscription->ids : NULL,
                                         .topics_n = m->subscription ? m->subscription->ids_n : 0,
                                         .has = &m->target};
    if (g->kind == GROUP_SHARE)
        assign_share(topics, topics_n, in, n);
    else if (consumer_assignor(g) == ASSIGNOR_RANGE)
        assign_range(topics, topics_n, in, n);
    else if (consumer_assignor(g) == ASSIGNOR_ROUNDROBIN)
        assign_roundrobin(topics, topics_n, in, n);
    else
        assign_uniform(topics, topics_n, in, n, cg->subscriptions_n == 1);
    for (m = consumer_first(g), n = 0; m; m = consumer_next(g, m), n++) {
        part_set_fini(&m->target);
        m->target = in[n].gets;
        part_set_sort(&m->target);
    }
    cg->assignment_epoch = g->generation;
    free(topics);
    free(in);
}
