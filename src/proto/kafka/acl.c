/* Access rules: who may do what to which topics, groups, transactional ids and the cluster.
 * CreateAcls, DescribeAcls, DeleteAcls, and the decision itself. Semantics: Apache Kafka's
 * StandardAuthorizer: a rule is of one resource, or of all whose name begins with its own
 * (prefixed), or of all ("*"); a rule that denies wins over all that allow; super users may do all;
 * what nobody made a rule about is denied, unless allow.everyone.if.no.acl.found.
 *
 * Rules are stored durably as key-value items (namespace "acl", key: SHA-256 of the rule). For
 * decisions there is a table, sorted by type, pattern and name, made anew when rules have changed
 * and replaced under ksec's lock; a decision looks at the rules of the very name, at those of "*" and
 * at those of each prefix of a length that some rule has. */
#include <stdlib.h>
#include <string.h>

#include <openssl/sha.h>

#include "base/mem.h"
#include "proto/kafka/admin_int.h"
#include "proto/kafka/security.h"

#define NS       "acl"
#define WORD_MAX 1024u /* bytes of a resource's name, a principal and a host */
#define RULE_MAX (5u + 3 * (2u + WORD_MAX))

enum { KE_SECURITY_DISABLED = 54 };
enum { PATTERN_ANY = 1, PATTERN_MATCH = 2, PATTERN_LITERAL = 3, PATTERN_PREFIXED = 4 };
enum { PERMIT_ANY = 1, PERMIT_DENY = 2, PERMIT_ALLOW = 3 };
enum { OP_ANY = 1, OP_ALL = 2, OP_LAST = 15 };
enum { TYPE_ANY = 1, TYPE_FIRST = 2, TYPE_LAST = 7 };

struct rule {
    uint8_t type, pattern, op, permit;
    struct slice name, principal, host;
};

struct acls {
    struct rule *rule; /* sorted */
    uint32_t n;
    uint64_t prefixes[TYPE_LAST + 1][(WORD_MAX + 64) / 64]; /* lengths that prefixed rules have */
    struct buf text;
};

/* ---- as stored ---- */

static uint8_t *word_write(uint8_t *p, struct slice s)
{
    be16_store(p, (uint16_t)s.len);
    if (s.len)
        memcpy(p + 2, s.ptr, s.len);
    return p + 2 + s.len;
}

static struct slice rule_write(const struct rule *r, uint8_t out[RULE_MAX])
{
    uint8_t *p = out;

    *p++ = 1; /* format */
    *p++ = r->type;
    *p++ = r->pattern;
    *p++ = r->op;
    *p++ = r->permit;
    p = word_write(p, r->name);
    p = word_write(p, r->principal);
    p = word_write(p, r->host);
    return slice_of(out, (size_t)(p - out));
}

static bool word_read(struct slice *s, struct slice *out)
{
    size_t n = s->len < 2 ? 0 : be16_load(s->ptr);

    if (s->len < 2 || s->len - 2 < n || n > WORD_MAX)
        return false;
    *out = slice_of(s->ptr + 2, n);
    *s = slice_of(s->ptr + 2 + n, s->len - 2 - n);
    return true;
}

static bool rule_read(struct slice s, struct rule *r)
{
    if (s.len < 5 || s.ptr[0] != 1)
        return false;
    *r = (struct rule){.type = s.ptr[1], .pattern = s.ptr[2], .op = s.ptr[3], .permit = s.ptr[4]};
    if (r->type < TYPE_FIRST || r->type > TYPE_LAST)
        return false;
    s = slice_of(s.ptr + 5, s.len - 5);
    return word_read(&s, &r->name) && word_read(&s, &r->principal) && word_read(&s, &r->host) &&
           s.len == 0;
}

/* ---- the table ---- */

static int slice_order(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int d = n ? memcmp(a.ptr, b.ptr, n) : 0;

    return d ? d : a.len < b.len ? -1 : a.len > b.len;
}

static int resource_order(const struct rule *a, const struct rule *b)
{
    if (a->type != b->type)
        return a->type < b->type ? -1 : 1;
    if (a->pattern != b->pattern)
        return a->pattern < b->pattern ? -1 : 1;
    return slice_order(a->name, b->name);
}

static int rule_order(const void *x, const void *y)
{
    const struct rule *a = x, *b = y;
    int d = resource_order(a, b);

    if (!d)
        d = slice_order(a->principal, b->principal);
    if (!d)
        d = slice_order(a->host, b->host);
    return d ? d : (a->op << 8 | a->permit) - (b->op << 8 | b->permit);
}

static bool item_collect(void *arg, struct slice key, struct slice value)
{
    struct acls *t = arg;

    buf_append_be16(&t->text, (uint16_t)value.len);
    buf_append_slice(&t->text, value);
    t->n++;
    return true;
}

static struct acls *table_new(struct broker *b)
{
    struct acls *t = xcalloc(1, sizeof *t);
    uint32_t i, n = 0;
    struct slice s;

    buf_init(&t->text, LIMIT_KV_BYTES * 2);
    kv_each(b, NS, item_collect, t);
    t->rule = xcalloc(t->n ? t->n : 1, sizeof *t->rule);
    s = buf_slice(&t->text);
    for (i = 0; i < t->n; i++) {
        struct slice one = slice_of(s.ptr + 2, be16_load(s.ptr));

        if (rule_read(one, &t->rule[n])) {
            struct rule *r = &t->rule[n++];

            if (r->pattern == PATTERN_PREFIXED)
                t->prefixes[r->type][r->name.len / 64] |= 1ull << r->name.len % 64;
        }
        s = slice_of(s.ptr + 2 + one.len, s.len - 2 - one.len);
    }
    t->n = n;
    qsort(t->rule, n, sizeof *t->rule, rule_order);
    return t;
}

static void table_free(struct acls *t)
{
    if (!t)
        return;
    buf_fini(&t->text);
    free(t->rule);
    free(t);
}

void kacls_load(struct ksec *s)
{
    struct acls *t, *old;

    io_mutex_lock(&s->load); /* the table that stays is the one that was made last */
    t = table_new(s->b);
    io_rwlock_write(&s->lock);
    old = s->acls;
    s->acls = t;
    io_rwlock_unlock(&s->lock);
    io_mutex_unlock(&s->load);
    table_free(old);
}

void kacls_free(struct ksec *s)
{
    table_free(s->acls);
    s->acls = NULL;
}

/* ---- decisions ---- */

struct ask {
    uint8_t type, op;
    struct slice user, host;
    bool any; /* there are rules of the resource */
    bool allow, deny;
};

static bool principal_is(struct slice rule, struct slice user)
{
    if (!slice_has_prefix(rule, SLICE_LIT("User:")))
        return false;
    rule = slice_of(rule.ptr + 5, rule.len - 5);
    return slice_eq_str(rule, "*") || slice_eq(rule, user);
}

/* To be allowed to read, write, delete or alter is to be allowed to describe. */
static bool op_is(const struct rule *r, uint8_t op)
{
    if (r->op == op || r->op == OP_ALL)
        return true;
    if (r->permit != PERMIT_ALLOW)
        return false;
    if (op == KOP_DESCRIBE)
        return r->op == KOP_READ || r->op == KOP_WRITE || r->op == KOP_DELETE || r->op == KOP_ALTER;
    return op == KOP_DESCRIBE_CONFIGS && r->op == KOP_ALTER_CONFIGS;
}

static void rule_ask(const struct rule *r, struct ask *a)
{
    a->any = true;
    if (!op_is(r, a->op) || !principal_is(r->principal, a->user) ||
        !(slice_eq_str(r->host, "*") || slice_eq(r->host, a->host)))
        return;
    if (r->permit == PERMIT_DENY)
        a->deny = true;
    else
        a->allow = true;
}

/* All rules of one pattern. */
static void pattern_ask(const struct acls *t, uint8_t pattern, struct slice name, struct ask *a)
{
    struct rule want = {.type = a->type, .pattern = pattern, .name = name};
    uint32_t lo = 0, hi = t->n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (resource_order(&t->rule[mid], &want) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < t->n && resource_order(&t->rule[lo], &want) == 0 && !a->deny; lo++)
        rule_ask(&t->rule[lo], a);
}

static void table_ask(const struct acls *t, struct slice name, struct ask *a)
{
    size_t i, words = sizeof t->prefixes[0] / sizeof t->prefixes[0][0];

    pattern_ask(t, PATTERN_LITERAL, name, a);
    if (!slice_eq_str(name, "*"))
        pattern_ask(t, PATTERN_LITERAL, SLICE_LIT("*"), a);
    for (i = 0; i < words && !a->deny; i++) {
        uint64_t bits = t->prefixes[a->type][i];

        for (; bits && !a->deny; bits &= bits - 1) {
            size_t len = i * 64 + (unsigned)__builtin_ctzll(bits);

            if (len <= name.len)
                pattern_ask(t, PATTERN_PREFIXED, slice_of(name.ptr, len), a);
        }
    }
}

static bool is_super(const struct ksec *s, struct slice user)
{
    unsigned i;

    for (i = 0; i < s->supers_n; i++)
        if (slice_eq(s->supers[i], user))
            return true;
    return false;
}

static struct ask ask_of(struct kreq *q, enum kafka_op op, enum kafka_resource r)
{
    return (struct ask){.type = (uint8_t)r,
                        .op = (uint8_t)op,
                        .user = slice_str(q->kc->user),
                        .host = slice_str(q->kc->host)};
}

static bool ask_all(struct ksec *s, struct ask *a, struct slice name)
{
    if (is_super(s, a->user))
        return true;
    io_rwlock_read(&s->lock);
    table_ask(s->acls, name, a);
    io_rwlock_unlock(&s->lock);
    return !a->deny && (a->allow || (!a->any && s->conf->acls_else_everyone));
}

bool kafka_allowed(struct kreq *q, enum kafka_op op, enum kafka_resource r, struct slice name)
{
    struct ksec *s = q->k->sec;
    struct ask a;

    if (!s->conf->acls)
        return true;
    if (!q->kc) /* nobody is there to be told */
        return false;
    a = ask_of(q, op, r);
    return ask_all(s, &a, name);
}

int32_t kafka_operations(struct kreq *q, enum kafka_resource r, struct slice name)
{
    static const int32_t of[] = {
        [KRES_TOPIC] = 1 << KOP_READ | 1 << KOP_WRITE | 1 << KOP_CREATE | 1 << KOP_DELETE |
                       1 << KOP_ALTER | 1 << KOP_DESCRIBE | 1 << KOP_DESCRIBE_CONFIGS |
                       1 << KOP_ALTER_CONFIGS,
        [KRES_GROUP] = 1 << KOP_READ | 1 << KOP_DELETE | 1 << KOP_DESCRIBE |
                       1 << KOP_DESCRIBE_CONFIGS | 1 << KOP_ALTER_CONFIGS,
        [KRES_CLUSTER] = 1 << KOP_CREATE | 1 << KOP_ALTER | 1 << KOP_DESCRIBE |
                         1 << KOP_CLUSTER_ACTION | 1 << KOP_DESCRIBE_CONFIGS |
                         1 << KOP_ALTER_CONFIGS | 1 << KOP_IDEMPOTENT_WRITE,
    };
    int32_t bits = of[r];
    int op;

    for (op = KOP_READ; op <= KOP_IDEMPOTENT_WRITE; op++)
        if (bits & 1 << op && !kafka_allowed(q, (enum kafka_op)op, r, name))
            bits &= ~(1 << op);
    return bits;
}

int32_t kafka_cluster_operations(struct kreq *q)
{
    return kafka_allowed(q, KOP_DESCRIBE, KRES_CLUSTER, KAFKA_CLUSTER_NAME)
               ? kafka_operations(q, KRES_CLUSTER, KAFKA_CLUSTER_NAME)
               : 0;
}

bool kafka_user_may_read(struct kafka *k, const char *user, const char *host, struct slice topic)
{
    struct ask a = {
        .type = KRES_TOPIC, .op = KOP_READ, .user = slice_str(user), .host = slice_str(host)};

    return !k->sec->conf->acls || ask_all(k->sec, &a, topic);
}

/* Is there a rule that allows, and that no rule about all or about a prefix of it denies? */
bool kafka_allowed_some(struct kreq *q, enum kafka_op op, enum kafka_resource r)
{
    struct ksec *s = q->k->sec;
    bool yes = false;
    uint32_t i;

    if (!s->conf->acls || (q->kc && is_super(s, slice_str(q->kc->user))))
        return true;
    if (!q->kc)
        return false;
    io_rwlock_read(&s->lock);
    for (i = 0; i < s->acls->n && !yes; i++) {
        const struct rule *rule = &s->acls->rule[i];
        struct ask one = ask_of(q, op, r), all = one;

        if (rule->type != one.type || rule->permit != PERMIT_ALLOW)
            continue;
        rule_ask(rule, &one);
        if (one.allow)
            table_ask(s->acls, rule->name, &all);
        yes = one.allow && !all.deny;
    }
    yes = yes || (s->acls->n == 0 && s->conf->acls_else_everyone);
    io_rwlock_unlock(&s->lock);
    return yes;
}

/* ---- the requests ---- */

static bool disabled(struct kreq *q, enum kafka_op op, int16_t *code, struct slice *message)
{
    *message = SLICE_NULL;
    *code = KE_NONE;
    if (!q->k->sec->conf->acls) {
        *code = KE_SECURITY_DISABLED;
        *message = SLICE_LIT("No Authorizer is configured.");
    } else if (!kafka_allowed(q, op, KRES_CLUSTER, KAFKA_CLUSTER_NAME)) {
        *code = KE_CLUSTER_AUTHORIZATION_FAILED;
    }
    return *code != KE_NONE;
}

/* Rules have changed: the table is made anew before that is answered. */
static void rules_reload(struct kreq *q)
{
    kacls_load(q->k->sec);
}

struct create {
    struct kafka_create_acls_request m;
    struct kafka_create_acls_response s;
};

static const char *rule_check(const struct kafka_create_acls_request_creation *c)
{
    const uint8_t *colon =
        c->principal.len ? memchr(c->principal.ptr, ':', c->principal.len) : NULL;

    if (c->resource_type < TYPE_FIRST || c->resource_type > TYPE_LAST)
        return "Invalid resourceType";
    if (c->resource_pattern_type != PATTERN_LITERAL && c->resource_pattern_type != PATTERN_PREFIXED)
        return "Invalid patternType";
    if (c->operation < OP_ALL || c->operation > OP_LAST)
        return "Invalid operation";
    if (c->permission_type != PERMIT_DENY && c->permission_type != PERMIT_ALLOW)
        return "Invalid permissionType";
    if (c->resource_name.len == 0)
        return "Resource name should not be empty";
    if (c->resource_type == KRES_CLUSTER && !slice_eq(c->resource_name, KAFKA_CLUSTER_NAME))
        return "The only valid name for the CLUSTER resource is kafka-cluster";
    if (!colon || colon == c->principal.ptr)
        return "Could not parse principal (no colon is present separating the principal type from "
               "the principal name)";
    if (c->host.len == 0)
        return "Host should not be empty";
    if (c->resource_name.len > WORD_MAX || c->principal.len > WORD_MAX || c->host.len > WORD_MAX)
        return "a resource's name, a principal and a host have at most 1,024 bytes";
    return NULL;
}

static void rule_put(struct kreq *q, const struct rule *r, bool drop, struct kgather_job *job)
{
    uint8_t value[RULE_MAX], key[SHA256_DIGEST_LENGTH];
    struct slice text = rule_write(r, value);
    struct errinfo info = {0};
    enum err e;

    SHA256(text.ptr, text.len, key);
    kgather_begin(job);
    e = kv_put(q->b, NS, slice_of(key, sizeof key), drop ? SLICE_NULL : text, 0, kgather_done, job,
               &info);
    if (e)
        kgather_done(job, e, &info);
}

static void create_reply(struct kreq *q)
{
    struct kgather *g = q->state_of;
    struct create *c = g->state;
    struct slice message;
    uint32_t i;

    for (i = 0; i < c->s.results_n; i++) {
        int16_t code = kgather_result(q, &g->jobs[i], &message);

        if (code)
            c->s.results[i] = (struct kafka_create_acls_response_result){code, message};
    }
    KREQ_REPLY(q, create_acls, &c->s);
}

void kafka_on_create_acls(struct kreq *q)
{
    struct create *c = kreq_alloc(q, 1, sizeof *c);
    struct kgather *g;
    struct slice why;
    int16_t code;
    uint32_t i;

    if (!c || !KREQ_DECODE(q, create_acls, &c->m))
        return;
    kafka_create_acls_response_init(&c->s);
    if (!(c->s.results = kreq_alloc(q, c->m.creations_n, sizeof *c->s.results)) ||
        !(g = kgather_new(q, c->m.creations_n, create_reply, c)))
        return;
    g->ended = rules_reload;
    c->s.results_n = c->m.creations_n;
    disabled(q, KOP_ALTER, &code, &why);
    for (i = 0; i < c->s.results_n; i++) {
        const struct kafka_create_acls_request_creation *in = &c->m.creations[i];
        const char *wrong = code ? NULL : rule_check(in);
        struct rule r = {(uint8_t)in->resource_type,
                         (uint8_t)in->resource_pattern_type,
                         (uint8_t)in->operation,
                         (uint8_t)in->permission_type,
                         in->resource_name,
                         in->principal,
                         in->host};

        c->s.results[i] = (struct kafka_create_acls_response_result){
            wrong ? KE_INVALID_REQUEST : code, wrong ? slice_str(wrong) : why};
        if (!wrong && !code)
            rule_put(q, &r, false, &g->jobs[i]);
    }
    kgather_wait(g, 30000);
}

/* ---- filters ---- */

struct filter {
    int8_t type, pattern, op, permit;
    struct slice name, principal, host; /* null: any */
};

static const char *filter_check(const struct filter *f)
{
    if (f->type < TYPE_ANY || f->type > TYPE_LAST || f->pattern < PATTERN_ANY ||
        f->pattern > PATTERN_PREFIXED || f->op < OP_ANY || f->op > OP_LAST ||
        f->permit < PERMIT_ANY || f->permit > PERMIT_ALLOW)
        return "The AclBindingFilter must not contain UNKNOWN elements.";
    return NULL;
}

/* org.apache.kafka.common.resource.ResourcePatternFilter.matches */
static bool resource_matches(const struct filter *f, const struct rule *r)
{
    if (f->type != TYPE_ANY && f->type != r->type)
        return false;
    if (f->pattern >= PATTERN_LITERAL && f->pattern != r->pattern)
        return false;
    if (slice_is_null(f->name))
        return true;
    if (f->pattern == PATTERN_ANY || f->pattern == r->pattern)
        return slice_eq(f->name, r->name);
    if (r->pattern == PATTERN_LITERAL)
        return slice_eq(f->name, r->name) || slice_eq_str(r->name, "*");
    return slice_has_prefix(f->name, r->name);
}

static bool rule_matches(const struct filter *f, const struct rule *r)
{
    return resource_matches(f, r) &&
           (slice_is_null(f->principal) || slice_eq(f->principal, r->principal)) &&
           (slice_is_null(f->host) || slice_eq(f->host, r->host)) &&
           (f->op == OP_ANY || f->op == r->op) &&
           (f->permit == PERMIT_ANY || f->permit == r->permit);
}

/* Those that match, copied to the request's memory, in order; NULL: there is no room. */
static struct rule *rules_find(struct kreq *q, const struct filter *f, uint32_t *n)
{
    struct ksec *s = q->k->sec;
    struct rule *out;
    uint32_t i;

    *n = 0;
    io_rwlock_read(&s->lock);
    for (i = 0; i < s->acls->n; i++)
        *n += rule_matches(f, &s->acls->rule[i]);
    out = arena_zalloc(&q->arena, *n ? *n : 1, sizeof *out);
    for (i = 0, *n = 0; out && i < s->acls->n; i++) {
        const struct rule *r = &s->acls->rule[i];
        struct rule *o = &out[*n];

        if (!rule_matches(f, r))
            continue;
        *o = *r;
        o->name = arena_dup(&q->arena, r->name);
        o->principal = arena_dup(&q->arena, r->principal);
        o->host = arena_dup(&q->arena, r->host);
        if (slice_is_null(o->name) || slice_is_null(o->principal) || slice_is_null(o->host))
            out = NULL;
        ++*n;
    }
    io_rwlock_unlock(&s->lock);
    if (!out)
        kreq_fail(q, ERR_TOO_LARGE);
    return out;
}

/* Rules of one resource stand together. */
static void describe_fill(struct kreq *q, const struct rule *rules, uint32_t n,
                          struct kafka_describe_acls_response *s)
{
    struct kafka_describe_acls_response_acl *acls = kreq_alloc(q, n, sizeof *acls);
    struct kafka_describe_acls_response_resource *o = NULL;
    uint32_t i;

    if (!acls || !(s->resources = kreq_alloc(q, n, sizeof *s->resources)))
        return;
    for (i = 0; i < n; i++) {
        const struct rule *r = &rules[i];

        if (i == 0 || resource_order(r, r - 1) != 0) {
            o = &s->resources[s->resources_n++];
            o->resource_type = (int8_t)r->type;
            o->resource_name = r->name;
            o->pattern_type = (int8_t)r->pattern;
            o->acls = &acls[i];
        }
        o->acls[o->acls_n++] = (struct kafka_describe_acls_response_acl){
            r->principal, r->host, (int8_t)r->op, (int8_t)r->permit};
    }
}

void kafka_on_describe_acls(struct kreq *q)
{
    struct kafka_describe_acls_response s;
    struct kafka_describe_acls_request m;
    struct rule *rules = NULL;
    struct filter f;
    const char *wrong;
    uint32_t n;

    if (!KREQ_DECODE(q, describe_acls, &m))
        return;
    kafka_describe_acls_response_init(&s);
    f = (struct filter){m.resource_type_filter, m.pattern_type_filter,  m.operation,
                        m.permission_type,      m.resource_name_filter, m.principal_filter,
                        m.host_filter};
    if (!disabled(q, KOP_DESCRIBE, &s.error_code, &s.error_message)) {
        if ((wrong = filter_check(&f))) {
            s.error_code = KE_INVALID_REQUEST;
            s.error_message = slice_str(wrong);
        } else if ((rules = rules_find(q, &f, &n))) {
            describe_fill(q, rules, n, &s);
        }
    }
    if (q->state != KREQ_DONE)
        KREQ_REPLY(q, describe_acls, &s);
}

/* ---- DeleteAcls ---- */

struct delete
{
    struct kafka_delete_acls_request m;
    struct kafka_delete_acls_response s;
    struct rule **rules; /* of each filter */
};

static void delete_reply(struct kreq *q)
{
    struct kgather *g = q->state_of;
    struct delete *d = g->state;
    struct kgather_job *job = g->jobs;
    struct slice message;
    uint32_t i, j;

    for (i = 0; i < d->s.filter_results_n; i++)
        for (j = 0; j < d->s.filter_results[i].matching_acls_n; j++, job++) {
            struct kafka_delete_acls_response_matching_acl *o =
                &d->s.filter_results[i].matching_acls[j];

            o->error_code = kgather_result(q, job, &message);
            o->error_message = message;
        }
    KREQ_REPLY(q, delete_acls, &d->s);
}

static uint32_t filter_find(struct kreq *q, const struct kafka_delete_acls_request_filter *in,
                            struct rule **rules, struct kafka_delete_acls_response_filter_result *o)
{
    struct filter f = {in->resource_type_filter, in->pattern_type_filter,  in->operation,
                       in->permission_type,      in->resource_name_filter, in->principal_filter,
                       in->host_filter};
    const char *wrong = filter_check(&f);
    uint32_t i, n = 0;

    o->error_message = SLICE_NULL;
    if (wrong) {
        o->error_code = KE_INVALID_REQUEST;
        o->error_message = slice_str(wrong);
        return 0;
    }
    if (!(*rules = rules_find(q, &f, &n)) ||
        !(o->matching_acls = kreq_alloc(q, n, sizeof *o->matching_acls)))
        return 0;
    for (i = 0; i < n; i++) {
        const struct rule *r = &(*rules)[i];

        o->matching_acls[i] =
            (struct kafka_delete_acls_response_matching_acl){.resource_type = (int8_t)r->type,
                                                             .resource_name = r->name,
                                                             .pattern_type = (int8_t)r->pattern,
                                                             .principal = r->principal,
                                                             .host = r->host,
                                                             .operation = (int8_t)r->op,
                                                             .permission_type = (int8_t)r->permit};
    }
    return o->matching_acls_n = n;
}

void kafka_on_delete_acls(struct kreq *q)
{
    struct delete *d = kreq_alloc(q, 1, sizeof *d);
    struct kgather_job *job;
    uint32_t i, j, n = 0;
    struct kgather *g;
    struct slice why;
    int16_t code;

    if (!d || !KREQ_DECODE(q, delete_acls, &d->m))
        return;
    kafka_delete_acls_response_init(&d->s);
    if (!(d->s.filter_results = kreq_alloc(q, d->m.filters_n, sizeof *d->s.filter_results)) ||
        !(d->rules = kreq_alloc(q, d->m.filters_n, sizeof *d->rules)))
        return;
    d->s.filter_results_n = d->m.filters_n;
    disabled(q, KOP_ALTER, &code, &why);
    for (i = 0; i < d->m.filters_n && q->state != KREQ_DONE; i++) {
        if (code)
            d->s.filter_results[i] = (struct kafka_delete_acls_response_filter_result){
                .error_code = code, .error_message = why};
        else
            n += filter_find(q, &d->m.filters[i], &d->rules[i], &d->s.filter_results[i]);
    }
    if (q->state == KREQ_DONE || !(g = kgather_new(q, n, delete_reply, d)))
        return;
    g->ended = rules_reload;
    for (i = 0, job = g->jobs; i < d->m.filters_n; i++)
        for (j = 0; j < d->s.filter_results[i].matching_acls_n; j++)
            rule_put(q, &d->rules[i][j], true, job++);
    kgather_wait(g, 30000);
}
