/* Shared by the files of transactions: transaction.c (calls), txn_op.c (a change on its way),
 * txn_state.c (what is known). Not for anyone else. All functions: producers.lock held, except where
 * it says otherwise. */
#ifndef WEIR_BROKER_TXN_INT_H
#define WEIR_BROKER_TXN_INT_H

#include "base/buf.h"
#include "broker/transaction.h"
#include "journal/journal.h"

/* ---- txn_state.c ---- */

/* What tells offsets apart: topic, partition and group, at the start of a txn_offset's bytes. */
#define OFFSET_KEY 8u

/* Bytes of an offset: in a unit that commits it, in memory; and what tells it apart. */
size_t txn__offset_room(const struct entry_group_offset *o);
size_t txn__offset_memory(const struct entry_group_offset *o);
struct slice txn__offset_key(const struct txn_offset *x);
/* A copy; any thread. */
struct txn_offset *txn__offset_new(const struct entry_group_offset *o);
/* Takes x over: it waits for the transaction's end, in place of an older one of its key. */
void txn__offset_add(struct broker *b, struct txn *t, struct txn_offset *x);

struct txn *txn__find(struct broker *b, struct slice name); /* NULL: none */
struct txn *txn__new(struct broker *b, struct slice name);
void txn__free(struct broker *b, struct txn *t);
/* Whether so many more partitions and bytes of offsets would still end in one unit. */
bool txn__room(const struct broker *b, const struct txn *t, uint32_t parts, size_t offsets);
void txn__dirty(struct broker *b, struct txn *t);
/* Out of the registry; freed when the checkpoint has it no more. */
void txn__forget(struct broker *b, struct txn *t);
void txn__set(struct broker *b, struct txn *t, const struct entry_txn *e);
/* Its transaction began, if it had none. */
void txn__started(struct broker *b, struct txn *t, int64_t wall_ms);

/* ---- txn_op.c ---- */

enum op_kind { OP_STATE, OP_END, OP_OFFSETS, OP_IDS };

struct txn_op {
    struct journal_unit unit; /* first */
    struct broker *b;
    enum op_kind kind;
    uint64_t ticket;
    struct txn *t;       /* busy meanwhile; NULL: OP_IDS */
    struct entry_txn to; /* its state afterwards; name borrowed from t */
    bool commit;
    int16_t marker_epoch;  /* OP_END */
    struct pstate **parts; /* OP_END, pinned: where markers go, in the order of the entries */
    uint32_t parts_n;
    struct txn_offset **offsets; /* OP_OFFSETS: owned */
    uint32_t offsets_n;
    struct journal_entry *entries;
    uint32_t entries_cap;
    struct buf bytes;
    txn_done_fn done;
    void *arg;
};
/* Who asks for the end of a transaction, or for its next epoch. */
enum raise {
    RAISE_NONE, /* the epoch stays */
    RAISE_OWN,  /* its producer, or time: it may ask again with the old epoch */
    RAISE_FENCE /* another: whoever has the old epoch is shut out */
};

struct txn_op *txn_op__new(struct broker *b, enum op_kind kind, txn_done_fn done, void *arg);
void txn_op__free(struct txn_op *o);
/* t is busy from then on. */
struct txn_op *txn_op__begin(struct broker *b, struct txn *t, enum op_kind kind, txn_done_fn done,
                             void *arg);
/* What it consists of: entries. False: too large. */
void txn_op__entry(struct txn_op *o, uint8_t type, struct plog *log, size_t len);
bool txn_op__state_entry(struct txn_op *o);
bool txn_op__offset_entry(struct txn_op *o, const struct entry_group_offset *g, bool pending);
void txn_op__raise(struct txn_op *o, enum raise raise);
struct txn_op *txn_op__end(struct broker *b, struct txn *t, bool commit, enum raise raise,
                           int32_t init, txn_done_fn done, void *arg);
/* Whatever came of it, others may go on. */
void txn_op__unbusy(struct txn_op *o);
/* Lock not held: o is the journal's; on an error it was undone and freed, and done is not called. */
enum err txn_op__submit(struct txn_op *o, struct errinfo *info);

#endif
