/* SQLite over the simulated disk: random transactions with a cache so small that pages are written
 * before the commit, rolled back, failed and crashed at random. What was committed is there, the
 * pages' checksums fit, and a changed bit never comes back as data. */
#include "io/sqlite_vfs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/mem.h"
#include "io/sim.h"

#define KEYS 60
#define PATH "/d/x.db"

struct db {
    struct io *io;
    char vfs[IO_SQLITE_VFS_NAME];
    sqlite3 *db;
    uint64_t rng;
    uint32_t now[KEYS], sure[KEYS]; /* size of the blob of each key; 0: none */
    uint32_t maybe[KEYS];           /* of a commit that was not answered */
};

static uint32_t rnd(struct db *d, uint32_t n)
{
    d->rng = d->rng * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(d->rng >> 33) % n;
}

static int sql(struct db *d, const char *text)
{
    return sqlite3_exec(d->db, text, NULL, NULL, NULL);
}

static int db_open(struct db *d, bool read_only)
{
    int rc;

    assert_int_equal(io_sqlite_vfs_register(d->io, read_only, d->vfs), ERR_OK);
    rc = sqlite3_open_v2(PATH, &d->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, d->vfs);
    if (rc)
        return rc;
    if (io_sqlite_vfs_prepare(d->db))
        return SQLITE_IOERR;
    return sql(d,
               "PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=5; PRAGMA journal_mode=TRUNCATE;"
               "PRAGMA synchronous=EXTRA; CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, v)");
}

static void db_close(struct db *d)
{
    sqlite3_close(d->db);
    d->db = NULL;
    io_sqlite_vfs_unregister(d->vfs);
}

static uint8_t filling(uint32_t key, uint32_t size)
{
    return (uint8_t)(key * 31 + size * 7 + 1);
}

static int put(struct db *d, uint32_t key, uint32_t size)
{
    sqlite3_stmt *st = NULL;
    uint8_t *mem = xmalloc(size + 1);
    int rc = sqlite3_prepare_v2(
        d->db, size ? "INSERT OR REPLACE INTO t VALUES(?, ?)" : "DELETE FROM t WHERE k = ?", -1,
        &st, NULL);

    memset(mem, filling(key, size), size);
    if (rc == SQLITE_OK) {
        sqlite3_bind_int(st, 1, (int)key);
        if (size)
            sqlite3_bind_blob(st, 2, mem, (int)size, SQLITE_STATIC);
        rc = sqlite3_step(st) == SQLITE_DONE ? SQLITE_OK : SQLITE_IOERR;
    }
    sqlite3_finalize(st);
    free(mem);
    return rc;
}

/* What is there into found[KEYS]; false: damage was found. Wrong bytes fail the test. */
static bool look(struct db *d, uint32_t *found)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(d->db, "SELECT k, v FROM t", -1, &st, NULL);

    memset(found, 0, KEYS * sizeof *found);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            uint32_t k = (uint32_t)sqlite3_column_int(st, 0), i;
            const uint8_t *v = sqlite3_column_blob(st, 1);
            uint32_t n = (uint32_t)sqlite3_column_bytes(st, 1);

            assert_in_range(k, 0, KEYS - 1);
            for (i = 0; i < n; i++)
                assert_int_equal(v[i], filling(k, n));
            found[k] = n;
        }
    }
    sqlite3_finalize(st);
    assert_true(rc == SQLITE_DONE || rc == SQLITE_CORRUPT);
    return rc == SQLITE_DONE;
}

static void transaction(struct db *d)
{
    uint32_t i, n = 1 + rnd(d, 40);
    bool back = rnd(d, 5) == 0;
    int rc = sql(d, "BEGIN IMMEDIATE");

    memcpy(d->now, d->sure, sizeof d->now);
    for (i = 0; rc == SQLITE_OK && i < n; i++) {
        uint32_t k = rnd(d, KEYS), size = rnd(d, 3) ? 1 + rnd(d, rnd(d, 3) ? 300 : 30000) : 0;

        rc = put(d, k, size);
        if (rc == SQLITE_OK)
            d->now[k] = size;
    }
    memcpy(d->maybe, d->sure, sizeof d->now);
    if (rc == SQLITE_OK && !back) {
        memcpy(d->maybe, d->now, sizeof d->now);
        rc = sql(d, "COMMIT");
        if (rc == SQLITE_OK)
            memcpy(d->sure, d->now, sizeof d->now);
    } else if (!sqlite3_get_autocommit(d->db)) {
        sql(d, "ROLLBACK");
    }
}

static void whole(struct db *d)
{
    struct errinfo info = {0};
    sqlite3_stmt *st = NULL;
    uint32_t found[KEYS];
    int rc;

    if (!look(d, found)) {
        io_sqlite_vfs_damage(d->vfs, &info);
        fail_msg("damage where there is none: %s", info.text);
    }
    if (memcmp(found, d->sure, sizeof found) != 0)
        assert_memory_equal(found, d->maybe, sizeof found);
    memcpy(d->sure, found, sizeof found);
    assert_int_equal(sqlite3_prepare_v2(d->db, "PRAGMA integrity_check", -1, &st, NULL), SQLITE_OK);
    rc = sqlite3_step(st);
    assert_int_equal(rc, SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(st, 0), "ok");
    sqlite3_finalize(st);
    assert_true(io_sqlite_vfs_sealed(d->db));
    assert_false(io_sqlite_vfs_damage(d->vfs, &info));
}

static void must_open(struct db *d, bool read_only)
{
    struct errinfo info = {0};

    if (db_open(d, read_only) != SQLITE_OK) {
        io_sqlite_vfs_damage(d->vfs, &info);
        fail_msg("opening: %s %s", sqlite3_errmsg(d->db), info.text);
    }
    whole(d);
}

static void life(uint64_t seed)
{
    struct db d = {.rng = seed};
    unsigned i, cycle;

    d.io = io_sim_new(seed);
    assert_int_equal(io_mkdir(d.io, "/d", NULL), ERR_OK);
    for (cycle = 0; cycle < 6; cycle++) {
        if (rnd(&d, 2)) {
            must_open(&d, true);
            db_close(&d);
        }
        must_open(&d, false);
        if (rnd(&d, 3))
            io_sim_crash_at(d.io, 1 + rnd(&d, 600));
        else if (rnd(&d, 2))
            io_sim_fail(d.io, 1 + rnd(&d, 300), rnd(&d, 2) ? ERR_NO_SPACE : ERR_IO, rnd(&d, 2));
        for (i = 0; i < 8 && !io_sim_crashed(d.io); i++) {
            transaction(&d);
            if (memcmp(d.sure, d.maybe, sizeof d.sure) != 0)
                break; /* it is not known whether that commit holds: open again to see */
        }
        db_close(&d);
        io_sim_crash(d.io);
    }
    must_open(&d, false);
    db_close(&d);
    io_sim_free(&d.io);
}

static void random_lives(void **state)
{
    uint64_t seed;

    for (seed = 1; seed <= 100; seed++)
        life(seed);
}

/* Each byte of the database in turn: a changed bit is refused, or the byte is in no use. */
static void flips(void **state)
{
    struct db d = {.rng = 3};
    struct errinfo info;
    uint64_t size = 0, at;
    uint32_t found[KEYS];
    bool there, ok;
    unsigned unseen = 0, i;

    d.io = io_sim_new(3);
    assert_int_equal(io_mkdir(d.io, "/d", NULL), ERR_OK);
    must_open(&d, false);
    for (i = 0; i < KEYS; i++)
        assert_int_equal(put(&d, i, d.sure[i] = 1 + i * 150), SQLITE_OK);
    db_close(&d);
    assert_int_equal(io_stat(d.io, PATH, &size, &there, NULL), ERR_OK);
    assert_true(size > 40 * 4096);
    for (at = 0; at < size; at += at < 4096 ? 1 : 61) {
        assert_true(io_sim_flip(d.io, PATH, at, at % 8));
        ok = db_open(&d, true) == SQLITE_OK && look(&d, found);
        if (ok)
            assert_memory_equal(found, d.sure, sizeof found);
        else if (io_sqlite_vfs_damage(d.vfs, &info)) /* else SQLite saw it, in its first look */
            assert_non_null(strstr(info.text, PATH));
        unseen += ok;
        db_close(&d);
        assert_true(io_sim_flip(d.io, PATH, at, at % 8));
    }
    assert_int_equal(unseen, 0); /* all pages are in use */
    must_open(&d, false);
    db_close(&d);
    io_sim_free(&d.io);
}

/* A rollback journal left by a crash; each byte of its pages in turn: a changed bit is refused. */
static void journal_flips(void **state)
{
    struct db d = {.rng = 3};
    uint64_t size = 0, at;
    uint32_t found[KEYS], i;
    bool there;

    d.io = io_sim_new(5);
    assert_int_equal(io_mkdir(d.io, "/d", NULL), ERR_OK);
    must_open(&d, false);
    for (i = 0; i < KEYS; i++)
        assert_int_equal(put(&d, i, d.sure[i] = 3000), SQLITE_OK);
    memcpy(d.maybe, d.sure, sizeof d.sure);
    assert_int_equal(sql(&d, "BEGIN"), SQLITE_OK);
    for (i = 0; i < 20; i++)
        assert_int_equal(put(&d, i, 2000), SQLITE_OK); /* more than the cache holds */
    io_sim_crash_at(d.io, 1);
    db_close(&d);
    io_sim_crash(d.io);
    must_open(&d, true);
    db_close(&d);
    assert_int_equal(io_stat(d.io, PATH "-journal", &size, &there, NULL), ERR_OK);
    assert_true(size > 3 * 4096);
    for (at = 4100; at < 8196; at += 7) {
        assert_true(io_sim_flip(d.io, PATH "-journal", at, at % 8));
        if (db_open(&d, true) == SQLITE_OK)
            fail_msg("byte %d of the journal is not checked, %d", (int)at, look(&d, found));
        db_close(&d);
        assert_true(io_sim_flip(d.io, PATH "-journal", at, at % 8));
    }
    must_open(&d, false);
    db_close(&d);
    io_sim_free(&d.io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_lives),
        cmocka_unit_test(flips),
        cmocka_unit_test(journal_flips),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
