/* NATS, served: clients of nats-server change only the address.
 *
 * Core messages live in memory and go from loop to loop; nothing of them is stored, and a
 * subscriber that does not read is given up. Subscriptions of an account are in one index
 * (interest.h) that all loops see; each connection belongs to one loop, and what is published on
 * another comes to it in batches, in order (route.h).
 *
 * Threads: new, listen and free while the loops do not run; drain and metrics any. */
#ifndef WEIR_PROTO_NATS_NATS_H
#define WEIR_PROTO_NATS_NATS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct auth;
struct broker;
struct buf;
struct io;
struct log;
struct loop;
struct nats;
struct tls_conf;

struct nats_conf {
    struct io *io;
    struct auth *auth; /* Weir's tokens */
    const char *users; /* file of users (users.h); NULL or "": none */
    struct loop *const *loops;
    unsigned loops_n;
    uint32_t conns_max, conns_ip_max; /* ip 0: no limit */
    uint32_t subs_max;                /* of a connection; 0: no limit */
    uint32_t payload_max;             /* bytes of a message, headers counted */
    uint32_t ping_ms;                 /* between pings */
    uint32_t pings_lost;              /* unanswered ones that end the connection */
    uint32_t login_ms;                /* for CONNECT */
    uint32_t send_ms;                 /* output that does not move ends the connection */
    struct tls_conf *tls;             /* NULL: none */
    bool tls_first;                   /* the handshake comes before INFO */
    bool tls_verify;                  /* clients must have certificates */
    const char *ws_origins; /* whose pages may open WebSockets: "" all, "same", or a list */
    bool ws_deflate;        /* WebSockets are compressed where clients offer it */
    struct broker *broker;
    const struct log *log;      /* may be NULL */
    const char *topics_account; /* that sees topics' records (topics.h); "": none */
    bool jetstream;             /* streams and consumers (js.h) */
};

enum err nats_new(const struct nats_conf *conf, struct nats **out, struct errinfo *info);
/* addr as conn_server_listen; several may be listened at. */
enum err nats_listen(struct nats *n, const char *addr, uint16_t *port, struct errinfo *info);
/* … for WebSockets; with tls, if there is one, from the first byte. */
enum err nats_listen_ws(struct nats *n, const char *addr, uint16_t *port, struct errinfo *info);
/* Makes a request of another HTTP server with these loops a client, by a WebSocket, or refuses it. That
 * server is freed first. On the request's loop. */
struct http_req;
void nats_http(void *nats, unsigned loop, struct http_req *r);
/* … for who watches, over HTTP, in the clear and open to who can reach it. */
enum err nats_listen_monitor(struct nats *n, const char *addr, uint16_t *port,
                             struct errinfo *info);
/* Once: stops listening and tells clients to go elsewhere (lame duck). */
void nats_drain(struct nats *n);
uint64_t nats_open(const struct nats *n);
/* Any thread. Reads the file of users again; after an error nothing has changed. */
enum err nats_reload(struct nats *n, struct errinfo *info);
/* The loops have stopped. */
void nats_free(struct nats **n);
/* Prometheus text (names weir_nats_…), appended. */
void nats_metrics(struct nats *n, struct buf *out);

#endif
