/* Signature V4 against the examples that AWS publishes ("Signature Calculations for the
 * Authorization Header: Transferring Payload in a Single Chunk", Amazon S3 API reference). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "lake/sigv4.h"

#define HOST "examplebucket.s3.amazonaws.com"
#define DATE "20130524T000000Z"

static void check(const char *method, const char *path, const char *query,
                  const struct sigv4_header *h, unsigned n, const char *payload,
                  const char *signature)
{
    struct sigv4_request r = {.method = method,
                              .path = path,
                              .query = query,
                              .headers = h,
                              .headers_n = n,
                              .payload_hash = payload,
                              .access_key = "AKIAIOSFODNN7EXAMPLE",
                              .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                              .region = "us-east-1",
                              .service = "s3",
                              .date = DATE};
    struct buf b;

    buf_init(&b, 4096);
    assert_int_equal(sigv4_sign(&r, &b), ERR_OK);
    assert_int_equal(buf_append(&b, "", 1), ERR_OK);
    assert_non_null(strstr((const char *)b.ptr,
                           "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"));
    assert_string_equal(strstr((const char *)b.ptr, "Signature=") + 10, signature);
    buf_fini(&b);
}

static void test_get(void **state)
{
    const struct sigv4_header h[] = {{"host", HOST},
                                     {"range", "bytes=0-9"},
                                     {"x-amz-content-sha256", SIGV4_EMPTY_HASH},
                                     {"x-amz-date", DATE}};

    (void)state;
    check("GET", "/test.txt", "", h, 4, SIGV4_EMPTY_HASH,
          "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void test_put(void **state)
{
    char hash[SIGV4_HEX_LEN + 1];
    struct buf path;

    (void)state;
    assert_int_equal(sigv4_sha256_hex(SLICE_LIT("Welcome to Amazon S3."), hash), ERR_OK);
    assert_string_equal(hash, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
    const struct sigv4_header h[] = {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
                                     {"host", HOST},
                                     {"x-amz-content-sha256", hash},
                                     {"x-amz-date", DATE},
                                     {"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
    buf_init(&path, 100);
    assert_int_equal(sigv4_encode(&path, SLICE_LIT("/test$file.text"), true), ERR_OK);
    assert_int_equal(buf_append(&path, "", 1), ERR_OK);
    check("PUT", (const char *)path.ptr, "", h, 5, hash,
          "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
    buf_fini(&path);
}

static void test_query(void **state)
{
    const struct sigv4_header h[] = {
        {"host", HOST}, {"x-amz-content-sha256", SIGV4_EMPTY_HASH}, {"x-amz-date", DATE}};

    (void)state;
    check("GET", "/", "lifecycle=", h, 3, SIGV4_EMPTY_HASH,
          "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    check("GET", "/", "max-keys=2&prefix=J", h, 3, SIGV4_EMPTY_HASH,
          "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void test_date_and_encoding(void **state)
{
    char date[SIGV4_DATE_LEN + 1];
    struct buf b;

    (void)state;
    sigv4_date(1369353600000, date);
    assert_string_equal(date, DATE);
    buf_init(&b, 100);
    assert_int_equal(sigv4_encode(&b, SLICE_LIT("a b/\xc3\xa9~-_.+="), false), ERR_OK);
    assert_int_equal(buf_append(&b, "", 1), ERR_OK);
    assert_string_equal((const char *)b.ptr, "a%20b%2F%C3%A9~-_.%2B%3D");
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_put),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_date_and_encoding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
