/* What the HTTP server's files share. Private to src/net.
 *
 * A request belongs to its connection's queue from the first byte of its head until its answer is
 * complete (or the connection ends); then it goes back to the loop's pool. */
#ifndef WEIR_NET_HTTP_INT_H
#define WEIR_NET_HTTP_INT_H

#include "base/arena.h"
#include "base/assert.h"
#include "base/buf.h"
#include "net/conn.h"
#include "net/http.h"
#include "net/tbl/limits.h"

struct http_loop {
    struct http_server *s;
    unsigned index;
    struct loop *loop;
    struct list_head pool;
    unsigned pool_n;
    struct list_head graves; /* states of http1 whose connection has another protocol now */
    struct loop_hook hook;
    uint64_t date_ms;
    char date[64];    /* "date: …\r\n" */
    conn_stat bodies; /* bytes of the bodies in requests */
    conn_stat requests, errors_4xx, errors_5xx;
    struct loop_task drain;
    bool draining;
    struct ws_deflate *deflate; /* NULL: not needed yet */
};

struct http_server {
    struct http_server_conf conf;
    struct conn_server *cs;
    struct http_loop *hl;
    struct loop_timer drain_timer; /* on the first loop */
    uint32_t drained_ms;
    void (*drain_done)(void *arg);
    void *drain_arg;
    uint32_t grace_ms;
    bool draining;
};

struct span {
    uint32_t at, len;
};

struct http_req {
    struct list_node link;
    struct conn *c;
    const struct req_ops *ops;
    void *proto;        /* struct http1 or http2 */
    struct span target; /* in head */
    struct slice path, raw_path, query;
    struct outq out; /* what may not be sent yet (earlier answers, HTTP/2 windows) */
    void *user;
    void (*on_drain)(struct http_req *req);
    uint64_t since_ms; /* HTTP/2: of the window in which the body's rate is measured */
    uint64_t moved_ms; /* HTTP/2: when output last left */
    size_t seen;       /* HTTP/2: bytes of the body in that window */
    int32_t stream;    /* HTTP/2 */
    uint32_t hs_n, hdr_n;
    enum http_method method;
    int version;
    int bad; /* HTTP/2: the status to refuse with when the head is there */
    bool keep_alive, head_only, has_body, expect, upgrade, head_done, dispatched;
    bool in_head;  /* on_head runs: an answer does not end the request yet */
    bool started;  /* the answer's head was given */
    bool chunked;  /* the answer is (HTTP/1); it has a body that must be ended (HTTP/2) */
    bool ended;    /* the answer is complete */
    bool was_full; /* the handler was told to wait */
    bool refused;  /* answered by the server itself; the handler never sees it */

    /* from here on kept when the request is used again */
    struct http_loop *hl;
    struct buf head; /* target and headers, as text */
    struct buf body;
    struct span *hs; /* name, value, name, value … in head */
    uint32_t hs_cap, hdr_cap;
    struct http_hdr *hdr;
    struct arena mem;
};

/* How a version sends. */
struct req_ops {
    /* Status and headers; body_len < 0: unknown. */
    void (*head)(struct http_req *r, int status, const struct http_hdr *h, unsigned n,
                 int64_t body_len);
    void (*data)(struct http_req *r, struct slice data);
    /* As data, lent. */
    void (*lend)(struct http_req *r, struct slice data, void (*release)(void *arg), void *arg);
    /* The answer is complete; r is gone when it returns (unless in_head). */
    void (*end)(struct http_req *r);
    size_t (*queued)(const struct http_req *r);
    /* The answer cannot be completed. */
    void (*abort)(struct http_req *r);
};

/* ---- req.c ---- */
struct http_req *req_new(struct http_loop *hl, struct conn *c);
void req_free(struct http_req *r);
void req_delete(struct http_req *r); /* one from the pool */
/* Parts of the head, as they come: 0 or the status to refuse with. */
int req_target_add(struct http_req *r, struct slice s);
int req_header_add(struct http_req *r, bool name, bool fresh, struct slice s);
/* Fills the header table and the path; 0 or a status. */
int req_head_done(struct http_req *r);
/* 0, 413 or 503. */
int req_body_add(struct http_req *r, struct slice s);
enum http_method req_method_of(struct slice name);

/* ---- http.c ---- */
/* Asks on_head. False: r is refused, and answered. */
bool req_head_ask(struct http_req *r);
/* Calls the handler. */
void req_dispatch(struct http_req *r);
/* The peer is gone. */
void req_gone(struct http_req *r);
/* Answers with a problem document. */
void req_refuse(struct http_req *r, int status, const char *detail);
/* The handler, if it waits for it, is told that output has drained. */
void req_drained(struct http_req *r);
const char *http_reason(int status);
const char *http_date(struct http_loop *hl);

/* The connections' server, for tests and other protocols on the same loops. */
struct conn_server *http_server_conns(struct http_server *s);

/* ---- http1.c ---- */
void http1_open(struct http_loop *hl, struct conn *c);
void http1_drain(struct conn *c);
extern const struct conn_proto http1_proto;
/* http1 gives its connection up: frees req; what was read, but not parsed, goes to rest (owned). */
void http1_detach(struct http_req *req, struct buf *rest);
bool http1_may_detach(const struct http_req *req);
void http1_bury(struct list_node *grave);

/* ---- http2.c ---- */
void http2_open(struct http_loop *hl, struct conn *c, struct slice first);
void http2_drain(struct conn *c);
extern const struct conn_proto http2_proto;

/* ---- ws.c ---- */
extern const struct conn_proto ws_proto;
void ws_drain_conn(struct conn *c);
/* More bytes that came with the upgrade request. */
void ws_rest_add(struct conn *c, struct slice data);

#endif
