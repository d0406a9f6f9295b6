/* Threads over pthreads and futexes. See thread.h. A failing lock call is a broken invariant. */
#include "io/thread.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"

#define STACK_BYTES     (512u << 10)
#define NICE_BACKGROUND 10
#define SLICE_NS        100000u /* the shortest that Linux takes */
#define KEEP_POLICY     0x08u   /* SCHED_FLAG_KEEP_POLICY: the class of the host's stays */

void io_mutex_init(struct io_mutex *m)
{
    pthread_mutexattr_t a;

    ASSERT(pthread_mutexattr_init(&a) == 0);
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ADAPTIVE_NP);
    ASSERT(pthread_mutex_init(&m->m, &a) == 0);
    pthread_mutexattr_destroy(&a);
}

void io_mutex_fini(struct io_mutex *m)
{
    ASSERT(pthread_mutex_destroy(&m->m) == 0);
}

void io_mutex_lock(struct io_mutex *m)
{
    ASSERT(pthread_mutex_lock(&m->m) == 0);
}

bool io_mutex_trylock(struct io_mutex *m)
{
    int r = pthread_mutex_trylock(&m->m);

    ASSERT(r == 0 || r == EBUSY);
    return r == 0;
}

void io_mutex_unlock(struct io_mutex *m)
{
    ASSERT(pthread_mutex_unlock(&m->m) == 0);
}

void io_rwlock_init(struct io_rwlock *l)
{
    ASSERT(pthread_rwlock_init(&l->l, NULL) == 0);
}

void io_rwlock_fini(struct io_rwlock *l)
{
    ASSERT(pthread_rwlock_destroy(&l->l) == 0);
}

void io_rwlock_read(struct io_rwlock *l)
{
    ASSERT(pthread_rwlock_rdlock(&l->l) == 0);
}

void io_rwlock_write(struct io_rwlock *l)
{
    ASSERT(pthread_rwlock_wrlock(&l->l) == 0);
}

void io_rwlock_unlock(struct io_rwlock *l)
{
    ASSERT(pthread_rwlock_unlock(&l->l) == 0);
}

void io_cond_init(struct io_cond *c)
{
    pthread_condattr_t a;

    ASSERT(pthread_condattr_init(&a) == 0);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    ASSERT(pthread_cond_init(&c->c, &a) == 0);
    pthread_condattr_destroy(&a);
}

void io_cond_fini(struct io_cond *c)
{
    ASSERT(pthread_cond_destroy(&c->c) == 0);
}

void io_cond_wait(struct io_cond *c, struct io_mutex *m)
{
    ASSERT(pthread_cond_wait(&c->c, &m->m) == 0);
}

bool io_cond_wait_ns(struct io_cond *c, struct io_mutex *m, uint64_t ns)
{
    struct timespec t;
    int r;

    clock_gettime(CLOCK_MONOTONIC, &t);
    ns += (uint64_t)t.tv_nsec;
    t.tv_sec += (time_t)(ns / 1000000000ull);
    t.tv_nsec = (long)(ns % 1000000000ull);
    r = pthread_cond_timedwait(&c->c, &m->m, &t);
    ASSERT(r == 0 || r == ETIMEDOUT);
    return r == 0;
}

void io_cond_signal(struct io_cond *c)
{
    ASSERT(pthread_cond_signal(&c->c) == 0);
}

void io_cond_broadcast(struct io_cond *c)
{
    ASSERT(pthread_cond_broadcast(&c->c) == 0);
}

static long futex(atomic_uint *at, int op, unsigned val, const struct timespec *t)
{
    return syscall(SYS_futex, at, op, val, t, NULL, 0);
}

void io_event_init(struct io_event *e)
{
    atomic_store(&e->state, 0);
}

void io_event_fini(struct io_event *e)
{
    ASSERT(atomic_load(&e->state) != 2);
}

void io_event_signal(struct io_event *e)
{
    if (atomic_exchange(&e->state, 1) == 2)
        futex(&e->state, FUTEX_WAKE_PRIVATE, 1, NULL);
}

bool io_event_wait(struct io_event *e, uint64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000ull), (long)(ns % 1000000000ull)};
    unsigned none = 0;

    if (atomic_compare_exchange_strong(&e->state, &none, 2))
        futex(&e->state, FUTEX_WAIT_PRIVATE, 2, ns == UINT64_MAX ? NULL : &t);
    else
        ASSERT(none == 1); /* one thread waits: another's wake would be lost */
    return atomic_exchange(&e->state, 0) == 1;
}

struct io_thread {
    pthread_t id;
    void (*fn)(void *arg);
    void *arg;
    enum io_prio prio;
    char name[16];
};

/* struct sched_attr of sched_setattr(2), which the C library does not have. */
struct slice_attr {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

/* Asks for short slices (Linux 6.12; before, it has no effect). Its share of the processor stays
 * what it was, but a thread that wakes up takes the place of one with longer slices at once, and does
 * not wait for that one's to end: a synced write of 80 us was seen to take 4 ms beside a busy
 * program. */
static void slice_short(void)
{
    struct slice_attr a = {.size = sizeof a, .flags = KEEP_POLICY, .runtime = SLICE_NS};

    a.nice = getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid));
    syscall(SYS_sched_setattr, 0, &a, 0u); /* best effort */
}

static void *thread_main(void *arg)
{
    struct io_thread *t = arg;

    pthread_setname_np(pthread_self(), t->name);
    if (t->prio == IO_PRIO_NORMAL)
        slice_short();
    else /* best effort; on Linux it is this thread's alone */
        setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE_BACKGROUND);
    t->fn(t->arg);
    return NULL;
}

unsigned io_thread_cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (unsigned)CPU_COUNT(&set);
    return 1; /* more than the set can tell, or not to be known */
}

void io_thread_confine(unsigned cpus)
{
    unsigned n = io_thread_cpus(), keep = (n + 1) / 2, i;
    cpu_set_t set;

    if (cpus > keep)
        keep = cpus;
    if (keep >= n || sched_getaffinity(0, sizeof set, &set))
        return;
    for (i = 0; n > keep; i++) { /* interrupts are often the first processors' work */
        if (!CPU_ISSET(i, &set))
            continue;
        CPU_CLR(i, &set);
        n--;
    }
    sched_setaffinity(0, sizeof set, &set); /* best effort */
}

enum err io_thread_start(const char *name, enum io_prio prio, void (*fn)(void *arg), void *arg,
                         struct io_thread **out, struct errinfo *info)
{
    struct io_thread *t = xcalloc(1, sizeof *t);
    sigset_t all, old;
    pthread_attr_t a;
    int r;

    t->fn = fn;
    t->arg = arg;
    t->prio = prio;
    snprintf(t->name, sizeof t->name, "%s", name);
    ASSERT(pthread_attr_init(&a) == 0);
    pthread_attr_setstacksize(&a, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(&t->id, &a, thread_main, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&a);
    if (r) {
        free(t);
        return errinfo_os(info, r, "starting the thread %s", name);
    }
    *out = t;
    return ERR_OK;
}

void io_thread_join(struct io_thread **t)
{
    ASSERT(pthread_join((*t)->id, NULL) == 0);
    free(*t);
    *t = NULL;
}
