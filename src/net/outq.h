/* Output queues: bytes on their way to a peer, as a list of chunks. Small pieces are copied one
 * behind the other into chunks from a loop's pool, so that a turn's answers leave in few pieces and
 * nothing is allocated while the pool lasts; large ones are lent by their owner, who is told when
 * they are done with. One thread: the loop's. Private to src/net. */
#ifndef WEIR_NET_OUTQ_H
#define WEIR_NET_OUTQ_H

#include <stdint.h>
#include <sys/uio.h>

#include "base/slice.h"

struct out_chunk;

/* Free chunks of a loop, bounded by NET_POOL_SMALL and NET_POOL_LARGE. */
struct out_pool {
    struct out_chunk *free[2];
    unsigned n[2];
};

struct outq {
    struct out_chunk *head, *tail;
    size_t bytes; /* all that is queued */
};

/* Both are empty when zeroed. */
void out_pool_fini(struct out_pool *p);

/* Room for n bytes in a row behind what is queued, to be filled at once and committed by outq_done
 * with how many were. The caller has checked n against its limit. */
uint8_t *outq_room(struct outq *q, struct out_pool *p, size_t n);
void outq_done(struct outq *q, size_t n);
void outq_copy(struct outq *q, struct out_pool *p, struct slice s);
/* Borrows s until release(arg) is called: when the bytes have been sent or thrown away. Small ones
 * are copied, and released before this returns. */
void outq_lend(struct outq *q, struct out_pool *p, struct slice s, void (*release)(void *arg),
               void *arg);
/* Appends all of src to dst; src is empty then. */
void outq_move(struct outq *dst, struct outq *src, struct out_pool *p);
/* Moves what is behind the first `at` bytes to rest, which is empty. */
void outq_split(struct outq *q, struct out_pool *p, size_t at, struct outq *rest);
/* The first bytes, in at most n pieces; how many pieces. */
int outq_iov(const struct outq *q, struct iovec *iov, int n);
/* Throws the first n bytes away. */
void outq_drop(struct outq *q, struct out_pool *p, size_t n);
void outq_clear(struct outq *q, struct out_pool *p);
/* Copies at most n of the first bytes to dst and drops them; how many. */
size_t outq_take(struct outq *q, struct out_pool *p, uint8_t *dst, size_t n);

#endif
