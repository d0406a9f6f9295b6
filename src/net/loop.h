/* Event loops: one thread each, over epoll. A loop owns its file descriptors, timers and tick hooks;
 * everything but loop_post, loop_stop and loop_wake is called on the loop's own thread (or before it
 * runs).
 *
 * One turn: wait for descriptors -> their callbacks -> posted tasks -> due timers -> tick hooks (in the
 * order added) -> end hooks (output is written). Invariant: a descriptor's callback is not called after
 * loop_fd_del. */
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
/* Any thread. Tasks of one poster run in the order posted. Costs one atomic exchange while the loop is
 * awake, a wake-up by eventfd when it sleeps. */
void loop_post(struct loop *l, struct loop_task *t);
bool loop_is_current(const struct loop *l);

enum err loop_fd_add(struct loop *l, struct loop_fd *f, uint32_t events, struct errinfo *info);
void loop_fd_mod(struct loop *l, struct loop_fd *f, uint32_t events);
void loop_fd_del(struct loop *l, struct loop_fd *f);

/* Monotonic milliseconds, taken once a turn. */
uint64_t loop_now_ms(const struct loop *l);
void loop_timer_init(struct loop_timer *t, void (*fn)(struct loop_timer *t));
/* Arms or moves; fn is called once, after at least `after_ms`. */
void loop_timer_arm(struct loop *l, struct loop_timer *t, uint64_t after_ms);
void loop_timer_cancel(struct loop *l, struct loop_timer *t);
static inline bool loop_timer_armed(const struct loop_timer *t)
{
    return t->slot > 0;
}

/* Called at the end of every turn. end: after all tick hooks (net's own output flush). */
void loop_hook_add(struct loop *l, struct loop_hook *h, bool end);
void loop_hook_del(struct loop_hook *h);

#endif
