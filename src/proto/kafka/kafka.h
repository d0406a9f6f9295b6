/* Kafka's protocol, served: every topic is a Kafka topic. Connections are handled by src/net, state
 * is the broker's; here requests are decoded, put into the broker's words, and answered.
 *
 * One broker, node id 1, controller of itself, leader of every partition in epoch 0. Versions of the
 * APIs are those that Apache Kafka 4.2 advertises.
 *
 * Threads: kafka_new, kafka_listen and kafka_free while the loops do not run; kafka_drain and
 * kafka_stats_get any; the rest runs on the loops. */
#ifndef WEIR_PROTO_KAFKA_KAFKA_H
#define WEIR_PROTO_KAFKA_KAFKA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

struct broker;
struct buf;
struct kafka;
struct loop;
struct tls_conf;

struct kafka_conf {
    struct broker *broker;
    struct loop *const *loops;
    unsigned loops_n;
    uint32_t conns_max, conns_ip_max; /* ip 0: no limit */
    uint32_t idle_ms;                 /* connections.max.idle.ms */
    bool topics_auto_create;
    /* What clients are told to connect to: HOST:PORT; NULL or "": the address that they came to. */
    const char *advertised;
    /* Security; texts are borrowed while the server lives, NULL is as "". */
    const char *sasl_mechanisms; /* PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, with commas:
                                    every connection has to use one; "": none has to */
    const char *sasl_users; /* path: lines of name:password, beside the users that are stored */
    const char *sasl_jwks;  /* path: the keys that sign OAUTHBEARER's tokens */
    const char *sasl_issuer, *sasl_audience; /* that a token must name; "": any */
    uint32_t reauth_ms;      /* connections.max.reauth.ms: longest session; 0: no end */
    bool acls;               /* access rules count */
    bool acls_else_everyone; /* allow.everyone.if.no.acl.found */
    const char *super_users; /* User:NAME with semicolons or commas: may do all */
};

enum err kafka_new(const struct kafka_conf *conf, struct kafka **out, struct errinfo *info);
/* addr and tls as conn_server_listen. */
enum err kafka_listen(struct kafka *k, const char *addr, struct tls_conf *tls, uint16_t *port,
                      struct errinfo *info);
/* Once: stops listening; requests under way are answered, then connections end. */
void kafka_drain(struct kafka *k);
/* Any thread: reads the files of users and keys again. After an error nothing has changed. */
enum err kafka_reload(struct kafka *k, struct errinfo *info);
/* Any thread: whether the rules let the user read the topic, coming from host (an address), by
 * whatever protocol. */
bool kafka_user_may_read(struct kafka *k, const char *user, const char *host, struct slice topic);
/* Connections that are open. */
uint64_t kafka_open(const struct kafka *k);
void kafka_free(struct kafka **k);
/* Prometheus text (names weir_kafka_…), appended. */
void kafka_metrics(struct kafka *k, struct buf *out);

#endif
