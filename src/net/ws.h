/* WebSocket (RFC 6455), server side, over HTTP/1.1 connections. What the peer sends is parsed by
 * wslay: frames must be masked, text must be UTF-8, control frames are answered here.
 *
 * A protocol that is a stream of bytes elsewhere can have one here (on_bytes): it gets the bytes of
 * messages as they come, wherever they are cut, and what it sends by conn_send and its like on
 * ws_conn leaves as messages at the end of the turn. That can be compressed (permessage-deflate).
 *
 * Life: http_upgrade_ws -> on_message, on_drain … -> on_close, whoever ended it; ws is gone when
 * that returns. on_close is never called from inside a function of this header. A peer that does
 * not read is not read from while its queue is full. All functions are called on the connection's
 * loop. */
#ifndef WEIR_NET_WS_H
#define WEIR_NET_WS_H

#include "net/http.h"

struct ws;
struct ws_frame;

enum ws_opcode { WS_TEXT = 1, WS_BINARY = 2 };

struct ws_handler {
    /* A whole message; data ends with the call. */
    void (*on_message)(struct ws *ws, void *user, enum ws_opcode op, struct slice data);
    /* Queued output fell below a quarter of queue_max after ws_send answered ERR_LIMIT. */
    void (*on_drain)(struct ws *ws, void *user);
    /* Once, at the end, whoever ended it. code: the one given to ws_close, or the peer's (1005: it
     * gave none), or why this side gave the peer up (1002 not WebSocket, 1007 not UTF-8, 1008 too
     * many fragments, 1009 too large), or 1006: the connection just ended. */
    void (*on_close)(struct ws *ws, void *user, int code);
    /* Instead of on_message: a piece of a message; data ends with the call. Nothing pauses reading
     * for output then, and no pings are sent: the protocol has its own. */
    void (*on_bytes)(struct ws *ws, void *user, struct slice data);
    /* With on_bytes: the deadline of ws_conn passed. */
    void (*on_timeout)(struct ws *ws, void *user);
    /* The server stops. NULL: the peer is told (1001). */
    void (*on_stop)(struct ws *ws, void *user);
    bool deflate; /* with on_bytes: messages are compressed if the peer offers it */
    uint32_t
        message_max; /* bytes of a message from the peer, also when inflated; 0 = 1 MiB -> close 1009 */
    uint32_t queue_max; /* bytes queued to the peer; 0 = 1 MiB */
    uint32_t ping_ms;   /* between pings; silence for two of them closes; 0 = 30 s */
};

/* Is this a well-formed WebSocket upgrade request? */
bool http_is_ws_upgrade(const struct http_req *req);
/* Answers 101 and turns the connection into a WebSocket; the request is gone afterwards. Bytes that
 * the peer sent already come to on_message later, not inside this call. handler must outlive ws.
 * NULL if the request is no proper upgrade (then it is still to be answered). subprotocol may be
 * NULL. */
struct ws *http_upgrade_ws(struct http_req *req, const struct ws_handler *handler, void *user,
                           const char *subprotocol);
/* Copies. ERR_LIMIT: the queue is full, nothing was queued (on_drain will come). ERR_CLOSED:
 * closing. */
enum err ws_send(struct ws *ws, enum ws_opcode op, struct slice data);
/* A message encoded once for many receivers; reference-counted, not atomically: usable on one loop
 * only. Frames above 1 KiB are not copied for each receiver. */
struct ws_frame *ws_frame_new(enum ws_opcode op, struct slice data);
struct ws_frame *ws_frame_ref(struct ws_frame *f);
void ws_frame_unref(struct ws_frame **f);
enum err ws_send_shared(struct ws *ws, struct ws_frame *f);
size_t ws_queued(const struct ws *ws);
/* Starts the close handshake; on_close comes when it is done or after 5 s. on_message is not called
 * any more. reason is cut behind 123 bytes. */
void ws_close(struct ws *ws, int code, const char *reason);
/* Sends what is queued and a close frame, and ends the connection without waiting for the peer's. */
void ws_finish(struct ws *ws, int code, const char *reason);
/* Whose output is a stream; only with on_bytes. */
struct conn *ws_conn(struct ws *ws);
struct loop *ws_loop(const struct ws *ws);
const char *ws_remote(const struct ws *ws);

#endif
