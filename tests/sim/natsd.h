/* A NATS server as a whole on a simulated disk: broker, JetStream, event loops whose time is the
 * simulated one, and clients without sockets. What clients are sent is taken apart and handed over,
 * message by message. One thread. */
#ifndef WEIR_TESTS_SIM_NATSD_H
#define WEIR_TESTS_SIM_NATSD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"
#include "net/loop.h"

#define NATSD_LOOPS   2u
#define NATSD_CLIENTS 4u

struct auth;
struct broker;
struct broker_conf;
struct conn;
struct io;
struct nats;

struct natsd_msg {
    unsigned client;
    uint64_t sid;
    struct slice subject, reply;
    struct slice headers; /* NATS/1.0…, or empty */
    struct slice payload;
};

struct natsd_client {
    struct conn *c; /* NULL: not connected */
    struct buf in;
    uint64_t errors; /* -ERR lines */
};

struct natsd {
    struct io *io;
    struct broker *b;
    struct auth *auth;
    struct nats *nats;
    struct loop *loops[NATSD_LOOPS];
    struct loop_hook look[NATSD_LOOPS];
    struct natsd_client client[NATSD_CLIENTS];
    /* set by whoever uses it, before natsd_start */
    void (*message)(void *arg, const struct natsd_msg *m);
    void (*lost)(void *arg, unsigned client); /* the server closed the connection; may be NULL */
    void *arg;
    const char *broken; /* what the server sent that is not of the protocol; NULL: nothing */
};

/* bc: of the broker; io is taken from it. After an error there is nothing to stop. */
enum err natsd_start(struct natsd *d, const struct broker_conf *bc, struct errinfo *info);
/* All connections end. */
void natsd_stop(struct natsd *d);
/* A new connection on this loop, with CONNECT. */
void natsd_connect(struct natsd *d, unsigned client, unsigned loop);
/* The client is gone. What it was not given yet is lost. */
void natsd_drop(struct natsd *d, unsigned client);
/* Bytes, if it is connected. */
void natsd_send(struct natsd *d, unsigned client, struct slice s);
void natsd_publish(struct natsd *d, unsigned client, const char *subject, const char *reply,
                   struct slice payload);
/* A turn of one loop; `message` is called for what came of it. */
void natsd_turn(struct natsd *d, unsigned loop);

#endif
