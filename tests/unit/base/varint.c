/* Varints: Kafka's examples, there and back, ends of input, values that do not fit. */
#include "base/varint.h"

#include <stdbool.h>

#include "../vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void examples(void **state)
{
    static const struct {
        int64_t v;
        const char *hex;
    } rows[] = {{0, "00"},
                {-1, "01"},
                {1, "02"},
                {63, "7e"},
                {-64, "7f"},
                {64, "8001"},
                {-65, "8101"},
                {8191, "fe7f"},
                {8192, "808001"},
                {INT32_MAX, "feffffff0f"},
                {INT32_MIN, "ffffffff0f"},
                {1700000000000, "80a0abfef962"},
                {INT64_MAX, "feffffffffffffffff01"},
                {INT64_MIN, "ffffffffffffffffff01"}};
    uint8_t b[VARLONG_MAX];
    size_t i, n;
    int64_t v;
    int32_t w;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t *p = vectors_hex(rows[i].hex, &n);

        assert_int_equal(varint_write(b, rows[i].v), n);
        assert_memory_equal(b, p, n);
        assert_int_equal(varint_size(rows[i].v), n);
        assert_int_equal(varlong_read(p, n, &v), n);
        assert_true(v == rows[i].v);
        if (rows[i].v == (int32_t)rows[i].v) {
            assert_int_equal(varint_read(p, n, &w), n);
            assert_int_equal(w, rows[i].v);
        } else {
            assert_int_equal(varint_read(p, n, &w), 0);
        }
        free(p);
    }
}

static void there_and_back(void **state)
{
    uint64_t seed = test_seed(), u, got;
    uint8_t b[VARLONG_MAX];
    size_t n, k;
    int64_t s;
    int i;

    for (i = 0; i < 100000; i++) {
        u = test_random(&seed) >> test_below(&seed, 64);
        n = uvarint_write(b, u);
        assert_int_equal(n, uvarint_size(u));
        assert_int_equal(uvarint_read(b, sizeof b, VARLONG_MAX, &got), n);
        assert_true(got == u);
        for (k = 0; k < n; k++)
            assert_int_equal(uvarint_read(b, k, VARLONG_MAX, &got), 0);
        n = varint_write(b, (int64_t)u);
        assert_int_equal(varlong_read(b, n, &s), n);
        assert_true(s == (int64_t)u);
    }
}

static void does_not_fit(void **state)
{
    uint8_t endless[12], b[] = {0xff, 0xff, 0xff, 0xff, 0x10};
    uint64_t u;
    int32_t w;
    int64_t v;

    memset(endless, 0xff, sizeof endless);
    assert_int_equal(uvarint_read(endless, sizeof endless, VARLONG_MAX, &u), 0);
    assert_int_equal(varlong_read(endless, sizeof endless, &v), 0);
    assert_int_equal(varint_read(endless, sizeof endless, &w), 0);
    assert_int_equal(varint_read(b, sizeof b, &w), 0); /* 33 bits */
    endless[9] = 2;                                    /* 65 bits */
    assert_int_equal(varlong_read(endless, sizeof endless, &v), 0);
    endless[9] = 1;
    assert_int_equal(varlong_read(endless, sizeof endless, &v), 10);
    assert_int_equal(uvarint_read(NULL, 0, VARINT_MAX, &u), 0);
}

static void shared_vectors(void **state)
{
    FILE *f = vectors_open("kafka/vectors/varints.csv");
    char *line = NULL, *col[3];
    size_t cap = 0, len, rows = 0;
    uint8_t b[VARLONG_MAX];

    if (!f)
        skip();
    vectors_row(f, &line, &cap, col, 3);
    while (vectors_row(f, &line, &cap, col, 3) == 3) {
        int64_t want = strtoll(col[0], NULL, 10), v = 0;
        uint8_t *p = vectors_hex(col[2], &len);
        uint64_t u = 0;
        int32_t w = 0;

        if (strcmp(col[1], "unsigned_varint") == 0) {
            assert_int_equal(uvarint_write(b, (uint64_t)want), len);
            assert_int_equal(uvarint_read(p, len, VARINT_MAX, &u), len);
            v = (int64_t)u;
        } else if (strcmp(col[1], "zigzag_varint") == 0) {
            assert_int_equal(varint_write(b, want), len);
            assert_int_equal(varint_read(p, len, &w), len);
            v = w;
        } else {
            assert_string_equal(col[1], "zigzag_varlong");
            assert_int_equal(varint_write(b, want), len);
            assert_int_equal(varlong_read(p, len, &v), len);
        }
        assert_memory_equal(b, p, len);
        assert_true(v == want);
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
        cmocka_unit_test(examples),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(does_not_fit),
        cmocka_unit_test(shared_vectors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
