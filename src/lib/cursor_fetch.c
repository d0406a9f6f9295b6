/* Cursors: taking records. See cursor_int.h.
 *
 * What is free is looked for in each partition in turn. Between a look and the taking others may take
 * it: then it is looked again. What the filter passes by, and what a stream removed, is done without
 * anyone having it; that is found again after a restart. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "broker/coordinator.h"
#include "broker/removed.h"
#include "io/io.h"
#include "lib/cursor_int.h"
#include "lib/scan.h"

#define READ_BYTES     (256u << 10)
#define BATCH_BYTES    (4u << 20)    /* of records in one fetch, beyond which nothing is added */
#define TIMEOUT_MS_MAX 1000000000000 /* 30 years: for ever */
#define TRIES          64            /* of records that somebody else takes meanwhile */

struct batch {
    struct weir_batch pub;
    struct arena mem;
    struct weir_delivery *v;
    size_t cap, bytes;
};

void weir_batch_free(struct weir_batch **batch)
{
    struct batch *b = (struct batch *)*batch;

    *batch = NULL;
    if (!b)
        return;
    arena_fini(&b->mem);
    free(b->v);
    free(b);
}

static struct batch *batch_new(void)
{
    struct batch *b = xcalloc(1, sizeof *b);

    arena_init(&b->mem, 16u << 10, LIMIT_BATCH_INFLATED + 2 * BATCH_BYTES);
    return b;
}

/* False: it does not fit. */
static bool copy_headers(struct batch *b, const struct record *r, struct record_header *h,
                         struct weir_message *m)
{
    struct weir_header *out;
    uint32_t i, n = 0;

    if (!r->headers_n || record_headers(r, h, LIMIT_RECORD_HEADERS, &n))
        return true;
    out = arena_zalloc(&b->mem, n, sizeof *out);
    for (i = 0; out && i < n; i++) {
        out[i].name = arena_str(&b->mem, h[i].key);
        out[i].value = arena_dup(&b->mem, h[i].value).ptr;
        out[i].value_len = h[i].value.len;
        if (!out[i].name || (h[i].value.ptr && !out[i].value))
            return false;
    }
    m->headers = out;
    m->headers_n = n;
    return out != NULL;
}

/* ---- which records ---- */

static bool wants(const struct weir_cursor *c, struct slice key, struct buf *scratch)
{
    struct slice filter = slice_str(c->filter);
    bool own = c->stream && c->any;
    unsigned i;

    if (!c->filter)
        return true;
    for (i = 0; c->stream && !own && i < c->taken_n; i++)
        own = subject_match(slice_str(c->taken[i]), key);
    if (own && key.len && subject_valid(key))
        return subject_match(filter, key);
    buf_clear(scratch);
    return subject_of_record(slice_str(topic_name(c->t)), key, scratch) &&
           subject_match(filter, buf_slice(scratch));
}

/* What a stream removed: the block that was looked at last. */
struct holes {
    bool known, any;
    uint64_t block;
    uint8_t bits[REMOVED_BYTES];
};

static bool is_removed(struct weir_cursor *c, struct holes *h, int64_t offset)
{
    uint64_t block = (uint64_t)offset / REMOVED_BLOCK, bit = (uint64_t)offset % REMOVED_BLOCK;

    if (!c->stream)
        return false;
    if (!h->known || h->block != block) {
        h->known = true;
        h->block = block;
        h->any = removed_get(c->w->b, topic_id(c->t), block, h->bits);
    }
    return h->any && h->bits[bit / 8] & 1u << bit % 8;
}

/* ---- one partition ---- */

struct taking {
    struct weir_cursor *c;
    int32_t index; /* of the partition */
    struct cursor_part part;
    struct batch *batch;
    size_t max;
    struct lib_scan scan;
    struct holes holes;
    struct buf subject;
};

/* False: it does not fit. */
static bool batch_add(struct taking *t, const struct record *r, uint32_t deliveries)
{
    struct batch *b = t->batch;
    struct slice key = arena_dup(&b->mem, r->key), value = arena_dup(&b->mem, r->value);
    struct weir_message m = {.topic = topic_name(t->c->t),
                             .partition = t->index,
                             .offset = r->offset,
                             .position = lib_scan_position(&t->scan, r),
                             .timestamp_ms = r->timestamp_ms,
                             .key = key.ptr,
                             .key_len = key.len,
                             .value = value.ptr,
                             .value_len = value.len};

    if ((r->key.ptr && !key.ptr) || (r->value.ptr && !value.ptr) ||
        !copy_headers(b, r, t->scan.headers, &m))
        return false;
    if (b->pub.n == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 16;
        b->v = xrealloc(b->v, b->cap * sizeof *b->v);
        b->pub.v = b->v;
    }
    b->v[b->pub.n++] = (struct weir_delivery){.message = m, .deliveries = deliveries};
    b->bytes += r->key.len + r->value.len + r->headers_raw.len;
    return true;
}

/* The first record that is wanted from `from` on; what is before it is done. ERR_AGAIN: none. */
static enum err look(struct taking *t, int64_t from, struct record *r, struct errinfo *info)
{
    int64_t to = lib_scan_end(t->part.p);
    enum err e = ERR_OK;

    if (from >= to)
        return ERR_AGAIN;
    if (t->scan.next != from) {
        lib_scan_fini(&t->scan);
        lib_scan_init(&t->scan, t->part.p, from);
    }
    while (!(e = lib_scan_next(&t->scan, to, READ_BYTES, r, info)))
        if (!is_removed(t->c, &t->holes, r->offset) && wants(t->c, r->key, &t->subject))
            break;
    if (!e || e == ERR_AGAIN)
        cursor_skip(t->part.c, from, (e ? t->scan.next : r->offset) - 1);
    return e;
}

static enum err take_all(struct taking *t, struct errinfo *info)
{
    struct weir_cursor *c = t->c;
    struct slice owner = slice_str(c->owner);
    struct cursor_taken got;
    struct record r;
    uint32_t n, tries = 0;
    int64_t at;
    enum err e;

    while (t->batch->pub.n < t->max && t->batch->bytes < BATCH_BYTES && tries < TRIES) {
        at = cursor_next(t->part.c, &c->conf, lib_now_ms());
        e = at < 0 ? ERR_AGAIN : look(t, at, &r, info);
        if (e)
            return e == ERR_AGAIN ? ERR_OK : e;
        n = 0;
        cursor_take(t->part.c, owner, r.offset, r.offset, 1, &c->conf, lib_now_ms(), &got, 1, &n);
        if (!n) {
            tries++;
        } else if (!batch_add(t, &r, got.deliveries)) {
            return errinfo_set(info, ERR_TOO_LARGE, "a record does not fit into memory");
        }
    }
    return ERR_OK;
}

static enum err take_part(struct weir_cursor *c, int32_t index, const struct cursor_part *part,
                          struct batch *b, size_t max, struct errinfo *info)
{
    struct taking t = {.c = c, .index = index, .part = *part, .batch = b, .max = max};
    int64_t begin;
    enum err e;

    buf_init(&t.subject, SUBJECT_OF_RECORD_MAX + LIMIT_KV_KEY);
    begin = c->stream ? lib_scan_begin(c->w, c->t, part->p, (int64_t)c->first) : 0;
    if (begin > 0)
        cursor_skip(part->c, 0, begin - 1);
    lib_scan_init(&t.scan, part->p, begin);
    e = take_all(&t, info);
    lib_scan_fini(&t.scan);
    buf_fini(&t.subject);
    return e;
}

/* ---- all of them ---- */

static enum err take(struct weir_cursor *c, struct batch *b, size_t max, struct errinfo *info)
{
    int32_t i, n = topic_partitions(c->t), index;
    struct cursor_part part;
    uint32_t turn;
    enum err e = ERR_OK;

    io_mutex_lock(&c->lock);
    turn = c->turn++;
    io_mutex_unlock(&c->lock);
    for (i = 0; !e && i < n && b->pub.n < max && b->bytes < BATCH_BYTES; i++) {
        index = (int32_t)((turn + (uint32_t)i) % (uint32_t)n);
        e = lib_cursor_part(c, index, &part, info);
        if (!e) {
            e = take_part(c, index, &part, b, max, info);
            cursor_unref(&part.c);
        }
    }
    return b->pub.n ? ERR_OK : e ? e : ERR_AGAIN; /* what is there goes first */
}

/* Ends leases; until when there is nothing of the kind to do. */
static int64_t leases_due(struct weir *w)
{
    int64_t now = lib_now_ms(), at = cursors_deadline_ms(w->b);

    if (at <= now && io_mutex_trylock(&w->tick_lock)) {
        cursors_tick(w->b, now);
        io_mutex_unlock(&w->tick_lock);
        at = cursors_deadline_ms(w->b);
    }
    return at <= now ? now + CURSORS_TICK_MS : at;
}

static enum err fetch(struct weir_cursor *c, struct batch *b, size_t max, int64_t timeout_ms,
                      struct errinfo *info)
{
    int64_t until = lib_now_ms() + timeout_ms, left, due, paused;
    uint64_t seen;
    enum err e;

    for (;;) {
        due = leases_due(c->w);
        seen = broker_commits(c->w->b);
        paused = c->pause_until_ms - io_wall_ms(io_real());
        e = paused > 0 ? ERR_AGAIN : take(c, b, max, info);
        left = until - lib_now_ms();
        if (e != ERR_AGAIN || left <= 0)
            return e;
        if (due - lib_now_ms() < left)
            left = due - lib_now_ms();
        if (paused > 0 && paused < left)
            left = paused;
        lib_wait(c->w, seen, left > 0 ? (uint64_t)left : 1);
    }
}

weir_err weir_cursor_fetch(struct weir_cursor *c, size_t max, int64_t timeout_ms,
                           struct weir_batch **out, struct weir_error *error)
{
    struct batch *b = batch_new();
    struct errinfo info = {0};
    enum err e;

    if (timeout_ms < 0 || timeout_ms > TIMEOUT_MS_MAX)
        timeout_ms = TIMEOUT_MS_MAX;
    e = max ? fetch(c, b, max, timeout_ms, &info)
            : errinfo_set(&info, ERR_INVALID, "no records are asked for");
    *out = &b->pub;
    if (e)
        weir_batch_free(out);
    return lib_read_fail(c->w, e, &info, error);
}
