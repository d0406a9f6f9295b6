/* The tail: recent frames kept in memory for readers at the end of the log. A ring ordered by place
 * (file id, position in file), which is also the order of writing. Frames are reference-counted: a
 * frame that is evicted here lives on until its last reader lets go. Guarded by j->tail_lock. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "journal/journal_int.h"

static struct tail_slot *slot_at(struct journal *j, uint32_t i)
{
    return &j->tail[(j->tail_head + i) & (j->tail_cap - 1)];
}

static void grow(struct journal *j)
{
    uint32_t cap = j->tail_cap ? j->tail_cap * 2 : 64;
    struct tail_slot *t = xcalloc(cap, sizeof *t);
    uint32_t i;

    for (i = 0; i < j->tail_n; i++)
        t[i] = *slot_at(j, i);
    free(j->tail);
    j->tail = t;
    j->tail_cap = cap;
    j->tail_head = 0;
}

static struct frame *evict(struct journal *j)
{
    struct frame *f = slot_at(j, 0)->frame;

    j->tail_head = (j->tail_head + 1) & (j->tail_cap - 1);
    j->tail_n--;
    j->tail_bytes -= f->cap;
    f->evicted = true;
    atomic_fetch_add(&j->evicted_bytes, f->cap);
    return f;
}

/* A frame that fills little of its buffer moves to one of its own size, so that the big buffer can
 * be used again at once. */
static struct frame *shrunk(struct journal *j, struct frame *f)
{
    struct frame *s;

    if (f->used * 8 > f->cap) {
        atomic_fetch_add(&f->refs, 1);
        return f;
    }
    s = xcalloc(1, sizeof *s);
    s->mem = xmalloc(f->used);
    memcpy(s->mem, f->mem, f->used);
    s->cap = s->used = f->used;
    s->seq = f->seq;
    s->file_id = f->file_id;
    s->file_pos = f->file_pos;
    atomic_store(&s->refs, 1);
    return s;
}

void tail_add(struct journal *j, struct frame *f)
{
    struct frame *keep = shrunk(j, f);
    struct frame *gone[8];
    unsigned n = 0, i;

    io_mutex_lock(&j->tail_lock);
    if (j->tail_n == j->tail_cap)
        grow(j);
    *slot_at(j, j->tail_n) = (struct tail_slot){f->file_id, f->file_pos, keep};
    j->tail_n++;
    j->tail_bytes += keep->cap;
    while (j->tail_bytes > j->conf.tail_bytes && j->tail_n > 1 && n < 8)
        gone[n++] = evict(j);
    io_mutex_unlock(&j->tail_lock);
    for (i = 0; i < n; i++)
        frame_unref(j, gone[i]);
}

/* The first slot beyond the place. Lock held. */
static uint32_t slot_behind(struct journal *j, uint64_t file_id, uint64_t pos)
{
    uint32_t lo = 0, hi = j->tail_n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        struct tail_slot *s = slot_at(j, mid);

        if (s->file_id < file_id || (s->file_id == file_id && s->file_pos <= pos))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct frame *tail_from(struct journal *j, uint64_t file_id, uint64_t pos)
{
    struct frame *f = tail_find(j, file_id, pos);
    uint32_t i;

    if (f)
        return f;
    io_mutex_lock(&j->tail_lock);
    i = slot_behind(j, file_id, pos);
    if (i < j->tail_n) {
        f = slot_at(j, i)->frame;
        atomic_fetch_add(&f->refs, 1);
    }
    io_mutex_unlock(&j->tail_lock);
    return f;
}

struct frame *tail_find(struct journal *j, uint64_t file_id, uint64_t pos)
{
    struct frame *f = NULL;
    uint32_t lo;

    io_mutex_lock(&j->tail_lock);
    lo = slot_behind(j, file_id, pos);
    if (lo > 0) {
        struct tail_slot *s = slot_at(j, lo - 1);

        if (s->file_id == file_id && pos - s->file_pos < s->frame->used) {
            f = s->frame;
            atomic_fetch_add(&f->refs, 1);
        }
    }
    io_mutex_unlock(&j->tail_lock);
    return f;
}

void tail_clear(struct journal *j)
{
    while (j->tail_n)
        frame_unref(j, evict(j));
    free(j->tail);
    j->tail = NULL;
    j->tail_cap = j->tail_head = 0;
}
