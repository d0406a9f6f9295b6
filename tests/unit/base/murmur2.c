/* Kafka's murmur2 and partitions. */
#include "base/murmur2.h"

#include "../vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The constants of Kafka's own UtilsTest, and keys of every length modulo 4. */
static void published(void **state)
{
    static const struct {
        const char *key;
        int32_t hash;
    } rows[] = {{"21", -973932308},
                {"foobar", -790332482},
                {"a-little-bit-long-string", -985981536},
                {"a-little-bit-longer-string", -1486304829},
                {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
                {"abc", 479470107},
                {"", 275646681},
                {"a", -1563381124},
                {"abcd", -1323649548},
                {"abcde", 461995741},
                {"abcdefg", -346467175}};
    size_t i;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal((int32_t)murmur2(rows[i].key, strlen(rows[i].key)), rows[i].hash);
}

static void partitions(void **state)
{
    assert_int_equal(murmur2_partition(SLICE_LIT("user-2"), 8), 0);
    assert_int_equal(murmur2_partition(SLICE_LIT("user-2"), 1), 0);
    assert_int_equal(murmur2_partition(SLICE_LIT("foobar"), 8), 6);
    assert_int_equal(murmur2_partition(SLICE_LIT("a-little-bit-longer-string"), 12), 11);
    assert_int_equal(murmur2_partition(SLICE_NULL, 12), 9);
}

static void shared_vectors(void **state)
{
    FILE *f = vectors_open("kafka/vectors/murmur2.csv");
    char *line = NULL, *col[7];
    size_t cap = 0, len, rows = 0;

    if (!f)
        skip();
    vectors_row(f, &line, &cap, col, 7);
    while (vectors_row(f, &line, &cap, col, 7) == 7) {
        uint8_t *p = vectors_hex(col[0], &len);

        assert_int_equal((int32_t)murmur2(p, len), strtol(col[2], NULL, 10));
        assert_int_equal(murmur2_partition(slice_of(p, len), 8), strtol(col[4], NULL, 10));
        assert_int_equal(murmur2_partition(slice_of(p, len), 3), strtol(col[5], NULL, 10));
        assert_int_equal(murmur2_partition(slice_of(p, len), 12), strtol(col[6], NULL, 10));
        free(p);
        rows++;
    }
    assert_true(rows >= 30);
    free(line);
    fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published),
        cmocka_unit_test(partitions),
        cmocka_unit_test(shared_vectors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
