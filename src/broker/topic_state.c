/* The catalogue's recovery (entries, checkpoint rows) and its part of the checkpoint. Recovery is
 * single-threaded; saving runs on the background thread and holds topics_lock for one topic at a
 * time. */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/topic_name.h"
#include "broker/topic_int.h"

#define TRIM_NONE 0

/* ---- recovery ---- */

/* A uid is given out once: one that a partition has cannot be another's as well. */
static bool uids_free(const struct topics *ts, uint32_t first, uint32_t n)
{
    uint32_t i;

    for (i = 0; i < n; i++)
        if (topics__uid_find(ts, first + i))
            return false;
    return true;
}

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
    topics__uid_used(&b->topics, en.first_uid, en.partitions);
    if (en.id >= b->topics.next_id)
        b->topics.next_id = en.id + 1;
    if (topics__id_find(b, en.id))
        return ERR_OK; /* the checkpoint had it */
    if (topics__name_find(b, en.name) || !uids_free(&b->topics, en.first_uid, en.partitions))
        return ERR_CORRUPT;
    t = topic__new(b, en.id, en.name, en.uuid, en.created_ms, &conf);
    t->partitions_first = (int32_t)en.partitions;
    topic__partitions_make(t, 0, (int32_t)en.partitions, en.first_uid);
    topics__publish(b, t, (int32_t)en.partitions);
    topic__dirty(t);
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
    topics__uid_used(&b->topics, en.first_uid, en.added);
    if (!(t = topics__id_find(b, en.id)))
        return ERR_OK; /* deleted by now */
    if (en.has_conf)
        topic__conf_install(t, &conf);
    n = topic_partitions(t);
    if ((int32_t)en.partitions > n) {
        if ((int32_t)(en.partitions - en.added) != n ||
            en.first_uid <= topic_partition_at(t, n - 1)->uid ||
            !uids_free(&b->topics, en.first_uid, en.added))
            return ERR_CORRUPT;
        topic__partitions_make(t, n, (int32_t)en.added, en.first_uid);
        for (i = n; i < (int32_t)en.partitions; i++)
            topics__uids_add(&b->topics, topic_partition_at(t, i));
        atomic_store(&t->scattered, true);
        atomic_store(&t->scattered_saved, true);
        atomic_store(&t->partitions_n, (int32_t)en.partitions);
    }
    topic__dirty(t);
    return ERR_OK;
}

static enum err apply_delete(struct broker *b, struct slice data)
{
    struct topic *t;
    uint32_t id;
    enum err e = entry_topic_delete_read(data, &id);

    if (e || !(t = topics__id_find(b, id)))
        return e;
    topics__unpublish(b, t);
    topic__dirty(t);
    topic_unref(&t);
    return ERR_OK;
}

static enum err apply_flags(struct broker *b, struct slice data)
{
    struct entry_topic_flags en;
    struct topic *t;
    enum err e = entry_topic_flags_read(data, &en);

    if (e || !(t = topics__id_find(b, en.id)))
        return e;
    if (en.flags & TOPIC_SCATTERED) {
        atomic_store(&t->scattered, true);
        atomic_store(&t->scattered_saved, true);
        topic__dirty(t);
    }
    return ERR_OK;
}

enum err topics_apply_tier(struct broker *b, struct slice data)
{
    struct entry_tier_start en;
    struct topic *t;
    enum err e = entry_tier_start_read(data, &en);

    if (e)
        return e;
    io_mutex_lock(&b->topics_lock);
    t = topics__id_find(b, en.topic);
    if (t && en.partition < (uint32_t)topic_partitions(t)) {
        struct partition *p = topic_partition_at(t, (int32_t)en.partition);

        if (en.offset > atomic_load(&p->tier_start))
            atomic_store(&p->tier_start, en.offset);
        topic__dirty(t);
    }
    io_mutex_unlock(&b->topics_lock);
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
                partition__trim_note(p, now.start_offset, 0);
        }
    }
    io_mutex_unlock(&b->topics_lock);
}

/* ---- the checkpoint ---- */

static enum err bad_row(struct errinfo *info, const char *table, int64_t id)
{
    return errinfo_set(info, ERR_CORRUPT,
                       "checkpoint.db: a row of %s (topic %" PRId64 ") is damaged; run "
                       "`weir repair`",
                       table, id);
}

/* One partition's row, for a topic whose rows come in order of partition, and so of uids. */
static enum err load_partition(struct broker *b, struct topic *t, int32_t index,
                               struct sqlite3_stmt *st, struct errinfo *info)
{
    int64_t uid = sqlite3_column_int64(st, 2), start = sqlite3_column_int64(st, 3);

    if (sqlite3_column_int64(st, 1) != index || uid <= 0 || uid >= UINT32_MAX || start < 0 ||
        (index > 0 && uid <= topic_partition_at(t, index - 1)->uid) ||
        topics__uid_find(&b->topics, (uint32_t)uid))
        return bad_row(info, "partitions", t->id);
    topic__partition_make(t, index, (uint32_t)uid, start);
    topics__uid_used(&b->topics, (uint32_t)uid, 1);
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
        uuid.len != 16 || topics__name_find(b, name))
        return bad_row(info, "topics", id);
    e = topic_conf_parse(&b->defaults, state_column(st, 7), &conf, info);
    if (e)
        return e;
    t = topic__new(b, (uint32_t)id, name, uuid.ptr, sqlite3_column_int64(st, 3), &conf);
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
    topics__publish(b, t, (int32_t)n);
    return ERR_OK;
}

/* What is in the lake. Checkpoints of earlier versions have no such table. */
static enum err load_tiers(struct broker *b, struct sqlite3 *db, struct errinfo *info)
{
    struct sqlite3_stmt *st = NULL;
    bool there = false;
    enum err e = state_table_there(db, "tiers", &there, info);
    int rc = SQLITE_DONE;

    if (e || !there)
        return e;
    e = state_prepare(db, "SELECT topic, partition, start FROM tiers", &st, info);
    io_mutex_lock(&b->topics_lock);
    while (!e && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        int64_t id = sqlite3_column_int64(st, 0), index = sqlite3_column_int64(st, 1);
        int64_t start = sqlite3_column_int64(st, 2);
        struct topic *t = id > 0 && id < UINT32_MAX ? topics__id_find(b, (uint32_t)id) : NULL;

        if (!t || index < 0 || index >= topic_partitions(t) || start < 0)
            e = bad_row(info, "tiers", id);
        else
            atomic_store(&topic_partition_at(t, (int32_t)index)->tier_start, start);
    }
    io_mutex_unlock(&b->topics_lock);
    if (!e && rc != SQLITE_DONE)
        e = state_sql_err(db, rc, "reading tiers", info);
    sqlite3_finalize(st);
    return e;
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
    if (!e && sqlite3_step(parts) == SQLITE_ROW) /* a topic made later would find it there */
        e = bad_row(info, "partitions", sqlite3_column_int64(parts, 0));
    sqlite3_finalize(st);
    sqlite3_finalize(parts);
    if (!e)
        e = load_tiers(b, db, info);
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
    struct sqlite3_stmt *put, *del, *part_put, *part_del, *start, *tier_put, *tier_del;
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
    if (!e)
        e = state_prepare(db, "INSERT OR REPLACE INTO tiers VALUES(?,?,?)", &s->tier_put, info);
    if (!e)
        e = state_prepare(db, "DELETE FROM tiers WHERE topic = ?", &s->tier_del, info);
    return e;
}

static enum err save_deleted(struct sqlite3 *db, struct topic_stmts *s, uint32_t id,
                             struct errinfo *info)
{
    enum err e;

    sqlite3_bind_int64(s->del, 1, id);
    sqlite3_bind_int64(s->part_del, 1, id);
    sqlite3_bind_int64(s->tier_del, 1, id);
    e = state_step(db, s->del, info);
    if (!e)
        e = state_step(db, s->part_del, info);
    return e ? e : state_step(db, s->tier_del, info);
}

/* Not cut at the checkpoint's ticket: what is in memory is in the journal, and a start of the local log
 * that is not saved yet has its own entry. */
static enum err save_tier(struct sqlite3 *db, struct topic_stmts *s, const struct topic *t,
                          int32_t index, struct errinfo *info)
{
    int64_t start =
        atomic_load(&topic_partition_at((struct topic *)(uintptr_t)t, index)->tier_start);

    if (start < 0)
        return ERR_OK;
    sqlite3_bind_int64(s->tier_put, 1, t->id);
    sqlite3_bind_int64(s->tier_put, 2, index);
    sqlite3_bind_int64(s->tier_put, 3, start);
    return state_step(db, s->tier_put, info);
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
        if (!e)
            e = save_tier(db, s, t, i, info);
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
    sqlite3_finalize(s.tier_put);
    sqlite3_finalize(s.tier_del);
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
