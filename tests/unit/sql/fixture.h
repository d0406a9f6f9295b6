/* For the tests of src/sql: a broker in a folder of its own with sql over it, and queries whose
 * answers are lines of text: values separated by '|', NULL as ~. Where DuckDB's library cannot be
 * had, tests that need it are skipped and say so. */
#ifndef WEIR_TEST_SQL_FIXTURE_H
#define WEIR_TEST_SQL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "io/io.h"
#include "io/thread.h"
#include "journal/batch.h"
#include "journal/journal.h"
#include "sql/sql.h"

struct fx {
    char dir[64];
    struct broker *b;
    struct sql *sql;
};

static inline void fx_broker_open(struct fx *f)
{
    struct broker_conf c = {
        .dir = f->dir,
        .io = io_real(),
        .threads = true,
        .journal_file_bytes = 8u << 20,
        .retention_ms_default = -1, /* records of tests are old */
    };
    struct errinfo info;

    if (broker_open(&c, &f->b, &info))
        fail_msg("%s", info.text);
}

static inline void fx_start_with(struct fx *f, struct sql_conf *conf)
{
    struct errinfo info;

    memset(f, 0, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/weir-sql-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    fx_broker_open(f);
    conf->broker = f->b;
    conf->foreground = true; /* the machine may be busy with other tests */
    assert_int_equal(sql_open(conf, &f->sql, &info), ERR_OK);
    if (sql_library_check(f->sql, &info)) {
        print_message("skipped: %s\n", info.text);
        skip();
    }
}

static inline void fx_start(struct fx *f)
{
    struct sql_conf conf = {.threads = 2};

    fx_start_with(f, &conf);
}

static inline void fx_end(struct fx *f)
{
    char cmd[128];

    sql_close(&f->sql);
    broker_close(&f->b);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", f->dir);
    assert_int_equal(system(cmd), 0);
}

static inline struct topic *fx_topic(struct fx *f, const char *name, int partitions)
{
    struct topic_conf conf;
    struct errinfo info;
    struct topic *t;

    topic_conf_default(f->b, &conf);
    conf.retention_ms = -1; /* records here are of 2023 */
    if (topic_create_wait(f->b, slice_str(name), partitions, &conf, &info))
        fail_msg("%s", info.text);
    t = topic_find(f->b, slice_str(name));
    assert_non_null(t);
    return t;
}

/* One record; partition -1: by key. */
static inline void fx_put_full(struct fx *f, struct topic *t, int partition, int64_t ts,
                               struct slice key, struct slice value, const struct record_header *h,
                               unsigned n)
{
    struct append *a = append_new(f->b, NULL, NULL);
    struct append_record r = {
        .timestamp_ms = ts, .key = key, .value = value, .headers = h, .headers_n = n};
    struct append_slot slot;
    struct errinfo info;

    if (append_record(a, t, partition, &r, &slot, &info) || append_submit_wait(a, &info))
        fail_msg("%s", info.text);
    append_free(&a);
}

static inline void fx_put(struct fx *f, struct topic *t, int partition, const char *key,
                          const char *value)
{
    fx_put_full(f, t, partition, -1, slice_str(key), slice_str(value), NULL, 0);
}

/* n records in batches of `each`, value from a format with one int64. */
static inline void fx_fill(struct fx *f, struct topic *t, int partition, int64_t n, int each,
                           const char *format)
{
    char value[512], key[32];
    int64_t i = 0;

    while (i < n) {
        struct append *a = append_new(f->b, NULL, NULL);
        int64_t end = i + each < n ? i + each : n;
        struct errinfo info;

        for (; i < end; i++) {
            struct append_record r = {.timestamp_ms = 1700000000000 + i};
            struct append_slot slot;

            snprintf(value, sizeof value, format, (long long)i);
            snprintf(key, sizeof key, "k%lld", (long long)(i % 100));
            r.key = slice_str(key);
            r.value = slice_str(value);
            if (append_record(a, t, partition, &r, &slot, &info))
                fail_msg("%s", info.text);
        }
        if (append_submit_wait(a, &info))
            fail_msg("%s", info.text);
        append_free(&a);
    }
}

/* ---- queries ---- */

struct answer {
    struct io_mutex lock;
    struct io_cond cond;
    bool done, json;
    struct buf head, rows, error, hint, types;
    enum err code;
    char sqlstate[6];
    uint32_t position;
    struct sql_stats stats;
    const char *deny; /* topic that may not be read */
};

static inline bool answer_columns(void *arg, struct sql_query *q, const struct sql_columns *c)
{
    struct answer *a = arg;
    uint32_t i;

    for (i = 0; i < c->n; i++) {
        buf_printf(&a->head, "%s%s", i ? "|" : "", c->name[i]);
        buf_append_str(&a->types, i ? "|" : "");
        sql_type_name(&c->type[i], &a->types);
    }
    return true;
}

static inline bool answer_chunk(void *arg, struct sql_query *q, const struct sql_chunk *c)
{
    struct answer *a = arg;
    uint32_t i, k;

    for (i = 0; i < c->rows; i++) {
        for (k = 0; k < c->columns_n; k++) {
            if (k)
                buf_append_u8(&a->rows, '|');
            if (a->json)
                sql_value_json(&c->column[k], i, &a->rows);
            else if (!sql_valid(&c->column[k], i))
                buf_append_u8(&a->rows, '~');
            else
                sql_value_text(&c->column[k], i, &a->rows);
        }
        buf_append_u8(&a->rows, '\n');
    }
    return true;
}

static inline void answer_done(void *arg, struct sql_query *q, const struct sql_error *e,
                               const struct sql_stats *stats)
{
    struct answer *a = arg;

    io_mutex_lock(&a->lock);
    if (e) {
        a->code = e->code;
        a->position = e->position;
        memcpy(a->sqlstate, e->sqlstate, sizeof a->sqlstate);
        buf_append_str(&a->error, e->message);
        if (e->hint)
            buf_append_str(&a->hint, e->hint);
    }
    a->stats = *stats;
    a->done = true;
    io_cond_signal(&a->cond);
    io_mutex_unlock(&a->lock);
}

static inline bool answer_allowed(void *arg, struct slice topic)
{
    struct answer *a = arg;

    return !a->deny || !slice_eq_str(topic, a->deny);
}

static inline void answer_init(struct answer *a)
{
    memset(a, 0, sizeof *a);
    io_mutex_init(&a->lock);
    io_cond_init(&a->cond);
    buf_init(&a->head, 1u << 20);
    buf_init(&a->types, 1u << 20);
    buf_init(&a->rows, 64u << 20);
    buf_init(&a->error, 1u << 20);
    buf_init(&a->hint, 1u << 20);
}

static inline void answer_fini(struct answer *a)
{
    buf_fini(&a->head);
    buf_fini(&a->types);
    buf_fini(&a->rows);
    buf_fini(&a->error);
    buf_fini(&a->hint);
    io_mutex_fini(&a->lock);
    io_cond_fini(&a->cond);
}

static const struct sql_sink answer_sink = {answer_columns, answer_chunk, answer_done};

static inline void answer_wait(struct answer *a)
{
    io_mutex_lock(&a->lock);
    while (!a->done)
        io_cond_wait(&a->cond, &a->lock);
    io_mutex_unlock(&a->lock);
}

/* rq's sink and arg are set here. */
static inline void fx_ask(struct fx *f, struct sql_request *rq, struct answer *a)
{
    struct errinfo info;

    rq->sink = &answer_sink;
    rq->arg = a;
    if (sql_run(f->sql, rq, NULL, &info))
        fail_msg("%s", info.text);
    answer_wait(a);
}

static inline const char *text_of(struct buf *b)
{
    buf_append_u8(b, 0);
    return (const char *)b->ptr;
}

/* The query's rows are exactly these, also when it is asked again, which takes another way: trees.h. */
static inline void fx_expect(struct fx *f, const char *text, const char *rows)
{
    struct sql_request rq = {.text = slice_str(text)};
    struct answer a;
    int i;

    for (i = 0; i < 2; i++) {
        answer_init(&a);
        fx_ask(f, &rq, &a);
        if (a.code)
            fail_msg("%s: %s", text, text_of(&a.error));
        if (strcmp(text_of(&a.rows), rows) != 0)
            fail_msg("%s:\n%s\ninstead of\n%s", text, (char *)a.rows.ptr, rows);
        answer_fini(&a);
    }
}

/* The query fails with this error, and its message or hint has `word`. */
static inline void fx_refused(struct fx *f, const char *text, enum err code, const char *word)
{
    struct sql_request rq = {.text = slice_str(text)};
    struct answer a;

    answer_init(&a);
    fx_ask(f, &rq, &a);
    text_of(&a.error);
    text_of(&a.hint);
    if (a.code != code)
        fail_msg("%s: %s (%s) instead of %s", text, err_code(a.code), (char *)a.error.ptr,
                 err_code(code));
    if (!strstr((char *)a.error.ptr, word) && !strstr((char *)a.hint.ptr, word))
        fail_msg("%s: neither \"%s\" nor \"%s\" has \"%s\"", text, (char *)a.error.ptr,
                 (char *)a.hint.ptr, word);
    answer_fini(&a);
}

#endif
