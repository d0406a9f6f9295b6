/* Times to live: which go first, which do not go by age, and that those that are gone take no room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/nats/js_ttl.h"

static void test_in_order(void **state)
{
    static const int64_t ms[] = {50, 10, 40, 10, 30, 20, 60};
    struct jttls t;
    unsigned i;

    (void)state;
    jttls_init(&t);
    assert_true(jttls_next(&t) == JTTL_NEVER && !jttls_take(&t, INT64_MAX - 1));
    for (i = 0; i < 7; i++)
        jttls_put(&t, i + 1, ms[i]);
    jttls_put(&t, 9, JTTL_NEVER);
    assert_int_equal(jttls_next(&t), 10);
    assert_int_equal(jttls_take(&t, 9), 0);
    assert_int_equal(jttls_take(&t, 10) + jttls_take(&t, 10), 2 + 4);
    assert_int_equal(jttls_take(&t, 10), 0);
    assert_int_equal(jttls_take(&t, 100), 6);
    assert_int_equal(jttls_take(&t, 100), 5);
    assert_int_equal(jttls_take(&t, 100), 3);
    assert_int_equal(jttls_next(&t), 50);
    assert_true(jttls_lasting(&t, 9) && !jttls_lasting(&t, 1));
    jttls_removed(&t, 9);
    assert_false(jttls_lasting(&t, 9));
    jttls_fini(&t);
}

static bool is_there(void *arg, uint64_t seq)
{
    return seq > *(uint64_t *)arg;
}

/* A stream that keeps ten messages, each with a long time to live, or lasting. */
static void test_swept(void **state)
{
    struct jttls t;
    uint64_t seq, below;
    size_t most = 0;
    unsigned n = 0;

    (void)state;
    jttls_init(&t);
    for (seq = 1; seq <= 50000; seq++) {
        jttls_put(&t, seq, seq % 3 ? (int64_t)(100000 - seq) : JTTL_NEVER);
        below = seq > 10 ? seq - 10 : 0;
        if (jttls_stale(&t, 10))
            jttls_sweep(&t, is_there, &below);
        most = t.n + t.lasting.n > most ? t.n + t.lasting.n : most;
    }
    assert_in_range(most, 10, 2000);
    below = 49990;
    jttls_sweep(&t, is_there, &below);
    assert_int_equal(t.n + t.lasting.n, 10);
    assert_true(jttls_lasting(&t, 49992) && !jttls_lasting(&t, 49989));
    for (below = 50001; (seq = jttls_take(&t, JTTL_NEVER - 1)); below = seq, n++)
        assert_true(seq < below && seq > 49990 && seq % 3);
    assert_int_equal(n + t.lasting.n, 10);
    jttls_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order),
        cmocka_unit_test(test_swept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
