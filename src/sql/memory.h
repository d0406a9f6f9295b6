/* What C++ code in DuckDB's library takes by operator new (std::string and std::vector inside of
 * functions: lpad, format, replace …) is not from its own allocator, so it escapes the hard end of
 * duckdb_memory.c. A program may replace operator new, as C++ lets every program do; Weir's does
 * (cli/operator_new.c), and asks here. The library libweir leaves its host's operator new alone.
 *
 * Threads: any. */
#ifndef WEIR_SQL_MEMORY_H
#define WEIR_SQL_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* Allocations from this size on are counted. */
#define SQL_MEMORY_LARGE (1u << 20)

/* Counts n bytes among those of queries; false: that would be more than they may have. */
bool sql_memory_take(size_t n);
void sql_memory_give(size_t n);
/* The C++ library's own operator new; NULL while DuckDB's library is not loaded. Asked for more
 * than there can be it throws std::bad_alloc, which C cannot. */
void *(*sql_memory_new(void))(size_t n);

#endif
