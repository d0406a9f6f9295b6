/* The speed of SQL over the local log, beside DuckDB's own over the same rows in its memory (given
 * by this program's own Parquet of them): rows a second and thread of scans without JSON and with
 * one field, and the time of look-ups. One line each: what, ours, DuckDB's, ratio.
 *
 *   bench-sql [rows] [folder]     WEIR_DUCKDB names the library */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "broker/broker.h"
#include "io/io.h"
#include "io/thread.h"
#include "journal/batch.h"
#include "journal/journal.h"
#include "sql/parquet.h"
#include "sql/sql.h"

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench-sql: %s: %s\n", what, why);
    exit(1);
}

struct wait {
    struct io_event event;
    uint64_t rows;
    struct sql_stats stats;
};

static bool on_chunk(void *arg, struct sql_query *q, const struct sql_chunk *c)
{
    ((struct wait *)arg)->rows += c->rows;
    return true;
}

static void on_done(void *arg, struct sql_query *q, const struct sql_error *e,
                    const struct sql_stats *stats)
{
    struct wait *w = arg;

    if (e)
        die("query", e->message);
    w->stats = *stats;
    io_event_signal(&w->event);
}

static double now_s(void)
{
    return (double)io_mono_ns(io_real()) / 1e9;
}

/* Seconds that the query takes, the best of `times`. */
static double ask(struct sql *s, const char *text, int times, struct sql_stats *stats)
{
    static const struct sql_sink sink = {NULL, on_chunk, on_done};
    double best = 1e9;
    int i;

    for (i = 0; i < times; i++) {
        struct wait w = {.rows = 0};
        struct sql_request rq = {
            .text = slice_str(text), .timeout_ms = -1, .sink = &sink, .arg = &w};
        struct errinfo info;
        double from = now_s();

        io_event_init(&w.event);
        if (sql_run(s, &rq, NULL, &info))
            die("sql_run", info.text);
        while (!io_event_wait(&w.event, UINT64_MAX))
            ;
        io_event_fini(&w.event);
        if (now_s() - from < best)
            best = now_s() - from;
        *stats = w.stats;
    }
    return best;
}

static void fill(struct broker *b, struct topic *t, int64_t rows)
{
    char value[256], key[24];
    int64_t i = 0;

    while (i < rows) {
        struct append *a = append_new(b, NULL, NULL);
        int64_t end = i + 5000 < rows ? i + 5000 : rows;
        struct errinfo info;

        for (; i < end; i++) {
            struct append_record r = {.timestamp_ms = 1700000000000 + i};
            struct append_slot slot;

            snprintf(value, sizeof value,
                     "{\"id\":%lld,\"status\":\"%s\",\"customer\":\"customer-%lld\",\"amount\":%"
                     "lld.%02d,"
                     "\"currency\":\"EUR\",\"country\":\"DE\"}",
                     (long long)i, i % 3 ? "completed" : "open", (long long)(i % 1000),
                     (long long)(i % 500), (int)(i % 100));
            snprintf(key, sizeof key, "c-%lld", (long long)(i % 1000));
            r.key = slice_str(key);
            r.value = slice_str(value);
            if (append_record(a, t, (int)(i / 5000 % 4), &r, &slot, &info))
                die("append", info.text);
        }
        if (append_submit_wait(a, &info))
            die("append", info.text);
        append_free(&a);
    }
}

static bool own_row(void *arg, const struct sql_columns *columns, const struct sql_chunk *c)
{
    return true;
}

static double own_ask(struct parquet *p, const char *text, int times)
{
    double best = 1e9;
    struct errinfo info;
    int i;

    for (i = 0; i < times; i++) {
        double from = now_s();

        if (parquet_query(p, text, own_row, NULL, &info))
            die(text, info.text);
        if (now_s() - from < best)
            best = now_s() - from;
    }
    return best;
}

static const struct sql_column columns[] = {
    {.name = "partition", .source = SQL_FROM_PARTITION, .type = SQL_INTEGER, .field_id = 1},
    {.name = "offset", .source = SQL_FROM_OFFSET, .type = SQL_BIGINT, .field_id = 2},
    {.name = "timestamp", .source = SQL_FROM_TIMESTAMP, .type = SQL_TIMESTAMP_TZ, .field_id = 3},
    {.name = "key", .source = SQL_FROM_KEY, .type = SQL_VARCHAR, .field_id = 4},
    {.name = "value", .source = SQL_FROM_VALUE, .type = SQL_VARCHAR, .field_id = 5},
};

/* Loads the topic into DuckDB: a file, then a table. */
static void own_load(struct parquet *p, struct topic *t, const char *dir)
{
    struct sql_range ranges[4];
    struct parquet_stats stats;
    struct plog_info now;
    char path[300], text[400];
    struct parquet_write w = {.topic = t,
                              .ranges = ranges,
                              .ranges_n = 4,
                              .columns = columns,
                              .columns_n = 5,
                              .path = path};
    struct errinfo info;
    double from = now_s(), rows;
    int i;

    for (i = 0; i < 4; i++) {
        plog_info_get(partition_log(topic_partition(t, i)), &now);
        ranges[i] = (struct sql_range){i, now.start_offset, now.end_offset};
    }
    snprintf(path, sizeof path, "%s/rows.parquet", dir);
    if (parquet_write(p, &w, &stats, &info))
        die("parquet_write", info.text);
    from = now_s() - from;
    printf("%-34s %8.2f M rows/s\n", "parquet_write, zstd, one thread",
           (double)stats.rows / from / 1e6);
    rows = (double)stats.rows;
    parquet_stats_fini(&stats);
    snprintf(text, sizeof text, "CREATE TABLE own AS SELECT * FROM '%s'", path);
    own_ask(p, text, 1);
    snprintf(text, sizeof text, "COPY own TO '%s/own.parquet' (FORMAT PARQUET, COMPRESSION zstd)",
             dir);
    from = own_ask(p, text, 1);
    printf("%-34s %8.2f M rows/s\n", "DuckDB's COPY of the same", rows / from / 1e6);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *what, *ours, *own;
    } scans[] = {
        {"count, sum of offsets", "SELECT count(*), sum(\"offset\") FROM orders",
         "SELECT count(*), sum(\"offset\") FROM own"},
        {"group by key", "SELECT key, count(*) FROM orders GROUP BY key",
         "SELECT key, count(*) FROM own GROUP BY key"},
        {"length of values", "SELECT sum(strlen(value)) FROM orders",
         "SELECT sum(strlen(value)) FROM own"},
        {"one JSON field, near the start", "SELECT count(*) FROM orders WHERE status = 'completed'",
         "SELECT count(*) FROM own WHERE value->>'status' = 'completed'"},
        {"one JSON field, near the end", "SELECT count(*) FROM orders WHERE country = 'DE'",
         "SELECT count(*) FROM own WHERE value->>'country' = 'DE'"},
        {"three JSON fields", "SELECT status, sum(amount), max(id) FROM orders GROUP BY status",
         "SELECT value->>'status', sum((value->>'amount')::DOUBLE), max((value->>'id')::BIGINT) "
         "FROM "
         "own GROUP BY 1"},
    };
    static const struct {
        const char *what, *text;
    } finds[] = {
        {"by partition and offset",
         "SELECT value FROM orders WHERE partition = 2 AND \"offset\" = 12345"},
        {"by position", "SELECT value FROM orders WHERE position = 54321"},
        {"SELECT 1", "SELECT 1"},
    };
    int64_t rows = argc > 1 ? strtoll(argv[1], NULL, 10) : 2000000;
    char dir[256], cmd[300];
    const char *dirs[] = {dir};
    struct broker_conf bc = {
        .dir = dir, .io = io_real(), .threads = true, .tail_bytes = 512u << 20};
    struct topic_conf tc;
    struct sql_conf sc = {.threads = 1, .foreground = true};
    struct parquet_conf pc = {.threads = 1, .dirs = dirs, .dirs_n = 1, .memory_bytes = 4ull << 30};
    struct sql_stats stats;
    struct errinfo info;
    struct parquet *p;
    struct broker *b;
    struct topic *t;
    struct sql *s;
    size_t i;

    snprintf(dir, sizeof dir, "%s/weir-bench-XXXXXX", argc > 2 ? argv[2] : "/tmp");
    if (!mkdtemp(dir))
        die("mkdtemp", dir);
    if (broker_open(&bc, &b, &info))
        die("broker_open", info.text);
    topic_conf_default(b, &tc);
    tc.retention_ms = -1;
    if (topic_create_wait(b, SLICE_LIT("orders"), 4, &tc, &info))
        die("topic_create", info.text);
    t = topic_find(b, SLICE_LIT("orders"));
    sc.broker = b;
    if (sql_open(&sc, &s, &info) || sql_library_check(s, &info))
        die("sql", info.text);
    pc.sql = s;
    parquet_open(&pc, &p, &info);
    fill(b, t, rows);
    own_load(p, t, dir);
    printf("%-34s %12s %12s %7s\n", "scan, one thread", "ours M/s", "DuckDB M/s", "ratio");
    for (i = 0; i < sizeof scans / sizeof *scans; i++) {
        double ours = ask(s, scans[i].ours, 3, &stats), own = own_ask(p, scans[i].own, 3);

        printf("%-34s %12.2f %12.2f %7.2f\n", scans[i].what, (double)rows / ours / 1e6,
               (double)rows / own / 1e6, own / ours);
    }
    printf("%-34s %12s %12s %12s\n", "look-up", "best ms", "planned ms", "scanned");
    for (i = 0; i < sizeof finds / sizeof *finds; i++) {
        double ours = ask(s, finds[i].text, 50, &stats);

        printf("%-34s %12.3f %12.3f %12llu\n", finds[i].what, ours * 1e3,
               (double)stats.planned_ns / 1e6, (unsigned long long)stats.rows_scanned);
    }
    topic_unref(&t);
    parquet_close(&p);
    sql_close(&s);
    broker_close(&b);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    return system(cmd);
}
