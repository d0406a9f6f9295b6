/* Shared by net's unit tests: a server with one handler that does what the path says, either
 * without sockets (fx_start; bytes go in by fx_feed, what is sent is collected in fx.out, the loop
 * turns when the test says so) or with real ones (fx_listen; the loop runs on a thread of its own,
 * clients block).
 *
 *   /echo        the body                       /info       what the handler sees
 *   /hold        answered by /release           /release    answers what is held, last first
 *   /stream      ?n= chunks of ?size= bytes, waiting when told to
 *   /owned       ?size= bytes, lent             /text       an answer in pieces of no known length
 *   /status      ?code= with the body "x"       /inject     headers with line ends in them
 *   /head/401    refused by on_head             /head/own   on_head answers itself
 *   /ws          becomes a WebSocket that echoes
 */
#ifndef WEIR_TESTS_NET_FIXTURE_H
#define WEIR_TESTS_NET_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "net/conn.h"
#include "net/http.h"
#include "net/http_int.h"
#include "net/tls.h"
#include "net/ws.h"

/* For threads other than the test's own, where cmocka's assertions cannot be used. */
#define MUST(x)                                                     \
    do {                                                            \
        if (!(x)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            abort();                                                \
        }                                                           \
    } while (0)

#define HELD_MAX 4096

struct fx {
    struct loop *loops[4];
    unsigned loops_n;
    struct http_server *s;
    struct http_server_conf conf;
    struct ws_handler ws_handler;
    struct conn *c; /* without sockets */
    struct buf out;
    uint16_t port;
    pthread_t threads[4];
    bool running;
    /* the handler's, on its loop; counters may be read by the test's thread */
    struct http_req *held[HELD_MAX];
    unsigned held_n;
    struct http_req *last_head; /* that on_head was asked about */
    atomic_uint requests, heads, closes, releases, drains;
    atomic_size_t queued_most;
    atomic_uint by_loop[4];
    char info[2048];
    struct ws *ws;
    atomic_uint ws_messages, ws_closes, ws_drains;
    atomic_int ws_code;
    atomic_size_t ws_bytes;
    char ws_last[256];
};

/* ---- the handler ---- */

static inline unsigned fx_number(struct http_req *r, const char *name)
{
    struct slice s = http_query(r, name);
    char t[16] = "";

    if (s.len < sizeof t)
        memcpy(t, s.ptr, s.len);
    return (unsigned)strtoul(t, NULL, 10);
}

static inline void fx_ok(struct http_req *r, struct slice body)
{
    struct http_hdr h = {SLICE_LIT("content-type"), SLICE_LIT("text/plain")};

    http_reply(r, 200, &h, 1, body);
}

struct fx_stream {
    unsigned n, size;
    struct fx *f;
};

static inline void fx_stream_go(struct http_req *r)
{
    struct fx_stream *st = http_user(r);
    uint8_t *p = malloc(st->size + 1);

    memset(p, 'a', st->size);
    while (st->n) {
        size_t q;

        p[0] = (uint8_t)('0' + st->n % 10);
        q = http_reply_write(r, slice_of(p, st->size));
        st->n--;
        if (q > atomic_load(&st->f->queued_most))
            atomic_store(&st->f->queued_most, q);
        if (q >= st->f->conf.output_max)
            break;
    }
    free(p);
    if (!st->n)
        http_reply_end(r);
}

static inline void fx_stream_drained(struct http_req *r)
{
    struct fx_stream *st = http_user(r);

    atomic_fetch_add(&st->f->drains, 1);
    fx_stream_go(r);
}

static inline void fx_release(void *arg)
{
    void **a = arg;

    atomic_fetch_add(&((struct fx *)a[0])->releases, 1);
    free(a[1]);
    free(a);
}

static inline void fx_info(struct fx *f, struct http_req *r)
{
    const struct http_hdr *h;
    size_t n = http_headers(r, &h), i, at;
    struct slice m = http_method_text(r), p = http_path(r), raw = http_path_raw(r),
                 q = http_query(r, "q");

    at = (size_t)snprintf(f->info, sizeof f->info, "%.*s %.*s %.*s q=%.*s v=%d tls=%d", (int)m.len,
                          (const char *)m.ptr, (int)p.len, (const char *)p.ptr, (int)raw.len,
                          (const char *)raw.ptr, (int)q.len, (const char *)q.ptr, http_version(r),
                          http_is_tls(r));
    for (i = 0; i < n && at < sizeof f->info - 300; i++)
        at += (size_t)snprintf(f->info + at, sizeof f->info - at, " [%.*s=%.*s]",
                               (int)h[i].name.len, (const char *)h[i].name.ptr,
                               (int)(h[i].value.len < 200 ? h[i].value.len : 200),
                               (const char *)h[i].value.ptr);
    fx_ok(r, slice_str(f->info));
}

static inline void fx_answer_held(struct fx *f)
{
    while (f->held_n) {
        struct http_req *r = f->held[--f->held_n];
        char t[32];

        snprintf(t, sizeof t, "held %u", f->held_n);
        fx_ok(r, slice_str(t));
    }
}

static inline void fx_pieces(struct fx *f, struct http_req *r)
{
    struct fx_stream *st = http_alloc(r, sizeof *st);

    *st = (struct fx_stream){fx_number(r, "n"), fx_number(r, "size"), f};
    http_user_set(r, st);
    http_reply_start(r, 200, NULL, 0, fx_stream_drained);
    fx_stream_go(r);
}

static inline void fx_lend(struct fx *f, struct http_req *r)
{
    size_t n = fx_number(r, "size");
    void **a = malloc(2 * sizeof *a);
    uint8_t *p = malloc(n + 1);

    memset(p, 'o', n);
    a[0] = f;
    a[1] = p;
    http_reply_owned(r, 200, NULL, 0, slice_of(p, n), fx_release, a);
}

static inline void fx_inject(struct http_req *r)
{
    struct http_hdr h[2] = {{SLICE_LIT("x-a"), SLICE_LIT("1\r\nx-evil: 2")},
                            {SLICE_LIT("x-b\r\nx-worse"), SLICE_LIT("3")}};

    http_reply(r, 200, h, 2, SLICE_LIT("in"));
}

static inline void fx_upgrade(struct fx *f, struct http_req *r)
{
    f->ws = http_upgrade_ws(r, &f->ws_handler, f, NULL);
    if (!f->ws)
        http_reply(r, 400, NULL, 0, SLICE_LIT("no upgrade"));
}

static inline void fx_on_request(void *ctx, unsigned loop, struct http_req *r)
{
    struct fx *f = ctx;
    struct slice p = http_path(r);

    atomic_fetch_add(&f->requests, 1);
    atomic_fetch_add(&f->by_loop[loop], 1);
    if (slice_eq_str(p, "/echo")) {
        fx_ok(r, http_body(r));
    } else if (slice_eq_str(p, "/hold")) {
        MUST(f->held_n < HELD_MAX);
        f->held[f->held_n++] = r;
    } else if (slice_eq_str(p, "/release")) {
        fx_answer_held(f);
        fx_ok(r, SLICE_LIT("released"));
    } else if (slice_eq_str(p, "/text")) {
        http_reply_start(r, 200, NULL, 0, NULL);
        http_reply_write(r, SLICE_LIT("one,"));
        http_reply_write(r, SLICE_LIT("two"));
        http_reply_end(r);
    } else if (slice_eq_str(p, "/stream")) {
        fx_pieces(f, r);
    } else if (slice_eq_str(p, "/owned")) {
        fx_lend(f, r);
    } else if (slice_eq_str(p, "/inject")) {
        fx_inject(r);
    } else if (slice_eq_str(p, "/status")) {
        http_reply(r, (int)fx_number(r, "code"), NULL, 0, SLICE_LIT("x"));
    } else if (slice_eq_str(p, "/ws")) {
        fx_upgrade(f, r);
    } else {
        fx_info(f, r);
    }
}

static inline int fx_on_head(void *ctx, unsigned loop, struct http_req *r)
{
    struct fx *f = ctx;
    struct http_hdr h = {SLICE_LIT("www-authenticate"), SLICE_LIT("Bearer")};

    atomic_fetch_add(&f->heads, 1);
    if (!f->running) /* one thread */
        f->last_head = r;
    if (slice_eq_str(http_path(r), "/head/401"))
        return 401;
    if (!slice_eq_str(http_path(r), "/head/own"))
        return 0;
    http_reply(r, 403, &h, 1, SLICE_LIT("own"));
    return -1;
}

static inline void fx_on_close(void *ctx, unsigned loop, struct http_req *r)
{
    struct fx *f = ctx;
    unsigned i;

    atomic_fetch_add(&f->closes, 1);
    for (i = 0; i < f->held_n; i++)
        if (f->held[i] == r) {
            memmove(f->held + i, f->held + i + 1, (f->held_n - i - 1) * sizeof *f->held);
            f->held_n--;
            return;
        }
}

static inline void fx_ws_message(struct ws *ws, void *user, enum ws_opcode op, struct slice d)
{
    struct fx *f = user;
    size_t n = d.len < sizeof f->ws_last - 1 ? d.len : sizeof f->ws_last - 1;

    memcpy(f->ws_last, d.ptr, n);
    f->ws_last[n] = 0;
    atomic_fetch_add(&f->ws_messages, 1);
    atomic_fetch_add(&f->ws_bytes, d.len);
    if (slice_eq_str(d, "close me"))
        ws_close(ws, 4000, "as you wish");
    else
        (void)ws_send(ws, op, d);
}

static inline void fx_ws_drain(struct ws *ws, void *user)
{
    atomic_fetch_add(&((struct fx *)user)->ws_drains, 1);
}

static inline void fx_ws_close(struct ws *ws, void *user, int code)
{
    struct fx *f = user;

    atomic_store(&f->ws_code, code);
    atomic_fetch_add(&f->ws_closes, 1);
    f->ws = NULL;
}

/* ---- without sockets ---- */

static inline void fx_sink(void *arg, struct conn *c, struct slice data)
{
    struct fx *f = arg;

    MUST(buf_append_slice(&f->out, data) == ERR_OK);
}

/* Change f->conf and f->ws_handler between fx_init and fx_start or fx_listen. */
static inline void fx_init(struct fx *f)
{
    memset(f, 0, sizeof *f);
    f->loops_n = 1;
    buf_init(&f->out, 256u << 20);
    f->conf = (struct http_server_conf){.ctx = f,
                                        .on_request = fx_on_request,
                                        .on_head = fx_on_head,
                                        .on_close = fx_on_close,
                                        .output_max = 1u << 20};
    f->ws_handler = (struct ws_handler){
        .on_message = fx_ws_message, .on_drain = fx_ws_drain, .on_close = fx_ws_close};
}

static inline void fx_open(struct fx *f)
{
    f->c = conn_detached(http_server_conns(f->s), 0, "");
    buf_clear(&f->out);
}

static inline void fx_server(struct fx *f)
{
    struct errinfo info = {0};
    unsigned i;

    for (i = 0; i < f->loops_n; i++)
        assert_int_equal(loop_new(&f->loops[i], &info), ERR_OK);
    f->conf.loops = f->loops;
    f->conf.loops_n = f->loops_n;
    assert_int_equal(http_server_new(&f->conf, &f->s, &info), ERR_OK);
}

static inline void fx_start(struct fx *f)
{
    fx_server(f);
    conn_sink_set(http_server_conns(f->s), fx_sink, f);
    fx_open(f);
}

static inline void fx_turn(struct fx *f, unsigned n)
{
    while (n--)
        loop_turn(f->loops[0], false);
}

static inline bool fx_is_open(const struct fx *f)
{
    return conn_server_open(http_server_conns(f->s)) > 0;
}

/* Feeds at most `piece` bytes at a time, with turns between them. */
static inline void fx_feed_n(struct fx *f, const void *p, size_t n, size_t piece)
{
    size_t at;

    for (at = 0; at < n && fx_is_open(f); at += piece) {
        size_t k = n - at < piece ? n - at : piece;
        uint8_t *copy = malloc(k); /* exact, for the sanitizers */

        memcpy(copy, (const uint8_t *)p + at, k);
        conn_feed(f->c, slice_of(copy, k));
        free(copy);
        fx_turn(f, 1);
    }
    fx_turn(f, 4);
}

static inline void fx_feed(struct fx *f, const char *text)
{
    fx_feed_n(f, text, strlen(text), strlen(text));
}

/* What was sent, as text without the dates, so that it can be compared. */
static inline const char *fx_text(struct fx *f)
{
    uint8_t *p, *end;

    MUST(buf_append_u8(&f->out, 0) == ERR_OK);
    f->out.len--;
    while ((p = memmem(f->out.ptr, f->out.len, "date: ", 6))) {
        end = (uint8_t *)memchr(p, '\n', f->out.len - (size_t)(p - f->out.ptr)) + 1;
        memmove(p, end, f->out.len + 1 - (size_t)(end - f->out.ptr));
        f->out.len -= (size_t)(end - p);
    }
    return (const char *)f->out.ptr;
}

/* ---- with sockets ---- */

static inline void *fx_run(void *loop)
{
    loop_run(loop);
    return NULL;
}

static inline void fx_listen_on(struct fx *f, const char *addr, struct tls_conf *tls)
{
    struct errinfo info = {0};
    unsigned i;

    if (!f->s)
        fx_server(f);
    if (http_server_listen(f->s, addr, tls, &f->port, &info))
        fail_msg("%s", info.text);
    f->running = true; /* before the threads, which read it */
    for (i = 0; i < f->loops_n; i++)
        assert_int_equal(pthread_create(&f->threads[i], NULL, fx_run, f->loops[i]), 0);
}

static inline void fx_listen(struct fx *f)
{
    fx_listen_on(f, "127.0.0.1:0", NULL);
}

static inline void fx_stop(struct fx *f)
{
    unsigned i;

    for (i = 0; f->running && i < f->loops_n; i++) {
        loop_stop(f->loops[i]);
        pthread_join(f->threads[i], NULL);
    }
    f->running = false;
    http_server_free(&f->s);
    for (i = 0; i < f->loops_n; i++)
        loop_free(&f->loops[i]);
    buf_fini(&f->out);
}

/* Blocks for a minute at most in each call. */
static inline int fx_connect(struct fx *f)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(f->port)};
    struct timeval tv = {60, 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static inline void fx_send(int fd, const void *p, size_t n)
{
    size_t at = 0;

    while (at < n) {
        ssize_t r = send(fd, (const uint8_t *)p + at, n - at, MSG_NOSIGNAL);

        assert_true(r > 0);
        at += (size_t)r;
    }
}

static inline void fx_send_str(int fd, const char *s)
{
    fx_send(fd, s, strlen(s));
}

/* Until the peer's end. */
static inline size_t fx_read_all(int fd, char *p, size_t cap)
{
    size_t n = 0;
    ssize_t r;

    while (n < cap - 1 && (r = recv(fd, p + n, cap - 1 - n, 0)) > 0)
        n += (size_t)r;
    p[n] = 0;
    return n;
}

/* Until the text has come. */
static inline size_t fx_read_until(int fd, char *p, size_t cap, const char *text)
{
    size_t n = 0;
    ssize_t r;

    p[0] = 0;
    while (n < cap - 1 && !strstr(p, text)) {
        r = recv(fd, p + n, cap - 1 - n, 0);
        if (r <= 0)
            fail_msg("the end (%zd) came before \"%s\": %s", r, text, p);
        n += (size_t)r;
        p[n] = 0;
    }
    return n;
}

static inline uint64_t fx_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline void fx_sleep_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

/* Waits for a condition that another thread makes true; fails after a minute. */
#define fx_wait(cond)                                  \
    do {                                               \
        uint64_t fx_until = fx_now_ms() + 60000;       \
        while (!(cond)) {                              \
            if (fx_now_ms() > fx_until)                \
                fail_msg("waited in vain for " #cond); \
            fx_sleep_ms(1);                            \
        }                                              \
    } while (0)

#endif
