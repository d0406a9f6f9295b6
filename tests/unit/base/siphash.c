/* SipHash-2-4: the reference's vectors (key 00..0f, input 00 01 02 …). */
#include "base/siphash.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static uint8_t key[16], in[64];

static int fill(void **state)
{
    unsigned i;

    for (i = 0; i < 64; i++)
        in[i] = (uint8_t)i;
    memcpy(key, in, 16);
    return 0;
}

static void wide_64(void **state)
{
    assert_true(siphash64(key, in, 0) == 0x726fdb47dd0e0e31);
    assert_true(siphash64(key, in, 1) == 0x74f839c593dc67fd);
    assert_true(siphash64(key, in, 2) == 0x0d6c8009d9a94f5a);
    assert_true(siphash64(key, in, 7) == 0xab0200f58b01d137);
    assert_true(siphash64(key, in, 8) == 0x93f5f5799a932462);
    assert_true(siphash64(key, in, 15) == 0xa129ca6149be45e5); /* the paper's example */
    assert_true(siphash64(key, in, 63) == 0x958a324ceb064572);
}

static void wide_128(void **state)
{
    static const uint8_t none[16] = {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6,
                                     0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93};
    static const uint8_t one[16] = {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44,
                                    0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45};
    uint8_t out[16];

    siphash128(key, in, 0, out);
    assert_memory_equal(out, none, 16);
    siphash128(key, in, 1, out);
    assert_memory_equal(out, one, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(wide_64), cmocka_unit_test(wide_128)};

    return cmocka_run_group_tests(tests, fill, NULL);
}
