/* Dead letters: records that are archived are read from their log and copied to the dead letter
 * topic, in the unit that archives them. Headers say where a record was and why it is here, by the
 * names of Kafka's dead letter queues for share groups (KIP-1191); the record's own follow. A
 * record that is too large for the topic, or that it does not take, is told by its headers alone;
 * one that is not in its log any more (deleted, compacted) leaves nothing.
 *
 * Records that only the lake has are fetched from there, for which nobody waits here: the ranges that are
 * left are parked, and taken up again at the next ticks. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/broker_int.h"
#include "broker/coordinator_int.h"
#include "journal/batch.h"

#define READ_BYTES (256u << 10)
#define OWN        6u /* headers of ours */

struct topic *dead_letters_topic(struct broker *b, const struct cursor_conf *conf)
{
    struct topic *t;

    if (!conf->dead_letters[0])
        return NULL;
    t = topic_find(b, slice_str(conf->dead_letters));
    if (t && atomic_load(&t->deleting))
        topic_unref(&t);
    return t;
}

/* A portion: what goes into one unit. */
struct portion {
    struct settle *s;
    struct settle_range *v;
    uint32_t n, cap;
    struct append *a; /* NULL: nothing to copy so far */
};

/* The whole work. */
struct dead {
    struct settle *s;
    struct topic *t; /* referenced */
    struct portion *now;
    struct plog_read read;
    unsigned at; /* batch of read */
    struct batch_iter it;
    bool in_batch, ahead; /* ahead: rec was not used yet */
    struct record rec;
    struct buf inflated;
    struct record_header *headers;
    bool cold;     /* the lake was asked for what comes next */
    int64_t from;  /* the next offset to read */
    int64_t added; /* what is below is in a portion */
};

/* ---- portions ---- */

static void portion_free(struct portion *p)
{
    if (p->a)
        append_free(&p->a);
    free(p->v);
    free(p);
}

static void portion_end(struct portion *p, enum err e)
{
    settle_unit_end(p->s, p->v, p->n, e);
    portion_free(p);
}

static void portion_done(struct append *a, void *arg, enum err e)
{
    portion_end(arg, e);
}

static void gone_commit(struct change *ch, enum err e)
{
    struct entry_cursor_ranges en;

    if (!e) {
        e = entry_cursor_ranges_read(slice_of(ch->data, ch->entry.data.len), &en);
        ASSERT(!e);
        cursor_apply_ranges(ch->b, &en, NULL);
    }
    portion_end(ch->extra, e);
}

/* Nothing of it is there to be copied. */
static enum err gone_submit(struct portion *p)
{
    struct change *ch =
        change_new(p->s->c->b, ENTRY_CURSOR_RANGES, settle_entry_size(p->s, p->n), NULL, NULL);

    ch->entry.data.len = settle_entry_write(p->s, p->v, p->n, ch->data);
    ch->commit = gone_commit;
    ch->extra = p;
    return change_submit(ch, false, NULL);
}

static void portion_submit(struct portion *p)
{
    enum err e;

    atomic_fetch_add(&p->s->left, 1);
    if (p->a) {
        atomic_fetch_add(&p->s->c->b->cursors.st_dead_letters, append_records(p->a));
        e = append_cursor_ranges(p->a, p->s, p->v, p->n);
        e = e ? e : append_submit(p->a, true, NULL);
    } else {
        e = gone_submit(p);
    }
    if (e)
        portion_end(p, e);
}

static void portion_add(struct dead *d, const struct settle_range *x, int64_t first, int64_t last)
{
    struct portion *p = d->now;

    d->added = last + 1;
    if (!p) {
        p = d->now = xcalloc(1, sizeof *p);
        p->s = d->s;
    }
    if (p->n && p->v[p->n - 1].last + 1 == first && p->v[p->n - 1].deliveries == x->deliveries) {
        p->v[p->n - 1].last = last;
        return;
    }
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 4;
        p->v = xrealloc(p->v, p->cap * sizeof *p->v);
    }
    p->v[p->n] = *x;
    p->v[p->n].first = first;
    p->v[p->n++].last = last;
}

static void portion_close(struct dead *d)
{
    struct portion *p = d->now;

    d->now = NULL;
    if (p)
        portion_submit(p);
}

/* ---- reading ---- */

static enum err next_batch(struct dead *d, bool *end)
{
    enum err e = ERR_OK;

    d->in_batch = d->ahead = false;
    if (++d->at >= d->read.n) {
        struct partition *p = d->s->c->p;
        int64_t start;

        d->at = 0;
        e = partition_read(p, &d->from, READ_BYTES, &d->read, &d->cold, NULL);
        if (e == ERR_OFFSET_RANGE &&
            d->from < (start = partition_start(p))) { /* deleted meanwhile */
            d->from = start;
            e = partition_read(p, &d->from, READ_BYTES, &d->read, &d->cold, NULL);
        }
        d->cold = d->cold && e == ERR_AGAIN;
        if (e)
            d->read.n = 0; /* the next call reads again */
    }
    *end = !e && d->read.n == 0;
    if (e || *end)
        return e;
    d->from = d->read.batch[d->at].last_offset + 1;
    e = batch_iter_init(&d->it, d->read.batch[d->at].data, &d->inflated);
    d->in_batch = !e && !(d->it.info.attributes & BATCH_CONTROL);
    return e;
}

/* The first record at or after `from`, into d->rec; *end: there is none, at least not up to `to`. */
static enum err next_record(struct dead *d, int64_t from, int64_t to, bool *end)
{
    enum err e = ERR_OK;

    *end = false;
    if (from > d->from) {
        d->in_batch = false;
        plog_read_release(&d->read);
        d->at = 0;
        d->from = from;
    }
    for (;;) {
        while (d->in_batch) {
            if (d->ahead && d->rec.offset >= from)
                return ERR_OK;
            e = batch_iter_next(&d->it, &d->rec);
            d->ahead = !e;
            d->in_batch = e != ERR_EOF;
            if (e && e != ERR_EOF)
                return e;
        }
        *end = d->from > to;
        if (*end || (e = next_batch(d, end)) || *end)
            return *end ? ERR_OK : e;
    }
}

/* ---- copying ---- */

struct numbers {
    char partition[12], offset[24], deliveries[8];
};

static uint32_t headers_make(struct dead *d, const struct settle_range *x, struct numbers *no)
{
    struct cursor *c = d->s->c;
    uint32_t n = 0;

    snprintf(no->partition, sizeof no->partition, "%" PRId32, c->p->index);
    snprintf(no->offset, sizeof no->offset, "%" PRId64, d->rec.offset);
    snprintf(no->deliveries, sizeof no->deliveries, "%u", x->deliveries);
    d->headers[0] =
        (struct record_header){SLICE_LIT("__dlq.errors.topic"), slice_str(topic_name(c->topic))};
    d->headers[1] =
        (struct record_header){SLICE_LIT("__dlq.errors.partition"), slice_str(no->partition)};
    d->headers[2] = (struct record_header){SLICE_LIT("__dlq.errors.offset"), slice_str(no->offset)};
    d->headers[3] = (struct record_header){SLICE_LIT("__dlq.errors.group"), cursor_group(c)};
    d->headers[4] =
        (struct record_header){SLICE_LIT("__dlq.errors.delivery.count"), slice_str(no->deliveries)};
    d->headers[5] = (struct record_header){SLICE_LIT("__dlq.errors.message"),
                                           x->why == WHY_REJECTED
                                               ? SLICE_LIT("rejected by the client")
                                               : SLICE_LIT("delivered as often as is allowed")};
    if (d->s->conf.dead_letters_copy &&
        record_headers(&d->rec, d->headers + OWN, LIMIT_RECORD_HEADERS - OWN, &n))
        n = 0;
    return OWN + n;
}

static enum err copy(struct dead *d, const struct settle_range *x)
{
    struct append_record r = {.timestamp_ms = -1, .headers = d->headers};
    struct append_slot slot;
    struct numbers no = {0};
    enum err e;

    if (!d->now->a)
        d->now->a = append_new(d->s->c->b, portion_done, d->now);
    r.headers_n = headers_make(d, x, &no);
    if (d->s->conf.dead_letters_copy) {
        r.key = d->rec.key;
        r.value = d->rec.value;
    }
    e = append_record(d->now->a, d->t, -1, &r, &slot, NULL);
    if (e == ERR_TOO_LARGE || e == ERR_RECORD) {
        r.headers_n = OWN;
        r.key = r.value = SLICE_NULL;
        e = append_record(d->now->a, d->t, -1, &r, &slot, NULL);
    }
    if (e == ERR_TOO_LARGE || e == ERR_RECORD) { /* not even that */
        atomic_fetch_add(&d->s->c->b->cursors.st_dead_letters_lost, 1);
        e = ERR_OK;
        if (append_records(d->now->a) == 0)
            append_free(&d->now->a);
    }
    return e;
}

/* Copies a range, in as many portions as it takes. */
static enum err range_copy(struct dead *d, const struct settle_range *x)
{
    int64_t at = x->first;
    bool end;
    enum err e;

    while (at <= x->last) {
        e = next_record(d, at, x->last, &end);
        if (e == ERR_CORRUPT || e == ERR_CORRUPT_INPUT || e == ERR_TOO_LARGE) {
            atomic_fetch_add(&d->s->c->b->cursors.st_dead_letters_lost, 1);
            d->in_batch = false;
            end = true; /* it can be neither read nor delivered */
        } else if (e) {
            return e;
        }
        if (end || d->rec.offset > x->last) {
            portion_add(d, x, at, x->last);
            return ERR_OK;
        }
        portion_add(d, x, at, d->rec.offset);
        if ((e = copy(d, x)))
            return e;
        at = d->rec.offset + 1;
        if (d->now->a && append_bytes(d->now->a) >= LIMIT_CURSOR_DEAD_BYTES)
            portion_close(d);
    }
    return ERR_OK;
}

/* What was not submitted is free again. */
static void give_up(struct dead *d, const struct settle_range *v, uint32_t n, enum err e)
{
    struct settle_range rest;
    uint32_t i;

    if (d->now) {
        atomic_fetch_add(&d->s->left, 1);
        portion_end(d->now, e);
        d->now = NULL;
    }
    for (i = 0; i < n; i++) {
        rest = v[i];
        if (rest.first < d->added)
            rest.first = d->added;
        if (rest.first > rest.last)
            continue;
        atomic_fetch_add(&d->s->left, 1);
        settle_unit_end(d->s, &rest, 1, e);
    }
}

struct parked {
    struct list_node link; /* cursors.parked */
    struct settle *s;
    struct settle_range *v;
    uint32_t n;
};

bool dead_letters_parked(struct broker *b)
{
    return !list_empty(&b->cursors.parked);
}

/* What is not in a portion yet waits for the lake. */
static void park(struct dead *d, const struct settle_range *v, uint32_t n)
{
    struct cursor *c = d->s->c;
    struct parked *k = xcalloc(1, sizeof *k);
    uint32_t i;

    portion_close(d);
    k->s = d->s;
    k->v = xcalloc(n, sizeof *k->v);
    for (i = 0; i < n; i++) {
        struct settle_range *x = &k->v[k->n];

        *x = v[i];
        if (x->first < d->added)
            x->first = d->added;
        k->n += x->first <= x->last;
    }
    atomic_fetch_add(&d->s->left, 1);
    io_mutex_lock(&c->b->cursors.lock);
    list_push_back(&c->b->cursors.parked, &k->link);
    io_mutex_unlock(&c->b->cursors.lock);
    coordinator_due(c->b->coordinator, 0);
}

void dead_letters_resume(struct broker *b, bool ended)
{
    struct cursors *cs = &b->cursors;
    struct list_head all;
    uint32_t i;

    list_init(&all);
    io_mutex_lock(&cs->lock);
    while (!list_empty(&cs->parked))
        list_push_back(&all, list_pop_front(&cs->parked));
    io_mutex_unlock(&cs->lock);
    while (!list_empty(&all)) {
        struct parked *k = list_entry(list_pop_front(&all), struct parked, link);

        for (i = 0; ended && i < k->n; i++) {
            atomic_fetch_add(&k->s->left, 1);
            settle_unit_end(k->s, &k->v[i], 1, ERR_CLOSED);
        }
        if (!ended)
            settle_dead(k->s, k->v, k->n);
        settle__left(k->s);
        free(k->v);
        free(k);
    }
}

void settle_dead(struct settle *s, const struct settle_range *v, uint32_t n)
{
    struct dead d = {.s = s, .t = dead_letters_topic(s->c->b, &s->conf)};
    enum err e = d.t ? ERR_OK : ERR_TOPIC_NOT_FOUND;
    uint32_t i;

    buf_init(&d.inflated, LIMIT_BATCH_INFLATED);
    d.headers = xmalloc(LIMIT_RECORD_HEADERS * sizeof *d.headers);
    for (i = 0; i < n && !e; i++)
        e = range_copy(&d, &v[i]);
    if (e && d.cold)
        park(&d, v, n);
    else if (e)
        give_up(&d, v, n, e);
    else
        portion_close(&d);
    plog_read_release(&d.read);
    buf_fini(&d.inflated);
    free(d.headers);
    topic_unref(&d.t);
}
