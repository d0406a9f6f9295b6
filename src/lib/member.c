/* Members of groups: the broker's coordinator of KIP-848 without a network. One thread at a time for
 * each member; members of one group may be used by different threads.
 *
 * A heartbeat tells the coordinator what the member has and is told what it is to have. What it is
 * to give up it gives up at once, says so with the next heartbeat, and only then somebody else gets
 * it. So a partition has one reader at a time, unless its owner was silent for so long that the
 * coordinator took it away: then commits are refused.
 *
 * Each partition has its own reader; they take turns. Nobody else moves the groups' clock, so
 * whoever waits for a record does it (groups_tick). */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/coordinator.h"
#include "broker/tier.h"
#include "io/io.h"
#include "journal/journal.h"
#include "lib/lib_int.h"

#define REBALANCE_MS   45000
#define BEAT_MS_MAX    200 /* there is no network to spare */
#define BEATS_MAX      8u  /* in a row, while what the member has changes */
#define WAIT_MS_MAX    1000
#define TIMEOUT_MS_MAX 1000000000000

struct part {
    struct topic *t; /* referenced */
    int32_t index;
    struct reader *r;        /* NULL: its topic is gone */
    int64_t next, committed; /* one past the last record returned; -1: none yet */
};

/* What a heartbeat was answered. */
struct answer {
    struct io_mutex lock;
    struct io_cond cond;
    bool finished;
    struct errinfo info;
    enum err e;
    char *member_id;
    int32_t epoch, heartbeat_ms;
    bool has_assignment;
    struct part *parts; /* topics referenced */
    unsigned parts_n;
    struct broker *b;
};

struct weir_member {
    struct weir *w;
    char *group, *regex, *assignor, *instance;
    struct slice *topics;
    unsigned topics_n;
    bool from_end;
    int64_t auto_commit_ms;
    void (*on_rebalance)(void *, struct weir_member *, enum weir_rebalance,
                         const struct weir_topic_partition *, size_t);
    void *arg;
    char *id;
    int32_t epoch;
    uint64_t beat_ms;      /* when the next heartbeat is due */
    bool said;             /* the coordinator knows what we have */
    bool inside;           /* on_rebalance is running */
    uint64_t committed_ms; /* when it was */
    struct part *parts;
    unsigned parts_n, turn;
    struct lib_message box;
};

static uint64_t now_ms(void)
{
    return io_mono_ns(io_real()) / 1000000u;
}

/* ---- partitions ---- */

static bool part_is(const struct part *a, const struct part *b)
{
    return a->t == b->t && a->index == b->index;
}

static bool parts_have(const struct part *parts, unsigned n, const struct part *p)
{
    unsigned i;

    for (i = 0; i < n; i++)
        if (part_is(&parts[i], p))
            return true;
    return false;
}

static void part_close(struct part *p)
{
    reader_close(&p->r);
    topic_unref(&p->t);
}

/* Where the group goes on in this partition. */
static enum err part_open(struct weir_member *m, struct part *p, struct errinfo *info)
{
    struct partition *bp = topic_partition(p->t, p->index);
    struct reader_conf conf = {.selector = slice_str(topic_name(p->t)), .partition = p->index};
    struct group_offset o;
    struct plog_info now;
    enum err e;

    p->next = p->committed = -1;
    if (!bp)
        return ERR_OK; /* being deleted */
    plog_info_get(partition_log(bp), &now);
    e = group_offset_get(m->w->b, slice_str(m->group), bp, &o);
    if (e == ERR_NOT_FOUND) {
        conf.from = m->from_end ? READ_FROM_END : READ_FROM_START;
    } else {
        conf.from = READ_FROM_OFFSET;
        conf.offset = o.offset < partition_start(bp) ? partition_start(bp)
                      : o.offset > now.end_offset    ? now.end_offset
                                                     : o.offset;
        p->committed = o.offset;
    }
    e = reader_open(m->w->b, &conf, &p->r, info);
    return e == ERR_TOPIC_NOT_FOUND ? ERR_OK : e;
}

static void tell(struct weir_member *m, enum weir_rebalance what, const struct part *parts,
                 unsigned n)
{
    struct weir_topic_partition *out;
    unsigned i;

    if (!m->on_rebalance || n == 0)
        return;
    out = xmalloc(n * sizeof *out);
    for (i = 0; i < n; i++)
        out[i] = (struct weir_topic_partition){topic_name(parts[i].t), parts[i].index};
    m->inside = true;
    m->on_rebalance(m->arg, m, what, out, n);
    m->inside = false;
    free(out);
}

/* ---- heartbeats ---- */

static char *text_of(struct slice s)
{
    char *t = xcalloc(1, s.len + 1);

    memcpy(t, s.ptr, s.len);
    return t;
}

static void answered(void *arg, const struct group_consumer_result *r)
{
    struct answer *a = arg;
    unsigned i, k, n = 0;

    io_mutex_lock(&a->lock);
    a->e = r->e;
    if (r->e)
        errinfo_set(&a->info, r->e, "%s", r->text ? r->text : err_text(r->e));
    a->epoch = r->member_epoch;
    a->heartbeat_ms = r->heartbeat_ms;
    if (!r->e && r->member_id.len)
        a->member_id = text_of(r->member_id);
    a->has_assignment = !r->e && r->has_assignment;
    for (i = 0; a->has_assignment && i < r->assignment_n; i++)
        n += r->assignment[i].n;
    a->parts = xcalloc(n ? n : 1, sizeof *a->parts);
    for (i = 0; a->has_assignment && i < r->assignment_n; i++)
        for (k = 0; k < r->assignment[i].n; k++) {
            struct topic *t = topic_find_uuid(a->b, r->assignment[i].topic_uuid);

            if (t)
                a->parts[a->parts_n++] =
                    (struct part){.t = t, .index = r->assignment[i].partitions[k]};
        }
    a->finished = true;
    io_cond_signal(&a->cond);
    io_mutex_unlock(&a->lock);
}

static void answer_init(struct answer *a, struct broker *b)
{
    memset(a, 0, sizeof *a);
    a->b = b;
    io_mutex_init(&a->lock);
    io_cond_init(&a->cond);
}

static void answer_fini(struct answer *a)
{
    unsigned i;

    for (i = 0; i < a->parts_n; i++)
        topic_unref(&a->parts[i].t);
    free(a->parts);
    free(a->member_id);
    io_cond_fini(&a->cond);
    io_mutex_fini(&a->lock);
}

static int part_order(const void *x, const void *y)
{
    const struct part *a = x, *b = y;

    if (a->t != b->t)
        return memcmp(topic_uuid(a->t), topic_uuid(b->t), 16);
    return (a->index > b->index) - (a->index < b->index);
}

/* What the member has, by topic. Memory: two blocks, the second in (*out)[0].partitions. */
static unsigned owned_make(struct weir_member *m, struct group_topic_partitions **out)
{
    struct group_topic_partitions *t = xcalloc(m->parts_n + 1, sizeof *t);
    int32_t *numbers = xmalloc((m->parts_n + 1) * sizeof *numbers);
    unsigned i, n = 0;

    if (m->parts_n)
        qsort(m->parts, m->parts_n, sizeof *m->parts, part_order);
    t[0].partitions = numbers;
    for (i = 0; i < m->parts_n; i++) {
        if (i == 0 || m->parts[i].t != m->parts[i - 1].t) {
            memcpy(t[n].topic_uuid, topic_uuid(m->parts[i].t), 16);
            t[n++].partitions = &numbers[i];
        }
        numbers[i] = m->parts[i].index;
        t[n - 1].n++;
    }
    *out = t;
    return n;
}

/* One heartbeat with its answer. */
static void beat_send(struct weir_member *m, int32_t epoch, struct answer *a)
{
    struct group_topic_partitions *owned = NULL;
    bool full = epoch == GROUP_EPOCH_JOIN;
    struct group_consumer_heartbeat h = {.group = slice_str(m->group),
                                         .member_id = slice_str(m->id),
                                         .member_epoch = epoch,
                                         .instance_id = slice_str(m->instance),
                                         .client_id = SLICE_LIT("libweir"),
                                         .client_host = SLICE_LIT(""),
                                         .rebalance_timeout_ms = full ? REBALANCE_MS : -1};
    struct group_wait wait = {0};

    if (full) {
        h.topics = m->topics;
        h.topics_n = m->topics_n;
        h.topic_regex = slice_str(m->regex);
        h.assignor = slice_str(m->assignor);
    }
    if (epoch >= 0 && (full || !m->said)) {
        h.owned_n = owned_make(m, &owned);
        h.owned = owned;
        m->said = true;
    }
    group_consumer_heartbeat(m->w->b, &h, (int64_t)now_ms(), &wait, answered, a);
    io_mutex_lock(&a->lock);
    while (!a->finished)
        io_cond_wait(&a->cond, &a->lock);
    io_mutex_unlock(&a->lock);
    if (owned) {
        free((void *)(uintptr_t)owned[0].partitions);
        free(owned);
    }
}

static enum err commit(struct weir_member *m, struct append *a, struct errinfo *info);

/* Gives up what is not in the answer; with `lost`, everything. */
static void parts_drop(struct weir_member *m, const struct answer *a, bool lost)
{
    struct part *gone = xcalloc(m->parts_n + 1, sizeof *gone);
    unsigned i, n = 0, kept = 0;

    for (i = 0; i < m->parts_n; i++)
        if (lost || !parts_have(a->parts, a->parts_n, &m->parts[i]))
            gone[n++] = m->parts[i];
    if (n && !lost && m->auto_commit_ms > 0)
        commit(m, NULL, NULL); /* what fails is read again by the next owner */
    tell(m, lost ? WEIR_LOST : WEIR_REVOKED, gone, n);
    for (i = 0; i < m->parts_n; i++)
        if (!parts_have(gone, n, &m->parts[i]))
            m->parts[kept++] = m->parts[i];
    m->parts_n = kept;
    for (i = 0; i < n; i++)
        part_close(&gone[i]);
    if (n)
        m->said = false;
    free(gone);
}

static enum err parts_take(struct weir_member *m, const struct answer *a, struct errinfo *info)
{
    unsigned i, first = m->parts_n;
    enum err e = ERR_OK;

    m->parts = xrealloc(m->parts, (m->parts_n + a->parts_n + 1) * sizeof *m->parts);
    for (i = 0; !e && i < a->parts_n; i++) {
        struct part *p = &m->parts[m->parts_n];

        if (parts_have(m->parts, first, &a->parts[i]))
            continue;
        *p = (struct part){.t = topic_ref(a->parts[i].t), .index = a->parts[i].index};
        e = part_open(m, p, info);
        if (e)
            part_close(p);
        else
            m->parts_n++;
    }
    if (m->parts_n > first)
        m->said = false;
    tell(m, WEIR_ASSIGNED, m->parts + first, m->parts_n - first);
    return e;
}

/* Takes an answer in. */
static enum err answer_take(struct weir_member *m, const struct answer *a, struct errinfo *info)
{
    if (a->e == ERR_UNKNOWN_MEMBER || a->e == ERR_FENCED_MEMBER_EPOCH) {
        parts_drop(m, a, true);
        m->epoch = GROUP_EPOCH_JOIN;
        m->said = false;
        return ERR_OK;
    }
    if (a->e) {
        if (info)
            *info = a->info;
        return a->e;
    }
    if (a->member_id) {
        free(m->id);
        m->id = xstrdup(a->member_id);
    }
    m->epoch = a->epoch;
    m->beat_ms =
        now_ms() + (a->heartbeat_ms < BEAT_MS_MAX ? (uint64_t)a->heartbeat_ms : BEAT_MS_MAX);
    if (!a->has_assignment)
        return ERR_OK;
    parts_drop(m, a, false);
    return parts_take(m, a, info);
}

/* Heartbeats until the coordinator knows what we have and has nothing new. */
static enum err beat(struct weir_member *m, struct errinfo *info)
{
    unsigned i;
    enum err e = ERR_OK;

    for (i = 0; !e && i < BEATS_MAX; i++) {
        bool again = m->epoch == GROUP_EPOCH_JOIN || !m->said;
        struct answer a;

        if (i && !again)
            break;
        answer_init(&a, m->w->b);
        beat_send(m, m->epoch, &a);
        e = answer_take(m, &a, info);
        answer_fini(&a);
    }
    return e;
}

static void tick(struct weir_member *m)
{
    if (!io_mutex_trylock(&m->w->tick_lock))
        return;
    groups_tick(m->w->b, (int64_t)now_ms());
    io_mutex_unlock(&m->w->tick_lock);
}

/* ---- committing ---- */

static enum err allowed(struct weir_member *m, struct errinfo *info)
{
    struct group_member who = {.group = slice_str(m->group),
                               .member_id = slice_str(m->id),
                               .instance_id = SLICE_NULL,
                               .generation = m->epoch};
    enum err e = group_commit_check(m->w->b, &who, false, (int64_t)now_ms());

    if (e == ERR_STALE_MEMBER_EPOCH && !m->inside) { /* others came: the epoch went on */
        if ((e = beat(m, info)))
            return e;
        who.generation = m->epoch;
        who.member_id = slice_str(m->id);
        e = group_commit_check(m->w->b, &who, false, (int64_t)now_ms());
    }
    return e ? errinfo_set(info, e, "%s", err_text(e)) : ERR_OK;
}

/* Adds what was returned so far to a, or commits it if a is NULL. */
static enum err commit(struct weir_member *m, struct append *a, struct errinfo *info)
{
    struct append *own = NULL;
    enum err e = allowed(m, info);
    unsigned i, n = 0;

    m->committed_ms = now_ms();
    if (e)
        return e;
    if (!a)
        a = own = append_new(m->w->b, NULL, NULL);
    for (i = 0; !e && i < m->parts_n; i++) {
        struct part *p = &m->parts[i];

        if (p->next < 0 || p->next == p->committed || topic_deleted(p->t))
            continue;
        e = append_offset(a, slice_str(m->group), topic_partition(p->t, p->index), p->next,
                          SLICE_NULL);
        n++;
    }
    if (!e && own && n)
        e = append_submit_wait(own, info);
    for (i = 0; !e && own && i < m->parts_n; i++)
        m->parts[i].committed = m->parts[i].next < 0 ? m->parts[i].committed : m->parts[i].next;
    append_free(&own);
    return e;
}

weir_err weir_member_commit(struct weir_member *m, struct weir_error *error)
{
    struct errinfo info = {0};

    return lib_fail(commit(m, NULL, &info), &info, error);
}

weir_err weir_member_produce(struct weir_member *m, const char *topic,
                             const struct weir_record *records, size_t n, struct weir_place *places,
                             struct weir_error *error)
{
    struct append *a = append_new(m->w->b, NULL, NULL);
    struct append_slot *slots = xcalloc(n + 1, sizeof *slots);
    struct errinfo info = {0};
    struct append_place place;
    struct topic *t = NULL;
    enum err e = ERR_OK;
    size_t i;

    if (topic && n)
        e = lib_topic(m->w, slice_str(topic), &t, &info);
    if (!e && t)
        e = lib_encode_all(a, t, records, n, slots, &info);
    if (!e)
        e = commit(m, a, &info);
    if (!e)
        e = append_submit_wait(a, &info);
    for (i = 0; !e && i < m->parts_n; i++)
        if (m->parts[i].next >= 0)
            m->parts[i].committed = m->parts[i].next;
    for (i = 0; !e && t && places && i < n; i++)
        if (!(e = append_place(a, slots[i], &place)))
            lib_place_out(&places[i], &place);
    append_free(&a);
    topic_unref(&t);
    free(slots);
    return lib_fail(e, &info, error);
}

/* ---- reading ---- */

static enum err read_one(struct weir_member *m, struct weir_message *out, struct errinfo *info)
{
    struct reader_record r;
    unsigned i;
    enum err e;

    for (i = 0; i < m->parts_n; i++) {
        struct part *p = &m->parts[m->turn++ % m->parts_n];

        if (!p->r)
            continue;
        e = reader_next(p->r, &r, info);
        if (e == ERR_TOPIC_NOT_FOUND) {
            reader_close(&p->r); /* the coordinator will take it from us */
            continue;
        }
        if (e == ERR_AGAIN)
            continue;
        if (e)
            return e;
        p->next = r.offset + 1;
        m->turn--; /* stay: its next records are at hand */
        if ((p->next & 63) == 0)
            m->turn++; /* but not for ever */
        lib_message_out(&m->box, &r, out);
        return ERR_OK;
    }
    return ERR_AGAIN;
}

/* Milliseconds until something else is to be done. */
static uint64_t chores_due(struct weir_member *m)
{
    uint64_t now = now_ms(), due = now + WAIT_MS_MAX;
    int64_t tick_at = groups_deadline_ms(m->w->b);

    due = m->beat_ms < due ? m->beat_ms : due;
    if (m->auto_commit_ms > 0 && m->committed_ms + (uint64_t)m->auto_commit_ms < due)
        due = m->committed_ms + (uint64_t)m->auto_commit_ms;
    if (tick_at >= 0 && (uint64_t)tick_at < due)
        due = (uint64_t)tick_at;
    return due > now ? due - now : 0;
}

static enum err chores(struct weir_member *m, struct errinfo *info)
{
    uint64_t now = now_ms();
    enum err e = ERR_OK;

    tick(m);
    if (now >= m->beat_ms || m->epoch == GROUP_EPOCH_JOIN || !m->said)
        e = beat(m, info);
    if (!e && m->auto_commit_ms > 0 && now >= m->committed_ms + (uint64_t)m->auto_commit_ms)
        e = commit(m, NULL, info);
    return e;
}

static enum err next(struct weir_member *m, int64_t timeout_ms, struct weir_message *out,
                     struct errinfo *info)
{
    uint64_t end = UINT64_MAX, seen, left, due;
    enum err e;

    if (timeout_ms >= 0 && timeout_ms < TIMEOUT_MS_MAX)
        end = now_ms() + (uint64_t)timeout_ms;
    for (;;) {
        if (chores_due(m) == 0 && (e = chores(m, info)))
            return e;
        seen = broker_commits(m->w->b);
        e = read_one(m, out, info);
        if (e != ERR_AGAIN)
            return e;
        if (now_ms() >= end)
            return ERR_AGAIN;
        left = end - now_ms();
        due = chores_due(m);
        lib_wait(m->w, seen, due < left ? due : left);
    }
}

weir_err weir_member_next(struct weir_member *m, int64_t timeout_ms, struct weir_message *out,
                          struct weir_error *error)
{
    struct errinfo info = {0};

    return lib_read_fail(m->w, next(m, timeout_ms, out, &info), &info, error);
}

size_t weir_member_assignment(struct weir_member *m, struct weir_topic_partition *out, size_t max)
{
    size_t i;

    for (i = 0; i < m->parts_n && i < max; i++)
        out[i] = (struct weir_topic_partition){topic_name(m->parts[i].t), m->parts[i].index};
    return m->parts_n;
}

/* ---- opening and closing ---- */

static enum err options_check(const struct weir_member_options *o, struct errinfo *info)
{
    size_t i;

    if (!o->group || !o->group[0] || strlen(o->group) > LIMIT_GROUP_NAME)
        return errinfo_set(info, ERR_INVALID, "a group's name has 1 to %u bytes", LIMIT_GROUP_NAME);
    if (o->topics_n == 0 && !o->topic_regex)
        return errinfo_set(info, ERR_INVALID, "a member needs topics");
    for (i = 0; i < o->topics_n; i++)
        if (!o->topics || !o->topics[i])
            return errinfo_set(info, ERR_INVALID, "a topic is NULL");
    return ERR_OK;
}

weir_err weir_member_new(struct weir *w, const struct weir_member_options *options,
                         struct weir_member **out, struct weir_error *error)
{
    struct weir_member_options o = {0};
    struct errinfo info = {0};
    enum err e = lib_options(&o, sizeof o, options, &info);
    struct weir_member *m;
    size_t i;

    *out = NULL;
    if (e || (e = options_check(&o, &info)))
        return lib_fail(e, &info, error);
    m = xcalloc(1, sizeof *m);
    m->w = w;
    m->group = xstrdup(o.group);
    m->regex = o.topic_regex ? xstrdup(o.topic_regex) : NULL;
    m->assignor = o.assignor ? xstrdup(o.assignor) : NULL;
    m->instance = o.instance_id ? xstrdup(o.instance_id) : NULL;
    m->id = xstrdup("");
    m->topics = xcalloc(o.topics_n + 1, sizeof *m->topics);
    for (i = 0; i < o.topics_n; i++)
        m->topics[m->topics_n++] = slice_str(xstrdup(o.topics[i]));
    m->from_end = o.from_end;
    m->auto_commit_ms = o.auto_commit_ms;
    m->on_rebalance = o.on_rebalance;
    m->arg = o.arg;
    m->committed_ms = now_ms();
    lib_message_init(&m->box);
    if ((e = beat(m, &info))) {
        weir_member_close(&m);
        return lib_fail(e, &info, error);
    }
    *out = m;
    return lib_fail(ERR_OK, NULL, error);
}

void weir_member_close(struct weir_member **mp)
{
    struct weir_member *m = *mp;
    struct answer a;
    unsigned i;

    if (!m)
        return;
    if (m->epoch > 0) {
        if (m->auto_commit_ms > 0)
            commit(m, NULL, NULL);
        tell(m, WEIR_REVOKED, m->parts, m->parts_n);
        answer_init(&a, m->w->b);
        beat_send(m, m->instance ? GROUP_EPOCH_LEAVE_STATIC : GROUP_EPOCH_LEAVE, &a);
        answer_fini(&a);
    }
    for (i = 0; i < m->parts_n; i++)
        part_close(&m->parts[i]);
    for (i = 0; i < m->topics_n; i++)
        free((void *)(uintptr_t)m->topics[i].ptr);
    free(m->parts);
    free(m->topics);
    free(m->group);
    free(m->regex);
    free(m->assignor);
    free(m->instance);
    free(m->id);
    lib_message_fini(&m->box);
    free(m);
    *mp = NULL;
}
