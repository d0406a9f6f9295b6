/* Compaction: of the records of one key only the newest stays. The journal's part: it takes logs
 * that the broker names, and replaces what their sealed files hold by what is left of it, in
 * segments of their own. docs/why/compaction.md says why it is so.
 *
 * A log has a *clean end*: below it no two records have one key (but for those of transactions that
 * were under way), or no more than stay. Each compaction raises it. What a data file that also holds
 * other logs still has below the clean end does not count any more; the file goes when nothing in it
 * counts.
 *
 * A job, in steps of a few MiB in the background (see compact.c): for each log
 *   map    the keys of the dirty part, from the clean end on: as many as the map takes, up to the
 *          first batch that is too young, not sealed, or of a transaction under way
 *   older  where several records of a key stay: those of the map's keys below the clean end
 *   copy   from the start to where the map ends: what stays goes into the segment
 * then all segments are durable, then they are swapped in at once, then the next checkpoint has
 * them. Readers in the old files go on there. A crash before the checkpoint leaves files that
 * recovery removes.
 *
 * Offsets and positions of what stays do not change; batches keep their base offset, so a record's
 * position is its batch's position and its offset's distance from the base, as everywhere. The last
 * batch below the clean end stays, if need be without records: the log's end is not forgotten. */
#ifndef WEIR_JOURNAL_COMPACT_H
#define WEIR_JOURNAL_COMPACT_H

#include "journal/journal.h"

struct plog_compact_info {
    int64_t clean_end;                 /* or the log's start, if that is greater */
    int64_t sealed_end;                /* end of what is in sealed files; 0: nothing is */
    uint64_t clean_bytes, dirty_bytes; /* of batches in sealed files, below and above clean_end */
};
/* ERR_CORRUPT, ERR_IO: an index that has to be looked at cannot be read. Background thread. */
enum err plog_compact_info_get(struct plog *p, struct plog_compact_info *out, struct errinfo *info);

#define COMPACT_BLOCK 4096u /* offsets; the first is a multiple of it */
struct compact_item {
    struct plog *log;
    int64_t newest_ms;           /* batches with a record younger than this are not touched */
    int64_t delete_retention_ms; /* tombstones stay so long after they were first cleaned */
    uint32_t newest;             /* records of a key that stay; 0: 1; at most KEYMAP_NEWEST_MAX */
    /* Of a log whose owner removes single records: those go; tombstones and records without key stay,
     * and with newest 0 all of a key. Sets bits (offset % COMPACT_BLOCK, least bit first) of what is
     * removed for good; false: nothing is. Background thread. */
    bool (*removed)(void *arg, uint64_t id, uint64_t block, uint8_t bits[COMPACT_BLOCK / 8]);
    void *removed_arg;
    uint64_t removed_id;
};
#define COMPACT_ITEMS_MAX 256u

/* A compaction is under way. */
bool journal_compacting(const struct journal *j);
/* Begins one; none is under way, n is 1 to COMPACT_ITEMS_MAX, each log once. Copies the items; logs
 * that are deleted meanwhile are left out. Background thread (hooks->tick), or simulation. */
void journal_compact(struct journal *j, const struct compact_item *v, unsigned n, int64_t now_ms);
/* True if compacting the log failed or achieved nothing a short while ago, or its data is damaged:
 * it is not worth trying now. Background thread. */
bool plog_compact_waits(struct plog *p);

struct compact_stats { /* since open */
    uint64_t jobs, failed, logs, records_in, records_out, bytes_in, bytes_out;
};
void journal_compact_stats(struct journal *j, struct compact_stats *out);
/* For tests: keys that the map takes at most, and batches of a segment. 0: unchanged. */
void journal_compact_limits(struct journal *j, uint32_t keys_max, uint64_t segment_bytes);

#endif
