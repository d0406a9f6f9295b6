/* What the files of a stream's store know of each other. See js_store.h.
 *
 *   js_store.c          what is there: messages are added, and go, by limits, time, acks, requests
 *   js_store_log.c      the log: read once, when the stream is opened, then followed
 *   js_store_removed.c  what is remembered durably of what was removed
 *   js_ids.c, js_ttl.c  the window of duplicates; times to live
 *
 * All on the stream's loop; while `busy`, what is under "reading" is a worker's, and while `opening`
 * the rest, too. */
#ifndef WEIR_PROTO_NATS_JS_STORE_INT_H
#define WEIR_PROTO_NATS_JS_STORE_INT_H

#include "broker/removed.h"
#include "journal/journal.h"
#include "proto/nats/js_ids.h"
#include "proto/nats/js_store.h"
#include "proto/nats/js_ttl.h"

#define JSTORE_BLOCK    ((int64_t)REMOVED_BLOCK)
#define JSTORE_TIMER_MS 1000u

struct jstore {
    struct jstream *s;
    struct jfilter *takes; /* subjects that are the stream's; NULL: any */
    int64_t next;          /* offset of the first record that was not looked at */
    /* reading: by a worker while `busy` */
    struct work work;
    struct loop_task task;
    struct plog_read read;
    struct buf scratch, subject, bits;
    struct record_header *headers;
    int64_t to;
    enum err e;
    bool busy, opening, stopped;
    bool failed;         /* the log could not be read: it is opened again by the timer … */
    uint32_t failed_ms;  /* … after so long */
    bool owned;          /* the core's subscribers get its records from here */
    uint64_t bits_block; /* that `bits` is of; REMOVED_BEGIN: none */
    void (*ready)(struct jstream *s, void *arg);
    void *arg;
    /* following */
    struct waiter waiter;
    struct loop_task woken;
    bool waiting;     /* the waiter was armed, and `woken` has not run */
    atomic_bool came; /* … but is posted */
    struct list_head written;
    /* removing */
    struct u64map dirty; /* blocks that are not as their items say */
    struct u64map kept;  /* blocks that have items */
    uint64_t begin;      /* first sequence, as saved */
    int64_t trimmed;     /* offset that the log was trimmed to last */
    bool trimming, flushing;
    int64_t flushed_ms;
    struct jdone trim, save;
    struct loop_timer timer;
    uint64_t timer_at;
    struct jids ids;
    struct jttls ttls;
    int64_t last_ms;
    struct buf last_id;
};

/* ---- js_store.c ---- */

/* The timer comes after so long, or earlier. */
void jstore_timer_in(struct jstore *st, int64_t ms);
/* … now: what is due goes. */
void jstore_tick(struct jstore *st);

/* ---- js_store_log.c ---- */

/* Where the log is to be read from, and how far. */
void jstore_log_begin(struct jstore *st);
void jstore_log_stop(struct jstore *st);
void jstore_log_free(struct jstore *st);

/* ---- js_store_removed.c ---- */

/* What is there of a block is not what its item says. */
void jstore_removed_note(struct jstore *st, uint64_t block);
/* Where the stream begins, as it was saved; the log begins at this offset. While opening. */
void jstore_removed_load(struct jstore *st, int64_t start_offset);
/* Whether a record was removed, as saved; while opening. */
bool jstore_removed_before(struct jstore *st, int64_t offset);
/* It is remembered when it is time for that. */
void jstore_removed_tick(struct jstore *st, int64_t now_ms);
void jstore_removed_fini(struct jstore *st);

#endif
