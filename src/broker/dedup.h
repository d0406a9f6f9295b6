/* The idempotency window: which ids were written lately, and where. See dedup.c. */
#ifndef WEIR_BROKER_DEDUP_H
#define WEIR_BROKER_DEDUP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "broker/broker.h"

struct append;
struct dedup;
struct sqlite3;

/* Waits for the outcome of another append's id. Owned by the waiting append. */
struct dedup_attach {
    struct dedup_attach *next;     /* of the same pending id; shard lock */
    struct dedup_attach *own_next; /* the waiting append's list */
    struct append *waiter;
    atomic_uint *waiting; /* the waiter's count of what it waits for */
    uint8_t hash[16];
    uint32_t record; /* the waiter's */
    /* set under the shard lock, by the resolving thread */
    bool resolved;
    enum err e;
    struct append_place place;
};

/* An id reserved by a submitted append, which owns it; its address must not change meanwhile. */
struct dedup_pending {
    uint8_t hash[16];
    struct dedup_pending *next;
    struct dedup_attach *attached;
    uint32_t record; /* the owner's */
    bool reserved;
};

enum dedup_state { DEDUP_NEW, DEDUP_WRITTEN, DEDUP_PENDING };

struct dedup *dedup_new(uint32_t ids_max, int64_t window_ms);
void dedup_free(struct dedup **d);

/* Hash of an id within a topic, under the log's own key. */
void dedup_hash(const uint8_t key[16], uint32_t topic, struct slice id, uint8_t out[16]);
/* Was it written within the window? */
bool dedup_find(struct dedup *d, const uint8_t hash[16], int64_t now_ms, struct append_place *out);
/* NEW: p is now pending. WRITTEN: *out. PENDING: at is attached to the other. */
enum dedup_state dedup_reserve(struct dedup *d, struct dedup_pending *p, int64_t now_ms,
                               struct append_place *out, struct dedup_attach *at);
/* The outcome of a pending id; place is ignored when e is an error. Returns the attached ones whose
 * append waits for nothing more, linked by `next`: the caller finishes those appends. */
struct dedup_attach *dedup_resolve(struct dedup *d, struct dedup_pending *p, enum err e,
                                   const struct append_place *place, int64_t now_ms);
/* Takes at off the id that it waits for, if it still does. Afterwards nobody touches it. */
void dedup_detach(struct dedup *d, struct dedup_attach *at);
/* Recovery: it was written. */
void dedup_add(struct dedup *d, const uint8_t hash[16], const struct append_place *place,
               int64_t added_ms);
void dedup_expire(struct dedup *d, int64_t now_ms);
uint64_t dedup_count(struct dedup *d);

/* Everything resolved from here on is not for the checkpoint under way. Once a checkpoint: the
 * first caller with this number wins. */
void dedup_mark(struct dedup *d, uint64_t checkpoint);
enum err dedup_load(struct dedup *d, struct sqlite3 *db, struct errinfo *info);
enum err dedup_save(struct dedup *d, struct sqlite3 *db, struct errinfo *info);
void dedup_saved(struct dedup *d, bool committed);

#endif
