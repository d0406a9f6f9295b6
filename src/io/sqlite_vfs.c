/* The VFS methods. See sqlite_vfs.h; contract: https://sqlite.org/c3ref/vfs.html. */
#include "io/sqlite_vfs.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/mem.h"
#include "io/overlay.h"

struct vfs {
    sqlite3_vfs base;
    struct io *io;
    char name[IO_SQLITE_VFS_NAME];
    bool read_only;
    struct list_head overlays; /* read_only: the files that were touched */
};

struct vfs_file {
    sqlite3_file base;
    struct io *io;
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

static int f_read(sqlite3_file *sf, void *buf, int n, sqlite3_int64 off)
{
    size_t got;

    if (bytes_read((struct vfs_file *)sf, buf, (size_t)n, (uint64_t)off, &got))
        return SQLITE_IOERR_READ;
    if (got == (size_t)n)
        return SQLITE_OK;
    memset((char *)buf + got, 0, (size_t)n - got);
    return SQLITE_IOERR_SHORT_READ;
}

static int f_write(sqlite3_file *sf, const void *buf, int n, sqlite3_int64 off)
{
    struct vfs_file *v = (struct vfs_file *)sf;

    return rc_of(v->over ? overlay_write(v->over, buf, (size_t)n, (uint64_t)off, NULL)
                         : io_pwrite(v->f, buf, (size_t)n, (uint64_t)off, NULL),
                 SQLITE_IOERR_WRITE);
}

static int f_truncate(sqlite3_file *sf, sqlite3_int64 size)
{
    struct vfs_file *v = (struct vfs_file *)sf;

    return rc_of(v->over ? overlay_truncate(v->over, (uint64_t)size, NULL)
                         : io_truncate(v->f, (uint64_t)size, NULL),
                 SQLITE_IOERR_TRUNCATE);
}

static int f_sync(sqlite3_file *sf, int flags)
{
    struct vfs_file *v = (struct vfs_file *)sf;
    enum err e = v->over ? ERR_OK : io_sync(v->f, NULL);

    if (!e && v->dir) {
        e = io_sync_dir(v->io, v->dir, NULL);
        if (!e) {
            free(v->dir);
            v->dir = NULL;
        }
    }
    return rc_of(e, SQLITE_IOERR_FSYNC);
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
    return SQLITE_NOTFOUND;
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

static int v_open(sqlite3_vfs *sv, sqlite3_filename name, sqlite3_file *sf, int flags,
                  int *out_flags)
{
    struct vfs *v = (struct vfs *)sv;
    struct vfs_file *vf = (struct vfs_file *)sf;
    int rc;

    memset(vf, 0, sizeof *vf);
    if (!name)
        return SQLITE_CANTOPEN; /* temporary files: memory serves (temp_store) */
    vf->io = v->io;
    rc = v->read_only ? open_over(v, vf, name, flags) : open_disk(v, vf, name, flags);
    if (rc)
        return rc;
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
