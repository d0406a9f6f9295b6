/* Instances of DuckDB in memory, and their lock-down. The order matters: the folders that may be
 * reached are named, then everything else outside is switched off for good, then the settings are
 * frozen. What that does not stop (COPY, ATTACH and CREATE inside those folders, SET VARIABLE,
 * some PRAGMAs) is stopped by admitting SELECT and EXPLAIN only: see duckdb_query.c.
 *
 * DuckDB's own threads are made by the thread that opens the instance and inherit its priority and
 * the processors that it keeps to; so instances are opened by workers, which have the lowest and
 * leave some processors alone (io_thread_confine). */
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "base/mem.h"
#include "sql/coordinator.h"
#include "sql/duckdb_int.h"

/* When nobody used the shared instance for so long, memory that is free but kept is given back, and the
 * instance closed if it keeps more than this itself; to open one takes some 15 ms. */
#define REST_NS       5000000000ull
#define REST_BYTES    (32u << 20)
#define UNCOUNTED_MAX (128ull << 20)

/* The plan of the statement that this thread prepares or runs; see engine_plan. */
static _Thread_local struct plan *plan_of_thread;

struct plan *engine_plan(void)
{
    return plan_of_thread;
}

void engine_plan_set(struct plan *p)
{
    plan_of_thread = p;
}

duckdb_logical_type engine_type(duckdb_type t)
{
    return ddb.create_logical_type(t);
}

enum err engine_exec(duckdb_connection c, const char *text, struct errinfo *info)
{
    duckdb_result r;
    enum err e = ERR_OK;

    if (ddb.query(c, text, &r) == DuckDBError)
        e = errinfo_set(info, ERR_INTERNAL, "%s", ddb.result_error(&r));
    ddb.destroy_result(&r);
    return e;
}

enum err engine_ask(duckdb_connection c, const char *text, struct slice param, struct buf *out,
                    char **error)
{
    duckdb_prepared_statement st = NULL;
    duckdb_result res;
    duckdb_data_chunk chunk;
    duckdb_value v = ddb.create_varchar_length((const char *)param.ptr, param.len);
    enum err e = ERR_INTERNAL;

    *error = NULL;
    memset(&res, 0, sizeof res);
    if (ddb.prepare(c, text, &st) == DuckDBError) {
        *error = xstrdup(ddb.prepare_error(st) ? ddb.prepare_error(st) : "");
    } else if (ddb.bind_value(st, 1, v) == DuckDBError ||
               ddb.execute_prepared(st, &res) == DuckDBError) {
        *error = xstrdup(ddb.result_error(&res) ? ddb.result_error(&res) : "");
    } else if ((chunk = ddb.fetch_chunk(res))) {
        e = buf_append_slice(
            out, sql_string_get(ddb.vector_get_data(ddb.data_chunk_get_vector(chunk, 0))));
        ddb.destroy_data_chunk(&chunk);
    }
    ddb.destroy_value(&v);
    ddb.destroy_result(&res);
    ddb.destroy_prepare(&st);
    return e;
}

void engine_quiet(duckdb_connection c)
{
    duckdb_result r;

    ddb.query(c, "", &r); /* begins by ending the one before */
    ddb.destroy_result(&r);
}

enum err text_quote(struct buf *out, const char *s, char quote)
{
    enum err e = buf_append_u8(out, (uint8_t)quote);

    for (; !e && *s; s++) {
        if (*s == quote)
            e = buf_append_u8(out, (uint8_t)quote);
        if (!e)
            e = buf_append_u8(out, (uint8_t)*s);
    }
    return e ? e : buf_append_u8(out, (uint8_t)quote);
}

/* ---- names that are no tables of DuckDB ---- */

/* The table is what a statement gives. */
static void replace_by_text(duckdb_replacement_scan_info info, const struct buf *text)
{
    duckdb_value v = ddb.create_varchar_length((const char *)text->ptr, text->len);

    ddb.replacement_scan_set_function_name(info, "query");
    ddb.replacement_scan_add_parameter(info, v);
    ddb.destroy_value(&v);
}

/* A table whose past is seen. */
static enum err past_source(const struct plan_table *t, uint32_t index, struct buf *out)
{
    enum err e = buf_append_str(out, "SELECT * FROM (");

    if (!e)
        e = t->has_cold ? table_source(t, index, out)
                        : buf_printf(out, "SELECT * FROM weir_table(%u)", (unsigned)index);
    if (e)
        return e;
    return buf_printf(out,
                      t->past.kind == SQL_AT_POSITION
                          ? ") WHERE position <= %lld"
                          : ") WHERE timestamp <= make_timestamptz(%lld * 1000)",
                      (long long)t->past.value);
}

#define MESSAGES "topic, partition, \"offset\", key, value, headers, timestamp"

static enum err message_source(void *arg, struct plan_table *t, uint32_t i)
{
    struct buf *b = arg;
    enum err e = b->len ? buf_append_str(b, " UNION ALL ") : ERR_OK;

    if (!e && !t->has_cold)
        return buf_printf(b, "SELECT " MESSAGES " FROM weir_table(%u)", (unsigned)i);
    if (!e)
        e = buf_append_str(b, "SELECT " MESSAGES " FROM (");
    if (!e)
        e = table_source(t, i, b);
    return e ? e : buf_append_str(b, ")");
}

static void replace_messages(duckdb_replacement_scan_info info, struct plan *p)
{
    struct buf b;

    buf_init(&b, LIMIT_SQL_SOURCE);
    if (plan_messages(p, message_source, &b))
        ddb.replacement_scan_set_error(info, p->fault.message ? p->fault.message : "too large");
    else if (b.len == 0 && /* no topic */
             buf_append_str(&b,
                            "SELECT ''::VARCHAR AS topic, 0::INTEGER AS partition, 0::BIGINT AS "
                            "\"offset\", ''::VARCHAR AS key, ''::VARCHAR AS value, "
                            "[]::STRUCT(\"key\" VARCHAR, \"value\" VARCHAR)[] AS headers, "
                            "now() AS timestamp WHERE false"))
        ddb.replacement_scan_set_error(info, "too large");
    else
        replace_by_text(info, &b);
    buf_fini(&b);
}

/* What shards answer. */
static void replace_partials(duckdb_replacement_scan_info info, const struct fan *fan)
{
    struct buf b;

    buf_init(&b, LIMIT_SQL_SOURCE);
    if (fan_source(fan, &b))
        ddb.replacement_scan_set_error(info, "the shards' answers have too many columns");
    else
        replace_by_text(info, &b);
    buf_fini(&b);
}

static void replace(duckdb_replacement_scan_info info, const char *name, void *data)
{
    struct plan *p = engine_plan();
    struct plan_table *t = NULL;
    struct buf text;
    duckdb_value v;
    uint32_t index;

    if (!p)
        return;
    if (p->fan && !strcasecmp(name, "partials")) {
        replace_partials(info, p->fan);
        return;
    }
    if (!strcasecmp(name, "stream_messages")) {
        replace_messages(info, p);
        return;
    }
    buf_init(&text, LIMIT_SQL_SOURCE);
    if (kv_source(p, name, &text)) {
        replace_by_text(info, &text);
        buf_fini(&text);
        return;
    }
    if (plan_table_find(p, name, &t, &index)) {
        ddb.replacement_scan_set_error(info, p->fault.message ? p->fault.message : "");
        return;
    }
    if (!t)
        return;
    t->asked = true;
    if (t->counted || (!t->has_cold && t->past.kind == SQL_AT_NOW)) {
        ddb.replacement_scan_set_function_name(info, "weir_table");
        v = ddb.create_int64(index);
        ddb.replacement_scan_add_parameter(info, v);
        ddb.destroy_value(&v);
        return;
    }
    if (t->past.kind == SQL_AT_NOW ? table_source(t, index, &text) : past_source(t, index, &text)) {
        ddb.replacement_scan_set_error(info, "the table has too many files for one query");
    } else {
        replace_by_text(info, &text);
    }
    buf_fini(&text);
}

/* ---- weir_text: bytes as text ---- */

/* What is text already stays where it is: the vector that is given lives until the next is asked
 * for, and who keeps a row longer copies it, as with those of scans. */
static void text_function(duckdb_function_info info, duckdb_data_chunk in, duckdb_vector out)
{
    duckdb_vector v = ddb.data_chunk_get_vector(in, 0);
    const duckdb_string_t *from = ddb.vector_get_data(v);
    duckdb_string_t *to = ddb.vector_get_data(out);
    const uint64_t *valid = ddb.vector_get_validity(v);
    idx_t i, n = ddb.data_chunk_get_size(in);

    for (i = 0; i < n; i++) {
        struct slice s;

        if (valid && !(valid[i >> 6] >> (i & 63) & 1)) {
            vector_null(out, i);
            continue;
        }
        s = sql_string_get((const struct sql_string *)&from[i]);
        if (text_valid(s)) {
            to[i] = from[i];
        } else {
            char *t = xmalloc(text_escaped_len(s));

            ddb.vector_assign_string_element_len(out, i, t, text_escape(s, t));
            free(t);
        }
    }
}

static void text_register(duckdb_connection c)
{
    duckdb_scalar_function f = ddb.create_scalar_function();
    duckdb_logical_type blob = engine_type(DUCKDB_TYPE_BLOB),
                        text = engine_type(DUCKDB_TYPE_VARCHAR);

    ddb.scalar_function_set_name(f, "weir_text");
    ddb.scalar_function_add_parameter(f, blob);
    ddb.scalar_function_set_return_type(f, text);
    ddb.scalar_function_set_function(f, text_function);
    ddb.register_scalar_function(c, f);
    ddb.destroy_scalar_function(&f);
    ddb.destroy_logical_type(&blob);
    ddb.destroy_logical_type(&text);
}

/* ---- opening ---- */

static uint64_t memory_default(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 4 : 1ull << 30;
}

static void config_u64(duckdb_config c, const char *name, uint64_t v, const char *unit)
{
    char text[48];

    snprintf(text, sizeof text, "%llu%s", (unsigned long long)v, unit);
    ddb.set_config(c, name, text);
}

/* DuckDB does not count all that it takes: what is left for that was enough for most of the large queries of
 * bench/lake. */
static uint64_t counted(uint64_t limit)
{
    return limit - (limit / 4 < UNCOUNTED_MAX ? limit / 4 : UNCOUNTED_MAX);
}

/* A folder of the instance's own below temp_dir, which it makes and removes: names of files in it are the
 * same in all instances. "": none. */
static enum err temp_name(struct sql *s, const char *temp_dir, char out[PATH_MAX],
                          struct errinfo *info)
{
    *out = 0;
    if (!temp_dir)
        return ERR_OK;
    io_mkdir(s->io, temp_dir, NULL); /* where it fails, what spills does */
    if (snprintf(out, PATH_MAX, "%s/%u", temp_dir, atomic_fetch_add(&s->temp_next, 1)) >= PATH_MAX)
        return errinfo_set(info, ERR_TOO_LARGE, "the path of what is spilled is too long");
    return ERR_OK;
}

static enum err db_open(struct engine *e, const struct engine_conf *conf, struct errinfo *info)
{
    duckdb_config c = NULL;
    char *error = NULL, temp[PATH_MAX];
    enum err err = temp_name(e->sql, conf->temp_dir, temp, info);

    if (err)
        return err;
    if (ddb.create_config(&c) == DuckDBError)
        return errinfo_set(info, ERR_NO_MEMORY, "DuckDB gives no configuration");
    config_u64(c, "threads", conf->threads ? conf->threads : io_thread_cpus(), "");
    config_u64(c, "memory_limit", counted(e->memory_bytes) / 1024, "KiB");
    ddb.set_config(c, "temp_directory", temp);
    if (conf->temp_dir)
        config_u64(c, "max_temp_directory_size",
                   (conf->temp_bytes ? conf->temp_bytes : 10ull << 30) / 1024, "KiB");
    ddb.set_config(c, "autoinstall_known_extensions", "false");
    ddb.set_config(c, "autoload_known_extensions", "false");
    ddb.set_config(c, "allow_community_extensions", "false");
    ddb.set_config(c, "errors_as_json", "true");
    ddb.set_config(c, "preserve_insertion_order", conf->writes ? "true" : "false");
    if (ddb.open_ext(NULL, &e->db, c, &error) == DuckDBError)
        err = errinfo_set(info, ERR_INTERNAL, "DuckDB does not open: %.200s",
                          error ? error : "no reason given");
    if (error)
        ddb.free(error);
    ddb.destroy_config(&c);
    return err;
}

static enum err lock_down(duckdb_connection c, const struct engine_conf *conf, struct errinfo *info)
{
    struct buf b;
    unsigned i;
    enum err e = ERR_OK;

    buf_init(&b, 1u << 20);
    if (conf->dirs_n) {
        e = buf_append_str(&b, "SET allowed_directories = [");
        for (i = 0; !e && i < conf->dirs_n; i++) {
            if (i)
                e = buf_append_str(&b, ", ");
            if (!e)
                e = text_quote(&b, conf->dirs[i], '\'');
        }
        if (!e)
            e = buf_append_str(&b, "]") ? ERR_TOO_LARGE : buf_append_u8(&b, 0);
        if (!e)
            e = engine_exec(c, (const char *)b.ptr, info);
    }
    buf_fini(&b);
    if (!e)
        e = engine_exec(c, "SET enable_external_access = false", info);
    if (!e)
        e = engine_exec(c, "SET GLOBAL TimeZone = 'UTC'", info);
    if (!e)
        e = engine_exec(c, "SET GLOBAL parquet_metadata_cache = true",
                        info); /* files never change */
    if (!e)
        e = engine_exec(c, "SET lock_configuration = true", info);
    return e;
}

enum err engine_open(struct sql *s, const struct engine_conf *conf, struct engine **out,
                     struct errinfo *info)
{
    static const struct sql_request none = {.params_n = 0};
    struct plan plan, *before = engine_plan();
    struct engine *e;
    duckdb_connection c = NULL;
    enum err err;

    *out = NULL;
    err = library_load(s->conf.library, info);
    if (err)
        return err;
    e = xcalloc(1, sizeof *e);
    e->sql = s;
    e->memory_bytes = conf->memory_bytes ? conf->memory_bytes : memory_default();
    memory_cap_add(e->memory_bytes);
    io_mutex_init(&e->lock);
    err = db_open(e, conf, info);
    if (!err)
        err = engine_connect(e, &c, info);
    if (!err) {
        ddb.add_replacement_scan(e->db, replace, e, NULL);
        text_register(c);
        scan_functions_register(e, c);
        system_functions_register(e, c);
        kv_functions_register(c);
        feed_function_register(e, c);
        plan_init(&plan, s, &none);
        engine_plan_set(&plan);
        err = system_views_make(c, info);
        engine_plan_set(before);
        plan_fini(&plan);
        if (!err)
            err = lock_down(c, conf, info);
        engine_disconnect(e, &c);
    }
    if (err) {
        engine_close(&e);
        return err;
    }
    *out = e;
    return ERR_OK;
}

void engine_close(struct engine **ep)
{
    struct engine *e = *ep;
    unsigned i;

    if (!e)
        return;
    for (i = 0; i < e->idle_n; i++)
        ddb.disconnect(&e->idle[i]);
    if (e->db)
        ddb.close(&e->db);
    memory_cap_drop(e->memory_bytes);
    io_mutex_fini(&e->lock);
    free(e);
    *ep = NULL;
}

enum err engine_shared(struct sql *s, struct engine **out, duckdb_connection *c,
                       struct errinfo *info)
{
    struct engine_conf conf = {.memory_bytes = s->conf.memory_bytes,
                               .temp_bytes = s->conf.temp_bytes,
                               .threads = s->conf.threads,
                               .temp_dir = s->conf.temp_dir,
                               .dirs = s->conf.dirs,
                               .dirs_n = s->conf.dirs_n};
    enum err e = ERR_OK;

    io_mutex_lock(&s->engine_lock);
    if (!s->engine)
        e = engine_open(s, &conf, &s->engine, info);
    if (!e)
        e = engine_connect(s->engine, c, info);
    *out = s->engine;
    io_mutex_unlock(&s->engine_lock);
    return e;
}

/* Bytes that it keeps, by its own account. */
static uint64_t engine_held(struct engine *e)
{
    duckdb_connection c = NULL;
    uint64_t n = 0;
    char *error;
    struct buf b;

    if (engine_connect(e, &c, NULL))
        return 0;
    buf_init(&b, 64);
    if (!engine_ask(c,
                    "SELECT sum(memory_usage_bytes)::BIGINT::VARCHAR FROM duckdb_memory() WHERE "
                    "$1::VARCHAR IS NOT NULL",
                    SLICE_LIT("x"), &b, &error) &&
        !buf_append_u8(&b, 0))
        n = strtoull((const char *)b.ptr, NULL, 10);
    free(error);
    buf_fini(&b);
    engine_quiet(c);
    engine_disconnect(e, &c);
    return n;
}

uint64_t engine_rest(struct sql *s)
{
    struct engine *e, *over = NULL;
    uint64_t now = io_mono_ns(s->io), since, next = UINT64_MAX;
    bool rest;

    io_mutex_lock(&s->engine_lock);
    e = s->engine;
    if (e) {
        io_mutex_lock(&e->lock);
        since = e->used_n ? now : e->unused_ns;
        if (!e->rested && now >= since + REST_NS)
            over = e;
        else if (!e->rested)
            next = since + REST_NS;
        io_mutex_unlock(&e->lock);
    }
    rest = over != NULL;
    if (rest && engine_held(over) < REST_BYTES) {
        io_mutex_lock(&e->lock);
        e->rested = true;
        io_mutex_unlock(&e->lock);
        over = NULL;
    }
    if (over)
        s->engine = NULL;
    io_mutex_unlock(&s->engine_lock);
    if (rest) {
        engine_close(&over);
        memory_give_back();
        malloc_trim(0);
    }
    return next;
}

static void unused(struct engine *e)
{
    io_mutex_lock(&e->lock);
    e->used_n--;
    e->unused_ns = io_mono_ns(e->sql->io);
    io_mutex_unlock(&e->lock);
}

enum err engine_connect(struct engine *e, duckdb_connection *out, struct errinfo *info)
{
    *out = NULL;
    io_mutex_lock(&e->lock);
    if (e->idle_n)
        *out = e->idle[--e->idle_n];
    e->used_n++;
    e->rested = false;
    io_mutex_unlock(&e->lock);
    if (*out || ddb.connect(e->db, out) == DuckDBSuccess)
        return ERR_OK;
    unused(e);
    return errinfo_set(info, ERR_NO_MEMORY, "DuckDB gives no connection");
}

void engine_disconnect(struct engine *e, duckdb_connection *c)
{
    if (!*c)
        return;
    io_mutex_lock(&e->lock);
    if (e->idle_n < sizeof e->idle / sizeof *e->idle) {
        e->idle[e->idle_n++] = *c;
        *c = NULL;
    }
    io_mutex_unlock(&e->lock);
    if (*c)
        ddb.disconnect(c);
    unused(e);
}

void engine_drop(struct engine *e, duckdb_connection *c)
{
    ddb.disconnect(c);
    unused(e);
}
