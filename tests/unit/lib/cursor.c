/* Cursors of the C library: leases, what comes again and when, what is never lost and never twice. */
#include <pthread.h>

#include "fixture.h"

static void write_one(struct fx *f, const char *topic, const char *key, const char *value)
{
    struct weir_record r = {
        .key = key, .key_len = key ? strlen(key) : 0, .value = value, .value_len = strlen(value)};

    OK(weir_produce(f->w, topic, &r, NULL, &err));
}

static void write_to(struct fx *f, const char *topic, int32_t partition, const char *value)
{
    struct weir_record r = {
        .value = value, .value_len = strlen(value), .partition_1 = partition + 1};

    OK(weir_produce(f->w, topic, &r, NULL, &err));
}

static void put_many(struct fx *f, const char *topic, int n)
{
    char text[16];
    int i;

    for (i = 0; i < n; i++) {
        snprintf(text, sizeof text, "%d", i);
        write_one(f, topic, text, text);
    }
}

static struct weir_cursor *open_with(struct fx *f, const char *topic, struct weir_cursor_options o)
{
    struct weir_cursor *c;

    o.size = sizeof o;
    OK(weir_cursor_open(f->w, topic, "c", &o, &c, &err));
    return c;
}

/* The values that come now, as "0 1 2"; all are dealt with by `how`. */
typedef weir_err (*how_fn)(struct weir_cursor *c, const struct weir_delivery *d, size_t n,
                           struct weir_error *error);

static void comes_after(struct weir_cursor *c, int64_t wait_ms, const char *wanted, how_fn how)
{
    struct weir_batch *b;
    char text[512] = "";
    size_t i;

    OK(weir_cursor_fetch(c, 100, wait_ms, &b, &err));
    for (i = 0; i < b->n; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%.*s", i ? " " : "",
                 (int)b->v[i].message.value_len, (const char *)b->v[i].message.value);
    assert_string_equal(text, wanted);
    if (how)
        OK(how(c, b->v, b->n, &err));
    weir_batch_free(&b);
    assert_null(b);
}

static void comes(struct weir_cursor *c, const char *wanted, how_fn how)
{
    comes_after(c, 10000, wanted, how);
}

static void nothing(struct weir_cursor *c)
{
    struct weir_batch *b;

    FAILS(WEIR_ERR_AGAIN, weir_cursor_fetch(c, 10, 0, &b, &err));
    assert_null(b);
}

static weir_err nak_now(struct weir_cursor *c, const struct weir_delivery *d, size_t n,
                        struct weir_error *error)
{
    return weir_cursor_nak(c, d, n, 0, error);
}

static void test_acknowledged(void **state)
{
    struct weir_cursor *c;
    struct weir_batch *b;
    int64_t done, next;
    struct fx f;

    (void)state;
    fx_start(&f);
    put_many(&f, "jobs", 5);
    c = open_with(&f, "jobs", (struct weir_cursor_options){0});
    OK(weir_cursor_fetch(c, 3, 0, &b, &err));
    assert_int_equal(b->n, 3);
    assert_string_equal(b->v[0].message.topic, "jobs");
    assert_int_equal(b->v[2].message.offset, 2);
    assert_int_equal(b->v[2].deliveries, 1);
    assert_memory_equal(b->v[2].message.key, "2", 1);
    OK(weir_cursor_ack(c, &b->v[1], 1, &err));
    FAILS(WEIR_ERR_CONFLICT, weir_cursor_ack(c, &b->v[1], 1, &err));
    FAILS(WEIR_ERR_CONFLICT, weir_cursor_ack(c, b->v, 3, &err)); /* all or none */
    OK(weir_cursor_ack(c, &b->v[0], 1, &err));
    OK(weir_cursor_place(c, 0, &done, &next, &err));
    assert_int_equal(done, 2);
    assert_int_equal(next, 3);
    OK(weir_cursor_nak(c, &b->v[2], 1, 0, &err));
    weir_batch_free(&b);
    comes(c, "2 3 4", weir_cursor_ack);
    nothing(c);
    weir_cursor_close(&c);
    /* it is as durable as the records */
    fx_reopen(&f);
    c = open_with(&f, "jobs", (struct weir_cursor_options){.no_create = true});
    nothing(c);
    write_one(&f, "jobs", NULL, "5");
    comes(c, "5", NULL);
    weir_cursor_close(&c);
    fx_end(&f);
}

static void test_leases(void **state)
{
    struct weir_cursor_options o = {.ack_wait_ms = 2000};
    struct weir_cursor *c, *other;
    struct weir_cursor_info info;
    struct weir_batch *b;
    struct fx f;

    (void)state;
    fx_start(&f);
    put_many(&f, "jobs", 2);
    c = open_with(&f, "jobs", o);
    other = open_with(&f, "jobs", o);
    OK(weir_cursor_fetch(c, 1, 0, &b, &err));
    comes(other, "1", weir_cursor_ack);
    FAILS(WEIR_ERR_CONFLICT, weir_cursor_ack(other, b->v, 1, &err)); /* it is not its own */
    OK(weir_cursor_info_get(c, &info, &err));
    assert_int_equal(info.leased, 1);
    assert_int_equal(info.undone, 1);
    assert_int_equal(info.ack_wait_ms, 2000);
    /* its lease ends while the other waits for it */
    comes(other, "0", NULL);
    FAILS(WEIR_ERR_CONFLICT, weir_cursor_ack(c, b->v, 1, &err));
    FAILS(WEIR_ERR_CONFLICT, weir_cursor_extend(c, b->v, 1, &err));
    weir_batch_free(&b);
    /* closing gives it back at once */
    weir_cursor_close(&other);
    OK(weir_cursor_fetch(c, 1, 10000, &b, &err));
    assert_int_equal(b->v[0].deliveries, 3);
    OK(weir_cursor_extend(c, b->v, 1, &err));
    OK(weir_cursor_nak(c, b->v, 1, 1000, &err));
    weir_batch_free(&b);
    nothing(c); /* not before its time */
    comes(c, "0", weir_cursor_ack);
    weir_cursor_close(&c);
    fx_end(&f);
}

static void test_spent(void **state)
{
    struct weir_cursor_options o = {.max_deliver = 2, .dead_letters = "dead"};
    struct weir_consumer *x;
    struct weir_message m;
    struct weir_cursor *c;
    struct fx f;

    (void)state;
    fx_start(&f);
    put_many(&f, "jobs", 2);
    c = open_with(&f, "jobs", o);
    comes(c, "0 1", nak_now);
    comes(c, "0 1", nak_now);
    nothing(c);
    write_one(&f, "jobs", NULL, "2");
    comes(c, "2", weir_cursor_terminate);
    nothing(c);
    weir_cursor_close(&c);
    OK(weir_consumer_new(f.w, "dead", NULL, &x, &err));
    OK(weir_consumer_next(x, 10000, &m, &err));
    assert_memory_equal(m.value, "0", 1);
    OK(weir_consumer_next(x, 10000, &m, &err));
    assert_memory_equal(m.value, "1", 1);
    OK(weir_consumer_next(x, 10000, &m, &err));
    assert_memory_equal(m.value, "2", 1);
    weir_consumer_close(&x);
    fx_end(&f);
}

static void test_options(void **state)
{
    struct weir_cursor_options o = {.size = sizeof o, .ack_wait_ms = 5000, .filter = "jobs.a.*"};
    struct weir_cursor *c, *d;
    struct fx f;

    (void)state;
    fx_start(&f);
    put_many(&f, "jobs", 1);
    OK(weir_cursor_open(f.w, "jobs", "c", &o, &c, &err));
    OK(weir_cursor_open(f.w, "jobs", "c", NULL, &d, &err));
    weir_cursor_close(&d);
    o.ack_wait_ms = 6000;
    FAILS(WEIR_ERR_CONFLICT, weir_cursor_open(f.w, "jobs", "c", &o, &d, &err));
    assert_null(d);
    o.ack_wait_ms = 0;
    o.filter = "jobs.>";
    FAILS(WEIR_ERR_CONFLICT, weir_cursor_open(f.w, "jobs", "c", &o, &d, &err));
    o.filter = "jobs..";
    FAILS(WEIR_ERR_INVALID, weir_cursor_open(f.w, "jobs", "d", &o, &d, &err));
    o.filter = NULL;
    FAILS(WEIR_ERR_INVALID, weir_cursor_open(f.w, "jobs", "d.e", &o, &d, &err));
    FAILS(WEIR_ERR_INVALID, weir_cursor_open(f.w, "jobs", NULL, &o, &d, &err));
    o.no_create = true;
    FAILS(WEIR_ERR_NOT_FOUND, weir_cursor_open(f.w, "jobs", "d", &o, &d, &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_cursor_open(f.w, "none", "d", &o, &d, &err));
    o = (struct weir_cursor_options){.size = sizeof o, .from = WEIR_FROM_GROUP};
    FAILS(WEIR_ERR_INVALID, weir_cursor_open(f.w, "jobs", "d", &o, &d, &err));
    o = (struct weir_cursor_options){.size = sizeof o, .max_deliver = -1};
    FAILS(WEIR_ERR_INVALID, weir_cursor_open(f.w, "jobs", "d", &o, &d, &err));
    weir_cursor_close(&c);
    fx_end(&f);
}

static void test_filter(void **state)
{
    struct weir_cursor *c;
    int64_t done;
    struct fx f;

    (void)state;
    fx_start(&f);
    write_one(&f, "jobs", NULL, "none");
    write_one(&f, "jobs", "a", "1");
    write_one(&f, "jobs", "b", "2");
    write_one(&f, "jobs", "a", "3");
    write_one(&f, "jobs", "a.b", "4"); /* a token like any other */
    c = open_with(&f, "jobs", (struct weir_cursor_options){.filter = "jobs.a"});
    comes(c, "1 3", weir_cursor_ack);
    nothing(c);
    OK(weir_cursor_place(c, 0, &done, NULL, &err));
    assert_int_equal(done, 5); /* what it passes by keeps nothing open */
    weir_cursor_close(&c);
    fx_end(&f);
}

static void test_begin(void **state)
{
    struct weir_cursor_options o = {.size = sizeof o, .from = WEIR_FROM_END};
    struct weir_cursor *c;
    struct fx f;

    (void)state;
    fx_start(&f);
    put_many(&f, "jobs", 3);
    OK(weir_cursor_open(f.w, "jobs", "end", &o, &c, &err));
    nothing(c);
    write_one(&f, "jobs", NULL, "3");
    comes(c, "3", NULL);
    weir_cursor_close(&c);
    o = (struct weir_cursor_options){.size = sizeof o, .from = WEIR_FROM_OFFSET, .offset = 2};
    OK(weir_cursor_open(f.w, "jobs", "offset", &o, &c, &err));
    comes(c, "2 3", NULL);
    weir_cursor_close(&c);
    /* where it begins is of one that is made */
    o.offset = 0;
    OK(weir_cursor_open(f.w, "jobs", "offset", &o, &c, &err));
    comes(c, "2 3", NULL);
    weir_cursor_close(&c);
    o = (struct weir_cursor_options){.size = sizeof o, .from = WEIR_FROM_TIME, .at_ms = 1};
    OK(weir_cursor_open(f.w, "jobs", "time", &o, &c, &err));
    comes(c, "0 1 2 3", NULL);
    weir_cursor_close(&c);
    fx_end(&f);
}

/* Partitions that come while nobody has it open begin where they begin, wherever the first one's did. */
static void test_grown(void **state)
{
    struct weir_cursor_options o = {.size = sizeof o, .from = WEIR_FROM_END};
    struct weir_cursor *c;
    struct fx f;

    (void)state;
    fx_start(&f);
    put_many(&f, "jobs", 3);
    OK(weir_cursor_open(f.w, "jobs", "end", &o, &c, &err));
    nothing(c);
    weir_cursor_close(&c);
    OK(weir_topic_alter(f.w, "jobs", 2, NULL, 0, &err));
    write_to(&f, "jobs", 1, "a");
    write_to(&f, "jobs", 1, "b");
    OK(weir_cursor_open(f.w, "jobs", "end", &o, &c, &err));
    comes(c, "a b", weir_cursor_ack);
    nothing(c);
    weir_cursor_close(&c);
    fx_end(&f);
}

static void test_pending(void **state)
{
    struct weir_cursor *c;
    struct weir_batch *b;
    struct fx f;

    (void)state;
    fx_start(&f);
    put_many(&f, "jobs", 5);
    c = open_with(&f, "jobs", (struct weir_cursor_options){.max_ack_pending = 2});
    OK(weir_cursor_fetch(c, 10, 0, &b, &err));
    assert_int_equal(b->n, 2);
    nothing(c);
    OK(weir_cursor_ack(c, b->v, 2, &err));
    weir_batch_free(&b);
    comes(c, "2 3", NULL);
    weir_cursor_close(&c);
    fx_end(&f);
}

static bool note(void *arg, const char *name)
{
    strncat(arg, name, 8);
    return true;
}

static void test_deleted(void **state)
{
    char names[64] = "";
    struct weir_cursor *c;
    struct weir_batch *b;
    struct fx f;

    (void)state;
    fx_start(&f);
    put_many(&f, "jobs", 1);
    c = open_with(&f, "jobs", (struct weir_cursor_options){0});
    OK(weir_cursor_list(f.w, "jobs", note, names, &err));
    assert_string_equal(names, "c");
    OK(weir_cursor_fetch(c, 1, 0, &b, &err));
    OK(weir_cursor_delete(f.w, "jobs", "c", &err));
    FAILS(WEIR_ERR_NOT_FOUND, weir_cursor_delete(f.w, "jobs", "c", &err));
    FAILS(WEIR_ERR_NOT_FOUND, weir_cursor_ack(c, b->v, 1, &err));
    weir_batch_free(&b);
    weir_cursor_close(&c);
    /* of another topic with the name nothing is known */
    c = open_with(&f, "jobs", (struct weir_cursor_options){.max_deliver = 3});
    comes(c, "0", weir_cursor_ack);
    OK(weir_topic_delete(f.w, "jobs", &err));
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_cursor_fetch(c, 1, 0, &b, &err));
    weir_cursor_close(&c);
    put_many(&f, "jobs", 1);
    c = open_with(&f, "jobs", (struct weir_cursor_options){.max_deliver = 4});
    comes(c, "0", weir_cursor_ack);
    weir_cursor_close(&c);
    fx_end(&f);
}

/* Several threads on a topic of several partitions: each record is done by one. */
struct worker {
    struct fx *f;
    pthread_t thread;
    unsigned char *seen;
    pthread_mutex_t *lock;
    int *left;
};

/* A cursor that was deleted does not come back by a partition that is new. */
static void test_deleted_grown(void **state)
{
    struct weir_cursor *c;
    struct weir_batch *b;
    struct fx f;
    int i;

    (void)state;
    fx_start(&f);
    put_many(&f, "jobs", 1);
    c = open_with(&f, "jobs", (struct weir_cursor_options){0});
    comes(c, "0", weir_cursor_ack);
    OK(weir_cursor_delete(f.w, "jobs", "c", &err));
    OK(weir_topic_alter(f.w, "jobs", 2, NULL, 0, &err));
    write_to(&f, "jobs", 1, "a");
    for (i = 0; i < 2; i++) /* whichever partition is looked at first */
        FAILS(WEIR_ERR_NOT_FOUND, weir_cursor_fetch(c, 10, 0, &b, &err));
    weir_cursor_close(&c);
    c = open_with(&f, "jobs", (struct weir_cursor_options){.from = WEIR_FROM_END});
    nothing(c);
    weir_cursor_close(&c);
    fx_end(&f);
}

static bool none(void *arg, const char *name)
{
    (void)arg;
    fail_msg("%s is listed", name);
    return false;
}

/* What a topic had that was deleted is not of another one with its name. */
static void test_list_anew(void **state)
{
    struct weir_cursor *c;
    struct fx f;

    (void)state;
    fx_start(&f);
    put_many(&f, "jobs", 1);
    c = open_with(&f, "jobs", (struct weir_cursor_options){0});
    weir_cursor_close(&c);
    OK(weir_topic_delete(f.w, "jobs", &err));
    OK(weir_cursor_list(f.w, "jobs", none, NULL, &err));
    put_many(&f, "jobs", 1);
    OK(weir_cursor_list(f.w, "jobs", none, NULL, &err));
    fx_end(&f);
}

/* Each partition has as many out as may be: they are settled together all the same. */
static void test_many(void **state)
{
    enum { EACH = 33000 };
    struct weir_record *r = calloc(EACH, sizeof *r);
    struct weir_cursor *c;
    struct weir_batch *b;
    struct fx f;
    int32_t k;
    int i;

    (void)state;
    fx_start(&f);
    OK(weir_topic_create(f.w, "jobs", 2, NULL, 0, &err));
    for (k = 1; k <= 2; k++) {
        for (i = 0; i < EACH; i++)
            r[i] = (struct weir_record){.value = "v", .value_len = 1, .partition_1 = k};
        OK(weir_produce_batch(f.w, "jobs", r, EACH, NULL, &err));
    }
    free(r);
    c = open_with(&f, "jobs", (struct weir_cursor_options){.max_ack_pending = 65536});
    OK(weir_cursor_fetch(c, 2 * EACH, 0, &b, &err));
    assert_int_equal(b->n, 2 * EACH);
    OK(weir_cursor_ack(c, b->v, b->n, &err));
    weir_batch_free(&b);
    nothing(c);
    weir_cursor_close(&c);
    fx_end(&f);
}

static void *work(void *arg)
{
    struct weir_cursor_options o = {.size = sizeof o};
    struct worker *k = arg;
    struct weir_cursor *c;
    struct weir_batch *b;
    bool more = true;
    size_t i;

    MUST(!weir_cursor_open(k->f->w, "jobs", "c", &o, &c, NULL));
    while (more) {
        if (!weir_cursor_fetch(c, 7, 20, &b, NULL)) {
            MUST(!weir_cursor_ack(c, b->v, b->n, NULL));
            pthread_mutex_lock(k->lock);
            for (i = 0; i < b->n; i++) {
                const struct weir_message *m = &b->v[i].message;
                char text[16] = "";
                long at;

                memcpy(text, m->value, m->value_len);
                at = strtol(text, NULL, 10);
                MUST(!k->seen[at]);
                k->seen[at] = 1;
                --*k->left;
            }
            pthread_mutex_unlock(k->lock);
            weir_batch_free(&b);
        }
        pthread_mutex_lock(k->lock);
        more = *k->left > 0;
        pthread_mutex_unlock(k->lock);
    }
    weir_cursor_close(&c);
    return NULL;
}

static void test_workers(void **state)
{
    enum { N = 300, WORKERS = 4 };
    unsigned char seen[N] = {0};
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct worker w[WORKERS];
    int left = N, i;
    struct fx f;

    (void)state;
    fx_start(&f);
    OK(weir_topic_create(f.w, "jobs", 3, NULL, 0, &err));
    for (i = 0; i < WORKERS; i++) {
        w[i] = (struct worker){&f, 0, seen, &lock, &left};
        MUST(!pthread_create(&w[i].thread, NULL, work, &w[i]));
    }
    put_many(&f, "jobs", N);
    for (i = 0; i < WORKERS; i++)
        pthread_join(w[i].thread, NULL);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_acknowledged),  cmocka_unit_test(test_leases),
        cmocka_unit_test(test_spent),         cmocka_unit_test(test_options),
        cmocka_unit_test(test_filter),        cmocka_unit_test(test_begin),
        cmocka_unit_test(test_pending),       cmocka_unit_test(test_deleted),
        cmocka_unit_test(test_workers),       cmocka_unit_test(test_grown),
        cmocka_unit_test(test_deleted_grown), cmocka_unit_test(test_many),
        cmocka_unit_test(test_list_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
