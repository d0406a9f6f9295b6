/* Producers: batches by size, time and flush; callbacks; order; compression; the bounded buffer. */
#include "fixture.h"

#include <pthread.h>

/* What callbacks saw; written by the library's thread, read after a flush. */
struct seen {
    struct weir_place place[4096];
    int durable, failed, out_of_order;
    weir_err last;
};

struct one {
    struct seen *seen;
    int i;
    int called;
};

static void delivered(void *arg, weir_err e, const struct weir_place *place)
{
    struct one *o = arg;

    o->called++;
    o->seen->last = e;
    if (e) {
        MUST(place == NULL);
        o->seen->failed++;
        return;
    }
    if (o->i != o->seen->durable)
        o->seen->out_of_order++;
    o->seen->place[o->i] = *place;
    o->seen->durable++;
}

static struct weir_producer *producer(struct weir *w, const char *topic, size_t batch_bytes,
                                      int64_t linger_us, size_t buffer_bytes)
{
    struct weir_producer_options o = {.size = sizeof o,
                                      .batch_bytes = batch_bytes,
                                      .linger_us = linger_us,
                                      .buffer_bytes = buffer_bytes};
    struct weir_producer *p;

    OK(weir_producer_new(w, topic, &o, &p, &err));
    return p;
}

static void send_n(struct weir_producer *p, int from, int n)
{
    struct weir_record r;
    char value[32];
    int i;

    for (i = from; i < from + n; i++) {
        snprintf(value, sizeof value, "v%d", i);
        r = rec(NULL, value);
        OK(weir_producer_send(p, &r, NULL, NULL, &err));
    }
}

static void assert_values(struct weir *w, const char *topic, int n)
{
    struct weir_consumer *c = consumer(w, topic, WEIR_FROM_BEGINNING, NULL);
    char want[32];
    int i;

    for (i = 0; i < n; i++) {
        snprintf(want, sizeof want, "v%d", i);
        assert_next(c, want);
    }
    assert_drained(c);
    weir_consumer_close(&c);
}

/* Waits until a topic has n records; false after 100 seconds. */
static bool comes(struct weir *w, const char *topic, uint64_t n)
{
    int i;

    for (i = 0; i < 20000 && records(w, topic) < n; i++)
        nap_ms(5);
    return records(w, topic) == n;
}

static void test_callbacks(void **state)
{
    static struct one one[1000];
    struct seen *s = calloc(1, sizeof *s);
    struct weir_producer *p;
    struct weir_record r;
    char value[32];
    struct fx f;
    int i;

    fx_start(&f);
    p = producer(f.w, "t", 500, -1, 0);
    for (i = 0; i < 1000; i++) {
        snprintf(value, sizeof value, "v%d", i);
        one[i] = (struct one){s, i, 0};
        r = rec(NULL, value);
        r.timestamp_ms = i % 2 ? now_ms() - 5000 : 0;
        OK(weir_producer_send(p, &r, delivered, &one[i], &err));
        memset(value, 'x', sizeof value); /* it was copied */
    }
    OK(weir_producer_flush(p, &err));
    assert_int_equal(s->durable, 1000);
    assert_int_equal(s->failed + s->out_of_order, 0);
    for (i = 0; i < 1000; i++) {
        assert_int_equal(one[i].called, 1);
        assert_int_equal(s->place[i].offset, i);
        assert_int_equal(s->place[i].partition, 0);
        assert_true(i == 0 || s->place[i].position == s->place[i - 1].position + 1);
        if (i % 2)
            assert_true(s->place[i].timestamp_ms <= now_ms() - 5000);
        else
            assert_true(s->place[i].timestamp_ms > now_ms() - 60000);
    }
    OK(weir_producer_close(&p, &err));
    assert_null(p);
    OK(weir_producer_close(&p, &err)); /* NULL: nothing */
    fx_crash(&f);
    fx_open(&f);
    assert_values(f.w, "t", 1000);
    fx_end(&f);
    free(s);
}

/* Callbacks of some records of a batch only. */
static void test_some_callbacks(void **state)
{
    struct seen *s = calloc(1, sizeof *s);
    struct one one[2] = {{s, 0, 0}, {s, 1, 0}};
    struct weir_record r = rec(NULL, "v");
    struct weir_producer *p;
    struct fx f;
    int i, round;

    fx_start(&f);
    p = producer(f.w, "t", 0, -1, 0);
    for (round = 0; round < 3; round++) { /* batches are used again */
        s->durable = 0;
        for (i = 0; i < 600; i++) {
            struct one *o = i == 300 ? &one[0] : i == 599 ? &one[1] : NULL;

            OK(weir_producer_send(p, &r, o ? delivered : NULL, o, &err));
        }
        OK(weir_producer_flush(p, &err));
        assert_int_equal(s->durable, 2);
        assert_int_equal(s->place[0].offset, round * 600 + 300);
        assert_int_equal(s->place[1].offset, round * 600 + 599);
    }
    assert_int_equal(one[0].called, 3);
    OK(weir_producer_close(&p, &err));
    free(s);
    fx_end(&f);
}

static void test_when(void **state)
{
    struct weir_producer *p;
    struct fx f;
    int i;

    fx_start(&f);
    p = producer(f.w, "flushed", 0, -1, 0);
    send_n(p, 0, 10);
    nap_ms(60);
    assert_int_equal(records(f.w, "flushed"), 0); /* nothing by itself */
    OK(weir_producer_flush(p, &err));
    assert_int_equal(records(f.w, "flushed"), 10);
    OK(weir_producer_flush(p, &err)); /* nothing to do */
    send_n(p, 10, 5);
    OK(weir_producer_close(&p, &err)); /* closing flushes */
    assert_values(f.w, "flushed", 15);

    p = producer(f.w, "timed", 0, 2000, 0);
    send_n(p, 0, 3);
    assert_true(comes(f.w, "timed", 3));
    send_n(p, 3, 1);
    assert_true(comes(f.w, "timed", 4));
    OK(weir_producer_close(&p, &err));

    p = producer(f.w, "filled", 200, -1, 0);
    send_n(p, 0, 100);
    for (i = 0; i < 20000 && records(f.w, "filled") <= 80; i++)
        nap_ms(5);
    assert_in_range(records(f.w, "filled"), 81, 99); /* all but the last batch */
    OK(weir_producer_close(&p, &err));
    assert_values(f.w, "filled", 100);
    fx_end(&f);
}

/* A full buffer is handed over even if nothing else would. */
static void test_buffer(void **state)
{
    struct weir_producer *p;
    struct weir_record r;
    char value[1000];
    struct fx f;
    int i;

    fx_start(&f);
    OK(weir_topic_create(f.w, "t", 8, NULL, 0, &err));
    p = producer(f.w, "t", 1u << 20, -1, 16u << 10);
    memset(value, 'x', sizeof value);
    r = (struct weir_record){.value = value, .value_len = sizeof value};
    for (i = 0; i < 200; i++) {
        r.partition_1 = i % 8 + 1;
        OK(weir_producer_send(p, &r, NULL, NULL, &err));
        assert_true((uint64_t)i < records(f.w, "t") + 20); /* never more than the buffer holds */
    }
    OK(weir_producer_flush(p, &err));
    assert_int_equal(records(f.w, "t"), 200);
    r.value_len = 900;
    OK(weir_producer_close(&p, &err));
    p = producer(f.w, "t", 0, -1, 1); /* smaller than a record: one at a time */
    for (i = 0; i < 5; i++)
        OK(weir_producer_send(p, &r, NULL, NULL, &err));
    assert_int_equal(records(f.w, "t"), 204);
    OK(weir_producer_close(&p, &err));
    assert_int_equal(records(f.w, "t"), 205);
    fx_end(&f);
}

static void test_compression(void **state)
{
    static const char *const names[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    struct weir_producer_options o = {.size = sizeof o, .linger_us = -1};
    struct weir_setting zstd = {"compression.type", "zstd"};
    struct weir_topic_info plain = {0}, info;
    struct weir_producer *p;
    struct fx f;
    int i;

    fx_start(&f);
    for (i = 0; i < 6; i++) {
        const char *topic = i < 5 ? names[i] : "topics-own";

        if (i == 5)
            OK(weir_topic_create(f.w, topic, 1, &zstd, 1, &err));
        o.compression = i < 5 ? names[i] : NULL;
        OK(weir_producer_new(f.w, topic, &o, &p, &err));
        send_n(p, 0, 2000);
        OK(weir_producer_close(&p, &err));
        OK(weir_topic_describe(f.w, topic, i ? &info : &plain, &err));
        if (i)
            assert_true(info.bytes < plain.bytes / 3 * 2);
        assert_values(f.w, topic, 2000);
    }
    for (i = 0; i < 3; i++) { /* words of the topic that name no codec */
        static const char *const words[] = {"uncompressed", "producer", "none"};
        struct weir_setting word = {"compression.type", words[i]};

        OK(weir_topic_create(f.w, words[i] + 1, 1, &word, 1, &err));
        OK(weir_producer_new(f.w, words[i] + 1, NULL, &p, &err));
        send_n(p, 0, 2000);
        OK(weir_producer_close(&p, &err));
        OK(weir_topic_describe(f.w, words[i] + 1, &info, &err));
        assert_true(info.bytes > plain.bytes / 3 * 2);
        assert_values(f.w, words[i] + 1, 2000);
    }
    o.compression = "rar";
    p = (struct weir_producer *)&o;
    FAILS(WEIR_ERR_INVALID, weir_producer_new(f.w, "t", &o, &p, &err));
    assert_null(p);
    assert_non_null(strstr(err.text, "rar"));
    fx_end(&f);
}

static void test_invalid(void **state)
{
    struct weir_producer_options o = {.batch_bytes = 1};
    char *big = calloc(1, 2u << 20);
    struct weir_record r = rec(NULL, "v");
    struct weir_setting larger = {"max.message.bytes", "4000000"};
    struct weir_producer *p;
    struct fx f;

    fx_start(&f);
    FAILS(WEIR_ERR_INVALID, weir_producer_new(f.w, "t", &o, &p, &err)); /* no size */
    FAILS(WEIR_ERR_INVALID, weir_producer_new(f.w, "no topic", NULL, &p, &err));
    FAILS(WEIR_ERR_INVALID, weir_producer_new(f.w, NULL, NULL, &p, &err));
    OK(weir_producer_new(f.w, "t", NULL, &p, &err));
    r.dedup_id = "id";
    FAILS(WEIR_ERR_INVALID, weir_producer_send(p, &r, NULL, NULL, &err));
    r.dedup_id = NULL;
    r.partition_1 = 2;
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_producer_send(p, &r, NULL, NULL, &err));
    r.partition_1 = INT32_MIN;
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_producer_send(p, &r, NULL, NULL, &err));
    r = (struct weir_record){.value_len = 1};
    FAILS(WEIR_ERR_INVALID, weir_producer_send(p, &r, NULL, NULL, &err));
    r = (struct weir_record){.value = big, .value_len = 2u << 20};
    FAILS(WEIR_ERR_TOO_LARGE, weir_producer_send(p, &r, NULL, NULL, &err));
    OK(weir_producer_flush(p, &err)); /* what was refused does not fail later */
    OK(weir_topic_alter(f.w, "t", 0, &larger, 1, &err));
    OK(weir_producer_send(p, &r, NULL, NULL, &err));
    OK(weir_producer_close(&p, &err));
    assert_int_equal(records(f.w, "t"), 1);
    f.o.no_auto_create = true;
    fx_reopen(&f);
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_producer_new(f.w, "u", NULL, &p, &err));
    fx_end(&f);
    free(big);
}

static void test_failure(void **state)
{
    struct seen *s = calloc(1, sizeof *s);
    struct one one[3] = {{s, 0, 0}, {s, 1, 0}, {s, 2, 0}};
    struct weir_record r = rec(NULL, "v");
    struct weir_producer *p;
    struct fx f;
    int i;

    fx_start(&f);
    p = producer(f.w, "t", 0, -1, 0);
    for (i = 0; i < 3; i++)
        OK(weir_producer_send(p, &r, delivered, &one[i], &err));
    OK(weir_topic_delete(f.w, "t", &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_producer_flush(p, &err));
    assert_int_equal(s->failed, 3);
    assert_int_equal(s->durable, 0);
    assert_int_equal(s->last, WEIR_ERR_TOPIC_NOT_FOUND);
    OK(weir_producer_flush(p, &err)); /* told once */
    OK(weir_producer_send(p, &r, NULL, NULL, &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_producer_close(&p, &err)); /* closed all the same */
    assert_null(p);
    free(s);
    fx_end(&f);
}

static void test_topic_changes(void **state)
{
    struct weir_setting log_time = {"message.timestamp.type", "LogAppendTime"};
    struct weir_setting small = {"max.message.bytes", "2000"};
    struct seen *s = calloc(1, sizeof *s);
    struct one one = {s, 0, 0};
    struct weir_record r = rec("k", "v");
    struct weir_consumer *c;
    struct weir_producer *p;
    struct weir_message m;
    char key[16];
    struct fx f;
    int i;

    fx_start(&f);
    p = producer(f.w, "t", 0, -1, 0);
    send_n(p, 0, 1);
    OK(weir_topic_alter(f.w, "t", 9, NULL, 0, &err)); /* more partitions than it has seen */
    for (i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "%d", i);
        r = rec(key, "v");
        OK(weir_producer_send(p, &r, NULL, NULL, &err));
    }
    r = rec(NULL, "last");
    r.partition_1 = 9;
    OK(weir_producer_send(p, &r, NULL, NULL, &err));
    OK(weir_producer_flush(p, &err));
    assert_int_equal(records(f.w, "t"), 102);
    c = consumer(f.w, "t:77", WEIR_FROM_BEGINNING, NULL); /* found by its key */
    assert_next(c, "v");
    weir_consumer_close(&c);

    OK(weir_topic_alter(f.w, "t", 0, &log_time, 1, &err));
    r = rec("timed", "then");
    r.timestamp_ms = 1;
    OK(weir_producer_send(p, &r, delivered, &one, &err));
    OK(weir_producer_flush(p, &err));
    assert_int_equal(s->durable, 1);
    assert_in_range(s->place[0].timestamp_ms, now_ms() - 60000, now_ms() + 1000);
    c = consumer(f.w, "t:timed", WEIR_FROM_BEGINNING, NULL);
    OK(weir_consumer_next(c, 0, &m, &err));
    assert_true(m.timestamp_ms == s->place[0].timestamp_ms);
    weir_consumer_close(&c);

    OK(weir_topic_alter(f.w, "t", 0, &small, 1, &err)); /* batches get smaller with it */
    send_n(p, 0, 3);
    OK(weir_producer_flush(p, &err));
    send_n(p, 0, 1000);
    OK(weir_producer_flush(p, &err));
    OK(weir_producer_close(&p, &err));
    assert_int_equal(records(f.w, "t"), 102 + 1 + 1003);
    fx_end(&f);
    free(s);
}

/* Sender and linger thread hand batches over at the same time: order stays. */
static void test_order(void **state)
{
    struct weir_producer *p;
    struct weir_consumer *c;
    struct weir_message m;
    struct fx f;
    int i;

    fx_start(&f);
    p = producer(f.w, "t", 100, 1, 0);
    send_n(p, 0, 20000);
    OK(weir_producer_close(&p, &err));
    c = consumer(f.w, "t", WEIR_FROM_BEGINNING, NULL);
    for (i = 0; i < 20000; i++) {
        char want[32];

        snprintf(want, sizeof want, "v%d", i);
        OK(weir_consumer_next(c, 0, &m, &err));
        assert_true(value_is(&m, want));
    }
    weir_consumer_close(&c);
    fx_end(&f);
}

struct sender {
    pthread_t thread;
    struct weir *w;
};

static void *send_some(void *arg)
{
    struct weir_producer_options o = {.size = sizeof o, .batch_bytes = 300, .linger_us = 200};
    struct seen *s = calloc(1, sizeof *s);
    static _Thread_local struct one one[2000];
    struct sender *t = arg;
    struct weir_producer *p;
    struct weir_record r;
    int i;

    MUST(weir_producer_new(t->w, "t", &o, &p, NULL) == WEIR_OK);
    for (i = 0; i < 2000; i++) {
        r = rec(NULL, "some value");
        one[i] = (struct one){s, i, 0};
        MUST(weir_producer_send(p, &r, delivered, &one[i], NULL) == WEIR_OK);
        if (i % 500 == 0)
            MUST(weir_producer_flush(p, NULL) == WEIR_OK);
    }
    MUST(weir_producer_close(&p, NULL) == WEIR_OK);
    MUST(s->durable == 2000 && s->out_of_order == 0);
    for (i = 1; i < 2000; i++)
        MUST(s->place[i].position > s->place[i - 1].position);
    free(s);
    return NULL;
}

/* A producer for each thread, one topic. */
static void test_threads(void **state)
{
    struct sender t[2];
    struct fx f;
    int i;

    fx_start(&f);
    for (i = 0; i < 2; i++) {
        t[i].w = f.w;
        assert_int_equal(pthread_create(&t[i].thread, NULL, send_some, &t[i]), 0);
    }
    for (i = 0; i < 2; i++)
        pthread_join(t[i].thread, NULL);
    assert_int_equal(records(f.w, "t"), 4000);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_callbacks),   cmocka_unit_test(test_some_callbacks),
        cmocka_unit_test(test_when),        cmocka_unit_test(test_buffer),
        cmocka_unit_test(test_compression), cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_failure),     cmocka_unit_test(test_topic_changes),
        cmocka_unit_test(test_order),       cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
