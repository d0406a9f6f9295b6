/* The newest offset of each key, for compaction. A key is known by 128 bits of SipHash under a
 * random seed: two keys are taken for one with a chance of 2^-128 a pair, and nobody can choose keys
 * that collide. 24 bytes a slot, at most three quarters of the slots used; grows by doubling up to a
 * maximum, so that small logs cost little. One thread at a time. */
#ifndef WEIR_JOURNAL_COMPACT_MAP_H
#define WEIR_JOURNAL_COMPACT_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct keymap_slot {
    uint64_t hash[2];
    int64_t offset; /* plus 1; 0: the slot is empty */
};
struct keymap {
    struct keymap_slot *slots;
    uint32_t cap, n; /* cap: power of two, or 0 */
    uint32_t max;    /* keys */
    uint8_t seed[16];
};

/* max: keys at most; seed: 16 random bytes. Allocates nothing yet. */
void keymap_init(struct keymap *m, uint32_t max, const uint8_t *seed);
void keymap_fini(struct keymap *m);
/* Forgets all keys and gives back what they took. */
void keymap_clear(struct keymap *m);
/* Notes that the key is at offset; the greatest one counts. False: it is new, and the map full. */
bool keymap_put(struct keymap *m, struct slice key, int64_t offset);
int64_t keymap_get(const struct keymap *m, struct slice key); /* -1: unknown */

#endif
