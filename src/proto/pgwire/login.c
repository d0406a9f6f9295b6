/* Logging in. Three ways, by policy and name:
 *
 *   nobody has to       AuthenticationOk at once
 *   user "token"        the password is a token's text, sent as it is (under TLS, or on this machine)
 *   any other user      SCRAM-SHA-256 with a stored user's password, or one of the operator's file
 *
 * Whoever fails is told after a moment, and the connection ends; one connection has one try. A name
 * that there is not is asked like any other. */
#include <stdio.h>
#include <string.h>

#include "io/io.h"
#include "proto/pgwire/pgwire_int.h"

#define REFUSE_AFTER_MS 100u
#define AUTH_OK         0u
#define AUTH_CLEARTEXT  3u
#define AUTH_SASL       10u
#define AUTH_SASL_MORE  11u
#define AUTH_SASL_FINAL 12u

static void ready(struct pconn *pc)
{
    const char *name;
    unsigned i;
    size_t at;

    pc->at = P_READY;
    pg_auth(&pc->out, AUTH_OK, SLICE_NULL);
    for (i = 0; (name = session_reported(i)); i++)
        pg_parameter(&pc->out, name, session_get(&pc->s, name));
    at = pg_begin(&pc->out, 'K');
    buf_append_be32(&pc->out, pc->slot + 1);
    buf_append_be32(&pc->out, pc->secret);
    pg_end(&pc->out, at);
    pg_ready(&pc->out, pc->s.txn);
}

static void refused_now(struct loop_timer *t)
{
    struct pconn *pc = list_entry(t, struct pconn, delay);
    char text[320];

    snprintf(text, sizeof text, "password authentication failed for user \"%s\"", pc->s.user);
    pconn_fatal(pc, "28P01", text,
                strcmp(pc->s.user, "token") == 0
                    ? "the password is a token, as `weir token create` printed it"
                    : "log in as user `token` with a token for password, or as a SCRAM user");
}

static void refuse(struct pconn *pc)
{
    atomic_fetch_add(&pc->p->logins_failed, 1);
    pc->at = P_REFUSED;
    loop_timer_init(&pc->delay, refused_now);
    loop_timer_arm(pc->pl->loop, &pc->delay, REFUSE_AFTER_MS);
}

static bool is_open(struct pconn *pc)
{
    const struct principal *who;
    bool users;

    io_rwlock_read(&pc->p->users_lock);
    users = pc->p->users != NULL;
    io_rwlock_unlock(&pc->p->users_lock);
    return !users && auth_who(&pc->pl->auth, SLICE_NULL, &who, NULL) == ERR_OK;
}

void login_begin(struct pconn *pc, const struct pg_startup *m)
{
    struct slice rest = m->params, name, value;

    session_init(&pc->s, m->user, m->db);
    while (rest.len && pg_startup_param(&rest, &name, &value))
        session_startup(&pc->s, name, value);
    if (is_open(pc)) {
        ready(pc);
    } else if (strcmp(pc->s.user, "token") == 0) {
        pc->at = P_PASSWORD;
        pg_auth(&pc->out, AUTH_CLEARTEXT, SLICE_NULL);
    } else {
        pc->at = P_SASL;
        pg_auth(&pc->out, AUTH_SASL, SLICE_LIT("SCRAM-SHA-256\0\0"));
    }
}

static void password(struct pconn *pc, struct slice body)
{
    const struct principal *who;
    struct slice text;

    if (pg_text_decode(body, &text) || text.len != AUTH_TOKEN_LEN ||
        auth_who(&pc->pl->auth, text, &who, NULL)) {
        refuse(pc);
        return;
    }
    memcpy(pc->token, text.ptr, AUTH_TOKEN_LEN);
    ready(pc);
}

static bool cred_find(struct pconn *pc, struct scram_cred *out)
{
    struct pgwire *p = pc->p;
    bool found;

    if (users_stored(p->conf.broker, SCRAM_SHA_256, slice_str(pc->s.user), out))
        return true;
    io_rwlock_read(&p->users_lock);
    found = file_users_find(p->users, SCRAM_SHA_256, pc->s.user, out);
    io_rwlock_unlock(&p->users_lock);
    return found;
}

static void sasl_first(struct pconn *pc, struct slice body)
{
    struct pg_sasl_initial m;
    struct scram_cred c;
    uint8_t nonce[18];
    struct buf out;
    bool known;

    if (pg_sasl_initial_decode(body, &m) || !slice_eq_str(m.mech, "SCRAM-SHA-256") ||
        scram_first_named(&pc->scram, m.data, pc->s.user)) {
        refuse(pc);
        return;
    }
    known = cred_find(pc, &c);
    io_random(broker_io(pc->p->conf.broker), nonce, sizeof nonce);
    buf_init(&out, LIMIT_PGWIRE_LOGIN * 4);
    scram_challenge(&pc->scram, known ? &c : NULL, pc->p->secret, nonce, &out);
    pg_auth(&pc->out, AUTH_SASL_MORE, buf_slice(&out));
    buf_fini(&out);
    pc->at = P_SASL_FINAL;
}

static void sasl_final(struct pconn *pc, struct slice body)
{
    struct buf out;

    buf_init(&out, LIMIT_PGWIRE_LOGIN);
    if (scram_final(&pc->scram, body, &out)) {
        refuse(pc);
    } else {
        pg_auth(&pc->out, AUTH_SASL_FINAL, buf_slice(&out));
        pc->by_user = true;
        ready(pc);
    }
    buf_fini(&out);
}

void login_message(struct pconn *pc, uint8_t type, struct slice body)
{
    if (type != 'p')
        pconn_fatal(pc, "08P01", "a password was expected", NULL);
    else if (pc->at == P_PASSWORD)
        password(pc, body);
    else if (pc->at == P_SASL)
        sasl_first(pc, body);
    else
        sasl_final(pc, body);
}

enum err login_check(struct pconn *pc, const struct principal **who, struct errinfo *info)
{
    struct slice token = pc->token[0] ? slice_str(pc->token) : SLICE_NULL;
    struct scram_cred c;

    *who = NULL;
    if (!pc->by_user)
        return auth_who(&pc->pl->auth, token, who, info);
    if (cred_find(pc, &c))
        return ERR_OK;
    return errinfo_set(info, ERR_UNAUTHENTICATED, "this user is not there any more");
}
