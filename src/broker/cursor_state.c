/* Making, setting and deleting cursors, what entries of the log do to them, and their part of the
 * checkpoint. See cursor_int.h. */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/endian.h"
#include "base/mem.h"
#include "broker/broker_int.h"
#include "broker/topic_int.h"

/* ---- after-images ---- */

/* Cursor locked: as new. */
static void begin_anew(struct cursor *c, uint64_t epoch, int64_t start)
{
    uint32_t i;

    for (i = 0; i < c->r.n; i++)
        cursor__disown(c, &c->r.v[i]);
    cursor_ranges_fini(&c->r);
    cursor_ranges_init(&c->r, start);
    c->epoch = epoch;
}

void cursor_apply(struct broker *b, const struct entry_cursor *e)
{
    uint8_t key[CURSOR_KEY_MAX];
    struct slice k = slice_of(key, cursor__key(key, e->group, e->topic, e->partition));
    struct topic *t = topic_find_id(b, e->topic);
    struct partition *p = t ? topic_partition_at(t, (int32_t)e->partition) : NULL;
    struct cursor *c = cursor__find(b, k);

    if (e->what == CURSOR_GONE) {
        if (c)
            cursor__drop(c);
    } else if (!c && p) {
        c = cursor__add(b, k, topic_ref(t), p, e->epoch, e->start);
        cursor__dirty(c);
    } else if (c && e->what == CURSOR_SET) {
        cursor__lock(c);
        begin_anew(c, e->epoch, e->start);
        cursor__unlock(c);
        cursor__dirty(c);
        cursor__wake(c);
    }
    cursor_unref(&c);
    topic_unref(&t);
}

/* Cursor locked. */
static void apply_range(struct cursor *c, const struct cursor_saved_range *x, int64_t at_ms)
{
    int64_t first = x->first < c->r.start ? c->r.start : x->first, last = x->first + x->records - 1;
    uint32_t from, to, i;

    if (first > last)
        return;
    cursor_ranges_extend(&c->r, last);
    cursor_ranges_cut(&c->r, first, last, &from, &to);
    for (i = from; i < to; i++) {
        struct cursor_range *r = &c->r.v[i];

        if (r->state == RANGE_DONE)
            continue;
        cursor__disown(c, r);
        if (x->state == CURSOR_AVAILABLE)
            *r = (struct cursor_range){.first = r->first,
                                       .last = r->last,
                                       .at_ms = at_ms,
                                       .deliveries = x->deliveries,
                                       .saved = x->deliveries,
                                       .state = RANGE_AVAILABLE};
        else
            cursor_ranges_finish(&c->r, r);
    }
    cursor_ranges_merge(&c->r, from, to);
    if (at_ms)
        cursor__timer(c, at_ms);
}

void cursor_apply_ranges(struct broker *b, const struct entry_cursor_ranges *e,
                         const struct settle_range *v)
{
    uint8_t key[CURSOR_KEY_MAX];
    struct cursor *c =
        cursor__find(b, slice_of(key, cursor__key(key, e->group, e->topic, e->partition)));
    struct cursor_saved_range x;
    bool same;
    uint32_t i;

    if (!c)
        return;
    cursor__lock(c);
    same = c->epoch == e->epoch && !atomic_load(&c->gone);
    for (i = 0; same && i < e->n; i++) {
        cursor_range_get(e->ranges, i, &x);
        apply_range(c, &x, v ? v[i].at_ms : 0);
    }
    cursor__unlock(c);
    if (same)
        cursor__dirty(c);
    cursor_unref(&c);
}

static void drop(void *arg, struct cursor *c, struct partition *p)
{
    cursor__drop(c);
}

void cursor_apply_group_delete(struct broker *b, struct slice group)
{
    cursor_each(b, group, drop, NULL);
}

/* ---- calls ---- */

static void change_commit(struct change *ch, enum err e)
{
    struct entry_cursor en;

    if (e)
        return;
    e = entry_cursor_read(slice_of(ch->data, ch->entry.data.len), &en);
    ASSERT(!e);
    cursor_apply(ch->b, &en);
}

static enum err change(struct broker *b, struct slice group, struct partition *p, uint8_t what,
                       int64_t start, broker_done_fn done, void *arg, struct errinfo *info)
{
    struct entry_cursor en = {.what = what,
                              .topic = p->topic->id,
                              .partition = (uint32_t)p->index,
                              .start = start,
                              .group = group};
    struct change *c;

    if (group.len == 0 || group.len > LIMIT_GROUP_NAME || memchr(group.ptr, 0, group.len))
        return errinfo_set(info, ERR_GROUP_ID, "%s", err_text(ERR_GROUP_ID));
    if (start < 0)
        return errinfo_set(info, ERR_INVALID, "an offset is not negative");
    io_random(b->conf.io, &en.epoch, sizeof en.epoch);
    c = change_new(b, ENTRY_CURSOR, ENTRY_SMALL_MAX, done, arg);
    c->entry.data.len = entry_cursor_write(c->data, &en);
    c->topic = topic_ref(p->topic);
    c->check = change_topic_alive;
    c->commit = change_commit;
    return change_submit(c, false, info);
}

static size_t cursors_n(struct broker *b)
{
    size_t n;

    io_mutex_lock(&b->cursors.lock);
    n = b->cursors.by_key.n;
    io_mutex_unlock(&b->cursors.lock);
    return n;
}

/* A cursor being made, and its dead letter topic. */
struct making {
    struct broker *b;
    atomic_uint left;
    _Atomic int result;
    broker_done_fn done;
    void *arg;
};

static void making_end(struct making *m, enum err e)
{
    struct errinfo info = {0};

    if (e)
        atomic_store(&m->result, (int)e);
    if (atomic_fetch_sub(&m->left, 1) != 1)
        return;
    e = (enum err)atomic_load(&m->result);
    if (e)
        broker_write_error(m->b, e, &info);
    if (m->done)
        m->done(m->arg, e, &info);
    free(m);
}

static void made(void *arg, enum err e, const struct errinfo *info)
{
    making_end(arg, e);
}

/* It may have been made by somebody else. */
static void made_topic(void *arg, enum err e, const struct errinfo *info)
{
    making_end(arg, e == ERR_TOPIC_EXISTS ? ERR_OK : e);
}

enum err cursor_make(struct broker *b, struct slice group, struct partition *p, int64_t start,
                     const struct cursor_conf *conf, broker_done_fn done, void *arg,
                     struct errinfo *info)
{
    struct cursor *c = cursor_find(b, group, p);
    struct topic *dead = conf ? dead_letters_topic(b, conf) : NULL;
    bool want_dead = conf && conf->dead_letters[0] && !dead, there = c != NULL;
    struct making *m;
    enum err e = ERR_OK;

    cursor_unref(&c);
    topic_unref(&dead);
    if (!there && cursors_n(b) >= LIMIT_CURSORS)
        return errinfo_set(info, ERR_LIMIT, "there are as many cursors as are allowed");
    m = xcalloc(1, sizeof *m);
    *m = (struct making){.b = b, .done = done, .arg = arg};
    atomic_init(&m->left, 1);
    if (want_dead) {
        atomic_fetch_add(&m->left, 1);
        e = topic__create_join(b, slice_str(conf->dead_letters), made_topic, m, info);
        if (e) {
            atomic_fetch_sub(&m->left, 1);
            e = e == ERR_TOPIC_EXISTS ? ERR_OK : e; /* it came into being since we looked */
        }
    }
    if (!e && !there) {
        atomic_fetch_add(&m->left, 1);
        e = change(b, group, p, CURSOR_MADE, start, made, m, info);
        if (e)
            atomic_fetch_sub(&m->left, 1);
    }
    if (e && atomic_load(&m->left) == 1) {
        free(m);
        return e;
    }
    making_end(m, e);
    return ERR_OK;
}

enum err cursor_set(struct broker *b, struct slice group, struct partition *p, int64_t start,
                    broker_done_fn done, void *arg, struct errinfo *info)
{
    return change(b, group, p, CURSOR_SET, start, done, arg, info);
}

enum err cursor_delete(struct broker *b, struct slice group, struct partition *p,
                       broker_done_fn done, void *arg, struct errinfo *info)
{
    struct cursor *c = cursor_find(b, group, p);

    if (!c)
        return errinfo_set(info, ERR_NOT_FOUND, "the group has no place in this partition");
    cursor_unref(&c);
    return change(b, group, p, CURSOR_GONE, 0, done, arg, info);
}

/* ---- the checkpoint ---- */

static enum err damaged(struct errinfo *info)
{
    return errinfo_set(info, ERR_CORRUPT,
                       "checkpoint.db: a row of cursors is damaged; run `weir repair`");
}

static enum err cursor_row(struct broker *b, struct sqlite3_stmt *st, struct errinfo *info)
{
    struct slice group = state_column(st, 0), ranges;
    int64_t topic = sqlite3_column_int64(st, 1), partition = sqlite3_column_int64(st, 2);
    int64_t start = sqlite3_column_int64(st, 4);
    struct cursor_saved_range x;
    uint8_t key[CURSOR_KEY_MAX];
    struct partition *p;
    struct cursor *c;
    struct topic *t;
    uint32_t i, n;

    if (group.len == 0 || group.len > LIMIT_GROUP_NAME || memchr(group.ptr, 0, group.len) ||
        topic <= 0 || topic > UINT32_MAX || partition < 0 || partition >= LIMIT_PARTITIONS ||
        start < 0)
        return damaged(info);
    ranges = state_column(st, 5);
    n = (uint32_t)(ranges.len / CURSOR_RANGE_BYTES);
    if (!cursor_ranges_valid(ranges, n))
        return damaged(info);
    t = topic_find_id(b, (uint32_t)topic);
    p = t ? topic_partition_at(t, (int32_t)partition) : NULL;
    if (t && !p)
        topic_unref(&t);
    c = cursor__add(b, slice_of(key, cursor__key(key, group, (uint32_t)topic, (uint32_t)partition)),
                    t, p, (uint64_t)sqlite3_column_int64(st, 3), start);
    cursor__lock(c);
    for (i = 0; p && i < n; i++) {
        cursor_range_get(ranges, i, &x);
        apply_range(c, &x, 0);
    }
    cursor__unlock(c);
    if (!p)
        cursor__drop(c); /* its topic is gone, so is to be the row */
    cursor_unref(&c);
    return ERR_OK;
}

enum err cursors_load(struct broker *b, struct sqlite3 *db, struct errinfo *info)
{
    return state_rows(b, db, "cursors",
                      "SELECT group_id, topic_id, partition, epoch, start_offset, ranges"
                      " FROM cursors",
                      cursor_row, info);
}

/* What of a cursor is to be saved. */
struct cursor_copy {
    uint8_t key[CURSOR_KEY_MAX];
    size_t key_len;
    bool gone;
    uint64_t epoch;
    int64_t start;
    struct buf ranges;
};

static bool put_range(struct buf *b, int64_t first, int64_t last, uint8_t state,
                      uint16_t deliveries)
{
    while (first <= last) {
        int64_t n = last - first + 1;
        struct cursor_saved_range x = {.first = first,
                                       .records = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n,
                                       .state = state,
                                       .deliveries = deliveries};

        if (buf_reserve(b, CURSOR_RANGE_BYTES))
            return false;
        cursor_range_write(b->ptr + b->len, 0, &x);
        b->len += CURSOR_RANGE_BYTES;
        first += x.records;
    }
    return true;
}

/* Leases and what is on its way are not saved: ranges are as the journal has them. */
static enum err cursor_copy(struct cursor *c, struct cursor_copy *o)
{
    bool ok = true;
    uint32_t i;

    buf_clear(&o->ranges);
    cursor__lock(c);
    memcpy(o->key, c->key, c->key_len);
    o->key_len = c->key_len;
    o->gone = atomic_load(&c->gone);
    o->epoch = c->epoch;
    o->start = c->r.start;
    for (i = 0; i < c->r.n && !o->gone && ok; i++) {
        const struct cursor_range *x = &c->r.v[i];

        if (x->state == RANGE_DONE)
            ok = put_range(&o->ranges, x->first, x->last, CURSOR_ARCHIVED, 0);
        else if (x->saved)
            ok = put_range(&o->ranges, x->first, x->last, CURSOR_AVAILABLE, x->saved);
    }
    cursor__unlock(c);
    return ok ? ERR_OK : ERR_NO_MEMORY;
}

static enum err cursor_save(struct sqlite3 *db, struct sqlite3_stmt *put, struct sqlite3_stmt *del,
                            const struct cursor_copy *o, struct errinfo *info)
{
    struct sqlite3_stmt *st = o->gone ? del : put;
    const uint8_t *tail = o->key + o->key_len - CURSOR_KEY_TAIL;

    state_bind_blob(st, 1, slice_of(o->key, o->key_len - CURSOR_KEY_TAIL));
    sqlite3_bind_int64(st, 2, be32_load(tail + 1));
    sqlite3_bind_int64(st, 3, be32_load(tail + 5));
    if (!o->gone) {
        sqlite3_bind_int64(st, 4, (int64_t)o->epoch);
        sqlite3_bind_int64(st, 5, o->start);
        state_bind_blob(st, 6, buf_slice(&o->ranges));
    }
    return state_step(db, st, info);
}

static struct cursor *next_dirty(struct cursors *cs)
{
    struct cursor *c = NULL;

    io_mutex_lock(&cs->lock);
    if (!list_empty(&cs->dirty)) {
        c = list_entry(list_pop_front(&cs->dirty), struct cursor, dirty_link);
        c->dirty = SENT;
        list_push_back(&cs->sent, &c->dirty_link);
        cursor_ref(c);
    }
    io_mutex_unlock(&cs->lock);
    return c;
}

enum err cursors_save(struct broker *b, struct sqlite3 *db, struct errinfo *info)
{
    struct sqlite3_stmt *put = NULL, *del = NULL;
    struct cursor_copy *o = xcalloc(1, sizeof *o);
    struct cursor *c;
    enum err e = state_prepare(db,
                               "INSERT OR REPLACE INTO cursors(group_id, topic_id, partition,"
                               " epoch, start_offset, ranges) VALUES(?,?,?,?,?,?)",
                               &put, info);

    buf_init(&o->ranges, 64u << 20);
    if (!e)
        e = state_prepare(
            db, "DELETE FROM cursors WHERE group_id = ? AND topic_id = ? AND partition = ?", &del,
            info);
    while (!e && (c = next_dirty(&b->cursors))) {
        e = cursor_copy(c, o);
        if (!e)
            e = cursor_save(db, put, del, o, info);
        cursor_unref(&c);
    }
    buf_fini(&o->ranges);
    free(o);
    sqlite3_finalize(put);
    sqlite3_finalize(del);
    return e;
}

void cursors_saved(struct broker *b, bool committed)
{
    struct cursors *cs = &b->cursors;
    struct cursor *c;
    bool more;

    do {
        c = NULL;
        io_mutex_lock(&cs->lock);
        if (!list_empty(&cs->sent)) {
            c = list_entry(cs->sent.node.prev, struct cursor, dirty_link);
            list_remove(&c->dirty_link);
            c->dirty = committed ? CLEAN : DIRTY;
            if (!committed) { /* in front: one made anew under the name may be there */
                list_insert_before(cs->dirty.node.next, &c->dirty_link);
                cursor_ref(c);
            }
        }
        io_mutex_unlock(&cs->lock);
        more = c != NULL;
        cursor_unref(&c);
    } while (more);
}
