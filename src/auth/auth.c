/* Bearer tokens. See auth.h.
 *
 * Invariants: a table never changes once it is published; auth->table is the newest one; generation
 * grows after table has changed. Lock: auth->lock guards table and its replacement; it is held for
 * pointer work and copies of at most tokens_max entries, never while calling the broker. */
#include "auth/auth.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/assert.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/broker.h"
#include "io/io.h"
#include "io/thread.h"

#define NS       "token"
#define SALT_KEY "salt"
#define ID_KEY   "id:"
#define SALT_LEN 32
/* A stored token at most: its name and prefixes may be bytes that JSON writes as six (\u0001). */
#define JSON_BYTES (256 + 6 * AUTH_NAME_MAX + AUTH_GRANTS_MAX * (64 + 6 * AUTH_PREFIX_MAX))

_Static_assert(JSON_BYTES < LIMIT_KV_VALUE, "a token fits an item");

struct auth_table {
    atomic_int refs;
    unsigned n;
    struct principal *item;
};

struct auth {
    struct broker *broker;
    bool open;
    unsigned tokens_max;
    uint8_t salt[SALT_LEN];
    struct io_mutex lock;
    struct auth_table *table;    /* lock */
    _Atomic uint64_t generation; /* written with lock */
};

static const struct principal everybody = {
    .grants_n = 1,
    .grants = {{.access = AUTH_READ | AUTH_WRITE | AUTH_ADMIN}},
};

/* ---- tables ---- */

static struct auth_table *table_new(unsigned n)
{
    struct auth_table *t = xcalloc(1, sizeof *t);

    atomic_init(&t->refs, 1);
    t->n = n;
    t->item = xcalloc(n ? n : 1, sizeof *t->item);
    return t;
}

static void table_unref(struct auth_table **t)
{
    if (*t && atomic_fetch_sub(&(*t)->refs, 1) == 1) {
        free((*t)->item);
        free(*t);
    }
    *t = NULL;
}

/* Takes t as the table in force. */
static void table_publish(struct auth *a, struct auth_table *t)
{
    table_unref(&a->table);
    a->table = t;
    atomic_fetch_add(&a->generation, 1);
}

static const struct principal *table_find_id(const struct auth_table *t, struct slice id)
{
    for (unsigned i = 0; i < t->n; i++) {
        if (slice_eq_str(id, t->item[i].id))
            return &t->item[i];
    }
    return NULL;
}

/* Looks at every token whatever it finds, so that the time says nothing. */
static const struct principal *table_find_hash(const struct auth_table *t, const uint8_t hash[32])
{
    const struct principal *found = NULL;

    for (unsigned i = 0; i < t->n; i++) {
        if (CRYPTO_memcmp(t->item[i].hash, hash, 32) == 0)
            found = &t->item[i];
    }
    return found;
}

/* ---- text forms ---- */

static void hash_token(const struct auth *a, struct slice text, uint8_t out[32])
{
    unsigned n = 32;

    ASSERT(HMAC(EVP_sha256(), a->salt, SALT_LEN, text.ptr, text.len, out, &n) && n == 32);
}

const char *auth_access_name(unsigned access)
{
    return access & AUTH_ADMIN ? "admin" : access & AUTH_WRITE ? "write" : "read";
}

static unsigned access_of(const char *name)
{
    if (!name)
        return 0;
    return strcmp(name, "read") == 0    ? AUTH_READ
           : strcmp(name, "write") == 0 ? AUTH_WRITE
           : strcmp(name, "admin") == 0 ? AUTH_ADMIN
                                        : 0;
}

static enum err grants_parse(const json_t *list, struct principal *p, struct errinfo *info)
{
    size_t n = json_array_size(list);

    if (!json_is_array(list) || n == 0 || n > AUTH_GRANTS_MAX)
        return errinfo_set(info, ERR_INVALID, "\"grants\" must be a list of 1 to %d",
                           AUTH_GRANTS_MAX);
    for (size_t i = 0; i < n; i++) {
        const json_t *g = json_array_get(list, i), *prefix = json_object_get(g, "prefix");
        const char *text = prefix ? json_string_value(prefix) : "";
        unsigned access = access_of(json_string_value(json_object_get(g, "access")));

        if (!access)
            return errinfo_set(info, ERR_INVALID,
                               "\"access\" of grant %zu must be read, write or admin", i);
        if (!text || strlen(text) > AUTH_PREFIX_MAX)
            return errinfo_set(info, ERR_INVALID,
                               "\"prefix\" of grant %zu must be text of at most %d bytes", i,
                               AUTH_PREFIX_MAX);
        p->grants[i].access = (uint8_t)access;
        p->grants[i].prefix_len = (uint8_t)strlen(text);
        memcpy(p->grants[i].prefix, text, strlen(text));
    }
    p->grants_n = (unsigned)n;
    return ERR_OK;
}

/* The parts that both a request and a stored token have. */
static enum err principal_parse(const json_t *o, struct principal *p, struct errinfo *info)
{
    const json_t *name = json_object_get(o, "name");

    memset(p, 0, sizeof *p);
    if (!json_is_object(o))
        return errinfo_set(info, ERR_INVALID, "a token is a JSON object");
    if (name && (!json_is_string(name) || json_string_length(name) > AUTH_NAME_MAX))
        return errinfo_set(info, ERR_INVALID, "\"name\" must be text of at most %d bytes",
                           AUTH_NAME_MAX);
    if (name)
        snprintf(p->name, sizeof p->name, "%s", json_string_value(name));
    return grants_parse(json_object_get(o, "grants"), p, info);
}

/* The stored form, malloc'ed. */
static char *principal_text(const struct principal *p)
{
    json_t *o = json_object(), *grants = json_array();
    char hash[65];
    char *text;

    hex_encode(p->hash, 32, hash);
    json_object_set_new(o, "hash", json_string(hash));
    json_object_set_new(o, "name", json_string(p->name));
    json_object_set_new(o, "created_ms", json_integer(p->created_ms));
    for (unsigned i = 0; i < p->grants_n; i++) {
        const struct auth_grant *g = &p->grants[i];
        json_t *one = json_object();

        json_object_set_new(one, "access", json_string(auth_access_name(g->access)));
        json_object_set_new(one, "prefix", json_stringn(g->prefix, g->prefix_len));
        json_array_append_new(grants, one);
    }
    json_object_set_new(o, "grants", grants);
    text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    ASSERT(text && strlen(text) < JSON_BYTES);
    return text;
}

/* ---- opening ---- */

struct loading {
    struct auth *a;
    struct auth_table *t;
    unsigned cap;
    bool salt, bad;
};

static bool load_one(void *arg, struct slice key, struct slice value)
{
    struct loading *l = arg;
    struct principal p;
    const json_t *hash;
    json_error_t why;
    json_t *o;

    if (slice_eq_str(key, SALT_KEY) && value.len == SALT_LEN) {
        memcpy(l->a->salt, value.ptr, SALT_LEN);
        l->salt = true;
        return true;
    }
    if (!slice_has_prefix(key, SLICE_LIT(ID_KEY)) || key.len != strlen(ID_KEY) + AUTH_ID_LEN) {
        l->bad = true;
        return false;
    }
    o = json_loadb((const char *)value.ptr, value.len, 0, &why);
    hash = json_object_get(o, "hash");
    l->bad = principal_parse(o, &p, NULL) != ERR_OK || json_string_length(hash) != 64 ||
             !hex_decode(json_string_value(hash), 32, p.hash);
    p.created_ms = json_integer_value(json_object_get(o, "created_ms"));
    json_decref(o);
    memcpy(p.id, key.ptr + strlen(ID_KEY), AUTH_ID_LEN);
    p.id[AUTH_ID_LEN] = 0;
    if (l->bad)
        return false;
    if (l->t->n == l->cap) {
        l->cap = l->cap * 2 + 8;
        l->t->item = xrealloc(l->t->item, l->cap * sizeof *l->t->item);
    }
    l->t->item[l->t->n++] = p;
    return true;
}

enum err auth_open(struct broker *b, bool open_without_tokens, unsigned tokens_max,
                   struct auth **out, struct errinfo *info)
{
    struct auth *a = xcalloc(1, sizeof *a);
    struct loading l = {.a = a, .t = table_new(0)};

    a->broker = b;
    a->open = open_without_tokens;
    a->tokens_max = tokens_max;
    a->table = l.t;
    atomic_init(&a->generation, 1);
    io_mutex_init(&a->lock);
    kv_each(b, NS, load_one, &l);
    if (l.bad || (l.t->n && !l.salt)) {
        auth_close(&a);
        return errinfo_set(info, ERR_CORRUPT, "a stored token does not decode");
    }
    if (!l.salt)
        io_random(broker_io(b), a->salt, SALT_LEN);
    *out = a;
    return ERR_OK;
}

void auth_close(struct auth **a)
{
    if (!*a)
        return;
    table_unref(&(*a)->table);
    io_mutex_fini(&(*a)->lock);
    OPENSSL_cleanse((*a)->salt, SALT_LEN);
    free(*a);
    *a = NULL;
}

/* ---- views ---- */

void auth_view_init(struct auth_view *v, struct auth *a)
{
    memset(v, 0, sizeof *v);
    v->auth = a;
}

void auth_view_fini(struct auth_view *v)
{
    table_unref(&v->table);
    OPENSSL_cleanse(v->last_text, sizeof v->last_text);
    v->last = NULL;
}

static void view_refresh(struct auth_view *v)
{
    struct auth *a = v->auth;

    if (v->table && v->generation == atomic_load_explicit(&a->generation, memory_order_acquire))
        return;
    io_mutex_lock(&a->lock);
    table_unref(&v->table);
    v->table = a->table;
    atomic_fetch_add(&v->table->refs, 1);
    v->generation = atomic_load(&a->generation);
    io_mutex_unlock(&a->lock);
    v->last = NULL;
}

struct slice auth_bearer(struct slice h)
{
    if (h.len <= 7 || strncasecmp((const char *)h.ptr, "Bearer ", 7) != 0)
        return SLICE_NULL;
    h = slice_of(h.ptr + 7, h.len - 7);
    while (h.len && *h.ptr == ' ')
        h = slice_of(h.ptr + 1, h.len - 1);
    return h;
}

enum err auth_who(struct auth_view *v, struct slice token, const struct principal **out,
                  struct errinfo *info)
{
    uint8_t hash[32];

    view_refresh(v);
    if (v->table->n == 0 && v->auth->open) {
        *out = &everybody;
        return ERR_OK;
    }
    if (!token.ptr)
        return errinfo_set(info, ERR_UNAUTHENTICATED, "a bearer token is needed");
    if (token.len != AUTH_TOKEN_LEN)
        return errinfo_set(info, ERR_UNAUTHENTICATED, "this is not a known token");
    if (v->last && CRYPTO_memcmp(v->last_text, token.ptr, AUTH_TOKEN_LEN) == 0) {
        *out = v->last;
        return ERR_OK;
    }
    hash_token(v->auth, token, hash);
    *out = table_find_hash(v->table, hash);
    if (!*out)
        return errinfo_set(info, ERR_UNAUTHENTICATED, "this is not a known token");
    v->last = *out;
    memcpy(v->last_text, token.ptr, AUTH_TOKEN_LEN);
    return ERR_OK;
}

static bool grant_has(const struct auth_grant *g, unsigned access)
{
    return (g->access & AUTH_ADMIN) || (g->access & access) == access;
}

bool auth_permits(const struct principal *p, unsigned access, struct slice topic)
{
    size_t fixed = 0;

    while (fixed < topic.len && topic.ptr[fixed] != '*' && topic.ptr[fixed] != '?')
        fixed++;
    for (unsigned i = 0; i < p->grants_n; i++) {
        const struct auth_grant *g = &p->grants[i];

        if (grant_has(g, access) && g->prefix_len <= fixed &&
            memcmp(g->prefix, topic.ptr, g->prefix_len) == 0)
            return true;
    }
    return false;
}

bool auth_permits_all(const struct principal *p, unsigned access)
{
    return auth_permits(p, access, slice_of("", 0));
}

bool auth_permits_any(const struct principal *p, unsigned access)
{
    for (unsigned i = 0; i < p->grants_n; i++) {
        if (grant_has(&p->grants[i], access))
            return true;
    }
    return false;
}

void auth_each(struct auth_view *v, void (*fn)(void *arg, const struct principal *p), void *arg)
{
    view_refresh(v);
    for (unsigned i = 0; i < v->table->n; i++)
        fn(arg, &v->table->item[i]);
}

/* ---- changes ---- */

/* 43 characters of base 62 hold 256 bits; bytes of 248 and above are thrown away (no bias). */
static void token_text(struct io *io, char out[AUTH_TOKEN_LEN + 1])
{
    static const char set[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    size_t n = strlen(AUTH_TOKEN_PREFIX);
    uint8_t raw[64];

    memcpy(out, AUTH_TOKEN_PREFIX, n);
    while (n < AUTH_TOKEN_LEN) {
        io_random(io, raw, sizeof raw);
        for (size_t i = 0; i < sizeof raw && n < AUTH_TOKEN_LEN; i++) {
            if (raw[i] < 248)
                out[n++] = set[raw[i] % 62];
        }
    }
    out[n] = 0;
    OPENSSL_cleanse(raw, sizeof raw);
}

enum err auth_make(struct auth *a, struct slice json, struct principal *p,
                   char text[AUTH_TOKEN_LEN + 1], struct errinfo *info)
{
    json_error_t why;
    json_t *o = json_loadb((const char *)json.ptr, json.len, JSON_REJECT_DUPLICATES, &why);
    uint8_t id[AUTH_ID_LEN / 2];
    enum err e;
    unsigned n;

    if (!o)
        return errinfo_set(info, ERR_CORRUPT_INPUT, "not JSON: %s", why.text);
    e = principal_parse(o, p, info);
    json_decref(o);
    if (e)
        return e;
    io_mutex_lock(&a->lock);
    n = a->table->n;
    io_mutex_unlock(&a->lock);
    if (n == 0 && !auth_permits_all(p, AUTH_ADMIN))
        return errinfo_set(info, ERR_CONFLICT,
                           "the first token must have the grant admin without a prefix");
    if (n >= a->tokens_max)
        return errinfo_set(info, ERR_LIMIT, "there are %u tokens, the most there may be", n);
    token_text(broker_io(a->broker), text);
    p->created_ms = io_wall_ms(broker_io(a->broker));
    hash_token(a, slice_str(text), p->hash);
    io_random(broker_io(a->broker), id, sizeof id);
    hex_encode(id, sizeof id, p->id);
    return ERR_OK;
}

/* A change on its way to the disk. */
struct change {
    struct auth *a;
    struct principal p;
    bool remove;
    auth_done_fn done;
    void *arg;
};

static void change_apply(struct change *c)
{
    struct auth *a = c->a;
    struct auth_table *t;
    unsigned n = 0;

    io_mutex_lock(&a->lock);
    t = table_new(a->table->n + 1);
    for (unsigned i = 0; i < a->table->n; i++) {
        if (strcmp(a->table->item[i].id, c->p.id) != 0)
            t->item[n++] = a->table->item[i];
    }
    if (!c->remove)
        t->item[n++] = c->p;
    t->n = n;
    table_publish(a, t);
    io_mutex_unlock(&a->lock);
}

/* Writer thread. */
static void change_done(void *arg, enum err e, const struct errinfo *info)
{
    struct change *c = arg;

    if (!e)
        change_apply(c);
    c->done(c->arg, e, info);
    free(c);
}

static enum err change_submit(struct auth *a, const struct principal *p, bool removal,
                              auth_done_fn done, void *arg, struct errinfo *info)
{
    struct change *c = xcalloc(1, sizeof *c);
    char key[sizeof ID_KEY + AUTH_ID_LEN];
    char *text = removal ? NULL : principal_text(p);
    enum err e;

    *c = (struct change){.a = a, .p = *p, .remove = removal, .done = done, .arg = arg};
    snprintf(key, sizeof key, ID_KEY "%s", p->id);
    e = kv_put(a->broker, NS, slice_str(key), text ? slice_str(text) : SLICE_NULL, 0, change_done,
               c, info);
    free(text);
    if (e)
        free(c);
    return e;
}

/* The salt was stored, or not: the token that needs it follows it in the log. */
static void salt_done(void *arg, enum err e, const struct errinfo *info)
{
}

enum err auth_put(struct auth *a, const struct principal *p, auth_done_fn done, void *arg,
                  struct errinfo *info)
{
    bool first;
    enum err e = ERR_OK;

    io_mutex_lock(&a->lock);
    first = a->table->n == 0;
    io_mutex_unlock(&a->lock);
    if (first)
        e = kv_put(a->broker, NS, SLICE_LIT(SALT_KEY), slice_of(a->salt, SALT_LEN), 0, salt_done,
                   NULL, info);
    return e ? e : change_submit(a, p, false, done, arg, info);
}

enum err auth_revoke(struct auth *a, struct slice id, auth_done_fn done, void *arg,
                     struct errinfo *info)
{
    const struct principal *found;
    struct principal p;

    io_mutex_lock(&a->lock);
    found = table_find_id(a->table, id);
    if (found)
        p = *found;
    io_mutex_unlock(&a->lock);
    if (!found)
        return errinfo_set(info, ERR_NOT_FOUND, "no token has this id");
    return change_submit(a, &p, true, done, arg, info);
}
