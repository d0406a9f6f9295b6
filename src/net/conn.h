/* Connections: a socket (with or without TLS) on one loop, its output queue and its deadline. Protocols
 * sit on top through struct conn_proto; none of them touches the socket. Private to src/net for HTTP;
 * the same layer serves other protocols.
 *
 * Output is copied into one buffer and written at the end of the loop's turn. Input is read into the
 * loop's scratch buffer and given to proto->on_data, which must take all of it (and keep what it cannot
 * use yet). Reading stops while conn_pause is in force. A connection is freed at the end of the turn in
 * which conn_close was called. */
#ifndef WEIR_NET_CONN_H
#define WEIR_NET_CONN_H

#include "base/buf.h"
#include "net/loop.h"

struct conn;
struct conn_loop;
struct conn_server;
struct tls_conf;

struct conn_proto {
    /* data may be empty: then something else changed. */
    void (*on_data)(struct conn *c, struct slice data);
    /* Output fell below a quarter of the maximum after having been above it, or all was written. */
    void (*on_drain)(struct conn *c);
    /* The deadline passed. */
    void (*on_timeout)(struct conn *c);
    /* The connection ends (once); the protocol frees its state. */
    void (*on_close)(struct conn *c);
};

struct conn {
    struct list_node link;  /* of the loop's connections */
    struct list_node dirty; /* to be flushed */
    struct loop_fd fd;
    struct loop_timer timer;
    struct conn_loop *cl;
    const struct conn_proto *proto;
    void *state; /* the protocol's */
    void *ssl;
    struct buf out;
    size_t out_at; /* written so far */
    uint64_t deadline_ms; /* 0: none */
    bool is_dirty, paused, closing, closed, was_full, handshake, want_write, eof;
    char remote[64];
    uint64_t remote_ip[2];
};

struct conn_stats {
    uint64_t accepted, refused, open, bytes_in, bytes_out, timeouts;
};

struct conn_server_conf {
    struct loop *const *loops;
    unsigned loops_n;
    uint32_t conns_max, conns_ip_max, output_max;
    /* A new connection on its loop: sets c->proto and c->state. alpn is "" without. */
    void (*on_open)(void *ctx, unsigned loop, struct conn *c, const char *alpn);
    void *ctx;
};

/* One loop's part of a server. */
struct conn_loop {
    struct conn_server *s;
    struct loop *loop;
    unsigned index;
    struct list_head conns, dirty;
    struct loop_hook hook;
    struct conn_stats st;
    struct list_head dead;
    uint8_t *scratch;
    bool draining;
};

enum err conn_server_new(const struct conn_server_conf *conf, struct conn_server **out,
                         struct errinfo *info);
enum err conn_server_listen(struct conn_server *s, const char *addr, struct tls_conf *tls,
                            uint16_t *port, struct errinfo *info);
/* Any thread: stops listening; on_drain_conn is called for each connection on its loop. */
void conn_server_drain(struct conn_server *s, void (*on_conn)(struct conn *c));
void conn_server_free(struct conn_server **s);
void conn_server_stats(const struct conn_server *s, struct conn_stats *out);
uint64_t conn_server_open(const struct conn_server *s);

/* Room for n bytes of output, to be filled and then committed; NULL if the connection is closing or the
 * buffer's hard maximum (16 times output_max and at least 64 MiB) is reached: then it is closed. */
uint8_t *conn_out(struct conn *c, size_t n);
void conn_out_done(struct conn *c, size_t n);
void conn_send(struct conn *c, struct slice data);
static inline size_t conn_queued(const struct conn *c)
{
    return c->out.len - c->out_at;
}
bool conn_full(struct conn *c);
void conn_pause(struct conn *c, bool pause);
/* 0 ms: none. */
void conn_deadline(struct conn *c, uint64_t ms);
/* flush: what is queued is sent first (as far as the peer takes it within 5 s). */
void conn_close(struct conn *c, bool flush);

/* tls.c */
void *tls_session_new(struct tls_conf *t, int fd);
void tls_session_free(void *ssl);
/* 1 done, 0 more to come (*want_write), -1 failed. */
int tls_handshake(void *ssl, bool *want_write);
/* Like recv and send; -1 with errno EAGAIN (*want_write says for what). */
long tls_read(void *ssl, void *p, size_t n, bool *want_write);
long tls_write(void *ssl, const void *p, size_t n);
const char *tls_alpn(void *ssl);
void tls_bye(void *ssl);

#endif
