/* Rewriting: neighbouring sealed files in which little is still wanted become one dense segment,
 * sorted by plog. It frees at least as much as it writes. Batches are copied unmodified after their
 * checksums were verified; a file with damage is left alone for `weir check` to find.
 *
 * Small segments next to a run are merged in while they are not larger than twice the run, so that
 * the number of files grows with the logarithm of the data, not with time. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "journal/sealer.h"
#include "journal/segment.h"

#define RUN_MAX    64u
#define READ_BYTES (1u << 20)

struct run {
    struct jfile *file[RUN_MAX];
    unsigned n, first; /* file[first]: the first one that is sparse itself */
    uint64_t live;
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
    r->first++;
    r->live += live_of(f);
}

/* Finds files worth it and pins them. Journal lock held. */
static bool run_find(struct journal *j, struct run *r)
{
    struct jfile *f, *g;
    unsigned i;

    r->n = r->first = 0;
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

/* Files are in order of position, and so are most plogs' extents in them. Compaction may put a
 * plog's oldest batches into a file that stands behind one with newer ones; then those between may
 * not be in the run, and an extent cannot be made of what is: only one file is rewritten. */
static bool run_fits(const struct run *r, struct plog **plogs, uint32_t n)
{
    struct extent x[RUN_MAX];
    bool gap = false;
    uint32_t i;

    for (i = 0; i < n && !gap; i++)
        plog_extents_in(plogs[i], r->file, r->n, x, &gap);
    return !gap;
}

static void run_shrink(struct run *r)
{
    unsigned i;

    for (i = 0; i < r->n; i++)
        if (i != r->first)
            jfile_unpin(r->file[i]);
    r->file[0] = r->file[r->first];
    r->n = 1;
    r->first = 0;
}

/* ---- writing the segment ---- */

/* Copies what plog p still wants of one extent. */
static enum err copy_extent(struct plog *p, const struct extent *x, int64_t clean_end,
                            struct segment *s, struct errinfo *info)
{
    struct plog_read r = {.once = true};
    struct plog_info pi;
    int64_t at = x->base_offset;
    enum err e = ERR_OK;
    unsigned i;

    plog_info_get(p, &pi);
    if (at < pi.start_offset)
        at = pi.start_offset;
    while (!e && at < x->end_offset) {
        e = plog_read(p, at, READ_BYTES, &r, info);
        if (e || r.n == 0)
            break;
        for (i = 0; !e && i < r.n && r.batch[i].base_offset < x->end_offset; i++) {
            e = segment_put(s, p->uid, r.batch[i].data, r.batch[i].position, clean_end, info);
            at = r.batch[i].last_offset + 1;
        }
    }
    plog_read_release(&r);
    if (e == ERR_OFFSET_RANGE || e == ERR_TOPIC_NOT_FOUND)
        e = ERR_OK; /* trimmed or deleted meanwhile: not wanted any more */
    return e;
}

static enum err copy_plog(struct plog *p, const struct run *run, struct segment *s,
                          struct errinfo *info)
{
    struct extent x[RUN_MAX];
    int64_t clean_end = 0;
    bool gap;
    unsigned i, n = plog_extents_in(p, run->file, run->n, x, &gap);
    enum err e = ERR_OK;

    for (i = 0; i < n; i++)
        if (x[i].clean_end > clean_end)
            clean_end = x[i].clean_end;
    for (i = 0; !e && i < n; i++)
        e = copy_extent(p, &x[i], clean_end, s, info);
    if (!e)
        segment_plog_end(s, p->uid, clean_end);
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
    struct extent x[RUN_MAX];
    uint32_t count = 0, k = 0, i;
    bool gap;

    io_mutex_lock(&j->lock);
    all = xmalloc((j->plogs_n + 1) * sizeof *all);
    list_for_each(p, &j->plogs, struct plog, link)
    {
        plog_ref(p);
        all[count++] = p;
    }
    io_mutex_unlock(&j->lock);
    for (i = 0; i < count; i++) {
        if (plog_extents_in(all[i], run->file, run->n, x, &gap))
            all[k++] = all[i];
        else
            plog_unref(all[i]);
    }
    qsort(all, k, sizeof *all, uid_order);
    *n = k;
    return all;
}

static void plogs_drop(struct plog **plogs, uint32_t n)
{
    uint32_t i;

    for (i = 0; i < n; i++)
        plog_unref(plogs[i]);
    free(plogs);
}

static enum err run_copy(const struct run *run, struct segment *s, struct plog **plogs, uint32_t n,
                         struct errinfo *info)
{
    enum err e = ERR_OK;
    uint32_t i;

    for (i = 0; !e && i < n; i++)
        e = copy_plog(plogs[i], run, s, info);
    return e ? e
             : segment_finish(s, run->file[0]->position, run->file[run->n - 1]->position_end, info);
}

static void extents_swap(struct jfile *seg, const struct run *run, struct plog **plogs, uint32_t n,
                         const struct index_build *b)
{
    uint64_t row = 0;
    uint32_t i;

    for (i = 0; i < n; i++) {
        struct extent x = {0};

        if (row < b->rows_n && b->rows[row].uid == plogs[i]->uid)
            extent_from_row(&x, seg, &b->rows[row++]);
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

bool rewrite_step(struct journal *j)
{
    struct errinfo info = {0};
    struct plog **plogs;
    struct segment seg;
    struct run run;
    bool found;
    uint32_t n, i;
    enum err e;

    io_mutex_lock(&j->lock);
    found = j->state == JOURNAL_OK && run_find(j, &run);
    io_mutex_unlock(&j->lock);
    if (!found)
        return false;
    plogs = plogs_of(j, &run, &n);
    if (!run_fits(&run, plogs, n)) {
        run_shrink(&run);
        plogs_drop(plogs, n);
        plogs = plogs_of(j, &run, &n);
    }
    e = segment_open(j, &seg, &info);
    if (!e)
        e = run_copy(&run, &seg, plogs, n, &info);
    if (!e) {
        run_replace(j, &run, seg.file, plogs, n, &seg.index);
        segment_fini(&seg);
    } else {
        segment_discard(&seg);
        for (i = 0; i < run.n && e == ERR_CORRUPT; i++)
            run.file[i]->rewrite_failed = true;
    }
    plogs_drop(plogs, n);
    for (i = 0; i < run.n; i++)
        jfile_unpin(run.file[i]);
    return e == ERR_OK;
}
