/* The coordinator's clock: a timer of the first loop runs what is due in the broker's groups, when it
 * is due; without groups it sleeps. When the server drains, joins and syncs are answered at once, so
 * that connections are not kept. */
#include <stdlib.h>

#include "base/mem.h"
#include "broker/coordinator.h"
#include "io/io.h"
#include "proto/kafka/kafka_int.h"

struct kgroups {
    struct loop_timer timer;
    struct loop_task task;
    struct kafka *k;
    atomic_bool posted; /* the task is on its way */
    bool drained;       /* the loop's thread */
};

static void tick(struct kgroups *g)
{
    int64_t now = (int64_t)(io_mono_ns(broker_io(g->k->broker)) / 1000000u), at;

    if (atomic_load(&g->k->draining) && !g->drained) {
        g->drained = true;
        groups_drain(g->k->broker);
    }
    groups_tick(g->k->broker, now);
    at = groups_sleep(g->k->broker, now);
    if (at == INT64_MAX)
        loop_timer_cancel(g->k->loops[0].loop, &g->timer);
    else
        loop_timer_arm(g->k->loops[0].loop, &g->timer, at > now ? (uint64_t)(at - now) : 1);
}

static void on_time(struct loop_timer *t)
{
    tick((struct kgroups *)((char *)t - offsetof(struct kgroups, timer)));
}

static void on_task(struct loop_task *t)
{
    struct kgroups *g = (struct kgroups *)((char *)t - offsetof(struct kgroups, task));

    atomic_store(&g->posted, false);
    tick(g);
}

/* Any thread, under locks of the broker. */
static void wake(void *arg)
{
    struct kgroups *g = arg;

    if (!atomic_exchange(&g->posted, true))
        loop_post(g->k->loops[0].loop, &g->task);
}

enum err kgroups_new(struct kafka *k, struct errinfo *info)
{
    struct kgroups *g = xcalloc(1, sizeof *g);

    g->k = k;
    loop_timer_init(&g->timer, on_time);
    g->task.fn = on_task;
    k->groups = g;
    groups_wake_set(k->broker, wake, g);
    wake(g);
    return ERR_OK;
}

void kgroups_drain(struct kafka *k)
{
    wake(k->groups);
}

void kgroups_free(struct kafka *k)
{
    struct kgroups *g = k->groups;

    if (!g)
        return;
    groups_wake_set(k->broker, NULL, NULL);
    groups_drain(k->broker);
    loop_drain(k->loops[0].loop);
    loop_timer_cancel(k->loops[0].loop, &g->timer);
    free(g);
    k->groups = NULL;
}
