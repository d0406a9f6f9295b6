/* Shared by the C library's unit tests: a log in a directory of its own that can be closed and
 * opened again. Nothing but weir.h is used, as a program outside would. */
#ifndef WEIR_TESTS_LIB_FIXTURE_H
#define WEIR_TESTS_LIB_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <weir.h>

/* For threads other than the test's own, where cmocka's assertions cannot be used. */
#define MUST(x)                                                     \
    do {                                                            \
        if (!(x)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            abort();                                                \
        }                                                           \
    } while (0)

/* The last error of OK and FAILS. */
static struct weir_error err;

/* call is one that takes &err. */
#define OK(call)                                                                              \
    do {                                                                                      \
        memset(&err, 0x55, sizeof err);                                                       \
        if ((call) != WEIR_OK)                                                                \
            fail_msg("%s:%d: %s: %s", __FILE__, __LINE__, weir_err_name(err.code), err.text); \
        assert_int_equal(err.code, WEIR_OK);                                                  \
        assert_int_equal(err.text[0], 0);                                                     \
    } while (0)
#define FAILS(want_, call)                                          \
    do {                                                            \
        memset(&err, 0x55, sizeof err);                             \
        assert_int_equal(call, want_);                              \
        assert_int_equal(err.code, want_);                          \
        assert_in_range(strlen(err.text), 3, 255); /* a sentence */ \
    } while (0)

struct fx {
    struct weir *w;
    struct weir_options o;
    char dir[64];
};

static inline void fx_open(struct fx *f)
{
    OK(weir_open(f->dir, &f->o, &f->w, &err));
}

static inline void fx_start(struct fx *f)
{
    memset(f, 0, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/weir-lib-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->o = (struct weir_options){.size = sizeof f->o,
                                 .journal_file_bytes = 4u << 20,
                                 .retention_ms = -1}; /* records of tests are old */
    fx_open(f);
}

static inline void fx_reopen(struct fx *f)
{
    weir_close(&f->w);
    assert_null(f->w);
    fx_open(f);
}

static inline void fx_remove(const char *dir)
{
    char cmd[128];

    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    assert_int_equal(system(cmd), 0);
}

/* As a crash: the files as they are now in another directory; what only memory had is not there.
 * The log is closed; the directory is not opened. Only while nothing happens in the background: less
 * was written than a journal file holds. */
static inline void fx_crash(struct fx *f)
{
    char cmd[256], to[64] = "/tmp/weir-lib-XXXXXX";

    assert_non_null(mkdtemp(to));
    snprintf(cmd, sizeof cmd, "cp -r --sparse=always %s/. %s && rm -f %s/lock", f->dir, to, to);
    assert_int_equal(system(cmd), 0);
    weir_close(&f->w);
    fx_remove(f->dir);
    memcpy(f->dir, to, sizeof to);
}

static inline void fx_end(struct fx *f)
{
    weir_close(&f->w);
    fx_remove(f->dir);
}

static inline struct weir_record rec(const char *key, const char *value)
{
    return (struct weir_record){.key = key,
                                .key_len = key ? strlen(key) : 0,
                                .value = value,
                                .value_len = value ? strlen(value) : 0};
}

static inline struct weir_place put(struct weir *w, const char *topic, const char *key,
                                    const char *value)
{
    struct weir_record r = rec(key, value);
    struct weir_place p;

    OK(weir_produce(w, topic, &r, &p, &err));
    return p;
}

/* n records "PREFIX0", "PREFIX1", … */
static inline void put_n(struct weir *w, const char *topic, const char *prefix, int n)
{
    char value[64];
    int i;

    for (i = 0; i < n; i++) {
        snprintf(value, sizeof value, "%s%d", prefix, i);
        put(w, topic, NULL, value);
    }
}

static inline uint64_t records(struct weir *w, const char *topic)
{
    struct weir_topic_info info;

    OK(weir_topic_describe(w, topic, &info, &err));
    return info.records;
}

static inline struct weir_consumer *consumer(struct weir *w, const char *stream,
                                             enum weir_from from, const char *group)
{
    struct weir_consumer_options o = {.size = sizeof o, .from = from, .group = group};
    struct weir_consumer *c;

    OK(weir_consumer_new(w, stream, &o, &c, &err));
    return c;
}

static inline bool value_is(const struct weir_message *m, const char *want)
{
    return m->value_len == strlen(want) && memcmp(m->value, want, m->value_len) == 0;
}

/* The next record's value equals text. */
#define assert_next(c, want_)                                                                    \
    do {                                                                                         \
        struct weir_message m_;                                                                  \
        OK(weir_consumer_next(c, 0, &m_, &err));                                                 \
        if (!value_is(&m_, want_))                                                               \
            fail_msg("%s:%d: wanted %s, got %.*s", __FILE__, __LINE__, want_, (int)m_.value_len, \
                     (const char *)m_.value);                                                    \
    } while (0)
#define assert_drained(c)                                           \
    do {                                                            \
        struct weir_message m_;                                     \
        FAILS(WEIR_ERR_AGAIN, weir_consumer_next(c, 0, &m_, &err)); \
    } while (0)

static inline int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static inline void nap_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

#endif
