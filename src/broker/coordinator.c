/* The coordinator of groups: turns, timers, answers, and the calls that are the same for every kind
 * of group. See coordinator.h for what it offers, coordinator_int.h for locks and turns; the state
 * machines are classic.c and consumer.c. */
#include "broker/coordinator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/hex.h"
#include "base/mem.h"
#include "broker/consumer_int.h"
#include "broker/coordinator_int.h"
#include "broker/cursor.h"
#include "broker/streams_int.h"

#define IMAGE_MS 1000 /* between the published texts of a consumer group, at least */
#define STILL_MS 250  /* until what was due while the log stood still is looked at again */

/* ---- shared bytes ---- */

struct blob *blob_new(struct slice s)
{
    struct blob *x;

    if (s.len == 0)
        return NULL;
    x = xmalloc(sizeof *x + s.len);
    atomic_init(&x->refs, 1);
    x->len = (uint32_t)s.len;
    memcpy(x->bytes, s.ptr, s.len);
    return x;
}

struct blob *blob_ref(struct blob *x)
{
    if (x)
        atomic_fetch_add(&x->refs, 1);
    return x;
}

void blob_unref(struct blob **x)
{
    if (*x && atomic_fetch_sub(&(*x)->refs, 1) == 1)
        free(*x);
    *x = NULL;
}

struct protocols *protocols_new(const struct group_protocol *p, unsigned n)
{
    size_t bytes = sizeof(struct protocols) + n * sizeof *p;
    struct protocols *x;
    uint8_t *at;
    unsigned i, k;

    for (i = 0; i < n; i++)
        bytes += p[i].name.len + p[i].metadata.len;
    x = xmalloc(bytes);
    atomic_init(&x->refs, 1);
    x->n = 0;
    x->bytes = bytes;
    at = (uint8_t *)&x->p[n];
    for (i = 0; i < n; i++) {
        for (k = 0; k < x->n && !slice_eq(x->p[k].name, p[i].name); k++)
            ;
        if (k < x->n)
            continue;
        x->p[k].name = slice_of(at, p[i].name.len);
        x->p[k].metadata = slice_of(at + p[i].name.len, p[i].metadata.len);
        if (p[i].name.len)
            memcpy(at, p[i].name.ptr, p[i].name.len);
        if (p[i].metadata.len)
            memcpy(at + p[i].name.len, p[i].metadata.ptr, p[i].metadata.len);
        at += p[i].name.len + p[i].metadata.len;
        x->n++;
    }
    return x;
}

struct protocols *protocols_ref(struct protocols *x)
{
    atomic_fetch_add(&x->refs, 1);
    return x;
}

void protocols_unref(struct protocols **x)
{
    if (*x && atomic_fetch_sub(&(*x)->refs, 1) == 1)
        free(*x);
    *x = NULL;
}

bool protocols_same(const struct protocols *a, const struct group_protocol *p, unsigned n)
{
    unsigned i;

    if (a->n != n)
        return false;
    for (i = 0; i < n; i++)
        if (!slice_eq(a->p[i].name, p[i].name) || !slice_eq(a->p[i].metadata, p[i].metadata))
            return false;
    return true;
}

struct slice protocols_find(const struct protocols *x, struct slice name)
{
    unsigned i;

    for (i = 0; i < x->n; i++)
        if (slice_eq(x->p[i].name, name))
            return x->p[i].metadata;
    return SLICE_NULL;
}

/* ---- timers ---- */

static void heap_set(struct shard *sh, uint32_t i, struct group_timer *tm)
{
    sh->heap[i] = tm;
    tm->heap_at = i;
}

static void heap_fix(struct shard *sh, uint32_t i)
{
    struct group_timer *tm = sh->heap[i];
    uint32_t c;

    for (; i && sh->heap[(i - 1) / 2]->at_ms > tm->at_ms; i = (i - 1) / 2)
        heap_set(sh, i, sh->heap[(i - 1) / 2]);
    for (;; i = c) {
        c = 2 * i + 1;
        if (c + 1 < sh->heap_n && sh->heap[c + 1]->at_ms < sh->heap[c]->at_ms)
            c++;
        if (c >= sh->heap_n || sh->heap[c]->at_ms >= tm->at_ms)
            break;
        heap_set(sh, i, sh->heap[c]);
    }
    heap_set(sh, i, tm);
}

void group_timer_init(struct group_timer *tm, struct live_group *g,
                      void (*fire)(struct turn *t, struct group_timer *tm))
{
    tm->heap_at = TIMER_OFF;
    tm->group = g;
    tm->fire = fire;
}

void group_timer_set(struct group_timer *tm, int64_t at_ms)
{
    struct shard *sh = tm->group->shard;

    tm->at_ms = at_ms;
    if (tm->heap_at == TIMER_OFF) {
        if (sh->heap_n == sh->heap_cap) {
            sh->heap_cap = sh->heap_cap ? sh->heap_cap * 2 : 64;
            sh->heap = xrealloc(sh->heap, sh->heap_cap * sizeof *sh->heap);
        }
        heap_set(sh, sh->heap_n++, tm);
    }
    heap_fix(sh, tm->heap_at);
    coordinator_due(tm->group->broker->coordinator, at_ms);
}

void group_timer_clear(struct group_timer *tm)
{
    struct shard *sh = tm->group->shard;
    uint32_t i = tm->heap_at;

    if (i == TIMER_OFF)
        return;
    ASSERT(i < sh->heap_n && sh->heap[i] == tm);
    tm->heap_at = TIMER_OFF;
    if (i < --sh->heap_n) {
        heap_set(sh, i, sh->heap[sh->heap_n]);
        heap_fix(sh, i);
    }
}

/* ---- answers ---- */

/* A callback that is being called: on the stack of its thread. */
struct running {
    struct list_node link;
    struct group_wait *w;
    const void *thread;
};
static _Thread_local char this_thread; /* its address tells the thread */

struct group_wait_state *wait_new(enum wait_kind kind, struct group_wait *w, void *arg)
{
    struct group_wait_state *s = xcalloc(1, sizeof *s);

    ASSERT(!w->state);
    s->w = w;
    s->kind = kind;
    s->arg = arg;
    s->generation = -1;
    arena_init(&s->arena, 512, SIZE_MAX / 2);
    w->state = s;
    return s;
}

struct slice wait_dup(struct group_wait_state *s, struct slice x)
{
    if (x.len == 0)
        return slice_is_null(x) ? SLICE_NULL : slice_of("", 0);
    x = arena_dup(&s->arena, x);
    ASSERT(x.ptr);
    return x;
}

void *wait_alloc(struct group_wait_state *s, size_t n, size_t size)
{
    void *p = arena_zalloc(&s->arena, n, size);

    ASSERT(p);
    return p;
}

static void wait_free(struct group_wait_state *s)
{
    unsigned i;

    for (i = 0; i < s->held_n; i++)
        protocols_unref(&s->held[i]);
    blob_unref(&s->blob);
    arena_fini(&s->arena);
    free(s);
}

void turn_answer(struct turn *t, struct group_wait_state *s)
{
    list_push_back(&t->answers, &s->link);
}

/* Makes the answer an error; what it said of the member's id stays. */
static void wait_error(struct group_wait_state *s, enum err e, const char *text)
{
    struct slice member_id;

    s->generation = -1;
    switch (s->kind) {
    case WAIT_JOIN:
        member_id = s->r.join.member_id;
        s->r.join = (struct group_join_result){.e = e, .generation = -1, .member_id = member_id};
        break;
    case WAIT_SYNC:
        s->r.sync = (struct group_sync_result){.e = e, .assignment = slice_of("", 0)};
        break;
    case WAIT_CONSUMER:
        member_id = s->r.consumer.member_id;
        s->r.consumer = (struct group_consumer_result){
            .e = e, .text = text ? text : err_text(e), .member_id = member_id};
        break;
    case WAIT_STREAMS:
        member_id = s->r.streams.member_id;
        s->r.streams = (struct group_streams_result){
            .e = e, .text = text ? text : err_text(e), .member_id = member_id};
        break;
    }
}

void turn_answer_error(struct turn *t, struct group_wait_state *s, enum err e,
                       struct slice member_id, const char *text)
{
    member_id = wait_dup(s, member_id);
    if (s->kind == WAIT_JOIN)
        s->r.join.member_id = member_id;
    else if (s->kind == WAIT_CONSUMER)
        s->r.consumer.member_id = member_id;
    else if (s->kind == WAIT_STREAMS)
        s->r.streams.member_id = member_id;
    wait_error(s, e, text);
    turn_answer(t, s);
}

static void answer_call(struct group_wait_state *s)
{
    switch (s->kind) {
    case WAIT_JOIN:
        s->done.join(s->arg, &s->r.join);
        break;
    case WAIT_SYNC:
        s->done.sync(s->arg, &s->r.sync);
        break;
    case WAIT_CONSUMER:
        s->done.consumer(s->arg, &s->r.consumer);
        break;
    case WAIT_STREAMS:
        s->r.streams.memory = &s->arena;
        s->done.streams(s->arg, &s->r.streams);
        break;
    }
}

/* Calls the callbacks of all in the list and frees them. No lock held. */
static void answers_run(struct coordinator *c, struct list_head *answers)
{
    while (!list_empty(answers)) {
        struct group_wait_state *s =
            list_entry(list_pop_front(answers), struct group_wait_state, link);
        struct running run = {.thread = &this_thread};

        io_mutex_lock(&c->waits_lock);
        run.w = s->w;
        if (s->w) {
            s->w->state = NULL;
            list_push_back(&c->running, &run.link);
        }
        io_mutex_unlock(&c->waits_lock);
        if (run.w) {
            answer_call(s);
            io_mutex_lock(&c->waits_lock);
            list_remove(&run.link);
            io_cond_broadcast(&c->waits_cond);
            io_mutex_unlock(&c->waits_lock);
        }
        wait_free(s);
    }
}

static bool runs_elsewhere(struct coordinator *c, const struct group_wait *w)
{
    struct running *r;

    list_for_each(r, &c->running, struct running,
                  link) if (r->w == w && r->thread != &this_thread) return true;
    return false;
}

void group_wait_cancel(struct broker *b, struct group_wait *w)
{
    struct coordinator *c = b->coordinator;

    io_mutex_lock(&c->waits_lock);
    if (w->state) {
        w->state->w = NULL;
        w->state = NULL;
    }
    while (runs_elsewhere(c, w))
        io_cond_wait(&c->waits_cond, &c->waits_lock);
    io_mutex_unlock(&c->waits_lock);
}

/* ---- turns ---- */

static struct shard *shard_of(struct coordinator *c, struct slice group)
{
    return &c->shard[siphash64(c->broker->hash_seed, group.ptr, group.len) % GROUP_SHARDS];
}

static void turn_on(struct turn *t, struct broker *b, struct shard *sh, struct live_group *g,
                    int64_t now_ms)
{
    *t = (struct turn){.b = b, .c = b->coordinator, .shard = sh, .g = g, .now_ms = now_ms};
    list_init(&t->answers);
}

void turn_begin(struct turn *t, struct broker *b, struct slice group, int64_t now_ms)
{
    struct shard *sh = shard_of(b->coordinator, group);

    io_mutex_lock(&sh->lock);
    turn_on(t, b, sh, map_find(&sh->groups, group), now_ms);
}

static void image_fire(struct turn *t, struct group_timer *tm)
{
    t->persist = t->image = true;
}

void turn_image_soon(struct turn *t)
{
    if (t->g->image.heap_at == TIMER_OFF)
        group_timer_set(&t->g->image, t->now_ms + IMAGE_MS);
}

static size_t live_bytes(size_t name_len)
{
    return sizeof(struct live_group) + name_len + 64;
}

void turn_make(struct turn *t, struct slice group, enum group_kind kind)
{
    struct group_durable d;
    struct live_group *g;

    ASSERT(!t->g);
    if (atomic_load(&t->c->live) >= LIMIT_GROUPS_LIVE ||
        !coordinator_take(t->c, live_bytes(group.len)))
        return;
    atomic_fetch_add(&t->c->live, 1);
    group_durable_get(t->b, group, &d);
    g = xcalloc(1, sizeof *g + group.len + 1);
    memcpy(g->name, group.ptr, group.len);
    g->name_len = group.len;
    g->shard = t->shard;
    g->broker = t->b;
    g->kind = kind;
    g->generation = g->durable = d.generation;
    g->empty_ms = d.empty_ms;
    map_init(&g->members, LIMIT_GROUP_MEMBERS, t->b->hash_seed);
    map_init(&g->instances, LIMIT_GROUP_MEMBERS, t->b->hash_seed);
    list_init(&g->list);
    group_timer_init(&g->image, g, image_fire);
    classic_init(g);
    if (map_put(&t->shard->groups, live_name(g), g))
        ASSERT(false);
    t->g = g;
}

static bool live_idle(const struct live_group *g)
{
    return g->members.n == 0 && (g->kind != GROUP_CLASSIC || classic_idle(g));
}

void live_index(struct live_group *g, struct slice id, struct slice instance_id, void *member)
{
    if (map_put(&g->members, id, member) ||
        (!slice_is_null(instance_id) && map_put(&g->instances, instance_id, member)))
        ASSERT(false);
}

void live_unindex(struct live_group *g, struct slice id, struct slice instance_id)
{
    map_remove(&g->members, id);
    if (!slice_is_null(instance_id))
        map_remove(&g->instances, instance_id);
}

static void live_free(struct coordinator *c, struct live_group *g)
{
    ASSERT(list_empty(&g->list) && g->members.n == 0 && g->instances.n == 0);
    map_remove(&g->shard->groups, live_name(g));
    group_timer_clear(&g->image);
    classic_fini(g);
    consumer_fini(g);
    streams_fini(g);
    map_fini(&g->members);
    map_fini(&g->instances);
    coordinator_give(c, live_bytes(g->name_len));
    atomic_fetch_sub(&c->live, 1);
    free(g);
}

/* A change that carries answers. */
struct told {
    struct coordinator *c;
    struct list_head answers;
};

static void told_fail(struct told *told)
{
    struct group_wait_state *s;

    list_for_each(s, &told->answers, struct group_wait_state, link)
        wait_error(s, ERR_COORDINATOR, NULL);
}

static void told_done(void *arg, enum err e, const struct errinfo *info)
{
    struct told *told = arg;

    if (e)
        told_fail(told);
    answers_run(told->c, &told->answers);
    free(told);
}

static void state_commit(struct change *c, enum err e)
{
    struct entry_group_state en;

    if (e)
        return;
    e = entry_group_state_read(slice_of(c->data, c->entry.data.len), &en);
    ASSERT(!e);
    group_apply_state(c->b, &en);
}

/* The change that makes the group's present state durable. */
static struct change *state_change(struct turn *t)
{
    struct live_group *g = t->g;
    struct entry_group_state en = {.generation = g->generation,
                                   .kind = (uint8_t)g->kind,
                                   .updated_ms = journal_wall_ms(t->b->journal),
                                   .group = live_name(g)};
    struct told *told = xcalloc(1, sizeof *told);
    struct buf members, assignment;
    struct change *c;

    told->c = t->c;
    list_init(&told->answers);
    buf_init(&members, LIMIT_GROUP_IMAGE);
    buf_init(&assignment, LIMIT_GROUP_IMAGE);
    en.empty_ms = g->members.n ? 0 : en.updated_ms;
    if (g->kind != GROUP_CLASSIC)
        en.protocol_type = slice_str(group_kind_text(g->kind));
    else
        en.protocol_type = blob_slice(g->classic.protocol_type);
    if (g->kind == GROUP_CLASSIC && g->classic.leader)
        en.leader = g->classic.leader->id;
    if (t->image)
        group_images(g, &members, &assignment);
    en.members = buf_slice(&members);
    en.assignment = buf_slice(&assignment);
    c = change_new(t->b, ENTRY_GROUP_STATE, entry_group_state_size(&en), told_done, told);
    c->entry.data.len = entry_group_state_write(c->data, &en);
    c->commit = state_commit;
    buf_fini(&members);
    buf_fini(&assignment);
    return c;
}

/* Moves the answers that must wait for the generation to be durable to `later`. */
static void answers_split(struct turn *t, struct list_head *later)
{
    struct live_group *g = t->g;
    struct list_node *n, *next;
    bool asked = false;

    for (n = t->answers.node.next; n != &t->answers.node; n = next) {
        struct group_wait_state *s = list_entry(n, struct group_wait_state, link);

        next = n->next;
        if (s->generation > g->durable && !asked) {
            int32_t known = group_generation(t->b, live_name(g));

            if (known > g->durable)
                g->durable = known;
            asked = true;
        }
        if (s->generation <= g->durable)
            continue;
        list_remove(n);
        list_push_back(later, n);
    }
}

void turn_end(struct turn *t)
{
    struct change *c = NULL;
    struct list_head later;
    struct told *told;

    list_init(&later);
    if (t->g) {
        answers_split(t, &later);
        if (t->persist || !list_empty(&later))
            c = state_change(t);
        if (live_idle(t->g))
            live_free(t->c, t->g);
    }
    io_mutex_unlock(&t->shard->lock);
    if (c) {
        told = c->arg;
        while (!list_empty(&later))
            list_push_back(&told->answers, list_pop_front(&later));
        if (change_submit(c, false, NULL))
            told_done(told, ERR_COORDINATOR, NULL);
    }
    answers_run(t->c, &t->answers);
}

/* ---- the whole ---- */

void group_conf_default(struct group_conf *c)
{
    *c = (struct group_conf){.initial_rebalance_delay_ms = 3000,
                             .session_timeout_ms_min = 6000,
                             .session_timeout_ms_max = 1800000,
                             .size_max = LIMIT_GROUP_MEMBERS,
                             .consumer_session_timeout_ms = 45000,
                             .consumer_heartbeat_ms = 5000,
                             .consumer_size_max = LIMIT_GROUP_MEMBERS,
                             .share_session_timeout_ms = 45000,
                             .share_heartbeat_ms = 5000,
                             .share_size_max = 200,
                             .streams_session_timeout_ms = 45000,
                             .streams_heartbeat_ms = 5000,
                             .streams_size_max = LIMIT_GROUP_MEMBERS,
                             .streams_initial_delay_ms = 3000,
                             .streams_interval_ms = 1000,
                             .upgrade = true,
                             .downgrade = true,
                             .offsets_retention_minutes = 10080,
                             .offsets_retention_check_ms = 600000};
}

static enum err conf_range(const char *name, int32_t v, int32_t least, int32_t most,
                           struct errinfo *info)
{
    if (v >= least && v <= most)
        return ERR_OK;
    return errinfo_set(info, ERR_CONFIG, "%s is %d to %d, not %d", name, (int)least, (int)most,
                       (int)v);
}

enum err group_conf_check(const struct group_conf *c, struct errinfo *info)
{
    const struct {
        const char *name;
        int32_t v, least, most;
    } rows[] = {
        {"group.initial.rebalance.delay.ms", c->initial_rebalance_delay_ms, 0, INT32_MAX},
        {"group.min.session.timeout.ms", c->session_timeout_ms_min, 1, INT32_MAX},
        {"group.max.session.timeout.ms", c->session_timeout_ms_max, c->session_timeout_ms_min,
         INT32_MAX},
        {"group.max.size", c->size_max, 1, LIMIT_GROUP_MEMBERS},
        {"group.consumer.session.timeout.ms", c->consumer_session_timeout_ms, 1, INT32_MAX},
        {"group.consumer.heartbeat.interval.ms", c->consumer_heartbeat_ms, 1,
         c->consumer_session_timeout_ms},
        {"group.consumer.max.size", c->consumer_size_max, 1, LIMIT_GROUP_MEMBERS},
        {"group.share.session.timeout.ms", c->share_session_timeout_ms, 1, INT32_MAX},
        {"group.share.heartbeat.interval.ms", c->share_heartbeat_ms, 1,
         c->share_session_timeout_ms},
        {"group.share.max.size", c->share_size_max, 1, LIMIT_GROUP_MEMBERS},
        {"group.streams.session.timeout.ms", c->streams_session_timeout_ms, 1, INT32_MAX},
        {"group.streams.heartbeat.interval.ms", c->streams_heartbeat_ms, 1,
         c->streams_session_timeout_ms},
        {"group.streams.max.size", c->streams_size_max, 1, LIMIT_GROUP_MEMBERS},
        {"group.streams.num.standby.replicas", c->streams_standby_replicas, 0,
         LIMIT_STREAMS_STANDBYS},
        {"group.streams.initial.rebalance.delay.ms", c->streams_initial_delay_ms, 0, INT32_MAX},
        {"group.streams.assignment.interval.ms", c->streams_interval_ms, 0, INT32_MAX},
        {"offsets.retention.minutes", c->offsets_retention_minutes, 1, INT32_MAX},
        {"offsets.retention.check.interval.ms", c->offsets_retention_check_ms, 1, INT32_MAX},
    };
    enum err e = ERR_OK;
    unsigned i;

    for (i = 0; i < sizeof rows / sizeof rows[0] && !e; i++)
        e = conf_range(rows[i].name, rows[i].v, rows[i].least, rows[i].most, info);
    return e;
}

enum err groups_conf_set(struct broker *b, const struct group_conf *c, struct errinfo *info)
{
    struct coordinator *co = b->coordinator;
    enum err e = group_conf_check(c, info);
    unsigned i;

    if (e)
        return e;
    for (i = 0; i < GROUP_SHARDS; i++)
        io_mutex_lock(&co->shard[i].lock);
    co->conf = *c;
    for (i = 0; i < GROUP_SHARDS; i++)
        io_mutex_unlock(&co->shard[i].lock);
    return ERR_OK;
}

void groups_conf_get(struct broker *b, struct group_conf *out)
{
    struct coordinator *c = b->coordinator;

    io_mutex_lock(&c->shard[0].lock);
    *out = c->conf;
    io_mutex_unlock(&c->shard[0].lock);
}

struct coordinator *coordinator_new(struct broker *b)
{
    struct coordinator *c = xcalloc(1, sizeof *c);
    unsigned i;

    c->broker = b;
    group_conf_default(&c->conf);
    c->opened_ms = io_wall_ms(b->conf.io);
    for (i = 0; i < GROUP_SHARDS; i++) {
        io_mutex_init(&c->shard[i].lock);
        map_init(&c->shard[i].groups, LIMIT_GROUPS_LIVE, b->hash_seed);
    }
    io_mutex_init(&c->waits_lock);
    io_cond_init(&c->waits_cond);
    list_init(&c->running);
    io_mutex_init(&c->wake_lock);
    atomic_store(&c->asleep_ms, INT64_MIN);
    return c;
}

/* Frees the members of all groups; whoever waits still must have been answered or cancelled. */
static void shard_fini(struct coordinator *c, struct shard *sh)
{
    struct live_group *g;
    uint32_t at = 0;
    void *v;

    while (map_next(&sh->groups, &at, NULL, &v)) {
        struct turn t;

        g = v;
        turn_on(&t, c->broker, sh, g, 0);
        while (!list_empty(&g->list))
            if (g->kind == GROUP_CLASSIC)
                classic_drop(&t, list_entry(g->list.node.next, struct classic_member, link),
                             ERR_COORDINATOR);
            else if (g->kind == GROUP_STREAMS)
                streams_drop_first(&t);
            else
                consumer_drop_first(&t);
        while (!list_empty(&t.answers)) {
            struct group_wait_state *s =
                list_entry(list_pop_front(&t.answers), struct group_wait_state, link);

            ASSERT(!s->w);
            wait_free(s);
        }
        live_free(c, g);
        at = 0;
    }
    map_fini(&sh->groups);
    free(sh->heap);
    io_mutex_fini(&sh->lock);
}

void coordinator_free(struct coordinator **cp)
{
    struct coordinator *c = *cp;
    unsigned i;

    if (!c)
        return;
    for (i = 0; i < GROUP_SHARDS; i++)
        shard_fini(c, &c->shard[i]);
    ASSERT(atomic_load(&c->bytes) == 0 && list_empty(&c->running));
    io_mutex_fini(&c->waits_lock);
    io_cond_fini(&c->waits_cond);
    io_mutex_fini(&c->wake_lock);
    free(c);
    *cp = NULL;
}

bool coordinator_take(struct coordinator *c, size_t bytes)
{
    if (atomic_fetch_add(&c->bytes, bytes) + bytes <= LIMIT_GROUPS_BYTES)
        return true;
    atomic_fetch_sub(&c->bytes, bytes);
    return false;
}

void coordinator_give(struct coordinator *c, size_t bytes)
{
    uint64_t had = atomic_fetch_sub(&c->bytes, bytes);

    ASSERT(had >= bytes);
}

struct slice member_id_make(struct broker *b, struct slice prefix, char out[MEMBER_ID_BYTES])
{
    char hex[33];
    uint8_t u[16];
    size_t n = prefix.len;

    ASSERT(n <= LIMIT_GROUP_WORD);
    io_random(b->conf.io, u, sizeof u);
    u[6] = (uint8_t)((u[6] & 0x0f) | 0x40); /* RFC 9562, version 4 */
    u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
    hex_encode(u, 16, hex);
    if (n)
        memcpy(out, prefix.ptr, n);
    n += (size_t)snprintf(out + n, MEMBER_ID_BYTES - n, "%s%.8s-%.4s-%.4s-%.4s-%s", n ? "-" : "",
                          hex, hex + 8, hex + 12, hex + 16, hex + 20);
    return slice_of(out, n);
}

/* ---- time ---- */

/* While the log stands still nobody is silent: members wait for answers that wait for it, and their
 * heartbeats for commits in front of them. What is due then comes later, so that a disk's pause does
 * not take groups apart. */
void groups_tick(struct broker *b, int64_t now_ms)
{
    struct coordinator *c = b->coordinator;
    bool still = journal_still(b->journal);
    unsigned i;

    for (i = 0; i < GROUP_SHARDS; i++) {
        struct shard *sh = &c->shard[i];

        for (;;) {
            struct group_timer *tm;
            struct turn t;

            io_mutex_lock(&sh->lock);
            if (sh->heap_n == 0 || sh->heap[0]->at_ms > now_ms) {
                io_mutex_unlock(&sh->lock);
                break;
            }
            tm = sh->heap[0];
            if (still) {
                group_timer_set(tm, now_ms + STILL_MS);
                io_mutex_unlock(&sh->lock);
                continue;
            }
            group_timer_clear(tm);
            turn_on(&t, b, sh, tm->group, now_ms);
            tm->fire(&t, tm);
            turn_end(&t);
        }
    }
    cursors_tick(b, now_ms);
    if (now_ms >= atomic_load(&c->retention_at_ms)) {
        struct group_conf conf;

        groups_conf_get(b, &conf);
        if (atomic_load(&c->retention_at_ms))
            groups_retention(b, journal_wall_ms(b->journal));
        atomic_store(&c->retention_at_ms, now_ms + conf.offsets_retention_check_ms);
    }
}

int64_t groups_deadline_ms(struct broker *b)
{
    struct coordinator *c = b->coordinator;
    int64_t at = atomic_load(&c->retention_at_ms);
    unsigned i;

    for (i = 0; i < GROUP_SHARDS; i++) {
        struct shard *sh = &c->shard[i];

        io_mutex_lock(&sh->lock);
        if (sh->heap_n && sh->heap[0]->at_ms < at)
            at = sh->heap[0]->at_ms;
        io_mutex_unlock(&sh->lock);
    }
    return at;
}

/* ---- sleeping until something is due ---- */

void coordinator_due(struct coordinator *c, int64_t at_ms)
{
    int64_t until = atomic_load(&c->asleep_ms);

    while (at_ms < until)
        if (atomic_compare_exchange_weak(&c->asleep_ms, &until, INT64_MIN)) {
            io_mutex_lock(&c->wake_lock);
            if (c->wake)
                c->wake(c->wake_arg);
            io_mutex_unlock(&c->wake_lock);
            return;
        }
}

/* What is set while this looks, behind its back, finds INT64_MAX and wakes; what was set before is
 * seen, as both sides hold the same lock. */
int64_t groups_sleep(struct broker *b, int64_t now_ms)
{
    struct coordinator *c = b->coordinator;
    int64_t at, leases, looking = INT64_MAX;

    atomic_store(&c->asleep_ms, INT64_MAX);
    at = groups_deadline_ms(b);
    leases = cursors_deadline_ms(b);
    if (leases < now_ms + CURSORS_TICK_MS)
        leases = now_ms + CURSORS_TICK_MS;
    if (leases < at)
        at = leases;
    atomic_compare_exchange_strong(&c->asleep_ms, &looking, at);
    return at;
}

void groups_wake_set(struct broker *b, void (*wake)(void *arg), void *arg)
{
    struct coordinator *c = b->coordinator;

    io_mutex_lock(&c->wake_lock);
    c->wake = wake;
    c->wake_arg = arg;
    io_mutex_unlock(&c->wake_lock);
}

bool groups_wake_claim(struct broker *b, void (*wake)(void *arg), void *arg)
{
    struct coordinator *c = b->coordinator;
    bool free;

    io_mutex_lock(&c->wake_lock);
    free = !c->wake;
    if (free) {
        c->wake = wake;
        c->wake_arg = arg;
    }
    io_mutex_unlock(&c->wake_lock);
    return free;
}

void groups_drain(struct broker *b)
{
    struct coordinator *c = b->coordinator;
    unsigned i;

    atomic_store(&c->draining, true);
    for (i = 0; i < GROUP_SHARDS; i++) {
        struct shard *sh = &c->shard[i];
        struct list_head answers;
        uint32_t at = 0;
        void *v;

        list_init(&answers);
        io_mutex_lock(&sh->lock);
        while (map_next(&sh->groups, &at, NULL, &v)) {
            struct turn t;

            turn_on(&t, b, sh, v, 0);
            if (t.g->kind == GROUP_CLASSIC)
                classic_drain(&t);
            while (!list_empty(&t.answers))
                list_push_back(&answers, list_pop_front(&t.answers));
        }
        io_mutex_unlock(&sh->lock);
        answers_run(c, &answers);
    }
}
