/* What happens becomes events: each kind, in order, with keys of every shape; nothing about the topic of
 * events itself; a full queue drops and counts; with threads everything is told before closing. */
#include "fixture.h"

#include "broker/broker_int.h"
#include "broker/notices.h"
#include "io/thread.h"

static void start(struct fx *f, bool threads, unsigned notices)
{
    fx_start(f, threads);
    f->conf.notices = notices;
    fx_reopen(f);
}

/* The events' values behind one another, without their times. */
static struct buf events(struct fx *f, const char *topic, unsigned *n)
{
    struct reader_conf rc = {.selector = slice_str(topic), .partition = -1};
    struct reader_record rec;
    struct reader *r = NULL;
    struct buf all;

    buf_init(&all, 64u << 20);
    *n = 0;
    if (reader_open(f->b, &rc, &r, NULL))
        return all;
    while (reader_next(r, &rec, NULL) == ERR_OK) {
        const uint8_t *at = memmem(rec.value.ptr, rec.value.len, ",\"timestamp\":\"", 14);

        assert_non_null(at);
        assert_int_equal(rec.value.len - (size_t)(at - rec.value.ptr), 14 + 24 + 2);
        buf_append(&all, rec.value.ptr, (size_t)(at - rec.value.ptr));
        buf_append_u8(&all, '\n');
        assert_int_equal(rec.headers_n, 2);
        assert_true(slice_eq_str(rec.headers[0].key, "ce_type"));
        (*n)++;
    }
    reader_close(&r);
    buf_append_u8(&all, 0);
    return all;
}

static void expect(struct fx *f, const char *topic, const char *text)
{
    unsigned n;
    struct buf b = events(f, topic, &n);

    assert_string_equal(b.len ? (const char *)b.ptr : "", text);
    buf_fini(&b);
}

static void counts(struct fx *f, uint64_t told, uint64_t dropped)
{
    uint64_t t, d;

    notices_count(f->b, &t, &d);
    assert_int_equal(t, told);
    assert_int_equal(d, dropped);
}

static void put_bytes(struct fx *f, struct topic *t, struct slice key)
{
    struct append *a = append_new(f->b, NULL, NULL);
    struct append_record r = {.timestamp_ms = -1, .key = key, .value = SLICE_LIT("v")};
    struct append_slot slot;

    assert_int_equal(append_record(a, t, 0, &r, &slot, NULL), ERR_OK);
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    append_free(&a);
}

static void test_off(void **state)
{
    struct fx f;
    struct topic *t;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 1);
    fx_put(&f, t, 0, "k", "v", NULL);
    assert_false(notices_turn(f.b));
    assert_null(topic_find(f.b, SLICE_LIT("weir.events")));
    counts(&f, 0, 0);
    topic_unref(&t);
    fx_end(&f);
}

static void test_produce(void **state)
{
    char long_key[NOTICE_KEY_MAX + 1];
    struct fx f;
    struct topic *t;

    start(&f, false, BROKER_NOTICES_PRODUCE);
    t = fx_topic(&f, "t", 2);
    fx_put(&f, t, 1, "k\"1", "v", NULL);
    fx_put(&f, t, 0, NULL, "v", NULL);
    fx_put(&f, t, 0, "id", "v", "same");
    assert_true(fx_put(&f, t, 0, "id", "v", "same").duplicate);
    put_bytes(&f, t, slice_of("\xff\0", 2));
    memset(long_key, 'x', sizeof long_key);
    put_bytes(&f, t, slice_of(long_key, sizeof long_key));
    assert_int_equal(
        group_commit_wait(f.b, SLICE_LIT("g"), topic_partition(t, 0), 1, SLICE_NULL, NULL), ERR_OK);
    assert_true(notices_turn(f.b));
    expect(
        &f, "weir.events",
        "{\"type\":\"stream.produce\",\"topic\":\"t\",\"partition\":1,\"offset\":0,\"key\":"
        "\"k\\\"1\"\n"
        "{\"type\":\"stream.produce\",\"topic\":\"t\",\"partition\":0,\"offset\":0,\"key\":null\n"
        "{\"type\":\"stream.produce\",\"topic\":\"t\",\"partition\":0,\"offset\":1,\"key\":\"id\"\n"
        "{\"type\":\"stream.produce\",\"topic\":\"t\",\"partition\":0,\"offset\":2,\"key_base64\":"
        "\"/wA=\"\n"
        "{\"type\":\"stream.produce\",\"topic\":\"t\",\"partition\":0,\"offset\":3,\"key_bytes\":"
        "1025\n");
    counts(&f, 5, 0);
    assert_false(notices_turn(f.b)); /* nothing about its own */
    topic_unref(&t);
    fx_end(&f);
}

static void test_groups(void **state)
{
    struct fx f;
    struct topic *t;

    start(&f, false, BROKER_NOTICES_GROUPS);
    f.conf.notices_topic = "told";
    fx_reopen(&f);
    t = fx_topic(&f, "t", 2);
    fx_put(&f, t, 1, "k", "v", NULL);
    assert_int_equal(
        group_commit_wait(f.b, SLICE_LIT("g"), topic_partition(t, 1), 7, SLICE_NULL, NULL), ERR_OK);
    notice__group(f.b, NOTICE_JOIN, SLICE_LIT("g"), SLICE_LIT("m-1"), 0);
    notice__group(f.b, NOTICE_REBALANCE, SLICE_LIT("g"), SLICE_NULL, 3);
    notice__group(f.b, NOTICE_LEAVE, SLICE_LIT("g"), SLICE_LIT("m-1"), 0);
    assert_true(notices_turn(f.b));
    expect(&f, "told",
           "{\"type\":\"stream.commit\",\"groupId\":\"g\",\"topic\":\"t\",\"partition\":1,"
           "\"offset\":7\n"
           "{\"type\":\"group.join\",\"groupId\":\"g\",\"memberId\":\"m-1\"\n"
           "{\"type\":\"group.rebalance\",\"groupId\":\"g\",\"generation\":3\n"
           "{\"type\":\"group.leave\",\"groupId\":\"g\",\"memberId\":\"m-1\"\n");
    topic_unref(&t);
    fx_end(&f);
}

/* Also when another made the topic of events a moment before there was anything to tell. */
static void test_own_topic(void **state)
{
    struct fx f;
    struct topic *t, *own;
    unsigned n;
    struct buf b;

    start(&f, false, BROKER_NOTICES_GROUPS | BROKER_NOTICES_PRODUCE);
    own = fx_topic(&f, "weir.events", 1);
    t = fx_topic(&f, "t", 1);
    put_bytes(&f, own, SLICE_LIT("by another"));
    assert_int_equal(
        group_commit_wait(f.b, SLICE_LIT("g"), topic_partition(own, 0), 1, SLICE_NULL, NULL),
        ERR_OK);
    assert_true(notices_turn(f.b));
    assert_false(notices_turn(f.b));
    counts(&f, 0, 0);
    fx_put(&f, t, 0, "k", "v", NULL);
    assert_true(notices_turn(f.b));
    put_bytes(&f, own, SLICE_LIT("again"));
    assert_int_equal(
        group_commit_wait(f.b, SLICE_LIT("g"), topic_partition(own, 0), 2, SLICE_NULL, NULL),
        ERR_OK);
    assert_false(notices_turn(f.b));
    counts(&f, 1, 0);
    /* deleted, and told of again: it is made anew */
    topic_unref(&own);
    assert_int_equal(topic_delete_wait(f.b, SLICE_LIT("weir.events"), NULL), ERR_OK);
    fx_put(&f, t, 0, "k2", "v", NULL);
    assert_true(notices_turn(f.b));
    b = events(&f, "weir.events", &n);
    assert_int_equal(n, 1);
    assert_non_null(strstr((const char *)b.ptr, "\"key\":\"k2\""));
    buf_fini(&b);
    topic_unref(&t);
    fx_end(&f);
}

static void test_full(void **state)
{
    struct fx f;
    unsigned i, n;
    struct buf b;

    start(&f, false, BROKER_NOTICES_GROUPS | BROKER_NOTICES_PRODUCE);
    for (i = 0; i < NOTICES_MAX + 10; i++)
        notice__group(f.b, NOTICE_JOIN, SLICE_LIT("g"), SLICE_LIT("member"), 0);
    notice__produce(f.b, 12345, 0, 0, 1000); /* of a batch each record counts */
    counts(&f, 0, 1010);
    assert_true(notices_turn(f.b));
    counts(&f, NOTICES_MAX, 1010);
    b = events(&f, "weir.events", &n);
    assert_int_equal(n, NOTICES_MAX);
    buf_fini(&b);
    notice__produce(f.b, 12345, 0, 0, 7); /* a topic that is gone */
    assert_true(notices_turn(f.b));
    counts(&f, NOTICES_MAX, 1017);
    fx_end(&f);
}

static void test_names_full(void **state)
{
    static char name[60000];
    struct fx f;
    unsigned i;
    uint64_t told, dropped;

    start(&f, false, BROKER_NOTICES_GROUPS);
    memset(name, 'm', sizeof name);
    for (i = 0; i < 20; i++)
        notice__group(f.b, NOTICE_JOIN, SLICE_LIT("g"), slice_of(name, sizeof name), 0);
    counts(&f, 0, 20 - NOTICES_TEXT_MAX / (sizeof name + 1));
    notices_turn(f.b);
    notices_count(f.b, &told, &dropped);
    assert_int_equal(told + dropped, 20);
    fx_end(&f);
}

struct job {
    struct fx *f;
    struct topic *t;
    int32_t partition;
};

#define JOB_APPENDS 50
#define JOB_RECORDS 20

static void write_many(void *arg)
{
    struct job *j = arg;
    struct append *a = append_new(j->f->b, NULL, NULL);
    struct append_slot slot;
    int i, k;

    for (i = 0; i < JOB_APPENDS; i++) {
        for (k = 0; k < JOB_RECORDS; k++) {
            char key[32];
            struct append_record r = {.timestamp_ms = -1, .value = SLICE_LIT("v")};

            snprintf(key, sizeof key, "%d-%d", (int)j->partition, i * JOB_RECORDS + k);
            r.key = slice_str(key);
            MUST(append_record(a, j->t, j->partition, &r, &slot, NULL) == ERR_OK);
        }
        MUST(append_submit_wait(a, NULL) == ERR_OK);
        append_reset(a);
    }
    append_free(&a);
}

static void test_threads(void **state)
{
    struct fx f;
    struct job jobs[3];
    struct io_thread *threads[3];
    struct topic *t;
    struct buf b;
    unsigned n, i;
    char *save = NULL, *line;
    int next[3] = {0};

    start(&f, true, BROKER_NOTICES_PRODUCE);
    t = fx_topic(&f, "t", 3);
    for (i = 0; i < 3; i++) {
        jobs[i] = (struct job){&f, t, (int32_t)i};
        assert_int_equal(
            io_thread_start("writer", IO_PRIO_NORMAL, write_many, &jobs[i], &threads[i], NULL),
            ERR_OK);
    }
    for (i = 0; i < 3; i++)
        io_thread_join(&threads[i]);
    topic_unref(&t);
    fx_reopen(&f); /* closing tells what is left */
    b = events(&f, "weir.events", &n);
    assert_int_equal(n, 3 * JOB_APPENDS * JOB_RECORDS);
    for (line = strtok_r((char *)b.ptr, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        int p, offset, kp, k;

        assert_int_equal(sscanf(line,
                                "{\"type\":\"stream.produce\",\"topic\":\"t\",\"partition\":%d,"
                                "\"offset\":%d,\"key\":\"%d-%d\"",
                                &p, &offset, &kp, &k),
                         4);
        assert_true(p >= 0 && p < 3 && kp == p && k == offset);
        assert_int_equal(offset, next[p]++);
    }
    buf_fini(&b);
    fx_end(&f);
}

static void test_name(void **state)
{
    struct errinfo info = {0};
    struct fx f;

    fx_start(&f, false);
    broker_close(&f.b);
    f.conf.notices = BROKER_NOTICES_GROUPS;
    f.conf.notices_topic = "not a name";
    assert_int_equal(broker_open(&f.conf, &f.b, &info), ERR_TOPIC_NAME);
    assert_non_null(strstr(info.text, "not a name"));
    f.conf.notices_topic = NULL;
    fx_open(&f);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_off),     cmocka_unit_test(test_produce),
        cmocka_unit_test(test_groups),  cmocka_unit_test(test_own_topic),
        cmocka_unit_test(test_full),    cmocka_unit_test(test_names_full),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
