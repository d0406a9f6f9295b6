/* WebSocket (RFC 6455), server side, over HTTP/1.1 connections. No extensions. Frames are parsed and
 * made by wslay. All functions are called on the connection's loop. */
#ifndef WEIR_NET_WS_H
#define WEIR_NET_WS_H

#include "net/http.h"

struct ws;
struct ws_frame;

enum ws_opcode { WS_TEXT = 1, WS_BINARY = 2 };

struct ws_handler {
    void (*on_message)(struct ws *ws, void *user, enum ws_opcode op, struct slice data);
    /* Queued output fell below a quarter of queue_max after ws_send answered ERR_LIMIT. */
    void (*on_drain)(struct ws *ws, void *user);
    /* Once, at the end, whoever ended it; ws must not be touched after it returns. */
    void (*on_close)(struct ws *ws, void *user, int code);
    uint32_t message_max; /* bytes of a message from the peer; 0 = 1 MiB -> close 1009 */
    uint32_t queue_max;   /* bytes queued to the peer; 0 = 1 MiB */
    uint32_t ping_ms;     /* between pings; no pong for two of them closes; 0 = 30 s */
};

/* Is this a well-formed WebSocket upgrade request? */
bool http_is_ws_upgrade(const struct http_req *req);
/* Answers 101 and turns the connection into a WebSocket; the request is gone afterwards. Bytes that the
 * peer sent already come to on_message later, not inside this call. handler must outlive ws. NULL if the
 * request is no proper upgrade (then it is still to be answered). subprotocol may be NULL. */
struct ws *http_upgrade_ws(struct http_req *req, const struct ws_handler *handler, void *user,
                           const char *subprotocol);
/* Copies. ERR_LIMIT: the queue is full, nothing was queued (on_drain will come). ERR_CLOSED: closing. */
enum err ws_send(struct ws *ws, enum ws_opcode op, struct slice data);
/* A message encoded once for many receivers; reference-counted, usable on one loop only. */
struct ws_frame *ws_frame_new(enum ws_opcode op, struct slice data);
struct ws_frame *ws_frame_ref(struct ws_frame *f);
void ws_frame_unref(struct ws_frame **f);
enum err ws_send_shared(struct ws *ws, struct ws_frame *f);
size_t ws_queued(const struct ws *ws);
/* Starts the close handshake; on_close comes when it is done or after a timeout. */
void ws_close(struct ws *ws, int code, const char *reason);
struct loop *ws_loop(const struct ws *ws);
const char *ws_remote(const struct ws *ws);

#endif
