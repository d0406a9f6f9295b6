/* CRC32C (Castagnoli, reflected polynomial 0x82F63B78), as record batches and frames use it: by the
 * processor's instruction where there is one (x86-64 SSE4.2, ARMv8 CRC), by table otherwise; found
 * out when the program starts. Any thread. */
#ifndef WEIR_BASE_CRC32C_H
#define WEIR_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues crc (0 to begin) over n bytes. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
/* CRC of A followed by B from a = crc(A), b = crc(B) and the length of B in bytes. */
uint32_t crc32c_combine(uint32_t a, uint32_t b, uint64_t len_b);

/* The same by tables on any machine: what the others are tested against. */
uint32_t crc32c_portable(uint32_t crc, const void *p, size_t n);
uint32_t crc32c_combine_portable(uint32_t a, uint32_t b, uint64_t len_b);

#endif
