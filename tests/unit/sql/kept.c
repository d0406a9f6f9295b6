/* What is kept of statements that were run: their trees, within bounds, and what is known by them. */
#include "fixture.h"

#include "sql/kept.h"
#include "sql/sql_int.h"

static struct kept trees;
static const uint8_t seed[16] = {1};

static void assert_tree(const char *text, const char *want)
{
    struct buf b;

    buf_init(&b, 1u << 20);
    assert_int_equal(kept_get(&trees, slice_str(text), &b), want != NULL);
    if (want)
        assert_string_equal(text_of(&b), want);
    buf_fini(&b);
}

static void test_kept(void **state)
{
    kept_init(&trees, &kept_trees, seed);
    assert_tree("a", NULL);
    kept_put(&trees, slice_str("a"), slice_str("tree of a"));
    kept_put(&trees, slice_str("ab"), slice_str("tree of ab"));
    kept_put(&trees, slice_str("a"), slice_str("another"));
    assert_tree("a", "tree of a");
    assert_tree("ab", "tree of ab");
    assert_tree("abt", NULL); /* the tree stands behind the text */
    assert_int_equal(trees.bytes, 1 + 9 + 2 + 10);
    assert_true(kept_get(&trees, SLICE_LIT("a"), NULL));
    assert_false(kept_get(&trees, SLICE_LIT("b"), NULL));
    kept_put(&trees, SLICE_LIT("b"), SLICE_NULL); /* a key alone */
    assert_true(kept_get(&trees, SLICE_LIT("b"), NULL));
    assert_tree("b", "");
    kept_fini(&trees);
}

static void test_bounds(void **state)
{
    static char large[64u << 10];
    char text[16];
    unsigned i;

    kept_init(&trees, &kept_trees, seed);
    memset(large, 'x', sizeof large);
    kept_put(&trees, slice_str("a"), slice_of(large, sizeof large));
    assert_tree("a", NULL);
    for (i = 0; i < kept_trees.entries; i++) {
        snprintf(text, sizeof text, "n%u", i);
        kept_put(&trees, slice_str(text), slice_str("t"));
    }
    assert_int_equal(trees.map.n, kept_trees.entries);
    assert_tree("n0", "t");
    kept_put(&trees, slice_str("one more"), slice_str("t"));
    assert_int_equal(trees.map.n, 1);
    assert_tree("n0", NULL);
    assert_tree("one more", "t");
    for (i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "m%u", i);
        kept_put(&trees, slice_str(text), slice_of(large, sizeof large - 10));
        assert_true(trees.bytes <= kept_trees.bytes && trees.map.n > 0);
    }
    kept_fini(&trees);
}

/* The tree that was kept when the statement was run; false: it was not kept. */
static bool kept(struct fx *f, const char *text, struct plan_tree *out)
{
    struct sql_request rq = {.text = slice_str(text)};
    struct answer a;
    struct plan plan;
    struct buf b;
    bool found;

    memset(out, 0, sizeof *out);
    answer_init(&a);
    fx_ask(f, &rq, &a);
    answer_fini(&a);
    buf_init(&b, 1u << 20);
    plan_init(&plan, f->sql, &rq);
    found = kept_get(&f->sql->trees, slice_str(text), &b);
    if (found)
        plan_tree_read(&plan, buf_slice(&b), 0, out);
    plan_fini(&plan);
    buf_fini(&b);
    return found;
}

static void test_what_is_kept(void **state)
{
    static const char *const refused[] = {
        "SELECT nothing FROM t", "SELECT 1; SELECT 2",          "CREATE TABLE x (a INT)",
        "SELECT checkpoint()",   "EXPLAIN SELECT value FROM t", "DROP TABLE t",
    };
    struct plan_tree tree;
    struct fx f;
    size_t i;

    fx_start(&f);
    topic_unref(&(struct topic *){fx_topic(&f, "t", 1)});
    for (i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_false(kept(&f, refused[i], &tree));
    assert_int_equal(f.sql->trees.map.n, 0);
    assert_true(kept(&f, "SELECT value FROM t", &tree));
    assert_int_equal(tree.error, PLAN_TREE_OK);
    plan_tree_fini(&tree);
    assert_int_equal(f.sql->trees.map.n, 1);
    fx_end(&f);
}

static void test_few(void **state)
{
    static const struct {
        const char *text;
        bool few;
    } all[] = {
        {"SELECT value FROM t", false},
        {"SELECT value FROM t LIMIT 2048", true},
        {"SELECT value FROM t LIMIT 2049", false},
        {"SELECT value FROM t ORDER BY 1 LIMIT 0 OFFSET 5", true},
        {"SELECT value FROM t LIMIT 1 + 1", false},
        {"SELECT value FROM t LIMIT 10%", false},
        {"SELECT value FROM t UNION ALL SELECT key FROM t LIMIT 3", true},
        {"SELECT value FROM (SELECT * FROM t LIMIT 3)", false},
        {"SELECT DISTINCT value FROM t LIMIT 5", true},
        {"SELECT count(*), sum(\"offset\") + 1, max(\"offset\")::VARCHAR FROM t", true},
        {"SELECT round(avg(\"offset\"), 2) AS a FROM t WHERE partition = 0", true},
        {"SELECT count(*), partition FROM t GROUP BY 2", false},
        {"SELECT count(*) FROM t GROUP BY ALL", false},
        {"SELECT partition, max(\"offset\") FROM t GROUP BY ALL", false},
        {"SELECT count(*) OVER () FROM t", false},
        {"SELECT count(*) + unnest([1, 2, 3]) FROM t", false},
        {"SELECT unnest(range(count(*)::INT)) FROM t", false},
        {"SELECT sum(\"offset\"), 1 FROM t", false},
        {"SELECT abs(\"offset\") FROM t", false},
        {"SELECT (SELECT count(*) FROM t) FROM t", false},
    };
    struct plan_tree tree;
    struct fx f;
    size_t i;

    fx_start(&f);
    topic_unref(&(struct topic *){fx_topic(&f, "t", 2)});
    for (i = 0; i < sizeof all / sizeof *all; i++) {
        if (!kept(&f, all[i].text, &tree))
            fail_msg("%s: not run", all[i].text);
        if (tree.few != all[i].few)
            fail_msg("%s: %d", all[i].text, tree.few);
        plan_tree_fini(&tree);
    }
    fx_end(&f);
}

/* Asked again and again, a statement sees what came meanwhile: records, fields, another topic of that name. */
static void test_again(void **state)
{
    static const char sum[] = "SELECT count(*) AS n, sum(a) AS s FROM t";
    struct topic *t;
    struct fx f;

    fx_start(&f);
    t = fx_topic(&f, "t", 1);
    fx_put(&f, t, 0, "k", "{\"a\":1}");
    fx_expect(&f, sum, "1|1\n");
    fx_put(&f, t, 0, "k", "{\"a\":2.5}");
    fx_expect(&f, sum, "2|3.5\n");
    fx_put(&f, t, 0, "k", "{\"a\":\"text\"}");
    fx_refused(&f, sum, ERR_SQL, "VARCHAR");
    fx_expect(&f, "SELECT max(a) FROM t", "text\n");
    assert_int_equal(topic_delete_wait(f.b, SLICE_LIT("t"), NULL), ERR_OK);
    topic_unref(&t);
    fx_refused(&f, sum, ERR_SQL, "t");
    t = fx_topic(&f, "t", 1);
    fx_put(&f, t, 0, "k", "{\"a\":7}");
    fx_expect(&f, sum, "1|7\n");
    topic_unref(&t);
    fx_end(&f);
}

/* What was quick, and is known, ends by its time like any other. */
static void test_time(void **state)
{
    static const char text[] = "SELECT sum(a.a + b.a + c.a) AS s FROM t a, t b, t c";
    struct sql_request rq = {.text = slice_str(text), .timeout_ms = 300};
    struct answer a;
    struct topic *t;
    struct fx f;

    fx_start(&f);
    t = fx_topic(&f, "t", 1);
    fx_fill(&f, t, 0, 2, 2, "{\"a\":%lld}");
    fx_expect(&f, text, "12\n");
    fx_fill(&f, t, 0, 10000, 1000, "{\"a\":%lld}");
    answer_init(&a);
    fx_ask(&f, &rq, &a);
    assert_int_equal(a.code, ERR_TIMEOUT);
    assert_string_equal(a.sqlstate, "57014");
    answer_fini(&a);
    topic_unref(&t);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept),         cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_what_is_kept), cmocka_unit_test(test_few),
        cmocka_unit_test(test_again),        cmocka_unit_test(test_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
