/* Mirrors and sources: each message once, whatever happens between; what of its headers is copied; large
 * pieces; origins that come late, go, and come again. */
#include "served.h"

#define RETRY_MS 300u /* a little more than a feed waits */
#define SEEDS    20u

static void create(struct served *f, const char *name, const char *more)
{
    char subject[80], body[600];

    snprintf(subject, sizeof subject, "STREAM.CREATE.%s", name);
    snprintf(body, sizeof body, "{\"name\":\"%s\"%s}", name, more);
    served_good(f, subject, body);
}

/* Waits for the stream's last sequence. */
static void copied(struct served *f, const char *name, int64_t last)
{
    unsigned i;

    for (i = 0; served_state(f, name, "last_seq") < last; i++) {
        if (i > 60)
            fail_msg("%s has %" PRId64 " messages, not %" PRId64, name,
                     served_state(f, name, "last_seq"), last);
        served_forget(f);
        served_wait(f, RETRY_MS);
    }
    assert_int_equal(served_state(f, name, "last_seq"), last);
}

static void is(struct served *f, const char *name, uint64_t seq, const char *want)
{
    char got[4096];

    served_get(f, name, seq, got, sizeof got);
    if (strcmp(got, want) != 0)
        fail_msg("%s %" PRIu64 ": %s, not %s", name, seq, got, want);
    served_forget(f);
}

static void publish(struct served *f, unsigned *number, unsigned n)
{
    char text[16];

    while (n--) {
        snprintf(text, sizeof text, "%u", ++*number);
        served_pub(f, *number % 3 ? "o.a" : "o.b", NULL, slice_str(text));
    }
}

/* M has what O has, at its sequences; S those of one subject. */
static void whole(struct served *f)
{
    int64_t last = served_state(f, "O", "last_seq"), seq;
    char text[300], want[700];
    uint64_t at = 0;

    copied(f, "M", last);
    for (seq = 1; seq <= last; seq++) {
        served_get(f, "O", (uint64_t)seq, text, sizeof text);
        is(f, "M", (uint64_t)seq, text);
        if (strncmp(text, "o.b ", 4) != 0)
            continue;
        snprintf(want, sizeof want,
                 "x.b NATS/1.0\r\nNats-Stream-Source: O %" PRId64 " o.b x.b o.b\r\n\r\n%s", seq,
                 text + 4);
        is(f, "S", ++at, want);
    }
    copied(f, "S", (int64_t)at);
}

/* The machine stops again and again while messages come and are copied. */
static void test_crashes(void **state)
{
    unsigned seed, i, n, number, stops = 0, behind = 0;
    struct served f;

    (void)state;
    for (seed = 1; seed <= SEEDS; seed++) {
        served_open(&f, seed);
        create(&f, "O", ",\"subjects\":[\"o.>\"]");
        publish(&f, &(unsigned){0}, 9);
        served_turns(&f, 20);
        served_good(&f, "STREAM.MSG.DELETE.O", "{\"seq\":3}");
        served_good(&f, "STREAM.MSG.DELETE.O", "{\"seq\":4}");
        create(&f, "M", ",\"mirror\":{\"name\":\"O\"}");
        create(&f, "S",
               ",\"sources\":[{\"name\":\"O\",\"subject_transforms\":"
               "[{\"src\":\"o.b\",\"dest\":\"x.b\"}]}]");
        for (i = number = 0; i < 5; i++) {
            io_sim_crash_at(f.io, 1 + (seed * 7 + i * 5) % 9);
            for (n = 0; n < 20 && !io_sim_crashed(f.io); n++) {
                publish(&f, &number, n % 3);
                served_turns(&f, 1);
            }
            stops += io_sim_crashed(f.io);
            served_crash(&f);
            behind += served_state(&f, "M", "last_seq") < served_state(&f, "O", "last_seq");
        }
        served_wait(&f, RETRY_MS);
        whole(&f);
        served_close(&f);
    }
    assert_true(stops > SEEDS * 4 && behind > SEEDS);
}

/* What meant something to the origin alone is left out. */
static void test_headers(void **state)
{
    static const char headers[] = "K: v\r\nNats-Expected-Last-Sequence: 0\r\nNats-TTL: 1h\r\n"
                                  "Nats-Rollup: sub\r\nNats-Msg-Id: i\r\nk: w\r\n";
    struct served f;

    (void)state;
    served_open(&f, 1);
    create(&f, "O", ",\"subjects\":[\"o\"],\"allow_msg_ttl\":true,\"allow_rollup_hdrs\":true");
    create(&f, "S", ",\"sources\":[{\"name\":\"O\"}]");
    create(&f, "T",
           ",\"sources\":[{\"name\":\"S\"}],\"allow_msg_ttl\":true,\"allow_rollup_hdrs\":true");
    create(&f, "M",
           ",\"mirror\":{\"name\":\"O\"},\"allow_msg_ttl\":true,\"allow_rollup_hdrs\":true");
    create(&f, "N", ",\"mirror\":{\"name\":\"O\"}");
    served_answer(&f, served_pub(&f, "o", headers, SLICE_LIT("x")));
    copied(&f, "T", 1);
    copied(&f, "M", 1);
    copied(&f, "N", 1);
    is(&f, "S", 1,
       "o NATS/1.0\r\nK: v\r\nNats-Msg-Id: i\r\nk: w\r\nNats-Stream-Source: O 1 > > o\r\n\r\nx");
    is(&f, "T", 1,
       "o NATS/1.0\r\nK: v\r\nNats-Msg-Id: i\r\nk: w\r\nNats-Stream-Source: S 1 > > o\r\n\r\nx");
    is(&f, "N", 1,
       "o NATS/1.0\r\nK: v\r\nNats-Expected-Last-Sequence: 0\r\nNats-Msg-Id: i\r\nk: w\r\n\r\nx");
    is(&f, "M", 1,
       "o NATS/1.0\r\nK: v\r\nNats-Expected-Last-Sequence: 0\r\nNats-TTL: 1h\r\nNats-Rollup: "
       "sub\r\n"
       "Nats-Msg-Id: i\r\nk: w\r\n\r\nx");
    served_close(&f);
}

/* More than a piece, in messages and in bytes. */
static void test_large(void **state)
{
    const unsigned small = 5000, large = 8;
    uint8_t *text = xcalloc(1, 100000);
    struct served f;
    uint32_t n = 0;
    unsigned i;

    (void)state;
    served_open(&f, 1);
    create(&f, "O", ",\"subjects\":[\"o.>\"]");
    for (i = 0; i < small; i++) {
        n = served_pub(&f, "o.s", NULL, SLICE_LIT(""));
        if (i % 500 == 499)
            served_answer(&f, n);
    }
    for (i = 0; i < large; i++)
        n = served_pub(&f, "o.l", NULL, slice_of(text, 100000));
    served_answer(&f, n);
    served_forget(&f);
    create(&f, "M", ",\"mirror\":{\"name\":\"O\"}");
    create(&f, "S", ",\"sources\":[{\"name\":\"O\",\"filter_subject\":\"o.l\"}]");
    copied(&f, "M", small + large);
    copied(&f, "S", large);
    assert_int_equal(served_state(&f, "M", "messages"), small + large);
    assert_int_equal(served_state(&f, "M", "bytes"), served_state(&f, "O", "bytes"));
    free(text);
    served_close(&f);
}

/* A fault that is told of a feed. */
static bool faulty(struct served *f, const char *name)
{
    char subject[80];
    bool is;

    snprintf(subject, sizeof subject, "STREAM.INFO.%s", name);
    is = strstr(served_good(f, subject, ""), "\"err_code\"");
    served_forget(f);
    return is;
}

static void test_origins(void **state)
{
    struct served f;

    (void)state;
    served_open(&f, 1);
    create(&f, "M", ",\"mirror\":{\"name\":\"O\"}");
    create(&f, "S", ",\"subjects\":[\"s\"],\"sources\":[{\"name\":\"O\"}]");
    served_wait(&f, RETRY_MS);
    assert_true(faulty(&f, "M") && faulty(&f, "S"));
    create(&f, "O", ",\"subjects\":[\"o\"],\"first_seq\":5");
    served_answer(&f, served_pub(&f, "o", NULL, SLICE_LIT("first")));
    copied(&f, "M", 5);
    copied(&f, "S", 1);
    assert_false(faulty(&f, "M") || faulty(&f, "S"));
    served_good(&f, "STREAM.DELETE.O", "");
    served_wait(&f, RETRY_MS);
    create(&f, "O", ",\"subjects\":[\"o\"]");
    served_answer(&f, served_pub(&f, "o", NULL, SLICE_LIT("anew")));
    copied(&f, "S", 2); /* from its begin */
    is(&f, "S", 2, "o NATS/1.0\r\nNats-Stream-Source: O 1 > > o\r\n\r\nanew");
    served_wait(&f, RETRY_MS);
    assert_true(faulty(&f, "M")); /* its sequences would be another stream's */
    assert_int_equal(served_state(&f, "M", "last_seq"), 5);
    /* a source that is left out meanwhile goes on where it was, also over a restart */
    served_good(&f, "STREAM.UPDATE.S", "{\"name\":\"S\",\"subjects\":[\"s\"]}");
    served_answer(&f, served_pub(&f, "o", NULL, SLICE_LIT("meanwhile")));
    served_crash(&f);
    served_wait(&f, RETRY_MS);
    assert_int_equal(served_state(&f, "S", "last_seq"), 2);
    served_good(&f, "STREAM.UPDATE.S",
                "{\"name\":\"S\",\"subjects\":[\"s\"],\"sources\":[{\"name\":\"O\"}]}");
    copied(&f, "S", 3);
    is(&f, "S", 3, "o NATS/1.0\r\nNats-Stream-Source: O 2 > > o\r\n\r\nmeanwhile");
    served_close(&f);
}

/* Another stream of this name has nothing of what was copied to the first. */
static void test_forgotten(void **state)
{
    struct served f;

    (void)state;
    served_open(&f, 1);
    create(&f, "O", ",\"subjects\":[\"o\"]");
    served_answer(&f, served_pub(&f, "o", NULL, SLICE_LIT("")));
    create(&f, "S", ",\"sources\":[{\"name\":\"O\"}]");
    copied(&f, "S", 1);
    served_good(&f, "STREAM.DELETE.S", "");
    create(&f, "S", ",\"sources\":[{\"name\":\"O\"}]");
    copied(&f, "S", 1);
    served_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_crashes),
                                       cmocka_unit_test(test_headers), cmocka_unit_test(test_large),
                                       cmocka_unit_test(test_origins),
                                       cmocka_unit_test(test_forgotten)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
