/* Key-value buckets of the C library. */
#include <pthread.h>

#include "fixture.h"

static struct weir_kv *bucket(struct weir *w, const char *name, int32_t history, int64_t ttl_ms)
{
    struct weir_kv_options o = {.size = sizeof o, .history = history, .ttl_ms = ttl_ms};
    struct weir_kv *kv;

    OK(weir_kv_open(w, name, &o, &kv, &err));
    return kv;
}

static uint64_t set(struct weir_kv *kv, const char *key, const char *value)
{
    uint64_t revision = 0;

    OK(weir_kv_put(kv, key, value, strlen(value), &revision, &err));
    return revision;
}

#define assert_value(kv, key_, want_, revision_)             \
    do {                                                     \
        struct weir_kv_entry *e_;                            \
        OK(weir_kv_get(kv, key_, &e_, &err));                \
        assert_string_equal(e_->key, key_);                  \
        assert_int_equal(e_->value_len, strlen(want_));      \
        assert_string_equal((const char *)e_->value, want_); \
        assert_int_equal(e_->op, WEIR_KV_PUT);               \
        assert_int_equal(e_->revision, revision_);           \
        weir_kv_entry_free(&e_);                             \
        assert_null(e_);                                     \
    } while (0)
#define assert_gone(kv, key_)                                        \
    do {                                                             \
        struct weir_kv_entry *e_;                                    \
        FAILS(WEIR_ERR_NOT_FOUND, weir_kv_get(kv, key_, &e_, &err)); \
        assert_null(e_);                                             \
    } while (0)

static bool add_entry(void *arg, const struct weir_kv_entry *e)
{
    char *text = arg;

    snprintf(text + strlen(text), 256 - strlen(text), "%d:%d=%s ", (int)e->revision, (int)e->op,
             (const char *)e->value);
    return true;
}

static void assert_history(struct weir_kv *kv, const char *key, const char *want)
{
    char text[256] = "";

    OK(weir_kv_history(kv, key, add_entry, text, &err));
    assert_string_equal(text, want);
}

static bool add_key(void *arg, const char *key)
{
    char *text = arg;

    snprintf(text + strlen(text), 256 - strlen(text), "%s ", key);
    return true;
}

static void assert_keys(struct weir_kv *kv, const char *pattern, const char *want)
{
    char text[256] = "";

    OK(weir_kv_keys(kv, pattern, add_key, text, &err));
    assert_string_equal(text, want);
}

static void test_put_get(void **state)
{
    struct weir_kv_status st;
    struct weir_kv *kv;
    struct fx f;

    (void)state;
    fx_start(&f);
    kv = bucket(f.w, "b", 0, 0);
    OK(weir_kv_status_get(kv, &st, &err));
    assert_int_equal(st.last_revision, 0);
    assert_int_equal(st.history, 1);
    assert_gone(kv, "a");
    assert_int_equal(set(kv, "a", "1"), 1);
    assert_int_equal(set(kv, "b.c", ""), 2);
    assert_int_equal(set(kv, "a", "two"), 3);
    assert_value(kv, "a", "two", 3);
    assert_value(kv, "b.c", "", 2);
    OK(weir_kv_put(kv, "a", NULL, 0, NULL, &err));
    assert_value(kv, "a", "", 4);
    OK(weir_kv_delete(kv, "a", 0, NULL, &err));
    assert_gone(kv, "a");
    assert_keys(kv, NULL, "b.c ");
    OK(weir_kv_status_get(kv, &st, &err));
    assert_int_equal(st.keys, 1);
    assert_int_equal(st.revisions, 2);
    assert_int_equal(st.last_revision, 5);
    weir_kv_close(&kv);
    assert_null(kv);
    fx_end(&f);
}

static void test_history(void **state)
{
    struct weir_kv_entry *e;
    struct weir_kv *kv;
    struct fx f;
    int round;

    (void)state;
    fx_start(&f);
    kv = bucket(f.w, "b", 3, 0);
    set(kv, "a", "1");
    set(kv, "x", "other");
    set(kv, "a", "2");
    OK(weir_kv_delete(kv, "a", 0, NULL, &err));
    set(kv, "a", "4");
    for (round = 0; round < 3; round++) { /* as it is, opened again, and after a crash */
        assert_history(kv, "a", "3:0=2 4:1= 5:0=4 ");
        FAILS(WEIR_ERR_NOT_FOUND, weir_kv_get_revision(kv, "a", 1, &e, &err));
        FAILS(WEIR_ERR_NOT_FOUND, weir_kv_get_revision(kv, "a", 2, &e, &err)); /* of x */
        FAILS(WEIR_ERR_NOT_FOUND, weir_kv_get_revision(kv, "a", 99, &e, &err));
        OK(weir_kv_get_revision(kv, "a", 4, &e, &err));
        assert_int_equal(e->op, WEIR_KV_DELETE);
        weir_kv_entry_free(&e);
        assert_value(kv, "a", "4", 5);
        weir_kv_close(&kv);
        if (round == 0) {
            fx_reopen(&f);
        } else {
            fx_crash(&f);
            fx_open(&f);
        }
        kv = bucket(f.w, "b", 0, 0);
    }
    OK(weir_kv_purge(kv, "a", 0, NULL, &err));
    assert_history(kv, "a", "6:2= ");
    assert_gone(kv, "a");
    assert_value(kv, "x", "other", 2);
    weir_kv_close(&kv);
    fx_reopen(&f);
    kv = bucket(f.w, "b", 3, 0);
    assert_history(kv, "a", "6:2= ");
    assert_keys(kv, NULL, "x ");
    weir_kv_close(&kv);
    fx_end(&f);
}

static void test_compare_and_set(void **state)
{
    uint64_t r;
    struct weir_kv *kv, *same;
    struct fx f;

    (void)state;
    fx_start(&f);
    kv = bucket(f.w, "b", 5, 0);
    same = bucket(f.w, "b", 0, 0);
    FAILS(WEIR_ERR_CONFLICT, weir_kv_update(kv, "a", "x", 1, 7, &r, &err));
    assert_int_equal(r, 0);
    OK(weir_kv_update(kv, "a", "0", 1, 0, &r, &err)); /* there is none */
    assert_int_equal(r, 1);
    FAILS(WEIR_ERR_CONFLICT, weir_kv_create(same, "a", "x", 1, NULL, &err));
    FAILS(WEIR_ERR_CONFLICT, weir_kv_update(same, "a", "x", 1, 0, NULL, &err));
    OK(weir_kv_update(same, "a", "1", 1, 1, &r, &err));
    assert_int_equal(r, 2);
    FAILS(WEIR_ERR_CONFLICT, weir_kv_delete(kv, "a", 1, NULL, &err));
    FAILS(WEIR_ERR_CONFLICT, weir_kv_purge(kv, "a", 1, NULL, &err));
    assert_value(kv, "a", "1", 2);
    OK(weir_kv_delete(kv, "a", 2, &r, &err));
    assert_int_equal(r, 3);
    FAILS(WEIR_ERR_CONFLICT, weir_kv_update(kv, "a", "x", 1, 0, NULL, &err));
    OK(weir_kv_create(same, "a", "2", 1, &r, &err)); /* deleted: it can be made */
    assert_int_equal(r, 4);
    OK(weir_kv_purge(kv, "a", 4, NULL, &err));
    OK(weir_kv_create(kv, "a", "3", 1, &r, &err));
    assert_int_equal(r, 6);
    weir_kv_close(&kv);
    assert_value(same, "a", "3", 6);
    weir_kv_close(&same);
    fx_end(&f);
}

/* ---- several threads count up one key by compare and set; others put beside them ---- */

struct counting {
    struct weir *w;
    int times;
};

static void *count_up(void *arg)
{
    struct counting *c = arg;
    struct weir_kv_entry *e;
    struct weir_kv *kv;
    char text[24];
    weir_err got;
    int i;

    MUST(weir_kv_open(c->w, "b", NULL, &kv, NULL) == WEIR_OK);
    for (i = 0; i < c->times;) {
        MUST(weir_kv_get(kv, "n", &e, NULL) == WEIR_OK);
        snprintf(text, sizeof text, "%d", (int)strtol(e->value, NULL, 10) + 1);
        got = weir_kv_update(kv, "n", text, strlen(text), e->revision, NULL, NULL);
        MUST(got == WEIR_OK || got == WEIR_ERR_CONFLICT);
        i += got == WEIR_OK;
        weir_kv_entry_free(&e);
        MUST(weir_kv_put(kv, "beside", text, strlen(text), NULL, NULL) == WEIR_OK);
    }
    weir_kv_close(&kv);
    return NULL;
}

static void test_threads(void **state)
{
    struct counting c = {.times = 20};
    struct weir_kv_entry *e;
    struct weir_kv *kv;
    pthread_t t[4];
    struct fx f;
    int i;

    (void)state;
    fx_start(&f);
    kv = bucket(f.w, "b", 1, 0);
    set(kv, "n", "0");
    c.w = f.w;
    for (i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, count_up, &c), 0);
    for (i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    OK(weir_kv_get(kv, "n", &e, &err));
    assert_string_equal((const char *)e->value, "80");
    weir_kv_entry_free(&e);
    weir_kv_close(&kv);
    fx_end(&f);
}

static void rollup(struct weir *w, const char *key, const char *what)
{
    struct weir_header h = {"Nats-Rollup", what, strlen(what)};
    struct weir_record r = rec(key, "");

    r.headers = &h;
    r.headers_n = 1;
    OK(weir_produce(w, "KV_b", &r, NULL, &err));
}

/* Rollups of others take away what streams take away by them. */
static void test_rollups(void **state)
{
    struct weir_kv *kv;
    struct fx f;

    (void)state;
    fx_start(&f);
    kv = bucket(f.w, "b", 2, 0);
    set(kv, "a.b", "1");
    set(kv, "a.c", "2");
    set(kv, "d", "3");
    rollup(f.w, "$KV.b.a.*", "sub");
    assert_keys(kv, NULL, "d ");
    rollup(f.w, "$KV.b.a*b", "sub"); /* no wildcard */
    assert_keys(kv, NULL, "a*b d ");
    rollup(f.w, "$KV.b.d", "sub");
    assert_history(kv, "d", "6:0= ");
    rollup(f.w, "$KV.b.e", "all");
    assert_keys(kv, NULL, "e ");
    weir_kv_close(&kv);
    fx_reopen(&f);
    kv = bucket(f.w, "b", 2, 0);
    assert_keys(kv, NULL, "e ");
    weir_kv_close(&kv);
    fx_end(&f);
}

/* What others append to the topic is seen; other keys are nothing of the bucket. */
static void test_others(void **state)
{
    struct weir_kv_status st;
    struct weir_kv *kv;
    struct fx f;

    (void)state;
    fx_start(&f);
    kv = bucket(f.w, "b", 2, 0);
    set(kv, "a", "1");
    put(f.w, "KV_b", "$KV.b.a", "2");
    put(f.w, "KV_b", "other", "3");
    put(f.w, "KV_b", "$KV.b.", "4");
    put(f.w, "KV_b", NULL, "5");
    assert_value(kv, "a", "2", 2);
    FAILS(WEIR_ERR_CONFLICT, weir_kv_update(kv, "a", "x", 1, 1, NULL, &err));
    OK(weir_kv_update(kv, "a", "6", 1, 2, NULL, &err));
    assert_history(kv, "a", "2:0=2 6:0=6 ");
    OK(weir_kv_status_get(kv, &st, &err));
    assert_int_equal(st.revisions, 2);
    weir_kv_close(&kv);
    fx_end(&f);
}

static void test_age(void **state)
{
    struct weir_kv_status st;
    struct weir_kv *kv;
    struct weir_record r = rec("$KV.b.old", "x");
    struct fx f;

    (void)state;
    fx_start(&f);
    kv = bucket(f.w, "b", 2, 3600000);
    r.timestamp_ms = now_ms() - 7200000;
    OK(weir_produce(f.w, "KV_b", &r, NULL, &err));
    set(kv, "new", "1");
    assert_gone(kv, "old");
    assert_keys(kv, NULL, "new ");
    assert_history(kv, "old", "");
    OK(weir_kv_create(kv, "old", "2", 1, NULL, &err)); /* it is not there */
    assert_history(kv, "old", "3:0=2 ");
    OK(weir_kv_status_get(kv, &st, &err));
    assert_int_equal(st.ttl_ms, 3600000);
    assert_int_equal(st.revisions, 2);
    weir_kv_close(&kv);
    fx_reopen(&f);
    kv = bucket(f.w, "b", 2, 3600000);
    assert_keys(kv, NULL, "new old ");
    weir_kv_close(&kv);
    kv = bucket(f.w, "short", 1, 100);
    set(kv, "a", "1");
    do {
        nap_ms(20);
        OK(weir_kv_status_get(kv, &st, &err));
    } while (st.revisions);
    assert_gone(kv, "a");
    weir_kv_close(&kv);
    fx_end(&f);
}

static void assert_watched(struct weir_kv_watch *x, const char *key, const char *value, int op)
{
    struct weir_kv_entry e;

    OK(weir_kv_watch_next(x, 60000, &e, &err));
    assert_int_equal(e.op, op);
    assert_string_equal(e.key, key);
    assert_string_equal((const char *)e.value, value);
}

static void *put_later(void *arg)
{
    MUST(weir_kv_put(arg, "a.later", "4", 1, NULL, NULL) == WEIR_OK);
    return NULL;
}

static void test_watch(void **state)
{
    struct weir_kv_watch_options o = {.size = sizeof o};
    struct weir_kv_watch *x;
    struct weir_kv_entry e;
    struct weir_kv *kv;
    pthread_t t;
    struct fx f;

    (void)state;
    fx_start(&f);
    kv = bucket(f.w, "b", 2, 0);
    set(kv, "a.x", "1");
    set(kv, "b.x", "no");
    set(kv, "a.y", "2");
    set(kv, "a.x", "3");
    OK(weir_kv_watch_new(kv, "a.*", NULL, &x, &err));
    assert_watched(x, "a.y", "2", WEIR_KV_PUT);
    assert_watched(x, "a.x", "3", WEIR_KV_PUT);
    assert_watched(x, "", "", WEIR_KV_READY);
    FAILS(WEIR_ERR_AGAIN, weir_kv_watch_next(x, 0, &e, &err));
    assert_int_equal(pthread_create(&t, NULL, put_later, kv), 0);
    assert_watched(x, "a.later", "4", WEIR_KV_PUT);
    pthread_join(t, NULL);
    set(kv, "b.x", "no");
    OK(weir_kv_delete(kv, "a.y", 0, NULL, &err));
    assert_watched(x, "a.y", "", WEIR_KV_DELETE);
    FAILS(WEIR_ERR_AGAIN, weir_kv_watch_next(x, 1, &e, &err));
    weir_kv_watch_close(&x);

    o.history = true;
    o.no_deletes = true;
    OK(weir_kv_watch_new(kv, "a.>", &o, &x, &err));
    set(kv, "a.y", "5"); /* puts 2 out, before it was given */
    set(kv, "a.y", "6");
    assert_watched(x, "a.x", "1", WEIR_KV_PUT);
    assert_watched(x, "a.x", "3", WEIR_KV_PUT);
    assert_watched(x, "a.later", "4", WEIR_KV_PUT);
    assert_watched(x, "", "", WEIR_KV_READY);
    assert_watched(x, "a.y", "5", WEIR_KV_PUT);
    assert_watched(x, "a.y", "6", WEIR_KV_PUT);
    weir_kv_watch_close(&x);

    o = (struct weir_kv_watch_options){.size = sizeof o, .updates_only = true};
    OK(weir_kv_watch_new(kv, NULL, &o, &x, &err));
    assert_watched(x, "", "", WEIR_KV_READY);
    OK(weir_kv_purge(kv, "b.x", 0, NULL, &err));
    assert_watched(x, "b.x", "", WEIR_KV_PURGE);
    OK(weir_topic_delete(f.w, "KV_b", &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_kv_watch_next(x, -1, &e, &err));
    weir_kv_watch_close(&x);
    weir_kv_close(&kv);
    fx_end(&f);
}

static void test_patterns(void **state)
{
    struct weir_kv *kv;
    struct fx f;
    unsigned i;
    const char *bad[] = {"", ".", ".a", "a.", "a..b", "a b"};

    (void)state;
    fx_start(&f);
    kv = bucket(f.w, "b", 1, 0);
    set(kv, "a", "");
    set(kv, "a.b", "");
    set(kv, "a.b.c", "");
    set(kv, "d/e_f=g-1", "");
    assert_keys(kv, NULL, "a a.b a.b.c d/e_f=g-1 ");
    assert_keys(kv, ">", "a a.b a.b.c d/e_f=g-1 ");
    assert_keys(kv, "*", "a d/e_f=g-1 ");
    assert_keys(kv, "a.>", "a.b a.b.c ");
    assert_keys(kv, "*.*", "a.b ");
    assert_keys(kv, "*.b.*", "a.b.c ");
    assert_keys(kv, "a.b", "a.b ");
    assert_keys(kv, "b", "");
    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        FAILS(WEIR_ERR_INVALID, weir_kv_keys(kv, bad[i], add_key, NULL, &err));
    weir_kv_close(&kv);
    fx_end(&f);
}

static void test_limits(void **state)
{
    struct weir_kv_options o = {.size = sizeof o, .value_bytes_max = 10, .bytes_max = 200};
    const char *bad[] = {"", ".", ".a", "a.", "a..b", "a b", "a*", ">", "\303\244", "a\n"};
    struct weir_kv_entry *e;
    struct weir_kv *kv, *other;
    char key[1026];
    struct fx f;
    unsigned i;

    (void)state;
    fx_start(&f);
    OK(weir_kv_open(f.w, "b", &o, &kv, &err));
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        FAILS(WEIR_ERR_INVALID, weir_kv_put(kv, bad[i], "x", 1, NULL, &err));
        FAILS(WEIR_ERR_INVALID, weir_kv_get(kv, bad[i], &e, &err));
        FAILS(WEIR_ERR_INVALID, weir_kv_history(kv, bad[i], add_entry, NULL, &err));
    }
    FAILS(WEIR_ERR_INVALID, weir_kv_put(kv, NULL, "x", 1, NULL, &err));
    FAILS(WEIR_ERR_INVALID, weir_kv_put(kv, "a", NULL, 1, NULL, &err));
    memset(key, 'k', sizeof key - 1);
    key[sizeof key - 1] = 0;
    FAILS(WEIR_ERR_TOO_LARGE, weir_kv_put(kv, key, "x", 1, NULL, &err));
    FAILS(WEIR_ERR_TOO_LARGE, weir_kv_put(kv, "a", "01234567890", 11, NULL, &err));
    for (i = 0; i < 4; i++) { /* 30 + "$KV.b.0" + 10 = 47 bytes each */
        snprintf(key, sizeof key, "%u", i);
        OK(weir_kv_put(kv, key, "0123456789", 10, NULL, &err));
    }
    FAILS(WEIR_ERR_TOO_LARGE, weir_kv_put(kv, "4", "0123456789", 10, NULL, &err));
    OK(weir_kv_put(kv, "3", "9876543210", 10, NULL, &err)); /* puts another one out */
    FAILS(WEIR_ERR_TOO_LARGE, weir_kv_put(kv, "4", "0123456789", 10, NULL, &err));

    /* names and settings */
    FAILS(WEIR_ERR_INVALID, weir_kv_open(f.w, "a.b", NULL, &other, &err));
    assert_null(other);
    FAILS(WEIR_ERR_INVALID, weir_kv_open(f.w, "", NULL, &other, &err));
    FAILS(WEIR_ERR_INVALID, weir_kv_open(f.w, NULL, NULL, &other, &err));
    o.bytes_max = 300;
    FAILS(WEIR_ERR_CONFLICT, weir_kv_open(f.w, "b", &o, &other, &err));
    o = (struct weir_kv_options){.size = sizeof o, .history = 65};
    FAILS(WEIR_ERR_INVALID, weir_kv_open(f.w, "c", &o, &other, &err));
    o = (struct weir_kv_options){.size = sizeof o, .ttl_ms = 99};
    FAILS(WEIR_ERR_INVALID, weir_kv_open(f.w, "c", &o, &other, &err));
    o = (struct weir_kv_options){.size = sizeof o, .no_create = true};
    FAILS(WEIR_ERR_NOT_FOUND, weir_kv_open(f.w, "c", &o, &other, &err));
    OK(weir_topic_create(f.w, "KV_two", 2, NULL, 0, &err));
    FAILS(WEIR_ERR_CONFLICT, weir_kv_open(f.w, "two", NULL, &other, &err));
    weir_kv_close(&kv);
    fx_end(&f);
}

/* A deleted bucket is told of; one of its name begins anew. */
static void test_deleted(void **state)
{
    struct weir_kv *kv, *again;
    struct weir_kv_entry *e;
    struct fx f;

    (void)state;
    fx_start(&f);
    kv = bucket(f.w, "b", 7, 0);
    set(kv, "a", "1");
    OK(weir_topic_delete(f.w, "KV_b", &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_kv_get(kv, "a", &e, &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_kv_put(kv, "a", "2", 1, NULL, &err));
    again = bucket(f.w, "b", 2, 0);
    assert_gone(again, "a");
    assert_int_equal(set(again, "a", "3"), 1);
    weir_kv_close(&kv);
    assert_value(again, "a", "3", 1);
    weir_kv_close(&again);
    fx_end(&f);
}

/* What is removed is noted, again and again; what is left stays, whatever compaction does. */
static void test_removed(void **state)
{
    struct weir_kv_status st;
    struct weir_record *r;
    struct weir_kv *kv;
    struct fx f;
    int i, round;

    (void)state;
    fx_start(&f);
    kv = bucket(f.w, "b", 1, 0);
    set(kv, "kept", "1");
    r = calloc(10000, sizeof *r);
    for (i = 0; i < 10000; i++)
        r[i] = rec("$KV.b.a", "value");
    for (round = 0; round < 3; round++) {
        OK(weir_produce_batch(f.w, "KV_b", r, 10000, NULL, &err));
        set(kv, "last", "2");
        assert_value(kv, "kept", "1", 1);
        assert_value(kv, "a", "value", (uint64_t)(10001 * (round + 1)));
        weir_kv_close(&kv);
        fx_reopen(&f);
        kv = bucket(f.w, "b", 1, 0);
        OK(weir_kv_status_get(kv, &st, &err));
        assert_int_equal(st.revisions, 3);
        assert_int_equal(st.last_revision, 10001 * (round + 1) + 1);
    }
    free(r);
    weir_kv_close(&kv);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_get),
        cmocka_unit_test(test_history),
        cmocka_unit_test(test_compare_and_set),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_rollups),
        cmocka_unit_test(test_age),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_deleted),
        cmocka_unit_test(test_removed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
