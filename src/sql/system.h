/* System tables without DuckDB: their columns, and collecting their rows. Private to src/sql. */
#ifndef WEIR_SQL_SYSTEM_H
#define WEIR_SQL_SYSTEM_H

#include "base/arena.h"
#include "sql/sql_int.h"

struct cell {
    bool null;
    int64_t i64;
    struct slice text;
};
/* Values row by row. */
struct cells {
    struct cell *v;
    uint64_t n, cap;
    struct arena arena;
    bool full;
};
void cells_init(struct cells *c, size_t bytes_max);
void cells_fini(struct cells *c);

struct system_column {
    const char *name;
    enum sql_type type; /* VARCHAR, BIGINT, INTEGER, UBIGINT, BOOLEAN, TIMESTAMP_TZ */
};
struct system_table {
    const char *name, *function;
    const struct system_column *column;
    uint32_t columns_n;
    void (*collect)(struct plan *p, struct cells *out);
};
extern const struct system_table system_tables[];
extern const uint32_t system_tables_n;

#endif
