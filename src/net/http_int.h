/* What the HTTP server's files share. Private to src/net.
 *
 * A request belongs to its connection's queue from the first byte of its head until its answer is
 * complete (or the connection ends); then it goes back to the loop's pool. */
#ifndef WEIR_NET_HTTP_INT_H
#define WEIR_NET_HTTP_INT_H

#include "base/assert.h"
#include "net/conn.h"
#include "net/http.h"

#define REQ_POOL_MAX 1024
#define REQ_ALLOC_MAX (64u << 10)

struct http_loop {
    struct http_server *s;
    unsigned index;
    struct loop *loop;
    struct list_head pool;
    unsigned pool_n;
    struct list_head resume; /* http1 connections to go on with at the end of the turn */
    struct loop_hook hook;
    uint64_t date_ms;
    char date[64]; /* "Date: …\r\n" */
    uint64_t requests, errors_4xx, errors_5xx;
    bool draining;
};

struct http_server {
    struct http_server_conf conf;
    struct conn_server *cs;
    struct http_loop *hl;
    struct drain_wait *wait;
    void (*drain_done)(void *arg);
    void *drain_arg;
    uint32_t grace_ms;
};

struct span {
    uint32_t at, len;
};

struct chunk { /* of http_alloc */
    struct chunk *next;
};

struct http_req {
    struct list_node link;
    struct conn *c;
    struct http_loop *hl;
    const struct req_ops *ops;
    void *proto;      /* http1 or http2 connection */
    int32_t stream;   /* HTTP/2 */
    struct buf head;  /* target and headers, as text */
    struct span target;
    struct span *hs;  /* name, value, name, value … */
    uint32_t hs_n, hs_cap;
    struct http_hdr *hdr;
    uint32_t hdr_n, hdr_cap;
    struct buf body;
    struct buf out;   /* what may not be sent yet (earlier answers, HTTP/2 windows) */
    size_t out_at;
    struct slice path, query;
    uint8_t *path_mem;
    struct chunk *chunks;
    size_t chunks_n;
    void *user;
    void (*on_drain)(struct http_req *req);
    enum http_method method;
    int version;
    bool keep_alive, head_only, expect, upgrade, dispatched, started, chunked, ended, was_full;
    bool refused; /* answered by the server itself; the handler never sees it */
};

/* How a version sends. */
struct req_ops {
    /* Status and headers; body_len < 0: unknown. */
    void (*head)(struct http_req *r, int status, const struct http_hdr *h, unsigned n,
                 int64_t body_len);
    void (*data)(struct http_req *r, struct slice data);
    /* The answer is complete; r is gone when it returns. */
    void (*end)(struct http_req *r);
    size_t (*queued)(const struct http_req *r);
};

struct http_req *req_new(struct http_loop *hl, struct conn *c);
void req_free(struct http_req *r);
/* Fills the header table and the path from the spans; 0 or the status to refuse with. */
int req_head_done(struct http_req *r);
/* Head limits; 0 or a status. */
int req_target_add(struct http_req *r, struct slice s);
int req_header_add(struct http_req *r, bool name, bool fresh, struct slice s);
/* Calls the handler. */
void req_dispatch(struct http_req *r);
/* The peer is gone. */
void req_gone(struct http_req *r);
/* Answers a refused request with a problem document. */
void req_refuse(struct http_req *r, int status, const char *detail);
const char *http_reason(int status);
const char *http_date(struct http_loop *hl);

/* http1.c */
void http1_open(struct http_loop *hl, struct conn *c);
void http1_resume(struct list_node *n);
void http1_drain(struct conn *c);
extern const struct conn_proto http1_proto;
/* http2.c */
void http2_open(struct http_loop *hl, struct conn *c, struct slice first);
void http2_drain(struct conn *c);
extern const struct conn_proto http2_proto;
/* ws.c */
extern const struct conn_proto ws_proto;
void ws_drain_conn(struct conn *c);

/* http1 gives its connection up to ws: takes it out of http1's hands; leftover bytes in *rest (owned). */
bool http1_detach(struct http_req *req, struct buf *rest);

#endif
