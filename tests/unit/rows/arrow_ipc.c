/* The Arrow encoder on arrays made by hand: messages end where they say and are aligned, their metadata
 * (read as a flatbuffer) says what the body has, and layouts that are not written are refused. What an
 * independent reader makes of every type: tests/system/sql/arrow.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rows/arrow_ipc.h"

static struct buf out;

static uint64_t le(size_t at, unsigned bytes)
{
    uint64_t v = 0;

    assert_true(at + bytes <= out.len);
    memcpy(&v, out.ptr + at, bytes);
    return v;
}

/* The k-th field of a table; 0: it has none. */
static size_t field(size_t table, unsigned k)
{
    size_t vtable = table - (size_t)(int32_t)le(table, 4);
    size_t off = 4 + 2 * k < le(vtable, 2) ? le(vtable + 4 + 2 * k, 2) : 0;

    return off ? table + off : 0;
}

static size_t follow(size_t at)
{
    return at + le(at, 4);
}

struct message {
    size_t table, body, end;
    unsigned kind;
};

/* The message at `at`: 0xFFFFFFFF, the metadata's length, the metadata, the body. */
static struct message message_at(size_t at)
{
    struct message m;
    size_t len;

    assert_int_equal(le(at, 4), 0xffffffff);
    len = le(at + 4, 4);
    assert_int_equal((at + 8 + len) % 8, 0);
    m.table = follow(at + 8);
    m.body = at + 8 + len;
    assert_int_equal(le(field(m.table, 0), 2), 4); /* version V5 */
    m.kind = (unsigned)le(field(m.table, 1), 1);
    m.end = m.body + (field(m.table, 3) ? le(field(m.table, 3), 8) : 0);
    assert_true(m.end <= out.len);
    return m;
}

static struct ArrowSchema leaf(const char *format, const char *name)
{
    return (struct ArrowSchema){.format = format, .name = name, .flags = ARROW_FLAG_NULLABLE};
}

static int setup(void **state)
{
    buf_init(&out, 1u << 20);
    return 0;
}

static int teardown(void **state)
{
    buf_fini(&out);
    return 0;
}

static void test_batch(void **state)
{
    static const int64_t numbers[] = {7, 0, -9};
    static const uint8_t valid[] = {5};
    static const int32_t ends[] = {0, 2, 2, 5};
    const void *number_buffers[] = {valid, numbers}, *text_buffers[] = {NULL, ends, "abcde"};
    const void *none[] = {NULL};
    struct ArrowSchema i = leaf("l", "i"), s = leaf("u", "s"), *columns[] = {&i, &s};
    struct ArrowSchema schema = {.format = "+s", .name = "", .n_children = 2, .children = columns};
    struct ArrowArray ia = {3, -1, 0, 2, 0, number_buffers, NULL, NULL, NULL, NULL};
    struct ArrowArray sa = {3, 0, 0, 3, 0, text_buffers, NULL, NULL, NULL, NULL};
    struct ArrowArray *arrays[] = {&ia, &sa};
    struct ArrowArray batch = {3, 0, 0, 1, 2, none, arrays, NULL, NULL, NULL};
    struct errinfo info;
    struct message m;
    size_t head, nodes, buffers, fields;

    assert_int_equal(arrow_ipc_put_schema(&schema, &out, &info), ERR_OK);
    m = message_at(0);
    assert_int_equal(m.kind, 1);
    assert_int_equal(m.end, out.len);
    fields = follow(field(follow(field(m.table, 2)), 1));
    assert_int_equal(le(fields, 4), 2);
    head = follow(field(follow(fields + 8), 0)); /* the second's name */
    assert_int_equal(le(head, 4), 1);
    assert_int_equal(le(head + 4, 1), 's');

    assert_int_equal(arrow_ipc_put_batch(&schema, &batch, &out, &info), ERR_OK);
    m = message_at(m.end);
    assert_int_equal(m.kind, 3);
    assert_int_equal(m.end, out.len);
    head = follow(field(m.table, 2));
    assert_int_equal(le(field(head, 0), 8), 3);
    nodes = follow(field(head, 1));
    assert_int_equal(le(nodes, 4), 2);
    assert_int_equal(le(nodes + 4 + 8, 8), 1); /* counted: null_count was -1 */
    assert_int_equal(le(nodes + 4 + 16 + 8, 8), 0);
    buffers = follow(field(head, 2));
    assert_int_equal(le(buffers, 4), 5);
    assert_int_equal(le(buffers + 4 + 16, 8) % 8, 0);
    assert_memory_equal(out.ptr + m.body + le(buffers + 4 + 16, 8), numbers, sizeof numbers);
    assert_int_equal(le(buffers + 4 + 4 * 16 + 8, 8), 5);
    assert_memory_equal(out.ptr + m.body + le(buffers + 4 + 4 * 16, 8), "abcde", 5);
    assert_int_equal(arrow_ipc_end(&out), ERR_OK);
    assert_int_equal(le(m.end, 4), 0xffffffff);
    assert_int_equal(le(m.end + 4, 4), 0);
    assert_int_equal(m.end + 8, out.len);
}

static void test_dictionary(void **state)
{
    static const uint8_t keys[] = {1, 0};
    static const int32_t ends[] = {0, 1, 3};
    const void *key_buffers[] = {NULL, keys}, *text_buffers[] = {NULL, ends, "abb"};
    const void *none[] = {NULL};
    struct ArrowSchema words = leaf("u", ""), e = leaf("C", "e"), *columns[] = {&e};
    struct ArrowSchema schema = {.format = "+s", .name = "", .n_children = 1, .children = columns};
    struct ArrowArray wa = {2, 0, 0, 3, 0, text_buffers, NULL, NULL, NULL, NULL};
    struct ArrowArray ea = {2, 0, 0, 2, 0, key_buffers, NULL, &wa, NULL, NULL}, *arrays[] = {&ea};
    struct ArrowArray batch = {2, 0, 0, 1, 1, none, arrays, NULL, NULL, NULL};
    struct errinfo info;
    struct message m;

    e.dictionary = &words;
    assert_int_equal(arrow_ipc_put_schema(&schema, &out, &info), ERR_OK);
    m = message_at(0);
    assert_int_equal(arrow_ipc_put_batch(&schema, &batch, &out, &info), ERR_OK);
    m = message_at(m.end);
    assert_int_equal(m.kind, 2); /* the words come first */
    m = message_at(m.end);
    assert_int_equal(m.kind, 3);
    assert_int_equal(m.end, out.len);
    assert_memory_equal(out.ptr + m.body, keys, sizeof keys);
}

static void test_refused(void **state)
{
    static const char *const formats[] = {"vu", "+vl", "+r", "?", "", "d:x,y", "tsx:"};
    static const int64_t numbers[] = {1, 2};
    const void *buffers[] = {NULL, numbers}, *none[] = {NULL};
    struct ArrowSchema x = leaf("l", "x"), *columns[] = {&x};
    struct ArrowSchema schema = {.format = "+s", .name = "", .n_children = 1, .children = columns};
    struct ArrowArray a = {1, 0, 1, 2, 0, buffers, NULL, NULL, NULL, NULL}, *arrays[] = {&a};
    struct ArrowArray batch = {1, 0, 0, 1, 1, none, arrays, NULL, NULL, NULL};
    struct errinfo info;
    size_t i;

    assert_int_equal(arrow_ipc_put_batch(&schema, &batch, &out, &info), ERR_UNSUPPORTED);
    for (i = 0; i < sizeof formats / sizeof *formats; i++) {
        x.format = formats[i];
        assert_int_equal(arrow_ipc_put_schema(&schema, &out, &info), ERR_UNSUPPORTED);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dictionary, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
