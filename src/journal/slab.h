/* Memory of frames. Private to src/journal.
 *
 * Frames lie one behind the other in slabs, each at a multiple of 4 KiB, and take of one what they have
 * come to when they are closed: so what the tail keeps is full of records, however large frames are,
 * and is never copied to be kept. A slab has two frames' target size, with the usual one 2 MiB, a huge
 * page: for the disk a frame is then one piece or two, not one for each 4 KiB.
 *
 * A slab lives until the last of its frames goes; so whoever holds one small frame holds the slab. What
 * left the tail counts among j->evicted_bytes until its slab goes. */
#ifndef WEIR_JOURNAL_SLAB_H
#define WEIR_JOURNAL_SLAB_H

#include "journal/journal_int.h"

struct slab {
    struct list_node link; /* pool */
    uint8_t *mem;          /* FRAME_ALIGN-aligned */
    uint64_t size;
    bool huge;                /* from huge_new */
    atomic_uint refs;         /* one for each frame, and one while frames are put into it */
    _Atomic uint64_t evicted; /* bytes of its frames that left the tail */
};

uint64_t slab_bytes(const struct journal *j);
/* A frame with room for a unit of so many bytes; its `seq` and the like are the caller's to set. Journal
 * lock held. */
struct frame *frame_open(struct journal *j, uint64_t room);
/* Nothing is added to it any more: the next frame begins behind it. Journal lock held. */
void frame_close(struct journal *j, struct frame *f);
void frame_unref(struct journal *j, struct frame *f);

/* Makes a slab and touches its memory, so that no writer has to; false: there is none. Any thread. */
bool slab_pool_add(struct journal *j);
/* Gives back half of the pool: called once a second while little is written. */
void slab_pool_shrink(struct journal *j);
/* Before the journal goes: no frame is left. */
void slab_pool_clear(struct journal *j);

#endif
