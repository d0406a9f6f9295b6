/* Batches: one append a turn. See js_publish_int.h.
 *
 * At the end of a turn the open batch becomes one append, and another is opened; when BATCHES are on
 * their way it stays open until one of them comes back, so batches grow as publishers get faster. One
 * that is as large as an append may be is closed, and waits while the next one fills.
 *
 * p->msgs and p->bytes count what is in the open one, in closed ones and in those under way; p->away
 * what is in the latter alone. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "proto/nats/js_counter.h"
#include "proto/nats/js_header.h"
#include "proto/nats/js_publish_int.h"
#include "proto/nats/js_source.h"

#define BATCHES       2u          /* on their way at once */
#define BATCH_BYTES   (4u << 20)  /* of an append at most, but for a single larger message */
#define PRESSED_BYTES (16u << 20) /* publishers are slowed down from here on */
#define ENTRIES_KEPT  (1u << 20)
#define RETRY_MS      5u

/* ---- batches ---- */

static void batch_came(struct append *a, void *arg, enum err e)
{
    struct jpub_batch *b = arg;

    (void)a;
    b->e = e;
    loop_post(b->s->l->loop, &b->task);
}

static void batch_back(struct loop_task *t);
static void batch_apply(struct jwritten *w);

static struct jpub_batch *batch_new(struct jpublish *p)
{
    struct jpub_batch *b = p->spare;

    p->spare = NULL;
    if (!b) {
        b = xcalloc(1, sizeof *b);
        b->a = append_new(p->s->js->b, batch_came, b);
        buf_init(&b->entries, SIZE_MAX);
        b->s = p->s;
        b->task.fn = batch_back;
        b->w.apply = batch_apply;
        list_init(&b->told);
    }
    return b;
}

struct jpub_batch *jpub_batch_open(struct jpublish *p)
{
    if (!p->open)
        p->open = batch_new(p);
    return p->open;
}

static void batch_free(struct jpub_batch *b)
{
    append_free(&b->a);
    buf_fini(&b->entries);
    free(b);
}

void jpub_batch_done(struct jpublish *p, struct jpub_batch *b)
{
    jpub_told_clear(p, b);
    p->entry_bytes -= b->entries.len;
    jpub_pressed_set(p);
    if (p->spare || p->stopped) {
        batch_free(b);
        return;
    }
    append_reset(b->a);
    if (b->entries.cap > ENTRIES_KEPT)
        buf_fini(&b->entries);
    buf_clear(&b->entries);
    b->stored = 0;
    b->bytes = 0;
    b->e = ERR_OK;
    p->spare = b;
}

void jpub_batch_close(struct jpublish *p)
{
    list_push_back(&p->closed, &p->open->link);
    p->open = NULL;
}

void jpub_pressed_set(struct jpublish *p)
{
    atomic_store_explicit(&p->s->pressed, p->bytes + p->held_bytes + p->entry_bytes > PRESSED_BYTES,
                          memory_order_relaxed);
}

/* ---- what is put in ---- */

size_t jpub_record_room(const struct jwish *w, struct slice headers, struct slice payload)
{
    return w->facts.subject.len + 3 * headers.len + payload.len + JPUB_RECORD_ROOM;
}

bool jpub_fits(const struct jpublish *p, size_t room)
{
    return !p->open || !p->open->stored || append_bytes(p->open->a) + room <= p->batch_bytes;
}

enum err jpub_record_put(struct jpublish *p, const struct jwish *w, struct slice headers,
                         struct slice payload, struct append_slot *slot)
{
    struct append_record r = {.timestamp_ms = w->facts.time_ms ? w->facts.time_ms : -1,
                              .key = w->facts.subject,
                              .value = payload};
    size_t room = jpub_record_room(w, headers, payload);
    uint32_t n = 0;

    if (headers.len && !nheader_to_record(headers, p->headers, LIMIT_RECORD_HEADERS, &n))
        return ERR_TOO_LARGE;
    if (slice_is_null(r.value))
        r.value = SLICE_LIT("");
    r.headers = p->headers;
    r.headers_n = n;
    if (!p->together && !jpub_fits(p, room))
        jpub_batch_close(p);
    return append_record(jpub_batch_open(p)->a, p->s->topic, 0, &r, slot, NULL);
}

void jpub_batch_count(struct jpublish *p, struct append_slot first, struct append_slot last,
                      uint32_t n, uint32_t bytes)
{
    struct jpub_batch *b = p->open;

    if (!b->stored)
        b->first = first;
    b->stored += n;
    b->last = last;
    b->bytes += bytes;
    p->bytes += bytes;
    p->msgs += n;
}

/* ---- what comes back ---- */

static void uncount(struct jpublish *p, struct jpub_batch *b, enum err failed)
{
    uint64_t lost = 0;
    struct jpub_entry *e;
    size_t at = 0;

    while ((p->tracking || failed) && (e = jpub_entry_next(b, &at))) {
        if (e->kind != JPUB_STORED)
            continue;
        jpub_ahead_take(p, jpub_entry_subject(e));
        if (failed)
            jpub_entry_failed(p, e);
        lost += !e->reply_len && !e->copied;
    }
    if (failed)
        jcounters_forget(p->s, SLICE_NULL);
    if (failed && lost && !p->stopped)
        jpub_lose(p, lost, err_text(failed));
    p->msgs -= b->stored;
    p->bytes -= b->bytes;
    if (!p->msgs) {
        p->tracking = false;
        buf_clear(&p->last_id);
    }
    jpub_pressed_set(p);
}

/* Who takes nothing of it does not keep it: retention by interest. */
static void forget_unwanted(struct jstream *s, struct jpub_batch *b)
{
    struct jpub_entry *e;
    size_t at = 0;

    if (s->conf.retention != JRETENTION_INTEREST)
        return;
    while ((e = jpub_entry_next(b, &at)))
        if (e->kind == JPUB_STORED && !jconsumers_take(s, jpub_entry_subject(e)))
            jstore_remove(s, e->seq);
}

static struct jpub_batch *batch_next(struct jpublish *p);
static void submit(struct jpublish *p);

static void batch_apply(struct jwritten *w)
{
    struct jpub_batch *b = list_entry(w, struct jpub_batch, w);
    struct jstream *s = b->s;
    struct jpublish *p = s->pub;

    p->under_way--;
    p->away -= b->stored;
    list_remove(&b->link);
    uncount(p, b, ERR_OK);
    if (!s->gone) {
        jpub_entries_apply(p, b);
        jpub_answers(p, b, ERR_OK);
        forget_unwanted(s, b);
        jconsumers_stored(s, jstream_seq(s, w->first), jstream_seq(s, w->last));
    }
    jsources_came(s, b, ERR_OK);
    jpub_batch_done(p, b);
    if (p->redoing || batch_next(p) || !list_empty(&p->held))
        js_later(js_loop(s->js, s->l), &p->later);
}

static void batch_back(struct loop_task *t)
{
    struct jpub_batch *b = list_entry(t, struct jpub_batch, task);
    struct jstream *s = b->s;
    struct jpublish *p = s->pub;
    struct append_place first, last;

    p->submitted--;
    if (b->e) {
        p->under_way--;
        p->away -= b->stored;
        list_remove(&b->link);
        uncount(p, b, b->e);
        jpub_answers(p, b, b->e);
        jsources_came(s, b, b->e);
        jpub_batch_done(p, b);
        jstore_follow(s);
        if (!list_empty(&p->held))
            js_later(js_loop(s->js, s->l), &p->later);
    } else {
        append_place(b->a, b->first, &first);
        append_place(b->a, b->last, &last);
        b->w.first = first.offset;
        b->w.last = last.offset;
        jstore_written(s, &b->w);
    }
    submit(p);
    js_end(s->js);
    jstream_unref(s);
}

/* ---- the end of a turn ---- */

static void batch_fail(struct jpublish *p, struct jpub_batch *b, enum err e)
{
    uncount(p, b, e);
    jpub_answers(p, b, e);
    jsources_came(p->s, b, e);
    jpub_batch_done(p, b);
}

/* The one that is to be submitted next, which may be now; NULL: none. */
static struct jpub_batch *batch_next(struct jpublish *p)
{
    struct jpub_batch *b =
        list_empty(&p->closed) ? p->open : list_entry(p->closed.node.next, struct jpub_batch, link);
    bool busy;

    if (!b)
        return NULL;
    busy = b->stored && !b->e ? p->submitted >= BATCHES : p->submitted || p->under_way;
    return busy ? NULL : b;
}

static void batch_take(struct jpublish *p, struct jpub_batch *b)
{
    if (b == p->open)
        p->open = NULL;
    else
        list_remove(&b->link);
}

/* It is with the broker. */
static void batch_taken(struct jpublish *p, struct jpub_batch *b)
{
    batch_take(p, b);
    p->submitted++;
    p->under_way++;
    p->away += b->stored;
    list_push_back(&p->batches, &b->link);
    if (b->guarded) {
        jpub_reserve_end(p);
        p->late = 0;
    }
}

/* False: not now. */
static bool submit_one(struct jpublish *p, struct jpub_batch *b)
{
    struct jstream *s = p->s;
    enum err e = ERR_TOPIC_NOT_FOUND; /* if there is nothing in it that could fail, or all does */

    if (b->e) {
        e = b->e;
    } else if (b->stored && !p->stopped) {
        jstream_ref(s);
        js_begin(s->js);
        if (!b->guarded)
            jpub_reserve_end(p);
        else
            append_expect(b->a, s->p, b->base);
        e = append_submit(b->a, true, NULL);
        if (!e) {
            batch_taken(p, b);
            return true;
        }
        js_end(s->js);
        jstream_unref(s);
        if (e == ERR_OFFSET_TAKEN) {
            jpub_redo_later(p);
            return false;
        }
        if (e == ERR_OVERLOADED) {
            loop_timer_arm(s->l->loop, &p->retry, RETRY_MS);
            return false;
        }
        if (p->under_way) { /* answers keep their order */
            b->e = e;
            return false;
        }
    }
    batch_take(p, b);
    batch_fail(p, b, e);
    return true;
}

static void submit(struct jpublish *p)
{
    struct jpub_batch *b;

    while (!p->redoing && (b = batch_next(p)) && submit_one(p, b))
        ;
    if (!p->redoing)
        jpub_reserve_end(p);
}

static void on_later(struct jlater *j)
{
    struct jpublish *p = list_entry(j, struct jpublish, later);

    if (p->redoing)
        jpub_redo_try(p);
    else
        jpublish_go_on(p->s);
    if (!loop_timer_armed(&p->retry))
        submit(p);
}

static void on_retry(struct loop_timer *t)
{
    struct jpublish *p = list_entry(t, struct jpublish, retry);

    jpub_redo_retry(p);
    submit(p);
}

bool jpublish_under_way(const struct jstream *s)
{
    return s->pub && s->pub->submitted;
}

/* ---- begin and end ---- */

void jpub_append_begin(struct jpublish *p)
{
    p->later.fn = on_later;
    p->batch_bytes = append_bytes_max(p->s->js->b);
    if (p->batch_bytes > BATCH_BYTES)
        p->batch_bytes = BATCH_BYTES;
    list_init(&p->batches);
    list_init(&p->closed);
    loop_timer_init(&p->retry, on_retry);
    p->headers = xcalloc(LIMIT_RECORD_HEADERS, sizeof *p->headers);
}

void jpub_append_stop(struct jpublish *p)
{
    struct jpub_batch *b;

    loop_timer_cancel(p->s->l->loop, &p->retry);
    js_later_cancel(&p->later);
    if (p->open)
        jpub_batch_close(p);
    while (!list_empty(&p->closed)) {
        b = list_entry(list_pop_front(&p->closed), struct jpub_batch, link);
        batch_fail(p, b, ERR_TOPIC_NOT_FOUND);
    }
    if (p->spare)
        batch_free(p->spare);
    p->spare = NULL;
}
