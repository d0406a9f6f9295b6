/* Cursors: shared consumption of a partition, record by record. Any number of members take records
 * of a group's cursor; each record is one member's for the time of a lease, and is settled by it:
 * accepted, released to be delivered again (at once or later), or rejected. A lease that is over
 * releases. A record that was delivered as often as is allowed, or was rejected, is archived; if the
 * group has a dead letter topic, a copy goes there in the same unit of the log.
 *
 * Kafka's share groups are cursors, one a partition; so is whatever else gives out single records.
 *
 * What is settled is durable before it is told, and stays so. Who has what is in memory only: after
 * a restart there are no leases and no delays, and counts of deliveries are as last settled. Nothing
 * is delivered to two members at once, and nothing is skipped that was not settled, deleted or said
 * not to be there.
 *
 * Time: now_ms is monotonic milliseconds as for the coordinator; nothing here reads a clock.
 * cursors_tick ends leases. Threads: all functions may be called by any thread; none blocks, except
 * that dead letters are read from the log where cursor_settle is called. Callbacks: as in broker.h,
 * or by the calling thread before the function returns. */
#ifndef WEIR_BROKER_CURSOR_H
#define WEIR_BROKER_CURSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "base/topic_name.h"
#include "broker/broker.h"

struct cursor;

/* How a cursor gives out records. What it was last used with holds until the next use. */
struct cursor_conf {
    int32_t lease_ms;
    int32_t deliveries_max; /* 0: no limit */
    int32_t records_max;    /* not done between the first and the last that was delivered */
    char dead_letters[TOPIC_NAME_MAX + 1]; /* name of a topic; "": none */
    bool dead_letters_copy;                /* key, value and headers too, not only where it was */
};
/* 30 s, 5 deliveries, 2,000 records, no dead letters. */
void cursor_conf_default(struct cursor_conf *c);
/* ERR_CONFIG, saying what is wrong. */
enum err cursor_conf_check(const struct cursor_conf *c, struct errinfo *info);

/* Referenced; NULL: there is none. Stays valid until unreferenced; once it is deleted, calls answer
 * ERR_NOT_FOUND, or nothing. */
struct cursor *cursor_find(struct broker *b, struct slice group, struct partition *p);
struct cursor *cursor_ref(struct cursor *c);
bool cursor_live(const struct cursor *c); /* it was not deleted */
void cursor_unref(struct cursor **c);

/* Makes the group's cursor of the partition, to begin at this offset, if there is none; and the dead
 * letter topic, if conf (may be NULL) names one that is not there. ERR_GROUP_ID, ERR_INVALID,
 * ERR_LIMIT, or what a topic's making or a write answers. */
enum err cursor_make(struct broker *b, struct slice group, struct partition *p, int64_t start,
                     const struct cursor_conf *conf, broker_done_fn done, void *arg,
                     struct errinfo *info);
/* The cursor begins anew at this offset, whether there was one or not. Leases are gone. */
enum err cursor_set(struct broker *b, struct slice group, struct partition *p, int64_t start,
                    broker_done_fn done, void *arg, struct errinfo *info);
/* ERR_NOT_FOUND. Those of a deleted topic or group (group_delete) go by themselves. */
enum err cursor_delete(struct broker *b, struct slice group, struct partition *p,
                       broker_done_fn done, void *arg, struct errinfo *info);

/* ---- taking records ---- */

/* The first offset at which there may be records to take, for a read of the log; -1: nothing is free
 * to be taken (topic_wait tells when that may have changed; see topic_commits). */
int64_t cursor_next(struct cursor *c, const struct cursor_conf *conf, int64_t now_ms);
/* The first offset, not before `from`, of a record that came back and is free to be taken; -1: there
 * is none. */
int64_t cursor_free_from(struct cursor *c, int64_t from, int64_t now_ms);

struct cursor_taken {
    int64_t first, last;
    uint16_t deliveries; /* with this one */
};
/* Leases to owner what is free from first to last, which must be records that are there: at most
 * `max` of them, as out_max pieces. Returns how many pieces; *records how many records. */
uint32_t cursor_take(struct cursor *c, struct slice owner, int64_t first, int64_t last,
                     uint32_t max, const struct cursor_conf *conf, int64_t now_ms,
                     struct cursor_taken *out, uint32_t out_max, uint32_t *records);
/* The offsets from first to last have nothing to deliver (compacted away, markers, aborted): as far
 * as they are free they are done. Not durable by itself: what reads the log finds it again. */
void cursor_skip(struct cursor *c, int64_t first, int64_t last);

/* ---- settling them ---- */

enum cursor_settlement {
    CURSOR_ACCEPT,
    CURSOR_RELEASE, /* to be delivered again, after delay_ms */
    CURSOR_REJECT,
    CURSOR_RENEW, /* the lease begins anew; it lasts delay_ms, if that is not 0 */
    CURSOR_VOID   /* there was no such record: done, and no dead letter */
};
struct cursor_ack {
    int64_t first, last;
    uint8_t what; /* enum cursor_settlement */
    int32_t delay_ms;
    uint16_t deliveries; /* not 0: only if it is with owner by this delivery */
    bool loose;          /* of records that are there: what is not the owner's is passed over, not
                            refused; ACCEPT, REJECT and VOID settle what is with nobody, too */
};
/* Settles ranges in ascending order, all or none. Below the cursor's start nothing is asked any
 * more. ERR_RECORD_STATE: some are not the owner's, ERR_INVALID: the ranges are not in order,
 * ERR_NOT_FOUND, ERR_TOPIC_NOT_FOUND (dead letters). Otherwise done is called (perhaps before this
 * returns); with an error those that were not settled are still the owner's until the lease ends.
 * Without dead letters that is all of them; what goes to the dead letter topic is written apart. */
enum err cursor_settle(struct cursor *c, struct slice owner, const struct cursor_ack *acks,
                       uint32_t n, int64_t now_ms, broker_done_fn done, void *arg,
                       struct errinfo *info);
/* All that the owner has is free again. undelivered: it never got that far, so that delivery does
 * not count. */
void cursor_release(struct cursor *c, struct slice owner, bool undelivered);

/* Tells what becomes of records by time, or by the way of a settlement. CURSOR_FREE: some may be
 * taken now, or are to be after a delay (it is told again then). CURSOR_SPENT: these were delivered as
 * often as is allowed, and are archived. fn is called by any thread, with the cursor locked: it must be
 * short and call nothing of this header. One at a time; NULL: none, and it is not running any more. */
enum cursor_event { CURSOR_FREE, CURSOR_SPENT };
typedef void (*cursor_watch_fn)(void *arg, enum cursor_event what, int64_t first, int64_t last,
                                uint16_t deliveries);
void cursor_watch(struct cursor *c, cursor_watch_fn fn, void *arg);

/* ---- looking ---- */

struct cursor_info {
    int64_t start;   /* below it all is done */
    int64_t next;    /* from it on nothing was delivered */
    uint64_t undone; /* records between them that are not done */
    uint64_t acquired;
};
void cursor_info_get(struct cursor *c, struct cursor_info *out);
/* Of the record at this offset: may be NULL. False: it is done, or was never delivered. */
bool cursor_record_get(struct cursor *c, int64_t offset, uint16_t *deliveries, bool *acquired);
/* Each cursor of a group, in order of topic id and partition; no lock is held during fn. */
void cursor_each(struct broker *b, struct slice group,
                 void (*fn)(void *arg, struct cursor *c, struct partition *p), void *arg);

/* Ends leases and delays that are over. One thread at a time. */
void cursors_tick(struct broker *b, int64_t now_ms);
#define CURSORS_TICK_MS 100 /* often enough */
/* When the first of them is over; INT64_MAX: there are none. */
int64_t cursors_deadline_ms(struct broker *b);

#endif
