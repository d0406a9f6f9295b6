/* The checkpoint database over io's SQLite VFS. See checkpoint.h. Written with a rollback journal
 * and full syncs, so a transaction is there wholly or not at all after any crash. */
#include "journal/checkpoint.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/sqlite_vfs.h"

#define FORMAT       2 /* 1: without checksums; converted when it is opened to be written */
#define FORMAT_PLAIN 1
#define APPLICATION  0x57454952 /* "WEIR", see io/page_sum.h */
#define SIGN         "PRAGMA application_id=0x57454952"

struct checkpoint {
    sqlite3 *db;
    struct io *io;
    char vfs[32];
    char path[512];
};

bool checkpoint_damage(struct checkpoint *c, struct errinfo *info)
{
    struct errinfo why = {0};

    if (!c || !io_sqlite_vfs_damage(c->vfs, &why))
        return false;
    errinfo_set(info, ERR_CORRUPT, "%s; `weir repair` makes it anew from the log", why.text);
    return true;
}

static enum err sql_err(struct checkpoint *c, int rc, const char *what, struct errinfo *info)
{
    enum err e;

    switch (rc & 0xff) {
    case SQLITE_FULL:
        e = ERR_NO_SPACE;
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_SCHEMA:
    case SQLITE_ERROR:
        e = ERR_CORRUPT;
        break;
    case SQLITE_NOMEM:
        e = ERR_NO_MEMORY;
        break;
    default:
        e = ERR_IO;
    }
    if (checkpoint_damage(c, info))
        return ERR_CORRUPT;
    return errinfo_set(info, e, "%s: %s: %s%s", c->path, what, sqlite3_errmsg(c->db),
                       e == ERR_CORRUPT ? "; `weir repair` makes it anew from the log" : "");
}

enum err checkpoint_error(struct checkpoint *c, const char *what, struct errinfo *info)
{
    return sql_err(c, sqlite3_errcode(c->db), what, info);
}

static enum err exec(struct checkpoint *c, const char *sql, struct errinfo *info)
{
    int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? ERR_OK : sql_err(c, rc, "the checkpoint cannot be written", info);
}

static enum err run(struct checkpoint *c, sqlite3_stmt *st, struct errinfo *info)
{
    int rc = sqlite3_step(st);
    enum err e =
        rc == SQLITE_DONE ? ERR_OK : sql_err(c, rc, "the checkpoint cannot be written", info);

    sqlite3_finalize(st);
    return e;
}

static enum err connect(struct checkpoint *c, const char *path, sqlite3 **db, struct errinfo *info)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    int rc = sqlite3_open_v2(path, db, flags, c->vfs);

    if (rc == SQLITE_OK)
        rc = sqlite3_exec(*db,
                          "PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=EXTRA;"
                          "PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=-1024;",
                          NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return sql_err(c, rc, "cannot be opened", info);
    return io_sqlite_vfs_prepare(*db) == ERR_OK
               ? ERR_OK
               : errinfo_set(info, ERR_UNSUPPORTED,
                             "%s: this SQLite cannot keep room for checksums", path);
}

/* The copy in which the conversion puts everything says whose it is, so that no single changed bit
 * makes it look like a database without checksums. */
static enum err copy_sign(struct checkpoint *c, const char *path, struct errinfo *info)
{
    sqlite3 *db = NULL, *mine = c->db;
    enum err e;

    c->db = NULL;
    e = connect(c, path, &c->db, info);
    if (!e)
        e = exec(c, SIGN, info);
    db = c->db;
    c->db = mine;
    sqlite3_close(db);
    return e;
}

static enum err copy_to(struct checkpoint *c, const char *path, struct errinfo *info)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->db, "VACUUM INTO ?", -1, &st, NULL);

    if (rc != SQLITE_OK)
        return sql_err(c, rc, "the checkpoint cannot be converted", info);
    sqlite3_bind_text(st, 1, path, -1, SQLITE_STATIC);
    return run(c, st, info);
}

/* From format 1 to 2: a copy whose pages have checksums takes the database's place. A crash leaves
 * the one or the other. */
static enum err convert(struct checkpoint *c, const char *dir, struct errinfo *info)
{
    struct io_file *f = NULL;
    char path[520];
    enum err e;

    snprintf(path, sizeof path, "%s/checkpoint.db.new", dir);
    e = io_unlink(c->io, path, info); /* left by a crash */
    if (e == ERR_NOT_FOUND || !e)
        e = copy_to(c, path, info);
    if (!e)
        e = copy_sign(c, path, info);
    if (!e)
        e = io_open(c->io, path, 0, &f, info);
    if (!e)
        e = io_sync(f, info);
    io_close(&f);
    sqlite3_close(c->db);
    c->db = NULL;
    if (!e)
        e = io_rename(c->io, path, c->path, info);
    if (!e)
        e = io_sync_dir(c->io, dir, info);
    return e ? e : connect(c, c->path, &c->db, info);
}

static enum err sign(struct checkpoint *c, struct errinfo *info)
{
    sqlite3_stmt *st = NULL;
    bool is = false;
    int rc = sqlite3_prepare_v2(c->db, "PRAGMA application_id", -1, &st, NULL);

    if (rc != SQLITE_OK)
        return sql_err(c, rc, "the checkpoint cannot be read", info);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        is = sqlite3_column_int(st, 0) == APPLICATION;
    sqlite3_finalize(st);
    if (rc != SQLITE_ROW)
        return sql_err(c, rc, "the checkpoint cannot be read", info);
    return is || !io_sqlite_vfs_sealed(c->db) ? ERR_OK : exec(c, SIGN, info);
}

static const char tables_sql[] =
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS files(id INTEGER PRIMARY KEY, kind, size, used,"
    " first_seq, last_seq, last_crc, position, position_end);"
    "CREATE TABLE IF NOT EXISTS lost(position INTEGER PRIMARY KEY, position_end);"
    "CREATE TABLE IF NOT EXISTS ends(uid INTEGER PRIMARY KEY, next, position);";

enum err checkpoint_open(struct io *io, const char *dir, bool read_only, struct checkpoint **out,
                         struct errinfo *info)
{
    struct checkpoint *c = xcalloc(1, sizeof *c);
    enum err e;

    c->io = io;
    snprintf(c->path, sizeof c->path, "%s/checkpoint.db", dir);
    if ((e = io_sqlite_vfs_register(io, read_only, c->vfs))) {
        free(c);
        return errinfo_set(info, e, "the checkpoint's file layer cannot be registered");
    }
    e = connect(c, c->path, &c->db, info);
    if (!e && !read_only && !io_sqlite_vfs_sealed(c->db))
        e = convert(c, dir, info);
    if (!e)
        e = sign(c, info);
    if (!e) /* read-only: in memory, as is the rollback of what a crash left half done */
        e = exec(c, tables_sql, info);
    if (e)
        checkpoint_close(&c);
    *out = c;
    return e;
}

void checkpoint_close(struct checkpoint **cp)
{
    struct checkpoint *c = *cp;

    if (!c)
        return;
    sqlite3_close(c->db);
    io_sqlite_vfs_unregister(c->vfs);
    free(c);
    *cp = NULL;
}

struct sqlite3 *checkpoint_db(struct checkpoint *c)
{
    return c->db;
}

static enum err meta_row(sqlite3_stmt *st, struct checkpoint_meta *m, int *format)
{
    const char *key = (const char *)sqlite3_column_text(st, 0);
    int64_t v = sqlite3_column_int64(st, 1);

    if (!key)
        return ERR_CORRUPT;
    if (strcmp(key, "format") == 0) {
        *format = (int)v;
        m->found = true;
    } else if (strcmp(key, "applied_seq") == 0) {
        m->applied_seq = (uint64_t)v;
    } else if (strcmp(key, "next_position") == 0) {
        m->next_position = (uint64_t)v;
    } else if (strcmp(key, "next_file_id") == 0) {
        m->next_file_id = (uint64_t)v;
    } else if (strcmp(key, "sealed_id") == 0) {
        m->sealed_id = (uint64_t)v;
    } else if (strcmp(key, "sealed_seq") == 0) {
        m->sealed_seq = (uint64_t)v;
    } else if (strcmp(key, "sealed_crc") == 0) {
        m->sealed_crc = (uint32_t)v;
    } else if (strcmp(key, "clean") == 0) {
        m->clean = v != 0;
    } else if (strcmp(key, "log_id") == 0) {
        if (sqlite3_column_bytes(st, 1) != 16)
            return ERR_CORRUPT;
        memcpy(m->log_id, sqlite3_column_blob(st, 1), 16);
    }
    return ERR_OK;
}

enum err checkpoint_meta_load(struct checkpoint *c, struct checkpoint_meta *m, struct errinfo *info)
{
    sqlite3_stmt *st = NULL;
    enum err e = ERR_OK;
    int rc, format = FORMAT;

    memset(m, 0, sizeof *m);
    rc = sqlite3_prepare_v2(c->db, "SELECT key, value FROM meta", -1, &st, NULL);
    if (rc != SQLITE_OK)
        return sql_err(c, rc, "the checkpoint cannot be read", info);
    while (!e && (rc = sqlite3_step(st)) == SQLITE_ROW)
        e = meta_row(st, m, &format);
    sqlite3_finalize(st);
    if (e)
        return errinfo_set(info, e, "%s: a row of meta is damaged; run `weir repair`", c->path);
    if (rc != SQLITE_DONE)
        return sql_err(c, rc, "the checkpoint cannot be read", info);
    if (format != FORMAT && format != FORMAT_PLAIN)
        return errinfo_set(info, ERR_FORMAT, "%s has format %d, this program reads format %d",
                           c->path, format, FORMAT);
    if (format == FORMAT && !io_sqlite_vfs_sealed(c->db))
        return errinfo_set(info, ERR_CORRUPT, "%s: its header is damaged; run `weir repair`",
                           c->path);
    return ERR_OK;
}

enum err checkpoint_files_load(struct checkpoint *c,
                               enum err (*fn)(void *arg, const struct checkpoint_file *f,
                                              struct errinfo *info),
                               void *arg, struct errinfo *info)
{
    sqlite3_stmt *st = NULL;
    enum err e = ERR_OK;
    int rc = sqlite3_prepare_v2(c->db,
                                "SELECT id, kind, size, used, first_seq, last_seq, last_crc,"
                                " position, position_end FROM files ORDER BY id",
                                -1, &st, NULL);

    if (rc != SQLITE_OK)
        return sql_err(c, rc, "the checkpoint cannot be read", info);
    while (!e && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct checkpoint_file f = {.id = (uint64_t)sqlite3_column_int64(st, 0),
                                    .kind = (uint32_t)sqlite3_column_int64(st, 1),
                                    .size = (uint64_t)sqlite3_column_int64(st, 2),
                                    .used = (uint64_t)sqlite3_column_int64(st, 3),
                                    .first_seq = (uint64_t)sqlite3_column_int64(st, 4),
                                    .last_seq = (uint64_t)sqlite3_column_int64(st, 5),
                                    .last_crc = (uint32_t)sqlite3_column_int64(st, 6),
                                    .position = (uint64_t)sqlite3_column_int64(st, 7),
                                    .position_end = (uint64_t)sqlite3_column_int64(st, 8)};

        e = fn(arg, &f, info);
    }
    sqlite3_finalize(st);
    if (!e && rc != SQLITE_DONE)
        e = sql_err(c, rc, "the checkpoint cannot be read", info);
    return e;
}

enum err checkpoint_begin(struct checkpoint *c, struct errinfo *info)
{
    return exec(c, "BEGIN IMMEDIATE", info);
}

enum err checkpoint_commit(struct checkpoint *c, struct errinfo *info)
{
    return exec(c, "COMMIT", info);
}

void checkpoint_rollback(struct checkpoint *c)
{
    if (!sqlite3_get_autocommit(c->db))
        sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
}

static enum err meta_put(struct checkpoint *c, const char *key, uint64_t v, const uint8_t *blob,
                         struct errinfo *info)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->db, "INSERT OR REPLACE INTO meta(key, value) VALUES(?, ?)", -1,
                                &st, NULL);

    if (rc != SQLITE_OK)
        return sql_err(c, rc, "the checkpoint cannot be written", info);
    sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
    if (blob)
        sqlite3_bind_blob(st, 2, blob, 16, SQLITE_STATIC);
    else
        sqlite3_bind_int64(st, 2, (int64_t)v);
    return run(c, st, info);
}

enum err checkpoint_meta_save(struct checkpoint *c, const struct checkpoint_meta *m,
                              struct errinfo *info)
{
    enum err e = meta_put(c, "format", FORMAT, NULL, info);

    if (!e)
        e = meta_put(c, "log_id", 0, m->log_id, info);
    if (!e)
        e = meta_put(c, "applied_seq", m->applied_seq, NULL, info);
    if (!e)
        e = meta_put(c, "next_position", m->next_position, NULL, info);
    if (!e)
        e = meta_put(c, "next_file_id", m->next_file_id, NULL, info);
    if (!e)
        e = meta_put(c, "sealed_id", m->sealed_id, NULL, info);
    if (!e)
        e = meta_put(c, "sealed_seq", m->sealed_seq, NULL, info);
    if (!e)
        e = meta_put(c, "sealed_crc", m->sealed_crc, NULL, info);
    if (!e)
        e = meta_put(c, "clean", m->clean, NULL, info);
    return e;
}

enum err checkpoint_file_save(struct checkpoint *c, const struct checkpoint_file *f,
                              struct errinfo *info)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->db, "INSERT OR REPLACE INTO files VALUES(?,?,?,?,?,?,?,?,?)", -1,
                                &st, NULL);

    if (rc != SQLITE_OK)
        return sql_err(c, rc, "the checkpoint cannot be written", info);
    sqlite3_bind_int64(st, 1, (int64_t)f->id);
    sqlite3_bind_int64(st, 2, (int64_t)f->kind);
    sqlite3_bind_int64(st, 3, (int64_t)f->size);
    sqlite3_bind_int64(st, 4, (int64_t)f->used);
    sqlite3_bind_int64(st, 5, (int64_t)f->first_seq);
    sqlite3_bind_int64(st, 6, (int64_t)f->last_seq);
    sqlite3_bind_int64(st, 7, (int64_t)f->last_crc);
    sqlite3_bind_int64(st, 8, (int64_t)f->position);
    sqlite3_bind_int64(st, 9, (int64_t)f->position_end);
    return run(c, st, info);
}

enum err checkpoint_file_delete(struct checkpoint *c, uint64_t id, struct errinfo *info)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->db, "DELETE FROM files WHERE id = ?", -1, &st, NULL);

    if (rc != SQLITE_OK)
        return sql_err(c, rc, "the checkpoint cannot be written", info);
    sqlite3_bind_int64(st, 1, (int64_t)id);
    return run(c, st, info);
}

enum err checkpoint_verify(struct checkpoint *c, struct errinfo *info)
{
    sqlite3_stmt *st = NULL;
    enum err e = ERR_OK;
    const char *text;
    int rc = sqlite3_prepare_v2(c->db, "PRAGMA integrity_check(1)", -1, &st, NULL);

    if (rc != SQLITE_OK)
        return sql_err(c, rc, "cannot be checked", info);
    rc = sqlite3_step(st);
    text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(st, 0) : sqlite3_errmsg(c->db);
    if (rc != SQLITE_ROW || !text || strcmp(text, "ok") != 0)
        e = errinfo_set(info, ERR_CORRUPT, "%s: %s; run `weir repair`", c->path,
                        text ? text : "unknown damage");
    sqlite3_finalize(st);
    return e;
}
