/* Appends: places, atomicity, routing, limits, ready batches, items in the same unit, idempotency
 * (within an append, across appends, while one is under way, across restarts). */
#include "fixture.h"

#include "base/murmur2.h"
#include "base/tbl/limits.h"
#include "broker/broker_int.h"
#include "journal/batch.h"

struct outcome {
    int calls;
    enum err e;
};

static void done(struct append *a, void *arg, enum err e)
{
    struct outcome *o = arg;

    o->calls++;
    o->e = e;
}

static void add(struct append *a, struct topic *t, int32_t p, const char *key, const char *value,
                const char *id, struct append_slot *slot)
{
    struct append_record r = rec_of(key, value, id);
    struct errinfo info = {0};

    if (append_record(a, t, p, &r, slot, &info))
        fail_msg("append_record: %s", info.text);
}

static void test_places(void **state)
{
    struct append_slot slot[5];
    struct append_place p;
    struct outcome o = {0};
    struct topic *t, *u;
    struct append *a;
    struct fx f;

    assert_int_not_equal(murmur2_partition(SLICE_LIT("key-3"), 4), 1);
    fx_start(&f, false);
    t = fx_topic(&f, "t", 4);
    u = fx_topic(&f, "u", 1);
    a = append_new(f.b, done, &o);
    add(a, t, 1, NULL, "a", NULL, &slot[0]);
    add(a, u, -1, "k", "b", NULL, &slot[1]);
    add(a, t, 1, NULL, "c", NULL, &slot[2]);
    add(a, t, -1, "key-3", "d", NULL, &slot[3]);
    add(a, u, 0, NULL, NULL, NULL, &slot[4]);
    assert_int_equal(append_records(a), 5);
    assert_true(append_bytes(a) > 5);
    assert_int_equal(append_submit(a, true, NULL), ERR_OK);
    assert_int_equal(o.calls, 0);
    assert_int_equal(append_place(a, slot[0], &p), ERR_AGAIN);
    broker_step(f.b);
    assert_int_equal(o.calls, 1);
    assert_int_equal(o.e, ERR_OK);
    assert_int_equal(append_place(a, slot[0], &p), ERR_OK);
    assert_int_equal(p.partition, 1);
    assert_int_equal(p.offset, 0);
    assert_int_equal(p.position, 1);
    assert_false(p.duplicate);
    assert_int_equal(append_place(a, slot[2], &p), ERR_OK);
    assert_int_equal(p.offset, 1);
    assert_int_equal(p.position, 2);
    assert_int_equal(append_place(a, slot[1], &p), ERR_OK);
    assert_int_equal(p.offset, 0);
    assert_int_equal(p.position, 3);
    assert_int_equal(append_place(a, slot[4], &p), ERR_OK);
    assert_int_equal(p.offset, 1);
    assert_int_equal(append_place(a, slot[3], &p), ERR_OK);
    assert_int_equal(p.partition, murmur2_partition(SLICE_LIT("key-3"), 4));
    append_reset(a); /* used again */
    o.calls = 0;
    add(a, u, 0, NULL, "e", NULL, &slot[0]);
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    assert_int_equal(o.calls, 1);
    assert_int_equal(append_place(a, slot[0], &p), ERR_OK);
    assert_int_equal(p.offset, 2);
    assert_int_equal(p.position, 6);
    append_reset(a);
    o.calls = 0;
    assert_int_equal(append_submit(a, true, NULL), ERR_OK); /* nothing at all */
    assert_int_equal(o.calls, 1);
    append_free(&a);
    topic_unref(&t);
    topic_unref(&u);
    fx_end(&f);
}

static void test_limits(void **state)
{
    struct append_record r = {.timestamp_ms = -1};
    struct topic_conf c;
    struct errinfo info;
    struct append *a;
    struct topic *t;
    char *big = malloc(3000);
    struct fx f;

    fx_start(&f, false);
    topic_conf_default(f.b, &c);
    c.max_message_bytes = 2048;
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("t"), 2, &c, NULL), ERR_OK);
    t = topic_find(f.b, SLICE_LIT("t"));
    a = append_new(f.b, NULL, NULL);
    memset(big, 'x', 3000);
    r.value = slice_of(big, 3000);
    assert_int_equal(append_record(a, t, 0, &r, NULL, &info), ERR_TOO_LARGE);
    assert_non_null(strstr(info.text, "2048"));
    r.value = slice_of(big, 100);
    assert_int_equal(append_record(a, t, 2, &r, NULL, &info), ERR_PARTITION_NOT_FOUND);
    r.dedup_id = slice_of(big, LIMIT_EVENT_ID + 1);
    assert_int_equal(append_record(a, t, 0, &r, NULL, &info), ERR_TOO_LARGE);
    assert_int_equal(append_records(a), 0);
    append_free(&a);
    topic_unref(&t);
    free(big);
    fx_end(&f);
}

/* A part that is full goes on in another batch; all of it is one unit. */
static void test_rollover(void **state)
{
    static char value[1000];
    struct append_slot slot[2000];
    struct append_place p;
    struct topic_conf c;
    struct append *a;
    struct topic *t;
    struct reader *r;
    struct reader_record rec;
    char key[16];
    struct fx f;
    int i;

    fx_start(&f, false);
    topic_conf_default(f.b, &c);
    c.max_message_bytes = 100000;
    assert_int_equal(topic_create_wait(f.b, SLICE_LIT("t"), 2, &c, NULL), ERR_OK);
    t = topic_find(f.b, SLICE_LIT("t"));
    memset(value, 'v', sizeof value);
    a = append_new(f.b, NULL, NULL);
    for (i = 0; i < 2000; i++) {
        struct append_record ar = {.timestamp_ms = 1000 + i, .value = slice_of(value, 1000)};

        snprintf(key, sizeof key, "k%d", i);
        ar.key = slice_str(key);
        assert_int_equal(append_record(a, t, i % 2, &ar, &slot[i], NULL), ERR_OK);
    }
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    for (i = 0; i < 2000; i++) {
        assert_int_equal(append_place(a, slot[i], &p), ERR_OK);
        assert_int_equal(p.partition, i % 2);
        assert_int_equal(p.offset, i / 2);
        assert_int_equal(p.timestamp_ms, 1000 + i);
    }
    append_free(&a);
    r = fx_reader(&f, "t", READ_FROM_START, 0);
    for (i = 0; i < 2000; i++) {
        assert_int_equal(reader_next(r, &rec, NULL), ERR_OK);
        assert_int_equal(rec.position, i + 1);
    }
    assert_drained(r);
    reader_close(&r);
    topic_unref(&t);
    fx_end(&f);
}

/* Many partitions in one append, again and again in the same object. */
static void test_many_parts(void **state)
{
    struct append_slot slot[120];
    struct append_place p;
    struct append *a;
    struct topic *t;
    int round, i;
    struct fx f;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 60);
    a = append_new(f.b, NULL, NULL);
    for (round = 0; round < 40; round++) {
        for (i = 0; i < 120; i++)
            add(a, t, i * 7 % 60, NULL, "v", NULL, &slot[i]);
        assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
        for (i = 0; i < 120; i++) {
            assert_int_equal(append_place(a, slot[i], &p), ERR_OK);
            assert_int_equal(p.partition, i * 7 % 60);
            assert_int_equal(p.offset, round * 2 + i / 60);
        }
        append_reset(a);
    }
    append_free(&a);
    topic_unref(&t);
    fx_end(&f);
}

static void test_deleted_topic(void **state)
{
    struct append_slot s1, s2;
    struct append_place p;
    struct outcome o = {0}, d = {0};
    struct append_record r = rec_of(NULL, "x", NULL);
    struct topic *t, *u;
    struct append *a;
    struct fx f;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 1);
    u = fx_topic(&f, "u", 1);
    a = append_new(f.b, done, &o);
    add(a, t, 0, NULL, "one", "id1", &s1);
    add(a, u, 0, NULL, "two", "id2", &s2);
    assert_int_equal(topic_delete_wait(f.b, SLICE_LIT("t"), NULL), ERR_OK);
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    assert_int_equal(append_place(a, s1, &p), ERR_TOPIC_NOT_FOUND);
    assert_int_equal(append_place(a, s2, &p), ERR_OK);
    append_reset(a);
    assert_int_equal(append_record(a, t, 0, &r, NULL, NULL), ERR_TOPIC_NOT_FOUND);
    /* only records of deleted topics: refused as a whole */
    add(a, u, 0, NULL, "three", "id3", &s1);
    assert_int_equal(topic_delete_wait(f.b, SLICE_LIT("u"), NULL), ERR_OK);
    assert_int_equal(append_submit(a, true, NULL), ERR_TOPIC_NOT_FOUND);
    append_free(&a);
    (void)d;
    topic_unref(&t);
    topic_unref(&u);
    fx_crash(&f);
    assert_int_equal(topic_count(f.b), 0);
    fx_end(&f);
}

static void test_ready_batch(void **state)
{
    struct batch_builder bb;
    struct append_slot slot;
    struct append_place p;
    struct slice batch;
    struct append *a;
    struct topic *t;
    struct reader *r;
    uint8_t *copy;
    struct fx f;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 1);
    fx_put(&f, t, 0, NULL, "zero", NULL);
    batch_builder_init(&bb, 0, 10000);
    batch_builder_add(&bb, 5, SLICE_NULL, SLICE_LIT("one"), NULL, 0, NULL);
    batch_builder_add(&bb, 6, SLICE_NULL, SLICE_LIT("two"), NULL, 0, NULL);
    assert_int_equal(batch_builder_finish(&bb, 0, -1, -1, -1, &batch), ERR_OK);
    copy = malloc(batch.len);
    memcpy(copy, batch.ptr, batch.len);
    a = append_new(f.b, NULL, NULL);
    copy[batch.len - 1] ^= 1;
    assert_int_equal(append_batch(a, topic_partition(t, 0), slice_of(copy, batch.len), &slot, NULL),
                     ERR_CORRUPT_INPUT);
    copy[batch.len - 1] ^= 1;
    assert_int_equal(
        append_batch(a, topic_partition(t, 0), slice_of(copy, batch.len - 1), &slot, NULL),
        ERR_RECORD);
    assert_int_equal(append_batch(a, topic_partition(t, 0), slice_of(copy, batch.len), &slot, NULL),
                     ERR_OK);
    assert_int_equal(append_records(a), 2);
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    assert_int_equal(append_place(a, slot, &p), ERR_OK);
    assert_int_equal(p.offset, 1);
    assert_int_equal(p.position, 2);
    append_free(&a);
    free(copy);
    batch_builder_fini(&bb);
    r = fx_reader(&f, "t", READ_FROM_START, 0);
    assert_next(r, "zero");
    assert_next(r, "one");
    assert_next(r, "two");
    assert_drained(r);
    reader_close(&r);
    topic_unref(&t);
    fx_end(&f);
}

static void test_unit_with_items(void **state)
{
    char text[LIMIT_GROUP_METADATA];
    struct group_offset off;
    struct append *a;
    struct topic *t;
    struct buf v;
    struct fx f;

    fx_start(&f, false);
    buf_init(&v, 1000);
    t = fx_topic(&f, "t", 1);
    a = append_new(f.b, NULL, NULL);
    add(a, t, 0, NULL, "x", NULL, NULL);
    assert_int_equal(append_kv(a, "test", SLICE_LIT("k"), SLICE_LIT("value")), ERR_OK);
    assert_int_equal(append_offset(a, SLICE_LIT("g"), topic_partition(t, 0), 1, SLICE_LIT("m")),
                     ERR_OK);
    assert_int_equal(kv_get(f.b, "test", SLICE_LIT("k"), &v), ERR_NOT_FOUND);
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    append_free(&a);
    assert_int_equal(kv_get(f.b, "test", SLICE_LIT("k"), &v), ERR_OK);
    topic_unref(&t);
    fx_crash(&f);
    t = topic_find(f.b, SLICE_LIT("t"));
    assert_int_equal(kv_get(f.b, "test", SLICE_LIT("k"), &v), ERR_OK);
    assert_true(slice_eq_str(buf_slice(&v), "value"));
    assert_int_equal(group_offset_get_full(f.b, SLICE_LIT("g"), topic_partition(t, 0), &off, text),
                     ERR_OK);
    assert_int_equal(off.offset, 1);
    assert_true(slice_eq_str(off.metadata, "m"));
    topic_unref(&t);
    buf_fini(&v);
    fx_end(&f);
}

static void test_duplicates(void **state)
{
    struct append_place p, q;
    struct append_slot s[4];
    struct outcome o = {0};
    struct append *a;
    struct topic *t, *u;
    struct reader *r;
    struct fx f;
    int round;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 2);
    u = fx_topic(&f, "u", 1);
    p = fx_put(&f, t, 1, NULL, "one", "id-1");
    for (round = 0; round < 4; round++) {
        q = fx_put(&f, t, 0, NULL, "again", "id-1");
        assert_true(q.duplicate);
        assert_int_equal(q.partition, 1);
        assert_int_equal(q.offset, p.offset);
        assert_int_equal(q.position, p.position);
        assert_int_equal(q.timestamp_ms, p.timestamp_ms);
        topic_unref(&t);
        topic_unref(&u);
        if (round == 1)
            fx_checkpoint(&f);
        if (round == 0 || round == 1)
            fx_crash(&f);
        else
            fx_reopen(&f);
        t = topic_find(f.b, SLICE_LIT("t"));
        u = topic_find(f.b, SLICE_LIT("u"));
    }
    assert_false(fx_put(&f, u, 0, NULL, "other topic", "id-1").duplicate);
    /* within one append */
    a = append_new(f.b, done, &o);
    add(a, t, 0, NULL, "two", "id-2", &s[0]);
    add(a, t, 0, NULL, "three", "id-3", &s[1]);
    add(a, t, 0, NULL, "two!", "id-2", &s[2]);
    add(a, t, 0, NULL, "one!", "id-1", &s[3]);
    assert_int_equal(append_records(a), 2);
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    assert_int_equal(append_place(a, s[0], &p), ERR_OK);
    assert_int_equal(append_place(a, s[2], &q), ERR_OK);
    assert_true(q.duplicate && !p.duplicate);
    assert_int_equal(q.position, p.position);
    assert_int_equal(append_place(a, s[3], &q), ERR_OK);
    assert_int_equal(q.position, 1);
    append_reset(a);
    o.calls = 0;
    add(a, t, 0, NULL, "two!", "id-2", &s[0]); /* all known: done without a write */
    assert_int_equal(append_submit(a, true, NULL), ERR_OK);
    assert_int_equal(o.calls, 1);
    append_free(&a);
    r = fx_reader(&f, "t", READ_FROM_START, 0);
    assert_next(r, "one");
    assert_next(r, "two");
    assert_next(r, "three");
    assert_drained(r);
    reader_close(&r);
    topic_unref(&t);
    topic_unref(&u);
    fx_end(&f);
}

/* Two appends with the same ids under way at once: the second writes only what is its own, and is
 * done after the first. */
static void test_duplicate_under_way(void **state)
{
    struct outcome o1 = {0}, o2 = {0};
    struct append_slot s1[2], s2[5];
    struct append_place p, q;
    struct append *a, *b;
    struct reader *r;
    struct topic *t;
    struct fx f;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 1);
    a = append_new(f.b, done, &o1);
    b = append_new(f.b, done, &o2);
    add(b, t, 0, "k", "b0", NULL, &s2[0]);
    add(b, t, 0, NULL, "b1", "x", &s2[1]);
    add(b, t, 0, NULL, "b2", "own", &s2[2]);
    add(b, t, 0, NULL, "b3", "y", &s2[3]);
    add(b, t, 0, NULL, "b4", NULL, &s2[4]);
    add(a, t, 0, NULL, "a0", "x", &s1[0]);
    add(a, t, 0, NULL, "a1", "y", &s1[1]);
    assert_int_equal(append_submit(a, true, NULL), ERR_OK);
    assert_int_equal(append_submit(b, true, NULL), ERR_OK);
    assert_int_equal(o1.calls + o2.calls, 0);
    broker_step(f.b);
    assert_int_equal(o1.calls, 1);
    assert_int_equal(o2.calls, 1);
    assert_int_equal(o2.e, ERR_OK);
    assert_int_equal(append_place(a, s1[1], &p), ERR_OK);
    assert_int_equal(append_place(b, s2[3], &q), ERR_OK);
    assert_true(q.duplicate);
    assert_int_equal(p.position, q.position);
    assert_int_equal(append_place(b, s2[4], &q), ERR_OK);
    assert_int_equal(q.offset, 4);
    assert_false(q.duplicate);
    append_free(&a);
    append_free(&b);
    r = fx_reader(&f, "t", READ_FROM_START, 0);
    assert_next(r, "a0");
    assert_next(r, "a1");
    assert_next(r, "b0");
    assert_next(r, "b2");
    assert_next(r, "b4");
    assert_drained(r);
    reader_close(&r);
    /* an append of nothing but such duplicates waits, too */
    o1.calls = o2.calls = 0;
    a = append_new(f.b, done, &o1);
    b = append_new(f.b, done, &o2);
    add(a, t, 0, NULL, "c", "z", &s1[0]);
    add(b, t, 0, NULL, "c!", "z", &s2[0]);
    assert_int_equal(append_submit(a, true, NULL), ERR_OK);
    assert_int_equal(append_submit(b, true, NULL), ERR_OK);
    assert_int_equal(o2.calls, 0);
    broker_step(f.b);
    assert_int_equal(o1.calls, 1);
    assert_int_equal(o2.calls, 1);
    append_free(&a);
    append_free(&b);
    topic_unref(&t);
    fx_crash(&f);
    t = topic_find(f.b, SLICE_LIT("t"));
    assert_int_equal(fx_put(&f, t, 0, NULL, "again", "own").offset, 3);
    topic_unref(&t);
    fx_end(&f);
}

static void test_window(void **state)
{
    struct topic *t;
    struct fx f;
    char id[16];
    int i;

    fx_start(&f, false);
    broker_close(&f.b);
    f.conf.dedup_ids_max = 16 * 4; /* four a shard */
    fx_open(&f);
    t = fx_topic(&f, "t", 1);
    fx_put(&f, t, 0, NULL, "v", "first");
    for (i = 0; i < 1000; i++) {
        snprintf(id, sizeof id, "id%d", i);
        assert_false(fx_put(&f, t, 0, NULL, "v", id).duplicate);
    }
    assert_true(fx_put(&f, t, 0, NULL, "v", id).duplicate);
    assert_false(fx_put(&f, t, 0, NULL, "v", "first").duplicate); /* pushed out */
    topic_unref(&t);
    broker_close(&f.b);
    f.conf.dedup_window_ms = 1;
    fx_open(&f);
    usleep(3000);
    t = fx_topic(&f, "t", 1);
    assert_false(fx_put(&f, t, 0, NULL, "v", id).duplicate); /* expired */
    topic_unref(&t);
    fx_end(&f);
}

/* ---- threads ---- */

#define WRITERS 4
#define EACH    300

static void add_expecting(struct append *a, struct topic *t, int64_t offset, struct append_slot *s)
{
    append_reset(a);
    add(a, t, 0, "k", "v", NULL, s);
    append_expect(a, topic_partition(t, 0), offset);
}

/* An append that expects an offset gets that one or is not written at all, whoever came between;
 * what is not durable yet counts. */
static void test_expect(void **state)
{
    struct append *a, *other;
    struct append_slot slot;
    struct append_place p;
    struct outcome o = {0};
    struct topic *t;
    struct fx f;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 2);
    a = append_new(f.b, done, &o);
    other = append_new(f.b, NULL, NULL);
    add(other, t, 0, NULL, "1", NULL, NULL);
    add(other, t, 0, NULL, "2", NULL, NULL);
    add(other, t, 1, NULL, "elsewhere", NULL, NULL);
    assert_int_equal(append_submit(other, true, NULL), ERR_OK);
    assert_int_equal(partition_next_offset(topic_partition(t, 0)), 2);
    add_expecting(a, t, 0, &slot);
    assert_int_equal(append_submit(a, true, NULL), ERR_OFFSET_TAKEN);
    broker_step(f.b);
    assert_int_equal(append_submit(a, true, NULL), ERR_OFFSET_TAKEN);
    assert_int_equal(o.calls, 0);
    add_expecting(a, t, 3, &slot); /* too far */
    assert_int_equal(append_submit(a, true, NULL), ERR_OFFSET_TAKEN);
    append_expect(a, topic_partition(t, 0), 2); /* the same records may be submitted again */
    assert_int_equal(append_submit(a, true, NULL), ERR_OK);
    broker_step(f.b);
    assert_int_equal(o.calls, 1);
    assert_int_equal(append_place(a, slot, &p), ERR_OK);
    assert_int_equal(p.offset, 2);
    append_reset(a); /* it expects nothing any more */
    add(a, t, 0, NULL, "3", NULL, &slot);
    assert_int_equal(append_submit(a, true, NULL), ERR_OK);
    broker_step(f.b);
    append_free(&a);
    append_free(&other);
    topic_unref(&t);
    fx_end(&f);
}

/* While a partition is reserved only appends that expect an offset get in; the others wait, until
 * the reservation ends or its time is over. */
static void test_reserve(void **state)
{
    struct append *a, *other;
    struct append_slot slot;
    struct topic *t;
    struct fx f;

    fx_start(&f, true);
    t = fx_topic(&f, "t", 1);
    a = append_new(f.b, NULL, NULL);
    other = append_new(f.b, NULL, NULL);
    partition_reserve(topic_partition(t, 0), 3600000);
    add(other, t, 0, NULL, "1", NULL, NULL);
    assert_int_equal(append_submit(other, true, NULL), ERR_OVERLOADED);
    add_expecting(a, t, 0, &slot);
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    partition_reserve_end(topic_partition(t, 0));
    assert_int_equal(append_submit_wait(other, NULL), ERR_OK);
    partition_reserve(topic_partition(t, 0), 1);
    append_reset(other);
    add(other, t, 0, NULL, "2", NULL, NULL);
    assert_int_equal(append_submit_wait(other, NULL), ERR_OK);
    assert_int_equal(partition_next_offset(topic_partition(t, 0)), 3);
    append_free(&a);
    append_free(&other);
    topic_unref(&t);
    fx_end(&f);
}

#define RIVALS 3

struct rival {
    struct fx *f;
    struct topic *t;
    bool expects;
    unsigned won, lost;
};

static void rival_main(void *arg)
{
    struct rival *w = arg;
    struct append *a = append_new(w->f->b, NULL, NULL);
    struct partition *p = topic_partition(w->t, 0);
    struct append_place place;
    struct append_slot s;
    int64_t next;
    enum err e;
    int i;

    for (i = 0; i < EACH; i++) {
        append_reset(a);
        add(a, w->t, 0, "k", "v", NULL, &s);
        next = partition_next_offset(p);
        if (w->expects)
            append_expect(a, p, next);
        e = append_submit_wait(a, NULL);
        if (e) {
            MUST(w->expects && e == ERR_OFFSET_TAKEN);
            w->lost++;
            continue;
        }
        MUST(append_place(a, s, &place) == ERR_OK);
        MUST(!w->expects || place.offset == next);
        w->won++;
    }
    append_free(&a);
}

/* Beside appends that expect nothing each that expects an offset has it, or is not there. */
static void test_expect_beside_others(void **state)
{
    static struct rival w[RIVALS];
    struct io_thread *th[RIVALS];
    unsigned won = 0;
    struct fx f;
    int i;

    fx_start(&f, true);
    for (i = 0; i < RIVALS; i++) {
        w[i] = (struct rival){.f = &f, .t = fx_topic(&f, "t", 1), .expects = i > 0};
        assert_int_equal(io_thread_start("w", IO_PRIO_NORMAL, rival_main, &w[i], &th[i], NULL),
                         ERR_OK);
    }
    for (i = 0; i < RIVALS; i++) {
        io_thread_join(&th[i]);
        assert_int_equal(w[i].won + w[i].lost, EACH);
        won += w[i].won;
    }
    assert_int_equal(w[0].won, EACH);
    assert_int_equal(partition_next_offset(topic_partition(w[0].t, 0)), won);
    for (i = 0; i < RIVALS; i++)
        topic_unref(&w[i].t);
    fx_end(&f);
}

struct writer {
    struct fx *f;
    struct topic *t;
    int n;
    uint64_t position[EACH];
};

/* All writers append the same ids: each id must be written once, and all be told the same place. */
static void writer_main(void *arg)
{
    struct writer *w = arg;
    char id[32];
    int i;

    for (i = 0; i < EACH; i++) {
        struct append *a = append_new(w->f->b, NULL, NULL);
        struct append_place p;
        struct append_slot s;

        snprintf(id, sizeof id, "id%d", i);
        add(a, w->t, -1, "k", id, id, &s);
        add(a, w->t, -1, "k", "filler", NULL, NULL);
        MUST((append_submit_wait(a, NULL)) == ERR_OK);
        MUST((append_place(a, s, &p)) == ERR_OK);
        w->position[i] = p.position;
        append_free(&a);
    }
}

static void test_concurrent_duplicates(void **state)
{
    static struct writer w[WRITERS];
    struct io_thread *th[WRITERS];
    struct reader_record rec;
    int i, k, ids = 0, fillers = 0;
    struct reader *r;
    struct fx f;
    enum err e;

    fx_start(&f, true);
    for (i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){.f = &f, .t = fx_topic(&f, "t", 3), .n = i};
        assert_int_equal(io_thread_start("w", IO_PRIO_NORMAL, writer_main, &w[i], &th[i], NULL),
                         ERR_OK);
    }
    for (i = 0; i < WRITERS; i++) {
        io_thread_join(&th[i]);
        topic_unref(&w[i].t);
    }
    for (i = 1; i < WRITERS; i++)
        for (k = 0; k < EACH; k++)
            assert_int_equal(w[i].position[k], w[0].position[k]);
    r = fx_reader(&f, "t", READ_FROM_START, 0);
    while ((e = reader_next(r, &rec, NULL)) == ERR_OK)
        slice_eq_str(rec.value, "filler") ? fillers++ : ids++;
    assert_int_equal(e, ERR_AGAIN);
    assert_int_equal(ids, EACH);
    assert_int_equal(fillers, EACH * WRITERS);
    reader_close(&r);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_rollover),
        cmocka_unit_test(test_many_parts),
        cmocka_unit_test(test_deleted_topic),
        cmocka_unit_test(test_ready_batch),
        cmocka_unit_test(test_unit_with_items),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_duplicate_under_way),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_concurrent_duplicates),
        cmocka_unit_test(test_expect),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_expect_beside_others),
    };

    return cmocka_run_group_tests_name("broker/append", tests, NULL, NULL);
}
