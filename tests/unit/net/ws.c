/* WebSocket: the handshake, frames in all pieces, fragments, control frames, what breaks the rules,
 * the closing handshake, shared frames, back-pressure, pings; streams of bytes, compressed or not. */
#include <zlib.h>

#include "fixture.h"

#define UPGRADE                                                                                \
    "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

enum { FIN = 0x80, CONT = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

static char big[4u << 20];

/* A frame of a client (RFC 6455 section 5.2), appended to b. */
static void frame(struct buf *b, unsigned first, bool mask, const void *p, size_t n)
{
    static const uint8_t key[4] = {0x12, 0x34, 0x56, 0x78};
    size_t i;

    assert_int_equal(buf_append_u8(b, (uint8_t)first), ERR_OK);
    if (n < 126) {
        buf_append_u8(b, (uint8_t)((mask ? 0x80 : 0) | n));
    } else if (n < 65536) {
        buf_append_u8(b, (mask ? 0x80 : 0) | 126);
        buf_append_be16(b, (uint16_t)n);
    } else {
        buf_append_u8(b, (mask ? 0x80 : 0) | 127);
        buf_append_be64(b, n);
    }
    if (mask)
        buf_append(b, key, 4);
    assert_int_equal(buf_reserve(b, n), ERR_OK);
    for (i = 0; i < n; i++)
        b->ptr[b->len++] = ((const uint8_t *)p)[i] ^ (mask ? key[i % 4] : 0);
}

static void feed_frame(struct fx *f, unsigned first, const void *p, size_t n)
{
    struct buf b;

    buf_init(&b, 8u << 20);
    frame(&b, first, true, p, n);
    fx_feed_n(f, b.ptr, b.len, b.len);
    buf_fini(&b);
}

static void open_ws(struct fx *f)
{
    fx_init(f);
    fx_start(f);
    fx_feed(f, UPGRADE);
    assert_non_null(f->ws);
    buf_clear(&f->out);
}

static void sent_is(struct fx *f, const void *want, size_t n)
{
    assert_int_equal(f->out.len, n);
    assert_memory_equal(f->out.ptr, want, n);
    buf_clear(&f->out);
}

/* ---- the handshake ---- */

static void handshake(void **state)
{
    struct fx f;

    fx_init(&f);
    fx_start(&f);
    fx_feed_n(&f, UPGRADE, strlen(UPGRADE), 1);
    assert_non_null(f.ws);
    assert_int_equal(strncmp(fx_text(&f), "HTTP/1.1 101 Switching Protocols\r\n", 34), 0);
    /* RFC 6455 section 1.3 */
    assert_non_null(strstr(fx_text(&f), "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert_non_null(strstr(fx_text(&f), "upgrade: websocket\r\nconnection: Upgrade\r\n"));
    assert_null(strstr(fx_text(&f), "content-length"));
    assert_string_equal(ws_remote(f.ws), "detached");
    assert_ptr_equal(ws_loop(f.ws), f.loops[0]);
    fx_stop(&f);
    assert_int_equal(f.ws_closes, 1);
    assert_int_equal(f.ws_code, 1006);
}

static void not_an_upgrade(void **state)
{
    static const char *const ins[] = {
        "GET /ws HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /ws HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "POST /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "Content-Length: 0\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    };
    size_t i;

    for (i = 0; i < sizeof ins / sizeof *ins; i++) {
        struct fx f;

        fx_init(&f);
        fx_start(&f);
        fx_feed(&f, ins[i]);
        assert_null(f.ws);
        assert_non_null(strstr(fx_text(&f), " 400 Bad Request"));
        fx_stop(&f);
    }
}

/* Behind answers that are due, it waits; frames that came with it are not lost, nor out of order.
 */
static void frames_with_the_upgrade(void **state)
{
    struct buf b;
    struct fx f;
    size_t pieces[] = {1, 7, 100000}, i;

    buf_init(&b, 1u << 20);
    buf_append_str(&b, "GET /echo HTTP/1.1\r\nHost: h\r\n\r\n" UPGRADE);
    frame(&b, FIN | TEXT, true, "one", 3);
    frame(&b, FIN | TEXT, true, "two", 3);
    for (i = 0; i < 3; i++) {
        static const char want[] = "\x81\x03one\x81\x03two\x81\x05three";

        fx_init(&f);
        fx_start(&f);
        fx_feed_n(&f, b.ptr, b.len, pieces[i]);
        feed_frame(&f, FIN | TEXT, "three", 5);
        assert_int_equal(f.ws_messages, 3);
        assert_memory_equal(f.out.ptr + f.out.len - (sizeof want - 1), want, sizeof want - 1);
        fx_stop(&f);
    }
    buf_fini(&b);
}

static void no_upgrade_behind_a_waiting_answer(void **state)
{
    struct fx f;

    fx_init(&f);
    fx_start(&f);
    fx_feed(&f, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n" UPGRADE);
    assert_null(f.ws); /* refused, but in its turn */
    assert_string_equal(fx_text(&f), "");
    fx_answer_held(&f);
    fx_turn(&f, 2);
    assert_non_null(strstr(fx_text(&f), "held 0HTTP/1.1 400"));
    fx_stop(&f);
}

/* ---- messages ---- */

static void echo_of_all_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 125, 126, 127, 65535, 65536, 1000000, 1u << 20};
    size_t i;

    for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct fx f;
        struct buf want;

        memset(big, 'x', sizes[i]);
        buf_init(&want, 2u << 20);
        frame(&want, FIN | BINARY, false, big, sizes[i]);
        open_ws(&f);
        feed_frame(&f, FIN | BINARY, big, sizes[i]);
        sent_is(&f, want.ptr, want.len);
        buf_fini(&want);
        fx_stop(&f);
    }
}

static void frames_split_anywhere(void **state)
{
    struct buf b;
    size_t i;

    buf_init(&b, 1u << 20);
    frame(&b, TEXT, true, "h\xc3", 2); /* a character in two fragments */
    frame(&b, FIN | PING, true, "p", 1);
    frame(&b, CONT, true, "\xa4", 1);
    frame(&b, CONT, true, "", 0);
    frame(&b, FIN | CONT, true, "ns", 2);
    memset(big, 'y', 300);
    frame(&b, FIN | BINARY, true, big, 300);
    for (i = 1; i < b.len; i++) {
        struct fx f;

        open_ws(&f);
        fx_feed_n(&f, b.ptr, i, i);
        fx_feed_n(&f, b.ptr + i, b.len - i, b.len);
        assert_int_equal(f.ws_messages, 2);
        assert_int_equal(f.out.len, 3 + 7 + 304);
        assert_non_null(memmem(f.out.ptr, f.out.len, "\x81\x05h\xc3\xa4ns", 7));
        assert_non_null(memmem(f.out.ptr, f.out.len, "\x8a\x01p", 3));
        fx_stop(&f);
    }
    buf_fini(&b);
}

static const struct {
    const char *name;
    unsigned first;
    bool mask;
    const char *p;
    size_t n;
    int code;
} offences[] = {
    {"not masked", FIN | TEXT, false, "hi", 2, 1002},
    {"reserved bit", FIN | 0x40 | TEXT, true, "hi", 2, 1002},
    {"unknown opcode", FIN | 3, true, "hi", 2, 1002},
    {"unknown control", FIN | 11, true, "", 0, 1002},
    {"continuation of nothing", FIN | CONT, true, "hi", 2, 1002},
    {"ping in fragments", PING, true, "hi", 2, 1002},
    {"long ping", FIN | PING, true, big, 126, 1002},
    {"not UTF-8", FIN | TEXT, true, "\xff\xfe", 2, 1007},
    {"overlong", FIN | TEXT, true, "\xc0\x80", 2, 1007},
    {"surrogate", FIN | TEXT, true, "\xed\xa0\x80", 3, 1007},
    {"cut character", FIN | TEXT, true, "\xc3", 1, 1007},
    {"close with one byte", FIN | CLOSE, true, "\x03", 1, 1002},
    {"close with a bad code", FIN | CLOSE, true, "\x03\xed", 2, 1002},
    {"close with a bad reason", FIN | CLOSE, true, "\x03\xe8\xff", 3, 1007},
    {"too large", FIN | BINARY, true, big, (1u << 20) + 1, 1009},
};

static void rules_are_kept(void **state)
{
    size_t i;

    for (i = 0; i < sizeof offences / sizeof *offences; i++) {
        uint8_t close_frame[4] = {0x88, 2, (uint8_t)(offences[i].code >> 8),
                                  (uint8_t)offences[i].code};
        struct buf b;
        struct fx f;

        open_ws(&f);
        buf_init(&b, 4u << 20);
        frame(&b, offences[i].first, offences[i].mask, offences[i].p, offences[i].n);
        frame(&b, FIN | TEXT, true, "later", 5);
        fx_feed_n(&f, b.ptr, b.len, b.len);
        if (f.ws_code != offences[i].code || f.ws_messages || fx_is_open(&f))
            fail_msg("%s: code %d, %u messages", offences[i].name, f.ws_code, f.ws_messages);
        if (f.out.len < 4 || memcmp(f.out.ptr, close_frame, 4) != 0)
            fail_msg("%s: no close frame with %d (%zu bytes sent)", offences[i].name,
                     offences[i].code, f.out.len);
        buf_fini(&b);
        fx_stop(&f);
        assert_int_equal(f.ws_closes, 1);
    }
}

static void text_within_a_fragmented_text(void **state)
{
    struct fx f;

    open_ws(&f);
    feed_frame(&f, TEXT, "a", 1);
    feed_frame(&f, FIN | TEXT, "b", 1);
    assert_int_equal(f.ws_code, 1002);
    fx_stop(&f);
}

static void fragments_have_limits(void **state)
{
    struct buf b;
    struct fx f;
    unsigned i;

    buf_init(&b, 4u << 20);
    frame(&b, BINARY, true, "", 0);
    for (i = 0; i < WS_FRAGMENTS_MAX + 10; i++)
        frame(&b, CONT, true, "", 0);
    open_ws(&f);
    fx_feed_n(&f, b.ptr, b.len, 50000);
    assert_int_equal(f.ws_code, 1008);
    fx_stop(&f);
    buf_clear(&b);
    memset(big, 'z', 600000);
    frame(&b, BINARY, true, big, 600000);
    frame(&b, FIN | CONT, true, big, 600000);
    open_ws(&f);
    fx_feed_n(&f, b.ptr, b.len, 50000);
    assert_int_equal(f.ws_code, 1009);
    fx_stop(&f);
    buf_fini(&b);
}

/* ---- the end ---- */

static void peer_closes(void **state)
{
    struct fx f;

    open_ws(&f);
    feed_frame(&f, FIN | CLOSE,
               "\x03\xe9"
               "bye",
               5);
    sent_is(&f,
            "\x88\x05\x03\xe9"
            "bye",
            7);
    assert_false(fx_is_open(&f));
    assert_int_equal(f.ws_code, 1001);
    fx_stop(&f);
    open_ws(&f);
    feed_frame(&f, FIN | CLOSE, "", 0);
    sent_is(&f, "\x88\x00", 2);
    assert_int_equal(f.ws_code, 1005);
    fx_stop(&f);
    assert_int_equal(f.ws_closes, 1);
}

static void server_closes(void **state)
{
    char text[200];
    struct fx f;

    open_ws(&f);
    feed_frame(&f, FIN | TEXT, "close me", 8);
    sent_is(&f,
            "\x88\x0d\x0f\xa0"
            "as you wish",
            15);
    assert_true(fx_is_open(&f)); /* for the peer's half */
    assert_int_equal(ws_send(f.ws, WS_TEXT, SLICE_LIT("x")), ERR_CLOSED);
    feed_frame(&f, FIN | TEXT, "late", 4);
    assert_int_equal(f.ws_messages, 1);
    feed_frame(&f, FIN | CLOSE, "\x0f\xa0", 2);
    assert_false(fx_is_open(&f));
    assert_int_equal(f.ws_code, 4000);
    fx_stop(&f);
    open_ws(&f); /* a reason too long is cut, not inside a character */
    memset(text, 'r', sizeof text);
    memcpy(text + 122, "\xe2\x82\xac", 3);
    text[sizeof text - 1] = 0;
    ws_close(f.ws, 1000, text);
    fx_turn(&f, 1);
    assert_int_equal(f.out.len, 2 + 2 + 122);
    fx_stop(&f);
}

static void server_drains(void **state)
{
    struct fx f;

    open_ws(&f);
    http_server_drain(f.s, 1000, NULL, NULL);
    fx_turn(&f, 3);
    assert_memory_equal(f.out.ptr, "\x88", 1);
    assert_int_equal(f.out.ptr[2] << 8 | f.out.ptr[3], 1001);
    fx_stop(&f);
}

/* ---- sending ---- */

static void shared_frames(void **state)
{
    struct ws_frame *small, *large;
    struct conn *c[3];
    struct ws *w[3];
    struct fx f;
    unsigned i;

    fx_init(&f);
    fx_start(&f);
    memset(big, 's', 70000);
    small = ws_frame_new(WS_TEXT, SLICE_LIT("small"));
    large = ws_frame_new(WS_BINARY, slice_of(big, 70000));
    for (i = 0; i < 3; i++) {
        c[i] = i ? conn_detached(http_server_conns(f.s), 0, "") : f.c;
        f.c = c[i];
        fx_feed(&f, UPGRADE);
        w[i] = f.ws;
    }
    buf_clear(&f.out);
    for (i = 0; i < 3; i++) {
        assert_int_equal(ws_send_shared(w[i], small), ERR_OK);
        assert_int_equal(ws_send_shared(w[i], large), ERR_OK);
        assert_int_equal(ws_queued(w[i]), 7 + 70010);
    }
    ws_frame_unref(&small);
    ws_frame_unref(&large);
    assert_null(large);
    fx_turn(&f, 1);
    assert_int_equal(f.out.len, 3 * (7 + 70010));
    for (i = 0; i < 3; i++) {
        assert_memory_equal(f.out.ptr + i * 70017,
                            "\x81\x05small\x82\x7f\0\0\0\0\0\1\x11\x70"
                            "sss",
                            20);
        assert_int_equal(ws_queued(w[i]), 0);
    }
    fx_stop(&f);
}

static void pings(void **state)
{
    unsigned i;
    struct fx f;

    fx_init(&f);
    f.ws_handler.ping_ms = 50;
    fx_start(&f);
    fx_feed(&f, UPGRADE);
    buf_clear(&f.out);
    for (i = 0; i < 4; i++) { /* answered */
        fx_sleep_ms(55);
        fx_turn(&f, 1);
        assert_true(f.out.len >= 2); /* one; more if the machine was busy */
        assert_memory_equal(f.out.ptr, "\x89\x00", 2);
        buf_clear(&f.out);
        feed_frame(&f, FIN | PONG, "", 0);
    }
    for (i = 0; i < 1000 && fx_is_open(&f); i++) { /* not answered */
        fx_sleep_ms(10);
        fx_turn(&f, 1);
    }
    sent_is(&f, "\x89\x00\x89\x00", 4);
    assert_int_equal(f.ws_closes, 1);
    assert_int_equal(f.ws_code, 1006);
    fx_stop(&f);
}

/* ---- with sockets ---- */

static int dial(struct fx *f)
{
    int fd = fx_connect(f);

    fx_send_str(fd, UPGRADE);
    fx_read_until(fd, big, sizeof big, "\r\n\r\n");
    return fd;
}

struct sender {
    struct loop_task task;
    struct fx *f;
    atomic_uint sent, done;
};

/* Sends until the queue is full. */
static void fill(struct loop_task *t)
{
    static uint8_t message[10000];
    struct sender *s = (struct sender *)(void *)t;
    enum err e;

    while ((e = ws_send(s->f->ws, WS_BINARY, slice_of(message, sizeof message))) == ERR_OK)
        atomic_fetch_add(&s->sent, 1);
    MUST(e == ERR_LIMIT);
    MUST(ws_queued(s->f->ws) < 100000 + 10010);
    atomic_store(&s->done, 1);
}

static void slow_readers_are_told(void **state)
{
    struct sender s = {.task.fn = fill};
    size_t got = 0, want;
    struct fx f;
    int fd;

    fx_init(&f);
    f.ws_handler.queue_max = 100000;
    fx_listen(&f);
    s.f = &f;
    fd = dial(&f);
    loop_post(f.loops[0], &s.task);
    fx_wait(atomic_load(&s.done));
    assert_true(s.sent >= 10);
    want = (size_t)s.sent * 10004;
    while (got < want) {
        ssize_t r = recv(fd, big, sizeof big, 0);

        assert_true(r > 0);
        got += (size_t)r;
    }
    assert_int_equal(got, want);
    fx_wait(atomic_load(&f.ws_drains) == 1);
    close(fd);
    fx_wait(atomic_load(&f.ws_closes) == 1);
    fx_stop(&f);
}

/* A peer that asks without end and reads nothing is not read from any more. */
static void floods_stop(void **state)
{
    struct timeval tv = {0, 300000};
    struct buf b;
    struct fx f;
    size_t sent = 0;
    ssize_t r;
    unsigned i;
    int fd;

    fx_init(&f);
    f.ws_handler.queue_max = 100000;
    fx_listen(&f);
    fd = dial(&f);
    buf_init(&b, 1u << 20);
    memset(big, 'p', 125);
    for (i = 0; i < 1000; i++)
        frame(&b, FIN | PING, true, big, 125);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
    while (sent < 200u << 20 && (r = send(fd, b.ptr, b.len, MSG_NOSIGNAL)) > 0)
        sent += (size_t)r;
    assert_true(sent < 100u << 20); /* the kernel's buffers are full */
    close(fd);
    fx_wait(atomic_load(&f.ws_closes) == 1);
    buf_fini(&b);
    fx_stop(&f);
}

static void echo_over_a_socket(void **state)
{
    struct buf b;
    struct fx f;
    unsigned i;
    int fd;

    fx_init(&f);
    fx_listen(&f);
    fd = dial(&f);
    buf_init(&b, 1u << 20);
    for (i = 0; i < 1000; i++)
        frame(&b, FIN | TEXT, true, "0123456789", 10);
    frame(&b, FIN | CLOSE, true, "\x03\xe8", 2);
    fx_send(fd, b.ptr, b.len);
    assert_int_equal(fx_read_all(fd, big, sizeof big), 1000 * 12 + 4);
    fx_wait(atomic_load(&f.ws_closes) == 1);
    assert_int_equal(f.ws_code, 1000);
    close(fd);
    buf_fini(&b);
    fx_stop(&f);
}

/* ---- streams of bytes ---- */

#define UPGRADE_DEFLATE                                                                        \
    "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" \
    "Sec-WebSocket-Extensions: x-other, permessage-deflate; client_max_window_bits\r\n"        \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

static struct buf got;

/* What comes is kept; a line that says so is answered, and the last one ends it. */
static void stream_bytes(struct ws *ws, void *user, struct slice data)
{
    struct fx *f = user;

    assert_int_equal(buf_append_slice(&got, data), ERR_OK);
    atomic_fetch_add(&f->ws_bytes, data.len);
    if (memchr(data.ptr, '?', data.len)) {
        conn_send(ws_conn(ws), SLICE_LIT("an answer, "));
        conn_send(ws_conn(ws), SLICE_LIT("in two pieces"));
    }
    if (memchr(data.ptr, '.', data.len)) {
        conn_send(ws_conn(ws), SLICE_LIT("bye"));
        ws_finish(ws, 1008, "enough");
    }
}

static void open_stream(struct fx *f, const char *upgrade, uint32_t message_max)
{
    fx_init(f);
    f->ws_handler = (struct ws_handler){.on_bytes = stream_bytes,
                                        .on_close = fx_ws_close,
                                        .deflate = true,
                                        .message_max = message_max};
    fx_start(f);
    fx_feed(f, upgrade);
    assert_non_null(f->ws);
    buf_init(&got, 64u << 20);
}

static void close_stream(struct fx *f)
{
    fx_stop(f);
    buf_fini(&got);
}

/* Bytes come as they are sent, wherever frames are cut; answers, pongs and the end are in order. */
static void bytes_in_and_out(void **state)
{
    static const char text[] = "one?two.";
    size_t cut;

    for (cut = 1; cut < sizeof text - 1; cut++) {
        struct fx f;

        open_stream(&f, UPGRADE, 0);
        assert_null(strstr(fx_text(&f), "sec-websocket-extensions"));
        buf_clear(&f.out);
        feed_frame(&f, BINARY, text, cut);
        feed_frame(&f, FIN | PING, "p", 1);
        assert_int_equal(got.len, cut);
        feed_frame(&f, FIN | CONT, text + cut, sizeof text - 1 - cut);
        assert_int_equal(got.len, sizeof text - 1);
        assert_memory_equal(got.ptr, text, got.len);
        if (cut > 3)
            sent_is(&f,
                    "\x82\x18"
                    "an answer, in two pieces\x8a\x01p\x82\x03"
                    "bye\x88\x08\x03\xf0"
                    "enough",
                    26 + 3 + 5 + 10);
        else
            sent_is(&f,
                    "\x8a\x01p\x82\x1b"
                    "an answer, in two piecesbye\x88\x08\x03\xf0"
                    "enough",
                    3 + 29 + 10);
        close_stream(&f);
        assert_int_equal(f.ws_code, 1008);
    }
}

static size_t deflated(const void *p, size_t n, uint8_t *out, size_t cap)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)p,
                  .avail_in = (uInt)n,
                  .next_out = out,
                  .avail_out = (uInt)cap};

    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_SYNC_FLUSH), Z_OK);
    deflateEnd(&z);
    return cap - z.avail_out - 4;
}

static size_t inflated(const uint8_t *p, size_t n, char *out, size_t cap)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)p,
                  .avail_in = (uInt)n,
                  .next_out = (Bytef *)out,
                  .avail_out = (uInt)cap};
    int r;

    assert_int_equal(inflateInit2(&z, -15), Z_OK);
    r = inflate(&z, Z_SYNC_FLUSH);
    assert_true(r == Z_OK || r == Z_BUF_ERROR);
    inflateEnd(&z);
    return cap - z.avail_out;
}

static void bytes_compressed(void **state)
{
    static uint8_t packed[65536];
    static char text[30000], back[100];
    size_t n, cut, i;

    for (i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + i % 13);
    text[100] = '?';
    n = deflated(text, sizeof text, packed, sizeof packed);
    for (cut = 0; cut < n; cut += n / 7) {
        struct fx f;

        open_stream(&f, UPGRADE_DEFLATE, 0);
        assert_non_null(strstr(fx_text(&f), "sec-websocket-extensions: permessage-deflate; "
                                            "server_no_context_takeover; "
                                            "client_no_context_takeover\r\n"));
        buf_clear(&f.out);
        feed_frame(&f, 0x40 | BINARY, packed, cut);
        feed_frame(&f, FIN | CONT, packed + cut, n - cut);
        assert_int_equal(got.len, sizeof text);
        assert_memory_equal(got.ptr, text, got.len);
        sent_is(&f,
                "\x82\x18"
                "an answer, in two pieces",
                26); /* too little to be worth it */
        conn_send(ws_conn(f.ws), slice_of(text, 90));
        fx_turn(&f, 2);
        assert_int_equal(f.out.ptr[0], 0x80 | 0x40 | BINARY);
        assert_int_equal(f.out.ptr[1], f.out.len - 2);
        memcpy(packed + n, f.out.ptr + 2, f.out.len - 2);
        memcpy(packed + n + f.out.len - 2, "\0\0\xff\xff", 4);
        assert_int_equal(inflated(packed + n, f.out.len + 2, back, sizeof back), 90);
        assert_memory_equal(back, text, 90);
        feed_frame(&f, FIN | BINARY, "plain", 5);
        assert_memory_equal(got.ptr + got.len - 5, "plain", 5);
        close_stream(&f);
    }
}

/* Bombs, what is no deflate, compression that was not agreed on or is of a wrong frame. */
static void bytes_that_break_the_rules(void **state)
{
    static uint8_t packed[8192];
    static char zeros[1u << 20];
    size_t n = deflated(zeros, sizeof zeros, packed, sizeof packed), i;
    struct {
        const char *upgrade;
        unsigned first;
        const void *p;
        size_t n;
        int code;
    } t[] = {
        {UPGRADE_DEFLATE, FIN | 0x40 | BINARY, packed, n, 1009},
        {UPGRADE_DEFLATE, FIN | 0x40 | BINARY, "\xff\xff\xff", 3, 1007},
        {UPGRADE_DEFLATE, FIN | 0x40 | PING, "x", 1, 1002},
        {UPGRADE_DEFLATE, FIN | 0x20 | BINARY, "x", 1, 1002},
        {UPGRADE, FIN | 0x40 | BINARY, packed, n, 1002},
        {UPGRADE, FIN | BINARY, zeros, 70000, 1009},
    };

    for (i = 0; i < sizeof t / sizeof *t; i++) {
        struct fx f;

        open_stream(&f, t[i].upgrade, 65536);
        buf_clear(&f.out);
        feed_frame(&f, t[i].first, t[i].p, t[i].n);
        fx_turn(&f, 2);
        assert_true(got.len <= 65536);
        assert_int_equal(f.out.ptr[0], FIN | CLOSE);
        assert_int_equal(f.out.ptr[2] << 8 | f.out.ptr[3], t[i].code);
        close_stream(&f);
        assert_int_equal(f.ws_code, t[i].code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshake),
        cmocka_unit_test(not_an_upgrade),
        cmocka_unit_test(frames_with_the_upgrade),
        cmocka_unit_test(no_upgrade_behind_a_waiting_answer),
        cmocka_unit_test(echo_of_all_sizes),
        cmocka_unit_test(frames_split_anywhere),
        cmocka_unit_test(rules_are_kept),
        cmocka_unit_test(text_within_a_fragmented_text),
        cmocka_unit_test(fragments_have_limits),
        cmocka_unit_test(peer_closes),
        cmocka_unit_test(server_closes),
        cmocka_unit_test(server_drains),
        cmocka_unit_test(shared_frames),
        cmocka_unit_test(pings),
        cmocka_unit_test(slow_readers_are_told),
        cmocka_unit_test(floods_stop),
        cmocka_unit_test(echo_over_a_socket),
        cmocka_unit_test(bytes_in_and_out),
        cmocka_unit_test(bytes_compressed),
        cmocka_unit_test(bytes_that_break_the_rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
