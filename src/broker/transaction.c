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
 * Rules of epochs and errors: KIP-98, KIP-360, KIP-890 (which raises the epoch with each end). */
#include "broker/transaction.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/mem.h"
#include "broker/broker_int.h"

#define EXPIRE_MS   (7ll * 24 * 3600 * 1000) /* transactional.id.expiration.ms of Kafka */
#define EPOCH_MAX   (INT16_MAX - 1)
#define TICK_ENDS   64u
#define MARKER_MAX  128u
#define PART_ROOM   192u       /* of one marker in a unit, and then some */
#define ENTRY_ROOM  64u        /* of an entry's head */
#define PENDING_MAX (1u << 30) /* what bounds them is LIMIT_TXN_OFFSETS_ALL, when they come in */

/* ---- offsets that are pending; lock held ---- */

/* What tells offsets apart: topic, partition and group, at the start of a txn_offset's bytes. */
#define OFFSET_KEY 8u

static size_t offset_room(const struct entry_group_offset *o)
{
    return ENTRY_ROOM + OFFSET_KEY + 32 + o->group.len + o->metadata.len;
}

static struct slice offset_key(const struct txn_offset *x)
{
    return slice_of(x->bytes, OFFSET_KEY + x->o.group.len);
}

static size_t offset_memory(const struct entry_group_offset *o)
{
    return sizeof(struct txn_offset) + OFFSET_KEY + o->group.len + o->metadata.len;
}

/* The offset is in a transaction now; its bytes are counted, and so is its key. */
static void pending_add(struct producers *ps, const struct txn_offset *x)
{
    struct slice key = offset_key(x);
    struct txn_pending *p = map_find(&ps->pending, key);

    if (!p) {
        p = xcalloc(1, sizeof *p + key.len);
        p->key_len = (uint32_t)key.len;
        memcpy(p->key, key.ptr, key.len);
        if (map_put(&ps->pending, slice_of(p->key, key.len), p))
            ASSERT(!"more pending offsets than memory holds");
    }
    p->n++;
    ps->pending_n++;
    ps->pending_bytes += offset_memory(&x->o);
}

static void pending_remove(struct producers *ps, const struct txn_offset *x)
{
    struct txn_pending *p = map_find(&ps->pending, offset_key(x));

    ASSERT(p && p->n > 0);
    if (--p->n == 0) {
        map_remove(&ps->pending, offset_key(x));
        free(p);
    }
    ps->pending_n--;
    ps->pending_bytes -= offset_memory(&x->o);
}

/* ---- the registry; lock held ---- */

static struct txn *txn_find(struct broker *b, struct slice name)
{
    return map_find(&b->producers.txns, name);
}

static struct txn *txn_new(struct broker *b, struct slice name)
{
    struct txn *t;

    if (b->producers.txns.n >= LIMIT_TXNS)
        return NULL;
    t = xcalloc(1, sizeof *t + name.len + 1);
    memcpy(t->name, name.ptr, name.len);
    t->e.name = slice_of(t->name, name.len);
    t->e.producer_id = t->e.last_id = -1;
    t->e.last_epoch = -1;
    t->fresh = true;
    list_init(&t->parts);
    list_init(&t->offsets);
    map_init(&t->offset_of, LIMIT_TXN_OFFSETS, b->hash_seed);
    if (map_put(&b->producers.txns, t->e.name, t))
        ASSERT(!"a transactional id is there already");
    return t;
}

static void offsets_clear(struct broker *b, struct txn *t)
{
    struct txn_offset *x;

    while (!list_empty(&t->offsets)) {
        x = list_entry(list_pop_front(&t->offsets), struct txn_offset, link);
        pending_remove(&b->producers, x);
        free(x);
    }
    map_fini(&t->offset_of);
    t->offset_bytes = 0;
}

static void txn_free(struct broker *b, struct txn *t)
{
    offsets_clear(b, t);
    free(t);
}

/* The end of a transaction is one unit of the journal: what does not fit is not taken in. */
static bool txn_room(const struct broker *b, const struct txn *t, uint32_t parts, size_t offsets)
{
    uint64_t file = b->conf.journal_file_bytes;
    uint64_t max = file && file / 2 < LIMIT_APPEND_BYTES ? file / 2 : LIMIT_APPEND_BYTES;

    return (uint64_t)(t->parts_n + t->parts_coming + parts) * PART_ROOM + t->offset_bytes +
               offsets + 2 * ENTRY_SMALL_MAX <=
           max;
}

static void txn_dirty(struct broker *b, struct txn *t)
{
    if (t->dirty == DIRTY)
        return;
    if (t->dirty == SENT)
        list_remove(&t->dirty_link);
    t->dirty = DIRTY;
    list_push_back(&b->producers.txns_dirty, &t->dirty_link);
}

static void id_bind(struct broker *b, struct txn *t, int64_t id)
{
    struct producers *ps = &b->producers;

    if (t->e.producer_id == id)
        return;
    if (t->e.producer_id >= 0)
        u64map_remove(&ps->txn_ids, (uint64_t)t->e.producer_id);
    u64map_remove(&ps->txn_ids, (uint64_t)id);
    u64map_put(&ps->txn_ids, (uint64_t)id, t);
    if (ps->next_id <= id)
        ps->next_id = id + 1;
}

static void ongoing_link(struct broker *b, struct txn *t)
{
    bool want = t->e.state == TXN_ONGOING;

    if (want && !t->ongoing_link.next)
        list_push_back(&b->producers.ongoing, &t->ongoing_link);
    else if (!want && t->ongoing_link.next)
        list_remove(&t->ongoing_link);
}

/* Out of the index; its row goes with the next checkpoint. */
static void txn_forget(struct broker *b, struct txn *t)
{
    struct producers *ps = &b->producers;
    struct pstate *s;

    t->e.state = TXN_DEAD;
    ongoing_link(b, t);
    while (!list_empty(&t->parts)) {
        s = list_entry(list_pop_front(&t->parts), struct pstate, txn_link);
        s->txn = NULL;
    }
    t->parts_n = 0;
    map_remove(&ps->txns, t->e.name);
    if (u64map_find(&ps->txn_ids, (uint64_t)t->e.producer_id) == t)
        u64map_remove(&ps->txn_ids, (uint64_t)t->e.producer_id);
    txn_dirty(b, t);
}

static void txn_set(struct broker *b, struct txn *t, const struct entry_txn *e)
{
    struct slice name = t->e.name;

    id_bind(b, t, e->producer_id);
    t->e = *e;
    t->e.name = name;
    t->fresh = false;
    if (e->state != TXN_ONGOING)
        offsets_clear(b, t);
    ongoing_link(b, t);
    txn_dirty(b, t);
}

static void txn_started(struct broker *b, struct txn *t, int64_t wall_ms)
{
    if (t->e.state == TXN_ONGOING)
        return;
    t->e.state = TXN_ONGOING;
    t->e.started_ms = t->e.updated_ms = wall_ms;
    ongoing_link(b, t);
    txn_dirty(b, t);
}

/* ---- for producer.c ---- */

enum err txn_batch_check(struct broker *b, struct pstate *s, const struct producer_batch *pb)
{
    struct txn *t = u64map_find(&b->producers.txn_ids, (uint64_t)pb->producer_id);

    if (!t)
        return ERR_PRODUCER_ID;
    if (pb->epoch != t->e.epoch)
        return ERR_PRODUCER_EPOCH;
    if (t->shut)
        return ERR_TXN_CONCURRENT;
    if (t->e.state != TXN_ONGOING && !pb->starts)
        return ERR_TXN_STATE;
    if (!s->txn_link.next) {
        if (t->parts_n + t->parts_coming >= LIMIT_TXN_PARTS || !txn_room(b, t, 1, 0))
            return ERR_LIMIT;
        t->parts_coming++;
    }
    txn_started(b, t, journal_wall_ms(b->journal));
    return ERR_OK;
}

void txn_state_link(struct broker *b, struct pstate *s, bool open)
{
    if (open && !s->txn_link.next) {
        s->txn = u64map_find(&b->producers.txn_ids, (uint64_t)s->id);
        if (!s->txn)
            return;
        list_push_back(&s->txn->parts, &s->txn_link);
        s->txn->parts_n++;
        s->txn->parts_coming = 0; /* its whole unit is linked before another is checked */
    } else if (!open && s->txn_link.next) {
        list_remove(&s->txn_link);
        if (s->txn)
            s->txn->parts_n--;
        s->txn = NULL;
    }
}

void txn_replay_batch(struct broker *b, struct pstate *s, int16_t epoch)
{
    struct txn *t = u64map_find(&b->producers.txn_ids, (uint64_t)s->id);

    if (t && t->e.epoch == epoch)
        txn_started(b, t, journal_wall_ms(b->journal));
}

/* ---- recovery ---- */

void producer_ids_apply(struct broker *b, int64_t next)
{
    io_mutex_lock(&b->producers.lock);
    if (b->producers.next_id < next)
        b->producers.next_id = next;
    io_mutex_unlock(&b->producers.lock);
}

void txn_apply(struct broker *b, const struct entry_txn *e)
{
    struct txn *t;

    io_mutex_lock(&b->producers.lock);
    t = txn_find(b, e->name);
    if (e->state == TXN_DEAD) {
        if (t)
            txn_forget(b, t);
    } else if (t || (t = txn_new(b, e->name))) {
        txn_set(b, t, e);
    }
    io_mutex_unlock(&b->producers.lock);
}

static struct txn_offset *offset_new(const struct entry_group_offset *o)
{
    struct txn_offset *x = xcalloc(1, sizeof *x + OFFSET_KEY + o->group.len + o->metadata.len);
    uint8_t *metadata = x->bytes + OFFSET_KEY + o->group.len;

    le32_store(x->bytes, o->topic);
    le32_store(x->bytes + 4, o->partition);
    memcpy(x->bytes + OFFSET_KEY, o->group.ptr, o->group.len);
    if (o->metadata.len)
        memcpy(metadata, o->metadata.ptr, o->metadata.len);
    x->o = *o;
    x->o.group = slice_of(x->bytes + OFFSET_KEY, o->group.len);
    x->o.metadata = slice_of(metadata, o->metadata.len);
    return x;
}

/* Takes x; the place of an older one for the same. */
static void offset_add(struct broker *b, struct txn *t, struct txn_offset *x)
{
    struct txn_offset *old = map_remove(&t->offset_of, offset_key(x));

    if (old) {
        t->offset_bytes -= offset_room(&old->o);
        list_remove(&old->link);
        pending_remove(&b->producers, old);
        free(old);
    }
    if (map_put(&t->offset_of, offset_key(x), x)) { /* at its limit: a damaged log */
        free(x);
        return;
    }
    t->offset_bytes += offset_room(&x->o);
    list_push_back(&t->offsets, &x->link);
    pending_add(&b->producers, x);
}

void txn_offset_apply(struct broker *b, const struct entry_txn_offset *e)
{
    struct txn *t;

    io_mutex_lock(&b->producers.lock);
    t = u64map_find(&b->producers.txn_ids, (uint64_t)e->producer_id);
    if (t && t->e.epoch == e->epoch) {
        txn_started(b, t, journal_wall_ms(b->journal));
        offset_add(b, t, offset_new(&e->o));
        txn_dirty(b, t);
    }
    io_mutex_unlock(&b->producers.lock);
}

/* ---- a change of a transactional id: one unit ---- */

enum op_kind { OP_STATE, OP_END, OP_OFFSETS, OP_IDS };

struct txn_op {
    struct journal_unit unit; /* first */
    struct broker *b;
    enum op_kind kind;
    uint64_t ticket;
    struct txn *t;       /* busy meanwhile; NULL: OP_IDS */
    struct entry_txn to; /* its state afterwards; name borrowed from t */
    bool commit;
    int16_t marker_epoch;  /* OP_END */
    struct pstate **parts; /* OP_END, pinned: where markers go, in the order of the entries */
    uint32_t parts_n;
    struct txn_offset **offsets; /* OP_OFFSETS: owned */
    uint32_t offsets_n;
    struct journal_entry *entries;
    uint32_t entries_cap;
    struct buf bytes;
    txn_done_fn done;
    void *arg;
};

static struct txn_op *op_new(struct broker *b, enum op_kind kind, txn_done_fn done, void *arg)
{
    struct txn_op *o = xcalloc(1, sizeof *o);

    o->b = b;
    o->kind = kind;
    o->done = done;
    o->arg = arg;
    buf_init(&o->bytes, LIMIT_APPEND_BYTES);
    return o;
}

static void op_free(struct txn_op *o)
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
static void op_entry(struct txn_op *o, uint8_t type, struct plog *log, size_t len)
{
    if (o->unit.n == o->entries_cap) {
        o->entries_cap = o->entries_cap ? o->entries_cap * 2 : 2;
        o->entries = xrealloc(o->entries, o->entries_cap * sizeof *o->entries);
    }
    o->entries[o->unit.n++] =
        (struct journal_entry){.type = type, .plog = log, .data = slice_of(NULL, len)};
    o->bytes.len += len;
}

static bool op_state_entry(struct txn_op *o)
{
    if (buf_reserve(&o->bytes, ENTRY_SMALL_MAX))
        return false;
    op_entry(o, ENTRY_TXN, NULL, entry_txn_write(o->bytes.ptr + o->bytes.len, &o->to));
    return true;
}

static bool op_offset_entry(struct txn_op *o, const struct entry_group_offset *g, bool pending)
{
    struct entry_txn_offset to = {o->to.producer_id, o->to.epoch, *g};
    uint8_t *at;

    if (buf_reserve(&o->bytes, entry_txn_offset_size(&to)))
        return false;
    at = o->bytes.ptr + o->bytes.len;
    if (pending)
        op_entry(o, ENTRY_TXN_OFFSET, NULL, entry_txn_offset_write(at, &to));
    else
        op_entry(o, ENTRY_GROUP_OFFSET, NULL, entry_group_offset_write(at, g));
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
        op_entry(o, ENTRY_BATCH, s->p->log, batch.len);
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
        offset_add(b, o->t, o->offsets[i]);
        o->offsets[i] = NULL;
        txn_started(b, o->t, o->unit.wall_ms);
        txn_dirty(b, o->t);
    }
    if (o->kind == OP_END)
        atomic_fetch_add(o->commit ? &b->producers.st_committed : &b->producers.st_aborted, 1);
    if (o->t && o->to.state == TXN_DEAD)
        txn_forget(b, o->t);
    else if (o->t && o->kind != OP_OFFSETS)
        txn_set(b, o->t, &o->to);
}

/* Lock held: whatever came of it, others may go on. */
static void op_unbusy(struct txn_op *o)
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
        txn_free(o->b, t);
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
    op_unbusy(o);
    io_mutex_unlock(&b->producers.lock);
    if (o->done)
        o->done(o->arg, e, &info, o->to.producer_id, o->to.epoch);
    broker_ticket_end(b, o->ticket);
    op_free(o);
}

/* Without the lock. On an error the op is undone and freed. */
static enum err op_submit(struct txn_op *o, struct errinfo *info)
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
    op_unbusy(o);
    io_mutex_unlock(&b->producers.lock);
    op_free(o);
    return e;
}

/* ---- putting changes together; lock held ---- */

static struct txn_op *op_begin(struct broker *b, struct txn *t, enum op_kind kind, txn_done_fn done,
                               void *arg)
{
    struct txn_op *o = op_new(b, kind, done, arg);

    o->t = t;
    o->to = t->e;
    o->to.updated_ms = journal_wall_ms(b->journal);
    t->busy = true;
    t->shut = kind != OP_OFFSETS;
    return o;
}

/* Who asks for the end of a transaction, or for its next epoch. */
enum raise {
    RAISE_NONE, /* the epoch stays */
    RAISE_OWN,  /* its producer: when the answer is lost it asks again with the old epoch */
    RAISE_FENCE /* another: whoever has the old epoch is shut out */
};

/* A new epoch, and a new producer id when the epochs are used up. */
static void op_raise(struct txn_op *o, enum raise raise)
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
                      link) if (!op_offset_entry(o, &x->o, false)) return false;
    return op_state_entry(o);
}

/* The end of an ongoing transaction. The markers' epoch is the one afterwards, so that nothing
 * older is taken from then on; with a new producer id it is the old one's last. init: the state is
 * that of a producer that begins, with this time-out; 0: that of one that goes on. */
static struct txn_op *end_begin(struct broker *b, struct txn *t, bool commit, enum raise raise,
                                int32_t init, txn_done_fn done, void *arg)
{
    struct txn_op *o = op_begin(b, t, OP_END, done, arg);
    bool ok;

    t->ending = true;
    o->commit = commit;
    if (raise != RAISE_NONE)
        op_raise(o, raise);
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
    struct txn *t = txn_find(b, name);
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
    struct txn *t = txn_find(b, name);
    bool again;
    enum err e;

    *o = NULL;
    if (!t && !(t = txn_new(b, name)))
        return errinfo_set(info, ERR_LIMIT, "there are too many transactional ids");
    if (t->busy)
        return busy(t, info);
    if (!t->fresh) {
        if ((e = init_allowed(t, id, epoch, &again, info)) || again)
            return e;
        if (t->e.state == TXN_ONGOING) {
            *o = end_begin(b, t, false, id < 0 ? RAISE_FENCE : RAISE_OWN, timeout_ms, done, arg);
            return ERR_OK;
        }
    }
    *o = op_begin(b, t, OP_STATE, done, arg);
    if (t->fresh)
        (*o)->to.producer_id = b->producers.next_id++;
    else
        op_raise(*o, id < 0 ? RAISE_FENCE : RAISE_OWN);
    (*o)->to.state = TXN_EMPTY;
    (*o)->to.timeout_ms = timeout_ms;
    op_state_entry(*o);
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
        t = txn_find(b, name);
        producer_id = t->e.producer_id;
        epoch = t->e.epoch;
    }
    io_mutex_unlock(&ps->lock);
    if (e)
        return e;
    if (o)
        return op_submit(o, info);
    done(arg, ERR_OK, info, producer_id, epoch);
    return ERR_OK;
}

enum err producer_id_new(struct broker *b, txn_done_fn done, void *arg, struct errinfo *info)
{
    struct txn_op *o = op_new(b, OP_IDS, done, arg);

    io_mutex_lock(&b->producers.lock);
    o->to.producer_id = b->producers.next_id++;
    io_mutex_unlock(&b->producers.lock);
    if (buf_reserve(&o->bytes, ENTRY_SMALL_MAX)) {
        op_free(o);
        return ERR_NO_MEMORY;
    }
    op_entry(o, ENTRY_PRODUCER_IDS, NULL,
             entry_producer_ids_write(o->bytes.ptr, o->to.producer_id + 1));
    return op_submit(o, info);
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
        o = op_begin(b, t, OP_STATE, done, arg);
        o->to.state = TXN_ONGOING;
        o->to.started_ms = o->to.updated_ms;
        op_state_entry(o);
    }
    io_mutex_unlock(&b->producers.lock);
    if (e)
        return e;
    if (o)
        return op_submit(o, info);
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

        o->offsets[o->offsets_n] = offset_new(&g);
        old = map_find(&o->t->offset_of, offset_key(o->offsets[o->offsets_n++]));
        if (!old || offset_room(&old->o) < offset_room(&g))
            bytes += offset_room(&g) - (old ? offset_room(&old->o) : 0);
        if (!txn_room(o->b, o->t, 0, bytes) || !op_offset_entry(o, &g, true))
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
        bytes += offset_memory(
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
        o = op_begin(b, t, OP_OFFSETS, done, arg);
        e = op_offsets_copy(o, group, offs, n);
        if (e) {
            errinfo_set(info, e, "the offsets of the transaction do not fit one frame of the log");
            op_unbusy(o);
            op_free(o);
        }
    }
    io_mutex_unlock(&b->producers.lock);
    return e ? e : op_submit(o, info);
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
        *o = end_begin(b, t, commit, raise ? RAISE_OWN : RAISE_NONE, 0, done, arg);
        return ERR_OK;
    }
    if (commit || !raise)
        return errinfo_set(info, ERR_TXN_STATE, "\"%s\" has no transaction", t->name);
    *o = op_begin(b, t, OP_STATE, done, arg); /* KIP-890: to be sure that nothing is left */
    op_raise(*o, RAISE_OWN);
    (*o)->to.state = TXN_ABORTED;
    op_state_entry(*o);
    return ERR_OK;
}

enum err txn_end(struct broker *b, struct slice name, int64_t producer_id, int16_t epoch,
                 bool commit, bool raise, txn_done_fn done, void *arg, struct errinfo *info)
{
    struct txn_op *o = NULL;
    struct txn *t;
    enum err e = ERR_OK;

    io_mutex_lock(&b->producers.lock);
    t = txn_find(b, name);
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
        return op_submit(o, info);
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
    t = txn_find(b, name);
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

/* Ends those that took too long, raising their epochs: their producers are fenced. */
static unsigned timeouts(struct broker *b, int64_t wall_ms, struct txn_op **out, unsigned max)
{
    struct txn *t, *next;
    unsigned n = 0;

    for (t = list_entry(b->producers.ongoing.node.next, struct txn, ongoing_link);
         n < max && &t->ongoing_link != &b->producers.ongoing.node; t = next) {
        next = list_entry(t->ongoing_link.next, struct txn, ongoing_link);
        if (!t->busy && wall_ms - t->e.started_ms > t->e.timeout_ms)
            out[n++] = end_begin(b, t, false, RAISE_FENCE, 0, NULL, NULL);
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
        out[n] = op_begin(b, t, OP_STATE, NULL, NULL);
        out[n]->to.state = TXN_DEAD;
        op_state_entry(out[n++]);
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
        op_submit(ops[i], NULL); /* refused: the next tick tries again */
}

void txns_init(struct broker *b)
{
    struct producers *ps = &b->producers;

    map_init(&ps->txns, LIMIT_TXNS, b->hash_seed);
    map_init(&ps->pending, PENDING_MAX, b->hash_seed);
    u64map_init(&ps->txn_ids, LIMIT_TXNS + 1, b->hash_seed_word);
    list_init(&ps->ongoing);
    list_init(&ps->txns_dirty);
    list_init(&ps->txns_sent);
}

void txns_fini(struct broker *b)
{
    struct producers *ps = &b->producers;
    struct list_head *lists[] = {&ps->txns_dirty, &ps->txns_sent};
    uint32_t at = 0;
    unsigned i;
    void *t;

    for (i = 0; i < 2; i++)
        while (!list_empty(lists[i])) {
            struct txn *x = list_entry(list_pop_front(lists[i]), struct txn, dirty_link);

            if (x->e.state == TXN_DEAD)
                txn_free(b, x);
        }
    while (map_next(&ps->txns, &at, NULL, &t))
        txn_free(b, t);
    map_fini(&ps->txns);
    u64map_fini(&ps->txn_ids);
    map_fini(&ps->pending);
}

/* ---- the checkpoint ---- */

static enum err txn_row(struct broker *b, struct sqlite3_stmt *st, struct errinfo *info)
{
    struct entry_txn e = {.name = state_column(st, 0),
                          .producer_id = sqlite3_column_int64(st, 1),
                          .epoch = (int16_t)sqlite3_column_int64(st, 2),
                          .last_id = sqlite3_column_int64(st, 3),
                          .last_epoch = (int16_t)sqlite3_column_int64(st, 4),
                          .state = (uint8_t)sqlite3_column_int64(st, 5),
                          .timeout_ms = (int32_t)sqlite3_column_int64(st, 6),
                          .started_ms = sqlite3_column_int64(st, 7),
                          .updated_ms = sqlite3_column_int64(st, 8)};

    if (e.name.len == 0 || e.name.len > LIMIT_TXN_NAME || e.producer_id < 0 || e.epoch < 0 ||
        e.state >= TXN_DEAD || e.timeout_ms <= 0)
        return errinfo_set(info, ERR_CORRUPT,
                           "checkpoint.db: a row of transactions is damaged; run `weir repair`");
    txn_apply(b, &e);
    return ERR_OK;
}

static enum err txn_offset_row(struct broker *b, struct sqlite3_stmt *st, struct errinfo *info)
{
    struct entry_group_offset o = {.group = state_column(st, 1),
                                   .topic = (uint32_t)sqlite3_column_int64(st, 2),
                                   .partition = (uint32_t)sqlite3_column_int64(st, 3),
                                   .offset = sqlite3_column_int64(st, 4),
                                   .metadata = state_column(st, 5),
                                   .committed_ms = sqlite3_column_int64(st, 6)};
    struct txn *t;

    if (o.group.len == 0 || o.group.len > LIMIT_GROUP_NAME ||
        o.metadata.len > LIMIT_GROUP_METADATA || o.offset < 0)
        return errinfo_set(info, ERR_CORRUPT,
                           "checkpoint.db: a row of txn_offsets is damaged; run `weir repair`");
    io_mutex_lock(&b->producers.lock);
    t = txn_find(b, state_column(st, 0));
    if (t && t->e.state == TXN_ONGOING)
        offset_add(b, t, offset_new(&o));
    io_mutex_unlock(&b->producers.lock);
    return ERR_OK;
}

enum err txns_load(struct broker *b, struct sqlite3 *db, struct errinfo *info)
{
    int64_t next = 0;
    enum err e = state_meta_get(db, "next_producer_id", &next, info);

    if (!e)
        producer_ids_apply(b, next);
    if (!e)
        e = state_rows(b, db, "transactions",
                       "SELECT transactional_id, producer_id, epoch, last_id, last_epoch, state,"
                       " timeout_ms, started_at, updated_at FROM transactions",
                       txn_row, info);
    if (!e)
        e = state_rows(b, db, "txn_offsets",
                       "SELECT transactional_id, group_id, topic_id, partition, offset, metadata,"
                       " committed_at FROM txn_offsets",
                       txn_offset_row, info);
    return e;
}

/* A copy of one transaction with its offsets. */
struct txn_copy {
    struct entry_txn e;
    char name[LIMIT_TXN_NAME];
    struct list_head offsets;
};

static bool txn_next(struct broker *b, struct txn_copy *c)
{
    struct producers *ps = &b->producers;
    struct txn_offset *x, *y;
    struct txn *t = NULL;

    list_init(&c->offsets);
    io_mutex_lock(&ps->lock);
    if (!list_empty(&ps->txns_dirty)) {
        t = list_entry(list_pop_front(&ps->txns_dirty), struct txn, dirty_link);
        t->dirty = SENT;
        list_push_back(&ps->txns_sent, &t->dirty_link);
        c->e = t->e;
        memcpy(c->name, t->name, t->e.name.len);
        c->e.name = slice_of(c->name, t->e.name.len);
        list_for_each(x, &t->offsets, struct txn_offset, link)
        {
            y = offset_new(&x->o);
            list_push_back(&c->offsets, &y->link);
        }
    }
    io_mutex_unlock(&ps->lock);
    return t != NULL;
}

enum { ST_PUT, ST_DEL, ST_OFFSETS_DEL, ST_OFFSET_PUT, ST_N };

static enum err txn_save(struct sqlite3 *db, struct sqlite3_stmt **st, const struct txn_copy *c,
                         struct errinfo *info)
{
    const struct entry_txn *e = &c->e;
    struct txn_offset *x;
    enum err err;

    state_bind_blob(st[ST_OFFSETS_DEL], 1, e->name);
    err = state_step(db, st[ST_OFFSETS_DEL], info);
    if (!err && e->state == TXN_DEAD) {
        state_bind_blob(st[ST_DEL], 1, e->name);
        return state_step(db, st[ST_DEL], info);
    }
    if (!err) {
        state_bind_blob(st[ST_PUT], 1, e->name);
        sqlite3_bind_int64(st[ST_PUT], 2, e->producer_id);
        sqlite3_bind_int64(st[ST_PUT], 3, e->epoch);
        sqlite3_bind_int64(st[ST_PUT], 4, e->last_id);
        sqlite3_bind_int64(st[ST_PUT], 5, e->last_epoch);
        sqlite3_bind_int64(st[ST_PUT], 6, e->state);
        sqlite3_bind_int64(st[ST_PUT], 7, e->timeout_ms);
        sqlite3_bind_int64(st[ST_PUT], 8, e->started_ms);
        sqlite3_bind_int64(st[ST_PUT], 9, e->updated_ms);
        err = state_step(db, st[ST_PUT], info);
    }
    list_for_each(x, &c->offsets, struct txn_offset, link)
    {
        if (err)
            break;
        state_bind_blob(st[ST_OFFSET_PUT], 1, e->name);
        state_bind_text(st[ST_OFFSET_PUT], 2, x->o.group);
        sqlite3_bind_int64(st[ST_OFFSET_PUT], 3, x->o.topic);
        sqlite3_bind_int64(st[ST_OFFSET_PUT], 4, x->o.partition);
        sqlite3_bind_int64(st[ST_OFFSET_PUT], 5, x->o.offset);
        state_bind_text(st[ST_OFFSET_PUT], 6, x->o.metadata);
        sqlite3_bind_int64(st[ST_OFFSET_PUT], 7, x->o.committed_ms);
        err = state_step(db, st[ST_OFFSET_PUT], info);
    }
    return err;
}

enum err txns_save(struct broker *b, struct sqlite3 *db, struct errinfo *info)
{
    static const char *const sql[ST_N] = {
        "INSERT OR REPLACE INTO transactions(transactional_id, producer_id, epoch, last_id,"
        " last_epoch, state, timeout_ms, started_at, updated_at) VALUES(?,?,?,?,?,?,?,?,?)",
        "DELETE FROM transactions WHERE transactional_id = ?",
        "DELETE FROM txn_offsets WHERE transactional_id = ?",
        "INSERT OR REPLACE INTO txn_offsets(transactional_id, group_id, topic_id, partition,"
        " offset, metadata, committed_at) VALUES(?,?,?,?,?,?,?)"};
    struct sqlite3_stmt *st[ST_N] = {NULL};
    struct txn_copy *c = xmalloc(sizeof *c);
    int64_t next;
    unsigned i;
    enum err e;

    io_mutex_lock(&b->producers.lock);
    next = b->producers.next_id;
    io_mutex_unlock(&b->producers.lock);
    e = state_meta_put(db, "next_producer_id", next, info);
    for (i = 0; !e && i < ST_N; i++)
        e = state_prepare(db, sql[i], &st[i], info);
    while (!e && txn_next(b, c)) {
        e = txn_save(db, st, c, info);
        while (!list_empty(&c->offsets))
            free(list_entry(list_pop_front(&c->offsets), struct txn_offset, link));
    }
    for (i = 0; i < ST_N; i++)
        sqlite3_finalize(st[i]);
    free(c);
    return e;
}

void txns_saved(struct broker *b, bool committed)
{
    struct producers *ps = &b->producers;
    struct txn *t;

    io_mutex_lock(&ps->lock);
    while (!list_empty(&ps->txns_sent)) {
        t = list_entry(ps->txns_sent.node.prev, struct txn, dirty_link);
        list_remove(&t->dirty_link);
        t->dirty = committed ? CLEAN : DIRTY;
        if (!committed) /* in front: one that was forgotten may be there anew */
            list_insert_before(ps->txns_dirty.node.next, &t->dirty_link);
        else if (t->e.state == TXN_DEAD)
            txn_free(b, t);
    }
    io_mutex_unlock(&ps->lock);
}
