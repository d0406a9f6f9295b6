/* Retention: by time, by bytes, at least so many records; per topic; after a restart. */
#include "fixture.h"

#include "broker/broker_int.h"

static struct topic *make(struct fx *f, const char *name, int64_t ms, int64_t bytes, int64_t least)
{
    struct topic_conf c;

    topic_conf_default(f->b, &c);
    c.retention_ms = ms;
    c.retention_bytes = bytes;
    c.retention_records_min = least;
    assert_int_equal(topic_create_wait(f->b, slice_str(name), 1, &c, NULL), ERR_OK);
    return topic_find(f->b, slice_str(name));
}

static void put_at(struct fx *f, struct topic *t, int64_t ts)
{
    struct append *a = append_new(f->b, NULL, NULL);
    struct append_record r = rec_of(NULL, "value", NULL);

    r.timestamp_ms = ts;
    assert_int_equal(append_record(a, t, 0, &r, NULL, NULL), ERR_OK);
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    append_free(&a);
}

static int64_t start_of(struct topic *t)
{
    struct plog_info i;

    plog_info_get(partition_log(topic_partition(t, 0)), &i);
    return i.start_offset;
}

static void test_rules(void **state)
{
    struct topic *time, *bytes, *both, *ever;
    struct plog_info info;
    struct fx f;
    int i;

    fx_start(&f, false);
    time = make(&f, "time", 1000, -1, 0);
    both = make(&f, "least", 1000, -1, 7);
    ever = make(&f, "ever", -1, -1, 0);
    for (i = 0; i < 10; i++) {
        put_at(&f, time, 100 * i);
        put_at(&f, both, 100 * i);
        put_at(&f, ever, 100 * i);
    }
    plog_info_get(partition_log(topic_partition(time, 0)), &info);
    bytes = make(&f, "bytes", -1, (int64_t)info.bytes * 4 / 10, 0);
    for (i = 0; i < 10; i++)
        put_at(&f, bytes, 100 * i);
    retention_tick(f.b, 1500); /* keeps what is of 500 and later */
    broker_step(f.b);
    assert_int_equal(start_of(time), 5);
    assert_int_equal(start_of(both), 3);
    assert_int_equal(start_of(ever), 0);
    assert_int_equal(start_of(bytes), 6);
    retention_tick(f.b, 1500); /* nothing more to do */
    assert_int_equal(journal_inflight(broker_journal(f.b)), 0);
    retention_tick(f.b, 100000);
    broker_step(f.b);
    assert_int_equal(start_of(time), 10);
    assert_int_equal(start_of(both), 3);
    for (i = 0; i < 2; i++) {
        topic_unref(&time);
        if (i)
            fx_checkpoint(&f);
        topic_unref(&both);
        topic_unref(&bytes);
        topic_unref(&ever);
        fx_crash(&f);
        time = topic_find(f.b, SLICE_LIT("time"));
        both = topic_find(f.b, SLICE_LIT("least"));
        bytes = topic_find(f.b, SLICE_LIT("bytes"));
        ever = topic_find(f.b, SLICE_LIT("ever"));
        assert_int_equal(start_of(time), 10);
        assert_int_equal(start_of(both), 3);
        assert_int_equal(start_of(bytes), 6);
        assert_int_equal(start_of(ever), 0);
    }
    topic_unref(&time);
    topic_unref(&both);
    topic_unref(&bytes);
    topic_unref(&ever);
    fx_end(&f);
}

/* The walk reaches every topic, some at a time. */
static void test_walk(void **state)
{
    struct topic *t;
    char name[16];
    struct fx f;
    int i;

    fx_start(&f, false);
    for (i = 0; i < 1500; i++) {
        snprintf(name, sizeof name, "t%d", i);
        assert_int_equal(topic_create(f.b, slice_str(name), 1, NULL, NULL, NULL, NULL), ERR_OK);
    }
    broker_step(f.b);
    t = topic_find(f.b, SLICE_LIT("t1499"));
    put_at(&f, t, 1);
    retention_tick(f.b, INT64_MAX / 2);
    broker_step(f.b);
    assert_int_equal(start_of(t), 0);
    retention_tick(f.b, INT64_MAX / 2);
    broker_step(f.b);
    assert_int_equal(start_of(t), 1);
    topic_unref(&t);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_walk),
    };

    return cmocka_run_group_tests_name("broker/retention", tests, NULL, NULL);
}
