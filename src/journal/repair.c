/* Mending a data directory that journal_open refuses, offline. It loses only what cannot be read
 * and deletes nothing: a file that is replaced or taken out goes to DIR/damaged/.
 *
 *   checkpoint missing or damaged   a new one is made from the data files' headers and indexes; the
 *                                   broker's state is then what replaying the journal files that
 *                                   are left gives
 *   index missing or damaged,       the index is made anew from the entries that can be read
 *   or a damaged batch
 *   sealed file missing             struck from the checkpoint's list
 *   damaged or missing frame        the file, or one that was cut, and those after it, are written
 *   between good ones, file cut     anew: frames that can be read are kept with their numbers, each
 *                                   missing one is replaced by an empty frame, the chain of
 *                                   checksums is made to fit
 *
 * Offsets and positions of what is lost are not used again: lost.h.
 *
 * Single-threaded; takes the directory lock. Every replacement is written under a temporary name,
 * synced, and renamed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"
#include "journal/batch.h"
#include "journal/check_int.h"
#include "journal/lost.h"

#define MISSING_MAX 1000000u /* frames that may be replaced by empty ones */

struct repair {
    struct check c;
    bool dry;
    struct checkpoint *ck;
    struct lost lost;
    uint64_t first_position; /* of the first frame there is, when the checkpoint is lost; else 0 */
    bool end_lost;           /* the log may have gone on behind all that is known */
};

static void name_of(const struct check *c, const char *name, char *out, size_t cap)
{
    snprintf(out, cap, "%s/%s", c->j.dir, name);
}

/* Moves DIR/<sub><name> to DIR/damaged/<name>. */
static enum err set_aside(struct repair *r, const char *sub, const char *name, struct errinfo *info)
{
    char from[512], to[512], dir[512];
    uint64_t size = 0;
    bool there = false;
    enum err e;

    snprintf(from, sizeof from, "%s/%s%s", r->c.j.dir, sub, name);
    snprintf(to, sizeof to, "%s/damaged/%s", r->c.j.dir, name);
    name_of(&r->c, "damaged", dir, sizeof dir);
    if ((e = io_stat(r->c.j.io, from, &size, &there, info)) || !there)
        return e;
    check_say(&r->c, false, "%s is moved to %s", from, to);
    if (r->dry)
        return ERR_OK;
    e = io_mkdir(r->c.j.io, dir, info);
    return e ? e : io_rename(r->c.j.io, from, to, info);
}

/* ---- indexes ---- */

struct found {
    uint32_t uid;
    struct batch_ref b;
};

/* The clean end of a log that was compacted: see segment.h. */
struct found_clean {
    uint32_t uid;
    int64_t end;
};

struct finds {
    struct found *v;
    uint64_t n, cap;
    struct found_clean *clean;
    uint32_t clean_n, clean_cap;
};

static void finds_fini(struct finds *f)
{
    free(f->v);
    free(f->clean);
}

static void clean_add(struct finds *f, uint32_t uid, int64_t end)
{
    if (f->clean_n == f->clean_cap) {
        f->clean_cap = f->clean_cap ? f->clean_cap * 2 : 16;
        f->clean = xrealloc(f->clean, f->clean_cap * sizeof *f->clean);
    }
    f->clean[f->clean_n++] = (struct found_clean){uid, end};
}

static int64_t clean_of(const struct finds *f, uint32_t uid)
{
    uint32_t i;

    for (i = 0; i < f->clean_n && f->clean[i].uid != uid; i++)
        ;
    return i < f->clean_n ? f->clean[i].end : 0;
}

static void find_add(struct finds *f, uint32_t uid, const struct batch_ref *b)
{
    if (f->n == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 256;
        f->v = xrealloc(f->v, f->cap * sizeof *f->v);
    }
    f->v[f->n++] = (struct found){uid, *b};
}

static int find_order(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    if (x->uid != y->uid)
        return x->uid < y->uid ? -1 : 1;
    return x->b.base_offset < y->b.base_offset ? -1 : x->b.base_offset > y->b.base_offset;
}

/* The batch at data, if it is whole: adds it. */
static bool find_batch(struct finds *f, const struct entry_header *eh, struct slice data,
                       uint64_t file_pos)
{
    struct batch_info bi;
    struct batch_ref b;

    if (eh->type != ENTRY_BATCH || batch_parse(data, &bi) || bi.length != data.len ||
        !batch_crc_ok(data))
        return false;
    batch_ref_make(&b, data.ptr, (uint32_t)data.len, eh->position, file_pos);
    find_add(f, eh->uid, &b);
    return true;
}

/* Valid frames of a journal file, wherever they are. Fills f's numbers. */
static enum err find_frames(struct repair *r, struct jfile *f, struct finds *out,
                            struct errinfo *info)
{
    struct frame_header h;
    struct entry_header eh;
    struct slice data;
    const uint8_t *frame;
    struct scan s;
    uint64_t pos = FILE_HEADER;
    enum err e;

    scan_init(&s, &r->c.j, f->id);
    e = scan_open(&s, info);
    f->size = s.size;
    while (!e && pos < s.size) {
        uint32_t off = FRAME_HEADER, start = off;

        e = scan_frame(&s, pos, &h, &frame, info);
        if (e || !frame || h.seq <= f->last_seq) {
            pos += FRAME_ALIGN;
            continue;
        }
        while (!frame_entry_next(frame, h.length, &off, &eh, &data)) {
            find_batch(out, &eh, data, pos + start + ENTRY_HEADER);
            start = off;
        }
        if (!f->first_seq) {
            f->first_seq = h.seq;
            f->position = h.position;
        }
        f->last_seq = h.seq;
        f->last_crc = h.crc;
        f->position_end = h.position + h.records;
        f->frames++;
        f->records += h.records;
        pos += frame_padded(h.length);
        f->used = pos;
    }
    if (f->used > s.size)
        f->used = s.size; /* cut in the last one's padding, or in the header */
    scan_fini(&s);
    return e;
}

/* Valid entries of a segment: every 8 bytes may begin one. */
static enum err find_entries(struct repair *r, struct jfile *f, struct finds *out,
                             struct errinfo *info)
{
    struct io_file *fd;
    uint8_t *mem = NULL;
    uint64_t size = 0, pos = FILE_HEADER;
    size_t got = 0;
    enum err e;

    jfile_pin(f);
    e = jfile_data(f, &fd, info);
    if (!e)
        e = io_size(fd, &size, info);
    if (!e && size > 4ull << 30)
        e = errinfo_set(info, ERR_TOO_LARGE, "segment %016" PRIx64 " is too large", f->id);
    if (!e) {
        mem = xmalloc(size + 1);
        e = io_pread(fd, mem, size, 0, &got, info);
    }
    while (!e && pos + ENTRY_HEADER < got) {
        const uint8_t *p = mem + pos;
        struct entry_header eh = {
            p[0], le32_load(p + 4), le32_load(p + 8), le32_load(p + 12), le64_load(p + 16), 0};

        if (le64_load(p + 24) == crc32c(0, p, 24) && eh.type == ENTRY_COMPACTED)
            clean_add(out, eh.uid, (int64_t)eh.position);
        if (le64_load(p + 24) == crc32c(0, p, 24) && eh.length <= got - pos - ENTRY_HEADER &&
            find_batch(out, &eh, slice_of(p + ENTRY_HEADER, eh.length), pos + ENTRY_HEADER))
            pos += entry_room(eh.length);
        else
            pos += 8;
    }
    f->size = size;
    f->used = size;
    free(mem);
    jfile_unpin(f);
    return e;
}

static void witness_row(void *arg, struct jfile *f, const struct index_row *row)
{
    lost_witness(&((struct repair *)arg)->lost, row->uid, row->end_offset, row->position_end);
}

/* How far the logs go in a sealed file, as its index says; without one, any log may have had any of
 * the file's records. */
static void witness_sealed(struct repair *r, const struct checkpoint_file *cf, bool damaged)
{
    struct jfile *f = jfile_new(&r->c.j, cf->id, (enum jfile_kind)cf->kind, cf->size);

    if (index_load(f, witness_row, r, NULL) && damaged)
        lost_add(&r->lost, cf->position, cf->position_end);
    jfile_free(&f);
}

static void no_row(void *arg, struct jfile *f, const struct index_row *row)
{
}

static struct found *find_at(struct finds *f, uint32_t file_pos)
{
    uint64_t lo = 0, hi = f->n;

    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;

        if (f->v[mid].b.file_pos < file_pos)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < f->n && f->v[lo].b.file_pos == file_pos ? &f->v[lo] : NULL;
}

/* A batch's own checksum does not cover its base offset, and a segment has no frames around its
 * batches; but each entry of the old index has a checksum. What contradicts a good one is damaged
 * and goes. found: in order of file_pos, which it keeps. */
static void drop_contradicted(struct repair *r, uint64_t id, struct finds *found)
{
    struct jfile *f = jfile_new(&r->c.j, id, JFILE_SEGMENT, 0);
    uint8_t raw[REF_BYTES];
    struct io_file *fd;
    struct batch_ref b;
    struct found *x;
    uint64_t i, n = 0;
    size_t got = 0;

    jfile_pin(f);
    if (!index_load(f, no_row, NULL, NULL) && !jfile_index(f, &fd, NULL))
        for (i = 0; i < f->index_entries; i++) {
            if (io_pread(fd, raw, sizeof raw, index_entry_at(f, i), &got, NULL) || got < sizeof raw)
                break;
            batch_ref_read(raw, &b);
            x = batch_ref_ok(&b) ? find_at(found, b.file_pos) : NULL;
            if (x && (x->b.base_offset != b.base_offset || x->b.position != b.position ||
                      x->b.len != b.len || x->b.batch_crc != b.batch_crc))
                x->b.count = 0;
        }
    for (i = 0; i < found->n; i++)
        if (found->v[i].b.count)
            found->v[n++] = found->v[i];
    found->n = n;
    jfile_unpin(f);
    jfile_free(&f);
}

static enum err write_index(struct repair *r, struct jfile *f, struct finds *found,
                            struct errinfo *info)
{
    struct index_build b = {0};
    struct batch_ref *refs = xmalloc((found->n + 1) * sizeof *refs);
    char name[64];
    uint64_t i, n;
    enum err e;

    if (found->n)
        qsort(found->v, found->n, sizeof *found->v, find_order);
    for (i = 0; i < found->n; i += n) {
        uint32_t k = 0;

        for (n = 0; i + n < found->n && found->v[i + n].uid == found->v[i].uid; n++)
            if (k == 0 ||
                found->v[i + n].b.base_offset >= refs[k - 1].base_offset + refs[k - 1].count)
                refs[k++] = found->v[i + n].b;
        index_add(&b, found->v[i].uid, refs, k)->clean_end = clean_of(found, found->v[i].uid);
    }
    free(refs);
    snprintf(name, sizeof name, "%016" PRIx64 ".idx", f->id);
    e = set_aside(r, "log/", name, info);
    check_say(&r->c, false, "a new index for file %016" PRIx64 ": %" PRIu64 " batches", f->id,
              found->n);
    f->index_rows = b.rows_n;
    f->index_entries = b.entries_n;
    if (!e && !r->dry)
        e = index_write(&b, f, info);
    index_build_fini(&b);
    return e;
}

/* Makes the index of a sealed file anew; updates *cf by what was found. */
static enum err mend_sealed(struct repair *r, struct checkpoint_file *cf, struct errinfo *info)
{
    struct jfile *f = jfile_new(&r->c.j, cf->id, (enum jfile_kind)cf->kind, cf->size);
    struct finds found = {0};
    enum err e;

    if (f->kind == JFILE_SEGMENT) {
        f->position = cf->position;
        f->position_end = cf->position_end;
        e = find_entries(r, f, &found, info);
        if (!e)
            drop_contradicted(r, f->id, &found);
    } else {
        e = find_frames(r, f, &found, info);
    }
    if (!e)
        e = write_index(r, f, &found, info);
    cf->size = f->size;
    cf->used = f->used;
    cf->first_seq = f->first_seq;
    cf->last_seq = f->last_seq;
    cf->last_crc = f->last_crc;
    cf->position = f->position;
    cf->position_end = f->position_end;
    finds_fini(&found);
    jfile_free(&f);
    return e;
}

static enum err save_file(struct repair *r, const struct checkpoint_file *cf, bool gone,
                          struct errinfo *info)
{
    enum err e;

    if (r->dry)
        return ERR_OK;
    if ((e = checkpoint_begin(r->ck, info)))
        return e;
    e = gone ? checkpoint_file_delete(r->ck, cf->id, info) : checkpoint_file_save(r->ck, cf, info);
    if (!e)
        e = checkpoint_commit(r->ck, info);
    checkpoint_rollback(r->ck);
    return e;
}

static enum err mend_all_sealed(struct repair *r, struct errinfo *info)
{
    char path[512];
    uint64_t size = 0;
    bool there = false, bad;
    enum err e = ERR_OK;
    uint32_t i;

    for (i = 0; !e && i < r->c.sealed_n; i++) {
        struct checkpoint_file *cf = &r->c.sealed[i];

        jfile_path(&r->c.j, cf->id, (enum jfile_kind)cf->kind, false, path, sizeof path);
        if ((e = io_stat(r->c.j.io, path, &size, &there, info)))
            break;
        bad = !there || check_sealed(&r->c, cf) > 0;
        witness_sealed(r, cf, bad);
        if (!there) {
            check_say(&r->c, true, "%s is missing: its records are lost", path);
            e = save_file(r, cf, true, info);
        } else if (bad) {
            e = mend_sealed(r, cf, info);
            if (!e)
                e = save_file(r, cf, false, info);
        }
    }
    return e;
}

/* ---- the checkpoint ---- */

static enum err read_head(struct repair *r, uint64_t id, enum jfile_kind kind, uint8_t *block,
                          struct errinfo *info)
{
    struct io_file *fd = NULL;
    char path[512];
    size_t got = 0;
    enum err e;

    jfile_path(&r->c.j, id, kind, false, path, sizeof path);
    e = io_open(r->c.j.io, path, IO_RDONLY, &fd, info);
    if (!e)
        e = io_pread(fd, block, FILE_HEADER, 0, &got, info);
    io_close(&fd);
    if (!e && (got < FILE_HEADER || memcmp(block, "WEIRLOG1", 8) != 0 ||
               le32_load(block + FILE_HEADER - 4) != crc32c(0, block, FILE_HEADER - 4)))
        e = ERR_CORRUPT;
    return e;
}

/* The first frame of the oldest journal file: where a replay of all begins. */
static void chain_start(struct repair *r, uint64_t id)
{
    struct frame_header h;
    const uint8_t *frame = NULL;
    struct scan s;
    uint64_t pos;

    scan_init(&s, &r->c.j, id);
    if (!scan_open(&s, NULL))
        for (pos = FILE_HEADER; pos < s.size && !frame; pos += FRAME_ALIGN)
            if (scan_frame(&s, pos, &h, &frame, NULL))
                break;
    if (frame) {
        r->c.meta.sealed_seq = h.seq - 1;
        r->c.meta.sealed_crc = h.prev_crc;
        r->c.meta.next_position = r->first_position = h.position;
    }
    scan_fini(&s);
}

/* Segments cannot be used without a checkpoint: whose records they are is not known. They are kept
 * aside, and tell how far the logs went, as do all indexes. */
static enum err segments_aside(struct repair *r, const struct folder *d, struct errinfo *info)
{
    struct checkpoint_file cf = {0};
    char name[64];
    enum err e = ERR_OK;
    uint32_t i;

    for (i = 0; !e && i < d->n; i++) {
        cf.id = d->id[i];
        cf.kind = d->ext[i] == 's' ? JFILE_SEGMENT : JFILE_JOURNAL;
        if (d->ext[i] == 's' || d->ext[i] == 'l')
            witness_sealed(r, &cf, false);
        if (d->ext[i] != 's')
            continue;
        snprintf(name, sizeof name, "%016" PRIx64 ".seg", cf.id);
        e = set_aside(r, "log/", name, info);
        snprintf(name, sizeof name, "%016" PRIx64 ".idx", cf.id);
        if (!e)
            e = set_aside(r, "log/", name, info);
    }
    return e;
}

static enum err new_checkpoint(struct repair *r, struct errinfo *info)
{
    uint8_t *block = xmalloc(FILE_HEADER);
    bool id_known = false, chained = false;
    struct folder d;
    uint32_t i;
    enum err e = folder_list(&r->c.j, &d, info);

    memset(&r->c.meta, 0, sizeof r->c.meta);
    r->c.sealed_n = 0;
    for (i = 0; !e && i < d.n; i++) {
        enum jfile_kind kind = d.ext[i] == 's' ? JFILE_SEGMENT : JFILE_JOURNAL;

        if (d.id[i] >= r->c.meta.next_file_id)
            r->c.meta.next_file_id = d.id[i] + 1;
        if ((d.ext[i] != 'l' && d.ext[i] != 's') || read_head(r, d.id[i], kind, block, NULL))
            continue;
        if (!id_known) {
            memcpy(r->c.meta.log_id, block + 40, 16);
            memcpy(r->c.j.id, block + 40, 16);
            r->c.j.log_id = le64_load(r->c.j.id);
            id_known = true;
        }
        if (d.ext[i] == 'l' && !chained) {
            chain_start(r, d.id[i]);
            chained = true;
        }
    }
    free(block);
    if (!e && !id_known)
        e = errinfo_set(info, ERR_CORRUPT, "%s has no data file with a readable header",
                        r->c.j.dir);
    if (!e)
        e = segments_aside(r, &d, info);
    folder_fini(&d);
    lost_add(&r->lost, 1, r->first_position);
    r->end_lost = true;
    if (!e)
        e = set_aside(r, "", "checkpoint.db", info);
    if (!e)
        e = set_aside(r, "", "checkpoint.db-journal", info);
    check_say(&r->c, false, "a new checkpoint: all journal files will be replayed");
    return e;
}

static enum err save_meta(struct repair *r, struct errinfo *info)
{
    enum err e;

    if (r->dry)
        return ERR_OK;
    r->c.meta.clean = false;
    if ((e = checkpoint_begin(r->ck, info)))
        return e;
    e = checkpoint_meta_save(r->ck, &r->c.meta, info);
    if (!e)
        e = lost_save(&r->lost, r->ck, info);
    if (!e)
        e = checkpoint_commit(r->ck, info);
    checkpoint_rollback(r->ck);
    return e;
}

/* ---- frames ---- */

struct weave {
    struct repair *r;
    uint64_t seq; /* last frame written or found */
    uint32_t crc;
    uint64_t position;
    struct io_file *out;
    uint64_t pos;
    bool changed; /* the chain differs from what is on disk: all later frames are written anew */
    uint64_t lost;
};

static enum err weave_put(struct weave *w, const uint8_t *frame, struct frame_header h,
                          struct errinfo *info)
{
    uint64_t padded = frame_padded(h.length);
    uint8_t *mem;
    enum err e;

    h.prev_crc = w->crc;
    mem = xcalloc(1, padded);
    memcpy(mem, frame, h.length);
    frame_header_write(mem, &h, crc32c(0, frame + FRAME_HEADER, h.length - FRAME_HEADER));
    e = w->r->dry ? ERR_OK : io_pwrite(w->out, mem, padded, w->pos, info);
    free(mem);
    w->pos += padded;
    w->seq = h.seq;
    w->crc = h.crc;
    w->position = h.position + h.records;
    return e;
}

/* An empty frame in the place of the missing number w->seq + 1. */
static enum err weave_fill(struct weave *w, struct errinfo *info)
{
    uint8_t mem[FRAME_HEADER + ENTRY_HEADER] = {0};
    struct entry_header eh = {.type = ENTRY_STAMP};
    struct frame_header h = {.length = sizeof mem,
                             .seq = w->seq + 1,
                             .durable_seq = w->seq,
                             .position = w->position,
                             .log_id = w->r->c.j.log_id,
                             .entries = 1};

    entry_header_write(mem + FRAME_HEADER, &eh);
    w->lost++;
    return weave_put(w, mem, h, info);
}

/* How far the logs go in a good frame. */
static void witness_frame(struct repair *r, const struct frame_header *h, const uint8_t *frame)
{
    uint32_t off = FRAME_HEADER;
    struct entry_header eh;
    struct batch_info bi;
    struct slice data;

    while (!frame_entry_next(frame, h->length, &off, &eh, &data)) {
        if (eh.type == ENTRY_BATCH && !batch_parse(data, &bi))
            lost_witness(&r->lost, eh.uid, bi.base_offset + bi.last_offset_delta + 1,
                         eh.position + eh.records);
        else if (eh.type == ENTRY_LOG_START && data.len == 8)
            lost_witness(&r->lost, eh.uid, (int64_t)le64_load(data.ptr), 0);
    }
}

static bool head_ok(struct weave *w, struct scan *s)
{
    uint8_t *block = xcalloc(1, FILE_HEADER);
    size_t got = 0;
    bool ok = !io_pread(s->fd, block, FILE_HEADER, 0, &got, NULL) && got == FILE_HEADER &&
              jfile_header_ok(&w->r->c.j, block, s->id, JFILE_JOURNAL);

    free(block);
    return ok;
}

/* Does the file hold exactly the frames that continue the chain, and nothing after them? Frames
 * behind a damaged header would not be replayed: then it is not good either. */
static enum err weave_look(struct weave *w, struct scan *s, bool *good, struct errinfo *info)
{
    struct weave at = *w;
    struct frame_header h;
    const uint8_t *frame;
    uint64_t pos = FILE_HEADER, size;
    bool end = false;
    enum err e = ERR_OK;

    *good = true;
    for (; !e && pos < s->size; pos += end ? FRAME_ALIGN : frame_padded(h.length)) {
        e = scan_frame(s, pos, &h, &frame, info);
        if (!end && !e && frame && h.seq == at.seq + 1 && h.prev_crc == at.crc) {
            at.seq = h.seq;
            at.crc = h.crc;
            at.position = h.position + h.records;
            witness_frame(w->r, &h, frame);
            continue;
        }
        end = true;
        if (!e && frame && h.seq > at.seq && h.durable_seq > at.seq)
            *good = false;
    }
    if ((at.seq > w->seq && !head_ok(w, s)) || check_short(&w->r->c, s, &size))
        *good = false;
    if (!e && *good)
        *w = at;
    return e;
}

static enum err weave_frames(struct weave *w, struct scan *s, struct errinfo *info)
{
    struct frame_header h;
    const uint8_t *frame;
    uint64_t pos = FILE_HEADER;
    enum err e = ERR_OK;

    while (!e && pos < s->size) {
        e = scan_frame(s, pos, &h, &frame, info);
        if (e || !frame || h.seq <= w->seq || h.seq - w->seq > MISSING_MAX) {
            pos += FRAME_ALIGN;
            continue;
        }
        witness_frame(w->r, &h, frame);
        if (h.seq > w->seq + 1)
            lost_add(&w->r->lost, w->position, h.position);
        while (!e && h.seq > w->seq + 1)
            e = weave_fill(w, info);
        if (!e)
            e = weave_put(w, frame, h, info);
        pos += frame_padded(h.length);
    }
    return e;
}

/* The checkpoint says that there were more frames, and how many records up to its own; how many
 * after that nobody knows, unless the log was closed in order there. */
static enum err weave_end(struct weave *w, struct errinfo *info)
{
    const struct checkpoint_meta *m = &w->r->c.meta;
    enum err e = ERR_OK;

    if (w->seq >= m->applied_seq)
        return ERR_OK;
    lost_add(&w->r->lost, w->position, m->next_position);
    w->r->end_lost = !m->clean;
    while (!e && w->seq < m->applied_seq && m->applied_seq - w->seq <= MISSING_MAX)
        e = weave_fill(w, info);
    return e;
}

static enum err weave_file(struct weave *w, uint64_t id, bool last, struct errinfo *info)
{
    struct repair *r = w->r;
    char path[512], tmp[520], name[64];
    uint8_t *block = xcalloc(1, FILE_HEADER);
    struct weave before = *w;
    struct scan s;
    bool good = false;
    uint64_t size;
    enum err e;

    scan_init(&s, &r->c.j, id);
    e = scan_open(&s, info);
    if (!e && !w->changed)
        e = weave_look(w, &s, &good, info);
    if (e || (good && !(last && w->seq < r->c.meta.applied_seq)))
        goto out;
    *w = before; /* where looking went on to: all frames of this file are to be written */
    w->changed = true;
    check_say(&r->c, false, "journal file %016" PRIx64 " is written anew from what can be read",
              id);
    jfile_path(&r->c.j, id, JFILE_JOURNAL, false, path, sizeof path);
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    snprintf(name, sizeof name, "%016" PRIx64 ".log", id);
    jfile_header_make(&r->c.j, id, JFILE_JOURNAL, s.size, block);
    if (!r->dry)
        e = io_open(r->c.j.io, tmp, IO_CREATE | IO_TRUNC, &w->out, info);
    if (!e && !r->dry)
        e = io_pwrite(w->out, block, FILE_HEADER, 0, info);
    w->pos = FILE_HEADER;
    if (!e)
        e = weave_frames(w, &s, info);
    if (!e && last)
        e = weave_end(w, info);
    /* Unless it was closed in order nobody knows how far it went. */
    if (last && !r->c.meta.clean && check_short(&r->c, &s, &size))
        r->end_lost = true;
    if (!e && !r->dry)
        e = io_truncate(w->out, w->pos > s.size ? w->pos : s.size, info);
    if (!e && !r->dry)
        e = io_sync(w->out, info);
    io_close(&w->out);
    if (!e)
        e = set_aside(r, "log/", name, info);
    if (!e && !r->dry)
        e = io_rename(r->c.j.io, tmp, path, info);
out:
    scan_fini(&s);
    free(block);
    return e;
}

/* The position after the records of the sealed journal files: at most where replay begins. */
static uint64_t sealed_position(const struct repair *r)
{
    uint64_t position = r->first_position;
    uint32_t i;

    for (i = 0; i < r->c.sealed_n; i++)
        if (r->c.sealed[i].kind == JFILE_JOURNAL && r->c.sealed[i].position_end > position)
            position = r->c.sealed[i].position_end;
    return position;
}

static enum err mend_frames(struct repair *r, struct errinfo *info)
{
    struct weave w = {.r = r,
                      .seq = r->c.meta.sealed_seq,
                      .crc = r->c.meta.sealed_crc,
                      .position = sealed_position(r)};
    uint64_t *ids = NULL;
    uint32_t n = 0, i;
    char dir[512];
    enum err e = check_replayed(&r->c, &ids, &n, info);

    for (i = 0; !e && i < n; i++) {
        struct weave before = w;

        e = weave_file(&w, ids[i], i + 1 == n, info);
        if (!e && i + 1 == n && !w.changed && w.seq < r->c.meta.applied_seq) {
            w = before;
            w.changed = true;
            e = weave_file(&w, ids[i], true, info);
        }
    }
    free(ids);
    if (!e && w.lost)
        check_say(&r->c, true, "%" PRIu64 " frames could not be read: what was in them is lost",
                  w.lost);
    if (!e && w.seq < r->c.meta.applied_seq) {
        lost_add(&r->lost, w.position, r->c.meta.next_position);
        r->end_lost = !r->c.meta.clean;
        r->c.meta.applied_seq = w.seq;
    }
    if (w.position > r->c.meta.next_position)
        r->c.meta.next_position = w.position;
    name_of(&r->c, "log", dir, sizeof dir);
    return e || r->dry ? e : io_sync_dir(r->c.j.io, dir, info);
}

/* What may have been seen and is lost is not given out again. */
static void leave_gaps(struct repair *r)
{
    uint64_t *next = &r->c.meta.next_position;

    if (r->end_lost) {
        lost_add(&r->lost, *next, *next + LOST_STEP);
        *next += LOST_STEP;
    }
    if (r->lost.n)
        check_say(&r->c, false,
                  "new records go on at position %" PRIu64
                  "; a log that may have lost its newest ones leaves a gap in its offsets",
                  *next);
}

enum err journal_repair(struct io *io, const char *dir, bool dry_run,
                        void (*fn)(void *arg, bool problem, const char *text), void *arg,
                        struct errinfo *info)
{
    struct journal_check_result res;
    struct repair r = {.dry = dry_run};
    enum err e;

    check_init(&r.c, io, dir, fn, arg, &res);
    lost_init(&r.lost);
    if ((e = check_lock(&r.c, info)))
        goto out;
    if (!check_checkpoint(&r.c))
        e = new_checkpoint(&r, info);
    if (!e && !r.dry)
        e = checkpoint_open(io, dir, false, &r.ck, info);
    if (!e)
        e = mend_all_sealed(&r, info);
    if (!e)
        e = mend_frames(&r, info);
    if (!e)
        leave_gaps(&r);
    if (!e)
        e = save_meta(&r, info);
out:
    lost_fini(&r.lost);
    checkpoint_close(&r.ck);
    check_fini(&r.c);
    return e;
}
