/* What is written through an overlay is read back as from a file, and the disk stays as it was. */
#include "io/overlay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "io/sim.h"

#define ROOM (5u * OVERLAY_BLOCK)

static void file_make(struct io *io, const char *path, size_t n)
{
    uint8_t *mem = xmalloc(n);
    struct io_file *f;
    size_t i;

    for (i = 0; i < n; i++)
        mem[i] = (uint8_t)(i * 7 + 1);
    assert_int_equal(io_open(io, path, IO_CREATE, &f, NULL), ERR_OK);
    assert_int_equal(io_pwrite(f, mem, n, 0, NULL), ERR_OK);
    io_close(&f);
    free(mem);
}

static void file_expect(struct io *io, const char *path, size_t n)
{
    uint8_t *mem = xmalloc(n + 1);
    struct io_file *f;
    size_t i, got = 0;

    assert_int_equal(io_open(io, path, IO_RDONLY, &f, NULL), ERR_OK);
    assert_int_equal(io_pread(f, mem, n + 1, 0, &got, NULL), ERR_OK);
    assert_int_equal(got, n);
    for (i = 0; i < n; i++)
        assert_int_equal(mem[i], (uint8_t)(i * 7 + 1));
    io_close(&f);
    free(mem);
}

static void as_model(struct overlay *o, const uint8_t *model, size_t size)
{
    uint8_t *mem = xmalloc(ROOM);
    size_t off, n, got;

    assert_int_equal(o->size, size);
    for (off = 0; off < size + 10; off += 1237)
        for (n = 1; n < ROOM; n = n * 5 + 3) {
            size_t want = off >= size ? 0 : n < size - off ? n : size - off;

            assert_int_equal(overlay_read(o, mem, n, off, &got, NULL), ERR_OK);
            assert_int_equal(got, want);
            assert_memory_equal(mem, model + off, want);
        }
    free(mem);
}

/* Random writes and cuts, compared with the same on an array. */
static void as_a_file(void **state)
{
    struct io *io = io_sim_new(1);
    uint8_t *model = xcalloc(2, ROOM), text[3000];
    size_t size = 9000, first = size, off, n, i;
    struct overlay o;

    file_make(io, "/f", size);
    for (i = 0; i < size; i++)
        model[i] = (uint8_t)(i * 7 + 1);
    assert_int_equal(overlay_init(&o, io, "/f", NULL), ERR_OK);
    assert_true(o.there);
    as_model(&o, model, size);
    srandom(5);
    for (i = 0; i < 400; i++) {
        off = (size_t)random() % (ROOM - sizeof text);
        n = (size_t)random() % sizeof text;
        if (random() % 3 == 0) {
            if (off < size)
                memset(model + off, 0, size - off);
            size = off;
            assert_int_equal(overlay_truncate(&o, size, NULL), ERR_OK);
        } else {
            memset(text, (int)i, sizeof text);
            memcpy(model + off, text, n);
            size = n && off + n > size ? off + n : size;
            assert_int_equal(overlay_write(&o, text, n, off, NULL), ERR_OK);
        }
        as_model(&o, model, size);
    }
    overlay_fini(&o);
    file_expect(io, "/f", first);
    free(model);
    io_sim_free(&io);
}

static void removed_and_made(void **state)
{
    struct io *io = io_sim_new(2);
    struct overlay o;
    char text[8];
    size_t got;

    file_make(io, "/f", 5000);
    assert_int_equal(overlay_init(&o, io, "/f", NULL), ERR_OK);
    overlay_remove(&o);
    assert_false(o.there);
    assert_int_equal(overlay_write(&o, "new", 3, 0, NULL), ERR_OK);
    assert_int_equal(overlay_read(&o, text, 8, 0, &got, NULL), ERR_OK);
    assert_int_equal(got, 3);
    assert_memory_equal(text, "new", 3);
    overlay_fini(&o);
    file_expect(io, "/f", 5000);

    assert_int_equal(overlay_init(&o, io, "/none", NULL), ERR_OK);
    assert_false(o.there);
    assert_int_equal(o.size, 0);
    overlay_fini(&o);
    io_sim_free(&io);
}

static void bounded(void **state)
{
    struct io *io = io_sim_new(3);
    struct errinfo info = {0};
    struct overlay o;

    assert_int_equal(overlay_init(&o, io, "/f", NULL), ERR_OK);
    assert_int_equal(overlay_write(&o, "x", 1, OVERLAY_FILE_BYTES_MAX, &info), ERR_NO_MEMORY);
    assert_non_null(strstr(info.text, "/f"));
    o.bytes = OVERLAY_BYTES_MAX + 1;
    assert_int_equal(overlay_write(&o, "x", 1, 0, &info), ERR_NO_MEMORY);
    overlay_fini(&o);
    io_sim_free(&io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_a_file),
        cmocka_unit_test(removed_and_made),
        cmocka_unit_test(bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
