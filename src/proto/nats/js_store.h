/* What is durable in a stream's log, as the stream sees it: its index is kept, limits are applied,
 * what is removed is remembered. See js_store.c. All on the stream's loop. */
#ifndef WEIR_PROTO_NATS_JS_STORE_H
#define WEIR_PROTO_NATS_JS_STORE_H

#include "proto/nats/js_facts.h"
#include "proto/nats/js_stream.h"

/* s->topic and s->p are set; s->conf is what holds. Reads the log; then s is not loading any more,
 * what waited is done, and `ready` is called. */
void jstore_open(struct jstream *s, void (*ready)(struct jstream *s, void *arg), void *arg);
/* Nothing is begun any more. */
void jstore_stop(struct jstream *s);
void jstore_free(struct jstream *s);

/* An own append is durable: fn is called, perhaps later, for each of its records in order of the log,
 * when what others wrote before them is in the index. */
struct jwritten {
    struct list_node link;
    int64_t first, last; /* offsets */
    void (*apply)(struct jwritten *w);
};
void jstore_written(struct jstream *s, struct jwritten *w);
/* The next message is there, with this sequence; applies what follows from it. */
void jstore_add(struct jstream *s, uint64_t seq, const struct jfacts *f);
/* So many sequences up to last are not there, and never were: their records only fill the place. */
void jstore_gap(struct jstream *s, uint64_t n, uint64_t last);
/* Nothing is on its way any more: looks at what others wrote meanwhile. */
void jstore_follow(struct jstream *s);
/* The subject of a record with this key, or empty, as there is none; scratch is for one that is made of it. */
struct slice jstore_subject(struct jstream *s, struct slice key, struct buf *scratch);

/* Removes one that is there. Lazily remembered: see jstore_flush. */
void jstore_remove(struct jstream *s, uint64_t seq);
/* Removes all below first. */
void jstore_purge(struct jstream *s, uint64_t first);
/* Removes what the filter takes, below `below` (0: all) but for the last `keep` of it. How many. */
uint64_t jstore_purge_filter(struct jstream *s, struct jfilter *f, uint64_t below, uint64_t keep);
/* Everything that was removed is to be remembered durably; then d->fn. */
void jstore_flush(struct jstream *s, struct jdone *d, void (*fn)(struct jdone *d));
/* The item `key` of `ns` is deleted with all that is remembered of what was removed; jdone_call is
 * called with d. */
void jstore_forget(struct jstream *s, const char *ns, struct slice key, struct jdone *d);
/* The configuration changed: limits are applied. */
void jstore_limits(struct jstream *s);
/* … and jstream_taken. */
void jstore_retake(struct jstream *s);

/* Sequence of a message with this id, in the window; 0: none. UINT64_MAX: it is under way. */
uint64_t jstore_dedup_find(struct jstream *s, struct slice id);
void jstore_dedup_begin(struct jstream *s, struct slice id);
void jstore_dedup_cancel(struct jstream *s, struct slice id);
/* The offset behind what is in the index. */
int64_t jstore_next(const struct jstream *s);
/* Time of the last message that there was, JTIME_NONE: there was none; id of it. */
int64_t jstore_last_ms(const struct jstream *s);
struct slice jstore_last_id(const struct jstream *s);

#endif
