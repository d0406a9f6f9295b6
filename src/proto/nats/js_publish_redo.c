/* Messages that wait, and those that are checked anew. See js_publish_int.h.
 *
 * While the stream is being loaded messages are held, in order, and are dealt with when it is there.
 *
 * Others append to the topic, too. What was decided on what is in the log (an expected sequence, room
 * for new messages) is in a guarded batch, whose append is refused by the broker if its first record
 * would not get the offset that follows from what was looked at. Then all is held until what others
 * appended is in the index, and the messages of guarded batches are checked anew. Who is late again
 * and again reserves the partition for that time, so that it gets on beside the fastest. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "proto/nats/js_counter.h"
#include "proto/nats/js_publish_int.h"

#define REDO_MS    20u  /* between looks at whether the index has come far enough */
#define LATE_MAX   2u   /* times that a batch was refused, until others have to wait: */
#define RESERVE_MS 200u /* … not longer than that */

/* ---- messages that wait ---- */

struct jpub_held *jpub_held_new(struct slice subject, struct slice reply, struct slice headers,
                                struct slice payload, struct slice tail)
{
    const struct slice part[] = {subject, reply, headers, payload, tail};
    struct jpub_held *h =
        xmalloc(sizeof *h + subject.len + reply.len + headers.len + payload.len + tail.len);
    uint8_t *at = h->text;
    unsigned i;

    *h = (struct jpub_held){.subject_len = (uint32_t)subject.len,
                            .reply_len = (uint32_t)reply.len,
                            .header_len = (uint32_t)headers.len,
                            .payload_len = (uint32_t)payload.len,
                            .tail_len = (uint32_t)tail.len};
    for (i = 0; i < sizeof part / sizeof *part; at += part[i++].len)
        if (part[i].len)
            memcpy(at, part[i].ptr, part[i].len);
    return h;
}

static size_t held_size(const struct jpub_held *h)
{
    return sizeof *h + h->subject_len + h->reply_len + h->header_len + h->payload_len + h->tail_len;
}

/* Subject, reply, headers, payload, tail. */
static void held_parts(const struct jpub_held *h, struct slice part[5])
{
    const uint32_t len[] = {h->subject_len, h->reply_len, h->header_len, h->payload_len,
                            h->tail_len};
    const uint8_t *at = h->text;
    unsigned i;

    for (i = 0; i < 5; at += len[i++])
        part[i] = slice_of(at, len[i]);
}

void jpub_hold(struct jpublish *p, const struct nmsg *m)
{
    struct js_fault f;
    struct jpub_held *h;

    if (p->held_bytes + m->subject.len + m->reply.len + m->body.len > JPUB_BYTES_MAX) {
        js_fault_set(&f, JSE_STREAM_TOO_MANY_REQUESTS, NULL);
        jpub_refuse(p, m->reply, &f);
        if (!m->reply.len)
            jpub_lose(p, 1, f.text);
        return;
    }
    h = jpub_held_new(m->subject, m->reply, slice_of(m->body.ptr, m->header_len),
                      slice_of(m->body.ptr + m->header_len, m->body.len - m->header_len),
                      SLICE_NULL);
    list_push_back(&p->held, &h->link);
    p->held_bytes += held_size(h);
    jpub_pressed_set(p);
}

static bool redo_one(struct jpublish *p, struct list_head *told, bool may_wait);

void jpub_held_go_on(struct jpublish *p)
{
    struct jpub_held *h, *end;
    size_t n;

    while (!list_empty(&p->held) && !p->redoing) {
        h = list_entry(p->held.node.next, struct jpub_held, link);
        for (n = held_size(h), end = h; end->more; n += held_size(end))
            end = list_entry(end->link.next, struct jpub_held, link);
        if (!redo_one(p, &p->held, true))
            break;
        p->held_bytes -= n;
    }
    jpub_pressed_set(p);
}

void jpub_held_drop(struct jpublish *p)
{
    struct jpub_held *h;

    while (!list_empty(&p->held)) {
        h = list_entry(list_pop_front(&p->held), struct jpub_held, link);
        p->held_bytes -= held_size(h);
        free(h);
    }
    jpub_pressed_set(p);
}

/* ---- guarded batches ---- */

void jpub_guard_begin(struct jpublish *p, bool depending)
{
    if (p->open && p->open->entries.len && p->open->guarded != depending)
        jpub_batch_close(p);
}

void jpub_guard_tell(struct jpublish *p, bool depending, struct jpub_held *h)
{
    struct jpub_batch *b = p->open;

    if (!b || !(depending || b->guarded)) {
        free(h);
        return;
    }
    if (!b->guarded) /* what came meanwhile makes it too small */
        b->base = jstore_next(p->s) + (int64_t)(p->msgs - b->stored);
    b->guarded = true;
    b->told_bytes += held_size(h);
    p->held_bytes += held_size(h);
    list_push_back(&b->told, &h->link);
    jpub_pressed_set(p);
}

void jpub_told_clear(struct jpublish *p, struct jpub_batch *b)
{
    while (!list_empty(&b->told))
        free(list_entry(list_pop_front(&b->told), struct jpub_held, link));
    p->held_bytes -= b->told_bytes;
    b->told_bytes = 0;
    b->guarded = false;
}

/* ---- others were first ---- */

void jpub_redo_from(struct jpublish *p, int64_t offset)
{
    p->redoing = true;
    p->redo_from = offset;
    loop_timer_arm(p->s->l->loop, &p->retry, REDO_MS);
}

void jpub_reserve_end(struct jpublish *p)
{
    if (p->reserved)
        partition_reserve_end(p->s->p);
    p->reserved = false;
}

void jpub_redo_later(struct jpublish *p)
{
    struct jstream *s = p->s;

    if (++p->late > LATE_MAX) {
        partition_reserve(s->p, RESERVE_MS);
        p->reserved = true;
    }
    jpub_redo_from(p, partition_next_offset(s->p));
}

void jpublish_followed(struct jstream *s)
{
    if (s->pub && s->pub->redoing)
        js_later(js_loop(s->js, s->l), &s->pub->later);
}

/* ---- again ---- */

/* What is of one unit, from the first of the list on. */
static void redo_several(struct jpublish *p, struct list_head *told)
{
    struct slice part[5], reply, tail;
    struct list_head mine;
    struct js_fault f;
    struct jmsg *v = NULL;
    struct jpub_held *h;
    unsigned n = 0;
    bool more;

    list_init(&mine);
    do {
        h = list_entry(list_pop_front(told), struct jpub_held, link);
        list_push_back(&mine, &h->link);
        more = h->more;
        held_parts(h, part);
        v = xrealloc(v, (n + 1) * sizeof *v);
        v[n++] = (struct jmsg){.subject = part[0], .headers = part[2], .payload = part[3]};
        reply = part[1];
        tail = part[4];
    } while (more);
    jpub_guard_begin(p, false);
    if (!jpublish_all(p->s, reply, tail, v, n, &f))
        jpublish_answer(p->s, reply, &f);
    while (!list_empty(&mine))
        free(list_entry(list_pop_front(&mine), struct jpub_held, link));
    free(v);
}

/* Whether the first of the list, with what is of one unit, can be stored as far as sums go. */
static bool unit_ready(struct jpublish *p, const struct list_head *list)
{
    struct slice part[5];
    struct jpub_held *h;

    if (!p->s->conf.allow_counter)
        return true;
    list_for_each(h, list, struct jpub_held, link)
    {
        held_parts(h, part);
        if (!jcounters_ready(p->s, part[0]))
            return false;
        if (!h->more)
            break;
    }
    return true;
}

/* False: the first one waits. */
static bool redo_one(struct jpublish *p, struct list_head *told, bool may_wait)
{
    struct jpub_held *h = list_entry(told->node.next, struct jpub_held, link);
    struct slice part[5];

    if (h->more) {
        if (!unit_ready(p, told))
            return false;
        redo_several(p, told);
        return true;
    }
    held_parts(h, part);
    if (!jpub_message(p, part[0], part[1], part[2], part[3], may_wait))
        return false;
    list_remove(&h->link);
    free(h);
    return true;
}

/* Those that wait do so before all that came later. */
static void redo_hold(struct jpublish *p, struct list_head *told)
{
    struct list_head later;
    struct jpub_held *h;

    list_init(&later);
    while (!list_empty(&p->held))
        list_push_back(&later, list_pop_front(&p->held));
    while (!list_empty(told)) {
        h = list_entry(list_pop_front(told), struct jpub_held, link);
        p->held_bytes += held_size(h);
        list_push_back(&p->held, &h->link);
    }
    while (!list_empty(&later))
        list_push_back(&p->held, list_pop_front(&later));
}

/* It is as if what is in the batch had not come yet. */
static void redo_uncount(struct jpublish *p, struct jpub_batch *b)
{
    struct jpub_entry *e;
    size_t at = 0;

    while ((e = jpub_entry_next(b, &at)))
        if (e->kind == JPUB_STORED) {
            jpub_ahead_take(p, jpub_entry_subject(e));
            if (b->guarded && e->id_len)
                jstore_dedup_cancel(p->s, jpub_entry_id(e));
        }
    p->msgs -= b->stored;
    p->bytes -= b->bytes;
}

/* What depends on nothing stays as it was made, behind what came before it. */
static void redo_keep(struct jpublish *p, struct jpub_batch *b)
{
    uint64_t seq = jpub_last_seq(p);
    struct jpub_entry *e;
    size_t at = 0;

    if (p->open)
        jpub_batch_close(p);
    if (p->tracking)
        jpub_ahead_scan(p, b, &seq);
    while ((e = jpub_entry_next(b, &at)))
        if (e->kind == JPUB_STORED) {
            buf_clear(&p->last_id);
            buf_append_slice(&p->last_id, jpub_entry_id(e));
        }
    p->msgs += b->stored;
    p->bytes += b->bytes;
    list_push_back(&p->closed, &b->link);
}

static void redo(struct jpublish *p)
{
    struct list_head old, told;
    bool waits = false;
    struct jpub_batch *b;

    loop_timer_cancel(p->s->l->loop, &p->retry);
    if (p->open)
        jpub_batch_close(p);
    list_init(&old);
    list_init(&told);
    while (!list_empty(&p->closed))
        list_push_back(&old, list_pop_front(&p->closed));
    list_for_each(b, &old, struct jpub_batch, link) redo_uncount(p, b);
    ASSERT(!p->msgs && !p->bytes);
    p->tracking = p->redoing = false;
    jcounters_forget(p->s, SLICE_NULL);
    buf_clear(&p->last_id);
    while (!list_empty(&old)) {
        b = list_entry(list_pop_front(&old), struct jpub_batch, link);
        if (!b->guarded || b->e) {
            redo_keep(p, b);
            continue;
        }
        while (!list_empty(&b->told))
            list_push_back(&told, list_pop_front(&b->told));
        jpub_batch_done(p, b);
        while (!waits && !list_empty(&told))
            waits = !redo_one(p, &told, false);
    }
    redo_hold(p, &told);
    jpub_held_go_on(p);
}

void jpub_redo_try(struct jpublish *p)
{
    if (!p->stopped && !p->under_way && jstore_next(p->s) >= p->redo_from)
        redo(p);
}

void jpub_redo_retry(struct jpublish *p)
{
    int64_t next;

    if (!p->redoing)
        return;
    next = partition_next_offset(p->s->p);
    if (next < p->redo_from)
        p->redo_from = next; /* what the journal gave up does not come */
    jpub_redo_try(p);
    if (p->redoing)
        loop_timer_arm(p->s->l->loop, &p->retry, REDO_MS);
}
