/* `share`: members of share groups over a whole broker on a simulated disk with a clock of its own,
 * from a seed.
 *
 *   share --seeds N [--seed S] [--verbose]
 *
 * Two groups take the records of one topic: "few" delivers three times and has a dead letter topic,
 * "many" delivers without limit and has none. Members join, beat, take, accept, release (with and
 * without delay), reject, renew, say that there was no such record, settle what is not theirs, leave
 * and die; records are produced and trimmed; an administrator moves cursors; the disk fills up and
 * fails, the power goes off, a checkpoint is taken now and then.
 *
 * A checker knows only what was called and what was answered. What must hold:
 *  1. a record whose end (accepted, rejected, void, or released for the last time allowed) was
 *     confirmed, or whose dead letter can be read, is never delivered again, restarts or not;
 *  2. a record is nobody else's while a lease runs, while its settlement is on its way, or while the
 *     delay of its release lasts;
 *  3. each delivery counts one more than the last one of the same broker; after a restart, more than
 *     the last that was confirmed and no more than there were; never more than the limit;
 *  4. what is a member's it may settle, and what is not it may not, all ranges of a call or none;
 *  5. at most one dead letter of each record, never of one that was accepted, with its key, value,
 *     place and count, and with the reason that there was; a dead letter never disappears;
 *  6. no cursor passes a record that was not done, and none is lost;
 *  7. as many records as configured, at most, are between first and last and not done;
 *  8. a member's epoch that was told is never told again after a restart, nor a lower one;
 *  9. when nothing goes wrong any more, everything comes to its end: each record that was
 *     acknowledged to its producer was accepted by each group, or is a dead letter, or was rejected
 *     where there are none.
 * One thread; the same seed does the same. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/broker.h"
#include "broker/coordinator.h"
#include "broker/cursor.h"
#include "io/sim.h"
#include "journal/batch.h"
#include "journal/journal.h"
#include "seed.h"

#define DIR        "/d"
#define DEAD       "dlq.jobs"
#define PARTS      2
#define MEMBERS    3u /* of each group */
#define CYCLES     5u
#define OFFSETS    600 /* of a partition; nothing is produced beyond */
#define SESSION_MS 10000
#define JUMP_MS    15000
#define ACKS       6u
#define PIECES     4u
#define HEADERS    8u

enum { FEW, MANY, GROUPS };
static const char *const group_name[GROUPS] = {"few", "many"};
static const int32_t lease_ms[GROUPS] = {2000, 3000};

struct world;

enum lease { FREE, LEASED, SETTLING };

/* What is known of a record as far as a group is concerned. */
struct place {
    uint64_t settlement;   /* SETTLING: by which */
    int64_t until, after;  /* LEASED: end of the lease; FREE: not to be delivered before */
    uint32_t owner, run;   /* who had it last, told by which run of the broker */
    uint16_t told;         /* deliveries, as it was told */
    uint16_t lo, hi, sure; /* what the next delivery may be told as; the last count confirmed */
    uint8_t lease;
    bool accepted, archived, nothing; /* confirmed */
    bool may_accept, may_end;         /* asked for, and not known to have failed */
    bool rejected;                    /* a member asked for it */
    bool dead;                        /* its dead letter was read */
};

/* One cursor. */
struct shelf {
    struct place v[OFFSETS];
    uint32_t life;    /* how often it was set */
    bool made, loose; /* loose: it is not known whether it was set */
    int64_t checked;  /* the start seen so far */
};

/* A process with a member in it. */
struct member {
    struct world *w;
    int group;
    struct group_wait wait;
    bool waits, dead, in, own[PARTS];
    char id[32];
    uint32_t no, run; /* of the process; of the broker that took it in */
    int32_t epoch;
};

struct world {
    struct io *io;
    struct broker *b;
    struct topic *t;
    struct seed seed;
    uint32_t run, ids, pending; /* pending: calls whose end is awaited */
    uint32_t hurry; /* turns of "many" before the disk goes on: its cursor is being set */
    uint64_t settlements;
    struct member member[GROUPS][MEMBERS];
    int32_t highest[GROUPS], before[GROUPS];
    struct shelf shelf[GROUPS][PARTS];
    struct cursor_conf conf[GROUPS];
    uint32_t id[PARTS][OFFSETS]; /* of the record there; 0: not known */
    bool acked[PARTS][OFFSETS];  /* to its producer */
    int64_t trimmed[PARTS];      /* asked for */
    int64_t dead_next;           /* dead letters read so far */
    bool dead_made;              /* the topic is there for certain */
    struct plog_read read;
    struct buf inflated;
    uint64_t st_records, st_taken, st_again, st_accepted, st_dead, st_refused, st_failed, st_sets,
        st_trims, st_crashes;
};

static struct partition *part_of(struct world *w, int part)
{
    return topic_partition(w->t, part);
}

/* ---- records ---- */

static struct slice value_make(uint32_t id, char out[128])
{
    int n = snprintf(out, 32, "record %u ", id);

    memset(out + n, 'a' + (int)(id % 26), id % 64);
    return slice_of(out, (size_t)n + id % 64);
}

static void content_check(struct world *w, int part, const struct record *r, const char *where)
{
    uint32_t id = w->id[part][r->offset];
    char text[128], key[16];
    struct slice want = value_make(id, text);

    snprintf(key, sizeof key, "k%u", id % 7);
    if (!slice_eq(r->value, want) || !slice_eq_str(r->key, key))
        die(&w->seed, "%s: %d/%" PRId64 " is not record %u", where, part, r->offset, id);
}

/* A record that is there though its producer was never told. */
static void learn(struct world *w, int part, const struct record *r)
{
    char text[32] = "";
    unsigned id = 0;

    memcpy(text, r->value.ptr, r->value.len < 31 ? r->value.len : 31);
    if (sscanf(text, "record %u", &id) != 1)
        die(&w->seed, "%d/%" PRId64 " is no record of ours", part, r->offset);
    w->id[part][r->offset] = id;
}

struct put {
    struct world *w;
    struct append *a;
    int part;
    unsigned n;
    uint32_t id[8];
    struct append_slot slot[8];
};

static void put_done(struct append *a, void *arg, enum err e)
{
    struct put *x = arg;
    struct world *w = x->w;
    struct append_place at = {0};
    unsigned i;

    for (i = 0; i < x->n && !e; i++) {
        if (append_place(a, x->slot[i], &at) || at.offset >= OFFSETS)
            die(&w->seed, "an append without a place");
        if (w->id[x->part][at.offset] && w->id[x->part][at.offset] != x->id[i])
            die(&w->seed, "%d/%" PRId64 " is two records", x->part, at.offset);
        w->id[x->part][at.offset] = x->id[i];
        w->acked[x->part][at.offset] = true;
        w->st_records++;
    }
    append_free(&a);
    free(x);
    w->pending--;
}

static void produce(struct world *w)
{
    struct put *x;
    struct plog_info log;
    struct append *a;
    char text[128], key[16];
    enum err e = ERR_OK;
    int part = (int)rnd(&w->seed, PARTS);

    plog_info_get(partition_log(part_of(w, part)), &log);
    if (log.end_offset + 64 > OFFSETS || w->seed.calm || w->pending > 6)
        return;
    x = xcalloc(1, sizeof *x);
    x->w = w;
    x->part = part;
    a = x->a = append_new(w->b, put_done, x);
    for (x->n = 0; x->n < 1 + rnd(&w->seed, 8) && x->n < 8 && !e; x->n++) {
        uint32_t id = x->id[x->n] = ++w->ids;
        struct append_record r = {.timestamp_ms = -1, .value = value_make(id, text)};

        snprintf(key, sizeof key, "k%u", id % 7);
        r.key = slice_str(key);
        e = append_record(a, w->t, part, &r, &x->slot[x->n], NULL);
    }
    w->pending++;
    e = e ? e : append_submit(a, true, NULL);
    if (e)
        put_done(a, x, e);
}

/* ---- what a place may be ---- */

static bool over(const struct world *w, const struct place *x)
{
    return x->run != w->run || x->lease == FREE ||
           (x->lease == LEASED && now_ms(w->io) >= x->until);
}

/* It may be done, as far as is known. */
static bool may_be_done(const struct world *w, int g, const struct place *x)
{
    int32_t most = w->conf[g].deliveries_max;

    return x->accepted || x->archived || x->nothing || x->may_accept || x->may_end || x->dead ||
           x->lease == SETTLING || (most && x->told >= most && over(w, x));
}

/* Nothing that was is known any more; or, with a start, all is known again. */
static void forget(struct world *w, int g, int p, int64_t start)
{
    struct shelf *s = &w->shelf[g][p];
    int64_t i;

    s->loose = start < 0;
    s->life++;
    s->checked = start < 0 ? 0 : start;
    for (i = 0; i < OFFSETS; i++)
        s->v[i] = (struct place){.lo = 1, .hi = 1, .nothing = i < start};
}

/* ---- dead letters ---- */

static struct slice header_of(struct world *w, const struct record_header *h, uint32_t n,
                              const char *name)
{
    uint32_t i;

    for (i = 0; i < n; i++)
        if (slice_eq_str(h[i].key, name))
            return h[i].value;
    die(&w->seed, "a dead letter without %s", name);
}

static long header_no(struct world *w, const struct record_header *h, uint32_t n, const char *name)
{
    struct slice s = header_of(w, h, n, name);
    char text[24] = "";

    memcpy(text, s.ptr, s.len < 23 ? s.len : 23);
    return strtol(text, NULL, 10);
}

static void dead_letter(struct world *w, struct record *r)
{
    struct record_header h[HEADERS];
    struct place *x;
    struct shelf *s;
    uint32_t n = 0;
    long part, offset, count;
    bool said;

    if (record_headers(r, h, HEADERS, &n) ||
        !slice_eq_str(header_of(w, h, n, "__dlq.errors.topic"), "t") ||
        !slice_eq_str(header_of(w, h, n, "__dlq.errors.group"), "few"))
        die(&w->seed, "a dead letter of something else");
    part = header_no(w, h, n, "__dlq.errors.partition");
    offset = header_no(w, h, n, "__dlq.errors.offset");
    count = header_no(w, h, n, "__dlq.errors.delivery.count");
    said = slice_eq_str(header_of(w, h, n, "__dlq.errors.message"), "rejected by the client");
    if (part < 0 || part >= PARTS || offset < 0 || offset >= OFFSETS || !w->id[part][offset])
        die(&w->seed, "a dead letter of %ld/%ld", part, offset);
    r->offset = offset;
    content_check(w, (int)part, r, "dead letter");
    s = &w->shelf[FEW][part];
    x = &s->v[offset];
    w->st_dead++;
    if (s->loose)
        return;
    if (x->dead)
        die(&w->seed, "%ld/%ld has two dead letters", part, offset);
    if (x->accepted || x->nothing)
        die(&w->seed, "%ld/%ld has a dead letter though it was settled otherwise", part, offset);
    if (x->told != count)
        die(&w->seed, "%ld/%ld: dead after %ld deliveries, not %d", part, offset, count, x->told);
    if (said ? !x->rejected : count != w->conf[FEW].deliveries_max)
        die(&w->seed, "%ld/%ld: dead after %ld deliveries for no reason", part, offset, count);
    if (!said && x->run == w->run && x->lease == LEASED && now_ms(w->io) < x->until)
        die(&w->seed, "%ld/%ld: dead while its lease runs", part, offset);
    x->dead = true;
}

/* Each record from the offset on, in turn: whether all could be read. */
static bool log_each(struct world *w, struct partition *p, int64_t from,
                     void (*fn)(struct world *w, struct record *r))
{
    struct batch_iter it;
    struct record r;
    unsigned i;
    enum err e = plog_read(partition_log(p), from, 1u << 20, &w->read, NULL);

    for (i = 0; !e && i < w->read.n; i++) {
        if (batch_iter_init(&it, w->read.batch[i].data, &w->inflated))
            die(&w->seed, "a batch that cannot be read");
        while (batch_iter_next(&it, &r) == ERR_OK)
            if (r.offset >= from)
                fn(w, &r);
        from = w->read.batch[i].last_offset + 1;
    }
    plog_read_release(&w->read);
    return !e;
}

static void dead_each(struct world *w, struct record *r)
{
    if (r->offset != w->dead_next)
        die(&w->seed, "dead letter %" PRId64 " is not there", w->dead_next);
    w->dead_next++;
    dead_letter(w, r);
}

static void dead_read(struct world *w)
{
    struct topic *t = topic_find(w->b, SLICE_LIT(DEAD));
    struct plog_info log = {0};

    if (!t && (w->dead_next || w->dead_made))
        die(&w->seed, "the dead letter topic is gone");
    if (t) {
        plog_info_get(partition_log(topic_partition(t, 0)), &log);
        if (log.end_offset < w->dead_next)
            die(&w->seed, "%" PRId64 " dead letters, there were %" PRId64, log.end_offset,
                w->dead_next);
        while (w->dead_next < log.end_offset &&
               log_each(w, topic_partition(t, 0), w->dead_next, dead_each)) {
        }
    }
    topic_unref(&t);
}

/* ---- cursors, as they are ---- */

static struct cursor *cursor_get(struct world *w, int g, int p)
{
    return cursor_find(w->b, slice_str(group_name[g]), part_of(w, p));
}

static void judge_cursor(struct world *w, int g, int p)
{
    struct shelf *s = &w->shelf[g][p];
    struct cursor *c = cursor_get(w, g, p);
    struct cursor_info i;
    struct plog_info log;
    uint64_t gone; /* deleted, which it may not have been told yet */
    int64_t at;

    if (!c && s->made)
        die(&w->seed, "%s: the cursor of %d is gone", group_name[g], p);
    if (!c)
        return;
    cursor_info_get(c, &i);
    cursor_unref(&c);
    plog_info_get(partition_log(part_of(w, p)), &log);
    gone = log.start_offset > i.start ? (uint64_t)(log.start_offset - i.start) : 0;
    if (i.undone > (uint64_t)w->conf[g].records_max + gone || i.acquired > i.undone)
        die(&w->seed, "%s: %d: %" PRIu64 " records are in flight", group_name[g], p, i.undone);
    if (!s->loose && i.start > log.end_offset)
        die(&w->seed, "%s: %d: the start is %" PRId64 ", the log's end %" PRId64, group_name[g], p,
            i.start, log.end_offset);
    for (at = s->checked; !s->loose && at < i.start; at++)
        if (at >= w->trimmed[p] && !may_be_done(w, g, &s->v[at]))
            die(&w->seed, "%s: %d: %" PRId64 " is passed though it was not done", group_name[g], p,
                at);
    if (!s->loose && i.start > s->checked)
        s->checked = i.start;
}

static void judge(struct world *w)
{
    int g, p;

    dead_read(w);
    for (g = 0; g < GROUPS; g++)
        for (p = 0; p < PARTS; p++)
            judge_cursor(w, g, p);
}

/* ---- making, setting, trimming ---- */

struct admin {
    struct world *w;
    int group, part;
    int64_t start;
    uint32_t life;
};

static struct admin *admin_new(struct world *w, int group, int part, int64_t start)
{
    struct admin *a = xcalloc(1, sizeof *a);

    *a = (struct admin){w, group, part, start, w->shelf[group][part].life};
    w->pending++;
    return a;
}

static void made(void *arg, enum err e, const struct errinfo *info)
{
    struct admin *a = arg;
    struct world *w = a->w;

    w->pending--;
    if (!e) {
        w->shelf[a->group][a->part].made = true;
        w->dead_made = w->dead_made || a->group == FEW; /* both come before anything is taken */
    }
    free(a);
}

static void make(struct world *w, int g, int p)
{
    struct admin *a = admin_new(w, g, p, 0);
    struct errinfo info = {0};
    enum err e =
        cursor_make(w->b, slice_str(group_name[g]), part_of(w, p), 0, &w->conf[g], made, a, &info);

    if (e)
        made(a, e, NULL);
}

static void set_done(void *arg, enum err e, const struct errinfo *info)
{
    struct admin *a = arg;
    struct world *w = a->w;

    w->pending--;
    if (!e && w->shelf[a->group][a->part].life == a->life) {
        forget(w, a->group, a->part, a->start);
        w->shelf[a->group][a->part].made = true;
        w->st_sets++;
    }
    free(a);
}

static void quiet(struct world *w)
{
    uint32_t i;

    for (i = 0; i < 4; i++)
        broker_step(w->b);
    dead_read(w);
}

/* The group begins anew somewhere. Dead letters of the old life are not told from those of the new:
 * where there are some, the old life is quiet before, and nothing happens until it is over. */
static void set(struct world *w, int g, int p)
{
    struct admin *a;
    struct plog_info log;
    struct errinfo info = {0};
    enum err e;

    if (g == FEW)
        quiet(w);
    plog_info_get(partition_log(part_of(w, p)), &log);
    forget(w, g, p, -1);
    a = admin_new(w, g, p,
                  log.start_offset +
                      (int64_t)rnd(&w->seed, (uint64_t)(log.end_offset + 1 - log.start_offset)));
    say(&w->seed, "%s: %d begins at %" PRId64, group_name[g], p, a->start);
    e = cursor_set(w->b, slice_str(group_name[g]), part_of(w, p), a->start, set_done, a, &info);
    if (e)
        set_done(a, e, NULL);
    if (g == FEW)
        quiet(w);
    else
        w->hurry = 6;
}

static void trimmed(void *arg, enum err e, const struct errinfo *info)
{
    struct admin *a = arg;

    a->w->pending--;
    a->w->st_trims += e == ERR_OK;
    free(a);
}

static void trim(struct world *w)
{
    int p = (int)rnd(&w->seed, PARTS);
    struct admin *a;
    struct plog_info log;
    enum err e;

    plog_info_get(partition_log(part_of(w, p)), &log);
    if (log.end_offset == log.start_offset || w->seed.calm)
        return;
    say(&w->seed, "trim of %d", p);
    a = admin_new(
        w, FEW, p,
        log.start_offset +
            (int64_t)rnd(&w->seed, (uint64_t)(log.end_offset - log.start_offset) / 3 + 1));
    if (a->start > w->trimmed[p])
        w->trimmed[p] = a->start;
    if ((e = partition_trim(part_of(w, p), a->start, trimmed, a, NULL)))
        trimmed(a, e, NULL);
}

/* ---- taking ---- */

static void delivered(struct member *m, int p, int64_t at, uint16_t count)
{
    struct world *w = m->w;
    int g = m->group;
    struct shelf *s = &w->shelf[g][p];
    struct place *x = &s->v[at];
    int64_t now = now_ms(w->io);
    bool same = x->run == w->run;

    w->st_taken++;
    say(&w->seed, "%" PRId64 ": %s: %d/%" PRId64 " to %s, delivery %u", now, group_name[g], p, at,
        m->id, count);
    if (!s->loose) {
        if (x->accepted || x->archived || x->nothing || x->dead)
            die(&w->seed, "%s: %d/%" PRId64 " is delivered after its end", group_name[g], p, at);
        if (same && x->lease == SETTLING)
            die(&w->seed, "%s: %d/%" PRId64 " is delivered while it is settled", group_name[g], p,
                at);
        if (same && x->lease == LEASED && now < x->until)
            die(&w->seed, "%s: %d/%" PRId64 " is delivered to two", group_name[g], p, at);
        if (same && x->lease == FREE && now < x->after)
            die(&w->seed, "%s: %d/%" PRId64 " is delivered before its delay is over", group_name[g],
                p, at);
        if (count < (same ? x->lo : x->sure + 1) || count > x->hi)
            die(&w->seed, "%s: %d/%" PRId64 ": delivery %u, not %d to %d", group_name[g], p, at,
                count, same ? x->lo : x->sure + 1, x->hi);
        if (w->conf[g].deliveries_max && count > w->conf[g].deliveries_max)
            die(&w->seed, "%s: %d/%" PRId64 " is delivered for the %uth time", group_name[g], p, at,
                count);
    }
    w->st_again += count > 1;
    if (!same) /* by another broker: what was on its way then did not arrive */
        x->may_accept = x->may_end = false;
    x->lease = LEASED;
    x->owner = m->no;
    x->run = w->run;
    x->until = now + lease_ms[g];
    x->told = count;
    x->lo = x->hi = (uint16_t)(count + 1);
}

/* The records of a batch are those that are to be there. */
static void part_check(struct world *w, int p, const struct read_batch *b)
{
    struct batch_iter it;
    struct record r;

    if (batch_iter_init(&it, b->data, &w->inflated))
        die(&w->seed, "a batch that cannot be read");
    while (batch_iter_next(&it, &r) == ERR_OK) {
        if (r.offset >= OFFSETS)
            die(&w->seed, "%d has an offset that nobody wrote", p);
        if (!w->id[p][r.offset])
            learn(w, p, &r);
        content_check(w, p, &r, "log");
    }
}

static void take(struct member *m, int p, struct cursor *c)
{
    struct world *w = m->w;
    struct cursor_conf *conf = &w->conf[m->group];
    struct cursor_taken got[PIECES];
    uint32_t n, i, records;
    unsigned k;
    int64_t at = cursor_next(c, conf, now_ms(w->io)), o;

    if (at < 0 || plog_read(partition_log(part_of(w, p)), at, 4096, &w->read, NULL))
        return;
    for (k = 0; k < w->read.n && k < 3; k++) {
        const struct read_batch *b = &w->read.batch[k];

        part_check(w, p, b);
        n = cursor_take(c, slice_str(m->id), at > b->base_offset ? at : b->base_offset,
                        b->last_offset, 1 + (uint32_t)rnd(&w->seed, 9), conf, now_ms(w->io), got,
                        PIECES, &records);
        for (i = 0; i < n; i++)
            for (o = got[i].first; o <= got[i].last; o++, records--) {
                if (o < b->base_offset || o > b->last_offset)
                    die(&w->seed, "%s: %d/%" PRId64 " is delivered unasked", group_name[m->group],
                        p, o);
                delivered(m, p, o, got[i].deliveries);
            }
        if (records)
            die(&w->seed, "the pieces do not have the records that were told");
    }
    plog_read_release(&w->read);
}

static void fetch(struct member *m)
{
    int p = (int)rnd(&m->w->seed, PARTS);
    struct cursor *c;

    if (!m->own[p])
        return;
    c = cursor_get(m->w, m->group, p);
    if (c && (m->group == MANY || m->w->dead_made))
        take(m, p, c);
    else
        make(m->w, m->group, p);
    cursor_unref(&c);
}

/* ---- settling ---- */

struct settling {
    struct member *m;
    struct world *w;
    uint64_t no;
    int group, part;
    uint32_t life, n;
    int64_t asked_ms;
    struct cursor_ack ack[ACKS];
};

static void settled(struct settling *s, struct place *x, const struct cursor_ack *a)
{
    struct world *w = s->w;
    int32_t most = w->conf[s->group].deliveries_max;

    switch ((enum cursor_settlement)a->what) {
    case CURSOR_ACCEPT:
        x->accepted = true;
        w->st_accepted++;
        break;
    case CURSOR_REJECT:
        x->archived = true;
        break;
    case CURSOR_VOID:
        x->nothing = true;
        break;
    case CURSOR_RELEASE:
        x->sure = x->told;
        x->after = a->delay_ms ? s->asked_ms + a->delay_ms : 0;
        x->archived = most && x->told >= most;
        break;
    case CURSOR_RENEW:
        return;
    }
    x->lease = FREE;
}

/* It failed, as it seems: but after a crash it may turn out to have been written. With dead letters
 * something may have been written anyhow, if not all. */
static void unsettled(struct settling *s, struct place *x, const struct cursor_ack *a)
{
    int32_t most = s->w->conf[s->group].deliveries_max;

    if (s->group == FEW && a->what == CURSOR_RELEASE && x->until > now_ms(s->w->io))
        x->until = now_ms(s->w->io);

    x->lease = LEASED;
    x->may_accept = x->may_accept || a->what == CURSOR_ACCEPT || a->what == CURSOR_VOID;
    x->may_end = x->may_end || a->what == CURSOR_REJECT ||
                 (a->what == CURSOR_RELEASE && most && x->told >= most);
}

static void settle_done(void *arg, enum err e, const struct errinfo *info)
{
    struct settling *s = arg;
    struct world *w = s->w;
    struct shelf *sh = &w->shelf[s->group][s->part];
    uint32_t i;
    int64_t at;

    w->pending--;
    w->st_failed += e != ERR_OK;
    for (i = 0; i < s->n && sh->life == s->life; i++)
        for (at = s->ack[i].first; at <= s->ack[i].last; at++) {
            struct place *x = &sh->v[at];

            if (x->lease != SETTLING || x->settlement != s->no)
                continue;
            say(&w->seed, "%" PRId64 ": %s: %d/%" PRId64 " settled as %d: %s", now_ms(w->io),
                group_name[s->group], s->part, at, s->ack[i].what, err_code(e));
            if (e)
                unsettled(s, x, &s->ack[i]);
            else
                settled(s, x, &s->ack[i]);
        }
    free(s);
}

/* Is it the member's, for all that is known? */
static bool mine(const struct member *m, const struct place *x)
{
    return x->run == m->w->run && x->lease == LEASED && x->owner == m->no;
}

/* Ranges of what it has, with now and then something that it has not. */
static uint32_t acks_choose(struct member *m, int p, struct cursor_ack *a)
{
    struct world *w = m->w;
    struct shelf *s = &w->shelf[m->group][p];
    uint32_t n = 0;
    int64_t at;

    for (at = 0; at < OFFSETS && n < ACKS; at++) {
        bool his = mine(m, &s->v[at]), more = n && a[n - 1].last + 1 == at;
        uint64_t what = rnd(&w->seed, 20);

        if ((!his || rnd(&w->seed, 12) == 0) && !mishap(&w->seed, 4000))
            continue;
        if (more && rnd(&w->seed, 5) && a[n - 1].deliveries == 0) {
            a[n - 1].last = at;
            continue;
        }
        a[n++] =
            (struct cursor_ack){.first = at,
                                .last = at,
                                .what = what < 9    ? CURSOR_ACCEPT
                                        : what < 14 ? CURSOR_RELEASE
                                        : what < 17 ? CURSOR_REJECT
                                        : what < 19 ? CURSOR_RENEW
                                                    : CURSOR_VOID,
                                .delay_ms = rnd(&w->seed, 3) ? 0 : (int32_t)rnd(&w->seed, 3000)};
        if (rnd(&w->seed, 4) == 0)
            a[n - 1].deliveries = (uint16_t)(s->v[at].told + (mishap(&w->seed, 20) ? 1 : 0));
    }
    return n;
}

enum may { MUST_NOT, MAY, MUST };

/* Whether these may be settled. What is done already below the start is not asked for. */
static enum may settle_may(struct member *m, int p, const struct settling *s, int64_t start)
{
    struct world *w = m->w;
    enum may r = w->shelf[m->group][p].loose ? MAY : MUST;
    int64_t at;
    uint32_t i;

    for (i = 0; i < s->n; i++)
        for (at = s->ack[i].first; at <= s->ack[i].last; at++) {
            const struct place *x = &w->shelf[m->group][p].v[at];

            if (at < start)
                continue;
            if (at < w->trimmed[p] || w->shelf[m->group][p].loose)
                r = MAY;
            else if (!mine(m, x) || (s->ack[i].deliveries && s->ack[i].deliveries != x->told))
                return MUST_NOT;
            else if (now_ms(w->io) >= x->until || x->may_accept || x->may_end)
                r = r == MUST ? MAY : r; /* the lease may have been ended; part may be done */
        }
    return r;
}

/* Marks what is asked for, before the call: it may be answered at once. */
static void settle_mark(struct settling *s, int64_t start, bool undo)
{
    struct shelf *sh = &s->w->shelf[s->group][s->part];
    int64_t at;
    uint32_t i;

    for (i = 0; i < s->n; i++)
        for (at = s->ack[i].first; at <= s->ack[i].last; at++) {
            struct place *x = &sh->v[at];

            if (undo && x->lease == SETTLING && x->settlement == s->no)
                x->lease = LEASED;
            if (undo || at < start || !mine(s->m, x) || s->ack[i].what == CURSOR_RENEW)
                continue;
            x->lease = SETTLING;
            x->settlement = s->no;
        }
}

/* It was taken: now it is known that it was asked for. */
static void settle_asked(const struct settling *s, int64_t start)
{
    struct shelf *sh = &s->w->shelf[s->group][s->part];
    int64_t at;
    uint32_t i;

    for (i = 0; i < s->n; i++)
        for (at = s->ack[i].first; at <= s->ack[i].last; at++) {
            struct place *x = &sh->v[at];

            say(&s->w->seed, "%" PRId64 ": %s: %d/%" PRId64 " is to be settled as %d", s->asked_ms,
                group_name[s->group], s->part, at, s->ack[i].what);
            if (s->ack[i].what == CURSOR_REJECT)
                x->rejected = true;
            if (s->ack[i].what == CURSOR_RENEW && at >= start && mine(s->m, x))
                x->until =
                    s->asked_ms + (s->ack[i].delay_ms ? s->ack[i].delay_ms : lease_ms[s->group]);
        }
}

static void settle(struct member *m)
{
    struct world *w = m->w;
    int p = (int)rnd(&w->seed, PARTS), g = m->group;
    struct cursor *c = cursor_get(w, g, p);
    struct settling *s = xcalloc(1, sizeof *s), copy;
    struct errinfo info = {0};
    struct cursor_info ci;
    enum may may;
    enum err e;

    *s = (struct settling){m,    w, ++w->settlements, g, p, w->shelf[g][p].life, 0, now_ms(w->io),
                           {{0}}};
    if (c)
        s->n = acks_choose(m, p, s->ack);
    if (s->n == 0) {
        free(s);
        cursor_unref(&c);
        return;
    }
    cursor_info_get(c, &ci);
    may = settle_may(m, p, s, ci.start);
    if (may != MUST_NOT)
        settle_mark(s, ci.start, false);
    copy = *s;
    w->pending++;
    e = cursor_settle(c, slice_str(m->id), s->ack, s->n, copy.asked_ms, settle_done, s, &info);
    cursor_unref(&c);
    if (!e && may == MUST_NOT)
        die(&w->seed, "%s: %d: %s settles what it has not", group_name[g], p, m->id);
    if (!e) {
        settle_asked(&copy, ci.start);
        return;
    }
    w->pending--;
    w->st_refused++;
    free(s);
    settle_mark(&copy, ci.start, true);
    if (may == MUST || e != ERR_RECORD_STATE)
        die(&w->seed, "%s: %d: %s may not settle what it has: %s: %s", group_name[g], p, m->id,
            err_code(e), info.text);
}

/* All that it has is free, some time soon. */
static void release(struct member *m, bool undelivered)
{
    struct world *w = m->w;
    int64_t at;
    int p;

    say(&w->seed, "%" PRId64 ": %s leaves", now_ms(w->io), m->id);
    for (p = 0; p < PARTS; p++) {
        struct cursor *c = cursor_get(w, m->group, p);

        for (at = 0; at < OFFSETS; at++) {
            struct place *x = &w->shelf[m->group][p].v[at];

            if (!mine(m, x))
                continue;
            if (now_ms(w->io) < x->until)
                x->until = now_ms(w->io);
            if (undelivered)
                x->lo = x->told;
        }
        if (c)
            cursor_release(c, slice_str(m->id), undelivered);
        cursor_unref(&c);
    }
}

/* ---- members ---- */

static void out(struct member *m)
{
    m->in = false;
    m->epoch = 0;
    memset(m->own, 0, sizeof m->own);
}

static void told(void *arg, const struct group_consumer_result *r)
{
    struct member *m = arg;
    struct world *w = m->w;
    unsigned i, n;

    m->waits = false;
    if (r->e == ERR_COORDINATOR)
        return;
    if (r->e == ERR_UNKNOWN_MEMBER || r->e == ERR_FENCED_MEMBER_EPOCH ||
        (!r->e && r->member_epoch < 0)) {
        out(m);
        return;
    }
    if (r->e)
        die(&w->seed, "heartbeat: %s: %s", err_code(r->e), r->text);
    if (r->member_epoch <= w->before[m->group])
        die(&w->seed, "%s: epoch %d is told after a restart, %d was before", group_name[m->group],
            (int)r->member_epoch, (int)w->before[m->group]);
    if (r->member_epoch > w->highest[m->group])
        w->highest[m->group] = r->member_epoch;
    if (mishap(&w->seed, 25)) /* the answer is lost */
        return;
    m->in = true;
    m->run = w->run;
    m->epoch = r->member_epoch;
    if (!r->has_assignment)
        return;
    memset(m->own, 0, sizeof m->own);
    for (i = 0; i < r->assignment_n; i++)
        for (n = 0; n < r->assignment[i].n; n++) {
            if (memcmp(r->assignment[i].topic_uuid, topic_uuid(w->t), 16) != 0 ||
                r->assignment[i].partitions[n] >= PARTS)
                die(&w->seed, "a partition that nobody asked for");
            m->own[r->assignment[i].partitions[n]] = true;
        }
}

static void beat(struct member *m, int32_t epoch)
{
    struct slice name = SLICE_LIT("t");
    bool full = epoch == GROUP_EPOCH_JOIN || rnd(&m->w->seed, 5) == 0;
    struct group_share_heartbeat h = {.group = slice_str(group_name[m->group]),
                                      .member_id = slice_str(m->id),
                                      .member_epoch = epoch,
                                      .client_id = SLICE_LIT("c"),
                                      .client_host = SLICE_LIT("h"),
                                      .topics = full ? &name : NULL,
                                      .topics_n = full};

    m->waits = true;
    group_share_heartbeat(m->w->b, &h, now_ms(m->w->io), &m->wait, told, m);
}

/* The process ends; another is started in its place. */
static void end(struct member *m, bool politely)
{
    group_wait_cancel(m->w->b, &m->wait);
    m->waits = false;
    if (politely) {
        release(m, rnd(&m->w->seed, 2));
        beat(m, GROUP_EPOCH_LEAVE);
        group_wait_cancel(m->w->b, &m->wait);
        m->waits = false;
    }
    out(m);
    m->dead = true;
}

static void turn_member(struct member *m)
{
    struct world *w = m->w;

    if (m->dead) {
        if (w->seed.calm || rnd(&w->seed, 12) == 0) {
            m->dead = false;
            m->no = ++w->ids;
            snprintf(m->id, sizeof m->id, "m-%u", m->no);
        }
    } else if (mishap(&w->seed, 150)) {
        end(m, false);
    } else if (m->in && mishap(&w->seed, 150)) {
        end(m, true);
    } else if (m->waits) {
        if (mishap(&w->seed, 60)) {
            group_wait_cancel(w->b, &m->wait);
            m->waits = false;
        }
    } else if (!m->in) {
        out(m);
        beat(m, GROUP_EPOCH_JOIN);
    } else if (rnd(&w->seed, 5) == 0) {
        beat(m, m->epoch);
    } else if (m->run == w->run && rnd(&w->seed, 2)) {
        fetch(m);
    } else if (m->run == w->run) {
        settle(m);
    }
}

/* ---- the broker ---- */

static void pass(struct world *w, int64_t ms)
{
    uint32_t i;

    io_sim_advance(w->io, (uint64_t)ms * 1000000u);
    groups_tick(w->b, now_ms(w->io));
    cursors_tick(w->b, now_ms(w->io));
    for (i = 0; i < 3; i++)
        broker_step(w->b);
}

static void turn(void *world)
{
    struct world *w = world;
    uint64_t what = rnd(&w->seed, 20);

    if (w->hurry) {
        w->hurry--;
        turn_member(&w->member[MANY][rnd(&w->seed, MEMBERS)]);
    } else if (what < 10) {
        turn_member(&w->member[rnd(&w->seed, GROUPS)][rnd(&w->seed, MEMBERS)]);
    } else if (what < 12) {
        produce(w);
    } else if (what == 12) {
        broker_background(w->b);
    } else if (what == 13 && rnd(&w->seed, 25) == 0) {
        journal_checkpoint(broker_journal(w->b), NULL);
    } else if (what == 14 && mishap(&w->seed, 60)) {
        set(w, (int)rnd(&w->seed, GROUPS), (int)rnd(&w->seed, PARTS));
    } else if (what == 15 && mishap(&w->seed, 60)) {
        trim(w);
    } else if (what == 16 || what == 17) {
        pass(w, mishap(&w->seed, 150) ? JUMP_MS : (int64_t)rnd(&w->seed, 400));
    } else {
        broker_step(w->b);
    }
    judge(w);
}

static bool may_fail(const struct world *w, enum err e)
{
    return io_sim_crashed(w->io) || e == ERR_NO_SPACE || e == ERR_IO || e == ERR_READ_ONLY;
}

/* Cursors of which it is not known where they are are set again. */
static void tighten(struct world *w)
{
    int g, p;

    for (g = 0; g < GROUPS; g++)
        for (p = 0; p < PARTS; p++)
            if (w->shelf[g][p].loose) {
                dead_read(w);
                set(w, g, p);
                quiet(w);
            }
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
        if (!may_fail(w, e))
            die(&w->seed, "does not open: %s: %s", err_code(e), info.text);
        return false;
    }
    e = topic_create_wait(w->b, SLICE_LIT("t"), PARTS, NULL, &info);
    w->t = topic_find(w->b, SLICE_LIT("t"));
    if (!w->t) {
        if (!may_fail(w, e))
            die(&w->seed, "create: %s: %s", err_code(e), info.text);
        broker_close(&w->b);
        return false;
    }
    groups_conf_get(w->b, &gc);
    gc.share_session_timeout_ms = SESSION_MS;
    gc.share_heartbeat_ms = 1000;
    if ((e = groups_conf_set(w->b, &gc, &info)))
        die(&w->seed, "configuration: %s", info.text);
    w->run++;
    memcpy(w->before, w->highest, sizeof w->before);
    return true;
}

static void close_broker(void *world)
{
    struct world *w = world;
    uint32_t i, k;

    groups_drain(w->b);
    for (i = 0; i < 10; i++)
        broker_step(w->b);
    if (w->pending)
        die(&w->seed, "%u calls are not answered in the end", w->pending);
    for (i = 0; i < GROUPS; i++)
        for (k = 0; k < MEMBERS; k++)
            if (w->member[i][k].waits)
                die(&w->seed, "%s is not answered in the end", w->member[i][k].id);
    topic_unref(&w->t);
    broker_close(&w->b);
}

static void opened(void *world)
{
    struct world *w = world;

    say(&w->seed, "run %u", w->run);
    judge(w);
    tighten(w);
}

static void cycle(void *world)
{
    static const struct seed_cycle c = {.turns_least = 300,
                                        .turns_more = 1200,
                                        .calls_max = 900,
                                        .full_eighths = 1,
                                        .open = open_broker,
                                        .opened = opened,
                                        .turn = turn,
                                        .close = close_broker};
    struct world *w = world;

    w->st_crashes += seed_cycle_run(&c, &w->seed, w->io, w);
}

/* ---- the end ---- */

/* Each group is through with each partition. */
static bool through(struct world *w)
{
    struct cursor_info i;
    struct plog_info log;
    int g, p;

    for (g = 0; g < GROUPS; g++)
        for (p = 0; p < PARTS; p++) {
            struct cursor *c = cursor_get(w, g, p);

            if (!c)
                return false;
            cursor_info_get(c, &i);
            cursor_unref(&c);
            plog_info_get(partition_log(part_of(w, p)), &log);
            if (i.start < log.end_offset)
                return false;
        }
    return true;
}

static void check_end(struct world *w, int g, int p)
{
    struct plog_info log;
    int64_t at;

    plog_info_get(partition_log(part_of(w, p)), &log);
    for (at = w->trimmed[p]; at < OFFSETS; at++) {
        const struct place *x = &w->shelf[g][p].v[at];

        if (w->acked[p][at] && at >= log.end_offset)
            die(&w->seed, "%d/%" PRId64 " is lost", p, at);
        if (at >= log.end_offset || x->nothing || x->may_accept)
            continue;
        if (x->accepted && !x->dead)
            continue;
        if (x->accepted || (g == FEW ? !x->dead : !x->archived && !x->may_end))
            die(&w->seed, "%s: %d/%" PRId64 " has not come to its end: told %u, %s%s%s",
                group_name[g], p, at, x->told, x->accepted ? "accepted " : "",
                x->archived ? "archived " : "", x->dead ? "dead" : "");
    }
}

/* Nothing goes wrong any more. */
static void finish(void *world)
{
    struct world *w = world;
    uint32_t i;
    int g, p;

    w->seed.calm = true;
    if (!open_broker(w))
        die(&w->seed, "does not open in the end");
    judge(w);
    tighten(w);
    for (i = 0; !through(w); i++) {
        if (i == 60000)
            die(&w->seed, "records have not come to their end");
        turn(w);
    }
    quiet(w);
    for (g = 0; g < GROUPS; g++)
        for (p = 0; p < PARTS; p++)
            check_end(w, g, p);
    close_broker(w);
    if (!open_broker(w))
        die(&w->seed, "does not open again in the end");
    judge(w);
    if (!through(w))
        die(&w->seed, "records are there again");
    close_broker(w);
}

static void begin(void *world)
{
    struct world *w = world;
    uint32_t i;
    int g, p;

    w->io = io_sim_new(w->seed.number ^ 0x7368);
    buf_init(&w->inflated, LIMIT_BATCH_INFLATED);
    for (g = 0; g < GROUPS; g++) {
        cursor_conf_default(&w->conf[g]);
        w->conf[g].lease_ms = lease_ms[g];
        w->conf[g].deliveries_max = g == FEW ? 3 : 0;
        w->conf[g].records_max = g == FEW ? 30 : 200;
        if (g == FEW)
            snprintf(w->conf[g].dead_letters, sizeof w->conf[g].dead_letters, DEAD);
        for (i = 0; i < MEMBERS; i++)
            w->member[g][i] = (struct member){.w = w, .group = g, .dead = true};
        for (p = 0; p < PARTS; p++)
            forget(w, g, p, 0);
    }
}

static struct {
    uint64_t records, taken, again, accepted, dead, refused, lost, sets, trims, crashes;
} sums;

static void give_back(void *world)
{
    struct world *w = world;

    sums.records += w->st_records;
    sums.taken += w->st_taken;
    sums.again += w->st_again;
    sums.accepted += w->st_accepted;
    sums.dead += w->st_dead;
    sums.refused += w->st_refused;
    sums.lost += w->st_failed;
    sums.sets += w->st_sets;
    sums.trims += w->st_trims;
    sums.crashes += w->st_crashes;
    buf_fini(&w->inflated);
    io_sim_free(&w->io);
}

static void print(void)
{
    printf("%" PRIu64 " records; %" PRIu64 " deliveries, %" PRIu64 " of them again; %" PRIu64
           " accepted, %" PRIu64 " dead letters; %" PRIu64 " settlements refused, %" PRIu64
           " failed; %" PRIu64 " cursors set, %" PRIu64 " trims; %" PRIu64 " crashes\n",
           sums.records, sums.taken, sums.again, sums.accepted, sums.dead, sums.refused, sums.lost,
           sums.sets, sums.trims, sums.crashes);
}

int main(int argc, char **argv)
{
    static const struct seed_program p = {
        "share",   CYCLES, sizeof(struct world), offsetof(struct world, seed), begin, cycle, finish,
        give_back, print};

    return seed_main(&p, argc, argv);
}
