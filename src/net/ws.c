/* WebSocket over wslay. See ws.h. wslay parses input from `in` (what the socket gave) and its output
 * goes straight into the connection's output buffer; data frames to the peer are made here (unmasked,
 * one frame a message), so that one frame can be shared by many receivers. */
#include "net/ws.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <wslay/wslay.h>

#include "base/endian.h"
#include "base/hex.h"
#include "base/mem.h"
#include "net/http_int.h"

#define CLOSE_WAIT_MS 5000
#define CLOSE_GOING_AWAY 1001
#define CLOSE_ABNORMAL 1006

struct ws {
    struct conn *c;
    struct http_loop *hl;
    wslay_event_context_ptr ctx;
    const struct ws_handler *handler;
    void *user;
    struct slice in; /* being read by wslay */
    struct loop_timer ping, first;
    struct buf rest; /* came with the upgrade; given on at the end of the turn */
    unsigned busy, unanswered;
    int code;
    bool dead, closing, was_full;
};

struct ws_frame {
    unsigned refs;
    size_t len;
    uint8_t bytes[];
};

static uint32_t queue_max(const struct ws *w)
{
    return w->handler->queue_max ? w->handler->queue_max : 1u << 20;
}

static uint32_t ping_ms(const struct ws *w)
{
    return w->handler->ping_ms ? w->handler->ping_ms : 30000;
}

/* ---- wslay's side -------------------------------------------------------------------------------- */

static ssize_t cb_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *arg)
{
    struct ws *w = arg;

    if (w->in.len == 0) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    if (len > w->in.len)
        len = w->in.len;
    memcpy(buf, w->in.ptr, len);
    w->in.ptr += len;
    w->in.len -= len;
    return (ssize_t)len;
}

static ssize_t cb_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t len, int flags,
                       void *arg)
{
    struct ws *w = arg;

    conn_send(w->c, slice_of(data, len));
    return (ssize_t)len;
}

static void cb_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *m,
                       void *arg)
{
    struct ws *w = arg;

    if (m->opcode == WSLAY_PONG) {
        w->unanswered = 0;
    } else if (m->opcode == WSLAY_CONNECTION_CLOSE) {
        w->code = m->status_code ? m->status_code : 1005;
    } else if (!wslay_is_ctrl_frame(m->opcode) && !w->dead && !w->closing) {
        w->handler->on_message(w, w->user, (enum ws_opcode)m->opcode,
                               slice_of(m->msg, m->msg_length));
    }
}

static const struct wslay_event_callbacks callbacks = {
    .recv_callback = cb_recv,
    .send_callback = cb_send,
    .on_msg_recv_callback = cb_message,
};

static void ws_free(struct ws *w)
{
    wslay_event_context_free(w->ctx);
    buf_fini(&w->rest);
    free(w);
}

/* Lets wslay send its own control frames and sees whether the conversation is over. */
static void pump(struct ws *w)
{
    if (w->dead)
        return;
    if (wslay_event_want_write(w->ctx) && wslay_event_send(w->ctx) != 0) {
        conn_close(w->c, false);
        return;
    }
    if (!wslay_event_want_read(w->ctx) && !wslay_event_want_write(w->ctx))
        conn_close(w->c, true);
}

static void on_data(struct conn *c, struct slice data)
{
    struct ws *w = c->state;

    w->busy++;
    w->in = data;
    if (wslay_event_recv(w->ctx) != 0)
        conn_close(c, false);
    w->in = SLICE_NULL;
    pump(w);
    if (--w->busy == 0 && w->dead)
        ws_free(w);
}

static void on_drain(struct conn *c)
{
    struct ws *w = c->state;

    if (!w->was_full || w->closing)
        return;
    w->was_full = false;
    w->busy++;
    if (w->handler->on_drain)
        w->handler->on_drain(w, w->user);
    if (--w->busy == 0 && w->dead)
        ws_free(w);
}

static void on_timeout(struct conn *c)
{
    conn_close(c, false);
}

static void on_close(struct conn *c)
{
    struct ws *w = c->state;

    w->dead = true;
    loop_timer_cancel(w->hl->loop, &w->ping);
    loop_timer_cancel(w->hl->loop, &w->first);
    w->handler->on_close(w, w->user, w->code);
    if (w->busy == 0)
        ws_free(w);
}

const struct conn_proto ws_proto = {on_data, on_drain, on_timeout, on_close};

static void on_ping(struct loop_timer *t)
{
    struct ws *w = (struct ws *)(void *)((char *)t - offsetof(struct ws, ping));
    struct wslay_event_msg m = {.opcode = WSLAY_PING};

    if (w->unanswered >= 2) {
        conn_close(w->c, false);
        return;
    }
    w->unanswered++;
    wslay_event_queue_msg(w->ctx, &m);
    pump(w);
    if (!w->c->closed)
        loop_timer_arm(w->hl->loop, t, ping_ms(w));
}

/* Bytes that came with the upgrade. */
static void on_first(struct loop_timer *t)
{
    struct ws *w = (struct ws *)(void *)((char *)t - offsetof(struct ws, first));
    struct buf rest = w->rest;

    buf_init(&w->rest, 1);
    on_data(w->c, buf_slice(&rest));
    buf_fini(&rest);
}

/* ---- upgrading ----------------------------------------------------------------------------------- */

static bool has_token(struct slice list, const char *want)
{
    size_t len = strlen(want), i = 0;

    while (i < list.len) {
        size_t start, end;

        while (i < list.len && (list.ptr[i] == ' ' || list.ptr[i] == ',' || list.ptr[i] == '\t'))
            i++;
        start = i;
        while (i < list.len && list.ptr[i] != ',')
            i++;
        end = i;
        while (end > start && (list.ptr[end - 1] == ' ' || list.ptr[end - 1] == '\t'))
            end--;
        if (end - start == len &&
            strncasecmp((const char *)list.ptr + start, want, len) == 0)
            return true;
    }
    return false;
}

bool http_is_ws_upgrade(const struct http_req *r)
{
    uint8_t raw[24];
    size_t n = 0;
    struct slice key = http_header(r, "sec-websocket-key");

    return r->version == 11 && r->method == HTTP_GET &&
           has_token(http_header(r, "upgrade"), "websocket") &&
           has_token(http_header(r, "connection"), "upgrade") &&
           slice_eq_str(http_header(r, "sec-websocket-version"), "13") && key.len == 24 &&
           base64_decode((const char *)key.ptr, key.len, raw, &n) && n == 16;
}

static void accept_key(struct slice key, char out[BASE64_LEN(20) + 1])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t text[24 + sizeof guid - 1], sha[20];

    ASSERT(key.len == 24);
    memcpy(text, key.ptr, 24);
    memcpy(text + 24, guid, sizeof guid - 1);
    SHA1(text, sizeof text, sha);
    base64_encode(sha, sizeof sha, out);
}

struct ws *http_upgrade_ws(struct http_req *r, const struct ws_handler *handler, void *user,
                           const char *subprotocol)
{
    char accept[BASE64_LEN(20) + 1];
    struct http_hdr h[4] = {{SLICE_LIT("upgrade"), SLICE_LIT("websocket")},
                            {SLICE_LIT("connection"), SLICE_LIT("Upgrade")}};
    struct conn *c = r->c;
    struct http_loop *hl = r->hl;
    struct buf rest;
    struct ws *w;

    if (!http_is_ws_upgrade(r))
        return NULL;
    accept_key(http_header(r, "sec-websocket-key"), accept);
    h[2] = (struct http_hdr){SLICE_LIT("sec-websocket-accept"), slice_str(accept)};
    if (subprotocol)
        h[3] = (struct http_hdr){SLICE_LIT("sec-websocket-protocol"), slice_str(subprotocol)};
    r->ops->head(r, 101, h, subprotocol ? 4 : 3, 0);
    if (!http1_detach(r, &rest))
        return NULL;
    w = xcalloc(1, sizeof *w);
    w->c = c;
    w->hl = hl;
    w->handler = handler;
    w->user = user;
    w->code = CLOSE_ABNORMAL;
    w->rest = rest;
    ASSERT(wslay_event_context_server_init(&w->ctx, &callbacks, w) == 0);
    wslay_event_config_set_max_recv_msg_length(
        w->ctx, handler->message_max ? handler->message_max : 1u << 20);
    c->proto = &ws_proto;
    c->state = w;
    loop_timer_init(&w->ping, on_ping);
    loop_timer_init(&w->first, on_first);
    loop_timer_arm(hl->loop, &w->ping, ping_ms(w));
    if (w->rest.len)
        loop_timer_arm(hl->loop, &w->first, 0);
    return w;
}

/* ---- sending ------------------------------------------------------------------------------------- */

static size_t header_make(uint8_t h[10], enum ws_opcode op, size_t len)
{
    h[0] = (uint8_t)(0x80 | op);
    if (len < 126) {
        h[1] = (uint8_t)len;
        return 2;
    }
    if (len < 65536) {
        h[1] = 126;
        be16_store(h + 2, (uint16_t)len);
        return 4;
    }
    h[1] = 127;
    be64_store(h + 2, len);
    return 10;
}

static enum err can_send(struct ws *w)
{
    if (w->dead || w->closing || w->c->closing)
        return ERR_CLOSED;
    if (conn_queued(w->c) >= queue_max(w)) {
        w->was_full = true;
        w->c->was_full = true;
        return ERR_LIMIT;
    }
    return ERR_OK;
}

enum err ws_send(struct ws *w, enum ws_opcode op, struct slice data)
{
    uint8_t head[10];
    enum err e = can_send(w);

    if (e)
        return e;
    conn_send(w->c, slice_of(head, header_make(head, op, data.len)));
    conn_send(w->c, data);
    return w->c->closed ? ERR_CLOSED : ERR_OK;
}

struct ws_frame *ws_frame_new(enum ws_opcode op, struct slice data)
{
    uint8_t head[10];
    size_t n = header_make(head, op, data.len);
    struct ws_frame *f = xmalloc(sizeof *f + n + data.len);

    f->refs = 1;
    f->len = n + data.len;
    memcpy(f->bytes, head, n);
    memcpy(f->bytes + n, data.ptr, data.len);
    return f;
}

struct ws_frame *ws_frame_ref(struct ws_frame *f)
{
    f->refs++;
    return f;
}

void ws_frame_unref(struct ws_frame **f)
{
    if (--(*f)->refs == 0)
        free(*f);
    *f = NULL;
}

enum err ws_send_shared(struct ws *w, struct ws_frame *f)
{
    enum err e = can_send(w);

    if (e)
        return e;
    conn_send(w->c, slice_of(f->bytes, f->len));
    return w->c->closed ? ERR_CLOSED : ERR_OK;
}

size_t ws_queued(const struct ws *w)
{
    return conn_queued(w->c);
}

void ws_close(struct ws *w, int code, const char *reason)
{
    if (w->dead || w->closing)
        return;
    w->closing = true;
    w->code = code;
    wslay_event_queue_close(w->ctx, (uint16_t)code, (const uint8_t *)reason, strlen(reason));
    conn_deadline(w->c, CLOSE_WAIT_MS);
    pump(w);
}

struct loop *ws_loop(const struct ws *w)
{
    return w->hl->loop;
}

const char *ws_remote(const struct ws *w)
{
    return w->c->remote;
}

void ws_drain_conn(struct conn *c)
{
    ws_close(c->state, CLOSE_GOING_AWAY, "the server stops");
}
