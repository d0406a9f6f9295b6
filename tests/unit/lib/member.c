/* Members of groups: sharing, leaving, resuming, callbacks, and writing together with a commit. */
#include "fixture.h"

#include <pthread.h>

#define PARTS   6
#define RECORDS 600

struct seen {
    unsigned assigned, revoked, lost;
};

static void on_rebalance(void *arg, struct weir_member *m, enum weir_rebalance what,
                         const struct weir_topic_partition *p, size_t n)
{
    struct seen *s = arg;

    assert_true(n > 0 && p[0].topic);
    if (what == WEIR_ASSIGNED)
        s->assigned += (unsigned)n;
    else if (what == WEIR_REVOKED)
        s->revoked += (unsigned)n;
    else
        s->lost += (unsigned)n;
}

static struct weir_member *join(struct weir *w, const char *group, const char *topic,
                                const char *assignor, struct seen *seen)
{
    struct weir_member_options o = {.size = sizeof o,
                                    .group = group,
                                    .topics = &topic,
                                    .topics_n = 1,
                                    .assignor = assignor,
                                    .on_rebalance = seen ? on_rebalance : NULL,
                                    .arg = seen};
    struct weir_member *m;

    OK(weir_member_new(w, &o, &m, &err));
    return m;
}

static void fill(struct fx *f, const char *topic)
{
    char key[16], value[16];
    int i;

    OK(weir_topic_create(f->w, topic, PARTS, NULL, 0, &err));
    for (i = 0; i < RECORDS; i++) {
        snprintf(key, sizeof key, "k%d", i % 50);
        snprintf(value, sizeof value, "%d", i);
        put(f->w, topic, key, value);
    }
}

/* Counts what there is now; each value once, those of a key in order. */
struct tally {
    unsigned n;
    unsigned char got[RECORDS];
    int last[50];
};

static bool take(struct weir_member *m, struct tally *t, int64_t wait)
{
    struct weir_message msg;
    weir_err e = weir_member_next(m, wait, &msg, &err);
    char text[16] = {0};
    int v, k;

    if (e == WEIR_ERR_AGAIN)
        return false;
    assert_int_equal(e, WEIR_OK);
    memcpy(text, msg.value, msg.value_len);
    v = (int)strtol(text, NULL, 10);
    assert_in_range(v, 0, RECORDS - 1);
    k = v % 50;
    assert_false(t->got[v]);
    assert_true(t->last[k] <= v);
    t->last[k] = v;
    t->got[v] = 1;
    t->n++;
    return true;
}

/* Each member in turn, until all have what they are to have. */
static void settle(struct weir_member **m, unsigned n, unsigned each)
{
    struct weir_topic_partition p[PARTS];
    struct weir_message msg;
    unsigned i, k, ok;

    for (k = 0; k < 200; k++) {
        for (i = ok = 0; i < n; i++) {
            weir_err e = weir_member_next(m[i], 20, &msg, &err);

            assert_true(e == WEIR_ERR_AGAIN);
            ok += weir_member_assignment(m[i], p, PARTS) == each;
        }
        if (ok == n)
            return;
    }
    fail_msg("the members do not come to %u partitions each", each);
}

static void test_alone(void **state)
{
    struct seen seen = {0};
    struct tally t = {0};
    struct weir_member *m;
    struct fx f;

    fx_start(&f);
    fill(&f, "t");
    m = join(f.w, "g", "t", NULL, &seen);
    while (take(m, &t, 0))
        ;
    assert_int_equal(t.n, RECORDS);
    assert_int_equal(seen.assigned, PARTS);
    OK(weir_member_commit(m, &err));
    weir_member_close(&m);
    assert_null(m);
    assert_int_equal(seen.revoked, PARTS);
    m = join(f.w, "g", "t", NULL, NULL); /* goes on where it was committed */
    assert_false(take(m, &t, 0));
    weir_member_close(&m);
    fx_end(&f);
}

static void test_share(void **state)
{
    static const char *const assignors[] = {"uniform", "range", "roundrobin"};
    struct weir_member *m[3];
    struct tally t = {0};
    char group[16];
    struct fx f;
    int a, i;

    fx_start(&f);
    OK(weir_topic_create(f.w, "t", PARTS, NULL, 0, &err));
    for (a = 0; a < 3; a++) {
        snprintf(group, sizeof group, "g%d", a);
        for (i = 0; i < 3; i++)
            m[i] = join(f.w, group, "t", assignors[a], NULL);
        settle(m, 3, 2);
        weir_member_close(&m[1]);
        m[1] = m[2];
        settle(m, 2, 3);
        weir_member_close(&m[0]);
        weir_member_close(&m[1]);
    }
    for (i = 0; i < 3; i++)
        m[i] = join(f.w, "share", "t", NULL, NULL);
    settle(m, 3, 2);
    for (i = 0; i < RECORDS; i++) {
        char key[16], value[16];

        snprintf(key, sizeof key, "k%d", i % 50);
        snprintf(value, sizeof value, "%d", i);
        put(f.w, "t", key, value);
    }
    for (i = 0; i < 3; i++) {
        unsigned before = t.n;

        while (take(m[i], &t, 0))
            ;
        assert_true(t.n > before);
    }
    assert_int_equal(t.n, RECORDS);
    for (i = 0; i < 3; i++)
        weir_member_close(&m[i]);
    fx_end(&f);
}

/* One thread a member; one leaves in the middle. */
struct worker {
    struct weir *w;
    unsigned n, stop_after;
    pthread_t thread;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    const char *topic = "t";
    struct weir_member_options o = {
        .size = sizeof o, .group = "workers", .topics = &topic, .topics_n = 1};
    struct weir_member *m;
    struct weir_message msg;
    weir_err e;

    MUST(weir_member_new(w->w, &o, &m, NULL) == WEIR_OK);

    for (;;) {
        e = weir_member_next(m, 1500, &msg, NULL);
        if (e == WEIR_ERR_AGAIN)
            break;
        MUST(e == WEIR_OK);
        w->n++;
        /* the member that others take over from has committed all that it counted */
        MUST(weir_member_commit(m, NULL) == WEIR_OK);
        if (w->n == w->stop_after)
            break;
    }
    weir_member_close(&m);
    return NULL;
}

static void test_threads(void **state)
{
    struct worker w[3] = {{0}};
    unsigned i, n = 0;
    struct fx f;

    fx_start(&f);
    fill(&f, "t");
    for (i = 0; i < 3; i++) {
        w[i].w = f.w;
        w[i].stop_after = i == 1 ? 20 : UINT32_MAX;
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    for (i = 0; i < 3; i++) {
        pthread_join(w[i].thread, NULL);
        n += w[i].n;
    }
    assert_int_equal(n, RECORDS); /* each was dealt with once */
    fx_end(&f);
}

/* What was written with the commit is there as often as what was read, after a crash too. */
static void test_produce(void **state)
{
    struct weir_member *m;
    struct weir_message msg;
    struct weir_record r;
    struct weir_place at;
    struct fx f;
    int i;

    fx_start(&f);
    fill(&f, "in");
    m = join(f.w, "copy", "in", NULL, NULL);
    for (i = 0; i < RECORDS / 2; i++) {
        OK(weir_member_next(m, 0, &msg, &err));
        r = (struct weir_record){.value = msg.value, .value_len = msg.value_len};
        OK(weir_member_produce(m, "out", &r, 1, &at, &err));
        assert_int_equal(at.offset, i);
    }
    OK(weir_member_next(m, 0, &msg, &err)); /* read, but not dealt with */
    weir_member_close(&m);
    fx_reopen(&f);
    m = join(f.w, "copy", "in", NULL, NULL);
    for (i = 0; weir_member_next(m, 0, &msg, &err) == WEIR_OK; i++) {
        r = (struct weir_record){.value = msg.value, .value_len = msg.value_len};
        OK(weir_member_produce(m, "out", &r, 1, &at, &err));
    }
    assert_int_equal(i, RECORDS / 2);
    assert_int_equal(at.offset, RECORDS - 1);
    OK(weir_member_produce(m, NULL, NULL, 0, NULL, &err)); /* only a commit */
    weir_member_close(&m);
    fx_end(&f);
}

static void test_bad(void **state)
{
    const char *topic = "t";
    struct weir_member_options o = {.size = sizeof o};
    struct weir_member *m;
    struct fx f;

    fx_start(&f);
    assert_int_equal(weir_member_new(f.w, &o, &m, &err), WEIR_ERR_INVALID);
    o.group = "g";
    assert_int_equal(weir_member_new(f.w, &o, &m, &err), WEIR_ERR_INVALID);
    o.topics = &topic;
    o.topics_n = 1;
    o.assignor = "none such";
    assert_int_equal(weir_member_new(f.w, &o, &m, &err), WEIR_ERR_INVALID);
    assert_non_null(strstr(err.text, "none such"));
    o.assignor = NULL;
    o.topic_regex = "([";
    assert_int_equal(weir_member_new(f.w, &o, &m, &err), WEIR_ERR_INVALID);
    assert_null(m);
    fx_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),   cmocka_unit_test(test_share),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_produce),
        cmocka_unit_test(test_bad),
    };

    return cmocka_run_group_tests_name("lib/member", tests, NULL, NULL);
}
