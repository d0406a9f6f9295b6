/* Topics through the C library: making, changing, describing, listing, trimming, deleting. */
#include "fixture.h"

#include <pthread.h>

static void test_create(void **state)
{
    struct weir_setting s[] = {{"retention.ms", "5000"}, {"max.message.bytes", "2048"}};
    struct weir_setting bad = {"retention.ms", "soon"}, unknown = {"colour", "red"};
    struct weir_setting null_name = {NULL, "1"}, null_value = {"retention.ms", NULL};
    struct weir_topic_info info;
    char name[260];
    struct fx f;

    fx_start(&f);
    OK(weir_topic_create(f.w, "a", 0, NULL, 0, &err));
    OK(weir_topic_describe(f.w, "a", &info, &err));
    assert_int_equal(info.partitions, 1);
    assert_int_equal(info.records, 0);
    assert_int_equal(info.bytes, 0);
    assert_in_range(info.created_ms, now_ms() - 60000, now_ms() + 1000);
    OK(weir_topic_create(f.w, "b", 7, s, 2, &err));
    OK(weir_topic_describe(f.w, "b", &info, &err));
    assert_int_equal(info.partitions, 7);
    FAILS(WEIR_ERR_TOPIC_EXISTS, weir_topic_create(f.w, "a", 0, NULL, 0, &err));
    FAILS(WEIR_ERR_INVALID, weir_topic_create(f.w, "", 0, NULL, 0, &err));
    FAILS(WEIR_ERR_INVALID, weir_topic_create(f.w, NULL, 0, NULL, 0, &err));
    FAILS(WEIR_ERR_INVALID, weir_topic_create(f.w, "with space", 0, NULL, 0, &err));
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    FAILS(WEIR_ERR_INVALID, weir_topic_create(f.w, name, 0, NULL, 0, &err));
    FAILS(WEIR_ERR_INVALID, weir_topic_create(f.w, "c", -1, NULL, 0, &err));
    FAILS(WEIR_ERR_CONFIG, weir_topic_create(f.w, "c", 1, &bad, 1, &err));
    assert_non_null(strstr(err.text, "retention.ms"));
    FAILS(WEIR_ERR_CONFIG, weir_topic_create(f.w, "c", 1, &unknown, 1, &err));
    FAILS(WEIR_ERR_INVALID, weir_topic_create(f.w, "c", 1, &null_name, 1, &err));
    FAILS(WEIR_ERR_INVALID, weir_topic_create(f.w, "c", 1, &null_value, 1, &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_topic_describe(f.w, "c", &info, &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_topic_describe(f.w, NULL, &info, &err));
    fx_end(&f);
}

struct found {
    int n;
    char value[64];
    bool is_default;
    const char *want;
};

static void setting(void *arg, const char *name, const char *value, bool is_default)
{
    struct found *s = arg;

    s->n++;
    if (strcmp(name, s->want) == 0) {
        snprintf(s->value, sizeof s->value, "%s", value);
        s->is_default = is_default;
    }
}

static void assert_setting(struct weir *w, const char *topic, const char *name, const char *value,
                           bool is_default)
{
    struct found s = {.want = name};

    OK(weir_topic_settings(w, topic, setting, &s, &err));
    assert_true(s.n >= 5);
    assert_string_equal(s.value, value);
    assert_int_equal(s.is_default, is_default);
}

static void test_alter(void **state)
{
    struct weir_setting s[] = {{"retention.ms", "5000"}, {"max.message.bytes", "2048"}};
    struct weir_setting bad = {"max.message.bytes", "1"};
    struct weir_topic_info info;
    struct fx f;
    int i;

    fx_start(&f);
    f.o.retention_ms = 123456; /* of topics without their own */
    fx_reopen(&f);
    OK(weir_topic_create(f.w, "t", 2, NULL, 0, &err));
    assert_setting(f.w, "t", "retention.ms", "123456", true);
    OK(weir_topic_alter(f.w, "t", 0, s, 2, &err));
    OK(weir_topic_alter(f.w, "t", 3, NULL, 0, &err));
    FAILS(WEIR_ERR_INVALID, weir_topic_alter(f.w, "t", 2, NULL, 0, &err));
    FAILS(WEIR_ERR_INVALID, weir_topic_alter(f.w, "t", -1, NULL, 0, &err));
    FAILS(WEIR_ERR_CONFIG, weir_topic_alter(f.w, "t", 0, &bad, 1, &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_topic_alter(f.w, "u", 0, s, 2, &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_topic_settings(f.w, "u", setting, NULL, &err));
    for (i = 0; i < 2; i++) { /* again after a restart */
        assert_setting(f.w, "t", "retention.ms", "5000", false);
        assert_setting(f.w, "t", "max.message.bytes", "2048", false);
        assert_setting(f.w, "t", "durability", "fsync", true);
        OK(weir_topic_describe(f.w, "t", &info, &err));
        assert_int_equal(info.partitions, 3);
        fx_reopen(&f);
    }
    fx_end(&f);
}

static void test_partitions(void **state)
{
    struct weir_record r = rec(NULL, "0123456789");
    struct weir_partition_info p;
    struct weir_topic_info info;
    struct fx f;
    int i;

    fx_start(&f);
    OK(weir_topic_create(f.w, "t", 3, NULL, 0, &err));
    for (i = 0; i < 6; i++) {
        r.partition_1 = i < 4 ? 1 : 3;
        OK(weir_produce(f.w, "t", &r, NULL, &err));
    }
    OK(weir_partition_describe(f.w, "t", 0, &p, &err));
    assert_int_equal(p.start_offset, 0);
    assert_int_equal(p.end_offset, 4);
    assert_true(p.bytes >= 40);
    OK(weir_partition_describe(f.w, "t", 1, &p, &err));
    assert_int_equal(p.end_offset, 0);
    assert_int_equal(p.bytes, 0);
    OK(weir_partition_describe(f.w, "t", 2, &p, &err));
    assert_int_equal(p.end_offset, 2);
    OK(weir_topic_describe(f.w, "t", &info, &err));
    assert_int_equal(info.records, 6);
    assert_true(info.bytes >= 60);
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_partition_describe(f.w, "t", 3, &p, &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_partition_describe(f.w, "t", -1, &p, &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_partition_describe(f.w, "u", 0, &p, &err));
    fx_end(&f);
}

struct names {
    char all[4096];
    int n, stop;
};

static bool name(void *arg, const char *topic)
{
    struct names *s = arg;
    size_t len = strlen(s->all);

    snprintf(s->all + len, sizeof s->all - len, "%s ", topic);
    return ++s->n != s->stop;
}

static void test_list(void **state)
{
    struct names s = {.n = 0};
    char one[32];
    struct fx f;
    int i;

    fx_start(&f);
    OK(weir_topic_list(f.w, NULL, name, &s, &err));
    assert_int_equal(s.n, 0);
    for (i = 149; i >= 0; i--) { /* more than a page of the broker's */
        snprintf(one, sizeof one, "many.%03d", i);
        OK(weir_topic_create(f.w, one, 0, NULL, 0, &err));
    }
    OK(weir_topic_create(f.w, "a", 0, NULL, 0, &err));
    OK(weir_topic_create(f.w, "z", 0, NULL, 0, &err));
    OK(weir_topic_list(f.w, NULL, name, &s, &err));
    assert_int_equal(s.n, 152);
    assert_memory_equal(s.all, "a many.000 many.001 ", 20);
    s = (struct names){.n = 0};
    OK(weir_topic_list(f.w, "many.*", name, &s, &err));
    assert_int_equal(s.n, 150);
    s = (struct names){.n = 0};
    OK(weir_topic_list(f.w, "many.14?", name, &s, &err));
    assert_int_equal(s.n, 10);
    s = (struct names){.n = 0};
    OK(weir_topic_list(f.w, "z", name, &s, &err));
    assert_string_equal(s.all, "z ");
    s = (struct names){.stop = 2};
    OK(weir_topic_list(f.w, "*", name, &s, &err));
    assert_string_equal(s.all, "a many.000 ");
    s = (struct names){.n = 0};
    OK(weir_topic_list(f.w, "nothing*", name, &s, &err));
    assert_int_equal(s.n, 0);
    fx_end(&f);
}

static void test_trim(void **state)
{
    struct weir_partition_info p;
    struct weir_consumer *c;
    struct fx f;
    int i;

    fx_start(&f);
    put_n(f.w, "t", "v", 10);
    OK(weir_trim(f.w, "t", 0, 4, &err));
    OK(weir_trim(f.w, "t", 0, 2, &err)); /* gone already: nothing to do */
    FAILS(WEIR_ERR_OFFSET_RANGE, weir_trim(f.w, "t", 0, 11, &err));
    FAILS(WEIR_ERR_OFFSET_RANGE, weir_trim(f.w, "t", 0, -2, &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_trim(f.w, "t", 1, 0, &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_trim(f.w, "u", 0, 0, &err));
    for (i = 0; i < 2; i++) {
        OK(weir_partition_describe(f.w, "t", 0, &p, &err));
        assert_int_equal(p.start_offset, 4);
        assert_int_equal(p.end_offset, 10);
        assert_int_equal(records(f.w, "t"), 6);
        c = consumer(f.w, "t", WEIR_FROM_BEGINNING, NULL);
        assert_next(c, "v4");
        weir_consumer_close(&c);
        if (i == 0) { /* durable when it returned */
            fx_crash(&f);
            fx_open(&f);
        }
    }
    OK(weir_trim(f.w, "t", 0, -1, &err));
    assert_int_equal(records(f.w, "t"), 0);
    assert_int_equal(put(f.w, "t", NULL, "next").offset, 10);
    fx_end(&f);
}

static void test_delete(void **state)
{
    struct weir_topic_info info;
    struct weir_consumer *c, *g;
    struct fx f;

    fx_start(&f);
    put_n(f.w, "t", "old", 3);
    g = consumer(f.w, "t", WEIR_FROM_GROUP, "g");
    assert_next(g, "old0");
    OK(weir_consumer_commit(g, &err));
    weir_consumer_close(&g);
    OK(weir_topic_delete(f.w, "t", &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_topic_delete(f.w, "t", &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_topic_describe(f.w, "t", &info, &err));
    assert_int_equal(put(f.w, "t", NULL, "new").offset, 0); /* a new topic of that name */
    c = consumer(f.w, "t", WEIR_FROM_BEGINNING, NULL);
    assert_next(c, "new");
    assert_drained(c);
    weir_consumer_close(&c);
    g = consumer(f.w, "t", WEIR_FROM_GROUP, "g"); /* what was committed is gone with the old one */
    assert_next(g, "new");
    weir_consumer_close(&g);
    OK(weir_topic_delete(f.w, "t", &err));
    fx_crash(&f);
    fx_open(&f);
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_topic_describe(f.w, "t", &info, &err));
    fx_end(&f);
}

/* ---- threads ---- */

struct maker {
    pthread_t thread;
    struct weir *w;
    int id, made;
};

static bool count(void *arg, const char *topic)
{
    (*(int *)arg)++;
    return true;
}

static void *make(void *arg)
{
    struct maker *m = arg;
    struct weir_topic_info info;
    char topic[32];
    int i, n;

    for (i = 0; i < 40; i++) {
        weir_err e;

        snprintf(topic, sizeof topic, "shared-%d", i);
        e = weir_topic_create(m->w, topic, 2, NULL, 0, NULL);
        MUST(e == WEIR_OK || e == WEIR_ERR_TOPIC_EXISTS);
        m->made += e == WEIR_OK;
        MUST(weir_topic_describe(m->w, topic, &info, NULL) == WEIR_OK && info.partitions == 2);
        snprintf(topic, sizeof topic, "own-%d-%d", m->id, i);
        MUST(weir_topic_create(m->w, topic, 1, NULL, 0, NULL) == WEIR_OK);
        n = 0;
        MUST(weir_topic_list(m->w, "own-*", count, &n, NULL) == WEIR_OK && n >= 1);
        MUST(weir_topic_alter(m->w, topic, 3, NULL, 0, NULL) == WEIR_OK);
        if (i % 2)
            MUST(weir_topic_delete(m->w, topic, NULL) == WEIR_OK);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct maker m[2] = {{.id = 0}, {.id = 1}};
    struct weir_stats st;
    struct fx f;
    int i;

    fx_start(&f);
    for (i = 0; i < 2; i++) {
        m[i].w = f.w;
        assert_int_equal(pthread_create(&m[i].thread, NULL, make, &m[i]), 0);
    }
    for (i = 0; i < 2; i++)
        pthread_join(m[i].thread, NULL);
    assert_int_equal(m[0].made + m[1].made, 40); /* each by exactly one */
    weir_stats_get(f.w, &st);
    assert_int_equal(st.topics, 40 + 40);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create),     cmocka_unit_test(test_alter),
        cmocka_unit_test(test_partitions), cmocka_unit_test(test_list),
        cmocka_unit_test(test_trim),       cmocka_unit_test(test_delete),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
