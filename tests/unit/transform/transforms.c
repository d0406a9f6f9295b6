/* Transforms over a broker: batches, windows over partitions at different times, restarts, deletion,
 * output that is too large for one unit, circles. */
#include "transform/transforms.h"
#include "../sql/fixture.h"

static void start(struct fx *f, struct transforms **m)
{
    const struct transforms_conf conf = {.broker = f->b, .sql = f->sql};
    struct errinfo info;

    if (transforms_open(&conf, m, &info))
        fail_msg("%s", info.text);
}

/* Header lines and a statement; the name is the first word. */
static enum err apply(struct transforms *m, const char *text, struct errinfo *info)
{
    struct transform_def d;
    enum err e;

    transform_def_init(&d);
    e = transform_def_file(&d, slice_str(text), info);
    e = e ? e : transforms_apply_wait(m, &d, info);
    transform_def_fini(&d);
    return e;
}

static void apply_fine(struct transforms *m, const char *text)
{
    struct errinfo info;

    if (apply(m, text, &info))
        fail_msg("%s", info.text);
}

/* Waits until what is shown of it has the text. */
static void until(struct transforms *m, const char *name, const char *text)
{
    struct buf b;
    bool there = false;
    int i;

    buf_init(&b, 1 << 20);
    for (i = 0; i < 12000 && !there; i++) {
        buf_clear(&b);
        if (!transforms_show(m, slice_str(name), &b, NULL)) {
            assert_int_equal(buf_append_u8(&b, 0), ERR_OK);
            there = strstr((const char *)b.ptr, text) != NULL;
        }
        if (!there)
            usleep(5000);
    }
    if (!there)
        fail_msg("%s: no %s in %s", name, text, b.len ? (const char *)b.ptr : "nothing");
    buf_fini(&b);
}

static void done(void *arg, enum err e, const struct errinfo *info)
{
    *(_Atomic int *)arg = e ? -1 : 1;
}

static void wait_done(_Atomic int *flag)
{
    int i;

    for (i = 0; i < 12000 && !*flag; i++)
        usleep(5000);
    assert_int_equal(*flag, 1);
}

#define COUNT                                                                            \
    "-- name: c\n-- input: in\n-- output: out\n-- key: g\n-- max_seconds: 0\n-- "        \
    "max_bytes: 4096\nSELECT n % 3 AS g, count(*) AS n, sum(n) AS total FROM __input__ " \
    "GROUP BY g"

static void test_batches(void **state)
{
    _Atomic int flag = 0;
    struct transform_def d;
    struct transforms *m;
    struct errinfo info;
    struct topic *t;
    struct fx f;
    int i;

    fx_start(&f);
    t = fx_topic(&f, "in", 2);
    start(&f, &m);
    apply_fine(m, COUNT);
    for (i = 0; i < 5; i++) {
        fx_fill(&f, t, i % 2, 1000, 50, "{\"n\":%lld}");
        if (i == 2) { /* in the middle of it, perhaps */
            transforms_close(&m);
            start(&f, &m);
        }
    }
    until(m, "c", "\"lag\":0");
    fx_expect(
        &f, "SELECT g, sum(n), sum(total), count(DISTINCT key) FROM \"out\" GROUP BY g ORDER BY g",
        "0|1670|834165|1\n1|1665|830835|1\n2|1665|832500|1\n");
    assert_int_equal(transforms_delete(m, SLICE_LIT("c"), done, &flag, &info), ERR_OK);
    wait_done(&flag);
    assert_int_equal(transforms_get(m, SLICE_LIT("c"), &d, &info), ERR_NOT_FOUND);
    apply_fine(m, COUNT); /* from the start again */
    until(m, "c", "\"records_in\":5000");
    fx_expect(&f, "SELECT sum(n) FROM \"out\"", "10000\n");
    transforms_close(&m);
    topic_unref(&t);
    fx_end(&f);
}

/* A window closes when the slowest partition has passed it; one that is idle does not count. */
static void test_watermark(void **state)
{
    struct transforms *m;
    struct topic *t;
    struct fx f;

    fx_start(&f);
    t = fx_topic(&f, "in", 2);
    fx_put(&f, t, 0, "a", "{\"at\":10,\"n\":1}");
    fx_put(&f, t, 1, "b", "{\"at\":20,\"n\":2}");
    fx_put(&f, t, 0, "a", "{\"at\":200,\"n\":4}");
    start(&f, &m);
    apply_fine(m, "-- name: slow\n-- input: in\n-- output: slow\n-- window: 1 minute\n-- time: "
                  "to_timestamp(\"at\")\n-- max_seconds: 0\n-- idle_seconds: 3600\n"
                  "SELECT time_bucket(INTERVAL '1 minute', to_timestamp(\"at\")) AS m, sum(n) AS n "
                  "FROM __input__ GROUP BY m");
    apply_fine(m, "-- name: idle\n-- input: in\n-- output: idle\n-- window: 1 minute\n-- time: "
                  "to_timestamp(\"at\")\n-- max_seconds: 0\n-- idle_seconds: 0.05\n"
                  "SELECT time_bucket(INTERVAL '1 minute', to_timestamp(\"at\")) AS m, sum(n) AS n "
                  "FROM __input__ GROUP BY m");
    until(m, "idle", "\"closed\":\"1970-01-01T00:03:00.000Z\"");
    fx_expect(&f, "SELECT value FROM idle", "{\"m\":\"1970-01-01T00:00:00Z\",\"n\":3}\n");
    until(m, "slow", "\"records_in\":3");
    until(m, "slow", "\"watermark\":\"1970-01-01T00:00:20.000Z\"");
    fx_put(&f, t, 1, "b", "{\"at\":59,\"n\":8}");
    fx_put(&f, t, 1, "b", "{\"at\":61,\"n\":16}");
    until(m, "slow", "\"closed\":\"1970-01-01T00:01:00.000Z\"");
    transforms_close(&m);
    start(&f, &m); /* windows that are open now are in no memory */
    fx_put(&f, t, 1, "b", "{\"at\":62,\"n\":32}");
    fx_put(&f, t, 1, "b", "{\"at\":1000,\"n\":64}");
    until(m, "slow", "\"closed\":\"1970-01-01T00:03:00.000Z\"");
    fx_expect(
        &f, "SELECT value FROM slow ORDER BY \"offset\"",
        "{\"m\":\"1970-01-01T00:00:00Z\",\"n\":11}\n{\"m\":\"1970-01-01T00:01:00Z\",\"n\":48}\n");
    transforms_close(&m);
    topic_unref(&t);
    fx_end(&f);
}

/* Rows of more than one unit's bytes: the step takes fewer records, until it fits. */
static void test_large(void **state)
{
    struct transforms *m;
    struct topic *t;
    struct fx f;

    fx_start(&f);
    t = fx_topic(&f, "in", 1);
    fx_fill(&f, t, 0, 120, 5, "{\"n\":%lld}");
    start(&f, &m);
    apply_fine(m, "-- name: big\n-- input: in\n-- output: out\n-- max_seconds: 0\n"
                  "SELECT n, repeat('0123456789abcdef', 6250) AS pad FROM __input__");
    until(m, "big", "\"lag\":0");
    fx_expect(&f, "SELECT count(*), sum(n) FROM \"out\"", "120|7140\n");
    transforms_close(&m);
    topic_unref(&t);
    fx_end(&f);
}

static void test_circle(void **state)
{
    struct transforms *m;
    struct errinfo info;
    struct fx f;

    fx_start(&f);
    start(&f, &m);
    apply_fine(m, "-- name: a\n-- input: t1\n-- output: t2\nSELECT 1 AS n FROM __input__");
    apply_fine(m, "-- name: b\n-- input: t2\n-- output: t3\n-- dead_letters: "
                  "d\nSELECT 1 AS n FROM __input__");
    assert_int_equal(
        apply(m, "-- name: c\n-- input: t3\n-- output: t1\nSELECT 1 FROM __input__", &info),
        ERR_CONFLICT);
    assert_int_equal(
        apply(m, "-- name: c\n-- input: d\n-- output: t1\nSELECT 1 FROM __input__", &info),
        ERR_CONFLICT);
    apply_fine(m, "-- name: c\n-- input: t3\n-- output: t4\nSELECT 1 AS n FROM __input__");
    until(m, "a", "\"state\":\"waiting\"");
    transforms_close(&m);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_watermark),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_circle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
