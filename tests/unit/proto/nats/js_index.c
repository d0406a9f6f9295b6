/* A stream's index beside a plain table of what should be there: adding, removing from anywhere,
 * purging, looking along sequences and subjects, with filters; few left of many; links that are far. */
#include "proto/nats/js_index.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/hash.h"

#define SEQS     20000u
#define SUBJECTS 40u

struct model {
    bool there[SEQS + 1];
    uint8_t subject[SEQS + 1];
    uint32_t bytes[SEQS + 1];
    uint64_t last;
};

static struct slice name(unsigned i, char out[32])
{
    return slice_of(out, (size_t)snprintf(out, 32, "s.%u.%u", i % 4, i));
}

static bool model_takes(int pattern, unsigned subject)
{
    switch (pattern) {
    case 0:
        return true;
    case 1:
        return subject == 7;
    case 2:
        return subject % 4 == 2;
    default:
        return subject == 3 || subject == 9;
    }
}

static struct jfilter *filter_of(int pattern)
{
    struct slice p[2];

    switch (pattern) {
    case 0:
        return jfilter_new(NULL, 0);
    case 1:
        p[0] = SLICE_LIT("s.3.7");
        return jfilter_new(p, 1);
    case 2:
        p[0] = SLICE_LIT("s.2.*");
        return jfilter_new(p, 1);
    default:
        p[0] = SLICE_LIT("s.3.3");
        p[1] = SLICE_LIT("s.1.9");
        return jfilter_new(p, 2);
    }
}

static void compare_filter(const struct jindex *x, const struct model *m, struct jfilter *f,
                           int pattern, uint64_t seq)
{
    uint64_t i, next = 0, prev = 0, count = 0;

    for (i = seq; i <= m->last; i++)
        if (m->there[i] && model_takes(pattern, m->subject[i])) {
            next = next ? next : i;
            count++;
        }
    for (i = seq < m->last ? seq : m->last; i > 0 && !prev; i--)
        if (m->there[i] && model_takes(pattern, m->subject[i]))
            prev = i;
    assert_int_equal(jindex_next(x, f, seq), next);
    assert_int_equal(jindex_prev(x, f, seq), prev);
    assert_int_equal(jindex_count(x, f, seq), count);
}

static void compare(const struct jindex *x, const struct model *m)
{
    uint64_t msgs = 0, bytes = 0, first = 0, i;
    uint64_t of_first[SUBJECTS] = {0}, of_last[SUBJECTS] = {0}, of_count[SUBJECTS] = {0};
    uint32_t subjects = 0;
    char text[32];

    for (i = 1; i <= m->last; i++) {
        assert_int_equal(jindex_has(x, i), m->there[i]);
        if (!m->there[i])
            continue;
        first = first ? first : i;
        msgs++;
        bytes += m->bytes[i];
        if (!of_count[m->subject[i]]++) {
            of_first[m->subject[i]] = i;
            subjects++;
        }
        of_last[m->subject[i]] = i;
    }
    assert_int_equal(x->msgs, msgs);
    assert_int_equal(x->bytes, bytes);
    assert_int_equal(x->first, msgs ? first : m->last + 1);
    assert_int_equal(x->last, m->last);
    assert_int_equal(x->subjects, subjects);
    for (i = 0; i < SUBJECTS; i++) {
        struct slice s = name((unsigned)i, text);

        assert_int_equal(jindex_subject_first(x, s), of_first[i]);
        assert_int_equal(jindex_subject_last(x, s), of_last[i]);
        assert_int_equal(jindex_subject_count(x, s), of_count[i]);
    }
}

static void add(struct jindex *x, struct model *m, uint64_t seq, unsigned subject, uint32_t bytes)
{
    char text[32];

    m->there[seq] = true;
    m->subject[seq] = (uint8_t)subject;
    m->bytes[seq] = bytes;
    m->last = seq;
    assert_true(jindex_add(x, seq, name(subject, text), bytes, (int64_t)seq * 10));
}

static void test_model(void **state)
{
    static struct model m;
    struct jfilter *f[4];
    uint64_t rng = 1, seq = 0, i, purge;
    struct jindex x;
    int p;

    (void)state;
    jindex_init(&x, 1, NULL);
    for (p = 0; p < 4; p++)
        f[p] = filter_of(p);
    while (seq + 4 < SEQS) {
        seq += 1 + (rng_next(&rng) % 16 == 0 ? rng_next(&rng) % 3 : 0);
        add(&x, &m, seq, (unsigned)(rng_next(&rng) % SUBJECTS), (uint32_t)(rng_next(&rng) % 1000));
        for (p = 0; p < 2 && rng_next(&rng) % 3; p++) {
            i = 1 + rng_next(&rng) % seq;
            assert_int_equal(jindex_remove(&x, i), m.there[i]);
            m.there[i] = false;
        }
        if (rng_next(&rng) % 4096 == 0) {
            purge = seq > 5000 ? seq - 5000 : 1;
            jindex_purge(&x, purge);
            for (i = 1; i < purge; i++)
                m.there[i] = false;
        }
        if (rng_next(&rng) % 512 == 0)
            for (p = 0; p < 4; p++)
                compare_filter(&x, &m, f[p], p, 1 + rng_next(&rng) % (seq + 2));
        if (rng_next(&rng) % 2048 == 0)
            compare(&x, &m);
    }
    compare(&x, &m);
    jindex_purge(&x, seq + 1);
    assert_int_equal(x.first, seq + 1);
    assert_int_equal(x.msgs, 0);
    assert_int_equal(x.subjects, 0);
    for (p = 0; p < 4; p++)
        jfilter_free(&f[p]);
    jindex_fini(&x);
}

/* Numbers of subjects are given anew, and filters do not take one for another. */
static void test_numbers(void **state)
{
    struct slice pattern = SLICE_LIT("odd.*");
    struct jfilter *f = jfilter_new(&pattern, 1);
    struct jindex x;
    struct jindex_msg msg;
    char text[32];
    unsigned i;

    (void)state;
    jindex_init(&x, 1, NULL);
    for (i = 1; i <= 100000; i++) {
        int n =
            snprintf(text, sizeof text, "%s.%u", rng_next(&(uint64_t){i}) % 2 ? "odd" : "even", i);

        assert_true(jindex_add(&x, i, slice_of(text, (size_t)n), 1, 0));
        assert_true(jindex_get(&x, i, &msg));
        assert_int_equal(jfilter_takes(f, &x, msg.subject), text[0] == 'o');
        if (i > 10)
            assert_true(jindex_remove(&x, i - 10));
    }
    assert_true(x.subjects_age > 0);
    assert_true(x.subject_n < 10000);
    jfilter_free(&f);
    jindex_fini(&x);
}

/* One of many is left in each chunk, and the links from it are longer than an entry has room for. */
static void test_far(void **state)
{
    const uint64_t step = ((uint64_t)1 << 32) + 5;
    struct jindex x;
    struct jindex_msg msg;
    unsigned i;

    (void)state;
    jindex_init(&x, 1, NULL);
    for (i = 0; i < 3; i++)
        assert_true(jindex_add(&x, 1 + i * step, SLICE_LIT("a"), 1, 5 + i));
    jindex_remove(&x, 1 + step);
    assert_int_equal(jindex_subject_next(&x, 1), 1 + 2 * step);
    jindex_purge(&x, 2);
    assert_int_equal(x.first, 1 + 2 * step);
    assert_true(jindex_get(&x, x.first, &msg));
    assert_int_equal(msg.time_ms, 7);
    jindex_fini(&x);

    jindex_init(&x, 1000000000000u, NULL);
    assert_true(jindex_add(&x, 1000000000000u, SLICE_LIT("a"), 1, 0));
    assert_int_equal(x.first, 1000000000000u);
    jindex_fini(&x);
}

static void test_time(void **state)
{
    struct jindex x;

    (void)state;
    jindex_init(&x, 1, NULL);
    jindex_add(&x, 1, SLICE_LIT("a"), 1, 100);
    jindex_add(&x, 2, SLICE_LIT("a"), 1, 200);
    jindex_add(&x, 3, SLICE_LIT("a"), 1, 150);
    assert_int_equal(jindex_seek_time(&x, 0), 1);
    assert_int_equal(jindex_seek_time(&x, 101), 2);
    assert_int_equal(jindex_seek_time(&x, 201), 0);
    jindex_fini(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_far),
        cmocka_unit_test(test_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
