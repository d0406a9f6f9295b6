/* What the files of cursors share. Not for anyone outside the broker.
 *
 * A cursor is found in the index by group, topic and partition. The index holds one reference; a
 * deleted cursor leaves the index at once and waits, as a tombstone, for the checkpoint to delete its
 * row; one made anew is another object with another epoch.
 *
 * A settlement (struct settle) marks its ranges as settling, under the cursor's lock; they can be
 * neither taken nor settled nor expire then. Its units go to the journal without a lock: one with
 * all that needs no copy, and one for each portion of dead letters. When a unit is durable the writer
 * thread applies the entry, as recovery does; when it failed the ranges are as they were before.
 *
 * Locks, in this order: the cursor's own, then b->cursors.lock (index, lists). Neither is held while
 * the journal, the catalogue or a callback is called. */
#ifndef WEIR_BROKER_CURSOR_INT_H
#define WEIR_BROKER_CURSOR_INT_H

#include <stdatomic.h>

#include "base/list.h"
#include "base/map.h"
#include "broker/cursor.h"
#include "broker/cursor_ranges.h"
#include "broker/ordered.h"
#include "broker/state.h"
#include "broker/topic.h"
#include "io/thread.h"

#define CURSOR_MAGIC     0x43555253u
#define CURSOR_KEY_TAIL  9u /* NUL, u32 topic, u32 partition, big-endian, behind the group */
#define CURSOR_KEY_MAX   (LIMIT_GROUP_NAME + CURSOR_KEY_TAIL)
#define CURSOR_TIMER_OFF INT64_MAX

/* Who has records; in the cursor's map while it has some. */
struct cursor_owner {
    uint64_t records;
    size_t len;
    uint8_t name[];
};

struct cursor {
    uint32_t magic;
    atomic_uint refs;
    struct broker *b;
    /* b->cursors.lock */
    struct ordered_node node;
    struct list_node dirty_link, timed_link;
    enum dirty dirty;
    bool timed;           /* in the list */
    _Atomic bool gone;    /* out of the index */
    _Atomic bool starved; /* somebody found nothing to take */
    struct io_mutex lock;
    /* lock */
    struct topic *topic; /* referenced; NULL: it was gone already when the row was loaded */
    struct partition *p;
    uint64_t epoch;
    struct cursor_ranges r;
    struct map owners;
    uint64_t acquired; /* records */
    uint64_t counted;  /* r.undone as in b->cursors.undone */
    struct cursor_conf conf;
    cursor_watch_fn watch; /* NULL: nobody */
    void *watch_arg;
    _Atomic int64_t timer_ms; /* when the tick is to look at it */
    size_t key_len;
    uint8_t key[];
};

struct cursors {
    struct io_mutex lock;
    struct ordered by_key;
    struct list_head dirty, sent, timed;
    struct list_head parked;   /* dead letters that wait for the lake: cursor_dead.c */
    _Atomic uint64_t undone;   /* records, of all */
    _Atomic int64_t ticked_ms; /* the last tick's time */
    uint8_t sweep[CURSOR_KEY_MAX];
    size_t sweep_len; /* background thread: where the sweep goes on */
    _Atomic uint64_t st_taken, st_redelivered, st_accepted, st_released, st_archived, st_expired,
        st_dead_letters, st_dead_letters_lost;
};

static inline struct slice cursor_group(const struct cursor *c)
{
    return slice_of(c->key, c->key_len - CURSOR_KEY_TAIL);
}

void cursors_init(struct broker *b);
void cursors_fini(struct broker *b);
enum err cursors_load(struct broker *b, struct sqlite3 *db, struct errinfo *info);
enum err cursors_save(struct broker *b, struct sqlite3 *db, struct errinfo *info);
void cursors_saved(struct broker *b, bool committed);
/* Drops cursors of topics that are no more, looking at `max`. Background thread. */
void cursors_sweep(struct broker *b, unsigned max);
bool cursors_of_group(struct broker *b, struct slice group); /* has it any? */

/* Make entries so. Writer thread or recovery. */
void cursor_apply(struct broker *b, const struct entry_cursor *e);
/* v: of a settlement, the same ranges with their delays; NULL: without. */
struct settle_range;
void cursor_apply_ranges(struct broker *b, const struct entry_cursor_ranges *e,
                         const struct settle_range *v);
void cursor_apply_group_delete(struct broker *b, struct slice group);

/* ---- cursor.c ---- */

size_t cursor__key(uint8_t key[CURSOR_KEY_MAX], struct slice group, uint32_t topic,
                   uint32_t partition);
/* Referenced; NULL: none. */
struct cursor *cursor__find(struct broker *b, struct slice key);
/* A new one, in the index, not dirty; takes the reference to the topic. Referenced. */
struct cursor *cursor__add(struct broker *b, struct slice key, struct topic *t, struct partition *p,
                           uint64_t epoch, int64_t start);
/* Out of the index, to be deleted from the checkpoint. */
void cursor__drop(struct cursor *c);
void cursor__dirty(struct cursor *c);
void cursor__lock(struct cursor *c);
void cursor__unlock(struct cursor *c); /* also counts what is undone */
/* Cursor locked: the tick is to look at it then. */
void cursor__timer(struct cursor *c, int64_t at_ms);
/* Cursor locked: all below start is done and forgotten. */
void cursor__advance(struct cursor *c, int64_t start);
/* Cursor locked: the range is nobody's any more. */
void cursor__disown(struct cursor *c, struct cursor_range *x);
/* Records may be free to be taken now. */
void cursor__wake(struct cursor *c);
/* Cursor locked: tells who watches. */
static inline void cursor__tell(struct cursor *c, enum cursor_event what, int64_t first,
                                int64_t last, uint16_t deliveries)
{
    if (c->watch)
        c->watch(c->watch_arg, what, first, last, deliveries);
}

/* ---- cursor_settle.c ---- */

enum settle_why { WHY_CLIENT, WHY_REJECTED, WHY_DELIVERIES };
struct settle_range {
    int64_t first, last;
    int64_t at_ms; /* released: not before; 0: at once */
    uint16_t deliveries;
    uint8_t state; /* enum cursor_saved */
    uint8_t why;   /* archived: enum settle_why */
};
struct settle {
    struct cursor *c; /* referenced */
    uint64_t epoch;
    struct settle_range *v;
    uint32_t n, cap;
    struct cursor_conf conf;
    broker_done_fn done; /* may be NULL */
    void *arg;
    atomic_uint left;   /* units on their way, and 1 */
    _Atomic int result; /* enum err */
};
struct settle *settle_new(struct cursor *c, broker_done_fn done, void *arg); /* cursor locked */
void settle_add(struct settle *s, const struct settle_range *x);
/* Cursor locked: the lease of a range is over. */
void settle_expire(struct settle *s, const struct cursor_range *x);
/* Cursor locked: nobody else may have these. */
void settle_mark(struct settle *s);
/* Without a lock: to the journal. Ends s. */
void settle_submit(struct settle *s);
/* Writes the entry of a run of ranges to dst, which has room for settle_entry_size. */
size_t settle_entry_size(const struct settle *s, uint32_t n);
size_t settle_entry_write(const struct settle *s, const struct settle_range *v, uint32_t n,
                          uint8_t *dst);
/* A unit is over; with an error its ranges are free to be settled again. Any thread. */
void settle_unit_end(struct settle *s, const struct settle_range *v, uint32_t n, enum err e);

/* ---- cursor_dead.c ---- */

/* Dead letters whose records are read from the lake go on: when a tick comes; at the end, with ended,
 * they are given up. */
void dead_letters_resume(struct broker *b, bool ended);
bool dead_letters_parked(struct broker *b); /* cursors.lock is held */
/* One unit less is on its way; the last ends s. */
void settle__left(struct settle *s);
/* Takes these ranges, all archived: copies to the dead letter topic, unit by unit. */
void settle_dead(struct settle *s, const struct settle_range *v, uint32_t n);
/* The dead letter topic, referenced; NULL: there is none, or it is being deleted. */
struct topic *dead_letters_topic(struct broker *b, const struct cursor_conf *conf);

/* ---- append.c ---- */

struct append;
enum err append_cursor_ranges(struct append *a, const struct settle *s,
                              const struct settle_range *v, uint32_t n);

#endif
