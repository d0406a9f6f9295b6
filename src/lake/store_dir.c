/* A local folder as object store.
 *
 * An object is a file below the folder. It is written to DIR/.weir-tmp/ (or moved there, if it is a
 * file of the same file system that is given away), synced, and then gets its name: by link() when
 * no object of that name may exist (which fails if one does, whoever made it), else by rename().
 * Then the folder that holds the name is synced. So an object is whole or not there, also after a
 * crash; what a crash leaves in .weir-tmp is removed by a sweep.
 *
 * The etag is the file's inode, time and size: each put makes a new inode. Conditions on an etag and
 * the puts and removals that could pass them by are ordered by a lock on DIR/.weir-tmp/lock, which
 * other processes with the same folder take, too.
 *
 * Any thread. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "io/io.h"
#include "lake/store_int.h"

#define TMP        ".weir-tmp"
#define PATH_BYTES 4096u
#define PIECE      (1u << 20)
#define DEPTH_MAX  64u
#define TRIES      10u
#define MODE       0640

struct dir_store {
    struct store base; /* first */
    char *root;
    size_t root_len;
};

static const struct dir_store *dir_of(const struct store *s)
{
    return (const struct dir_store *)s;
}

/* ---- paths ---- */

static enum err path_of(const struct store *s, const char *key, char out[PATH_BYTES],
                        struct errinfo *info)
{
    int n = snprintf(out, PATH_BYTES, "%s/%s", dir_of(s)->root, key);

    if (n < 0 || n >= (int)PATH_BYTES)
        return errinfo_set(info, ERR_INVALID, "the path of \"%.100s\" is too long", key);
    if (strncmp(key, TMP, sizeof TMP - 1) == 0)
        return errinfo_set(info, ERR_INVALID, "\"%.100s\" is a name of the store's own", key);
    return ERR_OK;
}

static enum err dir_sync(const char *path, struct errinfo *info)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err e = ERR_OK;

    if (fd < 0)
        return errinfo_os(info, errno, "opening %s", path);
    if (fsync(fd))
        e = errinfo_os(info, errno, "syncing %s", path);
    close(fd);
    return e;
}

/* Syncs the folder that holds path. */
static enum err parent_sync(char *path, struct errinfo *info)
{
    char *slash = strrchr(path, '/');
    enum err e;

    if (slash == path)
        return dir_sync("/", info);
    *slash = 0;
    e = dir_sync(path, info);
    *slash = '/';
    return e;
}

/* Makes the folders in front of the last '/' of path that are not there, durably. */
static enum err parents_make(char *path, struct errinfo *info)
{
    char *slash = strrchr(path, '/');
    struct stat st;
    enum err e = ERR_OK;

    if (!slash || slash == path)
        return ERR_OK;
    *slash = 0;
    if (stat(path, &st) != 0) {
        e = parents_make(path, info);
        if (!e && mkdir(path, 0750) && errno != EEXIST)
            e = errinfo_os(info, errno, "making the folder %s", path);
        if (!e)
            e = parent_sync(path, info);
    }
    *slash = '/';
    return e;
}

static void stat_fill(const struct stat *st, struct store_stat *out)
{
    int64_t ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;

    out->size = (uint64_t)st->st_size;
    out->modified_ms = ns / 1000000;
    snprintf(out->etag, sizeof out->etag, "%" PRIx64 "-%" PRIx64 "-%" PRIx64, (uint64_t)st->st_ino,
             (uint64_t)ns, (uint64_t)st->st_size);
}

static enum err missing(const char *key, struct errinfo *info)
{
    return errinfo_set(info, ERR_NOT_FOUND, "there is no object \"%.150s\"", key);
}

/* ---- putting ---- */

static enum err write_all(int fd, const uint8_t *p, size_t n, const char *path,
                          struct errinfo *info)
{
    while (n) {
        ssize_t w = write(fd, p, n);

        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return errinfo_os(info, errno, "writing %s", path);
        p += w;
        n -= (size_t)w;
    }
    return ERR_OK;
}

static enum err file_copy(int from, uint64_t off, uint64_t len, int to, const char *path,
                          struct errinfo *info)
{
    uint8_t *piece = xmalloc(PIECE);
    enum err e = ERR_OK;

    while (!e && len) {
        ssize_t n = pread(from, piece, len < PIECE ? (size_t)len : PIECE, (off_t)off);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            e = errinfo_os(info, errno, "reading for %s", path);
        else if (n == 0)
            e = errinfo_set(info, ERR_EOF, "the source of %s is shorter than was said", path);
        else
            e = write_all(to, piece, (size_t)n, path, info);
        off += n > 0 ? (uint64_t)n : 0;
        len -= n > 0 ? (uint64_t)n : 0;
    }
    free(piece);
    return e;
}

static enum err source_write(const struct store_source *src, int fd, const char *path,
                             struct errinfo *info)
{
    enum err e;
    int from;

    if (!src->path)
        return write_all(fd, src->bytes.ptr, src->bytes.len, path, info);
    from = open(src->path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return errinfo_os(info, errno, "opening %s", src->path);
    e = file_copy(from, src->off, src->len, fd, path, info);
    close(from);
    return e;
}

static uint64_t source_len(const struct store_source *src)
{
    return src->path ? src->len : src->bytes.len;
}

/* A file that is the store's already, and on the same file system, is moved, not copied. -1: it is
 * not. */
static int source_move(const struct store_source *src, const char *tmp)
{
    struct stat now;
    int fd;

    if (!src->path || !src->given || src->off || rename(src->path, tmp))
        return -1;
    fd = open(tmp, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &now) == 0 && (uint64_t)now.st_size == src->len &&
        fchmod(fd, MODE) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    (void)!rename(tmp, src->path); /* copying says what is wrong with it */
    return -1;
}

/* Writes the bytes to a new, synced temporary file, whose path is put into tmp. */
static enum err tmp_make(struct store *s, const struct store_source *src, char tmp[PATH_BYTES],
                         struct store_stat *st, struct errinfo *info)
{
    uint64_t id;
    struct stat now;
    enum err e;
    int fd;

    io_random(io_real(), &id, sizeof id);
    snprintf(tmp, PATH_BYTES, "%s/" TMP "/%016" PRIx64, dir_of(s)->root, id);
    if ((e = parents_make(tmp, info)))
        return e;
    fd = source_move(src, tmp);
    if (fd < 0) {
        fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, MODE);
        if (fd < 0)
            return errinfo_os(info, errno, "making %s", tmp);
        e = source_write(src, fd, tmp, info);
    }
    if (!e && fsync(fd))
        e = errinfo_os(info, errno, "syncing %s", tmp);
    if (!e && fstat(fd, &now))
        e = errinfo_os(info, errno, "looking at %s", tmp);
    if (close(fd) && !e)
        e = errinfo_os(info, errno, "closing %s", tmp);
    if (e)
        unlink(tmp);
    else
        stat_fill(&now, st);
    return e;
}

/* The lock that orders changes by name; -1 with *info. */
static int lock_take(struct store *s, struct errinfo *info)
{
    char path[PATH_BYTES];
    int fd, rc;

    snprintf(path, sizeof path, "%s/" TMP "/lock", dir_of(s)->root);
    if (parents_make(path, info))
        return -1;
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, MODE);
    if (fd < 0) {
        errinfo_os(info, errno, "opening %s", path);
        return -1;
    }
    while ((rc = flock(fd, LOCK_EX)) && errno == EINTR)
        ;
    if (rc == 0)
        return fd;
    errinfo_os(info, errno, "locking %s", path);
    close(fd);
    return -1;
}

static enum err etag_check(const char *path, const char *key, const char *etag,
                           struct errinfo *info)
{
    struct store_stat st;
    struct stat now;

    if (stat(path, &now))
        return errno == ENOENT ? missing(key, info) : errinfo_os(info, errno, "stat %s", path);
    stat_fill(&now, &st);
    if (etag && strcmp(st.etag, etag) == 0)
        return ERR_OK;
    return errinfo_set(info, ERR_CONFLICT, "\"%.150s\" has changed", key);
}

static enum err name_give(struct store *s, const char *key, const char *tmp, char *path,
                          const struct store_put *how, struct errinfo *info)
{
    enum err e = ERR_OK;
    int lock;

    if (how->condition == STORE_IF_NONE) {
        if (link(tmp, path) == 0) {
            unlink(tmp);
            return ERR_OK;
        }
        return errno == EEXIST ? errinfo_set(info, ERR_EXISTS, "\"%.150s\" exists already", key)
                               : errinfo_os(info, errno, "linking %s", path);
    }
    lock = lock_take(s, info);
    if (lock < 0)
        return ERR_IO;
    if (how->condition == STORE_IF_MATCH)
        e = etag_check(path, key, how->etag, info);
    if (!e && rename(tmp, path))
        e = errinfo_os(info, errno, "renaming to %s", path);
    close(lock);
    return e;
}

static enum err dir_put(struct store *s, const char *key, const struct store_source *src,
                        const struct store_put *how, struct store_stat *out, struct errinfo *info)
{
    char path[PATH_BYTES], tmp[PATH_BYTES];
    enum err e = path_of(s, key, path, info);

    unsigned tries = 0;

    if (e || (e = tmp_make(s, src, tmp, out, info)))
        return e;
    do { /* not found: a removal has just taken the empty folder away */
        e = parents_make(path, info);
        if (!e)
            e = name_give(s, key, tmp, path, how, info);
    } while (e == ERR_NOT_FOUND && how->condition != STORE_IF_MATCH && ++tries < TRIES);
    if (e) {
        unlink(tmp);
        return e;
    }
    atomic_fetch_add(&s->requests, 1);
    atomic_fetch_add(&s->bytes_sent, source_len(src));
    return parent_sync(path, info);
}

/* ---- getting ---- */

static enum err object_open(struct store *s, const char *key, int *fd, struct stat *now,
                            struct errinfo *info)
{
    char path[PATH_BYTES];
    enum err e = path_of(s, key, path, info);

    if (e)
        return e;
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? missing(key, info)
                                                   : errinfo_os(info, errno, "opening %s", path);
    if (fstat(*fd, now) == 0 && S_ISREG(now->st_mode))
        return ERR_OK;
    close(*fd);
    return missing(key, info);
}

static enum err read_into(int fd, uint64_t off, uint64_t len, struct buf *out, const char *key,
                          struct errinfo *info)
{
    enum err e = ERR_OK;

    if (len > out->max - out->len || (e = buf_reserve(out, (size_t)len)))
        return errinfo_set(info, ERR_TOO_LARGE, "\"%.150s\" is too large: %" PRIu64 " bytes", key,
                           len);
    while (!e && len) {
        ssize_t n = pread(fd, out->ptr + out->len, (size_t)len, (off_t)off);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errinfo_os(info, errno, "reading %s", key)
                         : errinfo_set(info, ERR_EOF, "\"%.150s\" ended early", key);
        out->len += (size_t)n;
        off += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return e;
}

static enum err dir_get(struct store *s, const char *key, uint64_t off, uint64_t len,
                        struct buf *out, int to, struct store_stat *st, struct errinfo *info)
{
    struct stat now;
    enum err e;
    int fd;

    if ((e = object_open(s, key, &fd, &now, info)))
        return e;
    stat_fill(&now, st);
    if (off > st->size)
        off = st->size;
    if (len > st->size - off)
        len = st->size - off;
    e = out ? read_into(fd, off, len, out, key, info) : file_copy(fd, off, len, to, key, info);
    close(fd);
    atomic_fetch_add(&s->requests, 1);
    atomic_fetch_add(&s->bytes_received, e ? 0 : len);
    return e;
}

static enum err dir_head(struct store *s, const char *key, struct store_stat *out,
                         struct errinfo *info)
{
    struct stat now;
    int fd;
    enum err e = object_open(s, key, &fd, &now, info);

    if (e)
        return e;
    close(fd);
    stat_fill(&now, out);
    atomic_fetch_add(&s->requests, 1);
    return ERR_OK;
}

/* ---- listing ---- */

struct found {
    char *key;
    uint64_t size;
    int64_t modified_ms;
};
struct listing {
    struct found *f;
    size_t n, cap;
    const char *prefix, *after;
    struct errinfo *info;
};

static int found_order(const void *a, const void *b)
{
    return strcmp(((const struct found *)a)->key, ((const struct found *)b)->key);
}

static enum err found_add(struct listing *l, const char *key, const struct stat *st)
{
    struct store_stat ss;

    if (strncmp(key, l->prefix, strlen(l->prefix)) != 0 || (l->after && strcmp(key, l->after) <= 0))
        return ERR_OK;
    if (l->n == LIMIT_STORE_LIST)
        return errinfo_set(l->info, ERR_LIMIT, "more than %u files below \"%.100s\"",
                           LIMIT_STORE_LIST, l->prefix);
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 64;
        l->f = xrealloc(l->f, l->cap * sizeof *l->f);
    }
    stat_fill(st, &ss);
    l->f[l->n++] = (struct found){xstrdup(key), ss.size, ss.modified_ms};
    return ERR_OK;
}

/* May something below the folder `key` begin with the prefix? */
static bool may_hold(const char *key, const char *prefix)
{
    size_t n = strlen(key), m = strlen(prefix);

    return strncmp(key, prefix, n < m ? n : m) == 0;
}

/* path: the folder's, with room for more; key: the part of it below the root, "" for the root. */
static enum err walk(struct listing *l, char *path, size_t n, size_t root, unsigned depth)
{
    DIR *d = opendir(path);
    struct dirent *de;
    struct stat st;
    enum err e = ERR_OK;

    if (!d)
        return errno == ENOENT ? ERR_OK : errinfo_os(l->info, errno, "opening %s", path);
    while (!e && (de = readdir(d))) {
        size_t len = strlen(de->d_name);
        const char *key = path + root + 1;

        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
            (n == root && strcmp(de->d_name, TMP) == 0) || n + len + 2 > PATH_BYTES)
            continue;
        path[n] = '/';
        memcpy(path + n + 1, de->d_name, len + 1);
        if (!may_hold(key, l->prefix) || lstat(path, &st))
            continue; /* gone meanwhile */
        if (S_ISREG(st.st_mode))
            e = found_add(l, key, &st);
        else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
            e = walk(l, path, n + 1 + len, root, depth + 1);
    }
    closedir(d);
    path[n] = 0;
    return e;
}

static enum err dir_list(struct store *s, const char *prefix, const char *after,
                         bool (*fn)(void *arg, const struct store_entry *e), void *arg,
                         struct errinfo *info)
{
    struct listing l = {.prefix = prefix, .after = after, .info = info};
    char path[PATH_BYTES];
    bool more = true;
    size_t i;
    enum err e;

    memcpy(path, dir_of(s)->root, dir_of(s)->root_len + 1);
    e = walk(&l, path, dir_of(s)->root_len, dir_of(s)->root_len, 0);
    if (!e && l.n)
        qsort(l.f, l.n, sizeof *l.f, found_order);
    for (i = 0; i < l.n; i++) {
        struct store_entry en = {l.f[i].key, l.f[i].size, l.f[i].modified_ms};

        if (!e && more)
            more = fn(arg, &en);
        free(l.f[i].key);
    }
    free(l.f);
    atomic_fetch_add(&s->requests, 1);
    return e;
}

/* ---- removing ---- */

/* Folders that have become empty go, up to the root; whoever makes a file in one at the same time
 * makes it again. */
static void parents_remove(const struct store *s, char *path)
{
    char *slash;

    while ((slash = strrchr(path, '/')) && (size_t)(slash - path) > dir_of(s)->root_len) {
        *slash = 0;
        if (rmdir(path))
            return;
    }
}

static enum err dir_remove(struct store *s, const char *const *keys, size_t n, struct errinfo *info)
{
    char path[PATH_BYTES];
    enum err e = ERR_OK;
    size_t i;
    int lock = lock_take(s, info);

    if (lock < 0)
        return ERR_IO;
    for (i = 0; !e && i < n; i++) {
        if ((e = path_of(s, keys[i], path, info)))
            break;
        if (unlink(path) && errno != ENOENT && errno != ENOTDIR)
            e = errinfo_os(info, errno, "removing %s", path);
        else
            parents_remove(s, path);
    }
    close(lock);
    atomic_fetch_add(&s->requests, 1);
    return e;
}

static enum err dir_sweep(struct store *s, int64_t older_than_ms, uint64_t *n, struct errinfo *info)
{
    char path[PATH_BYTES];
    struct dirent *de;
    struct stat st;
    DIR *d;

    snprintf(path, sizeof path, "%s/" TMP, dir_of(s)->root);
    d = opendir(path);
    if (!d)
        return errno == ENOENT ? ERR_OK : errinfo_os(info, errno, "opening %s", path);
    while ((de = readdir(d))) {
        if (strlen(de->d_name) != 16)
            continue;
        snprintf(path, sizeof path, "%s/" TMP "/%.16s", dir_of(s)->root, de->d_name);
        if (stat(path, &st) == 0 && (int64_t)st.st_mtim.tv_sec * 1000 < older_than_ms &&
            unlink(path) == 0)
            ++*n;
    }
    closedir(d);
    return ERR_OK;
}

/* ---- opening ---- */

static void dir_close(struct store *s)
{
    struct dir_store *d = (struct dir_store *)s;

    free(d->root);
    free(d->base.url);
    free(d);
}

static void dir_access(const struct store *s, struct store_access *out)
{
    (void)s;
    out->s3 = false;
}

static const struct store_ops dir_ops = {.close = dir_close,
                                         .put = dir_put,
                                         .get = dir_get,
                                         .head = dir_head,
                                         .list = dir_list,
                                         .remove = dir_remove,
                                         .sweep = dir_sweep,
                                         .access = dir_access};

enum err store_dir_open(const struct store_conf *conf, struct store **out, struct errinfo *info)
{
    const char *dir = conf->url + 7;
    size_t n = strlen(dir), url_len;
    struct dir_store *d;
    enum err e;
    int lock;

    while (n > 1 && dir[n - 1] == '/')
        n--;
    if (dir[0] != '/' || n < 2 || n > 400 || strstr(dir, "//") || strstr(dir, "/../"))
        return errinfo_set(info, ERR_CONFIG,
                           "\"%.200s\": a folder's URL is file:// and an absolute path of at most "
                           "400 bytes",
                           conf->url);
    d = xcalloc(1, sizeof *d);
    d->base.ops = &dir_ops;
    d->root = xmalloc(n + 1);
    memcpy(d->root, dir, n);
    d->root[n] = 0;
    d->root_len = n;
    url_len = n + 8;
    d->base.url = xmalloc(url_len);
    snprintf(d->base.url, url_len, "file://%s", d->root);
    lock = lock_take(&d->base, info); /* the folder is made, and can be written to */
    e = lock < 0 ? ERR_IO : ERR_OK;
    if (lock >= 0)
        close(lock);
    if (e)
        dir_close(&d->base);
    else
        *out = &d->base;
    return e;
}
