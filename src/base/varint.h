/* Varints as Kafka's record format and compact types use them: base 128, least significant group
 * first; signed values zigzag. Decoders return the bytes consumed, 0 if the input ends early or the
 * value does not fit. Header only. */
#ifndef WEIR_BASE_VARINT_H
#define WEIR_BASE_VARINT_H

#include <stddef.h>
#include <stdint.h>

#define VARINT_MAX  5  /* bytes of a 32-bit value at most */
#define VARLONG_MAX 10 /* of a 64-bit one */

/* Writes v; returns the bytes written (dst has VARLONG_MAX). */
static inline size_t uvarint_write(uint8_t *dst, uint64_t v)
{
    size_t n = 0;

    while (v >= 0x80) {
        dst[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    dst[n++] = (uint8_t)v;
    return n;
}

static inline size_t uvarint_size(uint64_t v)
{
    return ((63 - (size_t)__builtin_clzll(v | 1)) / 7) + 1;
}

static inline size_t uvarint_read(const uint8_t *p, size_t avail, size_t max, uint64_t *v)
{
    uint64_t r = 0;
    size_t n;

    if (avail && p[0] < 0x80) { /* most are so short */
        *v = p[0];
        return 1;
    }
    for (n = 0; n < avail && n < max; n++) {
        if (n == 9 && p[n] > 1)
            return 0;
        r |= (uint64_t)(p[n] & 0x7f) << (7 * n);
        if (!(p[n] & 0x80)) {
            *v = r;
            return n + 1;
        }
    }
    return 0;
}

static inline uint64_t zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static inline int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

static inline size_t varint_write(uint8_t *dst, int64_t v)
{
    return uvarint_write(dst, zigzag(v));
}

static inline size_t varint_size(int64_t v)
{
    return uvarint_size(zigzag(v));
}

/* 32-bit: values outside int32 are refused. */
static inline size_t varint_read(const uint8_t *p, size_t avail, int32_t *v)
{
    uint64_t u;
    size_t n = uvarint_read(p, avail, VARINT_MAX, &u);

    if (n == 0 || u > UINT32_MAX)
        return 0;
    *v = (int32_t)unzigzag(u);
    return n;
}

static inline size_t varlong_read(const uint8_t *p, size_t avail, int64_t *v)
{
    uint64_t u;
    size_t n = uvarint_read(p, avail, VARLONG_MAX, &u);

    if (n)
        *v = unzigzag(u);
    return n;
}

#endif
