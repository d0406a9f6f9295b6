/* Accept, type filters. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "proto/http/http_int.h"

static int pick(const char *accept)
{
    static const char *const offers[] = {"application/json", "application/x-ndjson"};

    return accept_pick(slice_str(accept), offers, 2);
}

static void test_accept(void **state)
{
    assert_int_equal(pick(""), 0);
    assert_int_equal(pick("*/*"), 0);
    assert_int_equal(pick("application/*"), 0);
    assert_int_equal(pick("application/x-ndjson"), 1);
    assert_int_equal(pick("Application/X-NDJSON; charset=utf-8"), 1);
    assert_int_equal(pick("text/html, application/x-ndjson;q=0.5, */*;q=0.1"), 1);
    assert_int_equal(pick("application/json;q=0.4, application/x-ndjson;q=0.5"), 1);
    assert_int_equal(pick("application/json;q=0, */*"), 1);
    assert_int_equal(pick("text/html"), -1);
    assert_int_equal(pick("*/*;q=0"), -1);
    assert_int_equal(pick("text/*, image/png"), -1);
    assert_int_equal(pick(",,;q=,"), -1);
}

static bool match(const char *types, const char *type)
{
    struct record_header h = {SLICE_LIT("ce_type"), slice_str(type)};
    struct reader_record r = {.headers = &h, .headers_n = type ? 1 : 0};

    return types_match(slice_str(types), &r);
}

static void test_types(void **state)
{
    assert_true(match("", NULL));
    assert_true(match("a", "a"));
    assert_false(match("a", "ab"));
    assert_false(match("a", NULL));
    assert_true(match("x,a", "a"));
    assert_true(match("order.*", "order.created"));
    assert_false(match("order.*", "orders.created"));
    assert_false(match("order.*", "order"));
    assert_true(match("*", "anything"));
    assert_false(match("*", NULL));
    assert_true(match("a,,b", "b"));
}

static void test_limits(void **state)
{
    struct http_limits l;
    struct errinfo info;

    http_limits_default(&l);
    assert_int_equal(l.batch_events_max, 10000);
    assert_int_equal(http_limits_set(&l, SLICE_LIT("wait_ms_max"), 5, &info), ERR_OK);
    assert_int_equal(l.wait_ms_max, 5);
    assert_int_equal(http_limits_set(&l, SLICE_LIT("depth_max"), 0, &info), ERR_CONFIG);
    assert_non_null(strstr(info.text, "http.depth_max"));
    assert_int_equal(http_limits_set(&l, SLICE_LIT("nothing"), 1, &info), ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accept),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
