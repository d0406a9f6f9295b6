/* Keeping what was written: see keep.h.
 *
 * The keeper goes through the tail behind the writer. When it is slower than the writer (its thread
 * runs when nothing else wants the processor), frames leave the tail before it has seen them: it goes
 * on with the oldest that is left, and what it missed is read from the file if somebody asks for it.
 * So writing never waits for it, nor for memory that is new to the process, which on a virtual machine
 * may have to be fetched from the host first (measured: 2.3 seconds for each GB). */
#include "journal/keep.h"

#include "journal/blocks.h"

#define STEP_BYTES  (4u << 20) /* at once */
#define GROW_STEPS  4u         /* slabs made at once */
#define WAIT_NS     1000000000ull
#define NOTE_PERIOD 1000000000ull

void keep_note_read(struct journal *j)
{
    uint64_t now = io_mono_ns(j->io);

    if (now - atomic_load_explicit(&j->keep_read_ns, memory_order_relaxed) > NOTE_PERIOD)
        atomic_store_explicit(&j->keep_read_ns, now, memory_order_relaxed);
}

void keep_note_written(struct journal *j, uint64_t bytes)
{
    uint64_t now = io_mono_ns(j->io);
    uint64_t had = atomic_fetch_add_explicit(&j->keep_pending, bytes, memory_order_relaxed);

    atomic_store_explicit(&j->keep_written_ns, now, memory_order_relaxed);
    if (had < STEP_BYTES && had + bytes >= STEP_BYTES && j->conf.threads)
        io_event_signal(&j->keep_event);
}

/* Was anything read lately? */
static bool wanted(struct journal *j)
{
    uint64_t read_ns = atomic_load_explicit(&j->keep_read_ns, memory_order_relaxed);

    return read_ns && io_mono_ns(j->io) - read_ns < BLOCKS_IDLE_NS;
}

bool keep_step(struct journal *j)
{
    uint64_t done = 0;
    unsigned i;

    for (i = 0; i < GROW_STEPS && blocks_grow(j->blocks, false); i++)
        ;
    if (!wanted(j))
        return false;
    while (done < STEP_BYTES) {
        struct frame *f = tail_from(j, j->keep_file, j->keep_pos);

        if (!f)
            return false;
        blocks_grow(j->blocks, true);
        blocks_put(j->blocks, f->file_id, f->file_pos, f->mem, f->used);
        j->keep_file = f->file_id;
        j->keep_pos = f->file_pos + f->used;
        done += f->used;
        frame_unref(j, f);
    }
    return true;
}

void keep_main(void *arg)
{
    struct journal *j = arg;

    while (!atomic_load(&j->stop_keep)) {
        atomic_store_explicit(&j->keep_pending, 0, memory_order_relaxed);
        if (!keep_step(j))
            io_event_wait(&j->keep_event, WAIT_NS);
    }
}
