/* One test for each row of the table at the top of src/journal/recovery.c, on the simulated disk.
 * Each 20 KB batch fills most of a frame; a file of 64 KiB holds two of them. */
#include "fixture.h"

#define BIG   20000
#define FRAME 4096 /* of the small ones, padded; the first is at byte 4096 */

static void start(struct fx *f)
{
    memset(f, 0, sizeof *f);
    f->dir = "/d";
    f->file_bytes = FILE_BYTES;
    f->io = io_sim_new(7);
    fx_open(f);
    fx_logs(f, 1);
}

static void end(struct fx *f)
{
    io_sim_free(&f->io);
}

static void put_n(struct fx *f, int n, size_t bytes, bool os)
{
    while (n-- > 0)
        assert_int_equal(fx_put(f, 1, bytes, os), ERR_OK);
}

/* A log with sealed files and a checkpoint that lists them, closed. */
static void sealed_log(struct fx *f)
{
    start(f);
    put_n(f, 9, BIG, false);
    fx_background(f);
    fx_close(f);
}

static void refused(struct fx *f, enum err e, const char *word)
{
    assert_int_equal(fx_try_open(f), e);
    if (!strstr(f->info.text, word))
        fail_msg("\"%s\" does not say \"%s\"", f->info.text, word);
    end(f);
}

static void fresh(void **state)
{
    struct fx f;

    start(&f);
    assert_int_equal(journal_position_end(f.j), 1);
    fx_expect(&f, 1, 0, 0);
    fx_close(&f);
    fx_open(&f);
    assert_int_equal(f.logs, 1);
    fx_close(&f);
    end(&f);
}

static void lost_checkpoint(void **state)
{
    struct fx f;

    sealed_log(&f);
    assert_int_equal(io_unlink(f.io, "/d/checkpoint.db", NULL), ERR_OK);
    refused(&f, ERR_CORRUPT, "no checkpoint");
}

static void bad_checkpoint(void **state)
{
    struct fx f;
    uint8_t junk[100];

    sealed_log(&f);
    memset(junk, 0x5a, sizeof junk);
    fx_write_at(&f, "/d/checkpoint.db", 0, junk, sizeof junk);
    refused(&f, ERR_CORRUPT, "weir repair");
}

static void missing_sealed(void **state)
{
    struct io_file *fd;
    char path[300];
    struct fx f;

    sealed_log(&f);
    fx_file(&f, ".log", 0, path);
    assert_int_equal(io_unlink(f.io, path, NULL), ERR_OK);
    refused(&f, ERR_CORRUPT, "missing");

    sealed_log(&f);
    fx_file(&f, ".log", 0, path);
    assert_int_equal(io_open(f.io, path, 0, &fd, NULL), ERR_OK);
    assert_int_equal(io_truncate(fd, 8192, NULL), ERR_OK);
    io_close(&fd);
    refused(&f, ERR_CORRUPT, "shorter");
}

static void bad_index(void **state)
{
    char path[300];
    struct fx f;

    sealed_log(&f);
    fx_file(&f, ".idx", 0, path);
    assert_int_equal(io_unlink(f.io, path, NULL), ERR_OK);
    refused(&f, ERR_CORRUPT, "weir repair");

    sealed_log(&f);
    fx_file(&f, ".idx", 0, path);
    assert_true(io_sim_flip(f.io, path, 20, 3));
    assert_int_equal(fx_try_open(&f), ERR_CORRUPT);
    assert_int_equal(journal_repair(f.io, f.dir, false, NULL, NULL, &f.info), ERR_OK);
    fx_open(&f);
    fx_expect(&f, 1, 0, 9);
    fx_close(&f);
    end(&f);
}

/* Frames of small batches: frame k (from 1, which makes the log) is at byte FRAME * k. */
static void small_log(struct fx *f, int synced, int os)
{
    start(f);
    put_n(f, synced, 100, false);
    put_n(f, os, 100, true);
}

static void torn_tail(void **state)
{
    uint8_t junk[512];
    char path[300];
    struct fx f;

    small_log(&f, 5, 0);
    fx_crash(&f);
    fx_file(&f, ".log", 0, path);
    memset(junk, 0xee, sizeof junk);
    fx_write_at(&f, path, FRAME * 6 + 100, junk, 60); /* the last one: frame 6 */
    fx_open(&f);
    fx_expect(&f, 1, 0, 4);
    f.serial = 4;
    put_n(&f, 3, 100, false);
    fx_expect(&f, 1, 0, 7);
    fx_crash(&f);
    fx_open(&f);
    fx_expect(&f, 1, 0, 7);
    fx_close(&f);
    end(&f);
}

static void bad_middle(void **state)
{
    char path[300];
    struct fx f;

    small_log(&f, 6, 0);
    fx_crash(&f);
    fx_file(&f, ".log", 0, path);
    assert_true(io_sim_flip(f.io, path, FRAME * 4 + 120, 1));
    assert_int_equal(fx_try_open(&f), ERR_CORRUPT);
    assert_non_null(strstr(f.info.text, "frame 4 "));
    assert_int_equal(journal_repair(f.io, f.dir, false, NULL, NULL, &f.info), ERR_OK);
    fx_open(&f);
    assert_int_equal(fx_end(&f, 1), 6);
    assert_int_equal(fx_serial(&f, 1, 1), 2);
    assert_int_equal(fx_serial(&f, 1, 3), 4); /* offset 2 is lost, the others are not */
    assert_int_equal(fx_serial(&f, 1, 5), 6);
    fx_close(&f);
    end(&f);
}

static void lost_unsynced(void **state)
{
    uint8_t zeros[FRAME] = {0};
    char path[300];
    struct fx f;

    small_log(&f, 3, 4); /* frames 5..8 are not synced */
    fx_file(&f, ".log", 0, path);
    {
        struct io_file *fd; /* all of them reach the disk, but for frame 6 */

        assert_int_equal(io_open(f.io, path, 0, &fd, NULL), ERR_OK);
        assert_int_equal(io_sync(fd, NULL), ERR_OK);
        io_close(&fd);
    }
    fx_crash(&f);
    fx_write_at(&f, path, FRAME * 6, zeros, sizeof zeros);
    fx_open(&f);
    fx_expect(&f, 1, 0, 4);
    fx_close(&f);
    end(&f);
}

static void missing_end(void **state)
{
    uint8_t zeros[FRAME] = {0};
    char path[300];
    struct fx f;

    small_log(&f, 4, 0);
    assert_int_equal(journal_checkpoint(f.j, &f.info), ERR_OK);
    fx_crash(&f);
    fx_file(&f, ".log", 0, path);
    fx_write_at(&f, path, FRAME * 5, zeros, sizeof zeros); /* frames 5 and 6, the stamp */
    fx_write_at(&f, path, FRAME * 6, zeros, sizeof zeros);
    refused(&f, ERR_CORRUPT, "was durable");
}

/* The first file, which is the newest one too, is gone as a whole: row 9, as there is a checkpoint by then. */
static void missing_first(void **state)
{
    char path[300];
    struct fx f;

    small_log(&f, 1, 0);
    fx_background(&f);
    fx_crash(&f);
    assert_int_equal(fx_file(&f, ".log", 0, path), 1);
    assert_int_equal(io_unlink(f.io, path, NULL), ERR_OK);
    refused(&f, ERR_CORRUPT, "was durable");
}

/* Cut behind its last frame, or in the middle of what was durable, where nothing else would tell. */
static void short_file(void **state)
{
    static const uint64_t cuts[] = {FRAME * 10, FRAME * 3, FRAME * 3 + 100};
    struct journal_check_result res;
    struct io_file *fd;
    unsigned i;
    char path[300];
    struct fx f;

    for (i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        small_log(&f, 4, 0);
        fx_crash(&f);
        fx_file(&f, ".log", 0, path);
        assert_int_equal(io_open(f.io, path, 0, &fd, &f.info), ERR_OK);
        assert_int_equal(io_truncate(fd, cuts[i], &f.info), ERR_OK);
        assert_int_equal(io_sync(fd, &f.info), ERR_OK);
        io_close(&fd);
        assert_int_equal(fx_try_open(&f), ERR_CORRUPT);
        assert_non_null(strstr(f.info.text, "was cut"));
        assert_int_equal(journal_check(f.io, f.dir, NULL, NULL, &res, &f.info), ERR_OK);
        assert_int_not_equal(res.problems, 0);
        assert_int_equal(journal_repair(f.io, f.dir, false, NULL, NULL, &f.info), ERR_OK);
        assert_int_equal(journal_check(f.io, f.dir, NULL, NULL, &res, &f.info), ERR_OK);
        assert_int_equal(res.problems, 0);
        fx_open(&f);
        assert_int_equal(plog_read(f.log[1], 0, 1u << 20, &f.r, &f.info), ERR_OK);
        assert_int_equal(f.r.batch[f.r.n - 1].last_offset,
                         i ? 0 : 3); /* what can be read is there */
        fx_close(&f);
        io_sim_free(&f.io);
    }
}

/* Frames of a crash's lost end stay in the file behind new ones, and old ones in a recycled file:
 * neither is taken for what comes next. */
static void stale_frames(void **state)
{
    uint8_t torn[FRAME], old[FRAME], now[FRAME];
    char path[300];
    struct fx f;
    int i;

    small_log(&f, 6, 0);
    fx_crash(&f);
    fx_file(&f, ".log", 0, path);
    fx_read_at(&f, path, FRAME * 7, old, sizeof old); /* frame 7: the last */
    memset(torn, 0, sizeof torn);
    fx_write_at(&f, path, FRAME * 7, torn, sizeof torn); /* as if it had never been written */
    fx_open(&f);
    fx_expect(&f, 1, 0, 5);
    f.serial = 100;
    put_n(&f, 1, 100, false); /* another frame 7 */
    fx_read_at(&f, path, FRAME * 7, now, sizeof now);
    assert_memory_not_equal(old, now, sizeof now);
    put_n(&f, 1, 100, false); /* frame 8 */
    fx_crash(&f);
    fx_write_at(&f, path, FRAME * 8, torn, sizeof torn);
    fx_write_at(&f, path, FRAME * 9, old, sizeof old); /* frame 7 of the other time */
    fx_open(&f);
    assert_int_equal(fx_end(&f, 1), 6);
    assert_int_equal(fx_serial(&f, 1, 5), 101);
    fx_close(&f);
    end(&f);

    start(&f); /* files go round: each is full of frames of earlier rounds */
    for (i = 0; i < 40; i++) {
        put_n(&f, 1, BIG, false);
        if (i > 3)
            fx_trim(&f, 1, i - 3);
        fx_background(&f);
    }
    fx_crash(&f);
    fx_open(&f);
    fx_expect(&f, 1, 36, 40);
    fx_close(&f);
    end(&f);
}

static void unused_file(void **state)
{
    struct journal_stats s;
    char path[300];
    struct fx f;
    int logs;

    start(&f);
    put_n(&f, 2, BIG, false);
    fx_background(&f); /* the next file is prepared, with a header, and no frames */
    logs = fx_file(&f, ".log", 0, path);
    assert_int_equal(logs, 2);
    fx_crash(&f);
    fx_open(&f);
    fx_expect(&f, 1, 0, 2);
    journal_stats_get(f.j, &s);
    assert_int_equal(s.files, 1);
    assert_true(s.spare_files >= 1);
    assert_int_equal(fx_file(&f, ".log", 0, path), 1);
    put_n(&f, 4, BIG, false);
    fx_expect(&f, 1, 0, 6);
    fx_close(&f);
    end(&f);
}

static uint32_t spares(struct fx *f)
{
    struct journal_stats s;

    journal_stats_get(f->j, &s);
    return s.spare_files;
}

static bool spare_there(struct fx *f)
{
    char path[300];
    int i, n = fx_file(f, "", 0, path);

    for (i = 0; i < n; i++) {
        fx_file(f, "", i, path);
        if (strstr(path, "spare-"))
            return true;
    }
    return false;
}

/* Spares are made in step with what is written; one that was cut short is as good as any. */
static void half_spare(void **state)
{
    struct fx f;
    int i;

    memset(&f, 0, sizeof f);
    f.dir = "/d";
    f.file_bytes = 4u << 20;
    f.io = io_sim_new(7);
    fx_open(&f);
    fx_logs(&f, 1);
    fx_background(&f);
    assert_false(spare_there(&f));
    put_n(&f, 30, BIG, false); /* more than an eighth */
    fx_background(&f);
    put_n(&f, 30, BIG, false);
    fx_background(&f);
    assert_true(spare_there(&f));
    assert_int_equal(spares(&f), 0);
    fx_crash(&f);
    fx_open(&f);
    fx_expect(&f, 1, 0, 60);
    for (i = 0; i < 60; i++) {
        put_n(&f, 10, BIG, false);
        fx_background(&f);
    }
    assert_true(spares(&f) >= 1);
    fx_crash(&f);
    fx_open(&f);
    fx_expect(&f, 1, 0, 660);
    put_n(&f, 30, BIG, false);
    fx_background(&f);
    fx_close(&f); /* in the middle of one */
    fx_open(&f);
    fx_expect(&f, 1, 0, 690);
    fx_close(&f);
    end(&f);
}

static void orphan(void **state)
{
    static const char *const name[] = {"/d/log/00000000000000aa.seg",
                                       "/d/log/00000000000000aa.idx"};
    uint64_t size;
    bool there;
    struct fx f;
    int i;

    sealed_log(&f);
    for (i = 0; i < 2; i++) {
        struct io_file *fd;

        assert_int_equal(io_open(f.io, name[i], IO_CREATE, &fd, NULL), ERR_OK);
        assert_int_equal(io_pwrite(fd, "junk", 4, 0, NULL), ERR_OK);
        io_close(&fd);
    }
    fx_open(&f);
    for (i = 0; i < 2; i++) {
        assert_int_equal(io_stat(f.io, name[i], &size, &there, NULL), ERR_OK);
        assert_false(there);
    }
    fx_expect(&f, 1, 0, 9);
    fx_close(&f);
    end(&f);
}

static void dropped_file(void **state)
{
    char path[300], copy[300];
    uint8_t *mem = xmalloc(FILE_BYTES);
    struct io_file *fd;
    uint64_t size;
    bool there;
    struct fx f;

    start(&f);
    put_n(&f, 9, BIG, false);
    fx_file(&f, ".log", 0, path);
    assert_int_equal(fx_read_at(&f, path, 0, mem, FILE_BYTES), FILE_BYTES);
    snprintf(copy, sizeof copy, "%s", path);
    fx_trim(&f, 1, 8);
    fx_background(&f);
    fx_close(&f);
    assert_int_equal(io_stat(f.io, copy, &size, &there, NULL), ERR_OK);
    assert_false(there); /* recycled; now the renaming did not survive a crash: */
    assert_int_equal(io_open(f.io, copy, IO_CREATE, &fd, NULL), ERR_OK);
    assert_int_equal(io_pwrite(fd, mem, FILE_BYTES, 0, NULL), ERR_OK);
    io_close(&fd);
    free(mem);
    fx_open(&f);
    assert_int_equal(io_stat(f.io, copy, &size, &there, NULL), ERR_OK);
    assert_false(there);
    fx_expect(&f, 1, 8, 9);
    fx_close(&f);
    end(&f);
}

static void missing_middle(void **state)
{
    char path[300];
    struct fx f;

    start(&f);
    put_n(&f, 9, BIG, false); /* several files, none sealed: no background work was done */
    fx_crash(&f);
    assert_true(fx_file(&f, ".log", 1, path) >= 4);
    assert_int_equal(io_unlink(f.io, path, NULL), ERR_OK);
    refused(&f, ERR_CORRUPT, "was durable");
}

static void foreign_file(void **state)
{
    char path[300];
    uint8_t *mem = xmalloc(FILE_BYTES);
    struct io_file *fd;
    struct fx f, g;

    small_log(&f, 5, 0);
    fx_crash(&f);
    memset(&g, 0, sizeof g); /* another log, on another disk */
    g.dir = "/d";
    g.file_bytes = FILE_BYTES;
    g.io = io_sim_new(8);
    fx_open(&g);
    fx_logs(&g, 1);
    put_n(&g, 5, 100, false);
    fx_crash(&g);
    fx_file(&g, ".log", 0, path);
    fx_read_at(&g, path, 0, mem, FILE_BYTES);
    io_sim_free(&g.io);

    assert_int_equal(/* behind the log: it is no part of it */
                     io_open(f.io, "/d/log/0000000000000099.log", IO_CREATE, &fd, NULL), ERR_OK);
    assert_int_equal(io_pwrite(fd, mem, FILE_BYTES, 0, NULL), ERR_OK);
    io_close(&fd);
    fx_open(&f);
    fx_expect(&f, 1, 0, 5);
    assert_int_equal(journal_checkpoint(f.j, &f.info), ERR_OK);
    fx_crash(&f);
    fx_file(&f, ".log", 0, path); /* in the log's place: what was durable is not there */
    fx_write_at(&f, path, 0, mem, FILE_BYTES);
    free(mem);
    refused(&f, ERR_CORRUPT, "was durable");
}

/* Not a row: frames behind a header that is damaged are not passed over in silence. */
static void bad_header(void **state)
{
    char path[300];
    struct fx f;

    small_log(&f, 3, 0);
    fx_crash(&f);
    fx_file(&f, ".log", 0, path);
    assert_true(io_sim_flip(f.io, path, 200, 0));
    assert_int_equal(fx_try_open(&f), ERR_CORRUPT);
    assert_non_null(strstr(f.info.text, "header"));
    assert_int_equal(journal_repair(f.io, f.dir, false, NULL, NULL, &f.info), ERR_OK);
    fx_open(&f);
    fx_expect(&f, 1, 0, 3);
    fx_close(&f);
    end(&f);
}

/* Not a row: mending the last frame leaves those before it in the file alone. */
static void bad_last(void **state)
{
    char path[300];
    struct fx f;

    small_log(&f, 5, 0);
    fx_close(&f); /* in order: the checkpoint knows where the log ends, at frame 7 */
    fx_file(&f, ".log", 0, path);
    assert_true(io_sim_flip(f.io, path, FRAME * 7 + 70, 2));
    assert_int_equal(fx_try_open(&f), ERR_CORRUPT);
    assert_int_equal(journal_repair(f.io, f.dir, false, NULL, NULL, &f.info), ERR_OK);
    fx_open(&f);
    fx_expect(&f, 1, 0, 5);
    fx_close(&f);
    end(&f);
}

/* Not a row: a file in which nothing is wanted is kept until a checkpoint covers its sealing, since
 * until then recovery replays its frames. */
static void dead_unsaved(void **state)
{
    struct fx f;
    uint64_t n;

    for (n = 1; n <= 120; n++) { /* the checkpoint fails at some of these calls */
        start(&f);
        put_n(&f, 9, BIG, false);
        fx_trim(&f, 1, 8);
        io_sim_fail(f.io, n, ERR_IO, false);
        journal_background(f.j);
        fx_crash(&f);
        fx_open(&f);
        fx_expect(&f, 1, 8, 9);
        fx_close(&f);
        end(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh),          cmocka_unit_test(lost_checkpoint),
        cmocka_unit_test(bad_checkpoint), cmocka_unit_test(missing_sealed),
        cmocka_unit_test(bad_index),      cmocka_unit_test(torn_tail),
        cmocka_unit_test(bad_middle),     cmocka_unit_test(lost_unsynced),
        cmocka_unit_test(short_file),     cmocka_unit_test(missing_end),
        cmocka_unit_test(missing_first),  cmocka_unit_test(stale_frames),
        cmocka_unit_test(unused_file),    cmocka_unit_test(half_spare),
        cmocka_unit_test(orphan),         cmocka_unit_test(dropped_file),
        cmocka_unit_test(missing_middle), cmocka_unit_test(foreign_file),
        cmocka_unit_test(bad_header),     cmocka_unit_test(bad_last),
        cmocka_unit_test(dead_unsaved)};

    return cmocka_run_group_tests_name("journal/recovery", tests, NULL, NULL);
}
