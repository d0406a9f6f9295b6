/* Event loops: tasks from many threads, timers, hooks, descriptors, stopping. */
#include "net/loop.h"

#include "fixture.h"

#include <sys/epoll.h>

struct job {
    struct loop_task task;
    unsigned poster, n;
};

static struct {
    unsigned last[4], got;
    bool order_kept;
    struct loop *l;
} seen;

static void on_job(struct loop_task *t)
{
    struct job *j = (struct job *)(void *)t;

    seen.order_kept &= j->n == seen.last[j->poster]++ && loop_is_current(seen.l);
    seen.got++;
}

static void *poster(void *arg)
{
    struct job *jobs = arg;
    unsigned i;

    for (i = 0; i < 20000; i++) {
        loop_post(seen.l, &jobs[i].task);
        if (i % 1000 == 0)
            fx_sleep_ms(1); /* the loop sleeps meanwhile */
    }
    return NULL;
}

static void tasks_of_many_threads(void **state)
{
    struct job *jobs[4];
    pthread_t t[4], loop;
    unsigned i, k;

    memset(&seen, 0, sizeof seen);
    seen.order_kept = true;
    assert_int_equal(loop_new(&seen.l, NULL), ERR_OK);
    assert_false(loop_is_current(seen.l));
    assert_int_equal(pthread_create(&loop, NULL, fx_run, seen.l), 0);
    for (i = 0; i < 4; i++) {
        jobs[i] = calloc(20000, sizeof **jobs);
        for (k = 0; k < 20000; k++)
            jobs[i][k] = (struct job){.task.fn = on_job, .poster = i, .n = k};
        assert_int_equal(pthread_create(&t[i], NULL, poster, jobs[i]), 0);
    }
    for (i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    loop_stop(seen.l);
    pthread_join(loop, NULL);
    assert_int_equal(seen.got, 80000); /* what was posted before the stop ran, whatever its time */
    assert_true(seen.order_kept);
    loop_free(&seen.l);
    assert_null(seen.l);
    for (i = 0; i < 4; i++)
        free(jobs[i]);
}

static void drain_runs_what_came_too_late(void **state)
{
    struct job j = {.task.fn = on_job};

    memset(&seen, 0, sizeof seen);
    assert_int_equal(loop_new(&seen.l, NULL), ERR_OK);
    loop_post(seen.l, &j.task);
    assert_int_equal(seen.got, 0);
    loop_drain(seen.l);
    assert_int_equal(seen.got, 1);
    loop_free(&seen.l);
}

struct alarm {
    struct loop_timer t;
    uint64_t want;
    struct loop *l;
};
static unsigned fired, early, disorder;
static uint64_t last_due;

static void on_alarm(struct loop_timer *t)
{
    struct alarm *a = (struct alarm *)(void *)t;

    fired++;
    early += loop_now_ms(a->l) < a->want;
    disorder += a->want < last_due;
    last_due = a->want;
}

static void timers_keep_time_and_order(void **state)
{
    static struct alarm a[1000];
    struct loop *l;
    uint64_t until;
    unsigned i, cancelled = 0;

    fired = early = disorder = 0;
    last_due = 0;
    assert_int_equal(loop_new(&l, NULL), ERR_OK);
    for (i = 0; i < 1000; i++) {
        uint64_t after = (i * 7919u) % 200;

        loop_timer_init(&a[i].t, on_alarm);
        assert_false(loop_timer_armed(&a[i].t));
        a[i].l = l;
        loop_timer_arm(l, &a[i].t, 100000); /* moved: */
        loop_timer_arm(l, &a[i].t, after);
        a[i].want = loop_now_ms(l) + after;
        assert_true(loop_timer_armed(&a[i].t));
    }
    for (i = 0; i < 1000; i += 3, cancelled++)
        loop_timer_cancel(l, &a[i].t);
    loop_timer_cancel(l, &a[0].t); /* once more does nothing */
    until = fx_now_ms() + 60000;
    while (fired < 1000 - cancelled && fx_now_ms() < until)
        loop_turn(l, true);
    assert_int_equal(fired, 1000 - cancelled);
    assert_int_equal(early, 0);
    assert_int_equal(disorder, 0);
    loop_free(&l);
}

static char order[16];
static struct loop_hook self;

static void note(void *arg)
{
    strncat(order, arg, sizeof order - strlen(order) - 1);
}

static void note_once(void *arg)
{
    note(arg);
    loop_hook_del(&self);
}

static void note_task(struct loop_task *t)
{
    note("t");
}

static void hooks_run_in_order(void **state)
{
    struct loop_hook end = {.fn = note, .arg = "e"}, first = {.fn = note, .arg = "1"},
                     second = {.fn = note, .arg = "2"};
    struct loop_task task = {.fn = note_task};
    struct loop *l;

    order[0] = 0;
    assert_int_equal(loop_new(&l, NULL), ERR_OK);
    self = (struct loop_hook){.fn = note_once, .arg = "s"};
    loop_hook_add(l, &end, true);
    loop_hook_add(l, &first, false);
    loop_hook_add(l, &self, false);
    loop_hook_add(l, &second, false);
    loop_post(l, &task);
    loop_turn(l, true); /* a task is there: it does not wait */
    loop_turn(l, false);
    assert_string_equal(order, "t1s2e12e");
    loop_hook_del(&first);
    loop_hook_del(&second);
    loop_hook_del(&end);
    loop_free(&l);
}

/* Of two descriptors that are ready in one turn, the first callback takes the second out. */
static struct loop_fd pair[2];
static struct loop *pair_loop;
static unsigned pair_calls;

static void on_pair(struct loop_fd *f, uint32_t events)
{
    pair_calls++;
    loop_fd_del(pair_loop, f == &pair[0] ? &pair[1] : &pair[0]);
}

static void no_callback_after_del(void **state)
{
    int a[2], b[2];

    assert_int_equal(pipe(a), 0);
    assert_int_equal(pipe(b), 0);
    assert_int_equal(loop_new(&pair_loop, NULL), ERR_OK);
    pair[0] = (struct loop_fd){.fd = a[0], .fn = on_pair};
    pair[1] = (struct loop_fd){.fd = b[0], .fn = on_pair};
    assert_int_equal(loop_fd_add(pair_loop, &pair[0], EPOLLIN, NULL), ERR_OK);
    assert_int_equal(loop_fd_add(pair_loop, &pair[1], EPOLLIN, NULL), ERR_OK);
    assert_int_equal(write(a[1], "x", 1), 1);
    assert_int_equal(write(b[1], "x", 1), 1);
    loop_turn(pair_loop, true);
    assert_int_equal(pair_calls, 1);
    loop_free(&pair_loop);
    close(a[0]);
    close(a[1]);
    close(b[0]);
    close(b[1]);
}

static void bad_descriptor_is_an_error(void **state)
{
    struct loop_fd f = {.fd = -1};
    struct errinfo info = {0};
    struct loop *l;

    assert_int_equal(loop_new(&l, NULL), ERR_OK);
    assert_int_not_equal(loop_fd_add(l, &f, EPOLLIN, &info), ERR_OK);
    assert_true(info.text[0]);
    loop_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_of_many_threads),
        cmocka_unit_test(drain_runs_what_came_too_late),
        cmocka_unit_test(timers_keep_time_and_order),
        cmocka_unit_test(hooks_run_in_order),
        cmocka_unit_test(no_callback_after_del),
        cmocka_unit_test(bad_descriptor_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
