/* Keeping what was written: while there are readers, the tail gets more room, so that those who come a
 * little later find it in memory. Private to src/journal. */
#ifndef WEIR_JOURNAL_KEEP_H
#define WEIR_JOURNAL_KEEP_H

#include "journal/journal_int.h"

/* Somebody reads. Any thread. */
void keep_note_read(struct journal *j);
/* Makes room for blocks or for the tail, if it is due, or takes it back; true: there may be more to do
 * soon. One thread at a time: its own, or, where there are none, whoever steps the background. */
bool keep_step(struct journal *j);
/* The thread, until stop_keep and a signal of keep_event. */
void keep_main(void *arg);

#endif
