/* `txn`: producers and transactions over a whole broker on a simulated disk, from a seed.
 *
 *   txn --seeds N [--seed S] [--verbose]
 *
 * Idempotent producers write to the topic "in", up to five batches under way, and send again what
 * was not confirmed; transactional writers write to it, too, and commit or abort. Copiers read what
 * is committed there, write it to "out" and commit their group's offsets in one transaction. All of
 * them fail, are replaced by others that take over their transactional ids (and go on for a while
 * as zombies), run into time-outs; the disk fills up, fails, and the power goes off. Readers that
 * see committed records only follow all of it and are opened anew by position.
 *
 * A checker (judge) reads the stored batches and markers by itself and knows what the clients were
 * told. What must hold whenever the log was opened, and in the end:
 *  1. of an idempotent producer's records each is there once, in order, and all that were confirmed;
 *  2. of a transaction all records are committed or none; all if its commit was confirmed, none if
 *     it was not asked for;
 *  3. each committed record of "in" below the group's offset is in "out", committed, once; nothing
 *     else is; that offset never goes back;
 *  4. a reader gives what is committed, in order of position, each record once, up to the first
 *     record that is undecided;
 *  5. who was fenced has no success any more.
 * In some seeds "in" is of durability `os`: then a crash may take what was confirmed, and nothing
 * else. One thread; the same seed does the same. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/hash.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "io/sim.h"
#include "journal/batch.h"
#include "journal/journal.h"
#include "seed.h"

#define DIR       "/d"
#define PARTS     2u /* of each topic */
#define IDEMS     3u
#define WINDOW    5u
#define ACTORS    4u /* 0, 1: copiers of partitions 0, 1; 2, 3: writers */
#define COPIERS   2u
#define TXNS_MAX  2000u
#define RECS_MAX  20000u
#define TAILS     2u
#define CYCLES    5u
#define VALUE_MIN 32u
#define COPY_MAX  4u
#define TIMEOUT   3000 /* ms, of transactions */

enum kind { IDEM = 1, WRITE, COPY };

/* What a record says: the first bytes of its value. */
struct val {
    uint32_t kind, who, txn, lane; /* COPY: lane is the partition that it is from */
    uint64_t serial;               /* COPY: the offset there */
};

/* An append under way. */
struct flight {
    struct append *a;
    struct append_slot slot;
    struct batch_builder bb;
    bool used, done;
    enum err e; /* of the batch */
};

struct pending {
    uint64_t serial;
    uint32_t count;
    int32_t sequence;
    bool sent;
    struct flight f;
};

struct lane {
    uint64_t acked, next; /* serials */
    int32_t sequence;
    bool lost; /* what was confirmed is: nothing that waits is there */
    uint32_t n;
    struct pending q[WINDOW];
};

struct idem {
    int64_t id; /* -1: none yet */
    int16_t epoch;
    struct lane lane[PARTS];
};

enum fate { NOT_ASKED, ASKED, COMMITTED, ABORTED };

struct txn_note {
    enum fate fate;
    uint32_t n; /* records confirmed */
};

/* Somebody with a transactional id. */
struct actor {
    int64_t id, prev_id; /* -1: to be initialised; who had it before, if that was somebody else */
    int16_t epoch, prev_epoch;
    bool own;     /* initialises itself anew: not a takeover */
    uint32_t txn; /* number of the open one, 0: none */
    bool commit;  /* once it has asked for an end it asks for the same again */
    bool raise;   /* KIP-890 */
    bool asked;   /* for that end */
    bool put;     /* `val` is to be written, or to be written again */
    bool offsets; /* those of the transaction were taken in */
    struct val val;
    uint32_t part, records, want;
    int32_t sequence[PARTS];
    int64_t copy[COPY_MAX], to; /* copiers: offsets of what is being copied, and the group's next */
    int64_t started_ms;
    int64_t zombie_id; /* somebody who does not know that he was replaced; -1: none */
    int16_t zombie_epoch;
    int32_t zombie_sequence;
};

struct rec {
    uint8_t topic, part, decided; /* 0, 1 committed, 2 aborted */
    int64_t offset, producer;
    uint64_t position;
    struct val v;
};

struct tail {
    struct reader *r;
    uint64_t resume, last;
    uint32_t n; /* given: positions */
    uint64_t *given;
};

struct world {
    struct io *io;
    struct broker *b;
    struct topic *t[2];
    struct seed seed;
    uint64_t checks;
    bool os, faulty; /* calls to the disk may fail */
    struct idem idem[IDEMS];
    struct actor actor[ACTORS];
    struct txn_note txn[TXNS_MAX];
    uint32_t txns;
    int64_t group[PARTS]; /* highest offset seen */
    struct tail tail[TAILS];
    struct rec *rec;
    uint32_t recs;
    uint64_t st_acked, st_dups, st_committed, st_aborted, st_copied, st_zombies, st_crashes,
        st_full;
};

/* Errors that a client repeats: the disk's, or too much under way. */
static bool passing(enum err e)
{
    return e == ERR_NO_SPACE || e == ERR_IO || e == ERR_READ_ONLY || e == ERR_OVERLOADED ||
           e == ERR_TXN_CONCURRENT || e == ERR_CLOSED;
}

/* An answer gets lost on its way to the client. */
static bool lost(struct world *w)
{
    return rnd(&w->seed, 30) == 0;
}

/* ---- batches ---- */

static void val_put(uint8_t out[VALUE_MIN], const struct val *v)
{
    memset(out, 0, VALUE_MIN);
    le32_store(out, v->kind);
    le32_store(out + 4, v->who);
    le32_store(out + 8, v->txn);
    le32_store(out + 12, v->lane);
    le64_store(out + 16, v->serial);
    le64_store(out + 24, v->serial * 1000003 + v->kind + v->who * 7 + v->txn * 101 + v->lane);
}

static bool val_get(struct slice s, struct val *v)
{
    uint8_t again[VALUE_MIN];

    if (s.len < VALUE_MIN)
        return false;
    *v = (struct val){le32_load(s.ptr), le32_load(s.ptr + 4), le32_load(s.ptr + 8),
                      le32_load(s.ptr + 12), le64_load(s.ptr + 16)};
    val_put(again, v);
    return memcmp(again, s.ptr, VALUE_MIN) == 0;
}

static void flight_begin(struct flight *f)
{
    memset(f, 0, sizeof *f);
    f->used = true;
    batch_builder_init(&f->bb, CODEC_NONE, 1u << 20);
}

static void flight_add(struct world *w, struct flight *f, const struct val *v)
{
    static uint8_t value[2000];
    size_t len = VALUE_MIN + rnd(&w->seed, rnd(&w->seed, 4) ? 100 : sizeof value - VALUE_MIN);

    val_put(value, v);
    if (batch_builder_add(&f->bb, io_wall_ms(w->io), SLICE_NULL, slice_of(value, len), NULL, 0,
                          NULL))
        die(&w->seed, "the batch builder is full");
}

static void flight_done(struct append *a, void *arg, enum err e)
{
    ((struct flight *)arg)->done = true;
}

static void flight_send(struct world *w, struct flight *f, struct partition *p, bool txn,
                        int64_t id, int16_t epoch, int32_t sequence)
{
    struct errinfo info = {0};
    struct slice bytes;

    if (batch_builder_finish(&f->bb, txn ? BATCH_TRANSACTIONAL : 0, id, epoch, sequence, &bytes))
        die(&w->seed, "no batch");
    f->a = append_new(w->b, flight_done, f);
    append_txn_starts(f->a);
    if (append_batch(f->a, p, bytes, &f->slot, &info))
        die(&w->seed, "append_batch: %s", info.text);
    f->e = append_submit(f->a, true, NULL);
    if (f->e) {
        f->done = true;
        append_free(&f->a);
    }
}

/* Takes the outcome of one that is done; whether it was a repetition. */
static bool flight_end(struct flight *f)
{
    struct append_place at = {0};

    if (f->a)
        f->e = append_place(f->a, f->slot, &at);
    append_free(&f->a);
    batch_builder_fini(&f->bb);
    f->used = false;
    return !f->e && at.duplicate;
}

static void flight_wait(struct world *w, struct flight *f)
{
    unsigned i;

    for (i = 0; !f->done; i++) {
        if (i == 1000)
            die(&w->seed, "an append is never answered");
        broker_step(w->b);
    }
}

/* ---- idempotent producers ---- */

struct call {
    bool done;
    enum err e;
    int64_t id;
    int16_t epoch;
};

static void call_done(void *arg, enum err e, const struct errinfo *info, int64_t id, int16_t epoch)
{
    *(struct call *)arg = (struct call){true, e, id, epoch};
}

static enum err call_wait(struct world *w, struct call *c, enum err e)
{
    unsigned i;

    if (e)
        return e;
    for (i = 0; !c->done; i++) {
        if (i == 1000)
            die(&w->seed, "a call is never answered");
        broker_step(w->b);
    }
    return c->e;
}

static void idem_send(struct world *w, uint32_t who, uint32_t part, struct pending *q)
{
    struct idem *m = &w->idem[who];
    struct val v = {IDEM, who, 0, part, q->serial};
    uint32_t i;

    flight_begin(&q->f);
    for (i = 0; i < q->count; i++, v.serial++)
        flight_add(w, &q->f, &v);
    flight_send(w, &q->f, topic_partition(w->t[0], (int32_t)part), false, m->id, m->epoch,
                q->sequence);
    q->sent = true;
}

/* The oldest ones that are answered leave the window; after a failure the rest is sent again once
 * nothing is under way any more. */
static void idem_answers(struct world *w, uint32_t who, uint32_t part)
{
    struct lane *l = &w->idem[who].lane[part];
    bool refused = false, gone = false;
    uint32_t i, n = 0;

    for (i = 0; i < l->n; i++)
        if (l->q[i].sent && !l->q[i].f.done)
            return;
    for (i = 0; i < l->n; i++) {
        struct pending *q = &l->q[i];

        if (!q->sent)
            break;
        w->st_dups += flight_end(&q->f);
        q->sent = false;
        gone = gone || lost(w);
        if (gone)
            continue;
        if (q->f.e == ERR_OK && n == i) {
            l->acked = q->serial + q->count;
            w->st_acked++;
            n++;
        } else if (q->f.e == ERR_OK) {
            die(&w->seed, "producer %u: a batch was taken, the one before it was not", who);
        } else if (q->f.e == ERR_SEQUENCE_ORDER && n == i) {
            refused = true;
        } else if (q->f.e != ERR_SEQUENCE_ORDER && !passing(q->f.e)) {
            die(&w->seed, "producer %u: %s", who, err_code(q->f.e));
        }
    }
    memmove(l->q, l->q + n, (l->n - n) * sizeof *l->q);
    l->n -= n;
    if (refused && !w->os)
        die(&w->seed, "producer %u: what follows on all that was confirmed is out of order", who);
    l->lost = l->lost || refused;
}

/* Some lane is lost; *settled: in the others nothing waits, of which it is not known if it is there. */
static bool idem_lost(const struct idem *m, bool *settled)
{
    bool lost = false;
    uint32_t i;

    *settled = true;
    for (i = 0; i < PARTS; i++) {
        lost = lost || m->lane[i].lost;
        *settled = *settled && (m->lane[i].lost || m->lane[i].n == 0);
    }
    return lost;
}

/* What was confirmed is lost (durability `os`): it begins anew behind that, with a new epoch. */
static void idem_anew(struct idem *m)
{
    uint32_t part, i;

    m->epoch++;
    for (part = 0; part < PARTS; part++) {
        struct lane *l = &m->lane[part];

        l->lost = false;
        l->sequence = 0;
        for (i = 0; i < l->n; i++) {
            l->q[i].sequence = l->sequence;
            l->sequence += (int32_t)l->q[i].count;
        }
    }
}

static void idem_turn(struct world *w, uint32_t who, bool more)
{
    struct idem *m = &w->idem[who];
    uint32_t part = (uint32_t)rnd(&w->seed, PARTS), i;
    struct lane *l = &m->lane[part];
    struct call c = {0};
    bool settled;

    if (m->id < 0) {
        if (!call_wait(w, &c, producer_id_new(w->b, call_done, &c, NULL)))
            m->id = c.id;
        return;
    }
    for (i = 0; i < PARTS; i++)
        idem_answers(w, who, i);
    if (idem_lost(m, &settled)) {
        if (settled)
            idem_anew(m);
        else if (l->lost)
            return;
        more = false;
    }
    if (more && l->n < WINDOW && l->next < 100000) {
        struct pending *q = &l->q[l->n++];

        memset(q, 0, sizeof *q);
        q->serial = l->next;
        q->count = 1 + (uint32_t)rnd(&w->seed, 3);
        q->sequence = l->sequence;
        l->next += q->count;
        l->sequence += (int32_t)q->count;
    }
    for (i = 0; i < l->n; i++) {
        if (l->q[i].sent)
            continue;
        if (i && !l->q[i - 1].sent)
            break;
        idem_send(w, who, part, &l->q[i]);
        if (rnd(&w->seed, 2))
            break;
    }
}

/* ---- transactions ---- */

static const char *const actor_name[ACTORS] = {"c0", "c1", "w2", "w3"};

static struct slice name_of(const struct world *w, const struct actor *a)
{
    return slice_str(actor_name[a - w->actor]);
}

static bool copies(const struct world *w, const struct actor *a)
{
    return (uint32_t)(a - w->actor) < COPIERS;
}

static struct topic *writes_to(const struct world *w, const struct actor *a)
{
    return w->t[copies(w, a)];
}

/* The open transaction came to nothing, for certain or (it was asked to be committed) perhaps. */
static void actor_drop(struct world *w, struct actor *a, bool certain)
{
    if (a->txn && (certain || w->txn[a->txn].fate == NOT_ASKED)) {
        w->txn[a->txn].fate = ABORTED;
        w->st_aborted++;
    }
    a->txn = a->records = 0;
    a->put = a->asked = a->offsets = false;
}

/* Its epoch is refused: that is so only after a time-out. */
static void actor_fenced(struct world *w, struct actor *a, enum err e, const char *what)
{
    if (!a->txn || io_wall_ms(w->io) - a->started_ms < TIMEOUT)
        die(&w->seed, "%s: %s: %s, and nobody has fenced it", actor_name[a - w->actor], what,
            err_code(e));
    say(&w->seed, "%s: timed out", actor_name[a - w->actor]);
    actor_drop(w, a, true);
    a->id = -1;
    a->own = false;
}

static bool is_fenced(enum err e)
{
    return e == ERR_PRODUCER_EPOCH || e == ERR_PRODUCER_FENCED || e == ERR_PRODUCER_ID;
}

static void actor_init(struct world *w, struct actor *a)
{
    struct call c = {0};
    bool own = a->own && a->prev_id >= 0;
    enum err e = call_wait(w, &c,
                           txn_init(w->b, name_of(w, a), TIMEOUT, own ? a->prev_id : -1,
                                    own ? a->prev_epoch : -1, call_done, &c, NULL));

    if (own && e == ERR_PRODUCER_FENCED) { /* a time-out came first */
        a->own = false;
        return;
    }
    if (e) {
        if (!passing(e))
            die(&w->seed, "%s: init: %s", actor_name[a - w->actor], err_code(e));
        return;
    }
    if (lost(w))
        return;
    if (!own && a->prev_id >= 0) {
        a->zombie_id = a->prev_id;
        a->zombie_epoch = a->prev_epoch;
        a->zombie_sequence = a->sequence[0];
    }
    actor_drop(w, a, false);
    if (c.id == a->prev_id && c.epoch <= a->prev_epoch)
        die(&w->seed, "%s: init gave no new epoch", actor_name[a - w->actor]);
    a->id = c.id;
    a->epoch = c.epoch;
    memset(a->sequence, 0, sizeof a->sequence);
}

/* Leaves its ids: to init, as itself or as another process. */
static void actor_leave(struct actor *a, bool own)
{
    a->prev_id = a->id;
    a->prev_epoch = a->epoch;
    a->id = -1;
    a->own = own;
}

/* What is committed behind the group's offset; whether there is something. */
static bool copier_read(struct world *w, struct actor *a)
{
    uint32_t part = (uint32_t)(a - w->actor), max = 1 + (uint32_t)rnd(&w->seed, COPY_MAX);
    struct partition *p = topic_partition(w->t[0], (int32_t)part);
    struct reader_conf rc = {
        .selector = SLICE_LIT("in"), .partition = (int32_t)part, .from = READ_FROM_OFFSET};
    struct group_offset at;
    struct reader_record rec;
    struct reader *r;

    rc.offset = group_offset_get(w->b, SLICE_LIT("g"), p, &at) ? 0 : at.offset;
    if (group_offset_pending(w->b, SLICE_LIT("g"), p)) /* its predecessor's: wait */
        return false;
    if (reader_open(w->b, &rc, &r, NULL))
        return false;
    a->want = 0;
    while (a->want < max && !reader_next(r, &rec, NULL)) {
        a->copy[a->want++] = rec.offset;
        a->to = rec.offset + 1;
    }
    reader_close(&r);
    return a->want > 0;
}

static void actor_begin(struct world *w, struct actor *a)
{
    struct call c = {0};
    enum err e = ERR_OK;

    if (w->txns + 1 == TXNS_MAX || (copies(w, a) && !copier_read(w, a)))
        return;
    if (!copies(w, a))
        a->want = 1 + (uint32_t)rnd(&w->seed, 6);
    a->started_ms = io_wall_ms(w->io);
    a->commit = rnd(&w->seed, 4) != 0;
    a->raise = rnd(&w->seed, 2);
    a->txn = ++w->txns;
    if (rnd(&w->seed, 2))
        e = call_wait(w, &c, txn_begin(w->b, name_of(w, a), a->id, a->epoch, call_done, &c, NULL));
    if (e && !passing(e))
        die(&w->seed, "%s: begin: %s", actor_name[a - w->actor], err_code(e));
    if (e) /* the first batch may begin it, too */
        say(&w->seed, "%s: begin: %s", actor_name[a - w->actor], err_code(e));
}

/* The next record, or the same again if it is not known to be there. */
static void actor_put(struct world *w, struct actor *a)
{
    uint32_t who = (uint32_t)(a - w->actor);
    struct flight f;
    bool again;

    if (!a->put) {
        a->val = copies(w, a) ? (struct val){COPY, who, a->txn, who, (uint64_t)a->copy[a->records]}
                              : (struct val){WRITE, who, a->txn, 0, a->records};
        a->part = (uint32_t)rnd(&w->seed, PARTS);
        a->put = true;
    }
    flight_begin(&f);
    flight_add(w, &f, &a->val);
    flight_send(w, &f, topic_partition(writes_to(w, a), (int32_t)a->part), true, a->id, a->epoch,
                a->sequence[a->part]);
    flight_wait(w, &f);
    again = flight_end(&f);
    w->st_dups += again;
    if (f.e == ERR_OK && lost(w))
        return;
    if (f.e == ERR_OK) {
        w->st_acked++;
        a->put = false;
        a->sequence[a->part]++;
        w->txn[a->txn].n = ++a->records;
    } else if (is_fenced(f.e)) {
        actor_leave(a, false);
        actor_fenced(w, a, f.e, "put");
    } else if (!passing(f.e)) {
        die(&w->seed, "%s: put: %s", actor_name[who], err_code(f.e));
    }
}

static void copier_offsets(struct world *w, struct actor *a)
{
    struct txn_commit_offset o = {topic_partition(w->t[0], (int32_t)(a - w->actor)), a->to,
                                  SLICE_NULL};
    struct call c = {0};
    enum err e = call_wait(w, &c,
                           txn_offsets(w->b, name_of(w, a), a->id, a->epoch, true, SLICE_LIT("g"),
                                       &o, 1, call_done, &c, NULL));

    if (is_fenced(e)) {
        actor_leave(a, false);
        actor_fenced(w, a, e, "offsets");
    } else if (e && !passing(e)) {
        die(&w->seed, "%s: offsets: %s", actor_name[a - w->actor], err_code(e));
    }
    a->offsets = !e && !lost(w);
}

static void actor_end(struct world *w, struct actor *a)
{
    struct call c = {0};
    enum err e;

    a->asked = true;
    if (a->commit)
        w->txn[a->txn].fate = ASKED;
    e = call_wait(
        w, &c,
        txn_end(w->b, name_of(w, a), a->id, a->epoch, a->commit, a->raise, call_done, &c, NULL));
    if (is_fenced(e)) {
        actor_leave(a, false);
        actor_fenced(w, a, e, "end");
        return;
    }
    if (e) {
        if (!passing(e))
            die(&w->seed, "%s: end: %s", actor_name[a - w->actor], err_code(e));
        return;
    }
    if (lost(w))
        return;
    if (a->commit) {
        w->txn[a->txn].fate = COMMITTED;
        w->st_committed++;
        if (copies(w, a) && a->to > w->group[a - w->actor])
            w->group[a - w->actor] = a->to;
        w->st_copied += copies(w, a) ? a->records : 0;
        a->txn = 0;
    }
    actor_drop(w, a, true);
    if (a->raise != (c.epoch != a->epoch || c.id != a->id))
        die(&w->seed, "%s: an end %s a new epoch", actor_name[a - w->actor],
            a->raise ? "without" : "with");
    a->id = c.id;
    a->epoch = c.epoch;
    if (a->raise)
        memset(a->sequence, 0, sizeof a->sequence);
}

/* Somebody who was replaced tries this and that: nothing of it may have an effect. */
static void zombie_turn(struct world *w, struct actor *a)
{
    struct txn_commit_offset o = {topic_partition(w->t[0], 0), 1000000, SLICE_NULL};
    struct val v = {WRITE, 99, 0, 0, 0};
    struct call c = {0};
    struct flight f;
    enum err e;

    switch (rnd(&w->seed, 4)) {
    case 0:
        flight_begin(&f);
        flight_add(w, &f, &v);
        flight_send(w, &f, topic_partition(writes_to(w, a), 0), true, a->zombie_id, a->zombie_epoch,
                    a->zombie_sequence);
        flight_wait(w, &f);
        e = flight_end(&f) ? ERR_DUPLICATE_SEQUENCE : f.e;
        break;
    case 1:
        e = call_wait(w, &c,
                      txn_end(w->b, name_of(w, a), a->zombie_id, a->zombie_epoch, rnd(&w->seed, 2),
                              rnd(&w->seed, 2), call_done, &c, NULL));
        break;
    case 2:
        e = call_wait(w, &c,
                      txn_init(w->b, name_of(w, a), TIMEOUT, a->zombie_id, a->zombie_epoch,
                               call_done, &c, NULL));
        break;
    default:
        e = call_wait(w, &c,
                      txn_offsets(w->b, name_of(w, a), a->zombie_id, a->zombie_epoch, true,
                                  SLICE_LIT("g"), &o, 1, call_done, &c, NULL));
    }
    if (!e)
        die(&w->seed, "%s: somebody who was fenced has success", actor_name[a - w->actor]);
    w->st_zombies++;
}

static void actor_turn(struct world *w, struct actor *a, bool more)
{
    if (a->zombie_id >= 0 && rnd(&w->seed, 8) == 0)
        zombie_turn(w, a);
    if (a->id < 0) {
        actor_init(w, a);
    } else if (rnd(&w->seed, more ? 60 : 1000) == 0) {
        actor_leave(a, rnd(&w->seed, 2));
    } else if (!a->txn) {
        if (more)
            actor_begin(w, a);
    } else if (a->asked || (!a->put && a->records > 0 && rnd(&w->seed, 12) == 0 && !a->commit)) {
        actor_end(w, a);
    } else if (a->put || a->records < a->want) {
        actor_put(w, a);
    } else if (copies(w, a) && !a->offsets) {
        copier_offsets(w, a);
    } else {
        actor_end(w, a);
    }
}

/* ---- readers that follow ---- */

static bool tail_open(struct world *w, struct tail *t)
{
    struct reader_conf rc = {.selector = t == w->tail ? SLICE_LIT("*") : SLICE_LIT("out"),
                             .partition = -1,
                             .from = READ_FROM_POSITION,
                             .position = t->resume};
    struct errinfo info = {0};

    if (!t->r && reader_open(w->b, &rc, &t->r, &info)) {
        if (!io_sim_crashed(w->io) && !w->faulty)
            die(&w->seed, "a reader does not open: %s", info.text);
        return false;
    }
    return true;
}

static void tail_turn(struct world *w, struct tail *t, uint64_t most)
{
    struct reader_record rec;
    struct errinfo info = {0};
    enum err e = ERR_OK;

    if (!tail_open(w, t))
        return;
    while (most-- && !(e = reader_next(t->r, &rec, &info))) {
        if (rec.position <= t->last)
            die(&w->seed, "a reader gives position %" PRIu64 " after %" PRIu64, rec.position,
                t->last);
        if (t->n == RECS_MAX)
            die(&w->seed, "a reader gives too much");
        t->last = t->given[t->n++] = rec.position;
    }
    if (e && e != ERR_AGAIN && !io_sim_crashed(w->io) && !w->faulty)
        die(&w->seed, "a reader: %s %s", err_code(e), info.text);
    t->resume = reader_position(t->r);
    if (rnd(&w->seed, 10) == 0)
        reader_close(&t->r);
}

/* ---- the checker ---- */

static struct rec *rec_add(struct world *w)
{
    if (w->recs == RECS_MAX)
        die(&w->seed, "there are more records than were written");
    return &w->rec[w->recs++];
}

/* A marker decides what its producer has undecided in the partition. */
static void judge_marker(struct world *w, uint32_t from, int64_t producer, const struct record *r)
{
    uint8_t commit = r->key.len == 4 ? r->key.ptr[3] : 9;
    uint32_t i;

    if (commit > 1)
        die(&w->seed, "a marker that is none");
    for (i = from; i < w->recs; i++)
        if (w->rec[i].producer == producer && w->rec[i].decided == 0)
            w->rec[i].decided = commit ? 1 : 2;
}

static void judge_batch(struct world *w, uint8_t topic, uint8_t part, uint32_t from,
                        const struct read_batch *b)
{
    struct batch_iter it;
    struct record r;
    struct buf scratch;

    buf_init(&scratch, 1u << 20);
    if (!batch_crc_ok(b->data) || batch_iter_init(&it, b->data, &scratch))
        die(&w->seed, "a batch is damaged");
    while (batch_iter_next(&it, &r) == ERR_OK) {
        struct rec *rec;

        if (it.info.attributes & BATCH_CONTROL) {
            judge_marker(w, from, it.info.producer_id, &r);
            continue;
        }
        rec = rec_add(w);
        *rec = (struct rec){.topic = topic,
                            .part = part,
                            .decided = !(it.info.attributes & BATCH_TRANSACTIONAL),
                            .offset = r.offset,
                            .producer = it.info.producer_id,
                            .position = b->position + (uint64_t)(r.offset - b->base_offset)};
        if (!val_get(r.value, &rec->v))
            die(&w->seed, "a record that nobody wrote");
    }
    buf_fini(&scratch);
}

/* Reads a partition; the last stable offset must be what its records say. */
static void judge_read(struct world *w, uint8_t topic, uint8_t part)
{
    struct partition *p = topic_partition(w->t[topic], part);
    struct plog_read rd = {0};
    struct errinfo info = {0};
    struct plog_info now;
    uint32_t from = w->recs, i;
    int64_t at = 0, lso;

    plog_info_get(partition_log(p), &now);
    while (at < now.end_offset) {
        if (plog_read(partition_log(p), at, 1 + rnd(&w->seed, 20000), &rd, &info) || rd.n == 0)
            die(&w->seed, "reading at %" PRId64 ": %s", at, info.text);
        for (i = 0; i < rd.n; i++) {
            if (rd.batch[i].base_offset != at)
                die(&w->seed, "offset %" PRId64 " is missing", at);
            judge_batch(w, topic, part, from, &rd.batch[i]);
            at = rd.batch[i].last_offset + 1;
        }
    }
    plog_read_release(&rd);
    lso = now.end_offset;
    for (i = w->recs; i-- > from;)
        if (w->rec[i].decided == 0)
            lso = w->rec[i].offset;
    if (partition_lso(p) != lso)
        die(&w->seed, "the last stable offset is %" PRId64 ", not %" PRId64, partition_lso(p), lso);
}

static void judge_idem(struct world *w)
{
    uint64_t next[IDEMS][PARTS] = {{0}};
    uint32_t i, k;

    for (i = 0; i < w->recs; i++) {
        const struct rec *r = &w->rec[i];

        if (r->v.kind != IDEM)
            continue;
        if (r->topic != 0 || r->v.lane != r->part || r->v.who >= IDEMS)
            die(&w->seed, "a producer's record is elsewhere");
        if (w->os ? r->v.serial < next[r->v.who][r->part] : r->v.serial != next[r->v.who][r->part])
            die(&w->seed,
                "producer %u: record %" PRIu64 " where %" PRIu64 " should be (offset %" PRId64 ")",
                r->v.who, r->v.serial, next[r->v.who][r->part], r->offset);
        next[r->v.who][r->part] = r->v.serial + 1;
    }
    for (i = 0; i < IDEMS; i++)
        for (k = 0; k < PARTS; k++)
            if (!w->os && next[i][k] < w->idem[i].lane[k].acked)
                die(&w->seed, "producer %u: record %" PRIu64 " was confirmed and is lost", i,
                    next[i][k]);
}

static void judge_txns(struct world *w)
{
    uint32_t *committed = xcalloc(w->txns + 1u, sizeof *committed), i;
    uint64_t *have = xcalloc(w->txns + 1u, sizeof *have);

    for (i = 0; i < w->recs; i++) {
        const struct val *v = &w->rec[i].v;

        if (v->kind == IDEM)
            continue;
        if (v->txn == 0 || v->txn > w->txns || (v->kind == COPY) != w->rec[i].topic)
            die(&w->seed, "a record of a transaction that there is not");
        if (v->kind == WRITE && have[v->txn] >> v->serial & 1)
            die(&w->seed, "transaction %u has record %" PRIu64 " twice", v->txn, v->serial);
        if (v->kind == WRITE)
            have[v->txn] |= 1ull << v->serial;
        committed[v->txn] += w->rec[i].decided == 1;
    }
    for (i = 1; i <= w->txns; i++) {
        static const char *const fates[] = {"not asked for", "asked for", "confirmed", "refused"};
        const struct txn_note *n = &w->txn[i];

        if (committed[i] == n->n ? n->n && (n->fate == NOT_ASKED || n->fate == ABORTED)
                                 : committed[i] || n->fate == COMMITTED)
            die(&w->seed, "of transaction %u %u of %u records are committed; that was %s", i,
                committed[i], n->n, fates[n->fate]);
    }
    free(committed);
    free(have);
}

/* What the copiers made: of each committed record below the group's offset one copy. */
static void judge_copies(struct world *w, uint32_t part)
{
    struct partition *p = topic_partition(w->t[0], (int32_t)part);
    struct plog_info now;
    struct group_offset at;
    int64_t group;
    uint8_t *copies;
    uint32_t i;

    plog_info_get(partition_log(p), &now);
    group = group_offset_get(w->b, SLICE_LIT("g"), p, &at) ? 0 : at.offset;
    if (group < w->group[part])
        die(&w->seed, "the group's offset went back from %" PRId64 " to %" PRId64, w->group[part],
            group);
    w->group[part] = group;
    copies = xcalloc((size_t)now.end_offset + 1, 1);
    for (i = 0; i < w->recs; i++) {
        const struct rec *r = &w->rec[i];

        if (r->v.kind != COPY || r->v.lane != part || r->decided != 1)
            continue;
        if ((int64_t)r->v.serial >= now.end_offset || copies[r->v.serial]++)
            die(&w->seed, "offset %" PRIu64 " of partition %u was copied twice", r->v.serial, part);
    }
    for (i = 0; i < w->recs; i++) {
        const struct rec *r = &w->rec[i];

        if (r->topic == 0 && r->part == part &&
            copies[r->offset] != (r->decided == 1 && r->offset < group))
            die(&w->seed,
                "offset %" PRId64 " of partition %u, %s, %s, and the group is at %" PRId64,
                r->offset, part, r->decided == 1 ? "committed" : "not committed",
                copies[r->offset] ? "was copied" : "was not copied", group);
    }
    free(copies);
}

static int by_position(const void *a, const void *b)
{
    uint64_t x = ((const struct rec *)a)->position, y = ((const struct rec *)b)->position;

    return x < y ? -1 : x > y;
}

/* A reader from the start gives what is committed below the first undecided record. */
static void judge_reader(struct world *w)
{
    struct reader_conf rc = {.selector = SLICE_LIT("*"), .partition = -1, .from = READ_FROM_START};
    struct reader_record rec;
    struct errinfo info = {0};
    struct reader *r;
    uint32_t i = 0;
    enum err e;

    if (reader_open(w->b, &rc, &r, &info))
        die(&w->seed, "a reader does not open: %s", info.text);
    while (!(e = reader_next(r, &rec, &info))) {
        while (i < w->recs && w->rec[i].decided == 2)
            i++;
        if (i == w->recs || w->rec[i].decided != 1 || w->rec[i].position != rec.position ||
            w->rec[i].offset != rec.offset || w->rec[i].part != rec.partition)
            die(&w->seed, "a reader gives position %" PRIu64 ", not %" PRIu64, rec.position,
                i < w->recs ? w->rec[i].position : 0);
        i++;
    }
    if (e != ERR_AGAIN)
        die(&w->seed, "a reader: %s %s", err_code(e), info.text);
    reader_close(&r);
    while (i < w->recs && w->rec[i].decided == 2)
        i++;
    if (i < w->recs && w->rec[i].decided == 1)
        die(&w->seed, "a reader stops before position %" PRIu64, w->rec[i].position);
}

/* What the readers that follow were given is committed, and they missed nothing up to there. */
static void judge_tail(struct world *w, const struct tail *t)
{
    bool all = t == w->tail;
    uint32_t i, n = 0;

    for (i = 0; i < w->recs && n < t->n; i++) {
        if (w->rec[i].decided != 1 || !(all || w->rec[i].topic == 1))
            continue;
        if (w->rec[i].position != t->given[n++])
            die(&w->seed, "a reader was given position %" PRIu64 ", not %" PRIu64, t->given[n - 1],
                w->rec[i].position);
    }
    if (n < t->n)
        die(&w->seed, "a reader was given position %" PRIu64 ", which is not committed",
            t->given[n]);
}

/* Everything, after opening or in the end. Sorts the records by position. */
static void judge(struct world *w)
{
    uint8_t topic, part;
    uint32_t i;

    w->recs = 0;
    for (topic = 0; topic < 2; topic++)
        for (part = 0; part < PARTS; part++)
            judge_read(w, topic, part);
    judge_idem(w);
    judge_txns(w);
    for (i = 0; i < COPIERS; i++)
        judge_copies(w, i);
    qsort(w->rec, w->recs, sizeof *w->rec, by_position);
    judge_reader(w);
    for (i = 0; i < TAILS; i++)
        judge_tail(w, &w->tail[i]);
    w->checks++;
}

/* ---- cycles ---- */

static enum err topics_make(struct world *w)
{
    static const char *const name[] = {"in", "out"};
    struct errinfo info = {0};
    struct topic_conf c;
    uint32_t i;

    for (i = 0; i < 2; i++) {
        enum err e;

        topic_conf_default(w->b, &c);
        c.durability = i == 0 && w->os ? DURABILITY_OS : DURABILITY_FSYNC;
        e = topic_create_wait(w->b, slice_str(name[i]), PARTS, &c, &info);
        if (e && e != ERR_TOPIC_EXISTS && !passing(e))
            die(&w->seed, "create: %s", info.text);
        if (e && e != ERR_TOPIC_EXISTS)
            return e;
        w->t[i] = topic_find(w->b, slice_str(name[i]));
    }
    return ERR_OK;
}

static void unlink_topics(struct world *w)
{
    topic_unref(&w->t[0]);
    topic_unref(&w->t[1]);
}

/* What was under way is answered, one way or the other. */
static void close_broker(struct world *w)
{
    uint32_t i, k, n;

    for (i = 0; i < IDEMS; i++)
        for (k = 0; k < PARTS; k++) {
            struct lane *l = &w->idem[i].lane[k];

            for (n = 0; n < l->n; n++)
                if (l->q[n].sent)
                    flight_wait(w, &l->q[n].f);
            idem_answers(w, i, k);
        }
    for (i = 0; i < TAILS; i++)
        reader_close(&w->tail[i].r);
    unlink_topics(w);
    broker_close(&w->b);
}

static bool open_broker(struct world *w)
{
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
    if (topics_make(w)) {
        unlink_topics(w);
        broker_close(&w->b);
        return false;
    }
    return true;
}

/* After the power went off. With durability `os` what was confirmed may be gone. */
static void crashed(struct world *w)
{
    uint32_t i;

    w->st_crashes++;
    if (!w->os)
        return;
    for (i = 0; i < TAILS; i++)
        w->tail[i] = (struct tail){.given = w->tail[i].given};
    for (i = COPIERS; i < ACTORS; i++) {
        actor_drop(w, &w->actor[i], false);
        if (w->actor[i].id >= 0)
            actor_leave(&w->actor[i], rnd(&w->seed, 2));
    }
}

static void turn(struct world *w, bool more)
{
    switch (rnd(&w->seed, 16)) {
    case 0:
    case 1:
    case 2:
    case 3:
        idem_turn(w, (uint32_t)rnd(&w->seed, IDEMS), more);
        break;
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
    case 9:
        actor_turn(w, &w->actor[rnd(&w->seed, ACTORS)], more);
        break;
    case 10:
    case 11:
        tail_turn(w, &w->tail[rnd(&w->seed, TAILS)],
                  rnd(&w->seed, 2) ? UINT64_MAX : rnd(&w->seed, 8));
        break;
    case 12:
        broker_background(w->b);
        break;
    case 13:
        if (rnd(&w->seed, 20) == 0)
            journal_checkpoint(broker_journal(w->b), NULL);
        else if (rnd(&w->seed, 6) == 0)
            io_sim_advance(w->io, rnd(&w->seed, 12) ? 100000000u : 4000000000u);
        break;
    default:
        broker_step(w->b);
    }
}

static void fault_note(struct world *w, enum fault f)
{
    w->faulty = f == FAULT_CALLS;
    w->st_full += f == FAULT_FULL;
}

static void cycle(void *world)
{
    struct world *w = world;
    bool clean = rnd(&w->seed, 5) == 0;
    uint32_t i, n = 200 + (uint32_t)rnd(&w->seed, 500);

    if (rnd(&w->seed, 6) == 0)
        io_sim_crash_at(w->io, 1 + rnd(&w->seed, 80)); /* while it opens */
    if (open_broker(w)) {
        io_sim_crash_at(w->io, 0);
        if (!io_sim_crashed(w->io)) {
            judge(w);
            if (!clean)
                fault_note(w, fault_plan(&w->seed, w->io, 600, 2));
        }
        for (i = 0; i < n; i++) {
            turn(w, true);
            if (i == n / 2 && rnd(&w->seed, 2)) /* there is room again */
                io_sim_capacity(w->io, UINT64_MAX);
        }
        close_broker(w);
    }
    if (!clean || io_sim_crashed(w->io)) {
        io_sim_crash(w->io);
        crashed(w);
    }
    w->faulty = false;
    faults_end(w->io);
}

static bool idle(const struct world *w)
{
    uint32_t i, k;

    for (i = 0; i < ACTORS; i++)
        if (w->actor[i].txn || w->actor[i].id < 0)
            return false;
    for (i = 0; i < IDEMS; i++)
        for (k = 0; k < PARTS; k++)
            if (w->idem[i].lane[k].n)
                return false;
    return true;
}

/* Nothing goes wrong any more: all that is open comes to its end, and all is looked at. */
static void finish(void *world)
{
    struct world *w = world;
    uint32_t i, n;

    if (!open_broker(w))
        die(&w->seed, "does not open in the end");
    judge(w);
    for (n = 0; !idle(w); n++) {
        if (n == 20000)
            die(&w->seed, "something has no end");
        turn(w, false);
    }
    for (i = 0; i < TAILS; i++)
        tail_turn(w, &w->tail[i], UINT64_MAX);
    judge(w);
    n = 0;
    for (i = 0; i < w->recs; i++)
        n += w->rec[i].decided == 1;
    if (w->tail[0].n != n)
        die(&w->seed, "a reader was given %u of %u records", w->tail[0].n, n);
    close_broker(w);
}

static void begin(void *world)
{
    struct world *w = world;
    uint32_t i;

    w->os = w->seed.number % 5 == 0;
    w->io = io_sim_new(w->seed.number ^ 0x7478);
    w->rec = xcalloc(RECS_MAX, sizeof *w->rec);
    for (i = 0; i < TAILS; i++)
        w->tail[i].given = xcalloc(RECS_MAX, sizeof *w->tail[i].given);
    for (i = 0; i < IDEMS; i++)
        w->idem[i].id = -1;
    for (i = 0; i < ACTORS; i++)
        w->actor[i].id = w->actor[i].prev_id = w->actor[i].zombie_id = -1;
}

static struct {
    uint64_t acked, dups, committed, aborted, copied, zombies, crashes, checks;
} sums;

static void give_back(void *world)
{
    struct world *w = world;
    uint32_t i;

    sums.acked += w->st_acked;
    sums.dups += w->st_dups;
    sums.committed += w->st_committed;
    sums.aborted += w->st_aborted;
    sums.copied += w->st_copied;
    sums.zombies += w->st_zombies;
    sums.crashes += w->st_crashes;
    sums.checks += w->checks;
    for (i = 0; i < TAILS; i++)
        free(w->tail[i].given);
    free(w->rec);
    io_sim_free(&w->io);
}

static void print(void)
{
    printf("%" PRIu64 " batches confirmed, %" PRIu64 " of them repeated; %" PRIu64
           " transactions committed, %" PRIu64 " aborted; %" PRIu64 " records copied; %" PRIu64
           " tries of the fenced refused; %" PRIu64 " crashes; all checked %" PRIu64 " times\n",
           sums.acked, sums.dups, sums.committed, sums.aborted, sums.copied, sums.zombies,
           sums.crashes, sums.checks);
}

int main(int argc, char **argv)
{
    static const struct seed_program p = {
        "txn",     CYCLES, sizeof(struct world), offsetof(struct world, seed), begin, cycle, finish,
        give_back, print};

    return seed_main(&p, argc, argv);
}
