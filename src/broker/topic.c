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
#include "broker/topic_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/murmur2.h"
#include "base/siphash.h"
#include "base/topic_name.h"
#include "broker/broker_int.h"

#define STICKY_BLOCK 64u /* records with null keys that go to one partition in a row */
#define TRIM_NONE    0

/* ---- partitions ---- */

static unsigned chunk_of(int32_t index)
{
    return 31u - (unsigned)__builtin_clz((unsigned)index + 1u);
}

struct partition *topic_partition_at(struct topic *t, int32_t index)
{
    unsigned k = chunk_of(index);

    return &t->chunk[k][index + 1 - (1 << k)];
}

struct partition *topic__partition_make(struct topic *t, int32_t index, uint32_t uid, int64_t start)
{
    unsigned k = chunk_of(index);
    struct partition *p;

    ASSERT(k < PARTITION_CHUNKS);
    if (!t->chunk[k])
        t->chunk[k] = xcalloc((size_t)1 << k, sizeof *t->chunk[k]);
    p = topic_partition_at(t, index);
    p->topic = t;
    p->index = index;
    p->uid = uid;
    p->start_saved = start;
    atomic_init(&p->tier_start, -1);
    p->log = plog_new(t->broker->journal, uid, start, p);
    return p;
}

void topic__partitions_make(struct topic *t, int32_t from, int32_t n, uint32_t uid)
{
    int32_t i;

    for (i = from; i < from + n; i++)
        topic__partition_make(t, i, uid + (uint32_t)(i - from), 0);
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

/* ---- one topic ---- */

void topic__conf_install(struct topic *t, const struct topic_conf *c)
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
    atomic_store_explicit(&t->compression, topic_conf_codec(c), memory_order_relaxed);
    atomic_store_explicit(&t->recode, topic_conf_recode(c), memory_order_relaxed);
    atomic_store_explicit(&t->timestamp_type, c->timestamp_type, memory_order_relaxed);
    atomic_store_explicit(&t->cleanup, c->cleanup | (c->compaction_by_offset ? TOPIC_BY_OFFSET : 0),
                          memory_order_relaxed);
    atomic_store_explicit(&t->timestamp_after_max_ms, c->timestamp_after_max_ms,
                          memory_order_relaxed);
    atomic_store_explicit(&t->timestamp_before_max_ms, c->timestamp_before_max_ms,
                          memory_order_relaxed);
}

struct topic *topic__new(struct broker *b, uint32_t id, struct slice name, const uint8_t *uuid,
                         int64_t created_ms, const struct topic_conf *c)
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
    topic__conf_install(t, c);
    return t;
}

static void topic_free(struct topic *t)
{
    int32_t i, k;

    ASSERT(list_empty(&t->waiters) && t->dirty == CLEAN);
    for (k = 0; k < (int32_t)PARTITION_CHUNKS; k++) {
        for (i = 0; t->chunk[k] && i < 1 << k; i++) {
            ptxn_free(&t->chunk[k][i].txn);
            plog_free(&t->chunk[k][i].log);
        }
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

/* ---- the maps ---- */

static uint32_t name_hash(const struct broker *b, struct slice name)
{
    return (uint32_t)siphash64(b->hash_seed, name.ptr, name.len);
}

struct topic *topics__name_find(struct broker *b, struct slice name)
{
    struct topics *ts = &b->topics;
    struct topic *t = ts->names[name_hash(b, name) & (ts->names_cap - 1)];

    while (t && !slice_eq(t->by_name.key, name))
        t = t->name_next;
    return t;
}

struct topic *topics__id_find(struct broker *b, uint32_t id)
{
    struct topic *t = b->topics.ids[id & (b->topics.names_cap - 1)];

    while (t && t->id != id)
        t = t->id_next;
    return t;
}

/* They are random numbers of our own. */
static uint32_t uuid_hash(const uint8_t *uuid)
{
    uint32_t h;

    memcpy(&h, uuid, sizeof h);
    return h;
}

struct topic *topic_find_uuid(struct broker *b, const uint8_t *uuid)
{
    struct topics *ts = &b->topics;
    struct topic *t;

    io_mutex_lock(&b->topics_lock);
    t = ts->uuids[uuid_hash(uuid) & (ts->names_cap - 1)];
    while (t && memcmp(t->uuid, uuid, 16) != 0)
        t = t->uuid_next;
    if (t)
        topic_ref(t);
    io_mutex_unlock(&b->topics_lock);
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
    i = uuid_hash(t->uuid) & (ts->names_cap - 1);
    t->uuid_next = ts->uuids[i];
    ts->uuids[i] = t;
}

static void maps_grow(struct broker *b)
{
    struct topics *ts = &b->topics;
    struct topic **old = ts->names;
    uint32_t i, n = ts->names_cap;

    free(ts->ids);
    free(ts->uuids);
    ts->names_cap = n * 2;
    ts->names = xcalloc(ts->names_cap, sizeof *ts->names);
    ts->ids = xcalloc(ts->names_cap, sizeof *ts->ids);
    ts->uuids = xcalloc(ts->names_cap, sizeof *ts->uuids);
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

void topics__uids_add(struct topics *ts, struct partition *p)
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

struct partition *topics__uid_find(const struct topics *ts, uint32_t uid)
{
    struct partition *p = ts->uids[uid & (ts->uids_cap - 1)];

    while (p && p->uid != uid)
        p = p->uid_next;
    return p;
}

struct partition *topics_partition_uid(struct broker *b, uint32_t uid)
{
    struct partition *p;

    io_mutex_lock(&b->topics_lock);
    p = topics__uid_find(&b->topics, uid);
    io_mutex_unlock(&b->topics_lock);
    return p;
}

/* Takes over the caller's reference. */
void topics__publish(struct broker *b, struct topic *t, int32_t partitions)
{
    struct topics *ts = &b->topics;
    int32_t i;

    if (ts->by_name.n == ts->names_cap)
        maps_grow(b);
    maps_put(b, t);
    ordered_insert(&ts->by_name, &t->by_name);
    for (i = 0; i < partitions; i++)
        topics__uids_add(ts, topic_partition_at(t, i));
    atomic_store_explicit(&t->partitions_n, partitions, memory_order_release);
    if (t->id >= ts->next_id)
        ts->next_id = t->id + 1;
}

void topics__uid_used(struct topics *ts, uint32_t first, uint32_t n)
{
    if (n && first + n > ts->next_uid)
        ts->next_uid = first + n;
}

/* Out of the maps; the catalogue's reference becomes the caller's. */
void topics__unpublish(struct broker *b, struct topic *t)
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
    for (at = &ts->uuids[uuid_hash(t->uuid) & (ts->names_cap - 1)]; *at != t;
         at = &(*at)->uuid_next)
        ASSERT(*at != NULL);
    *at = t->uuid_next;
    ordered_remove(&ts->by_name, &t->by_name);
    for (i = 0; i < topic_partitions(t); i++) {
        uids_remove(ts, topic_partition_at(t, i));
        plog_delete(topic_partition_at(t, i)->log);
    }
    atomic_store(&t->deleting, true);
    atomic_store(&t->deleted, true);
}

/* To be saved with the next checkpoint. The dirty and sent lists hold a reference. */
void topic__dirty(struct topic *t)
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
    ts->uuids = xcalloc(ts->names_cap, sizeof *ts->uuids);
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
        topic_unref(&t);
    }
    free(ts->names);
    free(ts->ids);
    free(ts->uuids);
    free(ts->uids);
}

/* ---- finding ---- */

struct topic *topic_find(struct broker *b, struct slice name)
{
    struct topic *t;

    io_mutex_lock(&b->topics_lock);
    t = topics__name_find(b, name);
    if (t)
        topic_ref(t);
    io_mutex_unlock(&b->topics_lock);
    return t;
}

struct topic *topic_find_id(struct broker *b, uint32_t id)
{
    struct topic *t;

    io_mutex_lock(&b->topics_lock);
    t = topics__id_find(b, id);
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
        struct topic *t = topics__id_find(b, *at);

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

/* ---- trims -------------------------------------------------------------------------------- */

/* topics_lock held. Two trims of a partition become one unless a checkpoint comes between them. */
void partition__trim_note(struct partition *p, int64_t start, uint64_t ticket)
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
