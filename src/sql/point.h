/* Look-ups: statements that ask for a table's columns within a range of offsets or times and nothing
 * else,
 *
 *   SELECT * FROM orders WHERE partition = 0 AND "offset" BETWEEN 5 AND $1 LIMIT 10
 *
 * understood without DuckDB, for which parsing and planning take longer than finding the records. Only
 * a statement that DuckDB has once accepted and run may be answered without it, other values in the
 * places of its values (its `shape`): so whatever is wrong with a statement, or means something else
 * there (a keyword, a name of DuckDB's own), is DuckDB's to say. See duckdb_query.c.
 *
 * Private to src/sql. Any thread. */
#ifndef WEIR_SQL_POINT_H
#define WEIR_SQL_POINT_H

#include "base/buf.h"
#include "base/topic_name.h"
#include "sql/sql_int.h"

#define POINT_COLUMNS_MAX 64u

struct point {
    char table[TOPIC_NAME_MAX + 1];
    struct buf shape;
    bool all;                               /* the columns are all */
    struct slice column[POINT_COLUMNS_MAX]; /* into the text */
    uint32_t columns_n;
    struct sql_bounds b; /* exactly what is asked for */
    uint64_t limit;      /* UINT64_MAX: none */
};

/* Is the statement a look-up? point_fini in any case; the text stays. */
bool point_parse(struct point *p, struct slice text, const struct sql_param *params,
                 unsigned params_n);
void point_fini(struct point *p);
/* The numbers of its columns in the table; false: one of them is not there. */
bool point_columns(const struct point *p, const struct plan_table *t, uint32_t *out, uint32_t *n);

#endif
