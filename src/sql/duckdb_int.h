/* DuckDB for the files src/sql/duckdb_*.c: its C interface as a table of functions, filled in from
 * the shared library when it is loaded, and what those files share. Nobody else includes this. */
#ifndef WEIR_SQL_DUCKDB_INT_H
#define WEIR_SQL_DUCKDB_INT_H

#include <duckdb.h>

#include "sql/arrow.h"
#include "sql/sql_int.h"

struct duckdb_api {
#define F(name) __typeof__(duckdb_##name) *name;
#include "sql/tbl/duckdb.h"
#undef F
};
/* Set once, under a lock in duckdb_load.c, before anything uses it; never unloaded. */
extern struct duckdb_api ddb;

/* ---- memory: duckdb_memory.c ---- */

/* Takes the library's allocator in charge; once, before anything of it is used. */
void memory_guard(void *lib);
/* An instance with this limit opens, or has closed. */
void memory_cap_add(uint64_t limit);
void memory_cap_drop(uint64_t limit);
/* Gives back what is free but kept. */
void memory_give_back(void);

/* ---- instances: duckdb_engine.c ---- */

struct engine_conf {
    uint64_t memory_bytes, temp_bytes;
    unsigned threads;
    const char *temp_dir;
    const char *const *dirs;
    unsigned dirs_n;
    bool writes; /* files in dirs may be written: not for queries of others */
};
struct engine {
    duckdb_database db;
    uint64_t memory_bytes; /* its limit */
    struct sql *sql;
    struct io_mutex lock;
    duckdb_connection idle[32]; /* lock, as all below */
    unsigned idle_n, used_n;    /* connections */
    uint64_t unused_ns;         /* since when none is used */
    bool rested;                /* looked at since then, and small */
};
/* Loads the library if need be. */
enum err engine_open(struct sql *s, const struct engine_conf *conf, struct engine **out,
                     struct errinfo *info);
/* The instance that queries share, which stays while a connection of it is used, with one. */
enum err engine_shared(struct sql *s, struct engine **out, duckdb_connection *c,
                       struct errinfo *info);
/* A connection of one's own; given back it is used again, dropped it ends with all that it has. */
enum err engine_connect(struct engine *e, duckdb_connection *out, struct errinfo *info);
void engine_disconnect(struct engine *e, duckdb_connection *c);
void engine_drop(struct engine *e, duckdb_connection *c);
/* Ends what the last statement left running: threads of a stream that was not read to its end, and
 * the states of its scans, which point into its plan. */
void engine_quiet(duckdb_connection c);
/* The one text that a statement with a text as its parameter gives, appended to out. ERR_TOO_LARGE:
 * out's maximum. ERR_INTERNAL: *error is what DuckDB says of it, the caller's to free (else NULL). */
enum err engine_ask(duckdb_connection c, const char *text, struct slice param, struct buf *out,
                    char **error);
/* Runs statements that give nothing. */
enum err engine_exec(duckdb_connection c, const char *text, struct errinfo *info);
/* The caller's plan while it prepares and runs statements on this thread; NULL: none. What a
 * statement may read comes from there. */
struct plan *engine_plan(void);
void engine_plan_set(struct plan *p);
duckdb_logical_type engine_type(duckdb_type t);

/* ---- table functions ---- */

void scan_functions_register(struct engine *e, duckdb_connection c);   /* duckdb_scan.c */
void system_functions_register(struct engine *e, duckdb_connection c); /* duckdb_system.c */
void kv_functions_register(duckdb_connection c);                       /* duckdb_kv.c */
/* The statement that is the table of a bucket, "settings@kv"; false: it is no such name. */
bool kv_source(struct plan *p, const char *name, struct buf *out);
void feed_function_register(struct engine *e, duckdb_connection c); /* duckdb_feed.c */
enum err system_views_make(duckdb_connection c, struct errinfo *info);
/* A table's rows without a statement, by one thread: what weir_table gives, without DuckDB's planning.
 * column: the numbers of those wanted, borrowed. Chunks are NULL at the end, and then *failed says
 * whether it is one (the plan's fault or `again` is set); valid until the next call. */
struct direct;
struct direct *direct_new(struct plan_table *t, const uint32_t *column, uint32_t n);
duckdb_data_chunk direct_next(struct direct *d, bool *failed);
void direct_free(struct direct **d);
/* As result_init wants them; `of` is the struct direct. */
const char *direct_name(void *of, idx_t i);
duckdb_logical_type direct_type(void *of, idx_t i);
/* The text of a table that has files and local records: what `query` is given. duckdb_scan.c */
enum err table_source(const struct plan_table *t, uint32_t index, struct buf *out);
/* Of how many of its files some rows may be below the log's start. */
uint32_t table_files_below(const struct plan_table *t);
/* A list of paths, or of anything, as SQL text. */
enum err text_quote(struct buf *out, const char *s, char quote);
enum err text_schema(struct buf *out, const struct sql_column *columns, uint32_t n);

/* ---- filling vectors: duckdb_fill.c ---- */

struct fill_column {
    const struct sql_column *column;
    duckdb_vector vector;
    uint32_t field; /* number in the set */
    bool textless;  /* what does not fit is to be told: no column has its text */
};
struct fill {
    struct plan_table *table;
    struct fill_column *columns;
    uint32_t columns_n;
    struct field_set set;
    struct field_value *values; /* one a field of the set */
    bool wants_ce;
};
void fill_init(struct fill *f, struct plan_table *t, uint32_t columns_n);
/* Once all columns are set. */
void fill_ready(struct fill *f);
void fill_fini(struct fill *f);
/* Rows into the columns' vectors. false: a value does not fit a learnt type. */
bool fill_rows(struct fill *f, struct scan *s, const struct scan_rows *rows);
void string_put(duckdb_string_t *dst, struct slice s);
void vector_null(duckdb_vector v, uint64_t row);

/* ---- results: duckdb_result.c ---- */

struct result {
    struct arena arena; /* types */
    struct sql_columns columns;
    duckdb_logical_type *types;
    struct sql_vector *vectors; /* of a chunk */
    uint32_t vectors_n;
    duckdb_connection connection;
    duckdb_arrow_options arrow;
    duckdb_data_chunk chunk; /* the one given out */
};
/* Columns by callback, so that statements and results share it. */
typedef const char *(*column_name_fn)(void *of, idx_t i);
typedef duckdb_logical_type (*column_type_fn)(void *of, idx_t i);
enum err result_init(struct result *r, duckdb_connection c, idx_t n, column_name_fn name,
                     column_type_fn type, void *of, struct errinfo *info);
void result_fini(struct result *r);
/* Views of a chunk's vectors, valid while it is. */
void result_chunk(struct result *r, duckdb_data_chunk chunk, struct sql_chunk *out);
uint64_t result_chunk_bytes(const struct sql_chunk *c);

#endif
