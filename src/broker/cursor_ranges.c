/* Ranges of offsets: a sorted array, changed in place. See cursor_ranges.h. */
#include "broker/cursor_ranges.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

void cursor_ranges_init(struct cursor_ranges *r, int64_t start)
{
    *r = (struct cursor_ranges){.start = start, .next = start};
}

void cursor_ranges_fini(struct cursor_ranges *r)
{
    free(r->v);
    *r = (struct cursor_ranges){.v = NULL};
}

static uint64_t range_records(const struct cursor_range *x)
{
    return (uint64_t)(x->last - x->first) + 1;
}

static bool alike(const struct cursor_range *a, const struct cursor_range *b)
{
    if (a->state != b->state || a->settling != b->settling)
        return false;
    return a->state == RANGE_DONE || (a->at_ms == b->at_ms && a->owner == b->owner &&
                                      a->deliveries == b->deliveries && a->saved == b->saved);
}

/* Makes room for one more at index i. */
static void room_at(struct cursor_ranges *r, uint32_t i)
{
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 8;
        r->v = xrealloc(r->v, r->cap * sizeof *r->v);
    }
    memmove(&r->v[i + 1], &r->v[i], (r->n - i) * sizeof *r->v);
    r->n++;
}

/* Takes out those from index a to b - 1. */
static void take_out(struct cursor_ranges *r, uint32_t a, uint32_t b)
{
    if (a == b)
        return;
    memmove(&r->v[a], &r->v[b], (r->n - b) * sizeof *r->v);
    r->n -= b - a;
}

uint32_t cursor_ranges_at(const struct cursor_ranges *r, int64_t offset)
{
    uint32_t lo = 0, hi = r->n;

    ASSERT(offset >= r->start && offset < r->next);
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (r->v[mid].first <= offset)
            lo = mid;
        else
            hi = mid;
    }
    ASSERT(r->v[lo].first <= offset && r->v[lo].last >= offset);
    return lo;
}

void cursor_ranges_extend(struct cursor_ranges *r, int64_t last)
{
    uint32_t i = r->n;

    if (last < r->next)
        return;
    room_at(r, i);
    r->v[i] = (struct cursor_range){.first = r->next, .last = last, .state = RANGE_AVAILABLE};
    r->undone += range_records(&r->v[i]);
    r->next = last + 1;
    cursor_ranges_merge(r, i, i + 1);
}

/* The range that begins at offset, cutting the one that it is in the middle of. */
static uint32_t cut_at(struct cursor_ranges *r, int64_t offset)
{
    uint32_t i;

    if (offset == r->next)
        return r->n;
    i = cursor_ranges_at(r, offset);
    if (r->v[i].first == offset)
        return i;
    room_at(r, i);
    r->v[i].last = offset - 1;
    r->v[i + 1].first = offset;
    return i + 1;
}

void cursor_ranges_cut(struct cursor_ranges *r, int64_t first, int64_t last, uint32_t *from,
                       uint32_t *to)
{
    ASSERT(first <= last && first >= r->start && last < r->next);
    *from = cut_at(r, first);
    *to = cut_at(r, last + 1);
    ASSERT(*from < *to);
}

void cursor_ranges_merge(struct cursor_ranges *r, uint32_t from, uint32_t to)
{
    uint32_t i, k;

    from = from ? from - 1 : 0;
    to = to < r->n ? to + 1 : r->n;
    for (i = from, k = from + 1; k < to; k++) {
        if (alike(&r->v[i], &r->v[k]))
            r->v[i].last = r->v[k].last;
        else
            r->v[++i] = r->v[k];
    }
    if (to > from)
        take_out(r, i + 1, to);
    for (i = 0; i < r->n && r->v[i].state == RANGE_DONE; i++)
        r->start = r->v[i].last + 1;
    take_out(r, 0, i);
    if (r->n == 0)
        ASSERT(r->start == r->next && r->undone == 0);
}

void cursor_ranges_finish(struct cursor_ranges *r, struct cursor_range *x)
{
    if (x->state == RANGE_DONE)
        return;
    ASSERT(r->undone >= range_records(x));
    r->undone -= range_records(x);
    *x = (struct cursor_range){.first = x->first, .last = x->last, .state = RANGE_DONE};
}

void cursor_ranges_advance(struct cursor_ranges *r, int64_t start)
{
    uint32_t from, to, i;

    if (start <= r->start)
        return;
    if (r->n) {
        cursor_ranges_cut(r, r->start, start < r->next ? start - 1 : r->next - 1, &from, &to);
        for (i = from; i < to; i++)
            cursor_ranges_finish(r, &r->v[i]);
        take_out(r, from, to);
    }
    r->start = start;
    if (r->next < start)
        r->next = start;
    cursor_ranges_merge(r, 0, 0);
}
