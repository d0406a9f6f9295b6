/* Waiting for records, and the wake-ups.
 *
 * A waiter is armed on one list: its topic's, or the broker's for readers of patterns. The order of
 * things on the writer thread when a frame is committed:
 *   1. records are readable (journal), 2. recent_parts has the partitions (hooks->committed),
 *   3. visible_end covers them, 4. `commits` of the topics and of the broker grow, 5. waiters fire.
 * A reader reads `commits`, then visible_end, then recent_parts, then records; finding nothing it
 * arms with the `commits` that it read. Under wait_lock that is compared again, so a commit between
 * the look and the arming is seen either by the comparison or by step 5.
 *
 * wake runs without wait_lock held; `waking` names the waiter meanwhile, and waiter_cancel waits
 * for its end unless called by that very wake. A waiter is not touched after its wake returned.
 * Threads that fetch older records (tier.c) wake, too: several wakes may run at once. */
#include "broker/broker_int.h"

/* A wake that runs; on the stack of its thread. */
struct waking {
    struct list_node link; /* b->waking */
    struct waiter *w;
};

/* The waiter whose wake this thread is running. */
static _Thread_local struct waiter *waking_here;

/* wait_lock held. */
static bool is_waking(struct broker *b, const struct waiter *w)
{
    struct waking *k;

    list_for_each(k, &b->waking, struct waking, link) if (k->w == w) return true;
    return false;
}

void recent_add(struct recent *r, uint32_t id)
{
    uint64_t n = atomic_load_explicit(&r->n, memory_order_relaxed);

    atomic_store_explicit(&r->id[n & (RECENT_MAX - 1)], id, memory_order_relaxed);
    atomic_store_explicit(&r->n, n + 1, memory_order_release);
}

uint32_t recent_since(struct recent *r, uint64_t *seen, uint32_t *out)
{
    uint64_t from = *seen, n = atomic_load_explicit(&r->n, memory_order_acquire);
    uint32_t k = 0;

    *seen = n;
    if (n - from >= RECENT_MAX)
        return UINT32_MAX;
    for (; from < n; from++)
        out[k++] = atomic_load_explicit(&r->id[from & (RECENT_MAX - 1)], memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    /* the slot of number m is written again with number m + RECENT_MAX, before n says so */
    return atomic_load(&r->n) - (n - k) >= RECENT_MAX ? UINT32_MAX : k;
}

bool waiter_arm(struct broker *b, struct topic *t, uint64_t seen, struct waiter *w)
{
    struct list_head *list = t ? &t->waiters : &b->pattern_waiters;
    _Atomic uint64_t *commits = t ? &t->commits : &b->commits;
    bool armed;

    ASSERT(w->wake && !w->armed);
    w->broker = b;
    io_mutex_lock(&b->wait_lock);
    atomic_fetch_add(&b->waiters_n, 1);
    armed = atomic_load(commits) == seen;
    if (armed) {
        w->armed = true;
        list_push_back(list, &w->link);
    } else {
        atomic_fetch_sub(&b->waiters_n, 1);
    }
    io_mutex_unlock(&b->wait_lock);
    return armed;
}

uint64_t topic_commits(const struct topic *t)
{
    return atomic_load(&((struct topic *)(uintptr_t)t)->commits);
}

uint64_t broker_commits(struct broker *b)
{
    return atomic_load(&b->commits);
}

bool topic_wait(struct topic *t, uint64_t seen, struct waiter *w)
{
    return waiter_arm(t->broker, t, seen, w);
}

bool broker_wait(struct broker *b, uint64_t seen, struct waiter *w)
{
    return waiter_arm(b, NULL, seen, w);
}

void waiter_cancel(struct waiter *w)
{
    struct broker *b = w->broker;

    if (!b)
        return; /* never armed */
    io_mutex_lock(&b->wait_lock);
    if (w->armed) {
        list_remove(&w->link);
        w->armed = false;
        atomic_fetch_sub(&b->waiters_n, 1);
    }
    while (waking_here != w && is_waking(b, w))
        io_cond_wait(&b->wait_cond, &b->wait_lock);
    io_mutex_unlock(&b->wait_lock);
}

/* Calls the wake of all on the list. wait_lock held; let go around each call. */
static void fire(struct broker *b, struct list_head *list)
{
    struct list_head now;

    if (list_empty(list))
        return;
    list_init(&now); /* those that arm again in their wake go to `list` */
    now.node = list->node;
    now.node.prev->next = now.node.next->prev = &now.node;
    list_init(list);
    while (!list_empty(&now)) {
        struct waiter *w = list_entry(list_pop_front(&now), struct waiter, link), *outer;
        struct waking k = {.w = w};

        w->armed = false;
        atomic_fetch_sub(&b->waiters_n, 1);
        list_push_back(&b->waking, &k.link);
        outer = waking_here;
        waking_here = w;
        io_mutex_unlock(&b->wait_lock);
        w->wake(w);
        io_mutex_lock(&b->wait_lock);
        waking_here = outer;
        list_remove(&k.link);
        io_cond_broadcast(&b->wait_cond);
    }
}

void waiters_wake(struct broker *b, struct topic **topics, uint32_t n)
{
    uint32_t i;

    for (i = 0; i < n; i++)
        atomic_fetch_add(&topics[i]->commits, 1);
    atomic_fetch_add(&b->commits, 1);
    if (atomic_load(&b->waiters_n) == 0)
        return;
    io_mutex_lock(&b->wait_lock);
    for (i = 0; i < n; i++)
        fire(b, &topics[i]->waiters);
    fire(b, &b->pattern_waiters);
    io_mutex_unlock(&b->wait_lock);
}

void broker_watch_topics(struct broker *b, struct topics_watch *w)
{
    io_mutex_lock(&b->wait_lock);
    list_push_back(&b->topic_watches, &w->link);
    io_mutex_unlock(&b->wait_lock);
}

void broker_unwatch_topics(struct broker *b, struct topics_watch *w)
{
    io_mutex_lock(&b->wait_lock);
    list_remove(&w->link);
    io_mutex_unlock(&b->wait_lock);
}

void broker_topic_changed(struct broker *b, struct topic *t)
{
    struct topics_watch *w;

    recent_add(&b->recent_topics, t->id);
    waiters_wake(b, &t, 1);
    io_mutex_lock(&b->wait_lock);
    list_for_each(w, &b->topic_watches, struct topics_watch, link) w->fn(w, t);
    io_mutex_unlock(&b->wait_lock);
}
