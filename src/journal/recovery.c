/* Recovery: checkpoint, then replay of the frames after it. What each kind of damage leads to:
 *
 *     found                                          done                          test
 *  1  no checkpoint.db, no data files                a new log                     fresh
 *  2  no checkpoint.db, but data files               refuse: ERR_CORRUPT           lost_checkpoint
 *  3  checkpoint.db damaged                          refuse: ERR_CORRUPT           bad_checkpoint
 *  4  sealed file missing or short                   refuse: ERR_CORRUPT           missing_sealed
 *  5  index missing or damaged (repair makes it)     refuse: ERR_CORRUPT           bad_index
 *  6  torn frame at the end of the log               cut there                     torn_tail
 *  7  bad frame, later frames prove it was durable   refuse: ERR_CORRUPT           bad_middle
 *  8  bad frame, later ones never proved durable     cut there (durability `os`)   lost_unsynced
 *  9  log ends before the checkpoint's frame         refuse: ERR_CORRUPT           missing_end,
 *                                                                                   missing_first
 * 10  stale frames of before in a recycled file      not taken (seq, crc chain)    stale_frames
 * 11  prepared file without frames                   becomes a spare               unused_file
 * 12  segment or index that no checkpoint lists      removed                       orphan
 * 13  .log that the checkpoint has dropped           becomes a spare               dropped_file
 * 14  journal file missing between others            refuse: ERR_CORRUPT (as 7)    missing_middle
 * 15  log of another directory in a file             refuse or spare (log id)      foreign_file
 * 16  journal file shorter than its header says      refuse: ERR_CORRUPT           short_file
 *
 * Proof of durability: a later valid frame whose durable_seq is at least the bad one's seq, or the
 * checkpoint's applied_seq. Single-threaded. */
#include "journal/recovery.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/mem.h"
#include "journal/batch.h"
#include "journal/checkpoint.h"
#include "journal/index.h"
#include "journal/lost.h"
#include "journal/segment.h"

#define WINDOW (4u << 20)

/* ---- reading frames from a file ---- */

void scan_init(struct scan *s, struct journal *j, uint64_t id)
{
    memset(s, 0, sizeof *s);
    s->j = j;
    s->id = id;
}

void scan_fini(struct scan *s)
{
    io_close(&s->fd);
    free(s->buf);
    s->buf = NULL;
}

enum err scan_open(struct scan *s, struct errinfo *info)
{
    char path[512];
    enum err e;

    jfile_path(s->j, s->id, JFILE_JOURNAL, false, path, sizeof path);
    e = io_open(s->j->io, path, IO_RDONLY, &s->fd, info);
    return e ? e : io_size(s->fd, &s->size, info);
}

/* Makes [pos, pos + n) available; *p is NULL when the file ends before. */
static enum err scan_at(struct scan *s, uint64_t pos, uint64_t n, const uint8_t **p,
                        struct errinfo *info)
{
    size_t want = n > WINDOW ? n : WINDOW;
    enum err e;

    *p = NULL;
    if (pos > s->size || n > s->size - pos)
        return ERR_OK;
    if (pos < s->buf_pos || pos + n > s->buf_pos + s->buf_len) {
        if (want > s->buf_cap) {
            free(s->buf);
            s->buf = xmalloc(want);
            s->buf_cap = want;
        }
        s->buf_len = 0;
        if ((e = io_pread(s->fd, s->buf, want, pos, &s->buf_len, info)))
            return e;
        s->buf_pos = pos;
        if (s->buf_len < n)
            return ERR_OK;
    }
    *p = s->buf + (pos - s->buf_pos);
    return ERR_OK;
}

enum err scan_frame(struct scan *s, uint64_t pos, struct frame_header *h, const uint8_t **frame,
                    struct errinfo *info)
{
    const uint8_t *p;
    enum err e;

    *frame = NULL;
    if ((e = scan_at(s, pos, FRAME_HEADER, &p, info)) || !p)
        return e;
    if (!frame_header_read(p, FRAME_HEADER, s->size - pos, h) || h->log_id != s->j->log_id)
        return ERR_OK;
    if ((e = scan_at(s, pos, h->length, &p, info)) || !p)
        return e;
    if (frame_crc_ok(p, h))
        *frame = p;
    return ERR_OK;
}

/* Highest durable_seq that any valid frame at or after pos claims, of frames with seq > after. */
static enum err scan_proof(struct scan *s, uint64_t pos, uint64_t after, uint64_t *proof,
                           struct errinfo *info)
{
    struct frame_header h;
    const uint8_t *f;
    enum err e = ERR_OK;

    for (; !e && pos + FRAME_HEADER <= s->size; pos += FRAME_ALIGN) {
        e = scan_frame(s, pos, &h, &f, info);
        if (!e && f && h.seq > after && h.durable_seq > *proof)
            *proof = h.durable_seq;
    }
    return e;
}

/* ---- what is in the folder ---- */

static int id_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void list_one(void *arg, const char *name)
{
    struct folder *d = arg;
    char ext[5];
    uint64_t id;
    int end = 0;

    if (strlen(name) != 20 || sscanf(name, "%16" SCNx64 "%4s%n", &id, ext, &end) != 2 || end != 20)
        return;
    if (d->n == d->cap) {
        d->cap = d->cap ? d->cap * 2 : 64;
        d->id = xrealloc(d->id, d->cap * sizeof *d->id);
        d->ext = xrealloc(d->ext, d->cap);
    }
    d->id[d->n] = id;
    d->ext[d->n++] = strcmp(ext, ".log") == 0   ? 'l'
                     : strcmp(ext, ".seg") == 0 ? 's'
                     : strcmp(ext, ".idx") == 0 ? 'i'
                                                : '?';
}

enum err folder_list(struct journal *j, struct folder *d, struct errinfo *info)
{
    char dir[512];

    memset(d, 0, sizeof *d);
    snprintf(dir, sizeof dir, "%s/log", j->dir);
    return io_list(j->io, dir, list_one, d, info);
}

void folder_fini(struct folder *d)
{
    free(d->id);
    free(d->ext);
}

static struct jfile *file_find(struct journal *j, uint64_t id)
{
    struct jfile *f;

    list_for_each(f, &j->files, struct jfile, link) if (f->id == id) return f;
    return NULL;
}

/* Rows 12 and 13: what the checkpoint does not know and that is not to be replayed goes. */
static void folder_clean(struct journal *j, struct folder *d)
{
    char path[512], spare[512];
    uint64_t r;
    uint32_t i;

    for (i = 0; i < d->n; i++) {
        struct jfile *f = file_find(j, d->id[i]);

        if (d->ext[i] == '?' || f || (d->ext[i] == 'l' && d->id[i] > j->sealed_id))
            continue;
        jfile_path(j, d->id[i], d->ext[i] == 's' ? JFILE_SEGMENT : JFILE_JOURNAL, d->ext[i] == 'i',
                   path, sizeof path);
        if (d->ext[i] == 'l') {
            io_random(j->io, &r, sizeof r);
            snprintf(spare, sizeof spare, "%s/log/spare-%016" PRIx64, j->dir, r);
            io_rename(j->io, path, spare, NULL);
        } else {
            io_unlink(j->io, path, NULL);
        }
    }
}

/* ---- checkpoint ---- */

static void row_load(void *arg, struct jfile *f, const struct index_row *r)
{
    struct journal *j = arg;
    struct plog *p = j->conf.hooks->plog_find(j->conf.hooks_arg, r->uid);
    struct extent x;

    extent_from_row(&x, f, r);
    if (p)
        plog_extent_add(p, &x);
}

static enum err file_load(void *arg, const struct checkpoint_file *cf, struct errinfo *info)
{
    struct journal *j = arg;
    struct jfile *f = jfile_new(j, cf->id, (enum jfile_kind)cf->kind, cf->size);
    char path[512];
    uint64_t size = 0;
    bool there = false;
    enum err e;

    atomic_store(&f->state, JFILE_SEALED);
    f->in_checkpoint = true;
    list_push_back(&j->files, &f->link);
    jfile_path(j, f->id, f->kind, false, path, sizeof path);
    if ((e = io_stat(j->io, path, &size, &there, info)))
        return e;
    if (!there || size < cf->used)
        return errinfo_set(info, ERR_CORRUPT, "%s is %s; run `weir check`, then `weir repair`",
                           path, there ? "shorter than it was" : "missing");
    e = index_load(f, row_load, j, info);
    if (e == ERR_NOT_FOUND)
        e = errinfo_set(info, ERR_CORRUPT, "the index of %s is missing; run `weir repair`", path);
    if (!e && f->used != cf->used)
        e = errinfo_set(info, ERR_CORRUPT, "the index of %s is of another time; run `weir repair`",
                        path);
    return e;
}

static int position_order(const void *a, const void *b)
{
    const struct jfile *x = *(struct jfile *const *)a, *y = *(struct jfile *const *)b;

    return x->position != y->position ? (x->position < y->position ? -1 : 1)
           : x->id < y->id            ? -1
                                      : x->id > y->id;
}

/* j->files in order of position, as rewriting expects. */
static void files_sort(struct journal *j)
{
    struct jfile *f, **v;
    uint32_t n = 0, i;

    list_for_each(f, &j->files, struct jfile, link) n++;
    v = xmalloc((n + 1) * sizeof(struct jfile *));
    for (i = 0; i < n; i++)
        v[i] = list_entry(list_pop_front(&j->files), struct jfile, link);
    qsort(v, n, sizeof *v, position_order);
    for (i = 0; i < n; i++)
        list_push_back(&j->files, &v[i]->link);
    free(v);
}

static enum err plogs_check(struct journal *j, struct errinfo *info)
{
    struct plog *p;
    uint32_t i;

    list_for_each(p, &j->plogs, struct plog, link)
    {
        plog_extents_settle(p);
        for (i = 1; i < p->ext_n; i++)
            if (p->ext[i].base_offset < p->ext[i - 1].end_offset)
                return errinfo_set(info, ERR_CORRUPT,
                                   "two files hold offset %" PRId64
                                   " of partition log %u; run `weir repair`",
                                   p->ext[i].base_offset, p->uid);
    }
    return ERR_OK;
}

static bool has_data_files(const struct folder *d)
{
    uint32_t i;

    for (i = 0; i < d->n; i++)
        if (d->ext[i] != '?')
            return true;
    return false;
}

static enum err meta_save(struct journal *j, const struct checkpoint_meta *m, struct errinfo *info)
{
    enum err e;

    if ((e = checkpoint_begin(j->ckpt, info)))
        return e;
    e = checkpoint_meta_save(j->ckpt, m, info);
    if (!e)
        e = checkpoint_commit(j->ckpt, info);
    if (e)
        checkpoint_rollback(j->ckpt);
    return e;
}

static enum err log_create(struct journal *j, struct checkpoint_meta *m, struct errinfo *info)
{
    io_random(j->io, m->log_id, sizeof m->log_id);
    m->next_position = m->next_file_id = 1;
    return meta_save(j, m, info);
}

static enum err checkpoint_load(struct journal *j, struct folder *d, struct checkpoint_meta *m,
                                struct errinfo *info)
{
    enum err e = checkpoint_meta_load(j->ckpt, m, info);

    if (!e && !m->found) {
        if (has_data_files(d))
            return errinfo_set(info, ERR_CORRUPT,
                               "%s has a log but no checkpoint; `weir repair` makes it anew",
                               j->dir);
        e = j->conf.read_only ? errinfo_set(info, ERR_NOT_FOUND, "%s has no log", j->dir)
                              : log_create(j, m, info);
    }
    if (e)
        return e;
    memcpy(j->id, m->log_id, 16);
    j->log_id = le64_load(j->id);
    j->next_position = m->next_position;
    j->next_file_id = m->next_file_id;
    j->sealed_id = j->saved_sealed_id = m->sealed_id;
    j->saved_seq = m->applied_seq;
    j->sealed_seq = m->sealed_seq;
    j->sealed_crc = m->sealed_crc;
    if (j->conf.hooks->load)
        e = j->conf.hooks->load(j->conf.hooks_arg, checkpoint_db(j->ckpt), info);
    if (checkpoint_damage(j->ckpt, info)) /* says more than SQLite, whatever the hook made of it */
        e = ERR_CORRUPT;
    if (!e)
        e = checkpoint_files_load(j->ckpt, file_load, j, info);
    if (!e) {
        files_sort(j);
        e = plogs_check(j, info);
    }
    return e;
}

/* ---- replay ---- */

struct replay {
    struct journal *j;
    struct folder *d;
    uint64_t applied_seq;
    bool clean;
    uint64_t seq; /* last good frame */
    uint32_t crc;
    struct jfile *file; /* that holds it */
};

static enum err bad_entry(const struct replay *r, uint64_t pos, struct errinfo *info)
{
    return errinfo_set(info, ERR_CORRUPT,
                       "frame %" PRIu64 " at byte %" PRIu64 " of file %016" PRIx64
                       " has an entry that cannot be; run `weir check`",
                       r->seq + 1, pos, r->file ? r->file->id : 0);
}

static enum err replay_batch(struct replay *r, struct jfile *f, const struct frame_header *h,
                             const struct entry_header *eh, struct slice data, uint64_t file_pos)
{
    const struct journal_hooks *hooks = r->j->conf.hooks;
    struct plog *p = r->j->conf.hooks->plog_find(r->j->conf.hooks_arg, eh->uid);
    struct batch_info bi;
    struct batch_ref b;

    if (batch_parse(data, &bi) || bi.length != data.len ||
        (uint32_t)bi.last_offset_delta + 1 != eh->records || !batch_producer_ok(&bi))
        return ERR_CORRUPT;
    if (!p)
        return ERR_OK; /* of a topic deleted since */
    batch_ref_make(&b, data.ptr, (uint32_t)data.len, eh->position, file_pos);
    if (!plog_replay_batch(p, &b, f, eh->wall_ms))
        return ERR_CORRUPT;
    if (bi.producer_id >= 0 && h->seq > r->applied_seq && hooks->batch)
        hooks->batch(r->j->conf.hooks_arg, plog_owner(p), data, eh->position, eh->wall_ms);
    return ERR_OK;
}

static enum err replay_entry(struct replay *r, struct jfile *f, const struct frame_header *h,
                             const struct entry_header *eh, struct slice data, uint64_t file_pos,
                             struct errinfo *info)
{
    struct plog *p;

    if (eh->type == ENTRY_BATCH)
        return replay_batch(r, f, h, eh, data, file_pos);
    if (eh->type == ENTRY_LOG_START) {
        if (data.len != 8)
            return ERR_CORRUPT;
        p = r->j->conf.hooks->plog_find(r->j->conf.hooks_arg, eh->uid);
        if (p)
            plog_commit_start(p, (int64_t)le64_load(data.ptr));
        return ERR_OK;
    }
    if (eh->type < ENTRY_BROKER || h->seq <= r->applied_seq || !r->j->conf.hooks->apply)
        return ERR_OK;
    return r->j->conf.hooks->apply(r->j->conf.hooks_arg, eh->type, data, eh->wall_ms, info);
}

static enum err replay_frame(struct replay *r, struct jfile *f, uint64_t pos,
                             const struct frame_header *h, const uint8_t *mem, struct errinfo *info)
{
    uint32_t off = FRAME_HEADER, start = off, n = 0;
    struct entry_header eh;
    struct slice data;
    enum err e;

    while ((e = frame_entry_next(mem, h->length, &off, &eh, &data)) == ERR_OK) {
        e = replay_entry(r, f, h, &eh, data, pos + start + ENTRY_HEADER, info);
        if (e)
            return e == ERR_CORRUPT && (!info || !info->text[0]) ? bad_entry(r, pos, info) : e;
        start = off;
        n++;
    }
    if (e != ERR_EOF || n != h->entries)
        return bad_entry(r, pos, info);
    if (f->first_seq == 0) {
        f->first_seq = h->seq;
        f->position = h->position;
    }
    f->last_seq = r->seq = h->seq;
    f->last_crc = r->crc = h->crc;
    f->position_end = h->position + h->records;
    f->frames++;
    f->records += h->records;
    f->used = pos + frame_padded(h->length);
    r->file = f;
    if (f->position_end > r->j->next_position)
        r->j->next_position = f->position_end;
    return ERR_OK;
}

/* A journal file without a right header: rows 11, 15: nothing of this log was ever in it, since its
 * header was durable before its first frame. If the log does go on in it, the header is damaged. */
static enum err header_bad(const struct replay *r, struct scan *s, struct errinfo *info)
{
    struct frame_header h;
    const uint8_t *mem;
    enum err e = scan_frame(s, FILE_HEADER, &h, &mem, info);

    if (e || !mem || h.seq != r->seq + 1 || h.prev_crc != r->crc)
        return e;
    return errinfo_set(info, ERR_CORRUPT,
                       "the header of file %016" PRIx64 ", which has frame %" PRIu64
                       ", is damaged; run `weir repair`",
                       s->id, h.seq);
}

/* Replays the frames of one file that continue the log. *any: there was one. */
static enum err replay_file(struct replay *r, struct jfile *f, bool *any, uint64_t *end,
                            struct errinfo *info)
{
    const uint8_t *mem, *block = NULL;
    struct frame_header h;
    struct scan s;
    uint64_t pos = FILE_HEADER;
    enum err e;

    *any = false;
    scan_init(&s, r->j, f->id);
    e = scan_open(&s, info);
    f->size = s.size;
    if (!e)
        e = scan_at(&s, 0, FILE_HEADER, &block, info);
    if (!e && (!block || !jfile_header_ok(r->j, block, f->id, JFILE_JOURNAL))) {
        e = header_bad(r, &s, info);
        pos = s.size;
    } else if (!e && jfile_header_size(block) > s.size) {
        e = errinfo_set(info, ERR_CORRUPT,
                        "file %016" PRIx64 " was cut: it has %" PRIu64 " of %" PRIu64
                        " bytes; see `weir check`, then `weir repair`",
                        f->id, s.size, jfile_header_size(block));
    }
    while (!e && pos < s.size) {
        e = scan_frame(&s, pos, &h, &mem, info);
        if (e || !mem || h.seq != r->seq + 1 || h.prev_crc != r->crc)
            break;
        e = replay_frame(r, f, pos, &h, mem, info);
        pos += frame_padded(h.length);
        *any = true;
    }
    *end = pos;
    scan_fini(&s);
    return e;
}

/* The log ends at frame r->seq. Is there proof that it went on, behind its end or in a file that
 * does not continue it? (Files that were replayed to their end hold no later frame.) */
static enum err end_check(struct replay *r, struct errinfo *info)
{
    uint64_t proof = 0, id, from;
    struct scan s;
    enum err e = ERR_OK;
    uint32_t i;

    if (r->seq < r->applied_seq)
        proof = r->applied_seq;
    for (i = 0; !e && i < r->d->n && proof <= r->seq; i++) {
        id = r->d->id[i];
        if (r->d->ext[i] != 'l' || id <= r->j->sealed_id)
            continue;
        if (file_find(r->j, id) && (!r->file || r->file->id != id))
            continue;
        from = r->file && r->file->id == id ? r->file->used : FILE_HEADER;
        scan_init(&s, r->j, id);
        e = scan_open(&s, info);
        if (!e)
            e = scan_proof(&s, from, r->seq, &proof, info);
        scan_fini(&s);
    }
    if (e || proof <= r->seq)
        return e;
    return errinfo_set(info, ERR_CORRUPT,
                       "frame %" PRIu64 " is damaged or missing (file %016" PRIx64 ", byte %" PRIu64
                       ") but was durable, as was all up to frame %" PRIu64
                       "; see `weir check`, then `weir repair`",
                       r->seq + 1, r->file ? r->file->id : r->j->sealed_id,
                       r->file ? r->file->used : (uint64_t)FILE_HEADER, proof);
}

/* Row 11: a file without frames of the log is as good as a new one. */
static void unused_file(struct journal *j, struct jfile *f)
{
    char path[512], spare[512];
    uint64_t r;

    if (!j->conf.read_only) {
        jfile_path(j, f->id, JFILE_JOURNAL, false, path, sizeof path);
        io_random(j->io, &r, sizeof r);
        snprintf(spare, sizeof spare, "%s/log/spare-%016" PRIx64, j->dir, r);
        io_rename(j->io, path, spare, NULL);
    }
    jfile_free(&f);
}

static enum err replay(struct replay *r, struct errinfo *info)
{
    struct journal *j = r->j;
    uint64_t end;
    uint32_t i;
    bool any;
    enum err e = ERR_OK;

    for (i = 0; !e && i < r->d->n; i++) {
        struct jfile *f;

        if (r->d->ext[i] != 'l' || r->d->id[i] <= j->sealed_id)
            continue;
        if (r->d->id[i] >= j->next_file_id)
            j->next_file_id = r->d->id[i] + 1;
        f = jfile_new(j, r->d->id[i], JFILE_JOURNAL, 0);
        e = replay_file(r, f, &any, &end, info);
        if (!any) {
            if (e)
                jfile_free(&f);
            else
                j->unused = xrealloc(j->unused, (j->unused_n + 1) * sizeof(struct jfile *)),
                j->unused[j->unused_n++] = f;
            continue;
        }
        atomic_store(&f->state, JFILE_FULL);
        list_push_back(&j->files, &f->link);
        j->full_n++;
    }
    if (!e && r->clean && r->seq == r->applied_seq)
        return ERR_OK; /* closed in order there: no need to look for what may follow */
    return e ? e : end_check(r, info);
}

static enum err folder_sort(struct folder *d)
{
    /* by id, keeping the kinds with them */
    uint32_t i;
    uint64_t(*v)[2] = xmalloc((d->n + 1) * sizeof *v);

    for (i = 0; i < d->n; i++) {
        v[i][0] = d->id[i];
        v[i][1] = (uint64_t)d->ext[i];
    }
    qsort(v, d->n, sizeof *v, id_order);
    for (i = 0; i < d->n; i++) {
        d->id[i] = v[i][0];
        d->ext[i] = (char)v[i][1];
    }
    free(v);
    return ERR_OK;
}

/* The writer goes on after the last good frame. */
static enum err resume(struct replay *r, struct errinfo *info)
{
    struct journal *j = r->j;
    struct jfile *f = r->file;
    enum err e = ERR_OK;
    uint32_t i;

    j->next_seq = r->seq + 1;
    j->written_seq = r->seq;
    j->prev_crc = r->crc;
    atomic_store(&j->durable_seq, r->seq);
    atomic_store(&j->position_end, j->next_position);
    if (f && !j->conf.read_only) {
        e = jfile_open_active(j, f, &j->active_fd, info);
        if (!e)
            e = io_sync(j->active_fd, info); /* frames of durability `os` may not be down yet */
    }
    if (f) {
        atomic_store(&f->state, JFILE_ACTIVE);
        j->full_n--;
        j->active = f;
        j->active_pos = f->used;
    }
    for (i = 0; i < j->unused_n; i++)
        unused_file(j, j->unused[i]);
    free(j->unused);
    j->unused = NULL;
    j->unused_n = 0;
    return e;
}

/* When opening fails. */
static void unused_drop(struct journal *j)
{
    while (j->unused_n)
        jfile_free(&j->unused[--j->unused_n]);
    free(j->unused);
    j->unused = NULL;
}

enum err journal_recover(struct journal *j, struct errinfo *info)
{
    struct checkpoint_meta m;
    struct folder d;
    struct replay r = {.j = j, .d = &d};
    struct plog *p;
    enum err e;

    if ((e = folder_list(j, &d, info)))
        return e;
    e = folder_sort(&d);
    if (!e)
        e = checkpoint_open(j->io, j->dir, j->conf.read_only, &j->ckpt, info);
    if (!e)
        e = checkpoint_load(j, &d, &m, info);
    if (!e) {
        r.applied_seq = m.applied_seq;
        r.seq = j->sealed_seq;
        r.crc = j->sealed_crc;
        r.clean = m.clean;
        e = replay(&r, info);
    }
    if (!e && m.clean && !j->conf.read_only) {
        m.clean = false; /* before anything is written */
        m.next_file_id = j->next_file_id;
        e = meta_save(j, &m, info);
    }
    if (!e && !j->conf.read_only)
        folder_clean(j, &d);
    if (!e)
        e = resume(&r, info);
    if (!e && !j->conf.read_only)
        spare_scan(j);
    if (!e)
        e = lost_apply(j, info);
    if (!e)
        list_for_each(p, &j->plogs, struct plog, link) p->next_offset = p->end_offset;
    if (e)
        unused_drop(j);
    folder_fini(&d);
    return e;
}
