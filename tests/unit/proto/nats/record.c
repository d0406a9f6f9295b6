/* Records as messages: no key leaves its token, no header its line. */
#include "proto/nats/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/subject.h"
#include "journal/batch.h"

static void subject_is(struct slice topic, struct slice key, const char *wanted)
{
    struct buf b;

    buf_init(&b, SIZE_MAX);
    assert_int_equal(subject_of_record(topic, key, &b), wanted != NULL);
    if (wanted)
        assert_true(slice_eq_str(buf_slice(&b), wanted));
    buf_fini(&b);
}

static void test_subjects(void **state)
{
    static uint8_t long_key[SUBJECT_OF_RECORD_MAX];

    (void)state;
    subject_is(slice_str("orders"), SLICE_NULL, "orders");
    subject_is(slice_str("orders"), slice_str(""), "orders");
    subject_is(slice_str("a.b"), slice_str("new"), "a.b.new");
    subject_is(slice_str("o"), slice_str("a.b c*d>e%f\r\n"), "o.a%2Eb%20c%2Ad%3Ee%25f%0D%0A");
    subject_is(slice_str("o"), slice_str("gr\xc3\xbc\xc3\x9f"), "o.gr\xc3\xbc\xc3\x9f");
    subject_is(slice_str("o"), slice_of("\xff\x00\x7f", 3), "o.%FF%00%7F");
    subject_is(slice_str("a..b"), SLICE_NULL, NULL);
    subject_is(slice_str("o"), slice_of(long_key, sizeof long_key), NULL);
}

/* Any one byte as a key is one valid token, and no two have the same. */
static void test_tokens(void **state)
{
    struct buf b[2];
    unsigned c;

    (void)state;
    buf_init(&b[0], SIZE_MAX);
    buf_init(&b[1], SIZE_MAX);
    for (c = 0; c < 256; c++) {
        uint8_t key = (uint8_t)c;

        buf_clear(&b[c & 1]);
        assert_true(subject_of_record(slice_str("t"), slice_of(&key, 1), &b[c & 1]));
        assert_true(subject_literal(buf_slice(&b[c & 1])));
        assert_true(subject_match(slice_str("t.*"), buf_slice(&b[c & 1])));
        assert_false(slice_eq(buf_slice(&b[0]), buf_slice(&b[1])));
    }
    buf_fini(&b[0]);
    buf_fini(&b[1]);
}

static void headers_are(const struct record_header *h, unsigned n, const char *wanted)
{
    struct buf b;

    buf_init(&b, SIZE_MAX);
    buf_append_str(&b, "x"); /* appended behind what is there */
    assert_int_equal(record_nats_headers(h, n, &b), strlen(wanted));
    assert_true(slice_eq_str(slice_of(b.ptr + 1, b.len - 1), wanted));
    buf_fini(&b);
}

static void test_headers(void **state)
{
    const struct record_header plain[] = {{slice_str("a"), slice_str("1")},
                                          {slice_str("b"), SLICE_NULL},
                                          {slice_str("a"), slice_str("2 3")}};
    const struct record_header bad[] = {{slice_str("x\r\ny: z"), slice_str("1\r\n\r\nMSG a 1 0")},
                                        {slice_str(""), slice_str("nameless")},
                                        {slice_str("\xff"), slice_of("\0\t\x7f", 3)}};
    const struct record_header blank[] = {{slice_str(" a b "), slice_str("1")},
                                          {slice_str(" "), slice_str("2")}};
    const struct record_header status[] = {{slice_str("a"), slice_str("1")},
                                           {slice_str(RECORD_STATUS), slice_str("503 no\none")}};

    (void)state;
    headers_are(NULL, 0, "");
    headers_are(plain, 3, "NATS/1.0\r\na: 1\r\nb: \r\na: 2 3\r\n\r\n");
    headers_are(bad, 3, "NATS/1.0\r\nx%0D%0Ay%3A z: 1    MSG a 1 0\r\n%FF:    \r\n\r\n");
    headers_are(blank, 2, "NATS/1.0\r\n%20a b%20: 1\r\n%20: 2\r\n\r\n");
    headers_are(status, 2, "NATS/1.0 503 no one\r\na: 1\r\n\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subjects),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_headers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
