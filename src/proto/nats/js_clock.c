/* Leases of consumers end on time: if nobody else runs what is due in the broker's groups and cursors
 * (Kafka does, where it is served), JetStream does, on the first loop. */
#include <stdlib.h>

#include "base/mem.h"
#include "broker/coordinator.h"
#include "io/io.h"
#include "net/ticker.h"
#include "proto/nats/js_int.h"

struct jclock {
    struct ticker ticker;
    struct js *js;
};

static int64_t tick(void *arg)
{
    struct jclock *c = arg;
    int64_t now = (int64_t)(io_mono_ns(broker_io(c->js->b)) / 1000000u), at;

    groups_tick(c->js->b, now);
    at = groups_sleep(c->js->b, now);
    return at == INT64_MAX ? at : at - now;
}

/* Any thread, under locks of the broker. */
static void wake(void *arg)
{
    struct jclock *c = arg;

    ticker_wake(&c->ticker);
}

void js_clock_start(struct js *js)
{
    struct jclock *c = xcalloc(1, sizeof *c);

    c->js = js;
    ticker_init(&c->ticker, js->n->loops[0].loop, tick, c);
    if (!groups_wake_claim(js->b, wake, c)) {
        free(c);
        return;
    }
    js->clock = c;
    ticker_wake(&c->ticker);
}

void js_clock_stop(struct js *js)
{
    struct jclock *c = js->clock;

    if (!c)
        return;
    groups_wake_set(js->b, NULL, NULL);
    ticker_fini(&c->ticker);
    free(c);
    js->clock = NULL;
}
