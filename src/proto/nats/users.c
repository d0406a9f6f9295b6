/* See users.h. */
#include "proto/nats/users.h"

#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "base/arena.h"
#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/subject.h"
#include "io/io.h"
#include "proto/nats/exports.h"
#include "proto/nats/js_transform.h"
#include "proto/nats/jwt.h"
#include "proto/nats/nkey.h"
#include "proto/nats/parse.h"

#define FILE_MAX       (4u << 20)
#define TOKEN_FILE_MAX (256u << 10)
#define TEXT_MAX       (1u << 30)
#define IMPORTS_MAX    1000u
#define USERS_MAX      1000000u
#define RESPONSES      1u      /* allow_responses: true */
#define RESPONSE_MS    120000u /* as nats-server's default */
#define RESPONSE_MAX   1000u
#define DAY_MS         86400000u
#define LIMIT_MOST     1000000000u

struct nusers {
    atomic_uint refs;
    struct arena text;
    struct nuser *v;
    uint32_t n, cap;
    struct slice guest_name;
    const struct nuser *guest;
    struct naccount *system;
    struct noperator *op; /* NULL: none */
    struct nexport *exports;
    struct nimport *imports;
    uint32_t exports_n, exports_cap, imports_n, imports_cap;
};

/* ---- reading the file ---- */

struct reading {
    struct io *io;
    const char *name; /* of the account that is read */
    struct nusers *u;
    yaml_document_t doc;
    const char *path;
    struct errinfo *info;
    struct naccount *(*account)(void *arg, const char *name);
    void *arg;
};

static enum err wrong(struct reading *r, const yaml_node_t *at, const char *what)
{
    return errinfo_set(r->info, ERR_CONFIG, "%s, line %zu: %s", r->path, at->start_mark.line + 1,
                       what);
}

static bool is_text(const yaml_node_t *n)
{
    return n && n->type == YAML_SCALAR_NODE;
}

static struct slice text_of(const yaml_node_t *n)
{
    return slice_of(n->data.scalar.value, n->data.scalar.length);
}

static void *take(struct reading *r, size_t n)
{
    void *p = arena_alloc(&r->u->text, n);

    ASSERT(p); /* TEXT_MAX is more than a file of FILE_MAX can need */
    return p;
}

/* A copy, ended by NUL. */
static struct slice kept(struct reading *r, const yaml_node_t *n)
{
    struct slice s = text_of(n);
    uint8_t *p = take(r, s.len + 1);

    memcpy(p, s.ptr, s.len);
    p[s.len] = '\0';
    return slice_of(p, s.len);
}

/* Calls fn for each member of a mapping. */
static enum err each(struct reading *r, const yaml_node_t *map,
                     enum err (*fn)(struct reading *r, void *arg, const yaml_node_t *key,
                                    yaml_node_t *value),
                     void *arg)
{
    const yaml_node_pair_t *p;
    enum err e = ERR_OK;

    if (map->type != YAML_MAPPING_NODE)
        return wrong(r, map, "names with values are expected here");
    for (p = map->data.mapping.pairs.start; !e && p < map->data.mapping.pairs.top; p++) {
        yaml_node_t *key = yaml_document_get_node(&r->doc, p->key);

        if (!is_text(key))
            return wrong(r, map, "a name is expected here");
        e = fn(r, arg, key, yaml_document_get_node(&r->doc, p->value));
    }
    return e;
}

static enum err pattern_add(struct reading *r, struct npatterns *p, const yaml_node_t *n)
{
    if (!is_text(n) || !subject_valid(text_of(n)))
        return wrong(r, n, "a subject is expected here");
    p->v[p->n++] = kept(r, n);
    return ERR_OK;
}

/* One subject, or a list of them. */
static enum err patterns(struct reading *r, struct npatterns *p, const yaml_node_t *n)
{
    const yaml_node_item_t *i, *end = n->data.sequence.items.top;
    bool list = n->type == YAML_SEQUENCE_NODE;
    enum err e = ERR_OK;

    p->n = 0;
    p->v = take(r, (list ? (size_t)(end - n->data.sequence.items.start) : 1) * sizeof *p->v);
    if (!list)
        return pattern_add(r, p, n);
    for (i = n->data.sequence.items.start; !e && i < end; i++)
        e = pattern_add(r, p, yaml_document_get_node(&r->doc, *i));
    return e;
}

static enum err rule_part(struct reading *r, void *arg, const yaml_node_t *key, yaml_node_t *value)
{
    struct nrule *rule = arg;

    if (slice_eq_str(text_of(key), "allow")) {
        rule->allow_all = false;
        return patterns(r, &rule->allow, value);
    }
    if (slice_eq_str(text_of(key), "deny"))
        return patterns(r, &rule->deny, value);
    return wrong(r, key, "only allow and deny are known here");
}

/* A mapping of allow and deny, or just what is allowed. */
static enum err rule(struct reading *r, struct nrule *rule, const yaml_node_t *n)
{
    if (n->type == YAML_MAPPING_NODE)
        return each(r, n, rule_part, rule);
    rule->allow_all = false;
    return patterns(r, &rule->allow, n);
}

static bool number(struct slice s, uint32_t max, uint32_t *out)
{
    uint64_t v;

    if (!nats_u64(s, &v) || v > max)
        return false;
    *out = (uint32_t)v;
    return true;
}

/* "500ms", "2s", "1m", "1h". */
static bool duration(struct slice s, uint32_t *ms)
{
    static const struct {
        const char *unit;
        uint32_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    size_t n = 0, i;

    while (n < s.len && s.ptr[n] >= '0' && s.ptr[n] <= '9')
        n++;
    for (i = 0; i < sizeof units / sizeof *units; i++)
        if (slice_eq_str(slice_of(s.ptr + n, s.len - n), units[i].unit)) {
            if (!number(slice_of(s.ptr, n), DAY_MS / units[i].ms, ms))
                return false;
            *ms *= units[i].ms;
            return true;
        }
    return false;
}

static enum err responses_part(struct reading *r, void *arg, const yaml_node_t *key,
                               yaml_node_t *value)
{
    struct nuser *u = arg;

    if (slice_eq_str(text_of(key), "max")) {
        if (is_text(value) && number(text_of(value), RESPONSE_MAX, &u->responses) && u->responses)
            return ERR_OK;
        return wrong(r, value, "a number between 1 and 1000 is expected here");
    }
    if (slice_eq_str(text_of(key), "expires")) {
        if (is_text(value) && duration(text_of(value), &u->response_ms) && u->response_ms)
            return ERR_OK;
        return wrong(r, value, "a time such as 2m, of a day at most, is expected here");
    }
    return wrong(r, key, "only max and expires are known here");
}

static enum err permission(struct reading *r, void *arg, const yaml_node_t *key, yaml_node_t *value)
{
    struct nuser *u = arg;
    struct slice name = text_of(key);

    if (slice_eq_str(name, "publish") || slice_eq_str(name, "pub"))
        return rule(r, &u->publish, value);
    if (slice_eq_str(name, "subscribe") || slice_eq_str(name, "sub"))
        return rule(r, &u->subscribe, value);
    if (!slice_eq_str(name, "allow_responses"))
        return wrong(r, key, "only publish, subscribe and allow_responses are known here");
    u->responses = RESPONSES;
    u->response_ms = RESPONSE_MS;
    if (is_text(value) && slice_eq_str(text_of(value), "true"))
        return ERR_OK;
    return each(r, value, responses_part, u);
}

static enum err user_part(struct reading *r, void *arg, const yaml_node_t *key, yaml_node_t *value)
{
    struct nuser *u = arg;
    struct slice name = text_of(key);

    if (slice_eq_str(name, "permissions")) {
        u->limited = true;
        return each(r, value, permission, u);
    }
    if (!is_text(value) || !text_of(value).len)
        return wrong(r, value, "a text is expected here");
    if (slice_eq_str(name, "user"))
        u->name = kept(r, value);
    else if (slice_eq_str(name, "password") || slice_eq_str(name, "pass"))
        u->password = kept(r, value);
    else if (slice_eq_str(name, "token"))
        u->token = kept(r, value);
    else if (!slice_eq_str(name, "nkey"))
        return wrong(r, key, "only user, password, token, nkey and permissions are known here");
    else if (!(u->has_nkey = nkey_read(text_of(value), NKEY_USER, u->nkey)))
        return wrong(r, value, "a public key of a user, U and 55 letters and digits, is expected");
    else
        u->nkey_text = kept(r, value);
    return ERR_OK;
}

static enum err user(struct reading *r, struct naccount *account, const yaml_node_t *n)
{
    struct nusers *us = r->u;
    struct nuser *u;
    enum err e;

    if (us->n >= USERS_MAX)
        return wrong(r, n, "too many users");
    if (us->n == us->cap) {
        us->cap = us->cap ? us->cap * 2 : 8;
        us->v = xrealloc(us->v, us->cap * sizeof *us->v);
    }
    u = &us->v[us->n++];
    *u = (struct nuser){.account = account};
    u->publish.allow_all = u->subscribe.allow_all = true;
    if ((e = each(r, n, user_part, u)))
        return e;
    if ((u->name.len != 0) + (u->token.len != 0) + u->has_nkey != 1)
        return wrong(r, n, "a user has one of user, token and nkey");
    if (u->name.len && !u->password.len)
        return wrong(r, n, "this user has no password");
    return ERR_OK;
}

/* ---- exports and imports ---- */

static enum err names(struct reading *r, struct nexport *e, const yaml_node_t *n)
{
    const yaml_node_item_t *i;

    if (n->type != YAML_SEQUENCE_NODE)
        return wrong(r, n, "a list of accounts is expected here");
    e->accounts = take(r, (size_t)(n->data.sequence.items.top - n->data.sequence.items.start + 1) *
                              sizeof *e->accounts);
    for (i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
        const yaml_node_t *name = yaml_document_get_node(&r->doc, *i);

        if (!is_text(name))
            return wrong(r, n, "an account's name is expected here");
        e->accounts[e->accounts_n++] = kept(r, name);
    }
    return ERR_OK;
}

static enum err subject_part(struct reading *r, const yaml_node_t *value, struct slice *out)
{
    if (!is_text(value) || !subject_valid(text_of(value)) || out->len)
        return wrong(r, value, "one subject is expected here");
    *out = kept(r, value);
    return ERR_OK;
}

static enum err export_part(struct reading *r, void *arg, const yaml_node_t *key,
                            yaml_node_t *value)
{
    struct nexport *e = arg;
    struct slice name = text_of(key);

    if (slice_eq_str(name, "service") || slice_eq_str(name, "stream")) {
        e->service = slice_eq_str(name, "service");
        return subject_part(r, value, &e->subject);
    }
    if (slice_eq_str(name, "accounts"))
        return names(r, e, value);
    return wrong(r, key, "only service, stream and accounts are known here");
}

static enum err export_add(struct reading *r, struct naccount *of, const yaml_node_t *n)
{
    struct nusers *u = r->u;
    struct nexport *e;
    enum err err;

    if (u->exports_n == IMPORTS_MAX)
        return wrong(r, n, "too many exports");
    if (u->exports_n == u->exports_cap) {
        u->exports_cap = u->exports_cap ? u->exports_cap * 2 : 8;
        u->exports = xrealloc(u->exports, u->exports_cap * sizeof *u->exports);
    }
    e = &u->exports[u->exports_n++];
    *e = (struct nexport){.of = of};
    err = each(r, n, export_part, e);
    return err || e->subject.len ? err : wrong(r, n, "an export has a service or a stream");
}

struct import_of {
    struct nimport *im;
    struct slice prefix;
};

static enum err import_part(struct reading *r, void *arg, const yaml_node_t *key,
                            yaml_node_t *value)
{
    struct import_of *a = arg;
    struct slice name = text_of(key);

    if (slice_eq_str(name, "service") || slice_eq_str(name, "stream")) {
        a->im->service = slice_eq_str(name, "service");
        return subject_part(r, value, &a->im->subject);
    }
    if (slice_eq_str(name, "to"))
        return subject_part(r, value, &a->im->to);
    if (slice_eq_str(name, "prefix"))
        return subject_part(r, value, &a->prefix);
    if (!slice_eq_str(name, "account"))
        return wrong(r, key, "only service, stream, account, to and prefix are known here");
    if (!is_text(value))
        return wrong(r, value, "an account's name is expected here");
    a->im->from = r->account(r->arg, (const char *)kept(r, value).ptr);
    return ERR_OK;
}

static struct slice prefixed(struct reading *r, struct slice prefix, struct slice subject)
{
    uint8_t *p = take(r, prefix.len + subject.len + 1);

    memcpy(p, prefix.ptr, prefix.len);
    p[prefix.len] = '.';
    memcpy(p + prefix.len + 1, subject.ptr, subject.len);
    return slice_of(p, prefix.len + subject.len + 1);
}

static enum err import_add(struct reading *r, struct naccount *into, const yaml_node_t *n)
{
    struct nusers *u = r->u;
    struct import_of a = {0};
    enum err e;

    if (u->imports_n == IMPORTS_MAX)
        return wrong(r, n, "too many imports");
    if (u->imports_n == u->imports_cap) {
        u->imports_cap = u->imports_cap ? u->imports_cap * 2 : 8;
        u->imports = xrealloc(u->imports, u->imports_cap * sizeof *u->imports);
    }
    a.im = &u->imports[u->imports_n++];
    *a.im = (struct nimport){.into = into, .into_name = r->name, .line = n->start_mark.line + 1};
    if ((e = each(r, n, import_part, &a)))
        return e;
    if (!a.im->subject.len || !a.im->from || a.im->from == into || (a.im->to.len && a.prefix.len) ||
        subject_has_wildcard(a.prefix))
        return wrong(r, n,
                     "an import has a service or a stream, another account, and `to` or a prefix");
    if (a.prefix.len)
        a.im->to = prefixed(r, a.prefix, a.im->subject);
    else if (!a.im->to.len)
        a.im->to = a.im->subject;
    if (!subject_maps(a.im->subject, a.im->to))
        return wrong(r, n, "`to` has the wildcards of the subject, in their order");
    return ERR_OK;
}

/* ---- what is the account's ---- */

struct of_account {
    struct naccount *account;
    uint32_t conns_max, subs_max, payload_max;
    struct nmapping *mappings;
    uint32_t mappings_n;
};

static enum err limit_part(struct reading *r, void *arg, const yaml_node_t *key, yaml_node_t *value)
{
    struct of_account *o = arg;
    const struct {
        const char *name;
        uint32_t *to;
    } limits[] = {{"max_connections", &o->conns_max},
                  {"max_subscriptions", &o->subs_max},
                  {"max_payload", &o->payload_max}};
    unsigned i;

    for (i = 0; i < 3 && !slice_eq_str(text_of(key), limits[i].name);)
        i++;
    if (i == 3)
        return wrong(r, key,
                     "only max_connections, max_subscriptions and max_payload are known here");
    if (!is_text(value) || !number(text_of(value), LIMIT_MOST, limits[i].to) || !*limits[i].to)
        return wrong(r, value, "a number of at least 1 is expected here");
    return ERR_OK;
}

/* "80%", "80". */
static enum err weight_part(struct reading *r, void *arg, const yaml_node_t *key,
                            yaml_node_t *value)
{
    struct nmapped *m = arg;
    struct slice s = is_text(value) ? text_of(value) : SLICE_NULL;

    if (slice_eq_str(text_of(key), "destination") && s.len) {
        m->to = kept(r, value);
        return ERR_OK;
    }
    if (!slice_eq_str(text_of(key), "weight"))
        return wrong(r, key, "only destination and weight are known here");
    if (s.len && s.ptr[s.len - 1] == '%')
        s.len--;
    return number(s, 100, &m->upto) ? ERR_OK : wrong(r, value, "0 to 100 % are expected here");
}

/* Destinations with weights, which are summed up. */
static enum err mapped_list(struct reading *r, struct nmapping *m, const yaml_node_t *n)
{
    const yaml_node_item_t *i;
    uint32_t sum = 0;
    enum err e = ERR_OK;

    m->v = take(r, (size_t)(n->data.sequence.items.top - n->data.sequence.items.start + 1) *
                       sizeof *m->v);
    for (i = n->data.sequence.items.start; !e && i < n->data.sequence.items.top; i++) {
        struct nmapped *x = &m->v[m->n++];

        *x = (struct nmapped){.upto = 100};
        e = each(r, yaml_document_get_node(&r->doc, *i), weight_part, x);
        sum += x->upto;
        x->upto = sum;
    }
    return !e && (sum > 100 || !m->n) ? wrong(r, n, "weights are 100 % at most, in all") : e;
}

static enum err mapping_part(struct reading *r, void *arg, const yaml_node_t *key,
                             yaml_node_t *value)
{
    struct of_account *o = arg;
    struct nmapping *m = &o->mappings[o->mappings_n++];
    enum err e = ERR_OK;
    uint32_t i;

    *m = (struct nmapping){.from = kept(r, key)};
    if (is_text(value)) {
        m->v = take(r, sizeof *m->v);
        *m->v = (struct nmapped){.to = kept(r, value), .upto = 100};
        m->n = 1;
    } else if (value->type == YAML_SEQUENCE_NODE) {
        e = mapped_list(r, m, value);
    } else {
        e = wrong(r, value, "a subject, or a list of destinations, is expected here");
    }
    if (!e && !subject_valid(m->from))
        e = wrong(r, key, "a subject is expected here");
    for (i = 0; !e && i < m->n; i++)
        if (!jtransform_valid(m->from, m->v[i].to))
            e = wrong(r, value, "this is no subject that can be made of what is mapped");
    return e;
}

static enum err mappings(struct reading *r, struct of_account *o, const yaml_node_t *n)
{
    if (n->type != YAML_MAPPING_NODE)
        return wrong(r, n, "subjects with destinations are expected here");
    if (o->mappings)
        return wrong(r, n, "mappings are there twice");
    o->mappings = take(r, (size_t)(n->data.mapping.pairs.top - n->data.mapping.pairs.start + 1) *
                              sizeof *o->mappings);
    return each(r, n, mapping_part, o);
}

/* Users have what is said of their account. */
static void users_fill(struct nusers *us, const struct of_account *o)
{
    struct nuser *u;

    for (u = us->v; u < us->v + us->n; u++)
        if (u->account == o->account) {
            u->conns_max = o->conns_max;
            u->subs_max = o->subs_max;
            u->payload_max = o->payload_max;
            u->mappings = o->mappings;
            u->mappings_n = o->mappings_n;
        }
}

static enum err account_part(struct reading *r, void *arg, const yaml_node_t *key,
                             yaml_node_t *value)
{
    static const struct {
        const char *name;
        enum err (*add)(struct reading *r, struct naccount *account, const yaml_node_t *n);
    } parts[] = {{"users", user}, {"exports", export_add}, {"imports", import_add}};
    struct of_account *o = arg;
    const yaml_node_item_t *i;
    enum err e = ERR_OK;
    unsigned k;

    if (slice_eq_str(text_of(key), "limits"))
        return each(r, value, limit_part, o);
    if (slice_eq_str(text_of(key), "mappings"))
        return mappings(r, o, value);
    for (k = 0; k < 3 && !slice_eq_str(text_of(key), parts[k].name);)
        k++;
    if (k == 3)
        return wrong(r, key, "only users, exports, imports, limits and mappings are known here");
    if (value->type != YAML_SEQUENCE_NODE)
        return wrong(r, value, k ? "a list is expected here" : "a list of users is expected here");
    for (i = value->data.sequence.items.start; !e && i < value->data.sequence.items.top; i++)
        e = parts[k].add(r, o->account, yaml_document_get_node(&r->doc, *i));
    return e;
}

static enum err account(struct reading *r, void *arg, const yaml_node_t *key, yaml_node_t *value)
{
    struct slice name = kept(r, key);

    struct of_account o = {.account = NULL};
    enum err e;

    (void)arg;
    r->name = (const char *)name.ptr;
    o.account = r->account(r->arg, r->name);
    e = each(r, value, account_part, &o);
    users_fill(r->u, &o);
    return e;
}

/* A token, or the name of a file with one. */
static enum err operator_part(struct reading *r, const yaml_node_t *value)
{
    struct slice text = is_text(value) ? text_of(value) : SLICE_NULL;
    struct errinfo why = {0};
    struct buf file;
    enum err e = ERR_OK;

    buf_init(&file, TOKEN_FILE_MAX);
    if (!text.len)
        e = errinfo_set(&why, ERR_CONFIG, "a token, or a file with one, is expected here");
    else if (!njwt_within(text).len)
        e = io_text(r->io, (const char *)kept(r, value).ptr, &file, &why);
    if (!e)
        e = noperator_new(file.len ? buf_slice(&file) : text, &r->u->op, &why);
    buf_fini(&file);
    return e ? wrong(r, value, why.text) : ERR_OK;
}

static enum err preload_part(struct reading *r, void *arg, const yaml_node_t *key,
                             yaml_node_t *value)
{
    struct errinfo why = {0};

    (void)arg;
    if (!r->u->op)
        return wrong(r, key, "operator comes before resolver_preload");
    if (!is_text(value))
        return wrong(r, value, "an account's token is expected here");
    if (noperator_add(r->u->op, text_of(key), text_of(value), r->account, r->arg, &why))
        return wrong(r, key, why.text);
    return ERR_OK;
}

static enum err top_part(struct reading *r, void *arg, const yaml_node_t *key, yaml_node_t *value)
{
    (void)arg;
    if (slice_eq_str(text_of(key), "accounts"))
        return each(r, value, account, NULL);
    if (slice_eq_str(text_of(key), "operator"))
        return operator_part(r, value);
    if (slice_eq_str(text_of(key), "resolver_preload"))
        return each(r, value, preload_part, NULL);
    if (slice_eq_str(text_of(key), "resolver") && is_text(value) &&
        slice_eq_str(text_of(value), "MEMORY"))
        return ERR_OK;
    if (slice_eq_str(text_of(key), "system_account")) {
        if (!is_text(value) || !text_of(value).len)
            return wrong(r, value, "an account's name is expected here");
        r->u->system = r->account(r->arg, (const char *)kept(r, value).ptr);
        return ERR_OK;
    }
    if (!slice_eq_str(text_of(key), "no_auth_user"))
        return wrong(r, key,
                     "only accounts, system_account, no_auth_user, operator and resolver_preload "
                     "are known here");
    if (!is_text(value))
        return wrong(r, value, "a user's name is expected here");
    r->u->guest_name = kept(r, value);
    return ERR_OK;
}

static enum err document(struct reading *r)
{
    yaml_node_t *root = yaml_document_get_root_node(&r->doc);
    struct nusers *u = r->u;
    const char *why;
    size_t line;
    uint32_t i;
    enum err e;

    if (!root)
        return errinfo_set(r->info, ERR_CONFIG, "%s is empty", r->path);
    if ((e = each(r, root, top_part, NULL)))
        return e;
    for (i = 0; u->guest_name.len && i < u->n; i++)
        if (slice_eq(u->v[i].name, u->guest_name))
            u->guest = &u->v[i];
    if (u->op && u->n)
        return errinfo_set(r->info, ERR_CONFIG, "%s: with an operator, accounts are its", r->path);
    if (u->op && !u->system && noperator_system(u->op).len == NKEY_TEXT) {
        char name[NKEY_TEXT + 1];

        snprintf(name, sizeof name, "%s", (const char *)noperator_system(u->op).ptr);
        u->system = r->account(r->arg, name);
    }
    if (nimports_check(u->exports, u->exports_n, u->imports, u->imports_n, &line, &why))
        return errinfo_set(r->info, ERR_CONFIG, "%s, line %zu: %s", r->path, line, why);
    if (u->guest_name.len && !u->guest)
        return errinfo_set(r->info, ERR_CONFIG, "%s: no_auth_user names no user", r->path);
    return ERR_OK;
}

static enum err text_read(struct reading *r, struct slice text)
{
    yaml_parser_t p;
    enum err e;

    if (!yaml_parser_initialize(&p))
        return ERR_NO_MEMORY;
    yaml_parser_set_input_string(&p, text.ptr, text.len);
    if (yaml_parser_load(&p, &r->doc)) {
        e = document(r);
        yaml_document_delete(&r->doc);
    } else {
        e = errinfo_set(r->info, ERR_CONFIG, "%s, line %zu: %s", r->path, p.problem_mark.line + 1,
                        p.problem ? p.problem : "this is not YAML");
    }
    yaml_parser_delete(&p);
    return e;
}

enum err nusers_read(struct io *io, const char *path,
                     struct naccount *(*account_of)(void *arg, const char *name), void *arg,
                     struct nusers **out, struct errinfo *info)
{
    struct nusers *u = xcalloc(1, sizeof *u);
    struct reading r = {
        .io = io, .u = u, .path = path, .info = info, .account = account_of, .arg = arg};
    struct buf text;
    enum err e;

    atomic_init(&u->refs, 1);
    arena_init(&u->text, 4096, TEXT_MAX);
    buf_init(&text, FILE_MAX + 1);
    e = io_text(io, path, &text, info);
    if (!e)
        e = text_read(&r, buf_slice(&text));
    if (text.ptr)
        OPENSSL_cleanse(text.ptr, text.cap);
    buf_fini(&text);
    if (e)
        nusers_unref(&u);
    *out = u;
    return e;
}

struct nusers *nusers_ref(struct nusers *u)
{
    if (u)
        atomic_fetch_add(&u->refs, 1);
    return u;
}

void nusers_unref(struct nusers **up)
{
    struct nusers *u = *up;

    *up = NULL;
    if (!u || atomic_fetch_sub(&u->refs, 1) != 1)
        return;
    noperator_free(&u->op);
    free(u->exports);
    free(u->imports);
    arena_fini(&u->text);
    free(u->v);
    free(u);
}

/* ---- finding ---- */

static bool same(struct slice a, struct slice b)
{
    return a.len == b.len && CRYPTO_memcmp(a.ptr, b.ptr, a.len) == 0;
}

const struct nuser *nusers_by_password(const struct nusers *u, struct slice name,
                                       struct slice password)
{
    const struct nuser *found = NULL;
    uint32_t i;

    for (i = 0; i < u->n; i++) /* all of them: how long it takes tells nothing */
        if (u->v[i].name.len && same(u->v[i].name, name) && same(u->v[i].password, password))
            found = &u->v[i];
    return found;
}

const struct nuser *nusers_by_token(const struct nusers *u, struct slice token)
{
    const struct nuser *found = NULL;
    uint32_t i;

    for (i = 0; token.len && i < u->n; i++)
        if (u->v[i].token.len && same(u->v[i].token, token))
            found = &u->v[i];
    return found;
}

const struct nuser *nusers_by_nkey(const struct nusers *u, struct slice nkey, struct slice nonce,
                                   struct slice sig)
{
    uint8_t key[32];
    uint32_t i;

    if (!nkey_read(nkey, NKEY_USER, key))
        return NULL;
    for (i = 0; i < u->n; i++)
        if (u->v[i].has_nkey && memcmp(u->v[i].nkey, key, sizeof key) == 0)
            return nkey_signed(key, nonce, sig) ? &u->v[i] : NULL;
    return NULL;
}

uint32_t nusers_imports(const struct nusers *u, const struct nimport **out)
{
    *out = u->imports;
    return u->imports_n;
}

const struct noperator *nusers_operator(const struct nusers *u)
{
    return u->op;
}

struct naccount *nusers_system(const struct nusers *u)
{
    return u->system;
}

const struct nuser *nusers_guest(const struct nusers *u)
{
    return u->guest;
}

const struct nuser *nusers_same(const struct nusers *u, const struct nuser *of)
{
    uint32_t i;

    if (of->name.len)
        return nusers_by_password(u, of->name, of->password);
    if (of->token.len)
        return nusers_by_token(u, of->token);
    for (i = 0; i < u->n; i++)
        if (u->v[i].has_nkey && memcmp(u->v[i].nkey, of->nkey, sizeof of->nkey) == 0)
            return &u->v[i];
    return NULL;
}

/* ---- mappings ---- */

bool nuser_map(const struct nuser *u, struct slice subject, uint64_t drawn, struct buf *out)
{
    const struct nmapping *m = u->mappings, *end = m + u->mappings_n;
    uint32_t i;

    while (m < end && !subject_match(m->from, subject))
        m++;
    if (m == end)
        return false;
    for (i = 0; i < m->n; i++)
        if (drawn % 100 < m->v[i].upto)
            return jtransform_apply(m->from, m->v[i].to, subject, out) &&
                   subject_literal(buf_slice(out));
    return false;
}

/* ---- permissions ---- */

bool nrule_permits(const struct nrule *r, struct slice pattern)
{
    bool allowed = r->allow_all;
    uint32_t i;

    for (i = 0; !allowed && i < r->allow.n; i++)
        allowed = subject_covers(r->allow.v[i], pattern);
    for (i = 0; allowed && i < r->deny.n; i++)
        allowed = !subject_covers(r->deny.v[i], pattern);
    return allowed;
}

bool nrule_denies(const struct nrule *r, struct slice pattern)
{
    uint32_t i;

    for (i = 0; i < r->deny.n; i++)
        if (subjects_meet(r->deny.v[i], pattern))
            return true;
    return false;
}
