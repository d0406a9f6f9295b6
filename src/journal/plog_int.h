/* What plog.c and read.c share: where in files a reader has to look. Private to src/journal. */
#ifndef WEIR_JOURNAL_PLOG_INT_H
#define WEIR_JOURNAL_PLOG_INT_H

#include "journal/journal_int.h"

enum seek_by { BY_OFFSET, BY_POSITION, BY_TIME };

/* Where to look: refs copied out (files pinned), or one extent (file pinned), or nothing. */
struct place {
    struct ref refs[READ_BATCHES_MAX];
    unsigned n;
    struct extent ext;
    bool in_extent;
};

/* Refs from the first that reaches `want` on, bytes_max of them but at least one if there is one.
 * memory_only: ERR_AGAIN if a disk would be waited for. */
enum err plog__place_get(struct plog *p, enum seek_by by, int64_t want, size_t bytes_max,
                         bool memory_only, struct place *pl, struct errinfo *info);
void plog__place_unpin(struct place *pl);
enum err plog__damaged(const struct jfile *f, bool index, uint64_t at, const char *what,
                       struct errinfo *info);

#endif
