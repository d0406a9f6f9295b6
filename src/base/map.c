/* Open-addressing maps. See map.h. Invariants: cap is 0 or a power of two, n <= cap * 3 / 4, so
 * that there is an empty slot and every probe ends; between the home slot of an entry and its place
 * no slot is empty (removal moves later entries of the run back). */
#include "base/map.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

#define CAP_MIN 8u
#define MAX_MAX (1u << 30)

/* The slots for n entries: the next power of two that they fill by no more than three quarters. */
static uint32_t cap_for(uint32_t n)
{
    uint32_t cap = CAP_MIN;

    while ((uint64_t)n * 4 > (uint64_t)cap * 3)
        cap *= 2;
    return cap;
}

/* Whether the entry at `i`, whose home is `home`, may move to the hole at `to`: its home is not
 * behind the hole within the run. */
static bool movable(uint32_t home, uint32_t to, uint32_t i, uint32_t mask)
{
    return ((i - home) & mask) >= ((i - to) & mask);
}

void map_init(struct map *m, uint32_t max, const uint8_t *seed)
{
    ASSERT(max > 0 && max <= MAX_MAX);
    *m = (struct map){.max = max};
    if (seed)
        memcpy(m->seed, seed, sizeof m->seed);
}

void map_fini(struct map *m)
{
    free(m->slots);
    m->slots = NULL;
    m->cap = m->n = 0;
}

static void map_resize(struct map *m, uint32_t cap)
{
    struct map_slot *old = m->slots;
    uint32_t i, k, old_cap = m->cap;

    ASSERT(m->n < cap);
    m->slots = xcalloc(cap, sizeof *m->slots);
    m->cap = cap;
    for (i = 0; i < old_cap; i++) {
        if (!old[i].value)
            continue;
        for (k = old[i].hash & (cap - 1); m->slots[k].value;)
            k = (k + 1) & (cap - 1);
        m->slots[k] = old[i];
    }
    free(old);
}

/* The slot of the key, or the empty one where it would go. cap > 0. */
static struct map_slot *map_slot_of(const struct map *m, struct slice key, uint32_t hash)
{
    uint32_t i = hash & (m->cap - 1);

    for (;; i = (i + 1) & (m->cap - 1)) {
        struct map_slot *s = &m->slots[i];

        if (!s->value || (s->hash == hash && slice_eq(slice_of(s->key, s->len), key)))
            return s;
    }
}

enum err map_put(struct map *m, struct slice key, void *value)
{
    uint32_t hash = (uint32_t)siphash64(m->seed, key.ptr, key.len);
    struct map_slot *s;

    ASSERT(value);
    if (key.len > UINT32_MAX)
        return ERR_TOO_LARGE;
    if (m->cap && map_slot_of(m, key, hash)->value)
        return ERR_EXISTS;
    if (m->n >= m->max)
        return ERR_LIMIT;
    if (cap_for(m->n + 1) > m->cap)
        map_resize(m, cap_for(m->n + 1));
    s = map_slot_of(m, key, hash);
    *s = (struct map_slot){key.ptr, (uint32_t)key.len, hash, value};
    m->n++;
    return ERR_OK;
}

void *map_find(const struct map *m, struct slice key)
{
    if (m->n == 0)
        return NULL;
    return map_slot_of(m, key, (uint32_t)siphash64(m->seed, key.ptr, key.len))->value;
}

void *map_remove(struct map *m, struct slice key)
{
    uint32_t mask = m->cap - 1, hole, i;
    struct map_slot *s;
    void *value;

    if (m->n == 0)
        return NULL;
    s = map_slot_of(m, key, (uint32_t)siphash64(m->seed, key.ptr, key.len));
    if (!s->value)
        return NULL;
    value = s->value;
    hole = (uint32_t)(s - m->slots);
    for (i = (hole + 1) & mask; m->slots[i].value; i = (i + 1) & mask) {
        if (movable(m->slots[i].hash & mask, hole, i, mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole] = (struct map_slot){0};
    m->n--;
    if (m->n == 0)
        map_fini(m);
    else if (m->cap > CAP_MIN && (uint64_t)m->n * 8 < m->cap)
        map_resize(m, cap_for(m->n * 2));
    return value;
}

bool map_next(const struct map *m, uint32_t *at, struct slice *key, void **value)
{
    while (*at < m->cap) {
        const struct map_slot *s = &m->slots[(*at)++];

        if (s->value) {
            if (key)
                *key = slice_of(s->key, s->len);
            *value = s->value;
            return true;
        }
    }
    return false;
}

/* ---- by integer ---- */

void u64map_init(struct u64map *m, uint32_t max, uint64_t seed)
{
    ASSERT(max > 0 && max <= MAX_MAX);
    *m = (struct u64map){.max = max, .seed = seed};
}

void u64map_fini(struct u64map *m)
{
    free(m->slots);
    m->slots = NULL;
    m->cap = m->n = 0;
}

static uint32_t u64map_home(const struct u64map *m, uint64_t key)
{
    return (uint32_t)hash_u64(key, m->seed) & (m->cap - 1);
}

static struct u64map_slot *u64map_slot_of(const struct u64map *m, uint64_t key)
{
    uint32_t i = u64map_home(m, key);

    while (m->slots[i].value && m->slots[i].key != key)
        i = (i + 1) & (m->cap - 1);
    return &m->slots[i];
}

static void u64map_resize(struct u64map *m, uint32_t cap)
{
    struct u64map_slot *old = m->slots;
    uint32_t i, old_cap = m->cap;

    ASSERT(m->n < cap);
    m->slots = xcalloc(cap, sizeof *m->slots);
    m->cap = cap;
    for (i = 0; i < old_cap; i++)
        if (old[i].value)
            *u64map_slot_of(m, old[i].key) = old[i];
    free(old);
}

enum err u64map_put(struct u64map *m, uint64_t key, void *value)
{
    ASSERT(value);
    if (m->cap && u64map_slot_of(m, key)->value)
        return ERR_EXISTS;
    if (m->n >= m->max)
        return ERR_LIMIT;
    if (cap_for(m->n + 1) > m->cap)
        u64map_resize(m, cap_for(m->n + 1));
    *u64map_slot_of(m, key) = (struct u64map_slot){key, value};
    m->n++;
    return ERR_OK;
}

void *u64map_find(const struct u64map *m, uint64_t key)
{
    return m->n ? u64map_slot_of(m, key)->value : NULL;
}

void *u64map_remove(struct u64map *m, uint64_t key)
{
    uint32_t mask = m->cap - 1, hole, i;
    struct u64map_slot *s;
    void *value;

    if (m->n == 0)
        return NULL;
    s = u64map_slot_of(m, key);
    if (!s->value)
        return NULL;
    value = s->value;
    hole = (uint32_t)(s - m->slots);
    for (i = (hole + 1) & mask; m->slots[i].value; i = (i + 1) & mask) {
        if (movable(u64map_home(m, m->slots[i].key), hole, i, mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole] = (struct u64map_slot){0};
    m->n--;
    if (m->n == 0)
        u64map_fini(m);
    else if (m->cap > CAP_MIN && (uint64_t)m->n * 8 < m->cap)
        u64map_resize(m, cap_for(m->n * 2));
    return value;
}

bool u64map_next(const struct u64map *m, uint32_t *at, uint64_t *key, void **value)
{
    while (*at < m->cap) {
        const struct u64map_slot *s = &m->slots[(*at)++];

        if (s->value) {
            if (key)
                *key = s->key;
            *value = s->value;
            return true;
        }
    }
    return false;
}
