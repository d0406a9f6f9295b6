/* The Prometheus text of groups: by kind and state, members, generations, lag. */
#include "members_fixture.h"

#include "broker/group.h"

static char *metrics_of(struct mx *x)
{
    static char text[1 << 20];
    struct buf o;

    buf_init(&o, sizeof text - 1);
    assert_int_equal(group_metrics(x->f.b, &o), ERR_OK);
    memcpy(text, o.ptr, o.len);
    text[o.len] = 0;
    buf_fini(&o);
    return text;
}

#define assert_line(x, line)                                   \
    do {                                                       \
        if (!strstr(metrics_of(x), "\n" line "\n"))            \
            fail_msg("%s is not in\n%s", line, metrics_of(x)); \
    } while (0)

static void offset_put(struct mx *x, const char *group, struct topic *t, int32_t part, int64_t at)
{
    assert_int_equal(
        group_commit_wait(x->f.b, slice_str(group), topic_partition(t, part), at, SLICE_NULL, NULL),
        ERR_OK);
}

static void on_pulse(void *arg, const struct group_consumer_result *r)
{
    *(enum err *)arg = r->e;
}

static void consumer_in(struct mx *x, struct slice group, struct slice topic)
{
    struct group_topic_partitions none = {.n = 0};
    struct group_consumer_heartbeat h = {.group = group,
                                         .member_id = SLICE_LIT("m"),
                                         .client_id = SLICE_LIT("client"),
                                         .client_host = SLICE_LIT("host"),
                                         .rebalance_timeout_ms = REBALANCE_MS,
                                         .owned = &none,
                                         .topics = &topic,
                                         .topics_n = 1};
    struct group_wait w = {0};
    enum err e = ERR_AGAIN;

    group_consumer_heartbeat(x->f.b, &h, x->now, &w, on_pulse, &e);
    broker_step(x->f.b);
    assert_int_equal(e, ERR_OK);
}

static void test_kinds_and_states(void **state)
{
    struct client c[2];
    struct topic *t;
    enum err e;
    struct mx x;

    mx_start(&x);
    assert_line(&x, "weir_groups{kind=\"classic\",state=\"Stable\"} 0");
    assert_line(&x, "weir_groups{kind=\"share\",state=\"Empty\"} 0");
    assert_null(strstr(metrics_of(&x), "Dead"));
    t = fx_topic(&x.f, "t", 4);
    c[0] = client_of(&x, "g");
    c[1] = client_of(&x, "g");
    group_stable(&x, c, 2);
    offset_put(&x, "solo", t, 0, 0);
    consumer_in(&x, SLICE_LIT("h"), SLICE_LIT("t"));
    assert_line(&x, "weir_groups{kind=\"classic\",state=\"Stable\"} 1");
    assert_line(&x, "weir_groups{kind=\"classic\",state=\"Empty\"} 1");
    assert_line(&x, "weir_groups{kind=\"consumer\",state=\"Stable\"} 1");
    assert_line(&x, "weir_groups{kind=\"consumer\",state=\"Empty\"} 0");
    assert_line(&x, "weir_group_members{kind=\"classic\"} 2");
    assert_line(&x, "weir_group_members{kind=\"consumer\"} 1");
    assert_line(&x, "weir_group_members{kind=\"share\"} 0");
    assert_line(&x, "weir_group_rebalances_total{kind=\"classic\"} 2");
    assert_line(&x, "weir_group_rebalances_total{kind=\"consumer\"} 1");
    assert_int_equal(leave(&c[1]), ERR_OK);
    assert_line(&x, "weir_groups{kind=\"classic\",state=\"PreparingRebalance\"} 1");
    join(&c[0]);
    assert_line(&x, "weir_groups{kind=\"classic\",state=\"CompletingRebalance\"} 1");
    assert_line(&x, "weir_group_members{kind=\"classic\"} 1");
    assert_line(&x, "weir_group_rebalances_total{kind=\"classic\"} 3");
    /* members are gone with the broker, groups are not; counting begins anew */
    topic_unref(&t);
    fx_crash(&x.f);
    assert_line(&x, "weir_groups{kind=\"classic\",state=\"Empty\"} 2");
    assert_line(&x, "weir_groups{kind=\"consumer\",state=\"Empty\"} 1");
    assert_line(&x, "weir_group_members{kind=\"classic\"} 0");
    assert_line(&x, "weir_group_rebalances_total{kind=\"classic\"} 0");
    fx_checkpoint(&x.f);
    fx_crash(&x.f);
    assert_line(&x, "weir_groups{kind=\"consumer\",state=\"Empty\"} 1");
    assert_int_equal(group_delete(x.f.b, SLICE_LIT("h"), NULL, NULL, NULL), ERR_OK);
    broker_step(x.f.b);
    assert_line(&x, "weir_groups{kind=\"consumer\",state=\"Empty\"} 0");
    e = group_delete(x.f.b, SLICE_LIT("solo"), NULL, NULL, NULL);
    assert_int_equal(e, ERR_OK);
    broker_step(x.f.b);
    assert_line(&x, "weir_groups{kind=\"classic\",state=\"Empty\"} 1");
    mx_end(&x);
}

static void test_lag(void **state)
{
    unsigned i, n = 0;
    struct topic *t;
    char name[16];
    struct mx x;
    char *at;

    mx_start(&x);
    t = fx_topic(&x.f, "t", 2);
    for (i = 0; i < 5; i++)
        fx_put(&x.f, t, 0, NULL, "v", NULL);
    fx_put(&x.f, t, 1, NULL, "v", NULL);
    offset_put(&x, "a\"b\\c\nd", t, 0, 2);
    offset_put(&x, "ahead", t, 0, 9);
    offset_put(&x, "both", t, 0, 1);
    offset_put(&x, "both", t, 1, 0);
    offset_put(&x, "\xff", t, 1, 0); /* not text: left out */
    assert_line(&x, "weir_group_lag_records{group=\"a\\\"b\\\\c\\nd\"} 3");
    assert_line(&x, "weir_group_lag_records{group=\"ahead\"} 0");
    assert_line(&x, "weir_group_lag_records{group=\"both\"} 5");
    assert_null(strchr(metrics_of(&x), '\xff'));
    for (i = 0; i < LIMIT_METRIC_GROUPS + 50; i++) {
        snprintf(name, sizeof name, "n%06u", i);
        assert_int_equal(group_commit(x.f.b, slice_str(name), topic_partition(t, 0), 0, SLICE_NULL,
                                      NULL, NULL, NULL),
                         ERR_OK);
    }
    broker_step(x.f.b);
    for (at = metrics_of(&x); (at = strstr(at, "\nweir_group_lag_records{")); at++)
        n++;
    assert_int_equal(n, LIMIT_METRIC_GROUPS);
    topic_unref(&t);
    assert_int_equal(topic_delete_wait(x.f.b, SLICE_LIT("t"), NULL), ERR_OK);
    assert_null(strstr(metrics_of(&x), "group=")); /* of no topic */
    mx_end(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds_and_states),
        cmocka_unit_test(test_lag),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
