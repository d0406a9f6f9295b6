/* A Kafka server without sockets for unit tests: a broker in a directory of its own, one loop that
 * turns while a request is waited for, connections that are fed bytes. Requests are encoded and
 * answers decoded by the codec; what was decoded is valid until the connection's next call. */
#ifndef WEIR_TESTS_KAFKA_DETACHED_H
#define WEIR_TESTS_KAFKA_DETACHED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "broker/broker.h"
#include "io/io.h"
#include "journal/journal.h"
#include "net/conn.h"
#include "proto/kafka/kafka_int.h"

struct dk {
    char dir[64];
    bool
        week; /* records stay for a week, as a server's do; else for ever: those of tests are old */
    struct broker_conf bc;
    struct kafka_conf kc;
    struct broker *b;
    struct loop *loop;
    struct kafka *k;
};

struct dconn {
    struct dk *d;
    struct conn *c; /* NULL: it was closed */
    struct buf out;
    struct arena arena;
    struct kreader r;
    struct kwriter w;
    int32_t id;
};

#define DCONNS 8
/* Waits of half a millisecond and more until a test gives up: minutes, for a machine may be busy. */
#define DK_TURNS 200000u
static struct dconn *dconns[DCONNS]; /* the test's thread */

static inline void dk_sink(void *arg, struct conn *c, struct slice data)
{
    unsigned i;

    for (i = 0; i < DCONNS; i++)
        if (dconns[i] && dconns[i]->c == c)
            assert_int_equal(buf_append_slice(&dconns[i]->out, data), ERR_OK);
}

static inline void dk_open(struct dk *d)
{
    struct errinfo info = {0};

    if (broker_open(&d->bc, &d->b, &info))
        fail_msg("broker: %s", info.text);
    assert_int_equal(loop_new(&d->loop, &info), ERR_OK);
    d->kc.broker = d->b;
    d->kc.loops = &d->loop;
    d->kc.loops_n = 1;
    if (kafka_new(&d->kc, &d->k, &info))
        fail_msg("kafka: %s", info.text);
    conn_sink_set(d->k->conns, dk_sink, NULL);
}

/* d->kc may be filled before. */
static inline void dk_start(struct dk *d)
{
    snprintf(d->dir, sizeof d->dir, "/tmp/weir-kafka-XXXXXX");
    assert_non_null(mkdtemp(d->dir));
    d->bc = (struct broker_conf){
        .dir = d->dir,
        .io = io_real(),
        .threads = true,
        .journal_file_bytes = 4u << 20,
        .retention_ms_default = d->week ? 0 : -1,
    };
    if (!d->kc.conns_max)
        d->kc.conns_max = 100;
    if (!d->kc.idle_ms)
        d->kc.idle_ms = 600000;
    dk_open(d);
}

static inline void dk_close(struct dk *d)
{
    kafka_free(&d->k);
    broker_close(&d->b);
    loop_free(&d->loop); /* last: the broker's threads may just be leaving it */
}

static inline void dk_end(struct dk *d)
{
    char cmd[128];

    dk_close(d);
    snprintf(cmd, sizeof cmd, "rm -rf %s", d->dir);
    assert_int_equal(system(cmd), 0);
}

static inline void dconn_open(struct dk *d, struct dconn *dc)
{
    unsigned i = 0;

    memset(dc, 0, sizeof *dc);
    dc->d = d;
    buf_init(&dc->out, 64u << 20);
    arena_init(&dc->arena, 64u << 10, 64u << 20);
    kwriter_init(&dc->w, 64u << 20);
    while (dconns[i])
        assert_true(++i < DCONNS);
    dconns[i] = dc;
    dc->c = conn_detached(d->k->conns, 0, "");
    assert_non_null(dc->c);
}

/* The connection itself ends with the server. */
static inline void dconn_fini(struct dconn *dc)
{
    unsigned i;

    for (i = 0; i < DCONNS; i++)
        if (dconns[i] == dc)
            dconns[i] = NULL;
    buf_fini(&dc->out);
    arena_fini(&dc->arena);
    kwriter_fini(&dc->w);
}

static inline void dcall_begin(struct dconn *dc, int16_t key, int16_t version)
{
    arena_reset(&dc->arena);
    buf_clear(&dc->out);
    kwriter_clear(&dc->w);
    kafka_request_begin(&dc->w, kafka_api_find(key), version, ++dc->id, SLICE_LIT("test"));
}

static inline void dcall_send(struct dconn *dc)
{
    struct buf b;

    assert_int_equal(kwriter_end(&dc->w), ERR_OK);
    buf_init(&b, 64u << 20);
    assert_int_equal(kwriter_flatten(&dc->w, &b), ERR_OK);
    conn_feed(dc->c, buf_slice(&b));
    buf_fini(&b);
}

static inline bool dcall_answered(const struct dconn *dc)
{
    return dc->out.len >= 4 && dc->out.len >= 4u + be32_load(dc->out.ptr);
}

/* Turns the loop until there is an answer, or the connection was closed. */
static inline bool dcall_wait(struct dconn *dc)
{
    unsigned i;

    for (i = 0; !dcall_answered(dc) && conn_server_open(dc->d->k->conns); i++) {
        loop_turn(dc->d->loop, false);
        if (i > 20)
            usleep(500);
        assert_true(i < DK_TURNS);
    }
    return dcall_answered(dc);
}

static inline void dcall_open(struct dconn *dc, int16_t key, int16_t version)
{
    const struct kafka_api *api = kafka_api_find(key);
    struct kafka_response_header h;

    assert_true(dcall_wait(dc));
    assert_int_equal(dc->out.len, 4 + be32_load(dc->out.ptr));
    kreader_init(&dc->r, slice_of(dc->out.ptr + 4, dc->out.len - 4), 64u << 20);
    assert_int_equal(kafka_response_header_decode(
                         &dc->r, kafka_response_header_version(api, version), &dc->arena, &h),
                     ERR_OK);
    assert_int_equal(h.correlation_id, dc->id);
}

/* Sends *req, waits, decodes the answer into *res. */
#define dcall(dc, key, name, version, req, res)                                                \
    do {                                                                                       \
        dcall_begin(dc, key, version);                                                         \
        kafka_##name##_request_encode(&(dc)->w, version, req);                                 \
        dcall_send(dc);                                                                        \
        dcall_open(dc, key, version);                                                          \
        assert_int_equal(kafka_##name##_response_decode(&(dc)->r, version, &(dc)->arena, res), \
                         ERR_OK);                                                              \
        assert_int_equal(kreader_left(&(dc)->r), 0);                                           \
    } while (0)

#define assert_slice(s, text)                                                        \
    do {                                                                             \
        struct slice s_ = (s);                                                       \
        if (!slice_eq_str(s_, text))                                                 \
            fail_msg("%s:%d: \"%.*s\", not \"%s\"", __FILE__, __LINE__, (int)s_.len, \
                     (const char *)s_.ptr, text);                                    \
    } while (0)

#endif
