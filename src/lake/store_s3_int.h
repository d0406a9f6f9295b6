/* Requests to an S3 store: what store_s3.c asks of store_s3_http.c. Private to src/lake/store*.c.
 *
 * A request is sent as often as it takes within the deadline: connection errors, stalls, truncated
 * answers and the statuses that mean "later" are tried again after a wait that doubles and is drawn
 * at random below that ("full jitter"). `lost` tells that an attempt may have been carried out
 * although its answer did not come. */
#ifndef WEIR_LAKE_STORE_S3_INT_H
#define WEIR_LAKE_STORE_S3_INT_H

#include <curl/curl.h>

#include "base/tbl/limits.h"
#include "io/thread.h"
#include "lake/store_int.h"

#define S3_QUERY_MAX   8u
#define S3_HEADERS_MAX 12u
#define S3_TEXT_MAX    256u

struct s3_store {
    struct store base; /* first */
    char *scheme_host; /* "https://HOST[:PORT]" of requests */
    char *host;        /* as in the Host header */
    char *base_path;   /* "" or "/BUCKET", encoded */
    char *prefix;      /* of all keys: "" or "a/b/" */
    char *endpoint, *bucket, *region, *ca_file, *storage_class;
    struct store_creds creds;
    struct signer *signer; /* in the place of creds; NULL: none */
    bool anonymous, tls, path_style, checksums, sign_payload;
    uint32_t connect_timeout_ms, stall_timeout_ms, deadline_ms, part_bytes;
    const _Atomic bool *stop;
    struct io_mutex lock;
    CURL *idle[LIMIT_STORE_CONNS]; /* lock */
    unsigned idle_n;
};

struct s3_pair {
    const char *name, *value;
};

struct s3_request {
    const char *method;
    const char *key;                    /* below the prefix; NULL: the bucket itself */
    struct s3_pair query[S3_QUERY_MAX]; /* sorted by name, not encoded */
    unsigned query_n;
    struct s3_pair header[S3_HEADERS_MAX]; /* lower-case names, any order */
    unsigned header_n;
    struct store_source body;
    uint32_t deadline_ms;    /* 0: the store's */
    bool has_body, checksum; /* checksum: send the body's CRC32C if the store takes them */
    bool change;             /* sending it twice may matter: see `lost` */
    uint64_t len;            /* bytes that are expected at most, for the deadline */
    /* Where the answer goes: */
    struct buf *out;
    int fd; /* if out is NULL; -1: nowhere */
};

struct s3_answer {
    long status;
    struct store_stat st;
    uint64_t range_total;     /* of Content-Range; UINT64_MAX: none */
    char token[S3_TEXT_MAX];  /* x-amz-meta-weir-put */
    char region[S3_TEXT_MAX]; /* x-amz-bucket-region */
    char crc[16];             /* checksum that was sent, base64 */
    int retry_after_s;
    bool lost; /* an attempt before the last may have been carried out */
    char code[S3_TEXT_MAX], message[S3_TEXT_MAX]; /* of an error's XML */
};

/* ERR_OK: a status of 2xx. Otherwise info says what the store said; a->status is 0 if there was no
 * answer. ERR_NOT_FOUND, ERR_EXISTS (412, 409 of a condition), ERR_UNCERTAIN … as in store.h. */
enum err s3_call(struct s3_store *s, const struct s3_request *r, struct s3_answer *a,
                 struct errinfo *info);
void s3_query(struct s3_request *r, const char *name, const char *value);
void s3_header(struct s3_request *r, const char *name, const char *value);
/* The error that the error document in `a` and its status stand for. */
enum err s3_error(const struct s3_store *s, const struct s3_request *r, const struct s3_answer *a,
                  struct errinfo *info);
/* Code and Message of an error document into a. */
void s3_error_parse(struct slice doc, struct s3_answer *a);

#endif
