/* Arenas: alignment, growth, the maximum, reuse. */
#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void alloc_aligned_and_apart(void **state)
{
    struct arena a;
    uint8_t *p[200];
    unsigned i, k;

    arena_init(&a, 100, 1 << 20);
    for (i = 0; i < 200; i++) {
        p[i] = arena_alloc(&a, i);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        memset(p[i], (int)i, i);
    }
    for (i = 0; i < 200; i++)
        for (k = 0; k < i; k++)
            assert_int_equal(p[i][k], (uint8_t)i);
    arena_fini(&a);
}

static void max_is_kept(void **state)
{
    struct arena a;
    size_t got = 0;

    arena_init(&a, 1024, 4000);
    assert_null(arena_alloc(&a, 4001));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_zalloc(&a, SIZE_MAX / 2, 3));
    while (arena_alloc(&a, 16))
        got += 16;
    assert_in_range(got, 3900, 4000);
    assert_true(a.total <= 4000);
    assert_null(arena_alloc(&a, 1));
    arena_reset(&a);
    assert_non_null(arena_alloc(&a, 1000));
    arena_fini(&a);
    assert_non_null(arena_alloc(&a, 4000)); /* fini leaves it empty, not broken */
    arena_fini(&a);
}

static void reset_keeps_a_usual_chunk_only(void **state)
{
    struct arena a;

    arena_init(&a, 1024, 1 << 20);
    arena_alloc(&a, 10);
    arena_alloc(&a, 100000);
    assert_true(a.total > 100000);
    arena_reset(&a);
    assert_int_equal(a.total, 1024);
    arena_fini(&a);
}

static void copies(void **state)
{
    struct arena a;
    struct slice s;

    arena_init(&a, 64, 256);
    s = arena_dup(&a, SLICE_LIT("hello"));
    assert_true(slice_eq_str(s, "hello"));
    assert_string_equal(arena_str(&a, SLICE_LIT("text")), "text");
    assert_string_equal(arena_str(&a, SLICE_NULL), "");
    assert_true(slice_is_null(arena_dup(&a, SLICE_NULL)));
    assert_false(slice_is_null(arena_dup(&a, SLICE_LIT(""))));
    assert_null(arena_str(&a, slice_of("x", 256)));
    s = slice_of(arena_zalloc(&a, 4, 8), 32);
    assert_non_null(s.ptr);
    assert_int_equal(s.ptr[0] | s.ptr[31], 0);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alloc_aligned_and_apart),
        cmocka_unit_test(max_is_kept),
        cmocka_unit_test(reset_keeps_a_usual_chunk_only),
        cmocka_unit_test(copies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
