/* A change of a transactional id on its way: put together under producers.lock, handed to the journal
 * as one unit, applied when it is durable, undone when it is not, answered. See transaction.c. */
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/mem.h"
#include "broker/broker_int.h"
#include "broker/txn_int.h"

#define EPOCH_MAX  (INT16_MAX - 1)
#define MARKER_MAX 128u

struct txn_op *txn_op__new(struct broker *b, enum op_kind kind, txn_done_fn done, void *arg)
{
    struct txn_op *o = xcalloc(1, sizeof *o);

    o->b = b;
    o->kind = kind;
    o->done = done;
    o->arg = arg;
    buf_init(&o->bytes, LIMIT_APPEND_BYTES);
    return o;
}

void txn_op__free(struct txn_op *o)
{
    uint32_t i;

    for (i = 0; i < o->offsets_n; i++)
        free(o->offsets[i]);
    free(o->offsets);
    free(o->parts);
    free(o->entries);
    buf_fini(&o->bytes);
    free(o);
}

/* Notes an entry of `len` bytes at the end of o->bytes; pointers are set by op_submit, as the
 * buffer may move. */
void txn_op__entry(struct txn_op *o, uint8_t type, struct plog *log, size_t len)
{
    if (o->unit.n == o->entries_cap) {
        o->entries_cap = o->entries_cap ? o->entries_cap * 2 : 2;
        o->entries = xrealloc(o->entries, o->entries_cap * sizeof *o->entries);
    }
    o->entries[o->unit.n++] =
        (struct journal_entry){.type = type, .plog = log, .data = slice_of(NULL, len)};
    o->bytes.len += len;
}

bool txn_op__state_entry(struct txn_op *o)
{
    if (buf_reserve(&o->bytes, ENTRY_SMALL_MAX))
        return false;
    txn_op__entry(o, ENTRY_TXN, NULL, entry_txn_write(o->bytes.ptr + o->bytes.len, &o->to));
    return true;
}

bool txn_op__offset_entry(struct txn_op *o, const struct entry_group_offset *g, bool pending)
{
    struct entry_txn_offset to = {o->to.producer_id, o->to.epoch, *g};
    uint8_t *at;

    if (buf_reserve(&o->bytes, entry_txn_offset_size(&to)))
        return false;
    at = o->bytes.ptr + o->bytes.len;
    if (pending)
        txn_op__entry(o, ENTRY_TXN_OFFSET, NULL, entry_txn_offset_write(at, &to));
    else
        txn_op__entry(o, ENTRY_GROUP_OFFSET, NULL, entry_group_offset_write(at, g));
    return true;
}

/* The control batch (Kafka protocol, "Control Batches"): key i16 version 0, i16 type; value i16
 * version 0, i32 coordinator epoch 0. */
static bool op_marker_entry(struct txn_op *o, struct pstate *s, int64_t wall_ms)
{
    uint8_t key[4] = {0, 0, 0, o->commit}, value[6] = {0};
    struct batch_builder bb;
    struct slice batch;
    bool ok;

    batch_builder_init(&bb, CODEC_NONE, MARKER_MAX + BATCH_HEADER);
    ok = !batch_builder_add(&bb, wall_ms, slice_of(key, 4), slice_of(value, 6), NULL, 0, NULL) &&
         !batch_builder_finish(&bb, BATCH_TRANSACTIONAL | BATCH_CONTROL, s->id, o->marker_epoch, -1,
                               &batch) &&
         !buf_reserve(&o->bytes, batch.len);
    if (ok) {
        memcpy(o->bytes.ptr + o->bytes.len, batch.ptr, batch.len);
        txn_op__entry(o, ENTRY_BATCH, s->p->log, batch.len);
    }
    batch_builder_fini(&bb);
    return ok;
}

static enum err op_sequence(struct journal_unit *u)
{
    struct txn_op *o = (struct txn_op *)u;
    uint32_t i;

    for (i = 0; i < o->parts_n; i++)
        o->entries[i].skip =
            atomic_load_explicit(&o->parts[i]->p->topic->deleting, memory_order_relaxed);
    o->ticket = broker_ticket_take(o->b);
    return ERR_OK;
}

/* Lock held: the change is durable. */
static void op_apply(struct txn_op *o)
{
    struct broker *b = o->b;
    uint32_t i;

    for (i = 0; i < o->parts_n; i++)
        if (!o->entries[i].skip)
            producer_marked(b, o->parts[i], o->marker_epoch, o->commit, o->entries[i].base_offset);
    for (i = 0; i < o->offsets_n; i++) {
        txn__offset_add(b, o->t, o->offsets[i]);
        o->offsets[i] = NULL;
        txn__started(b, o->t, o->unit.wall_ms);
        txn__dirty(b, o->t);
    }
    if (o->kind == OP_END)
        atomic_fetch_add(o->commit ? &b->producers.st_committed : &b->producers.st_aborted, 1);
    if (o->t && o->to.state == TXN_DEAD)
        txn__forget(b, o->t);
    else if (o->t && o->kind != OP_OFFSETS)
        txn__set(b, o->t, &o->to);
}

/* Lock held: whatever came of it, others may go on. */
void txn_op__unbusy(struct txn_op *o)
{
    struct txn *t = o->t;
    uint32_t i;

    for (i = 0; i < o->parts_n; i++)
        o->parts[i]->pins--;
    if (!t)
        return;
    t->busy = t->shut = t->ending = false;
    if (t->fresh) { /* its first change failed */
        map_remove(&o->b->producers.txns, t->e.name);
        txn__free(o->b, t);
        o->t = NULL;
    }
}

/* Offsets that were pending are the groups' now. */
static void op_offsets_commit(struct txn_op *o)
{
    struct entry_group_offset g;
    uint32_t i;

    for (i = o->parts_n; i < o->unit.n; i++)
        if (o->entries[i].type == ENTRY_GROUP_OFFSET &&
            !entry_group_offset_read(o->entries[i].data, &g))
            group_apply_offset(o->b, &g);
}

/* Readers of committed records may go on in these topics. */
static void op_wake(struct txn_op *o)
{
    uint32_t i;

    for (i = 0; i < o->parts_n; i++) {
        struct topic *t = o->parts[i]->p->topic;

        if (i == 0 || t != o->parts[i - 1]->p->topic)
            waiters_wake(o->b, &t, 1);
    }
}

static void op_done(struct journal_unit *u, enum err e)
{
    struct txn_op *o = (struct txn_op *)u;
    struct broker *b = o->b;
    struct errinfo info = {0};

    broker_frame_visible(b, e);
    if (!e && o->kind == OP_END)
        op_offsets_commit(o);
    if (e) {
        broker_write_error(b, e, &info);
    } else {
        io_mutex_lock(&b->producers.lock);
        op_apply(o);
        io_mutex_unlock(&b->producers.lock);
        op_wake(o);
    }
    io_mutex_lock(&b->producers.lock);
    txn_op__unbusy(o);
    io_mutex_unlock(&b->producers.lock);
    if (o->done)
        o->done(o->arg, e, &info, o->to.producer_id, o->to.epoch);
    broker_ticket_end(b, o->ticket);
    txn_op__free(o);
}

/* Without the lock. On an error the op is undone and freed. */
enum err txn_op__submit(struct txn_op *o, struct errinfo *info)
{
    struct broker *b = o->b;
    const uint8_t *at = o->bytes.ptr;
    uint32_t i;
    enum err e;

    for (i = 0; i < o->unit.n; i++) {
        o->entries[i].data.ptr = at;
        at += o->entries[i].data.len;
    }
    o->unit.entries = o->entries;
    o->unit.sequence = op_sequence;
    o->unit.done = op_done;
    e = b->conf.read_only ? ERR_READ_ONLY : journal_append(b->journal, &o->unit, JOURNAL_NONBLOCK);
    if (!e)
        return ERR_OK;
    broker_write_error(b, e, info);
    io_mutex_lock(&b->producers.lock);
    txn_op__unbusy(o);
    io_mutex_unlock(&b->producers.lock);
    txn_op__free(o);
    return e;
}

/* ---- putting changes together; lock held ---- */

struct txn_op *txn_op__begin(struct broker *b, struct txn *t, enum op_kind kind, txn_done_fn done,
                             void *arg)
{
    struct txn_op *o = txn_op__new(b, kind, done, arg);

    o->t = t;
    o->to = t->e;
    o->to.updated_ms = journal_wall_ms(b->journal);
    t->busy = true;
    t->shut = kind != OP_OFFSETS;
    return o;
}

/* A new epoch, and a new producer id when the epochs are used up. */
void txn_op__raise(struct txn_op *o, enum raise raise)
{
    o->to.last_id = raise == RAISE_OWN ? o->to.producer_id : -1;
    o->to.last_epoch = raise == RAISE_OWN ? o->to.epoch : -1;
    if (o->to.epoch >= EPOCH_MAX) {
        o->to.producer_id = o->b->producers.next_id++;
        o->to.epoch = 0;
    } else {
        o->to.epoch++;
    }
}

static bool op_end_entries(struct txn_op *o)
{
    int64_t wall = journal_wall_ms(o->b->journal);
    struct txn_offset *x;
    struct pstate *s;

    o->parts = xmalloc((o->t->parts_n + 1) * sizeof *o->parts);
    list_for_each(s, &o->t->parts, struct pstate, txn_link)
    {
        if (!op_marker_entry(o, s, wall))
            return false;
        s->pins++;
        o->parts[o->parts_n++] = s;
    }
    if (o->commit)
        list_for_each(x, &o->t->offsets, struct txn_offset,
                      link) if (!txn_op__offset_entry(o, &x->o, false)) return false;
    return txn_op__state_entry(o);
}

/* The end of an ongoing transaction. The markers' epoch is the one afterwards, so that nothing
 * older is taken from then on; with a new producer id it is the old one's last. init: the state is
 * that of a producer that begins, with this time-out; 0: that of one that goes on. */
struct txn_op *txn_op__end(struct broker *b, struct txn *t, bool commit, enum raise raise,
                           int32_t init, txn_done_fn done, void *arg)
{
    struct txn_op *o = txn_op__begin(b, t, OP_END, done, arg);
    bool ok;

    t->ending = true;
    o->commit = commit;
    if (raise != RAISE_NONE)
        txn_op__raise(o, raise);
    o->marker_epoch = o->to.producer_id == t->e.producer_id ? o->to.epoch : INT16_MAX;
    o->to.state = commit ? TXN_COMMITTED : TXN_ABORTED;
    if (init) {
        o->to.state = TXN_EMPTY;
        o->to.timeout_ms = init;
    }
    ok = op_end_entries(o);
    ASSERT(ok); /* txn_room was asked before anything was taken in */
    return o;
}
