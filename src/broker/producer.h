/* Producers: what each producer id wrote last to each partition, so that a batch sent again is not
 * written again and none is left out; and which transactions are open or were aborted there.
 *
 * A producer's state in a partition is kept twice. `now` is changed when a batch is sequenced, so
 * that the next one can be checked against it; `durable` when the batch's unit is done. When units
 * are given up (the disk is full), `now` goes back to `durable`. Only `durable` is saved.
 *
 * All is guarded by b->producers.lock, which is taken last of all locks (also under the journal's)
 * and never held over a call of the journal. Sequence rules: Kafka's ProducerAppendInfo; last
 * stable offset and aborted transactions: KIP-98. */
#ifndef WEIR_BROKER_PRODUCER_H
#define WEIR_BROKER_PRODUCER_H

#include <stdatomic.h>

#include "base/list.h"
#include "base/map.h"
#include "broker/broker.h"
#include "broker/topic.h"
#include "io/thread.h"
#include "journal/batch.h"

#define PRODUCER_BATCHES 5u /* remembered: as many as a client has under way */

/* What a batch says of its producer. */
struct producer_batch {
    int64_t producer_id;
    int16_t epoch;
    bool transactional;
    bool starts;           /* may begin its transaction by itself (KIP-890) */
    struct slice txn_name; /* that the producer is to have; null: any */
    int32_t sequence, count;
    int64_t max_ts;
};
bool producer_batch_of(const struct batch_info *bi, struct producer_batch *out); /* has one? */

struct producer_written {
    int64_t base_offset, max_ts; /* base offset -1: sequenced this moment */
    int32_t sequence, count;
};

struct producer_core {
    int16_t epoch; /* -1: none yet */
    uint8_t n;     /* of batch, oldest first */
    int64_t last_offset;
    int64_t txn_first; /* first offset of the open transaction; -1: none */
    uint64_t txn_position;
    struct producer_written batch[PRODUCER_BATCHES];
};

struct txn;

/* One producer in one partition. */
struct pstate {
    uint8_t key[12]; /* partition uid, producer id; big-endian */
    uint32_t pins;   /* units under way that have batches of it */
    uint64_t giveups;
    struct partition *p; /* its topic is referenced */
    int64_t id, last_ms;
    struct producer_core now, durable;
    struct list_node lru, dirty_link;
    struct list_node part_link, txn_link; /* while now.txn_first >= 0 */
    struct txn *txn;
    enum dirty dirty;
    bool gone; /* forgotten: out of the index, to be deleted from the checkpoint */
};

struct txn_aborted {
    int64_t producer_id, first_offset, last_offset; /* last: of the marker */
};

/* The transactions of a partition that ever had one. */
struct ptxn {
    struct partition *p;
    struct list_node all;        /* producers.ptxns */
    struct list_node link;       /* producers.open while `open` is not empty */
    struct list_head open;       /* struct pstate */
    struct txn_aborted *aborted; /* by last_offset */
    uint32_t aborted_n, aborted_cap, saved_n;
    struct list_node dirty_link; /* producers.aborted_dirty */
    bool dirty;
};

struct producers {
    struct io_mutex lock;
    struct map states;
    uint32_t states_max;  /* LIMIT_PRODUCERS; tests have fewer */
    struct list_head lru; /* struct pstate, used longest ago first */
    struct list_head dirty, sent;
    struct list_head ptxns, open; /* struct ptxn: all; those with open transactions */
    struct list_head aborted_dirty;
    bool orphans;      /* the checkpoint has rows of partitions that are no more */
    uint32_t sweep_at; /* in states */
    _Atomic uint32_t open_n;
    int64_t next_id;       /* of producers */
    struct map txns;       /* struct txn by name */
    struct u64map txn_ids; /* by producer id */
    struct list_head ongoing, txns_dirty, txns_sent;
    struct map pending;   /* struct txn_pending by key: of the offsets in all transactions */
    uint32_t pending_n;   /* those offsets */
    size_t pending_bytes; /* what they take in memory */
    _Atomic uint64_t st_duplicates, st_committed, st_aborted;
};

void producers_init(struct broker *b);
void producers_fini(struct broker *b);

/* ---- batches on their way ---- */

/* Journal lock held. ERR_OK: *out is pinned and expects the batch; *duplicate >= 0: it was written
 * (or is on its way) at that offset, *out is NULL. ERR_SEQUENCE_ORDER, ERR_PRODUCER_EPOCH, and for
 * transactional batches ERR_PRODUCER_ID, ERR_TXN_STATE, ERR_TXN_CONCURRENT, ERR_LIMIT. */
enum err producer_sequence(struct broker *b, struct partition *p, const struct producer_batch *pb,
                           int64_t wall_ms, struct pstate **out, int64_t *duplicate);
/* Journal lock held: the batch got its place. */
void producer_sequenced(struct broker *b, struct pstate *ps, const struct producer_batch *pb,
                        int64_t base_offset, uint64_t position);
/* done() of the unit: unpins. */
void producer_done(struct broker *b, struct pstate *ps, const struct producer_batch *pb,
                   int64_t base_offset, uint64_t position, enum err e);
/* Recovery: the journal's batch hook. */
void producers_replay(void *broker, void *partition, struct slice data, uint64_t position,
                      int64_t wall_ms);
/* A transaction's marker is durable at `offset`. Lock held. */
void producer_marked(struct broker *b, struct pstate *ps, int16_t epoch, bool commit,
                     int64_t offset);

/* ---- what readers need ---- */

/* First offset of a transaction that is open in the partition; INT64_MAX if there is none. */
int64_t partition_unstable(const struct partition *p);
/* The least position of records in open transactions of partitions for which fn says yes;
 * UINT64_MAX: none. fn is called with the lock held. */
uint64_t producers_open_position(struct broker *b, bool (*fn)(void *arg, const struct partition *p),
                                 void *arg);
/* Is the transactional batch of this producer at this offset part of an aborted transaction? */
bool partition_aborted_batch(struct partition *p, int64_t producer_id, int64_t base_offset);

/* ---- upkeep ---- */

/* Forgets producers that were quiet for a day, and those of deleted topics; drops aborted
 * transactions below the logs' starts. A few at a time. */
void producers_tick(struct broker *b, int64_t wall_ms);
enum err producers_load(struct broker *b, struct sqlite3 *db, struct errinfo *info);
enum err producers_save(struct broker *b, struct sqlite3 *db, struct errinfo *info);
void producers_saved(struct broker *b, bool committed);
/* After replay: nothing is remembered beyond the logs' ends, nor in the checkpoint. */
enum err producers_recovered(struct broker *b, struct errinfo *info);
void ptxn_free(struct ptxn **t);

#endif
