/* Producers: what is written under a producer id is written once and in order, whatever is sent
 * again, left out, given up by a full disk or forgotten by a crash. Batches are made by hand. */
#include "produce.h"

#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>

#include "base/endian.h"

struct one {
    struct fx f;
    struct topic *t;
    struct partition *p;
};

static void one_start(struct one *o)
{
    fx_start(&o->f, false);
    o->t = fx_topic(&o->f, "t", 1);
    o->p = topic_partition(o->t, 0);
}

static void one_end(struct one *o)
{
    topic_unref(&o->t);
    fx_end(&o->f);
}

/* After the broker was opened anew. */
static void one_find(struct one *o)
{
    o->t = topic_find(o->f.b, SLICE_LIT("t"));
    assert_non_null(o->t);
    o->p = topic_partition(o->t, 0);
}

static struct producer_info info_of(struct partition *p, int64_t id)
{
    struct producer_info all[64], none = {.producer_id = -1};
    size_t i, n = partition_producers(p, all, 64);

    for (i = 0; i < n; i++)
        if (all[i].producer_id == id)
            return all[i];
    return none;
}

static void test_in_order(void **state)
{
    struct producer_info pi;
    struct one o;

    one_start(&o);
    assert_put(&o.f, o.p, 0, 7, 0, 0, 3);
    assert_put(&o.f, o.p, 3, 7, 0, 3, 2);
    assert_put(&o.f, o.p, 5, 8, 4, 0, 1); /* another producer */
    assert_put(&o.f, o.p, 6, 7, 0, 5, 1);
    pi = info_of(o.p, 7);
    assert_int_equal(pi.epoch, 0);
    assert_int_equal(pi.last_sequence, 5);
    assert_int_equal(pi.last_ms, 1700000000005);
    assert_int_equal(pi.txn_first_offset, -1);
    assert_int_equal(info_of(o.p, 8).epoch, 4);
    assert_int_equal(info_of(o.p, 9).producer_id, -1);
    one_end(&o);
}

static void test_duplicate(void **state)
{
    struct one o;

    one_start(&o);
    assert_put(&o.f, o.p, 0, 7, 0, 0, 3);
    assert_put(&o.f, o.p, 3, 7, 0, 3, 2);
    assert_dup(&o.f, o.p, 0, 7, 0, 0, 3);
    assert_dup(&o.f, o.p, 3, 7, 0, 3, 2);
    assert_refused(&o.f, o.p, ERR_SEQUENCE_ORDER, 7, 0, 3, 1); /* as long as that it is not */
    assert_refused(&o.f, o.p, ERR_SEQUENCE_ORDER, 7, 0, 0, 5);
    assert_int_equal(pr_end(o.p), 5);
    assert_put(&o.f, o.p, 5, 7, 0, 5, 1);
    pr_metric(&o.f, "weir_producer_duplicates_total 2");
    topic_unref(&o.t);
    fx_crash(&o.f); /* frames of nothing but duplicates are no obstacle */
    one_find(&o);
    assert_int_equal(pr_end(o.p), 6);
    assert_dup(&o.f, o.p, 3, 7, 0, 3, 2);
    one_end(&o);
}

/* Sent again while the first is on its way: answered when that is durable, not earlier. */
static void test_duplicate_in_flight(void **state)
{
    struct append_place at;
    struct sent first, again, next;
    struct one o;

    one_start(&o);
    assert_put(&o.f, o.p, 0, 7, 0, 0, 1);
    pr_send(&o.f, &first, o.p, pb(7, 0, 1, 4));
    pr_send(&o.f, &again, o.p, pb(7, 0, 1, 4));
    pr_send(&o.f, &next, o.p, pb(7, 0, 5, 1));
    assert_int_equal(first.calls + again.calls + next.calls, 0);
    assert_int_equal(pr_place(&again, 0, &at), ERR_AGAIN);
    while (next.calls == 0)
        broker_step(o.f.b);
    assert_int_equal(first.calls, 1);
    assert_int_equal(again.calls, 1);
    assert_true(first.order < again.order && again.order < next.order);
    assert_int_equal(pr_place(&first, 0, &at), ERR_OK);
    assert_false(at.duplicate);
    assert_int_equal(at.offset, 1);
    assert_int_equal(pr_place(&again, 0, &at), ERR_OK);
    assert_true(at.duplicate);
    assert_int_equal(at.offset, 1);
    assert_int_equal(pr_place(&next, 0, &at), ERR_OK);
    assert_int_equal(at.offset, 5);
    assert_int_equal(pr_end(o.p), 6);
    pr_free(&first);
    pr_free(&again);
    pr_free(&next);
    one_end(&o);
}

/* What is wrong with one batch is nothing to the others of its append. */
static void test_gap_spares_others(void **state)
{
    struct append_place at;
    struct topic *t;
    struct sent s;
    struct fx f;

    fx_start(&f, false);
    t = fx_topic(&f, "t", 6);
    assert_put(&f, topic_partition(t, 1), 0, 7, 0, 0, 1);
    assert_put(&f, topic_partition(t, 3), 0, 7, 3, 0, 1);
    assert_put(&f, topic_partition(t, 4), 0, 7, 0, 0, 2);
    pr_begin(&f, &s);
    pr_add(&s, topic_partition(t, 0), pb(7, 0, 0, 1));
    pr_add(&s, topic_partition(t, 1), pb(7, 0, 2, 1));    /* 1 is missing */
    pr_add(&s, topic_partition(t, 2), pb(-1, -1, -1, 2)); /* no producer */
    pr_add(&s, topic_partition(t, 3), pb(7, 2, 0, 1));    /* an old epoch */
    pr_add(&s, topic_partition(t, 4), pb(7, 0, 0, 2));    /* again */
    pr_add(&s, topic_partition(t, 5), pb(7, 0, 9, 1));    /* as good as new */
    assert_int_equal(append_submit_wait(s.a, NULL), ERR_OK);
    assert_int_equal(pr_place(&s, 0, &at), ERR_OK);
    assert_int_equal(pr_place(&s, 1, &at), ERR_SEQUENCE_ORDER);
    assert_int_equal(pr_place(&s, 2, &at), ERR_OK);
    assert_int_equal(pr_place(&s, 3, &at), ERR_PRODUCER_EPOCH);
    assert_int_equal(pr_place(&s, 4, &at), ERR_OK);
    assert_true(at.duplicate);
    assert_int_equal(pr_place(&s, 5, &at), ERR_OK);
    assert_false(at.duplicate);
    assert_int_equal(pr_end(topic_partition(t, 0)), 1);
    assert_int_equal(pr_end(topic_partition(t, 1)), 1);
    assert_int_equal(pr_end(topic_partition(t, 2)), 2);
    assert_int_equal(pr_end(topic_partition(t, 3)), 1);
    assert_int_equal(pr_end(topic_partition(t, 4)), 2);
    assert_int_equal(pr_end(topic_partition(t, 5)), 1);
    pr_free(&s);
    topic_unref(&t);
    fx_end(&f);
}

static void test_epochs(void **state)
{
    struct one o;

    one_start(&o);
    assert_put(&o.f, o.p, 0, 7, 1, 0, 2);
    assert_refused(&o.f, o.p, ERR_PRODUCER_EPOCH, 7, 0, 2, 1);
    assert_refused(&o.f, o.p, ERR_SEQUENCE_ORDER, 7, 2, 2, 1); /* a new epoch begins at 0 */
    assert_put(&o.f, o.p, 2, 7, 2, 0, 1);
    assert_refused(&o.f, o.p, ERR_PRODUCER_EPOCH, 7, 1, 0, 2); /* though it was written */
    assert_refused(&o.f, o.p, ERR_PRODUCER_EPOCH, 7, 1, 2, 1);
    assert_dup(&o.f, o.p, 2, 7, 2, 0, 1);
    assert_put(&o.f, o.p, 3, 7, 2, 1, 1);
    assert_put(&o.f, o.p, 4, 7, INT16_MAX - 1, 0, 1);
    assert_int_equal(info_of(o.p, 7).last_sequence, 0);
    one_end(&o);
}

static void test_wrap(void **state)
{
    struct one o;

    one_start(&o);
    assert_put(&o.f, o.p, 0, 7, 0, INT32_MAX - 1, 1); /* nobody knew it: anywhere is right */
    assert_put(&o.f, o.p, 1, 7, 0, INT32_MAX, 1);
    assert_refused(&o.f, o.p, ERR_SEQUENCE_ORDER, 7, 0, 1, 1);
    assert_put(&o.f, o.p, 2, 7, 0, 0, 1);
    assert_dup(&o.f, o.p, 1, 7, 0, INT32_MAX, 1);
    assert_put(&o.f, o.p, 3, 8, 0, INT32_MAX - 1, 3); /* across the end: MAX - 1, MAX, 0 */
    assert_int_equal(info_of(o.p, 8).last_sequence, 0);
    assert_refused(&o.f, o.p, ERR_SEQUENCE_ORDER, 8, 0, 0, 1);
    assert_put(&o.f, o.p, 6, 8, 0, 1, 1);
    assert_dup(&o.f, o.p, 3, 8, 0, INT32_MAX - 1, 3);
    one_end(&o);
}

/* As many as a client has under way are remembered. */
static void test_five(void **state)
{
    struct one o;
    int i;

    one_start(&o);
    for (i = 0; i < 6; i++)
        assert_put(&o.f, o.p, i, 7, 0, i, 1);
    for (i = 1; i < 6; i++)
        assert_dup(&o.f, o.p, i, 7, 0, i, 1);
    assert_refused(&o.f, o.p, ERR_SEQUENCE_ORDER, 7, 0, 0, 1);
    one_end(&o);
}

/* Several batches of a partition in one append: each follows the one before it. */
static void test_one_unit(void **state)
{
    struct append_place at;
    struct sent s, again;
    struct one o;
    int i;

    one_start(&o);
    pr_begin(&o.f, &s);
    for (i = 0; i < 8; i++)
        pr_add(&s, o.p, pb(7, 0, i, 1));
    pr_add(&s, o.p, pb(7, 0, 7, 1)); /* twice in one unit: refused */
    assert_int_equal(append_submit(s.a, true, NULL), ERR_OK);
    pr_send(&o.f, &again, o.p, pb(7, 0, 4, 1)); /* while that is on its way */
    while (again.calls == 0)
        broker_step(o.f.b);
    for (i = 0; i < 8; i++) {
        assert_int_equal(pr_place(&s, i, &at), ERR_OK);
        assert_int_equal(at.offset, i);
    }
    assert_int_equal(pr_place(&s, 8, &at), ERR_SEQUENCE_ORDER);
    assert_int_equal(pr_place(&again, 0, &at), ERR_OK);
    assert_true(at.duplicate);
    assert_int_equal(at.offset, 4);
    pr_free(&s);
    pr_free(&again);
    assert_int_equal(pr_end(o.p), 8);
    assert_dup(&o.f, o.p, 3, 7, 0, 3, 1);
    assert_put(&o.f, o.p, 8, 7, 0, 8, 1);
    one_end(&o);
}

enum restart { CLOSE, REPLAY, CHECKPOINT, BOTH, RESTARTS };

static void restart(struct one *o, enum restart how)
{
    topic_unref(&o->t);
    if (how == CHECKPOINT)
        fx_checkpoint(&o->f);
    if (how == CLOSE)
        fx_reopen(&o->f);
    else
        fx_crash(&o->f);
    one_find(o);
}

static void test_restart(void **state)
{
    enum restart how;
    struct one o;
    int i;

    for (how = 0; how < RESTARTS; how++) {
        one_start(&o);
        for (i = 0; i < 7; i++) {
            assert_put(&o.f, o.p, i * 2, 7, 3, i * 2, 2);
            if (how == BOTH && i == 3)
                fx_checkpoint(&o.f);
        }
        restart(&o, how);
        assert_int_equal(info_of(o.p, 7).epoch, 3);
        assert_int_equal(info_of(o.p, 7).last_sequence, 13);
        assert_int_equal(info_of(o.p, 7).last_ms, 1700000000012);
        for (i = 2; i < 7; i++)
            assert_dup(&o.f, o.p, i * 2, 7, 3, i * 2, 2);
        assert_refused(&o.f, o.p, ERR_SEQUENCE_ORDER, 7, 3, 2, 2);
        assert_refused(&o.f, o.p, ERR_SEQUENCE_ORDER, 7, 3, 15, 1);
        assert_refused(&o.f, o.p, ERR_PRODUCER_EPOCH, 7, 2, 0, 1);
        assert_put(&o.f, o.p, 14, 7, 3, 14, 1);
        restart(&o, how); /* and once more, from what was recovered */
        assert_dup(&o.f, o.p, 14, 7, 3, 14, 1);
        assert_put(&o.f, o.p, 15, 7, 3, 15, 1);
        one_end(&o);
    }
}

/* Ids given out are not given out again, nor those that batches name. */
struct id_of {
    int calls;
    enum err e;
    int64_t id;
};

static void id_note(void *arg, enum err e, const struct errinfo *info, int64_t id, int16_t epoch)
{
    struct id_of *o = arg;

    o->calls++;
    o->e = e;
    o->id = id;
    assert_int_equal(epoch, 0);
}

static int64_t id_new(struct fx *f)
{
    struct id_of o = {0};

    assert_int_equal(producer_id_new(f->b, id_note, &o, NULL), ERR_OK);
    while (o.calls == 0)
        broker_step(f->b);
    assert_int_equal(o.calls, 1);
    assert_int_equal(o.e, ERR_OK);
    return o.id;
}

static void test_ids(void **state)
{
    enum restart how;
    struct one o;
    int64_t a, b;

    for (how = 0; how < RESTARTS; how++) {
        one_start(&o);
        a = id_new(&o.f);
        b = id_new(&o.f);
        assert_true(b > a);
        restart(&o, how);
        assert_true((a = id_new(&o.f)) > b);
        assert_put(&o.f, o.p, 0, a + 1000, 0, 0, 1);
        restart(&o, how);
        b = id_new(&o.f);
        assert_true(b > a);
        if (how == REPLAY)
            assert_true(b > a + 1000);
        one_end(&o);
    }
}

/* A unit given up for want of room did not happen: the same batch is taken later, once. */
static void test_full_disk(void **state)
{
    struct sent s[4];
    struct append_place at;
    struct one o;
    int i, k;

    pr_start_full(&o.f);
    o.t = fx_topic(&o.f, "t", 1);
    o.p = topic_partition(o.t, 0);
    assert_put(&o.f, o.p, 0, 7, 0, 0, 1);
    for (k = 0; k < 2; k++) {
        struct sent filler;
        static char big[50000];

        pr_fill(&o.f);
        memset(big, 'x', sizeof big - 1);
        pr_no_room = true;
        pr_send(&o.f, &filler, o.p, with(pb(9, 0, k, 1), big));
        for (i = 0; i < 3; i++)
            pr_send(&o.f, &s[i], o.p, pb(7, 0, 1 + k * 3 + i, 1));
        pr_send(&o.f, &s[3], o.p, pb(7, 0, 1 + k * 3, 1)); /* again */
        while (s[3].calls == 0)
            broker_step(o.f.b);
        assert_int_equal(filler.e, ERR_NO_SPACE);
        pr_free(&filler);
        for (i = 0; i < 4; i++) {
            assert_int_equal(s[i].calls, 1);
            assert_int_equal(s[i].e, ERR_NO_SPACE);
            assert_int_equal(pr_place(&s[i], 0, &at), ERR_NO_SPACE);
            pr_free(&s[i]);
        }
        pr_room_again(&o.f);
        assert_refused(&o.f, o.p, ERR_SEQUENCE_ORDER, 7, 0, 2 + k * 3, 1);
        for (i = 0; i < 3; i++)
            assert_put(&o.f, o.p, 1 + k * 3 + i, 7, 0, 1 + k * 3 + i, 1);
        assert_dup(&o.f, o.p, 1 + k * 3, 7, 0, 1 + k * 3, 1);
    }
    assert_put(&o.f, o.p, 7, 9, 0, 0, 1); /* the filler was not there either */
    topic_unref(&o.t);
    fx_crash(&o.f);
    one_find(&o);
    assert_int_equal(pr_end(o.p), 8);
    for (i = 2; i < 7; i++)
        assert_dup(&o.f, o.p, i, 7, 0, i, 1);
    assert_put(&o.f, o.p, 8, 7, 0, 7, 1);
    one_end(&o);
}

/* Given up, and sent again while others that were given up wait for their answers: what was noted
 * of the lost ones is undone before, and their answers undo nothing more. */
static struct {
    struct one *o;
    struct sent *again;
} retry;

static void done_and_retry(struct append *a, void *arg, enum err e)
{
    pr_done(a, arg, e);
    pr_no_room = false;
    pr_begin(&retry.o->f, retry.again);
    pr_add(retry.again, retry.o->p, pb(7, 0, 1, 1));
    do { /* the log tries again some time after it found the disk full */
        usleep(20000);
        retry.again->e = append_submit(retry.again->a, true, NULL);
    } while (retry.again->e == ERR_NO_SPACE);
}

static void test_full_disk_at_once(void **state)
{
    static char big[50000];
    struct sent filler, lost, later, again = {0};
    struct append_place at;
    struct one o;

    pr_start_full(&o.f);
    o.t = fx_topic(&o.f, "t", 1);
    o.p = topic_partition(o.t, 0);
    assert_put(&o.f, o.p, 0, 7, 0, 0, 1);
    pr_fill(&o.f);
    memset(big, 'x', sizeof big - 1);
    retry.o = &o;
    retry.again = &again;
    pr_no_room = true;
    pr_send(&o.f, &filler, o.p, with(pb(9, 0, 0, 1), big));
    pr_begin(&o.f, &lost);
    append_free(&lost.a);
    lost.a = append_new(o.f.b, done_and_retry, &lost);
    pr_add(&lost, o.p, pb(7, 0, 1, 1));
    assert_int_equal(append_submit(lost.a, true, NULL), ERR_OK);
    pr_send(&o.f, &later, o.p, pb(7, 0, 2, 1));
    broker_step(o.f.b);
    assert_int_equal(lost.e, ERR_NO_SPACE);
    assert_int_equal(later.e, ERR_NO_SPACE);
    assert_int_equal(again.e, ERR_OK);
    while (again.calls == 0)
        broker_step(o.f.b);
    assert_int_equal(again.e, ERR_OK);
    assert_int_equal(pr_place(&again, 0, &at), ERR_OK);
    assert_false(at.duplicate);
    assert_int_equal(at.offset, 1);
    assert_dup(&o.f, o.p, 1, 7, 0, 1, 1);
    assert_put(&o.f, o.p, 2, 7, 0, 2, 1);
    pr_free(&filler);
    pr_free(&lost);
    pr_free(&later);
    pr_free(&again);
    one_end(&o);
}

/* When there are too many, the one idle longest is forgotten; one that is needed never is. */
static void test_limit(void **state)
{
    struct sent s[3];
    struct one o;
    int i;

    one_start(&o);
    o.f.b->producers.states_max = 3;
    for (i = 0; i < 3; i++)
        assert_put(&o.f, o.p, i, 10 + i, 0, 0, 1);
    assert_put(&o.f, o.p, 3, 10, 0, 1, 1); /* now 11 is idle longest */
    assert_put(&o.f, o.p, 4, 20, 0, 0, 1); /* takes its place */
    assert_dup(&o.f, o.p, 0, 10, 0, 0, 1);
    assert_dup(&o.f, o.p, 2, 12, 0, 0, 1);
    assert_int_equal(info_of(o.p, 11).producer_id, -1);
    assert_int_equal(o.f.b->producers.states.n, 3);
    topic_unref(&o.t); /* the checkpoint forgets it as well */
    fx_checkpoint(&o.f);
    fx_crash(&o.f);
    one_find(&o);
    o.f.b->producers.states_max = 3;
    assert_int_equal(info_of(o.p, 11).producer_id, -1);
    assert_int_equal(info_of(o.p, 20).last_sequence, 0);
    for (i = 0; i < 3; i++) /* all three have something on its way */
        pr_send(&o.f, &s[i], o.p, pb(30 + i, 0, 0, 1));
    assert_refused(&o.f, o.p, ERR_LIMIT, 40, 0, 0, 1);
    for (i = 0; i < 3; i++) {
        assert_int_equal(s[i].calls, 1);
        assert_int_equal(pr_place(&s[i], 0, NULL), ERR_OK);
        pr_free(&s[i]);
    }
    assert_put(&o.f, o.p, 8, 40, 0, 0, 1);
    one_end(&o);
}

static int64_t rows(struct one *o, const char *table)
{
    struct sqlite3_stmt *st;
    struct sqlite3 *db;
    char path[128], sql[96];
    int64_t n;

    fx_checkpoint(&o->f);
    snprintf(path, sizeof path, "%s/checkpoint.db", o->f.dir);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", table);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

static void test_expiry(void **state)
{
    int64_t day = 24ll * 3600 * 1000, now = io_wall_ms(io_real());
    struct sent s;
    struct one o;

    one_start(&o);
    assert_put(&o.f, o.p, 0, 7, 0, 0, 1);
    producers_tick(o.f.b, now + day - 60000);
    assert_dup(&o.f, o.p, 0, 7, 0, 0, 1);
    assert_int_equal(rows(&o, "producers"), 1);
    pr_send(&o.f, &s, o.p, pb(8, 0, 0, 1)); /* on its way: must stay */
    producers_tick(o.f.b, now + day + 60000);
    assert_int_equal(info_of(o.p, 7).producer_id, -1);
    broker_step(o.f.b);
    assert_int_equal(pr_place(&s, 0, NULL), ERR_OK);
    assert_dup(&o.f, o.p, 1, 8, 0, 0, 1);
    pr_free(&s);
    assert_int_equal(rows(&o, "producers"), 1);
    topic_unref(&o.t);
    fx_crash(&o.f);
    one_find(&o);
    assert_int_equal(info_of(o.p, 7).producer_id, -1);
    assert_put(&o.f, o.p, 2, 7, 0, 42, 1); /* nobody knows it any more: anywhere is right */
    one_end(&o);
}

static void test_topic_deleted(void **state)
{
    struct sent s;
    struct one o;
    int i;

    one_start(&o);
    for (i = 0; i < 2500; i++) /* more than one tick looks at, used longer ago */
        assert_put(&o.f, o.p, i, 100 + i, 0, 0, 1);
    topic_unref(&o.t);
    o.t = fx_topic(&o.f, "u", 1);
    o.p = topic_partition(o.t, 0);
    assert_put(&o.f, o.p, 0, 7, 0, 0, 1);
    assert_int_equal(rows(&o, "producers"), 2501);
    pr_send(&o.f, &s, o.p, pb(7, 0, 1, 1));
    assert_int_equal(topic_delete_wait(o.f.b, SLICE_LIT("u"), NULL), ERR_OK);
    pr_free(&s);
    topic_unref(&o.t);
    for (i = 0; i < 4; i++)
        producers_tick(o.f.b, io_wall_ms(io_real()));
    assert_int_equal(o.f.b->producers.states.n, 2500);
    assert_int_equal(rows(&o, "producers"), 2500);
    o.t = fx_topic(&o.f, "u", 1);
    o.p = topic_partition(o.t, 0);
    assert_put(&o.f, o.p, 0, 7, 0, 5, 1); /* a topic of that name, but not that topic */
    topic_unref(&o.t);
    fx_crash(&o.f);
    o.t = topic_find(o.f.b, SLICE_LIT("u"));
    o.p = topic_partition(o.t, 0);
    assert_dup(&o.f, o.p, 0, 7, 0, 5, 1);
    one_end(&o);
}

static void test_many_partitions(void **state)
{
    enum { PARTS = 700, IDS = 3 };
    struct one o;
    int i, k;

    one_start(&o);
    topic_unref(&o.t);
    o.t = fx_topic(&o.f, "many", PARTS);
    for (k = 0; k < IDS; k++)
        for (i = 0; i < PARTS; i++) {
            assert_put(&o.f, topic_partition(o.t, i), k, 7 + k, (int16_t)k, i, 1);
            if (k == 1 && i == PARTS / 2)
                fx_checkpoint(&o.f);
        }
    topic_unref(&o.t);
    fx_crash(&o.f);
    o.t = topic_find(o.f.b, SLICE_LIT("many"));
    assert_int_equal(o.f.b->producers.states.n, PARTS * IDS);
    for (i = 0; i < PARTS; i++) {
        for (k = 0; k < IDS; k++)
            assert_dup(&o.f, topic_partition(o.t, i), k, 7 + k, (int16_t)k, i, 1);
        assert_put(&o.f, topic_partition(o.t, i), IDS, 7, 0, i + 1, 1);
    }
    one_end(&o);
}

/* A checkpoint fails while a producer is forgotten and comes back: the row that is written by the
 * next one is that of the new state. */
static void test_forgotten_and_back(void **state)
{
    struct errinfo info = {0};
    struct sqlite3_stmt *st;
    struct sqlite3 *db;
    char partition[96];
    struct one o;

    one_start(&o);
    snprintf(partition, sizeof partition, "INSERT INTO partitions VALUES(1, 0, %u, 0)", o.p->uid);
    assert_put(&o.f, o.p, 0, 7, 0, 0, 1);
    fx_checkpoint(&o.f);
    producers_tick(o.f.b, INT64_MAX);
    assert_int_equal(o.f.b->producers.states.n, 0);
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(state_tables_make(db, &info), ERR_OK);
    assert_int_equal(sqlite3_exec(db, partition, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(producers_save(o.f.b, db, &info), ERR_OK);
    assert_put(&o.f, o.p, 1, 7, 0, 5, 1);
    producers_saved(o.f.b, false);
    assert_int_equal(producers_save(o.f.b, db, &info), ERR_OK);
    producers_saved(o.f.b, true);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT last_offset FROM producers", -1, &st, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int64(st, 0), 1);
    sqlite3_finalize(st);
    sqlite3_close(db);
    one_end(&o);
}

/* ---- threads ---- */

#define IDS     4
#define BATCHES 300
#define WRITERS 4

struct race {
    struct fx f;
    struct topic *t;
    _Atomic int next[IDS]; /* sequence that nobody has written yet, at least */
    _Atomic uint64_t written, repeated;
    _Atomic bool stop;
};

/* Sends batch `n` of producer `id` until it is there. */
static void race_send(struct race *r, int id, int n)
{
    struct partition *p = topic_partition(r->t, id % 2);
    struct append_place at;
    struct append_slot slot;
    struct batch_builder bb;
    struct slice bytes;
    struct append *a;
    char value[32];
    enum err e;

    snprintf(value, sizeof value, "%d-%d", id, n);
    batch_builder_init(&bb, CODEC_NONE, 4096);
    MUST(!batch_builder_add(&bb, io_wall_ms(io_real()), SLICE_NULL, slice_str(value), NULL, 0,
                            NULL));
    do {
        MUST(!batch_builder_finish(&bb, 0, 50 + id, 0, n, &bytes));
        a = append_new(r->f.b, NULL, NULL);
        MUST(!append_batch(a, p, bytes, &slot, NULL));
        MUST(!append_submit_wait(a, NULL));
        e = append_place(a, slot, &at);
        append_free(&a);
        MUST(e == ERR_OK || e == ERR_SEQUENCE_ORDER);
        if (!e) {
            atomic_fetch_add(at.duplicate ? &r->repeated : &r->written, 1);
            if (atomic_load(&r->next[id]) < n + 1)
                atomic_store(&r->next[id], n + 1);
        }
    } while (e && atomic_load(&r->next[id]) <= n); /* others are far ahead: it is there */
    batch_builder_fini(&bb);
}

static void *race_writer(void *arg)
{
    struct race *r = arg;
    int n, id;

    for (n = 0; n < BATCHES; n++)
        for (id = 0; id < IDS; id++)
            race_send(r, id, n);
    return NULL;
}

/* Each producer's records come in order, each once. */
static void *race_reader(void *arg)
{
    struct reader_conf rc = {.selector = SLICE_LIT("t"), .partition = -1, .from = READ_FROM_START};
    struct race *r = arg;
    struct reader_record rec;
    struct errinfo info = {0};
    struct reader *rd;
    int next[IDS] = {0}, got = 0, id, n;
    enum err e;

    MUST(!reader_open(r->f.b, &rc, &rd, NULL));
    while (got < IDS * BATCHES) {
        e = reader_next(rd, &rec, &info);
        if (e == ERR_AGAIN) {
            reader_block(rd, 1000);
            continue;
        }
        if (e)
            fprintf(stderr, "%s: %s\n", err_code(e), info.text);
        MUST(!e);
        MUST(sscanf((const char *)rec.value.ptr, "%d-%d", &id, &n) == 2);
        MUST(n == next[id]++);
        got++;
    }
    reader_close(&rd);
    return NULL;
}

static void *race_upkeep(void *arg)
{
    struct race *r = arg;
    struct producer_info pi[8];

    while (!atomic_load(&r->stop)) {
        MUST(!journal_checkpoint(broker_journal(r->f.b), NULL));
        MUST(partition_producers(topic_partition(r->t, 0), pi, 8) <= IDS);
        producers_tick(r->f.b, io_wall_ms(io_real()));
        usleep(1000);
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t writer[WRITERS], reader, upkeep;
    struct race *r = calloc(1, sizeof *r);
    int i;

    fx_start(&r->f, true);
    r->t = fx_topic(&r->f, "t", 2);
    assert_int_equal(pthread_create(&reader, NULL, race_reader, r), 0);
    assert_int_equal(pthread_create(&upkeep, NULL, race_upkeep, r), 0);
    for (i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writer[i], NULL, race_writer, r), 0);
    for (i = 0; i < WRITERS; i++)
        pthread_join(writer[i], NULL);
    pthread_join(reader, NULL);
    atomic_store(&r->stop, true);
    pthread_join(upkeep, NULL);
    assert_int_equal(atomic_load(&r->written), IDS * BATCHES);
    assert_int_equal(pr_end(topic_partition(r->t, 0)), IDS / 2 * BATCHES);
    assert_true(atomic_load(&r->repeated) > 0);
    topic_unref(&r->t);
    fx_end(&r->f);
    free(r);
}

/* A checkpoint has all that was written before it, also what is durable but not answered yet. */
static void slow_done(struct append *a, void *arg, enum err e)
{
    atomic_store((_Atomic int *)arg, 1);
    usleep(400000);
    atomic_store((_Atomic int *)arg, 2);
}

static struct append *slow_append(struct one *o, _Atomic int *at)
{
    struct append_record r = rec_of(NULL, "slow", NULL);
    struct append *a = append_new(o->f.b, slow_done, at);

    assert_int_equal(append_record(a, o->t, 0, &r, NULL, NULL), ERR_OK);
    assert_int_equal(append_submit(a, true, NULL), ERR_OK);
    return a;
}

static void wait_for(_Atomic int *at, int n)
{
    while (atomic_load(at) < n)
        usleep(100);
}

static void test_checkpoint_of_unanswered(void **state)
{
    struct batch_builder bb;
    struct append *a, *b, *before;
    _Atomic int at_before = 0, at_a = 0, at_b = 0;
    struct slice bytes;
    struct one o;

    fx_start(&o.f, true);
    o.t = fx_topic(&o.f, "t", 1);
    o.p = topic_partition(o.t, 0);
    batch_builder_init(&bb, CODEC_NONE, 4096);
    assert_int_equal(batch_builder_add(&bb, 1, SLICE_NULL, SLICE_LIT("x"), NULL, 0, NULL), ERR_OK);
    assert_int_equal(batch_builder_finish(&bb, 0, 7, 0, 0, &bytes), ERR_OK);
    b = append_new(o.f.b, slow_done, &at_b);
    assert_int_equal(append_batch(b, o.p, bytes, NULL, NULL), ERR_OK);
    before = slow_append(&o, &at_before);
    wait_for(&at_before, 1);
    a = slow_append(&o, &at_a); /* the writer is busy: what comes goes into one frame */
    assert_int_equal(append_submit(b, true, NULL), ERR_OK);
    fx_checkpoint(&o.f); /* so does its stamp: durable long before b has its answer */
    wait_for(&at_b, 2);
    append_free(&before);
    append_free(&a);
    append_free(&b);
    batch_builder_fini(&bb);
    topic_unref(&o.t);
    o.f.conf.threads = false;
    fx_crash(&o.f);
    one_find(&o);
    assert_int_equal(pr_end(o.p), 3);
    assert_dup(&o.f, o.p, 2, 7, 0, 0, 1);
    one_end(&o);
}

/* ---- a checkpoint that knows more than the log has ---- */

struct os_appender {
    struct one *o;
    _Atomic bool stop;
    _Atomic int n;
};

/* Durability `os`: answered before it is on stable storage. */
static void *os_append(void *arg)
{
    struct os_appender *s = arg;
    struct batch_builder bb;
    struct slice bytes;
    struct append *a;
    int n;

    batch_builder_init(&bb, CODEC_NONE, 4096);
    for (n = 0; !atomic_load(&s->stop) && n < 700; n++) {
        batch_builder_reset(&bb);
        MUST(!batch_builder_add(&bb, 1, SLICE_NULL, SLICE_LIT("x"), NULL, 0, NULL));
        MUST(!batch_builder_finish(&bb, 0, 7, 0, n, &bytes));
        a = append_new(s->o->f.b, NULL, NULL);
        MUST(!append_batch(a, s->o->p, bytes, NULL, NULL));
        MUST(!append_submit_wait(a, NULL));
        append_free(&a);
        atomic_store(&s->n, n + 1);
        usleep(50);
    }
    batch_builder_fini(&bb);
    return NULL;
}

static int64_t number_in(const char *dir, const char *sql)
{
    struct sqlite3_stmt *st;
    struct sqlite3 *db;
    char path[128];
    int64_t n;

    snprintf(path, sizeof path, "%s/checkpoint.db", dir);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

/* Takes the frames behind the checkpoint's out of the journal files, as a power cut may. */
static void frames_lose(const char *dir)
{
    uint64_t applied = (uint64_t)number_in(dir, "SELECT value FROM meta WHERE key = 'applied_seq'");
    static uint8_t block[4096];
    static const uint8_t zeros[4096];
    char path[PATH_MAX];
    struct dirent *d;
    DIR *logs;
    FILE *f;

    snprintf(path, sizeof path, "%s/log", dir);
    assert_non_null(logs = opendir(path));
    while ((d = readdir(logs))) {
        if (!strstr(d->d_name, ".log"))
            continue;
        snprintf(path, sizeof path, "%s/log/%s", dir, d->d_name);
        assert_non_null(f = fopen(path, "r+"));
        while (fread(block, sizeof block, 1, f) == 1) /* frames here have one block each */
            if (memcmp(block, "WFR1", 4) == 0 && le64_load(block + 8) > applied) {
                assert_int_equal(fseek(f, -(long)sizeof block, SEEK_CUR), 0);
                assert_int_equal(fwrite(zeros, sizeof zeros, 1, f), 1);
                fflush(f);
            }
        fclose(f);
    }
    closedir(logs);
}

/* A broker whose checkpoint was made while appends went on, and whose log ends with it after a
 * crash. Returns the last offset that the checkpoint has of the producer. */
static int64_t ahead_start(struct one *o)
{
    struct os_appender s = {.o = o};
    char cmd[256], to[64] = "/tmp/weir-broker-XXXXXX";
    struct topic_conf conf;
    int64_t known;
    pthread_t th;

    fx_start(&o->f, true);
    topic_conf_default(o->f.b, &conf);
    conf.durability = DURABILITY_OS;
    assert_int_equal(topic_create_wait(o->f.b, SLICE_LIT("t"), 1, &conf, NULL), ERR_OK);
    one_find(o);
    assert_int_equal(pthread_create(&th, NULL, os_append, &s), 0);
    while (atomic_load(&s.n) < 20)
        usleep(100);
    fx_checkpoint(&o->f);
    atomic_store(&s.stop, true);
    pthread_join(th, NULL);
    assert_non_null(mkdtemp(to));
    snprintf(cmd, sizeof cmd, "cp -r --sparse=always %s/. %s && rm -f %s/lock", o->f.dir, to, to);
    assert_int_equal(system(cmd), 0);
    frames_lose(to);
    topic_unref(&o->t);
    fx_end(&o->f);
    strcpy(o->f.dir, to);
    o->f.conf.threads = false;
    known = number_in(to, "SELECT last_offset FROM producers");
    fx_open(&o->f);
    one_find(o);
    return known;
}

/* What the log lost is not remembered of the producer, nor after the next crash: what is written in
 * its place then is not taken for what was there before. */
static void test_lost_behind_checkpoint(void **state)
{
    int64_t end, known;
    int tries;
    struct one o;

    for (tries = 0;; tries++) { /* until the checkpoint has some of what came meanwhile */
        assert_true(tries < 100);
        known = ahead_start(&o);
        end = pr_end(o.p);
        if (known >= end)
            break;
        one_end(&o);
    }
    assert_put(&o.f, o.p, end, 7, 1, 0, 1); /* the client goes on with a new epoch */
    topic_unref(&o.t);
    fx_crash(&o.f);
    one_find(&o);
    assert_int_equal(pr_end(o.p), end + 1);
    assert_dup(&o.f, o.p, end, 7, 1, 0, 1);
    one_end(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order),
        cmocka_unit_test(test_duplicate),
        cmocka_unit_test(test_duplicate_in_flight),
        cmocka_unit_test(test_gap_spares_others),
        cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_five),
        cmocka_unit_test(test_one_unit),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_full_disk_at_once),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_topic_deleted),
        cmocka_unit_test(test_many_partitions),
        cmocka_unit_test(test_forgotten_and_back),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_checkpoint_of_unanswered),
        cmocka_unit_test(test_lost_behind_checkpoint),
    };

    return cmocka_run_group_tests_name("broker/producer", tests, NULL, NULL);
}
