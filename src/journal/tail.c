/* The tail: recent frames kept in memory for readers at the end of the log. A ring ordered by place
 * (file id, position in file), which is also the order of writing. Frames are reference-counted: a
 * frame that is evicted here lives on until its last reader lets go. Guarded by j->tail_lock. */
#include <stdlib.h>

#include "base/mem.h"
#include "journal/slab.h"

#define AT_ONCE 256u /* frames let go under the lock */

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

/* Lock held. */
static void evict(struct journal *j, struct list_head *gone)
{
    struct frame *f = slot_at(j, 0)->frame;

    j->tail_head = (j->tail_head + 1) & (j->tail_cap - 1);
    j->tail_n--;
    j->tail_bytes -= f->held;
    atomic_fetch_add(&f->slab->evicted, f->held);
    atomic_fetch_add(&j->evicted_bytes, f->held);
    list_push_back(gone, &f->link);
}

static void let_go(struct journal *j, struct list_head *gone)
{
    while (!list_empty(gone))
        frame_unref(j, list_entry(list_pop_front(gone), struct frame, link));
}

/* A frame that comes lets twice its size go at most, so that the writer never has much to do when there
 * is suddenly less room. */
void tail_add(struct journal *j, struct frame *f)
{
    struct list_head gone;
    uint64_t from;

    list_init(&gone);
    atomic_fetch_add(&f->refs, 1);
    io_mutex_lock(&j->tail_lock);
    if (j->tail_n == j->tail_cap)
        grow(j);
    *slot_at(j, j->tail_n) = (struct tail_slot){f->file_id, f->file_pos, f};
    j->tail_n++;
    j->tail_bytes += f->held;
    for (from = j->tail_bytes;
         j->tail_bytes > j->tail_max && j->tail_n > 1 && from - j->tail_bytes < 2 * f->held;)
        evict(j, &gone);
    io_mutex_unlock(&j->tail_lock);
    let_go(j, &gone);
}

bool tail_full(struct journal *j)
{
    bool full;

    io_mutex_lock(&j->tail_lock);
    full = j->tail_bytes + slab_bytes(j) > j->tail_max;
    io_mutex_unlock(&j->tail_lock);
    return full;
}

bool tail_resize(struct journal *j, uint64_t bytes_max)
{
    struct list_head gone;
    unsigned n;
    bool done;

    list_init(&gone);
    io_mutex_lock(&j->tail_lock);
    j->tail_max = bytes_max;
    for (n = 0; n < AT_ONCE && j->tail_bytes > bytes_max && j->tail_n > 1; n++)
        evict(j, &gone);
    done = n < AT_ONCE;
    io_mutex_unlock(&j->tail_lock);
    let_go(j, &gone);
    return done;
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
    struct list_head gone;

    list_init(&gone);
    while (j->tail_n)
        evict(j, &gone);
    let_go(j, &gone);
    free(j->tail);
    j->tail = NULL;
    j->tail_cap = j->tail_head = 0;
}
