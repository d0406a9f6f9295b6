/* CRC32C: published values, every length and alignment against the table version, joining of parts.
 */
#include "base/crc32c.h"

#include "../vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static uint8_t data[64 << 10];

static int fill(void **state)
{
    uint64_t seed = test_seed();
    size_t i;

    for (i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)test_random(&seed);
    return 0;
}

/* RFC 3720, B.4, and the usual check value. */
static void published(void **state)
{
    uint8_t b[32];
    unsigned i;

    assert_int_equal(crc32c(0, NULL, 0), 0);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, "abc", 3), 0x364b3fb7);
    memset(b, 0, sizeof b);
    assert_int_equal(crc32c(0, b, 32), 0x8a9136aa);
    memset(b, 0xff, sizeof b);
    assert_int_equal(crc32c(0, b, 32), 0x62a8ab43);
    for (i = 0; i < 32; i++)
        b[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, b, 32), 0x46dd794e);
    for (i = 0; i < 32; i++)
        b[i] = (uint8_t)(31 - i);
    assert_int_equal(crc32c(0, b, 32), 0x113fdb5c);
    assert_int_equal(crc32c_portable(0, "123456789", 9), 0xe3069283);
}

static void lengths_and_alignments(void **state)
{
    size_t n, at;

    for (n = 0; n < 1700; n++)
        for (at = 0; at < 8; at++)
            assert_int_equal(crc32c((uint32_t)n, data + at, n),
                             crc32c_portable((uint32_t)n, data + at, n));
    for (n = 6000; n < sizeof data; n += 997)
        assert_int_equal(crc32c(1, data, n), crc32c_portable(1, data, n));
}

static void continues(void **state)
{
    uint32_t whole = crc32c(0, data, 20000);
    size_t at;

    for (at = 0; at <= 20000; at += 331)
        assert_int_equal(crc32c(crc32c(0, data, at), data + at, 20000 - at), whole);
}

static void combines(void **state)
{
    size_t at, n;

    for (n = 0; n < sizeof data; n = n * 5 / 3 + 1) {
        uint32_t whole = crc32c(0, data, n);

        for (at = 0; at <= n; at += n / 17 + 1) {
            uint32_t a = crc32c(0, data, at), b = crc32c(0, data + at, n - at);

            assert_int_equal(crc32c_combine(a, b, n - at), whole);
            assert_int_equal(crc32c_combine_portable(a, b, n - at), whole);
        }
    }
}

/* Lengths that no buffer has: combining is associative. */
static void combines_long(void **state)
{
    uint64_t seed = test_seed();
    int i;

    for (i = 0; i < 2000; i++) {
        uint32_t a = (uint32_t)test_random(&seed), b = (uint32_t)test_random(&seed);
        uint32_t c = (uint32_t)test_random(&seed);
        uint64_t n = test_random(&seed) >> (1 + test_below(&seed, 63));
        uint64_t m = test_random(&seed) >> (1 + test_below(&seed, 63));
        uint32_t left = crc32c_combine(crc32c_combine(a, b, n), c, m);

        assert_int_equal(left, crc32c_combine(a, crc32c_combine(b, c, m), n + m));
        assert_int_equal(crc32c_combine(a, b, n), crc32c_combine_portable(a, b, n));
    }
}

static void shared_vectors(void **state)
{
    FILE *f = vectors_open("kafka/vectors/crc32c.csv");
    char *line = NULL, *col[2];
    size_t cap = 0, len, rows = 0;

    if (!f)
        skip();
    vectors_row(f, &line, &cap, col, 2);
    while (vectors_row(f, &line, &cap, col, 2) == 2) {
        uint8_t *p = vectors_hex(col[0], &len);

        assert_int_equal(crc32c(0, p, len), strtoul(col[1], NULL, 16));
        free(p);
        rows++;
    }
    assert_true(rows >= 9);
    free(line);
    fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published),     cmocka_unit_test(lengths_and_alignments),
        cmocka_unit_test(continues),     cmocka_unit_test(combines),
        cmocka_unit_test(combines_long), cmocka_unit_test(shared_vectors),
    };

    return cmocka_run_group_tests(tests, fill, NULL);
}
