/* The real back end: Linux files. Direct I/O where the file system has it. The lock is flock() on
 * DIR/lock, whose text is the holder's pid: it excludes other processes and a second open in this
 * one, and ends with the process however it ends. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "io/io_int.h"

struct real_file {
    struct io_file base;
    int fd;
    bool dsync; /* every write on this descriptor is durable */
    char *path;
};

struct real_lock {
    struct io_lock base;
    int fd;
};

static struct real_file *file_of(struct io_file *f)
{
    return (struct real_file *)f;
}

static int open_flags(unsigned flags)
{
    int o = O_CLOEXEC | (flags & IO_RDONLY ? O_RDONLY : O_RDWR);

    if (flags & IO_CREATE)
        o |= O_CREAT;
    if (flags & IO_EXCL)
        o |= O_EXCL;
    if (flags & IO_TRUNC)
        o |= O_TRUNC;
    if (flags & IO_DIRECT)
        o |= O_DIRECT;
    if (flags & IO_DSYNC)
        o |= O_DSYNC;
    return o;
}

static int open_retry(const char *path, int o)
{
    int fd;

    do
        fd = open(path, o, 0640);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static const struct io_ops real_ops;

static enum err real_open(struct io *io, const char *path, unsigned flags, struct io_file **out,
                          struct errinfo *info)
{
    int o = open_flags(flags), fd = open_retry(path, o);
    struct real_file *f;

    if (fd < 0 && errno == EINVAL && (o & O_DIRECT)) {
        o &= ~O_DIRECT;
        fd = open_retry(path, o);
    }
    if (fd < 0)
        return errinfo_os(info, errno, "opening %s", path);
    f = xcalloc(1, sizeof *f);
    f->base.ops = &real_ops;
    f->fd = fd;
    f->dsync = o & O_DSYNC;
    f->path = xstrdup(path);
    *out = &f->base;
    return ERR_OK;
}

static void real_close(struct io_file *bf)
{
    struct real_file *f = file_of(bf);

    close(f->fd);
    free(f->path);
    free(f);
}

static enum err real_pread(struct io_file *bf, void *buf, size_t n, uint64_t off, size_t *got,
                           struct errinfo *info)
{
    struct real_file *f = file_of(bf);

    while (*got < n) {
        ssize_t r = pread(f->fd, (char *)buf + *got, n - *got, (off_t)(off + *got));

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return errinfo_os(info, errno, "reading %s", f->path);
        if (r == 0)
            break;
        *got += (size_t)r;
    }
    return ERR_OK;
}

/* Where the file system cannot say whether it would wait (EOPNOTSUPP), too: ERR_AGAIN. */
static enum err real_pread_now(struct io_file *bf, void *buf, size_t n, uint64_t off, size_t *got,
                               struct errinfo *info)
{
    struct iovec v = {buf, n};
    ssize_t r = preadv2(file_of(bf)->fd, &v, 1, (off_t)off, RWF_NOWAIT);

    if (r < 0 || (size_t)r < n) /* the end of the file, or of what is in memory */
        return ERR_AGAIN;
    *got = n;
    return ERR_OK;
}

static enum err real_sync(struct io_file *bf, struct errinfo *info)
{
    struct real_file *f = file_of(bf);

    /* EINTR of a sync says nothing about the data: it counts as a failure, too. */
    return fdatasync(f->fd) ? errinfo_os(info, errno, "syncing %s", f->path) : ERR_OK;
}

static enum err real_pwrite(struct io_file *bf, const void *buf, size_t n, uint64_t off,
                            bool durable, struct errinfo *info)
{
    struct real_file *f = file_of(bf);
    size_t done = 0;

    while (done < n) {
        ssize_t r = pwrite(f->fd, (const char *)buf + done, n - done, (off_t)(off + done));

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return errinfo_os(info, r ? errno : EIO, "writing %s", f->path);
        done += (size_t)r;
    }
    return durable && !f->dsync ? real_sync(bf, info) : ERR_OK;
}

static enum err real_size(struct io_file *bf, uint64_t *size, struct errinfo *info)
{
    struct stat st;

    if (fstat(file_of(bf)->fd, &st))
        return errinfo_os(info, errno, "asking the size of %s", file_of(bf)->path);
    *size = (uint64_t)st.st_size;
    return ERR_OK;
}

static enum err real_truncate(struct io_file *bf, uint64_t size, struct errinfo *info)
{
    if (ftruncate(file_of(bf)->fd, (off_t)size))
        return errinfo_os(info, errno, "setting the size of %s", file_of(bf)->path);
    return ERR_OK;
}

static enum err real_allocate(struct io_file *bf, uint64_t off, uint64_t len, struct errinfo *info)
{
    int r;

    do
        r = fallocate(file_of(bf)->fd, 0, (off_t)off, (off_t)len);
    while (r < 0 && errno == EINTR);
    if (r == 0)
        return ERR_OK;
    if (errno == EOPNOTSUPP || errno == ENOSYS)
        return errinfo_set(info, ERR_UNSUPPORTED, "%s: room cannot be reserved here",
                           file_of(bf)->path);
    return errinfo_os(info, errno, "reserving room for %s", file_of(bf)->path);
}

static enum err real_rename(struct io *io, const char *from, const char *to, struct errinfo *info)
{
    return rename(from, to) ? errinfo_os(info, errno, "renaming %s to %s", from, to) : ERR_OK;
}

static enum err real_unlink(struct io *io, const char *path, struct errinfo *info)
{
    return unlink(path) ? errinfo_os(info, errno, "removing %s", path) : ERR_OK;
}

static enum err real_mkdir(struct io *io, const char *path, struct errinfo *info)
{
    return mkdir(path, 0750) && errno != EEXIST ? errinfo_os(info, errno, "making %s", path)
                                                : ERR_OK;
}

static enum err real_sync_dir(struct io *io, const char *path, struct errinfo *info)
{
    int fd = open_retry(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r, why;

    if (fd < 0)
        return errinfo_os(info, errno, "opening %s", path);
    r = fsync(fd);
    why = errno;
    close(fd);
    return r ? errinfo_os(info, why, "syncing %s", path) : ERR_OK;
}

static enum err real_list(struct io *io, const char *dir, void (*cb)(void *arg, const char *name),
                          void *arg, struct errinfo *info)
{
    struct dirent **names;
    int n = scandir(dir, &names, NULL, alphasort), i;

    if (n < 0)
        return errinfo_os(info, errno, "listing %s", dir);
    for (i = 0; i < n; i++) {
        if (strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0)
            cb(arg, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    return ERR_OK;
}

static enum err real_stat(struct io *io, const char *path, uint64_t *size, bool *exists,
                          struct errinfo *info)
{
    struct stat st;

    if (stat(path, &st) == 0) {
        *exists = true;
        *size = (uint64_t)st.st_size;
        return ERR_OK;
    }
    return errno == ENOENT ? ERR_OK : errinfo_os(info, errno, "looking at %s", path);
}

static enum err real_free_space(struct io *io, const char *path, uint64_t *bytes,
                                struct errinfo *info)
{
    struct statvfs v;

    if (statvfs(path, &v))
        return errinfo_os(info, errno, "asking for the free space of %s", path);
    *bytes = (uint64_t)v.f_bavail * v.f_frsize;
    return ERR_OK;
}

static enum err real_lock(struct io *io, const char *path, struct io_lock **out, long *pid,
                          struct errinfo *info)
{
    struct real_lock *l;
    char text[32] = {0};
    int fd = open_retry(path, O_RDWR | O_CREAT | O_CLOEXEC);

    if (fd < 0)
        return errinfo_os(info, errno, "opening %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        ssize_t n = pread(fd, text, sizeof text - 1, 0);

        *pid = n > 0 ? strtol(text, NULL, 10) : 0;
        close(fd);
        return errinfo_set(info, ERR_LOCKED, "%s is held by process %ld", path, *pid);
    }
    snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) || pwrite(fd, text, strlen(text), 0) < 0) {
        int why = errno;

        close(fd);
        return errinfo_os(info, why, "writing %s", path);
    }
    l = xcalloc(1, sizeof *l);
    l->base.ops = &real_ops;
    l->fd = fd;
    *out = &l->base;
    return ERR_OK;
}

static void real_unlock(struct io_lock *bl)
{
    struct real_lock *l = (struct real_lock *)bl;

    close(l->fd);
    free(l);
}

static int64_t real_wall_ms(struct io *io)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint64_t real_mono_ns(struct io *io)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void real_random(struct io *io, void *buf, size_t n)
{
    uint8_t *p = buf;

    while (n) {
        ssize_t r = getrandom(p, n, 0);

        ASSERT(r > 0 || errno == EINTR);
        if (r > 0) {
            p += r;
            n -= (size_t)r;
        }
    }
}

static const struct io_ops real_ops = {
    .open = real_open,
    .close = real_close,
    .pread = real_pread,
    .pread_now = real_pread_now,
    .pwrite = real_pwrite,
    .sync = real_sync,
    .size = real_size,
    .truncate = real_truncate,
    .allocate = real_allocate,
    .rename = real_rename,
    .unlink = real_unlink,
    .mkdir = real_mkdir,
    .sync_dir = real_sync_dir,
    .list = real_list,
    .stat = real_stat,
    .free_space = real_free_space,
    .lock = real_lock,
    .unlock = real_unlock,
    .wall_ms = real_wall_ms,
    .mono_ns = real_mono_ns,
    .random = real_random,
};

struct io *io_real(void)
{
    static struct io real = {&real_ops};

    return &real;
}
