/* The broker's journal entries: their bytes, encoding and decoding; and the tables of its
 * checkpoint.
 *
 * Every entry is an after-image: it says what is so from then on, never what to add to something.
 * So applying one twice, or one whose effect a checkpoint already has, changes nothing. All
 * integers are little-endian; strings are not NUL-terminated; an entry must be exactly as long as
 * its parts.
 *
 *   16 TOPIC_CREATE  u32 id, u8[16] uuid, i64 created_ms, u32 first partition uid, u32 partitions,
 *                    u8 name length, name, conf
 *   17 TOPIC_ALTER   u32 id, u32 partitions in all, u32 uid of the first new partition, u32 new
 *                    partitions (0: uid 0), u8 1 if conf follows, conf
 *   18 TOPIC_DELETE  u32 id
 *   19 TOPIC_FLAGS   u32 id, u32 flags (TOPIC_SCATTERED)
 *   20 GROUP_OFFSET  u32 topic id, u32 partition, i64 offset, i64 committed_ms,
 *                    u16 group length, group, u16 metadata length, metadata
 *   21 GROUP_DELETE  u16 group length, group
 *   22 KV            i64 expires_ms (0 never), u8 ns length, ns, u16 key length, key,
 *                    u32 value length (0xffffffff: the item is deleted), value
 *   23 DEDUP         u32 topic partitions (places) n, u32 ids m,
 *                    n x { u32 partition, i64 base offset (-1: was left out), u64 position }
 *                    m x { u8[16] id hash, u32 place, u32 index in it, i64 timestamp_ms }
 *   24 PRODUCER_IDS  i64 first producer id that is not given out
 *   25 TXN           i64 producer id, i16 epoch, i64 last producer id, i16 last epoch (-1: none),
 *                    u8 state (enum txn_state), i32 timeout_ms, i64 started_ms, i64 updated_ms,
 *                    u16 name length, name; state TXN_DEAD: forgotten
 *   26 TXN_OFFSET    i64 producer id, i16 epoch, then as GROUP_OFFSET: pending until the
 *                    transaction ends
 *   27 GROUP_STATE   i32 generation, u8 kind (enum group_kind), i64 updated_ms, i64 empty_ms (since
 *                    when it has no members, 0: it has), then each with a u32 length: group,
 *                    protocol type, leader, members, assignment (the last two JSON, or empty);
 *                    ignored when the group has a later generation
 *   28 GROUP_OFFSET_DELETE  u32 topic id, u32 partition, i64 committed_ms, u16 group length, group;
 *                    ignored when the offset was committed at another time
 *   29 CURSOR        u8 what (enum cursor_change), u32 topic id, u32 partition, u64 epoch, i64 start
 *                    offset, u16 group length, group. Made: ignored if there is one already
 *   30 CURSOR_RANGES u64 epoch, u32 topic id, u32 partition, u16 group length, group, u32 n,
 *                    n x { i64 first offset, u32 records, u8 state (enum cursor_saved), u16
 *                    deliveries }; ignored if the cursor has another epoch
 *   31 TIER_START    u32 topic id, u32 partition, i64 offset: records from it on that the local log has
 *                    no longer are in the lake; ignored if an earlier one was greater
 *   conf             u8 n, n x { u8 code (tbl/topic_configs.h), i64 value }: what differs from the
 *                    broker's defaults
 *
 * Checkpoint tables (SQLite), all made by state_tables_make:
 *   topics(id INTEGER PRIMARY KEY, name, uuid, created_at, partitions, partitions_first, flags,
 *          conf)                            conf: lines name=value of what differs from the defaults
 *   partitions(topic, partition, uid, start_offset)             PRIMARY KEY(topic, partition)
 *   tiers(topic, partition, start)                              PRIMARY KEY(topic, partition)
 *   stream_groups(group_id PRIMARY KEY, generation, leader, members, assignment, updated_at)
 *   group_kinds(group_id PRIMARY KEY, kind, protocol_type, empty_at)
 *   stream_offsets(group_id, topic, partition, offset, metadata, committed_at, topic_id)
 *                                                    PRIMARY KEY(group_id, topic_id, partition)
 *   kv(ns, key, value, expires_at)                              PRIMARY KEY(ns, key)
 *   dedup(seq INTEGER PRIMARY KEY, hash, partition, offset, position, timestamp, added_at)
 *                                    seq: shard in the low 4 bits, number within the shard above
 *   producers(uid, producer_id, epoch, last_ms, last_offset, txn_first, txn_position, batches)
 *                                                          PRIMARY KEY(uid, producer_id)
 *       batches: at most 5 x { i64 base offset, i32 base sequence, i32 records, i64 timestamp }
 *   txn_aborted(uid, producer_id, first_offset, last_offset)    PRIMARY KEY(uid, last_offset)
 *   cursors(group_id, topic_id, partition, epoch, start_offset, ranges)
 *                                               PRIMARY KEY(group_id, topic_id, partition)
 *       ranges: n x { i64 first offset, u32 records, u8 state, u16 deliveries } little-endian, in
 *       order; what is between them was never delivered as far as is known
 *   transactions(transactional_id PRIMARY KEY, producer_id, epoch, last_id, last_epoch, state,
 *                timeout_ms, started_at, updated_at)
 *   txn_offsets(transactional_id, group_id, topic_id, partition, offset, metadata, committed_at)
 *                                PRIMARY KEY(transactional_id, group_id, topic_id, partition)
 *   broker_meta(key PRIMARY KEY, value)  format 1, next_topic_id, next_uid, next_producer_id
 * Times are milliseconds since 1970 UTC. No locks, no state: any thread. */
#ifndef WEIR_BROKER_STATE_H
#define WEIR_BROKER_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "broker/broker.h"
#include "journal/journal.h"

enum broker_entry {
    ENTRY_TOPIC_CREATE = ENTRY_BROKER,
    ENTRY_TOPIC_ALTER,
    ENTRY_TOPIC_DELETE,
    ENTRY_TOPIC_FLAGS,
    ENTRY_GROUP_OFFSET,
    ENTRY_GROUP_DELETE,
    ENTRY_KV,
    ENTRY_DEDUP,
    ENTRY_PRODUCER_IDS,
    ENTRY_TXN,
    ENTRY_TXN_OFFSET,
    ENTRY_GROUP_STATE,
    ENTRY_GROUP_OFFSET_DELETE,
    ENTRY_CURSOR,
    ENTRY_CURSOR_RANGES,
    ENTRY_TIER_START,
    ENTRY_BROKER_END
};

#define TOPIC_SCATTERED 1u /* a key's records may be in several partitions */
#define TOPIC_FLAGS_ALL TOPIC_SCATTERED

#define CONF_ITEMS_MAX 80u
struct conf_item {
    uint8_t code;
    int64_t value;
};
struct conf_items {
    unsigned n;
    struct conf_item item[CONF_ITEMS_MAX];
};

struct entry_topic_create {
    uint32_t id, first_uid, partitions;
    uint8_t uuid[16];
    int64_t created_ms;
    struct slice name;
    struct conf_items conf;
};
struct entry_topic_alter {
    uint32_t id, partitions, first_uid, added;
    bool has_conf;
    struct conf_items conf;
};
struct entry_topic_flags {
    uint32_t id, flags;
};
struct entry_tier_start {
    uint32_t topic, partition;
    int64_t offset;
};
struct entry_group_offset {
    uint32_t topic, partition;
    int64_t offset, committed_ms;
    struct slice group, metadata;
};
#define GROUP_KIND_MAX 3u
struct entry_group_state {
    int32_t generation;
    uint8_t kind; /* enum group_kind */
    int64_t updated_ms, empty_ms;
    struct slice group, protocol_type, leader, members, assignment;
};
struct entry_kv {
    int64_t expires_ms;
    struct slice ns, key, value; /* value NULL: deleted */
};
enum txn_state { TXN_EMPTY, TXN_ONGOING, TXN_COMMITTED, TXN_ABORTED, TXN_DEAD };
struct entry_txn {
    int64_t producer_id, last_id; /* last: before the epoch was raised; -1 none */
    int16_t epoch, last_epoch;
    uint8_t state;
    int32_t timeout_ms;
    int64_t started_ms, updated_ms;
    struct slice name;
};
struct entry_txn_offset {
    int64_t producer_id;
    int16_t epoch;
    struct entry_group_offset o;
};
enum cursor_change { CURSOR_MADE, CURSOR_SET, CURSOR_GONE };
struct entry_cursor {
    uint8_t what; /* enum cursor_change */
    uint32_t topic, partition;
    uint64_t epoch; /* random: tells one life of a cursor from the next */
    int64_t start;
    struct slice group;
};
enum cursor_saved { CURSOR_AVAILABLE, CURSOR_ACCEPTED, CURSOR_ARCHIVED };
struct cursor_saved_range {
    int64_t first;
    uint32_t records;
    uint8_t state; /* enum cursor_saved */
    uint16_t deliveries;
};
#define CURSOR_RANGE_BYTES 15u
struct entry_cursor_ranges {
    uint64_t epoch;
    uint32_t topic, partition, n;
    struct slice group, ranges; /* ranges: n x CURSOR_RANGE_BYTES */
};
struct dedup_place {
    uint32_t partition;
    int64_t base_offset;
    uint64_t position;
};
struct dedup_id {
    uint8_t hash[16];
    uint32_t place, index;
    int64_t timestamp_ms;
};
#define DEDUP_HEAD_BYTES  8u
#define DEDUP_PLACE_BYTES 20u
#define DEDUP_ID_BYTES    32u

/* Largest of the entries of fixed shape (all but KV, DEDUP, GROUP_OFFSET, TXN_OFFSET, GROUP_STATE,
 * CURSOR_RANGES). */
#define ENTRY_SMALL_MAX 1024u

/* Encoders: write to dst, which has room for the size named, and return the bytes written. */
size_t entry_topic_create_write(uint8_t dst[ENTRY_SMALL_MAX], const struct entry_topic_create *e);
size_t entry_topic_alter_write(uint8_t dst[ENTRY_SMALL_MAX], const struct entry_topic_alter *e);
size_t entry_topic_delete_write(uint8_t dst[ENTRY_SMALL_MAX], uint32_t id);
size_t entry_topic_flags_write(uint8_t dst[ENTRY_SMALL_MAX], const struct entry_topic_flags *e);
#define ENTRY_TIER_START_BYTES 16u
size_t entry_tier_start_write(uint8_t dst[ENTRY_TIER_START_BYTES],
                              const struct entry_tier_start *e);
size_t entry_group_offset_size(const struct entry_group_offset *e);
size_t entry_group_offset_write(uint8_t *dst, const struct entry_group_offset *e);
size_t entry_group_delete_write(uint8_t dst[ENTRY_SMALL_MAX], struct slice group);
size_t entry_producer_ids_write(uint8_t dst[ENTRY_SMALL_MAX], int64_t next);
size_t entry_txn_write(uint8_t dst[ENTRY_SMALL_MAX], const struct entry_txn *e);
size_t entry_txn_offset_size(const struct entry_txn_offset *e);
size_t entry_txn_offset_write(uint8_t *dst, const struct entry_txn_offset *e);
/* Of e only what the entry has: offset and metadata are not in it. */
size_t entry_group_offset_delete_write(uint8_t dst[ENTRY_SMALL_MAX],
                                       const struct entry_group_offset *e);
size_t entry_group_state_size(const struct entry_group_state *e);
size_t entry_group_state_write(uint8_t *dst, const struct entry_group_state *e);
size_t entry_kv_size(const struct entry_kv *e);
size_t entry_kv_write(uint8_t *dst, const struct entry_kv *e);
size_t entry_cursor_write(uint8_t dst[ENTRY_SMALL_MAX], const struct entry_cursor *e);
/* The head; the ranges follow it in place, by number: e->n of them, e->ranges is not looked at. */
size_t entry_cursor_ranges_size(const struct entry_cursor_ranges *e);
uint8_t *entry_cursor_ranges_write(uint8_t *dst, const struct entry_cursor_ranges *e);
void cursor_range_write(uint8_t *ranges, uint32_t i, const struct cursor_saved_range *r);
/* DEDUP is written in place: head, then places and ids by number. */
size_t entry_dedup_size(uint32_t places, uint32_t ids);
void entry_dedup_head_write(uint8_t *dst, uint32_t places, uint32_t ids);
void entry_dedup_place_write(uint8_t *dst, uint32_t i, const struct dedup_place *p);
void entry_dedup_id_write(uint8_t *dst, uint32_t places, uint32_t i, const struct dedup_id *d);

/* Decoders: ERR_CORRUPT when the bytes are not such an entry. Slices borrow from `data`. */
enum err entry_topic_create_read(struct slice data, struct entry_topic_create *e);
enum err entry_topic_alter_read(struct slice data, struct entry_topic_alter *e);
enum err entry_topic_delete_read(struct slice data, uint32_t *id);
enum err entry_topic_flags_read(struct slice data, struct entry_topic_flags *e);
enum err entry_tier_start_read(struct slice data, struct entry_tier_start *e);
enum err entry_group_offset_read(struct slice data, struct entry_group_offset *e);
enum err entry_group_delete_read(struct slice data, struct slice *group);
enum err entry_producer_ids_read(struct slice data, int64_t *next);
enum err entry_txn_read(struct slice data, struct entry_txn *e);
enum err entry_txn_offset_read(struct slice data, struct entry_txn_offset *e);
enum err entry_group_offset_delete_read(struct slice data, struct entry_group_offset *e);
enum err entry_group_state_read(struct slice data, struct entry_group_state *e);
enum err entry_kv_read(struct slice data, struct entry_kv *e);
enum err entry_cursor_read(struct slice data, struct entry_cursor *e);
/* Checks every range; then they are got by number. */
enum err entry_cursor_ranges_read(struct slice data, struct entry_cursor_ranges *e);
/* Whether these are n ranges in order, without overlap. */
bool cursor_ranges_valid(struct slice ranges, uint32_t n);
void cursor_range_get(struct slice ranges, uint32_t i, struct cursor_saved_range *r);
/* Checks the counts against the length, and every id's place; then items are got by number. */
enum err entry_dedup_read(struct slice data, uint32_t *places, uint32_t *ids);
void entry_dedup_place_get(struct slice data, uint32_t i, struct dedup_place *p);
void entry_dedup_id_get(struct slice data, uint32_t places, uint32_t i, struct dedup_id *d);

/* ---- the checkpoint ---- */

struct sqlite3;
struct sqlite3_stmt;

enum err state_tables_make(struct sqlite3 *db, struct errinfo *info);
/* Whether this database has the broker's tables. ERR_FORMAT if of another format. */
enum err state_tables_check(struct sqlite3 *db, bool *there, struct errinfo *info);
/* An error of SQLite as ours; what: what was being done. */
enum err state_sql_err(struct sqlite3 *db, int rc, const char *what, struct errinfo *info);
enum err state_prepare(struct sqlite3 *db, const char *sql, struct sqlite3_stmt **st,
                       struct errinfo *info);
/* Runs a statement without rows and resets it. */
enum err state_step(struct sqlite3 *db, struct sqlite3_stmt *st, struct errinfo *info);
void state_bind_text(struct sqlite3_stmt *st, int i, struct slice s);
void state_bind_blob(struct sqlite3_stmt *st, int i, struct slice s);
struct slice state_column(struct sqlite3_stmt *st, int i); /* text or blob; until the next step */
enum err state_table_there(struct sqlite3 *db, const char *table, bool *there,
                           struct errinfo *info);
/* Calls row for each row; nothing if there is no such table (an older checkpoint). */
struct broker;
enum err state_rows(struct broker *b, struct sqlite3 *db, const char *table, const char *sql,
                    enum err (*row)(struct broker *, struct sqlite3_stmt *, struct errinfo *),
                    struct errinfo *info);
enum err state_meta_put(struct sqlite3 *db, const char *key, int64_t value, struct errinfo *info);
/* 0 if it is not there. */
enum err state_meta_get(struct sqlite3 *db, const char *key, int64_t *value, struct errinfo *info);

#endif
