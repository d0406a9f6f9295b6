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
 *       limits: {max_connections: 10, max_subscriptions: 100, max_payload: 1024}
 *       mappings:
 *         orders.old.*: orders.new.$1
 *         ask: [{destination: ask.v1, weight: 80%}, {destination: ask.v2, weight: 20%}]
 *
 * Limits are of each user, but for connections, which are counted for the account. Mappings are as of
 * js_transform.h; the first whose pattern takes a subject counts; what weights leave of 100 % stays as it is.
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

struct buf;
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

/* What is published to `from` goes to one of these instead, drawn by chance. */
struct nmapping {
    struct slice from;
    struct nmapped {
        struct slice to;
        uint32_t
            upto; /* of 100: this one, if what is drawn is below it, and not below the one before */
    } * v;
    uint32_t n;
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
    uint32_t subs_max, payload_max;  /* 0: no limit of its own */
    uint32_t conns_max;              /* of its account; 0: no limit */
    const struct nmapping *mappings; /* its account's */
    uint32_t mappings_n;
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

/* What the user publishes to this subject goes where out, cleared first, says; false: it stays. drawn: any
 * number. */
bool nuser_map(const struct nuser *u, struct slice subject, uint64_t drawn, struct buf *out);

/* pattern: a subject without wildcards, or what somebody subscribes to: then all that it takes must
 * be allowed, while what is denied of it may be left out (nrule_denies). */
bool nrule_permits(const struct nrule *r, struct slice pattern);
/* Whether some subject that the pattern takes is denied. */
bool nrule_denies(const struct nrule *r, struct slice pattern);

#endif
