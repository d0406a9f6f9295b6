/* What is made of a client's batch: its header says what its records do; the quick check gives up in
 * time; it takes just what batch_validate takes. */
#include "fixture.h"

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/topic.h"
#include "journal/batch.h"

#define NOW 1700000000000

static struct slice batch_of(struct batch_builder *bb, enum codec codec, unsigned n, size_t bytes)
{
    struct record_header h[2] = {{SLICE_LIT("h"), SLICE_LIT("value")}, {SLICE_LIT(""), SLICE_NULL}};
    uint8_t *value = xcalloc(1, bytes);
    struct slice out;
    unsigned i;

    batch_builder_init(bb, codec, LIMIT_APPEND_BYTES);
    for (i = 0; i < n; i++)
        assert_int_equal(batch_builder_add(bb, NOW + (i * 7) % 5,
                                           i % 3 ? SLICE_LIT("k") : SLICE_NULL,
                                           slice_of(value, bytes), h, i % 3, NULL),
                         ERR_OK);
    assert_int_equal(batch_builder_finish(bb, 0, -1, -1, -1, &out), ERR_OK);
    free(value);
    return out;
}

static void sign(uint8_t *b, size_t n)
{
    be32_store(b + 17, crc32c(0, b + 21, n - 21));
}

static struct topic *topic_of(struct fx *f, const char *name, bool log_time)
{
    struct topic_conf c;

    topic_conf_default(f->b, &c);
    c.timestamp_type = log_time;
    assert_int_equal(topic_create_wait(f->b, slice_str(name), 1, &c, NULL), ERR_OK);
    return topic_find(f->b, slice_str(name));
}

/* Appends; what is stored, of which `out` gets the header. */
static enum err put(struct fx *f, struct topic *t, struct slice batch, struct batch_info *out,
                    struct append_place *place)
{
    struct append *a = append_new(f->b, NULL, NULL);
    struct plog_read rd = {0};
    struct append_slot slot;
    struct buf scratch;
    enum err e = append_batch(a, topic_partition(t, 0), batch, &slot, NULL);

    if (!e) {
        assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
        assert_int_equal(append_place(a, slot, place), ERR_OK);
        assert_int_equal(
            plog_read(partition_log(topic_partition(t, 0)), place->offset, 1, &rd, NULL), ERR_OK);
        buf_init(&scratch, LIMIT_BATCH_INFLATED);
        assert_int_equal(batch_validate(rd.batch[0].data, &scratch), ERR_OK);
        assert_int_equal(batch_parse(rd.batch[0].data, out), ERR_OK);
        assert_int_equal(rd.batch[0].max_timestamp_ms, out->max_ts);
        buf_fini(&scratch);
        plog_read_release(&rd);
    }
    append_free(&a);
    return e;
}

/* A client's greatest timestamp is not believed: searches by time rely on it. */
static void test_max_timestamp(void **state)
{
    static const int64_t said[] = {NOW + 4, NOW + 5, NOW + 3, -1, 0, INT64_MAX, INT64_MIN};
    static const enum codec codecs[] = {CODEC_NONE, CODEC_ZSTD};
    struct append_place place;
    struct batch_builder bb;
    struct batch_info bi;
    struct slice b;
    struct topic *t;
    struct fx f;
    unsigned i, k;

    fx_start(&f, false);
    t = topic_of(&f, "t", false);
    for (k = 0; k < 2; k++)
        for (i = 0; i < sizeof said / sizeof *said; i++) {
            b = batch_of(&bb, codecs[k], 10, 300);
            be64_store((uint8_t *)b.ptr + 35, (uint64_t)said[i]);
            sign((uint8_t *)b.ptr, b.len);
            assert_int_equal(put(&f, t, b, &bi, &place), ERR_OK);
            assert_int_equal(bi.max_ts, NOW + 4);
            assert_int_equal(bi.attributes, codecs[k]);
            assert_int_equal(be64_load(b.ptr + 35), (uint64_t)said[i]); /* the client's own bytes */
            batch_builder_fini(&bb);
        }
    topic_unref(&t);
    fx_end(&f);
}

/* The type of timestamps is the topic's. A producer that says LogAppendTime is refused where Kafka
 * refuses it. */
static void test_timestamp_type(void **state)
{
    struct append_place place;
    struct topic *create, *log;
    struct batch_builder bb;
    struct batch_info bi;
    struct slice b;
    struct fx f;
    int64_t now;
    uint8_t *p;

    fx_start(&f, false);
    create = topic_of(&f, "create", false);
    log = topic_of(&f, "log", true);
    b = batch_of(&bb, CODEC_LZ4, 10, 300);
    p = (uint8_t *)b.ptr;
    now = journal_wall_ms(broker_journal(f.b));
    assert_int_equal(put(&f, log, b, &bi, &place), ERR_OK);
    assert_int_equal(bi.attributes, CODEC_LZ4 | BATCH_LOG_APPEND_TIME);
    assert_true(bi.max_ts >= now);
    assert_true(place.log_time && place.timestamp_ms == bi.max_ts);
    p[22] |= BATCH_LOG_APPEND_TIME;
    sign(p, b.len);
    assert_int_equal(put(&f, log, b, &bi, &place), ERR_TIMESTAMP);
    assert_int_equal(put(&f, create, b, &bi, &place), ERR_OK);
    assert_int_equal(bi.attributes, CODEC_LZ4);
    assert_int_equal(bi.max_ts, NOW + 4);
    assert_false(place.log_time);
    be64_store(p + 35, (uint64_t)-1);
    sign(p, b.len);
    assert_int_equal(put(&f, create, b, &bi, &place), ERR_TIMESTAMP);
    batch_builder_fini(&bb);
    topic_unref(&create);
    topic_unref(&log);
    fx_end(&f);
}

static void test_quick(void **state)
{
    static const struct {
        enum codec codec;
        size_t bytes; /* of one record */
        bool quick;
    } rows[] = {
        {CODEC_NONE, 1000, true},
        {CODEC_NONE, LIMIT_CHECK_QUICK, false},
        {CODEC_ZSTD, LIMIT_CHECK_QUICK - 100, true},
        {CODEC_ZSTD, LIMIT_CHECK_QUICK + 1, false},
        {CODEC_GZIP, 20u << 20, false},
    };
    struct batch_checked c;
    struct batch_builder bb;
    struct buf scratch;
    struct topic *t;
    struct slice b;
    struct fx f;
    unsigned i;

    fx_start(&f, false);
    t = topic_of(&f, "t", false);
    t->max_message_bytes = 8 << 20;
    buf_init(&scratch, LIMIT_BATCH_INFLATED);
    for (i = 0; i < sizeof rows / sizeof *rows; i++) {
        b = batch_of(&bb, rows[i].codec, 1, rows[i].bytes);
        assert_int_equal(batch_check(t, b, true, &scratch, &c, NULL),
                         rows[i].quick ? ERR_OK : ERR_AGAIN);
        assert_true(scratch.cap <= 2 * LIMIT_CHECK_QUICK);
        assert_int_equal(batch_check(t, b, false, &scratch, &c, NULL), ERR_OK);
        buf_fini(&scratch);
        batch_builder_fini(&bb);
    }
    topic_unref(&t);
    fx_end(&f);
}

/* Bytes changed at random: both ways of looking at a batch say the same. */
static void test_same_as_validate(void **state)
{
    unsigned seed = 7, i, k, taken = 0, refused = 0;
    struct batch_builder bb;
    struct batch_checked c;
    struct buf scratch;
    struct slice b, copy;
    struct topic *t;
    struct fx f;
    uint8_t *m;

    fx_start(&f, false);
    t = topic_of(&f, "t", false);
    buf_init(&scratch, LIMIT_BATCH_INFLATED);
    t->timestamp_after_max_ms = INT64_MAX; /* any time will do */
    b = batch_of(&bb, CODEC_NONE, 9, 70);
    m = xmalloc(b.len);
    copy = slice_of(m, b.len);
    for (i = 0; i < 60000; i++) {
        bool ok;

        memcpy(m, b.ptr, b.len);
        for (k = rand_r(&seed) % 3 + 1; k > 0; k--)
            m[BATCH_HEADER + (unsigned)rand_r(&seed) % (b.len - BATCH_HEADER)] =
                i % 2 ? (uint8_t)rand_r(&seed) : (uint8_t)((unsigned)rand_r(&seed) % 6);
        sign(m, b.len);
        ok = batch_validate(copy, &scratch) == ERR_OK;
        if (ok != (batch_check(t, copy, true, &scratch, &c, NULL) == ERR_OK))
            fail_msg("%u: batch_validate says %d", i, ok);
        taken += ok;
        refused += !ok;
    }
    assert_true(taken > 1000 && refused > 1000);
    free(m);
    buf_fini(&scratch);
    batch_builder_fini(&bb);
    topic_unref(&t);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_max_timestamp),
        cmocka_unit_test(test_timestamp_type),
        cmocka_unit_test(test_quick),
        cmocka_unit_test(test_same_as_validate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
