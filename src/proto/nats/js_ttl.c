/* See js_ttl.h. A message that is removed before its time stays in the heap until then. */
#include "proto/nats/js_ttl.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/tbl/limits.h"

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

uint64_t jttls_take(struct jttls *t, int64_t now_ms)
{
    struct jttl last;
    uint64_t seq;
    size_t i = 0, down;

    if (!t->n || t->due[0].ms > now_ms)
        return 0;
    seq = t->due[0].seq;
    last = t->due[--t->n];
    for (; (down = i * 2 + 1) < t->n; i = down) {
        if (down + 1 < t->n && t->due[down + 1].ms < t->due[down].ms)
            down++;
        if (last.ms <= t->due[down].ms)
            break;
        t->due[i] = t->due[down];
    }
    t->due[i] = last;
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
