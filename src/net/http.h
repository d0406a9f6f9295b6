/* An HTTP server, for HTTP/1.0, 1.1 (llhttp) and 2 (nghttp2, cleartext with prior knowledge or by
 * ALPN over TLS). A request is given to the handler when its head and whole body (up to body_max)
 * are there; it is answered at once or later, in any order; HTTP/1.1 responses leave in the order
 * of the requests.
 *
 * Life of a request: (on_head ->) on_request -> (http_reply | http_reply_start, http_reply_write…,
 * http_reply_end | http_upgrade_ws) -> freed by the server. If the peer goes away first,
 * on_close(req) is called once and the request must not be touched after it returns. After
 * http_reply, http_reply_end or http_upgrade_ws the request must not be touched either, and
 * on_close is not called. on_close is never called from inside a function of this header.
 *
 * A peer that has sent its end (half-closed) still gets its answers, for 5 s at most. A peer that
 * sends what is no request gets 400, 408, 413, 414, 417, 431, 501, 503 or 505 with a problem
 * document (RFC 9457), then the connection ends.
 *
 * Framing is strict (RFC 9112, against request smuggling): a request has either one Content-Length
 * or one Transfer-Encoding, which is "chunked"; lines end with CRLF; no folded headers, no space
 * before a colon, no NUL; HTTP/1.1 has exactly one Host. Trailers are read and ignored.
 *
 * All functions are called on the connection's loop, unless they say otherwise. */
#ifndef WEIR_NET_HTTP_H
#define WEIR_NET_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "net/loop.h"

struct http_req;
struct http_server;
struct tls_conf;

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_PATCH,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_OTHER, /* CONNECT and TRACE are refused before the handler */
};

struct http_hdr {
    struct slice name; /* as to be sent; lower case in HTTP/2 */
    struct slice value;
};

struct http_server_conf {
    struct loop *const *loops; /* connections are spread over them */
    unsigned loops_n;
    uint32_t line_max;      /* bytes of the request target; 0 = 8 KiB -> 414 */
    uint32_t head_max;      /* bytes of all headers; 0 = 32 KiB -> 431 */
    uint32_t headers_max;   /* number; 0 = 100 -> 431 */
    uint32_t body_max;      /* bytes; 0 = 16 MiB -> 413 */
    uint32_t pipeline_max;  /* unanswered requests of a connection; 0 = 256: reading pauses */
    uint32_t output_max;    /* bytes queued to a connection before reading pauses; 0 = 1 MiB */
    uint32_t idle_ms;       /* no request under way; 0 = 75 s */
    uint32_t head_ms;       /* from the first byte of a request to the end of its head; 0 = 10 s */
    uint32_t body_rate_min; /* bytes a second, averaged over 10 s; 0 = 100 */
    uint32_t conns_max;     /* 0 = 20,000; more are closed at once */
    uint32_t conns_ip_max;  /* of one IPv4 address or IPv6 /64; 0 = no limit */
    uint32_t send_ms;       /* without a byte taken by the peer while output waits; 0 = 60 s */
    uint64_t bodies_max;    /* bytes of request bodies held at a time; 0 = 256 MiB -> 503 */
    void *ctx;
    /* ctx as given; loop is the index in loops. */
    void (*on_request)(void *ctx, unsigned loop, struct http_req *req);
    /* May be NULL. Called when the head is there, before "100 Continue" is sent: return 0 to go on,
     * a status to refuse with at once without reading the body (401, 404, 413, 415 …), or -1 after
     * having answered by http_reply (the request must not be touched then). on_request is not
     * called for what was refused. */
    int (*on_head)(void *ctx, unsigned loop, struct http_req *req);
    /* See above; may be NULL if every reply is sent inside on_request. */
    void (*on_close)(void *ctx, unsigned loop, struct http_req *req);
};

enum err http_server_new(const struct http_server_conf *conf, struct http_server **out,
                         struct errinfo *info);
/* Listens on addr ("127.0.0.1:8787", "[::1]:0", "unix:/path"); call before the loops run. tls NULL:
 * cleartext. *port (may be NULL) is the port in use. */
enum err http_server_listen(struct http_server *s, const char *addr, struct tls_conf *tls,
                            uint16_t *port, struct errinfo *info);
/* Any thread: no new connections; those there are closed when their requests are answered, or after
 * grace_ms. done(arg) is called on some loop when none is left. */
void http_server_drain(struct http_server *s, uint32_t grace_ms, void (*done)(void *arg),
                       void *arg);
/* The loops have stopped. Closes what is left; on_close is called for requests without an answer.
 */
void http_server_free(struct http_server **s);

struct http_stats {
    uint64_t conns_accepted, conns_refused, conns_open, requests, bytes_in, bytes_out, errors_4xx,
        errors_5xx, timeouts, slow; /* slow: ended as the peer did not take its output */
    uint64_t body_bytes;            /* of requests not yet answered */
};
/* Any thread. */
void http_server_stats(const struct http_server *s, struct http_stats *out);

/* ---- a request ---- */

enum http_method http_method(const struct http_req *req);
struct slice http_method_text(const struct http_req *req);
struct slice http_path(const struct http_req *req);     /* percent-decoded, without the query */
struct slice http_path_raw(const struct http_req *req); /* as sent, without the query */
struct slice http_target(const struct http_req *req);   /* as sent */
/* Decoded value of the first parameter with that name; NULL ptr if there is none. Valid as long as
 * the request. */
struct slice http_query(struct http_req *req, const char *name);
/* Each parameter, decoded; fn returns false to stop. */
void http_query_each(struct http_req *req,
                     bool (*fn)(void *arg, struct slice name, struct slice value), void *arg);
/* First header with that name, any case; NULL ptr if there is none. */
struct slice http_header(const struct http_req *req, const char *name);
size_t http_headers(const struct http_req *req, const struct http_hdr **out);
struct slice http_body(const struct http_req *req);
const char *http_remote(const struct http_req *req); /* "127.0.0.1:54321" */
bool http_is_tls(const struct http_req *req);
int http_version(const struct http_req *req); /* 10, 11, 20 */
struct loop *http_loop(const struct http_req *req);
void *http_user(const struct http_req *req);
void http_user_set(struct http_req *req, void *user);
/* Memory that lives as long as the request, aligned to 16 bytes; NULL beyond 64 KiB in all. */
void *http_alloc(struct http_req *req, size_t n);

/* ---- replies ---- */

/* The whole answer; everything is copied. Content-Length, Date and Connection are added; control
 * characters in names and values become spaces. */
void http_reply(struct http_req *req, int status, const struct http_hdr *h, unsigned n,
                struct slice body);
/* As http_reply, but body is borrowed until release(arg) is called, once: maybe before this
 * returns, at the latest when the connection ends. */
void http_reply_owned(struct http_req *req, int status, const struct http_hdr *h, unsigned n,
                      struct slice body, void (*release)(void *arg), void *arg);
/* Begins an answer of unknown length (chunked, or HTTP/2 data). on_drain (may be NULL) is called
 * when queued output has fallen below a quarter of output_max after http_reply_write said it was
 * full. */
void http_reply_start(struct http_req *req, int status, const struct http_hdr *h, unsigned n,
                      void (*on_drain)(struct http_req *req));
/* Copies; returns the bytes now queued for the peer. At output_max or above, wait for on_drain:
 * what is queued beyond 16 times that (at least 64 MiB) ends the connection. */
size_t http_reply_write(struct http_req *req, struct slice data);
size_t http_reply_queued(const struct http_req *req);
void http_reply_end(struct http_req *req);
/* Instead of http_reply_end: the answer is cut off such that the peer sees it, by closing the
 * connection (HTTP/1) or resetting the stream. The request must not be touched after; on_close is
 * called as for a peer that went away. */
void http_reply_abort(struct http_req *req);

#endif
