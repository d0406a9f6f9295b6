/* CRC32C. See crc32c.h.
 *
 * A CRC is a polynomial modulo P; bit 31 is the coefficient of x^0 (reflected). Appending n zero
 * bytes multiplies it by x^(8n), so CRCs of parts are joined by one multiplication, which serves
 * two uses: crc32c_combine, and three parts computed side by side, because the crc32 instruction
 * can start each cycle but answers after three.
 *
 * On x86-64 the multiplication is a carry-less one, and its 64-bit product is reduced by the crc32
 * instruction itself, which multiplies by x^32; the reflected product stands one bit too low. Both
 * together are x^33, so the constants hold x^(8n - 33).
 *
 * Tables are made by a constructor, before main or inside dlopen: no thread sees half of them. */
#include "base/crc32c.h"

#include <stdbool.h>

#include "base/endian.h"

#define POLY   0x82f63b78u
#define ONE    (1u << 31) /* x^0 */
#define X8     (1u << 23) /* x^8 */
#define DIGITS 16         /* of a 64-bit length in base 16 */

static uint32_t table[8][256];
static uint32_t zeros[DIGITS][16]; /* zeros[k][d]: x^(8 * d * 16^k) */
#if defined(__x86_64__) || (defined(__aarch64__) && defined(__linux__))
static bool hardware;
#endif
#if defined(__x86_64__)
static uint32_t zeros_hw[DIGITS][16]; /* the same, divided by x^33 */
#endif

/* a * b modulo P. */
static uint32_t mulmod(uint32_t a, uint32_t b)
{
    uint32_t p = 0;

    for (; a; a <<= 1) {
        p ^= a & ONE ? b : 0;
        b = (b >> 1) ^ (b & 1 ? POLY : 0);
    }
    return p;
}

static void tables_fill(void)
{
    uint32_t i, k, c, unit = X8;

    for (i = 0; i < 256; i++) {
        c = i;
        for (k = 0; k < 8; k++)
            c = c & 1 ? (c >> 1) ^ POLY : c >> 1;
        table[0][i] = c;
    }
    for (i = 0; i < 256; i++)
        for (k = 1; k < 8; k++)
            table[k][i] = (table[k - 1][i] >> 8) ^ table[0][table[k - 1][i] & 0xff];
    for (k = 0; k < DIGITS; k++) {
        zeros[k][0] = ONE;
        for (i = 1; i < 16; i++)
            zeros[k][i] = mulmod(zeros[k][i - 1], unit);
        unit = mulmod(zeros[k][15], unit);
    }
}

uint32_t crc32c_combine_portable(uint32_t a, uint32_t b, uint64_t len_b)
{
    unsigned k;

    for (k = 0; len_b; len_b >>= 4, k++)
        if (len_b & 15)
            a = mulmod(zeros[k][len_b & 15], a);
    return a ^ b;
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t n)
{
    const uint8_t *p = data;

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
#include <wmmintrin.h>

#define TARGET __attribute__((target("sse4.2,pclmul")))
/* Bytes of each of the three parts, by turns. They lie close together, so that the processor sees
 * one stream and fetches ahead: with parts of 2048 what is not in its cache takes twice as long. */
static const uint32_t lanes[] = {256, 128, 64};
static uint32_t lane_one[3], lane_two[3]; /* x^(8n - 33) for n = one and two lanes */

__attribute__((constructor)) static void tables_make(void)
{
    uint32_t inverse = ONE; /* x^-33: dividing by x undoes one step of mulmod */
    unsigned i, k;

    tables_fill();
    __builtin_cpu_init();
    hardware = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
    for (i = 0; i < 33; i++)
        inverse = inverse & ONE ? (inverse ^ POLY) << 1 | 1 : inverse << 1;
    for (k = 0; k < DIGITS; k++)
        for (i = 0; i < 16; i++)
            zeros_hw[k][i] = mulmod(zeros[k][i], inverse);
    for (i = 0; i < 3; i++) {
        lane_one[i] = mulmod(crc32c_combine_portable(ONE, 0, lanes[i]), inverse);
        lane_two[i] = mulmod(crc32c_combine_portable(ONE, 0, 2ull * lanes[i]), inverse);
    }
}

TARGET static inline uint64_t clmul(uint32_t a, uint32_t b)
{
    return (uint64_t)_mm_cvtsi128_si64(
        _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)a), _mm_cvtsi32_si128((int)b), 0));
}

TARGET static inline uint32_t three(uint32_t crc, const uint8_t *p, unsigned turn)
{
    const uint32_t lane = lanes[turn];
    uint64_t a = crc, b = 0, c = 0;
    uint32_t i;

    for (i = 0; i < lane; i += 16) {
        a = _mm_crc32_u64(a, le64_load(p + i));
        b = _mm_crc32_u64(b, le64_load(p + lane + i));
        c = _mm_crc32_u64(c, le64_load(p + 2 * lane + i));
        a = _mm_crc32_u64(a, le64_load(p + i + 8));
        b = _mm_crc32_u64(b, le64_load(p + lane + i + 8));
        c = _mm_crc32_u64(c, le64_load(p + 2 * lane + i + 8));
    }
    return (uint32_t)_mm_crc32_u64(0, clmul((uint32_t)a, lane_two[turn]) ^
                                          clmul((uint32_t)b, lane_one[turn])) ^
           (uint32_t)c;
}

TARGET static uint32_t by_hardware(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t c;
    unsigned turn;

    crc = ~crc;
    for (turn = 0; turn < 3; turn++)
        for (; n >= 3 * lanes[turn]; n -= 3 * lanes[turn], p += 3 * lanes[turn])
            crc = three(crc, p, turn);
    c = crc;
    for (; n >= 8; n -= 8, p += 8)
        c = _mm_crc32_u64(c, le64_load(p));
    for (; n; n--)
        c = _mm_crc32_u8((uint32_t)c, *p++);
    return ~(uint32_t)c;
}

TARGET static uint32_t combine_by_hardware(uint32_t a, uint64_t len_b)
{
    unsigned k;

    for (k = 0; len_b; len_b >>= 4, k++)
        if (len_b & 15)
            a = (uint32_t)_mm_crc32_u64(0, clmul(a, zeros_hw[k][len_b & 15]));
    return a;
}

uint32_t crc32c_combine(uint32_t a, uint32_t b, uint64_t len_b)
{
    return hardware ? combine_by_hardware(a, len_b) ^ b : crc32c_combine_portable(a, b, len_b);
}

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

#define CAP_CRC32 (1ul << 7) /* HWCAP_CRC32 */
#define LANE      1024u

static uint32_t lane_one, lane_two; /* x^(8n) for n = one and two lanes */

__attribute__((constructor)) static void tables_make(void)
{
    tables_fill();
    hardware = (getauxval(AT_HWCAP) & CAP_CRC32) != 0;
    lane_one = crc32c_combine_portable(ONE, 0, LANE);
    lane_two = crc32c_combine_portable(ONE, 0, 2 * LANE);
}

/* As assembly: the compilers disagree on how to name these for one function only. */
static inline uint32_t crc_u64(uint32_t crc, uint64_t v)
{
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(v));
    return crc;
}

static inline uint32_t crc_u8(uint32_t crc, uint8_t v)
{
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"(v));
    return crc;
}

static uint32_t by_hardware(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    for (; n >= 3 * LANE; n -= 3 * LANE, p += 3 * LANE) {
        uint32_t a = crc, b = 0, c = 0, i;

        for (i = 0; i < LANE; i += 8) {
            a = crc_u64(a, le64_load(p + i));
            b = crc_u64(b, le64_load(p + LANE + i));
            c = crc_u64(c, le64_load(p + 2 * LANE + i));
        }
        crc = mulmod(a, lane_two) ^ mulmod(b, lane_one) ^ c;
    }
    for (; n >= 8; n -= 8, p += 8)
        crc = crc_u64(crc, le64_load(p));
    for (; n; n--)
        crc = crc_u8(crc, *p++);
    return ~crc;
}

uint32_t crc32c_combine(uint32_t a, uint32_t b, uint64_t len_b)
{
    return crc32c_combine_portable(a, b, len_b);
}

#else
static const bool hardware = false;

__attribute__((constructor)) static void tables_make(void)
{
    tables_fill();
}

static uint32_t by_hardware(uint32_t crc, const uint8_t *p, size_t n)
{
    return crc32c_portable(crc, p, n);
}

uint32_t crc32c_combine(uint32_t a, uint32_t b, uint64_t len_b)
{
    return crc32c_combine_portable(a, b, len_b);
}
#endif

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    return hardware ? by_hardware(crc, p, n) : crc32c_portable(crc, p, n);
}
