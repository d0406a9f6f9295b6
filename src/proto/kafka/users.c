/* Users and what proves who they are: stored SCRAM credentials, and those of the file that the
 * operator keeps (src/auth/users.h). A PLAIN password is checked against the same.
 * DescribeUserScramCredentials, AlterUserScramCredentials; errors and their words are those of
 * Kafka's ScramControlManager. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "base/mem.h"
#include "io/io.h"
#include "proto/kafka/admin_int.h"
#include "proto/kafka/security.h"

enum { KE_RESOURCE_NOT_FOUND = 91, KE_DUPLICATE_RESOURCE = 92, KE_UNACCEPTABLE_CREDENTIAL = 93 };

bool kuser_cred(struct ksec *s, enum scram_mech m, const char *user, struct scram_cred *out)
{
    bool found = users_stored(s->b, m, slice_str(user), out);

    if (found)
        return true;
    io_rwlock_read(&s->lock);
    found = file_users_find(s->users, m, user, out);
    io_rwlock_unlock(&s->lock);
    return found;
}

/* ---- DescribeUserScramCredentials ---- */

static void user_shown(struct kreq *q, struct slice name,
                       struct kafka_describe_user_scram_credentials_response_result *o)
{
    struct scram_cred c;
    int m;

    o->error_message = SLICE_NULL;
    o->user = name;
    if (!(o->credential_infos = kreq_alloc(q, 2, sizeof *o->credential_infos)))
        return;
    for (m = SCRAM_SHA_256; m <= SCRAM_SHA_512; m++)
        if (users_stored(q->b, (enum scram_mech)m, name, &c))
            o->credential_infos[o->credential_infos_n++] =
                (struct kafka_describe_user_scram_credentials_response_credential_info){
                    (int8_t)m, (int32_t)c.iterations};
    if (o->credential_infos_n == 0) {
        o->error_code = KE_RESOURCE_NOT_FOUND;
        o->error_message =
            kreq_printf(q, "Attempt to describe a user credential that does not exist: %.*s",
                        (int)(name.len < 255 ? name.len : 255), (const char *)name.ptr);
    }
}

struct names {
    struct kreq *q;
    struct slice *name;
    uint32_t n, cap;
    bool full;
};

static bool name_collect(void *arg, struct slice key, struct slice value)
{
    struct names *ns = arg;
    struct slice *more;

    if (ns->n == ns->cap) {
        ns->cap = ns->cap ? ns->cap * 2 : 64;
        if (!(more = arena_zalloc(&ns->q->arena, ns->cap, sizeof *more))) {
            ns->full = true;
            return false;
        }
        if (ns->n)
            memcpy(more, ns->name, ns->n * sizeof *more);
        ns->name = more;
    }
    ns->name[ns->n++] = arena_dup(&ns->q->arena, slice_of(key.ptr + 2, key.len - 2));
    return true;
}

static void describe_all(struct kreq *q, struct kafka_describe_user_scram_credentials_response *s)
{
    struct names ns = {.q = q};
    uint8_t *times;
    uint32_t i;

    kv_each(q->b, USERS_NS, name_collect, &ns);
    if (ns.full) {
        kreq_fail(q, ERR_TOO_LARGE);
        return;
    }
    if (!(times = kafka_names_count(q, ns.name, ns.n)) ||
        !(s->results = kreq_alloc(q, ns.n, sizeof *s->results)))
        return;
    for (i = 0; i < ns.n && q->state != KREQ_DONE; i++)
        if (times[i] != KNAME_AGAIN)
            user_shown(q, ns.name[i], &s->results[s->results_n++]);
}

static void describe_some(struct kreq *q,
                          const struct kafka_describe_user_scram_credentials_request *m,
                          struct kafka_describe_user_scram_credentials_response *s)
{
    struct slice *names = kreq_alloc(q, m->users_n, sizeof *names);
    uint8_t *times;
    uint32_t i;

    for (i = 0; names && i < m->users_n; i++)
        names[i] = m->users[i].name;
    if (!names || !(times = kafka_names_count(q, names, m->users_n)) ||
        !(s->results = kreq_alloc(q, m->users_n, sizeof *s->results)))
        return;
    for (i = 0; i < m->users_n && q->state != KREQ_DONE; i++) {
        struct kafka_describe_user_scram_credentials_response_result *o = &s->results[s->results_n];

        if (times[i] == KNAME_AGAIN)
            continue;
        s->results_n++;
        if (times[i] == KNAME_ONCE) {
            user_shown(q, names[i], o);
            continue;
        }
        *o = (struct kafka_describe_user_scram_credentials_response_result){
            .user = names[i], .error_code = KE_DUPLICATE_RESOURCE};
        o->error_message = SLICE_LIT("Cannot describe SCRAM credentials for the same user twice in "
                                     "a single request");
    }
}

void kafka_on_describe_user_scram_credentials(struct kreq *q)
{
    struct kafka_describe_user_scram_credentials_response s;
    struct kafka_describe_user_scram_credentials_request m;

    if (!KREQ_DECODE(q, describe_user_scram_credentials, &m))
        return;
    kafka_describe_user_scram_credentials_response_init(&s);
    s.error_message = SLICE_NULL;
    if (!kafka_allowed(q, KOP_DESCRIBE, KRES_CLUSTER, KAFKA_CLUSTER_NAME))
        s.error_code = KE_CLUSTER_AUTHORIZATION_FAILED;
    else if (m.users_null || m.users_n == 0)
        describe_all(q, &s);
    else
        describe_some(q, &m, &s);
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, describe_user_scram_credentials, &s);
}

/* ---- AlterUserScramCredentials ---- */

struct alter_users {
    struct kafka_alter_user_scram_credentials_request m;
    struct kafka_alter_user_scram_credentials_response s;
    uint8_t *times; /* enum kname of each result */
};

static void refuse(struct kafka_alter_user_scram_credentials_response_result *o, int16_t code,
                   const char *why)
{
    o->error_code = code;
    o->error_message = slice_str(why);
}

static void name_check(struct kafka_alter_user_scram_credentials_response_result *o, int mech)
{
    if (o->user.len == 0)
        refuse(o, KE_UNACCEPTABLE_CREDENTIAL, "Username must not be empty");
    else if (o->user.len > SCRAM_USER_MAX || memchr(o->user.ptr, 0, o->user.len))
        refuse(o, KE_UNACCEPTABLE_CREDENTIAL,
               "a user's name has at most 255 bytes, none of them 0");
    else if (!scram_name(mech))
        refuse(o, KE_UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism");
}

static void put(struct kreq *q, enum scram_mech m, struct slice user, struct slice value,
                struct kgather_job *job)
{
    struct errinfo info = {0};
    uint8_t key[USERS_KEY_MAX];
    enum err e;

    kgather_begin(job);
    e = kv_put(q->b, USERS_NS, users_key(m, user, key), value, 0, kgather_done, job, &info);
    if (e)
        kgather_done(job, e, &info);
}

static void upsert(struct kreq *q,
                   const struct kafka_alter_user_scram_credentials_request_upsertion *u,
                   struct kgather_job *job,
                   struct kafka_alter_user_scram_credentials_response_result *o)
{
    uint8_t value[SCRAM_STORED_MAX];
    struct scram_cred c;
    size_t n;

    name_check(o, u->mechanism);
    if (o->error_code)
        return;
    if (u->iterations < SCRAM_ITERATIONS_MIN)
        refuse(o, KE_UNACCEPTABLE_CREDENTIAL, "Too few iterations");
    else if (u->iterations > SCRAM_ITERATIONS_MAX)
        refuse(o, KE_UNACCEPTABLE_CREDENTIAL, "Too many iterations");
    else if (u->salt.len == 0 || u->salt.len > SCRAM_SALT_MAX)
        refuse(o, KE_UNACCEPTABLE_CREDENTIAL, "a salt has 1 to 255 bytes");
    else if (u->salted_password.len != scram_hash_len((enum scram_mech)u->mechanism))
        refuse(o, KE_UNACCEPTABLE_CREDENTIAL, "the salted password is not as long as the hash");
    if (o->error_code)
        return;
    scram_cred_from_salted((enum scram_mech)u->mechanism, u->salt, (uint32_t)u->iterations,
                           u->salted_password.ptr, &c);
    n = scram_cred_write((enum scram_mech)u->mechanism, &c, value);
    put(q, (enum scram_mech)u->mechanism, u->name, slice_of(value, n), job);
    OPENSSL_cleanse(&c, sizeof c);
    OPENSSL_cleanse(value, sizeof value);
}

static void drop(struct kreq *q,
                 const struct kafka_alter_user_scram_credentials_request_deletion *d,
                 struct kgather_job *job,
                 struct kafka_alter_user_scram_credentials_response_result *o)
{
    struct scram_cred c;

    name_check(o, d->mechanism);
    if (o->error_code)
        return;
    if (!users_stored(q->b, (enum scram_mech)d->mechanism, d->name, &c))
        refuse(o, KE_RESOURCE_NOT_FOUND, "Attempt to delete a user credential that does not exist");
    else
        put(q, (enum scram_mech)d->mechanism, d->name, SLICE_NULL, job);
}

/* One answer a user, with the first error of all that was asked for them. */
static void results_join(struct alter_users *a)
{
    uint32_t i, j, n = 0;

    for (i = 0; i < a->s.results_n; i++) {
        struct kafka_alter_user_scram_credentials_response_result *o = &a->s.results[i];

        if (a->times[i] != KNAME_AGAIN) {
            a->s.results[n++] = *o;
            continue;
        }
        for (j = 0; j < n && !slice_eq(a->s.results[j].user, o->user); j++)
            ;
        if (j < n && !a->s.results[j].error_code)
            a->s.results[j] = *o;
    }
    a->s.results_n = n;
}

static void alter_reply(struct kreq *q)
{
    struct kgather *g = q->state_of;
    struct alter_users *a = g->state;
    struct slice message;
    uint32_t i;

    for (i = 0; i < a->s.results_n; i++) {
        int16_t code = kgather_result(q, &g->jobs[i], &message);

        if (code) {
            a->s.results[i].error_code = code;
            a->s.results[i].error_message = message;
        }
    }
    results_join(a);
    KREQ_REPLY(q, alter_user_scram_credentials, &a->s);
}

/* Deletions and upsertions share a row of names: n of them. */
static struct slice *altered_names(struct kreq *q,
                                   const struct kafka_alter_user_scram_credentials_request *m)
{
    uint32_t i, d = m->deletions_n;
    struct slice *names = kreq_alloc(q, d + m->upsertions_n, sizeof *names);

    for (i = 0; names && i < d; i++)
        names[i] = m->deletions[i].name;
    for (i = 0; names && i < m->upsertions_n; i++)
        names[d + i] = m->upsertions[i].name;
    return names;
}

/* A user may have several credentials changed, each once. */
static bool is_twice(const struct kafka_alter_user_scram_credentials_request *m, uint32_t at)
{
    uint32_t i, d = m->deletions_n, n = d + m->upsertions_n;
    struct slice name = at < d ? m->deletions[at].name : m->upsertions[at - d].name;
    int mech = at < d ? m->deletions[at].mechanism : m->upsertions[at - d].mechanism;

    for (i = 0; i < n; i++) {
        if (i != at &&
            mech == (i < d ? m->deletions[i].mechanism : m->upsertions[i - d].mechanism) &&
            slice_eq(name, i < d ? m->deletions[i].name : m->upsertions[i - d].name))
            return true;
    }
    return false;
}

void kafka_on_alter_user_scram_credentials(struct kreq *q)
{
    struct alter_users *a = kreq_alloc(q, 1, sizeof *a);
    bool allowed = kafka_allowed(q, KOP_ALTER, KRES_CLUSTER, KAFKA_CLUSTER_NAME);
    struct slice *names;
    struct kgather *g;
    uint32_t i, d, n;

    if (!a || !KREQ_DECODE(q, alter_user_scram_credentials, &a->m))
        return;
    kafka_alter_user_scram_credentials_response_init(&a->s);
    d = a->m.deletions_n;
    n = d + a->m.upsertions_n;
    if (!(names = altered_names(q, &a->m)) || !(a->times = kafka_names_count(q, names, n)) ||
        !(a->s.results = kreq_alloc(q, n, sizeof *a->s.results)) ||
        !(g = kgather_new(q, n, alter_reply, a)))
        return;
    a->s.results_n = n;
    for (i = 0; i < n; i++) {
        struct kafka_alter_user_scram_credentials_response_result *o = &a->s.results[i];

        *o = (struct kafka_alter_user_scram_credentials_response_result){
            .user = names[i], .error_message = SLICE_NULL};
        if (!allowed)
            refuse(o, KE_CLUSTER_AUTHORIZATION_FAILED, "Cluster authorization failed.");
        else if (a->times[i] != KNAME_ONCE && is_twice(&a->m, i))
            refuse(o, KE_DUPLICATE_RESOURCE,
                   "A user credential cannot be altered twice in the same request");
        else if (i < d)
            drop(q, &a->m.deletions[i], &g->jobs[i], o);
        else
            upsert(q, &a->m.upsertions[i - d], &g->jobs[i], o);
    }
    kgather_wait(g, 30000);
}
