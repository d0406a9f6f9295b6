/* Bytes of the broker's entries, and small helpers over SQLite. See state.h. What
 * is read past the end of a slice is zeros; base/rd.h tells so at the end. */
#include "broker/state.h"

#include <sqlite3.h>
#include <string.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/rd.h"
#include "base/tbl/limits.h"
#include "base/topic_name.h"

#define KV_DELETED 0xffffffffu
#define FORMAT     1

/* ---- writing and reading bytes ---- */

static uint8_t *put8(uint8_t *p, uint8_t v)
{
    *p = v;
    return p + 1;
}

static uint8_t *put16(uint8_t *p, uint16_t v)
{
    le16_store(p, v);
    return p + 2;
}

static uint8_t *put32(uint8_t *p, uint32_t v)
{
    le32_store(p, v);
    return p + 4;
}

static uint8_t *put64(uint8_t *p, uint64_t v)
{
    le64_store(p, v);
    return p + 8;
}

static uint8_t *put_bytes(uint8_t *p, struct slice s)
{
    if (s.len)
        memcpy(p, s.ptr, s.len);
    return p + s.len;
}

static uint8_t rd8(struct rd *r)
{
    const uint8_t *p = rd_take(r, 1);

    return p ? *p : 0;
}

static uint16_t rd16(struct rd *r)
{
    const uint8_t *p = rd_take(r, 2);

    return p ? le16_load(p) : 0;
}

static uint32_t rd32(struct rd *r)
{
    const uint8_t *p = rd_take(r, 4);

    return p ? le32_load(p) : 0;
}

static uint64_t rd64(struct rd *r)
{
    const uint8_t *p = rd_take(r, 8);

    return p ? le64_load(p) : 0;
}

static enum err rd_end(const struct rd *r, bool ok)
{
    return !r->bad && r->left == 0 && ok ? ERR_OK : ERR_CORRUPT;
}

/* ---- entries ---- */

static uint8_t *put_conf(uint8_t *p, const struct conf_items *c)
{
    unsigned i;

    ASSERT(c->n <= CONF_ITEMS_MAX);
    p = put8(p, (uint8_t)c->n);
    for (i = 0; i < c->n; i++) {
        p = put8(p, c->item[i].code);
        p = put64(p, (uint64_t)c->item[i].value);
    }
    return p;
}

static void rd_conf(struct rd *r, struct conf_items *c)
{
    unsigned i;

    c->n = rd8(r);
    if (c->n > CONF_ITEMS_MAX) {
        r->bad = true;
        c->n = 0;
    }
    for (i = 0; i < c->n; i++) {
        c->item[i].code = rd8(r);
        c->item[i].value = (int64_t)rd64(r);
    }
}

size_t entry_topic_create_write(uint8_t dst[ENTRY_SMALL_MAX], const struct entry_topic_create *e)
{
    uint8_t *p = put32(dst, e->id);

    ASSERT(topic_name_valid(e->name));
    p = put_bytes(p, slice_of(e->uuid, 16));
    p = put64(p, (uint64_t)e->created_ms);
    p = put32(p, e->first_uid);
    p = put32(p, e->partitions);
    p = put8(p, (uint8_t)e->name.len);
    p = put_bytes(p, e->name);
    p = put_conf(p, &e->conf);
    return (size_t)(p - dst);
}

enum err entry_topic_create_read(struct slice data, struct entry_topic_create *e)
{
    struct rd r = rd_of(data);
    const uint8_t *uuid;

    memset(e, 0, sizeof *e);
    e->id = rd32(&r);
    if ((uuid = rd_take(&r, 16)))
        memcpy(e->uuid, uuid, 16);
    e->created_ms = (int64_t)rd64(&r);
    e->first_uid = rd32(&r);
    e->partitions = rd32(&r);
    e->name = rd_bytes(&r, rd8(&r));
    rd_conf(&r, &e->conf);
    return rd_end(&r, e->id && e->first_uid && e->partitions && e->partitions <= LIMIT_PARTITIONS &&
                          e->first_uid <= UINT32_MAX - e->partitions && topic_name_valid(e->name));
}

size_t entry_topic_alter_write(uint8_t dst[ENTRY_SMALL_MAX], const struct entry_topic_alter *e)
{
    uint8_t *p = put32(dst, e->id);

    p = put32(p, e->partitions);
    p = put32(p, e->first_uid);
    p = put32(p, e->added);
    p = put8(p, e->has_conf);
    if (e->has_conf)
        p = put_conf(p, &e->conf);
    return (size_t)(p - dst);
}

enum err entry_topic_alter_read(struct slice data, struct entry_topic_alter *e)
{
    struct rd r = rd_of(data);
    uint8_t has;

    memset(e, 0, sizeof *e);
    e->id = rd32(&r);
    e->partitions = rd32(&r);
    e->first_uid = rd32(&r);
    e->added = rd32(&r);
    has = rd8(&r);
    e->has_conf = has == 1;
    if (e->has_conf)
        rd_conf(&r, &e->conf);
    return rd_end(&r, has <= 1 && e->id && e->partitions && e->partitions <= LIMIT_PARTITIONS &&
                          e->added < e->partitions && (e->added == 0) == (e->first_uid == 0) &&
                          e->first_uid <= UINT32_MAX - e->added);
}

size_t entry_topic_delete_write(uint8_t dst[ENTRY_SMALL_MAX], uint32_t id)
{
    return (size_t)(put32(dst, id) - dst);
}

enum err entry_topic_delete_read(struct slice data, uint32_t *id)
{
    struct rd r = rd_of(data);

    *id = rd32(&r);
    return rd_end(&r, *id != 0);
}

size_t entry_topic_flags_write(uint8_t dst[ENTRY_SMALL_MAX], const struct entry_topic_flags *e)
{
    return (size_t)(put32(put32(dst, e->id), e->flags) - dst);
}

enum err entry_topic_flags_read(struct slice data, struct entry_topic_flags *e)
{
    struct rd r = rd_of(data);

    e->id = rd32(&r);
    e->flags = rd32(&r);
    return rd_end(&r, e->id != 0 && (e->flags & ~TOPIC_FLAGS_ALL) == 0);
}

size_t entry_tier_start_write(uint8_t dst[ENTRY_TIER_START_BYTES], const struct entry_tier_start *e)
{
    return (size_t)(put64(put32(put32(dst, e->topic), e->partition), (uint64_t)e->offset) - dst);
}

enum err entry_tier_start_read(struct slice data, struct entry_tier_start *e)
{
    struct rd r = rd_of(data);

    e->topic = rd32(&r);
    e->partition = rd32(&r);
    e->offset = (int64_t)rd64(&r);
    return rd_end(&r, e->topic != 0 && e->partition < LIMIT_PARTITIONS && e->offset >= 0);
}

_Static_assert(LIMIT_GROUP_METADATA <= UINT16_MAX,
               "an offset's metadata has a length of two bytes");

size_t entry_group_offset_size(const struct entry_group_offset *e)
{
    return 28 + e->group.len + e->metadata.len;
}

size_t entry_group_offset_write(uint8_t *dst, const struct entry_group_offset *e)
{
    uint8_t *p = put32(dst, e->topic);

    ASSERT(e->group.len <= LIMIT_GROUP_NAME && e->metadata.len <= LIMIT_GROUP_METADATA);
    p = put32(p, e->partition);
    p = put64(p, (uint64_t)e->offset);
    p = put64(p, (uint64_t)e->committed_ms);
    p = put16(p, (uint16_t)e->group.len);
    p = put_bytes(p, e->group);
    p = put16(p, (uint16_t)e->metadata.len);
    p = put_bytes(p, e->metadata);
    return (size_t)(p - dst);
}

enum err entry_group_offset_read(struct slice data, struct entry_group_offset *e)
{
    struct rd r = rd_of(data);

    e->topic = rd32(&r);
    e->partition = rd32(&r);
    e->offset = (int64_t)rd64(&r);
    e->committed_ms = (int64_t)rd64(&r);
    e->group = rd_bytes(&r, rd16(&r));
    e->metadata = rd_bytes(&r, rd16(&r));
    return rd_end(&r, e->topic && e->partition < LIMIT_PARTITIONS && e->offset >= 0 &&
                          e->group.len > 0 && e->group.len <= LIMIT_GROUP_NAME &&
                          e->metadata.len <= LIMIT_GROUP_METADATA);
}

size_t entry_group_delete_write(uint8_t dst[ENTRY_SMALL_MAX], struct slice group)
{
    ASSERT(group.len <= LIMIT_GROUP_NAME);
    return (size_t)(put_bytes(put16(dst, (uint16_t)group.len), group) - dst);
}

enum err entry_group_delete_read(struct slice data, struct slice *group)
{
    struct rd r = rd_of(data);

    *group = rd_bytes(&r, rd16(&r));
    return rd_end(&r, group->len > 0 && group->len <= LIMIT_GROUP_NAME);
}

size_t entry_group_offset_delete_write(uint8_t dst[ENTRY_SMALL_MAX],
                                       const struct entry_group_offset *e)
{
    uint8_t *p = put32(dst, e->topic);

    ASSERT(e->group.len <= LIMIT_GROUP_NAME);
    p = put32(p, e->partition);
    p = put64(p, (uint64_t)e->committed_ms);
    return (size_t)(put_bytes(put16(p, (uint16_t)e->group.len), e->group) - dst);
}

enum err entry_group_offset_delete_read(struct slice data, struct entry_group_offset *e)
{
    struct rd r = rd_of(data);

    *e = (struct entry_group_offset){.topic = rd32(&r)};
    e->partition = rd32(&r);
    e->committed_ms = (int64_t)rd64(&r);
    e->group = rd_bytes(&r, rd16(&r));
    return rd_end(&r, e->topic && e->partition < LIMIT_PARTITIONS && e->group.len > 0 &&
                          e->group.len <= LIMIT_GROUP_NAME);
}

size_t entry_cursor_write(uint8_t dst[ENTRY_SMALL_MAX], const struct entry_cursor *e)
{
    uint8_t *p = put8(dst, e->what);

    ASSERT(e->group.len <= LIMIT_GROUP_NAME);
    p = put32(p, e->topic);
    p = put32(p, e->partition);
    p = put64(p, e->epoch);
    p = put64(p, (uint64_t)e->start);
    return (size_t)(put_bytes(put16(p, (uint16_t)e->group.len), e->group) - dst);
}

/* Of a cursor of this topic and partition: is that possible? */
static bool cursor_of_ok(uint32_t topic, uint32_t partition, struct slice group)
{
    return topic && partition < LIMIT_PARTITIONS && group.len > 0 &&
           group.len <= LIMIT_GROUP_NAME && !memchr(group.ptr, 0, group.len);
}

enum err entry_cursor_read(struct slice data, struct entry_cursor *e)
{
    struct rd r = rd_of(data);

    *e = (struct entry_cursor){.what = rd8(&r)};
    e->topic = rd32(&r);
    e->partition = rd32(&r);
    e->epoch = rd64(&r);
    e->start = (int64_t)rd64(&r);
    e->group = rd_bytes(&r, rd16(&r));
    return rd_end(&r, e->what <= CURSOR_GONE && e->start >= 0 &&
                          cursor_of_ok(e->topic, e->partition, e->group));
}

size_t entry_cursor_ranges_size(const struct entry_cursor_ranges *e)
{
    return 8 + 4 + 4 + 2 + e->group.len + 4 + (size_t)e->n * CURSOR_RANGE_BYTES;
}

uint8_t *entry_cursor_ranges_write(uint8_t *dst, const struct entry_cursor_ranges *e)
{
    uint8_t *p = put64(dst, e->epoch);

    ASSERT(e->group.len <= LIMIT_GROUP_NAME);
    p = put32(p, e->topic);
    p = put32(p, e->partition);
    p = put_bytes(put16(p, (uint16_t)e->group.len), e->group);
    return put32(p, e->n);
}

void cursor_range_write(uint8_t *ranges, uint32_t i, const struct cursor_saved_range *x)
{
    uint8_t *p = put64(ranges + (size_t)i * CURSOR_RANGE_BYTES, (uint64_t)x->first);

    put16(put8(put32(p, x->records), x->state), x->deliveries);
}

void cursor_range_get(struct slice ranges, uint32_t i, struct cursor_saved_range *x)
{
    const uint8_t *p = ranges.ptr + (size_t)i * CURSOR_RANGE_BYTES;

    x->first = (int64_t)le64_load(p);
    x->records = le32_load(p + 8);
    x->state = p[12];
    x->deliveries = le16_load(p + 13);
}

bool cursor_ranges_valid(struct slice ranges, uint32_t n)
{
    struct cursor_saved_range x;
    int64_t from = 0;
    uint32_t i;

    if (ranges.len != (size_t)n * CURSOR_RANGE_BYTES)
        return false;
    for (i = 0; i < n; i++, from = x.first + x.records) {
        cursor_range_get(ranges, i, &x);
        if (x.first < from || x.records == 0 || x.first > INT64_MAX - x.records ||
            x.state > CURSOR_ARCHIVED)
            return false;
    }
    return true;
}

enum err entry_cursor_ranges_read(struct slice data, struct entry_cursor_ranges *e)
{
    struct rd r = rd_of(data);

    *e = (struct entry_cursor_ranges){.epoch = rd64(&r)};
    e->topic = rd32(&r);
    e->partition = rd32(&r);
    e->group = rd_bytes(&r, rd16(&r));
    e->n = rd32(&r);
    e->ranges = rd_bytes(&r, r.left);
    return rd_end(&r, e->n && cursor_ranges_valid(e->ranges, e->n) &&
                          cursor_of_ok(e->topic, e->partition, e->group));
}

size_t entry_group_state_size(const struct entry_group_state *e)
{
    return 4 + 1 + 8 + 8 + 5 * 4 + e->group.len + e->protocol_type.len + e->leader.len +
           e->members.len + e->assignment.len;
}

size_t entry_group_state_write(uint8_t *dst, const struct entry_group_state *e)
{
    const struct slice *part[] = {&e->group, &e->protocol_type, &e->leader, &e->members,
                                  &e->assignment};
    uint8_t *p = put32(dst, (uint32_t)e->generation);
    size_t i;

    p = put8(p, e->kind);
    p = put64(p, (uint64_t)e->updated_ms);
    p = put64(p, (uint64_t)e->empty_ms);
    for (i = 0; i < sizeof part / sizeof part[0]; i++)
        p = put_bytes(put32(p, (uint32_t)part[i]->len), *part[i]);
    return (size_t)(p - dst);
}

enum err entry_group_state_read(struct slice data, struct entry_group_state *e)
{
    struct slice *part[] = {&e->group, &e->protocol_type, &e->leader, &e->members, &e->assignment};
    struct rd r = rd_of(data);
    size_t i;

    e->generation = (int32_t)rd32(&r);
    e->kind = rd8(&r);
    e->updated_ms = (int64_t)rd64(&r);
    e->empty_ms = (int64_t)rd64(&r);
    for (i = 0; i < sizeof part / sizeof part[0]; i++)
        *part[i] = rd_bytes(&r, rd32(&r));
    return rd_end(&r, e->generation >= 0 && e->kind <= GROUP_KIND_MAX && e->group.len > 0 &&
                          e->group.len <= LIMIT_GROUP_NAME &&
                          e->protocol_type.len <= LIMIT_GROUP_WORD &&
                          e->leader.len <= LIMIT_MEMBER_ID && e->members.len <= LIMIT_GROUP_IMAGE &&
                          e->assignment.len <= LIMIT_GROUP_IMAGE);
}

size_t entry_producer_ids_write(uint8_t dst[ENTRY_SMALL_MAX], int64_t next)
{
    return (size_t)(put64(dst, (uint64_t)next) - dst);
}

enum err entry_producer_ids_read(struct slice data, int64_t *next)
{
    struct rd r = rd_of(data);

    *next = (int64_t)rd64(&r);
    return rd_end(&r, *next >= 0);
}

size_t entry_txn_write(uint8_t dst[ENTRY_SMALL_MAX], const struct entry_txn *e)
{
    uint8_t *p = put64(dst, (uint64_t)e->producer_id);

    ASSERT(e->name.len <= LIMIT_TXN_NAME);
    p = put16(p, (uint16_t)e->epoch);
    p = put64(p, (uint64_t)e->last_id);
    p = put16(p, (uint16_t)e->last_epoch);
    p = put8(p, e->state);
    p = put32(p, (uint32_t)e->timeout_ms);
    p = put64(p, (uint64_t)e->started_ms);
    p = put64(p, (uint64_t)e->updated_ms);
    p = put16(p, (uint16_t)e->name.len);
    return (size_t)(put_bytes(p, e->name) - dst);
}

enum err entry_txn_read(struct slice data, struct entry_txn *e)
{
    struct rd r = rd_of(data);

    e->producer_id = (int64_t)rd64(&r);
    e->epoch = (int16_t)rd16(&r);
    e->last_id = (int64_t)rd64(&r);
    e->last_epoch = (int16_t)rd16(&r);
    e->state = rd8(&r);
    e->timeout_ms = (int32_t)rd32(&r);
    e->started_ms = (int64_t)rd64(&r);
    e->updated_ms = (int64_t)rd64(&r);
    e->name = rd_bytes(&r, rd16(&r));
    return rd_end(&r, e->producer_id >= 0 && e->epoch >= 0 && e->state <= TXN_DEAD &&
                          e->timeout_ms > 0 && e->name.len > 0 && e->name.len <= LIMIT_TXN_NAME);
}

size_t entry_txn_offset_size(const struct entry_txn_offset *e)
{
    return 10 + entry_group_offset_size(&e->o);
}

size_t entry_txn_offset_write(uint8_t *dst, const struct entry_txn_offset *e)
{
    uint8_t *p = put16(put64(dst, (uint64_t)e->producer_id), (uint16_t)e->epoch);

    return 10 + entry_group_offset_write(p, &e->o);
}

enum err entry_txn_offset_read(struct slice data, struct entry_txn_offset *e)
{
    struct rd r = rd_of(data);

    e->producer_id = (int64_t)rd64(&r);
    e->epoch = (int16_t)rd16(&r);
    if (data.len < 10 || e->producer_id < 0 || e->epoch < 0)
        return ERR_CORRUPT;
    return entry_group_offset_read(slice_of(data.ptr + 10, data.len - 10), &e->o);
}

size_t entry_kv_size(const struct entry_kv *e)
{
    return 8 + 1 + e->ns.len + 2 + e->key.len + 4 + e->value.len;
}

size_t entry_kv_write(uint8_t *dst, const struct entry_kv *e)
{
    uint8_t *p = put64(dst, (uint64_t)e->expires_ms);

    p = put8(p, (uint8_t)e->ns.len);
    p = put_bytes(p, e->ns);
    p = put16(p, (uint16_t)e->key.len);
    p = put_bytes(p, e->key);
    p = put32(p, slice_is_null(e->value) ? KV_DELETED : (uint32_t)e->value.len);
    p = put_bytes(p, e->value);
    return (size_t)(p - dst);
}

enum err entry_kv_read(struct slice data, struct entry_kv *e)
{
    struct rd r = rd_of(data);
    uint32_t n;

    e->expires_ms = (int64_t)rd64(&r);
    e->ns = rd_bytes(&r, rd8(&r));
    e->key = rd_bytes(&r, rd16(&r));
    n = rd32(&r);
    e->value = n == KV_DELETED ? SLICE_NULL : rd_bytes(&r, n);
    return rd_end(&r, e->ns.len > 0 && e->ns.len <= LIMIT_KV_NS && e->key.len <= LIMIT_KV_KEY &&
                          e->value.len <= LIMIT_KV_VALUE && !memchr(e->ns.ptr, 0, e->ns.len));
}

size_t entry_dedup_size(uint32_t places, uint32_t ids)
{
    return DEDUP_HEAD_BYTES + (size_t)places * DEDUP_PLACE_BYTES + (size_t)ids * DEDUP_ID_BYTES;
}

void entry_dedup_head_write(uint8_t *dst, uint32_t places, uint32_t ids)
{
    put32(put32(dst, places), ids);
}

void entry_dedup_place_write(uint8_t *dst, uint32_t i, const struct dedup_place *p)
{
    dst += DEDUP_HEAD_BYTES + (size_t)i * DEDUP_PLACE_BYTES;
    dst = put32(dst, p->partition);
    dst = put64(dst, (uint64_t)p->base_offset);
    put64(dst, p->position);
}

void entry_dedup_id_write(uint8_t *dst, uint32_t places, uint32_t i, const struct dedup_id *d)
{
    dst += entry_dedup_size(places, i);
    dst = put_bytes(dst, slice_of(d->hash, 16));
    dst = put32(dst, d->place);
    dst = put32(dst, d->index);
    put64(dst, (uint64_t)d->timestamp_ms);
}

enum err entry_dedup_read(struct slice data, uint32_t *places, uint32_t *ids)
{
    struct rd r = rd_of(data);
    struct dedup_place p;
    struct dedup_id d;
    uint32_t i;

    *places = rd32(&r);
    *ids = rd32(&r);
    if (r.bad || *places > data.len / DEDUP_PLACE_BYTES || *ids > data.len / DEDUP_ID_BYTES ||
        entry_dedup_size(*places, *ids) != data.len)
        return ERR_CORRUPT;
    for (i = 0; i < *places; i++) {
        entry_dedup_place_get(data, i, &p);
        if (p.base_offset < -1)
            return ERR_CORRUPT;
    }
    for (i = 0; i < *ids; i++) {
        entry_dedup_id_get(data, *places, i, &d);
        if (d.place >= *places)
            return ERR_CORRUPT;
    }
    return ERR_OK;
}

void entry_dedup_place_get(struct slice data, uint32_t i, struct dedup_place *p)
{
    const uint8_t *at = data.ptr + DEDUP_HEAD_BYTES + (size_t)i * DEDUP_PLACE_BYTES;

    p->partition = le32_load(at);
    p->base_offset = (int64_t)le64_load(at + 4);
    p->position = le64_load(at + 12);
}

void entry_dedup_id_get(struct slice data, uint32_t places, uint32_t i, struct dedup_id *d)
{
    const uint8_t *at = data.ptr + entry_dedup_size(places, i);

    memcpy(d->hash, at, 16);
    d->place = le32_load(at + 16);
    d->index = le32_load(at + 20);
    d->timestamp_ms = (int64_t)le64_load(at + 24);
}

/* ---- SQLite ---- */

static const char tables_sql[] =
    "CREATE TABLE IF NOT EXISTS topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL,"
    " uuid BLOB NOT NULL, created_at INTEGER NOT NULL, partitions INTEGER NOT NULL,"
    " partitions_first INTEGER NOT NULL, flags INTEGER NOT NULL, conf TEXT NOT NULL);"
    "CREATE TABLE IF NOT EXISTS partitions(topic INTEGER NOT NULL, partition INTEGER NOT NULL,"
    " uid INTEGER NOT NULL, start_offset INTEGER NOT NULL, PRIMARY KEY(topic, partition))"
    " WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS tiers(topic INTEGER NOT NULL, partition INTEGER NOT NULL,"
    " start INTEGER NOT NULL, PRIMARY KEY(topic, partition)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS stream_groups(group_id TEXT PRIMARY KEY,"
    " generation INTEGER NOT NULL, leader TEXT, members TEXT NOT NULL, assignment TEXT NOT NULL,"
    " updated_at INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS group_kinds(group_id TEXT PRIMARY KEY, kind INTEGER NOT NULL,"
    " protocol_type TEXT, empty_at INTEGER NOT NULL) WITHOUT ROWID;"
    /* key columns first: SQLite 3.40's integrity_check mistakes any other order for NULLs */
    "CREATE TABLE IF NOT EXISTS stream_offsets(group_id TEXT NOT NULL, topic_id INTEGER NOT NULL,"
    " partition INTEGER NOT NULL, topic TEXT NOT NULL, offset INTEGER NOT NULL,"
    " metadata TEXT NOT NULL, committed_at INTEGER NOT NULL,"
    " PRIMARY KEY(group_id, topic_id, partition)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS kv(ns TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,"
    " expires_at INTEGER NOT NULL, PRIMARY KEY(ns, key)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS dedup(seq INTEGER PRIMARY KEY, hash BLOB NOT NULL,"
    " partition INTEGER NOT NULL, offset INTEGER NOT NULL, position INTEGER NOT NULL,"
    " timestamp INTEGER NOT NULL, added_at INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS producers(uid INTEGER NOT NULL, producer_id INTEGER NOT NULL,"
    " epoch INTEGER NOT NULL, last_ms INTEGER NOT NULL, last_offset INTEGER NOT NULL,"
    " txn_first INTEGER NOT NULL, txn_position INTEGER NOT NULL, batches BLOB NOT NULL,"
    " PRIMARY KEY(uid, producer_id)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS txn_aborted(uid INTEGER NOT NULL, last_offset INTEGER NOT NULL,"
    " producer_id INTEGER NOT NULL, first_offset INTEGER NOT NULL, PRIMARY KEY(uid, last_offset))"
    " WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS cursors(group_id BLOB NOT NULL, topic_id INTEGER NOT NULL,"
    " partition INTEGER NOT NULL, epoch INTEGER NOT NULL, start_offset INTEGER NOT NULL,"
    " ranges BLOB NOT NULL, PRIMARY KEY(group_id, topic_id, partition)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS transactions(transactional_id BLOB PRIMARY KEY,"
    " producer_id INTEGER NOT NULL, epoch INTEGER NOT NULL, last_id INTEGER NOT NULL,"
    " last_epoch INTEGER NOT NULL, state INTEGER NOT NULL, timeout_ms INTEGER NOT NULL,"
    " started_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS txn_offsets(transactional_id BLOB NOT NULL,"
    " group_id TEXT NOT NULL, topic_id INTEGER NOT NULL, partition INTEGER NOT NULL,"
    " offset INTEGER NOT NULL, metadata TEXT NOT NULL, committed_at INTEGER NOT NULL,"
    " PRIMARY KEY(transactional_id, group_id, topic_id, partition)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS broker_meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL)"
    " WITHOUT ROWID;";

enum err state_sql_err(struct sqlite3 *db, int rc, const char *what, struct errinfo *info)
{
    enum err e;

    switch (rc & 0xff) {
    case SQLITE_FULL:
        e = ERR_NO_SPACE;
        break;
    case SQLITE_NOMEM:
        e = ERR_NO_MEMORY;
        break;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_BUSY:
    case SQLITE_READONLY:
        e = ERR_IO;
        break;
    default:
        e = ERR_CORRUPT;
    }
    return errinfo_set(info, e, "checkpoint.db: %s: %s", what, sqlite3_errmsg(db));
}

enum err state_prepare(struct sqlite3 *db, const char *sql, struct sqlite3_stmt **st,
                       struct errinfo *info)
{
    int rc = sqlite3_prepare_v2(db, sql, -1, st, NULL);

    return rc == SQLITE_OK ? ERR_OK : state_sql_err(db, rc, "a statement is refused", info);
}

enum err state_step(struct sqlite3 *db, struct sqlite3_stmt *st, struct errinfo *info)
{
    int rc = sqlite3_step(st);
    enum err e = rc == SQLITE_DONE ? ERR_OK : state_sql_err(db, rc, "writing", info);

    sqlite3_reset(st);
    return e;
}

void state_bind_text(struct sqlite3_stmt *st, int i, struct slice s)
{
    sqlite3_bind_text(st, i, s.len ? (const char *)s.ptr : "", (int)s.len, SQLITE_STATIC);
}

void state_bind_blob(struct sqlite3_stmt *st, int i, struct slice s)
{
    sqlite3_bind_blob(st, i, s.len ? (const void *)s.ptr : "", (int)s.len, SQLITE_STATIC);
}

struct slice state_column(struct sqlite3_stmt *st, int i)
{
    const void *p = sqlite3_column_blob(st, i);

    return p ? slice_of(p, (size_t)sqlite3_column_bytes(st, i)) : slice_of("", 0);
}

enum err state_tables_make(struct sqlite3 *db, struct errinfo *info)
{
    int rc = sqlite3_exec(db, tables_sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? state_meta_put(db, "format", FORMAT, info)
                           : state_sql_err(db, rc, "making the broker's tables", info);
}

enum err state_table_there(struct sqlite3 *db, const char *table, bool *there, struct errinfo *info)
{
    struct sqlite3_stmt *st;
    enum err e = state_prepare(db, "SELECT 1 FROM sqlite_master WHERE name = ?", &st, info);
    int rc;

    *there = false;
    if (e)
        return e;
    state_bind_text(st, 1, slice_str(table));
    rc = sqlite3_step(st);
    *there = rc == SQLITE_ROW;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        e = state_sql_err(db, rc, "reading", info);
    sqlite3_finalize(st);
    return e;
}

enum err state_rows(struct broker *b, struct sqlite3 *db, const char *table, const char *sql,
                    enum err (*row)(struct broker *, struct sqlite3_stmt *, struct errinfo *),
                    struct errinfo *info)
{
    struct sqlite3_stmt *st = NULL;
    bool there;
    enum err e = state_table_there(db, table, &there, info);
    int rc = SQLITE_DONE;

    if (e || !there)
        return e; /* written before there was this table */
    e = state_prepare(db, sql, &st, info);
    while (!e && (rc = sqlite3_step(st)) == SQLITE_ROW)
        e = row(b, st, info);
    if (!e && rc != SQLITE_DONE)
        e = state_sql_err(db, rc, "reading", info);
    sqlite3_finalize(st);
    return e;
}

enum err state_tables_check(struct sqlite3 *db, bool *there, struct errinfo *info)
{
    int64_t format = 0;
    bool made;
    enum err e;

    *there = false;
    e = state_table_there(db, "broker_meta", &made, info);
    if (e || !made)
        return e;
    if ((e = state_meta_get(db, "format", &format, info)))
        return e;
    if (format != FORMAT)
        return errinfo_set(info, ERR_FORMAT,
                           "checkpoint.db: the broker's tables have format %lld, this program "
                           "reads format %d",
                           (long long)format, FORMAT);
    *there = true;
    return ERR_OK;
}

enum err state_meta_put(struct sqlite3 *db, const char *key, int64_t value, struct errinfo *info)
{
    struct sqlite3_stmt *st;
    enum err e;

    e = state_prepare(db, "INSERT OR REPLACE INTO broker_meta(key, value) VALUES(?, ?)", &st, info);
    if (e)
        return e;
    state_bind_text(st, 1, slice_str(key));
    sqlite3_bind_int64(st, 2, value);
    e = state_step(db, st, info);
    sqlite3_finalize(st);
    return e;
}

enum err state_meta_get(struct sqlite3 *db, const char *key, int64_t *value, struct errinfo *info)
{
    struct sqlite3_stmt *st;
    enum err e;
    int rc;

    *value = 0;
    e = state_prepare(db, "SELECT value FROM broker_meta WHERE key = ?", &st, info);
    if (e)
        return e;
    state_bind_text(st, 1, slice_str(key));
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *value = sqlite3_column_int64(st, 0);
    else if (rc != SQLITE_DONE)
        e = state_sql_err(db, rc, "reading", info);
    sqlite3_finalize(st);
    return e;
}
