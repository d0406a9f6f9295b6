/* A growable run of bytes with a maximum that must be named. Appending past it answers
 * ERR_TOO_LARGE and changes nothing. One owner, one thread at a time. */
#ifndef WEIR_BASE_BUF_H
#define WEIR_BASE_BUF_H

#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

struct buf {
    uint8_t *ptr;
    size_t len, cap, max;
};

/* Empty; allocates nothing until the first append. */
void buf_init(struct buf *b, size_t max);
void buf_fini(struct buf *b);
static inline void buf_clear(struct buf *b)
{
    b->len = 0;
}
/* Room for n more bytes behind len. Pointers into the buffer end here. */
enum err buf_reserve(struct buf *b, size_t n);
enum err buf_append(struct buf *b, const void *p, size_t n);
enum err buf_append_slice(struct buf *b, struct slice s);
enum err buf_append_str(struct buf *b, const char *s);
enum err buf_append_u8(struct buf *b, uint8_t v);
enum err buf_append_be16(struct buf *b, uint16_t v);
enum err buf_append_be32(struct buf *b, uint32_t v);
enum err buf_append_be64(struct buf *b, uint64_t v);
/* Needs room for the text and a NUL, which is written but not counted. */
enum err buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Moves the bytes out: the caller frees them with free(); *len is their number. */
uint8_t *buf_take(struct buf *b, size_t *len);
static inline struct slice buf_slice(const struct buf *b)
{
    return slice_of(b->ptr, b->len);
}

#endif
