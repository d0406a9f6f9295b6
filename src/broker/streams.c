/* Streams groups (KIP-1071): heartbeats, and how tasks go from member to member.
 *
 * Epochs are as in consumer groups (consumer.c): the group's grows when members come, go or say
 * something new, when the topics of its topology change, when they are as the topology needs them and
 * when they no longer are, and when the number of standbys is changed.
 *
 * Invariants:
 *   1. `active` has for every active task in somebody's `assigned` or `revoking` who that is: nobody
 *      gets it before that member says by heartbeat that it gave it up, or is removed.
 *   2. A process has a task once: nobody gets one that a member of its process has, in whatever role,
 *      or is still to give up.
 *   3. A member that does not give up in its rebalance timeout, or is silent for the session's time,
 *      is removed, and its tasks are free.
 *   4. While topics are missing or wrong, nobody's target has tasks.
 *   5. The first members of a group get no tasks for the initial delay; then all do at once.
 *   6. A member is told its tasks when they change, and again when it says that it runs others: the
 *      answer that told them may have been lost.
 *   7. Tasks are assigned once in the assignment interval at most, whatever members say meanwhile:
 *      they go on towards the assignment before. The group's epoch grows as often, and no more.
 *
 * The topology is that of the first member; others must bring the same one. It ends with the last
 * member. A member with an older epoch of it is told so. No warm-up tasks are given out: as in Apache
 * Kafka 4.2, whose facts these are (GroupMetadataManager, CurrentAssignmentBuilder, StreamsGroup),
 * except that static members are possible. The interval is Kafka 4.3's (KIP-1263). Under the lock
 * of the group's shard. */
#include "broker/streams.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/notices.h"
#include "broker/streams_int.h"

/* What a member says that it runs. */
struct owned {
    bool said;
    bool unknown; /* among it are tasks of subtopologies that are not the group's */
    struct task_sets sets;
};

/* ---- who has what ---- */

static struct streams_owner *owner_find(const struct streams_group *sg, struct topic_part p)
{
    return u64map_find(&sg->active, task_key(p));
}

/* What m had and has in neither set is nobody's; what is new is m's from this epoch on. */
static void owners_set(struct streams_member *m, const struct part_set *had,
                       const struct part_set *assigned, const struct part_set *revoking,
                       int32_t epoch)
{
    struct streams_group *sg = m->group->streams;
    struct streams_owner *o;
    uint32_t i;

    for (i = 0; i < had->n; i++)
        if (!part_set_has(assigned, had->v[i]) && !part_set_has(revoking, had->v[i])) {
            o = u64map_remove(&sg->active, task_key(had->v[i]));
            ASSERT(!o || o->member == m);
            free(o);
        }
    for (i = 0; i < assigned->n; i++) {
        if ((o = owner_find(sg, assigned->v[i]))) {
            ASSERT(o->member == m);
            continue;
        }
        o = xmalloc(sizeof *o);
        *o = (struct streams_owner){m, epoch};
        if (u64map_put(&sg->active, task_key(assigned->v[i]), o))
            ASSERT(false);
    }
}

/* Takes over both (moved from). */
static void sets_change(struct streams_member *m, struct task_sets *assigned,
                        struct task_sets *revoking, int32_t epoch)
{
    const struct part_set *a = &assigned->of[STREAMS_ACTIVE], *r = &revoking->of[STREAMS_ACTIVE];

    owners_set(m, &m->assigned.of[STREAMS_ACTIVE], a, r, epoch);
    owners_set(m, &m->revoking.of[STREAMS_ACTIVE], a, r, epoch);
    task_sets_fini(&m->assigned);
    task_sets_fini(&m->revoking);
    m->assigned = *assigned;
    m->revoking = *revoking;
    memset(assigned, 0, sizeof *assigned);
    memset(revoking, 0, sizeof *revoking);
}

static void revoked(struct streams_member *m)
{
    struct task_sets none = {0}, kept = m->assigned;

    memset(&m->assigned, 0, sizeof m->assigned);
    owners_set(m, &m->revoking.of[STREAMS_ACTIVE], &kept.of[STREAMS_ACTIVE],
               &none.of[STREAMS_ACTIVE], 0);
    task_sets_fini(&m->revoking);
    m->assigned = kept;
}

static bool process_has(const struct streams_process *pr, struct topic_part p, unsigned first_role)
{
    const struct streams_member *m;
    unsigned r;

    list_for_each(m, &pr->members, struct streams_member, in_process)
    {
        for (r = first_role; r < STREAMS_ROLES; r++)
            if (part_set_has(&m->assigned.of[r], p) || part_set_has(&m->revoking.of[r], p))
                return true;
    }
    return false;
}

static bool task_free(const struct streams_member *m, struct topic_part p, unsigned role)
{
    if (role == STREAMS_ACTIVE)
        return !owner_find(m->group->streams, p) && !process_has(m->process, p, STREAMS_STANDBY);
    return !process_has(m->process, p, STREAMS_ACTIVE);
}

/* ---- members ---- */

static void process_join(struct streams_member *m, struct slice id)
{
    struct streams_group *sg = m->group->streams;
    struct streams_process *pr = map_find(&sg->processes, id);

    if (!pr) {
        pr = xcalloc(1, sizeof *pr);
        list_init(&pr->members);
        pr->id = text_own(id);
        if (map_put(&sg->processes, pr->id, pr))
            ASSERT(false);
    }
    m->process = pr;
    list_push_back(&pr->members, &m->in_process);
}

static void process_leave(struct streams_member *m)
{
    struct streams_process *pr = m->process;

    list_remove(&m->in_process);
    m->process = NULL;
    if (!list_empty(&pr->members))
        return;
    map_remove(&m->group->streams->processes, pr->id);
    text_free(&pr->id);
    free(pr);
}

static void session_fire(struct turn *t, struct group_timer *tm);
static void rebalance_fire(struct turn *t, struct group_timer *tm);

static struct streams_member *member_add(struct turn *t, const struct group_streams_heartbeat *h)
{
    struct live_group *g = t->g;
    struct streams_member *m;
    size_t bytes = sizeof *m + sizeof *m->process + h->member_id.len + h->instance_id.len + 5 * 16;

    if (!coordinator_take(t->c, bytes))
        return NULL;
    m = xcalloc(1, sizeof *m);
    m->group = g;
    m->bytes = bytes;
    m->id = text_own(h->member_id);
    m->instance_id = text_own(h->instance_id);
    m->rebalance_ms = h->rebalance_timeout_ms;
    m->previous_epoch = -1;
    group_timer_init(&m->session, g, session_fire);
    group_timer_init(&m->rebalance, g, rebalance_fire);
    live_index(g, m->id, m->instance_id, m);
    process_join(m, slice_is_null(h->process_id) ? m->id : h->process_id);
    NOTICE_GROUP(t->b, NOTICE_JOIN, live_name(g), m->id, 0);
    list_push_back(&g->list, &m->link);
    return m;
}

static void member_drop(struct turn *t, struct streams_member *m)
{
    struct live_group *g = t->g;
    struct task_sets none = {0}, none_too = {0};

    sets_change(m, &none, &none_too, 0);
    task_sets_fini(&m->target);
    process_leave(m);
    group_timer_clear(&m->session);
    group_timer_clear(&m->rebalance);
    live_unindex(g, m->id, m->instance_id);
    NOTICE_GROUP(t->b, NOTICE_LEAVE, live_name(g), m->id, 0);
    list_remove(&m->link);
    coordinator_give(t->c, m->bytes);
    text_free(&m->id);
    text_free(&m->instance_id);
    text_free(&m->client_id);
    text_free(&m->client_host);
    text_free(&m->host);
    blob_unref(&m->rack);
    free(m->tags);
    free(m);
}

void streams_drop_first(struct turn *t)
{
    member_drop(t, streams_first(t->g));
}

/* Something is new. One epoch takes all that is until there is an assignment for it. */
static void bump(struct live_group *g)
{
    if (g->generation < INT32_MAX && g->generation == g->streams->assignment_epoch)
        g->generation += g->generation == 0 ? 2 : 1; /* 1 is told during the initial delay */
}

static void member_fence(struct turn *t, struct streams_member *m)
{
    member_drop(t, m);
    t->persist = true;
    bump(t->g);
}

static void session_fire(struct turn *t, struct group_timer *tm)
{
    member_fence(t, list_entry(tm, struct streams_member, session));
}

static void rebalance_fire(struct turn *t, struct group_timer *tm)
{
    struct streams_member *m = list_entry(tm, struct streams_member, rebalance);

    if (m->epoch == m->rebalance_epoch)
        member_fence(t, m);
}

/* A static member is back under another id. */
static void member_rename(struct streams_member *m, struct slice id)
{
    live_unindex(m->group, m->id, m->instance_id);
    text_free(&m->id);
    m->id = text_own(id);
    live_index(m->group, m->id, m->instance_id, m);
}

/* It joins again, and runs nothing: it is given what it may have as if it were new, in the process
 * that it is in now. */
static void member_restart(struct streams_member *m)
{
    struct task_sets none = {0}, none_too = {0};

    sets_change(m, &none, &none_too, 0);
    m->state = STREAMS_MEMBER_STABLE;
    m->epoch = m->previous_epoch = 0;
    group_timer_clear(&m->rebalance);
}

static bool text_change(struct slice *mine, struct slice said)
{
    if (slice_is_null(said) || (!slice_is_null(*mine) && slice_eq(*mine, said)))
        return false;
    text_free(mine);
    *mine = text_own(said);
    return true;
}

static size_t tags_bytes(const struct streams_pair *tags, unsigned n)
{
    size_t bytes = n * sizeof *tags;
    unsigned i;

    for (i = 0; i < n; i++)
        bytes += tags[i].key.len + tags[i].value.len;
    return bytes;
}

static struct slice tag_put(uint8_t **at, struct slice s)
{
    struct slice out = slice_of(*at, s.len);

    if (s.len)
        memcpy(*at, s.ptr, s.len);
    *at += s.len;
    return out;
}

static bool tags_change(struct streams_member *m, const struct streams_pair *tags, unsigned n)
{
    struct streams_pair *copy;
    uint8_t *at;
    unsigned i;

    if (!tags)
        return false;
    for (i = 0; n == m->tags_n && i < n; i++)
        if (!slice_eq(m->tags[i].key, tags[i].key) || !slice_eq(m->tags[i].value, tags[i].value))
            break;
    if (n == m->tags_n && i == n)
        return false;
    copy = xmalloc(tags_bytes(tags, n) + 1);
    at = (uint8_t *)(copy + n);
    for (i = 0; i < n; i++) {
        copy[i].key = tag_put(&at, tags[i].key);
        copy[i].value = tag_put(&at, tags[i].value);
    }
    free(m->tags);
    m->tags = copy;
    m->tags_n = n;
    return true;
}

/* What it says of itself. Whether that is new. */
static bool member_say(struct streams_member *m, const struct group_streams_heartbeat *h)
{
    bool changed = text_change(&m->client_id, h->client_id);

    changed |= text_change(&m->client_host, h->client_host);
    changed |= text_change(&m->host, h->endpoint_host);
    changed |= tags_change(m, h->tags, h->tags_n);
    if (!slice_is_null(h->endpoint_host) && m->port != h->endpoint_port) {
        m->port = h->endpoint_port;
        changed = true;
    }
    if (!slice_is_null(h->rack_id) && !slice_eq(h->rack_id, blob_slice(m->rack))) {
        blob_unref(&m->rack);
        m->rack = blob_new(h->rack_id);
        changed = true;
    }
    if (!slice_is_null(h->process_id) && !slice_eq(h->process_id, m->process->id)) {
        process_leave(m);
        process_join(m, h->process_id);
        changed = true;
    }
    if (h->rebalance_timeout_ms >= 0 && m->rebalance_ms != h->rebalance_timeout_ms) {
        m->rebalance_ms = h->rebalance_timeout_ms;
        changed = true;
    }
    if (h->topology && m->topology_epoch != h->topology->epoch) {
        m->topology_epoch = h->topology->epoch;
        changed = true;
    }
    return changed;
}

/* Counts what it takes in memory. False: too much; it is as it was. */
static bool member_room(struct turn *t, struct streams_member *m,
                        const struct group_streams_heartbeat *h)
{
    size_t bytes = sizeof *m + sizeof *m->process + m->id.len + m->instance_id.len + 5 * 16;

    bytes += h->client_id.len + h->client_host.len + 2 * LIMIT_GROUP_WORD; /* rack, process */
    bytes += slice_is_null(h->endpoint_host) ? m->host.len : h->endpoint_host.len;
    bytes += h->tags ? tags_bytes(h->tags, h->tags_n) : tags_bytes(m->tags, m->tags_n);
    if (bytes > m->bytes && !coordinator_take(t->c, bytes - m->bytes))
        return false;
    if (bytes < m->bytes)
        coordinator_give(t->c, m->bytes - bytes);
    m->bytes = bytes;
    return true;
}

/* ---- reconciliation ---- */

static bool owns_any(const struct owned *o, const struct task_sets *sets)
{
    unsigned r;
    uint32_t i;

    for (r = 0; r < STREAMS_ROLES; r++)
        for (i = 0; i < sets->of[r].n; i++)
            if (!o->said || part_set_has(&o->sets.of[r], sets->of[r].v[i]))
                return true;
    return false;
}

static bool owns_only(const struct owned *o, const struct task_sets *sets)
{
    unsigned r;
    uint32_t i;

    for (r = 0; r < STREAMS_ROLES; r++)
        for (i = 0; i < o->sets.of[r].n; i++)
            if (!part_set_has(&sets->of[r], o->sets.of[r].v[i]))
                return false;
    return o->said && !o->unknown;
}

static void member_epoch(struct streams_member *m, enum streams_state_of state, int32_t epoch)
{
    m->state = state;
    m->previous_epoch = m->epoch;
    m->epoch = epoch;
}

/* The member, at this epoch, goes towards the target as far as it can. */
static void advance(struct streams_member *m, int32_t epoch, const struct task_sets *target,
                    int32_t target_epoch, const struct owned *o)
{
    struct task_sets kept = {0}, gone = {0}, wanted = {0}, none = {0};
    bool unreleased = false;
    unsigned r;
    uint32_t i;

    for (r = 0; r < STREAMS_ROLES; r++) {
        part_set_pick(&kept.of[r], &m->assigned.of[r], &target->of[r], true);
        part_set_pick(&gone.of[r], &m->assigned.of[r], &target->of[r], false);
        part_set_pick(&wanted.of[r], &target->of[r], &kept.of[r], false);
    }
    if (owns_any(o, &gone)) {
        sets_change(m, &kept, &gone, epoch);
        member_epoch(m, STREAMS_MEMBER_UNREVOKED, epoch);
    } else {
        sets_change(m, &kept, &none, target_epoch); /* what is gone blocks nothing any more */
        for (r = 0; r < STREAMS_ROLES; r++) {
            part_set_copy(&kept.of[r], &m->assigned.of[r]);
            for (i = 0; i < wanted.of[r].n; i++) {
                if (task_free(m, wanted.of[r].v[i], r))
                    part_set_add(&kept.of[r], wanted.of[r].v[i]);
                else
                    unreleased = true;
            }
            part_set_sort(&kept.of[r]);
        }
        sets_change(m, &kept, &none, target_epoch);
        member_epoch(m, unreleased ? STREAMS_MEMBER_UNRELEASED : STREAMS_MEMBER_STABLE,
                     target_epoch);
    }
    task_sets_fini(&kept);
    task_sets_fini(&gone);
    task_sets_fini(&wanted);
}

static void reconcile(struct turn *t, struct streams_member *m, const struct task_sets *target,
                      int32_t target_epoch, const struct owned *o)
{
    switch (m->state) {
    case STREAMS_MEMBER_STABLE:
        if (m->epoch == target_epoch)
            return;
        advance(m, m->epoch, target, target_epoch, o);
        break;
    case STREAMS_MEMBER_UNREVOKED:
        if (owns_any(o, &m->revoking) || !o->said)
            return;
        revoked(m);
        advance(m, m->epoch + 1, target, target_epoch, o);
        break;
    case STREAMS_MEMBER_UNRELEASED:
        advance(m, m->epoch, target, target_epoch, o);
        break;
    }
    if (m->state != STREAMS_MEMBER_UNREVOKED) {
        group_timer_clear(&m->rebalance);
        return;
    }
    m->rebalance_epoch = m->epoch;
    group_timer_set(&m->rebalance, t->now_ms + m->rebalance_ms);
}

/* ---- the target ---- */

static void assign(struct live_group *g)
{
    struct streams_group *sg = g->streams;
    struct streams_assign_sub *subs = xcalloc(sg->topology.n + 1, sizeof *subs);
    struct streams_assign_member *ms = xcalloc(g->members.n + 1, sizeof *ms);
    struct streams_member *m;
    uint32_t i, n = 0, at = 0, processes = 0;
    void *pr;

    while (map_next(&sg->processes, &at, NULL, &pr))
        ((struct streams_process *)pr)->at = UINT32_MAX;
    for (i = 0; i < sg->topology.n; i++)
        subs[i] = (struct streams_assign_sub){sg->subs[i].tasks, streams_stateful(&sg->subs[i])};
    for (m = streams_first(g); m; m = streams_next(g, m)) {
        if (m->process->at == UINT32_MAX)
            m->process->at = processes++;
        ms[n++] = (struct streams_assign_member){
            .id = m->id, .process = m->process->at, .had = &m->target};
    }
    streams_assign(subs, sg->topology.n, ms, n, processes, (uint32_t)sg->standbys);
    for (i = 0, m = streams_first(g); m; m = streams_next(g, m)) {
        task_sets_fini(&m->target);
        m->target = ms[i++].gets;
    }
    free(subs);
    free(ms);
}

/* Computes every member's target for the present epoch. */
static void target_make(struct turn *t)
{
    struct streams_group *sg = t->g->streams;
    struct streams_member *m;

    if (sg->ready) {
        assign(t->g);
        if (sg->interval_ms > 0)
            group_timer_set(&sg->pause, t->now_ms + sg->interval_ms);
    } else {
        for (m = streams_first(t->g); m; m = streams_next(t->g, m))
            task_sets_fini(&m->target);
    }
    sg->assignment_epoch = t->g->generation;
}

static bool timer_on(const struct group_timer *tm)
{
    return tm->heap_at != TIMER_OFF;
}

/* That nobody is to have tasks costs nothing to compute, and waits for no interval. */
static bool delayed(const struct streams_group *sg)
{
    return timer_on(&sg->initial) || (sg->ready && timer_on(&sg->pause));
}

static void delay_fire(struct turn *t, struct group_timer *tm)
{
    if (t->g->generation > t->g->streams->assignment_epoch && !delayed(t->g->streams))
        target_make(t);
}

/* Towards the last assignment: of the present epoch, or, while the next is delayed, the one before.
 * Nobody has a target before the first. */
static void target_follow(struct turn *t, struct streams_member *m, const struct owned *o)
{
    struct streams_group *sg = t->g->streams;

    if (t->g->generation > sg->assignment_epoch && !delayed(sg))
        target_make(t);
    reconcile(t, m, &m->target, sg->assignment_epoch ? sg->assignment_epoch : 1, o);
}

/* ---- heartbeats: what is asked ---- */

static enum err invalid(struct errinfo *info, const char *text)
{
    return errinfo_set(info, ERR_INVALID, "%s", text);
}

static bool empty(struct slice s)
{
    return !slice_is_null(s) && s.len == 0;
}

static enum err sizes_check(const struct group_streams_heartbeat *h, struct errinfo *info)
{
    uint64_t owned = 0;
    unsigned i, r;

    if (h->instance_id.len > LIMIT_GROUP_WORD || h->rack_id.len > LIMIT_GROUP_WORD ||
        h->process_id.len > LIMIT_GROUP_WORD || h->endpoint_host.len > LIMIT_GROUP_WORD ||
        h->member_id.len > LIMIT_MEMBER_ID)
        return errinfo_set(info, ERR_TOO_LARGE, "an id is too long");
    if (h->tags_n > LIMIT_STREAMS_TAGS)
        return errinfo_set(info, ERR_TOO_LARGE, "a member has at most %u tags", LIMIT_STREAMS_TAGS);
    for (i = 0; i < h->tags_n; i++)
        if (h->tags[i].key.len > LIMIT_GROUP_WORD || h->tags[i].value.len > LIMIT_GROUP_WORD)
            return errinfo_set(info, ERR_TOO_LARGE, "a tag is too long");
    for (r = 0; r < STREAMS_ROLES; r++)
        for (i = 0; i < h->owned_n[r]; i++)
            owned += h->owned[r][i].n;
    if (owned > 2 * LIMIT_STREAMS_TASKS)
        return errinfo_set(info, ERR_TOO_LARGE, "a member has too many tasks");
    return h->topology ? streams_topology_check(h->topology, info) : ERR_OK;
}

static enum err heartbeat_check(const struct group_streams_heartbeat *h, struct errinfo *info)
{
    bool join = h->member_epoch == GROUP_EPOCH_JOIN;
    bool said = h->owned[STREAMS_ACTIVE] || h->owned[STREAMS_STANDBY] || h->owned[STREAMS_WARMUP];

    if (h->member_id.len == 0)
        return invalid(info, "MemberId can't be empty.");
    if (empty(h->instance_id))
        return invalid(info, "InstanceId can't be empty.");
    if (empty(h->rack_id))
        return invalid(info, "RackId can't be empty.");
    if (h->member_epoch < GROUP_EPOCH_LEAVE_STATIC)
        return errinfo_set(info, ERR_INVALID,
                           "MemberEpoch is %d, but must be greater than or equal to -2.",
                           (int)h->member_epoch);
    if (h->member_epoch == GROUP_EPOCH_LEAVE_STATIC && slice_is_null(h->instance_id))
        return invalid(info, "InstanceId can't be null.");
    if (join && h->rebalance_timeout_ms == -1)
        return invalid(info, "RebalanceTimeoutMs must be provided in first request.");
    if (join &&
        (h->owned_n[STREAMS_ACTIVE] || h->owned_n[STREAMS_STANDBY] || h->owned_n[STREAMS_WARMUP]))
        return invalid(info, "Tasks must be empty when (re-)joining.");
    if (join && !h->topology)
        return invalid(info, "Topology must be non-null when (re-)joining.");
    if (!join && h->topology)
        return invalid(info, "Topology can only be provided when (re-)joining.");
    if (said &&
        !(h->owned[STREAMS_ACTIVE] && h->owned[STREAMS_STANDBY] && h->owned[STREAMS_WARMUP]))
        return invalid(info, "If one task-type is non-null, all must be non-null.");
    return sizes_check(h, info);
}

bool streams_group(struct turn *t, struct slice group)
{
    struct group_durable d;

    if (t->g)
        return t->g->kind == GROUP_STREAMS;
    return group_durable_get(t->b, group, &d) && d.kind == GROUP_STREAMS;
}

static void group_init(struct live_group *g)
{
    struct streams_group *sg;

    g->kind = GROUP_STREAMS;
    if (g->streams)
        return;
    sg = xcalloc(1, sizeof *sg);
    sg->assignment_epoch = g->generation;
    sg->validated_epoch = -1;
    sg->topics_seen = UINT64_MAX;
    group_timer_init(&sg->initial, g, delay_fire);
    group_timer_init(&sg->pause, g, delay_fire);
    u64map_init(&sg->active, UINT32_MAX >> 2, g->broker->hash_seed_word);
    map_init(&sg->processes, LIMIT_GROUP_MEMBERS, g->broker->hash_seed);
    g->streams = sg;
}

void streams_fini(struct live_group *g)
{
    struct streams_group *sg = g->streams;

    if (!sg)
        return;
    ASSERT(sg->active.n == 0 && sg->processes.n == 0);
    group_timer_clear(&sg->initial);
    group_timer_clear(&sg->pause);
    streams_topology_fini(g);
    u64map_fini(&sg->active);
    map_fini(&sg->processes);
    text_free(&sg->shutdown_by);
    free(sg);
    g->streams = NULL;
}

/* Makes t->g the streams group that the heartbeat means. A classic group without members becomes one:
 * it may be no more than offsets. */
static enum err group_find(struct turn *t, const struct group_streams_heartbeat *h,
                           struct errinfo *info)
{
    struct group_durable d;
    bool known = group_durable_get(t->b, h->group, &d);
    bool idle = t->g ? t->g->kind == GROUP_CLASSIC && t->g->members.n == 0 &&
                           t->g->classic.state == GROUP_EMPTY
                     : !known || d.kind == GROUP_CLASSIC || d.kind == GROUP_STREAMS;

    if (t->g && t->g->kind == GROUP_STREAMS)
        return ERR_OK;
    if (!idle)
        return errinfo_set(info, ERR_GROUP_NOT_FOUND, "Group %.*s is not a streams group.",
                           (int)h->group.len, (const char *)h->group.ptr);
    if (h->member_epoch != GROUP_EPOCH_JOIN)
        return known && d.kind == GROUP_STREAMS
                   ? errinfo_set(info, ERR_UNKNOWN_MEMBER, "the group has no such member")
                   : errinfo_set(info, ERR_GROUP_NOT_FOUND, "Streams group %.*s not found.",
                                 (int)h->group.len, (const char *)h->group.ptr);
    if (t->g)
        classic_forget_pending(t->g);
    else
        turn_make(t, h->group, GROUP_STREAMS);
    if (!t->g)
        return errinfo_set(info, ERR_COORDINATOR, "there are too many groups");
    group_init(t->g);
    return ERR_OK;
}

static void owned_read(const struct streams_group *sg, const struct group_streams_heartbeat *h,
                       struct owned *o)
{
    unsigned r, i, k;

    *o = (struct owned){.said = h->owned[STREAMS_ACTIVE] != NULL};
    for (r = 0; r < STREAMS_ROLES; r++) {
        for (i = 0; i < h->owned_n[r]; i++) {
            const struct streams_tasks *ts = &h->owned[r][i];
            int32_t sub = streams_sub_find(sg, ts->subtopology);

            o->unknown |= sub < 0;
            for (k = 0; sub >= 0 && k < ts->n; k++)
                part_set_add(&o->sets.of[r], (struct topic_part){(uint32_t)sub, ts->partitions[k]});
        }
        part_set_sort(&o->sets.of[r]);
    }
}

/* Once the numbers of tasks are known, only such tasks can be somebody's. */
static enum err owned_check(const struct streams_group *sg, const struct owned *o,
                            struct errinfo *info)
{
    unsigned r;
    uint32_t i;

    if (!sg->ready)
        return ERR_OK;
    if (o->unknown)
        return invalid(info, "a subtopology does not exist in the topology");
    for (r = 0; r < STREAMS_ROLES; r++)
        for (i = 0; i < o->sets.of[r].n; i++) {
            struct topic_part p = o->sets.of[r].v[i];

            if (p.partition < 0 || p.partition >= sg->subs[p.topic].tasks)
                return errinfo_set(
                    info, ERR_INVALID, "task %d of subtopology %.*s does not exist: it has %d",
                    (int)p.partition, (int)sg->topology.subs[p.topic].id.len,
                    (const char *)sg->topology.subs[p.topic].id.ptr, (int)sg->subs[p.topic].tasks);
        }
    return ERR_OK;
}

static enum err epoch_check(const struct streams_member *m, int32_t epoch, const struct owned *o,
                            struct errinfo *info)
{
    if (epoch == GROUP_EPOCH_JOIN || epoch == m->epoch)
        return ERR_OK;
    /* one behind is right when the answer that told the new epoch was lost */
    if (epoch < m->epoch && epoch == m->previous_epoch && owns_only(o, &m->assigned))
        return ERR_OK;
    return errinfo_set(info, ERR_FENCED_MEMBER_EPOCH,
                       "The streams group member has a %s member epoch (%d) than the one known by "
                       "the group coordinator (%d). The member must abandon all its tasks and "
                       "rejoin.",
                       epoch > m->epoch ? "greater" : "smaller", (int)epoch, (int)m->epoch);
}

static enum err static_find(struct turn *t, const struct group_streams_heartbeat *h,
                            struct streams_member **out, struct errinfo *info)
{
    struct streams_member *m = map_find(&t->g->instances, h->instance_id);
    bool same = m && slice_eq(m->id, h->member_id);

    *out = m;
    if (h->member_epoch != GROUP_EPOCH_JOIN) {
        if (!m)
            return errinfo_set(info, ERR_UNKNOWN_MEMBER, "the instance id is unknown");
        return same ? ERR_OK
                    : errinfo_set(info, ERR_FENCED_INSTANCE,
                                  "another member has this instance id now");
    }
    if (!same && map_find(&t->g->members, h->member_id))
        return errinfo_set(info, ERR_FENCED_MEMBER_EPOCH,
                           "the member is in the group with another instance id, or none");
    if (m && !same && m->epoch != GROUP_EPOCH_LEAVE_STATIC)
        return errinfo_set(info, ERR_UNRELEASED_INSTANCE,
                           "the instance id is owned by another member");
    return ERR_OK;
}

/* The member that speaks; *out NULL with ERR_OK: it is new. */
static enum err member_find(struct turn *t, const struct group_streams_heartbeat *h,
                            const struct owned *o, struct streams_member **out,
                            struct errinfo *info)
{
    uint32_t most = (uint32_t)t->c->conf.streams_size_max;
    enum err e = ERR_OK;

    if (!slice_is_null(h->instance_id))
        e = static_find(t, h, out, info);
    else
        *out = map_find(&t->g->members, h->member_id);
    if (e)
        return e;
    if (*out)
        return slice_eq((*out)->id, h->member_id) ? epoch_check(*out, h->member_epoch, o, info)
                                                  : ERR_OK;
    if (h->member_epoch != GROUP_EPOCH_JOIN)
        return errinfo_set(info, ERR_UNKNOWN_MEMBER, "the group has no such member");
    if (t->g->members.n >= most)
        return errinfo_set(info, ERR_GROUP_MAX_SIZE,
                           "The streams group has reached its maximum capacity of %u members.",
                           most);
    return ERR_OK;
}

static enum err topology_follow(struct live_group *g, const struct group_streams_heartbeat *h,
                                struct errinfo *info)
{
    struct streams_group *sg = g->streams;
    bool changed;
    enum err e = ERR_OK;

    if (!sg->has_topology)
        e = h->topology ? streams_topology_take(g, h->topology)
                        : invalid(info, "the group has no topology");
    else if (h->topology && h->topology->epoch >= sg->topology.epoch &&
             !streams_topology_same(sg, h->topology))
        e = invalid(info, "Topology updates are not supported yet.");
    if (!e && !(e = streams_topology_refresh(g, h->standby_replicas, &changed, info)))
        sg->topics_changed |= changed;
    return e;
}

/* ---- heartbeats: what is answered ---- */

static void status_add(struct group_wait_state *s, enum streams_status_code code, const char *text)
{
    struct group_streams_result *r = &s->r.streams;

    ASSERT(r->status_n < STREAMS_STATUS_MAX);
    r->status[r->status_n++] = (struct streams_status){code, wait_dup(s, slice_str(text))};
}

static void statuses(const struct streams_group *sg, const struct streams_member *m,
                     struct group_wait_state *s)
{
    char text[LIMIT_MEMBER_ID + 160];

    if (m->topology_epoch < sg->topology.epoch) {
        snprintf(text, sizeof text,
                 "The member's topology epoch %d is behind the group's topology epoch %d.",
                 (int)m->topology_epoch, (int)sg->topology.epoch);
        status_add(s, STREAMS_STALE_TOPOLOGY, text);
    }
    if (m->group->generation > sg->assignment_epoch)
        status_add(s, STREAMS_DELAYED,
                   timer_on(&sg->initial)
                       ? "Assignment delayed due to the configured initial rebalance delay."
                       : "Assignment delayed due to the configured assignment interval.");
    if (sg->has_status)
        status_add(s, sg->status, sg->detail);
    if (!slice_is_null(sg->shutdown_by)) {
        snprintf(text, sizeof text,
                 "Streams group member %.*s encountered a fatal error and requested a shutdown for "
                 "the entire application.",
                 (int)sg->shutdown_by.len, (const char *)sg->shutdown_by.ptr);
        status_add(s, STREAMS_SHUTDOWN, text);
    }
}

static void answer(struct turn *t, const struct group_streams_heartbeat *h,
                   struct group_wait_state *s, const struct streams_member *m, bool tasks)
{
    struct group_streams_result *r = &s->r.streams;
    struct streams_group *sg = t->g->streams;

    *r = (struct group_streams_result){.member_id = wait_dup(s, m->id),
                                       .member_epoch = m->epoch,
                                       .heartbeat_ms = h->heartbeat_ms,
                                       .has_tasks = tasks};
    statuses(sg, m, s);
    if (tasks)
        streams__tasks(&s->arena, sg, &m->assigned, r->tasks, r->tasks_n);
    r->endpoint_epoch = sg->endpoint_epoch;
    if (sg->endpoint_epoch != h->endpoint_epoch && sg->configured)
        streams__endpoints(&s->arena, t->g, r);
    streams__missing(&s->arena, sg, r);
    s->generation = m->epoch;
    turn_answer(t, s);
}

static bool endpoint_new(const struct streams_member *m, const struct group_streams_heartbeat *h)
{
    return !slice_is_null(h->endpoint_host) &&
           (slice_is_null(m->host) || !slice_eq(m->host, h->endpoint_host) ||
            m->port != h->endpoint_port);
}

/* Where the member is, or what it has there. All members are told where what is, each with its next
 * heartbeat; of one without an endpoint they know nothing. */
static void endpoints_changed(const struct streams_member *m)
{
    struct streams_group *sg = m->group->streams;

    if (!slice_is_null(m->host))
        sg->endpoint_epoch = sg->endpoint_epoch == INT32_MAX ? 0 : sg->endpoint_epoch + 1;
}

static void shutdown_note(struct live_group *g, const struct group_streams_heartbeat *h)
{
    if (!h->shutdown)
        return;
    text_free(&g->streams->shutdown_by);
    g->streams->shutdown_by = text_own(h->member_id);
}

/* The group's epoch, if something is new. */
static void epoch_follow(struct live_group *g, const struct group_streams_heartbeat *h,
                         bool said_new)
{
    struct streams_group *sg = g->streams;
    int32_t validated = sg->ready ? sg->topology.epoch : -1;

    if (!said_new && !sg->topics_changed && validated == sg->validated_epoch &&
        sg->standbys == h->standby_replicas)
        return;
    sg->topics_changed = false;
    sg->validated_epoch = validated;
    sg->standbys = h->standby_replicas;
    bump(g);
}

static enum err beat(struct turn *t, const struct group_streams_heartbeat *h,
                     struct group_wait_state *s, const struct owned *o, struct errinfo *info)
{
    struct task_sets before = {0};
    struct streams_member *m = NULL;
    bool first = t->g->members.n == 0, said_new = false, elsewhere, changed;
    int32_t was;
    unsigned r;
    enum err e = member_find(t, h, o, &m, info);

    if (!e)
        e = topology_follow(t->g, h, info);
    if (!e)
        e = owned_check(t->g->streams, o, info);
    if (!e && !m) {
        said_new = true;
        e = (m = member_add(t, h)) ? ERR_OK : ERR_COORDINATOR;
    }
    if (!e && !member_room(t, m, h)) {
        if (said_new)
            member_drop(t, m);
        e = ERR_COORDINATOR;
    }
    if (e)
        return e;
    if (m->epoch == GROUP_EPOCH_LEAVE_STATIC)
        member_rename(m, h->member_id);
    for (r = 0; r < STREAMS_ROLES; r++)
        part_set_copy(&before.of[r], &m->assigned.of[r]);
    was = m->epoch;
    if (h->member_epoch == GROUP_EPOCH_JOIN)
        member_restart(m);
    elsewhere = endpoint_new(m, h);
    said_new |= member_say(m, h);
    group_timer_set(&m->session, t->now_ms + h->session_timeout_ms);
    shutdown_note(t->g, h);
    if (first && h->initial_delay_ms > 0)
        group_timer_set(&t->g->streams->initial, t->now_ms + h->initial_delay_ms);
    t->g->streams->interval_ms = h->interval_ms;
    epoch_follow(t->g, h, said_new);
    target_follow(t, m, o);
    if (m->epoch != was)
        turn_image_soon(t);
    changed = !task_sets_same(&before, &m->assigned);
    if (elsewhere || changed)
        endpoints_changed(m);
    answer(t, h, s, m,
           changed || h->member_epoch == GROUP_EPOCH_JOIN ||
               (o->said && !task_sets_same(&o->sets, &m->assigned)));
    task_sets_fini(&before);
    return ERR_OK;
}

static enum err leave(struct turn *t, const struct group_streams_heartbeat *h,
                      struct group_wait_state *s, struct errinfo *info)
{
    struct streams_member *m = map_find(&t->g->members, h->member_id);
    struct task_sets none = {0};

    if (!slice_is_null(h->instance_id)) {
        m = map_find(&t->g->instances, h->instance_id);
        if (m && !slice_eq(m->id, h->member_id))
            return errinfo_set(info, ERR_FENCED_INSTANCE,
                               "another member has this instance id now");
    }
    if (!m)
        return errinfo_set(info, ERR_UNKNOWN_MEMBER, "the group has no such member");
    shutdown_note(t->g, h);
    if (h->member_epoch == GROUP_EPOCH_LEAVE) {
        member_fence(t, m);
    } else {
        struct task_sets kept = m->assigned;

        memset(&m->assigned, 0, sizeof m->assigned);
        sets_change(m, &kept, &none, 0);
        m->epoch = GROUP_EPOCH_LEAVE_STATIC;
        group_timer_clear(&m->rebalance);
    }
    s->r.streams = (struct group_streams_result){.member_id = wait_dup(s, h->member_id),
                                                 .member_epoch = h->member_epoch};
    turn_answer(t, s);
    return ERR_OK;
}

/* What the group has not configured is the server's. */
static void conf_fill(const struct group_conf *server, struct group_streams_heartbeat *h)
{
    bool session = h->session_timeout_ms < 0, interval = h->heartbeat_ms < 0;

    if (session)
        h->session_timeout_ms = server->streams_session_timeout_ms;
    if (interval)
        h->heartbeat_ms = server->streams_heartbeat_ms;
    if (session != interval && h->heartbeat_ms >= h->session_timeout_ms)
        h->heartbeat_ms = (h->session_timeout_ms + 2) / 3; /* the two do not know of each other */
    if (h->standby_replicas < 0)
        h->standby_replicas = server->streams_standby_replicas;
    if (h->initial_delay_ms < 0)
        h->initial_delay_ms = server->streams_initial_delay_ms;
    if (h->interval_ms < 0)
        h->interval_ms = server->streams_interval_ms;
}

void streams_heartbeat(struct turn *t, const struct group_streams_heartbeat *asked,
                       struct group_wait_state *s)
{
    struct group_streams_heartbeat h = *asked;
    struct slice text = SLICE_NULL;
    struct errinfo info = {0};
    struct owned o;
    enum err e = heartbeat_check(&h, &info);

    conf_fill(&t->c->conf, &h);
    if (!e)
        e = group_find(t, &h, &info);
    if (!e && h.member_epoch < 0) {
        e = leave(t, &h, s, &info);
    } else if (!e) {
        owned_read(t->g->streams, &h, &o);
        e = beat(t, &h, s, &o, &info);
        task_sets_fini(&o.sets);
    }
    if (!e)
        return;
    if (info.text[0])
        text = wait_dup(s, slice_of(info.text, strlen(info.text) + 1));
    turn_answer_error(t, s, e, h.member_id, (const char *)text.ptr);
}

/* ---- offsets ---- */

/* Has the member had, since that epoch, a task that reads the partition? */
static bool had_since(const struct streams_group *sg, const struct streams_member *m,
                      const struct partition *p, int32_t epoch)
{
    struct slice topic = slice_str(topic_name(partition_topic(p)));
    struct topic_part task;
    uint32_t at = 0;

    while (streams_task_of(sg, topic, partition_index(p), &at, &task)) {
        const struct streams_owner *o = owner_find(sg, task);

        if (o && o->member == m && o->epoch <= epoch)
            return true;
    }
    return false;
}

enum err streams_commit_check(struct turn *t, const struct group_member *gm)
{
    struct streams_member *m = map_find(&t->g->members, gm->member_id);
    unsigned i;

    if (!m)
        return ERR_UNKNOWN_MEMBER;
    if (gm->generation == m->epoch)
        return ERR_OK;
    if (gm->generation > m->epoch || gm->generation < 0 || gm->parts_n == 0)
        return ERR_STALE_MEMBER_EPOCH;
    for (i = 0; i < gm->parts_n; i++)
        if (!had_since(t->g->streams, m, gm->parts[i], gm->generation))
            return ERR_STALE_MEMBER_EPOCH;
    return ERR_OK;
}
