/* Turns at the disk: how many read at once, and who is next. Private to src/journal.
 *
 * Those who wait are served by where they read: the one that is furthest behind in what was written comes
 * first. Readers who go through the same files draw together so: whoever is ahead waits, and those
 * behind then find in memory what it has read. First come, first served, readers that have lost each
 * other by more than there is memory stay so, and each reads all of it. Each TURNS_OLDEST-th turn is that
 * of the one that has waited longest, so that nobody waits for ever for those behind it.
 *
 * Any thread; nobody holds the lock while it reads. */
#ifndef WEIR_JOURNAL_TURNS_H
#define WEIR_JOURNAL_TURNS_H

#include "io/io.h"
#include "io/thread.h"

#define TURNS_OLDEST 4u

struct turns;

struct turns *turns_new(void);
/* Nobody has a turn, or waits for one. */
void turns_free(struct turns **t);

/* Waits while at_once or more read. at: the place; less was written earlier. */
void turns_take(struct turns *t, uint64_t at, unsigned at_once);
/* The turn is over: whoever is next has it, as far as at_once allow. */
void turns_pass(struct turns *t, unsigned at_once);
/* That wait now. */
unsigned turns_waiting(struct turns *t);

#endif
