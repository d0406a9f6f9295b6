/* A few threads for what would make a loop wait, above all for a disk. Work is done in the order in
 * which it was given; how much waits is bounded by the connections, each of which has one fetch under
 * way. The threads give way to the loops and to the journal when the processors are busy: writers are
 * answered before those who catch up. */
#include <stdlib.h>

#include "base/mem.h"
#include "io/thread.h"
#include "proto/kafka/kafka_int.h"

struct kworkers {
    struct io_mutex lock; /* of the next two */
    struct list_head waiting;
    bool ending;
    struct io_cond cond;
    unsigned n;
    struct io_thread *threads[];
};

static void work(void *arg)
{
    struct kworkers *ws = arg;
    struct kwork *w;

    io_mutex_lock(&ws->lock);
    for (;;) {
        while (list_empty(&ws->waiting) && !ws->ending)
            io_cond_wait(&ws->cond, &ws->lock);
        if (list_empty(&ws->waiting))
            break;
        w = list_entry(list_pop_front(&ws->waiting), struct kwork, link);
        io_mutex_unlock(&ws->lock);
        w->fn(w);
        io_mutex_lock(&ws->lock);
    }
    io_mutex_unlock(&ws->lock);
}

enum err kworkers_new(struct kworkers **out, unsigned threads, struct errinfo *info)
{
    struct kworkers *ws = xcalloc(1, sizeof *ws + threads * sizeof *ws->threads);
    enum err e = ERR_OK;

    io_mutex_init(&ws->lock);
    io_cond_init(&ws->cond);
    list_init(&ws->waiting);
    while (!e && ws->n < threads) {
        e = io_thread_start("weir-fetch", IO_PRIO_BACKGROUND, work, ws, &ws->threads[ws->n], info);
        ws->n += !e;
    }
    *out = ws;
    if (e)
        kworkers_free(out);
    return e;
}

void kworkers_free(struct kworkers **wsp)
{
    struct kworkers *ws = *wsp;
    unsigned i;

    if (!ws)
        return;
    io_mutex_lock(&ws->lock);
    ws->ending = true;
    io_cond_broadcast(&ws->cond);
    io_mutex_unlock(&ws->lock);
    for (i = 0; i < ws->n; i++)
        io_thread_join(&ws->threads[i]);
    io_cond_fini(&ws->cond);
    io_mutex_fini(&ws->lock);
    free(ws);
    *wsp = NULL;
}

void kworkers_run(struct kworkers *ws, struct kwork *w)
{
    io_mutex_lock(&ws->lock);
    list_push_back(&ws->waiting, &w->link);
    io_cond_signal(&ws->cond);
    io_mutex_unlock(&ws->lock);
}
