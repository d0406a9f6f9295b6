/* What the files of src/broker share. Not for anyone else.
 *
 * Locks, in this order (a thread that holds one may take a later one):
 *   group shard lock    members of groups, see coordinator_int.h
 *   a cursor's lock, then b->cursors.lock: see cursor_int.h; with none of the others
 *   b->items_lock       groups and key-value items, their dirty lists
 *   b->topics_lock      names, ids, uids, pending creations, dirty topics, trims
 *   dedup shard lock    see dedup.c
 *   the tier's lock     see tier.c
 *   b->wait_lock        waiters
 *   the journal's own locks
 *   b->producers.lock   producers, transactions
 *   the notices' lock   see notices.c
 * What runs under the journal lock (sequence callbacks, checkpoint_collect) takes none of them but
 * producers.lock, and nobody calls journal_append with one held.
 *
 * How a change becomes visible: a unit is sequenced (it gets a ticket if it changes the broker's
 * state), written, and on the writer thread: hooks->committed notes the topics touched, then done()
 * of each unit: broker_frame_visible publishes b->visible_end and wakes readers, the change is
 * applied to memory and marked dirty, the caller is told, the ticket counts as done. */
#ifndef WEIR_BROKER_INT_H
#define WEIR_BROKER_INT_H

#include <stdatomic.h>

#include "base/assert.h"
#include "base/tbl/limits.h"
#include "broker/broker.h"
#include "broker/compaction.h"
#include "broker/cursor_int.h"
#include "broker/dedup.h"
#include "broker/group.h"
#include "broker/kv.h"
#include "broker/producer.h"
#include "broker/state.h"
#include "broker/tier.h"
#include "broker/topic.h"
#include "io/io.h"
#include "io/thread.h"
#include "journal/journal.h"

struct coordinator;
struct notices;

#define BROKER_MAGIC 0x42524f4bu

/* The ids of what changed last, for readers of many partitions: each keeps the count that it has
 * seen, and looks at all when it fell behind. The writer thread adds, anybody reads. Power of two.
 */
#define RECENT_MAX 4096u
struct recent {
    _Atomic uint32_t id[RECENT_MAX];
    _Atomic uint64_t n; /* ever added */
};

struct broker {
    uint32_t magic;
    struct broker_conf conf;
    char *dir;
    struct journal *journal;
    uint8_t hash_seed[16]; /* random: of names in memory */
    uint64_t hash_seed_word;
    struct topic_conf defaults;

    struct topics topics; /* topics_lock */
    struct io_mutex topics_lock;

    struct io_mutex items_lock;
    struct groups groups; /* items_lock */
    struct kvs kvs;       /* items_lock */

    struct cursors cursors; /* its own lock */

    struct coordinator *coordinator;
    struct notices *notices;   /* NULL: nothing is told; see notices.h */
    struct tier *_Atomic tier; /* NULL: not started; stays until the end; see tier.h */
    struct dedup *dedup;
    struct producers producers; /* its own lock */

    /* tickets: see above. ticket_last: journal lock; ticket_done: writer thread writes */
    uint64_t ticket_last;
    _Atomic uint64_t ticket_done;
    /* The checkpoint under way or last made: its number (16 bits, from 1) and the last ticket that
     * it must have (48 bits). Journal lock writes. */
    _Atomic uint64_t checkpoint;
    struct io_mutex ticket_lock;
    struct io_cond ticket_cond; /* a ticket is done and somebody waits */
    _Atomic bool ticket_waited;

    /* writer thread */
    struct topic **touched;
    uint32_t touched_n, touched_cap;

    _Atomic uint64_t visible_end; /* every record of a position below it can be read */
    _Atomic uint64_t commits;     /* grows when anything is committed or topics change */
    struct io_mutex wait_lock;
    struct io_cond wait_cond;         /* `waking` ended */
    struct list_head pattern_waiters; /* wait_lock */
    struct list_head topic_watches;   /* wait_lock */
    struct list_head waking;          /* wait_lock: wakes that run, see waiter.c */
    _Atomic uint32_t waiters_n;       /* armed */
    struct recent recent_parts;       /* uids of partitions committed to */
    struct recent recent_topics;      /* ids of topics made, altered or deleted */

    /* background thread */
    uint32_t retention_at;     /* topic id to go on from */
    uint32_t compaction_at;    /* the same */
    uint32_t compaction_topic; /* goes on from this partition if it is this one */
    int32_t compaction_partition;
    int64_t rolled_ms;
    char sweep_group[LIMIT_GROUP_NAME];
    size_t sweep_group_len;

    _Atomic uint64_t st_appends, st_records, st_bytes, st_duplicates, st_append_errors, st_readers,
        st_trims;
};

/* ---- a change: one unit with one entry of the broker's ---- */

struct change {
    struct journal_unit unit; /* first */
    struct journal_entry entry;
    struct broker *b;
    uint64_t ticket;
    /* Journal lock, before the ticket: may refuse. May be NULL. */
    enum err (*check)(struct change *c);
    /* Writer thread: make it visible (ERR_OK) or undo what was reserved. May be NULL. */
    void (*commit)(struct change *c, enum err e);
    broker_done_fn done; /* may be NULL */
    void *arg;
    struct topic *topic; /* referenced, may be NULL; unreferenced at the change's end */
    void *extra;         /* commit's */
    uint8_t data[];
};

/* data has room for `room` bytes; entry.data.len is to be set. */
struct change *change_new(struct broker *b, uint8_t type, size_t room, broker_done_fn done,
                          void *arg);
/* A check: c->topic is not being deleted. */
enum err change_topic_alive(struct change *c);
/* For a change that was never submitted. */
void change_free(struct change *c);
/* Hands it to the journal. On an error it is freed and commit and done are not called: the caller
 * undoes. block: waits for room instead of ERR_OVERLOADED. */
enum err change_submit(struct change *c, bool block, struct errinfo *info);

/* The error of a refused or failed write in words. */
enum err broker_write_error(struct broker *b, enum err e, struct errinfo *info);

/* Waiting for a broker_done_fn. */
struct sync_wait {
    struct broker *b;
    struct io_mutex lock;
    struct io_cond cond;
    bool finished;
    enum err e;
    struct errinfo info;
};
void sync_wait_init(struct sync_wait *w, struct broker *b);
void sync_wait_done(void *w, enum err e, const struct errinfo *info); /* a broker_done_fn */
/* Blocks (or steps the writer) until done was called, and ends w. Returns its error. */
enum err sync_wait_end(struct sync_wait *w, struct errinfo *info);
/* Ends a w whose call returned e at once. */
enum err sync_wait_drop(struct sync_wait *w, enum err e);

/* Writer thread, at the start of every done(). */
void broker_frame_visible(struct broker *b, enum err e);
#define CHECKPOINT_TICKET(c) ((c) & ((1ull << 48) - 1))
/* Takes the next ticket; journal lock held. */
uint64_t broker_ticket_take(struct broker *b);
/* Writer thread, at the end of a done() whose unit had a ticket. */
void broker_ticket_end(struct broker *b, uint64_t ticket);

/* waiter.c. The topic was made, altered or deleted: wakes its readers and those of patterns. */
void broker_topic_changed(struct broker *b, struct topic *t);
/* These topics have new records, or something else to look at. */
void waiters_wake(struct broker *b, struct topic **topics, uint32_t n);
/* Arms w unless `commits` of t (NULL: of the broker) is no longer `seen`; whether it did. */
bool waiter_arm(struct broker *b, struct topic *t, uint64_t seen, struct waiter *w);
void recent_add(struct recent *r, uint32_t id); /* writer thread */
/* What was added since *seen, at most RECENT_MAX ids, into out; *seen goes on. UINT32_MAX: too much
 * to say. */
uint32_t recent_since(struct recent *r, uint64_t *seen, uint32_t *out);
/* tier.c. Closes what nobody has read for some time; background thread. */
void tier_tick(struct broker *b);
void tier_free(struct broker *b);
void retention_tick(struct broker *b, int64_t wall_ms);

/* append.c: the error of a batch, or a record, larger than the topic takes. */
enum err batch_too_large(size_t size, const struct topic *t, struct errinfo *info);

#endif
