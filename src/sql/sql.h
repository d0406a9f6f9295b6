/* SQL over topics. A topic is a table: its records' own columns, and a column for each field of its
 * JSON values. DuckDB, loaded from its shared library at first use, does the work; src/sql/duckdb_*
 * alone know it.
 *
 * Columns of a topic's table, in this order:
 *   topic VARCHAR, partition INTEGER, "offset" BIGINT, position UBIGINT, timestamp TIMESTAMPTZ,
 *   key VARCHAR, value VARCHAR, headers STRUCT(key VARCHAR, value VARCHAR)[], ce_type VARCHAR,
 *   ce_id VARCHAR, then the fields of the JSON values.
 * A field whose name is one of those, in any case, or that of an earlier field is the column
 * value_NAME (see infer.h). Bytes that are not UTF-8 appear as DuckDB writes blobs (\xAB); exact
 * bytes are in weir_scan('orders'), whose key, value and header values are BLOBs.
 *
 * Life of a query: sql_run copies the request and queues it; a worker thread at low priority plans
 * it, calls sink->columns once, sink->chunk for each piece of the result, sink->done once and last.
 * A callback may block: then that query waits, and one worker with it. sql_cancel ends it from any
 * thread; so does its timeout. sink->done is called exactly once for every sql_run that returned
 * ERR_OK.
 *
 * What a query sees is fixed when it begins: of each partition the records below its last stable
 * offset at that moment (transactions that are open or were aborted are not seen). Two mentions of
 * a topic in one query see the same records.
 *
 * Threads: all functions are thread-safe. None blocks but sql_close and those that say so. */
#ifndef WEIR_SQL_SQL_H
#define WEIR_SQL_SQL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "sql/value.h"

struct broker;
struct sql;
struct sql_query;
struct sql_cold;
struct topic;

/* A server that has a part of the records, asked by POST /sql. */
struct sql_shard {
    const char *name, *url; /* the url without a path: http://host:8787 */
    const char *token;      /* NULL: none */
    const char *ca_file;    /* who signs its certificate; NULL: whom this system trusts */
};

struct sql_conf {
    struct broker *broker;
    const char *library; /* of DuckDB; NULL: searched for, see sql_library_check */
    const char
        *temp_dir;       /* what does not fit in memory; made at first use; NULL: none is written */
    uint64_t temp_bytes; /* the most that is written there; 0 = 10 GiB */
    uint64_t memory_bytes; /* of all queries together; 0 = a quarter of the machine's */
    unsigned threads;      /* that DuckDB uses in all; 0 = one for each processor,
                              of half of them if not foreground */
    unsigned workers_max;  /* queries that run at once; 0 = 16 */
    unsigned queue_max;    /* that wait for a worker; 0 = 256 */
    int64_t timeout_ms;    /* of a query that names none; 0 = 60,000; -1 none */
    bool foreground;       /* queries run at normal priority, not at the lowest: for programs that
                              do nothing else */
    const struct sql_cold *cold; /* NULL: there is nothing but the local log; else see cold.h */
    const char *const *dirs;     /* folders in which the files of `cold` are, and no others */
    unsigned dirs_n;
    const struct sql_shard *shards; /* for sql_shards_named; copied */
    unsigned shards_n;
};

/* Quick: neither the library nor a thread is loaded or started before the first query. */
enum err sql_open(const struct sql_conf *conf, struct sql **out, struct errinfo *info);
/* Cancels what runs, waits for it, unloads nothing. NULL is fine. */
void sql_close(struct sql **s);
/* Loads the library if it is not loaded; blocks some 50 ms then. It is looked for at conf->library;
 * in the environment variable WEIR_DUCKDB; next to the program; in ../lib/weir and ../lib beside
 * the program's folder; by the system's loader. ERR_UNSUPPORTED says where it was looked for and
 * how to get it. A later call tries again. */
enum err sql_library_check(struct sql *s, struct errinfo *info);
/* The library's version ("v1.5.0") once it is loaded, else NULL. */
const char *sql_library_version(struct sql *s);

/* ---- queries ---- */

struct sql_param {
    /* What `value` is: SQL_NULL; SQL_BOOLEAN (i64), SQL_BIGINT (i64), SQL_DOUBLE (f64),
     * SQL_TIMESTAMP_TZ (i64, microseconds), SQL_BLOB (bytes); SQL_VARCHAR: text, which is read as
     * whatever type the place of the parameter has, as PostgreSQL's text format. */
    enum sql_type type;
    union {
        int64_t i64;
        double f64;
    };
    struct slice bytes;
};

/* An error in the asker's terms. */
struct sql_error {
    enum err code;       /* ERR_SQL for what is wrong with the statement; ERR_TIMEOUT,
                             ERR_CANCELLED, ERR_NO_MEMORY, ERR_FORBIDDEN, ERR_OVERLOADED, … */
    char sqlstate[6];    /* as PostgreSQL's: 42601 syntax, 42P01 no such table, 42703 column, … */
    uint32_t position;   /* character of the statement from 1 on; 0: not known */
    const char *message; /* a sentence, or some; never NULL in a failed done */
    const char *hint;    /* what to do; NULL: none */
};

struct sql_stats {
    uint64_t rows, bytes;   /* given to the sink; bytes as sql_request.bytes_max counts */
    uint64_t rows_scanned;  /* records looked at in the local log */
    uint64_t bytes_scanned; /* of batches there */
    uint64_t queued_ns, planned_ns, ran_ns; /* planned: as far as it is known apart */
    bool truncated;                         /* rows_max or bytes_max ended it: there was more */
};

struct sql_sink {
    /* Once, before any chunk; columns are valid until done returns. false: cancel. */
    bool (*columns)(void *arg, struct sql_query *q, const struct sql_columns *columns);
    /* Rows of the result; valid for the call. May block. false: cancel. */
    bool (*chunk)(void *arg, struct sql_query *q, const struct sql_chunk *chunk);
    /* The end: error NULL if all went well. Afterwards nothing of the request is used. */
    void (*done)(void *arg, struct sql_query *q, const struct sql_error *error,
                 const struct sql_stats *stats);
};

/* Records that stand in for a table's name, such as a transform's __input__: ranges of the local
 * log. Columns are those of the topic's table. */
struct sql_range {
    int32_t partition;
    int64_t from, to; /* offsets, `to` not included */
};
struct sql_input {
    struct slice name;
    struct topic *topic; /* referenced by the caller until done */
    const struct sql_range *ranges;
    unsigned ranges_n;
};

struct sql_request {
    struct slice
        text; /* one statement: SELECT (or WITH, VALUES, FROM, DESCRIBE, SHOW …) or EXPLAIN */
    const struct sql_param *params; /* $1 … or ? */
    unsigned params_n;
    int64_t timeout_ms; /* waiting included; 0: conf's; -1: none */
    uint64_t rows_max;  /* the result is cut there; 0: no limit */
    uint64_t bytes_max; /* the same by the bytes of the chunks' vectors and strings */
    uint64_t
        memory_bytes; /* less than conf's: the query runs in an instance with so much; 0: in the
                              one that all share */
    /* Whether the asker may read the topic; worker thread. NULL: all. A topic that may not be read
     * fails the query with ERR_FORBIDDEN, and is left out of system tables. */
    bool (*topic_allowed)(void *arg, struct slice topic);
    const struct sql_input *inputs;
    unsigned inputs_n;
    /* Not this server's records are asked but these servers', and their parts put together
     * (coordinator.h). topic_allowed is asked for the topic all the same. */
    const struct sql_shard *shards;
    unsigned shards_n; /* at most LIMIT_SQL_SHARDS */
    const struct sql_sink *sink;
    void *arg; /* of topic_allowed and the sink; must stay until done was called */
};

/* Queues a query. text, params, inputs and shards are copied. *out is the caller's reference, for sql_cancel
 * and sql_release; it may be NULL if nobody will cancel. ERR_OVERLOADED: too many wait.
 * ERR_TOO_LARGE: text beyond LIMIT_SQL_TEXT, or too many parameters. All else is told to done. */
enum err sql_run(struct sql *s, const struct sql_request *rq, struct sql_query **out,
                 struct errinfo *info);
/* Those of conf's shards that have these names, in order; the one name * means all. The strings are
 * s's. out has room for n, or for LIMIT_SQL_SHARDS. ERR_INVALID names what is not there. */
enum err sql_shards_named(struct sql *s, const char *const *names, unsigned n,
                          struct sql_shard *out, unsigned *out_n, struct errinfo *info);
/* Ends it soon: done(ERR_CANCELLED) unless it was over. Any thread, also in the sink's callbacks;
 * does not wait. */
void sql_cancel(struct sql_query *q);
/* Ends the caller's reference, before or after done; nulls. */
void sql_release(struct sql_query **q);

/* What a prepared statement is to have: for pgwire's Describe. `request`: text, params (may be
 * fewer than there are: a hint of types), topic_allowed, timeout. done is called once on a worker
 * thread; params: the parameters' types (SQL_NULL: cannot be told; names are empty), columns: the
 * result's. Both are NULL when error is not. */
typedef void (*sql_described_fn)(void *arg, const struct sql_error *error,
                                 const struct sql_columns *params,
                                 const struct sql_columns *columns);
enum err sql_describe(struct sql *s, const struct sql_request *rq, sql_described_fn done,
                      struct sql_query **out, struct errinfo *info);

/* For metrics. */
struct sql_totals {
    uint64_t queries, failed, cancelled, rows, rows_scanned, bytes_scanned;
    uint32_t running, waiting;
    bool loaded;
};
void sql_totals_get(struct sql *s, struct sql_totals *out);

#endif
