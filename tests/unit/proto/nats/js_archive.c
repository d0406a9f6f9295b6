/* Backups: frames of S2, entries of archives; whatever is cut, whatever is damaged. */
#include "proto/nats/js_archive.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/crc32c.h"

#define MAX (1u << 20)

static void frame(struct buf *out, uint8_t kind, const char *text, const void *body, size_t n)
{
    uint32_t c = crc32c(0, text, strlen(text)), i;

    c = (c >> 15 | c << 17) + 0xa282ead8u;
    buf_append_u8(out, kind);
    for (i = 0; i < 3; i++)
        buf_append_u8(out, (uint8_t)((n + 4) >> 8 * i));
    for (i = 0; i < 4; i++)
        buf_append_u8(out, (uint8_t)(c >> 8 * i));
    buf_append(out, body, n);
}

static void sample(struct buf *out)
{
    struct buf raw;
    char *big = calloc(1, 200000);

    buf_init(&raw, MAX);
    jarchive_begin(&raw);
    jarchive_put(&raw, &(struct jarchive_entry){.name = SLICE_LIT("state.json"),
                                                .time_ns = -5,
                                                .payload = SLICE_LIT("{}")});
    jarchive_put(&raw, &(struct jarchive_entry){.name = SLICE_LIT("a.b"),
                                                .time_ns = INT64_C(1700000000123456789),
                                                .seq = UINT64_C(1) << 40,
                                                .headers = SLICE_LIT("NATS/1.0\r\n\r\n"),
                                                .payload = slice_of(big, 200000)});
    jarchive_put(&raw, &(struct jarchive_entry){0});
    jarchive_frame(buf_slice(&raw), true, out);
    buf_fini(&raw);
    free(big);
}

static void test_round(void **state)
{
    static const size_t steps[] = {1, 7, 4096, MAX};
    struct jarchive_entry e;
    struct jarchive a;
    struct buf out;
    size_t i, at, n, got;
    enum err r;

    (void)state;
    buf_init(&out, MAX);
    sample(&out);
    for (i = 0; i < sizeof steps / sizeof *steps; i++) {
        jarchive_init(&a);
        for (at = got = 0; at < out.len; at += n) {
            n = out.len - at < steps[i] ? out.len - at : steps[i];
            assert_int_equal(jarchive_feed(&a, slice_of(out.ptr + at, n), MAX), ERR_OK);
            while (!(r = jarchive_next(&a, &e)))
                if (!got++)
                    assert_true(slice_eq_str(e.name, "state.json") && e.time_ns == -5 && !e.seq &&
                                slice_eq_str(e.payload, "{}"));
                else if (got == 2)
                    assert_true(slice_eq_str(e.name, "a.b") && e.seq == UINT64_C(1) << 40 &&
                                e.time_ns == INT64_C(1700000000123456789) &&
                                slice_eq_str(e.headers, "NATS/1.0\r\n\r\n") &&
                                e.payload.len == 200000 && !e.payload.ptr[199999]);
            assert_int_equal(r, ERR_AGAIN);
        }
        assert_int_equal(got, 3);
        jarchive_fini(&a);
    }
    buf_fini(&out);
}

static enum err read_all(struct slice s, unsigned *got)
{
    struct jarchive_entry e;
    struct jarchive a;
    enum err r;

    jarchive_init(&a);
    r = jarchive_feed(&a, s, MAX);
    for (*got = 0; !r && !(r = jarchive_next(&a, &e));)
        ++*got;
    jarchive_fini(&a);
    return r;
}

/* An entry whose payload is made of a literal, copies of each kind, and repeats. */
static void test_compressed(void **state)
{
    static const char text[] = "NATSARC1"
                               "\1\0\1\0\x14"
                               "s"
                               "abcdabcdabcdabcdabcd";
    static const uint8_t block[] = {34,         17 << 2, 'N', 'A', 'T',  'S', 'A', 'R',
                                    'C',        '1',     1,   0,   1,    0,   20,  's',
                                    'a',        'b',     'c', 'd', 0x01, 4, /* copy 4 from 4 back */
                                    3 << 2 | 2, 4,       0,                 /* copy 4 */
                                    0x01,       0,                          /* repeat 4 */
                                    3 << 2 | 3, 4,       0,   0,   0};      /* copy 4 */
    struct jarchive_entry e;
    struct jarchive a;
    struct buf out;

    (void)state;
    buf_init(&out, MAX);
    buf_append(&out, "\xff\x06\x00\x00S2sTwO", 10);
    buf_append(&out, "\x99\x02\x00\x00xx", 6);
    jarchive_init(&a);
    {
        uint32_t c = crc32c(0, text, sizeof text - 1), i;

        c = (c >> 15 | c << 17) + 0xa282ead8u;
        buf_append_u8(&out, 0);
        for (i = 0; i < 3; i++)
            buf_append_u8(&out, (uint8_t)((sizeof block + 4) >> 8 * i));
        for (i = 0; i < 4; i++)
            buf_append_u8(&out, (uint8_t)(c >> 8 * i));
        buf_append(&out, block, sizeof block);
    }
    assert_int_equal(jarchive_feed(&a, buf_slice(&out), MAX), ERR_OK);
    assert_int_equal(jarchive_next(&a, &e), ERR_OK);
    assert_true(e.seq == 1 && slice_eq_str(e.payload, "abcdabcdabcdabcdabcd"));
    jarchive_fini(&a);
    buf_fini(&out);
}

static void test_damage(void **state)
{
    static const uint8_t far[] = {8, 0, 'x', 0x01, 4},
                         more[] = {2, 4 << 2, 'x', 'x', 'x', 'x', 'x'}, less[] = {9, 0, 'x'},
                         huge[] = {0xff, 0xff, 0xff, 0xff, 0x7f, 0, 'x'};
    struct buf out;
    unsigned got;
    size_t i;

    (void)state;
    buf_init(&out, MAX);
    sample(&out);
    for (i = 0; i < out.len; i += i < 300 ? 1 : 997) {
        out.ptr[i] ^= 0x40;
        (void)read_all(buf_slice(&out), &got);
        assert_true(got < 3);
        out.ptr[i] ^= 0x40;
    }
    assert_int_equal(read_all(buf_slice(&out), &got), ERR_AGAIN);
    assert_int_equal(got, 3);
    for (i = 0; i < 4; i++) {
        buf_clear(&out);
        buf_append(&out, "\xff\x06\x00\x00sNaPpY", 10);
        frame(&out, 0, "xxxxx",
              i == 0   ? far
              : i == 1 ? more
              : i == 2 ? less
                       : huge,
              i == 0   ? sizeof far
              : i == 1 ? sizeof more
              : i == 2 ? sizeof less
                       : sizeof huge);
        assert_int_equal(read_all(buf_slice(&out), &got), ERR_CORRUPT_INPUT);
    }
    buf_clear(&out);
    frame(&out, 1, "no beginning", "no beginning", 12);
    assert_int_equal(read_all(buf_slice(&out), &got), ERR_CORRUPT_INPUT);
    buf_clear(&out);
    jarchive_frame(SLICE_LIT("meta.inf of a tar"), true, &out);
    assert_int_equal(read_all(buf_slice(&out), &got), ERR_UNSUPPORTED);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round),
                                       cmocka_unit_test(test_compressed),
                                       cmocka_unit_test(test_damage)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
