/* See ticker.h. */
#include "net/ticker.h"

static void run(struct ticker *t)
{
    int64_t ms = t->fn(t->arg);

    if (ms == INT64_MAX)
        loop_timer_cancel(t->loop, &t->timer);
    else
        loop_timer_arm(t->loop, &t->timer, ms > 0 ? (uint64_t)ms : 1);
}

static void on_time(struct loop_timer *timer)
{
    run(list_entry(timer, struct ticker, timer));
}

static void on_task(struct loop_task *task)
{
    struct ticker *t = list_entry(task, struct ticker, task);

    atomic_store(&t->posted, false);
    run(t);
}

void ticker_init(struct ticker *t, struct loop *l, int64_t (*fn)(void *arg), void *arg)
{
    *t = (struct ticker){.task.fn = on_task, .loop = l, .fn = fn, .arg = arg};
    loop_timer_init(&t->timer, on_time);
    atomic_init(&t->posted, false);
}

void ticker_wake(struct ticker *t)
{
    if (!atomic_exchange(&t->posted, true))
        loop_post(t->loop, &t->task);
}

void ticker_fini(struct ticker *t)
{
    loop_drain(t->loop);
    loop_timer_cancel(t->loop, &t->timer);
}
