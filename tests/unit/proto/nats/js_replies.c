/* Reply subjects in a buffer: what there is no room for leaves no trace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/nats/js_replies.h"

static void test_in_order(void **state)
{
    static const char *const texts[] = {"a", "b.c", "d"};
    struct slice s;
    size_t at = 0;
    struct buf b;
    unsigned i;

    (void)state;
    buf_init(&b, SIZE_MAX);
    assert_false(jreplies_next(buf_slice(&b), &at, &s));
    for (i = 0; i < 3; i++)
        assert_true(jreplies_add(&b, slice_str(texts[i])));
    assert_false(jreplies_add(&b, SLICE_LIT("")));
    for (i = 0; i < 3; i++) {
        assert_true(jreplies_next(buf_slice(&b), &at, &s));
        assert_true(slice_eq_str(s, texts[i]));
    }
    assert_false(jreplies_next(buf_slice(&b), &at, &s));
    buf_fini(&b);
}

static void test_no_room(void **state)
{
    char large[5000];
    struct slice s;
    size_t at = 0;
    struct buf b;

    (void)state;
    memset(large, 'x', sizeof large);
    buf_init(&b, 12);
    assert_false(jreplies_add(&b, slice_of(large, sizeof large)));
    assert_true(jreplies_add(&b, SLICE_LIT("reply")));
    assert_false(jreplies_add(&b, SLICE_LIT("other"))); /* the length alone would have room */
    assert_true(jreplies_add(&b, SLICE_LIT("abc")));
    assert_true(jreplies_next(buf_slice(&b), &at, &s) && slice_eq_str(s, "reply"));
    assert_true(jreplies_next(buf_slice(&b), &at, &s) && slice_eq_str(s, "abc"));
    assert_false(jreplies_next(buf_slice(&b), &at, &s));
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order),
        cmocka_unit_test(test_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
