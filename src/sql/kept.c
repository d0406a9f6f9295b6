/* See kept.h. When there is no more room everything goes: a program that writes its values into its
 * statements never asks the same again, and fills what is there however it is ordered. */
#include "sql/kept.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

const struct kept_limits kept_shapes = {1024, 4u << 20, 4096};
const struct kept_limits kept_trees = {256, 2u << 20, 64u << 10};

struct entry {
    size_t key_len, value_len;
    uint8_t bytes[]; /* the key, and the value */
};

void kept_init(struct kept *k, const struct kept_limits *limits, const uint8_t seed[16])
{
    io_mutex_init(&k->lock);
    map_init(&k->map, limits->entries, seed);
    k->limits = *limits;
    k->bytes = 0;
}

static void forget(struct kept *k)
{
    uint32_t at = 0;
    void *v;

    while (map_next(&k->map, &at, NULL, &v))
        free(v);
    map_fini(&k->map);
    k->bytes = 0;
}

void kept_fini(struct kept *k)
{
    forget(k);
    io_mutex_fini(&k->lock);
}

bool kept_get(struct kept *k, struct slice key, struct buf *out)
{
    const struct entry *e;
    bool found;

    io_mutex_lock(&k->lock);
    e = map_find(&k->map, key);
    found = e && !(out && buf_append(out, e->bytes + e->key_len, e->value_len));
    io_mutex_unlock(&k->lock);
    return found;
}

static void room_make(struct kept *k, size_t n)
{
    uint8_t seed[16];

    if (k->map.n < k->limits.entries && k->bytes + n <= k->limits.bytes)
        return;
    memcpy(seed, k->map.seed, sizeof seed);
    forget(k);
    map_init(&k->map, k->limits.entries, seed);
}

static struct entry *entry_new(struct slice key, struct slice value)
{
    struct entry *e = xmalloc(sizeof *e + key.len + value.len);

    e->key_len = key.len;
    e->value_len = value.len;
    memcpy(e->bytes, key.ptr, key.len);
    if (value.len)
        memcpy(e->bytes + key.len, value.ptr, value.len);
    return e;
}

void kept_put(struct kept *k, struct slice key, struct slice value)
{
    size_t n = key.len + value.len;
    struct entry *e;

    if (n > k->limits.bytes_each)
        return;
    io_mutex_lock(&k->lock);
    if (!map_find(&k->map, key)) {
        room_make(k, n);
        e = entry_new(key, value);
        map_put(&k->map, slice_of(e->bytes, key.len), e);
        k->bytes += n;
    }
    io_mutex_unlock(&k->lock);
}
