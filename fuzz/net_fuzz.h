/* Shared by the targets that feed a connection: a server without sockets whose handler notes what
 * it was given, so that the same bytes in one piece and in many can be compared. */
#ifndef WEIR_FUZZ_NET_FUZZ_H
#define WEIR_FUZZ_NET_FUZZ_H

#include <stdlib.h>

#include "base/hash.h"
#include "net/http_int.h"
#include "net/ws.h"

/* What a run has shown. */
struct fuzz_seen {
    uint64_t hash; /* of requests and messages, in order */
    unsigned requests, closes, messages;
    size_t sent;     /* bytes */
    unsigned codes;  /* at the end of WebSockets, added up */
    uint64_t errors; /* answers of 400 and more */
};

struct fuzz_net {
    struct loop *loop;
    struct http_server *s;
    struct fuzz_seen seen;
    struct http_req *held[64];
    unsigned held_n;
};

static struct fuzz_net fz;

static inline void fuzz_note(struct slice s)
{
    fz.seen.hash = hash64(s.ptr ? s.ptr : (const uint8_t *)"", s.len, fz.seen.hash + s.len);
}

static inline void fuzz_ws_message(struct ws *ws, void *user, enum ws_opcode op, struct slice d)
{
    fz.seen.messages++;
    fuzz_note(d);
    (void)ws_send(ws, op, d);
}

static inline void fuzz_ws_close(struct ws *ws, void *user, int code)
{
    fz.seen.closes++;
    fz.seen.codes += (unsigned)code;
}

static const struct ws_handler fuzz_ws = {
    .on_message = fuzz_ws_message, .on_close = fuzz_ws_close, .message_max = 4096};

static inline void fuzz_on_request(void *ctx, unsigned loop, struct http_req *r)
{
    const struct http_hdr *h;
    size_t n = http_headers(r, &h), i;

    fz.seen.requests++;
    fuzz_note(http_method_text(r));
    fuzz_note(http_path(r));
    fuzz_note(http_query(r, "a"));
    fuzz_note(http_body(r));
    for (i = 0; i < n; i++) {
        fuzz_note(h[i].name);
        fuzz_note(h[i].value);
    }
    if (http_upgrade_ws(r, &fuzz_ws, NULL, NULL))
        return;
    if (slice_eq_str(http_path(r), "/hold") && fz.held_n < 64) {
        fz.held[fz.held_n++] = r;
    } else if (slice_eq_str(http_path(r), "/stream")) {
        http_reply_start(r, 200, NULL, 0, NULL);
        http_reply_write(r, http_body(r));
        http_reply_write(r, SLICE_LIT("end"));
        http_reply_end(r);
    } else {
        http_reply(r, 200, NULL, 0, http_body(r));
    }
}

static inline int fuzz_on_head(void *ctx, unsigned loop, struct http_req *r)
{
    return slice_eq_str(http_path(r), "/no") ? 401 : 0;
}

static inline void fuzz_on_close(void *ctx, unsigned loop, struct http_req *r)
{
    unsigned i;

    for (i = 0; i < fz.held_n; i++)
        if (fz.held[i] == r) {
            fz.held[i] = fz.held[--fz.held_n];
            return;
        }
}

static inline void fuzz_sink(void *arg, struct conn *c, struct slice data)
{
    fz.seen.sent += data.len;
}

static inline void fuzz_start(void)
{
    struct http_server_conf conf = {.loops = &fz.loop,
                                    .loops_n = 1,
                                    .line_max = 256,
                                    .head_max = 1024,
                                    .headers_max = 20,
                                    .body_max = 4096,
                                    .pipeline_max = 8,
                                    .output_max = 65536,
                                    .on_request = fuzz_on_request,
                                    .on_head = fuzz_on_head,
                                    .on_close = fuzz_on_close};

    if (fz.loop)
        return;
    ASSERT(loop_new(&fz.loop, NULL) == ERR_OK && http_server_new(&conf, &fz.s, NULL) == ERR_OK);
    conn_sink_set(http_server_conns(fz.s), fuzz_sink, NULL);
}

static inline void fuzz_turn(unsigned n)
{
    while (n--)
        loop_turn(fz.loop, false);
}

static inline void fuzz_answer_held(void)
{
    while (fz.held_n)
        http_reply(fz.held[--fz.held_n], 200, NULL, 0, SLICE_LIT("held"));
}

/* A connection that is given `first` and then the data in pieces; all of it ends with the
 * connection. */
static inline struct fuzz_seen fuzz_run(struct slice first, const uint8_t *data, size_t n,
                                        size_t piece)
{
    struct http_stats st;
    struct conn *c;
    size_t at;

    fuzz_start();
    http_server_stats(fz.s, &st);
    fz.seen = (struct fuzz_seen){.errors = -(st.errors_4xx + st.errors_5xx)};
    c = conn_detached(http_server_conns(fz.s), 0, "");
    conn_feed(c, first);
    fuzz_turn(1);
    for (at = 0; at < n && conn_server_open(http_server_conns(fz.s)) > 0; at += piece) {
        conn_feed(c, slice_of(data + at, n - at < piece ? n - at : piece));
        fuzz_turn(1);
        fuzz_answer_held();
    }
    for (at = 0; at < 64 && conn_server_open(http_server_conns(fz.s)) > 0; at++) {
        fuzz_answer_held(); /* what waits behind what is held */
        fuzz_turn(1);
    }
    if (conn_server_open(http_server_conns(fz.s)) > 0) {
        conn_close(c, false, CONN_PEER);
        fuzz_turn(1);
    }
    ASSERT(conn_server_open(http_server_conns(fz.s)) == 0 && fz.held_n == 0);
    http_server_stats(fz.s, &st);
    fz.seen.errors += st.errors_4xx + st.errors_5xx;
    return fz.seen;
}

/* wslay looks for UTF-8 in the reason of a close frame from the third byte of each piece on: what it
 * closes with, and so how much is sent, depends on the pieces. */
static inline bool fuzz_by_piece(const struct fuzz_seen *a, const struct fuzz_seen *b)
{
    return a->codes == 1007 || b->codes == 1007;
}

#endif
