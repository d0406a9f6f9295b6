/* SipHash-2-4 (Aumasson, Bernstein), 64- and 128-bit: hashing of what peers choose, under a key
 * that they do not know. Any thread. */
#ifndef WEIR_BASE_SIPHASH_H
#define WEIR_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t siphash64(const uint8_t key[16], const void *p, size_t n);
void siphash128(const uint8_t key[16], const void *p, size_t n, uint8_t out[16]);

#endif
