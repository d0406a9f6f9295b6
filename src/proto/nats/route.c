/* Messages to those who want them.
 *
 * On the loop where a message is published its receivers are looked up, in the loop's cache or in
 * the account's index. Those of the same loop get it at once, into their output. What is for others
 * is put into an outbox for their loop: the message once, and the subscriptions there that get it.
 * Outboxes are posted at the end of the turn, so order is kept between any two connections. Of each
 * queue group one member is drawn.
 *
 * Subscriptions and connections that are gone may still be in a cache's entry, which is not used
 * any more as its stamp is old, and in outboxes. They are freed after a round: each loop is asked,
 * and answers when what it had posted before has been taken by the one that asks. One round of a
 * loop is under way at a time; what goes meanwhile waits for the next.
 *
 * Slow receivers: when one has more than NATS_OUTPUT queued, publishers to it are not read for a
 * moment, longer each time; at the hard maximum (64 MiB) or after send_ms without progress the
 * receiver is closed, as nats-server does. Outboxes are bounded in the same way. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "io/io.h"
#include "proto/nats/js.h"
#include "proto/nats/nats_int.h"

/* ---- bodies that several connections send ---- */

struct nshared {
    uint32_t refs; /* of one loop */
    size_t len;
    uint8_t bytes[];
};

static void shared_unref(void *arg)
{
    struct nshared *s = arg;

    if (--s->refs == 0)
        free(s);
}

static struct nshared *shared_of(struct nmsg *m)
{
    if (!m->shared) {
        m->shared = xmalloc(sizeof *m->shared + m->body.len + 2);
        m->shared->refs = 1;
        m->shared->len = m->body.len + 2;
        memcpy(m->shared->bytes, m->body.ptr, m->body.len);
        memcpy(m->shared->bytes + m->body.len, "\r\n", 2);
    }
    return m->shared;
}

static void msg_done(struct nmsg *m)
{
    if (m->shared)
        shared_unref(m->shared);
    m->shared = NULL;
}

/* ---- one message to one subscription ---- */

static uint8_t *put(uint8_t *p, struct slice s)
{
    memcpy(p, s.ptr, s.len);
    return p + s.len;
}

static uint8_t *put_number(uint8_t *p, size_t v)
{
    uint8_t digits[20];
    unsigned n = 0;

    do
        digits[n++] = (uint8_t)('0' + v % 10);
    while (v /= 10);
    while (n)
        *p++ = digits[--n];
    return p;
}

/* The line and, unless it is shared, the body. */
static bool write_msg(struct nsub *s, struct nmsg *m, struct slice body, size_t header_len)
{
    struct conn *c = s->c->c;
    bool share = m->share && m->body.len >= NATS_SHARED_LEAST && body.len == m->body.len;
    size_t most = 64 + m->subject.len + s->sid.len + m->reply.len + (share ? 0 : body.len + 2);
    uint8_t *at = conn_out(c, most), *p = at;

    if (!p)
        return false;
    p = put(p, header_len ? SLICE_LIT("HMSG ") : SLICE_LIT("MSG "));
    p = put(p, m->subject);
    *p++ = ' ';
    p = put(p, s->sid);
    *p++ = ' ';
    if (m->reply.len) {
        p = put(p, m->reply);
        *p++ = ' ';
    }
    if (header_len) {
        p = put_number(p, header_len);
        *p++ = ' ';
    }
    p = put_number(p, body.len);
    *p++ = '\r';
    *p++ = '\n';
    if (!share) {
        if (body.len)
            p = put(p, body);
        *p++ = '\r';
        *p++ = '\n';
    }
    conn_out_done(c, (size_t)(p - at));
    if (share) {
        struct nshared *sh = shared_of(m);

        sh->refs++;
        conn_send_lent(c, slice_of(sh->bytes, sh->len), shared_unref, sh);
    }
    return true;
}

static bool handle(struct nsub *s, struct nmsg *m)
{
    if (atomic_load_explicit(&s->gone, memory_order_relaxed))
        return false;
    s->handle(s, m);
    if (atomic_load_explicit(s->pressed, memory_order_relaxed))
        s->l->pressed = true;
    return true;
}

/* On the subscription's loop. False: it did not get the message. */
static bool deliver(struct nsub *s, struct nmsg *m)
{
    struct nconn *c = s->c;
    struct slice body = m->body;
    size_t header_len = m->header_len;

    if (s->handle)
        return handle(s, m);
    if (atomic_load_explicit(&s->gone, memory_order_relaxed) || !c->c || conn_closing(c->c) ||
        (m->from == c && !c->echo) || (s->filtered && !nats_may_receive(c, m->subject)))
        return false;
    if (header_len && !c->headers) { /* a client that does not know headers gets the payload */
        body = slice_of(body.ptr + header_len, body.len - header_len);
        header_len = 0;
    }
    if (!write_msg(s, m, body, header_len))
        return false;
    c->out_msgs++;
    c->out_bytes += body.len;
    nstat_add(&c->l->msgs_out, 1);
    nstat_add(&c->l->bytes_out, body.len);
    if (m->reply.len && c->user && c->user->responses)
        nats_note_reply(c, m->reply);
    if (conn_full(c->c)) {
        atomic_store_explicit(&c->pressed, true, memory_order_relaxed);
        c->l->pressed = true;
    }
    if (++s->delivered == s->max)
        nsub_end(s);
    return true;
}

/* ---- to other loops ---- */

struct noutbox {
    struct loop_task task;
    struct nloop *from, *to;
    struct buf data;
    size_t open; /* the parcel that subscriptions are being added to, + 1; 0: none */
};

/* In an outbox: this, subject, reply, to and body, padded, and the subscriptions. */
struct nparcel {
    uint32_t subs_n, hops;
    uint32_t subject_len, reply_len, to_len, body_len, header_len;
};

#define OUTBOX_FIRST 16384u
#define OUTBOX_FULL  (1u << 20) /* is posted before the turn ends */
#define HOPS_MAX     4u         /* a message to a queue group looks for a member so often */

static void outbox_take(struct loop_task *t);

static size_t padded(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

static void outbox_post(struct nloop *l, unsigned to)
{
    struct noutbox *o = l->to[to];

    if (!o)
        return;
    l->to[to] = NULL;
    atomic_fetch_add_explicit(&l->under_way[to], o->data.len, memory_order_relaxed);
    loop_post(o->to->loop, &o->task);
}

static void turn_end(void *arg)
{
    struct nloop *l = arg;
    unsigned i;

    if (l->n->js)
        js_turn_end(l->n->js, l);
    for (i = 0; i < l->n->conf.loops_n; i++)
        outbox_post(l, i);
}

static struct noutbox *outbox_for(struct nloop *l, unsigned to, size_t room)
{
    struct noutbox *o;

    if (l->to[to] && !l->to[to]->open && l->to[to]->data.len >= OUTBOX_FULL)
        outbox_post(l, to);
    o = l->to[to];
    if (!o) {
        o = l->to[to] = xcalloc(1, sizeof *o);
        o->task.fn = outbox_take;
        o->from = l;
        o->to = &l->n->loops[to];
        buf_init(&o->data, SIZE_MAX);
        room = room > OUTBOX_FIRST ? room : OUTBOX_FIRST;
    }
    if (buf_reserve(&o->data, room))
        abort(); /* no memory */
    return o;
}

static void append(struct buf *b, const void *p, size_t n)
{
    if (n)
        memcpy(b->ptr + b->len, p, n);
    b->len += n;
}

/* One more receiver on another loop. */
static void parcel_add(struct nloop *l, const struct nmsg *m, struct nsub *s)
{
    size_t text = m->subject.len + m->reply.len + m->to.len + m->body.len;
    unsigned to = s->l->index;
    struct noutbox *o = outbox_for(l, to, sizeof(struct nparcel) + padded(text) + sizeof s);
    struct nparcel *p;

    if (!o->open) {
        struct nparcel head = {.hops = m->hops,
                               .subject_len = (uint32_t)m->subject.len,
                               .reply_len = (uint32_t)m->reply.len,
                               .to_len = (uint32_t)m->to.len,
                               .body_len = (uint32_t)m->body.len,
                               .header_len = (uint32_t)m->header_len};

        o->open = o->data.len + 1;
        append(&o->data, &head, sizeof head);
        append(&o->data, m->subject.ptr, m->subject.len);
        append(&o->data, m->reply.ptr, m->reply.len);
        append(&o->data, m->to.ptr, m->to.len);
        append(&o->data, m->body.ptr, m->body.len);
        memset(o->data.ptr + o->data.len, 0, padded(text) - text);
        o->data.len += padded(text) - text;
    }
    p = (struct nparcel *)(void *)(o->data.ptr + o->open - 1);
    p->subs_n++;
    append(&o->data, &s, sizeof s);
    if (atomic_load_explicit(s->pressed, memory_order_relaxed) ||
        atomic_load_explicit(&l->under_way[to], memory_order_relaxed) > NATS_OUTBOX_HIGH)
        l->pressed = true;
}

static void parcels_close(struct nloop *l)
{
    unsigned i;

    for (i = 0; i < l->n->conf.loops_n; i++)
        if (l->to[i])
            l->to[i]->open = 0;
}

/* ---- receivers ---- */

static void entry_clear(struct nloop *l, struct nfound *f)
{
    l->cached -= f->found.plain_cap + f->found.queued_cap;
    interest_found_fini(&f->found);
    f->account = NULL;
}

static void cache_clear(struct nloop *l)
{
    uint32_t i;

    for (i = 0; i < NATS_CACHE; i++)
        entry_clear(l, &l->cache[i]);
}

static const struct interest_found *lookup(struct nloop *l, struct naccount *a,
                                           struct slice subject)
{
    uint64_t hash = hash64(subject.ptr, subject.len, (uint64_t)(uintptr_t)a);
    uint64_t stamp = interest_stamp(&a->interest, subject);
    struct nfound *f = &l->cache[hash & (NATS_CACHE - 1)];

    if (f->account == a && f->hash == hash && f->stamp == stamp &&
        slice_eq(buf_slice(&f->subject), subject))
        return &f->found;
    if (l->cached > NATS_CACHE_KEPT)
        cache_clear(l);
    f->account = a;
    f->hash = hash;
    f->stamp = stamp; /* read before: what comes while we look makes it old */
    buf_clear(&f->subject);
    if (buf_append_slice(&f->subject, subject))
        f->account = NULL;
    l->cached -= f->found.plain_cap + f->found.queued_cap;
    interest_match(&a->interest, subject, &f->found);
    l->cached += f->found.plain_cap + f->found.queued_cap;
    return &f->found;
}

static struct nsub *sub_of(struct interest_sub *s)
{
    return (struct nsub *)(void *)s;
}

static bool send_one(struct nloop *l, struct nsub *s, struct nmsg *m)
{
    if (m->record && s->handle)
        return false;
    if (s->l == l)
        return deliver(s, m);
    if (atomic_load_explicit(&s->gone, memory_order_relaxed))
        return false;
    parcel_add(l, m, s);
    return true;
}

/* To one of the group, beginning with any. */
static bool send_group(struct nloop *l, struct interest_sub **v, uint32_t n, struct nmsg *m)
{
    uint32_t first = n > 1 ? (uint32_t)(rng_next(&l->rng) % n) : 0, i;

    for (i = 0; i < n; i++)
        if (send_one(l, sub_of(v[first + i < n ? first + i : first + i - n]), m))
            return true;
    return false;
}

static struct slice routed_by(const struct nmsg *m)
{
    return m->to.len ? m->to : m->subject;
}

uint32_t nats_route(struct nloop *l, struct naccount *a, struct nmsg *m)
{
    const struct interest_found *f;
    uint32_t i, sent = 0, end;

    if (interest_none(&a->interest))
        return 0;
    f = lookup(l, a, routed_by(m));
    m->share = f->plain_n + f->groups_n > 1;
    for (i = 0; i < f->plain_n; i++)
        sent += send_one(l, sub_of(f->plain[i]), m);
    for (i = 0; i < f->groups_n; i++) {
        end = i + 1 < f->groups_n ? f->group[i + 1] : f->queued_n;
        sent += send_group(l, f->queued + f->group[i], end - f->group[i], m);
    }
    if (l->n->conf.loops_n > 1)
        parcels_close(l);
    msg_done(m);
    return sent;
}

bool nats_wanted(struct nloop *l, struct naccount *a, struct slice subject)
{
    const struct interest_found *f = lookup(l, a, subject);

    return f->plain_n + f->groups_n > 0;
}

struct nsub *nats_own_sub(struct nconn *c, struct slice subject)
{
    const struct interest_found *f = lookup(c->l, c->account, subject);
    uint32_t i;

    for (i = 0; i < f->plain_n; i++)
        if (sub_of(f->plain[i])->c == c)
            return sub_of(f->plain[i]);
    for (i = 0; i < f->queued_n; i++)
        if (sub_of(f->queued[i])->c == c)
            return sub_of(f->queued[i]);
    return NULL;
}

/* The member that was drawn is gone by now: to another of its group. */
static void send_again(struct nloop *l, struct nsub *s, struct nmsg *m)
{
    const struct interest_found *f;
    uint32_t i, end;

    if (!s->in.queue.len || !s->c || ++m->hops > HOPS_MAX)
        return;
    f = lookup(l, s->c->account, routed_by(m));
    for (i = 0; i < f->groups_n; i++) {
        end = i + 1 < f->groups_n ? f->group[i + 1] : f->queued_n;
        if (!slice_eq(f->queued[f->group[i]]->queue, s->in.queue))
            continue;
        send_group(l, f->queued + f->group[i], end - f->group[i], m);
        parcels_close(l);
        return;
    }
}

static size_t parcel_take(struct nloop *l, const uint8_t *at)
{
    struct nparcel p;
    struct nmsg m = {0};
    const uint8_t *text = at + sizeof p;
    const uint8_t *begin = at;
    struct nsub *s;
    uint32_t i;

    memcpy(&p, at, sizeof p);
    m.subject = slice_of(text, p.subject_len);
    m.reply = slice_of(text + p.subject_len, p.reply_len);
    text += p.subject_len + p.reply_len;
    m.to = slice_of(text, p.to_len);
    m.body = slice_of(text + p.to_len, p.body_len);
    m.header_len = p.header_len;
    m.hops = p.hops;
    m.share = p.subs_n > 1;
    at += sizeof p + padded((size_t)p.subject_len + p.reply_len + p.to_len + p.body_len);
    for (i = 0; i < p.subs_n; i++, at += sizeof s) {
        memcpy(&s, at, sizeof s);
        if (!deliver(s, &m))
            send_again(l, s, &m);
    }
    msg_done(&m);
    return (size_t)(at - begin);
}

/* On the loop that it is for. */
static void outbox_take(struct loop_task *t)
{
    struct noutbox *o = (struct noutbox *)(void *)t;
    size_t at = 0;

    while (at < o->data.len)
        at += parcel_take(o->to, o->data.ptr + at);
    o->to->pressed = false; /* who published is on another loop, and sees `pressed` of receivers */
    atomic_fetch_sub_explicit(&o->from->under_way[o->to->index], o->data.len, memory_order_relaxed);
    buf_fini(&o->data);
    free(o);
}

/* ---- subscriptions of the server's own ---- */

struct nsub *nats_sub_new(struct nloop *l, struct naccount *a, struct slice subject,
                          struct slice queue, nats_handle_fn fn, void *arg, atomic_bool *pressed)
{
    struct nsub *s = xcalloc(1, sizeof *s + subject.len + queue.len);

    s->l = l;
    s->handle = fn;
    s->arg = arg;
    s->pressed = pressed;
    memcpy(s->text, subject.ptr, subject.len);
    s->in.subject = slice_of(s->text, subject.len);
    if (queue.len)
        memcpy(s->text + subject.len, queue.ptr, queue.len);
    s->in.queue = slice_of(s->text + subject.len, queue.len);
    atomic_init(&s->gone, false);
    if (interest_add(&a->interest, &s->in)) {
        free(s);
        return NULL;
    }
    return s;
}

void nats_sub_end(struct nsub *s, struct naccount *a)
{
    if (!s)
        return;
    atomic_store_explicit(&s->gone, true, memory_order_release);
    interest_remove(&a->interest, &s->in);
    nats_retire_sub(s->l, s);
}

/* ---- publishers that wait ---- */

void nats_stall(struct nconn *c)
{
    struct nloop *l = c->l;

    l->pressed = false;
    if (c->stalled || conn_closing(c->c))
        return;
    c->stall_ms = c->stall_ms ? c->stall_ms * 2 : NATS_STALL_MS;
    if (c->stall_ms > NATS_STALL_MS_MAX)
        c->stall_ms = NATS_STALL_MS_MAX;
    nstat_add(&l->stalls, 1);
    c->stalled = true;
    c->next = l->stalled;
    l->stalled = c;
    conn_pause(c->c, true);
    if (!loop_timer_armed(&l->stall))
        loop_timer_arm(l->loop, &l->stall, c->stall_ms);
}

void nats_unstall(struct nconn *c)
{
    struct nconn **at;

    if (!c->stalled)
        return;
    for (at = &c->l->stalled; *at != c;)
        at = &(*at)->next;
    *at = c->next;
    c->stalled = false;
}

static void stall_over(struct loop_timer *t)
{
    struct nloop *l = list_entry(t, struct nloop, stall);
    struct nconn *c;

    while ((c = l->stalled)) {
        l->stalled = c->next;
        c->stalled = false;
        conn_pause(c->c, false);
    }
}

/* ---- what is gone ---- */

struct nask {
    struct loop_task task, answer;
    struct ngone *round;
    struct nloop *at;
};
struct ngone {
    struct nloop *l; /* whose it is */
    struct nsub *subs;
    struct nconn *conns;
    unsigned waits;
    struct nask ask[];
};

static void round_begin(struct nloop *l);

static void lists_free(struct nsub *s, struct nconn *c)
{
    struct nsub *s_next;
    struct nconn *c_next;

    for (; s; s = s_next) {
        s_next = s->next;
        free(s);
    }
    for (; c; c = c_next) {
        c_next = c->next;
        free(c);
    }
}

static void on_answer(struct loop_task *t)
{
    struct nask *k = list_entry(t, struct nask, answer);
    struct ngone *g = k->round;
    struct nloop *l = g->l;

    if (--g->waits)
        return;
    lists_free(g->subs, g->conns);
    free(g);
    l->round = NULL;
    round_begin(l);
}

static void on_ask(struct loop_task *t)
{
    struct nask *k = list_entry(t, struct nask, task);
    struct nloop *asker = k->round->l;

    outbox_post(k->at, asker->index);
    loop_post(asker->loop, &k->answer);
}

static void round_begin(struct nloop *l)
{
    unsigned n = l->n->conf.loops_n, i;
    struct ngone *g;

    if (l->round || (!l->gone_subs && !l->gone_conns))
        return;
    g = l->round = xcalloc(1, sizeof *g + n * sizeof *g->ask);
    g->l = l;
    g->subs = l->gone_subs;
    g->conns = l->gone_conns;
    g->waits = n;
    l->gone_subs = NULL;
    l->gone_conns = NULL;
    for (i = 0; i < n; i++) {
        g->ask[i] = (struct nask){.task.fn = on_ask, .answer.fn = on_answer, .round = g};
        g->ask[i].at = &l->n->loops[i];
        loop_post(l->n->loops[i].loop, &g->ask[i].task);
    }
}

void nats_retire_sub(struct nloop *l, struct nsub *s)
{
    s->next = l->gone_subs;
    l->gone_subs = s;
    round_begin(l);
}

void nats_retire_conn(struct nloop *l, struct nconn *c)
{
    c->next = l->gone_conns;
    l->gone_conns = c;
    round_begin(l);
}

/* ---- a loop ---- */

void nloop_init(struct nloop *l, struct nats *n, unsigned index)
{
    unsigned i;

    buf_init(&l->mapped, SIZE_MAX);
    l->n = n;
    l->loop = n->conf.loops[index];
    l->index = index;
    list_init(&l->conns);
    auth_view_init(&l->auth, n->conf.auth);
    l->cache = xcalloc(NATS_CACHE, sizeof *l->cache);
    for (i = 0; i < NATS_CACHE; i++)
        buf_init(&l->cache[i].subject, NATS_LINE_MAX);
    io_random(n->conf.io, &l->rng, sizeof l->rng);
    l->to = xcalloc(n->conf.loops_n, sizeof(struct noutbox *));
    l->under_way = xcalloc(n->conf.loops_n, sizeof *l->under_way);
    l->hook = (struct loop_hook){.fn = turn_end, .arg = l};
    loop_hook_add(l->loop, &l->hook, false);
    loop_timer_init(&l->stall, stall_over);
}

void nloop_settle(struct nloop *l)
{
    turn_end(l);
    loop_drain(l->loop);
}

void nloop_fini(struct nloop *l)
{
    uint32_t i;

    ASSERT(!l->round && !l->gone_subs && !l->gone_conns);
    loop_timer_cancel(l->loop, &l->stall);
    loop_hook_del(&l->hook);
    cache_clear(l);
    buf_fini(&l->mapped);
    for (i = 0; i < NATS_CACHE; i++)
        buf_fini(&l->cache[i].subject);
    free(l->cache);
    free(l->to);
    free(l->under_way);
    for (i = 0; l->closed && i < NATS_CLOSED; i++)
        free(l->closed[i].text);
    free(l->closed);
    auth_view_fini(&l->auth);
}
