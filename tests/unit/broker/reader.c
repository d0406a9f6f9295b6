/* Readers: total order over partitions, selectors, starting points, resuming, waiting, trimming,
 * and order while writers are at work. */
#include "fixture.h"

#include "base/murmur2.h"
#include "broker/broker_int.h"

static void test_order(void **state)
{
    struct reader_record rec;
    uint64_t last = 0, resume = 0;
    struct topic *t;
    struct reader *r;
    char v[16];
    struct fx f;
    int i, k;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 7);
    for (i = 0; i < 500; i++) {
        snprintf(v, sizeof v, "v%d", i);
        fx_put(&f, t, i * 31 % 7, NULL, v, NULL);
        if (i == 250)
            fx_checkpoint(&f);
    }
    r = fx_reader(&f, "t", READ_FROM_START, 0);
    for (i = 0; i < 500; i++) {
        snprintf(v, sizeof v, "v%d", i);
        assert_int_equal(reader_next(r, &rec, NULL), ERR_OK);
        assert_true(slice_eq_str(rec.value, v));
        assert_true(rec.position > last);
        assert_int_equal(rec.partition, i * 31 % 7);
        last = rec.position;
        if (i == 299)
            resume = reader_position(r);
    }
    assert_drained(r);
    assert_int_equal(reader_position(r), last + 1);
    reader_close(&r);
    for (k = 0; k < 2; k++) { /* resume, also after a restart */
        r = fx_reader(&f, "t", READ_FROM_POSITION, resume);
        assert_next(r, "v300");
        reader_close(&r);
        topic_unref(&t);
        fx_reopen(&f);
        t = topic_find(f.b, SLICE_LIT("t"));
    }
    r = fx_reader(&f, "t", READ_FROM_END, 0);
    assert_drained(r);
    fx_put(&f, t, 3, NULL, "new", NULL);
    assert_next(r, "new");
    assert_drained(r);
    reader_close(&r);
    topic_unref(&t);
    fx_end(&f);
}

static void test_selectors(void **state)
{
    static const char *const bad[] = {"", ":k", "a b", "a/b:k", "t\x01"};
    struct reader_conf c = {.partition = -1, .from = READ_FROM_START};
    struct topic *eu, *us, *x;
    struct reader *r, *all, *key;
    struct errinfo info;
    struct fx f;
    size_t i;

    fx_start(&f, false);
    eu = fx_topic(&f, "orders.eu", 3);
    us = fx_topic(&f, "orders.us", 2);
    x = fx_topic(&f, "x", 1);
    fx_put(&f, eu, -1, "c-1", "1", NULL);
    fx_put(&f, us, -1, "c-1", "2", NULL);
    fx_put(&f, x, -1, "c-1", "3", NULL);
    fx_put(&f, eu, -1, NULL, "4", NULL);
    fx_put(&f, eu, -1, "c-2", "5", NULL);
    fx_put(&f, eu, -1, "c-1", "6", NULL);
    fx_put(&f, us, -1, "", "7", NULL);
    r = fx_reader(&f, "orders.eu", READ_FROM_START, 0);
    assert_next(r, "1");
    assert_next(r, "4");
    assert_next(r, "5");
    assert_next(r, "6");
    assert_drained(r);
    reader_close(&r);
    r = fx_reader(&f, "orders.eu:c-1", READ_FROM_START, 0);
    assert_next(r, "1");
    assert_next(r, "6");
    assert_drained(r);
    reader_close(&r);
    r = fx_reader(&f, "orders.eu:*", READ_FROM_START, 0);
    assert_next(r, "1");
    assert_next(r, "5");
    assert_next(r, "6");
    assert_drained(r);
    reader_close(&r);
    key = fx_reader(&f, "orders.*:c-1", READ_FROM_START, 0);
    assert_next(key, "1");
    assert_next(key, "2");
    assert_next(key, "6");
    assert_drained(key);
    all = fx_reader(&f, "*", READ_FROM_START, 0);
    for (i = 1; i <= 7; i++)
        assert_next(all, ((const char[]){(char)('0' + i), 0}));
    assert_drained(all);
    /* topics made later join; deleted ones leave */
    topic_unref(&x);
    x = fx_topic(&f, "orders.zz", 4);
    fx_put(&f, x, -1, "c-1", "8", NULL);
    fx_put(&f, x, -1, "c-9", "9", NULL);
    assert_int_equal(topic_delete_wait(f.b, SLICE_LIT("orders.us"), NULL), ERR_OK);
    assert_next(all, "8");
    assert_next(all, "9");
    assert_drained(all);
    assert_next(key, "8");
    assert_drained(key);
    reader_close(&all);
    reader_close(&key);
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        c.selector = slice_str(bad[i]);
        assert_int_equal(reader_open(f.b, &c, &r, &info), ERR_INVALID);
        assert_null(r);
    }
    c.selector = SLICE_LIT("none");
    assert_int_equal(reader_open(f.b, &c, &r, &info), ERR_TOPIC_NOT_FOUND);
    c.selector = SLICE_LIT("none.*");
    assert_int_equal(reader_open(f.b, &c, &r, &info), ERR_OK);
    assert_drained(r);
    reader_close(&r);
    /* the only topic goes */
    r = fx_reader(&f, "orders.eu", READ_FROM_END, 0);
    assert_drained(r);
    assert_int_equal(topic_delete_wait(f.b, SLICE_LIT("orders.eu"), NULL), ERR_OK);
    {
        struct reader_record rec;

        assert_int_equal(reader_next(r, &rec, NULL), ERR_TOPIC_NOT_FOUND);
    }
    reader_close(&r);
    topic_unref(&eu);
    topic_unref(&us);
    topic_unref(&x);
    fx_end(&f);
}

/* A key's records are found wherever they are: after partitions were added, and when they were put
 * elsewhere on purpose; by readers that were open then, and after a restart. */
static void test_scattered_keys(void **state)
{
    struct reader *r, *open, *open2;
    struct topic *t, *u;
    int32_t home, i;
    struct fx f;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 2);
    u = fx_topic(&f, "u", 4);
    open = fx_reader(&f, "t:k", READ_FROM_START, 0);
    open2 = fx_reader(&f, "*:k", READ_FROM_START, 0);
    fx_put(&f, t, -1, "k", "1", NULL);
    home = murmur2_partition(SLICE_LIT("k"), 2);
    assert_next(open, "1");
    assert_drained(open);
    for (i = 3; murmur2_partition(SLICE_LIT("k"), i) == home; i++)
        ;
    assert_int_equal(topic_alter_wait(f.b, SLICE_LIT("t"), i, NULL, NULL), ERR_OK);
    fx_put(&f, t, -1, "k", "2", NULL);
    fx_put(&f, t, -1, "other", "-", NULL);
    assert_next(open, "2");
    assert_drained(open);
    home = murmur2_partition(SLICE_LIT("k"), 4);
    fx_put(&f, u, -1, "k", "3", NULL);
    r = fx_reader(&f, "u:k", READ_FROM_START, 0);
    assert_next(r, "3");
    assert_drained(r);
    fx_put(&f, u, (home + 1) % 4, "k", "4", NULL); /* not where its hash says */
    fx_put(&f, u, home, "k", "5", NULL);
    assert_next(r, "4");
    assert_next(r, "5");
    assert_drained(r);
    reader_close(&r);
    for (i = 1; i <= 5; i++)
        assert_next(open2, ((const char[]){(char)('0' + i), 0}));
    assert_drained(open2);
    reader_close(&open);
    reader_close(&open2);
    for (i = 0; i < 2; i++) {
        topic_unref(&t);
        topic_unref(&u);
        if (i)
            fx_checkpoint(&f);
        fx_crash(&f);
        t = topic_find(f.b, SLICE_LIT("t"));
        u = topic_find(f.b, SLICE_LIT("u"));
        r = fx_reader(&f, "t:k", READ_FROM_START, 0);
        assert_next(r, "1");
        assert_next(r, "2");
        assert_drained(r);
        reader_close(&r);
        r = fx_reader(&f, "u:k", READ_FROM_START, 0);
        assert_next(r, "3");
        assert_next(r, "4");
        assert_next(r, "5");
        assert_drained(r);
        reader_close(&r);
    }
    topic_unref(&t);
    topic_unref(&u);
    fx_end(&f);
}

static void test_starts(void **state)
{
    struct reader_conf c = {.selector = SLICE_LIT("t"), .partition = -1};
    struct reader_record rec;
    struct append *a;
    struct topic *t;
    struct reader *r;
    char v[16];
    struct fx f;
    int i;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 2);
    for (i = 0; i < 10; i++) { /* batches of two partitions, five records each, time 1000 + i */
        struct append_record ar;

        a = append_new(f.b, NULL, NULL);
        snprintf(v, sizeof v, "%d", i);
        ar = rec_of(NULL, v, NULL);
        ar.timestamp_ms = 1000 + i;
        assert_int_equal(append_record(a, t, i & 1, &ar, NULL, NULL), ERR_OK);
        assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
        append_free(&a);
    }
    c.from = READ_FROM_TIME;
    c.time_ms = 1005;
    assert_int_equal(reader_open(f.b, &c, &r, NULL), ERR_OK);
    assert_next(r, "5");
    assert_next(r, "6");
    reader_close(&r);
    c.time_ms = 5000;
    assert_int_equal(reader_open(f.b, &c, &r, NULL), ERR_OK);
    assert_drained(r);
    reader_close(&r);
    c.from = READ_FROM_OFFSET;
    c.offset = 2;
    assert_int_equal(reader_open(f.b, &c, &r, NULL), ERR_INVALID);
    c.partition = 1;
    assert_int_equal(reader_open(f.b, &c, &r, NULL), ERR_OK);
    assert_next(r, "5");
    assert_next(r, "7");
    assert_next(r, "9");
    assert_drained(r);
    reader_close(&r);
    c.offset = 6;
    assert_int_equal(reader_open(f.b, &c, &r, NULL), ERR_OFFSET_RANGE);
    c.partition = 2;
    assert_int_equal(reader_open(f.b, &c, &r, NULL), ERR_PARTITION_NOT_FOUND);
    c.partition = -1;
    c.from = READ_FROM_POSITION;
    c.position = 4;
    c.position_max = 6;
    assert_int_equal(reader_open(f.b, &c, &r, NULL), ERR_OK);
    assert_next(r, "3");
    assert_next(r, "4");
    assert_drained(r);
    assert_int_equal(reader_position(r), 6);
    assert_drained(r);
    reader_close(&r);
    /* time within a batch */
    a = append_new(f.b, NULL, NULL);
    for (i = 0; i < 5; i++) {
        struct append_record ar = rec_of(NULL, ((const char[]){(char)('a' + i), 0}), NULL);

        ar.timestamp_ms = 2000 + i;
        assert_int_equal(append_record(a, t, 0, &ar, NULL, NULL), ERR_OK);
    }
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    append_free(&a);
    c = (struct reader_conf){
        .selector = SLICE_LIT("t"), .partition = -1, .from = READ_FROM_TIME, .time_ms = 2003};
    assert_int_equal(reader_open(f.b, &c, &r, NULL), ERR_OK);
    assert_next(r, "d");
    assert_next(r, "e");
    assert_drained(r);
    reader_close(&r);
    /* position within a batch */
    r = fx_reader(&f, "t", READ_FROM_POSITION, 13);
    assert_int_equal(reader_next(r, &rec, NULL), ERR_OK);
    assert_int_equal(rec.position, 13);
    assert_true(slice_eq_str(rec.value, "c"));
    reader_close(&r);
    topic_unref(&t);
    fx_end(&f);
}

static void test_trimmed(void **state)
{
    struct reader_record rec;
    struct reader *r, *s;
    struct errinfo info;
    struct topic *t;
    char v[16];
    struct fx f;
    int i;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 1);
    for (i = 0; i < 10; i++) {
        snprintf(v, sizeof v, "%d", i);
        fx_put(&f, t, 0, NULL, v, NULL);
    }
    fx_checkpoint(&f);
    r = fx_reader(&f, "t", READ_FROM_POSITION, 1); /* buffers nothing yet */
    s = fx_reader(&f, "t", READ_FROM_START, 0);
    assert_int_equal(partition_trim_wait(topic_partition(t, 0), 20, &info), ERR_OFFSET_RANGE);
    assert_int_equal(partition_trim_wait(topic_partition(t, 0), 7, &info), ERR_OK);
    assert_int_equal(reader_next(r, &rec, &info), ERR_OFFSET_RANGE);
    assert_non_null(strstr(info.text, "7 records"));
    assert_next(r, "7");
    assert_next(s, "7"); /* from the start: nothing is lost by it */
    reader_close(&r);
    reader_close(&s);
    for (i = 0; i < 2; i++) {
        topic_unref(&t);
        if (i)
            fx_checkpoint(&f);
        fx_crash(&f);
        t = topic_find(f.b, SLICE_LIT("t"));
        r = fx_reader(&f, "t", READ_FROM_START, 0);
        assert_next(r, "7");
        assert_next(r, "8");
        reader_close(&r);
    }
    /* all of it; offsets go on after a restart from the checkpoint */
    assert_int_equal(partition_trim_wait(topic_partition(t, 0), -1, &info), ERR_OK);
    fx_checkpoint(&f);
    topic_unref(&t);
    fx_crash(&f);
    t = topic_find(f.b, SLICE_LIT("t"));
    r = fx_reader(&f, "t", READ_FROM_START, 0);
    assert_drained(r);
    assert_int_equal(fx_put(&f, t, 0, NULL, "ten", NULL).offset, 10);
    assert_next(r, "ten");
    reader_close(&r);
    topic_unref(&t);
    fx_end(&f);
}

/* ---- waiting ---- */

struct counter {
    struct waiter w; /* first */
    int woken;
};

static void count_wake(struct waiter *w)
{
    ((struct counter *)w)->woken++;
}

static void test_waiting(void **state)
{
    struct counter one = {.w.wake = count_wake}, all = {.w.wake = count_wake};
    struct topic *t, *u;
    struct reader *r, *w;
    struct fx f;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 2);
    u = fx_topic(&f, "u", 1);
    fx_put(&f, t, 0, NULL, "0", NULL);
    r = fx_reader(&f, "t", READ_FROM_START, 0);
    w = fx_reader(&f, "*", READ_FROM_END, 0);
    assert_false(reader_wait(r, &one.w)); /* there is something */
    assert_next(r, "0");
    assert_drained(r);
    assert_drained(w);
    assert_true(reader_wait(r, &one.w));
    assert_true(reader_wait(w, &all.w));
    fx_put(&f, u, 0, NULL, "1", NULL);
    assert_int_equal(one.woken, 0); /* not its topic */
    assert_int_equal(all.woken, 1);
    assert_false(all.w.armed);
    assert_next(w, "1");
    assert_drained(w);
    assert_true(reader_wait(w, &all.w));
    waiter_cancel(&all.w);
    fx_put(&f, t, 1, NULL, "2", NULL);
    assert_int_equal(one.woken, 1);
    assert_int_equal(all.woken, 1); /* was cancelled */
    assert_false(reader_wait(w, &all.w));
    assert_next(r, "2");
    /* something committed between the last look and the arming is not slept over */
    assert_drained(r);
    fx_put(&f, t, 1, NULL, "3", NULL);
    assert_false(reader_wait(r, &one.w));
    assert_next(r, "3");
    assert_drained(r);
    assert_true(reader_wait(r, &one.w)); /* the topic's end wakes, too */
    assert_int_equal(topic_delete_wait(f.b, SLICE_LIT("t"), NULL), ERR_OK);
    assert_int_equal(one.woken, 2);
    waiter_cancel(&one.w);
    reader_close(&r);
    reader_close(&w);
    topic_unref(&t);
    topic_unref(&u);
    fx_end(&f);
}

static void test_scan_limit(void **state)
{
    struct reader_record rec;
    struct counter c = {.w.wake = count_wake};
    struct append *a;
    struct topic *t;
    struct reader *r;
    struct fx f;
    int i;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 1);
    a = append_new(f.b, NULL, NULL);
    for (i = 0; i < 25; i++) {
        struct append_record ar = rec_of(i == 24 ? "k" : "x", "v", NULL);

        assert_int_equal(append_record(a, t, -1, &ar, NULL, NULL), ERR_OK);
    }
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    append_free(&a);
    r = fx_reader(&f, "t:k", READ_FROM_START, 0);
    reader_scan_limit(r, 10);
    assert_int_equal(reader_next(r, &rec, NULL), ERR_AGAIN);
    assert_true(reader_busy(r));
    assert_int_equal(reader_position(r), 11);
    assert_false(reader_wait(r, &c.w));
    assert_int_equal(reader_next(r, &rec, NULL), ERR_AGAIN);
    assert_true(reader_busy(r));
    assert_next(r, "v");
    assert_drained(r);
    reader_close(&r);
    topic_unref(&t);
    fx_end(&f);
}

/* ---- threads ---- */

#define RECORDS 3000
#define WRITERS 3

struct writer {
    struct fx *f;
    int n;
};

static void writer_main(void *arg)
{
    struct writer *w = arg;
    struct topic *t[2] = {fx_topic(w->f, "t", 30), fx_topic(w->f, "u", 30)};
    char v[32];
    int i, k;

    for (i = 0; i < RECORDS; i += 3) {
        struct append *a = append_new(w->f->b, NULL, NULL);

        for (k = 0; k < 3; k++) {
            struct append_record r;

            snprintf(v, sizeof v, "%d/%d", w->n, i + k);
            r = rec_of(NULL, v, NULL);
            MUST((append_record(a, t[(i + k) & 1], (i * 7 + k) % 30, &r, NULL, NULL)) == ERR_OK);
        }
        MUST((append_submit_wait(a, NULL)) == ERR_OK);
        append_free(&a);
    }
    topic_unref(&t[0]);
    topic_unref(&t[1]);
}

struct follower {
    struct fx *f;
    const char *selector;
    int records;
};

/* Follows to the end: positions only grow (dense for the reader of everything). */
static void follower_main(void *arg)
{
    struct follower *fo = arg;
    bool all = strcmp(fo->selector, "*") == 0;
    struct reader *r = fx_reader(fo->f, fo->selector, READ_FROM_START, 0);
    int want = all ? RECORDS * WRITERS : RECORDS * WRITERS / 2;
    struct reader_record rec;
    uint64_t last = 0;
    enum err e;

    while (fo->records < want) {
        e = reader_next(r, &rec, NULL);
        if (e == ERR_AGAIN) {
            MUST(reader_block(r, 10000));
            continue;
        }
        MUST((e) == ERR_OK);
        MUST(rec.position > last);
        MUST(!all || rec.position == last + 1);
        last = rec.position;
        fo->records++;
    }
    reader_close(&r);
}

static void test_order_while_writing(void **state)
{
    struct follower fo[3] = {{NULL, "*", 0}, {NULL, "t", 0}, {NULL, "u*", 0}};
    struct io_thread *th[3 + WRITERS];
    struct writer w[WRITERS];
    struct topic *t, *u;
    struct fx f;
    int i;

    fx_start(&f, true);
    t = fx_topic(&f, "t", 30);
    u = fx_topic(&f, "u", 30);
    for (i = 0; i < 3; i++) {
        fo[i].f = &f;
        assert_int_equal(io_thread_start("r", IO_PRIO_NORMAL, follower_main, &fo[i], &th[i], NULL),
                         ERR_OK);
    }
    for (i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){&f, i};
        assert_int_equal(io_thread_start("w", IO_PRIO_NORMAL, writer_main, &w[i], &th[3 + i], NULL),
                         ERR_OK);
    }
    for (i = 0; i < 3 + WRITERS; i++)
        io_thread_join(&th[i]);
    assert_int_equal(fo[0].records, RECORDS * WRITERS);
    topic_unref(&t);
    topic_unref(&u);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),          cmocka_unit_test(test_selectors),
        cmocka_unit_test(test_scattered_keys), cmocka_unit_test(test_starts),
        cmocka_unit_test(test_trimmed),        cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_scan_limit),     cmocka_unit_test(test_order_while_writing),
    };

    return cmocka_run_group_tests_name("broker/reader", tests, NULL, NULL);
}
