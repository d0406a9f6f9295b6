/* The coordinator's clock: a timer of the first loop runs what is due in the broker's groups. When
 * the server drains, joins and syncs are answered at once, so that connections are not kept. */
#include <stdlib.h>

#include "base/mem.h"
#include "broker/coordinator.h"
#include "io/io.h"
#include "proto/kafka/kafka_int.h"

#define TICK_MS 100

struct kgroups {
    struct loop_timer timer;
    struct loop_task start;
    struct kafka *k;
    bool drained;
};

static void tick(struct loop_timer *t)
{
    struct kgroups *g = (struct kgroups *)((char *)t - offsetof(struct kgroups, timer));
    int64_t now = (int64_t)(io_mono_ns(broker_io(g->k->broker)) / 1000000u), due;

    if (atomic_load(&g->k->draining) && !g->drained) {
        g->drained = true;
        groups_drain(g->k->broker);
    }
    groups_tick(g->k->broker, now);
    due = groups_deadline_ms(g->k->broker) - now;
    loop_timer_arm(g->k->loops[0].loop, t, (uint64_t)(due < 1 ? 1 : due > TICK_MS ? TICK_MS : due));
}

static void start(struct loop_task *t)
{
    tick(&((struct kgroups *)((char *)t - offsetof(struct kgroups, start)))->timer);
}

enum err kgroups_new(struct kafka *k, struct errinfo *info)
{
    struct kgroups *g = xcalloc(1, sizeof *g);

    g->k = k;
    loop_timer_init(&g->timer, tick);
    g->start.fn = start;
    k->groups = g;
    loop_post(k->loops[0].loop, &g->start);
    return ERR_OK;
}

void kgroups_free(struct kafka *k)
{
    struct kgroups *g = k->groups;

    if (!g)
        return;
    groups_drain(k->broker);
    loop_drain(k->loops[0].loop);
    loop_timer_cancel(k->loops[0].loop, &g->timer);
    free(g);
    k->groups = NULL;
}
