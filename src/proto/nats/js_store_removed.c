/* What is remembered durably of what was removed from a stream. See js_store_int.h.
 *
 * From the front the log is trimmed, now and then, by a timer (js_store.c). From between, the blocks
 * (of 4,096 offsets) that it is in are noted, and written as items, a bit for each offset, when
 * something must be remembered: an explicit deletion, a change of limits, the end of a consumer. What
 * limits removed need not be written for itself: reading the log with the same limits removes the same
 * again; it is written some seconds later, as compaction gives back the room of what is marked as
 * removed (broker/removed.h). Whatever is written is so together with all that was removed before, and
 * with where the stream begins: so nothing comes back as room was made later. */
#include <stdlib.h>

#include "base/endian.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "proto/nats/js_source.h"
#include "proto/nats/js_store_int.h"

#define FLUSH_MS    10000 /* what was removed is remembered at the latest, so that room is made */
#define FLUSH_BYTES (4u << 20) /* of a unit of that, or what a file holds */
#define FLUSH_ITEM  1024u      /* a block in it, at most */

void jstore_removed_note(struct jstore *st, uint64_t block)
{
    if (u64map_put(&st->dirty, block, st) == ERR_OK && st->dirty.n == 1)
        jstore_timer_in(st, FLUSH_MS);
}

/* Bits of what is not there of a block; false: all of it is before the stream's begin. */
static bool block_bits(struct jstore *st, uint64_t block, uint8_t out[REMOVED_BYTES])
{
    struct jstream *s = st->s;
    int64_t from = (int64_t)(block * JSTORE_BLOCK), i;

    memset(out, 0, REMOVED_BYTES);
    if (jstream_seq(s, from + JSTORE_BLOCK - 1) < s->index.first)
        return false;
    for (i = 0; i < JSTORE_BLOCK; i++) {
        uint64_t seq = jstream_seq(s, from + i);

        if (seq >= s->index.first && seq <= s->index.last && !jindex_has(&s->index, seq))
            out[i / 8] |= (uint8_t)(1u << i % 8);
    }
    return true;
}

struct gone_key {
    uint8_t b[REMOVED_KEY];
};

static struct slice gone_key(const struct jstore *st, uint64_t block, struct gone_key *k)
{
    removed_key(topic_id(st->s->topic), block, k->b);
    return slice_of(k->b, sizeof k->b);
}

/* ---- written ---- */

/* Blocks are written in order, in as many units as they need, each when the one before is durable.
 * Limits remove what is older before what is younger, so what a crash leaves of it makes no room for
 * what was removed before. */
struct flushing {
    struct jdone step;
    struct jstore *st;
    struct jdone *d;
    struct append *a;
    uint64_t *block;
    uint32_t n, at, from; /* those of the unit under way: from on to at */
    bool forget, last;    /* they are deleted, then this item: */
    const char *ns;
    size_t key_len;
    uint8_t key[];
};

static struct flushing *flushing_new(struct jstore *st, struct u64map *blocks, struct jdone *d,
                                     struct slice key)
{
    struct flushing *f = xcalloc(1, sizeof *f + key.len);
    uint32_t at = 0;
    void *v;

    f->st = st;
    f->d = d;
    f->block = xcalloc(blocks->n + 1, sizeof *f->block);
    while (u64map_next(blocks, &at, &f->block[f->n], &v))
        f->n++;
    qsort(f->block, f->n, sizeof *f->block, js_by_number);
    f->key_len = key.len;
    if (key.len)
        memcpy(f->key, key.ptr, key.len);
    return f;
}

static void flush_end(struct flushing *f, enum err e)
{
    jdone_call(f->d, e, NULL);
    append_free(&f->a);
    free(f->block);
    free(f);
}

static void append_done(struct append *a, void *arg, enum err e)
{
    (void)a;
    jdone_call(arg, e, NULL);
}

static enum err put_block(struct flushing *f, uint64_t block)
{
    struct jstore *st = f->st;
    uint8_t bits[REMOVED_BYTES];
    struct gone_key k;

    if (f->forget)
        return append_kv(f->a, REMOVED_NS, gone_key(st, block, &k), SLICE_NULL);
    if (!u64map_find(&st->dirty, block) || !block_bits(st, block, bits))
        return ERR_OK; /* it is as its item says, or before the begin */
    u64map_put(&st->kept, block, st);
    return append_kv(f->a, REMOVED_NS, gone_key(st, block, &k), slice_of(bits, sizeof bits));
}

/* What goes along with the blocks: where the stream begins, first; the other item, last. */
static enum err put_rest(struct flushing *f, bool first)
{
    struct gone_key k;
    uint8_t begin[8];
    enum err e = ERR_OK;

    be64_store(begin, f->st->s->index.first);
    if (first)
        e = append_kv(f->a, REMOVED_NS, gone_key(f->st, REMOVED_BEGIN, &k),
                      f->forget ? SLICE_NULL : slice_of(begin, sizeof begin));
    if (!e && f->last && f->forget)
        e = jsources_forget(f->st->s, f->a);
    if (!e && f->last && f->forget)
        e = append_kv(f->a, f->ns, slice_of(f->key, f->key_len), SLICE_NULL);
    return e;
}

static void flush_step(struct flushing *f);

static void flush_stepped(struct jdone *step)
{
    struct flushing *f = list_entry(step, struct flushing, step);
    struct jstore *st = f->st;
    uint32_t i;

    if (step->e) {
        st->begin = f->forget ? st->begin : 0; /* it may not be as saved */
        for (i = f->from; !f->forget && i < f->at; i++)
            jstore_removed_note(st, f->block[i]);
        flush_end(f, step->e);
    } else if (f->last) {
        flush_end(f, ERR_OK);
    } else if (st->stopped && !f->forget) {
        flush_end(f, ERR_TOPIC_NOT_FOUND);
    } else {
        append_reset(f->a);
        flush_step(f);
    }
}

static void flush_step(struct flushing *f)
{
    size_t room = append_bytes_max(f->st->s->js->b) - 2 * LIMIT_KV_KEY - 2 * FLUSH_ITEM;
    struct jstore *st = f->st;
    enum err e = ERR_OK;
    uint32_t i;

    if (room > FLUSH_BYTES)
        room = FLUSH_BYTES;
    for (f->from = f->at; !e && f->at < f->n && append_bytes(f->a) < room; f->at++)
        e = put_block(f, f->block[f->at]);
    f->last = f->at == f->n;
    if (!e)
        e = put_rest(f, !f->from);
    jdone_begin(&f->step, st->s, flush_stepped);
    if (!e)
        e = append_submit(f->a, true, NULL);
    if (e) {
        jdone_cancel(&f->step);
        flush_end(f, e);
        return;
    }
    if (f->forget)
        return;
    st->begin = st->s->index.first;
    for (i = f->from; i < f->at; i++)
        u64map_remove(&st->dirty, f->block[i]);
}

static void flush_begin(struct flushing *f)
{
    f->a = append_new(f->st->s->js->b, append_done, &f->step);
    flush_step(f);
}

void jstore_flush(struct jstream *s, struct jdone *d, void (*fn)(struct jdone *d))
{
    struct jstore *st = s->store;

    jdone_begin(d, s, fn);
    if (!s->implicit && (st->dirty.n || st->begin != s->index.first))
        flush_begin(flushing_new(st, &st->dirty, d, SLICE_NULL));
    else
        jdone_call(d, ERR_OK, NULL);
}

void jstream_flush(struct jstream *s, struct jdone *d, void (*fn)(struct jdone *d))
{
    jstore_flush(s, d, fn);
}

void jstore_forget(struct jstream *s, const char *ns, struct slice key, struct jdone *d)
{
    struct flushing *f = flushing_new(s->store, &s->store->kept, d, key);

    f->ns = ns;
    f->forget = true;
    flush_begin(f);
}

static void flushed(struct jdone *d)
{
    struct jstore *st = list_entry(d, struct jstore, save);

    st->flushing = false;
}

void jstore_removed_tick(struct jstore *st, int64_t now)
{
    if (!st->dirty.n || st->flushing)
        return;
    if (now - st->flushed_ms >= FLUSH_MS) {
        st->flushing = true;
        st->flushed_ms = now;
        jstore_flush(st->s, &st->save, flushed);
    }
    if (st->dirty.n)
        jstore_timer_in(st, FLUSH_MS);
}

/* ---- read ---- */

void jstore_removed_load(struct jstore *st, int64_t start_offset)
{
    struct jstream *s = st->s;
    struct gone_key k;

    st->begin = jstream_seq(s, start_offset);
    if (!kv_get(s->js->b, REMOVED_NS, gone_key(st, REMOVED_BEGIN, &k), &st->bits) &&
        st->bits.len == 8 && be64_load(st->bits.ptr) > st->begin)
        st->begin = be64_load(st->bits.ptr);
    st->bits_block = REMOVED_BEGIN;
}

bool jstore_removed_before(struct jstore *st, int64_t offset)
{
    uint64_t block = (uint64_t)offset / JSTORE_BLOCK;
    unsigned bit = (unsigned)(offset % JSTORE_BLOCK);
    struct gone_key k;

    if (block != st->bits_block) {
        st->bits_block = block;
        if (kv_get(st->s->js->b, REMOVED_NS, gone_key(st, block, &k), &st->bits))
            buf_clear(&st->bits);
        else
            u64map_put(&st->kept, block, st);
    }
    return st->bits.len == REMOVED_BYTES && st->bits.ptr[bit / 8] & 1u << bit % 8;
}

void jstore_removed_fini(struct jstore *st)
{
    u64map_fini(&st->dirty);
    u64map_fini(&st->kept);
    buf_fini(&st->bits);
}
