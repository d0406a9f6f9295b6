/* Writing segments: see segment.h. */
#include "journal/segment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"

#define OUT_BUF (1u << 20)

static enum err out_flush(struct segment *s, struct errinfo *info)
{
    enum err e = s->n ? io_pwrite(s->fd, s->buf, s->n, s->at, info) : ERR_OK;

    s->at += s->n;
    s->n = 0;
    return e;
}

static enum err out_put(struct segment *s, const void *p, size_t n, struct errinfo *info)
{
    enum err e = ERR_OK;

    if (s->n + n > OUT_BUF)
        e = out_flush(s, info);
    if (!e && n > OUT_BUF) {
        e = io_pwrite(s->fd, p, n, s->at, info);
        s->at += n;
    } else if (!e) {
        memcpy(s->buf + s->n, p, n);
        s->n += n;
    }
    return e;
}

enum err segment_open(struct journal *j, struct segment *s, struct errinfo *info)
{
    uint8_t block[FILE_HEADER];
    char path[512];
    enum err e;

    memset(s, 0, sizeof *s);
    io_mutex_lock(&j->lock);
    s->file = jfile_new(j, j->next_file_id++, JFILE_SEGMENT, 0);
    io_mutex_unlock(&j->lock);
    s->buf = xmalloc(OUT_BUF);
    jfile_path(j, s->file->id, JFILE_SEGMENT, false, path, sizeof path);
    e = io_open(j->io, path, IO_CREATE | IO_TRUNC, &s->fd, info);
    memset(block, 0, sizeof block);
    return e ? e : out_put(s, block, sizeof block, info); /* the header comes last */
}

static enum err head_put(struct segment *s, const struct entry_header *eh, struct errinfo *info)
{
    uint8_t head[ENTRY_HEADER];

    entry_header_write(head, eh);
    le64_store(head + 24, crc32c(0, head, 24));
    return out_put(s, head, sizeof head, info);
}

enum err segment_put(struct segment *s, uint32_t uid, struct slice batch, uint64_t position,
                     int64_t clean_end, struct errinfo *info)
{
    static const uint8_t zeros[8];
    struct entry_header eh = {ENTRY_COMPACTED, 0, uid, 0, (uint64_t)clean_end, 0};
    uint64_t at;
    enum err e = ERR_OK;

    if (s->refs_n == s->refs_cap) {
        s->refs_cap = s->refs_cap ? s->refs_cap * 2 : 64;
        s->refs = xrealloc(s->refs, s->refs_cap * sizeof *s->refs);
    }
    if (clean_end && !s->marked)
        e = head_put(s, &eh, info);
    s->marked = true;
    at = s->at + s->n + ENTRY_HEADER;
    batch_ref_make(&s->refs[s->refs_n++], batch.ptr, (uint32_t)batch.len, position, at);
    eh = (struct entry_header){
        ENTRY_BATCH, (uint32_t)batch.len, uid, s->refs[s->refs_n - 1].count, position, 0};
    if (!e)
        e = head_put(s, &eh, info);
    if (!e)
        e = out_put(s, batch.ptr, batch.len, info);
    if (!e)
        e = out_put(s, zeros, (8 - batch.len % 8) % 8, info);
    return e;
}

const struct index_row *segment_plog_end(struct segment *s, uint32_t uid, int64_t clean_end)
{
    struct index_row *r = NULL;

    if (s->refs_n) {
        r = index_add(&s->index, uid, s->refs, s->refs_n);
        r->clean_end = clean_end;
    }
    segment_plog_drop(s);
    return r;
}

void segment_plog_drop(struct segment *s)
{
    s->refs_n = 0;
    s->marked = false;
}

uint64_t segment_bytes(const struct segment *s)
{
    return s->at + s->n;
}

uint64_t segment_batches(const struct segment *s)
{
    return s->index.entries_n + s->refs_n;
}

enum err segment_finish(struct segment *s, uint64_t position, uint64_t position_end,
                        struct errinfo *info)
{
    struct jfile *f = s->file;
    uint8_t block[FILE_HEADER];
    enum err e = out_flush(s, info);

    f->position = position;
    f->position_end = position_end;
    f->size = s->at;
    f->used = s->at;
    f->index_rows = s->index.rows_n;
    f->index_entries = s->index.entries_n;
    jfile_header_make(f->j, f->id, JFILE_SEGMENT, f->size, block);
    if (!e)
        e = io_pwrite(s->fd, block, sizeof block, 0, info);
    if (!e)
        e = io_sync(s->fd, info);
    io_close(&s->fd);
    if (!e)
        e = index_write(&s->index, f, info); /* syncs the folder, too */
    return e;
}

void segment_fini(struct segment *s)
{
    io_close(&s->fd);
    index_build_fini(&s->index);
    free(s->buf);
    free(s->refs);
    memset(s, 0, sizeof *s);
}

void segment_discard(struct segment *s)
{
    struct jfile *f = s->file;
    char path[512];

    io_close(&s->fd);
    if (f) {
        jfile_path(f->j, f->id, JFILE_SEGMENT, false, path, sizeof path);
        io_unlink(f->j->io, path, NULL);
        jfile_path(f->j, f->id, JFILE_SEGMENT, true, path, sizeof path);
        io_unlink(f->j->io, path, NULL);
        jfile_free(&f);
    }
    segment_fini(s);
}

void extent_from_row(struct extent *x, struct jfile *f, const struct index_row *r)
{
    *x = (struct extent){.file = f,
                         .first_entry = r->first_entry,
                         .count = r->count,
                         .base_offset = r->base_offset,
                         .end_offset = r->end_offset,
                         .clean_end = r->clean_end,
                         .position = r->position,
                         .position_end = r->position_end,
                         .max_ts = r->max_ts,
                         .bytes = r->bytes};
}
