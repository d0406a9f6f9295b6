/* SQLite over struct io, so that the checkpoint database lives on the same (real or simulated) disk
 * as the log. The database is used by one process (the directory is locked) and one connection, so
 * locks are no-ops and there is no shared memory. */
#ifndef WEIR_IO_SQLITE_VFS_H
#define WEIR_IO_SQLITE_VFS_H

#include "io/io.h"

#define IO_SQLITE_VFS_NAME 32
/* Registers a VFS for io and puts its name into name[IO_SQLITE_VFS_NAME]. read_only: SQLite may
 * write, but no file is changed: what it writes stays in memory until the VFS is unregistered. */
enum err io_sqlite_vfs_register(struct io *io, bool read_only, char *name);
/* After the last connection with it is closed. */
void io_sqlite_vfs_unregister(const char *name);

#endif
