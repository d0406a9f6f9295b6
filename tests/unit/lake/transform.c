/* Partition transforms against the specification's rules, specs from text, sort orders. */
#include "lake/transform.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "lake/lake_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define US 1000000ll

static struct schema *columns(void)
{
    struct schema *s = schema_new(0);
    struct schema_field *f;

    schema_add(&s->root, 1, "timestamp", (struct ice_type){.kind = ICE_TIMESTAMPTZ}, true);
    schema_add(&s->root, 2, "key", (struct ice_type){.kind = ICE_BINARY}, false);
    schema_add(&s->root, 3, "amount", (struct ice_type){.kind = ICE_DOUBLE}, false);
    schema_add(&s->root, 4, "country", (struct ice_type){.kind = ICE_STRING}, false);
    f = schema_add(&s->root, 5, "tags", (struct ice_type){.kind = ICE_LIST}, false);
    schema_add(f, 6, "element", (struct ice_type){.kind = ICE_STRING}, true);
    f = schema_add(&s->root, 7, "customer", (struct ice_type){.kind = ICE_STRUCT}, false);
    schema_add(f, 8, "id", (struct ice_type){.kind = ICE_LONG}, false);
    return s;
}

static int64_t apply(const char *t, enum ice_kind k, int64_t v)
{
    struct ice_value in = {.i = v}, out;
    uint8_t scratch[16];

    transform_apply(transform_parse(slice_str(t)), (struct ice_type){.kind = k}, &in, scratch,
                    &out);
    assert_false(out.null);
    return out.i;
}

static void times(void **state)
{
    int64_t stamp = (17486 * 86400ll + 22 * 3600 + 31 * 60 + 8) * US; /* 2017-11-16T22:31:08 */

    assert_int_equal(apply("year", ICE_TIMESTAMPTZ, stamp), 47);
    assert_int_equal(apply("month", ICE_TIMESTAMPTZ, stamp), 47 * 12 + 10);
    assert_int_equal(apply("day", ICE_TIMESTAMPTZ, stamp), 17486);
    assert_int_equal(apply("hour", ICE_TIMESTAMPTZ, stamp), 17486 * 24 + 22);
    assert_int_equal(apply("hour", ICE_TIMESTAMPTZ_NS, stamp * 1000), 17486 * 24 + 22);
    assert_int_equal(apply("year", ICE_DATE, 17486), 47);
    assert_int_equal(apply("day", ICE_DATE, -1), -1);
    /* before 1970: downwards */
    assert_int_equal(apply("hour", ICE_TIMESTAMP, -1), -1);
    assert_int_equal(apply("day", ICE_TIMESTAMP, -1), -1);
    assert_int_equal(apply("month", ICE_TIMESTAMP, -1), -1);
    assert_int_equal(apply("year", ICE_TIMESTAMP, -1), -1);
    assert_int_equal(apply("year", ICE_DATE, -719162), -1969); /* 0001-01-01 */
    assert_int_equal(apply("month", ICE_DATE, 59), 2);         /* 1970-03-01 */
    assert_int_equal(apply("month", ICE_DATE, 11016), 361);    /* 2000-02-29 */
}

/* Each day of 800 years: the month goes on by one, and only at its first day. */
static void calendar(void **state)
{
    int64_t before = apply("month", ICE_DATE, -146097);
    int len = 0;

    for (int64_t d = -146096; d < 146097; d++) {
        int64_t m = apply("month", ICE_DATE, d), y = apply("year", ICE_DATE, d);

        len++;
        assert_true(m == before || (m == before + 1 && len >= 28 && len <= 31));
        if (m != before)
            len = 0;
        assert_int_equal(y, m / 12 - (m % 12 < 0));
        before = m;
    }
    assert_int_equal(apply("year", ICE_DATE, 146097), 400); /* 400 years */
}

static void truncation(void **state)
{
    struct ice_type dec = {.kind = ICE_DECIMAL, .precision = 9, .scale = 2};
    struct transform ten = transform_parse(SLICE_LIT("truncate[10]"));
    uint8_t scratch[16];
    struct ice_value v, out;

    assert_int_equal(apply("truncate[10]", ICE_INT, 1), 0);
    assert_int_equal(apply("truncate[10]", ICE_INT, -1), -10);
    assert_int_equal(apply("truncate[10]", ICE_LONG, 25), 20);
    assert_int_equal(apply("truncate[10]", ICE_LONG, -30), -30);
    v = (struct ice_value){.bytes = SLICE_LIT("\x04\xd2")}; /* 12.34: 12.30 */
    transform_apply(ten, dec, &v, scratch, &out);
    assert_int_equal(out.bytes.ptr[14] << 8 | out.bytes.ptr[15], 1230);
    v = (struct ice_value){.bytes = SLICE_LIT("\xfb\x2e")}; /* -12.34: -12.40 */
    transform_apply(ten, dec, &v, scratch, &out);
    assert_int_equal((int16_t)(out.bytes.ptr[14] << 8 | out.bytes.ptr[15]), -1240);
    v = (struct ice_value){.bytes = SLICE_LIT("Z\xc3\xbcrich")};
    transform_apply(transform_parse(SLICE_LIT("truncate[3]")),
                    (struct ice_type){.kind = ICE_STRING}, &v, scratch, &out);
    assert_true(slice_eq_str(out.bytes, "Z\xc3\xbcr"));
    transform_apply(transform_parse(SLICE_LIT("truncate[3]")),
                    (struct ice_type){.kind = ICE_BINARY}, &v, scratch, &out);
    assert_int_equal(out.bytes.len, 3);
    assert_int_equal(apply("bucket[16]", ICE_LONG, 34), (2017239379 & 0x7fffffff) % 16);
    v = ICE_NULL;
    transform_apply(ten, dec, &v, scratch, &out);
    assert_true(out.null);
    v = (struct ice_value){.i = 5};
    transform_apply(transform_parse(SLICE_LIT("void")), dec, &v, scratch, &out);
    assert_true(out.null);
}

static void words(void **state)
{
    static const char *const bad[] = {"bucket",  "bucket[]", "bucket[0]", "bucket[x]",
                                      "hour[1]", "Hour",     "truncate",  "bucket[99999999999]",
                                      "",        "[3]",      "bucket[4",  "bucket[-1]"};
    static const char *const good[] = {
        "identity", "bucket[16]", "truncate[2147483647]", "year", "month", "day", "hour", "void"};
    char text[TRANSFORM_TEXT];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(transform_parse(slice_str(bad[i])).kind, TRANSFORM_UNKNOWN);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        transform_text(transform_parse(slice_str(good[i])), text);
        assert_string_equal(text, good[i]);
    }
}

static void specs(void **state)
{
    static const char *const texts[] = {"key_bucket[16]", "day(ts)", "country",
                                        "truncate[4](country)", "customer.id"};
    static const char *const names[] = {"key_bucket", "timestamp_day", "country", "country_trunc",
                                        "id"};
    static const char *const bad[] = {"hour(key)",    "bucket[16](amount)", "none(key)", "nothing",
                                      "day(nothing)", "tags.element",       "tags"};
    struct schema *s = columns();
    struct errinfo info = {0};
    struct spec *sp, *back;
    json_t *o;

    assert_int_equal(spec_from_texts(texts, 5, s, 3, 1005, &sp, &info), ERR_OK);
    assert_int_equal(sp->n, 5);
    for (uint32_t i = 0; i < 5; i++) {
        assert_string_equal(sp->field[i].name, names[i]);
        assert_int_equal(sp->field[i].field_id, 1005 + (int)i);
    }
    assert_int_equal(sp->field[0].result.kind, ICE_INT);
    assert_int_equal(sp->field[1].result.kind, ICE_DATE);
    assert_int_equal(sp->field[1].source_id, 1);
    o = spec_json(sp);
    assert_int_equal(spec_parse(o, s, &back, &info), ERR_OK);
    assert_int_equal(back->id, 3);
    assert_true(spec_same(sp, back));
    json_decref(o);
    spec_free(&back);
    spec_free(&sp);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(spec_from_texts(&bad[i], 1, s, 0, 1000, &sp, &info), ERR_CONFIG);
        assert_non_null(strstr(info.text, bad[i]));
        assert_null(sp);
    }
    const char *twice[] = {"country", "identity(country)"};

    assert_int_equal(spec_from_texts(twice, 2, s, 0, 1000, &sp, &info), ERR_CONFIG);
    schema_free(&s);
}

static void orders(void **state)
{
    static const char *const texts[] = {"timestamp desc", "bucket[4](key) asc nulls last",
                                        "country"};
    struct schema *s = columns();
    struct errinfo info = {0};
    char *text;
    json_t *o;

    assert_int_equal(sort_order_from_texts(texts, 3, s, 1, &o, &info), ERR_OK);
    text = json_dumps(o, JSON_COMPACT);
    assert_string_equal(text, "{\"order-id\":1,\"fields\":["
                              "{\"transform\":\"identity\",\"source-id\":1,\"direction\":\"desc\","
                              "\"null-order\":\"nulls-last\"},"
                              "{\"transform\":\"bucket[4]\",\"source-id\":2,\"direction\":\"asc\","
                              "\"null-order\":\"nulls-last\"},"
                              "{\"transform\":\"identity\",\"source-id\":4,\"direction\":\"asc\","
                              "\"null-order\":\"nulls-first\"}]}");
    free(text);
    json_decref(o);
    const char *bad = "none desc";

    assert_int_equal(sort_order_from_texts(&bad, 1, s, 1, &o, &info), ERR_CONFIG);
    schema_free(&s);
}

static void path_of(const char *t, enum ice_kind source, struct ice_value v, const char *want)
{
    struct transform how = transform_parse(slice_str(t));
    struct ice_type from = {.kind = source}, result;
    struct buf b;

    assert_true(transform_result(how, from, &result));
    buf_init(&b, 256);
    assert_int_equal(transform_path(how, result, &v, &b), ERR_OK);
    assert_int_equal(buf_append_u8(&b, 0), ERR_OK);
    assert_string_equal((char *)b.ptr, want);
    buf_fini(&b);
}

static void paths(void **state)
{
    path_of("hour", ICE_TIMESTAMPTZ, (struct ice_value){.i = 17486 * 24 + 22}, "2017-11-16-22");
    path_of("hour", ICE_TIMESTAMPTZ, (struct ice_value){.i = -1}, "1969-12-31-23");
    path_of("day", ICE_TIMESTAMPTZ, (struct ice_value){.i = 17486}, "2017-11-16");
    path_of("month", ICE_TIMESTAMPTZ, (struct ice_value){.i = 47 * 12 + 10}, "2017-11");
    path_of("month", ICE_TIMESTAMPTZ, (struct ice_value){.i = -1}, "1969-12");
    path_of("year", ICE_TIMESTAMPTZ, (struct ice_value){.i = 47}, "2017");
    path_of("bucket[4]", ICE_LONG, (struct ice_value){.i = 3}, "3");
    path_of("identity", ICE_STRING, (struct ice_value){.bytes = SLICE_LIT("a/b c\xc3\xa9")},
            "a%2Fb%20c%C3%A9");
    path_of("identity", ICE_STRING, (struct ice_value){.bytes = SLICE_LIT("..")}, "%2E%2E");
    path_of("identity", ICE_LONG, ICE_NULL, "null");
    path_of("identity", ICE_BOOLEAN, (struct ice_value){.i = 1}, "true");
}

/* lake.partition: lists in all their forms, terms that wait for their columns, and what is wrong. */
static void settings(void **state)
{
    static const struct {
        const char *text, *applied;
        enum err e;
    } rows[] = {
        {"hour(timestamp)", "hour(timestamp)", ERR_OK},
        {"none", "", ERR_OK},
        {"[]", "", ERR_OK},
        {"key_bucket[16],day(ts)", "key_bucket[16],day(ts)", ERR_OK},
        {"[\"key_bucket[16]\", \"day(ts)\"]", "key_bucket[16],day(ts)", ERR_OK},
        {" country , truncate[3](country) ", "country,truncate[3](country)", ERR_OK},
        {"city, day(ts), bucket[4](zip)", "day(ts)", ERR_OK},
        {"void(key)", "void(key)", ERR_OK},
        {"year(amount)", NULL, ERR_CONFIG},
        {"tags", NULL, ERR_CONFIG},
        {"minute(timestamp)", NULL, ERR_CONFIG},
        {"minute(nothing)", NULL, ERR_CONFIG},
        {"country,,key", NULL, ERR_CONFIG},
        {"country,country", NULL, ERR_CONFIG},
        {"[\"country\"", NULL, ERR_CONFIG},
        {"[1]", NULL, ERR_CONFIG},
    };
    struct schema *s = columns();
    char applied[TOPIC_CONF_WORD_MAX + 1];
    struct spec *sp;
    struct errinfo info;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum err e = spec_wanted(rows[i].text, s, &sp, applied, &info);

        if (e != rows[i].e)
            fail_msg("%s: %s", rows[i].text, err_code(e));
        if (!e)
            assert_string_equal(applied, rows[i].applied);
        spec_free(&sp);
    }
    schema_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings),   cmocka_unit_test(times), cmocka_unit_test(calendar),
        cmocka_unit_test(truncation), cmocka_unit_test(words), cmocka_unit_test(specs),
        cmocka_unit_test(orders),     cmocka_unit_test(paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
