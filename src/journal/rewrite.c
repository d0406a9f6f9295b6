/* Rewriting: neighbouring sealed files in which little is still wanted become one dense segment,
 * sorted by plog. It frees at least as much as it writes. Batches are copied unmodified after their
 * checksums were verified; a file with damage is left alone for `weir check` to find.
 *
 * Small segments next to a run are merged in while they are not larger than twice the run, so that
 * the number of files grows with the logarithm of the data, not with time. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"
#include "journal/index.h"
#include "journal/sealer.h"

#define RUN_MAX 64u
#define OUT_BUF (1u << 20)

struct run {
    struct jfile *file[RUN_MAX];
    unsigned n;
    uint64_t live;
};

struct out {
    struct io_file *fd;
    uint8_t *buf;
    uint64_t at; /* file position of buf[0] */
    size_t n;
};

static uint64_t live_of(struct jfile *f)
{
    int64_t live = atomic_load(&f->live_bytes);

    return live > 0 ? (uint64_t)live : 0;
}

static bool sparse(struct jfile *f)
{
    bool old = !f->j->conf.threads || io_mono_ns(f->j->io) - f->sealed_ns >= REWRITE_AGE_NS;

    return old && atomic_load(&f->state) == JFILE_SEALED && !f->rewrite_failed && live_of(f) > 0 &&
           live_of(f) < (f->size - FILE_HEADER) / 2; /* a tiny segment's header is no waste */
}

static bool small_segment(struct jfile *f, uint64_t live)
{
    return atomic_load(&f->state) == JFILE_SEALED && !f->rewrite_failed &&
           f->kind == JFILE_SEGMENT && live_of(f) > 0 && live_of(f) <= 2 * live;
}

static void run_push_front(struct run *r, struct jfile *f)
{
    memmove(r->file + 1, r->file, r->n * sizeof *r->file);
    r->file[0] = f;
    r->n++;
    r->live += live_of(f);
}

/* Finds files worth it and pins them. Journal lock held. */
static bool run_find(struct journal *j, struct run *r)
{
    struct jfile *f, *g;
    unsigned i;

    r->n = 0;
    r->live = 0;
    list_for_each(f, &j->files, struct jfile, link)
    {
        if (sparse(f) && r->n < RUN_MAX / 2 && r->live + live_of(f) <= REWRITE_BYTES_MAX) {
            r->file[r->n++] = f;
            r->live += live_of(f);
        } else if (r->n) {
            break;
        }
    }
    if (r->n == 0)
        return false;
    for (g = r->file[0]; r->n < RUN_MAX && !list_is_first(&j->files, &g->link);) {
        g = list_entry(g->link.prev, struct jfile, link);
        if (!small_segment(g, r->live) || r->live + live_of(g) > REWRITE_BYTES_MAX)
            break;
        run_push_front(r, g);
    }
    for (i = 0; i < r->n; i++)
        jfile_pin(r->file[i]);
    return true;
}

/* ---- writing the segment ---- */

static enum err out_flush(struct out *o, struct errinfo *info)
{
    enum err e = o->n ? io_pwrite(o->fd, o->buf, o->n, o->at, info) : ERR_OK;

    o->at += o->n;
    o->n = 0;
    return e;
}

static enum err out_put(struct out *o, const void *p, size_t n, struct errinfo *info)
{
    enum err e = ERR_OK;

    if (o->n + n > OUT_BUF)
        e = out_flush(o, info);
    if (!e && n > OUT_BUF) {
        e = io_pwrite(o->fd, p, n, o->at, info);
        o->at += n;
    } else if (!e) {
        memcpy(o->buf + o->n, p, n);
        o->n += n;
    }
    return e;
}

struct refs {
    struct batch_ref *v;
    uint32_t n, cap;
};

/* Each batch has an entry header before it, so that a lost index can be made anew; the wall clock's
 * place has the CRC of the 24 bytes before it. */
static enum err copy_batch(struct out *o, uint32_t uid, const struct read_batch *b,
                           struct refs *refs, struct errinfo *info)
{
    static const uint8_t zeros[8];
    uint8_t head[ENTRY_HEADER];
    struct entry_header eh = {ENTRY_BATCH, (uint32_t)b->data.len,
                              uid,         (uint32_t)(b->last_offset - b->base_offset + 1),
                              b->position, 0};
    uint64_t at = o->at + o->n + ENTRY_HEADER;
    enum err e;

    entry_header_write(head, &eh);
    le64_store(head + 24, crc32c(0, head, 24));
    e = out_put(o, head, sizeof head, info);
    if (!e)
        e = out_put(o, b->data.ptr, b->data.len, info);

    if (!e)
        e = out_put(o, zeros, (8 - b->data.len % 8) % 8, info);
    if (refs->n == refs->cap) {
        refs->cap = refs->cap ? refs->cap * 2 : 64;
        refs->v = xrealloc(refs->v, refs->cap * sizeof *refs->v);
    }
    batch_ref_make(&refs->v[refs->n++], b->data.ptr, (uint32_t)b->data.len, b->position, at);
    return e;
}

/* Copies what plog p still wants of one extent. */
static enum err copy_extent(struct plog *p, const struct extent *x, struct out *o,
                            struct refs *refs, struct errinfo *info)
{
    struct plog_read r = {0};
    struct plog_info pi;
    int64_t at = x->base_offset;
    enum err e = ERR_OK;
    unsigned i;

    plog_info_get(p, &pi);
    if (at < pi.start_offset)
        at = pi.start_offset;
    while (!e && at < x->end_offset) {
        e = plog_read(p, at, OUT_BUF, &r, info);
        if (e || r.n == 0)
            break;
        for (i = 0; !e && i < r.n && r.batch[i].base_offset < x->end_offset; i++) {
            e = copy_batch(o, p->uid, &r.batch[i], refs, info);
            at = r.batch[i].last_offset + 1;
        }
    }
    plog_read_release(&r);
    if (e == ERR_OFFSET_RANGE || e == ERR_TOPIC_NOT_FOUND)
        e = ERR_OK; /* trimmed or deleted meanwhile: not wanted any more */
    return e;
}

static enum err copy_plog(struct plog *p, const struct run *run, struct out *o,
                          struct index_build *b, struct errinfo *info)
{
    struct refs refs = {0};
    struct extent x;
    enum err e = ERR_OK;
    unsigned i;

    for (i = 0; !e && i < run->n; i++)
        if (plog_extent_of(p, run->file[i], &x))
            e = copy_extent(p, &x, o, &refs, info);
    if (!e && refs.n)
        index_add(b, p->uid, refs.v, refs.n);
    free(refs.v);
    return e;
}

static int uid_order(const void *a, const void *b)
{
    const struct plog *x = *(struct plog *const *)a, *y = *(struct plog *const *)b;

    return x->uid < y->uid ? -1 : x->uid > y->uid;
}

/* All plogs with something in the run, referenced, by uid. */
static struct plog **plogs_of(struct journal *j, const struct run *run, uint32_t *n)
{
    struct plog **all, *p;
    struct extent x;
    uint32_t count = 0, k = 0, i;
    unsigned f;

    io_mutex_lock(&j->lock);
    all = xmalloc((j->plogs_n + 1) * sizeof *all);
    list_for_each(p, &j->plogs, struct plog, link)
    {
        plog_ref(p);
        all[count++] = p;
    }
    io_mutex_unlock(&j->lock);
    for (i = 0; i < count; i++) {
        for (f = 0; f < run->n && !plog_extent_of(all[i], run->file[f], &x); f++)
            ;
        if (f < run->n)
            all[k++] = all[i];
        else
            plog_unref(all[i]);
    }
    qsort(all, k, sizeof *all, uid_order);
    *n = k;
    return all;
}

static enum err segment_write(struct journal *j, const struct run *run, struct jfile *seg,
                              struct plog **plogs, uint32_t n, struct index_build *b,
                              struct errinfo *info)
{
    uint8_t block[FILE_HEADER];
    struct out o = {.buf = xmalloc(OUT_BUF)};
    char path[512], dir[512];
    uint32_t i;
    enum err e;

    jfile_path(j, seg->id, JFILE_SEGMENT, false, path, sizeof path);
    snprintf(dir, sizeof dir, "%s/log", j->dir);
    e = io_open(j->io, path, IO_CREATE | IO_TRUNC, &o.fd, info);
    memset(block, 0, sizeof block);
    if (!e)
        e = out_put(&o, block, sizeof block, info);
    for (i = 0; !e && i < n; i++)
        e = copy_plog(plogs[i], run, &o, b, info);
    if (!e)
        e = out_flush(&o, info);
    seg->size = o.at;
    seg->used = o.at;
    jfile_header_make(j, seg->id, JFILE_SEGMENT, seg->size, block);
    if (!e)
        e = io_pwrite(o.fd, block, sizeof block, 0, info);
    if (!e)
        e = io_sync(o.fd, info);
    if (o.fd)
        io_close(&o.fd);
    free(o.buf);
    seg->index_rows = b->rows_n;
    seg->index_entries = b->entries_n;
    if (!e)
        e = index_write(b, seg, info); /* syncs the folder, too */
    return e;
}

static void extents_swap(struct jfile *seg, const struct run *run, struct plog **plogs, uint32_t n,
                         const struct index_build *b)
{
    uint64_t row = 0;
    uint32_t i;

    for (i = 0; i < n; i++) {
        struct extent x = {0};

        if (row < b->rows_n && b->rows[row].uid == plogs[i]->uid) {
            const struct index_row *r = &b->rows[row++];

            x = (struct extent){seg,           r->first_entry, r->count,        r->base_offset,
                                r->end_offset, r->position,    r->position_end, r->max_ts,
                                r->bytes};
        }
        plog_replace(plogs[i], run->file, run->n, &x);
    }
}

/* Puts the segment in the run's place; a checkpoint sees both steps or neither (ckpt_lock). */
static void run_replace(struct journal *j, const struct run *run, struct jfile *seg,
                        struct plog **plogs, uint32_t n, const struct index_build *b)
{
    unsigned i;

    io_mutex_lock(&j->ckpt_lock);
    atomic_store(&seg->state, JFILE_SEALED);
    io_mutex_lock(&j->lock);
    list_insert_before(&run->file[0]->link, &seg->link);
    io_mutex_unlock(&j->lock);
    extents_swap(seg, run, plogs, n, b);
    io_mutex_lock(&j->lock);
    for (i = 0; i < run->n; i++) {
        ASSERT(atomic_load(&run->file[i]->live_bytes) == 0);
        atomic_store(&run->file[i]->state, JFILE_DEAD);
        j->dead_n++;
    }
    j->sealed_new++;
    j->st_rewrites++;
    io_mutex_unlock(&j->lock);
    io_mutex_unlock(&j->ckpt_lock);
}

static void segment_discard(struct journal *j, struct jfile *seg)
{
    char path[512];

    jfile_path(j, seg->id, JFILE_SEGMENT, false, path, sizeof path);
    io_unlink(j->io, path, NULL);
    jfile_path(j, seg->id, JFILE_SEGMENT, true, path, sizeof path);
    io_unlink(j->io, path, NULL);
    jfile_free(&seg);
}

bool rewrite_step(struct journal *j)
{
    struct index_build b = {0};
    struct errinfo info = {0};
    struct plog **plogs;
    struct jfile *seg;
    struct run run;
    bool found;
    uint32_t n, i;
    enum err e;

    io_mutex_lock(&j->lock);
    found = j->state == JOURNAL_OK && run_find(j, &run);
    if (found)
        seg = jfile_new(j, j->next_file_id++, JFILE_SEGMENT, 0);
    io_mutex_unlock(&j->lock);
    if (!found)
        return false;
    seg->position = run.file[0]->position; /* goes into the index: files are sorted by it */
    seg->position_end = run.file[run.n - 1]->position_end;
    plogs = plogs_of(j, &run, &n);
    e = segment_write(j, &run, seg, plogs, n, &b, &info);
    if (!e) {
        run_replace(j, &run, seg, plogs, n, &b);
    } else {
        segment_discard(j, seg);
        for (i = 0; i < run.n && e == ERR_CORRUPT; i++)
            run.file[i]->rewrite_failed = true;
    }
    for (i = 0; i < n; i++)
        plog_unref(plogs[i]);
    free(plogs);
    for (i = 0; i < run.n; i++)
        jfile_unpin(run.file[i]);
    index_build_fini(&b);
    return e == ERR_OK;
}
