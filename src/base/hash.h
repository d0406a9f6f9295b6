/* Hashes. hash64 is fast and for keys that no peer chooses (or where a flood does no harm);
 * siphash64 and siphash128 are for keys that peers choose, under a secret. None is cryptographic;
 * none is written to disk except siphash128 under a key that is stored with it. Any thread. */
#ifndef WEIR_BASE_HASH_H
#define WEIR_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/siphash.h"

uint64_t hash64(const void *p, size_t n, uint64_t seed);

/* A good mix of one integer: every bit of v moves every bit of the result. */
static inline uint64_t hash_u64(uint64_t v, uint64_t seed)
{
    v ^= seed;
    v = (v ^ (v >> 32)) * 0xd6e8feb86659fd93u;
    v = (v ^ (v >> 32)) * 0xd6e8feb86659fd93u;
    return v ^ (v >> 32);
}

/* The next number of a generator that a seed determines (splitmix64); *state is its state. For
 * simulations and tests: nothing that must not be guessed. */
static inline uint64_t rng_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

#endif
