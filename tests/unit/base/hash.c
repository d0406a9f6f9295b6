/* hash64 and hash_u64: every byte and the length count, bits spread. */
#include "base/hash.h"

#include <stdbool.h>
#include <string.h>

#include "../vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Flipping one input bit flips about half of the output bits. */
static void avalanche(void **state)
{
    uint64_t seed = test_seed(), flips = 0, n = 0;
    uint8_t key[48];
    size_t len, bit, i;

    for (len = 1; len <= sizeof key; len++) {
        for (i = 0; i < len; i++)
            key[i] = (uint8_t)test_random(&seed);
        for (bit = 0; bit < 8 * len; bit++) {
            uint64_t h = hash64(key, len, 1), g;

            key[bit / 8] ^= (uint8_t)(1 << bit % 8);
            g = hash64(key, len, 1);
            assert_true(h != g);
            flips += (uint64_t)__builtin_popcountll(h ^ g);
            n++;
        }
    }
    assert_in_range(flips / n, 31, 33);
}

static void length_and_seed_count(void **state)
{
    static const uint8_t zeros[64];
    uint64_t seen[65];
    size_t i, k;

    for (i = 0; i <= 64; i++) {
        seen[i] = hash64(zeros, i, 7);
        assert_true(seen[i] != hash64(zeros, i, 8));
        for (k = 0; k < i; k++)
            assert_true(seen[i] != seen[k]);
    }
}

/* Numbers in order fill the low bits evenly: 64 keys a bucket, none with more than 120. */
static void low_bits_even(void **state)
{
    static unsigned by_text[1024], by_int[1024];
    char key[32];
    unsigned i;

    for (i = 0; i < 65536; i++) {
        int n = snprintf(key, sizeof key, "user-%u", i);

        by_text[hash64(key, (size_t)n, 0) & 1023]++;
        by_int[hash_u64(i, 0) & 1023]++;
    }
    for (i = 0; i < 1024; i++) {
        assert_in_range(by_text[i], 20, 120);
        assert_in_range(by_int[i], 20, 120);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(avalanche),
        cmocka_unit_test(length_and_seed_count),
        cmocka_unit_test(low_bits_even),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
