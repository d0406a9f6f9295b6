/* See natsd.h. */
#include "natsd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/auth.h"
#include "base/assert.h"
#include "broker/broker.h"
#include "io/io.h"
#include "net/conn.h"
#include "proto/nats/nats_int.h"

#define INPUT_MAX (64u << 20)

static uint64_t clock_ms(void *arg)
{
    return io_mono_ns(arg) / 1000000u;
}

static void sink(void *arg, struct conn *c, struct slice data)
{
    struct natsd *d = arg;
    unsigned i;

    for (i = 0; i < NATSD_CLIENTS; i++)
        if (d->client[i].c == c)
            ASSERT(buf_append_slice(&d->client[i].in, data) == ERR_OK);
}

/* Before the loop frees them. */
static void look(void *arg)
{
    struct natsd *d = arg;
    unsigned i;

    for (i = 0; i < NATSD_CLIENTS; i++)
        if (d->client[i].c && conn_closing(d->client[i].c)) {
            d->client[i].c = NULL;
            if (d->lost)
                d->lost(d->arg, i);
        }
}

static enum err server_new(struct natsd *d, struct errinfo *info)
{
    struct nats_conf nc = {.io = d->io,
                           .loops = d->loops,
                           .loops_n = NATSD_LOOPS,
                           .conns_max = NATSD_CLIENTS * 4,
                           .payload_max = 1u << 20,
                           .ping_ms = 3600000,
                           .pings_lost = 2,
                           .login_ms = 60000,
                           .send_ms = 10000,
                           .broker = d->b,
                           .topics_account = "", /* their records are read by a thread */
                           .jetstream = true};
    enum err e = auth_open(d->b, true, 1, &d->auth, info);

    nc.auth = d->auth;
    e = e ? e : nats_new(&nc, &d->nats, info);
    if (!e)
        conn_sink_set(d->nats->conns, sink, d);
    return e;
}

enum err natsd_start(struct natsd *d, const struct broker_conf *bc, struct errinfo *info)
{
    unsigned i;
    enum err e;

    d->io = bc->io;
    d->broken = NULL;
    if ((e = broker_open(bc, &d->b, info)))
        return e;
    for (i = 0; i < NATSD_LOOPS; i++) {
        ASSERT(loop_new(&d->loops[i], NULL) == ERR_OK);
        loop_clock_set(d->loops[i], clock_ms, d->io);
        d->look[i] = (struct loop_hook){.fn = look, .arg = d};
        loop_hook_add(d->loops[i], &d->look[i], false);
    }
    for (i = 0; i < NATSD_CLIENTS; i++) {
        d->client[i] = (struct natsd_client){.c = NULL};
        buf_init(&d->client[i].in, INPUT_MAX);
    }
    if ((e = server_new(d, info)))
        natsd_stop(d);
    return e;
}

void natsd_stop(struct natsd *d)
{
    unsigned i;

    for (i = 0; i < NATSD_CLIENTS; i++) {
        d->client[i].c = NULL;
        buf_fini(&d->client[i].in);
    }
    nats_free(&d->nats);
    auth_close(&d->auth);
    broker_close(&d->b);
    for (i = 0; i < NATSD_LOOPS; i++)
        loop_free(&d->loops[i]);
}

void natsd_connect(struct natsd *d, unsigned client, unsigned loop)
{
    struct slice hello = SLICE_LIT("CONNECT {\"verbose\":false,\"headers\":true,"
                                   "\"no_responders\":true,\"protocol\":1}\r\n");
    struct natsd_client *k = &d->client[client];

    buf_clear(&k->in);
    k->c = conn_detached(d->nats->conns, loop, "");
    conn_feed(k->c, hello);
}

void natsd_drop(struct natsd *d, unsigned client)
{
    struct natsd_client *k = &d->client[client];

    if (!k->c)
        return;
    conn_close(k->c, false, CONN_PEER);
    k->c = NULL;
    buf_clear(&k->in);
}

void natsd_send(struct natsd *d, unsigned client, struct slice s)
{
    if (d->client[client].c)
        conn_feed(d->client[client].c, s);
}

void natsd_publish(struct natsd *d, unsigned client, const char *subject, const char *reply,
                   struct slice payload)
{
    struct buf b;

    buf_init(&b, INPUT_MAX);
    buf_printf(&b, "PUB %s %s%s%zu\r\n", subject, reply ? reply : "", reply ? " " : "",
               payload.len);
    buf_append_slice(&b, payload);
    buf_append_str(&b, "\r\n");
    natsd_send(d, client, buf_slice(&b));
    buf_fini(&b);
}

/* ---- what comes ---- */

/* The next word of a line. */
static struct slice word(struct slice *s)
{
    struct slice w = *s;
    const uint8_t *blank = s->len ? memchr(s->ptr, ' ', s->len) : NULL;

    if (blank) {
        w.len = (size_t)(blank - s->ptr);
        *s = slice_of(blank + 1, s->len - w.len - 1);
    } else {
        *s = slice_of(s->ptr + s->len, 0);
    }
    return w;
}

static size_t number(struct natsd *d, struct slice s)
{
    size_t v = 0, i;

    if (!s.len || s.len > 12)
        d->broken = "a number";
    for (i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            d->broken = "a number";
        v = v * 10 + (size_t)(s.ptr[i] - '0');
    }
    return v;
}

/* MSG or HMSG with what follows it; how many bytes, 0: it is not all there. */
static size_t message(struct natsd *d, unsigned client, struct slice line, struct slice rest,
                      bool headers)
{
    struct natsd_msg m = {.client = client};
    struct slice w[5];
    size_t head = 0, len;
    unsigned n = 0, most = headers ? 5 : 4;

    while (line.len && n < most)
        w[n++] = word(&line);
    if (line.len || n < most - 1) {
        d->broken = "a message's line";
        return 0;
    }
    m.subject = w[0];
    m.sid = number(d, w[1]);
    m.reply = n == most ? w[2] : SLICE_NULL;
    len = number(d, w[n - 1]);
    head = headers ? number(d, w[n - 2]) : 0;
    if (head > len)
        d->broken = "the length of headers";
    if (d->broken || rest.len < len + 2)
        return 0;
    if (memcmp(rest.ptr + len, "\r\n", 2) != 0)
        d->broken = "the end of a message";
    m.headers = slice_of(rest.ptr, head);
    m.payload = slice_of(rest.ptr + head, len - head);
    d->message(d->arg, &m);
    return len + 2;
}

/* One line; how many bytes of s it took, 0: it is not all there. */
static size_t take(struct natsd *d, unsigned client, struct slice s)
{
    const uint8_t *end = memmem(s.ptr, s.len, "\r\n", 2);
    struct slice line, rest, op;
    size_t used, more = 0;

    if (!end)
        return 0;
    line = slice_of(s.ptr, (size_t)(end - s.ptr));
    used = line.len + 2;
    rest = slice_of(s.ptr + used, s.len - used);
    op = word(&line);
    if (slice_eq_str(op, "MSG") || slice_eq_str(op, "HMSG")) {
        more = message(d, client, line, rest, op.len == 4);
        return more ? used + more : 0;
    }
    if (slice_eq_str(op, "PING"))
        natsd_send(d, client, SLICE_LIT("PONG\r\n"));
    else if (slice_eq_str(op, "-ERR"))
        d->client[client].errors++;
    else if (!slice_eq_str(op, "INFO") && !slice_eq_str(op, "PONG") && !slice_eq_str(op, "+OK"))
        d->broken = "a line";
    return used;
}

void natsd_turn(struct natsd *d, unsigned loop)
{
    unsigned i;

    loop_turn(d->loops[loop], false);
    for (i = 0; i < NATSD_CLIENTS; i++) {
        struct natsd_client *k = &d->client[i];
        size_t at = 0, n;

        while (at < k->in.len && !d->broken &&
               (n = take(d, i, slice_of(k->in.ptr + at, k->in.len - at))))
            at += n;
        if (!at || at > k->in.len) /* nothing; or whoever was given it dropped the connection */
            continue;
        memmove(k->in.ptr, k->in.ptr + at, k->in.len - at);
        k->in.len -= at;
    }
}
