/* Other servers that are asked for a query's parts: POST /sql of each at once, their rows as lines
 * of JSON as they come. Used by coordinator.c alone.
 *
 * Of each server at most SHARD_AHEAD bytes and a line are held: one that is quicker than its rows are
 * taken is stopped. Closing ends the requests, which cancels the queries there.
 *
 * Threads: calls on one struct shards must not overlap; the threads may differ. */
#ifndef WEIR_SQL_SHARD_H
#define WEIR_SQL_SHARD_H

#include "sql/sql_int.h"

#define SHARD_AHEAD (1u << 20)

struct shards;

/* over: asked now and then while waiting; true ends that with ERR_CANCELLED. */
enum err shards_open(struct io *io, const struct sql_shard *list, unsigned n,
                     bool (*over)(void *arg), void *arg, struct shards **out, struct errinfo *info);
void shards_close(struct shards **s);
/* Asks server i for rows of a statement (SELECT …); what it was asked before must have ended. It has
 * until deadline_ns (of io_mono_ns; UINT64_MAX: no end). */
enum err shards_ask(struct shards *s, unsigned i, struct slice statement, uint64_t deadline_ns,
                    struct errinfo *info);
/* The next line of any server; valid until the next call. wait false: ERR_AGAIN if there is none
 * now. ERR_EOF: all have ended. Else a server failed: *shard says which, *f why, in a sentence that
 * names it. */
enum err shards_next(struct shards *s, bool wait, unsigned *shard, struct slice *line,
                     struct fault *f);

#endif
