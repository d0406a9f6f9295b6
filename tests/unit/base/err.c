/* The error table: every row is whole and told apart; causes in words. */
#include "base/err.h"

#include <errno.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void rows(void **state)
{
    int i, k;

    for (i = 0; i < ERR_N; i++) {
        const char *c = err_code((enum err)i);

        assert_true(c && *c && err_text((enum err)i)[0]);
        assert_int_equal(strspn(c, "abcdefghijklmnopqrstuvwxyz_"), strlen(c));
        assert_in_range(err_http((enum err)i), i ? 400 : 200, i ? 599 : 200);
        assert_in_range(err_kafka((enum err)i) + 1, 0, 131);
        for (k = 0; k < i; k++)
            assert_string_not_equal(c, err_code((enum err)k));
    }
    assert_string_equal(err_code((enum err)9999), "internal");
    assert_string_equal(err_code((enum err) - 1), "internal");
    assert_int_equal(err_http(ERR_TOPIC_NOT_FOUND), 404);
    assert_int_equal(err_kafka(ERR_TOPIC_NOT_FOUND), 3);
}

static void causes(void **state)
{
    struct errinfo info;
    char longer[600];

    assert_int_equal(errinfo_set(&info, ERR_LIMIT, "%d of %s", 3, "them"), ERR_LIMIT);
    assert_int_equal(info.code, ERR_LIMIT);
    assert_string_equal(info.text, "3 of them");
    assert_int_equal(errinfo_os(&info, ENOSPC, "write %s", "a.log"), ERR_NO_SPACE);
    assert_int_equal(info.os, ENOSPC);
    assert_non_null(strstr(info.text, "write a.log: "));
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    assert_int_equal(errinfo_os(&info, EIO, "%s", longer), ERR_IO);
    assert_int_equal(strlen(info.text), sizeof info.text - 1);
    assert_int_equal(errinfo_set(NULL, ERR_IO, "nobody listens"), ERR_IO);
    assert_int_equal(errinfo_os(NULL, ENOENT, "nobody listens"), ERR_NOT_FOUND);
}

static void from_errno(void **state)
{
    assert_int_equal(err_from_errno(0), ERR_OK);
    assert_int_equal(err_from_errno(ENOSPC), ERR_NO_SPACE);
    assert_int_equal(err_from_errno(EDQUOT), ERR_NO_SPACE);
    assert_int_equal(err_from_errno(ENOMEM), ERR_NO_MEMORY);
    assert_int_equal(err_from_errno(ENOENT), ERR_NOT_FOUND);
    assert_int_equal(err_from_errno(EEXIST), ERR_EXISTS);
    assert_int_equal(err_from_errno(EBADF), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows),
        cmocka_unit_test(causes),
        cmocka_unit_test(from_errno),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
