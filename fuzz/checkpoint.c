/* Fuzzing of what is loaded from a checkpoint: a broker leaves one behind on a simulated disk, rows
 * of the broker's tables are changed through SQL, so that the database itself is sound, and it
 * opens again.
 *
 * An input is changes: table, column, kind, and a value of eight bytes; the kind says whether a row
 * is changed or a copy of one is added, and of what type the value is. Tables and columns are those
 * that the database has. Checked beside the sanitizers: what is refused is refused with words; what
 * is taken works: it is read and written, saved and loaded once more. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/endian.h"
#include "broker/broker.h"
#include "io/sim.h"
#include "io/sqlite_vfs.h"
#include "journal/batch.h"

#define CHANGE      11u /* bytes */
#define CHANGES_MAX 16u
#define NAMES_MAX   32u
#define ADD         0x80u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum err start(struct io *io, struct broker **b, struct errinfo *info)
{
    struct broker_conf c = {.dir = "/d",
                            .io = io,
                            .topics_auto_create = true,
                            .journal_file_bytes = 64u << 10,
                            .inflight_bytes = 1u << 20};

    *info = (struct errinfo){0};
    return broker_open(&c, b, info);
}

static void work(struct broker *b)
{
    struct append_record r = {.timestamp_ms = 1700000000000,
                              .key = SLICE_LIT("key"),
                              .value = SLICE_LIT("value"),
                              .dedup_id = SLICE_LIT("id")};
    struct append *a = append_new(b, NULL, NULL);
    struct topic *t = NULL;
    struct append_slot slot;

    if (topic_find_or_create_wait(b, SLICE_LIT("orders"), &t, NULL) == ERR_OK) {
        if (append_record(a, t, 0, &r, &slot, NULL) == ERR_OK)
            append_submit_wait(a, NULL);
        group_commit_wait(b, SLICE_LIT("group"), topic_partition(t, 0), 1, SLICE_LIT("m"), NULL);
    }
    append_free(&a);
    kv_put_wait(b, "ns", SLICE_LIT("key"), SLICE_LIT("value"), 0, NULL);
    topic_unref(&t);
}

static void read_some(struct broker *b)
{
    struct reader_conf rc = {.selector = SLICE_LIT("*"), .partition = -1, .from = READ_FROM_START};
    struct reader_record rec;
    struct reader *r = NULL;
    struct errinfo info;
    struct buf v;
    unsigned i;

    buf_init(&v, 1u << 20);
    kv_get(b, "ns", SLICE_LIT("key"), &v);
    buf_fini(&v);
    if (reader_open(b, &rc, &r, &info))
        return;
    for (i = 0; i < 100 && reader_next(r, &rec, &info) == ERR_OK; i++)
        ;
    reader_close(&r);
}

/* ---- changes ---- */

struct names {
    char name[NAMES_MAX][64];
    unsigned n;
};

static void names_get(sqlite3 *db, const char *sql, struct names *out)
{
    sqlite3_stmt *st = NULL;

    out->n = 0;
    ASSERT(sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK);
    while (out->n < NAMES_MAX && sqlite3_step(st) == SQLITE_ROW)
        snprintf(out->name[out->n++], sizeof out->name[0], "%s", sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
}

static void value_bind(sqlite3_stmt *st, uint8_t kind, const uint8_t *v)
{
    switch (kind % 5) {
    case 0:
        sqlite3_bind_int64(st, 1, (int64_t)le64_load(v));
        break;
    case 1:
        sqlite3_bind_int64(st, 1, (int8_t)v[0]);
        break;
    case 2:
        sqlite3_bind_text(st, 1, (const char *)v + 1, v[0] % 8, SQLITE_TRANSIENT);
        break;
    case 3:
        sqlite3_bind_blob(st, 1, v + 1, v[0] % 8, SQLITE_TRANSIENT);
        break;
    default:
        sqlite3_bind_double(st, 1, (double)(int64_t)le64_load(v));
    }
}

/* One change; a row that SQLite's own constraints refuse is left as it was. */
static void change(sqlite3 *db, const struct names *tables, const uint8_t *p)
{
    const char *table = tables->name[p[0] % tables->n];
    struct names columns;
    sqlite3_stmt *st = NULL;
    char sql[1024];
    size_t n = 0;
    unsigned i, at;

    snprintf(sql, sizeof sql, "SELECT name FROM pragma_table_info('%s')", table);
    names_get(db, sql, &columns);
    at = p[1] % columns.n;
    if (p[2] & ADD) {
        n += (size_t)snprintf(sql, sizeof sql, "INSERT OR IGNORE INTO %s SELECT ", table);
        for (i = 0; i < columns.n; i++)
            n += (size_t)snprintf(sql + n, sizeof sql - n, "%s%s", i ? "," : "",
                                  i == at ? "?1" : columns.name[i]);
        snprintf(sql + n, sizeof sql - n, " FROM %s LIMIT 1", table);
    } else {
        snprintf(sql, sizeof sql, "UPDATE OR IGNORE %s SET %s = ?1", table, columns.name[at]);
    }
    ASSERT(sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK);
    value_bind(st, p[2] & ~ADD, p + 3);
    sqlite3_step(st);
    sqlite3_finalize(st);
}

/* The journal's own tables are left alone: what they say is tied to its files. */
static void changes(struct io *io, const uint8_t *data, size_t size)
{
    char vfs[IO_SQLITE_VFS_NAME];
    struct names tables;
    sqlite3 *db = NULL;
    unsigned i;

    ASSERT(!io_sqlite_vfs_register(io, false, vfs));
    ASSERT(sqlite3_open_v2("/d/checkpoint.db", &db, SQLITE_OPEN_READWRITE, vfs) == SQLITE_OK);
    names_get(db,
              "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN"
              " ('meta', 'files') AND name NOT LIKE 'sqlite%' ORDER BY name",
              &tables);
    ASSERT(sqlite3_exec(db, "BEGIN", NULL, NULL, NULL) == SQLITE_OK);
    for (i = 0; i < CHANGES_MAX && size >= CHANGE; i++, data += CHANGE, size -= CHANGE)
        change(db, &tables, data);
    ASSERT(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(db);
    io_sqlite_vfs_unregister(vfs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct broker *b = NULL;
    struct errinfo info;
    struct io *io;
    enum err e;

    if (size > CHANGES_MAX * CHANGE)
        return 0;
    io = io_sim_new(1);
    ASSERT(!start(io, &b, &info));
    work(b);
    broker_close(&b);
    changes(io, data, size);
    e = start(io, &b, &info);
    ASSERT(e == ERR_OK || (!b && info.text[0]));
    if (!e) {
        read_some(b);
        work(b);
        broker_close(&b);
        if (start(io, &b, &info)) {
            fprintf(stderr, "what was taken is not taken again: %s\n", info.text);
            abort();
        }
        broker_close(&b);
    }
    io_sim_free(&io);
    return 0;
}
