/* Fuzzing of the broker's journal entries (broker/state.h): the first byte is the type, the rest
 * the entry. Checked beside the sanitizers: what decodes is within the limits, and encodes to the
 * very same bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/tbl/limits.h"
#include "broker/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(struct slice in, const uint8_t *out, size_t n)
{
    ASSERT(in.len == n && memcmp(in.ptr, out, n) == 0);
}

static void kv(struct slice s)
{
    struct entry_kv e;
    uint8_t *out;

    if (entry_kv_read(s, &e))
        return;
    ASSERT(e.ns.len <= LIMIT_KV_NS && e.key.len <= LIMIT_KV_KEY && e.value.len <= LIMIT_KV_VALUE);
    out = malloc(entry_kv_size(&e));
    same(s, out, entry_kv_write(out, &e));
    free(out);
}

static void dedup(struct slice s)
{
    uint32_t places, ids, i;
    struct dedup_place p;
    struct dedup_id d;
    uint8_t *out;

    if (entry_dedup_read(s, &places, &ids))
        return;
    out = malloc(entry_dedup_size(places, ids));
    entry_dedup_head_write(out, places, ids);
    for (i = 0; i < places; i++) {
        entry_dedup_place_get(s, i, &p);
        entry_dedup_place_write(out, i, &p);
    }
    for (i = 0; i < ids; i++) {
        entry_dedup_id_get(s, places, i, &d);
        ASSERT(d.place < places);
        entry_dedup_id_write(out, places, i, &d);
    }
    same(s, out, entry_dedup_size(places, ids));
    free(out);
}

static void cursor_ranges(struct slice s)
{
    struct entry_cursor_ranges e;
    struct cursor_saved_range x;
    uint8_t *out, *ranges;
    int64_t from = 0;
    uint32_t i;

    if (entry_cursor_ranges_read(s, &e))
        return;
    ASSERT(e.group.len <= LIMIT_GROUP_NAME && e.partition < LIMIT_PARTITIONS);
    out = malloc(entry_cursor_ranges_size(&e));
    ranges = entry_cursor_ranges_write(out, &e);
    for (i = 0; i < e.n; i++) {
        cursor_range_get(e.ranges, i, &x);
        ASSERT(x.first >= from && x.records);
        from = x.first + x.records;
        cursor_range_write(ranges, i, &x);
    }
    same(s, out, entry_cursor_ranges_size(&e));
    free(out);
}

static void small(uint8_t type, struct slice s)
{
    uint8_t out[ENTRY_SMALL_MAX + LIMIT_GROUP_METADATA];
    struct entry_topic_create create;
    struct entry_topic_alter alter;
    struct entry_topic_flags flags;
    struct entry_tier_start tier;
    struct entry_group_offset offset;
    struct entry_cursor cursor;
    struct slice group;
    uint32_t id;

    if (type == ENTRY_TOPIC_CREATE && !entry_topic_create_read(s, &create))
        same(s, out, entry_topic_create_write(out, &create));
    if (type == ENTRY_TOPIC_ALTER && !entry_topic_alter_read(s, &alter))
        same(s, out, entry_topic_alter_write(out, &alter));
    if (type == ENTRY_TOPIC_DELETE && !entry_topic_delete_read(s, &id))
        same(s, out, entry_topic_delete_write(out, id));
    if (type == ENTRY_TIER_START && !entry_tier_start_read(s, &tier))
        same(s, out, entry_tier_start_write(out, &tier));
    if (type == ENTRY_TOPIC_FLAGS && !entry_topic_flags_read(s, &flags))
        same(s, out, entry_topic_flags_write(out, &flags));
    if (type == ENTRY_GROUP_OFFSET && !entry_group_offset_read(s, &offset))
        same(s, out, entry_group_offset_write(out, &offset));
    if (type == ENTRY_CURSOR && !entry_cursor_read(s, &cursor))
        same(s, out, entry_cursor_write(out, &cursor));
    if (type == ENTRY_GROUP_DELETE && !entry_group_delete_read(s, &group))
        same(s, out, entry_group_delete_write(out, group));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice s;

    if (size == 0)
        return 0;
    s = slice_of(data + 1, size - 1);
    if (data[0] == ENTRY_KV)
        kv(s);
    else if (data[0] == ENTRY_DEDUP)
        dedup(s);
    else if (data[0] == ENTRY_CURSOR_RANGES)
        cursor_ranges(s);
    else
        small(data[0], s);
    return 0;
}
