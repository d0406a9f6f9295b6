/* What one connection may take: time of its loop, memory, output. */
#include "detached.h"

#include "base/mem.h"
#include "journal/batch.h"

#define LARGE (1000u << 10)

static void topic_make(struct dconn *c, const char *name)
{
    struct kafka_create_topics_request_topic t;
    struct kafka_create_topics_request m;
    struct kafka_create_topics_response s;

    kafka_create_topics_request_init(&m);
    kafka_create_topics_request_topic_init(&t);
    t.name = slice_str(name);
    t.num_partitions = 1;
    t.replication_factor = 1;
    m.topics = &t;
    m.topics_n = 1;
    m.timeout_ms = 10000;
    dcall(c, 19, create_topics, 5, &m, &s);
    assert_int_equal(s.topics[0].error_code, 0);
}

/* A batch of one record of n bytes that pack well or not at all. */
static void batch_make(struct batch_builder *b, enum codec codec, size_t n, bool packs,
                       struct slice *out)
{
    uint8_t *value = xcalloc(1, n);

    if (!packs)
        io_random(io_real(), value, n);
    batch_builder_init(b, codec, n + 1000);
    assert_int_equal(
        batch_builder_add(b, 1700000000000, SLICE_NULL, slice_of(value, n), NULL, 0, NULL), ERR_OK);
    assert_int_equal(batch_builder_finish(b, 0, -1, -1, -1, out), ERR_OK);
    free(value);
}

/* Adds a produce request of n times the same batch to what dc is to send. */
static void produce_add(struct dconn *dc, const char *topic, struct slice batch, uint32_t n)
{
    struct kafka_produce_request_partition p[32];
    struct kafka_produce_request_topic t;
    struct kafka_produce_request m;
    uint32_t i;

    kafka_produce_request_init(&m);
    kafka_produce_request_topic_init(&t);
    t.name = slice_str(topic);
    t.partition_data = p;
    t.partition_data_n = n;
    for (i = 0; i < n; i++) {
        kafka_produce_request_partition_init(&p[i]);
        p[i].records.bytes = batch;
    }
    m.acks = -1;
    m.timeout_ms = 10000;
    m.topic_data = &t;
    m.topic_data_n = 1;
    kafka_request_begin(&dc->w, kafka_api_find(0), 9, ++dc->id, SLICE_LIT("test"));
    kafka_produce_request_encode(&dc->w, 9, &m);
    assert_int_equal(kwriter_end(&dc->w), ERR_OK);
}

/* The next answer in dc->out, from *at on. */
static void produced(struct dconn *dc, size_t *at, int32_t id, struct kafka_produce_response *s)
{
    uint32_t n = be32_load(dc->out.ptr + *at);
    struct kafka_response_header h;

    kreader_init(&dc->r, slice_of(dc->out.ptr + *at + 4, n), 64u << 20);
    assert_int_equal(kafka_response_header_decode(&dc->r, 1, &dc->arena, &h), ERR_OK);
    assert_int_equal(h.correlation_id, id);
    assert_int_equal(kafka_produce_response_decode(&dc->r, 9, &dc->arena, s), ERR_OK);
    *at += 4 + n;
}

static void feed(struct dconn *dc)
{
    struct buf b;

    buf_init(&b, 64u << 20);
    assert_int_equal(kwriter_flatten(&dc->w, &b), ERR_OK);
    buf_clear(&dc->out);
    conn_feed(dc->c, buf_slice(&b));
    buf_fini(&b);
}

/* All that is in dc->w; answers until there are n. */
static void converse(struct dconn *dc, unsigned n)
{
    unsigned turns, have = 0;

    feed(dc);
    for (turns = 0; have < n; turns++) {
        size_t at = 0;

        loop_turn(dc->d->loop, false);
        assert_int_equal(conn_server_open(dc->d->k->conns), 1);
        for (have = 0; dc->out.len - at >= 4 && dc->out.len - at - 4 >= be32_load(dc->out.ptr + at);
             have++)
            at += 4 + be32_load(dc->out.ptr + at);
        usleep(turns > 20 ? 500 : 0);
        assert_true(turns < DK_TURNS);
    }
}

/* Batches that take long to check share the loop with others; those of the next request, which are
 * done at once, still come behind them. */
static void test_produce_order(void **state)
{
    struct kafka_produce_response s;
    struct batch_builder big, small;
    struct dk d = {0};
    struct dconn c;
    struct slice b;
    uint32_t i;
    size_t at = 0;

    dk_start(&d);
    dconn_open(&d, &c);
    topic_make(&c, "t");
    kwriter_clear(&c.w);
    arena_reset(&c.arena);
    batch_make(&big, CODEC_ZSTD, 24u << 20, true, &b);
    produce_add(&c, "t", b, 20);
    batch_make(&small, CODEC_NONE, 10, true, &b);
    produce_add(&c, "t", b, 1);
    converse(&c, 2);
    produced(&c, &at, c.id - 1, &s);
    assert_int_equal(s.responses[0].partition_responses_n, 20);
    for (i = 0; i < 20; i++) {
        assert_int_equal(s.responses[0].partition_responses[i].error_code, 0);
        assert_int_equal(s.responses[0].partition_responses[i].base_offset, i);
    }
    produced(&c, &at, c.id, &s);
    assert_int_equal(s.responses[0].partition_responses[0].base_offset, 20);
    batch_builder_fini(&big);
    batch_builder_fini(&small);
    dconn_fini(&c);
    dk_end(&d);
}

/* Another connection of the loop is answered long before half a gigabyte has been looked at; and if
 * the one that sent it is gone, what it sent is written all the same. */
static void test_check_elsewhere(void **state)
{
    struct kafka_produce_response s;
    struct batch_builder bb;
    struct dconn slow, other;
    struct dk d = {0};
    struct plog_info now = {0};
    struct topic *t;
    struct slice b;
    unsigned i;
    size_t at = 0;

    dk_start(&d);
    dconn_open(&d, &slow);
    dconn_open(&d, &other);
    topic_make(&slow, "t");
    topic_make(&other, "u");
    kwriter_clear(&slow.w);
    kwriter_clear(&other.w);
    batch_make(&bb, CODEC_ZSTD, 24u << 20, true, &b);
    produce_add(&slow, "t", b, 20);
    feed(&slow);
    batch_builder_fini(&bb);
    batch_make(&bb, CODEC_NONE, 10, true, &b);
    produce_add(&other, "u", b, 1);
    feed(&other);
    batch_builder_fini(&bb);
    for (i = 0; !dcall_answered(&other); i++) {
        loop_turn(d.loop, false);
        usleep(i > 20 ? 500 : 0);
        assert_true(i < DK_TURNS);
    }
    assert_false(dcall_answered(&slow));
    produced(&other, &at, other.id, &s);
    assert_int_equal(s.responses[0].partition_responses[0].error_code, 0);
    conn_close(slow.c, false, CONN_PEER);
    t = topic_find(d.b, SLICE_LIT("t"));
    for (i = 0; now.end_offset < 20; i++) {
        loop_turn(d.loop, false);
        usleep(500);
        plog_info_get(partition_log(topic_partition(t, 0)), &now);
        assert_true(i < DK_TURNS);
    }
    topic_unref(&t);
    dconn_fini(&slow);
    dconn_fini(&other);
    dk_end(&d);
}

/* 32 times max.message.bytes, which is 1 MiB. */
static void test_inflated(void **state)
{
    static const struct {
        size_t bytes;
        int16_t code;
    } rows[] = {{31u << 20, 0}, {34u << 20, 10}};
    struct kafka_produce_response s;
    struct batch_builder bb;
    struct dk d = {0};
    struct dconn c;
    struct slice b;
    unsigned i, codec;

    dk_start(&d);
    dconn_open(&d, &c);
    topic_make(&c, "t");
    for (codec = CODEC_GZIP; codec <= CODEC_ZSTD; codec++)
        for (i = 0; i < 2 && codec != CODEC_SNAPPY; i++) { /* which packs 21 times at best */
            size_t at = 0;

            arena_reset(&c.arena);
            kwriter_clear(&c.w);
            batch_make(&bb, (enum codec)codec, rows[i].bytes, true, &b);
            assert_true(b.len < 1u << 20);
            produce_add(&c, "t", b, 1);
            converse(&c, 1);
            produced(&c, &at, c.id, &s);
            assert_int_equal(s.responses[0].partition_responses[0].error_code, rows[i].code);
            batch_builder_fini(&bb);
        }
    dconn_fini(&c);
    dk_end(&d);
}

static void fetch_add(struct dconn *dc, const char *topic)
{
    struct kafka_fetch_request_partition p;
    struct kafka_fetch_request_topic t;
    struct kafka_fetch_request m;

    kafka_fetch_request_init(&m);
    kafka_fetch_request_topic_init(&t);
    kafka_fetch_request_partition_init(&p);
    p.partition_max_bytes = m.max_bytes = 16 << 20;
    t.topic = slice_str(topic);
    t.partitions = &p;
    t.partitions_n = 1;
    m.topics = &t;
    m.topics_n = 1;
    kafka_request_begin(&dc->w, kafka_api_find(1), 11, ++dc->id, SLICE_LIT("test"));
    kafka_fetch_request_encode(&dc->w, 11, &m);
    assert_int_equal(kwriter_end(&dc->w), ERR_OK);
}

static uint64_t sunk, queued_max; /* the test's thread */

static void count_only(void *arg, struct conn *c, struct slice data)
{
    if (conn_queued(c) > queued_max)
        queued_max = conn_queued(c);
    sunk += data.len;
}

/* Answers are made as the peer takes them: 60 requests for 3 MB each are no reason to hold 180. */
static void test_fetch_pipeline(void **state)
{
    struct kafka_produce_response s;
    struct batch_builder bb;
    struct dk d = {0};
    struct dconn c;
    struct slice b;
    struct buf all;
    unsigned i;
    size_t at;

    dk_start(&d);
    dconn_open(&d, &c);
    topic_make(&c, "t");
    arena_reset(&c.arena);
    batch_make(&bb, CODEC_NONE, LARGE, false, &b);
    for (i = 0; i < 3; i++) {
        kwriter_clear(&c.w);
        produce_add(&c, "t", b, 1);
        converse(&c, 1);
        at = 0;
        produced(&c, &at, c.id, &s);
        assert_int_equal(s.responses[0].partition_responses[0].error_code, 0);
    }
    kwriter_clear(&c.w);
    for (i = 0; i < 60; i++)
        fetch_add(&c, "t");
    buf_init(&all, 1u << 20);
    assert_int_equal(kwriter_flatten(&c.w, &all), ERR_OK);
    conn_sink_set(d.k->conns, count_only, NULL);
    conn_feed(c.c, buf_slice(&all));
    for (i = 0; i < DK_TURNS && sunk < 60ull * 3 * LARGE; i++) {
        loop_turn(d.loop, false);
        usleep(i > 200 ? 500 : 0);
        assert_int_equal(conn_server_open(d.k->conns), 1);
    }
    assert_true(sunk >= 60ull * 3 * LARGE);
    assert_in_range(queued_max, 3 * LARGE, LIMIT_KAFKA_OUTPUT + 4 * LARGE);
    buf_fini(&all);
    batch_builder_fini(&bb);
    dconn_fini(&c);
    dk_end(&d);
}

#define MANY 6

/* What dc is to send, up to a place; from there on. */
static void feed_part(struct dconn *dc, struct slice all, size_t *at, size_t to)
{
    size_t n;

    for (; *at < to && *at < all.len; *at += n) {
        n = to - *at < 64u << 10 ? to - *at : 64u << 10;
        n = n < all.len - *at ? n : all.len - *at;
        if (dc->c->paused) /* its socket is not read */
            return;
        conn_feed(dc->c, slice_of(all.ptr + *at, n));
    }
}

/* Each of these has sent a large part of a frame, together more than may be held, and more comes only
 * when it is read: all are answered, and no more than one goes past the bound. */
static void test_budget_frames(void **state)
{
    struct kafka_produce_response s;
    size_t at[MANY] = {0}, max, zero;
    struct batch_builder bb;
    struct dconn c[MANY];
    struct dk d = {0};
    struct slice b;
    struct buf all;
    unsigned i, turns, done = 0;

    dk_start(&d);
    d.k->loops[0].in.max = max = 4u << 20;
    for (i = 0; i < MANY; i++)
        dconn_open(&d, &c[i]);
    topic_make(&c[0], "t");
    kwriter_clear(&c[0].w);
    batch_make(&bb, CODEC_NONE, LARGE, false, &b);
    produce_add(&c[0], "t", b, 3);
    buf_init(&all, 64u << 20);
    assert_int_equal(kwriter_flatten(&c[0].w, &all), ERR_OK);
    buf_clear(&c[0].out);
    for (i = 0; i < MANY; i++)
        feed_part(&c[i], buf_slice(&all), &at[i], 2u << 20);
    assert_false(list_empty(&d.k->loops[0].in.waiting));
    for (turns = 0; done < MANY; turns++) {
        loop_turn(d.loop, false);
        for (i = 0, done = 0; i < MANY; i++) {
            feed_part(&c[i], buf_slice(&all), &at[i], all.len);
            done += dcall_answered(&c[i]);
        }
        assert_true(d.k->loops[0].in.held < max + 2 * all.len);
        assert_int_equal(conn_server_open(d.k->conns), MANY);
        usleep(500);
        assert_true(turns < DK_TURNS);
    }
    for (i = 0; i < MANY; i++) {
        arena_reset(&c[i].arena);
        zero = 0;
        produced(&c[i], &zero, c[0].id, &s);
        assert_int_equal(s.responses[0].partition_responses[0].error_code, 0);
        dconn_fini(&c[i]);
    }
    assert_int_equal(d.k->loops[0].in.held, 0);
    buf_fini(&all);
    batch_builder_fini(&bb);
    dk_end(&d);
}

/* One that stopped in the middle of its frame does not keep the turn, nor what it holds. */
static void test_budget_stalled(void **state)
{
    struct kafka_produce_response s;
    struct batch_builder bb;
    struct dconn stalled, good;
    struct dk d = {0};
    struct slice b;
    struct buf all;
    unsigned turns;
    size_t at = 0, sent = 0, zero = 0;

    dk_start(&d);
    d.k->loops[0].in.max = 1u << 20;
    d.k->loops[0].stall_ms = 200;
    dconn_open(&d, &stalled);
    dconn_open(&d, &good);
    topic_make(&good, "t");
    kwriter_clear(&good.w);
    batch_make(&bb, CODEC_NONE, LARGE, false, &b);
    produce_add(&good, "t", b, 3);
    buf_init(&all, 64u << 20);
    assert_int_equal(kwriter_flatten(&good.w, &all), ERR_OK);
    buf_clear(&good.out);
    for (turns = 0; at < 2u << 20; turns++) { /* more than all may hold */
        feed_part(&stalled, buf_slice(&all), &at, 2u << 20);
        loop_turn(d.loop, false);
        usleep(500);
        assert_true(turns < DK_TURNS);
    }
    for (turns = 0; !dcall_answered(&good); turns++) {
        feed_part(&good, buf_slice(&all), &sent, all.len);
        loop_turn(d.loop, false);
        usleep(500);
        assert_true(turns < DK_TURNS);
    }
    arena_reset(&good.arena);
    produced(&good, &zero, good.id, &s);
    assert_int_equal(s.responses[0].partition_responses[0].error_code, 0);
    assert_int_equal(conn_server_open(d.k->conns), 1);
    assert_int_equal(d.k->loops[0].in.held, 0);
    buf_fini(&all);
    batch_builder_fini(&bb);
    dconn_fini(&stalled);
    dconn_fini(&good);
    dk_end(&d);
}

/* Buffers of large requests are used again, and given back when none has come for a while. */
static void test_frames_kept(void **state)
{
    struct kafka_produce_response s;
    struct batch_builder bb;
    struct kframes *fs;
    struct dk d = {0};
    struct dconn c;
    struct slice b;
    unsigned i;
    size_t at;

    dk_start(&d);
    fs = &d.k->loops[0].frames;
    dconn_open(&d, &c);
    topic_make(&c, "t");
    batch_make(&bb, CODEC_NONE, LARGE, false, &b);
    for (i = 0; i < 3; i++) {
        at = 0;
        arena_reset(&c.arena);
        kwriter_clear(&c.w);
        produce_add(&c, "t", b, 1);
        converse(&c, 1);
        produced(&c, &at, c.id, &s);
        assert_int_equal(s.responses[0].partition_responses[0].error_code, 0);
        assert_int_equal(fs->n, 1);
        assert_in_range(fs->bytes, LARGE, 4 * LARGE);
    }
    for (i = 0; fs->n; i++) {
        loop_turn(d.loop, false);
        usleep(10000);
        assert_true(i < DK_TURNS);
    }
    assert_int_equal(fs->bytes, 0);
    batch_builder_fini(&bb);
    dconn_fini(&c);
    dk_end(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_produce_order), cmocka_unit_test(test_check_elsewhere),
        cmocka_unit_test(test_inflated),      cmocka_unit_test(test_fetch_pipeline),
        cmocka_unit_test(test_budget_frames), cmocka_unit_test(test_budget_stalled),
        cmocka_unit_test(test_frames_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
