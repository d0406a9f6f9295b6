/* Records that the local log has given up come from the lake, by every way to read there is, as they were;
 * also after a restart. Without the lake, and when it cannot be reached, that is an error. */
#include "fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#define TOPIC      "old"
#define RECORDS    60
#define NEWER      5
#define WAIT_MS    60000
#define TEXT_BYTES 4096

/* What a message has, as text: all but the pointers. */
struct texts {
    char *text[RECORDS + NEWER];
    unsigned n;
};

static void bytes_put(FILE *f, const void *p, size_t n)
{
    size_t i;

    fprintf(f, p ? " %zu:" : " null", n);
    for (i = 0; p && i < n; i++)
        fprintf(f, "%02x", ((const unsigned char *)p)[i]);
}

static bool take(void *arg, const struct weir_message *m)
{
    struct texts *t = arg;
    char *text = NULL;
    size_t len, i;
    FILE *f = open_memstream(&text, &len);

    MUST(f && t->n < RECORDS + NEWER);
    fprintf(f, "%s %d %lld %llu %lld", m->topic, (int)m->partition, (long long)m->offset,
            (unsigned long long)m->position, (long long)m->timestamp_ms);
    bytes_put(f, m->key, m->key_len);
    bytes_put(f, m->value, m->value_len);
    for (i = 0; i < m->headers_n; i++) {
        fprintf(f, " %s", m->headers[i].name);
        bytes_put(f, m->headers[i].value, m->headers[i].value_len);
    }
    fclose(f);
    t->text[t->n++] = text;
    return true;
}

static void texts_free(struct texts *t)
{
    while (t->n)
        free(t->text[--t->n]);
}

/* They are those of `all` from `first` on. */
static void texts_are(struct texts *got, const struct texts *all, unsigned first)
{
    unsigned i;

    for (i = 0; i < got->n && first + i < all->n; i++)
        assert_string_equal(got->text[i], all->text[first + i]);
    assert_int_equal(got->n, all->n - first);
    texts_free(got);
}

static void read_all(struct weir *w, struct texts *out)
{
    uint64_t position;

    OK(weir_read(w, TOPIC, 0, SIZE_MAX, take, out, &position, &err));
}

/* Nulls and empties, bytes that are no text, JSON, headers twice and without a value. */
static void odd_put(struct weir *w, int i)
{
    static const unsigned char raw[] = {0, 0xff, 0x80, 10, 0};
    const struct weir_header headers[] = {{"ce_type", "a.b", 3},      {"twice", "1", 1},
                                          {"twice", raw, sizeof raw}, {"none", NULL, 0},
                                          {"empty", "", 0},           {"", "no name", 7}};
    struct weir_record r = {.partition_1 = 1 + i % 3, .timestamp_ms = 1700000000000 + i % 7};
    char json[64];

    snprintf(json, sizeof json, "{\"n\":%d,\"of\":\"%c\"}", i, 'a' + i % 26);
    r.key = i % 4 == 0 ? NULL : i % 4 == 1 ? (const void *)"" : raw;
    r.key_len = i % 4 < 2 ? 0 : sizeof raw;
    r.value = i % 5 == 0 ? NULL : i % 5 == 1 ? (const void *)"" : i % 5 == 2 ? (void *)raw : json;
    r.value_len = i % 5 < 2 ? 0 : i % 5 == 2 ? sizeof raw : strlen(json);
    r.headers = headers;
    r.headers_n = (size_t)(i % 7);
    OK(weir_produce(w, TOPIC, &r, NULL, &err));
}

struct ends {
    long long local_start[3], end[3];
};

static void on_status(void *arg, const char *json, size_t len)
{
    struct ends *e = arg;
    char text[TEXT_BYTES];
    const char *p;
    int i;

    snprintf(text, sizeof text, "%.*s", (int)len, json);
    p = strstr(text, "\"partitions\":[");
    for (i = 0; i < 3; i++) {
        assert_non_null(p = strstr(p + 1, "\"local_start\":"));
        assert_int_equal(sscanf(p, "\"local_start\":%lld", &e->local_start[i]), 1);
        assert_non_null(p = strstr(p + 1, "\"end\":"));
        assert_int_equal(sscanf(p, "\"end\":%lld", &e->end[i]), 1);
    }
}

/* Commits to the lake, and waits until the local log has none of them. */
static void give_up(struct weir *w)
{
    static const struct weir_setting none = {"local.retention.bytes", "0"};
    int64_t until = now_ms() + WAIT_MS;
    struct ends e;
    int i;

    OK(weir_topic_alter(w, TOPIC, 0, &none, 1, &err));
    OK(weir_lake_flush(w, TOPIC, WAIT_MS, &err));
    do {
        nap_ms(5);
        OK(weir_lake_status(w, TOPIC, on_status, &e, &err));
        for (i = 0; i < 3 && e.local_start[i] == e.end[i]; i++)
            ;
    } while (i < 3 && now_ms() < until);
    assert_int_equal(i, 3);
}

static void keep_local(struct weir *w)
{
    static const struct weir_setting all = {"local.retention.bytes", "-1"};

    OK(weir_topic_alter(w, TOPIC, 0, &all, 1, &err));
}

/* RECORDS that the lake alone has; *all are they as the log had them. */
static void start(struct fx *f, struct texts *all)
{
    static const struct weir_setting s[] = {{"lake.enable", "true"},
                                            {"lake.partition", "none"},
                                            {"local.retention.bytes", "-1"},
                                            {"retention.ms", "-1"}};
    int i;

    memset(f, 0, sizeof *f);
    memset(all, 0, sizeof *all);
    snprintf(f->dir, sizeof f->dir, "/tmp/weir-lib-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->o = (struct weir_options){.size = sizeof f->o, .journal_file_bytes = 4u << 20, .lake = true};
    fx_open(f);
    OK(weir_topic_create(f->w, TOPIC, 3, s, sizeof s / sizeof *s, &err));
    for (i = 0; i < RECORDS; i++)
        odd_put(f->w, i);
    read_all(f->w, all);
    assert_int_equal(all->n, RECORDS);
    give_up(f->w);
}

static void next_is(struct weir_consumer *c, const struct texts *all, unsigned i)
{
    struct texts one = {0};
    struct weir_message m;

    OK(weir_consumer_next(c, WAIT_MS, &m, &err));
    take(&one, &m);
    assert_string_equal(one.text[0], all->text[i]);
    texts_free(&one);
}

static void test_read(void **state)
{
    struct texts all, got = {0};
    struct weir_partition_info pi;
    uint64_t position;
    struct fx f;
    int i;

    (void)state;
    start(&f, &all);
    for (i = 0; i < 2; i++) {
        OK(weir_partition_describe(f.w, TOPIC, 1, &pi, &err));
        assert_int_equal(pi.start_offset, 0);
        read_all(f.w, &got);
        texts_are(&got, &all, 0);
        /* page by page */
        for (position = 0; got.n < 21;)
            OK(weir_read(f.w, TOPIC, position, 7, take, &got, &position, &err));
        OK(weir_read(f.w, TOPIC, position, SIZE_MAX, take, &got, &position, &err));
        texts_are(&got, &all, 0);
        fx_reopen(&f);
    }
    keep_local(f.w); /* and on into the local log */
    for (i = 0; i < NEWER; i++)
        odd_put(f.w, i);
    OK(weir_read(f.w, TOPIC, position, SIZE_MAX, take, &all, NULL, &err));
    assert_int_equal(all.n, RECORDS + NEWER);
    read_all(f.w, &got);
    texts_are(&got, &all, 0);
    texts_free(&all);
    fx_end(&f);
}

static void test_places(void **state)
{
    struct weir_consumer_options o = {.size = sizeof o, .from = WEIR_FROM_OFFSET};
    struct weir_consumer *c;
    struct weir_message m;
    struct texts all;
    struct fx f;
    unsigned i;

    (void)state;
    start(&f, &all);
    o.partition_1 = 2;
    o.offset = 4;
    OK(weir_consumer_new(f.w, TOPIC, &o, &c, &err)); /* partition 1 has every third */
    for (i = 13; i < RECORDS; i += 3)
        next_is(c, &all, i);
    OK(weir_consumer_seek(c, 0, &err));
    next_is(c, &all, 1);
    weir_consumer_close(&c);
    o = (struct weir_consumer_options){
        .size = sizeof o, .from = WEIR_FROM_TIME, .at_ms = 1700000000006};
    OK(weir_consumer_new(f.w, TOPIC, &o, &c, &err));
    OK(weir_consumer_next(c, WAIT_MS, &m, &err));
    assert_int_equal(m.timestamp_ms, 1700000000006);
    weir_consumer_close(&c);
    texts_free(&all);
    fx_end(&f);
}

/* A group's place among older records is kept and found again, not moved to the local log's start. */
static void test_groups(void **state)
{
    struct weir_member_options o = {.size = sizeof o, .group = "members"};
    const char *topics[] = {TOPIC};
    struct weir_consumer *c;
    struct weir_member *mb;
    struct weir_message m;
    struct texts all, got = {0};
    struct fx f;
    unsigned i;

    (void)state;
    start(&f, &all);
    c = consumer(f.w, TOPIC, WEIR_FROM_GROUP, "g");
    for (i = 0; i < 10; i++)
        next_is(c, &all, i);
    OK(weir_consumer_commit(c, &err));
    weir_consumer_close(&c);
    fx_reopen(&f);
    c = consumer(f.w, TOPIC, WEIR_FROM_GROUP, "g");
    for (; i < RECORDS; i++)
        next_is(c, &all, i);
    OK(weir_consumer_commit(c, &err));
    weir_consumer_close(&c);
    c = consumer(f.w, TOPIC, WEIR_FROM_GROUP, "g");
    assert_drained(c);
    weir_consumer_close(&c);

    o.topics = topics;
    o.topics_n = 1;
    OK(weir_member_new(f.w, &o, &mb, &err));
    while (got.n < RECORDS) {
        OK(weir_member_next(mb, WAIT_MS, &m, &err));
        take(&got, &m);
    }
    for (i = 0; i < RECORDS; i++) { /* in order by partition only */
        unsigned k;

        for (k = 0; k < RECORDS && strcmp(got.text[i], all.text[k]) != 0; k++)
            ;
        assert_true(k < RECORDS);
    }
    OK(weir_member_commit(mb, &err));
    weir_member_close(&mb);
    texts_free(&got);
    texts_free(&all);
    fx_end(&f);
}

struct heard {
    struct texts texts;
    atomic_uint n;
    atomic_int failed;
};

static bool on_record(void *arg, const struct weir_message *m, const struct weir_error *e)
{
    struct heard *h = arg;

    if (e)
        atomic_store(&h->failed, (int)e->code);
    else
        take(&h->texts, m);
    atomic_fetch_add(&h->n, 1);
    return true;
}

static void wait_heard(struct heard *h, unsigned n)
{
    int64_t until = now_ms() + WAIT_MS;

    while (atomic_load(&h->n) < n && now_ms() < until)
        nap_ms(2);
    assert_int_equal(atomic_load(&h->n), n);
}

static void test_subscribe(void **state)
{
    struct weir_stream_options o = {.size = sizeof o};
    struct heard h = {.n = 0};
    struct weir_subscription *sub;
    struct weir_stream *s;
    struct texts all;
    struct fx f;

    (void)state;
    start(&f, &all);
    keep_local(f.w);
    OK(weir_stream_open(f.w, TOPIC, &o, &s, &err));
    OK(weir_stream_subscribe(s, NULL, on_record, &h, &sub, &err));
    wait_heard(&h, RECORDS);
    odd_put(f.w, 3); /* and what comes */
    wait_heard(&h, RECORDS + 1);
    weir_unsubscribe(&sub);
    assert_int_equal(atomic_load(&h.failed), 0);
    free(h.texts.text[--h.texts.n]);
    texts_are(&h.texts, &all, 0);
    OK(weir_stream_close(&s, &err));
    texts_free(&all);
    fx_end(&f);
}

/* Not opened with the lake: each way to read says so, gives nothing out, and passes nothing by. */
static int64_t count(struct weir *w)
{
    struct weir_result *r;
    int64_t n;

    OK(weir_query(w, "SELECT count(*) FROM " TOPIC, NULL, 0, NULL, &r, &err));
    OK(weir_result_next(r, &err));
    n = weir_result_value(r, 0)->i;
    weir_result_close(&r);
    return n;
}

/* Queries see what is in the lake without the option, also of a log that is only read; without its table
 * they fail rather than leave records out. */
static void test_queries_without(void **state)
{
    struct weir_result *r;
    struct texts all;
    char cmd[256];
    struct fx f;

    (void)state;
    start(&f, &all);
    keep_local(f.w);
    put(f.w, TOPIC, NULL, "newer");
    f.o.lake = false;
    fx_reopen(&f);
    assert_int_equal(count(f.w), RECORDS + 1);
    f.o.read_only = true;
    fx_reopen(&f);
    assert_int_equal(count(f.w), RECORDS + 1);
    weir_close(&f.w);
    snprintf(cmd, sizeof cmd, "mv %s/lake %s/elsewhere", f.dir, f.dir);
    assert_int_equal(system(cmd), 0);
    fx_open(&f);
    FAILS(WEIR_ERR_IO, weir_query(f.w, "SELECT count(*) FROM " TOPIC, NULL, 0, NULL, &r, &err));
    assert_non_null(strstr(err.text, "in the lake alone"));
    weir_close(&f.w);
    f.o = (struct weir_options){.size = sizeof f.o};
    fx_open(&f);
    texts_free(&all);
    fx_end(&f);
}

static void test_without(void **state)
{
    struct weir_consumer_options o = {
        .size = sizeof o, .from = WEIR_FROM_GROUP, .group = "g", .partition_1 = 1};
    struct weir_consumer *c;
    struct weir_message m;
    struct texts all, got = {0};
    struct weir_place at;
    struct fx f;

    (void)state;
    start(&f, &all);
    keep_local(f.w);
    at = put(f.w, TOPIC, NULL, "newer");
    f.o.lake = false;
    fx_reopen(&f);
    FAILS(WEIR_ERR_CONFLICT, weir_read(f.w, TOPIC, 0, SIZE_MAX, take, &got, NULL, &err));
    assert_non_null(strstr(err.text, "option lake"));
    assert_non_null(strstr(err.text, TOPIC));
    assert_int_equal(got.n, 0);
    c = consumer(f.w, TOPIC, WEIR_FROM_BEGINNING, NULL);
    FAILS(WEIR_ERR_CONFLICT, weir_consumer_next(c, 0, &m, &err));
    FAILS(WEIR_ERR_CONFLICT, weir_consumer_next(c, WAIT_MS, &m, &err));
    assert_non_null(strstr(err.text, "option lake"));
    OK(weir_consumer_seek(c, at.position, &err)); /* what is here can be read */
    assert_next(c, "newer");
    weir_consumer_close(&c);
    FAILS(WEIR_ERR_CONFLICT, weir_consumer_new(f.w, TOPIC, &o, &c, &err));
    f.o.lake = true;
    fx_reopen(&f);
    OK(weir_read(f.w, TOPIC, 0, RECORDS, take, &got, NULL, &err));
    texts_are(&got, &all, 0);
    texts_free(&all);
    fx_end(&f);
}

/* The table's files are out of reach: an error, and when they are back everything. */
static void test_unreachable(void **state)
{
    struct texts all, got = {0};
    char cmd[256];
    struct fx f;

    (void)state;
    start(&f, &all);
    weir_close(&f.w);
    snprintf(cmd, sizeof cmd, "mv %s/lake %s/elsewhere", f.dir, f.dir);
    assert_int_equal(system(cmd), 0);
    fx_open(&f);
    FAILS(WEIR_ERR_IO, weir_read(f.w, TOPIC, 0, SIZE_MAX, take, &got, NULL, &err));
    assert_int_equal(got.n, 0);
    weir_close(&f.w);
    snprintf(cmd, sizeof cmd, "rm -rf %s/lake && mv %s/elsewhere %s/lake", f.dir, f.dir, f.dir);
    assert_int_equal(system(cmd), 0);
    fx_open(&f);
    read_all(f.w, &got);
    texts_are(&got, &all, 0);
    texts_free(&all);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),        cmocka_unit_test(test_places),
        cmocka_unit_test(test_groups),      cmocka_unit_test(test_subscribe),
        cmocka_unit_test(test_without),     cmocka_unit_test(test_queries_without),
        cmocka_unit_test(test_unreachable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
