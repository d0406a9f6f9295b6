/* Opening, closing and asking the journal. See journal.h for the contract, journal_int.h for who
 * owns what. */
#include "journal/journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "journal/blocks.h"
#include "journal/checkpoint.h"
#include "journal/journal_int.h"
#include "journal/keep.h"
#include "journal/slab.h"

static void conf_defaults(struct journal_conf *c)
{
    if (!c->file_bytes)
        c->file_bytes = FILE_BYTES_DEFAULT;
    if (!c->tail_bytes)
        c->tail_bytes = TAIL_BYTES_DEFAULT;
    if (!c->cache_bytes)
        c->cache_bytes = CACHE_BYTES_DEFAULT;
    if (!c->inflight_bytes)
        c->inflight_bytes = INFLIGHT_BYTES_DEFAULT;
    if (!c->frame_bytes)
        c->frame_bytes = FRAME_BYTES_DEFAULT;
    if (!c->spare_files)
        c->spare_files = SPARES_DEFAULT;
    if (c->frame_bytes > c->file_bytes / 4)
        c->frame_bytes = (uint32_t)(c->file_bytes / 4) & ~(FRAME_ALIGN - 1);
}

static enum err conf_check(const struct journal_conf *c, struct errinfo *info)
{
    if (c->file_bytes < FILE_BYTES_MIN || c->file_bytes % FRAME_ALIGN ||
        c->file_bytes > (4ull << 30) - FRAME_ALIGN)
        return errinfo_set(info, ERR_CONFIG,
                           "a journal file has 64 KiB to 4 GiB, a multiple of 4 KiB, not %" PRIu64
                           " bytes",
                           c->file_bytes);
    if (strlen(c->dir) > 400)
        return errinfo_set(info, ERR_CONFIG, "the data directory's path is too long (400 bytes)");
    return ERR_OK;
}

static struct journal *journal_new(const struct journal_conf *conf)
{
    struct journal *j = xcalloc(1, sizeof *j);
    unsigned i;

    j->magic = JOURNAL_MAGIC;
    j->conf = *conf;
    j->io = conf->io;
    j->dir = xstrdup(conf->dir);
    j->unit_bytes_max = conf->file_bytes - FILE_HEADER - FRAME_ALIGN;
    if (j->unit_bytes_max > UNIT_BYTES_MAX)
        j->unit_bytes_max = UNIT_BYTES_MAX;
    io_mutex_init(&j->lock);
    io_mutex_init(&j->pool_lock);
    io_mutex_init(&j->role);
    io_mutex_init(&j->tail_lock);
    io_mutex_init(&j->cache_lock);
    io_mutex_init(&j->ckpt_lock);
    io_cond_init(&j->room);
    for (i = 0; i < SHARDS; i++)
        io_mutex_init(&j->shard[i]);
    io_event_init(&j->writer_event);
    io_event_init(&j->copied_event);
    io_event_init(&j->background_event);
    io_event_init(&j->keep_event);
    list_init(&j->closed);
    list_init(&j->pool);
    list_init(&j->files);
    list_init(&j->plogs);
    j->tail_max = j->conf.tail_bytes;
    j->zeros = huge_new(HUGE_BYTES);
    j->blocks = blocks_new(j->io, j->conf.cache_bytes, &j->keep_event);
    return j;
}

static enum err dirs_make(struct journal *j, struct errinfo *info)
{
    char path[512];
    enum err e = ERR_OK;

    snprintf(path, sizeof path, "%s/log", j->dir);
    if (!j->conf.read_only) {
        e = io_mkdir(j->io, j->dir, info);
        if (!e)
            e = io_mkdir(j->io, path, info);
        if (!e)
            e = io_sync_dir(j->io, j->dir, info);
    }
    return e;
}

static enum err dir_lock(struct journal *j, struct errinfo *info)
{
    char path[512];
    long pid = 0;
    enum err e;

    snprintf(path, sizeof path, "%s/lock", j->dir);
    e = io_lock_dir(j->io, path, &j->dir_lock, &pid, info);
    if (e == ERR_LOCKED)
        errinfo_set(info, e, "%s is in use by process %ld; stop it, or use another directory",
                    j->dir, pid);
    return e;
}

static void journal_delete(struct journal *j)
{
    unsigned i;

    tail_clear(j);
    blocks_free(&j->blocks);
    slab_pool_clear(j);
    io_close(&j->active_fd);
    io_close(&j->ready_fd);
    jfile_free(&j->ready);
    while (!list_empty(&j->files)) {
        struct jfile *f = list_entry(list_pop_front(&j->files), struct jfile, link);

        jfile_free(&f);
    }
    for (i = 0; i < j->spares_n; i++)
        free(j->spares[i]);
    checkpoint_close(&j->ckpt);
    io_unlock(&j->dir_lock);
    io_mutex_fini(&j->lock);
    io_mutex_fini(&j->pool_lock);
    io_mutex_fini(&j->role);
    io_mutex_fini(&j->tail_lock);
    io_mutex_fini(&j->cache_lock);
    io_mutex_fini(&j->ckpt_lock);
    io_cond_fini(&j->room);
    for (i = 0; i < SHARDS; i++)
        io_mutex_fini(&j->shard[i]);
    io_event_fini(&j->writer_event);
    io_event_fini(&j->copied_event);
    io_event_fini(&j->background_event);
    io_event_fini(&j->keep_event);
    huge_free((void *)(uintptr_t)j->zeros, HUGE_BYTES);
    free(j->touched);
    free(j->dir);
    j->magic = 0;
    free(j);
}

/* plogs outlive the journal when open fails or at close: they must not point into it. */
static void plogs_detach(struct journal *j)
{
    while (!list_empty(&j->plogs)) {
        struct plog *p = list_entry(list_pop_front(&j->plogs), struct plog, link);

        p->j = NULL;
    }
}

static enum err threads_start(struct journal *j, struct errinfo *info)
{
    enum err e = io_thread_start("weir-writer", IO_PRIO_NORMAL, writer_main, j, &j->writer, info);

    if (!e)
        e = io_thread_start("weir-background", IO_PRIO_BACKGROUND, background_main, j,
                            &j->background, info);
    if (!e)
        e = io_thread_start("weir-keep", IO_PRIO_BACKGROUND, keep_main, j, &j->keeper, info);
    return e;
}

static void threads_stop(struct journal *j)
{
    atomic_store(&j->stop_keep, true);
    io_event_signal(&j->keep_event);
    if (j->keeper)
        io_thread_join(&j->keeper);
    atomic_store(&j->stop_background, true);
    io_event_signal(&j->background_event);
    if (j->background)
        io_thread_join(&j->background);
    compact_stop(j);
    spare_drop(j);
    if (!j->conf.read_only && j->state == JOURNAL_OK && j->recovered) {
        j->closing = true; /* the owner has stopped appending: what is collected now is the end */
        checkpoint_run(j, NULL);
    }
    atomic_store(&j->stop_writer, true);
    io_event_signal(&j->writer_event);
    if (j->writer)
        io_thread_join(&j->writer);
    while (writer_step(j)) /* simulation, or threads that never started */
        ;
}

enum err journal_open(const struct journal_conf *conf, struct journal **out, struct errinfo *info)
{
    struct journal_conf c = *conf;
    struct journal *j;
    enum err e;

    *out = NULL;
    if (info)
        info->text[0] = 0;
    conf_defaults(&c);
    if ((e = conf_check(&c, info)))
        return e;
    j = journal_new(&c);
    *out = j; /* the hooks make plogs of it before this returns */
    e = dirs_make(j, info);
    if (!e)
        e = dir_lock(j, info);
    if (!e) {
        *out = j; /* for hooks->load and apply */
        e = journal_recover(j, info);
    }
    if (!e) {
        j->recovered = true;
        if (j->conf.threads && !j->conf.read_only)
            e = threads_start(j, info);
    }
    if (e) {
        threads_stop(j);
        plogs_detach(j);
        journal_delete(j);
        *out = NULL;
        return e;
    }
    return ERR_OK;
}

void journal_close(struct journal **jp)
{
    struct journal *j = *jp;

    if (!j)
        return;
    ASSERT(j->magic == JOURNAL_MAGIC);
    threads_stop(j);
    plogs_detach(j);
    journal_delete(j);
    *jp = NULL;
}

enum journal_state journal_state_get(struct journal *j, struct errinfo *why)
{
    enum journal_state s;

    io_mutex_lock(&j->lock);
    s = j->state;
    if (why)
        *why = j->why;
    io_mutex_unlock(&j->lock);
    return s;
}

const uint8_t *journal_id(const struct journal *j)
{
    return j->id;
}

uint64_t journal_unit_bytes_max(const struct journal *j)
{
    return j->unit_bytes_max;
}

int64_t journal_wall_ms(const struct journal *j)
{
    return io_wall_ms(j->io);
}

struct io *journal_io(const struct journal *j)
{
    return j->io;
}

uint64_t journal_position_end(struct journal *j)
{
    return atomic_load(&j->position_end);
}

bool journal_step(struct journal *j)
{
    return writer_step(j);
}

bool journal_background(struct journal *j)
{
    return background_step(j);
}

void journal_on_sync(struct journal *j, void (*fn)(void *arg, uint64_t ns, uint64_t bytes),
                     void *arg)
{
    j->on_sync_arg = arg;
    j->on_sync = fn;
}

void journal_stats_get(struct journal *j, struct journal_stats *out)
{
    struct jfile *f;

    memset(out, 0, sizeof *out);
    out->frames = atomic_load(&j->st_frames);
    out->entries = atomic_load(&j->st_entries);
    out->records = atomic_load(&j->st_records);
    out->bytes_used = atomic_load(&j->st_used);
    out->bytes_written = atomic_load(&j->st_written);
    out->sync_ns_last = atomic_load(&j->st_sync_last);
    out->sync_ns_max = atomic_load(&j->st_sync_max);
    out->position_end = atomic_load(&j->position_end);
    out->seq = atomic_load(&j->durable_seq);
    io_mutex_lock(&j->lock);
    list_for_each(f, &j->files, struct jfile, link)
    {
        out->files++;
        out->segments += f->kind == JFILE_SEGMENT;
        out->disk_bytes += f->size;
    }
    out->spare_files = j->spares_n + (j->ready != NULL);
    out->disk_bytes += out->spare_files * j->conf.file_bytes;
    io_mutex_unlock(&j->lock);
    io_mutex_lock(&j->tail_lock);
    out->tail_bytes = j->tail_bytes;
    io_mutex_unlock(&j->tail_lock);
    out->cache_bytes = blocks_bytes(j->blocks);
}
