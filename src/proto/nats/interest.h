/* Who is interested in a subject: the subscriptions of one account, all loops' together.
 *
 * Subjects without wildcards are in a hash table, those with in a tree of tokens, so that looking
 * up costs one probe and a walk along what matches, whatever the number of subscriptions.
 *
 * What interest_match found may be kept and used again while interest_stamp says the same for that
 * subject: a stamp changes when a subscription comes or goes whose first token could match, before
 * the call that did it returns. So a publisher that was told of a subscription (by the answer to a
 * PING behind it) sees it.
 *
 * Threads: any; add and remove exclude each other and matches. A subscription that was removed is
 * not in what is matched from then on, but others may still hold what they matched before: who
 * frees it waits until they cannot any more (route.h). */
#ifndef WEIR_PROTO_NATS_INTEREST_H
#define WEIR_PROTO_NATS_INTEREST_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"
#include "base/map.h"
#include "base/slice.h"
#include "io/thread.h"

#define INTEREST_STAMPS 64u /* power of two */

struct interest_leaf;
struct interest_node;

/* One subscription's place; the owner embeds it. subject and queue are borrowed while it is in. */
struct interest_sub {
    struct slice subject, queue; /* queue: empty, none */
    struct interest_leaf *leaf;  /* private */
    uint32_t slot;               /* private: in its leaf or group */
    bool first; /* nobody had this pattern when it came; for who added it, at once */
};

struct interest {
    struct io_rwlock lock;
    struct map exact;           /* leaf by subject */
    struct interest_node *wild; /* NULL: no pattern */
    uint32_t subs;
    uint8_t seed[16];
    _Atomic uint64_t stamp_all, stamp[INTEREST_STAMPS];
    atomic_uint count; /* subs, for looking without the lock */
};

/* What takes a subject. Memory is kept from one match to the next. */
struct interest_found {
    struct interest_sub **plain;
    uint32_t plain_n, plain_cap;
    struct interest_sub **queued; /* members of all groups, one group behind the other */
    uint32_t queued_n, queued_cap;
    uint32_t *group; /* where each group begins in queued */
    uint32_t groups_n, groups_cap;
};

/* seed: 16 random bytes. */
void interest_init(struct interest *in, const uint8_t seed[16]);
/* Nothing may be in it. */
void interest_fini(struct interest *in);
/* The subject is valid. ERR_LIMIT. */
enum err interest_add(struct interest *in, struct interest_sub *s);
void interest_remove(struct interest *in, struct interest_sub *s);
/* Without wildcards; what is not a valid subject interests nobody. Members of a queue group with
 * one name are one group, whatever their patterns. */
void interest_match(struct interest *in, struct slice subject, struct interest_found *out);
void interest_found_fini(struct interest_found *f);
uint64_t interest_stamp(const struct interest *in, struct slice subject);
/* Whether some subscription takes a subject that the pattern takes. */
bool interest_any(struct interest *in, struct slice pattern);
/* Whether somebody has subscribed to this very subject, not to a pattern that takes it. */
bool interest_exact(struct interest *in, struct slice subject);

static inline bool interest_none(const struct interest *in)
{
    return atomic_load_explicit(&in->count, memory_order_acquire) == 0;
}

#endif
