/* What is known of transactional ids: the registry, the offsets that wait for an end, recovery from the
 * journal's entries, the checkpoint. See transaction.c. All under producers.lock; recovery is
 * single-threaded, saving runs on the background thread and takes the lock for one id at a time. */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/mem.h"
#include "broker/broker_int.h"
#include "broker/txn_int.h"

#define PART_ROOM   192u       /* of one marker in a unit, and then some */
#define ENTRY_ROOM  64u        /* of an entry's head */
#define PENDING_MAX (1u << 30) /* what bounds them is LIMIT_TXN_OFFSETS_ALL, when they come in */

/* ---- offsets that are pending; lock held ---- */

size_t txn__offset_room(const struct entry_group_offset *o)
{
    return ENTRY_ROOM + OFFSET_KEY + 32 + o->group.len + o->metadata.len;
}

struct slice txn__offset_key(const struct txn_offset *x)
{
    return slice_of(x->bytes, OFFSET_KEY + x->o.group.len);
}

size_t txn__offset_memory(const struct entry_group_offset *o)
{
    return sizeof(struct txn_offset) + OFFSET_KEY + o->group.len + o->metadata.len;
}

/* The offset is in a transaction now; its bytes are counted, and so is its key. */
static void pending_add(struct producers *ps, const struct txn_offset *x)
{
    struct slice key = txn__offset_key(x);
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
    ps->pending_bytes += txn__offset_memory(&x->o);
}

static void pending_remove(struct producers *ps, const struct txn_offset *x)
{
    struct txn_pending *p = map_find(&ps->pending, txn__offset_key(x));

    ASSERT(p && p->n > 0);
    if (--p->n == 0) {
        map_remove(&ps->pending, txn__offset_key(x));
        free(p);
    }
    ps->pending_n--;
    ps->pending_bytes -= txn__offset_memory(&x->o);
}

/* ---- the registry; lock held ---- */

struct txn *txn__find(struct broker *b, struct slice name)
{
    return map_find(&b->producers.txns, name);
}

struct txn *txn__new(struct broker *b, struct slice name)
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

void txn__free(struct broker *b, struct txn *t)
{
    offsets_clear(b, t);
    free(t);
}

/* The end of a transaction is one unit of the journal: what does not fit is not taken in. */
bool txn__room(const struct broker *b, const struct txn *t, uint32_t parts, size_t offsets)
{
    uint64_t file = b->conf.journal_file_bytes;
    uint64_t max = file && file / 2 < LIMIT_APPEND_BYTES ? file / 2 : LIMIT_APPEND_BYTES;

    return (uint64_t)(t->parts_n + t->parts_coming + parts) * PART_ROOM + t->offset_bytes +
               offsets + 2 * ENTRY_SMALL_MAX <=
           max;
}

void txn__dirty(struct broker *b, struct txn *t)
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
void txn__forget(struct broker *b, struct txn *t)
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
    txn__dirty(b, t);
}

void txn__set(struct broker *b, struct txn *t, const struct entry_txn *e)
{
    struct slice name = t->e.name;

    id_bind(b, t, e->producer_id);
    t->e = *e;
    t->e.name = name;
    t->fresh = false;
    if (e->state != TXN_ONGOING)
        offsets_clear(b, t);
    ongoing_link(b, t);
    txn__dirty(b, t);
}

void txn__started(struct broker *b, struct txn *t, int64_t wall_ms)
{
    if (t->e.state == TXN_ONGOING)
        return;
    t->e.state = TXN_ONGOING;
    t->e.started_ms = t->e.updated_ms = wall_ms;
    ongoing_link(b, t);
    txn__dirty(b, t);
}

/* ---- for producer.c ---- */

enum err txn_batch_check(struct broker *b, struct pstate *s, const struct producer_batch *pb)
{
    struct txn *t = u64map_find(&b->producers.txn_ids, (uint64_t)pb->producer_id);

    if (!t || (!slice_is_null(pb->txn_name) && !slice_eq(pb->txn_name, t->e.name)))
        return ERR_PRODUCER_ID;
    if (pb->epoch != t->e.epoch)
        return ERR_PRODUCER_EPOCH;
    if (t->shut)
        return ERR_TXN_CONCURRENT;
    if (t->e.state != TXN_ONGOING && !pb->starts)
        return ERR_TXN_STATE;
    if (!s->txn_link.next) {
        if (t->parts_n + t->parts_coming >= LIMIT_TXN_PARTS || !txn__room(b, t, 1, 0))
            return ERR_LIMIT;
        t->parts_coming++;
    }
    txn__started(b, t, journal_wall_ms(b->journal));
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
        txn__started(b, t, journal_wall_ms(b->journal));
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
    t = txn__find(b, e->name);
    if (e->state == TXN_DEAD) {
        if (t)
            txn__forget(b, t);
    } else if (t || (t = txn__new(b, e->name))) {
        txn__set(b, t, e);
    }
    io_mutex_unlock(&b->producers.lock);
}

struct txn_offset *txn__offset_new(const struct entry_group_offset *o)
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
void txn__offset_add(struct broker *b, struct txn *t, struct txn_offset *x)
{
    struct txn_offset *old = map_remove(&t->offset_of, txn__offset_key(x));

    if (old) {
        t->offset_bytes -= txn__offset_room(&old->o);
        list_remove(&old->link);
        pending_remove(&b->producers, old);
        free(old);
    }
    if (map_put(&t->offset_of, txn__offset_key(x), x)) { /* at its limit: a damaged log */
        free(x);
        return;
    }
    t->offset_bytes += txn__offset_room(&x->o);
    list_push_back(&t->offsets, &x->link);
    pending_add(&b->producers, x);
}

void txn_offset_apply(struct broker *b, const struct entry_txn_offset *e)
{
    struct txn *t;

    io_mutex_lock(&b->producers.lock);
    t = u64map_find(&b->producers.txn_ids, (uint64_t)e->producer_id);
    if (t && t->e.epoch == e->epoch) {
        txn__started(b, t, journal_wall_ms(b->journal));
        txn__offset_add(b, t, txn__offset_new(&e->o));
        txn__dirty(b, t);
    }
    io_mutex_unlock(&b->producers.lock);
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
                txn__free(b, x);
        }
    while (map_next(&ps->txns, &at, NULL, &t))
        txn__free(b, t);
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
    t = txn__find(b, state_column(st, 0));
    if (t && t->e.state == TXN_ONGOING)
        txn__offset_add(b, t, txn__offset_new(&o));
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
            y = txn__offset_new(&x->o);
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
            txn__free(b, t);
    }
    io_mutex_unlock(&ps->lock);
}
