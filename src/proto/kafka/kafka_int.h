/* What the files of src/proto/kafka share. Not for anyone else.
 *
 * Life of a request (struct kreq): its frame is collected (conn.c) -> it waits in its connection's
 * queue -> its handler runs, on the connection's loop -> it answers at once, or later: whatever it
 * waits for calls kreq_post from any thread, which runs a function on the loop -> kreq_done ->
 * answers leave in the order of the requests.
 *
 * A connection's requests run one after the other, as Kafka's do, but produce requests in a row run
 * together: their batches are sequenced in the order in which they came, and share syncs.
 *
 * When a connection ends, requests that run lose it (q->kc is NULL) and are cancelled: their handler
 * stops waiting if it can, and calls kreq_done all the same. Everything here but kreq_post is called
 * on the loop of the request. */
#ifndef WEIR_PROTO_KAFKA_INT_H
#define WEIR_PROTO_KAFKA_INT_H

#include <stdatomic.h>

#include "base/list.h"
#include "base/map.h"
#include "base/tbl/limits.h"
#include "broker/broker.h"
#include "io/workers.h"
#include "journal/journal.h"
#include "kafka_messages.h"
#include "net/conn.h"
#include "proto/kafka/codec.h"
#include "proto/kafka/kafka.h"

#define KAFKA_NODE_ID 1
/* KafkaApis error codes that are not the broker's (org.apache.kafka.common.protocol.Errors). */
enum kafka_error {
    KE_UNKNOWN = -1,
    KE_NONE = 0,
    KE_OFFSET_OUT_OF_RANGE = 1,
    KE_CORRUPT_MESSAGE = 2,
    KE_UNKNOWN_TOPIC_OR_PARTITION = 3,
    KE_REQUEST_TIMED_OUT = 7,
    KE_COORDINATOR_NOT_AVAILABLE = 15,
    KE_INVALID_TOPIC = 17,
    KE_INVALID_REQUIRED_ACKS = 21,
    KE_TOPIC_AUTHORIZATION_FAILED = 29,
    KE_GROUP_AUTHORIZATION_FAILED = 30,
    KE_CLUSTER_AUTHORIZATION_FAILED = 31,
    KE_UNSUPPORTED_SASL_MECHANISM = 33,
    KE_ILLEGAL_SASL_STATE = 34,
    KE_UNSUPPORTED_VERSION = 35,
    KE_INVALID_PARTITIONS = 37,
    KE_INVALID_REPLICATION_FACTOR = 38,
    KE_INVALID_REPLICA_ASSIGNMENT = 39,
    KE_INVALID_CONFIG = 40,
    KE_INVALID_REQUEST = 42,
    KE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53,
    KE_SASL_AUTHENTICATION_FAILED = 58,
    KE_UNKNOWN_LEADER_EPOCH = 75,
    KE_FENCED_LEADER_EPOCH = 74,
    KE_FETCH_SESSION_ID_NOT_FOUND = 70,
    KE_INVALID_FETCH_SESSION_EPOCH = 71,
    KE_UNSTABLE_OFFSET_COMMIT = 88,
    KE_UNKNOWN_TOPIC_ID = 100
};
/* The code of one of our errors. */
int16_t kafka_code(enum err e);

enum kafka_op { /* AclOperation */
                KOP_READ = 3,
                KOP_WRITE = 4,
                KOP_CREATE = 5,
                KOP_DELETE = 6,
                KOP_ALTER = 7,
                KOP_DESCRIBE = 8,
                KOP_CLUSTER_ACTION = 9,
                KOP_DESCRIBE_CONFIGS = 10,
                KOP_ALTER_CONFIGS = 11,
                KOP_IDEMPOTENT_WRITE = 12
};
enum kafka_resource { /* ResourceType */
                      KRES_TOPIC = 2,
                      KRES_GROUP = 3,
                      KRES_CLUSTER = 4, /* name "kafka-cluster" */
                      KRES_TRANSACTIONAL_ID = 5
};

struct kbudget {              /* budget.c */
    size_t held, max;         /* bytes; the loop's share */
    struct list_head waiting; /* struct kconn */
};
struct kwait {
    struct list_node link;
    bool waits;
};

struct kframes { /* frames.c */
    struct buf kept[LIMIT_KAFKA_FREE_FRAMES];
    unsigned n, idle; /* idle: looks without change */
    size_t bytes;
    uint64_t moved, seen;
    struct loop_timer timer;
    struct work trim;
    atomic_bool trimming;
};

struct kloop {
    struct kafka *k;
    struct loop *loop;
    unsigned index;
    struct list_head free; /* struct kreq kept for reuse */
    unsigned free_n;
    unsigned live;          /* struct kreq in use */
    struct list_head reads; /* fetch.c: struct kread */
    unsigned reads_n;
    struct append *appends[LIMIT_KAFKA_FREE_APPENDS];
    unsigned appends_n;
    struct buf scratch; /* produce.c: inflated records that are being checked */
    _Atomic uint64_t requests, errors;
    struct kframes frames;
    /* budget.c */
    struct kbudget in, out;
    struct kconn *turn;      /* which may go past in.max, and what was seen of it */
    struct kreq *turn_frame; /* what the last one sent, until it is answered: none has the turn */
    uint64_t turn_began_ms, turn_moved_ms, turn_bytes;
    uint32_t stall_ms;
    struct loop_timer wake;
};

struct kafka {
    struct kafka_conf conf;
    struct broker *broker;
    struct conn_server *conns;
    struct kloop *loops;
    char advertised[300];
    char cluster_id[23]; /* base64 of the log's id */
    atomic_bool draining;
    struct kgroups *groups;  /* groups.c: the timer of the coordinator */
    struct ksec *sec;        /* security.h */
    struct workers *readers; /* of files, for fetches, and of large batches */
    atomic_uint aheads;      /* of its work: reading ahead */
};

#define KAFKA_USER_MAX \
    1019u /* bytes of a name: what a rule's principal has room for behind "User:" */

struct kconn {
    struct kafka *k;
    struct kloop *kl;
    struct conn *c;
    uint8_t head[4]; /* of the frame being collected */
    unsigned head_n;
    struct kreq *part;     /* whose frame is being collected */
    size_t part_len;       /* its bytes in all */
    struct buf in;         /* input that waits until there is room for more requests */
    struct list_head reqs; /* in order of arrival */
    unsigned reqs_n;
    size_t reqs_bytes;
    struct kwait wait_in, wait_out; /* budget.c */
    bool running;                   /* kconn_run is at it */
    bool later;                     /* it goes on in the next turn */
    bool stalled;                   /* a produce request has not got through yet: later ones wait */
    bool trusted;                   /* authenticated, or there is no need */
    uint8_t mech;                   /* sasl.c: by which mechanism */
    char *user;                     /* its own; "ANONYMOUS" without */
    char host[64];                  /* address, without port */
    uint64_t session_end_ms;        /* of the loop's clock; 0: it has none */
    struct ksasl *sasl;             /* the exchange under way */
    uint64_t muted_ms;              /* no request starts before; 0: it may */
    struct loop_timer unmute;
    struct fetch_session *session; /* fetch.c */
    struct share_session *shares;  /* share_session.c */
};

struct kreq {
    struct list_node link; /* kc->reqs, or kl->free */
    struct kconn *kc;      /* NULL: the connection is gone */
    struct kloop *kl;
    struct kafka *k;
    struct broker *b;
    struct buf frame; /* without its length */
    struct arena arena;
    struct kreader r; /* at the body */
    struct kafka_request_header head;
    const struct kafka_api *api;
    int16_t version;
    enum { KREQ_QUEUED, KREQ_RUNNING, KREQ_DONE } state;
    bool mute;     /* there is no answer (acks=0) */
    bool last;     /* the connection ends behind the answer */
    bool held;     /* by kreq_call */
    unsigned refs; /* lent parts of the answer, and 1 */
    struct kwriter w;
    struct loop_task task;
    void (*posted)(struct kreq *q);
    void *state_of;                  /* the handler's */
    void (*cancel)(struct kreq *q);  /* the connection is gone; may be NULL */
    void (*release)(struct kreq *q); /* the answer has been sent; may be NULL */
    uint64_t slice_ns;               /* when the handler was called last */
    size_t counted_in, counted_out;  /* of the loop's budgets */
};

/* ---- conn.c ---- */

extern const struct conn_proto kafka_conn_proto;
void kconn_open(void *k, unsigned loop, struct conn *c, const char *alpn);
/* No more requests; ends when those there are are answered. */
void kconn_drain(struct conn *c);
/* The answer is in q->w (or q->mute). q is not touched afterwards. */
void kreq_done(struct kreq *q);
/* The request cannot be answered: the connection ends. */
void kreq_fail(struct kreq *q, enum err e);
/* Any thread: fn(q) runs on q's loop. One at a time. */
void kreq_post(struct kreq *q, void (*fn)(struct kreq *q));
/* Has q's handler had its share of this turn? Then fn(q) is called in the next one, and it returns.
 * For loops over what a request names, or there is: their length must not hold up others. */
bool kreq_yield(struct kreq *q, void (*fn)(struct kreq *q));
void kloop_free_requests(struct kloop *kl);
void kloop_free_reads(struct kloop *kl);
/* An append whose done is called with q, as append_new; and back. */
struct append *kloop_append_get(struct kreq *q, append_done_fn done);
void kloop_append_put(struct kloop *kl, struct append *a);
/* Starts what may start now. */
void kconn_go(struct kconn *kc);
/* No request starts for so long. */
void kconn_mute(struct kconn *kc, uint32_t ms);
void kreq_lend(struct kreq *q);
void kreq_unref(struct kreq *q);
/* Whatever kreq_done and kreq_fail do in fn(q), q is there until it returns. The way into a handler
 * for all but its first call, which the queue holds: posts, timers, the connection's end. */
void kreq_call(struct kreq *q, void (*fn)(struct kreq *q));
/* Zeroed memory until the request is over; NULL: past LIMIT_KAFKA_ARENA, and kreq_fail was called. */
void *kreq_alloc(struct kreq *q, size_t n, size_t size);
/* A copy in the arena; past it the request fails. */
struct slice kreq_keep(struct kreq *q, struct slice s);
struct slice kreq_printf(struct kreq *q, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Decodes the body into *m: false: it does not decode, the request is over. */
#define KREQ_DECODE(q, name, m) \
    kreq_decoded(q, kafka_##name##_request_decode(&(q)->r, (q)->version, &(q)->arena, (m)))
bool kreq_decoded(struct kreq *q, enum err e);
/* Encodes *m as the answer and ends the request. */
#define KREQ_REPLY(q, name, m)                                      \
    do {                                                            \
        kreq_reply_begin(q);                                        \
        kafka_##name##_response_encode(&(q)->w, (q)->version, (m)); \
        kreq_reply_end(q);                                          \
    } while (0)
void kreq_reply_begin(struct kreq *q);
void kreq_reply_end(struct kreq *q);

/* ---- frames.c ---- */

void kframes_init(struct kloop *kl);
void kframes_fini(struct kloop *kl);
/* b is empty; then it has room for a frame of n bytes, or, if that is a large one, for its first. */
void kframes_take(struct kloop *kl, struct buf *b, size_t n);
/* b is empty then. */
void kframes_put(struct kloop *kl, struct buf *b);

/* ---- budget.c ---- */

void kbudget_init(struct kloop *kl, unsigned loops);
/* q holds so many bytes: of its frame; of its answer, which is on its way. */
void kbudget_count(struct kreq *q, size_t frame, size_t answer);
/* Is kc not to be read, a request of this kind not to be started for now? Then kconn_go is called
 * when it may be. */
bool kbudget_stops_reading(struct kconn *kc);
bool kbudget_stops_start(struct kconn *kc, int16_t api);
/* How many bytes of record batches an answer should have at most, now. */
size_t kbudget_answer_max(const struct kloop *kl);
/* The frame that kc was sending is there: q's. */
void kbudget_frame(struct kconn *kc, struct kreq *q);
/* The connection ends. */
void kbudget_leave(struct kconn *kc);

/* ---- handlers: kafka.c has the table ---- */

typedef void (*kafka_handler)(struct kreq *q);
kafka_handler kafka_handler_of(int16_t key); /* NULL: not served */

#define HANDLER(key, name) void kafka_on_##name(struct kreq *q);
#include "proto/kafka/tbl/handlers.h"
#undef HANDLER

/* ---- security.c ---- */

enum err ksec_new(struct kafka *k, struct errinfo *info);
void ksec_free(struct kafka *k);

/* ---- sasl.c ---- */

/* Does everybody have to say who they are? */
bool ksasl_required(const struct kafka *k);

/* A frame is the mechanism's own bytes, not a request. */
bool ksasl_is_raw(const struct kconn *kc);
void ksasl_raw(struct kconn *kc, struct slice in);
void ksasl_free(struct kconn *kc);

/* ---- quota.c ---- */

enum kquota { KQUOTA_PRODUCE, KQUOTA_FETCH, KQUOTA_TIME, KQUOTAS };
/* Counts bytes, or seconds of a loop's time; kc may be NULL. Past a quota, this or another, the
 * connection is muted for the milliseconds returned, which the answer is to have as
 * throttle_time_ms. */
uint32_t kquota_charge(struct kconn *kc, enum kquota quota, struct slice client, double amount);
/* Is there a quota of time? */
bool kquota_timed(const struct kafka *k);

/* ---- acl.c ---- */

/* May who sent this do that? */
bool kafka_allowed(struct kreq *q, enum kafka_op op, enum kafka_resource r, struct slice name);
/* All that it may do there, as bits by enum kafka_op; topics, groups and the cluster. */
int32_t kafka_operations(struct kreq *q, enum kafka_resource r, struct slice name);
/* … to the cluster; 0: it may not even be described. */
int32_t kafka_cluster_operations(struct kreq *q);
/* … to any resource of the type? */
bool kafka_allowed_some(struct kreq *q, enum kafka_op op, enum kafka_resource r);
#define KAFKA_CLUSTER_NAME SLICE_LIT("kafka-cluster")

/* ---- metadata.c ---- */

/* A topic by its id if `by_id`, else by name: referenced, or NULL with *code. */
struct topic *kafka_topic(struct kreq *q, struct slice name, const uint8_t *id, bool by_id,
                          int16_t *code);
/* Where clients are to connect: host in buf. */
void kafka_address(struct kreq *q, struct slice *host, int32_t *port);

/* ---- fetch.c ---- */

void fetch_session_free(struct kconn *kc);
/* What a request has read, kept for reuse by its loop. */
struct kread {
    struct list_node link;
    struct plog_read r;
};
struct kread *kread_get(struct kloop *kl, struct list_head *reads);
void kreads_put(struct kloop *kl, struct list_head *reads);

/* ---- share_session.c ---- */

void share_sessions_free(struct kconn *kc);

/* ---- groups.c ---- */

enum err kgroups_new(struct kafka *k, struct errinfo *info);
void kgroups_free(struct kafka *k);
void kgroups_drain(struct kafka *k); /* k->draining is set: any thread */

#endif
