/* Topics: names, configuration, creation, alteration, deletion, listing; and all of it again after
 * a restart, from the log alone and from a checkpoint. */
#include "fixture.h"

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
    assert_int_equal(set(&c, "cleanup.policy", "delete", &info), ERR_OK);
    assert_int_equal(set(&c, "cleanup.policy", "compact", &info), ERR_CONFIG);
    assert_int_equal(set(&c, "max.message.bytes", "10", &info), ERR_CONFIG);
    assert_int_equal(set(&c, "segment.bytes", "10", &info), ERR_CONFIG);
    assert_non_null(strstr(info.text, "segment.bytes"));
    c.cleanup = 2; /* by hand, past topic_conf_set */
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("t"), 1, &c, &info), ERR_CONFIG);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),          cmocka_unit_test(test_conf),
        cmocka_unit_test(test_restart),        cmocka_unit_test(test_visible_only_when_durable),
        cmocka_unit_test(test_alter_conflict), cmocka_unit_test(test_list),
        cmocka_unit_test(test_read_only),
    };

    return cmocka_run_group_tests_name("broker/topic", tests, NULL, NULL);
}
