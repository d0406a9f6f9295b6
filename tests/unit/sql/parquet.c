/* Parquet files: written from a topic's ranges with field ids and statistics, read back byte by
 * byte, rewritten with other columns. */
#include "fixture.h"

#include "sql/parquet.h"

static const struct sql_column columns[] = {
    {.name = "partition", .source = SQL_FROM_PARTITION, .type = SQL_INTEGER, .field_id = 1},
    {.name = "offset", .source = SQL_FROM_OFFSET, .type = SQL_BIGINT, .field_id = 2},
    {.name = "position", .source = SQL_FROM_POSITION, .type = SQL_BIGINT, .field_id = 3},
    {.name = "timestamp", .source = SQL_FROM_TIMESTAMP, .type = SQL_TIMESTAMP_TZ, .field_id = 4},
    {.name = "key", .source = SQL_FROM_KEY, .type = SQL_BLOB, .field_id = 5},
    {.name = "value", .source = SQL_FROM_VALUE, .type = SQL_BLOB, .field_id = 6},
    {.name = "headers",
     .source = SQL_FROM_HEADERS,
     .type = SQL_BLOB,
     .field_id = 7,
     .child_id = {8, 9, 10}},
    {.name = "n", .source = SQL_FROM_FIELD, .type = SQL_BIGINT, .field = "n", .field_id = 11},
    {.name = "n_text",
     .source = SQL_FROM_MISFIT,
     .type = SQL_VARCHAR,
     .type_of = SQL_BIGINT,
     .field = "n",
     .field_id = 12},
    {.name = "o \"q\"", .source = SQL_FROM_FIELD, .type = SQL_JSON, .field = "o", .field_id = 13},
};
#define COLUMNS (sizeof columns / sizeof *columns)

static struct parquet *open_parquet(struct fx *f)
{
    const char *dirs[] = {f->dir};
    struct parquet_conf conf = {.sql = f->sql, .dirs = dirs, .dirs_n = 1};
    struct parquet *p;
    struct errinfo info;

    assert_int_equal(parquet_open(&conf, &p, &info), ERR_OK);
    return p;
}

static const struct parquet_column_stats *stats_of(const struct parquet_stats *s, int32_t id)
{
    uint32_t i;

    for (i = 0; i < s->columns_n; i++)
        if (s->columns[i].field_id == id)
            return &s->columns[i];
    fail_msg("no statistics of field %d", (int)id);
    return NULL;
}

struct replay {
    int64_t next;
    unsigned n;
};

static bool replayed(void *arg, const struct parquet_record *r)
{
    struct replay *x = arg;
    char value[64];

    assert_int_equal(r->offset, x->next++);
    assert_int_equal(r->partition, 1);
    assert_true(r->position > 0);
    if (r->offset == 0) {
        assert_int_equal(r->key.len, 3);
        assert_memory_equal(r->key.ptr, "\0\xff\x01", 3);
        assert_true(slice_is_null(r->value));
        assert_int_equal(r->headers_n, 3);
        assert_true(slice_eq_str(r->headers[0].key, "a"));
        assert_true(slice_eq_str(r->headers[0].value, "1"));
        assert_true(slice_is_null(r->headers[1].value));
        assert_true(slice_eq_str(r->headers[2].key, "a"));
        assert_int_equal(r->headers[2].value.len, 2);
        assert_int_equal(r->timestamp_ms, 1234567890123);
    } else {
        snprintf(value, sizeof value, "{\"n\":%lld,\"o\":{\"x\":[1,\"]\"]}}",
                 (long long)(r->offset - 1));
        assert_true(slice_eq_str(r->value, value));
        assert_int_equal(r->headers_n, 0);
    }
    x->n++;
    return true;
}

static bool count_chunk(void *arg, const struct sql_columns *c, const struct sql_chunk *chunk)
{
    struct buf *b = arg;
    uint32_t i, k;

    for (i = 0; i < chunk->rows; i++)
        for (k = 0; k < c->n; k++) {
            sql_value_text(&chunk->column[k], i, b);
            buf_append_u8(b, '|');
        }
    return true;
}

static void test_write_and_read(void **state)
{
    static const struct record_header h[] = {
        {{(const uint8_t *)"a", 1}, {(const uint8_t *)"1", 1}},
        {{(const uint8_t *)"b", 1}, {NULL, 0}},
        {{(const uint8_t *)"a", 1}, {(const uint8_t *)"\0\xfe", 2}}};
    struct sql_range ranges[] = {{1, 0, 5001}};
    struct parquet_write w = {.ranges = ranges,
                              .ranges_n = 1,
                              .columns = columns,
                              .columns_n = COLUMNS,
                              .row_group_rows = 2048};
    struct parquet_stats s, s2;
    struct parquet_rewrite rw = {.columns_n = COLUMNS};
    struct sql_column fewer[COLUMNS];
    struct replay x = {0, 0};
    char path[128], path2[128], text[400];
    const char *files[2] = {path, path2};
    struct parquet_read r = {.files = files,
                             .files_n = 1,
                             .columns = columns,
                             .columns_n = COLUMNS,
                             .partition = 1,
                             .from = 0,
                             .to = INT64_MAX};
    struct errinfo info;
    struct parquet *p;
    struct topic *t;
    struct buf b;
    struct fx f;

    fx_start(&f);
    p = open_parquet(&f);
    t = fx_topic(&f, "orders", 2);
    fx_put_full(&f, t, 1, 1234567890123, slice_of("\0\xff\x01", 3), SLICE_NULL, h, 3);
    fx_fill(&f, t, 1, 5000, 700, "{\"n\":%lld,\"o\":{\"x\":[1,\"]\"]}}");
    snprintf(path, sizeof path, "%s/a.parquet", f.dir);
    snprintf(path2, sizeof path2, "%s/b.parquet", f.dir);
    w.topic = t;
    w.path = path;
    if (parquet_write(p, &w, &s, &info))
        fail_msg("%s", info.text);
    assert_int_equal(s.rows, 5001);
    assert_true(s.bytes > 1000 && s.footer_bytes > 100);
    assert_int_equal(stats_of(&s, 2)->values, 5001);
    assert_int_equal(stats_of(&s, 2)->nulls, 0);
    assert_true(slice_eq_str(stats_of(&s, 2)->max, "5000"));
    assert_int_equal(stats_of(&s, 6)->nulls, 1);
    assert_int_equal(stats_of(&s, 11)->nulls, 1);
    assert_true(slice_eq_str(stats_of(&s, 11)->min, "0"));
    assert_true(slice_eq_str(stats_of(&s, 11)->max, "4999"));
    assert_int_equal(stats_of(&s, 12)->nulls, 5001);
    stats_of(&s, 9);
    stats_of(&s, 13);
    parquet_stats_fini(&s);
    assert_int_equal(parquet_write(p, &w, &s, &info), ERR_EXISTS);
    ranges[0].to = 5002;
    w.path = path2;
    assert_int_equal(parquet_write(p, &w, &s, &info), ERR_OFFSET_RANGE);
    assert_int_equal(access(path2, F_OK), -1);

    if (parquet_read(p, &r, replayed, &x, &info))
        fail_msg("%s", info.text);
    assert_int_equal(x.n, 5001);
    x = (struct replay){4000, 0};
    r.from = 4000;
    r.to = 4100;
    assert_int_equal(parquet_read(p, &r, replayed, &x, &info), ERR_OK);
    assert_int_equal(x.n, 100);
    r.partition = 0;
    assert_int_equal(parquet_read(p, &r, replayed, &x, &info), ERR_OK);
    assert_int_equal(x.n, 100);

    /* a column renamed, one wider, rows dropped; the other way round */
    memcpy(fewer, columns, sizeof fewer);
    fewer[7].name = "number";
    fewer[7].type = SQL_DOUBLE;
    rw.columns = fewer;
    rw.files = files;
    rw.files_n = 1;
    rw.path = path2;
    rw.drop = "\"offset\" >= 10";
    rw.order = &(struct parquet_order){1, true, true};
    rw.order_n = 1;
    if (parquet_rewrite(p, &rw, &s2, &info))
        fail_msg("%s", info.text);
    assert_int_equal(s2.rows, 10);
    parquet_stats_fini(&s2);
    buf_init(&b, 1u << 20);
    snprintf(text, sizeof text,
             "SELECT \"offset\", number, \"o \"\"q\"\"\"->>'$.x[1]' FROM '%s' LIMIT 2", path2);
    if (parquet_query(p, text, count_chunk, &b, &info))
        fail_msg("%s", info.text);
    assert_true(slice_eq_str(buf_slice(&b), "9|8|]|8|7|]|"));
    buf_fini(&b);
    parquet_close(&p);
    topic_unref(&t);
    fx_end(&f);
}

static bool keep_times(void *arg, const struct parquet_record *r)
{
    int64_t **at = arg;

    *(*at)++ = r->timestamp_ms;
    return true;
}

/* Times that microseconds do not hold are cut, and come back so. */
static void test_far_times(void **state)
{
    static const int64_t put[] = {INT64_MAX, 9223372036854776, 9223372036854775, 0},
                         want[] = {9223372036854775, 9223372036854775, 9223372036854775, 0};
    int64_t got[4], *at = got;
    struct sql_range ranges[] = {{0, 0, 4}};
    struct parquet_write w = {
        .ranges = ranges, .ranges_n = 1, .columns = columns, .columns_n = COLUMNS};
    struct parquet_stats s;
    char path[128];
    const char *files[] = {path};
    struct parquet_read r = {
        .files = files, .files_n = 1, .columns = columns, .columns_n = COLUMNS, .to = INT64_MAX};
    struct errinfo info;
    struct parquet *p;
    struct topic *t;
    struct fx f;
    size_t i;

    fx_start(&f);
    p = open_parquet(&f);
    t = fx_topic(&f, "far", 1);
    for (i = 0; i < 4; i++)
        fx_put_full(&f, t, 0, put[i], SLICE_NULL, SLICE_LIT("x"), NULL, 0);
    snprintf(path, sizeof path, "%s/far.parquet", f.dir);
    w.topic = t;
    w.path = path;
    if (parquet_write(p, &w, &s, &info))
        fail_msg("%s", info.text);
    parquet_stats_fini(&s);
    if (parquet_read(p, &r, keep_times, &at, &info))
        fail_msg("%s", info.text);
    assert_true(at == got + 4);
    for (i = 0; i < 4; i++)
        assert_int_equal(got[i], want[i]);
    parquet_close(&p);
    topic_unref(&t);
    fx_end(&f);
}

/* Nothing outside of the folders named can be read or written. */
static bool keep_i64(void *arg, const struct sql_columns *c, const struct sql_chunk *chunk)
{
    *(int64_t *)arg = ((const int64_t *)chunk->column[0].data)[0];
    return true;
}

/* Large records come in small row groups: memory bounds the writer, and a look-up reads a group. */
static void test_groups(void **state)
{
    struct sql_range range = {0, 0, 6000};
    char *value = xmalloc(20000), path[300], text[600];
    struct parquet_write w = {
        .ranges = &range, .ranges_n = 1, .columns = columns, .columns_n = COLUMNS, .path = path};
    struct parquet_stats stats;
    struct errinfo info;
    struct parquet *p;
    int64_t groups = 0;
    struct fx f;
    int i, k;

    fx_start(&f);
    p = open_parquet(&f);
    w.topic = fx_topic(&f, "large", 1);
    memset(value, 'x', 20000);
    for (i = 0; i < 6000; i += 100) {
        struct append *a = append_new(f.b, NULL, NULL);
        struct append_record r = {.timestamp_ms = 1700000000000, .value = slice_of(value, 20000)};
        struct append_slot slot;

        for (k = 0; k < 100; k++)
            assert_int_equal(append_record(a, w.topic, 0, &r, &slot, &info), ERR_OK);
        assert_int_equal(append_submit_wait(a, &info), ERR_OK);
        append_free(&a);
    }
    snprintf(path, sizeof path, "%s/large.parquet", f.dir);
    if (parquet_write(p, &w, &stats, &info))
        fail_msg("%s", info.text);
    assert_int_equal(stats.rows, 6000);
    parquet_stats_fini(&stats);
    snprintf(text, sizeof text,
             "SELECT count(DISTINCT row_group_id)::BIGINT FROM parquet_metadata('%s')", path);
    if (parquet_query(p, text, keep_i64, &groups, &info))
        fail_msg("%s", info.text);
    assert_int_equal(groups, 3); /* of 2,048 rows, the fewest */
    topic_unref(&w.topic);
    parquet_close(&p);
    free(value);
    fx_end(&f);
}

static void test_fenced(void **state)
{
    struct errinfo info;
    struct parquet *p;
    struct buf b;
    struct fx f;

    fx_start(&f);
    p = open_parquet(&f);
    buf_init(&b, 1u << 20);
    assert_int_not_equal(
        parquet_query(p, "SELECT * FROM read_text('/etc/passwd')", count_chunk, &b, &info), ERR_OK);
    assert_int_equal(b.len, 0);
    buf_fini(&b);
    parquet_close(&p);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_and_read),
        cmocka_unit_test(test_far_times),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_fenced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
