/* Files with secrets. Private to src/lake. Any thread. */
#ifndef WEIR_LAKE_SECRET_H
#define WEIR_LAKE_SECRET_H

#include "base/buf.h"
#include "base/err.h"

/* Appends the file's bytes to out, whose maximum bounds them. ERR_CONFIG: it is larger. */
enum err secret_read(const char *path, struct buf *out, struct errinfo *info);
/* Overwrites what was read, and frees it. */
void secret_fini(struct buf *b);

#endif
