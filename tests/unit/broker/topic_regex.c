/* Regular expressions over topic names: what matches, what is refused, and that no pattern takes
 * long. The expectations are RE2's. */
#include "fixture.h"

#include "base/tbl/limits.h"
#include "broker/topic_regex.h"

static void test_matches(void **state)
{
    static const struct {
        const char *pattern, *yes,
            *no; /* names, separated by spaces; "-" stands for the empty one */
    } rows[] = {
        {"orders", "orders", "order orders2 xorders -"},
        {"orders.*", "orders orders.eu ordersx", "order xorders"},
        {"orders\\..*", "orders.eu orders.", "orders ordersx"},
        {"a|bc|", "a bc -", "b ab abc"},
        {"(a|b)c", "ac bc", "a c abc"},
        {"(?:a|b)*c", "c ac babac", "ab -"},
        {"(?P<x>a)(?<y>b)", "ab", "a b"},
        {"a+b?", "a aa ab aab", "b abb -"},
        {"a+?b??", "a aa ab aab", "b abb"},
        {"a{2}", "aa", "a aaa"},
        {"a{2,}", "aa aaa", "a"},
        {"a{1,3}", "a aa aaa", "- aaaa"},
        {"a{0}b", "b", "ab"},
        {"a{,3}", "a{,3}", "a aa"},
        {"x{y", "x{y", "x"},
        {"[abc]", "a b c", "d ab"},
        {"[^abc]", "d -x", "a b"},
        {"[a-c0-2]+", "abc012", "d 3"},
        {"[]a]+", "]a", "b"},
        {"[a-]+", "a-a", "b"},
        {"[\\w.-]+", "a_B9.-", "a/b"},
        {"\\d+", "123", "12a"},
        {"\\D+", "abc", "a1"},
        {"\\W", ".", "a"},
        {"[[:alpha:]]+", "abcXYZ", "a1"},
        {"[[:^digit:]]+", "abc.", "a1"},
        {"[[:alpha:][:digit:]_]+", "a1_", "a.1"},
        {"(?i)orders", "orders ORDERS oRdErS", "order"},
        {"(?i:o)rders", "orders Orders", "ORDERS"},
        {"a(?i)b|c", "ab aB c C", "Ab"},
        {"(?i)[^a]", "b", "a A"},
        {"(?-i)a", "a", "A"},
        {"(?s).(?m)x(?U)y*", "axyy", "xy"},
        {"^orders$", "orders", "orders2"},
        {"\\Aa\\z", "a", "b"},
        {"a^b", "", "ab a^b"},
        {"a\\b.b", "a.b a-b", "aab a_b"},
        {"a\\Bb", "ab", "a.b"},
        {"\\Qa.b\\E.", "a.bx", "axbx a.b"},
        {"\\Qa*", "a*", "aa"},
        {"\\x61\\x{62}\\143?", "", "ab"},
        {"\\x61\\x{62}", "ab", "a"},
        {"a\\.b\\-c\\_?", "", "a.b"},
        {"(a*)*", "- a aaa", "b"},
        {"(a|aa)+$", "a aaaa", "ab"},
        {"", "-", "a"},
        {".", "a .", "- ab"},
        {"()|a", "- a", "b"},
    };
    struct topic_regex *r;
    char copy[128], *name, *rest;
    size_t i;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum err e = topic_regex_new(slice_str(rows[i].pattern), &r, NULL);

        /* rows without a match are those that RE2 refuses, but for "a^b" */
        if (rows[i].yes[0] == 0 && strcmp(rows[i].pattern, "a^b") != 0) {
            assert_int_equal(e, ERR_REGEX);
            continue;
        }
        if (e)
            fail_msg("%s is refused", rows[i].pattern);
        snprintf(copy, sizeof copy, "%s", rows[i].yes);
        for (name = strtok_r(copy, " ", &rest); name; name = strtok_r(NULL, " ", &rest))
            if (strcmp(name, "-x") != 0 &&
                !topic_regex_match(r, slice_str(strcmp(name, "-") == 0 ? "" : name)))
                fail_msg("%s does not match %s", rows[i].pattern, name);
        snprintf(copy, sizeof copy, "%s", rows[i].no);
        for (name = strtok_r(copy, " ", &rest); name; name = strtok_r(NULL, " ", &rest))
            if (topic_regex_match(r, slice_str(strcmp(name, "-") == 0 ? "" : name)))
                fail_msg("%s matches %s", rows[i].pattern, name);
        topic_regex_free(&r);
        assert_null(r);
    }
}

static void test_refused(void **state)
{
    static const char *const rows[] = {
        "(",
        ")",
        "a)",
        "[",
        "[a",
        "[b-a]",
        "*a",
        "+",
        "?",
        "a**",
        "a+*",
        "a{2}{3}",
        "a{1001}",
        "a{3,2}",
        "\\",
        "\\1",
        "\\pL",
        "\\p{Greek}",
        "\\C",
        "(?=a)",
        "(?!a)",
        "(?<=a)",
        "(?<!a)",
        "(?P=x)",
        "(?P<>a)",
        "(?z)",
        "(?i",
        "[[:no:]]",
        "\\x",
        "\\xg0",
        "\\x{",
        "\\x{1f600}",
        "\\y",
        "(?P<x a)",
        "[\\",
        "a{1000}{2}",
        "(a{1000}){1000}",
        "((((){1000}){1000}){1000}){1000}",
        "|*",
        "(|+)",
    };
    struct topic_regex *r;
    struct errinfo info;
    char deep[LIMIT_REGEX_BYTES + 2];
    size_t i;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        memset(&info, 0, sizeof info);
        if (topic_regex_new(slice_str(rows[i]), &r, &info) != ERR_REGEX)
            fail_msg("%s is not refused", rows[i]);
        assert_null(r);
        assert_true(info.text[0] != 0);
    }
    memset(deep, 'a', sizeof deep);
    assert_int_equal(topic_regex_new(slice_of(deep, LIMIT_REGEX_BYTES), &r, NULL), ERR_OK);
    topic_regex_free(&r);
    assert_int_equal(topic_regex_new(slice_of(deep, LIMIT_REGEX_BYTES + 1), &r, NULL), ERR_REGEX);
    memset(deep, '(', sizeof deep);
    assert_int_equal(topic_regex_new(slice_of(deep, LIMIT_REGEX_BYTES), &r, NULL), ERR_REGEX);
    memset(deep, '|', sizeof deep);
    assert_int_equal(topic_regex_new(slice_of(deep, LIMIT_REGEX_BYTES / 2), &r, NULL), ERR_OK);
    topic_regex_free(&r);
    /* any byte may come, none harms */
    for (i = 0; i < 256; i++) {
        deep[0] = (char)i;
        if (topic_regex_new(slice_of(deep, 1), &r, NULL) == ERR_OK)
            topic_regex_free(&r);
    }
}

/* Patterns that take a backtracking matcher years. */
static void test_hostile(void **state)
{
    static const char *const rows[] = {"(a*)*b", "(a|a)*b", "(a|aa)+b", "(.*)(.*)(.*)(.*)(.*)b",
                                       "((a{0,9}){0,9}){0,9}b"};
    struct topic_regex *r;
    char name[250];
    size_t i;

    memset(name, 'a', sizeof name);
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(topic_regex_new(slice_str(rows[i]), &r, NULL), ERR_OK);
        name[249] = 'a';
        assert_false(topic_regex_match(r, slice_of(name, 250)));
        name[249] = 'b';
        assert_true(topic_regex_match(r, slice_of(name, 250)));
        assert_true(topic_regex_bytes(r) < 64 * 1024);
        topic_regex_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_hostile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
