/* Arenas. See arena.h. Invariants: `total` is the sum of the chunks' sizes (their data, not the
 * chunk headers) and never above `max`; only the newest chunk has free room that is used. */
#include "base/arena.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

#define ALIGN 16u

struct arena_chunk {
    struct arena_chunk *next;
    size_t size;
    _Alignas(ALIGN) uint8_t data[];
};

void arena_init(struct arena *a, size_t chunk, size_t max)
{
    ASSERT(chunk > 0 && chunk <= max && max <= SIZE_MAX / 2);
    *a = (struct arena){.chunk = (chunk + ALIGN - 1) & ~(size_t)(ALIGN - 1), .max = max};
}

static void chunks_free(struct arena *a, struct arena_chunk *keep)
{
    struct arena_chunk *c = a->chunks, *next;

    for (; c; c = next) {
        next = c->next;
        if (c != keep)
            free(c);
    }
    a->chunks = keep;
    a->used = 0;
    a->total = keep ? keep->size : 0;
    if (keep)
        keep->next = NULL;
}

void arena_fini(struct arena *a)
{
    chunks_free(a, NULL);
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *c = a->chunks;

    /* The usual chunk stays; an outsized one would hold memory that most requests do not need. */
    while (c && c->size > a->chunk)
        c = c->next;
    chunks_free(a, c);
}

static bool grow(struct arena *a, size_t n)
{
    size_t left = a->max - a->total, size = n > a->chunk ? n : a->chunk;
    struct arena_chunk *c;

    if (size > left)
        size = left & ~(size_t)(ALIGN - 1);
    if (n > size)
        return false;
    c = xmalloc(sizeof *c + size);
    c->size = size;
    c->next = a->chunks;
    a->chunks = c;
    a->total += size;
    a->used = 0;
    return true;
}

void *arena_alloc(struct arena *a, size_t n)
{
    void *p;

    if (n > a->max)
        return NULL;
    n = n ? (n + ALIGN - 1) & ~(size_t)(ALIGN - 1) : ALIGN;
    if ((!a->chunks || n > a->chunks->size - a->used) && !grow(a, n))
        return NULL;
    p = a->chunks->data + a->used;
    a->used += n;
    return p;
}

void *arena_zalloc(struct arena *a, size_t count, size_t size)
{
    size_t n;
    void *p = __builtin_mul_overflow(count, size, &n) ? NULL : arena_alloc(a, n);

    return p ? memset(p, 0, n) : NULL;
}

struct slice arena_dup(struct arena *a, struct slice s)
{
    uint8_t *p = slice_is_null(s) ? NULL : arena_alloc(a, s.len);

    if (!p)
        return SLICE_NULL;
    memcpy(p, s.ptr, s.len);
    return slice_of(p, s.len);
}

char *arena_str(struct arena *a, struct slice s)
{
    char *p = s.len < a->max ? arena_alloc(a, s.len + 1) : NULL;

    if (!p)
        return NULL;
    if (s.len)
        memcpy(p, s.ptr, s.len);
    p[s.len] = 0;
    return p;
}
