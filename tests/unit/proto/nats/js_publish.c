/* What is checked of a message that is published: also against those before it that the disk does not have
 * yet, of the same moment; and that nothing is answered before it is durable. */
#include "served.h"

static void create(struct served *f, const char *more)
{
    char body[400];

    snprintf(body, sizeof body, "{\"name\":\"S\",\"subjects\":[\"s.>\"]%s}", more);
    served_good(f, "STREAM.CREATE.S", body);
}

/* One of several that are sent together. want: the sequence; as a negative number the error's code. */
struct row {
    const char *subject, *headers, *payload;
    int64_t want;
    bool duplicate;
};

static int64_t outcome(const char *text)
{
    int64_t code = served_number(text, "error.err_code");

    return code < 0 ? served_number(text, "seq") : -code;
}

static void check(struct served *f, const struct row *rows, unsigned n)
{
    uint32_t first = f->sent + 1;
    const char *text;
    unsigned i;

    for (i = 0; i < n; i++)
        served_pub(f, rows[i].subject, rows[i].headers,
                   slice_str(rows[i].payload ? rows[i].payload : ""));
    for (i = 0; i < n; i++) {
        text = served_answer(f, first + i);
        if (outcome(text) != rows[i].want)
            fail_msg("row %u: %s, not %" PRId64, i, text, rows[i].want);
        assert_int_equal(strstr(text, "\"duplicate\":true") || strstr(text, "\"duplicate\": true"),
                         rows[i].duplicate);
    }
}

/* The same together, and one after the other: what is checked is the same. */
static void check_both(const char *conf, const struct row *rows, unsigned n)
{
    struct served f;
    unsigned i, turn;

    for (turn = 0; turn < 2; turn++) {
        served_open(&f, 1);
        create(&f, conf);
        if (turn)
            check(&f, rows, n);
        for (i = 0; !turn && i < n; i++)
            check(&f, &rows[i], 1);
        served_close(&f);
    }
}

#define LAST    "Nats-Expected-Last-Sequence: "
#define SUBJECT "Nats-Expected-Last-Subject-Sequence: "
#define FOR     "Nats-Expected-Last-Subject-Sequence-Subject: "
#define ID      "Nats-Msg-Id: "
#define LAST_ID "Nats-Expected-Last-Msg-Id: "
#define STREAM  "Nats-Expected-Stream: "
#define ROWS(v) v, sizeof(v) / sizeof *(v)

static void test_expected(void **state)
{
    static const struct row rows[] = {{"s.a", LAST "0\r\n", NULL, 1, false},
                                      {"s.a", LAST "0\r\n", NULL, -10071, false},
                                      {"s.a", LAST "1\r\n", NULL, 2, false},
                                      {"s.b", SUBJECT "0\r\n", NULL, 3, false},
                                      {"s.b", SUBJECT "0\r\n", NULL, -10071, false},
                                      {"s.b", SUBJECT "3\r\n", NULL, 4, false},
                                      {"s.c", SUBJECT "2\r\n" FOR "s.a\r\n", NULL, 5, false},
                                      {"s.c", SUBJECT "4\r\n" FOR "s.a\r\n", NULL, -10071, false},
                                      {"s.d", SUBJECT "5\r\n" FOR "s.*\r\n", NULL, 6, false},
                                      {"s.d", SUBJECT "5\r\n" FOR "s.>\r\n", NULL, -10071, false},
                                      {"s.d", FOR "s.a\r\n", NULL, -10193, false},
                                      {"s.a", STREAM "S\r\n", NULL, 7, false},
                                      {"s.a", STREAM "T\r\n", NULL, -10060, false},
                                      {"s.a", LAST "7\r\n" SUBJECT "7\r\n", NULL, 8, false},
                                      {"s.a", LAST "8\r\n" SUBJECT "7\r\n", NULL, -10071, false}};

    (void)state;
    check_both("", ROWS(rows));
}

static void test_ids(void **state)
{
    static const struct row rows[] = {{"s.a", ID "1\r\n", NULL, 1, false},
                                      {"s.b", ID "1\r\n", NULL, 1, true},
                                      {"s.a", LAST_ID "1\r\n" ID "2\r\n", NULL, 2, false},
                                      {"s.a", LAST_ID "1\r\n", NULL, -10070, false},
                                      {"s.a", LAST_ID "2\r\n", NULL, 3, false},
                                      {"s.a", ID "2\r\n", NULL, 2, true},
                                      {"s.a", ID "3\r\n" LAST "9\r\n", NULL, -10071, false},
                                      {"s.a", ID "3\r\n", NULL, 4, false}};
    struct served f;

    (void)state;
    check_both("", ROWS(rows));
    served_open(&f, 1);
    create(&f, ",\"duplicate_window\":2000000000");
    check(&f, &(struct row){"s.a", ID "1\r\n", NULL, 1, false}, 1);
    served_crash(&f);
    check(&f, &(struct row){"s.a", ID "1\r\n", NULL, 1, true}, 1);
    served_wait(&f, 5000);
    check(&f, &(struct row){"s.a", ID "1\r\n", NULL, 2, false}, 1);
    served_close(&f);
}

static void test_limits(void **state)
{
    static const struct row count[] = {{"s.a", NULL, NULL, 1, false},
                                       {"s.b", NULL, NULL, 2, false},
                                       {"s.c", NULL, NULL, -10077, false},
                                       {"s.a", NULL, NULL, -10077, false}};
    static const struct row replaced[] = {{"s.a", NULL, NULL, 1, false},
                                          {"s.b", NULL, NULL, 2, false},
                                          {"s.a", NULL, NULL, 3, false},
                                          {"s.c", NULL, NULL, -10077, false}};
    static const struct row each[] = {{"s.a", NULL, NULL, 1, false},
                                      {"s.a", NULL, NULL, 2, false},
                                      {"s.a", NULL, NULL, -10077, false},
                                      {"s.b", NULL, NULL, 3, false}};
    static const struct row bytes[] = {
        {"s.a", NULL, "123456789012345678901234567890", 1, false},
        {"s.a", NULL, "123456789012345678901234567890", 2, false},
        {"s.a", NULL, "123456789012345678901234567890", -10077, false},
        {"s.a", NULL, "12345678901234567890123456789012345678901", -10054, false},
        {"s.a", "K: 1234567890123456\r\n", "12345678901234", -10054, false}};

    (void)state;
    check_both(",\"discard\":\"new\",\"max_msgs\":2", ROWS(count));
    check_both(",\"discard\":\"new\",\"max_msgs\":2,\"max_msgs_per_subject\":1", ROWS(replaced));
    check_both(",\"discard\":\"new\",\"max_msgs_per_subject\":2,\"discard_new_per_subject\":true",
               ROWS(each));
    check_both(",\"discard\":\"new\",\"max_bytes\":130,\"max_msg_size\":40", ROWS(bytes));
}

static void test_wishes(void **state)
{
    static const struct row off[] = {{"s.a", "Nats-TTL: 1s\r\n", NULL, -10166, false},
                                     {"s.a", "Nats-TTL: soon\r\n", NULL, -10165, false},
                                     {"s.a", "Nats-Rollup: sub\r\n", NULL, -10111, false},
                                     {"s.a", "Nats-Rollup: some\r\n", NULL, -10111, false},
                                     {"s.a", "Nats-Incr: +1\r\n", NULL, -10168, false},
                                     {"s.a", "Nats-Stream-Source: x\r\n", NULL, -10227, false},
                                     {"s.a", NULL, NULL, 1, false}};
    static const struct row on[] = {{"s.a", "Nats-TTL: 1h\r\n", NULL, 1, false},
                                    {"s.b", NULL, NULL, 2, false},
                                    {"s.b", NULL, NULL, 3, false},
                                    {"s.b", "Nats-Rollup: sub\r\n", NULL, 4, false}};
    struct served f;

    (void)state;
    check_both("", ROWS(off));
    served_open(&f, 1);
    create(&f, ",\"allow_msg_ttl\":true,\"allow_rollup_hdrs\":true");
    check(&f, ROWS(on));
    assert_int_equal(served_state(&f, "S", "messages"), 2);
    check(&f, &(struct row){"s.c", "Nats-Rollup: all\r\n", NULL, 5, false}, 1);
    assert_int_equal(served_state(&f, "S", "messages"), 1);
    served_close(&f);
}

/* Nothing is said before the disk has it, whatever of it is asked for meanwhile. */
static void test_durable(void **state)
{
    struct served f;
    uint32_t first, i;

    (void)state;
    served_open(&f, 3);
    create(&f, "");
    first = served_pub(&f, "s.a", ID "1\r\n", SLICE_LIT("x"));
    served_pub(&f, "s.a", NULL, SLICE_LIT("y"));
    served_pub(&f, "s.a", ID "1\r\n", SLICE_LIT("x"));
    served_loops(&f, 30);
    for (i = 0; i < 3; i++)
        assert_null(served_heard(&f, first + i)); /* a duplicate of what may be lost, neither */
    served_crash(&f);
    assert_int_equal(served_state(&f, "S", "last_seq"), 0);
    check(&f, &(struct row){"s.a", ID "1\r\n" LAST "0\r\n", NULL, 1, false}, 1);
    served_crash(&f);
    assert_int_equal(served_state(&f, "S", "last_seq"), 1);
    served_close(&f);
}

/* A call to the disk fails: who published is told, or was answered and has it. */
static void test_failures(void **state)
{
    unsigned n, i, errors = 0;
    const char *text;
    struct served f;
    int64_t seq, last;
    uint32_t first;

    (void)state;
    for (n = 1; n < 6; n++) {
        served_open(&f, n);
        create(&f, "");
        io_sim_fail(f.io, n, ERR_IO, true);
        first = f.sent + 1;
        for (i = 0; i < 4; i++) {
            served_pub(&f, "s.a", NULL, SLICE_LIT("x"));
            served_turns(&f, 20);
        }
        for (i = 0, last = 0; i < 4; i++)
            if ((text = served_heard(&f, first + i)) && (seq = outcome(text)) > 0)
                last = seq;
            else
                errors += text && seq < 0;
        served_crash(&f);
        assert_true(served_state(&f, "S", "last_seq") >= last);
        assert_int_equal(served_state(&f, "S", "messages"), served_state(&f, "S", "last_seq"));
        served_close(&f);
    }
    assert_true(errors > 0);
}

static void test_silent(void **state)
{
    struct served f;
    uint32_t n;

    (void)state;
    served_open(&f, 1);
    create(&f, ",\"no_ack\":true,\"discard\":\"new\",\"max_msgs\":1");
    n = served_pub(&f, "s.a", NULL, SLICE_LIT(""));
    served_pub(&f, "s.a", NULL, SLICE_LIT(""));
    served_turns(&f, 20);
    assert_int_equal(served_state(&f, "S", "messages"), 1);
    assert_null(served_heard(&f, n));
    assert_null(served_heard(&f, n + 1));
    served_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expected), cmocka_unit_test(test_ids),
        cmocka_unit_test(test_limits),   cmocka_unit_test(test_wishes),
        cmocka_unit_test(test_durable),  cmocka_unit_test(test_failures),
        cmocka_unit_test(test_silent)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
