/* Consumers: where they begin, waiting, seeking, groups and commits. */
#include "fixture.h"

#include <pthread.h>

static uint64_t mono_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static struct weir_consumer *open_with(struct weir *w, const char *stream,
                                       struct weir_consumer_options o)
{
    struct weir_consumer *c;

    o.size = sizeof o;
    OK(weir_consumer_new(w, stream, &o, &c, &err));
    return c;
}

#define OPEN(w, stream, ...) open_with(w, stream, (struct weir_consumer_options){__VA_ARGS__})

/* The first record is want_ (NULL: there is none), then the consumer is closed. */
static void begins(struct weir_consumer *c, const char *want)
{
    if (want)
        assert_next(c, want);
    else
        assert_drained(c);
    weir_consumer_close(&c);
}

static void test_from(void **state)
{
    struct weir_setting keep = {"retention.ms", "-1"};
    struct weir_place p[10];
    struct weir_consumer *c;
    char value[16];
    struct fx f;
    int i;

    fx_start(&f);
    OK(weir_topic_create(f.w, "t", 1, &keep, 1, &err));
    for (i = 0; i < 10; i++) {
        struct weir_record r;

        snprintf(value, sizeof value, "v%d", i);
        r = rec(NULL, value);
        r.timestamp_ms = 1000 + i * 10;
        OK(weir_produce(f.w, "t", &r, &p[i], &err));
        put(f.w, "between", NULL, "x");
    }
    begins(OPEN(f.w, "t", .from = WEIR_FROM_BEGINNING), "v0");
    OK(weir_consumer_new(f.w, "t", NULL, &c, &err)); /* the default */
    begins(c, "v0");
    begins(OPEN(f.w, "t", .from = WEIR_FROM_END), NULL);
    begins(OPEN(f.w, "t", .from = WEIR_FROM_OFFSET, .partition_1 = 1, .offset = 4), "v4");
    begins(OPEN(f.w, "t", .from = WEIR_FROM_OFFSET, .partition_1 = 1, .offset = 10), NULL);
    begins(OPEN(f.w, "t", .from = WEIR_FROM_TIME, .at_ms = 0), "v0");
    begins(OPEN(f.w, "t", .from = WEIR_FROM_TIME, .at_ms = 1030), "v3");
    begins(OPEN(f.w, "t", .from = WEIR_FROM_TIME, .at_ms = 1031), "v4");
    begins(OPEN(f.w, "t", .from = WEIR_FROM_TIME, .at_ms = 1091), NULL);
    begins(OPEN(f.w, "t", .from = WEIR_FROM_POSITION, .position = 0), "v0");
    begins(OPEN(f.w, "t", .from = WEIR_FROM_POSITION, .position = p[6].position), "v6");
    begins(OPEN(f.w, "t", .from = WEIR_FROM_POSITION, .position = p[6].position + 1), "v7");
    begins(OPEN(f.w, "t", .from = WEIR_FROM_POSITION, .position = p[9].position + 1), NULL);
    c = OPEN(f.w, "t", .from = WEIR_FROM_END);
    put(f.w, "t", NULL, "new");
    begins(c, "new");
    fx_end(&f);
}

static void test_invalid(void **state)
{
    struct weir_consumer_options o = {.from = WEIR_FROM_END};
    struct weir_consumer *c = NULL;
    char name[300];
    struct fx f;

    fx_start(&f);
    put(f.w, "t", NULL, "v");
    FAILS(WEIR_ERR_INVALID, weir_consumer_new(f.w, "t", &o, &c, &err)); /* no size */
    assert_null(c);
    o.size = sizeof o;
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_consumer_new(f.w, "u", &o, &c, &err));
    FAILS(WEIR_ERR_INVALID, weir_consumer_new(f.w, "", &o, &c, &err));
    FAILS(WEIR_ERR_INVALID, weir_consumer_new(f.w, NULL, &o, &c, &err));
    FAILS(WEIR_ERR_INVALID, weir_consumer_new(f.w, ":k", &o, &c, &err));
    o.from = (enum weir_from)77;
    FAILS(WEIR_ERR_INVALID, weir_consumer_new(f.w, "t", &o, &c, &err));
    o.from = WEIR_FROM_OFFSET; /* without a partition */
    FAILS(WEIR_ERR_INVALID, weir_consumer_new(f.w, "t", &o, &c, &err));
    o.partition_1 = 1;
    FAILS(WEIR_ERR_INVALID, weir_consumer_new(f.w, "t*", &o, &c, &err)); /* not one topic */
    o.offset = 2;
    FAILS(WEIR_ERR_OFFSET_RANGE, weir_consumer_new(f.w, "t", &o, &c, &err));
    o.offset = -1;
    FAILS(WEIR_ERR_OFFSET_RANGE, weir_consumer_new(f.w, "t", &o, &c, &err));
    o.partition_1 = 2;
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_consumer_new(f.w, "t", &o, &c, &err));
    o.partition_1 = INT32_MIN;
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_consumer_new(f.w, "t", &o, &c, &err));
    o = (struct weir_consumer_options){.size = sizeof o, .from = WEIR_FROM_GROUP};
    FAILS(WEIR_ERR_INVALID, weir_consumer_new(f.w, "t", &o, &c, &err)); /* no group */
    o.group = "";
    FAILS(WEIR_ERR_INVALID, weir_consumer_new(f.w, "t", &o, &c, &err));
    memset(name, 'g', sizeof name - 1);
    name[256] = 0;
    o.group = name;
    FAILS(WEIR_ERR_INVALID, weir_consumer_new(f.w, "t", &o, &c, &err));
    name[255] = 0;
    OK(weir_consumer_new(f.w, "t", &o, &c, &err));
    assert_next(c, "v");
    OK(weir_consumer_commit(c, &err));
    weir_consumer_close(&c);
    assert_null(c);
    weir_consumer_close(&c); /* NULL: nothing */
    o = (struct weir_consumer_options){.size = sizeof o, .auto_commit_ms = 10};
    FAILS(WEIR_ERR_INVALID, weir_consumer_new(f.w, "t", &o, &c, &err)); /* for whom? */
    c = consumer(f.w, "t", WEIR_FROM_BEGINNING, NULL);
    FAILS(WEIR_ERR_INVALID, weir_consumer_commit(c, &err)); /* no group */
    weir_consumer_close(&c);
    fx_end(&f);
}

static void test_streams(void **state)
{
    struct weir_record r = rec("k", "0");
    struct weir_consumer *c;
    struct weir_message m;
    struct fx f;

    fx_start(&f);
    OK(weir_topic_create(f.w, "orders.eu", 3, NULL, 0, &err));
    put(f.w, "orders.eu", "a", "1");
    put(f.w, "orders.us", "b", "2");
    put(f.w, "orders.eu", NULL, "3");
    put(f.w, "orders.us", "a", "4");
    put(f.w, "other", "a", "5");
    put(f.w, "orders.eu", "a", "6");

    c = consumer(f.w, "orders.*", WEIR_FROM_BEGINNING, NULL); /* in one order */
    assert_next(c, "1");
    assert_next(c, "2");
    assert_next(c, "3");
    assert_next(c, "4");
    assert_next(c, "6");
    assert_drained(c);
    put(f.w, "orders.new", NULL, "7"); /* a topic made later joins in */
    OK(weir_consumer_next(c, -1, &m, &err));
    assert_string_equal(m.topic, "orders.new");
    weir_consumer_close(&c);
    c = consumer(f.w, "orders.eu:a", WEIR_FROM_BEGINNING, NULL);
    assert_next(c, "1");
    assert_next(c, "6");
    assert_drained(c);
    weir_consumer_close(&c);
    c = consumer(f.w, "orders.eu:*", WEIR_FROM_BEGINNING, NULL);
    assert_next(c, "1");
    assert_next(c, "6");
    assert_drained(c);
    weir_consumer_close(&c);
    put(f.w, "orders.eu", "", "8"); /* an empty key is one, too */
    c = consumer(f.w, "orders.eu:", WEIR_FROM_GROUP, "g");
    assert_next(c, "8");
    assert_drained(c);
    OK(weir_consumer_commit(c, &err));
    weir_consumer_close(&c);
    r.partition_1 = 3;
    OK(weir_produce(f.w, "orders.eu", &r, NULL, &err));
    c = OPEN(f.w, "orders.eu", .partition_1 = 3, .from = WEIR_FROM_OFFSET);
    while (weir_consumer_next(c, 0, &m, NULL) == WEIR_OK)
        assert_int_equal(m.partition, 2);
    weir_consumer_close(&c);
    fx_end(&f);
}

static void test_seek(void **state)
{
    struct weir_consumer *c;
    struct weir_message m;
    uint64_t at[5];
    struct fx f;
    int i;

    fx_start(&f);
    put_n(f.w, "t", "v", 5);
    c = consumer(f.w, "t", WEIR_FROM_BEGINNING, NULL);
    for (i = 0; i < 5; i++) {
        OK(weir_consumer_next(c, 0, &m, &err));
        at[i] = m.position;
        assert_true(weir_consumer_position(c) == m.position + 1);
    }
    assert_drained(c);
    OK(weir_consumer_seek(c, at[2], &err));
    assert_true(weir_consumer_position(c) == at[2]);
    assert_next(c, "v2");
    OK(weir_consumer_seek(c, 0, &err));
    assert_next(c, "v0");
    OK(weir_consumer_seek(c, at[4] + 1, &err));
    assert_drained(c);
    put(f.w, "t", NULL, "v5");
    assert_next(c, "v5");
    i = (int)weir_consumer_position(c);
    weir_consumer_close(&c);
    put(f.w, "t", NULL, "v6");
    begins(OPEN(f.w, "t", .from = WEIR_FROM_POSITION, .position = (uint64_t)i), "v6");
    fx_end(&f);
}

static void test_trimmed(void **state)
{
    struct weir_consumer *c;
    struct weir_message m;
    struct fx f;
    int n = 0;
    weir_err e;

    fx_start(&f);
    put_n(f.w, "t", "v", 10);
    c = consumer(f.w, "t", WEIR_FROM_BEGINNING, NULL);
    assert_next(c, "v0");
    OK(weir_consumer_seek(c, weir_consumer_position(c), &err)); /* holds nothing in memory */
    OK(weir_trim(f.w, "t", 0, 6, &err));
    FAILS(WEIR_ERR_OFFSET_RANGE, weir_consumer_next(c, 0, &m, &err));
    assert_next(c, "v6");
    OK(weir_topic_delete(f.w, "t", &err));
    while ((e = weir_consumer_next(c, 0, &m, &err)) == WEIR_OK) /* what it holds in memory */
        assert_true(++n < 10);
    assert_int_equal(e, WEIR_ERR_TOPIC_NOT_FOUND);
    weir_consumer_close(&c);
    fx_end(&f);
}

/* ---- waiting ---- */

struct later {
    pthread_t thread;
    struct weir *w;
    long after_ms;
};

static void *put_later(void *arg)
{
    struct later *l = arg;
    struct weir_record r = {.value = "late", .value_len = 4};

    nap_ms(l->after_ms);
    MUST(weir_produce(l->w, "t", &r, NULL, NULL) == WEIR_OK);
    return NULL;
}

static void test_wait(void **state)
{
    static const int64_t timeouts[] = {-1, 60000, INT64_MAX};
    struct weir_consumer *c;
    struct weir_message m;
    struct later l;
    uint64_t began;
    struct fx f;
    int i;

    fx_start(&f);
    put(f.w, "t", NULL, "first");
    c = consumer(f.w, "t", WEIR_FROM_END, NULL);
    FAILS(WEIR_ERR_AGAIN, weir_consumer_next(c, 0, &m, &err));
    began = mono_ms();
    FAILS(WEIR_ERR_AGAIN, weir_consumer_next(c, 80, &m, &err));
    assert_true(mono_ms() - began >= 79);
    for (i = 0; i < 3; i++) {
        l = (struct later){.w = f.w, .after_ms = 50};
        assert_int_equal(pthread_create(&l.thread, NULL, put_later, &l), 0);
        OK(weir_consumer_next(c, timeouts[i], &m, &err));
        assert_true(value_is(&m, "late"));
        pthread_join(l.thread, NULL);
    }
    weir_consumer_close(&c);
    fx_end(&f);
}

/* ---- groups ---- */

static void test_group(void **state)
{
    struct weir_consumer *c;
    struct fx f;

    fx_start(&f);
    OK(weir_topic_create(f.w, "t", 4, NULL, 0, &err));
    put_n(f.w, "t", "v", 6);
    c = consumer(f.w, "t", WEIR_FROM_GROUP, "g"); /* never committed: the beginning */
    assert_next(c, "v0");
    assert_next(c, "v1");
    assert_next(c, "v2");
    OK(weir_consumer_commit(c, &err));
    assert_next(c, "v3");
    weir_consumer_close(&c); /* not committed */
    fx_crash(&f);
    fx_open(&f);
    c = consumer(f.w, "t", WEIR_FROM_GROUP, "g");
    OK(weir_consumer_commit(c, &err)); /* nothing returned: nothing to commit */
    assert_next(c, "v3");
    assert_next(c, "v4");
    assert_next(c, "v5");
    assert_drained(c);
    OK(weir_consumer_commit(c, &err));
    OK(weir_consumer_commit(c, &err));
    weir_consumer_close(&c);
    begins(OPEN(f.w, "t", .from = WEIR_FROM_GROUP, .group = "g"), NULL);
    begins(OPEN(f.w, "t", .from = WEIR_FROM_GROUP, .group = "h"), "v0"); /* another's place */
    put(f.w, "t", NULL, "v6");
    begins(OPEN(f.w, "t", .from = WEIR_FROM_GROUP, .group = "g"), "v6");
    c = consumer(f.w, "t", WEIR_FROM_BEGINNING, "g"); /* commits, but begins elsewhere */
    assert_next(c, "v0");
    OK(weir_consumer_commit(c, &err)); /* back */
    weir_consumer_close(&c);
    c = consumer(f.w, "t", WEIR_FROM_GROUP, "g");
    assert_next(c, "v1");
    OK(weir_consumer_seek(c, 1, &err));
    OK(weir_consumer_commit(c, &err)); /* a seek moves what is committed */
    weir_consumer_close(&c);
    begins(OPEN(f.w, "t", .from = WEIR_FROM_GROUP, .group = "g"), "v0");
    fx_end(&f);
}

static void test_group_pattern(void **state)
{
    struct weir_consumer *c;
    char topic[16];
    struct fx f;
    int i;

    fx_start(&f);
    for (i = 0; i < 100; i++) { /* more than a page of the broker's */
        snprintf(topic, sizeof topic, "p.%d", i);
        put_n(f.w, topic, topic, 2);
    }
    c = consumer(f.w, "p.*", WEIR_FROM_GROUP, "g");
    assert_next(c, "p.00"); /* "p.0" and 0 */
    assert_next(c, "p.01");
    assert_next(c, "p.10");
    OK(weir_consumer_commit(c, &err));
    weir_consumer_close(&c);
    put(f.w, "p.later", NULL, "later");
    c = consumer(f.w, "p.*", WEIR_FROM_GROUP, "g");
    assert_next(c, "p.11");
    for (i = 0; i < 2 * 98; i++) {
        struct weir_message m;

        OK(weir_consumer_next(c, 0, &m, &err));
    }
    assert_next(c, "later");
    assert_drained(c);
    weir_consumer_close(&c);
    begins(OPEN(f.w, "p.1", .from = WEIR_FROM_GROUP, .group = "g"), "p.11");
    begins(OPEN(f.w, "none.*", .from = WEIR_FROM_GROUP, .group = "g"), NULL);
    fx_end(&f);
}

static void test_group_trimmed(void **state)
{
    struct weir_consumer *c;
    struct fx f;

    fx_start(&f);
    put_n(f.w, "t", "v", 6);
    c = consumer(f.w, "t", WEIR_FROM_GROUP, "g");
    assert_next(c, "v0");
    OK(weir_consumer_commit(c, &err));
    weir_consumer_close(&c);
    OK(weir_trim(f.w, "t", 0, 4, &err));
    begins(OPEN(f.w, "t", .from = WEIR_FROM_GROUP, .group = "g"), "v4");
    OK(weir_trim(f.w, "t", 0, -1, &err));
    begins(OPEN(f.w, "t", .from = WEIR_FROM_GROUP, .group = "g"), NULL);
    fx_end(&f);
}

static void test_auto_commit(void **state)
{
    struct weir_consumer *c;
    struct weir_message m;
    struct fx f;

    fx_start(&f);
    put_n(f.w, "t", "v", 4);
    c = OPEN(f.w, "t", .from = WEIR_FROM_GROUP, .group = "g", .auto_commit_ms = 1000000);
    assert_next(c, "v0");
    assert_next(c, "v1");
    begins(OPEN(f.w, "t", .from = WEIR_FROM_GROUP, .group = "g"), "v0"); /* too early */
    weir_consumer_close(&c);                                             /* commits */
    begins(OPEN(f.w, "t", .from = WEIR_FROM_GROUP, .group = "g"), "v2");

    c = OPEN(f.w, "t", .from = WEIR_FROM_GROUP, .group = "g", .auto_commit_ms = 30);
    assert_next(c, "v2");
    nap_ms(60);
    assert_next(c, "v3"); /* v2 is dealt with, v3 is not */
    begins(OPEN(f.w, "t", .from = WEIR_FROM_GROUP, .group = "g"), "v3");
    FAILS(WEIR_ERR_AGAIN, weir_consumer_next(c, 200, &m, &err)); /* while it waits */
    begins(OPEN(f.w, "t", .from = WEIR_FROM_GROUP, .group = "g"), NULL);
    weir_consumer_close(&c);
    begins(OPEN(f.w, "t", .from = WEIR_FROM_GROUP, .group = "g"), NULL);
    fx_end(&f);
}

/* ---- threads ---- */

#define RACE_RECORDS 1500

static void *put_many(void *arg)
{
    struct weir *w = arg;
    char value[32];
    int i;

    for (i = 0; i < RACE_RECORDS; i++) {
        struct weir_record r = {.value = value, .partition_1 = i % 2 + 1};

        r.value_len = (size_t)snprintf(value, sizeof value, "v%d", i);
        MUST(weir_produce(w, "t", &r, NULL, NULL) == WEIR_OK);
    }
    return NULL;
}

/* A group resumes again and again while records come: none is missed, none comes twice. */
static void test_resume_race(void **state)
{
    struct weir_consumer *c;
    struct weir_message m;
    pthread_t thread;
    char want[32];
    struct fx f;
    int n = 0;

    fx_start(&f);
    OK(weir_topic_create(f.w, "t", 2, NULL, 0, &err));
    assert_int_equal(pthread_create(&thread, NULL, put_many, f.w), 0);
    while (n < RACE_RECORDS) {
        c = consumer(f.w, "t", WEIR_FROM_GROUP, "g");
        while (weir_consumer_next(c, 0, &m, NULL) == WEIR_OK) {
            snprintf(want, sizeof want, "v%d", n++);
            if (!value_is(&m, want))
                fail_msg("wanted %s, got %.*s", want, (int)m.value_len, (const char *)m.value);
        }
        OK(weir_consumer_commit(c, &err));
        weir_consumer_close(&c);
    }
    pthread_join(thread, NULL);
    fx_end(&f);
}

struct shared {
    struct weir *w;
    pthread_barrier_t open; /* both consumers are: who opens later begins at the other's commit */
};

static void *read_all(void *arg)
{
    struct weir_consumer_options o = {
        .size = sizeof o, .from = WEIR_FROM_GROUP, .group = "auto", .auto_commit_ms = 2};
    struct shared *s = arg;
    struct weir_consumer *c;
    struct weir_message m;
    uint64_t last = 0;
    int n;

    MUST(weir_consumer_new(s->w, "t", &o, &c, NULL) == WEIR_OK);
    pthread_barrier_wait(&s->open);
    for (n = 0; n < RACE_RECORDS; n++) {
        MUST(weir_consumer_next(c, -1, &m, NULL) == WEIR_OK);
        MUST(m.position > last);
        last = m.position;
    }
    weir_consumer_close(&c);
    return NULL;
}

/* A consumer for each thread, reading what a third one writes. */
static void test_threads(void **state)
{
    pthread_t reader[2], writer;
    struct shared s;
    struct fx f;
    int i;

    fx_start(&f);
    OK(weir_topic_create(f.w, "t", 2, NULL, 0, &err));
    s.w = f.w;
    pthread_barrier_init(&s.open, NULL, 3);
    for (i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&reader[i], NULL, read_all, &s), 0);
    pthread_barrier_wait(&s.open);
    assert_int_equal(pthread_create(&writer, NULL, put_many, f.w), 0);
    pthread_join(writer, NULL);
    for (i = 0; i < 2; i++)
        pthread_join(reader[i], NULL);
    pthread_barrier_destroy(&s.open);
    begins(OPEN(f.w, "t", .from = WEIR_FROM_GROUP, .group = "auto"), NULL);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from),          cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_streams),       cmocka_unit_test(test_seek),
        cmocka_unit_test(test_trimmed),       cmocka_unit_test(test_wait),
        cmocka_unit_test(test_group),         cmocka_unit_test(test_group_pattern),
        cmocka_unit_test(test_group_trimmed), cmocka_unit_test(test_auto_commit),
        cmocka_unit_test(test_resume_race),   cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
