/* Transactions: what is written under a transactional id to many partitions, and the offsets
 * committed with it, become visible together or not at all. See transaction.c; the calls for
 * protocols are in broker.h. All fields are guarded by b->producers.lock. */
#ifndef WEIR_BROKER_TRANSACTION_H
#define WEIR_BROKER_TRANSACTION_H

#include "broker/producer.h"
#include "broker/state.h"

struct txn_offset {
    struct list_node link;       /* txn.offsets */
    struct entry_group_offset o; /* its slices point into bytes */
    uint8_t bytes[];             /* u32 topic, u32 partition, group: its key; metadata */
};

/* How many transactions have an offset of one key that is not decided yet. */
struct txn_pending {
    uint32_t n, key_len;
    uint8_t key[];
};

struct txn {
    struct list_node dirty_link, ongoing_link;
    enum dirty dirty;
    bool busy;              /* a change of it is under way */
    bool shut;              /* after which batches of now are out of date: they are refused */
    bool ending;            /* and that is its end */
    bool fresh;             /* nothing about it is durable yet */
    struct entry_txn e;     /* e.name points to name */
    struct list_head parts; /* struct pstate whose now.txn_first >= 0 */
    uint32_t parts_n;
    uint32_t parts_coming;    /* of the unit that is being sequenced */
    struct list_head offsets; /* struct txn_offset */
    struct map offset_of;     /* the same by key */
    size_t offset_bytes;      /* what they take in the unit of the end, or less */
    char name[];
};

void txns_init(struct broker *b);
void txns_fini(struct broker *b);
void txns_tick(struct broker *b, int64_t wall_ms);
enum err txns_load(struct broker *b, struct sqlite3 *db, struct errinfo *info);
enum err txns_save(struct broker *b, struct sqlite3 *db, struct errinfo *info);
void txns_saved(struct broker *b, bool committed);
/* Make after-images so: recovery. */
void txn_apply(struct broker *b, const struct entry_txn *e);
void txn_offset_apply(struct broker *b, const struct entry_txn_offset *e);
void producer_ids_apply(struct broker *b, int64_t next);

/* ---- for producer.c, lock held ---- */

/* May this batch be written in its transaction? Begins the transaction if the batch may. */
enum err txn_batch_check(struct broker *b, struct pstate *s, const struct producer_batch *pb);
/* The state has an open transaction now, or no more. */
void txn_state_link(struct broker *b, struct pstate *s, bool open);
void txn_replay_batch(struct broker *b, struct pstate *s, int16_t epoch);

#endif
