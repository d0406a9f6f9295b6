/* Turns at the disk: who is next, how many at once, and that all come to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <stdatomic.h>

#include "base/list.h"
#include "journal/turns.h"

#define WAITING 6u
#define THREADS 8u
#define ROUNDS  2000u

struct waiting {
    struct turns *t;
    uint64_t at;
    unsigned at_once;
    atomic_uint *had; /* turns that were had */
    unsigned nth;     /* of those, this one's */
};

static void wait_for(void *arg)
{
    struct waiting *w = arg;

    turns_take(w->t, w->at, w->at_once);
    w->nth = atomic_fetch_add(w->had, 1) + 1;
    turns_pass(w->t, w->at_once);
}

/* Those that want `at` come one behind the other, while others have all turns. */
static void all_wait(struct turns *t, const uint64_t at[WAITING], atomic_uint *had,
                     struct waiting w[WAITING], struct io_thread *threads[WAITING])
{
    unsigned i;

    for (i = 0; i < WAITING; i++) {
        w[i] = (struct waiting){t, at[i], 1, had, 0};
        assert_int_equal(
            io_thread_start("waiting", IO_PRIO_NORMAL, wait_for, &w[i], &threads[i], NULL), 0);
        while (turns_waiting(t) <= i)
            sched_yield();
    }
}

static void all_end(struct io_thread *threads[WAITING])
{
    unsigned i;

    for (i = 0; i < WAITING; i++)
        io_thread_join(&threads[i]);
}

static const uint64_t places[WAITING] = {60, 50, 40, 30, 20, 10};

/* The one furthest behind comes first, and each fourth time the one who has waited longest. */
static void order(void **state)
{
    static const unsigned nth[WAITING] = {4, 6, 5, 3, 2, 1};
    struct io_thread *threads[WAITING];
    struct turns *t = turns_new();
    struct waiting w[WAITING];
    atomic_uint had = 0;
    unsigned i;

    (void)state;
    turns_take(t, 70, 1);
    all_wait(t, places, &had, w, threads);
    assert_int_equal(atomic_load(&had), 0);
    turns_pass(t, 1);
    all_end(threads);
    for (i = 0; i < WAITING; i++)
        assert_int_equal(w[i].nth, nth[i]);
    assert_int_equal(turns_waiting(t), 0);
    turns_free(&t);
    assert_null(t);
}

/* When more may read than before, those who wait do at the next turn that ends. */
static void more_at_once(void **state)
{
    struct io_thread *threads[WAITING];
    struct turns *t = turns_new();
    struct waiting w[WAITING];
    atomic_uint had = 0;

    (void)state;
    turns_take(t, 0, 2);
    turns_take(t, 0, 2);
    all_wait(t, places, &had, w, threads);
    turns_pass(t, 1); /* fewer: one still reads */
    assert_int_equal(turns_waiting(t), WAITING);
    turns_take(t, 0, 2); /* with room, nobody waits */
    turns_pass(t, WAITING + 1);
    all_end(threads);
    assert_int_equal(atomic_load(&had), WAITING);
    turns_pass(t, 1);
    turns_free(&t);
}

struct crowd {
    struct turns *t;
    atomic_uint reading, most;
};

static void come_and_go(void *arg)
{
    struct crowd *c = arg;
    unsigned i, now, most;

    for (i = 0; i < ROUNDS; i++) {
        turns_take(c->t, i, 2);
        now = atomic_fetch_add(&c->reading, 1) + 1;
        most = atomic_load(&c->most);
        while (now > most && !atomic_compare_exchange_weak(&c->most, &most, now))
            ;
        if (i % 16 == 0)
            sched_yield();
        atomic_fetch_sub(&c->reading, 1);
        turns_pass(c->t, 2);
    }
}

static void crowd(void **state)
{
    struct io_thread *threads[THREADS];
    struct crowd c = {.t = turns_new()};
    unsigned i;

    (void)state;
    for (i = 0; i < THREADS; i++)
        assert_int_equal(
            io_thread_start("crowd", IO_PRIO_NORMAL, come_and_go, &c, &threads[i], NULL), 0);
    for (i = 0; i < THREADS; i++)
        io_thread_join(&threads[i]);
    assert_true(atomic_load(&c.most) <= 2);
    assert_int_equal(turns_waiting(c.t), 0);
    turns_free(&c.t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order),
        cmocka_unit_test(more_at_once),
        cmocka_unit_test(crowd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
