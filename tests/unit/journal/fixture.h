/* A small host of the journal for its tests: a few partition logs with uids 1.. that the state
 * entry E_LOGS makes, kept in the checkpoint. Runs on any struct io, without threads. */
#ifndef WEIR_TESTS_JOURNAL_FIXTURE_H
#define WEIR_TESTS_JOURNAL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/endian.h"
#include "base/mem.h"
#include "io/sim.h"
#include "journal/batch.h"
#include "journal/journal.h"

#define LOGS       4
#define E_LOGS     ENTRY_BROKER /* no payload: one more log */
#define FILE_BYTES (64u << 10)

struct fx {
    struct io *io;
    const char *dir;
    struct journal *j;
    struct plog *log[LOGS + 1]; /* by uid */
    uint32_t logs, serial, acked, refused;
    enum err last; /* of the last unit answered */
    uint64_t file_bytes, cache_bytes;
    uint32_t frame_bytes;
    bool read_only;
    struct errinfo info;
    struct plog_read r;
};

struct fx_unit {
    struct journal_unit unit; /* first */
    struct journal_entry entry[4];
    uint8_t start[8];
    struct fx *f;
};

static enum err fx_load(void *arg, struct sqlite3 *db, struct errinfo *info)
{
    struct fx *f = arg;
    sqlite3_stmt *st = NULL;

    if (sqlite3_prepare_v2(db, "SELECT start FROM logs ORDER BY uid", -1, &st, NULL) != SQLITE_OK)
        return ERR_OK;
    while (sqlite3_step(st) == SQLITE_ROW) {
        f->logs++;
        f->log[f->logs] = plog_new(f->j, f->logs, sqlite3_column_int64(st, 0), f);
    }
    sqlite3_finalize(st);
    return ERR_OK;
}

static enum err fx_apply(void *arg, uint8_t type, struct slice data, int64_t wall_ms,
                         struct errinfo *info)
{
    struct fx *f = arg;

    f->logs++;
    f->log[f->logs] = plog_new(f->j, f->logs, 0, f);
    return ERR_OK;
}

static struct plog *fx_find(void *arg, uint32_t uid)
{
    return uid <= LOGS ? ((struct fx *)arg)->log[uid] : NULL;
}

static enum err fx_write(void *arg, void *collected, struct sqlite3 *db, struct errinfo *info)
{
    struct fx *f = arg;
    struct plog_info now;
    char sql[200];
    uint32_t i;

    sqlite3_exec(db, "CREATE TABLE IF NOT EXISTS logs(uid INTEGER PRIMARY KEY, start)", NULL, NULL,
                 NULL);
    for (i = 1; i <= f->logs; i++) {
        plog_info_get(f->log[i], &now);
        snprintf(sql, sizeof sql, "INSERT OR REPLACE INTO logs VALUES(%u, %lld)", i,
                 (long long)now.start_offset);
        if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
            return errinfo_set(info, ERR_IO, "%s", sqlite3_errmsg(db));
    }
    return ERR_OK;
}

static const struct journal_hooks fx_hooks = {
    .load = fx_load, .apply = fx_apply, .plog_find = fx_find, .checkpoint_write = fx_write};

static enum err fx_try_open(struct fx *f)
{
    struct journal_conf c = {.dir = f->dir,
                             .io = f->io,
                             .hooks = &fx_hooks,
                             .hooks_arg = f,
                             .read_only = f->read_only,
                             .file_bytes = f->file_bytes,
                             .tail_bytes = 32768,
                             .cache_bytes = f->cache_bytes,
                             .frame_bytes = f->frame_bytes,
                             .spare_files = 1};
    uint32_t i;
    enum err e;

    f->logs = 0;
    memset(f->log, 0, sizeof f->log);
    memset(&f->info, 0, sizeof f->info);
    e = journal_open(&c, &f->j, &f->info);
    for (i = 1; e && i <= LOGS; i++)
        plog_free(&f->log[i]);
    return e;
}

static inline void fx_open(struct fx *f)
{
    enum err e = fx_try_open(f);

    if (e)
        fail_msg("opening: %s: %s", err_code(e), f->info.text);
}

static inline void fx_close(struct fx *f)
{
    uint32_t i;

    plog_read_release(&f->r);
    journal_close(&f->j);
    for (i = 1; i <= LOGS; i++)
        plog_free(&f->log[i]);
}

/* The machine stops now: nothing is written any more. Simulated io only. */
static inline void fx_crash(struct fx *f)
{
    uint64_t size;
    bool there;

    io_sim_crash_at(f->io, 1);
    io_stat(f->io, f->dir, &size, &there, NULL); /* that call: so that no write is half done */
    fx_close(f);
    io_sim_crash(f->io);
}

static void fx_done(struct journal_unit *u, enum err e)
{
    struct fx_unit *t = (struct fx_unit *)u;

    t->f->last = e;
    t->f->acked += e == ERR_OK;
    t->f->refused += e != ERR_OK;
    free(t);
}

static inline struct fx_unit *fx_unit(struct fx *f)
{
    struct fx_unit *t = xcalloc(1, sizeof *t);

    t->f = f;
    t->unit.entries = t->entry;
    t->unit.done = fx_done;
    return t;
}

/* A batch of one record with `bytes` of value that begins with the serial number. */
static inline void fx_batch(struct fx *f, struct fx_unit *t, uint32_t uid, size_t bytes, int64_t ts)
{
    struct journal_entry *e = &t->entry[t->unit.n++];
    uint8_t *value = xcalloc(1, bytes + 4);
    struct batch_builder b;
    struct slice data;

    le32_store(value, ++f->serial);
    batch_builder_init(&b, CODEC_NONE, 1u << 20);
    assert_int_equal(
        batch_builder_add(&b, ts, SLICE_NULL, slice_of(value, bytes + 4), NULL, 0, NULL), ERR_OK);
    assert_int_equal(batch_builder_finish(&b, 0, -1, -1, -1, &data), ERR_OK);
    e->type = ENTRY_BATCH;
    e->plog = f->log[uid];
    e->data = slice_of(xmemdup(data.ptr, data.len), data.len);
    batch_builder_fini(&b);
    free(value);
}

/* Hands the unit over; it is freed when it is answered or refused. */
static inline enum err fx_send(struct fx *f, struct fx_unit *t)
{
    void *data[4];
    unsigned i, n = t->unit.n;
    enum err e;

    for (i = 0; i < n; i++)
        data[i] = t->entry[i].type == ENTRY_BATCH ? (void *)(uintptr_t)t->entry[i].data.ptr : NULL;
    e = journal_append(f->j, &t->unit, JOURNAL_NONBLOCK);
    for (i = 0; i < n; i++)
        free(data[i]);
    if (e)
        free(t);
    return e;
}

static inline void fx_run(struct fx *f)
{
    while (journal_step(f->j))
        ;
}

/* One durable batch (os: not synced). */
static inline enum err fx_put(struct fx *f, uint32_t uid, size_t bytes, bool os)
{
    struct fx_unit *t = fx_unit(f);
    enum err e;

    t->unit.os = os;
    fx_batch(f, t, uid, bytes, io_wall_ms(f->io));
    e = fx_send(f, t);
    if (e)
        return e;
    fx_run(f);
    return f->last;
}

static inline void fx_logs(struct fx *f, uint32_t n)
{
    struct fx_unit *t;

    while (f->logs < n) {
        t = fx_unit(f);
        t->unit.n = 1;
        t->entry[0].type = E_LOGS;
        assert_int_equal(fx_send(f, t), ERR_OK);
        fx_run(f);
        assert_int_equal(f->last, ERR_OK);
        f->logs++;
        f->log[f->logs] = plog_new(f->j, f->logs, 0, f);
    }
}

static inline void fx_trim(struct fx *f, uint32_t uid, int64_t start)
{
    struct fx_unit *t = fx_unit(f);

    t->unit.n = 1;
    t->entry[0].type = ENTRY_LOG_START;
    t->entry[0].plog = f->log[uid];
    le64_store(t->start, (uint64_t)start);
    t->entry[0].data = slice_of(t->start, 8);
    assert_int_equal(fx_send(f, t), ERR_OK);
    fx_run(f);
    assert_int_equal(f->last, ERR_OK);
}

static inline void fx_background(struct fx *f)
{
    int i;

    for (i = 0; i < 200 && journal_background(f->j); i++)
        fx_run(f);
    fx_run(f);
}

/* The serial in the record at this offset; dies if it cannot be read. */
static inline uint32_t fx_serial(struct fx *f, uint32_t uid, int64_t offset)
{
    struct batch_iter it;
    struct record rec;
    struct buf scratch;
    enum err e = plog_read(f->log[uid], offset, 1, &f->r, &f->info);

    if (e)
        fail_msg("reading log %u at %d: %s: %s", uid, (int)offset, err_code(e), f->info.text);
    assert_int_equal(f->r.n, 1);
    assert_int_equal(f->r.batch[0].base_offset, offset);
    buf_init(&scratch, 1u << 20);
    assert_int_equal(batch_iter_init(&it, f->r.batch[0].data, &scratch), ERR_OK);
    assert_int_equal(batch_iter_next(&it, &rec), ERR_OK);
    assert_true(batch_crc_ok(f->r.batch[0].data));
    buf_fini(&scratch);
    return le32_load(rec.value.ptr);
}

static inline int64_t fx_end(struct fx *f, uint32_t uid)
{
    struct plog_info now;

    plog_info_get(f->log[uid], &now);
    return now.end_offset;
}

/* The log holds offsets from..end-1 and nothing else; the record at offset o has serial o + 1. */
static inline void fx_expect(struct fx *f, uint32_t uid, int64_t from, int64_t end)
{
    struct plog_info now;

    plog_info_get(f->log[uid], &now);
    assert_int_equal(now.start_offset, from);
    assert_int_equal(now.end_offset, end);
    for (; from < end; from++)
        assert_int_equal(fx_serial(f, uid, from), from + 1);
}

struct fx_name {
    const char *ext;
    int n, want;
    char path[300];
    const char *dir;
};

static void fx_name_one(void *arg, const char *name)
{
    struct fx_name *s = arg;
    size_t n = strlen(name), k = strlen(s->ext);

    if (n > k && strcmp(name + n - k, s->ext) == 0 && s->n++ == s->want)
        snprintf(s->path, sizeof s->path, "%s/log/%s", s->dir, name);
}

/* Path of file number `want` (by name) with that ending in DIR/log; the count without one. */
static inline int fx_file(struct fx *f, const char *ext, int want, char *path)
{
    struct fx_name s = {.ext = ext, .want = want, .dir = f->dir};

    assert_int_equal(
        io_list(f->io, (snprintf(path, 300, "%s/log", f->dir), path), fx_name_one, &s, NULL),
        ERR_OK);
    snprintf(path, 300, "%s", s.path);
    return s.n;
}

static inline void fx_write_at(struct fx *f, const char *path, uint64_t off, const void *p,
                               size_t n)
{
    struct io_file *fd;

    assert_int_equal(io_open(f->io, path, 0, &fd, NULL), ERR_OK);
    assert_int_equal(io_pwrite(fd, p, n, off, NULL), ERR_OK);
    assert_int_equal(io_sync(fd, NULL), ERR_OK);
    io_close(&fd);
}

static inline size_t fx_read_at(struct fx *f, const char *path, uint64_t off, void *p, size_t n)
{
    struct io_file *fd;
    size_t got;

    assert_int_equal(io_open(f->io, path, IO_RDONLY, &fd, NULL), ERR_OK);
    assert_int_equal(io_pread(fd, p, n, off, &got, NULL), ERR_OK);
    io_close(&fd);
    return got;
}

#endif
