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

#define SETTLE_MS 300000

/* At a time when what is there was there for long. */
static void tick(struct fx *f, int64_t wall_ms)
{
    retention_tick(f->b, wall_ms - SETTLE_MS);
    broker_step(f->b);
    retention_tick(f->b, wall_ms);
    broker_step(f->b);
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
    tick(&f, 1500); /* keeps what is of 500 and later */
    assert_int_equal(start_of(time), 5);
    assert_int_equal(start_of(both), 3);
    assert_int_equal(start_of(ever), 0);
    assert_int_equal(start_of(bytes), 6);
    retention_tick(f.b, 1500); /* nothing more to do */
    assert_int_equal(journal_inflight(broker_journal(f.b)), 0);
    tick(&f, 100000);
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
    tick(&f, INT64_MAX / 2); /* two turns: all are seen once */
    assert_int_equal(start_of(t), 0);
    retention_tick(f.b, INT64_MAX / 2 + SETTLE_MS);
    broker_step(f.b);
    assert_int_equal(start_of(t), 0);
    retention_tick(f.b, INT64_MAX / 2 + SETTLE_MS);
    broker_step(f.b);
    assert_int_equal(start_of(t), 1);
    topic_unref(&t);
    fx_end(&f);
}

/* Where the log begins in all, and here. */
static void starts_are(struct topic *t, int64_t all, int64_t local)
{
    assert_int_equal(partition_start(topic_partition(t, 0)), all);
    assert_int_equal(start_of(t), local);
}

static struct topic *again(struct fx *f, struct topic *t, bool saved)
{
    topic_unref(&t);
    if (saved)
        fx_checkpoint(f);
    fx_crash(f);
    return topic_find(f->b, SLICE_LIT("tiered"));
}

/* What the lake has leaves the local log by the local rule, and nothing else does; the whole log by the
 * topic's own. */
static void test_tiers(void **state)
{
    struct topic_conf c;
    struct partition *p;
    struct topic *t;
    struct fx f;
    int i;

    fx_start(&f, false);
    topic_conf_default(f.b, &c);
    c.lake_enable = 1;
    c.retention_ms = 100000;
    c.local_retention_ms = 200;
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("tiered"), 1, &c, NULL), ERR_OK);
    t = topic_find(f.b, SLICE_LIT("tiered"));
    p = topic_partition(t, 0);
    for (i = 0; i < 10; i++)
        put_at(&f, t, 100 * i);
    tick(&f, 1000); /* nothing is in the lake yet */
    starts_are(t, 0, 0);
    partition_hold(p, 4);
    tick(&f, 1000); /* six are covered by the rule, four by the lake */
    starts_are(t, 0, 4);
    t = again(&f, t, false);
    starts_are(t, 0, 4);
    p = topic_partition(t, 0);
    tick(&f, 1000); /* after a restart nothing is known of the lake */
    starts_are(t, 0, 4);
    partition_hold(p, 9);
    tick(&f, 1000);
    starts_are(t, 0, 8);
    t = again(&f, t, true);
    starts_are(t, 0, 8);
    p = topic_partition(t, 0);
    partition_hold(p, 10);
    partition_expired(p, 3);
    tick(&f, 1000);
    starts_are(t, 3, 8);
    tick(&f, 200000); /* the local rule has all, the topic's one as far as the lake's thread said */
    starts_are(t, 3, 10);
    assert_int_equal(partition_trim_wait(p, 5, NULL), ERR_OK);
    starts_are(t, 5, 10);
    assert_int_equal(partition_trim_wait(p, 4, NULL), ERR_OK);
    starts_are(t, 5, 10);
    t = again(&f, t, true);
    starts_are(t, 5, 10);
    t = again(&f, t, false);
    starts_are(t, 5, 10);
    p = topic_partition(t, 0);
    partition_expired(p, 10);
    tick(&f, 200000);
    starts_are(t, 10, 10);
    topic_unref(&t);
    fx_end(&f);
}

/* Records that somebody deletes do not come back, whatever is on its way to the lake. */
static void test_tier_trim(void **state)
{
    struct topic_conf c;
    struct partition *p;
    struct topic *t;
    struct fx f;
    int i;

    fx_start(&f, false);
    topic_conf_default(f.b, &c);
    c.lake_enable = 1;
    c.retention_ms = -1;
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("tiered"), 1, &c, NULL), ERR_OK);
    t = topic_find(f.b, SLICE_LIT("tiered"));
    for (i = 0; i < 10; i++)
        put_at(&f, t, 100 * i);
    p = topic_partition(t, 0);
    partition_hold(p, 10);
    assert_int_equal(partition_trim_wait(p, 6, NULL), ERR_OK);
    starts_are(t, 6, 6);
    partition_tier_raise(p, 2, true); /* by a tick that began before */
    starts_are(t, 6, 6);
    t = again(&f, t, true);
    starts_are(t, 6, 6);
    p = topic_partition(t, 0);
    partition_hold(p, 10);
    tick(&f, 1000000); /* no local rule: all stays */
    starts_are(t, 6, 6);
    topic_conf_get(t, &c);
    c.local_retention_bytes = 0;
    assert_int_equal(topic_alter_wait(f.b, SLICE_LIT("tiered"), 0, &c, NULL), ERR_OK);
    tick(&f, 1000000);
    starts_are(t, 6, 10);
    topic_unref(&t);
    fx_end(&f);
}

/* Old data that comes now stays for five minutes, or half of retention.ms; what is too much goes at once. */
static void test_settled(void **state)
{
    const int64_t day = 86400000, now = 1700000000000;
    struct topic *days, *soon, *full;
    struct plog_info info;
    struct fx f;
    int i;

    fx_start(&f, false);
    days = make(&f, "days", day, -1, 0);
    soon = make(&f, "soon", 10000, -1, 0);
    for (i = 0; i < 10; i++) {
        put_at(&f, days, now - 2 * day);
        put_at(&f, soon, now - 2 * day);
    }
    plog_info_get(partition_log(topic_partition(days, 0)), &info);
    full = make(&f, "full", day, (int64_t)info.bytes * 4 / 10, 0);
    for (i = 0; i < 10; i++)
        put_at(&f, full, now - 2 * day);
    for (i = 0; i < 5; i++) {
        retention_tick(f.b, now + i * 1000);
        broker_step(f.b);
        assert_int_equal(start_of(days), 0);
        assert_int_equal(start_of(soon), 0);
        assert_int_equal(start_of(full), 6);
    }
    retention_tick(f.b, now + 5000);
    broker_step(f.b);
    assert_int_equal(start_of(soon), 10);
    put_at(&f, days, now - 2 * day);
    retention_tick(f.b, now + SETTLE_MS - 1);
    broker_step(f.b);
    assert_int_equal(start_of(days), 0);
    retention_tick(f.b, now + SETTLE_MS);
    broker_step(f.b);
    assert_int_equal(start_of(days), 10); /* the last one came later */
    assert_int_equal(start_of(full), 10);
    retention_tick(f.b, now + 2 * SETTLE_MS);
    broker_step(f.b);
    assert_int_equal(start_of(days), 11);
    topic_unref(&days);
    topic_unref(&soon);
    topic_unref(&full);
    fx_end(&f);
}

/* A clock that was ahead and is set right: age ends records again soon, not when it is there again. */
static void test_clock_back(void **state)
{
    const int64_t day = 86400000, now = 1700000000000;
    struct topic *t;
    struct fx f;

    fx_start(&f, false);
    t = make(&f, "days", day, -1, 0);
    put_at(&f, t, now - 2 * day);
    retention_tick(f.b, now + 4000 * day);
    broker_step(f.b);
    put_at(&f, t, now - 2 * day);
    retention_tick(f.b, now);
    broker_step(f.b);
    assert_int_equal(start_of(t), 0);
    retention_tick(f.b, now + SETTLE_MS);
    broker_step(f.b);
    assert_int_equal(start_of(t), 1);
    retention_tick(f.b, now + 2 * SETTLE_MS);
    broker_step(f.b);
    assert_int_equal(start_of(t), 2);
    topic_unref(&t);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),      cmocka_unit_test(test_settled),
        cmocka_unit_test(test_clock_back), cmocka_unit_test(test_walk),
        cmocka_unit_test(test_tiers),      cmocka_unit_test(test_tier_trim),
    };

    return cmocka_run_group_tests_name("broker/retention", tests, NULL, NULL);
}
