/* weir_feed: what shards answer (coordinator.h), as a table of texts c0, c1 …; one thread at a time
 * reads it, in the rows' own time. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sql/coordinator.h"
#include "sql/duckdb_int.h"

static void feed_bind(duckdb_bind_info info)
{
    struct plan *p = engine_plan();
    struct plan **keep;
    duckdb_logical_type text;
    char name[16];
    uint32_t i;

    if (!p || !p->fan) {
        ddb.bind_set_error(info, "no shards are asked");
        return;
    }
    text = engine_type(DUCKDB_TYPE_VARCHAR);
    for (i = 0; i < fan_columns(p->fan); i++) {
        snprintf(name, sizeof name, "c%u", (unsigned)i);
        ddb.bind_add_result_column(info, name, text);
    }
    ddb.destroy_logical_type(&text);
    keep = xmalloc(sizeof *keep);
    *keep = p;
    ddb.bind_set_bind_data(info, keep, free);
}

static void feed_init(duckdb_init_info info)
{
    ddb.init_set_max_threads(info, 1);
}

static void row_put(duckdb_data_chunk out, const struct slice *cells, uint32_t n, uint64_t row)
{
    uint32_t i;

    for (i = 0; i < n; i++) {
        duckdb_vector v = ddb.data_chunk_get_vector(out, i);

        if (slice_is_null(cells[i]))
            vector_null(v, row);
        else
            ddb.vector_assign_string_element_len(v, row, (const char *)cells[i].ptr, cells[i].len);
    }
}

static void feed_function(duckdb_function_info info, duckdb_data_chunk out)
{
    struct plan *p = *(struct plan **)ddb.function_get_bind_data(info);
    uint32_t n = fan_columns(p->fan);
    const struct slice *cells;
    struct fault f = {.code = ERR_OK};
    uint64_t rows = 0;
    enum err e = ERR_OK;

    while (rows < SCAN_ROWS && !(e = fan_next(p->fan, rows == 0, &cells, &f)))
        row_put(out, cells, n, rows++);
    ddb.data_chunk_set_size(out, rows);
    if (!e || e == ERR_AGAIN || e == ERR_EOF)
        return;
    io_mutex_lock(&p->lock);
    if (!p->fault.code)
        fault_set(&p->fault, f.code, f.sqlstate, "%s", f.message);
    io_mutex_unlock(&p->lock);
    ddb.function_set_error(info, f.message);
    fault_clear(&f);
}

void feed_function_register(struct engine *e, duckdb_connection c)
{
    duckdb_table_function f = ddb.create_table_function();

    ddb.table_function_set_name(f, "weir_feed");
    ddb.table_function_set_bind(f, feed_bind);
    ddb.table_function_set_init(f, feed_init);
    ddb.table_function_set_function(f, feed_function);
    ddb.register_table_function(c, f);
    ddb.destroy_table_function(&f);
}
