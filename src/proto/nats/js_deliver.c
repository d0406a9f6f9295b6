/* What a consumer delivers next, and to whom. What came back goes first, then what was never delivered;
 * each message goes from where the reader has it straight into the output of who gets it.
 *
 * A turn delivers so much at most (TURN_MSGS, TURN_BYTES), so that others have theirs; when receivers
 * are slow, or a file is to be read, or the consumer is to be slow, it goes on later. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/io.h"
#include "proto/nats/js_consumer_int.h"
#include "proto/nats/js_header.h"

#define OWNER        SLICE_LIT("consumer")
#define MS_NS        1000000
#define TURN_MSGS    1024u
#define TURN_BYTES   (1u << 20)
#define PART_MS      1000        /* for what the cursor is told, until it is told again */
#define SLOW_MS      2u          /* receivers have too much queued */
#define FAILED_MS    1000u       /* the log could not be read */
#define FLOW_MOST    (32u << 20) /* bytes on their way to a client that controls the flow … */
#define FLOW_FIRST   (FLOW_MOST / 16)
#define BOUND_MS     500u /* between looks whether somebody listens */
#define UNBOUND_MS   50u
#define SUBJECT_ROOM 1024u
#define PARK_MOST    512u /* messages that are parked together */

/* ---- which message ---- */

enum found { FOUND, FOUND_NOTHING, FOUND_FULL };

struct given {
    uint64_t seq;
    bool again; /* it was delivered before */
    uint32_t deliveries;
    struct jmsg m;
    struct slice reply, headers, payload;
    size_t size;
};

bool jconsumer_ahead(const struct jconsumer *c, uint64_t seq)
{
    if (seq < c->next)
        return false;
    return seq >= c->resume || bsearch(&seq, c->lasts + c->lasts_at, c->lasts_n - c->lasts_at,
                                       sizeof *c->lasts, js_by_number) != NULL;
}

/* The first from seq on that was never delivered; 0: none. */
static uint64_t fresh(struct jconsumer *c, uint64_t seq)
{
    const struct jindex *x = &c->s->index;

    while (c->lasts_at < c->lasts_n &&
           (c->lasts[c->lasts_at] < seq || !jindex_has(x, c->lasts[c->lasts_at])))
        c->lasts_at++;
    if (c->lasts_at < c->lasts_n)
        return c->lasts[c->lasts_at];
    return jindex_next(x, c->filter, seq < c->resume ? c->resume : seq);
}

static bool is_full(const struct jconsumer *c)
{
    return c->conf.max_ack_pending > 0 && c->window.open >= (uint64_t)c->conf.max_ack_pending;
}

static bool takes(struct jconsumer *c, uint64_t seq)
{
    struct jindex_msg m;

    return jindex_get(&c->s->index, seq, &m) &&
           (!c->filter || jfilter_takes(c->filter, &c->s->index, m.subject));
}

static int64_t mono_ms(const struct jconsumer *c)
{
    return (int64_t)(io_mono_ns(c->js->n->conf.io) / MS_NS);
}

/* It was delivered as often as is allowed, and its cursor lets it be: its stream keeps it until it is
 * acknowledged, or a restart came before the cursor had counted. */
static bool is_spent(const struct jconsumer *c, uint32_t deliveries)
{
    return c->conf.max_deliver > 0 && deliveries >= (uint64_t)c->conf.max_deliver;
}

/* How often it was delivered, as the cursor and the window know. */
static uint32_t deliveries_of(const struct jconsumer *c, int64_t offset, const struct jgiven *w)
{
    uint16_t counted = 0;

    cursor_record_get(c->cursor, offset, &counted, NULL);
    return w && w->deliveries > counted ? w->deliveries : counted;
}

/* Its park is durable, but its cursor does not know: that write failed, or a restart came before. */
static bool is_parked(const struct jconsumer *c, uint64_t seq, const struct jgiven *w)
{
    return !w && jconsumer_parked(c, seq);
}

/* Parks all that are free and spent from this one on, which is: they would wait for each other
 * otherwise, and what is not spent for them. */
static void park_from(struct jconsumer *c, int64_t offset, int64_t now)
{
    struct jspent v[PARK_MOST];
    const struct jgiven *w;
    uint32_t n = 0, deliveries;
    uint64_t seq;

    if (c->parking)
        return;
    for (; offset >= 0 && n < PARK_MOST; offset = cursor_free_from(c->cursor, offset + 1, now)) {
        seq = jstream_seq(c->s, offset);
        if (seq >= c->next)
            break;
        w = jwindow_find(&c->window, seq);
        deliveries = deliveries_of(c, offset, w);
        if (!is_parked(c, seq, w) && (w || seq >= c->resume) && takes(c, seq) &&
            is_spent(c, deliveries))
            v[n++] = (struct jspent){seq, deliveries};
    }
    if (n)
        jconsumer_park(c, v, n);
}

/* False: it is not free any more. */
static bool take_for(struct jconsumer *c, uint64_t seq, int32_t lease_ms)
{
    struct cursor_taken t;
    int64_t at = jstream_offset(c->s, seq);
    uint32_t records;

    c->lease.lease_ms = lease_ms;
    cursor_take(c->cursor, OWNER, at, at, 1, &c->lease, mono_ms(c), &t, 1, &records);
    return records == 1;
}

/* The cursor is told again, of what nobody is to have; meanwhile it has a lease, so that the others are
 * looked at. False: not now. */
static bool part_again(struct jconsumer *c, uint64_t seq)
{
    if (!take_for(c, seq, PART_MS))
        return false;
    jconsumer_part(c, seq);
    return true;
}

/* A free record below what was delivered: FOUND_NOTHING if there is nothing to deliver in it, FOUND_FULL
 * if not now. */
static enum found came_back(struct jconsumer *c, int64_t offset, int64_t now, struct given *g)
{
    uint64_t seq = jstream_seq(c->s, offset);
    struct jgiven *w = jwindow_find(&c->window, seq);
    bool parked = is_parked(c, seq, w);

    g->seq = seq;
    g->again = true;
    g->deliveries = deliveries_of(c, offset, w);
    if ((w || parked || seq >= c->resume) && takes(c, seq)) {
        if (parked)
            return part_again(c, seq) ? FOUND_NOTHING : FOUND_FULL;
        if (!is_spent(c, g->deliveries))
            return FOUND;
        park_from(c, offset, now);
        return FOUND_FULL;
    }
    cursor_skip(c->cursor, offset, offset);
    if (w)
        jwindow_done(&c->window, w);
    return FOUND_NOTHING;
}

/* It is behind us, though nobody got it: it was delivered before a restart, behind what is known of
 * that, and acknowledged since. It is not counted as pending any more. */
static void leap(struct jconsumer *c, uint64_t seq)
{
    if (c->lasts_at < c->lasts_n && c->lasts[c->lasts_at] == seq)
        c->lasts_at++;
    c->next = seq + 1;
}

static enum found find_leased(struct jconsumer *c, struct given *g)
{
    int64_t offset, now = mono_ms(c);
    enum found f;
    uint64_t seq;

    while ((offset = cursor_next(c->cursor, &c->lease, now)) >= 0) {
        seq = jstream_seq(c->s, offset);
        if (seq < c->next) {
            if ((f = came_back(c, offset, now, g)) != FOUND_NOTHING)
                return f;
            continue;
        }
        if (is_full(c))
            return FOUND_FULL;
        *g = (struct given){.seq = fresh(c, seq)};
        if (!g->seq) {
            c->next = c->s->index.last >= c->next ? c->s->index.last + 1 : c->next;
            return FOUND_NOTHING;
        }
        if (g->seq == seq)
            return FOUND;
        cursor_skip(c->cursor, offset, jstream_offset(c->s, g->seq) - 1);
        if (jconsumer_open(c, g->seq))
            return FOUND;
        leap(c, g->seq);
    }
    return FOUND_FULL;
}

static enum found find(struct jconsumer *c, struct given *g)
{
    if (c->acked)
        return find_leased(c, g);
    *g = (struct given){.seq = fresh(c, c->next)};
    if (!g->seq && c->s->index.last >= c->next)
        c->next = c->s->index.last + 1;
    return g->seq ? FOUND : FOUND_NOTHING;
}

/* It is behind us. */
static void passed(struct jconsumer *c, const struct given *g)
{
    if (g->again)
        return;
    if (c->pending)
        c->pending--;
    leap(c, g->seq);
}

/* ---- reading ---- */

static void read_ready(void *arg)
{
    struct jconsumer *c = arg;

    c->reading = false;
    jconsumer_wake(c);
}

/* ERR_OK; ERR_AGAIN: not now; ERR_NOT_FOUND: it is not there, the next one. */
static enum err get(struct jconsumer *c, struct given *g)
{
    struct jgiven *w;
    enum err e;

    c->reading = true; /* the answer may come before it returns */
    e = jreader_get(c->reader, g->seq, &g->m, read_ready, c);
    if (e == ERR_AGAIN)
        return e;
    c->reading = false;
    if (!e)
        return ERR_OK;
    if (e == ERR_NOT_FOUND) {
        if (c->acked)
            cursor_skip(c->cursor, jstream_offset(c->s, g->seq), jstream_offset(c->s, g->seq));
        if (g->again && (w = jwindow_find(&c->window, g->seq)))
            jwindow_done(&c->window, w);
        passed(c, g);
        return e;
    }
    LOG(c->js->n->conf.log, LOG_WARN, "a message of a stream cannot be read; it is tried again",
        LOG_STR("stream", c->s->conf.name), LOG_U64("sequence", g->seq),
        LOG_STR("error", err_text(e)));
    c->not_before_ms = jconsumer_now_ms(c) + FAILED_MS;
    return ERR_AGAIN;
}

/* ---- what is sent ---- */

static char *number(char *p, uint64_t v)
{
    char digits[20];
    unsigned n = 0;

    do
        digits[n++] = (char)('0' + v % 10);
    while (v /= 10);
    while (n)
        *p++ = digits[--n];
    return p;
}

/* Whom to acknowledge it to. */
static struct slice ack_subject(const struct jconsumer *c, const struct given *g,
                                char out[SUBJECT_ROOM])
{
    uint64_t pending = g->again || !c->pending ? c->pending : c->pending - 1;
    char *p = out + c->ack_prefix_len;

    memcpy(out, c->ack_prefix, c->ack_prefix_len);
    p = number(p, g->deliveries);
    *p++ = '.';
    p = number(p, g->seq);
    *p++ = '.';
    p = number(p, c->dseq);
    *p++ = '.';
    p = number(p, (uint64_t)g->m.time_ns);
    *p++ = '.';
    p = number(p, pending);
    return slice_of(out, (size_t)(p - out));
}

/* Adds a header to the message's; they are in c->headers then. */
static void header_add(struct jconsumer *c, struct given *g, const char *name, const char *value)
{
    if (!g->headers.len || g->headers.ptr != c->headers.ptr) {
        buf_clear(&c->headers);
        if (g->headers.len > 2)
            buf_append(&c->headers, g->headers.ptr, g->headers.len - 2);
        else
            buf_append_str(&c->headers, "NATS/1.0\r\n");
    } else {
        c->headers.len -= 2;
    }
    buf_printf(&c->headers, "%s: %s\r\n\r\n", name, value);
    g->headers = buf_slice(&c->headers);
}

static void compose(struct jconsumer *c, struct given *g, char subject[SUBJECT_ROOM])
{
    char size[24];

    g->deliveries++;
    g->reply = ack_subject(c, g, subject);
    g->headers = g->m.headers;
    g->payload = g->m.payload;
    if (c->conf.headers_only) {
        snprintf(size, sizeof size, "%zu", g->payload.len);
        header_add(c, g, "Nats-Msg-Size", size);
        g->payload = SLICE_LIT("");
    }
    g->size = g->m.subject.len + g->reply.len + g->headers.len + g->payload.len;
}

/* ---- leases ---- */

int32_t jconsumer_lease_ms(const struct jconsumer *c, uint32_t n)
{
    const struct jlist *b = &c->conf.backoff_ns;
    int64_t ns = c->conf.ack_wait_ns;

    if (b->n)
        ns = jlist_ns(b, n && n - 1 < b->n ? n - 1 : b->n - 1);
    if (ns <= 0)
        return INT32_MAX;
    ns = (ns + MS_NS - 1) / MS_NS;
    return ns < INT32_MAX ? (int32_t)ns : INT32_MAX;
}

/* False: it is not free any more. */
static bool lease(struct jconsumer *c, const struct given *g)
{
    return take_for(c, g->seq, jconsumer_lease_ms(c, g->deliveries));
}

static void note(struct jconsumer *c, const struct given *g, int64_t now_ns)
{
    c->active_ns = now_ns;
    if (c->acked)
        jwindow_put(&c->window, g->seq, c->dseq, g->deliveries, now_ns);
    c->dseq++;
    if (!g->again)
        c->last_seq = g->seq;
    passed(c, g);
}

/* ---- not too quickly ---- */

/* The time between messages as it was when they came. */
static bool replay_now(struct jconsumer *c, const struct given *g)
{
    int64_t gap_ms;

    if (c->conf.replay != JREPLAY_ORIGINAL || g->again || g->seq > c->replay_end)
        return true;
    gap_ms = c->replayed_ns ? g->m.time_ns / MS_NS - c->replayed_ns / MS_NS : 0;
    if (gap_ms > 1 && c->replay_seq != g->seq) {
        c->replay_seq = g->seq;
        c->not_before_ms = jconsumer_now_ms(c) + (uint64_t)gap_ms;
        return false;
    }
    return true;
}

static void rate_pay(struct jconsumer *c, size_t size)
{
    uint64_t now = jconsumer_now_ms(c);
    double rate = (double)c->conf.rate_bps / 8000; /* bytes a millisecond */

    if (!c->conf.rate_bps)
        return;
    c->rate_room += (double)(now - c->rate_ms) * rate;
    c->rate_ms = now;
    if (c->rate_room > rate * 1000)
        c->rate_room = rate * 1000;
    c->rate_room -= (double)size;
    if (c->rate_room < 0)
        c->not_before_ms = now + (uint64_t)(-c->rate_room / rate) + 1;
}

/* ---- to pulls ---- */

static uint32_t send(struct jconsumer *c, struct slice to, const struct given *g)
{
    return js_send(c->l, c->s->account, to, g->m.subject, g->reply, g->headers, g->payload);
}

/* False: there is nobody for it. */
static bool to_pull(struct jconsumer *c, struct given *g, int64_t now_ns)
{
    struct jpull *p = jpull_pick(c, g->size);

    if (!p)
        return false;
    if (c->acked && !lease(c, g)) {
        p->left++;
        p->delivered--;
        p->bytes += p->bytes > 0 ? (int64_t)g->size : 0;
        passed(c, g);
        return true;
    }
    if (c->conf.priority == JPRIORITY_PINNED)
        header_add(c, g, "Nats-Pin-Id", c->pin);
    note(c, g, now_ns);
    send(c, slice_of(p->reply, p->reply_len), g);
    jpull_given(c, p);
    return true;
}

/* ---- pushing ---- */

static struct slice flow_subject(const struct jconsumer *c, char out[SUBJECT_ROOM])
{
    int n = snprintf(out, SUBJECT_ROOM, "$JS.FC.%s.%s.%s", c->s->conf.name, c->conf.name, c->fc);

    return slice_of(out, n > 0 ? (size_t)n : 0);
}

static void flow_ask(struct jconsumer *c)
{
    struct slice to = slice_str(c->conf.deliver_subject);
    char subject[SUBJECT_ROOM];

    snprintf(c->fc, sizeof c->fc, "%08X", (unsigned)rng_next(&c->l->rng));
    c->asked_bytes = c->unread_bytes;
    js_send(c->l, c->s->account, to, to, flow_subject(c, subject),
            SLICE_LIT("NATS/1.0 100 FlowControl Request\r\n\r\n"), SLICE_LIT(""));
}

static void flow_count(struct jconsumer *c, size_t size)
{
    bool full = c->conf.ack == JACK_FLOW_CONTROL && is_full(c);

    if (!c->conf.flow_control)
        return;
    c->unread_bytes += size;
    if (!c->fc[0] && (c->unread_bytes > c->window_bytes / 2 || full))
        flow_ask(c);
    else if (c->fc[0] && c->unread_bytes - c->asked_bytes >= c->window_bytes)
        c->asked_bytes += size;
}

void jpush_flow(struct jconsumer *c, struct slice token, struct slice headers)
{
    if (!c->fc[0] || !slice_eq_str(token, c->fc))
        return;
    c->window_bytes = c->window_bytes * 2 < FLOW_MOST ? c->window_bytes * 2 : FLOW_MOST;
    c->unread_bytes -= c->asked_bytes < c->unread_bytes ? c->asked_bytes : c->unread_bytes;
    c->asked_bytes = 0;
    c->fc[0] = 0;
    if (c->conf.ack == JACK_FLOW_CONTROL)
        jack_up_to(c, nheader_find(headers, SLICE_LIT("Nats-Last-Stream")));
    jconsumer_wake(c);
}

void jpush_look(struct jconsumer *c)
{
    struct slice to = slice_str(c->conf.deliver_subject);
    uint64_t stamp = interest_stamp(&c->s->account->interest, to), now = jconsumer_now_ms(c);

    if (stamp != c->bound_stamp || !c->looked) {
        c->looked = true;
        c->bound_stamp = stamp;
        if (nats_wanted(c->l, c->s->account, to) != c->bound) {
            c->bound = !c->bound;
            c->fc[0] = 0;
            c->unread_bytes = c->asked_bytes = 0;
            c->window_bytes = FLOW_FIRST;
            c->beat_ms = now + (uint64_t)(c->conf.heartbeat_ns / MS_NS);
        }
    }
    jconsumer_due(c, now + (c->bound ? BOUND_MS : UNBOUND_MS));
}

void jpush_beat(struct jconsumer *c)
{
    uint64_t now = jconsumer_now_ms(c);
    char more[SUBJECT_ROOM + 128], subject[SUBJECT_ROOM];
    int n;

    if (!c->conf.heartbeat_ns || !c->bound)
        return;
    if (now >= c->beat_ms) {
        n = snprintf(more, sizeof more,
                     "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: %" PRIu64
                     "\r\nNats-Last-Stream: %" PRIu64 "\r\n",
                     c->dseq - 1, c->next - 1);
        if (c->fc[0])
            n += snprintf(more + n, sizeof more - (size_t)n, "Nats-Consumer-Stalled: %s\r\n",
                          (const char *)flow_subject(c, subject).ptr);
        n += snprintf(more + n, sizeof more - (size_t)n, "\r\n");
        js_send(c->l, c->s->account, slice_str(c->conf.deliver_subject),
                slice_str(c->conf.deliver_subject), SLICE_NULL, slice_of(more, (size_t)n),
                SLICE_LIT(""));
        c->beat_ms = now + (uint64_t)(c->conf.heartbeat_ns / MS_NS);
        if (c->conf.ack == JACK_FLOW_CONTROL && c->window.open && !c->fc[0])
            flow_ask(c);
    }
    jconsumer_due(c, c->beat_ms);
}

static bool to_subject(struct jconsumer *c, struct given *g, int64_t now_ns)
{
    if (c->acked && !lease(c, g)) {
        passed(c, g);
        return true;
    }
    note(c, g, now_ns);
    c->beat_ms = jconsumer_now_ms(c) + (uint64_t)(c->conf.heartbeat_ns / MS_NS);
    if (!send(c, slice_str(c->conf.deliver_subject), g))
        c->looked = false; /* nobody got it */
    flow_count(c, g->size);
    rate_pay(c, g->size);
    return true;
}

/* ---- a turn ---- */

static bool may_deliver(struct jconsumer *c)
{
    /* what was refused goes before what was never delivered, so it is waited for */
    if (c->reading || c->refusing || (c->acked && !c->cursor) ||
        jconsumer_now_ms(c) < c->not_before_ms)
        return false;
    if (jconsumer_paused(c))
        return false;
    if (!jconsumer_push(c))
        return c->pulls_n > 0;
    return c->bound && (!c->conf.flow_control || c->unread_bytes <= c->window_bytes);
}

/* Receivers are slow: a moment later. */
static bool pressed(struct jconsumer *c)
{
    if (!c->l->pressed)
        return false;
    c->l->pressed = false;
    c->not_before_ms = jconsumer_now_ms(c) + SLOW_MS;
    return true;
}

/* One message. FOUND: and on; c->reading or not_before say when not. */
static enum found deliver_one(struct jconsumer *c, int64_t now_ns, size_t *bytes)
{
    char subject[SUBJECT_ROOM];
    struct given g;
    enum found f = find(c, &g);
    enum err e;
    bool sent;

    if (f != FOUND)
        return f;
    if ((e = get(c, &g)))
        return e == ERR_NOT_FOUND ? FOUND : FOUND_FULL;
    if (!replay_now(c, &g))
        return FOUND_FULL;
    compose(c, &g, subject);
    sent = jconsumer_push(c) ? to_subject(c, &g, now_ns) : to_pull(c, &g, now_ns);
    if (!sent) /* there is nobody for it; so whoever does not wait gets nothing */
        return FOUND_NOTHING;
    c->replayed_ns = g.m.time_ns;
    *bytes += g.size;
    if (!c->acked && c->s->conf.retention != JRETENTION_LIMITS)
        jstream_acked(c->s, g.seq);
    return FOUND;
}

void jdeliver(struct jconsumer *c)
{
    int64_t now_ns = js_now_ns(c->js);
    enum found f = FOUND;
    size_t bytes = 0;
    uint32_t n = 0;

    c->l->pressed = false;
    while (may_deliver(c) && n++ < TURN_MSGS && bytes < TURN_BYTES && !pressed(c)) {
        f = deliver_one(c, now_ns, &bytes);
        if (f != FOUND)
            break;
    }
    if (bytes)
        jconsumer_moved(c);
    if (!jconsumer_push(c) && c->pulls_n)
        jpulls_look(c, f == FOUND_NOTHING || jconsumer_paused(c));
    if (c->not_before_ms > jconsumer_now_ms(c))
        jconsumer_due(c, c->not_before_ms);
    else if (f == FOUND && may_deliver(c))
        jconsumer_wake_later(c);
}
