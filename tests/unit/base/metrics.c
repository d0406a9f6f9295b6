/* Metrics: counting by threads, buckets, the text form. */
#include "base/metrics.h"

#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define THREADS 4
#define ADDS    100000

static const struct metric_desc requests = {"weir_requests_total", "requests", "Requests answered"};
static const struct metric_desc open_now = {"weir_open", "", "Open now"};
static const struct metric_desc took = {"weir_took_seconds", "seconds", "Time taken"};

static char *render(struct metrics *m)
{
    struct buf b;
    size_t n;

    buf_init(&b, 1 << 20);
    assert_int_equal(metrics_render(m, &b), ERR_OK);
    assert_int_equal(buf_append_u8(&b, 0), ERR_OK);
    return (char *)buf_take(&b, &n);
}

static void has(const char *text, const char *want)
{
    if (!strstr(text, want))
        fail_msg("%s\nis not in\n%s", want, text);
}

struct shared {
    struct metrics *m;
    struct histogram *h;
};

/* Each thread finds the metric itself: the first makes it. */
static void *adds(void *arg)
{
    struct shared *s = arg;
    struct counter *c = metrics_counter(s->m, &requests, &(struct metric_label){"code", "200"}, 1);
    int i;

    for (i = 0; i < ADDS; i++) {
        counter_add(c, 3);
        histogram_add(s->h, 1000);
    }
    return NULL;
}

static void threads_add_up(void **state)
{
    struct shared s = {metrics_new(), NULL};
    pthread_t t[THREADS];
    struct counter *c;
    char *text;
    int i;

    s.h = metrics_histogram_ns(s.m, &took, NULL, 0);
    for (i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, adds, &s), 0);
    free(render(s.m));
    for (i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    c = metrics_counter(s.m, &requests, &(struct metric_label){"code", "200"}, 1);
    assert_int_equal(counter_get(c), 3 * THREADS * ADDS);
    text = render(s.m);
    has(text, "weir_requests_total{code=\"200\"} 1200000\n");
    has(text, "weir_took_seconds_count 400000\n");
    has(text, "weir_took_seconds_sum 0.4\n");
    free(text);
    metrics_free(&s.m);
    assert_null(s.m);
}

static void text_form(void **state)
{
    struct metrics *m = metrics_new();
    struct gauge *g = metrics_gauge(m, &open_now, NULL, 0);
    struct counter *a, *b;
    char *text;

    b = metrics_counter(m, &requests, &(struct metric_label){"path", "b\"\\\n"}, 1);
    a = metrics_counter(m, &requests, (struct metric_label[]){{"path", "a"}, {"code", "404"}}, 2);
    assert_ptr_not_equal(a, b);
    assert_ptr_equal(
        a,
        metrics_counter(m, &requests, (struct metric_label[]){{"path", "a"}, {"code", "404"}}, 2));
    gauge_set(g, 5);
    gauge_add(g, -12);
    counter_add(b, 1);
    text = render(m);
    assert_string_equal(text, "# HELP weir_open Open now\n"
                              "# TYPE weir_open gauge\n"
                              "weir_open -7\n"
                              "# HELP weir_requests_total Requests answered (requests)\n"
                              "# TYPE weir_requests_total counter\n"
                              "weir_requests_total{path=\"a\",code=\"404\"} 0\n"
                              "weir_requests_total{path=\"b\\\"\\\\\\n\"} 1\n");
    free(text);
    metrics_free(&m);
}

static void buckets(void **state)
{
    struct metrics *m = metrics_new();
    struct histogram *h =
        metrics_histogram(m, &took, &(struct metric_label){"op", "x"}, 1, 0.5, 1, 5);
    char *text;

    /* Bounds 2 3 4 6 8, shown halved. */
    assert_int_equal(histogram_bucket(h, 0), 0);
    assert_int_equal(histogram_bucket(h, 2), 0);
    assert_int_equal(histogram_bucket(h, 3), 1);
    assert_int_equal(histogram_bucket(h, 4), 2);
    assert_int_equal(histogram_bucket(h, 5), 3);
    assert_int_equal(histogram_bucket(h, 6), 3);
    assert_int_equal(histogram_bucket(h, 7), 4);
    assert_int_equal(histogram_bucket(h, 8), 4);
    assert_int_equal(histogram_bucket(h, 9), 5);
    assert_int_equal(histogram_bucket(h, UINT64_MAX), 5);
    assert_true(histogram_quantile(h, 0.5) == 0);
    histogram_add(h, 1);
    histogram_add(h, 3);
    histogram_add(h, 6);
    histogram_add(h, 100);
    text = render(m);
    has(text, "weir_took_seconds_bucket{op=\"x\",le=\"1\"} 1\n"
              "weir_took_seconds_bucket{op=\"x\",le=\"1.5\"} 2\n"
              "weir_took_seconds_bucket{op=\"x\",le=\"2\"} 2\n"
              "weir_took_seconds_bucket{op=\"x\",le=\"3\"} 3\n"
              "weir_took_seconds_bucket{op=\"x\",le=\"4\"} 3\n"
              "weir_took_seconds_bucket{op=\"x\",le=\"+Inf\"} 4\n"
              "weir_took_seconds_sum{op=\"x\"} 55\n"
              "weir_took_seconds_count{op=\"x\"} 4\n");
    free(text);
    assert_true(histogram_quantile(h, 0.25) == 3);
    assert_true(histogram_quantile(h, 0.5) == 6);
    assert_true(histogram_quantile(h, 1) == UINT64_MAX);
    metrics_free(&m);
}

/* Every raw value falls into the first bucket whose bound, as rendered, is not below it. */
static void bounds_match(void **state)
{
    struct metrics *m = metrics_new();
    struct histogram *h = metrics_histogram(m, &took, NULL, 0, 1, 10, 52);
    uint64_t v;
    unsigned i, k;

    for (v = 1; v < 1ull << 40; v = v * 17 / 16 + 1) {
        uint64_t bound;

        i = histogram_bucket(h, v);
        for (k = 0; k < 52; k++) {
            bound = (1ull << (10 + k / 2)) * (k & 1 ? 3 : 2) / 2;
            if (v <= bound)
                break;
        }
        assert_int_equal(i, k);
    }
    metrics_free(&m);
}

static double third(void *arg)
{
    return *(double *)arg;
}

static void doubles(void **state)
{
    static const struct {
        double v;
        const char *text;
    } rows[] = {{0, "0"},
                {1e15, "1000000000000000"},
                {0.25, "0.25"},
                {-1.5, "-1.5"},
                {1.024e-6, "0.000001024"},
                {0.001, "0.001"},
                {123456.789, "123456.789"},
                {1e-12, "1e-12"},
                {1e20, "1e20"},
                {1.0 / 3, "0.333333333"}};
    struct metric_desc d = {"weir_x", "", "x"};
    char want[100], *text;
    size_t i;

    /* A host program's decimal comma must not show. Not every machine has this locale. */
    setlocale(LC_ALL, "de_DE.UTF-8");
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct metrics *m = metrics_new();
        double v = rows[i].v;

        metrics_gauge_fn(m, &d, NULL, 0, third, &v);
        text = render(m);
        snprintf(want, sizeof want, "# TYPE weir_x gauge\nweir_x %s\n", rows[i].text);
        has(text, want);
        free(text);
        metrics_free(&m);
    }
    setlocale(LC_ALL, "C");
}

static enum err collect(void *arg, struct buf *out)
{
    static const struct metric_desc d = {"weir_topic_bytes", "bytes", "Bytes"};
    enum err e = metrics_head(out, &d, "gauge");

    return e ? e : metrics_sample(out, &d, &(struct metric_label){"topic", arg}, 1, 12);
}

static void collectors(void **state)
{
    struct metrics *m = metrics_new();
    struct buf small;
    char *text;

    metrics_collector(m, collect, "orders");
    text = render(m);
    assert_string_equal(text, "# HELP weir_topic_bytes Bytes (bytes)\n"
                              "# TYPE weir_topic_bytes gauge\n"
                              "weir_topic_bytes{topic=\"orders\"} 12\n");
    free(text);
    buf_init(&small, 60);
    assert_int_equal(metrics_render(m, &small), ERR_TOO_LARGE);
    buf_fini(&small);
    metrics_free(&m);
}

static void series_are_bounded(void **state)
{
    struct metrics *m = metrics_new();
    struct counter *c = NULL;
    char value[16], *text;
    unsigned i;

    for (i = 0; i < METRIC_SERIES_MAX + 10; i++) {
        snprintf(value, sizeof value, "%u", i);
        c = metrics_counter(m, &requests, &(struct metric_label){"id", value}, 1);
        counter_add(c, 1);
    }
    text = render(m);
    has(text, "weir_requests_total{id=\"4095\"} 1\n");
    assert_null(strstr(text, "id=\"4096\""));
    has(text, "weir_metrics_dropped 10\n");
    assert_int_equal(counter_get(c), 10);
    free(text);
    metrics_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_add_up),
        cmocka_unit_test(text_form),
        cmocka_unit_test(buckets),
        cmocka_unit_test(bounds_match),
        cmocka_unit_test(doubles),
        cmocka_unit_test(collectors),
        cmocka_unit_test(series_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
