/* Simple writing: one record or one atomic batch, durable when the call returns. */
#include "fixture.h"

#include <pthread.h>

static void test_place(void **state)
{
    struct weir_place a, b, c;
    struct weir_record r;
    struct fx f;

    fx_start(&f);
    a = put(f.w, "t", NULL, "one");
    b = put(f.w, "u", NULL, "two");
    c = put(f.w, "t", NULL, "three");
    assert_int_equal(a.partition, 0);
    assert_int_equal(a.offset, 0);
    assert_int_equal(c.offset, 1);
    assert_true(a.position < b.position && b.position < c.position); /* over all topics */
    assert_in_range(a.timestamp_ms, now_ms() - 60000, now_ms() + 1000);
    assert_false(a.duplicate);
    r = rec(NULL, "old");
    r.timestamp_ms = 1234567890123;
    OK(weir_produce(f.w, "t", &r, &a, &err));
    assert_true(a.timestamp_ms == 1234567890123);
    OK(weir_produce(f.w, "t", &r, NULL, &err));
    assert_int_equal(weir_produce(f.w, "t", &r, NULL, NULL), WEIR_OK);
    assert_int_equal(records(f.w, "t"), 5);
    fx_end(&f);
}

static void test_content(void **state)
{
    struct weir_header h[] = {{"a", "1", 1}, {"a", "2", 1}, {"none", NULL, 0}, {"", "", 0}};
    char value[] = "v\0w", key[] = "k\0l";
    struct weir_record r = {.key = key,
                            .key_len = 3,
                            .value = value,
                            .value_len = 3,
                            .headers = h,
                            .headers_n = 4,
                            .timestamp_ms = 777};
    struct weir_setting keep = {"retention.ms", "-1"};
    struct weir_record none = {0}, empty = {.key = "", .value = ""};
    struct weir_consumer *c;
    struct weir_message m;
    struct fx f;

    fx_start(&f);
    OK(weir_topic_create(f.w, "t", 1, &keep, 1, &err));
    OK(weir_produce(f.w, "t", &r, NULL, &err));
    memset(value, 'x', sizeof value); /* it was copied */
    memset(key, 'x', sizeof key);
    OK(weir_produce(f.w, "t", &none, NULL, &err));
    OK(weir_produce(f.w, "t", &empty, NULL, &err));
    c = consumer(f.w, "t", WEIR_FROM_BEGINNING, NULL);
    OK(weir_consumer_next(c, 0, &m, &err));
    assert_string_equal(m.topic, "t");
    assert_int_equal(m.partition, 0);
    assert_int_equal(m.offset, 0);
    assert_int_equal(m.timestamp_ms, 777);
    assert_int_equal(m.key_len, 3);
    assert_memory_equal(m.key, "k\0l", 3);
    assert_int_equal(m.value_len, 3);
    assert_memory_equal(m.value, "v\0w", 3);
    assert_int_equal(m.headers_n, 4);
    assert_string_equal(m.headers[0].name, "a");
    assert_memory_equal(m.headers[0].value, "1", 1);
    assert_string_equal(m.headers[1].name, "a");
    assert_memory_equal(m.headers[1].value, "2", 1);
    assert_string_equal(m.headers[2].name, "none");
    assert_null(m.headers[2].value);
    assert_string_equal(m.headers[3].name, "");
    assert_non_null(m.headers[3].value);
    assert_int_equal(m.headers[3].value_len, 0);
    OK(weir_consumer_next(c, 0, &m, &err));
    assert_null(m.key);
    assert_null(m.value);
    assert_int_equal(m.headers_n, 0);
    OK(weir_consumer_next(c, 0, &m, &err));
    assert_non_null(m.key);
    assert_non_null(m.value);
    assert_int_equal(m.key_len + m.value_len, 0);
    weir_consumer_close(&c);
    fx_end(&f);
}

static void test_partitions(void **state)
{
    struct weir_record r = rec(NULL, "v");
    struct weir_place a, b;
    char key[16];
    int i, used[4] = {0};
    struct fx f;

    fx_start(&f);
    OK(weir_topic_create(f.w, "t", 4, NULL, 0, &err));
    for (i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        a = put(f.w, "t", key, "1");
        b = put(f.w, "t", key, "2");
        assert_int_equal(a.partition, b.partition);
        assert_int_equal(a.offset + 1, b.offset);
        used[a.partition]++;
    }
    for (i = 0; i < 4; i++) {
        assert_true(used[i] > 0);
        r.partition_1 = i + 1;
        OK(weir_produce(f.w, "t", &r, &a, &err));
        assert_int_equal(a.partition, i);
    }
    assert_int_equal(put(f.w, "t", "21", "x").partition, put(f.w, "t", "21", "y").partition);
    r.partition_1 = 5;
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_produce(f.w, "t", &r, NULL, &err));
    r.partition_1 = -1;
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_produce(f.w, "t", &r, NULL, &err));
    r.partition_1 = INT32_MIN;
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_produce(f.w, "t", &r, NULL, &err));
    assert_int_equal(records(f.w, "t"), 86);
    fx_end(&f);
}

static void test_invalid(void **state)
{
    struct weir_header h[200] = {{"h", "v", 1}}, no_name = {NULL, "v", 1},
                       no_value = {"h", NULL, 1};
    char *big = calloc(1, 2u << 20);
    struct weir_record r = {.key_len = 1};
    struct fx f;
    int i;

    fx_start(&f);
    put(f.w, "t", NULL, "v");
    FAILS(WEIR_ERR_INVALID, weir_produce(f.w, "t", &r, NULL, &err));
    r = (struct weir_record){.value_len = 1};
    FAILS(WEIR_ERR_INVALID, weir_produce(f.w, "t", &r, NULL, &err));
    r = (struct weir_record){.headers_n = 1};
    FAILS(WEIR_ERR_INVALID, weir_produce(f.w, "t", &r, NULL, &err));
    r = (struct weir_record){.headers = &no_name, .headers_n = 1};
    FAILS(WEIR_ERR_INVALID, weir_produce(f.w, "t", &r, NULL, &err));
    r = (struct weir_record){.headers = &no_value, .headers_n = 1};
    FAILS(WEIR_ERR_INVALID, weir_produce(f.w, "t", &r, NULL, &err));
    for (i = 1; i < 200; i++)
        h[i] = h[0];
    r = (struct weir_record){.headers = h, .headers_n = 128};
    OK(weir_produce(f.w, "t", &r, NULL, &err));
    r.headers_n = 129;
    FAILS(WEIR_ERR_TOO_LARGE, weir_produce(f.w, "t", &r, NULL, &err));
    r = (struct weir_record){.value = big, .value_len = 2u << 20};
    FAILS(WEIR_ERR_TOO_LARGE, weir_produce(f.w, "t", &r, NULL, &err));
    FAILS(WEIR_ERR_INVALID, weir_produce(f.w, "t", NULL, NULL, &err));
    FAILS(WEIR_ERR_INVALID, weir_produce_batch(f.w, "t", NULL, 3, NULL, &err));
    FAILS(WEIR_ERR_TOO_LARGE, weir_produce_batch(f.w, "t", &r, SIZE_MAX / 4, NULL, &err));
    r = rec(NULL, "v");
    FAILS(WEIR_ERR_INVALID, weir_produce(f.w, "not a topic", &r, NULL, &err));
    FAILS(WEIR_ERR_INVALID, weir_produce(f.w, NULL, &r, NULL, &err));
    assert_int_equal(records(f.w, "t"), 2);

    f.o.no_auto_create = true;
    fx_reopen(&f);
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_produce(f.w, "missing", &r, NULL, &err));
    assert_non_null(strstr(err.text, "missing"));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_produce(f.w, NULL, &r, NULL, &err));
    OK(weir_produce(f.w, "t", &r, NULL, &err));
    free(big);
    fx_end(&f);
}

static void test_batch(void **state)
{
    struct weir_place p[300];
    struct weir_record r[300];
    char value[300][8];
    struct fx f;
    int i, k;

    fx_start(&f);
    OK(weir_topic_create(f.w, "t", 3, NULL, 0, &err));
    for (i = 0; i < 300; i++) {
        snprintf(value[i], sizeof value[i], "%d", i);
        r[i] = rec(NULL, value[i]);
        r[i].partition_1 = i % 3 + 1;
    }
    OK(weir_produce_batch(f.w, "t", r, 300, p, &err));
    for (i = 0; i < 300; i++) {
        assert_int_equal(p[i].partition, i % 3);
        assert_int_equal(p[i].offset, i / 3);
        for (k = 0; k < i; k++)
            assert_true(p[k].position != p[i].position);
    }
    OK(weir_produce_batch(f.w, "t", r, 0, NULL, &err));
    OK(weir_produce_batch(f.w, "t", NULL, 0, NULL, &err));
    OK(weir_produce_batch(f.w, "t", r, 2, NULL, &err));
    r[250].partition_1 = 4; /* one that is wrong: none is written */
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_produce_batch(f.w, "t", r, 300, p, &err));
    assert_int_equal(records(f.w, "t"), 302);
    fx_crash(&f);
    fx_open(&f);
    assert_int_equal(records(f.w, "t"), 302);
    fx_end(&f);
}

static void test_dedup(void **state)
{
    struct weir_record r = rec(NULL, "first"), two[2];
    struct weir_place a, b, p[2];
    struct fx f;

    fx_start(&f);
    r.dedup_id = "id-1";
    OK(weir_produce(f.w, "t", &r, &a, &err));
    assert_false(a.duplicate);
    r.value = "again";
    OK(weir_produce(f.w, "t", &r, &b, &err));
    assert_true(b.duplicate);
    assert_int_equal(b.offset, a.offset);
    assert_true(b.position == a.position && b.timestamp_ms == a.timestamp_ms);
    OK(weir_produce(f.w, "u", &r, &b, &err)); /* another topic, another record */
    assert_false(b.duplicate);
    fx_crash(&f);
    fx_open(&f);
    OK(weir_produce(f.w, "t", &r, &b, &err)); /* remembered over a crash */
    assert_true(b.duplicate && b.position == a.position);
    two[0] = two[1] = rec(NULL, "twice");
    two[0].dedup_id = two[1].dedup_id = "id-2";
    OK(weir_produce_batch(f.w, "t", two, 2, p, &err));
    assert_false(p[0].duplicate);
    assert_true(p[1].duplicate && p[1].position == p[0].position);
    assert_int_equal(records(f.w, "t"), 2);

    f.o.dedup_window_ms = 1; /* after the window it is a new record */
    fx_reopen(&f);
    r.dedup_id = "id-3";
    OK(weir_produce(f.w, "t", &r, &a, &err));
    nap_ms(20);
    OK(weir_produce(f.w, "t", &r, &b, &err));
    assert_false(b.duplicate);
    fx_end(&f);
}

/* Without closing: what was answered is in the files. */
static void test_durable(void **state)
{
    struct weir_setting os = {"durability", "os"};
    struct weir_consumer *c;
    struct fx f;
    int i;

    fx_start(&f);
    OK(weir_topic_create(f.w, "cheap", 1, &os, 1, &err));
    put_n(f.w, "t", "v", 50);
    put_n(f.w, "cheap", "v", 50);
    fx_crash(&f);
    fx_open(&f);
    assert_int_equal(records(f.w, "cheap"), 50); /* the program's crash is not the machine's */
    c = consumer(f.w, "t", WEIR_FROM_BEGINNING, NULL);
    for (i = 0; i < 50; i++) {
        char want[16];

        snprintf(want, sizeof want, "v%d", i);
        assert_next(c, want);
    }
    assert_drained(c);
    weir_consumer_close(&c);
    fx_end(&f);
}

struct writer {
    pthread_t thread;
    struct weir *w;
    const char *id;
};

static void *write_some(void *arg)
{
    struct writer *t = arg;
    struct weir_place last = {.offset = -1}, p;
    struct weir_record r;
    char value[32];
    int i;

    for (i = 0; i < 200; i++) {
        snprintf(value, sizeof value, "%s-%d", t->id, i);
        r = rec(t->id, value);
        MUST(weir_produce(t->w, i % 2 ? "a" : "b", &r, &p, NULL) == WEIR_OK);
        MUST(p.position > last.position);
        last = p;
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct writer t[2] = {{.id = "x"}, {.id = "y"}};
    struct weir_consumer *c;
    struct weir_message m;
    int i, next[2] = {0};
    struct fx f;

    fx_start(&f);
    for (i = 0; i < 2; i++) {
        t[i].w = f.w;
        assert_int_equal(pthread_create(&t[i].thread, NULL, write_some, &t[i]), 0);
    }
    for (i = 0; i < 2; i++)
        pthread_join(t[i].thread, NULL);
    c = consumer(f.w, "*", WEIR_FROM_BEGINNING, NULL);
    for (i = 0; i < 400; i++) { /* each thread's own records in the order of its calls */
        char want[32];
        int who;

        OK(weir_consumer_next(c, 0, &m, &err));
        who = *(const char *)m.key == 'y';
        snprintf(want, sizeof want, "%s-%d", t[who].id, next[who]++);
        assert_true(value_is(&m, want));
    }
    assert_drained(c);
    weir_consumer_close(&c);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_place),      cmocka_unit_test(test_content),
        cmocka_unit_test(test_partitions), cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_batch),      cmocka_unit_test(test_dedup),
        cmocka_unit_test(test_durable),    cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
