/* Shared by the broker's unit tests: a broker in a directory of its own, with or without threads,
 * that can be closed and opened again. */
#ifndef WEIR_TESTS_BROKER_FIXTURE_H
#define WEIR_TESTS_BROKER_FIXTURE_H

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
#include "broker/broker.h"
#include "io/io.h"
#include "journal/journal.h"

/* For threads other than the test's own, where cmocka's assertions cannot be used. */
#define MUST(x)                                                     \
    do {                                                            \
        if (!(x)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            abort();                                                \
        }                                                           \
    } while (0)

struct fx {
    struct broker *b;
    struct broker_conf conf;
    char dir[64];
};

static inline void fx_open(struct fx *f)
{
    struct errinfo info = {0};
    enum err e = broker_open(&f->conf, &f->b, &info);

    if (e)
        fail_msg("open: %s: %s", err_code(e), info.text);
}

static inline void fx_start(struct fx *f, bool threads)
{
    memset(f, 0, sizeof *f);
    strcpy(f->dir, "/tmp/weir-broker-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->conf =
        (struct broker_conf){.dir = f->dir,
                             .io = io_real(),
                             .threads = threads,
                             .journal_file_bytes = 4u << 20,
                             .retention_ms_default = threads ? -1 : 0, /* tests' records are old */
                             .topics_auto_create = true};
    fx_open(f);
}

static inline void fx_reopen(struct fx *f)
{
    broker_close(&f->b);
    fx_open(f);
}

/* As a crash: a copy of the files as they are now is opened; what only memory had is gone. */
static inline void fx_crash(struct fx *f)
{
    char cmd[256], to[64];

    strcpy(to, "/tmp/weir-broker-XXXXXX");
    assert_non_null(mkdtemp(to));
    snprintf(cmd, sizeof cmd, "cp -r --sparse=always %s/. %s && rm -f %s/lock", f->dir, to, to);
    assert_int_equal(system(cmd), 0);
    broker_close(&f->b);
    snprintf(cmd, sizeof cmd, "rm -rf %s", f->dir);
    assert_int_equal(system(cmd), 0);
    strcpy(f->dir, to);
    f->conf.dir = f->dir;
    fx_open(f);
}

static inline void fx_checkpoint(struct fx *f)
{
    struct errinfo info = {0};
    enum err e = journal_checkpoint(broker_journal(f->b), &info);

    if (e)
        fail_msg("checkpoint: %s", info.text);
}

static inline void fx_end(struct fx *f)
{
    char cmd[128];

    broker_close(&f->b);
    snprintf(cmd, sizeof cmd, "rm -rf %s", f->dir);
    assert_int_equal(system(cmd), 0);
}

static inline struct topic *fx_topic(struct fx *f, const char *name, int32_t partitions)
{
    struct errinfo info = {0};
    struct topic *t = topic_find(f->b, slice_str(name));
    enum err e;

    if (t)
        return t;
    e = topic_create_wait(f->b, slice_str(name), partitions, NULL, &info);
    if (e)
        fail_msg("create %s: %s", name, info.text);
    t = topic_find(f->b, slice_str(name));
    assert_non_null(t);
    return t;
}

static inline struct append_record rec_of(const char *key, const char *value, const char *id)
{
    return (struct append_record){.timestamp_ms = -1,
                                  .key = slice_str(key),
                                  .value = slice_str(value),
                                  .dedup_id = slice_str(id)};
}

/* Appends one record and waits. */
static inline struct append_place fx_put(struct fx *f, struct topic *t, int32_t partition,
                                         const char *key, const char *value, const char *id)
{
    struct append *a = append_new(f->b, NULL, NULL);
    struct append_record r = rec_of(key, value, id);
    struct append_place p = {0};
    struct append_slot slot;
    struct errinfo info = {0};

    assert_int_equal(append_record(a, t, partition, &r, &slot, &info), ERR_OK);
    if (append_submit_wait(a, &info))
        fail_msg("append: %s", info.text);
    assert_int_equal(append_place(a, slot, &p), ERR_OK);
    append_free(&a);
    return p;
}

static inline struct reader *fx_reader(struct fx *f, const char *selector, int from,
                                       uint64_t position)
{
    struct reader_conf c = {
        .selector = slice_str(selector), .partition = -1, .from = from, .position = position};
    struct errinfo info = {0};
    struct reader *r;

    if (reader_open(f->b, &c, &r, &info))
        fail_msg("reader %s: %s", selector, info.text);
    return r;
}

/* The next record's value equals text. */
#define assert_next(r, want_)                                                                      \
    do {                                                                                           \
        struct reader_record rec_;                                                                 \
        struct errinfo info_ = {0};                                                                \
        enum err e_ = reader_next(r, &rec_, &info_);                                               \
        if (e_)                                                                                    \
            fail_msg("%s:%d: wanted %s, got %s %s", __FILE__, __LINE__, want_, err_code(e_),       \
                     info_.text);                                                                  \
        if (!slice_eq_str(rec_.value, want_))                                                      \
            fail_msg("%s:%d: wanted %s, got %.*s", __FILE__, __LINE__, want_, (int)rec_.value.len, \
                     (const char *)rec_.value.ptr);                                                \
    } while (0)
#define assert_drained(r)                                         \
    do {                                                          \
        struct reader_record rec_;                                \
        assert_int_equal(reader_next(r, &rec_, NULL), ERR_AGAIN); \
        assert_false(reader_busy(r));                             \
    } while (0)

#endif
