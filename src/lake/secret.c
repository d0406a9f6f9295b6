/* Files with secrets. See secret.h. */
#include "lake/secret.h"

#include <openssl/crypto.h>

#include "io/io.h"

enum err secret_read(const char *path, struct buf *out, struct errinfo *info)
{
    return io_text(io_real(), path, out, info);
}

void secret_fini(struct buf *b)
{
    if (b->ptr)
        OPENSSL_cleanse(b->ptr, b->cap);
    buf_fini(b);
}
