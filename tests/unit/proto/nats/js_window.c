/* What a consumer waits for, beside a plain table: given, given again, done, in any order. */
#include "proto/nats/js_window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/hash.h"

#define SEQS 400u

struct model {
    struct jwindow w;
    struct {
        uint64_t dseq;
        uint32_t deliveries;
    } v[SEQS];
    uint64_t rng;
};

static void compare(struct model *m)
{
    uint32_t open = 0, again = 0;
    uint64_t first = 0, i;
    const struct jgiven *g;

    for (i = 1; i < SEQS; i++) {
        g = jwindow_find(&m->w, i);
        assert_int_equal(g != NULL, m->v[i].deliveries != 0);
        if (!g)
            continue;
        open++;
        again += m->v[i].deliveries > 1;
        first = first ? first : i;
        assert_true(g->seq == i && g->dseq == m->v[i].dseq);
        assert_int_equal(g->deliveries, m->v[i].deliveries);
    }
    assert_int_equal(m->w.open, open);
    assert_int_equal(m->w.again, again);
    g = jwindow_from(&m->w, 0);
    assert_true(g ? g->seq == first : first == 0);
    assert_true(m->w.end - m->w.head <= 2 * open + 64);
}

static void step(struct model *m, uint64_t *next, uint64_t *dseq)
{
    uint64_t what = rng_next(&m->rng) % 10, seq = 1 + rng_next(&m->rng) % (SEQS - 1);
    struct jgiven *g;

    if (what < 4 && *next < SEQS)
        seq = (*next)++;
    g = jwindow_find(&m->w, seq);
    if (what < 5 || (what < 6 && g)) {
        if (!m->v[seq].deliveries)
            m->v[seq].dseq = *dseq;
        m->v[seq].deliveries++;
        jwindow_put(&m->w, seq, (*dseq)++, m->v[seq].deliveries, 0);
    } else if (g) {
        jwindow_done(&m->w, g);
        m->v[seq].deliveries = 0;
    }
}

static void test_model(void **state)
{
    struct model m = {.rng = 7};
    uint64_t next = 1, dseq = 1, i;

    (void)state;
    jwindow_init(&m.w);
    for (i = 0; i < 4000; i++) {
        step(&m, &next, &dseq);
        if (i % 7 == 0)
            compare(&m);
    }
    jwindow_fini(&m.w);
}

/* One that stays does not make the others pile up. */
static void test_one_stays(void **state)
{
    struct jwindow w;
    uint64_t i;

    (void)state;
    jwindow_init(&w);
    jwindow_put(&w, 1, 1, 1, 0);
    for (i = 2; i < 100000; i++)
        jwindow_done(&w, jwindow_put(&w, i, i, 1, 0));
    assert_true(w.cap <= 64);
    assert_int_equal(w.open, 1);
    assert_true(jwindow_from(&w, 0)->seq == 1);
    jwindow_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_one_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
