/* Object stores: where the lake keeps its files. One interface over a local folder (store_dir.c) and
 * S3-compatible storage (store_s3.c).
 *
 * A store is opened by URL, file:///DIR or s3://BUCKET/PREFIX. A key is the rest of an object's
 * name below that URL: segments separated by '/', no empty one, no "." or "..", no leading or
 * trailing '/', at most STORE_KEY_MAX bytes. Iceberg's metadata holds whole names ("locations"):
 * store_location and store_key convert.
 *
 * Atomicity: an object is there with all its bytes or not at all, and once a put has answered
 * ERR_OK it is on stable storage. A conditional put is decided by the store (a link that must not
 * exist; If-None-Match), so of any number of writers in any number of processes one wins.
 *
 * Errors: ERR_NOT_FOUND, ERR_EXISTS and ERR_CONFLICT (conditions), ERR_FORBIDDEN and
 * ERR_UNAUTHENTICATED (credentials), ERR_NO_SPACE, ERR_TIMEOUT and ERR_NETWORK (after retrying until
 * the deadline), ERR_UNCERTAIN: a change was sent and its outcome is not known, not even after
 * asking: the caller must look before it decides. ERR_CANCELLED: *conf.stop became true. info has
 * the store's own words, its status and what to do.
 *
 * Threads: every call blocks, for at most the deadline; calls are independent and may be made at the
 * same time by any threads but event loops. */
#ifndef WEIR_LAKE_STORE_H
#define WEIR_LAKE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

struct signer;
struct store;

#define STORE_KEY_MAX      900u /* bytes, with the URL's prefix 1,024 as S3 has it */
#define STORE_LOCATION_MAX 1400u
#define STORE_ETAG_MAX     127u

enum store_switch { STORE_AUTO = 0, STORE_OFF, STORE_ON };

/* Texts are copied. NULL or 0: the default, and where it says so the environment. */
struct store_conf {
    const char *url;
    /* s3 only. https://HOST[:PORT] or http://…; else AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, else
     * AWS of the region. */
    const char *endpoint;
    const char *region;                     /* else AWS_REGION, AWS_DEFAULT_REGION, us-east-1 */
    const char *access_key, *secret_key;    /* else AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, */
    const char *session_token;              /* AWS_SESSION_TOKEN; else the file: */
    const char *credentials_file, *profile; /* else AWS_SHARED_CREDENTIALS_FILE,
                                                ~/.aws/credentials; AWS_PROFILE, default */
    struct signer *signer;                  /* signs instead of keys; the store's from then on,
                                               whether it opens or not. NULL: none */
    bool anonymous;                         /* requests are not signed */
    enum store_switch path_style;           /* auto: ENDPOINT/BUCKET/KEY if an endpoint is given */
    enum store_switch checksums;            /* auto, on: x-amz-checksum-crc32c with each put */
    enum store_switch sign_payload;         /* auto: SHA-256 of it without TLS, not with TLS */
    const char *ca_file;                    /* PEM with authorities; else the system's */
    const char *storage_class;              /* of new objects; else the bucket's */
    uint32_t connect_timeout_ms;            /* 5 s */
    uint32_t stall_timeout_ms;              /* 15 s without a byte: the attempt has failed */
    uint32_t deadline_ms;                   /* 60 s for a call with all its attempts, and what
                                                2 MiB/s would take for its bytes */
    uint32_t part_bytes;                    /* of a multipart upload: 8 MiB, 5 MiB at least */
    const _Atomic bool *stop;               /* may be NULL; watched while waiting */
};

enum err store_open(const struct store_conf *conf, struct store **out, struct errinfo *info);
/* No call may be under way. *s may be NULL. */
void store_close(struct store **s);
/* The URL without a trailing '/'. Lives as long as the store. */
const char *store_url(const struct store *s);
/* "URL/key" into out. ERR_INVALID: not a key. */
enum err store_location(const struct store *s, const char *key, char out[STORE_LOCATION_MAX + 1],
                        struct errinfo *info);
/* The key in a location, pointing into it; NULL if it is not of this store. file:/DIR and s3a:// are
 * understood, too, as other writers of Iceberg spell them so. */
const char *store_key(const struct store *s, const char *location);
/* What others need to read the same objects (a query engine): secrets, never to be logged. Borrowed.
 */
struct store_access {
    const char *url, *endpoint, *region, *access_key, *secret_key, *session_token;
    bool s3, tls, path_style;
};
void store_access_get(const struct store *s, struct store_access *out);

struct store_stat {
    uint64_t size;
    int64_t modified_ms; /* 0: not told */
    char etag[STORE_ETAG_MAX + 1];
};

/* Bytes of an object to come: in memory, or len bytes of a file from off on. */
struct store_source {
    struct slice bytes;
    const char *path; /* not NULL: the file */
    uint64_t off, len;
    bool
        given; /* the file is whole, and the store's: it may be gone afterwards, whatever the outcome */
};
enum store_condition {
    STORE_ALWAYS = 0,
    STORE_IF_NONE,  /* only if there is no such object: ERR_EXISTS */
    STORE_IF_MATCH, /* only if its etag is the one given: ERR_CONFLICT, ERR_NOT_FOUND */
};
struct store_put {
    enum store_condition condition;
    const char *etag;          /* for STORE_IF_MATCH */
    const char *content_type;  /* NULL: application/octet-stream */
    const char *storage_class; /* NULL: the conf's */
};
/* Large sources are sent in parts; if that fails the parts are removed. how may be NULL (always).
 * *out (may be NULL) has the etag. An outcome that got lost is looked for, so that a retried
 * STORE_IF_NONE does not take its own object for another's; ERR_UNCERTAIN if that fails too. */
enum err store_put(struct store *s, const char *key, const struct store_source *src,
                   const struct store_put *how, struct store_stat *out, struct errinfo *info);

#define STORE_ALL UINT64_MAX
/* Appends len bytes from off on, fewer at the object's end, to out. Its maximum: ERR_TOO_LARGE. An
 * object that changed between two attempts is read anew. */
enum err store_get(struct store *s, const char *key, uint64_t off, uint64_t len, struct buf *out,
                   struct store_stat *st, struct errinfo *info);
/* The whole object into a file, which is made or overwritten; it is not synced. After an error the
 * file is gone. */
enum err store_get_file(struct store *s, const char *key, const char *path, struct store_stat *st,
                        struct errinfo *info);
enum err store_head(struct store *s, const char *key, struct store_stat *out, struct errinfo *info);

struct store_entry {
    const char *key; /* valid during the call */
    uint64_t size;
    int64_t modified_ms;
};
/* Every object whose key begins with prefix ("" all), from the first behind `after` (NULL: from the
 * start), in the store's order of keys: by bytes, but SeaweedFS goes folder by folder. fn returns
 * false to stop. Pages of 1,000 are asked for as they are needed. */
enum err store_list(struct store *s, const char *prefix, const char *after,
                    bool (*fn)(void *arg, const struct store_entry *e), void *arg,
                    struct errinfo *info);

/* Those that are not there are no error. After another error some may be left; info names one. */
enum err store_delete(struct store *s, const char *const *keys, size_t n, struct errinfo *info);

/* Abandoned uploads in parts that were begun before older_than_ms (of 1970) are ended, and folders'
 * temporary files removed; *n is how many. */
enum err store_sweep(struct store *s, int64_t older_than_ms, uint64_t *n, struct errinfo *info);

struct store_stats {
    uint64_t requests, retries, failures, bytes_sent, bytes_received;
};
void store_stats_get(const struct store *s, struct store_stats *out);

#endif
