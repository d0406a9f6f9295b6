/* The calls of io.h, handed to the back end. */
#include "io/io_int.h"

#include "base/assert.h"
#include "base/buf.h"

enum err io_open(struct io *io, const char *path, unsigned flags, struct io_file **out,
                 struct errinfo *info)
{
    *out = NULL;
    return io->ops->open(io, path, flags, out, info);
}

void io_close(struct io_file **f)
{
    if (*f)
        (*f)->ops->close(*f);
    *f = NULL;
}

enum err io_pread(struct io_file *f, void *buf, size_t n, uint64_t off, size_t *got,
                  struct errinfo *info)
{
    *got = 0;
    return f->ops->pread(f, buf, n, off, got, info);
}

enum err io_text(struct io *io, const char *path, struct buf *out, struct errinfo *info)
{
    struct io_file *f = NULL;
    uint64_t size = 0;
    size_t got = 0;
    enum err e = io_open(io, path, IO_RDONLY, &f, info);

    if (!e)
        e = io_size(f, &size, info);
    if (!e && size >= out->max)
        e = errinfo_set(info, ERR_TOO_LARGE, "%s has more than %zu bytes", path, out->max - 1);
    if (!e)
        e = buf_reserve(out, (size_t)size + 1);
    if (!e)
        e = io_pread(f, out->ptr, (size_t)size, 0, &got, info);
    out->len = e ? 0 : got;
    io_close(&f);
    return e;
}

enum err io_pread_now(struct io_file *f, void *buf, size_t n, uint64_t off, size_t *got,
                      struct errinfo *info)
{
    *got = 0;
    return f->ops->pread_now ? f->ops->pread_now(f, buf, n, off, got, info) : ERR_AGAIN;
}

enum err io_pwrite(struct io_file *f, const void *buf, size_t n, uint64_t off, struct errinfo *info)
{
    return f->ops->pwrite(f, buf, n, off, false, info);
}

enum err io_pwrite_durable(struct io_file *f, const void *buf, size_t n, uint64_t off,
                           struct errinfo *info)
{
    return f->ops->pwrite(f, buf, n, off, true, info);
}

enum err io_sync(struct io_file *f, struct errinfo *info)
{
    return f->ops->sync(f, info);
}

enum err io_size(struct io_file *f, uint64_t *size, struct errinfo *info)
{
    return f->ops->size(f, size, info);
}

enum err io_truncate(struct io_file *f, uint64_t size, struct errinfo *info)
{
    return f->ops->truncate(f, size, info);
}

enum err io_allocate(struct io_file *f, uint64_t off, uint64_t len, struct errinfo *info)
{
    return f->ops->allocate(f, off, len, info);
}

enum err io_rename(struct io *io, const char *from, const char *to, struct errinfo *info)
{
    return io->ops->rename(io, from, to, info);
}

enum err io_unlink(struct io *io, const char *path, struct errinfo *info)
{
    return io->ops->unlink(io, path, info);
}

enum err io_mkdir(struct io *io, const char *path, struct errinfo *info)
{
    return io->ops->mkdir(io, path, info);
}

enum err io_sync_dir(struct io *io, const char *path, struct errinfo *info)
{
    return io->ops->sync_dir(io, path, info);
}

enum err io_list(struct io *io, const char *dir, void (*cb)(void *arg, const char *name), void *arg,
                 struct errinfo *info)
{
    return io->ops->list(io, dir, cb, arg, info);
}

enum err io_stat(struct io *io, const char *path, uint64_t *size, bool *exists,
                 struct errinfo *info)
{
    *size = 0;
    *exists = false;
    return io->ops->stat(io, path, size, exists, info);
}

enum err io_free_space(struct io *io, const char *path, uint64_t *bytes, struct errinfo *info)
{
    return io->ops->free_space(io, path, bytes, info);
}

enum err io_lock_dir(struct io *io, const char *path, struct io_lock **out, long *pid,
                     struct errinfo *info)
{
    *out = NULL;
    return io->ops->lock(io, path, out, pid, info);
}

void io_unlock(struct io_lock **l)
{
    if (*l)
        (*l)->ops->unlock(*l);
    *l = NULL;
}

int64_t io_wall_ms(struct io *io)
{
    return io->ops->wall_ms(io);
}

uint64_t io_mono_ns(struct io *io)
{
    return io->ops->mono_ns(io);
}

void io_random(struct io *io, void *buf, size_t n)
{
    io->ops->random(io, buf, n);
}
