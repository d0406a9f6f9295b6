/* `streams`: members of a streams group over a whole broker on a simulated disk with a clock of its
 * own, from a seed.
 *
 *   streams --seeds N [--seed S] [--verbose]
 *
 * An application of several processes runs a topology; now and then it is deployed with another one.
 * Its members join, beat with the tasks that they run or without, commit, leave, leave for a while as
 * static members, die, move to another process, lose answers on the way and are slow for longer than
 * their session. Topics grow, internal ones are deleted and made again, the number of standbys
 * changes; the disk fills up and fails, the power goes off. A member runs what it was told at once,
 * and gives up what it is to give up a while later, when its commits are answered.
 *
 * A checker knows only what members were told. What must hold:
 *  1. every heartbeat is answered, in bounded time; at the end of a broker at once;
 *  2. no active task is run by two members that the broker hears of, and what one process runs, active
 *     or standby, it runs once (but for members that moved to it with what they had);
 *  3. a member's epoch does not go back; with a restart neither does the group's: tasks are told with
 *     an epoch that nobody was told before;
 *  4. a commit is taken from members of this broker only, and one that says an old epoch only from
 *     the member that was told last that it has the task;
 *  5. a committed offset never goes back, nor behind one that was confirmed, over crashes too;
 *  6. when nothing goes wrong any more, each task of the topology is run by one member, has as many
 *     standbys as there are other processes for, all members are at one epoch, and it stays so.
 * One thread; the same seed does the same. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/broker.h"
#include "broker/coordinator.h"
#include "broker/streams.h"
#include "io/sim.h"
#include "journal/journal.h"
#include "seed.h"

#define DIR          "/d"
#define GROUP        "app"
#define PARTS_LEAST  3
#define PARTS        5
#define SUBS         2u
#define ROLES        2u /* warm-up tasks are not given out */
#define RUNNERS      5u
#define PROCESSES    3u
#define STANDBYS     2u
#define CYCLES       6u
#define SESSION_MS   10000
#define REBALANCE_MS 30000
#define JUMP_MS      15000 /* the longest step of the clock */
#define ANSWER_MS    (2 * JUMP_MS)
#define ID_MAX       32u

/* ---- the application ---- */

#define S(text)                                   \
    {                                             \
        (const uint8_t *)(text), sizeof(text) - 1 \
    }

enum { STORE_ONE, WORDS, STORE_TWO, INTERNALS };
static const struct slice lines[] = {S("lines")}, sinks[] = {S("app-words-repartition")};
static const struct streams_topic internal[INTERNALS] = {{.name = S("app-one-changelog")},
                                                         {.name = S("app-words-repartition")},
                                                         {.name = S("app-two-changelog")}};
/* One version reads into a store; the next repartitions first. */
static const struct streams_subtopology one[] = {{.id = S("0"),
                                                  .sources = lines,
                                                  .sources_n = 1,
                                                  .changelogs = &internal[STORE_ONE],
                                                  .changelogs_n = 1}};
static const struct streams_subtopology two[] = {
    {.id = S("0"), .sources = lines, .sources_n = 1, .sinks = sinks, .sinks_n = 1},
    {.id = S("1"),
     .repartitions = &internal[WORDS],
     .repartitions_n = 1,
     .changelogs = &internal[STORE_TWO],
     .changelogs_n = 1}};

static struct streams_topology version_of(int32_t version)
{
    return version % 2 ? (struct streams_topology){version, two, 2}
                       : (struct streams_topology){version, one, 1};
}

/* ---- the world ---- */

struct tasks {
    bool has[ROLES][SUBS][PARTS];
};

struct world;
struct runner {
    struct world *w;
    struct group_wait wait;
    bool waits, dead, in;
    char id[ID_MAX], instance[ID_MAX], process[ID_MAX]; /* instance empty: dynamic */
    bool moved;                                         /* to another process, with its tasks */
    int32_t version, epoch;
    int32_t told; /* highest epoch in an answer, also in one that got lost on the way */
    uint32_t run; /* of the broker that told it */
    bool full;    /* its next heartbeat says all: an answer got lost */
    bool unknown; /* what the broker told it last is not known: the connection was lost */
    bool unsure;  /* that was so, since it joined */
    bool said;    /* the heartbeat under way says what it runs */
    bool clean;   /* and that has nothing of what it is to give up */
    bool settled; /* the last answer was without a status */
    bool owes;    /* it is to give up a task; since then: */
    int64_t owes_ms;
    int64_t asked_ms, heard_ms; /* sent the heartbeat under way; the one that was answered last */
    uint32_t commits;           /* under way */
    struct tasks own, next;     /* what it runs; what it was told, if next_told */
    struct tasks last;          /* what it was told, also if it got lost on the way */
    bool next_told;
    int64_t at[PARTS]; /* of "lines": what it committed last, or found */
};

struct commit {
    struct world *w;
    struct runner *k;
    int part;
    int64_t offset;
};

struct world {
    struct io *io;
    struct broker *b;
    struct topic *t; /* "lines" */
    struct seed seed;
    uint32_t run, ids, commits;
    int32_t version, standbys, interval_ms, delay_ms;
    struct runner runner[RUNNERS];
    int32_t highest, before;         /* epochs told so far; by brokers that are no more */
    struct runner *had[SUBS][PARTS]; /* who was told last that an active task is its, and */
    int32_t had_epoch[SUBS][PARTS];  /* in which epoch first */
    int32_t missing[INTERNALS];      /* partitions of internal topics that are to be made */
    bool wrong;                      /* internal topics have wrong numbers of partitions */
    int64_t asked[PARTS], acked[PARTS], seen[PARTS];
    uint64_t st_epochs, st_moves, st_standbys, st_commits, st_refused, st_crashes, st_lost,
        st_fenced, st_versions;
};

/* ---- offsets ---- */

static int64_t offset_of(struct world *w, int part)
{
    struct group_offset o;

    return group_offset_get(w->b, SLICE_LIT(GROUP), topic_partition(w->t, part), &o) ? 0 : o.offset;
}

static void judge(struct world *w)
{
    int p;

    for (p = 0; p < topic_partitions(w->t); p++) {
        int64_t at = offset_of(w, p);

        if (at < w->seen[p])
            die(&w->seed, "partition %d: the offset went back from %" PRId64 " to %" PRId64, p,
                w->seen[p], at);
        if (at < w->acked[p])
            die(&w->seed, "partition %d: %" PRId64 " was confirmed, %" PRId64 " is there", p,
                w->acked[p], at);
        if (at > w->asked[p])
            die(&w->seed, "partition %d: nobody committed %" PRId64, p, at);
        w->seen[p] = at;
    }
}

static void commit_done(void *arg, enum err e, const struct errinfo *info)
{
    struct commit *c = arg;

    c->w->commits--;
    c->k->commits--;
    if (!e && c->offset > c->w->acked[c->part])
        c->w->acked[c->part] = c->offset;
    c->w->st_commits += !e;
    free(c);
}

static enum err commit_ask(struct runner *k, int part, int32_t epoch)
{
    struct partition *p = topic_partition(k->w->t, part);
    struct group_member m = {.group = SLICE_LIT(GROUP),
                             .member_id = slice_str(k->id),
                             .generation = epoch,
                             .parts = &p,
                             .parts_n = 1};
    struct world *w = k->w;
    enum err e = group_commit_check(w->b, &m, false, now_ms(w->io));

    w->st_refused += e != ERR_OK;
    if (e && e != ERR_STALE_MEMBER_EPOCH && e != ERR_UNKNOWN_MEMBER && e != ERR_GROUP_NOT_FOUND)
        die(&w->seed, "commit of %s: %s", k->id, err_code(e));
    if (e)
        return e;
    if (k->run != w->run)
        die(&w->seed, "a commit is taken of %s, which has not joined since the restart", k->id);
    if (epoch < k->told && !k->unknown && w->had[0][part] != k)
        die(&w->seed,
            "a commit of %s is taken in epoch %d: it was told %d, and that %s has the task", k->id,
            (int)epoch, (int)k->told, w->had[0][part] ? w->had[0][part]->id : "nobody");
    if (epoch < k->told && !k->unsure && epoch < w->had_epoch[0][part])
        die(&w->seed, "a commit of %s is taken in epoch %d: it has the task since epoch %d", k->id,
            (int)epoch, (int)w->had_epoch[0][part]);
    return ERR_OK;
}

/* What reads "lines" is subtopology 0 of every version. */
static enum err commit(struct runner *k)
{
    struct world *w = k->w;
    int p = (int)rnd(&w->seed, (uint64_t)topic_partitions(w->t));
    struct commit *c;
    enum err e;

    if (!k->own.has[STREAMS_ACTIVE][0][p]) { /* it tries what it may not */
        e = k->epoch > 1 ? commit_ask(k, p, k->epoch - 1) : ERR_OK;
        return e == ERR_STALE_MEMBER_EPOCH ? ERR_OK : e;
    }
    if ((e = commit_ask(k, p, k->epoch)))
        return e;
    c = xcalloc(1, sizeof *c);
    *c = (struct commit){w, k, p, k->at[p] + 1 + (int64_t)rnd(&w->seed, 5)};
    k->at[p] = c->offset;
    if (c->offset > w->asked[p])
        w->asked[p] = c->offset;
    w->commits++;
    k->commits++;
    e = group_commit(w->b, SLICE_LIT(GROUP), topic_partition(w->t, p), c->offset, SLICE_NULL,
                     commit_done, c, NULL);
    if (e)
        commit_done(c, e, NULL);
    return ERR_OK;
}

/* ---- who runs what ---- */

/* The broker hears of it, as far as it can know; and it would not have removed it. */
static bool heard_of(const struct runner *k)
{
    int64_t now = now_ms(k->w->io);

    return !k->dead && k->in && k->run == k->w->run && !k->unknown &&
           now - k->heard_ms < SESSION_MS && !(k->owes && now - k->owes_ms >= REBALANCE_MS);
}

static void alone_check(struct world *w)
{
    const struct runner *a, *b;
    uint32_t r, q, s, p;

    for (a = w->runner; a < w->runner + RUNNERS; a++)
        for (b = a; b < w->runner + RUNNERS && heard_of(a); b++)
            for (s = 0; s < SUBS && heard_of(b); s++)
                for (p = 0; p < PARTS; p++)
                    for (r = 0; r < ROLES; r++)
                        for (q = 0; q < ROLES; q++) {
                            bool both = a->own.has[r][s][p] && b->own.has[q][s][p];

                            if (!both || (a == b && r == q))
                                continue;
                            if (r == STREAMS_ACTIVE && q == STREAMS_ACTIVE)
                                die(&w->seed, "task %u_%u is run by %s and %s", s, p, a->id, b->id);
                            if (strcmp(a->process, b->process) == 0 && !a->moved && !b->moved)
                                die(&w->seed, "task %u_%u is twice in process %s: %s, %s", s, p,
                                    a->process, a->id, b->id);
                        }
}

static bool less(const struct tasks *a, const struct tasks *b)
{
    size_t i;

    for (i = 0; i < sizeof *a; i++)
        if (((const bool *)a)[i] && !((const bool *)b)[i])
            return true;
    return false;
}

/* What is new to it is there at once; what it is to give up, once its commits are answered. */
static void adopt(struct runner *k)
{
    struct world *w = k->w;
    uint32_t r, s, p;

    for (r = 0; r < ROLES && k->next_told; r++)
        for (s = 0; s < SUBS; s++)
            for (p = 0; p < PARTS; p++) {
                if (!k->next.has[r][s][p] || k->own.has[r][s][p])
                    continue;
                k->own.has[r][s][p] = true;
                if (r == STREAMS_ACTIVE && s == 0)
                    k->at[p] = offset_of(w, (int)p);
                w->st_moves += r == STREAMS_ACTIVE;
                w->st_standbys += r == STREAMS_STANDBY;
            }
    if (!k->next_told || k->commits)
        return;
    if (less(&k->own, &k->next) && rnd(&w->seed, 3)) /* it closes its stores */
        return;
    k->own = k->next;
    k->next_told = false;
}

/* It runs nothing, and is no member that it knew of. */
static void out(struct runner *k)
{
    k->in = k->next_told = k->owes = k->moved = k->unknown = k->unsure = k->settled = false;
    memset(&k->own, 0, sizeof k->own);
    memset(&k->last, 0, sizeof k->last);
    k->epoch = k->told = 0;
    k->full = true;
}

static void hang_up(struct runner *k)
{
    if (!k->waits)
        return;
    group_wait_cancel(k->w->b, &k->wait);
    k->waits = false;
    k->full = k->unknown = k->unsure = true;
}

static void gone(struct runner *k)
{
    hang_up(k);
    out(k);
    k->id[0] = 0;
    k->dead = true;
}

/* ---- heartbeats ---- */

static int sub_of(struct slice id)
{
    return slice_eq_str(id, "0") ? 0 : slice_eq_str(id, "1") ? 1 : -1;
}

/* The tasks of an answer. */
static void tasks_read(struct world *w, const struct group_streams_result *r, struct tasks *t)
{
    unsigned role, i, k;

    memset(t, 0, sizeof *t);
    if (r->tasks_n[STREAMS_WARMUP])
        die(&w->seed, "a warm-up task");
    for (role = 0; role < ROLES; role++)
        for (i = 0; i < r->tasks_n[role]; i++)
            for (k = 0; k < r->tasks[role][i].n; k++) {
                int s = sub_of(r->tasks[role][i].subtopology);
                int32_t p = r->tasks[role][i].partitions[k];

                if (s < 0 || p < 0 || p >= PARTS || t->has[role][s][p])
                    die(&w->seed, "task %d_%d, or it is told twice", s, (int)p);
                t->has[role][s][p] = true;
            }
}

/* Whether the answer reaches it or not. */
static void told(struct runner *k, const struct group_streams_result *r, const struct tasks *t)
{
    static const struct tasks none;
    struct world *w = k->w;
    int32_t n = r->member_epoch;
    uint32_t s, p;

    if (n < w->before || (n == w->before && r->has_tasks && less(t, &none)))
        die(&w->seed, "epoch %d is told after a restart, %d was before", (int)n, (int)w->before);
    if (n < k->told)
        die(&w->seed, "%s: epoch %d after %d", k->id, (int)n, (int)k->told);
    k->told = n;
    if (n > w->highest) {
        w->highest = n;
        w->st_epochs++;
    }
    for (s = 0; s < SUBS && r->has_tasks; s++)
        for (p = 0; p < PARTS; p++) {
            if (!t->has[STREAMS_ACTIVE][s][p]) /* until another has it: it may be giving it up */
                continue;
            if (w->had[s][p] != k || !k->last.has[STREAMS_ACTIVE][s][p])
                w->had_epoch[s][p] = n;
            w->had[s][p] = k;
        }
    if (k->said && k->clean)
        k->owes = false;
    if (r->has_tasks && less(&k->own, t) && !k->owes) {
        k->owes = true;
        k->owes_ms = k->asked_ms;
    }
    if (r->has_tasks)
        k->last = *t;
}

static void statuses(struct world *w, const struct group_streams_result *r)
{
    unsigned i;
    int n;

    for (i = 0; i < r->status_n; i++)
        w->wrong |= r->status[i].code == STREAMS_WRONG_PARTITIONS;
    for (i = 0; i < r->missing_n; i++)
        for (n = 0; n < INTERNALS; n++)
            if (slice_eq(r->missing[i].name, internal[n].name))
                w->missing[n] = r->missing[i].partitions;
}

static void refused(struct runner *k, const struct group_streams_result *r)
{
    switch (r->e) {
    case ERR_COORDINATOR: /* whatever it did is not known */
        k->full = k->unknown = k->unsure = true;
        break;
    case ERR_UNKNOWN_MEMBER:
    case ERR_GROUP_NOT_FOUND:
    case ERR_FENCED_MEMBER_EPOCH:
    case ERR_FENCED_INSTANCE:
        k->w->st_fenced++;
        out(k);
        break;
    case ERR_UNRELEASED_INSTANCE: /* its process before is not known to be gone */
        out(k);
        break;
    case ERR_INVALID:
        if (!k->in && slice_eq_str(slice_str(r->text), "Topology updates are not supported yet."))
            break; /* some still run the version before */
        __attribute__((fallthrough));
    default:
        die(&k->w->seed, "%s: heartbeat: %s: %s", k->id, err_code(r->e), r->text);
    }
}

static void answered(void *arg, struct group_streams_result *r)
{
    struct runner *k = arg;
    struct world *w = k->w;
    struct tasks t;

    if (!k->waits)
        die(&w->seed, "%s: an answer that was not awaited", k->id);
    k->waits = false;
    if (r->e) {
        refused(k, r);
        return;
    }
    if (r->member_epoch < 0) {
        out(k);
        k->id[0] = 0;
        return;
    }
    tasks_read(w, r, &t);
    told(k, r, &t);
    statuses(w, r);
    if (mishap(&w->seed, 25)) { /* the answer is lost */
        k->full = true;
        w->st_lost++;
        return;
    }
    k->in = true;
    k->unknown = false;
    k->full = false;
    k->settled = r->status_n == 0;
    k->run = w->run;
    k->epoch = r->member_epoch;
    k->heard_ms = k->asked_ms;
    if (r->has_tasks) {
        k->next = t;
        k->next_told = true;
        adopt(k);
    }
    alone_check(w);
}

static void owned_write(const struct runner *k, int32_t parts[ROLES][SUBS][PARTS],
                        struct streams_tasks ts[ROLES][SUBS], struct group_streams_heartbeat *h)
{
    static const char *const ids[SUBS] = {"0", "1"};
    uint32_t r, s, p;

    for (r = 0; r < ROLES; r++) {
        for (s = 0; s < SUBS; s++) {
            struct streams_tasks *o = &ts[r][h->owned_n[r]];

            *o = (struct streams_tasks){slice_str(ids[s]), parts[r][s], 0};
            for (p = 0; p < PARTS; p++)
                if (k->own.has[r][s][p])
                    parts[r][s][o->n++] = (int32_t)p;
            h->owned_n[r] += o->n > 0;
        }
        h->owned[r] = ts[r];
    }
    h->owned[STREAMS_WARMUP] = ts[0];
}

static void beat(struct runner *k, int32_t epoch)
{
    struct world *w = k->w;
    bool join = epoch == GROUP_EPOCH_JOIN;
    struct streams_topology tp = version_of(k->version);
    struct streams_tasks ts[ROLES][SUBS];
    int32_t parts[ROLES][SUBS][PARTS];
    struct streams_pair tag = {SLICE_LIT("zone"), SLICE_LIT("a")};
    struct group_streams_heartbeat h = {
        .group = SLICE_LIT(GROUP),
        .member_id = slice_str(k->id),
        .member_epoch = epoch,
        .instance_id = k->instance[0] ? slice_str(k->instance) : SLICE_NULL,
        .client_id = SLICE_LIT("c"),
        .client_host = SLICE_LIT("h"),
        .process_id = join || k->full ? slice_str(k->process) : SLICE_NULL,
        .rebalance_timeout_ms = join ? REBALANCE_MS : -1,
        .topology = join ? &tp : NULL,
        .session_timeout_ms = SESSION_MS,
        .heartbeat_ms = 1000,
        .standby_replicas = w->standbys,
        .initial_delay_ms = w->delay_ms,
        .interval_ms = w->interval_ms};

    if (join)
        out(k);
    if (!join && epoch > 0 && mishap(&w->seed, 60)) { /* says that it is elsewhere */
        snprintf(k->process, sizeof k->process, "p%u", (unsigned)rnd(&w->seed, PROCESSES));
        h.process_id = slice_str(k->process);
        h.tags = &tag;
        h.tags_n = 1;
        k->moved = true;
    }
    k->said = join || k->full || rnd(&w->seed, 2);
    k->clean = !less(&k->own, &k->last);
    if (k->said)
        owned_write(k, parts, ts, &h);
    k->waits = true;
    k->asked_ms = now_ms(w->io);
    group_streams_heartbeat(w->b, &h, now_ms(w->io), &k->wait, answered, k);
}

/* A process takes its place: with the version that is deployed now. */
static void join(struct runner *k)
{
    struct world *w = k->w;

    if (!k->id[0]) {
        snprintf(k->id, sizeof k->id, "m%u", w->ids++);
        snprintf(k->process, sizeof k->process, "p%u", (unsigned)rnd(&w->seed, PROCESSES));
    }
    k->version = w->version;
    beat(k, GROUP_EPOCH_JOIN);
}

static void commits(struct runner *k)
{
    enum err e = k->next_told ? ERR_OK : commit(k); /* not of what it is to give up */

    if (e == ERR_UNKNOWN_MEMBER || e == ERR_GROUP_NOT_FOUND) {
        k->w->st_fenced++;
        out(k);
    }
}

static void leave(struct runner *k)
{
    memset(&k->own, 0, sizeof k->own);
    k->next_told = false;
    beat(k, k->instance[0] && k->version == k->w->version && rnd(&k->w->seed, 2)
                ? GROUP_EPOCH_LEAVE_STATIC
                : GROUP_EPOCH_LEAVE);
}

static void runner_turn(struct runner *k)
{
    struct world *w = k->w;

    adopt(k);
    if (k->dead) {
        k->dead = !w->seed.calm && rnd(&w->seed, 12);
    } else if (mishap(&w->seed, 100)) {
        gone(k);
    } else if (k->waits) {
        if (mishap(&w->seed, 60))
            hang_up(k);
    } else if (k->commits && rnd(&w->seed, 2)) {
        return;
    } else if (!k->in) {
        if (!k->commits)
            join(k);
    } else if (k->version != w->version || mishap(&w->seed, 100)) {
        if (!k->commits)
            leave(k);
    } else if (rnd(&w->seed, 3)) {
        beat(k, k->epoch);
    } else {
        commits(k);
    }
}

/* ---- the operator ---- */

static void ignored(void *arg, enum err e, const struct errinfo *info)
{
    /* whether it came to be is seen by what is there */
}

static void internals_make(struct world *w)
{
    int n;

    for (n = 0; n < INTERNALS; n++) {
        if (w->missing[n])
            topic_create(w->b, internal[n].name, w->missing[n], NULL, ignored, NULL, NULL);
        w->missing[n] = 0;
    }
}

static void operate(struct world *w)
{
    int n;

    internals_make(w);
    for (n = 0; n < INTERNALS && w->wrong; n++)
        topic_delete(w->b, internal[n].name, ignored, NULL, NULL);
    w->wrong = false;
    if (mishap(&w->seed, 100))
        topic_delete(w->b, internal[rnd(&w->seed, INTERNALS)].name, ignored, NULL, NULL);
    if (mishap(&w->seed, 150) && topic_partitions(w->t) < PARTS)
        topic_alter(w->b, lines[0], topic_partitions(w->t) + 1, NULL, ignored, NULL, NULL);
    if (mishap(&w->seed, 100))
        w->standbys = (int32_t)rnd(&w->seed, STANDBYS + 1);
    if (mishap(&w->seed, 120)) {
        w->version++;
        w->st_versions++;
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
    for (i = 0; i < RUNNERS; i++)
        if (w->runner[i].waits && now_ms(w->io) - w->runner[i].asked_ms > ANSWER_MS)
            die(&w->seed, "%s has waited for %" PRId64 " ms", w->runner[i].id,
                now_ms(w->io) - w->runner[i].asked_ms);
}

static void turn(void *world)
{
    struct world *w = world;

    switch (rnd(&w->seed, 16)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:
        runner_turn(&w->runner[rnd(&w->seed, RUNNERS)]);
        break;
    case 8:
        operate(w);
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
    enum err e = broker_open(&c, &w->b, &info);

    if (e) {
        if (!io_sim_crashed(w->io) && e != ERR_NO_SPACE && e != ERR_IO)
            die(&w->seed, "does not open: %s: %s", err_code(e), info.text);
        return false;
    }
    e = topic_create_wait(w->b, lines[0], PARTS_LEAST, NULL, &info);
    w->t = topic_find(w->b, lines[0]);
    if (!w->t) {
        if (e != ERR_NO_SPACE && e != ERR_IO && e != ERR_READ_ONLY)
            die(&w->seed, "create: %s: %s", err_code(e), info.text);
        broker_close(&w->b);
        return false;
    }
    w->delay_ms = (int32_t)rnd(&w->seed, 2) * 500;
    w->interval_ms = (int32_t)rnd(&w->seed, 3) * 500;
    w->run++;
    w->before = w->highest;
    memset(w->had, 0, sizeof w->had);
    return true;
}

static void close_broker(void *world)
{
    struct world *w = world;
    uint32_t i;

    groups_drain(w->b);
    for (i = 0; i < 10; i++)
        broker_step(w->b);
    for (i = 0; i < RUNNERS; i++)
        if (w->runner[i].waits)
            die(&w->seed, "%s is not answered in the end", w->runner[i].id);
    if (w->commits)
        die(&w->seed, "%u commits are not answered in the end", w->commits);
    topic_unref(&w->t);
    broker_close(&w->b);
}

static void opened(void *world)
{
    struct world *w = world;

    say(&w->seed, "run %u: epoch %d, version %d", w->run, (int)w->highest, (int)w->version);
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

/* ---- the end ---- */

/* So many processes run the application. */
static uint32_t processes_n(const struct world *w)
{
    uint32_t i, k, n = 0;

    for (i = 0; i < RUNNERS; i++) {
        for (k = 0; k < i && strcmp(w->runner[i].process, w->runner[k].process) != 0; k++)
            ;
        n += k == i;
    }
    return n;
}

static bool task_settled(const struct world *w, uint32_t s, uint32_t p)
{
    struct streams_topology tp = version_of(w->version);
    bool is = s < tp.n && (int)p < topic_partitions(w->t);
    uint32_t others = processes_n(w) - 1, want = (uint32_t)w->standbys, i, r, n[ROLES] = {0};

    want = !is || !tp.subs[s].changelogs_n ? 0 : want < others ? want : others;
    for (i = 0; i < RUNNERS; i++)
        for (r = 0; r < ROLES; r++)
            n[r] += w->runner[i].own.has[r][s][p];
    return n[STREAMS_ACTIVE] == (is ? 1 : 0) && n[STREAMS_STANDBY] == want;
}

/* The broker says so too: those that died are out, and the epoch is that which members were told. */
static bool stable(const struct world *w)
{
    struct group_description d;
    bool is;

    is = group_describe(w->b, SLICE_LIT(GROUP), &d) == ERR_OK && d.state == GROUP_STABLE &&
         d.members_n == RUNNERS && d.generation == w->highest && d.assignment_epoch == w->highest;
    group_description_fini(&d);
    return is;
}

static bool settled(const struct world *w)
{
    uint32_t i, s, p;

    for (i = 0; i < RUNNERS; i++) {
        const struct runner *k = &w->runner[i];

        if (!heard_of(k) || k->next_told || k->version != w->version || k->epoch != w->highest ||
            !k->settled)
            return false;
    }
    for (s = 0; s < SUBS; s++)
        for (p = 0; p < PARTS; p++)
            if (!task_settled(w, s, p))
                return false;
    return stable(w);
}

/* In no process a task is twice, wherever its members were before. */
static void settled_check(struct world *w)
{
    uint32_t i;

    for (i = 0; i < RUNNERS; i++)
        w->runner[i].moved = false;
    alone_check(w);
}

/* After some more turns nothing goes wrong any more. What is settled stays so. */
static void finish(void *world)
{
    struct world *w = world;
    int32_t epoch;
    uint32_t i;

    if (!open_broker(w))
        die(&w->seed, "does not open in the end");
    for (i = (uint32_t)rnd(&w->seed, 1000); i; i--)
        turn(w);
    w->seed.calm = true;
    for (i = 0; !settled(w); i++) {
        if (i == 30000)
            die(&w->seed, "tasks are without a member in the end");
        turn(w);
    }
    settled_check(w);
    epoch = w->highest;
    for (i = 0; i < 2000; i++)
        turn(w);
    if (!settled(w) || w->highest != epoch)
        die(&w->seed, "tasks move though nothing happens");
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

    w->io = io_sim_new(w->seed.number ^ 0x7374);
    for (i = 0; i < RUNNERS; i++) {
        w->runner[i] = (struct runner){.w = w, .full = true};
        if (i % 2)
            snprintf(w->runner[i].instance, ID_MAX, "i%u", i);
    }
}

static struct {
    uint64_t epochs, moves, standbys, commits, refused, crashes, lost, fenced, versions;
} sums;

static void give_back(void *world)
{
    struct world *w = world;

    sums.epochs += w->st_epochs;
    sums.moves += w->st_moves;
    sums.standbys += w->st_standbys;
    sums.commits += w->st_commits;
    sums.refused += w->st_refused;
    sums.crashes += w->st_crashes;
    sums.lost += w->st_lost;
    sums.fenced += w->st_fenced;
    sums.versions += w->st_versions;
    io_sim_free(&w->io);
}

static void print(void)
{
    printf("%" PRIu64 " epochs, %" PRIu64 " versions of the topology; %" PRIu64
           " active and %" PRIu64 " standby tasks begun; %" PRIu64 " commits confirmed, %" PRIu64
           " refused; %" PRIu64 " answers lost, %" PRIu64 " members fenced; %" PRIu64 " crashes\n",
           sums.epochs, sums.versions, sums.moves, sums.standbys, sums.commits, sums.refused,
           sums.lost, sums.fenced, sums.crashes);
}

int main(int argc, char **argv)
{
    static const struct seed_program p = {
        "streams", CYCLES, sizeof(struct world), offsetof(struct world, seed), begin, cycle, finish,
        give_back, print};

    return seed_main(&p, argc, argv);
}
