/* An HTTP server, for HTTP/1.0, 1.1 (llhttp) and 2 (nghttp2, cleartext with prior knowledge or by ALPN
 * over TLS). A request is given to the handler when its head and whole body (up to body_max) are there;
 * it is answered at once or later, in any order; HTTP/1.1 responses leave in the order of the requests.
 *
 * Life of a request: on_request -> (http_reply | http_reply_start, http_reply_write…, http_reply_end |
 * http_upgrade_ws) -> freed by the server. If the peer goes away first, on_close(req) is called once
 * and the request must not be touched after it returns. After http_reply, http_reply_end or
 * http_upgrade_ws the request must not be touched either, and on_close is not called.
 *
 * All functions are called on the connection's loop. */
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
    uint32_t conns_ip_max;  /* of one address; 0 = no limit */
    void *ctx;
    /* ctx as given; loop is the index in loops. */
    void (*on_request)(void *ctx, unsigned loop, struct http_req *req);
    /* May be NULL. Called when the head is there: return 0 to go on, or a status to refuse with at once
     * without reading the body (401, 404, 413, 415 …). */
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
void http_server_drain(struct http_server *s, uint32_t grace_ms, void (*done)(void *arg), void *arg);
/* The loops have stopped. Closes what is left. */
void http_server_free(struct http_server **s);

struct http_stats {
    uint64_t conns_accepted, conns_refused, conns_open, requests, bytes_in, bytes_out, errors_4xx,
        errors_5xx, timeouts;
};
void http_server_stats(const struct http_server *s, struct http_stats *out);

/* ---- a request ----------------------------------------------------------------------------------- */

enum http_method http_method(const struct http_req *req);
struct slice http_method_text(const struct http_req *req);
struct slice http_path(const struct http_req *req);   /* percent-decoded, without the query */
struct slice http_target(const struct http_req *req); /* as sent */
/* Decoded value of the first parameter with that name; NULL ptr if there is none. Valid as long as the
 * request. */
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
/* Memory that lives as long as the request; NULL if n is above 64 KiB in all. */
void *http_alloc(struct http_req *req, size_t n);

/* ---- replies ------------------------------------------------------------------------------------- */

/* The whole answer; everything is copied. Content-Length, Date and Connection are added. */
void http_reply(struct http_req *req, int status, const struct http_hdr *h, unsigned n,
                struct slice body);
/* Begins an answer of unknown length (chunked, or HTTP/2 data). on_drain (may be NULL) is called when
 * queued output has fallen below a quarter of output_max after http_reply_write said it was full. */
void http_reply_start(struct http_req *req, int status, const struct http_hdr *h, unsigned n,
                      void (*on_drain)(struct http_req *req));
/* Copies; returns the bytes now queued on the connection. Call when below output_max. */
size_t http_reply_write(struct http_req *req, struct slice data);
size_t http_reply_queued(const struct http_req *req);
void http_reply_end(struct http_req *req);

#endif
