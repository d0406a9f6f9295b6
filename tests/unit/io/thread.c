/* Threads that leave processors to others. Each case runs in a thread of its own: what a thread may
 * run on stays as it is. */
#include "io/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct seen {
    unsigned wanted, before, after, again, child;
};

static void child_main(void *arg)
{
    struct seen *s = arg;

    s->child = io_thread_cpus();
}

static void confined_main(void *arg)
{
    struct seen *s = arg;
    struct io_thread *t;

    s->before = io_thread_cpus();
    io_thread_confine(s->wanted);
    s->after = io_thread_cpus();
    if (io_thread_start("child", IO_PRIO_BACKGROUND, child_main, s, &t, NULL) == ERR_OK)
        io_thread_join(&t);
}

static struct seen run(unsigned wanted)
{
    struct seen s = {.wanted = wanted};
    struct io_thread *t;

    assert_int_equal(io_thread_start("confined", IO_PRIO_NORMAL, confined_main, &s, &t, NULL),
                     ERR_OK);
    io_thread_join(&t);
    return s;
}

static void half(void **state)
{
    unsigned all = io_thread_cpus();
    struct seen s = run(0);

    (void)state;
    assert_true(all >= 1);
    assert_int_equal(s.before, all);
    assert_int_equal(s.after, (all + 1) / 2);
    assert_int_equal(s.child, s.after);
    assert_int_equal(io_thread_cpus(), all); /* of this thread it changes nothing */
}

static void as_many_as_wanted(void **state)
{
    unsigned all = io_thread_cpus(), most = (all + 1) / 2, n;

    (void)state;
    for (n = 1; n <= all + 2; n++) {
        struct seen s = run(n);

        assert_int_equal(s.after, n <= most ? most : n < all ? n : all);
        assert_int_equal(s.child, s.after);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half),
        cmocka_unit_test(as_many_as_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
