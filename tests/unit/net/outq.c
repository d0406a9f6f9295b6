/* Output queues: against a plain buffer, under random use; lent pieces; the pool's bounds. */
#include "net/outq.h"

#include "base/hash.h"
#include "fixture.h"

static uint64_t seed = 1;

static uint64_t rnd(void)
{
    return rng_next(&seed);
}

static unsigned lent, released;

static void on_release(void *arg)
{
    released++;
    free(arg);
}

static void add_some(struct outq *q, struct out_pool *p, struct buf *model)
{
    size_t n = rnd() % 3 ? rnd() % 300 : rnd() % 40000, i;
    uint8_t *bytes = malloc(n + 1);

    for (i = 0; i < n; i++)
        bytes[i] = (uint8_t)rnd();
    assert_int_equal(buf_append(model, bytes, n), ERR_OK);
    if (rnd() % 4 == 0) {
        lent++;
        outq_lend(q, p, slice_of(bytes, n), on_release, bytes);
        return;
    }
    if (rnd() % 2) {
        memcpy(outq_room(q, p, n + 50), bytes, n); /* more room than is used */
        outq_done(q, n);
    } else {
        outq_copy(q, p, slice_of(bytes, n));
    }
    free(bytes);
}

static void check(const struct outq *q, const struct buf *model, size_t at)
{
    struct iovec iov[64];
    int n = outq_iov(q, iov, 64), i;

    assert_int_equal(q->bytes, model->len - at);
    for (i = 0; i < n; i++) {
        assert_true(iov[i].iov_len > 0);
        assert_memory_equal(iov[i].iov_base, model->ptr + at, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    if (n < 64)
        assert_int_equal(at, model->len);
}

static void like_a_buffer(void **state)
{
    struct out_pool pool = {0};
    unsigned round, i;

    for (round = 0; round < 300; round++) {
        struct outq q = {0}, other = {0};
        struct buf model;
        size_t at = 0;

        buf_init(&model, 64u << 20);
        for (i = 0; i < 40; i++) {
            size_t k;

            switch (rnd() % 5) {
            case 0:
                k = q.bytes ? rnd() % (q.bytes + 1) : 0;
                outq_drop(&q, &pool, k);
                at += k;
                break;
            case 1:
                add_some(&other, &pool, &model); /* another queue, appended as a whole */
                if (rnd() % 2)
                    add_some(&other, &pool, &model);
                outq_move(&q, &other, &pool);
                assert_int_equal(other.bytes, 0);
                assert_null(other.head);
                break;
            case 2:
                k = rnd() % (q.bytes + 1); /* cut anywhere, and put together again */
                outq_split(&q, &pool, k, &other);
                assert_int_equal(q.bytes, k);
                check(&other, &model, at + k);
                outq_move(&q, &other, &pool);
                break;
            default:
                add_some(&q, &pool, &model);
            }
            check(&q, &model, at);
        }
        if (round % 2) {
            uint8_t *p = malloc(q.bytes + 1);
            size_t n = q.bytes;

            assert_int_equal(outq_take(&q, &pool, p, n), n);
            assert_memory_equal(p, model.ptr + at, n);
            free(p);
        }
        outq_clear(&q, &pool);
        assert_null(q.head);
        assert_null(q.tail);
        buf_fini(&model);
        assert_int_equal(lent, released);
    }
    assert_true(lent > 100);
    assert_true(pool.n[0] <= NET_POOL_SMALL && pool.n[1] <= NET_POOL_LARGE);
    out_pool_fini(&pool);
}

static void pool_is_bounded(void **state)
{
    struct out_pool pool = {0};
    static struct outq q[NET_POOL_SMALL + 100];
    uint8_t one[100] = {0};
    size_t i;

    for (i = 0; i < sizeof q / sizeof *q; i++)
        outq_copy(&q[i], &pool, slice_of(one, sizeof one));
    assert_int_equal(pool.n[0], 0);
    for (i = 0; i < sizeof q / sizeof *q; i++)
        outq_clear(&q[i], &pool);
    assert_int_equal(pool.n[0], NET_POOL_SMALL);
    out_pool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(like_a_buffer),
        cmocka_unit_test(pool_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
