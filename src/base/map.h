/* Hash maps to pointers: `struct map` by bytes, `struct u64map` by integer. Open addressing with
 * linear probing, no tombstones; 24 and 16 bytes a slot, at most three quarters of the slots used,
 * so that 100,000 entries take 3 to 6 MiB and an empty map nothing. Both need a maximum.
 *
 * Keys of a map are borrowed: the bytes must stay and not change while the entry is there; usually
 * they are part of the value. Keys that peers choose cannot be chosen to collide: they are hashed
 * by SipHash under the seed given. Values are never NULL. One thread at a time, or one lock. */
#ifndef WEIR_BASE_MAP_H
#define WEIR_BASE_MAP_H

#include "base/err.h"
#include "base/slice.h"

struct map_slot {
    const uint8_t *key;
    uint32_t len, hash;
    void *value; /* NULL: the slot is empty */
};
struct map {
    struct map_slot *slots;
    uint32_t cap; /* power of two, or 0 */
    uint32_t n, max;
    uint8_t seed[16];
};

/* max <= 2^30 entries. seed: 16 random bytes, NULL for keys of the program itself. */
void map_init(struct map *m, uint32_t max, const uint8_t *seed);
void map_fini(struct map *m); /* the values are the caller's */
/* ERR_EXISTS (the map is unchanged), ERR_LIMIT (at max), ERR_TOO_LARGE (key of 4 GiB). */
enum err map_put(struct map *m, struct slice key, void *value);
void *map_find(const struct map *m, struct slice key); /* NULL if there is none */
/* Takes the entry out and returns its value; NULL if there is none. */
void *map_remove(struct map *m, struct slice key);
/* Walks all entries in no order: *at starts at 0; false at the end. The map must not change
 * meanwhile. key may be NULL. */
bool map_next(const struct map *m, uint32_t *at, struct slice *key, void **value);

struct u64map_slot {
    uint64_t key;
    void *value;
};
struct u64map {
    struct u64map_slot *slots;
    uint32_t cap, n, max;
    uint64_t seed;
};

/* seed: random if peers choose the keys; any number otherwise. */
void u64map_init(struct u64map *m, uint32_t max, uint64_t seed);
void u64map_fini(struct u64map *m);
enum err u64map_put(struct u64map *m, uint64_t key, void *value); /* ERR_EXISTS, ERR_LIMIT */
void *u64map_find(const struct u64map *m, uint64_t key);
void *u64map_remove(struct u64map *m, uint64_t key);
bool u64map_next(const struct u64map *m, uint32_t *at, uint64_t *key, void **value);

#endif
