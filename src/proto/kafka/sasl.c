/* SASL: SaslHandshake, SaslAuthenticate, and the older way in which what follows the handshake is not
 * a request but the mechanism's own bytes behind a length.
 *
 *   (new) -> handshake -> NAMED -> steps of the mechanism -> trusted, no exchange
 *                           '-> refused: answered after a while, and the connection ends
 *
 * A connection whose session ends may go through this again before it does (KIP-368), as the same
 * user by the same mechanism. PBKDF2 for a PLAIN password takes some milliseconds of the loop; one
 * connection has one try, and waits before it is told that it failed. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "base/mem.h"
#include "io/io.h"
#include "proto/kafka/security.h"

#define REFUSE_AFTER_MS 100u /* connection.failed.authentication.delay.ms, as Kafka's default */

enum step { STEP_MORE, STEP_DONE, STEP_REFUSED };

struct ksasl {
    enum sasl_mech mech;
    bool raw; /* the mechanism's bytes come without a request around them */
    enum { NAMED, CHALLENGED, OAUTH_REFUSED } at;
    struct scram scram;
    char user[SCRAM_USER_MAX + 1];
    int64_t expires_ms; /* of the token; 0: it does not end */
    struct buf out;     /* what the mechanism answers */
    struct errinfo why;
    struct kreq *q; /* is refused when the timer fires; NULL if raw */
    struct loop_timer delay;
    struct kconn *kc;
};

_Static_assert(JWT_SUBJECT_MAX <= SCRAM_USER_MAX, "a token's subject is a user");

const char *sasl_mech_name(enum sasl_mech m)
{
    return m == SASL_PLAIN ? "PLAIN" : m == SASL_OAUTH ? "OAUTHBEARER" : scram_name((int)m);
}

enum sasl_mech sasl_mech_of(struct slice name)
{
    enum sasl_mech m;

    for (m = 1; m < SASL_MECHS; m++)
        if (slice_eq_str(name, sasl_mech_name(m)))
            return m;
    return 0;
}

bool ksasl_required(const struct kafka *k)
{
    return k->sec->mechs != 0;
}

void ksasl_free(struct kconn *kc)
{
    struct ksasl *x = kc->sasl;

    if (!x)
        return;
    loop_timer_cancel(kc->kl->loop, &x->delay);
    scram_fini(&x->scram);
    buf_fini(&x->out);
    free(x);
    kc->sasl = NULL;
}

/* ---- mechanisms: a step takes what the client says, and may append to x->out ---- */

static enum step refuse(struct ksasl *x, const char *why)
{
    errinfo_set(&x->why, ERR_UNAUTHENTICATED, "%s", why);
    return STEP_REFUSED;
}

static enum step bad_credentials(struct ksasl *x)
{
    errinfo_set(&x->why, ERR_UNAUTHENTICATED,
                "Authentication failed during authentication due to invalid credentials with SASL "
                "mechanism %s",
                sasl_mech_name(x->mech));
    return STEP_REFUSED;
}

static bool user_take(struct ksasl *x, struct slice name)
{
    if (name.len == 0 || name.len > SCRAM_USER_MAX || memchr(name.ptr, 0, name.len))
        return false;
    memcpy(x->user, name.ptr, name.len);
    x->user[name.len] = 0;
    return true;
}

static bool password_ok(struct ksasl *x, struct ksec *s, struct slice password)
{
    struct scram_cred c;

    if (kuser_cred(s, SCRAM_SHA_256, x->user, &c))
        return scram_password_ok(SCRAM_SHA_256, &c, password);
    if (kuser_cred(s, SCRAM_SHA_512, x->user, &c))
        return scram_password_ok(SCRAM_SHA_512, &c, password);
    /* Nobody: takes as long, and fails. */
    scram_cred_make(SCRAM_SHA_256, password, slice_of(s->secret, 16), SCRAM_ITERATIONS_MIN, &c);
    return false;
}

/* authzid NUL user NUL password (RFC 4616) */
static enum step step_plain(struct ksasl *x, struct ksec *s, struct slice in)
{
    const uint8_t *a = in.len ? memchr(in.ptr, 0, in.len) : NULL, *b = NULL;
    struct slice authz, user, password;

    if (a)
        b = memchr(a + 1, 0, in.len - (size_t)(a - in.ptr) - 1);
    if (!b)
        return refuse(x, "Invalid SASL/PLAIN response: expected 3 tokens");
    authz = slice_of(in.ptr, (size_t)(a - in.ptr));
    user = slice_of(a + 1, (size_t)(b - a - 1));
    password = slice_of(b + 1, in.len - authz.len - user.len - 2);
    if (!user_take(x, user) || password.len == 0 || password.len > 1024)
        return bad_credentials(x);
    if (authz.len && !slice_eq(authz, user))
        return refuse(x, "the client asks to act as another user");
    return password_ok(x, s, password) ? STEP_DONE : bad_credentials(x);
}

static enum step step_scram(struct ksasl *x, struct ksec *s, struct slice in)
{
    struct scram_cred c;
    uint8_t nonce[18];
    bool known;

    if (x->at == CHALLENGED)
        return scram_final(&x->scram, in, &x->out) ? bad_credentials(x) : STEP_DONE;
    if (scram_first(&x->scram, in))
        return refuse(x, "the client's first SCRAM message is not valid");
    memcpy(x->user, x->scram.user, sizeof x->user);
    known = kuser_cred(s, x->scram.mech, x->user, &c);
    io_random(broker_io(s->b), nonce, sizeof nonce);
    scram_challenge(&x->scram, known ? &c : NULL, s->secret, nonce, &x->out);
    OPENSSL_cleanse(&c, sizeof c);
    x->at = CHALLENGED;
    return STEP_MORE;
}

/* "n,a=…," 01 "auth=Bearer TOKEN" 01 {key=value 01} 01 (RFC 7628); NULL: it is not. */
static struct slice bearer_find(struct slice in, struct slice *authz)
{
    const uint8_t *p = in.ptr, *end = in.ptr + in.len, *next;
    struct slice token = SLICE_NULL;

    *authz = SLICE_NULL;
    if (!slice_has_prefix(in, SLICE_LIT("n,")) || !(next = memchr(p, 1, in.len)) || next - p < 3 ||
        next[-1] != ',')
        return SLICE_NULL;
    if (slice_has_prefix(slice_of(p + 2, (size_t)(next - p - 3)), SLICE_LIT("a=")))
        *authz = slice_of(p + 4, (size_t)(next - p - 5));
    else if (next - p != 3)
        return SLICE_NULL;
    for (p = next + 1; p < end && *p != 1; p = next + 1) {
        struct slice kv;

        if (!(next = memchr(p, 1, (size_t)(end - p))))
            return SLICE_NULL;
        kv = slice_of(p, (size_t)(next - p));
        if (slice_has_prefix(kv, SLICE_LIT("auth=Bearer ")))
            token = slice_of(kv.ptr + 12, kv.len - 12);
    }
    return p + 1 == end ? token : SLICE_NULL;
}

static enum step step_oauth(struct ksasl *x, struct ksec *s, struct slice in)
{
    struct jwt_want want = {s->conf->sasl_issuer, s->conf->sasl_audience};
    struct slice authz, token;
    struct jwt_claims claims;
    enum err e;

    if (x->at == OAUTH_REFUSED) /* the client has said that it knows */
        return STEP_REFUSED;
    token = bearer_find(in, &authz);
    if (slice_is_null(token))
        return refuse(x, "the client's OAUTHBEARER message is not valid");
    io_rwlock_read(&s->lock);
    e = jwt_check(s->jwks, token, &want, io_wall_ms(broker_io(s->b)), &claims, &x->why);
    io_rwlock_unlock(&s->lock);
    if (!e && authz.len && !slice_eq_str(authz, claims.subject))
        e = errinfo_set(&x->why, ERR_UNAUTHENTICATED, "the client asks to act as another user");
    if (e) { /* RFC 7628 section 3.2.3 */
        x->at = OAUTH_REFUSED;
        buf_append_str(&x->out, "{\"status\":\"invalid_token\"}");
        return STEP_MORE;
    }
    memcpy(x->user, claims.subject, strlen(claims.subject) + 1);
    x->expires_ms = claims.expires_ms;
    return STEP_DONE;
}

/* The session as it begins; how long it lasts in *lifetime_ms (0: no end). */
static enum step session_begin(struct ksasl *x, struct ksec *s, int64_t *lifetime_ms)
{
    struct kconn *kc = x->kc;
    int64_t left = x->expires_ms - io_wall_ms(broker_io(s->b));

    if (kc->trusted && strcmp(kc->user, x->user) != 0)
        return refuse(x, "Cannot change principals during re-authentication");
    *lifetime_ms = s->conf->reauth_ms;
    if (s->conf->reauth_ms && x->expires_ms && left < *lifetime_ms)
        *lifetime_ms = left > 1 ? left : 1;
    if (!kc->trusted) {
        free(kc->user);
        kc->user = xstrdup(x->user);
    }
    kc->mech = (uint8_t)x->mech;
    kc->session_end_ms = *lifetime_ms ? loop_now_ms(kc->kl->loop) + (uint64_t)*lifetime_ms : 0;
    kc->trusted = true;
    return STEP_DONE;
}

static enum step step_take(struct ksasl *x, struct slice in, int64_t *lifetime_ms)
{
    struct ksec *s = x->kc->k->sec;
    enum step st;

    buf_clear(&x->out);
    *lifetime_ms = 0;
    if (x->mech == SASL_PLAIN)
        st = step_plain(x, s, in);
    else if (x->mech == SASL_OAUTH)
        st = step_oauth(x, s, in);
    else
        st = step_scram(x, s, in);
    return st == STEP_DONE ? session_begin(x, s, lifetime_ms) : st;
}

/* ---- SaslHandshake ---- */

/* May this connection begin an exchange now? */
static bool may_begin(const struct kreq *q, enum sasl_mech m)
{
    if (!q->kc || !q->k->sec->mechs || q->kc->sasl)
        return false;
    return !q->kc->trusted || (q->kc->session_end_ms && (!m || m == q->kc->mech));
}

static void exchange_begin(struct kreq *q, enum sasl_mech m)
{
    struct ksasl *x = xcalloc(1, sizeof *x);

    x->kc = q->kc;
    x->mech = m;
    x->raw = q->version == 0;
    buf_init(&x->out, 1u << 20);
    scram_init(&x->scram, m == SASL_SCRAM_512 ? SCRAM_SHA_512 : SCRAM_SHA_256);
    loop_timer_init(&x->delay, NULL);
    q->kc->sasl = x;
}

void kafka_on_sasl_handshake(struct kreq *q)
{
    struct slice names[SASL_MECHS];
    struct kafka_sasl_handshake_response s;
    struct kafka_sasl_handshake_request m;
    enum sasl_mech mech, i;

    if (!KREQ_DECODE(q, sasl_handshake, &m))
        return;
    kafka_sasl_handshake_response_init(&s);
    s.mechanisms = names;
    for (i = 1; i < SASL_MECHS; i++)
        if (q->k->sec->mechs & 1u << i)
            names[s.mechanisms_n++] = slice_str(sasl_mech_name(i));
    mech = sasl_mech_of(m.mechanism);
    if (!may_begin(q, mech))
        s.error_code = KE_ILLEGAL_SASL_STATE;
    else if (!mech || !(q->k->sec->mechs & 1u << mech))
        s.error_code = KE_UNSUPPORTED_SASL_MECHANISM;
    else
        exchange_begin(q, mech);
    q->last = s.error_code && q->k->sec->mechs;
    KREQ_REPLY(q, sasl_handshake, &s);
}

/* ---- SaslAuthenticate ---- */

static void refused_cancel(struct kreq *q)
{
    kreq_done(q); /* the exchange, and its timer, went with the connection */
}

static void refused_answer(struct kreq *q, int16_t code, struct slice why)
{
    struct kafka_sasl_authenticate_response s;

    kafka_sasl_authenticate_response_init(&s);
    s.error_code = code;
    s.error_message = why;
    q->cancel = NULL;
    q->last = true;
    KREQ_REPLY(q, sasl_authenticate, &s);
}

static void refused_now(struct loop_timer *t)
{
    struct ksasl *x = list_entry(t, struct ksasl, delay);
    struct kconn *kc = x->kc;
    struct kreq *q = x->q;
    struct slice why;

    if (!q) {
        ksasl_free(kc);
        conn_close(kc->c, true, CONN_LOCAL);
        return;
    }
    why = arena_dup(&q->arena, slice_str(x->why.text));
    ksasl_free(kc);
    refused_answer(q, KE_SASL_AUTHENTICATION_FAILED, why);
}

static void refuse_later(struct ksasl *x, struct kreq *q)
{
    struct kconn *kc = x->kc;

    atomic_fetch_add_explicit(&kc->kl->errors, 1, memory_order_relaxed);
    x->q = q;
    if (q)
        q->cancel = refused_cancel;
    loop_timer_init(&x->delay, refused_now);
    loop_timer_arm(kc->kl->loop, &x->delay, REFUSE_AFTER_MS);
}

void kafka_on_sasl_authenticate(struct kreq *q)
{
    struct kafka_sasl_authenticate_response s;
    struct kafka_sasl_authenticate_request m;
    struct ksasl *x = q->kc->sasl;
    enum step st;

    if (!KREQ_DECODE(q, sasl_authenticate, &m))
        return;
    if (!x || x->raw) {
        refused_answer(q, KE_ILLEGAL_SASL_STATE,
                       SLICE_LIT("SaslAuthenticate request received after successful "
                                 "authentication, or without a handshake"));
        return;
    }
    kafka_sasl_authenticate_response_init(&s);
    s.error_message = SLICE_NULL;
    st = step_take(x, m.auth_bytes, &s.session_lifetime_ms);
    if (st == STEP_REFUSED) {
        refuse_later(x, q);
        return;
    }
    s.auth_bytes = arena_dup(&q->arena, buf_slice(&x->out));
    if (slice_is_null(s.auth_bytes))
        s.auth_bytes = SLICE_LIT("");
    if (st == STEP_DONE)
        ksasl_free(q->kc);
    KREQ_REPLY(q, sasl_authenticate, &s);
}

/* ---- without requests ---- */

bool ksasl_is_raw(const struct kconn *kc)
{
    return kc->sasl && kc->sasl->raw;
}

void ksasl_raw(struct kconn *kc, struct slice in)
{
    struct ksasl *x = kc->sasl;
    uint8_t head[4];
    int64_t lifetime;
    enum step st;

    if (loop_timer_armed(&x->delay)) /* it was refused */
        return;
    st = step_take(x, in, &lifetime);
    if (st == STEP_REFUSED) {
        refuse_later(x, NULL);
        return;
    }
    be32_store(head, (uint32_t)x->out.len);
    conn_send(kc->c, slice_of(head, 4));
    conn_send(kc->c, buf_slice(&x->out));
    if (st == STEP_DONE)
        ksasl_free(kc);
}
