/* Data files: names, headers, descriptors, preparation, recycling.
 *
 *   DIR/log/<16 hex id>.log    journal file: header block, then frames
 *   DIR/log/<16 hex id>.seg    segment: header block, then entries (see frame.h), sorted by plog
 *   DIR/log/<16 hex id>.idx    index of either
 *   DIR/log/spare-<16 hex>     a prepared (zero-written or recycled) file, to become a journal file
 *
 * First block of a data file (4 KiB): "WEIRLOG1", u32 version, u32 kind, u64 log id, u64 file id,
 * u64 size, the log's whole id (16 bytes), zeros, u32 CRC32C of the first 4092 bytes. A file whose
 * block is not right and that comes after the last frame is unused; anywhere else it is damage. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"
#include "journal/blocks.h"
#include "journal/journal_int.h"

#define FORMAT_VERSION  1u
#define DESCRIPTORS_MAX 256u
#define ZERO_CHUNK      (256u << 10)
#define ZERO_FIRST      (1u << 20)  /* of a file that had to be made in a hurry */
#define FILL_FROM       (1u << 20)  /* a log of less needs no spare */
#define FIRST_BYTES     (16u << 20) /* the first file of a log, so that it starts at once */

void jfile_path(const struct journal *j, uint64_t id, enum jfile_kind kind, bool index, char *out,
                size_t cap)
{
    const char *ext = index ? "idx" : kind == JFILE_JOURNAL ? "log" : "seg";

    snprintf(out, cap, "%s/log/%016" PRIx64 ".%s", j->dir, id, ext);
}

static void log_dir(const struct journal *j, char *out, size_t cap)
{
    snprintf(out, cap, "%s/log", j->dir);
}

void jfile_header_make(const struct journal *j, uint64_t id, enum jfile_kind kind, uint64_t size,
                       uint8_t *block)
{
    memset(block, 0, FILE_HEADER);
    memcpy(block, "WEIRLOG1", 8);
    le32_store(block + 8, FORMAT_VERSION);
    le32_store(block + 12, (uint32_t)kind);
    le64_store(block + 16, j->log_id);
    le64_store(block + 24, id);
    le64_store(block + 32, size);
    memcpy(block + 40, j->id, sizeof j->id);
    le32_store(block + FILE_HEADER - 4, crc32c(0, block, FILE_HEADER - 4));
}

bool jfile_header_ok(const struct journal *j, const uint8_t *block, uint64_t id,
                     enum jfile_kind kind)
{
    return memcmp(block, "WEIRLOG1", 8) == 0 &&
           le32_load(block + FILE_HEADER - 4) == crc32c(0, block, FILE_HEADER - 4) &&
           le32_load(block + 8) == FORMAT_VERSION && le32_load(block + 12) == (uint32_t)kind &&
           le64_load(block + 16) == j->log_id && le64_load(block + 24) == id;
}

uint64_t jfile_header_size(const uint8_t *block)
{
    return le64_load(block + 32);
}

struct jfile *jfile_new(struct journal *j, uint64_t id, enum jfile_kind kind, uint64_t size)
{
    struct jfile *f = xcalloc(1, sizeof *f);

    f->j = j;
    f->id = id;
    f->kind = kind;
    f->size = size;
    f->used = FILE_HEADER;
    return f;
}

void jfile_free(struct jfile **fp)
{
    struct jfile *f = *fp;
    uint32_t i;

    if (!f)
        return;
    jfile_close(f);
    for (i = 0; i < f->touched_n; i++)
        plog_unref(f->touched[i]);
    free(f->touched);
    free(f);
    *fp = NULL;
}

/* ---- descriptors for reading ---- */

void jfile_pin(struct jfile *f)
{
    atomic_fetch_add(&f->pins, 1);
}

void jfile_unpin(struct jfile *f)
{
    ASSERT(atomic_fetch_sub(&f->pins, 1) > 0);
}

void jfile_close(struct jfile *f)
{
    io_mutex_lock(&f->j->cache_lock);
    f->j->cache_open -= (f->data != NULL) + (f->index != NULL);
    io_close(&f->data);
    io_close(&f->index);
    io_mutex_unlock(&f->j->cache_lock);
}

static enum err descriptor(struct jfile *f, bool index, struct io_file **slot, struct io_file **out,
                           struct errinfo *info)
{
    char path[512];
    enum err e = ERR_OK;

    ASSERT(atomic_load(&f->pins) > 0);
    io_mutex_lock(&f->j->cache_lock);
    if (!*slot) {
        jfile_path(f->j, f->id, f->kind, index, path, sizeof path);
        e = io_open(f->j->io, path, IO_RDONLY, slot, info);
        if (!e)
            f->j->cache_open++;
    }
    *out = *slot;
    io_mutex_unlock(&f->j->cache_lock);
    if (e == ERR_NOT_FOUND)
        e = errinfo_set(info, ERR_CORRUPT, "%s is missing; run `weir check`", path);
    return e;
}

enum err jfile_data(struct jfile *f, struct io_file **out, struct errinfo *info)
{
    return descriptor(f, false, &f->data, out, info);
}

enum err jfile_index(struct jfile *f, struct io_file **out, struct errinfo *info)
{
    return descriptor(f, true, &f->index, out, info);
}

enum err jfile_index_now(struct jfile *f, struct io_file **out)
{
    ASSERT(atomic_load(&f->pins) > 0);
    io_mutex_lock(&f->j->cache_lock);
    *out = f->index;
    io_mutex_unlock(&f->j->cache_lock);
    return *out ? ERR_OK : ERR_AGAIN;
}

/* Background: closes descriptors of files that nobody is reading, when there are many. A reader
 * pins under a shard lock and opens under the cache lock; a file seen with no pins here can be
 * pinned right after, and then opens again. */
void jfile_cache_trim(struct journal *j)
{
    struct jfile *f;

    if (j->cache_open < DESCRIPTORS_MAX)
        return;
    io_mutex_lock(&j->lock);
    list_for_each(f, &j->files, struct jfile, link)
    {
        io_mutex_lock(&j->cache_lock);
        if (atomic_load(&f->pins) == 0) {
            j->cache_open -= (f->data != NULL) + (f->index != NULL);
            io_close(&f->data);
            io_close(&f->index);
        }
        io_mutex_unlock(&j->cache_lock);
    }
    io_mutex_unlock(&j->lock);
}

void jfile_live(struct jfile *f, int64_t delta)
{
    int64_t now = atomic_fetch_add(&f->live_bytes, delta) + delta;

    ASSERT(now >= 0);
    if (now == 0 && delta < 0 && atomic_load(&f->state) == JFILE_SEALED)
        io_event_signal(&f->j->background_event);
}

/* ---- making journal files ---- */

static enum err zero_fill(struct journal *j, struct io_file *fd, uint64_t from, uint64_t to,
                          struct errinfo *info)
{
    static uint8_t small[ZERO_CHUNK] __attribute__((aligned(FRAME_ALIGN))); /* never written to */
    const uint8_t *zeros = j->zeros ? j->zeros : small;
    enum err e = ERR_OK;

    while (!e && from < to) {
        size_t n = to - from < ZERO_CHUNK ? to - from : ZERO_CHUNK;

        e = io_pwrite(fd, zeros, n, from, info);
        from += n;
    }
    return e;
}

static void spare_push(struct journal *j, const char *path)
{
    io_mutex_lock(&j->lock);
    if (j->spares_n < SPARES_RECYCLED_MAX)
        j->spares[j->spares_n++] = xstrdup(path);
    io_mutex_unlock(&j->lock);
}

static char *spare_pop(struct journal *j)
{
    char *s = NULL;

    io_mutex_lock(&j->lock);
    if (j->spares_n)
        s = j->spares[--j->spares_n];
    io_mutex_unlock(&j->lock);
    return s;
}

static void spare_name(struct journal *j, char *out, size_t cap)
{
    uint64_t r;

    io_random(j->io, &r, sizeof r);
    snprintf(out, cap, "%s/log/spare-%016" PRIx64, j->dir, r);
}

/* Creates a file. zeroed: wholly zero-written (slow), else its room is
 * reserved and only the beginning is. Removes it again when that fails. */
static enum err file_create(struct journal *j, const char *path, uint64_t size, bool zeroed,
                            struct errinfo *info)
{
    struct io_file *fd = NULL;
    enum err e = io_open(j->io, path, IO_CREATE | IO_TRUNC | IO_DIRECT, &fd, info);

    if (e)
        return e;
    e = io_allocate(fd, 0, size, info);
    if (e == ERR_UNSUPPORTED) { /* no fallocate here: writing reserves the room */
        zeroed = true;
        e = ERR_OK;
    }
    if (!e)
        e = zero_fill(j, fd, 0, zeroed || size < ZERO_FIRST ? size : ZERO_FIRST, info);
    if (!e)
        e = io_sync(fd, info);
    io_close(&fd);
    if (e)
        io_unlink(j->io, path, NULL);
    return e;
}

/* ---- preparing spares ----
 *
 * The next spare is written with zeros while the journal is written: in pieces, in step with it. So
 * the disk is asked for steadily, a writer's sync waits for one piece at most, and nothing is
 * prepared for a log that is not written to. A log that is written faster than spares are (see
 * background_main) takes what there is: the rest of such a file is reserved, but not written before,
 * which costs a small write some time, and a large one less than writing everything twice. */

static bool fill_begin(struct journal *j)
{
    struct spare_fill *fi = &j->fill;
    char dir[512];
    uint64_t room = 0;
    enum err e;

    log_dir(j, dir, sizeof dir);
    if (io_free_space(j->io, dir, &room, NULL) || room < 4 * j->conf.file_bytes)
        return false;
    spare_name(j, fi->path, sizeof fi->path);
    if (io_open(j->io, fi->path, IO_CREATE | IO_TRUNC | IO_DIRECT, &fi->fd, NULL))
        return false;
    e = io_allocate(fi->fd, 0, j->conf.file_bytes, NULL);
    fi->whole = e == ERR_UNSUPPORTED;
    if (e && !fi->whole) {
        spare_drop(j);
        return false;
    }
    fi->done = 0;
    fi->began = atomic_load(&j->st_written);
    io_mutex_lock(&j->lock);
    fi->within = j->active ? j->active->size / 2 : 1;
    io_mutex_unlock(&j->lock);
    return true;
}

/* How much of the spare should be there by now. */
static uint64_t fill_goal(const struct journal *j)
{
    uint64_t size = j->conf.file_bytes, since = atomic_load(&j->st_written) - j->fill.began;

    return since >= j->fill.within ? size
                                   : size / FRAME_ALIGN * since / j->fill.within * FRAME_ALIGN;
}

static bool spare_wanted(struct journal *j)
{
    uint64_t from = j->conf.file_bytes / 8 < FILL_FROM ? j->conf.file_bytes / 8 : FILL_FROM;
    bool want;

    if (j->spares_n >= j->conf.spare_files)
        return false;
    io_mutex_lock(&j->lock);
    want = j->active && j->active->used > from;
    io_mutex_unlock(&j->lock);
    return want;
}

bool spare_prepare(struct journal *j)
{
    struct spare_fill *fi = &j->fill;
    uint64_t goal, end;

    if (!fi->fd && (!spare_wanted(j) || !fill_begin(j)))
        return false;
    goal = fill_goal(j);
    if (fi->done >= goal)
        return false;
    end = j->conf.file_bytes - fi->done < ZERO_CHUNK ? j->conf.file_bytes : fi->done + ZERO_CHUNK;
    if (zero_fill(j, fi->fd, fi->done, end, NULL)) {
        spare_drop(j);
        return false;
    }
    fi->done = end;
    if (fi->done == j->conf.file_bytes)
        spare_settle(j);
    return true;
}

void spare_settle(struct journal *j)
{
    struct spare_fill *fi = &j->fill;

    if (!fi->fd)
        return;
    if ((fi->whole && fi->done < j->conf.file_bytes) || io_sync(fi->fd, NULL)) {
        spare_drop(j);
        return;
    }
    io_close(&fi->fd);
    spare_push(j, fi->path);
}

void spare_drop(struct journal *j)
{
    if (!j->fill.fd)
        return;
    io_close(&j->fill.fd);
    io_unlink(j->io, j->fill.path, NULL);
}

static enum err header_put(struct journal *j, const char *path, uint64_t id, uint64_t size,
                           struct io_file **fd, struct errinfo *info)
{
    uint8_t *block = xaligned(FRAME_ALIGN, FILE_HEADER);
    enum err e = io_open(j->io, path, IO_DIRECT | IO_DSYNC, fd, info);

    jfile_header_make(j, id, JFILE_JOURNAL, size, block);
    if (!e)
        e = io_pwrite_durable(*fd, block, FILE_HEADER, 0, info);
    free(block);
    return e;
}

/* The header is durable before the name is, and the name before the first frame: so a named file is
 * either good or has nothing in it. */
enum err jfile_make(struct journal *j, struct jfile **out, struct io_file **fd,
                    struct errinfo *info)
{
    char path[512], made[512], dir[512];
    char *spare = spare_pop(j);
    uint64_t id, size = j->conf.file_bytes;
    bool first; /* quickly made, yet wholly zero-written */
    enum err e = ERR_OK;

    *fd = NULL;
    io_mutex_lock(&j->lock);
    first = !spare && !j->active;
    io_mutex_unlock(&j->lock);
    if (first && size > FIRST_BYTES)
        size = FIRST_BYTES;
    if (spare) {
        snprintf(made, sizeof made, "%s", spare);
        free(spare);
    } else {
        spare_name(j, made, sizeof made);
        e = file_create(j, made, size, first, info);
    }
    io_mutex_lock(&j->lock);
    id = j->next_file_id++;
    io_mutex_unlock(&j->lock);
    jfile_path(j, id, JFILE_JOURNAL, false, path, sizeof path);
    log_dir(j, dir, sizeof dir);
    if (!e)
        e = header_put(j, made, id, size, fd, info);
    if (!e)
        e = io_rename(j->io, made, path, info);
    if (!e)
        e = io_sync_dir(j->io, dir, info);
    if (e) {
        io_close(fd);
        io_unlink(j->io, made, NULL);
        return e;
    }
    *out = jfile_new(j, id, JFILE_JOURNAL, size);
    return ERR_OK;
}

enum err jfile_open_active(struct journal *j, struct jfile *f, struct io_file **fd,
                           struct errinfo *info)
{
    char path[512];

    jfile_path(j, f->id, JFILE_JOURNAL, false, path, sizeof path);
    return io_open(j->io, path, IO_DIRECT | IO_DSYNC, fd, info);
}

/* ---- recycling ---- */

static bool is_spare(const char *name)
{
    return strncmp(name, "spare-", 6) == 0;
}

static void scan_one(void *arg, const char *name)
{
    struct journal *j = arg;
    char path[512];
    uint64_t size = 0;
    bool there = false;

    if (!is_spare(name))
        return;
    snprintf(path, sizeof path, "%s/log/%s", j->dir, name);
    if (io_stat(j->io, path, &size, &there, NULL) || !there)
        return;
    if (size == j->conf.file_bytes && j->spares_n < SPARES_RECYCLED_MAX)
        spare_push(j, path);
    else
        io_unlink(j->io, path, NULL);
}

/* At open: takes over spares of an earlier run. One whose preparation was cut short by a crash is
 * shorter or less zeroed, which costs speed only. */
void spare_scan(struct journal *j)
{
    char dir[512];

    log_dir(j, dir, sizeof dir);
    io_list(j->io, dir, scan_one, j, NULL);
}

static void remove_file(struct journal *j, struct jfile *f)
{
    char path[512], idx[512], spare[512];
    bool keep = f->kind == JFILE_JOURNAL && f->size == j->conf.file_bytes &&
                j->spares_n < SPARES_RECYCLED_MAX;

    jfile_path(j, f->id, f->kind, false, path, sizeof path);
    jfile_path(j, f->id, f->kind, true, idx, sizeof idx);
    spare_name(j, spare, sizeof spare);
    if (keep && io_rename(j->io, path, spare, NULL) == ERR_OK)
        spare_push(j, spare);
    else
        io_unlink(j->io, path, NULL);
    io_unlink(j->io, idx, NULL);
}

/* A journal file that was never used goes back among the spares. Frees f. */
void jfile_to_spare(struct journal *j, struct jfile *f)
{
    remove_file(j, f);
    jfile_free(&f);
}

/* After a crash recovery would replay its frames: it was sealed after the last checkpoint. Journal
 * lock held. */
static bool replayed(const struct jfile *f)
{
    return f->kind == JFILE_JOURNAL && f->id > f->j->saved_sealed_id;
}

/* Background: files that no checkpoint mentions any more, that recovery would not replay and nobody
 * reads become spares. */
bool files_recycle(struct journal *j)
{
    struct jfile *f, *found = NULL;

    io_mutex_lock(&j->lock);
    list_for_each(f, &j->files, struct jfile, link)
    {
        if (atomic_load(&f->state) == JFILE_DEAD && !f->in_checkpoint && !f->maybe_saved &&
            !replayed(f) && atomic_load(&f->pins) == 0) {
            found = f;
            list_remove(&f->link);
            j->dead_n--;
            break;
        }
    }
    io_mutex_unlock(&j->lock);
    if (!found)
        return false;
    jfile_close(found);
    blocks_forget_file(j->blocks, found->id);
    remove_file(j, found);
    jfile_free(&found);
    return true;
}

/* Background: gives back spares beyond what is wanted, one a call. */
bool spare_release(struct journal *j)
{
    char *s;

    if (j->spares_n <= j->conf.spare_files)
        return false;
    s = spare_pop(j);
    if (s)
        io_unlink(j->io, s, NULL);
    free(s);
    return s != NULL;
}
