/* weir_read: pages of a stream after a position. */
#include "fixture.h"

#include "broker/broker.h"
#include "io/io.h"
#include "journal/batch.h"

struct page {
    char all[1024];
    size_t n, stop;
    uint64_t last;
};

static bool take(void *arg, const struct weir_message *m)
{
    struct page *p = arg;
    size_t len = strlen(p->all);

    snprintf(p->all + len, sizeof p->all - len, "%.*s ", (int)m->value_len, (const char *)m->value);
    assert_true(m->position > p->last);
    p->last = m->position;
    return ++p->n != p->stop;
}

static void read_page(struct weir *w, const char *stream, uint64_t *position, size_t limit,
                      const char *want)
{
    struct page p = {.n = 0};

    OK(weir_read(w, stream, *position, limit, take, &p, position, &err));
    assert_string_equal(p.all, want);
}

static void test_pages(void **state)
{
    uint64_t at = 0, before;
    struct page p = {.n = 0};
    struct fx f;

    fx_start(&f);
    put_n(f.w, "t", "v", 5);
    put(f.w, "u", NULL, "other");
    read_page(f.w, "t", &at, 2, "v0 v1 ");
    read_page(f.w, "t", &at, 2, "v2 v3 ");
    before = at;
    read_page(f.w, "t", &at, 0, ""); /* none wanted: it does not move */
    assert_true(at == before);
    read_page(f.w, "t", &at, 2, "v4 ");
    read_page(f.w, "t", &at, 2, "");
    put(f.w, "t", NULL, "v5");
    read_page(f.w, "t", &at, 2, "v5 ");
    at = 0;
    read_page(f.w, "*", &at, 100, "v0 v1 v2 v3 v4 other v5 ");
    at = UINT64_MAX; /* nothing is after that */
    read_page(f.w, "t", &at, 100, "");

    p.stop = 3; /* stopped by fn: the third has been seen */
    OK(weir_read(f.w, "t", 0, 100, take, &p, &at, &err));
    assert_string_equal(p.all, "v0 v1 v2 ");
    assert_true(at == p.last);
    read_page(f.w, "t", &at, 1, "v3 ");
    p = (struct page){.n = 0};
    OK(weir_read(f.w, "t", p.last, 1, take, &p, NULL, &err)); /* nobody asks where it ended */
    assert_string_equal(p.all, "v0 ");
    fx_end(&f);
}

static void test_keys(void **state)
{
    uint64_t at = 0;
    struct fx f;

    fx_start(&f);
    OK(weir_topic_create(f.w, "t", 3, NULL, 0, &err));
    put(f.w, "t", "a", "1");
    put(f.w, "t", "b", "2");
    put(f.w, "t", NULL, "3");
    put(f.w, "t", "a", "4");
    read_page(f.w, "t:a", &at, 10, "1 4 ");
    at = 0;
    read_page(f.w, "t:*", &at, 10, "1 2 4 ");
    at = 0;
    read_page(f.w, "t", &at, 10, "1 2 3 4 ");
    fx_end(&f);
}

static void test_invalid(void **state)
{
    struct page p = {.n = 0};
    uint64_t at = 0;
    struct fx f;

    fx_start(&f);
    put_n(f.w, "t", "v", 6);
    FAILS(WEIR_ERR_TOPIC_NOT_FOUND, weir_read(f.w, "u", 0, 1, take, &p, &at, &err));
    FAILS(WEIR_ERR_INVALID, weir_read(f.w, ":k", 0, 1, take, &p, &at, &err));
    FAILS(WEIR_ERR_INVALID, weir_read(f.w, NULL, 0, 1, take, &p, &at, &err));
    assert_int_equal(p.n, 0);
    OK(weir_trim(f.w, "t", 0, 4, &err)); /* goes on with what is left */
    read_page(f.w, "t", &at, 10, "v4 v5 ");
    fx_end(&f);
}

/* Records of other writers may have more headers than the library writes. */
static void test_many_headers(void **state)
{
    struct record_header h[500];
    struct append_record r = {.timestamp_ms = -1, .headers = h, .headers_n = 500};
    struct broker_conf conf = {
        .io = io_real(), .threads = true, .topics_auto_create = true, .retention_ms_default = -1};
    struct weir_consumer *c;
    struct append_slot slot;
    struct weir_message m;
    struct topic *t;
    struct broker *b;
    struct append *a;
    char name[500][8];
    struct fx f;
    size_t i;

    for (i = 0; i < 500; i++) {
        snprintf(name[i], sizeof name[i], "h%zu", i);
        h[i] = (struct record_header){slice_str(name[i]), slice_str(name[i])};
    }
    fx_start(&f);
    weir_close(&f.w);
    conf.dir = f.dir;
    assert_int_equal(broker_open(&conf, &b, NULL), ERR_OK);
    assert_int_equal(topic_find_or_create_wait(b, SLICE_LIT("t"), &t, NULL), ERR_OK);
    a = append_new(b, NULL, NULL);
    assert_int_equal(append_record(a, t, 0, &r, &slot, NULL), ERR_OK);
    assert_int_equal(append_submit_wait(a, NULL), ERR_OK);
    append_free(&a);
    topic_unref(&t);
    broker_close(&b);
    fx_open(&f);
    c = consumer(f.w, "t", WEIR_FROM_BEGINNING, NULL);
    OK(weir_consumer_next(c, 0, &m, &err));
    assert_int_equal(m.headers_n, 500);
    for (i = 0; i < 500; i++) {
        assert_string_equal(m.headers[i].name, name[i]);
        assert_int_equal(m.headers[i].value_len, strlen(name[i]));
        assert_memory_equal(m.headers[i].value, name[i], strlen(name[i]));
    }
    weir_consumer_close(&c);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_many_headers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
