/* Fuzzing of the whole interface over HTTP/1 and WebSocket: a broker on a simulated disk, the
 * protocol, a server without sockets.
 *
 * The first byte chooses how the input is cut into pieces and how the broker ends (closed or
 * crashed); the rest is what the connection gets. Checked beside the sanitizers: no answer is 500,
 * an answer that says that it is JSON is; and the broker opens again, with as many topics, groups'
 * offsets and tokens as were there: what was accepted can be read back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "auth/auth.h"
#include "base/assert.h"
#include "base/buf.h"
#include "base/jtext.h"
#include "broker/broker.h"
#include "io/sim.h"
#include "net/conn.h"
#include "net/http_int.h"
#include "net/loop.h"
#include "proto/http/http_events.h"

#define INPUT_MAX 16384u
#define TURNS_MAX 2000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
    struct io *io;
    struct broker *broker;
    struct loop *loop;
    struct http_server *server;
    struct http_proto *proto;
    struct buf out;
};

static void sink(void *arg, struct conn *c, struct slice data)
{
    struct world *w = arg;

    ASSERT(buf_append_slice(&w->out, data) == ERR_OK);
}

static void broker_start(struct world *w)
{
    struct broker_conf bc = {.dir = "/d",
                             .io = w->io,
                             .topics_auto_create = true,
                             .journal_file_bytes = 64u << 10,
                             .inflight_bytes = 1u << 20,
                             .topics_max = 100};
    struct errinfo info = {0};

    if (broker_open(&bc, &w->broker, &info)) {
        fprintf(stderr, "the broker does not open: %s\n", info.text);
        abort();
    }
}

static void proto_start(struct world *w)
{
    struct http_proto_conf pc = {.broker = w->broker,
                                 .loops = &w->loop,
                                 .loops_n = 1,
                                 .topics_auto_create = true,
                                 .open_without_tokens = true};
    struct http_server_conf sc = {
        .loops_n = 1, .body_max = INPUT_MAX, .pipeline_max = 8, .output_max = 1u << 20};
    struct errinfo info = {0};

    ASSERT(loop_new(&w->loop, NULL) == ERR_OK);
    http_limits_default(&pc.limits);
    pc.limits.wait_ms_max = 0;
    if (http_proto_new(&pc, &w->proto, &info)) {
        fprintf(stderr, "the protocol does not open: %s\n", info.text);
        abort();
    }
    sc.loops = &w->loop;
    http_proto_serve(w->proto, &sc);
    ASSERT(http_server_new(&sc, &w->server, NULL) == ERR_OK);
    conn_sink_set(http_server_conns(w->server), sink, w);
}

static void proto_stop(struct world *w)
{
    http_server_free(&w->server);
    http_proto_free(&w->proto);
    loop_free(&w->loop);
}

static void turn(struct world *w, unsigned n)
{
    while (n--) {
        loop_turn(w->loop, false);
        broker_step(w->broker);
    }
}

/* Value of a header in [p, end), lines with CRLF. */
static struct slice header(const char *p, const char *end, const char *name)
{
    size_t n = strlen(name);

    while ((p = memmem(p, (size_t)(end - p), "\r\n", 2)) && p + 2 + n < end) {
        const char *stop = memmem(p + 2, (size_t)(end - p - 2), "\r\n", 2);

        p += 2;
        if (strncasecmp(p, name, n) == 0 && p[n] == ':')
            return slice_of(p + n + 2, (size_t)((stop ? stop : end) - p) - n - 2);
    }
    return SLICE_NULL;
}

static bool is_json(struct slice media)
{
    return slice_eq_str(media, "application/json") ||
           slice_eq_str(media, "application/problem+json");
}

/* Answers that have a length; the first without ends it (a stream, a WebSocket, what HEAD gets). */
static void answers_check(const struct buf *out)
{
    const char *p = (const char *)out->ptr, *end = p + out->len, *body;
    struct slice length, media;
    size_t n;

    while (end - p > 12 && memcmp(p, "HTTP/1.1 ", 9) == 0) {
        body = memmem(p, (size_t)(end - p), "\r\n\r\n", 4);
        if (!body)
            return;
        ASSERT(memcmp(p + 9, "500", 3) != 0);
        length = header(p, body, "content-length");
        media = header(p, body, "content-type");
        body += 4;
        n = length.ptr ? strtoul((const char *)length.ptr, NULL, 10) : 0;
        if (!length.ptr || n > (size_t)(end - body))
            return;
        if (n && is_json(media) && memcmp(body, "HTTP/", 5 < n ? 5 : n) != 0)
            ASSERT(jtext_valid(slice_of(body, n), JTEXT_DEPTH_CAP));
        p = body + n;
    }
}

static void connection(struct world *w, const uint8_t *data, size_t size, size_t piece)
{
    struct conn_server *s = http_server_conns(w->server);
    struct conn *c = conn_detached(s, 0, "");
    size_t at;

    for (at = 0; at < size && conn_server_open(s) > 0; at += piece) {
        conn_feed(c, slice_of(data + at, size - at < piece ? size - at : piece));
        turn(w, 2);
    }
    turn(w, 20);
    if (conn_server_open(s) > 0)
        conn_close(c, false, CONN_PEER);
    for (at = 0; at < TURNS_MAX && conn_server_open(s) > 0; at++)
        turn(w, 1);
    turn(w, 20);
    ASSERT(conn_server_open(s) == 0);
}

struct counts {
    size_t topics, tokens, bytes;
};

static bool item_one(void *arg, struct slice key, struct slice value)
{
    struct counts *c = arg;

    c->tokens++;
    c->bytes += key.len + value.len;
    return true;
}

static struct counts count(struct world *w)
{
    struct counts c = {.topics = topic_count(w->broker)};

    kv_each(w->broker, "token", item_one, &c);
    return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t pieces[] = {INPUT_MAX, 1000, 50, 7};
    struct world w = {0};
    struct counts a, b;

    if (size == 0 || size > INPUT_MAX)
        return 0;
    w.io = io_sim_new(1);
    buf_init(&w.out, 64u << 20);
    broker_start(&w);
    proto_start(&w);
    connection(&w, data + 1, size - 1, pieces[data[0] / 2 % 4]);
    if (w.out.len)
        answers_check(&w.out);
    a = count(&w);
    proto_stop(&w);
    if (data[0] % 2)
        io_sim_crash(w.io);
    broker_close(&w.broker);
    broker_start(&w);
    proto_start(&w);
    b = count(&w);
    ASSERT(a.topics == b.topics && a.tokens == b.tokens && a.bytes == b.bytes);
    proto_stop(&w);
    broker_close(&w.broker);
    buf_fini(&w.out);
    io_sim_free(&w.io);
    return 0;
}
