/* The simulated back end: a disk in memory that behaves as badly as a real one may, from a seed.
 * For tests of the engine; one thread.
 *
 *  - What io_sync, or io_pwrite_durable on an IO_DSYNC file, has confirmed survives a crash.
 * Everything else, sector (512 bytes) by sector, may survive, be lost, or (rarely) be garbage.
 *  - Names made, renamed or removed survive if io_sync_dir has confirmed them; else they may or may
 * not.
 *  - A call can be made to fail: the n-th from now, once or from then on; or to crash the machine.
 *  - After a failed sync the writes before it may be lost though a later sync succeeds, as on
 * Linux. Time stands still but for io_sim_advance and a microsecond a call. */
#ifndef WEIR_IO_SIM_H
#define WEIR_IO_SIM_H

#include "io/io.h"

struct io *io_sim_new(uint64_t seed);
void io_sim_free(struct io **io);

/* Calls so far (all that may fail). */
uint64_t io_sim_calls(const struct io *io);
/* The n-th call from now (1: the next) fails with e (ERR_IO or ERR_NO_SPACE; a write may have done
 * part of its work), forever: and every one after it, of those that change something. 0: no
 * failure. */
void io_sim_fail(struct io *io, uint64_t n, enum err e, bool forever);
/* The machine stops at the n-th call from now: that call may have done part of its work, it and all
 * that follow answer ERR_IO until io_sim_crash. */
void io_sim_crash_at(struct io *io, uint64_t n);
bool io_sim_crashed(const struct io *io);
/* Power off and on: unsynced things are decided by the seed, files opened before are dead, locks
 * are free. */
void io_sim_crash(struct io *io);
void io_sim_advance(struct io *io, uint64_t ns);
/* Bytes that fit (UINT64_MAX: no limit). */
void io_sim_capacity(struct io *io, uint64_t bytes);
/* Inverts a bit of a file; false if there is no such byte. */
bool io_sim_flip(struct io *io, const char *path, uint64_t byte, unsigned bit);
/* Each file's path and size. */
void io_sim_each(struct io *io, void (*fn)(void *arg, const char *path, uint64_t size), void *arg);

#endif
