/* What building an append (append.c) and submitting it (append_submit.c) share: its memory.
 *
 * Idempotency: an id that is known as written when its record comes is not encoded. At submit each
 * other id is reserved; if another append has it by now, the record is taken out of its batch again
 * (rare: the batch is made anew) and waits for the other's outcome. `waiting` counts the unit
 * itself and each id waited for; who brings it to zero finishes the append.
 *
 * Threads: the caller's until submitted; then the writer thread's until done is called. */
#ifndef WEIR_BROKER_APPEND_INT_H
#define WEIR_BROKER_APPEND_INT_H

#include "base/mem.h"
#include "broker/broker_int.h"
#include "journal/batch.h"

#define APPEND_MAGIC 0x41505044u
#define LINEAR_PARTS 8u               /* fewer are searched one by one */
#define REC_DUP      UINT32_MAX       /* arec.part: index is of a->dups */
#define REC_ATTACH   (UINT32_MAX - 1) /* index is of a->attaches */
#define REC_SAME     (UINT32_MAX - 2) /* index is the record of this append with the same id */

enum append_state { BUILDING, SUBMITTED, DONE };

struct append_part {
    struct topic *topic; /* referenced */
    struct partition *p;
    struct batch_builder bb;
    bool bb_used;  /* bb is initialised */
    bool built;    /* batch is set; records are added no more */
    bool borrowed; /* batch is the caller's */
    bool log_time; /* message.timestamp.type is LogAppendTime */
    bool os;
    bool scatters; /* makes its topic's keys scattered */
    bool flagged;  /* and has an entry that says so */
    uint32_t roll_bytes, max_bytes;
    uint32_t records;
    uint32_t place; /* in the DEDUP entry, or NO_PLACE */
    uint32_t entry; /* in entries, or NO_ENTRY */
    struct slice batch;
    struct buf own; /* of a borrowed batch that had to be changed */
    int64_t log_ms;
    bool produced; /* the batch has a producer id */
    struct producer_batch pb;
    struct pstate *ps; /* pinned while the batch is on its way */
    enum err err;      /* its own outcome */
    int64_t duplicate; /* where it was written before; -1 */
};
#define NO_PLACE UINT32_MAX
#define NO_ENTRY UINT32_MAX

struct arec {
    uint32_t part, index;
    int64_t timestamp_ms;
};

struct extra { /* an entry that is not a batch */
    uint8_t type;
    size_t off, len; /* in a->extra_bytes */
};

struct append {
    struct journal_unit unit; /* first */
    uint32_t magic;
    enum append_state state;
    struct broker *b;
    append_done_fn done;
    void *arg;
    struct sync_wait *wait;
    uint64_t ticket;
    bool txn_starts;
    struct slice txn_name;           /* borrowed until it is sequenced; null: any */
    bool produced;                   /* some part is */
    const struct partition *expects; /* see append_expect; NULL: nothing */
    int64_t expected;
    atomic_uint waiting;
    enum err unit_err, result;

    struct append_part *parts;
    uint32_t parts_n, parts_cap;
    uint32_t last;   /* part used last */
    uint32_t *index; /* part + 1 by partition uid; open addressing; used beyond LINEAR_PARTS */
    uint32_t index_cap;

    struct arec *recs;
    size_t recs_n, recs_cap;
    size_t bytes, records;

    struct dedup_pending *ids;
    uint32_t ids_n, ids_cap;
    uint32_t *ids_index; /* id + 1 by hash */
    uint32_t ids_index_cap;
    struct append_place *dups;
    uint32_t dups_n, dups_cap;
    struct dedup_attach **attaches;
    uint32_t attaches_n, attaches_cap;

    struct extra *extras;
    uint32_t extras_n, extras_cap;
    struct buf extra_bytes;
    uint8_t *dedup_entry;
    uint32_t dedup_places;

    struct journal_entry *entries;
    uint32_t entries_cap;
};

#define GROW(a, n, cap, least)                        \
    do {                                              \
        if ((n) == (cap)) {                           \
            (cap) = (cap) ? (cap)*2 : (least);        \
            (a) = xrealloc((a), (cap) * sizeof *(a)); \
        }                                             \
    } while (0)

/* append.c */
void append_dup_add(struct append *a, const struct append_place *place);
uint8_t *append_extra_add(struct append *a, uint8_t type, size_t room);
void append_extra_end(struct append *a, size_t len);
void append_ids_index_fill(struct append *a);

#endif
