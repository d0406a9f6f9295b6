/* See js_ttl.h. A message that is removed before its time stays in the heap until most of it is such:
 * taking it out at once would need its place. */
#include "proto/nats/js_ttl.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/tbl/limits.h"

#define STALE 1024u /* are kept without a look */

void jttls_init(struct jttls *t)
{
    *t = (struct jttls){0};
    u64map_init(&t->lasting, LIMIT_JS_BLOCKS, 0);
}

void jttls_fini(struct jttls *t)
{
    u64map_fini(&t->lasting);
    free(t->due);
}

void jttls_put(struct jttls *t, uint64_t seq, int64_t ms)
{
    size_t i, up;

    if (ms == JTTL_NEVER) {
        u64map_put(&t->lasting, seq, t);
        return;
    }
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 16;
        t->due = xrealloc(t->due, t->cap * sizeof *t->due);
    }
    for (i = t->n++; i; i = up) {
        up = (i - 1) / 2;
        if (t->due[up].ms <= ms)
            break;
        t->due[i] = t->due[up];
    }
    t->due[i] = (struct jttl){ms, seq};
}

/* To place i, or below it. */
static void sift(struct jttls *t, size_t i, struct jttl v)
{
    size_t down;

    for (; (down = i * 2 + 1) < t->n; i = down) {
        if (down + 1 < t->n && t->due[down + 1].ms < t->due[down].ms)
            down++;
        if (v.ms <= t->due[down].ms)
            break;
        t->due[i] = t->due[down];
    }
    t->due[i] = v;
}

uint64_t jttls_take(struct jttls *t, int64_t now_ms)
{
    uint64_t seq;

    if (!t->n || t->due[0].ms > now_ms)
        return 0;
    seq = t->due[0].seq;
    t->n--;
    if (t->n)
        sift(t, 0, t->due[t->n]);
    return seq;
}

int64_t jttls_next(const struct jttls *t)
{
    return t->n ? t->due[0].ms : JTTL_NEVER;
}

bool jttls_lasting(const struct jttls *t, uint64_t seq)
{
    return t->lasting.n && u64map_find(&t->lasting, seq);
}

void jttls_removed(struct jttls *t, uint64_t seq)
{
    u64map_remove(&t->lasting, seq);
}

bool jttls_stale(const struct jttls *t, uint64_t msgs)
{
    return t->n + t->lasting.n > 2 * msgs + STALE;
}

void jttls_sweep(struct jttls *t, bool (*there)(void *arg, uint64_t seq), void *arg)
{
    struct u64map old = t->lasting;
    uint32_t at = 0;
    uint64_t seq;
    size_t i, n = 0;
    void *v;

    u64map_init(&t->lasting, LIMIT_JS_BLOCKS, 0);
    while (u64map_next(&old, &at, &seq, &v))
        if (there(arg, seq))
            u64map_put(&t->lasting, seq, t);
    u64map_fini(&old);
    for (i = 0; i < t->n; i++)
        if (there(arg, t->due[i].seq))
            t->due[n++] = t->due[i];
    t->n = n;
    for (i = n / 2; i--;)
        sift(t, i, t->due[i]);
}
