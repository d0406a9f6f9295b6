/* Users of NATS whom accounts sign, and accounts that an operator signs: JSON web tokens of nats-io/jwt
 * (version 2). The server knows the operator's token and those of the accounts, from the file of users;
 * a client shows its user's, and signs INFO's nonce with the user's key.
 *
 *   operator: /etc/weir/operator.jwt        # a file, or the token itself
 *   resolver_preload:
 *     AB3…: eyJ…                            # account's key: its token
 *
 * What is checked: signatures up to the operator, keys for signing and their scopes (templates), expiry,
 * revocations, kinds of connections, source networks, times of day (in UTC or the machine's zone); what
 * is taken over: permissions, answers, limits of subscriptions, payload and connections. A claim that
 * cannot be kept to refuses the user.
 *
 * Threads: a table is read by all and never changes; a login is its connection's. */
#ifndef WEIR_PROTO_NATS_JWT_H
#define WEIR_PROTO_NATS_JWT_H

#include <jansson.h>

#include "proto/nats/users.h"

struct nlogin;
struct noperator;

/* text: the operator's token. ERR_CONFIG. */
enum err noperator_new(struct slice text, struct noperator **out, struct errinfo *info);
void noperator_free(struct noperator **op); /* may be NULL */
/* key: of the account that the token must be of. */
enum err noperator_add(struct noperator *op, struct slice key, struct slice token,
                       struct naccount *(*account)(void *arg, const char *name), void *arg,
                       struct errinfo *info);
/* The key that the operator's token names as the system account's; nothing: none. */
struct slice noperator_system(const struct noperator *op);
/* The token within a text as nsc writes files, with lines around it. */
struct slice njwt_within(struct slice text);

/* What a client shows, and from where. */
struct njwt_ask {
    struct slice jwt, sig, nonce;
    const uint8_t *ip; /* 16 bytes; NULL: none, as on a local socket */
    bool websocket;
    int64_t now_ms; /* since 1970 */
};

/* The user of a login lives as long as it. ERR_UNAUTHENTICATED. */
enum err njwt_login(const struct noperator *op, const struct njwt_ask *ask, struct nlogin **out);
void nlogin_free(struct nlogin **l); /* may be NULL */
const struct nuser *nlogin_user(const struct nlogin *l);
/* Connections that its account may have; -1: no limit. */
int64_t nlogin_conns_max(const struct nlogin *l);
/* Whether the login would be let in by this table, too. */
bool nlogin_valid(const struct nlogin *l, const struct noperator *op, int64_t now_ms);

#endif
