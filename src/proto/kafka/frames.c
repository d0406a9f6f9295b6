/* Memory of large requests. Memory that was used just now is far quicker than new memory, so a loop
 * keeps some buffers while large requests come; and what the allocator kept beside them is given back
 * to the system when none has come for a while, so that a burst does not stay for ever.
 *
 * A buffer for a frame of up to WHOLE bytes is made in one piece: pages that nothing was written to
 * take no memory, and a buffer that grows is copied again and again. Larger ones grow with what has
 * come.
 *
 * All on the loop, but the trimming, which a worker does: it takes milliseconds. */
#include <stdlib.h>
#ifdef __GLIBC__ /* stdlib.h has told */
#include <malloc.h>
#endif

#include "proto/kafka/kafka_int.h"

#define SMALL   (64u << 10) /* is left to the request */
#define WHOLE   (2u << 20)
#define LOOK_MS 1000u
#define IDLE    2u  /* looks without a large request: then buffers are freed */
#define QUIET   12u /* then again, for what others freed meanwhile */

void kframes_take(struct kloop *kl, struct buf *b, size_t n)
{
    struct kframes *fs = &kl->frames;

    if (n <= SMALL || n > WHOLE) {
        buf_reserve(b, n < LIMIT_KAFKA_FRAME_STEP ? n : LIMIT_KAFKA_FRAME_STEP);
        return;
    }
    fs->moved++;
    buf_fini(b);
    if (fs->n) {
        *b = fs->kept[--fs->n];
        fs->bytes -= b->cap;
        if (b->cap < n)
            buf_fini(b);
    }
    buf_reserve(b, n);
}

void kframes_put(struct kloop *kl, struct buf *b)
{
    struct kframes *fs = &kl->frames;

    if (b->cap <= SMALL) {
        buf_clear(b);
        return;
    }
    fs->moved++;
    if (!loop_timer_armed(&fs->timer))
        loop_timer_arm(kl->loop, &fs->timer, LOOK_MS);
    if (fs->n == LIMIT_KAFKA_FREE_FRAMES || b->cap > LIMIT_KAFKA_FREE_FRAME_BYTES - fs->bytes) {
        buf_fini(b);
        return;
    }
    buf_clear(b);
    fs->bytes += b->cap;
    fs->kept[fs->n++] = *b;
    *b = (struct buf){.max = b->max};
}

static void drop(struct kframes *fs)
{
    while (fs->n)
        buf_fini(&fs->kept[--fs->n]);
    fs->bytes = 0;
}

/* A worker. */
static void trim(struct work *w)
{
    struct kframes *fs = list_entry(w, struct kframes, trim);

#ifdef __GLIBC__
    malloc_trim(0);
#endif
    atomic_store(&fs->trimming, false);
}

static void look(struct loop_timer *t)
{
    struct kframes *fs = list_entry(t, struct kframes, timer);
    struct kloop *kl = list_entry(fs, struct kloop, frames);

    fs->idle = fs->moved == fs->seen ? fs->idle + 1 : 0;
    fs->seen = fs->moved;
    if (fs->idle == IDLE || fs->idle == QUIET) {
        drop(fs);
        if (!atomic_exchange(&fs->trimming, true))
            workers_run(kl->k->readers, &fs->trim);
    }
    if (fs->idle < QUIET)
        loop_timer_arm(kl->loop, t, LOOK_MS);
}

void kframes_init(struct kloop *kl)
{
    loop_timer_init(&kl->frames.timer, look);
    kl->frames.trim.fn = trim;
}

void kframes_fini(struct kloop *kl)
{
    drop(&kl->frames);
}
