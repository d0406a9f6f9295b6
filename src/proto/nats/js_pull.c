/* Requests for messages that wait at a consumer. Each gets a message in turn; those of an overflow
 * group only if enough waits, those of a pinned group only if they are the one that is pinned. One
 * whose time is over is told so, one whose client is gone is forgotten. Texts of statuses are
 * nats-server's, as clients know them by these. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "proto/nats/js_consumer_int.h"

#define ASKED_MAX  16384u /* requests of one turn */
#define MS_NS      1000000
#define PRIORITIES 9

static void status(struct jconsumer *c, struct slice to, const char *text, const char *more)
{
    js_send_status(c->l, c->s->account, to, text, more);
}

static struct slice reply_of(const struct jpull *p)
{
    return slice_of(p->reply, p->reply_len);
}

/* A status with what it would still have taken. */
static void ends(struct jconsumer *c, const struct jpull *p, const char *text)
{
    char more[128];

    snprintf(more, sizeof more,
             "Nats-Pending-Messages: %" PRId64 "\r\nNats-Pending-Bytes: %" PRId64 "\r\n", p->left,
             p->bytes);
    status(c, reply_of(p), text, more);
}

static void pull_free(struct jconsumer *c, struct jpull *p)
{
    list_remove(&p->link);
    c->pulls_n--;
    free(p);
}

/* At its place: behind those of its priority. */
static void put_in(struct jconsumer *c, struct jpull *p)
{
    struct jpull *at;

    if (c->conf.priority == JPRIORITY_PRIORITIZED)
        list_for_each(at, &c->pulls, struct jpull, link)
        {
            if (at->priority > p->priority) {
                list_insert_before(&at->link, &p->link);
                return;
            }
        }
    list_push_back(&c->pulls, &p->link);
}

/* ---- new ones ---- */

void jpull_asked(struct jconsumer *c, struct slice reply, struct slice body)
{
    struct jasked *a;

    if (!reply.len || c->asked_n >= ASKED_MAX)
        return;
    if (body.len > JPULL_BODY_MAX + 1)
        body.len = JPULL_BODY_MAX + 1; /* is refused */
    a = xmalloc(sizeof *a + reply.len + body.len);
    a->reply_len = reply.len;
    a->body_len = body.len;
    memcpy(a->text, reply.ptr, reply.len);
    if (body.len)
        memcpy(a->text + reply.len, body.ptr, body.len);
    list_push_back(&c->asked, &a->link);
    c->asked_n++;
    jconsumer_wake(c);
}

static bool refuse(struct jconsumer *c, struct slice reply, const char *text)
{
    status(c, reply, text, NULL);
    return false;
}

static bool limits_keep(struct jconsumer *c, struct slice reply, const struct jpull_body *b)
{
    char text[96];

    if (c->conf.max_batch && b->batch > c->conf.max_batch)
        snprintf(text, sizeof text, "NATS/1.0 409 Exceeded MaxRequestBatch of %" PRId64,
                 c->conf.max_batch);
    else if (c->conf.max_expires_ns && b->expires_ns > c->conf.max_expires_ns)
        snprintf(text, sizeof text, "NATS/1.0 409 Exceeded MaxRequestExpires of %gs",
                 (double)c->conf.max_expires_ns / 1e9);
    else if (c->conf.max_bytes && b->max_bytes > c->conf.max_bytes)
        snprintf(text, sizeof text, "NATS/1.0 409 Exceeded MaxRequestMaxBytes of %" PRId64,
                 c->conf.max_bytes);
    else
        return true;
    return refuse(c, reply, text);
}

static bool in_groups(const struct jconsumer *c, const char *group)
{
    unsigned i;

    for (i = 0; i < c->conf.priority_groups.n; i++)
        if (slice_eq_str(jlist_text(&c->conf.priority_groups, i), group))
            return true;
    return false;
}

static bool group_keep(struct jconsumer *c, struct slice reply, const struct jpull_body *b)
{
    int policy = c->conf.priority;

    if ((b->min_pending || b->min_ack_pending) && policy != JPRIORITY_OVERFLOW)
        return refuse(c, reply, "NATS/1.0 400 Bad Request - Not a Overflow Priority consumer");
    if (b->id[0] && policy != JPRIORITY_PINNED)
        return refuse(c, reply, "NATS/1.0 400 Bad Request - Not a Pinned Client Priority consumer");
    if (b->priority < 0 || b->priority > PRIORITIES)
        return refuse(c, reply, "NATS/1.0 400 Bad Request - Priority must be between 0 and 9");
    if (policy == JPRIORITY_NONE)
        return true;
    if (!b->group[0])
        return refuse(c, reply, "NATS/1.0 400 Bad Request - Priority Group missing");
    if (!in_groups(c, b->group))
        return refuse(c, reply, "NATS/1.0 400 Bad Request - Invalid Priority Group");
    if (c->pin[0] && !strcmp(c->pin, b->id))
        c->pin_until_ms = jconsumer_now_ms(c) + (uint64_t)(c->conf.pinned_ttl_ns / MS_NS);
    else if (c->pin[0] && b->id[0])
        return refuse(c, reply, "NATS/1.0 423 Nats-Pin-Id mismatch");
    return true;
}

static int64_t batches_waiting(const struct jconsumer *c)
{
    struct jpull *p;
    int64_t n = 0;

    list_for_each(p, &c->pulls, struct jpull, link) n += p->left;
    return n;
}

/* Messages that could be delivered now. */
static uint64_t deliverable(const struct jconsumer *c)
{
    struct cursor_info ci = {0};

    if (c->cursor)
        cursor_info_get(c->cursor, &ci);
    return c->pending + (ci.undone - ci.acquired);
}

static bool no_wait_keep(struct jconsumer *c, struct slice reply, const struct jpull_body *b)
{
    uint64_t n;

    if (!b->no_wait)
        return true;
    n = deliverable(c);
    if (!n && !b->expires_ns)
        return refuse(c, reply, "NATS/1.0 404 No Messages");
    if (n && n < (uint64_t)batches_waiting(c))
        return refuse(c, reply, "NATS/1.0 408 Requests Pending");
    return true;
}

static uint64_t ms_of(int64_t ns)
{
    return ns > 0 ? (uint64_t)(ns / MS_NS + (ns % MS_NS != 0)) : 0;
}

static void wait_for(struct jconsumer *c, struct slice reply, const struct jpull_body *b)
{
    uint64_t now = jconsumer_now_ms(c);
    struct jpull *p = xcalloc(1, sizeof *p + reply.len);

    p->left = b->batch;
    p->bytes = b->max_bytes;
    p->expires_ms = b->expires_ns ? now + ms_of(b->expires_ns) : 0; /* below 0: it has */
    p->heartbeat_ms = ms_of(b->heartbeat_ns);
    p->beat_ms = p->heartbeat_ms ? now + p->heartbeat_ms : 0;
    p->min_pending = b->min_pending;
    p->min_ack_pending = b->min_ack_pending;
    p->priority = b->priority;
    p->no_wait = b->no_wait;
    p->grouped = b->group[0] != 0;
    memcpy(p->id, b->id, sizeof p->id);
    p->reply_len = reply.len;
    memcpy(p->reply, reply.ptr, reply.len);
    put_in(c, p);
    c->pulls_n++;
    if (p->expires_ms)
        jconsumer_due(c, p->expires_ms);
    if (p->beat_ms)
        jconsumer_due(c, p->beat_ms);
}

static void take(struct jconsumer *c, struct slice reply, struct slice body)
{
    char fault[JPULL_FAULT], text[JPULL_FAULT + 16];
    struct jpull_body b;

    if (jconsumer_push(c)) {
        refuse(c, reply, "NATS/1.0 409 Consumer is push based");
        return;
    }
    c->last_pull_ms = jconsumer_now_ms(c);
    if (!jpull_body_read(body, &b, fault)) {
        snprintf(text, sizeof text, "NATS/1.0 400 %s", fault);
        refuse(c, reply, text);
        return;
    }
    if (!limits_keep(c, reply, &b) || !group_keep(c, reply, &b))
        return;
    if (c->pulls_n >= (uint64_t)c->conf.max_waiting)
        jpulls_look(c, false);
    if (!no_wait_keep(c, reply, &b))
        return;
    if (c->pulls_n < (uint64_t)c->conf.max_waiting)
        wait_for(c, reply, &b);
    else if (b.heartbeat_ns <= 0) /* who has heartbeats misses them, and comes again */
        refuse(c, reply, "NATS/1.0 409 Exceeded MaxWaiting");
}

void jpulls_take(struct jconsumer *c)
{
    struct jasked *a;

    while (!list_empty(&c->asked)) {
        a = list_entry(list_pop_front(&c->asked), struct jasked, link);
        c->asked_n--;
        take(c, slice_of(a->text, a->reply_len), slice_of(a->text + a->reply_len, a->body_len));
        free(a);
    }
}

/* ---- pinned clients ---- */

static void pin_advise(struct jconsumer *c, const char *kind, const char *type, const char *name,
                       const char *value)
{
    json_t *o = json_pack("{s:s, s:s}", "group",
                          (const char *)jlist_text(&c->conf.priority_groups, 0).ptr, name, value);

    jconsumer_advise(c, kind, type, o);
}

void jpin_drop(struct jconsumer *c, const char *reason)
{
    if (!c->pin[0])
        return;
    c->pin[0] = 0;
    c->pin_until_ms = 0;
    c->pinned_ns = 0;
    pin_advise(c, "ADVISORY.CONSUMER.UNPINNED",
               "io.nats.jetstream.advisory.v1.consumer_group_unpinned", "reason", reason);
    jconsumer_wake(c);
}

static void pin(struct jconsumer *c, struct jpull *p)
{
    static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    unsigned i;

    for (i = 0; i < JPIN_LEN; i++)
        c->pin[i] = letters[rng_next(&c->l->rng) % (sizeof letters - 1)];
    c->pin[JPIN_LEN] = 0;
    memcpy(p->id, c->pin, sizeof c->pin);
    c->pinned_ns = js_now_ns(c->js);
    c->pin_until_ms = jconsumer_now_ms(c) + (uint64_t)(c->conf.pinned_ttl_ns / MS_NS);
    jconsumer_due(c, c->pin_until_ms);
    pin_advise(c, "ADVISORY.CONSUMER.PINNED", "io.nats.jetstream.advisory.v1.consumer_group_pinned",
               "pinned_id", c->pin);
}

enum verdict { GIVE, PASS, END };

static enum verdict pinned(struct jconsumer *c, struct jpull *p)
{
    if (c->conf.priority != JPRIORITY_PINNED)
        return GIVE;
    if (!c->pin[0] && !p->id[0]) {
        pin(c, p);
        return GIVE;
    }
    if (c->pin[0] && !strcmp(c->pin, p->id))
        return GIVE;
    if (!p->id[0])
        return PASS;
    ends(c, p, "NATS/1.0 423 Nats-Wrong-Pin-Id");
    return END;
}

static bool overflows(const struct jconsumer *c, const struct jpull *p)
{
    if (c->conf.priority != JPRIORITY_OVERFLOW || (p->min_pending <= 0 && p->min_ack_pending <= 0))
        return true;
    return (p->min_pending > 0 && (uint64_t)p->min_pending <= c->pending) ||
           (p->min_ack_pending > 0 && (uint64_t)p->min_ack_pending <= c->window.open);
}

/* ---- whose turn it is ---- */

static enum verdict judge(struct jconsumer *c, struct jpull *p, size_t size, uint64_t now)
{
    bool was_pinned = c->pin[0] != 0;
    enum verdict v;

    if (p->expires_ms && now >= p->expires_ms) {
        ends(c, p, "NATS/1.0 408 Request Timeout");
        return END;
    }
    v = pinned(c, p);
    if (v != GIVE)
        return v;
    if (!overflows(c, p))
        return PASS;
    if (p->bytes > 0 && size > (uint64_t)p->bytes) {
        ends(c, p, "NATS/1.0 409 Message Size Exceeds MaxBytes");
        if (!was_pinned)
            c->pin[0] = 0;
        return END;
    }
    return nats_wanted(c->l, c->s->account, reply_of(p)) ? GIVE : END;
}

struct jpull *jpull_pick(struct jconsumer *c, size_t size)
{
    uint64_t now = jconsumer_now_ms(c);
    struct list_node *at, *next;
    struct jpull *p;

    for (at = c->pulls.node.next; at != &c->pulls.node; at = next) {
        next = at->next;
        p = list_entry(at, struct jpull, link);
        switch (judge(c, p, size, now)) {
        case GIVE:
            if (p->bytes > 0 && (p->bytes -= (int64_t)size) == 0)
                p->left = 1;
            p->left--;
            p->delivered++;
            return p;
        case PASS:
            break;
        case END:
            pull_free(c, p);
            break;
        }
    }
    return NULL;
}

void jpull_given(struct jconsumer *c, struct jpull *p)
{
    if (p->left > 0) {
        if (p->heartbeat_ms)
            p->beat_ms = jconsumer_now_ms(c) + p->heartbeat_ms;
        if (c->pulls_n > 1) {
            list_remove(&p->link);
            put_in(c, p);
        }
        return;
    }
    if (p->bytes > 0)
        ends(c, p, "NATS/1.0 409 Batch Completed");
    pull_free(c, p);
}

/* ---- time ---- */

static void beat(struct jconsumer *c, struct jpull *p, uint64_t now)
{
    char more[128];

    snprintf(more, sizeof more,
             "Nats-Last-Consumer: %" PRIu64 "\r\nNats-Last-Stream: %" PRIu64 "\r\n", c->dseq - 1,
             c->next - 1);
    status(c, reply_of(p), "NATS/1.0 100 Idle Heartbeat", more);
    p->beat_ms = now + p->heartbeat_ms;
}

/* False: it goes. */
static bool look(struct jconsumer *c, struct jpull *p, bool eos, uint64_t now)
{
    if (p->expires_ms && now >= p->expires_ms) {
        ends(c, p, "NATS/1.0 408 Request Timeout");
        return false;
    }
    if (eos && p->no_wait && (!p->expires_ms || p->delivered)) {
        status(c, reply_of(p), "NATS/1.0 404 No Messages", NULL);
        return false;
    }
    if (!nats_wanted(c->l, c->s->account, reply_of(p)))
        return false;
    if (p->beat_ms && now >= p->beat_ms)
        beat(c, p, now);
    if (p->expires_ms)
        jconsumer_due(c, p->expires_ms);
    if (p->beat_ms)
        jconsumer_due(c, p->beat_ms);
    return true;
}

void jpulls_look(struct jconsumer *c, bool eos)
{
    uint64_t now = jconsumer_now_ms(c);
    struct list_node *at, *next;
    struct jpull *p;

    for (at = c->pulls.node.next; at != &c->pulls.node; at = next) {
        next = at->next;
        p = list_entry(at, struct jpull, link);
        if (!look(c, p, eos, now))
            pull_free(c, p);
    }
}

void jpulls_end(struct jconsumer *c, const char *text)
{
    struct jpull *p;
    struct jasked *a;

    while (!list_empty(&c->pulls)) {
        p = list_entry(c->pulls.node.next, struct jpull, link);
        if (text)
            status(c, reply_of(p), text, NULL);
        pull_free(c, p);
    }
    while (!list_empty(&c->asked)) {
        a = list_entry(list_pop_front(&c->asked), struct jasked, link);
        if (text)
            status(c, slice_of(a->text, a->reply_len), text, NULL);
        c->asked_n--;
        free(a);
    }
}
