/* Compaction of logs: what stays, byte for byte where it matters; transactions; producers; gaps;
 * files, restarts and crashes. The broker's part is in tests/unit/broker/compaction.c. */
#include "fixture.h"

#include "base/crc32c.h"
#include "base/tbl/limits.h"
#include "journal/compact.h"
#include "journal/compact_batch.h"

#define FILLER 4u
#define HOUR   3600000ll

/* ---- making and showing logs ---- */

struct put {
    const char *records; /* "k=v" with spaces between; "k" a tombstone; "=v" no key */
    int64_t pid, ts;
    int16_t epoch, attributes;
    int32_t sequence;
    enum codec codec;
    int control; /* 1 abort, 2 commit: records is not looked at */
};

static void put_record(struct batch_builder *b, const char *s, size_t n, int64_t ts)
{
    const char *eq = memchr(s, '=', n);
    struct slice key = slice_of(s, eq ? (size_t)(eq - s) : n);
    struct slice value = eq ? slice_of(eq + 1, n - key.len - 1) : SLICE_NULL;
    struct record_header h = {SLICE_LIT("h"), SLICE_LIT("header")};

    assert_int_equal(batch_builder_add(b, ts, key.len ? key : SLICE_NULL, value, &h, 1, NULL),
                     ERR_OK);
}

static void put_records(struct batch_builder *b, const struct put *p)
{
    static const uint8_t marker[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 1}};
    const char *s = p->records;
    int64_t ts = p->ts ? p->ts : 1000;

    if (p->control) {
        assert_int_equal(batch_builder_add(b, ts, slice_of(marker[p->control - 1], 4),
                                           SLICE_LIT("\0\0\0\0\0\0"), NULL, 0, NULL),
                         ERR_OK);
        return;
    }
    while (*s) {
        size_t n = strcspn(s, " ");

        put_record(b, s, n, ts++);
        s += n + (s[n] == ' ');
    }
}

static void put_batch(struct fx *f, uint32_t uid, struct put p)
{
    struct fx_unit *t = fx_unit(f);
    struct journal_entry *e = &t->entry[t->unit.n++];
    int16_t attributes = (int16_t)(p.attributes | (p.control ? BATCH_CONTROL : 0));
    bool producer = p.pid != 0;
    struct batch_builder b;
    struct slice data;

    batch_builder_init(&b, p.codec, 1u << 20);
    put_records(&b, &p);
    assert_int_equal(batch_builder_finish(&b, attributes, producer ? p.pid : -1,
                                          producer ? p.epoch : -1, producer ? p.sequence : -1,
                                          &data),
                     ERR_OK);
    e->type = ENTRY_BATCH;
    e->plog = f->log[uid];
    e->data = slice_of(xmemdup(data.ptr, data.len), data.len);
    batch_builder_fini(&b);
    assert_int_equal(fx_send(f, t), ERR_OK);
    fx_run(f);
    assert_int_equal(f->last, ERR_OK);
}

static void put(struct fx *f, uint32_t uid, const char *records)
{
    put_batch(f, uid, (struct put){.records = records});
}

static void start(struct fx *f)
{
    memset(f, 0, sizeof *f);
    f->dir = "/d";
    f->file_bytes = FILE_BYTES;
    f->io = io_sim_new(7);
    fx_open(f);
    fx_logs(f, LOGS);
}

static void end(struct fx *f)
{
    fx_close(f);
    io_sim_free(&f->io);
}

/* All that was put so far gets into sealed files. */
static void seal(struct fx *f)
{
    struct journal_stats before, now;

    journal_stats_get(f->j, &before);
    do {
        assert_int_equal(fx_put(f, FILLER, 20000, false), ERR_OK);
        journal_stats_get(f->j, &now);
    } while (now.files < before.files + 1);
    fx_background(f);
}

static void compact_begin(struct fx *f, uint32_t uid, int64_t newest_ms, int64_t now_ms)
{
    struct compact_item item = {
        .log = f->log[uid], .newest_ms = newest_ms, .delete_retention_ms = HOUR};

    assert_false(journal_compacting(f->j));
    journal_compact(f->j, &item, 1, now_ms);
    assert_true(journal_compacting(f->j));
}

static void compact_at(struct fx *f, uint32_t uid, int64_t now_ms)
{
    compact_begin(f, uid, INT64_MAX, now_ms);
    fx_background(f);
    assert_false(journal_compacting(f->j));
}

static void compact(struct fx *f, uint32_t uid)
{
    compact_at(f, uid, 1000 * HOUR);
}

static size_t show_records(char *out, size_t cap, struct slice batch)
{
    struct batch_iter it;
    struct record rec;
    struct buf scratch;
    size_t n = 0;

    buf_init(&scratch, 1u << 20);
    assert_int_equal(batch_iter_init(&it, batch, &scratch), ERR_OK);
    while (batch_iter_next(&it, &rec) == ERR_OK) {
        struct record_header h;
        uint32_t hn;

        n += (size_t)snprintf(out + n, cap - n, " %d", (int)rec.offset);
        if (it.info.attributes & BATCH_CONTROL) {
            n += (size_t)snprintf(out + n, cap - n, ":%s", rec.key.ptr[3] ? "commit" : "abort");
            continue;
        }
        assert_int_equal(record_headers(&rec, &h, 1, &hn), ERR_OK);
        assert_true(hn == 1 && slice_eq_str(h.value, "header"));
        n += (size_t)snprintf(out + n, cap - n, ":%.*s%s%.*s", (int)rec.key.len,
                              rec.key.ptr ? (const char *)rec.key.ptr : "",
                              slice_is_null(rec.value) ? "" : "=", (int)rec.value.len,
                              rec.value.ptr ? (const char *)rec.value.ptr : "");
    }
    buf_fini(&scratch);
    return n;
}

/* "[0-2 0:a=1 2:c=3][3-3]…": batches by first and last offset, with their records. */
static const char *show(struct fx *f, uint32_t uid)
{
    static char out[8000];
    struct plog_info now;
    size_t n = 0;
    int64_t at;
    unsigned i;

    plog_info_get(f->log[uid], &now);
    for (at = now.start_offset; at < now.end_offset;) {
        enum err e = plog_read(f->log[uid], at, 1000, &f->r, &f->info);

        if (e || f->r.n == 0)
            fail_msg("log %u at %d: %s %s", uid, (int)at, err_code(e), f->info.text);
        for (i = 0; i < f->r.n; i++) {
            const struct read_batch *b = &f->r.batch[i];

            assert_true(batch_crc_ok(b->data));
            assert_true(b->base_offset >= at || i == 0);
            n += (size_t)snprintf(out + n, sizeof out - n, "[%d-%d", (int)b->base_offset,
                                  (int)b->last_offset);
            n += show_records(out + n, sizeof out - n, b->data);
            n += (size_t)snprintf(out + n, sizeof out - n, "]");
            at = b->last_offset + 1;
        }
    }
    out[n] = 0;
    return out;
}

#define assert_log(f, uid, want) assert_string_equal(show(f, uid), want)

/* The same after closing, and after a crash. */
static void assert_stays(struct fx *f, uint32_t uid, const char *want)
{
    assert_log(f, uid, want);
    fx_crash(f);
    fx_open(f);
    assert_log(f, uid, want);
    fx_close(f);
    fx_open(f);
    assert_log(f, uid, want);
}

static struct batch_info info_at(struct fx *f, uint32_t uid, int64_t offset)
{
    struct batch_info bi;

    assert_int_equal(plog_read(f->log[uid], offset, 1, &f->r, &f->info), ERR_OK);
    assert_int_equal(f->r.n, 1);
    assert_int_equal(batch_parse(f->r.batch[0].data, &bi), ERR_OK);
    return bi;
}

/* What the log says that it takes is what is read of it. */
static void assert_bytes(struct fx *f, uint32_t uid)
{
    struct plog_info now;
    uint64_t bytes = 0;
    int64_t at;

    plog_info_get(f->log[uid], &now);
    for (at = now.start_offset; at < now.end_offset; bytes += f->r.bytes) {
        assert_int_equal(plog_read(f->log[uid], at, 1, &f->r, NULL), ERR_OK);
        at = f->r.batch[0].last_offset + 1;
    }
    assert_int_equal(bytes, now.bytes);
}

/* ---- what stays ---- */

static void test_newest(void **state)
{
    uint64_t position[8];
    struct fx f;
    int i;

    start(&f);
    put(&f, 1, "a=1 b=1 c=1");
    put(&f, 2, "x=1");
    put(&f, 1, "a=2");
    put(&f, 2, "x=2");
    put(&f, 1, "b=2 a=3 b=3");
    for (i = 0; i < 7; i++) {
        assert_int_equal(plog_read(f.log[1], i, 1, &f.r, NULL), ERR_OK);
        position[i] = f.r.batch[0].position + (uint64_t)(i - f.r.batch[0].base_offset);
    }
    seal(&f);
    put(&f, 1, "c=2 c=3"); /* not sealed: neither compacted, nor does it count */
    compact(&f, 1);
    assert_stays(&f, 1, "[0-2 2:c=1][4-6 5:a=3 6:b=3][7-8 7:c=2 8:c=3]");
    assert_log(&f, 2, "[0-0 0:x=1][1-1 1:x=2]");
    for (i = 0; i < 7; i++) { /* positions are what they were; gaps lead to the next one */
        assert_int_equal(plog_read(f.log[1], i, 1, &f.r, NULL), ERR_OK);
        assert_int_equal(f.r.batch[0].base_offset, i < 3 ? 0 : 4);
        assert_int_equal(f.r.batch[0].position, position[i < 3 ? 0 : 4]);
    }
    seal(&f);
    compact(&f, 1);
    assert_stays(&f, 1, "[4-6 5:a=3 6:b=3][7-8 8:c=3]");
    compact(&f, 2);
    assert_stays(&f, 2, "[1-1 1:x=2]");
    put(&f, 1, "d=1");
    assert_log(&f, 1, "[4-6 5:a=3 6:b=3][7-8 8:c=3][9-9 9:d=1]");
    end(&f);
}

static void test_tombstones(void **state)
{
    struct batch_info bi;
    struct fx f;

    start(&f);
    put(&f, 1, "a=1 b=1");
    put_batch(&f, 1, (struct put){.records = "a b=2", .ts = 5000});
    put(&f, 1, "c=1");
    seal(&f);
    compact_at(&f, 1, 100 * HOUR);
    assert_stays(&f, 1, "[2-3 2:a 3:b=2][4-4 4:c=1]");
    bi = info_at(&f, 1, 2);
    assert_int_equal(bi.attributes, BATCH_DELETE_HORIZON);
    assert_int_equal(bi.base_ts, 101 * HOUR);
    assert_int_equal(bi.max_ts, 5001); /* of b=2: records' times do not change */
    put(&f, 1, "d=1");
    seal(&f);
    compact_at(&f, 1, 101 * HOUR - 1);
    assert_stays(&f, 1, "[2-3 2:a 3:b=2][4-4 4:c=1][5-5 5:d=1]");
    put(&f, 1, "e=1");
    seal(&f);
    compact_at(&f, 1, 101 * HOUR);
    assert_stays(&f, 1, "[2-3 3:b=2][4-4 4:c=1][5-5 5:d=1][6-6 6:e=1]");
    bi = info_at(&f, 1, 2);
    assert_int_equal(bi.base_ts, 101 * HOUR);
    put(&f, 1, "b a=9 c d"); /* a new tombstone in a batch of its own time */
    seal(&f);
    compact_at(&f, 1, 200 * HOUR);
    assert_stays(&f, 1, "[6-6 6:e=1][7-10 7:b 8:a=9 9:c 10:d]");
    put(&f, 1, "z=1");
    seal(&f);
    compact_at(&f, 1, 300 * HOUR);
    assert_stays(&f, 1, "[6-6 6:e=1][7-10 8:a=9][11-11 11:z=1]");
    end(&f);
}

/* The last batch stays, so that the next offset is known after a restart. */
static void test_last(void **state)
{
    struct fx f;

    start(&f);
    put(&f, 1, "=no =key");
    put(&f, 1, "=again");
    seal(&f);
    compact(&f, 1);
    assert_stays(&f, 1, "[2-2]");
    put(&f, 1, "a=1");
    seal(&f);
    compact(&f, 1);
    assert_stays(&f, 1, "[3-3 3:a=1]");
    put(&f, 1, "a");
    seal(&f);
    compact_at(&f, 1, HOUR);
    put(&f, 1, "b");
    seal(&f);
    compact_at(&f, 1, 3 * HOUR);
    assert_stays(&f, 1, "[5-5 5:b]");
    assert_int_equal(fx_end(&f, 1), 6);
    end(&f);
}

static void test_header_kept(void **state)
{
    struct batch_info was, is;
    struct fx f;
    int codec;

    for (codec = 0; codec < CODEC_N; codec++) {
        start(&f);
        put_batch(&f, 1,
                  (struct put){.records = "a=11111111111111111111111111111111111111111111111111 "
                                          "b=11111111111111111111111111111111111111111111111111 "
                                          "c=11111111111111111111111111111111111111111111111111",
                               .pid = 77,
                               .epoch = 3,
                               .sequence = 1000,
                               .ts = 7000,
                               .codec = (enum codec)codec});
        was = info_at(&f, 1, 0);
        assert_int_equal(was.attributes, codec);
        put(&f, 1, "a=2 c=2");
        seal(&f);
        compact(&f, 1);
        assert_stays(&f, 1,
                     "[0-2 1:b=11111111111111111111111111111111111111111111111111]"
                     "[3-4 3:a=2 4:c=2]");
        is = info_at(&f, 1, 0);
        assert_int_equal(is.attributes, codec);
        assert_int_equal(is.base_offset, 0);
        assert_int_equal(is.last_offset_delta, 2);
        assert_int_equal(is.leader_epoch, was.leader_epoch);
        assert_int_equal(is.base_ts, 7000);
        assert_int_equal(is.max_ts, 7001);
        assert_int_equal(is.producer_id, 77);
        assert_int_equal(is.producer_epoch, 3);
        assert_int_equal(is.base_sequence, 1000);
        assert_int_equal(is.count, 1);
        end(&f);
    }
    start(&f);
    put_batch(&f, 1,
              (struct put){.records = "a=1 b=1", .ts = 7000, .attributes = BATCH_LOG_APPEND_TIME});
    put(&f, 1, "a=2 b");
    put(&f, 1, "c=1");
    seal(&f);
    compact(&f, 1);
    assert_log(&f, 1, "[2-3 2:a=2 3:b][4-4 4:c=1]");
    end(&f);
}

/* The time of the append is the time of all records, whichever stay. */
static void test_append_time(void **state)
{
    struct batch_info bi;
    struct fx f;

    start(&f);
    put_batch(
        &f, 1,
        (struct put){.records = "a=1 b c=1", .ts = 7000, .attributes = BATCH_LOG_APPEND_TIME});
    put(&f, 1, "c=2");
    seal(&f);
    compact(&f, 1);
    assert_stays(&f, 1, "[0-2 0:a=1 1:b][3-3 3:c=2]");
    bi = info_at(&f, 1, 0);
    assert_int_equal(bi.attributes, BATCH_LOG_APPEND_TIME | BATCH_DELETE_HORIZON);
    assert_int_equal(bi.max_ts, 7002);
    assert_int_equal(bi.base_ts, 1001 * HOUR);
    end(&f);
}

/* The greatest time is that of what is there. */
static void test_max_time(void **state)
{
    struct plog_info now;
    int64_t at;
    struct fx f;
    int i;

    start(&f);
    put_batch(&f, 1, (struct put){.records = "a=1", .ts = 9000, .pid = 5}); /* leaves a header */
    put_batch(&f, 1, (struct put){.records = "a=1 b=1", .ts = 7000});
    put_batch(&f, 1, (struct put){.records = "a=2", .ts = 3000});
    put_batch(&f, 1, (struct put){.records = "b=2", .ts = 2000});
    seal(&f);
    put_batch(&f, 1, (struct put){.records = "c=1", .ts = 2500});
    plog_info_get(f.log[1], &now);
    assert_int_equal(now.max_timestamp_ms, 9000);
    compact(&f, 1);
    for (i = 0; i < 2; i++) {
        assert_log(&f, 1, "[0-0][3-3 3:a=2][4-4 4:b=2][5-5 5:c=1]");
        plog_info_get(f.log[1], &now);
        assert_int_equal(now.max_timestamp_ms, 3000);
        assert_int_equal(plog_seek_time(f.log[1], 2600, &at, NULL), ERR_OK);
        assert_int_equal(at, 3);
        assert_int_equal(plog_seek_time(f.log[1], 3001, &at, NULL), ERR_OK);
        assert_int_equal(at, 6);
        fx_crash(&f);
        fx_open(&f);
    }
    end(&f);
}

/* A producer's last batch stays without records, for a day: its sequence goes on after it. */
static void test_producers(void **state)
{
    struct batch_info bi;
    struct fx f;

    start(&f);
    put_batch(&f, 1, (struct put){.records = "a=1 b=1", .pid = 5, .sequence = 10});
    put_batch(&f, 1, (struct put){.records = "a=2 b=2", .pid = 5, .sequence = 12, .epoch = 1});
    put_batch(&f, 1, (struct put){.records = "a=3", .pid = 6, .sequence = 0});
    put(&f, 1, "a=4 b=4");
    put(&f, 1, "c=1");
    seal(&f);
    compact_at(&f, 1, 1000 * HOUR);
    assert_stays(&f, 1, "[2-3][4-4][5-6 5:a=4 6:b=4][7-7 7:c=1]");
    bi = info_at(&f, 1, 2);
    assert_int_equal(bi.producer_id, 5);
    assert_int_equal(bi.producer_epoch, 1);
    assert_int_equal(bi.base_sequence, 12);
    assert_int_equal(bi.count, 0);
    assert_int_equal(bi.last_offset_delta, 1);
    assert_int_equal(bi.length, BATCH_HEADER);
    put_batch(&f, 1, (struct put){.records = "d=1", .pid = 6, .sequence = 1});
    seal(&f);
    compact_at(&f, 1, 1023 * HOUR); /* 6 has a later batch now, 5 has not */
    assert_stays(&f, 1, "[2-3][5-6 5:a=4 6:b=4][7-7 7:c=1][8-8 8:d=1]");
    put(&f, 1, "e=1");
    seal(&f);
    compact_at(&f, 1, 1024 * HOUR);
    assert_stays(&f, 1, "[5-6 5:a=4 6:b=4][7-7 7:c=1][8-8 8:d=1][9-9 9:e=1]");
    end(&f);
}

/* ---- transactions ---- */

#define TXN BATCH_TRANSACTIONAL
#define data(pid_, records_)                                \
    (struct put)                                            \
    {                                                       \
        .records = records_, .pid = pid_, .attributes = TXN \
    }
#define marker(pid_, control_)                                              \
    (struct put)                                                            \
    {                                                                       \
        .pid = pid_, .attributes = TXN, .sequence = -1, .control = control_ \
    }
#define ABORT  1
#define COMMIT 2

static void test_transactions(void **state)
{
    struct batch_info bi;
    struct fx f;

    start(&f);
    put(&f, 1, "a=0 b=0 c=0");
    put_batch(&f, 1, data(5, "a=1"));
    put_batch(&f, 1, data(6, "b=1"));
    put_batch(&f, 1, marker(5, COMMIT));
    put_batch(&f, 1, marker(6, ABORT));
    put_batch(&f, 1, data(6, "b=2"));
    put_batch(&f, 1, marker(6, COMMIT));
    put(&f, 1, "d=1");
    seal(&f);
    compact_at(&f, 1, 100 * HOUR);
    /* b=1 was aborted. Markers stay with a batch of their transaction, and once longer. */
    assert_stays(&f, 1,
                 "[0-2 2:c=0][3-3 3:a=1][5-5 5:commit][6-6 6:abort][7-7 7:b=2][8-8 8:commit]"
                 "[9-9 9:d=1]");
    put(&f, 1, "a=9");
    seal(&f);
    compact_at(&f, 1, 101 * HOUR); /* the abort is not needed: its time to go is set */
    assert_stays(&f, 1,
                 "[0-2 2:c=0][3-3][5-5 5:commit][6-6 6:abort][7-7 7:b=2][8-8 8:commit]"
                 "[9-9 9:d=1][10-10 10:a=9]");
    bi = info_at(&f, 1, 6);
    assert_int_equal(bi.attributes, TXN | BATCH_CONTROL | BATCH_DELETE_HORIZON);
    assert_int_equal(bi.base_ts, 102 * HOUR);
    put(&f, 1, "e=1");
    seal(&f);
    compact_at(&f, 1, 102 * HOUR); /* gone; its header may be its producer's last */
    assert_stays(&f, 1,
                 "[0-2 2:c=0][3-3][5-5 5:commit][6-6][7-7 7:b=2][8-8 8:commit]"
                 "[9-9 9:d=1][10-10 10:a=9][11-11 11:e=1]");
    put(&f, 1, "f=1");
    seal(&f);
    compact_at(&f, 1, 126 * HOUR);
    assert_stays(&f, 1,
                 "[0-2 2:c=0][5-5 5:commit][7-7 7:b=2][8-8 8:commit]"
                 "[9-9 9:d=1][10-10 10:a=9][11-11 11:e=1][12-12 12:f=1]");
    end(&f);
}

/* Nothing from the first batch of a transaction under way on is touched, nor does it count. */
static void test_ongoing(void **state)
{
    struct plog_compact_info now;
    struct fx f;

    start(&f);
    put(&f, 1, "a=0 b=0");
    put(&f, 1, "a=1");
    put_batch(&f, 1, data(5, "b=1"));
    put(&f, 1, "a=2");
    put_batch(&f, 1, data(6, "a=3"));
    put_batch(&f, 1, marker(6, COMMIT));
    seal(&f);
    compact(&f, 1);
    assert_stays(&f, 1, "[0-1 1:b=0][2-2 2:a=1][3-3 3:b=1][4-4 4:a=2][5-5 5:a=3][6-6 6:commit]");
    assert_int_equal(plog_compact_info_get(f.log[1], &now, NULL), ERR_OK);
    assert_int_equal(now.clean_end, 3);
    assert_true(now.dirty_bytes > 0);
    compact(&f, 1); /* achieves nothing */
    assert_true(plog_compact_waits(f.log[1]));
    assert_log(&f, 1, "[0-1 1:b=0][2-2 2:a=1][3-3 3:b=1][4-4 4:a=2][5-5 5:a=3][6-6 6:commit]");
    put_batch(&f, 1, marker(5, ABORT)); /* not in a sealed file: known all the same */
    compact(&f, 1);
    assert_stays(&f, 1, "[0-1 1:b=0][3-3][5-5 5:a=3][6-6 6:commit][7-7 7:abort]");
    end(&f);
}

/* An aborted transaction whose marker lies above what is compacted. */
static void test_marker_above(void **state)
{
    struct fx f;

    start(&f);
    put_batch(&f, 1, data(5, "a=1"));
    put_batch(&f, 1, (struct put){.records = "a=0", .ts = 1000});
    put_batch(&f, 1, (struct put){.records = "z=0", .ts = 9000});
    put_batch(&f, 1, marker(5, ABORT));
    seal(&f);
    compact_begin(&f, 1, 2000, HOUR);
    fx_background(&f);
    assert_stays(&f, 1, "[0-0][1-1 1:a=0][2-2 2:z=0][3-3 3:abort]");
    end(&f);
}

/* ---- files ---- */

/* Only the part below the first batch that is too young: the file's rest stays where it is. */
static void test_part_of_file(void **state)
{
    struct plog_compact_info now;
    struct journal_stats before, after;
    uint64_t position;
    int64_t at;
    struct fx f;

    start(&f);
    put_batch(&f, 1, (struct put){.records = "a=1 b=1", .ts = 1000});
    put_batch(&f, 1, (struct put){.records = "a=2", .ts = 2000});
    put_batch(&f, 1, (struct put){.records = "a=3", .ts = 9000});
    position = journal_position_end(f.j);
    put_batch(&f, 1, (struct put){.records = "b=2", .ts = 3000});
    seal(&f);
    compact_begin(&f, 1, 5000, HOUR);
    fx_background(&f);
    assert_bytes(&f, 1);
    assert_stays(&f, 1, "[0-1 1:b=1][2-2 2:a=2][3-3 3:a=3][4-4 4:b=2]");
    assert_int_equal(plog_compact_info_get(f.log[1], &now, NULL), ERR_OK);
    assert_int_equal(now.clean_end, 3);
    assert_true(now.clean_bytes > 0 && now.dirty_bytes > 0);
    assert_int_equal(plog_seek_position(f.log[1], position, &at, NULL), ERR_OK);
    assert_int_equal(at, 4);
    assert_int_equal(plog_seek_position(f.log[1], position - 1, &at, NULL), ERR_OK);
    assert_int_equal(at, 3);
    assert_int_equal(plog_seek_time(f.log[1], 1500, &at, NULL), ERR_OK);
    assert_int_equal(at, 2);
    assert_int_equal(plog_seek_time(f.log[1], 2500, &at, NULL), ERR_OK);
    assert_int_equal(at, 3);
    compact(&f, 1); /* now all of it, and the file it was in goes */
    assert_bytes(&f, 1);
    assert_stays(&f, 1, "[3-3 3:a=3][4-4 4:b=2]");
    assert_int_equal(plog_seek_time(f.log[1], 0, &at, NULL), ERR_OK);
    assert_int_equal(at, 3);
    journal_stats_get(f.j, &before);
    fx_trim(&f, FILLER, fx_end(&f, FILLER));
    fx_background(&f);
    journal_stats_get(f.j, &after);
    assert_true(after.files < before.files);
    assert_stays(&f, 1, "[3-3 3:a=3][4-4 4:b=2]");
    end(&f);
}

/* A file behind a compacted segment that begins before it: the segment and a later file are sparse
 * and neighbours, but not in the log. They do not become one. */
static void test_rewrite_order(void **state)
{
    struct journal_stats before = {0}, s = {0};
    char text[1200];
    struct fx f;
    int i;

    start(&f);
    seal(&f);
    while (s.files == before.files) { /* a new file begins with what stays in it */
        journal_stats_get(f.j, &before);
        assert_int_equal(fx_put(&f, FILLER, 34000, false), ERR_OK);
        journal_stats_get(f.j, &s);
    }
    for (i = 0; i < 4; i++) {
        snprintf(text, sizeof text, "k%d=%01000d", i, i);
        put_batch(&f, 1, (struct put){.records = text, .ts = 1000});
    }
    put_batch(&f, 1, (struct put){.records = "x=1", .ts = 9000});
    for (before = s; s.files == before.files; journal_stats_get(f.j, &s))
        assert_int_equal(fx_put(&f, 3, 10000, false), ERR_OK);
    fx_background(&f);
    compact_begin(&f, 1, 5000, HOUR);
    fx_background(&f);
    put(&f, 1, "y=1");
    journal_stats_get(f.j, &s);
    for (before = s; s.files == before.files; journal_stats_get(f.j, &s))
        assert_int_equal(fx_put(&f, 3, 10000, false), ERR_OK);
    fx_background(&f);
    fx_trim(&f, 1, 3);
    fx_trim(&f, 3, fx_end(&f, 3));
    fx_background(&f);
    snprintf(text, sizeof text, "[3-3 3:k3=%01000d][4-4 4:x=1][5-5 5:y=1]", 3);
    assert_stays(&f, 1, text);
    end(&f);
}

/* More keys than the map takes: each compaction gets further. */
static void test_map_full(void **state)
{
    struct plog_compact_info now;
    char text[64];
    struct fx f;
    int i, k;

    start(&f);
    journal_compact_limits(f.j, 4, 0);
    for (i = 0; i < 3; i++)
        for (k = 0; k < 10; k += 2) {
            snprintf(text, sizeof text, "k%d=%d k%d=%d", k, i, k + 1, i);
            put(&f, 1, text);
        }
    put(&f, 1, "a=1 b=1 c=1 d=1 e=1 f=1"); /* alone more than the map takes */
    put(&f, 1, "a=2 f=2");
    seal(&f);
    for (i = 0, now.clean_end = -1; i < 30; i++) {
        int64_t was = now.clean_end;

        assert_int_equal(plog_compact_info_get(f.log[1], &now, NULL), ERR_OK);
        assert_true(now.clean_end > was);
        if (now.dirty_bytes == 0)
            break;
        compact(&f, 1);
        journal_compact_limits(f.j, 4, 0);
    }
    assert_int_equal(now.dirty_bytes, 0);
    assert_true(i > 4);
    assert_stays(&f, 1,
                 "[20-21 20:k0=2 21:k1=2][22-23 22:k2=2 23:k3=2][24-25 24:k4=2 25:k5=2]"
                 "[26-27 26:k6=2 27:k7=2][28-29 28:k8=2 29:k9=2]"
                 "[30-35 31:b=1 32:c=1 33:d=1 34:e=1][36-37 36:a=2 37:f=2]");
    end(&f);
}

/* A result of several segments, which are compacted again and rewritten with others. */
static void test_segments(void **state)
{
    struct journal_stats s;
    struct fx f;
    int i, round;

    start(&f);
    journal_compact_limits(f.j, 0, 6000);
    for (round = 0; round < 3; round++) {
        for (i = 0; i < 40; i++) {
            char text[200];

            snprintf(text, sizeof text, "k%d=%0100d", i, round);
            put(&f, 1, text);
            put(&f, 2, text);
        }
        seal(&f);
        compact(&f, 1);
        journal_compact_limits(f.j, 0, 6000);
        fx_trim(&f, FILLER, fx_end(&f, FILLER));
        io_sim_advance(f.io, 60000000000ull);
        fx_background(&f); /* rewrites */
    }
    journal_stats_get(f.j, &s);
    assert_true(s.segments >= 1);
    for (i = 0; i < 2; i++) {
        struct plog_info now;
        int64_t at;
        int k = 0;

        plog_info_get(f.log[1], &now);
        for (at = 0; at < now.end_offset; k++) {
            assert_int_equal(plog_read(f.log[1], at, 1, &f.r, NULL), ERR_OK);
            at = f.r.batch[0].last_offset + 1;
        }
        assert_int_equal(k, 40);
        plog_info_get(f.log[2], &now);
        for (at = 0, k = 0; at < now.end_offset; k++) {
            assert_int_equal(plog_read(f.log[2], at, 1, &f.r, NULL), ERR_OK);
            assert_int_equal(f.r.batch[0].base_offset, at);
            at++;
        }
        assert_int_equal(k, 120);
        fx_crash(&f);
        fx_open(&f);
    }
    end(&f);
}

/* Several logs share a segment; one is deleted meanwhile, one is trimmed. */
static void test_meanwhile(void **state)
{
    struct compact_item items[3];
    struct compact_stats st;
    bool cut = false;
    struct fx f;
    int i;

    start(&f);
    for (i = 1; i <= 3; i++) {
        put(&f, (uint32_t)i, "a=1 b=1 c=1");
        put(&f, (uint32_t)i, "a=2");
        put(&f, (uint32_t)i, "b=2");
        items[3 - i] = (struct compact_item){
            .log = f.log[i], .newest_ms = INT64_MAX, .delete_retention_ms = HOUR};
    }
    seal(&f);
    journal_compact(f.j, items, 3, HOUR);
    while (journal_compacting(f.j)) {
        journal_compact_stats(f.j, &st);
        assert_int_equal(st.jobs, 0);
        journal_background(f.j);
        if (!cut) {
            plog_delete(f.log[2]);
            fx_trim(&f, 3, 3);
            cut = true;
        }
    }
    fx_background(&f);
    journal_compact_stats(f.j, &st);
    assert_int_equal(st.jobs, 1);
    assert_int_equal(st.failed, 0);
    assert_log(&f, 1, "[0-2 2:c=1][3-3 3:a=2][4-4 4:b=2]");
    assert_log(&f, 3, "[3-3 3:a=2][4-4 4:b=2]");
    end(&f);
}

/* A reader in the old file goes on there; the file goes when it has left. */
static void test_reader_stays(void **state)
{
    struct journal_stats before, now;
    struct plog_read r = {0};
    struct fx f;

    start(&f);
    put(&f, 1, "a=1 b=1");
    put(&f, 1, "a=2");
    seal(&f);
    assert_int_equal(plog_read(f.log[1], 0, 1, &r, NULL), ERR_OK);
    compact(&f, 1);
    fx_trim(&f, FILLER, fx_end(&f, FILLER));
    journal_stats_get(f.j, &before);
    fx_background(&f);
    journal_stats_get(f.j, &now);
    assert_true(batch_crc_ok(r.batch[0].data));
    assert_int_equal(r.batch[0].last_offset, 1);
    plog_read_release(&r);
    assert_log(&f, 1, "[0-1 1:b=1][2-2 2:a=2]");
    end(&f);
}

/* A crash at every write of a compaction: before the checkpoint all is as it was, after it as it
 * is to be; and the next compaction gets there. */
static void test_crash(void **state)
{
    const char *before = "[0-2 0:a=1 1:b=1 2:c=1][3-3 3:a=2][4-4 4:b=2][5-5 5:d]";
    const char *after = "[0-2 2:c=1][3-3 3:a=2][4-4 4:b=2][5-5 5:d]";
    bool was_before = false, was_after = false;
    struct fx f;
    int n;

    for (n = 1; n < 200; n++) {
        const char *is;
        bool crashed;

        start(&f);
        put(&f, 1, "a=1 b=1 c=1");
        put(&f, 1, "a=2");
        put(&f, 1, "b=2");
        put(&f, 1, "d");
        seal(&f);
        compact_begin(&f, 1, INT64_MAX, HOUR);
        io_sim_crash_at(f.io, (uint64_t)n);
        fx_background(&f);
        crashed = io_sim_crashed(f.io);
        fx_close(&f);
        io_sim_crash(f.io);
        fx_open(&f);
        is = show(&f, 1);
        was_before = was_before || strcmp(is, before) == 0;
        was_after = was_after || strcmp(is, after) == 0;
        if (strcmp(is, before) != 0)
            assert_string_equal(is, after);
        put(&f, 1, "e=1");
        seal(&f);
        compact_at(&f, 1, HOUR);
        assert_stays(&f, 1, "[0-2 2:c=1][3-3 3:a=2][4-4 4:b=2][5-5 5:d][6-6 6:e=1]");
        end(&f);
        if (!crashed)
            break;
    }
    assert_true(was_before && was_after);
    assert_true(n > 10 && n < 200);
}

/* Closing in the middle leaves nothing behind; a failed write and a full disk end the job. */
static void test_stopped(void **state)
{
    struct compact_stats st;
    char path[300];
    struct fx f;
    int files;

    start(&f);
    put(&f, 1, "a=1");
    put(&f, 1, "a=2");
    seal(&f);
    files = fx_file(&f, ".seg", 0, path);
    compact_begin(&f, 1, INT64_MAX, HOUR);
    journal_background(f.j);
    journal_background(f.j);
    journal_background(f.j);
    assert_true(journal_compacting(f.j));
    assert_int_equal(fx_file(&f, ".seg", 0, path), files + 1);
    fx_close(&f);
    assert_int_equal(fx_file(&f, ".seg", 0, path), files);
    fx_open(&f);
    assert_log(&f, 1, "[0-0 0:a=1][1-1 1:a=2]");
    compact_begin(&f, 1, INT64_MAX, HOUR);
    io_sim_fail(f.io, 5, ERR_IO, true);
    fx_background(&f);
    io_sim_fail(f.io, 0, ERR_OK, false);
    assert_false(journal_compacting(f.j));
    journal_compact_stats(f.j, &st);
    assert_int_equal(st.failed, 1);
    assert_true(plog_compact_waits(f.log[1]));
    assert_log(&f, 1, "[0-0 0:a=1][1-1 1:a=2]");
    io_sim_advance(f.io, 61000000000ull);
    assert_false(plog_compact_waits(f.log[1]));
    compact(&f, 1);
    assert_stays(&f, 1, "[1-1 1:a=2]");
    end(&f);
}

/* Flips a bit in the text, which is in one segment (and maybe in a file that was recycled). */
static void damage(struct fx *f, const char *text)
{
    uint8_t *mem = xmalloc(FILE_BYTES), *at, byte;
    int i, n, hits = 0;
    char path[300];
    size_t got;

    n = fx_file(f, "", 0, path);
    for (i = 0; i < n; i++) {
        fx_file(f, "", i, path);
        got = fx_read_at(f, path, 0, mem, FILE_BYTES);
        at = memmem(mem, got, text, strlen(text));
        if (!at || !strstr(path, ".seg"))
            continue;
        byte = *at ^ 1;
        fx_write_at(f, path, (uint64_t)(at - mem), &byte, 1);
        hits++;
    }
    assert_int_equal(hits, 1);
    free(mem);
}

/* A damaged batch: all stays as it is, for `weir check` to find. */
static void test_damaged(void **state)
{
    struct compact_stats st;
    struct fx f;

    start(&f);
    put(&f, 1, "a=1");
    put(&f, 1, "a=needle");
    put(&f, 1, "a=3");
    seal(&f);
    fx_close(&f);
    damage(&f, "needle");
    fx_open(&f);
    compact_begin(&f, 1, INT64_MAX, HOUR);
    fx_background(&f);
    assert_false(journal_compacting(f.j));
    journal_compact_stats(f.j, &st);
    assert_int_equal(st.failed, 1);
    io_sim_advance(f.io, 61000000000ull);
    assert_true(plog_compact_waits(f.log[1]));
    assert_int_equal(plog_read(f.log[1], 0, 1, &f.r, NULL), ERR_OK);
    assert_int_equal(plog_read(f.log[1], 1, 1, &f.r, NULL), ERR_CORRUPT);
    assert_int_equal(plog_read(f.log[1], 2, 1, &f.r, NULL), ERR_OK);
    end(&f);
}

/* The index of a compacted segment is lost: made anew, it still says what it stands for. */
static void test_repair(void **state)
{
    struct journal_check_result res;
    char path[300];
    struct fx f;
    int i, n;

    start(&f);
    put(&f, 1, "a=1 b=1");
    put(&f, 1, "a");
    put(&f, 1, "b=2");
    seal(&f);
    compact_at(&f, 1, HOUR);
    put(&f, 1, "c=1");
    seal(&f);
    compact_at(&f, 1, 3 * HOUR);
    assert_log(&f, 1, "[3-3 3:b=2][4-4 4:c=1]");
    fx_close(&f);
    n = fx_file(&f, ".seg", 0, path);
    assert_true(n >= 1);
    for (i = 0; i < n; i++) {
        fx_file(&f, ".seg", i, path);
        memcpy(strstr(path, ".seg"), ".idx", 4);
        assert_int_equal(io_unlink(f.io, path, NULL), ERR_OK);
    }
    assert_int_equal(fx_try_open(&f), ERR_CORRUPT);
    assert_int_equal(journal_repair(f.io, f.dir, false, NULL, NULL, &f.info), ERR_OK);
    assert_int_equal(journal_check(f.io, f.dir, NULL, NULL, &res, &f.info), ERR_OK);
    assert_int_equal(res.problems, 0);
    fx_open(&f);
    assert_log(&f, 1, "[3-3 3:b=2][4-4 4:c=1]");
    end(&f);
}

/* ---- the newest few, and what an owner removed ---- */

static void compact_item(struct fx *f, struct compact_item item)
{
    item.log = f->log[1];
    item.newest_ms = INT64_MAX;
    item.delete_retention_ms = HOUR;
    journal_compact(f->j, &item, 1, 1000 * HOUR);
    fx_background(f);
    assert_false(journal_compacting(f->j));
}

/* Across compactions: what is below the clean end counts for keys that came again. */
static void test_newest_few(void **state)
{
    struct fx f;

    start(&f);
    put(&f, 1, "a=1 b=1 a=2 c=1 a=3");
    put(&f, 1, "a=4 b=2");
    seal(&f);
    compact_item(&f, (struct compact_item){.newest = 3});
    assert_stays(&f, 1, "[0-4 1:b=1 2:a=2 3:c=1 4:a=3][5-6 5:a=4 6:b=2]");
    put(&f, 1, "b=3 b=4 c=2");
    seal(&f);
    compact_item(&f, (struct compact_item){.newest = 3});
    assert_stays(&f, 1, "[0-4 2:a=2 3:c=1 4:a=3][5-6 5:a=4 6:b=2][7-9 7:b=3 8:b=4 9:c=2]");
    put(&f, 1, "a=5 a=6 d=1");
    seal(&f);
    compact_item(&f, (struct compact_item){.newest = 3});
    assert_stays(&f, 1,
                 "[0-4 3:c=1][5-6 5:a=4 6:b=2][7-9 7:b=3 8:b=4 9:c=2][10-12 10:a=5 11:a=6 12:d=1]");
    put(&f, 1, "a=7 c=3"); /* fewer from now on: of keys that come again */
    seal(&f);
    compact_item(&f, (struct compact_item){.newest = 2});
    assert_stays(&f, 1,
                 "[5-6 6:b=2][7-9 7:b=3 8:b=4 9:c=2][10-12 11:a=6 12:d=1][13-14 13:a=7 14:c=3]");
    end(&f);
}

static uint8_t removed_bits[2][COMPACT_BLOCK / 8];

static bool removed(void *arg, uint64_t id, uint64_t block, uint8_t *bits)
{
    assert_true(arg == removed_bits && id == 77);
    if (block > 1)
        return false;
    memcpy(bits, removed_bits[block], sizeof removed_bits[block]);
    return true;
}

static void test_removed(void **state)
{
    struct compact_item item = {.removed = removed, .removed_arg = removed_bits, .removed_id = 77};
    struct fx f;

    start(&f);
    memset(removed_bits, 0, sizeof removed_bits);
    put(&f, 1, "a=1 a=2 a b =nokey a=3");
    put(&f, 1, "=x b");
    seal(&f);
    removed_bits[0][0] = 1 << 1 | 1 << 3;
    compact_item(&f, item); /* all of a key stays */
    assert_stays(&f, 1, "[0-5 0:a=1 2:a 4:=nokey 5:a=3][6-7 6:=x 7:b]");
    removed_bits[0][0] |= 1 << 5;
    put(&f, 1, "c=1");
    seal(&f);
    item.newest = 2; /* 5 is removed: 0 and 2 are the newest two */
    compact_item(&f, item);
    assert_stays(&f, 1, "[0-5 0:a=1 2:a 4:=nokey][6-7 6:=x 7:b][8-8 8:c=1]");
    put(&f, 1, "a=4");
    seal(&f);
    compact_item(&f, item); /* 2 and 9 now */
    assert_stays(&f, 1, "[0-5 2:a 4:=nokey][6-7 6:=x 7:b][8-8 8:c=1][9-9 9:a=4]");
    end(&f);
}

/* A batch may lie across two blocks of bits. */
static void test_removed_blocks(void **state)
{
    struct compact_item item = {.removed = removed, .removed_arg = removed_bits, .removed_id = 77};
    char records[2001];
    struct fx f;
    int i;

    start(&f);
    memset(removed_bits, 0xff, sizeof removed_bits);
    removed_bits[0][4095 / 8] &= 0x7f; /* 4095 and 4097 are left */
    removed_bits[1][0] &= 0xfd;
    for (i = 0; i < 1000; i++)
        snprintf(records + 2 * i, 3, i < 999 ? "k " : "k");
    for (i = 0; i < 5; i++)
        put(&f, 1, records); /* the fifth: 4000 to 4999 */
    seal(&f);
    compact_item(&f, item);
    assert_stays(&f, 1, "[4000-4999 4095:k 4097:k]");
    end(&f);
}

/* ---- one batch ---- */

/* Records that do not decode: the batch stays as it is. */
static void test_not_decoding(void **state)
{
    struct batch_filter filter;
    struct batch_builder b;
    struct batch_rules r;
    struct keymap map;
    struct slice data, out;
    uint8_t *bytes;

    keymap_init(&map, 100, (const uint8_t *)"0123456789abcdef");
    batch_filter_init(&filter);
    batch_builder_init(&b, CODEC_NONE, 1000);
    assert_int_equal(batch_builder_add(&b, 1, SLICE_LIT("k"), SLICE_LIT("v"), NULL, 0, NULL),
                     ERR_OK);
    assert_int_equal(batch_builder_add(&b, 1, SLICE_LIT("l"), SLICE_LIT("v"), NULL, 0, NULL),
                     ERR_OK);
    assert_int_equal(batch_builder_finish(&b, 0, -1, -1, -1, &data), ERR_OK);
    keymap_put(&map, SLICE_LIT("k"), 100);
    r = (struct batch_rules){.map = &map};
    batch_filter(&filter, data, &r, &out);
    assert_true(out.len < data.len && out.len > BATCH_HEADER);
    assert_int_equal(filter.records_in, 2);
    assert_int_equal(filter.records_out, 1);
    bytes = xmemdup(data.ptr, data.len);
    bytes[data.len - 3] ^= 0x40; /* a length in the last record */
    be32_store(bytes + 17, crc32c(0, bytes + 21, data.len - 21));
    batch_filter(&filter, slice_of(bytes, data.len), &r, &out);
    assert_true(out.ptr == bytes && out.len == data.len);
    free(bytes);
    batch_builder_fini(&b);
    batch_filter_fini(&filter);
    keymap_fini(&map);
}

static void test_keymap(void **state)
{
    struct keymap m;
    char key[16];
    int i;

    keymap_init(&m, 5000, (const uint8_t *)"0123456789abcdef");
    assert_int_equal(keymap_get(&m, SLICE_LIT("x")), -1);
    for (i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "key%d", i);
        assert_true(keymap_put(&m, slice_str(key), i));
    }
    assert_false(keymap_put(&m, SLICE_LIT("one more"), 1));
    assert_true(keymap_put(&m, SLICE_LIT("key7"), 9000));
    assert_true(keymap_put(&m, SLICE_LIT("key8"), 0)); /* older: does not count */
    for (i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "key%d", i);
        assert_int_equal(keymap_get(&m, slice_str(key)), i == 7 ? 9000 : i);
    }
    assert_int_equal(keymap_get(&m, SLICE_LIT("one more")), -1);
    keymap_clear(&m);
    assert_int_equal(keymap_get(&m, SLICE_LIT("key1")), -1);
    assert_true(keymap_put(&m, slice_of("", 0), 3));
    assert_int_equal(keymap_get(&m, slice_of("", 0)), 3);
    keymap_fini(&m);
}

static void test_keymap_newest(void **state)
{
    static const struct {
        int put, least;
    } step[] = {{5, -1}, {1, -1}, {9, 1}, {9, 1}, {7, 5}, {3, 5}};
    struct keymap m;
    char key[16];
    unsigned i;

    keymap_init(&m, 6000, (const uint8_t *)"0123456789abcdef");
    keymap_newest(&m, 3);
    for (i = 0; i < sizeof step / sizeof *step; i++) {
        assert_true(keymap_put(&m, SLICE_LIT("k"), step[i].put));
        assert_int_equal(keymap_get(&m, SLICE_LIT("k")), step[i].least);
    }
    keymap_put_known(&m, SLICE_LIT("k"), 8);
    keymap_put_known(&m, SLICE_LIT("other"), 8);
    assert_int_equal(keymap_get(&m, SLICE_LIT("k")), 7); /* 9 8 7 */
    assert_int_equal(m.n, 1);
    for (i = 1; i < m.max; i++) {
        snprintf(key, sizeof key, "key%u", i);
        assert_true(keymap_put(&m, slice_str(key), i));
        assert_int_equal(keymap_get(&m, slice_str(key)), -1);
    }
    assert_false(keymap_put(&m, SLICE_LIT("one more"), 1));
    assert_int_equal(m.max, 3600); /* 40 bytes instead of 24 */
    assert_int_equal(keymap_get(&m, SLICE_LIT("k")), 7);
    keymap_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_newest_few),     cmocka_unit_test(test_removed),
        cmocka_unit_test(test_removed_blocks), cmocka_unit_test(test_keymap_newest),
        cmocka_unit_test(test_newest),         cmocka_unit_test(test_tombstones),
        cmocka_unit_test(test_last),           cmocka_unit_test(test_header_kept),
        cmocka_unit_test(test_append_time),    cmocka_unit_test(test_producers),
        cmocka_unit_test(test_transactions),   cmocka_unit_test(test_ongoing),
        cmocka_unit_test(test_marker_above),   cmocka_unit_test(test_part_of_file),
        cmocka_unit_test(test_map_full),       cmocka_unit_test(test_max_time),
        cmocka_unit_test(test_rewrite_order),  cmocka_unit_test(test_segments),
        cmocka_unit_test(test_meanwhile),      cmocka_unit_test(test_reader_stays),
        cmocka_unit_test(test_crash),          cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_damaged),        cmocka_unit_test(test_repair),
        cmocka_unit_test(test_not_decoding),   cmocka_unit_test(test_keymap),
    };

    return cmocka_run_group_tests_name("journal/compact", tests, NULL, NULL);
}
