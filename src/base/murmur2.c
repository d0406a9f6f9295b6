/* Murmur2 with Kafka's seed. See murmur2.h. */
#include "base/murmur2.h"

#include "base/endian.h"

uint32_t murmur2(const void *p, size_t n)
{
    const uint32_t m = 0x5bd1e995u;
    const uint8_t *d = p;
    uint32_t h = 0x9747b28cu ^ (uint32_t)n;

    for (; n >= 4; n -= 4, d += 4) {
        uint32_t k = le32_load(d);

        k *= m;
        k ^= k >> 24;
        h = (h * m) ^ (k * m);
    }
    switch (n) {
    case 3:
        h ^= (uint32_t)d[2] << 16;
        __attribute__((fallthrough));
    case 2:
        h ^= (uint32_t)d[1] << 8;
        __attribute__((fallthrough));
    case 1:
        h = (h ^ d[0]) * m;
    }
    h ^= h >> 13;
    h *= m;
    return h ^ (h >> 15);
}

int32_t murmur2_partition(struct slice key, int32_t n)
{
    return (int32_t)((murmur2(key.ptr, key.len) & 0x7fffffffu) % (uint32_t)n);
}
