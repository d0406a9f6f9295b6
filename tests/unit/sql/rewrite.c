/* Parentheses around arrows, semicolons, EXPLAIN, places of errors. */
#include "fixture.h"

#include "sql/sql_int.h"

static void check(const char *from, const char *to)
{
    struct rewrite r;

    rewrite_make(&r, slice_str(from));
    assert_string_equal(r.full, to);
    assert_int_equal(strlen(r.text), r.len);
    rewrite_fini(&r);
}

static void test_arrows(void **state)
{
    check("SELECT 1", "SELECT 1");
    check("SELECT 1 ; -- end", "SELECT 1 ");
    check("a=1 AND v->>'s'='p'", "a=1 AND (v->>'s')='p'");
    check("x->'a'->0->>'b' > 1", "(((x->'a')->0)->>'b') > 1");
    check("t.\"v x\" ->> $1", "(t.\"v x\" ->> $1)");
    check("f(a, (b))->>'x' AND (c)->>'y'", "(f(a, (b))->>'x') AND ((c)->>'y')");
    check("a[1]->>'x'", "(a[1]->>'x')");
    check("v::JSON->>'x'", "(v::JSON->>'x')");
    check("'{}'->>'x'", "('{}'->>'x')");
    check("list_transform(l, x -> x + 1)", "list_transform(l, x -> x + 1)");
    check("'a->>''b'' ' || \"->>'c'\"", "'a->>''b'' ' || \"->>'c'\"");
    check("SELECT 1 -- v->>'s'\n/* v->>'s' /* v->>'t' */ */", "SELECT 1");
    check("$$v->>'s'$$->>'x'", "($$v->>'s'$$->>'x')");
    check("WHERE ->>'s'", "WHERE ->>'s'");
    check("->>'s'", "->>'s'");
    check("", "");
    check("'unterminated ->> 'x'", "'unterminated ->> 'x'");
    check(")->>'x'", ")->>'x'");
}

static void test_at(void **state)
{
    check("SELECT * FROM orders AT (VERSION => 5)", "SELECT * FROM \"orders@v=5\" AS orders");
    check("FROM orders AT (TIMESTAMP => TIMESTAMP '1970-01-01 00:00:01Z') p WHERE 1",
          "FROM \"orders@t=1000\"                                           p WHERE 1");
    check("FROM \"a.b\" x AT (POSITION => 7), y", "FROM \"a.b@p=7\" AS x            , y");
    check("FROM a AS x AT (SNAPSHOT => 7)", "FROM \"a@v=7\" AS x");
    check("SELECT a AT TIME ZONE 'UTC', at(1)", "SELECT a AT TIME ZONE 'UTC', at(1)");
    check("FROM a AT (VERSION => now())", "FROM a AT (VERSION => now())");
}

static void test_names(void **state)
{
    check("SELECT 1 FROM information_schema.tables", "SELECT 1 FROM weir.tables");
    check("FROM Information_Schema . columns c, a AT (VERSION => 1)",
          "FROM weir.columns                 c, \"a@v=1\" AS a");
    check("FROM information_schema.schemata", "FROM information_schema.schemata");
    check("SELECT 'information_schema.tables'", "SELECT 'information_schema.tables'");
    check("SHOW orders", "SHOW orders");
}

static void test_buckets(void **state)
{
    check("SELECT * FROM kv.settings", "SELECT * FROM \"settings@kv\" AS settings");
    check("FROM KV.\"A.b\" x JOIN kv . c AS y USING (key)",
          "FROM \"A.b@kv\" x JOIN \"c@kv\" AS y USING (key)");
    check("SELECT kv.key FROM orders kv, kv.a", "SELECT kv.key FROM orders kv, kv.a");
    check("SELECT 'FROM kv.a' FROM kv", "SELECT 'FROM kv.a' FROM kv");
}

static void test_explain(void **state)
{
    struct rewrite r;

    rewrite_make(&r, SLICE_LIT("EXPLAIN ANALYZE SELECT v->>'a'"));
    assert_string_equal(r.text, "SELECT (v->>'a')");
    rewrite_fini(&r);
    rewrite_make(&r, SLICE_LIT("explain (FORMAT json) SELECT 1"));
    assert_string_equal(r.text, "SELECT 1");
    rewrite_fini(&r);
}

static void test_origin(void **state)
{
    struct slice s = SLICE_LIT("'\xc3\xa4', v->>'a', x");
    struct rewrite r;

    rewrite_make(&r, s);
    assert_string_equal(r.full, "'\xc3\xa4', (v->>'a'), x");
    assert_int_equal(rewrite_origin(&r, s, 0), 1);
    assert_int_equal(rewrite_origin(&r, s, 17), 15); /* x */
    assert_int_equal(rewrite_origin(&r, s, 9999), 16);
    rewrite_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrows),  cmocka_unit_test(test_at),
        cmocka_unit_test(test_names),   cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_explain), cmocka_unit_test(test_origin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
