/* hash64: two words at a time are multiplied to 128 bits and folded. See hash.h.
 * Bytes are read little-endian, so that the value is the same on every machine. */
#include "base/hash.h"

#include "base/endian.h"

#define K0 0x9e3779b97f4a7c15u
#define K1 0xbf58476d1ce4e5b9u
#define K2 0x94d049bb133111ebu

static inline uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 m = (unsigned __int128)a * b;

    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* Up to 16 bytes as two words; every byte takes part, and the length goes into the end. */
static inline void tail(const uint8_t *p, size_t n, uint64_t *a, uint64_t *b)
{
    if (n >= 8) {
        *a = le64_load(p);
        *b = le64_load(p + n - 8);
    } else if (n >= 4) {
        *a = le32_load(p);
        *b = le32_load(p + n - 4);
    } else if (n) {
        *a = (uint64_t)p[0] << 16 | (uint64_t)p[n / 2] << 8 | p[n - 1];
        *b = 0;
    } else {
        *a = *b = 0;
    }
}

uint64_t hash64(const void *data, size_t n, uint64_t seed)
{
    const uint8_t *p = data;
    uint64_t h = fold(seed ^ K0, K1), a, b;
    size_t left = n;

    for (; left > 16; left -= 16, p += 16)
        h = fold(le64_load(p) ^ K1, le64_load(p + 8) ^ h);
    tail(p, left, &a, &b);
    return fold(fold(a ^ K1, b ^ h) ^ K0 ^ n, K2);
}
