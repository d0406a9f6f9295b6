/* Parquet files for the lake, written and read by DuckDB in an instance of its own: not the one that
 * queries run in, with no access but to the folder named. Calls block; any thread of the caller's,
 * but not a loop. What is written is not synced: the caller syncs the file and its folder.
 * sql_library_check's errors come from here, too. */
#ifndef WEIR_SQL_PARQUET_H
#define WEIR_SQL_PARQUET_H

#include "base/err.h"
#include "sql/column.h"
#include "sql/sql.h"

struct parquet;

/* memory_bytes: 0 = 512 MiB; threads: 0 = 1. dirs: what may be read and written, and below. */
struct parquet_conf {
    struct sql *sql; /* whose broker and library are used */
    uint64_t memory_bytes;
    unsigned threads;
    const char *temp_dir; /* NULL: none */
    const char *const *dirs;
    unsigned dirs_n;
};
/* Quick: the library is loaded by the first call that needs it. */
enum err parquet_open(const struct parquet_conf *conf, struct parquet **out, struct errinfo *info);
void parquet_close(struct parquet **p); /* before sql_close */

/* ---- writing ---- */

struct parquet_column_stats {
    const char *name;      /* as the column's; headers: headers.element.key and so on */
    int32_t field_id;      /* of the leaf; 0: none */
    uint64_t values;       /* nulls included */
    uint64_t nulls;        /* UINT64_MAX: not told */
    uint64_t bytes;        /* compressed, in the file */
    bool has_bounds;       /* the next two are set (long values have none) */
    struct slice min, max; /* as DuckDB writes the type as text; of blobs hexadecimal digits */
    bool has_nan;          /* FLOAT, DOUBLE: a NaN is among them */
};
struct parquet_stats {
    uint64_t rows, bytes, footer_bytes;
    uint32_t columns_n; /* leaves */
    const struct parquet_column_stats *columns;
    void *private;
};
void parquet_stats_fini(struct parquet_stats *s);

struct parquet_order {
    uint32_t column; /* of columns */
    bool descending, nulls_last;
};
struct parquet_write {
    struct topic *topic;
    const struct sql_range
        *ranges; /* of its partitions; records not visible to readers of committed
                                       ones (aborted, control) are left out */
    unsigned ranges_n;
    const struct sql_column *columns;
    uint32_t columns_n;
    const struct parquet_order *order; /* none: by partition and offset, as the ranges come */
    uint32_t order_n;
    const char *path;        /* must not be there */
    const char *codec;       /* "zstd" (NULL), "snappy", "uncompressed" */
    uint32_t row_group_rows; /* 0 = as many as have 32 MiB, at most 61,440 */
    /* NULL, or a condition in SQL over the columns: only such rows (one value of a partition spec) */
    const char *where;
    const char *schema; /* Iceberg's schema as JSON, for the footer; NULL: none */
};
/* ERR_EXISTS: the path is there. ERR_OFFSET_RANGE: a range is not in the local log. Otherwise what
 * reading the log or writing the file answers. On an error there is no file. */
enum err parquet_write(struct parquet *p, const struct parquet_write *w, struct parquet_stats *out,
                       struct errinfo *info);

/* Rewrites files into one: for compaction, with the columns of today (found by field id; NULL where
 * a file has none), without the rows for which `drop` (a condition, may be NULL) holds. */
struct parquet_rewrite {
    const char *const *files;
    uint32_t files_n;
    const struct sql_column *columns;
    uint32_t columns_n;
    const struct parquet_order *order; /* none: any order */
    uint32_t order_n;
    const char *drop;
    const char *path, *codec;
    const char *schema; /* as above */
    uint32_t row_group_rows;
};
enum err parquet_rewrite(struct parquet *p, const struct parquet_rewrite *w,
                         struct parquet_stats *out, struct errinfo *info);

/* ---- reading back, for replay ---- */

struct record_header; /* journal/batch.h */
struct parquet_record {
    int32_t partition;
    int64_t offset, timestamp_ms;
    uint64_t position;       /* 0 if the files have none */
    struct slice key, value; /* NULL ptr: null */
    const struct record_header *headers;
    unsigned headers_n;
};
struct parquet_read {
    const char *const *files;
    uint32_t files_n;
    const struct sql_column *columns; /* of the table: record columns are found in it by `source` */
    uint32_t columns_n;
    int32_t partition;
    int64_t from, to; /* offsets, `to` not included */
};
/* Calls fn for each record in order of offset; fn returns false to stop. Views are valid for the
 * call. Row groups that have none of the range are not read. */
enum err parquet_read(struct parquet *p, const struct parquet_read *r,
                      bool (*fn)(void *arg, const struct parquet_record *rec), void *arg,
                      struct errinfo *info);

/* The same, one record at a time, out of one file, as they lie in it; for many at once. */
struct parquet_cursor;
struct parquet_scan {
    const char *file;
    const struct sql_column *columns; /* of the table */
    uint32_t columns_n;
    int32_t partition;
    int64_t from, to;      /* offsets, `to` not included */
    int64_t ts_min_ms;     /* only records with at least this timestamp; INT64_MIN: all */
    uint64_t position_min; /* and this position */
    bool sorted;           /* by offset, if they do not lie in that order */
    bool places_only;      /* without keys, values and headers */
};
enum err parquet_cursor_open(struct parquet *p, const struct parquet_scan *s,
                             struct parquet_cursor **out, struct errinfo *info);
/* *out is valid until the next call. ERR_EOF behind the last. */
enum err parquet_cursor_next(struct parquet_cursor *c, const struct parquet_record **out,
                             struct errinfo *info);
void parquet_cursor_close(struct parquet_cursor **c);

/* Any SELECT over the files that the instance may read: for maintenance and tests. chunk as in
 * struct sql_sink. */
enum err parquet_query(struct parquet *p, const char *text,
                       bool (*chunk)(void *arg, const struct sql_columns *columns,
                                     const struct sql_chunk *chunk),
                       void *arg, struct errinfo *info);

#endif
