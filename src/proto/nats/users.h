/* Users of NATS, their accounts and what they may do, from a file that the operator keeps (YAML):
 *
 *   no_auth_user: guest              # who comes without credentials is this one
 *   accounts:
 *     SALES:
 *       users:
 *         - user: ann
 *           password: secret
 *           permissions:
 *             publish:   {allow: [orders.>], deny: [orders.void]}
 *             subscribe: {allow: [orders.>, _INBOX.>]}
 *             allow_responses: {max: 1, expires: 2m}
 *         - nkey: UD…                # the public key; the client signs with its seed
 *         - token: secret
 *
 *
 * Accounts may have exports and imports: see exports.h.
 * Instead of accounts it may name an operator whose accounts sign their users: see jwt.h.
 * `system_account: SYS` names the account whose users see the server's events.
 *
 * The words are those of nats-server's configuration. Accounts are apart from each other: nobody
 * sees another one's subjects but those that it exports. What is not an allowed word is an error that names the line.
 *
 * A table never changes; it is replaced as a whole, and who uses it holds a reference. Any thread. */
#ifndef WEIR_PROTO_NATS_USERS_H
#define WEIR_PROTO_NATS_USERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

struct io;
struct naccount;
struct nimport;
struct noperator;
struct nusers;

struct npatterns {
    struct slice *v;
    uint32_t n;
};
struct nrule {
    bool allow_all; /* nothing is said about what is allowed */
    struct npatterns allow, deny;
};

struct nuser {
    struct slice name, password, token; /* empty: none */
    bool has_nkey;
    uint8_t nkey[32];
    struct slice nkey_text;
    struct naccount *account;
    bool limited; /* it has permissions: */
    struct nrule publish, subscribe;
    uint32_t responses;   /* answers to a message that it got; 0: none beyond what it may publish */
    uint32_t response_ms; /* within so long */
    int64_t ends_ms;      /* of what it shows, since 1970; 0: never */
    uint32_t subs_max, payload_max; /* 0: no limit of its own */
};

/* account: makes, or finds, the account of a name; its memory outlives the table. ERR_CONFIG. */
enum err nusers_read(struct io *io, const char *path,
                     struct naccount *(*account)(void *arg, const char *name), void *arg,
                     struct nusers **out, struct errinfo *info);
struct nusers *nusers_ref(struct nusers *u);
void nusers_unref(struct nusers **u); /* may be NULL */

/* NULL: there is none. All compare in constant time. */
const struct nuser *nusers_by_password(const struct nusers *u, struct slice name,
                                       struct slice password);
const struct nuser *nusers_by_token(const struct nusers *u, struct slice token);
/* nkey: as text, "U…"; sig: base64url of the nonce's Ed25519 signature. */
const struct nuser *nusers_by_nkey(const struct nusers *u, struct slice nkey, struct slice nonce,
                                   struct slice sig);
/* What accounts import (exports.h), as the table has it; how many. */
uint32_t nusers_imports(const struct nusers *u, const struct nimport **out);
/* NULL: none, users are the file's. */
const struct noperator *nusers_operator(const struct nusers *u);
/* Whom system_account names; NULL: nobody. */
struct naccount *nusers_system(const struct nusers *u);
/* Whom no_auth_user names. */
const struct nuser *nusers_guest(const struct nusers *u);
/* The user of another table that is this one by name, token or key, with the same secret. */
const struct nuser *nusers_same(const struct nusers *u, const struct nuser *of);

/* pattern: a subject without wildcards, or what somebody subscribes to: then all that it takes must
 * be allowed, while what is denied of it may be left out (nrule_denies). */
bool nrule_permits(const struct nrule *r, struct slice pattern);
/* Whether some subject that the pattern takes is denied. */
bool nrule_denies(const struct nrule *r, struct slice pattern);

#endif
