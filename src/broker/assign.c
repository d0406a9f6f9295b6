/* Assignors, and sets of partitions. See assign.h. No state: any thread.
 *
 * uniform, all alike: with P partitions and M members each is due P / M, and P % M of them one
 * more: those that have the most now, so that the least moves. Each keeps up to what it is due; the
 * rest fills those that are short.
 *
 * uniform, not alike: what members have and still subscribe to they keep; free partitions go to the
 * subscriber with the fewest, topics with few subscribers first. Then partitions move from a member
 * to a subscriber with at least two fewer, until none can: each move lowers the sum of squares of
 * the numbers, so it ends; PASSES_MAX bounds the time all the same. */
#include "broker/assign.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "broker/ordered.h"

#define PASSES_MAX 64

/* ---- sets ---- */

void part_set_fini(struct part_set *s)
{
    free(s->v);
    *s = (struct part_set){NULL, 0, 0};
}

void part_set_add(struct part_set *s, struct topic_part p)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 8;
        s->v = xrealloc(s->v, s->cap * sizeof *s->v);
    }
    s->v[s->n++] = p;
}

static int part_order(const void *x, const void *y)
{
    const struct topic_part *a = x, *b = y;

    if (a->topic != b->topic)
        return a->topic < b->topic ? -1 : 1;
    return (a->partition > b->partition) - (a->partition < b->partition);
}

void part_set_sort(struct part_set *s)
{
    uint32_t i, n = 0;

    if (s->n == 0)
        return;
    qsort(s->v, s->n, sizeof *s->v, part_order);
    for (i = 1; i < s->n; i++)
        if (part_order(&s->v[n], &s->v[i]) != 0)
            s->v[++n] = s->v[i];
    s->n = n + 1;
}

bool part_set_has(const struct part_set *s, struct topic_part p)
{
    return s->n && bsearch(&p, s->v, s->n, sizeof *s->v, part_order) != NULL;
}

bool part_set_same(const struct part_set *a, const struct part_set *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->v, b->v, a->n * sizeof *a->v) == 0);
}

void part_set_copy(struct part_set *dst, const struct part_set *src)
{
    uint32_t i;

    dst->n = 0;
    for (i = 0; i < src->n; i++)
        part_set_add(dst, src->v[i]);
}

void part_set_pick(struct part_set *dst, const struct part_set *a, const struct part_set *b,
                   bool both)
{
    uint32_t i, k = 0;

    ASSERT(dst->n == 0);
    for (i = 0; i < a->n; i++) {
        while (k < b->n && part_order(&b->v[k], &a->v[i]) < 0)
            k++;
        if ((k < b->n && part_order(&b->v[k], &a->v[i]) == 0) == both)
            part_set_add(dst, a->v[i]);
    }
}

/* ---- members in order ---- */

static int member_order(const void *x, const void *y)
{
    const struct assign_member *a = *(struct assign_member *const *)x;
    const struct assign_member *b = *(struct assign_member *const *)y;
    bool as = !slice_is_null(a->instance_id), bs = !slice_is_null(b->instance_id);

    if (as != bs)
        return as ? -1 : 1;
    return as ? ordered_compare(a->instance_id, b->instance_id) : ordered_compare(a->id, b->id);
}

static struct assign_member **members_sorted(struct assign_member *m, uint32_t n)
{
    struct assign_member **out = xmalloc((n + 1) * sizeof(struct assign_member *));
    uint32_t i;

    for (i = 0; i < n; i++)
        out[i] = &m[i];
    qsort(out, n, sizeof(struct assign_member *), member_order);
    return out;
}

static int topic_order(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = ((const struct assign_topic *)y)->id;

    return (a > b) - (a < b);
}

static int id_order(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

    return (a > b) - (a < b);
}

static uint32_t topic_index(const struct assign_topic *topics, uint32_t n, uint32_t id)
{
    const struct assign_topic *t = bsearch(&id, topics, n, sizeof *topics, topic_order);

    return t ? (uint32_t)(t - topics) : UINT32_MAX;
}

/* Number of subscribers of each topic. */
static uint32_t *subscribers_count(const struct assign_topic *topics, uint32_t topics_n,
                                   struct assign_member **m, uint32_t n)
{
    uint32_t *count = xcalloc(topics_n + 1, sizeof *count), i, k, at;

    for (i = 0; i < n; i++)
        for (k = 0; k < m[i]->topics_n; k++)
            if ((at = topic_index(topics, topics_n, m[i]->topics[k])) != UINT32_MAX)
                count[at]++;
    return count;
}

/* ---- range ---- */

void assign_range(const struct assign_topic *topics, uint32_t topics_n, struct assign_member *m,
                  uint32_t n)
{
    struct assign_member **in = members_sorted(m, n);
    uint32_t *subscribers = subscribers_count(topics, topics_n, in, n);
    uint32_t *served = xcalloc(topics_n + 1, sizeof *served);
    int32_t *next = xcalloc(topics_n + 1, sizeof *next);
    uint32_t i, k, at;

    for (i = 0; i < n; i++)
        for (k = 0; k < in[i]->topics_n; k++) {
            int32_t quota, end;

            if ((at = topic_index(topics, topics_n, in[i]->topics[k])) == UINT32_MAX)
                continue;
            quota = topics[at].partitions / (int32_t)subscribers[at];
            if ((int32_t)served[at]++ < topics[at].partitions % (int32_t)subscribers[at])
                quota++;
            for (end = next[at] + quota; next[at] < end; next[at]++)
                part_set_add(&in[i]->gets,
                             (struct topic_part){.topic = topics[at].id, .partition = next[at]});
        }
    free(in);
    free(subscribers);
    free(served);
    free(next);
}

/* ---- round robin ---- */

void assign_roundrobin(const struct assign_topic *topics, uint32_t topics_n,
                       struct assign_member *m, uint32_t n)
{
    struct assign_member **in = members_sorted(m, n);
    uint32_t *subscribers = subscribers_count(topics, topics_n, in, n);
    uint32_t turn = 0, t;
    int32_t k;

    for (t = 0; t < topics_n; t++)
        for (k = 0; subscribers[t] && k < topics[t].partitions; k++) {
            while (!bsearch(&topics[t].id, in[turn % n]->topics, in[turn % n]->topics_n,
                            sizeof *in[turn % n]->topics, id_order))
                turn++;
            part_set_add(&in[turn++ % n]->gets,
                         (struct topic_part){.topic = topics[t].id, .partition = k});
        }
    free(in);
    free(subscribers);
}

/* ---- share ---- */

void assign_share(const struct assign_topic *topics, uint32_t topics_n, struct assign_member *m,
                  uint32_t n)
{
    struct assign_member **in = members_sorted(m, n);
    uint32_t *subscribers = subscribers_count(topics, topics_n, in, n);
    uint32_t turn = 0, t, k, most;

    for (t = 0; t < topics_n; t++) {
        uint32_t parts = (uint32_t)topics[t].partitions;

        most = subscribers[t] > parts ? subscribers[t] : parts;
        for (k = 0; subscribers[t] && k < most; k++) {
            while (!bsearch(&topics[t].id, in[turn % n]->topics, in[turn % n]->topics_n,
                            sizeof *in[turn % n]->topics, id_order))
                turn++;
            part_set_add(
                &in[turn++ % n]->gets,
                (struct topic_part){.topic = topics[t].id, .partition = (int32_t)(k % parts)});
        }
    }
    free(in);
    free(subscribers);
}

/* ---- uniform ---- */

/* The work of one assignment: partitions numbered through all topics, each with its member. */
struct work {
    const struct assign_topic *topics;
    uint32_t topics_n;
    struct assign_member **m;
    uint32_t n;
    uint32_t *first; /* number of a topic's first partition; [topics_n]: of all */
    uint32_t *owner; /* of each partition: index into m, or NOBODY */
    uint32_t *count; /* partitions of each member */
};
#define NOBODY UINT32_MAX

static void work_init(struct work *w, const struct assign_topic *topics, uint32_t topics_n,
                      struct assign_member *m, uint32_t n)
{
    uint32_t i, all = 0;

    *w = (struct work){.topics = topics, .topics_n = topics_n, .n = n};
    w->m = members_sorted(m, n);
    w->first = xcalloc(topics_n + 1, sizeof *w->first);
    for (i = 0; i < topics_n; i++) {
        w->first[i] = all;
        all += (uint32_t)topics[i].partitions;
    }
    w->first[topics_n] = all;
    w->owner = xmalloc((all + 1) * sizeof *w->owner);
    for (i = 0; i < all; i++)
        w->owner[i] = NOBODY;
    w->count = xcalloc(n + 1, sizeof *w->count);
}

static void work_end(struct work *w)
{
    uint32_t t, p;

    for (t = 0; t < w->topics_n; t++)
        for (p = w->first[t]; p < w->first[t + 1]; p++)
            if (w->owner[p] != NOBODY)
                part_set_add(&w->m[w->owner[p]]->gets,
                             (struct topic_part){.topic = w->topics[t].id,
                                                 .partition = (int32_t)(p - w->first[t])});
    free(w->m);
    free(w->first);
    free(w->owner);
    free(w->count);
}

static bool subscribes(const struct assign_member *m, uint32_t topic)
{
    return m->topics_n &&
           bsearch(&topic, m->topics, m->topics_n, sizeof *m->topics, id_order) != NULL;
}

/* The member keeps what it has and may have, at most `most`. */
static void keep(struct work *w, uint32_t member, uint32_t most)
{
    const struct part_set *has = w->m[member]->has;
    uint32_t i, t, *owner;

    for (i = 0; has && i < has->n && w->count[member] < most; i++) {
        t = topic_index(w->topics, w->topics_n, has->v[i].topic);
        if (t == UINT32_MAX || has->v[i].partition >= w->topics[t].partitions ||
            !subscribes(w->m[member], has->v[i].topic))
            continue;
        owner = &w->owner[w->first[t] + (uint32_t)has->v[i].partition];
        if (*owner != NOBODY)
            continue;
        *owner = member;
        w->count[member]++;
    }
}

/* How much of what it has the member may have still: as many as keep would leave it. */
static uint32_t keepable(const struct work *w, uint32_t member)
{
    const struct part_set *has = w->m[member]->has;
    uint32_t i, t, n = 0;

    for (i = 0; has && i < has->n; i++) {
        t = topic_index(w->topics, w->topics_n, has->v[i].topic);
        n += t != UINT32_MAX && has->v[i].partition < w->topics[t].partitions &&
             subscribes(w->m[member], has->v[i].topic);
    }
    return n;
}

static void uniform_same(struct work *w)
{
    uint32_t all = 0, least, extra, i, p = 0, t;
    uint32_t *due = xcalloc(w->n, sizeof *due);

    for (t = 0; t < w->topics_n; t++)
        if (subscribes(w->m[0], w->topics[t].id))
            all += (uint32_t)w->topics[t].partitions;
    least = all / w->n;
    extra = all % w->n;
    for (i = 0; i < w->n; i++) {
        due[i] = least + (extra && keepable(w, i) > least);
        extra -= due[i] - least;
    }
    for (i = 0; i < w->n && extra; i++)
        if (due[i] == least) {
            due[i]++;
            extra--;
        }
    for (i = 0; i < w->n; i++)
        keep(w, i, due[i]);
    for (t = 0, i = 0; t < w->topics_n; t++) {
        if (!subscribes(w->m[0], w->topics[t].id))
            continue;
        for (p = w->first[t]; p < w->first[t + 1]; p++) {
            if (w->owner[p] != NOBODY)
                continue;
            while (w->count[i] == due[i])
                i++;
            w->owner[p] = i;
            w->count[i]++;
        }
    }
    free(due);
}

/* For each topic its subscribers, one after the other. */
struct subscribers {
    uint32_t *first, *v;
};

static void subscribers_init(const struct work *w, struct subscribers *s)
{
    uint32_t *count = subscribers_count(w->topics, w->topics_n, w->m, w->n), t, i, k, at, all = 0;

    s->first = xcalloc(w->topics_n + 1, sizeof *s->first);
    for (t = 0; t < w->topics_n; t++) {
        s->first[t] = all;
        all += count[t];
        count[t] = s->first[t];
    }
    s->first[w->topics_n] = all;
    s->v = xmalloc((all + 1) * sizeof *s->v);
    for (i = 0; i < w->n; i++)
        for (k = 0; k < w->m[i]->topics_n; k++)
            if ((at = topic_index(w->topics, w->topics_n, w->m[i]->topics[k])) != UINT32_MAX)
                s->v[count[at]++] = i;
    free(count);
}

/* The topic's subscriber with the fewest partitions; NOBODY: it has none. */
static uint32_t poorest(const struct work *w, const struct subscribers *s, uint32_t topic)
{
    uint32_t best = NOBODY, i;

    for (i = s->first[topic]; i < s->first[topic + 1]; i++)
        if (best == NOBODY || w->count[s->v[i]] < w->count[best])
            best = s->v[i];
    return best;
}

struct few {
    uint32_t subscribers, topic;
};

static int few_order(const void *x, const void *y)
{
    const struct few *a = x, *b = y;

    if (a->subscribers != b->subscribers)
        return a->subscribers < b->subscribers ? -1 : 1;
    return (a->topic > b->topic) - (a->topic < b->topic);
}

static void give_free(struct work *w, const struct subscribers *s)
{
    struct few *order = xcalloc(w->topics_n + 1, sizeof *order);
    uint32_t i, p, to;

    for (i = 0; i < w->topics_n; i++)
        order[i] = (struct few){.subscribers = s->first[i + 1] - s->first[i], .topic = i};
    qsort(order, w->topics_n, sizeof *order, few_order);
    for (i = 0; i < w->topics_n; i++) {
        if (order[i].subscribers == 0)
            continue;
        for (p = w->first[order[i].topic]; p < w->first[order[i].topic + 1]; p++) {
            if (w->owner[p] != NOBODY)
                continue;
            to = poorest(w, s, order[i].topic);
            w->owner[p] = to;
            w->count[to]++;
        }
    }
    free(order);
}

static bool balance_pass(struct work *w, const struct subscribers *s)
{
    uint32_t t, p, to, from;
    bool moved = false;

    for (t = 0; t < w->topics_n; t++)
        for (p = w->first[t]; p < w->first[t + 1]; p++) {
            from = w->owner[p];
            if (from == NOBODY)
                break;
            to = poorest(w, s, t);
            if (w->count[from] < w->count[to] + 2)
                continue;
            w->owner[p] = to;
            w->count[from]--;
            w->count[to]++;
            moved = true;
        }
    return moved;
}

void assign_uniform(const struct assign_topic *topics, uint32_t topics_n, struct assign_member *m,
                    uint32_t n, bool same)
{
    struct subscribers s;
    struct work w;
    uint32_t i;
    int passes;

    if (n == 0)
        return;
    work_init(&w, topics, topics_n, m, n);
    if (same) {
        uniform_same(&w);
    } else {
        subscribers_init(&w, &s);
        for (i = 0; i < n; i++)
            keep(&w, i, UINT32_MAX);
        give_free(&w, &s);
        for (passes = 0; passes < PASSES_MAX && balance_pass(&w, &s); passes++)
            ;
        free(s.first);
        free(s.v);
    }
    work_end(&w);
}
