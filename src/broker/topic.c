/* The catalogue of topics and their partitions.
 *
 * A topic's life:
 *   reserved   topic_create: built whole, its name in `creating`, unknown to everyone else
 *   live       create_commit (writer thread) or recovery: in all maps, one reference is the
 * catalogue's deleting   delete_check: the deletion is sequenced; later appends are refused deleted
 * delete_commit: out of all maps; stays until the last reference
 *
 * Invariants: ids and partition uids only grow and are not used twice (next_id and next_uid are in
 * the checkpoint, and every creation entry raises them). A live topic's name, id and uids are each
 * in one map. Partitions are never moved or removed while the topic lives, so borrowed pointers
 * stay good. Guarded by b->topics_lock unless a field says otherwise. */
#include "broker/topic.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/mem.h"
#include "base/murmur2.h"
#include "base/siphash.h"
#include "base/topic_name.h"
#include "broker/broker_int.h"

#define STICKY_BLOCK 64u /* records with null keys that go to one partition in a row */
#define TRIM_NONE    0

/* ---- partitions
 * ------------------------------------------------------------------------------------- */

static unsigned chunk_of(int32_t index)
{
    return 31u - (unsigned)__builtin_clz((unsigned)index + 1u);
}

struct partition *topic_partition_at(struct topic *t, int32_t index)
{
    unsigned k = chunk_of(index);

    return &t->chunk[k][index + 1 - (1 << k)];
}

/* Adds partitions with uids from `uid` on, not yet visible: partitions_n is the caller's to raise.
 */
static void partitions_make(struct topic *t, int32_t from, int32_t n, uint32_t uid)
{
    int32_t i;

    for (i = from; i < from + n; i++) {
        unsigned k = chunk_of(i);
        struct partition *p;

        ASSERT(k < PARTITION_CHUNKS);
        if (!t->chunk[k])
            t->chunk[k] = xcalloc((size_t)1 << k, sizeof *t->chunk[k]);
        p = topic_partition_at(t, i);
        p->topic = t;
        p->index = i;
        p->uid = uid + (uint32_t)(i - from);
        p->log = plog_new(t->broker->journal, p->uid, 0, p);
    }
}

struct topic *partition_topic(const struct partition *p)
{
    return p->topic;
}

int32_t partition_index(const struct partition *p)
{
    return p->index;
}

struct plog *partition_log(const struct partition *p)
{
    return p->log;
}

/* ---- one topic
 * ----------------------------------------------------------------------------------------- */

static void conf_install(struct topic *t, const struct topic_conf *c)
{
    const struct topic_conf *d = &t->broker->defaults;
    struct conf_items diff;

    topic_conf_diff(d, c, &diff);
    if (diff.n) {
        if (!t->conf)
            t->conf = xmalloc(sizeof *t->conf);
        *t->conf = *c;
    } else {
        free(t->conf);
        t->conf = NULL;
    }
    atomic_store_explicit(&t->max_message_bytes, c->max_message_bytes, memory_order_relaxed);
    atomic_store_explicit(&t->durability, c->durability, memory_order_relaxed);
    atomic_store_explicit(&t->compression, c->compression, memory_order_relaxed);
    atomic_store_explicit(&t->timestamp_type, c->timestamp_type, memory_order_relaxed);
}

static struct topic *topic_new(struct broker *b, uint32_t id, struct slice name,
                               const uint8_t *uuid, int64_t created_ms, const struct topic_conf *c)
{
    struct topic *t = xcalloc(1, sizeof *t + name.len + 1);

    t->magic = TOPIC_MAGIC;
    t->id = id;
    atomic_init(&t->refs, 1);
    t->broker = b;
    memcpy(t->name, name.ptr, name.len);
    t->by_name.key = slice_of(t->name, name.len);
    memcpy(t->uuid, uuid, 16);
    t->created_ms = created_ms;
    list_init(&t->waiters);
    conf_install(t, c);
    return t;
}

static void topic_free(struct topic *t)
{
    int32_t i, k;

    ASSERT(list_empty(&t->waiters) && t->dirty == CLEAN);
    for (k = 0; k < (int32_t)PARTITION_CHUNKS; k++) {
        for (i = 0; t->chunk[k] && i < 1 << k; i++)
            plog_free(&t->chunk[k][i].log);
        free(t->chunk[k]);
    }
    free(t->conf);
    t->magic = 0;
    free(t);
}

struct topic *topic_ref(struct topic *t)
{
    ASSERT(t->magic == TOPIC_MAGIC);
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

void topic_unref(struct topic **t)
{
    if (*t) {
        ASSERT((*t)->magic == TOPIC_MAGIC);
        if (atomic_fetch_sub(&(*t)->refs, 1) == 1)
            topic_free(*t);
    }
    *t = NULL;
}

const char *topic_name(const struct topic *t)
{
    return t->name;
}

uint32_t topic_id(const struct topic *t)
{
    return t->id;
}

const uint8_t *topic_uuid(const struct topic *t)
{
    return t->uuid;
}

bool topic_deleted(const struct topic *t)
{
    return atomic_load(&t->deleted);
}

int64_t topic_created_ms(const struct topic *t)
{
    return t->created_ms;
}

void topic_conf_get(struct topic *t, struct topic_conf *out)
{
    struct broker *b = t->broker;

    io_mutex_lock(&b->topics_lock);
    *out = t->conf ? *t->conf : b->defaults;
    io_mutex_unlock(&b->topics_lock);
}

int32_t topic_partitions(const struct topic *t)
{
    return atomic_load_explicit(&t->partitions_n, memory_order_acquire);
}

struct partition *topic_partition(struct topic *t, int32_t index)
{
    return index >= 0 && index < topic_partitions(t) ? topic_partition_at(t, index) : NULL;
}

struct partition *topic_partition_for(struct topic *t, struct slice key)
{
    int32_t n = topic_partitions(t);
    uint32_t turn;

    if (n == 1)
        return topic_partition_at(t, 0);
    if (!slice_is_null(key))
        return topic_partition_at(t, murmur2_partition(key, n));
    turn = atomic_fetch_add_explicit(&t->sticky, 1, memory_order_relaxed) / STICKY_BLOCK;
    return topic_partition_at(t, (int32_t)(turn % (uint32_t)n));
}

/* ---- the maps
 * -------------------------------------------------------------------------------------------- */

static uint32_t name_hash(const struct broker *b, struct slice name)
{
    return (uint32_t)siphash64(b->hash_seed, name.ptr, name.len);
}

static struct topic *name_find(struct broker *b, struct slice name)
{
    struct topics *ts = &b->topics;
    struct topic *t = ts->names[name_hash(b, name) & (ts->names_cap - 1)];

    while (t && !slice_eq(t->by_name.key, name))
        t = t->name_next;
    return t;
}

static struct topic *id_find(struct broker *b, uint32_t id)
{
    struct topic *t = b->topics.ids[id & (b->topics.names_cap - 1)];

    while (t && t->id != id)
        t = t->id_next;
    return t;
}

static void maps_put(struct broker *b, struct topic *t)
{
    struct topics *ts = &b->topics;
    uint32_t h = name_hash(b, t->by_name.key) & (ts->names_cap - 1);
    uint32_t i = t->id & (ts->names_cap - 1);

    t->name_next = ts->names[h];
    ts->names[h] = t;
    t->id_next = ts->ids[i];
    ts->ids[i] = t;
}

static void maps_grow(struct broker *b)
{
    struct topics *ts = &b->topics;
    struct topic **old = ts->names;
    uint32_t i, n = ts->names_cap;

    free(ts->ids);
    ts->names_cap = n * 2;
    ts->names = xcalloc(ts->names_cap, sizeof *ts->names);
    ts->ids = xcalloc(ts->names_cap, sizeof *ts->ids);
    for (i = 0; i < n; i++)
        while (old[i]) {
            struct topic *t = old[i];

            old[i] = t->name_next;
            maps_put(b, t);
        }
    free(old);
}

static void uid_put(struct topics *ts, struct partition *p)
{
    struct partition **at = &ts->uids[p->uid & (ts->uids_cap - 1)];

    p->uid_next = *at;
    *at = p;
}

static void uids_add(struct topics *ts, struct partition *p)
{
    struct partition **old = ts->uids;
    uint32_t i, n = ts->uids_cap;

    if (ts->uids_n == n) {
        ts->uids_cap = n * 2;
        ts->uids = xcalloc(ts->uids_cap, sizeof *ts->uids);
        for (i = 0; i < n; i++)
            while (old[i]) {
                struct partition *q = old[i];

                old[i] = q->uid_next;
                uid_put(ts, q);
            }
        free(old);
    }
    uid_put(ts, p);
    ts->uids_n++;
}

static void uids_remove(struct topics *ts, struct partition *p)
{
    struct partition **at = &ts->uids[p->uid & (ts->uids_cap - 1)];

    while (*at != p) {
        ASSERT(*at != NULL);
        at = &(*at)->uid_next;
    }
    *at = p->uid_next;
    ts->uids_n--;
}

struct partition *topics_partition_uid(struct broker *b, uint32_t uid)
{
    struct partition *p;

    io_mutex_lock(&b->topics_lock);
    p = b->topics.uids[uid & (b->topics.uids_cap - 1)];
    while (p && p->uid != uid)
        p = p->uid_next;
    io_mutex_unlock(&b->topics_lock);
    return p;
}

/* Takes over the caller's reference. */
static void topic_publish(struct broker *b, struct topic *t, int32_t partitions)
{
    struct topics *ts = &b->topics;
    int32_t i;

    if (ts->by_name.n == ts->names_cap)
        maps_grow(b);
    maps_put(b, t);
    ordered_insert(&ts->by_name, &t->by_name);
    for (i = 0; i < partitions; i++)
        uids_add(ts, topic_partition_at(t, i));
    atomic_store_explicit(&t->partitions_n, partitions, memory_order_release);
    if (t->id >= ts->next_id)
        ts->next_id = t->id + 1;
}

static void uid_used(struct topics *ts, uint32_t first, uint32_t n)
{
    if (n && first + n > ts->next_uid)
        ts->next_uid = first + n;
}

/* Out of the maps; the catalogue's reference becomes the caller's. */
static void topic_unpublish(struct broker *b, struct topic *t)
{
    struct topics *ts = &b->topics;
    struct topic **at;
    int32_t i;

    for (at = &ts->names[name_hash(b, t->by_name.key) & (ts->names_cap - 1)]; *at != t;
         at = &(*at)->name_next)
        ASSERT(*at != NULL);
    *at = t->name_next;
    for (at = &ts->ids[t->id & (ts->names_cap - 1)]; *at != t; at = &(*at)->id_next)
        ASSERT(*at != NULL);
    *at = t->id_next;
    ordered_remove(&ts->by_name, &t->by_name);
    for (i = 0; i < topic_partitions(t); i++) {
        uids_remove(ts, topic_partition_at(t, i));
        plog_delete(topic_partition_at(t, i)->log);
    }
    atomic_store(&t->deleting, true);
    atomic_store(&t->deleted, true);
}

/* To be saved with the next checkpoint. The dirty and sent lists hold a reference. */
static void topic_dirty(struct topic *t)
{
    struct topics *ts = &t->broker->topics;

    if (t->dirty == DIRTY)
        return;
    if (t->dirty == SENT)
        list_remove(&t->dirty_link);
    else
        topic_ref(t);
    t->dirty = DIRTY;
    list_push_back(&ts->dirty, &t->dirty_link);
}

void topics_init(struct broker *b)
{
    struct topics *ts = &b->topics;

    ordered_init(&ts->by_name, b->hash_seed_word);
    ordered_init(&ts->creating, b->hash_seed_word + 1);
    ts->names_cap = ts->uids_cap = 64;
    ts->names = xcalloc(ts->names_cap, sizeof *ts->names);
    ts->ids = xcalloc(ts->names_cap, sizeof *ts->ids);
    ts->uids = xcalloc(ts->uids_cap, sizeof *ts->uids);
    ts->next_id = ts->next_uid = 1;
    list_init(&ts->dirty);
    list_init(&ts->sent);
}

void topics_fini(struct broker *b)
{
    struct topics *ts = &b->topics;
    struct list_head *lists[] = {&ts->dirty, &ts->sent};
    struct ordered_node *n;
    struct topic *t;
    uint32_t i;

    for (i = 0; i < 2; i++)
        while (!list_empty(lists[i])) {
            t = list_entry(list_pop_front(lists[i]), struct topic, dirty_link);
            t->dirty = CLEAN;
            topic_unref(&t);
        }
    for (i = 0; i < ts->trims_n; i++)
        topic_unref(&ts->trims[i].topic);
    free(ts->trims);
    while ((n = ts->by_name.root)) {
        ordered_remove(&ts->by_name, n);
        t = ORDERED_ENTRY(n, struct topic, by_name);
        ASSERT(atomic_load(&t->refs) == 1);
        topic_unref(&t);
    }
    free(ts->names);
    free(ts->ids);
    free(ts->uids);
}

/* ---- finding
 * ------------------------------------------------------------------------------------------------
 */

struct topic *topic_find(struct broker *b, struct slice name)
{
    struct topic *t;

    io_mutex_lock(&b->topics_lock);
    t = name_find(b, name);
    if (t)
        topic_ref(t);
    io_mutex_unlock(&b->topics_lock);
    return t;
}

struct topic *topic_find_id(struct broker *b, uint32_t id)
{
    struct topic *t;

    io_mutex_lock(&b->topics_lock);
    t = id_find(b, id);
    if (t)
        topic_ref(t);
    io_mutex_unlock(&b->topics_lock);
    return t;
}

size_t topic_count(struct broker *b)
{
    size_t n;

    io_mutex_lock(&b->topics_lock);
    n = b->topics.by_name.n;
    io_mutex_unlock(&b->topics_lock);
    return n;
}

size_t topics_walk(struct broker *b, uint32_t *at, uint32_t probes, struct topic **out, size_t max)
{
    size_t n = 0;

    io_mutex_lock(&b->topics_lock);
    for (; probes && n < max && *at < b->topics.next_id; probes--, ++*at) {
        struct topic *t = id_find(b, *at);

        if (t)
            out[n++] = topic_ref(t);
    }
    if (*at >= b->topics.next_id)
        *at = 0;
    io_mutex_unlock(&b->topics_lock);
    return n;
}

#define LIST_STEP 1024u /* names looked at with the lock held */

/* Up to LIST_STEP names from the one after *at on; false at the end. topics_lock held. */
static bool list_step(struct topics *ts, struct slice prefix, const char *pattern,
                      struct ordered_node **at, struct topic **out, size_t max, size_t *n)
{
    unsigned i;

    for (i = 0; i < LIST_STEP && *at && *n < max; i++) {
        struct topic *t = ORDERED_ENTRY(*at, struct topic, by_name);

        if (!slice_has_prefix(t->by_name.key, prefix))
            return false;
        if (!pattern || glob_match(pattern, t->name))
            out[(*n)++] = topic_ref(t);
        *at = ordered_after(&ts->by_name, t->by_name.key);
    }
    return *at && *n < max;
}

size_t topic_list(struct broker *b, struct slice after, const char *pattern, struct topic **out,
                  size_t max)
{
    struct topics *ts = &b->topics;
    struct slice prefix = slice_of(pattern ? pattern : "", pattern ? strcspn(pattern, "*?") : 0);
    char next[TOPIC_NAME_MAX + 1];
    struct ordered_node *at;
    size_t n = 0;
    bool more;

    io_mutex_lock(&b->topics_lock);
    at = ordered_after(&ts->by_name, after);
    if (prefix.len && ordered_compare(after, prefix) < 0) {
        at = ordered_find(&ts->by_name, prefix);
        at = at ? at : ordered_after(&ts->by_name, prefix);
    }
    while ((more = list_step(ts, prefix, pattern, &at, out, max, &n))) {
        size_t len = at->key.len; /* let others in, then go on from this name */

        memcpy(next, at->key.ptr, len);
        io_mutex_unlock(&b->topics_lock);
        io_mutex_lock(&b->topics_lock);
        at = ordered_find(&ts->by_name, slice_of(next, len));
        at = at ? at : ordered_after(&ts->by_name, slice_of(next, len));
    }
    io_mutex_unlock(&b->topics_lock);
    return n;
}

/* ---- creating
 * ---------------------------------------------------------------------------------------------------
 */

/* Somebody who waits for a creation that another caller began. */
struct creation_wait {
    struct creation_wait *next;
    broker_done_fn done;
    void *arg;
};

struct creation {
    struct ordered_node node; /* in topics.creating; the key is the topic's name */
    struct creation_wait *waits;
    int32_t partitions;
};

static void creation_end(struct broker *b, struct creation *cr, enum err e)
{
    struct creation_wait *w, *next;
    struct errinfo info = {0};

    if (e)
        broker_write_error(b, e, &info);
    for (w = cr->waits; w; w = next) {
        next = w->next;
        w->done(w->arg, e, &info);
        free(w);
    }
    free(cr);
}

static void create_commit(struct change *c, enum err e)
{
    struct creation *cr = c->extra;
    struct broker *b = c->b;

    io_mutex_lock(&b->topics_lock);
    ordered_remove(&b->topics.creating, &cr->node);
    if (!e) {
        topic_publish(b, topic_ref(c->topic), cr->partitions);
        topic_dirty(c->topic);
    }
    io_mutex_unlock(&b->topics_lock);
    if (!e)
        broker_topic_changed(b, c->topic);
    creation_end(b, cr, e);
}

static enum err create_check(struct broker *b, struct slice name, int32_t partitions,
                             const struct topic_conf *conf, struct errinfo *info)
{
    if (b->conf.read_only)
        return errinfo_set(info, ERR_READ_ONLY, "the data directory was opened read-only");
    if (!topic_name_valid(name))
        return errinfo_set(info, ERR_TOPIC_NAME,
                           "\"%.*s\" is not a topic name: 1 to %d of A-Z a-z 0-9 . _ - and "
                           "neither . nor ..",
                           (int)(name.len < 100 ? name.len : 100), (const char *)name.ptr,
                           (int)TOPIC_NAME_MAX);
    if (partitions < 0 || partitions > (int32_t)LIMIT_PARTITIONS)
        return errinfo_set(info, ERR_INVALID, "a topic has 1 to %d partitions, not %d",
                           (int)LIMIT_PARTITIONS, (int)partitions);
    return topic_conf_check(conf, info);
}

/* Reserves the name and numbers. ERR_TOPIC_EXISTS when it is there or being made; in the latter
 * case *pending is the creation. topics_lock held. */
static enum err create_reserve(struct broker *b, struct slice name, uint32_t partitions,
                               uint32_t *id, uint32_t *uid, struct creation **pending,
                               struct errinfo *info)
{
    struct topics *ts = &b->topics;
    struct ordered_node *n = ordered_find(&ts->creating, name);

    *pending = n ? ORDERED_ENTRY(n, struct creation, node) : NULL;
    if (n || name_find(b, name))
        return errinfo_set(info, ERR_TOPIC_EXISTS, "the topic \"%.*s\" exists already",
                           (int)name.len, (const char *)name.ptr);
    if (ts->by_name.n + ts->creating.n >= b->conf.topics_max)
        return errinfo_set(info, ERR_LIMIT, "there are %u topics, the most that is allowed",
                           (unsigned)b->conf.topics_max);
    if (ts->next_id == UINT32_MAX || ts->next_uid > UINT32_MAX - partitions)
        return errinfo_set(info, ERR_LIMIT, "all topic and partition numbers are used up");
    *id = ts->next_id++;
    *uid = ts->next_uid;
    ts->next_uid += partitions;
    return ERR_OK;
}

static void create_write(struct change *c, const struct topic_conf *conf, uint32_t uid,
                         uint32_t partitions)
{
    struct entry_topic_create en = {.id = c->topic->id,
                                    .first_uid = uid,
                                    .partitions = partitions,
                                    .created_ms = c->topic->created_ms,
                                    .name = c->topic->by_name.key};

    memcpy(en.uuid, c->topic->uuid, 16);
    topic_conf_diff(&c->b->defaults, conf, &en.conf);
    c->entry.data.len = entry_topic_create_write(c->data, &en);
}

/* RFC 9562 version 4. */
static void uuid_make(struct broker *b, uint8_t uuid[16])
{
    io_random(b->conf.io, uuid, 16);
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

/* wait: join a creation that is on its way instead of ERR_TOPIC_EXISTS. */
static enum err create(struct broker *b, struct slice name, int32_t partitions,
                       const struct topic_conf *conf, bool block, bool join, broker_done_fn done,
                       void *arg, struct errinfo *info)
{
    uint32_t n = (uint32_t)(partitions ? partitions : b->conf.partitions_default);
    struct creation *cr, *pending;
    struct creation_wait *w;
    struct topic *t;
    uint32_t id = 0, uid = 0;
    uint8_t uuid[16];
    struct change *c;
    enum err e;

    conf = conf ? conf : &b->defaults;
    if ((e = create_check(b, name, partitions, conf, info)))
        return e;
    uuid_make(b, uuid);
    cr = xcalloc(1, sizeof *cr);
    c = change_new(b, ENTRY_TOPIC_CREATE, ENTRY_SMALL_MAX, done, arg);
    io_mutex_lock(&b->topics_lock);
    e = create_reserve(b, name, n, &id, &uid, &pending, info);
    if (!e) {
        c->topic = topic_new(b, id, name, uuid, journal_wall_ms(b->journal), conf);
        cr->node.key = c->topic->by_name.key;
        ordered_insert(&b->topics.creating, &cr->node);
    } else if (pending && join) {
        w = xmalloc(sizeof *w);
        *w = (struct creation_wait){pending->waits, done, arg};
        pending->waits = w;
        e = ERR_AGAIN;
    }
    io_mutex_unlock(&b->topics_lock);
    if (e) {
        free(cr);
        change_free(c);
        return e == ERR_AGAIN ? ERR_OK : e;
    }
    c->topic->partitions_first = cr->partitions = (int32_t)n;
    partitions_make(c->topic, 0, (int32_t)n, uid);
    create_write(c, conf, uid, n);
    c->commit = create_commit;
    c->extra = cr;
    t = topic_ref(c->topic); /* the name must outlive the change */
    e = change_submit(c, block, info);
    if (e) {
        io_mutex_lock(&b->topics_lock);
        ordered_remove(&b->topics.creating, &cr->node);
        io_mutex_unlock(&b->topics_lock);
        creation_end(b, cr, e);
    }
    topic_unref(&t);
    return e;
}

enum err topic_create(struct broker *b, struct slice name, int32_t partitions,
                      const struct topic_conf *conf, broker_done_fn done, void *arg,
                      struct errinfo *info)
{
    return create(b, name, partitions, conf, false, false, done, arg, info);
}

enum err topic_create_wait(struct broker *b, struct slice name, int32_t partitions,
                           const struct topic_conf *conf, struct errinfo *info)
{
    struct sync_wait w;
    enum err e;

    sync_wait_init(&w, b);
    e = create(b, name, partitions, conf, true, false, sync_wait_done, &w, info);
    return e ? sync_wait_drop(&w, e) : sync_wait_end(&w, info);
}

static enum err ensure(struct broker *b, struct slice name, bool block, struct topic **out,
                       broker_done_fn done, void *arg, struct errinfo *info)
{
    enum err e;

    for (;;) {
        if ((*out = topic_find(b, name)))
            return ERR_OK;
        if (!b->conf.topics_auto_create)
            return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "there is no topic \"%.*s\"",
                               (int)(name.len < 200 ? name.len : 200), (const char *)name.ptr);
        e = create(b, name, 0, NULL, block, true, done, arg, info);
        if (e != ERR_TOPIC_EXISTS) /* it came into being since we looked */
            return e;
    }
}

enum err topic_find_or_create(struct broker *b, struct slice name, struct topic **out,
                              broker_done_fn done, void *arg, struct errinfo *info)
{
    return ensure(b, name, false, out, done, arg, info);
}

enum err topic_find_or_create_wait(struct broker *b, struct slice name, struct topic **out,
                                   struct errinfo *info)
{
    struct sync_wait w;
    enum err e;

    sync_wait_init(&w, b);
    e = ensure(b, name, true, out, sync_wait_done, &w, info);
    if (e || *out)
        return sync_wait_drop(&w, e);
    if ((e = sync_wait_end(&w, info)))
        return e;
    *out = topic_find(b, name);
    return *out ? ERR_OK : errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the topic was deleted at once");
}

/* ---- altering
 * ------------------------------------------------------------------------------------------------------
 */

struct alteration {
    int32_t partitions;
    bool has_conf;
    struct topic_conf conf;
};

static enum err alive_check(struct change *c)
{
    return atomic_load(&c->topic->deleting) ? ERR_TOPIC_NOT_FOUND : ERR_OK;
}

static void alter_commit(struct change *c, enum err e)
{
    struct alteration *al = c->extra;
    struct topic *t = c->topic;
    struct broker *b = c->b;
    int32_t i, before = topic_partitions(t);

    io_mutex_lock(&b->topics_lock);
    t->changing = false;
    if (!e && !t->deleted) {
        if (al->has_conf)
            conf_install(t, &al->conf);
        for (i = before; i < al->partitions; i++)
            uids_add(&b->topics, topic_partition_at(t, i));
        if (al->partitions > before) {
            atomic_store(&t->scattered, true);
            atomic_store(&t->scattered_saved, true);
            atomic_store_explicit(&t->partitions_n, al->partitions, memory_order_release);
        }
        topic_dirty(t);
    }
    io_mutex_unlock(&b->topics_lock);
    if (e) /* partitions made but not used; a later alter makes others */
        for (i = before; i < al->partitions; i++)
            plog_free(&topic_partition_at(t, i)->log);
    if (!e)
        broker_topic_changed(b, t);
    free(al);
}

static enum err alter_reserve(struct topic *t, int32_t *partitions, uint32_t *uid,
                              struct errinfo *info)
{
    struct topics *ts = &t->broker->topics;
    int32_t now = topic_partitions(t);

    if (t->changing)
        return errinfo_set(info, ERR_CONFLICT, "the topic \"%s\" is being altered already",
                           t->name);
    *partitions = *partitions ? *partitions : now;
    if (*partitions < now)
        return errinfo_set(info, ERR_INVALID, "a topic cannot have fewer partitions than now (%d)",
                           (int)now);
    if (*partitions > (int32_t)LIMIT_PARTITIONS)
        return errinfo_set(info, ERR_INVALID, "a topic has 1 to %d partitions",
                           (int)LIMIT_PARTITIONS);
    if (ts->next_uid > UINT32_MAX - (uint32_t)(*partitions - now))
        return errinfo_set(info, ERR_LIMIT, "all partition numbers are used up");
    *uid = *partitions > now ? ts->next_uid : 0;
    ts->next_uid += (uint32_t)(*partitions - now);
    t->changing = true;
    return ERR_OK;
}

static struct topic *find_or_say(struct broker *b, struct slice name, struct errinfo *info)
{
    struct topic *t = topic_find(b, name);

    if (!t)
        errinfo_set(info, ERR_TOPIC_NOT_FOUND, "there is no topic \"%.*s\"",
                    (int)(name.len < 200 ? name.len : 200), (const char *)name.ptr);
    return t;
}

static void alter_undo(struct topic *t, struct alteration *al)
{
    int32_t i;

    for (i = topic_partitions(t); i < al->partitions; i++)
        plog_free(&topic_partition_at(t, i)->log);
    io_mutex_lock(&t->broker->topics_lock);
    t->changing = false;
    io_mutex_unlock(&t->broker->topics_lock);
    free(al);
}

static enum err alter(struct broker *b, struct slice name, int32_t partitions,
                      const struct topic_conf *conf, bool block, broker_done_fn done, void *arg,
                      struct errinfo *info)
{
    struct entry_topic_alter en = {.has_conf = conf != NULL};
    struct alteration *al;
    struct change *c;
    struct topic *t;
    enum err e = conf ? topic_conf_check(conf, info) : ERR_OK;

    if (!e && partitions < 0)
        e = errinfo_set(info, ERR_INVALID, "a topic has 1 to %d partitions", (int)LIMIT_PARTITIONS);
    if (e)
        return e;
    if (!(t = find_or_say(b, name, info)))
        return ERR_TOPIC_NOT_FOUND;
    io_mutex_lock(&b->topics_lock);
    e = alter_reserve(t, &partitions, &en.first_uid, info);
    io_mutex_unlock(&b->topics_lock);
    if (e) {
        topic_unref(&t);
        return e;
    }
    en.id = t->id;
    en.partitions = (uint32_t)partitions;
    en.added = (uint32_t)(partitions - topic_partitions(t));
    al = xcalloc(1, sizeof *al);
    al->partitions = partitions;
    if ((al->has_conf = conf != NULL)) {
        al->conf = *conf;
        topic_conf_diff(&b->defaults, conf, &en.conf);
    }
    partitions_make(t, topic_partitions(t), (int32_t)en.added, en.first_uid);
    c = change_new(b, ENTRY_TOPIC_ALTER, ENTRY_SMALL_MAX, done, arg);
    c->entry.data.len = entry_topic_alter_write(c->data, &en);
    c->topic = topic_ref(t);
    c->check = alive_check;
    c->commit = alter_commit;
    c->extra = al;
    if ((e = change_submit(c, block, info)))
        alter_undo(t, al);
    topic_unref(&t);
    return e;
}

enum err topic_alter(struct broker *b, struct slice name, int32_t partitions,
                     const struct topic_conf *conf, broker_done_fn done, void *arg,
                     struct errinfo *info)
{
    return alter(b, name, partitions, conf, false, done, arg, info);
}

enum err topic_alter_wait(struct broker *b, struct slice name, int32_t partitions,
                          const struct topic_conf *conf, struct errinfo *info)
{
    struct sync_wait w;
    enum err e;

    sync_wait_init(&w, b);
    e = alter(b, name, partitions, conf, true, sync_wait_done, &w, info);
    return e ? sync_wait_drop(&w, e) : sync_wait_end(&w, info);
}

void topic_scattered_set(struct topic *t)
{
    struct broker *b = t->broker;

    atomic_store(&t->scattered, true);
    io_mutex_lock(&b->topics_lock);
    if (!atomic_exchange(&t->scattered_saved, true) && !t->deleted)
        topic_dirty(t);
    io_mutex_unlock(&b->topics_lock);
}

/* ---- deleting
 * ---------------------------------------------------------------------------------------------------------
 */

/* Journal lock. */
static enum err delete_check(struct change *c)
{
    if (atomic_exchange(&c->topic->deleting, true))
        return ERR_TOPIC_NOT_FOUND;
    return ERR_OK;
}

static void delete_commit(struct change *c, enum err e)
{
    struct broker *b = c->b;
    struct topic *t = c->topic, *held = t;

    if (e) {
        atomic_store(&t->deleting, false);
        return;
    }
    io_mutex_lock(&b->topics_lock);
    topic_unpublish(b, t);
    topic_dirty(t);
    io_mutex_unlock(&b->topics_lock);
    broker_topic_changed(b, t);
    topic_unref(&held); /* the catalogue's; the change has its own */
}

static enum err delete (struct broker *b, struct slice name, bool block, broker_done_fn done,
                        void *arg, struct errinfo *info) {
    struct topic *t = find_or_say(b, name, info); struct change * c;

    if (!t) return ERR_TOPIC_NOT_FOUND;
    c = change_new(b, ENTRY_TOPIC_DELETE, ENTRY_SMALL_MAX, done, arg);
    c->entry.data.len = entry_topic_delete_write(c->data, t->id);
    c->topic = t;
    c->check = delete_check;
    c->commit = delete_commit;
    return change_submit(c, block, info);
}

enum err topic_delete(struct broker *b, struct slice name, broker_done_fn done, void *arg,
                      struct errinfo *info)
{
    return delete (b, name, false, done, arg, info);
}

enum err topic_delete_wait(struct broker *b, struct slice name, struct errinfo *info)
{
    struct sync_wait w;
    enum err e;

    sync_wait_init(&w, b);
    e = delete (b, name, true, sync_wait_done, &w, info);
    return e ? sync_wait_drop(&w, e) : sync_wait_end(&w, info);
}

/* ---- trimming
 * ------------------------------------------------------------------------------------------------------------
 */

/* topics_lock held. Two trims of a partition become one unless a checkpoint comes between them. */
static void trim_note(struct partition *p, int64_t start, uint64_t ticket)
{
    struct topics *ts = &p->topic->broker->topics;
    uint64_t saved = CHECKPOINT_TICKET(atomic_load(&p->topic->broker->checkpoint));
    uint64_t at = p->trim_at;
    struct trim *tr;

    p->start_saved = start;
    if (at > ts->trims_base) {
        tr = &ts->trims[at - 1 - ts->trims_base];
        if ((tr->ticket <= saved) == (ticket <= saved)) {
            tr->start = start;
            tr->ticket = ticket;
            return;
        }
    }
    if (ts->trims_n == ts->trims_cap) {
        ts->trims_cap = ts->trims_cap ? ts->trims_cap * 2 : 64;
        ts->trims = xrealloc(ts->trims, ts->trims_cap * sizeof *ts->trims);
    }
    ts->trims[ts->trims_n++] = (struct trim){topic_ref(p->topic), p->index, start, ticket};
    p->trim_at = ts->trims_base + ts->trims_n;
}

void partition_trimmed(struct partition *p, int64_t start, uint64_t ticket)
{
    struct broker *b = p->topic->broker;

    io_mutex_lock(&b->topics_lock);
    if (start > p->start_saved)
        trim_note(p, start, ticket);
    io_mutex_unlock(&b->topics_lock);
    atomic_fetch_add_explicit(&b->st_trims, 1, memory_order_relaxed);
}

static void trim_commit(struct change *c, enum err e)
{
    if (!e)
        partition_trimmed(plog_owner(c->entry.plog), (int64_t)le64_load(c->data), c->ticket);
}

static enum err trim(struct partition *p, int64_t offset, bool block, broker_done_fn done,
                     void *arg, struct errinfo *info)
{
    struct broker *b = p->topic->broker;
    struct plog_info now;
    struct change *c;

    plog_info_get(p->log, &now);
    if (offset == -1)
        offset = now.end_offset;
    if (offset < 0 || offset > now.end_offset)
        return errinfo_set(info, ERR_OFFSET_RANGE,
                           "offset %" PRId64 " is not in the log (%" PRId64 " to %" PRId64 ")",
                           offset, now.start_offset, now.end_offset);
    if (topic_deleted(p->topic))
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the topic was deleted");
    if (offset <= now.start_offset) {
        struct errinfo none = {0};

        if (done)
            done(arg, ERR_OK, &none);
        return ERR_OK;
    }
    c = change_new(b, ENTRY_LOG_START, 8, done, arg);
    le64_store(c->data, (uint64_t)offset);
    c->entry.data.len = 8;
    c->entry.plog = p->log;
    c->topic = topic_ref(p->topic);
    c->check = alive_check;
    c->commit = trim_commit;
    return change_submit(c, block, info);
}

enum err partition_trim(struct partition *p, int64_t offset, broker_done_fn done, void *arg,
                        struct errinfo *info)
{
    return trim(p, offset, false, done, arg, info);
}

enum err partition_trim_wait(struct partition *p, int64_t offset, struct errinfo *info)
{
    struct sync_wait w;
    enum err e;

    sync_wait_init(&w, p->topic->broker);
    e = trim(p, offset, true, sync_wait_done, &w, info);
    return e ? sync_wait_drop(&w, e) : sync_wait_end(&w, info);
}

/* ---- recovery
 * --------------------------------------------------------------------------------------------------------------
 */

static enum err apply_create(struct broker *b, struct slice data)
{
    struct entry_topic_create en;
    struct topic_conf conf;
    struct topic *t;
    enum err e = entry_topic_create_read(data, &en);

    if (!e)
        e = topic_conf_items(&b->defaults, &en.conf, &conf);
    if (e)
        return e;
    uid_used(&b->topics, en.first_uid, en.partitions);
    if (en.id >= b->topics.next_id)
        b->topics.next_id = en.id + 1;
    if (id_find(b, en.id))
        return ERR_OK; /* the checkpoint had it */
    if (name_find(b, en.name))
        return ERR_CORRUPT;
    t = topic_new(b, en.id, en.name, en.uuid, en.created_ms, &conf);
    t->partitions_first = (int32_t)en.partitions;
    partitions_make(t, 0, (int32_t)en.partitions, en.first_uid);
    topic_publish(b, t, (int32_t)en.partitions);
    topic_dirty(t);
    return ERR_OK;
}

static enum err apply_alter(struct broker *b, struct slice data)
{
    struct entry_topic_alter en;
    struct topic_conf conf = {0};
    struct topic *t;
    int32_t n, i;
    enum err e = entry_topic_alter_read(data, &en);

    if (!e && en.has_conf)
        e = topic_conf_items(&b->defaults, &en.conf, &conf);
    if (e)
        return e;
    uid_used(&b->topics, en.first_uid, en.added);
    if (!(t = id_find(b, en.id)))
        return ERR_OK; /* deleted by now */
    if (en.has_conf)
        conf_install(t, &conf);
    n = topic_partitions(t);
    if ((int32_t)en.partitions > n) {
        if ((int32_t)(en.partitions - en.added) != n)
            return ERR_CORRUPT;
        partitions_make(t, n, (int32_t)en.added, en.first_uid);
        for (i = n; i < (int32_t)en.partitions; i++)
            uids_add(&b->topics, topic_partition_at(t, i));
        atomic_store(&t->scattered, true);
        atomic_store(&t->scattered_saved, true);
        atomic_store(&t->partitions_n, (int32_t)en.partitions);
    }
    topic_dirty(t);
    return ERR_OK;
}

static enum err apply_delete(struct broker *b, struct slice data)
{
    struct topic *t;
    uint32_t id;
    enum err e = entry_topic_delete_read(data, &id);

    if (e || !(t = id_find(b, id)))
        return e;
    topic_unpublish(b, t);
    topic_dirty(t);
    topic_unref(&t);
    return ERR_OK;
}

static enum err apply_flags(struct broker *b, struct slice data)
{
    struct entry_topic_flags en;
    struct topic *t;
    enum err e = entry_topic_flags_read(data, &en);

    if (e || !(t = id_find(b, en.id)))
        return e;
    if (en.flags & TOPIC_SCATTERED) {
        atomic_store(&t->scattered, true);
        atomic_store(&t->scattered_saved, true);
        topic_dirty(t);
    }
    return ERR_OK;
}

enum err topics_apply(struct broker *b, uint8_t type, struct slice data, struct errinfo *info)
{
    enum err e;

    io_mutex_lock(&b->topics_lock);
    switch (type) {
    case ENTRY_TOPIC_CREATE:
        e = apply_create(b, data);
        break;
    case ENTRY_TOPIC_ALTER:
        e = apply_alter(b, data);
        break;
    case ENTRY_TOPIC_DELETE:
        e = apply_delete(b, data);
        break;
    case ENTRY_TOPIC_FLAGS:
        e = apply_flags(b, data);
        break;
    default:
        e = ERR_CORRUPT;
    }
    io_mutex_unlock(&b->topics_lock);
    return e ? errinfo_set(info, e, "a topic entry (type %u) is damaged", type) : ERR_OK;
}

void topics_recovered(struct broker *b)
{
    struct ordered_node *n;
    struct plog_info now;
    int32_t i;

    io_mutex_lock(&b->topics_lock);
    for (n = ordered_first(&b->topics.by_name); n; n = ordered_after(&b->topics.by_name, n->key)) {
        struct topic *t = ORDERED_ENTRY(n, struct topic, by_name);

        for (i = 0; i < topic_partitions(t); i++) {
            struct partition *p = topic_partition_at(t, i);

            plog_info_get(p->log, &now);
            if (now.start_offset > p->start_saved)
                trim_note(p, now.start_offset, 0);
        }
    }
    io_mutex_unlock(&b->topics_lock);
}

/* ---- the checkpoint
 * ------------------------------------------------------------------------------------------------------------
 */

static enum err bad_row(struct errinfo *info, const char *table, int64_t id)
{
    return errinfo_set(info, ERR_CORRUPT,
                       "checkpoint.db: a row of %s (topic %" PRId64 ") is damaged; run "
                       "`weir repair`",
                       table, id);
}

/* One partition's row, for a topic whose rows come in order of partition. */
static enum err load_partition(struct broker *b, struct topic *t, int32_t index,
                               struct sqlite3_stmt *st, struct errinfo *info)
{
    int64_t uid = sqlite3_column_int64(st, 2), start = sqlite3_column_int64(st, 3);
    struct partition *p;
    unsigned k = chunk_of(index);

    if (sqlite3_column_int64(st, 1) != index || uid <= 0 || uid >= UINT32_MAX || start < 0)
        return bad_row(info, "partitions", t->id);
    if (!t->chunk[k])
        t->chunk[k] = xcalloc((size_t)1 << k, sizeof *t->chunk[k]);
    p = topic_partition_at(t, index);
    p->topic = t;
    p->index = index;
    p->uid = (uint32_t)uid;
    p->start_saved = start;
    p->log = plog_new(b->journal, p->uid, start, p);
    uid_used(&b->topics, p->uid, 1);
    return ERR_OK;
}

static enum err load_topic(struct broker *b, struct sqlite3_stmt *st, struct sqlite3_stmt *parts,
                           struct errinfo *info)
{
    int64_t id = sqlite3_column_int64(st, 0), n = sqlite3_column_int64(st, 4);
    int64_t first = sqlite3_column_int64(st, 5), flags = sqlite3_column_int64(st, 6);
    struct slice name = state_column(st, 1), uuid = state_column(st, 2);
    struct topic_conf conf = b->defaults;
    struct topic *t;
    enum err e;
    int32_t i;

    if (id <= 0 || id >= UINT32_MAX || n <= 0 || n > (int64_t)LIMIT_PARTITIONS || first <= 0 ||
        first > n || (flags & ~(int64_t)TOPIC_FLAGS_ALL) || !topic_name_valid(name) ||
        uuid.len != 16 || name_find(b, name))
        return bad_row(info, "topics", id);
    e = topic_conf_parse(&b->defaults, state_column(st, 7), &conf, info);
    if (e)
        return e;
    t = topic_new(b, (uint32_t)id, name, uuid.ptr, sqlite3_column_int64(st, 3), &conf);
    t->partitions_first = (int32_t)first;
    atomic_store(&t->scattered, flags & TOPIC_SCATTERED || n > first);
    atomic_store(&t->scattered_saved, atomic_load(&t->scattered));
    for (i = 0; !e && i < (int32_t)n; i++) {
        if (sqlite3_step(parts) != SQLITE_ROW || sqlite3_column_int64(parts, 0) != id)
            e = bad_row(info, "partitions", id);
        else
            e = load_partition(b, t, i, parts, info);
    }
    if (e) {
        topic_unref(&t);
        return e;
    }
    topic_publish(b, t, (int32_t)n);
    return ERR_OK;
}

enum err topics_load(struct broker *b, struct sqlite3 *db, struct errinfo *info)
{
    struct sqlite3_stmt *st = NULL, *parts = NULL;
    int64_t next_id = 0, next_uid = 0;
    enum err e;
    int rc = SQLITE_DONE;

    e = state_prepare(db,
                      "SELECT id, name, uuid, created_at, partitions, partitions_first, flags,"
                      " conf FROM topics ORDER BY id",
                      &st, info);
    if (!e)
        e = state_prepare(db,
                          "SELECT topic, partition, uid, start_offset FROM partitions"
                          " ORDER BY topic, partition",
                          &parts, info);
    io_mutex_lock(&b->topics_lock);
    while (!e && (rc = sqlite3_step(st)) == SQLITE_ROW)
        e = load_topic(b, st, parts, info);
    io_mutex_unlock(&b->topics_lock);
    if (!e && rc != SQLITE_DONE)
        e = state_sql_err(db, rc, "reading topics", info);
    sqlite3_finalize(st);
    sqlite3_finalize(parts);
    if (!e)
        e = state_meta_get(db, "next_topic_id", &next_id, info);
    if (!e)
        e = state_meta_get(db, "next_uid", &next_uid, info);
    if (!e && (next_id < 0 || next_id > UINT32_MAX || next_uid < 0 || next_uid > UINT32_MAX))
        e = bad_row(info, "broker_meta", 0);
    if (!e && next_id > b->topics.next_id)
        b->topics.next_id = (uint32_t)next_id;
    if (!e && next_uid > b->topics.next_uid)
        b->topics.next_uid = (uint32_t)next_uid;
    return e;
}

struct topic_stmts {
    struct sqlite3_stmt *put, *del, *part_put, *part_del, *start;
};

static enum err stmts_make(struct sqlite3 *db, struct topic_stmts *s, struct errinfo *info)
{
    enum err e =
        state_prepare(db, "INSERT OR REPLACE INTO topics VALUES(?,?,?,?,?,?,?,?)", &s->put, info);

    if (!e)
        e = state_prepare(db, "DELETE FROM topics WHERE id = ?", &s->del, info);
    if (!e)
        e = state_prepare(db, "INSERT OR IGNORE INTO partitions VALUES(?,?,?,0)", &s->part_put,
                          info);
    if (!e)
        e = state_prepare(db, "DELETE FROM partitions WHERE topic = ?", &s->part_del, info);
    if (!e)
        e = state_prepare(
            db, "UPDATE partitions SET start_offset = ? WHERE topic = ? AND partition = ?",
            &s->start, info);
    return e;
}

static enum err save_deleted(struct sqlite3 *db, struct topic_stmts *s, uint32_t id,
                             struct errinfo *info)
{
    enum err e;

    sqlite3_bind_int64(s->del, 1, id);
    sqlite3_bind_int64(s->part_del, 1, id);
    e = state_step(db, s->del, info);
    return e ? e : state_step(db, s->part_del, info);
}

/* t is referenced; conf and n were copied under the lock. */
static enum err save_topic(struct sqlite3 *db, struct topic_stmts *s, struct topic *t,
                           const struct topic_conf *conf, int32_t n, struct errinfo *info)
{
    char text[TOPIC_CONF_TEXT_MAX];
    size_t len = topic_conf_text(&t->broker->defaults, conf, text);
    enum err e;
    int32_t i;

    sqlite3_bind_int64(s->put, 1, t->id);
    state_bind_text(s->put, 2, t->by_name.key);
    state_bind_blob(s->put, 3, slice_of(t->uuid, 16));
    sqlite3_bind_int64(s->put, 4, t->created_ms);
    sqlite3_bind_int64(s->put, 5, n);
    sqlite3_bind_int64(s->put, 6, t->partitions_first);
    sqlite3_bind_int64(s->put, 7, atomic_load(&t->scattered_saved) ? TOPIC_SCATTERED : 0);
    state_bind_text(s->put, 8, slice_of(text, len));
    e = state_step(db, s->put, info);
    for (i = 0; !e && i < n; i++) {
        sqlite3_bind_int64(s->part_put, 1, t->id);
        sqlite3_bind_int64(s->part_put, 2, i);
        sqlite3_bind_int64(s->part_put, 3, topic_partition_at(t, i)->uid);
        e = state_step(db, s->part_put, info);
    }
    return e;
}

static enum err save_dirty(struct broker *b, struct sqlite3 *db, struct topic_stmts *s,
                           struct errinfo *info)
{
    struct topics *ts = &b->topics;
    struct topic_conf conf;
    struct topic *t;
    enum err e = ERR_OK;
    bool deleted;
    int32_t n;

    while (!e) {
        io_mutex_lock(&b->topics_lock);
        if (list_empty(&ts->dirty)) {
            io_mutex_unlock(&b->topics_lock);
            break;
        }
        t = list_entry(list_pop_front(&ts->dirty), struct topic, dirty_link);
        t->dirty = SENT;
        list_push_back(&ts->sent, &t->dirty_link);
        topic_ref(t);
        conf = t->conf ? *t->conf : b->defaults;
        n = topic_partitions(t);
        deleted = t->deleted;
        io_mutex_unlock(&b->topics_lock);
        e = deleted ? save_deleted(db, s, t->id, info) : save_topic(db, s, t, &conf, n, info);
        topic_unref(&t);
    }
    return e;
}

static enum err save_trims(struct broker *b, struct sqlite3 *db, struct topic_stmts *s,
                           uint64_t ticket, struct errinfo *info)
{
    struct topics *ts = &b->topics;
    enum err e = ERR_OK;
    struct trim tr;
    bool more;

    for (;;) {
        io_mutex_lock(&b->topics_lock);
        more = ts->trims_sent < ts->trims_n && ts->trims[ts->trims_sent].ticket <= ticket;
        if (more)
            tr = ts->trims[ts->trims_sent++];
        io_mutex_unlock(&b->topics_lock);
        if (!more || e)
            return e;
        sqlite3_bind_int64(s->start, 1, tr.start);
        sqlite3_bind_int64(s->start, 2, tr.topic->id);
        sqlite3_bind_int64(s->start, 3, tr.partition);
        e = state_step(db, s->start, info);
    }
}

enum err topics_save(struct broker *b, struct sqlite3 *db, uint64_t ticket, struct errinfo *info)
{
    struct topic_stmts s = {0};
    int64_t next_id, next_uid;
    enum err e = stmts_make(db, &s, info);

    if (!e)
        e = save_dirty(b, db, &s, info);
    if (!e)
        e = save_trims(b, db, &s, ticket, info);
    sqlite3_finalize(s.put);
    sqlite3_finalize(s.del);
    sqlite3_finalize(s.part_put);
    sqlite3_finalize(s.part_del);
    sqlite3_finalize(s.start);
    io_mutex_lock(&b->topics_lock);
    next_id = b->topics.next_id;
    next_uid = b->topics.next_uid;
    io_mutex_unlock(&b->topics_lock);
    if (!e)
        e = state_meta_put(db, "next_topic_id", next_id, info);
    if (!e)
        e = state_meta_put(db, "next_uid", next_uid, info);
    return e;
}

/* topics_lock held. */
static void trims_drop(struct topics *ts, struct topic **gone)
{
    uint32_t i, n = ts->trims_sent;

    for (i = 0; i < n; i++) {
        struct partition *p = topic_partition_at(ts->trims[i].topic, ts->trims[i].partition);

        if (p->trim_at == ts->trims_base + i + 1)
            p->trim_at = TRIM_NONE;
        gone[i] = ts->trims[i].topic;
    }
    if (n)
        memmove(ts->trims, ts->trims + n, (ts->trims_n - n) * sizeof *ts->trims);
    ts->trims_n -= n;
    ts->trims_base += n;
    ts->trims_sent = 0;
}

void topics_saved(struct broker *b, bool committed)
{
    struct topics *ts = &b->topics;
    struct topic **gone, *t;
    uint32_t i, n;

    io_mutex_lock(&b->topics_lock);
    n = committed ? ts->trims_sent : 0;
    gone = xmalloc((n + 1) * sizeof *gone);
    if (committed)
        trims_drop(ts, gone);
    else
        ts->trims_sent = 0;
    while (!list_empty(&ts->sent)) {
        t = list_entry(list_pop_front(&ts->sent), struct topic, dirty_link);
        t->dirty = committed ? CLEAN : DIRTY;
        if (committed)
            topic_unref(&t);
        else
            list_push_back(&ts->dirty, &t->dirty_link);
    }
    io_mutex_unlock(&b->topics_lock);
    for (i = 0; i < n; i++)
        topic_unref(&gone[i]);
    free(gone);
}
