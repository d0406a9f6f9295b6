/* Names of topics and patterns. */
#include "base/topic_name.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void names(void **state)
{
    static const char *const good[] = {"a", "orders", "A.b_C-9", "...", "..a", "-", "_"};
    static const char *const bad[] = {"", ".", "..", "a b", "a/b", "a:b", "\xc3\xa9", "a*", "a\n"};
    char longest[251];
    size_t i;

    for (i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(topic_name_valid(slice_str(good[i])));
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(topic_name_valid(slice_str(bad[i])));
    memset(longest, 'x', sizeof longest);
    assert_true(topic_name_valid(slice_of(longest, 249)));
    assert_false(topic_name_valid(slice_of(longest, 250)));
    assert_false(topic_name_valid(slice_of("a\0b", 3)));
    assert_false(topic_name_valid(SLICE_NULL));
}

static void patterns(void **state)
{
    static const char *const yes[][2] = {{"", ""},
                                         {"*", ""},
                                         {"*", "abc"},
                                         {"a*c", "abbbc"},
                                         {"a*c", "ac"},
                                         {"?b*", "abc"},
                                         {"*.eu.*", "a.eu.b"},
                                         {"**", "x"},
                                         {"a*b*c", "aXbbYcc"},
                                         {"*ab", "aab"}};
    static const char *const no[][2] = {{"", "a"},   {"?", ""},      {"a*c", "abcd"}, {"a", "ab"},
                                        {"ab", "a"}, {"*x*", "abc"}, {"A", "a"},      {"?", "ab"}};
    size_t i;

    for (i = 0; i < sizeof yes / sizeof yes[0]; i++)
        if (!glob_match(yes[i][0], yes[i][1]))
            fail_msg("%s does not match %s", yes[i][0], yes[i][1]);
    for (i = 0; i < sizeof no / sizeof no[0]; i++)
        if (glob_match(no[i][0], no[i][1]))
            fail_msg("%s matches %s", no[i][0], no[i][1]);
}

/* A pattern that makes naive matchers take for ever ends at once. */
static void hostile_pattern_ends(void **state)
{
    char text[250], pattern[250];
    size_t i;

    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    for (i = 0; i + 2 < sizeof pattern; i += 2)
        memcpy(pattern + i, "*a", 2);
    memcpy(pattern + sizeof pattern - 4, "*ab", 4);
    assert_false(glob_match(pattern, text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(patterns),
        cmocka_unit_test(hostile_pattern_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
