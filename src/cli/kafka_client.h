/* A small Kafka client for the command line: connections to brokers (TLS and SASL PLAIN where asked
 * for), one request after another on each, and where topics' partitions are. Works with any broker that
 * speaks the versions of messages/ (Kafka 0.11 and newer for records). One thread.
 *
 * A call is written as
 *
 *   int16_t v = kafka_conn_version(conn, 3, 12);
 *   struct kafka_metadata_request q; … init and fill q …
 *   if (!KAFKA_CALL(conn, 3, v, metadata, &q, &arena, &s, timeout_ms)) … kafka_client_error(c) …
 *
 * What comes back borrows from the connection's buffer and from the arena, until the next call on the
 * connection. Lengths and counts of the peer are checked by the codec; a frame is at most
 * KAFKA_ANSWER_MAX bytes, arrays of an answer at most KAFKA_ARRAYS_MAX. Nothing is said on
 * standard error here, except by kafka_client_new: the text of the last error is kept. After a failure
 * of the network the connection is gone: asking for it again makes a new one. */
#ifndef WEIR_CLI_KAFKA_CLIENT_H
#define WEIR_CLI_KAFKA_CLIENT_H

#include "base/arena.h"
#include "cli/cli.h"
#include "kafka_messages.h"
#include "proto/kafka/codec.h"

#define KAFKA_ANSWER_MAX (128u << 20) /* bytes of an answer */
#define KAFKA_ARRAYS_MAX (64u << 20)  /* bytes of an answer's arrays */
#define KAFKA_NODES_MAX  1024u        /* brokers of a cluster */
#define KAFKA_TIMEOUT_MS 30000        /* for an answer */

/* Codes of Kafka's errors that mean something here: tbl/kafka_errors.h. */
enum {
#define KAFKA_ERROR(name, code, again, text) KAFKA_ERR_##name = code,
#include "cli/tbl/kafka_errors.h"
#undef KAFKA_ERROR
};

struct kafka_client;
struct kafka_conn;

/* From --kafka or WEIR_KAFKA (HOST:PORT, several with commas: the first that answers), --tls, --ca,
 * --user with --password-file or WEIR_KAFKA_PASSWORD. NULL after saying why not. */
struct kafka_client *kafka_client_new(const struct args *a);
void kafka_client_free(struct kafka_client **c);
/* Of the last call that failed. */
const char *kafka_client_error(const struct kafka_client *c);
/* Sets it; returns false. */
bool kafka_client_fail(struct kafka_client *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Sets it to what an error code of the peer means, about `what`. False. */
bool kafka_client_code(struct kafka_client *c, const char *what, int16_t code);
const char *kafka_error_text(int16_t code); /* never NULL */
/* Is it an error that goes away: worth another try, with new metadata? */
bool kafka_error_again(int16_t code);

/* A connection to any broker / to this one of the last metadata; NULL: see the error. */
struct kafka_conn *kafka_client_any(struct kafka_client *c);
struct kafka_conn *kafka_client_node(struct kafka_client *c, int32_t node);
/* A node that was learnt from an answer. */
void kafka_client_node_set(struct kafka_client *c, int32_t node, struct slice host, int32_t port);

/* Where the partitions of topics are. create: topics may be made. The answer as it came, with the
 * nodes noted. False: see the error. names NULL: all topics. */
bool kafka_client_metadata(struct kafka_client *c, const char *const *names, unsigned n,
                           bool create, struct arena *arena, struct kafka_metadata_response *out);

/* The newest version of an API that both sides speak, at most `most`; -1: none (the error says so). */
int16_t kafka_conn_version(struct kafka_conn *conn, int16_t key, int16_t most);
/* The parts of a call. After a false the connection is closed, and conn must not be used again. */
struct kwriter *kafka_conn_begin(struct kafka_conn *conn, int16_t key, int16_t version);
bool kafka_conn_send(struct kafka_conn *conn, enum err encoded);
/* Waits for the answer to the oldest request; *r stands at its body. */
bool kafka_conn_receive(struct kafka_conn *conn, int16_t key, int16_t version, int timeout_ms,
                        struct kreader *r);
bool kafka_conn_decoded(struct kafka_conn *conn, enum err e);
struct kreader *kafka_conn_reader(struct kafka_conn *conn);

#define KAFKA_SEND(conn, key, v, name, q) \
    kafka_conn_send(conn, kafka_##name##_request_encode(kafka_conn_begin(conn, key, v), v, q))
#define KAFKA_RECEIVE(conn, key, v, name, arena, s, timeout_ms)               \
    (kafka_conn_receive(conn, key, v, timeout_ms, kafka_conn_reader(conn)) && \
     kafka_conn_decoded(conn,                                                 \
                        kafka_##name##_response_decode(kafka_conn_reader(conn), v, arena, s)))
#define KAFKA_CALL(conn, key, v, name, q, arena, s, timeout_ms) \
    (KAFKA_SEND(conn, key, v, name, q) && KAFKA_RECEIVE(conn, key, v, name, arena, s, timeout_ms))

#endif
