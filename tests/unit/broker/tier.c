/* Older records by a keeper that stands in for the lake: readers of both tiers, several at once; gaps,
 * failures, searches, and the end of it. */
#include "fixture.h"

#include "base/mem.h"
#include "broker/broker_int.h"
#include "broker/cursor.h"
#include "journal/batch.h"

#define RECORDS 3000
#define THREADS 4
#define PADDED  3000 /* bytes of a value, where many files are wanted */
#define GAP_AT  700  /* offsets of partition 1 that the keeper leaves out: GAP_AT … GAP_AT + 9 */

static struct {
    struct tier_batch batch[2][RECORDS];
    uint8_t *bytes[2];
    uint32_t n[2];
    int64_t end[2];
    _Atomic bool broken;
    _Atomic unsigned opened, asked;
} keeper;

struct tier_pass {
    int32_t partition;
    int64_t next, to;
};

/* ---- the keeper ---- */

static enum err keeper_open(void *arg, struct partition *p, int64_t from, int64_t to,
                            struct tier_pass **out, struct errinfo *info)
{
    if (atomic_load(&keeper.broken))
        return errinfo_set(info, ERR_NETWORK, "nobody is there");
    atomic_fetch_add(&keeper.opened, 1);
    *out = xmalloc(sizeof **out);
    **out = (struct tier_pass){partition_index(p), from, to};
    return ERR_OK;
}

static void keeper_close(struct tier_pass **s)
{
    free(*s);
    *s = NULL;
}

static bool left_out(int32_t partition, const struct tier_batch *b)
{
    return partition == 1 && b->base_offset >= GAP_AT && b->base_offset < GAP_AT + 10;
}

static enum err keeper_next(struct tier_pass *s, size_t bytes, struct tier_block *out,
                            struct errinfo *info)
{
    uint32_t i;

    if (atomic_load(&keeper.broken))
        return errinfo_set(info, ERR_NETWORK, "nobody is there any more");
    out->batch = xcalloc(20, sizeof *out->batch);
    for (i = 0; i < keeper.n[s->partition] && out->n < 20; i++) { /* small blocks: many of them */
        struct tier_batch b = keeper.batch[s->partition][i];

        if (b.last_offset < s->next || b.base_offset >= s->to || left_out(s->partition, &b))
            continue;
        MUST(buf_append(&out->bytes, keeper.bytes[s->partition] + b.at, b.len) == ERR_OK);
        b.at = (uint32_t)out->bytes.len - b.len;
        out->batch[out->n++] = b;
        out->next = s->next = b.last_offset + 1;
    }
    return out->n ? ERR_OK : ERR_EOF;
}

static enum err keeper_find(void *arg, struct partition *p, enum tier_by by, int64_t value,
                            int64_t from, int64_t to, int64_t *offset, int64_t *ts_ms,
                            struct errinfo *info)
{
    int32_t k = partition_index(p);
    uint32_t i;

    atomic_fetch_add(&keeper.asked, 1);
    if (atomic_load(&keeper.broken))
        return errinfo_set(info, ERR_NETWORK, "nobody is there");
    for (i = 0; i < keeper.n[k]; i++) {
        const struct tier_batch *b = &keeper.batch[k][i];

        if (b->base_offset < from || b->base_offset >= to || left_out(k, b) ||
            (by == TIER_BY_TIME ? b->max_ts < value : (int64_t)b->position < value))
            continue;
        *offset = b->base_offset;
        *ts_ms = b->max_ts;
        return ERR_OK;
    }
    return ERR_EOF;
}

static const struct tier_ops ops = {
    .open = keeper_open, .next = keeper_next, .close = keeper_close, .find = keeper_find};

/* Keeps what the partition's log has: each batch has one record. */
static void keep(struct partition *p)
{
    int32_t k = partition_index(p);
    struct plog_read r = {0};
    struct buf bytes;
    size_t len;
    int64_t at = 0;
    unsigned i;

    buf_init(&bytes, 64u << 20);
    for (;;) {
        assert_int_equal(plog_read(partition_log(p), at, 1u << 20, &r, NULL), ERR_OK);
        if (r.n == 0)
            break;
        for (i = 0; i < r.n; i++) {
            keeper.batch[k][keeper.n[k]++] =
                (struct tier_batch){.at = (uint32_t)bytes.len,
                                    .len = (uint32_t)r.batch[i].data.len,
                                    .base_offset = r.batch[i].base_offset,
                                    .last_offset = r.batch[i].last_offset,
                                    .max_ts = r.batch[i].max_timestamp_ms,
                                    .position = r.batch[i].position};
            assert_int_equal(buf_append_slice(&bytes, r.batch[i].data), ERR_OK);
            at = r.batch[i].last_offset + 1;
        }
    }
    keeper.end[k] = at;
    plog_read_release(&r);
    keeper.bytes[k] = buf_take(&bytes, &len);
}

/* ---- a topic ---- */

static void put_done(struct append *a, void *arg, enum err e)
{
    MUST(e == ERR_OK);
    atomic_fetch_add((atomic_uint *)arg, 1);
}

static int padded; /* bytes of a value at least */

/* Record n has timestamp 1000 + n and, alternating by tens, partition 0 or 1. */
static void put_all(struct fx *f, struct topic *t, int from, int to)
{
    struct append **a = xcalloc((size_t)(to - from), sizeof *a);
    atomic_uint done = 0;
    char value[PADDED + 1];
    int i;

    for (i = from; i < to; i++) {
        struct append_record r;

        snprintf(value, sizeof value, "%-*d", padded, i);
        r = rec_of("key", value, NULL);
        r.timestamp_ms = 1000 + i;
        a[i - from] = append_new(f->b, put_done, &done);
        assert_int_equal(append_record(a[i - from], t, i / 10 % 2, &r, NULL, NULL), ERR_OK);
        assert_int_equal(append_submit(a[i - from], false, NULL), ERR_OK);
    }
    while (atomic_load(&done) < (unsigned)(to - from))
        usleep(1000);
    for (i = from; i < to; i++)
        append_free(&a[i - from]);
    free(a);
}

static bool is_cold(struct topic *t, int64_t most)
{
    struct plog_info now;
    int32_t i;

    for (i = 0; i < 2; i++) {
        plog_info_get(partition_log(topic_partition(t, i)), &now);
        if (now.start_offset < (most < keeper.end[i] ? most : keeper.end[i]))
            return false;
    }
    return true;
}

/* RECORDS in the keeper, of which the log has those from offset `cold` on; then 100 in the log alone. */
static struct topic *begin_at(struct fx *f, int64_t cold)
{
    struct topic_conf c;
    struct topic *t;
    int i;

    memset(&keeper, 0, sizeof keeper);
    fx_start(f, true);
    assert_int_equal(tier_start(f->b, &ops, NULL), ERR_OK);
    topic_conf_default(f->b, &c);
    c.lake_enable = 1;
    c.retention_ms = -1;
    c.local_retention_bytes = 0;
    assert_int_equal(topic_create_wait(f->b, SLICE_LIT("t"), 2, &c, NULL), ERR_OK);
    t = topic_find(f->b, SLICE_LIT("t"));
    put_all(f, t, 0, RECORDS);
    for (i = 0; i < 2; i++) {
        keep(topic_partition(t, i));
        partition_hold(topic_partition(t, i), cold < keeper.end[i] ? cold : keeper.end[i]);
    }
    while (!is_cold(t, cold))
        usleep(10000);
    put_all(f, t, RECORDS, RECORDS + 100);
    return t;
}

static struct topic *begin(struct fx *f)
{
    return begin_at(f, INT64_MAX);
}

static void end(struct fx *f, struct topic *t)
{
    topic_unref(&t);
    tier_stop(f->b);
    fx_end(f);
    free(keeper.bytes[0]);
    free(keeper.bytes[1]);
}

/* The number that was put as the record; those of the gap are never given. */
static int number_of(const struct reader_record *r)
{
    char text[32] = {0};

    memcpy(text, r->value.ptr, r->value.len < sizeof text ? r->value.len : sizeof text - 1);
    return (int)strtol(text, NULL, 10);
}

/* Number n's offset in its partition. */
static int64_t offset_of(int n)
{
    return n / 20 * 10 + n % 10;
}

static bool in_gap(int n)
{
    return n / 10 % 2 == 1 && offset_of(n) >= GAP_AT && offset_of(n) < GAP_AT + 10;
}

/* Reads until the end from number n on; ERR_TIER ends it, too. How many came. */
static int read_from(struct reader *r, int n, enum err *e)
{
    struct reader_record rec;
    int got = 0;

    for (;;) {
        *e = reader_next(r, &rec, NULL);
        if (*e == ERR_AGAIN && n == RECORDS + 100)
            return got;
        if (*e == ERR_AGAIN) {
            MUST(reader_block(r, 20000));
            continue;
        }
        if (*e)
            return got;
        while (in_gap(n))
            n++;
        MUST(number_of(&rec) == n && rec.offset == offset_of(n) && rec.partition == n / 10 % 2);
        MUST(rec.timestamp_ms == 1000 + n && rec.position == (uint64_t)n + 1);
        n++;
        got++;
    }
}

static struct reader *open_at(struct fx *f, int from, uint64_t value)
{
    struct reader_conf c = {.selector = SLICE_LIT("t"),
                            .partition = -1,
                            .from = from,
                            .position = value,
                            .time_ms = (int64_t)value};
    struct reader *r = NULL;

    MUST(reader_open(f->b, &c, &r, NULL) == ERR_OK);
    return r;
}

static int count_from(struct fx *f, int from, uint64_t value, int n)
{
    struct reader *r = open_at(f, from, value);
    enum err e;
    int got = read_from(r, n, &e);

    MUST(e == ERR_AGAIN);
    reader_close(&r);
    return got;
}

/* ---- tests ---- */

static void test_both_tiers(void **state)
{
    struct fx f;
    struct topic *t = begin(&f);
    struct plog_info now;
    unsigned asked;

    assert_int_equal(partition_start(topic_partition(t, 0)), 0);
    plog_info_get(partition_log(topic_partition(t, 0)), &now);
    assert_int_equal(now.start_offset, keeper.end[0]);
    assert_int_equal(count_from(&f, READ_FROM_START, 0, 0), RECORDS + 90);
    assert_true(atomic_load(&keeper.opened) <= 2); /* once for each partition */
    assert_int_equal(count_from(&f, READ_FROM_POSITION, 2001, 2000), RECORDS + 100 - 2000);
    assert_int_equal(count_from(&f, READ_FROM_TIME, 1000 + 2500, 2500), RECORDS + 100 - 2500);
    assert_int_equal(count_from(&f, READ_FROM_POSITION, RECORDS + 51, RECORDS + 50), 50);
    assert_int_equal(count_from(&f, READ_FROM_TIME, 1000 + RECORDS + 50, RECORDS + 50), 50);
    asked = atomic_load(&keeper.asked);
    assert_int_equal(count_from(&f, READ_FROM_POSITION, 1001, 1000), RECORDS + 90 - 1000);
    assert_int_equal(atomic_load(&keeper.asked), asked); /* found in memory */
    end(&f, t);
}

struct job {
    struct fx *f;
    unsigned seed;
};

static void reads(void *arg)
{
    struct job *j = arg;
    int i;

    for (i = 0; i < 20; i++) {
        int n = (int)((j->seed * 37u + (unsigned)i * 151u) % (RECORDS + 100));
        struct reader *r;

        while (in_gap(n))
            n++;
        MUST(count_from(j->f, READ_FROM_POSITION, (uint64_t)n + 1, n) > 0);
        r = open_at(j->f, READ_FROM_START, 0); /* and some that go at once */
        MUST(reader_next(r, &(struct reader_record){0}, NULL) != ERR_TIER);
        reader_close(&r);
    }
}

static void test_many(void **state)
{
    struct io_thread *thread[THREADS];
    struct job job[THREADS];
    struct fx f;
    struct topic *t = begin(&f);
    unsigned i;

    for (i = 0; i < THREADS; i++) {
        job[i] = (struct job){&f, i};
        assert_int_equal(io_thread_start("reads", IO_PRIO_NORMAL, reads, &job[i], &thread[i], NULL),
                         ERR_OK);
    }
    for (i = 0; i < 30; i++)
        tier_tick(f.b);
    for (i = 0; i < THREADS; i++)
        io_thread_join(&thread[i]);
    end(&f, t);
}

/* Nothing is skipped while the keeper fails; all comes when it is there again. */
static void test_failures(void **state)
{
    struct plog_read rd = {0};
    struct tier_stats st;
    struct fx f;
    struct topic *t = begin(&f);
    struct reader *r;
    int64_t next = 0;
    int got = 0;
    enum err e;

    atomic_store(&keeper.broken, true);
    r = open_at(&f, READ_FROM_POSITION, 1);
    while ((e = reader_next(r, &(struct reader_record){0}, NULL)) == ERR_AGAIN)
        assert_true(reader_block(r, 20000));
    assert_int_equal(e, ERR_TIER);
    tier_stats_get(f.b, &st);
    assert_true(st.failures > 0 && st.failures <= 2);
    atomic_store(&keeper.broken, false);
    reader_close(&r);
    r = open_at(&f, READ_FROM_START, 0);
    for (e = ERR_TIER; e == ERR_TIER;) { /* a failure is remembered for a while */
        got += read_from(r, got, &e);
        usleep(20000);
    }
    assert_int_equal(got, RECORDS + 90);
    reader_close(&r);
    assert_int_equal(tier_read(topic_partition(t, 0), keeper.end[0], 1000, &rd, &next, NULL),
                     ERR_EOF);
    assert_int_equal(next, keeper.end[0]);
    assert_int_equal(partition_trim_wait(topic_partition(t, 0), 50, NULL), ERR_OK);
    assert_int_equal(tier_read(topic_partition(t, 0), 49, 1000, &rd, &next, NULL),
                     ERR_OFFSET_RANGE);
    tier_stop(f.b);
    assert_int_equal(tier_read(topic_partition(t, 0), 50, 1000, &rd, &next, NULL), ERR_TIER);
    plog_read_release(&rd);
    end(&f, t);
}

/* The local log begins in the middle of a file, where records of both partitions lie among each other: from
 * whatever position on, nothing is passed by. */
static void test_begins_within(void **state)
{
    struct reader_record rec;
    struct reader *r;
    struct topic *t;
    struct fx f;
    int n;

    padded = PADDED;
    t = begin_at(&f, 660);
    padded = 0;
    for (n = 0; n < RECORDS; n += 7) {
        enum err e;

        if (in_gap(n))
            continue;
        r = open_at(&f, READ_FROM_POSITION, (uint64_t)n + 1);
        while ((e = reader_next(r, &rec, NULL)) == ERR_AGAIN)
            MUST(reader_block(r, 20000));
        assert_int_equal(e, ERR_OK);
        assert_int_equal(number_of(&rec), n);
        reader_close(&r);
    }
    end(&f, t);
}

/* What only the table has would be out of reach as JSON lines, and the other way round. */
static void test_jsonl(void **state)
{
    struct topic_conf c;
    struct errinfo info;
    struct topic *t;
    struct fx f;

    t = begin(&f);
    topic_conf_get(t, &c);
    c.lake_format = LAKE_JSONL;
    assert_int_equal(topic_alter_wait(f.b, SLICE_LIT("t"), 0, &c, &info), ERR_CONFIG);
    assert_non_null(strstr(info.text, "in the table alone"));
    end(&f, t);
}

/* ---- dead letters ---- */

static void settled(void *arg, enum err e, const struct errinfo *info)
{
    MUST(e == ERR_OK);
    atomic_store((atomic_bool *)arg, true);
}

/* Records that only the keeper has are rejected: their copies are read from there, in order. */
static void test_dead_letters(void **state)
{
    struct cursor_ack ack = {.first = 5, .last = 14, .what = CURSOR_REJECT};
    struct reader_conf rc = {.selector = SLICE_LIT("dlq"), .from = READ_FROM_START};
    atomic_bool made = false, done = false;
    struct cursor_taken got[4];
    struct reader_record rec;
    struct cursor_conf conf;
    struct partition *p;
    struct reader *r = NULL;
    struct cursor *c;
    struct topic *t;
    uint32_t n = 0;
    struct fx f;
    int i;

    t = begin(&f);
    p = topic_partition(t, 0);
    cursor_conf_default(&conf);
    strcpy(conf.dead_letters, "dlq");
    assert_int_equal(cursor_make(f.b, SLICE_LIT("g"), p, 0, &conf, settled, &made, NULL), ERR_OK);
    while (!atomic_load(&made))
        usleep(1000);
    c = cursor_find(f.b, SLICE_LIT("g"), p);
    assert_int_equal(cursor_take(c, SLICE_LIT("o"), 0, 19, 20, &conf, 1000, got, 4, &n), 1);
    assert_int_equal(n, 20);
    assert_int_equal(cursor_settle(c, SLICE_LIT("o"), &ack, 1, 1000, settled, &done, NULL), ERR_OK);
    while (!atomic_load(&done)) {
        cursors_tick(f.b, 1000);
        usleep(1000);
    }
    assert_int_equal(reader_open(f.b, &rc, &r, NULL), ERR_OK);
    for (i = 5; i < 15; i++) {
        assert_int_equal(reader_next(r, &rec, NULL), ERR_OK);
        assert_int_equal(number_of(&rec), i / 10 * 20 + i % 10);
    }
    assert_int_equal(reader_next(r, &rec, NULL), ERR_AGAIN);
    reader_close(&r);
    cursor_unref(&c);
    end(&f, t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_tiers), cmocka_unit_test(test_many),
        cmocka_unit_test(test_failures),   cmocka_unit_test(test_begins_within),
        cmocka_unit_test(test_jsonl),      cmocka_unit_test(test_dead_letters),
    };

    return cmocka_run_group_tests_name("broker/tier", tests, NULL, NULL);
}
