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

/* Decodes with whatever decoder; the bytes are in a heap block of exactly their size. */
static enum err decode(uint8_t type, const uint8_t *p, size_t n)
{
    uint8_t *heap = malloc(n ? n : 1);
    struct slice s = slice_of(heap, n);
    struct entry_topic_create c;
    struct entry_topic_alter al;
    struct entry_topic_flags fl;
    struct entry_group_offset o;
    struct entry_kv kv;
    struct slice g;
    uint32_t a, b;
    enum err e = ERR_CORRUPT;

    memcpy(heap, p, n);
    switch (type) {
    case ENTRY_TOPIC_CREATE:
        e = entry_topic_create_read(s, &c);
        if (!e)
            assert_true(c.partitions <= LIMIT_PARTITIONS && c.conf.n <= CONF_ITEMS_MAX);
        break;
    case ENTRY_TOPIC_ALTER:
        e = entry_topic_alter_read(s, &al);
        break;
    case ENTRY_TOPIC_DELETE:
        e = entry_topic_delete_read(s, &a);
        break;
    case ENTRY_TOPIC_FLAGS:
        e = entry_topic_flags_read(s, &fl);
        break;
    case ENTRY_GROUP_OFFSET:
        e = entry_group_offset_read(s, &o);
        if (!e)
            assert_true(o.metadata.len <= LIMIT_GROUP_METADATA);
        break;
    case ENTRY_GROUP_DELETE:
        e = entry_group_delete_read(s, &g);
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

static void test_damage(void **state)
{
    struct entry_topic_alter al = {7, 5, 12, 2, true, {1, {{2, 5}}}};
    struct entry_topic_flags fl = {3, TOPIC_SCATTERED};
    struct entry_group_offset o = {7, 2, 42, 1700000000001, SLICE_LIT("g"), SLICE_LIT("meta")};
    struct entry_kv kv = {5, SLICE_LIT("ns"), SLICE_LIT("key"), SLICE_LIT("value")};
    uint8_t b[ENTRY_SMALL_MAX + 1];
    unsigned type, bit;
    size_t n = 0, i;

    for (type = ENTRY_TOPIC_CREATE; type < ENTRY_BROKER_END; type++) {
        switch (type) {
        case ENTRY_TOPIC_CREATE:
            n = create_entry(b);
            break;
        case ENTRY_TOPIC_ALTER:
            n = entry_topic_alter_write(b, &al);
            break;
        case ENTRY_TOPIC_DELETE:
            n = entry_topic_delete_write(b, 5);
            break;
        case ENTRY_TOPIC_FLAGS:
            n = entry_topic_flags_write(b, &fl);
            break;
        case ENTRY_GROUP_OFFSET:
            n = entry_group_offset_write(b, &o);
            break;
        case ENTRY_GROUP_DELETE:
            n = entry_group_delete_write(b, SLICE_LIT("group"));
            break;
        case ENTRY_KV:
            n = entry_kv_write(b, &kv);
            break;
        case ENTRY_DEDUP:
            n = dedup_entry(b);
            break;
        }
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
            uint8_t old[4];

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
        cmocka_unit_test(test_damage),
    };

    return cmocka_run_group_tests_name("broker/state", tests, NULL, NULL);
}
