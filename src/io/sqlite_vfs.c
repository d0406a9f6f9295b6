/* The VFS methods. See sqlite_vfs.h; contract: https://sqlite.org/c3ref/vfs.html. */
#include "io/sqlite_vfs.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/list.h"
#include "base/mem.h"
#include "io/overlay.h"
#include "io/page_sum.h"

#define COPY_BYTES   65536u
#define IO_PATH_MAX  512
#define FCNTL_SEALED 0x57454952 /* ours: bool *: has the file checksums? */

struct vfs {
    sqlite3_vfs base;
    struct io *io;
    char name[IO_SQLITE_VFS_NAME];
    bool read_only;
    struct list_head overlays;  /* read_only: the files that were touched */
    struct list_head databases; /* open ones */
    char damage[IO_PATH_MAX];   /* the file whose page was found damaged first; "": none */
    uint64_t damage_at;
};

struct vfs_file {
    sqlite3_file base;
    struct list_node link; /* VFS's databases */
    struct vfs *vfs;
    struct io *io;
    const char *name; /* SQLite's */
    enum { F_OTHER, F_DATABASE, F_JOURNAL } kind;
    bool sealed;       /* pages have checksums */
    bool unsynced;     /* the last sync failed */
    uint64_t end;      /* F_DATABASE: size as far as known */
    uint64_t four_off; /* F_JOURNAL: last four bytes read or written: a page's number */
    uint32_t four;
    struct io_file *f;    /* or, read-only, */
    struct overlay *over; /* the VFS's */
    char *dir;            /* to be synced with the first sync after the file was made; else NULL */
    char *delete_path;    /* SQLITE_OPEN_DELETEONCLOSE */
};

static int rc_of(enum err e, int other)
{
    return e == ERR_OK          ? SQLITE_OK
           : e == ERR_NO_SPACE  ? SQLITE_FULL
           : e == ERR_NO_MEMORY ? SQLITE_NOMEM
                                : other;
}

/* The file's changes so far; looks at the disk when it is touched for the first time. */
static enum err overlay_of(struct vfs *v, const char *path, struct overlay **out)
{
    struct overlay *o;
    enum err e;

    list_for_each(o, &v->overlays, struct overlay, link) if (strcmp(o->path, path) == 0)
    {
        *out = o;
        return ERR_OK;
    }
    o = xcalloc(1, sizeof *o);
    if ((e = overlay_init(o, v->io, path, NULL))) {
        overlay_fini(o);
        free(o);
        return e;
    }
    list_push_back(&v->overlays, &o->link);
    *out = o;
    return ERR_OK;
}

static int f_close(sqlite3_file *sf)
{
    struct vfs_file *v = (struct vfs_file *)sf;

    if (v->kind == F_DATABASE)
        list_remove(&v->link);
    io_close(&v->f);
    if (v->delete_path && v->over)
        overlay_remove(v->over);
    else if (v->delete_path)
        io_unlink(v->io, v->delete_path, NULL);
    free(v->delete_path);
    free(v->dir);
    v->dir = v->delete_path = NULL;
    return SQLITE_OK;
}

static enum err bytes_read(struct vfs_file *v, void *buf, size_t n, uint64_t off, size_t *got)
{
    *got = 0;
    return v->over ? overlay_read(v->over, buf, n, off, got, NULL)
                   : io_pread(v->f, buf, n, off, got, NULL);
}

/* ---- pages ---- */

static int damaged(struct vfs_file *v, uint64_t off)
{
    if (!v->vfs->damage[0]) {
        snprintf(v->vfs->damage, sizeof v->vfs->damage, "%s", v->name);
        v->vfs->damage_at = off;
    }
    return SQLITE_CORRUPT;
}

/* Any part of a database: each page that it touches is checked as a whole. Only SQLite's first look
 * at the header is not, since a crash may have left page 1 half written; the page is read again as
 * a whole after what the journal has was put back. */
static int pages_read(struct vfs_file *v, uint8_t *to, size_t n, uint64_t off)
{
    uint8_t page[PAGE_BYTES];
    size_t got, part, done;

    for (done = 0; done < n; done += part) {
        uint64_t i = (off + done) / PAGE_BYTES, in = (off + done) % PAGE_BYTES;

        part = n - done < PAGE_BYTES - in ? n - done : (size_t)(PAGE_BYTES - in);
        if (bytes_read(v, page, sizeof page, i * PAGE_BYTES, &got))
            return SQLITE_IOERR_READ;
        if (got == 0) {
            memset(to + done, 0, n - done);
            return SQLITE_IOERR_SHORT_READ;
        }
        if (got < sizeof page || !page_ok(page, (uint32_t)i + 1))
            return damaged(v, i * PAGE_BYTES);
        memcpy(to + done, page + in, part);
    }
    return SQLITE_OK;
}

/* Of a rollback journal, pages alone have this length and do not begin at a whole sector. */
static bool journal_page(const struct vfs_file *v, int n, sqlite3_int64 off)
{
    return v->kind == F_JOURNAL && v->sealed && n == (int)PAGE_BYTES && off % PAGE_BYTES;
}

static void four_note(struct vfs_file *v, const void *buf, int n, sqlite3_int64 off)
{
    if (n != 4)
        return;
    v->four = be32_load(buf);
    v->four_off = (uint64_t)off;
}

static int f_read(sqlite3_file *sf, void *buf, int n, sqlite3_int64 off)
{
    struct vfs_file *v = (struct vfs_file *)sf;
    size_t got;

    if (v->kind == F_DATABASE && v->sealed && off + n > (int)PAGE_HEADER_READ)
        return pages_read(v, buf, (size_t)n, (uint64_t)off);
    if (bytes_read(v, buf, (size_t)n, (uint64_t)off, &got))
        return SQLITE_IOERR_READ;
    if (got < (size_t)n) {
        memset((char *)buf + got, 0, (size_t)n - got);
        return SQLITE_IOERR_SHORT_READ;
    }
    if (journal_page(v, n, off) && (v->four_off + 4 != (uint64_t)off || !page_ok(buf, v->four)))
        return damaged(v, (uint64_t)off);
    four_note(v, buf, n, off);
    return SQLITE_OK;
}

static enum err bytes_write(struct vfs_file *v, const void *buf, size_t n, uint64_t off)
{
    return v->over ? overlay_write(v->over, buf, n, off, NULL) : io_pwrite(v->f, buf, n, off, NULL);
}

/* Pages that SQLite leaves out when a database grows are not in use; they are whole all the same,
 * since it may read them before it writes them. */
static enum err pages_fill(struct vfs_file *v, uint64_t until)
{
    uint8_t page[PAGE_BYTES];
    enum err e = ERR_OK;

    while (!e && v->end < until) {
        memset(page, 0, sizeof page);
        page_seal(page, (uint32_t)(v->end / PAGE_BYTES) + 1);
        e = bytes_write(v, page, sizeof page, v->end);
        v->end += e ? 0 : PAGE_BYTES;
    }
    return e;
}

static int page_write(struct vfs_file *v, const void *buf, uint64_t off, uint32_t number)
{
    uint8_t page[PAGE_BYTES];
    enum err e = ERR_OK;

    memcpy(page, buf, sizeof page);
    if (number == 1 && !page_is_sealing(page))
        return SQLITE_IOERR_WRITE; /* io_sqlite_vfs_prepare was not called */
    page_seal(page, number);
    if (v->kind == F_DATABASE)
        e = pages_fill(v, off);
    if (!e)
        e = bytes_write(v, page, sizeof page, off);
    if (!e && off + sizeof page > v->end)
        v->end = off + sizeof page;
    return rc_of(e, SQLITE_IOERR_WRITE);
}

static int f_truncate(sqlite3_file *sf, sqlite3_int64 size)
{
    struct vfs_file *v = (struct vfs_file *)sf;

    enum err e = v->over ? overlay_truncate(v->over, (uint64_t)size, NULL)
                         : io_truncate(v->f, (uint64_t)size, NULL);

    if (!e)
        v->end = (uint64_t)size;
    return rc_of(e, SQLITE_IOERR_TRUNCATE);
}

static int f_sync(sqlite3_file *sf, int flags)
{
    struct vfs_file *v = (struct vfs_file *)sf;
    enum err e = v->over ? ERR_OK : io_sync(v->f, NULL);

    v->unsynced = e != ERR_OK;
    if (!e && v->dir) {
        e = io_sync_dir(v->io, v->dir, NULL);
        if (!e) {
            free(v->dir);
            v->dir = NULL;
        }
    }
    return rc_of(e, SQLITE_IOERR_FSYNC);
}

/* SQLite's way of ending a journal that it wants to use again: its header becomes zeros. */
static bool journal_ended(const struct vfs_file *v, const void *buf, int n, sqlite3_int64 off)
{
    static const uint8_t zeros[28];

    return v->kind == F_JOURNAL && v->sealed && off == 0 && n == (int)sizeof zeros &&
           memcmp(buf, zeros, sizeof zeros) == 0;
}

static int f_write(sqlite3_file *sf, const void *buf, int n, sqlite3_int64 off)
{
    struct vfs_file *v = (struct vfs_file *)sf;

    if (v->kind == F_DATABASE && v->sealed)
        return n == (int)PAGE_BYTES && off % PAGE_BYTES == 0
                   ? page_write(v, buf, (uint64_t)off, (uint32_t)(off / PAGE_BYTES) + 1)
                   : SQLITE_IOERR_WRITE;
    if (journal_page(v, n, off))
        return v->four_off + 4 == (uint64_t)off ? page_write(v, buf, (uint64_t)off, v->four)
                                                : SQLITE_IOERR_WRITE;
    if (v->kind == F_JOURNAL && v->unsynced && off == 0 && f_sync(sf, 0) != SQLITE_OK)
        return SQLITE_IOERR_WRITE;     /* that the one before has ended must be certain first */
    if (journal_ended(v, buf, n, off)) /* what is left of it would be met by a later rollback */
        return f_truncate(sf, 0);
    four_note(v, buf, n, off);
    return rc_of(bytes_write(v, buf, (size_t)n, (uint64_t)off), SQLITE_IOERR_WRITE);
}

static int f_size(sqlite3_file *sf, sqlite3_int64 *size)
{
    struct vfs_file *v = (struct vfs_file *)sf;
    uint64_t n = 0;
    enum err e = ERR_OK;

    if (v->over)
        n = v->over->size;
    else
        e = io_size(v->f, &n, NULL);
    *size = (sqlite3_int64)n;
    return rc_of(e, SQLITE_IOERR_FSTAT);
}

static int f_lock(sqlite3_file *sf, int level)
{
    return SQLITE_OK;
}

static int f_reserved(sqlite3_file *sf, int *out)
{
    *out = 0;
    return SQLITE_OK;
}

static int f_control(sqlite3_file *sf, int op, void *arg)
{
    if (op != FCNTL_SEALED)
        return SQLITE_NOTFOUND;
    *(bool *)arg = ((struct vfs_file *)sf)->sealed;
    return SQLITE_OK;
}

static int f_sector(sqlite3_file *sf)
{
    return 4096;
}

static int f_characteristics(sqlite3_file *sf)
{
    return 0;
}

static const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = f_close,
    .xRead = f_read,
    .xWrite = f_write,
    .xTruncate = f_truncate,
    .xSync = f_sync,
    .xFileSize = f_size,
    .xLock = f_lock,
    .xUnlock = f_lock,
    .xCheckReservedLock = f_reserved,
    .xFileControl = f_control,
    .xSectorSize = f_sector,
    .xDeviceCharacteristics = f_characteristics,
};

static char *dir_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *d = xstrdup(slash ? path : ".");

    if (slash)
        d[slash - path] = 0;
    return d;
}

static int open_over(struct vfs *v, struct vfs_file *vf, const char *name, int flags)
{
    if (overlay_of(v, name, &vf->over))
        return SQLITE_CANTOPEN;
    if (!vf->over->there && !(flags & SQLITE_OPEN_CREATE))
        return SQLITE_CANTOPEN;
    vf->over->there = true;
    return SQLITE_OK;
}

static int open_disk(struct vfs *v, struct vfs_file *vf, const char *name, int flags)
{
    unsigned f = flags & SQLITE_OPEN_READONLY ? IO_RDONLY : 0;
    uint64_t size;
    bool there = false;

    io_stat(v->io, name, &size, &there, NULL);
    if (flags & SQLITE_OPEN_CREATE)
        f |= IO_CREATE;
    if (flags & SQLITE_OPEN_EXCLUSIVE)
        f |= IO_EXCL;
    if (io_open(v->io, name, f, &vf->f, NULL))
        return SQLITE_CANTOPEN;
    if (!there)
        vf->dir = dir_of(name);
    return SQLITE_OK;
}

/* Has the database at hand checksums? Its first page says so; or, if a crash left that half
 * written, the rollback journal's first page, which was whole before any page was changed. If
 * neither can tell, then yes, so that reading it finds the damage. */
static int sealed_look(struct vfs *v, struct vfs_file *vf, struct vfs_file *journal)
{
    uint8_t page[PAGE_BYTES];
    size_t got;

    vf->sealed = true;
    if (bytes_read(vf, page, sizeof page, 0, &got))
        return SQLITE_IOERR_READ;
    if (got < sizeof page || page_ok(page, 1))
        return SQLITE_OK;
    if (page_is_plain(page)) {
        vf->sealed = false;
        return SQLITE_OK;
    }
    if (!journal)
        return SQLITE_OK;
    if (bytes_read(journal, page, sizeof page, PAGE_JOURNAL_FIRST, &got))
        return SQLITE_IOERR_READ;
    vf->sealed = got < sizeof page || page_ok(page, page_number(page));
    return SQLITE_OK;
}

static enum err copy_synced(struct vfs *v, const char *from, const char *to, uint64_t size)
{
    struct io_file *in = NULL, *out = NULL;
    uint8_t *mem = xmalloc(COPY_BYTES);
    uint64_t at = 0;
    size_t got = 0;
    enum err e;

    e = io_open(v->io, from, IO_RDONLY, &in, NULL);
    if (!e)
        e = io_open(v->io, to, IO_CREATE | IO_TRUNC, &out, NULL);
    for (; !e && at < size; at += got) {
        got = 0;
        e = io_pread(in, mem, COPY_BYTES, at, &got, NULL);
        if (!e && got == 0)
            e = ERR_IO;
        if (!e)
            e = io_pwrite(out, mem, got, at, NULL);
    }
    if (!e)
        e = io_sync(out, NULL);
    io_close(&out);
    io_close(&in);
    free(mem);
    return e;
}

/* What is left of a rollback journal is made certain before it is used. The run before may have
 * ended with a failed sync, after which a system may show bytes that are not on the disk and that
 * no later sync writes: only writing them again does. */
static enum err journal_settle(struct vfs *v, const char *name)
{
    char copy[IO_PATH_MAX + 8], *dir;
    struct io_file *f = NULL;
    uint64_t size = 0;
    bool there = false;
    enum err e = io_stat(v->io, name, &size, &there, NULL);

    if (e || !there)
        return e;
    if (size == 0) {
        e = io_open(v->io, name, 0, &f, NULL);
        if (!e)
            e = io_sync(f, NULL);
        io_close(&f);
        return e;
    }
    snprintf(copy, sizeof copy, "%s.new", name);
    e = copy_synced(v, name, copy, size);
    if (!e)
        e = io_rename(v->io, copy, name, NULL);
    dir = dir_of(name);
    if (!e)
        e = io_sync_dir(v->io, dir, NULL);
    free(dir);
    return e;
}

static int database_opened(struct vfs *v, struct vfs_file *vf)
{
    struct vfs_file journal = {.vfs = v, .io = v->io};
    const char *name = sqlite3_filename_journal(vf->name);
    sqlite3_int64 size = 0;
    bool there;
    int rc;

    if (!v->read_only && journal_settle(v, name))
        return SQLITE_IOERR_FSYNC;
    there = (v->read_only ? open_over(v, &journal, name, 0)
                          : open_disk(v, &journal, name, SQLITE_OPEN_READONLY)) == SQLITE_OK;
    rc = sealed_look(v, vf, there ? &journal : NULL);
    free(journal.dir);
    io_close(&journal.f);
    if (!rc)
        rc = f_size(&vf->base, &size);
    vf->end = (uint64_t)size;
    return rc;
}

static void journal_opened(struct vfs *v, struct vfs_file *vf)
{
    const char *name = sqlite3_filename_database(vf->name);
    struct vfs_file *d;

    list_for_each(d, &v->databases, struct vfs_file, link) if (strcmp(d->name, name) == 0)
        vf->sealed = d->sealed;
}

static int v_open(sqlite3_vfs *sv, sqlite3_filename name, sqlite3_file *sf, int flags,
                  int *out_flags)
{
    struct vfs *v = (struct vfs *)sv;
    struct vfs_file *vf = (struct vfs_file *)sf;
    int rc;

    memset(vf, 0, sizeof *vf);
    if (!name)
        return SQLITE_CANTOPEN; /* temporary files: memory serves (temp_store) */
    vf->vfs = v;
    vf->io = v->io;
    vf->name = name;
    rc = v->read_only ? open_over(v, vf, name, flags) : open_disk(v, vf, name, flags);
    if (!rc && flags & SQLITE_OPEN_MAIN_DB)
        rc = database_opened(v, vf);
    if (rc) {
        io_close(&vf->f);
        free(vf->dir);
        vf->dir = NULL;
        return rc;
    }
    vf->kind = flags & SQLITE_OPEN_MAIN_DB        ? F_DATABASE
               : flags & SQLITE_OPEN_MAIN_JOURNAL ? F_JOURNAL
                                                  : F_OTHER;
    if (vf->kind == F_DATABASE)
        list_push_back(&v->databases, &vf->link);
    if (vf->kind == F_JOURNAL)
        journal_opened(v, vf);
    if (flags & SQLITE_OPEN_DELETEONCLOSE)
        vf->delete_path = xstrdup(name);
    vf->base.pMethods = &methods;
    if (out_flags)
        *out_flags = flags;
    return SQLITE_OK;
}

static int delete_over(struct vfs *v, const char *name)
{
    struct overlay *o;

    if (overlay_of(v, name, &o))
        return SQLITE_IOERR_DELETE;
    if (!o->there)
        return SQLITE_IOERR_DELETE_NOENT;
    overlay_remove(o);
    return SQLITE_OK;
}

static int v_delete(sqlite3_vfs *sv, const char *name, int sync_dir)
{
    struct vfs *v = (struct vfs *)sv;
    enum err e;
    char *d;

    if (v->read_only)
        return delete_over(v, name);
    e = io_unlink(v->io, name, NULL);
    if (e == ERR_NOT_FOUND)
        return SQLITE_IOERR_DELETE_NOENT;
    if (!e && sync_dir) {
        d = dir_of(name);
        e = io_sync_dir(v->io, d, NULL);
        free(d);
    }
    return rc_of(e, SQLITE_IOERR_DELETE);
}

static int v_access(sqlite3_vfs *sv, const char *name, int flags, int *out)
{
    struct vfs *v = (struct vfs *)sv;
    struct overlay *o;
    uint64_t size = 0;
    bool there = false;
    enum err e;

    if (v->read_only) {
        e = overlay_of(v, name, &o);
        there = !e && o->there;
        size = there ? o->size : 0;
    } else {
        e = io_stat(v->io, name, &size, &there, NULL);
    }
    *out = there && (flags != SQLITE_ACCESS_EXISTS || size > 0);
    return rc_of(e, SQLITE_IOERR_ACCESS);
}

static int v_full(sqlite3_vfs *sv, const char *name, int n, char *out)
{
    return snprintf(out, (size_t)n, "%s", name) < n ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int v_random(sqlite3_vfs *sv, int n, char *out)
{
    io_random(((struct vfs *)sv)->io, out, (size_t)n);
    return n;
}

static int v_sleep(sqlite3_vfs *sv, int us)
{
    return us; /* nobody to wait for */
}

static int v_time64(sqlite3_vfs *sv, sqlite3_int64 *out)
{
    *out = 210866760000000ll + io_wall_ms(((struct vfs *)sv)->io); /* Julian day of 1970, in ms */
    return SQLITE_OK;
}

static int v_time(sqlite3_vfs *sv, double *out)
{
    sqlite3_int64 ms;

    v_time64(sv, &ms);
    *out = (double)ms / 86400000.0;
    return SQLITE_OK;
}

static int v_error(sqlite3_vfs *sv, int n, char *out)
{
    return 0;
}

enum err io_sqlite_vfs_register(struct io *io, bool read_only, char *name)
{
    static atomic_uint serial;
    struct vfs *v = xcalloc(1, sizeof *v);

    snprintf(v->name, sizeof v->name, "weir-io-%u", atomic_fetch_add(&serial, 1));
    v->io = io;
    v->read_only = read_only;
    list_init(&v->overlays);
    list_init(&v->databases);
    v->base = (sqlite3_vfs){.iVersion = 2,
                            .szOsFile = (int)sizeof(struct vfs_file),
                            .mxPathname = 1024,
                            .zName = v->name,
                            .xOpen = v_open,
                            .xDelete = v_delete,
                            .xAccess = v_access,
                            .xFullPathname = v_full,
                            .xRandomness = v_random,
                            .xSleep = v_sleep,
                            .xCurrentTime = v_time,
                            .xGetLastError = v_error,
                            .xCurrentTimeInt64 = v_time64};
    if (sqlite3_vfs_register(&v->base, 0) != SQLITE_OK) {
        free(v);
        return ERR_INTERNAL;
    }
    memcpy(name, v->name, IO_SQLITE_VFS_NAME);
    return ERR_OK;
}

enum err io_sqlite_vfs_prepare(struct sqlite3 *db)
{
    int n = PAGE_RESERVED;

    if (sqlite3_exec(db, "PRAGMA page_size=4096", NULL, NULL, NULL) != SQLITE_OK)
        return ERR_IO;
    return sqlite3_file_control(db, "main", SQLITE_FCNTL_RESERVE_BYTES, &n) == SQLITE_OK
               ? ERR_OK
               : ERR_UNSUPPORTED;
}

bool io_sqlite_vfs_sealed(struct sqlite3 *db)
{
    bool sealed = false;

    return sqlite3_file_control(db, "main", FCNTL_SEALED, &sealed) == SQLITE_OK && sealed;
}

bool io_sqlite_vfs_damage(const char *name, struct errinfo *info)
{
    const struct vfs *v = (struct vfs *)sqlite3_vfs_find(name);

    if (!v || !v->damage[0])
        return false;
    errinfo_set(info, ERR_CORRUPT, "%s: the page at byte %" PRIu64 " does not match its checksum",
                v->damage, v->damage_at);
    return true;
}

void io_sqlite_vfs_unregister(const char *name)
{
    sqlite3_vfs *found = sqlite3_vfs_find(name);
    struct vfs *v = (struct vfs *)found;

    if (!v)
        return;
    sqlite3_vfs_unregister(found);
    while (!list_empty(&v->overlays)) {
        struct overlay *o = list_entry(list_pop_front(&v->overlays), struct overlay, link);

        overlay_fini(o);
        free(o);
    }
    free(v);
}
