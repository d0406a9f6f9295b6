/* Groups whose members speak both protocols: while a program goes from one to the other, member by
 * member.
 *
 *   classic group --- a member joins by heartbeat (mixed_upgrade) ---> consumer group
 *   consumer group --- the last that heartbeats goes, or a static one comes back by join
 *                      (mixed_downgrade) ---> classic group, which rebalances
 *
 * In a consumer group, a member of the classic protocol is served as if its leader had assigned
 * what the coordinator does: a join is a full heartbeat (its metadata says what it subscribes to and
 * owns), a sync gives the bytes of its present assignment, and a heartbeat tells it to join again
 * whenever it is to give something up or may get more. It has its rebalance timeout to do so, and as
 * long to sync.
 *
 * Only members of protocol type "consumer" whose bytes decode can be moved. Facts: Apache Kafka 4.2
 * (KIP-848, "online migration"). Under the lock of the group's shard. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "broker/consumer_int.h"

/* ---- what classic members write ---- */

/* Topics of a subscription, and partitions of it or of an assignment. */
struct words {
    struct live_group *g;
    struct slice *names;
    uint32_t names_n, names_cap;
    struct owned_parts owned;
};

static void on_topic(void *arg, struct slice name)
{
    struct words *w = arg;

    if (w->names_n == w->names_cap) {
        w->names_cap = w->names_cap ? w->names_cap * 2 : 16;
        w->names = xrealloc(w->names, w->names_cap * sizeof *w->names);
    }
    w->names[w->names_n++] = name;
}

/* Of topics that the group knows; others are nobody's here. */
static void on_part(void *arg, struct slice name, int32_t partition)
{
    struct words *w = arg;
    struct topic *t = topic_find(w->g->broker, name);
    struct group_topic *gt = t ? consumer_topic(w->g, topic_id(t)) : NULL;

    if (gt && partition >= 0 && partition < gt->partitions)
        part_set_add(&w->owned.set, (struct topic_part){.topic = gt->id, .partition = partition});
    topic_unref(&t);
}

static void words_fini(struct words *w)
{
    free(w->names);
    part_set_fini(&w->owned.set);
}

static enum err put_name(struct buf *b, const struct group_topic *gt)
{
    enum err e = buf_append_be16(b, (uint16_t)gt->name_len);

    return e ? e : buf_append(b, gt->name, gt->name_len);
}

/* The member's assignment as its leader would write it, in the version that the member speaks. */
static enum err assignment_write(const struct consumer_member *m, struct buf *b)
{
    int version = subscription_read(m->protocols->p[0].metadata, NULL, NULL, NULL);
    const struct part_set *s = &m->assigned;
    uint32_t i, k, topics = 0;
    enum err e;

    for (i = 0; i < s->n; i++)
        topics += i == 0 || s->v[i].topic != s->v[i - 1].topic;
    e = buf_append_be16(b, (uint16_t)(version < 0 ? 0 : version));
    if (!e)
        e = buf_append_be32(b, topics);
    for (i = 0; i < s->n && !e; i = k) {
        for (k = i; k < s->n && s->v[k].topic == s->v[i].topic; k++)
            ;
        e = put_name(b, consumer_topic(m->group, s->v[i].topic));
        if (!e)
            e = buf_append_be32(b, k - i);
        for (; i < k && !e; i++)
            e = buf_append_be32(b, (uint32_t)s->v[i].partition);
    }
    return e ? e : buf_append_be32(b, UINT32_MAX); /* no user data */
}

/* ---- from classic to consumer ---- */

struct moved {
    struct moved_member *v;
    unsigned n;
    struct arena arena; /* their texts */
};

static struct slice moved_text(struct moved *mv, struct slice s)
{
    if (s.len == 0)
        return slice_is_null(s) ? SLICE_NULL : slice_of("", 0);
    s = arena_dup(&mv->arena, s);
    ASSERT(s.ptr);
    return s;
}

static void moved_init(struct moved *mv, unsigned n)
{
    mv->v = xcalloc(n + 1, sizeof *mv->v);
    mv->n = 0;
    arena_init(&mv->arena, 4096, SIZE_MAX / 2);
}

static void moved_fini(struct moved *mv)
{
    unsigned i;

    for (i = 0; i < mv->n; i++) {
        protocols_unref(&mv->v[i].protocols);
        blob_unref(&mv->v[i].assignment);
    }
    free(mv->v);
    arena_fini(&mv->arena);
}

/* Whether all members' subscriptions and assignments decode. */
static bool upgradable(const struct turn *t)
{
    const struct live_group *g = t->g;
    const struct classic_member *m;

    if (!t->c->conf.upgrade || !classic_is_consumer_type(g) ||
        g->members.n >= (uint32_t)t->c->conf.consumer_size_max)
        return false;
    list_for_each(m, &g->list, struct classic_member, link)
    {
        struct slice a = blob_slice(m->assignment);

        if (subscription_read(m->protocols->p[0].metadata, NULL, NULL, NULL) < 0 ||
            (a.len && !assignment_read(a, NULL, NULL)))
            return false;
    }
    return true;
}

static void classic_out(struct turn *t, struct moved *mv)
{
    struct live_group *g = t->g;

    moved_init(mv, g->members.n);
    while (!list_empty(&g->list)) {
        struct classic_member *m = list_entry(g->list.node.next, struct classic_member, link);
        struct moved_member *to = &mv->v[mv->n++];

        to->id = moved_text(mv, m->id);
        to->instance_id = moved_text(mv, m->instance_id);
        to->client_id = moved_text(mv, m->client_id);
        to->client_host = moved_text(mv, m->client_host);
        to->protocols = protocols_ref(m->protocols);
        to->assignment = blob_ref(m->assignment);
        to->session_ms = m->session_ms;
        to->rebalance_ms = m->rebalance_ms;
        classic_drop(t, m, ERR_REBALANCE_IN_PROGRESS);
    }
    classic_settle(g);
}

/* Makes it a member with the subscription that it had. */
static struct consumer_member *consumer_in(struct turn *t, const struct moved_member *from)
{
    struct words w = {.g = t->g};
    struct consumer_member *m;
    struct subscription *sub = NULL;

    subscription_read(from->protocols->p[0].metadata, on_topic, NULL, &w);
    m = consumer__add(t, from->id, from->instance_id, from->client_id, from->client_host);
    if (m && subscription_get(t, w.names, w.names_n, SLICE_LIT(""), &sub, NULL)) {
        consumer__drop(t, m);
        m = NULL;
    }
    if (m && !coordinator_take(t->c, from->protocols->bytes)) {
        subscription_unref(t->g, &sub);
        consumer__drop(t, m);
        m = NULL;
    }
    words_fini(&w);
    if (!m)
        return NULL;
    consumer__speaks(m, protocols_ref(from->protocols));
    m->subscription = sub;
    m->session_ms = from->session_ms;
    m->rebalance_ms = from->rebalance_ms;
    m->epoch = m->previous_epoch = t->g->generation;
    group_timer_set(&m->session, t->now_ms + m->session_ms);
    return m;
}

/* It has what its leader gave it, as far as that is there and nobody else has it. */
static void assignment_in(struct consumer_member *m, struct slice assignment)
{
    struct words w = {.g = m->group};
    struct part_set has = {NULL, 0, 0}, none = {NULL, 0, 0};
    uint32_t i;

    assignment_read(assignment, on_part, &w);
    part_set_sort(&w.owned.set);
    for (i = 0; i < w.owned.set.n; i++) {
        struct topic_part p = w.owned.set.v[i];

        if (!consumer_topic(m->group, p.topic)->owner[p.partition])
            part_set_add(&has, p);
    }
    part_set_copy(&m->target, &has);
    consumer__sets(m, &has, &none);
    words_fini(&w);
}

bool mixed_upgrade(struct turn *t)
{
    struct live_group *g = t->g;
    struct consumer_member *m;
    struct moved mv;
    bool changed;
    unsigned i;

    if (!upgradable(t))
        return false;
    classic_out(t, &mv);
    g->kind = GROUP_CONSUMER;
    consumer_topics_init(g);
    for (i = 0; i < mv.n; i++)
        consumer_in(t, &mv.v[i]); /* one for which there is no memory is told when it speaks */
    if (consumer_topics_refresh(t, &changed) == ERR_OK)
        for (i = 0; i < mv.n; i++)
            if ((m = map_find(&g->members, mv.v[i].id)))
                assignment_in(m, blob_slice(mv.v[i].assignment));
    moved_fini(&mv);
    return true;
}

/* ---- from consumer to classic ---- */

static void consumer_out(struct turn *t, struct moved *mv)
{
    struct live_group *g = t->g;
    struct consumer_member *m;

    moved_init(mv, g->members.n);
    while ((m = consumer_first(g))) {
        struct moved_member *to = &mv->v[mv->n++];

        to->id = moved_text(mv, m->id);
        to->instance_id = moved_text(mv, m->instance_id);
        to->client_id = moved_text(mv, m->client_id);
        to->client_host = moved_text(mv, m->client_host);
        to->protocols = protocols_ref(m->protocols);
        to->session_ms = m->session_ms;
        to->rebalance_ms = m->rebalance_ms;
        consumer__drop(t, m);
    }
}

bool mixed_downgrade(struct turn *t)
{
    struct live_group *g = t->g;
    struct moved mv;
    unsigned i;

    if (g->members.n == 0 || g->consumer->classic_n < g->members.n || !t->c->conf.downgrade ||
        g->members.n > (uint32_t)t->c->conf.size_max)
        return false;
    consumer_out(t, &mv);
    consumer_topics_fini(g);
    g->kind = GROUP_CLASSIC;
    classic_settle(g);
    for (i = 0; i < mv.n; i++)
        classic_adopt(t, &mv.v[i]);
    classic_rebalance(t);
    moved_fini(&mv);
    return true;
}

/* ---- members of the classic protocol in a consumer group ---- */

/* Who these ids are; ERR_OK: *out is it, and speaks the classic protocol. */
static enum err member_check(const struct live_group *g, struct slice id, struct slice instance_id,
                             struct consumer_member **out)
{
    struct consumer_member *m = slice_is_null(instance_id) ? map_find(&g->members, id)
                                                           : map_find(&g->instances, instance_id);

    *out = m;
    if (!m)
        return ERR_UNKNOWN_MEMBER;
    if (!slice_eq(m->id, id))
        return ERR_FENCED_INSTANCE;
    return m->protocols ? ERR_OK : ERR_UNKNOWN_MEMBER;
}

/* Whether all members of the classic protocol have one of these, and they decode. */
static bool protocols_fit(const struct live_group *g, const struct group_join *j)
{
    unsigned i;

    if (!slice_eq_str(j->protocol_type, "consumer") || j->protocols_n == 0 ||
        subscription_read(j->protocols[0].metadata, NULL, NULL, NULL) < 0)
        return false;
    for (i = 0; i < j->protocols_n; i++) {
        struct consumer_member *m;
        bool all = true;

        for (m = consumer_first(g); m && all; m = consumer_next(g, m))
            all =
                !m->protocols || !slice_is_null(protocols_find(m->protocols, j->protocols[i].name));
        if (all)
            return true;
    }
    return false;
}

/* The member that joins; made if it is new. */
static enum err join_find(struct turn *t, const struct group_join *j, struct slice id,
                          struct consumer_member **out)
{
    struct consumer_member *m = map_find(&t->g->members, id);

    if (!slice_is_null(j->instance_id)) {
        m = map_find(&t->g->instances, j->instance_id);
        if (m && j->member_id.len && !slice_eq(m->id, id))
            return ERR_FENCED_INSTANCE;
        if (!m && j->member_id.len)
            return ERR_UNKNOWN_MEMBER;
        if (m && !j->member_id.len)
            consumer__rename(t->g, m, id);
    }
    if (!m)
        m = consumer__add(t, id, j->instance_id, j->client_id, j->client_host);
    *out = m;
    return m ? ERR_OK : ERR_COORDINATOR;
}

static void answer_join(struct turn *t, struct group_wait_state *s, const struct consumer_member *m)
{
    s->generation = m->epoch;
    s->r.join = (struct group_join_result){.generation = m->epoch,
                                           .protocol_type = SLICE_LIT("consumer"),
                                           .protocol_name = wait_dup(s, m->protocols->p[0].name),
                                           .leader = slice_of("", 0),
                                           .member_id = wait_dup(s, m->id)};
    turn_answer(t, s);
}

/* The join as a heartbeat that says everything. */
static enum err join_beat(struct turn *t, const struct group_join *j, struct consumer_member *m)
{
    struct slice metadata = j->protocols[0].metadata;
    struct protocols *ps = protocols_new(j->protocols, j->protocols_n);
    struct words w = {.g = t->g, .owned.said = true};
    struct subscription *sub;
    enum err e;

    if (!coordinator_take(t->c, ps->bytes)) {
        protocols_unref(&ps);
        return ERR_COORDINATOR;
    }
    consumer__speaks(m, ps);
    m->session_ms = j->session_timeout_ms;
    m->rebalance_ms = j->rebalance_timeout_ms;
    group_timer_set(&m->session, t->now_ms + m->session_ms);
    subscription_read(metadata, on_topic, NULL, &w);
    e = subscription_get(t, w.names, w.names_n, SLICE_LIT(""), &sub, NULL);
    if (!e) {
        subscription_read(metadata, NULL, on_part, &w);
        part_set_sort(&w.owned.set);
        e = consumer__beat(t, m, sub, &w.owned);
    }
    words_fini(&w);
    return e;
}

/* The last member by heartbeat comes back by join: the group becomes a classic one, which it joins. */
static bool join_downgrades(struct turn *t, const struct group_join *j)
{
    struct consumer_member *m =
        slice_is_null(j->instance_id) ? NULL : map_find(&t->g->instances, j->instance_id);

    if (!m || m->protocols || j->member_id.len || t->g->members.n < 2 ||
        t->g->consumer->classic_n + 1 < t->g->members.n)
        return false;
    consumer__fence(t, m);
    return t->g->kind == GROUP_CLASSIC;
}

void mixed_join(struct turn *t, const struct group_join *j, struct group_wait_state *s)
{
    char made[MEMBER_ID_BYTES];
    struct slice id = j->member_id;
    struct consumer_member *m;
    enum err e = ERR_OK;

    if (id.len == 0)
        id = member_id_make(t->b, SLICE_LIT(""), made);
    if (t->g->members.n >= (uint32_t)t->c->conf.consumer_size_max && !map_find(&t->g->members, id))
        e = ERR_GROUP_MAX_SIZE;
    else if (!protocols_fit(t->g, j))
        e = ERR_INCONSISTENT_PROTOCOL;
    else if (j->member_id_required && j->member_id.len == 0 && slice_is_null(j->instance_id))
        e = ERR_MEMBER_ID_REQUIRED;
    if (e) {
        turn_answer_error(t, s, e, e == ERR_MEMBER_ID_REQUIRED ? id : j->member_id, NULL);
        return;
    }
    if (join_downgrades(t, j)) {
        classic_join(t, j, s);
        return;
    }
    e = join_find(t, j, id, &m);
    if (!e)
        e = join_beat(t, j, m);
    if (e) {
        turn_answer_error(t, s, e, j->member_id, NULL);
        return;
    }
    group_timer_set(&m->sync, t->now_ms + m->rebalance_ms);
    answer_join(t, s, m);
}

/* It is to join again, in its rebalance timeout. */
static enum err rejoin(struct turn *t, struct consumer_member *m)
{
    if (m->join.heap_at == TIMER_OFF)
        group_timer_set(&m->join, t->now_ms + m->rebalance_ms);
    return ERR_REBALANCE_IN_PROGRESS;
}

void mixed_join_fire(struct turn *t, struct group_timer *tm)
{
    consumer__fence(t, list_entry(tm, struct consumer_member, join));
}

void mixed_sync_fire(struct turn *t, struct group_timer *tm)
{
    consumer__fence(t, list_entry(tm, struct consumer_member, sync));
}

static bool other(struct slice said, struct slice is)
{
    return !slice_is_null(said) && !slice_eq(said, is);
}

static enum err sync_check(struct turn *t, const struct group_sync *y, struct consumer_member **m)
{
    enum err e = member_check(t->g, y->member_id, y->instance_id, m);

    if (e)
        return e;
    if (y->generation != (*m)->epoch)
        return ERR_ILLEGAL_GENERATION;
    if (other(y->protocol_type, SLICE_LIT("consumer")) ||
        other(y->protocol_name, (*m)->protocols->p[0].name))
        return ERR_INCONSISTENT_PROTOCOL;
    return t->g->generation > (*m)->epoch && (*m)->state != MEMBER_UNREVOKED ? rejoin(t, *m)
                                                                             : ERR_OK;
}

void mixed_sync(struct turn *t, const struct group_sync *y, struct group_wait_state *s)
{
    struct consumer_member *m;
    enum err e = sync_check(t, y, &m);
    struct buf b;

    buf_init(&b, LIMIT_GROUP_ASSIGNMENT);
    if (!e)
        e = assignment_write(m, &b);
    if (e) {
        turn_answer_error(t, s, e, SLICE_NULL, NULL);
        buf_fini(&b);
        return;
    }
    group_timer_clear(&m->sync);
    group_timer_set(&m->session, t->now_ms + m->session_ms);
    s->blob = blob_new(buf_slice(&b));
    s->generation = m->epoch;
    s->r.sync = (struct group_sync_result){.protocol_type = SLICE_LIT("consumer"),
                                           .protocol_name = wait_dup(s, m->protocols->p[0].name),
                                           .assignment = blob_slice(s->blob)};
    turn_answer(t, s);
    buf_fini(&b);
}

enum err mixed_heartbeat(struct turn *t, const struct group_member *gm)
{
    struct consumer_member *m;
    bool changed;
    enum err e = member_check(t->g, gm->member_id, gm->instance_id, &m);

    if (e)
        return e;
    if (gm->generation != m->epoch)
        return ERR_ILLEGAL_GENERATION;
    group_timer_set(&m->session, t->now_ms + m->session_ms);
    if (consumer_topics_refresh(t, &changed) == ERR_OK && changed)
        consumer__bump(t);
    if (m->epoch < t->g->generation || m->state == MEMBER_UNREVOKED ||
        (m->state == MEMBER_UNRELEASED && !consumer__waits(m)))
        return rejoin(t, m);
    return ERR_OK;
}

/* Members of either protocol may be taken out so: it is what administrators' tools call. */
static enum err leave_check(const struct live_group *g, const struct group_leaver *l,
                            struct consumer_member **m)
{
    *m = slice_is_null(l->instance_id) ? map_find(&g->members, l->member_id)
                                       : map_find(&g->instances, l->instance_id);
    if (!*m)
        return ERR_UNKNOWN_MEMBER;
    return l->member_id.len && !slice_eq((*m)->id, l->member_id) ? ERR_FENCED_INSTANCE : ERR_OK;
}

void mixed_leave(struct turn *t, struct group_leaver *leavers, unsigned n)
{
    struct consumer_member *m;
    bool left = false;
    unsigned i;

    for (i = 0; i < n; i++) {
        leavers[i].e = leave_check(t->g, &leavers[i], &m);
        if (leavers[i].e)
            continue;
        consumer__drop(t, m);
        left = true;
    }
    if (!left)
        return;
    t->persist = true;
    if (!mixed_downgrade(t))
        consumer__bump(t);
}
