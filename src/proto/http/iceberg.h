/* Iceberg's REST catalog protocol, served below /iceberg: what its files share. docs/lake.md says what
 * is served; calls may wait for storage, so they run on threads of the catalog's own.
 *
 *   route ─> struct ice_call, queued ─> thread: ice_call_run ─> loop: answer */
#ifndef WEIR_PROTO_HTTP_ICEBERG_H
#define WEIR_PROTO_HTTP_ICEBERG_H

#include "auth/auth.h"
#include "base/buf.h"
#include "lake/catalog.h"
#include "net/http.h"
#include "net/loop.h"

struct iceberg;
struct rq;

#define ICE_SEGMENTS 5

/* One call: from the route until its answer. Texts are owned. */
struct ice_call {
    struct ice_call *next; /* waiting */
    struct loop_task task;
    struct rq *rq;
    struct catalog *catalog; /* set by the thread */
    struct store *store;
    enum http_method method;
    char *segment[ICE_SEGMENTS]; /* of the path behind /iceberg/v1/ */
    unsigned segments;
    char *body, *page_token, *none_match; /* NULL: not given */
    size_t body_len;
    int64_t page_size; /* 0: not given */
    bool purge, refs_only;
    struct principal who;
    bool everything; /* the sender may do everything */
    /* answer */
    int status;
    struct buf out; /* empty: no body */
    char etag[24];  /* quoted; empty: none */
};

/* Runs it: sets the answer. On a thread of the catalog. */
void ice_call_run(struct ice_call *c);
/* The answer is this error, in the protocol's form. type NULL: by the error. */
void ice_fail(struct ice_call *c, enum err e, const char *type, const char *message);

/* conf: of the store in which the tables lie; copied as far as texts stay. Opens nothing yet. */
struct iceberg *iceberg_new(const struct store_conf *conf, struct io *io);
/* No call may be under way. */
void iceberg_free(struct iceberg **ice);

#endif
