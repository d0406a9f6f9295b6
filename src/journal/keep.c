/* Keeping what was written: see keep.h.
 *
 * The tail and the blocks share conf.cache_bytes. While somebody reads, and the tail is full, the keeper
 * makes it larger, a slab (slab.h) at a time and not more than one each GROW_NS: memory that is new to
 * the process may have to be fetched from the host first (measured on a virtual machine: 2.3 seconds
 * for each GB), and no writer is to wait for it, nor to share the processor with much of it. What is
 * kept is what was written, where it was written: it is not copied, so that keeping costs nothing once
 * the memory is there. Beside writers the tail grows by what they earn by writing, so that what it costs
 * them is a part of what their writing costs, however slow they are and however dear memory is.
 *
 * Blocks have what the tail has not taken, and at least BLOCKS_FIRST_BYTES; when readers of files come
 * back to what went from there, up to a half. When nobody has read for a while, the tail has its own
 * room again. */
#include "journal/keep.h"

#include "journal/blocks.h"
#include "journal/slab.h"

#define GROW_NS     5000000ull
#define WAIT_NS     1000000000ull
#define REST_TIMES  8u
#define EARN_BYTES  8u /* written for each nanosecond of making memory: 0.12 s/GB */
#define NOTE_PERIOD 1000000000ull

void keep_note_read(struct journal *j)
{
    uint64_t now = io_mono_ns(j->io);

    if (now - atomic_load_explicit(&j->keep_read_ns, memory_order_relaxed) > NOTE_PERIOD)
        atomic_store_explicit(&j->keep_read_ns, now, memory_order_relaxed);
}

/* Was anything read lately? */
static bool wanted(struct journal *j, uint64_t now)
{
    uint64_t read_ns = atomic_load_explicit(&j->keep_read_ns, memory_order_relaxed);

    return read_ns && read_ns + BLOCKS_IDLE_NS > now; /* it may be a little later than now */
}

/* The tail gets so much more than its own room; the blocks have the rest. */
static void share_out(struct journal *j, uint64_t more)
{
    while (!tail_resize(j, j->conf.tail_bytes + more))
        ;
    blocks_limit(j->blocks, j->conf.cache_bytes - more);
    j->keep_more = more;
}

/* A slab was made. Beside writers that takes a ninth of a processor's time, however long one takes. */
static void rest(struct journal *j, uint64_t began)
{
    uint64_t now = io_mono_ns(j->io), cost = now - began;

    j->keep_cost_ns = j->keep_cost_ns ? (3 * j->keep_cost_ns + cost) / 4 : cost;
    j->keep_rest_ns = writers_about(j) ? now + cost * REST_TIMES : 0;
}

/* Have writers who are at it written enough for another slab? */
static bool is_earned(struct journal *j)
{
    uint64_t since = atomic_load_explicit(&j->st_written, memory_order_relaxed) - j->keep_written;

    return !writers_about(j) || since / EARN_BYTES >= j->keep_cost_ns;
}

/* Gives the tail another slab. False: there may be no more. */
static bool tail_grow(struct journal *j, uint64_t now)
{
    uint64_t more = j->keep_more + slab_bytes(j);

    if (more + BLOCKS_FIRST_BYTES > j->conf.cache_bytes || !tail_full(j))
        return false;
    if (now - j->keep_grown_ns < GROW_NS || !is_earned(j))
        return true;
    blocks_limit(j->blocks, j->conf.cache_bytes - more);
    if (blocks_bytes(j->blocks) + more > j->conf.cache_bytes || !slab_pool_add(j)) {
        blocks_limit(j->blocks, j->conf.cache_bytes - j->keep_more);
        return false;
    }
    rest(j, now);
    j->keep_grown_ns = now;
    j->keep_written = atomic_load_explicit(&j->st_written, memory_order_relaxed);
    share_out(j, more);
    return true;
}

bool keep_step(struct journal *j)
{
    uint64_t now = io_mono_ns(j->io), slab = slab_bytes(j);

    if (now < j->keep_rest_ns)
        return true;
    if (blocks_grow(j->blocks, j->keep_cost_ns)) {
        rest(j, now);
        return true;
    }
    if (!wanted(j, now)) {
        if (j->keep_more)
            share_out(j, 0);
        return false;
    }
    if (j->keep_more > j->conf.cache_bytes / 2 && blocks_short(j->blocks)) {
        share_out(j, j->keep_more > slab ? j->keep_more - slab : 0);
        return true;
    }
    return tail_grow(j, now);
}

void keep_main(void *arg)
{
    struct journal *j = arg;

    while (!atomic_load(&j->stop_keep))
        io_event_wait(&j->keep_event, keep_step(j) ? GROW_NS : WAIT_NS);
}
