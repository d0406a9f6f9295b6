/* Partition logs: where each batch of one partition is. Reading them is in read.c.
 *
 * A plog's batches are, in order of offset: extents (runs in sealed files; their entries are in the
 * file's index on disk), then refs (batches in files without an index yet, in memory). Invariants,
 * under the plog's shard lock:
 *  1. extents and refs are sorted, do not overlap, and all extents are below all refs;
 *  2. every extent ends above start_offset, so does every ref;
 *  3. a file's live_bytes is the sum of its extents' and refs' bytes over all plogs.
 * Index entries that come from a file are checked by their own CRC. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"
#include "journal/batch.h"
#include "journal/compact.h"
#include "journal/index.h"
#include "journal/journal_int.h"
#include "journal/plog_int.h"

/* ---- entries ---- */

void batch_ref_write(uint8_t *dst, const struct batch_ref *b)
{
    le64_store(dst, (uint64_t)b->base_offset);
    le64_store(dst + 8, b->position);
    le64_store(dst + 16, (uint64_t)b->max_ts);
    le32_store(dst + 24, b->file_pos);
    le32_store(dst + 28, b->len);
    le32_store(dst + 32, b->count);
    le32_store(dst + 36, b->batch_crc);
    le32_store(dst + 40, b->epoch);
    le32_store(dst + 44, b->crc);
}

void batch_ref_read(const uint8_t *src, struct batch_ref *b)
{
    b->base_offset = (int64_t)le64_load(src);
    b->position = le64_load(src + 8);
    b->max_ts = (int64_t)le64_load(src + 16);
    b->file_pos = le32_load(src + 24);
    b->len = le32_load(src + 28);
    b->count = le32_load(src + 32);
    b->batch_crc = le32_load(src + 36);
    b->epoch = le32_load(src + 40);
    b->crc = le32_load(src + 44);
}

void batch_ref_crc(struct batch_ref *b)
{
    uint8_t tmp[REF_BYTES];

    batch_ref_write(tmp, b);
    b->crc = crc32c(0, tmp, REF_BYTES - 4);
}

bool batch_ref_ok(const struct batch_ref *b)
{
    uint8_t tmp[REF_BYTES];

    batch_ref_write(tmp, b);
    return b->crc == crc32c(0, tmp, REF_BYTES - 4) && b->count > 0 && b->len >= BATCH_HEADER;
}

static struct ref *ref_at(struct plog *p, uint32_t i)
{
    return &p->refs[p->refs_head + i];
}

/* ---- making and ending ---- */

struct plog *plog_new(struct journal *j, uint32_t uid, int64_t start_offset, void *owner)
{
    struct plog *p = xcalloc(1, sizeof *p);

    ASSERT(uid != 0 && start_offset >= 0);
    p->magic = PLOG_MAGIC;
    p->uid = uid;
    p->j = j;
    p->owner = owner;
    p->next_offset = p->start_offset = p->end_offset = start_offset;
    p->max_ts = p->gone_ts = -1;
    atomic_store(&p->refcount, 1);
    io_mutex_lock(&j->lock);
    list_push_back(&j->plogs, &p->link);
    j->plogs_n++;
    io_mutex_unlock(&j->lock);
    return p;
}

void plog_ref(struct plog *p)
{
    atomic_fetch_add(&p->refcount, 1);
}

void plog_unref(struct plog *p)
{
    ASSERT(p->magic == PLOG_MAGIC);
    if (atomic_fetch_sub(&p->refcount, 1) != 1)
        return;
    p->magic = 0;
    free(p->refs);
    free(p->ext);
    free(p);
}

void plog_free(struct plog **pp)
{
    struct plog *p = *pp;
    struct journal *j = p ? p->j : NULL;

    if (!p)
        return;
    if (j) { /* else the journal is closed */
        plog_delete(p);
        io_mutex_lock(&j->lock);
        list_remove(&p->link);
        j->plogs_n--;
        io_mutex_unlock(&j->lock);
    }
    plog_unref(p);
    *pp = NULL;
}

uint32_t plog_uid(const struct plog *p)
{
    return p->uid;
}

void *plog_owner(const struct plog *p)
{
    return p->owner;
}

/* What lies before `position` and is not later than `ts` is deleted. Shard lock held. */
static void note_gone(struct plog *p, uint64_t position, int64_t ts)
{
    if (position > p->gone_position)
        p->gone_position = position;
    if (ts > p->gone_ts)
        p->gone_ts = ts;
}

/* Drops what ends at or below start. Shard lock held. */
static void drop_below(struct plog *p, int64_t start)
{
    uint32_t n = 0;

    while (n < p->ext_n && p->ext[n].end_offset <= start) {
        jfile_live(p->ext[n].file, -(int64_t)p->ext[n].bytes);
        note_gone(p, p->ext[n].position_end, p->ext[n].max_ts);
        p->bytes -= p->ext[n].bytes;
        n++;
    }
    if (n) {
        p->ext_n -= n;
        memmove(p->ext, p->ext + n, p->ext_n * sizeof *p->ext);
    }
    while (p->refs_n && ref_at(p, 0)->b.base_offset + ref_at(p, 0)->b.count <= start) {
        const struct batch_ref *b = &ref_at(p, 0)->b;

        jfile_live(ref_at(p, 0)->file, -(int64_t)b->len);
        note_gone(p, b->position + b->count, b->max_ts);
        p->bytes -= ref_at(p, 0)->b.len;
        p->refs_head++;
        p->refs_n--;
    }
    if (p->refs_n == 0)
        p->refs_head = 0;
}

void plog_delete(struct plog *p)
{
    ASSERT(p->magic == PLOG_MAGIC);
    io_mutex_lock(plog_shard(p));
    atomic_store(&p->deleted, true);
    drop_below(p, INT64_MAX);
    free(p->refs);
    free(p->ext);
    p->refs = NULL;
    p->ext = NULL;
    p->refs_cap = p->ext_cap = 0;
    io_mutex_unlock(plog_shard(p));
}

/* ---- growing ---- */

static void refs_room(struct plog *p)
{
    if (p->refs_head + p->refs_n < p->refs_cap)
        return;
    if (p->refs_head > p->refs_n) {
        memmove(p->refs, p->refs + p->refs_head, p->refs_n * sizeof *p->refs);
        p->refs_head = 0;
        return;
    }
    p->refs_cap = p->refs_cap ? p->refs_cap * 2 : 2;
    p->refs = xrealloc(p->refs, p->refs_cap * sizeof *p->refs);
}

static void touch(struct plog *p, struct jfile *file)
{
    if (p->touched_file == file->id)
        return;
    p->touched_file = file->id;
    if (file->touched_n == file->touched_cap) {
        file->touched_cap = file->touched_cap ? file->touched_cap * 2 : 16;
        file->touched = xrealloc(file->touched, file->touched_cap * sizeof *file->touched);
    }
    plog_ref(p);
    file->touched[file->touched_n++] = p;
}

/* Shard lock held. */
static void add_ref(struct plog *p, const struct batch_ref *b, struct jfile *file, int64_t wall_ms)
{
    refs_room(p);
    touch(p, file);
    p->refs[p->refs_head + p->refs_n++] = (struct ref){*b, file};
    p->end_offset = b->base_offset + b->count;
    p->position_end = b->position + b->count;
    p->bytes += b->len;
    p->last_append_ms = wall_ms;
    if (b->max_ts > p->max_ts)
        p->max_ts = b->max_ts;
    jfile_live(file, b->len);
}

void plog_commit_batch(struct plog *p, const struct batch_ref *b, struct jfile *file,
                       int64_t wall_ms)
{
    io_mutex_lock(plog_shard(p));
    if (!atomic_load(&p->deleted)) {
        ASSERT(b->base_offset >= p->end_offset);
        add_ref(p, b, file, wall_ms);
    }
    io_mutex_unlock(plog_shard(p));
}

bool plog_replay_batch(struct plog *p, const struct batch_ref *b, struct jfile *file,
                       int64_t wall_ms)
{
    bool ok = true;

    io_mutex_lock(plog_shard(p));
    if (!atomic_load(&p->deleted) && b->base_offset + b->count > p->start_offset) {
        ok = p->ext_n == 0 || b->base_offset >= p->ext[p->ext_n - 1].end_offset;
        if (p->refs_n) {
            const struct batch_ref *last = &ref_at(p, p->refs_n - 1)->b;

            ok = ok && b->base_offset >= last->base_offset + last->count;
        }
        if (ok)
            add_ref(p, b, file, wall_ms);
    } else {
        note_gone(p, b->position + b->count, b->max_ts);
    }
    io_mutex_unlock(plog_shard(p));
    return ok;
}

void plog_commit_start(struct plog *p, int64_t start)
{
    io_mutex_lock(plog_shard(p));
    if (start > p->start_offset && !atomic_load(&p->deleted)) {
        p->start_offset = start;
        if (start > p->end_offset)
            p->end_offset = start;
        drop_below(p, start);
    }
    io_mutex_unlock(plog_shard(p));
}

void plog_extent_add(struct plog *p, const struct extent *e)
{
    io_mutex_lock(plog_shard(p));
    if (!atomic_load(&p->deleted) && e->end_offset > p->start_offset) {
        if (p->ext_n == p->ext_cap) {
            p->ext_cap = p->ext_cap ? p->ext_cap * 2 : 1;
            p->ext = xrealloc(p->ext, p->ext_cap * sizeof *p->ext);
        }
        p->ext[p->ext_n++] = *e;
        p->bytes += e->bytes;
        if (e->end_offset > p->end_offset)
            p->end_offset = e->end_offset;
        if (e->position_end > p->position_end)
            p->position_end = e->position_end;
        if (e->max_ts > p->max_ts)
            p->max_ts = e->max_ts;
        jfile_live(e->file, (int64_t)e->bytes);
    } else {
        note_gone(p, e->position_end, e->max_ts);
    }
    io_mutex_unlock(plog_shard(p));
}

static int extent_order(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;

    return x->base_offset < y->base_offset ? -1 : x->base_offset > y->base_offset;
}

/* The end of the last compaction whose result is there. */
static int64_t clean_end_of(const struct plog *p)
{
    int64_t end = 0;
    uint32_t i;

    for (i = 0; i < p->ext_n; i++)
        if (p->ext[i].clean_end > end)
            end = p->ext[i].clean_end;
    return end;
}

/* Takes out what lies below `end`, but extents of that clean end; one that goes on above it begins
 * there from now on, without `below` of its bytes. */
static void extents_cut(struct plog *p, int64_t end, uint64_t below)
{
    uint32_t i, k = 0;

    for (i = 0; i < p->ext_n; i++) {
        struct extent *x = &p->ext[i];
        bool out = x->clean_end != end && x->end_offset <= end;
        uint64_t less = out ? x->bytes : 0;

        if (!out && x->clean_end != end && x->base_offset < end) {
            less = below < x->bytes ? below : x->bytes - 1;
            x->base_offset = end;
        }
        p->bytes -= less;
        x->bytes -= less;
        jfile_live(x->file, -(int64_t)less);
        if (!out)
            p->ext[k++] = *x;
    }
    p->ext_n = k;
}

/* Of what is there now. */
static void max_ts_find(struct plog *p)
{
    uint32_t i;

    p->max_ts = -1;
    for (i = 0; i < p->ext_n; i++)
        if (p->ext[i].max_ts > p->max_ts)
            p->max_ts = p->ext[i].max_ts;
    for (i = 0; i < p->refs_n; i++)
        if (ref_at(p, i)->b.max_ts > p->max_ts)
            p->max_ts = ref_at(p, i)->b.max_ts;
}

/* Recovery, once all extents are there: the last compaction's result stands for what files before it
 * still have below its end. */
void plog_extents_settle(struct plog *p)
{
    int64_t end = clean_end_of(p);

    if (end) {
        extents_cut(p, end, 0);
        max_ts_find(p);
    }
    if (p->ext_n)
        qsort(p->ext, p->ext_n, sizeof *p->ext, extent_order);
}

/* Puts a compaction's result, n extents of clean end `end` in order, in the place of what is below
 * `end`. below: bytes read of the extent that goes on above it. */
void plog_compacted(struct plog *p, int64_t end, const struct extent *v, uint32_t n, uint64_t below)
{
    uint32_t i, k = 0;

    io_mutex_lock(plog_shard(p));
    if (!atomic_load(&p->deleted)) {
        extents_cut(p, end, below);
        while (k < n && v[k].end_offset <= p->start_offset) /* trimmed meanwhile */
            k++;
        n -= k;
        if (p->ext_n + n > p->ext_cap) {
            p->ext_cap = p->ext_n + n;
            p->ext = xrealloc(p->ext, p->ext_cap * sizeof *p->ext);
        }
        if (n) {
            memmove(p->ext + n, p->ext, p->ext_n * sizeof *p->ext);
            memcpy(p->ext, v + k, n * sizeof *p->ext);
        }
        p->ext_n += n;
        for (i = 0; i < n; i++) {
            p->bytes += p->ext[i].bytes;
            jfile_live(p->ext[i].file, (int64_t)p->ext[i].bytes);
        }
        max_ts_find(p);
    }
    io_mutex_unlock(plog_shard(p));
}

/* The plog's extents in the n files, in order, into out (room for n); how many. *gap: others of its
 * extents lie between them. */
unsigned plog_extents_in(struct plog *p, struct jfile *const *files, unsigned n, struct extent *out,
                         bool *gap)
{
    uint32_t i, last = 0;
    unsigned f, k = 0;

    *gap = false;
    io_mutex_lock(plog_shard(p));
    for (i = 0; i < p->ext_n; i++) {
        for (f = 0; f < n && p->ext[i].file != files[f]; f++)
            ;
        if (f == n)
            continue;
        *gap = *gap || (k && last + 1 != i);
        last = i;
        out[k++] = p->ext[i];
    }
    io_mutex_unlock(plog_shard(p));
    return k;
}

/* The refs of `file` (the oldest there are) as they are now; *out grows. */
uint32_t plog_refs_of(struct plog *p, const struct jfile *file, struct batch_ref **out,
                      uint32_t *cap)
{
    uint32_t n = 0;

    io_mutex_lock(plog_shard(p));
    while (n < p->refs_n && ref_at(p, n)->file == file) {
        if (n == *cap) {
            *cap = *cap ? *cap * 2 : 64;
            *out = xrealloc(*out, *cap * sizeof **out);
        }
        (*out)[n] = ref_at(p, n)->b;
        n++;
    }
    io_mutex_unlock(plog_shard(p));
    return n;
}

/* Replaces the refs of e->file by the extent. What was trimmed meanwhile is left out of its bytes.
 */
void plog_seal(struct plog *p, const struct extent *e)
{
    struct extent x = *e;
    uint64_t bytes = 0;
    uint32_t n = 0;

    io_mutex_lock(plog_shard(p));
    while (n < p->refs_n && ref_at(p, n)->file == e->file)
        bytes += ref_at(p, n++)->b.len;
    if (n) {
        p->refs_head += n;
        p->refs_n -= n;
        if (p->refs_n == 0) {
            free(p->refs);
            p->refs = NULL;
            p->refs_head = p->refs_cap = 0;
        }
        x.bytes = bytes;
        if (p->ext_n == p->ext_cap) {
            p->ext_cap = p->ext_cap ? p->ext_cap * 2 : 1;
            p->ext = xrealloc(p->ext, p->ext_cap * sizeof *p->ext);
        }
        p->ext[p->ext_n++] = x;
    }
    io_mutex_unlock(plog_shard(p));
}

/* Replaces the extents that lie in the n files `from` by *e (count 0: by nothing). */
void plog_replace(struct plog *p, struct jfile *const *from, unsigned n, const struct extent *e)
{
    uint32_t i, k = 0;
    bool placed = false;
    unsigned f;

    io_mutex_lock(plog_shard(p));
    for (i = 0; i < p->ext_n; i++) {
        for (f = 0; f < n && p->ext[i].file != from[f]; f++)
            ;
        if (f == n) {
            p->ext[k++] = p->ext[i];
            continue;
        }
        p->bytes -= p->ext[i].bytes;
        jfile_live(p->ext[i].file, -(int64_t)p->ext[i].bytes);
        if (!placed && e->count && e->end_offset > p->start_offset) {
            placed = true;
            p->ext[k++] = *e;
            p->bytes += e->bytes;
            jfile_live(e->file, (int64_t)e->bytes);
        }
    }
    p->ext_n = k;
    io_mutex_unlock(plog_shard(p));
}

/* Adds what the front of the log says about what was deleted there: part of its first batches; or,
 * if nothing else is known, all that was before it. Shard lock held. */
static void gone_get(const struct plog *p, struct plog_info *out)
{
    const struct batch_ref *b = p->refs_n ? &p->refs[p->refs_head].b : NULL;
    int64_t base = p->ext_n ? p->ext[0].base_offset : b ? b->base_offset : p->start_offset;
    uint64_t position = p->ext_n ? p->ext[0].position : b ? b->position : p->position_end;
    int64_t ts = p->ext_n ? p->ext[0].max_ts : b ? b->max_ts : p->max_ts;

    out->gone_position = out->gone_most = p->gone_position;
    out->gone_ts = p->gone_ts;
    if (p->start_offset == 0 || (base >= p->start_offset && p->gone_position))
        return;
    if (base < p->start_offset)
        position += (uint64_t)(p->start_offset - base);
    if (position > out->gone_position)
        out->gone_position = position;
    if (base < p->start_offset && p->ext_n)
        position = p->ext[0].position_end; /* others' records lie between its own */
    if (position > out->gone_most)
        out->gone_most = position;
    if (ts > out->gone_ts)
        out->gone_ts = ts;
}

void plog_info_get(struct plog *p, struct plog_info *out)
{
    ASSERT(p->magic == PLOG_MAGIC);
    io_mutex_lock(plog_shard(p));
    out->start_offset = p->start_offset;
    out->end_offset = p->end_offset;
    out->bytes = p->bytes;
    out->position_end = p->position_end;
    out->max_timestamp_ms = p->max_ts;
    out->last_append_ms = p->last_append_ms;
    gone_get(p, out);
    io_mutex_unlock(plog_shard(p));
}

int64_t plog_next_offset(const struct plog *p)
{
    return p->next_offset;
}

int64_t plog_next_offset_get(struct plog *p)
{
    int64_t next;

    io_mutex_lock(&p->j->lock);
    next = p->next_offset;
    io_mutex_unlock(&p->j->lock);
    return next;
}

int64_t plog_retention_offset(struct plog *p, int64_t ts_ms, uint64_t bytes, int64_t keep_records)
{
    uint64_t left;
    int64_t keep_from, at;
    uint32_t i;

    io_mutex_lock(plog_shard(p));
    left = p->bytes;
    at = p->start_offset;
    keep_from = p->end_offset - keep_records;
    for (i = 0; i < p->ext_n + p->refs_n; i++) {
        const struct extent *e = i < p->ext_n ? &p->ext[i] : NULL;
        const struct batch_ref *b = e ? NULL : &ref_at(p, i - p->ext_n)->b;
        uint64_t len = e ? e->bytes : b->len;
        int64_t ts = e ? e->max_ts : b->max_ts;
        int64_t end = e ? e->end_offset : b->base_offset + b->count;
        bool old = ts_ms >= 0 && ts < ts_ms;
        bool big = bytes != UINT64_MAX && left - len >= bytes;

        if ((!old && !big) || end > keep_from)
            break;
        left -= len;
        at = end;
    }
    io_mutex_unlock(plog_shard(p));
    return at;
}

/* ---- finding ---- */

/* Is what is wanted at or below the end of this run of batches? */
static bool reaches(enum seek_by by, int64_t want, int64_t end_offset, uint64_t position_end,
                    int64_t max_ts)
{
    switch (by) {
    case BY_OFFSET:
        return end_offset > want;
    case BY_POSITION:
        return position_end > (uint64_t)want;
    case BY_TIME:
        return max_ts >= want;
    }
    return false;
}

static bool ref_reaches(enum seek_by by, int64_t want, const struct batch_ref *b)
{
    return reaches(by, want, b->base_offset + b->count, b->position + b->count, b->max_ts);
}

static uint32_t refs_search(struct plog *p, enum seek_by by, int64_t want)
{
    uint32_t lo = 0, hi = p->refs_n;

    if (by == BY_TIME) { /* not ordered: the first in order of offset */
        while (lo < hi && !ref_reaches(by, want, &ref_at(p, lo)->b))
            lo++;
        return lo;
    }
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (ref_reaches(by, want, &ref_at(p, mid)->b))
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

static uint32_t extents_search(struct plog *p, enum seek_by by, int64_t want)
{
    uint32_t lo = 0, hi = p->ext_n;

    if (by == BY_TIME) {
        while (lo < hi && p->ext[lo].max_ts < want)
            lo++;
        return lo;
    }
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct extent *e = &p->ext[mid];

        if (reaches(by, want, e->end_offset, e->position_end, e->max_ts))
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

/* Shard lock held. */
static void place_find(struct plog *p, enum seek_by by, int64_t want, size_t bytes_max,
                       struct place *out)
{
    uint32_t i = extents_search(p, by, want);
    size_t bytes = 0;

    out->n = 0;
    out->in_extent = i < p->ext_n;
    if (out->in_extent) {
        out->ext = p->ext[i];
        jfile_pin(out->ext.file);
        return;
    }
    for (i = refs_search(p, by, want); i < p->refs_n && out->n < READ_BATCHES_MAX; i++) {
        const struct ref *r = ref_at(p, i);

        if (out->n && bytes + r->b.len > bytes_max)
            break;
        bytes += r->b.len;
        out->refs[out->n++] = *r;
        jfile_pin(r->file);
    }
}

enum err plog__damaged(const struct jfile *f, bool index, uint64_t at, const char *what,
                       struct errinfo *info)
{
    char path[512];

    jfile_path(f->j, f->id, f->kind, index, path, sizeof path);
    return errinfo_set(info, ERR_CORRUPT,
                       "%s at byte %" PRIu64 ": %s; run `weir check` for the extent of the damage",
                       path, at, what);
}

/* Reads n (<= 64) index entries from number `first` on, each checked. now: ERR_AGAIN if a disk would
 * be waited for. */
static enum err entries_read(struct jfile *file, uint64_t first, unsigned n, bool now,
                             struct batch_ref *out, struct errinfo *info)
{
    uint8_t raw[READ_BATCHES_MAX * REF_BYTES];
    struct io_file *idx;
    size_t got = 0;
    uint64_t at = index_entry_at(file, first);
    enum err e = now ? jfile_index_now(file, &idx) : jfile_index(file, &idx, info);
    unsigned i;

    ASSERT(n <= READ_BATCHES_MAX);
    if (!e)
        e = (now ? io_pread_now : io_pread)(idx, raw, n * (size_t)REF_BYTES, at, &got, info);
    if (e)
        return e;
    if (got < n * (size_t)REF_BYTES)
        return plog__damaged(file, true, at, "the index ends early", info);
    for (i = 0; i < n; i++) {
        batch_ref_read(raw + i * REF_BYTES, &out[i]);
        if (!batch_ref_ok(&out[i]))
            return plog__damaged(file, true, at + i * REF_BYTES,
                                 "an index entry has a wrong checksum", info);
    }
    return ERR_OK;
}

/* Number of the first entry in the extent that reaches `want` (count if none). */
static enum err extent_search(const struct extent *x, enum seek_by by, int64_t want, bool now,
                              uint32_t *out, struct errinfo *info)
{
    struct batch_ref block[READ_BATCHES_MAX];
    uint32_t lo = 0, hi = x->count;
    enum err e;
    unsigned i, n;

    while (by != BY_TIME && hi - lo > READ_BATCHES_MAX) {
        uint32_t mid = lo + (hi - lo) / 2;

        if ((e = entries_read(x->file, x->first_entry + mid, 1, now, block, info)))
            return e;
        if (ref_reaches(by, want, &block[0]))
            hi = mid;
        else
            lo = mid + 1;
    }
    while (lo < hi) {
        n = hi - lo < READ_BATCHES_MAX ? hi - lo : READ_BATCHES_MAX;
        if ((e = entries_read(x->file, x->first_entry + lo, n, now, block, info)))
            return e;
        for (i = 0; i < n && !ref_reaches(by, want, &block[i]); i++)
            ;
        lo += i;
        if (i < n)
            break;
    }
    *out = lo;
    return ERR_OK;
}

/* Turns an extent into refs from the first entry that reaches `want`. The extent's pin becomes the
 * refs' pins. */
static enum err place_load(struct place *pl, enum seek_by by, int64_t want, size_t bytes_max,
                           bool now, struct errinfo *info)
{
    struct batch_ref block[READ_BATCHES_MAX];
    struct jfile *file = pl->ext.file;
    uint32_t first, n, i;
    size_t bytes = 0;
    enum err e;

    e = extent_search(&pl->ext, by, want, now, &first, info);
    n = pl->ext.count - first < READ_BATCHES_MAX ? pl->ext.count - first : READ_BATCHES_MAX;
    if (!e && n == 0)
        e = plog__damaged(file, true, index_entry_at(file, pl->ext.first_entry),
                          "the index does not have an entry that its directory promises", info);
    if (!e)
        e = entries_read(file, pl->ext.first_entry + first, n, now, block, info);
    for (i = 0; !e && i < n && (i == 0 || bytes + block[i].len <= bytes_max); i++) {
        bytes += block[i].len;
        pl->refs[pl->n++] = (struct ref){block[i], file};
        jfile_pin(file);
    }
    jfile_unpin(file);
    return e;
}

/* memory_only: ERR_AGAIN if a disk would be waited for. */
enum err plog__place_get(struct plog *p, enum seek_by by, int64_t want, size_t bytes_max,
                         bool memory_only, struct place *pl, struct errinfo *info)
{
    ASSERT(p->magic == PLOG_MAGIC);
    io_mutex_lock(plog_shard(p));
    if (atomic_load(&p->deleted)) {
        io_mutex_unlock(plog_shard(p));
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the topic was deleted");
    }
    place_find(p, by, want, bytes_max, pl);
    io_mutex_unlock(plog_shard(p));
    if (!pl->in_extent)
        return ERR_OK;
    return place_load(pl, by, want, bytes_max, memory_only, info);
}

void plog__place_unpin(struct place *pl)
{
    unsigned i;

    for (i = 0; i < pl->n; i++)
        jfile_unpin(pl->refs[i].file);
}

enum err plog_seek_position(struct plog *p, uint64_t position, int64_t *offset,
                            struct errinfo *info)
{
    struct place pl;
    struct plog_info now;
    enum err e;

    plog_info_get(p, &now);
    e = plog__place_get(p, BY_POSITION, (int64_t)position, 1, false, &pl, info);
    if (e)
        return e;
    *offset = now.end_offset;
    if (pl.n) {
        const struct batch_ref *b = &pl.refs[0].b;

        *offset = b->base_offset;
        if (position > b->position)
            *offset += (int64_t)(position - b->position);
        if (*offset < now.start_offset)
            *offset = now.start_offset;
    }
    plog__place_unpin(&pl);
    return ERR_OK;
}

/* The first entry of the extent with max timestamp >= ts_ms among those that end above `from`.
 * *offset is -1 if there is none. */
static enum err extent_seek_time(const struct extent *x, int64_t from, int64_t ts_ms,
                                 int64_t *offset, struct errinfo *info)
{
    struct batch_ref block[READ_BATCHES_MAX];
    uint32_t at = 0, i, n;
    enum err e = extent_search(x, BY_OFFSET, from, false, &at, info);

    *offset = -1;
    for (; !e && *offset < 0 && at < x->count; at += n) {
        n = x->count - at < READ_BATCHES_MAX ? x->count - at : READ_BATCHES_MAX;
        e = entries_read(x->file, x->first_entry + at, n, false, block, info);
        for (i = 0; !e && i < n && *offset < 0; i++)
            if (block[i].max_ts >= ts_ms)
                *offset = block[i].base_offset;
    }
    return e;
}

/* Looks at what ends above *from: *offset is the answer, or there is an extent (pinned) to be
 * searched. */
static bool seek_time_place(struct plog *p, int64_t from, int64_t ts_ms, struct extent *x,
                            int64_t *offset)
{
    uint32_t i;
    bool found = false;

    io_mutex_lock(plog_shard(p));
    for (i = 0; i < p->ext_n && !found; i++)
        if (p->ext[i].end_offset > from && p->ext[i].max_ts >= ts_ms) {
            *x = p->ext[i];
            jfile_pin(x->file);
            found = true;
        }
    for (i = 0; i < p->refs_n && !found; i++) {
        const struct batch_ref *b = &ref_at(p, i)->b;

        if (b->base_offset + b->count > from && b->max_ts >= ts_ms)
            break;
    }
    if (!found)
        *offset = i < p->refs_n ? ref_at(p, i)->b.base_offset : p->end_offset;
    io_mutex_unlock(plog_shard(p));
    return found;
}

/* A file's greatest timestamp may be that of a batch below the start: then the search goes on
 * behind that file. */
enum err plog_seek_time(struct plog *p, int64_t ts_ms, int64_t *offset, struct errinfo *info)
{
    struct plog_info now;
    struct extent x;
    int64_t from;
    enum err e = ERR_OK;

    if (atomic_load(&p->deleted))
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "the topic was deleted");
    plog_info_get(p, &now);
    *offset = -1;
    for (from = now.start_offset; !e && *offset < 0; from = x.end_offset) {
        if (!seek_time_place(p, from, ts_ms, &x, offset))
            break;
        e = extent_seek_time(&x, from > x.base_offset ? from : x.base_offset, ts_ms, offset, info);
        jfile_unpin(x.file);
    }
    if (*offset < now.start_offset)
        *offset = now.start_offset;
    return e;
}

/* ---- what compaction wants to know ---- */

/* Bytes of the extent's entries below `offset`, as if all were of one size. */
static enum err extent_bytes_below(const struct extent *x, int64_t offset, uint64_t *bytes,
                                   struct errinfo *info)
{
    uint32_t from = 0, to = 0;
    enum err e = extent_search(x, BY_OFFSET, x->base_offset, false, &from, info);

    if (!e)
        e = extent_search(x, BY_OFFSET, offset, false, &to, info);
    *bytes = e || from >= x->count || to <= from ? 0 : x->bytes / (x->count - from) * (to - from);
    return e;
}

enum err plog_compact_info_get(struct plog *p, struct plog_compact_info *out, struct errinfo *info)
{
    struct extent across = {0};
    uint64_t below = 0;
    uint32_t i;
    enum err e = ERR_OK;

    memset(out, 0, sizeof *out);
    io_mutex_lock(plog_shard(p));
    out->clean_end = clean_end_of(p);
    if (out->clean_end < p->start_offset)
        out->clean_end = p->start_offset;
    for (i = 0; i < p->ext_n; i++) {
        const struct extent *x = &p->ext[i];

        out->sealed_end = x->end_offset;
        if (x->end_offset <= out->clean_end) {
            out->clean_bytes += x->bytes;
        } else {
            out->dirty_bytes += x->bytes;
            if (x->base_offset < out->clean_end && !across.file) {
                across = *x;
                jfile_pin(x->file);
            }
        }
    }
    io_mutex_unlock(plog_shard(p));
    if (!across.file)
        return ERR_OK;
    e = extent_bytes_below(&across, out->clean_end, &below, info);
    jfile_unpin(across.file);
    out->clean_bytes += below;
    out->dirty_bytes -= below;
    return e;
}

int64_t plog_extent_base(struct plog *p, int64_t offset)
{
    int64_t base = offset;
    uint32_t i;

    io_mutex_lock(plog_shard(p));
    for (i = 0; i < p->ext_n; i++)
        if (p->ext[i].base_offset < offset && p->ext[i].end_offset > offset)
            base = p->ext[i].base_offset;
    io_mutex_unlock(plog_shard(p));
    return base;
}
