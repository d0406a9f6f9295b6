/* One query over several servers: each has a part of the topic's records, as shards. partial.h splits
 * the statement; every shard answers its part by POST /sql; the parts are put together here, by
 * DuckDB, as they come:
 *
 *   statement ─ partial_make ─> partial ─> DESCRIBE by each shard: columns and types
 *                   │                         │ a column that a shard has not is NULL there
 *                   │                         v
 *                   │           SELECT [texts of the columns] by each shard ─> lines
 *                   v                                                          v
 *        WITH merged AS (merge over partials) finish  <─ weir_feed, the table `partials`
 *
 * Values go as text: DuckDB's casts to text and back give the same value. Where shards have other
 * types for a column, numbers become HUGEINT or DOUBLE, all else VARCHAR. A shard that fails, or
 * does not end in time, fails the query with an error that names it; the other requests are ended.
 * Memory: shard.h holds some of each shard's lines; grouping and sorting is in the limit of queries.
 *
 * Threads: that of the query; fan_next whichever of DuckDB's, one at a time. */
#ifndef WEIR_SQL_COORDINATOR_H
#define WEIR_SQL_COORDINATOR_H

#include "sql/sql_int.h"

/* Asks q's shards what their parts have for columns; blocks. False: *f says why. The request of q
 * has no parameters any more: they are constants of the parts. */
bool fan_open(struct sql_query *q, struct fan **out, struct fault *f);
void fan_close(struct fan **f);
/* The statement that puts the parts together; of `partials`. */
struct slice fan_text(const struct fan *f);
/* `partials` as a SELECT from weir_feed(). */
enum err fan_source(const struct fan *f, struct buf *out);
uint32_t fan_columns(const struct fan *f);
/* The next row of any shard, a text (or SLICE_NULL) a column, valid until the next call; the first
 * call asks the shards. ERR_AGAIN: none is there now, and `wait` is false; ERR_EOF: that is all. */
enum err fan_next(struct fan *f, bool wait, const struct slice **cells, struct fault *fault);

#endif
