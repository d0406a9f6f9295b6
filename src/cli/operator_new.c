/* C++'s operator new and delete for the one C++ library that the program loads, DuckDB's: the same
 * as everywhere, malloc and free, but what large blocks take is counted among queries' memory and
 * refused by std::bad_alloc when that is used up (sql/memory.h says why). DuckDB makes that an error
 * of the query. They stand in for the C++ library's by their names, which the linker is told to
 * export. Sanitizers bring their own. */
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>

#include "sql/memory.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#endif

#ifndef SANITIZED

/* operator new(size_t), operator delete(void *) as the Itanium C++ ABI spells them. */
void *_Znwm(size_t n);
void _ZdlPv(void *p);

__attribute__((noinline)) static void *refuse(void)
{
    void *(*real)(size_t) = sql_memory_new();

    if (real)
        return real(SIZE_MAX / 2); /* throws */
    abort();
}

/* What is counted is the size that malloc gave, as that is what delete can see. */
__attribute__((visibility("default"))) void *_Znwm(size_t n)
{
    void *p = malloc(n ? n : 1);
    size_t size = p ? malloc_usable_size(p) : 0;

    if (p && (size < SQL_MEMORY_LARGE || sql_memory_take(size)))
        return p;
    free(p);
    return refuse();
}

__attribute__((visibility("default"))) void _ZdlPv(void *p)
{
    size_t size = p ? malloc_usable_size(p) : 0;

    if (size >= SQL_MEMORY_LARGE)
        sql_memory_give(size);
    free(p);
}

#endif
