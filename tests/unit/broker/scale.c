/* 100,000 idle topics: memory of each, time to open. Prints the figures; the bounds are those of
 * the project's budget, with room for a slow machine. */
#include "fixture.h"

#include "broker/broker_int.h"

#define TOPICS 100000

static long rss_kib(void)
{
    char line[128];
    long kib = 0;
    FILE *fp = fopen("/proc/self/status", "r");

    assert_non_null(fp);
    while (fgets(line, sizeof line, fp))
        sscanf(line, "VmRSS: %ld", &kib);
    fclose(fp);
    return kib;
}

static void ignore(void *arg, enum err e, const struct errinfo *info)
{
    if (e)
        ++*(int *)arg;
}

static double seconds(uint64_t since)
{
    return (double)(io_mono_ns(io_real()) - since) / 1e9;
}

/* Of this process: what others do on the machine does not count. */
static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void test_topics(void **state)
{
    double made, saved, opened, cpu;
    long before, after;
    int i, failed = 0;
    struct topic *t;
    struct reader *r;
    char name[32];
    uint64_t at;
    struct fx f;

    fx_start(&f, false);
    broker_close(&f.b);
    f.conf.journal_file_bytes = 64u << 20;
    fx_open(&f);
    at = io_mono_ns(io_real());
    for (i = 0; i < TOPICS; i++) {
        snprintf(name, sizeof name, "topic-%d.events", i);
        assert_int_equal(topic_create(f.b, slice_str(name), 1, NULL, ignore, &failed, NULL),
                         ERR_OK);
        if (i % 1000 == 999)
            broker_step(f.b);
    }
    broker_step(f.b);
    made = seconds(at);
    assert_int_equal(failed, 0);
    assert_int_equal(topic_count(f.b), TOPICS);
    at = io_mono_ns(io_real());
    fx_checkpoint(&f);
    saved = seconds(at);
    t = topic_find(f.b, SLICE_LIT("topic-77777.events"));
    fx_put(&f, t, 0, NULL, "x", NULL);
    topic_unref(&t);
    broker_close(&f.b);
    before = rss_kib();
    at = io_mono_ns(io_real());
    cpu = cpu_seconds();
    fx_open(&f);
    cpu = cpu_seconds() - cpu;
    opened = seconds(at);
    after = rss_kib();
    assert_int_equal(topic_count(f.b), TOPICS);
    print_message("100,000 topics: made %.2f s, checkpoint %.2f s, open %.2f s (%.2f s of CPU)\n",
                  made, saved, opened, cpu);
    print_message("memory: RSS grew by %.0f bytes a topic (the heap was warm)\n",
                  (double)(after - before) * 1024 / TOPICS);
    print_message("RSS in all: %ld KiB, %.0f bytes a topic\n", after,
                  (double)after * 1024 / TOPICS);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they take their own */
    assert_true(cpu < 3.0);
    assert_true(after * 1024 / TOPICS < 4096);
#endif
    at = io_mono_ns(io_real());
    r = fx_reader(&f, "topic-7*", READ_FROM_START, 0);
    assert_next(r, "x");
    assert_drained(r);
    print_message("reader over 11,111 topics: open and drain %.3f s\n", seconds(at));
    reader_close(&r);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_topics)};

    return cmocka_run_group_tests_name("broker/scale", tests, NULL, NULL);
}
