/* A broker and a lake on a folder of their own, a topic, its records and jobs: what tests of the lake's
 * writer share. Who includes it defines parquet_of. */
#ifndef WEIR_TESTS_UNIT_LAKE_FIXTURE_H
#define WEIR_TESTS_UNIT_LAKE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "broker/broker.h"
#include "io/io.h"
#include "io/thread.h"
#include "journal/batch.h"
#include "journal/journal.h"
#include "lake/lake.h"

#define TOPIC "orders"

struct fx {
    struct broker *b;
    struct lake *l;
    char dir[64], data[80], url[100], tmp[100];
    _Atomic unsigned fail_writes; /* so many writes of files fail */
    _Atomic unsigned writes, rewrites;
};

/* What stands in for Parquet. */
static struct lake_parquet parquet_of(struct fx *f);

/* ---- fixture ---- */

static uint64_t fx_merge_bytes; /* of the lakes that are opened */

static void fx_open(struct fx *f)
{
    struct broker_conf bc = {
        .dir = f->data, .io = io_real(), .threads = true, .journal_file_bytes = 4u << 20};
    struct lake_conf lc = {.store = {.url = f->url},
                           .dir = f->tmp,
                           .namespace_ = "weir",
                           .orphan_age_ms = 1,
                           .merge_bytes = fx_merge_bytes,
                           .parquet = parquet_of(f)};
    struct errinfo info = {0};

    if (broker_open(&bc, &f->b, &info))
        fail_msg("%s", info.text);
    lc.broker = f->b;
    if (lake_open(&lc, &f->l, &info))
        fail_msg("%s", info.text);
}

static void fx_close(struct fx *f)
{
    lake_close(&f->l);
    broker_close(&f->b);
}

static int setup(void **state)
{
    struct fx *f = xcalloc(1, sizeof *f);

    snprintf(f->dir, sizeof f->dir, "/tmp/weir-lake-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->data, sizeof f->data, "%s/data", f->dir);
    snprintf(f->tmp, sizeof f->tmp, "%s/tmp", f->dir);
    snprintf(f->url, sizeof f->url, "file://%s/lake", f->dir);
    fx_open(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fx *f = *state;
    char command[128];
    int rc;

    fx_close(f);
    snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    rc = system(command);
    free(f);
    return rc;
}

/* With settings beside lake.enable: names and values, then NULL. */
static void topic_make_with(struct fx *f, int32_t partitions, const char *const *settings)
{
    struct errinfo info = {0};
    struct topic_conf c;

    topic_conf_default(f->b, &c);
    assert_int_equal(topic_conf_set(&c, SLICE_LIT("lake.enable"), SLICE_LIT("true"), &info), 0);
    for (; *settings; settings += 2)
        assert_int_equal(topic_conf_set(&c, slice_str(settings[0]), slice_str(settings[1]), &info),
                         0);
    if (topic_create_wait(f->b, SLICE_LIT(TOPIC), partitions, &c, &info))
        fail_msg("%s", info.text);
}

static void topic_make(struct fx *f, int32_t partitions, const char *setting, const char *value)
{
    topic_make_with(f, partitions, (const char *[]){setting, value, NULL});
}

static void put_at(struct fx *f, int32_t partition, int64_t ms, const char *value, unsigned times)
{
    struct topic *t = topic_find(f->b, SLICE_LIT(TOPIC));
    struct append *a = append_new(f->b, NULL, NULL);
    struct append_record r = {.timestamp_ms = ms, .value = slice_str(value)};
    struct append_slot slot;
    struct errinfo info = {0};

    while (times--)
        assert_int_equal(append_record(a, t, partition, &r, &slot, &info), ERR_OK);
    assert_int_equal(append_submit_wait(a, &info), ERR_OK);
    append_free(&a);
    topic_unref(&t);
}

static json_t *status(struct fx *f)
{
    struct errinfo info = {0};
    struct buf b;
    json_t *j;

    buf_init(&b, 1u << 20);
    if (lake_status(f->l, SLICE_LIT(TOPIC), &b, &info))
        fail_msg("%s", info.text);
    j = json_loadb((const char *)b.ptr, b.len, 0, NULL);
    assert_non_null(j);
    buf_fini(&b);
    return j;
}

/* Asks for the job and waits; the outcome's code. */
static void job(struct fx *f, enum lake_job job, const char *name, char outcome[64])
{
    const struct timespec nap = {0, 2000000};
    struct errinfo info = {0};
    uint64_t ticket = 0;
    bool over = false;

    if (lake_request(f->l, SLICE_LIT(TOPIC), job, &ticket, &info))
        fail_msg("%s", info.text);
    while (!over) {
        json_t *j = status(f), *s = json_object_get(json_object_get(j, "jobs"), name);

        over = (uint64_t)json_integer_value(json_object_get(s, "done")) >= ticket;
        snprintf(outcome, 64, "%s", json_string_value(json_object_get(s, "outcome")));
        json_decref(j);
        nanosleep(&nap, NULL);
    }
}

static void job_fine(struct fx *f, enum lake_job which, const char *name)
{
    char outcome[64];

    job(f, which, name, outcome);
    if (strcmp(outcome, "ok") != 0) {
        json_t *j = status(f);

        fail_msg("%s: %s: %s", name, outcome, json_string_value(json_object_get(j, "message")));
    }
}

#endif
