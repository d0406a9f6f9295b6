/* Files, clocks and randomness: the only way by which journal and broker reach the machine. Two
 * back ends stand behind the same calls: the real one (io_real) and a simulated one (io/sim.h) that
 * runs from a seed, loses what was not synced, and fails on demand.
 *
 * Errors: every call returns enum err and fills *info (which may be NULL) with the path or
 * operation and the system's text. Reads and writes continue after EINTR and short counts; a write
 * or sync that failed is never tried again here. Threads: calls on different files are independent;
 * calls on one file may run at the same time if they touch different bytes. */
#ifndef WEIR_IO_IO_H
#define WEIR_IO_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct io;
struct buf;
struct io_file;
struct io_lock;

#define IO_CREATE 1u /* make the file if it is not there */
#define IO_EXCL   2u /* with IO_CREATE: ERR_EXISTS if it is there */
#define IO_RDONLY 4u
#define IO_DIRECT 8u  /* around the page cache; where it is refused, silently through it */
#define IO_DSYNC  16u /* io_pwrite_durable may rely on O_DSYNC */
#define IO_TRUNC  32u

/* The machine's own. Never freed. */
struct io *io_real(void);

enum err io_open(struct io *io, const char *path, unsigned flags, struct io_file **out,
                 struct errinfo *info);
/* Closes and nulls; *f may be NULL. */
void io_close(struct io_file **f);
/* Reads until n bytes or the end of the file; *got is how many. */
enum err io_pread(struct io_file *f, void *buf, size_t n, uint64_t off, size_t *got,
                  struct errinfo *info);
/* A whole file into out, which is empty; one that out may not hold with a byte to spare is
 * ERR_TOO_LARGE. For small files: settings, users, keys. */
enum err io_text(struct io *io, const char *path, struct buf *out, struct errinfo *info);
/* The same, but ERR_AGAIN instead of waiting for a disk. */
enum err io_pread_now(struct io_file *f, void *buf, size_t n, uint64_t off, size_t *got,
                      struct errinfo *info);
/* For IO_DIRECT files buf, n and off must be multiples of 4096. */
enum err io_pwrite(struct io_file *f, const void *buf, size_t n, uint64_t off,
                   struct errinfo *info);
/* As io_pwrite; when it returns ERR_OK these bytes are on stable storage (not: earlier ones). */
enum err io_pwrite_durable(struct io_file *f, const void *buf, size_t n, uint64_t off,
                           struct errinfo *info);
/* All written so far, and the size, is on stable storage. */
enum err io_sync(struct io_file *f, struct errinfo *info);
enum err io_size(struct io_file *f, uint64_t *size, struct errinfo *info);
enum err io_truncate(struct io_file *f, uint64_t size, struct errinfo *info);
/* Reserves room: writes there will not find the disk full. ERR_NO_SPACE; ERR_UNSUPPORTED. */
enum err io_allocate(struct io_file *f, uint64_t off, uint64_t len, struct errinfo *info);

enum err io_rename(struct io *io, const char *from, const char *to, struct errinfo *info);
enum err io_unlink(struct io *io, const char *path, struct errinfo *info);
/* One level; a directory that is there is fine. */
enum err io_mkdir(struct io *io, const char *path, struct errinfo *info);
/* Creations, renames and removals in this directory are on stable storage. */
enum err io_sync_dir(struct io *io, const char *path, struct errinfo *info);
/* Names in a directory, sorted, without "." and "..". cb may change the directory. */
enum err io_list(struct io *io, const char *dir, void (*cb)(void *arg, const char *name), void *arg,
                 struct errinfo *info);
enum err io_stat(struct io *io, const char *path, uint64_t *size, bool *exists,
                 struct errinfo *info);
/* Bytes that this user may still write in the file system of path. */
enum err io_free_space(struct io *io, const char *path, uint64_t *bytes, struct errinfo *info);

/* Takes the lock file for this process; ERR_LOCKED with the holder's pid in *pid. A second lock in
 * the same process is refused, too. The lock ends with the process. */
enum err io_lock_dir(struct io *io, const char *path, struct io_lock **out, long *pid,
                     struct errinfo *info);
void io_unlock(struct io_lock **l);

int64_t io_wall_ms(struct io *io);
uint64_t io_mono_ns(struct io *io);
/* Unpredictable bytes (predictable ones, from the seed, in simulation). */
void io_random(struct io *io, void *buf, size_t n);

#endif
