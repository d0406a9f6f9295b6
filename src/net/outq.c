/* Output queues. See outq.h.
 *
 * A chunk is of one of four kinds: small and large ones come from the pool, odd ones are allocated
 * for a piece that fits neither, lent ones point to somebody else's bytes. at <= end <= cap; bytes
 * at..end are queued, end..cap is room (none in lent ones). No queued chunk is empty but the last
 * one, between outq_room and outq_done. */
#include "net/outq.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "net/tbl/limits.h"

enum kind { SMALL, LARGE, ODD, LENT };

struct out_chunk {
    struct out_chunk *next;
    uint8_t *ptr;
    size_t at, end, cap;
    void (*release)(void *arg);
    void *arg;
    enum kind kind;
    uint8_t mem[];
};

static const size_t sizes[] = {NET_CHUNK_SMALL, NET_CHUNK_LARGE};
static const unsigned keep[] = {NET_POOL_SMALL, NET_POOL_LARGE};

static struct out_chunk *chunk_new(struct out_pool *p, size_t n, bool first)
{
    enum kind k = first && n <= NET_CHUNK_SMALL - sizeof(struct out_chunk) ? SMALL
                  : n <= NET_CHUNK_LARGE - sizeof(struct out_chunk)        ? LARGE
                                                                           : ODD;
    struct out_chunk *c;

    if (k != ODD && p->free[k]) {
        c = p->free[k];
        p->free[k] = c->next;
        p->n[k]--;
    } else {
        c = xmalloc(k == ODD ? sizeof *c + n : sizes[k]);
        c->cap = k == ODD ? n : sizes[k] - sizeof *c;
        c->kind = k;
        c->ptr = c->mem;
        c->release = NULL;
    }
    c->next = NULL;
    c->at = c->end = 0;
    return c;
}

static void chunk_free(struct out_pool *p, struct out_chunk *c)
{
    enum kind k = c->kind;

    if (k == LENT)
        c->release(c->arg);
    if (k >= ODD || p->n[k] >= keep[k]) {
        free(c);
        return;
    }
    c->next = p->free[k];
    p->free[k] = c;
    p->n[k]++;
}

void out_pool_fini(struct out_pool *p)
{
    int k;

    for (k = SMALL; k <= LARGE; k++) {
        while (p->free[k]) {
            struct out_chunk *c = p->free[k];

            p->free[k] = c->next;
            free(c);
        }
        p->n[k] = 0;
    }
}

static void append(struct outq *q, struct out_chunk *c)
{
    if (q->tail)
        q->tail->next = c;
    else
        q->head = c;
    q->tail = c;
}

uint8_t *outq_room(struct outq *q, struct out_pool *p, size_t n)
{
    struct out_chunk *c = q->tail;

    if (!c || c->cap - c->end < n) {
        c = chunk_new(p, n, q->bytes == 0);
        append(q, c);
    }
    return c->ptr + c->end;
}

void outq_done(struct outq *q, size_t n)
{
    struct out_chunk *c = q->tail;

    ASSERT(c && n <= c->cap - c->end);
    c->end += n;
    q->bytes += n;
}

void outq_copy(struct outq *q, struct out_pool *p, struct slice s)
{
    if (!s.len)
        return;
    memcpy(outq_room(q, p, s.len), s.ptr, s.len);
    outq_done(q, s.len);
}

void outq_lend(struct outq *q, struct out_pool *p, struct slice s, void (*release)(void *arg),
               void *arg)
{
    struct out_chunk *c;

    if (s.len <= NET_COPY_MAX) {
        outq_copy(q, p, s);
        release(arg);
        return;
    }
    c = xcalloc(1, sizeof *c);
    c->kind = LENT;
    c->ptr = (uint8_t *)(uintptr_t)s.ptr; /* only read: a lent chunk has no room */
    c->end = c->cap = s.len;
    c->release = release;
    c->arg = arg;
    append(q, c);
    q->bytes += s.len;
}

void outq_move(struct outq *dst, struct outq *src, struct out_pool *p)
{
    struct out_chunk *c = src->head;

    if (c && c == src->tail && c->end - c->at <= NET_COPY_MAX) { /* fewer pieces to write */
        outq_copy(dst, p, slice_of(c->ptr + c->at, c->end - c->at));
        outq_clear(src, p);
        return;
    }
    if (!c)
        return;
    if (dst->tail)
        dst->tail->next = c;
    else
        dst->head = c;
    dst->tail = src->tail;
    dst->bytes += src->bytes;
    *src = (struct outq){0};
}

void outq_split(struct outq *q, struct out_pool *p, size_t at, struct outq *rest)
{
    struct outq head = {0};

    ASSERT(at <= q->bytes && !rest->head);
    while (at) {
        struct out_chunk *c = q->head;
        size_t have = c->end - c->at;

        if (have > at) { /* the chunk is cut: its beginning is copied */
            outq_copy(&head, p, slice_of(c->ptr + c->at, at));
            outq_drop(q, p, at);
            break;
        }
        q->head = c->next;
        q->tail = q->head ? q->tail : NULL;
        q->bytes -= have;
        c->next = NULL;
        append(&head, c);
        head.bytes += have;
        at -= have;
    }
    *rest = *q;
    *q = head;
}

int outq_iov(const struct outq *q, struct iovec *iov, int n)
{
    const struct out_chunk *c;
    int i = 0;

    for (c = q->head; c && i < n; c = c->next) {
        if (c->end == c->at)
            continue;
        iov[i].iov_base = c->ptr + c->at;
        iov[i++].iov_len = c->end - c->at;
    }
    return i;
}

void outq_drop(struct outq *q, struct out_pool *p, size_t n)
{
    ASSERT(n <= q->bytes);
    q->bytes -= n;
    while (q->head) {
        struct out_chunk *c = q->head;
        size_t have = c->end - c->at;

        if (n < have) {
            c->at += n;
            return;
        }
        n -= have;
        q->head = c->next;
        if (!q->head)
            q->tail = NULL;
        chunk_free(p, c);
    }
}

void outq_clear(struct outq *q, struct out_pool *p)
{
    outq_drop(q, p, q->bytes);
}

size_t outq_take(struct outq *q, struct out_pool *p, uint8_t *dst, size_t n)
{
    const struct out_chunk *c;
    size_t got = 0;

    for (c = q->head; c && got < n; c = c->next) {
        size_t k = c->end - c->at < n - got ? c->end - c->at : n - got;

        memcpy(dst + got, c->ptr + c->at, k);
        got += k;
    }
    outq_drop(q, p, got);
    return got;
}
