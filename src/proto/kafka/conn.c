/* Connections: frames in, requests in order, answers out. See kafka_int.h for the life of a request.
 *
 * Memory of a connection is bounded: a frame's buffer grows with the bytes that came, not with the
 * length that was declared; at most LIMIT_KAFKA_REQUESTS requests or LIMIT_KAFKA_REQUEST_BYTES wait,
 * then the connection is not read; nor is it while LIMIT_KAFKA_OUTPUT bytes of answers are not
 * taken. Answers that wait to be sent keep their bytes only, not what they were made from. What all
 * connections hold together is bounded by budget.c.
 *
 * Time is shared: a connection whose requests took SLICE_NS goes on in the next turn, behind the
 * others, and handlers with much to do stop there too (kreq_yield). All on the connection's loop, but
 * kreq_post. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "io/io.h"
#include "proto/kafka/kafka_int.h"

#define FRAME_MIN   8u /* key, version, correlation id */
#define ARENA_CHUNK (8u << 10)
#define FRAME_KEPT  (64u << 10) /* buffers of requests kept for reuse are at most so large */
#define LEND_MIN    4096u       /* smaller parts of an answer are copied */
#define INLINE_MAX  1024u
#define DIRECT_MIN  (64u << 10) /* of a frame: fewer bytes are read with what is around them */
#define DIRECT_MAX  (1u << 20)
#define SLICE_NS    2000000u /* of a turn, for one connection */

static void kconn_run(struct kconn *kc);

/* ---- requests ---- */

static struct kreq *kreq_new(struct kconn *kc)
{
    struct kloop *kl = kc->kl;
    struct kreq *q;

    if (!list_empty(&kl->free)) {
        q = list_entry(list_pop_front(&kl->free), struct kreq, link);
        kl->free_n--;
    } else {
        q = xcalloc(1, sizeof *q);
        buf_init(&q->frame, LIMIT_KAFKA_FRAME);
        arena_init(&q->arena, ARENA_CHUNK, LIMIT_KAFKA_ARENA);
        kwriter_init(&q->w, LIMIT_KAFKA_ANSWER);
        q->w.inline_max = INLINE_MAX;
    }
    kl->live++;
    q->kc = kc;
    q->kl = kl;
    q->k = kc->k;
    q->b = kc->k->broker;
    q->state = KREQ_QUEUED;
    q->mute = q->last = q->held = false;
    q->refs = 1;
    q->state_of = NULL;
    q->cancel = q->release = NULL;
    return q;
}

static void kreq_free(struct kreq *q)
{
    buf_fini(&q->frame);
    arena_fini(&q->arena);
    kwriter_fini(&q->w);
    free(q);
}

void kreq_lend(struct kreq *q)
{
    q->refs++;
}

void kreq_unref(struct kreq *q)
{
    struct kloop *kl = q->kl;

    if (--q->refs)
        return;
    kl->live--;
    kbudget_count(q, 0, 0);
    if (q->release)
        q->release(q);
    kframes_put(kl, &q->frame);
    if (kl->free_n == LIMIT_KAFKA_FREE_REQUESTS || q->w.buf.cap > FRAME_KEPT) {
        kreq_free(q);
        return;
    }
    arena_reset(&q->arena);
    kwriter_clear(&q->w);
    list_push_back(&kl->free, &q->link);
    kl->free_n++;
}

void kloop_free_requests(struct kloop *kl)
{
    while (!list_empty(&kl->free))
        kreq_free(list_entry(list_pop_front(&kl->free), struct kreq, link));
}

void *kreq_alloc(struct kreq *q, size_t n, size_t size)
{
    void *p = arena_zalloc(&q->arena, n ? n : 1, size);

    if (!p)
        kreq_fail(q, ERR_TOO_LARGE);
    return p;
}

struct slice kreq_keep(struct kreq *q, struct slice s)
{
    struct slice out = arena_dup(&q->arena, s);

    if (slice_is_null(out) && !slice_is_null(s))
        kreq_fail(q, ERR_TOO_LARGE);
    return out;
}

struct slice kreq_printf(struct kreq *q, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return arena_dup(&q->arena, slice_str(text));
}

/* Bytes behind the body are let pass, as Kafka does: librdkafka 2.0 sends one with ListGroups. */
bool kreq_decoded(struct kreq *q, enum err e)
{
    if (!e)
        return true;
    kreq_fail(q, e);
    return false;
}

void kreq_reply_begin(struct kreq *q)
{
    kafka_response_begin(&q->w, q->api, q->version, q->head.correlation_id);
}

void kreq_reply_end(struct kreq *q)
{
    enum err e = kwriter_end(&q->w);

    if (e)
        kreq_fail(q, e);
    else
        kreq_done(q);
}

/* Runs fn and counts the time that it takes, if somebody has a quota of that. q may end meanwhile;
 * the connection is there until the end of the turn. */
static void run_timed(struct kreq *q, void (*fn)(struct kreq *q))
{
    struct io *io = broker_io(q->b);
    struct kconn *kc = q->kc;
    struct slice id = q->head.client_id;
    char client[256];
    uint64_t start;

    if (!kc || !kquota_timed(q->k)) {
        fn(q);
        return;
    }
    id.len = id.len < sizeof client ? id.len : sizeof client;
    if (id.len)
        memcpy(client, id.ptr, id.len);
    start = io_mono_ns(io);
    fn(q);
    kquota_charge(kc, KQUOTA_TIME, slice_of(client, id.len),
                  (double)(io_mono_ns(io) - start) / 1e9);
}

void kreq_call(struct kreq *q, void (*fn)(struct kreq *q))
{
    bool inner = q->held;

    if (!inner)
        kreq_lend(q);
    q->held = true;
    run_timed(q, fn);
    q->held = inner;
    if (!inner)
        kreq_unref(q);
}

static void post_run(struct loop_task *t)
{
    struct kreq *q = (struct kreq *)((char *)t - offsetof(struct kreq, task));

    q->slice_ns = io_mono_ns(broker_io(q->b));
    kreq_call(q, q->posted);
}

bool kreq_yield(struct kreq *q, void (*fn)(struct kreq *q))
{
    if (io_mono_ns(broker_io(q->b)) - q->slice_ns < SLICE_NS)
        return false;
    kreq_post(q, fn);
    return true;
}

void kreq_post(struct kreq *q, void (*fn)(struct kreq *q))
{
    q->posted = fn;
    q->task.fn = post_run;
    loop_post(q->kl->loop, &q->task);
}

static void kreq_end(struct kreq *q)
{
    struct kconn *kc = q->kc;

    q->state = KREQ_DONE;
    if (!kc) {
        kreq_unref(q);
    } else if (!kc->running) {
        kconn_run(kc);
    }
}

void kreq_done(struct kreq *q)
{
    kreq_end(q);
}

void kreq_fail(struct kreq *q, enum err e)
{
    if (q->state == KREQ_DONE)
        return;
    atomic_fetch_add_explicit(&q->kl->errors, 1, memory_order_relaxed);
    q->mute = true;
    if (q->kc)
        conn_close(q->kc->c, true, CONN_LOCAL);
    kreq_end(q);
}

/* ---- answers ---- */

static void part_released(void *arg)
{
    kreq_unref(arg);
}

static void answer_send(struct kreq *q)
{
    bool made =
        q->refs == 1u + q->held && !q->release; /* nobody looks at what it was made from any more */
    struct kwriter_cursor at = {0};
    struct kwriter_part part;
    struct conn *c = q->kc->c;
    size_t lent = 0;

    while (kwriter_part(&q->w, &at, &part)) {
        if (part.bytes.len < LEND_MIN) {
            conn_send(c, part.bytes);
        } else {
            lent += part.bytes.len;
            kreq_lend(q);
            conn_send_lent(c, part.bytes, part_released, q);
        }
    }
    if (made && q->refs > 1u + q->held) {
        arena_fini(&q->arena);
        kframes_put(q->kl, &q->frame);
    }
    kbudget_count(q, q->frame.cap, lent);
}

/* ---- the queue ---- */

static bool queue_full(struct kconn *kc)
{
    return kc->reqs_n >= LIMIT_KAFKA_REQUESTS ||
           (kc->reqs_n && kc->reqs_bytes > LIMIT_KAFKA_REQUEST_BYTES) || conn_full(kc->c) ||
           kbudget_stops_reading(kc);
}

static bool is_muted(const struct kconn *kc)
{
    return kc->muted_ms > loop_now_ms(kc->kl->loop);
}

/* May q start while all before it are under way? */
static bool may_start(const struct kconn *kc, const struct kreq *q)
{
    return list_is_first(&kc->reqs, &q->link) || (q->api && q->api->key == 0);
}

static bool start_next(struct kconn *kc)
{
    struct kreq *q;

    if (kc->stalled || is_muted(kc) || conn_full(kc->c)) /* on_drain goes on */
        return false;
    list_for_each(q, &kc->reqs, struct kreq, link)
    {
        if (q->state == KREQ_QUEUED) {
            if (!may_start(kc, q) || kbudget_stops_start(kc, q->api->key))
                return false;
            q->state = KREQ_RUNNING;
            q->slice_ns = io_mono_ns(broker_io(q->b));
            run_timed(q, kafka_handler_of(q->api->key));
            return true;
        }
        if (q->api->key != 0 && q->state == KREQ_RUNNING)
            return false;
    }
    return false;
}

static bool answer_first(struct kconn *kc)
{
    struct kreq *q;

    if (list_empty(&kc->reqs))
        return false;
    q = list_entry(kc->reqs.node.next, struct kreq, link);
    if (q->state != KREQ_DONE)
        return false;
    list_remove(&q->link);
    kc->reqs_n--;
    kc->reqs_bytes -= q->frame.len;
    if (!q->mute && !conn_closing(kc->c))
        answer_send(q);
    if (q->last)
        conn_close(kc->c, true, CONN_LOCAL);
    kreq_unref(q);
    return true;
}

static void take_input(struct kconn *kc, struct slice data);

/* What waited because the queue was full. */
static void take_waiting(struct kconn *kc)
{
    struct buf in = kc->in;

    if (in.len == 0 || queue_full(kc) || conn_closing(kc->c))
        return;
    buf_init(&kc->in, in.max);
    take_input(kc, buf_slice(&in));
    buf_fini(&in);
}

/* Starts what can start, answers what is done, until neither, or the connection had its time. */
static void kconn_run(struct kconn *kc)
{
    struct io *io = broker_io(kc->k->broker);
    uint64_t start = io_mono_ns(io);

    kc->running = true;
    kc->later = false;
    while (!kc->later) {
        while (answer_first(kc))
            ;
        take_waiting(kc);
        if (conn_closing(kc->c) || !start_next(kc))
            break;
        kc->later = kc->reqs_n && io_mono_ns(io) - start >= SLICE_NS;
    }
    if (kc->later)
        conn_later(kc->c);
    while (answer_first(kc))
        ;
    kc->running = false;
    if (conn_closing(kc->c))
        return;
    conn_pause(kc->c, queue_full(kc) || kc->in.len || is_muted(kc));
    if (atomic_load_explicit(&kc->k->draining, memory_order_relaxed) && kc->reqs_n == 0)
        conn_close(kc->c, true, CONN_LOCAL);
    else
        conn_deadline(kc->c, kc->reqs_n ? 0 : kc->k->conf.idle_ms);
}

void kconn_go(struct kconn *kc)
{
    if (!kc->running)
        kconn_run(kc);
}

static void unmuted(struct loop_timer *t)
{
    kconn_go(list_entry(t, struct kconn, unmute));
}

void kconn_mute(struct kconn *kc, uint32_t ms)
{
    uint64_t until = loop_now_ms(kc->kl->loop) + ms;

    if (until <= kc->muted_ms)
        return;
    kc->muted_ms = until;
    loop_timer_arm(kc->kl->loop, &kc->unmute, ms);
}

/* ---- input ---- */

/* Somebody who may ask for anything: who they are is known, or need not be. */
static bool is_open(const struct kconn *kc)
{
    return kc->trusted && (!kc->session_end_ms || loop_now_ms(kc->kl->loop) < kc->session_end_ms);
}

/* A version of ApiVersions that we do not know is answered all the same (KIP-511). */
static bool header_open(struct kreq *q)
{
    enum err e;

    kreader_init(&q->r, buf_slice(&q->frame), LIMIT_KAFKA_ARENA);
    e = kafka_request_open(&q->r, &q->arena, &q->head, &q->api);
    q->version = q->head.request_api_version;
    if (e == ERR_UNSUPPORTED && q->api && q->api->key == 18)
        return true;
    if (e || !kafka_handler_of(q->api->key))
        return false;
    return is_open(q->kc) || q->api->key == 17 || q->api->key == 18 || q->api->key == 36;
}

static void frame_complete(struct kconn *kc)
{
    struct kreq *q = kc->part;

    kc->part = NULL;
    kc->head_n = 0;
    kbudget_frame(kc, q);
    atomic_fetch_add_explicit(&kc->kl->requests, 1, memory_order_relaxed);
    if (ksasl_is_raw(kc)) {
        ksasl_raw(kc, buf_slice(&q->frame));
        kreq_unref(q);
        return;
    }
    if (!header_open(q)) {
        atomic_fetch_add_explicit(&kc->kl->errors, 1, memory_order_relaxed);
        kreq_unref(q);
        conn_close(kc->c, true, CONN_LOCAL);
        return;
    }
    list_push_back(&kc->reqs, &q->link);
    kc->reqs_n++;
    kc->reqs_bytes += q->frame.len;
}

/* What was not written to yet takes no memory. */
static void frame_count(struct kreq *q)
{
    size_t n = q->frame.len + LIMIT_KAFKA_FRAME_STEP;

    kbudget_count(q, n < q->frame.cap ? n : q->frame.cap, 0);
}

static bool frame_begin(struct kconn *kc)
{
    uint32_t n = be32_load(kc->head), min = ksasl_is_raw(kc) ? 1 : FRAME_MIN;
    uint32_t max = kc->trusted ? LIMIT_KAFKA_FRAME : LIMIT_KAFKA_FRAME_UNTRUSTED;

    if (n < min || n > max) {
        atomic_fetch_add_explicit(&kc->kl->errors, 1, memory_order_relaxed);
        conn_close(kc->c, true, CONN_LOCAL);
        return false;
    }
    kc->part = kreq_new(kc);
    kc->part_len = n;
    kframes_take(kc->kl, &kc->part->frame, n);
    frame_count(kc->part);
    return true;
}

/* How many of the bytes went to the frame being collected. */
static size_t frame_take(struct kconn *kc, struct slice data)
{
    size_t n = sizeof kc->head - kc->head_n;

    if (!kc->part) {
        n = n < data.len ? n : data.len;
        memcpy(kc->head + kc->head_n, data.ptr, n);
        kc->head_n += (unsigned)n;
        if (kc->head_n == sizeof kc->head)
            frame_begin(kc);
        return n;
    }
    n = kc->part_len - kc->part->frame.len;
    n = n < data.len ? n : data.len;
    if (data.ptr == kc->part->frame.ptr + kc->part->frame.len) {
        kc->part->frame.len += n; /* see room */
    } else if (buf_append(&kc->part->frame, data.ptr, n)) {
        conn_close(kc->c, true, CONN_LIMIT);
        return n;
    }
    frame_count(kc->part);
    if (kc->part->frame.len == kc->part_len)
        frame_complete(kc);
    return n;
}

static void take_input(struct kconn *kc, struct slice data)
{
    size_t n;

    while (data.len && !conn_closing(kc->c)) {
        if (queue_full(kc)) {
            if (buf_append_slice(&kc->in, data))
                conn_close(kc->c, true, CONN_LIMIT);
            return;
        }
        n = frame_take(kc, data);
        data = slice_of(data.ptr + n, data.len - n);
    }
}

/* The rest of a large frame is read to where it belongs. */
static uint8_t *room(struct conn *c, size_t *n)
{
    struct kconn *kc = c->state;
    struct buf *b = kc->part ? &kc->part->frame : NULL;
    size_t left = b ? kc->part_len - b->len : 0, want;

    if (left < DIRECT_MIN || kc->in.len || queue_full(kc))
        return NULL;
    want = left < DIRECT_MAX ? left : DIRECT_MAX;
    want = b->len > DIRECT_MIN && b->len < want ? b->len : want; /* in step with what has come */
    if (b->len < DIRECT_MIN || (b->cap - b->len < want && buf_reserve(b, want)))
        return NULL;
    *n = want;
    return b->ptr + b->len;
}

/* ---- the connection ---- */

static void on_data(struct conn *c, struct slice data)
{
    struct kconn *kc = c->state;

    if (kc->in.len) { /* it was paused, but this was read already */
        if (buf_append_slice(&kc->in, data))
            conn_close(c, true, CONN_LIMIT);
    } else {
        take_input(kc, data);
    }
    if (!kc->later || data.len == 0) /* its time has come again: conn_later */
        kconn_run(kc);
}

static void on_drain(struct conn *c)
{
    kconn_run(c->state);
}

static void on_timeout(struct conn *c)
{
    conn_close(c, true, CONN_TIMEOUT);
}

static void on_close(struct conn *c)
{
    struct kconn *kc = c->state;
    struct kreq *q;

    kc->running = true; /* nothing starts any more */
    kbudget_leave(kc);
    if (kc->part)
        kreq_unref(kc->part);
    while (!list_empty(&kc->reqs)) {
        q = list_entry(list_pop_front(&kc->reqs), struct kreq, link);
        q->kc = NULL;
        if (q->state != KREQ_RUNNING)
            kreq_unref(q);
        else if (q->cancel)
            kreq_call(q, q->cancel);
    }
    ksasl_free(kc);
    loop_timer_cancel(kc->kl->loop, &kc->unmute);
    fetch_session_free(kc);
    share_sessions_free(kc);
    buf_fini(&kc->in);
    free(kc->user);
    free(kc);
    c->state = NULL;
}

const struct conn_proto kafka_conn_proto = {
    .room = room,
    .on_data = on_data,
    .on_drain = on_drain,
    .on_timeout = on_timeout,
    .on_close = on_close,
};

/* The address as rules name it: without port and brackets. */
static void host_set(struct kconn *kc)
{
    const char *r = kc->c->remote, *colon = strrchr(r, ':');
    size_t n = colon ? (size_t)(colon - r) : strlen(r);

    if (n > 2 && r[0] == '[' && r[n - 1] == ']') {
        r++;
        n -= 2;
    }
    snprintf(kc->host, sizeof kc->host, "%.*s", (int)n, r);
}

/* Who it is before it says so by SASL: who its certificate names. One of a name too long to be in a
 * rule is nobody's. False: the connection is not to be served. */
static bool user_set(struct kconn *kc)
{
    struct buf name;
    enum err e;

    buf_init(&name, KAFKA_USER_MAX + 1);
    e = kc->c->ssl ? tls_peer_name(kc->c->ssl, &name) : ERR_NOT_FOUND;
    if (!e && name.len && name.len <= KAFKA_USER_MAX && !memchr(name.ptr, 0, name.len)) {
        kc->user = xmalloc(name.len + 1);
        memcpy(kc->user, name.ptr, name.len);
        kc->user[name.len] = 0;
    } else {
        kc->user = xstrdup("ANONYMOUS");
    }
    buf_fini(&name);
    return !e || e == ERR_NOT_FOUND;
}

void kconn_open(void *ctx, unsigned loop, struct conn *c, const char *alpn)
{
    struct kafka *k = ctx;
    struct kconn *kc = xcalloc(1, sizeof *kc);

    kc->k = k;
    kc->kl = &k->loops[loop];
    kc->c = c;
    kc->trusted = !ksasl_required(k);
    host_set(kc);
    loop_timer_init(&kc->unmute, unmuted);
    list_init(&kc->reqs);
    buf_init(&kc->in, 1u << 20);
    c->proto = &kafka_conn_proto;
    c->state = kc;
    c->output_max = LIMIT_KAFKA_OUTPUT;
    conn_deadline(c, k->conf.idle_ms);
    if (!user_set(kc))
        conn_close(c, false, CONN_REFUSED);
}

void kconn_drain(struct conn *c)
{
    struct kconn *kc = c->state;

    if (kc && kc->reqs_n == 0)
        conn_close(c, true, CONN_LOCAL);
}
