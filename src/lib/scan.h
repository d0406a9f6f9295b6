/* Records of a partition in order, read and waited for. Private to src/lib. One thread at a time. */
#ifndef WEIR_LIB_SCAN_H
#define WEIR_LIB_SCAN_H

#include "journal/batch.h"
#include "journal/journal.h"
#include "lib/lib_int.h"

struct lib_scan {
    struct partition *p;
    int64_t next; /* offset that comes next */
    struct plog_read read;
    unsigned at; /* batch of `read` */
    bool within;
    struct batch_iter it;
    struct buf scratch;
    struct record_header *headers;
};
void lib_scan_init(struct lib_scan *s, struct partition *p, int64_t from);
void lib_scan_fini(struct lib_scan *s);
/* The next record below `to`, valid until the next call; what was deleted meanwhile is passed by.
 * ERR_AGAIN: there is none. bytes: to read. */
enum err lib_scan_next(struct lib_scan *s, int64_t to, size_t bytes, struct record *out,
                       struct errinfo *info);
/* Of the record that came last. */
uint64_t lib_scan_position(const struct lib_scan *s, const struct record *r);
/* Nothing is held until the next call. */
void lib_scan_rest(struct lib_scan *s);
/* Where a stream's messages begin, by what it removed; first: the sequence of offset 0. */
int64_t lib_scan_begin(struct weir *w, struct topic *t, struct partition *p, int64_t first);
/* Where what can be read ends. */
int64_t lib_scan_end(struct partition *p);

#endif
