/* Who may connect, and what they may do.
 *
 * There are three kinds of credentials:
 *   - users of the file nats.users (users.h), with accounts and permissions of their own: name and
 *     password, token, or a key that signs the nonce of INFO;
 *   - tokens that the accounts of an operator sign (jwt.h), where that file names one;
 *   - Weir's tokens, as auth_token or as the password of any user: these are of the account $G,
 *     publish what begins with a prefix that they may write, and subscribe to patterns whose
 *     beginning, up to the first wildcard, begins with a prefix that they may read. Inboxes
 *     (_INBOX.…) are theirs, as requests could not be answered otherwise.
 * Who gives none is the file's no_auth_user, or, without a file, may do everything while there is no
 * token and the server is open to its own machine.
 *
 * A token that was revoked permits nothing from the next line on, and its connection ends with the
 * next ping. After the file was read again its users go on with what they were allowed until the
 * next ping; then those who are not in it any more, or have another secret, are closed, and the
 * others have what it says. */
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/subject.h"
#include "io/io.h"
#include "proto/nats/jwt.h"
#include "proto/nats/nats_int.h"

struct nusers *nats_users(struct nats *n)
{
    struct nusers *u;

    io_rwlock_read(&n->users_lock);
    u = nusers_ref(n->users);
    io_rwlock_unlock(&n->users_lock);
    return u;
}

bool nats_login_needed(struct nloop *l)
{
    const struct principal *who;
    struct nusers *u = nats_users(l->n);
    bool needed = u ? nusers_operator(u) || !nusers_guest(u)
                    : auth_who(&l->auth, SLICE_NULL, &who, NULL) != ERR_OK;

    nusers_unref(&u);
    return needed;
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

static const struct nuser *user_of(struct nconn *c, const struct nusers *u, json_t *connect)
{
    struct slice nkey = text(connect, "nkey"), user = text(connect, "user"),
                 token = text(connect, "auth_token");

    if (nkey.len)
        return nusers_by_nkey(u, nkey, slice_str(c->nonce), text(connect, "sig"));
    if (user.len)
        return nusers_by_password(u, user, text(connect, "pass"));
    return token.len ? nusers_by_token(u, token) : nusers_guest(u);
}

static enum err token_login(struct nconn *c, bool users, json_t *connect)
{
    struct slice token = text(connect, "auth_token");
    const struct principal *who;
    enum err e;

    if (!token.len)
        token = text(connect, "pass");
    if (users && !token.len)
        return ERR_UNAUTHENTICATED; /* not open to everybody */
    e = auth_who(&c->l->auth, token.len ? token : SLICE_NULL, &who, NULL);
    if (e)
        return e;
    c->has_token = token.len == AUTH_TOKEN_LEN && who->id[0] != '\0';
    if (users && !c->has_token)
        return ERR_UNAUTHENTICATED;
    if (c->has_token)
        memcpy(c->token, token.ptr, AUTH_TOKEN_LEN);
    return ERR_OK;
}

/* Who shows a token of an operator's accounts. */
static enum err jwt_login(struct nconn *c, const struct noperator *op, json_t *connect)
{
    struct njwt_ask ask = {.jwt = text(connect, "jwt"),
                           .sig = text(connect, "sig"),
                           .nonce = slice_str(c->nonce),
                           .ip = c->c->has_ip ? c->c->remote_ip : NULL,
                           .websocket = c->ws != NULL,
                           .now_ms = io_wall_ms(c->l->n->conf.io)};
    enum err e = njwt_login(op, &ask, &c->login);
    struct naccount *a;

    if (e)
        return e;
    c->user = nlogin_user(c->login);
    c->account = a = c->user->account;
    if (nlogin_conns_max(c->login) >= 0 &&
        (int64_t)atomic_load(&a->conns) >= nlogin_conns_max(c->login))
        return ERR_LIMIT;
    return ERR_OK;
}

static enum err login(struct nconn *c, json_t *connect)
{
    struct nusers *u = nats_users(c->l->n);
    const struct nuser *user = NULL;
    bool users = u != NULL;
    enum err e;

    if (u && nusers_operator(u) && text(connect, "jwt").len) {
        e = jwt_login(c, nusers_operator(u), connect);
        c->users = u;
        return e;
    }
    if (u && !nusers_operator(u))
        user = user_of(c, u, connect);
    if (user) {
        c->users = u;
        c->user = user;
        c->account = user->account;
        return user->conns_max && atomic_load(&c->account->conns) >= user->conns_max ? ERR_LIMIT
                                                                                     : ERR_OK;
    }
    nusers_unref(&u);
    return token_login(c, users, connect);
}

enum err nats_login(struct nconn *c, json_t *connect)
{
    enum err e;

    nats_logout(c);
    c->account = c->l->n->accounts;
    e = login(c, connect);
    if (!e) {
        c->counted = true;
        atomic_fetch_add(&c->account->conns, 1);
    }
    return e;
}

void nats_logout(struct nconn *c)
{
    if (c->counted)
        atomic_fetch_sub(&c->account->conns, 1);
    c->counted = false;
    c->user = NULL;
    nlogin_free(&c->login);
    nusers_unref(&c->users);
    c->has_token = false;
    free(c->replies);
    c->replies = NULL;
}

struct slice nats_login_name(const struct nconn *c)
{
    if (c->user && c->user->name.len)
        return c->user->name;
    if (c->user && c->user->nkey_text.len)
        return c->user->nkey_text;
    return c->user || c->has_token ? SLICE_LIT("[REDACTED]") : SLICE_NULL;
}

uint64_t nats_login_left_ms(const struct nconn *c)
{
    int64_t left;

    if (!c->user || !c->user->ends_ms)
        return 0;
    left = c->user->ends_ms - io_wall_ms(c->l->n->conf.io);
    return left > 0 ? (uint64_t)left : 1;
}

bool nats_login_valid(struct nconn *c)
{
    const struct principal *who;
    const struct nuser *user;
    struct nusers *u;

    if (c->has_token)
        return auth_who(&c->l->auth, slice_of(c->token, AUTH_TOKEN_LEN), &who, NULL) == ERR_OK;
    if (!c->user)
        return true;
    u = nats_users(c->l->n);
    if (c->login) {
        bool valid = u && nlogin_valid(c->login, nusers_operator(u), io_wall_ms(c->l->n->conf.io));

        nusers_unref(&c->users);
        c->users = u;
        return valid;
    }
    user = u == c->users ? c->user : u ? nusers_same(u, c->user) : NULL;
    if (!user || user->account != c->account) {
        nusers_unref(&u);
        return false;
    }
    nusers_unref(&c->users);
    c->users = u;
    c->user = user;
    return true;
}

/* ---- tokens ---- */

/* The view remembers the token that came last, so this is a comparison. */
static bool token_may(const struct nconn *c, unsigned access, struct slice subject)
{
    const struct principal *who;

    if (!c->has_token || slice_has_prefix(subject, SLICE_LIT("_INBOX.")))
        return true;
    return auth_who(&c->l->auth, slice_of(c->token, AUTH_TOKEN_LEN), &who, NULL) == ERR_OK &&
           auth_permits(who, access, subject);
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

/* ---- answers (allow_responses) ---- */

/* Reply subjects that the client was sent and may answer to, by their hash; the oldest goes. */
struct nreplies {
    struct {
        uint64_t hash, until_ms;
        uint32_t left;
    } v[NATS_REPLIES];
    uint32_t next;
};

static uint64_t reply_hash(const struct nconn *c, struct slice reply)
{
    return siphash64(c->l->n->seed, reply.ptr, reply.len) | 1;
}

void nats_note_reply(struct nconn *c, struct slice reply)
{
    struct nreplies *r = c->replies;

    if (!r)
        r = c->replies = xcalloc(1, sizeof *r);
    r->v[r->next].hash = reply_hash(c, reply);
    r->v[r->next].until_ms = loop_now_ms(c->l->loop) + c->user->response_ms;
    r->v[r->next].left = c->user->responses;
    r->next = (r->next + 1) % NATS_REPLIES;
}

static bool may_reply(struct nconn *c, struct slice subject)
{
    struct nreplies *r = c->replies;
    uint64_t hash, now = loop_now_ms(c->l->loop);
    uint32_t i;

    if (!r)
        return false;
    hash = reply_hash(c, subject);
    for (i = 0; i < NATS_REPLIES; i++)
        if (r->v[i].hash == hash && r->v[i].until_ms >= now && r->v[i].left) {
            r->v[i].left--;
            return true;
        }
    return false;
}

/* ---- permissions ---- */

bool nats_may_publish(struct nconn *c, struct slice subject)
{
    if (!c->user || !c->user->limited)
        return token_may(c, AUTH_WRITE, subject);
    return nrule_permits(&c->user->publish, subject) || may_reply(c, subject);
}

bool nats_may_subscribe(const struct nconn *c, struct slice pattern)
{
    if (!c->user || !c->user->limited)
        return token_may(c, AUTH_READ, plain_part(pattern));
    return nrule_permits(&c->user->subscribe, pattern);
}

bool nats_sub_filtered(const struct nconn *c, struct slice pattern)
{
    return c->user && c->user->limited && nrule_denies(&c->user->subscribe, pattern);
}

bool nats_may_receive(const struct nconn *c, struct slice subject)
{
    return nrule_permits(&c->user->subscribe, subject);
}
