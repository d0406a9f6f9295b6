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
    m->max = max;
    memcpy(m->seed, seed, sizeof m->seed);
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

/* The slot that has the hash, or the empty one where it belongs. There is an empty one. */
static struct keymap_slot *slot_of(const struct keymap *m, const uint64_t hash[2])
{
    uint32_t i = (uint32_t)hash[0] & (m->cap - 1);

    while (m->slots[i].offset && memcmp(m->slots[i].hash, hash, 16) != 0)
        i = (i + 1) & (m->cap - 1);
    return &m->slots[i];
}

static void grow(struct keymap *m)
{
    struct keymap_slot *old = m->slots;
    uint32_t i, n = m->cap;

    m->cap = n ? n * 2 : CAP_MIN;
    m->slots = xcalloc(m->cap, sizeof *m->slots);
    for (i = 0; i < n; i++)
        if (old[i].offset)
            *slot_of(m, old[i].hash) = old[i];
    free(old);
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
    if (s->offset == 0) {
        if (m->n == m->max)
            return false;
        memcpy(s->hash, hash, sizeof hash);
        m->n++;
    }
    if (offset >= s->offset)
        s->offset = offset + 1;
    return true;
}

int64_t keymap_get(const struct keymap *m, struct slice key)
{
    uint64_t hash[2];

    if (m->n == 0)
        return -1;
    siphash128(m->seed, key.ptr, key.len, (uint8_t *)hash);
    return slot_of(m, hash)->offset - 1;
}
