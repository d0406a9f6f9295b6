/* WebSocket over wslay. See ws.h. wslay parses input from `in` (what the socket gave) and its
 * output goes straight into the connection's output buffer; data frames to the peer are made here
 * (unmasked, one frame a message), so that one frame can be shared by many receivers.
 *
 * With on_bytes wslay keeps no message: its pieces are given on as they come. The protocol's output
 * lies in the connection's queue behind `framed`, as it is, until it is made messages of: at the end
 * of the turn, or before a control frame. */
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
#include "net/ws_deflate.h"

#define CLOSE_GOING_AWAY 1001
#define CLOSE_PROTOCOL   1002
#define CLOSE_NO_STATUS  1005
#define CLOSE_ABNORMAL   1006
#define CLOSE_POLICY     1008
#define REASON_MAX       123u /* bytes, of a close frame (RFC 6455 section 5.5) */

struct ws {
    struct conn *c;
    struct http_loop *hl;
    wslay_event_context_ptr ctx;
    const struct ws_handler *handler;
    void *user;
    struct slice in; /* being read by wslay */
    struct loop_timer ping;
    struct buf rest;            /* came with the upgrade; given on in the next turn */
    struct ws_inflate *inflate; /* of the compressed message that comes in */
    uint64_t framed;            /* with on_bytes: output up to here, in all, are frames */
    unsigned unanswered, fragments;
    int code;
    bool in_recv, closing, was_full;
    bool deflate;         /* agreed on */
    bool control, packed; /* the frame that comes in; the message */
};

struct ws_frame {
    unsigned refs;
    size_t len;
    uint8_t bytes[];
};

static uint32_t queue_max(const struct ws *w)
{
    return w->handler->queue_max ? w->handler->queue_max : WS_QUEUE_DEFAULT;
}

static uint32_t message_max(const struct ws *w)
{
    return w->handler->message_max ? w->handler->message_max : WS_MESSAGE_DEFAULT;
}

static uint32_t ping_ms(const struct ws *w)
{
    return w->handler->ping_ms ? w->handler->ping_ms : WS_PING_MS_DEFAULT;
}

/* ---- a stream's output ---- */

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

static uint64_t queued_end(const struct ws *w)
{
    return w->c->bytes_out + conn_queued(w->c);
}

/* Sends the first n bytes of q as a message, compressed. */
static void pack(struct ws *w, struct outq *q, size_t n)
{
    struct ws_deflate *d = w->hl->deflate;
    uint8_t piece[4096], head[10];
    struct slice packed;

    if (!d)
        d = w->hl->deflate = ws_deflate_new();
    while (n) {
        size_t got = outq_take(q, &w->c->cl->pool, piece, n < sizeof piece ? n : sizeof piece);

        ws_deflate_add(d, slice_of(piece, got));
        n -= got;
    }
    packed = ws_deflate_end(d);
    n = header_make(head, WS_BINARY, packed.len);
    head[0] |= WSLAY_RSV1_BIT << 4;
    conn_send(w->c, slice_of(head, n));
    conn_send(w->c, packed);
}

/* What the protocol has queued becomes messages. */
static void frame_output(struct ws *w)
{
    struct out_pool *pool = &w->c->cl->pool;
    struct outq raw = {0}, rest;
    uint8_t head[10];
    size_t n;

    if (!w->handler->on_bytes || queued_end(w) == w->framed || conn_closing(w->c))
        return;
    outq_split(&w->c->out, pool,
               w->framed > w->c->bytes_out ? (size_t)(w->framed - w->c->bytes_out) : 0, &raw);
    while (raw.bytes && !conn_closing(w->c)) {
        n = raw.bytes < WS_STREAM_MESSAGE ? raw.bytes : WS_STREAM_MESSAGE;
        if (w->deflate && n > WS_DEFLATE_LEAST) {
            pack(w, &raw, n);
            continue;
        }
        rest = (struct outq){0};
        outq_split(&raw, pool, n, &rest);
        conn_send(w->c, slice_of(head, header_make(head, WS_BINARY, n)));
        conn_send_queue(w->c, &raw);
        raw = rest;
    }
    outq_clear(&raw, pool);
    w->framed = queued_end(w);
}

/* ---- wslay's side ---- */

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

    frame_output(w);
    conn_send(w->c, slice_of(data, len));
    w->framed = queued_end(w);
    return (ssize_t)len;
}

static void give_up(struct ws *w, int code)
{
    if (!w->closing)
        w->code = code;
    w->closing = true;
    wslay_event_queue_close(w->ctx, (uint16_t)code, NULL, 0);
    wslay_event_shutdown_read(w->ctx);
}

/* What wslay lets pass: a close frame with half a code; and it keeps each fragment in an allocation
 * of its own, so their number has a limit, too. */
static void cb_frame(wslay_event_context_ptr ctx,
                     const struct wslay_event_on_frame_recv_start_arg *f, void *arg)
{
    struct ws *w = arg;
    int code = 0;

    if (f->opcode == WSLAY_CONNECTION_CLOSE && f->payload_length == 1)
        code = CLOSE_PROTOCOL;
    w->control = wslay_is_ctrl_frame(f->opcode);
    if (w->control || f->opcode == WSLAY_CONTINUATION_FRAME) {
        if (wslay_get_rsv1(f->rsv))
            code = CLOSE_PROTOCOL;
    } else {
        w->packed = wslay_get_rsv1(f->rsv);
        if (w->packed && !w->inflate)
            w->inflate = ws_inflate_new(message_max(w));
    }
    if (!w->control && !w->handler->on_bytes) {
        w->fragments = f->opcode == WSLAY_CONTINUATION_FRAME ? w->fragments + 1 : 0;
        if (w->fragments > WS_FRAGMENTS_MAX)
            code = CLOSE_POLICY;
    }
    if (code)
        give_up(w, code);
}

static void take_bytes(void *arg, struct slice piece)
{
    struct ws *w = arg;

    if (!w->closing && !conn_closing(w->c))
        w->handler->on_bytes(w, w->user, piece);
}

/* A piece of a frame's payload. */
static void cb_chunk(wslay_event_context_ptr ctx,
                     const struct wslay_event_on_frame_recv_chunk_arg *k, void *arg)
{
    struct ws *w = arg;
    struct slice piece = slice_of(k->data, k->data_length);
    int code = 0;

    if (!w->handler->on_bytes || w->control || !piece.len)
        return;
    if (w->packed)
        code = ws_inflate_add(w->inflate, piece, false, take_bytes, w);
    else
        take_bytes(w, piece);
    if (code && !w->closing && !conn_closing(w->c))
        give_up(w, code);
}

/* A stream's message is complete. */
static void message_end(struct ws *w)
{
    int code = 0;

    if (w->packed)
        code = ws_inflate_add(w->inflate, SLICE_NULL, true, take_bytes, w);
    ws_inflate_free(&w->inflate);
    if (code && !w->closing && !conn_closing(w->c))
        give_up(w, code);
}

static void cb_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *m,
                       void *arg)
{
    struct ws *w = arg;

    if (m->opcode == WSLAY_CONNECTION_CLOSE) {
        if (!w->closing)
            w->code = m->status_code ? m->status_code : CLOSE_NO_STATUS;
        w->closing = true; /* nothing may follow wslay's answer to it */
    } else if (wslay_is_ctrl_frame(m->opcode) || w->closing || conn_closing(w->c)) {
        return;
    } else if (w->handler->on_bytes) {
        message_end(w);
    } else {
        w->handler->on_message(w, w->user, (enum ws_opcode)m->opcode,
                               slice_of(m->msg ? (const void *)m->msg : "", m->msg_length));
    }
}

static const struct wslay_event_callbacks callbacks = {
    .recv_callback = cb_recv,
    .send_callback = cb_send,
    .on_frame_recv_start_callback = cb_frame,
    .on_frame_recv_chunk_callback = cb_chunk,
    .on_msg_recv_callback = cb_message,
};

/* Lets wslay send its own control frames and sees whether the conversation is over. */
static void pump(struct ws *w)
{
    if (w->in_recv || conn_closing(w->c))
        return;
    if (wslay_event_want_write(w->ctx) && wslay_event_send(w->ctx) != 0) {
        conn_close(w->c, false, CONN_ERROR);
        return;
    }
    if (!wslay_event_get_read_enabled(w->ctx) && !wslay_event_want_write(w->ctx)) {
        if (w->code == CLOSE_ABNORMAL && wslay_event_get_close_sent(w->ctx))
            w->code = wslay_event_get_status_code_sent(w->ctx); /* the peer broke the rules */
        conn_close(w->c, true, w->closing ? CONN_PEER : CONN_LIMIT);
        return;
    }
    if (!w->handler->on_bytes)
        conn_pause(w->c,
                   conn_full(w->c)); /* who does not read pongs and answers may not go on asking */
}

/* What cannot be a frame. wslay would only hang up. */
static void broken(struct ws *w)
{
    static const uint8_t frame[] = {0x88, 2, CLOSE_PROTOCOL >> 8, CLOSE_PROTOCOL & 0xff};

    frame_output(w);
    if (!wslay_event_get_close_sent(w->ctx))
        conn_send(w->c, slice_of(frame, sizeof frame));
    w->framed = queued_end(w);
    if (!w->closing)
        w->code = CLOSE_PROTOCOL;
    w->closing = true;
    conn_close(w->c, true, CONN_LIMIT);
}

static void receive(struct ws *w, struct slice data)
{
    int e;

    w->in = data;
    w->unanswered = 0;
    w->in_recv = true;
    e = wslay_event_recv(w->ctx);
    w->in_recv = false;
    w->in = SLICE_NULL;
    if (e != 0)
        broken(w);
    pump(w);
}

static void on_data(struct conn *c, struct slice data)
{
    struct ws *w = c->state;
    struct buf rest = w->rest;

    if (rest.len) {
        buf_init(&w->rest, rest.max);
        receive(w, buf_slice(&rest));
        buf_fini(&rest);
    }
    if (data.len && !conn_closing(c))
        receive(w, data);
}

static void on_drain(struct conn *c)
{
    struct ws *w = c->state;

    if (w->handler->on_bytes) {
        if (w->handler->on_drain)
            w->handler->on_drain(w, w->user);
        return;
    }
    conn_pause(c, false);
    if (!w->was_full || w->closing)
        return;
    w->was_full = false;
    if (w->handler->on_drain)
        w->handler->on_drain(w, w->user);
}

static void on_timeout(struct conn *c)
{
    struct ws *w = c->state;

    if (w->closing || !w->handler->on_timeout)
        conn_close(c, false, CONN_TIMEOUT);
    else
        w->handler->on_timeout(w, w->user);
}

static void on_flush(struct conn *c)
{
    frame_output(c->state);
}

/* Little at a time where a little may become much. */
static uint8_t *room(struct conn *c, size_t *n)
{
    struct ws *w = c->state;

    if (!w->deflate)
        return NULL;
    *n = WS_DEFLATE_READ;
    return c->cl->scratch;
}

static void on_close(struct conn *c)
{
    struct ws *w = c->state;

    loop_timer_cancel(w->hl->loop, &w->ping);
    w->closing = true;
    w->handler->on_close(w, w->user, w->code);
    wslay_event_context_free(w->ctx);
    ws_inflate_free(&w->inflate);
    buf_fini(&w->rest);
    free(w);
}

const struct conn_proto ws_proto = {.room = room,
                                    .on_data = on_data,
                                    .on_flush = on_flush,
                                    .on_drain = on_drain,
                                    .on_timeout = on_timeout,
                                    .on_close = on_close};

static void on_ping(struct loop_timer *t)
{
    struct ws *w = list_entry(t, struct ws, ping);
    struct wslay_event_msg m = {.opcode = WSLAY_PING};

    if (conn_closing(w->c))
        return;
    if (w->unanswered >= WS_PINGS_LOST) {
        conn_close(w->c, false, CONN_TIMEOUT);
        return;
    }
    loop_timer_arm(w->hl->loop, t, ping_ms(w));
    if (w->c->paused || w->closing) /* nothing is read: no pong can come */
        return;
    w->unanswered++;
    wslay_event_queue_msg(w->ctx, &m);
    pump(w);
}

void ws_rest_add(struct conn *c, struct slice data)
{
    struct ws *w = c->state;

    ASSERT(c->proto == &ws_proto);
    if (buf_append_slice(&w->rest, data))
        conn_close(c, false, CONN_LIMIT);
    else if (w->rest.len)
        conn_later(c);
}

/* ---- upgrading ---- */

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
        if (end - start == len && strncasecmp((const char *)list.ptr + start, want, len) == 0)
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

static struct ws *ws_new(struct conn *c, struct http_loop *hl, const struct ws_handler *handler,
                         void *user, bool deflate)
{
    struct ws *w = xcalloc(1, sizeof *w);

    w->c = c;
    w->hl = hl;
    w->handler = handler;
    w->user = user;
    w->deflate = deflate;
    w->code = CLOSE_ABNORMAL;
    ASSERT(wslay_event_context_server_init(&w->ctx, &callbacks, w) == 0);
    wslay_event_config_set_max_recv_msg_length(w->ctx, message_max(w));
    c->proto = &ws_proto;
    c->state = w;
    c->output_max = queue_max(w);
    loop_timer_init(&w->ping, on_ping);
    w->framed = queued_end(w); /* the answer to the upgrade */
    if (!handler->on_bytes) {
        loop_timer_arm(hl->loop, &w->ping, ping_ms(w));
        return w;
    }
    wslay_event_config_set_no_buffering(w->ctx, 1);
    if (w->deflate)
        wslay_event_config_set_allowed_rsv_bits(w->ctx, WSLAY_RSV1_BIT);
    return w;
}

struct ws *http_upgrade_ws(struct http_req *r, const struct ws_handler *handler, void *user,
                           const char *subprotocol)
{
    char accept[BASE64_LEN(20) + 1];
    struct http_hdr h[5] = {{SLICE_LIT("upgrade"), SLICE_LIT("websocket")},
                            {SLICE_LIT("connection"), SLICE_LIT("Upgrade")}};
    struct conn *c = r->c;
    struct http_loop *hl = r->hl;
    struct buf rest;
    unsigned n = 3;
    bool deflate = handler->deflate && handler->on_bytes &&
                   ws_deflate_offered(http_header(r, "sec-websocket-extensions"));
    struct ws *w;

    if (!http_is_ws_upgrade(r) || !http1_may_detach(r))
        return NULL;
    accept_key(http_header(r, "sec-websocket-key"), accept);
    h[2] = (struct http_hdr){SLICE_LIT("sec-websocket-accept"), slice_str(accept)};
    if (subprotocol)
        h[n++] = (struct http_hdr){SLICE_LIT("sec-websocket-protocol"), slice_str(subprotocol)};
    if (deflate)
        h[n++] =
            (struct http_hdr){SLICE_LIT("sec-websocket-extensions"), SLICE_LIT(WS_DEFLATE_ANSWER)};
    r->ops->head(r, 101, h, n, 0);
    http1_detach(r, &rest);
    w = ws_new(c, hl, handler, user, deflate);
    w->rest = rest;
    if (rest.len)
        conn_later(c);
    return w;
}

/* ---- sending ---- */

static enum err can_send(struct ws *w)
{
    if (w->closing || conn_closing(w->c))
        return ERR_CLOSED;
    if (conn_full(w->c)) {
        w->was_full = true;
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
    return conn_closing(w->c) ? ERR_CLOSED : ERR_OK;
}

struct ws_frame *ws_frame_new(enum ws_opcode op, struct slice data)
{
    uint8_t head[10];
    size_t n = header_make(head, op, data.len);
    struct ws_frame *f = xmalloc(sizeof *f + n + data.len);

    f->refs = 1;
    f->len = n + data.len;
    memcpy(f->bytes, head, n);
    if (data.len)
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

static void frame_release(void *arg)
{
    struct ws_frame *f = arg;

    ws_frame_unref(&f);
}

enum err ws_send_shared(struct ws *w, struct ws_frame *f)
{
    enum err e = can_send(w);

    if (e)
        return e;
    conn_send_lent(w->c, slice_of(f->bytes, f->len), frame_release, ws_frame_ref(f));
    return conn_closing(w->c) ? ERR_CLOSED : ERR_OK;
}

size_t ws_queued(const struct ws *w)
{
    return conn_queued(w->c);
}

/* As much of the text as a close frame takes, without cutting a character. */
static size_t reason_len(const char *text)
{
    size_t n = strlen(text);

    if (n <= REASON_MAX)
        return n;
    for (n = REASON_MAX; n && ((uint8_t)text[n] & 0xc0) == 0x80; n--)
        ;
    return n;
}

void ws_close(struct ws *w, int code, const char *reason)
{
    if (w->closing || conn_closing(w->c))
        return;
    w->closing = true;
    w->code = code;
    wslay_event_queue_close(w->ctx, (uint16_t)code, (const uint8_t *)reason, reason_len(reason));
    conn_deadline(w->c, WS_CLOSE_MS);
    pump(w);
}

void ws_finish(struct ws *w, int code, const char *reason)
{
    if (conn_closing(w->c))
        return;
    if (!w->closing) {
        w->closing = true;
        w->code = code;
        wslay_event_queue_close(w->ctx, (uint16_t)code, (const uint8_t *)reason,
                                reason_len(reason));
    }
    if (wslay_event_want_write(w->ctx))
        (void)wslay_event_send(w->ctx); /* the connection ends anyway */
    conn_close(w->c, true, CONN_LOCAL);
}

struct conn *ws_conn(struct ws *w)
{
    ASSERT(w->handler->on_bytes);
    return w->c;
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
    struct ws *w = c->state;

    if (w->handler->on_stop)
        w->handler->on_stop(w, w->user);
    else
        ws_close(w, CLOSE_GOING_AWAY, "the server stops");
}
