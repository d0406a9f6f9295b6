/* `groups`: members of groups over a whole broker on a simulated disk with a clock of its own, from
 * a seed.
 *
 *   groups --seeds N [--seed S] [--verbose]
 *
 * Two groups share a topic: "old" has members of the classic protocol, "new" members of KIP-848.
 * They join, beat, commit, leave, die, come back under another id, lose answers on the way and are
 * slow for longer than their session; the disk fills up and fails, the power goes off. Who gets a
 * partition begins at the group's committed offset and commits forward only.
 *
 * A checker (judge) knows only what members were told. What must hold:
 *  1. every join, sync and heartbeat is answered, in bounded time; at the end of a broker at once;
 *  2. a generation that was told is never told again after a restart, nor a lower one; in one
 *     generation of "old" all have one leader and one protocol, each member has what the leader gave
 *     it, and no partition is two members';
 *  3. no partition of "new" is in the hands of two members that the broker hears of; a member's
 *     epoch does not go back. (Members are not remembered over a restart: those of before are told
 *     so when they next say something, so this is about members of the same broker.)
 *  4. commits of those who are not members any more are refused, and so are those of a generation
 *     before one that somebody was told;
 *  5. a committed offset never goes back, is never one that nobody asked for, is never less than one
 *     that was confirmed, and has its metadata; that too over restarts;
 *  6. when nothing goes wrong any more, each partition of both groups is in one member's hands.
 * One thread; the same seed does the same. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/broker.h"
#include "broker/coordinator.h"
#include "io/sim.h"
#include "journal/journal.h"
#include "seed.h"

#define DIR          "/d"
#define PARTS        6
#define MEN          4u
#define WORKERS      5u
#define CYCLES       6u
#define GENERATIONS  4096
#define SESSION_MS   10000
#define REBALANCE_MS 12000
#define JUMP_MS      15000 /* the longest step of the clock */
#define ANSWER_MS    (REBALANCE_MS + 2 * JUMP_MS)
#define ID_MAX       100u

enum { OLD, NEW, GROUPS };
static const char *const group_name[GROUPS] = {"old", "new"};

struct world;

/* A process with a member in it. */
struct who {
    struct world *w;
    int group;
    struct group_wait wait;
    bool waits, dead;
    char id[ID_MAX];
    int32_t epoch;     /* or generation */
    uint32_t run;      /* of the broker that told it */
    int64_t asked_ms;  /* what it waits for */
    uint32_t commits;  /* under way */
    bool own[PARTS];   /* by what it was told */
    int64_t at[PARTS]; /* of those: what it committed last, or found */
};

/* Of the classic protocol. */
struct man {
    struct who k; /* first */
    enum { OUT, JOINING, JOINED, SYNCING, MEMBER } at;
    char members[MEN * 4][ID_MAX]; /* that it is to give to, as leader */
    unsigned members_n;
    char protocol[ID_MAX];
};

/* Of the consumer protocol. */
struct worker {
    struct who k; /* first */
    bool in, next_told, next[PARTS];
    int32_t told;     /* highest epoch in an answer, also in one that got lost on the way */
    int64_t heard_ms; /* when it sent the heartbeat that was answered last */
};

/* One generation of "old", as its members were told. */
struct generation {
    uint64_t leader, protocol, owner[PARTS]; /* hashes of names; 0: not known */
};

struct commit {
    struct who *k;
    struct world *w;
    int group, part;
    int64_t offset;
};

struct world {
    struct io *io;
    struct broker *b;
    struct topic *t;
    struct seed seed;
    uint32_t run, ids, commits; /* commits: under way */
    struct man man[MEN];
    struct worker worker[WORKERS];
    int32_t highest[GROUPS], before[GROUPS]; /* told so far; by brokers that are no more */
    struct generation *generation;
    int64_t asked[GROUPS][PARTS], acked[GROUPS][PARTS], seen[GROUPS][PARTS];
    uint64_t st_generations, st_commits, st_refused, st_moves, st_crashes, st_failed;
};

static uint64_t hash_of(struct slice s)
{
    static const uint8_t seed[16] = {1};

    return siphash64(seed, s.ptr, s.len) | 1;
}

static void id_keep(struct world *w, char out[ID_MAX], struct slice s)
{
    if (s.len >= ID_MAX)
        die(&w->seed, "an id of %zu bytes", s.len);
    memcpy(out, s.ptr, s.len);
    out[s.len] = 0;
}

/* ---- offsets ---- */

static size_t meta_make(int64_t offset, char out[LIMIT_GROUP_METADATA])
{
    size_t n = offset % 16 ? (size_t)offset % 40 : (size_t)offset * 97 % (LIMIT_GROUP_METADATA + 1);

    memset(out, 'a' + (int)(offset % 26), n);
    return n;
}

static int64_t offset_of(struct world *w, int group, int part)
{
    static char meta[LIMIT_GROUP_METADATA], want[LIMIT_GROUP_METADATA];
    struct group_offset o;

    if (group_offset_get_full(w->b, slice_str(group_name[group]), topic_partition(w->t, part), &o,
                              meta))
        return 0;
    if (!slice_eq(o.metadata, slice_of(want, meta_make(o.offset, want))))
        die(&w->seed, "%s: partition %d: offset %" PRId64 " has the metadata of another",
            group_name[group], part, o.offset);
    return o.offset;
}

/* Looks at all offsets. */
static void judge(struct world *w)
{
    int g, p;

    for (g = 0; g < GROUPS; g++)
        for (p = 0; p < PARTS; p++) {
            int64_t at = offset_of(w, g, p);

            if (at < w->seen[g][p])
                die(&w->seed, "%s: partition %d: the offset went back from %" PRId64 " to %" PRId64,
                    group_name[g], p, w->seen[g][p], at);
            if (at < w->acked[g][p])
                die(&w->seed, "%s: partition %d: %" PRId64 " was confirmed, %" PRId64 " is there",
                    group_name[g], p, w->acked[g][p], at);
            if (at > w->asked[g][p])
                die(&w->seed, "%s: partition %d: nobody committed %" PRId64, group_name[g], p, at);
            w->seen[g][p] = at;
        }
}

static void commit_done(void *arg, enum err e, const struct errinfo *info)
{
    struct commit *c = arg;
    struct world *w = c->w;

    w->commits--;
    if (c->k)
        c->k->commits--;
    if (!e && c->offset > w->acked[c->group][c->part])
        w->acked[c->group][c->part] = c->offset;
    w->st_commits += !e;
    w->st_failed += e != ERR_OK;
    free(c);
}

/* Partitions that it has from now on: it goes on where the group is. */
static void take(struct who *k, int part)
{
    k->own[part] = true;
    k->at[part] = offset_of(k->w, k->group, part);
    k->w->st_moves++;
}

/* Whether a commit of it may be accepted. */
static void commit_accepted(struct who *k)
{
    struct world *w = k->w;
    int g = k->group;

    if (k->run != w->run)
        die(&w->seed, "%s: a commit is accepted of %s, which has not joined since the restart",
            group_name[g], k->id);
    if (g == OLD && k->epoch < w->highest[g])
        die(&w->seed, "old: a commit is accepted in generation %d, %d was told", (int)k->epoch,
            (int)w->highest[g]);
    if (g == NEW && k->epoch < ((struct worker *)k)->told)
        die(&w->seed, "new: a commit is accepted in epoch %d, %s was told %d", (int)k->epoch, k->id,
            (int)((struct worker *)k)->told);
}

/* One of its partitions, further than before. The error is why it may not. */
static enum err commit(struct who *k)
{
    static char meta[LIMIT_GROUP_METADATA];
    struct world *w = k->w;
    int g = k->group, p = (int)rnd(&w->seed, PARTS);
    struct group_member m = {
        .group = slice_str(group_name[g]), .member_id = slice_str(k->id), .generation = k->epoch};
    struct commit *c;
    enum err e;

    if (!k->own[p])
        return ERR_OK;
    if ((e = group_commit_check(w->b, &m, false, now_ms(w->io)))) {
        w->st_refused++;
        return e;
    }
    commit_accepted(k);
    c = xcalloc(1, sizeof *c);
    *c = (struct commit){k, w, g, p, k->at[p] + 1 + (int64_t)rnd(&w->seed, 5)};
    k->at[p] = c->offset;
    if (c->offset > w->asked[g][p])
        w->asked[g][p] = c->offset;
    w->commits++;
    k->commits++;
    e = group_commit(w->b, slice_str(group_name[g]), topic_partition(w->t, p), c->offset,
                     slice_of(meta, meta_make(c->offset, meta)), commit_done, c, NULL);
    if (e)
        commit_done(c, e, NULL);
    return ERR_OK;
}

/* ---- what members of any kind do ---- */

static void asks(struct who *k)
{
    k->waits = true;
    k->asked_ms = now_ms(k->w->io);
}

static void answered(struct who *k, const char *what)
{
    if (!k->waits)
        die(&k->w->seed, "%s: %s: an answer that was not awaited", k->id, what);
    k->waits = false;
}

static void hang_up(struct who *k)
{
    group_wait_cancel(k->w->b, &k->wait);
    k->waits = false;
}

/* It dies. Its commits may be under way still: the next process in its place begins with them. */
static void gone(struct who *k)
{
    hang_up(k);
    memset(k->own, 0, sizeof k->own);
    k->id[0] = 0;
    k->epoch = 0;
    k->dead = true;
}

/* A generation or epoch was told. */
static void told(struct world *w, int group, int32_t n)
{
    if (n <= w->before[group])
        die(&w->seed, "%s: %d is told after a restart, %d was before", group_name[group], (int)n,
            (int)w->before[group]);
    if (n > w->highest[group]) {
        w->highest[group] = n;
        w->st_generations++;
    }
}

static void late(struct world *w, const struct who *k)
{
    if (k->waits && now_ms(w->io) - k->asked_ms > ANSWER_MS)
        die(&w->seed, "%s: %s has waited for %" PRId64 " ms", group_name[k->group], k->id,
            now_ms(w->io) - k->asked_ms);
}

/* ---- classic members ---- */

static void same(struct world *w, uint64_t *known, struct slice s, const char *what, int32_t n)
{
    uint64_t h = hash_of(s);

    if (*known && *known != h)
        die(&w->seed, "old: generation %d has two %ss", (int)n, what);
    *known = h;
}

static void man_out(struct man *m)
{
    m->at = OUT;
    memset(m->k.own, 0, sizeof m->k.own);
}

static void man_joined(void *arg, const struct group_join_result *r)
{
    struct man *m = arg;
    struct world *w = m->k.w;
    unsigned i;

    answered(&m->k, "join");
    m->at = OUT;
    switch (r->e) {
    case ERR_MEMBER_ID_REQUIRED:
        id_keep(w, m->k.id, r->member_id);
        return;
    case ERR_UNKNOWN_MEMBER:
        m->k.id[0] = 0;
        return;
    case ERR_REBALANCE_IN_PROGRESS:
    case ERR_COORDINATOR:
        return;
    case ERR_OK:
        break;
    default:
        die(&w->seed, "old: join: %s", err_code(r->e));
    }
    if (r->generation >= GENERATIONS || r->members_n > MEN * 4)
        die(&w->seed, "old: generation %d, %u members", (int)r->generation, r->members_n);
    if (r->generation < w->highest[OLD])
        die(&w->seed, "old: generation %d is told after %d", (int)r->generation,
            (int)w->highest[OLD]);
    told(w, OLD, r->generation);
    same(w, &w->generation[r->generation].leader, r->leader, "leader", r->generation);
    same(w, &w->generation[r->generation].protocol, r->protocol_name, "protocol", r->generation);
    id_keep(w, m->k.id, r->member_id);
    id_keep(w, m->protocol, r->protocol_name);
    m->k.epoch = r->generation;
    m->k.run = w->run;
    m->members_n = r->members_n;
    for (i = 0; i < r->members_n; i++)
        id_keep(w, m->members[i], r->members[i].member_id);
    m->at = JOINED;
}

static void man_join(struct man *m)
{
    struct world *w = m->k.w;
    struct group_protocol p[2] = {{SLICE_LIT("range"), SLICE_LIT("x")},
                                  {SLICE_LIT("sticky"), SLICE_LIT("y")}};
    struct group_join j = {.group = slice_str(group_name[OLD]),
                           .member_id = slice_str(m->k.id),
                           .client_id = SLICE_LIT("c"),
                           .client_host = SLICE_LIT("h"),
                           .protocol_type = SLICE_LIT("consumer"),
                           .protocols = p,
                           .protocols_n = 1 + (unsigned)rnd(&w->seed, 2),
                           .session_timeout_ms = SESSION_MS,
                           .rebalance_timeout_ms = REBALANCE_MS,
                           .member_id_required = rnd(&w->seed, 2)};

    man_out(m);
    m->at = JOINING;
    asks(&m->k);
    group_join(w->b, &j, now_ms(w->io), &m->k.wait, man_joined, m);
}

/* An assignment is a byte "0" or "1" for each partition, then the id that it is for. */
static void man_synced(void *arg, const struct group_sync_result *r)
{
    struct man *m = arg;
    struct world *w = m->k.w;
    struct generation *g = &w->generation[m->k.epoch];
    int p;

    answered(&m->k, "sync");
    m->at = OUT;
    if (r->e == ERR_UNKNOWN_MEMBER)
        m->k.id[0] = 0;
    if (r->e == ERR_UNKNOWN_MEMBER || r->e == ERR_REBALANCE_IN_PROGRESS ||
        r->e == ERR_ILLEGAL_GENERATION || r->e == ERR_COORDINATOR)
        return;
    if (r->e)
        die(&w->seed, "old: sync: %s", err_code(r->e));
    m->at = MEMBER;
    if (r->assignment.len < PARTS ||
        !slice_eq_str(slice_of(r->assignment.ptr + PARTS, r->assignment.len - PARTS), m->k.id))
        die(&w->seed, "old: %s has an assignment that is not its own", m->k.id);
    for (p = 0; p < PARTS; p++)
        if (r->assignment.ptr[p] == '1') {
            same(w, &g->owner[p], slice_str(m->k.id), "owner", m->k.epoch);
            take(&m->k, p);
        }
}

static void man_sync(struct man *m)
{
    struct world *w = m->k.w;
    struct group_assignment a[MEN * 4];
    char text[MEN * 4][PARTS + ID_MAX];
    struct group_sync y = {.group = slice_str(group_name[OLD]),
                           .member_id = slice_str(m->k.id),
                           .generation = m->k.epoch,
                           .protocol_type = SLICE_LIT("consumer"),
                           .protocol_name = slice_str(m->protocol),
                           .assignments = a,
                           .assignments_n = m->members_n};
    unsigned i, p;

    for (i = 0; i < m->members_n; i++) {
        for (p = 0; p < PARTS; p++)
            text[i][p] = p % m->members_n == i ? '1' : '0';
        snprintf(text[i] + PARTS, ID_MAX, "%s", m->members[i]);
        a[i].member_id = slice_str(m->members[i]);
        a[i].assignment = slice_str(text[i]);
    }
    m->at = SYNCING;
    asks(&m->k);
    group_sync(w->b, &y, now_ms(w->io), &m->k.wait, man_synced, m);
}

/* A heartbeat or a commit was refused. */
static void man_refused(struct man *m, enum err e)
{
    struct world *w = m->k.w;

    if (e == ERR_UNKNOWN_MEMBER || e == ERR_GROUP_NOT_FOUND)
        m->k.id[0] = 0;
    else if (e != ERR_REBALANCE_IN_PROGRESS && e != ERR_ILLEGAL_GENERATION)
        die(&w->seed, "old: heartbeat or commit: %s", err_code(e));
    man_out(m);
}

static void man_member(struct man *m)
{
    struct world *w = m->k.w;
    struct group_member me = {.group = slice_str(group_name[OLD]),
                              .member_id = slice_str(m->k.id),
                              .generation = m->k.epoch};
    enum err e;

    if (rnd(&w->seed, 2)) {
        e = commit(&m->k);
        if (e && e != ERR_REBALANCE_IN_PROGRESS)
            man_refused(m, e);
        return;
    }
    e = group_heartbeat(w->b, &me, now_ms(w->io));
    if (e)
        man_refused(m, e);
    else if (m->k.run != w->run || m->k.epoch < w->highest[OLD])
        die(&w->seed, "old: a heartbeat is accepted in generation %d, %d was told", (int)m->k.epoch,
            (int)w->highest[OLD]);
}

static void man_leave(struct man *m)
{
    struct group_leaver l = {.member_id = slice_str(m->k.id)};

    group_leave(m->k.w->b, slice_str(group_name[OLD]), &l, 1, now_ms(m->k.w->io));
    man_out(m);
    m->k.id[0] = 0;
}

static void man_turn(struct man *m)
{
    struct world *w = m->k.w;

    if (m->k.dead) {
        m->k.dead = !w->seed.calm && rnd(&w->seed, 12);
    } else if (mishap(&w->seed, 80)) {
        gone(&m->k);
        m->at = OUT;
    } else if (m->k.waits) {
        if (mishap(&w->seed, 60)) { /* the connection is lost */
            hang_up(&m->k);
            man_out(m);
        }
    } else if (m->at == MEMBER && mishap(&w->seed, 80)) {
        man_leave(m);
    } else if (m->at == OUT) {
        man_join(m);
    } else if (m->at == JOINED) {
        man_sync(m);
    } else {
        man_member(m);
    }
}

/* ---- members of the consumer protocol ---- */

/* The broker hears of it, as far as it can know. */
static bool heard_of(const struct world *w, const struct worker *k)
{
    return !k->k.dead && k->in && k->k.run == w->run && now_ms(w->io) - k->heard_ms < SESSION_MS;
}

static void alone_check(struct world *w)
{
    const struct worker *k, *owner;
    int p;

    for (p = 0; p < PARTS; p++)
        for (k = w->worker, owner = NULL; k < w->worker + WORKERS; k++) {
            if (!k->k.own[p] || !heard_of(w, k))
                continue;
            if (owner)
                die(&w->seed, "new: partition %d is %s's and %s's", p, owner->k.id, k->k.id);
            owner = k;
        }
}

static void worker_out(struct worker *k)
{
    k->in = k->next_told = false;
    memset(k->k.own, 0, sizeof k->k.own);
    k->k.epoch = k->told = 0;
}

/* What is new to it is there at once; what it is to give up, once its commits are answered. */
static void worker_adopt(struct worker *k)
{
    int p;

    for (p = 0; p < PARTS && k->next_told; p++)
        if (k->next[p] && !k->k.own[p])
            take(&k->k, p);
    if (!k->next_told || k->k.commits)
        return;
    memcpy(k->k.own, k->next, sizeof k->next);
    k->next_told = false;
}

static void worker_next(struct worker *k, const struct group_consumer_result *r)
{
    unsigned i, n;

    memset(k->next, 0, sizeof k->next);
    for (i = 0; i < r->assignment_n; i++)
        for (n = 0; n < r->assignment[i].n; n++) {
            if (memcmp(r->assignment[i].topic_uuid, topic_uuid(k->k.w->t), 16) != 0 ||
                r->assignment[i].partitions[n] >= PARTS)
                die(&k->k.w->seed, "new: a partition that nobody asked for");
            k->next[r->assignment[i].partitions[n]] = true;
        }
    k->next_told = true;
    worker_adopt(k);
}

static void worker_told(void *arg, const struct group_consumer_result *r)
{
    struct worker *k = arg;
    struct world *w = k->k.w;

    answered(&k->k, "heartbeat");
    if (r->e == ERR_UNKNOWN_MEMBER || r->e == ERR_FENCED_MEMBER_EPOCH) {
        worker_out(k);
        return;
    }
    if (r->e == ERR_COORDINATOR)
        return;
    if (r->e)
        die(&w->seed, "new: heartbeat: %s: %s", err_code(r->e), r->text);
    if (r->member_epoch < 0) {
        worker_out(k);
        return;
    }
    told(w, NEW, r->member_epoch);
    if (r->member_epoch < k->told)
        die(&w->seed, "new: %s: epoch %d after %d", k->k.id, (int)r->member_epoch, (int)k->told);
    k->told = r->member_epoch;
    if (mishap(&w->seed, 25)) /* the answer is lost */
        return;
    k->in = true;
    k->k.run = w->run;
    k->k.epoch = r->member_epoch;
    k->heard_ms = k->k.asked_ms;
    if (r->has_assignment)
        worker_next(k, r);
    alone_check(w);
}

static void worker_beat(struct worker *k, int32_t epoch)
{
    struct world *w = k->k.w;
    struct slice name = SLICE_LIT("t");
    int32_t parts[PARTS];
    struct group_topic_partitions own = {.partitions = parts};
    bool full = epoch == 0 || rnd(&w->seed, 4) == 0;
    struct group_consumer_heartbeat h = {.group = slice_str(group_name[NEW]),
                                         .member_id = slice_str(k->k.id),
                                         .member_epoch = epoch,
                                         .client_id = SLICE_LIT("c"),
                                         .client_host = SLICE_LIT("h"),
                                         .rebalance_timeout_ms = full ? 2 * JUMP_MS : -1,
                                         .topics = full ? &name : NULL,
                                         .topics_n = full,
                                         .owned = &own};
    int p;

    for (p = 0; p < PARTS; p++)
        if (k->k.own[p])
            parts[own.n++] = p;
    memcpy(own.topic_uuid, topic_uuid(w->t), 16);
    h.owned_n = own.n > 0;
    asks(&k->k);
    group_consumer_heartbeat(w->b, &h, now_ms(w->io), &k->k.wait, worker_told, k);
}

static void worker_commit(struct worker *k)
{
    enum err e = k->next_told ? ERR_OK : commit(&k->k); /* not of what it is to give up */

    if (e == ERR_UNKNOWN_MEMBER || e == ERR_GROUP_NOT_FOUND)
        worker_out(k);
    else if (e && e != ERR_STALE_MEMBER_EPOCH)
        die(&k->k.w->seed, "new: commit: %s", err_code(e));
}

static void worker_turn(struct worker *k)
{
    struct world *w = k->k.w;

    worker_adopt(k);
    if (k->k.dead) {
        k->k.dead = !w->seed.calm && rnd(&w->seed, 12);
    } else if (mishap(&w->seed, 100)) {
        gone(&k->k);
        worker_out(k);
    } else if (k->k.waits) {
        if (mishap(&w->seed, 60))
            hang_up(&k->k);
    } else if (k->in && mishap(&w->seed, 100)) {
        memset(k->k.own, 0, sizeof k->k.own);
        k->next_told = false;
        worker_beat(k, GROUP_EPOCH_LEAVE);
    } else if (!k->in) {
        if (!k->k.id[0])
            snprintf(k->k.id, sizeof k->k.id, "worker-%u", w->ids++);
        worker_out(k);
        worker_beat(k, GROUP_EPOCH_JOIN);
    } else if (rnd(&w->seed, 3)) {
        worker_beat(k, k->k.epoch);
    } else {
        worker_commit(k);
    }
}

/* ---- the broker ---- */

static void pass(struct world *w, int64_t ms)
{
    uint32_t i;

    io_sim_advance(w->io, (uint64_t)ms * 1000000u);
    groups_tick(w->b, now_ms(w->io));
    for (i = 0; i < 3; i++)
        broker_step(w->b);
    for (i = 0; i < MEN; i++)
        late(w, &w->man[i].k);
    for (i = 0; i < WORKERS; i++)
        late(w, &w->worker[i].k);
}

static void turn(void *world)
{
    struct world *w = world;

    switch (rnd(&w->seed, 16)) {
    case 0:
    case 1:
    case 2:
    case 3:
        man_turn(&w->man[rnd(&w->seed, MEN)]);
        break;
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
        worker_turn(&w->worker[rnd(&w->seed, WORKERS)]);
        break;
    case 9:
        broker_background(w->b);
        break;
    case 10:
        if (rnd(&w->seed, 30) == 0)
            journal_checkpoint(broker_journal(w->b), NULL);
        break;
    case 11:
    case 12:
        pass(w, mishap(&w->seed, 150) ? JUMP_MS : (int64_t)rnd(&w->seed, 400));
        break;
    default:
        broker_step(w->b);
    }
    judge(w);
}

static bool open_broker(void *world)
{
    struct world *w = world;
    struct broker_conf c = {.dir = DIR,
                            .io = w->io,
                            .journal_file_bytes = 64u << 10,
                            .retention_ms_default = -1,
                            .inflight_bytes = 1u << 20};
    struct errinfo info = {0};
    struct group_conf gc;
    enum err e = broker_open(&c, &w->b, &info);

    if (e) {
        if (!io_sim_crashed(w->io) && e != ERR_NO_SPACE && e != ERR_IO)
            die(&w->seed, "does not open: %s: %s", err_code(e), info.text);
        return false;
    }
    e = topic_create_wait(w->b, SLICE_LIT("t"), PARTS, NULL, &info);
    w->t = topic_find(w->b, SLICE_LIT("t"));
    if (!w->t) {
        if (e != ERR_NO_SPACE && e != ERR_IO && e != ERR_READ_ONLY)
            die(&w->seed, "create: %s: %s", err_code(e), info.text);
        broker_close(&w->b);
        return false;
    }
    groups_conf_get(w->b, &gc);
    gc.initial_rebalance_delay_ms = (int32_t)rnd(&w->seed, 2) * 500;
    gc.consumer_session_timeout_ms = SESSION_MS;
    gc.consumer_heartbeat_ms = 1000;
    if ((e = groups_conf_set(w->b, &gc, &info)))
        die(&w->seed, "configuration: %s", info.text);
    w->run++;
    memcpy(w->before, w->highest, sizeof w->before);
    return true;
}

/* What is awaited is answered, by the draining or by the journal, where it is under way. */
static void close_broker(void *world)
{
    struct world *w = world;
    uint32_t i;

    groups_drain(w->b);
    for (i = 0; i < 10; i++)
        broker_step(w->b);
    for (i = 0; i < MEN; i++)
        if (w->man[i].k.waits)
            die(&w->seed, "old: %s is not answered in the end", w->man[i].k.id);
    for (i = 0; i < WORKERS; i++)
        if (w->worker[i].k.waits)
            die(&w->seed, "new: %s is not answered in the end", w->worker[i].k.id);
    if (w->commits)
        die(&w->seed, "%u commits are not answered in the end", w->commits);
    topic_unref(&w->t);
    broker_close(&w->b);
}

static void opened(void *world)
{
    struct world *w = world;

    say(&w->seed, "run %u: generation %d, epoch %d", w->run, (int)w->highest[OLD],
        (int)w->highest[NEW]);
    judge(w);
}

static void cycle(void *world)
{
    static const struct seed_cycle c = {.turns_least = 300,
                                        .turns_more = 1500,
                                        .calls_max = 700,
                                        .full_eighths = 2,
                                        .open = open_broker,
                                        .opened = opened,
                                        .turn = turn,
                                        .close = close_broker};
    struct world *w = world;

    w->st_crashes += seed_cycle_run(&c, &w->seed, w->io, w);
}

/* Each partition of both groups is in the hands of one. */
static bool settled(const struct world *w)
{
    uint32_t i, old, new;
    int p;

    for (i = 0; i < MEN; i++)
        if (w->man[i].at != MEMBER || w->man[i].k.epoch != w->highest[OLD] ||
            w->man[i].k.run != w->run)
            return false;
    for (i = 0; i < WORKERS; i++)
        if (!heard_of(w, &w->worker[i]))
            return false;
    for (p = 0; p < PARTS; p++) {
        for (i = 0, old = 0; i < MEN; i++)
            old += w->man[i].k.own[p];
        for (i = 0, new = 0; i < WORKERS; i++)
            new += w->worker[i].k.own[p];
        if (old != 1 || new != 1)
            return false;
    }
    return true;
}

/* Nothing goes wrong any more. What is settled stays so. */
static void finish(void *world)
{
    struct world *w = world;
    uint32_t i;

    w->seed.calm = true;
    if (!open_broker(w))
        die(&w->seed, "does not open in the end");
    for (i = 0; !settled(w); i++) {
        if (i == 20000)
            die(&w->seed, "partitions are without an owner in the end");
        turn(w);
    }
    for (i = 0; i < 2000; i++)
        turn(w);
    if (!settled(w))
        die(&w->seed, "partitions move though nothing happens");
    close_broker(w);
    if (!open_broker(w))
        die(&w->seed, "does not open again in the end");
    judge(w);
    close_broker(w);
}

static void begin(void *world)
{
    struct world *w = world;
    uint32_t i;

    w->io = io_sim_new(w->seed.number ^ 0x6772);
    w->generation = xcalloc(GENERATIONS, sizeof *w->generation);
    for (i = 0; i < MEN; i++)
        w->man[i].k = (struct who){.w = w, .group = OLD};
    for (i = 0; i < WORKERS; i++)
        w->worker[i].k = (struct who){.w = w, .group = NEW};
}

static struct {
    uint64_t generations, commits, refused, moves, crashes, lost;
} sums;

static void give_back(void *world)
{
    struct world *w = world;

    sums.generations += w->st_generations;
    sums.commits += w->st_commits;
    sums.lost += w->st_failed;
    sums.refused += w->st_refused;
    sums.moves += w->st_moves;
    sums.crashes += w->st_crashes;
    free(w->generation);
    io_sim_free(&w->io);
}

static void print(void)
{
    printf("%" PRIu64 " generations and epochs; partitions taken over %" PRIu64 " times; %" PRIu64
           " commits confirmed, %" PRIu64 " failed, %" PRIu64 " refused; %" PRIu64 " crashes\n",
           sums.generations, sums.moves, sums.commits, sums.lost, sums.refused, sums.crashes);
}

int main(int argc, char **argv)
{
    static const struct seed_program p = {
        "groups",  CYCLES, sizeof(struct world), offsetof(struct world, seed), begin, cycle, finish,
        give_back, print};

    return seed_main(&p, argc, argv);
}
