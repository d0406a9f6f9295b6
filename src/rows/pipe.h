/* Bytes of a result on their way from the worker that makes them to an event loop, which never waits.
 * The maker does: while more than a maximum lies in the pipe it sleeps, so a slow reader holds back
 * its own query and nothing else.
 *
 *   worker: rows_pipe_put … rows_pipe_end         (each once its own; then it lets go)
 *   loop:   wake() -> rows_pipe_take … ; rows_pipe_close at any time
 *
 * Invariants: wake is called on the loop, never after rows_pipe_close, and again only after
 * something was added since the last take; after rows_pipe_close the maker's puts answer false. The
 * pipe is freed when both sides have let go. The loop must outlive the maker. */
#ifndef WEIR_ROWS_PIPE_H
#define WEIR_ROWS_PIPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct loop;
struct rows_pipe;

/* A run of bytes, with what its maker says about it. */
struct rows_piece {
    struct rows_piece *next;
    uint8_t *ptr;
    size_t len;
    size_t at;     /* the taker's: how far it has come */
    uint32_t kind; /* the maker's */
};

/* One reference for each side. */
struct rows_pipe *rows_pipe_new(struct loop *l, size_t max, void (*wake)(void *arg), void *arg);

/* ---- the maker ---- */

/* Takes the bytes out of b, which is empty then. Blocks while the pipe is full; false: the taker has
 * gone. An empty b adds nothing. */
bool rows_pipe_put(struct rows_pipe *p, struct buf *b, uint32_t kind);
bool rows_pipe_closed(struct rows_pipe *p);
/* All is there; lets go. */
void rows_pipe_end(struct rows_pipe **p);

/* ---- the taker ---- */

/* The next piece, owned; NULL: none now. *ended: nor will there be. */
struct rows_piece *rows_pipe_take(struct rows_pipe *p, bool *ended);
/* How much may lie in it from now on. */
void rows_pipe_max(struct rows_pipe *p, size_t max);
/* Lets go, throwing away what is left. */
void rows_pipe_close(struct rows_pipe **p);

void rows_piece_free(struct rows_piece *piece);

#endif
