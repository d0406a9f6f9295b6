/* The idempotency window by itself: growth, expiry by count and by time, against a plain model; a
 * pending id and those attached to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "broker/dedup.h"

#define IDS    20000
#define WINDOW 1000

/* All in one shard, and with homes close together, so that probing and moving back are exercised.
 */
static void hash_of(int i, uint8_t h[16])
{
    memset(h, 0, 16);
    le32_store(h, (uint32_t)i / 3);
    le32_store(h + 4, (uint32_t)i);
}

static void test_model(void **state)
{
    struct dedup *d = dedup_new(16 * 4096, WINDOW);
    struct append_place p, got;
    uint8_t h[16];
    int i, k;

    for (i = 0; i < IDS; i++) {
        hash_of(i, h);
        assert_false(dedup_find(d, h, i, &got));
        p = (struct append_place){i % 7, i * 2, (uint64_t)i * 3, i, false, false};
        dedup_add(d, h, &p, i);
        if (i % 97 == 0) {
            if (i % 2)
                dedup_expire(d, i);
            for (k = i > 3000 ? i - 3000 : 0; k <= i; k += 13) {
                hash_of(k, h);
                assert_int_equal(dedup_find(d, h, i, &got), i - k <= WINDOW);
                if (i - k <= WINDOW) {
                    assert_int_equal(got.position, (uint64_t)k * 3);
                    assert_int_equal(got.partition, k % 7);
                    assert_true(got.duplicate);
                }
            }
        }
    }
    dedup_expire(d, IDS);
    assert_int_equal(dedup_count(d), WINDOW);
    dedup_expire(d, IDS + 2 * WINDOW);
    assert_int_equal(dedup_count(d), 0);
    dedup_free(&d);
    d = dedup_new(16 * 100, INT64_MAX / 2); /* by count */
    for (i = 0; i < 5000; i++) {
        hash_of(i, h);
        dedup_add(d, h, &p, 0);
        assert_true(dedup_count(d) <= 100);
        if (i >= 100) {
            hash_of(i - 99, h);
            assert_true(dedup_find(d, h, 0, &got));
            hash_of(i - 100, h);
            assert_false(dedup_find(d, h, 0, &got));
        }
    }
    dedup_free(&d);
}

static void test_pending(void **state)
{
    struct dedup *d = dedup_new(1000, WINDOW);
    struct dedup_pending p = {0}, q = {0};
    struct append_place place = {2, 5, 77, 9, false, false}, got;
    atomic_uint waiting = 1, other = 2;
    struct dedup_attach a = {.waiting = &waiting}, b = {.waiting = &other},
                        c = {.waiting = &waiting};
    struct dedup_attach *ready;

    hash_of(1, p.hash);
    hash_of(1, q.hash);
    assert_int_equal(dedup_reserve(d, &p, 0, &got, &a), DEDUP_NEW);
    assert_int_equal(dedup_reserve(d, &q, 0, &got, &a), DEDUP_PENDING);
    assert_int_equal(dedup_reserve(d, &q, 0, &got, &b), DEDUP_PENDING);
    assert_int_equal(waiting, 2);
    assert_false(dedup_find(d, p.hash, 0, &got));
    assert_null(dedup_resolve(d, &p, ERR_NO_SPACE, NULL, 0));
    assert_true(a.resolved && b.resolved);
    assert_int_equal(a.e, ERR_NO_SPACE);
    assert_int_equal(waiting, 1);
    assert_int_equal(dedup_reserve(d, &q, 0, &got, &c), DEDUP_NEW); /* free again */
    assert_int_equal(dedup_reserve(d, &p, 0, &got, &c), DEDUP_PENDING);
    dedup_detach(d, &c);
    assert_int_equal(waiting, 1);
    assert_int_equal(dedup_reserve(d, &p, 0, &got, &a), DEDUP_PENDING);
    waiting = 1; /* its own part is over: the id is all it waits for */
    ready = dedup_resolve(d, &q, ERR_OK, &place, 0);
    assert_ptr_equal(ready, &a);
    assert_null(ready->next);
    assert_int_equal(a.place.position, 77);
    assert_int_equal(dedup_reserve(d, &p, 0, &got, &a), DEDUP_WRITTEN);
    assert_int_equal(got.offset, 5);
    dedup_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_pending),
    };

    return cmocka_run_group_tests_name("broker/dedup", tests, NULL, NULL);
}
