/* Classic groups: the rebalance by join and sync.
 *
 *              a member joins                       all have joined, or time is up (join_complete)
 *   EMPTY ---------------------> PREPARING_REBALANCE ---------------------> COMPLETING_REBALANCE
 *     ^      (prepare)            |            ^   ^                          |           |
 *     |   no member is left       |            |   | join, leave, expiry      |           | the
 *     +---------------------------+            |   +--------------------------+           | leader's
 *         (join_complete)                      |     join, leave, expiry, changed         | sync
 *                                              +------------- metadata -------- STABLE <--+
 *
 * Facts of the protocol, as Apache Kafka's coordinator has them (ClassicGroup, GroupMetadataManager):
 *   1. The first rebalance of an empty group waits for group.initial.rebalance.delay.ms, and again
 *      whenever somebody joined meanwhile, up to the longest rebalance timeout in all.
 *   2. Later ones wait until every member has joined and every id given out was used, at most for
 *      the longest rebalance timeout. Dynamic members that have not joined are then removed; static
 *      ones stay, until their session is over.
 *   3. The leader stays as long as it joins; else the first that joined is. Generation and protocol
 *      (each member votes for the first of its list that all support) are new with each completion.
 *   4. Who does not sync within the rebalance timeout is removed. A member whose join or sync waits
 *      does not expire, except a new one, which has NEW_MEMBER_MS.
 *   5. A static member that comes back with its instance id and no member id replaces its former
 *      self under a new id; in a stable group whose protocol stays, without a rebalance. What the
 *      old id awaited, and whatever it says later, is answered ERR_FENCED_INSTANCE.
 *
 * Under the lock of the group's shard, all of it; see coordinator_int.h. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/coordinator_int.h"
#include "broker/notices.h"

/* How long a new member's join may wait before it is taken for gone. */
#define NEW_MEMBER_MS (5 * 60 * 1000)

struct protocol_count {
    uint32_t n, votes;
    uint32_t len;
    char name[];
};

static void join_complete(struct turn *t);
static void join_fire(struct turn *t, struct group_timer *tm);
static void sync_fire(struct turn *t, struct group_timer *tm);
static void rebalance_or_complete(struct turn *t);

void classic_init(struct live_group *g)
{
    struct classic_group *cl = &g->classic;

    cl->state = cl->previous = GROUP_EMPTY;
    map_init(&cl->protocols, LIMIT_GROUP_MEMBERS * LIMIT_GROUP_PROTOCOLS, g->broker->hash_seed);
    map_init(&cl->pending, LIMIT_GROUP_MEMBERS, g->broker->hash_seed);
    list_init(&cl->pending_list);
    group_timer_init(&cl->join, g, join_fire);
    group_timer_init(&cl->sync, g, sync_fire);
}

bool classic_idle(const struct live_group *g)
{
    return g->classic.state == GROUP_EMPTY && g->classic.pending.n == 0;
}

static void pending_remove(struct live_group *g, struct pending_member *p)
{
    map_remove(&g->classic.pending, p->id);
    list_remove(&p->link);
    group_timer_clear(&p->session);
    coordinator_give(g->broker->coordinator, sizeof *p + p->id.len);
    free(p);
}

void classic_forget_pending(struct live_group *g)
{
    struct list_head *l = &g->classic.pending_list;

    while (!list_empty(l))
        pending_remove(g, list_entry(l->node.next, struct pending_member, link));
}

void classic_fini(struct live_group *g)
{
    struct classic_group *cl = &g->classic;

    classic_forget_pending(g);
    ASSERT(cl->protocols.n == 0 && !cl->leader);
    group_timer_clear(&cl->join);
    group_timer_clear(&cl->sync);
    map_fini(&cl->protocols);
    map_fini(&cl->pending);
    blob_unref(&cl->protocol_type);
    blob_unref(&cl->protocol);
}

static void state_set(struct live_group *g, enum group_state state)
{
    g->classic.previous = g->classic.state;
    g->classic.state = state;
}

static struct classic_member *member_first(const struct live_group *g)
{
    return list_empty(&g->list) ? NULL : list_entry(g->list.node.next, struct classic_member, link);
}

static struct classic_member *member_next(const struct live_group *g, struct classic_member *m)
{
    struct list_node *n = m->link.next;

    return n == &g->list.node ? NULL : list_entry(n, struct classic_member, link);
}

/* ---- protocols ---- */

static void protocols_count(struct live_group *g, const struct protocols *ps, bool more)
{
    struct map *counts = &g->classic.protocols;
    unsigned i;

    for (i = 0; i < ps->n; i++) {
        struct protocol_count *pc = map_find(counts, ps->p[i].name);

        if (more && !pc) {
            pc = xcalloc(1, sizeof *pc + ps->p[i].name.len);
            pc->len = (uint32_t)ps->p[i].name.len;
            memcpy(pc->name, ps->p[i].name.ptr, pc->len);
            if (map_put(counts, slice_of(pc->name, pc->len), pc))
                ASSERT(false);
        }
        pc->n += more ? 1 : UINT32_MAX;
        if (pc->n == 0) {
            map_remove(counts, ps->p[i].name);
            free(pc);
        }
    }
}

/* Whether somebody with this type and these protocols can be a member along with those there. */
static bool protocols_fit(const struct live_group *g, const struct group_join *j)
{
    unsigned i;

    if (g->classic.state == GROUP_EMPTY)
        return j->protocol_type.len && j->protocols_n;
    if (!slice_eq(blob_slice(g->classic.protocol_type), j->protocol_type))
        return g->members.n == 0 && j->protocol_type.len && j->protocols_n;
    for (i = 0; i < j->protocols_n; i++) {
        struct protocol_count *pc = map_find(&g->classic.protocols, j->protocols[i].name);

        if ((pc ? pc->n : 0) == g->members.n)
            return true;
    }
    return false;
}

/* The protocol that most vote for among those that all support; at a tie the one that the leader
 * likes best. There is one: see protocols_fit. */
static struct slice protocol_select(struct live_group *g)
{
    struct map *counts = &g->classic.protocols;
    const struct protocols *ps = g->classic.leader->protocols;
    struct protocol_count *pc, *best = NULL;
    struct classic_member *m;
    uint32_t at = 0;
    unsigned i;
    void *v;

    while (map_next(counts, &at, NULL, &v))
        ((struct protocol_count *)v)->votes = 0;
    for (m = member_first(g); m; m = member_next(g, m))
        for (i = 0; i < m->protocols->n; i++) {
            pc = map_find(counts, m->protocols->p[i].name);
            if (pc->n == g->members.n) {
                pc->votes++;
                break;
            }
        }
    for (i = 0; i < ps->n; i++) {
        pc = map_find(counts, ps->p[i].name);
        if (pc->n == g->members.n && (!best || pc->votes > best->votes))
            best = pc;
    }
    ASSERT(best);
    return slice_of(best->name, best->len);
}

bool classic_is_consumer_type(const struct live_group *g)
{
    return slice_eq(blob_slice(g->classic.protocol_type), SLICE_LIT("consumer"));
}

bool classic_subscribes(const struct live_group *g, struct slice topic)
{
    struct classic_member *m;

    if (!g->classic.protocol)
        return g->members.n > 0;
    for (m = member_first(g); m; m = member_next(g, m)) {
        struct slice metadata = protocols_find(m->protocols, blob_slice(g->classic.protocol));

        if (subscription_has(metadata, topic))
            return true;
    }
    return false;
}

/* ---- answers ---- */

static bool joined(const struct classic_member *m)
{
    return m->join_wait != NULL;
}

static struct slice null_if_empty(struct blob *x)
{
    return x ? blob_slice(x) : SLICE_NULL;
}

/* The members, for the leader. */
static void answer_members(struct group_wait_state *s, const struct live_group *g)
{
    struct group_join_member *out = wait_alloc(s, g->members.n, sizeof *out);
    struct classic_member *m;
    unsigned n = 0;

    s->held = wait_alloc(s, g->members.n, sizeof(struct protocols *));
    for (m = member_first(g); m; m = member_next(g, m)) {
        struct slice metadata = protocols_find(m->protocols, blob_slice(g->classic.protocol));

        s->held[n] = protocols_ref(m->protocols);
        out[n++] = (struct group_join_member){.member_id = wait_dup(s, m->id),
                                              .instance_id = wait_dup(s, m->instance_id),
                                              .metadata = metadata};
    }
    s->held_n = n;
    s->r.join.members = out;
    s->r.join.members_n = n;
}

/* The present generation as the answer to a join. */
static void answer_join(struct turn *t, struct group_wait_state *s, const struct classic_member *m,
                        struct slice leader, bool members, bool skip_assignment)
{
    struct live_group *g = t->g;

    s->generation = g->generation;
    s->r.join = (struct group_join_result){
        .generation = g->generation,
        .protocol_type = wait_dup(s, null_if_empty(g->classic.protocol_type)),
        .protocol_name = wait_dup(s, null_if_empty(g->classic.protocol)),
        .leader = wait_dup(s, leader),
        .member_id = wait_dup(s, m->id),
        .skip_assignment = skip_assignment};
    if (members)
        answer_members(s, g);
    turn_answer(t, s);
}

static void answer_generation(struct turn *t, struct group_wait_state *s,
                              const struct classic_member *m)
{
    answer_join(t, s, m, t->g->classic.leader->id, m == t->g->classic.leader, false);
}

static void join_answer_take(struct turn *t, struct classic_member *m, enum err e, struct slice id)
{
    struct group_wait_state *s = m->join_wait;

    if (!s)
        return;
    m->join_wait = NULL;
    t->g->classic.awaiting_n--;
    turn_answer_error(t, s, e, id, NULL);
}

static void sync_answer(struct turn *t, struct classic_member *m, struct group_wait_state *s)
{
    struct live_group *g = t->g;

    s->blob = blob_ref(m->assignment);
    s->generation = g->generation;
    s->r.sync = (struct group_sync_result){
        .protocol_type = wait_dup(s, null_if_empty(g->classic.protocol_type)),
        .protocol_name = wait_dup(s, null_if_empty(g->classic.protocol)),
        .assignment = blob_slice(s->blob)};
    turn_answer(t, s);
}

static void sync_answer_take(struct turn *t, struct classic_member *m, enum err e)
{
    struct group_wait_state *s = m->sync_wait;

    if (!s)
        return;
    m->sync_wait = NULL;
    if (e)
        turn_answer_error(t, s, e, SLICE_NULL, NULL);
    else
        sync_answer(t, m, s);
}

/* ---- members ---- */

static void session_restart(struct turn *t, struct classic_member *m)
{
    group_timer_set(&m->session, t->now_ms + m->session_ms);
}

static void session_fire(struct turn *t, struct group_timer *tm);
static void pending_fire(struct turn *t, struct group_timer *tm);

static char *text_put(char *at, struct slice *dst, struct slice src)
{
    if (slice_is_null(src)) {
        *dst = SLICE_NULL;
        return at;
    }
    if (src.len)
        memcpy(at, src.ptr, src.len);
    *dst = slice_of(at, src.len);
    return at + src.len + 1;
}

/* A member in no group yet. Its bytes are taken already. */
static struct classic_member *member_new(struct live_group *g, struct slice id,
                                         struct slice instance_id, struct slice client_id,
                                         struct slice client_host, struct protocols *protocols)
{
    size_t text = id.len + instance_id.len + client_id.len + client_host.len + 4;
    struct classic_member *m = xcalloc(1, sizeof *m + text);
    char *at = m->text;

    at = text_put(at, &m->id, id);
    at = text_put(at, &m->instance_id, instance_id);
    at = text_put(at, &m->client_id, client_id);
    text_put(at, &m->client_host, client_host);
    m->group = g;
    m->protocols = protocols;
    m->bytes = sizeof *m + text;
    group_timer_init(&m->session, g, session_fire);
    return m;
}

static void pending_sync_set(struct live_group *g, struct classic_member *m, bool on)
{
    if (m->pending_sync == on)
        return;
    m->pending_sync = on;
    g->classic.pending_sync_n += on ? 1 : UINT32_MAX;
}

static void member_free(struct live_group *g, struct classic_member *m)
{
    struct coordinator *c = g->broker->coordinator;

    ASSERT(!m->join_wait && !m->sync_wait);
    group_timer_clear(&m->session);
    coordinator_give(c, m->bytes + (m->assignment ? m->assignment->len : 0) +
                            (m->protocols ? m->protocols->bytes : 0));
    protocols_unref(&m->protocols);
    blob_unref(&m->assignment);
    free(m);
}

void classic_drop(struct turn *t, struct classic_member *m, enum err e)
{
    struct live_group *g = t->g;

    join_answer_take(t, m, e, SLICE_LIT(""));
    sync_answer_take(t, m, e);
    live_unindex(g, m->id, m->instance_id);
    NOTICE_GROUP(t->b, NOTICE_LEAVE, live_name(g), m->id, 0);
    list_remove(&m->link);
    protocols_count(g, m->protocols, false);
    pending_sync_set(g, m, false);
    if (g->classic.leader == m)
        g->classic.leader = member_first(g);
    member_free(g, m);
}

/* What the member's protocols and assignment take changes by so much; false at the limit. */
static bool bytes_change(struct turn *t, size_t old, size_t new)
{
    if (new > old)
        return coordinator_take(t->c, new - old);
    coordinator_give(t->c, old - new);
    return true;
}

/* Takes over what a join says. False at the limit of memory; nothing is changed then. */
static bool member_update(struct turn *t, struct classic_member *m, const struct group_join *j,
                          struct group_wait_state *s)
{
    struct live_group *g = t->g;
    struct protocols *ps = protocols_new(j->protocols, j->protocols_n);

    if (!bytes_change(t, m->protocols->bytes, ps->bytes)) {
        protocols_unref(&ps);
        turn_answer_error(t, s, ERR_COORDINATOR, j->member_id, NULL);
        return false;
    }
    protocols_count(g, m->protocols, false);
    protocols_unref(&m->protocols);
    m->protocols = ps;
    protocols_count(g, ps, true);
    m->session_ms = j->session_timeout_ms;
    m->rebalance_ms = j->rebalance_timeout_ms;
    join_answer_take(t, m, ERR_REBALANCE_IN_PROGRESS, m->id);
    m->join_wait = s;
    g->classic.awaiting_n++;
    return true;
}

static void member_add(struct turn *t, const struct group_join *j, struct slice id,
                       struct group_wait_state *s)
{
    struct live_group *g = t->g;
    struct classic_group *cl = &g->classic;
    struct protocols *ps = protocols_new(j->protocols, j->protocols_n);
    struct pending_member *p = map_find(&cl->pending, id);
    struct classic_member *m = member_new(g, id, j->instance_id, j->client_id, j->client_host, ps);

    if (!coordinator_take(t->c, m->bytes + ps->bytes)) {
        protocols_unref(&ps);
        free(m);
        turn_answer_error(t, s, ERR_COORDINATOR, id, NULL);
        return;
    }
    m->session_ms = j->session_timeout_ms;
    m->rebalance_ms = j->rebalance_timeout_ms;
    m->is_new = true;
    if (cl->state == GROUP_PREPARING_REBALANCE && cl->previous == GROUP_EMPTY)
        cl->new_member = true;
    if (g->members.n == 0) {
        blob_unref(&cl->protocol_type);
        cl->protocol_type = blob_new(j->protocol_type);
    }
    if (p)
        pending_remove(g, p);
    live_index(g, m->id, m->instance_id, m);
    NOTICE_GROUP(t->b, NOTICE_JOIN, live_name(g), m->id, 0);
    list_push_back(&g->list, &m->link);
    protocols_count(g, ps, true);
    if (!cl->leader)
        cl->leader = m;
    m->join_wait = s;
    cl->awaiting_n++;
    group_timer_set(&m->session, t->now_ms + NEW_MEMBER_MS);
    rebalance_or_complete(t);
}

/* ---- rebalancing ---- */

static int64_t rebalance_ms(const struct live_group *g)
{
    struct classic_member *m;
    int32_t most = 0;

    for (m = member_first(g); m; m = member_next(g, m))
        if (m->rebalance_ms > most)
            most = m->rebalance_ms;
    return most;
}

static bool all_joined(const struct live_group *g)
{
    return g->classic.awaiting_n == g->members.n && g->classic.pending.n == 0;
}

static void syncs_clear(struct live_group *g)
{
    struct classic_member *m;

    if (g->classic.pending_sync_n)
        for (m = member_first(g); m; m = member_next(g, m))
            pending_sync_set(g, m, false);
    group_timer_clear(&g->classic.sync);
}

static void assignment_set(struct turn *t, struct classic_member *m, struct slice assignment)
{
    struct blob *x = blob_new(assignment);

    coordinator_give(t->c, m->assignment ? m->assignment->len : 0);
    /* may pass the limit by one generation's assignments, which were checked as a whole */
    atomic_fetch_add(&t->c->bytes, x ? x->len : 0);
    blob_unref(&m->assignment);
    m->assignment = x;
}

/* The syncs that wait are answered with an error, and nobody has an assignment. */
static void assignments_reset(struct turn *t, enum err e)
{
    struct classic_member *m;

    for (m = member_first(t->g); m; m = member_next(t->g, m)) {
        assignment_set(t, m, SLICE_NULL);
        if (m->sync_wait)
            session_restart(t, m);
        sync_answer_take(t, m, e);
    }
}

static void prepare(struct turn *t)
{
    struct live_group *g = t->g;
    struct classic_group *cl = &g->classic;
    bool initial = cl->state == GROUP_EMPTY;

    if (cl->state == GROUP_COMPLETING_REBALANCE)
        assignments_reset(t, ERR_REBALANCE_IN_PROGRESS);
    syncs_clear(g);
    state_set(g, GROUP_PREPARING_REBALANCE);
    if (initial) {
        cl->initial = true;
        cl->new_member = false;
        cl->delay_ms = t->c->conf.initial_rebalance_delay_ms;
        cl->remaining_ms = rebalance_ms(g) - cl->delay_ms;
        if (cl->remaining_ms < 0)
            cl->remaining_ms = 0;
        group_timer_set(&cl->join, t->now_ms + cl->delay_ms);
        if (cl->delay_ms == 0)
            join_complete(t);
        return;
    }
    if (all_joined(g)) {
        join_complete(t);
        return;
    }
    cl->initial = false;
    group_timer_set(&cl->join, t->now_ms + rebalance_ms(g));
}

/* The join phase ends if everybody is there, unless it is the first one's delay. */
static void maybe_complete(struct turn *t)
{
    struct classic_group *cl = &t->g->classic;

    if (cl->state == GROUP_PREPARING_REBALANCE && cl->previous != GROUP_EMPTY && all_joined(t->g))
        join_complete(t);
}

static void rebalance_or_complete(struct turn *t)
{
    if (t->g->classic.state == GROUP_PREPARING_REBALANCE)
        maybe_complete(t);
    else
        prepare(t);
}

static void join_fire(struct turn *t, struct group_timer *tm)
{
    struct classic_group *cl = &t->g->classic;
    int64_t delay;

    if (!cl->initial || !cl->new_member || cl->remaining_ms == 0) {
        join_complete(t);
        return;
    }
    cl->new_member = false;
    delay = t->c->conf.initial_rebalance_delay_ms;
    if (delay > cl->remaining_ms)
        delay = cl->remaining_ms;
    cl->remaining_ms = cl->remaining_ms > cl->delay_ms ? cl->remaining_ms - cl->delay_ms : 0;
    cl->delay_ms = delay;
    group_timer_set(tm, t->now_ms + delay);
}

/* A leader that has joined: the present one, or the first that has. */
static bool leader_elect(struct live_group *g)
{
    struct classic_member *m;

    if (!g->classic.leader)
        return false;
    if (joined(g->classic.leader))
        return true;
    for (m = member_first(g); m; m = member_next(g, m))
        if (joined(m)) {
            g->classic.leader = m;
            return true;
        }
    return false;
}

static void stragglers_drop(struct turn *t)
{
    struct list_node *n, *next;

    for (n = t->g->list.node.next; n != &t->g->list.node; n = next) {
        struct classic_member *m = list_entry(n, struct classic_member, link);

        next = n->next;
        if (!joined(m) && slice_is_null(m->instance_id))
            classic_drop(t, m, ERR_UNKNOWN_MEMBER);
    }
}

static void generation_next(struct live_group *g)
{
    if (g->generation < INT32_MAX)
        g->generation++;
    syncs_clear(g);
    blob_unref(&g->classic.protocol);
    if (g->members.n)
        g->classic.protocol = blob_new(protocol_select(g));
    state_set(g, g->members.n ? GROUP_COMPLETING_REBALANCE : GROUP_EMPTY);
}

static void join_complete(struct turn *t)
{
    struct live_group *g = t->g;
    struct classic_group *cl = &g->classic;
    struct group_wait_state *s;
    struct classic_member *m;

    group_timer_clear(&cl->join);
    cl->initial = false;
    stragglers_drop(t);
    if (!leader_elect(g) && g->members.n) {
        group_timer_set(&cl->join, t->now_ms + rebalance_ms(g));
        return;
    }
    generation_next(g);
    t->persist = true;
    if (g->members.n == 0)
        return;
    for (m = member_first(g); m; m = member_next(g, m)) {
        s = m->join_wait;
        m->join_wait = NULL;
        if (s) {
            cl->awaiting_n--;
            answer_generation(t, s, m);
        }
        session_restart(t, m);
        m->is_new = false;
        pending_sync_set(g, m, true);
    }
    ASSERT(cl->awaiting_n == 0);
    group_timer_set(&cl->sync, t->now_ms + rebalance_ms(g));
}

static void sync_fire(struct turn *t, struct group_timer *tm)
{
    struct live_group *g = t->g;
    struct list_node *n, *next;

    if ((g->classic.state != GROUP_COMPLETING_REBALANCE && g->classic.state != GROUP_STABLE) ||
        g->classic.pending_sync_n == 0)
        return;
    for (n = g->list.node.next; n != &g->list.node; n = next) {
        struct classic_member *m = list_entry(n, struct classic_member, link);

        next = n->next;
        if (m->pending_sync)
            classic_drop(t, m, ERR_UNKNOWN_MEMBER);
    }
    prepare(t);
}

/* ---- leaving ---- */

/* After members were removed. joining: the delay of the first rebalance ends, too, when all of those
 * left have joined. */
static void after_removal(struct turn *t, bool joining)
{
    struct classic_group *cl = &t->g->classic;

    if (cl->state == GROUP_STABLE || cl->state == GROUP_COMPLETING_REBALANCE)
        prepare(t);
    else if (cl->state == GROUP_PREPARING_REBALANCE && joining && all_joined(t->g))
        join_complete(t);
    else
        maybe_complete(t);
}

static void session_fire(struct turn *t, struct group_timer *tm)
{
    struct classic_member *m = list_entry(tm, struct classic_member, session);

    if (!m->is_new && (m->join_wait || m->sync_wait))
        return;
    classic_drop(t, m, ERR_UNKNOWN_MEMBER);
    after_removal(t, true);
}

static void pending_fire(struct turn *t, struct group_timer *tm)
{
    pending_remove(t->g, list_entry(tm, struct pending_member, session));
    if (t->g->classic.state == GROUP_PREPARING_REBALANCE && all_joined(t->g))
        join_complete(t);
}

/* Who these ids are, as a member says them; ERR_OK: *out is it. */
static enum err member_check(const struct live_group *g, struct slice id, struct slice instance_id,
                             struct classic_member **out)
{
    struct classic_member *m;

    *out = NULL;
    if (!slice_is_null(instance_id)) {
        m = map_find(&g->instances, instance_id);
        if (!m)
            return ERR_UNKNOWN_MEMBER;
        if (!slice_eq(m->id, id))
            return ERR_FENCED_INSTANCE;
    }
    *out = map_find(&g->members, id);
    return *out ? ERR_OK : ERR_UNKNOWN_MEMBER;
}

static enum err leave_one(struct turn *t, const struct group_leaver *l)
{
    struct live_group *g = t->g;
    struct pending_member *p;
    struct classic_member *m;
    enum err e;

    if (l->member_id.len == 0) {
        m = slice_is_null(l->instance_id) ? NULL : map_find(&g->instances, l->instance_id);
        e = m ? ERR_OK : ERR_UNKNOWN_MEMBER;
    } else if ((p = map_find(&g->classic.pending, l->member_id))) {
        pending_remove(g, p);
        return ERR_OK;
    } else {
        e = member_check(g, l->member_id, l->instance_id, &m);
    }
    if (!e)
        classic_drop(t, m, ERR_UNKNOWN_MEMBER);
    return e;
}

void classic_leave(struct turn *t, struct group_leaver *leavers, unsigned n)
{
    bool left = false;
    unsigned i;

    for (i = 0; i < n; i++) {
        leavers[i].e = leave_one(t, &leavers[i]);
        left |= !leavers[i].e;
    }
    if (left)
        after_removal(t, false);
}

/* ---- joining ---- */

/* Whether the group has room for one more, or it is in already. */
static bool accepts(const struct turn *t, struct slice id)
{
    const struct live_group *g = t->g;
    const struct classic_group *cl = &g->classic;
    struct classic_member *m = map_find(&g->members, id);
    uint32_t most = (uint32_t)t->c->conf.size_max;

    if (g->members.n + cl->pending.n >= LIMIT_GROUP_MEMBERS && !m && !map_find(&cl->pending, id))
        return false;
    switch (cl->state) {
    case GROUP_EMPTY:
        return true;
    case GROUP_PREPARING_REBALANCE:
        return (m && joined(m)) || cl->awaiting_n < most;
    default:
        return m || g->members.n < most;
    }
}

/* An id is given out; its owner has a session's time to join with it. */
static void join_pend(struct turn *t, const struct group_join *j, struct slice id,
                      struct group_wait_state *s)
{
    struct classic_group *cl = &t->g->classic;
    struct pending_member *p;

    if (!coordinator_take(t->c, sizeof *p + id.len)) {
        turn_answer_error(t, s, ERR_COORDINATOR, SLICE_LIT(""), NULL);
        return;
    }
    p = xcalloc(1, sizeof *p + id.len);
    memcpy(p->text, id.ptr, id.len);
    p->id = slice_of(p->text, id.len);
    group_timer_init(&p->session, t->g, pending_fire);
    group_timer_set(&p->session, t->now_ms + j->session_timeout_ms);
    if (map_put(&cl->pending, p->id, p))
        ASSERT(false);
    list_push_back(&cl->pending_list, &p->link);
    turn_answer_error(t, s, ERR_MEMBER_ID_REQUIRED, id, NULL);
}

/* A static member is back under a new id: `old` becomes it. */
static struct classic_member *member_replace(struct turn *t, struct classic_member *old,
                                             struct slice id)
{
    struct live_group *g = t->g;
    struct classic_member *m;

    join_answer_take(t, old, ERR_FENCED_INSTANCE, old->id);
    sync_answer_take(t, old, ERR_FENCED_INSTANCE);
    m = member_new(g, id, old->instance_id, old->client_id, old->client_host, old->protocols);
    atomic_fetch_add(&t->c->bytes, m->bytes);
    m->assignment = old->assignment;
    m->session_ms = old->session_ms;
    m->rebalance_ms = old->rebalance_ms;
    list_insert_before(&old->link, &m->link);
    list_remove(&old->link);
    live_unindex(g, old->id, old->instance_id);
    live_index(g, m->id, m->instance_id, m);
    if (g->classic.leader == old)
        g->classic.leader = m;
    pending_sync_set(g, m, old->pending_sync);
    pending_sync_set(g, old, false);
    group_timer_clear(&old->session);
    coordinator_give(t->c, old->bytes);
    free(old);
    return m;
}

static void join_static_again(struct turn *t, const struct group_join *j,
                              struct classic_member *old, struct slice id,
                              struct group_wait_state *s)
{
    struct live_group *g = t->g;
    struct classic_group *cl = &g->classic;
    char leader_id[MEMBER_ID_BYTES];
    struct slice leader = slice_of(leader_id, cl->leader->id.len);
    struct classic_member *m;

    memcpy(leader_id, cl->leader->id.ptr, leader.len);
    m = member_replace(t, old, id);
    if (!member_update(t, m, j, s)) {
        session_restart(t, m);
        return;
    }
    session_restart(t, m);
    if (cl->state == GROUP_COMPLETING_REBALANCE) {
        prepare(t);
    } else if (cl->state == GROUP_STABLE &&
               slice_eq(blob_slice(cl->protocol), protocol_select(g))) {
        m->join_wait = NULL;
        cl->awaiting_n--;
        if (j->skip_assignment)
            answer_join(t, s, m, cl->leader->id, m == cl->leader, m == cl->leader);
        else
            answer_join(t, s, m, leader, false, false);
        t->persist = t->image = true;
    } else {
        rebalance_or_complete(t);
    }
}

static void join_new(struct turn *t, const struct group_join *j, struct group_wait_state *s)
{
    bool is_static = !slice_is_null(j->instance_id);
    struct classic_member *old = is_static ? map_find(&t->g->instances, j->instance_id) : NULL;
    char buf[MEMBER_ID_BYTES];
    struct slice id = member_id_make(t->b, is_static ? j->instance_id : j->client_id, buf);

    if (!protocols_fit(t->g, j))
        turn_answer_error(t, s, ERR_INCONSISTENT_PROTOCOL, SLICE_LIT(""), NULL);
    else if (old)
        join_static_again(t, j, old, id, s);
    else if (!is_static && j->member_id_required)
        join_pend(t, j, id, s);
    else
        member_add(t, j, id, s);
}

static void join_known(struct turn *t, const struct group_join *j, struct group_wait_state *s)
{
    struct classic_group *cl = &t->g->classic;
    struct classic_member *m;
    bool same;
    enum err e;

    if (!protocols_fit(t->g, j)) {
        turn_answer_error(t, s, ERR_INCONSISTENT_PROTOCOL, j->member_id, NULL);
        return;
    }
    if (map_find(&cl->pending, j->member_id)) {
        if (slice_is_null(j->instance_id))
            member_add(t, j, j->member_id, s);
        else
            turn_answer_error(t, s, ERR_UNKNOWN_MEMBER, j->member_id, NULL);
        return;
    }
    if ((e = member_check(t->g, j->member_id, j->instance_id, &m))) {
        turn_answer_error(t, s, e, j->member_id, NULL);
        return;
    }
    same = protocols_same(m->protocols, j->protocols, j->protocols_n);
    if (same &&
        (cl->state == GROUP_COMPLETING_REBALANCE || (cl->state == GROUP_STABLE && m != cl->leader)))
        answer_generation(t, s, m);
    else if (member_update(t, m, j, s))
        rebalance_or_complete(t);
}

void classic_join(struct turn *t, const struct group_join *j, struct group_wait_state *s)
{
    struct pending_member *p;
    struct classic_member *m;

    if (!accepts(t, j->member_id)) {
        if ((m = map_find(&t->g->members, j->member_id)))
            classic_drop(t, m, ERR_UNKNOWN_MEMBER);
        if ((p = map_find(&t->g->classic.pending, j->member_id)))
            pending_remove(t->g, p);
        turn_answer_error(t, s, ERR_GROUP_MAX_SIZE, SLICE_LIT(""), NULL);
        maybe_complete(t);
        return;
    }
    if (j->member_id.len == 0)
        join_new(t, j, s);
    else
        join_known(t, j, s);
}

/* ---- syncing ---- */

static bool other(struct slice said, struct blob *is)
{
    return !slice_is_null(said) && is && !slice_eq(said, blob_slice(is));
}

static enum err sync_check(const struct live_group *g, const struct group_sync *y,
                           struct classic_member **m)
{
    enum err e = member_check(g, y->member_id, y->instance_id, m);

    if (e)
        return e;
    if (y->generation != g->generation)
        return ERR_ILLEGAL_GENERATION;
    if (other(y->protocol_type, g->classic.protocol_type) ||
        other(y->protocol_name, g->classic.protocol))
        return ERR_INCONSISTENT_PROTOCOL;
    return g->classic.state == GROUP_PREPARING_REBALANCE ? ERR_REBALANCE_IN_PROGRESS : ERR_OK;
}

static void synced(struct live_group *g, struct classic_member *m)
{
    pending_sync_set(g, m, false);
    if (g->classic.pending_sync_n == 0)
        group_timer_clear(&g->classic.sync);
}

/* The leader has spoken: everybody gets what it says, or nothing. */
static void assignments_spread(struct turn *t, const struct group_sync *y)
{
    struct live_group *g = t->g;
    struct classic_member *m;
    unsigned i;

    for (m = member_first(g); m; m = member_next(g, m))
        assignment_set(t, m, SLICE_NULL);
    for (i = 0; i < y->assignments_n; i++)
        if ((m = map_find(&g->members, y->assignments[i].member_id)))
            assignment_set(t, m, y->assignments[i].assignment);
    state_set(g, GROUP_STABLE);
    t->persist = t->image = true;
    for (m = member_first(g); m; m = member_next(g, m))
        if (m->sync_wait) {
            sync_answer_take(t, m, ERR_OK);
            session_restart(t, m);
        }
}

void classic_sync(struct turn *t, const struct group_sync *y, struct group_wait_state *s)
{
    struct live_group *g = t->g;
    struct classic_member *m;
    enum err e = sync_check(g, y, &m);

    if (e) {
        turn_answer_error(t, s, e, SLICE_NULL, NULL);
        return;
    }
    synced(g, m);
    if (g->classic.state == GROUP_STABLE) {
        sync_answer(t, m, s);
        return;
    }
    sync_answer_take(t, m, ERR_REBALANCE_IN_PROGRESS);
    m->sync_wait = s;
    if (m == g->classic.leader)
        assignments_spread(t, y);
}

enum err classic_heartbeat(struct turn *t, const struct group_member *gm)
{
    struct classic_member *m;
    enum err e = member_check(t->g, gm->member_id, gm->instance_id, &m);

    if (e)
        return e;
    if (gm->generation != t->g->generation)
        return ERR_ILLEGAL_GENERATION;
    session_restart(t, m);
    return t->g->classic.state == GROUP_PREPARING_REBALANCE ? ERR_REBALANCE_IN_PROGRESS : ERR_OK;
}

/* ---- offsets ---- */

enum err classic_commit_check(struct turn *t, const struct group_member *gm, bool transactional)
{
    const struct classic_group *cl = &t->g->classic;
    struct classic_member *m;
    enum err e;

    if (gm->generation < 0 && cl->state == GROUP_EMPTY)
        return ERR_OK;
    if (gm->generation >= 0 || gm->member_id.len || !slice_is_null(gm->instance_id)) {
        if ((e = member_check(t->g, gm->member_id, gm->instance_id, &m)))
            return e;
        if (gm->generation != t->g->generation)
            return ERR_ILLEGAL_GENERATION;
        if (cl->state == GROUP_COMPLETING_REBALANCE && !transactional)
            return ERR_REBALANCE_IN_PROGRESS;
        if (!transactional)
            session_restart(t, m);
        return ERR_OK;
    }
    return transactional || cl->state == GROUP_EMPTY ? ERR_OK : ERR_UNKNOWN_MEMBER;
}

/* ---- for groups that change their kind: see mixed.c ---- */

void classic_settle(struct live_group *g)
{
    struct classic_group *cl = &g->classic;

    ASSERT(g->members.n == 0);
    classic_forget_pending(g);
    group_timer_clear(&cl->join);
    syncs_clear(g);
    cl->initial = cl->new_member = false;
    blob_unref(&cl->protocol);
    cl->state = cl->previous = GROUP_EMPTY;
}

bool classic_adopt(struct turn *t, const struct moved_member *from)
{
    struct live_group *g = t->g;
    struct classic_member *m = member_new(g, from->id, from->instance_id, from->client_id,
                                          from->client_host, from->protocols);

    if (!coordinator_take(t->c, m->bytes + from->protocols->bytes)) {
        free(m);
        return false;
    }
    protocols_ref(from->protocols);
    m->session_ms = from->session_ms;
    m->rebalance_ms = from->rebalance_ms;
    live_index(g, m->id, m->instance_id, m);
    list_push_back(&g->list, &m->link);
    protocols_count(g, m->protocols, true);
    if (!g->classic.leader)
        g->classic.leader = m;
    session_restart(t, m);
    return true;
}

void classic_rebalance(struct turn *t)
{
    struct classic_group *cl = &t->g->classic;

    if (t->g->members.n == 0)
        return;
    blob_unref(&cl->protocol_type);
    cl->protocol_type = blob_new(SLICE_LIT("consumer"));
    cl->protocol = blob_new(protocol_select(t->g));
    cl->state = cl->previous = GROUP_STABLE;
    prepare(t);
}

/* ---- the end, and looking ---- */

void classic_drain(struct turn *t)
{
    struct classic_member *m;

    for (m = member_first(t->g); m; m = member_next(t->g, m)) {
        join_answer_take(t, m, ERR_COORDINATOR, m->id);
        sync_answer_take(t, m, ERR_COORDINATOR);
    }
}

static struct slice out(struct arena *a, struct slice s)
{
    return s.len ? arena_dup(a, s) : slice_is_null(s) ? SLICE_NULL : slice_of("", 0);
}

void classic_describe(const struct live_group *g, struct group_description *d, struct arena *a)
{
    const struct classic_group *cl = &g->classic;
    struct classic_member *m;
    unsigned n = 0;

    d->kind = GROUP_CLASSIC;
    d->state = cl->state;
    d->generation = g->generation;
    d->protocol_type = out(a, blob_slice(cl->protocol_type));
    if (cl->state == GROUP_STABLE)
        d->protocol = out(a, blob_slice(cl->protocol));
    d->members = arena_zalloc(a, g->members.n, sizeof *d->members);
    if (!d->members)
        return;
    for (m = member_first(g); m; m = member_next(g, m)) {
        struct group_description_member *dm = &d->members[n++];

        dm->member_id = out(a, m->id);
        dm->instance_id = out(a, m->instance_id);
        dm->client_id = out(a, m->client_id);
        dm->client_host = out(a, m->client_host);
        dm->assignment = out(a, blob_slice(m->assignment));
        dm->epoch = g->generation;
        if (cl->state == GROUP_STABLE)
            dm->metadata = out(a, protocols_find(m->protocols, blob_slice(cl->protocol)));
    }
    d->members_n = n;
}
