/* Allocation that aborts when memory is out. See mem.h. */
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *p, size_t n)
{
    if (p || n == 0)
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
    return checked(calloc(count ? count : 1, size ? size : 1), count * size);
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

    return checked(posix_memalign(&p, align, n) ? NULL : p, n);
}
