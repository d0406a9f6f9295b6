/* What the two back ends implement. Private to src/io. */
#ifndef WEIR_IO_INT_H
#define WEIR_IO_INT_H

#include "io/io.h"

struct io_ops {
    enum err (*open)(struct io *io, const char *path, unsigned flags, struct io_file **out,
                     struct errinfo *info);
    void (*close)(struct io_file *f);
    enum err (*pread)(struct io_file *f, void *buf, size_t n, uint64_t off, size_t *got,
                      struct errinfo *info);
    /* NULL: always ERR_AGAIN */
    enum err (*pread_now)(struct io_file *f, void *buf, size_t n, uint64_t off, size_t *got,
                          struct errinfo *info);
    enum err (*pwrite)(struct io_file *f, const void *buf, size_t n, uint64_t off, bool durable,
                       struct errinfo *info);
    enum err (*sync)(struct io_file *f, struct errinfo *info);
    enum err (*size)(struct io_file *f, uint64_t *size, struct errinfo *info);
    enum err (*truncate)(struct io_file *f, uint64_t size, struct errinfo *info);
    enum err (*allocate)(struct io_file *f, uint64_t off, uint64_t len, struct errinfo *info);
    enum err (*rename)(struct io *io, const char *from, const char *to, struct errinfo *info);
    enum err (*unlink)(struct io *io, const char *path, struct errinfo *info);
    enum err (*mkdir)(struct io *io, const char *path, struct errinfo *info);
    enum err (*sync_dir)(struct io *io, const char *path, struct errinfo *info);
    enum err (*list)(struct io *io, const char *dir, void (*cb)(void *arg, const char *name),
                     void *arg, struct errinfo *info);
    enum err (*stat)(struct io *io, const char *path, uint64_t *size, bool *exists,
                     struct errinfo *info);
    enum err (*free_space)(struct io *io, const char *path, uint64_t *bytes, struct errinfo *info);
    enum err (*lock)(struct io *io, const char *path, struct io_lock **out, long *pid,
                     struct errinfo *info);
    void (*unlock)(struct io_lock *l);
    int64_t (*wall_ms)(struct io *io);
    uint64_t (*mono_ns)(struct io *io);
    void (*random)(struct io *io, void *buf, size_t n);
};

struct io {
    const struct io_ops *ops;
};
struct io_file {
    const struct io_ops *ops;
};
struct io_lock {
    const struct io_ops *ops;
};

#endif
