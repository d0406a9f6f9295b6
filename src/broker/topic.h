/* Topics and partitions: the catalogue. See topic.c. */
#ifndef WEIR_BROKER_TOPIC_H
#define WEIR_BROKER_TOPIC_H

#include <stdatomic.h>

#include "base/list.h"
#include "base/tbl/limits.h"
#include "broker/broker.h"
#include "broker/ordered.h"
#include "broker/state.h"
#include "io/thread.h"

#define TOPIC_MAGIC      0x544f5049u
#define PARTITION_CHUNKS 14u /* chunk k holds 2^k partitions: 16,383 in all */

struct partition {
    struct topic *topic;
    struct plog *log;
    struct partition *uid_next; /* topics_lock */
    uint32_t uid;
    int32_t index;
    int64_t start_saved;  /* topics_lock: first kept offset that is or will be in the checkpoint */
    uint64_t trim_at;     /* topics_lock: number of its last struct trim, plus 1 */
    struct ptxn *txn;     /* producers.lock; NULL: never had a transaction */
    _Atomic int64_t hold; /* see partition_hold */
    /* Where the log ended when retention looked; [0]: so long ago that age alone may end a record.
     * The background thread's. */
    struct {
        int64_t wall_ms, end;
    } seen[2];
    _Atomic uint64_t reserved_until_ns; /* see partition_reserve; 0: not reserved */
    /* The first offset kept in the lake of those that the local log has no longer; at or beyond the
     * local start: none is kept there; -1: none ever was. Only grows. */
    _Atomic int64_t tier_start;
    _Atomic int64_t expired;  /* see partition_expired */
    _Atomic int64_t unstable; /* first offset of an open transaction, plus 1; 0: none */
};

enum dirty { CLEAN, DIRTY, SENT };

struct topic {
    uint32_t magic, id;
    atomic_uint refs; /* the catalogue holds one */
    struct broker *broker;
    struct ordered_node by_name; /* topics_lock, as the next five */
    struct topic *name_next, *id_next, *uuid_next;
    struct list_node dirty_link;
    enum dirty dirty;
    bool changing;         /* an alter is on its way */
    _Atomic bool deleting; /* a delete is sequenced or done: appends are refused; journal lock */
    _Atomic bool deleted;
    _Atomic bool scattered;       /* a key's records may be in several partitions */
    _Atomic bool scattered_saved; /* and that is journalled */
    bool touched;                 /* writer thread: in b->touched */
    _Atomic uint32_t sticky;      /* counts null keys */
    uint8_t uuid[16];
    int64_t created_ms;
    int32_t partitions_first; /* partitions when it was made */
    _Atomic int32_t partitions_n;
    struct partition *chunk[PARTITION_CHUNKS]; /* set before partitions_n covers them */
    /* the configuration: what appends need, apart; the rest only if it is not all default */
    _Atomic int32_t max_message_bytes;
    _Atomic uint8_t durability;
    _Atomic uint8_t compression; /* enum codec, of the batches that Weir makes */
    _Atomic int8_t recode;       /* enum codec, of those that clients made; -1: as they come */
    _Atomic uint8_t timestamp_type;
    _Atomic uint8_t cleanup; /* TOPIC_CLEANUP_…, TOPIC_BY_OFFSET */
    _Atomic int64_t timestamp_after_max_ms, timestamp_before_max_ms; /* of Kafka's producers */
    struct topic_conf *conf; /* topics_lock; NULL: the defaults */
    _Atomic uint64_t commits;
    struct list_head waiters; /* wait_lock */
    char name[];
};

/* A first kept offset that the next checkpoint must save. */
struct trim {
    struct topic *topic; /* referenced */
    int32_t partition;
    int64_t start;
    uint64_t ticket;
};

struct topics {
    struct ordered by_name;
    struct topic **names, **ids, **uuids;
    struct partition **uids;
    uint32_t names_cap, uids_cap, uids_n; /* powers of two */
    struct ordered creating;              /* struct creation: names being made */
    uint32_t next_id, next_uid;
    struct list_head dirty, sent;
    struct trim *trims; /* numbered from trims_base */
    uint64_t trims_base;
    uint32_t trims_n, trims_cap, trims_sent;
};

void topics_init(struct broker *b);
void topics_fini(struct broker *b);

/* ---- recovery (single-threaded) ---- */

enum err topics_load(struct broker *b, struct sqlite3 *db, struct errinfo *info);
enum err topics_apply(struct broker *b, uint8_t type, struct slice data, struct errinfo *info);
enum err topics_apply_tier(struct broker *b, struct slice data);        /* ENTRY_TIER_START */
struct partition *topics_partition_uid(struct broker *b, uint32_t uid); /* NULL: none */
/* After replay: start offsets that moved since the checkpoint are to be saved with the next. */
void topics_recovered(struct broker *b);

/* ---- checkpoint (background thread) ---- */

enum err topics_save(struct broker *b, struct sqlite3 *db, uint64_t ticket, struct errinfo *info);
void topics_saved(struct broker *b, bool committed);

/* ---- for the other files ---- */

/* tier_start is at least `start` from now on; saved: and that is journalled (writer thread). */
void partition_tier_raise(struct partition *p, int64_t start, bool saved);

/* The log starts at `start` from now on; writer thread, in the done() of the unit. */
void partition_trimmed(struct partition *p, int64_t start, uint64_t ticket);
/* Referenced topics with ids from *at on, looking at `probes` ids at most; *at goes on, and wraps
 * to 0 after the last. For incremental background work. */
size_t topics_walk(struct broker *b, uint32_t *at, uint32_t probes, struct topic **out, size_t max);
struct partition *topic_partition_at(struct topic *t, int32_t index);
void topic_scattered_set(struct topic *t); /* journalled: writer thread or recovery */

#define TOPIC_BY_OFFSET 0x80u /* in `cleanup`: compaction.by.offset */

/* Records of it must have keys, unless it is compacted by offset: see topic_needs_keys. */
static inline bool topic_compacted(const struct topic *t)
{
    return atomic_load_explicit(&t->cleanup, memory_order_relaxed) & TOPIC_CLEANUP_COMPACT;
}

/* ---- configuration: topic_conf.c ---- */

/* The table's defaults. */
void topic_conf_init(struct topic_conf *out);

void topic_conf_diff(const struct topic_conf *defaults, const struct topic_conf *c,
                     struct conf_items *out);
/* Applies items over the defaults. Codes unknown or values out of range: ERR_CORRUPT. */
enum err topic_conf_items(const struct topic_conf *defaults, const struct conf_items *items,
                          struct topic_conf *out);
/* Lines name=value of what differs; and back. */
#define TOPIC_CONF_TEXT_MAX 4096u /* 64 lines of 64 */
size_t topic_conf_text(const struct topic_conf *defaults, const struct topic_conf *c,
                       char out[TOPIC_CONF_TEXT_MAX]);
enum err topic_conf_parse(const struct topic_conf *defaults, struct slice text,
                          struct topic_conf *out, struct errinfo *info);

/* The codec that batches of clients are to have; -1: as they come. */
int8_t topic_conf_recode(const struct topic_conf *c);

#endif
