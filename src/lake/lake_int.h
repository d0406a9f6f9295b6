/* What the files of the lake's writer share. Private to src/lake/lake*.c.
 *
 *   lake.c           the thread, the topics, requests, status
 *   lake_columns.c   the table's columns: from its schema, and how records make them grow
 *   lake_scan.c      which records a flush takes, and into which partitions of the table they go
 *   lake_flush.c     a flush: scan, Parquet, upload, commit
 *   lake_table.c     loading, creating and committing the table
 *   lake_spec.c      how the table is divided
 *   lake_sort.c      how rows lie in its files
 *   lake_place.c     the stores that tables' objects are in
 *   lake_merge.c     records of many files in order
 *   lake_maintain.c  compaction, expiry, orphans
 *   lake_tier.c      older records for readers of the log
 *   lake_trim.c      rows below the log's start leave
 *   lake_view.c      what readers see
 *   jsonl*.c         topics that are folders of JSON lines instead: jsonl.h
 */
#ifndef WEIR_LAKE_LAKE_INT_H
#define WEIR_LAKE_LAKE_INT_H

#include <stdatomic.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/broker.h"
#include "io/io.h"
#include "io/thread.h"
#include "journal/batch.h"
#include "journal/journal.h"
#include "lake/lake.h"
#include "lake/manifest.h"
#include "lake/metadata.h"
#include "lake/schema.h"
#include "lake/snapshot.h"
#include "lake/transform.h"

/* ---- columns ---- */

/* Ids of the columns that every table has from the start: level by level, as catalogs based on
 * Iceberg's Java code number them anew when a table is made. */
enum {
    COLUMN_PARTITION = 1,
    COLUMN_OFFSET,
    COLUMN_POSITION,
    COLUMN_TIMESTAMP,
    COLUMN_KEY,
    COLUMN_VALUE,
    COLUMN_HEADERS,
    COLUMN_CE_TYPE,
    COLUMN_CE_ID,
    COLUMN_HEADER, /* the headers' element */
    COLUMN_HEADER_KEY,
    COLUMN_HEADER_VALUE,
    COLUMN_FIRST_FIELD,
};

struct columns {
    struct lake_column *c;
    uint32_t n, cap;
    char **texts; /* names and fields, owned */
    uint32_t texts_n, texts_cap;
};
struct schema *columns_first_schema(void);
/* ERR_UNSUPPORTED: the schema has not the columns of a topic's table. */
enum err columns_from_schema(const struct schema *s, struct columns *out, struct errinfo *info);
void columns_fini(struct columns *c);
const struct lake_column *columns_find(const struct columns *c, int32_t id);
/* Adds to a schema what the fields that were seen need; *changed says whether it did. last_id: of
 * the table, moved up. */
enum err columns_evolve(struct lake *l, struct schema *s, void *fields, int32_t *last_id,
                        bool *changed, struct errinfo *info);

/* ---- places ---- */

struct place {
    struct place *next; /* lake->lock */
    _Atomic uint32_t refs;
    char *base;          /* the table's location */
    json_t *said;        /* the catalog, of its storage */
    struct store *store; /* whose URL is base */
    int64_t until_ms;    /* when its credentials end; 0: they do not */
    bool given;          /* the catalog gives keys to it, or signs requests */
};
/* Where the table lies; *out is to be unreferenced, and NULL if it is the lake's own store.
 * ERR_UNSUPPORTED: out of reach. */
enum err place_get(struct lake *l, const struct metadata *md, struct place **out,
                   struct errinfo *info);
/* The newest place that has the location; NULL: none, it may be in the lake's own store. */
struct place *place_of(struct lake *l, const char *location);
struct place *place_ref(struct place *p);
void place_unref(struct place **p); /* *p may be NULL */
/* Whom a catalog lets to a table it may let do nothing but with the table's objects by name: then what
 * there is cannot be listed, nor uploads in parts. That error becomes ERR_OK. p may be NULL. */
enum err place_unlisted(const struct place *p, enum err e);
/* Whether its table should be loaded anew, for other credentials. p may be NULL. */
bool place_old(const struct place *p);
struct store *place_store(const struct lake *l, const struct place *p);
void places_fini(struct lake *l);

/* ---- a topic's table ---- */

struct job_tickets {
    uint64_t given, done; /* lake->lock */
    enum err last;        /* of the one done last; lake->lock */
};

struct table {
    struct table *next; /* lake->lock */
    char *name;
    uint8_t uuid[16];          /* of the topic */
    bool enabled, shown_jsonl; /* lake->lock: seen in the last round */
    struct job_tickets job[LAKE_JOBS];
    /* lake->lock: for status */
    uint64_t commits, files, records, bytes, failures, lost;
    int64_t lag_records, last_commit_ms, snapshot_id;
    enum err error;
    char why[256];
    uint32_t shown_n;
    int64_t *shown;                         /* covered */
    int64_t rows_all, files_all, bytes_all; /* of the table's current snapshot, as it says */
    uint64_t version;                       /* lake->lock: counts what changed the table */
    struct lake_view *view;                 /* lake->lock: of view_version; NULL: none */
    uint64_t view_version;
    /* the lake's thread */
    struct metadata *md;   /* NULL: not loaded */
    bool absent;           /* looked for, and not there */
    bool jsonl;            /* loaded as JSON lines: jsonl.h */
    uint64_t jsonl_number; /* of the newest commit; 0: none */
    struct columns columns;
    struct spec *spec;
    struct place *place;
    char *base; /* key of the table's folder in the place's store, "" or with a '/' at its end */
    int64_t *covered; /* next offset of each partition that is not in the table */
    int32_t partitions_n;
    uint32_t failed;        /* in a row */
    uint64_t not_before_ns; /* after a failure */
    uint64_t waiting_ns;    /* since when something waits; 0: nothing does */
    uint32_t start;         /* partition with which the next flush begins */
    uint32_t commits_since; /* the last compaction */
    uint64_t maintained_ns, retained_ns, trimmed_ns;
    int64_t *trimmed; /* the log's starts as the table has them; NULL: not known */
    int32_t trimmed_n;
    struct kept *kept; /* lake_tier.c: of each partition */
    int32_t kept_n;
};

struct lake {
    struct lake_conf conf;
    struct store *store; /* the lake's thread opens it; then constant */
    struct catalog *catalog;
    struct catalog *signing; /* ready_lock: to the same catalog, for signers; NULL: none yet */
    struct io_thread *thread;
    struct io_event wake;
    _Atomic bool stop;
    _Atomic bool begun;         /* the thread runs */
    struct io_mutex ready_lock; /* while store and catalog are opened */
    struct io_mutex cache_lock;
    struct cached *cache; /* cache_lock, as the next */
    uint64_t cache_bytes;
    struct footer *footers;
    uint64_t footers_bytes;
    struct io_cond cache_change; /* cache_lock: a copy is made, or could not be */
    struct io_mutex lock;
    struct io_cond jobs_change; /* lock: a job is done */
    struct table *tables;       /* lock; entries stay until lake_close */
    struct place *places;       /* lock */
    _Atomic uint64_t commits, failures, bytes, records, compactions, expired, orphans, fetched;
};

/* ---- scan ---- */

struct group {
    struct group *next;
    uint8_t *key; /* the values, encoded */
    uint32_t key_len;
    struct ice_value value[LIMIT_LAKE_SPEC_FIELDS]; /* point into key */
    struct lake_range *range;
    uint32_t ranges_n, ranges_cap;
    int64_t min[COLUMN_TIMESTAMP + 1], max[COLUMN_TIMESTAMP + 1]; /* by column id; time in us */
    uint64_t records;
};
struct scan {
    struct group *groups;
    uint32_t groups_n, ranges_n;
    int64_t *covered; /* after it */
    uint64_t records, bytes, lost;
    void *fields; /* of lake_parquet; NULL: not wanted */
    bool full;    /* a limit ended it: there is more */
};
/* What a flush takes; at most `limit` bytes of batches (about). */
enum err lake_scan_run(struct lake *l, struct table *t, struct topic *topic, bool fields,
                       uint64_t limit, struct scan *out, struct errinfo *info);
void lake_scan_fini(struct lake *l, struct scan *s);

/* ---- the table: lake_table.c ---- */

enum err lake_ready(struct lake *l, struct errinfo *info);
/* Loads or makes the table; fills in md, columns, spec, covered. */
enum err table_load(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info);
/* The same, but if there is no table none is made: t->absent says so. */
enum err table_look(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info);
void table_unload(struct table *t);
/* Fills in covered from a list of offsets (may be NULL): where it has none, where the log began. */
enum err table_covered(struct table *t, struct topic *topic, const json_t *list,
                       struct errinfo *info);
/* The covered offsets for status, and for retention. */
void table_covered_show(struct lake *l, struct table *t);
/* covered NULL: as it is. ERR_CONFLICT: somebody else changed the table, and it is certain that this
 * change is not in it; ERR_UNCERTAIN. After any error the table is unloaded. */
enum err table_commit(struct lake *l, struct table *t, struct snapshot_change *c,
                      const int64_t *covered, struct errinfo *info);
struct table_name table_name_of(const struct lake *l, const struct table *t);
struct lake_env table_env(const struct lake *l, const struct table *t);

/* The table's metadata says that it is this topic's? ERR_EXISTS. */
enum err table_topic_check(const struct metadata *md, struct topic *topic, struct errinfo *info);
/* What readers were given of the table is old. */
void table_changed(struct lake *l, struct table *t);
/* Commits a change of the table's metadata that adds no snapshot; takes requirements and updates. The
 * table is unloaded. Errors as catalog_commit's. */
enum err table_update(struct lake *l, struct table *t, json_t *requirements, json_t *updates,
                      struct errinfo *info);
struct table *lake_table_find(struct lake *l, struct slice name); /* lake->lock is held */
void lake_cache_fini(struct lake *l);
void lake_view_unref(struct lake_view *v);

/* ---- how the table is divided: lake_spec.c ---- */

#define PROPERTY_PARTITION "weir.partition" /* the terms that its spec was made of */
/* A spec of the terms whose columns are in the schema; applied: these, with commas. */
enum err spec_wanted(const char *text, const struct schema *s, struct spec **out,
                     char applied[TOPIC_CONF_WORD_MAX + 1], struct errinfo *info);
/* Gives a loaded table the spec that the topic wants, and loads it again, if that is another. */
enum err table_spec_follow(struct lake *l, struct table *t, struct topic *topic,
                           struct errinfo *info);

/* Terms of a setting: "a, b", ["a", "b"], none. */
struct terms {
    unsigned n;
    char at[LIMIT_LAKE_SPEC_FIELDS][TOPIC_CONF_WORD_MAX + 1];
};
enum err terms_parse(const char *setting, const char *text, struct terms *out,
                     struct errinfo *info);

/* ---- how rows lie in its files: lake_sort.c ---- */

#define PROPERTY_SORT "weir.sort" /* the terms that its sort order was made of */
struct table_order {
    int32_t id; /* of the table's sort order; -1: by partition and offset */
    uint32_t n;
    struct lake_order by[LIMIT_LAKE_SPEC_FIELDS];
};
/* The order in which files are written: the table's, if it is of columns alone. */
void table_order_get(const struct table *t, struct table_order *out);
/* Gives a loaded table the sort order that the topic wants, and loads it again, if that is another. */
enum err table_sort_follow(struct lake *l, struct table *t, struct topic *topic,
                           struct errinfo *info);

/* ---- flush, maintenance ---- */

/* Says that records were gone before they were in the lake. */
void table_lost(struct lake *l, struct table *t, uint64_t records);
/* Counts a commit. */
void table_flushed(struct lake *l, struct table *t, uint64_t files, uint64_t rows, uint64_t bytes);
/* *more: there is more to take at once. */
enum err table_flush(struct lake *l, struct table *t, struct topic *topic, bool *more,
                     struct errinfo *info);
/* A file of the current snapshot, its texts in the survey's arena. */
struct table_file {
    struct slice key; /* the partition's values, encoded */
    int32_t spec_id;
    struct data_file file;
};
struct table_survey {
    struct table *t;
    struct arena a;
    struct table_file *seen; /* by partition and size */
    uint32_t n, cap;
    uint64_t bytes_max; /* larger files are left out */
    int64_t time_max;   /* not INT64_MAX: only files whose times are all below it, microseconds */
    /* not NULL: files with this in their names, or of another spec, are left out */
    const char *not_in;
};
enum err table_survey_make(struct lake *l, struct table *t, uint64_t bytes_max, int64_t time_max,
                           const char *not_in, struct table_survey *s, struct errinfo *info);
void table_survey_fini(struct table_survey *s);
/* n files of one partition and of the table's spec into one, without the rows of `drop`. */
enum err files_merge(struct lake *l, struct table *t, const struct table_file *s, uint32_t n,
                     const struct lake_range *drop, uint32_t drop_n, struct arena *a,
                     struct errinfo *info);
enum err files_delete(struct lake *l, struct table *t, const struct table_file *const *files,
                      uint32_t n, struct errinfo *info);
/* The least and the greatest value of a column of numbers; all numbers, if it is not told. */
void file_bounds(const struct data_file *f, int32_t column, enum ice_kind k, int64_t *min,
                 int64_t *max);
enum err table_compact(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info);
enum err table_expire(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info);
/* Puts a Parquet file at tmp into the store and fills in e's file; texts live in a. */
enum err file_upload(struct lake *l, const struct table *t, const char *tmp, const char *key,
                     const struct lake_file_stats *st, struct arena *a, struct data_file *f,
                     struct errinfo *info);
/* Bounds and counts of the leaves. own: the group whose exact bounds are known, or NULL. */
void file_metrics(const struct columns *c, const struct lake_file_stats *st,
                  const struct group *own, struct arena *a, struct data_file *f);
void tmp_path(const struct lake *l, char out[512]);
/* A new key for a file of a partition: "weir/t/data/timestamp_hour=…/NAME.parquet". */
void files_forget(struct store *store, const struct data_file *file, size_t n);
enum err file_key(const struct table *t, const struct ice_value *partition,
                  char out[STORE_KEY_MAX + 1], struct errinfo *info);
bool lake_stopping(const struct lake *l);

/* ---- records of many files in order of offset: lake_merge.c ---- */

/* The view's files with the partition's records in [from, to), by offset_min; to be freed. */
const struct lake_view_file **lake_files_of(const struct lake_view *v, int32_t partition,
                                            int64_t from, int64_t to, uint32_t *n);
/* A file that is read, Parquet or lines of JSON. */
struct lake_cursor {
    const struct lake_view_file *file; /* pinned; NULL: not open */
    void *parquet;
    struct jsonl_cursor *lines;
};
/* Fills in c's path and columns. */
enum err lake_cursor_open(struct lake *l, const struct lake_view *v, const struct lake_view_file *f,
                          struct lake_cursor_conf *c, struct lake_cursor *out,
                          struct errinfo *info);
enum err lake_cursor_next(struct lake *l, struct lake_cursor *c, const struct lake_record **out,
                          struct errinfo *info);
void lake_cursor_close(struct lake *l, struct lake_cursor *c);
/* The view stays the caller's, and must stay. */
struct merge;
struct merge *merge_new(struct lake *l, const struct lake_view *v, int32_t partition, int64_t from,
                        int64_t to);
void merge_free(struct merge **m);
/* *out is valid until the next call. ERR_EOF; ERR_CORRUPT: what came before may be out of order. */
enum err merge_next(struct merge *m, const struct lake_record **out, struct errinfo *info);

/* ---- older records: lake_tier.c ---- */

enum err lake_tier_start(struct lake *l, struct errinfo *info);
/* Tells the broker how far the topic's retention has come among what only the lake has. */
void lake_tier_retain(struct lake *l, struct table *t, struct topic *topic,
                      const struct topic_conf *c);
/* Rows below the log's start leave the table, if they are to: lake_trim.c. Loads the table. */
enum err lake_trim(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info);
/* The topic's entry, made if there is none. NULL: too many. */
struct table *lake_table_of(struct lake *l, struct topic *topic);

#endif
