/* See jwt.h. Tokens are kept as the JSON that they are; what a user may do is made of it once, when it
 * logs in. Source: nats-io/jwt v2 (claims), nats-server's auth.go (what is checked in which order). */
#include "proto/nats/jwt.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "base/arena.h"
#include "base/mem.h"
#include "base/subject.h"
#include "proto/nats/nkey.h"

#define TOKEN_MAX   (256u << 10)
#define LOGIN_TEXT  (1u << 20) /* bytes of what a user may do */
#define KEYS_MAX    128u
#define DAY_S       86400
#define PATTERN_MAX 1024u
#define TAGS_EACH   64u /* patterns that one template makes */

struct claims {
    struct claims *next;
    json_t *json;
    struct naccount *account;
    struct slice id; /* in json */
};

struct noperator {
    json_t *json;
    struct claims *accounts;
};

struct nlogin {
    struct nuser user;
    struct arena text;
    char issuer[NKEY_TEXT + 1], account[NKEY_TEXT + 1], id[NKEY_TEXT + 1];
    int64_t issued_s, conns_max;
};

/* ---- JSON ---- */

static struct slice text_at(const json_t *o, const char *name)
{
    json_t *v = json_object_get(o, name);

    return json_is_string(v) ? slice_of(json_string_value(v), json_string_length(v)) : SLICE_NULL;
}

static int64_t number_at(const json_t *o, const char *name, int64_t otherwise)
{
    json_t *v = json_object_get(o, name);

    return json_is_integer(v) ? (int64_t)json_integer_value(v) : otherwise;
}

static bool true_at(const json_t *o, const char *name)
{
    return json_is_true(json_object_get(o, name));
}

static json_t *nats_of(const json_t *claims)
{
    return json_object_get(claims, "nats");
}

/* ---- tokens ---- */

struct slice njwt_within(struct slice text)
{
    size_t i, from;

    for (i = 0; i + 3 < text.len; i++)
        if ((i == 0 || text.ptr[i - 1] == '\n') && memcmp(text.ptr + i, "eyJ", 3) == 0) {
            for (from = i; i < text.len && text.ptr[i] > ' ';)
                i++;
            return slice_of(text.ptr + from, i - from);
        }
    return SLICE_NULL;
}

static bool cut(struct slice *rest, struct slice *part)
{
    const uint8_t *dot = rest->len ? memchr(rest->ptr, '.', rest->len) : NULL;

    if (!dot)
        return false;
    *part = slice_of(rest->ptr, (size_t)(dot - rest->ptr));
    *rest = slice_of(dot + 1, rest->len - part->len - 1);
    return true;
}

static json_t *json_part(struct slice part)
{
    uint8_t *bytes = xmalloc(part.len + 4);
    size_t n;
    json_t *o = NULL;

    if (base64url_read(part, bytes, part.len, &n))
        o = json_loadb((const char *)bytes, n, 0, NULL);
    free(bytes);
    return o;
}

/* The claims of a token of this type, whose signature is its issuer's, a key of that kind. NULL: it is
 * none. */
static json_t *claims_read(struct slice token, const char *type, uint8_t issuer_kind)
{
    struct slice rest = token, head, body, sig;
    json_t *h, *c = NULL;
    uint8_t key[32];

    if (token.len > TOKEN_MAX || !cut(&rest, &head) || !cut(&rest, &body))
        return NULL;
    sig = rest;
    h = json_part(head);
    if (slice_eq_str(text_at(h, "alg"), "ed25519-nkey"))
        c = json_part(body);
    json_decref(h);
    if (!slice_eq_str(text_at(nats_of(c), "type"), type) ||
        number_at(nats_of(c), "version", 0) != 2 ||
        !nkey_read(text_at(c, "iss"), issuer_kind, key) ||
        !nkey_signed(key, slice_of(token.ptr, head.len + 1 + body.len), sig)) {
        json_decref(c);
        return NULL;
    }
    return c;
}

/* Whether a list of keys, or of objects with one, has this key; the object of it, NULL for a plain one. */
static bool key_listed(const json_t *list, struct slice key, const json_t **scope)
{
    size_t i, n = json_array_size(list);

    if (scope)
        *scope = NULL;
    for (i = 0; i < n && i < KEYS_MAX; i++) {
        const json_t *v = json_array_get(list, i);
        struct slice k = json_is_string(v) ? slice_of(json_string_value(v), json_string_length(v))
                                           : text_at(v, "key");

        if (!slice_eq(k, key))
            continue;
        if (scope && json_is_object(v))
            *scope = v;
        return true;
    }
    return false;
}

static bool expired(const json_t *claims, int64_t now_ms)
{
    int64_t exp = number_at(claims, "exp", 0), from = number_at(claims, "nbf", 0);

    return (exp && exp <= now_ms / 1000) || (from && from > now_ms / 1000);
}

/* ---- the operator and accounts ---- */

enum err noperator_new(struct slice text, struct noperator **out, struct errinfo *info)
{
    struct noperator *op = xcalloc(1, sizeof *op);
    struct slice issuer;

    op->json = claims_read(njwt_within(text), "operator", NKEY_OPERATOR);
    issuer = text_at(op->json, "iss");
    if (!op->json ||
        (!slice_eq(issuer, text_at(op->json, "sub")) &&
         !key_listed(json_object_get(nats_of(op->json), "signing_keys"), issuer, NULL))) {
        noperator_free(&op);
        return errinfo_set(info, ERR_CONFIG,
                           "the operator's token is not one, or not signed by it");
    }
    *out = op;
    return ERR_OK;
}

void noperator_free(struct noperator **opp)
{
    struct noperator *op = *opp;
    struct claims *c;

    *opp = NULL;
    if (!op)
        return;
    while ((c = op->accounts)) {
        op->accounts = c->next;
        json_decref(c->json);
        free(c);
    }
    json_decref(op->json);
    free(op);
}

static bool operator_signs(const struct noperator *op, struct slice issuer)
{
    const json_t *nats = nats_of(op->json);

    return key_listed(json_object_get(nats, "signing_keys"), issuer, NULL) ||
           (!true_at(nats, "strict_signing_key_usage") &&
            slice_eq(issuer, text_at(op->json, "sub")));
}

enum err noperator_add(struct noperator *op, struct slice key, struct slice token,
                       struct naccount *(*account)(void *arg, const char *name), void *arg,
                       struct errinfo *info)
{
    json_t *json = claims_read(njwt_within(token), "account", NKEY_OPERATOR);
    char name[NKEY_TEXT + 1];
    struct claims *c;

    if (!json || key.len != NKEY_TEXT || !slice_eq(text_at(json, "sub"), key) ||
        !operator_signs(op, text_at(json, "iss"))) {
        json_decref(json);
        return errinfo_set(info, ERR_CONFIG,
                           "the token of %.*s is not that account's, or not signed by the operator",
                           (int)(key.len < 80 ? key.len : 80), (const char *)key.ptr);
    }
    snprintf(name, sizeof name, "%.*s", (int)key.len, (const char *)key.ptr);
    c = xcalloc(1, sizeof *c);
    c->json = json;
    c->id = text_at(json, "sub");
    c->account = account(arg, name);
    c->next = op->accounts;
    op->accounts = c;
    return ERR_OK;
}

struct slice noperator_system(const struct noperator *op)
{
    return text_at(nats_of(op->json), "system_account");
}

static const struct claims *account_find(const struct noperator *op, struct slice id)
{
    const struct claims *c = op->accounts;

    while (c && !slice_eq(c->id, id))
        c = c->next;
    return c;
}

/* ---- what is checked of a user ---- */

static bool revoked(const json_t *account, struct slice id, int64_t issued_s)
{
    const json_t *r = json_object_get(nats_of(account), "revocations");
    char name[NKEY_TEXT + 1];

    snprintf(name, sizeof name, "%.*s", (int)id.len, (const char *)id.ptr);
    return number_at(r, name, -1) >= issued_s || number_at(r, "*", -1) >= issued_s;
}

static bool connection_allowed(const json_t *limits, bool websocket)
{
    const json_t *types = json_object_get(limits, "allowed_connection_types");
    size_t i, n = json_array_size(types);

    for (i = 0; i < n; i++) {
        const char *t = json_string_value(json_array_get(types, i));

        if (t && strcasecmp(t, websocket ? "WEBSOCKET" : "STANDARD") == 0)
            return true;
    }
    return n == 0;
}

/* "192.168.0.0/16", "::1/128". */
static bool network_has(const char *text, size_t len, const uint8_t ip[16])
{
    static const uint8_t v4[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    uint8_t net[16];
    char t[64], *slash, *end;
    unsigned long bits;
    unsigned i;

    if (len >= sizeof t)
        return false;
    memcpy(t, text, len);
    t[len] = '\0';
    if (!(slash = strchr(t, '/')))
        return false;
    *slash = '\0';
    bits = strtoul(slash + 1, &end, 10);
    memcpy(net, v4, sizeof v4);
    if (inet_pton(AF_INET, t, net + 12) == 1)
        bits += 96;
    else if (inet_pton(AF_INET6, t, net) != 1)
        return false;
    if (*end || end == slash + 1 || bits > 128)
        return false;
    for (i = 0; i < bits; i++)
        if (((net[i / 8] ^ ip[i / 8]) >> (7 - i % 8)) & 1)
            return false;
    return true;
}

/* A list, or a text with commas. */
static bool source_allowed(const json_t *limits, const uint8_t *ip)
{
    const json_t *src = json_object_get(limits, "src");
    const char *at = json_string_value(src);
    size_t i, n = json_array_size(src);

    if (!n && (!at || !*at))
        return true;
    if (!ip)
        return false;
    for (i = 0; i < n; i++) {
        const json_t *v = json_array_get(src, i);

        if (json_is_string(v) && network_has(json_string_value(v), json_string_length(v), ip))
            return true;
    }
    for (; at && *at; at += n + strspn(at + n, ", ")) {
        n = strcspn(at, ", ");
        if (network_has(at, n, ip))
            return true;
    }
    return false;
}

static bool clock_read(struct slice s, int *seconds)
{
    int h, m, sec, used = 0;
    char t[16];

    if (s.len >= sizeof t)
        return false;
    snprintf(t, sizeof t, "%.*s", (int)s.len, (const char *)s.ptr);
    if (sscanf(t, "%2d:%2d:%2d%n", &h, &m, &sec, &used) != 3 || (size_t)used != s.len)
        return false;
    *seconds = h * 3600 + m * 60 + sec;
    return h >= 0 && h < 24 && m >= 0 && m < 60 && sec >= 0 && sec < 60;
}

/* Whether it is one of the times; *left_s: for how long yet, 0 for ever. */
static bool time_allowed(const json_t *limits, int64_t now_ms, int64_t *left_s)
{
    const json_t *times = json_object_get(limits, "times");
    struct slice zone = text_at(limits, "times_location");
    size_t i, n = json_array_size(times);
    time_t now = (time_t)(now_ms / 1000);
    struct tm t;
    int at, from, to;

    *left_s = 0;
    if (!n)
        return true;
    if (slice_eq_str(zone, "Local"))
        localtime_r(&now, &t);
    else if (!zone.len || slice_eq_str(zone, "UTC"))
        gmtime_r(&now, &t);
    else
        return false; /* other zones are not known here */
    at = t.tm_hour * 3600 + t.tm_min * 60 + t.tm_sec;
    for (i = 0; i < n; i++) {
        const json_t *v = json_array_get(times, i);

        if (!clock_read(text_at(v, "start"), &from) || !clock_read(text_at(v, "end"), &to))
            return false;
        if (to < from) /* over midnight */
            to += DAY_S;
        if ((at >= from && at < to) || (at + DAY_S >= from && at + DAY_S < to)) {
            *left_s = (to - at) % DAY_S;
            return true;
        }
    }
    return false;
}

/* ---- what a user may do ---- */

struct filling {
    struct nlogin *l;
    const json_t *user, *account; /* claims */
    bool templates;               /* patterns have {{…}} */
    bool bad;                     /* something does not fit */
};

static struct slice kept(struct filling *f, struct slice s)
{
    uint8_t *p = arena_alloc(&f->l->text, s.len + 1);

    if (!p) {
        f->bad = true;
        return SLICE_NULL;
    }
    memcpy(p, s.ptr, s.len);
    p[s.len] = '\0';
    return slice_of(p, s.len);
}

static void pattern_add(struct filling *f, struct npatterns *p, uint32_t cap, struct slice s)
{
    if (!subject_valid(s) || p->n >= cap) {
        f->bad = true;
        return;
    }
    p->v[p->n] = kept(f, s);
    p->n++;
}

/* What `name()` of a template stands for; the i-th, for tags. Nothing: there is none. */
static struct slice template_value(const struct filling *f, struct slice name, size_t i)
{
    const json_t *tags = NULL;
    size_t k, n, prefix;

    if (slice_eq_str(name, "name()"))
        return i ? SLICE_NULL : text_at(f->user, "name");
    if (slice_eq_str(name, "subject()"))
        return i ? SLICE_NULL : text_at(f->user, "sub");
    if (slice_eq_str(name, "account-name()"))
        return i ? SLICE_NULL : text_at(f->account, "name");
    if (slice_eq_str(name, "account-subject()"))
        return i ? SLICE_NULL : text_at(f->account, "sub");
    if (slice_has_prefix(name, SLICE_LIT("tag(")))
        tags = json_object_get(nats_of(f->user), "tags");
    else if (slice_has_prefix(name, SLICE_LIT("account-tag(")))
        tags = json_object_get(nats_of(f->account), "tags");
    prefix = slice_has_prefix(name, SLICE_LIT("tag(")) ? 4 : 12;
    for (k = 0, n = json_array_size(tags); k < n && name.len > prefix; k++) {
        const char *t = json_string_value(json_array_get(tags, k));
        size_t len = name.len - prefix - 1; /* without ) */

        if (t && strncasecmp(t, (const char *)name.ptr + prefix, len) == 0 && t[len] == ':' && !i--)
            return slice_str(t + len + 1);
    }
    return SLICE_NULL;
}

/* A pattern for each way to fill the templates in. False: one cannot be. */
static bool expand(struct filling *f, struct npatterns *p, uint32_t cap, struct slice s)
{
    const uint8_t *open = s.len > 4 ? memmem(s.ptr, s.len, "{{", 2) : NULL, *close;
    struct slice name, value;
    uint8_t text[PATTERN_MAX];
    size_t i, before, after;

    if (!open || !f->templates) {
        pattern_add(f, p, cap, s);
        return true;
    }
    before = (size_t)(open - s.ptr);
    if (!(close = memmem(open, s.len - before, "}}", 2)))
        return false;
    name = slice_of(open + 2, (size_t)(close - open) - 2);
    after = s.len - (size_t)(close - s.ptr) - 2;
    for (i = 0; (value = template_value(f, name, i)).len; i++) {
        if (i == TAGS_EACH || before + value.len + after > sizeof text ||
            memmem(value.ptr, value.len, "{{", 2))
            return false;
        memcpy(text, s.ptr, before);
        memcpy(text + before, value.ptr, value.len);
        memcpy(text + before + value.len, close + 2, after);
        if (!expand(f, p, cap, slice_of(text, before + value.len + after)))
            return false;
    }
    return i != 0;
}

static void patterns_fill(struct filling *f, const json_t *list, struct npatterns *p, bool deny)
{
    size_t i, n = json_array_size(list);
    uint32_t cap = (uint32_t)(n > 10000 ? 10000 : n) * (f->templates ? TAGS_EACH : 1);

    *p = (struct npatterns){0};
    if (!n)
        return;
    p->v = arena_alloc(&f->l->text, cap * sizeof *p->v);
    if (!p->v || n > 10000) {
        f->bad = true;
        return;
    }
    for (i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        struct slice s =
            json_is_string(v) ? slice_of(json_string_value(v), json_string_length(v)) : SLICE_NULL;
        const uint8_t *blank = s.len ? memchr(s.ptr, ' ', s.len) : NULL;

        if (blank && deny)
            s.len =
                (size_t)(blank - s.ptr); /* of a queue group only: all of the subject is denied */
        else if (blank)
            continue; /* … nothing of it is allowed */
        if (!expand(f, p, cap, s) && deny)
            f->bad = true; /* what is to be denied is not known */
    }
}

static void rule_fill(struct filling *f, const json_t *o, struct nrule *r)
{
    patterns_fill(f, json_object_get(o, "allow"), &r->allow, false);
    patterns_fill(f, json_object_get(o, "deny"), &r->deny, true);
    r->allow_all = json_array_size(json_object_get(o, "allow")) == 0;
}

static bool rules_empty(const json_t *p)
{
    const json_t *pub = json_object_get(p, "pub"), *sub = json_object_get(p, "sub");

    return !json_array_size(json_object_get(pub, "allow")) &&
           !json_array_size(json_object_get(pub, "deny")) &&
           !json_array_size(json_object_get(sub, "allow")) &&
           !json_array_size(json_object_get(sub, "deny")) && !json_object_get(p, "resp");
}

static void permissions_fill(struct filling *f, const json_t *limits)
{
    struct nuser *u = &f->l->user;
    const json_t *resp;
    int64_t max, ttl;

    if (rules_empty(limits))
        limits = json_object_get(nats_of(f->account), "default_permissions");
    u->publish.allow_all = u->subscribe.allow_all = true;
    if (!limits || rules_empty(limits))
        return;
    u->limited = true;
    rule_fill(f, json_object_get(limits, "pub"), &u->publish);
    rule_fill(f, json_object_get(limits, "sub"), &u->subscribe);
    if (!(resp = json_object_get(limits, "resp")))
        return;
    max = number_at(resp, "max", 0);
    ttl = number_at(resp, "ttl", 0) / 1000000;
    u->responses = max <= 0 ? 1 : max > 100000 ? 100000 : (uint32_t)max;
    u->response_ms = ttl <= 0 ? 120000 : ttl > INT32_MAX ? INT32_MAX : (uint32_t)ttl;
    u->publish.allow_all = false; /* it answers, and publishes nothing else but what is allowed */
}

/* The smaller one; 0 and less: no limit. */
static uint32_t least(int64_t a, int64_t b)
{
    int64_t v = a <= 0 ? b : b <= 0 ? a : a < b ? a : b;

    return v <= 0 ? 0 : v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

static void limits_fill(struct nlogin *l, const json_t *user, const json_t *account)
{
    const json_t *of_account = json_object_get(nats_of(account), "limits");

    l->user.subs_max = least(number_at(user, "subs", -1), number_at(of_account, "subs", -1));
    l->user.payload_max =
        least(number_at(user, "payload", -1), number_at(of_account, "payload", -1));
    l->conns_max = number_at(of_account, "conn", -1);
}

static int64_t ends(const json_t *user, const json_t *account, int64_t now_ms, int64_t left_s)
{
    int64_t a = number_at(user, "exp", 0), b = number_at(account, "exp", 0),
            c = left_s ? now_ms / 1000 + left_s : 0, v = a;

    if (b && (!v || b < v))
        v = b;
    if (c && (!v || c < v))
        v = c;
    return v * 1000;
}

/* ---- logging in ---- */

/* Fills l in from what was found to be true. */
static bool login_fill(struct nlogin *l, const json_t *user, const struct claims *account,
                       const json_t *limits, bool scoped, const struct njwt_ask *ask)
{
    struct filling f = {.l = l, .user = user, .account = account->json, .templates = scoped};
    struct slice id = text_at(user, "sub");
    int64_t left_s;

    if (!connection_allowed(limits, ask->websocket) || !source_allowed(limits, ask->ip) ||
        !time_allowed(limits, ask->now_ms, &left_s))
        return false;
    l->user.account = account->account;
    l->user.nkey_text = l->user.name = kept(&f, id);
    l->user.ends_ms = ends(user, account->json, ask->now_ms, left_s);
    l->issued_s = number_at(user, "iat", 0);
    snprintf(l->id, sizeof l->id, "%.*s", (int)id.len, (const char *)id.ptr);
    snprintf(l->account, sizeof l->account, "%.*s", (int)account->id.len,
             (const char *)account->id.ptr);
    snprintf(l->issuer, sizeof l->issuer, "%.*s", (int)text_at(user, "iss").len,
             (const char *)text_at(user, "iss").ptr);
    permissions_fill(&f, limits);
    limits_fill(l, limits, account->json);
    return !f.bad;
}

/* The scope of the key that signed, if it has one; false: the account does not know the key. */
static bool issuer_known(const struct claims *account, struct slice issuer, const json_t **scope)
{
    *scope = NULL;
    return slice_eq(issuer, account->id) ||
           key_listed(json_object_get(nats_of(account->json), "signing_keys"), issuer, scope);
}

static bool user_signs(const json_t *user, const struct claims *account, const json_t *limits,
                       const struct njwt_ask *ask)
{
    uint8_t key[32];

    if (true_at(limits, "bearer_token"))
        return !true_at(json_object_get(nats_of(account->json), "limits"), "disallow_bearer");
    return nkey_read(text_at(user, "sub"), NKEY_USER, key) &&
           nkey_signed(key, ask->nonce, ask->sig);
}

static bool login(const struct noperator *op, const json_t *user, const struct njwt_ask *ask,
                  struct nlogin *l)
{
    struct slice issuer = text_at(user, "iss"), of = text_at(nats_of(user), "issuer_account");
    const struct claims *account = account_find(op, of.len ? of : issuer);
    const json_t *scope, *limits = nats_of(user);
    uint8_t key[32];

    if (!account || expired(account->json, ask->now_ms) || expired(user, ask->now_ms) ||
        !issuer_known(account, issuer, &scope) ||
        !nkey_read(text_at(user, "sub"), NKEY_USER, key) ||
        revoked(account->json, text_at(user, "sub"), number_at(user, "iat", 0)))
        return false;
    if (scope) { /* what the user's own token says of it does not count, and must not be there */
        if (!rules_empty(limits) || !slice_eq_str(text_at(scope, "kind"), "user_scope"))
            return false;
        limits = json_object_get(scope, "template");
    }
    return user_signs(user, account, limits, ask) &&
           login_fill(l, user, account, limits, scope != NULL, ask);
}

enum err njwt_login(const struct noperator *op, const struct njwt_ask *ask, struct nlogin **out)
{
    json_t *user = claims_read(ask->jwt, "user", NKEY_ACCOUNT);
    struct nlogin *l = xcalloc(1, sizeof *l);

    arena_init(&l->text, 512, LOGIN_TEXT);
    if (!user || !login(op, user, ask, l))
        nlogin_free(&l);
    json_decref(user);
    *out = l;
    return l ? ERR_OK : ERR_UNAUTHENTICATED;
}

void nlogin_free(struct nlogin **lp)
{
    struct nlogin *l = *lp;

    *lp = NULL;
    if (!l)
        return;
    arena_fini(&l->text);
    free(l);
}

const struct nuser *nlogin_user(const struct nlogin *l)
{
    return &l->user;
}

int64_t nlogin_conns_max(const struct nlogin *l)
{
    return l->conns_max;
}

bool nlogin_valid(const struct nlogin *l, const struct noperator *op, int64_t now_ms)
{
    const struct claims *account = op ? account_find(op, slice_str(l->account)) : NULL;
    const json_t *scope;

    return account && (!l->user.ends_ms || now_ms < l->user.ends_ms) &&
           !expired(account->json, now_ms) && issuer_known(account, slice_str(l->issuer), &scope) &&
           !revoked(account->json, slice_str(l->id), l->issued_s);
}
