/* System tables: what is so now, collected when a statement that reads one begins. Topics that the
 * asker may not read are left out, and groups' offsets in them.
 *
 *   weir.topics, weir.partitions, weir.snapshots    views of the functions weir_topics() …
 *   stream_offsets, stream_groups                   the same, with the published schemas
 *   stream_messages                                 a name that plan.c replaces by all topics */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sql/duckdb_int.h"
#include "sql/system.h"

#define CELLS_BYTES (1ull << 30)

static duckdb_type type_of(enum sql_type t)
{
    switch (t) {
    case SQL_BOOLEAN:
        return DUCKDB_TYPE_BOOLEAN;
    case SQL_INTEGER:
        return DUCKDB_TYPE_INTEGER;
    case SQL_BIGINT:
        return DUCKDB_TYPE_BIGINT;
    case SQL_UBIGINT:
        return DUCKDB_TYPE_UBIGINT;
    case SQL_TIMESTAMP_TZ:
        return DUCKDB_TYPE_TIMESTAMP_TZ;
    default:
        return DUCKDB_TYPE_VARCHAR;
    }
}

struct system_bound {
    const struct system_table *table;
    struct plan *plan;
};

static void system_bind(duckdb_bind_info info)
{
    const struct system_table *t = ddb.bind_get_extra_info(info);
    struct system_bound *b;
    uint32_t i;

    if (!engine_plan()) {
        ddb.bind_set_error(info, "there is no query");
        return;
    }
    for (i = 0; i < t->columns_n; i++) {
        duckdb_logical_type type = engine_type(type_of(t->column[i].type));

        ddb.bind_add_result_column(info, t->column[i].name, type);
        ddb.destroy_logical_type(&type);
    }
    b = xmalloc(sizeof *b);
    *b = (struct system_bound){t, engine_plan()};
    ddb.bind_set_bind_data(info, b, free);
}

struct system_rows {
    struct cells cells;
    uint64_t row; /* given so far */
};

static void rows_free(void *arg)
{
    struct system_rows *r = arg;

    cells_fini(&r->cells);
    free(r);
}

static void system_init(duckdb_init_info info)
{
    const struct system_bound *b = ddb.init_get_bind_data(info);
    struct system_rows *r = xcalloc(1, sizeof *r);

    cells_init(&r->cells, CELLS_BYTES);
    ddb.init_set_max_threads(info, 1);
    ddb.init_set_init_data(info, r, rows_free);
    b->table->collect(b->plan, &r->cells);
    if (r->cells.full)
        ddb.init_set_error(info, "the table is too large");
}

static void cell_put(duckdb_vector v, enum sql_type type, uint64_t row, const struct cell *c)
{
    void *d = ddb.vector_get_data(v);

    if (c->null) {
        vector_null(v, row);
        return;
    }
    switch (type) {
    case SQL_BOOLEAN:
        ((uint8_t *)d)[row] = c->i64 != 0;
        break;
    case SQL_INTEGER:
        ((int32_t *)d)[row] = (int32_t)c->i64;
        break;
    case SQL_BIGINT:
    case SQL_UBIGINT:
    case SQL_TIMESTAMP_TZ:
        ((int64_t *)d)[row] = c->i64;
        break;
    default:
        ddb.vector_assign_string_element_len(v, row, (const char *)c->text.ptr, c->text.len);
    }
}

static void system_function(duckdb_function_info info, duckdb_data_chunk out)
{
    const struct system_bound *b = ddb.function_get_bind_data(info);
    const struct system_table *t = b->table;
    struct system_rows *r = ddb.function_get_init_data(info);
    uint64_t left = r->cells.n / t->columns_n - r->row, n = left < SCAN_ROWS ? left : SCAN_ROWS, i;
    uint32_t c;

    for (c = 0; c < t->columns_n; c++) {
        duckdb_vector v = ddb.data_chunk_get_vector(out, c);

        for (i = 0; i < n; i++)
            cell_put(v, t->column[c].type, i, &r->cells.v[(r->row + i) * t->columns_n + c]);
    }
    r->row += n;
    ddb.data_chunk_set_size(out, n);
}

void system_functions_register(struct engine *e, duckdb_connection c)
{
    uint32_t i;

    for (i = 0; i < system_tables_n; i++) {
        const struct system_table *t = &system_tables[i];
        duckdb_table_function f = ddb.create_table_function();

        ddb.table_function_set_name(f, t->function);
        ddb.table_function_set_extra_info(f, (void *)(uintptr_t)t, NULL);
        ddb.table_function_set_bind(f, system_bind);
        ddb.table_function_set_init(f, system_init);
        ddb.table_function_set_function(f, system_function);
        ddb.register_table_function(c, f);
        ddb.destroy_table_function(&f);
    }
}

/* The views bind their functions, which need a plan: they are made with one. */
enum err system_views_make(duckdb_connection c, struct errinfo *info)
{
    char sql[256];
    uint32_t i;
    enum err e = engine_exec(c, "CREATE SCHEMA weir", info);

    for (i = 0; !e && i < system_tables_n; i++) {
        snprintf(sql, sizeof sql, "CREATE VIEW %s AS SELECT * FROM %s()", system_tables[i].name,
                 system_tables[i].function);
        e = engine_exec(c, sql, info);
    }
    return e;
}
