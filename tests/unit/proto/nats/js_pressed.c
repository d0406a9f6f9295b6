/* What is published while the disk is slow: what is refused waits for its turn, and slows publishers down
 * like what is stored. */
#include "served.h"

#include "proto/nats/js_int.h"

#define REFUSED 10000u /* each takes more than 3,000 bytes until it is answered */
#define REPLY   3000u

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

/* A message that is refused, whose answer nobody listens to. */
static void refused(struct served *f)
{
    static const char head[] = "NATS/1.0\r\nNats-Rollup: sub\r\n\r\n";
    char line[REPLY + 200] = "HPUB S.a none.";

    memset(line + strlen(line), 'x', REPLY);
    snprintf(line + strlen(line), 100, " %zu %zu\r\n%s\r\n", strlen(head), strlen(head), head);
    natsd_send(&f->d, 0, slice_str(line));
}

static void test_refused(void **state)
{
    uint32_t first, last;
    struct served f;
    unsigned i;

    (void)state;
    served_open(&f, 1);
    served_good(&f, "STREAM.CREATE.S", "{\"name\":\"S\",\"subjects\":[\"S.>\"]}");
    first = served_pub(&f, "S.a", NULL, SLICE_LIT("x"));
    served_loops(&f, 4); /* it is on its way now */
    assert_null(served_heard(&f, first));
    last = served_pub(&f, "S.a", "Nats-Rollup: sub\r\n", SLICE_LIT(""));
    for (i = 0; i < REFUSED && !pressed(&f); i++) {
        refused(&f);
        served_loops(&f, 1);
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
