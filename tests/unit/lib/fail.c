/* The library when the disk is full, fails or is slow: what is told, what is refused, what is there
 * afterwards. Linked statically, so that the system calls of writing can be stood in for. */
#include "fixture.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

static atomic_int full, broken; /* errors from now on */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool shut; /* writing waits */
} gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};

static void gate_set(bool shut)
{
    pthread_mutex_lock(&gate.lock);
    gate.shut = shut;
    pthread_cond_broadcast(&gate.opened);
    pthread_mutex_unlock(&gate.lock);
}

static void gate_pass(void)
{
    pthread_mutex_lock(&gate.lock);
    while (gate.shut)
        pthread_cond_wait(&gate.opened, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

ssize_t __real_pwrite64(int fd, const void *buf, size_t n, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t off);
int __real_fallocate64(int fd, int mode, off_t off, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t len);

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t off)
{
    gate_pass();
    if (atomic_load(&broken)) {
        errno = EIO;
        return -1;
    }
    return __real_pwrite64(fd, buf, n, off);
}

int __wrap_fallocate64(int fd, int mode, off_t off, off_t len)
{
    if (atomic_load(&full)) {
        errno = ENOSPC;
        return -1;
    }
    return __real_fallocate64(fd, mode, off, len);
}

/* ---- errors ---- */

static void test_full(void **state)
{
    static char value[64 << 10];
    struct weir_record r = {.value = value, .value_len = sizeof value};
    weir_err e = WEIR_OK;
    uint64_t n = 0;
    struct fx f;
    int i;

    fx_start(&f);
    put(f.w, "t", NULL, "first");
    OK(weir_writable(f.w, &err));
    atomic_store(&full, 1);
    while (n < 2000 && (e = weir_produce(f.w, "t", &r, NULL, &err)) == WEIR_OK)
        n++;
    assert_int_equal(e, WEIR_ERR_NO_SPACE);
    assert_true(n > 10); /* the files that were ready */
    FAILS(WEIR_ERR_NO_SPACE, weir_writable(f.w, &err));
    FAILS(WEIR_ERR_NO_SPACE, weir_topic_create(f.w, "u", 0, NULL, 0, &err));
    assert_int_equal(records(f.w, "t"), n + 1); /* reading goes on */
    atomic_store(&full, 0);
    for (i = 0; i < 20000 && (e = weir_produce(f.w, "t", &r, NULL, NULL)) == WEIR_ERR_NO_SPACE; i++)
        nap_ms(5);
    assert_int_equal(e, WEIR_OK); /* by itself, once there is room */
    OK(weir_writable(f.w, &err));
    fx_reopen(&f);
    assert_int_equal(records(f.w, "t"), n + 2);
    fx_end(&f);
}

struct told {
    atomic_uint_fast64_t lost;
    atomic_int calls, e;
};

static void on_error(void *arg, weir_err e, const char *text, uint64_t lost)
{
    struct told *t = arg;

    atomic_fetch_add(&t->lost, lost);
    atomic_store(&t->e, (int)e);
}

static void delivered(void *arg, weir_err e, const struct weir_place *place)
{
    struct told *t = arg;

    atomic_fetch_add(&t->calls, 1);
    atomic_store(&t->e, (int)e);
    MUST(place == NULL);
}

static void test_broken(void **state)
{
    struct weir_emitter_options o = {
        .size = sizeof o, .flush_interval_ms = 1000000, .on_error = on_error};
    struct weir_record r = rec(NULL, "not written");
    struct told lost = {.calls = 0}, told = {.calls = 0};
    struct weir_emitter_stats st;
    struct weir_producer *p;
    struct weir_consumer *c;
    struct weir_emitter *e;
    struct fx f;

    fx_start(&f);
    put_n(f.w, "t", "v", 20);
    o.arg = &lost;
    OK(weir_emitter_new(f.w, &o, &e, &err));
    OK(weir_producer_new(f.w, "t", NULL, &p, &err));
    c = consumer(f.w, "t", WEIR_FROM_GROUP, "g");
    assert_next(c, "v0");
    atomic_store(&broken, 1);
    FAILS(WEIR_ERR_IO, weir_produce(f.w, "t", &r, NULL, &err));
    FAILS(WEIR_ERR_READ_ONLY, weir_produce(f.w, "t", &r, NULL, &err));
    FAILS(WEIR_ERR_READ_ONLY, weir_writable(f.w, &err));
    atomic_store(&broken, 0); /* what the file holds is not known: only opening again looks */
    FAILS(WEIR_ERR_READ_ONLY, weir_produce(f.w, "t", &r, NULL, &err));
    FAILS(WEIR_ERR_READ_ONLY, weir_consumer_commit(c, &err));
    assert_next(c, "v1"); /* reading goes on */
    weir_consumer_close(&c);
    OK(weir_emit(e, "x", "t", "lost", 4, &err));
    OK(weir_emit(e, "x", "t", "lost", 4, &err));
    FAILS(WEIR_ERR_READ_ONLY, weir_emitter_flush(e, &err));
    assert_int_equal(atomic_load(&lost.lost), 2);
    assert_int_equal(atomic_load(&lost.e), WEIR_ERR_READ_ONLY);
    weir_emitter_stats_get(e, &st);
    assert_int_equal(st.failed, 2);
    OK(weir_emitter_close(&e, &err));
    OK(weir_producer_send(p, &r, delivered, &told, &err));
    FAILS(WEIR_ERR_READ_ONLY, weir_producer_flush(p, &err));
    assert_int_equal(atomic_load(&told.calls), 1);
    assert_int_equal(atomic_load(&told.e), WEIR_ERR_READ_ONLY);
    OK(weir_producer_close(&p, &err));
    fx_reopen(&f);
    OK(weir_writable(f.w, &err));
    assert_int_equal(records(f.w, "t"), 20); /* what was answered, and nothing else */
    put(f.w, "t", NULL, "on");
    fx_end(&f);
}

/* ---- a slow disk ---- */

/* An emitter never waits: its buffer is bounded in bytes as well. */
static void test_emitter_full(void **state)
{
    static char payload[1000000];
    struct weir_emitter_stats st;
    struct weir_emitter *em;
    int n = 0, refused = 0;
    struct fx f;
    weir_err e;

    fx_start(&f);
    f.o.inflight_bytes = 8u << 20;
    fx_reopen(&f);
    OK(weir_topic_create(f.w, "t", 1, NULL, 0, &err));
    OK(weir_emitter_new(f.w, NULL, &em, &err));
    gate_set(true);
    while (n < 200 && refused < 100) { /* until it stays refused */
        e = weir_emit(em, "x", "t", payload, sizeof payload, &err);
        if (e == WEIR_ERR_OVERLOADED) {
            refused++;
            nap_ms(2);
            continue;
        }
        assert_int_equal(e, WEIR_OK);
        n++;
    }
    gate_set(false);
    assert_in_range(n, 8, 40);
    OK(weir_emitter_flush(em, &err));
    weir_emitter_stats_get(em, &st);
    assert_int_equal(st.taken, n);
    assert_int_equal(st.durable, n);
    assert_int_equal(st.refused, refused);
    OK(weir_emit(em, "x", "t", payload, sizeof payload, &err));
    OK(weir_emitter_close(&em, &err));
    assert_int_equal(records(f.w, "t"), n + 1);
    fx_end(&f);
}

struct sender {
    pthread_t thread;
    struct weir_producer *p;
    atomic_int sent;
};

static void *send_all(void *arg)
{
    static char value[1000];
    struct weir_record r = {.value = value, .value_len = sizeof value};
    struct sender *s = arg;
    int i;

    for (i = 0; i < 1000; i++) {
        MUST(weir_producer_send(s->p, &r, NULL, NULL, NULL) == WEIR_OK);
        atomic_fetch_add(&s->sent, 1);
    }
    return NULL;
}

/* A producer's sender waits while the buffer is full. */
static void test_producer_waits(void **state)
{
    struct weir_producer_options o = {
        .size = sizeof o, .batch_bytes = 10000, .buffer_bytes = 100000};
    struct sender s = {.sent = 0};
    struct fx f;
    int i;

    fx_start(&f);
    OK(weir_topic_create(f.w, "t", 1, NULL, 0, &err));
    OK(weir_producer_new(f.w, "t", &o, &s.p, &err));
    gate_set(true);
    assert_int_equal(pthread_create(&s.thread, NULL, send_all, &s), 0);
    for (i = 0; i < 20000 && atomic_load(&s.sent) < 90; i++)
        nap_ms(5);
    nap_ms(100);
    assert_in_range(atomic_load(&s.sent), 90, 101);
    assert_int_equal(records(f.w, "t"), 0);
    gate_set(false);
    pthread_join(s.thread, NULL);
    OK(weir_producer_close(&s.p, &err));
    assert_int_equal(records(f.w, "t"), 1000);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_emitter_full),
        cmocka_unit_test(test_producer_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
