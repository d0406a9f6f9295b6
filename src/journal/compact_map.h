/* The newest offset of each key, or the newest few, for compaction. A key is known by 128 bits of
 * SipHash under a random seed: two keys are taken for one with a chance of 2^-128 a pair, and nobody
 * can choose keys that collide. 24 bytes a slot, and 8 for each offset more, at most three quarters of
 * the slots used; grows by doubling up to a maximum, so that small logs cost little. One thread at a
 * time. */
#ifndef WEIR_JOURNAL_COMPACT_MAP_H
#define WEIR_JOURNAL_COMPACT_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define KEYMAP_NEWEST_MAX 64u

struct keymap_slot {
    uint64_t hash[2];
    int64_t
        offset[]; /* `newest` of them, plus 1, newest first; 0: none; the first: an empty slot */
};
struct keymap {
    uint8_t *slots;
    size_t slot_size;
    uint32_t cap, n; /* cap: power of two, or 0 */
    uint32_t max;    /* keys */
    uint32_t limit;  /* keys if one offset of each is remembered */
    uint32_t newest; /* offsets of a key */
    uint8_t seed[16];
};

/* max: keys at most; seed: 16 random bytes. Allocates nothing yet. */
void keymap_init(struct keymap *m, uint32_t max, const uint8_t *seed);
void keymap_fini(struct keymap *m);
/* Forgets all keys and gives back what they took. */
void keymap_clear(struct keymap *m);
/* Of an empty map: so many offsets of a key are remembered, 1 to KEYMAP_NEWEST_MAX (at first 1); of
 * fewer keys, so that it takes no more memory. */
void keymap_newest(struct keymap *m, uint32_t newest);
/* Notes that the key is at offset; the greatest ones count. False: it is new, and the map full. */
bool keymap_put(struct keymap *m, struct slice key, int64_t offset);
/* The same of a key that is known; others are passed by. */
void keymap_put_known(struct keymap *m, struct slice key, int64_t offset);
/* The least of the offsets that are remembered: records of the key below it are not among the
 * newest. -1: not so many are known. */
int64_t keymap_get(const struct keymap *m, struct slice key);

#endif
