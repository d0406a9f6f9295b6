/* Small durable items of the program itself, by namespace and key.
 *
 * An item lives in one ordered index under the key "ns NUL key". A deleted or expired item stays
 * there without a value (a tombstone) until a checkpoint has deleted its row; then it goes. Expiry
 * is a function of the item and the clock, so it is not journalled: kv_get does not see an expired
 * item, and the tick drops it by way of a heap.
 *
 * Topologies of streams groups (STREAMS_TOPOLOGY_NS) are written for whoever may be a member of a
 * group, so they have a part of the room, and leave the rest to others however many there are. One
 * belongs to its group: it goes with it, and one that comes after the group's end is nothing.
 *
 * Guarded by b->items_lock. Changed on the writer thread (commit), by recovery, and by the tick. */
#include "broker/kv.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "broker/broker_int.h"
#include "broker/streams.h"

#define NO_HEAP UINT32_MAX

struct kv_item {
    struct ordered_node node;
    struct list_node dirty_link;
    enum dirty dirty;
    uint32_t heap_at; /* in kvs.expiry, or NO_HEAP */
    uint8_t ns_len;
    bool topology;      /* in STREAMS_TOPOLOGY_NS */
    int64_t expires_ms; /* 0: never */
    uint8_t *value;     /* NULL: tombstone */
    size_t value_len;
    uint8_t key[]; /* ns NUL key */
};

struct full_key {
    uint8_t b[LIMIT_KV_NS + 1 + LIMIT_KV_KEY];
};

static struct slice full_key_make(struct full_key *k, struct slice ns, struct slice key)
{
    ASSERT(ns.len <= LIMIT_KV_NS && key.len <= LIMIT_KV_KEY);
    memcpy(k->b, ns.ptr, ns.len);
    k->b[ns.len] = 0;
    if (key.len)
        memcpy(k->b + ns.len + 1, key.ptr, key.len);
    return slice_of(k->b, ns.len + 1 + key.len);
}

static struct kv_item *item_of(struct ordered_node *n)
{
    return n ? ORDERED_ENTRY(n, struct kv_item, node) : NULL;
}

static struct slice item_key(const struct kv_item *it)
{
    return slice_of(it->key + it->ns_len + 1, it->node.key.len - it->ns_len - 1);
}

static bool item_live(const struct kv_item *it, int64_t now_ms)
{
    return it->value && (it->expires_ms == 0 || it->expires_ms > now_ms);
}

/* ---- the expiry heap ---- */

static void heap_set(struct kvs *k, uint32_t i, struct kv_item *it)
{
    k->expiry[i] = it;
    it->heap_at = i;
}

static void heap_fix(struct kvs *k, uint32_t i)
{
    struct kv_item *it = k->expiry[i];
    uint32_t c;

    while (i && k->expiry[(i - 1) / 2]->expires_ms > it->expires_ms) {
        heap_set(k, i, k->expiry[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (;; i = c) {
        c = 2 * i + 1;
        if (c + 1 < k->expiry_n && k->expiry[c + 1]->expires_ms < k->expiry[c]->expires_ms)
            c++;
        if (c >= k->expiry_n || k->expiry[c]->expires_ms >= it->expires_ms)
            break;
        heap_set(k, i, k->expiry[c]);
    }
    heap_set(k, i, it);
}

static void heap_remove(struct kvs *k, struct kv_item *it)
{
    uint32_t i = it->heap_at;

    if (i == NO_HEAP)
        return;
    it->heap_at = NO_HEAP;
    k->expiry_n--;
    if (i < k->expiry_n) {
        heap_set(k, i, k->expiry[k->expiry_n]);
        heap_fix(k, i);
    }
}

static void heap_add(struct kvs *k, struct kv_item *it)
{
    if (k->expiry_n == k->expiry_cap) {
        k->expiry_cap = k->expiry_cap ? k->expiry_cap * 2 : 64;
        k->expiry = xrealloc(k->expiry, k->expiry_cap * sizeof *k->expiry);
    }
    heap_set(k, k->expiry_n++, it);
    heap_fix(k, it->heap_at);
}

/* ---- items ---- */

static void item_dirty(struct kvs *k, struct kv_item *it)
{
    if (it->dirty == DIRTY)
        return;
    if (it->dirty == SENT)
        list_remove(&it->dirty_link);
    it->dirty = DIRTY;
    list_push_back(&k->dirty, &it->dirty_link);
}

static bool is_topology(struct slice ns)
{
    return slice_eq_str(ns, STREAMS_TOPOLOGY_NS);
}

static void part_add(struct kv_part *p, size_t bytes)
{
    p->n++;
    p->bytes += bytes;
}

static void part_take(struct kv_part *p, size_t bytes)
{
    ASSERT(p->n && p->bytes >= bytes);
    p->n--;
    p->bytes -= bytes;
}

static void item_clear(struct kvs *k, struct kv_item *it)
{
    heap_remove(k, it);
    if (!it->value)
        return;
    k->live--;
    k->bytes -= it->node.key.len + it->value_len;
    if (it->topology)
        part_take(&k->topologies, it->node.key.len + it->value_len);
    free(it->value);
    it->value = NULL;
    it->value_len = 0;
}

/* value not NULL. */
static void item_set(struct kvs *k, struct kv_item *it, struct slice value, int64_t expires_ms)
{
    item_clear(k, it);
    it->value = xmalloc(value.len + 1);
    if (value.len)
        memcpy(it->value, value.ptr, value.len);
    it->value_len = value.len;
    it->expires_ms = expires_ms;
    k->live++;
    k->bytes += it->node.key.len + value.len;
    if (it->topology)
        part_add(&k->topologies, it->node.key.len + value.len);
    if (expires_ms)
        heap_add(k, it);
}

static struct kv_item *item_add(struct kvs *k, struct slice full, size_t ns_len)
{
    struct kv_item *it = xcalloc(1, sizeof *it + full.len);

    memcpy(it->key, full.ptr, full.len);
    it->node.key = slice_of(it->key, full.len);
    it->ns_len = (uint8_t)ns_len;
    it->topology = is_topology(slice_of(full.ptr, ns_len));
    it->heap_at = NO_HEAP;
    ordered_insert(&k->items, &it->node);
    return it;
}

static void item_drop(struct kvs *k, struct kv_item *it)
{
    item_clear(k, it);
    ordered_remove(&k->items, &it->node);
    free(it);
}

void kvs_init(struct broker *b)
{
    ordered_init(&b->kvs.items, b->hash_seed_word + 2);
    list_init(&b->kvs.dirty);
    list_init(&b->kvs.sent);
}

void kvs_fini(struct broker *b)
{
    while (b->kvs.items.root)
        item_drop(&b->kvs, item_of(b->kvs.items.root));
    free(b->kvs.expiry);
}

void kv_apply(struct broker *b, const struct entry_kv *en)
{
    struct kvs *k = &b->kvs;
    struct full_key buf;
    struct slice full = full_key_make(&buf, en->ns, en->key);
    struct kv_item *it;

    io_mutex_lock(&b->items_lock);
    it = item_of(ordered_find(&k->items, full));
    if (!slice_is_null(en->value) && is_topology(en->ns) && !groups_have(b, en->key))
        it = NULL;
    else if (!it && !slice_is_null(en->value))
        it = item_add(k, full, en->ns.len);
    if (it) {
        if (slice_is_null(en->value))
            item_clear(k, it);
        else
            item_set(k, it, en->value, en->expires_ms);
        item_dirty(k, it);
    }
    io_mutex_unlock(&b->items_lock);
}

void kvs_expire(struct broker *b, int64_t wall_ms, unsigned max)
{
    struct kvs *k = &b->kvs;
    struct kv_item *it;

    io_mutex_lock(&b->items_lock);
    for (; max && k->expiry_n && k->expiry[0]->expires_ms <= wall_ms; max--) {
        it = k->expiry[0];
        item_clear(k, it);
        item_dirty(k, it);
    }
    io_mutex_unlock(&b->items_lock);
}

/* ---- putting and getting ---- */

enum err kv_check(struct broker *b, const char *ns, struct slice key, struct slice value,
                  struct errinfo *info)
{
    size_t ns_len = strlen(ns);
    enum err e = ERR_OK;

    if (ns_len == 0 || ns_len > LIMIT_KV_NS)
        return errinfo_set(info, ERR_INVALID, "a namespace has 1 to %d characters", LIMIT_KV_NS);
    if (key.len > LIMIT_KV_KEY || value.len > LIMIT_KV_VALUE)
        return errinfo_set(info, ERR_TOO_LARGE, "a key has at most %d bytes and a value at most %d",
                           LIMIT_KV_KEY, LIMIT_KV_VALUE);
    if (slice_is_null(value))
        return ERR_OK;
    io_mutex_lock(&b->items_lock);
    if (b->kvs.live >= LIMIT_KV_ITEMS || b->kvs.bytes + key.len + value.len > LIMIT_KV_BYTES)
        e = errinfo_set(info, ERR_LIMIT, "there is no room for more items");
    io_mutex_unlock(&b->items_lock);
    return e;
}

/* Of what is on its way, both at most; false: there is no room for it. */
static bool topology_comes(struct broker *b, size_t bytes)
{
    const struct kv_part *is = &b->kvs.topologies, *comes = &b->kvs.topologies_coming;
    bool room;

    io_mutex_lock(&b->items_lock);
    room = is->n + comes->n < LIMIT_STREAMS_KEPT &&
           is->bytes + comes->bytes + bytes <= LIMIT_STREAMS_KEPT_BYTES;
    if (room)
        part_add(&b->kvs.topologies_coming, bytes);
    io_mutex_unlock(&b->items_lock);
    return room;
}

static void topology_came(struct broker *b, size_t bytes)
{
    io_mutex_lock(&b->items_lock);
    part_take(&b->kvs.topologies_coming, bytes);
    io_mutex_unlock(&b->items_lock);
}

/* What topology_comes counted for it; 0: it was not asked. */
static size_t coming_bytes(const struct entry_kv *en)
{
    return !slice_is_null(en->value) && is_topology(en->ns)
               ? en->ns.len + 1 + en->key.len + en->value.len
               : 0;
}

static void put_commit(struct change *c, enum err e)
{
    struct entry_kv en;
    enum err bad = entry_kv_read(slice_of(c->data, c->entry.data.len), &en);

    ASSERT(!bad);
    if (coming_bytes(&en))
        topology_came(c->b, coming_bytes(&en));
    if (!e)
        kv_apply(c->b, &en);
}

static enum err put(struct broker *b, const char *ns, struct slice key, struct slice value,
                    int64_t expires_ms, bool block, broker_done_fn done, void *arg,
                    struct errinfo *info)
{
    struct entry_kv en = {expires_ms > 0 ? expires_ms : 0, slice_str(ns), key, value};
    struct change *c;
    enum err e = kv_check(b, ns, key, value, info);

    if (e)
        return e;
    if (coming_bytes(&en) && !topology_comes(b, coming_bytes(&en)))
        return errinfo_set(info, ERR_LIMIT, "there is no room for more topologies");
    c = change_new(b, ENTRY_KV, entry_kv_size(&en), done, arg);
    c->entry.data.len = entry_kv_write(c->data, &en);
    c->commit = put_commit;
    if ((e = change_submit(c, block, info)) && coming_bytes(&en))
        topology_came(b, coming_bytes(&en));
    return e;
}

enum err kv_put(struct broker *b, const char *ns, struct slice key, struct slice value,
                int64_t expires_ms, broker_done_fn done, void *arg, struct errinfo *info)
{
    return put(b, ns, key, value, expires_ms, false, done, arg, info);
}

enum err kv_put_wait(struct broker *b, const char *ns, struct slice key, struct slice value,
                     int64_t expires_ms, struct errinfo *info)
{
    struct sync_wait w;
    enum err e;

    sync_wait_init(&w, b);
    e = put(b, ns, key, value, expires_ms, true, sync_wait_done, &w, info);
    return e ? sync_wait_drop(&w, e) : sync_wait_end(&w, info);
}

enum err kv_get(struct broker *b, const char *ns, struct slice key, struct buf *out)
{
    struct slice nss = slice_str(ns);
    enum err e = ERR_NOT_FOUND;
    struct full_key buf;
    struct kv_item *it;

    buf_clear(out);
    if (nss.len == 0 || nss.len > LIMIT_KV_NS || key.len > LIMIT_KV_KEY)
        return ERR_NOT_FOUND;
    io_mutex_lock(&b->items_lock);
    it = item_of(ordered_find(&b->kvs.items, full_key_make(&buf, nss, key)));
    if (it && item_live(it, journal_wall_ms(b->journal)))
        e = buf_append(out, it->value, it->value_len);
    io_mutex_unlock(&b->items_lock);
    return e;
}

void kv_each(struct broker *b, const char *ns,
             bool (*fn)(void *arg, struct slice key, struct slice value), void *arg)
{
    struct slice nss = slice_str(ns), prefix;
    int64_t now = journal_wall_ms(b->journal);
    struct full_key buf;
    struct kv_item *it;

    if (nss.len == 0 || nss.len > LIMIT_KV_NS)
        return;
    prefix = full_key_make(&buf, nss, slice_of("", 0));
    io_mutex_lock(&b->items_lock);
    it = item_of(ordered_find(&b->kvs.items, prefix)); /* the empty key */
    it = it ? it : item_of(ordered_after(&b->kvs.items, prefix));
    for (; it && slice_has_prefix(it->node.key, prefix);
         it = item_of(ordered_after(&b->kvs.items, it->node.key)))
        if (item_live(it, now) && !fn(arg, item_key(it), slice_of(it->value, it->value_len)))
            break;
    io_mutex_unlock(&b->items_lock);
}

/* ---- the checkpoint ---- */

enum err kvs_load(struct broker *b, struct sqlite3 *db, struct errinfo *info)
{
    struct sqlite3_stmt *st = NULL;
    struct full_key buf;
    enum err e = state_prepare(db, "SELECT ns, key, value, expires_at FROM kv", &st, info);
    int rc = SQLITE_DONE;

    while (!e && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct slice ns = state_column(st, 0), key = state_column(st, 1);
        struct slice value = state_column(st, 2);

        if (ns.len == 0 || ns.len > LIMIT_KV_NS || key.len > LIMIT_KV_KEY ||
            value.len > LIMIT_KV_VALUE || memchr(ns.ptr, 0, ns.len)) {
            e = errinfo_set(info, ERR_CORRUPT,
                            "checkpoint.db: a row of kv is damaged; run "
                            "`weir repair`");
            break;
        }
        item_set(&b->kvs, item_add(&b->kvs, full_key_make(&buf, ns, key), ns.len), value,
                 sqlite3_column_int64(st, 3));
    }
    if (!e && rc != SQLITE_DONE)
        e = state_sql_err(db, rc, "reading kv", info);
    sqlite3_finalize(st);
    return e;
}

/* A copy of one dirty item, to be written without the lock. */
struct item_copy {
    struct full_key key;
    size_t key_len, ns_len, value_len;
    uint8_t *value; /* NULL: tombstone */
    int64_t expires_ms;
};

static bool copy_next(struct broker *b, struct item_copy *o)
{
    struct kvs *k = &b->kvs;
    struct kv_item *it = NULL;

    io_mutex_lock(&b->items_lock);
    if (!list_empty(&k->dirty)) {
        it = list_entry(list_pop_front(&k->dirty), struct kv_item, dirty_link);
        it->dirty = SENT;
        list_push_back(&k->sent, &it->dirty_link);
        memcpy(o->key.b, it->key, it->node.key.len);
        o->key_len = it->node.key.len;
        o->ns_len = it->ns_len;
        o->value_len = it->value_len;
        o->value = it->value ? xmemdup(it->value, it->value_len + 1) : NULL;
        o->expires_ms = it->expires_ms;
    }
    io_mutex_unlock(&b->items_lock);
    return it != NULL;
}

static enum err save_copy(struct sqlite3 *db, struct sqlite3_stmt *put, struct sqlite3_stmt *del,
                          const struct item_copy *o, struct errinfo *info)
{
    struct sqlite3_stmt *st = o->value ? put : del;

    state_bind_text(st, 1, slice_of(o->key.b, o->ns_len));
    state_bind_blob(st, 2, slice_of(o->key.b + o->ns_len + 1, o->key_len - o->ns_len - 1));
    if (o->value) {
        state_bind_blob(st, 3, slice_of(o->value, o->value_len));
        sqlite3_bind_int64(st, 4, o->expires_ms);
    }
    return state_step(db, st, info);
}

enum err kvs_save(struct broker *b, struct sqlite3 *db, struct errinfo *info)
{
    struct sqlite3_stmt *put = NULL, *del = NULL;
    struct item_copy *o = xmalloc(sizeof *o);
    enum err e = state_prepare(db, "INSERT OR REPLACE INTO kv VALUES(?,?,?,?)", &put, info);

    if (!e)
        e = state_prepare(db, "DELETE FROM kv WHERE ns = ? AND key = ?", &del, info);
    while (!e && copy_next(b, o)) {
        e = save_copy(db, put, del, o, info);
        free(o->value);
    }
    free(o);
    sqlite3_finalize(put);
    sqlite3_finalize(del);
    return e;
}

void kvs_saved(struct broker *b, bool committed)
{
    struct kvs *k = &b->kvs;
    struct kv_item *it;

    io_mutex_lock(&b->items_lock);
    while (!list_empty(&k->sent)) {
        it = list_entry(list_pop_front(&k->sent), struct kv_item, dirty_link);
        it->dirty = committed ? CLEAN : DIRTY;
        if (!committed)
            list_push_back(&k->dirty, &it->dirty_link);
        else if (!it->value)
            item_drop(k, it);
    }
    io_mutex_unlock(&b->items_lock);
}
