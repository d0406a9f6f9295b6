/* What the kinds of stores implement. Private to src/lake/store*.c. */
#ifndef WEIR_LAKE_STORE_INT_H
#define WEIR_LAKE_STORE_INT_H

#include <stdatomic.h>

#include "lake/store.h"

struct store_ops {
    void (*close)(struct store *s);
    enum err (*put)(struct store *s, const char *key, const struct store_source *src,
                    const struct store_put *how, struct store_stat *out, struct errinfo *info);
    /* to a buffer, or (out NULL) to the open file fd */
    enum err (*get)(struct store *s, const char *key, uint64_t off, uint64_t len, struct buf *out,
                    int fd, struct store_stat *st, struct errinfo *info);
    enum err (*head)(struct store *s, const char *key, struct store_stat *out,
                     struct errinfo *info);
    enum err (*list)(struct store *s, const char *prefix, const char *after,
                     bool (*fn)(void *arg, const struct store_entry *e), void *arg,
                     struct errinfo *info);
    enum err (*remove)(struct store *s, const char *const *keys, size_t n, struct errinfo *info);
    enum err (*sweep)(struct store *s, int64_t older_than_ms, uint64_t *n, struct errinfo *info);
    void (*access)(const struct store *s, struct store_access *out);
};

struct store {
    const struct store_ops *ops;
    char *url;
    _Atomic uint64_t requests, retries, failures, bytes_sent, bytes_received;
};

enum err store_dir_open(const struct store_conf *conf, struct store **out, struct errinfo *info);
enum err store_s3_open(const struct store_conf *conf, struct store **out, struct errinfo *info);

/* ---- credentials: store_creds.c ---- */

struct store_creds {
    char *access_key, *secret_key, *session_token; /* token NULL: none */
};
/* From conf, the environment, or the shared credentials file, whichever has them first.
 * ERR_UNAUTHENTICATED: none has. */
enum err store_creds_find(const struct store_conf *conf, struct store_creds *out,
                          struct errinfo *info);
void store_creds_fini(struct store_creds *c);

/* ---- XML: store_xml.c ---- */

/* Calls fn at the end of each element: its path from the root ("Error/Code") and its own text.
 * ERR_CORRUPT_INPUT: not well-formed, or deeper or longer than any answer of S3. */
enum err store_xml_each(struct slice doc,
                        void (*fn)(void *arg, const char *path, struct slice text), void *arg);
/* Appends text as XML character data. */
enum err store_xml_escape(struct buf *out, struct slice text);

#endif
