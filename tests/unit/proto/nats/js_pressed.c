/* What is published while the disk is slow: what is refused waits for its turn, and slows publishers down
 * like what is stored. */
#include "served.h"

#include "proto/nats/js_int.h"

#define REFUSED 100000u /* each takes some 400 bytes until it is answered */

static bool pressed(struct served *f)
{
    struct jstream *s =
        js_stream_find(f->d.nats->js, nats_account(f->d.nats, "$G"), SLICE_LIT("S"));
    bool is;

    assert_non_null(s);
    is = atomic_load(&s->pressed);
    jstream_unref(s);
    return is;
}

static void test_refused(void **state)
{
    char wish[300] = "Nats-Rollup: ";
    uint32_t first, last = 0;
    struct served f;
    unsigned i;

    (void)state;
    memset(wish + strlen(wish), 'x', 200); /* which is told in the answer */
    snprintf(wish + strlen(wish), 3, "\r\n");
    served_open(&f, 1);
    served_good(&f, "STREAM.CREATE.S", "{\"name\":\"S\",\"subjects\":[\"S.>\"]}");
    first = served_pub(&f, "S.a", NULL, SLICE_LIT("x"));
    served_loops(&f, 4); /* it is on its way now */
    assert_null(served_heard(&f, first));
    for (i = 0; i < REFUSED; i++) {
        last = served_pub(&f, "S.a", wish, SLICE_LIT(""));
        if (i % 100 == 0)
            served_loops(&f, 1);
        if (pressed(&f))
            break;
    }
    assert_true(pressed(&f) && !served_heard(&f, last));
    assert_int_equal(served_number(served_answer(&f, first), "seq"), 1);
    assert_int_equal(served_number(served_answer(&f, last), "error.err_code"), 10111);
    assert_false(pressed(&f));
    served_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
