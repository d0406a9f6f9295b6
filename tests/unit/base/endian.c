/* Loads and stores in both byte orders, at odd addresses. */
#include "base/endian.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void orders(void **state)
{
    uint8_t b[9] = {0};

    be16_store(b + 1, 0x0102);
    assert_memory_equal(b + 1, "\1\2", 2);
    le16_store(b + 1, 0x0102);
    assert_memory_equal(b + 1, "\2\1", 2);
    be32_store(b + 1, 0x01020304);
    assert_memory_equal(b + 1, "\1\2\3\4", 4);
    le32_store(b + 1, 0x01020304);
    assert_memory_equal(b + 1, "\4\3\2\1", 4);
    be64_store(b + 1, 0x0102030405060708);
    assert_memory_equal(b + 1, "\1\2\3\4\5\6\7\10", 8);
    assert_true(be64_load(b + 1) == 0x0102030405060708);
    assert_true(le64_load(b + 1) == 0x0807060504030201);
    assert_int_equal(be32_load(b + 1), 0x01020304);
    assert_int_equal(le32_load(b + 1), 0x04030201);
    assert_int_equal(be16_load(b + 1), 0x0102);
    assert_int_equal(le16_load(b + 1), 0x0201);
    le64_store(b + 1, UINT64_MAX - 1);
    assert_true(le64_load(b + 1) == UINT64_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(orders)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
