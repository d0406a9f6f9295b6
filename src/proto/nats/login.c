/* Who may connect, and what they may do.
 *
 * Credentials are Weir's tokens: as auth_token, or as the password of any user. While there is no
 * token and the server is open to its own machine, everybody may do everything. A token may publish
 * what begins with a prefix that it may write, and subscribe to patterns whose beginning, up to the
 * first wildcard, begins with a prefix that it may read; inboxes (_INBOX.…) are everybody's, as
 * requests could not be answered otherwise. A token that is revoked permits nothing from its next
 * line on; its connection ends with the next ping. */
#include "io/io.h"
#include "proto/nats/nats_int.h"
#include "proto/nats/subject.h"

bool nats_login_needed(struct nloop *l)
{
    const struct principal *who;

    return auth_who(&l->auth, SLICE_NULL, &who, NULL) != ERR_OK;
}

void nats_nonce(struct nconn *c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t r[sizeof c->nonce];
    unsigned i;

    io_random(c->l->n->conf.io, r, sizeof r);
    for (i = 0; i < sizeof c->nonce - 1; i++)
        c->nonce[i] = digits[r[i] % 64];
}

static struct slice text(json_t *o, const char *name)
{
    json_t *v = json_object_get(o, name);

    return json_is_string(v) ? slice_of(json_string_value(v), json_string_length(v)) : SLICE_NULL;
}

enum err nats_login(struct nconn *c, json_t *connect)
{
    struct slice token = text(connect, "auth_token");
    const struct principal *who;
    enum err e;

    if (!token.len)
        token = text(connect, "pass");
    e = auth_who(&c->l->auth, token.len ? token : SLICE_NULL, &who, NULL);
    if (e)
        return e;
    c->has_token = who->id[0] != '\0';
    if (c->has_token)
        memcpy(c->token, token.ptr, AUTH_TOKEN_LEN);
    return ERR_OK;
}

bool nats_login_valid(const struct nconn *c)
{
    const struct principal *who;

    return !c->has_token ||
           auth_who(&c->l->auth, slice_of(c->token, AUTH_TOKEN_LEN), &who, NULL) == ERR_OK;
}

/* The view remembers the token that came last, so this is a comparison. */
static bool may(const struct nconn *c, unsigned access, struct slice subject)
{
    const struct principal *who;

    if (!c->has_token || slice_has_prefix(subject, SLICE_LIT("_INBOX.")))
        return true;
    return auth_who(&c->l->auth, slice_of(c->token, AUTH_TOKEN_LEN), &who, NULL) == ERR_OK &&
           auth_permits(who, access, subject);
}

bool nats_may_publish(const struct nconn *c, struct slice subject)
{
    return may(c, AUTH_WRITE, subject);
}

/* Up to the first wildcard. */
static struct slice plain_part(struct slice pattern)
{
    struct slice rest = pattern, token;

    while (subject_token(&rest, &token))
        if (token_is(token, '*') || token_is(token, '>'))
            return slice_of(pattern.ptr, (size_t)(token.ptr - pattern.ptr));
    return pattern;
}

bool nats_may_subscribe(const struct nconn *c, struct slice pattern)
{
    return may(c, AUTH_READ, plain_part(pattern));
}
