/* Atomic batches: what waits, how long, and how much of it; what a crash in any of their steps leaves. */
#include "served.h"

#include "base/tbl/limits.h"

#define TIMEOUT_MS 10000u
#define SIZE       5u

static void stream(struct served *f, const char *name, const char *more)
{
    char subject[80], body[300];

    snprintf(subject, sizeof subject, "STREAM.CREATE.%s", name);
    snprintf(body, sizeof body, "{\"name\":\"%s\",\"subjects\":[\"%s.>\"],\"allow_atomic\":true%s}",
             name, name, more);
    served_good(f, subject, body);
}

/* The n-th message of a batch; last: and its end. more: further headers, each with its line's end. */
static uint32_t put(struct served *f, const char *subject, const char *id, unsigned n, bool last,
                    const char *more)
{
    char head[300], text[16];

    snprintf(head, sizeof head, "Nats-Batch-Id: %s\r\nNats-Batch-Sequence: %u\r\n%s%s", id, n,
             last ? "Nats-Batch-Commit: 1\r\n" : "", more);
    snprintf(text, sizeof text, "%u", n);
    return served_pub(f, subject, head, slice_str(text));
}

/* It waits for the next one. */
static void waits(struct served *f, uint32_t request)
{
    assert_string_equal(served_answer(f, request), "");
}

static void refused(struct served *f, uint32_t request, int64_t code)
{
    assert_int_equal(served_number(served_answer(f, request), "error.err_code"), code);
}

static void test_together(void **state)
{
    const char *told = NULL;
    struct served f;
    uint32_t last;

    (void)state;
    served_open(&f, 1);
    stream(&f, "B", "");
    waits(&f, put(&f, "B.x", "a", 1, false, ""));
    waits(&f, put(&f, "B.y", "a", 2, false, ""));
    assert_int_equal(served_state(&f, "B", "messages"), 0);
    last = put(&f, "B.z", "a", 3, true, "");
    served_loops(&f, 20);
    assert_null(served_heard(&f, last)); /* the disk has not done anything yet */
    told = served_answer(&f, last);
    assert_int_equal(served_number(told, "seq"), 3);
    assert_int_equal(served_number(told, "count"), 3);
    waits(&f, put(&f, "B.x", "lost", 1, false, ""));
    served_crash(&f);
    assert_int_equal(served_state(&f, "B", "last_seq"), 3);
    refused(&f, put(&f, "B.x", "lost", 2, true, ""), 10176);
    served_close(&f);
}

/* What it is called comes back in JSON, whatever it is. */
static void test_names(void **state)
{
    static const char *const names[] = {"\"", "\\u0000", "{}", "\xc3\xa9", "\xff\xfe", "a b"};
    const char *told;
    struct served f;
    size_t i;

    (void)state;
    served_open(&f, 1);
    stream(&f, "B", "");
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        told = served_answer(&f, put(&f, "B.x", names[i], 1, true, ""));
        assert_int_equal(served_number(told, "seq"), (int64_t)i + 1);
        assert_int_equal(served_number(told, "count"), 1);
        waits(&f, put(&f, "B.x", names[i], 1, false, ""));
        refused(&f, put(&f, "B.x", names[i], 3, false, ""), 10176);
        assert_int_equal(served_events(&f, "BATCH_ABANDONED.B", &told), i + 1);
        assert_non_null(strstr(told, "\"reason\":\"incomplete\""));
    }
    served_close(&f);
}

static void test_time(void **state)
{
    const char *told = NULL;
    struct served f;
    unsigned i;

    (void)state;
    served_open(&f, 1);
    stream(&f, "B", "");
    for (i = 1; i < 4; i++) { /* each has its own time */
        waits(&f, put(&f, "B.x", "slow", i, false, ""));
        served_wait(&f, TIMEOUT_MS - 500);
    }
    assert_int_equal(served_number(served_answer(&f, put(&f, "B.x", "slow", 4, true, "")), "seq"),
                     4);
    waits(&f, put(&f, "B.x", "late", 1, false, ""));
    served_wait(&f, TIMEOUT_MS - 500);
    assert_int_equal(served_events(&f, "BATCH_ABANDONED", &told), 0);
    served_wait(&f, 1000);
    assert_int_equal(served_events(&f, "BATCH_ABANDONED.B", &told), 1);
    assert_non_null(strstr(told, "\"reason\":\"timeout\""));
    refused(&f, put(&f, "B.x", "late", 2, true, ""), 10176);
    assert_int_equal(served_state(&f, "B", "last_seq"), 4);
    served_close(&f);
}

/* As many as a stream may have, of which the last is answered. */
static void open_many(struct served *f, const char *name)
{
    char subject[40], id[16];
    uint32_t last = 0;
    unsigned i;

    snprintf(subject, sizeof subject, "%s.x", name);
    for (i = 0; i < LIMIT_JS_STREAM_BATCHES; i++) {
        snprintf(id, sizeof id, "%u", i);
        last = put(f, subject, id, 1, false, "");
    }
    waits(f, last);
    refused(f, put(f, subject, "more", 1, false, ""), 10210);
}

static void test_many(void **state)
{
    const unsigned full = LIMIT_JS_BATCHES / LIMIT_JS_STREAM_BATCHES;
    struct served f;
    char name[16];
    unsigned i;

    (void)state;
    served_open(&f, 1);
    for (i = 0; i <= full; i++) {
        snprintf(name, sizeof name, "S%u", i);
        stream(&f, name, "");
        if (i < full)
            open_many(&f, name);
    }
    refused(&f, put(&f, "S20.x", "more", 1, false, ""), 10210);
    served_good(&f, "STREAM.DELETE.S3", "");
    open_many(&f, "S20"); /* there is room again, and no more than before */
    stream(&f, "S3", "");
    refused(&f, put(&f, "S3.x", "more", 1, false, ""), 10210);
    served_forget(&f);
    served_wait(&f, TIMEOUT_MS + 1000);
    open_many(&f, "S3"); /* nobody went on with the others */
    served_close(&f);
}

static void test_large(void **state)
{
    const size_t most = 1000u << 10;
    uint8_t *text = xcalloc(1, most);
    char head[100];
    const char *told = NULL;
    struct served f;
    uint32_t last = 0;
    unsigned i, turn;

    (void)state;
    served_open(&f, 1);
    stream(&f, "B", "");
    for (turn = 1; turn < 3; turn++) {
        for (i = 1; i <= LIMIT_JS_BATCH_BYTES / most + 1; i++) {
            snprintf(head, sizeof head, "Nats-Batch-Id: a\r\nNats-Batch-Sequence: %u\r\n", i);
            last = served_pub(&f, "B.x", head, slice_of(text, most));
        }
        refused(&f, last, 10199);
        waits(&f, last - 1);
        assert_int_equal(served_events(&f, "BATCH_ABANDONED.B", &told), turn);
        assert_non_null(strstr(told, "\"reason\":\"large\""));
    }
    free(text);
    served_close(&f);
}

/* Those of a batch count for those behind them; when it is refused they do not count any more. */
static void test_among_themselves(void **state)
{
    struct served f;

    (void)state;
    served_open(&f, 1);
    stream(&f, "B",
           ",\"discard\":\"new\",\"discard_new_per_subject\":true,\"max_msgs_per_subject\":2,"
           "\"max_msgs\":4");
    waits(&f, put(&f, "B.x", "a", 1, false, ""));
    waits(&f, put(&f, "B.x", "a", 2, false, ""));
    refused(&f, put(&f, "B.x", "a", 3, true, ""), 10077);
    waits(&f, put(&f, "B.x", "b", 1, false, "Nats-Msg-Id: 1\r\n"));
    refused(&f, put(&f, "B.y", "b", 2, true, "Nats-Msg-Id: 1\r\n"), 10201);
    waits(&f, put(&f, "B.x", "c", 1, false, "Nats-Expected-Last-Sequence: 0\r\n"));
    refused(&f, put(&f, "B.y", "c", 2, true, "Nats-Expected-Last-Sequence: 1\r\n"), 10164);
    waits(&f, put(&f, "B.x", "d", 1, false, ""));
    refused(&f, put(&f, "B.x", "d", 2, true, "Nats-Expected-Last-Subject-Sequence: 1\r\n"), 10164);
    waits(&f, put(&f, "B.x", "e", 1, false, "Nats-Expected-Last-Subject-Sequence: 0\r\n"));
    assert_int_equal(
        served_number(served_answer(&f, put(&f, "B.x", "e", 2, true, "Nats-Msg-Id: 1\r\n")), "seq"),
        2);
    waits(&f, put(&f, "B.y", "f", 1, false, ""));
    waits(&f, put(&f, "B.z", "f", 2, false, ""));
    refused(&f, put(&f, "B.v", "f", 3, true, ""), 10077); /* the stream would have five */
    assert_int_equal(
        served_number(served_answer(&f, served_pub(&f, "B.y", NULL, SLICE_LIT(""))), "seq"), 3);
    assert_int_equal(served_state(&f, "B", "messages"), 3);
    served_close(&f);
}

/* Each of a batch may expect the same of a pattern: what was there before it. Who comes while it is on its
 * way sees it. */
static void test_patterns(void **state)
{
    static const char none[] = "Nats-Expected-Last-Subject-Sequence: 0\r\n"
                               "Nats-Expected-Last-Subject-Sequence-Subject: B.o.>\r\n",
                      two[] = "Nats-Expected-Last-Subject-Sequence: 2\r\n"
                              "Nats-Expected-Last-Subject-Sequence-Subject: B.o.>\r\n";
    struct served f;
    uint32_t last, behind;

    (void)state;
    served_open(&f, 1);
    stream(&f, "B", "");
    waits(&f, put(&f, "B.o.made", "a", 1, false, none));
    last = put(&f, "B.o.paid", "a", 2, true, none);
    behind = served_pub(&f, "B.o.made", none, SLICE_LIT(""));
    assert_int_equal(served_number(served_answer(&f, last), "seq"), 2);
    refused(&f, behind, 10071);
    waits(&f, put(&f, "B.o.sent", "b", 1, false, none));
    refused(&f, put(&f, "B.o.sent", "b", 2, true, none), 10071);
    waits(&f, put(&f, "B.o.sent", "c", 1, false, two));
    last = put(&f, "B.o.sent", "c", 2, true, two);
    behind = served_pub(&f, "B.o.sent", two, SLICE_LIT(""));
    assert_int_equal(served_number(served_answer(&f, last), "seq"), 4);
    refused(&f, behind, 10071);
    served_close(&f);
}

/* The machine stops at the n-th call to the disk of a commit. True: it was answered before. */
static bool crash(uint64_t seed, unsigned n, bool *all)
{
    static uint8_t text[3000];
    const char *told = NULL;
    bool answered = false;
    struct served f;
    char head[100];
    uint32_t last = 0;
    unsigned i;

    served_open(&f, seed);
    stream(&f, "B", "");
    for (i = 1; i <= SIZE; i++) {
        if (i == SIZE)
            io_sim_crash_at(f.io, n);
        snprintf(head, sizeof head, "Nats-Batch-Id: a\r\nNats-Batch-Sequence: %u\r\n%s", i,
                 i == SIZE ? "Nats-Batch-Commit: 1\r\n" : "");
        last = served_pub(&f, "B.x", head, slice_of(text, seed % 2 ? 1 : sizeof text));
    }
    for (i = 0; i < SERVED_TURNS && !io_sim_crashed(f.io) && !told; i++) {
        served_turns(&f, 1);
        told = served_heard(&f, last);
    }
    answered = told && served_number(told, "count") == SIZE;
    served_crash(&f);
    i = (unsigned)served_state(&f, "B", "messages");
    assert_true(i == SIZE || (i == 0 && !answered));
    *all = i;
    served_close(&f);
    return answered;
}

/* All of a batch is there, or nothing, and all if it was answered. */
static void test_crashes(void **state)
{
    unsigned seed, n, some = 0, none = 0;
    bool all;

    (void)state;
    for (seed = 1; seed <= 24; seed++)
        for (n = 1; n < 9 && !crash(seed, n, &all); n++) {
            some += all;
            none += !all;
        }
    assert_true(some && none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_together), cmocka_unit_test(test_names),
        cmocka_unit_test(test_time),     cmocka_unit_test(test_many),
        cmocka_unit_test(test_large),    cmocka_unit_test(test_among_themselves),
        cmocka_unit_test(test_patterns), cmocka_unit_test(test_crashes)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
