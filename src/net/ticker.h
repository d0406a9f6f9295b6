/* Something that is to be done from time to time on a loop, and earlier when another thread says so.
 * Threads: as each function says. */
#ifndef WEIR_NET_TICKER_H
#define WEIR_NET_TICKER_H

#include <stdatomic.h>
#include <stdint.h>

#include "net/loop.h"

struct ticker {
    struct loop_timer timer; /* all private */
    struct loop_task task;
    struct loop *loop;
    atomic_bool posted;
    int64_t (*fn)(void *arg);
    void *arg;
};

/* fn: on the loop; in how many milliseconds it is to be called again, INT64_MAX: not by itself. */
void ticker_init(struct ticker *t, struct loop *l, int64_t (*fn)(void *arg), void *arg);
/* Any thread, under any lock: fn is called soon. */
void ticker_wake(struct ticker *t);
/* The loop has stopped and nobody wakes any more: what was posted is run. */
void ticker_fini(struct ticker *t);

#endif
