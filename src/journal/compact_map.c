/* The map of keys: see compact_map.h. Open addressing with linear probing; nothing is removed. */
#include "journal/compact_map.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/siphash.h"

#define CAP_MIN 1024u

void keymap_init(struct keymap *m, uint32_t max, const uint8_t *seed)
{
    ASSERT(max > 0 && max <= 1u << 30);
    memset(m, 0, sizeof *m);
    m->limit = max;
    memcpy(m->seed, seed, sizeof m->seed);
    keymap_newest(m, 1);
}

void keymap_fini(struct keymap *m)
{
    free(m->slots);
    m->slots = NULL;
    m->cap = m->n = 0;
}

void keymap_clear(struct keymap *m)
{
    keymap_fini(m);
}

static size_t size_for(uint32_t newest)
{
    return sizeof(struct keymap_slot) + newest * sizeof(int64_t);
}

void keymap_newest(struct keymap *m, uint32_t newest)
{
    ASSERT(m->n == 0 && newest > 0 && newest <= KEYMAP_NEWEST_MAX);
    keymap_fini(m);
    m->newest = newest;
    m->slot_size = size_for(newest);
    m->max = (uint32_t)(m->limit * (uint64_t)size_for(1) / m->slot_size);
    if (m->max == 0)
        m->max = 1;
}

static struct keymap_slot *slot_at(const struct keymap *m, uint32_t i)
{
    return (struct keymap_slot *)(void *)(m->slots + i * m->slot_size);
}

/* The slot that has the hash, or the empty one where it belongs. There is an empty one. */
static struct keymap_slot *slot_of(const struct keymap *m, const uint64_t hash[2])
{
    uint32_t i = (uint32_t)hash[0] & (m->cap - 1);

    while (slot_at(m, i)->offset[0] && memcmp(slot_at(m, i)->hash, hash, 16) != 0)
        i = (i + 1) & (m->cap - 1);
    return slot_at(m, i);
}

static void grow(struct keymap *m)
{
    struct keymap old = *m;
    uint32_t i;

    m->cap = old.cap ? old.cap * 2 : CAP_MIN;
    m->slots = xcalloc(m->cap, m->slot_size);
    for (i = 0; i < old.cap; i++)
        if (slot_at(&old, i)->offset[0])
            memcpy(slot_of(m, slot_at(&old, i)->hash), slot_at(&old, i), m->slot_size);
    free(old.slots);
}

/* Into its place among the newest; the oldest goes. */
static void offset_put(const struct keymap *m, struct keymap_slot *s, int64_t offset)
{
    uint32_t at = m->newest;

    while (at && s->offset[at - 1] <= offset)
        at--;
    if (at == m->newest || (at && s->offset[at - 1] == offset + 1))
        return; /* older than all, or known */
    memmove(&s->offset[at + 1], &s->offset[at], (m->newest - at - 1) * sizeof *s->offset);
    s->offset[at] = offset + 1;
}

bool keymap_put(struct keymap *m, struct slice key, int64_t offset)
{
    struct keymap_slot *s;
    uint64_t hash[2];

    ASSERT(offset >= 0 && offset < INT64_MAX);
    siphash128(m->seed, key.ptr, key.len, (uint8_t *)hash);
    if (m->n >= m->cap / 4 * 3 && m->n < m->max)
        grow(m);
    s = slot_of(m, hash);
    if (s->offset[0] == 0) {
        if (m->n == m->max)
            return false;
        memcpy(s->hash, hash, sizeof hash);
        m->n++;
    }
    offset_put(m, s, offset);
    return true;
}

static struct keymap_slot *known(const struct keymap *m, struct slice key)
{
    struct keymap_slot *s;
    uint64_t hash[2];

    if (m->n == 0)
        return NULL;
    siphash128(m->seed, key.ptr, key.len, (uint8_t *)hash);
    s = slot_of(m, hash);
    return s->offset[0] ? s : NULL;
}

void keymap_put_known(struct keymap *m, struct slice key, int64_t offset)
{
    struct keymap_slot *s = known(m, key);

    if (s)
        offset_put(m, s, offset);
}

int64_t keymap_get(const struct keymap *m, struct slice key)
{
    const struct keymap_slot *s = known(m, key);

    return s ? s->offset[m->newest - 1] - 1 : -1;
}
