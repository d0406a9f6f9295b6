/* A hard end to the memory of queries. DuckDB's memory_limit counts what its operators keep; the
 * strings and lists that a function makes are not counted: repeat('x', 3e9) takes what it wants, and
 * the kernel then ends the server, not the query. But all of it comes from the allocator in DuckDB's
 * library (jemalloc), which lets its owner say where memory comes from, by hooks of each arena:
 *
 *   address space --commit_hook--> may be used: counted --decommit_hook--> given back to the system
 *
 * When more than memory_cap bytes would be in use, commit_hook refuses; the allocation fails, DuckDB
 * makes that an error of the query (out of memory), and all else goes on. The cap is the sum of all
 * open instances' limits, a quarter more (what is freed is kept for some seconds, and what small
 * objects need is not in their limit), and a constant.
 *
 * A library without this allocator (not built for Linux by its authors) has no such end; the rest
 * works. What C++ takes by operator new is counted, too, in programs that ask: memory.h.
 *
 * Threads: hooks are called by any, under the arena's locks: they must not allocate. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "sql/duckdb_int.h"
#include "sql/memory.h"

#define CAP_BASE   (128ll << 20)
#define ARENAS_ALL 4096u /* MALLCTL_ARENAS_ALL */
#define NAME_CAP   48
#define HUGE_PROBE (256ull << 20) /* as large as what makes the allocator open its last arena */

struct hooks;
typedef bool (*part_fn)(struct hooks *h, void *addr, size_t size, size_t offset, size_t length,
                        unsigned arena);
/* extent_hooks_t of jemalloc 5: its manual, "arena.<i>.extent_hooks". */
struct hooks {
    void *(*alloc)(struct hooks *h, void *at, size_t size, size_t alignment, bool *zero,
                   bool *commit, unsigned arena);
    bool (*dalloc)(struct hooks *h, void *addr, size_t size, bool committed, unsigned arena);
    void (*destroy)(struct hooks *h, void *addr, size_t size, bool committed, unsigned arena);
    part_fn commit, decommit, purge_lazy, purge_forced;
    bool (*split)(struct hooks *h, void *addr, size_t size, size_t a, size_t b, bool committed,
                  unsigned arena);
    bool (*merge)(struct hooks *h, void *a, size_t a_size, void *b, size_t b_size, bool committed,
                  unsigned arena);
};

typedef int (*mallctl_fn)(const char *name, void *old, size_t *old_len, void *now, size_t now_len);

/* Process-wide, as the library is. mallctl is set once, by library_load under its lock. The cap is
 * none while the library is being loaded. */
static _Atomic int64_t memory_used, memory_cap = INT64_MAX;
static mallctl_fn mallctl;
static void *(*_Atomic operator_new)(size_t n);

bool sql_memory_take(size_t n)
{
    int64_t now = atomic_fetch_add(&memory_used, (int64_t)n) + (int64_t)n;

    if (now <= atomic_load(&memory_cap))
        return true;
    atomic_fetch_sub(&memory_used, (int64_t)n);
    return false;
}

void sql_memory_give(size_t n)
{
    atomic_fetch_sub(&memory_used, (int64_t)n);
}

void *(*sql_memory_new(void))(size_t n)
{
    return atomic_load(&operator_new);
}

static void *alloc_hook(struct hooks *h, void *at, size_t size, size_t alignment, bool *zero,
                        bool *commit, unsigned arena)
{
    size_t room = size + alignment, front;
    char *p;

    if (at || room < size || (*commit && !sql_memory_take(size)))
        return NULL;
    p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
             0);
    if (p == MAP_FAILED) {
        if (*commit)
            sql_memory_give(size);
        return NULL;
    }
    front = (alignment - ((uintptr_t)p & (alignment - 1))) & (alignment - 1);
    if (front)
        munmap(p, front);
    munmap(p + front + size, room - front - size);
    *zero = true;
    return p + front;
}

static void destroy_hook(struct hooks *h, void *addr, size_t size, bool committed, unsigned arena)
{
    if (committed)
        sql_memory_give(size);
    munmap(addr, size);
}

static bool commit_hook(struct hooks *h, void *addr, size_t size, size_t offset, size_t length,
                        unsigned arena)
{
    return !sql_memory_take(length);
}

static bool decommit_hook(struct hooks *h, void *addr, size_t size, size_t offset, size_t length,
                          unsigned arena)
{
    if (madvise((char *)addr + offset, length, MADV_DONTNEED))
        return true;
    sql_memory_give(length);
    return false;
}

static bool purge_hook(struct hooks *h, void *addr, size_t size, size_t offset, size_t length,
                       unsigned arena)
{
    return madvise((char *)addr + offset, length, MADV_DONTNEED) != 0;
}

static bool split_hook(struct hooks *h, void *addr, size_t size, size_t a, size_t b, bool committed,
                       unsigned arena)
{
    return false;
}

static bool merge_hook(struct hooks *h, void *a, size_t a_size, void *b, size_t b_size,
                       bool committed, unsigned arena)
{
    return false;
}

/* Without dalloc, address space is kept: it is decommitted instead. */
static struct hooks hooks = {.alloc = alloc_hook,
                             .destroy = destroy_hook,
                             .commit = commit_hook,
                             .decommit = decommit_hook,
                             .purge_forced = purge_hook,
                             .split = split_hook,
                             .merge = merge_hook};

static void hooks_set(unsigned arena)
{
    struct hooks *now = &hooks;
    char name[NAME_CAP];

    snprintf(name, sizeof name, "arena.%u.extent_hooks", arena);
    mallctl(name, NULL, NULL, &now, sizeof now);
}

/* dlsym gives data pointers; POSIX lets them be functions. */
static void symbol(void *lib, const char *name, void *out)
{
    void *p = dlsym(lib, name);

    memcpy(out, &p, sizeof p);
}

void memory_guard(void *lib)
{
    void *(*take)(size_t) = NULL;
    void (*give)(void *) = NULL;
    unsigned n = 0, i;
    size_t len = sizeof n;
    void *probe, *(*new)(size_t) = NULL;

    symbol(lib, "_Znwm", &new); /* the C++ library's, which is among those of lib */
    atomic_store(&operator_new, new);
    symbol(lib, "duckdb_je_mallctl", &mallctl);
    symbol(lib, "duckdb_je_malloc", &take);
    symbol(lib, "duckdb_je_free", &give);
    if (mallctl && take && give) {
        probe = take(HUGE_PROBE); /* not touched */
        give(probe);
        if (mallctl("arenas.narenas", &n, &len, NULL, 0))
            n = 0;
        for (i = 0; i < n; i++)
            hooks_set(i);
    }
    atomic_store(&memory_cap, CAP_BASE);
}

static int64_t share(uint64_t limit)
{
    return (int64_t)(limit + limit / 4);
}

void memory_cap_add(uint64_t limit)
{
    atomic_fetch_add(&memory_cap, share(limit));
}

void memory_cap_drop(uint64_t limit)
{
    atomic_fetch_sub(&memory_cap, share(limit));
}

void memory_give_back(void)
{
    char name[NAME_CAP];

    if (!mallctl)
        return;
    snprintf(name, sizeof name, "arena.%u.purge", ARENAS_ALL);
    mallctl(name, NULL, NULL, NULL, 0);
}
