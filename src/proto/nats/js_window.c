/* See js_window.h. */
#include "proto/nats/js_window.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

#define FIRST 16u

void jwindow_init(struct jwindow *w)
{
    memset(w, 0, sizeof *w);
}

void jwindow_fini(struct jwindow *w)
{
    free(w->v);
    jwindow_init(w);
}

/* Index of the first whose sequence is not below. */
static uint32_t place(const struct jwindow *w, uint64_t seq)
{
    uint32_t lo = w->head, hi = w->end, mid;

    while (lo < hi) {
        mid = lo + (hi - lo) / 2;
        if (w->v[mid].seq < seq)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct jgiven *jwindow_from(const struct jwindow *w, uint64_t seq)
{
    uint32_t i;

    for (i = place(w, seq); i < w->end; i++)
        if (w->v[i].deliveries)
            return &w->v[i];
    return NULL;
}

struct jgiven *jwindow_find(const struct jwindow *w, uint64_t seq)
{
    uint32_t i = place(w, seq);

    return i < w->end && w->v[i].seq == seq && w->v[i].deliveries ? &w->v[i] : NULL;
}

/* Leaves out what is done. */
static void squeeze(struct jwindow *w)
{
    uint32_t i, n = 0;

    for (i = w->head; i < w->end; i++)
        if (w->v[i].deliveries)
            w->v[n++] = w->v[i];
    w->head = 0;
    w->end = n;
    ASSERT(n == w->open);
}

static void room(struct jwindow *w)
{
    if (w->end < w->cap)
        return;
    if (w->open <= w->cap / 2)
        squeeze(w);
    if (w->end < w->cap)
        return;
    w->cap = w->cap ? w->cap * 2 : FIRST;
    w->v = xrealloc(w->v, w->cap * sizeof *w->v);
}

struct jgiven *jwindow_put(struct jwindow *w, uint64_t seq, uint64_t dseq, uint32_t deliveries,
                           int64_t at_ns)
{
    struct jgiven *g;
    uint32_t i;

    ASSERT(deliveries > 0);
    room(w);
    i = w->end && w->end > w->head && w->v[w->end - 1].seq < seq ? w->end : place(w, seq);
    g = &w->v[i];
    if (i < w->end && g->seq == seq && g->deliveries) {
        w->again += deliveries > 1 && g->deliveries == 1;
        g->deliveries = deliveries;
        g->at_ns = at_ns;
        return g;
    }
    if (i == w->end || g->seq != seq) {
        memmove(g + 1, g, (w->end - i) * sizeof *g);
        w->end++;
    }
    *g = (struct jgiven){.seq = seq, .dseq = dseq, .at_ns = at_ns, .deliveries = deliveries};
    w->open++;
    w->again += deliveries > 1;
    return g;
}

void jwindow_done(struct jwindow *w, struct jgiven *g)
{
    ASSERT(g->deliveries && w->open);
    w->again -= g->deliveries > 1;
    w->open--;
    g->deliveries = 0;
    while (w->head < w->end && !w->v[w->head].deliveries)
        w->head++;
    if (w->head == w->end)
        w->head = w->end = 0;
}
