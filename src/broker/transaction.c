/* Transactions.
 *
 *             batches, offsets                    end: one unit
 *   EMPTY ------------------------> ONGOING -----------------------> COMMITTED or ABORTED
 *     ^   (or txn_begin, durable)      |  timeout, txn_init: ABORTED,        |
 *     |                                |  with a raised epoch                | batches, offsets
 *     '---- txn_init: epoch raised ----+-------------------------------------'--> ONGOING
 *
 * The end of a transaction is one unit of the journal: a marker in every partition written to, the
 * offsets of its groups, and the new state, so there is nothing in between that a crash could leave
 * behind, and no prepared state. Which partitions it wrote to is known from the batches themselves
 * (struct pstate), also after recovery.
 *
 * From the moment when the end is put together (`ending`) no batch of the transaction is sequenced.
 * One change of a transactional id at a time (`busy`): others are told ERR_TXN_CONCURRENT, which
 * clients repeat.
 *
 * Rules of epochs and errors: KIP-98, KIP-360, KIP-890 (which raises the epoch with each end).
 *
 * Here are the calls, and what goes on by itself; a change on its way is in txn_op.c, what is known
 * of transactional ids in txn_state.c. The lock is producers.lock. */
#include "broker/transaction.h"

#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/mem.h"
#include "broker/broker_int.h"
#include "broker/txn_int.h"

#define EXPIRE_MS (7ll * 24 * 3600 * 1000) /* transactional.id.expiration.ms of Kafka */
#define TICK_ENDS 64u

/* ---- calls ---- */

static enum err fenced(const struct txn *t, int64_t id, int16_t epoch, struct errinfo *info)
{
    if (id != t->e.producer_id)
        return errinfo_set(info, ERR_PRODUCER_ID, "\"%s\" has another producer id", t->name);
    if (epoch != t->e.epoch)
        return errinfo_set(info, ERR_PRODUCER_FENCED, "a newer producer uses \"%s\"", t->name);
    return ERR_OK;
}

static enum err busy(const struct txn *t, struct errinfo *info)
{
    return errinfo_set(info, ERR_TXN_CONCURRENT, "\"%s\" is being changed; try again", t->name);
}

/* Finds the transaction and checks who calls. Lock held. */
static enum err txn_of(struct broker *b, struct slice name, int64_t id, int16_t epoch,
                       struct txn **out, struct errinfo *info)
{
    struct txn *t = txn__find(b, name);
    enum err e;

    if (!t || t->fresh)
        return errinfo_set(info, ERR_PRODUCER_ID, "no such transactional id");
    if ((e = fenced(t, id, epoch, info)))
        return e;
    *out = t;
    return t->busy ? busy(t, info) : ERR_OK;
}

/* The producer's own wish to go on with a raised epoch (KIP-360). */
static enum err init_allowed(const struct txn *t, int64_t id, int16_t epoch, bool *again,
                             struct errinfo *info)
{
    *again = false;
    if (id < 0)
        return ERR_OK;
    if (id == t->e.producer_id && epoch == t->e.epoch)
        return ERR_OK;
    *again = id == t->e.last_id && epoch == t->e.last_epoch && t->e.state != TXN_ONGOING;
    return *again ? ERR_OK
                  : errinfo_set(info, ERR_PRODUCER_FENCED, "a newer producer uses \"%s\"", t->name);
}

/* Lock held. *o NULL with ERR_OK: nothing is to be written, the ids are as they are. */
static enum err init_begin(struct broker *b, struct slice name, int32_t timeout_ms, int64_t id,
                           int16_t epoch, struct txn_op **o, txn_done_fn done, void *arg,
                           struct errinfo *info)
{
    struct txn *t = txn__find(b, name);
    bool again;
    enum err e;

    *o = NULL;
    if (!t && !(t = txn__new(b, name)))
        return errinfo_set(info, ERR_LIMIT, "there are too many transactional ids");
    if (t->busy)
        return busy(t, info);
    if (!t->fresh) {
        if ((e = init_allowed(t, id, epoch, &again, info)) || again)
            return e;
        if (t->e.state == TXN_ONGOING) {
            *o = txn_op__end(b, t, false, id < 0 ? RAISE_FENCE : RAISE_OWN, timeout_ms, done, arg);
            return ERR_OK;
        }
    }
    *o = txn_op__begin(b, t, OP_STATE, done, arg);
    if (t->fresh)
        (*o)->to.producer_id = b->producers.next_id++;
    else
        txn_op__raise(*o, id < 0 ? RAISE_FENCE : RAISE_OWN);
    (*o)->to.state = TXN_EMPTY;
    (*o)->to.timeout_ms = timeout_ms;
    txn_op__state_entry(*o);
    return ERR_OK;
}

enum err txn_init(struct broker *b, struct slice name, int32_t timeout_ms, int64_t producer_id,
                  int16_t epoch, txn_done_fn done, void *arg, struct errinfo *info)
{
    struct producers *ps = &b->producers;
    struct txn_op *o;
    struct txn *t;
    enum err e;

    if (name.len == 0 || name.len > LIMIT_TXN_NAME)
        return errinfo_set(info, ERR_INVALID, "a transactional id has 1 to %u bytes",
                           LIMIT_TXN_NAME);
    if (timeout_ms <= 0 || timeout_ms > LIMIT_TXN_TIMEOUT_MS)
        return errinfo_set(info, ERR_TXN_TIMEOUT, "a transaction's timeout is 1 to %d ms",
                           LIMIT_TXN_TIMEOUT_MS);
    io_mutex_lock(&ps->lock);
    e = init_begin(b, name, timeout_ms, producer_id, epoch, &o, done, arg, info);
    if (!e && !o) {
        t = txn__find(b, name);
        producer_id = t->e.producer_id;
        epoch = t->e.epoch;
    }
    io_mutex_unlock(&ps->lock);
    if (e)
        return e;
    if (o)
        return txn_op__submit(o, info);
    done(arg, ERR_OK, info, producer_id, epoch);
    return ERR_OK;
}

enum err producer_id_new(struct broker *b, txn_done_fn done, void *arg, struct errinfo *info)
{
    struct txn_op *o = txn_op__new(b, OP_IDS, done, arg);

    io_mutex_lock(&b->producers.lock);
    o->to.producer_id = b->producers.next_id++;
    io_mutex_unlock(&b->producers.lock);
    if (buf_reserve(&o->bytes, ENTRY_SMALL_MAX)) {
        txn_op__free(o);
        return ERR_NO_MEMORY;
    }
    txn_op__entry(o, ENTRY_PRODUCER_IDS, NULL,
                  entry_producer_ids_write(o->bytes.ptr, o->to.producer_id + 1));
    return txn_op__submit(o, info);
}

enum err txn_begin(struct broker *b, struct slice name, int64_t producer_id, int16_t epoch,
                   txn_done_fn done, void *arg, struct errinfo *info)
{
    struct txn_op *o = NULL;
    struct txn *t = NULL;
    enum err e;

    io_mutex_lock(&b->producers.lock);
    e = txn_of(b, name, producer_id, epoch, &t, info);
    if (!e && t->e.state != TXN_ONGOING) {
        o = txn_op__begin(b, t, OP_STATE, done, arg);
        o->to.state = TXN_ONGOING;
        o->to.started_ms = o->to.updated_ms;
        txn_op__state_entry(o);
    }
    io_mutex_unlock(&b->producers.lock);
    if (e)
        return e;
    if (o)
        return txn_op__submit(o, info);
    done(arg, ERR_OK, info, producer_id, epoch);
    return ERR_OK;
}

/* Copies the offsets into the op. */
static enum err op_offsets_copy(struct txn_op *o, struct slice group,
                                const struct txn_commit_offset *offs, uint32_t n)
{
    const struct txn_offset *old;
    size_t bytes = 0;
    uint32_t i;

    o->offsets = xcalloc(n ? n : 1, sizeof *o->offsets);
    for (i = 0; i < n; i++) {
        struct entry_group_offset g = {.topic = offs[i].p->topic->id,
                                       .partition = (uint32_t)offs[i].p->index,
                                       .offset = offs[i].offset,
                                       .committed_ms = o->to.updated_ms,
                                       .group = group,
                                       .metadata = offs[i].metadata};

        o->offsets[o->offsets_n] = txn__offset_new(&g);
        old = map_find(&o->t->offset_of, txn__offset_key(o->offsets[o->offsets_n++]));
        if (!old || txn__offset_room(&old->o) < txn__offset_room(&g))
            bytes += txn__offset_room(&g) - (old ? txn__offset_room(&old->o) : 0);
        if (!txn__room(o->b, o->t, 0, bytes) || !txn_op__offset_entry(o, &g, true))
            return ERR_LIMIT;
    }
    return ERR_OK;
}

/* Those under way of other transactions are not counted yet: they are bounded by what the journal
 * takes in. */
static enum err offsets_limits(struct broker *b, const struct txn *t, struct slice group,
                               const struct txn_commit_offset *offs, uint32_t n,
                               struct errinfo *info)
{
    const struct producers *ps = &b->producers;
    size_t bytes = ps->pending_bytes;
    uint32_t i;

    for (i = 0; i < n; i++)
        bytes += txn__offset_memory(
            &(struct entry_group_offset){.group = group, .metadata = offs[i].metadata});
    if (n > LIMIT_TXN_OFFSETS || t->offset_of.n > LIMIT_TXN_OFFSETS - n)
        return errinfo_set(info, ERR_LIMIT, "a transaction commits at most %u offsets",
                           LIMIT_TXN_OFFSETS);
    if (ps->pending_n >= LIMIT_TXN_OFFSETS_ALL || bytes > LIMIT_TXN_OFFSET_BYTES)
        return errinfo_set(info, ERR_LIMIT,
                           "the offsets in all transactions are the most allowed: %u, or %u MiB",
                           LIMIT_TXN_OFFSETS_ALL, LIMIT_TXN_OFFSET_BYTES >> 20);
    return ERR_OK;
}

enum err txn_offsets(struct broker *b, struct slice name, int64_t producer_id, int16_t epoch,
                     bool starts, struct slice group, const struct txn_commit_offset *offs,
                     uint32_t n, txn_done_fn done, void *arg, struct errinfo *info)
{
    struct txn_op *o = NULL;
    struct txn *t = NULL;
    enum err e = ERR_OK;
    uint32_t i;

    for (i = 0; !e && i < n; i++)
        e = group_check(b, group, offs[i].offset, offs[i].metadata, info);
    if (e)
        return e;
    io_mutex_lock(&b->producers.lock);
    e = txn_of(b, name, producer_id, epoch, &t, info);
    if (!e && t->e.state != TXN_ONGOING && !starts)
        e = errinfo_set(info, ERR_TXN_STATE, "\"%s\" has no transaction", t->name);
    if (!e)
        e = offsets_limits(b, t, group, offs, n, info);
    if (!e) {
        o = txn_op__begin(b, t, OP_OFFSETS, done, arg);
        e = op_offsets_copy(o, group, offs, n);
        if (e) {
            errinfo_set(info, e, "the offsets of the transaction do not fit one frame of the log");
            txn_op__unbusy(o);
            txn_op__free(o);
        }
    }
    io_mutex_unlock(&b->producers.lock);
    return e ? e : txn_op__submit(o, info);
}

/* The same end came before: its answer was lost. With a raised epoch the old one tells; who has the
 * new one asks for the next end. */
static bool end_repeated(const struct txn *t, int64_t id, int16_t epoch, bool commit, bool raise)
{
    if (t->e.state != (commit ? TXN_COMMITTED : TXN_ABORTED))
        return false;
    return raise ? id == t->e.last_id && epoch == t->e.last_epoch
                 : id == t->e.producer_id && epoch == t->e.epoch;
}

/* Lock held. *o NULL with ERR_OK: there is nothing to do. */
static enum err end_check(struct broker *b, struct txn *t, bool commit, bool raise,
                          struct txn_op **o, txn_done_fn done, void *arg, struct errinfo *info)
{
    if (t->e.state == TXN_ONGOING) {
        *o = txn_op__end(b, t, commit, raise ? RAISE_OWN : RAISE_NONE, 0, done, arg);
        return ERR_OK;
    }
    if (commit || !raise)
        return errinfo_set(info, ERR_TXN_STATE, "\"%s\" has no transaction", t->name);
    *o = txn_op__begin(b, t, OP_STATE, done, arg); /* KIP-890: to be sure that nothing is left */
    txn_op__raise(*o, RAISE_OWN);
    (*o)->to.state = TXN_ABORTED;
    txn_op__state_entry(*o);
    return ERR_OK;
}

enum err txn_end(struct broker *b, struct slice name, int64_t producer_id, int16_t epoch,
                 bool commit, bool raise, txn_done_fn done, void *arg, struct errinfo *info)
{
    struct txn_op *o = NULL;
    struct txn *t;
    enum err e = ERR_OK;

    io_mutex_lock(&b->producers.lock);
    t = txn__find(b, name);
    if (!t || t->fresh) {
        e = errinfo_set(info, ERR_PRODUCER_ID, "no such transactional id");
    } else if (t->busy) {
        e = busy(t, info);
    } else if (end_repeated(t, producer_id, epoch, commit, raise)) {
        producer_id = t->e.producer_id;
        epoch = t->e.epoch;
    } else if (!(e = fenced(t, producer_id, epoch, info))) {
        e = end_check(b, t, commit, raise, &o, done, arg, info);
    }
    io_mutex_unlock(&b->producers.lock);
    if (e)
        return e;
    if (o)
        return txn_op__submit(o, info);
    done(arg, ERR_OK, info, producer_id, epoch);
    return ERR_OK;
}

/* ---- looking ---- */

bool group_offset_pending(struct broker *b, struct slice group, struct partition *p)
{
    uint8_t key[OFFSET_KEY + LIMIT_GROUP_NAME];
    struct producers *ps = &b->producers;
    bool found;

    if (group.len == 0 || group.len > LIMIT_GROUP_NAME)
        return false;
    le32_store(key, p->topic->id);
    le32_store(key + 4, (uint32_t)p->index);
    memcpy(key + OFFSET_KEY, group.ptr, group.len);
    io_mutex_lock(&ps->lock);
    found = map_find(&ps->pending, slice_of(key, OFFSET_KEY + group.len)) != NULL;
    io_mutex_unlock(&ps->lock);
    return found;
}

static void info_fill(const struct txn *t, struct txn_info *out)
{
    *out = (struct txn_info){.name = t->e.name,
                             .producer_id = t->e.producer_id,
                             .epoch = t->e.epoch,
                             .state = t->e.state,
                             .ending = t->ending,
                             .timeout_ms = t->e.timeout_ms,
                             .started_ms = t->e.state == TXN_ONGOING ? t->e.started_ms : -1,
                             .partitions_n = t->parts_n};
}

void txn_each(struct broker *b, void (*fn)(void *arg, const struct txn_info *t), void *arg)
{
    struct producers *ps = &b->producers;
    struct txn_info info;
    uint32_t at = 0;
    void *t;

    io_mutex_lock(&ps->lock);
    while (map_next(&ps->txns, &at, NULL, &t))
        if (!((struct txn *)t)->fresh) {
            info_fill(t, &info);
            fn(arg, &info);
        }
    io_mutex_unlock(&ps->lock);
}

enum err txn_get(struct broker *b, struct slice name, struct txn_info *out,
                 void (*fn)(void *arg, struct partition *p), void *arg)
{
    struct producers *ps = &b->producers;
    struct pstate *s;
    struct txn *t;

    io_mutex_lock(&ps->lock);
    t = txn__find(b, name);
    if (t && !t->fresh) {
        info_fill(t, out);
        out->name = name;
        if (fn)
            list_for_each(s, &t->parts, struct pstate, txn_link) fn(arg, s->p);
    }
    io_mutex_unlock(&ps->lock);
    return t && !t->fresh ? ERR_OK : ERR_TXN_NOT_FOUND;
}

/* ---- upkeep ---- */

/* Ends those that took too long, raising their epochs: nothing more of them is taken. Their
 * producers may go on: one that asks for its next epoch is told the new one (KIP-588), and so is one
 * that aborts, if its EndTxn is of version 5 or later (KIP-890). */
static unsigned timeouts(struct broker *b, int64_t wall_ms, struct txn_op **out, unsigned max)
{
    struct txn *t, *next;
    unsigned n = 0;

    for (t = list_entry(b->producers.ongoing.node.next, struct txn, ongoing_link);
         n < max && &t->ongoing_link != &b->producers.ongoing.node; t = next) {
        next = list_entry(t->ongoing_link.next, struct txn, ongoing_link);
        if (!t->busy && wall_ms - t->e.started_ms > t->e.timeout_ms)
            out[n++] = txn_op__end(b, t, false, RAISE_OWN, 0, NULL, NULL);
    }
    return n;
}

static unsigned expired(struct broker *b, int64_t wall_ms, struct txn_op **out, unsigned max)
{
    uint32_t at = 0;
    unsigned n = 0;
    void *v;

    while (n < max && map_next(&b->producers.txns, &at, NULL, &v)) {
        struct txn *t = v;

        if (t->busy || t->fresh || t->e.state == TXN_ONGOING ||
            wall_ms - t->e.updated_ms <= EXPIRE_MS)
            continue;
        out[n] = txn_op__begin(b, t, OP_STATE, NULL, NULL);
        out[n]->to.state = TXN_DEAD;
        txn_op__state_entry(out[n++]);
    }
    return n;
}

void txns_tick(struct broker *b, int64_t wall_ms)
{
    struct producers *ps = &b->producers;
    struct txn_op *ops[TICK_ENDS];
    unsigned n, i;

    if (b->conf.read_only)
        return;
    io_mutex_lock(&ps->lock);
    n = timeouts(b, wall_ms, ops, TICK_ENDS);
    n += expired(b, wall_ms, ops + n, TICK_ENDS - n);
    io_mutex_unlock(&ps->lock);
    for (i = 0; i < n; i++)
        txn_op__submit(ops[i], NULL); /* refused: the next tick tries again */
}
