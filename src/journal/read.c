/* Reading partition logs: batches from frames in memory (tail.c), from blocks of files that readers
 * share (blocks.c), or from files by reads of their own.
 *
 * What comes from a file is checked, whether it was read just now or lay in a block: batch headers
 * against the entry, bodies by the batch's CRC. What comes from the tail was checked when it was
 * appended.
 *
 * Memory: what is returned points into frames and blocks, which stay while the reader holds them. A
 * reader that is slow must not keep all of it: frames that left the tail are held up to the tail's
 * size, blocks up to three quarters of what there may be; beyond, readers get copies of what they
 * asked for. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "journal/batch.h"
#include "journal/blocks.h"
#include "journal/keep.h"
#include "journal/plog_int.h"
#include "journal/slab.h"

#define GAP_MAX     4096u /* bytes of others' data read along to save a call */
#define SLABS_ABOUT 2u  /* that may be in the tail in part: at its end, and where frames are put */
#define AHEAD       16u /* blocks read ahead at once */
#define NEAR        8u  /* when the block so far ahead is not there, it is time for it */

/* One plog_read. */
struct reading {
    struct journal *j;
    struct place *pl;
    struct plog_read *r;
    uint8_t *room; /* in r->buf, for all that is left; NULL: not yet */
    struct errinfo *info;
};

static void add_batch(struct plog_read *r, const struct batch_ref *b, const uint8_t *data)
{
    struct read_batch *o = &r->batch[r->n++];

    o->data = slice_of(data, b->len);
    o->base_offset = b->base_offset;
    o->last_offset = b->base_offset + b->count - 1;
    o->position = b->position;
    o->max_timestamp_ms = b->max_ts;
    r->bytes += b->len;
}

/* Is this the batch that the entry stands for, undamaged? */
bool batch_matches(const uint8_t *data, const struct batch_ref *b)
{
    struct batch_info bi;

    return batch_parse(slice_of(data, b->len), &bi) == ERR_OK && bi.length == b->len &&
           bi.base_offset == b->base_offset && bi.crc == b->batch_crc &&
           (uint32_t)bi.leader_epoch == b->epoch &&
           (uint32_t)bi.last_offset_delta + 1 == b->count && batch_crc_ok(slice_of(data, b->len));
}

/* Room of the reader's own, for refs[i] and, behind it, all that follow. */
static uint8_t *own_room(struct reading *g, unsigned i)
{
    struct plog_read *r = g->r;
    size_t need = 0;

    if (g->room)
        return g->room;
    for (; i < g->pl->n; i++)
        need += g->pl->refs[i].b.len + GAP_MAX;
    if (r->buf_cap < need) {
        free(r->buf);
        r->buf_cap = (need + 65535) & ~(size_t)65535;
        r->buf = xmalloc(r->buf_cap);
    }
    g->room = r->buf;
    return g->room;
}

/* ---- from the tail ---- */

/* Serves refs from `from` on out of frames in memory as far as they are there; returns how many. */
static unsigned read_tail(struct reading *g, unsigned from)
{
    uint64_t most = g->j->conf.tail_bytes + SLABS_ABOUT * slab_bytes(g->j);
    bool copy = atomic_load(&g->j->evicted_bytes) > most;
    struct plog_read *r = g->r;
    struct frame *f = NULL;
    unsigned i;

    for (i = from; i < g->pl->n; i++) {
        const struct ref *ref = &g->pl->refs[i];
        uint64_t pos = ref->b.file_pos;

        if (!f || f->file_id != ref->file->id || pos < f->file_pos ||
            pos - f->file_pos >= f->used) {
            if (f && copy)
                frame_unref(g->j, f);
            f = tail_find(g->j, ref->file->id, pos);
            if (!f)
                break;
            if (!copy)
                r->pins[r->pins_n++] = f;
        }
        if (copy)
            add_batch(r, &ref->b,
                      g->room = memcpy(own_room(g, i), f->mem + (pos - f->file_pos), ref->b.len));
        else
            add_batch(r, &ref->b, f->mem + (pos - f->file_pos));
        if (copy)
            g->room += ref->b.len;
    }
    if (f && copy)
        frame_unref(g->j, f);
    return i - from;
}

/* ---- from blocks ---- */

/* The refs from i on that begin in the block of refs[i]. */
struct block_refs {
    uint32_t no;
    unsigned n, whole; /* those that end in it, too, come first */
    size_t bytes;
    uint32_t need; /* of the block, for those */
};

static struct block_refs block_refs_of(const struct place *pl, unsigned i)
{
    struct block_refs s = {.no = pl->refs[i].b.file_pos / BLOCK_BYTES};
    uint64_t start = (uint64_t)s.no * BLOCK_BYTES;

    for (; i < pl->n && pl->refs[i].file == pl->refs[i - s.n].file; i++) {
        const struct batch_ref *b = &pl->refs[i].b;

        if (b->file_pos / BLOCK_BYTES != s.no)
            break;
        s.n++;
        s.bytes += b->len;
        if (b->file_pos - start + b->len <= BLOCK_BYTES) {
            s.whole++;
            s.need = (uint32_t)(b->file_pos - start + b->len);
        }
    }
    return s;
}

/* A batch that lies in two blocks is put together. */
static bool read_across(struct reading *g, unsigned i, bool load)
{
    const struct batch_ref *b = &g->pl->refs[i].b;
    struct jfile *file = g->pl->refs[i].file;
    struct blocks *c = g->j->blocks;
    uint32_t no = b->file_pos / BLOCK_BYTES, at = b->file_pos % BLOCK_BYTES;
    size_t first = BLOCK_BYTES - at;
    struct block *one, *two;
    uint8_t *to;

    if (b->len - first > BLOCK_BYTES || blocks_get(c, file, no, BLOCK_BYTES, load, &one, g->info))
        return false;
    if (blocks_get(c, file, no + 1, (uint32_t)(b->len - first), load, &two, g->info)) {
        block_unref(c, one);
        return false;
    }
    to = own_room(g, i);
    memcpy(to, block_mem(one) + at, first);
    memcpy(to + first, block_mem(two), b->len - first);
    block_unref(c, one);
    block_unref(c, two);
    if (!batch_matches(to, b)) {
        blocks_forget(c, file->id, no);
        blocks_forget(c, file->id, no + 1);
        return false;
    }
    add_batch(g->r, b, to);
    g->room = to + b->len;
    return true;
}

/* Takes refs[i..] that lie in the block; how many. */
static unsigned block_take(struct reading *g, unsigned i, unsigned n, struct block *bl)
{
    bool copy = blocks_scarce(g->j->blocks);
    struct plog_read *r = g->r;
    unsigned k;

    for (k = 0; k < n; k++) {
        const struct ref *ref = &g->pl->refs[i + k];
        const uint8_t *data = block_mem(bl) + ref->b.file_pos % BLOCK_BYTES;

        if (!batch_matches(data, &ref->b)) {
            blocks_forget(g->j->blocks, ref->file->id, ref->b.file_pos / BLOCK_BYTES);
            break;
        }
        if (copy) {
            data = memcpy(own_room(g, i + k), data, ref->b.len);
            g->room += ref->b.len;
        }
        add_batch(r, &ref->b, data);
    }
    if (copy || k == 0)
        block_unref(g->j->blocks, bl);
    else
        r->blocks[r->blocks_n++] = bl;
    return k;
}

/* Serves refs from i on that begin in one block, if it is worth it; how many. What is damaged is not
 * served: it is then read from the file again, which says what is wrong. */
static unsigned read_block(struct reading *g, unsigned i)
{
    struct block_refs s = block_refs_of(g->pl, i);
    struct jfile *file = g->pl->refs[i].file;
    struct block *bl;
    bool load;

    if (g->r->once)
        return 0;
    load = !g->r->memory_only && blocks_worth(g->j->blocks, file, s.no, s.n, s.bytes);
    if (s.whole == 0)
        return read_across(g, i, load);
    if (blocks_get(g->j->blocks, file, s.no, s.need, load, &bl, g->info))
        return 0;
    return block_take(g, i, s.whole, bl);
}

/* ---- from files ---- */

/* How many refs from i on lie close enough together in one file to be read in one call, and where
 * the run ends. */
static unsigned run_of(const struct place *pl, unsigned i, uint64_t *end)
{
    unsigned k = i;

    *end = (uint64_t)pl->refs[i].b.file_pos + pl->refs[i].b.len;
    while (k + 1 < pl->n && pl->refs[k + 1].file == pl->refs[i].file &&
           pl->refs[k + 1].b.file_pos >= *end && pl->refs[k + 1].b.file_pos - *end <= GAP_MAX) {
        k++;
        *end = (uint64_t)pl->refs[k].b.file_pos + pl->refs[k].b.len;
    }
    return k - i + 1;
}

static enum err read_run(struct reading *g, unsigned i, unsigned *n)
{
    uint64_t start = g->pl->refs[i].b.file_pos, end;
    struct jfile *file = g->pl->refs[i].file;
    uint8_t *to = own_room(g, i);
    struct io_file *fd;
    size_t got = 0;
    unsigned k;
    enum err e;

    *n = run_of(g->pl, i, &end);
    if ((e = jfile_data(file, &fd, g->info)) ||
        (e = io_pread(fd, to, end - start, start, &got, g->info)))
        return e;
    if (got < end - start)
        return plog__damaged(file, false, start + got, "the file ends early", g->info);
    for (k = i; k < i + *n; k++) {
        const struct batch_ref *b = &g->pl->refs[k].b;
        const uint8_t *data = to + (b->file_pos - start);

        if (!batch_matches(data, b))
            return plog__damaged(file, false, b->file_pos, "a batch has a wrong checksum", g->info);
        add_batch(g->r, b, data);
    }
    g->room = to + (end - start);
    return ERR_OK;
}

static enum err read_files(struct reading *g, unsigned i)
{
    enum err e = ERR_OK;
    unsigned n;

    for (; !e && i < g->pl->n; i += n) {
        n = read_block(g, i);
        if (n == 0)
            e = read_run(g, i, &n);
    }
    return e;
}

/* ---- the reader's ---- */

static void read_reset(struct plog_read *r)
{
    unsigned i;

    for (i = 0; i < r->pins_n; i++)
        frame_unref(r->j, r->pins[i]);
    for (i = 0; i < r->blocks_n; i++)
        block_unref(r->j->blocks, r->blocks[i]);
    r->pins_n = r->blocks_n = r->n = 0;
    r->bytes = 0;
}

void plog_read_recycle(struct plog_read *r, size_t buf_max)
{
    read_reset(r);
    if (r->buf_cap <= buf_max)
        return;
    free(r->buf);
    r->buf = NULL;
    r->buf_cap = 0;
}

void plog_read_release(struct plog_read *r)
{
    plog_read_recycle(r, 0);
}

/* Would what follows have to be waited for? */
static bool ahead_due(const struct reading *g)
{
    const struct ref *last = &g->pl->refs[g->pl->n - 1];
    uint32_t no = last->b.file_pos / BLOCK_BYTES + NEAR;

    return (uint64_t)no * BLOCK_BYTES < atomic_load(&last->file->used) &&
           !blocks_has(g->j->blocks, last->file, no, 0);
}

/* Is the batch in the tail, or in blocks? */
static bool in_memory(struct journal *j, const struct ref *ref)
{
    uint32_t no = ref->b.file_pos / BLOCK_BYTES;
    uint64_t end = ref->b.file_pos % BLOCK_BYTES + (uint64_t)ref->b.len;
    struct frame *f;

    if (end <= BLOCK_BYTES
            ? blocks_has(j->blocks, ref->file, no, (uint32_t)end)
            : end <= 2 * BLOCK_BYTES && blocks_has(j->blocks, ref->file, no, BLOCK_BYTES) &&
                  blocks_has(j->blocks, ref->file, no + 1, (uint32_t)(end - BLOCK_BYTES)))
        return true;
    f = tail_find(j, ref->file->id, ref->b.file_pos);
    if (f)
        frame_unref(j, f);
    return f;
}

/* memory_only, and refs from `done` on are not in the tail. What is in blocks is checked when it is
 * taken, which is wasted if the rest is not there: so all of it has to be. And whoever catches up so
 * takes the processor on the caller's thread, not on one that gives way to writers: not while there are
 * any. */
static enum err read_memory(struct reading *g, unsigned done)
{
    unsigned i, k = 1, n = g->pl->n;

    if (g->r->once || writers_about(g->j))
        return done ? ERR_OK : ERR_AGAIN;
    for (i = done; i < n; i++)
        if (!in_memory(g->j, &g->pl->refs[i]))
            return done ? ERR_OK : ERR_AGAIN;
    for (; done < n && k; done += k) {
        k = read_block(g, done);
        if (k == 0)
            k = read_tail(g, done);
    }
    g->r->ahead = done && ahead_due(g);
    return done ? ERR_OK : ERR_AGAIN;
}

/* From its place. */
static enum err read_place(struct reading *g)
{
    unsigned done = read_tail(g, 0);

    if (done == g->pl->n)
        return ERR_OK;
    return g->r->memory_only ? read_memory(g, done) : read_files(g, done);
}

enum err plog_read(struct plog *p, int64_t offset, size_t bytes_max, struct plog_read *r,
                   struct errinfo *info)
{
    struct place pl;
    struct reading g = {.j = p->j, .pl = &pl, .r = r, .info = info};
    struct plog_info now;
    enum err e;

    read_reset(r);
    r->j = p->j;
    r->ahead = !r->memory_only;
    if (!r->once && !r->patient)
        keep_note_read(p->j);
    plog_info_get(p, &now);
    r->start_offset = now.start_offset;
    r->end_offset = now.end_offset;
    if (offset < now.start_offset || offset > now.end_offset)
        return errinfo_set(info, ERR_OFFSET_RANGE,
                           "offset %" PRId64 " is not in the log (%" PRId64 " to %" PRId64 ")",
                           offset, now.start_offset, now.end_offset);
    if (offset == now.end_offset)
        return atomic_load(&p->deleted)
                   ? errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the topic was deleted")
                   : ERR_OK;
    if ((e = plog__place_get(p, BY_OFFSET, offset, bytes_max, r->memory_only, &pl, info)))
        return e;
    e = read_place(&g);
    if (e == ERR_CORRUPT && r->n)
        e = ERR_OK; /* what is before the damage is served; the next read meets it first */
    if (!e && r->n && r->batch[0].last_offset < offset)
        e = errinfo_set(info, ERR_CORRUPT, "the index leads to a batch below offset %" PRId64,
                        offset);
    plog__place_unpin(&pl);
    return e;
}

/* Is it neither in the tail nor too little? */
static bool ahead_worth(struct journal *j, const struct place *pl, unsigned i,
                        const struct block_refs *s)
{
    struct frame *f;

    if (s->n < 4 && s->bytes < BLOCK_BYTES / 8)
        return false;
    f = tail_find(j, pl->refs[i].file->id, pl->refs[i].b.file_pos);
    if (f)
        frame_unref(j, f);
    return !f;
}

/* Of what plog_read would read from `offset` on; where that ends, or `offset`: no further. */
static int64_t ahead_part(struct plog *p, int64_t offset, size_t bytes_max, unsigned *blocks)
{
    struct block_refs s;
    struct place pl;
    unsigned i;

    if (plog__place_get(p, BY_OFFSET, offset, bytes_max, false, &pl, NULL))
        return offset;
    for (i = 0; i < pl.n && *blocks < AHEAD; i += s.n) {
        s = block_refs_of(&pl, i);
        offset = pl.refs[i + s.n - 1].b.base_offset + pl.refs[i + s.n - 1].b.count;
        if (!ahead_worth(p->j, &pl, i, &s))
            continue;
        blocks_ahead(p->j->blocks, pl.refs[i].file, s.no);
        ++*blocks;
    }
    plog__place_unpin(&pl);
    return offset;
}

void plog_read_ahead(struct plog *p, int64_t offset, size_t bytes_max)
{
    unsigned blocks = 0, i;
    int64_t next;

    for (i = 0; i < AHEAD && blocks < AHEAD; i++, offset = next) {
        next = ahead_part(p, offset, bytes_max, &blocks);
        if (next == offset)
            return;
    }
}
