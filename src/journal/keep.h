/* Keeping what was written: copies it from the tail into blocks (blocks.h) while there are readers,
 * so that those who come a little later than the tail reaches find it in memory. Private to
 * src/journal. */
#ifndef WEIR_JOURNAL_KEEP_H
#define WEIR_JOURNAL_KEEP_H

#include "journal/journal_int.h"

/* Somebody reads. Any thread. */
void keep_note_read(struct journal *j);
/* A frame went into the tail. The writer. */
void keep_note_written(struct journal *j, uint64_t bytes);
/* Copies a few MiB, and makes room for blocks if that is due; true: there may be more. One thread at a
 * time: its own, or, where there are none, whoever steps the background. */
bool keep_step(struct journal *j);
/* The thread, until stop_keep and a signal of keep_event. */
void keep_main(void *arg);

#endif
