/* See trees.h. When there is no more room everything goes: a program that writes its values into its
 * statements never asks the same again, and fills what is there however it is ordered. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sql/trees.h"

struct entry {
    size_t text_len, tree_len;
    uint8_t bytes[]; /* the text, which is the key, and the tree */
};

void trees_init(struct trees *t, const uint8_t seed[16])
{
    io_mutex_init(&t->lock);
    map_init(&t->map, TREES_MAX, seed);
    t->bytes = 0;
}

static void forget(struct trees *t)
{
    uint32_t at = 0;
    void *v;

    while (map_next(&t->map, &at, NULL, &v))
        free(v);
    map_fini(&t->map);
    t->bytes = 0;
}

void trees_fini(struct trees *t)
{
    forget(t);
    io_mutex_fini(&t->lock);
}

bool trees_get(struct trees *t, struct slice text, struct buf *out)
{
    const struct entry *e;
    bool found;

    io_mutex_lock(&t->lock);
    e = map_find(&t->map, text);
    found = e && !buf_append(out, e->bytes + e->text_len, e->tree_len);
    io_mutex_unlock(&t->lock);
    return found;
}

static void room_make(struct trees *t, size_t n)
{
    uint8_t seed[16];

    if (t->map.n < TREES_MAX && t->bytes + n <= TREES_BYTES)
        return;
    memcpy(seed, t->map.seed, sizeof seed);
    forget(t);
    map_init(&t->map, TREES_MAX, seed);
}

void trees_put(struct trees *t, struct slice text, struct slice tree)
{
    size_t n = text.len + tree.len;
    struct entry *e;

    if (n > TREES_BYTES_EACH)
        return;
    io_mutex_lock(&t->lock);
    if (!map_find(&t->map, text)) {
        room_make(t, n);
        e = xmalloc(sizeof *e + n);
        e->text_len = text.len;
        e->tree_len = tree.len;
        memcpy(e->bytes, text.ptr, text.len);
        memcpy(e->bytes + text.len, tree.ptr, tree.len);
        map_put(&t->map, slice_of(e->bytes, text.len), e);
        t->bytes += n;
    }
    io_mutex_unlock(&t->lock);
}
