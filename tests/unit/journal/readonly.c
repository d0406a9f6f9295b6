/* Read-only after a crash: the log opens whatever the crash left, shows what a writer would then
 * find, and changes no byte. The crash is put at every single call to the disk that a checkpoint
 * makes, the first one, which makes the database, and a later one, which changes it. */
#include "fixture.h"

#include "base/crc32c.h"

#define BIG 20000

struct sum {
    struct io *io;
    uint32_t crc;
};

static void sum_one(void *arg, const char *path, uint64_t size)
{
    struct sum *s = arg;
    uint8_t *mem = xmalloc(size + 1);
    struct io_file *f;
    size_t got = 0;

    assert_int_equal(io_open(s->io, path, IO_RDONLY, &f, NULL), ERR_OK);
    assert_int_equal(io_pread(f, mem, size, 0, &got, NULL), ERR_OK);
    io_close(&f);
    s->crc = crc32c(s->crc, path, strlen(path));
    s->crc = crc32c(s->crc, &size, sizeof size);
    s->crc = crc32c(s->crc, mem, got);
    free(mem);
}

static uint32_t disk_sum(struct fx *f)
{
    struct sum s = {.io = f->io};

    io_sim_each(f->io, sum_one, &s);
    return s.crc;
}

static bool half_done(struct fx *f)
{
    uint64_t size = 0;
    bool there = false;

    assert_int_equal(io_stat(f->io, "/d/checkpoint.db-journal", &size, &there, NULL), ERR_OK);
    return there && size > 0;
}

/* All that the log shows. */
struct view {
    enum err e;
    uint64_t position;
    uint32_t logs, serial[LOGS + 1][64];
    int64_t start[LOGS + 1], end[LOGS + 1];
};

static void view_take(struct fx *f, bool read_only, struct view *v)
{
    struct plog_info now;
    uint32_t i;
    int64_t at;

    memset(v, 0, sizeof *v);
    f->read_only = read_only;
    v->e = fx_try_open(f);
    f->read_only = false;
    if (v->e)
        return;
    v->position = journal_position_end(f->j);
    v->logs = f->logs;
    for (i = 1; i <= f->logs; i++) {
        plog_info_get(f->log[i], &now);
        v->start[i] = now.start_offset;
        v->end[i] = now.end_offset;
        for (at = now.start_offset; at < now.end_offset; at++)
            v->serial[i][at] = fx_serial(f, i, at);
    }
    fx_close(f);
}

static void same_view(struct fx *f, uint64_t at)
{
    struct journal_check_result found;
    struct view before, after;
    uint32_t sum = disk_sum(f);

    view_take(f, true, &before);
    if (before.e)
        fail_msg("read-only, crash at %d: %s: %s", (int)at, err_code(before.e), f->info.text);
    assert_int_equal(disk_sum(f), sum);
    assert_int_equal(journal_check(f->io, f->dir, NULL, NULL, &found, &f->info), ERR_OK);
    assert_int_equal(found.problems, 0);
    assert_int_equal(disk_sum(f), sum);
    view_take(f, false, &after);
    assert_memory_equal(&before, &after, sizeof after);
}

/* A log with files to seal, so that the checkpoint has something to write in several tables. */
static void work(struct fx *f, int n)
{
    while (n-- > 0)
        assert_int_equal(fx_put(f, 1 + (uint32_t)n % 2, BIG, false), ERR_OK);
}

static void every_call(uint64_t seed, bool first, unsigned *half)
{
    struct fx f = {.dir = "/d", .file_bytes = FILE_BYTES};
    uint64_t at, max = 10000;

    for (at = 1; at < max; at++) {
        f.io = io_sim_new(seed * 1000 + at);
        f.acked = f.serial = 0;
        fx_open(&f);
        fx_logs(&f, 2);
        work(&f, 6);
        if (!first)
            fx_background(&f);
        work(&f, 5);
        io_sim_crash_at(f.io, at);
        journal_checkpoint(f.j, NULL);
        if (io_sim_crashed(f.io)) {
            fx_close(&f);
            io_sim_crash(f.io);
        } else {
            max = 0; /* it makes fewer calls than that */
            fx_crash(&f);
        }
        *half += half_done(&f);
        same_view(&f, at);
        io_sim_free(&f.io);
    }
    assert_true(at > 15); /* so many calls it makes, and crashed at each of them */
}

static void crash_anywhere(void **state)
{
    unsigned half = 0;
    uint64_t seed;

    for (seed = 1; seed <= 5; seed++) {
        every_call(seed, true, &half);
        every_call(seed, false, &half);
    }
    assert_true(half > 50); /* rollbacks were really needed */
}

static void no_log(void **state)
{
    struct fx f = {.dir = "/d", .file_bytes = FILE_BYTES, .read_only = true};
    uint32_t sum;

    f.io = io_sim_new(1);
    assert_int_equal(io_mkdir(f.io, "/d", NULL), ERR_OK);
    assert_int_equal(io_mkdir(f.io, "/d/log", NULL), ERR_OK);
    sum = disk_sum(&f);
    assert_int_equal(fx_try_open(&f), ERR_NOT_FOUND);
    assert_non_null(strstr(f.info.text, "has no log"));
    assert_int_equal(disk_sum(&f), sum);
    io_sim_free(&f.io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash_anywhere),
        cmocka_unit_test(no_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
