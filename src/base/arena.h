/* An arena: many small allocations that end together, such as those of one request. It grows by
 * chunks up to a maximum that must be named; past it, arena_alloc answers NULL and the request is
 * refused (ERR_TOO_LARGE or ERR_LIMIT to the peer), the arena stays usable. One thread at a time.
 */
#ifndef WEIR_BASE_ARENA_H
#define WEIR_BASE_ARENA_H

#include <stddef.h>

#include "base/slice.h"

struct arena_chunk;
struct arena {
    struct arena_chunk *chunks; /* newest first */
    size_t used;                /* bytes of the newest chunk given out */
    size_t chunk;               /* bytes of a usual chunk */
    size_t total, max;          /* bytes of all chunks, and the most they may be */
};

/* Allocates nothing until the first arena_alloc. chunk and max in bytes, 0 < chunk <= max. */
void arena_init(struct arena *a, size_t chunk, size_t max);
void arena_fini(struct arena *a);
/* Ends all allocations; keeps one chunk for the next use. */
void arena_reset(struct arena *a);
/* n bytes, not zeroed, aligned to 16; NULL if they do not fit the maximum. n may be 0. */
void *arena_alloc(struct arena *a, size_t n);
/* count * size zeroed bytes; NULL if they do not fit, or the product overflows. */
void *arena_zalloc(struct arena *a, size_t count, size_t size);
/* A copy. The result's ptr is NULL if it does not fit (or s.ptr is). */
struct slice arena_dup(struct arena *a, struct slice s);
/* A NUL-terminated copy; NULL if it does not fit. */
char *arena_str(struct arena *a, struct slice s);

#endif
