/* The calls of the coordinator that members and administrators make: what they say is checked here
 * against the limits, then the group's state machine takes a turn. Any thread. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "broker/consumer_int.h"
#include "broker/coordinator_int.h"
#include "broker/streams_int.h"

#define DESCRIBE_BYTES_MAX (1u << 30)

static bool group_name_ok(struct slice group)
{
    return group.len > 0 && group.len <= LIMIT_GROUP_NAME && !memchr(group.ptr, 0, group.len);
}

static struct slice shorten(struct slice s)
{
    if (s.len > LIMIT_GROUP_WORD)
        s.len = LIMIT_GROUP_WORD;
    return slice_is_null(s) ? slice_of("", 0) : s;
}

/* ---- classic ---- */

static enum err protocols_check(const struct group_join *j)
{
    size_t bytes = 0;
    unsigned i;

    if (j->protocols_n > LIMIT_GROUP_PROTOCOLS)
        return ERR_TOO_LARGE;
    for (i = 0; i < j->protocols_n; i++) {
        if (j->protocols[i].name.len > LIMIT_GROUP_WORD ||
            j->protocols[i].metadata.len > LIMIT_MEMBER_BYTES)
            return ERR_TOO_LARGE;
        bytes += j->protocols[i].metadata.len;
    }
    return bytes > LIMIT_MEMBER_BYTES ? ERR_TOO_LARGE : ERR_OK;
}

static enum err join_check(struct turn *t, const struct group_join *j)
{
    const struct group_conf *conf = &t->c->conf;

    if (!group_name_ok(j->group))
        return ERR_GROUP_ID;
    if (atomic_load(&t->c->draining))
        return ERR_COORDINATOR;
    if (j->session_timeout_ms < conf->session_timeout_ms_min ||
        j->session_timeout_ms > conf->session_timeout_ms_max)
        return ERR_SESSION_TIMEOUT;
    if (j->member_id.len > LIMIT_MEMBER_ID)
        return ERR_UNKNOWN_MEMBER;
    if (j->instance_id.len > LIMIT_GROUP_WORD || j->protocol_type.len > LIMIT_GROUP_WORD)
        return ERR_INVALID;
    return protocols_check(j);
}

static void join_turn(struct turn *t, const struct group_join *j, struct group_wait_state *s)
{
    enum err e = join_check(t, j);

    if (!e && (share_group(t, j->group) || (t->g && t->g->kind == GROUP_STREAMS)))
        e = ERR_INCONSISTENT_PROTOCOL;
    if (!e && t->g && t->g->kind == GROUP_CONSUMER) {
        mixed_join(t, j, s);
        return;
    }
    if (!e && !t->g && j->member_id.len)
        e = ERR_UNKNOWN_MEMBER;
    if (!e && !t->g) {
        turn_make(t, j->group, GROUP_CLASSIC);
        e = t->g ? ERR_OK : ERR_COORDINATOR;
    }
    if (e)
        turn_answer_error(t, s, e, j->member_id, NULL);
    else
        classic_join(t, j, s);
}

void group_join(struct broker *b, const struct group_join *join, int64_t now_ms,
                struct group_wait *w, group_join_fn done, void *arg)
{
    struct group_wait_state *s = wait_new(WAIT_JOIN, w, arg);
    struct group_join j = *join;
    struct turn t;

    s->done.join = done;
    j.client_id = shorten(j.client_id);
    j.client_host = shorten(j.client_host);
    if (j.rebalance_timeout_ms < 0)
        j.rebalance_timeout_ms = j.session_timeout_ms;
    turn_begin(&t, b, j.group, now_ms);
    join_turn(&t, &j, s);
    turn_end(&t);
}

static enum err sync_sizes(const struct group_sync *y)
{
    size_t bytes = 0;
    unsigned i;

    for (i = 0; i < y->assignments_n; i++) {
        if (y->assignments[i].assignment.len > LIMIT_MEMBER_BYTES)
            return ERR_TOO_LARGE;
        bytes += y->assignments[i].assignment.len;
    }
    return bytes > LIMIT_GROUP_ASSIGNMENT ? ERR_TOO_LARGE : ERR_OK;
}

void group_sync(struct broker *b, const struct group_sync *y, int64_t now_ms, struct group_wait *w,
                group_sync_fn done, void *arg)
{
    struct group_wait_state *s = wait_new(WAIT_SYNC, w, arg);
    struct turn t;
    enum err e;

    s->done.sync = done;
    turn_begin(&t, b, y->group, now_ms);
    if (!group_name_ok(y->group))
        e = ERR_GROUP_ID;
    else if (atomic_load(&t.c->draining))
        e = ERR_COORDINATOR;
    else if (!t.g || !kind_speaks_classic(t.g->kind))
        e = ERR_UNKNOWN_MEMBER;
    else
        e = sync_sizes(y);
    if (e)
        turn_answer_error(&t, s, e, SLICE_NULL, NULL);
    else if (t.g->kind == GROUP_CLASSIC)
        classic_sync(&t, y, s);
    else
        mixed_sync(&t, y, s);
    turn_end(&t);
}

enum err group_heartbeat(struct broker *b, const struct group_member *m, int64_t now_ms)
{
    struct turn t;
    enum err e;

    if (!group_name_ok(m->group))
        return ERR_GROUP_ID;
    turn_begin(&t, b, m->group, now_ms);
    if (!t.g || !kind_speaks_classic(t.g->kind))
        e = ERR_UNKNOWN_MEMBER;
    else
        e = t.g->kind == GROUP_CLASSIC ? classic_heartbeat(&t, m) : mixed_heartbeat(&t, m);
    turn_end(&t);
    return e;
}

enum err group_leave(struct broker *b, struct slice group, struct group_leaver *leavers, unsigned n,
                     int64_t now_ms)
{
    struct group_durable d;
    struct turn t;
    unsigned i;
    enum err e = ERR_OK;

    for (i = 0; i < n; i++)
        leavers[i].e = ERR_UNKNOWN_MEMBER;
    if (!group_name_ok(group))
        return ERR_GROUP_ID;
    turn_begin(&t, b, group, now_ms);
    if (t.g && t.g->kind == GROUP_CLASSIC)
        classic_leave(&t, leavers, n);
    else if (t.g && t.g->kind == GROUP_CONSUMER)
        mixed_leave(&t, leavers, n);
    else if (!group_durable_get(b, group, &d))
        e = ERR_UNKNOWN_MEMBER;
    turn_end(&t);
    return e;
}

/* Begins a heartbeat's turn. False: the member has been told why it cannot be. */
static bool heartbeat_turn(struct turn *t, struct broker *b, struct slice group,
                           struct slice member, int64_t now_ms, struct group_wait_state *s)
{
    enum err e;

    turn_begin(t, b, group, now_ms);
    e = !group_name_ok(group)               ? ERR_GROUP_ID
        : atomic_load(&t->c->draining) != 0 ? ERR_COORDINATOR
                                            : ERR_OK;
    if (e)
        turn_answer_error(t, s, e, member, NULL);
    return !e;
}

/* ---- consumer ---- */

void group_consumer_heartbeat(struct broker *b, const struct group_consumer_heartbeat *beat,
                              int64_t now_ms, struct group_wait *w, group_consumer_fn done,
                              void *arg)
{
    struct group_wait_state *s = wait_new(WAIT_CONSUMER, w, arg);
    struct group_consumer_heartbeat h = *beat;
    struct turn t;

    s->done.consumer = done;
    h.client_id = shorten(h.client_id);
    h.client_host = shorten(h.client_host);
    if (heartbeat_turn(&t, b, h.group, h.member_id, now_ms, s))
        consumer_heartbeat(&t, &h, s);
    turn_end(&t);
}

/* ---- share ---- */

void group_share_heartbeat(struct broker *b, const struct group_share_heartbeat *beat,
                           int64_t now_ms, struct group_wait *w, group_consumer_fn done, void *arg)
{
    struct group_wait_state *s = wait_new(WAIT_CONSUMER, w, arg);
    struct group_share_heartbeat h = *beat;
    struct turn t;

    s->done.consumer = done;
    h.client_id = shorten(h.client_id);
    h.client_host = shorten(h.client_host);
    if (heartbeat_turn(&t, b, h.group, h.member_id, now_ms, s))
        share_heartbeat(&t, &h, s);
    turn_end(&t);
}

/* ---- streams ---- */

void group_streams_heartbeat(struct broker *b, const struct group_streams_heartbeat *beat,
                             int64_t now_ms, struct group_wait *w, group_streams_fn done, void *arg)
{
    struct group_wait_state *s = wait_new(WAIT_STREAMS, w, arg);
    struct group_streams_heartbeat h = *beat;
    struct turn t;

    s->done.streams = done;
    h.client_id = shorten(h.client_id);
    h.client_host = shorten(h.client_host);
    if (heartbeat_turn(&t, b, h.group, h.member_id, now_ms, s))
        streams_heartbeat(&t, &h, s);
    turn_end(&t);
}

/* ---- offsets ---- */

static enum err live_commit_check(struct turn *t, const struct group_member *m, bool transactional)
{
    enum err e;

    if (t->g->kind == GROUP_CLASSIC)
        return classic_commit_check(t, m, transactional);
    e = t->g->kind == GROUP_STREAMS ? streams_commit_check(t, m) : consumer_commit_check(t, m);
    /* all that TxnOffsetCommit knows */
    return transactional && e == ERR_STALE_MEMBER_EPOCH ? ERR_ILLEGAL_GENERATION : e;
}

enum err group_commit_check(struct broker *b, const struct group_member *m, bool transactional,
                            int64_t now_ms)
{
    struct group_durable d;
    struct turn t;
    enum err e;

    if (!group_name_ok(m->group))
        return ERR_GROUP_ID;
    turn_begin(&t, b, m->group, now_ms);
    if (share_group(&t, m->group))
        e = ERR_GROUP_NOT_FOUND; /* it has no offsets, but cursors */
    else if (t.g)
        e = live_commit_check(&t, m, transactional);
    else if (m->generation < 0)
        e = ERR_OK;
    else
        e = group_durable_get(b, m->group, &d) ? ERR_UNKNOWN_MEMBER : ERR_GROUP_NOT_FOUND;
    turn_end(&t);
    return e;
}

enum err group_fetch_check(struct broker *b, const struct group_member *m)
{
    struct turn t;
    enum err e = ERR_OK;

    if (!group_name_ok(m->group))
        return ERR_GROUP_ID;
    if (slice_is_null(m->member_id) && m->generation < 0)
        return ERR_OK;
    turn_begin(&t, b, m->group, 0);
    if (t.g && t.g->kind == GROUP_CONSUMER)
        e = consumer_commit_check(&t, m);
    else if (t.g && t.g->kind == GROUP_STREAMS)
        e = streams_commit_check(&t, m);
    turn_end(&t);
    return e;
}

static enum err offset_delete_check(struct turn *t, struct slice group, struct topic *topic)
{
    const struct live_group *g = t->g;
    struct group_durable d;

    if (!g)
        return group_durable_get(t->b, group, &d) ? ERR_OK : ERR_GROUP_NOT_FOUND;
    if (g->kind == GROUP_STREAMS)
        return streams_reads(g, slice_str(topic_name(topic))) ? ERR_GROUP_SUBSCRIBED : ERR_OK;
    if (g->kind != GROUP_CLASSIC)
        return consumer_subscribes(g, topic_id(topic)) ? ERR_GROUP_SUBSCRIBED : ERR_OK;
    if (g->members.n == 0)
        return ERR_OK;
    if (!classic_is_consumer_type(g))
        return ERR_GROUP_NOT_EMPTY;
    return classic_subscribes(g, slice_str(topic_name(topic))) ? ERR_GROUP_SUBSCRIBED : ERR_OK;
}

enum err group_offset_delete(struct broker *b, struct slice group, struct partition *p,
                             broker_done_fn done, void *arg, struct errinfo *info)
{
    struct group_offset_at at;
    struct group_offset o;
    struct turn t;
    enum err e;

    if (!group_name_ok(group))
        return errinfo_set(info, ERR_GROUP_ID, "%s", err_text(ERR_GROUP_ID));
    turn_begin(&t, b, group, 0);
    e = offset_delete_check(&t, group, partition_topic(p));
    turn_end(&t);
    if (e)
        return errinfo_set(info, e, "%s", err_text(e));
    if (group_offset_get(b, group, p, &o)) {
        if (done)
            done(arg, ERR_OK, NULL);
        return ERR_OK;
    }
    at = (struct group_offset_at){.topic = topic_id(partition_topic(p)),
                                  .partition = (uint32_t)partition_index(p),
                                  .committed_ms = o.committed_ms};
    return group_offset_drop(b, group, &at, done, arg, info);
}

enum err group_remove(struct broker *b, struct slice group, broker_done_fn done, void *arg,
                      struct errinfo *info)
{
    bool was = false;
    struct turn t;
    enum err e = ERR_OK;

    if (!group_name_ok(group))
        return errinfo_set(info, ERR_GROUP_ID, "%s", err_text(ERR_GROUP_ID));
    turn_begin(&t, b, group, 0);
    if (t.g &&
        (t.g->members.n || t.g->kind != GROUP_CLASSIC || t.g->classic.state != GROUP_EMPTY)) {
        e = ERR_GROUP_NOT_EMPTY;
    } else if (t.g) { /* ids were given out, which nobody may join with now */
        was = true;
        classic_forget_pending(t.g);
    }
    turn_end(&t);
    if (e)
        return errinfo_set(info, e, "%s", err_text(e));
    e = group_delete(b, group, done, arg, info);
    if (e != ERR_NOT_FOUND)
        return e;
    if (!was)
        return errinfo_set(info, ERR_GROUP_NOT_FOUND, "%s", err_text(ERR_GROUP_NOT_FOUND));
    if (done)
        done(arg, ERR_OK, NULL);
    return ERR_OK;
}

/* ---- looking ---- */

const char *group_kind_text(enum group_kind k)
{
    static const char *const text[] = {"classic", "consumer", "share", "streams"};

    ASSERT((size_t)k < sizeof text / sizeof text[0]);
    return text[k];
}

const char *group_state_text(enum group_state s)
{
    static const char *const text[] = {"Empty",
                                       "PreparingRebalance",
                                       "CompletingRebalance",
                                       "Stable",
                                       "Assigning",
                                       "Reconciling",
                                       "NotReady",
                                       "Dead"};

    ASSERT((size_t)s < sizeof text / sizeof text[0]);
    return text[s];
}

enum err group_describe(struct broker *b, struct slice group, struct group_description *out)
{
    struct group_durable d;
    struct arena *a;
    struct turn t;

    memset(out, 0, sizeof *out);
    out->state = GROUP_DEAD;
    if (!group_name_ok(group))
        return ERR_GROUP_ID;
    a = xmalloc(sizeof *a);
    arena_init(a, 4096, DESCRIBE_BYTES_MAX);
    out->memory = a;
    turn_begin(&t, b, group, 0);
    if (t.g && t.g->kind == GROUP_CLASSIC) {
        classic_describe(t.g, out, a);
    } else if (t.g && t.g->kind == GROUP_STREAMS) {
        streams_describe(t.g, out, a);
    } else if (t.g) {
        consumer_describe(t.g, out, a);
    } else if (group_durable_get(b, group, &d)) {
        out->kind = d.kind;
        out->state = GROUP_EMPTY;
        out->generation = out->assignment_epoch = d.generation;
        out->protocol_type = arena_dup(a, slice_str(d.protocol_type));
    }
    turn_end(&t);
    return ERR_OK;
}

void group_description_fini(struct group_description *d)
{
    if (d->memory) {
        arena_fini(d->memory);
        free(d->memory);
    }
    memset(d, 0, sizeof *d);
}

enum group_state live_state(const struct live_group *g)
{
    switch (g->kind) {
    case GROUP_CLASSIC:
        return g->classic.state;
    case GROUP_STREAMS:
        return streams_state(g);
    default:
        return consumer_state(g);
    }
}

struct listed {
    struct group_listing l;
    char text[];
};

static struct listed *listed_new(const struct live_group *g)
{
    struct slice type = g->kind != GROUP_CLASSIC ? slice_str(group_kind_text(g->kind))
                                                 : blob_slice(g->classic.protocol_type);
    struct listed *x = xmalloc(sizeof *x + g->name_len + type.len);

    memcpy(x->text, g->name, g->name_len);
    if (type.len)
        memcpy(x->text + g->name_len, type.ptr, type.len);
    x->l = (struct group_listing){.group = slice_of(x->text, g->name_len),
                                  .protocol_type = slice_of(x->text + g->name_len, type.len),
                                  .kind = g->kind,
                                  .state = live_state(g)};
    return x;
}

static int listed_order(const void *a, const void *b)
{
    return ordered_compare((*(struct listed *const *)a)->l.group,
                           (*(struct listed *const *)b)->l.group);
}

/* All live groups, in order of name. */
static struct listed **live_list(struct coordinator *c, size_t *n)
{
    struct listed **out = NULL;
    size_t cap = 0;
    unsigned i;

    *n = 0;
    for (i = 0; i < GROUP_SHARDS; i++) {
        struct shard *sh = &c->shard[i];
        uint32_t at = 0;
        void *g;

        io_mutex_lock(&sh->lock);
        while (map_next(&sh->groups, &at, NULL, &g)) {
            if (*n == cap) {
                cap = cap ? cap * 2 : 64;
                out = xrealloc(out, cap * sizeof(struct listed *));
            }
            out[(*n)++] = listed_new(g);
        }
        io_mutex_unlock(&sh->lock);
    }
    if (*n)
        qsort(out, *n, sizeof(struct listed *), listed_order);
    return out;
}

static bool word_in(const char *word, const struct slice *list, unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i++)
        if (list[i].len == strlen(word) &&
            strncasecmp(word, (const char *)list[i].ptr, list[i].len) == 0)
            return true;
    return n == 0;
}

static bool wanted(const struct group_filter *f, const struct group_listing *l)
{
    return !f || (word_in(group_state_text(l->state), f->states, f->states_n) &&
                  word_in(group_kind_text(l->kind), f->kinds, f->kinds_n));
}

void groups_list(struct broker *b, const struct group_filter *f,
                 void (*fn)(void *arg, const struct group_listing *g), void *arg)
{
    struct group_durable d = {.name_len = 0};
    size_t n, i = 0, k;
    struct listed **live = live_list(b->coordinator, &n);
    bool more = group_durable_next(b, SLICE_LIT(""), &d);

    while (more || i < n) {
        struct slice name = slice_of(d.name, d.name_len);
        int order = !more ? -1 : i == n ? 1 : ordered_compare(live[i]->l.group, name);
        struct group_listing l = {.group = name,
                                  .protocol_type = slice_str(d.protocol_type),
                                  .kind = d.kind,
                                  .state = GROUP_EMPTY};

        if (order <= 0)
            l = live[i++]->l;
        if (wanted(f, &l))
            fn(arg, &l);
        if (order >= 0)
            more = group_durable_next(b, name, &d);
    }
    for (k = 0; k < n; k++)
        free(live[k]);
    free(live);
}
