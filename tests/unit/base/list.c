/* Intrusive lists. */
#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    int v;
    struct list_node link;
};

static void order(void **state)
{
    struct item it[4] = {{.v = 0}, {.v = 1}, {.v = 2}, {.v = 3}}, *i;
    struct list_head h;
    int want = 0;

    list_init(&h);
    assert_true(list_empty(&h));
    list_push_back(&h, &it[1].link);
    list_push_back(&h, &it[3].link);
    list_insert_before(&it[1].link, &it[0].link);
    list_insert_before(&it[3].link, &it[2].link);
    list_for_each(i, &h, struct item, link) assert_int_equal(i->v, want++);
    assert_int_equal(want, 4);
    assert_true(list_is_first(&h, &it[0].link));
    list_remove(&it[2].link);
    list_remove(&it[0].link);
    assert_true(list_is_first(&h, &it[1].link));
    assert_ptr_equal(list_entry(list_pop_front(&h), struct item, link), &it[1]);
    assert_ptr_equal(list_entry(list_pop_front(&h), struct item, link), &it[3]);
    assert_true(list_empty(&h));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(order)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
