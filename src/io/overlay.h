/* A file as if it could be changed: what is written, cut off or removed stays in memory, the disk
 * is only read. With it a read-only opening lets SQLite roll back what a crash left half done. One
 * thread at a time. Private to src/io. */
#ifndef WEIR_IO_OVERLAY_H
#define WEIR_IO_OVERLAY_H

#include "base/list.h"
#include "io/io.h"

#define OVERLAY_BLOCK          4096u
#define OVERLAY_BYTES_MAX      (1ull << 30) /* changed, in memory */
#define OVERLAY_FILE_BYTES_MAX (1ull << 40) /* 2 GiB of block numbers */

struct overlay {
    struct list_node link; /* the owner's */
    char *path;
    struct io_file *disk; /* NULL: there is no such file, or it was removed */
    uint64_t size;
    uint64_t disk_end; /* what lies behind it is not read from the disk any more */
    uint8_t **block;   /* changed blocks by number; NULL: as on the disk */
    uint64_t block_n;
    uint64_t bytes; /* in memory */
    bool there;
};

/* Looks at the file. ERR_OK also if there is none (then o->there is false). */
enum err overlay_init(struct overlay *o, struct io *io, const char *path, struct errinfo *info);
void overlay_fini(struct overlay *o);
/* Up to n bytes; *got is how many there are. */
enum err overlay_read(struct overlay *o, void *buf, size_t n, uint64_t off, size_t *got,
                      struct errinfo *info);
/* ERR_NO_MEMORY above OVERLAY_BYTES_MAX of changed blocks. */
enum err overlay_write(struct overlay *o, const void *buf, size_t n, uint64_t off,
                       struct errinfo *info);
enum err overlay_truncate(struct overlay *o, uint64_t size, struct errinfo *info);
void overlay_remove(struct overlay *o);

#endif
