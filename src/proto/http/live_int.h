/* Following: what live.c (feeds and followers), sse.c and websocket.c share.
 *
 *   follow_start ─> CATCHING UP   own reader, a turn at a time
 *                     ├─ everything durable was read ─> LIVE   in the feed of its selector
 *                     └─ its output is full ─┐             └─ its output is full ─┐
 *                                            └──────> PAUSED <────────────────────┘
 *                   CATCHING UP <── drained ──┘
 *
 * A feed has one reader for all followers of one selector and filter; each record is rendered and
 * framed once. Invariant: a follower has been sent, or been told as lost, every matching record
 * below `next`, and nothing from `next` on. Threads: the loop's, but for the waiter's wake. */
#ifndef WEIR_PROTO_HTTP_LIVE_INT_H
#define WEIR_PROTO_HTTP_LIVE_INT_H

#include "net/ws.h"
#include "proto/http/http_int.h"

struct feed;
struct follower;

/* What became of something handed to a follower's connection. */
enum sent {
    SENT,
    SENT_FULL, /* queued, but hold on now until it has drained */
    FULL,      /* not queued */
    GONE,      /* closing; it will say so itself */
};

/* A record on its way to followers, in the forms that they need, each made once. */
struct item {
    const struct reader_record *record;
    struct buf *text; /* one line of JSON */
    struct buf *sse;  /* as a message of an event stream; empty until made */
    struct ws_frame *frame;
};
struct slice item_sse(struct item *it);
struct ws_frame *item_frame(struct item *it);

struct follower_kind {
    enum sent (*event)(struct follower *f, struct item *it);
    /* A note of its own: {"<name>": json} or event <name>. */
    enum sent (*note)(struct follower *f, const char *name, struct slice json);
    /* Ends the connection because of an error. follower_close will be called, later. */
    void (*end)(struct follower *f, enum err e, const struct errinfo *info);
};

enum follower_state { CATCHING_UP, LIVE, PAUSED, CLOSED };

struct follower {
    const struct follower_kind *kind;
    struct ctx *ctx;
    enum follower_state state;
    struct list_node link; /* feed->live */
    struct list_node all;  /* live->followers */
    struct feed *feed;     /* LIVE */
    struct reader *reader; /* CATCHING_UP */
    uint64_t next, lost_from;
    char *selector, *types; /* own memory */
    bool has_selector, has_token, lagged, lost;
    char token[AUTH_TOKEN_LEN];
    struct loop_task task, end_task;
    struct loop_timer fetching; /* CATCHING_UP, and the next record is being read from the lake */
    bool posted;
    metric *open;   /* gauge that counts it */
    unsigned holds; /* memory is kept while not 0 */
};

/* Opens a reader and fills in f (zeroed before, kind and ctx set). Nothing is kept on error. */
enum err follower_init(struct follower *f, struct rq *rq, const struct selection *sel,
                       struct errinfo *info);
/* Undoes follower_init, before follower_start. */
void follower_fini(struct follower *f);
void follower_start(struct follower *f);
/* Its output has drained. */
void follower_drained(struct follower *f);
/* Its connection is gone. Memory is freed (free(f)) once nothing holds it. */
void follower_close(struct follower *f);
/* The same soon, for a caller that may be inside one of the follower's own functions. */
void follower_close_later(struct follower *f);
void follower_hold(struct follower *f);
void follower_release(struct follower *f);
/* May it still do this? By its token as of now. */
bool follower_permitted(struct follower *f, unsigned access, struct slice topic,
                        const struct principal **who);

extern const struct follower_kind sse_kind;
void sse_heartbeat(struct follower *f);

#endif
