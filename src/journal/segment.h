/* Writing a segment: a data file sorted by plog, made by rewriting or by compaction. Private to
 * src/journal.
 *
 *   segment_open, then for each plog in order of uid: segment_put for each batch, segment_plog_end;
 *   then segment_finish (all is durable), or segment_discard at any time before.
 *
 * Each batch has an entry header before it, so that a lost index can be made anew; the wall clock's
 * place has the CRC of the 24 bytes before it. A plog that was compacted begins with an entry of
 * type ENTRY_COMPACTED without payload, whose position is the plog's clean end (see compact.h).
 * Nobody else knows the file until it is finished. Background thread. */
#ifndef WEIR_JOURNAL_SEGMENT_H
#define WEIR_JOURNAL_SEGMENT_H

#include "journal/index.h"
#include "journal/journal_int.h"

struct segment {
    struct jfile *file; /* the caller's to take after segment_finish */
    struct index_build index;
    /* private */
    struct io_file *fd;
    uint8_t *buf;
    uint64_t at; /* file position of buf[0] */
    size_t n;
    struct batch_ref *refs; /* of the plog that is being written */
    uint32_t refs_n, refs_cap;
    bool marked;
};

/* Takes a file id. Journal lock not held. */
enum err segment_open(struct journal *j, struct segment *s, struct errinfo *info);
/* position: of the batch's first offset. clean_end: of the plog, 0 if it was never compacted. */
enum err segment_put(struct segment *s, uint32_t uid, struct slice batch, uint64_t position,
                     int64_t clean_end, struct errinfo *info);
/* Its row of the index, valid until the next one; NULL if nothing was put since the last end. */
const struct index_row *segment_plog_end(struct segment *s, uint32_t uid, int64_t clean_end);
/* Forgets what was put since the last segment_plog_end; its bytes stay in the file, unused. */
void segment_plog_drop(struct segment *s);
uint64_t segment_bytes(const struct segment *s);
uint64_t segment_batches(const struct segment *s);
/* Durable with its index. position, position_end: of the index header; files are sorted by it. */
enum err segment_finish(struct segment *s, uint64_t position, uint64_t position_end,
                        struct errinfo *info);
/* Removes what was written. s may be finished, or zero. */
void segment_discard(struct segment *s);
/* Frees what is not the file's. */
void segment_fini(struct segment *s);
void extent_from_row(struct extent *x, struct jfile *f, const struct index_row *r);

#endif
