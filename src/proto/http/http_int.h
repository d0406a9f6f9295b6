/* What the files of proto/http share: the protocol object, a loop's context, a request. Not for
 * others.
 *
 *   struct http_proto  one; read-only while loops run, but for auth and idem (their own locks)
 *   struct ctx         one a loop, touched by that loop only
 *   struct rq          one request: from dispatch until it is answered and nothing is on its way
 * for it any more. The peer may go before that: rq->req is NULL then, answering only gives the
 * memory back, and what is on its way ends by itself. */
#ifndef WEIR_PROTO_HTTP_HTTP_INT_H
#define WEIR_PROTO_HTTP_HTTP_INT_H

#include <stdatomic.h>

#include "auth/auth.h"
#include "base/buf.h"
#include "base/list.h"
#include "broker/broker.h"
#include "io/thread.h"
#include "net/http.h"
#include "net/ws.h"
#include "proto/http/event.h"
#include "proto/http/http_events.h"
#include "proto/http/metrics.h"
#include "proto/http/publish.h"
#include "rows/form.h"

struct iceberg;
struct live;
struct rq;

/* ---- idempotency keys of requests on their way, over all loops ---- */

#define IDEM_BUCKETS 256u
struct idem {
    struct io_mutex lock;
    struct list_head bucket[IDEM_BUCKETS]; /* lock */
};
void idem_init(struct idem *i);
void idem_fini(struct idem *i);
/* False: the key is on its way with another fingerprint. Otherwise idem_leave must follow. */
bool idem_enter(struct idem *i, const uint8_t key[16], const uint8_t fingerprint[32]);
void idem_leave(struct idem *i, const uint8_t key[16]);

/* ---- the protocol and its contexts ---- */

/* The server closes a connection whose output grows to 16 times output_max. */
#define OUTPUT_TIMES_MAX 8u

struct http_proto {
    struct http_proto_conf conf;
    uint32_t output_max; /* the server's */
    struct auth *auth;
    struct idem idem;
    struct iceberg *iceberg;                                       /* NULL: no catalog is served */
    atomic_uint sql_live;                                          /* queries that have not ended */
    const char *other_path;                                        /* of another protocol … */
    void (*other)(void *arg, unsigned loop, struct http_req *req); /* … NULL: there is none */
    void *other_arg;
    struct ctx *ctx;
    unsigned ctx_n;
};

#define TOPIC_CACHE 1024u /* entries; a power of two */
#define RQ_POOL_MAX 2048u
#define RQ_OUT_KEEP (4u << 10) /* a larger answer's memory is given back */

struct ctx {
    struct http_proto *proto;
    struct loop *loop;
    struct loop_hook hook;
    struct loop_timer flush_timer;
    struct auth_view auth;
    struct publisher *publisher;
    struct live *live;
    struct ws_handler ws;
    struct list_head rq_idle;
    unsigned rq_idle_n, rq_n, reads_n, live_queries_n;
    struct topic *topics[TOPIC_CACHE];
    struct http_metrics metrics;
    struct buf scratch; /* used within one function */
    struct event_parser parser;
    struct event event;
};

/* The topic of this name, borrowed until the loop's turn ends; NULL if there is none. */
struct topic *ctx_topic(struct ctx *ctx, struct slice name);

/* ---- requests ---- */

#define RQ_EXTRA_MAX 6

struct rq {
    struct ctx *ctx;
    struct http_req *req;        /* NULL: the peer has gone */
    struct list_node link;       /* idle */
    int route;                   /* index in the table; -1 none */
    struct slice seg[2];         /* variable parts of the path; valid as long as req */
    const struct principal *who; /* valid in the turn of dispatch */
    uint64_t start_ns;
    struct buf out;                      /* the answer's body */
    struct http_hdr extra[RQ_EXTRA_MAX]; /* the answer's further headers */
    unsigned extra_n;
    void (*gone)(
        struct rq *rq); /* the peer left before the answer; NULL: wait for what is on its way */
    void *state;        /* the route's own */

    /* changes at the broker */
    struct loop_task task;
    enum err err;
    struct errinfo info;
    void (*then)(struct rq *rq);
    atomic_uint pending;
    atomic_flag failed;

    struct post post; /* POST /events */
};

struct rq *rq_new(struct ctx *ctx, struct http_req *req);
/* Gives it back without an answer: its connection became something else, or the peer has gone. */
void rq_free(struct rq *rq);
/* Answers and gives the request back: it is not to be touched afterwards. Header values added
 * before must live until then. */
void rq_header(struct rq *rq, const char *name, struct slice value);
void rq_reply(struct rq *rq, int status, const char *media, struct slice body);
void rq_reply_out(struct rq *rq, int status, const char *media); /* rq->out */
void rq_reply_empty(struct rq *rq, int status);
void rq_fail(struct rq *rq, enum err e, const struct errinfo *info);
void rq_fail_index(struct rq *rq, enum err e, const struct errinfo *info, int64_t index);
void rq_problem(struct rq *rq, int status, const char *code, const char *title, const char *detail);
/* Begins a streamed answer (CORS headers included). */
void rq_stream(struct rq *rq, int status, const char *media, void (*on_drain)(struct http_req *));
/* The problem document of an error, appended; index < 0: without. */
enum err problem_write(struct buf *out, enum err e, const struct errinfo *info, int64_t index);

/* Broker calls that finish later: rq_begin, then each call with rq_done and rq, then rq_end with
 * the error of a call that failed at once. then() runs on the loop when all have come; rq->err is
 * the first error. */
void rq_begin(struct rq *rq, void (*then)(struct rq *rq));
void rq_one_more(struct rq *rq);
void rq_done(void *arg, enum err e, const struct errinfo *info);
/* A then(): answers 204, or rq->err. */
void rq_reply_done(struct rq *rq);

struct slice rq_param(struct rq *rq, const char *name);
/* An integer parameter in [least, most]; def if absent. ERR_INVALID. */
enum err rq_param_int(struct rq *rq, const char *name, int64_t least, int64_t most, int64_t def,
                      int64_t *out, struct errinfo *info);
bool rq_param_bool(struct rq *rq, const char *name);
/* ERR_FORBIDDEN unless the sender may do this to the topic or pattern. */
enum err rq_permit(struct rq *rq, unsigned access, struct slice topic, struct errinfo *info);

#define MEDIA_JSON    "application/json"
#define MEDIA_NDJSON  "application/x-ndjson"
#define MEDIA_PROBLEM "application/problem+json"

/* ---- what a reader wants: stream or topic, after, from, type (select.c) ---- */

struct selection {
    struct reader_conf conf;
    struct slice types; /* comma-separated; empty: all. Views into the request */
};
/* from_default: READ_FROM_START or READ_FROM_END. Checks permission, too. */
enum err selection_parse(struct rq *rq, int from_default, struct selection *out,
                         struct errinfo *info);
/* `after` and `from` alone; c is left as it is where they are absent. */
enum err selection_place(struct rq *rq, struct reader_conf *c, struct errinfo *info);
/* Were records deleted that a reader would have begun with, had they been there? After a restart it
 * is true also if they may have been. */
bool selection_lost(struct broker *b, const struct reader_conf *conf);
bool types_match(struct slice types, const struct reader_record *r);
/* The best of the media types that the client accepts; -1: none. Without Accept the first. */
int accept_pick(struct slice accept, const char *const *offers, unsigned n);

/* ---- statements (sql.c) ---- */

/* The form of rows that Accept asks for; -1: none of ours, which was answered. */
int rq_rows_form(struct rq *rq);
/* Answers with the statement's rows. text, params, inputs (one at most), limits of ask count. */
void rq_sql(struct rq *rq, const struct sql_request *ask, enum rows_form form);

/* ---- routes ---- */

void route_hello(struct rq *rq);
void route_health(struct rq *rq);
void route_ready(struct rq *rq);
void route_metrics(struct rq *rq);
void route_openapi(struct rq *rq);
void route_events_post(struct rq *rq);
void route_events_get(struct rq *rq);
void route_events_stream(struct rq *rq);
void route_events_ws(struct rq *rq);
void route_checkpoints_list(struct rq *rq);
void route_checkpoint_get(struct rq *rq);
void route_checkpoint_put(struct rq *rq);
void route_checkpoint_delete(struct rq *rq);
void route_topics_list(struct rq *rq);
void route_topic_create(struct rq *rq);
void route_topic_get(struct rq *rq);
void route_topic_alter(struct rq *rq);
void route_topic_delete(struct rq *rq);
void route_partitions(struct rq *rq);
void route_records_delete(struct rq *rq);
void route_groups_list(struct rq *rq);
void route_group_get(struct rq *rq);
void route_group_delete(struct rq *rq);
void route_lake_list(struct rq *rq);
void route_lake_get(struct rq *rq);
void route_lake_job(struct rq *rq);
void route_iceberg(struct rq *rq);
void route_tokens_list(struct rq *rq);
void route_token_create(struct rq *rq);
void route_token_delete(struct rq *rq);
void route_sql(struct rq *rq);
void route_sql_live(struct rq *rq);
void route_transforms_list(struct rq *rq);
void route_transform_get(struct rq *rq);
void route_transform_put(struct rq *rq);
void route_transform_delete(struct rq *rq);
void route_transform_act(struct rq *rq);

/* Finds the route, checks the token, runs it. */
void rq_dispatch(struct rq *rq);
/* Every route, for the metrics and for the test that holds routes and document together. */
unsigned routes_count(void);
const char *route_method(unsigned i);
const char *route_path(unsigned i);

/* ---- live readers (live.c) ---- */

struct live *live_new(struct ctx *ctx);
/* All connections are closed. */
void live_free(struct live **l);
bool live_idle(const struct live *l);
void ws_handler_fill(struct ctx *ctx);

#endif
