/* Consumer groups (KIP-848): members heartbeat, the coordinator assigns.
 *
 * Epochs: the group's (live_group.generation) grows when members come, go or subscribe to other
 * topics, or when topics change; the assignment's is that of the group for which the target was
 * computed; a member's is that of the target which it has reached. All are durable before told.
 *
 *   STABLE ------ a newer target; something to give up -----> UNREVOKED
 *     |  ^                                                        | it no longer owns that: its
 *     |  |  all that it is to get is free                         | epoch goes on by one
 *     |  +--------------------------- UNRELEASED <----------------+
 *     +---- nothing to give up, not all free ---^       (or STABLE, or UNREVOKED again)
 *
 * Invariants:
 *   1. group_topic.owner of a partition is the member in whose `assigned` or `revoking` it is, so
 *      nobody gets a partition before its former owner says by heartbeat that it gave it up, or is
 *      removed.
 *   2. Targets of all members together have each partition at most once.
 *   3. A member that does not give up in its rebalance timeout, or is silent for the session's time,
 *      is removed, and its partitions are free.
 *   4. A static member that left with epoch -2 keeps what it has until its session is over; who comes
 *      with its instance id and epoch 0 becomes it.
 *
 * Facts of the protocol: Apache Kafka 4.2 (GroupMetadataManager, CurrentAssignmentBuilder). Under the
 * lock of the group's shard, all of it. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "broker/consumer_int.h"
#include "broker/notices.h"
#include "broker/streams_int.h"

/* ---- members ---- */

static void session_fire(struct turn *t, struct group_timer *tm);
static void rebalance_fire(struct turn *t, struct group_timer *tm);

struct consumer_member *consumer__add(struct turn *t, struct slice id, struct slice instance_id,
                                      struct slice client_id, struct slice client_host)
{
    struct live_group *g = t->g;
    struct consumer_member *m;
    size_t bytes = sizeof *m + id.len + instance_id.len + client_id.len + client_host.len + 5 * 16;

    if (!coordinator_take(t->c, bytes))
        return NULL;
    m = xcalloc(1, sizeof *m);
    m->group = g;
    m->bytes = bytes;
    m->id = text_own(id);
    m->instance_id = text_own(instance_id);
    m->client_id = text_own(client_id);
    m->client_host = text_own(client_host);
    m->assignor = ASSIGNOR_NONE;
    m->previous_epoch = -1;
    group_timer_init(&m->session, g, session_fire);
    group_timer_init(&m->rebalance, g, rebalance_fire);
    group_timer_init(&m->join, g, mixed_join_fire);
    group_timer_init(&m->sync, g, mixed_sync_fire);
    live_index(g, m->id, m->instance_id, m);
    NOTICE_GROUP(t->b, NOTICE_JOIN, live_name(g), m->id, 0);
    list_push_back(&g->list, &m->link);
    return m;
}

void consumer__speaks(struct consumer_member *m, struct protocols *protocols)
{
    struct consumer_group *cg = m->group->consumer;

    cg->classic_n += (protocols != NULL) - (m->protocols != NULL);
    if (m->protocols)
        coordinator_give(m->group->broker->coordinator, m->protocols->bytes);
    protocols_unref(&m->protocols);
    m->protocols = protocols;
    group_timer_clear(&m->join);
    group_timer_clear(&m->sync);
    group_timer_clear(&m->rebalance);
}

/* Each partition of the set is m's from now on, or nobody's. */
static void owner_set(struct live_group *g, const struct part_set *set, struct consumer_member *m)
{
    uint32_t i;

    for (i = 0; i < set->n; i++) {
        struct group_topic *gt = consumer_topic(g, set->v[i].topic);

        ASSERT(gt && set->v[i].partition < gt->partitions);
        ASSERT((gt->owner[set->v[i].partition] != NULL) == (m == NULL));
        gt->owner[set->v[i].partition] = m;
        gt->owned += m ? 1 : UINT32_MAX;
        if (gt->owned == 0 && gt->subscriptions == 0)
            g->consumer->counts_stale = true;
    }
}

/* Takes over both sets (moved from). */
void consumer__sets(struct consumer_member *m, struct part_set *assigned, struct part_set *revoking)
{
    owner_set(m->group, &m->assigned, NULL);
    owner_set(m->group, &m->revoking, NULL);
    part_set_fini(&m->assigned);
    part_set_fini(&m->revoking);
    m->assigned = *assigned;
    m->revoking = *revoking;
    *assigned = *revoking = (struct part_set){NULL, 0, 0};
    owner_set(m->group, &m->assigned, m);
    owner_set(m->group, &m->revoking, m);
}

void consumer__drop(struct turn *t, struct consumer_member *m)
{
    struct live_group *g = t->g;
    struct part_set none = {NULL, 0, 0}, none_too = {NULL, 0, 0};

    consumer__sets(m, &none, &none_too);
    part_set_fini(&m->target);
    consumer__speaks(m, NULL);
    group_timer_clear(&m->session);
    live_unindex(g, m->id, m->instance_id);
    NOTICE_GROUP(t->b, NOTICE_LEAVE, live_name(g), m->id, 0);
    list_remove(&m->link);
    subscription_unref(g, &m->subscription);
    coordinator_give(t->c, m->bytes);
    text_free(&m->id);
    text_free(&m->instance_id);
    text_free(&m->client_id);
    text_free(&m->client_host);
    blob_unref(&m->rack);
    free(m);
}

void consumer_drop_first(struct turn *t)
{
    consumer__drop(t, consumer_first(t->g));
}

void consumer_fini(struct live_group *g)
{
    consumer_topics_fini(g);
}

void consumer__bump(struct turn *t)
{
    if (t->g->generation < INT32_MAX)
        t->g->generation++;
}

void consumer__fence(struct turn *t, struct consumer_member *m)
{
    consumer__drop(t, m);
    t->persist = true;
    if (!mixed_downgrade(t))
        consumer__bump(t);
}

static void session_fire(struct turn *t, struct group_timer *tm)
{
    consumer__fence(t, list_entry(tm, struct consumer_member, session));
}

static void rebalance_fire(struct turn *t, struct group_timer *tm)
{
    struct consumer_member *m = list_entry(tm, struct consumer_member, rebalance);

    if (m->epoch == m->rebalance_epoch)
        consumer__fence(t, m);
}

/* ---- reconciliation ---- */

static void owned_read(const struct live_group *g, const struct group_consumer_heartbeat *h,
                       struct owned_parts *o)
{
    unsigned i, k;

    *o = (struct owned_parts){.said = h->owned != NULL};
    for (i = 0; o->said && i < h->owned_n; i++) {
        const struct group_topic_partitions *tp = &h->owned[i];
        struct group_topic *gt = consumer_topic_uuid(g, tp->topic_uuid);

        o->unknown |= !gt && tp->n;
        for (k = 0; gt && k < tp->n; k++)
            part_set_add(&o->set,
                         (struct topic_part){.topic = gt->id, .partition = tp->partitions[k]});
    }
    part_set_sort(&o->set);
}

static bool owns_any(const struct owned_parts *o, const struct part_set *set)
{
    uint32_t i;

    for (i = 0; o->said && i < set->n; i++)
        if (part_set_has(&o->set, set->v[i]))
            return true;
    return !o->said;
}

static bool owns_only(const struct owned_parts *o, const struct part_set *set)
{
    uint32_t i;

    for (i = 0; o->said && i < o->set.n; i++)
        if (!part_set_has(set, o->set.v[i]))
            return false;
    return o->said && !o->unknown;
}

static void member_epoch(struct consumer_member *m, enum consumer_state_of state, int32_t epoch)
{
    m->state = state;
    m->previous_epoch = m->epoch;
    m->epoch = epoch;
}

/* The member, at this epoch, goes towards its target as far as it can. */
static void advance(struct turn *t, struct consumer_member *m, int32_t epoch,
                    const struct owned_parts *o)
{
    struct part_set kept = {NULL, 0, 0}, gone = {NULL, 0, 0}, wanted = {NULL, 0, 0};
    struct part_set none = {NULL, 0, 0};
    int32_t target = t->g->consumer->assignment_epoch;
    bool unreleased = false;
    uint32_t i;

    part_set_pick(&kept, &m->assigned, &m->target, true);
    part_set_pick(&gone, &m->assigned, &m->target, false);
    part_set_pick(&wanted, &m->target, &kept, false);
    if (gone.n && owns_any(o, &gone)) {
        consumer__sets(m, &kept, &gone);
        member_epoch(m, MEMBER_UNREVOKED, epoch);
    } else {
        for (i = 0; i < wanted.n; i++) {
            if (consumer_topic(t->g, wanted.v[i].topic)->owner[wanted.v[i].partition])
                unreleased = true;
            else
                part_set_add(&kept, wanted.v[i]);
        }
        part_set_sort(&kept);
        consumer__sets(m, &kept, &none);
        member_epoch(m, unreleased ? MEMBER_UNRELEASED : MEMBER_STABLE, target);
    }
    part_set_fini(&kept);
    part_set_fini(&gone);
    part_set_fini(&wanted);
}

static void reconcile(struct turn *t, struct consumer_member *m, const struct owned_parts *o)
{
    switch (m->state) {
    case MEMBER_STABLE:
        if (m->epoch == t->g->consumer->assignment_epoch)
            return;
        advance(t, m, m->epoch, o);
        break;
    case MEMBER_UNREVOKED:
        if (owns_any(o, &m->revoking))
            return;
        advance(t, m, m->epoch + 1, o);
        break;
    case MEMBER_UNRELEASED:
        advance(t, m, m->epoch, o);
        break;
    }
    if (m->state != MEMBER_UNREVOKED || m->protocols) {
        group_timer_clear(&m->rebalance);
        return;
    }
    m->rebalance_epoch = m->epoch;
    group_timer_set(&m->rebalance, t->now_ms + m->rebalance_ms);
}

/* ---- heartbeats ---- */

static enum err invalid(struct errinfo *info, const char *text)
{
    return errinfo_set(info, ERR_INVALID, "%s", text);
}

static bool empty(struct slice s)
{
    return !slice_is_null(s) && s.len == 0;
}

static enum err heartbeat_check(const struct group_consumer_heartbeat *h, struct errinfo *info)
{
    if (empty(h->instance_id))
        return invalid(info, "InstanceId can't be empty.");
    if (empty(h->rack_id))
        return invalid(info, "RackId can't be empty.");
    if (h->instance_id.len > LIMIT_GROUP_WORD || h->rack_id.len > LIMIT_GROUP_WORD ||
        h->member_id.len > LIMIT_MEMBER_ID)
        return errinfo_set(info, ERR_TOO_LARGE, "an id is too long");
    if (h->member_epoch < GROUP_EPOCH_LEAVE_STATIC)
        return invalid(info, "MemberEpoch is invalid.");
    if (h->member_epoch != GROUP_EPOCH_JOIN && h->member_id.len == 0)
        return invalid(info, "MemberId can't be empty.");
    if (h->member_epoch == GROUP_EPOCH_LEAVE_STATIC && slice_is_null(h->instance_id))
        return invalid(info, "InstanceId can't be null.");
    if (!slice_is_null(h->assignor) && assignor_of(h->assignor) == ASSIGNOR_NONE)
        return errinfo_set(info, ERR_UNSUPPORTED_ASSIGNOR,
                           "ServerAssignor %.*s is not supported. Supported assignors: uniform, "
                           "range, roundrobin.",
                           (int)(h->assignor.len > 64 ? 64 : h->assignor.len),
                           (const char *)h->assignor.ptr);
    if (h->member_epoch != GROUP_EPOCH_JOIN)
        return ERR_OK;
    if (h->rebalance_timeout_ms == -1)
        return invalid(info, "RebalanceTimeoutMs must be provided in first request.");
    if (!h->owned || h->owned_n)
        return invalid(info, "TopicPartitions must be empty when (re-)joining.");
    if (!h->topics && slice_is_null(h->topic_regex))
        return invalid(info, "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null "
                             "when (re-)joining.");
    return ERR_OK;
}

/* Before members of another kind are moved for the sake of this heartbeat. */
static enum err regex_check(const struct group_consumer_heartbeat *h, struct errinfo *info)
{
    struct topic_regex *r = NULL;
    enum err e = h->topic_regex.len ? topic_regex_new(h->topic_regex, &r, info) : ERR_OK;

    topic_regex_free(&r);
    return e;
}

/* Makes t->g the consumer group that the heartbeat means. */
static enum err group_find(struct turn *t, const struct group_consumer_heartbeat *h,
                           struct errinfo *info)
{
    struct group_durable d;
    enum err e = ERR_OK;

    if (share_group(t, h->group))
        return errinfo_set(info, ERR_GROUP_NOT_FOUND, "it is a share group");
    if (streams_group(t, h->group))
        return errinfo_set(info, ERR_GROUP_NOT_FOUND, "it is a streams group");
    if (t->g && t->g->kind == GROUP_CONSUMER)
        return ERR_OK;
    if (t->g && (t->g->members.n || t->g->classic.state != GROUP_EMPTY)) {
        if (h->member_epoch == GROUP_EPOCH_JOIN && !(e = regex_check(h, info)) && mixed_upgrade(t))
            return ERR_OK;
        return e ? e
                 : errinfo_set(
                       info, ERR_GROUP_NOT_FOUND,
                       "the group has members of the classic protocol: it is not a consumer "
                       "group while they are in it");
    }
    if (h->member_epoch != GROUP_EPOCH_JOIN)
        return group_durable_get(t->b, h->group, &d)
                   ? errinfo_set(info, ERR_UNKNOWN_MEMBER, "the group has no such member")
                   : errinfo_set(info, ERR_GROUP_NOT_FOUND, "there is no such group");
    if (t->g) {
        classic_forget_pending(t->g);
        t->g->kind = GROUP_CONSUMER;
    } else {
        turn_make(t, h->group, GROUP_CONSUMER);
    }
    if (!t->g)
        return errinfo_set(info, ERR_COORDINATOR, "there are too many groups");
    consumer_topics_init(t->g);
    return ERR_OK;
}

static enum err epoch_check(const struct consumer_member *m, int32_t epoch,
                            const struct owned_parts *o, struct errinfo *info)
{
    if (epoch == m->epoch)
        return ERR_OK;
    /* one behind is right when the answer that told the new epoch was lost */
    if (epoch < m->epoch && epoch == m->previous_epoch && owns_only(o, &m->assigned))
        return ERR_OK;
    return errinfo_set(info, ERR_FENCED_MEMBER_EPOCH,
                       "The consumer group member has a %s member epoch (%d) than the one known by "
                       "the group coordinator (%d). The member must abandon all its partitions and "
                       "rejoin.",
                       epoch > m->epoch ? "greater" : "smaller", (int)epoch, (int)m->epoch);
}

/* A static member is back under another id. */
void consumer__rename(struct live_group *g, struct consumer_member *m, struct slice id)
{
    live_unindex(g, m->id, m->instance_id);
    text_free(&m->id);
    m->id = text_own(id);
    live_index(g, m->id, m->instance_id, m);
    m->state = MEMBER_STABLE;
    m->epoch = m->previous_epoch = 0;
    group_timer_clear(&m->rebalance);
}

static enum err static_find(struct turn *t, const struct group_consumer_heartbeat *h,
                            struct slice id, const struct owned_parts *o,
                            struct consumer_member **out, struct errinfo *info)
{
    struct consumer_member *m = map_find(&t->g->instances, h->instance_id);

    *out = m;
    if (h->member_epoch == GROUP_EPOCH_JOIN) {
        if (!m)
            return map_find(&t->g->members, id)
                       ? errinfo_set(info, ERR_FENCED_MEMBER_EPOCH,
                                     "the member is in the group without this instance id")
                       : ERR_OK;
        if (m->epoch != GROUP_EPOCH_LEAVE_STATIC && !slice_eq(m->id, id) && !m->protocols)
            return errinfo_set(info, ERR_UNRELEASED_INSTANCE,
                               "the instance id is owned by another member");
        if (m->epoch != GROUP_EPOCH_LEAVE_STATIC && slice_eq(m->id, id))
            return epoch_check(m, 0, o, info);
        if (!slice_eq(m->id, id) && map_find(&t->g->members, id))
            return errinfo_set(info, ERR_FENCED_MEMBER_EPOCH,
                               "the member is in the group with another instance id");
        consumer__rename(t->g, m, id);
        return ERR_OK;
    }
    if (!m)
        return errinfo_set(info, ERR_UNKNOWN_MEMBER, "the instance id is unknown");
    if (!slice_eq(m->id, id))
        return errinfo_set(info, ERR_FENCED_INSTANCE, "another member has this instance id now");
    return epoch_check(m, h->member_epoch, o, info);
}

/* The member that speaks; *out NULL with ERR_OK: it is new. */
static enum err member_find(struct turn *t, const struct group_consumer_heartbeat *h,
                            struct slice id, const struct owned_parts *o,
                            struct consumer_member **out, struct errinfo *info)
{
    uint32_t most = (uint32_t)t->c->conf.consumer_size_max;
    struct consumer_member *m = map_find(&t->g->members, id);

    *out = NULL;
    if (!m && t->g->members.n >= most)
        return errinfo_set(info, ERR_GROUP_MAX_SIZE,
                           "The consumer group has reached its maximum capacity of %u members.",
                           most);
    if (!slice_is_null(h->instance_id))
        return static_find(t, h, id, o, out, info);
    *out = m;
    if (m)
        return epoch_check(m, h->member_epoch, o, info);
    return h->member_epoch == GROUP_EPOCH_JOIN
               ? ERR_OK
               : errinfo_set(info, ERR_UNKNOWN_MEMBER, "the group has no such member");
}

/* The subscription after this heartbeat, referenced. */
static enum err subscription_next(struct turn *t, const struct consumer_member *m,
                                  const struct group_consumer_heartbeat *h,
                                  struct subscription **out, struct errinfo *info)
{
    struct subscription *old = m ? m->subscription : NULL;
    const struct slice *names = old ? old->names : NULL;
    struct slice regex = old ? old->regex : SLICE_LIT("");
    uint32_t n = old ? old->names_n : 0;

    if (old && !h->topics && slice_is_null(h->topic_regex)) {
        old->refs++;
        *out = old;
        return ERR_OK;
    }
    if (h->topics) {
        names = h->topics;
        n = h->topics_n;
    }
    if (!slice_is_null(h->topic_regex))
        regex = h->topic_regex;
    return subscription_get(t, names, n, regex, out, info);
}

static void member_say(struct consumer_member *m, const struct group_consumer_heartbeat *h)
{
    if (h->rebalance_timeout_ms >= 0)
        m->rebalance_ms = h->rebalance_timeout_ms;
    if (!slice_is_null(h->assignor))
        m->assignor = assignor_of(h->assignor);
    if (!slice_is_null(h->rack_id)) {
        blob_unref(&m->rack);
        m->rack = blob_new(h->rack_id);
    }
}

/* ---- answers ---- */

struct group_topic_partitions *consumer__parts(struct arena *a, const struct live_group *g,
                                               const struct part_set *set, unsigned *n)
{
    struct group_topic_partitions *out, *tp = NULL;
    int32_t *p = arena_alloc(a, (set->n + 1) * sizeof *p);
    unsigned topics = 0;
    uint32_t i;

    for (i = 0; i < set->n; i++)
        topics += i == 0 || set->v[i].topic != set->v[i - 1].topic;
    out = arena_zalloc(a, topics + 1, sizeof *out);
    *n = 0;
    if (!p || !out)
        return NULL;
    for (i = 0; i < set->n; i++) {
        if (i == 0 || set->v[i].topic != set->v[i - 1].topic) {
            const struct group_topic *gt = consumer_topic(g, set->v[i].topic);

            tp = &out[(*n)++];
            if (gt) {
                memcpy(tp->topic_uuid, gt->uuid, 16);
                tp->topic = arena_dup(a, slice_of(gt->name, gt->name_len));
            }
            tp->partitions = &p[i];
        }
        p[i] = set->v[i].partition;
        tp->n++;
    }
    return out;
}

static void answer(struct turn *t, struct group_wait_state *s, const struct consumer_member *m,
                   bool assignment)
{
    struct group_consumer_result *r = &s->r.consumer;

    *r = (struct group_consumer_result){.member_id = wait_dup(s, m->id),
                                        .member_epoch = m->epoch,
                                        .heartbeat_ms = t->c->conf.consumer_heartbeat_ms,
                                        .has_assignment = assignment};
    if (assignment)
        r->assignment = consumer__parts(&s->arena, t->g, &m->assigned, &r->assignment_n);
    s->generation = m->epoch;
    turn_answer(t, s);
}

static void answer_error(struct turn *t, struct group_wait_state *s, enum err e, struct slice id,
                         const struct errinfo *info)
{
    struct slice text = SLICE_NULL;

    if (info->text[0])
        text = wait_dup(s, slice_of(info->text, strlen(info->text) + 1));
    turn_answer_error(t, s, e, id, (const char *)text.ptr);
}

static enum err leave(struct turn *t, const struct group_consumer_heartbeat *h,
                      struct errinfo *info)
{
    struct consumer_member *m = map_find(&t->g->members, h->member_id);
    struct part_set kept = {NULL, 0, 0}, none = {NULL, 0, 0};

    if (!slice_is_null(h->instance_id)) {
        m = map_find(&t->g->instances, h->instance_id);
        if (m && !slice_eq(m->id, h->member_id))
            return errinfo_set(info, ERR_FENCED_INSTANCE,
                               "another member has this instance id now");
    }
    if (!m)
        return errinfo_set(info, ERR_UNKNOWN_MEMBER, "the group has no such member");
    if (h->member_epoch == GROUP_EPOCH_LEAVE) {
        consumer__fence(t, m);
        return ERR_OK;
    }
    part_set_copy(&kept, &m->assigned);
    consumer__sets(m, &kept, &none);
    m->epoch = GROUP_EPOCH_LEAVE_STATIC;
    group_timer_clear(&m->rebalance);
    return ERR_OK;
}

enum err consumer__subscribe(struct turn *t, struct consumer_member *m, struct subscription *sub)
{
    struct live_group *g = t->g;
    bool anew = m->subscription != sub, changed;
    enum err e;

    if (anew) {
        subscription_unref(g, &m->subscription);
        m->subscription = sub;
        g->consumer->counts_stale = true;
        consumer__bump(t);
    } else {
        subscription_unref(g, &sub);
    }
    if ((e = consumer_topics_refresh(t, &changed)))
        return e;
    if (changed && !anew)
        consumer__bump(t);
    if (g->generation > g->consumer->assignment_epoch)
        consumer_target(g);
    return ERR_OK;
}

/* Its subscription, the group's topics and epoch, the target, and the way there. */
enum err consumer__beat(struct turn *t, struct consumer_member *m, struct subscription *sub,
                        const struct owned_parts *o)
{
    int32_t before = m->epoch;
    enum err e = consumer__subscribe(t, m, sub);

    if (e)
        return e;
    reconcile(t, m, o);
    if (m->epoch != before)
        turn_image_soon(t);
    return ERR_OK;
}

static void beat_member(struct turn *t, const struct group_consumer_heartbeat *h, struct slice id,
                        const struct owned_parts *o, struct group_wait_state *s)
{
    struct part_set before = {NULL, 0, 0};
    struct subscription *sub = NULL;
    struct consumer_member *m = NULL;
    struct errinfo info = {0};
    bool full = h->member_epoch == GROUP_EPOCH_JOIN ||
                (h->rebalance_timeout_ms != -1 && h->topics && h->owned);
    enum err e = member_find(t, h, id, o, &m, &info);

    if (!e)
        e = subscription_next(t, m, h, &sub, &info);
    if (!e && !m && !(m = consumer__add(t, id, h->instance_id, h->client_id, h->client_host))) {
        subscription_unref(t->g, &sub);
        e = ERR_COORDINATOR;
    }
    if (!e) {
        part_set_copy(&before, &m->assigned);
        member_say(m, h);
        if (m->protocols)
            consumer__speaks(m, NULL);
        group_timer_set(&m->session, t->now_ms + t->c->conf.consumer_session_timeout_ms);
        e = consumer__beat(t, m, sub, o);
    }
    if (e)
        answer_error(t, s, e, id, &info);
    else
        answer(t, s, m, full || !part_set_same(&before, &m->assigned));
    part_set_fini(&before);
}

void consumer_heartbeat(struct turn *t, const struct group_consumer_heartbeat *h,
                        struct group_wait_state *s)
{
    char made[MEMBER_ID_BYTES];
    struct slice id = h->member_id;
    struct errinfo info = {0};
    struct owned_parts o;
    enum err e = heartbeat_check(h, &info);

    if (!e)
        e = group_find(t, h, &info);
    if (!e && h->member_epoch < 0 && !(e = leave(t, h, &info))) {
        s->r.consumer = (struct group_consumer_result){.member_id = wait_dup(s, id),
                                                       .member_epoch = h->member_epoch};
        turn_answer(t, s);
        return;
    }
    if (e) {
        answer_error(t, s, e, id, &info);
        return;
    }
    if (id.len == 0)
        id = member_id_make(t->b, SLICE_LIT(""), made);
    owned_read(t->g, h, &o);
    beat_member(t, h, id, &o, s);
    part_set_fini(&o.set);
}

/* ---- offsets ---- */

enum err consumer_commit_check(struct turn *t, const struct group_member *gm)
{
    struct consumer_member *m = map_find(&t->g->members, gm->member_id);

    if (!m)
        return ERR_UNKNOWN_MEMBER;
    if (gm->generation == m->epoch)
        return ERR_OK;
    return m->protocols ? ERR_ILLEGAL_GENERATION : ERR_STALE_MEMBER_EPOCH;
}

bool consumer__waits(const struct consumer_member *m)
{
    uint32_t i;

    for (i = 0; m->state == MEMBER_UNRELEASED && i < m->target.n; i++) {
        struct topic_part p = m->target.v[i];

        if (!part_set_has(&m->assigned, p) && consumer_topic(m->group, p.topic)->owner[p.partition])
            return true;
    }
    return false;
}

bool consumer_subscribes(const struct live_group *g, uint32_t topic)
{
    const struct group_topic *gt = consumer_topic(g, topic);

    return gt && gt->subscriptions > 0;
}

/* ---- looking ---- */

enum group_state consumer_state(const struct live_group *g)
{
    struct consumer_member *m;

    if (g->members.n == 0)
        return GROUP_EMPTY;
    if (g->kind == GROUP_SHARE)
        return GROUP_STABLE;
    if (g->generation > g->consumer->assignment_epoch)
        return GROUP_ASSIGNING;
    for (m = consumer_first(g); m; m = consumer_next(g, m))
        if (m->state != MEMBER_STABLE || m->epoch != g->consumer->assignment_epoch)
            return GROUP_RECONCILING;
    return GROUP_STABLE;
}

static struct slice out(struct arena *a, struct slice s)
{
    return s.len ? arena_dup(a, s) : slice_is_null(s) ? SLICE_NULL : slice_of("", 0);
}

static void describe_member(const struct consumer_member *m, struct group_description_member *d,
                            struct arena *a)
{
    const struct subscription *s = m->subscription;
    struct slice *names = s ? arena_zalloc(a, s->names_n + 1, sizeof *names) : NULL;
    uint32_t i;

    d->member_id = out(a, m->id);
    d->instance_id = out(a, m->instance_id);
    d->client_id = out(a, m->client_id);
    d->client_host = out(a, m->client_host);
    d->rack_id = m->rack ? out(a, blob_slice(m->rack)) : SLICE_NULL;
    d->epoch = m->epoch;
    d->classic = m->protocols != NULL;
    for (i = 0; names && i < s->names_n; i++)
        names[i] = out(a, s->names[i]);
    d->topics = names;
    d->topics_n = names ? s->names_n : 0;
    d->topic_regex = s && s->regex.len ? out(a, s->regex) : SLICE_NULL;
    d->assigned = consumer__parts(a, m->group, consumer_has(m), &d->assigned_n);
    d->target = consumer__parts(a, m->group, &m->target, &d->target_n);
}

void consumer_describe(const struct live_group *g, struct group_description *d, struct arena *a)
{
    struct consumer_member *m;

    d->kind = g->kind;
    d->state = consumer_state(g);
    d->generation = g->generation;
    d->assignment_epoch = g->consumer->assignment_epoch;
    d->protocol_type = slice_str(group_kind_text(g->kind));
    d->protocol = g->kind == GROUP_SHARE ? SLICE_LIT("simple")
                                         : slice_str(assignor_text(consumer_assignor(g)));
    d->members = arena_zalloc(a, g->members.n + 1, sizeof *d->members);
    for (m = consumer_first(g); m && d->members; m = consumer_next(g, m))
        describe_member(m, &d->members[d->members_n++], a);
}

static enum err image_parts(const struct consumer_member *m, struct buf *b)
{
    const struct part_set *has = consumer_has(m);
    enum err e = buf_append_u8(b, '{');
    uint32_t i;

    for (i = 0; i < has->n && !e; i++) {
        struct topic_part p = has->v[i];
        bool same = i && has->v[i - 1].topic == p.topic;
        const struct group_topic *gt = consumer_topic(m->group, p.topic);

        if (i)
            e = buf_append_str(b, same ? "," : "],");
        if (!same && !e)
            e = json_write_string(b, slice_of(gt->name, gt->name_len));
        if (!same && !e)
            e = buf_append_str(b, ":[");
        if (!e)
            e = json_write_i64(b, p.partition);
    }
    return e ? e : buf_append_str(b, has->n ? "]}" : "}");
}

enum err consumer_images(const struct live_group *g, struct buf *members, struct buf *assignment)
{
    struct consumer_member *m;
    bool first = true;
    enum err e = ERR_OK;

    for (m = consumer_first(g); m && !e; m = consumer_next(g, m)) {
        e = json_member(members, first, m->id, m->instance_id, m->client_id, m->client_host);
        if (!e)
            e = json_member_key(assignment, first, m->id);
        if (!e)
            e = image_parts(m, assignment);
        first = false;
    }
    return e;
}
