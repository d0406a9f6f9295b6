/* Transforms of subjects: what each function makes, and what is no transform. */
#include "proto/nats/js_transform.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void becomes(const char *src, const char *dest, const char *subject, const char *want)
{
    struct buf out;

    buf_init(&out, 4096);
    assert_true(jtransform_valid(slice_str(src), slice_str(dest)));
    assert_int_equal(jtransform_apply(slice_str(src), slice_str(dest), slice_str(subject), &out),
                     want != NULL);
    if (want) {
        buf_append_u8(&out, 0);
        assert_string_equal((const char *)out.ptr, want);
    }
    buf_fini(&out);
}

static void test_apply(void **state)
{
    (void)state;
    becomes("a", "b", "a", "b");
    becomes("a", "b", "c", NULL);
    becomes("", "x.>", "a.b", "x.a.b");
    becomes("a.>", "x.>", "a.b.c", "x.b.c");
    becomes("a.>", "x.>", "a", NULL);
    becomes("*.b.*", "$2.x.$1", "1.b.2", "2.x.1");
    becomes("*.b.*", "{{wildcard(2)}}.{{ Wildcard( 1 ) }}", "1.b.2", "2.1");
    becomes("*.*", "{{split(1,-)}}.$2", "-a--b-.c", "a.b.c");
    becomes("*", "{{splitfromleft(1,2)}}", "abcde", "ab.cde");
    becomes("*", "{{splitfromleft(1,9)}}", "abcde", "abcde");
    becomes("*", "{{splitfromright(1,2)}}", "abcde", "abc.de");
    becomes("*", "{{slicefromleft(1,2)}}", "abcde", "ab.cd.e");
    becomes("*", "{{slicefromright(1,2)}}", "abcde", "a.bc.de");
    becomes("*", "{{left(1,2)}}.{{right(1,1)}}", "abcde", "ab.e");
    /* FNV-1a of "foo" is 0xa9f37ed7 */
    becomes("*", "p.{{partition(10,1)}}", "foo", "p.3");
    becomes("foo", "p.{{partition(7)}}", "foo", "p.2");
}

static void test_valid(void **state)
{
    static const char *const bad[][2] = {
        {"a", ""},
        {"a", "b.>"},
        {"a.>", "b"},
        {"a.*", "b.*"},
        {"*", "$2"},
        {"*", "{{wildcard(2)}}"},
        {"*", "{{none(1)}}"},
        {"*", "{{split(1)}}"},
        {"*", "{{left(1,x)}}"},
        {"*", "{{partition(0,1)}}"},
        {"a..b", "c"},
        {"*", "a..b"},
        {"*", "{{wildcard(1)"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(jtransform_valid(slice_str(bad[i][0]), slice_str(bad[i][1])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apply),
        cmocka_unit_test(test_valid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
