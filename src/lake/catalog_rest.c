/* A catalog that is a server of Iceberg's REST protocol: Nessie, Polaris, R2 Data Catalog, another
 * Weir. See catalog.h.
 *
 * Outcomes: what only reads is tried again after failures of the network, 429 and 5xx, with growing
 * pauses. A commit is tried again only where nothing can have happened (no connection, 429, 503).
 * After any other failure it may have, and after any refusal if libcurl sent it twice of itself: then
 * the table is loaded and the commit's snapshot looked for.
 * If it is not there the commit is sent once more: should the first one come to be after all, the
 * requirements make one of the two fail, and the look after that failure finds the snapshot.
 *
 * Lock: r->lock guards all of the connection: one call at a time, which is as much as a topic's
 * commits need. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "io/thread.h"
#include "lake/catalog_int.h"
#include "lake/json.h"
#include "lake/secret.h"

#define TRIES          5u
#define COMMIT_TRIES   3u
#define PAUSE_MS       100u
#define TIMEOUT_MS     30000u
#define PAGE_SIZE      1000
#define PAGES_MAX      100000u
#define PATH_MAX_      2048u
#define URL_MAX_       8192u
#define TOKEN_EARLY_MS 60000 /* a token is renewed so long before its end */
#define TOKEN_MAX      8192u

struct catalog_rest {
    struct catalog c;
    struct catalog_rest_conf conf; /* texts owned */
    struct io_mutex lock;
    CURL *curl;                   /* lock, as all that follows */
    char *uri, *prefix;           /* as config says; prefix NULL: none */
    char *token;                  /* in use; NULL: none yet */
    int64_t token_until;          /* 0: for ever */
    int64_t token_early;          /* renewed so long before, ms */
    json_t *defaults, *overrides; /* config's; constant once ready */
    bool ready;
};

/* What came back. */
struct answer {
    long status; /* 0: none came */
    struct buf body;
    CURLcode failed;
    bool private; /* Cache-Control: private */
    unsigned
        sends; /* libcurl sends again by itself when a kept connection turns out to be closed */
};

static struct catalog_rest *rest_of(struct catalog *c)
{
    return (struct catalog_rest *)(void *)c;
}

static char *dup_or_null(const char *s)
{
    return s && *s ? xstrdup(s) : NULL;
}

/* ---- one request ---- */

static size_t take_body(char *p, size_t size, size_t n, void *arg)
{
    struct answer *a = arg;

    return buf_append(&a->body, p, size * n) ? 0 : size * n;
}

static int watch(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const struct catalog_rest *r = arg;

    return r->conf.stop && *r->conf.stop;
}

static size_t take_header(char *p, size_t size, size_t n, void *arg)
{
    static const char name[] = "cache-control:";
    char line[256];

    snprintf(line, sizeof line, "%.*s", (int)(size * n), p);
    if (strncasecmp(line, name, sizeof name - 1) == 0)
        ((struct answer *)arg)->private = strcasestr(line, "private") && !strcasestr(line, "no-");
    return size * n;
}

static int on_send(void *arg, char *ip, char *local_ip, int port, int local_port)
{
    ((struct answer *)arg)->sends++;
    return CURL_PREREQFUNC_OK;
}

struct sending {
    const char *method, *url, *body; /* body NULL: none */
    const char *media;
    bool authorized;
};

static void send_once(struct catalog_rest *r, const struct sending *s, struct answer *a)
{
    struct curl_slist *h = NULL;
    char line[TOKEN_MAX + 64];

    curl_easy_reset(r->curl);
    curl_easy_setopt(r->curl, CURLOPT_URL, s->url);
    curl_easy_setopt(r->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(r->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(r->curl, CURLOPT_TIMEOUT_MS,
                     (long)(r->conf.timeout_ms ? r->conf.timeout_ms : TIMEOUT_MS));
    curl_easy_setopt(r->curl, CURLOPT_CONNECTTIMEOUT_MS, 10000L);
    curl_easy_setopt(r->curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(r->curl, CURLOPT_WRITEDATA, a);
    curl_easy_setopt(r->curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(r->curl, CURLOPT_HEADERDATA, a);
    curl_easy_setopt(r->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(r->curl, CURLOPT_XFERINFOFUNCTION, watch);
    curl_easy_setopt(r->curl, CURLOPT_XFERINFODATA, r);
    curl_easy_setopt(r->curl, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(r->curl, CURLOPT_PREREQFUNCTION, on_send);
    curl_easy_setopt(r->curl, CURLOPT_PREREQDATA, a);
    if (r->conf.ca_file)
        curl_easy_setopt(r->curl, CURLOPT_CAINFO, r->conf.ca_file);
    if (s->body) {
        curl_easy_setopt(r->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(s->body));
        curl_easy_setopt(r->curl, CURLOPT_POSTFIELDS, s->body);
        snprintf(line, sizeof line, "Content-Type: %s", s->media);
        h = curl_slist_append(h, line);
    }
    curl_easy_setopt(r->curl, CURLOPT_CUSTOMREQUEST, s->method);
    if (s->authorized && r->token) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", r->token);
        h = curl_slist_append(h, line);
    }
    if (s->authorized && r->conf.delegation) {
        snprintf(line, sizeof line, "X-Iceberg-Access-Delegation: %s", r->conf.delegation);
        h = curl_slist_append(h, line);
    }
    curl_easy_setopt(r->curl, CURLOPT_HTTPHEADER, h);
    a->status = 0;
    a->sends = 0;
    a->private = false;
    buf_clear(&a->body);
    a->failed = curl_easy_perform(r->curl);
    curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &a->status);
    curl_slist_free_all(h);
}

/* Whether the server cannot have acted on it. */
static bool nothing_happened(const struct answer *a)
{
    return a->failed == CURLE_COULDNT_CONNECT || a->failed == CURLE_COULDNT_RESOLVE_HOST ||
           a->failed == CURLE_COULDNT_RESOLVE_PROXY || a->failed == CURLE_SSL_CONNECT_ERROR ||
           (!a->failed && (a->status == 429 || a->status == 503));
}

static bool passing(const struct answer *a)
{
    return (a->failed && a->failed != CURLE_ABORTED_BY_CALLBACK &&
            a->failed != CURLE_PEER_FAILED_VERIFICATION) ||
           (!a->failed && (a->status == 429 || a->status >= 500));
}

static bool pause_before(struct catalog_rest *r, unsigned attempt)
{
    uint64_t ns = (uint64_t)PAUSE_MS * 1000000u << (attempt < 6 ? attempt : 6);
    struct io_event e;
    uint32_t jitter;

    io_random(r->c.io, &jitter, sizeof jitter);
    io_event_init(&e);
    io_event_wait(&e, ns / 2 + jitter % ns);
    io_event_fini(&e);
    return !(r->conf.stop && *r->conf.stop);
}

/* What an answer means. what: the request, for people. */
static enum err judge(const struct answer *a, bool changes, const char *what, struct errinfo *info)
{
    static const struct {
        long status;
        enum err e;
    } rows[] = {{400, ERR_INVALID},         {401, ERR_UNAUTHENTICATED}, {403, ERR_FORBIDDEN},
                {404, ERR_NOT_FOUND},       {406, ERR_UNSUPPORTED},     {409, ERR_CONFLICT},
                {419, ERR_UNAUTHENTICATED}, {422, ERR_INVALID},         {429, ERR_OVERLOADED},
                {503, ERR_OVERLOADED}};
    json_t *o;
    const char *said;
    enum err e = changes ? ERR_UNCERTAIN : ERR_NETWORK;

    if (a->failed == CURLE_ABORTED_BY_CALLBACK && !changes)
        return errinfo_set(info, ERR_CANCELLED, "%s: stopped", what);
    if (a->failed)
        return errinfo_set(info, nothing_happened(a) ? ERR_NETWORK : e, "%s: %s", what,
                           curl_easy_strerror(a->failed));
    if (a->status >= 200 && a->status < 300)
        return ERR_OK;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        e = rows[i].status == a->status ? rows[i].e : e;
    if (changes && a->sends > 1)
        e = ERR_UNCERTAIN; /* this was said of the last one: another may have done it */
    o = a->body.len ? json_loadb((const char *)a->body.ptr, a->body.len, 0, NULL) : NULL;
    said = json_get_text(json_object_get(o, "error"), "message");
    errinfo_set(info, e, "%s: status %ld: %.150s", what, a->status, said ? said : "");
    json_decref(o);
    return e;
}

/* ---- tokens ---- */

static void append_form(struct catalog_rest *r, struct buf *b, const char *name, const char *value)
{
    char *text = curl_easy_escape(r->curl, value, 0);

    (void)buf_printf(b, "%s%s=%s", b->len ? "&" : "", name, text ? text : "");
    curl_free(text);
}

/* The first line of a file, without spaces around it, into out, which secret_fini ends. */
static enum err line_read(const char *path, struct buf *out, struct errinfo *info)
{
    char *p;
    enum err e;

    buf_init(out, TOKEN_MAX);
    e = secret_read(path, out, info);
    e = e ? e : buf_append_u8(out, 0);
    if (e)
        return e;
    p = (char *)out->ptr;
    out->len = strcspn(p, "\r\n");
    while (out->len && p[out->len - 1] == ' ')
        out->len--;
    p[out->len] = 0;
    return out->len ? ERR_OK : errinfo_set(info, ERR_CONFIG, "%s is empty", path);
}

/* The form that asks for a token. */
static enum err token_form(struct catalog_rest *r, struct buf *form, struct errinfo *info)
{
    const char *id = r->conf.client_id, *secret = r->conf.client_secret;
    struct buf line;
    char *colon;
    enum err e = ERR_OK;

    buf_init(&line, TOKEN_MAX);
    if (r->conf.credential_file) {
        e = line_read(r->conf.credential_file, &line, info);
        colon = e ? NULL : strchr((char *)line.ptr, ':');
        if (!e && !colon)
            e = errinfo_set(info, ERR_CONFIG, "%s does not have the form ID:SECRET",
                            r->conf.credential_file);
        if (colon)
            *colon = 0;
        id = e ? NULL : (const char *)line.ptr;
        secret = colon ? colon + 1 : NULL;
    }
    if (!e) {
        append_form(r, form, "grant_type", "client_credentials");
        append_form(r, form, "client_id", id);
        append_form(r, form, "client_secret", secret);
        append_form(r, form, "scope", r->conf.scope ? r->conf.scope : "catalog");
        e = buf_append_u8(form, 0);
    }
    secret_fini(&line);
    return e;
}

static enum err token_take(struct catalog_rest *r, const json_t *o, struct errinfo *info)
{
    const char *text = json_get_text(o, "access_token");
    int64_t seconds = json_int_or(o, "expires_in", 0);

    if (!text || strlen(text) > TOKEN_MAX)
        return errinfo_set(info, ERR_UNAUTHENTICATED,
                           "the answer of the token endpoint has no access_token");
    free(r->token);
    r->token = xstrdup(text);
    r->token_until = seconds > 0 && seconds < INT32_MAX ? io_wall_ms(r->c.io) + seconds * 1000 : 0;
    r->token_early = seconds * 1000 / 4 < TOKEN_EARLY_MS ? seconds * 1000 / 4 : TOKEN_EARLY_MS;
    return ERR_OK;
}

/* Gets a token by the client's credentials. */
static enum err token_get(struct catalog_rest *r, struct errinfo *info)
{
    char url[URL_MAX_];
    struct sending s = {.method = "POST", .url = url, .media = "application/x-www-form-urlencoded"};
    struct answer a = {0};
    struct buf form;
    json_t *o;
    enum err e;

    snprintf(url, sizeof url, "%s%s", r->conf.oauth2_uri ? r->conf.oauth2_uri : r->uri,
             r->conf.oauth2_uri ? "" : "/v1/oauth/tokens");
    buf_init(&form, 65536);
    buf_init(&a.body, 1u << 20);
    e = token_form(r, &form, info);
    s.body = (const char *)form.ptr;
    for (unsigned i = 0; !e && i < TRIES; i++) {
        send_once(r, &s, &a);
        if (!passing(&a) || !pause_before(r, i))
            break;
    }
    e = e ? e : judge(&a, false, "getting a token", info);
    if (e == ERR_INVALID) /* as OAuth 2 says that a client is not known */
        e = ERR_UNAUTHENTICATED;
    o = e ? NULL : json_loadb((const char *)a.body.ptr, a.body.len, 0, NULL);
    e = e ? e : token_take(r, o, info);
    json_decref(o);
    secret_fini(&form);
    secret_fini(&a.body);
    return e;
}

static enum err token_read(struct catalog_rest *r, struct errinfo *info)
{
    struct buf line;
    enum err e = line_read(r->conf.token_file, &line, info);

    if (!e) {
        free(r->token);
        r->token = xstrdup((const char *)line.ptr);
    }
    secret_fini(&line);
    return e;
}

static bool renewable(const struct catalog_rest *r)
{
    return r->conf.token_file || r->conf.client_id || r->conf.credential_file;
}

static enum err token_ready(struct catalog_rest *r, bool anew, struct errinfo *info)
{
    bool old = r->token_until && io_wall_ms(r->c.io) > r->token_until - r->token_early;

    if (!renewable(r) || (r->token && !old && !anew))
        return ERR_OK;
    return r->conf.token_file ? token_read(r, info) : token_get(r, info);
}

/* ---- requests with all attempts ---- */

/* changes: it may be sent again only where nothing can have happened. *out and *keep (whether the
 * answer may be kept) may be NULL. */
static enum err request_kept(struct catalog_rest *r, const char *method, const char *url,
                             const json_t *body, bool changes, json_t **out, bool *keep,
                             struct errinfo *info)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct sending s = {.method = method,
                        .url = url,
                        .body = text,
                        .media = "application/json",
                        .authorized = true};
    struct answer a = {0};
    bool renewed = false, twice = false;
    enum err e = token_ready(r, false, info);

    buf_init(&a.body, LIMIT_LAKE_METADATA);
    for (unsigned i = 0; !e && i < TRIES; i++) {
        send_once(r, &s, &a);
        twice = twice || a.sends > 1;
        if (!a.failed && (a.status == 401 || a.status == 419) && renewable(r) && !renewed) {
            renewed = true;
            e = token_ready(r, true, info);
            continue;
        }
        if (!passing(&a) || (changes && !nothing_happened(&a)) || !pause_before(r, i))
            break;
    }
    a.sends = twice ? 2 : a.sends;
    if (e) /* no token */
        e = changes && twice ? ERR_UNCERTAIN : e;
    else
        e = judge(&a, changes, url, info);
    if (!e && out) {
        *out = json_loadb((const char *)a.body.ptr, a.body.len, 0, NULL);
        if (!*out)
            e = errinfo_set(info, changes ? ERR_UNCERTAIN : ERR_CORRUPT,
                            "%s: the answer is not JSON", url);
    }
    if (keep)
        *keep = a.private;
    buf_fini(&a.body);
    free(text);
    return e;
}

static enum err request_url(struct catalog_rest *r, const char *method, const char *url,
                            const json_t *body, bool changes, json_t **out, struct errinfo *info)
{
    return request_kept(r, method, url, body, changes, out, NULL, info);
}

/* ---- configuration ---- */

static void config_take(struct catalog_rest *r, const json_t *o)
{
    const json_t *defaults = json_object_get(o, "defaults");
    const json_t *overrides = json_object_get(o, "overrides");
    const char *prefix = json_get_text(overrides, "prefix"), *uri = json_get_text(overrides, "uri");

    prefix = prefix ? prefix : r->conf.prefix ? r->conf.prefix : json_get_text(defaults, "prefix");
    r->prefix = dup_or_null(prefix);
    r->defaults = json_incref((json_t *)(uintptr_t)defaults);
    r->overrides = json_incref((json_t *)(uintptr_t)overrides);
    if (uri) {
        free(r->uri);
        r->uri = xstrdup(uri);
        while (*r->uri && r->uri[strlen(r->uri) - 1] == '/')
            r->uri[strlen(r->uri) - 1] = 0;
    }
}

static enum err ready(struct catalog_rest *r, struct errinfo *info)
{
    char url[URL_MAX_];
    char *warehouse;
    json_t *o = NULL;
    enum err e;

    if (r->ready)
        return ERR_OK;
    warehouse = r->conf.warehouse ? curl_easy_escape(r->curl, r->conf.warehouse, 0) : NULL;
    snprintf(url, sizeof url, "%s/v1/config%s%s", r->uri, warehouse ? "?warehouse=" : "",
             warehouse ? warehouse : "");
    curl_free(warehouse);
    e = request_url(r, "GET", url, NULL, false, &o, info);
    if (!e) {
        config_take(r, o);
        r->ready = true;
    }
    json_decref(o);
    return e;
}

/* "a.b" as one segment: levels are joined by the unit separator. */
static void space_segment(const char *space, char out[3 * CATALOG_NAME_MAX + 1])
{
    size_t n = 0;

    for (; *space; space++) {
        if (*space == '.') {
            memcpy(out + n, "%1F", 3);
            n += 3;
        } else {
            out[n++] = *space;
        }
    }
    out[n] = 0;
}

static json_t *space_levels(const char *space)
{
    json_t *list = json_array();

    for (;;) {
        size_t n = strcspn(space, ".");

        json_array_append_new(list, json_stringn(space, n));
        if (!space[n])
            return list;
        space += n + 1;
    }
}

/* One request: path is what follows the prefix. */
static enum err request(struct catalog *c, const char *method, const char *path, const json_t *body,
                        bool changes, json_t **out, struct errinfo *info)
{
    struct catalog_rest *r = rest_of(c);
    char url[URL_MAX_];
    enum err e;

    io_mutex_lock(&r->lock);
    e = ready(r, info);
    if (!e) {
        int n = snprintf(url, sizeof url, "%s/v1/%s%s%s", r->uri, r->prefix ? r->prefix : "",
                         r->prefix ? "/" : "", path);

        e = n < 0 || (size_t)n >= sizeof url
                ? errinfo_set(info, ERR_TOO_LARGE, "a path of the catalog is too long: %.100s",
                              path)
                : request_url(r, method, url, body, changes, out, info);
    }
    io_mutex_unlock(&r->lock);
    return e;
}

enum err catalog_rest_post(struct catalog *c, const char *url, const json_t *body, json_t **out,
                           bool *keep, struct errinfo *info)
{
    struct catalog_rest *r = rest_of(c);
    enum err e;

    *out = NULL;
    io_mutex_lock(&r->lock);
    e = ready(r, info); /* config may say where tokens are given */
    if (!e)
        e = request_kept(r, "POST", url, body, false, out, keep, info);
    io_mutex_unlock(&r->lock);
    return e;
}

/* ---- tables ---- */

static void table_path(const struct table_name *t, const char *rest, char out[PATH_MAX_])
{
    char space[3 * CATALOG_NAME_MAX + 1];

    space_segment(t->space, space);
    snprintf(out, PATH_MAX_, "namespaces/%s/tables/%s%s", space, t->name, rest);
}

/* Of the credentials for several places, those of the one that is nearest to the table. */
static const json_t *credentials_of(const json_t *answer, const char *base)
{
    const json_t *best = NULL, *one;
    size_t i, len = 0;

    json_array_foreach(json_object_get(answer, "storage-credentials"), i, one)
    {
        const char *prefix = json_get_text(one, "prefix");
        size_t n = prefix ? strlen(prefix) : 0;

        if (prefix && strncmp(prefix, base, n) == 0 && (!best || n > len)) {
            best = json_object_get(one, "config");
            len = n;
        }
    }
    return best;
}

/* What the catalog says of the table's storage, and where it is itself. Keys and signers only if
 * they were asked for: Nessie, for one, gives them to those who say nothing. */
static json_t *config_of(const struct catalog_rest *r, const json_t *answer, const char *base)
{
    static const char *const delegated[] = {"s3.access-key-id", "s3.secret-access-key",
                                            "s3.session-token", "s3.remote-signing-enabled"};
    const json_t *const layers[] = {r->defaults, json_object_get(answer, "config"),
                                    credentials_of(answer, base), r->overrides};
    json_t *o = json_object();

    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++)
        if (json_is_object(layers[i]))
            json_object_update(o, (json_t *)(uintptr_t)layers[i]);
    for (size_t i = 0; !r->conf.delegation && i < sizeof delegated / sizeof delegated[0]; i++)
        json_object_del(o, delegated[i]);
    json_object_set_new(o, "uri", json_string(r->uri));
    return o;
}

/* The table in an answer, which it takes. */
static enum err table_take(const struct catalog *c, json_t *answer, struct metadata **out,
                           struct errinfo *info)
{
    const char *location = json_get_text(answer, "metadata-location");
    json_t *doc = json_incref(json_object_get(answer, "metadata"));
    enum err e = doc ? metadata_take(doc, location, out, info)
                     : errinfo_set(info, ERR_CORRUPT, "the catalog's answer has no metadata");

    if (!e)
        (*out)->config =
            config_of((const struct catalog_rest *)(const void *)c, answer, metadata_base(*out));
    json_decref(answer);
    return e;
}

static enum err rest_load(struct catalog *c, const struct table_name *t, struct metadata **out,
                          struct errinfo *info)
{
    char path[PATH_MAX_];
    json_t *o = NULL;
    enum err e;

    table_path(t, "", path);
    e = request(c, "GET", path, NULL, false, &o, info);
    return e ? e : table_take(c, o, out, info);
}

static enum err rest_create(struct catalog *c, const struct table_name *t, const json_t *asked,
                            struct metadata **out, struct errinfo *info)
{
    char path[PATH_MAX_], space[3 * CATALOG_NAME_MAX + 1];
    json_t *body = json_copy((json_t *)(uintptr_t)asked), *o = NULL;
    enum err e;

    if (!body)
        return errinfo_set(info, ERR_INVALID, "a request is an object");
    space_segment(t->space, space);
    snprintf(path, sizeof path, "namespaces/%s/tables", space);
    json_object_set_new(body, "name", json_string(t->name));
    if (!json_object_get(body, "stage-create")) /* optional, but Nessie refuses to guess */
        json_object_set_new(body, "stage-create", json_false());
    e = request(c, "POST", path, body, true, &o, info);
    json_decref(body);
    if (e == ERR_UNCERTAIN) /* whoever made it, there it is, or it can be made again */
        return rest_load(c, t, out, NULL) == ERR_OK ? ERR_OK : ERR_UNCERTAIN;
    if (e == ERR_CONFLICT)
        e = ERR_EXISTS;
    return e ? e : table_take(c, o, out, info);
}

/* The snapshot that the updates add; -1: none. */
static int64_t snapshot_of(const json_t *updates)
{
    const json_t *one;
    size_t i;

    json_array_foreach(updates, i, one)
    {
        if (json_object_get(one, "snapshot"))
            return json_int_or(json_object_get(one, "snapshot"), "snapshot-id", -1);
    }
    return -1;
}

/* Whether the table has the snapshot; then *out is the table. */
static enum err has_snapshot(struct catalog *c, const struct table_name *t, int64_t id,
                             struct metadata **out, bool *yes)
{
    enum err e = rest_load(c, t, out, NULL);

    *yes = !e && id >= 0 && metadata_snapshot(*out, id);
    if (!e && !*yes)
        metadata_free(out);
    return e;
}

/* The snapshot that the requirements want to be current; -1: none, or they do not say. */
static int64_t parent_of(const json_t *requirements)
{
    const json_t *one;
    size_t i;

    json_array_foreach(requirements, i, one)
    {
        const char *type = json_get_text(one, "type");

        if (type && strcmp(type, "assert-ref-snapshot-id") == 0)
            return json_int_or(one, "snapshot-id", -1);
    }
    return -1;
}

/* A commit was refused, and sent before with no answer: *yes if that one came to be; then *out is the
 * table. A table that tells no snapshots but the current one (Nessie's) does not tell ours either, if
 * somebody has committed on top of it: what it is made of must not be removed. */
static enum err refused_after(struct catalog *c, const struct table_name *t,
                              const json_t *requirements, int64_t id, struct metadata **out,
                              bool *yes)
{
    int64_t parent = parent_of(requirements);
    enum err e = rest_load(c, t, out, NULL);
    bool whole;

    if (e)
        return ERR_UNCERTAIN;
    *yes = id >= 0 && metadata_snapshot(*out, id);
    if (*yes)
        return ERR_OK;
    whole = parent >= 0 ? metadata_snapshot(*out, parent) != NULL
                        : (int64_t)json_array_size(json_object_get((*out)->doc, "snapshots")) >=
                              metadata_last_sequence(*out);
    metadata_free(out);
    return whole ? ERR_CONFLICT : ERR_UNCERTAIN;
}

static enum err rest_commit(struct catalog *c, const struct table_name *t,
                            const json_t *requirements, const json_t *updates,
                            struct metadata **out, struct errinfo *info)
{
    json_t *body =
        json_pack("{s:{s:o, s:s}, s:o, s:o}", "identifier", "namespace", space_levels(t->space),
                  "name", t->name, "requirements",
                  requirements ? json_incref((json_t *)(uintptr_t)requirements) : json_array(),
                  "updates", json_incref((json_t *)(uintptr_t)updates));
    int64_t id = snapshot_of(updates);
    bool yes = false, sent = false;
    char path[PATH_MAX_];
    json_t *o = NULL;
    enum err e = ERR_OK;

    table_path(t, "", path);
    for (unsigned i = 0; i < COMMIT_TRIES; i++) {
        e = request(c, "POST", path, body, true, &o, info);
        if (e == ERR_CONFLICT && sent) { /* perhaps by the attempt before */
            e = refused_after(c, t, requirements, id, out, &yes);
            break;
        }
        if (e != ERR_UNCERTAIN || id < 0)
            break;
        sent = true;
        if (has_snapshot(c, t, id, out, &yes))
            break; /* not even that can be told */
        if (yes) {
            e = ERR_OK;
            break;
        }
    }
    if (e && e != ERR_CONFLICT && sent)
        e = ERR_UNCERTAIN; /* whatever became of the last attempt: one before may have done it */
    json_decref(body);
    if (e || yes)
        return e;
    e = table_take(c, o, out, info);
    return e ? ERR_UNCERTAIN : ERR_OK;
}

static enum err rest_drop(struct catalog *c, const struct table_name *t, bool purge,
                          struct errinfo *info)
{
    char path[PATH_MAX_];

    table_path(t, purge ? "?purgeRequested=true" : "?purgeRequested=false", path);
    return request(c, "DELETE", path, NULL, true, NULL, info);
}

static enum err rest_adopt(struct catalog *c, const struct table_name *t, const char *location,
                           struct metadata **out, struct errinfo *info)
{
    json_t *body = json_pack("{s:s, s:s}", "name", t->name, "metadata-location", location);
    char path[PATH_MAX_], space[3 * CATALOG_NAME_MAX + 1];
    json_t *o = NULL;
    enum err e;

    space_segment(t->space, space);
    snprintf(path, sizeof path, "namespaces/%s/register", space);
    e = request(c, "POST", path, body, true, &o, info);
    json_decref(body);
    if (e == ERR_CONFLICT)
        e = ERR_EXISTS;
    return e ? e : table_take(c, o, out, info);
}

/* ---- lists ---- */

/* Asks for page after page; one(): an item's name into text, false: it has none. */
static enum err each_page(struct catalog *c, const char *path, const char *member,
                          bool (*one)(const json_t *item, char text[CATALOG_NAME_MAX + 1]),
                          bool (*fn)(void *arg, const char *name), void *arg, struct errinfo *info)
{
    char url[URL_MAX_], text[CATALOG_NAME_MAX + 1];
    char *token = NULL;
    bool go_on = true;
    enum err e = ERR_OK;

    for (unsigned pages = 0; !e && go_on && pages < PAGES_MAX; pages++) {
        char *escaped = curl_easy_escape(NULL, token ? token : "", 0);
        json_t *o = NULL, *list;
        const char *next;

        snprintf(url, sizeof url, "%s?pageSize=%d&pageToken=%s", path, PAGE_SIZE,
                 escaped ? escaped : "");
        curl_free(escaped);
        e = request(c, "GET", url, NULL, false, &o, info);
        list = json_object_get(o, member);
        for (size_t i = 0; !e && go_on && i < json_array_size(list); i++) {
            if (one(json_array_get(list, i), text))
                go_on = fn(arg, text);
        }
        free(token);
        next = json_get_text(o, "next-page-token");
        token = dup_or_null(next);
        go_on = go_on && token;
        json_decref(o);
    }
    free(token);
    return e;
}

static bool name_of_table(const json_t *item, char text[CATALOG_NAME_MAX + 1])
{
    const char *name = json_get_text(item, "name");

    snprintf(text, CATALOG_NAME_MAX + 1, "%s", name ? name : "");
    return name && strlen(name) <= CATALOG_NAME_MAX;
}

static bool name_of_space(const json_t *item, char text[CATALOG_NAME_MAX + 1])
{
    size_t n = 0;

    *text = 0;
    for (size_t i = 0; i < json_array_size(item); i++) {
        const char *level = json_string_value(json_array_get(item, i));
        size_t len = level ? strlen(level) : 0;

        if (!len || n + len + 1 > CATALOG_NAME_MAX)
            return false;
        if (n)
            text[n++] = '.';
        memcpy(text + n, level, len + 1);
        n += len;
    }
    return n > 0;
}

static enum err rest_tables(struct catalog *c, const char *space,
                            bool (*fn)(void *arg, const char *name), void *arg,
                            struct errinfo *info)
{
    char path[PATH_MAX_], segment[3 * CATALOG_NAME_MAX + 1];

    space_segment(space, segment);
    snprintf(path, sizeof path, "namespaces/%s/tables", segment);
    return each_page(c, path, "identifiers", name_of_table, fn, arg, info);
}

static enum err rest_spaces(struct catalog *c, bool (*fn)(void *arg, const char *space), void *arg,
                            struct errinfo *info)
{
    return each_page(c, "namespaces", "namespaces", name_of_space, fn, arg, info);
}

/* ---- namespaces ---- */

static enum err rest_space_load(struct catalog *c, const char *space, json_t **properties,
                                struct errinfo *info)
{
    char path[PATH_MAX_], segment[3 * CATALOG_NAME_MAX + 1];
    json_t *o = NULL, *p;
    enum err e;

    space_segment(space, segment);
    snprintf(path, sizeof path, "namespaces/%s", segment);
    e = request(c, "GET", path, NULL, false, &o, info);
    if (e)
        return e;
    p = json_object_get(o, "properties");
    *properties = json_is_object(p) ? json_incref(p) : json_object();
    json_decref(o);
    return ERR_OK;
}

static enum err rest_space_create(struct catalog *c, const char *space, const json_t *properties,
                                  struct errinfo *info)
{
    json_t *body =
        json_pack("{s:o, s:o}", "namespace", space_levels(space), "properties",
                  properties ? json_incref((json_t *)(uintptr_t)properties) : json_object());
    enum err e = request(c, "POST", "namespaces", body, true, NULL, info);

    json_decref(body);
    return e == ERR_CONFLICT ? ERR_EXISTS : e;
}

static enum err rest_space_drop(struct catalog *c, const char *space, struct errinfo *info)
{
    char path[PATH_MAX_], segment[3 * CATALOG_NAME_MAX + 1];

    space_segment(space, segment);
    snprintf(path, sizeof path, "namespaces/%s", segment);
    return request(c, "DELETE", path, NULL, true, NULL, info);
}

/* ---- life ---- */

static void rest_close(struct catalog *c)
{
    struct catalog_rest *r = rest_of(c);
    const char *const texts[] = {r->conf.uri,        r->conf.warehouse,       r->conf.prefix,
                                 r->conf.token,      r->conf.client_id,       r->conf.client_secret,
                                 r->conf.oauth2_uri, r->conf.scope,           r->conf.ca_file,
                                 r->conf.token_file, r->conf.credential_file, r->conf.delegation};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        free((void *)(uintptr_t)texts[i]);
    free(r->uri);
    free(r->prefix);
    free(r->token);
    json_decref(r->defaults);
    json_decref(r->overrides);
    curl_easy_cleanup(r->curl);
    io_mutex_fini(&r->lock);
    free(r);
}

static const struct catalog_ops rest_ops = {
    .close = rest_close,
    .load = rest_load,
    .create = rest_create,
    .commit = rest_commit,
    .drop = rest_drop,
    .adopt = rest_adopt,
    .tables = rest_tables,
    .spaces = rest_spaces,
    .space_load = rest_space_load,
    .space_create = rest_space_create,
    .space_drop = rest_space_drop,
};

enum err catalog_rest_open(const struct catalog_rest_conf *conf, struct io *io,
                           struct catalog **out, struct errinfo *info)
{
    struct catalog_rest *r;

    *out = NULL;
    if (!conf->uri ||
        (strncmp(conf->uri, "http://", 7) != 0 && strncmp(conf->uri, "https://", 8) != 0) ||
        strlen(conf->uri) > 1024)
        return errinfo_set(info, ERR_CONFIG, "the catalog's uri must be http:// or https://");
    if ((conf->token && strlen(conf->token) > TOKEN_MAX) ||
        !conf->client_id != !conf->client_secret)
        return errinfo_set(info, ERR_CONFIG, "the catalog's credentials are not whole");
    r = xcalloc(1, sizeof *r);
    r->c = (struct catalog){.ops = &rest_ops, .io = io};
    r->conf = *conf;
    r->conf.uri = xstrdup(conf->uri);
    r->conf.warehouse = dup_or_null(conf->warehouse);
    r->conf.prefix = dup_or_null(conf->prefix);
    r->conf.token = dup_or_null(conf->token);
    r->conf.client_id = dup_or_null(conf->client_id);
    r->conf.client_secret = dup_or_null(conf->client_secret);
    r->conf.oauth2_uri = dup_or_null(conf->oauth2_uri);
    r->conf.scope = dup_or_null(conf->scope);
    r->conf.ca_file = dup_or_null(conf->ca_file);
    r->conf.token_file = dup_or_null(conf->token_file);
    r->conf.credential_file = dup_or_null(conf->credential_file);
    r->conf.delegation = dup_or_null(conf->delegation);
    r->uri = xstrdup(conf->uri);
    while (*r->uri && r->uri[strlen(r->uri) - 1] == '/')
        r->uri[strlen(r->uri) - 1] = 0;
    r->token = dup_or_null(conf->token);
    io_mutex_init(&r->lock);
    r->curl = curl_easy_init();
    ASSERT(r->curl);
    *out = &r->c;
    return ERR_OK;
}
