/* Transactions: who may write under a transactional id, how they end and what of them is seen, over
 * restarts, full disks, time-outs and deleted topics. Readers show what is committed, all of it, in
 * order of position, and nothing else. */
#include "produce.h"

#include <pthread.h>
#include <sqlite3.h>

#include "base/hash.h"

/* ---- calls, waited for ---- */

/* A producer that has a transactional id. */
struct who {
    const char *name;
    int64_t id;
    int16_t epoch;
    int32_t timeout_ms; /* 0: a minute */
};

struct res {
    int calls;
    enum err e;
    int64_t id;
    int16_t epoch;
};

static void res_note(void *arg, enum err e, const struct errinfo *info, int64_t id, int16_t epoch)
{
    struct res *r = arg;

    r->calls++;
    r->e = e;
    r->id = id;
    r->epoch = epoch;
}

static enum err res_wait(struct fx *f, struct who *w, struct res *r, enum err e)
{
    if (e) {
        assert_int_equal(r->calls, 0);
        return e;
    }
    while (r->calls == 0)
        broker_step(f->b);
    assert_int_equal(r->calls, 1);
    if (!r->e) {
        w->id = r->id;
        w->epoch = r->epoch;
    }
    return r->e;
}

/* own: goes on with the ids it has; otherwise takes over. */
static enum err t_init(struct fx *f, struct who *w, bool own)
{
    struct res r = {0};

    return res_wait(f, w, &r,
                    txn_init(f->b, slice_str(w->name), w->timeout_ms ? w->timeout_ms : 60000,
                             own ? w->id : -1, own ? w->epoch : -1, res_note, &r, NULL));
}

static struct who t_new(struct fx *f, const char *name)
{
    struct who w = {.name = name};

    assert_int_equal(t_init(f, &w, false), ERR_OK);
    return w;
}

static enum err t_begin(struct fx *f, struct who *w)
{
    struct res r = {0};

    return res_wait(f, w, &r,
                    txn_begin(f->b, slice_str(w->name), w->id, w->epoch, res_note, &r, NULL));
}

enum { ABORT, COMMIT };

static enum err t_end(struct fx *f, struct who *w, bool commit, bool raise)
{
    struct res r = {0};

    return res_wait(
        f, w, &r,
        txn_end(f->b, slice_str(w->name), w->id, w->epoch, commit, raise, res_note, &r, NULL));
}

static enum err t_offsets(struct fx *f, struct who *w, bool starts, const char *group,
                          struct partition *p, int64_t offset)
{
    struct txn_commit_offset o = {p, offset, slice_str("meta")};
    struct res r = {0};

    return res_wait(f, w, &r,
                    txn_offsets(f->b, slice_str(w->name), w->id, w->epoch, starts, slice_str(group),
                                &o, 1, res_note, &r, NULL));
}

/* Writes a record of the transaction, which may begin with it. */
static void t_put(struct fx *f, struct partition *p, const struct who *w, int32_t sequence,
                  const char *value)
{
    assert_int_equal(pr_put(f, p, tb(w->id, w->epoch, sequence, value), NULL), ERR_OK);
}

/* The same of a batch that may not begin it. */
static enum err t_put_begun(struct fx *f, struct partition *p, const struct who *w,
                            int32_t sequence)
{
    struct sent s;
    enum err e;

    pr_begin(f, &s);
    pr_add(&s, p, tb(w->id, w->epoch, sequence, "x"));
    assert_int_equal(append_submit_wait(s.a, NULL), ERR_OK);
    e = pr_place(&s, 0, NULL);
    pr_free(&s);
    return e;
}

static int t_state(struct fx *f, const char *name)
{
    struct txn_info ti;

    return txn_get(f->b, slice_str(name), &ti, NULL, NULL) ? -1 : ti.state;
}

/* ---- looking ---- */

struct one {
    struct fx f;
    struct topic *t;
    struct partition *p, *q;
};

static void one_find(struct one *o)
{
    o->t = topic_find(o->f.b, SLICE_LIT("t"));
    assert_non_null(o->t);
    o->p = topic_partition(o->t, 0);
    o->q = topic_partition(o->t, 1);
}

static void one_start(struct one *o)
{
    fx_start(&o->f, false);
    o->t = fx_topic(&o->f, "t", 2);
    topic_unref(&o->t);
    one_find(o);
}

static void one_start_full(struct one *o)
{
    pr_start_full(&o->f);
    o->t = fx_topic(&o->f, "t", 2);
    topic_unref(&o->t);
    one_find(o);
}

static void one_end(struct one *o)
{
    topic_unref(&o->t);
    fx_end(&o->f);
}

enum restart { CLOSE, REPLAY, CHECKPOINT, RESTARTS };

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

static void plain(struct one *o, struct partition *p, const char *value)
{
    fx_put(&o->f, partition_topic(p), partition_index(p), NULL, value, NULL);
}

/* All that a reader of committed records sees from the start, in a row. */
static const char *seen_by(struct fx *f, const char *selector)
{
    static char out[4096];
    struct reader *r = fx_reader(f, selector, READ_FROM_START, 0);
    struct reader_record rec;
    size_t n = 0;
    enum err e;

    while (!(e = reader_next(r, &rec, NULL)))
        n += (size_t)snprintf(out + n, sizeof out - n, "%.*s ", (int)rec.value.len,
                              (const char *)rec.value.ptr);
    assert_int_equal(e, ERR_AGAIN);
    out[n] = 0;
    reader_close(&r);
    return out;
}
#define assert_seen(f, selector, want) assert_string_equal(seen_by(f, selector), want)

/* The batch at an offset must be this marker. */
static void assert_marker(struct partition *p, int64_t offset, const struct who *w, bool commit)
{
    const uint8_t key[4] = {0, 0, 0, commit}, value[6] = {0};
    struct plog_read rd = {0};
    struct batch_iter it;
    struct record rec;
    struct buf scratch;

    buf_init(&scratch, 4096);
    assert_int_equal(plog_read(partition_log(p), offset, 1, &rd, NULL), ERR_OK);
    assert_int_equal(rd.n, 1);
    assert_int_equal(rd.batch[0].base_offset, offset);
    assert_int_equal(rd.batch[0].last_offset, offset);
    assert_int_equal(batch_validate(rd.batch[0].data, &scratch), ERR_OK);
    assert_int_equal(batch_iter_init(&it, rd.batch[0].data, &scratch), ERR_OK);
    assert_int_equal(it.info.attributes, BATCH_TRANSACTIONAL | BATCH_CONTROL);
    assert_int_equal(it.info.producer_id, w->id);
    assert_int_equal(it.info.producer_epoch, w->epoch);
    assert_int_equal(it.info.base_sequence, -1);
    assert_int_equal(it.info.count, 1);
    assert_int_equal(batch_iter_next(&it, &rec), ERR_OK);
    assert_true(slice_eq(rec.key, slice_of(key, sizeof key)));
    assert_true(slice_eq(rec.value, slice_of(value, sizeof value)));
    assert_int_equal(rec.headers_n, 0);
    assert_int_equal(batch_iter_next(&it, &rec), ERR_EOF);
    plog_read_release(&rd);
    buf_fini(&scratch);
}

static int64_t group_at(struct fx *f, const char *group, struct partition *p)
{
    struct group_offset o;

    return group_offset_get(f->b, slice_str(group), p, &o) ? -1 : o.offset;
}

static int64_t rows(struct fx *f, const char *table)
{
    struct sqlite3_stmt *st;
    struct sqlite3 *db;
    char path[128], sql[96];
    int64_t n;

    fx_checkpoint(f);
    snprintf(path, sizeof path, "%s/checkpoint.db", f->dir);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", table);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

/* ---- who may write ---- */

static void test_init(void **state)
{
    struct who w, old, stranger;
    struct one o;

    one_start(&o);
    w = t_new(&o.f, "x");
    assert_int_equal(w.epoch, 0);
    assert_int_equal(t_state(&o.f, "x"), TXN_EMPTY);
    assert_int_equal(t_state(&o.f, "y"), -1);
    old = w;
    assert_int_equal(t_init(&o.f, &w, false), ERR_OK); /* another process takes over */
    assert_int_equal(w.id, old.id);
    assert_int_equal(w.epoch, 1);
    assert_int_equal(t_begin(&o.f, &old), ERR_PRODUCER_FENCED);
    assert_int_equal(t_end(&o.f, &old, COMMIT, true), ERR_PRODUCER_FENCED);
    assert_int_equal(t_end(&o.f, &old, ABORT, true), ERR_PRODUCER_FENCED);
    assert_int_equal(t_offsets(&o.f, &old, true, "g", o.p, 1), ERR_PRODUCER_FENCED);
    assert_int_equal(t_init(&o.f, &old, true), ERR_PRODUCER_FENCED); /* not the new one's epoch */
    assert_int_equal(pr_put(&o.f, o.p, tb(old.id, old.epoch, 0, "x"), NULL), ERR_PRODUCER_EPOCH);
    stranger = (struct who){"x", w.id + 5, 0, 0};
    assert_int_equal(t_begin(&o.f, &stranger), ERR_PRODUCER_ID);
    stranger = (struct who){"unknown", w.id, w.epoch, 0};
    assert_int_equal(t_begin(&o.f, &stranger), ERR_PRODUCER_ID);
    assert_int_equal(t_end(&o.f, &stranger, ABORT, false), ERR_PRODUCER_ID);
    stranger = (struct who){"", 0, 0, 0};
    assert_int_equal(t_init(&o.f, &stranger, false), ERR_INVALID);
    stranger = (struct who){"z", 0, 0, LIMIT_TXN_TIMEOUT_MS + 1};
    assert_int_equal(t_init(&o.f, &stranger, false), ERR_TXN_TIMEOUT);
    assert_true(t_new(&o.f, "other").id > w.id);
    one_end(&o);
}

/* KIP-360: a producer goes on after an error of its own with the next epoch. */
static void test_init_own(void **state)
{
    struct who w, again, other;
    struct one o;

    one_start(&o);
    w = again = t_new(&o.f, "x");
    assert_int_equal(t_init(&o.f, &w, true), ERR_OK);
    assert_int_equal(w.epoch, 1);
    assert_int_equal(t_init(&o.f, &again, true), ERR_OK); /* the answer was lost */
    assert_int_equal(again.epoch, 1);
    assert_int_equal(again.id, w.id);
    t_put(&o.f, o.p, &w, 0, "a");
    again.epoch = 0;
    assert_int_equal(t_init(&o.f, &again, true), ERR_PRODUCER_FENCED);
    assert_int_equal(t_init(&o.f, &w, true), ERR_OK); /* aborts what it had open */
    assert_int_equal(w.epoch, 2);
    assert_seen(&o.f, "t", "");
    t_put(&o.f, o.p, &w, 0, "b");
    assert_int_equal(t_end(&o.f, &w, COMMIT, false), ERR_OK);
    assert_seen(&o.f, "t", "b ");
    other = again = w;
    assert_int_equal(t_init(&o.f, &other, false), ERR_OK);
    assert_int_equal(t_init(&o.f, &w, true), ERR_PRODUCER_FENCED);
    topic_unref(&o.t);
    fx_crash(&o.f);
    one_find(&o);
    assert_int_equal(t_init(&o.f, &again, true), ERR_PRODUCER_FENCED);
    assert_int_equal(t_init(&o.f, &other, true), ERR_OK);
    assert_int_equal(other.epoch, 4);
    one_end(&o);
}

static void test_takeover_aborts(void **state)
{
    struct txn_info ti;
    struct who w, old;
    struct one o;

    one_start(&o);
    w = old = t_new(&o.f, "x");
    t_put(&o.f, o.p, &old, 0, "lost");
    assert_int_equal(t_offsets(&o.f, &old, false, "g", o.q, 9), ERR_OK);
    w.timeout_ms = 5000;
    assert_int_equal(t_init(&o.f, &w, false), ERR_OK);
    assert_int_equal(w.epoch, 1);
    assert_marker(o.p, 1, &w, ABORT);
    assert_int_equal(txn_get(o.f.b, SLICE_LIT("x"), &ti, NULL, NULL), ERR_OK);
    assert_int_equal(ti.timeout_ms, 5000);
    assert_int_equal(ti.state, TXN_EMPTY);
    assert_int_equal(ti.started_ms, -1);
    assert_int_equal(ti.partitions_n, 0);
    assert_int_equal(group_at(&o.f, "g", o.q), -1);
    assert_int_equal(t_end(&o.f, &old, ABORT, true), ERR_PRODUCER_FENCED);
    assert_int_equal(t_end(&o.f, &old, COMMIT, true), ERR_PRODUCER_FENCED);
    assert_int_equal(pr_put(&o.f, o.p, tb(old.id, old.epoch, 1, "late"), NULL), ERR_PRODUCER_EPOCH);
    assert_seen(&o.f, "t", "");
    t_put(&o.f, o.p, &w, 0, "mine");
    assert_int_equal(t_end(&o.f, &w, COMMIT, false), ERR_OK);
    assert_seen(&o.f, "t", "mine ");
    one_end(&o);
}

/* Gives the transactional id the last epoch that there is. */
static void exhaust(struct fx *f, struct who *w)
{
    struct entry_txn e = {.producer_id = w->id,
                          .last_id = -1,
                          .last_epoch = -1,
                          .epoch = INT16_MAX - 1,
                          .state = TXN_EMPTY,
                          .timeout_ms = 60000,
                          .name = slice_str(w->name)};

    txn_apply(f->b, &e);
    w->epoch = INT16_MAX - 1;
}

static void test_epochs_used_up(void **state)
{
    struct who w, old, marker;
    enum restart how;
    struct one o;
    int i;

    for (how = 0; how < RESTARTS; how++)
        for (i = 0; i < 2; i++) { /* with a transaction, and without */
            one_start(&o);
            w = t_new(&o.f, "x");
            exhaust(&o.f, &w);
            old = w;
            if (i == 0) {
                t_put(&o.f, o.p, &w, 0, "a");
                assert_int_equal(t_end(&o.f, &w, COMMIT, true), ERR_OK);
                marker = (struct who){"x", old.id, INT16_MAX, 0};
                assert_marker(o.p, 1, &marker, COMMIT);
            } else {
                assert_int_equal(t_init(&o.f, &w, true), ERR_OK);
            }
            assert_true(w.id > old.id);
            assert_int_equal(w.epoch, 0);
            restart(&o, how);
            if (i == 0)
                assert_int_equal(t_end(&o.f, &old, COMMIT, true), ERR_OK); /* again */
            else
                assert_int_equal(t_init(&o.f, &old, true), ERR_OK);
            assert_int_equal(old.id, w.id);
            assert_int_equal(old.epoch, 0);
            assert_int_equal(pr_put(&o.f, o.p, tb(w.id - 1, INT16_MAX - 1, 1, "late"), NULL),
                             i == 0 ? ERR_PRODUCER_EPOCH : ERR_PRODUCER_ID);
            t_put(&o.f, o.p, &w, 0, "b");
            assert_int_equal(t_end(&o.f, &w, COMMIT, true), ERR_OK);
            assert_seen(&o.f, "t", i == 0 ? "a b " : "b ");
            one_end(&o);
        }
}

static void test_states(void **state)
{
    struct who w, v;
    struct one o;

    one_start(&o);
    w = t_new(&o.f, "x");
    v = t_new(&o.f, "y");
    assert_int_equal(t_put_begun(&o.f, o.p, &w, 0), ERR_TXN_STATE);
    assert_int_equal(t_end(&o.f, &w, COMMIT, false), ERR_TXN_STATE);
    assert_int_equal(t_end(&o.f, &w, ABORT, false), ERR_TXN_STATE);
    assert_int_equal(t_end(&o.f, &w, COMMIT, true), ERR_TXN_STATE);
    assert_int_equal(t_offsets(&o.f, &w, false, "g", o.p, 1), ERR_TXN_STATE);
    assert_int_equal(pr_end(o.p), 0);
    assert_int_equal(t_begin(&o.f, &w), ERR_OK);
    assert_int_equal(t_begin(&o.f, &w), ERR_OK); /* once more changes nothing */
    assert_int_equal(t_state(&o.f, "x"), TXN_ONGOING);
    assert_int_equal(t_put_begun(&o.f, o.p, &w, 0), ERR_OK);
    assert_refused(&o.f, o.p, ERR_TXN_STATE, w.id, w.epoch, 1, 1); /* not of its transaction */
    assert_put(&o.f, o.q, 0, w.id, w.epoch, 0, 1);
    assert_int_equal(t_end(&o.f, &w, COMMIT, false), ERR_OK);
    assert_int_equal(t_state(&o.f, "x"), TXN_COMMITTED);
    assert_int_equal(t_put_begun(&o.f, o.p, &w, 1), ERR_TXN_STATE);
    assert_int_equal(t_put_begun(&o.f, o.p, &v, 0), ERR_TXN_STATE);
    t_put(&o.f, o.p, &w, 1, "by itself");
    assert_int_equal(t_state(&o.f, "x"), TXN_ONGOING);
    assert_int_equal(t_end(&o.f, &w, ABORT, false), ERR_OK);
    assert_int_equal(t_state(&o.f, "x"), TXN_ABORTED);
    assert_int_equal(pr_put(&o.f, o.p, tb(4711, 0, 0, "unknown id"), NULL), ERR_PRODUCER_ID);
    one_end(&o);
}

/* ---- ends ---- */

static void each_part(void *arg, struct partition *p)
{
    *(int *)arg |= 1 << partition_index(p);
}

static void test_commit(void **state)
{
    struct txn_info ti;
    struct who w;
    struct one o;
    int parts = 0;

    one_start(&o);
    w = t_new(&o.f, "x");
    plain(&o, o.p, "before");
    assert_int_equal(partition_lso(o.p), 1);
    t_put(&o.f, o.p, &w, 0, "a");
    t_put(&o.f, o.p, &w, 1, "b");
    plain(&o, o.p, "between");
    t_put(&o.f, o.q, &w, 0, "c");
    assert_int_equal(partition_lso(o.p), 1);
    assert_int_equal(partition_lso(o.q), 0);
    assert_seen(&o.f, "t", "before ");
    assert_int_equal(txn_get(o.f.b, SLICE_LIT("x"), &ti, each_part, &parts), ERR_OK);
    assert_int_equal(ti.partitions_n, 2);
    assert_int_equal(parts, 3);
    assert_true(ti.started_ms > 0);
    assert_int_equal(t_end(&o.f, &w, COMMIT, false), ERR_OK);
    assert_int_equal(w.epoch, 0);
    assert_marker(o.p, 4, &w, COMMIT);
    assert_marker(o.q, 1, &w, COMMIT);
    assert_int_equal(partition_lso(o.p), 5);
    assert_int_equal(partition_lso(o.q), 2);
    assert_int_equal(partition_aborted(o.p, 0, 100, NULL, 0), 0);
    assert_seen(&o.f, "t", "before a b between c ");
    t_put(&o.f, o.p, &w, 2, "d"); /* sequences go on */
    assert_int_equal(pr_put(&o.f, o.p, tb(w.id, w.epoch, 4, "gap"), NULL), ERR_SEQUENCE_ORDER);
    assert_int_equal(t_end(&o.f, &w, COMMIT, false), ERR_OK);
    assert_int_equal(pr_end(o.q), 2); /* no marker where nothing was written */
    one_end(&o);
}

static void test_abort(void **state)
{
    struct aborted_txn at[8];
    struct who w, v;
    struct one o;

    one_start(&o);
    w = t_new(&o.f, "x");
    v = t_new(&o.f, "y");
    t_put(&o.f, o.p, &w, 0, "lost"); /* 0 */
    t_put(&o.f, o.p, &v, 0, "kept"); /* 1 */
    plain(&o, o.p, "plain");         /* 2 */
    t_put(&o.f, o.p, &w, 1, "lost"); /* 3 */
    assert_int_equal(t_end(&o.f, &w, ABORT, false), ERR_OK);
    assert_marker(o.p, 4, &w, ABORT);
    assert_int_equal(partition_lso(o.p), 1); /* v's is still open */
    assert_seen(&o.f, "t", "");
    assert_int_equal(t_end(&o.f, &v, COMMIT, false), ERR_OK); /* 5 */
    assert_int_equal(partition_lso(o.p), 6);
    assert_seen(&o.f, "t", "kept plain ");
    t_put(&o.f, o.p, &w, 2, "kept");                          /* 6 */
    t_put(&o.f, o.p, &v, 1, "lost");                          /* 7 */
    assert_int_equal(t_end(&o.f, &v, ABORT, false), ERR_OK);  /* 8 */
    assert_int_equal(t_end(&o.f, &w, COMMIT, false), ERR_OK); /* 9 */
    assert_seen(&o.f, "t", "kept plain kept ");
    assert_int_equal(partition_aborted(o.p, 0, 10, at, 8), 2);
    assert_int_equal(at[0].producer_id, w.id);
    assert_int_equal(at[0].first_offset, 0);
    assert_int_equal(at[1].producer_id, v.id);
    assert_int_equal(at[1].first_offset, 7);
    assert_int_equal(partition_aborted(o.p, 4, 10, at, 8), 2); /* its marker is in there */
    assert_int_equal(partition_aborted(o.p, 5, 10, at, 8), 1);
    assert_int_equal(at[0].producer_id, v.id);
    assert_int_equal(partition_aborted(o.p, 0, 7, at, 8), 1);
    assert_int_equal(partition_aborted(o.p, 9, 10, at, 8), 0);
    assert_int_equal(partition_aborted(o.p, 0, 10, at, 1), 1);
    assert_int_equal(partition_aborted(o.q, 0, 10, at, 8), 0);
    pr_metric(&o.f, "weir_transactions_committed_total 2");
    pr_metric(&o.f, "weir_transactions_aborted_total 2");
    one_end(&o);
}

/* The answer was lost and the end is asked for again: the same answer, nothing is written. */
static void repeated(bool commit)
{
    struct who w, before;
    struct one o;

    one_start(&o);
    w = t_new(&o.f, "x");
    t_put(&o.f, o.p, &w, 0, "a");
    assert_int_equal(t_end(&o.f, &w, commit, false), ERR_OK);
    assert_int_equal(t_end(&o.f, &w, commit, false), ERR_OK);
    assert_int_equal(t_end(&o.f, &w, !commit, false), ERR_TXN_STATE);
    t_put(&o.f, o.p, &w, 1, "b");
    before = w;
    assert_int_equal(t_end(&o.f, &w, commit, true), ERR_OK);
    assert_int_equal(w.epoch, before.epoch + 1);
    w = before;
    assert_int_equal(t_end(&o.f, &w, !commit, true), ERR_PRODUCER_FENCED);
    assert_int_equal(t_end(&o.f, &w, commit, true), ERR_OK);
    assert_int_equal(w.epoch, before.epoch + 1);
    assert_int_equal(pr_end(o.p), 4);
    restart(&o, REPLAY);
    w = before;
    assert_int_equal(t_end(&o.f, &w, commit, true), ERR_OK);
    assert_int_equal(w.epoch, before.epoch + 1);
    t_put(&o.f, o.p, &w, 0, "c"); /* the next one is open: too late to repeat */
    assert_int_equal(t_end(&o.f, &before, commit, true), ERR_PRODUCER_FENCED);
    assert_int_equal(t_end(&o.f, &w, ABORT, true), ERR_OK);
    assert_int_equal(pr_end(o.p), 6);
    one_end(&o);
}

static void test_end_repeated(void **state)
{
    repeated(ABORT);
    repeated(COMMIT);
}

/* KIP-890: each end has a new epoch, so that nothing that is late gets into the next one. */
static void test_raise(void **state)
{
    struct who w, old;
    struct one o;

    one_start(&o);
    w = t_new(&o.f, "x");
    t_put(&o.f, o.p, &w, 0, "a");
    t_put(&o.f, o.q, &w, 0, "b");
    assert_int_equal(t_end(&o.f, &w, COMMIT, true), ERR_OK);
    old = w;
    assert_int_equal(w.epoch, 1);
    assert_marker(o.p, 1, &w, COMMIT);
    t_put(&o.f, o.p, &w, 0, "c"); /* a new epoch begins at 0 */
    assert_int_equal(t_end(&o.f, &w, ABORT, true), ERR_OK);
    assert_int_equal(w.epoch, 2);
    assert_int_equal(pr_put(&o.f, o.p, tb(old.id, old.epoch, 1, "late"), NULL), ERR_PRODUCER_EPOCH);
    assert_int_equal(pr_put(&o.f, o.q, tb(old.id, old.epoch, 0, "late"), NULL),
                     ERR_PRODUCER_EPOCH); /* no marker was there, and yet */
    assert_int_equal(pr_put(&o.f, o.p, tb(w.id, w.epoch, 1, "no"), NULL), ERR_SEQUENCE_ORDER);
    old = w;
    assert_int_equal(t_end(&o.f, &w, ABORT, true), ERR_OK); /* to be sure: nothing is open */
    assert_int_equal(w.epoch, 3);
    assert_int_equal(pr_put(&o.f, o.q, tb(old.id, old.epoch, 0, "late"), NULL), ERR_PRODUCER_EPOCH);
    old = w;
    assert_int_equal(t_end(&o.f, &w, ABORT, true), ERR_OK); /* and again: not a repetition */
    assert_int_equal(w.epoch, 4);
    assert_int_equal(t_end(&o.f, &old, ABORT, true), ERR_OK); /* that one is */
    assert_int_equal(old.epoch, 4);
    assert_int_equal(t_state(&o.f, "x"), TXN_ABORTED);
    assert_seen(&o.f, "t", "a b ");
    one_end(&o);
}

/* While it is being ended nothing gets in; offsets on their way are no obstacle. */
static void test_concurrent(void **state)
{
    struct txn_commit_offset off = {NULL, 3, SLICE_NULL};
    struct res r = {0}, offs = {0};
    struct txn_info ti;
    struct sent in, late;
    struct who w;
    struct one o;

    one_start(&o);
    w = t_new(&o.f, "x");
    off.p = o.q;
    t_put(&o.f, o.p, &w, 0, "a");
    assert_int_equal(txn_offsets(o.f.b, SLICE_LIT("x"), w.id, w.epoch, true, SLICE_LIT("g"), &off,
                                 1, res_note, &offs, NULL),
                     ERR_OK);
    pr_send(&o.f, &in, o.p, tb(w.id, w.epoch, 1, "b"));
    assert_int_equal(t_end(&o.f, &w, COMMIT, true), ERR_TXN_CONCURRENT); /* offs is busy */
    broker_step(o.f.b);
    assert_int_equal(offs.calls, 1);
    assert_int_equal(pr_place(&in, 0, NULL), ERR_OK);
    pr_free(&in);
    pr_send(&o.f, &in, o.q, tb(w.id, w.epoch, 0, "c")); /* sequenced before the end: in it */
    assert_int_equal(
        txn_end(o.f.b, SLICE_LIT("x"), w.id, w.epoch, COMMIT, false, res_note, &r, NULL), ERR_OK);
    pr_send(&o.f, &late, o.p, tb(w.id, w.epoch, 2, "d"));
    assert_int_equal(txn_get(o.f.b, SLICE_LIT("x"), &ti, NULL, NULL), ERR_OK);
    assert_true(ti.ending);
    assert_int_equal(t_begin(&o.f, &w), ERR_TXN_CONCURRENT);
    assert_int_equal(t_end(&o.f, &w, COMMIT, false), ERR_TXN_CONCURRENT);
    assert_int_equal(t_init(&o.f, &w, true), ERR_TXN_CONCURRENT);
    assert_int_equal(t_offsets(&o.f, &w, true, "g", o.p, 1), ERR_TXN_CONCURRENT);
    while (late.calls == 0 || r.calls == 0)
        broker_step(o.f.b);
    assert_int_equal(r.e, ERR_OK);
    assert_int_equal(pr_place(&in, 0, NULL), ERR_OK);
    assert_int_equal(pr_place(&late, 0, NULL), ERR_TXN_CONCURRENT);
    pr_free(&in);
    pr_free(&late);
    assert_seen(&o.f, "t", "a b c ");
    assert_int_equal(group_at(&o.f, "g", o.q), 3);
    t_put(&o.f, o.p, &w, 2, "d"); /* again: into the next */
    assert_int_equal(t_end(&o.f, &w, COMMIT, false), ERR_OK);
    assert_seen(&o.f, "t", "a b c d ");
    one_end(&o);
}

/* ---- offsets ---- */

static void test_offsets(void **state)
{
    char text[LIMIT_GROUP_METADATA];
    struct group_offset go;
    struct who w;
    enum restart how;
    struct one o;

    for (how = 0; how < RESTARTS; how++) {
        one_start(&o);
        w = t_new(&o.f, "x");
        assert_int_equal(group_commit_wait(o.f.b, SLICE_LIT("g"), o.p, 1, SLICE_NULL, NULL),
                         ERR_OK);
        assert_int_equal(t_offsets(&o.f, &w, true, "g", o.p, 5), ERR_OK);
        assert_int_equal(t_offsets(&o.f, &w, false, "g", o.p, 7), ERR_OK); /* in its place */
        assert_int_equal(t_offsets(&o.f, &w, false, "g", o.q, 2), ERR_OK);
        assert_int_equal(t_offsets(&o.f, &w, false, "h", o.p, 4), ERR_OK);
        assert_int_equal(group_at(&o.f, "g", o.p), 1);
        assert_int_equal(group_at(&o.f, "h", o.p), -1);
        assert_true(group_offset_pending(o.f.b, SLICE_LIT("g"), o.p));
        assert_true(group_offset_pending(o.f.b, SLICE_LIT("g"), o.q));
        assert_true(group_offset_pending(o.f.b, SLICE_LIT("h"), o.p));
        assert_false(group_offset_pending(o.f.b, SLICE_LIT("h"), o.q));
        restart(&o, how);
        assert_true(group_offset_pending(o.f.b, SLICE_LIT("g"), o.p));
        assert_false(group_offset_pending(o.f.b, SLICE_LIT("h"), o.q));
        assert_int_equal(group_at(&o.f, "g", o.p), 1);
        assert_int_equal(t_end(&o.f, &w, COMMIT, how == CLOSE), ERR_OK);
        assert_false(group_offset_pending(o.f.b, SLICE_LIT("g"), o.p));
        assert_int_equal(group_offset_get_full(o.f.b, SLICE_LIT("g"), o.p, &go, text), ERR_OK);
        assert_int_equal(go.offset, 7);
        assert_true(slice_eq_str(go.metadata, "meta"));
        assert_int_equal(t_offsets(&o.f, &w, true, "g", o.q, 9), ERR_OK);
        assert_int_equal(t_end(&o.f, &w, ABORT, how == CLOSE), ERR_OK);
        restart(&o, how);
        assert_int_equal(group_at(&o.f, "g", o.p), 7);
        assert_int_equal(group_at(&o.f, "g", o.q), 2);
        assert_int_equal(group_at(&o.f, "h", o.p), 4);
        assert_false(group_offset_pending(o.f.b, SLICE_LIT("g"), o.q));
        assert_int_equal(rows(&o.f, "txn_offsets"), 0);
        assert_int_equal(rows(&o.f, "transactions"), 1);
        one_end(&o);
    }
}

/* An offset is pending as long as any transaction has one for the same place, whatever became of
 * the others; the counts are right after a restart, and bounded. */
static void test_offsets_pending(void **state)
{
    struct producers *ps;
    struct who x, y, z;
    enum restart how;
    struct one o;

    for (how = 0; how < RESTARTS; how++) {
        one_start(&o);
        x = t_new(&o.f, "x");
        y = t_new(&o.f, "y");
        z = t_new(&o.f, "z");
        assert_int_equal(t_offsets(&o.f, &x, true, "g", o.p, 5), ERR_OK);
        assert_int_equal(t_offsets(&o.f, &x, false, "g", o.p, 6), ERR_OK);
        assert_int_equal(t_offsets(&o.f, &y, true, "g", o.p, 7), ERR_OK);
        assert_int_equal(t_offsets(&o.f, &z, true, "g", o.q, 8), ERR_OK);
        restart(&o, how);
        ps = &o.f.b->producers;
        assert_int_equal(ps->pending_n, 3);
        assert_int_equal(ps->pending.n, 2);
        assert_int_equal(t_end(&o.f, &x, COMMIT, false), ERR_OK);
        assert_true(group_offset_pending(o.f.b, SLICE_LIT("g"), o.p));
        assert_int_equal(t_end(&o.f, &z, ABORT, false), ERR_OK);
        assert_true(group_offset_pending(o.f.b, SLICE_LIT("g"), o.p));
        assert_false(group_offset_pending(o.f.b, SLICE_LIT("g"), o.q));
        assert_int_equal(t_end(&o.f, &y, ABORT, false), ERR_OK);
        assert_false(group_offset_pending(o.f.b, SLICE_LIT("g"), o.p));
        assert_int_equal(ps->pending_n, 0);
        assert_int_equal(ps->pending.n, 0);
        assert_int_equal(ps->pending_bytes, 0);
        ps->pending_n = LIMIT_TXN_OFFSETS_ALL;
        assert_int_equal(t_offsets(&o.f, &x, true, "g", o.p, 9), ERR_LIMIT);
        ps->pending_n = 0;
        ps->pending_bytes = LIMIT_TXN_OFFSET_BYTES;
        assert_int_equal(t_offsets(&o.f, &x, true, "g", o.p, 9), ERR_LIMIT);
        ps->pending_bytes = 0;
        assert_int_equal(t_offsets(&o.f, &x, true, "g", o.p, 9), ERR_OK);
        one_end(&o);
    }
}

/* What cannot be ended in one unit is not taken in. */
static void test_limits(void **state)
{
    struct topic *many;
    struct txn_info ti;
    struct who w;
    struct one o;
    char group[201];
    enum err e = ERR_OK;
    int i, parts = 0, offsets = 0;

    one_start_full(&o); /* small files, so a unit is small */
    many = fx_topic(&o.f, "many", 1000);
    w = t_new(&o.f, "x");
    for (i = 0; i < 1000 && !e; i++)
        if (!(e = pr_put(&o.f, topic_partition(many, i), tb(w.id, w.epoch, 0, "v"), NULL)))
            parts++;
    assert_int_equal(e, ERR_LIMIT);
    assert_true(parts > 100);
    t_put(&o.f, topic_partition(many, 0), &w, 1, "v"); /* where it is already there is room */
    assert_int_equal(t_end(&o.f, &w, COMMIT, true), ERR_OK);
    for (e = ERR_OK, i = 0; i < 1000 && !e; i++) {
        memset(group, 'g', 200);
        snprintf(group + 190, 11, "%010u", (unsigned)i % 1000);
        if (!(e = t_offsets(&o.f, &w, true, group, o.p, i)))
            offsets++;
    }
    assert_int_equal(e, ERR_LIMIT);
    assert_true(offsets > 50);
    memset(group, 'g', 200);
    snprintf(group + 190, 11, "%010d", 7);
    assert_int_equal(t_offsets(&o.f, &w, false, group, o.p, 1000), ERR_OK); /* in its place */
    assert_int_equal(t_end(&o.f, &w, COMMIT, true), ERR_OK);
    assert_int_equal(group_at(&o.f, group, o.p), 1000);
    assert_int_equal(txn_get(o.f.b, SLICE_LIT("x"), &ti, NULL, NULL), ERR_OK);
    assert_int_equal(ti.state, TXN_COMMITTED);
    topic_unref(&many);
    one_end(&o);
}

/* ---- time ---- */

static void wait_ended(struct fx *f, const char *name)
{
    struct txn_info ti;

    do
        broker_step(f->b);
    while (!txn_get(f->b, slice_str(name), &ti, NULL, NULL) && ti.ending);
}

static void test_timeout(void **state)
{
    int64_t now = io_wall_ms(io_real());
    struct who w, v, old;
    struct one o;

    one_start(&o);
    w = (struct who){"x", -1, -1, 10000};
    assert_int_equal(t_init(&o.f, &w, false), ERR_OK);
    v = t_new(&o.f, "y");
    t_put(&o.f, o.p, &w, 0, "late");
    t_put(&o.f, o.p, &v, 0, "in time");
    assert_int_equal(t_offsets(&o.f, &w, false, "g", o.p, 5), ERR_OK);
    txns_tick(o.f.b, now + 9000);
    wait_ended(&o.f, "x");
    assert_int_equal(t_state(&o.f, "x"), TXN_ONGOING);
    txns_tick(o.f.b, now + 12000);
    assert_int_equal(pr_put(&o.f, o.p, tb(w.id, w.epoch, 1, "late"), NULL), ERR_TXN_CONCURRENT);
    wait_ended(&o.f, "x");
    assert_int_equal(pr_put(&o.f, o.p, tb(w.id, w.epoch, 1, "late"), NULL), ERR_PRODUCER_EPOCH);
    assert_int_equal(t_state(&o.f, "x"), TXN_ABORTED);
    assert_int_equal(t_state(&o.f, "y"), TXN_ONGOING);
    /* whose it was learns that its records are gone, and goes on once it says that it knows */
    assert_int_equal(t_end(&o.f, &w, COMMIT, true), ERR_PRODUCER_FENCED);
    assert_int_equal(t_end(&o.f, &w, ABORT, false), ERR_PRODUCER_FENCED);
    assert_int_equal(t_begin(&o.f, &w), ERR_PRODUCER_FENCED);
    old = w;
    assert_int_equal(t_end(&o.f, &old, ABORT, true), ERR_OK);
    assert_int_equal(old.epoch, w.epoch + 1);
    old = w;
    assert_int_equal(t_init(&o.f, &old, true), ERR_OK);
    assert_int_equal(old.epoch, w.epoch + 1);
    assert_int_equal(t_end(&o.f, &v, COMMIT, true), ERR_OK);
    assert_seen(&o.f, "t", "in time ");
    assert_int_equal(group_at(&o.f, "g", o.p), -1);
    old = w;
    assert_int_equal(t_init(&o.f, &w, false), ERR_OK);
    assert_int_equal(t_init(&o.f, &old, true), ERR_PRODUCER_FENCED); /* another has it now */
    t_put(&o.f, o.p, &w, 0, "anew");
    assert_int_equal(t_end(&o.f, &w, COMMIT, true), ERR_OK);
    assert_seen(&o.f, "t", "in time anew ");
    one_end(&o);
}

static void test_id_expiry(void **state)
{
    int64_t week = 7ll * 24 * 3600 * 1000, now = io_wall_ms(io_real());
    enum restart how;
    struct who w, v;
    struct one o;
    int64_t id;

    for (how = 0; how < RESTARTS; how++) {
        one_start(&o);
        w = t_new(&o.f, "x");
        v = (struct who){"open", -1, -1, LIMIT_TXN_TIMEOUT_MS};
        assert_int_equal(t_init(&o.f, &v, false), ERR_OK);
        id = w.id;
        if (how == CHECKPOINT)
            assert_int_equal(rows(&o.f, "transactions"), 2);
        txns_tick(o.f.b, now + week - 60000);
        broker_step(o.f.b);
        assert_int_equal(t_state(&o.f, "x"), TXN_EMPTY);
        t_put(&o.f, o.p, &v, 0, "a");
        txns_tick(o.f.b, now + week + 60000);
        broker_step(o.f.b);
        assert_int_equal(t_state(&o.f, "x"), -1);
        assert_int_equal(t_begin(&o.f, &w), ERR_PRODUCER_ID);
        assert_int_equal(pr_put(&o.f, o.p, tb(w.id, w.epoch, 0, "a"), NULL), ERR_PRODUCER_ID);
        restart(&o, how);
        assert_int_equal(t_state(&o.f, "x"), -1);
        assert_int_equal(t_state(&o.f, "open"), TXN_ABORTED); /* it took too long, no more */
        assert_int_equal(rows(&o.f, "transactions"), 1);
        w = t_new(&o.f, "x");
        assert_true(w.id > id);
        one_end(&o);
    }
}

/* A transactional id is forgotten while a checkpoint is made that fails, and comes back. */
static void test_forgotten_and_back(void **state)
{
    struct errinfo info = {0};
    struct sqlite3_stmt *st;
    struct sqlite3 *db;
    struct who w;
    struct one o;

    one_start(&o);
    t_new(&o.f, "x");
    fx_checkpoint(&o.f);
    txns_tick(o.f.b, INT64_MAX);
    broker_step(o.f.b);
    assert_int_equal(t_state(&o.f, "x"), -1);
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(state_tables_make(db, &info), ERR_OK);
    assert_int_equal(producers_save(o.f.b, db, &info), ERR_OK);
    w = t_new(&o.f, "x");
    producers_saved(o.f.b, false);
    assert_int_equal(producers_save(o.f.b, db, &info), ERR_OK);
    producers_saved(o.f.b, true);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT producer_id FROM transactions", -1, &st, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int64(st, 0), w.id);
    sqlite3_finalize(st);
    sqlite3_close(db);
    one_end(&o);
}

/* ---- restarts, deleted topics, full disks ---- */

static void middle(enum restart how, bool commit, bool raise)
{
    struct aborted_txn at[4];
    struct who w;
    struct one o;

    one_start(&o);
    w = t_new(&o.f, "x");
    plain(&o, o.p, "p");
    t_put(&o.f, o.p, &w, 0, "a");
    t_put(&o.f, o.p, &w, 1, "b");
    t_put(&o.f, o.q, &w, 0, "c");
    restart(&o, how);
    assert_int_equal(t_state(&o.f, "x"), TXN_ONGOING);
    assert_int_equal(partition_lso(o.p), 1);
    assert_int_equal(partition_lso(o.q), 0);
    assert_seen(&o.f, "t", "p ");
    assert_int_equal(pr_put(&o.f, o.p, tb(w.id, w.epoch, 1, "b"), NULL), ERR_OK); /* again */
    assert_int_equal(pr_end(o.p), 3);
    t_put(&o.f, o.p, &w, 2, "d");
    restart(&o, how); /* once more, with some of it from before */
    assert_int_equal(partition_lso(o.p), 1);
    plain(&o, o.q, "q");
    assert_seen(&o.f, "t", "p ");
    assert_int_equal(t_end(&o.f, &w, commit, raise), ERR_OK);
    assert_marker(o.p, 4, &w, commit);
    assert_marker(o.q, 2, &w, commit);
    assert_seen(&o.f, "t", commit ? "p a b c d q " : "p q ");
    restart(&o, how);
    assert_seen(&o.f, "t", commit ? "p a b c d q " : "p q ");
    assert_int_equal(t_state(&o.f, "x"), commit ? TXN_COMMITTED : TXN_ABORTED);
    assert_int_equal(partition_lso(o.p), 5);
    assert_int_equal(partition_aborted(o.p, 0, 5, at, 4), commit ? 0 : 1);
    t_put(&o.f, o.p, &w, raise ? 0 : 3, "e");
    assert_int_equal(t_end(&o.f, &w, COMMIT, raise), ERR_OK);
    assert_seen(&o.f, "t", commit ? "p a b c d q e " : "p q e ");
    one_end(&o);
}

static void test_restart(void **state)
{
    enum restart how;
    int i;

    for (how = 0; how < RESTARTS; how++)
        for (i = 0; i < 4; i++)
            middle(how, i & 1, i & 2);
}

static void test_topic_deleted(void **state)
{
    struct reader *all;
    struct topic *u;
    struct who w;
    struct one o;
    enum restart how;

    for (how = 0; how < RESTARTS; how++) {
        one_start(&o);
        u = fx_topic(&o.f, "u", 1);
        w = t_new(&o.f, "x");
        all = fx_reader(&o.f, "*", READ_FROM_START, 0);
        plain(&o, o.p, "p");
        t_put(&o.f, topic_partition(u, 0), &w, 0, "gone");
        plain(&o, o.p, "q");
        assert_next(all, "p");
        assert_drained(all);
        assert_int_equal(topic_delete_wait(o.f.b, SLICE_LIT("u"), NULL), ERR_OK);
        assert_next(all, "q"); /* nothing of u is to come */
        assert_drained(all);
        reader_close(&all);
        t_put(&o.f, o.p, &w, 0, "a");
        topic_unref(&u);
        restart(&o, how);
        assert_int_equal(t_end(&o.f, &w, COMMIT, false), ERR_OK);
        assert_seen(&o.f, "*", "p q a ");
        producers_tick(o.f.b, io_wall_ms(io_real()));
        t_put(&o.f, o.p, &w, 1, "b");
        assert_int_equal(t_end(&o.f, &w, ABORT, false), ERR_OK);
        assert_seen(&o.f, "*", "p q a ");
        assert_int_equal(rows(&o.f, "producers"), 1);
        assert_int_equal(rows(&o.f, "txn_aborted"), 1);
        topic_unref(&o.t);
        assert_int_equal(topic_delete_wait(o.f.b, SLICE_LIT("t"), NULL), ERR_OK);
        producers_tick(o.f.b, io_wall_ms(io_real()));
        rows(&o.f, "producers"); /* lets the topic go */
        assert_int_equal(rows(&o.f, "txn_aborted"), 0);
        assert_int_equal(rows(&o.f, "producers"), 0);
        fx_end(&o.f);
    }
}

static void test_full_disk(void **state)
{
    static char big[50000];
    struct sent filler, lost;
    struct res r = {0};
    struct who w, v;
    struct one o;

    one_start_full(&o);
    w = t_new(&o.f, "x");
    v = t_new(&o.f, "y");
    memset(big, 'x', sizeof big - 1);
    t_put(&o.f, o.p, &w, 0, "a");
    pr_fill(&o.f);
    pr_no_room = true;
    pr_send(&o.f, &filler, o.p, with(pb(9, 0, 0, 1), big));
    pr_send(&o.f, &lost, o.q, tb(v.id, v.epoch, 0, "b"));
    assert_int_equal(partition_lso(o.q), 0);
    assert_int_equal(
        txn_end(o.f.b, SLICE_LIT("x"), w.id, w.epoch, COMMIT, true, res_note, &r, NULL), ERR_OK);
    while (r.calls == 0)
        broker_step(o.f.b);
    assert_int_equal(r.e, ERR_NO_SPACE);
    assert_int_equal(lost.e, ERR_NO_SPACE);
    pr_free(&filler);
    pr_free(&lost);
    assert_int_equal(t_state(&o.f, "x"), TXN_ONGOING);
    assert_int_equal(partition_unstable(o.p), 0);
    assert_int_equal(partition_unstable(o.q), INT64_MAX); /* nothing of v is there */
    pr_room_again(&o.f);
    plain(&o, o.q, "p");
    assert_seen(&o.f, "t", "");
    assert_int_equal(t_end(&o.f, &w, COMMIT, true), ERR_OK); /* with the epoch that it had */
    assert_int_equal(w.epoch, 1);
    assert_seen(&o.f, "t", "a p ");
    t_put(&o.f, o.q, &v, 0, "b");
    assert_int_equal(t_end(&o.f, &v, COMMIT, true), ERR_OK);
    restart(&o, REPLAY);
    assert_seen(&o.f, "t", "a p b ");
    assert_int_equal(pr_end(o.q), 3);
    one_end(&o);
}

/* Deleted records: the last stable offset does not stay behind, and what was aborted below the
 * log's start is not kept. */
static void test_trimmed(void **state)
{
    struct aborted_txn at[4];
    struct who w;
    struct one o;

    one_start(&o);
    w = t_new(&o.f, "x");
    t_put(&o.f, o.p, &w, 0, "a");
    assert_int_equal(t_end(&o.f, &w, ABORT, false), ERR_OK);
    t_put(&o.f, o.p, &w, 1, "b");
    assert_int_equal(t_end(&o.f, &w, ABORT, false), ERR_OK);
    t_put(&o.f, o.p, &w, 2, "c"); /* offset 4 */
    plain(&o, o.p, "p");
    assert_int_equal(rows(&o.f, "txn_aborted"), 2);
    assert_int_equal(partition_trim_wait(o.p, 2, NULL), ERR_OK);
    producers_tick(o.f.b, io_wall_ms(io_real()));
    assert_int_equal(rows(&o.f, "txn_aborted"), 1);
    assert_int_equal(partition_aborted(o.p, 0, 10, at, 4), 1);
    assert_int_equal(partition_lso(o.p), 4);
    assert_int_equal(partition_trim_wait(o.p, 5, NULL), ERR_OK);
    assert_int_equal(partition_lso(o.p), 5);
    restart(&o, REPLAY);
    producers_tick(o.f.b, io_wall_ms(io_real()));
    assert_int_equal(partition_aborted(o.p, 0, 10, at, 4), 0);
    assert_int_equal(partition_lso(o.p), 5);
    assert_seen(&o.f, "t", "");
    assert_int_equal(t_end(&o.f, &w, COMMIT, false), ERR_OK);
    assert_seen(&o.f, "t", "p ");
    one_end(&o);
}

/* ---- readers ---- */

/* A reader has looked at records that are not decided yet: what it gives out is decided later. */
static void test_reader_undecided(void **state)
{
    struct reader *r, *all;
    struct topic *u;
    struct who w;
    struct one o;

    one_start(&o);
    u = fx_topic(&o.f, "u", 1);
    w = t_new(&o.f, "x");
    r = fx_reader(&o.f, "t", READ_FROM_START, 0);
    all = fx_reader(&o.f, "*", READ_FROM_START, 0);
    plain(&o, o.p, "1");
    plain(&o, o.q, "1b"); /* so that the other partition is looked at for what is next */
    t_put(&o.f, o.p, &w, 0, "aborted");
    plain(&o, o.q, "2");
    fx_put(&o.f, u, 0, NULL, "3", NULL);
    assert_seen(&o.f, "u", "3 "); /* no transaction is open in that one */
    assert_next(r, "1");
    assert_next(r, "1b");
    assert_drained(r);
    assert_drained(r);
    assert_next(all, "1");
    assert_next(all, "1b");
    assert_drained(all); /* in order of position: 2 and 3 wait */
    plain(&o, o.p, "4");
    assert_drained(r);
    assert_int_equal(t_end(&o.f, &w, ABORT, false), ERR_OK);
    assert_next(r, "2");
    assert_next(r, "4");
    assert_drained(r);
    assert_next(all, "2");
    assert_next(all, "3");
    assert_next(all, "4");
    assert_drained(all);
    t_put(&o.f, o.p, &w, 1, "5");
    t_put(&o.f, o.q, &w, 0, "6");
    plain(&o, o.p, "7");
    assert_drained(r);
    assert_drained(all);
    assert_int_equal(t_end(&o.f, &w, COMMIT, false), ERR_OK);
    assert_next(r, "5");
    assert_next(r, "6");
    assert_next(r, "7");
    assert_drained(r);
    assert_next(all, "5");
    assert_next(all, "6");
    assert_next(all, "7");
    assert_drained(all);
    reader_close(&r);
    reader_close(&all);
    topic_unref(&u);
    one_end(&o);
}

/* From the end: what is undecided is still to come, what could be read before is not. */
static void test_reader_end(void **state)
{
    struct reader_conf rc = {.selector = SLICE_LIT("t"), .from = READ_FROM_END};
    struct reader *r, *other;
    struct who w;
    struct one o;

    one_start(&o);
    w = t_new(&o.f, "x");
    plain(&o, o.p, "before");
    t_put(&o.f, o.p, &w, 0, "open");
    plain(&o, o.q, "read already");
    r = fx_reader(&o.f, "t", READ_FROM_END, 0);
    rc.partition = 1; /* no transaction is open there */
    assert_int_equal(reader_open(o.f.b, &rc, &other, NULL), ERR_OK);
    assert_drained(r);
    assert_drained(other);
    plain(&o, o.q, "next");
    assert_next(other, "next");
    assert_drained(r);
    assert_int_equal(t_end(&o.f, &w, COMMIT, false), ERR_OK);
    assert_next(r, "open");
    assert_next(r, "read already");
    assert_next(r, "next");
    assert_drained(r);
    assert_drained(other);
    reader_close(&r);
    reader_close(&other);
    one_end(&o);
}

/* Reads whenever it is woken, and waits again. */
struct wake {
    struct waiter w; /* first */
    struct reader *r;
    int calls, got;
};

static void wake_note(struct waiter *w)
{
    struct wake *k = (struct wake *)w;
    struct reader_record rec;

    k->calls++;
    do
        while (!reader_next(k->r, &rec, NULL))
            k->got++;
    while (!reader_wait(k->r, w));
}

static void test_reader_wakes(void **state)
{
    struct wake k = {.w.wake = wake_note};
    const char *selectors[] = {"t", "*"};
    struct who w;
    struct one o;
    int i, commit, calls;

    one_start(&o);
    w = t_new(&o.f, "x");
    for (i = 0; i < 2; i++)
        for (commit = 0; commit < 2; commit++) {
            k.r = fx_reader(&o.f, selectors[i], READ_FROM_END, 0);
            k.got = 0;
            assert_drained(k.r);
            assert_true(reader_wait(k.r, &k.w));
            t_put(&o.f, o.p, &w, i * 2 + commit, "a");
            assert_int_equal(k.got, 0);
            calls = k.calls;
            assert_int_equal(t_end(&o.f, &w, commit, false), ERR_OK);
            assert_true(k.calls > calls);
            assert_int_equal(k.got, commit);
            waiter_cancel(&k.w);
            reader_close(&k.r);
        }
    one_end(&o);
}

/* The number that a record's value is. */
static int number_of(struct slice s)
{
    int n = 0;
    size_t i;

    for (i = 0; i < s.len; i++)
        n = n * 10 + s.ptr[i] - '0';
    return n;
}

/* ---- many of them, at random, against what must be seen ---- */

#define M_RECORDS 3000
#define M_WHO     4
#define M_READERS 4
#define M_STEPS   3000

enum fate { OPEN, IN, OUT };

struct model {
    struct one o;
    struct topic *u;
    uint64_t rng;
    int n;
    enum fate fate[M_RECORDS];
    int whose[M_RECORDS]; /* producer of its transaction */
    bool in_p0[M_RECORDS], in_t[M_RECORDS];
    struct who w[M_WHO];
    int32_t sequence[M_WHO][4];
    bool open[M_WHO];
    struct reader *r[M_READERS];
    uint64_t resume[M_READERS], last[M_READERS];
    uint8_t seen[M_READERS][M_RECORDS];
};

static uint64_t rnd(struct model *m, uint64_t n)
{
    return rng_next(&m->rng) % n;
}

static struct partition *m_partition(struct model *m, int i)
{
    return i < 3 ? topic_partition(m->o.t, i) : topic_partition(m->u, 0);
}

static void m_put(struct model *m, int who)
{
    int part = (int)rnd(m, 4);
    struct batch_of b = tb(-1, -1, -1, NULL);
    char value[16];

    if (m->n == M_RECORDS)
        return;
    snprintf(value, sizeof value, "%d", m->n);
    b.value = value;
    b.txn = who >= 0;
    if (who >= 0) {
        b.id = m->w[who].id;
        b.epoch = m->w[who].epoch;
        b.sequence = m->sequence[who][part]++;
        m->open[who] = true;
    }
    assert_int_equal(pr_put(&m->o.f, m_partition(m, part), b, NULL), ERR_OK);
    m->whose[m->n] = who;
    m->in_t[m->n] = part < 3;
    m->in_p0[m->n] = part == 0;
    m->fate[m->n++] = who >= 0 ? OPEN : IN;
}

static void m_end(struct model *m, int who)
{
    bool commit = rnd(m, 2), raise = rnd(m, 2);
    int i;

    if (!m->open[who])
        return;
    if (rnd(m, 8) == 0) {
        commit = false;
        raise = true;
        assert_int_equal(t_init(&m->o.f, &m->w[who], rnd(m, 2)), ERR_OK);
    } else {
        assert_int_equal(t_end(&m->o.f, &m->w[who], commit, raise), ERR_OK);
    }
    m->open[who] = false;
    if (raise)
        memset(m->sequence[who], 0, sizeof m->sequence[who]);
    for (i = 0; i < m->n; i++)
        if (m->whose[i] == who && m->fate[i] == OPEN)
            m->fate[i] = commit ? IN : OUT;
}

static void m_open(struct model *m, int i)
{
    static const char *const selector[M_READERS] = {"t", "*", "?", "t"};
    struct reader_conf rc = {.selector = slice_str(selector[i]),
                             .partition = i == 3 ? 0 : -1,
                             .from = READ_FROM_POSITION,
                             .position = m->resume[i]};

    assert_int_equal(reader_open(m->o.f.b, &rc, &m->r[i], NULL), ERR_OK);
}

static bool m_wants(const struct model *m, int i, int n)
{
    return i == 0 ? m->in_t[n] : i == 3 ? m->in_p0[n] : true;
}

/* What there is: decided, in order, once. */
static void m_read(struct model *m, int i, uint64_t most)
{
    struct reader_record rec;
    enum err e = ERR_OK;
    int n;

    while (most-- && !(e = reader_next(m->r[i], &rec, NULL))) {
        n = number_of(rec.value);
        if (n < 0 || n >= m->n || m->fate[n] != IN || !m_wants(m, i, n))
            fail_msg("reader %d shows record %d, which is %s", i, n,
                     n < m->n && m->fate[n] == OPEN ? "undecided" : "not for it");
        if (rec.position <= m->last[i])
            fail_msg("reader %d: position %llu after %llu", i, (unsigned long long)rec.position,
                     (unsigned long long)m->last[i]);
        m->last[i] = rec.position;
        if (m->seen[i][n]++)
            fail_msg("reader %d shows record %d twice", i, n);
    }
    assert_true(e == ERR_OK || e == ERR_AGAIN);
    m->resume[i] = reader_position(m->r[i]);
}

static void m_restart(struct model *m)
{
    int i;

    for (i = 0; i < M_READERS; i++)
        reader_close(&m->r[i]);
    topic_unref(&m->u);
    restart(&m->o, (enum restart)rnd(m, RESTARTS));
    m->u = topic_find(m->o.f.b, SLICE_LIT("u"));
    for (i = 0; i < M_READERS; i++)
        m_open(m, i);
}

static void m_step(struct model *m)
{
    int i = (int)rnd(m, M_READERS), who = (int)rnd(m, M_WHO);

    switch (rnd(m, 16)) {
    case 0:
    case 1:
        m_end(m, who);
        break;
    case 2:
        reader_close(&m->r[i]);
        m_open(m, i);
        break;
    case 3:
        if (rnd(m, 40) == 0)
            m_restart(m);
        else if (rnd(m, 10) == 0)
            fx_checkpoint(&m->o.f);
        break;
    case 4:
    case 5:
    case 6:
    case 7:
        m_read(m, i, rnd(m, 2) ? UINT64_MAX : rnd(m, 5));
        break;
    case 8:
        m_put(m, -1);
        break;
    default:
        m_put(m, who);
    }
}

static void test_random(void **state)
{
    static struct model m;
    static const char *const names[M_WHO] = {"w0", "w1", "w2", "w3"};
    int i, n, k;

    for (k = 0; k < 3; k++) {
        memset(&m, 0, sizeof m);
        m.rng = 1000 + (uint64_t)k;
        fx_start(&m.o.f, false);
        m.o.t = fx_topic(&m.o.f, "t", 3);
        m.u = fx_topic(&m.o.f, "u", 1);
        for (i = 0; i < M_WHO; i++)
            m.w[i] = t_new(&m.o.f, names[i]);
        for (i = 0; i < M_READERS; i++)
            m_open(&m, i);
        for (i = 0; i < M_STEPS; i++)
            m_step(&m);
        for (i = 0; i < M_WHO; i++)
            m_end(&m, i);
        for (i = 0; i < M_READERS; i++) {
            m_read(&m, i, UINT64_MAX);
            for (n = 0; n < m.n; n++)
                if (m.seen[i][n] != (m.fate[n] == IN && m_wants(&m, i, n)))
                    fail_msg("reader %d did not show record %d", i, n);
            reader_close(&m.r[i]);
        }
        topic_unref(&m.u);
        one_end(&m.o);
    }
}

/* ---- threads ---- */

#define T_WRITERS 3
#define T_TXNS    60

struct race {
    struct fx f;
    struct topic *t;
    _Atomic int fate[T_WRITERS * T_TXNS]; /* enum fate */
    _Atomic bool stop;
};

struct race_writer {
    struct race *r;
    int n;
};

struct call {
    _Atomic int calls;
    enum err e;
    int64_t id;
    int16_t epoch;
};

static void call_note(void *arg, enum err e, const struct errinfo *info, int64_t id, int16_t epoch)
{
    struct call *c = arg;

    c->e = e;
    c->id = id;
    c->epoch = epoch;
    atomic_fetch_add(&c->calls, 1);
}

static enum err call_wait(struct call *c, enum err e)
{
    if (e)
        return e;
    while (atomic_load(&c->calls) == 0)
        usleep(50);
    return c->e;
}

static void race_put(struct race *r, const struct who *w, int part, int32_t sequence, int txn)
{
    struct append *a = append_new(r->f.b, NULL, NULL);
    struct batch_builder bb;
    struct append_place at;
    struct append_slot slot;
    struct slice bytes;
    char value[16];

    snprintf(value, sizeof value, "%d", txn);
    batch_builder_init(&bb, CODEC_NONE, 4096);
    MUST(!batch_builder_add(&bb, io_wall_ms(io_real()), SLICE_NULL, slice_str(value), NULL, 0,
                            NULL));
    MUST(!batch_builder_finish(&bb, BATCH_TRANSACTIONAL, w->id, w->epoch, sequence, &bytes));
    append_txn_starts(a);
    MUST(!append_batch(a, topic_partition(r->t, part), bytes, &slot, NULL));
    MUST(!append_submit_wait(a, NULL));
    MUST(!append_place(a, slot, &at));
    append_free(&a);
    batch_builder_fini(&bb);
}

/* Each transaction writes its number to four partitions and an offset; every third is aborted. */
static void *race_write(void *arg)
{
    struct race_writer *rw = arg;
    struct race *r = rw->r;
    struct txn_commit_offset off = {topic_partition(r->t, rw->n), 0, SLICE_NULL};
    struct call c = {0};
    struct who w;
    char name[8];
    int i, k, txn;

    snprintf(name, sizeof name, "w%d", rw->n);
    MUST(!call_wait(&c, txn_init(r->f.b, slice_str(name), 60000, -1, -1, call_note, &c, NULL)));
    for (i = 0; i < T_TXNS; i++) {
        txn = rw->n * T_TXNS + i;
        w = (struct who){name, c.id, c.epoch, 0};
        for (k = 0; k < 4; k++)
            race_put(r, &w, k, 0, txn);
        off.offset = i + 1;
        c = (struct call){0};
        MUST(!call_wait(&c, txn_offsets(r->f.b, slice_str(name), w.id, w.epoch, true,
                                        SLICE_LIT("g"), &off, 1, call_note, &c, NULL)));
        atomic_store(&r->fate[txn], i % 3 ? IN : OUT); /* early: a reader never sees it sooner */
        c = (struct call){0};
        MUST(!call_wait(
            &c, txn_end(r->f.b, slice_str(name), w.id, w.epoch, i % 3, true, call_note, &c, NULL)));
    }
    return NULL;
}

static void *race_read(void *arg)
{
    struct reader_conf rc = {.selector = SLICE_LIT("*"), .partition = -1, .from = READ_FROM_START};
    int want = T_WRITERS * (T_TXNS - T_TXNS / 3) * 4, txn, seen[T_WRITERS * T_TXNS] = {0};
    struct race *r = arg;
    struct reader_record rec;
    struct reader *rd;
    enum err e;

    MUST(!reader_open(r->f.b, &rc, &rd, NULL));
    while (want) {
        e = reader_next(rd, &rec, NULL);
        if (e == ERR_AGAIN) {
            reader_block(rd, 5000);
            continue;
        }
        MUST(!e);
        txn = number_of(rec.value);
        MUST(atomic_load(&r->fate[txn]) == IN);
        MUST(seen[txn]++ < 4);
        want--;
        if (want % 97 == 0) { /* go on from where it is */
            rc.from = READ_FROM_POSITION;
            rc.position = reader_position(rd);
            reader_close(&rd);
            MUST(!reader_open(r->f.b, &rc, &rd, NULL));
        }
    }
    MUST(reader_next(rd, &rec, NULL) == ERR_AGAIN);
    reader_close(&rd);
    return NULL;
}

static void look_at(void *arg, const struct txn_info *t)
{
    *(int *)arg += t->name.len > 0;
}

static void *race_look(void *arg)
{
    struct race *r = arg;
    struct aborted_txn at[64];
    struct plog_info now;
    int n = 0, i;

    while (!atomic_load(&r->stop)) {
        for (i = 0; i < 4; i++) {
            struct partition *p = topic_partition(r->t, i);
            int64_t lso = partition_lso(p);

            plog_info_get(partition_log(p), &now);
            MUST(lso <= now.end_offset);
            MUST(partition_aborted(p, 0, lso, at, 64) <= 64);
        }
        txn_each(r->f.b, look_at, &n);
        group_offset_pending(r->f.b, SLICE_LIT("g"), topic_partition(r->t, 0));
        MUST(!journal_checkpoint(broker_journal(r->f.b), NULL));
        txns_tick(r->f.b, io_wall_ms(io_real()));
        producers_tick(r->f.b, io_wall_ms(io_real()));
        usleep(2000);
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t writer[T_WRITERS], reader[2], look;
    struct race_writer rw[T_WRITERS];
    struct race *r = calloc(1, sizeof *r);
    int i;

    fx_start(&r->f, true);
    r->t = fx_topic(&r->f, "t", 4);
    for (i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&reader[i], NULL, race_read, r), 0);
    assert_int_equal(pthread_create(&look, NULL, race_look, r), 0);
    for (i = 0; i < T_WRITERS; i++) {
        rw[i] = (struct race_writer){r, i};
        assert_int_equal(pthread_create(&writer[i], NULL, race_write, &rw[i]), 0);
    }
    for (i = 0; i < T_WRITERS; i++)
        pthread_join(writer[i], NULL);
    for (i = 0; i < 2; i++)
        pthread_join(reader[i], NULL);
    atomic_store(&r->stop, true);
    pthread_join(look, NULL);
    for (i = 0; i < 4; i++)
        assert_int_equal(pr_end(topic_partition(r->t, i)), T_WRITERS * T_TXNS * 2);
    for (i = 0; i < T_WRITERS; i++) /* the last but one or the last was committed */
        assert_int_equal(group_at(&r->f, "g", topic_partition(r->t, i)),
                         (T_TXNS - 1) % 3 ? T_TXNS : T_TXNS - 1);
    topic_unref(&r->t);
    fx_end(&r->f);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_init_own),
        cmocka_unit_test(test_takeover_aborts),
        cmocka_unit_test(test_epochs_used_up),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_commit),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_end_repeated),
        cmocka_unit_test(test_raise),
        cmocka_unit_test(test_concurrent),
        cmocka_unit_test(test_offsets),
        cmocka_unit_test(test_offsets_pending),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_id_expiry),
        cmocka_unit_test(test_forgotten_and_back),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_topic_deleted),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_trimmed),
        cmocka_unit_test(test_reader_undecided),
        cmocka_unit_test(test_reader_end),
        cmocka_unit_test(test_reader_wakes),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests_name("broker/transaction", tests, NULL, NULL);
}
