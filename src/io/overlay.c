/* Changes to a file that stay in memory. See overlay.h. A block that is changed is first copied
 * from the disk as a whole, so that it is then in memory or on the disk, never in both. */
#include "io/overlay.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum err overlay_init(struct overlay *o, struct io *io, const char *path, struct errinfo *info)
{
    enum err e;

    memset(o, 0, sizeof *o);
    o->path = xstrdup(path);
    e = io_open(io, path, IO_RDONLY, &o->disk, info);
    if (e == ERR_NOT_FOUND)
        return ERR_OK;
    if (!e)
        e = io_size(o->disk, &o->size, info);
    o->disk_end = o->size;
    o->there = e == ERR_OK;
    return e;
}

static void blocks_drop(struct overlay *o, uint64_t from)
{
    uint64_t i;

    for (i = from; i < o->block_n; i++)
        if (o->block[i]) {
            free(o->block[i]);
            o->block[i] = NULL;
            o->bytes -= OVERLAY_BLOCK;
        }
}

void overlay_fini(struct overlay *o)
{
    blocks_drop(o, 0);
    free(o->block);
    free(o->path);
    io_close(&o->disk);
    memset(o, 0, sizeof *o);
}

/* n bytes of the disk's file at off into buf; zeros where it has none. */
static enum err from_disk(struct overlay *o, uint8_t *buf, size_t n, uint64_t off,
                          struct errinfo *info)
{
    size_t got = 0, want = 0;
    enum err e = ERR_OK;

    if (o->disk && off < o->disk_end)
        want = n < o->disk_end - off ? n : (size_t)(o->disk_end - off);
    if (want)
        e = io_pread(o->disk, buf, want, off, &got, info);
    memset(buf + got, 0, n - got);
    return e;
}

enum err overlay_read(struct overlay *o, void *buf, size_t n, uint64_t off, size_t *got,
                      struct errinfo *info)
{
    uint8_t *to = buf;
    enum err e = ERR_OK;

    *got = off >= o->size ? 0 : n < o->size - off ? n : (size_t)(o->size - off);
    for (n = *got; !e && n;) {
        uint64_t i = off / OVERLAY_BLOCK, in = off % OVERLAY_BLOCK;
        size_t part = n < OVERLAY_BLOCK - in ? n : (size_t)(OVERLAY_BLOCK - in);

        if (i < o->block_n && o->block[i])
            memcpy(to, o->block[i] + in, part);
        else
            e = from_disk(o, to, part, off, info);
        to += part;
        off += part;
        n -= part;
    }
    return e;
}

/* The block in memory. */
static enum err block_get(struct overlay *o, uint64_t i, uint8_t **out, struct errinfo *info)
{
    uint64_t n;
    uint8_t *b;
    enum err e;

    if (i >= o->block_n) {
        n = i + 64;
        o->block = xrealloc(o->block, n * sizeof *o->block);
        memset(o->block + o->block_n, 0, (n - o->block_n) * sizeof *o->block);
        o->block_n = n;
    }
    if (!o->block[i]) {
        b = xmalloc(OVERLAY_BLOCK);
        if ((e = from_disk(o, b, OVERLAY_BLOCK, i * OVERLAY_BLOCK, info))) {
            free(b);
            return e;
        }
        o->block[i] = b;
        o->bytes += OVERLAY_BLOCK;
    }
    *out = o->block[i];
    return ERR_OK;
}

enum err overlay_write(struct overlay *o, const void *buf, size_t n, uint64_t off,
                       struct errinfo *info)
{
    const uint8_t *from = buf;
    enum err e = ERR_OK;
    uint8_t *b;

    if (o->bytes > OVERLAY_BYTES_MAX || off + n > OVERLAY_FILE_BYTES_MAX)
        return errinfo_set(info, ERR_NO_MEMORY,
                           "%s: more than %" PRIu64 " bytes would have to be changed in memory",
                           o->path, (uint64_t)OVERLAY_BYTES_MAX);
    while (!e && n) {
        uint64_t in = off % OVERLAY_BLOCK;
        size_t part = n < OVERLAY_BLOCK - in ? n : (size_t)(OVERLAY_BLOCK - in);

        if ((e = block_get(o, off / OVERLAY_BLOCK, &b, info)))
            break;
        memcpy(b + in, from, part);
        from += part;
        off += part;
        n -= part;
        if (off > o->size)
            o->size = off;
    }
    return e;
}

enum err overlay_truncate(struct overlay *o, uint64_t size, struct errinfo *info)
{
    uint64_t in = size % OVERLAY_BLOCK;
    enum err e = ERR_OK;
    uint8_t *b;

    if (size < o->size) {
        blocks_drop(o, (size + OVERLAY_BLOCK - 1) / OVERLAY_BLOCK);
        if (in && !(e = block_get(o, size / OVERLAY_BLOCK, &b, info)))
            memset(b + in, 0, OVERLAY_BLOCK - in);
        if (o->disk_end > size)
            o->disk_end = size;
    }
    if (!e)
        o->size = size;
    return e;
}

void overlay_remove(struct overlay *o)
{
    blocks_drop(o, 0);
    o->size = o->disk_end = 0;
    o->there = false;
}
