/* Members of JSON objects: found, skipped over, broken; numbers and escapes; names and types that
 * are learnt from them. */
#include "fixture.h"

#include "sql/infer.h"

static void scan(const char *json, struct field_value out[2])
{
    struct slice names[] = {SLICE_LIT("a"), SLICE_LIT("b")};
    char *copy = malloc(strlen(json) ? strlen(json) : 1); /* nothing behind: sanitizers see */
    struct field_set set;

    assert_non_null(copy);
    memcpy(copy, json, strlen(json));
    field_set_init(&set, names, 2);
    field_set_scan(&set, slice_of(copy, strlen(json)), out);
    field_set_fini(&set);
    free(copy);
}

static void test_scan(void **state)
{
    static const struct {
        const char *json;
        enum field_kind a, b;
    } t[] = {
        {"{\"a\":1,\"b\":\"x\"}", FIELD_NUMBER, FIELD_STRING},
        {" {\n\"b\" : null , \"a\" : [1,{\"b\":2}] } ", FIELD_ARRAY, FIELD_NULL},
        {"{\"x\":{\"a\":1,\"y\":\"}\\\"\"},\"b\":true}", FIELD_MISSING, FIELD_TRUE},
        {"{\"\\u0061\":false}", FIELD_FALSE, FIELD_MISSING},
        {"{\"a\":1,\"a\":\"second\"}", FIELD_NUMBER, FIELD_MISSING},
        {"{\"a\":1,oops,\"b\":2}", FIELD_NUMBER, FIELD_MISSING},
        {"{\"a\":{\"b\":1}", FIELD_OBJECT, FIELD_MISSING},
        {"{\"a\":\"unterminated", FIELD_MISSING, FIELD_MISSING},
        {"{\"a\":tru", FIELD_MISSING, FIELD_MISSING},
        {"{\"a\"", FIELD_MISSING, FIELD_MISSING},
        {"{\"a\":12", FIELD_MISSING, FIELD_MISSING},
        {"{", FIELD_MISSING, FIELD_MISSING},
        {"", FIELD_MISSING, FIELD_MISSING},
        {"[{\"a\":1}]", FIELD_MISSING, FIELD_MISSING},
        {"{\"a\":\"\\", FIELD_MISSING, FIELD_MISSING},
        {"{\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\":\"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\",\"b\":0}",
         FIELD_MISSING, FIELD_NUMBER},
    };
    struct field_value v[2];
    size_t i;

    for (i = 0; i < sizeof t / sizeof *t; i++) {
        scan(t[i].json, v);
        if (v[0].kind != t[i].a || v[1].kind != t[i].b)
            fail_msg("%s: %d, %d", t[i].json, (int)v[0].kind, (int)v[1].kind);
    }
}

static void test_numbers(void **state)
{
    static const char *const doubles[] = {"0",
                                          "-0.5",
                                          "1e3",
                                          "1E-7",
                                          "123456789012345678",
                                          "0.1",
                                          "1e308",
                                          "4.9e-324",
                                          "2.2250738585072011e-308",
                                          "1.7976931348623157e308",
                                          "-1e400",
                                          "3.141592653589793"};
    static const char *const bad[] = {"", "-", "01", "1.", ".5", "1e", "+1", "0x1", "1e+", "--1"};
    double d;
    int64_t n;
    size_t i;

    for (i = 0; i < sizeof doubles / sizeof *doubles; i++) {
        assert_true(field_f64(slice_str(doubles[i]), &d));
        assert_true(d == strtod(doubles[i], NULL));
    }
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(field_f64(slice_str(bad[i]), &d));
        assert_false(field_i64(slice_str(bad[i]), &n));
    }
    assert_true(field_i64(SLICE_LIT("-9223372036854775808"), &n) && n == INT64_MIN);
    assert_true(field_i64(SLICE_LIT("9223372036854775807"), &n) && n == INT64_MAX);
    assert_false(field_i64(SLICE_LIT("9223372036854775808"), &n));
    assert_false(field_i64(SLICE_LIT("1.0"), &n));
}

static void test_escapes(void **state)
{
    uint8_t out[64];
    size_t n = field_unescape(SLICE_LIT("a\\n\\u00e4\\ud83d\\ude00\\ud800x\\/"), out);

    assert_int_equal(n, 13);
    assert_memory_equal(out, "a\n\xc3\xa4\xf0\x9f\x98\x80\xef\xbf\xbdx/", 13);
    assert_int_equal(field_unescape(SLICE_LIT("\\q"), out), SIZE_MAX);
    assert_int_equal(field_unescape(SLICE_LIT("\\u12"), out), SIZE_MAX);
    assert_int_equal(field_unescape(SLICE_LIT("\\"), out), SIZE_MAX);
}

static enum sql_type type_of(const struct infer *f, const char *name)
{
    uint32_t i = infer_find(f, slice_str(name));

    return i == UINT32_MAX ? SQL_NULL : infer_type(&f->fields[i]);
}

static void test_infer(void **state)
{
    struct infer f, g;
    uint32_t i;

    infer_init(&f);
    assert_true(infer_value(&f, SLICE_LIT("{\"n\":1,\"s\":\"x\",\"o\":{},\"z\":null,\"b\":true}")));
    assert_int_equal(type_of(&f, "n"), SQL_BIGINT);
    assert_int_equal(type_of(&f, "s"), SQL_VARCHAR);
    assert_int_equal(type_of(&f, "o"), SQL_JSON);
    assert_int_equal(type_of(&f, "z"), SQL_VARCHAR);
    assert_int_equal(type_of(&f, "b"), SQL_BOOLEAN);
    assert_false(infer_value(&f, SLICE_LIT("{\"b\":false,\"n\":2}")));
    assert_true(infer_value(&f, SLICE_LIT("{\"n\":2.5,\"b\":1,\"o\":\"text\",\"z\":5}")));
    assert_int_equal(type_of(&f, "n"), SQL_DOUBLE);
    assert_int_equal(type_of(&f, "b"), SQL_VARCHAR);
    assert_int_equal(type_of(&f, "o"), SQL_VARCHAR);
    assert_int_equal(type_of(&f, "z"), SQL_BIGINT);
    assert_true(infer_value(&f, SLICE_LIT("{\"N\":1,\"Offset\":2,\"\":3,\"value_Offset\":4}")));
    assert_string_equal(f.fields[infer_find(&f, SLICE_LIT("N"))].column, "value_N");
    assert_string_equal(f.fields[infer_find(&f, SLICE_LIT("Offset"))].column, "value_Offset");
    assert_string_equal(f.fields[infer_find(&f, SLICE_LIT(""))].column, "value_");
    assert_string_equal(f.fields[infer_find(&f, SLICE_LIT("value_Offset"))].column,
                        "value_value_Offset");
    infer_init(&g);
    assert_true(infer_merge(&g, &f));
    assert_false(infer_merge(&g, &f));
    for (i = 0; i < f.n; i++)
        assert_int_equal(type_of(&g, f.fields[i].name), infer_type(&f.fields[i]));
    infer_fini(&f);
    infer_fini(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_infer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
