/* Queries over topics: the columns of records and of JSON fields, kinds of mentions, parameters,
 * limits, system tables, errors in the asker's terms, fields that appear and change. */
#include "fixture.h"
#include "sql/duckdb_int.h"

static void test_records(void **state)
{
    static const struct record_header h[] = {
        {{(const uint8_t *)"ce_type", 7}, {(const uint8_t *)"order.paid", 10}},
        {{(const uint8_t *)"ce_id", 5}, {(const uint8_t *)"e-1", 3}},
        {{(const uint8_t *)"x", 1}, {NULL, 0}}};
    struct topic *t;
    struct fx f;

    fx_start(&f);
    t = fx_topic(&f, "orders", 2);
    fx_put_full(&f, t, 1, 1700000000123, slice_str("k\xff"), slice_str("not json"), h, 3);
    fx_put_full(&f, t, 1, 1700000000124, SLICE_NULL, SLICE_NULL, NULL, 0);
    fx_expect(&f,
              "SELECT topic, partition, \"offset\", timestamp, key, value, headers, ce_type, ce_id "
              "FROM orders ORDER BY \"offset\"",
              "orders|1|0|2023-11-14 22:13:20.123+00|k\\xFF|not json|"
              "{\"{\\\"key\\\":\\\"ce_type\\\",\\\"value\\\":\\\"order.paid\\\"}\","
              "\"{\\\"key\\\":\\\"ce_id\\\",\\\"value\\\":\\\"e-1\\\"}\","
              "\"{\\\"key\\\":\\\"x\\\",\\\"value\\\":null}\"}|order.paid|e-1\n"
              "orders|1|1|2023-11-14 22:13:20.124+00|~|~|{}|~|~\n");
    fx_expect(&f, "SELECT key, typeof(value) FROM weir_scan('orders') WHERE \"offset\" = 0",
              "\\x6bff|BLOB\n");
    fx_expect(&f, "SELECT count(*) FROM weir_scan('orders', min_offset := 1, partition := 1)",
              "1\n");
    fx_expect(&f, "SELECT count(*), max(\"offset\") FROM orders", "2|1\n");
    topic_unref(&t);
    fx_end(&f);
}

static void test_fields(void **state)
{
    struct sql_request rq = {.text = SLICE_LIT("EXPLAIN SELECT id FROM orders LIMIT 0")};
    struct answer a;
    struct topic *t;
    struct fx f;

    fx_start(&f);
    t = fx_topic(&f, "orders", 1);
    fx_put(
        &f, t, 0, "a",
        "{\"id\":1,\"status\":\"completed\",\"total\":1.5,\"ok\":true,\"items\":[{\"sku\":\"x\"}],"
        "\"timestamp\":\"t1\",\"Status\":\"other\",\"esc\\u0061pe\":\"\\u00e4\\n\"}");
    fx_put(&f, t, 0, "b", "{\"id\":2,\"status\":\"open\",\"total\":2,\"ok\":null}");
    fx_put(&f, t, 0, "c", "[1,2]");
    fx_expect(&f,
              "SELECT id, status, total, ok, items->>'$[0].sku', value_timestamp, value_Status, "
              "\"escape\" FROM orders ORDER BY \"offset\"",
              "1|completed|1.5|t|x|t1|other|\xc3\xa4\n\n"
              "2|open|2|~|~|~|~|~\n~|~|~|~|~|~|~|~\n");
    fx_expect(&f,
              "SELECT string_agg(column_name || ' ' || column_type, ', ') FROM (DESCRIBE orders) "
              "WHERE column_name IN ('id', 'status', 'total', 'ok', 'items', 'offset')",
              "offset BIGINT, id BIGINT, status VARCHAR, total DOUBLE, ok BOOLEAN, items JSON\n");
    fx_expect(&f,
              "SELECT id FROM orders WHERE timestamp > NOW() - INTERVAL '1 hour' AND status = "
              "'completed' ORDER BY timestamp DESC LIMIT 100",
              "1\n");
    fx_expect(&f, "SELECT o.id FROM orders o WHERE o.id = 1 AND value->>'status' = 'completed'",
              "1\n");
    fx_expect(&f, "WITH orders AS (SELECT 7 AS id) SELECT id FROM orders", "7\n");
    fx_expect(&f, "SELECT a.id, b.id FROM orders a JOIN orders b ON a.id + 1 = b.id", "1|2\n");
    answer_init(&a);
    fx_ask(&f, &rq, &a);
    assert_int_equal(a.code, ERR_OK);
    assert_non_null(strstr(text_of(&a.rows), "EMPTY_RESULT"));
    answer_fini(&a);
    topic_unref(&t);
    fx_end(&f);
}

/* What the sample did not have: a wider type, a field in one record of many. */
static void test_change(void **state)
{
    char *text;
    struct topic *t;
    struct fx f;
    int i;

    fx_start(&f);
    t = fx_topic(&f, "m", 1);
    fx_fill(&f, t, 0, 30000, 1000, "{\"n\":%lld}");
    fx_put(&f, t, 0, "x", "{\"n\":0.5,\"rare\":\"here\"}");
    fx_fill(&f, t, 0, 30000, 1000, "{\"n\":%lld}");
    fx_expect(&f, "SELECT count(n), typeof(any_value(n)) FROM m", "60001|DOUBLE\n");
    fx_expect(&f, "SELECT n FROM m WHERE rare = 'here'", "0.5\n");
    fx_put(&f, t, 0, "x", "{\"n\":\"word\"}");
    fx_expect(&f, "SELECT count(n), typeof(any_value(n)) FROM m", "60002|VARCHAR\n");
    fx_put(&f, t, 0, "x", "{\"n\":01,\"n2\":\"bad \\q\"}");
    fx_expect(&f, "SELECT count(*) FROM m", "60003\n");
    text = malloc(100000);
    assert_non_null(text);
    memcpy(text, "{", 2);
    for (i = 0; i < 2000; i++)
        snprintf(text + strlen(text), 32, "%s\"f%d\":%d", i ? "," : "", i, i);
    snprintf(text + strlen(text), 2, "}");
    fx_put(&f, t, 0, "x", text); /* more fields than may be columns */
    free(text);
    fx_expect(&f, "SELECT count(f1) FROM m WHERE \"offset\" > 60000", "1\n");
    topic_unref(&t);
    fx_end(&f);
}

static void test_parameters(void **state)
{
    struct sql_param p[] = {{.type = SQL_VARCHAR, .bytes = SLICE_LIT("1")},
                            {.type = SQL_BIGINT, .i64 = 2},
                            {.type = SQL_VARCHAR, .bytes = SLICE_LIT("2020-01-01")},
                            {.type = SQL_VARCHAR, .bytes = SLICE_LIT("b")}};
    struct sql_request rq = {
        .text =
            SLICE_LIT("SELECT \"offset\" FROM t WHERE \"offset\" >= $1 AND n <= $2 AND timestamp "
                      "> $3 AND key = $4"),
        .params = p,
        .params_n = 4};
    struct answer a;
    struct topic *t;
    struct fx f;

    fx_start(&f);
    t = fx_topic(&f, "t", 1);
    fx_put(&f, t, 0, "a", "{\"n\":1}");
    fx_put(&f, t, 0, "b", "{\"n\":2}");
    fx_put(&f, t, 0, "b", "{\"n\":3}");
    answer_init(&a);
    fx_ask(&f, &rq, &a);
    assert_int_equal(a.code, ERR_OK);
    assert_string_equal(text_of(&a.rows), "1\n");
    assert_true(a.stats.rows_scanned <= 2);
    answer_fini(&a);
    answer_init(&a);
    rq.params_n = 3;
    fx_ask(&f, &rq, &a);
    assert_int_equal(a.code, ERR_SQL);
    answer_fini(&a);
    answer_init(&a);
    rq.params_n = 4;
    p[0].bytes = SLICE_LIT("one");
    fx_ask(&f, &rq, &a);
    assert_int_equal(a.code, ERR_SQL);
    assert_string_equal(a.sqlstate, "22P02");
    answer_fini(&a);
    topic_unref(&t);
    fx_end(&f);
}

static void test_limits(void **state)
{
    struct sql_request rq = {.text = SLICE_LIT("SELECT \"offset\" FROM t"), .rows_max = 5000};
    struct answer a;
    struct topic *t;
    struct fx f;

    fx_start(&f);
    t = fx_topic(&f, "t", 1);
    fx_fill(&f, t, 0, 20000, 1000, "%lld");
    answer_init(&a);
    fx_ask(&f, &rq, &a);
    assert_int_equal(a.code, ERR_OK);
    assert_int_equal(a.stats.rows, 5000);
    assert_true(a.stats.truncated);
    answer_fini(&a);
    answer_init(&a);
    rq.rows_max = 20000;
    rq.bytes_max = 100000;
    fx_ask(&f, &rq, &a);
    assert_true(a.stats.truncated && a.stats.bytes <= 100000 && a.stats.rows > 2000);
    answer_fini(&a);
    answer_init(&a);
    rq.bytes_max = 0;
    fx_ask(&f, &rq, &a);
    assert_true(!a.stats.truncated && a.stats.rows == 20000);
    answer_fini(&a);
    topic_unref(&t);
    fx_end(&f);
}

/* A look-up reads what it must. */
static void test_narrow(void **state)
{
    static const struct {
        const char *where;
        uint64_t rows, most;
    } q[] = {
        {"partition = 1 AND \"offset\" = 12345", 1, 1},
        {"partition = 1 AND \"offset\" BETWEEN 100 AND 199", 100, 100},
        {"1 = partition AND \"offset\" IN (7, 3, 5)", 3, 5},
        {"\"offset\" < 10", 20, 20},
        {"\"offset\" < 10 OR \"offset\" = 50", 22, 40000},
        {"NOT \"offset\" >= 10", 20, 40000},
        {"timestamp >= TIMESTAMPTZ '2023-11-14 22:13:39.990Z'", 20, 2000},
        {"timestamp BETWEEN '2023-11-14 22:13:25+00' AND '2023-11-14 22:13:25.004+00'", 10, 14},
        {"timestamp < '2023-11-14 22:13:20.003+00'", 6, 10},
        {"timestamp > now() - INTERVAL 1 HOUR", 0, 0},
        {"position < 1000 AND partition = 0", 0, 1000},
    };
    char text[300];
    struct answer a;
    struct topic *t;
    struct fx f;
    size_t i;

    fx_start(&f);
    t = fx_topic(&f, "t", 2);
    fx_fill(&f, t, 0, 20000, 500, "%lld");
    fx_fill(&f, t, 1, 20000, 500, "%lld");
    for (i = 0; i < sizeof q / sizeof *q; i++) {
        struct sql_request rq;

        snprintf(text, sizeof text, "SELECT 1 FROM t WHERE %s", q[i].where);
        rq = (struct sql_request){.text = slice_str(text)};
        answer_init(&a);
        fx_ask(&f, &rq, &a);
        if (a.code)
            fail_msg("%s: %s", text, text_of(&a.error));
        if ((q[i].rows && a.stats.rows != q[i].rows) || a.stats.rows_scanned > q[i].most)
            fail_msg("%s: %llu rows of %llu", text, (unsigned long long)a.stats.rows,
                     (unsigned long long)a.stats.rows_scanned);
        answer_fini(&a);
    }
    fx_expect(&f,
              "SELECT count(*) FROM t a ASOF JOIN t b ON a.position >= b.position WHERE "
              "b.\"offset\" = 5 AND a.partition = 0 AND a.\"offset\" = 5",
              "1\n");
    fx_expect(&f,
              "SELECT count(*) FROM (SELECT * FROM t WHERE \"offset\" < 5) x, t WHERE "
              "t.\"offset\" = 19999 AND x.partition = t.partition",
              "10\n");
    topic_unref(&t);
    fx_end(&f);
}

static void test_system(void **state)
{
    struct topic *t, *u;
    struct errinfo info;
    struct fx f;

    fx_start(&f);
    t = fx_topic(&f, "orders", 2);
    u = fx_topic(&f, "shop.eu-1", 1);
    fx_put(&f, t, 0, "a", "{\"n\":1}");
    fx_put(&f, u, 0, "b", "2");
    assert_int_equal(
        group_commit_wait(f.b, SLICE_LIT("g"), topic_partition(t, 0), 1, SLICE_LIT("m"), &info),
        ERR_OK);
    fx_expect(&f, "SELECT topic, partitions, records FROM weir.topics ORDER BY topic",
              "orders|2|1\nshop.eu-1|1|1\n");
    fx_expect(&f,
              "SELECT topic, partition, start_offset, end_offset, stable_offset FROM "
              "weir.partitions ORDER BY ALL",
              "orders|0|0|1|1\norders|1|0|0|0\nshop.eu-1|0|0|1|1\n");
    fx_expect(&f,
              "SELECT topic, partition, \"offset\", key, value, headers FROM stream_messages ORDER "
              "BY timestamp, topic",
              "orders|0|0|a|{\"n\":1}|{}\nshop.eu-1|0|0|b|2|{}\n");
    fx_expect(&f, "SELECT key FROM stream_messages WHERE topic = 'shop.eu-1'", "b\n");
    fx_expect(&f,
              "SELECT group_id, topic, partition, \"offset\", metadata, committed_at > now() - "
              "INTERVAL 1 HOUR FROM stream_offsets",
              "g|orders|0|1|m|t\n");
    fx_expect(&f, "SELECT count(*) FROM stream_groups", "1\n");
    fx_expect(&f, "SELECT group_id, kind, state FROM weir.groups", "g|classic|Empty\n");
    fx_expect(&f, "SELECT count(*) FROM weir.snapshots", "0\n");
    fx_expect(&f, "SELECT key FROM \"shop.eu-1\"", "b\n");
    topic_unref(&t);
    topic_unref(&u);
    fx_end(&f);
}

static void test_errors(void **state)
{
    struct sql_request rq = {.text = SLICE_LIT("SELECT '\xc3\xa4', stats FROM orders")};
    struct answer a;
    struct topic *t;
    struct fx f;

    fx_start(&f);
    t = fx_topic(&f, "orders", 1);
    fx_put(&f, t, 0, "a", "{\"status\":1}");
    fx_refused(&f, "SELEC 1", ERR_SQL, "syntax error");
    fx_refused(&f, "SELECT * FROM order", ERR_SQL, "syntax error");
    fx_refused(&f, "SELECT * FROM ordrs", ERR_SQL, "\"orders\"");
    fx_refused(&f, "SELECT stats FROM orders", ERR_SQL, "\"status\"");
    fx_refused(&f, "SELECT nofunction(1)", ERR_SQL, "nofunction");
    fx_refused(&f, "SELECT 'x'::INTEGER", ERR_SQL, "convert");
    fx_refused(&f, "", ERR_SQL, "one statement");
    fx_refused(&f, "SELECT 1; SELECT 2", ERR_SQL, "one statement");
    fx_expect(&f, "SELECT 1;", "1\n");
    answer_init(&a);
    fx_ask(&f, &rq, &a);
    assert_int_equal(a.position, 13);
    assert_string_equal(a.sqlstate, "42703");
    answer_fini(&a);
    rq.text = SLICE_LIT("SELECT value->>'a', nope FROM orders");
    answer_init(&a);
    fx_ask(&f, &rq, &a);
    assert_int_equal(a.position, 21);
    answer_fini(&a);
    topic_unref(&t);
    fx_end(&f);
}

static void test_types(void **state)
{
    struct fx f;

    fx_start(&f);
    fx_expect(&f,
              "SELECT true, 1::TINYINT, -5::HUGEINT, 1.50::DECIMAL(9,2), 0.1::FLOAT, 1e300, "
              "DATE '2026-01-02', TIME '01:02:03.5', TIMESTAMP '2026-01-02 03:04:05.678', "
              "INTERVAL '1 year 2 months 3 days 4 hours', "
              "'00112233-4455-6677-8899-aabbccddeeff'::UUID, 'a'::ENUM('a','b'), [1,NULL,3], "
              "['a b','',NULL], {'x':1,'y':'z'}, MAP {'k':1}, '\\xAB'::BLOB, '101'::BIT, "
              "170141183460469231731687303715884105727::HUGEINT, NULL",
              "t|1|-5|1.50|0.1|1e+300|2026-01-02|01:02:03.5|2026-01-02 03:04:05.678|"
              "1 year 2 mons 3 days 04:00:00|00112233-4455-6677-8899-aabbccddeeff|a|{1,NULL,3}|"
              "{\"a b\",\"\",NULL}|{\"x\":1,\"y\":\"z\"}|{\"k\":1}|\\xab|101|"
              "170141183460469231731687303715884105727|~\n");
    fx_end(&f);
}

/* What there is, as clients ask it. */
static void test_lists(void **state)
{
    struct sql_request pivot = {.text = SLICE_LIT("PIVOT orders ON id USING count(*)")};
    struct topic *t;
    struct answer a;
    struct fx f;

    fx_start(&f);
    t = fx_topic(&f, "orders", 1);
    fx_put(&f, t, 0, "a", "{\"id\":1,\"paid\":true}");
    fx_expect(&f, "SHOW TABLES;",
              "orders\nstream_groups\nstream_messages\nstream_offsets\nweir.columns\n"
              "weir.groups\nweir.partitions\nweir.snapshots\nweir.tables\nweir.topics\n");
    fx_expect(&f,
              "SELECT table_name, table_type FROM information_schema.tables WHERE table_name LIKE "
              "'o%'",
              "orders|BASE TABLE\n");
    fx_expect(&f,
              "SELECT column_name, data_type, ordinal_position FROM information_schema.columns c "
              "WHERE c.table_name = 'orders' AND ordinal_position IN (5, 11, 12) ORDER BY 3",
              "timestamp|TIMESTAMP WITH TIME ZONE|5\nid|BIGINT|11\npaid|BOOLEAN|12\n");
    fx_expect(&f, "PIVOT (SELECT id, paid FROM orders) ON id IN (1, 2) USING count(*)", "t|1|0\n");
    answer_init(&a);
    fx_ask(&f, &pivot, &a);
    assert_int_equal(a.code, ERR_SQL);
    assert_non_null(strstr(text_of(&a.hint), "IN ('open'"));
    answer_fini(&a);
    topic_unref(&t);
    fx_end(&f);
}

/* A topic without a lake as of a record, or of a time of records. */
static void test_past(void **state)
{
    struct topic *t;
    struct fx f;
    int i;

    fx_start(&f);
    t = fx_topic(&f, "orders", 1);
    for (i = 0; i < 5; i++)
        fx_put(&f, t, 0, "a", "{\"id\":1}");
    fx_expect(&f, "SELECT max(position) - min(position), count(*) FROM orders AT (POSITION => 3)",
              "2|3\n");
    fx_expect(&f,
              "SELECT count(*) FROM orders o JOIN orders AT (POSITION => 2) p USING (\"offset\")",
              "2\n");
    fx_expect(&f, "SELECT count(*) FROM orders AT (TIMESTAMP => '2020-01-01')", "0\n");
    fx_expect(&f, "SELECT count(id) FROM orders AT (TIMESTAMP => '2220-01-01')", "5\n");
    topic_unref(&t);
    fx_end(&f);
}

/* What two instances spill is in one folder, but not in the same files. */
static void test_spill(void **state)
{
    static const char make[] = "CREATE TEMP TABLE t AS SELECT hash(i) h FROM range(6000000) r(i)";
    struct engine_conf conf = {.memory_bytes = 40u << 20, .threads = 1};
    struct sql_conf sc = {.threads = 1};
    struct engine *e[2];
    duckdb_connection c[2];
    struct errinfo info = {0};
    char dir[64];
    struct fx f;
    int i;

    fx_start_with(&f, &sc);
    snprintf(dir, sizeof dir, "%.50s/spill", f.dir);
    conf.temp_dir = dir;
    for (i = 0; i < 2; i++)
        if (engine_open(f.sql, &conf, &e[i], &info) || engine_connect(e[i], &c[i], &info) ||
            engine_exec(c[i], make, &info))
            fail_msg("%s", info.text);
    for (i = 1; i >= 0; i--) {
        if (engine_exec(c[i],
                        "SELECT CASE WHEN sum(h) <> (SELECT sum(hash(i)) FROM range(6000000) r(i)) "
                        "THEN error('other rows') END FROM t",
                        &info))
            fail_msg("%s", info.text);
        engine_disconnect(e[i], &c[i]);
        engine_close(&e[i]);
    }
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records), cmocka_unit_test(test_fields),
        cmocka_unit_test(test_change),  cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_limits),  cmocka_unit_test(test_narrow),
        cmocka_unit_test(test_system),  cmocka_unit_test(test_errors),
        cmocka_unit_test(test_types),   cmocka_unit_test(test_lists),
        cmocka_unit_test(test_past),    cmocka_unit_test(test_spill),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
