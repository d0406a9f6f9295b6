/* Live queries: history, then what comes, each row once; groups whose last rows are what the same
 * SELECT says at the end; where they go on; what is refused. */
#include "fixture.h"

#include "broker/broker.h"
#include "sql/live.h"

struct follow {
    struct follow *magic;
    struct fx *fx;
    struct sql_live *l;
    struct io_mutex lock;
    struct io_cond cond;
    bool stepped;
    enum sql_live_state state;
    enum err code;
    struct buf rows, head, error;
    uint64_t last;
    uint32_t take;    /* rows of a step at most; 0: all */
    uint32_t taken;   /* in this step */
    const char *deny; /* topic */
};

static bool on_columns(void *arg, struct sql_query *q, const struct sql_columns *c)
{
    struct follow *f = arg;
    uint32_t i;

    buf_clear(&f->head);
    for (i = 0; i < c->n; i++)
        buf_printf(&f->head, "%s%s", i ? "|" : "", c->name[i]);
    return true;
}

static void put(struct buf *b, const struct sql_chunk *c, uint32_t i)
{
    uint32_t k;

    for (k = 0; k < c->columns_n; k++) {
        if (k)
            buf_append_u8(b, '|');
        if (!sql_valid(&c->column[k], i))
            buf_append_u8(b, '~');
        else
            sql_value_text(&c->column[k], i, b);
    }
}

static uint32_t on_rows(void *arg, const struct sql_live_rows *r)
{
    struct follow *f = arg;
    uint32_t i;

    for (i = 0; i < r->row->rows && (!f->take || f->taken < f->take); i++) {
        f->taken++;
        if (r->key) {
            buf_append_str(&f->rows, "[");
            put(&f->rows, r->key, i);
            buf_append_str(&f->rows, "] ");
        } else {
            assert_true(r->at[i] > f->last);
            f->last = r->at[i];
        }
        if (r->gone && r->gone[i])
            buf_append_str(&f->rows, "gone");
        else
            put(&f->rows, r->row, i);
        buf_append_u8(&f->rows, '\n');
    }
    return i;
}

static void on_stepped(void *arg, enum sql_live_state state, const struct sql_error *e)
{
    struct follow *f = arg;

    io_mutex_lock(&f->lock);
    f->stepped = true;
    f->state = state;
    if (e) {
        f->code = e->code;
        buf_append_str(&f->error, e->message);
        buf_append_u8(&f->error, 0);
    }
    io_cond_signal(&f->cond);
    io_mutex_unlock(&f->lock);
}

static bool allowed(void *arg, struct slice topic)
{
    struct follow *f = arg;

    assert_ptr_equal(f->magic, f);
    return !f->deny || !slice_eq_str(topic, f->deny);
}

static const struct sql_live_sink sink = {on_columns, on_rows, on_stepped};

static void follow_init(struct follow *f, struct fx *fx, struct sql_live_conf *conf)
{
    struct errinfo info;

    memset(f, 0, sizeof *f);
    f->magic = f;
    f->fx = fx;
    io_mutex_init(&f->lock);
    io_cond_init(&f->cond);
    buf_init(&f->rows, 64u << 20);
    buf_init(&f->head, 1u << 20);
    buf_init(&f->error, 1u << 20);
    conf->sink = &sink;
    conf->topic_allowed = allowed;
    conf->arg = f;
    assert_int_equal(sql_live_new(fx->sql, conf, &f->l, &info), ERR_OK);
}

static void follow_fini(struct follow *f)
{
    sql_live_free(&f->l);
    buf_fini(&f->rows);
    buf_fini(&f->head);
    buf_fini(&f->error);
    io_mutex_fini(&f->lock);
    io_cond_fini(&f->cond);
}

static void step(struct follow *f)
{
    struct errinfo info;

    f->stepped = false;
    f->taken = 0;
    if (sql_live_step(f->l, &info))
        fail_msg("%s", info.text);
    io_mutex_lock(&f->lock);
    while (!f->stepped)
        io_cond_wait(&f->cond, &f->lock);
    io_mutex_unlock(&f->lock);
}

static unsigned catch_up(struct follow *f)
{
    unsigned n = 0;

    do {
        step(f);
        n++;
    } while (f->state == SQL_LIVE_MORE);
    if (f->state == SQL_LIVE_FAILED)
        fail_msg("%s", (char *)f->error.ptr);
    return n;
}

/* What was given since the last time. */
static void given(struct follow *f, const char *rows)
{
    if (strcmp(text_of(&f->rows), rows) != 0)
        fail_msg("given:\n%s\ninstead of\n%s", (char *)f->rows.ptr, rows);
    buf_clear(&f->rows);
}

static void no_wake(struct waiter *w)
{
}

static void test_rows(void **state)
{
    struct sql_live_conf conf = {
        .text = SLICE_LIT("SELECT \"offset\" AS o, n FROM orders WHERE n <> $1"),
        .from = SQL_LIVE_BEGINNING};
    struct sql_param three = {.type = SQL_BIGINT, .i64 = 3};
    struct fx fx;
    struct topic *t, *other;
    struct follow f, from;
    struct waiter w = {.wake = no_wake};

    fx_start(&fx);
    t = fx_topic(&fx, "orders", 2);
    other = fx_topic(&fx, "other", 1);
    fx_put(&fx, t, 0, "a", "{\"n\":1}");
    fx_put(&fx, other, 0, "a", "{\"n\":1}");
    fx_put(&fx, t, 1, "a", "{\"n\":2}");
    fx_put(&fx, t, 0, "a", "{\"n\":3}");
    conf.params = &three;
    conf.params_n = 1;
    follow_init(&f, &fx, &conf);
    catch_up(&f);
    assert_string_equal(text_of(&f.head), "o|n");
    given(&f, "0|1\n0|2\n");
    catch_up(&f);
    given(&f, "");
    fx_put(&fx, t, 1, "a", "{\"n\":4}");
    assert_false(sql_live_wait(f.l, &w)); /* there is something */
    conf.from = SQL_LIVE_END;
    follow_init(&from, &fx, &conf);
    catch_up(&from);
    given(&from, "");
    fx_put(&fx, t, 0, "a", "{\"n\":5}");
    fx_put(&fx, t, 1, "a", "{\"n\":3}");
    catch_up(&f);
    given(&f, "1|4\n2|5\n");
    catch_up(&from);
    given(&from, "2|5\n");
    follow_fini(&from);
    conf.from = SQL_LIVE_POSITION; /* exactly behind the second row */
    conf.position = 4;
    follow_init(&from, &fx, &conf);
    catch_up(&from);
    given(&from, "1|4\n2|5\n");
    follow_fini(&from);
    follow_fini(&f);
    topic_unref(&t);
    topic_unref(&other);
    fx_end(&fx);
}

/* In pieces, whatever the sink takes, across gaps in the positions. */
static void test_pieces(void **state)
{
    static const uint32_t takes[] = {0, 1, 7, 1000};
    struct sql_live_conf conf = {.text = SLICE_LIT("SELECT n FROM orders WHERE n % 3 = 0")};
    struct fx fx;
    struct topic *t, *other;
    struct follow f;
    struct buf want;
    int i;

    fx_start(&fx);
    t = fx_topic(&fx, "orders", 1);
    other = fx_topic(&fx, "other", 1);
    fx_fill(&fx, t, 0, 600, 50, "{\"n\":%lld}");
    fx_fill(&fx, other, 0, 60000, 5000, "%lld");
    fx_fill(&fx, t, 0, 600, 600, "{\"n\":%lld}");
    buf_init(&want, 1u << 20);
    for (i = 0; i < 1200; i += 3)
        buf_printf(&want, "%d\n", i % 600);
    text_of(&want);
    for (i = 0; i < 4; i++) {
        follow_init(&f, &fx, &conf);
        f.take = takes[i];
        catch_up(&f);
        given(&f, (char *)want.ptr);
        follow_fini(&f);
    }
    conf.text = SLICE_LIT("SELECT n FROM orders WHERE n > 5 LIMIT 3");
    follow_init(&f, &fx, &conf);
    while (step(&f), f.state == SQL_LIVE_MORE)
        ;
    assert_int_equal(f.state, SQL_LIVE_ENDED);
    given(&f, "6\n7\n8\n");
    follow_fini(&f);
    buf_fini(&want);
    topic_unref(&t);
    topic_unref(&other);
    fx_end(&fx);
}

static void test_time(void **state)
{
    struct sql_live_conf conf = {.text = SLICE_LIT("SELECT value FROM orders"),
                                 .from = SQL_LIVE_TIME,
                                 .time_ms = 1700000000500};
    struct fx fx;
    struct topic *t;
    struct follow f;

    fx_start(&fx);
    t = fx_topic(&fx, "orders", 1);
    fx_put_full(&fx, t, 0, 1700000000000, SLICE_NULL, SLICE_LIT("a"), NULL, 0);
    fx_put_full(&fx, t, 0, 1700000000500, SLICE_NULL, SLICE_LIT("b"), NULL, 0);
    fx_put_full(&fx, t, 0, 1700000000900, SLICE_NULL, SLICE_LIT("c"), NULL, 0);
    follow_init(&f, &fx, &conf);
    catch_up(&f);
    given(&f, "b\nc\n");
    follow_fini(&f);
    topic_unref(&t);
    fx_end(&fx);
}

static void test_groups(void **state)
{
    struct sql_live_conf conf = {
        .text = SLICE_LIT(
            "SELECT s, count(*) AS n, sum(v) AS total, avg(v) AS a FROM orders GROUP BY s")};
    struct fx fx;
    struct topic *t;
    struct follow f, again;
    struct waiter w = {.wake = no_wake};
    uint64_t at;

    fx_start(&fx);
    t = fx_topic(&fx, "orders", 2);
    fx_put(&fx, t, 0, "a", "{\"s\":\"x\",\"v\":1}");
    fx_put(&fx, t, 1, "a", "{\"s\":\"y\",\"v\":2}");
    fx_put(&fx, t, 0, "a", "{\"s\":\"x\",\"v\":3}");
    follow_init(&f, &fx, &conf);
    catch_up(&f);
    given(&f, "[x] x|2|4|2\n[y] y|1|2|2\n");
    catch_up(&f);
    given(&f, "");
    fx_put(&fx, t, 1, "a", "{\"s\":\"y\",\"v\":4}");
    fx_put(&fx, t, 1, "a", "{\"v\":4}");
    catch_up(&f);
    given(&f, "[y] y|2|6|3\n[~] ~|1|4|4\n");
    fx_put(&fx, t, 1, "a", "{\"s\":\"x\",\"v\":0.5}"); /* another type from now on */
    catch_up(&f);
    given(&f, "[x] x|3|4.5|1.5\n");
    fx_expect(
        &fx,
        "SELECT s, count(*) AS n, sum(v) AS total, avg(v) AS a FROM orders GROUP BY s ORDER BY s",
        "x|3|4.5|1.5\ny|2|6|3\n~|1|4|4\n");
    conf.resume = sql_live_position(f.l); /* counted again, given from there on */
    follow_init(&again, &fx, &conf);
    catch_up(&again);
    given(&again, "");
    fx_put(&fx, t, 0, "a", "{\"s\":\"x\",\"v\":1}");
    catch_up(&again);
    given(&again, "[x] x|4|5.5|1.375\n");
    follow_fini(&again);
    conf.resume = 0;
    conf.from = SQL_LIVE_END; /* where it is live nothing was counted, whatever came meanwhile */
    follow_init(&again, &fx, &conf);
    step(&again);
    at = sql_live_position(again.l);
    fx_put(&fx, t, 0, "a", "{\"s\":\"x\",\"v\":2}");
    step(&again);
    given(&again, "");
    assert_int_equal(again.state, SQL_LIVE_CAUGHT_UP);
    assert_int_equal(sql_live_position(again.l), at);
    assert_false(sql_live_wait(again.l, &w));
    catch_up(&again);
    given(&again, "[x] x|1|2|2\n");
    follow_fini(&again);
    follow_fini(&f);
    topic_unref(&t);
    fx_end(&fx);
}

static void test_having(void **state)
{
    struct sql_live_conf conf = {.text =
                                     SLICE_LIT("SELECT s, sum(v) AS total FROM orders GROUP BY s "
                                               "HAVING sum(v) BETWEEN 10 AND 20")};
    struct fx fx;
    struct topic *t;
    struct follow f;

    fx_start(&fx);
    t = fx_topic(&fx, "orders", 1);
    fx_put(&fx, t, 0, "a", "{\"s\":\"x\",\"v\":1}");
    follow_init(&f, &fx, &conf);
    catch_up(&f);
    given(&f, "");
    fx_put(&fx, t, 0, "a", "{\"s\":\"x\",\"v\":10}");
    catch_up(&f);
    given(&f, "[x] x|11\n");
    fx_put(&fx, t, 0, "a", "{\"s\":\"x\",\"v\":10}");
    catch_up(&f);
    given(&f, "[x] gone\n");
    fx_put(&fx, t, 0, "a", "{\"s\":\"x\",\"v\":10}");
    catch_up(&f);
    given(&f, "");
    follow_fini(&f);
    topic_unref(&t);
    fx_end(&fx);
}

static void test_whole(void **state)
{
    struct sql_live_conf conf = {
        .text = SLICE_LIT("SELECT count(*) AS n FROM orders WHERE value = 'x'")};
    struct fx fx;
    struct topic *t;
    struct follow f;

    fx_start(&fx);
    t = fx_topic(&fx, "orders", 1);
    follow_init(&f, &fx, &conf);
    catch_up(&f);
    given(&f, "[] 0\n");
    fx_put(&fx, t, 0, "a", "y");
    catch_up(&f);
    given(&f, ""); /* the same */
    fx_put(&fx, t, 0, "a", "x");
    catch_up(&f);
    given(&f, "[] 1\n");
    follow_fini(&f);
    topic_unref(&t);
    fx_end(&fx);
}

/* Windows: those older than keep_ms are forgotten, and what would belong to them is passed by. */
static void test_windows(void **state)
{
    struct sql_live_conf conf = {
        .text =
            SLICE_LIT("SELECT time_bucket(INTERVAL '1 minute', timestamp) AS w, count(*) AS n FROM "
                      "orders GROUP BY w"),
        .keep_ms = 120000,
        .groups_max = 4};
    struct fx fx;
    struct topic *t;
    struct follow f;
    int i;

    fx_start(&fx);
    t = fx_topic(&fx, "orders", 1);
    follow_init(&f, &fx, &conf);
    for (i = 0; i < 10; i++) {
        fx_put_full(&fx, t, 0, 1700000040000 + i * 60000, SLICE_NULL, SLICE_LIT("1"), NULL, 0);
        catch_up(&f);
    }
    buf_clear(&f.rows);
    fx_put_full(&fx, t, 0, 1700000040000, SLICE_NULL, SLICE_LIT("1"), NULL, 0); /* too late */
    fx_put_full(&fx, t, 0, 1700000040000 + 8 * 60000, SLICE_NULL, SLICE_LIT("1"), NULL, 0);
    catch_up(&f);
    given(&f, "[2023-11-14 22:22:00+00] 2023-11-14 22:22:00+00|2\n");
    follow_fini(&f);
    conf.keep_ms = 0;
    follow_init(&f, &fx, &conf);
    while (step(&f), f.state == SQL_LIVE_MORE)
        ;
    assert_int_equal(f.state, SQL_LIVE_FAILED);
    assert_int_equal(f.code, ERR_LIMIT);
    follow_fini(&f);
    topic_unref(&t);
    fx_end(&fx);
}

static void refused(struct fx *fx, const char *text, enum err code, const char *word)
{
    struct sql_live_conf conf = {.text = slice_str(text)};
    struct follow f;

    follow_init(&f, fx, &conf);
    f.deny = "secret";
    step(&f);
    if (f.state != SQL_LIVE_FAILED || f.code != code || !strstr(text_of(&f.error), word))
        fail_msg("%s: %s (%s), not %s (%s)", text, f.error.len ? (char *)f.error.ptr : "",
                 err_code(f.code), word, err_code(code));
    follow_fini(&f);
}

static void test_refused(void **state)
{
    struct fx fx;
    struct topic *t;

    fx_start(&fx);
    t = fx_topic(&fx, "orders", 1);
    refused(&fx, "SELECT * FROM orders ORDER BY n", ERR_SQL, "ORDER BY");
    refused(&fx, "SELECT DISTINCT key FROM orders", ERR_SQL, "DISTINCT");
    refused(&fx, "SELECT key FROM orders LIMIT 1 OFFSET 1", ERR_SQL, "OFFSET");
    refused(&fx, "SELECT count(*) FROM orders LIMIT 1", ERR_SQL, "LIMIT");
    refused(&fx, "SELECT * FROM orders AT (POSITION => 1)", ERR_SQL, "AT");
    refused(&fx, "SELECT * FROM orders, orders AS b", ERR_SQL, "joins");
    refused(&fx, "SELECT nothing FROM orders", ERR_SQL, "nothing");
    refused(&fx, "SELECT * FROM nowhere", ERR_TOPIC_NOT_FOUND, "nowhere");
    refused(&fx, "SELECT * FROM secret", ERR_FORBIDDEN, "secret");
    refused(&fx, "SELECT getenv('HOME') FROM orders", ERR_FORBIDDEN, "getenv");
    refused(&fx, "DROP TABLE orders", ERR_SQL, "SELECT");
    topic_unref(&t);
    fx_end(&fx);
}

static void test_deleted(void **state)
{
    struct sql_live_conf conf = {.text = SLICE_LIT("SELECT value FROM orders")};
    struct fx fx;
    struct topic *t;
    struct follow f;
    struct errinfo info;

    fx_start(&fx);
    t = fx_topic(&fx, "orders", 1);
    follow_init(&f, &fx, &conf);
    catch_up(&f);
    assert_int_equal(topic_delete_wait(fx.b, slice_str("orders"), &info), ERR_OK);
    step(&f);
    assert_int_equal(f.state, SQL_LIVE_FAILED);
    assert_int_equal(f.code, ERR_TOPIC_NOT_FOUND);
    follow_fini(&f);
    topic_unref(&t);
    fx_end(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),    cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_time),    cmocka_unit_test(test_groups),
        cmocka_unit_test(test_having),  cmocka_unit_test(test_whole),
        cmocka_unit_test(test_windows), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_deleted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
