/* Allocation that does not fail: small, bounded objects abort the process when memory is out. Sizes
 * that come from a peer or a file are checked against a limit before they reach these. Any thread.
 */
#ifndef WEIR_BASE_MEM_H
#define WEIR_BASE_MEM_H

#include <stddef.h>

void *xmalloc(size_t n);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
void *xmemdup(const void *p, size_t n);
/* Aligned to `align` (a power of two); freed by free(). */
void *xaligned(size_t align, size_t n);
/* Zeroed memory of its own, not of the heap, from huge pages where the system has them: n is a
 * multiple of HUGE_BYTES, and so is the address. NULL: there is none. */
void *huge_new(size_t n);
/* p may be NULL. */
void huge_free(void *p, size_t n);
#define HUGE_BYTES ((size_t)2 << 20)

#endif
