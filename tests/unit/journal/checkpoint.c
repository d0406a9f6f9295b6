/* The checkpoint's pages: a changed bit anywhere in them is refused and named; a checkpoint made
 * before there were checksums opens, and is converted whatever moment the machine stops at. */
#include "fixture.h"

#include "io/sim.h"
#include "journal/checkpoint.h"

#define BIG  20000
#define PATH "/d/checkpoint.db"

static void sealed_log(struct fx *f, uint64_t seed)
{
    memset(f, 0, sizeof *f);
    f->dir = "/d";
    f->file_bytes = FILE_BYTES;
    f->io = io_sim_new(seed);
    fx_open(f);
    fx_logs(f, 1);
    while (fx_end(f, 1) < 9)
        assert_int_equal(fx_put(f, 1, BIG, false), ERR_OK);
    fx_background(f);
    fx_close(f);
}

static uint64_t size_of(struct fx *f)
{
    uint64_t size = 0;
    bool there = false;

    assert_int_equal(io_stat(f->io, PATH, &size, &there, NULL), ERR_OK);
    assert_true(there);
    return size;
}

static void flips(void **state)
{
    struct journal_check_result found;
    uint64_t at, size;
    struct fx f;

    sealed_log(&f, 1);
    f.read_only = true;
    size = size_of(&f);
    assert_true(size >= 4 * 4096);
    for (at = 0; at < size; at += 3) {
        assert_true(io_sim_flip(f.io, PATH, at, at % 8));
        if (fx_try_open(&f) != ERR_CORRUPT)
            fail_msg("byte %d: not refused: %s", (int)at, f.info.text);
        assert_non_null(strstr(f.info.text, PATH));
        assert_non_null(strstr(f.info.text, "weir repair"));
        assert_int_equal(journal_check(f.io, f.dir, NULL, NULL, &found, &f.info), ERR_OK);
        assert_true(found.problems > 0);
        assert_true(io_sim_flip(f.io, PATH, at, at % 8));
    }
    fx_open(&f);
    fx_expect(&f, 1, 0, 9);
    fx_close(&f);
    io_sim_free(&f.io);
}

static void run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
}

/* Puts the checkpoint there as a program without checksums would have written it. */
static void make_plain(struct fx *f)
{
    struct checkpoint *c;
    struct io_file *fd;
    sqlite3_int64 size = 0;
    uint8_t *mem;

    assert_int_equal(checkpoint_open(f->io, f->dir, true, &c, &f->info), ERR_OK);
    run(checkpoint_db(c),
        "ATTACH ':memory:' AS old;"
        "CREATE TABLE old.meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
        "CREATE TABLE old.files(id INTEGER PRIMARY KEY, kind, size, used, first_seq, last_seq,"
        " last_crc, position, position_end);"
        "CREATE TABLE old.logs(uid INTEGER PRIMARY KEY, start);"
        "INSERT INTO old.meta SELECT * FROM main.meta; UPDATE old.meta SET value = 1 WHERE key ="
        " 'format'; INSERT INTO old.files SELECT * FROM main.files;"
        "INSERT INTO old.logs SELECT * FROM main.logs");
    mem = sqlite3_serialize(checkpoint_db(c), "old", &size, 0);
    assert_non_null(mem);
    assert_int_equal(mem[20], 0); /* no room for checksums */
    checkpoint_close(&c);
    assert_int_equal(io_open(f->io, PATH, IO_CREATE | IO_TRUNC, &fd, NULL), ERR_OK);
    assert_int_equal(io_pwrite(fd, mem, (size_t)size, 0, NULL), ERR_OK);
    assert_int_equal(io_sync(fd, NULL), ERR_OK);
    io_close(&fd);
    sqlite3_free(mem);
}

static uint8_t reserved(struct fx *f)
{
    uint8_t head[100];

    assert_int_equal(fx_read_at(f, PATH, 0, head, sizeof head), sizeof head);
    return head[20];
}

static void old_format(void **state)
{
    struct fx f;

    sealed_log(&f, 2);
    assert_int_equal(reserved(&f), 8);
    make_plain(&f);
    f.read_only = true;
    fx_open(&f);
    fx_expect(&f, 1, 0, 9);
    fx_close(&f);
    assert_int_equal(reserved(&f), 0);
    f.read_only = false;
    fx_open(&f);
    fx_expect(&f, 1, 0, 9);
    fx_close(&f);
    assert_int_equal(reserved(&f), 8);
    assert_true(io_sim_flip(f.io, PATH, 4096 + 4000, 0));
    assert_int_equal(fx_try_open(&f), ERR_CORRUPT);
    io_sim_free(&f.io);
}

static void converted_anyway(void **state)
{
    uint64_t at, old = 0;
    bool more = true;
    struct fx f;
    enum err e;

    for (at = 1; more; at++) {
        sealed_log(&f, at);
        make_plain(&f);
        io_sim_crash_at(f.io, at);
        e = fx_try_open(&f);
        more = io_sim_crashed(f.io);
        if (!e && more)
            fx_close(&f);
        else if (!e)
            fx_crash(&f);
        if (more)
            io_sim_crash(f.io);
        old += reserved(&f) == 0;
        fx_open(&f);
        fx_expect(&f, 1, 0, 9);
        fx_close(&f);
        assert_int_equal(reserved(&f), 8);
        io_sim_free(&f.io);
    }
    assert_true(old > 20 && at > old + 10); /* stopped before, and after */
}

/* The header says that there are no checksums, the rest that there are. */
static void header_contradicted(void **state)
{
    uint8_t zero = 0;
    struct fx f;

    sealed_log(&f, 3);
    fx_write_at(&f, PATH, 20, &zero, 1);
    assert_int_equal(fx_try_open(&f), ERR_CORRUPT);
    fx_write_at(&f, PATH, 71, &zero, 1);
    fx_write_at(&f, PATH, 70, &zero, 1);
    fx_write_at(&f, PATH, 69, &zero, 1);
    fx_write_at(&f, PATH, 68, &zero, 1);
    f.read_only = true;
    assert_int_equal(fx_try_open(&f), ERR_CORRUPT);
    assert_non_null(strstr(f.info.text, "header is damaged"));
    io_sim_free(&f.io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flips),
        cmocka_unit_test(old_format),
        cmocka_unit_test(converted_anyway),
        cmocka_unit_test(header_contradicted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
