/* The pipe between a query's worker and a loop. See pipe.h.
 *
 * Lock: pipe->lock guards all but the constants. `posted` is true from loop_post until the task has
 * run; the pipe stays until then, as the task is part of it. */
#include "rows/pipe.h"

#include <stdlib.h>

#include "base/mem.h"
#include "io/thread.h"
#include "net/loop.h"

struct rows_pipe {
    struct loop *loop;
    void (*wake)(void *arg);
    void *arg;
    struct loop_task task;
    struct io_mutex lock;
    struct io_cond room;
    struct rows_piece *head, *tail;
    size_t bytes, max;
    bool posted, ended, closed;
};

static void pieces_free(struct rows_piece *piece)
{
    while (piece) {
        struct rows_piece *next = piece->next;

        rows_piece_free(piece);
        piece = next;
    }
}

void rows_piece_free(struct rows_piece *piece)
{
    if (!piece)
        return;
    free(piece->ptr);
    free(piece);
}

/* Called with the lock held, which it gives up: frees the pipe if nobody has it any more. */
static void settle(struct rows_pipe *p)
{
    bool over = p->ended && p->closed && !p->posted;

    io_mutex_unlock(&p->lock);
    if (!over)
        return;
    pieces_free(p->head);
    io_cond_fini(&p->room);
    io_mutex_fini(&p->lock);
    free(p);
}

static void task_run(struct loop_task *t)
{
    struct rows_pipe *p = list_entry(t, struct rows_pipe, task);
    void (*wake)(void *arg) = NULL;
    void *arg = NULL;

    io_mutex_lock(&p->lock);
    p->posted = false;
    if (!p->closed) {
        wake = p->wake;
        arg = p->arg;
    }
    settle(p);
    if (wake)
        wake(arg); /* on the loop, as rows_pipe_close is: it cannot come between */
}

/* With the lock; true: the task is to be posted when it is given up, or the loop, woken, would wait for
 * it. The pipe stays until the task has run. */
static bool post(struct rows_pipe *p)
{
    if (p->posted || p->closed)
        return false;
    return p->posted = true;
}

struct rows_pipe *rows_pipe_new(struct loop *l, size_t max, void (*wake)(void *arg), void *arg)
{
    struct rows_pipe *p = xcalloc(1, sizeof *p);

    p->loop = l;
    p->max = max;
    p->wake = wake;
    p->arg = arg;
    p->task.fn = task_run;
    io_mutex_init(&p->lock);
    io_cond_init(&p->room);
    return p;
}

bool rows_pipe_put(struct rows_pipe *p, struct buf *b, uint32_t kind)
{
    struct rows_piece *piece;
    bool ok, wake = false;

    if (b->len == 0)
        return !rows_pipe_closed(p);
    piece = xcalloc(1, sizeof *piece);
    piece->kind = kind;
    piece->ptr = buf_take(b, &piece->len);
    io_mutex_lock(&p->lock);
    while (!p->closed && p->bytes >= p->max)
        io_cond_wait(&p->room, &p->lock);
    ok = !p->closed;
    if (ok) {
        if (p->tail)
            p->tail->next = piece;
        else
            p->head = piece;
        p->tail = piece;
        p->bytes += piece->len;
        piece = NULL;
        wake = post(p);
    }
    io_mutex_unlock(&p->lock);
    if (wake)
        loop_post(p->loop, &p->task);
    rows_piece_free(piece);
    return ok;
}

bool rows_pipe_closed(struct rows_pipe *p)
{
    bool closed;

    io_mutex_lock(&p->lock);
    closed = p->closed;
    io_mutex_unlock(&p->lock);
    return closed;
}

void rows_pipe_end(struct rows_pipe **pp)
{
    struct rows_pipe *p = *pp;
    bool wake;

    *pp = NULL;
    io_mutex_lock(&p->lock);
    p->ended = true;
    wake = post(p);
    settle(p);
    if (wake)
        loop_post(p->loop, &p->task);
}

struct rows_piece *rows_pipe_take(struct rows_pipe *p, bool *ended)
{
    struct rows_piece *piece;

    io_mutex_lock(&p->lock);
    piece = p->head;
    if (piece) {
        p->head = piece->next;
        if (!p->head)
            p->tail = NULL;
        piece->next = NULL;
        p->bytes -= piece->len;
        io_cond_signal(&p->room);
    }
    *ended = p->ended && !piece;
    io_mutex_unlock(&p->lock);
    return piece;
}

void rows_pipe_max(struct rows_pipe *p, size_t max)
{
    io_mutex_lock(&p->lock);
    p->max = max;
    io_cond_signal(&p->room);
    io_mutex_unlock(&p->lock);
}

void rows_pipe_close(struct rows_pipe **pp)
{
    struct rows_pipe *p = *pp;

    if (!p)
        return;
    *pp = NULL;
    io_mutex_lock(&p->lock);
    p->closed = true;
    io_cond_signal(&p->room);
    settle(p);
}
