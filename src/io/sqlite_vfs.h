/* SQLite over struct io, so that the checkpoint database lives on the same (real or simulated) disk
 * as the log. The database is used by one process (the directory is locked) and one connection, so
 * locks are no-ops and there is no shared memory.
 *
 * Every page has a checksum (page_sum.h) that is made when it is written and checked when it is
 * read, also on the way through the rollback journal: damage is SQLITE_CORRUPT. A database that was
 * made before there were checksums is served as it is. A new one must be given the room for them
 * before it is first written: io_sqlite_vfs_prepare. */
#ifndef WEIR_IO_SQLITE_VFS_H
#define WEIR_IO_SQLITE_VFS_H

#include "io/io.h"

#define IO_SQLITE_VFS_NAME 32
/* Registers a VFS for io and puts its name into name[IO_SQLITE_VFS_NAME]. read_only: SQLite may
 * write, but no file is changed: what it writes stays in memory until the VFS is unregistered. */
enum err io_sqlite_vfs_register(struct io *io, bool read_only, char *name);
struct sqlite3;
/* What is written to a new database of this connection has checksums; so have copies of an old one
 * that VACUUM INTO makes. */
enum err io_sqlite_vfs_prepare(struct sqlite3 *db);
/* Has the database checksums? */
bool io_sqlite_vfs_sealed(struct sqlite3 *db);
/* True if a page did not match its checksum: the first that did not is named in info. */
bool io_sqlite_vfs_damage(const char *name, struct errinfo *info);
/* After the last connection with it is closed. */
void io_sqlite_vfs_unregister(const char *name);

#endif
