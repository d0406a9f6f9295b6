/* Writing events: a request's body becomes records in an append, and the answer when they are
 * durable. Transport-free: HTTP requests and WebSocket messages both use it.
 *
 *   post_start ── parse ──┬─ bad ────────────────────────────────────────────> finish
 *                         ├─ a topic is missing: create it, wait, parse again
 *                         ├─ one event: into the loop's open append   ┐ submitted in order,
 *                         └─ many, or a key: into one of its own     ┘ at the end of the turn
 *   writer thread: durable ── task to the loop ──────────────────────────> finish
 *
 * All requests that a loop sees in one turn share one append, so that a sync and a wake-up serve
 * them all. At most appends_inflight_max appends of a loop are on their way; meanwhile the open one
 * grows. Appends are submitted in the order in which their requests came.
 *
 * Threads: the loop's, but for the broker's callbacks, which only post a task to the loop. */
#ifndef WEIR_PROTO_HTTP_PUBLISH_H
#define WEIR_PROTO_HTTP_PUBLISH_H

#include <stdatomic.h>

#include "base/buf.h"
#include "base/list.h"
#include "broker/broker.h"
#include "net/loop.h"
#include "proto/http/event.h"

struct ctx;
struct principal;

enum post_form {
    POST_JSON, /* an event or an array of events */
    POST_NDJSON,
    POST_CE, /* structured */
    POST_CE_BATCH,
    POST_CE_BINARY,
};

struct post_place {
    struct append_slot slot;
    struct topic *topic; /* kept alive by the append */
    uint32_t index;      /* in the request */
};

/* One request to write. Filled in by the caller (zeroed first) up to `finish`. */
struct post {
    struct ctx *ctx;
    const struct principal *who; /* looked at by post_start only */
    enum post_form form;
    bool partial;
    struct slice body;   /* stays until finish */
    struct slice media;  /* POST_CE_BINARY: content type */
    struct slice stream; /* default for events without; may be empty */
    struct slice key;    /* Idempotency-Key; NULL: none. Stays until finish */
    char owner[16];      /* whose keys: the token's id */
    /* POST_CE_BINARY: adds the attributes by event_binary_attribute. */
    enum err (*attributes)(struct post *p, struct event_parser *parser, struct event *e,
                           struct errinfo *info);
    /* On the loop, once, perhaps inside post_start: err says how it ended; if ERR_OK, post_answer
     * works during the call. The post is the caller's again afterwards. */
    void (*finish)(struct post *p);

    enum err err;
    struct errinfo info;
    int64_t index;     /* of the bad event; -1: none in particular */
    bool list;         /* the answer is a list */
    bool replayed;     /* every event was there already */
    bool written;      /* at least one was not */
    unsigned accepted; /* events in the append */
    unsigned rejected; /* partial: others */

    /* private */
    struct loop_task task;
    struct list_node link;
    struct append *append;
    struct collect *own;
    struct post_place one, *many;
    unsigned many_cap;
    uint32_t next_index;
    unsigned creates, creating;
    bool checked, keyed;
    uint8_t key_hash[16], fingerprint[32];
    atomic_uint pending;
    atomic_int pending_err;
    struct buf errors; /* partial: the objects, comma-separated */
};

void post_start(struct post *p);
/* After finish: frees what the post grew. */
void post_fini(struct post *p);
/* The answer's JSON, appended; ERR_TOO_LARGE. */
enum err post_answer(struct post *p, struct buf *out);
/* Without its braces: for a WebSocket's ack. */
enum err post_answer_members(struct post *p, struct buf *out);

struct publisher;
struct publisher *publisher_new(struct ctx *ctx);
/* Nothing is on its way any more (publisher_idle). */
void publisher_free(struct publisher **p);
bool publisher_idle(const struct publisher *p);
/* At the end of a loop's turn: submits what was collected. True: call again in a millisecond even
 * if nothing happens. */
bool publisher_flush(struct publisher *p);

#endif
