/* The lake: a topic with lake.enable is an Iceberg table, too.
 *
 * One thread at low priority goes around the topics. When as many bytes or seconds wait as the topic
 * says, it takes the records between the offsets that the table's snapshot covers and the last
 * stable ones, writes them into a Parquet file for each partition of the table, uploads the files
 * and commits a snapshot whose summary has the new covered offsets (weir.offsets: the next offset of
 * each of the topic's partitions).
 *
 * Exactly once: what is covered is known from the snapshot alone. The covered offsets and the files
 * that hold the records become visible in one change of the table's current metadata, so a record
 * below them is in the table once, and one above them is not in it. After a crash, or a commit whose
 * outcome is not known, the table is loaded again and the next flush begins where its snapshot says;
 * files of the attempt that did not come to be are orphans, which maintenance removes.
 *
 * Parquet is written by whoever fills in struct lake_parquet (the server: src/sql), so that the lake
 * knows no query engine.
 *
 * Threads: everything here may be called by any thread; lake_request and what reads state never
 * block on storage. lake_close waits for the lake's thread. */
#ifndef WEIR_LAKE_LAKE_H
#define WEIR_LAKE_LAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "lake/catalog.h"
#include "lake/store.h"
#include "lake/value.h"

struct broker;
struct lake;
struct record_header; /* journal/batch.h */
struct record;        /* journal/batch.h */
struct topic;
struct topic_conf;

/* ---- Parquet, by somebody else ---- */

enum lake_source {
    LAKE_PARTITION, /* int */
    LAKE_OFFSET,    /* long */
    LAKE_POSITION,  /* long */
    LAKE_TIMESTAMP, /* timestamptz */
    LAKE_KEY,       /* binary */
    LAKE_VALUE,     /* binary */
    LAKE_HEADERS,   /* list of struct of key (string) and value (binary) */
    LAKE_CE_TYPE,   /* string: the header ce_type */
    LAKE_CE_ID,     /* string: the header ce_id */
    LAKE_FIELD,     /* a field of the JSON value */
    LAKE_MISFIT,    /* text of the same field where it does not fit the type of its column */
};
struct lake_column {
    const char *name;
    enum lake_source source;
    enum ice_kind kind;
    enum ice_kind kind_of; /* LAKE_MISFIT: of the field's own column */
    const char *field;     /* LAKE_FIELD, LAKE_MISFIT: the member's name */
    int32_t id;
    int32_t child_id[3]; /* headers: element, key, value */
    bool required;
};
/* Iceberg's schema of these columns as JSON, as its Java library puts it into the footers of Parquet
 * files (iceberg.schema), where some readers look for the ids of an older file's columns. For free. */
char *lake_columns_json(const struct lake_column *c, uint32_t n);
struct lake_range {
    int32_t partition;
    int64_t from, to; /* offsets, `to` not included */
};
struct lake_leaf {
    int32_t id; /* field id of a primitive column */
    uint64_t values, bytes;
    uint64_t nulls; /* UINT64_MAX: not told */
    bool has_bounds, has_nan;
    struct slice min, max; /* as DuckDB writes the type as text; of blobs hexadecimal digits */
};
struct lake_file_stats {
    uint64_t rows, bytes;
    uint32_t leaves_n;
    struct lake_leaf *leaf;
    void *private;
};
/* What a field's values were: bits, as in sql/infer.h. */
#define LAKE_SEEN_BOOLEAN 1u
#define LAKE_SEEN_WHOLE   2u
#define LAKE_SEEN_NUMBER  4u
#define LAKE_SEEN_STRING  8u
#define LAKE_SEEN_NESTED  16u
/* A record of a file, and which of them are wanted: those of a partition with offsets in [from, to),
 * with at least this timestamp (INT64_MIN: any) and position (0: any). */
struct lake_record {
    int64_t offset, timestamp_ms;
    uint64_t position;
    struct slice key, value; /* NULL ptr: null */
    const struct record_header *headers;
    unsigned headers_n;
};
struct lake_cursor_conf {
    const char *path;
    const struct lake_column *columns;
    uint32_t columns_n;
    int32_t partition;
    int64_t from, to, ts_min_ms;
    uint64_t position_min;
    bool sorted;      /* by offset; else as they lie in the file */
    bool places_only; /* without keys, values and headers */
};
/* How rows are to lie. */
struct lake_order {
    uint32_t column; /* of the columns */
    bool descending, nulls_last;
};
/* Files into one. */
struct lake_rewrite {
    const char *const *files;
    uint32_t files_n;
    const struct lake_column *columns;
    uint32_t columns_n;
    const struct lake_range *drop; /* rows that are left out */
    uint32_t drop_n;
    const struct lake_order *order; /* none: by partition and offset */
    uint32_t order_n;
    const char *path; /* of the new file */
};
struct lake_parquet {
    void *arg;
    /* Committed records of the ranges, in their order or the one that is given, into a new file at
     * path. No file after an error. *out is to be ended by stats_fini. */
    enum err (*write)(void *arg, struct topic *t, const struct lake_range *r, uint32_t ranges_n,
                      const struct lake_column *c, uint32_t columns_n,
                      const struct lake_order *order, uint32_t order_n, const char *path,
                      struct lake_file_stats *out, struct errinfo *info);
    enum err (*rewrite)(void *arg, const struct lake_rewrite *w, struct lake_file_stats *out,
                        struct errinfo *info);
    void (*stats_fini)(void *arg, struct lake_file_stats *s);
    /* A file's records one after the other; *out of next is valid until the one after it. ERR_EOF.
     * NULL: older records are not read from the lake. Any thread, each cursor one at a time. */
    enum err (*cursor_open)(void *arg, const struct lake_cursor_conf *c, void **out,
                            struct errinfo *info);
    enum err (*cursor_next)(void *cursor, const struct lake_record **out, struct errinfo *info);
    void (*cursor_close)(void *cursor);
    /* Fields of JSON values, learnt one value after another. */
    void *(*fields_new)(void *arg);
    void (*fields_value)(void *fields, struct slice value);
    void (*fields_each)(void *fields, void (*fn)(void *fn_arg, const char *name, unsigned seen),
                        void *fn_arg);
    void (*fields_free)(void *fields);
    /* What a column of the source LAKE_FIELD, LAKE_CE_TYPE or LAKE_CE_ID has of a record, as write()
     * puts it into the file; bytes in *out point into the record or into text, which is cleared. */
    enum err (*column_value)(void *arg, const struct lake_column *c, const struct record *r,
                             struct ice_value *out, struct buf *text);
};

/* ---- the lake ---- */

struct lake_conf {
    struct broker *broker;
    struct store_conf store; /* texts must stay while the lake is open; .stop is the lake's */
    struct catalog_rest_conf catalog; /* uri NULL: tables are found in the store itself */
    const char *dir;                  /* folder for files on their way, made if missing */
    const char *namespace_;           /* of the tables: "weir" */
    struct lake_parquet parquet;
    const struct log *log; /* may be NULL */
    uint64_t file_bytes;   /* what compaction aims at; 0 = 128 MiB */
    /* Folder of archived files below a table's data folder, NULL: "archive"; and their class on S3,
     * NULL: as all others. */
    const char *archive, *archive_class;
    /* Records in memory while more files overlap than are read at once; 0 = 16 MiB. */
    uint64_t merge_bytes;
    uint64_t cache_bytes;  /* copies of objects that readers asked for; 0 = 1 GiB */
    int64_t orphan_age_ms; /* files that nothing names are removed when so old; 0 = 1 day */
    /* For views alone: nothing is written or looked after, and the log's readers get nothing of it. */
    bool read_only;
};
/* Quick: neither the store is opened nor a thread started before a topic is enabled. */
enum err lake_open(const struct lake_conf *conf, struct lake **out, struct errinfo *info);
/* Gives up what is under way (it goes on after the next start). *l may be NULL. */
void lake_close(struct lake **l);

enum lake_job {
    LAKE_FLUSH,   /* all that is there at the time of the request */
    LAKE_COMPACT, /* small files become large ones */
    LAKE_EXPIRE,  /* old snapshots, then orphans */
    LAKE_JOBS,
};
/* Asks for a job; *ticket is compared with done in lake_status. ERR_TOPIC_NOT_FOUND; ERR_CONFLICT:
 * the topic's lake.enable is false; ERR_LIMIT. */
enum err lake_request(struct lake *l, struct slice topic, enum lake_job job, uint64_t *ticket,
                      struct errinfo *info);
/* Waits for a job that was asked for; its outcome. timeout_ms -1: for ever. ERR_TIMEOUT,
 * ERR_TOPIC_NOT_FOUND and ERR_CONFLICT as the topic is now. Not after lake_close. */
enum err lake_wait(struct lake *l, struct slice topic, enum lake_job job, uint64_t ticket,
                   int64_t timeout_ms, struct errinfo *info);
/* Appends a JSON object about the topic: state, covered offsets, lag, commits, the last failure, and
 * for each job the tickets that were given and done. ERR_TOPIC_NOT_FOUND, ERR_TOO_LARGE. */
enum err lake_status(struct lake *l, struct slice topic, struct buf *out, struct errinfo *info);
/* The same of all enabled topics that allowed() admits, as {"topics":[…]}. */
enum err lake_status_all(struct lake *l, bool (*allowed)(void *arg, struct slice topic), void *arg,
                         struct buf *out);
/* ---- reading ---- */

enum lake_at_kind { LAKE_AT_NOW, LAKE_AT_SNAPSHOT, LAKE_AT_TIME };
struct lake_at {
    enum lake_at_kind kind;
    int64_t value; /* snapshot id; milliseconds since 1970 */
};
struct lake_view_file {
    const char *location;
    uint64_t rows, bytes;
    int64_t partition_min, partition_max, offset_min, offset_max; /* of its rows, both included; */
    int64_t position_min, position_max, time_min_us, time_max_us; /* not told: all numbers */
    bool sorted; /* by a sort order of the table, not by partition and offset */
};
/* The files of a snapshot, and what is in them: one state of the table. */
struct lake_view {
    int64_t snapshot_id; /* -1: the table is empty */
    struct lake_view_file *file;
    uint32_t files_n;
    int64_t *boundary; /* of each partition: the first offset that is not in the files */
    uint32_t boundary_n;
    const struct lake_column *column;
    uint32_t columns_n;
    /* Each file has all of the columns, under the names and with the types that they have now. */
    bool uniform;
    bool lines; /* the files are lines of JSON, not Parquet */
    void *private;
};
/* Blocks on the store, unless somebody asked since the last commit. ERR_NOT_FOUND: the topic has no
 * table, or no such snapshot; of a folder of JSON lines there is but the one of now. Any thread but a
 * loop. */
enum err lake_view_get(struct lake *l, struct topic *topic, const struct lake_at *at,
                       struct lake_view **out, struct errinfo *info);
/* Before lake_close. */
void lake_view_release(struct lake_view **v);
/* Whether rows below the log's start are to leave the topic's table, which takes up to a minute: who
 * looks at it as it is now leaves them out meanwhile. */
bool lake_trims(const struct topic_conf *c);
/* A local file with the object's bytes, which stays until lake_file_unpin with the same location:
 * the object itself in a folder, else a copy, fetched if need be. */
enum err lake_file_pin(struct lake *l, const char *location, uint64_t bytes, char path[512],
                       struct errinfo *info);
void lake_file_unpin(struct lake *l, const char *location);
/* Rows that somebody wants, at most; bounds are included. */
struct lake_wanted {
    int32_t partition; /* -1: all */
    int64_t offset_min, offset_max, position_min, position_max, time_min_us, time_max_us;
};
struct lake_file {
    const char *location; /* the caller's, as the next */
    uint64_t bytes;
    char path[512]; /* the local file */
    char *name;     /* the lake's, as the next; zeroed before */
    bool pinned;
};
/* The same for several, at the same time. wanted (may be NULL): copies may leave out row groups that
 * have nothing of it. All or none; lake_files_unpin. */
enum err lake_files_pin(struct lake *l, struct lake_file *file, uint32_t n,
                        const struct lake_wanted *wanted, struct errinfo *info);
void lake_files_unpin(struct lake *l, struct lake_file *file, uint32_t n);
/* Each snapshot of a topic's table, oldest first: its JSON as in the table's metadata. */
enum err lake_snapshots(struct lake *l, struct topic *topic,
                        void (*fn)(void *arg, const char *json, bool current), void *arg,
                        struct errinfo *info);
/* Names of the topics that are or were in the lake since the start. */
void lake_topics_each(struct lake *l, void (*fn)(void *arg, const char *topic), void *arg);

/* Prometheus text. */
enum err lake_metrics(struct lake *l, struct buf *out);

#endif
