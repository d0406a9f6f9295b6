/* Allocation: zero sizes, copies, alignment; what cannot be had stops the process. */
#include "base/mem.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void gives(void **state)
{
    char *s = xstrdup("text"), *d = xmemdup("a\0b", 3);
    uint8_t *z = xcalloc(10, 10), *a = xaligned(4096, 100), *e = xmalloc(0), *n = xmemdup(NULL, 0);

    assert_string_equal(s, "text");
    assert_memory_equal(d, "a\0b", 3);
    assert_int_equal(z[0] | z[99], 0);
    assert_int_equal((uintptr_t)a % 4096, 0);
    assert_non_null(e);
    assert_non_null(n);
    s = xrealloc(s, 1000);
    assert_string_equal(s, "text");
    free(s);
    free(d);
    free(z);
    free(a);
    free(e);
    free(n);
}

/* calloc's product must not wrap to something small. */
static void overflow_aborts(void **state)
{
    volatile size_t huge = SIZE_MAX / 2 + 1;
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        signal(SIGABRT, SIG_DFL);
        free(xcalloc(huge, 2));
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gives), cmocka_unit_test(overflow_aborts)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
