/* What a repair lost is not given out again: each log goes on behind all that it may have had, and
 * no further than need be. Frames of small batches: frame k is at byte FRAME * k; frame 1 makes log
 * 1, frame 2 log 2. */
#include "fixture.h"

#define FRAME 4096
#define BIG   20000
#define STEP  4294967296ll

static void start(struct fx *f)
{
    memset(f, 0, sizeof *f);
    f->dir = "/d";
    f->file_bytes = FILE_BYTES;
    f->io = io_sim_new(7);
    fx_open(f);
    fx_logs(f, 2);
}

static void put(struct fx *f, uint32_t uid, int n, size_t bytes)
{
    while (n-- > 0)
        assert_int_equal(fx_put(f, uid, bytes, false), ERR_OK);
}

static void repair(struct fx *f)
{
    if (journal_repair(f->io, f->dir, false, NULL, NULL, &f->info))
        fail_msg("repairing: %s", f->info.text);
}

/* The next batch of the log gets this offset, and that is what is found after opening again. */
static void goes_on_at(struct fx *f, uint32_t uid, int64_t offset)
{
    assert_int_equal(fx_end(f, uid), offset);
    assert_int_equal(fx_put(f, uid, 100, false), ERR_OK);
    assert_int_equal(fx_end(f, uid), offset + 1);
    assert_int_equal(fx_serial(f, uid, offset), f->serial);
    fx_close(f);
    fx_open(f);
    assert_int_equal(fx_end(f, uid), offset + 1);
    assert_int_equal(fx_serial(f, uid, offset), f->serial);
}

/* Log 2 loses its last batch, log 1 one in the middle; frames after say how many records it was. */
static void middle(void **state)
{
    char path[300];
    struct fx f;

    start(&f);
    put(&f, 1, 2, 100); /* frames 3, 4: positions 1, 2 */
    put(&f, 2, 3, 100); /* frames 5, 6, 7: positions 3, 4, 5 */
    put(&f, 1, 2, 100); /* frames 8, 9 */
    fx_crash(&f);
    fx_file(&f, ".log", 0, path);
    assert_true(io_sim_flip(f.io, path, FRAME * 4 + 100, 1));
    assert_true(io_sim_flip(f.io, path, FRAME * 7 + 100, 1));
    assert_int_equal(fx_try_open(&f), ERR_CORRUPT);
    repair(&f);
    fx_open(&f);
    assert_int_equal(journal_position_end(f.j), 8);
    assert_int_equal(fx_end(&f, 1), 4); /* its last one is behind all that is lost */
    goes_on_at(&f, 2, 3);
    goes_on_at(&f, 1, 4);
    fx_logs(&f, 3); /* a log that is made later has lost nothing */
    goes_on_at(&f, 3, 0);
    fx_close(&f);
    io_sim_free(&f.io);
}

/* Nothing says how far the log went after the checkpoint: a step. */
static void end_unknown(void **state)
{
    struct io_file *fd;
    char path[300];
    struct fx f;

    start(&f);
    put(&f, 1, 4, 100); /* frames 3 to 6 */
    assert_int_equal(journal_checkpoint(f.j, &f.info), ERR_OK);
    put(&f, 1, 3, 100);
    fx_crash(&f);
    fx_file(&f, ".log", 0, path);
    assert_int_equal(io_open(f.io, path, 0, &fd, NULL), ERR_OK);
    assert_int_equal(io_truncate(fd, FRAME * 5, NULL), ERR_OK);
    io_close(&fd);
    assert_int_equal(fx_try_open(&f), ERR_CORRUPT);
    repair(&f);
    f.read_only = true;
    fx_open(&f);
    assert_int_equal(fx_end(&f, 1), 4 + STEP);
    fx_close(&f);
    f.read_only = false;
    fx_open(&f);
    assert_int_equal(journal_position_end(f.j), 5 + STEP);
    assert_int_equal(fx_serial(&f, 1, 1), 2);
    assert_int_equal(plog_read(f.log[1], 6, 1, &f.r, &f.info), ERR_OK); /* was seen, is lost */
    assert_int_equal(f.r.n, 0);
    goes_on_at(&f, 1, 4 + STEP);
    assert_int_equal(plog_read(f.log[1], 6, 1, &f.r, &f.info), ERR_OK);
    assert_int_equal(f.r.n, 1); /* what comes next */
    assert_int_equal(f.r.batch[0].base_offset, 4 + STEP);
    fx_close(&f);
    io_sim_free(&f.io);
}

/* Closed in order, the end of the log is known though its last frame is lost. */
static void end_known(void **state)
{
    struct io_file *fd;
    char path[300];
    struct fx f;

    start(&f);
    put(&f, 1, 4, 100);
    fx_close(&f);
    fx_file(&f, ".log", 0, path);
    assert_int_equal(io_open(f.io, path, 0, &fd, NULL), ERR_OK);
    assert_int_equal(io_truncate(fd, FRAME * 5, NULL), ERR_OK);
    io_close(&fd);
    repair(&f);
    fx_open(&f);
    assert_int_equal(journal_position_end(f.j), 5);
    goes_on_at(&f, 1, 4);
    fx_close(&f);
    io_sim_free(&f.io);
}

/* A log with all its batches in a sealed file that is gone. */
static void sealed_file(bool index_too)
{
    char path[300];
    struct fx f;

    start(&f);
    put(&f, 2, 1, BIG);
    put(&f, 1, 8, BIG);
    fx_background(&f);
    fx_close(&f);
    fx_file(&f, ".log", 0, path);
    assert_int_equal(io_unlink(f.io, path, NULL), ERR_OK);
    if (index_too) {
        fx_file(&f, ".idx", 0, path);
        assert_int_equal(io_unlink(f.io, path, NULL), ERR_OK);
    }
    assert_int_equal(fx_try_open(&f), ERR_CORRUPT);
    repair(&f);
    fx_open(&f);
    assert_int_equal(journal_position_end(f.j), 10);
    assert_int_equal(fx_end(&f, 1), 8);
    if (!index_too)
        assert_int_equal(fx_end(&f, 2), 1); /* as the index says */
    else
        assert_in_range(fx_end(&f, 2), 1, 4); /* whatever the file may have had */
    goes_on_at(&f, 2, fx_end(&f, 2));
    fx_close(&f);
    io_sim_free(&f.io);
}

static void sealed_missing(void **state)
{
    sealed_file(false);
    sealed_file(true);
}

static void checkpoint_missing(void **state)
{
    struct fx f;

    start(&f);
    put(&f, 1, 3, 100);
    fx_close(&f);
    assert_int_equal(io_unlink(f.io, "/d/checkpoint.db", NULL), ERR_OK);
    repair(&f);
    repair(&f); /* once more changes nothing */
    fx_open(&f);
    assert_int_equal(journal_position_end(f.j), 4 + STEP);
    assert_int_equal(fx_serial(&f, 1, 2), 3);
    goes_on_at(&f, 1, 3 + STEP);
    goes_on_at(&f, 2, STEP);
    fx_close(&f);
    io_sim_free(&f.io);
}

/* The notes are settled wholly or not at all. */
static void settled_anyway(void **state)
{
    bool more = true;
    uint64_t at;
    struct fx f;
    enum err e;

    for (at = 1; more; at++) {
        start(&f);
        put(&f, 1, 3, 100);
        fx_close(&f);
        assert_int_equal(io_unlink(f.io, "/d/checkpoint.db", NULL), ERR_OK);
        repair(&f);
        io_sim_crash_at(f.io, at);
        e = fx_try_open(&f);
        more = io_sim_crashed(f.io);
        if (!e && more)
            fx_close(&f);
        else if (!e)
            fx_crash(&f);
        if (more)
            io_sim_crash(f.io);
        fx_open(&f);
        assert_int_equal(journal_position_end(f.j), 4 + STEP);
        assert_int_equal(fx_end(&f, 1), 3 + STEP);
        goes_on_at(&f, 2, STEP);
        fx_close(&f);
        io_sim_free(&f.io);
    }
    assert_true(at > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(middle),
        cmocka_unit_test(end_unknown),
        cmocka_unit_test(end_known),
        cmocka_unit_test(sealed_missing),
        cmocka_unit_test(checkpoint_missing),
        cmocka_unit_test(settled_anyway),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
