/* What the files of src/sql share; nothing of DuckDB. Not for anyone else.
 *
 * Locks, in this order: sql.lock (queue, workers, queries), sql.schemas_lock (what is known of
 * topics' fields), sql.engine_lock (loading the library, opening instances). None is held while a
 * query runs or a callback of the caller's is called. */
#ifndef WEIR_SQL_INT_H
#define WEIR_SQL_INT_H

#include <stdatomic.h>

#include "base/arena.h"
#include "base/assert.h"
#include "base/list.h"
#include "base/map.h"
#include "base/tbl/limits.h"
#include "broker/broker.h"
#include "io/io.h"
#include "io/thread.h"
#include "sql/cold.h"
#include "sql/infer.h"
#include "sql/kept.h"
#include "sql/scan.h"
#include "sql/sql.h"

#define SQL_MAGIC       0x53514c30u
#define SQL_QUERY_MAGIC 0x53514c51u

struct engine;
struct fan;
struct plan;

/* What is known of the JSON fields of one topic. schemas_lock. */
struct schema {
    uint8_t uuid[16];
    struct infer infer;
    int64_t *seen; /* by partition: records below it were looked at or passed by */
    uint32_t seen_n;
    uint64_t looked_ns; /* when, 0: never */
};

struct sql {
    uint32_t magic;
    struct sql_conf conf; /* strings are copies */
    struct io *io;
    _Atomic unsigned temp_next; /* names the next instance's folder of what it spills */

    struct io_mutex lock;
    struct io_cond idle;      /* a worker waits for a query */
    struct io_cond change;    /* for the watch: an earlier deadline, a cancelled query, the end */
    struct list_head waiting; /* struct sql_query */
    struct list_head running; /* the same */
    uint32_t waiting_n, running_n, workers_n, workers_idle;
    struct sql_worker *workers; /* conf.workers_max of them */
    struct io_thread *watch;    /* ends queries whose time is over */
    uint64_t watch_ns;          /* when it looks again; 0: it has not begun */
    bool closing;

    struct io_mutex schemas_lock;
    struct map schemas; /* struct schema by uuid */

    struct kept shapes, trees; /* of statements that were run */
    struct zones *zones;

    struct io_mutex engine_lock;
    struct engine *engine; /* the shared instance; NULL until the first query */

    _Atomic uint64_t st_queries, st_failed, st_cancelled, st_rows, st_rows_scanned,
        st_bytes_scanned;
};

enum query_state { QUERY_WAITING, QUERY_RUNNING, QUERY_DONE };
struct sql_query {
    uint32_t magic;
    struct list_node link; /* sql.waiting or running */
    struct sql *sql;
    atomic_uint refs;
    enum query_state state; /* sql.lock */
    _Atomic bool cancelled, timed_out;
    uint64_t queued_ns, started_ns, deadline_ns; /* deadline UINT64_MAX: none */
    struct sql_request rq;                       /* text, params and inputs are copies */
    sql_described_fn described;                  /* not a query but a description */
    void (*work)(struct sql_query *q); /* what the worker calls instead of query_run: it sets
                                          rq.text and calls that, or the sink's done */
    struct sql_merge *merge; /* the rows are partials: see there; NULL: they are the answer */
    void *copies;
    /* How to interrupt what runs; lock guards it. */
    struct io_mutex run_lock;
    void (*interrupt)(void *run);
    void *run;
    void *result; /* duckdb_result.c's, for arrow */
};

/* The groups of a live query, in tables of a connection of their own, and the statements that keep
 * them: see live.c. What a query with this gives is not its rows but those of `final`, once its rows
 * were merged. One query at a time. */
struct sql_merge {
    struct engine *engine;
    void *connection;                            /* NULL: not begun */
    bool begun;                                  /* `live state` is there */
    bool silent;                                 /* give nothing */
    bool dry;                                    /* and keep nothing: see whether it can be done */
    char *late, *merged, *next, *forget, *final; /* late and forget may be NULL */
    uint64_t groups_max;
};
/* Gives the connection back with all that it has. */
void query_merge_end(struct sql_merge *m);

/* Checks sizes: what sql_run answers at once. */
enum err sql_request_check(const struct sql_request *rq, struct errinfo *info);
/* Copies all that the request points to, in one piece, which is the caller's to free. */
void *sql_request_copy(struct sql_request *rq);
/* sql_run with work of one's own. */
enum err sql_run_work(struct sql *s, const struct sql_request *rq,
                      void (*work)(struct sql_query *q), struct sql_query **out,
                      struct errinfo *info);

/* The worker's part: plans and runs q, and calls its sink, done included. duckdb_query.c */
void query_run(struct sql_query *q);
/* Tells a query that never ran that it was cancelled or its time is over. */
void query_refuse(struct sql_query *q);
void engine_close(struct engine **e);
/* Gives memory back if nobody used the shared instance for a while, which is closed if it keeps much
 * itself. When to ask again; UINT64_MAX: not before it is used. */
uint64_t engine_rest(struct sql *s);
/* duckdb_load.c. path NULL: searched for. */
enum err library_load(const char *path, struct errinfo *info);
const char *library_version(void); /* NULL: not loaded */

/* An error under way to the asker. */
struct fault {
    enum err code;
    char sqlstate[6];
    uint32_t position;
    char *message, *hint; /* heap; may be NULL */
};
void fault_set(struct fault *f, enum err code, const char *sqlstate, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void fault_hint(struct fault *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* From an errinfo. */
void fault_err(struct fault *f, enum err code, const struct errinfo *info);
void fault_clear(struct fault *f);

/* ---- fields of topics: schema.c ---- */

/* Columns of a topic's table: those of records, those of the lake's table (cold may be NULL), then
 * what else is known of the fields (looked for in new records if that is some time ago, or
 * `thoroughly`); from *learnt_from on. *out is the caller's to free with columns_free. */
void schema_columns(struct sql *s, const struct scan_view *view,
                    const struct sql_cold_snapshot *cold, bool thoroughly, struct sql_column **out,
                    uint32_t *n, uint32_t *learnt_from);
/* The columns of records alone. exact: bytes as BLOBs. */
struct sql_column *columns_record(bool exact, uint32_t *n);
/* A value did not fit its field's type: the type is wider from now on, and is returned. */
enum sql_type schema_misfit(struct sql *s, struct topic *t, struct slice field,
                            const struct field_value *v);
/* A value did not fit its field's column in the table, and there is none for its text. True: from now
 * on schema_columns gives one. */
bool schema_misfit_learn(struct sql *s, struct topic *t, const struct sql_column *c,
                         const struct field_value *v);
void schemas_init(struct sql *s);
void schemas_fini(struct sql *s);
/* SQL's name of a column's type; duckdb_scan.c. */
const char *column_type_name(const struct sql_column *c);
void columns_free(struct sql_column **columns, uint32_t n);
struct sql_column *columns_copy(const struct sql_column *columns, uint32_t n);

/* ---- plans: plan.c ---- */

/* One mention of records: a topic's table, or an input's. */
struct plan_table {
    struct plan *plan;
    char *name;
    struct scan_view view; /* all that the query may see */
    struct scan_view cut;  /* what is read of the local log */
    struct sql_column *columns;
    uint32_t columns_n;
    uint32_t learnt_from; /* columns from here on are inferred: a value that does not fit its
                             type is a fault, not NULL */
    bool learns;          /* columns are what schema_columns gave */
    bool has_cold;        /* cold is set and has files */
    struct sql_cold_snapshot cold;
    struct sql_at past; /* SQL_AT_POSITION, SQL_AT_TIME_MS: records up to it, and it, are seen */
    bool counted;       /* its mention stands for the local log alone: the files' rows are known */
    bool asked;         /* DuckDB asked for it by its name */
    bool in_order;      /* rows come as the view has them: one thread reads */
    _Atomic uint64_t rows, bytes; /* scanned */
};

/* What a statement wants of a table, by name: the widest of all its mentions. */
struct plan_bounds {
    char *name;
    struct sql_bounds b;
    char topic[256];  /* stream_messages: this one only; "": all */
    int32_t mentions; /* bounds.c: those that were understood, less those that there are */
};

#define PLAN_TABLES_MAX 1024u
struct plan {
    struct sql *sql;
    const struct sql_request *rq;
    struct plan_table *tables[PLAN_TABLES_MAX];
    uint32_t tables_n;
    struct plan_bounds *bounds;
    uint32_t bounds_n;
    struct fan *fan;      /* the answers of shards: the table `partials`; NULL: none are asked */
    bool thoroughly;      /* look at more records for fields */
    _Atomic bool again;   /* a value did not fit a learnt type, or records went from the local log
                             into files meanwhile: plan and run again */
    struct io_mutex lock; /* fault, set by threads that scan */
    struct fault fault;   /* the first */
};

void plan_init(struct plan *p, struct sql *s, const struct sql_request *rq);
void plan_fini(struct plan *p);
/* As many as DuckDB gives at once. */
#define PLAN_FEW_ROWS 2048
/* What json_serialize_sql says of a statement. */
enum plan_tree_error {
    PLAN_TREE_OK,
    PLAN_TREE_SYNTAX,   /* message, position */
    PLAN_TREE_KIND,     /* no SELECT */
    PLAN_TREE_MANY,     /* more than one statement, or none */
    PLAN_TREE_FUNCTION, /* it calls what it may not: message is the function's name */
};
struct plan_tree {
    enum plan_tree_error error;
    char *message; /* heap */
    bool position_known;
    size_t position; /* byte offset */
    /* Heap; not NULL: the statement asks for nothing but how many rows this table has, and calls the
     * answer so. */
    char *count_of, *count_as;
    bool few; /* the answer has PLAN_FEW_ROWS at most, whatever the tables have */
};
/* Checks the statement and finds what it demands of each table (p->bounds); what is not understood
 * narrows nothing. bounds.c */
void plan_tree_read(struct plan *p, struct slice json, int64_t now_ms, struct plan_tree *out);
void plan_tree_fini(struct plan_tree *t);
/* A time as SQL writes it: the zone may be hours alone, "+00". bounds.c */
bool time_read(struct slice s, int64_t *ms);
/* What the statement's only table of this name is asked for, known without its tree. */
void plan_bounds_put(struct plan *p, const char *name, const struct sql_bounds *b);
/* The table of this name: *out NULL and ERR_OK: no topic is called so. Errors are in p->fault. */
enum err plan_table_find(struct plan *p, const char *name, struct plan_table **out,
                         uint32_t *index);
/* The columns of a topic's table as a statement sees them now; the caller's: columns_free. */
enum err plan_topic_columns(struct plan *p, struct topic *t, struct sql_column **out, uint32_t *n);
/* All topics that may be read, for stream_messages: fn with each one's table. */
enum err plan_messages(struct plan *p, enum err (*fn)(void *arg, struct plan_table *t, uint32_t i),
                       void *arg);
/* Raw records of a topic within bounds: weir_scan. */
enum err plan_scan_open(struct plan *p, const char *name, const struct sql_bounds *b,
                        struct plan_table **out);
/* Of no topic yet; NULL: too many. */
struct plan_table *plan_table_new(struct plan *p, const char *name);
void plan_fault(struct plan *p, enum err code, const struct errinfo *info);
bool plan_allowed(const struct plan *p, const char *topic);
/* Names of topics near to a name, for a hint: "orders", "order-items"; empty if there are none. */
void plan_near(struct plan *p, const char *name, char *out, size_t cap);
/* Columns of the plan's tables near to a name. */
void plan_near_columns(struct plan *p, const char *name, char *out, size_t cap);

/* ---- text: rewrite.c ---- */

/* The statement as it is handed over: `a->>'b'` in parentheses, as PostgreSQL binds it; without a
 * semicolon at its end. */
struct rewrite {
    char *full;   /* all of it, NUL-terminated */
    char *text;   /* behind EXPLAIN …, if it begins so; within full */
    size_t len;   /* of text */
    uint32_t *at; /* byte offsets in full of what was put in, ascending */
    uint32_t at_n;
};
void rewrite_make(struct rewrite *r, struct slice text);
void rewrite_fini(struct rewrite *r);
/* The statement with NULL for each parameter (from 1 on), as a text where its type is not known; the
 * caller frees. */
char *rewrite_without_params(const char *text, bool (*known)(void *arg, uint64_t i), void *arg);
/* Character (from 1) in the original of a byte offset in `full`. */
uint32_t rewrite_origin(const struct rewrite *r, struct slice original, size_t offset);

#endif
