/* What is acknowledged to a consumer. Acknowledgements that come in one turn are settled together, in
 * one unit of the log; who asked for an answer has it when that is durable. What cannot be settled now
 * as too much is under way is tried again.
 *
 * Everything is settled loosely (cursor.h): an acknowledgement counts also when its lease is over and
 * the message waits to be delivered again, or when it was delivered before a restart. */
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "io/io.h"
#include "proto/nats/js_consumer_int.h"
#include "proto/nats/js_replies.h"

#define OWNER      SLICE_LIT("consumer")
#define MS_NS      1000000
#define RETRY_MS   5u
#define REASON_MAX 128u

/* ---- what clients say ---- */

void jack_queue(struct jconsumer *c, uint64_t seq, uint64_t last, uint8_t what, int64_t delay_ms)
{
    if (c->acks_n == c->acks_cap) {
        c->acks_cap = c->acks_cap ? c->acks_cap * 2 : 64;
        c->acks = xrealloc(c->acks, c->acks_cap * sizeof *c->acks);
    }
    c->acks[c->acks_n++] = (struct jack){seq, last, delay_ms, what};
    jconsumer_wake(c);
}

/* at: which delivery it is of, as the client says. */
static void advise(struct jconsumer *c, const char *kind, const char *type,
                   const struct jack_subject *at, struct slice reason)
{
    json_t *o = json_pack("{s:I, s:I, s:I}", "stream_seq", (json_int_t)at->seq, "consumer_seq",
                          (json_int_t)at->dseq, "deliveries", (json_int_t)at->deliveries);

    if (reason.len > REASON_MAX)
        reason.len = REASON_MAX;
    if (reason.len)
        json_object_set_new(o, "reason", js_text(reason));
    jconsumer_advise(c, kind, type, o);
}

/* The window has the first delivery. */
static struct jack_subject delivery_of(const struct jgiven *g)
{
    return (struct jack_subject){.deliveries = g->deliveries, .seq = g->seq, .dseq = g->dseq};
}

static void sample(struct jconsumer *c, const struct jgiven *g, const struct jack_subject *at)
{
    json_t *o;

    if (c->sample < 100 && rng_next(&c->l->rng) % 100 >= (uint64_t)c->sample)
        return;
    o = json_pack("{s:I, s:I, s:I, s:I}", "stream_seq", (json_int_t)at->seq, "consumer_seq",
                  (json_int_t)at->dseq, "deliveries", (json_int_t)at->deliveries, "ack_time",
                  (json_int_t)(js_now_ns(c->js) - g->at_ns));
    jconsumer_advise(c, "METRIC.CONSUMER.ACK", "io.nats.jetstream.metric.v1.consumer_ack", o);
}

/* It is done with, as the client says. False: it was never delivered. */
static bool finish(struct jconsumer *c, const struct jack_subject *at, uint8_t what)
{
    uint64_t seq = at->seq;
    struct jgiven *g = jwindow_find(&c->window, seq);

    if (seq < c->start || seq > c->s->index.last)
        return false;
    if (g) {
        if (c->sample > 0 && what == CURSOR_ACCEPT)
            sample(c, g, at);
        jwindow_done(&c->window, g);
        jack_queue(c, seq, seq, what, 0);
    } else if (jconsumer_open(c, seq)) {
        jack_queue(c, seq, seq, what, 0); /* it was delivered before a restart */
    }
    return true;
}

/* All up to it. at NULL: of which delivery is not said. */
static bool finish_all(struct jconsumer *c, uint64_t seq, const struct jack_subject *at)
{
    struct jack_subject first;
    struct jfloor floor = jconsumer_floor(c);
    struct jgiven *g;

    if (seq >= c->next)
        return false;
    if (seq <= floor.seq) {
        if (c->cursor && jconsumer_open(c, seq)) /* it is on its way: the answer comes behind it */
            jack_queue(c, c->start, seq, CURSOR_ACCEPT, 0);
        return true;
    }
    g = jwindow_find(&c->window, seq);
    if (g && c->sample > 0) {
        first = delivery_of(g);
        sample(c, g, at ? at : &first);
    }
    while ((g = jwindow_from(&c->window, 0)) && g->seq <= seq)
        jwindow_done(&c->window, g);
    jack_queue(c, floor.seq + 1, seq, CURSOR_ACCEPT, 0);
    return true;
}

static bool acknowledge(struct jconsumer *c, const struct jack_subject *at)
{
    c->ack_active_ns = js_now_ns(c->js);
    return c->conf.ack == JACK_EXPLICIT ? finish(c, at, CURSOR_ACCEPT) : finish_all(c, at->seq, at);
}

void jack_up_to(struct jconsumer *c, struct slice number)
{
    uint64_t seq;

    if (nats_u64(number, &seq) && seq && c->cursor)
        finish_all(c, seq, NULL);
}

static void refuse(struct jconsumer *c, const struct jack_subject *at, int64_t delay_ns)
{
    if (!jwindow_find(&c->window, at->seq))
        return;
    advise(c, "ADVISORY.CONSUMER.MSG_NAKED", "io.nats.jetstream.advisory.v1.nak", at, SLICE_NULL);
    jack_queue(c, at->seq, at->seq, CURSOR_RELEASE, (delay_ns + MS_NS - 1) / MS_NS);
}

static void terminate(struct jconsumer *c, const struct jack_subject *at, struct slice reason)
{
    if (jwindow_find(&c->window, at->seq))
        advise(c, "ADVISORY.CONSUMER.MSG_TERMINATED", "io.nats.jetstream.advisory.v1.terminated",
               at, reason);
    finish(c, at, CURSOR_REJECT);
}

static void note_reply(struct jconsumer *c, struct slice reply)
{
    (void)jreplies_add(&c->replies, reply); /* whom there is no room for asks again */
    jconsumer_wake(c);
}

void jack_late(struct jconsumer *c, uint64_t seq, struct slice replies)
{
    struct jgiven *g = jwindow_find(&c->window, seq);

    if (g) /* it was being parked, in vain */
        jwindow_done(&c->window, g);
    if (jconsumer_open(c, seq))
        jack_queue(c, seq, seq, CURSOR_ACCEPT, 0); /* that it is done with is still on its way */
    else
        jstream_acked(c->s, seq);
    buf_append_slice(&c->replies, replies);
    jconsumer_wake(c);
}

void jack_take(struct jconsumer *c, struct slice tail, struct slice reply, struct slice body)
{
    struct jack_subject at;
    struct jack_body b;
    struct jgiven *g;
    bool known = true;

    jack_body_read(body, &b);
    if (!c->acked || !c->cursor || !jack_subject_read(tail, &at)) {
        if (b.what == JACK_NEXT && !c->acked)
            jpull_asked(c, reply, b.rest);
        return;
    }
    if (b.what != JACK_NAK && b.what != JACK_PROGRESS && b.what != JACK_NOTHING &&
        jconsumer_parked(c, at.seq)) {
        jconsumer_unpark(c, at.seq, b.what == JACK_NEXT ? SLICE_NULL : reply);
        if (b.what == JACK_NEXT)
            jpull_asked(c, reply, b.rest);
        return;
    }
    switch (b.what) {
    case JACK_ACK:
        known = acknowledge(c, &at);
        break;
    case JACK_NEXT:
        acknowledge(c, &at);
        jpull_asked(c, reply, b.rest);
        return;
    case JACK_NAK:
        refuse(c, &at, b.delay_ns);
        break;
    case JACK_PROGRESS:
        if ((g = jwindow_find(&c->window, at.seq)))
            jack_queue(c, at.seq, at.seq, CURSOR_RENEW, jconsumer_lease_ms(c, g->deliveries));
        break;
    case JACK_TERM:
        terminate(c, &at, b.rest);
        break;
    case JACK_NOTHING:
        break;
    }
    if (known)
        note_reply(c, reply);
}

/* ---- what happens to a message that waits for one ---- */

void jack_void(struct jconsumer *c, uint64_t seq, const char *reason)
{
    struct jgiven *g = jwindow_find(&c->window, seq);
    struct jack_subject first;

    if (!g)
        return;
    first = delivery_of(g);
    advise(c, "ADVISORY.CONSUMER.MSG_TERMINATED", "io.nats.jetstream.advisory.v1.terminated",
           &first, slice_str(reason));
    jwindow_done(&c->window, g);
    jack_queue(c, seq, seq, CURSOR_VOID, 0);
}

void jack_spent(struct jconsumer *c, uint64_t seq, uint32_t deliveries)
{
    struct jgiven *g = jwindow_find(&c->window, seq);

    jconsumer_advise(c, "ADVISORY.CONSUMER.MAX_DELIVERIES",
                     "io.nats.jetstream.advisory.v1.max_deliver",
                     json_pack("{s:I, s:I}", "stream_seq", (json_int_t)seq, "deliveries",
                               (json_int_t)deliveries));
    if (g)
        jwindow_done(&c->window, g);
    jconsumer_wake(c);
}

/* ---- settling ---- */

struct jsettled {
    struct jdone d;
    struct work work;
    struct jconsumer *c; /* referenced */
    struct buf replies;
    bool refuses; /* counted in c->refusing */
    bool ahead;   /* some were delivered before a restart, and not since */
    uint32_t n;
    struct cursor_ack v[];
};

static int by_seq(const void *a, const void *b)
{
    const struct jack *x = a, *y = b;

    return x->seq != y->seq ? (x->seq > y->seq) - (x->seq < y->seq) : (x > y) - (x < y);
}

static bool in_order(const struct jack *v, uint32_t n)
{
    uint32_t i;

    for (i = 1; i < n; i++)
        if (v[i].seq < v[i - 1].seq)
            return false;
    return true;
}

/* What ends a message goes before what does not, and what a client says of its end before what is said
 * without one: the stream is to know. */
static int rank(uint8_t what)
{
    return what == CURSOR_RENEW ? 1 : what == CURSOR_RELEASE ? 2 : what == CURSOR_VOID ? 3 : 4;
}

/* Adds to runs that are in order; of two for one message one stays. */
static uint32_t add(struct jack *v, uint32_t n, struct jack a)
{
    struct jack *p = n ? &v[n - 1] : NULL;

    if (p && a.seq <= p->last && p->what != a.what) {
        if (rank(p->what) >= rank(a.what)) {
            a.seq = p->last + 1;
        } else {
            p->last = a.seq - 1;
            if (p->last < p->seq)
                n--, p = n ? &v[n - 1] : NULL;
        }
    }
    if (a.seq > a.last)
        return n;
    if (p && p->what == a.what && p->delay_ms == a.delay_ms && a.seq <= p->last + 1) {
        p->last = a.last > p->last ? a.last : p->last;
        return n;
    }
    if (p && a.seq <= p->last) { /* the same with another delay: the newer one */
        p->delay_ms = a.delay_ms;
        return n;
    }
    v[n] = a;
    return n + 1;
}

static struct jsettled *settled_new(struct jconsumer *c)
{
    uint32_t i, n = 0;
    struct jsettled *x;

    if (!in_order(c->acks, c->acks_n))
        qsort(c->acks, c->acks_n, sizeof *c->acks, by_seq);
    for (i = 0; i < c->acks_n; i++)
        n = add(c->acks, n, c->acks[i]);
    x = xcalloc(1, sizeof *x + n * sizeof *x->v);
    for (i = 0; i < n; i++) {
        x->ahead = x->ahead || c->acks[i].last >= c->next;
        x->refuses = x->refuses || (c->acks[i].what == CURSOR_RELEASE && !c->acks[i].delay_ms);
        x->v[i] = (struct cursor_ack){
            .first = jstream_offset(c->s, c->acks[i].seq),
            .last = jstream_offset(c->s, c->acks[i].last),
            .what = c->acks[i].what,
            .delay_ms =
                (int32_t)(c->acks[i].delay_ms < INT32_MAX ? c->acks[i].delay_ms : INT32_MAX),
            .loose = true};
    }
    x->n = n;
    x->c = c;
    c->refusing += x->refuses;
    jconsumer_ref(c);
    x->replies = c->replies;
    buf_init(&c->replies, LIMIT_JS_REPLIES);
    c->acks_n = 0;
    return x;
}

static void settled_free(struct jsettled *x)
{
    buf_fini(&x->replies);
    jconsumer_unref(x->c);
    free(x);
}

/* With retention by interest the stream lets go what was acknowledged. */
static void tell_stream(const struct jsettled *x)
{
    struct jstream *s = x->c->s;
    uint64_t seq, last;
    uint32_t i;

    if (s->conf.retention == JRETENTION_LIMITS || s->gone)
        return;
    for (i = 0; i < x->n; i++) {
        last = jstream_seq(s, x->v[i].last);
        if (x->v[i].what != CURSOR_ACCEPT && x->v[i].what != CURSOR_REJECT)
            continue;
        for (seq = jindex_next(&s->index, x->c->filter, jstream_seq(s, x->v[i].first));
             seq && seq <= last; seq = jindex_next(&s->index, x->c->filter, seq + 1))
            jstream_acked(s, seq);
    }
}

static void send_replies(const struct jsettled *x)
{
    struct slice to;
    size_t at = 0;

    while (jreplies_next(buf_slice(&x->replies), &at, &to))
        js_send(x->c->l, x->c->s->account, to, to, SLICE_NULL, SLICE_NULL, SLICE_LIT(""));
}

/* The log had no room for them. */
static void again(struct jsettled *x)
{
    struct jconsumer *c = x->c;
    struct buf newer = c->replies;
    uint32_t i;

    for (i = 0; i < x->n; i++)
        jack_queue(c, jstream_seq(c->s, x->v[i].first), jstream_seq(c->s, x->v[i].last),
                   x->v[i].what, x->v[i].delay_ms);
    c->replies = x->replies;
    x->replies = newer;
    buf_append_slice(&c->replies, buf_slice(&newer));
    js_later_cancel(&c->work);
    jconsumer_due(c, jconsumer_now_ms(c) + RETRY_MS);
}

static void settled(struct jdone *d)
{
    struct jsettled *x = list_entry(d, struct jsettled, d);

    if (x->refuses && !--x->c->refusing && !x->c->gone)
        jconsumer_wake(x->c);
    if (d->e == ERR_OVERLOADED && !x->c->gone) {
        again(x);
    } else if (!d->e) {
        send_replies(x);
        if (!x->c->gone)
            tell_stream(x);
        if (!x->c->gone && x->ahead)
            jconsumer_recount(x->c);
    }
    settled_free(x);
}

static int64_t mono_ms(const struct js *js)
{
    return (int64_t)(io_mono_ns(js->n->conf.io) / MS_NS);
}

static void submit(struct jsettled *x)
{
    struct errinfo info;
    enum err e =
        cursor_settle(x->c->cursor, OWNER, x->v, x->n, mono_ms(x->c->js), jdone_call, &x->d, &info);

    if (e)
        jdone_call(&x->d, e, &info);
}

static void submit_work(struct work *w)
{
    submit(list_entry(w, struct jsettled, work));
}

void jacks_settle(struct jconsumer *c)
{
    struct jsettled *x;

    if ((!c->acks_n && !c->replies.len) || !c->cursor)
        return;
    x = settled_new(c);
    jdone_begin(&x->d, c->s, settled);
    jconsumer_moved(c);
    if (!x->n) {
        jdone_call(&x->d, ERR_OK, NULL);
    } else if (c->lease.dead_letters[0]) { /* they are read from the log */
        x->work.fn = submit_work;
        workers_run(c->js->workers, &x->work);
    } else {
        submit(x);
    }
}
