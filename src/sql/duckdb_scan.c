/* Table functions over records.
 *
 *   weir_scan(topic, min_offset := …)  a topic's records as they are: keys and values are BLOBs
 *   weir_table(i)                      number i of the tables that the statement's plan has; what
 *                                      the names of topics are replaced by
 *
 * A statement's tables belong to its plan (plan.c), which the thread that prepares it carries (see
 * engine_plan). Bind says the columns; init cuts the view into tasks; each of DuckDB's threads
 * takes tasks with a scan of its own. Only columns that are asked for are filled. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"
#include "sql/duckdb_int.h"

/* ---- types ---- */

static duckdb_logical_type type_of(const struct sql_column *c)
{
    duckdb_logical_type t, kv[2], list;
    const char *names[] = {"key", "value"};

    if (c->source == SQL_FROM_HEADERS) {
        kv[0] = engine_type(DUCKDB_TYPE_VARCHAR);
        kv[1] = engine_type(c->type == SQL_BLOB ? DUCKDB_TYPE_BLOB : DUCKDB_TYPE_VARCHAR);
        t = ddb.create_struct_type(kv, names, 2);
        list = ddb.create_list_type(t);
        ddb.destroy_logical_type(&kv[0]);
        ddb.destroy_logical_type(&kv[1]);
        ddb.destroy_logical_type(&t);
        return list;
    }
    switch (c->type) {
    case SQL_BOOLEAN:
        return engine_type(DUCKDB_TYPE_BOOLEAN);
    case SQL_INTEGER:
        return engine_type(DUCKDB_TYPE_INTEGER);
    case SQL_BIGINT:
        return engine_type(DUCKDB_TYPE_BIGINT);
    case SQL_UBIGINT:
        return engine_type(DUCKDB_TYPE_UBIGINT);
    case SQL_FLOAT:
        return engine_type(DUCKDB_TYPE_FLOAT);
    case SQL_DOUBLE:
        return engine_type(DUCKDB_TYPE_DOUBLE);
    case SQL_BLOB:
        return engine_type(DUCKDB_TYPE_BLOB);
    case SQL_TIMESTAMP_TZ:
        return engine_type(DUCKDB_TYPE_TIMESTAMP_TZ);
    case SQL_JSON:
        t = engine_type(DUCKDB_TYPE_VARCHAR);
        ddb.logical_type_set_alias(t, "JSON");
        return t;
    default:
        return engine_type(DUCKDB_TYPE_VARCHAR);
    }
}

const char *column_type_name(const struct sql_column *c)
{
    if (c->source == SQL_FROM_HEADERS)
        return c->type == SQL_BLOB ? "STRUCT(\"key\" VARCHAR, \"value\" BLOB)[]"
                                   : "STRUCT(\"key\" VARCHAR, \"value\" VARCHAR)[]";
    switch (c->type) {
    case SQL_BOOLEAN:
        return "BOOLEAN";
    case SQL_INTEGER:
        return "INTEGER";
    case SQL_BIGINT:
        return "BIGINT";
    case SQL_UBIGINT:
        return "UBIGINT";
    case SQL_FLOAT:
        return "FLOAT";
    case SQL_DOUBLE:
        return "DOUBLE";
    case SQL_BLOB:
        return "BLOB";
    case SQL_TIMESTAMP_TZ:
        return "TIMESTAMPTZ";
    case SQL_JSON:
        return "JSON";
    default:
        return "VARCHAR";
    }
}

/* ---- bind ---- */

static void bind_table(duckdb_bind_info info, struct plan_table *t)
{
    duckdb_logical_type type;
    uint32_t i;

    for (i = 0; i < t->columns_n; i++) {
        type = type_of(&t->columns[i]);
        ddb.bind_add_result_column(info, t->columns[i].name, type);
        ddb.destroy_logical_type(&type);
    }
    ddb.bind_set_cardinality(info, t->cut.rows, false);
    ddb.bind_set_bind_data(info, t, NULL); /* the plan's */
}

static void table_bind(duckdb_bind_info info)
{
    struct plan *p = engine_plan();
    duckdb_value v = ddb.bind_get_parameter(info, 0);
    int64_t i = ddb.get_int64(v);

    ddb.destroy_value(&v);
    if (!p || i < 0 || i >= (int64_t)p->tables_n)
        ddb.bind_set_error(info, "weir_table is for Weir itself: name the topic instead");
    else
        bind_table(info, p->tables[i]);
}

/* A named parameter; false: it is not given, or NULL. */
static bool named(duckdb_bind_info info, const char *name, duckdb_value *v)
{
    *v = ddb.bind_get_named_parameter(info, name);
    if (!*v)
        return false;
    if (!ddb.is_null_value(*v))
        return true;
    ddb.destroy_value(v);
    return false;
}

static bool named_i64(duckdb_bind_info info, const char *name, int64_t *out)
{
    duckdb_value v;

    if (!named(info, name, &v))
        return false;
    *out = ddb.get_int64(v);
    ddb.destroy_value(&v);
    return true;
}

static void named_u64(duckdb_bind_info info, const char *name, uint64_t *out)
{
    duckdb_value v;

    if (!named(info, name, &v))
        return;
    *out = ddb.get_uint64(v);
    ddb.destroy_value(&v);
}

static void named_time(duckdb_bind_info info, const char *name, int64_t *out)
{
    duckdb_value v;

    if (!named(info, name, &v))
        return;
    *out = ddb.get_timestamp_tz(v).micros / 1000;
    ddb.destroy_value(&v);
}

static void scan_bind(duckdb_bind_info info)
{
    struct plan *p = engine_plan();
    struct sql_bounds b = scan_unbounded;
    struct plan_table *t;
    duckdb_value v;
    int64_t partition;
    char *name;

    if (!p) {
        ddb.bind_set_error(info, "there is no query");
        return;
    }
    if (named_i64(info, "partition", &partition))
        b.partition = partition < 0 || partition > INT32_MAX ? INT32_MAX : (int32_t)partition;
    named_i64(info, "min_offset", &b.offset_min);
    named_i64(info, "max_offset", &b.offset_max);
    named_u64(info, "min_position", &b.position_min);
    named_u64(info, "max_position", &b.position_max);
    named_time(info, "min_time", &b.ts_min_ms);
    named_time(info, "max_time", &b.ts_max_ms);
    v = ddb.bind_get_parameter(info, 0);
    name = ddb.is_null_value(v) ? NULL : ddb.get_varchar(v);
    ddb.destroy_value(&v);
    if (!name)
        ddb.bind_set_error(info, "weir_scan needs a topic's name");
    else if (plan_scan_open(p, name, &b, &t))
        ddb.bind_set_error(info, p->fault.message ? p->fault.message : "");
    else
        bind_table(info, t);
    if (name)
        ddb.free(name);
}

/* ---- init ---- */

struct scan_global {
    struct scan_tasks tasks;
    struct plan_table *table;
    uint32_t *column; /* of the table, by column of the chunk; UINT32_MAX: none */
    uint32_t columns_n;
};

static void global_free(void *arg)
{
    struct scan_global *g = arg;

    atomic_fetch_add(&g->table->rows, atomic_load(&g->tasks.rows));
    atomic_fetch_add(&g->table->bytes, atomic_load(&g->tasks.bytes));
    scan_tasks_fini(&g->tasks);
    free(g->column);
    free(g);
}

static void scan_init(duckdb_init_info info)
{
    struct scan_global *g = xcalloc(1, sizeof *g);
    idx_t i, at;

    g->table = ddb.init_get_bind_data(info);
    g->columns_n = (uint32_t)ddb.init_get_column_count(info);
    g->column = xcalloc(g->columns_n + 1u, sizeof *g->column);
    for (i = 0; i < g->columns_n; i++) {
        at = ddb.init_get_column_index(info, i);
        g->column[i] = at < g->table->columns_n ? (uint32_t)at : UINT32_MAX;
    }
    scan_tasks_init(&g->tasks, &g->table->cut, 8);
    ddb.init_set_max_threads(info, g->tasks.n && !g->table->in_order ? g->tasks.n : 1);
    ddb.init_set_init_data(info, g, global_free);
}

struct scan_local {
    struct scan *scan;
    struct fill fill;
    uint32_t *at; /* column of the chunk, by column of `fill` */
    struct scan_rows rows;
    struct scan_global *global;
};

static void local_free(void *arg)
{
    struct scan_local *l = arg;

    if (l->scan) {
        scan_free(&l->scan);
        fill_fini(&l->fill);
    }
    free(l->at);
    free(l);
}

static void scan_local_init(duckdb_init_info info)
{
    struct scan_local *l = xcalloc(1, sizeof *l);

    ddb.init_set_init_data(info, l, local_free); /* the rest when it is first called */
}

static void local_begin(struct scan_local *l, struct scan_global *g)
{
    uint32_t i, n = 0;

    l->global = g;
    l->at = xcalloc(g->columns_n + 1u, sizeof *l->at);
    for (i = 0; i < g->columns_n; i++)
        if (g->column[i] != UINT32_MAX)
            l->at[n++] = i;
    fill_init(&l->fill, g->table, n);
    for (i = 0; i < n; i++)
        l->fill.columns[i].column = &g->table->columns[g->column[l->at[i]]];
    fill_ready(&l->fill);
    l->scan = scan_new(&g->tasks);
}

/* ---- rows ---- */

/* The next rows into the chunk. false: the plan's fault or `again` is set. */
static bool local_next(struct scan_local *l, duckdb_data_chunk out, struct errinfo *why)
{
    struct plan *p = l->global->table->plan;
    uint32_t i;
    enum err e = scan_next(l->scan, &l->rows, why);

    if (e) {
        if (e == ERR_OFFSET_RANGE)
            atomic_store(&p->again, true);
        plan_fault(p, e, why);
        return false;
    }
    for (i = 0; i < l->fill.columns_n; i++)
        l->fill.columns[i].vector = ddb.data_chunk_get_vector(out, l->at[i]);
    if (l->rows.n && !fill_rows(&l->fill, l->scan, &l->rows)) {
        atomic_store(&p->again, true);
        errinfo_set(why, ERR_AGAIN, "a field's type has changed");
        return false;
    }
    ddb.data_chunk_set_size(out, l->rows.n);
    return true;
}

static void scan_function(duckdb_function_info info, duckdb_data_chunk out)
{
    struct scan_local *l = ddb.function_get_local_init_data(info);
    struct errinfo why;

    if (!l->scan)
        local_begin(l, ddb.function_get_init_data(info));
    if (!local_next(l, out, &why))
        ddb.function_set_error(info, why.text);
}

/* ---- rows without a statement ---- */

struct direct {
    struct scan_global *global;
    struct scan_local *local;
    duckdb_logical_type *types;
    duckdb_data_chunk chunk;
};

struct direct *direct_new(struct plan_table *t, const uint32_t *column, uint32_t n)
{
    struct direct *d = xcalloc(1, sizeof *d);
    struct scan_global *g = d->global = xcalloc(1, sizeof *g);
    uint32_t i;

    g->table = t;
    g->columns_n = n;
    g->column = xcalloc(n + 1u, sizeof *g->column);
    d->types = xcalloc(n + 1u, sizeof *d->types);
    for (i = 0; i < n; i++) {
        g->column[i] = column[i];
        d->types[i] = type_of(&t->columns[column[i]]);
    }
    scan_tasks_init(&g->tasks, &t->cut, 1);
    d->local = xcalloc(1, sizeof *d->local);
    local_begin(d->local, g);
    d->chunk = ddb.create_data_chunk(d->types, n);
    return d;
}

duckdb_data_chunk direct_next(struct direct *d, bool *failed)
{
    struct errinfo why;

    ddb.data_chunk_reset(d->chunk);
    *failed = !local_next(d->local, d->chunk, &why);
    return *failed || ddb.data_chunk_get_size(d->chunk) == 0 ? NULL : d->chunk;
}

const char *direct_name(void *of, idx_t i)
{
    const struct scan_global *g = ((const struct direct *)of)->global;

    return g->table->columns[g->column[i]].name;
}

duckdb_logical_type direct_type(void *of, idx_t i)
{
    const struct scan_global *g = ((const struct direct *)of)->global;

    return type_of(&g->table->columns[g->column[i]]);
}

void direct_free(struct direct **dp)
{
    struct direct *d = *dp;
    uint32_t i;

    if (!d)
        return;
    ddb.destroy_data_chunk(&d->chunk);
    for (i = 0; i < d->global->columns_n; i++)
        ddb.destroy_logical_type(&d->types[i]);
    local_free(d->local);
    global_free(d->global);
    free(d->types);
    free(d);
    *dp = NULL;
}

static duckdb_table_function function_new(const char *name, duckdb_table_function_bind_t bind)
{
    duckdb_table_function f = ddb.create_table_function();

    ddb.table_function_set_name(f, name);
    ddb.table_function_set_bind(f, bind);
    ddb.table_function_set_init(f, scan_init);
    ddb.table_function_set_local_init(f, scan_local_init);
    ddb.table_function_set_function(f, scan_function);
    ddb.table_function_supports_projection_pushdown(f, true);
    return f;
}

void scan_functions_register(struct engine *e, duckdb_connection c)
{
    static const struct {
        const char *name;
        duckdb_type type;
    } param[] = {
        {"min_offset", DUCKDB_TYPE_BIGINT},     {"max_offset", DUCKDB_TYPE_BIGINT},
        {"min_position", DUCKDB_TYPE_UBIGINT},  {"max_position", DUCKDB_TYPE_UBIGINT},
        {"min_time", DUCKDB_TYPE_TIMESTAMP_TZ}, {"max_time", DUCKDB_TYPE_TIMESTAMP_TZ},
        {"partition", DUCKDB_TYPE_INTEGER},
    };
    duckdb_table_function f = function_new("weir_table", table_bind);
    duckdb_logical_type t = engine_type(DUCKDB_TYPE_BIGINT);
    size_t i;

    ddb.table_function_add_parameter(f, t);
    ddb.destroy_logical_type(&t);
    ddb.register_table_function(c, f);
    ddb.destroy_table_function(&f);
    f = function_new("weir_scan", scan_bind);
    t = engine_type(DUCKDB_TYPE_VARCHAR);
    ddb.table_function_add_parameter(f, t);
    ddb.destroy_logical_type(&t);
    for (i = 0; i < sizeof param / sizeof *param; i++) {
        t = engine_type(param[i].type);
        ddb.table_function_add_named_parameter(f, param[i].name, t);
        ddb.destroy_logical_type(&t);
    }
    ddb.register_table_function(c, f);
    ddb.destroy_table_function(&f);
}

/* ---- a table of files and local records ---- */

/* list_transform("headers", lambda h: …): values as text. A column that is called as the lambda's
 * parameter would be taken for it, so it is h0, h1 … where fields of that name are columns. */
static enum err cold_headers(struct buf *b, const struct plan_table *t, const struct sql_column *c)
{
    char h[16] = "h";
    uint32_t i, n = 0;
    enum err e;

    for (i = 0; i < t->columns_n; i++)
        if (!strcasecmp(t->columns[i].name, h)) {
            snprintf(h, sizeof h, "h%u", (unsigned)n++);
            i = UINT32_MAX; /* from the start */
        }
    e = buf_append_str(b, "list_transform(");
    if (!e)
        e = text_quote(b, c->name, '"');
    return e ? e
             : buf_printf(b,
                          ", lambda %s: struct_pack(\"key\" := %s.\"key\", \"value\" := "
                          "weir_text(%s.\"value\")))",
                          h, h, h);
}

/* What a column of the files is in the table: text of bytes. */
static enum err cold_column(struct buf *b, const struct plan_table *t, const struct sql_column *c)
{
    bool text = (c->source == SQL_FROM_KEY || c->source == SQL_FROM_VALUE);
    enum err e = ERR_OK;

    if (c->source == SQL_FROM_HEADERS) {
        e = cold_headers(b, t, c);
    } else {
        if (text)
            e = buf_append_str(b, "weir_text(");
        if (!e)
            e = text_quote(b, c->name, '"');
        if (!e && text)
            e = buf_append_str(b, ")");
    }
    if (!e && c->source == SQL_FROM_POSITION)
        e = buf_append_str(b, "::UBIGINT");
    if (!e)
        e = buf_append_str(b, " AS ");
    return e ? e : text_quote(b, c->name, '"');
}

/* MAP {id: {name: 'a', type: 'BIGINT', default_value: NULL}, …}: columns found by field id. The
 * files have exact bytes, whatever the table shows. */
enum err text_schema(struct buf *b, const struct sql_column *columns, uint32_t n)
{
    enum err e = buf_append_str(b, "schema = MAP {");
    bool first = true;
    uint32_t i;

    for (i = 0; !e && i < n; i++) {
        struct sql_column c = columns[i];

        if (!c.field_id)
            continue;
        if (c.source == SQL_FROM_KEY || c.source == SQL_FROM_VALUE || c.source == SQL_FROM_HEADERS)
            c.type = SQL_BLOB;
        if (c.source == SQL_FROM_POSITION)
            c.type = SQL_BIGINT;
        if (c.type == SQL_JSON)
            c.type = SQL_VARCHAR;
        e = buf_printf(b, "%s%d: {name: ", first ? "" : ", ", (int)c.field_id);
        if (!e)
            e = text_quote(b, c.name, '\'');
        if (!e)
            e = buf_printf(b, ", type: '%s', default_value: NULL}", column_type_name(&c));
        first = false;
    }
    return e ? e : buf_append_str(b, "}");
}

/* Rows that are not below the log's start. */
static enum err starts_where(struct buf *b, const struct sql_cold_snapshot *cold)
{
    enum err e = buf_append_str(b, " WHERE \"offset\" >= coalesce(list_extract([");
    uint32_t i;

    for (i = 0; !e && i < cold->start_n; i++)
        e = buf_printf(b, "%s%" PRId64, i ? ", " : "", cold->start[i]);
    /* a partition that the topic cannot have is of somebody else's row, and begins at 0; nor must adding
     * one to it go beyond INTEGER */
    return e ? e
             : buf_append_str(b, "]::BIGINT[], CASE WHEN \"partition\" >= 0 THEN "
                                 "\"partition\"::BIGINT + 1 END), 0)");
}

/* Those of the table's files that are `below`, or those that are not. */
static enum err files_source(const struct plan_table *t, bool below, struct buf *b)
{
    enum err e = buf_append_str(b, "SELECT ");
    bool first = true;
    uint32_t i;

    for (i = 0; !e && i < t->columns_n; i++) {
        const struct sql_column *c = &t->columns[i];

        if (i)
            e = buf_append_str(b, ", ");
        if (e)
            break;
        if (c->source == SQL_FROM_TOPIC) {
            e = text_quote(b, topic_name(t->view.topic), '\'');
            if (!e)
                e = buf_append_str(b, " AS topic");
        } else if (!c->field_id) {
            e = buf_printf(b, "NULL::%s AS ", column_type_name(c));
            if (!e)
                e = text_quote(b, c->name, '"');
        } else {
            e = cold_column(b, t, c);
        }
    }
    if (!e)
        e = buf_append_str(b, " FROM read_parquet([");
    for (i = 0; !e && i < t->cold.files_n; i++) {
        if (t->cold.files[i].below != below)
            continue;
        if (!first)
            e = buf_append_str(b, ", ");
        if (!e)
            e = text_quote(b, t->cold.files[i].path, '\'');
        first = false;
    }
    if (!e)
        e = buf_append_str(b, "], hive_partitioning = false");
    if (!e && !t->cold.uniform) /* it costs as much as the rest of planning */
        e = buf_append_str(b, ", ");
    if (!e && !t->cold.uniform)
        e = text_schema(b, t->columns, t->columns_n);
    if (!e)
        e = buf_append_str(b, ")");
    return !e && below ? starts_where(b, &t->cold) : e;
}

uint32_t table_files_below(const struct plan_table *t)
{
    uint32_t i, n = 0;

    for (i = 0; i < t->cold.files_n; i++)
        n += t->cold.files[i].below;
    return n;
}

enum err table_source(const struct plan_table *t, uint32_t index, struct buf *b)
{
    uint32_t below = table_files_below(t);
    enum err e = ERR_OK;

    if (below < t->cold.files_n)
        e = files_source(t, false, b);
    if (!e && below && below < t->cold.files_n)
        e = buf_append_str(b, " UNION ALL ");
    if (!e && below)
        e = files_source(t, true, b);
    if (!e && t->cut.rows) /* statistics do not get through a union of nothing */
        e = buf_printf(b, " UNION ALL SELECT * FROM weir_table(%u)", (unsigned)index);
    return e;
}
