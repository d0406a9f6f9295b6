/* The index of subscriptions against a list that is searched one by one, under random coming and
 * going; stamps change when what was found does; groups of one name are one. */
#include "proto/nats/interest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../../vectors.h"
#include "base/mem.h"
#include "base/subject.h"

#define SUBS 400u

struct one {
    struct interest_sub s; /* first */
    char subject[64], queue[8];
    bool in;
    unsigned seen;
};

static struct one sub[SUBS];

static void name(uint64_t *rng, bool wild, char *out)
{
    static const char *const tokens[] = {"a", "b", "c", "dd", "*", "*", ">"};
    unsigned n = 1 + (unsigned)test_below(rng, 4), i, t;

    *out = '\0';
    for (i = 0; i < n; i++) {
        t = (unsigned)test_below(rng, wild ? 7 : 4);
        if (i)
            strcat(out, ".");
        strcat(out, tokens[t]);
        if (t == 6)
            return;
    }
}

static void toggle(struct interest *in, uint64_t *rng, struct one *o)
{
    if (o->in) {
        interest_remove(in, &o->s);
    } else {
        name(rng, test_below(rng, 2), o->subject);
        snprintf(o->queue, sizeof o->queue, "q%u", (unsigned)test_below(rng, 3));
        if (test_below(rng, 2))
            o->queue[0] = '\0';
        o->s =
            (struct interest_sub){.subject = slice_str(o->subject), .queue = slice_str(o->queue)};
        assert_int_equal(interest_add(in, &o->s), ERR_OK);
    }
    o->in = !o->in;
}

static void check(struct interest *in, const char *subject, struct interest_found *f)
{
    unsigned i, g, end, expected = 0, groups = 0;
    bool q[3] = {false, false, false};

    interest_match(in, slice_str(subject), f);
    for (i = 0; i < SUBS; i++)
        sub[i].seen = 0;
    for (i = 0; i < f->plain_n; i++) {
        assert_int_equal(f->plain[i]->queue.len, 0);
        ((struct one *)(void *)f->plain[i])->seen++;
    }
    for (g = 0; g < f->groups_n; g++) {
        end = g + 1 < f->groups_n ? f->group[g + 1] : f->queued_n;
        assert_true(end > f->group[g]);
        for (i = f->group[g]; i < end; i++) {
            assert_true(slice_eq(f->queued[i]->queue, f->queued[f->group[g]]->queue));
            ((struct one *)(void *)f->queued[i])->seen++;
        }
    }
    for (i = 0; i < SUBS; i++) {
        bool wanted = sub[i].in && subject_match(slice_str(sub[i].subject), slice_str(subject));

        assert_int_equal(sub[i].seen, wanted);
        expected += wanted;
        if (wanted && sub[i].queue[0])
            q[sub[i].queue[1] - '0'] = true;
    }
    groups = (unsigned)q[0] + q[1] + q[2];
    assert_int_equal(f->groups_n, groups);
    assert_int_equal(f->plain_n + f->queued_n, expected);
}

static void test_against_list(void **state)
{
    static const uint8_t seed[16] = {7};
    uint64_t rng = test_seed(), stamp;
    struct interest_found f = {0};
    struct interest in;
    char subject[64];
    unsigned i, k;

    (void)state;
    interest_init(&in, seed);
    for (i = 0; i < 4000; i++) {
        toggle(&in, &rng, &sub[test_below(&rng, SUBS)]);
        if (i % 8)
            continue;
        name(&rng, false, subject);
        check(&in, subject, &f);
        assert_int_equal(interest_stamp(&in, slice_str(subject)),
                         stamp = interest_stamp(&in, slice_str(subject)));
        for (k = 0; k < SUBS; k++) /* one that matches comes or goes */
            if (sub[k].in && subject_match(slice_str(sub[k].subject), slice_str(subject)))
                break;
        if (k < SUBS) {
            toggle(&in, &rng, &sub[k]);
            assert_true(interest_stamp(&in, slice_str(subject)) != stamp);
        }
    }
    for (i = 0; i < SUBS; i++)
        if (sub[i].in)
            toggle(&in, &rng, &sub[i]);
    assert_true(interest_none(&in));
    interest_match(&in, slice_str("a.b"), &f);
    assert_int_equal(f.plain_n + f.queued_n, 0);
    interest_found_fini(&f);
    interest_fini(&in); /* asserts that nothing is left */
}

static void test_any(void **state)
{
    static const uint8_t seed[16] = {7};
    uint64_t rng = test_seed();
    struct interest in;
    char pattern[64];
    unsigned i, k, met = 0;

    (void)state;
    interest_init(&in, seed);
    for (i = 0; i < 2000; i++) {
        bool any = false;

        toggle(&in, &rng, &sub[test_below(&rng, 12)]);
        name(&rng, true, pattern);
        for (k = 0; k < 12; k++)
            any =
                any || (sub[k].in && subjects_meet(slice_str(sub[k].subject), slice_str(pattern)));
        assert_int_equal(interest_any(&in, slice_str(pattern)), any);
        met += any;
        if (subject_has_wildcard(slice_str(pattern)))
            continue;
        for (any = false, k = 0; k < 12; k++)
            any = any || (sub[k].in && strcmp(sub[k].subject, pattern) == 0);
        assert_int_equal(interest_exact(&in, slice_str(pattern)), any);
    }
    assert_in_range(met, 200, 1900);
    for (i = 0; i < 12; i++)
        if (sub[i].in)
            toggle(&in, &rng, &sub[i]);
    interest_fini(&in);
}

static void test_bad_subjects(void **state)
{
    static const char *const bad[] = {"", ".", "a.", "a..b", ".a"};
    static const uint8_t seed[16] = {7};
    struct interest_sub all = {.subject = SLICE_LIT(">")};
    struct interest_found f = {0};
    struct interest in;
    size_t i;

    (void)state;
    interest_init(&in, seed);
    interest_add(&in, &all);
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        interest_match(&in, slice_str(bad[i]), &f);
        assert_int_equal(f.plain_n, 0);
    }
    interest_match(&in, SLICE_LIT("a"), &f);
    assert_int_equal(f.plain_n, 1);
    interest_remove(&in, &all);
    interest_found_fini(&f);
    interest_fini(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_list),
        cmocka_unit_test(test_any),
        cmocka_unit_test(test_bad_subjects),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
