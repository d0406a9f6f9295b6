/* Cursors: records are taken, settled, come back when a lease ends, and end as dead letters; and what
 * of that a restart knows, at every step. A model, record by record, is compared with the real thing
 * through random calls, checkpoints, clean and unclean restarts. Time is the test's. */
#include "broker/cursor.h"
#include "base/tbl/limits.h"
#include "broker/coordinator.h"
#include "broker/cursor_ranges.h"
#include "broker/state.h"
#include "fixture.h"
#include "journal/batch.h"

#define G SLICE_LIT("workers")

struct cx {
    struct fx f;
    struct topic *t;
    struct partition *p;
    struct cursor *c;
    struct cursor_conf conf;
    int64_t now;
};

struct outcome {
    bool done;
    enum err e;
};

static void outcome_done(void *arg, enum err e, const struct errinfo *info)
{
    struct outcome *o = arg;

    assert_false(o->done);
    *o = (struct outcome){true, e};
}

static void find_all(struct cx *x)
{
    x->t = fx_topic(&x->f, "jobs", 1);
    x->p = topic_partition(x->t, 0);
    x->c = cursor_find(x->f.b, G, x->p);
}

static void let_go(struct cx *x)
{
    cursor_unref(&x->c);
    topic_unref(&x->t);
}

static void make(struct cx *x, int64_t start)
{
    struct outcome o = {0};
    struct errinfo info = {0};

    assert_int_equal(cursor_make(x->f.b, G, x->p, start, &x->conf, outcome_done, &o, &info),
                     ERR_OK);
    broker_step(x->f.b);
    assert_true(o.done);
    assert_int_equal(o.e, ERR_OK);
    if (!x->c)
        x->c = cursor_find(x->f.b, G, x->p);
    assert_non_null(x->c);
}

static void begin(struct cx *x)
{
    memset(x, 0, sizeof *x);
    fx_start(&x->f, false);
    cursor_conf_default(&x->conf);
    x->now = 1000;
    find_all(x);
    assert_null(x->c);
    make(x, 0);
}

static void end(struct cx *x)
{
    let_go(x);
    fx_end(&x->f);
}

static void reopen(struct cx *x, bool crash)
{
    let_go(x);
    if (crash)
        fx_crash(&x->f);
    else
        fx_reopen(&x->f);
    find_all(x);
}

static void put(struct cx *x, unsigned n)
{
    while (n--)
        fx_put(&x->f, x->t, 0, "k", "value", NULL);
}

/* Takes; the pieces are in *out. */
static uint32_t take(struct cx *x, const char *owner, int64_t first, int64_t last, uint32_t max,
                     struct cursor_taken *out)
{
    uint32_t records;

    return cursor_take(x->c, slice_str(owner), first, last, max, &x->conf, x->now, out, 64,
                       &records);
}

static enum err settle(struct cx *x, const char *owner, int64_t first, int64_t last, uint8_t what,
                       int32_t delay_ms)
{
    struct cursor_ack a = {.first = first, .last = last, .what = what, .delay_ms = delay_ms};
    struct outcome o = {0};
    struct errinfo info = {0};
    enum err e = cursor_settle(x->c, slice_str(owner), &a, 1, x->now, outcome_done, &o, &info);

    if (e) {
        assert_false(o.done);
        return e;
    }
    broker_step(x->f.b);
    assert_true(o.done);
    return o.e;
}

static void tick(struct cx *x, int64_t ms)
{
    x->now += ms;
    cursors_tick(x->f.b, x->now);
    broker_step(x->f.b);
}

#define assert_start(x, want)             \
    do {                                  \
        struct cursor_info i_;            \
        cursor_info_get((x)->c, &i_);     \
        assert_int_equal(i_.start, want); \
    } while (0)

static void assert_record(struct cx *x, int64_t offset, int deliveries, bool acquired)
{
    uint16_t n = 0;
    bool a = false;

    assert_true(cursor_record_get(x->c, offset, &n, &a));
    assert_int_equal(n, deliveries);
    assert_int_equal(a, acquired);
}

/* ---- taking and settling ---- */

static void test_take_and_accept(void **state)
{
    struct cursor_taken got[64];
    struct cx x;

    begin(&x);
    put(&x, 10);
    assert_int_equal(cursor_next(x.c, &x.conf, x.now), 0);
    assert_int_equal(take(&x, "a", 0, 9, 4, got), 1);
    assert_int_equal(got[0].first, 0);
    assert_int_equal(got[0].last, 3);
    assert_int_equal(got[0].deliveries, 1);
    /* nobody gets the same ones, nor is anything left out */
    assert_int_equal(cursor_next(x.c, &x.conf, x.now), 4);
    assert_int_equal(take(&x, "b", 0, 9, 100, got), 1);
    assert_int_equal(got[0].first, 4);
    assert_int_equal(got[0].last, 9);
    assert_int_equal(take(&x, "c", 0, 9, 100, got), 0);
    /* out of order: the start follows what is done without a gap */
    assert_int_equal(settle(&x, "a", 1, 2, CURSOR_ACCEPT, 0), ERR_OK);
    assert_start(&x, 0);
    assert_int_equal(settle(&x, "a", 0, 0, CURSOR_ACCEPT, 0), ERR_OK);
    assert_start(&x, 3);
    assert_int_equal(settle(&x, "b", 4, 9, CURSOR_ACCEPT, 0), ERR_OK);
    assert_int_equal(settle(&x, "a", 3, 3, CURSOR_ACCEPT, 0), ERR_OK);
    assert_start(&x, 10);
    end(&x);
}

static void test_who_may_settle(void **state)
{
    struct cursor_ack two[2] = {{.first = 0, .last = 0}, {.first = 2, .last = 2}};
    struct cursor_taken got[64];
    struct outcome o = {0};
    struct cx x;

    begin(&x);
    put(&x, 6);
    take(&x, "a", 0, 1, 10, got);
    take(&x, "b", 2, 3, 10, got);
    assert_int_equal(settle(&x, "b", 0, 0, CURSOR_ACCEPT, 0), ERR_RECORD_STATE);
    assert_int_equal(settle(&x, "nobody", 0, 0, CURSOR_ACCEPT, 0), ERR_RECORD_STATE);
    assert_int_equal(settle(&x, "a", 5, 5, CURSOR_ACCEPT, 0), ERR_RECORD_STATE);
    assert_int_equal(settle(&x, "a", 1, 2, CURSOR_ACCEPT, 0), ERR_RECORD_STATE);
    /* all or none */
    assert_int_equal(cursor_settle(x.c, SLICE_LIT("a"), two, 2, x.now, outcome_done, &o, NULL),
                     ERR_RECORD_STATE);
    assert_record(&x, 0, 1, true);
    /* in order, without overlap */
    two[1] = (struct cursor_ack){.first = 0, .last = 1};
    assert_int_equal(cursor_settle(x.c, SLICE_LIT("a"), two, 2, x.now, outcome_done, &o, NULL),
                     ERR_INVALID);
    /* a delivery that was another one */
    two[0].deliveries = 2;
    assert_int_equal(cursor_settle(x.c, SLICE_LIT("a"), two, 1, x.now, outcome_done, &o, NULL),
                     ERR_RECORD_STATE);
    assert_false(o.done);
    assert_int_equal(settle(&x, "a", 0, 1, CURSOR_ACCEPT, 0), ERR_OK);
    /* what is below the start is not asked for again */
    assert_int_equal(settle(&x, "b", 0, 1, CURSOR_ACCEPT, 0), ERR_OK);
    end(&x);
}

static void test_settling_twice_at_once(void **state)
{
    struct cursor_ack a = {.first = 0, .last = 0, .what = CURSOR_ACCEPT};
    struct cursor_taken got[64];
    struct outcome o = {0}, second = {0};
    struct cx x;

    begin(&x);
    put(&x, 1);
    take(&x, "a", 0, 0, 1, got);
    assert_int_equal(cursor_settle(x.c, SLICE_LIT("a"), &a, 1, x.now, outcome_done, &o, NULL),
                     ERR_OK);
    assert_false(o.done); /* not durable yet */
    a.what = CURSOR_RELEASE;
    assert_int_equal(cursor_settle(x.c, SLICE_LIT("a"), &a, 1, x.now, outcome_done, &second, NULL),
                     ERR_RECORD_STATE);
    cursors_tick(x.f.b, x.now + 100000); /* nor does the lease end meanwhile */
    broker_step(x.f.b);
    assert_true(o.done);
    assert_start(&x, 1);
    end(&x);
}

static void test_release_and_limit(void **state)
{
    struct cursor_taken got[64];
    struct cx x;
    int i;

    begin(&x);
    x.conf.deliveries_max = 3;
    put(&x, 2);
    for (i = 1; i <= 3; i++) {
        assert_int_equal(take(&x, "a", 0, 0, 1, got), 1);
        assert_int_equal(got[0].deliveries, i);
        assert_int_equal(settle(&x, "a", 0, 0, CURSOR_RELEASE, 0), ERR_OK);
    }
    assert_start(&x, 1); /* archived */
    assert_int_equal(take(&x, "a", 0, 1, 10, got), 1);
    assert_int_equal(got[0].first, 1);
    /* rejected: at once */
    assert_int_equal(settle(&x, "a", 1, 1, CURSOR_REJECT, 0), ERR_OK);
    assert_start(&x, 2);
    end(&x);
}

static void test_delay(void **state)
{
    struct cursor_taken got[64];
    struct cx x;

    begin(&x);
    put(&x, 2);
    take(&x, "a", 0, 0, 1, got);
    assert_int_equal(settle(&x, "a", 0, 0, CURSOR_RELEASE, 500), ERR_OK);
    assert_int_equal(cursor_next(x.c, &x.conf, x.now), 1);
    tick(&x, 499);
    assert_int_equal(take(&x, "a", 0, 0, 1, got), 0);
    tick(&x, 1);
    assert_int_equal(cursor_next(x.c, &x.conf, x.now), 0);
    assert_int_equal(take(&x, "a", 0, 0, 1, got), 1);
    assert_int_equal(got[0].deliveries, 2);
    end(&x);
}

/* What came back, one after the other: neither what is leased, nor what waits, nor what is new. */
static void test_free_from(void **state)
{
    struct cursor_taken got[64];
    struct cx x;

    begin(&x);
    put(&x, 10);
    take(&x, "a", 0, 7, 8, got);
    assert_int_equal(cursor_free_from(x.c, 0, x.now), -1);
    assert_int_equal(settle(&x, "a", 1, 2, CURSOR_RELEASE, 0), ERR_OK);
    assert_int_equal(settle(&x, "a", 4, 4, CURSOR_ACCEPT, 0), ERR_OK);
    assert_int_equal(settle(&x, "a", 5, 5, CURSOR_RELEASE, 500), ERR_OK);
    assert_int_equal(settle(&x, "a", 6, 6, CURSOR_RELEASE, 0), ERR_OK);
    assert_int_equal(cursor_free_from(x.c, -5, x.now), 1);
    assert_int_equal(cursor_free_from(x.c, 2, x.now), 2);
    assert_int_equal(cursor_free_from(x.c, 3, x.now), 6);
    assert_int_equal(cursor_free_from(x.c, 7, x.now), -1);
    assert_int_equal(cursor_free_from(x.c, 1000, x.now), -1);
    tick(&x, 500);
    assert_int_equal(cursor_free_from(x.c, 3, x.now), 5);
    end(&x);
}

struct watched {
    unsigned freed, spent;
    int64_t first, last;
    uint16_t deliveries;
};

static void watch(void *arg, enum cursor_event what, int64_t first, int64_t last,
                  uint16_t deliveries)
{
    struct watched *w = arg;

    if (what == CURSOR_FREE)
        w->freed++;
    else
        *w = (struct watched){w->freed, w->spent + 1, first, last, deliveries};
}

/* Who watches is told what time does to records. */
static void test_watch(void **state)
{
    struct cursor_taken got[64];
    struct watched w = {0};
    struct cx x;

    (void)state;
    begin(&x);
    x.conf.lease_ms = 1000;
    x.conf.deliveries_max = 2;
    put(&x, 4);
    cursor_watch(x.c, watch, &w);
    take(&x, "a", 0, 3, 4, got);
    assert_int_equal(settle(&x, "a", 3, 3, CURSOR_RELEASE, 500), ERR_OK);
    assert_int_equal(w.freed, 1);
    tick(&x, 500); /* the delay is over */
    assert_int_equal(w.freed, 2);
    tick(&x, 500); /* the leases are */
    assert_int_equal(w.freed, 3);
    assert_int_equal(w.spent, 0);
    take(&x, "a", 0, 2, 3, got);
    assert_int_equal(settle(&x, "a", 0, 0, CURSOR_ACCEPT, 0), ERR_OK);
    assert_int_equal(w.freed, 3);
    tick(&x, 1000);
    assert_int_equal(w.spent, 1);
    assert_true(w.first == 1 && w.last == 2 && w.deliveries == 2);
    cursor_watch(x.c, NULL, NULL);
    take(&x, "a", 3, 3, 1, got);
    tick(&x, 1000);
    assert_int_equal(w.spent, 1);
    end(&x);
}

static enum err settle_loose(struct cx *x, int64_t first, int64_t last, uint8_t what)
{
    struct cursor_ack a = {.first = first, .last = last, .what = what, .loose = true};
    struct outcome o = {0};
    struct errinfo info = {0};
    enum err e = cursor_settle(x->c, SLICE_LIT("a"), &a, 1, x->now, outcome_done, &o, &info);

    broker_step(x->f.b);
    assert_true(e || o.done);
    return e ? e : o.e;
}

/* What came back or was given out before a restart may still be accepted, not what others have. */
static void test_loose(void **state)
{
    struct cursor_taken got[64];
    struct cx x;

    (void)state;
    begin(&x);
    x.conf.lease_ms = 1000;
    put(&x, 10);
    take(&x, "a", 0, 2, 3, got);
    take(&x, "b", 3, 3, 1, got);
    assert_int_equal(settle(&x, "a", 1, 1, CURSOR_RELEASE, 0), ERR_OK);
    assert_int_equal(settle_loose(&x, 0, 3, CURSOR_RELEASE), ERR_OK);
    assert_record(&x, 0, 1, false);
    assert_record(&x, 3, 1, true); /* b's */
    take(&x, "a", 0, 0, 1, got);
    assert_int_equal(settle_loose(&x, 0, 3, CURSOR_ACCEPT), ERR_OK);
    assert_start(&x, 3);
    assert_record(&x, 3, 1, true);
    reopen(&x, true);
    assert_int_equal(settle_loose(&x, 5, 6, CURSOR_ACCEPT), ERR_OK);
    assert_int_equal(settle_loose(&x, 5, 5, CURSOR_ACCEPT), ERR_OK);
    assert_record(&x, 4, 0, false);
    assert_false(cursor_record_get(x.c, 5, NULL, NULL));
    assert_int_equal(take(&x, "a", 3, 9, 10, got), 2);
    assert_true(got[0].first == 3 && got[0].last == 4 && got[1].first == 7 && got[1].last == 9);
    reopen(&x, true);
    assert_start(&x, 3);
    assert_false(cursor_record_get(x.c, 6, NULL, NULL));
    end(&x);
}

static void test_lease(void **state)
{
    struct cursor_taken got[64];
    struct cx x;

    begin(&x);
    x.conf.lease_ms = 1000;
    x.conf.deliveries_max = 2;
    put(&x, 3);
    take(&x, "a", 0, 2, 3, got);
    tick(&x, 600);
    assert_int_equal(settle(&x, "a", 1, 1, CURSOR_RENEW, 0), ERR_OK);
    tick(&x, 400);
    assert_record(&x, 0, 1, false);
    assert_record(&x, 1, 1, true);
    assert_record(&x, 2, 1, false);
    assert_int_equal(settle(&x, "a", 0, 0, CURSOR_ACCEPT, 0), ERR_RECORD_STATE);
    take(&x, "b", 0, 0, 1, got);
    assert_int_equal(got[0].deliveries, 2);
    tick(&x, 600); /* the renewed one */
    assert_record(&x, 1, 1, false);
    tick(&x, 400); /* the second delivery of 0 was its last */
    assert_start(&x, 1);
    end(&x);
}

static void test_limit_in_flight(void **state)
{
    struct cursor_taken got[64];
    struct cursor_info info;
    struct cx x;

    begin(&x);
    x.conf.records_max = 5;
    put(&x, 12);
    assert_int_equal(take(&x, "a", 0, 11, 100, got), 1);
    assert_int_equal(got[0].last, 4);
    assert_int_equal(cursor_next(x.c, &x.conf, x.now), -1);
    assert_int_equal(take(&x, "b", 5, 11, 100, got), 0);
    /* done ones in the middle make room */
    assert_int_equal(settle(&x, "a", 2, 3, CURSOR_ACCEPT, 0), ERR_OK);
    assert_int_equal(cursor_next(x.c, &x.conf, x.now), 5);
    assert_int_equal(take(&x, "b", 5, 11, 100, got), 1);
    assert_int_equal(got[0].last, 6);
    cursor_info_get(x.c, &info);
    assert_int_equal(info.undone, 5);
    assert_int_equal(info.acquired, 5);
    end(&x);
}

struct woken {
    struct waiter w;
    int times;
};

static void on_wake(struct waiter *w)
{
    ((struct woken *)w)->times++;
}

static void test_wakes(void **state)
{
    struct woken w = {.w.wake = on_wake};
    struct cursor_taken got[64];
    struct cx x;

    begin(&x);
    x.conf.records_max = 1;
    put(&x, 2);
    take(&x, "a", 0, 0, 1, got);
    assert_true(topic_wait(x.t, topic_commits(x.t), &w.w));
    assert_int_equal(cursor_next(x.c, &x.conf, x.now), -1);
    assert_int_equal(settle(&x, "a", 0, 0, CURSOR_ACCEPT, 0), ERR_OK);
    assert_int_equal(w.times, 1); /* there is room */
    take(&x, "a", 1, 1, 1, got);
    assert_true(topic_wait(x.t, topic_commits(x.t), &w.w));
    tick(&x, x.conf.lease_ms);
    assert_int_equal(w.times, 2); /* a lease ended */
    take(&x, "a", 1, 1, 1, got);
    assert_int_equal(settle(&x, "a", 1, 1, CURSOR_RELEASE, 50), ERR_OK);
    assert_true(topic_wait(x.t, topic_commits(x.t), &w.w));
    tick(&x, 50);
    assert_int_equal(w.times, 3); /* a delay is over */
    waiter_cancel(&w.w);
    end(&x);
}

static void test_owner_leaves(void **state)
{
    struct cursor_taken got[64];
    struct cx x;

    begin(&x);
    x.conf.deliveries_max = 1;
    put(&x, 4);
    take(&x, "a", 0, 1, 2, got);
    take(&x, "b", 2, 3, 2, got);
    cursor_release(x.c, SLICE_LIT("a"), true);
    broker_step(x.f.b);
    assert_record(&x, 0, 0, false);
    assert_record(&x, 2, 1, true);
    cursor_release(x.c, SLICE_LIT("b"), false); /* that was its only delivery */
    broker_step(x.f.b);
    assert_false(cursor_record_get(x.c, 2, NULL, NULL));
    assert_int_equal(take(&x, "c", 0, 3, 9, got), 1);
    assert_int_equal(got[0].last, 1);
    end(&x);
}

static void test_skip_and_trim(void **state)
{
    struct cursor_taken got[64];
    struct errinfo info = {0};
    struct cx x;

    begin(&x);
    put(&x, 10);
    take(&x, "a", 0, 1, 2, got);
    cursor_skip(x.c, 1, 4); /* 1 is taken: it stays */
    assert_record(&x, 1, 1, true);
    assert_int_equal(take(&x, "b", 0, 9, 2, got), 1);
    assert_int_equal(got[0].first, 5);
    assert_int_equal(settle(&x, "a", 0, 1, CURSOR_ACCEPT, 0), ERR_OK);
    assert_start(&x, 5);
    /* what retention deletes nobody waits for */
    assert_int_equal(partition_trim_wait(x.p, 8, &info), ERR_OK);
    assert_int_equal(cursor_next(x.c, &x.conf, x.now), 8);
    assert_start(&x, 8);
    assert_int_equal(settle(&x, "b", 5, 6, CURSOR_ACCEPT, 0), ERR_OK);
    assert_int_equal(take(&x, "b", 5, 9, 10, got), 1);
    assert_int_equal(got[0].first, 8);
    /* far behind the end: as wide as it likes */
    cursor_skip(x.c, 10, 1ll << 40);
    assert_record(&x, 8, 1, true);
    assert_int_equal(cursor_next(x.c, &x.conf, x.now), (1ll << 40) + 1);
    end(&x);
}

/* ---- life and death of cursors ---- */

static void test_set_and_delete(void **state)
{
    struct cursor_ack a = {.first = 0, .last = 0, .what = CURSOR_ACCEPT};
    struct cursor_taken got[64];
    struct outcome o = {0}, set = {0}, gone = {0};
    struct cx x;

    begin(&x);
    put(&x, 5);
    take(&x, "a", 0, 4, 5, got);
    /* settled before, durable after: it is of the former life */
    assert_int_equal(cursor_set(x.f.b, G, x.p, 0, outcome_done, &set, NULL), ERR_OK);
    assert_int_equal(cursor_settle(x.c, SLICE_LIT("a"), &a, 1, x.now, outcome_done, &o, NULL),
                     ERR_OK);
    broker_step(x.f.b);
    assert_true(set.done && o.done);
    assert_start(&x, 0);
    assert_int_equal(settle(&x, "a", 1, 1, CURSOR_ACCEPT, 0), ERR_RECORD_STATE);
    assert_int_equal(take(&x, "b", 0, 4, 5, got), 1);
    assert_int_equal(got[0].deliveries, 1);
    reopen(&x, true);
    assert_start(&x, 0);
    assert_int_equal(cursor_delete(x.f.b, G, x.p, outcome_done, &gone, NULL), ERR_OK);
    broker_step(x.f.b);
    assert_true(gone.done);
    assert_null(cursor_find(x.f.b, G, x.p));
    assert_int_equal(settle(&x, "b", 1, 1, CURSOR_ACCEPT, 0), ERR_NOT_FOUND);
    assert_int_equal(cursor_next(x.c, &x.conf, x.now), -1);
    assert_int_equal(cursor_delete(x.f.b, G, x.p, NULL, NULL, NULL), ERR_NOT_FOUND);
    reopen(&x, true);
    assert_null(x.c);
    make(&x, 3);
    fx_checkpoint(&x.f);
    reopen(&x, true);
    assert_start(&x, 3);
    make(&x, 1); /* it is there: nothing happens */
    assert_start(&x, 3);
    end(&x);
}

static void count_one(void *arg, struct cursor *c, struct partition *p)
{
    ++*(int *)arg;
}

static void test_goes_with_topic_and_group(void **state)
{
    struct outcome o = {0};
    struct topic *other;
    struct cx x;
    int n = 0;

    begin(&x);
    other = fx_topic(&x.f, "other", 3);
    assert_int_equal(
        cursor_make(x.f.b, G, topic_partition(other, 2), 0, NULL, outcome_done, &o, NULL), ERR_OK);
    broker_step(x.f.b);
    assert_true(o.done);
    cursor_each(x.f.b, G, count_one, &n);
    assert_int_equal(n, 2);
    assert_int_equal(topic_delete_wait(x.f.b, SLICE_LIT("other"), NULL), ERR_OK);
    topic_unref(&other);
    n = 0;
    cursor_each(x.f.b, G, count_one, &n);
    assert_int_equal(n, 1);
    reopen(&x, true);
    n = 0;
    cursor_each(x.f.b, G, count_one, &n);
    assert_int_equal(n, 1);
    /* group_delete is of a group that is known: by an offset here */
    assert_int_equal(group_commit_wait(x.f.b, G, x.p, 1, SLICE_LIT(""), NULL), ERR_OK);
    o = (struct outcome){0};
    assert_int_equal(group_delete(x.f.b, G, outcome_done, &o, NULL), ERR_OK);
    broker_step(x.f.b);
    assert_null(cursor_find(x.f.b, G, x.p));
    reopen(&x, true);
    assert_null(x.c);
    end(&x);
}

static void test_refusals(void **state)
{
    struct cursor_conf c;
    struct cx x;

    begin(&x);
    assert_int_equal(cursor_make(x.f.b, SLICE_LIT(""), x.p, 0, NULL, NULL, NULL, NULL),
                     ERR_GROUP_ID);
    assert_int_equal(cursor_make(x.f.b, SLICE_LIT("a\0b"), x.p, 0, NULL, NULL, NULL, NULL),
                     ERR_GROUP_ID);
    assert_int_equal(cursor_make(x.f.b, SLICE_LIT("g"), x.p, -1, NULL, NULL, NULL, NULL),
                     ERR_INVALID);
    cursor_conf_default(&c);
    assert_int_equal(cursor_conf_check(&c, NULL), ERR_OK);
    c.records_max = LIMIT_CURSOR_RECORDS + 1;
    assert_int_equal(cursor_conf_check(&c, NULL), ERR_CONFIG);
    cursor_conf_default(&c);
    strcpy(c.dead_letters, "no/name");
    assert_int_equal(cursor_conf_check(&c, NULL), ERR_CONFIG);
    end(&x);
}

/* ---- dead letters ---- */

static void put_full(struct cx *x, const char *key, const char *value)
{
    struct record_header h = {SLICE_LIT("colour"), SLICE_LIT("red")};
    struct append_record r = {.timestamp_ms = -1,
                              .key = slice_str(key),
                              .value = slice_str(value),
                              .headers = &h,
                              .headers_n = 1};
    struct append *a = append_new(x->f.b, NULL, NULL);
    struct append_slot slot;

    assert_int_equal(append_record(a, x->t, 0, &r, &slot, NULL), ERR_OK);
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    append_free(&a);
}

static void assert_dead(struct reader *r, const char *value, const char *offset, const char *why,
                        const char *count, bool own)
{
    const char *const names[] = {"__dlq.errors.topic",          "__dlq.errors.partition",
                                 "__dlq.errors.offset",         "__dlq.errors.group",
                                 "__dlq.errors.delivery.count", "__dlq.errors.message"};
    const char *const want[] = {"jobs", "0", offset, "workers", count, why};
    struct reader_record rec;
    unsigned i;

    assert_int_equal(reader_next(r, &rec, NULL), ERR_OK);
    if (value)
        assert_true(slice_eq_str(rec.value, value));
    else
        assert_true(slice_is_null(rec.value));
    assert_int_equal(rec.headers_n, own ? 7 : 6);
    for (i = 0; i < 6; i++) {
        assert_true(slice_eq_str(rec.headers[i].key, names[i]));
        assert_true(slice_eq_str(rec.headers[i].value, want[i]));
    }
    if (own)
        assert_true(slice_eq_str(rec.headers[6].key, "colour"));
}

static void test_dead_letters(void **state)
{
    const char *rejected = "rejected by the client";
    const char *often = "delivered as often as is allowed";
    struct cursor_taken got[64];
    struct reader *r;
    struct cx x;

    begin(&x);
    strcpy(x.conf.dead_letters, "dlq.jobs");
    x.conf.deliveries_max = 2;
    x.conf.lease_ms = 100;
    make(&x, 0); /* the topic */
    put_full(&x, "k0", "zero");
    put_full(&x, "k1", "one");
    put_full(&x, "k2", "two");
    assert_int_equal(take(&x, "a", 0, 2, 3, got), 1);
    assert_int_equal(settle(&x, "a", 1, 1, CURSOR_REJECT, 0), ERR_OK);
    assert_int_equal(settle(&x, "a", 2, 2, CURSOR_VOID, 0), ERR_OK); /* no letter */
    tick(&x, 100);
    take(&x, "a", 0, 0, 1, got);
    tick(&x, 100);
    assert_start(&x, 3);
    r = fx_reader(&x.f, "dlq.jobs", READ_FROM_START, 0);
    assert_dead(r, "one", "1", rejected, "1", true);
    assert_dead(r, "zero", "0", often, "2", true);
    assert_drained(r);
    reader_close(&r);
    reopen(&x, true);
    assert_start(&x, 3);
    r = fx_reader(&x.f, "dlq.jobs", READ_FROM_START, 0);
    assert_dead(r, "one", "1", rejected, "1", true);
    assert_dead(r, "zero", "0", often, "2", true);
    assert_drained(r);
    reader_close(&r);
    end(&x);
}

static void test_dead_letters_that_cannot_be(void **state)
{
    struct topic_conf small;
    struct cursor_taken got[64];
    struct errinfo info = {0};
    struct reader *r;
    char large[3000];
    struct cx x;

    begin(&x);
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = 0;
    topic_conf_default(x.f.b, &small);
    small.max_message_bytes = 2000;
    assert_int_equal(topic_create_wait(x.f.b, SLICE_LIT("dlq"), 1, &small, &info), ERR_OK);
    strcpy(x.conf.dead_letters, "dlq");
    put_full(&x, "k", "one");
    put_full(&x, "k", large);
    put_full(&x, "k", "three");
    take(&x, "a", 0, 2, 3, got);
    /* too large for the topic: by its headers alone; one that was deleted leaves nothing */
    assert_int_equal(partition_trim_wait(x.p, 1, &info), ERR_OK);
    assert_int_equal(settle(&x, "a", 0, 2, CURSOR_REJECT, 0), ERR_OK);
    assert_start(&x, 3);
    r = fx_reader(&x.f, "dlq", READ_FROM_START, 0);
    assert_dead(r, NULL, "1", "rejected by the client", "1", false);
    assert_dead(r, "three", "2", "rejected by the client", "1", true);
    assert_drained(r);
    reader_close(&r);
    /* without its topic nothing is archived */
    put_full(&x, "k", "four");
    take(&x, "a", 3, 3, 1, got);
    assert_int_equal(topic_delete_wait(x.f.b, SLICE_LIT("dlq"), &info), ERR_OK);
    assert_int_equal(settle(&x, "a", 3, 3, CURSOR_REJECT, 0), ERR_TOPIC_NOT_FOUND);
    assert_record(&x, 3, 1, true);
    x.conf.deliveries_max = 1;
    assert_int_equal(cursor_next(x.c, &x.conf, x.now), 4);
    tick(&x, x.conf.lease_ms);
    assert_record(&x, 3, 1, true);
    make(&x, 0);               /* there it is again */
    tick(&x, CURSORS_TICK_MS); /* it is tried again */
    assert_start(&x, 4);
    end(&x);
}

static void test_many_dead_letters(void **state)
{
    struct cursor_taken got[64];
    struct reader_record rec;
    char *large = malloc(300001);
    struct reader *r;
    struct cx x;
    int i;

    begin(&x);
    memset(large, 'x', 300000);
    large[300000] = 0;
    strcpy(x.conf.dead_letters, "dlq");
    make(&x, 0);
    for (i = 0; i < 12; i++)
        put_full(&x, "k", large);
    take(&x, "a", 0, 11, 12, got);
    assert_int_equal(settle(&x, "a", 4, 4, CURSOR_ACCEPT, 0), ERR_OK);
    cursor_release(x.c, SLICE_LIT("a"), true); /* in two ranges */
    broker_step(x.f.b);
    take(&x, "a", 0, 11, 12, got);
    assert_int_equal(settle(&x, "a", 5, 11, CURSOR_REJECT, 0), ERR_OK);
    assert_int_equal(settle(&x, "a", 0, 3, CURSOR_REJECT, 0), ERR_OK);
    assert_start(&x, 12);
    r = fx_reader(&x.f, "dlq", READ_FROM_START, 0);
    for (i = 0; i < 11; i++) {
        assert_int_equal(reader_next(r, &rec, NULL), ERR_OK);
        assert_int_equal(rec.value.len, 300000);
    }
    assert_drained(r);
    reader_close(&r);
    free(large);
    end(&x);
}

/* ---- restarts ---- */

/* The same story, stopped after each of its steps: what was told is there. */
static void test_restart_at_every_step(void **state)
{
    int stop, checkpoint;

    for (checkpoint = 0; checkpoint < 2; checkpoint++) {
        for (stop = 0; stop < 7; stop++) {
            struct cursor_taken got[64];
            struct cx x;
            int step = 0;

            begin(&x);
            x.conf.deliveries_max = 3;
            put(&x, 6);
            take(&x, "a", 0, 5, 6, got);
            if (step++ < stop)
                assert_int_equal(settle(&x, "a", 1, 1, CURSOR_ACCEPT, 0), ERR_OK);
            if (step++ < stop)
                assert_int_equal(settle(&x, "a", 2, 3, CURSOR_RELEASE, 0), ERR_OK);
            if (step++ < stop)
                take(&x, "b", 2, 3, 2, got);
            if (checkpoint)
                fx_checkpoint(&x.f);
            if (step++ < stop)
                assert_int_equal(settle(&x, "b", 3, 3, CURSOR_RELEASE, 0), ERR_OK);
            if (step++ < stop)
                assert_int_equal(settle(&x, "a", 0, 0, CURSOR_REJECT, 0), ERR_OK);
            if (step++ < stop)
                tick(&x, x.conf.lease_ms);
            reopen(&x, stop % 2 == 0);
            assert_start(&x, stop >= 5 ? 2 : 0);
            if (stop >= 1)
                assert_false(cursor_record_get(x.c, 1, NULL, NULL));
            if (stop >= 2)
                assert_record(&x, 3, stop >= 4 ? 2 : 1, false);
            if (stop >= 2) /* what was only taken is as it was last settled */
                assert_record(&x, 2, stop >= 6 ? 2 : 1, false);
            if (stop >= 6)
                assert_record(&x, 5, 1, false);
            /* and all that is not done is delivered again */
            x.now = 0;
            take(&x, "c", 0, 5, 100, got);
            assert_record(&x, 4, stop >= 6 ? 2 : 1, true);
            assert_record(&x, 2, stop >= 6 ? 3 : stop >= 2 ? 2 : 1, true);
            end(&x);
        }
    }
}

/* ---- the model ---- */

#define RECORDS 60
#define OWNERS  3

struct model_record {
    enum { FREE, TAKEN, DONE } state;
    int owner, deliveries, saved;
    int64_t at; /* end of the lease, or of the delay */
};

struct model {
    struct cx x;
    struct model_record r[RECORDS];
    int64_t end;
    uint32_t seed;
};

static uint32_t rnd(struct model *m, uint32_t n)
{
    m->seed = m->seed * 1664525u + 1013904223u;
    return (m->seed >> 8) % n;
}

static const char *const owners[OWNERS] = {"a", "bb", "ccc"};

static void model_compare(struct model *m)
{
    int64_t start = 0, i;

    while (start < m->end && m->r[start].state == DONE)
        start++;
    assert_start(&m->x, start);
    for (i = 0; i < m->end; i++) {
        uint16_t n = 0;
        bool acquired = false, there = cursor_record_get(m->x.c, i, &n, &acquired);

        if (m->r[i].state == DONE) {
            assert_false(there);
        } else if (m->r[i].state == TAKEN || m->r[i].deliveries) {
            assert_true(there);
            assert_int_equal(n, m->r[i].deliveries);
            assert_int_equal(acquired, m->r[i].state == TAKEN);
        } else if (there) {
            assert_int_equal(n, 0);
            assert_false(acquired);
        }
    }
}

static void model_take(struct model *m)
{
    int64_t first = rnd(m, (uint32_t)m->end + 1), last = first + rnd(m, 12), i;
    uint32_t max = 1 + rnd(m, 10), n, k, left = max;
    int o = (int)rnd(m, OWNERS);
    struct cursor_taken got[64];

    if (last >= m->end)
        last = m->end - 1;
    n = take(&m->x, owners[o], first, last, max, got);
    for (i = first, k = 0; i <= last && left; i++) {
        struct model_record *r = &m->r[i];

        if (r->state != FREE || r->at > m->x.now)
            continue;
        while (k < n && got[k].last < i)
            k++;
        assert_true(k < n && got[k].first <= i);
        r->state = TAKEN;
        r->owner = o;
        r->deliveries++;
        r->at = m->x.now + m->x.conf.lease_ms;
        assert_int_equal(got[k].deliveries, r->deliveries);
        left--;
    }
    for (k = 0, i = 0; k < n; k++)
        i += got[k].last - got[k].first + 1;
    assert_int_equal(i, max - left);
}

static void model_released(struct model *m, struct model_record *r, int64_t at)
{
    r->state = r->deliveries >= m->x.conf.deliveries_max ? DONE : FREE;
    r->saved = r->deliveries;
    r->at = at;
}

static void model_settle(struct model *m)
{
    int64_t first = rnd(m, (uint32_t)m->end), last = first + rnd(m, 3), i, start = 0;
    uint8_t what = (uint8_t)rnd(m, CURSOR_VOID + 1);
    int32_t delay = rnd(m, 3) ? 0 : (int32_t)rnd(m, 300);
    int o = m->r[first].state == TAKEN && rnd(m, 4) ? m->r[first].owner : (int)rnd(m, OWNERS);
    bool ok = true;
    enum err e;

    last = last >= m->end ? m->end - 1 : last;
    while (start < m->end && m->r[start].state == DONE)
        start++;
    for (i = first < start ? start : first; i <= last; i++)
        ok = ok && m->r[i].state == TAKEN && m->r[i].owner == o;
    e = settle(&m->x, owners[o], first, last, what, delay);
    assert_int_equal(e, ok ? ERR_OK : ERR_RECORD_STATE);
    for (i = first < start ? start : first; ok && i <= last; i++) {
        struct model_record *r = &m->r[i];

        if (what == CURSOR_RENEW)
            r->at = m->x.now + (delay ? delay : m->x.conf.lease_ms);
        else if (what == CURSOR_RELEASE)
            model_released(m, r, delay ? m->x.now + delay : 0);
        else
            r->state = DONE;
    }
}

/* Loosely: what is not the owner's is passed over, or settled if it is with nobody. */
static void model_settle_loose(struct model *m)
{
    int64_t first = rnd(m, (uint32_t)m->end), last = first + rnd(m, 3), i;
    uint8_t what = (uint8_t)rnd(m, CURSOR_VOID + 1);
    bool end = what != CURSOR_RENEW && what != CURSOR_RELEASE;

    last = last >= m->end ? m->end - 1 : last;
    assert_int_equal(settle_loose(&m->x, first, last, what), ERR_OK); /* owner 0 */
    for (i = first; i <= last; i++) {
        struct model_record *r = &m->r[i];
        bool theirs = r->state == TAKEN && r->owner == 0;

        if (end && (theirs || r->state == FREE))
            r->state = DONE;
        else if (theirs && what == CURSOR_RENEW)
            r->at = m->x.now + m->x.conf.lease_ms;
        else if (theirs)
            model_released(m, r, 0);
    }
}

static void model_time(struct model *m)
{
    int64_t i;

    tick(&m->x, rnd(m, 400));
    for (i = 0; i < m->end; i++) {
        struct model_record *r = &m->r[i];

        if (r->at > m->x.now || r->state == DONE)
            continue;
        if (r->state == TAKEN)
            model_released(m, r, 0);
        r->at = 0;
    }
}

static void model_leave(struct model *m)
{
    int o = (int)rnd(m, OWNERS);
    bool undelivered = rnd(m, 2);
    int64_t i;

    cursor_release(m->x.c, slice_str(owners[o]), undelivered);
    broker_step(m->x.f.b);
    for (i = 0; i < m->end; i++) {
        struct model_record *r = &m->r[i];

        if (r->state != TAKEN || r->owner != o)
            continue;
        if (undelivered) {
            r->state = FREE;
            r->saved = --r->deliveries;
            r->at = 0;
        } else {
            model_released(m, r, 0);
        }
    }
}

static void model_restart(struct model *m, bool crash)
{
    int64_t i;

    reopen(&m->x, crash);
    m->x.now = rnd(m, 100000); /* another clock */
    for (i = 0; i < m->end; i++)
        if (m->r[i].state != DONE) {
            m->r[i].state = FREE;
            m->r[i].deliveries = m->r[i].saved;
            m->r[i].at = 0;
        }
}

static void model_run(uint32_t seed)
{
    struct model m;
    int i;

    memset(&m, 0, sizeof m);
    m.seed = seed;
    begin(&m.x);
    m.x.conf.lease_ms = 700;
    m.x.conf.deliveries_max = 3;
    put(&m.x, 8);
    m.end = 8;
    for (i = 0; i < 500; i++) {
        uint32_t what = rnd(&m, 100);

        if (what < 35)
            model_take(&m);
        else if (what < 65)
            model_settle(&m);
        else if (what < 75)
            model_settle_loose(&m);
        else if (what < 85)
            model_time(&m);
        else if (what < 90)
            model_leave(&m);
        else if (what < 95 && m.end + 3 <= RECORDS) {
            put(&m.x, 3);
            m.end += 3;
        } else if (what == 96)
            fx_checkpoint(&m.x.f);
        else if (what >= 98)
            model_restart(&m, what == 99);
        model_compare(&m);
    }
    end(&m.x);
}

static void test_model(void **state)
{
    uint32_t seed;

    for (seed = 1; seed <= 8; seed++)
        model_run(seed);
}

/* ---- entries ---- */

static void test_entries(void **state)
{
    struct entry_cursor c = {CURSOR_SET, 7, 3, 0x1122334455667788u, 42, SLICE_LIT("g")}, c2;
    struct entry_cursor_ranges e = {
        .epoch = 9, .topic = 7, .partition = 3, .n = 2, .group = SLICE_LIT("g")};
    struct cursor_saved_range a = {5, 2, CURSOR_AVAILABLE, 3}, b = {7, 1, CURSOR_ACCEPTED, 1}, o;
    uint8_t small[ENTRY_SMALL_MAX], bytes[200];
    struct entry_cursor_ranges e2;
    size_t n, i;

    n = entry_cursor_write(small, &c);
    assert_int_equal(entry_cursor_read(slice_of(small, n), &c2), ERR_OK);
    assert_true(c2.what == c.what && c2.topic == 7 && c2.partition == 3 && c2.start == 42 &&
                c2.epoch == c.epoch && slice_eq(c2.group, c.group));
    for (i = 0; i < n; i++)
        assert_int_equal(entry_cursor_read(slice_of(small, i), &c2), ERR_CORRUPT);
    small[0] = 3;
    assert_int_equal(entry_cursor_read(slice_of(small, n), &c2), ERR_CORRUPT);

    n = entry_cursor_ranges_size(&e);
    assert_true(n <= sizeof bytes);
    cursor_range_write(entry_cursor_ranges_write(bytes, &e), 0, &a);
    cursor_range_write(bytes + n - 2 * CURSOR_RANGE_BYTES, 1, &b);
    assert_int_equal(entry_cursor_ranges_read(slice_of(bytes, n), &e2), ERR_OK);
    cursor_range_get(e2.ranges, 0, &o);
    assert_true(o.first == 5 && o.records == 2 && o.deliveries == 3);
    for (i = 0; i < n; i++)
        assert_int_equal(entry_cursor_ranges_read(slice_of(bytes, i), &e2), ERR_CORRUPT);
    b.first = 6; /* overlaps */
    cursor_range_write(bytes + n - 2 * CURSOR_RANGE_BYTES, 1, &b);
    assert_int_equal(entry_cursor_ranges_read(slice_of(bytes, n), &e2), ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take_and_accept),
        cmocka_unit_test(test_who_may_settle),
        cmocka_unit_test(test_settling_twice_at_once),
        cmocka_unit_test(test_release_and_limit),
        cmocka_unit_test(test_delay),
        cmocka_unit_test(test_free_from),
        cmocka_unit_test(test_lease),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_loose),
        cmocka_unit_test(test_limit_in_flight),
        cmocka_unit_test(test_wakes),
        cmocka_unit_test(test_owner_leaves),
        cmocka_unit_test(test_skip_and_trim),
        cmocka_unit_test(test_set_and_delete),
        cmocka_unit_test(test_goes_with_topic_and_group),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_dead_letters),
        cmocka_unit_test(test_dead_letters_that_cannot_be),
        cmocka_unit_test(test_many_dead_letters),
        cmocka_unit_test(test_restart_at_every_step),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_entries),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
