/* Maps: against a plain array as model, limits, memory, walks. */
#include "base/map.h"

#include "../vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define KEYS 3000u

static char keys[KEYS][8];
static int values[KEYS];

static struct slice key(unsigned i)
{
    return slice_str(keys[i]);
}

static int fill(void **state)
{
    unsigned i;

    for (i = 0; i < KEYS; i++)
        snprintf(keys[i], sizeof keys[i], "k%u", i);
    return 0;
}

/* Random puts and removals, growing and shrinking by turns; the model is an array of flags. */
static void as_model(void **state)
{
    static bool in[KEYS], in64[KEYS];
    uint64_t seed = test_seed();
    const uint8_t secret[16] = {1, 2, 3};
    struct map m;
    struct u64map u;
    unsigned step, i, n = 0, n64 = 0;

    map_init(&m, KEYS, secret);
    u64map_init(&u, KEYS, 99);
    for (step = 0; step < 200000; step++) {
        bool put = test_below(&seed, 100) < (step / 20000 % 2 ? 30 : 70);

        i = (unsigned)test_below(&seed, KEYS);
        if (put) {
            assert_int_equal(map_put(&m, key(i), &values[i]), in[i] ? ERR_EXISTS : ERR_OK);
            assert_int_equal(u64map_put(&u, i * 4096ull, &values[i]),
                             in64[i] ? ERR_EXISTS : ERR_OK);
            n += !in[i];
            n64 += !in64[i];
            in[i] = in64[i] = true;
        } else {
            assert_ptr_equal(map_remove(&m, key(i)), in[i] ? &values[i] : NULL);
            assert_ptr_equal(u64map_remove(&u, i * 4096ull), in64[i] ? &values[i] : NULL);
            n -= in[i];
            n64 -= in64[i];
            in[i] = in64[i] = false;
        }
        assert_int_equal(m.n, n);
        assert_int_equal(u.n, n64);
        i = (unsigned)test_below(&seed, KEYS);
        assert_ptr_equal(map_find(&m, key(i)), in[i] ? &values[i] : NULL);
        assert_ptr_equal(u64map_find(&u, i * 4096ull), in64[i] ? &values[i] : NULL);
    }
    for (i = 0; i < KEYS; i++) {
        assert_ptr_equal(map_remove(&m, key(i)), in[i] ? &values[i] : NULL);
        assert_ptr_equal(u64map_remove(&u, i * 4096ull), in64[i] ? &values[i] : NULL);
    }
    assert_int_equal(m.n + u.n, 0);
    assert_null(m.slots);
    assert_null(u.slots);
}

static void walks_each_once(void **state)
{
    static unsigned seen[KEYS];
    struct map m;
    struct u64map u;
    struct slice k;
    uint64_t k64;
    uint32_t at = 0;
    unsigned i;
    void *v;

    map_init(&m, KEYS, NULL);
    u64map_init(&u, KEYS, 0);
    for (i = 0; i < KEYS; i++) {
        assert_int_equal(map_put(&m, key(i), &values[i]), ERR_OK);
        assert_int_equal(u64map_put(&u, i, &values[i]), ERR_OK);
    }
    while (map_next(&m, &at, &k, &v)) {
        assert_true(slice_eq_str(k, keys[(int *)v - values]));
        seen[(int *)v - values]++;
    }
    for (at = 0; u64map_next(&u, &at, &k64, &v);) {
        assert_ptr_equal(v, &values[k64]);
        seen[k64]++;
    }
    for (i = 0; i < KEYS; i++)
        assert_int_equal(seen[i], 2);
    map_fini(&m);
    u64map_fini(&u);
}

static void limits(void **state)
{
    struct map m;
    struct u64map u;
    uint32_t at = 0;
    void *v;

    map_init(&m, 2, NULL);
    u64map_init(&u, 2, 0);
    assert_null(m.slots);
    assert_null(map_find(&m, key(0)));
    assert_null(map_remove(&m, key(0)));
    assert_null(u64map_remove(&u, 0));
    assert_false(map_next(&m, &at, NULL, &v));
    assert_int_equal(map_put(&m, SLICE_LIT(""), &values[0]), ERR_OK);
    assert_int_equal(map_put(&m, key(1), &values[1]), ERR_OK);
    assert_int_equal(map_put(&m, key(2), &values[2]), ERR_LIMIT);
    assert_int_equal(map_put(&m, key(1), &values[1]), ERR_EXISTS);
    assert_ptr_equal(map_find(&m, SLICE_NULL), &values[0]);
    assert_int_equal(u64map_put(&u, UINT64_MAX, &values[0]), ERR_OK);
    assert_int_equal(u64map_put(&u, 0, &values[1]), ERR_OK);
    assert_int_equal(u64map_put(&u, 1, &values[2]), ERR_LIMIT);
    assert_ptr_equal(u64map_find(&u, UINT64_MAX), &values[0]);
    map_fini(&m);
    u64map_fini(&u);
}

static void compact(void **state)
{
    struct u64map u;
    struct map m;
    static char many[100000][8];
    uint32_t i;

    map_init(&m, 1u << 20, NULL);
    u64map_init(&u, 1u << 20, 1);
    for (i = 0; i < 100000; i++) {
        snprintf(many[i], sizeof many[i], "t%u", i);
        assert_int_equal(map_put(&m, slice_str(many[i]), &u), ERR_OK);
        assert_int_equal(u64map_put(&u, i, &u), ERR_OK);
    }
    assert_true(m.cap * sizeof m.slots[0] <= 6u << 20);
    assert_true(u.cap * sizeof u.slots[0] <= 4u << 20);
    map_fini(&m);
    u64map_fini(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_model),
        cmocka_unit_test(walks_each_once),
        cmocka_unit_test(limits),
        cmocka_unit_test(compact),
    };

    return cmocka_run_group_tests(tests, fill, NULL);
}
