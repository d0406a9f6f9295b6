/* A real server in the test's own process: broker in a temporary directory, loops on threads, and a
 * small blocking client for HTTP/1.1, server-sent events and WebSocket that trusts nothing of ours.
 */
#ifndef WEIR_TESTS_HTTP_FIXTURE_H
#define WEIR_TESTS_HTTP_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <ftw.h>
#include <jansson.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "broker/broker.h"
#include "io/io.h"
#include "net/http.h"
#include "net/loop.h"
#include "proto/http/http_events.h"

#define FIX_LOOPS 2

struct fix {
    char dir[64];
    struct broker *broker;
    struct loop *loop[FIX_LOOPS];
    pthread_t thread[FIX_LOOPS];
    struct http_server *server;
    struct http_proto *proto;
    struct http_proto_conf conf;
    uint32_t output_max;
    uint16_t port;
};

static inline int fix_rm(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static inline void *fix_loop(void *arg)
{
    loop_run(arg);
    return NULL;
}

/* dir NULL: a new temporary one. change may alter the configuration. */
static inline void fix_start_in(struct fix *f, const char *dir, void (*change)(struct fix *f))
{
    struct broker_conf bc = {.io = io_real(),
                             .threads = true,
                             .topics_auto_create = true,
                             .retention_ms_default = -1}; /* records of tests are old */
    struct http_server_conf sc = {.loops_n = FIX_LOOPS};
    struct errinfo info = {0};

    memset(f, 0, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "%s", dir ? dir : "/tmp/weir-http-XXXXXX");
    if (!dir)
        assert_non_null(mkdtemp(f->dir));
    bc.dir = f->dir;
    bc.journal_file_bytes = 4u << 20;
    if (broker_open(&bc, &f->broker, &info))
        fail_msg("broker: %s", info.text);
    for (int i = 0; i < FIX_LOOPS; i++)
        assert_int_equal(loop_new(&f->loop[i], &info), ERR_OK);
    f->conf = (struct http_proto_conf){.broker = f->broker,
                                       .loops = f->loop,
                                       .loops_n = FIX_LOOPS,
                                       .topics_auto_create = true,
                                       .open_without_tokens = true};
    http_limits_default(&f->conf.limits);
    if (change)
        change(f);
    if (http_proto_new(&f->conf, &f->proto, &info))
        fail_msg("proto: %s", info.text);
    sc.loops = f->loop;
    sc.output_max = f->output_max;
    http_proto_serve(f->proto, &sc);
    assert_int_equal(http_server_new(&sc, &f->server, &info), ERR_OK);
    if (http_server_listen(f->server, "127.0.0.1:0", NULL, &f->port, &info))
        fail_msg("listen: %s", info.text);
    for (int i = 0; i < FIX_LOOPS; i++)
        assert_int_equal(pthread_create(&f->thread[i], NULL, fix_loop, f->loop[i]), 0);
}

static inline void fix_start(struct fix *f, void (*change)(struct fix *f))
{
    fix_start_in(f, NULL, change);
}

/* Stops, keeping the directory. */
static inline void fix_halt(struct fix *f)
{
    for (int i = 0; i < FIX_LOOPS; i++)
        loop_stop(f->loop[i]);
    for (int i = 0; i < FIX_LOOPS; i++)
        pthread_join(f->thread[i], NULL);
    http_server_free(&f->server);
    http_proto_free(&f->proto);
    broker_close(&f->broker); /* its threads may be waking a loop */
    for (int i = 0; i < FIX_LOOPS; i++)
        loop_free(&f->loop[i]);
}

static inline void fix_stop(struct fix *f)
{
    fix_halt(f);
    nftw(f->dir, fix_rm, 16, FTW_DEPTH | FTW_PHYS);
}

static inline uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- client ---- */

struct client {
    int fd;
    char *in;
    size_t n, cap;
};

struct reply {
    int status;
    char *head, *body; /* NUL-terminated, freed by reply_free */
    size_t body_n;
};

static inline void client_open(struct client *c, struct fix *f)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(f->port)};
    struct timeval limit = {.tv_sec = 20};
    int one = 1;

    memset(c, 0, sizeof *c);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&a, sizeof a), 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

static inline void client_close(struct client *c)
{
    close(c->fd);
    free(c->in);
    c->in = NULL;
}

static inline void client_write(struct client *c, const void *p, size_t n)
{
    const char *at = p;

    while (n) {
        ssize_t r = send(c->fd, at, n, MSG_NOSIGNAL);

        assert_true(r > 0);
        at += r;
        n -= (size_t)r;
    }
}

/* False: the peer closed, or nothing came in 20 s. */
static inline bool client_more(struct client *c)
{
    ssize_t r;

    if (c->cap - c->n < 65536) {
        c->cap = c->cap * 2 + 131072;
        c->in = realloc(c->in, c->cap);
    }
    r = recv(c->fd, c->in + c->n, c->cap - c->n - 1, 0);
    if (r <= 0)
        return false;
    c->n += (size_t)r;
    c->in[c->n] = 0;
    return true;
}

static inline void client_eat(struct client *c, size_t n)
{
    memmove(c->in, c->in + n, c->n - n);
    c->n -= n;
    c->in[c->n] = 0;
}

/* Header's value, malloc'ed; NULL if not there. */
static inline char *head_get(const char *head, const char *name)
{
    size_t n = strlen(name);

    for (const char *l = strstr(head, "\r\n"); l && l[2]; l = strstr(l + 2, "\r\n")) {
        if (strncasecmp(l + 2, name, n) == 0 && l[2 + n] == ':') {
            const char *v = l + 3 + n;

            v += strspn(v, " ");
            return strndup(v, strcspn(v, "\r"));
        }
    }
    return NULL;
}

static inline void reply_free(struct reply *r)
{
    free(r->head);
    free(r->body);
    memset(r, 0, sizeof *r);
}

/* Reads the head of an answer. */
static inline void client_head(struct client *c, struct reply *r)
{
    char *end;

    memset(r, 0, sizeof *r);
    while (!c->n || !(end = strstr(c->in, "\r\n\r\n"))) {
        if (!client_more(c))
            fail_msg("no answer; so far: %.*s", (int)c->n, c->in ? c->in : "");
    }
    r->head = strndup(c->in, (size_t)(end - c->in) + 2);
    r->status = (int)strtol(r->head + 9, NULL, 10);
    client_eat(c, (size_t)(end - c->in) + 4);
}

static inline void client_read(struct client *c, struct reply *r, bool head)
{
    char *len;

    client_head(c, r);
    len = head_get(r->head, "content-length");
    r->body_n = len && !head ? strtoul(len, NULL, 10) : 0;
    free(len);
    while (c->n < r->body_n) {
        if (!client_more(c))
            fail_msg("the body ends early");
    }
    r->body = malloc(r->body_n + 1);
    if (r->body_n)
        memcpy(r->body, c->in, r->body_n);
    r->body[r->body_n] = 0;
    if (r->body_n)
        client_eat(c, r->body_n);
}

static inline void client_send(struct client *c, const char *method, const char *target,
                               const char *headers, const void *body, size_t n)
{
    char *head;
    int len = asprintf(&head, "%s %s HTTP/1.1\r\nHost: test\r\n%sContent-Length: %zu\r\n\r\n",
                       method, target, headers, n);

    client_write(c, head, (size_t)len);
    client_write(c, body, n);
    free(head);
}

/* One request on a connection of its own. headers: lines with CRLF. */
static inline struct reply request(struct fix *f, const char *method, const char *target,
                                   const char *headers, const char *body)
{
    struct client c;
    struct reply r;

    client_open(&c, f);
    client_send(&c, method, target, headers, body ? body : "", body ? strlen(body) : 0);
    client_read(&c, &r, strcmp(method, "HEAD") == 0);
    client_close(&c);
    return r;
}

#define JSON_TYPE "Content-Type: application/json\r\n"

/* The answer's JSON after checking its status; decref by the caller. */
static inline json_t *reply_json(struct reply *r, int status)
{
    json_error_t why;
    json_t *j;

    if (r->status != status)
        fail_msg("status %d, not %d: %s%s", r->status, status, r->head, r->body);
    j = json_loadb(r->body, r->body_n, 0, &why);
    if (!j)
        fail_msg("not JSON (%s): %s", why.text, r->body);
    reply_free(r);
    return j;
}

static inline json_t *call(struct fix *f, const char *method, const char *target, const char *body,
                           int status)
{
    struct reply r = request(f, method, target, body ? JSON_TYPE : "", body);

    return reply_json(&r, status);
}

static inline const char *text_of(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));

    return s ? s : "(none)";
}

static inline long long int_of(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);

    if (!json_is_integer(v))
        fail_msg("no integer \"%s\"", name);
    return json_integer_value(v);
}

/* An error with this status and code. */
static inline void expect_problem(struct reply *r, int status, const char *code)
{
    char *media = head_get(r->head, "content-type");
    json_t *j;

    if (r->status != status)
        fail_msg("status %d, not %d: %s", r->status, status, r->body);
    assert_non_null(media);
    assert_string_equal(media, "application/problem+json");
    free(media);
    j = reply_json(r, status);
    assert_string_equal(text_of(j, "code"), code);
    assert_int_equal(int_of(j, "status"), status);
    assert_true(strlen(text_of(j, "title")) > 0);
    json_decref(j);
}

static inline void emit(struct fix *f, const char *body)
{
    json_decref(call(f, "POST", "/events", body, 201));
}

/* ---- WebSocket ---- */

static inline void ws_connect(struct client *c, struct fix *f, const char *target,
                              const char *headers)
{
    char *head;
    int n;
    struct reply r;

    client_open(c, f);
    n = asprintf(&head,
                 "GET %s HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%s"
                 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                 target, headers);
    client_write(c, head, (size_t)n);
    free(head);
    client_head(c, &r);
    if (r.status != 101) {
        fail_msg("no upgrade: %s", r.head);
    }
    assert_non_null(strstr(r.head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")); /* RFC 6455, 1.3 */
    reply_free(&r);
}

static inline void ws_text(struct client *c, const char *text)
{
    size_t n = strlen(text), h = 2;
    uint8_t *frame = malloc(n + 14);
    static const uint8_t mask[4] = {1, 2, 3, 4};

    frame[0] = 0x81;
    if (n < 126) {
        frame[1] = (uint8_t)(0x80 | n);
    } else {
        assert_true(n < 65536);
        frame[1] = 0x80 | 126;
        frame[2] = (uint8_t)(n >> 8);
        frame[3] = (uint8_t)n;
        h = 4;
    }
    memcpy(frame + h, mask, 4);
    for (size_t i = 0; i < n; i++)
        frame[h + 4 + i] = (uint8_t)text[i] ^ mask[i % 4];
    client_write(c, frame, h + 4 + n);
    free(frame);
}

/* The next frame's payload, malloc'ed and NUL-terminated; NULL: the connection ended. *op: opcode.
 */
static inline char *ws_frame(struct client *c, int *op)
{
    const uint8_t *p;
    size_t n, h = 2;
    char *out;

    while (c->n < 2 || ((uint8_t)c->in[1] == 126 && c->n < 4) ||
           ((uint8_t)c->in[1] == 127 && c->n < 10)) {
        if (!client_more(c))
            return NULL;
    }
    p = (const uint8_t *)c->in;
    assert_int_equal(p[0] & 0xf0, 0x80);
    assert_int_equal(p[1] & 0x80, 0);
    *op = p[0] & 15;
    n = p[1];
    if (n == 126) {
        n = (size_t)p[2] << 8 | p[3];
        h = 4;
    } else if (n == 127) {
        n = 0;
        for (int i = 2; i < 10; i++)
            n = n << 8 | p[i];
        h = 10;
    }
    while (c->n < h + n) {
        if (!client_more(c))
            return NULL;
    }
    out = malloc(n + 1);
    memcpy(out, c->in + h, n);
    out[n] = 0;
    client_eat(c, h + n);
    return out;
}

/* The next text message as JSON. */
static inline json_t *ws_json(struct client *c)
{
    int op;
    char *t = ws_frame(c, &op);
    json_t *j;

    assert_non_null(t);
    if (op != 1)
        fail_msg("frame %d: %s", op, t);
    j = json_loads(t, 0, NULL);
    if (!j)
        fail_msg("not JSON: %s", t);
    free(t);
    return j;
}

#endif
