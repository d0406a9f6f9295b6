/* Share groups (KIP-932): members that take records of the same partitions, one by one (cursor.h).
 * Here is who is a member, and which partitions each is to look at.
 *
 * Heartbeats, subscriptions, topics and epochs are those of consumer groups (consumer.c), and so are
 * its structs. But nobody owns a partition: there is nothing to give up before another may have it,
 * so a member is at the epoch of its target as soon as it speaks, `target` is what it has, and
 * `assigned` stays empty. There are no static members, and no assignor but one (assign_share).
 *
 * Facts of the protocol: Apache Kafka 4.2 (GroupMetadataManager, ShareGroup). Under the lock of the
 * group's shard. */
#include <string.h>

#include "broker/consumer_int.h"

bool share_group(struct turn *t, struct slice group)
{
    struct group_durable d;

    if (t->g)
        return t->g->kind == GROUP_SHARE;
    return group_durable_get(t->b, group, &d) && d.kind == GROUP_SHARE;
}

static enum err invalid(struct errinfo *info, const char *text)
{
    return errinfo_set(info, ERR_INVALID, "%s", text);
}

static enum err beat_check(const struct group_share_heartbeat *h, struct errinfo *info)
{
    if (h->member_id.len == 0)
        return invalid(info, "MemberId can't be empty.");
    if (!slice_is_null(h->rack_id) && h->rack_id.len == 0)
        return invalid(info, "RackId can't be empty.");
    if (h->rack_id.len > LIMIT_GROUP_WORD || h->member_id.len > LIMIT_MEMBER_ID)
        return errinfo_set(info, ERR_TOO_LARGE, "an id is too long");
    if (h->member_epoch < GROUP_EPOCH_LEAVE)
        return invalid(info, "MemberEpoch is invalid.");
    if (h->member_epoch == GROUP_EPOCH_JOIN && (!h->topics || h->topics_n == 0))
        return invalid(info, "SubscribedTopicNames must be set in first request.");
    return ERR_OK;
}

/* Makes t->g the share group that the heartbeat means. */
static enum err share_find(struct turn *t, const struct group_share_heartbeat *h,
                           struct errinfo *info)
{
    struct group_durable d;
    bool known = group_durable_get(t->b, h->group, &d);

    if (t->g ? t->g->kind == GROUP_SHARE : known && d.kind == GROUP_SHARE) {
        if (t->g)
            return ERR_OK;
    } else if (t->g || known) {
        return errinfo_set(info, ERR_GROUP_NOT_FOUND, "it is not a share group");
    }
    if (h->member_epoch != GROUP_EPOCH_JOIN)
        return known ? errinfo_set(info, ERR_UNKNOWN_MEMBER, "the group has no such member")
                     : errinfo_set(info, ERR_GROUP_NOT_FOUND, "there is no such group");
    turn_make(t, h->group, GROUP_SHARE);
    if (!t->g)
        return errinfo_set(info, ERR_COORDINATOR, "there are too many groups");
    consumer_topics_init(t->g);
    return ERR_OK;
}

/* The member that speaks; *out NULL with ERR_OK: it is new. One epoch behind is right: the answer
 * that told the new one may have been lost. */
static enum err member_find(struct turn *t, const struct group_share_heartbeat *h,
                            struct consumer_member **out, struct errinfo *info)
{
    struct consumer_member *m = map_find(&t->g->members, h->member_id);

    *out = m;
    if (h->member_epoch == GROUP_EPOCH_JOIN) {
        if (!m && t->g->members.n >= (uint32_t)t->c->conf.share_size_max)
            return errinfo_set(info, ERR_GROUP_MAX_SIZE,
                               "the share group has %d members, the most allowed",
                               (int)t->c->conf.share_size_max);
        return ERR_OK;
    }
    if (!m)
        return errinfo_set(info, ERR_UNKNOWN_MEMBER, "the group has no such member");
    if (h->member_epoch == m->epoch || h->member_epoch == m->previous_epoch ||
        h->member_epoch == GROUP_EPOCH_LEAVE)
        return ERR_OK;
    return errinfo_set(info, ERR_FENCED_MEMBER_EPOCH,
                       "the member is at epoch %d, not %d: it is to join again", (int)m->epoch,
                       (int)h->member_epoch);
}

/* Its subscription, the group's topics and epoch, the target. Takes over the reference. */
static enum err member_beat(struct turn *t, struct consumer_member *m, struct subscription *sub)
{
    enum err e = consumer__subscribe(t, m, sub);
    int32_t target;

    if (e)
        return e;
    target = t->g->consumer->assignment_epoch;
    if (m->epoch != target) {
        m->previous_epoch = m->epoch;
        m->epoch = target;
    }
    return ERR_OK;
}

/* The subscription after this heartbeat, referenced. */
static enum err subscription_next(struct turn *t, const struct consumer_member *m,
                                  const struct group_share_heartbeat *h, struct subscription **out,
                                  struct errinfo *info)
{
    if (m && !h->topics) {
        m->subscription->refs++;
        *out = m->subscription;
        return ERR_OK;
    }
    return subscription_get(t, h->topics, h->topics_n, SLICE_LIT(""), out, info);
}

static void answer(struct turn *t, struct group_wait_state *s, const struct consumer_member *m,
                   bool assignment)
{
    struct group_consumer_result *r = &s->r.consumer;

    *r = (struct group_consumer_result){.member_id = wait_dup(s, m->id),
                                        .member_epoch = m->epoch,
                                        .heartbeat_ms = t->c->conf.share_heartbeat_ms,
                                        .has_assignment = assignment};
    if (assignment)
        r->assignment = consumer__parts(&s->arena, t->g, &m->target, &r->assignment_n);
    s->generation = m->epoch;
    turn_answer(t, s);
}

static enum err beat(struct turn *t, const struct group_share_heartbeat *h,
                     struct group_wait_state *s, struct errinfo *info)
{
    struct subscription *sub = NULL;
    struct consumer_member *m;
    enum err e = member_find(t, h, &m, info);

    if (!e)
        e = subscription_next(t, m, h, &sub, info);
    if (!e && !m &&
        !(m = consumer__add(t, h->member_id, SLICE_NULL, h->client_id, h->client_host))) {
        subscription_unref(t->g, &sub);
        e = ERR_COORDINATOR;
    }
    if (e)
        return e;
    if (!slice_is_null(h->rack_id)) {
        blob_unref(&m->rack);
        m->rack = blob_new(h->rack_id);
    }
    group_timer_set(&m->session, t->now_ms + t->c->conf.share_session_timeout_ms);
    e = member_beat(t, m, sub);
    if (!e) /* others' heartbeats may have changed its target since it was told */
        answer(t, s, m, h->topics || h->member_epoch != m->epoch);
    return e;
}

static enum err leave(struct turn *t, const struct group_share_heartbeat *h,
                      struct group_wait_state *s, struct errinfo *info)
{
    struct consumer_member *m;
    enum err e = member_find(t, h, &m, info);

    if (e)
        return e;
    consumer__fence(t, m);
    s->r.consumer = (struct group_consumer_result){.member_id = wait_dup(s, h->member_id),
                                                   .member_epoch = h->member_epoch};
    turn_answer(t, s);
    return ERR_OK;
}

void share_heartbeat(struct turn *t, const struct group_share_heartbeat *h,
                     struct group_wait_state *s)
{
    struct slice text = SLICE_NULL;
    struct errinfo info = {0};
    enum err e = beat_check(h, &info);

    if (!e)
        e = share_find(t, h, &info);
    if (!e)
        e = h->member_epoch == GROUP_EPOCH_LEAVE ? leave(t, h, s, &info) : beat(t, h, s, &info);
    if (!e)
        return;
    if (info.text[0])
        text = wait_dup(s, slice_of(info.text, strlen(info.text) + 1));
    turn_answer_error(t, s, e, h->member_id, (const char *)text.ptr);
}
