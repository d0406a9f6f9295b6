/* The event loop. See loop.h.
 *
 * Tasks come in on a lock-free stack that the loop takes whole and reverses. `sleeping` is 1 while
 * the loop is in, or about to enter, epoll_wait: a poster that finds it 1 takes it to 0 and writes
 * the eventfd. The loop sets it before it looks at the stack for the last time, so no task is
 * missed. Timers are a binary heap by due time; slot is the place in it, from 1. */
#include "net/loop.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "net/tbl/limits.h"

#define EVENTS_MAX NET_LOOP_EVENTS

struct loop {
    int epfd, evfd;
    struct loop_fd wake;
    _Atomic(struct loop_task *) tasks;
    atomic_int sleeping;
    atomic_bool stop;
    atomic_long tid;
    uint64_t now_ms;
    uint64_t (*clock)(void *arg);
    void *clock_arg;
    struct loop_timer **heap; /* heap[1..n] */
    int n, cap;
    struct list_head ticks, ends;
    struct epoll_event ev[EVENTS_MAX];
    int ev_n, ev_at;
};

static uint64_t mono_ms(void *arg)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* The loop is awake, that is all. Each write is an event of its own (EPOLLET), so what was written is
 * never read; it is a number that does not overflow. */
static void on_wake(struct loop_fd *f, uint32_t events)
{
}

enum err loop_new(struct loop **out, struct errinfo *info)
{
    struct loop *l = xcalloc(1, sizeof *l);
    enum err e;

    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    l->evfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    list_init(&l->ticks);
    list_init(&l->ends);
    loop_clock_set(l, mono_ms, NULL);
    if (l->epfd < 0 || l->evfd < 0) {
        e = errinfo_os(info, errno, "making an event loop");
        loop_free(&l);
        return e;
    }
    l->wake = (struct loop_fd){.fd = l->evfd, .fn = on_wake};
    if ((e = loop_fd_add(l, &l->wake, EPOLLIN | EPOLLET, info))) {
        loop_free(&l);
        return e;
    }
    *out = l;
    return ERR_OK;
}

void loop_free(struct loop **lp)
{
    struct loop *l = *lp;

    if (!l)
        return;
    if (l->epfd >= 0)
        close(l->epfd);
    if (l->evfd >= 0)
        close(l->evfd);
    free(l->heap);
    free(l);
    *lp = NULL;
}

/* ---- tasks ---- */

static void wake(struct loop *l)
{
    uint64_t one = 1;

    if (atomic_load(&l->sleeping) == 1 && atomic_exchange(&l->sleeping, 0) == 1)
        while (write(l->evfd, &one, sizeof one) < 0 && errno == EINTR)
            ;
}

void loop_post(struct loop *l, struct loop_task *t)
{
    struct loop_task *head = atomic_load_explicit(&l->tasks, memory_order_relaxed);

    do
        t->next = head;
    while (!atomic_compare_exchange_weak(&l->tasks, &head, t));
    wake(l);
}

static bool run_tasks(struct loop *l)
{
    struct loop_task *t = atomic_exchange(&l->tasks, NULL), *rev = NULL, *next;

    if (!t)
        return false;
    for (; t; t = next) {
        next = t->next;
        t->next = rev;
        rev = t;
    }
    for (; rev; rev = next) {
        next = rev->next;
        rev->fn(rev);
    }
    return true;
}

bool loop_is_current(const struct loop *l)
{
    return atomic_load(&((struct loop *)(uintptr_t)l)->tid) == syscall(SYS_gettid);
}

void loop_stop(struct loop *l)
{
    atomic_store(&l->stop, true);
    wake(l);
}

/* ---- descriptors ---- */

enum err loop_fd_add(struct loop *l, struct loop_fd *f, uint32_t events, struct errinfo *info)
{
    struct epoll_event ev = {.events = events, .data.ptr = f};

    f->events = events;
    if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, f->fd, &ev))
        return errinfo_os(info, errno, "watching a descriptor");
    return ERR_OK;
}

void loop_fd_mod(struct loop *l, struct loop_fd *f, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = f};

    if (f->events == events)
        return;
    f->events = events;
    ASSERT(epoll_ctl(l->epfd, EPOLL_CTL_MOD, f->fd, &ev) == 0);
}

void loop_fd_del(struct loop *l, struct loop_fd *f)
{
    int i;

    ASSERT(epoll_ctl(l->epfd, EPOLL_CTL_DEL, f->fd, NULL) == 0);
    for (i = l->ev_at; i < l->ev_n; i++) /* events of this turn not yet delivered */
        if (l->ev[i].data.ptr == f)
            l->ev[i].data.ptr = NULL;
}

/* ---- timers ---- */

static void place(struct loop *l, int i, struct loop_timer *t)
{
    l->heap[i] = t;
    t->slot = i;
}

static void sift_up(struct loop *l, int i)
{
    struct loop_timer *t = l->heap[i];

    while (i > 1 && l->heap[i / 2]->due_ms > t->due_ms) {
        place(l, i, l->heap[i / 2]);
        i /= 2;
    }
    place(l, i, t);
}

static void sift_down(struct loop *l, int i)
{
    struct loop_timer *t = l->heap[i];
    int k;

    while ((k = 2 * i) <= l->n) {
        if (k < l->n && l->heap[k + 1]->due_ms < l->heap[k]->due_ms)
            k++;
        if (l->heap[k]->due_ms >= t->due_ms)
            break;
        place(l, i, l->heap[k]);
        i = k;
    }
    place(l, i, t);
}

void loop_timer_init(struct loop_timer *t, void (*fn)(struct loop_timer *t))
{
    *t = (struct loop_timer){.fn = fn};
}

void loop_timer_cancel(struct loop *l, struct loop_timer *t)
{
    int i = t->slot;
    struct loop_timer *last;

    if (i <= 0)
        return;
    t->slot = 0;
    last = l->heap[l->n--];
    if (last == t)
        return;
    place(l, i, last);
    sift_up(l, i);
    sift_down(l, last->slot);
}

void loop_timer_arm(struct loop *l, struct loop_timer *t, uint64_t after_ms)
{
    loop_timer_cancel(l, t);
    if (l->n + 2 > l->cap) {
        l->cap = l->cap ? l->cap * 2 : 64;
        l->heap = xrealloc(l->heap, (size_t)l->cap * sizeof(struct loop_timer *));
    }
    t->due_ms = l->now_ms + after_ms + 1;
    l->n++;
    place(l, l->n, t);
    sift_up(l, l->n);
}

static void run_timers(struct loop *l)
{
    while (l->n && l->heap[1]->due_ms <= l->now_ms) {
        struct loop_timer *t = l->heap[1];

        loop_timer_cancel(l, t);
        t->fn(t);
    }
}

uint64_t loop_now_ms(const struct loop *l)
{
    return l->now_ms;
}

void loop_clock_set(struct loop *l, uint64_t (*now_ms)(void *arg), void *arg)
{
    l->clock = now_ms;
    l->clock_arg = arg;
    l->now_ms = now_ms(arg);
}

/* ---- hooks and the turn ---- */

void loop_hook_add(struct loop *l, struct loop_hook *h, bool end)
{
    list_push_back(end ? &l->ends : &l->ticks, &h->link);
}

void loop_hook_del(struct loop_hook *h)
{
    list_remove(&h->link);
}

static void run_hooks(struct list_head *hooks)
{
    struct list_node *n, *next;

    for (n = hooks->node.next; n != &hooks->node; n = next) {
        struct loop_hook *h = list_entry(n, struct loop_hook, link);

        next = n->next;
        h->fn(h->arg);
    }
}

static int timeout_of(struct loop *l)
{
    if (!l->n)
        return -1;
    if (l->heap[1]->due_ms <= l->now_ms)
        return 0;
    return l->heap[1]->due_ms - l->now_ms > 60000 ? 60000 : (int)(l->heap[1]->due_ms - l->now_ms);
}

static void wait_events(struct loop *l, int timeout)
{
    if (timeout) {
        atomic_store(&l->sleeping, 1);
        if (atomic_load(&l->tasks) || atomic_load(&l->stop))
            timeout = 0;
    }
    l->ev_n = epoll_wait(l->epfd, l->ev, EVENTS_MAX, timeout);
    atomic_store(&l->sleeping, 0);
    ASSERT(l->ev_n >= 0 || errno == EINTR);
    l->now_ms = l->clock(l->clock_arg);
    for (l->ev_at = 0; l->ev_at < l->ev_n;) {
        struct epoll_event *ev = &l->ev[l->ev_at++];
        struct loop_fd *f = ev->data.ptr;

        if (f)
            f->fn(f, ev->events);
    }
    l->ev_n = l->ev_at = 0;
}

void loop_turn(struct loop *l, bool wait)
{
    wait_events(l, wait ? timeout_of(l) : 0);
    run_tasks(l);
    run_timers(l);
    run_hooks(&l->ticks);
    run_hooks(&l->ends);
}

void loop_drain(struct loop *l)
{
    while (run_tasks(l))
        run_hooks(&l->ends);
}

void loop_run(struct loop *l)
{
    atomic_store(&l->tid, syscall(SYS_gettid));
    while (!atomic_load(&l->stop))
        loop_turn(l, true);
    loop_drain(l);
    atomic_store(&l->tid, 0);
    atomic_store(&l->stop, false);
}
