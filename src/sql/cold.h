/* What sql asks of the lake, as a table of functions, so that neither knows the other's inside. The
 * lake fills it in; the server hands it to sql_open.
 *
 * A topic's records are those in the Parquet files of its snapshot, and those in the local log at or
 * above the snapshot's boundary of each partition: each exactly once. The files and the boundaries
 * are taken together; sql joins them into one table.
 *
 * Threads: worker threads of sql and parquet; calls may overlap. */
#ifndef WEIR_SQL_COLD_H
#define WEIR_SQL_COLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "sql/column.h"

struct topic;

/* As of when. */
enum sql_at_kind { SQL_AT_NOW, SQL_AT_SNAPSHOT, SQL_AT_TIME_MS, SQL_AT_POSITION };
struct sql_at {
    enum sql_at_kind kind;
    int64_t value; /* snapshot id, milliseconds since 1970 UTC, position */
};

/* What the query wants at most; a hint: files that have nothing of it may be left out. */
struct sql_bounds {
    int32_t partition;                   /* -1: all */
    int64_t offset_min, offset_max;      /* both included */
    uint64_t position_min, position_max; /* both included */
    int64_t ts_min_ms, ts_max_ms;        /* both included */
};

struct sql_cold_file {
    const char *path; /* a local file within sql_conf.dirs */
    uint64_t rows;
    bool below; /* some of its rows may be below `start` */
};

struct sql_cold_snapshot {
    int64_t id; /* for people */
    const struct sql_cold_file *files;
    uint32_t files_n;
    /* First offset of each partition that is not in the files: the local log is read from there on.
     * For SQL_AT_… of the past: `end` (may be NULL: none) has the offset behind the last to see. */
    const int64_t *boundary, *end;
    /* Of each partition: rows of files that are `below` are not to be seen below it. */
    const int64_t *start;
    uint32_t start_n;
    uint32_t partitions_n;
    /* The table's columns, field ids included: record columns as named in column.h that the files
     * have, and the fields of JSON values. The local log gives the same. Files that do not have a
     * column (by its field id) have NULL there. */
    const struct sql_column *columns;
    uint32_t columns_n;
    /* Each file has all columns, under these names and with these types: they need not be looked
     * for by their ids. */
    bool uniform;
    void *private; /* the lake's: what keeps the files from being deleted, and owns the arrays */
};

struct sql_snapshot_row {
    struct slice topic;
    int64_t snapshot_id, parent_id; /* parent -1: none */
    int64_t sequence, committed_ms, schema_id;
    struct slice operation;        /* append, replace, delete … */
    int64_t records, files, bytes; /* in all, after it */
    struct slice summary;          /* JSON object of the whole summary */
};

struct sql_cold {
    void *arg;
    /* ERR_NOT_FOUND: the topic has no table: the local log is all there is. Must not block longer
     * than reading metadata takes. */
    enum err (*snapshot)(void *arg, struct topic *t, const struct sql_at *at,
                         const struct sql_bounds *bounds, struct sql_cold_snapshot *out,
                         struct errinfo *info);
    void (*release)(void *arg, struct sql_cold_snapshot *s);
    /* Rows of weir.snapshots: fn for each snapshot of each topic's table that allowed() admits. */
    void (*snapshots)(void *arg, bool (*allowed)(void *arg, struct slice topic), void *allowed_arg,
                      void (*fn)(void *fn_arg, const struct sql_snapshot_row *row), void *fn_arg);
};

#endif
