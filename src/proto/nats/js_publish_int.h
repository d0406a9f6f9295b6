/* What the files of what is published to a stream know of each other. See js_publish.h.
 *
 *   js_publish.c         a message comes: it is looked at, put into the open batch, or refused
 *   js_publish_check.c   whether it may be stored, with what is on its way taken for stored
 *   js_publish_all.c     several messages in one unit, or none (atomic batches)
 *   js_publish_copy.c    messages that no publisher sent: of other streams, of schedules, gaps
 *   js_publish_append.c  batches: one append a turn, and what comes back
 *   js_publish_entry.c   what is kept of a message until its append is back, and its PubAck
 *   js_publish_redo.c    messages that wait, and those that are checked anew as others were first
 *
 * A message is checked by what is known in memory, what is on its way to the log included, and put
 * into the open batch. At the end of a turn the batch becomes one append. What is durable goes
 * through the store (jstore_written), which sees to it that what others wrote before is in the index
 * first; then it is added to the index, answered, and told to consumers.
 *
 *   handle -> open batch -> submit -> batch_came (writer thread) -> batch_back -> jstore_written
 *                 ^           |                                                -> batch_apply
 *                 +-- redo <--+ others were first
 *
 * All on the stream's loop, but for batch_came. */
#ifndef WEIR_PROTO_NATS_JS_PUBLISH_INT_H
#define WEIR_PROTO_NATS_JS_PUBLISH_INT_H

#include "base/buf.h"
#include "base/map.h"
#include "proto/nats/js_facts.h"
#include "proto/nats/js_publish.h"
#include "proto/nats/js_store.h"

/* Bytes on their way, or waiting: publishers are refused from here on. */
#define JPUB_BYTES_MAX   (256u << 20)
#define JPUB_RECORD_ROOM 512u /* of a record beside its bytes, at most */

enum jpub_kind { JPUB_STORED, JPUB_KNOWN, JPUB_REFUSED, JPUB_FILLED };

/* A message that waits: subject, reply, headers, payload, and the tail of its PubAck. */
struct jpub_held {
    struct list_node link;
    uint32_t subject_len, reply_len, header_len, payload_len, tail_len;
    bool more; /* the next one is of the same unit: jpublish_all */
    uint8_t text[];
};

/* In a batch: this, then subject, reply, id, text, tail (of a PubAck), schedule, padded. */
struct jpub_entry {
    uint8_t kind;
    uint8_t rollup;
    bool copied; /* of another stream, or a batch: who put it in tells of it */
    uint32_t subject_len, reply_len, id_len, text_len, tail_len, schedule_len;
    uint32_t bytes;
    int64_t ttl_s;
    uint64_t seq; /* JPUB_KNOWN, or when it is applied; JPUB_FILLED: how many */
    struct append_slot slot;
};

struct jpub_batch {
    struct jwritten w; /* first */
    struct loop_task task;
    struct list_node link;
    struct jstream *s;
    struct append *a;
    struct buf entries;
    uint32_t stored;
    uint64_t bytes;
    struct append_slot first, last;
    enum err e;
    bool guarded;          /* it holds only right behind what was looked at: … */
    int64_t base;          /* … if its first record gets this offset */
    struct list_head told; /* struct jpub_held: what was put in since it is guarded */
    size_t told_bytes;
};

struct jpublish {
    struct jstream *s;
    struct jlater later;
    struct jpub_batch *open;
    struct jpub_batch *spare;
    struct list_head batches; /* under way, in order */
    struct list_head closed;  /* full ones that wait, in order: before the open one */
    struct list_head held;    /* struct jpub_held: came while the stream was being loaded */
    size_t batch_bytes, held_bytes;
    size_t entry_bytes;     /* of entries: refusals are in no other sum */
    uint64_t lost, told_ms; /* not kept, without an answer, since the log told of it; when */
    uint32_t under_way;     /* batches that were submitted and are not applied */
    uint32_t submitted;     /* … that are not back */
    uint64_t msgs, bytes;   /* in the open one and those under way */
    uint64_t away;          /* messages of those under way */
    bool redoing;           /* nothing is submitted until the index has come to: */
    int64_t redo_from;      /* offset */
    unsigned late;          /* times that a guarded batch was refused, since one was not */
    bool reserved;          /* the partition is, for this stream */
    struct loop_timer retry;
    bool stopped, copying;
    bool together; /* what is put in now is of one unit */
    /* of messages on their way, by hash of their subject; while tracking */
    bool tracking;
    struct u64map last, count;
    struct buf last_id;
    struct buf tail, schedule; /* for the next entry that is added */
    char *ack;
    size_t ack_len;
    struct buf mapped, sent; /* a subject, a message that is sent on */
    struct buf amended;      /* headers */
    struct record_header *headers;
};

/* ---- js_publish.c ---- */

/* Stores it, answers, or refuses it. False: it waits, and nothing was done. may_wait: also for what
 * others appended that its publisher may know of. */
bool jpub_message(struct jpublish *p, struct slice as, struct slice reply, struct slice headers,
                  struct slice payload, bool may_wait);
/* Puts a checked message into the open batch. */
enum err jpub_store(struct jpublish *p, struct slice reply, const struct jwish *w,
                    struct slice headers, struct slice payload);
/* m, a checked message, becomes what is to be stored, perhaps in text. ERR_AGAIN: that is not known
 * yet; ERR_INVALID: f. */
enum err jpub_amend(struct jpublish *p, struct jwish *w, struct jmsg *m, bool copied,
                    struct buf *text, struct js_fault *f);
/* What the stream makes of a subject; valid until the next call. */
struct slice jpub_mapped(struct jpublish *p, struct slice subject);

/* ---- js_publish_check.c ---- */

/* The last sequence, of what is on its way too. */
uint64_t jpub_last_seq(const struct jpublish *p);
bool jpub_check(struct jpublish *p, const struct jwish *w, struct slice headers,
                struct slice payload, struct js_fault *f);
/* Of the stream, where it is not to discard what is old: whether there is room for a message. */
bool jpub_check_limits(struct jpublish *p, struct slice subject, uint32_t bytes,
                       struct js_fault *f);
/* Whether what is decided on a message holds only as long as nobody else appends. */
bool jpub_depends(const struct jpublish *p, const struct jwish *w);
/* Whether a publisher may know of more than the index has: what others appended is durable already.
 * Then it is waited for. */
bool jpub_knows_more(struct jpublish *p, const struct jwish *w);
/* A message of this subject is on its way, with this sequence; is not any more. Nothing unless
 * p->tracking. */
void jpub_ahead_add(struct jpublish *p, struct slice subject, uint64_t seq);
void jpub_ahead_take(struct jpublish *p, struct slice subject);
/* Those of the batch are; *seq: the sequence before them, then the last one's. */
void jpub_ahead_scan(struct jpublish *p, struct jpub_batch *b, uint64_t *seq);
/* What is known of a subject's messages on their way (tracking from now on), to have it again. */
struct jpub_before {
    uint64_t hash, last;
};
struct jpub_before jpub_ahead_before(struct jpublish *p, struct slice subject);
/* Takes back what jpub_ahead_add added since. */
void jpub_ahead_back(struct jpublish *p, struct slice subject, const struct jpub_before *was);

/* ---- js_publish_append.c ---- */

struct jpub_batch *jpub_batch_open(struct jpublish *p);
/* The open one is as large as an append may be, or is to stay apart. */
void jpub_batch_close(struct jpublish *p);
/* It is over, or what was in it is made anew. */
void jpub_batch_done(struct jpublish *p, struct jpub_batch *b);
/* What a record may take of a batch; whether the open one has so much. */
size_t jpub_record_room(const struct jwish *w, struct slice headers, struct slice payload);
bool jpub_fits(const struct jpublish *p, size_t room);
enum err jpub_record_put(struct jpublish *p, const struct jwish *w, struct slice headers,
                         struct slice payload, struct append_slot *slot);
/* So many records are in the open batch, up to the one at this slot. */
void jpub_batch_count(struct jpublish *p, struct append_slot first, struct append_slot last,
                      uint32_t n, uint32_t bytes);
/* Publishers are to slow down, or not any more. */
void jpub_pressed_set(struct jpublish *p);
void jpub_append_begin(struct jpublish *p);
void jpub_append_stop(struct jpublish *p);

/* ---- js_publish_entry.c ---- */

/* Adds one to the open batch, with what is in p->tail and p->schedule. */
struct jpub_entry *jpub_entry_add(struct jpublish *p, enum jpub_kind kind, struct slice subject,
                                  struct slice reply, struct slice id, struct slice text);
/* … of a message that is to be stored, whose record is at this slot of it. */
void jpub_entry_stored(struct jpublish *p, const struct jwish *w, struct slice reply,
                       struct slice headers, struct slice payload, struct append_slot slot);
/* The one at this place of a batch (0: the first), which then is the next one's; NULL: there is none. */
struct jpub_entry *jpub_entry_next(struct jpub_batch *b, size_t *at);
struct slice jpub_entry_subject(const struct jpub_entry *e);
struct slice jpub_entry_id(const struct jpub_entry *e);
/* The batch is durable: its messages are in the index from now on. */
void jpub_entries_apply(struct jpublish *p, struct jpub_batch *b);
/* It does not come to the log. */
void jpub_entry_failed(struct jpublish *p, const struct jpub_entry *e);
/* Is answered with the fault, after what came before it. */
void jpub_refuse(struct jpublish *p, struct slice reply, const struct js_fault *f);
/* Messages are not kept whose publishers are not told. */
void jpub_lose(struct jpublish *p, uint64_t n, const char *why);
/* Sends those of a batch, in order; failed: of what was to be stored, that it is not. */
void jpub_answers(struct jpublish *p, struct jpub_batch *b, enum err failed);

/* ---- js_publish_redo.c ---- */

/* A copy. */
struct jpub_held *jpub_held_new(struct slice subject, struct slice reply, struct slice headers,
                                struct slice payload, struct slice tail);
/* A message waits, behind those that do. */
void jpub_hold(struct jpublish *p, const struct nmsg *m);
/* Those that wait are dealt with, in order, as far as that goes; are forgotten. */
void jpub_held_go_on(struct jpublish *p);
void jpub_held_drop(struct jpublish *p);
/* A message is put in that depends on what is in the log, or not: those that do not, and are made
 * anew by nobody, stay apart. */
void jpub_guard_begin(struct jpublish *p, bool depending);
/* What was put into the open batch is remembered, if it may have to be checked anew. Takes h. */
void jpub_guard_tell(struct jpublish *p, bool depending, struct jpub_held *h);
void jpub_told_clear(struct jpublish *p, struct jpub_batch *b);
/* Nothing is submitted until the index has come to this offset. */
void jpub_redo_from(struct jpublish *p, int64_t offset);
/* A guarded batch was refused: others were first. What they appended is to be in the index before
 * anything goes on. */
void jpub_redo_later(struct jpublish *p);
/* Checks anew, as soon as the index has what others appended. */
void jpub_redo_try(struct jpublish *p);
/* … and looks again later if it does not. */
void jpub_redo_retry(struct jpublish *p);
void jpub_reserve_end(struct jpublish *p);

#endif
