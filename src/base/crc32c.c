/* CRC32C by the processor's instruction where it has one, by table otherwise. Long inputs run three
 * streams side by side (the instruction has a latency of three cycles) and are joined by combining. */
#include "base/crc32c.h"

#include "base/endian.h"

#define POLY 0x82f63b78u

/* a * b modulo the polynomial, in the reflected representation. */
static uint32_t mulmod(uint32_t a, uint32_t b)
{
    uint32_t m = 1u << 31, p = 0;

    for (;;) {
        if (a & m) {
            p ^= b;
            if ((a & (m - 1)) == 0)
                return p;
        }
        m >>= 1;
        b = b & 1 ? (b >> 1) ^ POLY : b >> 1;
    }
}

static uint32_t table[8][256];
static uint32_t zeros[64]; /* zeros[k]: x^(8 * 2^k) */

/* Before main, so that no thread ever sees half a table. */
__attribute__((constructor)) static void tables_make(void)
{
    uint32_t i, k, c;

    for (i = 0; i < 256; i++) {
        c = i;
        for (k = 0; k < 8; k++)
            c = c & 1 ? (c >> 1) ^ POLY : c >> 1;
        table[0][i] = c;
    }
    for (i = 0; i < 256; i++)
        for (k = 1; k < 8; k++)
            table[k][i] = (table[k - 1][i] >> 8) ^ table[0][table[k - 1][i] & 0xff];
    zeros[0] = 0x00800000u; /* x^8 */
    for (k = 1; k < 64; k++)
        zeros[k] = mulmod(zeros[k - 1], zeros[k - 1]);
}

uint32_t crc32c_combine(uint32_t a, uint32_t b, uint64_t len_b)
{
    uint32_t shift = 1u << 31; /* x^0 */
    unsigned k;

    if (len_b == 0)
        return a;
    for (k = 0; len_b; len_b >>= 1, k++)
        if (len_b & 1)
            shift = mulmod(zeros[k], shift);
    return mulmod(shift, a) ^ b;
}

static uint32_t portable(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t lo = crc ^ le32_load(p), hi = le32_load(p + 4);

        crc = table[7][lo & 0xff] ^ table[6][lo >> 8 & 0xff] ^ table[5][lo >> 16 & 0xff] ^
              table[4][lo >> 24] ^ table[3][hi & 0xff] ^ table[2][hi >> 8 & 0xff] ^
              table[1][hi >> 16 & 0xff] ^ table[0][hi >> 24];
    }
    for (; n; n--)
        crc = (crc >> 8) ^ table[0][(crc ^ *p++) & 0xff];
    return ~crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

#define LANE 4096u

__attribute__((target("sse4.2"))) static uint32_t lane(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t c = crc;

    for (; n >= 8; n -= 8, p += 8)
        c = _mm_crc32_u64(c, le64_load(p));
    for (; n; n--)
        c = _mm_crc32_u8((uint32_t)c, *p++);
    return (uint32_t)c;
}

__attribute__((target("sse4.2"))) static uint32_t hardware(uint32_t crc, const uint8_t *p, size_t n)
{
    static uint32_t shift; /* x^(8 * LANE): the same value whoever computes it first */
    uint32_t k = __atomic_load_n(&shift, __ATOMIC_RELAXED);

    if (!k) {
        k = zeros[12];
        __atomic_store_n(&shift, k, __ATOMIC_RELAXED);
    }
    crc = ~crc;
    for (; n >= 3 * LANE; n -= 3 * LANE, p += 3 * LANE) {
        uint64_t a = crc, b = 0, c = 0;
        size_t i;

        for (i = 0; i < LANE; i += 8) {
            a = _mm_crc32_u64(a, le64_load(p + i));
            b = _mm_crc32_u64(b, le64_load(p + LANE + i));
            c = _mm_crc32_u64(c, le64_load(p + 2 * LANE + i));
        }
        crc = mulmod(k, (uint32_t)a) ^ (uint32_t)b;
        crc = mulmod(k, crc) ^ (uint32_t)c;
    }
    return ~lane(crc, p, n);
}

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    return __builtin_cpu_supports("sse4.2") ? hardware(crc, p, n) : portable(crc, p, n);
}
#else
uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    return portable(crc, p, n);
}
#endif
