/* The older part of partitions: records that the local log has no longer, but the lake has. Who keeps
 * them (src/lake, told by the server) fills in struct tier_ops; the broker knows neither lake nor
 * Parquet.
 *
 * A partition's log starts at partition_start(). From there up to the start of its local log
 * (plog_info.start_offset) records are older ones, read by tier_read; from there on plog_read has
 * them. Offsets may have gaps: what transactions aborted, and their markers, are not kept.
 *
 * Reading never blocks: tier_read gives what is in memory, else it has it fetched and answers
 * ERR_AGAIN; the topic's waiters are woken (topic_commits moves) when there is more to say. A few
 * threads fetch, each partition in passes: a pass opens files once and goes on from where it was, some
 * blocks in front of its readers.
 *
 * Threads: any, unless said otherwise. */
#ifndef WEIR_BROKER_TIER_H
#define WEIR_BROKER_TIER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct broker;
struct partition;
struct plog_read;
struct tier_pass; /* the keeper's */

/* Whole record batches, one behind the other; within each, offsets and positions are without gaps. */
struct tier_batch {
    uint32_t at, len; /* in bytes */
    int64_t base_offset, last_offset, max_ts;
    uint64_t position; /* of base_offset */
};
struct tier_block {
    struct buf bytes;
    struct tier_batch *batch; /* heap */
    uint32_t n, cap;
    int64_t next; /* offsets below it are in here, or nowhere */
};
void tier_block_init(struct tier_block *b, size_t bytes_max);
void tier_block_fini(struct tier_block *b);

enum tier_by { TIER_BY_TIME, TIER_BY_POSITION };

/* All block, on threads of the tier; any error but ERR_EOF is one of storage, for the text. */
struct tier_ops {
    void *arg;
    /* A pass over the records with offsets in [from, to), in their order. */
    enum err (*open)(void *arg, struct partition *p, int64_t from, int64_t to,
                     struct tier_pass **out, struct errinfo *info);
    /* Appends at least one batch, and as many as fit into about `bytes`. ERR_EOF: there are none. */
    enum err (*next)(struct tier_pass *s, size_t bytes, struct tier_block *out,
                     struct errinfo *info);
    void (*close)(struct tier_pass **s);
    /* The first record in [from, to) with a timestamp (milliseconds) or position of at least
     * `value`: its offset and timestamp. ERR_EOF: there is none. */
    enum err (*find)(void *arg, struct partition *p, enum tier_by by, int64_t value, int64_t from,
                     int64_t to, int64_t *offset, int64_t *ts_ms, struct errinfo *info);
};

/* Once, before anybody reads. */
enum err tier_start(struct broker *b, const struct tier_ops *ops, struct errinfo *info);
/* Waits for what is under way; the ops are not called any more, and reads fail. Before what they
 * stand for is closed. */
void tier_stop(struct broker *b);

/* First offset that can be read, from here or there. */
int64_t partition_start(const struct partition *p);
/* What is below it is in the lake, as far as it is known here: what partition_hold said last. */
int64_t partition_covered(const struct partition *p);
/* Older records below offset are past the topic's retention.ms and retention.bytes. For the keeper,
 * who knows how old and how large they are. */
void partition_expired(struct partition *p, int64_t offset);

/* Batches from the first one with a record at or behind `offset` on, which is in
 * [partition_start, local start): copies in r, at least one, about bytes_max.
 * ERR_EOF: none is left; go on with plog_read at *next. ERR_AGAIN: see above.
 * ERR_OFFSET_RANGE: below the log's start. ERR_TIER: storage did not answer; try again later.
 * Or nobody called tier_start: the text says so. */
enum err tier_read(struct partition *p, int64_t offset, size_t bytes_max, struct plog_read *r,
                   int64_t *next, struct errinfo *info);
/* From whichever has them: plog_read, and tier_read for what is older; *offset moves over gaps in
 * front. cold: the outcome is tier_read's, so that ERR_AGAIN means to wait for the topic's commits. */
enum err partition_read(struct partition *p, int64_t *offset, size_t bytes_max, struct plog_read *r,
                        bool *cold, struct errinfo *info);
/* The first of the older records with at least this timestamp or position. ERR_EOF: none of them;
 * look into the local log. ERR_AGAIN, ERR_TIER: as tier_read. */
enum err tier_find(struct partition *p, enum tier_by by, int64_t value, int64_t *offset,
                   int64_t *ts_ms, struct errinfo *info);
/* The first record with at least this timestamp or position, in whichever of the two has it; the log's
 * end, if there is none. ERR_AGAIN, ERR_TIER: as tier_read. */
enum err partition_seek(struct partition *p, enum tier_by by, int64_t value, int64_t *offset,
                        struct errinfo *info);
/* Both for threads that may block, not loops: they wait instead of answering ERR_AGAIN. */
enum err partition_read_wait(struct partition *p, int64_t *offset, size_t bytes_max,
                             struct plog_read *r, struct errinfo *info);
enum err partition_seek_wait(struct partition *p, enum tier_by by, int64_t value, int64_t *offset,
                             struct errinfo *info);

struct reader;
/* reader_next answered ERR_AGAIN because the next record is being read from the lake: reader_wait
 * waits for it. There may be more to come at once, unlike at the end of the log. */
bool reader_fetching(const struct reader *r);

struct tier_stats {
    uint64_t blocks, bytes, records; /* read from the lake */
    uint64_t failures;
    uint64_t cached_bytes; /* now */
    uint32_t passes;       /* now */
};
void tier_stats_get(struct broker *b, struct tier_stats *out);

#endif
