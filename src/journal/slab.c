/* Memory of frames: see slab.h. */
#include "journal/slab.h"

#include <stdlib.h>

#include "base/mem.h"

#define SLAB_FRAMES 2u
#define REST_PART \
    4u /* what is left of a slab is used for a frame if it is so much of a whole one */

uint64_t slab_bytes(const struct journal *j)
{
    return (uint64_t)SLAB_FRAMES * j->conf.frame_bytes;
}

/* ---- slabs ---- */

static struct slab *slab_new(uint64_t size, bool huge)
{
    struct slab *s = xcalloc(1, sizeof *s);

    s->size = size;
    s->mem = huge && size % HUGE_BYTES == 0 ? huge_new(size) : NULL;
    s->huge = s->mem != NULL;
    if (!s->mem)
        s->mem = xaligned(FRAME_ALIGN, size);
    return s;
}

static void slab_free(struct slab *s)
{
    if (s->huge)
        huge_free(s->mem, s->size);
    else
        free(s->mem);
    free(s);
}

/* NULL: the pool took it. */
static struct slab *pool_put(struct journal *j, struct slab *s)
{
    io_mutex_lock(&j->pool_lock);
    if (j->pool_n < SLAB_POOL_MAX) {
        list_push_back(&j->pool, &s->link);
        j->pool_n++;
        s = NULL;
    }
    io_mutex_unlock(&j->pool_lock);
    return s;
}

static struct slab *pool_take(struct journal *j)
{
    struct slab *s = NULL;

    io_mutex_lock(&j->pool_lock);
    if (!list_empty(&j->pool)) {
        s = list_entry(list_pop_front(&j->pool), struct slab, link);
        j->pool_n--;
    }
    io_mutex_unlock(&j->pool_lock);
    return s;
}

static void slab_unref(struct journal *j, struct slab *s)
{
    if (atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    atomic_fetch_sub(&j->evicted_bytes, atomic_exchange(&s->evicted, 0));
    if (s->size == slab_bytes(j))
        s = pool_put(j, s);
    if (s)
        slab_free(s);
}

/* The slab that is filled next. The first one of a journal is not a huge page: most journals of
 * programs that write little need no more, and of that only what they touch. */
static void slab_next(struct journal *j)
{
    struct slab *s = pool_take(j);

    if (!s)
        s = slab_new(slab_bytes(j), j->slab != NULL);
    atomic_store(&s->refs, 1);
    if (j->slab) {
        j->slab_waste += j->slab->size - j->slab_at;
        slab_unref(j, j->slab);
    }
    j->slab = s;
    j->slab_at = 0;
}

bool slab_pool_add(struct journal *j)
{
    struct slab *s = slab_new(slab_bytes(j), true);
    uint64_t i;

    for (i = 0; i < s->size; i += FRAME_ALIGN)
        ((volatile uint8_t *)s->mem)[i] = 0;
    if (!(s = pool_put(j, s)))
        return true;
    slab_free(s);
    return false;
}

void slab_pool_shrink(struct journal *j)
{
    uint32_t n;

    io_mutex_lock(&j->pool_lock);
    n = j->pool_n - j->pool_n / 2;
    io_mutex_unlock(&j->pool_lock);
    for (; n; n--) {
        struct slab *s = pool_take(j);

        if (!s)
            return;
        slab_free(s);
    }
}

void slab_pool_clear(struct journal *j)
{
    if (j->slab)
        slab_unref(j, j->slab);
    j->slab = NULL;
    while (j->pool_n)
        slab_free(pool_take(j));
}

/* ---- frames ---- */

struct frame *frame_open(struct journal *j, uint64_t room)
{
    uint64_t need = frame_padded(FRAME_HEADER + room), target = j->conf.frame_bytes, left;
    struct frame *f = xcalloc(1, sizeof *f);

    if (need > slab_bytes(j)) {
        f->slab = slab_new(need, false);
        f->mem = f->slab->mem;
        f->cap = need;
    } else {
        left = j->slab ? j->slab->size - j->slab_at : 0;
        if (left < need || left < target / REST_PART) {
            slab_next(j);
            left = j->slab->size;
        }
        f->slab = j->slab;
        f->mem = j->slab->mem + j->slab_at;
        f->cap = left < target ? left : need > target ? need : target;
        f->waste = j->slab_waste;
        j->slab_waste = 0;
    }
    atomic_fetch_add(&f->slab->refs, 1);
    list_init(&f->units);
    atomic_store(&f->refs, 1);
    f->used = FRAME_HEADER;
    f->os = true;
    return f;
}

void frame_close(struct journal *j, struct frame *f)
{
    f->cap = frame_padded(f->used);
    f->held = f->cap + f->waste + sizeof *f;
    if (f->slab == j->slab)
        j->slab_at += f->cap;
}

void frame_unref(struct journal *j, struct frame *f)
{
    struct slab *s = f->slab;

    if (atomic_fetch_sub(&f->refs, 1) != 1)
        return;
    free(f);
    slab_unref(j, s);
}
