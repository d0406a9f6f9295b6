/* Writing and loading the index of a sealed file. See index.h for the bytes. */
#include "journal/index.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"

static void header_write(uint8_t *p, const struct index_header *h)
{
    memset(p, 0, INDEX_HEADER);
    le32_store(p, INDEX_MAGIC);
    le32_store(p + 4, h->kind);
    le64_store(p + 8, h->log_id);
    le64_store(p + 16, h->file_id);
    le64_store(p + 24, h->rows);
    le64_store(p + 32, h->entries);
    le64_store(p + 40, h->used);
    le64_store(p + 48, h->first_seq);
    le64_store(p + 56, h->last_seq);
    le64_store(p + 64, h->position);
    le64_store(p + 72, h->position_end);
    le64_store(p + 80, h->frames);
    le64_store(p + 88, h->records);
    le32_store(p + 96, h->last_crc);
    le32_store(p + 124, crc32c(0, p, 124));
}

static bool header_read(const uint8_t *p, struct index_header *h)
{
    if (le32_load(p) != INDEX_MAGIC || le32_load(p + 124) != crc32c(0, p, 124))
        return false;
    h->kind = le32_load(p + 4);
    h->log_id = le64_load(p + 8);
    h->file_id = le64_load(p + 16);
    h->rows = le64_load(p + 24);
    h->entries = le64_load(p + 32);
    h->used = le64_load(p + 40);
    h->first_seq = le64_load(p + 48);
    h->last_seq = le64_load(p + 56);
    h->position = le64_load(p + 64);
    h->position_end = le64_load(p + 72);
    h->frames = le64_load(p + 80);
    h->records = le64_load(p + 88);
    h->last_crc = le32_load(p + 96);
    return true;
}

static void row_write(uint8_t *p, const struct index_row *r)
{
    le32_store(p, r->uid);
    le32_store(p + 4, r->count);
    le64_store(p + 8, r->first_entry);
    le64_store(p + 16, (uint64_t)r->base_offset);
    le64_store(p + 24, (uint64_t)r->end_offset);
    le64_store(p + 32, r->position);
    le64_store(p + 40, r->position_end);
    le64_store(p + 48, (uint64_t)r->max_ts);
    le64_store(p + 56, r->bytes);
    le64_store(p + 64, (uint64_t)r->clean_end);
    le32_store(p + 72, r->entries_crc);
    le32_store(p + 76, crc32c(0, p, 76));
}

static bool row_read(const uint8_t *p, struct index_row *r)
{
    r->uid = le32_load(p);
    r->count = le32_load(p + 4);
    r->first_entry = le64_load(p + 8);
    r->base_offset = (int64_t)le64_load(p + 16);
    r->end_offset = (int64_t)le64_load(p + 24);
    r->position = le64_load(p + 32);
    r->position_end = le64_load(p + 40);
    r->max_ts = (int64_t)le64_load(p + 48);
    r->bytes = le64_load(p + 56);
    r->clean_end = (int64_t)le64_load(p + 64);
    r->entries_crc = le32_load(p + 72);
    return le32_load(p + 76) == crc32c(0, p, 76);
}

struct index_row *index_add(struct index_build *b, uint32_t uid, struct batch_ref *refs, uint32_t n)
{
    struct index_row *r;
    uint8_t *first;
    uint32_t i;

    ASSERT(n > 0);
    if (b->rows_n == b->rows_cap) {
        b->rows_cap = b->rows_cap ? b->rows_cap * 2 : 64;
        b->rows = xrealloc(b->rows, b->rows_cap * sizeof *b->rows);
    }
    while (b->entries_n + n > b->entries_cap) {
        b->entries_cap = b->entries_cap ? b->entries_cap * 2 : 256;
        b->entries = xrealloc(b->entries, b->entries_cap * REF_BYTES);
    }
    ASSERT(b->rows_n == 0 || b->rows[b->rows_n - 1].uid < uid);
    r = &b->rows[b->rows_n++];
    *r = (struct index_row){.uid = uid, .count = n, .first_entry = b->entries_n, .max_ts = -1};
    r->base_offset = refs[0].base_offset;
    r->position = refs[0].position;
    r->end_offset = refs[n - 1].base_offset + refs[n - 1].count;
    r->position_end = refs[n - 1].position + refs[n - 1].count;
    first = b->entries + b->entries_n * REF_BYTES;
    for (i = 0; i < n; i++) {
        batch_ref_crc(&refs[i]);
        batch_ref_write(first + (size_t)i * REF_BYTES, &refs[i]);
        r->bytes += refs[i].len;
        if (refs[i].max_ts > r->max_ts)
            r->max_ts = refs[i].max_ts;
    }
    r->entries_crc = crc32c(0, first, (size_t)n * REF_BYTES);
    b->entries_n += n;
    return r;
}

static enum err write_all(struct index_build *b, const struct jfile *f, const char *path,
                          struct errinfo *info)
{
    struct io_file *fd = NULL;
    uint64_t dir = b->rows_n * INDEX_ROW, i;
    uint8_t *head = xmalloc(INDEX_HEADER + dir);
    struct index_header h = {f->kind,   f->j->log_id, f->id,       b->rows_n,   b->entries_n,
                             f->used,   f->first_seq, f->last_seq, f->position, f->position_end,
                             f->frames, f->records,   f->last_crc};
    enum err e;

    header_write(head, &h);
    for (i = 0; i < b->rows_n; i++)
        row_write(head + INDEX_HEADER + i * INDEX_ROW, &b->rows[i]);
    e = io_open(f->j->io, path, IO_CREATE | IO_TRUNC, &fd, info);
    if (!e)
        e = io_pwrite(fd, head, INDEX_HEADER + dir, 0, info);
    if (!e && b->entries_n)
        e = io_pwrite(fd, b->entries, b->entries_n * REF_BYTES, INDEX_HEADER + dir, info);
    if (!e)
        e = io_sync(fd, info);
    io_close(&fd);
    free(head);
    return e;
}

enum err index_write(struct index_build *b, const struct jfile *f, struct errinfo *info)
{
    char path[512], tmp[520], dir[512];
    enum err e;

    jfile_path(f->j, f->id, f->kind, true, path, sizeof path);
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    snprintf(dir, sizeof dir, "%s/log", f->j->dir);
    e = write_all(b, f, tmp, info);
    if (!e)
        e = io_rename(f->j->io, tmp, path, info);
    if (!e)
        e = io_sync_dir(f->j->io, dir, info);
    if (e)
        io_unlink(f->j->io, tmp, NULL);
    return e;
}

void index_build_fini(struct index_build *b)
{
    free(b->rows);
    free(b->entries);
    memset(b, 0, sizeof *b);
}

uint64_t index_entry_at(const struct jfile *f, uint64_t entry)
{
    return INDEX_HEADER + f->index_rows * INDEX_ROW + entry * REF_BYTES;
}

static enum err bad(const struct jfile *f, const char *what, struct errinfo *info)
{
    char path[512];

    jfile_path(f->j, f->id, f->kind, true, path, sizeof path);
    return errinfo_set(info, ERR_CORRUPT,
                       "%s: %s; `weir repair` makes the index anew from the data file", path, what);
}

static enum err header_check(struct jfile *f, const uint8_t *raw, uint64_t size,
                             struct errinfo *info)
{
    struct index_header h;

    if (!header_read(raw, &h))
        return bad(f, "the index header has a wrong checksum", info);
    if (h.log_id != f->j->log_id || h.file_id != f->id || h.kind != (uint32_t)f->kind)
        return bad(f, "the index belongs to another file", info);
    if (h.rows > (size - INDEX_HEADER) / INDEX_ROW ||
        h.entries > (size - INDEX_HEADER - h.rows * INDEX_ROW) / REF_BYTES ||
        size != INDEX_HEADER + h.rows * INDEX_ROW + h.entries * REF_BYTES)
        return bad(f, "the index has a wrong length", info);
    f->index_rows = h.rows;
    f->index_entries = h.entries;
    f->used = h.used;
    f->first_seq = h.first_seq;
    f->last_seq = h.last_seq;
    f->position = h.position;
    f->position_end = h.position_end;
    f->frames = h.frames;
    f->records = h.records;
    f->last_crc = h.last_crc;
    return ERR_OK;
}

enum err index_load(struct jfile *f,
                    void (*fn)(void *arg, struct jfile *f, const struct index_row *row), void *arg,
                    struct errinfo *info)
{
    uint8_t head[INDEX_HEADER], *rows = NULL;
    struct io_file *fd = NULL;
    struct index_row r;
    uint64_t size = 0, i;
    size_t got = 0;
    char path[512];
    enum err e;

    jfile_path(f->j, f->id, f->kind, true, path, sizeof path);
    if ((e = io_open(f->j->io, path, IO_RDONLY, &fd, info)))
        return e;
    if ((e = io_size(fd, &size, info)) || (e = io_pread(fd, head, sizeof head, 0, &got, info)))
        goto out;
    if (got < sizeof head) {
        e = bad(f, "the index is too short", info);
        goto out;
    }
    if ((e = header_check(f, head, size, info)))
        goto out;
    rows = xmalloc(f->index_rows * INDEX_ROW + 1);
    if ((e = io_pread(fd, rows, f->index_rows * INDEX_ROW, INDEX_HEADER, &got, info)))
        goto out;
    for (i = 0; i < f->index_rows && !e; i++) {
        if (got < (i + 1) * INDEX_ROW || !row_read(rows + i * INDEX_ROW, &r) || r.count == 0 ||
            r.count > f->index_entries || r.first_entry > f->index_entries - r.count)
            e = bad(f, "a row of the index's directory has a wrong checksum", info);
        else
            fn(arg, f, &r);
    }
out:
    free(rows);
    io_close(&fd);
    return e;
}
