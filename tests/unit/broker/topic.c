/* Topics: names, configuration, creation, alteration, deletion, listing; and all of it again after
 * a restart, from the log alone and from a checkpoint. */
#include <sqlite3.h>

#include "fixture.h"

#include "broker/broker_int.h"
#include "io/sqlite_vfs.h"

struct outcome {
    int calls;
    enum err e;
};

static void note(void *arg, enum err e, const struct errinfo *info)
{
    struct outcome *o = arg;

    o->calls++;
    o->e = e;
}

static void test_names(void **state)
{
    static const char *const bad[] = {"", ".", "..", "a b", "a/b", "a:b", "\xc3\xa4"};
    struct errinfo info;
    char longest[251];
    struct fx f;
    size_t i;

    fx_start(&f, false);
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        info.text[0] = 0;
        assert_int_equal(topic_create_wait(f.b, slice_str(bad[i]), 1, NULL, &info), ERR_TOPIC_NAME);
        assert_true(info.text[0] != 0);
    }
    memset(longest, 'x', sizeof longest);
    assert_int_equal(topic_create_wait(f.b, slice_of(longest, 250), 1, NULL, NULL), ERR_TOPIC_NAME);
    assert_int_equal(topic_create_wait(f.b, slice_of(longest, 249), 1, NULL, NULL), ERR_OK);
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("a.b_c-D9"), 1, NULL, NULL), ERR_OK);
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("a.b_c-D9"), 1, NULL, NULL),
                     ERR_TOPIC_EXISTS);
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("p"), -1, NULL, NULL), ERR_INVALID);
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("p"), 10001, NULL, NULL), ERR_INVALID);
    assert_int_equal(topic_count(f.b), 2);
    fx_end(&f);
}

static enum err set(struct topic_conf *c, const char *name, const char *value, struct errinfo *info)
{
    return topic_conf_set(c, slice_str(name), slice_str(value), info);
}

static void test_conf(void **state)
{
    struct errinfo info = {0};
    struct topic_conf c;
    struct fx f;

    fx_start(&f, false);
    topic_conf_default(f.b, &c);
    assert_int_equal(c.retention_ms, 7ll * 24 * 3600 * 1000);
    assert_int_equal(set(&c, "retention.ms", "3600000", &info), ERR_OK);
    assert_int_equal(c.retention_ms, 3600000);
    assert_int_equal(set(&c, "retention.ms", "-1", &info), ERR_OK);
    assert_int_equal(c.retention_ms, -1);
    assert_int_equal(set(&c, "retention.ms", "9223372036854775807", &info), ERR_OK);
    assert_int_equal(set(&c, "retention.ms", "9223372036854775808", &info), ERR_CONFIG);
    assert_int_equal(set(&c, "retention.ms", "-2", &info), ERR_CONFIG);
    assert_int_equal(set(&c, "retention.ms", "", &info), ERR_CONFIG);
    assert_int_equal(set(&c, "retention.ms", "1h", &info), ERR_CONFIG);
    assert_non_null(strstr(info.text, "retention.ms"));
    assert_int_equal(set(&c, "durability", "os", &info), ERR_OK);
    assert_int_equal(c.durability, DURABILITY_OS);
    assert_int_equal(set(&c, "durability", "none", &info), ERR_CONFIG);
    assert_non_null(strstr(info.text, "fsync, os"));
    assert_int_equal(set(&c, "compression.type", "zstd", &info), ERR_OK);
    assert_int_equal(topic_conf_codec(&c), 4);
    assert_int_equal(set(&c, "compression.type", "producer", &info), ERR_OK);
    assert_int_equal(topic_conf_codec(&c), 0);
    assert_int_equal(set(&c, "compression.type", "none", &info), ERR_OK);
    assert_int_equal(topic_conf_codec(&c), 0);
    assert_int_equal(set(&c, "compression.type", "lz5", &info), ERR_CONFIG);
    assert_int_equal(set(&c, "cleanup.policy", " delete ", &info), ERR_OK);
    assert_int_equal(set(&c, "cleanup.policy", "delete,compakt", &info), ERR_CONFIG);
    assert_int_equal(set(&c, "max.message.bytes", "10", &info), ERR_CONFIG);
    assert_int_equal(set(&c, "segment.bytes", "10", &info), ERR_CONFIG);
    assert_non_null(strstr(info.text, "segment.bytes"));
    assert_int_equal(set(&c, "segment.seconds", "10", &info), ERR_CONFIG);
    assert_non_null(strstr(info.text, "segment.seconds"));
    c.max_message_bytes = 10; /* by hand, past topic_conf_set */
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("t"), 1, &c, &info), ERR_CONFIG);
    topic_conf_default(f.b, &c);
    c.min_compaction_lag_ms = 100;
    c.max_compaction_lag_ms = 99;
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("t"), 1, &c, &info), ERR_CONFIG);
    assert_non_null(strstr(info.text, "max.compaction.lag.ms"));
    c.max_compaction_lag_ms = 100;
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("t"), 1, &c, &info), ERR_OK);
    fx_end(&f);
}

/* Every name of Apache Kafka 4.2 with its type there, its default and values around its range. */
static const struct {
    const char *name;
    enum topic_conf_type type;
    const char *fallback, *good, *stored, *bad;
} items[] = {
    {"cleanup.policy", TOPIC_CONF_LIST, "delete", "", "", "remove"},
    {"compaction.by.offset", TOPIC_CONF_BOOLEAN, "false", "true", "true", "1"},
    {"compaction.records.per.key", TOPIC_CONF_INT, "1", "64", "64", "65"},
    {"compression.gzip.level", TOPIC_CONF_INT, "-1", "9", "9", "0"},
    {"compression.lz4.level", TOPIC_CONF_INT, "9", "17", "17", "18"},
    {"compression.type", TOPIC_CONF_STRING, "producer", "none", "uncompressed", "GZIP"},
    {"compression.zstd.level", TOPIC_CONF_INT, "3", "-131072", "-131072", "23"},
    {"delete.retention.ms", TOPIC_CONF_LONG, "86400000", "0", "0", "-1"},
    {"file.delete.delay.ms", TOPIC_CONF_LONG, "60000", "0", "0", "-1"},
    {"flush.messages", TOPIC_CONF_LONG, "9223372036854775807", "1", "1", "0"},
    {"flush.ms", TOPIC_CONF_LONG, "9223372036854775807", "0", "0", "-1"},
    {"follower.replication.throttled.replicas", TOPIC_CONF_LIST, "", "*", "*", "x"},
    {"index.interval.bytes", TOPIC_CONF_INT, "4096", "0", "0", "2147483648"},
    {"lake.archive.after.ms", TOPIC_CONF_LONG, "-1", "0", "0", "-2"},
    {"lake.columns", TOPIC_CONF_BOOLEAN, "true", "false", "false", "0"},
    {"lake.enable", TOPIC_CONF_BOOLEAN, "false", "true", "true", "1"},
    {"lake.format", TOPIC_CONF_STRING, "iceberg", "jsonl", "jsonl", "parquet"},
    {"lake.jsonl.compression", TOPIC_CONF_STRING, "zstd", "gzip", "gzip", "lz4"},
    {"lake.max.bytes", TOPIC_CONF_LONG, "1048576", "1024", "1024", "1023"},
    {"lake.max.seconds", TOPIC_CONF_LONG, "60", "1", "1", "0"},
    {"lake.partition", TOPIC_CONF_STRING, "hour(timestamp)",
     "[\"key_bucket[16]\", \"day(ts)\", \"country\"]",
     "[\"key_bucket[16]\", \"day(ts)\", \"country\"]", ""},
    {"lake.retention.ms", TOPIC_CONF_LONG, "-2", "-1", "-1", "-3"},
    {"lake.sort", TOPIC_CONF_STRING, "none", "country, n desc", "country, n desc", ""},
    {"lake.snapshot.retention.ms", TOPIC_CONF_LONG, "432000000", "60000", "60000", "59999"},
    {"leader.replication.throttled.replicas", TOPIC_CONF_LIST, "", "*", "*", "x"},
    {"local.retention.bytes", TOPIC_CONF_LONG, "-2", "-1", "-1", "-3"},
    {"local.retention.ms", TOPIC_CONF_LONG, "-2", "-1", "-1", "-3"},
    {"max.compaction.lag.ms", TOPIC_CONF_LONG, "9223372036854775807", "1", "1", "0"},
    {"max.message.bytes", TOPIC_CONF_INT, "1048588", "2097152", "2097152", "4294967296"},
    {"message.timestamp.after.max.ms", TOPIC_CONF_LONG, "3600000", "0", "0", "-1"},
    {"message.timestamp.before.max.ms", TOPIC_CONF_LONG, "9223372036854775807", "0", "0", "-1"},
    {"message.timestamp.type", TOPIC_CONF_STRING, "CreateTime", "LogAppendTime", "LogAppendTime",
     "logappendtime"},
    {"min.cleanable.dirty.ratio", TOPIC_CONF_DOUBLE, "0.5", "1.25e-2", "0.0125", "1.1"},
    {"min.compaction.lag.ms", TOPIC_CONF_LONG, "0", "1", "1", "-1"},
    {"min.insync.replicas", TOPIC_CONF_INT, "1", "2", "2", "0"},
    {"preallocate", TOPIC_CONF_BOOLEAN, "false", "TRUE", "true", "yes"},
    {"remote.log.copy.disable", TOPIC_CONF_BOOLEAN, "false", "true", "true", "1"},
    {"remote.log.delete.on.disable", TOPIC_CONF_BOOLEAN, "false", "true", "true", ""},
    {"remote.storage.enable", TOPIC_CONF_BOOLEAN, "false", "False", "false", "true"},
    {"retention.bytes", TOPIC_CONF_LONG, "-1", "0", "0", "-2"},
    {"retention.ms", TOPIC_CONF_LONG, "604800000", "-1", "-1", "-2"},
    {"segment.bytes", TOPIC_CONF_INT, "1073741824", "1048576", "1048576", "1048575"},
    {"segment.index.bytes", TOPIC_CONF_INT, "10485760", "4", "4", "3"},
    {"segment.jitter.ms", TOPIC_CONF_LONG, "0", "1", "1", "-1"},
    {"segment.ms", TOPIC_CONF_LONG, "604800000", "1", "1", "0"},
    {"unclean.leader.election.enable", TOPIC_CONF_BOOLEAN, "false", "true", "true", "maybe"},
};
#define ITEMS (sizeof items / sizeof items[0])

static void test_conf_items(void **state)
{
    struct topic_conf_item it;
    struct errinfo info;
    struct topic_conf c;
    struct topic *t;
    struct fx f;
    unsigned i;

    fx_start(&f, false);
    topic_conf_default(f.b, &c);
    for (i = 0; i < ITEMS; i++) {
        assert_true(topic_conf_item_find(f.b, &c, slice_str(items[i].name), &it));
        assert_int_equal(it.type, items[i].type);
        assert_string_equal(it.value, items[i].fallback);
        assert_string_equal(it.fallback, items[i].fallback);
        assert_true(it.is_default);
        assert_int_equal(set(&c, items[i].name, items[i].bad, &info), ERR_CONFIG);
        assert_non_null(strstr(info.text, items[i].name));
        assert_int_equal(set(&c, items[i].name, items[i].good, &info), ERR_OK);
    }
    assert_int_equal(set(&c, "max.compaction.lag.ms", "2", &info), ERR_OK);
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("all"), 1, &c, &info), ERR_OK);
    for (i = 0; i < 3; i++) { /* as made, replayed, and from the checkpoint */
        unsigned k;

        t = topic_find(f.b, SLICE_LIT("all"));
        topic_conf_get(t, &c);
        for (k = 0; k < ITEMS; k++) {
            assert_true(topic_conf_item_find(f.b, &c, slice_str(items[k].name), &it));
            if (strcmp(items[k].name, "max.compaction.lag.ms") != 0)
                assert_string_equal(it.value, items[k].stored);
            assert_false(it.is_default); /* it was set, if to the default */
        }
        topic_unref(&t);
        if (i == 1)
            fx_checkpoint(&f);
        fx_crash(&f);
    }
    for (i = 0; i < ITEMS; i++)
        assert_int_equal(topic_conf_unset(f.b, &c, slice_str(items[i].name), &info), ERR_OK);
    for (i = 0; topic_conf_item_at(f.b, &c, i, &it); i++)
        assert_true(it.is_default);
    assert_int_equal(c.given, 0);
    assert_int_equal(i, ITEMS + 2); /* Weir's own: retention.records.min, durability */
    assert_int_equal(topic_conf_unset(f.b, &c, SLICE_LIT("x"), &info), ERR_CONFIG);
    fx_end(&f);
}

/* Text is in entries in pieces; a number is one of the words of before. */
static void test_conf_text(void **state)
{
    struct topic_conf none, c, back;
    struct conf_items list;
    char longest[TOPIC_CONF_WORD_MAX + 2];
    struct errinfo info;

    topic_conf_init(&none);
    c = none;
    memset(longest, 'x', sizeof longest);
    longest[TOPIC_CONF_WORD_MAX + 1] = 0;
    assert_int_equal(set(&c, "lake.partition", longest, &info), ERR_CONFIG);
    for (size_t n = 1; n <= TOPIC_CONF_WORD_MAX; n++) {
        longest[n - 1] = (char)('a' + n % 26);
        longest[n] = 0;
        assert_int_equal(set(&c, "lake.partition", longest, &info), ERR_OK);
        topic_conf_diff(&none, &c, &list);
        assert_int_equal(list.n, (n + 6) / 7);
        assert_int_equal(topic_conf_items(&none, &list, &back), ERR_OK);
        assert_string_equal(back.lake_partition, longest);
        longest[n - 1] = 'x';
    }
    list = (struct conf_items){.n = 1, .item = {{39, 1}}};
    assert_int_equal(topic_conf_items(&none, &list, &back), ERR_OK);
    assert_string_equal(back.lake_partition, "day(timestamp)");
    list.item[0].value = 6;
    assert_int_equal(topic_conf_items(&none, &list, &back), ERR_CORRUPT);
    list.item[0].value = 17LL << 56 | 'x';
    assert_int_equal(topic_conf_items(&none, &list, &back), ERR_CORRUPT);
    list.item[0].value = 1LL << 56 | 1;
    assert_int_equal(topic_conf_items(&none, &list, &back), ERR_CORRUPT);
}

static void test_conf_ratio(void **state)
{
    static const struct {
        const char *in, *out; /* NULL: refused */
    } cases[] = {
        {"0", "0.0"},
        {"1", "1.0"},
        {"1.0", "1.0"},
        {".5", "0.5"},
        {"0.123456789123", "0.123456789"},
        {"1e-9", "0.000000001"},
        {"1e-10", "0.0"},
        {"10E-1", "1.0"},
        {"0.000000000000000000000000000001e30", "1.0"},
        {"1000000000000000000000000000000e-30", "1.0"},
        {" 0.25 ", "0.25"},
        {"1.000000001", NULL},
        {"-0.1", NULL},
        {"", NULL},
        {".", NULL},
        {"1e", NULL},
        {"1e99", NULL},
        {"1e100", NULL},
        {"0.5.5", NULL},
        {"0.5x", NULL},
        {"NaN", NULL},
    };
    struct topic_conf_item it;
    struct errinfo info;
    struct topic_conf c;
    struct fx f;
    size_t i;

    fx_start(&f, false);
    topic_conf_default(f.b, &c);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum err e = set(&c, "min.cleanable.dirty.ratio", cases[i].in, &info);

        assert_int_equal(e, cases[i].out ? ERR_OK : ERR_CONFIG);
        topic_conf_item_find(f.b, &c, SLICE_LIT("min.cleanable.dirty.ratio"), &it);
        if (!e)
            assert_string_equal(it.value, cases[i].out);
    }
    fx_end(&f);
}

static void each(void *arg, const char *name, const char *value, bool is_default, const char *prose)
{
    char *out = arg;

    assert_true(prose[0] != 0);
    if (!is_default) {
        strcat(out, name);
        strcat(out, "=");
        strcat(out, value);
        strcat(out, ";");
    }
}

static void check_topics(struct fx *f, const uint8_t *uuid_b)
{
    struct topic *t = topic_find(f->b, SLICE_LIT("b"));
    char text[256] = "";
    struct topic_conf c;

    assert_null(topic_find(f->b, SLICE_LIT("a")));
    assert_non_null(t);
    assert_int_equal(topic_id(t), 2);
    assert_int_equal(topic_partitions(t), 5);
    assert_memory_equal(topic_uuid(t), uuid_b, 16);
    assert_int_equal(topic_uuid(t)[6] >> 4, 4);
    topic_conf_get(t, &c);
    topic_conf_each(f->b, &c, each, text);
    assert_string_equal(text, "retention.ms=1000;durability=os;");
    assert_null(topic_partition(t, 5));
    assert_int_equal(plog_uid(partition_log(topic_partition(t, 0))), 4);
    assert_int_equal(plog_uid(partition_log(topic_partition(t, 2))), 7);
    topic_unref(&t);
}

static void test_restart(void **state)
{
    uint8_t uuid[16];
    struct topic_conf c;
    struct topic *t;
    struct fx f;

    fx_start(&f, false);
    topic_conf_default(f.b, &c);
    c.durability = DURABILITY_OS;
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("a"), 3, NULL, NULL), ERR_OK);
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("b"), 2, &c, NULL), ERR_OK);
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("c"), 1, NULL, NULL), ERR_OK);
    c.retention_ms = 1000;
    assert_int_equal(topic_alter_wait(f.b, SLICE_LIT("b"), 5, &c, NULL), ERR_OK);
    assert_int_equal(topic_alter_wait(f.b, SLICE_LIT("b"), 4, NULL, NULL), ERR_INVALID);
    assert_int_equal(topic_alter_wait(f.b, SLICE_LIT("none"), 4, NULL, NULL), ERR_TOPIC_NOT_FOUND);
    assert_int_equal(topic_delete_wait(f.b, SLICE_LIT("a"), NULL), ERR_OK);
    assert_int_equal(topic_delete_wait(f.b, SLICE_LIT("a"), NULL), ERR_TOPIC_NOT_FOUND);
    t = topic_find(f.b, SLICE_LIT("b"));
    memcpy(uuid, topic_uuid(t), 16);
    topic_unref(&t);
    check_topics(&f, uuid);
    fx_crash(&f); /* from the log */
    check_topics(&f, uuid);
    fx_checkpoint(&f);
    fx_crash(&f); /* from the checkpoint */
    check_topics(&f, uuid);
    assert_int_equal(topic_delete_wait(f.b, SLICE_LIT("c"), NULL), ERR_OK);
    fx_checkpoint(&f);
    fx_reopen(&f);
    check_topics(&f, uuid);
    assert_int_equal(topic_count(f.b), 1);
    t = fx_topic(&f, "d", 1); /* ids and uids are not used twice */
    assert_int_equal(topic_id(t), 4);
    assert_int_equal(plog_uid(partition_log(topic_partition(t, 0))), 10);
    topic_unref(&t);
    fx_end(&f);
}

static void test_visible_only_when_durable(void **state)
{
    struct outcome one = {0}, two = {0}, three = {0};
    struct topic *t = NULL;
    struct fx f;

    fx_start(&f, false);
    assert_int_equal(topic_create(f.b, SLICE_LIT("t"), 1, NULL, note, &one, NULL), ERR_OK);
    assert_null(topic_find(f.b, SLICE_LIT("t")));
    assert_int_equal(topic_count(f.b), 0);
    assert_int_equal(topic_create(f.b, SLICE_LIT("t"), 1, NULL, note, &two, NULL),
                     ERR_TOPIC_EXISTS);
    assert_int_equal(topic_find_or_create(f.b, SLICE_LIT("t"), &t, note, &three, NULL), ERR_OK);
    assert_null(t);
    assert_int_equal(one.calls + two.calls + three.calls, 0);
    broker_step(f.b);
    assert_int_equal(one.calls, 1);
    assert_int_equal(one.e, ERR_OK);
    assert_int_equal(three.calls, 1);
    assert_int_equal(three.e, ERR_OK);
    assert_int_equal(topic_find_or_create(f.b, SLICE_LIT("t"), &t, note, &three, NULL), ERR_OK);
    assert_non_null(t);
    assert_int_equal(three.calls, 1);
    /* while a delete is on its way the topic is there; another delete or alter is refused */
    assert_int_equal(topic_delete(f.b, SLICE_LIT("t"), note, &one, NULL), ERR_OK);
    assert_int_equal(topic_delete(f.b, SLICE_LIT("t"), note, &two, NULL), ERR_TOPIC_NOT_FOUND);
    assert_int_equal(topic_alter(f.b, SLICE_LIT("t"), 2, NULL, note, &two, NULL),
                     ERR_TOPIC_NOT_FOUND);
    assert_false(topic_deleted(t));
    broker_step(f.b);
    assert_true(topic_deleted(t));
    assert_string_equal(topic_name(t), "t");
    topic_unref(&t);
    fx_end(&f);
}

static void test_alter_conflict(void **state)
{
    struct outcome one = {0}, two = {0};
    struct topic *t;
    struct fx f;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 1);
    assert_int_equal(topic_alter(f.b, SLICE_LIT("t"), 2, NULL, note, &one, NULL), ERR_OK);
    assert_int_equal(topic_alter(f.b, SLICE_LIT("t"), 3, NULL, note, &two, NULL), ERR_CONFLICT);
    assert_int_equal(topic_partitions(t), 1);
    broker_step(f.b);
    assert_int_equal(topic_partitions(t), 2);
    assert_int_equal(topic_alter(f.b, SLICE_LIT("t"), 3, NULL, note, &two, NULL), ERR_OK);
    broker_step(f.b);
    assert_int_equal(topic_partitions(t), 3);
    topic_unref(&t);
    fx_end(&f);
}

static void test_list(void **state)
{
    static const char *const names[] = {"orders.eu", "a", "orders", "orders.us", "zz", "orders.e"};
    struct topic *out[8];
    struct fx f;
    size_t i, n;

    fx_start(&f, false);
    for (i = 0; i < 6; i++)
        assert_int_equal(topic_create_wait(f.b, slice_str(names[i]), 1, NULL, NULL), ERR_OK);
    n = topic_list(f.b, SLICE_LIT(""), NULL, out, 8);
    assert_int_equal(n, 6);
    assert_string_equal(topic_name(out[0]), "a");
    assert_string_equal(topic_name(out[5]), "zz");
    for (i = 0; i < n; i++)
        topic_unref(&out[i]);
    n = topic_list(f.b, SLICE_LIT("orders.e"), "orders.*", out, 8);
    assert_int_equal(n, 2);
    assert_string_equal(topic_name(out[0]), "orders.eu");
    for (i = 0; i < n; i++)
        topic_unref(&out[i]);
    n = topic_list(f.b, SLICE_LIT(""), "orders.?", out, 8);
    assert_int_equal(n, 1);
    topic_unref(&out[0]);
    n = topic_list(f.b, SLICE_LIT(""), "*", out, 2);
    assert_int_equal(n, 2);
    assert_string_equal(topic_name(out[1]), "orders");
    topic_unref(&out[0]);
    topic_unref(&out[1]);
    assert_int_equal(topic_list(f.b, SLICE_LIT("zz"), NULL, out, 8), 0);
    fx_end(&f);
}

static void test_read_only(void **state)
{
    struct errinfo info;
    struct topic *t;
    struct fx f;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 1);
    fx_put(&f, t, -1, NULL, "v", NULL);
    topic_unref(&t);
    broker_close(&f.b);
    f.conf.read_only = true;
    fx_open(&f);
    assert_int_equal(broker_writable(f.b, &info), ERR_READ_ONLY);
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("u"), 1, NULL, &info), ERR_READ_ONLY);
    t = topic_find(f.b, SLICE_LIT("t"));
    assert_non_null(t);
    topic_unref(&t);
    {
        struct reader *r = fx_reader(&f, "t", READ_FROM_START, 0);

        assert_next(r, "v");
        reader_close(&r);
    }
    fx_end(&f);
}

/* Entries that give a partition's uid to another one cannot be: recovery refuses them. */
static void test_uid_twice(void **state)
{
    struct entry_topic_create c = {
        .id = 100, .partitions = 2, .created_ms = 1, .name = SLICE_LIT("new")};
    struct entry_topic_alter a = {.partitions = 5, .added = 2};
    uint8_t entry[ENTRY_SMALL_MAX];
    struct errinfo info;
    struct topic *t, *u;
    uint32_t uid;
    struct fx f;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 3);
    u = fx_topic(&f, "u", 1);
    uid = topic_partition(t, 0)->uid;
    for (c.first_uid = uid - 1; c.first_uid <= uid + 2; c.first_uid++) {
        if (c.first_uid == 0)
            continue;
        info.text[0] = 0;
        assert_int_equal(topics_apply(f.b, ENTRY_TOPIC_CREATE,
                                      slice_of(entry, entry_topic_create_write(entry, &c)), &info),
                         ERR_CORRUPT);
        assert_true(info.text[0] != 0);
    }
    a.id = t->id;
    a.first_uid = topic_partition(u, 0)->uid;
    assert_int_equal(topics_apply(f.b, ENTRY_TOPIC_ALTER,
                                  slice_of(entry, entry_topic_alter_write(entry, &a)), &info),
                     ERR_CORRUPT);
    a.first_uid = uid - 1; /* and later partitions have higher ones */
    assert_int_equal(topics_apply(f.b, ENTRY_TOPIC_ALTER,
                                  slice_of(entry, entry_topic_alter_write(entry, &a)), &info),
                     ERR_CORRUPT);
    assert_int_equal(topic_partitions(t), 3);
    assert_int_equal(topic_count(f.b), 2);
    a.first_uid = topic_partition(u, 0)->uid;
    a.first_uid = c.first_uid = a.first_uid + 1; /* new ones */
    assert_int_equal(topics_apply(f.b, ENTRY_TOPIC_ALTER,
                                  slice_of(entry, entry_topic_alter_write(entry, &a)), &info),
                     ERR_OK);
    assert_int_equal(topic_partitions(t), 5);
    c.first_uid += a.added;
    assert_int_equal(topics_apply(f.b, ENTRY_TOPIC_CREATE,
                                  slice_of(entry, entry_topic_create_write(entry, &c)), &info),
                     ERR_OK);
    assert_int_equal(topic_count(f.b), 3);
    topic_unref(&t);
    topic_unref(&u);
    fx_end(&f);
}

static void sql_run(struct fx *f, const char *sql)
{
    char path[128], vfs[IO_SQLITE_VFS_NAME]; /* which keeps the checksums of pages */
    struct sqlite3 *db;

    snprintf(path, sizeof path, "%s/checkpoint.db", f->dir);
    assert_int_equal(io_sqlite_vfs_register(io_real(), false, vfs), ERR_OK);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, vfs), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_changes(db), 1);
    sqlite3_close(db);
    io_sqlite_vfs_unregister(vfs);
}

/* Rows of partitions that belong to no topic, or have a uid twice. */
static void test_partition_rows(void **state)
{
    static const char *const damage[][2] = {
        {"INSERT INTO partitions VALUES(77, 0, 9, 0)", "DELETE FROM partitions WHERE topic = 77"},
        {"UPDATE partitions SET uid = uid - 1 WHERE topic = 2 AND partition = 1",
         "UPDATE partitions SET uid = uid + 1 WHERE topic = 2 AND partition = 1"},
        {"UPDATE partitions SET uid = uid - 2 WHERE topic = 2 AND partition = 1",
         "UPDATE partitions SET uid = uid + 2 WHERE topic = 2 AND partition = 1"},
    };
    struct errinfo info;
    struct topic *t;
    struct fx f;
    size_t i;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 1);
    topic_unref(&t);
    t = fx_topic(&f, "u", 2);
    topic_unref(&t);
    for (i = 0; i < sizeof damage / sizeof *damage; i++) {
        broker_close(&f.b);
        sql_run(&f, damage[i][0]);
        assert_int_equal(broker_open(&f.conf, &f.b, &info), ERR_CORRUPT);
        if (!strstr(info.text, "a row of partitions"))
            fail_msg("%s: %s", damage[i][0], info.text);
        sql_run(&f, damage[i][1]);
        fx_open(&f);
    }
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_conf),
        cmocka_unit_test(test_conf_items),
        cmocka_unit_test(test_conf_text),
        cmocka_unit_test(test_conf_ratio),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_visible_only_when_durable),
        cmocka_unit_test(test_alter_conflict),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_uid_twice),
        cmocka_unit_test(test_partition_rows),
    };

    return cmocka_run_group_tests_name("broker/topic", tests, NULL, NULL);
}
