/* Emitters: where events go, when they are written, the bounded buffer, what is lost is told. */
#include "fixture.h"

#include <pthread.h>

static struct weir_emitter *emitter(struct weir *w, size_t batch_size, int64_t interval_ms,
                                    size_t buffer_events)
{
    struct weir_emitter_options o = {.size = sizeof o,
                                     .batch_size = batch_size,
                                     .flush_interval_ms = interval_ms,
                                     .buffer_events = buffer_events};
    struct weir_emitter *e;

    OK(weir_emitter_new(w, &o, &e, &err));
    return e;
}

static bool settles(struct weir_emitter *e, uint64_t durable)
{
    struct weir_emitter_stats st;
    int i;

    for (i = 0; i < 20000; i++) {
        weir_emitter_stats_get(e, &st);
        if (st.durable >= durable)
            return st.durable == durable;
        nap_ms(5);
    }
    return false;
}

static void test_where(void **state)
{
    struct weir_emitter_options o = {.size = sizeof o, .source = "shop"};
    struct weir_emitter *e;
    struct weir_consumer *c;
    struct weir_message m;
    char payload[] = "{\"n\":1}";
    struct fx f;

    fx_start(&f);
    OK(weir_emitter_new(f.w, &o, &e, &err));
    OK(weir_emit(e, "order.created", NULL, payload, 7, &err));
    memset(payload, 'x', 7); /* it was copied */
    OK(weir_emit(e, "order.created", "audit", "a", 1, &err));
    OK(weir_emit(e, "order.created", "audit:c-1", "b", 1, &err));
    OK(weir_emit(e, "order.created", "audit", NULL, 0, &err));
    OK(weir_emitter_flush(e, &err));
    c = consumer(f.w, "orders", WEIR_FROM_BEGINNING, NULL);
    OK(weir_consumer_next(c, 0, &m, &err));
    assert_true(value_is(&m, "{\"n\":1}"));
    assert_null(m.key);
    assert_in_range(m.timestamp_ms, now_ms() - 60000, now_ms() + 1000);
    assert_int_equal(m.headers_n, 2);
    assert_string_equal(m.headers[0].name, "ce_type");
    assert_memory_equal(m.headers[0].value, "order.created", 13);
    assert_string_equal(m.headers[1].name, "ce_source");
    assert_int_equal(m.headers[1].value_len, 4);
    assert_memory_equal(m.headers[1].value, "shop", 4);
    assert_drained(c);
    weir_consumer_close(&c);
    c = consumer(f.w, "audit", WEIR_FROM_BEGINNING, NULL);
    assert_next(c, "a");
    OK(weir_consumer_next(c, 0, &m, &err));
    assert_true(value_is(&m, "b"));
    assert_int_equal(m.key_len, 3);
    assert_memory_equal(m.key, "c-1", 3);
    OK(weir_consumer_next(c, 0, &m, &err));
    assert_null(m.value);
    weir_consumer_close(&c);
    OK(weir_emitter_close(&e, &err));
    assert_null(e);
    OK(weir_emitter_close(&e, &err)); /* NULL: nothing */
    fx_crash(&f);
    fx_open(&f);
    assert_int_equal(records(f.w, "orders"), 1);
    assert_int_equal(records(f.w, "audit"), 3);
    OK(weir_emitter_new(f.w, NULL, &e, &err)); /* no source: no header for it */
    OK(weir_emit(e, "x", "bare", "v", 1, &err));
    OK(weir_emitter_close(&e, &err)); /* closing flushes */
    c = consumer(f.w, "bare", WEIR_FROM_BEGINNING, NULL);
    OK(weir_consumer_next(c, 0, &m, &err));
    assert_int_equal(m.headers_n, 1);
    weir_consumer_close(&c);
    fx_end(&f);
}

static void test_invalid(void **state)
{
    struct weir_emitter_options o = {.batch_size = 1};
    char *big = calloc(1, 2u << 20), type[300];
    struct weir_emitter_stats st;
    struct weir_emitter *e;
    struct fx f;

    fx_start(&f);
    FAILS(WEIR_ERR_INVALID, weir_emitter_new(f.w, &o, &e, &err)); /* no size */
    assert_null(e);
    OK(weir_emitter_new(f.w, NULL, &e, &err));
    FAILS(WEIR_ERR_INVALID, weir_emit(e, NULL, "t", "v", 1, &err));
    FAILS(WEIR_ERR_INVALID, weir_emit(e, "", "t", "v", 1, &err));
    memset(type, 'x', sizeof type - 1);
    type[sizeof type - 1] = 0;
    FAILS(WEIR_ERR_INVALID, weir_emit(e, type, "t", "v", 1, &err));
    FAILS(WEIR_ERR_INVALID, weir_emit(e, "a", "", "v", 1, &err));
    FAILS(WEIR_ERR_INVALID, weir_emit(e, "a", "t:", "v", 1, &err));
    FAILS(WEIR_ERR_INVALID, weir_emit(e, "a", ":k", "v", 1, &err));
    FAILS(WEIR_ERR_INVALID, weir_emit(e, ".b", NULL, "v", 1, &err));
    FAILS(WEIR_ERR_INVALID, weir_emit(e, "a", "no topic", "v", 1, &err));
    FAILS(WEIR_ERR_INVALID, weir_emit(e, "a", "t", NULL, 1, &err));
    FAILS(WEIR_ERR_TOO_LARGE, weir_emit(e, "a", "t", big, 2u << 20, &err));
    OK(weir_emitter_flush(e, &err)); /* what was not taken does not fail later */
    weir_emitter_stats_get(e, &st);
    assert_int_equal(st.taken + st.durable + st.failed + st.refused, 0);
    OK(weir_emitter_close(&e, &err));
    f.o.no_auto_create = true;
    fx_reopen(&f);
    OK(weir_emitter_new(f.w, NULL, &e, &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_emit(e, "a", "missing", "v", 1, &err));
    OK(weir_emitter_close(&e, &err));
    fx_end(&f);
    free(big);
}

static void test_when(void **state)
{
    struct weir_emitter_stats st;
    struct weir_emitter *e;
    struct fx f;
    int i;

    fx_start(&f);
    e = emitter(f.w, 0, 2, 0); /* by time */
    OK(weir_emit(e, "a", "t", "v", 1, &err));
    assert_true(settles(e, 1));
    OK(weir_emit(e, "a", "t", "v", 1, &err));
    assert_true(settles(e, 2));
    OK(weir_emitter_close(&e, &err));

    e = emitter(f.w, 10, 1000000, 0); /* by number */
    for (i = 0; i < 9; i++)
        OK(weir_emit(e, "a", "t", "v", 1, &err));
    nap_ms(50);
    weir_emitter_stats_get(e, &st);
    assert_int_equal(st.taken, 9);
    assert_int_equal(st.durable, 0);
    assert_int_equal(records(f.w, "t"), 2);
    OK(weir_emit(e, "a", "t", "v", 1, &err));
    assert_true(settles(e, 10));
    OK(weir_emit(e, "a", "t", "v", 1, &err)); /* by flush */
    OK(weir_emitter_flush(e, &err));
    weir_emitter_stats_get(e, &st);
    assert_int_equal(st.durable, 11);
    assert_int_equal(records(f.w, "t"), 13);
    OK(weir_emitter_close(&e, &err));
    fx_end(&f);
}

static void test_buffer(void **state)
{
    struct weir_emitter_stats st;
    struct weir_emitter *e;
    struct fx f;
    int i, round;

    fx_start(&f);
    e = emitter(f.w, 1000, 1000000, 10);
    for (round = 1; round <= 3; round++) {
        for (i = 0; i < 10; i++)
            OK(weir_emit(e, "a", "t", "v", 1, &err));
        FAILS(WEIR_ERR_OVERLOADED, weir_emit(e, "a", "t", "w", 1, &err));
        weir_emitter_stats_get(e, &st);
        assert_int_equal(st.taken, round * 10);
        assert_int_equal(st.refused, round);
        OK(weir_emitter_flush(e, &err)); /* one that was not taken is no failure */
        assert_int_equal(records(f.w, "t"), round * 10);
    }
    OK(weir_emitter_close(&e, &err));
    fx_end(&f);
}

struct lost {
    uint64_t events;
    weir_err e;
    char text[256];
    int calls;
};

static void on_error(void *arg, weir_err e, const char *text, uint64_t events_lost)
{
    struct lost *l = arg;

    l->calls++;
    l->events += events_lost;
    l->e = e;
    snprintf(l->text, sizeof l->text, "%s", text);
}

static void test_lost(void **state)
{
    struct lost l = {0};
    struct weir_emitter_options o = {
        .size = sizeof o, .flush_interval_ms = 1000000, .on_error = on_error, .arg = &l};
    struct weir_emitter_stats st;
    struct weir_emitter *e;
    struct fx f;
    int i;

    fx_start(&f);
    OK(weir_emitter_new(f.w, &o, &e, &err));
    for (i = 0; i < 7; i++)
        OK(weir_emit(e, "a", "t", "v", 1, &err));
    OK(weir_topic_delete(f.w, "t", &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_emitter_flush(e, &err));
    assert_int_equal(l.calls, 1);
    assert_int_equal(l.events, 7);
    assert_int_equal(l.e, WEIR_ERR_TOPIC_NOT_FOUND);
    assert_true(l.text[0] != 0);
    weir_emitter_stats_get(e, &st);
    assert_int_equal(st.failed, 7);
    assert_int_equal(st.durable, 0);
    OK(weir_emitter_flush(e, &err));          /* told once */
    OK(weir_emit(e, "a", "t", "v", 1, &err)); /* the topic is made again */
    OK(weir_emitter_flush(e, &err));
    assert_int_equal(records(f.w, "t"), 1);
    OK(weir_emitter_close(&e, &err));
    fx_end(&f);
}

/* More topics than an emitter keeps in mind. */
static void test_many_topics(void **state)
{
    struct weir_emitter *e;
    char stream[32];
    struct fx f;
    int i;

    fx_start(&f);
    e = emitter(f.w, 0, 0, 0);
    for (i = 0; i < 300; i++) {
        snprintf(stream, sizeof stream, "topic-%d:k", i % 100);
        OK(weir_emit(e, "a", stream, "v", 1, &err));
    }
    OK(weir_emitter_close(&e, &err));
    for (i = 0; i < 100; i++) {
        snprintf(stream, sizeof stream, "topic-%d", i);
        assert_int_equal(records(f.w, stream), 3);
    }
    fx_end(&f);
}

struct caller {
    pthread_t thread;
    struct weir_emitter *e;
    char id;
};

static void *emit_some(void *arg)
{
    struct caller *t = arg;
    char value[32];
    int i;

    for (i = 0; i < 3000; i++) {
        weir_err e;

        snprintf(value, sizeof value, "%c%d", t->id, i);
        while ((e = weir_emit(t->e, "a", "t", value, strlen(value), NULL)) == WEIR_ERR_OVERLOADED)
            nap_ms(1);
        MUST(e == WEIR_OK);
        if (i % 100 == 0)
            MUST(weir_emitter_flush(t->e, NULL) == WEIR_OK);
    }
    return NULL;
}

/* Two threads emit and flush while the emitter's own hands over: each one's order stays. */
static void test_threads(void **state)
{
    struct caller t[2] = {{.id = 'x'}, {.id = 'y'}};
    struct weir_emitter_stats st;
    struct weir_emitter *e;
    struct weir_consumer *c;
    struct weir_message m;
    int i, next[2] = {0};
    struct fx f;

    fx_start(&f);
    e = emitter(f.w, 10, 1, 500);
    for (i = 0; i < 2; i++) {
        t[i].e = e;
        assert_int_equal(pthread_create(&t[i].thread, NULL, emit_some, &t[i]), 0);
    }
    for (i = 0; i < 2; i++)
        pthread_join(t[i].thread, NULL);
    OK(weir_emitter_flush(e, &err));
    weir_emitter_stats_get(e, &st);
    assert_int_equal(st.taken, 6000);
    assert_int_equal(st.durable, 6000);
    OK(weir_emitter_close(&e, &err));
    c = consumer(f.w, "t", WEIR_FROM_BEGINNING, NULL);
    for (i = 0; i < 6000; i++) {
        char want[32];
        int who;

        OK(weir_consumer_next(c, 0, &m, &err));
        who = *(const char *)m.value == 'y';
        snprintf(want, sizeof want, "%c%d", t[who].id, next[who]++);
        if (!value_is(&m, want))
            fail_msg("wanted %s, got %.*s", want, (int)m.value_len, (const char *)m.value);
    }
    assert_drained(c);
    weir_consumer_close(&c);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_where),   cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_when),    cmocka_unit_test(test_buffer),
        cmocka_unit_test(test_lost),    cmocka_unit_test(test_many_topics),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
