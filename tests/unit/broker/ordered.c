/* The ordered index against a plain sorted array, over random inserts and removals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/ordered.h"

#define N 600

struct item {
    struct ordered_node node;
    char key[8];
    int in;
};

static unsigned depth(const struct ordered_node *n)
{
    unsigned l, r;

    if (!n)
        return 0;
    l = depth(n->left);
    r = depth(n->right);
    return 1 + (l > r ? l : r);
}

static void check(struct ordered *x, struct item *it)
{
    struct ordered_node *n = ordered_first(x);
    size_t count = 0;
    int i;

    for (i = 0; i < N; i++) {
        struct slice k = slice_str(it[i].key);

        assert_ptr_equal(ordered_find(x, k), it[i].in ? &it[i].node : NULL);
        if (!it[i].in)
            continue;
        count++;
        assert_ptr_equal(n, &it[i].node); /* keys are made in order */
        n = ordered_after(x, k);
    }
    assert_null(n);
    assert_int_equal(x->n, count);
}

static void test_random(void **state)
{
    static struct item it[N];
    unsigned seed = 12345, step;
    struct ordered x;
    int i;

    ordered_init(&x, 7);
    for (i = 0; i < N; i++) {
        snprintf(it[i].key, sizeof it[i].key, "k%04d", i);
        it[i].node.key = slice_str(it[i].key);
    }
    assert_null(ordered_after(&x, SLICE_LIT("")));
    for (step = 0; step < 6000; step++) {
        i = (int)((seed = seed * 1103515245u + 12345u) >> 8) % N;
        if (it[i].in)
            ordered_remove(&x, &it[i].node);
        else
            ordered_insert(&x, &it[i].node);
        it[i].in = !it[i].in;
        if (step % 500 == 0)
            check(&x, it);
    }
    check(&x, it);
    for (i = 0; i < N; i++) /* in order: the worst case of a plain tree */
        if (it[i].in)
            ordered_remove(&x, &it[i].node);
    assert_null(x.root);
    for (i = 0; i < N; i++)
        ordered_insert(&x, &it[i].node);
    assert_true(depth(x.root) < 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

    return cmocka_run_group_tests_name("broker/ordered", tests, NULL, NULL);
}
