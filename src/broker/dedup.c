/* The idempotency window.
 *
 * 16 shards, by the last byte of an id's hash, each with a lock and
 *   pending   chained hash table of ids of appends that are under way
 *   rows      ring of ids written, oldest first (the order of commit is the order of expiry)
 *   table     open-addressing index of the ring by hash (slot + 1; linear probing; deletion moves
 *             later ones back, so there are no tombstones)
 *
 *   new -> pending (dedup_reserve) -> written (dedup_resolve OK) -> forgotten (window or count)
 *                                  -> new     (dedup_resolve with an error)
 *
 * The ring grows by doubling to its share of ids_max. A row's number in its shard never changes;
 * the checkpoint saves rows from `saved` to `save_to` and deletes those below `head`. A row is 56
 * bytes, its index entry 8: a million ids are 64 MB. Any thread; dedup_mark/save/saved by one
 * thread at a time. Hashes are 128 bits of SipHash under the log's random id: two ids of one window
 * meet with probability 2^-88. */
#include "broker/dedup.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/mem.h"
#include "base/siphash.h"
#include "base/tbl/limits.h"
#include "broker/state.h"
#include "io/thread.h"

#define SHARDS   16u
#define BUCKETS  1024u
#define ROWS_MIN 64u
#define SEQ_BITS 56

struct row {
    uint8_t hash[16];
    uint64_t position;
    int64_t offset, timestamp_ms, added_ms;
    int32_t partition;
};

struct shard {
    struct io_mutex lock;
    struct dedup_pending *bucket[BUCKETS];
    struct row *rows;
    uint32_t *table; /* 2 * cap entries */
    uint32_t cap;    /* power of two; 0: nothing yet */
    uint64_t head, tail;
    uint64_t saved, save_to;
};

struct dedup {
    struct shard shard[SHARDS];
    uint64_t rows_max; /* of a shard */
    int64_t window_ms;
    struct io_mutex mark_lock;
    _Atomic uint64_t marked;
};

void dedup_hash(const uint8_t key[16], uint32_t topic, struct slice id, uint8_t out[16])
{
    uint8_t in[4 + LIMIT_EVENT_ID];

    ASSERT(id.len <= LIMIT_EVENT_ID);
    le32_store(in, topic);
    if (id.len)
        memcpy(in + 4, id.ptr, id.len);
    siphash128(key, in, 4 + id.len, out);
}

static struct shard *shard_of(struct dedup *d, const uint8_t hash[16])
{
    return &d->shard[hash[15] % SHARDS];
}

struct dedup *dedup_new(uint32_t ids_max, int64_t window_ms)
{
    struct dedup *d = xcalloc(1, sizeof *d);
    unsigned i;

    d->rows_max = (ids_max + SHARDS - 1) / SHARDS;
    d->window_ms = window_ms;
    for (i = 0; i < SHARDS; i++)
        io_mutex_init(&d->shard[i].lock);
    io_mutex_init(&d->mark_lock);
    return d;
}

void dedup_free(struct dedup **dp)
{
    struct dedup *d = *dp;
    unsigned i;

    if (!d)
        return;
    for (i = 0; i < SHARDS; i++) {
        free(d->shard[i].rows);
        free(d->shard[i].table);
        io_mutex_fini(&d->shard[i].lock);
    }
    io_mutex_fini(&d->mark_lock);
    free(d);
    *dp = NULL;
}

/* ---- the ring and its index ---- */

static struct row *row_at(struct shard *s, uint64_t seq)
{
    return &s->rows[seq & (s->cap - 1)];
}

static uint32_t home(const struct shard *s, const uint8_t hash[16])
{
    return le32_load(hash) & (2 * s->cap - 1);
}

/* Where the hash is in the table, or the free entry where it would go. */
static uint32_t table_find(const struct shard *s, const uint8_t hash[16])
{
    uint32_t i = home(s, hash);

    while (s->table[i] && memcmp(s->rows[s->table[i] - 1].hash, hash, 16) != 0)
        i = (i + 1) & (2 * s->cap - 1);
    return i;
}

static void table_remove(struct shard *s, uint32_t i)
{
    uint32_t mask = 2 * s->cap - 1, j = i;

    for (;;) {
        uint32_t h;

        j = (j + 1) & mask;
        if (!s->table[j])
            break;
        h = home(s, s->rows[s->table[j] - 1].hash);
        if (((j - h) & mask) >= ((j - i) & mask)) { /* i lies between its home and it */
            s->table[i] = s->table[j];
            i = j;
        }
    }
    s->table[i] = 0;
}

static void ring_grow(struct shard *s)
{
    uint32_t cap = s->cap ? s->cap * 2 : ROWS_MIN;
    struct row *rows = xmalloc(cap * sizeof *rows);
    uint64_t q;

    for (q = s->head; q < s->tail; q++)
        rows[q & (cap - 1)] = *row_at(s, q);
    free(s->rows);
    free(s->table);
    s->rows = rows;
    s->cap = cap;
    s->table = xcalloc(2 * (size_t)cap, sizeof *s->table);
    for (q = s->head; q < s->tail; q++) { /* a later row of the same hash takes the entry */
        uint32_t i = table_find(s, row_at(s, q)->hash);

        s->table[i] = (uint32_t)(q & (cap - 1)) + 1;
    }
}

static void ring_pop(struct shard *s)
{
    uint32_t i = table_find(s, row_at(s, s->head)->hash);

    if (s->table[i] == (uint32_t)(s->head & (s->cap - 1)) + 1)
        table_remove(s, i);
    s->head++;
}

static bool row_old(const struct dedup *d, const struct row *r, int64_t now_ms)
{
    return now_ms - r->added_ms > d->window_ms;
}

static void ring_push(struct dedup *d, struct shard *s, const struct row *r)
{
    uint32_t i;

    while (s->head < s->tail && s->tail - s->head >= d->rows_max)
        ring_pop(s);
    if (s->tail - s->head >= s->cap)
        ring_grow(s);
    i = table_find(s, r->hash); /* before the row is in: the slot may hold a stale one */
    *row_at(s, s->tail) = *r;
    s->table[i] = (uint32_t)(s->tail & (s->cap - 1)) + 1;
    s->tail++;
}

static void place_of(const struct row *r, struct append_place *out)
{
    *out =
        (struct append_place){r->partition, r->offset, r->position, r->timestamp_ms, true, false};
}

static bool row_find(struct dedup *d, struct shard *s, const uint8_t hash[16], int64_t now_ms,
                     struct append_place *out)
{
    struct row *r;
    uint32_t i;

    if (!s->cap)
        return false;
    i = table_find(s, hash);
    if (!s->table[i])
        return false;
    r = &s->rows[s->table[i] - 1];
    if (row_old(d, r, now_ms))
        return false;
    place_of(r, out);
    return true;
}

/* ---- ids ---- */

bool dedup_find(struct dedup *d, const uint8_t hash[16], int64_t now_ms, struct append_place *out)
{
    struct shard *s = shard_of(d, hash);
    bool found;

    io_mutex_lock(&s->lock);
    found = row_find(d, s, hash, now_ms, out);
    io_mutex_unlock(&s->lock);
    return found;
}

static struct dedup_pending **pending_at(struct shard *s, const uint8_t hash[16])
{
    struct dedup_pending **at = &s->bucket[le32_load(hash) % BUCKETS];

    while (*at && memcmp((*at)->hash, hash, 16) != 0)
        at = &(*at)->next;
    return at;
}

enum dedup_state dedup_reserve(struct dedup *d, struct dedup_pending *p, int64_t now_ms,
                               struct append_place *out, struct dedup_attach *at)
{
    struct shard *s = shard_of(d, p->hash);
    struct dedup_pending **slot;
    enum dedup_state st;

    ASSERT(!p->reserved);
    io_mutex_lock(&s->lock);
    slot = pending_at(s, p->hash);
    if (*slot) {
        memcpy(at->hash, p->hash, 16);
        at->resolved = false;
        at->next = (*slot)->attached;
        (*slot)->attached = at;
        atomic_fetch_add(at->waiting, 1);
        st = DEDUP_PENDING;
    } else if (row_find(d, s, p->hash, now_ms, out)) {
        st = DEDUP_WRITTEN;
    } else {
        p->next = NULL;
        p->attached = NULL;
        p->reserved = true;
        *slot = p;
        st = DEDUP_NEW;
    }
    io_mutex_unlock(&s->lock);
    return st;
}

struct dedup_attach *dedup_resolve(struct dedup *d, struct dedup_pending *p, enum err e,
                                   const struct append_place *place, int64_t now_ms)
{
    struct shard *s = shard_of(d, p->hash);
    struct dedup_attach *at, *next, *ready = NULL;
    struct dedup_pending **slot;

    io_mutex_lock(&s->lock);
    slot = pending_at(s, p->hash);
    ASSERT(*slot == p && p->reserved);
    *slot = p->next;
    p->reserved = false;
    if (!e) {
        struct row r = {.position = place->position,
                        .offset = place->offset,
                        .timestamp_ms = place->timestamp_ms,
                        .added_ms = now_ms,
                        .partition = place->partition};

        memcpy(r.hash, p->hash, 16);
        ring_push(d, s, &r);
    }
    for (at = p->attached; at; at = next) {
        next = at->next;
        at->next = NULL;
        at->e = e;
        if (!e) {
            at->place = *place;
            at->place.duplicate = true;
        }
        at->resolved = true;
        if (atomic_fetch_sub(at->waiting, 1) == 1) {
            at->next = ready;
            ready = at;
        }
    }
    p->attached = NULL;
    io_mutex_unlock(&s->lock);
    return ready;
}

void dedup_detach(struct dedup *d, struct dedup_attach *at)
{
    struct shard *s = shard_of(d, at->hash);
    struct dedup_attach **a;
    struct dedup_pending *p;

    io_mutex_lock(&s->lock);
    if (!at->resolved) {
        p = *pending_at(s, at->hash);
        ASSERT(p != NULL);
        for (a = &p->attached; *a != at; a = &(*a)->next)
            ASSERT(*a != NULL);
        *a = at->next;
        atomic_fetch_sub(at->waiting, 1);
        at->resolved = true;
    }
    io_mutex_unlock(&s->lock);
}

void dedup_add(struct dedup *d, const uint8_t hash[16], const struct append_place *place,
               int64_t added_ms)
{
    struct shard *s = shard_of(d, hash);
    struct row r = {.position = place->position,
                    .offset = place->offset,
                    .timestamp_ms = place->timestamp_ms,
                    .added_ms = added_ms,
                    .partition = place->partition};

    memcpy(r.hash, hash, 16);
    io_mutex_lock(&s->lock);
    ring_push(d, s, &r);
    io_mutex_unlock(&s->lock);
}

void dedup_expire(struct dedup *d, int64_t now_ms)
{
    unsigned i;

    for (i = 0; i < SHARDS; i++) {
        struct shard *s = &d->shard[i];

        io_mutex_lock(&s->lock);
        while (s->head < s->tail && row_old(d, row_at(s, s->head), now_ms))
            ring_pop(s);
        io_mutex_unlock(&s->lock);
    }
}

uint64_t dedup_count(struct dedup *d)
{
    uint64_t n = 0;
    unsigned i;

    for (i = 0; i < SHARDS; i++) {
        io_mutex_lock(&d->shard[i].lock);
        n += d->shard[i].tail - d->shard[i].head;
        io_mutex_unlock(&d->shard[i].lock);
    }
    return n;
}

/* ---- the checkpoint ---- */

void dedup_mark(struct dedup *d, uint64_t checkpoint)
{
    unsigned i;

    if (atomic_load(&d->marked) == checkpoint)
        return;
    io_mutex_lock(&d->mark_lock);
    if (atomic_load(&d->marked) != checkpoint) {
        for (i = 0; i < SHARDS; i++) {
            io_mutex_lock(&d->shard[i].lock);
            d->shard[i].save_to = d->shard[i].tail;
            io_mutex_unlock(&d->shard[i].lock);
        }
        atomic_store(&d->marked, checkpoint);
    }
    io_mutex_unlock(&d->mark_lock);
}

static int64_t row_key(unsigned shard, uint64_t seq)
{
    return (int64_t)(((uint64_t)shard << SEQ_BITS) | seq);
}

static enum err load_row(struct dedup *d, struct sqlite3_stmt *st, struct errinfo *info)
{
    uint64_t key = (uint64_t)sqlite3_column_int64(st, 0);
    uint64_t shard = key >> SEQ_BITS, seq = key & ((1ull << SEQ_BITS) - 1);
    struct slice hash = state_column(st, 1);
    struct append_place place = {.partition = (int32_t)sqlite3_column_int64(st, 2),
                                 .offset = sqlite3_column_int64(st, 3),
                                 .position = (uint64_t)sqlite3_column_int64(st, 4),
                                 .timestamp_ms = sqlite3_column_int64(st, 5)};
    struct shard *s;

    if (shard >= SHARDS || hash.len != 16 || hash.ptr[15] % SHARDS != shard)
        return errinfo_set(info, ERR_CORRUPT,
                           "checkpoint.db: a row of dedup is damaged; run `weir repair`");
    s = &d->shard[shard];
    if (seq != s->tail) { /* a gap: those before it expired while the checkpoint was written */
        while (s->head < s->tail)
            ring_pop(s);
        s->head = s->tail = seq;
    }
    dedup_add(d, hash.ptr, &place, sqlite3_column_int64(st, 6));
    s->saved = s->save_to = s->tail;
    return ERR_OK;
}

enum err dedup_load(struct dedup *d, struct sqlite3 *db, struct errinfo *info)
{
    struct sqlite3_stmt *st = NULL;
    enum err e = state_prepare(db,
                               "SELECT seq, hash, partition, offset, position, timestamp,"
                               " added_at FROM dedup ORDER BY seq",
                               &st, info);
    int rc = SQLITE_DONE;

    while (!e && (rc = sqlite3_step(st)) == SQLITE_ROW)
        e = load_row(d, st, info);
    if (!e && rc != SQLITE_DONE)
        e = state_sql_err(db, rc, "reading dedup", info);
    sqlite3_finalize(st);
    return e;
}

static enum err save_row(struct sqlite3 *db, struct sqlite3_stmt *st, int64_t key,
                         const struct row *r, struct errinfo *info)
{
    sqlite3_bind_int64(st, 1, key);
    state_bind_blob(st, 2, slice_of(r->hash, 16));
    sqlite3_bind_int64(st, 3, r->partition);
    sqlite3_bind_int64(st, 4, r->offset);
    sqlite3_bind_int64(st, 5, (int64_t)r->position);
    sqlite3_bind_int64(st, 6, r->timestamp_ms);
    sqlite3_bind_int64(st, 7, r->added_ms);
    return state_step(db, st, info);
}

#define COPY_ROWS 64u

static enum err save_shard(struct dedup *d, unsigned i, struct sqlite3 *db,
                           struct sqlite3_stmt *put, struct sqlite3_stmt *del, struct errinfo *info)
{
    struct shard *s = &d->shard[i];
    struct row copy[COPY_ROWS];
    uint64_t at, from = 0, head;
    unsigned n, k;
    enum err e;

    io_mutex_lock(&s->lock);
    head = s->head;
    at = s->saved;
    io_mutex_unlock(&s->lock);
    sqlite3_bind_int64(del, 1, row_key(i, 0));
    sqlite3_bind_int64(del, 2, row_key(i, head));
    e = state_step(db, del, info);
    while (!e) {
        io_mutex_lock(&s->lock);
        at = at < s->head ? s->head : at;
        for (n = 0, from = at; n < COPY_ROWS && at < s->save_to; n++, at++)
            copy[n] = *row_at(s, at);
        io_mutex_unlock(&s->lock);
        if (n == 0)
            break;
        for (k = 0; !e && k < n; k++)
            e = save_row(db, put, row_key(i, from + k), &copy[k], info);
    }
    return e;
}

enum err dedup_save(struct dedup *d, struct sqlite3 *db, struct errinfo *info)
{
    struct sqlite3_stmt *put = NULL, *del = NULL;
    enum err e =
        state_prepare(db, "INSERT OR REPLACE INTO dedup VALUES(?,?,?,?,?,?,?)", &put, info);
    unsigned i;

    if (!e)
        e = state_prepare(db, "DELETE FROM dedup WHERE seq >= ? AND seq < ?", &del, info);
    for (i = 0; !e && i < SHARDS; i++)
        e = save_shard(d, i, db, put, del, info);
    sqlite3_finalize(put);
    sqlite3_finalize(del);
    return e;
}

void dedup_saved(struct dedup *d, bool committed)
{
    unsigned i;

    for (i = 0; committed && i < SHARDS; i++) {
        io_mutex_lock(&d->shard[i].lock);
        d->shard[i].saved = d->shard[i].save_to;
        io_mutex_unlock(&d->shard[i].lock);
    }
}
