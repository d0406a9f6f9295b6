/* Running a query: from text to the sink's callbacks, on a worker thread.
 *
 * The statement is parsed (by DuckDB itself, as a tree in JSON) to see that it is one SELECT, that
 * it calls no function that changes an instance, and what it demands of each topic; then it is
 * prepared, which asks for its tables (duckdb_engine.c, plan.c), and run as a stream of chunks. It is
 * planned and run again, if nothing was given to the sink yet, when records turn out not to be what
 * the plan took them for. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sql/coordinator.h"
#include "sql/duckdb_int.h"
#include "sql/point.h"

#define TRIES_MAX      20u
#define POINT_ROWS_MAX 32768u /* as many records as one task of a scan has at least */

struct run {
    struct sql_query *q;
    struct engine *engine, *own; /* own: opened for this query */
    duckdb_connection c;
    struct rewrite text;
    struct fan *fan; /* shards answer, not this server; else NULL */
    struct plan plan;
    duckdb_prepared_statement st;
    struct fault fault;
    struct result result;
    bool has_result, given; /* columns were told to the sink */
    bool stopped;           /* by the sink */
    bool thoroughly;
    struct buf tree;  /* of the statement */
    bool tree_known;  /* it was run before */
    const char *name; /* what statement_name gave last */
    struct sql_stats stats;
};

/* ---- errors ---- */

static bool over(const struct sql_query *q)
{
    return atomic_load(&q->cancelled) || atomic_load(&q->timed_out);
}

static void fault_over(struct sql_query *q, struct fault *f)
{
    int64_t ms = q->rq.timeout_ms ? q->rq.timeout_ms : q->sql->conf.timeout_ms;

    if (atomic_load(&q->timed_out)) {
        fault_set(f, ERR_TIMEOUT, "57014", "the query did not end within %lld ms", (long long)ms);
        fault_hint(f, "narrow it by timestamp, partition or \"offset\", or give it more time");
    } else {
        fault_set(f, ERR_CANCELLED, "57014", "the query was cancelled");
    }
}

/* A member of DuckDB's error as text; "" if it is not there. The caller frees. */
static char *member_text(struct slice json, const char *name)
{
    struct field_members m;
    struct field_value v;
    struct slice key;
    bool escaped;

    if (field_members_init(&m, json))
        while (field_members_next(&m, &key, &escaped, &v))
            if (v.kind == FIELD_STRING && slice_eq_str(key, name)) {
                char *out = xmalloc(v.text.len + 1);
                size_t n = field_unescape(v.text, (uint8_t *)out);

                out[n == SIZE_MAX ? 0 : n] = 0;
                return out;
            }
    return xstrdup("");
}

struct exception {
    const char *type;
    enum err code;
    const char *sqlstate;
};
static const struct exception exceptions[] = {
    {"Parser", ERR_SQL, "42601"},
    {"Syntax Error", ERR_SQL, "42601"},
    {"syntax", ERR_SQL, "42601"},
    {"parser", ERR_SQL, "42601"},
    {"Binder", ERR_SQL, "42804"},
    {"Catalog", ERR_SQL, "42704"},
    {"Conversion", ERR_SQL, "22P02"},
    {"Out of Range", ERR_SQL, "22003"},
    {"Divide by Zero", ERR_SQL, "22012"},
    {"Mismatch Type", ERR_SQL, "42804"},
    {"Invalid Input", ERR_SQL, "22023"},
    {"Invalid", ERR_SQL, "22023"},
    {"Not implemented", ERR_SQL, "0A000"},
    {"Permission", ERR_FORBIDDEN, "42501"},
    {"Out of Memory", ERR_NO_MEMORY, "53200"},
    {"INTERRUPT", ERR_CANCELLED, "57014"},
    {"Interrupt", ERR_CANCELLED, "57014"},
    {"IO", ERR_IO, "58030"},
    {"Missing Extension", ERR_SQL, "0A000"},
    {"Parameter Not Resolved", ERR_SQL, "42P18"},
    {"Parameter Not Allowed", ERR_SQL, "42P02"},
};

static uint32_t position_of(struct run *r, struct slice json)
{
    char *text = member_text(json, "position");
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    bool given = *text && !*end;

    free(text);
    return given && !r->fan ? rewrite_origin(&r->text, r->q->rq.text, v) : 0;
}

/* What a statement's author can do about it. */
static void fault_explain(struct run *r, const char *subtype, const char *name)
{
    char near[600];
    struct fault *f = &r->fault;

    if (!strcmp(subtype, "COLUMN_NOT_FOUND")) {
        memcpy(f->sqlstate, "42703", 6);
        plan_near_columns(&r->plan, name, near, sizeof near);
        if (*near)
            fault_hint(f, "there is %s; `DESCRIBE` a topic to see all its columns", near);
    } else if (!strcmp(subtype, "MISSING_ENTRY") && strstr(f->message, "Table")) {
        memcpy(f->sqlstate, "42P01", 6);
        plan_near(&r->plan, name, near, sizeof near);
        if (*near)
            fault_hint(f, "there is %s", near);
        else
            fault_hint(f, "`SELECT topic FROM weir.topics` lists the topics; names with dots or "
                          "dashes stand in double quotes");
    } else if (!strcmp(subtype, "MISSING_ENTRY") || !strcmp(subtype, "NO_MATCHING_FUNCTION")) {
        memcpy(f->sqlstate, "42883", 6);
    } else if (f->code == ERR_NO_MEMORY) {
        fault_hint(f,
                   "the query takes more memory than it may; group or sort less, or ask for less");
    }
}

/* DuckDB's error into the run's fault. */
static void fault_duckdb(struct run *r, const char *error)
{
    const char *brace = error ? strchr(error, '{') : NULL;
    struct slice json = slice_str(brace ? brace : "");
    char *type = member_text(json, "exception_type"),
         *text = member_text(json, "exception_message");
    char *subtype = member_text(json, "error_subtype"), *name = member_text(json, "name");
    const struct exception *x = NULL;
    char *advice;
    size_t i;

    for (i = 0; i < sizeof exceptions / sizeof *exceptions; i++)
        if (!strcmp(exceptions[i].type, type))
            x = &exceptions[i];
    if (over(r->q)) {
        fault_over(r->q, &r->fault);
    } else if (r->plan.fault.code) {
        fault_set(&r->fault, r->plan.fault.code, r->plan.fault.sqlstate, "%s",
                  r->plan.fault.message);
        if (r->plan.fault.hint)
            fault_hint(&r->fault, "%s", r->plan.fault.hint);
    } else {
        if ((advice = strstr(text, "\n\nPossible solutions")))
            *advice = 0; /* settings that nobody may set here */
        fault_set(&r->fault, x ? x->code : ERR_INTERNAL, x ? x->sqlstate : "XX000", "%s",
                  *text   ? text
                  : *type ? type
                  : error ? error
                          : "no reason given");
        r->fault.position = position_of(r, json);
        fault_explain(r, subtype, name);
    }
    free(type);
    free(text);
    free(subtype);
    free(name);
}

/* A field that is not known so far may be in records that were not looked at. */
static bool unknown_column(const struct run *r)
{
    return !strcmp(r->fault.sqlstate, "42703") && !r->thoroughly && r->plan.tables_n;
}

/* ---- parsing ---- */

/* The statement's tree as JSON; false: fault is set. */
static bool tree_get(struct run *r)
{
    struct slice text = slice_of(r->text.text, r->text.len);
    char *error;
    enum err e;

    buf_clear(&r->tree);
    r->tree_known = kept_get(&r->q->sql->trees, text, &r->tree);
    if (r->tree_known)
        return true;
    e = engine_ask(r->c, "SELECT json_serialize_sql($1::VARCHAR)", text, &r->tree, &error);
    if (e == ERR_TOO_LARGE)
        fault_set(&r->fault, ERR_TOO_LARGE, "54000", "the statement is too large");
    else if (e)
        fault_duckdb(r, error);
    free(error);
    return !e;
}

static bool parse_failed(struct run *r, const struct plan_tree *t)
{
    if (t->error == PLAN_TREE_SYNTAX) {
        fault_set(&r->fault, ERR_SQL, "42601", "%s", t->message);
        if (t->position_known)
            r->fault.position = rewrite_origin(&r->text, r->q->rq.text,
                                               (size_t)(r->text.text - r->text.full) + t->position);
    } else if (t->error == PLAN_TREE_KIND) {
        fault_set(&r->fault, ERR_SQL, "0A000",
                  "only SELECT and EXPLAIN are allowed: topics are written by producing records");
        if (strcasestr(r->text.full, "pivot"))
            fault_hint(&r->fault, "a PIVOT names its columns: PIVOT … ON status IN ('open', "
                                  "'paid'); to find them is another statement");
    } else if (t->error == PLAN_TREE_MANY) {
        fault_set(&r->fault, ERR_SQL, "42601", "one statement at a time");
    } else if (t->error == PLAN_TREE_FUNCTION) {
        fault_set(&r->fault, ERR_FORBIDDEN, "42501", "the function %s is not available here",
                  t->message);
    }
    return t->error != PLAN_TREE_OK;
}

/* Sees what the statement is and wants; plan_tree_fini in any case. */
static bool parse(struct run *r, struct plan_tree *tree)
{
    memset(tree, 0, sizeof *tree);
    if (!tree_get(r))
        return false;
    plan_tree_read(&r->plan, buf_slice(&r->tree), io_wall_ms(r->q->sql->io), tree);
    return !parse_failed(r, tree);
}

/* Is what DuckDB runs the statement that was asked? EXPLAIN is not the SELECT in it. */
static bool is_plain(const struct run *r)
{
    return r->text.text == r->text.full && !r->fan;
}

/* DuckDB has run it. */
static void tree_keep(struct run *r)
{
    if (!r->tree_known && is_plain(r))
        kept_put(&r->q->sql->trees, slice_of(r->text.text, r->text.len), buf_slice(&r->tree));
}

/* ---- preparing ---- */

static bool kind_ok(struct run *r)
{
    duckdb_statement_type t = ddb.prepared_statement_type(r->st);

    if (t == DUCKDB_STATEMENT_TYPE_SELECT || t == DUCKDB_STATEMENT_TYPE_EXPLAIN)
        return true;
    fault_set(&r->fault, ERR_SQL, "0A000",
              "only SELECT and EXPLAIN are allowed: topics are written by producing records");
    return false;
}

static bool prepare(struct run *r, const char *text)
{
    duckdb_extracted_statements ex = NULL;
    idx_t n = ddb.extract_statements(r->c, text, &ex);
    bool ok = false;

    if (n == 0)
        fault_duckdb(r, ddb.extract_statements_error(ex));
    else if (n > 1)
        fault_set(&r->fault, ERR_SQL, "42601", "one statement at a time");
    else if (ddb.prepare_extracted_statement(r->c, ex, 0, &r->st) == DuckDBError)
        fault_duckdb(r, ddb.prepare_error(r->st));
    else
        ok = kind_ok(r);
    if (ex)
        ddb.destroy_extracted(&ex);
    return ok;
}

/* ---- counting ---- */

static enum err count_text(struct buf *out, const struct plan_table *t,
                           const struct plan_tree *tree)
{
    uint64_t rows = 0;
    uint32_t i;
    enum err e;

    for (i = 0; i < t->cold.files_n; i++)
        rows += t->cold.files[i].rows;
    e = buf_printf(out, "SELECT (count(*) + %llu)::BIGINT AS ", (unsigned long long)rows);
    if (!e)
        e = text_quote(out, tree->count_as, '"');
    if (!e)
        e = buf_append_str(out, " FROM ");
    if (!e)
        e = text_quote(out, tree->count_of, '"');
    return e ? e : buf_append_u8(out, 0);
}

/* The table's files say how many rows they have: only the local log's are counted. false: it is to be
 * prepared as it is, which says what is wrong with it, too. */
static bool count_prepare(struct run *r, const struct plan_tree *tree)
{
    struct plan_table *t = NULL;
    struct buf text;
    uint32_t index;
    bool ok;

    if (!tree->count_of || !is_plain(r) || r->q->rq.params_n ||
        !strcasecmp(tree->count_of, "stream_messages"))
        return false;
    if (plan_table_find(&r->plan, tree->count_of, &t, &index))
        fault_clear(&r->plan.fault); /* the name may be one of DuckDB's own */
    if (!t || !t->has_cold || t->past.kind != SQL_AT_NOW || table_files_below(t))
        return false;
    buf_init(&text, LIMIT_SQL_SOURCE);
    t->counted = true;
    ok = !count_text(&text, t, tree) && prepare(r, (const char *)text.ptr);
    buf_fini(&text);
    if (ok && t->asked)
        return true;
    t->counted = false; /* the name is not the topic's, but one of DuckDB's own */
    fault_clear(&r->fault);
    if (r->st)
        ddb.destroy_prepare(&r->st);
    return false;
}

/* ---- merging: see live.c ---- */

static bool merge_exec(struct run *r, const char *text)
{
    duckdb_result res;
    bool ok = ddb.query(r->c, text, &res) == DuckDBSuccess;

    if (!ok)
        fault_duckdb(r, ddb.result_error(&res));
    ddb.destroy_result(&res);
    return ok;
}

/* The statement's rows into `live new`. */
static bool merge_take(struct run *r)
{
    struct buf b;
    bool ok;

    buf_init(&b, 2 * (size_t)LIMIT_SQL_SOURCE);
    ok = !buf_append_str(&b, "CREATE OR REPLACE TEMP TABLE \"live new\" AS ") &&
         !buf_append_str(&b, r->text.full) && !buf_append_u8(&b, 0);
    if (ok)
        ok = merge_exec(r, (const char *)b.ptr);
    else
        fault_set(&r->fault, ERR_TOO_LARGE, "54000", "the statement is too large");
    buf_fini(&b);
    return ok;
}

static bool merge_count(struct run *r, uint64_t most)
{
    struct buf b;
    char *error;
    uint64_t n = 0;

    buf_init(&b, 64);
    if (engine_ask(r->c,
                   "SELECT count(*)::VARCHAR FROM \"live next\" WHERE $1::VARCHAR IS NOT NULL",
                   SLICE_LIT("x"), &b, &error) ||
        buf_append_u8(&b, 0))
        fault_duckdb(r, error);
    else
        n = strtoull((const char *)b.ptr, NULL, 10);
    free(error);
    buf_fini(&b);
    if (n > most) {
        fault_set(&r->fault, ERR_LIMIT, "54000",
                  "there are %llu groups, more than the %llu that a "
                  "live query may keep",
                  (unsigned long long)n, (unsigned long long)most);
        fault_hint(&r->fault, "group by less, or keep only the latest windows");
    }
    return !r->fault.code;
}

/* Up to the tables that the answer is made from. */
static bool merge_begin(struct run *r, struct sql_merge *m)
{
    return merge_take(r) &&
           (m->begun || (m->begun = merge_exec(r, "CREATE OR REPLACE TEMP TABLE \"live state\" AS "
                                                  "SELECT * FROM \"live new\" LIMIT 0"))) &&
           (!m->late || merge_exec(r, m->late)) && merge_exec(r, m->merged) &&
           merge_exec(r, m->next) && (!m->forget || merge_exec(r, m->forget)) &&
           merge_count(r, m->groups_max);
}

static bool merge_finish(struct run *r)
{
    if (r->st)
        ddb.destroy_prepare(&r->st);
    engine_quiet(r->c);
    return merge_exec(r, "DROP TABLE \"live state\"") &&
           merge_exec(r, "ALTER TABLE \"live next\" RENAME TO \"live state\"");
}

void query_merge_end(struct sql_merge *m)
{
    duckdb_connection c = m->connection;

    if (c)
        engine_drop(m->engine, &c);
    m->connection = NULL;
}

/* ---- parameters ---- */

static const char *cast_name(duckdb_type t)
{
    switch (t) {
    case DUCKDB_TYPE_BOOLEAN:
        return "BOOLEAN";
    case DUCKDB_TYPE_TINYINT:
    case DUCKDB_TYPE_SMALLINT:
    case DUCKDB_TYPE_INTEGER:
    case DUCKDB_TYPE_BIGINT:
        return "BIGINT";
    case DUCKDB_TYPE_UTINYINT:
    case DUCKDB_TYPE_USMALLINT:
    case DUCKDB_TYPE_UINTEGER:
    case DUCKDB_TYPE_UBIGINT:
        return "UBIGINT";
    case DUCKDB_TYPE_FLOAT:
    case DUCKDB_TYPE_DOUBLE:
        return "DOUBLE";
    case DUCKDB_TYPE_TIMESTAMP:
    case DUCKDB_TYPE_TIMESTAMP_S:
    case DUCKDB_TYPE_TIMESTAMP_MS:
    case DUCKDB_TYPE_TIMESTAMP_NS:
    case DUCKDB_TYPE_TIMESTAMP_TZ:
        return "TIMESTAMPTZ";
    default:
        return NULL; /* as text: DuckDB casts */
    }
}

static duckdb_value value_from_chunk(duckdb_data_chunk chunk, const char *type)
{
    const void *d = ddb.vector_get_data(ddb.data_chunk_get_vector(chunk, 0));

    switch (type[0]) {
    case 'B': /* BOOLEAN, BIGINT */
        return type[1] == 'O' ? ddb.create_bool(*(const bool *)d)
                              : ddb.create_int64(*(const int64_t *)d);
    case 'U':
        return ddb.create_uint64(*(const uint64_t *)d);
    case 'D':
        return ddb.create_double(*(const double *)d);
    default:
        return ddb.create_timestamp_tz((duckdb_timestamp){*(const int64_t *)d});
    }
}

/* Text as a value of the type that its place has: DuckDB reads it. NULL: fault is set. */
static duckdb_value text_value(struct run *r, struct slice text, idx_t i)
{
    duckdb_logical_type t = ddb.param_logical_type(r->st, i);
    const char *name = t ? cast_name(ddb.get_type_id(t)) : NULL;
    duckdb_value v = ddb.create_varchar_length((const char *)text.ptr, text.len), out = NULL;
    duckdb_prepared_statement st = NULL;
    duckdb_data_chunk chunk = NULL;
    duckdb_result res;
    char sql[64];

    if (t)
        ddb.destroy_logical_type(&t);
    if (!name)
        return v;
    memset(&res, 0, sizeof res);
    snprintf(sql, sizeof sql, "SELECT CAST($1::VARCHAR AS %s)", name);
    if (ddb.prepare(r->c, sql, &st) == DuckDBSuccess && ddb.bind_value(st, 1, v) == DuckDBSuccess &&
        ddb.execute_prepared(st, &res) == DuckDBSuccess && (chunk = ddb.fetch_chunk(res)))
        out = value_from_chunk(chunk, name);
    else
        fault_set(&r->fault, ERR_SQL, "22P02", "parameter $%llu: \"%.*s\" is not a %s",
                  (unsigned long long)i, (int)(text.len > 60 ? 60 : text.len),
                  text.len ? (const char *)text.ptr : "", name);
    if (chunk)
        ddb.destroy_data_chunk(&chunk);
    ddb.destroy_result(&res);
    ddb.destroy_prepare(&st);
    ddb.destroy_value(&v);
    return out;
}

static duckdb_value param_value(struct run *r, const struct sql_param *p, idx_t i)
{
    switch (p->type) {
    case SQL_NULL:
        return ddb.create_null_value();
    case SQL_BOOLEAN:
        return ddb.create_bool(p->i64 != 0);
    case SQL_BIGINT:
        return ddb.create_int64(p->i64);
    case SQL_DOUBLE:
        return ddb.create_double(p->f64);
    case SQL_TIMESTAMP_TZ:
        return ddb.create_timestamp_tz((duckdb_timestamp){p->i64});
    case SQL_BLOB:
        return ddb.create_blob(p->bytes.ptr ? p->bytes.ptr : (const uint8_t *)"", p->bytes.len);
    case SQL_VARCHAR:
        if (text_valid(p->bytes))
            return text_value(r, p->bytes, i);
        fault_set(&r->fault, ERR_INVALID, "22021", "parameter $%llu is not UTF-8",
                  (unsigned long long)i);
        return NULL;
    default:
        fault_set(&r->fault, ERR_INVALID, "22023",
                  "parameter $%llu is of a type that cannot be given", (unsigned long long)i);
        return NULL;
    }
}

static bool bind_params(struct run *r)
{
    const struct sql_request *rq = &r->q->rq;
    idx_t n = ddb.nparams(r->st), i;

    if (n != rq->params_n) {
        fault_set(&r->fault, ERR_SQL, "08P01", "the statement has %llu parameters, %u were given",
                  (unsigned long long)n, rq->params_n);
        return false;
    }
    for (i = 1; i <= n; i++) {
        duckdb_value v = param_value(r, &rq->params[i - 1], i);
        duckdb_state s;

        if (!v)
            return false;
        s = ddb.bind_value(r->st, i, v);
        ddb.destroy_value(&v);
        if (s == DuckDBError) {
            fault_set(&r->fault, ERR_SQL, "08P01", "parameter $%llu: %s", (unsigned long long)i,
                      ddb.prepare_error(r->st) ? ddb.prepare_error(r->st) : "cannot be bound");
            return false;
        }
    }
    return true;
}

/* ---- rows ---- */

static const char *result_name(void *of, idx_t i)
{
    return ddb.column_name(of, i);
}

static duckdb_logical_type result_type(void *of, idx_t i)
{
    return ddb.column_logical_type(of, i);
}

static bool columns_give(struct run *r, idx_t n, column_name_fn name, column_type_fn type, void *of)
{
    const struct sql_request *rq = &r->q->rq;
    struct errinfo why;

    if (result_init(&r->result, r->c, n, name, type, of, &why)) {
        fault_err(&r->fault, ERR_TOO_LARGE, &why);
        return false;
    }
    r->has_result = r->given = true;
    r->q->result = &r->result;
    if (rq->sink->columns && !rq->sink->columns(rq->arg, r->q, &r->result.columns))
        r->stopped = true;
    return true;
}

/* Hands one chunk over, cut to the limits. */
static void chunk_give(struct run *r, duckdb_data_chunk d)
{
    const struct sql_request *rq = &r->q->rq;
    struct sql_chunk c;
    uint64_t bytes;

    if (rq->rows_max && ddb.data_chunk_get_size(d) > rq->rows_max - r->stats.rows) {
        ddb.data_chunk_set_size(d, rq->rows_max - r->stats.rows);
        r->stats.truncated = true;
        if (ddb.data_chunk_get_size(d) == 0)
            return;
    }
    result_chunk(&r->result, d, &c);
    bytes = result_chunk_bytes(&c);
    if (rq->bytes_max && r->stats.bytes + bytes > rq->bytes_max) {
        r->stats.truncated = true;
        return;
    }
    r->stats.rows += c.rows;
    r->stats.bytes += bytes;
    if (rq->sink->chunk && !rq->sink->chunk(rq->arg, r->q, &c))
        r->stopped = true;
}

static bool result_give(struct run *r, duckdb_result *res)
{
    return r->given || columns_give(r, ddb.column_count(res), result_name, result_type, res);
}

/* Did the sink or the asker end it? The fault is set then. */
static bool ended(struct run *r)
{
    if (!r->stopped && !over(r->q))
        return false;
    if (r->stopped)
        atomic_store(&r->q->cancelled, true);
    fault_over(r->q, &r->fault);
    return true;
}

static bool rows_give(struct run *r, duckdb_result *res)
{
    duckdb_data_chunk d;

    while (!r->stopped && !r->stats.truncated && !over(r->q) && (d = ddb.fetch_chunk(*res))) {
        if (ddb.data_chunk_get_size(d)) {
            if (!result_give(r, res)) {
                ddb.destroy_data_chunk(&d);
                return false;
            }
            if (!r->stopped)
                chunk_give(r, d);
        }
        ddb.destroy_data_chunk(&d);
    }
    if (ended(r))
        return false;
    if (!r->stats.truncated && ddb.result_error(res) && *ddb.result_error(res)) {
        fault_duckdb(r, ddb.result_error(res));
        return false;
    }
    return result_give(r, res);
}

/* What was prepared, or the text: see at_once_can. */
static bool execute(struct run *r)
{
    duckdb_pending_result pending = NULL;
    duckdb_result res;
    bool ok = false;

    memset(&res, 0, sizeof res);
    if (over(r->q))
        fault_over(r->q, &r->fault);
    else if (r->st && ddb.pending_prepared_streaming(r->st, &pending) == DuckDBError)
        fault_duckdb(r, ddb.pending_error(pending));
    else if ((r->st ? ddb.execute_pending(pending, &res) : ddb.query(r->c, r->text.full, &res)) ==
             DuckDBError)
        fault_duckdb(r, ddb.result_error(&res));
    else
        ok = rows_give(r, &res);
    r->q->result = NULL;
    ddb.destroy_result(&res);
    if (pending)
        ddb.destroy_pending(&pending);
    return ok;
}

/* A statement that is prepared is planned twice, for over files and functions DuckDB plans it anew when
 * it runs. One that need not be prepared, for it has no parameters and is known to be a SELECT, is
 * planned once; but then DuckDB makes all rows before it gives the first, so there must be few. */
static bool at_once_can(const struct run *r, const struct plan_tree *tree)
{
    const struct sql_request *rq = &r->q->rq;

    return r->tree_known && tree->few && !tree->count_of && is_plain(r) && !r->q->merge &&
           !r->q->described && !rq->params_n && !rq->inputs_n;
}

/* ---- look-ups: see point.h ---- */

static bool point_of(struct run *r, struct point *p)
{
    const struct sql_request *rq = &r->q->rq;

    return point_parse(p, slice_str(r->text.full), rq->params, rq->params_n) && !r->q->merge &&
           !r->fan && !r->q->described && !rq->inputs_n;
}

/* The table of the look-up, where it may be read without DuckDB: it has been, there is nothing in
 * files, and not more than one of DuckDB's threads would read. */
static struct plan_table *point_table(struct run *r, const struct point *p)
{
    struct plan_table *t = NULL;
    uint32_t index;

    if (!kept_get(&r->q->sql->shapes, buf_slice(&p->shape), NULL))
        return NULL;
    plan_bounds_put(&r->plan, p->table, &p->b);
    if (plan_table_find(&r->plan, p->table, &t, &index))
        fault_clear(&r->plan.fault); /* DuckDB will ask for it, too */
    return t && !t->has_cold && t->past.kind == SQL_AT_NOW && t->cut.rows <= POINT_ROWS_MAX ? t
                                                                                            : NULL;
}

static bool point_rows(struct run *r, const struct point *p, struct direct *d, uint32_t columns_n)
{
    uint64_t left = p->limit, n;
    duckdb_data_chunk c;
    bool failed = false;

    while (!r->stopped && !r->stats.truncated && !over(r->q) && left &&
           (c = direct_next(d, &failed))) {
        n = ddb.data_chunk_get_size(c);
        if (n > left)
            ddb.data_chunk_set_size(c, left);
        left -= n > left ? left : n;
        if (!r->given && !columns_give(r, columns_n, direct_name, direct_type, d))
            return false;
        if (!r->stopped)
            chunk_give(r, c);
    }
    if (ended(r))
        return false;
    if (failed) {
        fault_duckdb(r, NULL);
        return false;
    }
    return r->given || columns_give(r, columns_n, direct_name, direct_type, d);
}

/* Answers a look-up by itself; false: DuckDB is to. *ok as attempt returns it. */
static bool point_run(struct run *r, const struct point *p, bool *ok)
{
    struct plan_table *t = point_table(r, p);
    uint32_t *column, n;
    struct direct *d;
    bool can;

    if (!t)
        return false;
    column = xcalloc(t->columns_n + 1u, sizeof *column);
    if (!(can = p->columns_n <= t->columns_n && point_columns(p, t, column, &n)))
        goto out;
    d = direct_new(t, column, n);
    *ok = point_rows(r, p, d, n);
    r->q->result = NULL;
    direct_free(&d);
out:
    free(column);
    return can;
}

/* DuckDB has answered it: from now on it need not. */
static void point_trust(struct run *r, const struct point *p)
{
    uint32_t i;

    for (i = 0; i < r->plan.tables_n; i++)
        if (r->plan.tables[i]->asked && !strcmp(r->plan.tables[i]->name, p->table))
            kept_put(&r->q->sql->shapes, buf_slice(&p->shape), SLICE_NULL);
}

/* ---- describing ---- */

static void name_free(struct run *r)
{
    ddb.free((void *)(uintptr_t)r->name);
    r->name = NULL;
}

/* Valid until the next call, then name_free. */
static const char *statement_name(void *of, idx_t i)
{
    struct run *r = of;

    name_free(r);
    return r->name = ddb.prepared_statement_column_name(r->st, i);
}

static duckdb_logical_type statement_type(void *of, idx_t i)
{
    struct run *r = of;

    return ddb.prepared_statement_column_logical_type(r->st, i);
}

static const char *no_name(void *of, idx_t i)
{
    return "";
}

static duckdb_logical_type param_type(void *of, idx_t i)
{
    struct run *r = of;
    duckdb_logical_type t = ddb.param_logical_type(r->st, i + 1);

    return t ? t : engine_type(DUCKDB_TYPE_SQLNULL);
}

static bool param_known(void *of, uint64_t i)
{
    const struct run *r = of;
    duckdb_logical_type t = ddb.param_logical_type(r->st, (idx_t)i);
    duckdb_type id = t ? ddb.get_type_id(t) : DUCKDB_TYPE_INVALID;

    if (t)
        ddb.destroy_logical_type(&t);
    return id != DUCKDB_TYPE_INVALID && id != DUCKDB_TYPE_SQLNULL;
}

/* Where a parameter's place does not say its type, DuckDB does not say what the columns are: one
 * "unknown" stands for all. With NULL for the parameters it does. */
static void columns_known(struct run *r)
{
    duckdb_prepared_statement with = r->st;
    const char *name = statement_name(r, 0);
    bool unknown = ddb.nparams(r->st) && ddb.prepared_statement_column_count(r->st) == 1 && name &&
                   strcmp(name, "unknown") == 0;
    char *text;

    name_free(r);
    if (!unknown)
        return;
    text = rewrite_without_params(r->text.full, param_known, r);
    r->st = NULL;
    if (prepare(r, text)) {
        ddb.destroy_prepare(&with);
    } else {
        fault_clear(&r->fault);
        if (r->st)
            ddb.destroy_prepare(&r->st);
        r->st = with;
    }
    free(text);
}

static bool describe(struct run *r)
{
    struct result params;
    struct errinfo why;
    enum err e;

    e = result_init(&params, r->c, ddb.nparams(r->st), no_name, param_type, r, &why);
    if (!e)
        columns_known(r);
    if (!e)
        e = result_init(&r->result, r->c, ddb.prepared_statement_column_count(r->st),
                        statement_name, statement_type, r, &why);
    name_free(r);
    if (e) {
        result_fini(&params);
        fault_err(&r->fault, ERR_TOO_LARGE, &why);
        return false;
    }
    r->q->described(r->q->rq.arg, NULL, &params.columns, &r->result.columns);
    result_fini(&params);
    result_fini(&r->result);
    return true;
}

/* ---- the whole ---- */

static void scanned(struct run *r)
{
    uint32_t i;

    r->stats.rows_scanned = r->stats.bytes_scanned = 0;
    for (i = 0; i < r->plan.tables_n; i++) {
        r->stats.rows_scanned += atomic_load(&r->plan.tables[i]->rows);
        r->stats.bytes_scanned += atomic_load(&r->plan.tables[i]->bytes);
    }
}

/* Prepares and runs the statement by DuckDB. */
static bool attempt_duckdb(struct run *r, uint64_t from)
{
    struct sql_merge *merge = r->q->merge;
    struct plan_tree tree;
    bool ok;

    engine_plan_set(&r->plan);
    ok = parse(r, &tree) && (!merge || merge_begin(r, merge)) &&
         (at_once_can(r, &tree) || (!merge && count_prepare(r, &tree)) ||
          prepare(r, merge ? merge->final : r->text.full));
    plan_tree_fini(&tree);
    r->stats.planned_ns = io_mono_ns(r->q->sql->io) - from;
    if (ok && r->q->described)
        ok = describe(r);
    else if (ok)
        ok = (!r->st || bind_params(r)) &&
             ((merge && (merge->silent || merge->dry)) || execute(r)) &&
             (!merge || merge->dry || merge_finish(r));
    if (r->st)
        ddb.destroy_prepare(&r->st);
    engine_quiet(r->c);
    engine_plan_set(NULL);
    if (ok)
        tree_keep(r);
    return ok;
}

/* One try. false: fault is set. *again: another one may do better. */
static bool attempt(struct run *r, bool *again)
{
    uint64_t from = io_mono_ns(r->q->sql->io);
    struct point point;
    bool ok, is_point;

    fault_clear(&r->fault);
    plan_init(&r->plan, r->q->sql, &r->q->rq);
    r->plan.thoroughly = r->thoroughly;
    r->plan.fan = r->fan;
    is_point = point_of(r, &point);
    if (!is_point || !point_run(r, &point, &ok)) {
        ok = attempt_duckdb(r, from);
        if (ok && is_point)
            point_trust(r, &point);
    }
    point_fini(&point);
    *again = !ok && !r->given && !over(r->q) && (atomic_load(&r->plan.again) || unknown_column(r));
    r->thoroughly = *again && unknown_column(r);
    if (!ok && !*again && atomic_load(&r->plan.again)) {
        fault_set(&r->fault, ERR_AGAIN, "40001",
                  "a field's values turned out to be of another type than those before");
        fault_hint(&r->fault, "run it again: the type is known now");
    }
    scanned(r);
    plan_fini(&r->plan);
    return ok;
}

static enum err engine_get(struct run *r, struct errinfo *why)
{
    struct sql *s = r->q->sql;
    uint64_t memory = r->q->rq.memory_bytes;
    struct sql_merge *merge = r->q->merge;
    struct engine_conf conf = {.memory_bytes = memory,
                               .temp_bytes = s->conf.temp_bytes,
                               .threads = s->conf.threads,
                               .temp_dir = s->conf.temp_dir,
                               .dirs = s->conf.dirs,
                               .dirs_n = s->conf.dirs_n};
    enum err e;

    if (merge && merge->connection) {
        r->engine = merge->engine;
        r->c = merge->connection;
        return ERR_OK;
    }
    if (memory && !merge && (!s->conf.memory_bytes || memory < s->conf.memory_bytes)) {
        e = engine_open(s, &conf, &r->own, why);
        r->engine = r->own;
        e = e ? e : engine_connect(r->engine, &r->c, why);
    } else {
        e = engine_shared(s, &r->engine, &r->c, why);
    }
    if (!e && merge) {
        merge->engine = r->engine;
        merge->connection = r->c;
    }
    return e;
}

static void run_interrupt(void *connection)
{
    ddb.interrupt(connection);
}

static void interruptible(struct sql_query *q, duckdb_connection c)
{
    io_mutex_lock(&q->run_lock);
    q->interrupt = c ? run_interrupt : NULL;
    q->run = c;
    io_mutex_unlock(&q->run_lock);
}

static void tell(struct sql_query *q, const struct fault *f, const struct sql_stats *stats)
{
    struct sql_error e = {
        .code = f->code, .message = f->message, .hint = f->hint, .position = f->position};

    memcpy(e.sqlstate, f->sqlstate, sizeof e.sqlstate);
    if (f->code)
        atomic_fetch_add(f->code == ERR_CANCELLED ? &q->sql->st_cancelled : &q->sql->st_failed, 1);
    if (!q->described)
        q->rq.sink->done(q->rq.arg, q, f->code ? &e : NULL, stats);
    else if (f->code)
        q->described(q->rq.arg, &e, NULL, NULL);
}

void query_refuse(struct sql_query *q)
{
    struct sql_stats stats = {.queued_ns = io_mono_ns(q->sql->io) - q->queued_ns};
    struct fault f = {.code = ERR_OK};

    fault_over(q, &f);
    tell(q, &f, &stats);
    fault_clear(&f);
}

void query_run(struct sql_query *q)
{
    struct sql *s = q->sql;
    struct run *r = xcalloc(1, sizeof *r);
    struct errinfo why;
    unsigned tries = 0;
    bool ok = false, again;
    enum err e;

    r->q = q;
    buf_init(&r->tree, 256u << 20);
    q->started_ns = io_mono_ns(s->io);
    r->stats.queued_ns = q->started_ns - q->queued_ns;
    e = engine_get(r, &why);
    if (e) {
        fault_err(&r->fault, e, &why);
    } else {
        interruptible(q, r->c);
        if (!q->rq.shards_n || fan_open(q, &r->fan, &r->fault)) {
            rewrite_make(&r->text, r->fan ? fan_text(r->fan) : q->rq.text);
            do
                ok = attempt(r, &again);
            while (again && ++tries < TRIES_MAX);
            rewrite_fini(&r->text);
        }
        fan_close(&r->fan);
        interruptible(q, NULL);
    }
    r->stats.ran_ns = io_mono_ns(s->io) - q->started_ns;
    atomic_fetch_add(&s->st_rows, r->stats.rows);
    atomic_fetch_add(&s->st_rows_scanned, r->stats.rows_scanned);
    atomic_fetch_add(&s->st_bytes_scanned, r->stats.bytes_scanned);
    ASSERT(ok == (r->fault.code == ERR_OK));
    if (r->engine && !q->merge)
        engine_disconnect(r->engine, &r->c);
    engine_close(&r->own);
    if (r->fault.code == ERR_NO_MEMORY)
        memory_give_back();
    tell(q, &r->fault, &r->stats);
    if (r->has_result)
        result_fini(&r->result);
    fault_clear(&r->fault);
    buf_fini(&r->tree);
    free(r);
}
