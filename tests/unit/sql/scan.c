/* What a scan sees: committed records only, of one moment; records that stay valid while their chunk
 * is used; the lake's files and the local log joined, each record once. */
#include "fixture.h"

#include "base/tbl/limits.h"
#include "sql/cold.h"
#include "sql/parquet.h"
#include "sql/scan.h"

struct txn {
    struct io_event event;
    enum err e;
    int64_t id;
    int16_t epoch;
};

static void txn_done(void *arg, enum err e, const struct errinfo *info, int64_t id, int16_t epoch)
{
    struct txn *x = arg;

    x->e = e;
    x->id = id;
    x->epoch = epoch;
    io_event_signal(&x->event);
}

static void txn_wait(struct txn *x, enum err e)
{
    assert_int_equal(e, ERR_OK);
    while (!io_event_wait(&x->event, UINT64_MAX))
        ;
    assert_int_equal(x->e, ERR_OK);
}

/* A batch of one transactional record. */
static void txn_put(struct fx *f, struct txn *x, struct topic *t, int partition, int32_t sequence,
                    const char *value)
{
    struct append *a = append_new(f->b, NULL, NULL);
    struct batch_builder bb;
    struct append_slot slot;
    struct errinfo info;
    struct slice batch;

    batch_builder_init(&bb, CODEC_ZSTD, 1u << 20);
    batch_builder_add(&bb, 5, SLICE_NULL, slice_str(value), NULL, 0, NULL);
    batch_builder_finish(&bb, BATCH_TRANSACTIONAL, x->id, x->epoch, sequence, &batch);
    append_txn_starts(a);
    if (append_batch(a, topic_partition(t, partition), batch, &slot, &info) ||
        append_submit_wait(a, &info))
        fail_msg("%s", info.text);
    append_free(&a);
    batch_builder_fini(&bb);
}

static void test_transactions(void **state)
{
    struct txn x = {.id = -1};
    struct errinfo info;
    struct topic *t;
    struct fx f;

    fx_start(&f);
    t = fx_topic(&f, "t", 2);
    io_event_init(&x.event);
    fx_put(&f, t, 0, "a", "before");
    txn_wait(&x, txn_init(f.b, SLICE_LIT("tx"), 60000, -1, -1, txn_done, &x, &info));
    txn_put(&f, &x, t, 0, 0, "aborted");
    txn_put(&f, &x, t, 1, 0, "aborted");
    fx_put(&f, t, 0, "a", "behind"); /* not seen while the transaction is open */
    fx_expect(&f, "SELECT value FROM t ORDER BY position", "before\n");
    txn_wait(&x, txn_end(f.b, SLICE_LIT("tx"), x.id, x.epoch, false, true, txn_done, &x, &info));
    fx_expect(&f, "SELECT value FROM t ORDER BY position", "before\nbehind\n");
    txn_put(&f, &x, t, 0, 0, "committed");
    txn_put(&f, &x, t, 1, 0, "committed");
    txn_wait(&x, txn_end(f.b, SLICE_LIT("tx"), x.id, x.epoch, true, true, txn_done, &x, &info));
    fx_expect(&f, "SELECT partition, value FROM t ORDER BY position",
              "0|before\n0|behind\n0|committed\n1|committed\n");
    io_event_fini(&x.event);
    topic_unref(&t);
    fx_end(&f);
}

/* Compressed and plain batches, of one record and of many, while a writer is at work: every row is
 * whole, sorted rows are what was written. */
static void test_many_batches(void **state)
{
    struct topic *t;
    struct fx f;

    fx_start(&f);
    t = fx_topic(&f, "t", 3);
    fx_fill(&f, t, 0, 20000, 700, "{\"n\":%lld,\"text\":\"a text that is longer than inlined\"}");
    fx_fill(&f, t, 1, 1000, 1, "{\"n\":%lld,\"text\":\"a text that is longer than inlined\"}");
    fx_fill(&f, t, 2, 70000, 5000, "{\"n\":%lld,\"text\":\"a text that is longer than inlined\"}");
    fx_expect(&f,
              "SELECT count(*), count(DISTINCT n), min(text), max(text), sum(n)::BIGINT, "
              "bool_and(value = '{\"n\":' || n || ',\"text\":\"' || text || '\"}') FROM t",
              "91000|70000|a text that is longer than inlined|a text that is longer than "
              "inlined|2650454500|t\n");
    fx_expect(&f, "SELECT value FROM t WHERE partition = 2 ORDER BY value DESC, \"offset\" LIMIT 2",
              "{\"n\":9999,\"text\":\"a text that is longer than inlined\"}\n"
              "{\"n\":9998,\"text\":\"a text that is longer than inlined\"}\n");
    fx_expect(&f,
              "SELECT count(*), count(DISTINCT a.value) FROM t a JOIN t b ON a.value = b.value AND "
              "a.partition = 1 AND b.partition = 0",
              "1000|1000\n");
    fx_expect(&f,
              "SELECT count(*) FROM (SELECT value, row_number() OVER (ORDER BY value) r FROM t)",
              "91000\n");
    topic_unref(&t);
    fx_end(&f);
}

/* ---- files and the local log ---- */

static const struct sql_column columns[] = {
    {.name = "partition", .source = SQL_FROM_PARTITION, .type = SQL_INTEGER, .field_id = 1},
    {.name = "offset", .source = SQL_FROM_OFFSET, .type = SQL_BIGINT, .field_id = 2},
    {.name = "timestamp", .source = SQL_FROM_TIMESTAMP, .type = SQL_TIMESTAMP_TZ, .field_id = 3},
    {.name = "key", .source = SQL_FROM_KEY, .type = SQL_BLOB, .field_id = 4},
    {.name = "value", .source = SQL_FROM_VALUE, .type = SQL_BLOB, .field_id = 5},
    {.name = "headers",
     .source = SQL_FROM_HEADERS,
     .type = SQL_BLOB,
     .field_id = 6,
     .child_id = {7, 8, 9}},
    {.name = "n", .source = SQL_FROM_FIELD, .type = SQL_BIGINT, .field = "n", .field_id = 10},
};

struct lake {
    char path[128];
    struct sql_cold_file file;
    int64_t boundary[2], start[2];
    bool uniform;
    unsigned taken, released;
};

static enum err lake_snapshot(void *arg, struct topic *t, const struct sql_at *at,
                              const struct sql_bounds *bounds, struct sql_cold_snapshot *out,
                              struct errinfo *info)
{
    struct lake *l = arg;

    if (strcmp(topic_name(t), "t") != 0)
        return ERR_NOT_FOUND;
    l->taken++;
    *out = (struct sql_cold_snapshot){.id = 1,
                                      .files = &l->file,
                                      .files_n = 1,
                                      .boundary = l->boundary,
                                      .start = l->start,
                                      .start_n = 2,
                                      .partitions_n = 2,
                                      .columns = columns,
                                      .columns_n = sizeof columns / sizeof *columns,
                                      .uniform = l->uniform};
    return ERR_OK;
}

static void lake_release(void *arg, struct sql_cold_snapshot *s)
{
    ((struct lake *)arg)->released++;
}

static void lake_snapshots(void *arg, bool (*allowed)(void *arg, struct slice topic),
                           void *allowed_arg,
                           void (*fn)(void *fn_arg, const struct sql_snapshot_row *row),
                           void *fn_arg)
{
    struct sql_snapshot_row r = {.topic = SLICE_LIT("t"),
                                 .snapshot_id = 7,
                                 .parent_id = -1,
                                 .operation = SLICE_LIT("append"),
                                 .records = 5,
                                 .summary = SLICE_LIT("{}")};

    if (allowed(allowed_arg, r.topic))
        fn(fn_arg, &r);
}

/* The first 1,000 records of partition 0 are in the file alone. */
static void cold_expect(struct fx *f)
{
    fx_expect(f, "SELECT count(*), count(DISTINCT (partition, \"offset\")), sum(n)::BIGINT FROM t",
              "2000|2000|1249000\n");
    fx_expect(f,
              "SELECT topic, partition, \"offset\", timestamp, key, value, headers, n, new FROM t "
              "WHERE partition = 0 AND \"offset\" IN (5, 1005) ORDER BY 3",
              "t|0|5|2023-11-14 22:13:20.005+00|k5|{\"n\":        5}|{}|5|~\n"
              "t|0|1005|2023-11-14 22:13:21.005+00|k5|{\"n\":        1005}|{}|1005|~\n");
    fx_expect(f,
              "SELECT sum(n)::BIGINT, count(new), max(key) FROM t WHERE partition = 0 AND "
              "\"offset\" < 1000",
              "499500|0|k99\n");
    fx_expect(f,
              "SELECT count(*), count(DISTINCT value), min(value), max(value) FROM t WHERE "
              "partition = 0 AND \"offset\" < 1000",
              "1000|1000|{\"n\":        0}|{\"n\":        9}\n");
    fx_expect(
        f, "SELECT value FROM t WHERE \"offset\" < 7 AND partition = 0 ORDER BY value DESC LIMIT 2",
        "{\"n\":        6}\n{\"n\":        5}\n");
}

static bool pass_by(void *arg, const struct sql_columns *c, const struct sql_chunk *chunk)
{
    return true;
}

/* Rows below the log's start are not seen; rows of somebody else, whatever their partition, are. */
static void starts_expect(struct fx *f, struct lake *l, struct parquet *p)
{
    char text[512], path[140];
    struct errinfo info;

    l->start[0] = 400;
    l->file.below = true;
    fx_expect(f, "SELECT count(*), min(\"offset\") FROM t WHERE partition = 0", "1100|400\n");
    snprintf(path, sizeof path, "%s2", l->path);
    snprintf(text, sizeof text,
             "COPY (SELECT * REPLACE ([2147483647, -1, -2][\"offset\" %% 3 + 1]::INTEGER AS "
             "partition) FROM '%s') TO '%s' (FORMAT PARQUET)",
             l->path, path);
    if (parquet_query(p, text, pass_by, NULL, &info))
        fail_msg("%s", info.text);
    l->file.path = path;
    fx_expect(f,
              "SELECT partition, count(*), sum(n)::BIGINT FROM t WHERE new IS NULL AND partition "
              "<> 0 GROUP BY 1 ORDER BY 1",
              "-2|333|166500\n-1|333|166167\n2147483647|334|166833\n");
    l->file.path = l->path;
    l->file.below = false;
    assert_int_equal(io_unlink(io_real(), path, &info), ERR_OK);
}

static void test_cold(void **state)
{
    struct lake l = {.boundary = {1000, 0}};
    struct sql_cold cold = {&l, lake_snapshot, lake_release, lake_snapshots};
    struct sql_range range = {0, 0, 1000};
    struct parquet_write w = {.ranges = &range,
                              .ranges_n = 1,
                              .columns = columns,
                              .columns_n = sizeof columns / sizeof *columns};
    struct parquet_stats stats;
    struct sql_conf conf = {.threads = 2, .cold = &cold};
    struct parquet_conf pc = {.dirs_n = 1};
    const char *dirs[1];
    struct errinfo info;
    struct parquet *p;
    struct topic *t;
    struct fx f;

    memset(&f, 0, sizeof f);
    snprintf(l.path, sizeof l.path, "/tmp/weir-sql-cold-%d", (int)getpid());
    assert_int_equal(io_mkdir(io_real(), l.path, &info), ERR_OK);
    dirs[0] = l.path;
    conf.dirs = pc.dirs = dirs;
    conf.dirs_n = 1;
    fx_start_with(&f, &conf);
    pc.sql = f.sql;
    assert_int_equal(parquet_open(&pc, &p, &info), ERR_OK);
    t = fx_topic(&f, "t", 2);
    fx_fill(&f, t, 0, 1500, 100, "{\"n\":        %lld}"); /* too long to be in its vector */
    fx_fill(&f, t, 1, 500, 100, "{\"n\":%lld,\"new\":true}");
    snprintf(l.path + strlen(l.path), 20, "/a.parquet");
    w.topic = t;
    w.path = l.path;
    if (parquet_write(p, &w, &stats, &info))
        fail_msg("%s", info.text);
    parquet_stats_fini(&stats);
    l.file = (struct sql_cold_file){l.path, 1000, false};
    fx_expect(
        &f,
        "SELECT count(*), count(DISTINCT (partition, \"offset\")), sum(n)::BIGINT, count(new) "
        "FROM t",
        "2000|2000|1249000|500\n");
    /* the local log forgets what is in the files */
    assert_int_equal(partition_trim_wait(topic_partition(t, 0), 1000, &info), ERR_OK);
    cold_expect(&f);
    l.uniform = true; /* columns are found by name */
    cold_expect(&f);
    starts_expect(&f, &l, p);
    fx_expect(&f, "SELECT count(*) FROM stream_messages", "2000\n");
    fx_expect(&f, "SELECT topic, snapshot_id, parent_id FROM weir.snapshots", "t|7|~\n");
    assert_true(l.taken > 0 && l.taken == l.released);
    parquet_close(&p);
    topic_unref(&t);
    fx_end(&f);
    assert_int_equal(io_unlink(io_real(), l.path, &info), ERR_OK);
    *strrchr(l.path, '/') = 0;
    assert_int_equal(rmdir(l.path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transactions),
        cmocka_unit_test(test_many_batches),
        cmocka_unit_test(test_cold),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
