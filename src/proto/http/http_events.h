/* Events over HTTP: what the server's wiring needs. docs/http.md says what it does for users.
 *
 * One `struct http_proto` serves all loops; each loop has its own context, so that nothing on the
 * way of a request is shared or locked. Everything here is called before the loops run or after
 * they have stopped, but the callbacks, which run on the loops. */
#ifndef WEIR_PROTO_HTTP_HTTP_EVENTS_H
#define WEIR_PROTO_HTTP_HTTP_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "net/http.h"

struct auth;
struct broker;
struct buf;
struct http_proto;
struct store_conf;
struct lake;
struct sql;
struct transforms;

struct http_limits {
#define HTTP_LIMIT(name, def, least, most, unit, why) uint32_t name;
#include "proto/http/tbl/limits.h"
#undef HTTP_LIMIT
};
void http_limits_default(struct http_limits *l);
/* Sets one by its name. ERR_CONFIG with a sentence that has name, value and range; ERR_NOT_FOUND.
 */
enum err http_limits_set(struct http_limits *l, struct slice name, uint64_t value,
                         struct errinfo *info);
/* Every limit in turn, for `weir config` and the documentation. */
void http_limits_each(const struct http_limits *l,
                      void (*fn)(void *arg, const char *name, uint32_t value, uint32_t def,
                                 uint32_t least, uint32_t most, const char *unit, const char *why),
                      void *arg);

struct http_proto_conf {
    struct broker *broker;
    struct loop *const *loops;
    unsigned loops_n;
    bool topics_auto_create;
    bool open_without_tokens;        /* bound to loopback only, or told to be open */
    const char *const *cors_origins; /* exact origins, or "*" alone; kept by the caller */
    unsigned cors_origins_n;
    struct http_limits limits;     /* see http_limits_default */
    struct sql *sql;               /* for POST /sql; NULL: there is none */
    struct lake *lake;             /* NULL: there is none */
    struct transforms *transforms; /* NULL: there are none */
    /* Where the tables lie that /iceberg serves; NULL: none are served. */
    const struct store_conf *iceberg;
    /* Appended to /metrics after the broker's and ours; may be NULL (the server's own metrics). */
    void (*metrics)(void *arg, struct buf *out);
    void *metrics_arg;
};

enum err http_proto_new(const struct http_proto_conf *conf, struct http_proto **out,
                        struct errinfo *info);
/* Fills in ctx and the callbacks of a server's configuration; loops must be conf->loops. */
void http_proto_serve(struct http_proto *p, struct http_server_conf *conf);
/* Requests of this path, a constant, are another protocol's, which answers them and asks who it is. */
void http_proto_path_set(struct http_proto *p, const char *path,
                         void (*fn)(void *arg, unsigned loop, struct http_req *req), void *arg);
/* The tokens, for other protocols; as long as the protocol lives. */
struct auth *http_proto_auth(struct http_proto *p);
/* The loops have stopped and the server is freed; what is on its way to the disk is waited for. */
void http_proto_free(struct http_proto **p);

#endif
