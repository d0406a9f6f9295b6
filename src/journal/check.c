/* Checking a data directory, offline: reads everything and changes nothing. The checkpoint
 * (SQLite's integrity check), every frame of every journal file with its entries and batches, every
 * index (header, directory, entries) against its data file, the chain of frames across files.
 * Mending is repair.c. Single-threaded; takes the directory lock. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"
#include "journal/batch.h"
#include "journal/check_int.h"

void check_say(struct check *c, bool problem, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (problem)
        c->out->problems++;
    if (c->fn)
        c->fn(c->arg, problem, text);
}

void check_init(struct check *c, struct io *io, const char *dir, report_fn fn, void *arg,
                struct journal_check_result *out)
{
    memset(c, 0, sizeof *c);
    memset(out, 0, sizeof *out);
    c->j.magic = JOURNAL_MAGIC;
    c->j.io = io;
    c->j.dir = xstrdup(dir);
    list_init(&c->j.files);
    io_mutex_init(&c->j.lock);
    io_mutex_init(&c->j.cache_lock);
    c->fn = fn;
    c->arg = arg;
    c->out = out;
}

void check_fini(struct check *c)
{
    io_unlock(&c->j.dir_lock);
    io_mutex_fini(&c->j.lock);
    io_mutex_fini(&c->j.cache_lock);
    free(c->sealed);
    free(c->j.dir);
}

enum err check_lock(struct check *c, struct errinfo *info)
{
    char path[512];
    long pid = 0;
    enum err e;

    snprintf(path, sizeof path, "%s/lock", c->j.dir);
    e = io_lock_dir(c->j.io, path, &c->j.dir_lock, &pid, info);
    if (e == ERR_LOCKED)
        errinfo_set(info, e, "%s is in use by process %ld; stop it first", c->j.dir, pid);
    return e;
}

static enum err keep_file(void *arg, const struct checkpoint_file *f, struct errinfo *info)
{
    struct check *c = arg;

    if (c->sealed_n == c->sealed_cap) {
        c->sealed_cap = c->sealed_cap ? c->sealed_cap * 2 : 64;
        c->sealed = xrealloc(c->sealed, c->sealed_cap * sizeof *c->sealed);
    }
    c->sealed[c->sealed_n++] = *f;
    return ERR_OK;
}

static void meta_take(struct check *c)
{
    memcpy(c->j.id, c->meta.log_id, 16);
    c->j.log_id = le64_load(c->j.id);
    c->j.sealed_id = c->meta.sealed_id;
    c->j.sealed_seq = c->meta.sealed_seq;
    c->j.sealed_crc = c->meta.sealed_crc;
}

/* Reads the checkpoint; a problem is reported, not returned. False: it cannot be used. */
bool check_checkpoint(struct check *c)
{
    struct checkpoint *ck = NULL;
    struct errinfo why = {0};
    enum err e = checkpoint_open(c->j.io, c->j.dir, true, &ck, &why);

    if (!e)
        e = checkpoint_verify(ck, &why);
    if (!e)
        e = checkpoint_meta_load(ck, &c->meta, &why);
    if (!e && !c->meta.found)
        e = errinfo_set(&why, ERR_CORRUPT, "%s/checkpoint.db is empty", c->j.dir);
    if (!e)
        e = checkpoint_files_load(ck, keep_file, c, &why);
    checkpoint_close(&ck);
    if (e)
        check_say(c, true, "%s", why.text);
    else
        meta_take(c);
    return e == ERR_OK;
}

/* ---- journal files ---- */

static void check_entries(struct check *c, uint64_t id, uint64_t pos, const struct frame_header *h,
                          const uint8_t *frame)
{
    struct entry_header eh;
    struct slice data;
    struct batch_info bi;
    uint32_t off = FRAME_HEADER, n = 0;
    enum err e;

    while ((e = frame_entry_next(frame, h->length, &off, &eh, &data)) == ERR_OK) {
        n++;
        if (eh.type != ENTRY_BATCH)
            continue;
        if (batch_parse(data, &bi) || bi.length != data.len || !batch_crc_ok(data) ||
            !batch_producer_ok(&bi))
            check_say(c, true,
                      "file %016" PRIx64 ".log, frame %" PRIu64 " at byte %" PRIu64
                      ": a batch of partition log %u is damaged",
                      id, h->seq, pos, eh.uid);
        c->out->batches++;
        c->out->records += eh.records;
    }
    if (e != ERR_EOF || n != h->entries)
        check_say(c, true,
                  "file %016" PRIx64 ".log, frame %" PRIu64 " at byte %" PRIu64
                  ": its entries do not fit",
                  id, h->seq, pos);
}

struct chain {
    uint64_t seq;
    uint32_t crc;
    bool started;
};

/* Walks the frames of a journal file from its beginning. Stops at the first that does not continue
 * the chain; *end is where. */
static enum err check_frames(struct check *c, struct scan *s, struct chain *ch, uint64_t *end,
                             struct errinfo *info)
{
    uint64_t pos = FILE_HEADER;
    struct frame_header h;
    const uint8_t *frame;
    enum err e = ERR_OK;

    while (pos < s->size) {
        e = scan_frame(s, pos, &h, &frame, info);
        if (e || !frame)
            break;
        if (ch->started && (h.seq != ch->seq + 1 || h.prev_crc != ch->crc))
            break;
        ch->started = true;
        ch->seq = h.seq;
        ch->crc = h.crc;
        check_entries(c, s->id, pos, &h, frame);
        c->out->frames++;
        c->out->bytes += h.length;
        pos += frame_padded(h.length);
    }
    *end = pos;
    return e;
}

bool check_short(struct check *c, struct scan *s, uint64_t *size)
{
    uint8_t *block = xcalloc(1, FILE_HEADER);
    size_t got = 0;
    bool cut = !io_pread(s->fd, block, FILE_HEADER, 0, &got, NULL) && got == FILE_HEADER &&
               jfile_header_ok(&c->j, block, s->id, JFILE_JOURNAL) &&
               jfile_header_size(block) > s->size;

    *size = cut ? jfile_header_size(block) : 0;
    free(block);
    return cut;
}

static void check_size(struct check *c, struct scan *s)
{
    uint64_t size;

    if (check_short(c, s, &size))
        check_say(c, true,
                  "journal file %016" PRIx64 " was cut: it has %" PRIu64 " of %" PRIu64 " bytes",
                  s->id, s->size, size);
}

static enum err check_log_file(struct check *c, uint64_t id, struct chain *ch, uint64_t *end,
                               struct errinfo *info)
{
    struct scan s;
    enum err e;

    scan_init(&s, &c->j, id);
    e = scan_open(&s, info);
    if (!e)
        check_size(c, &s);
    if (!e)
        e = check_frames(c, &s, ch, end, info);
    scan_fini(&s);
    c->out->files++;
    return e;
}

/* ---- sealed files ---- */

struct row_check {
    struct check *c;
    struct io_file *data, *index;
    struct jfile *f;
    uint64_t bad;
    enum err e;
};

static void check_ref(struct row_check *rc, const struct batch_ref *b, uint32_t uid, uint8_t **buf,
                      size_t *cap)
{
    size_t got = 0;

    if (b->len > UNIT_BYTES_MAX) {
        rc->bad++;
        return;
    }
    if (b->len > *cap) {
        free(*buf);
        *buf = xmalloc(b->len);
        *cap = b->len;
    }
    rc->e = io_pread(rc->data, *buf, b->len, b->file_pos, &got, NULL);
    if (rc->e || got < b->len || !batch_matches(*buf, b)) {
        rc->bad++;
        check_say(rc->c, true,
                  "file %016" PRIx64 ", byte %u: the batch of partition log %u at offset %" PRId64
                  " is damaged",
                  rc->f->id, b->file_pos, uid, b->base_offset);
    }
    rc->c->out->batches++;
    rc->c->out->records += b->count;
    rc->c->out->bytes += b->len;
}

static void check_row(void *arg, struct jfile *f, const struct index_row *r)
{
    struct row_check *rc = arg;
    size_t n = (size_t)r->count * REF_BYTES, got = 0, cap = 0;
    uint8_t *raw = xmalloc(n), *buf = NULL;
    struct batch_ref b;
    uint32_t i;

    rc->e = io_pread(rc->index, raw, n, index_entry_at(f, r->first_entry), &got, NULL);
    if (rc->e || got < n || crc32c(0, raw, n) != r->entries_crc) {
        rc->bad++;
        check_say(rc->c, true,
                  "index of file %016" PRIx64 ": the entries of partition log %u are damaged",
                  f->id, r->uid);
    }
    for (i = 0; i < got / REF_BYTES; i++) {
        batch_ref_read(raw + (size_t)i * REF_BYTES, &b);
        if (batch_ref_ok(&b))
            check_ref(rc, &b, r->uid, &buf, &cap);
    }
    free(raw);
    free(buf);
}

/* Index and batches of one sealed file. Returns how many problems it has. */
uint64_t check_sealed(struct check *c, const struct checkpoint_file *cf)
{
    struct jfile *f = jfile_new(&c->j, cf->id, (enum jfile_kind)cf->kind, cf->size);
    struct row_check rc = {.c = c, .f = f};
    struct errinfo why = {0};
    uint64_t size = 0;
    enum err e;

    jfile_pin(f);
    e = jfile_data(f, &rc.data, &why);
    if (!e)
        e = io_size(rc.data, &size, &why);
    if (!e && size < cf->used) {
        rc.bad++;
        check_say(c, true, "file %016" PRIx64 " is shorter than it was", cf->id);
    }
    if (!e)
        e = jfile_index(f, &rc.index, &why);
    if (!e)
        e = index_load(f, check_row, &rc, &why);
    if (e) {
        rc.bad++;
        check_say(c, true, "%s", why.text);
    }
    c->out->files++;
    jfile_unpin(f);
    jfile_free(&f);
    return rc.bad;
}

/* ---- the whole ---- */

static int id_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Ids of the journal files that recovery would replay, ascending. */
enum err check_replayed(struct check *c, uint64_t **ids, uint32_t *n, struct errinfo *info)
{
    struct folder d;
    uint32_t i;
    enum err e = folder_list(&c->j, &d, info);

    *n = 0;
    *ids = xmalloc((d.n + 1) * sizeof **ids);
    for (i = 0; !e && i < d.n; i++)
        if (d.ext[i] == 'l' && d.id[i] > c->j.sealed_id)
            (*ids)[(*n)++] = d.id[i];
    qsort(*ids, *n, sizeof **ids, id_order);
    folder_fini(&d);
    return e;
}

/* Is there a valid frame later than the chain that proves more was durable? */
static bool later_proof(struct check *c, const uint64_t *ids, uint32_t n, uint64_t seq,
                        uint64_t *proof)
{
    struct frame_header h;
    const uint8_t *frame;
    struct scan s;
    uint64_t pos;
    uint32_t i;

    *proof = seq < c->meta.applied_seq ? c->meta.applied_seq : 0;
    for (i = 0; i < n; i++) {
        scan_init(&s, &c->j, ids[i]);
        if (!scan_open(&s, NULL))
            for (pos = FILE_HEADER; pos < s.size; pos += FRAME_ALIGN)
                if (!scan_frame(&s, pos, &h, &frame, NULL) && frame && h.seq > seq &&
                    h.durable_seq > *proof)
                    *proof = h.durable_seq;
        scan_fini(&s);
    }
    return *proof > seq;
}

enum err journal_check(struct io *io, const char *dir, report_fn fn, void *arg,
                       struct journal_check_result *out, struct errinfo *info)
{
    struct check c;
    uint64_t *ids = NULL, end = 0, proof;
    struct chain ch = {0};
    uint32_t n = 0, i;
    enum err e;

    check_init(&c, io, dir, fn, arg, out);
    if ((e = check_lock(&c, info)))
        goto out;
    check_say(&c, false, "checkpoint");
    if (!check_checkpoint(&c))
        goto out;
    for (i = 0; i < c.sealed_n; i++) {
        check_say(&c, false, "file %u of %u: %016" PRIx64, i + 1, c.sealed_n, c.sealed[i].id);
        check_sealed(&c, &c.sealed[i]);
        if (c.sealed[i].kind == JFILE_JOURNAL) {
            struct chain own = {0};

            struct journal_check_result seen = *out;

            e = check_log_file(&c, c.sealed[i].id, &own, &end, info);
            seen.problems = out->problems;
            seen.frames = out->frames;
            *out = seen; /* its batches were counted by the index */
            if (!e && (own.seq < c.sealed[i].last_seq))
                check_say(&c, true,
                          "file %016" PRIx64 ".log: a frame at byte %" PRIu64 " is damaged",
                          c.sealed[i].id, end);
        }
    }
    e = check_replayed(&c, &ids, &n, info);
    ch = (struct chain){c.j.sealed_seq, c.j.sealed_crc, true};
    for (i = 0; !e && i < n; i++) {
        check_say(&c, false, "journal file %016" PRIx64, ids[i]);
        e = check_log_file(&c, ids[i], &ch, &end, info);
    }
    if (!e && later_proof(&c, ids, n, ch.seq, &proof))
        check_say(&c, true,
                  "frame %" PRIu64 " is damaged or missing; frames up to %" PRIu64 " were durable",
                  ch.seq + 1, proof);
out:
    free(ids);
    check_fini(&c);
    return e;
}
