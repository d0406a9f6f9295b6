/* How fast the background compacts: fills a topic, waits until it is in sealed files, compacts it.
 *
 *   bench-compaction [--dir DIR] [--mb MB]
 *
 * Prints, for records of 100 bytes and of 1 KiB, a fifth of which stay: MB/s of what was compacted
 * (one read for the map of keys, one for the copy), and records/s. One thread, no other load. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/broker.h"
#include "choice.h"
#include "io/io.h"
#include "journal/compact.h"

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(enum err e, const struct errinfo *info)
{
    if (e) {
        fprintf(stderr, "%s: %s\n", err_code(e), info->text);
        exit(1);
    }
}

/* Appends `bytes` of records with n keys in turn; units of 64 KiB. */
static uint64_t fill(struct broker *b, const char *topic, size_t size, uint64_t bytes, unsigned n)
{
    struct append *a = append_new(b, NULL, NULL);
    struct topic *t = topic_find(b, slice_str(topic));
    char key[16], *value = malloc(size);
    struct errinfo info = {0};
    uint64_t i, done = 0;

    for (i = 0; i < size; i++)
        value[i] = (char)(33 + i * i * 7 % 90);
    for (i = 0; done < bytes; i++) {
        struct append_record r = {.timestamp_ms = -1, .value = slice_of(value, size)};

        snprintf(key, sizeof key, "key-%u", (unsigned)(i % n));
        r.key = slice_str(key);
        must(append_record(a, t, 0, &r, NULL, &info), &info);
        if (append_bytes(a) < 65536)
            continue;
        done += append_bytes(a);
        must(append_submit_wait(a, &info), &info);
        append_reset(a);
    }
    append_free(&a);
    topic_unref(&t);
    free(value);
    return i;
}

static void background(struct broker *b)
{
    while (broker_background(b))
        broker_step(b);
}

static void compact(struct broker *b, size_t size, uint64_t bytes)
{
    unsigned keys = (unsigned)(bytes / (size + 20) / 5);
    struct compact_item item = {.newest_ms = INT64_MAX, .delete_retention_ms = 1};
    struct plog_compact_info before, after;
    struct errinfo info = {0};
    struct topic_conf c;
    struct topic *t;
    uint64_t records;
    char name[32];
    double took;

    snprintf(name, sizeof name, "t%zu", size);
    topic_conf_default(b, &c);
    c.cleanup = 0; /* compacted by hand below, not by the clock */
    must(topic_create_wait(b, slice_str(name), 1, &c, &info), &info);
    records = fill(b, name, size, bytes, keys);
    fill(b, "filler", 1000, 140u << 20, 1000);
    background(b);
    t = topic_find(b, slice_str(name));
    item.log = partition_log(topic_partition(t, 0));
    must(plog_compact_info_get(item.log, &before, &info), &info);
    took = now();
    journal_compact(broker_journal(b), &item, 1, journal_wall_ms(broker_journal(b)));
    while (journal_compacting(broker_journal(b)))
        broker_background(b);
    took = now() - took;
    must(plog_compact_info_get(item.log, &after, &info), &info);
    printf("%5zu-byte records  %7.0f MB to %4.0f MB in %5.2f s  %6.0f MB/s  %9.0f records/s\n",
           size, (double)before.dirty_bytes / 1e6, (double)after.clean_bytes / 1e6, took,
           (double)before.dirty_bytes / 1e6 / took, (double)records / took);
    topic_unref(&t);
}

int main(int argc, char **argv)
{
    struct broker_conf conf = {.dir = "/var/tmp/weir-bench-compaction", .io = io_real()};
    struct errinfo info = {0};
    uint32_t mb = 500;
    const struct choice choices[] = {{"--dir", CHOICE_TEXT, &conf.dir, 0, 0},
                                     {"--mb", CHOICE_COUNT, &mb, 1, 100000},
                                     {NULL, CHOICE_FLAG, NULL, 0, 0}};
    char cmd[600];
    struct broker *b;

    choices_read(argc, argv, 1, "how fast the background compacts", choices);
    must(broker_open(&conf, &b, &info), &info);
    must(topic_create_wait(b, SLICE_LIT("filler"), 1, NULL, &info), &info);
    compact(b, 100, (uint64_t)mb << 20);
    compact(b, 1024, (uint64_t)mb << 20);
    broker_close(&b);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", conf.dir);
    return system(cmd) == 0 ? 0 : 1;
}
