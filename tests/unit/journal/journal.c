/* The contract of journal.h, on the real disk (a new folder under /tmp) and on the simulated one.
 */
#include <unistd.h>

#include "fixture.h"
#include "io/io_int.h"

#define BIG 20000

static bool simulated;

static void start(struct fx *f)
{
    static char dir[64];

    memset(f, 0, sizeof *f);
    f->file_bytes = FILE_BYTES;
    if (simulated) {
        f->dir = "/d";
        f->io = io_sim_new(3);
    } else {
        snprintf(dir, sizeof dir, "/tmp/weir-journal-XXXXXX");
        assert_non_null(mkdtemp(dir));
        f->dir = dir;
        f->io = io_real();
    }
    fx_open(f);
    fx_logs(f, 2);
}

struct sweep {
    struct fx *f;
    const char *sub;
};

static void sweep_one(void *arg, const char *name)
{
    struct sweep *s = arg;
    char path[400];

    snprintf(path, sizeof path, "%s%s/%s", s->f->dir, s->sub, name);
    io_unlink(s->f->io, path, NULL);
}

static void end(struct fx *f)
{
    struct sweep s = {f, "/log"};
    char path[400];

    if (f->j)
        fx_close(f);
    if (simulated) {
        io_sim_free(&f->io);
        return;
    }
    snprintf(path, sizeof path, "%s/log", f->dir);
    io_list(f->io, path, sweep_one, &s, NULL);
    assert_int_equal(rmdir(path), 0);
    s.sub = "";
    io_list(f->io, f->dir, sweep_one, &s, NULL);
    assert_int_equal(rmdir(f->dir), 0);
}

static void put_n(struct fx *f, uint32_t uid, int n, size_t bytes)
{
    while (n-- > 0)
        assert_int_equal(fx_put(f, uid, bytes, false), ERR_OK);
}

/* Nothing is answered or seen before it is written; positions run over all logs. */
static void appends(void **state)
{
    struct fx f;
    struct fx_unit *t;
    uint64_t position;

    start(&f);
    position = journal_position_end(f.j);
    t = fx_unit(&f);
    fx_batch(&f, t, 1, 100, 5);
    assert_int_equal(fx_send(&f, t), ERR_OK);
    assert_int_equal(f.acked, 2); /* the two that made logs */
    assert_int_equal(fx_end(&f, 1), 0);
    assert_int_equal(journal_position_end(f.j), position);
    assert_true(journal_inflight(f.j) > 0);
    fx_run(&f);
    assert_int_equal(f.acked, 3);
    assert_int_equal(journal_inflight(f.j), 0);
    fx_expect(&f, 1, 0, 1);
    assert_int_equal(journal_position_end(f.j), position + 1);
    put_n(&f, 2, 1, 100);
    assert_int_equal(plog_read(f.log[2], 0, 1, &f.r, NULL), ERR_OK);
    assert_int_equal(f.r.batch[0].position, position + 1);
    assert_int_equal(plog_read(f.log[2], 1, 1, &f.r, NULL), ERR_OK);
    assert_int_equal(f.r.n, 0); /* the end */
    assert_int_equal(plog_read(f.log[2], 2, 1, &f.r, NULL), ERR_OFFSET_RANGE);
    assert_int_equal(f.r.end_offset, 1);
    end(&f);
}

static enum err refuse(struct journal_unit *u)
{
    return ERR_CONFLICT;
}

static enum err skip_second(struct journal_unit *u)
{
    u->entries[1].skip = true;
    return ERR_OK;
}

static void units(void **state)
{
    struct fx f;
    struct fx_unit *t;

    start(&f);
    t = fx_unit(&f);
    fx_batch(&f, t, 1, 10, 1);
    t->unit.sequence = refuse;
    assert_int_equal(fx_send(&f, t), ERR_CONFLICT);
    fx_run(&f);
    assert_int_equal(f.acked + f.refused, 2); /* done() was not called for it */
    assert_int_equal(fx_end(&f, 1), 0);
    t = fx_unit(&f);
    fx_batch(&f, t, 1, 10, 1);
    fx_batch(&f, t, 1, 10, 1);
    fx_batch(&f, t, 2, 10, 1);
    t->unit.sequence = skip_second;
    assert_int_equal(fx_send(&f, t), ERR_OK);
    fx_run(&f);
    assert_int_equal(fx_end(&f, 1), 1);
    assert_int_equal(fx_end(&f, 2), 1);
    assert_int_equal(fx_serial(&f, 1, 0), 2);
    assert_int_equal(fx_serial(&f, 2, 0), 4);
    t = fx_unit(&f);
    fx_batch(&f, t, 1, FILE_BYTES, 1);
    assert_int_equal(fx_send(&f, t), ERR_TOO_LARGE);
    end(&f);
}

static void group_commit(void **state)
{
    struct journal_stats before, after;
    struct fx_unit *t;
    struct fx f;
    int i;

    start(&f);
    journal_stats_get(f.j, &before);
    for (i = 0; i < 50; i++) {
        t = fx_unit(&f);
        fx_batch(&f, t, 1, 10, 1);
        assert_int_equal(fx_send(&f, t), ERR_OK);
    }
    assert_true(journal_step(f.j));
    assert_false(journal_step(f.j));
    journal_stats_get(f.j, &after);
    assert_int_equal(after.frames, before.frames + 1);
    assert_int_equal(after.records, before.records + 50);
    assert_int_equal(f.acked, 52);
    fx_expect(&f, 1, 0, 50);
    end(&f);
}

/* The same batches from memory, from a file without an index, by the index, and after reopening. */
static void reading(void **state)
{
    struct fx f;

    start(&f);
    put_n(&f, 1, 1, BIG);
    fx_expect(&f, 1, 0, 1); /* tail */
    put_n(&f, 1, 8, BIG);
    fx_expect(&f, 1, 0, 9); /* the first ones have left memory */
    fx_background(&f);
    fx_expect(&f, 1, 0, 9); /* sealed */
    assert_int_equal(plog_read(f.log[1], 0, 1u << 20, &f.r, NULL), ERR_OK);
    assert_true(f.r.n >= 2);
    assert_int_equal(f.r.batch[1].base_offset, 1);
    fx_close(&f);
    fx_open(&f);
    fx_expect(&f, 1, 0, 9);
    end(&f);
}

/* Memory only: what has left it is refused, before and after its file is sealed; the newest is not. */
static void reading_memory(void **state)
{
    struct fx f;
    const uint8_t *kept;

    start(&f);
    put_n(&f, 1, 9, BIG);
    f.r.memory_only = true;
    assert_int_equal(plog_read(f.log[1], 0, 1u << 20, &f.r, NULL), ERR_AGAIN);
    assert_int_equal(f.r.n, 0);
    assert_int_equal(plog_read(f.log[1], 8, 1u << 20, &f.r, NULL), ERR_OK);
    assert_int_equal(f.r.n, 1);
    assert_int_equal(plog_read(f.log[1], 9, 1u << 20, &f.r, NULL), ERR_OK);
    assert_int_equal(f.r.n, 0);
    assert_null(f.r.buf);
    fx_background(&f);
    assert_int_equal(plog_read(f.log[1], 0, 1u << 20, &f.r, NULL), ERR_AGAIN);
    f.r.memory_only = false;
    assert_int_equal(plog_read(f.log[1], 0, 1u << 20, &f.r, NULL), ERR_OK);
    assert_true(f.r.n >= 2);
    kept = f.r.buf;
    plog_read_recycle(&f.r, f.r.buf_cap);
    assert_int_equal(f.r.n, 0);
    assert_int_equal(plog_read(f.log[1], 0, 1u << 20, &f.r, NULL), ERR_OK);
    assert_ptr_equal(f.r.buf, kept);
    plog_read_recycle(&f.r, f.r.buf_cap - 1);
    assert_null(f.r.buf);
    end(&f);
}

static void seeking(void **state)
{
    int64_t ts[] = {100, 300, 200, 400, 500, 450, 600, 700}, at;
    struct fx_unit *t;
    uint64_t position[8];
    struct fx f;
    unsigned i;

    start(&f);
    for (i = 0; i < 8; i++) {
        t = fx_unit(&f);
        fx_batch(&f, t, 1, BIG, ts[i]);
        position[i] = journal_position_end(f.j);
        assert_int_equal(fx_send(&f, t), ERR_OK);
        fx_run(&f);
        put_n(&f, 2, 1, 10);
        if (i == 4)
            fx_background(&f);
    }
    for (i = 0; i < 8; i++) {
        assert_int_equal(plog_seek_position(f.log[1], position[i], &at, NULL), ERR_OK);
        assert_int_equal(at, i);
    }
    assert_int_equal(plog_seek_position(f.log[1], position[7] + 1, &at, NULL), ERR_OK);
    assert_int_equal(at, 8);
    assert_int_equal(plog_seek_time(f.log[1], 150, &at, NULL), ERR_OK);
    assert_int_equal(at, 1);
    assert_int_equal(plog_seek_time(f.log[1], 450, &at, NULL), ERR_OK);
    assert_int_equal(at, 4);
    assert_int_equal(plog_seek_time(f.log[1], 701, &at, NULL), ERR_OK);
    assert_int_equal(at, 8);
    fx_trim(&f, 1, 2); /* the batch of 300 is not wanted; its file is, or was */
    assert_int_equal(plog_seek_time(f.log[1], 250, &at, NULL), ERR_OK);
    assert_int_equal(at, 3);
    assert_int_equal(plog_seek_time(f.log[1], 0, &at, NULL), ERR_OK);
    assert_int_equal(at, 2);
    end(&f);
}

static void retention(void **state)
{
    struct plog_info now;
    struct fx_unit *t;
    struct fx f;
    int i;

    start(&f);
    for (i = 0; i < 6; i++) {
        t = fx_unit(&f);
        fx_batch(&f, t, 1, 1000, 100 * i);
        assert_int_equal(fx_send(&f, t), ERR_OK);
        fx_run(&f);
    }
    plog_info_get(f.log[1], &now);
    assert_int_equal(plog_retention_offset(f.log[1], -1, UINT64_MAX, 0), 0);
    assert_int_equal(plog_retention_offset(f.log[1], 300, UINT64_MAX, 0), 3);
    assert_int_equal(plog_retention_offset(f.log[1], 300, UINT64_MAX, 5), 1);
    assert_int_equal(plog_retention_offset(f.log[1], -1, now.bytes / 2, 0), 3);
    assert_int_equal(plog_retention_offset(f.log[1], 10000, UINT64_MAX, 0), 6);
    fx_trim(&f, 1, 3);
    fx_expect(&f, 1, 3, 6);
    assert_int_equal(plog_read(f.log[1], 2, 1, &f.r, NULL), ERR_OFFSET_RANGE);
    assert_int_equal(f.r.start_offset, 3);
    fx_close(&f);
    fx_open(&f);
    fx_expect(&f, 1, 3, 6);
    end(&f);
}

/* What was trimmed or deleted gives its files back; they are used again. */
static void recycling(void **state)
{
    struct journal_stats s;
    char path[300];
    struct fx f;
    int i;

    start(&f);
    for (i = 0; i < 40; i++) {
        put_n(&f, 1, 1, BIG);
        if (i > 2)
            fx_trim(&f, 1, i - 2);
        fx_background(&f);
    }
    journal_stats_get(f.j, &s);
    assert_in_range(s.files, 1, 6);
    assert_in_range(s.disk_bytes, FILE_BYTES, 10 * FILE_BYTES);
    assert_int_equal(fx_file(&f, ".tmp", 0, path), 0);
    fx_expect(&f, 1, 37, 40);
    plog_delete(f.log[1]);
    assert_int_equal(plog_read(f.log[1], 38, 1, &f.r, NULL), ERR_TOPIC_NOT_FOUND);
    end(&f);
}

static void rewriting(void **state)
{
    struct journal_stats s;
    struct fx f;
    int i;

    start(&f);
    for (i = 0; i < 10; i++) { /* each file: much of log 1, little of log 2 */
        put_n(&f, 1, 2, BIG);
        f.serial = (uint32_t)i;
        put_n(&f, 2, 1, 100);
    }
    fx_background(&f);
    fx_trim(&f, 1, 20);
    fx_background(&f);
    journal_stats_get(f.j, &s);
    assert_true(s.segments >= 1);
    assert_in_range(s.files, 1, 4);
    fx_expect(&f, 2, 0, 10);
    fx_close(&f);
    fx_open(&f);
    fx_expect(&f, 2, 0, 10);
    assert_int_equal(fx_end(&f, 1), 20);
    end(&f);
}

static void read_only(void **state)
{
    struct fx f;
    struct fx_unit *t;

    start(&f);
    put_n(&f, 1, 5, BIG);
    fx_close(&f);
    f.read_only = true;
    fx_open(&f);
    fx_expect(&f, 1, 0, 5);
    t = fx_unit(&f);
    fx_batch(&f, t, 1, 10, 1);
    assert_int_equal(fx_send(&f, t), ERR_READ_ONLY);
    assert_int_equal(journal_checkpoint(f.j, NULL), ERR_READ_ONLY);
    end(&f);
}

static void second_open(void **state)
{
    struct journal_conf c = {.hooks = &fx_hooks, .file_bytes = FILE_BYTES};
    struct errinfo info;
    struct journal *j;
    struct fx f, g;

    start(&f);
    memset(&g, 0, sizeof g);
    c.dir = f.dir;
    c.io = f.io;
    c.hooks_arg = &g;
    assert_int_equal(journal_open(&c, &j, &info), ERR_LOCKED);
    assert_null(j);
    assert_non_null(strstr(info.text, "in use by process"));
    put_n(&f, 1, 1, 10);
    end(&f);
}

/* ---- failures, on the simulated disk only ---- */

static void full_disk(void **state)
{
    struct fx f;
    int i;

    start(&f);
    put_n(&f, 1, 1, BIG);
    io_sim_capacity(f.io, 1);
    for (i = 0; i < 10 && fx_put(&f, 1, BIG, false) == ERR_OK; i++)
        ;
    assert_in_range(i, 1, 9); /* there was room in the first file */
    assert_int_equal(f.last, ERR_NO_SPACE);
    assert_int_equal(journal_state_get(f.j, NULL), JOURNAL_NO_SPACE);
    assert_int_equal(fx_put(&f, 1, 10, false), ERR_NO_SPACE);
    fx_expect(&f, 1, 0, i + 1); /* what is there can be read */
    io_sim_capacity(f.io, UINT64_MAX);
    io_sim_advance(f.io, 1000000000);
    f.serial = (uint32_t)i + 1; /* the offsets go on where they were */
    put_n(&f, 1, 2, BIG);
    assert_int_equal(journal_state_get(f.j, NULL), JOURNAL_OK);
    fx_expect(&f, 1, 0, i + 3);
    end(&f);
}

static void failed_write(void **state)
{
    struct errinfo why;
    struct fx f;

    start(&f);
    put_n(&f, 1, 3, 100);
    io_sim_fail(f.io, 1, ERR_IO, false);
    assert_int_equal(fx_put(&f, 1, 100, false), ERR_IO);
    assert_int_equal(journal_state_get(f.j, &why), JOURNAL_FAILED);
    assert_true(why.text[0] != 0);
    assert_int_equal(fx_put(&f, 1, 100, false), ERR_READ_ONLY);
    fx_expect(&f, 1, 0, 3);
    fx_close(&f);
    fx_open(&f); /* the failed write may or may not be there, wholly */
    f.serial = (uint32_t)fx_end(&f, 1);
    assert_in_range(f.serial, 3, 4);
    put_n(&f, 1, 1, 100);
    fx_expect(&f, 1, 0, f.serial);
    end(&f);
}

/* A disk that takes its time: each write so long. */
static const struct io_ops *quick;
static struct io_ops slow_ops;
static struct fx *slow_of;
static uint64_t slow_ns;
static bool slow_seen; /* the log stood still while it was written */

static enum err slow_pwrite(struct io_file *f, const void *buf, size_t n, uint64_t off,
                            bool durable, struct errinfo *info)
{
    if (slow_ns) {
        io_sim_advance(slow_of->io, slow_ns);
        slow_seen = journal_still(slow_of->j);
    }
    return quick->pwrite(f, buf, n, off, durable, info);
}

static enum err slow_open(struct io *io, const char *path, unsigned flags, struct io_file **out,
                          struct errinfo *info)
{
    enum err e = quick->open(io, path, flags, out, info);

    if (!e)
        (*out)->ops = &slow_ops;
    return e;
}

static void standing_still(void **state)
{
    static const struct {
        uint64_t took_ms, after_ms; /* so long behind it stands still */
    } rows[] = {{0, 0}, {400, 0}, {600, 600}, {3000, 3000}, {60000, 5000}};
    const struct io_ops *ops;
    struct fx f;
    size_t i;

    start(&f);
    fx_close(&f);
    ops = f.io->ops;
    quick = ops;
    slow_ops = *ops;
    slow_ops.open = slow_open;
    slow_ops.pwrite = slow_pwrite;
    slow_of = &f;
    f.io->ops = &slow_ops;
    fx_open(&f);
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_false(journal_still(f.j));
        slow_ns = rows[i].took_ms * 1000000;
        slow_seen = false;
        put_n(&f, 1, 1, 100);
        assert_int_equal(slow_seen, rows[i].after_ms > 0);
        assert_int_equal(journal_still(f.j), rows[i].after_ms > 0);
        if (rows[i].after_ms) {
            io_sim_advance(f.io, (rows[i].after_ms - 100) * 1000000);
            assert_true(journal_still(f.j));
            io_sim_advance(f.io, 200000000);
        }
    }
    slow_ns = 0;
    fx_close(&f);
    f.io->ops = ops;
    fx_open(&f);
    end(&f);
}

#define CONTRACT                                                                                \
    cmocka_unit_test(appends), cmocka_unit_test(units), cmocka_unit_test(group_commit),         \
        cmocka_unit_test(reading), cmocka_unit_test(reading_memory), cmocka_unit_test(seeking), \
        cmocka_unit_test(retention), cmocka_unit_test(recycling), cmocka_unit_test(rewriting),  \
        cmocka_unit_test(read_only), cmocka_unit_test(second_open)

int main(void)
{
    const struct CMUnitTest real[] = {CONTRACT};
    const struct CMUnitTest sim[] = {CONTRACT, cmocka_unit_test(full_disk),
                                     cmocka_unit_test(failed_write),
                                     cmocka_unit_test(standing_still)};
    int failed = cmocka_run_group_tests_name("journal/journal real", real, NULL, NULL);

    simulated = true;
    return failed + cmocka_run_group_tests_name("journal/journal simulated", sim, NULL, NULL);
}
