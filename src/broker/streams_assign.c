/* The sticky assignor of tasks. See streams_int.h for what it promises.
 *
 * Each member may have so many tasks: all divided by the members, rounded up; as soon as one has that
 * many, what is left is divided anew by those that are left (so the numbers differ by one at most
 * where nothing speaks against it). In this order, while a member may have more:
 *
 *   1. an active task goes to the member that had it
 *   2. else to one of the members that had its standby: the one whose process has least to do
 *   3. else to the process with least to do, and there to the member with the fewest tasks
 *   4. a standby goes to the member that had the task, active or standby, or else as 3; but never to
 *      a process that has the task already
 *
 * The load of a process is its tasks by its members. Ties are decided by number of process, then by
 * id of member. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/map.h"
#include "base/mem.h"
#include "broker/ordered.h"
#include "broker/streams_int.h"

struct quota { /* see above */
    uint32_t total, members, each;
};

struct held { /* a member had the task before */
    uint64_t task;
    uint32_t member;
};

struct process {
    uint32_t n, cap; /* tasks, members */
    uint32_t *heap;  /* its members, the one with the fewest tasks first */
};

struct assign {
    struct streams_assign_member **m; /* in order of id */
    uint32_t n, processes_n, *tasks;  /* tasks: of each member */
    struct process *process;
    uint32_t *heap, heap_n; /* processes, the one with least to do first */
    struct held *active, *standby;
    uint32_t active_n, standby_n;
    struct quota of_active, of_all;
    struct u64map in_process; /* task, process: it has it */
    uint64_t mark;            /* what the map's values point to */
};

/* ---- quotas ---- */

static uint32_t divide(uint32_t total, uint32_t by)
{
    return by ? (total + by - 1) / by : 0;
}

static void quota_init(struct quota *q, uint32_t total, uint32_t members)
{
    *q = (struct quota){total, members, divide(total, members)};
}

/* A member has now n. */
static void quota_note(struct quota *q, uint32_t n)
{
    if (n != q->each || q->members == 0)
        return;
    q->members--;
    q->total -= n < q->total ? n : q->total;
    q->each = divide(q->total, q->members);
}

/* ---- heaps: of places in a table, the least first ---- */

typedef bool (*less_fn)(const struct assign *a, uint32_t x, uint32_t y);

static bool member_less(const struct assign *a, uint32_t x, uint32_t y)
{
    return a->tasks[x] != a->tasks[y] ? a->tasks[x] < a->tasks[y] : x < y;
}

static bool process_less(const struct assign *a, uint32_t x, uint32_t y)
{
    const struct process *p = &a->process[x], *q = &a->process[y];
    uint64_t l = (uint64_t)p->n * q->cap, r = (uint64_t)q->n * p->cap;

    return l != r ? l < r : x < y;
}

static void heap_down(const struct assign *a, uint32_t *heap, uint32_t n, uint32_t i, less_fn less)
{
    uint32_t v = heap[i], c;

    for (; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && less(a, heap[c + 1], heap[c]))
            c++;
        if (!less(a, heap[c], v))
            break;
        heap[i] = heap[c];
    }
    heap[i] = v;
}

static void heap_make(const struct assign *a, uint32_t *heap, uint32_t n, less_fn less)
{
    uint32_t i;

    for (i = n / 2; i; i--)
        heap_down(a, heap, n, i - 1, less);
}

static uint32_t heap_pop(const struct assign *a, uint32_t *heap, uint32_t *n, less_fn less)
{
    uint32_t top = heap[0];

    heap[0] = heap[--*n];
    if (*n)
        heap_down(a, heap, *n, 0, less);
    return top;
}

static void heap_push(const struct assign *a, uint32_t *heap, uint32_t *n, uint32_t v, less_fn less)
{
    uint32_t i = (*n)++;

    for (; i && less(a, v, heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = v;
}

/* After tasks were given without the heaps. */
static void heaps_make(struct assign *a)
{
    uint32_t i;

    a->heap_n = a->processes_n;
    for (i = 0; i < a->processes_n; i++) {
        a->heap[i] = i;
        heap_make(a, a->process[i].heap, a->process[i].cap, member_less);
    }
    heap_make(a, a->heap, a->heap_n, process_less);
}

/* ---- giving ---- */

static uint64_t place_key(const struct assign *a, struct topic_part p, uint32_t process)
{
    ASSERT(p.partition >= 0 && process < LIMIT_GROUP_MEMBERS);
    return ((uint64_t)p.topic << 48) | ((uint64_t)(uint32_t)p.partition << 16) | process;
}

static bool process_has(const struct assign *a, struct topic_part p, uint32_t process)
{
    return u64map_find(&a->in_process, place_key(a, p, process)) != NULL;
}

static void give(struct assign *a, uint32_t member, struct topic_part p, enum streams_role role)
{
    uint32_t process = a->m[member]->process;

    part_set_add(&a->m[member]->gets.of[role], p);
    a->tasks[member]++;
    a->process[process].n++;
    if (u64map_put(&a->in_process, place_key(a, p, process), &a->mark))
        ASSERT(false);
    if (role == STREAMS_ACTIVE)
        quota_note(&a->of_active, a->tasks[member]);
    quota_note(&a->of_all, a->tasks[member]);
}

/* To the process with least to do that has not the task; false: all have it. */
static bool give_least(struct assign *a, struct topic_part p, enum streams_role role)
{
    uint32_t aside[LIMIT_STREAMS_STANDBYS + 1], aside_n = 0, at = UINT32_MAX;

    while (a->heap_n && aside_n <= LIMIT_STREAMS_STANDBYS) {
        at = heap_pop(a, a->heap, &a->heap_n, process_less);
        if (!process_has(a, p, at))
            break;
        aside[aside_n++] = at;
        at = UINT32_MAX;
    }
    if (at != UINT32_MAX) {
        struct process *pr = &a->process[at];

        give(a, pr->heap[0], p, role);
        heap_down(a, pr->heap, pr->cap, 0, member_less);
        heap_push(a, a->heap, &a->heap_n, at, process_less);
    }
    while (aside_n)
        heap_push(a, a->heap, &a->heap_n, aside[--aside_n], process_less);
    return at != UINT32_MAX;
}

/* ---- who had it ---- */

static int held_order(const void *x, const void *y)
{
    const struct held *a = x, *b = y;

    if (a->task != b->task)
        return a->task < b->task ? -1 : 1;
    return (a->member > b->member) - (a->member < b->member);
}

static struct held *held_gather(const struct assign *a, bool active, uint32_t *n)
{
    struct held *out;
    uint32_t i, k, role, total = 0;

    for (i = 0; i < a->n; i++)
        for (role = 0; role < STREAMS_ROLES; role++)
            if ((role == STREAMS_ACTIVE) == active)
                total += a->m[i]->had->of[role].n;
    out = xmalloc((total + 1) * sizeof *out);
    *n = 0;
    for (i = 0; i < a->n; i++)
        for (role = 0; role < STREAMS_ROLES; role++)
            for (k = 0; (role == STREAMS_ACTIVE) == active && k < a->m[i]->had->of[role].n; k++)
                out[(*n)++] = (struct held){task_key(a->m[i]->had->of[role].v[k]), i};
    if (*n)
        qsort(out, *n, sizeof *out, held_order);
    return out;
}

/* The first of those that had it; *end is behind the last. */
static uint32_t held_first(const struct held *v, uint32_t n, uint64_t task, uint32_t *end)
{
    uint32_t low = 0, high = n, mid;

    while (low < high) {
        mid = low + (high - low) / 2;
        if (v[mid].task < task)
            low = mid + 1;
        else
            high = mid;
    }
    for (*end = low; *end < n && v[*end].task == task; ++*end)
        ;
    return low;
}

/* Of those that had the task, the one whose process has least to do; its process must not have it.
 * UINT32_MAX: none. */
static uint32_t held_least(const struct assign *a, const struct held *v, uint32_t n,
                           struct topic_part p)
{
    uint32_t end, i = held_first(v, n, task_key(p), &end), best = UINT32_MAX;

    for (; i < end; i++) {
        uint32_t m = v[i].member;

        if (process_has(a, p, a->m[m]->process))
            continue;
        if (best == UINT32_MAX || process_less(a, a->m[m]->process, a->m[best]->process) ||
            (a->m[m]->process == a->m[best]->process && member_less(a, m, best)))
            best = m;
    }
    return best;
}

/* ---- tasks, by partition first: those of one partition often belong together ---- */

static struct topic_part *tasks_list(const struct streams_assign_sub *subs, uint32_t subs_n,
                                     bool stateful, uint32_t *n)
{
    struct topic_part *out;
    int32_t most = 0, p;
    uint32_t i, total = 0;

    for (i = 0; i < subs_n; i++) {
        total += (uint32_t)subs[i].tasks;
        if (subs[i].tasks > most)
            most = subs[i].tasks;
    }
    out = xmalloc((total + 1) * sizeof *out);
    *n = 0;
    for (p = 0; p < most; p++)
        for (i = 0; i < subs_n; i++)
            if (p < subs[i].tasks && (!stateful || subs[i].stateful))
                out[(*n)++] = (struct topic_part){i, p};
    return out;
}

/* Gives those that the function finds somebody for; the others move to the front. */
static uint32_t give_held(struct assign *a, struct topic_part *tasks, uint32_t n,
                          const struct held *v, uint32_t v_n)
{
    uint32_t i, m, left = 0;

    for (i = 0; i < n; i++) {
        m = held_least(a, v, v_n, tasks[i]);
        if (m != UINT32_MAX && a->tasks[m] < a->of_active.each)
            give(a, m, tasks[i], STREAMS_ACTIVE);
        else
            tasks[left++] = tasks[i];
    }
    return left;
}

static int task_order(const void *x, const void *y)
{
    uint64_t a = task_key(*(const struct topic_part *)x),
             b = task_key(*(const struct topic_part *)y);

    return (a > b) - (a < b);
}

static void assign_active(struct assign *a, struct topic_part *tasks, uint32_t n)
{
    uint32_t i;

    n = give_held(a, tasks, n, a->active, a->active_n);
    n = give_held(a, tasks, n, a->standby, a->standby_n);
    if (n)
        qsort(tasks, n, sizeof *tasks, task_order);
    heaps_make(a);
    for (i = 0; i < n; i++)
        if (!give_least(a, tasks[i], STREAMS_ACTIVE))
            ASSERT(false); /* nobody has it */
}

static void assign_standby(struct assign *a, const struct topic_part *tasks, uint32_t n,
                           uint32_t standbys)
{
    uint32_t *left = xcalloc(n + 1, sizeof *left), i, k, m;

    for (i = 0; i < n; i++)
        for (left[i] = standbys; left[i]; left[i]--) {
            m = held_least(a, a->active, a->active_n, tasks[i]);
            if (m == UINT32_MAX || a->tasks[m] >= a->of_all.each)
                m = held_least(a, a->standby, a->standby_n, tasks[i]);
            if (m == UINT32_MAX || a->tasks[m] >= a->of_all.each)
                break;
            give(a, m, tasks[i], STREAMS_STANDBY);
        }
    heaps_make(a);
    for (i = n; i; i--)
        for (k = 0; k < left[i - 1] && give_least(a, tasks[i - 1], STREAMS_STANDBY); k++)
            ;
    free(left);
}

/* ---- the whole ---- */

static int member_order(const void *x, const void *y)
{
    return ordered_compare((*(struct streams_assign_member *const *)x)->id,
                           (*(struct streams_assign_member *const *)y)->id);
}

static void assign_init(struct assign *a, struct streams_assign_member *m, uint32_t n,
                        uint32_t processes_n)
{
    uint32_t i;

    *a = (struct assign){.n = n, .processes_n = processes_n};
    a->m = xmalloc(n * sizeof(struct streams_assign_member *));
    a->tasks = xcalloc(n, sizeof *a->tasks);
    a->process = xcalloc(processes_n, sizeof *a->process);
    a->heap = xmalloc(processes_n * sizeof *a->heap);
    u64map_init(&a->in_process, 1u << 30, 0);
    for (i = 0; i < n; i++)
        a->m[i] = &m[i];
    qsort(a->m, n, sizeof(struct streams_assign_member *), member_order);
    for (i = 0; i < n; i++)
        a->process[a->m[i]->process].cap++;
    for (i = 0; i < processes_n; i++) {
        a->process[i].heap = xmalloc((a->process[i].cap + 1) * sizeof(uint32_t));
        a->process[i].cap = 0;
    }
    for (i = 0; i < n; i++) {
        struct process *p = &a->process[a->m[i]->process];

        p->heap[p->cap++] = i;
    }
    a->active = held_gather(a, true, &a->active_n);
    a->standby = held_gather(a, false, &a->standby_n);
}

static void assign_fini(struct assign *a)
{
    uint32_t i, role;

    for (i = 0; i < a->n; i++)
        for (role = 0; role < STREAMS_ROLES; role++)
            part_set_sort(&a->m[i]->gets.of[role]);
    for (i = 0; i < a->processes_n; i++)
        free(a->process[i].heap);
    u64map_fini(&a->in_process);
    free(a->active);
    free(a->standby);
    free(a->m);
    free(a->tasks);
    free(a->process);
    free(a->heap);
}

void streams_assign(const struct streams_assign_sub *subs, uint32_t subs_n,
                    struct streams_assign_member *m, uint32_t n, uint32_t processes_n,
                    uint32_t standbys)
{
    struct topic_part *all, *stateful;
    uint32_t all_n, stateful_n;
    struct assign a;

    if (n == 0)
        return;
    ASSERT(standbys <= LIMIT_STREAMS_STANDBYS);
    assign_init(&a, m, n, processes_n);
    all = tasks_list(subs, subs_n, false, &all_n);
    stateful = tasks_list(subs, subs_n, true, &stateful_n);
    quota_init(&a.of_active, all_n, n);
    quota_init(&a.of_all, all_n + stateful_n * standbys, n);
    assign_active(&a, all, all_n);
    if (standbys)
        assign_standby(&a, stateful, stateful_n, standbys);
    free(all);
    free(stateful);
    assign_fini(&a);
}
