/* Reading a topic's records for SQL: a view of what is visible of it at one moment, cut into tasks
 * that threads take one after the other, and the reading and decoding of a task's batches, at most
 * SCAN_ROWS records at a time. Whole stored batches are read, from memory or files; nothing is
 * copied: keys and values are views that stay valid until the second next call of scan_next (the
 * consumer has a chunk's strings until it asks for the next one; one more for safety).
 *
 * Visible are the records below each partition's last stable offset whose frame was durable when
 * the view was taken, without those of aborted transactions and without control records. A view is
 * made once and then only read, by any thread; a scan belongs to one thread. */
#ifndef WEIR_SQL_SCAN_H
#define WEIR_SQL_SCAN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "broker/broker.h"
#include "journal/batch.h"
#include "journal/journal.h"
#include "sql/cold.h"
#include "sql/sql.h"
#include "sql/zones.h"

#define SCAN_ROWS 2048u /* DuckDB's vectors */

struct scan_part {
    struct partition *p;
    int32_t index;
    int64_t from, to; /* offsets, `to` not included */
};

struct scan_view {
    struct topic *topic; /* referenced */
    struct scan_part *part;
    uint32_t parts_n;
    uint64_t rows; /* offsets in all parts */
    /* Records that are earlier or later are left out; INT64_MIN, INT64_MAX: none are. */
    int64_t ts_min, ts_max;
    bool strict;         /* records that were deleted meanwhile are an error, not left out */
    bool patient;        /* as of struct plog_read */
    bool older;          /* what the lake alone has is fetched from it: of ranges, of JSON lines */
    struct zones *zones; /* learns where the times are, as ts_max is asked for; may be NULL */
};

extern const struct sql_bounds scan_unbounded;

/* The view of now. Topic reference is taken. */
void scan_view_take(struct scan_view *v, struct broker *b, struct topic *t);
/* Of ranges of offsets instead, in either tier; ERR_OFFSET_RANGE, ERR_PARTITION_NOT_FOUND. */
enum err scan_view_ranges(struct scan_view *v, struct broker *b, struct topic *t,
                          const struct sql_range *ranges, unsigned n, struct errinfo *info);
/* A copy of part of it. boundary (may be NULL), n: offsets below are left out, by partition. zones
 * (may be NULL): what is known of where times are. */
enum err scan_view_cut(const struct scan_view *v, const struct sql_bounds *bounds,
                       const int64_t *boundary, const int64_t *end, uint32_t n, struct zones *zones,
                       struct scan_view *out, struct errinfo *info);
void scan_view_fini(struct scan_view *v);

/* Tasks of a view, for threads. */
struct scan_tasks {
    const struct scan_view *view;
    struct scan_part *task;
    uint32_t n;
    _Atomic uint32_t next;
    _Atomic uint64_t rows, bytes; /* read so far */
};
void scan_tasks_init(struct scan_tasks *t, const struct scan_view *v, unsigned threads);
void scan_tasks_fini(struct scan_tasks *t);

struct scan_rows {
    uint32_t n;
    int32_t partition;
    struct record rec[SCAN_ROWS];
    uint64_t position[SCAN_ROWS];
};

struct scan;
struct scan *scan_new(struct scan_tasks *t);
void scan_free(struct scan **s);
/* Fills rows (n 0: all tasks are done). ERR_CORRUPT, ERR_IO, ERR_TOPIC_NOT_FOUND (deleted). */
enum err scan_next(struct scan *s, struct scan_rows *rows, struct errinfo *info);
/* n bytes that stay valid as long as the rows given last do. */
void *scan_alloc(struct scan *s, size_t n);

#endif
