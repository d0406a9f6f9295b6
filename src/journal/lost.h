/* What a repair could not save may have been seen: its offsets and positions must not be given to
 * other records (journal.h, invariant 2). The repair notes
 *
 *   ends(uid, next, position)       of a log: `next` is the first offset that no evidence has, of
 *                                   batches, indexes and so on that lie before `position`
 *   lost(position, position_end)    positions of records that are lost, of whichever log
 *
 * in the checkpoint. The next opening lets each log go on behind its `next` and behind as many
 * offsets as there are lost positions at or after `position`: each lost record took one of each, so
 * none that was seen can come again. What is left out stays a gap. Single-threaded. Private to
 * src/journal. */
#ifndef WEIR_JOURNAL_LOST_H
#define WEIR_JOURNAL_LOST_H

#include "base/map.h"
#include "journal/checkpoint.h"

/* Positions given up when the end of the log is lost and nothing says how far it went: more than
 * the journal files that are not in the checkpoint yet can hold, but for extreme compression. */
#define LOST_STEP (1ull << 32)

struct lost_range {
    uint64_t from, to;
};

struct lost {
    struct lost_range *range;
    uint32_t n, cap;
    struct u64map ends; /* uid -> struct lost_end */
};

void lost_init(struct lost *l);
void lost_fini(struct lost *l);
/* The log had a record before end_offset, at a position before position_end. */
void lost_witness(struct lost *l, uint32_t uid, int64_t end_offset, uint64_t position_end);
/* Records at positions from..to-1 may have been there and are not any more. */
void lost_add(struct lost *l, uint64_t from, uint64_t to);
/* Repair, inside a transaction: notes all, if anything is lost. */
enum err lost_save(const struct lost *l, struct checkpoint *c, struct errinfo *info);
/* Opening, after replay: raises the logs' ends. Unless read-only, settles the notes: what counts
 * for every log there is now must not for one that is made later. */
enum err lost_apply(struct journal *j, struct errinfo *info);

#endif
