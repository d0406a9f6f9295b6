/* The coordinator's clock: a timer of the first loop runs what is due in the broker's groups, when it
 * is due; without groups it sleeps. When the server drains, joins and syncs are answered at once, so
 * that connections are not kept. */
#include <stdlib.h>

#include "base/mem.h"
#include "broker/coordinator.h"
#include "io/io.h"
#include "net/ticker.h"
#include "proto/kafka/kafka_int.h"

struct kgroups {
    struct ticker ticker;
    struct kafka *k;
    bool drained; /* the loop's thread */
};

static int64_t tick(void *arg)
{
    struct kgroups *g = arg;
    int64_t now = (int64_t)(io_mono_ns(broker_io(g->k->broker)) / 1000000u), at;

    if (atomic_load(&g->k->draining) && !g->drained) {
        g->drained = true;
        groups_drain(g->k->broker);
    }
    groups_tick(g->k->broker, now);
    at = groups_sleep(g->k->broker, now);
    return at == INT64_MAX ? at : at - now;
}

/* Any thread, under locks of the broker. */
static void wake(void *arg)
{
    struct kgroups *g = arg;

    ticker_wake(&g->ticker);
}

enum err kgroups_new(struct kafka *k, struct errinfo *info)
{
    struct kgroups *g = xcalloc(1, sizeof *g);

    g->k = k;
    ticker_init(&g->ticker, k->loops[0].loop, tick, g);
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
    ticker_fini(&g->ticker);
    free(g);
    k->groups = NULL;
}
