/* Buffers: growth, the maximum, moving out. */
#include "base/buf.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void appends(void **state)
{
    static const uint8_t want[] = {'a', 'b', 1, 1, 2, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, 'n', '7'};
    struct buf b;

    buf_init(&b, 1000);
    assert_null(b.ptr);
    assert_int_equal(buf_append_str(&b, "ab"), ERR_OK);
    assert_int_equal(buf_append_u8(&b, 1), ERR_OK);
    assert_int_equal(buf_append_be16(&b, 0x0102), ERR_OK);
    assert_int_equal(buf_append_be32(&b, 0x01020304), ERR_OK);
    assert_int_equal(buf_append_be64(&b, 0x0102030405060708), ERR_OK);
    assert_int_equal(buf_append_slice(&b, SLICE_NULL), ERR_OK);
    assert_int_equal(buf_printf(&b, "%c%d", 'n', 7), ERR_OK);
    assert_int_equal(b.len, sizeof want);
    assert_memory_equal(b.ptr, want, sizeof want);
    buf_fini(&b);
    assert_null(b.ptr);
    assert_int_equal(b.max, 1000);
}

static void max_is_kept(void **state)
{
    struct buf b;
    uint8_t big[200] = {0};

    buf_init(&b, 100);
    assert_int_equal(buf_append(&b, big, 101), ERR_TOO_LARGE);
    assert_int_equal(buf_append(&b, big, 60), ERR_OK);
    assert_int_equal(buf_append(&b, big, 41), ERR_TOO_LARGE);
    assert_int_equal(b.len, 60);
    assert_int_equal(buf_append(&b, big, 40), ERR_OK);
    assert_int_equal(buf_append_u8(&b, 1), ERR_TOO_LARGE);
    assert_int_equal(buf_reserve(&b, SIZE_MAX), ERR_TOO_LARGE);
    assert_int_equal(buf_reserve(&b, SIZE_MAX - 50), ERR_TOO_LARGE);
    assert_true(b.cap <= 100);
    buf_clear(&b);
    assert_int_equal(buf_append(&b, big, 100), ERR_OK);
    assert_int_equal(buf_printf(&b, "x"), ERR_TOO_LARGE);
    buf_fini(&b);
}

static void grows_to_many(void **state)
{
    struct buf b;
    uint32_t i;

    buf_init(&b, 4 << 20);
    for (i = 0; i < 1 << 20; i++)
        assert_int_equal(buf_append(&b, &i, 4), ERR_OK);
    for (i = 0; i < 1 << 20; i++)
        assert_memory_equal(b.ptr + 4 * i, &i, 4);
    assert_int_equal(buf_append_u8(&b, 0), ERR_TOO_LARGE);
    buf_fini(&b);
}

static void takes(void **state)
{
    struct buf b;
    uint8_t *p;
    size_t n;

    buf_init(&b, 100);
    buf_append_str(&b, "moved");
    p = buf_take(&b, &n);
    assert_int_equal(n, 5);
    assert_memory_equal(p, "moved", 5);
    assert_int_equal(b.len, 0);
    assert_null(b.ptr);
    assert_int_equal(buf_append_str(&b, "again"), ERR_OK);
    free(p);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends),
        cmocka_unit_test(max_is_kept),
        cmocka_unit_test(grows_to_many),
        cmocka_unit_test(takes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
