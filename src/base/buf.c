/* Growable byte buffers. See buf.h. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/endian.h"
#include "base/mem.h"

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_fini(struct buf *b)
{
    free(b->ptr);
    *b = (struct buf){.max = b->max};
}

enum err buf_reserve(struct buf *b, size_t n)
{
    size_t cap = b->cap ? b->cap : 64;

    if (n > b->max || b->len > b->max - n)
        return ERR_TOO_LARGE;
    if (b->len + n <= b->cap)
        return ERR_OK;
    while (cap < b->len + n)
        cap += cap / 2 + 64;
    if (cap > b->max)
        cap = b->max;
    b->ptr = xrealloc(b->ptr, cap);
    b->cap = cap;
    return ERR_OK;
}

enum err buf_append(struct buf *b, const void *p, size_t n)
{
    enum err e = buf_reserve(b, n);

    if (e || n == 0)
        return e;
    memcpy(b->ptr + b->len, p, n);
    b->len += n;
    return ERR_OK;
}

enum err buf_append_slice(struct buf *b, struct slice s)
{
    return buf_append(b, s.ptr, s.len);
}

enum err buf_append_str(struct buf *b, const char *s)
{
    return buf_append(b, s, strlen(s));
}

enum err buf_append_u8(struct buf *b, uint8_t v)
{
    return buf_append(b, &v, 1);
}

enum err buf_append_be16(struct buf *b, uint16_t v)
{
    uint8_t t[2];

    be16_store(t, v);
    return buf_append(b, t, sizeof t);
}

enum err buf_append_be32(struct buf *b, uint32_t v)
{
    uint8_t t[4];

    be32_store(t, v);
    return buf_append(b, t, sizeof t);
}

enum err buf_append_be64(struct buf *b, uint64_t v)
{
    uint8_t t[8];

    be64_store(t, v);
    return buf_append(b, t, sizeof t);
}

enum err buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    enum err e;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        return ERR_INVALID;
    if ((e = buf_reserve(b, (size_t)n + 1)))
        return e;
    va_start(ap, fmt);
    vsnprintf((char *)b->ptr + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return ERR_OK;
}

uint8_t *buf_take(struct buf *b, size_t *len)
{
    uint8_t *p = b->ptr;

    *len = b->len;
    b->ptr = NULL;
    b->len = b->cap = 0;
    return p;
}
