/* Bridges and unified streams: changes become records and rows, dead letters have their reason, flushes
 * wait for the log or for the lake, subscribers get what was and what comes. With the lake on a folder;
 * tables by DuckDB's library, and JSON lines. */
#include "fixture.h"

#include <pthread.h>
#include <stdatomic.h>

static void lake_start(struct fx *f)
{
    memset(f, 0, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/weir-lib-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->o = (struct weir_options){.size = sizeof f->o, .journal_file_bytes = 4u << 20, .lake = true};
    fx_open(f);
}

static void emit(struct weir_bridge *b, enum weir_op op, const char *table, const char *data)
{
    OK(weir_bridge_emit(b, op, table, data, strlen(data), &err));
}

/* The next record has this key ("": none), and its value begins and ends so. */
static void next_is(struct weir_consumer *c, const char *key, const char *begins, const char *ends)
{
    struct weir_message m;
    const char *v;

    OK(weir_consumer_next(c, 0, &m, &err));
    v = m.value;
    assert_int_equal(m.key_len, strlen(key));
    assert_memory_equal(m.key ? m.key : "", key, m.key_len);
    assert_true(m.key || !key[0]);
    if (m.value_len < strlen(begins) + strlen(ends) || memcmp(v, begins, strlen(begins)) != 0 ||
        memcmp(v + m.value_len - strlen(ends), ends, strlen(ends)) != 0)
        fail_msg("%.*s is not %s … %s", (int)m.value_len, v, begins, ends);
}

/* ---- bridges ---- */

static void test_records(void **state)
{
    struct weir_bridge_options o = {
        .size = sizeof o, .sink = WEIR_SINK_NONE, .prefix = "db.", .key = "id", .source = "shop"};
    struct weir_bridge_stats st;
    struct weir_bridge *b;
    struct weir_consumer *c;
    struct weir_message m;
    struct fx f;

    (void)state;
    fx_start(&f);
    OK(weir_bridge_open(f.w, &o, &b, &err));
    emit(b, WEIR_OP_INSERT, "orders", "{\"id\":7,\"total\":12.50}");
    emit(b, WEIR_OP_UPDATE, "orders", "{\"id\":\"x\\u0041\\\"\"}");
    emit(b, WEIR_OP_DELETE, "orders", "[1]");
    FAILS(WEIR_ERR_INVALID, weir_bridge_emit(b, WEIR_OP_INSERT, "orders", "{", 1, &err));
    FAILS(WEIR_ERR_INVALID, weir_bridge_emit(b, WEIR_OP_INSERT, "no table", "1", 1, &err));
    FAILS(WEIR_ERR_INVALID, weir_bridge_emit(b, WEIR_OP_INSERT, NULL, "1", 1, &err));
    FAILS(WEIR_ERR_INVALID, weir_bridge_emit(b, (enum weir_op)3, "orders", "1", 1, &err));
    OK(weir_bridge_flush(b, WEIR_COMMITTED, 0, &err)); /* no sink: as durable */
    weir_bridge_stats_get(b, &st);
    assert_int_equal(st.taken, 3);
    assert_int_equal(st.durable, 3);
    assert_int_equal(st.tables, 1);
    OK(weir_bridge_close(&b, &err));
    assert_null(b);
    fx_crash(&f);
    fx_open(&f);
    c = consumer(f.w, "db.orders", WEIR_FROM_BEGINNING, NULL);
    next_is(c, "7", "{\"op\":\"c\",\"table\":\"orders\",\"ts_ms\":1",
            ",\"data\":{\"id\":7,\"total\":12.50}}");
    next_is(c, "xA\"", "{\"op\":\"u\",", "\"data\":{\"id\":\"x\\u0041\\\"\"}}");
    OK(weir_consumer_next(c, 0, &m, &err));
    assert_null(m.key);
    assert_int_equal(m.headers_n, 2);
    assert_string_equal(m.headers[0].name, "ce_type");
    assert_int_equal(m.headers[0].value_len, 13);
    assert_memory_equal(m.headers[0].value, "orders.delete", 13);
    assert_memory_equal(m.headers[1].value, "shop", 4);
    weir_consumer_close(&c);
    fx_end(&f);
}

static void test_flat(void **state)
{
    struct weir_bridge_options o = {.size = sizeof o, .sink = WEIR_SINK_NONE, .flat = true};
    struct weir_bridge *b;
    struct weir_consumer *c;
    struct fx f;

    (void)state;
    fx_start(&f);
    OK(weir_bridge_open(f.w, &o, &b, &err));
    emit(b, WEIR_OP_INSERT, "t", " { \"a\" : 1 } ");
    emit(b, WEIR_OP_DELETE, "t", "{ }");
    FAILS(WEIR_ERR_INVALID, weir_bridge_emit(b, WEIR_OP_INSERT, "t", "[1]", 3, &err));
    OK(weir_bridge_close(&b, &err)); /* flushes */
    c = consumer(f.w, "t", WEIR_FROM_BEGINNING, NULL);
    next_is(c, "", "{\"__op\":\"c\",\"__table\":\"t\",\"__ts_ms\":1", ",\"a\" : 1 }");
    next_is(c, "", "{\"__op\":\"d\",\"__table\":\"t\",\"__ts_ms\":1", "}");
    assert_drained(c);
    weir_consumer_close(&c);
    fx_end(&f);
}

static enum weir_verdict transform(void *arg, struct weir_change *c, char why[256])
{
    static const char fixed[] = "{\"v\":\"fixed\"}";

    ++*(int *)arg;
    if (strstr(c->data, "drop"))
        return WEIR_DROP;
    if (strstr(c->data, "refuse")) {
        snprintf(why, 256, "not \"this\"");
        return WEIR_DEAD;
    }
    if (strstr(c->data, "break")) {
        c->data = "{";
        c->data_len = 1;
    } else if (strstr(c->data, "fix")) {
        c->data = fixed;
        c->data_len = sizeof fixed - 1;
        c->table = "elsewhere";
        c->op = WEIR_OP_UPDATE;
    }
    return WEIR_KEEP;
}

static void test_transform(void **state)
{
    int called = 0;
    struct weir_bridge_options o = {
        .size = sizeof o, .sink = WEIR_SINK_NONE, .transform = transform, .transform_arg = &called};
    struct weir_bridge_stats st;
    struct weir_bridge *b;
    struct weir_consumer *c;
    struct fx f;

    (void)state;
    fx_start(&f);
    OK(weir_bridge_open(f.w, &o, &b, &err));
    emit(b, WEIR_OP_INSERT, "t", "\"keep\"");
    emit(b, WEIR_OP_INSERT, "t", "\"drop\"");
    emit(b, WEIR_OP_INSERT, "t", "\"refuse\"");
    emit(b, WEIR_OP_DELETE, "t", "\"break\"");
    emit(b, WEIR_OP_INSERT, "t", "\"fix\"");
    FAILS(WEIR_ERR_INVALID, weir_bridge_emit(b, WEIR_OP_INSERT, "t", "nonsense", 8, &err));
    assert_int_equal(called, 5);
    OK(weir_bridge_flush(b, WEIR_DURABLE, -1, &err));
    weir_bridge_stats_get(b, &st);
    assert_int_equal(st.taken, 5);
    assert_int_equal(st.durable, 4);
    assert_int_equal(st.dropped, 1);
    assert_int_equal(st.dead, 2);
    assert_int_equal(st.tables, 2);
    OK(weir_bridge_close(&b, &err));
    c = consumer(f.w, "t", WEIR_FROM_BEGINNING, NULL);
    next_is(c, "", "{\"op\":\"c\"", "\"data\":\"keep\"}");
    assert_drained(c);
    weir_consumer_close(&c);
    c = consumer(f.w, "elsewhere", WEIR_FROM_BEGINNING, NULL);
    next_is(c, "", "{\"op\":\"u\",\"table\":\"elsewhere\"", "\"data\":{\"v\":\"fixed\"}}");
    weir_consumer_close(&c);
    c = consumer(f.w, "dead-letter", WEIR_FROM_BEGINNING, NULL);
    next_is(c, "", "{\"op\":\"c\",\"table\":\"t\"",
            "\"data\":\"refuse\",\"error\":\"not \\\"this\\\"\"}");
    next_is(c, "", "{\"op\":\"d\",\"table\":\"t\"",
            "\"data\":\"break\",\"error\":\"the data of a change of 't' is no JSON\"}");
    weir_consumer_close(&c);
    fx_end(&f);
}

static void test_refused(void **state)
{
    struct weir_bridge_options o = {.size = sizeof o};
    struct weir_stream_options so = {.size = sizeof so};
    struct weir_bridge *b = (void *)1;
    struct weir_stream *s = (void *)1;
    struct weir_subscription *none = NULL;
    struct fx f;

    (void)state;
    fx_start(&f);
    FAILS(WEIR_ERR_CONFLICT, weir_bridge_open(f.w, &o, &b, &err)); /* opened without the lake */
    assert_null(b);
    FAILS(WEIR_ERR_CONFLICT, weir_stream_open(f.w, "t", &so, &s, &err));
    assert_null(s);
    FAILS(WEIR_ERR_CONFLICT, weir_lake_flush(f.w, "t", 0, &err));
    o.sink = (enum weir_sink)9;
    FAILS(WEIR_ERR_INVALID, weir_bridge_open(f.w, &o, &b, &err));
    o.sink = WEIR_SINK_NONE;
    o.prefix = "a b";
    FAILS(WEIR_ERR_INVALID, weir_bridge_open(f.w, &o, &b, &err));
    o.size = 0;
    FAILS(WEIR_ERR_INVALID, weir_bridge_open(f.w, &o, &b, &err));
    FAILS(WEIR_ERR_INVALID, weir_stream_open(f.w, "a/b", NULL, &s, &err));
    OK(weir_bridge_close(&b, &err));
    OK(weir_stream_close(&s, &err));
    weir_unsubscribe(&none);
    weir_close(&f.w);
    f.o.lake = f.o.read_only = true;
    FAILS(WEIR_ERR_INVALID, weir_open(f.dir, &f.o, &f.w, &err));
    assert_null(f.w);
    fx_remove(f.dir);
}

/* ---- the lake ---- */

static void on_status(void *arg, const char *json, size_t len)
{
    snprintf(arg, 2000, "%.*s", (int)len, json);
}

/* Whose lines can be counted without a library. */
static void plain_topic(struct fx *f, const char *topic, int32_t partitions)
{
    const struct weir_setting plain = {"lake.jsonl.compression", "none"};

    OK(weir_topic_create(f->w, topic, partitions, &plain, 1, &err));
}

static int lines(struct fx *f, const char *topic)
{
    char command[300], text[20] = "";
    FILE *p;

    snprintf(command, sizeof command, "cat %s/lake/weir/%s/*/*/*/*.jsonl | wc -l", f->dir, topic);
    p = popen(command, "r");
    assert_non_null(fgets(text, sizeof text, p));
    assert_int_equal(pclose(p), 0);
    return (int)strtol(text, NULL, 10);
}

static void test_jsonl(void **state)
{
    struct weir_bridge_options o = {
        .size = sizeof o, .sink = WEIR_SINK_JSONL, .commit_seconds = 86400};
    char status[2000];
    struct weir_bridge *b;
    struct fx f;
    int i;

    (void)state;
    lake_start(&f);
    plain_topic(&f, "old", 2); /* gets the settings when it is used */
    OK(weir_bridge_open(f.w, &o, &b, &err));
    for (i = 0; i < 30; i++)
        emit(b, WEIR_OP_INSERT, i % 3 ? "new" : "old", "{\"n\":1}");
    OK(weir_bridge_flush(b, WEIR_COMMITTED, -1, &err));
    OK(weir_lake_status(f.w, "old", on_status, status, &err));
    assert_non_null(strstr(status, "\"format\":\"jsonl\""));
    assert_non_null(strstr(status, "\"records\":10,"));
    assert_int_equal(lines(&f, "old"), 10);
    OK(weir_lake_status(f.w, "new", on_status, status, &err));
    assert_non_null(strstr(status, "\"records\":20,"));
    emit(b, WEIR_OP_INSERT, "old", "2");
    OK(weir_bridge_close(&b, &err));
    OK(weir_lake_flush(f.w, "old", -1, &err));
    assert_int_equal(lines(&f, "old"), 11);
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_lake_flush(f.w, "none", -1, &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_lake_status(f.w, "none", on_status, status, &err));
    OK(weir_topic_create(f.w, "outside", 1, NULL, 0, &err));
    FAILS(WEIR_ERR_CONFLICT, weir_lake_flush(f.w, "outside", -1, &err));
    fx_end(&f);
}

static int64_t number(struct weir *w, const char *sql)
{
    struct weir_result *r;
    int64_t v;

    OK(weir_query(w, sql, NULL, 0, NULL, &r, &err));
    OK(weir_result_next(r, &err));
    v = weir_result_value(r, 0)->i;
    weir_result_close(&r);
    return v;
}

/* Rows of the table and records that are not in it yet are one; and rows stay when the log's are gone. */
static void test_iceberg(void **state)
{
    struct weir_bridge_options o = {
        .size = sizeof o, .flat = true, .key = "id", .commit_seconds = 86400};
    struct weir_bridge *b;
    char data[64];
    struct fx f;
    int i;

    (void)state;
    lake_start(&f);
    OK(weir_bridge_open(f.w, &o, &b, &err));
    for (i = 0; i < 100; i++) {
        snprintf(data, sizeof data, "{\"id\":%d,\"total\":%d}", i, i * 2);
        emit(b, i % 2 ? WEIR_OP_UPDATE : WEIR_OP_INSERT, "orders", data);
    }
    OK(weir_bridge_flush(b, WEIR_COMMITTED, -1, &err));
    OK(weir_trim(f.w, "orders", 0, -1, &err));
    emit(b, WEIR_OP_DELETE, "orders", "{\"id\":100,\"total\":1000}");
    OK(weir_bridge_close(&b, &err));
    assert_int_equal(number(f.w, "SELECT sum(total)::BIGINT FROM orders"), 9900 + 1000);
    fx_reopen(&f);
    assert_int_equal(number(f.w, "SELECT count(*) FROM orders WHERE \"__op\" = 'u'"), 50);
    assert_int_equal(number(f.w, "SELECT count(DISTINCT key) FROM orders"), 101);
    fx_end(&f);
}

/* ---- streams ---- */

struct seen {
    _Atomic int records, errors;
    _Atomic int end_at; /* answers false at this record; 0: never */
    int last;
};

static bool on_record(void *arg, const struct weir_message *m, const struct weir_error *e)
{
    struct seen *s = arg;

    if (!m) {
        MUST(e->code == WEIR_ERR_OFFSET_RANGE);
        atomic_fetch_add(&s->errors, 1);
        return true;
    }
    MUST(!e);
    MUST(m->value_len > 0 && m->value_len < 10);
    s->last = 0;
    for (size_t i = 0; i < m->value_len; i++)
        s->last = s->last * 10 + ((const char *)m->value)[i] - '0';
    return atomic_fetch_add(&s->records, 1) + 1 != atomic_load(&s->end_at);
}

static void wait_records(struct seen *s, int n)
{
    while (atomic_load(&s->records) < n)
        nap_ms(2);
}

static void test_stream(void **state)
{
    struct weir_stream_options o = {
        .size = sizeof o, .sink = WEIR_SINK_JSONL, .partitions = 2, .commit_seconds = 86400};
    struct weir_consumer_options end = {.size = sizeof end, .from = WEIR_FROM_END};
    struct weir_subscription *all, *live, *some;
    struct seen seen = {0}, later = {0}, few = {.end_at = 3};
    struct weir_topic_info ti;
    struct weir_result *r;
    struct weir_stream *s;
    char text[16];
    struct fx f;
    int i;

    (void)state;
    lake_start(&f);
    plain_topic(&f, "events", 2);
    OK(weir_stream_open(f.w, "events", &o, &s, &err));
    for (i = 0; i < 50; i++) {
        snprintf(text, sizeof text, "%d", i);
        OK(weir_stream_emit(s, "event.made", i % 2 ? "odd" : NULL, text, strlen(text), &err));
    }
    OK(weir_stream_flush(s, WEIR_COMMITTED, -1, &err));
    assert_int_equal(lines(&f, "events"), 50);
    OK(weir_topic_describe(f.w, "events", &ti, &err));
    assert_int_equal(ti.partitions, 2);
    OK(weir_stream_subscribe(s, NULL, on_record, &seen, &all, &err));
    OK(weir_stream_subscribe(s, &end, on_record, &later, &live, &err));
    OK(weir_stream_subscribe(s, NULL, on_record, &few, &some, &err));
    wait_records(&seen, 50);
    assert_int_equal(seen.last, 49);
    for (i = 50; i < 60; i++) {
        snprintf(text, sizeof text, "%d", i);
        OK(weir_stream_emit(s, "event.made", NULL, text, strlen(text), &err));
    }
    wait_records(&seen, 60);
    wait_records(&later, 10);
    wait_records(&few, 3);
    weir_unsubscribe(&all);
    weir_unsubscribe(&live);
    weir_unsubscribe(&some);
    assert_null(all);
    assert_int_equal(atomic_load(&seen.records), 60);
    assert_int_equal(atomic_load(&later.records), 10);
    assert_int_equal(atomic_load(&few.records), 3);
    FAILS(WEIR_ERR_INVALID, weir_stream_emit(s, "", NULL, "1", 1, &err));
    FAILS(WEIR_ERR_INVALID, weir_stream_emit(s, "t", NULL, NULL, 1, &err));
    OK(weir_stream_query(s, "SELECT count(*) FROM events", NULL, 0, NULL, &r, &err));
    OK(weir_result_next(r, &err));
    assert_int_equal(weir_result_value(r, 0)->i, 60);
    weir_result_close(&r);
    OK(weir_stream_close(&s, &err));
    assert_null(s);
    fx_end(&f);
}

/* Many threads, one bridge; what each sends stays in order. */
#define THREADS 4
#define EACH    500

struct sender {
    struct weir_bridge *b;
    int id;
};

static void *sender_main(void *arg)
{
    struct sender *s = arg;
    char data[64], table[16];
    int i;

    for (i = 0; i < EACH; i++) {
        snprintf(data, sizeof data, "{\"s\":%d,\"i\":%d}", s->id, i);
        snprintf(table, sizeof table, "t%d", i % 5);
        while (weir_bridge_emit(s->b, WEIR_OP_INSERT, table, data, strlen(data), NULL))
            nap_ms(1);
        if (i % 100 == 99)
            MUST(weir_bridge_flush(s->b, i % 200 == 199 ? WEIR_COMMITTED : WEIR_DURABLE, -1,
                                   NULL) == WEIR_OK);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct weir_bridge_options o = {
        .size = sizeof o, .sink = WEIR_SINK_JSONL, .buffer_changes = 200, .commit_seconds = 1};
    struct sender s[THREADS];
    pthread_t thread[THREADS];
    struct weir_bridge_stats st;
    struct weir_bridge *b;
    int i, total = 0;
    char table[16];
    struct fx f;

    (void)state;
    lake_start(&f);
    for (i = 0; i < 5; i++) {
        snprintf(table, sizeof table, "t%d", i);
        plain_topic(&f, table, 1);
    }
    OK(weir_bridge_open(f.w, &o, &b, &err));
    for (i = 0; i < THREADS; i++) {
        s[i] = (struct sender){b, i};
        assert_int_equal(pthread_create(&thread[i], NULL, sender_main, &s[i]), 0);
    }
    for (i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    OK(weir_bridge_flush(b, WEIR_COMMITTED, -1, &err));
    weir_bridge_stats_get(b, &st);
    assert_int_equal(st.taken, THREADS * EACH);
    assert_int_equal(st.durable, THREADS * EACH);
    assert_int_equal(st.tables, 5);
    OK(weir_bridge_close(&b, &err));
    for (i = 0; i < 5; i++) {
        snprintf(table, sizeof table, "t%d", i);
        total += lines(&f, table);
    }
    assert_int_equal(total, THREADS * EACH);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),   cmocka_unit_test(test_flat),
        cmocka_unit_test(test_transform), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_jsonl),     cmocka_unit_test(test_iceberg),
        cmocka_unit_test(test_stream),    cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
