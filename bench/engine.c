/* Measures the engine through the public C library, each figure beside the floor of the same
 * machine and run: plain O_DIRECT|O_DSYNC writes to a zero-written file in the same directory.
 * Medians of rounds.
 *
 *   bench-engine --dir DIR [--seconds N] [--rounds N] [--only NAME]
 *
 * NAME: lone, small, large, topics, idle, recovery. Everything in DIR/bench-* is removed at the
 * end. */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "choice.h"
#include "weir.h"

#define ROUNDS_MAX 15

static const char *dir = ".", *only;
static double seconds = 2;
static uint32_t rounds = 3;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, order);
    return v[n / 2];
}

static void path_of(char *out, const char *name)
{
    snprintf(out, 512, "%s/bench-%s", dir, name);
}

static void wipe(const char *path)
{
    char cmd[600];

    snprintf(cmd, sizeof cmd, "rm -rf '%s'", path);
    if (system(cmd))
        die(path, "cannot be removed");
}

static struct weir *fresh(const char *name, const struct weir_options *o)
{
    struct weir_error e;
    struct weir *w;
    char path[512];

    path_of(path, name);
    wipe(path);
    if (weir_open(path, o, &w, &e))
        die(path, e.text);
    return w;
}

static void gone(struct weir **w, const char *name)
{
    char path[512];

    path_of(path, name);
    weir_close(w);
    wipe(path);
}

/* ---- the floor ---- */

/* Bytes a second of sequential synced writes of `size` to a zero-written file, from a huge page as the
 * engine's are (for the disk a write is then one piece, not one for each 4 KiB); *p50: median seconds
 * of one. */
static double floor_of(size_t size, double *p50)
{
    size_t file = 256u << 20, n = 0, cap = 200000;
    double *took = calloc(cap, sizeof *took), start, t;
    char path[512];
    void *mem;
    int fd;

    path_of(path, "floor");
    mem = huge_new(HUGE_BYTES);
    if (!mem)
        die("memory", "none");
    memset(mem, 7, 1u << 20);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (size_t at = 0; at < file; at += 1u << 20)
        if (pwrite(fd, mem, 1u << 20, (off_t)at) < 0)
            die(path, "cannot be written");
    fsync(fd);
    close(fd);
    fd = open(path, O_RDWR | O_DIRECT | O_DSYNC);
    if (fd < 0)
        fd = open(path, O_RDWR | O_DSYNC);
    for (start = now(); now() - start < seconds && n < cap; n++) {
        t = now();
        if (pwrite(fd, mem, size, (off_t)(n * size % file)) < 0)
            die(path, "cannot be written");
        took[n] = now() - t;
    }
    t = now() - start;
    close(fd);
    unlink(path);
    huge_free(mem, HUGE_BYTES);
    *p50 = median(took, (int)n);
    free(took);
    return (double)n * (double)size / t;
}

/* ---- one append at a time ---- */

static void bench_lone(void)
{
    double floor[ROUNDS_MAX], ours[ROUNDS_MAX], p99[ROUNDS_MAX],
        *took = calloc(200000, sizeof *took);
    struct weir *w = fresh("lone", NULL);
    struct weir_record r = {.value = "0123456789012345678901234567890123456789", .value_len = 40};
    uint32_t i;
    int n;

    for (i = 0; i < rounds; i++) {
        double start = now();

        floor_of(4096, &floor[i]);
        start = now();
        for (n = 0; n < 200000 && now() - start < seconds; n++) {
            double t = now();

            if (weir_produce(w, "lone", &r, NULL, NULL))
                die("produce", "failed");
            took[n] = now() - t;
        }
        ours[i] = median(took, n);
        p99[i] = took[n * 99 / 100];
    }
    printf("lone durable append, 40 B        p50 %7.1f us  p99 %7.1f us   4 KiB synced write %7.1f "
           "us   ratio %.2f (at most 1.5)\n",
           median(ours, rounds) * 1e6, median(p99, rounds) * 1e6, median(floor, rounds) * 1e6,
           median(ours, rounds) / median(floor, rounds));
    gone(&w, "lone");
    free(took);
}

/* ---- many producers ---- */

struct load {
    struct weir *w;
    size_t size;
    double until;
    uint64_t sent;
    int topics, first;
    pthread_t thread;
};

static void *run_load(void *arg)
{
    struct load *l = arg;
    struct weir_producer_options po = {
        .size = sizeof po, .batch_bytes = 256u << 10, .buffer_bytes = 4u << 20};
    struct weir_producer **p = calloc((size_t)l->topics, sizeof *p);
    struct weir_record r = {0};
    struct weir_error e;
    char name[32], *value = malloc(l->size);
    int i;

    memset(value, 'x', l->size);
    r.value = value;
    r.value_len = l->size;
    r.timestamp_ms = 1700000000000;
    for (i = 0; i < l->topics; i++) {
        snprintf(name, sizeof name, "t%d", l->first + i);
        if (weir_producer_new(l->w, name, &po, &p[i], &e))
            die("producer", e.text);
    }
    while (now() < l->until)
        for (i = 0; i < 1000; i++, l->sent++)
            if (weir_producer_send(p[0], &r, NULL, NULL, &e))
                die("send", e.text);
    for (i = 0; i < l->topics; i++)
        if (weir_producer_close(&p[i], &e))
            die("close", e.text);
    free(p);
    free(value);
    return NULL;
}

/* Records a second, durable, from 16 producers with a topic each. */
static double many(struct weir *w, size_t size)
{
    struct load l[16];
    double start = now();
    uint64_t n = 0;
    int i;

    for (i = 0; i < 16; i++) {
        l[i] =
            (struct load){.w = w, .size = size, .until = start + seconds, .topics = 1, .first = i};
        pthread_create(&l[i].thread, NULL, run_load, &l[i]);
    }
    for (i = 0; i < 16; i++) {
        pthread_join(l[i].thread, NULL);
        n += l[i].sent;
    }
    return (double)n / (now() - start);
}

static void bench_many(const char *name, size_t size)
{
    static const struct weir_setting keep[] = {{"retention.bytes", "16777216"}};
    struct weir_error e;
    double rate[ROUNDS_MAX], floor[ROUNDS_MAX], ignored;
    struct weir *w = fresh(name, NULL);
    char topic[32];
    uint32_t i;

    for (i = 0; i < 16; i++) {
        snprintf(topic, sizeof topic, "t%u", i);
        if (weir_topic_create(w, topic, 1, keep, 1, &e))
            die("topic", e.text);
    }
    many(w, size); /* until retention recycles files */
    many(w, size);
    for (i = 0; i < rounds; i++) {
        rate[i] = many(w, size);
        floor[i] = floor_of(1u << 20, &ignored);
    }
    printf("durable append, %4zu B x 16        %10.0f records/s %8.0f MB/s   1 MiB synced writes "
           "%6.0f MB/s   ratio %.2f%s\n",
           size, median(rate, rounds), median(rate, rounds) * (double)size / 1e6,
           median(floor, rounds) / 1e6, median(rate, rounds) * (double)size / median(floor, rounds),
           size == 1024 ? " (at least 0.70)" : " (at least 1,000,000 records/s)");
    gone(&w, name);
}

/* ---- many topics ---- */

struct spread {
    struct weir *w;
    int topics, part;
    double until;
    uint64_t sent;
    pthread_t thread;
};

/* Units of 1,000 records of 100 bytes to one topic after another, each waited for. */
static void *run_spread(void *arg)
{
    struct spread *s = arg;
    struct weir_record *r = calloc(100, sizeof *r);
    struct weir_error e;
    char name[32], value[1000];
    int i, t = s->part;

    memset(value, 'y', sizeof value);
    for (i = 0; i < 100; i++) {
        r[i].value = value;
        r[i].value_len = sizeof value;
    }
    while (now() < s->until) {
        snprintf(name, sizeof name, "t%d", t);
        if (weir_produce_batch(s->w, name, r, 100, NULL, &e))
            die("produce", e.text);
        s->sent += 100;
        t = (t + 16) % s->topics;
    }
    free(r);
    return NULL;
}

static void bench_topics(void)
{
    int counts[] = {1, 1000, 10000}, c, i;
    uint32_t k;
    double base = 0, rate[ROUNDS_MAX];

    for (c = 0; c < 3; c++) {
        struct weir *w = fresh("topics", NULL);
        struct spread s[16];
        struct weir_error e;
        char name[32];

        for (i = 0; i < counts[c]; i++) {
            snprintf(name, sizeof name, "t%d", i);
            if (weir_topic_create(w, name, 1, NULL, 0, &e))
                die("topic", e.text);
        }
        for (k = 0; k < rounds; k++) {
            double start = now();
            uint64_t n = 0;

            for (i = 0; i < 16; i++) {
                s[i] = (struct spread){
                    .w = w, .topics = counts[c], .part = i % counts[c], .until = start + seconds};
                pthread_create(&s[i].thread, NULL, run_spread, &s[i]);
            }
            for (i = 0; i < 16; i++) {
                pthread_join(s[i].thread, NULL);
                n += s[i].sent;
            }
            rate[k] = (double)n / (now() - start);
        }
        if (c == 0)
            base = median(rate, rounds);
        printf("%6d topics, units of 100 x 1 KB  %10.0f records/s   against 1 topic %.2f (at least "
               "0.90)\n",
               counts[c], median(rate, rounds), median(rate, rounds) / base);
        gone(&w, "topics");
    }
}

/* ---- idle topics ---- */

static long rss_kb(void)
{
    char line[256];
    long kb = 0;
    FILE *f = fopen("/proc/self/status", "r");

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmRSS: %ld", &kb) == 1)
            break;
    if (f)
        fclose(f);
    return kb;
}

static void *run_create(void *arg)
{
    struct spread *s = arg;
    struct weir_error e;
    char name[32];
    int i;

    for (i = s->part; i < s->topics; i += 16) {
        snprintf(name, sizeof name, "topic-%d", i);
        if (weir_topic_create(s->w, name, 1, NULL, 0, &e))
            die("topic", e.text);
    }
    return NULL;
}

static void bench_idle(void)
{
    struct weir *w = fresh("idle", NULL);
    struct spread s[16];
    struct weir_error e;
    char path[512];
    double t;
    long before;
    int i, n = 100000;

    t = now();
    for (i = 0; i < 16; i++) {
        s[i] = (struct spread){.w = w, .topics = n, .part = i};
        pthread_create(&s[i].thread, NULL, run_create, &s[i]);
    }
    for (i = 0; i < 16; i++)
        pthread_join(s[i].thread, NULL);
    printf("100,000 topics made               %10.2f s\n", now() - t);
    weir_close(&w);
    path_of(path, "idle");
    fflush(stdout);
    if (fork() == 0) { /* a process of its own, so that memory is this open's */
        before = rss_kb();
        t = now();
        if (weir_open(path, NULL, &w, &e))
            die(path, e.text);
        t = now() - t;
        printf("100,000 idle topics               %10.0f bytes each (at most 4096)   open %.2f s "
               "(at most 2)\n",
               (double)(rss_kb() - before) * 1024 / n, t);
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    wipe(path);
}

/* ---- recovery ---- */

static void bench_recovery(void)
{
    char path[512], value[1000];
    struct weir_record r[100] = {{0}};
    struct weir_error e;
    struct weir *w;
    double t, took[ROUNDS_MAX];
    uint32_t k;
    int i;

    memset(value, 'z', sizeof value);
    for (i = 0; i < 100; i++) {
        r[i].value = value;
        r[i].value_len = sizeof value;
    }
    path_of(path, "recovery");
    for (k = 0; k < rounds; k++) {
        wipe(path);
        if (fork() == 0) { /* fills most of a journal file, then is gone without a word */
            if (weir_open(path, NULL, &w, &e))
                die(path, e.text);
            for (i = 0; i < 1220; i++)
                if (weir_produce_batch(w, "t", r, 100, NULL, &e))
                    die("produce", e.text);
            _exit(0);
        }
        wait(NULL);
        t = now();
        if (weir_open(path, NULL, &w, &e))
            die(path, e.text);
        took[k] = now() - t;
        weir_close(&w);
    }
    printf("open after kill, full journal     %10.0f ms (at most 1000)\n",
           median(took, rounds) * 1e3);
    t = now();
    wipe(path);
    for (k = 0; k < rounds; k++) {
        wipe(path);
        t = now();
        if (weir_open(path, NULL, &w, &e))
            die(path, e.text);
        took[k] = now() - t;
        weir_close(&w);
    }
    printf("open of a new directory           %10.1f ms\n", median(took, rounds) * 1e3);
    wipe(path);
}

static bool wanted(const char *name)
{
    return !only || strcmp(only, name) == 0;
}

static const struct choice choices[] = {{"--dir", CHOICE_TEXT, &dir, 0, 0},
                                        {"--seconds", CHOICE_NUMBER, &seconds, 0.01, 3600},
                                        {"--rounds", CHOICE_COUNT, &rounds, 1, ROUNDS_MAX},
                                        {"--only", CHOICE_TEXT, &only, 0, 0},
                                        {NULL, CHOICE_FLAG, NULL, 0, 0}};

int main(int argc, char **argv)
{
    choices_read(argc, argv, 1,
                 "the engine by the C library; --only lone, small, large, topics, idle or recovery",
                 choices);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (wanted("lone"))
        bench_lone();
    if (wanted("small"))
        bench_many("small", 100);
    if (wanted("large"))
        bench_many("large", 1024);
    if (wanted("topics"))
        bench_topics();
    if (wanted("idle"))
        bench_idle();
    if (wanted("recovery"))
        bench_recovery();
    return 0;
}
