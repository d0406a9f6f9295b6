/* Bearer tokens: who may do what to which topics.
 *
 * A token's text is "weir_" and 43 letters and digits (256 random bits), shown once. Stored is, in
 * the broker's key-value space "token": under "salt" 32 random bytes of this data directory, and
 * under "id:<id>" a JSON object with HMAC-SHA256(salt, text), the grants, a name and the time. As
 * the text has full entropy one HMAC is enough; there is nothing to brute-force.
 *
 * All tokens are held in an immutable table that is replaced when one changes. A loop keeps a
 * reference and looks at auth_generation to see that it is current: a revocation is in force for
 * the next request. Lookups compare in constant time.
 *
 * Threads: any, except that a struct auth_view belongs to one thread. */
#ifndef WEIR_AUTH_AUTH_H
#define WEIR_AUTH_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

struct auth;
struct auth_table;
struct broker;
struct buf;

#define AUTH_READ  1u
#define AUTH_WRITE 2u
#define AUTH_ADMIN 4u /* implies the others */

#define AUTH_TOKEN_PREFIX "weir_"
#define AUTH_TOKEN_LEN    48
#define AUTH_ID_LEN       12
#define AUTH_NAME_MAX     64
#define AUTH_GRANTS_MAX   16
#define AUTH_PREFIX_MAX   249

struct auth_grant {
    uint8_t access; /* AUTH_… */
    uint8_t prefix_len;
    char prefix[AUTH_PREFIX_MAX];
};

/* Who a request comes from. Borrowed from a view, valid until auth_view_refresh. */
struct principal {
    char id[AUTH_ID_LEN + 1]; /* empty: nobody in particular, everything permitted */
    uint8_t hash[32];
    char name[AUTH_NAME_MAX + 1];
    int64_t created_ms;
    unsigned grants_n;
    struct auth_grant grants[AUTH_GRANTS_MAX];
};

/* Loads the tokens. open_without_tokens: while there is no token everyone may do everything (a
 * server bound to loopback); otherwise without a token nobody may. */
enum err auth_open(struct broker *b, bool open_without_tokens, unsigned tokens_max,
                   struct auth **out, struct errinfo *info);
void auth_close(struct auth **a);

/* A thread's look at the tokens. */
struct auth_view {
    struct auth *auth;
    struct auth_table *table;
    uint64_t generation;
    const struct principal *last; /* of the token that came last */
    char last_text[AUTH_TOKEN_LEN];
};
void auth_view_init(struct auth_view *v, struct auth *a);
void auth_view_fini(struct auth_view *v);
/* Who sends these credentials: the text of a token, NULL ptr for none. ERR_UNAUTHENTICATED. */
enum err auth_who(struct auth_view *v, struct slice token, const struct principal **out,
                  struct errinfo *info);
/* The token in an Authorization header's value; NULL ptr if it has none. */
struct slice auth_bearer(struct slice authorization);

/* Whether p may do this to the topic. For a pattern: to everything that it can match. */
bool auth_permits(const struct principal *p, unsigned access, struct slice topic_or_pattern);
/* Whether p may do this to every topic, or to at least one. */
bool auth_permits_all(const struct principal *p, unsigned access);
bool auth_permits_any(const struct principal *p, unsigned access);

/* Makes a token from {"name"?, "grants":[{"access","prefix"?}]}; text gets what is shown once and p
 * the rest. Then auth_put stores it. The first token must be an admin of everything, or nobody
 * could make another: ERR_CONFLICT. */
enum err auth_make(struct auth *a, struct slice json, struct principal *p,
                   char text[AUTH_TOKEN_LEN + 1], struct errinfo *info);
/* Durable, then in force, then done (any thread). */
typedef void (*auth_done_fn)(void *arg, enum err e, const struct errinfo *info);
enum err auth_put(struct auth *a, const struct principal *p, auth_done_fn done, void *arg,
                  struct errinfo *info);
/* ERR_NOT_FOUND. */
enum err auth_revoke(struct auth *a, struct slice id, auth_done_fn done, void *arg,
                     struct errinfo *info);
/* Every token in turn. */
void auth_each(struct auth_view *v, void (*fn)(void *arg, const struct principal *p), void *arg);
const char *auth_access_name(unsigned access);

#endif
