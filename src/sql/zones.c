/* See zones.h. */
#include "sql/zones.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "io/thread.h"

#define LISTS_MAX 100000u

struct zone {
    int64_t from, to, min_ms;
};
/* Of a partition: ascending, not overlapping, with gaps where nobody looked. */
struct list {
    uint8_t key[20]; /* the topic's uuid, the partition */
    struct zone *zone;
    uint32_t n, cap;
    int64_t records; /* that a zone has at most */
};
struct zones {
    struct io_mutex lock;
    struct map lists;
    uint32_t total;
};

struct zones *zones_new(struct io *io)
{
    struct zones *z = xcalloc(1, sizeof *z);
    uint8_t seed[16];

    io_mutex_init(&z->lock);
    io_random(io, seed, sizeof seed);
    map_init(&z->lists, LISTS_MAX, seed);
    return z;
}

static void forget(struct zones *z)
{
    uint32_t at = 0;
    void *v;

    while (map_next(&z->lists, &at, NULL, &v)) {
        free(((struct list *)v)->zone);
        free(v);
    }
    map_fini(&z->lists);
    z->total = 0;
}

void zones_free(struct zones **z)
{
    if (!*z)
        return;
    forget(*z);
    io_mutex_fini(&(*z)->lock);
    free(*z);
    *z = NULL;
}

static void key_make(uint8_t key[20], const uint8_t uuid[16], int32_t partition)
{
    memcpy(key, uuid, 16);
    memcpy(key + 16, &partition, 4);
}

/* The first zone that ends behind the offset. */
static uint32_t zone_at(const struct list *l, int64_t offset)
{
    uint32_t lo = 0, hi = l->n, mid;

    while (lo < hi) {
        mid = lo + (hi - lo) / 2;
        if (l->zone[mid].to > offset)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

static struct list *list_get(struct zones *z, const uint8_t key[20])
{
    struct list *l = map_find(&z->lists, slice_of(key, 20));
    uint8_t seed[16];

    if (l)
        return l;
    if (z->total >= ZONES_TOTAL_MAX || z->lists.n == LISTS_MAX) {
        memcpy(seed, z->lists.seed, sizeof seed);
        forget(z);
        map_init(&z->lists, LISTS_MAX, seed);
    }
    l = xcalloc(1, sizeof *l);
    memcpy(l->key, key, sizeof l->key);
    l->records = ZONE_RECORDS;
    map_put(&z->lists, slice_of(l->key, sizeof l->key), l);
    return l;
}

/* The first n go. */
static void zones_drop(struct zones *z, struct list *l, uint32_t n)
{
    if (n && n < l->n)
        memmove(l->zone, l->zone + n, (l->n - n) * sizeof *l->zone);
    l->n -= n;
    z->total -= n;
}

static bool zone_joins(const struct list *l, const struct zone *a, int64_t from, int64_t to)
{
    return a->to == from && to - a->from <= l->records;
}

static void zone_join(struct zone *a, int64_t to, int64_t min_ms)
{
    a->to = to;
    if (min_ms < a->min_ms)
        a->min_ms = min_ms;
}

/* Makes room: zones twice as large, or as large as before and the first quarter forgotten where they do
 * not touch. */
static void list_shrink(struct zones *z, struct list *l)
{
    uint32_t i, n = 0;

    l->records *= 2;
    for (i = 1; i < l->n; i++) {
        const struct zone x = l->zone[i];

        if (zone_joins(l, &l->zone[n], x.from, x.to))
            zone_join(&l->zone[n], x.to, x.min_ms);
        else
            l->zone[++n] = x;
    }
    z->total -= l->n - (n + 1);
    l->n = n + 1;
    if (l->n > ZONES_MAX / 4 * 3) {
        l->records /= 2; /* that was of no use */
        zones_drop(z, l, ZONES_MAX / 4);
    }
}

static void zone_put(struct zones *z, struct list *l, int64_t from, int64_t to, int64_t min_ms)
{
    uint32_t i = zone_at(l, from);

    if (i < l->n && l->zone[i].from <= from) /* it begins in what is known */
        from = l->zone[i++].to;
    if (i < l->n && l->zone[i].from < to)
        to = l->zone[i].from;
    if (from >= to)
        return;
    if (i > 0 && zone_joins(l, &l->zone[i - 1], from, to)) {
        zone_join(&l->zone[i - 1], to, min_ms);
        return;
    }
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->zone = xrealloc(l->zone, l->cap * sizeof *l->zone);
    }
    memmove(l->zone + i + 1, l->zone + i, (l->n - i) * sizeof *l->zone);
    l->zone[i] = (struct zone){from, to, min_ms};
    l->n++;
    z->total++;
    if (l->n == ZONES_MAX)
        list_shrink(z, l);
}

void zones_learn(struct zones *z, const uint8_t uuid[16], int32_t partition, int64_t start,
                 int64_t from, int64_t to, int64_t min_ms)
{
    uint8_t key[20];
    struct list *l;

    key_make(key, uuid, partition);
    io_mutex_lock(&z->lock);
    l = list_get(z, key);
    zones_drop(z, l, zone_at(l, start));
    zone_put(z, l, from, to, min_ms);
    io_mutex_unlock(&z->lock);
}

/* Adds to the last range what touches it, and what there is no room for. */
static uint32_t range_add(struct zone_range *out, uint32_t n, int64_t from, int64_t to)
{
    if (from >= to)
        return n;
    if (n && (out[n - 1].to == from || n == ZONE_RANGES_MAX)) {
        out[n - 1].to = to;
        return n;
    }
    out[n] = (struct zone_range){from, to};
    return n + 1;
}

uint32_t zones_cut(struct zones *z, const uint8_t uuid[16], int32_t partition, int64_t from,
                   int64_t to, int64_t last_ms, struct zone_range out[ZONE_RANGES_MAX])
{
    const struct list *l;
    uint8_t key[20];
    uint32_t i, n = 0;

    key_make(key, uuid, partition);
    io_mutex_lock(&z->lock);
    l = map_find(&z->lists, slice_of(key, 20));
    for (i = l ? zone_at(l, from) : 0; l && i < l->n && l->zone[i].from < to; i++) {
        if (l->zone[i].min_ms <= last_ms)
            continue;
        n = range_add(out, n, from, l->zone[i].from);
        from = l->zone[i].to;
    }
    io_mutex_unlock(&z->lock);
    return range_add(out, n, from, to);
}
