/* Several changes, one answer: see admin_int.h. */
#include "proto/kafka/admin_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define RETRY_MS 2u

/* Those that wait are not tried any more. */
static void gather_stop(struct kgather *g)
{
    static const struct errinfo info = {.text = "another change of it is on its way"};
    struct kgather_job *job = g->waiting, *next;

    loop_timer_cancel(g->q->kl->loop, &g->timer);
    loop_timer_cancel(g->q->kl->loop, &g->retry);
    g->waiting = NULL;
    for (; job; job = next) {
        next = job->next;
        kgather_done(job, ERR_TIMEOUT, &info);
    }
}

/* The connection is gone: nobody is to be answered in time. */
static void gather_cancel(struct kreq *q)
{
    gather_stop(q->state_of);
}

static void gather_retry(struct loop_timer *t)
{
    struct kgather *g = list_entry(t, struct kgather, retry);
    struct kgather_job *job = g->waiting, *next;

    g->waiting = NULL;
    for (; job; job = next) {
        next = job->next;
        job->again(job);
    }
}

void kgather_again(struct kgather_job *job, void (*fn)(struct kgather_job *job))
{
    struct kgather *g = job->g;

    job->again = fn;
    job->next = g->waiting;
    g->waiting = job;
    if (!loop_timer_armed(&g->retry))
        loop_timer_arm(g->q->kl->loop, &g->retry, RETRY_MS);
}

static void gather_answer(struct kgather *g)
{
    if (g->answered)
        return;
    g->answered = true;
    g->q->cancel = NULL;
    if (g->q->state != KREQ_DONE) /* it failed */
        g->reply(g->q);
}

static void gather_timeout(struct loop_timer *t)
{
    struct kgather *g = list_entry(t, struct kgather, timer);

    gather_stop(g);
    gather_answer(g);
}

/* All jobs have ended. */
static void gather_over(struct kreq *q)
{
    struct kgather *g = q->state_of;

    gather_stop(g);
    if (g->ended)
        g->ended(q);
    gather_answer(g);
    kreq_unref(q);
}

struct kgather *kgather_new(struct kreq *q, uint32_t n, void (*reply)(struct kreq *q), void *state)
{
    struct kgather *g = kreq_alloc(q, 1, sizeof *g);
    uint32_t i;

    if (!g || !(g->jobs = kreq_alloc(q, n, sizeof *g->jobs)))
        return NULL;
    for (i = 0; i < n; i++)
        g->jobs[i].g = g;
    g->q = q;
    g->jobs_n = n;
    g->reply = reply;
    atomic_init(&g->pending, 1);
    loop_timer_init(&g->timer, gather_timeout);
    loop_timer_init(&g->retry, gather_retry);
    g->state = state;
    q->state_of = g;
    return g;
}

void kgather_begin(struct kgather_job *job)
{
    ASSERT(!atomic_load_explicit(&job->begun, memory_order_relaxed));
    atomic_store_explicit(&job->begun, true, memory_order_relaxed);
    atomic_fetch_add(&job->g->pending, 1);
}

void kgather_done(void *arg, enum err e, const struct errinfo *info)
{
    struct kgather_job *job = arg;
    struct kgather *g = job->g;

    job->err = e;
    if (e)
        errinfo_set(&job->info, e, "%s", info->text[0] ? info->text : err_text(e));
    atomic_store_explicit(&job->ended, true, memory_order_release);
    if (atomic_fetch_sub(&g->pending, 1) == 1)
        kreq_post(g->q, gather_over);
}

void kgather_wait(struct kgather *g, int32_t timeout_ms)
{
    struct kreq *q = g->q;

    kreq_lend(q); /* until gather_over: a late job writes to it */
    if (atomic_load(&g->pending) > 1) {
        q->cancel = gather_cancel;
        loop_timer_arm(q->kl->loop, &g->timer, timeout_ms > 0 ? (uint64_t)timeout_ms : 0);
    }
    if (atomic_fetch_sub(&g->pending, 1) == 1)
        gather_over(q);
}

int16_t kgather_result(struct kreq *q, struct kgather_job *job, struct slice *message)
{
    *message = SLICE_NULL;
    if (!atomic_load_explicit(&job->begun, memory_order_relaxed))
        return KE_NONE;
    if (!atomic_load_explicit(&job->ended, memory_order_acquire)) {
        *message = SLICE_LIT("the time given was over before the change was durable");
        return KE_REQUEST_TIMED_OUT;
    }
    if (job->err)
        *message = kreq_printf(q, "%s", job->info.text);
    return kafka_admin_code(job->err);
}

int16_t kafka_admin_code(enum err e)
{
    return e == ERR_LIMIT ? KE_POLICY_VIOLATION : kafka_code(e);
}

struct named {
    struct slice name;
    uint32_t i;
};

static int named_order(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    size_t n = x->name.len < y->name.len ? x->name.len : y->name.len;
    int d = n ? memcmp(x->name.ptr, y->name.ptr, n) : 0;

    if (d)
        return d;
    if (x->name.len != y->name.len)
        return x->name.len < y->name.len ? -1 : 1;
    return x->i < y->i ? -1 : 1;
}

uint8_t *kafka_names_count(struct kreq *q, const struct slice *names, uint32_t n)
{
    struct named *order = kreq_alloc(q, n, sizeof *order);
    uint8_t *out = order ? kreq_alloc(q, n, sizeof *out) : NULL;
    uint32_t i;

    if (!out)
        return NULL;
    for (i = 0; i < n; i++)
        order[i] = (struct named){names[i], i};
    qsort(order, n, sizeof *order, named_order);
    for (i = 1; i < n; i++)
        if (slice_eq(order[i].name, order[i - 1].name)) {
            out[order[i].i] = KNAME_AGAIN;
            if (out[order[i - 1].i] == KNAME_ONCE)
                out[order[i - 1].i] = KNAME_FIRST;
        }
    return out;
}
