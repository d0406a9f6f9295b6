/* Allocation that aborts when memory is out. See mem.h. */
#include "base/mem.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void *checked(void *p, size_t n)
{
    if (p)
        return p;
    fprintf(stderr, "weir: out of memory (%zu bytes)\n", n);
    abort();
}

void *xmalloc(size_t n)
{
    return checked(malloc(n ? n : 1), n);
}

void *xcalloc(size_t count, size_t size)
{
    size_t n;

    if (__builtin_mul_overflow(count, size, &n))
        return checked(NULL, SIZE_MAX);
    return checked(calloc(n ? n : 1, 1), n ? n : 1);
}

void *xrealloc(void *p, size_t n)
{
    return checked(realloc(p, n ? n : 1), n);
}

char *xstrdup(const char *s)
{
    return xmemdup(s, strlen(s) + 1);
}

void *xmemdup(const void *p, size_t n)
{
    void *d = xmalloc(n);

    if (n)
        memcpy(d, p, n);
    return d;
}

void *xaligned(size_t align, size_t n)
{
    void *p = NULL;

    return checked(posix_memalign(&p, align, n ? n : 1) ? NULL : p, n);
}

void *huge_new(size_t n)
{
    size_t all = n + HUGE_BYTES, before;
    uint8_t *p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    before = (HUGE_BYTES - (uintptr_t)p % HUGE_BYTES) % HUGE_BYTES;
    if (before)
        munmap(p, before);
    if (before < HUGE_BYTES)
        munmap(p + before + n, HUGE_BYTES - before);
    madvise(p + before, n, MADV_HUGEPAGE); /* without it, it is slower */
    return p + before;
}

void huge_free(void *p, size_t n)
{
    if (p)
        munmap(p, n);
}
