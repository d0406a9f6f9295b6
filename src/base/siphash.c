/* SipHash-2-4. See siphash.h. */
#include "base/siphash.h"

#include "base/endian.h"

struct state {
    uint64_t a, b, c, d;
};

static inline uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

static inline void rounds(struct state *s, int n)
{
    while (n--) {
        s->a += s->b;
        s->b = rotl(s->b, 13) ^ s->a;
        s->a = rotl(s->a, 32);
        s->c += s->d;
        s->d = rotl(s->d, 16) ^ s->c;
        s->a += s->d;
        s->d = rotl(s->d, 21) ^ s->a;
        s->c += s->b;
        s->b = rotl(s->b, 17) ^ s->c;
        s->c = rotl(s->c, 32);
    }
}

static void absorb(struct state *s, const uint8_t key[16], const uint8_t *p, size_t n, int wide)
{
    uint64_t k0 = le64_load(key), k1 = le64_load(key + 8), m = (uint64_t)n << 56;
    size_t i;

    s->a = k0 ^ 0x736f6d6570736575ull;
    s->b = k1 ^ 0x646f72616e646f6dull ^ (wide ? 0xee : 0);
    s->c = k0 ^ 0x6c7967656e657261ull;
    s->d = k1 ^ 0x7465646279746573ull;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t w = le64_load(p);

        s->d ^= w;
        rounds(s, 2);
        s->a ^= w;
    }
    for (i = 0; i < n; i++)
        m |= (uint64_t)p[i] << (8 * i);
    s->d ^= m;
    rounds(s, 2);
    s->a ^= m;
}

uint64_t siphash64(const uint8_t key[16], const void *p, size_t n)
{
    struct state s;

    absorb(&s, key, p, n, 0);
    s.c ^= 0xff;
    rounds(&s, 4);
    return s.a ^ s.b ^ s.c ^ s.d;
}

void siphash128(const uint8_t key[16], const void *p, size_t n, uint8_t out[16])
{
    struct state s;

    absorb(&s, key, p, n, 1);
    s.c ^= 0xee;
    rounds(&s, 4);
    le64_store(out, s.a ^ s.b ^ s.c ^ s.d);
    s.b ^= 0xdd;
    rounds(&s, 4);
    le64_store(out + 8, s.a ^ s.b ^ s.c ^ s.d);
}
