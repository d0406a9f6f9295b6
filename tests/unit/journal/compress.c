/* Codecs: there and back at many sizes, maxima, damage, the shapes that other clients write. */
#include "journal/compress.h"

#include <pthread.h>

#include "../vectors.h"
#include "base/tbl/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static uint8_t text[300000], noise[300000];

static int fill(void **state)
{
    uint64_t seed = test_seed();
    size_t i;

    for (i = 0; i < sizeof text; i++) {
        text[i] = (uint8_t) "the quick brown fox "[(i + test_below(&seed, 2)) % 20];
        noise[i] = (uint8_t)test_random(&seed);
    }
    return 0;
}

static void round_trip(enum codec c, struct slice in)
{
    struct buf packed, out;

    buf_init(&packed, 5 + codec_bound(in.len));
    buf_init(&out, 3 + in.len); /* exactly as much as is needed */
    buf_append_str(&packed, "front");
    buf_append_str(&out, "abc");
    assert_int_equal(codec_deflate(c, in, &packed), ERR_OK);
    assert_int_equal(codec_inflate(c, slice_of(packed.ptr + 5, packed.len - 5), &out), ERR_OK);
    assert_int_equal(out.len, 3 + in.len);
    assert_memory_equal(out.ptr, "abc", 3);
    assert_memory_equal(packed.ptr, "front", 5);
    if (in.len)
        assert_memory_equal(out.ptr + 3, in.ptr, in.len);
    buf_fini(&packed);
    buf_fini(&out);
}

static void there_and_back(void **state)
{
    static const size_t sizes[] = {0, 1, 2, 100, 32767, 32768, 32769, 65536, 100000, 300000};
    size_t i;
    int c;

    for (c = 0; c < CODEC_N; c++) {
        for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            round_trip((enum codec)c, slice_of(text, sizes[i]));
            round_trip((enum codec)c, slice_of(noise, sizes[i]));
        }
    }
}

static void names(void **state)
{
    int c;

    for (c = 0; c < CODEC_N; c++)
        assert_int_equal(codec_find(slice_str(codec_name(c))), c);
    assert_string_equal(codec_name(4), "zstd");
    assert_null(codec_name(5));
    assert_null(codec_name(-1));
    assert_int_equal(codec_find(SLICE_LIT("brotli")), -1);
    assert_int_equal(codec_inflate((enum codec)5, SLICE_LIT("x"), NULL), ERR_UNSUPPORTED);
    assert_int_equal(codec_deflate((enum codec)7, SLICE_LIT("x"), NULL), ERR_UNSUPPORTED);
}

/* A bomb: 32 MiB of zeros in some kilobytes. One byte less room than needed is refused, and no more
 * memory than the maximum is ever asked for. */
static void bombs_are_refused(void **state)
{
    size_t n = 32u << 20;
    uint8_t *zeros = calloc(1, n);
    struct buf packed, out;
    int c;

    assert_non_null(zeros);
    for (c = 1; c < CODEC_N; c++) {
        buf_init(&packed, codec_bound(n));
        assert_int_equal(codec_deflate((enum codec)c, slice_of(zeros, n), &packed), ERR_OK);
        buf_init(&out, 1 << 20);
        assert_int_equal(codec_inflate((enum codec)c, buf_slice(&packed), &out), ERR_TOO_LARGE);
        assert_true(out.cap <= 1 << 20);
        buf_fini(&out);
        buf_init(&out, n - 1);
        assert_int_equal(codec_inflate((enum codec)c, buf_slice(&packed), &out), ERR_TOO_LARGE);
        buf_fini(&out);
        buf_init(&out, n);
        assert_int_equal(codec_inflate((enum codec)c, buf_slice(&packed), &out), ERR_OK);
        assert_int_equal(out.len, n);
        buf_fini(&out);
        buf_fini(&packed);
    }
    free(zeros);
}

/* Compressing into too little room is an error, not an overrun. */
static void deflate_max(void **state)
{
    struct buf out;
    int c;

    for (c = 0; c < CODEC_N; c++) {
        buf_init(&out, 1000);
        assert_int_equal(codec_deflate((enum codec)c, slice_of(noise, 5000), &out), ERR_TOO_LARGE);
        assert_true(out.cap <= 1000);
        buf_fini(&out);
    }
}

/* Cut at every byte: never accepted as whole, except where the cut leaves a whole frame, which
 * gives fewer bytes. Bytes behind the end: refused. */
static void cut_and_extended(void **state)
{
    struct buf packed, out;
    size_t at;
    enum err e;
    int c;

    for (c = 1; c < CODEC_N; c++) {
        buf_init(&packed, codec_bound(3000) + 3);
        buf_init(&out, 3000);
        assert_int_equal(codec_deflate((enum codec)c, slice_of(text, 3000), &packed), ERR_OK);
        for (at = 0; at < packed.len; at++) {
            buf_clear(&out);
            e = codec_inflate((enum codec)c, slice_of(packed.ptr, at), &out);
            if (e == ERR_OK && out.len == 3000)
                fail_msg("%s cut at %zu of %zu", codec_name(c), at, packed.len);
            assert_true(e == ERR_OK || e == ERR_CORRUPT_INPUT || e == ERR_TOO_LARGE);
        }
        buf_append_str(&packed, "xyz");
        buf_clear(&out);
        assert_int_equal(codec_inflate((enum codec)c, buf_slice(&packed), &out), ERR_CORRUPT_INPUT);
        buf_fini(&packed);
        buf_fini(&out);
    }
}

/* Flipped bits: any answer, but within bounds (sanitizers watch). */
static void flipped(void **state)
{
    struct buf packed, out;
    size_t bit;
    int c;

    for (c = 1; c < CODEC_N; c++) {
        buf_init(&packed, codec_bound(1000));
        buf_init(&out, 5000);
        assert_int_equal(codec_deflate((enum codec)c, slice_of(text, 1000), &packed), ERR_OK);
        for (bit = 0; bit < packed.len * 8; bit++) {
            packed.ptr[bit / 8] ^= (uint8_t)(1 << bit % 8);
            buf_clear(&out);
            codec_inflate((enum codec)c, buf_slice(&packed), &out);
            assert_true(out.len <= 5000);
            packed.ptr[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        buf_clear(&out);
        assert_int_equal(codec_inflate((enum codec)c, buf_slice(&packed), &out), ERR_OK);
        buf_fini(&packed);
        buf_fini(&out);
    }
}

/* Declared sizes that are lies cost nothing. */
static void lies(void **state)
{
    static const uint8_t snappy[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 'a'};
    static const uint8_t zstd[] = {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0xff, 0xff, 0xff,
                                   0xff, 0xff, 0xff, 0xff, 0x7f, 1,    0,    0};
    struct buf out;

    buf_init(&out, LIMIT_BATCH_INFLATED);
    assert_int_equal(codec_inflate(CODEC_SNAPPY, slice_of(snappy, sizeof snappy), &out),
                     ERR_CORRUPT_INPUT);
    assert_int_equal(codec_inflate(CODEC_ZSTD, slice_of(zstd, sizeof zstd), &out), ERR_TOO_LARGE);
    assert_true(out.cap < 1 << 20);
    buf_fini(&out);
}

/* Raw snappy, as librdkafka writes it: a literal of 5 bytes. And Xerial's framing of two blocks. */
static void snappy_shapes(void **state)
{
    static const uint8_t raw[] = {5, 4 << 2, 'h', 'e', 'l', 'l', 'o'};
    static const uint8_t framed[] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0,  0, 0,
                                     1,    0,   0,   0,   1,   0,   0,   0, 4,  2, 4,
                                     'a',  'b', 0,   0,   0,   3,   1,   0, 'c'};
    struct buf out;

    buf_init(&out, 100);
    assert_int_equal(codec_inflate(CODEC_SNAPPY, slice_of(raw, sizeof raw), &out), ERR_OK);
    assert_true(slice_eq_str(buf_slice(&out), "hello"));
    buf_clear(&out);
    assert_int_equal(codec_inflate(CODEC_SNAPPY, slice_of(framed, sizeof framed), &out), ERR_OK);
    assert_true(slice_eq_str(buf_slice(&out), "abc"));
    buf_fini(&out);
}

static void *worker(void *arg)
{
    int i, c;

    for (i = 0; i < 30; i++)
        for (c = 1; c < CODEC_N; c++)
            round_trip((enum codec)c, slice_of(text + i, 20000));
    return NULL;
}

/* More threads than kept contexts. */
static void by_threads(void **state)
{
    pthread_t t[6];
    size_t i;

    for (i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&t[i], NULL, worker, NULL), 0);
    for (i = 0; i < 6; i++)
        pthread_join(t[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(names),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(deflate_max),
        cmocka_unit_test(cut_and_extended),
        cmocka_unit_test(flipped),
        cmocka_unit_test(lies),
        cmocka_unit_test(snappy_shapes),
        cmocka_unit_test(by_threads),
    };

    return cmocka_run_group_tests(tests, fill, NULL);
}
