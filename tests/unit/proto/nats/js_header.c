/* Headers as text: taken apart, and copied but for some. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/nats/js_header.h"

static bool is_not(void *arg, struct slice name)
{
    return !slice_eq_str(name, arg);
}

static void copied(struct slice from, const char *without, struct slice to)
{
    char name[16];
    struct buf b;

    strncpy(name, without, sizeof name - 1);
    name[sizeof name - 1] = 0;
    buf_init(&b, SIZE_MAX);
    nheader_copy(from, is_not, name, &b);
    if (!slice_eq(buf_slice(&b), to))
        fail_msg("%.*s", (int)b.len, (const char *)b.ptr);
    buf_fini(&b);
}

static void test_copy(void **state)
{
    (void)state;
    copied(SLICE_LIT(""), "A", SLICE_LIT("NATS/1.0\r\n"));
    copied(SLICE_LIT("NATS/1.0\r\nA: 1\r\nB:2\r\nA: 3\r\n\r\n"), "A",
           SLICE_LIT("NATS/1.0\r\nB: 2\r\n"));
    copied(SLICE_LIT("NATS/1.0 503 none\r\nA: 1\r\n\r\n"), "B",
           SLICE_LIT("NATS/1.0 503 none\r\nA: 1\r\n"));
    /* a value may have any bytes but those of a line's end */
    copied(SLICE_LIT("NATS/1.0\r\nA: x\0y\xff\r\n\r\n"), "B",
           SLICE_LIT("NATS/1.0\r\nA: x\0y\xff\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
