/* Entries: encode and decode, and damaged ones: every cut and every flipped byte of every entry
 * must be refused or decode to something within its limits, never crash (run under ASan, too). */
#include "fixture.h"

#include "base/tbl/limits.h"
#include "broker/state.h"

static size_t create_entry(uint8_t *dst)
{
    struct entry_topic_create e = {.id = 7,
                                   .first_uid = 9,
                                   .partitions = 3,
                                   .created_ms = 1700000000000,
                                   .name = SLICE_LIT("orders"),
                                   .conf = {2, {{1, 1000}, {5, 1}}}};

    memset(e.uuid, 0xab, 16);
    return entry_topic_create_write(dst, &e);
}

static void test_round_trip(void **state)
{
    uint8_t b[ENTRY_SMALL_MAX];
    struct entry_topic_create c;
    struct entry_topic_alter al = {7, 5, 12, 2, true, {1, {{2, 5}}}}, al2;
    struct entry_group_offset o = {7, 2, 42, 1700000000001, SLICE_LIT("g"), SLICE_LIT("meta")}, o2;
    struct entry_kv kv = {5, SLICE_LIT("ns"), SLICE_LIT("k"), SLICE_NULL}, kv2;
    size_t n = create_entry(b);

    assert_int_equal(entry_topic_create_read(slice_of(b, n), &c), ERR_OK);
    assert_int_equal(c.id, 7);
    assert_int_equal(c.conf.n, 2);
    assert_int_equal(c.conf.item[1].value, 1);
    assert_true(slice_eq_str(c.name, "orders"));
    n = entry_topic_alter_write(b, &al);
    assert_int_equal(entry_topic_alter_read(slice_of(b, n), &al2), ERR_OK);
    assert_int_equal(al2.first_uid, 12);
    assert_int_equal(al2.conf.item[0].value, 5);
    n = entry_group_offset_write(b, &o);
    assert_int_equal(n, entry_group_offset_size(&o));
    assert_int_equal(entry_group_offset_read(slice_of(b, n), &o2), ERR_OK);
    assert_int_equal(o2.offset, 42);
    assert_true(slice_eq_str(o2.metadata, "meta"));
    n = entry_kv_write(b, &kv);
    assert_int_equal(n, entry_kv_size(&kv));
    assert_int_equal(entry_kv_read(slice_of(b, n), &kv2), ERR_OK);
    assert_true(slice_is_null(kv2.value));
    kv.value = SLICE_LIT("");
    n = entry_kv_write(b, &kv);
    assert_int_equal(entry_kv_read(slice_of(b, n), &kv2), ERR_OK);
    assert_false(slice_is_null(kv2.value));
}

static size_t dedup_entry(uint8_t *dst)
{
    struct dedup_place p = {1, 100, 1000};
    struct dedup_id d = {.place = 1, .index = 4, .timestamp_ms = 9};

    memset(d.hash, 3, 16);
    entry_dedup_head_write(dst, 2, 1);
    entry_dedup_place_write(dst, 0, &p);
    p.base_offset = -1;
    entry_dedup_place_write(dst, 1, &p);
    entry_dedup_id_write(dst, 2, 0, &d);
    return entry_dedup_size(2, 1);
}

static size_t txn_entry(uint8_t *dst)
{
    struct entry_txn t = {.producer_id = 4711,
                          .last_id = 4710,
                          .epoch = 3,
                          .last_epoch = 32766,
                          .state = TXN_ONGOING,
                          .timeout_ms = 60000,
                          .started_ms = 1700000000000,
                          .updated_ms = 1700000000001,
                          .name = SLICE_LIT("transfer-1")};

    return entry_txn_write(dst, &t);
}

static size_t group_state_entry(uint8_t *dst)
{
    struct entry_group_state g = {.generation = 12,
                                  .kind = 1,
                                  .updated_ms = 1700000000000,
                                  .empty_ms = 1700000000001,
                                  .group = SLICE_LIT("g"),
                                  .protocol_type = SLICE_LIT("consumer"),
                                  .leader = SLICE_LIT("m-1"),
                                  .members = SLICE_LIT("[]"),
                                  .assignment = SLICE_LIT("{}")};
    size_t n = entry_group_state_write(dst, &g);

    assert_int_equal(n, entry_group_state_size(&g));
    return n;
}

static void test_round_trip_txn(void **state)
{
    uint8_t b[ENTRY_SMALL_MAX];
    struct entry_group_offset o = {7, 2, 42, 1700000000001, SLICE_LIT("g"), SLICE_LIT("meta")}, o2;
    struct entry_txn_offset to = {4711, 3, o}, to2;
    struct entry_group_state g;
    struct entry_txn t;
    int64_t next;
    size_t n;

    n = entry_producer_ids_write(b, INT64_MAX);
    assert_int_equal(entry_producer_ids_read(slice_of(b, n), &next), ERR_OK);
    assert_int_equal(next, INT64_MAX);
    n = txn_entry(b);
    assert_int_equal(entry_txn_read(slice_of(b, n), &t), ERR_OK);
    assert_int_equal(t.producer_id, 4711);
    assert_int_equal(t.last_id, 4710);
    assert_int_equal(t.epoch, 3);
    assert_int_equal(t.last_epoch, 32766);
    assert_int_equal(t.state, TXN_ONGOING);
    assert_int_equal(t.timeout_ms, 60000);
    assert_int_equal(t.updated_ms - t.started_ms, 1);
    assert_true(slice_eq_str(t.name, "transfer-1"));
    n = entry_txn_offset_write(b, &to);
    assert_int_equal(n, entry_txn_offset_size(&to));
    assert_int_equal(entry_txn_offset_read(slice_of(b, n), &to2), ERR_OK);
    assert_int_equal(to2.producer_id, 4711);
    assert_int_equal(to2.epoch, 3);
    assert_int_equal(to2.o.offset, 42);
    assert_true(slice_eq_str(to2.o.metadata, "meta"));
    n = group_state_entry(b);
    assert_int_equal(entry_group_state_read(slice_of(b, n), &g), ERR_OK);
    assert_int_equal(g.generation, 12);
    assert_int_equal(g.empty_ms - g.updated_ms, 1);
    assert_true(slice_eq_str(g.protocol_type, "consumer"));
    assert_true(slice_eq_str(g.assignment, "{}"));
    n = entry_group_offset_delete_write(b, &o);
    assert_int_equal(entry_group_offset_delete_read(slice_of(b, n), &o2), ERR_OK);
    assert_int_equal(o2.partition, 2);
    assert_int_equal(o2.committed_ms, 1700000000001);
    assert_true(slice_eq_str(o2.group, "g"));
}

static enum err decode_topic(uint8_t type, struct slice s)
{
    struct entry_topic_create c;
    struct entry_topic_alter al;
    struct entry_topic_flags fl;
    uint32_t a;
    enum err e;

    switch (type) {
    case ENTRY_TOPIC_CREATE:
        e = entry_topic_create_read(s, &c);
        if (!e)
            assert_true(c.partitions <= LIMIT_PARTITIONS && c.conf.n <= CONF_ITEMS_MAX);
        return e;
    case ENTRY_TOPIC_ALTER:
        return entry_topic_alter_read(s, &al);
    case ENTRY_TOPIC_DELETE:
        return entry_topic_delete_read(s, &a);
    default:
        return entry_topic_flags_read(s, &fl);
    }
}

static enum err decode_group(uint8_t type, struct slice s)
{
    struct entry_group_offset o;
    struct entry_group_state gs;
    struct slice g;
    enum err e;

    switch (type) {
    case ENTRY_GROUP_OFFSET:
        e = entry_group_offset_read(s, &o);
        if (!e)
            assert_true(o.metadata.len <= LIMIT_GROUP_METADATA);
        return e;
    case ENTRY_GROUP_DELETE:
        return entry_group_delete_read(s, &g);
    case ENTRY_GROUP_STATE:
        e = entry_group_state_read(s, &gs);
        if (!e)
            assert_true(gs.group.len <= LIMIT_GROUP_NAME && gs.kind <= GROUP_KIND_MAX);
        return e;
    default:
        return entry_group_offset_delete_read(s, &o);
    }
}

static enum err decode_txn(uint8_t type, struct slice s)
{
    struct entry_txn_offset to;
    struct entry_txn t;
    int64_t next;
    enum err e;

    switch (type) {
    case ENTRY_PRODUCER_IDS:
        e = entry_producer_ids_read(s, &next);
        if (!e)
            assert_true(next >= 0);
        return e;
    case ENTRY_TXN:
        e = entry_txn_read(s, &t);
        if (!e)
            assert_true(t.name.len <= LIMIT_TXN_NAME && t.producer_id >= 0 && t.epoch >= 0);
        return e;
    default:
        e = entry_txn_offset_read(s, &to);
        if (!e)
            assert_true(to.o.group.len <= LIMIT_GROUP_NAME && to.producer_id >= 0);
        return e;
    }
}

static size_t cursor_entry(uint8_t *dst, uint8_t type)
{
    struct entry_cursor c = {CURSOR_MADE, 7, 2, 4711, 42, SLICE_LIT("g")};
    struct entry_cursor_ranges r = {
        .epoch = 4711, .topic = 7, .partition = 2, .n = 2, .group = SLICE_LIT("g")};
    struct cursor_saved_range x = {5, 2, CURSOR_AVAILABLE, 3};
    uint8_t *ranges;

    if (type == ENTRY_CURSOR)
        return entry_cursor_write(dst, &c);
    ranges = entry_cursor_ranges_write(dst, &r);
    cursor_range_write(ranges, 0, &x);
    x.first = 7;
    cursor_range_write(ranges, 1, &x);
    return entry_cursor_ranges_size(&r);
}

static enum err decode_cursor(uint8_t type, struct slice s)
{
    struct entry_cursor_ranges r;
    struct entry_cursor c;
    enum err e;

    if (type == ENTRY_CURSOR) {
        e = entry_cursor_read(s, &c);
        if (!e)
            assert_true(c.group.len <= LIMIT_GROUP_NAME && c.partition < LIMIT_PARTITIONS);
        return e;
    }
    e = entry_cursor_ranges_read(s, &r);
    if (!e)
        assert_true(r.ranges.len == r.n * CURSOR_RANGE_BYTES && r.group.len <= LIMIT_GROUP_NAME);
    return e;
}

/* Decodes with whatever decoder; the bytes are in a heap block of exactly their size. */
static enum err decode(uint8_t type, const uint8_t *p, size_t n)
{
    uint8_t *heap = malloc(n ? n : 1);
    struct slice s = slice_of(heap, n);
    struct entry_tier_start tier;
    struct entry_kv kv;
    uint32_t a, b;
    enum err e = ERR_CORRUPT;

    memcpy(heap, p, n);
    switch (type) {
    case ENTRY_TOPIC_CREATE:
    case ENTRY_TOPIC_ALTER:
    case ENTRY_TOPIC_DELETE:
    case ENTRY_TOPIC_FLAGS:
        e = decode_topic(type, s);
        break;
    case ENTRY_GROUP_OFFSET:
    case ENTRY_GROUP_DELETE:
    case ENTRY_GROUP_STATE:
    case ENTRY_GROUP_OFFSET_DELETE:
        e = decode_group(type, s);
        break;
    case ENTRY_PRODUCER_IDS:
    case ENTRY_TXN:
    case ENTRY_TXN_OFFSET:
        e = decode_txn(type, s);
        break;
    case ENTRY_CURSOR:
    case ENTRY_CURSOR_RANGES:
        e = decode_cursor(type, s);
        break;
    case ENTRY_TIER_START:
        e = entry_tier_start_read(s, &tier);
        if (!e)
            assert_true(tier.topic && tier.partition < LIMIT_PARTITIONS && tier.offset >= 0);
        break;
    case ENTRY_KV:
        e = entry_kv_read(s, &kv);
        break;
    case ENTRY_DEDUP:
        e = entry_dedup_read(s, &a, &b);
        break;
    }
    free(heap);
    return e;
}

/* A sound entry of this type; every type has one. */
static size_t make(uint8_t type, uint8_t *b)
{
    const struct entry_topic_alter al = {7, 5, 12, 2, true, {1, {{2, 5}}}};
    const struct entry_topic_flags fl = {3, TOPIC_SCATTERED};
    const struct entry_group_offset o = {
        7, 2, 42, 1700000000001, SLICE_LIT("g"), SLICE_LIT("meta")};
    const struct entry_kv kv = {5, SLICE_LIT("ns"), SLICE_LIT("key"), SLICE_LIT("value")};
    const struct entry_txn_offset to = {4711, 3, o};
    const struct entry_tier_start ts = {7, 2, 12345678901};

    switch (type) {
    case ENTRY_TOPIC_CREATE:
        return create_entry(b);
    case ENTRY_TOPIC_ALTER:
        return entry_topic_alter_write(b, &al);
    case ENTRY_TOPIC_DELETE:
        return entry_topic_delete_write(b, 5);
    case ENTRY_TOPIC_FLAGS:
        return entry_topic_flags_write(b, &fl);
    case ENTRY_GROUP_OFFSET:
        return entry_group_offset_write(b, &o);
    case ENTRY_GROUP_DELETE:
        return entry_group_delete_write(b, SLICE_LIT("group"));
    case ENTRY_KV:
        return entry_kv_write(b, &kv);
    case ENTRY_DEDUP:
        return dedup_entry(b);
    case ENTRY_PRODUCER_IDS:
        return entry_producer_ids_write(b, 4711);
    case ENTRY_TXN:
        return txn_entry(b);
    case ENTRY_TXN_OFFSET:
        return entry_txn_offset_write(b, &to);
    case ENTRY_GROUP_STATE:
        return group_state_entry(b);
    case ENTRY_GROUP_OFFSET_DELETE:
        return entry_group_offset_delete_write(b, &o);
    case ENTRY_CURSOR:
    case ENTRY_CURSOR_RANGES:
        return cursor_entry(b, type);
    case ENTRY_TIER_START:
        return entry_tier_start_write(b, &ts);
    }
    fail_msg("no entry of type %u is made here", type);
    return 0;
}

static void test_damage(void **state)
{
    uint8_t b[ENTRY_SMALL_MAX + 1], old[4];
    unsigned type, bit;
    size_t n, i;

    for (type = ENTRY_TOPIC_CREATE; type < ENTRY_BROKER_END; type++) {
        n = make((uint8_t)type, b);
        assert_int_equal(decode((uint8_t)type, b, n), ERR_OK);
        for (i = 0; i < n; i++)
            assert_int_equal(decode((uint8_t)type, b, i), ERR_CORRUPT);
        b[n] = 0;
        assert_int_equal(decode((uint8_t)type, b, n + 1), ERR_CORRUPT);
        for (i = 0; i < n; i++)
            for (bit = 0; bit < 8; bit++) {
                b[i] ^= (uint8_t)(1u << bit);
                decode((uint8_t)type, b, n);
                b[i] ^= (uint8_t)(1u << bit);
            }
        for (i = 0; i + 4 <= n; i++) { /* counts and lengths at their worst */
            memcpy(old, b + i, 4);
            memset(b + i, 0xff, 4);
            decode((uint8_t)type, b, n);
            memcpy(b + i, old, 4);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_round_trip_txn),
        cmocka_unit_test(test_damage),
    };

    return cmocka_run_group_tests_name("broker/state", tests, NULL, NULL);
}
