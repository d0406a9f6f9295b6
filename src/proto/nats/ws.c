/* NATS in WebSockets, for browsers: a listener of its own, or a path of HTTP's, whose connections become
 * WebSockets and then are clients as any other. Messages of the WebSocket may cut lines anywhere; what a
 * turn has for the client leaves as one message, compressed if that is on and the client offers it. See
 * nats_int.h.
 *
 * Pages of other sites are kept out by the Origin that browsers send: `same` lets in pages of the
 * host that is asked, a list those of these origins, nothing all. Programs send none. */
#include "net/ws.h"

#include <stdlib.h>
#include <strings.h>

#include "net/http.h"
#include "proto/nats/nats_int.h"

#define MESSAGE_TIMES 8u /* max_payloads in a message of the WebSocket, as nats-server has it … */
#define MESSAGE_MOST  (64u << 20) /* … and this at most */
#define LINE_SLACK    (64u << 10) /* for lines and headers, where max_payload is small */

/* ---- a connection ---- */

static void on_bytes(struct ws *ws, void *user, struct slice data)
{
    struct nconn *nc = user;

    (void)ws;
    if (!conn_closing(nc->c))
        nconn_data(nc, data);
}

static void on_drain(struct ws *ws, void *user)
{
    (void)ws;
    nconn_drained(user);
}

static void on_timeout(struct ws *ws, void *user)
{
    (void)ws;
    nconn_timeout(user);
}

static void on_stop(struct ws *ws, void *user)
{
    (void)ws;
    nconn_stop(user);
}

static void on_close(struct ws *ws, void *user, int code)
{
    (void)ws;
    (void)code;
    nconn_closed(user);
}

void nws_finish(struct ws *ws, int code, const char *reason)
{
    ws_finish(ws, code, reason);
}

/* ---- origins ---- */

/* host[:port] of an origin's or header's text. */
struct place {
    struct slice host, port;
};

static struct place place_of(struct slice s, bool tls)
{
    struct place p = {s, tls ? SLICE_LIT("443") : SLICE_LIT("80")};
    size_t i = s.len;

    while (i && s.ptr[i - 1] >= '0' && s.ptr[i - 1] <= '9')
        i--;
    if (i > 1 && i < s.len && s.ptr[i - 1] == ':') {
        p.host = slice_of(s.ptr, i - 1);
        p.port = slice_of(s.ptr + i, s.len - i);
    }
    return p;
}

static bool same_text(struct slice a, struct slice b)
{
    return a.len == b.len &&
           (!a.len || strncasecmp((const char *)a.ptr, (const char *)b.ptr, a.len) == 0);
}

/* Cuts scheme:// off. False: there is none that is known. */
static bool scheme_cut(struct slice *s, bool *tls)
{
    static const char plain[] = "http://", secure[] = "https://";
    size_t n;

    *tls = s->len >= sizeof secure - 1 &&
           strncasecmp((const char *)s->ptr, secure, sizeof secure - 1) == 0;
    n = *tls ? sizeof secure - 1 : sizeof plain - 1;
    if (!*tls && (s->len < n || strncasecmp((const char *)s->ptr, plain, n) != 0))
        return false;
    *s = slice_of(s->ptr + n, s->len - n);
    return true;
}

static bool same_origin(struct slice a, struct slice host, bool host_tls)
{
    struct place p, q;
    bool tls;

    if (!scheme_cut(&a, &tls) || tls != host_tls)
        return false;
    p = place_of(a, tls);
    q = place_of(host, host_tls);
    return same_text(p.host, q.host) && slice_eq(p.port, q.port);
}

static bool origin_allowed(const char *p, const struct http_req *r)
{
    struct slice origin = http_header(r, "origin"), one;
    size_t n;
    bool tls;

    if (!p || !*p || !origin.ptr)
        return true;
    if (strcmp(p, "same") == 0)
        return same_origin(origin, http_header(r, "host"), http_is_tls(r));
    for (; *p; p += n) {
        p += strspn(p, " ,");
        n = strcspn(p, " ,");
        one = slice_of(p, n);
        if (n && scheme_cut(&one, &tls) && same_origin(origin, one, tls))
            return true;
    }
    return false;
}

/* ---- upgrading ---- */

static void refuse(struct http_req *r, int status, const char *text)
{
    struct http_hdr h = {SLICE_LIT("content-type"), SLICE_LIT("text/plain; charset=utf-8")};

    http_reply(r, status, &h, 1, slice_str(text));
}

static void request(struct nats *n, unsigned loop, struct http_req *r, const char *origins)
{
    struct nconn *nc;
    struct ws *ws;

    if (http_method(r) != HTTP_GET) {
        refuse(r, 405, "request method must be GET\n");
        return;
    }
    if (!origin_allowed(origins, r)) {
        nstat_add(&n->loops[loop].refused, 1);
        refuse(r, 403, "origin not allowed\n");
        return;
    }
    nc = nconn_new(n, loop);
    ws = http_upgrade_ws(r, &n->ws_handler, nc, NULL);
    if (!ws) {
        free(nc);
        refuse(r, 400, "not a proper WebSocket upgrade\n");
        return;
    }
    nconn_start(nc, ws_conn(ws), ws);
}

static void on_request(void *ctx, unsigned loop, struct http_req *r)
{
    struct nats *n = ctx;

    request(n, loop, r, n->conf.ws_origins);
}

/* As all of HTTP, it is for its own pages only, if nothing is said. */
void nats_http(void *nats, unsigned loop, struct http_req *r)
{
    struct nats *n = nats;
    const char *origins = n->conf.ws_origins;

    request(n, loop, r, origins && *origins ? origins : "same");
}

void nws_init(struct nats *n)
{
    uint64_t most = (uint64_t)n->conf.payload_max * MESSAGE_TIMES + LINE_SLACK;

    n->ws_handler =
        (struct ws_handler){.on_bytes = on_bytes,
                            .on_drain = on_drain,
                            .on_timeout = on_timeout,
                            .on_stop = on_stop,
                            .on_close = on_close,
                            .deflate = n->conf.ws_deflate,
                            .message_max = (uint32_t)(most < MESSAGE_MOST ? most : MESSAGE_MOST),
                            .queue_max = NATS_OUTPUT};
}

enum err nws_new(struct nats *n, struct errinfo *info)
{
    struct http_server_conf hc = {.loops = n->conf.loops,
                                  .loops_n = n->conf.loops_n,
                                  .body_max = 1024,
                                  .head_ms = n->conf.login_ms,
                                  .conns_max = n->conf.conns_max,
                                  .conns_ip_max = n->conf.conns_ip_max,
                                  .output_max = NATS_OUTPUT,
                                  .send_ms = n->conf.send_ms,
                                  .ctx = n,
                                  .on_request = on_request};

    return http_server_new(&hc, &n->ws, info);
}
