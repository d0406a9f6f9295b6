/* The broker: topics, partitions, appends, consumption and their state, over one journal. Every
 * protocol and the C library speak to this; nothing here knows a protocol or a socket.
 *
 * State (topics, groups' offsets, key-value items, idempotency window) lives in memory, is changed
 * only by applying committed journal entries in order, and is saved in the checkpoint's tables.
 *
 * Threads: all functions are thread-safe unless said otherwise. Completion callbacks run on the
 * journal's writer thread: they must be short and never block; a loop's callback posts to its loop.
 * Blocking forms (…_wait) are for the library and the command line, never for a loop. */
#ifndef WEIR_BROKER_BROKER_H
#define WEIR_BROKER_BROKER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/slice.h"
#include "journal/batch.h"

struct broker;
struct io;
struct journal;
struct topic;
struct partition;

#define BROKER_NOTICES_GROUPS  1u
#define BROKER_NOTICES_PRODUCE 2u
struct broker_conf {
    const char *dir;
    struct io *io;
    bool threads;   /* false: simulation; see broker_step */
    bool read_only; /* open without changing anything */
    /* 0: defaults, see journal.h */
    uint64_t journal_file_bytes, tail_bytes, cache_bytes, inflight_bytes;
    bool topics_auto_create;      /* topic_find_or_create may create */
    int32_t partitions_default;   /* 0 = 1 */
    int64_t retention_ms_default; /* -1 none; 0 = 7 days */
    int64_t dedup_window_ms;      /* 0 = 10 min */
    uint32_t dedup_ids_max;       /* 0 = 1,000,000 */
    uint32_t topics_max;          /* 0 = 1,000,000 */
    unsigned notices;             /* BROKER_NOTICES_… bits: what becomes events of a topic */
    const char *notices_topic;    /* NULL = weir.events */
};

enum err broker_open(const struct broker_conf *conf, struct broker **out, struct errinfo *info);
/* Waits for what was accepted. All readers, appends and waiters must be gone. */
void broker_close(struct broker **b);
struct journal *broker_journal(struct broker *b);
struct io *broker_io(struct broker *b);
bool broker_simulated(const struct broker *b); /* conf->threads was false */
/* Simulation: runs the writer until idle / one background turn. With threads: no-ops. */
void broker_step(struct broker *b);
bool broker_background(struct broker *b);
/* ERR_OK, ERR_NO_SPACE or ERR_READ_ONLY with the reason: what a write would answer now. */
enum err broker_writable(struct broker *b, struct errinfo *why);
/* Of a topic that is made without saying how many. */
int32_t broker_partitions_default(const struct broker *b);
const char *broker_dir(const struct broker *b); /* as it was given */

/* ---- topics ---- */

enum topic_durability { DURABILITY_FSYNC = 0, DURABILITY_OS = 1 };

/* Topic configuration: the items of broker/tbl/topic_configs.h, where each is described. Unknown
 * names are rejected. */
#define TOPIC_CLEANUP_DELETE  1u
#define TOPIC_CLEANUP_COMPACT 2u
enum topic_lake_format { LAKE_ICEBERG = 0, LAKE_JSONL = 1 };
enum topic_lake_jsonl { LAKE_JSONL_PLAIN = 0, LAKE_JSONL_GZIP, LAKE_JSONL_ZSTD };
#define TOPIC_CONF_WORD_MAX 112u /* bytes of an item that is text: 16 pieces of 7 in an entry */
#define TOPIC_RATIO_ONE     1000000000 /* 1 of min_cleanable_ratio */
struct topic_conf {
    int64_t retention_ms;    /* -1 for ever */
    int64_t retention_bytes; /* -1 no limit */
    int64_t retention_records_min;
    int64_t delete_retention_ms, min_compaction_lag_ms, max_compaction_lag_ms;
    int64_t min_cleanable_ratio; /* in units of 1/TOPIC_RATIO_ONE */
    int32_t compaction_records;
    uint8_t compaction_by_offset; /* see removed.h */
    int64_t timestamp_after_max_ms, timestamp_before_max_ms;
    int32_t max_message_bytes; /* of a batch */
    uint8_t durability;        /* enum topic_durability */
    uint8_t compression;       /* see topic_conf_codec */
    uint8_t cleanup;           /* TOPIC_CLEANUP_… bits */
    uint8_t timestamp_type;    /* 0 CreateTime, 1 LogAppendTime */
    int64_t lake_max_bytes, lake_max_s, lake_snapshots_ms, lake_retention_ms, lake_archive_ms;
    uint8_t lake_enable, lake_columns;
    char lake_partition[TOPIC_CONF_WORD_MAX + 1]; /* terms, as given: see lake/transform.h */
    char lake_sort[TOPIC_CONF_WORD_MAX + 1];
    uint8_t lake_format, lake_jsonl_codec; /* enum topic_lake_format, topic_lake_jsonl */
    /* without effect: kept and reported */
    int64_t file_delete_delay_ms, flush_messages, flush_ms, segment_jitter_ms, segment_ms;
    int64_t local_retention_bytes, local_retention_ms;
    int32_t index_interval_bytes, min_insync_replicas, segment_bytes, segment_index_bytes;
    int32_t gzip_level, lz4_level, zstd_level;
    uint8_t preallocate, unclean_election, remote_storage, remote_copy_disable;
    uint8_t remote_delete_on_disable, leader_throttled, follower_throttled;
    /* A bit for each item, by its code: it was set for this topic, and stays as it is when the
     * default changes. */
    uint64_t given;
};
void topic_conf_default(struct broker *b, struct topic_conf *out);
/* Sets one item by its published name, e.g. ("retention.ms", "3600000"). Spaces around the value
 * are left out. ERR_CONFIG with a sentence naming the item, the value and what is allowed. */
enum err topic_conf_set(struct topic_conf *c, struct slice name, struct slice value,
                        struct errinfo *info);
/* Sets one item to the broker's default. ERR_CONFIG: there is no such item. */
enum err topic_conf_unset(struct broker *b, struct topic_conf *c, struct slice name,
                          struct errinfo *info);
/* Checks every field's range (a caller may have filled the struct by hand), and that they agree. */
enum err topic_conf_check(const struct topic_conf *c, struct errinfo *info);
/* Every item in turn: name, value as text, whether it is the default because nothing else was set,
 * prose. */
void topic_conf_each(struct broker *b, const struct topic_conf *c,
                     void (*fn)(void *arg, const char *name, const char *value, bool is_default,
                                const char *prose),
                     void *arg);
/* The codec (enum codec, journal/compress.h) of the batches that Weir makes. */
int topic_conf_codec(const struct topic_conf *c);
/* Whether the lake is the log's older part: see tier.h. */
bool topic_conf_tiered(const struct topic_conf *c);

/* All that there is to say of an item; numbers of types as in Kafka's DescribeConfigs. */
enum topic_conf_type {
    TOPIC_CONF_BOOLEAN = 1,
    TOPIC_CONF_STRING = 2,
    TOPIC_CONF_INT = 3,
    TOPIC_CONF_LONG = 5,
    TOPIC_CONF_DOUBLE = 6,
    TOPIC_CONF_LIST = 7,
};
#define TOPIC_CONF_VALUE_MAX 128u
struct topic_conf_item {
    const char *name;
    const char *server_name; /* that an Apache Kafka server's default has; "" none */
    const char *prose;
    enum topic_conf_type type;
    bool is_default;
    char value[TOPIC_CONF_VALUE_MAX], fallback[TOPIC_CONF_VALUE_MAX]; /* the broker's default */
};
/* Item number i from 0 on, in order of the table; false behind the last. */
bool topic_conf_item_at(struct broker *b, const struct topic_conf *c, unsigned i,
                        struct topic_conf_item *out);
/* By name; false if there is no such item. */
bool topic_conf_item_find(struct broker *b, const struct topic_conf *c, struct slice name,
                          struct topic_conf_item *out);

/* Result of an asynchronous change; writer thread. info is valid for the call. */
typedef void (*broker_done_fn)(void *arg, enum err e, const struct errinfo *info);

/* Creates; ERR_TOPIC_EXISTS, ERR_TOPIC_NAME, ERR_CONFIG, ERR_LIMIT … either returned at once (done
 * not called) or passed to done. conf NULL: defaults. partitions 0: default. Asynchronous forms
 * never block: ERR_OVERLOADED when too much is in flight. */
enum err topic_create(struct broker *b, struct slice name, int32_t partitions,
                      const struct topic_conf *conf, broker_done_fn done, void *arg,
                      struct errinfo *info);
/* What topic_create would answer at once, changing nothing. */
enum err topic_create_check(struct broker *b, struct slice name, int32_t partitions,
                            const struct topic_conf *conf, struct errinfo *info);
enum err topic_delete(struct broker *b, struct slice name, broker_done_fn done, void *arg,
                      struct errinfo *info);
/* partitions 0: unchanged (never fewer than now: ERR_INVALID); conf NULL: unchanged. ERR_CONFLICT
 * while another alteration of the topic is on its way. */
enum err topic_alter(struct broker *b, struct slice name, int32_t partitions,
                     const struct topic_conf *conf, broker_done_fn done, void *arg,
                     struct errinfo *info);
/* Changes the configuration from what it is when nobody else changes it: edit is called, at most
 * once and before this returns, with a copy. Its error and otherwise the same as topic_alter's. */
typedef enum err (*topic_edit_fn)(void *arg, struct topic_conf *c, struct errinfo *info);
enum err topic_edit(struct broker *b, struct slice name, topic_edit_fn edit, void *edit_arg,
                    broker_done_fn done, void *arg, struct errinfo *info);
/* The same, waiting until durable. In simulation they step the writer themselves. */
enum err topic_create_wait(struct broker *b, struct slice name, int32_t partitions,
                           const struct topic_conf *conf, struct errinfo *info);
enum err topic_delete_wait(struct broker *b, struct slice name, struct errinfo *info);
enum err topic_alter_wait(struct broker *b, struct slice name, int32_t partitions,
                          const struct topic_conf *conf, struct errinfo *info);

/* For first use: ERR_OK with *out set (referenced): it is there, done is not called. ERR_OK with
 * *out NULL: it is being made (by this call or another that came first); after done(ERR_OK)
 * topic_find has it. ERR_TOPIC_NOT_FOUND if it is not there and conf->topics_auto_create is off. */
enum err topic_find_or_create(struct broker *b, struct slice name, struct topic **out,
                              broker_done_fn done, void *arg, struct errinfo *info);
/* *out is set when it returns ERR_OK. */
enum err topic_find_or_create_wait(struct broker *b, struct slice name, struct topic **out,
                                   struct errinfo *info);

/* Referenced topic (topic_unref), NULL if there is none. A deleted topic stays valid until the last
 * unref; appends to it answer ERR_TOPIC_NOT_FOUND. */
struct topic *topic_find(struct broker *b, struct slice name);
struct topic *topic_find_id(struct broker *b, uint32_t id);
struct topic *topic_find_uuid(struct broker *b, const uint8_t *uuid); /* 16 bytes */
struct topic *topic_ref(struct topic *t);
void topic_unref(struct topic **t);
const char *topic_name(const struct topic *t); /* NUL-terminated */
uint32_t topic_id(const struct topic *t);
const uint8_t *topic_uuid(const struct topic *t); /* 16 bytes, random, for Kafka */
bool topic_deleted(const struct topic *t);
int64_t topic_created_ms(const struct topic *t);
void topic_conf_get(struct topic *t, struct topic_conf *out);
int32_t topic_partitions(const struct topic *t);
/* Borrowed while the topic is referenced; NULL if out of range. */
struct partition *topic_partition(struct topic *t, int32_t index);
/* Partition for a key (murmur2 as Kafka); a null key goes round robin by blocks (sticky). */
struct partition *topic_partition_for(struct topic *t, struct slice key);
/* Topics in order of name from the first one > after whose name matches pattern (`*` any run, `?`
 * one character; NULL all), referenced, at most max; returns how many. */
size_t topic_list(struct broker *b, struct slice after, const char *pattern, struct topic **out,
                  size_t max);
size_t topic_count(struct broker *b);

struct topic *partition_topic(const struct partition *p); /* borrowed */
int32_t partition_index(const struct partition *p);
struct plog *partition_log(const struct partition *p);

/* Deletes records below offset (-1: all now there). Asynchronous as above; done is called at once,
 * by the caller's thread, when there is nothing to delete. */
enum err partition_trim(struct partition *p, int64_t offset, broker_done_fn done, void *arg,
                        struct errinfo *info);
enum err partition_trim_wait(struct partition *p, int64_t offset, struct errinfo *info);

/* Records from offset on are in no other place yet: while the topic has lake.enable, retention leaves
 * them. 0 when the broker was opened: all of them. */
void partition_hold(struct partition *p, int64_t offset);

/* ---- appends ---- */

struct record_header; /* journal/batch.h */

struct append_record {
    int64_t timestamp_ms; /* -1: now */
    struct slice key;     /* NULL ptr: null key */
    struct slice value;   /* NULL ptr: null value (tombstone) */
    const struct record_header *headers;
    unsigned headers_n;
    struct slice dedup_id; /* not null: within the window, a record of this topic with this id is
                              written once; later ones answer with the first one's place */
};
/* Where a record of an append is; valid while the append lives. */
struct append_slot {
    uint32_t part, index; /* private */
};
struct append_place {
    int32_t partition;
    int64_t offset;
    uint64_t position;
    int64_t timestamp_ms;
    bool duplicate; /* it was there already */
    bool log_time;  /* timestamp_ms is the time of appending */
};
struct append;
/* Writer thread. e: of the whole unit. Afterwards append_place answers; append_free releases it. */
typedef void (*append_done_fn)(struct append *a, void *arg, enum err e);

/* One atomic unit being built: all its records become durable and visible together. Not thread-safe
 * until submitted. Appends may be reused by append_reset (keeps buffers) instead of free/new. */
struct append *append_new(struct broker *b, append_done_fn done, void *arg);
void append_free(struct append **a);
void append_reset(struct append *a);
/* A reset append gets another done. */
void append_retarget(struct append *a, append_done_fn done, void *arg);
/* Encodes one record (copies it). partition -1: by key. The topic stays referenced by the append.
 * ERR_TOO_LARGE, ERR_TOPIC_NOT_FOUND (deleted), ERR_PARTITION_NOT_FOUND, ERR_LIMIT. */
enum err append_record(struct append *a, struct topic *t, int32_t partition,
                       const struct append_record *r, struct append_slot *slot,
                       struct errinfo *info);
/* A ready v2 batch, stored unmodified once every record of it was seen to decode, but for the type
 * and the greatest of the timestamps in its header: they are made what the topic and the records say
 * (LogAppendTime: the time of now). ERR_CORRUPT_INPUT (it may be damaged: worth another try),
 * ERR_RECORD (it is what its maker made), ERR_TOO_LARGE, ERR_TIMESTAMP, ERR_PRODUCER_EPOCH, ERR_LIMIT.
 * The bytes are borrowed until append_submit returns. Slot: of its first record. A batch with a
 * producer id has its own outcome, which append_place tells: ERR_SEQUENCE_ORDER,
 * ERR_PRODUCER_EPOCH, ERR_PRODUCER_ID, ERR_TXN_STATE, ERR_TXN_CONCURRENT, ERR_LIMIT, or
 * `duplicate` with the offset where it was written first. */
enum err append_batch(struct append *a, struct partition *p, struct slice batch,
                      struct append_slot *slot, struct errinfo *info);
#define BATCH_BAD_MAX 32u /* records that a refusal names */
struct batch_checked {
    struct batch_info info;
    int64_t max_ts; /* greatest timestamp of the records, or -1 */
    /* Refused with ERR_RECORD or ERR_TIMESTAMP: the indexes of the first records for which; none: it
     * is for the batch as a whole. */
    int32_t bad[BATCH_BAD_MAX];
    uint32_t bad_n;
};
/* The same in two steps, of which the first may take long, needs no append, and may be taken by any
 * thread. quick: ERR_AGAIN, instead of looking at more than LIMIT_CHECK_QUICK bytes of records. What
 * a batch inflates to is put into scratch, whose maximum is set. */
enum err batch_check(struct topic *t, struct slice batch, bool quick, struct buf *scratch,
                     struct batch_checked *out, struct errinfo *info);
enum err append_checked_batch(struct append *a, struct partition *p, struct slice batch,
                              const struct batch_checked *c, struct append_slot *slot,
                              struct errinfo *info);
/* The same of a batch that batch_builder_finish has just made: its bytes are not looked at again.
 * Records of a compacted topic must have keys: the caller has checked that (topic_needs_keys). */
enum err append_made_batch(struct append *a, struct partition *p, struct slice batch,
                           struct append_slot *slot, struct errinfo *info);
bool topic_needs_keys(const struct topic *t);
/* Transactional batches of this append may begin their transaction by themselves (KIP-890). */
void append_txn_starts(struct append *a);
/* They are of this transactional id, and refused with ERR_PRODUCER_ID if their producer's is another.
 * Null: whichever it is. Borrowed until append_submit returns. */
void append_txn_name(struct append *a, struct slice name);
/* A durable key-value change in the same unit (see kv_put). */
enum err append_kv(struct append *a, const char *ns, struct slice key, struct slice value);
/* A group's offset in the same unit (see group_commit). */
enum err append_offset(struct append *a, struct slice group, struct partition *p, int64_t offset,
                       struct slice metadata);
/* The first record of it that goes to this partition is to get this offset: if the next one is
 * another by then, append_submit returns ERR_OFFSET_TAKEN, and nothing was written. So what the
 * append was decided on still holds when it is sequenced. */
void append_expect(struct append *a, const struct partition *p, int64_t offset);
/* The offset of the record that is appended next, behind what is not durable yet. */
int64_t partition_next_offset(struct partition *p);
/* Who expects an offset there and was too late again and again gets a moment: for so long at most,
 * appends that expect nothing wait (ERR_OVERLOADED for those that do not block). Any thread. */
void partition_reserve(struct partition *p, uint32_t ms);
void partition_reserve_end(struct partition *p);
size_t append_bytes(const struct append *a);   /* encoded so far */
size_t append_records(const struct append *a); /* so far */
/* What an append may have, by append_bytes, so that files of this size hold it for sure. */
size_t append_bytes_max(const struct broker *b);
/* Sequences and copies. nonblock: ERR_OVERLOADED instead of waiting. On error done is not called
 * and the append can be submitted again or freed. An append whose records are all duplicates
 * already durable calls done without writing, before this returns. One with duplicates of records
 * that other appends have under way is done when those are, and fails as they do; if such an append
 * could not be submitted, done may be called by the thread that tried. */
enum err append_submit(struct append *a, bool nonblock, struct errinfo *info);
/* Blocks until durable; for threads that are not loops. done (may be NULL) is called too. */
enum err append_submit_wait(struct append *a, struct errinfo *info);
/* After done: the place of a record; per-record error if its topic was deleted meanwhile. */
enum err append_place(const struct append *a, struct append_slot slot, struct append_place *out);

/* ---- producers and transactions ---- */

/* What is written under a producer id is written once: batches carry their producer's id, epoch and
 * sequence number, and append_batch's outcome says if one is missing or was written before. What is
 * written under a transactional id becomes visible to readers of committed records together, or not
 * at all. Asynchronous, as topics' calls; id and epoch are those to go on with. */
typedef void (*txn_done_fn)(void *arg, enum err e, const struct errinfo *info, int64_t producer_id,
                            int16_t epoch);

/* A producer id that nobody had before. */
enum err producer_id_new(struct broker *b, txn_done_fn done, void *arg, struct errinfo *info);
/* Takes over a transactional id: fences who had it, aborts what it left open. producer_id >= 0: the
 * caller has it already, with this epoch, and wants the next one. ERR_TXN_CONCURRENT: try again;
 * ERR_PRODUCER_FENCED, ERR_TXN_TIMEOUT, ERR_LIMIT. */
enum err txn_init(struct broker *b, struct slice name, int32_t timeout_ms, int64_t producer_id,
                  int16_t epoch, txn_done_fn done, void *arg, struct errinfo *info);
/* Begins a transaction if none is open. Batches that may not begin it themselves need that. */
enum err txn_begin(struct broker *b, struct slice name, int64_t producer_id, int16_t epoch,
                   txn_done_fn done, void *arg, struct errinfo *info);
struct txn_commit_offset {
    struct partition *p;
    int64_t offset;
    struct slice metadata;
};
/* Offsets that the group has once the transaction is committed. starts: may begin it. */
enum err txn_offsets(struct broker *b, struct slice name, int64_t producer_id, int16_t epoch,
                     bool starts, struct slice group, const struct txn_commit_offset *offsets,
                     uint32_t n, txn_done_fn done, void *arg, struct errinfo *info);
/* raise: with a new epoch to go on with (KIP-890). ERR_TXN_STATE: there is nothing to end. */
enum err txn_end(struct broker *b, struct slice name, int64_t producer_id, int16_t epoch,
                 bool commit, bool raise, txn_done_fn done, void *arg, struct errinfo *info);

struct txn_info {
    struct slice name; /* during the call */
    int64_t producer_id;
    int16_t epoch;
    uint8_t state; /* enum txn_state of broker/state.h */
    bool ending;
    int32_t timeout_ms;
    int64_t started_ms; /* -1: none is open */
    uint32_t partitions_n;
};
/* fn must not call the broker. */
void txn_each(struct broker *b, void (*fn)(void *arg, const struct txn_info *t), void *arg);
/* ERR_TXN_NOT_FOUND. fn (may be NULL): each partition that the open transaction wrote to. */
enum err txn_get(struct broker *b, struct slice name, struct txn_info *out,
                 void (*fn)(void *arg, struct partition *p), void *arg);
/* Is an offset of this group part of an open transaction? */
bool group_offset_pending(struct broker *b, struct slice group, struct partition *p);

/* The last stable offset: records below it are committed or aborted. */
int64_t partition_lso(struct partition *p);
struct aborted_txn {
    int64_t producer_id, first_offset;
};
/* Aborted transactions with records in [from, to), in the order in which they ended; returns how
 * many, at most max. */
size_t partition_aborted(struct partition *p, int64_t from, int64_t to, struct aborted_txn *out,
                         size_t max);
struct producer_info {
    int64_t producer_id;
    int16_t epoch;
    int32_t last_sequence;
    int64_t last_ms, txn_first_offset; /* -1: none */
};
size_t partition_producers(struct partition *p, struct producer_info *out, size_t max);

/* ---- reading ---- */

/* By partition and offset, whole batches: plog_read(partition_log(p), …) of journal/journal.h.
 *
 * A reader gives single records in total order of position over any set of partitions: a topic
 * (`orders`), the records of one key (`orders:c-1`), all keyed records (`orders:*`), topics by
 * pattern
 * (`orders.*`, `*`, `orders.*:c-1`; topics created later join in). One thread at a time. Memory:
 * some 64 bytes a partition, and while there is something to read at most LIMIT_READER_BYTES and a
 * batch. */
struct reader;

struct reader_conf {
    struct slice selector;
    int32_t partition; /* -1 all */
    enum {
        READ_FROM_START,
        READ_FROM_END,
        READ_FROM_POSITION,
        READ_FROM_TIME,
        READ_FROM_OFFSET /* needs partition >= 0 */
    } from;
    uint64_t position; /* READ_FROM_POSITION: first position wanted (after + 1) */
    int64_t time_ms;   /* READ_FROM_TIME: first record with timestamp >= */
    int64_t offset;
    uint64_t position_max;  /* stop before this position: ERR_AGAIN from then on, and
                              reader_position is at it; 0 none */
    uint64_t position_open; /* READ_FROM_POSITION: of transactions, what is from here on, too; 0:
                               nothing */
};

struct reader_record {
    struct topic *topic; /* borrowed until the next call */
    int32_t partition;
    int64_t offset;
    uint64_t position;
    int64_t timestamp_ms;
    struct slice key, value; /* views, valid until the next call on this reader */
    const struct record_header *headers;
    unsigned headers_n;
};

/* ERR_INVALID (selector), ERR_TOPIC_NOT_FOUND (no pattern and no such topic), ERR_OFFSET_RANGE. */
enum err reader_open(struct broker *b, const struct reader_conf *conf, struct reader **out,
                     struct errinfo *info);
void reader_close(struct reader **r);
/* ERR_OK: *out filled. ERR_AGAIN: everything durable was read; wait and call again.
 * ERR_OFFSET_RANGE: records were deleted by retention before they were read: the reader has moved
 * to the first kept one; call again to go on. ERR_TOPIC_NOT_FOUND: its only topic was deleted.
 * ERR_CORRUPT, ERR_IO. */
enum err reader_next(struct reader *r, struct reader_record *out, struct errinfo *info);
/* A scan of at most this many records that do not match the key happens in one reader_next before
 * it answers ERR_AGAIN with *busy set by reader_busy (loops stay responsive). 0: no limit. */
void reader_scan_limit(struct reader *r, uint32_t records);
bool reader_busy(const struct reader *r); /* after ERR_AGAIN: more is there at once */
/* The position to resume from: one past the last record seen, matching or not; after ERR_AGAIN that
 * is not busy, the end of all that was durable when it was said. */
uint64_t reader_position(const struct reader *r);

/* Waiting. The waiter belongs to the caller; wake is called once, on the writer thread, soon after
 * something that the reader may want is durable (or its topics change), then it is disarmed. */
struct waiter {
    struct list_node link; /* private */
    struct broker *broker;
    void (*wake)(struct waiter *w);
    bool armed;
};
/* Arms w. Returns false (and does not arm) if there is something to read at once. */
bool reader_wait(struct reader *r, struct waiter *w);
/* The same without a reader: counts grow with every commit to the topic (of the broker: to any, and
 * when topics change). Arms w unless the count is no longer `seen`, which was read before looking
 * for records; whether it did. The topic stays referenced meanwhile. */
uint64_t topic_commits(const struct topic *t);
uint64_t broker_commits(struct broker *b);
bool topic_wait(struct topic *t, uint64_t seen, struct waiter *w);
bool broker_wait(struct broker *b, uint64_t seen, struct waiter *w);
/* Told of each topic that is made, changed or deleted, once it is; writer thread, short, and without
 * calling what waits. After broker_unwatch_topics returns fn is not running and will not run. */
struct topics_watch {
    struct list_node link; /* private */
    void (*fn)(struct topics_watch *w, struct topic *t);
};
void broker_watch_topics(struct broker *b, struct topics_watch *w);
void broker_unwatch_topics(struct broker *b, struct topics_watch *w);
void waiter_cancel(struct waiter *w); /* after it returns wake is not running and will not run */
/* Blocks up to timeout_ms (-1 for ever) until something may be there. For threads, not loops. */
bool reader_block(struct reader *r, int64_t timeout_ms);

/* ---- groups' offsets and key-value state ---- */

struct group_offset {
    int64_t offset; /* next to read */
    int64_t committed_ms;
    struct slice metadata; /* at most LIMIT_GROUP_METADATA bytes, any */
};
enum err group_commit(struct broker *b, struct slice group, struct partition *p, int64_t offset,
                      struct slice metadata, broker_done_fn done, void *arg, struct errinfo *info);
enum err group_commit_wait(struct broker *b, struct slice group, struct partition *p,
                           int64_t offset, struct slice metadata, struct errinfo *info);
/* ERR_NOT_FOUND if the group never committed there. Leaves metadata null. */
enum err group_offset_get(struct broker *b, struct slice group, struct partition *p,
                          struct group_offset *out);
/* The same with the metadata, copied to buf, which has room for LIMIT_GROUP_METADATA bytes. */
enum err group_offset_get_full(struct broker *b, struct slice group, struct partition *p,
                               struct group_offset *out, char *buf);
enum err group_delete(struct broker *b, struct slice group, broker_done_fn done, void *arg,
                      struct errinfo *info);
/* Every offset; metadata is valid during the call of fn. No lock is held then. */
void group_each(struct broker *b,
                void (*fn)(void *arg, const char *group, struct topic *t, int32_t partition,
                           const struct group_offset *o),
                void *arg);
/* The same of one group. */
void group_each_of(struct broker *b, struct slice group,
                   void (*fn)(void *arg, const char *group, struct topic *t, int32_t partition,
                              const struct group_offset *o),
                   void *arg);

/* Small durable items of the program itself (checkpoints, tokens, idempotency results): ns is a
 * short fixed word. value NULL ptr deletes. Limits: key 1 KiB, value 64 KiB. expires_ms 0: never.
 */
enum err kv_put(struct broker *b, const char *ns, struct slice key, struct slice value,
                int64_t expires_ms, broker_done_fn done, void *arg, struct errinfo *info);
enum err kv_put_wait(struct broker *b, const char *ns, struct slice key, struct slice value,
                     int64_t expires_ms, struct errinfo *info);
struct buf;
/* Copies the value into out (cleared first). ERR_NOT_FOUND. */
enum err kv_get(struct broker *b, const char *ns, struct slice key, struct buf *out);
/* In order of key; fn returns false to stop. Holds a lock: fn must not call the broker. */
void kv_each(struct broker *b, const char *ns,
             bool (*fn)(void *arg, struct slice key, struct slice value), void *arg);

/* Event ids: "evt_" and 16 lower-case hex digits of the position. */
#define EVENT_ID_LEN 20
void event_id_format(uint64_t position, char out[EVENT_ID_LEN + 1]);
bool event_id_parse(struct slice s, uint64_t *position);

/* Prometheus text of broker and journal (names weir_…), appended to out. */
enum err broker_metrics(struct broker *b, struct buf *out);

#endif
