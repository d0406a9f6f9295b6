/* What compaction leaves of one record batch. Kafka's rules (its LogCleaner; KIP-354, KIP-534):
 *
 *   - a record stays if no later one of its key is known, and, when it is a tombstone (no value),
 *     until the batch's delete horizon; records without key go;
 *   - beside that, where the owner of a log says so, what it removed goes, and the newest few of a
 *     key stay (compact.h);
 *   - a batch in which something goes keeps base offset, last offset delta, producer id, epoch and
 *     base sequence, codec and attributes; its greatest timestamp becomes that of what stays;
 *   - a batch with tombstones, or a transaction's marker that nothing needs any more, gets a delete
 *     horizon the first time: attribute bit 6 says that the base timestamp is it;
 *   - of a batch left empty nothing stays, or its header without records.
 *
 * A header kept for its producer's sake gets a horizon, too: the time until which the producer is
 * remembered. Batches that do not decode stay as they are. One thread at a time. */
#ifndef WEIR_JOURNAL_COMPACT_BATCH_H
#define WEIR_JOURNAL_COMPACT_BATCH_H

#include "journal/batch.h"
#include "journal/compact_map.h"

#define BATCH_DELETE_HORIZON 64 /* attribute: the base timestamp is the delete horizon */

enum batch_empty {
    EMPTY_DROP,     /* when empty, nothing stays of it */
    EMPTY_KEEP,     /* the header stays */
    EMPTY_PRODUCER, /* the header stays, until its horizon */
};

struct batch_rules {
    const struct keymap *map;
    int64_t now_ms;
    int64_t delete_horizon_ms;   /* for what gets one now */
    int64_t producer_horizon_ms; /* for headers of EMPTY_PRODUCER */
    bool drop_records;           /* of an aborted transaction */
    bool marker_unneeded;        /* a transaction's marker whose records are all gone */
    bool all_keys;               /* how many records a key has does not matter */
    bool keep;                   /* tombstones and records without key stay */
    const uint8_t *removed;      /* bits: records whose owner removed them; NULL: none … */
    int64_t removed_base;        /* … the first bit's offset; it has bits for the whole batch */
    enum batch_empty empty;
};

static inline bool batch_removed(const struct batch_rules *r, int64_t offset)
{
    uint64_t i = (uint64_t)(offset - r->removed_base);

    return r->removed && r->removed[i / 8] >> (i % 8) & 1;
}

struct batch_filter {
    struct buf scratch, plain, packed;
    uint64_t records_in, records_out; /* counted up */
};
void batch_filter_init(struct batch_filter *f);
void batch_filter_fini(struct batch_filter *f);
/* out: the batch itself, or one in f's buffers (valid until the next call); of length 0: nothing
 * stays. */
void batch_filter(struct batch_filter *f, struct slice batch, const struct batch_rules *r,
                  struct slice *out);

#endif
