/* Event loops: one thread each, over epoll. A loop owns its file descriptors, timers and tick
 * hooks; everything but loop_post, loop_stop and loop_is_current is called on the loop's own
 * thread, or while the loop does not run.
 *
 * One turn: wait for descriptors -> their callbacks -> posted tasks -> due timers -> tick hooks (in
 * the order added) -> end hooks (output is written). Invariants:
 *   1. a descriptor's callback is not called after loop_fd_del;
 *   2. a task posted in a turn, by whatever step of it, runs in the next turn, which does not wait:
 * so what runs in an end hook and wants the tick hooks behind it posts a task. */
#ifndef WEIR_NET_LOOP_H
#define WEIR_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"

struct loop;

/* A message to a loop. The memory is the poster's until fn is called. */
struct loop_task {
    struct loop_task *next; /* private */
    void (*fn)(struct loop_task *t);
};

struct loop_timer {
    uint64_t due_ms; /* private */
    int slot;        /* private: -1 or 0-initialised means not armed */
    void (*fn)(struct loop_timer *t);
};

struct loop_fd {
    int fd;
    uint32_t events; /* EPOLLIN … as registered */
    void (*fn)(struct loop_fd *f, uint32_t events);
};

struct loop_hook {
    struct list_node link;
    void (*fn)(void *arg);
    void *arg;
};

enum err loop_new(struct loop **out, struct errinfo *info);
void loop_free(struct loop **l);
/* Until loop_stop. Call on the thread that is to be the loop's. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
/* One turn, on the calling thread, which must be the loop's or the loop does not run. wait false:
 * what is not there now is not waited for. */
void loop_turn(struct loop *l, bool wait);
/* The loop has stopped: runs what was posted since, so that nothing handed to it is lost. */
void loop_drain(struct loop *l);
/* Any thread. Tasks of one poster run in the order posted. Costs one atomic exchange while the loop
 * is awake, a wake-up by eventfd when it sleeps. */
void loop_post(struct loop *l, struct loop_task *t);
bool loop_is_current(const struct loop *l);

enum err loop_fd_add(struct loop *l, struct loop_fd *f, uint32_t events, struct errinfo *info);
void loop_fd_mod(struct loop *l, struct loop_fd *f, uint32_t events);
void loop_fd_del(struct loop *l, struct loop_fd *f);

/* Monotonic milliseconds, taken once a turn. */
uint64_t loop_now_ms(const struct loop *l);
/* Simulation: time comes from here; such a loop is turned without waiting. */
void loop_clock_set(struct loop *l, uint64_t (*now_ms)(void *arg), void *arg);
void loop_timer_init(struct loop_timer *t, void (*fn)(struct loop_timer *t));
/* Arms or moves; fn is called once, after at least `after_ms`. */
void loop_timer_arm(struct loop *l, struct loop_timer *t, uint64_t after_ms);
void loop_timer_cancel(struct loop *l, struct loop_timer *t);
static inline bool loop_timer_armed(const struct loop_timer *t)
{
    return t->slot > 0;
}

/* Called at the end of every turn. end: after all tick hooks (net's own output flush). A hook may
 * take itself, but no other, out while it runs. */
void loop_hook_add(struct loop *l, struct loop_hook *h, bool end);
void loop_hook_del(struct loop_hook *h);

#endif
