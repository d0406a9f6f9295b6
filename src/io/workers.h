/* A few threads for what would make a loop wait, above all for a disk. Work is done in the order in
 * which it was given; how much waits is bounded by those who give it. The threads give way to the
 * loops and to the journal when the processors are busy: writers are answered before those who catch
 * up. Threads: run any; the others one. */
#ifndef WEIR_IO_WORKERS_H
#define WEIR_IO_WORKERS_H

#include "base/err.h"
#include "base/list.h"

struct workers;
struct work {
    struct list_node link;
    void (*fn)(struct work *w); /* on one of the threads */
};

/* name: of the threads, at most 15 characters. No threads (simulation): workers_run does it itself. */
enum err workers_new(struct workers **out, const char *name, unsigned threads,
                     struct errinfo *info);
/* When everything that was given is done. */
void workers_free(struct workers **ws);
/* w belongs to the threads until its fn is called. */
void workers_run(struct workers *ws, struct work *w);

#endif
