/* Groups: shared consumption by committed offset. A group comes into being with its first commit or
 * its first generation and goes with group_delete. It owns its offsets, one a partition, ordered by
 * topic id and partition, and keeps of its members' history what must outlive them: the generation,
 * which never goes back, and texts for the published table (who was in it, who had what).
 *
 * For the checkpoint a group that changed is on the dirty list, and so is each of its offsets that
 * changed (on the group's own list), so the cost follows the change. A deleted group leaves the
 * index at once and waits on the dirty list as a tombstone; a group made anew under its name is
 * another object. Tombstones are written before live groups. An offset of a deleted topic (ids are
 * never used again) is swept by the tick. Guarded by b->items_lock. Changed on the writer thread
 * (commit), by recovery and by the sweep. */
#include "broker/group.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/mem.h"
#include "broker/broker_int.h"
#include "broker/notices.h"
#include "broker/streams.h"

struct goffset {
    struct ordered_node node; /* in group.offsets; key: topic id and partition, big-endian */
    struct list_node dirty_link;
    enum dirty dirty;
    bool gone; /* tombstone: out of the index */
    uint8_t key[8];
    int64_t offset, committed_ms;
    uint16_t metadata_len;
    char *metadata; /* NULL if empty */
};

struct group {
    struct ordered_node node;
    struct list_node dirty_link;
    enum dirty dirty;
    bool deleted;
    struct ordered offsets;
    struct list_head dirty_offsets, sent_offsets;
    int64_t updated_ms;
    int32_t generation;
    uint8_t kind;
    int64_t empty_ms;
    char *protocol_type, *leader, *members, *assignment; /* NULL: empty */
    char name[];
};

static struct group *group_of(struct ordered_node *n)
{
    return n ? ORDERED_ENTRY(n, struct group, node) : NULL;
}

static struct goffset *goffset_of(struct ordered_node *n)
{
    return n ? ORDERED_ENTRY(n, struct goffset, node) : NULL;
}

static void goffset_key(uint8_t key[8], uint32_t topic, uint32_t partition)
{
    be32_store(key, topic);
    be32_store(key + 4, partition);
}

/* What it says with its offset, counted while it is in the index. */
static void metadata_set(struct broker *b, struct goffset *o, struct slice s)
{
    b->groups.metadata_bytes += s.len;
    b->groups.metadata_bytes -= o->metadata_len;
    free(o->metadata);
    o->metadata = s.len ? xmemdup(s.ptr, s.len) : NULL;
    o->metadata_len = (uint16_t)s.len;
}

static void goffset_free(struct goffset *o)
{
    free(o->metadata);
    free(o);
}

static size_t text_bytes(const char *s)
{
    return s ? strlen(s) + 1 : 0;
}

static void text_set(char **dst, struct slice s)
{
    free(*dst);
    *dst = NULL;
    if (s.len == 0)
        return;
    *dst = xmalloc(s.len + 1);
    memcpy(*dst, s.ptr, s.len);
    (*dst)[s.len] = 0;
}

static void images_drop(struct broker *b, struct group *g)
{
    b->groups.image_bytes -= text_bytes(g->members) + text_bytes(g->assignment);
    text_set(&g->members, SLICE_NULL);
    text_set(&g->assignment, SLICE_NULL);
}

static void texts_free(struct broker *b, struct group *g)
{
    images_drop(b, g);
    text_set(&g->protocol_type, SLICE_NULL);
    text_set(&g->leader, SLICE_NULL);
}

static struct group *group_add(struct broker *b, struct slice name)
{
    struct group *g = xcalloc(1, sizeof *g + name.len + 1);

    memcpy(g->name, name.ptr, name.len);
    g->node.key = slice_of(g->name, name.len);
    ordered_init(&g->offsets, b->hash_seed_word + 4);
    list_init(&g->dirty_offsets);
    list_init(&g->sent_offsets);
    ordered_insert(&b->groups.by_name, &g->node);
    b->groups.kind_n[g->kind]++;
    return g;
}

static void kind_set(struct broker *b, struct group *g, uint8_t kind)
{
    b->groups.kind_n[g->kind]--;
    b->groups.kind_n[kind]++;
    g->kind = kind;
}

/* Tombstones in front, so that they are found at once. */
static void dirty_push(struct broker *b, struct group *g)
{
    struct list_head *d = &b->groups.dirty;

    list_insert_before(g->deleted ? d->node.next : &d->node, &g->dirty_link);
}

/* Also moves a group to its place when it became a tombstone. */
static void group_dirty(struct broker *b, struct group *g)
{
    if (g->dirty != CLEAN)
        list_remove(&g->dirty_link);
    g->dirty = DIRTY;
    dirty_push(b, g);
}

static void goffset_dirty(struct group *g, struct goffset *o)
{
    if (o->dirty == DIRTY)
        return;
    if (o->dirty == SENT)
        list_remove(&o->dirty_link);
    o->dirty = DIRTY;
    list_push_back(&g->dirty_offsets, &o->dirty_link);
}

/* Frees all offsets, tombstones too. */
static void group_empty(struct broker *b, struct group *g)
{
    struct list_head *lists[] = {&g->dirty_offsets, &g->sent_offsets};
    struct goffset *o;
    int i;

    for (i = 0; i < 2; i++)
        while (!list_empty(lists[i])) {
            o = list_entry(list_pop_front(lists[i]), struct goffset, dirty_link);
            o->dirty = CLEAN;
            if (o->gone)
                goffset_free(o);
        }
    while ((o = goffset_of(g->offsets.root))) {
        ordered_remove(&g->offsets, &o->node);
        metadata_set(b, o, SLICE_NULL);
        goffset_free(o);
        b->groups.offsets_n--;
    }
}

void groups_init(struct broker *b)
{
    ordered_init(&b->groups.by_name, b->hash_seed_word + 3);
    list_init(&b->groups.dirty);
    list_init(&b->groups.sent);
}

void groups_fini(struct broker *b)
{
    struct list_head *lists[] = {&b->groups.dirty, &b->groups.sent};
    struct group *g;
    int i;

    for (i = 0; i < 2; i++)
        while (!list_empty(lists[i])) {
            g = list_entry(list_pop_front(lists[i]), struct group, dirty_link);
            if (g->deleted)
                free(g);
        }
    while ((g = group_of(b->groups.by_name.root))) {
        ordered_remove(&b->groups.by_name, &g->node);
        group_empty(b, g);
        texts_free(b, g);
        free(g);
    }
}

/* ---- after-images ---- */

static struct goffset *offset_put(struct broker *b, struct group *g,
                                  const struct entry_group_offset *en)
{
    struct goffset *o;
    uint8_t key[8];

    goffset_key(key, en->topic, en->partition);
    o = goffset_of(ordered_find(&g->offsets, slice_of(key, 8)));
    if (!o) {
        o = xcalloc(1, sizeof *o);
        memcpy(o->key, key, 8);
        o->node.key = slice_of(o->key, 8);
        ordered_insert(&g->offsets, &o->node);
        b->groups.offsets_n++;
    }
    o->offset = en->offset;
    o->committed_ms = en->committed_ms;
    metadata_set(b, o, en->metadata);
    return o;
}

void group_apply_offset(struct broker *b, const struct entry_group_offset *en)
{
    struct group *g;

    io_mutex_lock(&b->items_lock);
    g = group_of(ordered_find(&b->groups.by_name, en->group));
    if (!g)
        g = group_add(b, en->group);
    goffset_dirty(g, offset_put(b, g, en));
    if (en->committed_ms > g->updated_ms)
        g->updated_ms = en->committed_ms;
    group_dirty(b, g);
    io_mutex_unlock(&b->items_lock);
    NOTICE_COMMITTED(b, en);
}

void group_apply_delete(struct broker *b, struct slice name)
{
    struct entry_kv topology = {.ns = SLICE_LIT(STREAMS_TOPOLOGY_NS), .key = name};
    struct group *g;

    io_mutex_lock(&b->items_lock);
    g = group_of(ordered_find(&b->groups.by_name, name));
    if (g) {
        ordered_remove(&b->groups.by_name, &g->node);
        group_empty(b, g);
        texts_free(b, g);
        g->deleted = true;
        b->groups.kind_n[g->kind]--;
        group_dirty(b, g);
    }
    io_mutex_unlock(&b->items_lock);
    cursor_apply_group_delete(b, name);
    kv_apply(b, &topology);
}

void group_apply_state(struct broker *b, const struct entry_group_state *en)
{
    struct groups *gs = &b->groups;
    struct group *g;

    io_mutex_lock(&b->items_lock);
    g = group_of(ordered_find(&gs->by_name, en->group));
    if (!g)
        g = group_add(b, en->group);
    if (en->generation > g->generation)
        NOTICE_GROUP(b, NOTICE_REBALANCE, en->group, SLICE_NULL, en->generation);
    if (en->generation >= g->generation) {
        if (en->generation > g->generation) /* one made anew may go on where it was: one began */
            gs->generations[en->kind] +=
                g->generation ? (uint64_t)(en->generation - g->generation) : 1;
        g->generation = en->generation;
        kind_set(b, g, en->kind);
        g->empty_ms = en->empty_ms;
        if (en->updated_ms > g->updated_ms)
            g->updated_ms = en->updated_ms;
        text_set(&g->protocol_type, en->protocol_type);
        text_set(&g->leader, en->leader);
        images_drop(b, g);
        if (gs->image_bytes + en->members.len + en->assignment.len + 2 <= LIMIT_GROUP_IMAGES) {
            text_set(&g->members, en->members);
            text_set(&g->assignment, en->assignment);
            gs->image_bytes += text_bytes(g->members) + text_bytes(g->assignment);
        }
        group_dirty(b, g);
    }
    io_mutex_unlock(&b->items_lock);
}

/* ---- committing ---- */

enum err group_check(struct broker *b, struct slice group, int64_t offset, struct slice metadata,
                     struct errinfo *info)
{
    enum err e = ERR_OK;

    if (group.len == 0 || group.len > LIMIT_GROUP_NAME)
        return errinfo_set(info, ERR_INVALID, "a group's name has 1 to %d bytes",
                           (int)LIMIT_GROUP_NAME);
    if (metadata.len > LIMIT_GROUP_METADATA)
        return errinfo_set(info, ERR_TOO_LARGE, "an offset's metadata has at most %d bytes",
                           (int)LIMIT_GROUP_METADATA);
    if (offset < 0)
        return errinfo_set(info, ERR_INVALID, "an offset is not negative");
    io_mutex_lock(&b->items_lock);
    if (b->groups.offsets_n >= LIMIT_GROUP_OFFSETS)
        e = errinfo_set(info, ERR_LIMIT, "there are %u committed offsets, the most allowed",
                        (unsigned)b->groups.offsets_n);
    else if (b->groups.metadata_bytes + metadata.len > LIMIT_GROUP_METADATA_BYTES)
        e = errinfo_set(info, ERR_LIMIT, "all offsets' metadata have %u MiB, the most allowed",
                        LIMIT_GROUP_METADATA_BYTES >> 20);
    io_mutex_unlock(&b->items_lock);
    return e;
}

static void offset_commit(struct change *c, enum err e)
{
    struct entry_group_offset en;

    if (e)
        return;
    e = entry_group_offset_read(slice_of(c->data, c->entry.data.len), &en);
    ASSERT(!e);
    group_apply_offset(c->b, &en);
}

static enum err commit(struct broker *b, struct slice group, struct partition *p, int64_t offset,
                       struct slice metadata, bool block, broker_done_fn done, void *arg,
                       struct errinfo *info)
{
    struct entry_group_offset en = {.topic = topic_id(p->topic),
                                    .partition = (uint32_t)p->index,
                                    .offset = offset,
                                    .committed_ms = journal_wall_ms(b->journal),
                                    .group = group,
                                    .metadata = metadata};
    struct change *c;
    enum err e = group_check(b, group, offset, metadata, info);

    if (e)
        return e;
    c = change_new(b, ENTRY_GROUP_OFFSET, entry_group_offset_size(&en), done, arg);
    c->entry.data.len = entry_group_offset_write(c->data, &en);
    c->topic = topic_ref(p->topic);
    c->check = change_topic_alive;
    c->commit = offset_commit;
    return change_submit(c, block, info);
}

enum err group_commit(struct broker *b, struct slice group, struct partition *p, int64_t offset,
                      struct slice metadata, broker_done_fn done, void *arg, struct errinfo *info)
{
    return commit(b, group, p, offset, metadata, false, done, arg, info);
}

enum err group_commit_wait(struct broker *b, struct slice group, struct partition *p,
                           int64_t offset, struct slice metadata, struct errinfo *info)
{
    struct sync_wait w;
    enum err e;

    sync_wait_init(&w, b);
    e = commit(b, group, p, offset, metadata, true, sync_wait_done, &w, info);
    return e ? sync_wait_drop(&w, e) : sync_wait_end(&w, info);
}

static void delete_commit(struct change *c, enum err e)
{
    struct slice group;

    if (e)
        return;
    e = entry_group_delete_read(slice_of(c->data, c->entry.data.len), &group);
    ASSERT(!e);
    group_apply_delete(c->b, group);
}

enum err group_delete(struct broker *b, struct slice group, broker_done_fn done, void *arg,
                      struct errinfo *info)
{
    struct change *c;
    bool there;

    io_mutex_lock(&b->items_lock);
    there = ordered_find(&b->groups.by_name, group) != NULL;
    io_mutex_unlock(&b->items_lock);
    if (!there)
        return errinfo_set(info, ERR_NOT_FOUND, "there is no such group");
    c = change_new(b, ENTRY_GROUP_DELETE, ENTRY_SMALL_MAX, done, arg);
    c->entry.data.len = entry_group_delete_write(c->data, group);
    c->commit = delete_commit;
    return change_submit(c, false, info);
}

/* buf NULL: without the metadata. */
static void offset_out(const struct goffset *o, struct group_offset *out, char *buf)
{
    *out = (struct group_offset){.offset = o->offset, .committed_ms = o->committed_ms};
    if (!buf)
        return;
    if (o->metadata_len)
        memcpy(buf, o->metadata, o->metadata_len);
    out->metadata = slice_of(buf, o->metadata_len);
}

enum err group_offset_get_full(struct broker *b, struct slice group, struct partition *p,
                               struct group_offset *out, char *buf)
{
    struct goffset *o = NULL;
    struct group *g;
    uint8_t key[8];

    goffset_key(key, topic_id(p->topic), (uint32_t)p->index);
    io_mutex_lock(&b->items_lock);
    g = group_of(ordered_find(&b->groups.by_name, group));
    if (g)
        o = goffset_of(ordered_find(&g->offsets, slice_of(key, 8)));
    if (o)
        offset_out(o, out, buf);
    io_mutex_unlock(&b->items_lock);
    return o ? ERR_OK : ERR_NOT_FOUND;
}

enum err group_offset_get(struct broker *b, struct slice group, struct partition *p,
                          struct group_offset *out)
{
    return group_offset_get_full(b, group, p, out, NULL);
}

/* A place in the walk over all offsets, kept while the lock is let go. */
struct walk {
    bool one; /* only this group's */
    char group[LIMIT_GROUP_NAME + 1];
    size_t group_len;
    uint8_t key[8]; /* zeros: before all, as there is no topic 0 */
    struct group_offset o;
    char metadata[LIMIT_GROUP_METADATA];
};

/* The next offset after w's; false at the end. items_lock held. */
static bool walk_next(struct broker *b, struct walk *w)
{
    struct slice name = slice_of(w->group, w->group_len);
    struct group *g = group_of(ordered_find(&b->groups.by_name, name));
    struct goffset *o = g ? goffset_of(ordered_after(&g->offsets, slice_of(w->key, 8))) : NULL;

    while (!o) {
        if (w->one)
            return false;
        g = group_of(ordered_after(&b->groups.by_name, name));
        if (!g)
            return false;
        name = g->node.key;
        o = goffset_of(ordered_first(&g->offsets));
    }
    memcpy(w->group, g->name, g->node.key.len + 1);
    w->group_len = g->node.key.len;
    memcpy(w->key, o->key, 8);
    offset_out(o, &w->o, w->metadata);
    return true;
}

/* Frees w. */
static void walk(struct broker *b, struct walk *w,
                 void (*fn)(void *arg, const char *group, struct topic *t, int32_t partition,
                            const struct group_offset *o),
                 void *arg)
{
    struct topic *t;
    bool more;

    for (;;) {
        io_mutex_lock(&b->items_lock);
        more = walk_next(b, w);
        io_mutex_unlock(&b->items_lock);
        if (!more)
            break;
        t = topic_find_id(b, be32_load(w->key));
        if (t)
            fn(arg, w->group, t, (int32_t)be32_load(w->key + 4), &w->o);
        topic_unref(&t);
    }
    free(w);
}

void group_each(struct broker *b,
                void (*fn)(void *arg, const char *group, struct topic *t, int32_t partition,
                           const struct group_offset *o),
                void *arg)
{
    walk(b, xcalloc(1, sizeof(struct walk)), fn, arg);
}

void group_each_of(struct broker *b, struct slice group,
                   void (*fn)(void *arg, const char *group, struct topic *t, int32_t partition,
                              const struct group_offset *o),
                   void *arg)
{
    struct walk *w;

    if (group.len == 0 || group.len > LIMIT_GROUP_NAME)
        return;
    w = xcalloc(1, sizeof *w);
    w->one = true;
    memcpy(w->group, group.ptr, group.len);
    w->group_len = group.len;
    walk(b, w, fn, arg);
}

static void offset_gone(struct broker *b, struct group *g, struct goffset *o)
{
    ordered_remove(&g->offsets, &o->node);
    b->groups.offsets_n--;
    metadata_set(b, o, SLICE_NULL);
    o->gone = true;
    goffset_dirty(g, o);
    group_dirty(b, g);
}

void group_apply_offset_delete(struct broker *b, const struct entry_group_offset *en)
{
    struct group *g;
    struct goffset *o;
    uint8_t key[8];

    goffset_key(key, en->topic, en->partition);
    io_mutex_lock(&b->items_lock);
    g = group_of(ordered_find(&b->groups.by_name, en->group));
    o = g ? goffset_of(ordered_find(&g->offsets, slice_of(key, 8))) : NULL;
    if (o && o->committed_ms == en->committed_ms)
        offset_gone(b, g, o);
    io_mutex_unlock(&b->items_lock);
}

static void drop_commit(struct change *c, enum err e)
{
    struct entry_group_offset en;

    if (e)
        return;
    e = entry_group_offset_delete_read(slice_of(c->data, c->entry.data.len), &en);
    ASSERT(!e);
    group_apply_offset_delete(c->b, &en);
}

enum err group_offset_drop(struct broker *b, struct slice group, const struct group_offset_at *o,
                           broker_done_fn done, void *arg, struct errinfo *info)
{
    struct entry_group_offset en = {.topic = o->topic,
                                    .partition = o->partition,
                                    .committed_ms = o->committed_ms,
                                    .group = group};
    struct change *c = change_new(b, ENTRY_GROUP_OFFSET_DELETE, ENTRY_SMALL_MAX, done, arg);

    c->entry.data.len = entry_group_offset_delete_write(c->data, &en);
    c->commit = drop_commit;
    return change_submit(c, false, info);
}

size_t group_offsets_get(struct broker *b, struct slice name, uint32_t topic, int64_t partition,
                         struct group_offset_at *out, size_t max)
{
    struct goffset *o = NULL;
    struct group *g;
    uint8_t key[8];
    size_t n = 0;

    goffset_key(key, topic, partition < 0 ? 0 : (uint32_t)partition);
    io_mutex_lock(&b->items_lock);
    g = group_of(ordered_find(&b->groups.by_name, name));
    if (g && partition < 0)
        o = goffset_of(ordered_find(&g->offsets, slice_of(key, 8)));
    if (g && !o)
        o = goffset_of(ordered_after(&g->offsets, slice_of(key, 8)));
    for (; o && n < max; o = goffset_of(ordered_after(&g->offsets, o->node.key)))
        out[n++] = (struct group_offset_at){.topic = be32_load(o->key),
                                            .partition = be32_load(o->key + 4),
                                            .offset = o->offset,
                                            .committed_ms = o->committed_ms};
    io_mutex_unlock(&b->items_lock);
    return n;
}

/* ---- what outlives the members ---- */

static void durable_out(const struct group *g, struct group_durable *out)
{
    memset(out, 0, sizeof *out);
    if (!g)
        return;
    memcpy(out->name, g->name, g->node.key.len);
    out->name_len = g->node.key.len;
    out->generation = g->generation;
    out->kind = g->kind;
    out->empty_ms = g->empty_ms;
    out->offsets = g->offsets.root != NULL;
    if (g->protocol_type)
        snprintf(out->protocol_type, sizeof out->protocol_type, "%s", g->protocol_type);
}

bool group_durable_get(struct broker *b, struct slice name, struct group_durable *out)
{
    struct group *g;

    io_mutex_lock(&b->items_lock);
    g = group_of(ordered_find(&b->groups.by_name, name));
    durable_out(g, out);
    io_mutex_unlock(&b->items_lock);
    return g != NULL;
}

bool group_durable_next(struct broker *b, struct slice after, struct group_durable *out)
{
    struct group *g;

    io_mutex_lock(&b->items_lock);
    g = group_of(ordered_after(&b->groups.by_name, after));
    durable_out(g, out);
    io_mutex_unlock(&b->items_lock);
    return g != NULL;
}

static void publish(struct buf *out, const char *text)
{
    buf_clear(out);
    if (text)
        buf_append_str(out, text);
}

bool group_published_next(struct broker *b, struct slice after, struct group_published *out)
{
    struct group *g;

    io_mutex_lock(&b->items_lock);
    g = group_of(ordered_after(&b->groups.by_name, after));
    while (g && g->deleted)
        g = group_of(ordered_after(&b->groups.by_name, slice_str(g->name)));
    if (g) {
        publish(&out->group, g->name);
        publish(&out->leader, g->leader);
        publish(&out->members, g->members);
        publish(&out->assignment, g->assignment);
        out->generation = g->generation;
        out->updated_ms = g->updated_ms;
    }
    io_mutex_unlock(&b->items_lock);
    return g != NULL;
}

int32_t group_generation(struct broker *b, struct slice name)
{
    struct group *g;
    int32_t n;

    io_mutex_lock(&b->items_lock);
    g = group_of(ordered_find(&b->groups.by_name, name));
    n = g ? g->generation : 0;
    io_mutex_unlock(&b->items_lock);
    return n;
}

bool groups_have(struct broker *b, struct slice name)
{
    return ordered_find(&b->groups.by_name, name) != NULL;
}

int group_kind_get(struct broker *b, struct slice name)
{
    struct group *g;
    int kind;

    io_mutex_lock(&b->items_lock);
    g = group_of(ordered_find(&b->groups.by_name, name));
    kind = g ? g->kind : -1;
    io_mutex_unlock(&b->items_lock);
    return kind;
}

void group_kind_counts(struct broker *b, uint8_t kind, uint64_t *groups, uint64_t *generations)
{
    io_mutex_lock(&b->items_lock);
    *groups = b->groups.kind_n[kind];
    *generations = b->groups.generations[kind];
    io_mutex_unlock(&b->items_lock);
}

void groups_recovered(struct broker *b)
{
    io_mutex_lock(&b->items_lock);
    memset(b->groups.generations, 0, sizeof b->groups.generations);
    io_mutex_unlock(&b->items_lock);
}

void groups_sweep(struct broker *b, unsigned max)
{
    struct topic *t;
    struct group *g;
    struct goffset *o;
    uint8_t key[8];

    for (; max; max--) {
        io_mutex_lock(&b->items_lock);
        g = group_of(
            ordered_after(&b->groups.by_name, slice_of(b->sweep_group, b->sweep_group_len)));
        b->sweep_group_len = g ? g->node.key.len : 0;
        if (g)
            memcpy(b->sweep_group, g->name, g->node.key.len);
        o = g ? goffset_of(ordered_first(&g->offsets)) : NULL;
        while (o) {
            memcpy(key, o->key, 8);
            t = topic_find_id(b, be32_load(key));
            if (!t)
                offset_gone(b, g, o);
            topic_unref(&t);
            o = goffset_of(ordered_after(&g->offsets, slice_of(key, 8)));
        }
        io_mutex_unlock(&b->items_lock);
        if (!g)
            return;
    }
}

/* ---- the checkpoint ---- */

static enum err load_offsets(struct broker *b, struct sqlite3 *db, struct errinfo *info)
{
    struct sqlite3_stmt *st = NULL;
    enum err e = state_prepare(db,
                               "SELECT group_id, topic_id, partition, offset, metadata,"
                               " committed_at FROM stream_offsets ORDER BY group_id",
                               &st, info);
    int rc = SQLITE_DONE;

    while (!e && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct entry_group_offset en = {.group = state_column(st, 0),
                                        .topic = (uint32_t)sqlite3_column_int64(st, 1),
                                        .partition = (uint32_t)sqlite3_column_int64(st, 2),
                                        .offset = sqlite3_column_int64(st, 3),
                                        .metadata = state_column(st, 4),
                                        .committed_ms = sqlite3_column_int64(st, 5)};
        struct group *g = group_of(ordered_find(&b->groups.by_name, en.group));

        if (!g || en.topic == 0 || en.offset < 0 || en.metadata.len > LIMIT_GROUP_METADATA) {
            e = errinfo_set(info, ERR_CORRUPT,
                            "checkpoint.db: a row of stream_offsets is damaged; run "
                            "`weir repair`");
            break;
        }
        offset_put(b, g, &en);
    }
    if (!e && rc != SQLITE_DONE)
        e = state_sql_err(db, rc, "reading stream_offsets", info);
    sqlite3_finalize(st);
    return e;
}

static enum err load_groups(struct broker *b, struct sqlite3 *db, struct errinfo *info)
{
    struct sqlite3_stmt *st = NULL;
    enum err e = state_prepare(db,
                               "SELECT group_id, updated_at, generation, leader,"
                               " nullif(members, '[]'), nullif(assignment, '{}')"
                               " FROM stream_groups",
                               &st, info);
    int rc = SQLITE_DONE;

    while (!e && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct slice name = state_column(st, 0), leader = state_column(st, 3);
        struct slice members = state_column(st, 4), assignment = state_column(st, 5);
        int64_t generation = sqlite3_column_int64(st, 2);
        struct group *g;

        if (name.len == 0 || name.len > LIMIT_GROUP_NAME ||
            ordered_find(&b->groups.by_name, name) || generation < 0 || generation > INT32_MAX ||
            leader.len > LIMIT_MEMBER_ID || members.len > LIMIT_GROUP_IMAGE ||
            assignment.len > LIMIT_GROUP_IMAGE) {
            e = errinfo_set(info, ERR_CORRUPT,
                            "checkpoint.db: a row of stream_groups is damaged; run `weir repair`");
            break;
        }
        g = group_add(b, name);
        g->updated_ms = sqlite3_column_int64(st, 1);
        g->generation = (int32_t)generation;
        text_set(&g->leader, leader);
        text_set(&g->members, members);
        text_set(&g->assignment, assignment);
        b->groups.image_bytes += text_bytes(g->members) + text_bytes(g->assignment);
    }
    if (!e && rc != SQLITE_DONE)
        e = state_sql_err(db, rc, "reading stream_groups", info);
    sqlite3_finalize(st);
    return e;
}

/* A checkpoint made before groups had members has no such table. */
static enum err kinds_there(struct sqlite3 *db, bool *there, struct errinfo *info)
{
    struct sqlite3_stmt *st = NULL;
    enum err e =
        state_prepare(db, "SELECT 1 FROM sqlite_master WHERE name = 'group_kinds'", &st, info);

    *there = !e && sqlite3_step(st) == SQLITE_ROW;
    sqlite3_finalize(st);
    return e;
}

static enum err load_kinds(struct broker *b, struct sqlite3 *db, struct errinfo *info)
{
    struct sqlite3_stmt *st = NULL;
    int rc = SQLITE_DONE;
    bool there;
    enum err e = kinds_there(db, &there, info);

    if (e || !there)
        return e;
    e = state_prepare(db, "SELECT group_id, kind, protocol_type, empty_at FROM group_kinds", &st,
                      info);
    while (!e && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct group *g = group_of(ordered_find(&b->groups.by_name, state_column(st, 0)));
        struct slice type = state_column(st, 2);
        int64_t kind = sqlite3_column_int64(st, 1);

        if (!g || kind < 0 || kind > GROUP_KIND_MAX || type.len > LIMIT_GROUP_WORD) {
            e = errinfo_set(info, ERR_CORRUPT,
                            "checkpoint.db: a row of group_kinds is damaged; run `weir repair`");
            break;
        }
        kind_set(b, g, (uint8_t)kind);
        g->empty_ms = sqlite3_column_int64(st, 3);
        text_set(&g->protocol_type, type);
    }
    if (!e && rc != SQLITE_DONE)
        e = state_sql_err(db, rc, "reading group_kinds", info);
    sqlite3_finalize(st);
    return e;
}

enum err groups_load(struct broker *b, struct sqlite3 *db, struct errinfo *info)
{
    enum err e = load_groups(b, db, info);

    if (!e)
        e = load_kinds(b, db, info);
    return e ? e : load_offsets(b, db, info);
}

struct group_stmts {
    struct sqlite3_stmt *put, *del, *kind_put, *kind_del, *off_put, *off_del, *off_del_all;
};

static enum err stmts_make(struct sqlite3 *db, struct group_stmts *s, struct errinfo *info)
{
    enum err e = state_prepare(db,
                               "INSERT OR REPLACE INTO stream_groups(group_id, updated_at,"
                               " generation, leader, members, assignment)"
                               " VALUES(?, ?, ?, ?, ifnull(?, '[]'), ifnull(?, '{}'))",
                               &s->put, info);

    if (!e)
        e = state_prepare(db, "DELETE FROM stream_groups WHERE group_id = ?", &s->del, info);
    if (!e)
        e = state_prepare(db,
                          "INSERT OR REPLACE INTO group_kinds(group_id, kind, protocol_type,"
                          " empty_at) VALUES(?,?,?,?)",
                          &s->kind_put, info);
    if (!e)
        e = state_prepare(db, "DELETE FROM group_kinds WHERE group_id = ?", &s->kind_del, info);
    if (!e)
        e = state_prepare(db,
                          "INSERT OR REPLACE INTO stream_offsets(group_id, topic_id, partition,"
                          " offset, metadata, committed_at, topic) VALUES(?,?,?,?,?,?,?)",
                          &s->off_put, info);
    if (!e)
        e = state_prepare(db,
                          "DELETE FROM stream_offsets WHERE group_id = ? AND topic_id = ?"
                          " AND partition = ?",
                          &s->off_del, info);
    if (!e)
        e = state_prepare(db, "DELETE FROM stream_offsets WHERE group_id = ?", &s->off_del_all,
                          info);
    return e;
}

/* One row's worth of change, copied under the lock. */
struct row_copy {
    enum { ROW_NONE, ROW_DELETED, ROW_GROUP, ROW_OFFSET, ROW_OFFSET_GONE } kind;
    char group[LIMIT_GROUP_NAME + 1];
    size_t group_len, metadata_len;
    uint8_t key[8], kind_of;
    int64_t updated_ms, empty_ms, offset, committed_ms;
    int32_t generation;
    char *metadata, *protocol_type, *leader, *members, *assignment; /* its own; NULL: none */
};

static char *text_copy(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

static void copy_group(const struct group *g, struct row_copy *r)
{
    r->kind_of = g->kind;
    r->generation = g->generation;
    r->empty_ms = g->empty_ms;
    r->protocol_type = text_copy(g->protocol_type);
    r->leader = text_copy(g->leader);
    r->members = text_copy(g->members);
    r->assignment = text_copy(g->assignment);
}

static void row_copy_fini(struct row_copy *r)
{
    free(r->metadata);
    free(r->protocol_type);
    free(r->leader);
    free(r->members);
    free(r->assignment);
}

static void copy_offset(struct group *g, struct row_copy *r)
{
    struct goffset *o = list_entry(list_pop_front(&g->dirty_offsets), struct goffset, dirty_link);

    o->dirty = SENT;
    list_push_back(&g->sent_offsets, &o->dirty_link);
    r->kind = o->gone ? ROW_OFFSET_GONE : ROW_OFFSET;
    memcpy(r->key, o->key, 8);
    r->offset = o->offset;
    r->committed_ms = o->committed_ms;
    r->metadata_len = o->metadata_len;
    if (o->metadata_len)
        r->metadata = xmemdup(o->metadata, o->metadata_len);
}

/* The next row to write: tombstones (deleted) first; a group's offsets, then the group itself. */
static bool copy_next(struct broker *b, bool deleted, struct row_copy *r)
{
    struct list_head *dirty = &b->groups.dirty;
    struct group *g = NULL;

    memset(r, 0, sizeof *r);
    io_mutex_lock(&b->items_lock);
    if (!list_empty(dirty))
        g = list_entry(dirty->node.next, struct group, dirty_link);
    if (g && g->deleted == deleted) {
        memcpy(r->group, g->name, g->node.key.len);
        r->group_len = g->node.key.len;
        r->updated_ms = g->updated_ms;
        if (!list_empty(&g->dirty_offsets)) {
            copy_offset(g, r);
        } else {
            r->kind = g->deleted ? ROW_DELETED : ROW_GROUP;
            if (!g->deleted)
                copy_group(g, r);
            list_remove(&g->dirty_link);
            g->dirty = SENT;
            list_push_back(&b->groups.sent, &g->dirty_link);
        }
    }
    io_mutex_unlock(&b->items_lock);
    return r->kind != ROW_NONE;
}

static enum err save_offset(struct broker *b, struct sqlite3 *db, struct group_stmts *s,
                            const struct row_copy *r, struct errinfo *info)
{
    uint32_t topic = be32_load(r->key);
    struct topic *t = topic_find_id(b, topic);
    struct sqlite3_stmt *st = r->kind == ROW_OFFSET ? s->off_put : s->off_del;
    enum err e;

    state_bind_text(st, 1, slice_of(r->group, r->group_len));
    sqlite3_bind_int64(st, 2, topic);
    sqlite3_bind_int64(st, 3, be32_load(r->key + 4));
    if (r->kind == ROW_OFFSET) {
        sqlite3_bind_int64(st, 4, r->offset);
        state_bind_text(st, 5, slice_of(r->metadata, r->metadata_len));
        sqlite3_bind_int64(st, 6, r->committed_ms);
        state_bind_text(st, 7, slice_str(t ? topic_name(t) : ""));
    }
    e = state_step(db, st, info);
    topic_unref(&t);
    return e;
}

static void bind_text_or_null(struct sqlite3_stmt *st, int i, const char *s)
{
    if (s)
        state_bind_text(st, i, slice_str(s));
    else
        sqlite3_bind_null(st, i);
}

static enum err save_group(struct sqlite3 *db, struct group_stmts *s, const struct row_copy *r,
                           struct errinfo *info)
{
    struct slice group = slice_of(r->group, r->group_len);
    enum err e;

    state_bind_text(s->put, 1, group);
    sqlite3_bind_int64(s->put, 2, r->updated_ms);
    sqlite3_bind_int64(s->put, 3, r->generation);
    bind_text_or_null(s->put, 4, r->leader);
    bind_text_or_null(s->put, 5, r->members);
    bind_text_or_null(s->put, 6, r->assignment);
    e = state_step(db, s->put, info);
    if (e)
        return e;
    state_bind_text(s->kind_put, 1, group);
    sqlite3_bind_int64(s->kind_put, 2, r->kind_of);
    bind_text_or_null(s->kind_put, 3, r->protocol_type);
    sqlite3_bind_int64(s->kind_put, 4, r->empty_ms);
    return state_step(db, s->kind_put, info);
}

static enum err save_row(struct broker *b, struct sqlite3 *db, struct group_stmts *s,
                         const struct row_copy *r, struct errinfo *info)
{
    struct slice group = slice_of(r->group, r->group_len);
    enum err e;

    switch (r->kind) {
    case ROW_DELETED:
        state_bind_text(s->del, 1, group);
        state_bind_text(s->kind_del, 1, group);
        state_bind_text(s->off_del_all, 1, group);
        e = state_step(db, s->del, info);
        if (!e)
            e = state_step(db, s->kind_del, info);
        return e ? e : state_step(db, s->off_del_all, info);
    case ROW_GROUP:
        return save_group(db, s, r, info);
    case ROW_OFFSET:
    case ROW_OFFSET_GONE:
        return save_offset(b, db, s, r, info);
    case ROW_NONE:
        break;
    }
    return ERR_INTERNAL;
}

static enum err save_rows(struct broker *b, struct sqlite3 *db, struct group_stmts *s, bool deleted,
                          struct errinfo *info)
{
    struct row_copy r;
    enum err e = ERR_OK;

    while (!e && copy_next(b, deleted, &r)) {
        e = save_row(b, db, s, &r, info);
        row_copy_fini(&r);
    }
    return e;
}

enum err groups_save(struct broker *b, struct sqlite3 *db, struct errinfo *info)
{
    struct group_stmts s = {0};
    enum err e = stmts_make(db, &s, info);

    if (!e)
        e = save_rows(b, db, &s, true, info);
    if (!e)
        e = save_rows(b, db, &s, false, info);
    sqlite3_finalize(s.put);
    sqlite3_finalize(s.del);
    sqlite3_finalize(s.kind_put);
    sqlite3_finalize(s.kind_del);
    sqlite3_finalize(s.off_put);
    sqlite3_finalize(s.off_del);
    sqlite3_finalize(s.off_del_all);
    return e;
}

static void offsets_saved(struct group *g, bool committed)
{
    struct goffset *o;

    while (!list_empty(&g->sent_offsets)) {
        o = list_entry(list_pop_front(&g->sent_offsets), struct goffset, dirty_link);
        o->dirty = committed ? CLEAN : DIRTY;
        if (!committed)
            list_push_back(&g->dirty_offsets, &o->dirty_link);
        else if (o->gone)
            goffset_free(o);
    }
}

void groups_saved(struct broker *b, bool committed)
{
    struct list_head again;
    struct group *g;

    list_init(&again);
    io_mutex_lock(&b->items_lock);
    while (!list_empty(&b->groups.sent)) {
        g = list_entry(list_pop_front(&b->groups.sent), struct group, dirty_link);
        offsets_saved(g, committed);
        g->dirty = committed ? CLEAN : DIRTY;
        if (!committed)
            list_push_back(&again, &g->dirty_link);
        else if (g->deleted)
            free(g);
    }
    list_for_each(g, &b->groups.dirty, struct group, dirty_link)
        offsets_saved(g, committed); /* changed again since, or not reached */
    while (!list_empty(&again))
        dirty_push(b, list_entry(list_pop_front(&again), struct group, dirty_link));
    io_mutex_unlock(&b->items_lock);
}
