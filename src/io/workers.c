/* See workers.h. */
#include "io/workers.h"

#include <stdlib.h>

#include "base/mem.h"
#include "io/thread.h"

struct workers {
    struct io_mutex lock; /* of the next two */
    struct list_head waiting;
    bool ending;
    struct io_cond cond;
    unsigned n;
    struct io_thread *threads[];
};

static void work(void *arg)
{
    struct workers *ws = arg;
    struct work *w;

    io_mutex_lock(&ws->lock);
    for (;;) {
        while (list_empty(&ws->waiting) && !ws->ending)
            io_cond_wait(&ws->cond, &ws->lock);
        if (list_empty(&ws->waiting))
            break;
        w = list_entry(list_pop_front(&ws->waiting), struct work, link);
        io_mutex_unlock(&ws->lock);
        w->fn(w);
        io_mutex_lock(&ws->lock);
    }
    io_mutex_unlock(&ws->lock);
}

enum err workers_new(struct workers **out, const char *name, unsigned threads, struct errinfo *info)
{
    struct workers *ws = xcalloc(1, sizeof *ws + threads * sizeof *ws->threads);
    enum err e = ERR_OK;

    io_mutex_init(&ws->lock);
    io_cond_init(&ws->cond);
    list_init(&ws->waiting);
    while (!e && ws->n < threads) {
        e = io_thread_start(name, IO_PRIO_BACKGROUND, work, ws, &ws->threads[ws->n], info);
        ws->n += !e;
    }
    *out = ws;
    if (e)
        workers_free(out);
    return e;
}

void workers_free(struct workers **wsp)
{
    struct workers *ws = *wsp;
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

void workers_run(struct workers *ws, struct work *w)
{
    if (!ws->n) {
        w->fn(w);
        return;
    }
    io_mutex_lock(&ws->lock);
    list_push_back(&ws->waiting, &w->link);
    io_cond_signal(&ws->cond);
    io_mutex_unlock(&ws->lock);
}
