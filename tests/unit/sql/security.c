/* What a query may not do: reach files or the network, change an instance, read topics that its
 * asker may not; and what it may cost: time, memory, others' work. */
#include "fixture.h"

static void test_fenced(void **state)
{
    static const char *const bad[] = {
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM read_json('http://127.0.0.1/x.json')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'x.csv'",
        "SELECT * FROM parquet_metadata('/etc/passwd')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/weir-sql-evil.csv'",
        "COPY (SELECT 1) TO '/tmp/weir-sql-evil.parquet' (FORMAT parquet)",
        "EXPORT DATABASE '/tmp/weir-sql-evil'",
        "ATTACH '/tmp/weir-sql-evil.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CREATE TABLE x(a INTEGER)",
        "CREATE TEMP VIEW x AS SELECT 1",
        "CREATE MACRO f(a) AS a",
        "DROP VIEW stream_offsets",
        "INSERT INTO orders VALUES (1)",
        "DELETE FROM orders",
        "UPDATE orders SET key = 'x'",
        "SET memory_limit = '100GB'",
        "SET VARIABLE x = 1",
        "RESET lock_configuration",
        "PRAGMA enable_profiling",
        "PRAGMA database_list",
        "CALL enable_logging()",
        "SELECT * FROM enable_logging()",
        "SELECT * FROM enable_peg_parser()",
        "SELECT * FROM query('SELECT * FROM enable_logging()')",
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
        "SELECT write_log('x')",
        "SELECT * FROM checkpoint()",
        "SELECT * FROM weir_table(0)",
        "SELECT * FROM main.weir_table(0)",
        "BEGIN",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "VACUUM",
        "USE weir",
        "EXPLAIN DELETE FROM orders",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/weir-sql-evil.csv'",
        "SELECT 1; DROP VIEW stream_offsets",
    };
    struct topic *t;
    struct answer a;
    struct fx f;
    size_t i;

    fx_start(&f);
    t = fx_topic(&f, "orders", 1);
    fx_put(&f, t, 0, "a", "{\"n\":1}");
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sql_request rq = {.text = slice_str(bad[i])};

        answer_init(&a);
        fx_ask(&f, &rq, &a);
        if (a.code == ERR_OK || a.rows.len)
            fail_msg("%s: %s", bad[i], text_of(&a.rows));
        answer_fini(&a);
    }
    assert_int_equal(access("/tmp/weir-sql-evil.csv", F_OK), -1);
    assert_int_equal(access("/tmp/weir-sql-evil.parquet", F_OK), -1);
    assert_int_equal(access("/tmp/weir-sql-evil.db", F_OK), -1);
    fx_expect(&f, "SELECT n FROM orders", "1\n"); /* as before */
    fx_expect(&f, "SELECT count(*) FROM stream_offsets", "0\n");
    topic_unref(&t);
    fx_end(&f);
}

static void test_authorised(void **state)
{
    static const char *const denied[] = {
        "SELECT * FROM secret",
        "SELECT 1 FROM orders WHERE EXISTS (SELECT 1 FROM secret)",
        "SELECT * FROM weir_scan('secret')",
        "DESCRIBE secret",
        "WITH x AS (SELECT * FROM secret) SELECT * FROM x",
    };
    struct topic *t, *u;
    struct answer a;
    struct fx f;
    size_t i;

    fx_start(&f);
    t = fx_topic(&f, "orders", 1);
    u = fx_topic(&f, "secret", 1);
    fx_put(&f, t, 0, "a", "1");
    fx_put(&f, u, 0, "b", "2");
    for (i = 0; i < sizeof denied / sizeof *denied + 2; i++) {
        static const char *const seen[] = {"SELECT key FROM stream_messages",
                                           "SELECT topic FROM weir.topics"};
        bool ok = i >= sizeof denied / sizeof *denied;
        struct sql_request rq = {
            .text = slice_str(ok ? seen[i - sizeof denied / sizeof *denied] : denied[i]),
            .topic_allowed = answer_allowed};

        answer_init(&a);
        a.deny = "secret";
        fx_ask(&f, &rq, &a);
        if (!ok) {
            assert_int_equal(a.code, ERR_FORBIDDEN);
            assert_string_equal(a.sqlstate, "42501");
        } else {
            assert_int_equal(a.code, ERR_OK);
            assert_null(strstr(text_of(&a.rows), i & 1 ? "b" : "secret"));
            assert_int_equal(a.stats.rows, 1);
        }
        answer_fini(&a);
    }
    topic_unref(&t);
    topic_unref(&u);
    fx_end(&f);
}

#define ENDLESS "SELECT count(*) FROM range(1000000000000) a WHERE sqrt(range) = -1"

static void test_timeout_and_cancel(void **state)
{
    struct sql_request rq = {.text = SLICE_LIT(ENDLESS), .timeout_ms = 200};
    struct sql_query *q = NULL;
    struct errinfo info;
    struct answer a;
    struct fx f;

    fx_start(&f);
    answer_init(&a);
    fx_ask(&f, &rq, &a);
    assert_int_equal(a.code, ERR_TIMEOUT);
    assert_string_equal(a.sqlstate, "57014");
    answer_fini(&a);
    answer_init(&a);
    rq.timeout_ms = -1;
    rq.sink = &answer_sink;
    rq.arg = &a;
    assert_int_equal(sql_run(f.sql, &rq, &q, &info), ERR_OK);
    usleep(20000);
    sql_cancel(q);
    answer_wait(&a);
    assert_int_equal(a.code, ERR_CANCELLED);
    sql_cancel(q); /* too late, no harm */
    sql_release(&q);
    answer_fini(&a);
    fx_end(&f);
}

/* Queries that would take all: one worker pool, bounded memory, writers go on. */
static void test_bad_queries(void **state)
{
    static const char *const bad[] = {
        ENDLESS,
        "SELECT a.range, b.range FROM range(100000000) a, range(100000000) b ORDER BY 1 DESC, 2",
        "SELECT list(range) FROM range(10000000000)",
        "SELECT count(DISTINCT range::VARCHAR || 'xxxxxxxxxxxxxxxxxxxxxxxxxxxx') FROM "
        "range(10000000000)",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT sum(n) FROM r",
    };
    struct sql_conf conf = {.threads = 2, .workers_max = 4, .memory_bytes = 128u << 20};
    struct sql_request rq = {.sink = &answer_sink, .timeout_ms = 1500};
    struct answer a[10];
    struct errinfo info;
    struct topic *t;
    struct fx f;
    int i;

    fx_start_with(&f, &conf);
    t = fx_topic(&f, "orders", 1);
    for (i = 0; i < 10; i++) {
        answer_init(&a[i]);
        rq.text = slice_str(bad[i % 5]);
        rq.arg = &a[i];
        assert_int_equal(sql_run(f.sql, &rq, NULL, &info), ERR_OK);
    }
    fx_fill(&f, t, 0, 20000, 100, "{\"n\":%lld}");
    for (i = 0; i < 10; i++) {
        answer_wait(&a[i]);
        if (a[i].code != ERR_TIMEOUT && a[i].code != ERR_NO_MEMORY)
            fail_msg("%s: %s %s", bad[i % 5], err_code(a[i].code), text_of(&a[i].error));
        answer_fini(&a[i]);
    }
    fx_expect(&f, "SELECT count(n), max(n) FROM orders", "20000|19999\n");
    topic_unref(&t);
    fx_end(&f);
}

/* What a single function makes is not counted by DuckDB, but its allocator has an end. */
static void test_large_values(void **state)
{
    static const char *const bad[] = {
        "SELECT length(repeat('x', 3000000000::BIGINT))",
        "SELECT sum(length(repeat('x', 100000000 + range))) FROM range(1000)",
        "SELECT len(range(1000000000))",
        "SELECT len(list_resize([1], 1000000000, 0))",
    };
    struct sql_conf conf = {.threads = 2, .memory_bytes = 64u << 20};
    struct answer a;
    struct fx f;
    size_t i;

    fx_start_with(&f, &conf);
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct sql_request rq = {.text = slice_str(bad[i])};

        answer_init(&a);
        fx_ask(&f, &rq, &a);
        assert_int_equal(a.code, ERR_NO_MEMORY);
        assert_string_equal(a.sqlstate, "53200");
        assert_null(strstr(text_of(&a.error), "SET "));
        answer_fini(&a);
    }
    fx_expect(&f, "SELECT length(repeat('x', 10000000))", "10000000\n");
    fx_end(&f);
}

/* A smaller limit of one's own; a queue that is full; closing while queries run. */
static void test_own_memory(void **state)
{
    struct sql_request rq = {
        .text = SLICE_LIT("SELECT count(*) FROM (SELECT DISTINCT range FROM range(20000000))"),
        .memory_bytes = 20u << 20};
    struct answer a;
    struct fx f;

    fx_start(&f);
    answer_init(&a);
    fx_ask(&f, &rq, &a);
    assert_int_equal(a.code, ERR_NO_MEMORY);
    answer_fini(&a);
    fx_end(&f);
}

static void test_queue(void **state)
{
    struct sql_conf conf = {.threads = 1, .workers_max = 1, .queue_max = 2};
    struct sql_request rq = {.text = SLICE_LIT(ENDLESS), .timeout_ms = -1, .sink = &answer_sink};
    struct answer a[3], b;
    struct sql_totals totals;
    struct errinfo info;
    struct fx f;
    int i;

    fx_start_with(&f, &conf);
    for (i = 0; i < 3; i++) {
        answer_init(&a[i]);
        rq.arg = &a[i];
        if (i == 2)
            rq.timeout_ms = 50; /* it waits, and is told in time */
        assert_int_equal(sql_run(f.sql, &rq, NULL, &info), ERR_OK);
        do
            sql_totals_get(f.sql, &totals);
        while (totals.running == 0);
    }
    answer_wait(&a[2]);
    assert_int_equal(a[2].code, ERR_TIMEOUT);
    rq.timeout_ms = -1;
    rq.arg = &a[2];
    answer_fini(&a[2]);
    answer_init(&a[2]);
    assert_int_equal(sql_run(f.sql, &rq, NULL, &info), ERR_OK);
    answer_init(&b);
    rq.arg = &b;
    assert_int_equal(sql_run(f.sql, &rq, NULL, &info), ERR_OVERLOADED);
    answer_fini(&b);
    fx_end(&f);
    for (i = 0; i < 3; i++) {
        assert_true(a[i].done);
        assert_int_equal(a[i].code, ERR_CANCELLED);
        answer_fini(&a[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fenced),
        cmocka_unit_test(test_authorised),
        cmocka_unit_test(test_timeout_and_cancel),
        cmocka_unit_test(test_bad_queries),
        cmocka_unit_test(test_large_values),
        cmocka_unit_test(test_own_memory),
        cmocka_unit_test(test_queue),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
