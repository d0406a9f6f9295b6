/* Threads, locks and sleeping. Nothing else in the engine includes pthread.h. */
#ifndef WEIR_IO_THREAD_H
#define WEIR_IO_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct io_mutex {
    pthread_mutex_t m;
};
void io_mutex_init(struct io_mutex *m);
void io_mutex_fini(struct io_mutex *m);
void io_mutex_lock(struct io_mutex *m);
bool io_mutex_trylock(struct io_mutex *m);
void io_mutex_unlock(struct io_mutex *m);

struct io_rwlock {
    pthread_rwlock_t l;
};
void io_rwlock_init(struct io_rwlock *l);
void io_rwlock_fini(struct io_rwlock *l);
void io_rwlock_read(struct io_rwlock *l);
void io_rwlock_write(struct io_rwlock *l);
void io_rwlock_unlock(struct io_rwlock *l);

struct io_cond {
    pthread_cond_t c;
};
void io_cond_init(struct io_cond *c);
void io_cond_fini(struct io_cond *c);
void io_cond_wait(struct io_cond *c, struct io_mutex *m);
/* At most ns nanoseconds of the monotonic clock; false when they are over. */
bool io_cond_wait_ns(struct io_cond *c, struct io_mutex *m, uint64_t ns);
void io_cond_signal(struct io_cond *c);
void io_cond_broadcast(struct io_cond *c);

/* One sleeper, any number of wakers. Signalling costs one atomic exchange while nobody sleeps; a
 * signal given before the wait is not lost. */
struct io_event {
    atomic_uint state; /* 0 nothing, 1 signalled, 2 sleeping */
};
void io_event_init(struct io_event *e);
void io_event_fini(struct io_event *e);
void io_event_signal(struct io_event *e);
/* Sleeps until signalled or ns nanoseconds are over (UINT64_MAX: for ever); true if signalled. May
 * also return early for no reason. One thread at a time: a second one would lose the first's wake. */
bool io_event_wait(struct io_event *e, uint64_t ns);

struct io_thread;
enum io_prio {
    IO_PRIO_NORMAL,     /* woken, it runs soon: for threads that somebody waits for */
    IO_PRIO_BACKGROUND, /* runs when nothing else wants the processor, as far as allowed */
};
/* name: at most 15 characters. Signals are blocked in the thread: they are the host's. */
enum err io_thread_start(const char *name, enum io_prio prio, void (*fn)(void *arg), void *arg,
                         struct io_thread **out, struct errinfo *info);
/* For work that would take all processors for long, at any priority: from now on the caller, and the
 * threads that it starts, run on half of the processors that it may run on, or on `cpus` of them if
 * that is more, and leave the others to those that somebody waits for. docs/why/sql.md says why the
 * priority alone does not. No effect with one processor, or where it is not allowed. */
void io_thread_confine(unsigned cpus);
/* How many processors the caller may run on; at least 1. */
unsigned io_thread_cpus(void);
/* Waits for its end, frees, nulls. */
void io_thread_join(struct io_thread **t);

#endif
