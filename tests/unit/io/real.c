/* Reads that must not wait (io_pread_now), on real files: what is in memory, byte for byte, or
 * ERR_AGAIN. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/io.h"

#define BYTES (256u << 10)

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 7 + (i >> 9));
}

/* Does the file system say whether it would wait? */
static bool can_say(const char *path)
{
    uint8_t b;
    struct iovec v = {&b, 1};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool can = preadv2(fd, &v, 1, 0, RWF_NOWAIT) == 1 || errno == EAGAIN;

    close(fd);
    return can;
}

static void now_or_not_at_all(void **state)
{
    char dir[] = "/tmp/weir-test-XXXXXX", path[64];
    uint8_t *wrote = malloc(BYTES), *got_bytes = malloc(BYTES);
    struct io_file *f = NULL;
    size_t i, got = 0;
    enum err e;
    int fd;

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/f", dir);
    for (i = 0; i < BYTES; i++)
        wrote[i] = byte_at(i);
    assert_int_equal(io_open(io_real(), path, IO_CREATE, &f, NULL), ERR_OK);
    assert_int_equal(io_pwrite(f, wrote, BYTES, 0, NULL), ERR_OK);
    e = io_pread_now(f, got_bytes, 5000, 1234, &got, NULL);
    if (can_say(path)) {
        assert_int_equal(e, ERR_OK);
        assert_int_equal(got, 5000);
        assert_memory_equal(got_bytes, wrote + 1234, 5000);
    } else {
        assert_int_equal(e, ERR_AGAIN);
    }
    assert_int_equal(io_pread_now(f, got_bytes, 100, BYTES - 50, &got, NULL), ERR_AGAIN);
    assert_int_equal(io_pread_now(f, got_bytes, 100, BYTES, &got, NULL), ERR_AGAIN);
    assert_int_equal(io_sync(f, NULL), ERR_OK);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* asked, not ordered */
    close(fd);
    memset(got_bytes, 0, BYTES);
    e = io_pread_now(f, got_bytes, BYTES, 0, &got, NULL);
    assert_true(e == ERR_OK || e == ERR_AGAIN);
    if (!e)
        assert_memory_equal(got_bytes, wrote, BYTES);
    assert_int_equal(io_pread(f, got_bytes, BYTES, 0, &got, NULL), ERR_OK);
    assert_memory_equal(got_bytes, wrote, BYTES);
    io_close(&f);
    unlink(path);
    rmdir(dir);
    free(wrote);
    free(got_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(now_or_not_at_all)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
