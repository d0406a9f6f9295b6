/* What the files of JetStream's consumers know of each other. See js_int.h.
 *
 *   js_consumer.c        a consumer: made, in its turns, closed; what there is to say of it
 *   js_consumer_saved.c  what is durable of consumers: made, deleted, loaded
 *   js_consumers.c       all of a stream's: messages for them, and what the stream tells
 *   js_consumer_api.c    requests of the API about consumers
 *   js_pull.c            requests for messages that wait
 *   js_deliver.c         what is delivered next, and to whom
 *   js_ack.c             what is acknowledged
 *   js_window.c          what was delivered and is not acknowledged
 *   js_words.c           what clients say, taken apart
 *
 * A consumer that is acknowledged to is a cursor of the broker's, whose only owner it is. The cursor
 * knows, durably, what is done, and for how long records are leased; what comes again it says. The
 * consumer has in memory what clients are told beside: its own numbers of deliveries, when they were.
 * Where it was is also saved now and then (PLACE_NS), so that its numbers go on after a restart. One
 * that is not acknowledged to has nothing but that place.
 *
 * All that comes for a consumer in one turn of its loop, be it acknowledgements, requests or news of
 * the stream, is dealt with at the end of the turn by jconsumer_work: acknowledgements in one
 * settlement, then requests, then deliveries.
 *
 * Threads: the stream's loop; what says otherwise says so. */
#ifndef WEIR_PROTO_NATS_JS_CONSUMER_INT_H
#define WEIR_PROTO_NATS_JS_CONSUMER_INT_H

#include "base/tbl/limits.h"
#include "broker/cursor.h"
#include "proto/nats/js_int.h"
#include "proto/nats/js_window.h"
#include "proto/nats/js_words.h"

#define JCONSUMER_NS "js.consumer" /* items: what consumers there are */
#define JPLACE_NS    "js.place"    /* where they were */
#define JSPENT_NS    "js.spent"    /* what was delivered as often as is allowed, and is kept */
#define JPIN_LEN     22u

/* A request that has come and was not looked at yet. */
struct jasked {
    struct list_node link;
    size_t reply_len, body_len;
    uint8_t text[]; /* reply, body */
};

/* A request for messages that waits. */
struct jpull {
    struct list_node link;
    int64_t left;                               /* messages that it still takes */
    int64_t delivered;                          /* that it got */
    int64_t bytes;                              /* that it still takes; 0: it did not say */
    uint64_t expires_ms, heartbeat_ms, beat_ms; /* of the loop's clock; 0: none */
    int64_t min_pending, min_ack_pending, priority;
    bool no_wait;
    char id[JPULL_WORD_MAX + 1]; /* the pin that it says it has */
    bool grouped;
    size_t reply_len;
    uint8_t reply[];
};

/* One acknowledgement of this turn. */
struct jack {
    uint64_t seq, last; /* from seq to last */
    int64_t delay_ms;
    uint8_t what; /* enum cursor_settlement */
};

struct jconsumer {
    struct jstream *s; /* it is one of its consumers; not counted */
    struct js *js;
    struct nloop *l;
    atomic_uint refs; /* 1 while it is there, and what is under way */
    bool gone;
    struct jconsumer_conf conf;
    int64_t created_ns;
    uint64_t start;        /* the first sequence when it was made */
    bool saved;            /* as an item of the broker */
    bool acked;            /* it is acknowledged to: it has a cursor */
    char *group;           /* the cursor's */
    struct cursor *cursor; /* NULL: it is being made */
    struct cursor_conf lease;
    struct jreader *reader;
    struct jfilter *filter; /* NULL: all */
    char *ack_prefix;       /* "$JS.ACK.<stream>.<consumer>." */
    size_t ack_prefix_len;
    /* where it is */
    uint64_t next;                    /* nothing from here on was delivered */
    uint64_t last_seq;                /* of the newest delivery for the first time */
    uint64_t dseq;                    /* of the next delivery */
    uint64_t pending;                 /* messages from next on that it takes … */
    uint64_t counted;                 /* … and that are not behind this one */
    int64_t active_ns, ack_active_ns; /* of the last delivery and acknowledgement; 0: none */
    struct jwindow window;
    uint64_t *lasts; /* last per subject: what is to be delivered, in order, up to `resume` */
    uint32_t lasts_n, lasts_at;
    uint64_t resume; /* from here on all that it takes is */
    uint64_t *spent; /* kept though they were delivered as often as is allowed; js_spent.c */
    uint32_t spent_n;
    bool parking;               /* some of them are being saved */
    struct list_head unparking; /* struct junparked */
    /* this turn */
    struct jlater work;
    struct list_head asked; /* struct jasked */
    uint32_t asked_n;
    struct jack *acks;
    uint32_t acks_n, acks_cap;
    struct buf replies; /* of who wants to know: js_replies.h */
    /* what waits */
    struct list_head pulls; /* struct jpull */
    uint32_t pulls_n;
    uint64_t last_pull_ms;
    struct buf headers; /* of a message to which some are added */
    uint32_t refusing;  /* settlements under way by which messages come back at once */
    bool reading;       /* jreader says when to go on */
    bool more_posted;
    struct loop_task more; /* to go on in the next turn */
    struct loop_timer timer;
    uint64_t not_before_ms; /* the loop's clock: replay, rate, receivers that are slow */
    uint64_t place_ms;      /* when the place is to be saved; 0: it is */
    uint64_t idle_since_ms; /* without interest or requests; 0: it is in use */
    char pin[JPIN_LEN + 1]; /* of the pinned client; "": none */
    int64_t pinned_ns;
    uint64_t pin_until_ms;
    /* push */
    bool bound, looked; /* somebody listens; it was looked */
    uint64_t bound_stamp;
    uint64_t beat_ms;                                 /* the next heartbeat */
    uint64_t window_bytes, unread_bytes, asked_bytes; /* flow control */
    char fc[16];         /* the token of the one that was sent; "": none */
    int64_t replayed_ns; /* the time of the message before; 0: none */
    uint64_t replay_end; /* up to here it is replayed as it was */
    uint64_t replay_seq; /* the one that was waited for */
    double rate_room;    /* bytes that may be sent at once */
    uint64_t rate_ms;
    int sample; /* per cent */
    /* told by other threads */
    struct loop_task told;
    atomic_bool told_posted;
    struct io_mutex told_lock;
    struct jspent_note *told_spent; /* told_lock */
};

struct jspent_note {
    struct jspent_note *next;
    int64_t first, last;
    uint16_t deliveries;
};

static inline struct slice jconsumer_name(const struct jconsumer *c)
{
    return slice_str(c->conf.name);
}
static inline bool jconsumer_push(const struct jconsumer *c)
{
    return c->conf.deliver_subject != NULL;
}

/* ---- js_consumer.c ---- */

struct jconsumer *jconsumer_find(const struct jstream *s, struct slice name);
void jconsumer_ref(struct jconsumer *c);
void jconsumer_unref(struct jconsumer *c);
/* jconsumer_work is called at the end of this turn. */
void jconsumer_wake(struct jconsumer *c);
/* … in the next one. */
void jconsumer_wake_later(struct jconsumer *c);
/* A checked configuration, with a name, is taken; nothing is durable yet. */
struct jconsumer *jconsumer_new(struct jstream *s, struct jconsumer_conf *conf, int64_t created_ns);
/* Where it begins, by its policy. */
void jconsumer_start(struct jconsumer *c);
/* A new one, of a checked configuration, whose next message has this sequence, and this number as a
 * delivery; seq 0: as its policy says. */
struct jconsumer *jconsumer_at(struct jstream *s, struct jconsumer_conf *conf, uint64_t seq,
                               uint64_t dseq);
/* What follows from the configuration. */
void jconsumer_configure(struct jconsumer *c);
/* All else than what is durable: stops, tells who waits. Its owner's reference goes. */
void jconsumer_close(struct jconsumer *c, const char *status);
/* pending is counted anew. */
void jconsumer_recount(struct jconsumer *c);
/* Its cursor is not done with it, or never had it. */
bool jconsumer_open(const struct jconsumer *c, uint64_t seq);
/* Begins anew at this sequence. */
void jconsumer_rewind(struct jconsumer *c, uint64_t seq);
json_t *jconsumer_info(struct jconsumer *c);
struct jfloor {
    uint64_t dseq, seq;
};
struct jfloor jconsumer_floor(const struct jconsumer *c);
/* The deadline of its timer comes no later than this. */
void jconsumer_due(struct jconsumer *c, uint64_t at_ms);
uint64_t jconsumer_now_ms(const struct jconsumer *c);
/* Nothing is delivered until pause_until. */
bool jconsumer_paused(const struct jconsumer *c);
/* Its stream's and its own name are put in and behind the subject. */
void jconsumer_advise(struct jconsumer *c, const char *subject, const char *type, json_t *o);

/* Its cursor is there: it is listened to. */
void jconsumer_cursor_found(struct jconsumer *c);
/* The four, one behind the other; to be freed. */
char *jconsumer_text(const char *a, const char *b, const char *c, const char *d);

/* ---- js_consumer_saved.c ---- */

/* The key of its items. */
struct slice jconsumer_key(const struct jconsumer *c, char out[LIMIT_KV_KEY]);
/* Deletes it, durably; then (may be NULL) is called on its loop when that is so. */
void jconsumer_delete(struct jconsumer *c, void (*then)(void *arg, enum err e), void *arg);
/* Its item and its cursor; then (may be NULL) is called on its loop when both are durable. */
void jconsumer_make(struct jconsumer *c, void (*then)(void *arg, enum err e), void *arg);
/* Its item. Asynchronous; ERR_OVERLOADED … at once. */
enum err jconsumer_save(struct jconsumer *c, broker_done_fn done, void *arg);
/* The place is to be saved soon. */
void jconsumer_moved(struct jconsumer *c);
/* Where it is, now. */
void jconsumer_place_save(struct jconsumer *c);
/* Its items; done may be NULL. */
void jconsumer_items_drop(struct jconsumer *c, broker_done_fn done, void *arg);
/* One of a stream that is being loaded, from its item. */
void jconsumer_restore(struct jstream *s, const json_t *o);

/* ---- js_spent.c ---- */

struct jspent {
    uint64_t seq;
    uint32_t deliveries;
};
/* These were delivered as often as is allowed, but their stream keeps them: that is remembered, then
 * they are done with. c->parking meanwhile: none is parked before. */
void jconsumer_park(struct jconsumer *c, const struct jspent *v, uint32_t n);
/* The cursor is told to be done with one that is parked. */
void jconsumer_part(struct jconsumer *c, uint64_t seq);
/* It was, or is about to be; also while its acknowledgement is not durable. */
bool jconsumer_parked(const struct jconsumer *c, uint64_t seq);
/* One that is parked is acknowledged after all: its stream may let it go. Who asked for an answer (reply
 * not empty) has it when that is durable. */
void jconsumer_unpark(struct jconsumer *c, uint64_t seq, struct slice reply);
/* Those from this sequence on are delivered anew. */
void jspent_forget(struct jconsumer *c, uint64_t from);
void jspent_load(struct jconsumer *c);

/* ---- js_pull.c ---- */

void jpull_asked(struct jconsumer *c, struct slice reply, struct slice body);
/* Those that came in this turn wait from now on, or are answered. */
void jpulls_take(struct jconsumer *c);
/* The one that is to have the next message, of this size; NULL: nobody. It counts as given. */
struct jpull *jpull_pick(struct jconsumer *c, size_t size);
/* It was delivered to it. */
void jpull_given(struct jconsumer *c, struct jpull *p);
/* Requests whose time is over, heartbeats; eos: there is nothing more to deliver now. */
void jpulls_look(struct jconsumer *c, bool eos);
/* All are told, and go. */
void jpulls_end(struct jconsumer *c, const char *status);
void jpin_drop(struct jconsumer *c, const char *reason);

/* ---- js_deliver.c ---- */

void jdeliver(struct jconsumer *c);
/* Whether a message that is not delivered yet is to be. */
bool jconsumer_ahead(const struct jconsumer *c, uint64_t seq);
/* Whether somebody listens, push: looked up anew. */
void jpush_look(struct jconsumer *c);
void jpush_flow(struct jconsumer *c, struct slice token, struct slice headers);
void jpush_beat(struct jconsumer *c);

/* ---- js_ack.c ---- */

/* A message for "$JS.ACK.<stream>.<consumer>.<tail>". */
void jack_take(struct jconsumer *c, struct slice tail, struct slice reply, struct slice body);
/* All up to a sequence, which is text: what a client says with flow control. */
void jack_up_to(struct jconsumer *c, struct slice number);
/* All of this turn are settled. */
void jacks_settle(struct jconsumer *c);
/* The message is not to be acknowledged any more: it was removed from the stream. */
void jack_void(struct jconsumer *c, uint64_t seq, const char *reason);
/* It was delivered as often as is allowed. */
void jack_spent(struct jconsumer *c, uint64_t seq, uint32_t deliveries);
/* One that was parked is acknowledged; to be told: replies, as the consumer's. */
void jack_late(struct jconsumer *c, uint64_t seq, struct slice replies);
void jack_queue(struct jconsumer *c, uint64_t seq, uint64_t last, uint8_t what, int64_t delay_ms);

/* How long a lease lasts, of the delivery number n. */
int32_t jconsumer_lease_ms(const struct jconsumer *c, uint32_t n);

#endif
