/* Remote signing: a catalog that gives no keys to a table's storage signs each request to it instead
 * (Iceberg's S3 signer API). The method, URL and headers go to the signer, and come back with what
 * S3 wants to see: Authorization, the date, the name of the payload's hash.
 *
 * Answers that the signer allows to be kept (Cache-Control: private) are used again for the same
 * method, URL and headers: at most SIGNER_KEPT of them, each for SIGNER_KEPT_MS, and none that S3
 * refused (signer_forget).
 *
 * Threads: any; a call to the signer is one at a time, as its connection is. */
#ifndef WEIR_LAKE_SIGNER_H
#define WEIR_LAKE_SIGNER_H

#include <jansson.h>

#include "lake/catalog.h"

#define SIGNER_KEPT        64u
#define SIGNER_KEPT_MS     30000
#define SIGNER_HEADERS_MAX 24u
#define SIGNER_VALUE_MAX   4000u /* of a header */
#define SIGNER_URL_MAX     8000u

struct signer;

struct signer_header {
    const char *name, *value;
};
struct signer_request {
    const char *method, *url, *region;
    const struct signer_header *header; /* lower-case names; without host */
    unsigned header_n;
};
struct signer_answer {
    const char *url;                                 /* where the request goes, as these */
    struct signer_header header[SIGNER_HEADERS_MAX]; /* what it has; without host */
    unsigned header_n;
    bool kept;   /* it was given to an earlier request */
    json_t *doc; /* which the texts are of */
};

/* Whether a catalog that says this of a table's storage wants to sign. */
bool signer_wanted(const json_t *said);
/* connection: to the catalog, for signing alone; it must outlive the signer. */
enum err signer_new(struct catalog *connection, const json_t *said, struct signer **out,
                    struct errinfo *info);
void signer_free(struct signer **s); /* *s may be NULL */
/* ERR_FORBIDDEN: the signer does not sign that, or its answer cannot be used. Never what would mean
 * something of the object: ERR_NOT_FOUND, ERR_EXISTS, ERR_CONFLICT, ERR_UNCERTAIN. */
enum err signer_sign(struct signer *s, const struct signer_request *r, struct signer_answer *out,
                     struct errinfo *info);
void signer_answer_fini(struct signer_answer *a);
/* S3 refused what was signed. */
void signer_forget(struct signer *s, const struct signer_request *r);

#endif
