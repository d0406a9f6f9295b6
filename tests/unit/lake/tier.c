/* Rows of a table as record batches again: bytes, gaps, order, searches; a stand-in for Parquet makes
 * rows up from their offsets. */
#include "fixture.h"

#include "base/tbl/limits.h"
#include "broker/tier.h"

#define RECORDS 1000

/* ---- rows ---- */

static _Atomic bool scrambled; /* files do not have them in order */
static _Atomic bool outsized;  /* one of them fits no batch */
static _Atomic bool large;     /* it fits only when it is compressed */
#define OUTSIZED 700
#define LARGE    (LIMIT_BATCH_BYTES + 1000)

static bool there(int64_t o)
{
    return o % 50 < 10 || o % 50 > 12; /* what transactions aborted */
}

static uint64_t position_of(int64_t o)
{
    return (uint64_t)(5 + o + o / 100 * 7); /* others wrote in between */
}

static void row_make(int64_t o, struct lake_record *r, struct record_header h[3], char text[32])
{
    h[0] = (struct record_header){SLICE_LIT("same"), SLICE_LIT("1")};
    h[1] = (struct record_header){SLICE_LIT("same"), SLICE_NULL};
    h[2] = (struct record_header){SLICE_LIT(""), SLICE_LIT("")};
    snprintf(text, 32, "\xff%d", (int)o);
    *r = (struct lake_record){.offset = o,
                              .timestamp_ms = 1000 + o * 3,
                              .position = position_of(o),
                              .key = o % 3 == 0   ? SLICE_NULL
                                     : o % 3 == 1 ? SLICE_LIT("")
                                                  : SLICE_LIT("key"),
                              .value = o % 7 == 0 ? SLICE_NULL : slice_str(text),
                              .headers = h,
                              .headers_n = (unsigned)(o % 4)};
}

/* ---- the stand-in ---- */

struct cursor {
    struct lake_cursor_conf c;
    int64_t next;
    bool in[RECORDS]; /* the file has the row */
    struct lake_record r;
    struct record_header h[3];
    char text[32];
    uint8_t *large;
};
static _Atomic unsigned files_open, files_open_max;

static enum err cursor_open(void *arg, const struct lake_cursor_conf *c, void **out,
                            struct errinfo *info)
{
    struct cursor *x = xcalloc(1, sizeof *x);
    unsigned n = atomic_fetch_add(&files_open, 1) + 1;
    FILE *f = fopen(c->path, "r");
    long from, to;

    assert_non_null(f);
    while (fscanf(f, "%ld %ld", &from, &to) == 2)
        for (; from < to; from++)
            x->in[from] = true;
    fclose(f);
    if (n > atomic_load(&files_open_max))
        atomic_store(&files_open_max, n);
    x->c = *c;
    x->next = c->from > 0 ? c->from : 0;
    *out = x;
    return ERR_OK;
}

static enum err cursor_next(void *cursor, const struct lake_record **out, struct errinfo *info)
{
    struct cursor *x = cursor;
    int64_t to = x->c.to < RECORDS ? x->c.to : RECORDS, o;

    while (x->next < to) {
        o = x->next++;
        if (atomic_load(&scrambled) && !x->c.sorted && o % 50 > 20 && o % 50 < 30)
            o = o / 50 * 50 + 50 - o % 50; /* 21…29 backwards */
        row_make(o, &x->r, x->h, x->text);
        if (!x->in[o] || !there(o) || o >= to || x->r.timestamp_ms < x->c.ts_min_ms ||
            x->r.position < x->c.position_min)
            continue;
        if (atomic_load(&outsized) && o == OUTSIZED)
            x->r.headers_n = LIMIT_RECORD_HEADERS + 1;
        if (atomic_load(&large) && o == OUTSIZED) {
            x->large = x->large ? x->large : xcalloc(1, LARGE);
            x->r.value = slice_of(x->large, LARGE);
        }
        *out = &x->r;
        return ERR_OK;
    }
    return ERR_EOF;
}

static void cursor_close(void *cursor)
{
    free(((struct cursor *)cursor)->large);
    atomic_fetch_sub(&files_open, 1);
    free(cursor);
}

static enum err write_file(void *arg, struct topic *t, const struct lake_range *r, uint32_t n,
                           const struct lake_column *c, uint32_t columns_n,
                           const struct lake_order *order, uint32_t order_n, const char *path,
                           struct lake_file_stats *out, struct errinfo *info)
{
    FILE *f = fopen(path, "wx");
    uint32_t i;

    for (i = 0; i < n; i++)
        fprintf(f, "%ld %ld\n", (long)r[i].from, (long)r[i].to);
    *out = (struct lake_file_stats){
        .bytes = (uint64_t)ftell(f), .leaves_n = 4, .leaf = xcalloc(4, sizeof *out->leaf)};
    fclose(f);
    for (i = 0; i < n; i++)
        out->rows += (uint64_t)(r[i].to - r[i].from);
    for (i = 0; i < 4;
         i++) /* partition, offset, position, timestamp: their bounds are the lake's */
        out->leaf[i] = (struct lake_leaf){.id = (int32_t)i + 1, .values = out->rows};
    return ERR_OK;
}

static void stats_fini(void *arg, struct lake_file_stats *s)
{
    free(s->leaf);
}

static void *fields_new(void *arg)
{
    return xmalloc(1);
}

static void fields_value(void *fields, struct slice value)
{
}

static void fields_each(void *fields, void (*fn)(void *fn_arg, const char *name, unsigned seen),
                        void *fn_arg)
{
}

static struct lake_parquet parquet_of(struct fx *f)
{
    return (struct lake_parquet){.arg = f,
                                 .write = write_file,
                                 .stats_fini = stats_fini,
                                 .cursor_open = cursor_open,
                                 .cursor_next = cursor_next,
                                 .cursor_close = cursor_close,
                                 .fields_new = fields_new,
                                 .fields_value = fields_value,
                                 .fields_each = fields_each,
                                 .fields_free = free};
}

/* ---- tests ---- */

static const struct timespec nap = {0, 2000000};

/* What was written is in the table alone. */
static struct topic *flushed(struct fx *f)
{
    struct plog_info now = {0};
    struct topic *t;

    job_fine(f, LAKE_FLUSH, "flush");
    t = topic_find(f->b, SLICE_LIT(TOPIC));
    while (now.start_offset < RECORDS) {
        plog_info_get(partition_log(topic_partition(t, 0)), &now);
        nanosleep(&nap, NULL);
    }
    assert_int_equal(partition_start(topic_partition(t, 0)), 0);
    return t;
}

/* RECORDS that only the table has. */
static struct topic *begin(struct fx *f)
{
    topic_make(f, 1, "local.retention.bytes", "0");
    put_at(f, 0, -1, "x", RECORDS);
    return flushed(f);
}

/* The same in so many files that all have some from near the start to near the end. */
static struct topic *begin_scattered(struct fx *f, int files)
{
    struct append_record r = {.value = SLICE_LIT("x")};
    struct errinfo info = {0};
    struct append *a = append_new(f->b, NULL, NULL);
    struct append_slot slot;
    struct topic *t;
    int64_t i;

    topic_make_with(f, 1, /* and by hour(timestamp) */
                    (const char *[]){"local.retention.bytes", "0", "retention.ms", "-1", NULL});
    t = topic_find(f->b, SLICE_LIT(TOPIC));
    for (i = 0; i < RECORDS; i++) {
        r.timestamp_ms = i * 7 % files * 3600000;
        assert_int_equal(append_record(a, t, 0, &r, &slot, &info), ERR_OK);
    }
    assert_int_equal(append_submit_wait(a, &info), ERR_OK);
    append_free(&a);
    topic_unref(&t);
    return flushed(f);
}

static void batch_check_rows(const struct read_batch *b, int64_t *next)
{
    struct record_header h[3], got[3];
    struct buf scratch;
    struct batch_iter it;
    struct record r;
    struct lake_record want;
    char text[32];
    uint32_t n, i;

    buf_init(&scratch, 1u << 20);
    assert_int_equal(batch_validate(b->data, &scratch), ERR_OK);
    assert_int_equal(batch_iter_init(&it, b->data, &scratch), ERR_OK);
    assert_true(it.info.producer_id == -1 && it.info.leader_epoch == 0);
    assert_int_equal(it.info.base_offset, b->base_offset);
    while (!batch_iter_next(&it, &r)) {
        while (!there(*next))
            ++*next;
        row_make(*next, &want, h, text);
        assert_int_equal(r.offset, *next);
        assert_int_equal(r.timestamp_ms, want.timestamp_ms);
        assert_int_equal(b->position + (uint64_t)(r.offset - b->base_offset), want.position);
        assert_true(slice_is_null(r.key) == slice_is_null(want.key) && slice_eq(r.key, want.key));
        assert_true(slice_is_null(r.value) == slice_is_null(want.value) &&
                    slice_eq(r.value, want.value));
        assert_int_equal(record_headers(&r, got, 3, &n), ERR_OK);
        assert_int_equal(n, want.headers_n);
        for (i = 0; i < n; i++)
            assert_true(slice_eq(got[i].key, h[i].key) && slice_eq(got[i].value, h[i].value) &&
                        slice_is_null(got[i].value) == slice_is_null(h[i].value));
        ++*next;
    }
    assert_int_equal(b->last_offset + 1, *next);
    buf_fini(&scratch);
}

static void read_all(struct topic *t, int64_t from)
{
    struct partition *p = topic_partition(t, 0);
    struct plog_read r = {0};
    int64_t next = from, at = from, hot = -1;
    struct errinfo info = {0};
    enum err e = ERR_OK;
    unsigned i;

    while (e != ERR_EOF) {
        e = tier_read(p, at, 4000, &r, &hot, &info);
        if (e == ERR_AGAIN) {
            nanosleep(&nap, NULL);
            continue;
        }
        if (e && e != ERR_EOF)
            fail_msg("%s", info.text);
        if (!e && r.batch[0].base_offset < next && next == from)
            next = r.batch[0].base_offset; /* the batch that has it may begin before it */
        for (i = 0; !e && i < r.n; i++) {
            batch_check_rows(&r.batch[i], &next);
            at = r.batch[i].last_offset + 1;
        }
    }
    assert_int_equal(hot, RECORDS);
    assert_int_equal(next, RECORDS);
    plog_read_release(&r);
}

static void test_batches(void **state)
{
    struct topic *t = begin(*state);

    read_all(t, 0);
    read_all(t, 555); /* in the middle of a batch */
    read_all(t, 511); /* in a gap */
    topic_unref(&t);
}

/* A file of ours that is not in order is damaged: an error, and no record is passed by. */
static void test_order(void **state)
{
    struct topic *t = begin(*state);
    struct partition *p = topic_partition(t, 0);
    struct plog_read r = {0};
    int64_t hot;
    enum err e;

    atomic_store(&scrambled, true);
    while ((e = tier_read(p, 21, 4000, &r, &hot, NULL)) == ERR_AGAIN)
        nanosleep(&nap, NULL);
    assert_int_equal(e, ERR_TIER);
    atomic_store(&scrambled, false);
    plog_read_release(&r);
    topic_unref(&t);
}

/* A record that fits no batch is an error for whoever comes to it, each time; what is before it is not, and
 * what is behind it is not given in its place. */
static void test_outsized(void **state)
{
    struct topic *t = begin(*state);
    struct plog_read r = {0};
    int64_t at = 500, hot;
    enum err e = ERR_OK;

    atomic_store(&outsized, true);
    while (!e || e == ERR_AGAIN) {
        e = tier_read(topic_partition(t, 0), at, 4000, &r, &hot, NULL);
        if (e == ERR_AGAIN)
            nanosleep(&nap, NULL);
        else if (!e)
            at = r.batch[r.n - 1].last_offset + 1;
    }
    assert_int_equal(e, ERR_TIER);
    assert_int_equal(at, OUTSIZED);
    atomic_store(&outsized, false);
    plog_read_release(&r);
    topic_unref(&t);
}

/* A record that was sent compressed, and is larger than a batch may be, is a compressed batch again. */
static void test_large(void **state)
{
    struct topic *t = begin(*state);
    struct plog_read r = {0};
    struct batch_iter it;
    struct record rec;
    struct buf scratch;
    int64_t hot;
    enum err e;

    atomic_store(&large, true);
    while ((e = tier_read(topic_partition(t, 0), OUTSIZED, 4000, &r, &hot, NULL)) == ERR_AGAIN)
        nanosleep(&nap, NULL);
    atomic_store(&large, false);
    assert_int_equal(e, ERR_OK);
    buf_init(&scratch, LIMIT_BATCH_INFLATED);
    assert_int_equal(batch_validate(r.batch[0].data, &scratch), ERR_OK);
    assert_int_equal(batch_iter_init(&it, r.batch[0].data, &scratch), ERR_OK);
    assert_int_equal(batch_iter_next(&it, &rec), ERR_OK);
    assert_true(rec.offset == OUTSIZED && rec.value.len == LARGE);
    assert_true(r.batch[0].data.len < LIMIT_BATCH_BYTES);
    buf_fini(&scratch);
    plog_read_release(&r);
    topic_unref(&t);
}

static enum err find(struct topic *t, enum tier_by by, int64_t value, int64_t *offset, int64_t *ts)
{
    enum err e;

    while ((e = tier_find(topic_partition(t, 0), by, value, offset, ts, NULL)) == ERR_AGAIN)
        nanosleep(&nap, NULL);
    return e;
}

static void test_find(void **state)
{
    struct topic *t = begin(*state);
    int64_t offset, ts;

    assert_int_equal(find(t, TIER_BY_POSITION, (int64_t)position_of(345), &offset, &ts), ERR_OK);
    assert_int_equal(offset, 345);
    assert_int_equal(find(t, TIER_BY_POSITION, (int64_t)position_of(311), &offset, &ts), ERR_OK);
    assert_int_equal(offset, 313); /* 310 to 312 are a gap */
    assert_int_equal(find(t, TIER_BY_TIME, 0, &offset, &ts), ERR_OK);
    assert_true(offset == 0 && ts == 1000);
    topic_unref(&t);
}

static void test_scattered(void **state)
{
    static const struct {
        int files;
        unsigned open, bytes;
    } want[] = {{60, 60, 1u << 20}, {200, 64, 1u << 20}, {200, 64, 4000}, {120, 64, 1}};
    struct lake_view *v;
    struct topic *t;
    struct fx *f;
    void *own;
    size_t i;

    for (i = 0; i < sizeof want / sizeof *want; i++) {
        fx_merge_bytes = want[i].bytes;
        setup(&own);
        f = own;
        t = begin_scattered(f, want[i].files);
        assert_int_equal(lake_view_get(f->l, t, &(struct lake_at){LAKE_AT_NOW, 0}, &v, NULL), 0);
        assert_int_equal(v->files_n, want[i].files);
        lake_view_release(&v);
        atomic_store(&files_open_max, 0);
        read_all(t, 0);
        read_all(t, 555);
        assert_true(atomic_load(&files_open_max) <= want[i].open);
        topic_unref(&t);
        teardown(&own);
        assert_int_equal(atomic_load(&files_open), 0);
    }
    fx_merge_bytes = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_batches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_outsized, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large, setup, teardown),
        cmocka_unit_test_setup_teardown(test_find, setup, teardown),
        cmocka_unit_test(test_scattered),
    };

    return cmocka_run_group_tests_name("lake/tier", tests, NULL, NULL);
}
