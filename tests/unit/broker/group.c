/* Groups' offsets and key-value items: changes, deletion, expiry, limits; again after a restart
 * from the log, from a checkpoint, and from a checkpoint with a log behind it. */
#include "fixture.h"

#include "base/tbl/limits.h"
#include "broker/broker_int.h"

static void commit(struct fx *f, const char *group, struct topic *t, int32_t p, int64_t offset,
                   const char *meta)
{
    struct errinfo info = {0};

    if (group_commit_wait(f->b, slice_str(group), topic_partition(t, p), offset, slice_str(meta),
                          &info))
        fail_msg("commit: %s", info.text);
}

static int64_t offset_of(struct fx *f, const char *group, struct topic *t, int32_t p)
{
    struct group_offset o;

    return group_offset_get(f->b, slice_str(group), topic_partition(t, p), &o) ? -1 : o.offset;
}

static void done(void *arg, enum err e, const struct errinfo *info)
{
    *(enum err *)arg = e;
}

static void each(void *arg, const char *group, struct topic *t, int32_t partition,
                 const struct group_offset *o)
{
    char one[96];

    snprintf(one, sizeof one, "%s/%s/%d=%d;", group, topic_name(t), partition, (int)o->offset);
    strcat(arg, one);
}

static void test_offsets(void **state)
{
    static const char *const one[][2] = {
        {"g", "g/t/0=7;g/t/2=1;g/u/0=9;"}, {"a", "a/u/0=3;"}, {"gone", ""}, {"", ""}, {"b", ""}};
    unsigned k;
    char text[512];
    struct topic *t, *u;
    enum err e = ERR_AGAIN;
    struct fx f;
    int i;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 3);
    u = fx_topic(&f, "u", 1);
    assert_int_equal(offset_of(&f, "g", t, 0), -1);
    commit(&f, "g", t, 0, 5, "first");
    commit(&f, "g", t, 0, 7, "second");
    commit(&f, "g", t, 2, 1, NULL);
    commit(&f, "g", u, 0, 9, NULL);
    commit(&f, "a", u, 0, 3, NULL);
    commit(&f, "gone", u, 0, 3, NULL);
    assert_int_equal(group_delete(f.b, SLICE_LIT("gone"), done, &e, NULL), ERR_OK);
    assert_int_equal(offset_of(&f, "gone", u, 0), 3);
    broker_step(f.b);
    assert_int_equal(e, ERR_OK);
    assert_int_equal(offset_of(&f, "gone", u, 0), -1);
    assert_int_equal(group_delete(f.b, SLICE_LIT("gone"), done, &e, NULL), ERR_NOT_FOUND);
    for (i = 0; i < 5; i++) {
        char meta[LIMIT_GROUP_METADATA];
        struct group_offset o;

        text[0] = 0;
        group_each(f.b, each, text);
        assert_string_equal(text, "a/u/0=3;g/t/0=7;g/t/2=1;g/u/0=9;");
        for (k = 0; k < 5; k++) {
            text[0] = 0;
            group_each_of(f.b, slice_str(one[k][0]), each, text);
            assert_string_equal(text, one[k][1]);
        }
        assert_int_equal(
            group_offset_get_full(f.b, SLICE_LIT("g"), topic_partition(t, 0), &o, meta), ERR_OK);
        assert_true(slice_eq_str(o.metadata, "second"));
        assert_true(o.committed_ms > 1600000000000);
        topic_unref(&t);
        topic_unref(&u);
        if (i % 2)
            fx_checkpoint(&f);
        fx_crash(&f);
        t = topic_find(f.b, SLICE_LIT("t"));
        u = topic_find(f.b, SLICE_LIT("u"));
    }
    /* deletion and a new life of the same group within one checkpoint */
    assert_int_equal(group_delete(f.b, SLICE_LIT("g"), done, &e, NULL), ERR_OK);
    broker_step(f.b);
    commit(&f, "g", t, 1, 11, NULL);
    fx_checkpoint(&f);
    topic_unref(&t);
    topic_unref(&u);
    fx_crash(&f);
    t = topic_find(f.b, SLICE_LIT("t"));
    u = topic_find(f.b, SLICE_LIT("u"));
    text[0] = 0;
    group_each(f.b, each, text);
    assert_string_equal(text, "a/u/0=3;g/t/1=11;");
    /* a deleted topic's offsets are not the next one's of that name */
    assert_int_equal(topic_delete_wait(f.b, SLICE_LIT("u"), NULL), ERR_OK);
    topic_unref(&u);
    u = fx_topic(&f, "u", 1);
    assert_int_equal(offset_of(&f, "a", u, 0), -1);
    groups_sweep(f.b, 100);
    assert_int_equal(f.b->groups.offsets_n, 1);
    fx_checkpoint(&f);
    topic_unref(&t);
    topic_unref(&u);
    fx_crash(&f);
    assert_int_equal(f.b->groups.offsets_n, 1);
    fx_end(&f);
}

/* Metadata of every length up to the most allowed, any bytes, is there again after a restart; its
 * bytes are counted, and bounded. */
static void test_offset_metadata(void **state)
{
    static char meta[LIMIT_GROUP_METADATA + 1], got[LIMIT_GROUP_METADATA];
    static const size_t lens[] = {0, 1, 255, 256, 1000, LIMIT_GROUP_METADATA};
    struct slice g = SLICE_LIT("g");
    struct group_offset o;
    struct partition *p;
    struct topic *t;
    struct fx f;
    size_t i, k;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 1);
    for (i = 0; i < sizeof lens / sizeof lens[0]; i++)
        for (k = 0; k < 2; k++) {
            p = topic_partition(t, 0);
            memset(meta, (int)i, sizeof meta); /* the first is all zeros */
            assert_int_equal(
                group_commit_wait(f.b, g, p, (int64_t)i, slice_of(meta, lens[i]), NULL), ERR_OK);
            assert_int_equal(f.b->groups.metadata_bytes, lens[i]);
            if (k)
                fx_checkpoint(&f);
            topic_unref(&t);
            fx_crash(&f);
            t = topic_find(f.b, SLICE_LIT("t"));
            p = topic_partition(t, 0);
            assert_int_equal(group_offset_get_full(f.b, g, p, &o, got), ERR_OK);
            assert_int_equal(o.offset, i);
            assert_true(slice_eq(o.metadata, slice_of(meta, lens[i])));
            assert_int_equal(f.b->groups.metadata_bytes, lens[i]);
        }
    p = topic_partition(t, 0);
    assert_int_equal(group_commit_wait(f.b, g, p, 1, slice_of(meta, sizeof meta), NULL),
                     ERR_TOO_LARGE);
    f.b->groups.metadata_bytes += LIMIT_GROUP_METADATA_BYTES - LIMIT_GROUP_METADATA - 1;
    assert_int_equal(group_commit_wait(f.b, g, p, 9, slice_of(meta, 1), NULL), ERR_OK);
    f.b->groups.metadata_bytes = LIMIT_GROUP_METADATA_BYTES;
    assert_int_equal(group_commit_wait(f.b, g, p, 10, slice_of(meta, 1), NULL), ERR_LIMIT);
    assert_int_equal(group_commit_wait(f.b, g, p, 10, SLICE_NULL, NULL), ERR_OK);
    assert_int_equal(f.b->groups.metadata_bytes, LIMIT_GROUP_METADATA_BYTES - 1);
    topic_unref(&t);
    fx_end(&f);
}

static void test_offset_limits(void **state)
{
    char longname[LIMIT_GROUP_NAME + 1], meta[LIMIT_GROUP_METADATA + 1];
    struct topic *t;
    struct slice n, m;
    struct fx f;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 1);
    memset(longname, 'g', sizeof longname);
    n = slice_of(longname, sizeof longname);
    assert_int_equal(group_commit_wait(f.b, n, topic_partition(t, 0), 1, SLICE_NULL, NULL),
                     ERR_INVALID);
    assert_int_equal(
        group_commit_wait(f.b, SLICE_LIT(""), topic_partition(t, 0), 1, SLICE_NULL, NULL),
        ERR_INVALID);
    assert_int_equal(
        group_commit_wait(f.b, SLICE_LIT("g"), topic_partition(t, 0), -1, SLICE_NULL, NULL),
        ERR_INVALID);
    memset(meta, 'm', sizeof meta);
    m = slice_of(meta, sizeof meta);
    assert_int_equal(group_commit_wait(f.b, SLICE_LIT("g"), topic_partition(t, 0), 1, m, NULL),
                     ERR_TOO_LARGE);
    n.len--;
    m.len--;
    assert_int_equal(group_commit_wait(f.b, n, topic_partition(t, 0), 1, m, NULL), ERR_OK);
    topic_unref(&t);
    fx_end(&f);
}

static bool collect(void *arg, struct slice key, struct slice value)
{
    strncat(arg, (const char *)key.ptr, key.len);
    strcat(arg, "=");
    strncat(arg, (const char *)value.ptr, value.len);
    strcat(arg, ";");
    return true;
}

static void put(struct fx *f, const char *ns, const char *key, const char *value, int64_t expires)
{
    struct errinfo info = {0};

    if (kv_put_wait(f->b, ns, slice_str(key), slice_str(value), expires, &info))
        fail_msg("kv_put: %s", info.text);
}

static void test_items(void **state)
{
    enum err e;
    char text[512];
    int64_t soon;
    struct buf v;
    struct fx f;
    int i;

    fx_start(&f, false);
    buf_init(&v, 1 << 20);
    put(&f, "a", "k2", "two", 0);
    put(&f, "a", "k1", "one", 0);
    put(&f, "a", "k1", "uno", 0);
    put(&f, "a", "k3", "three", 0);
    put(&f, "a", "k3", NULL, 0);
    put(&f, "ab", "k", "other", 0);
    put(&f, "a", "", "empty key", 0);
    for (i = 0; i < 5; i++) {
        text[0] = 0;
        kv_each(f.b, "a", collect, text);
        assert_string_equal(text, "=empty key;k1=uno;k2=two;");
        assert_int_equal(kv_get(f.b, "ab", SLICE_LIT("k"), &v), ERR_OK);
        assert_true(slice_eq_str(buf_slice(&v), "other"));
        assert_int_equal(kv_get(f.b, "a", SLICE_LIT("k3"), &v), ERR_NOT_FOUND);
        assert_int_equal(kv_get(f.b, "c", SLICE_LIT("k"), &v), ERR_NOT_FOUND);
        assert_int_equal(f.b->kvs.live, 4);
        if (i % 2)
            fx_checkpoint(&f);
        fx_crash(&f);
    }
    /* tombstones go with the checkpoint that deletes their rows */
    put(&f, "a", "k2", NULL, 0);
    assert_int_equal(f.b->kvs.items.n, 4);
    fx_checkpoint(&f);
    assert_int_equal(f.b->kvs.items.n, 3);
    fx_crash(&f);
    assert_int_equal(kv_get(f.b, "a", SLICE_LIT("k2"), &v), ERR_NOT_FOUND);
    /* expiry */
    soon = io_wall_ms(io_real()) + 500;
    put(&f, "e", "x", "v", soon);
    put(&f, "e", "y", "v", soon + 3600000);
    put(&f, "e", "z", "v", soon);
    put(&f, "e", "z", "v", 0); /* for ever after all */
    e = kv_get(f.b, "e", SLICE_LIT("x"), &v);
    assert_true(e == ERR_OK || io_wall_ms(io_real()) >= soon);
    while (io_wall_ms(io_real()) <= soon)
        usleep(10000);
    assert_int_equal(kv_get(f.b, "e", SLICE_LIT("x"), &v), ERR_NOT_FOUND);
    text[0] = 0;
    kv_each(f.b, "e", collect, text);
    assert_string_equal(text, "y=v;z=v;");
    kvs_expire(f.b, io_wall_ms(io_real()), 100);
    assert_int_equal(f.b->kvs.live, 5);
    fx_checkpoint(&f);
    assert_int_equal(f.b->kvs.items.n, 5);
    buf_fini(&v);
    fx_end(&f);
}

static void test_item_limits(void **state)
{
    static uint8_t big[LIMIT_KV_VALUE + 1];
    struct buf v;
    struct fx f;

    fx_start(&f, false);
    buf_init(&v, 1 << 20);
    assert_int_equal(
        kv_put_wait(f.b, "n", slice_of(big, LIMIT_KV_KEY + 1), SLICE_LIT("v"), 0, NULL),
        ERR_TOO_LARGE);
    assert_int_equal(kv_put_wait(f.b, "n", SLICE_LIT("k"), slice_of(big, sizeof big), 0, NULL),
                     ERR_TOO_LARGE);
    assert_int_equal(kv_put_wait(f.b, "", SLICE_LIT("k"), SLICE_LIT("v"), 0, NULL), ERR_INVALID);
    assert_int_equal(
        kv_put_wait(f.b, "n", slice_of(big, LIMIT_KV_KEY), slice_of(big, LIMIT_KV_VALUE), 0, NULL),
        ERR_OK);
    fx_crash(&f);
    assert_int_equal(kv_get(f.b, "n", slice_of(big, LIMIT_KV_KEY), &v), ERR_OK);
    assert_int_equal(v.len, LIMIT_KV_VALUE);
    buf_fini(&v);
    fx_end(&f);
}

static void test_metrics(void **state)
{
    struct topic *t;
    struct buf o;
    struct fx f;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 1);
    fx_put(&f, t, 0, NULL, "v", "id");
    fx_put(&f, t, 0, NULL, "v", "id");
    topic_unref(&t);
    buf_init(&o, 1 << 20);
    assert_int_equal(broker_metrics(f.b, &o), ERR_OK);
    buf_append(&o, "", 1);
    assert_non_null(strstr((char *)o.ptr, "\nweir_topics 1\n"));
    assert_non_null(strstr((char *)o.ptr, "\nweir_append_records_total 1\n"));
    assert_non_null(strstr((char *)o.ptr, "\nweir_append_duplicates_total 1\n"));
    assert_non_null(strstr((char *)o.ptr, "\nweir_dedup_ids 1\n"));
    buf_fini(&o);
    fx_end(&f);
}

static void test_event_ids(void **state)
{
    char id[EVENT_ID_LEN + 1];
    uint64_t p = 0;

    event_id_format(0x1234abcdull, id);
    assert_string_equal(id, "evt_000000001234abcd");
    assert_true(event_id_parse(slice_str(id), &p));
    assert_int_equal(p, 0x1234abcd);
    assert_true(event_id_parse(SLICE_LIT("evt_ffffffffffffffff"), &p));
    assert_true(p == UINT64_MAX);
    assert_false(event_id_parse(SLICE_LIT("evt_000000001234ABCD"), &p));
    assert_false(event_id_parse(SLICE_LIT("evt_000000001234abc"), &p));
    assert_false(event_id_parse(SLICE_LIT("evx_000000001234abcd"), &p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offsets), cmocka_unit_test(test_offset_limits),
        cmocka_unit_test(test_offsets), cmocka_unit_test(test_offset_metadata),
        cmocka_unit_test(test_items),   cmocka_unit_test(test_item_limits),
        cmocka_unit_test(test_metrics), cmocka_unit_test(test_event_ids),
    };

    return cmocka_run_group_tests_name("broker/group", tests, NULL, NULL);
}
