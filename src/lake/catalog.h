/* Catalogs: which tables there are, and which metadata is the current one of each. A commit names
 * what must still be so (requirements) and what changes (updates), both in the JSON of Iceberg's REST
 * catalog protocol; it happens wholly or not at all, and of two that cannot both hold one fails.
 *
 *   catalog_dir.c    in an object store: NAMESPACE/TABLE/metadata/vN.metadata.json, made only if it
 *                    does not exist, which is what decides; version-hint.text says where to look
 *   catalog_rest.c   a server of the REST protocol
 *
 * Names: a namespace's levels are joined by '.', names are at most 255 bytes of letters, digits and
 * "._-" (topics have such names).
 *
 * Errors: ERR_NOT_FOUND, ERR_EXISTS, ERR_CONFLICT (a requirement does not hold: load, look, try
 * again), ERR_INVALID and ERR_UNSUPPORTED (an update), ERR_UNCERTAIN (the commit may or may not have
 * happened, and asking failed, too), ERR_UNAUTHENTICATED, ERR_FORBIDDEN, those of stores.
 *
 * Threads: calls block; any threads at the same time, but event loops. */
#ifndef WEIR_LAKE_CATALOG_H
#define WEIR_LAKE_CATALOG_H

#include <jansson.h>

#include "base/err.h"
#include "io/io.h"
#include "lake/metadata.h"
#include "lake/store.h"

#define CATALOG_NAME_MAX 255

struct catalog;
struct table_name {
    const char *space, *name;
};

/* Tables in a store, which stays the caller's and must outlive the catalog. */
enum err catalog_dir_open(struct store *s, struct io *io, struct catalog **out,
                          struct errinfo *info);

/* A server of the REST protocol. Texts are copied; NULL: not given. */
struct catalog_rest_conf {
    const char *uri;                                            /* https://host/path, without /v1 */
    const char *warehouse;                                      /* asked for by GET config */
    const char *prefix;                                         /* if config does not say */
    const char *token;                                          /* a bearer token, or: */
    const char *client_id, *client_secret, *oauth2_uri, *scope; /* OAuth 2 client credentials */
    const char *token_file;      /* has the token; read again when it is refused */
    const char *credential_file; /* has ID:SECRET, the client's; read for each token */
    const char *delegation;      /* how to reach the tables' storage: "vended-credentials",
                                    "remote-signing" or both; NULL: by keys of our own */
    const char *ca_file;
    uint32_t timeout_ms; /* of a request; 0: 30 s */
    const _Atomic bool *stop;
};
enum err catalog_rest_open(const struct catalog_rest_conf *conf, struct io *io,
                           struct catalog **out, struct errinfo *info);
/* Asks a service that such a catalog named, with the catalog's token; what is asked may be sent more
 * than once. *keep: whether the answer may be kept for oneself (Cache-Control: private). */
enum err catalog_rest_post(struct catalog *c, const char *url, const json_t *body, json_t **out,
                           bool *keep, struct errinfo *info);
/* No call may be under way. */
void catalog_close(struct catalog **c);

enum err catalog_load(struct catalog *c, const struct table_name *t, struct metadata **out,
                      struct errinfo *info);
/* request as metadata_create's, "location" being optional. *out may be NULL. */
enum err catalog_create(struct catalog *c, const struct table_name *t, const json_t *request,
                        struct metadata **out, struct errinfo *info);
/* *out (may be NULL) is the table after the commit. */
enum err catalog_commit(struct catalog *c, const struct table_name *t, const json_t *requirements,
                        const json_t *updates, struct metadata **out, struct errinfo *info);
/* purge: its files, too. */
enum err catalog_drop(struct catalog *c, const struct table_name *t, bool purge,
                      struct errinfo *info);
/* Takes in a table whose metadata file is there already. */
enum err catalog_register(struct catalog *c, const struct table_name *t,
                          const char *metadata_location, struct metadata **out,
                          struct errinfo *info);
/* Each name once, in the catalog's own order; fn returns false to stop. */
enum err catalog_tables(struct catalog *c, const char *space,
                        bool (*fn)(void *arg, const char *name), void *arg, struct errinfo *info);
enum err catalog_spaces(struct catalog *c, bool (*fn)(void *arg, const char *space), void *arg,
                        struct errinfo *info);
/* *properties: a new object. */
enum err catalog_space_load(struct catalog *c, const char *space, json_t **properties,
                            struct errinfo *info);
enum err catalog_space_create(struct catalog *c, const char *space, const json_t *properties,
                              struct errinfo *info);
/* ERR_CONFLICT while it has tables. */
enum err catalog_space_drop(struct catalog *c, const char *space, struct errinfo *info);

/* Whether text may name a namespace (one level) or table. */
bool catalog_name_ok(const char *text);

#endif
