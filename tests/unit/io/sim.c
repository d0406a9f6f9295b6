/* The simulated disk keeps what it promised, loses the rest, and fails when told to. */
#include "io/sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static void put(struct io *io, const char *path, unsigned flags, const char *text, uint64_t off,
                bool durable, bool sync)
{
    struct io_file *f;

    assert_int_equal(io_open(io, path, IO_CREATE | flags, &f, NULL), ERR_OK);
    assert_int_equal((durable ? io_pwrite_durable : io_pwrite)(f, text, strlen(text), off, NULL),
                     ERR_OK);
    if (sync)
        assert_int_equal(io_sync(f, NULL), ERR_OK);
    io_close(&f);
}

static bool has(struct io *io, const char *path, const char *text)
{
    char buf[64] = {0};
    struct io_file *f;
    size_t got;

    if (io_open(io, path, IO_RDONLY, &f, NULL))
        return false;
    assert_int_equal(io_pread(f, buf, sizeof buf - 1, 0, &got, NULL), ERR_OK);
    io_close(&f);
    return got == strlen(text) && strcmp(buf, text) == 0;
}

static bool there(struct io *io, const char *path)
{
    uint64_t size;
    bool is;

    assert_int_equal(io_stat(io, path, &size, &is, NULL), ERR_OK);
    return is;
}

/* What was confirmed survives every crash; what was not survives some and not others. */
static void crashes(void **state)
{
    unsigned kept = 0, renamed = 0, named = 0, seed;

    for (seed = 1; seed <= 100; seed++) {
        struct io *io = io_sim_new(seed);

        assert_int_equal(io_mkdir(io, "/d", NULL), ERR_OK);
        put(io, "/d/synced", 0, "one", 0, false, true);
        put(io, "/d/dsync", IO_DSYNC, "two", 0, true, false);
        put(io, "/d/loose", 0, "old", 0, false, true);
        put(io, "/d/from", 0, "mov", 0, false, true);
        assert_int_equal(io_sync_dir(io, "/d", NULL), ERR_OK);
        put(io, "/d/loose", 0, "new", 0, false, false);
        put(io, "/d/late", 0, "x", 0, false, true); /* its name is not synced */
        assert_int_equal(io_rename(io, "/d/from", "/d/to", NULL), ERR_OK);
        assert_true(has(io, "/d/loose", "new"));
        io_sim_crash(io);
        assert_true(has(io, "/d/synced", "one"));
        assert_true(has(io, "/d/dsync", "two"));
        kept += has(io, "/d/loose", "new");
        named += there(io, "/d/late");
        renamed += there(io, "/d/to");
        assert_int_equal(there(io, "/d/to") + there(io, "/d/from"), 1);
        assert_true(has(io, there(io, "/d/to") ? "/d/to" : "/d/from", "mov"));
        io_sim_free(&io);
    }
    assert_in_range(kept, 10, 90);
    assert_in_range(named, 10, 90);
    assert_in_range(renamed, 10, 90);
}

static void stops(void **state)
{
    struct io *io = io_sim_new(1);
    struct io_file *f;
    uint64_t calls;

    put(io, "/a", 0, "one", 0, false, true);
    calls = io_sim_calls(io);
    io_sim_crash_at(io, 2);
    assert_int_equal(io_open(io, "/a", 0, &f, NULL), ERR_OK);
    assert_int_equal(io_pwrite(f, "two", 3, 0, NULL), ERR_IO);
    assert_int_equal(io_sim_calls(io), calls + 2);
    assert_true(io_sim_crashed(io));
    assert_int_equal(io_sync(f, NULL), ERR_IO);
    io_sim_crash(io);
    assert_false(io_sim_crashed(io));
    assert_int_equal(io_pwrite(f, "two", 3, 0, NULL), ERR_IO); /* a handle of before */
    io_close(&f);
    io_sim_free(&io);
}

static void fails(void **state)
{
    struct io *io = io_sim_new(1);
    struct io_file *f;
    char c;
    size_t got;

    assert_int_equal(io_open(io, "/a", IO_CREATE, &f, NULL), ERR_OK);
    io_sim_fail(io, 2, ERR_IO, false);
    assert_int_equal(io_pwrite(f, "a", 1, 0, NULL), ERR_OK);
    assert_int_equal(io_pwrite(f, "b", 1, 1, NULL), ERR_IO);
    assert_int_equal(io_pwrite(f, "c", 1, 2, NULL), ERR_OK);
    io_sim_fail(io, 1, ERR_NO_SPACE, true);
    assert_int_equal(io_pwrite(f, "d", 1, 3, NULL), ERR_NO_SPACE);
    assert_int_equal(io_pread(f, &c, 1, 0, &got, NULL), ERR_OK); /* reading needs no room */
    assert_int_equal(io_pwrite(f, "d", 1, 3, NULL), ERR_NO_SPACE);
    io_sim_fail(io, 0, ERR_OK, false);
    assert_int_equal(io_pwrite(f, "d", 1, 3, NULL), ERR_OK);
    io_sim_capacity(io, 4);
    assert_int_equal(io_pwrite(f, "e", 1, 3, NULL), ERR_OK);
    assert_int_equal(io_pwrite(f, "e", 1, 4, NULL), ERR_NO_SPACE);
    assert_int_equal(io_allocate(f, 0, 5, NULL), ERR_NO_SPACE);
    io_close(&f);
    assert_true(io_sim_flip(io, "/a", 0, 1));
    assert_false(io_sim_flip(io, "/a", 4, 1));
    assert_int_equal(io_open(io, "/a", IO_RDONLY, &f, NULL), ERR_OK);
    assert_int_equal(io_pread(f, &c, 1, 0, &got, NULL), ERR_OK);
    assert_int_equal(c, 'a' ^ 2);
    io_close(&f);
    io_sim_free(&io);
}

static void clock_and_lock(void **state)
{
    struct io *io = io_sim_new(1);
    struct io_lock *a, *b;
    int64_t ms = io_wall_ms(io);
    long pid;

    io_sim_advance(io, 5000000000);
    assert_in_range(io_wall_ms(io) - ms, 5000, 5001);
    assert_int_equal(io_lock_dir(io, "/l", &a, &pid, NULL), ERR_OK);
    assert_int_equal(io_lock_dir(io, "/l", &b, &pid, NULL), ERR_LOCKED);
    io_sim_crash(io);
    assert_int_equal(io_lock_dir(io, "/l", &b, &pid, NULL), ERR_OK);
    io_unlock(&a); /* of before the crash: changes nothing */
    assert_int_equal(io_lock_dir(io, "/l", &a, &pid, NULL), ERR_LOCKED);
    io_unlock(&b);
    io_sim_free(&io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(crashes), cmocka_unit_test(stops),
                                       cmocka_unit_test(fails), cmocka_unit_test(clock_and_lock)};

    return cmocka_run_group_tests_name("io/sim", tests, NULL, NULL);
}
