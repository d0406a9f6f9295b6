/* Connections: a socket (with or without TLS) on one loop, its output queue and its deadlines.
 * Protocols sit on top through struct conn_proto; none of them touches the socket. HTTP, HTTP/2 and
 * WebSocket are such protocols; others (length-prefixed or line-based) use the same layer.
 *
 * Input is read into the loop's scratch buffer and given to proto->on_data, which must take all of
 * it (and keep what it cannot use yet): an idle connection has no buffer. Output is queued and
 * written at the end of the loop's turn, in one writev.
 *
 * Life: accepted (listen.c, first loop) -> handed to the loop with the fewest connections -> TLS
 * handshake, if any -> on_open sets proto and state -> on_data, on_eof, on_drain, on_timeout … ->
 * conn_close, or the peer or a limit ends it -> on_close -> what is left of the output is sent ->
 * freed. Invariants:
 *   1. proto's functions are only called by the loop: never from inside conn_send, conn_close or
 * any other function of this header;
 *   2. on_close is called once, at the end of the turn in which the connection was closed (or, with
 *      flush, its output was sent): until then c and c->state are there, and sending does nothing;
 *   3. output queued is at most the hard maximum (see conn_hard_max): past it the connection ends.
 */
#ifndef WEIR_NET_CONN_H
#define WEIR_NET_CONN_H

#include <stdatomic.h>

#include "net/loop.h"
#include "net/outq.h"

struct conn;
struct conn_loop;
struct conn_server;
struct buf;
struct tls_conf;

struct conn_proto {
    /* Where the next input is to be read to, *n bytes at most: on_data gets it there. It answers NULL,
     * or is NULL: to the loop's scratch buffer. */
    uint8_t *(*room)(struct conn *c, size_t *n);
    /* data may be empty: conn_later was called. */
    void (*on_data)(struct conn *c, struct slice data);
    /* The end of a turn in which conn_touch was called or output queued, before output is written;
     * for protocols that make their output as late as they can. May be NULL. */
    void (*on_flush)(struct conn *c);
    /* The peer has sent its end, but may still be reading. NULL: the connection is closed at once.
     */
    void (*on_eof)(struct conn *c);
    /* Output fell below a quarter of c->output_max after it had reached it. */
    void (*on_drain)(struct conn *c);
    /* The deadline passed. */
    void (*on_timeout)(struct conn *c);
    /* TLS that conn_tls_start asked for is there. May be NULL. */
    void (*on_tls)(struct conn *c);
    /* The connection ends (once); the protocol frees its state. */
    void (*on_close)(struct conn *c);
};

/* Why a connection ended. */
enum conn_why {
    CONN_OPEN,    /* it did not */
    CONN_LOCAL,   /* this side was done */
    CONN_PEER,    /* the peer closed it */
    CONN_ERROR,   /* the network or TLS failed */
    CONN_TIMEOUT, /* a deadline of the protocol */
    CONN_SLOW,    /* the peer does not take its output */
    CONN_LIMIT,   /* output past the hard maximum */
    CONN_REFUSED, /* too many connections */
    CONN_WHY_N
};
const char *conn_why_text(enum conn_why why);

struct conn {
    struct list_node link;  /* of the loop's connections, or of its dead */
    struct list_node dirty; /* to be looked at at the end of the turn */
    struct list_node later; /* to be called in the next turn */
    struct loop_fd fd;      /* fd -1: no socket, see conn_detached */
    struct loop_timer timer;
    struct conn_loop *cl;
    const struct conn_proto *proto;
    void *state; /* the protocol's */
    void *ssl;
    struct outq out;
    uint32_t output_max;  /* as the server's; a protocol may change it */
    uint64_t deadline_ms; /* 0: none */
    uint64_t stall_ms;    /* when output that does not move ends the connection; 0: none */
    uint64_t bytes_in, bytes_out;
    enum conn_why why;
    bool is_dirty, is_later, later_data, later_drain;
    bool paused, eof, was_full, handshake, want_write;
    bool closing;     /* conn_close was called */
    bool flush_first; /* and its output is to be sent */
    bool lingering;   /* all is sent, on_close was called: waits for the peer's end */
    bool closed;
    uint32_t lingered; /* bytes */
    char remote[64];
    uint8_t remote_ip[16]; /* IPv4 as ::ffff:a.b.c.d */
    bool has_ip;
    struct tls_conf *expected; /* see conn_tls_expect; NULL: not, or not any more */
    const char *expected_alpn;
};

/* Written by the loop's thread only, readable by all. */
typedef _Atomic uint64_t conn_stat;
struct conn_loop_stats {
    conn_stat accepted, refused, open, bytes_in, bytes_out;
    conn_stat closed[CONN_WHY_N];
};
static inline void conn_stat_add(conn_stat *s, uint64_t n)
{
    atomic_store_explicit(s, atomic_load_explicit(s, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

struct conn_stats {
    uint64_t accepted, refused, open, bytes_in, bytes_out;
    uint64_t closed[CONN_WHY_N];
};

struct conn_server_conf {
    struct loop *const *loops;
    unsigned loops_n;
    uint32_t conns_max;    /* at least 1 */
    uint32_t conns_ip_max; /* of one address; 0: no limit */
    uint32_t output_max;   /* bytes, at least 1 */
    uint32_t send_ms; /* output that does not move for so long ends the connection; at least 1 */
    /* A new connection on its loop: sets c->proto and c->state. alpn is "" without. */
    void (*on_open)(void *ctx, unsigned loop, struct conn *c, const char *alpn);
    void *ctx;
};

/* One loop's part of a server. */
struct conn_loop {
    struct conn_server *s;
    struct loop *loop;
    unsigned index;
    struct list_head conns, dirty, later, dead;
    struct loop_hook hook;
    struct loop_task work; /* runs what is in later */
    bool work_posted, draining;
    struct out_pool pool;
    struct conn_loop_stats st;
    atomic_uint load; /* connections, those on their way to it among them */
    uint8_t *scratch;
};

/* ---- servers (listen.c) ---- */

enum err conn_server_new(const struct conn_server_conf *conf, struct conn_server **out,
                         struct errinfo *info);
/* addr: "127.0.0.1:8787", "[::1]:0", "localhost:0", ":8787" (all of IPv4) or "unix:/path". Before
 * the loops run. *port (may be NULL): the port in use, 0 for unix. tls is borrowed; NULL:
 * cleartext. */
enum err conn_server_listen(struct conn_server *s, const char *addr, struct tls_conf *tls,
                            uint16_t *port, struct errinfo *info);
/* Any thread, once: stops listening; on_conn is called for each connection on its loop. */
void conn_server_drain(struct conn_server *s, void (*on_conn)(struct conn *c));
/* The loops have stopped. Closes what is left. */
void conn_server_free(struct conn_server **s);
/* Any thread. */
void conn_server_stats(const struct conn_server *s, struct conn_stats *out);
uint64_t conn_server_open(const struct conn_server *s);
const struct conn_server_conf *conn_server_conf(const struct conn_server *s);
/* The connection is gone: its place is free for another. */
void conn_server__left(struct conn *c);

/* ---- connections (conn.c) ---- */

void conn_loop_init(struct conn_loop *cl, struct conn_server *s, struct loop *l, unsigned index);
/* Closes its connections. */
void conn_loop_fini(struct conn_loop *cl);
struct conn *conn_new(struct conn_loop *cl, int fd);
/* On its loop: watches the socket and opens the protocol, after the handshake if ssl (taken) is
 * there. */
void conn_start(struct conn *c, void *ssl);
/* It was never started. */
void conn_abandon(struct conn *c);

/* A connection without a socket, for tests: conn_feed brings its input; what it sends goes to sink.
 */
struct conn *conn_detached(struct conn_server *s, unsigned loop, const char *alpn);
void conn_feed(struct conn *c, struct slice data);
/* NULL: thrown away. Set for all detached connections of the server, before there are any. */
void conn_sink_set(struct conn_server *s,
                   void (*sink)(void *arg, struct conn *c, struct slice data), void *arg);
void conn_server__sunk(struct conn *c, struct slice data);

/* Room for n bytes of output in a row, to be filled at once and then committed with how many were
 * used; NULL if the connection is closing, or the hard maximum would be passed: then it is closed.
 */
uint8_t *conn_out(struct conn *c, size_t n);
void conn_out_done(struct conn *c, size_t n);
/* Copies. */
void conn_send(struct conn *c, struct slice data);
/* Borrows until release(arg) is called, once: maybe before this returns, at the latest when the
 * connection is freed. */
void conn_send_lent(struct conn *c, struct slice data, void (*release)(void *arg), void *arg);
/* All of q, which is empty then. */
void conn_send_queue(struct conn *c, struct outq *q);
static inline size_t conn_queued(const struct conn *c)
{
    return c->out.bytes;
}
static inline bool conn_full(const struct conn *c)
{
    return c->out.bytes >= c->output_max;
}
size_t conn_hard_max(const struct conn *c);
/* Reading stops, or goes on. */
void conn_pause(struct conn *c, bool pause);
/* on_flush is called at the end of this turn. */
void conn_touch(struct conn *c);
/* on_data with nothing is called in the next turn. */
void conn_later(struct conn *c);
/* TLS from here on: what is queued is sent in the clear first, then the peer's handshake is waited
 * for; the protocol stays. The peer must not have sent anything behind its request for TLS: the
 * caller checks that it has taken all that was read. */
void conn_tls_start(struct conn *c, struct tls_conf *tls);
/* For on_open: if the first byte that comes begins a TLS handshake, TLS starts with it, and on_tls is
 * called when it is there; else all is as without. The peer must offer the protocol alpn (a constant)
 * then, by ALPN. */
void conn_tls_expect(struct conn *c, struct tls_conf *tls, const char *alpn);
/* 0 ms: none. */
void conn_deadline(struct conn *c, uint64_t ms);
/* flush: what is queued is sent first, as far as the peer takes it within NET_FLUSH_MS. The first
 * reason given counts. */
void conn_close(struct conn *c, bool flush, enum conn_why why);
/* Nothing more is taken or sent. */
static inline bool conn_closing(const struct conn *c)
{
    return c->closing || c->closed;
}

/* ---- TLS sessions (tls.c) ---- */

/* NULL: no memory. */
void *tls_session_new(struct tls_conf *t, int fd);
/* Before the handshake, which fails unless the peer offers this protocol (a constant). */
void tls_session_alpn(void *ssl, const char *alpn);
void tls_session_free(void *ssl);
/* 1 done, 0 more to come (*want_write), -1 failed. */
int tls_handshake(void *ssl, bool *want_write);
/* Like recv and send; -1 with errno EAGAIN (*want_write says for what). */
long tls_read(void *ssl, void *p, size_t n, bool *want_write);
long tls_write(void *ssl, const void *p, size_t n);
/* Bytes were read from the socket, but not yet by tls_read. */
bool tls_pending(void *ssl);
const char *tls_alpn(void *ssl);
/* Appends the subject of the certificate that the peer showed, as RFC 2253 writes it (tls_name.c).
 * ERR_NOT_FOUND: it showed none; ERR_TOO_LARGE: it does not fit; ERR_INVALID. */
enum err tls_peer_name(void *ssl, struct buf *out);
/* Says goodbye (close_notify). */
void tls_bye(void *ssl);

#endif
