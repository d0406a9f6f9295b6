/* Remote signing. See signer.h.
 *
 * A key is all that was signed, so that an answer never goes with a request that differs from the
 * one it was made for in anything that S3 might check. Requests without a body alone have one: what
 * is put is put once.
 *
 * Lock: s->lock guards the kept answers. */
#include "lake/signer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"
#include "io/thread.h"
#include "lake/json.h"

#define KEY_MAX      16384u
#define ENDPOINT_STD "v1/aws/s3/sign"

struct kept {
    char *key; /* NULL: free */
    json_t *doc;
    uint64_t until_ns;
};

struct signer {
    struct catalog *connection;
    char *url;
    struct io_mutex lock;
    struct kept kept[SIGNER_KEPT];
};

/* ---- making one ---- */

bool signer_wanted(const json_t *said)
{
    const char *on = json_get_text(said, "s3.remote-signing-enabled");

    return on && strcasecmp(on, "true") == 0;
}

static const char *said_of(const json_t *said, const char *name)
{
    const char *v = json_get_text(said, name);

    return v ? v : json_get_text(said, name + strlen("s3.")); /* newer catalogs leave it out */
}

static bool is_http(const char *url)
{
    return strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0;
}

enum err signer_new(struct catalog *connection, const json_t *said, struct signer **out,
                    struct errinfo *info)
{
    const char *base = said_of(said, "s3.signer.uri"), *at = said_of(said, "s3.signer.endpoint");
    const char *catalog = json_get_text(said, "uri");
    char url[SIGNER_URL_MAX + 1];
    struct signer *s;
    size_t n;
    int len;

    base = base ? base : catalog ? catalog : "";
    at = at ? at : ENDPOINT_STD;
    n = strlen(base);
    while (n && base[n - 1] == '/')
        n--;
    if (is_http(at))
        len = snprintf(url, sizeof url, "%s", at);
    else
        len = snprintf(url, sizeof url, "%.*s/%s", (int)n, base, at + strspn(at, "/"));
    if (len < 0 || (size_t)len >= sizeof url || !is_http(url))
        return errinfo_set(info, ERR_UNSUPPORTED,
                           "the catalog names no signer that can be asked: %.150s", url);
    if (catalog && strncmp(catalog, "https:", 6) == 0 && strncmp(url, "https:", 6) != 0)
        return errinfo_set(info, ERR_UNSUPPORTED,
                           "the catalog's signer would get its token without TLS: %.150s", url);
    s = xcalloc(1, sizeof *s);
    s->connection = connection;
    s->url = xstrdup(url);
    io_mutex_init(&s->lock);
    *out = s;
    return ERR_OK;
}

void signer_free(struct signer **sp)
{
    struct signer *s = *sp;

    *sp = NULL;
    if (!s)
        return;
    for (unsigned i = 0; i < SIGNER_KEPT; i++) {
        free(s->kept[i].key);
        json_decref(s->kept[i].doc);
    }
    io_mutex_fini(&s->lock);
    free(s->url);
    free(s);
}

/* ---- what is kept ---- */

/* A new text; NULL: too long to be kept, or nothing that is. */
static char *key_make(const struct signer_request *r)
{
    struct buf b;
    size_t len;
    enum err e;

    if (strcmp(r->method, "GET") != 0 && strcmp(r->method, "HEAD") != 0)
        return NULL;
    buf_init(&b, KEY_MAX);
    e = buf_printf(&b, "%s\n%s\n%s", r->method, r->region, r->url);
    for (unsigned i = 0; !e && i < r->header_n; i++)
        e = buf_printf(&b, "\n%s:%s", r->header[i].name, r->header[i].value);
    e = e ? e : buf_append_u8(&b, 0);
    if (!e)
        return (char *)buf_take(&b, &len);
    buf_fini(&b);
    return NULL;
}

static void kept_drop(struct kept *k)
{
    free(k->key);
    json_decref(k->doc);
    *k = (struct kept){0};
}

/* s->lock is held. */
static struct kept *kept_find(struct signer *s, const char *key)
{
    uint64_t now = io_mono_ns(io_real());

    for (unsigned i = 0; i < SIGNER_KEPT; i++) {
        struct kept *k = &s->kept[i];

        if (k->key && k->until_ns < now)
            kept_drop(k);
        if (k->key && strcmp(k->key, key) == 0)
            return k;
    }
    return NULL;
}

static json_t *kept_get(struct signer *s, const char *key)
{
    struct kept *k;
    json_t *doc = NULL;

    if (!key)
        return NULL;
    io_mutex_lock(&s->lock);
    k = kept_find(s, key);
    if (k)
        doc = json_incref(k->doc);
    io_mutex_unlock(&s->lock);
    return doc;
}

/* In the place of the one that ends first. */
static void kept_put(struct signer *s, const char *key, json_t *doc)
{
    struct kept *to;

    io_mutex_lock(&s->lock);
    to = kept_find(s, key);
    for (unsigned i = 0; !to && i < SIGNER_KEPT; i++)
        to = s->kept[i].key ? NULL : &s->kept[i];
    if (!to) {
        to = &s->kept[0];
        for (unsigned i = 1; i < SIGNER_KEPT; i++)
            to = s->kept[i].until_ns < to->until_ns ? &s->kept[i] : to;
    }
    kept_drop(to);
    to->key = xstrdup(key);
    to->doc = json_incref(doc);
    to->until_ns = io_mono_ns(io_real()) + SIGNER_KEPT_MS * 1000000ull;
    io_mutex_unlock(&s->lock);
}

void signer_forget(struct signer *s, const struct signer_request *r)
{
    char *key = key_make(r);
    struct kept *k;

    if (!key)
        return;
    io_mutex_lock(&s->lock);
    k = kept_find(s, key);
    if (k)
        kept_drop(k);
    io_mutex_unlock(&s->lock);
    free(key);
}

/* ---- asking ---- */

static json_t *question(const struct signer_request *r)
{
    json_t *headers = json_object();

    for (unsigned i = 0; i < r->header_n; i++)
        json_object_set_new(headers, r->header[i].name, json_pack("[s]", r->header[i].value));
    return json_pack("{s:s, s:s, s:s, s:o}", "method", r->method, "uri", r->url, "region",
                     r->region, "headers", headers);
}

/* libcurl makes these itself, and the last is about the answer of the signer. */
static bool not_sent(const char *name)
{
    static const char *const names[] = {"host",       "content-length",    "expect",
                                        "connection", "transfer-encoding", "cache-control"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

static bool name_ok(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");

    return n && n < 100 && !s[n];
}

/* No line's end, or anything else that would change what is sent around it. */
static bool printable(const char *s, size_t most)
{
    size_t n = 0;

    for (; s[n]; n++)
        if ((unsigned char)s[n] < ' ' || s[n] == 127 || n == most)
            return false;
    return true;
}

/* Texts into *out, of its doc. */
static bool answer_read(const struct signer_request *r, struct signer_answer *out)
{
    const json_t *headers = json_object_get(out->doc, "headers");
    const char *name;
    json_t *list;

    out->url = json_get_text(out->doc, "uri");
    if (!out->url || !is_http(out->url) || !printable(out->url, SIGNER_URL_MAX) ||
        (strncmp(r->url, "https:", 6) == 0 && strncmp(out->url, "https:", 6) != 0) ||
        !json_is_object(headers))
        return false;
    json_object_foreach((json_t *)(uintptr_t)headers, name, list)
    {
        const char *value = json_string_value(json_array_get(list, 0));

        if (not_sent(name))
            continue;
        if (!name_ok(name) || !value || json_array_size(list) != 1 ||
            !printable(value, SIGNER_VALUE_MAX) || out->header_n == SIGNER_HEADERS_MAX)
            return false;
        out->header[out->header_n++] = (struct signer_header){name, value};
    }
    return true;
}

/* What the signer's refusals mean for the one who wanted to ask S3. */
static enum err refusal(enum err e)
{
    switch (e) {
    case ERR_NETWORK:
    case ERR_TIMEOUT:
    case ERR_OVERLOADED:
    case ERR_CANCELLED:
    case ERR_UNAUTHENTICATED:
    case ERR_CONFIG:
        return e;
    default:
        return ERR_FORBIDDEN;
    }
}

enum err signer_sign(struct signer *s, const struct signer_request *r, struct signer_answer *out,
                     struct errinfo *info)
{
    char *key = key_make(r);
    struct errinfo why = {0};
    bool keep = false;
    json_t *body;
    enum err e = ERR_OK;

    memset(out, 0, sizeof *out);
    out->doc = kept_get(s, key);
    out->kept = out->doc != NULL;
    if (!out->doc) {
        body = question(r);
        e = body ? catalog_rest_post(s->connection, s->url, body, &out->doc, &keep, &why)
                 : errinfo_set(&why, ERR_INVALID, "a header is not UTF-8");
        json_decref(body);
    }
    if (e)
        e = errinfo_set(info, refusal(e), "the catalog's signer, for %s %.80s: %.150s", r->method,
                        r->url, why.text);
    else if (!answer_read(r, out))
        e = errinfo_set(info, ERR_FORBIDDEN,
                        "the catalog's signer answered %s %.80s with no request", r->method,
                        r->url);
    else if (keep && key)
        kept_put(s, key, out->doc);
    if (e)
        signer_answer_fini(out);
    free(key);
    return e;
}

void signer_answer_fini(struct signer_answer *a)
{
    json_decref(a->doc);
    memset(a, 0, sizeof *a);
}
