/* AWS Signature Version 4 in an Authorization header ("Signature Version 4 signing process",
 * "Authenticating Requests: Using the Authorization Header" in the S3 API reference). Pure
 * functions but for the hashing library; any thread. */
#ifndef WEIR_LAKE_SIGV4_H
#define WEIR_LAKE_SIGV4_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

#define SIGV4_DATE_LEN   16 /* 20130524T000000Z */
#define SIGV4_HEX_LEN    64
#define SIGV4_UNSIGNED   "UNSIGNED-PAYLOAD"
#define SIGV4_EMPTY_HASH "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct sigv4_header {
    const char *name;  /* lower-case */
    const char *value; /* as sent, without spaces around it */
};

struct sigv4_request {
    const char *method;
    const char *path;  /* as sent: encoded once, begins with '/' */
    const char *query; /* as sent, encoded, sorted by name, each with '='; "" none */
    /* What is signed, sorted by name: host, x-amz-date, x-amz-content-sha256 … */
    const struct sigv4_header *headers;
    unsigned headers_n;
    const char *payload_hash; /* SHA-256 in hex, or SIGV4_UNSIGNED */
    const char *access_key, *secret_key, *region, *service;
    const char *date; /* SIGV4_DATE_LEN characters */
};

void sigv4_date(int64_t wall_ms, char out[SIGV4_DATE_LEN + 1]);
/* Appends the header's value. ERR_TOO_LARGE: out's maximum; ERR_INTERNAL: the library refused. */
enum err sigv4_sign(const struct sigv4_request *r, struct buf *out);
/* Appends s with all but unreserved characters as %XX; slashes stay if keep_slash. */
enum err sigv4_encode(struct buf *out, struct slice s, bool keep_slash);
enum err sigv4_sha256_hex(struct slice s, char out[SIGV4_HEX_LEN + 1]);

#endif
