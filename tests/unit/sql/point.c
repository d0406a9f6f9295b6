/* Look-ups that are answered without DuckDB: what is one, its exact bounds, that it gives what DuckDB
 * gives, and what is learnt of times. */
#include "fixture.h"

#include "sql/point.h"
#include "sql/zones.h"

static bool parses(const char *text, struct sql_bounds *b, const struct sql_param *p, unsigned n)
{
    struct point x;
    bool ok = point_parse(&x, slice_str(text), p, n);

    *b = x.b;
    point_fini(&x);
    return ok;
}

static void test_parse(void **state)
{
    static const char *const refused[] = {
        "SELECT * FROM t",
        "SELECT 1 FROM t WHERE partition = 1",
        "SELECT * FROM t WHERE offset = 1 OR partition = 2",
        "SELECT * FROM t WHERE partition = 1 OR \"offset\" = 2",
        "SELECT * FROM t WHERE partition = 1 AND partition = 2",
        "SELECT * FROM t WHERE partition > 1",
        "SELECT * FROM t WHERE partition = -1",
        "SELECT * FROM t WHERE \"offset\" = 1.5",
        "SELECT * FROM t WHERE \"offset\" = 99999999999999999999",
        "SELECT * FROM t WHERE \"offset\" > 9223372036854775807",
        "SELECT * FROM t WHERE \"offset\" = 1 -- and more",
        "SELECT * FROM t /* x */ WHERE \"offset\" = 1",
        "SELECT * FROM t WHERE \"offset\" = 1 + 1",
        "SELECT * FROM t WHERE \"offset\" = 1::INT",
        "SELECT * FROM t WHERE \"offset\" = '1'",
        "SELECT * FROM t WHERE key = 'a'",
        "SELECT * FROM t WHERE \"offset\" = 1 ORDER BY 1",
        "SELECT * FROM t u WHERE \"offset\" = 1",
        "SELECT * FROM a.t WHERE \"offset\" = 1",
        "SELECT * FROM t, u WHERE \"offset\" = 1",
        "SELECT key, key FROM t WHERE \"offset\" = 1",
        "SELECT key k FROM t WHERE \"offset\" = 1",
        "SELECT DISTINCT * FROM t WHERE \"offset\" = 1",
        "SELECT * FROM t WHERE \"offset\" < = 1",
        "SELECT * FROM t WHERE \"offset\" <> 1",
        "SELECT * FROM t WHERE \"offset\" = 1 LIMIT 1 OFFSET 1",
        "SELECT * FROM t WHERE \"offset\" = $1",
        "SELECT * FROM t WHERE timestamp = 5",
        "SELECT * FROM t WHERE timestamp = '2026-01-01 00:00:00.0001'",
        "SELECT * FROM t WHERE timestamp = '2026-01-01 00:00'",
        "SELECT * FROM t WHERE timestamp = '2026-02-30 00:00:00'",
        "SELECT * FROM t WHERE timestamp = '2026-01-01 00:00:60'",
        "SELECT * FROM t WHERE timestamp = 'yesterday'",
        "SELECT * FROM \"a\"\"b\" WHERE \"offset\" = 1",
        "SELECT * FROM t WHERE \"offset\" = 1 AND",
        "SELECT",
        "",
    };
    struct sql_bounds b;
    size_t i;

    for (i = 0; i < sizeof refused / sizeof *refused; i++)
        if (parses(refused[i], &b, NULL, 0))
            fail_msg("%s is a look-up", refused[i]);
    assert_true(parses("SELECT * FROM t WHERE partition = 3 AND \"offset\" BETWEEN 5 AND 7 LIMIT 2",
                       &b, NULL, 0));
    assert_int_equal(b.partition, 3);
    assert_int_equal(b.offset_min, 5);
    assert_int_equal(b.offset_max, 7);
    assert_true(parses("select key, \"id\" from \"my-t\" where \"offset\">5 and \"offset\" < 9 and "
                       "\"offset\" >= 2 AND \"offset\"<=100",
                       &b, NULL, 0));
    assert_int_equal(b.offset_min, 6);
    assert_int_equal(b.offset_max, 8);
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } same[] = {{"2026-01-01 00:00:00", 1767225600000},
                {"2026-01-01T00:00:00.5Z", 1767225600500},
                {"2026-01-01", 1767225600000},
                {"2026-01-01 01:00:00.123+01", 1767225600123},
                {"2026-01-01 00:00:00-00:30", 1767225600000 + 1800000}};
    struct sql_param p = {.type = SQL_TIMESTAMP_TZ, .i64 = 1500};
    char text[200];
    struct sql_bounds b;
    size_t i;

    for (i = 0; i < sizeof same / sizeof *same; i++) {
        snprintf(text, sizeof text, "SELECT * FROM t WHERE timestamp = '%s'", same[i].text);
        if (!parses(text, &b, NULL, 0) || b.ts_min_ms != same[i].ms || b.ts_max_ms != same[i].ms)
            fail_msg("%s: %lld to %lld", text, (long long)b.ts_min_ms, (long long)b.ts_max_ms);
    }
    /* 1.5 ms: records have whole ones. */
    assert_true(parses("SELECT * FROM t WHERE timestamp >= $1", &b, &p, 1) && b.ts_min_ms == 2);
    assert_true(parses("SELECT * FROM t WHERE timestamp > $1", &b, &p, 1) && b.ts_min_ms == 2);
    assert_true(parses("SELECT * FROM t WHERE timestamp <= ?", &b, &p, 1) && b.ts_max_ms == 1);
    assert_true(parses("SELECT * FROM t WHERE timestamp < $1", &b, &p, 1) && b.ts_max_ms == 1);
    assert_true(parses("SELECT * FROM t WHERE timestamp = $1", &b, &p, 1));
    assert_true(b.ts_min_ms > b.ts_max_ms);
    p.i64 = -1500;
    assert_true(parses("SELECT * FROM t WHERE timestamp >= $1", &b, &p, 1) && b.ts_min_ms == -1);
    assert_true(parses("SELECT * FROM t WHERE timestamp < $1", &b, &p, 1) && b.ts_max_ms == -2);
    p.i64 = 2000;
    assert_true(parses("SELECT * FROM t WHERE timestamp > $1", &b, &p, 1) && b.ts_min_ms == 3);
    assert_true(parses("SELECT * FROM t WHERE timestamp < $1", &b, &p, 1) && b.ts_max_ms == 1);
    assert_false(parses("SELECT * FROM t WHERE \"offset\" = $1", &b, &p, 1));
    p.type = SQL_BIGINT;
    assert_true(parses("SELECT * FROM t WHERE \"offset\" = $1", &b, &p, 1));
    assert_false(parses("SELECT * FROM t WHERE \"offset\" = 1", &b, &p, 1)); /* $1 is not used */
    assert_false(parses("SELECT * FROM t WHERE \"offset\" = $2", &b, &p, 1));
}

/* The rows, their columns' names and their types, as text. */
static char *ask(struct fx *f, const char *text, uint64_t *planned_ns)
{
    struct sql_request rq = {.text = slice_str(text)};
    struct answer a;
    struct buf out;
    char *s;

    answer_init(&a);
    fx_ask(f, &rq, &a);
    if (a.code)
        fail_msg("%s: %s", text, text_of(&a.error));
    buf_init(&out, 64u << 20);
    buf_printf(&out, "%s\n%s\n%s", text_of(&a.head), text_of(&a.types), text_of(&a.rows));
    *planned_ns = a.stats.planned_ns;
    s = xstrdup(text_of(&out));
    buf_fini(&out);
    answer_fini(&a);
    return s;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorts the lines: threads of DuckDB's give their rows as they come. */
static void sort_lines(char *text)
{
    size_t i, n = 0, len = strlen(text);
    char **line = xcalloc(len + 1, sizeof *line), *whole = xcalloc(1, len + 2), *at, *rest = text;

    while ((at = strsep(&rest, "\n")))
        line[n++] = at;
    qsort(line, n, sizeof *line, by_text);
    for (i = 0, at = whole; i < n; i++)
        at = stpcpy(stpcpy(at, line[i]), "\n");
    memcpy(text, whole, len);
    free(whole);
    free(line);
}

/* The same words as a subquery are no look-up: DuckDB answers. */
static void same(struct fx *f, const char *text, bool direct)
{
    char whole[500], *ours, *theirs;
    uint64_t ours_ns, theirs_ns;

    snprintf(whole, sizeof whole, "SELECT * FROM (%s)", text);
    theirs = ask(f, whole, &theirs_ns);
    free(ask(f, text, &ours_ns)); /* the first time it is DuckDB's, too */
    ours = ask(f, text, &ours_ns);
    sort_lines(ours);
    sort_lines(theirs);
    if (strcmp(ours, theirs) != 0)
        fail_msg("%s:\n%s\ninstead of\n%s", text, ours, theirs);
    if (direct != (ours_ns == 0))
        fail_msg("%s: answered by %s", text, direct ? "DuckDB" : "itself");
    free(ours);
    free(theirs);
}

static void test_same(void **state)
{
    static const struct record_header h[] = {
        {{(const uint8_t *)"ce_type", 7}, {(const uint8_t *)"order.paid", 10}},
        {{(const uint8_t *)"x", 1}, {NULL, 0}}};
    struct sql_request rq = {.text = SLICE_LIT("SELECT * FROM orders WHERE \"offset\" < 1000"),
                             .rows_max = 7};
    struct answer a;
    struct topic *t;
    struct fx f;
    int i;

    fx_start(&f);
    t = fx_topic(&f, "orders", 2);
    fx_fill(&f, t, 0, 9000, 500,
            "{\"id\":%lld,\"name\":\"a name of some length\",\"x\":1.5,\"l\":[1],\"b\":true}");
    fx_put_full(&f, t, 1, 1700000000123, slice_str("k\xff"), slice_str("not json"), h, 2);
    fx_put_full(&f, t, 1, 1600000000000, SLICE_NULL, SLICE_NULL, NULL, 0);
    same(&f, "SELECT * FROM orders WHERE partition = 0 AND \"offset\" = 4321", true);
    same(&f, "SELECT * FROM orders WHERE partition = 1 AND \"offset\" >= 0", true);
    same(&f, "SELECT * FROM orders WHERE partition = 7 AND \"offset\" >= 0", true);
    same(&f, "SELECT id, key FROM orders WHERE partition = 0 AND \"offset\" BETWEEN 3 AND 5000",
         true);
    same(&f,
         "SELECT * FROM orders WHERE timestamp BETWEEN '2023-11-14 22:13:22.123+00' AND "
         "'2023-11-14 22:13:22.125+00'",
         true);
    same(&f,
         "SELECT * FROM orders WHERE timestamp > '2023-11-14 22:13:20.100+00' AND timestamp < "
         "'2023-11-14T22:13:20.103Z'",
         true);
    same(&f, "SELECT * FROM orders WHERE timestamp <= '2021-01-01'", true);
    same(&f, "SELECT id FROM orders WHERE partition = 0 AND \"offset\" < 5000 LIMIT 3000", true);
    same(&f, "SELECT id FROM orders WHERE partition = 0 LIMIT 0", true);
    same(&f, "SELECT ID FROM orders WHERE partition = 0 LIMIT 1", false);
    same(&f, "SELECT topic FROM stream_messages WHERE partition = 1", false);
    for (i = 0; i < 2; i++) {
        answer_init(&a);
        fx_ask(&f, &rq, &a);
        assert_true(a.stats.truncated && a.stats.rows == 7);
        answer_fini(&a);
    }
    /* A field that turns out to be of another type. */
    same(&f, "SELECT id FROM orders WHERE partition = 1", true);
    fx_put(&f, t, 1, "k", "{\"id\":\"text\"}");
    same(&f, "SELECT id FROM orders WHERE partition = 1", true);
    fx_refused(&f, "SELECT nothing FROM orders WHERE partition = 1", ERR_SQL, "nothing");
    fx_refused(&f, "SELECT * FROM nowhere WHERE partition = 1", ERR_SQL, "nowhere");
    topic_unref(&t);
    fx_end(&f);
}

/* ---- zones ---- */

static void expect_cut(struct zones *z, int64_t from, int64_t to, int64_t last, const char *want)
{
    static const uint8_t uuid[16] = {1};
    struct zone_range r[ZONE_RANGES_MAX];
    uint32_t i, n = zones_cut(z, uuid, 0, from, to, last, r);
    char text[2000] = "";

    for (i = 0; i < n; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%lld-%lld ",
                 (long long)r[i].from, (long long)r[i].to);
    assert_string_equal(text, want);
}

static void test_zones(void **state)
{
    static const uint8_t uuid[16] = {1};
    struct zones *z = zones_new(io_real());
    int64_t i;

    expect_cut(z, 0, 100, 5, "0-100 ");
    for (i = 0; i < 10; i++)
        zones_learn(z, uuid, 0, 0, i * 4096, (i + 1) * 4096, i * 100);
    zones_learn(z, uuid, 0, 0, 4096, 8192, 0); /* known already: nothing changes */
    expect_cut(z, 0, 50000, 250, "0-12288 40960-50000 ");
    expect_cut(z, 0, 50000, -1, "40960-50000 ");
    expect_cut(z, 5000, 6000, 250, "5000-6000 ");
    expect_cut(z, 5000, 6000, 50, "");
    expect_cut(z, 20000, 30000, 250, "");
    /* Small ones become one; one that begins in what is known goes on behind it. */
    zones_learn(z, uuid, 0, 0, 40950, 41000, 2000);
    zones_learn(z, uuid, 0, 0, 41000, 41010, 1000);
    expect_cut(z, 40960, 50000, 999, "41010-50000 ");
    expect_cut(z, 40960, 50000, 1500, "40960-50000 ");
    /* What is gone is forgotten. */
    zones_learn(z, uuid, 0, 40960, 60000, 60001, 5000);
    expect_cut(z, 0, 60001, -1, "0-40960 41010-60000 ");
    zones_free(&z);
}

static void test_zones_bounded(void **state)
{
    static const uint8_t uuid[16] = {1};
    struct zones *z = zones_new(io_real());
    int64_t i, n = 3 * ZONES_MAX;

    for (i = 0; i < n; i++) /* touching: they become larger */
        zones_learn(z, uuid, 0, 0, i * ZONE_RECORDS, (i + 1) * ZONE_RECORDS, i);
    expect_cut(z, 0, n * ZONE_RECORDS, -1, "");
    expect_cut(z, (n - 1) * ZONE_RECORDS, n * ZONE_RECORDS, n, "50327552-50331648 ");
    for (i = 0; i < n; i++) /* not touching: the first are forgotten */
        zones_learn(z, uuid, 1, 0, i * 10, i * 10 + 5, i);
    for (i = 0; i < 40; i++) { /* beyond the total all are */
        int64_t k;

        for (k = 0; k < ZONES_MAX; k++)
            zones_learn(z, uuid, (int32_t)(10 + i), 0, k * 10, k * 10 + 5, 0);
    }
    expect_cut(z, 0, 10, -1, "");
    zones_free(&z);
}

/* Places all over a partition that never touch, looked at again and again: zones stay as large as they
 * were, so what comes later is told apart, and joined, as at first. */
static void test_zones_scattered(void **state)
{
    static const uint8_t uuid[16] = {1};
    static const int turns[] = {10, 64};
    size_t k;

    for (k = 0; k < sizeof turns / sizeof *turns; k++) {
        struct zones *z = zones_new(io_real());
        int64_t i, at = 0, n = 2 * ZONE_RECORDS;

        for (i = 0; i < turns[k] * (ZONES_MAX / 4); i++, at += 10)
            zones_learn(z, uuid, 0, 0, at, at + 5, 1000);
        at = 10000000;
        zones_learn(z, uuid, 0, 0, at - ZONE_RECORDS, at, 1000);
        for (i = 0; i < n; i++)
            zones_learn(z, uuid, 0, 0, at + i, at + i + 1, 3000);
        expect_cut(z, at, at + n, 2000, "");
        expect_cut(z, at - 1, at + n, 2000, "9999999-10000000 ");
        zones_free(&z);
    }
}

/* Times that go back, and batches that are new since the last look. */
static void test_zones_scan(void **state)
{
    struct topic *t;
    struct fx f;
    int i;

    fx_start(&f);
    t = fx_topic(&f, "times", 1);
    for (i = 0; i < 3; i++) {
        fx_fill(&f, t, 0, 12000, 1000, "{\"id\":%lld}"); /* the same times again */
        same(&f,
             "SELECT * FROM times WHERE timestamp BETWEEN '2023-11-14 22:13:22.123+00' AND "
             "'2023-11-14 22:13:22.125+00'",
             true);
        fx_expect(&f, "SELECT count(*) FROM times WHERE timestamp < '2023-11-14 22:13:20.010+00'",
                  i == 0   ? "10\n"
                  : i == 1 ? "20\n"
                           : "30\n");
        fx_put_full(&f, t, 0, 1800000000000, SLICE_NULL, SLICE_NULL, NULL, 0);
    }
    fx_expect(&f, "SELECT count(*) FROM times WHERE timestamp >= '2027-01-01'", "3\n");
    topic_unref(&t);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),         cmocka_unit_test(test_times),
        cmocka_unit_test(test_same),          cmocka_unit_test(test_zones),
        cmocka_unit_test(test_zones_bounded), cmocka_unit_test(test_zones_scattered),
        cmocka_unit_test(test_zones_scan),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
