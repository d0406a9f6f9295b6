/* What the log must hold, worked out from nothing but the units handed to it, in order: offsets,
 * positions, batches of each partition log and the state of the test's own entries. Knows nothing
 * of frames, files or checkpoints. One thread. */
#ifndef WEIR_TESTS_SIM_MODEL_H
#define WEIR_TESTS_SIM_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define UIDS_MAX  400u
#define KEYS      16u
#define UNIT_MAX  4u
#define E_CREATE  16 /* u32 uid */
#define E_DELETE  17 /* u32 uid */
#define E_SET     18 /* u32 key, u64 value */
#define E_PAYLOAD 12u

/* An entry as the model sees it. */
struct mentry {
    uint8_t type;
    uint32_t uid;             /* or the key */
    uint64_t value;           /* E_SET: value; ENTRY_LOG_START: offset */
    uint32_t count, crc, len; /* ENTRY_BATCH: records, the batch's CRC, its bytes */
    int64_t ts;               /* ENTRY_BATCH: its timestamp */
};

struct munit {
    struct mentry e[UNIT_MAX];
    unsigned n;
};

/* State of the test's entries: what a checkpoint saves. */
struct mstate {
    uint64_t kv[KEYS], count, hash;
    bool there[UIDS_MAX];
};

struct mbatch {
    int64_t base;
    uint64_t position;
    uint32_t count, crc, len;
    int64_t ts;
};

struct mlog {
    struct mbatch *batch;
    uint32_t n, cap;
    int64_t start, end;
};

struct model {
    struct mstate s;
    struct mlog log[UIDS_MAX];
    uint64_t position_end;
};

void model_init(struct model *m);
void model_fini(struct model *m);
void mstate_apply(struct mstate *s, const struct mentry *e);
void model_apply(struct model *m, const struct munit *u);
/* The batch that holds the offset, or NULL. */
const struct mbatch *model_find(const struct model *m, uint32_t uid, int64_t offset);

#endif
