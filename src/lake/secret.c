/* Files with secrets. See secret.h. */
#include "lake/secret.h"

#include <openssl/crypto.h>

#include "io/io.h"

enum err secret_read(const char *path, struct buf *out, struct errinfo *info)
{
    struct io_file *f = NULL;
    uint64_t size = 0;
    size_t got = 0;
    enum err e = io_open(io_real(), path, IO_RDONLY, &f, info);

    if (!e)
        e = io_size(f, &size, info);
    if (!e && size >= out->max)
        e = errinfo_set(info, ERR_CONFIG, "%s is too large for a file of credentials", path);
    if (!e)
        e = buf_reserve(out, size + 1);
    if (!e)
        e = io_pread(f, out->ptr, size, 0, &got, info);
    out->len = got;
    io_close(&f);
    return e;
}

void secret_fini(struct buf *b)
{
    if (b->ptr)
        OPENSSL_cleanse(b->ptr, b->cap);
    buf_fini(b);
}
