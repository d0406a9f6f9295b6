/* Parquet files: see parquet.h. Each call is one statement in an instance of its own, which may
 * write where queries may not. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sql/duckdb_int.h"
#include "sql/parquet.h"

#define TEXT_MAX    (16u << 20)
#define STATS_MAX   (16u << 20)
#define MEMORY      (512ull << 20)
#define GROUP_BYTES (32u << 20) /* of a row group's records, as the log has them */
#define GROUP_ROWS  61440u
#define GROUP_LEAST 2048u
#define LEVEL_FIRST 1u /* of what comes from the log: it is written anew when files are merged */
#define HEADERS_MAX LIMIT_RECORD_HEADERS

struct parquet {
    struct parquet_conf conf; /* strings are copies */
    char **dirs;
    char *temp_dir;
    struct io_mutex lock;
    struct engine *engine; /* lock; NULL until first used */
};

enum err parquet_open(const struct parquet_conf *conf, struct parquet **out, struct errinfo *info)
{
    struct parquet *p = xcalloc(1, sizeof *p);
    unsigned i;

    p->conf = *conf;
    p->dirs = xcalloc(conf->dirs_n + 1u, sizeof *p->dirs);
    for (i = 0; i < conf->dirs_n; i++)
        p->dirs[i] = xstrdup(conf->dirs[i]);
    p->temp_dir = conf->temp_dir ? xstrdup(conf->temp_dir) : NULL;
    io_mutex_init(&p->lock);
    *out = p;
    return ERR_OK;
}

void parquet_close(struct parquet **pp)
{
    struct parquet *p = *pp;
    unsigned i;

    if (!p)
        return;
    engine_close(&p->engine);
    for (i = 0; i < p->conf.dirs_n; i++)
        free(p->dirs[i]);
    free(p->dirs);
    free(p->temp_dir);
    io_mutex_fini(&p->lock);
    free(p);
    *pp = NULL;
}

static enum err parquet_engine(struct parquet *p, struct engine **out, struct errinfo *info)
{
    struct engine_conf conf = {.memory_bytes = p->conf.memory_bytes ? p->conf.memory_bytes : MEMORY,
                               .threads = p->conf.threads ? p->conf.threads : 1,
                               .temp_dir = p->temp_dir,
                               .dirs = (const char *const *)p->dirs,
                               .dirs_n = p->conf.dirs_n,
                               .writes = true};
    enum err e = ERR_OK;

    io_mutex_lock(&p->lock);
    if (!p->engine)
        e = engine_open(p->conf.sql, &conf, &p->engine, info);
    *out = p->engine;
    io_mutex_unlock(&p->lock);
    return e;
}

/* ---- running a statement ---- */

static const char *result_name(void *of, idx_t i)
{
    return ddb.column_name(of, i);
}

static duckdb_logical_type result_type(void *of, idx_t i)
{
    return ddb.column_logical_type(of, i);
}

typedef bool (*chunk_fn)(void *arg, const struct sql_columns *columns,
                         const struct sql_chunk *chunk);

static enum err chunks_give(duckdb_connection c, duckdb_result *res, chunk_fn fn, void *arg,
                            struct errinfo *info)
{
    struct result r;
    struct sql_chunk chunk;
    duckdb_data_chunk d;
    bool more = true;
    enum err e = result_init(&r, c, ddb.column_count(res), result_name, result_type, res, info);

    if (e)
        return e;
    while (more && (d = ddb.fetch_chunk(*res))) {
        if (ddb.data_chunk_get_size(d)) {
            result_chunk(&r, d, &chunk);
            more = fn(arg, &r.columns, &chunk);
        }
        ddb.destroy_data_chunk(&d);
    }
    if (more && ddb.result_error(res) && *ddb.result_error(res))
        e = errinfo_set(info, ERR_IO, "%s", ddb.result_error(res));
    result_fini(&r);
    return e;
}

static enum err error_of(duckdb_error_type t)
{
    switch (t) {
    case DUCKDB_ERROR_OUT_OF_MEMORY:
        return ERR_NO_MEMORY;
    case DUCKDB_ERROR_IO:
        return ERR_IO;
    case DUCKDB_ERROR_PERMISSION:
        return ERR_FORBIDDEN;
    case DUCKDB_ERROR_INTERNAL:
    case DUCKDB_ERROR_FATAL:
        return ERR_INTERNAL;
    default:
        return ERR_SQL;
    }
}

/* errors_as_json: what people want of it. */
static void message_of(const char *json, char *out, size_t cap)
{
    struct field_members m;
    struct field_value v;
    struct slice key;
    bool escaped;

    snprintf(out, cap, "%s", json ? json : "");
    json = json ? strchr(json, '{') : NULL;
    if (!json || !field_members_init(&m, slice_str(json)))
        return;
    while (field_members_next(&m, &key, &escaped, &v)) {
        uint8_t *text;
        size_t n;

        if (v.kind != FIELD_STRING || !slice_eq_str(key, "exception_message"))
            continue;
        text = xmalloc(v.text.len + 1);
        n = field_unescape(v.text, text);
        if (n != SIZE_MAX)
            snprintf(out, cap, "%.*s", (int)(n > 1000 ? 1000 : n), (char *)text);
        free(text);
    }
}

/* A statement that runs, as a stream. */
struct statement {
    struct engine *engine;
    duckdb_connection c;
    duckdb_prepared_statement st;
    duckdb_pending_result pending;
    duckdb_result res;
};

static enum err statement_start(struct statement *s, const char *text, struct errinfo *info)
{
    char why[sizeof info->text];
    enum err err = ERR_SQL;

    if (ddb.prepare(s->c, text, &s->st) == DuckDBError) {
        message_of(ddb.prepare_error(s->st), why, sizeof why);
    } else if (ddb.pending_prepared_streaming(s->st, &s->pending) == DuckDBError) {
        message_of(ddb.pending_error(s->pending), why, sizeof why);
    } else if (ddb.execute_pending(s->pending, &s->res) == DuckDBError) {
        message_of(ddb.result_error(&s->res), why, sizeof why);
        err = error_of(ddb.result_error_type(&s->res));
    } else {
        return ERR_OK;
    }
    return errinfo_set(info, err, "%s", why);
}

static void statement_end(struct statement *s)
{
    ddb.destroy_result(&s->res);
    if (s->pending)
        ddb.destroy_pending(&s->pending);
    if (s->st)
        ddb.destroy_prepare(&s->st);
    engine_quiet(s->c);
    engine_disconnect(s->engine, &s->c);
}

/* Runs text as a stream; plan (may be NULL): where its tables are. */
static enum err statement_run(struct engine *e, struct plan *plan, const char *text, chunk_fn fn,
                              void *arg, struct errinfo *info)
{
    struct statement s = {.engine = e};
    enum err err = engine_connect(e, &s.c, info);

    if (err)
        return err;
    engine_plan_set(plan);
    err = statement_start(&s, text, info);
    if (!err)
        err = chunks_give(s.c, &s.res, fn, arg, info);
    engine_plan_set(NULL);
    statement_end(&s);
    if (err && plan && plan->fault.code) {
        err = plan->fault.code;
        errinfo_set(info, err, "%s", plan->fault.message);
    }
    return err;
}

/* ---- text ---- */

static enum err field_ids(struct buf *b, const struct sql_column *columns, uint32_t n)
{
    enum err e = buf_append_str(b, ", FIELD_IDS {");
    bool first = true;
    uint32_t i;

    for (i = 0; !e && i < n; i++) {
        const struct sql_column *c = &columns[i];

        if (!c->field_id)
            continue;
        if (!first)
            e = buf_append_str(b, ", ");
        first = false;
        if (!e)
            e = text_quote(b, c->name, '"');
        if (!e && c->source == SQL_FROM_HEADERS)
            e = buf_printf(b,
                           ": {__duckdb_field_id: %d, element: {__duckdb_field_id: %d, \"key\": "
                           "%d, \"value\": %d}}",
                           (int)c->field_id, (int)c->child_id[0], (int)c->child_id[1],
                           (int)c->child_id[2]);
        else if (!e)
            e = buf_printf(b, ": %d", (int)c->field_id);
    }
    return e ? e : buf_append_str(b, "}");
}

static enum err select_list(struct buf *b, const struct sql_column *columns, uint32_t n)
{
    enum err e = ERR_OK;
    uint32_t i;

    for (i = 0; !e && i < n; i++) {
        bool json = columns[i].type == SQL_JSON && columns[i].source == SQL_FROM_FIELD;

        if (i)
            e = buf_append_str(b, ", ");
        if (!e)
            e = text_quote(b, columns[i].name, '"');
        if (!e && json)
            e = buf_append_str(b, "::VARCHAR AS ");
        if (!e && json)
            e = text_quote(b, columns[i].name, '"');
    }
    return e;
}

static enum err order_by(struct buf *b, const struct sql_column *columns, uint32_t columns_n,
                         const struct parquet_order *order, uint32_t n)
{
    enum err e = ERR_OK;
    uint32_t i;

    for (i = 0; !e && i < n; i++) {
        ASSERT(order[i].column < columns_n);
        e = buf_append_str(b, i ? ", " : " ORDER BY ");
        if (!e)
            e = text_quote(b, columns[order[i].column].name, '"');
        if (!e)
            e = buf_append_str(b, order[i].descending ? " DESC" : " ASC");
        if (!e)
            e = buf_append_str(b, order[i].nulls_last ? " NULLS LAST" : " NULLS FIRST");
    }
    return e;
}

/* level: of zstd; 0: DuckDB's own. */
static enum err copy_options(struct buf *b, const char *path, const char *codec, unsigned level,
                             uint32_t rows, const struct sql_column *columns, uint32_t n,
                             const char *schema)
{
    enum err e = buf_append_str(b, ") TO ");

    if (!e)
        e = text_quote(b, path, '\'');
    if (!e)
        e = buf_printf(b, " (FORMAT PARQUET, COMPRESSION %s, ROW_GROUP_SIZE %u, RETURN_STATS",
                       codec ? codec : "zstd", rows ? rows : GROUP_ROWS);
    if (!e && level && !codec)
        e = buf_printf(b, ", COMPRESSION_LEVEL %u", level);
    if (!e)
        e = field_ids(b, columns, n);
    if (!e && schema)
        e = buf_append_str(b, ", KV_METADATA {\"iceberg.schema\": ");
    if (!e && schema)
        e = text_quote(b, schema, '\'');
    if (!e)
        e = buf_append_str(b, schema ? "})" : ")");
    return e ? e : buf_append_u8(b, 0);
}

static enum err files_list(struct buf *b, const char *const *files, uint32_t n,
                           const struct sql_column *columns, uint32_t columns_n)
{
    enum err e = buf_append_str(b, " FROM read_parquet([");
    uint32_t i;

    for (i = 0; !e && i < n; i++) {
        if (i)
            e = buf_append_str(b, ", ");
        if (!e)
            e = text_quote(b, files[i], '\'');
    }
    if (!e)
        e = buf_append_str(b, "], ");
    if (!e)
        e = text_schema(b, columns, columns_n);
    return e ? e : buf_append_str(b, ")");
}

/* ---- statistics ---- */

struct stats {
    struct arena arena;
    struct parquet_column_stats *columns;
};

void parquet_stats_fini(struct parquet_stats *s)
{
    struct stats *x = s->private;

    if (x) {
        arena_fini(&x->arena);
        free(x->columns);
        free(x);
    }
    memset(s, 0, sizeof *s);
}

static struct slice text_at(const struct sql_vector *v, uint64_t i)
{
    return sql_valid(v, i) ? sql_string_get(&((const struct sql_string *)v->data)[i]) : SLICE_NULL;
}

static uint64_t number(struct slice s)
{
    uint64_t v = 0;
    size_t i;

    for (i = 0; i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9'; i++)
        v = v * 10 + (uint64_t)(s.ptr[i] - '0');
    return v;
}

/* Entries n from `at` on of MAP(VARCHAR, VARCHAR): one column's. */
static void column_stats(struct stats *x, const struct sql_vector *kv, struct sql_list_entry at,
                         struct parquet_column_stats *c)
{
    uint64_t i;

    c->nulls = UINT64_MAX;
    for (i = at.offset; i < at.offset + at.length; i++) {
        struct slice k = text_at(&kv->child[0], i), v = text_at(&kv->child[1], i);

        if (slice_eq_str(k, "num_values"))
            c->values = number(v);
        else if (slice_eq_str(k, "null_count"))
            c->nulls = number(v);
        else if (slice_eq_str(k, "column_size_bytes"))
            c->bytes = number(v);
        else if (slice_eq_str(k, "min"))
            c->min = arena_dup(&x->arena, v);
        else if (slice_eq_str(k, "max"))
            c->max = arena_dup(&x->arena, v);
        else if (slice_eq_str(k, "has_nan"))
            c->has_nan = slice_eq_str(v, "true");
    }
    c->has_bounds = !slice_is_null(c->min) && !slice_is_null(c->max);
}

/* The id of the leaf called so: "a", or headers' "h.element.key". */
static int32_t leaf_id(const struct sql_column *columns, uint32_t n, const char *name)
{
    char leaf[SQL_COLUMN_NAME_MAX + 64];
    uint32_t i;

    for (i = 0; i < n; i++) {
        if (!strcmp(columns[i].name, name))
            return columns[i].field_id;
        if (columns[i].source != SQL_FROM_HEADERS)
            continue;
        snprintf(leaf, sizeof leaf, "%s.element.key", columns[i].name);
        if (!strcmp(leaf, name))
            return columns[i].child_id[1];
        snprintf(leaf, sizeof leaf, "%s.element.value", columns[i].name);
        if (!strcmp(leaf, name))
            return columns[i].child_id[2];
    }
    return 0;
}

/* Names come quoted where SQL would have it. */
static const char *unquoted(struct arena *a, struct slice s)
{
    char *out = arena_alloc(a, s.len + 1);
    size_t i, n = 0;
    bool in = false;

    for (i = 0; out && i < s.len; i++) {
        if (s.ptr[i] == '"') {
            if (in && i + 1 < s.len && s.ptr[i + 1] == '"')
                out[n++] = (char)s.ptr[++i - 0];
            else
                in = !in;
            continue;
        }
        out[n++] = (char)s.ptr[i];
    }
    if (out)
        out[n] = 0;
    return out ? out : "";
}

struct stats_read {
    struct parquet_stats *out;
    const struct sql_column *columns;
    uint32_t n;
};

static bool stats_row(void *arg, const struct sql_columns *columns, const struct sql_chunk *c)
{
    struct stats_read *r = arg;
    struct stats *x = xcalloc(1, sizeof *x);
    const struct sql_vector *map = &c->column[4], *entry = &map->child[0];
    struct sql_list_entry at = ((const struct sql_list_entry *)map->data)[0];
    uint64_t i;

    arena_init(&x->arena, 4096, STATS_MAX);
    r->out->private = x;
    r->out->rows = ((const uint64_t *)c->column[1].data)[0];
    r->out->bytes = ((const uint64_t *)c->column[2].data)[0];
    r->out->footer_bytes =
        sql_valid(&c->column[3], 0) ? ((const uint64_t *)c->column[3].data)[0] : 0;
    if (!sql_valid(map, 0))
        return false;
    x->columns = xcalloc(at.length + 1, sizeof *x->columns);
    for (i = 0; i < at.length; i++) {
        struct parquet_column_stats *s = &x->columns[i];
        uint64_t row = at.offset + i;

        column_stats(x, &entry->child[1].child[0],
                     ((const struct sql_list_entry *)entry->child[1].data)[row], s);
        s->name = unquoted(&x->arena, text_at(&entry->child[0], row));
        s->field_id = leaf_id(r->columns, r->n, s->name);
    }
    r->out->columns = x->columns;
    r->out->columns_n = (uint32_t)at.length;
    return false;
}

/* ---- writing ---- */

static enum err copy_run(struct parquet *p, struct engine *e, struct plan *plan, const char *text,
                         const char *path, struct stats_read *r, struct errinfo *info)
{
    struct io *io = p->conf.sql->io;
    uint64_t size;
    bool there = false;
    enum err err = io_stat(io, path, &size, &there, info);

    if (!err && there)
        return errinfo_set(info, ERR_EXISTS, "%s is there already", path);
    if (!err)
        err = statement_run(e, plan, text, stats_row, r, info);
    if (!err && !r->out->private)
        err = errinfo_set(info, ERR_INTERNAL, "no statistics came back for %s", path);
    if (err) {
        parquet_stats_fini(r->out);
        if (!there)
            io_unlink(io, path, NULL);
    }
    return err;
}

/* Rows of a row group when nothing is asked for: DuckDB holds some groups in memory while it writes
 * them in order, and a reader takes a group at a time, so large records come in smaller ones. The
 * log knows how large they are on average. */
static uint32_t group_rows(const struct scan_view *v)
{
    uint64_t bytes = 1, records = 1, rows;
    struct plog_info now;
    uint32_t i;

    for (i = 0; i < v->parts_n; i++) {
        plog_info_get(partition_log(v->part[i].p), &now);
        bytes += now.bytes;
        records += (uint64_t)(now.end_offset - now.start_offset);
    }
    rows = GROUP_BYTES / (bytes / records + 1);
    return rows > GROUP_ROWS ? GROUP_ROWS : rows < GROUP_LEAST ? GROUP_LEAST : (uint32_t)rows;
}

static enum err write_text(struct buf *b, const struct parquet_write *w, const struct scan_view *v)
{
    uint32_t rows = w->row_group_rows ? w->row_group_rows : group_rows(v);
    enum err e = buf_append_str(b, "COPY (SELECT ");

    if (!e)
        e = select_list(b, w->columns, w->columns_n);
    if (!e)
        e = buf_append_str(b, " FROM weir_table(0)");
    if (!e && w->where)
        e = buf_printf(b, " WHERE %s", w->where);
    if (!e)
        e = order_by(b, w->columns, w->columns_n, w->order, w->order_n);
    return e ? e
             : copy_options(b, w->path, w->codec, LEVEL_FIRST, rows, w->columns, w->columns_n,
                            w->schema);
}

enum err parquet_write(struct parquet *p, const struct parquet_write *w, struct parquet_stats *out,
                       struct errinfo *info)
{
    static const struct sql_request none = {.params_n = 0};
    struct stats_read r = {.out = out, .columns = w->columns, .n = w->columns_n};
    struct plan plan;
    struct plan_table *t;
    struct engine *engine;
    struct buf b;
    enum err e = parquet_engine(p, &engine, info);

    memset(out, 0, sizeof *out);
    if (e)
        return e;
    plan_init(&plan, p->conf.sql, &none);
    buf_init(&b, TEXT_MAX);
    t = plan_table_new(&plan, topic_name(w->topic));
    t->columns = columns_copy(w->columns, w->columns_n);
    t->columns_n = t->learnt_from = w->columns_n;
    t->in_order = true;
    e = scan_view_ranges(&t->view, p->conf.sql->conf.broker, w->topic, w->ranges, w->ranges_n,
                         info);
    t->view.patient = true;
    if (!e)
        e = scan_view_cut(&t->view, &scan_unbounded, NULL, NULL, 0, NULL, &t->cut, info);
    if (!e && write_text(&b, w, &t->cut))
        e = errinfo_set(info, ERR_TOO_LARGE, "too many columns for one file");
    if (!e)
        e = copy_run(p, engine, &plan, (const char *)b.ptr, w->path, &r, info);
    buf_fini(&b);
    plan_fini(&plan);
    return e;
}

enum err parquet_rewrite(struct parquet *p, const struct parquet_rewrite *w,
                         struct parquet_stats *out, struct errinfo *info)
{
    struct stats_read r = {.out = out, .columns = w->columns, .n = w->columns_n};
    struct engine *engine;
    struct buf b;
    enum err e = parquet_engine(p, &engine, info);

    memset(out, 0, sizeof *out);
    if (e)
        return e;
    if (w->files_n == 0)
        return errinfo_set(info, ERR_INVALID, "there are no files to rewrite");
    buf_init(&b, TEXT_MAX);
    e = buf_append_str(&b, "COPY (SELECT ");
    if (!e)
        e = select_list(&b, w->columns, w->columns_n);
    if (!e)
        e = files_list(&b, w->files, w->files_n, w->columns, w->columns_n);
    if (!e && w->drop)
        e = buf_printf(&b, " WHERE (%s) IS NOT TRUE", w->drop);
    if (!e)
        e = order_by(&b, w->columns, w->columns_n, w->order, w->order_n);
    if (!e)
        e = copy_options(&b, w->path, w->codec, 0, w->row_group_rows, w->columns, w->columns_n,
                         w->schema);
    if (e)
        errinfo_set(info, e, "too many files for one statement");
    else
        e = copy_run(p, engine, NULL, (const char *)b.ptr, w->path, &r, info);
    buf_fini(&b);
    return e;
}

/* ---- reading ---- */

struct reading {
    bool (*fn)(void *arg, const struct parquet_record *rec);
    void *arg;
    int32_t partition;
    struct record_header headers[HEADERS_MAX];
};

/* Row's headers out of a LIST of STRUCT(key, value). */
static unsigned headers_get(struct reading *r, const struct sql_vector *v, uint64_t row)
{
    const struct sql_vector *kv = &v->child[0];
    struct sql_list_entry at;
    uint64_t i;

    if (!sql_valid(v, row))
        return 0;
    at = ((const struct sql_list_entry *)v->data)[row];
    for (i = 0; i < at.length && i < HEADERS_MAX; i++) {
        r->headers[i].key = text_at(&kv->child[0], at.offset + i);
        r->headers[i].value = text_at(&kv->child[1], at.offset + i);
    }
    return (unsigned)i;
}

/* Columns: offset, timestamp, position, key, value, headers. */
static void record_get(struct reading *r, const struct sql_chunk *c, uint32_t i,
                       struct parquet_record *rec)
{
    rec->partition = r->partition;
    rec->offset = ((const int64_t *)c->column[0].data)[i];
    rec->timestamp_ms = /* null: others' infinity */
        sql_valid(&c->column[1], i) ? ((const int64_t *)c->column[1].data)[i] : -1;
    rec->position = sql_valid(&c->column[2], i) ? ((const uint64_t *)c->column[2].data)[i] : 0;
    rec->key = text_at(&c->column[3], i);
    rec->value = text_at(&c->column[4], i);
    rec->headers = r->headers;
    rec->headers_n = headers_get(r, &c->column[5], i);
}

static bool rows_give(void *arg, const struct sql_columns *columns, const struct sql_chunk *c)
{
    struct reading *r = arg;
    struct parquet_record rec;
    uint32_t i;

    for (i = 0; i < c->rows; i++) {
        record_get(r, c, i, &rec);
        if (!r->fn(r->arg, &rec))
            return false;
    }
    return true;
}

static const struct sql_column *column_of(const struct sql_column *columns, uint32_t n,
                                          enum sql_source s)
{
    uint32_t i;

    for (i = 0; i < n; i++)
        if (columns[i].source == s && columns[i].field_id)
            return &columns[i];
    return NULL;
}

/* SELECT and what a record is made of. */
static enum err read_columns(struct buf *b, const struct sql_column *columns, uint32_t n,
                             bool places_only)
{
    static const struct {
        enum sql_source source;
        const char *before, *after, *none;
    } want[] = {
        {SQL_FROM_OFFSET, "", "", "0::BIGINT"},
        {SQL_FROM_TIMESTAMP, "epoch_ms(", ")", "-1::BIGINT"},
        {SQL_FROM_POSITION, "", "::UBIGINT", "0::UBIGINT"},
        {SQL_FROM_KEY, "", "", "NULL::BLOB"},
        {SQL_FROM_VALUE, "", "", "NULL::BLOB"},
        {SQL_FROM_HEADERS, "", "", "[]::STRUCT(\"key\" VARCHAR, \"value\" BLOB)[]"},
    };
    enum err e = buf_append_str(b, "SELECT ");
    size_t i;

    for (i = 0; !e && i < sizeof want / sizeof *want; i++) {
        const struct sql_column *c =
            places_only && i > 2 ? NULL : column_of(columns, n, want[i].source);

        e = buf_printf(b, "%s%s", i ? ", " : "", c ? want[i].before : want[i].none);
        if (!e && c)
            e = text_quote(b, c->name, '"');
        if (!e && c)
            e = buf_append_str(b, want[i].after);
    }
    return e;
}

/* WHERE partition = … AND offset BETWEEN …; both columns are there. */
static enum err read_where(struct buf *b, const struct sql_column *columns, uint32_t n,
                           int32_t partition, int64_t from, int64_t to)
{
    enum err e = buf_append_str(b, " WHERE ");

    if (!e)
        e = text_quote(b, column_of(columns, n, SQL_FROM_PARTITION)->name, '"');
    if (!e)
        e = buf_printf(b, " = %d AND ", (int)partition);
    if (!e)
        e = text_quote(b, column_of(columns, n, SQL_FROM_OFFSET)->name, '"');
    return e ? e : buf_printf(b, " BETWEEN %" PRId64 " AND %" PRId64, from, to - 1);
}

static enum err places_check(const struct sql_column *columns, uint32_t n, struct errinfo *info)
{
    if (column_of(columns, n, SQL_FROM_OFFSET) && column_of(columns, n, SQL_FROM_PARTITION))
        return ERR_OK;
    return errinfo_set(info, ERR_INVALID, "the table has no offset or partition");
}

static enum err read_text(struct buf *b, const struct parquet_read *r)
{
    enum err e = read_columns(b, r->columns, r->columns_n, false);

    if (!e)
        e = files_list(b, r->files, r->files_n, r->columns, r->columns_n);
    if (!e)
        e = read_where(b, r->columns, r->columns_n, r->partition, r->from, r->to);
    if (!e)
        e = buf_append_str(b, " ORDER BY 1");
    return e ? e : buf_append_u8(b, 0);
}

enum err parquet_read(struct parquet *p, const struct parquet_read *r,
                      bool (*fn)(void *arg, const struct parquet_record *rec), void *arg,
                      struct errinfo *info)
{
    struct reading *x;
    struct engine *engine;
    struct buf b;
    enum err e = places_check(r->columns, r->columns_n, info);

    if (e)
        return e;
    if (r->files_n == 0 || r->from >= r->to)
        return ERR_OK;
    e = parquet_engine(p, &engine, info);
    if (e)
        return e;
    x = xcalloc(1, sizeof *x);
    x->fn = fn;
    x->arg = arg;
    x->partition = r->partition;
    buf_init(&b, TEXT_MAX);
    if (read_text(&b, r))
        e = errinfo_set(info, ERR_TOO_LARGE, "too many files for one statement");
    else
        e = statement_run(engine, NULL, (const char *)b.ptr, rows_give, x, info);
    buf_fini(&b);
    free(x);
    return e;
}

/* ---- one after the other ---- */

struct parquet_cursor {
    struct statement st;
    struct result result;
    bool described;
    duckdb_data_chunk data; /* NULL: none */
    struct sql_chunk chunk; /* of data */
    uint32_t row;
    struct parquet_record record;
    struct reading reading;
};

static enum err cursor_text(struct buf *b, const struct parquet_scan *s)
{
    const struct sql_column *ts = column_of(s->columns, s->columns_n, SQL_FROM_TIMESTAMP);
    const struct sql_column *pos = column_of(s->columns, s->columns_n, SQL_FROM_POSITION);
    enum err e = read_columns(b, s->columns, s->columns_n, s->places_only);

    if (!e)
        e = files_list(b, &s->file, 1, s->columns, s->columns_n);
    if (!e)
        e = read_where(b, s->columns, s->columns_n, s->partition, s->from, s->to);
    if (!e && s->ts_min_ms != INT64_MIN && ts) {
        e = buf_append_str(b, " AND epoch_ms(");
        if (!e)
            e = text_quote(b, ts->name, '"');
        if (!e)
            e = buf_printf(b, ") >= %" PRId64, s->ts_min_ms);
    }
    if (!e && s->position_min && pos) {
        e = buf_append_str(b, " AND ");
        if (!e)
            e = text_quote(b, pos->name, '"');
        if (!e)
            e = buf_printf(b, " >= %" PRIu64, s->position_min);
    }
    if (!e && s->sorted)
        e = buf_append_str(b, " ORDER BY 1");
    return e ? e : buf_append_u8(b, 0);
}

enum err parquet_cursor_open(struct parquet *p, const struct parquet_scan *s,
                             struct parquet_cursor **out, struct errinfo *info)
{
    struct parquet_cursor *c;
    struct engine *engine;
    struct buf b;
    enum err e = places_check(s->columns, s->columns_n, info);

    *out = NULL;
    if (!e)
        e = parquet_engine(p, &engine, info);
    if (e)
        return e;
    c = xcalloc(1, sizeof *c);
    c->st.engine = engine;
    c->reading.partition = s->partition;
    e = engine_connect(engine, &c->st.c, info);
    if (e) {
        free(c);
        return e;
    }
    buf_init(&b, TEXT_MAX);
    e = cursor_text(&b, s);
    e = e ? errinfo_set(info, e, "the file has too many columns")
          : statement_start(&c->st, (const char *)b.ptr, info);
    buf_fini(&b);
    if (!e)
        e = result_init(&c->result, c->st.c, ddb.column_count(&c->st.res), result_name, result_type,
                        &c->st.res, info);
    c->described = !e;
    if (e)
        parquet_cursor_close(&c);
    *out = c;
    return e;
}

enum err parquet_cursor_next(struct parquet_cursor *c, const struct parquet_record **out,
                             struct errinfo *info)
{
    while (!c->data || c->row >= c->chunk.rows) {
        if (c->data)
            ddb.destroy_data_chunk(&c->data);
        c->data = ddb.fetch_chunk(c->st.res);
        c->row = 0;
        if (!c->data) {
            const char *why = ddb.result_error(&c->st.res);

            return why && *why ? errinfo_set(info, ERR_IO, "%s", why) : ERR_EOF;
        }
        result_chunk(&c->result, c->data, &c->chunk);
    }
    record_get(&c->reading, &c->chunk, c->row++, &c->record);
    *out = &c->record;
    return ERR_OK;
}

void parquet_cursor_close(struct parquet_cursor **cp)
{
    struct parquet_cursor *c = *cp;

    if (!c)
        return;
    if (c->data)
        ddb.destroy_data_chunk(&c->data);
    if (c->described)
        result_fini(&c->result);
    statement_end(&c->st);
    free(c);
    *cp = NULL;
}

enum err parquet_query(struct parquet *p, const char *text, chunk_fn chunk, void *arg,
                       struct errinfo *info)
{
    struct engine *engine;
    enum err e = parquet_engine(p, &engine, info);

    return e ? e : statement_run(engine, NULL, text, chunk, arg, info);
}
