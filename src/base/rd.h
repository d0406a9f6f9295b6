/* A cursor over bytes from outside: reading never goes past the end. It turns bad at the first short
 * read and stays so; who reads asks once, at the end. Integers are made of rd_take's bytes by the
 * format's own byte order (base/endian.h).
 * Header only; no I/O; a cursor belongs to one thread. */
#ifndef WEIR_BASE_RD_H
#define WEIR_BASE_RD_H

#include "base/slice.h"

struct rd {
    const uint8_t *p;
    size_t left;
    bool bad; /* something was asked for that is not there, or the reader found it wrong */
};

static inline struct rd rd_of(struct slice s)
{
    return (struct rd){s.ptr, s.len, false};
}

/* The next n bytes, borrowed; NULL: there are fewer, or it is bad already. */
static inline const uint8_t *rd_take(struct rd *r, size_t n)
{
    const uint8_t *p = r->p;

    if (r->bad || r->left < n) {
        r->bad = true;
        return NULL;
    }
    r->p += n;
    r->left -= n;
    return p;
}

/* The same as a slice, which is empty where there are fewer, but never null. */
static inline struct slice rd_bytes(struct rd *r, size_t n)
{
    const uint8_t *p = rd_take(r, n);

    return p ? slice_of(p, n) : slice_of("", 0);
}

#endif
