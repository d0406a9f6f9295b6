/* The REST catalog's calls: what each does with the catalog, and the JSON of its answers (Iceberg's
 * rest-catalog-open-api, version 1). See iceberg.h.
 *
 * Reading is for everybody with a token that may read: of tables, those whose name it may read as a
 * topic. Changes are for those who administer that name; namespaces for admins of everything. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "lake/json.h"
#include "net/http.h"
#include "proto/http/iceberg.h"

/* ---- answers ---- */

static int status_of(enum err e, const char **type)
{
    switch (e) {
    case ERR_UNAUTHENTICATED:
        *type = "NotAuthorizedException";
        return 401;
    case ERR_FORBIDDEN:
        *type = "ForbiddenException";
        return 403;
    case ERR_NOT_FOUND:
        *type = "NotFoundException";
        return 404;
    case ERR_EXISTS:
        *type = "AlreadyExistsException";
        return 409;
    case ERR_CONFLICT:
        *type = "CommitFailedException";
        return 409;
    case ERR_UNCERTAIN:
        *type = "CommitStateUnknownException";
        return 504;
    case ERR_UNSUPPORTED:
        *type = "UnsupportedOperationException";
        return 406;
    case ERR_OVERLOADED:
    case ERR_TIMEOUT:
    case ERR_NETWORK:
        *type = "ServiceUnavailableException";
        return 503;
    case ERR_INVALID:
    case ERR_TOO_LARGE:
    case ERR_CORRUPT_INPUT:
    case ERR_CONFIG:
        *type = "BadRequestException";
        return 400;
    default:
        *type = "InternalServerError";
        return 500;
    }
}

void ice_fail(struct ice_call *c, enum err e, const char *type, const char *message)
{
    const char *usual;

    c->status = status_of(e, &usual);
    buf_clear(&c->out);
    e = buf_append_str(&c->out, "{\"error\":{\"message\":");
    e = e ? e : json_write_string(&c->out, slice_str(message));
    e = e ? e
          : buf_printf(&c->out, ",\"type\":\"%s\",\"code\":%d}}", type ? type : usual, c->status);
    if (e)
        buf_clear(&c->out);
}

static int dump(const char *p, size_t n, void *arg)
{
    return buf_append(arg, p, n) ? -1 : 0;
}

/* Takes o as the answer. */
static void ok(struct ice_call *c, json_t *o)
{
    c->status = 200;
    if (json_dump_callback(o, dump, &c->out, JSON_COMPACT))
        ice_fail(c, ERR_INTERNAL, NULL, "the answer is too large");
    json_decref(o);
}

static void empty(struct ice_call *c)
{
    c->status = 204;
}

static void fail_table(struct ice_call *c, enum err e, const struct errinfo *info)
{
    ice_fail(c, e, e == ERR_NOT_FOUND ? "NoSuchTableException" : NULL, info->text);
}

static void fail_space(struct ice_call *c, enum err e, const struct errinfo *info)
{
    if (e == ERR_INVALID) /* no namespace has such a name */
        e = ERR_NOT_FOUND;
    ice_fail(c, e,
             e == ERR_NOT_FOUND  ? "NoSuchNamespaceException"
             : e == ERR_CONFLICT ? "NamespaceNotEmptyException"
                                 : NULL,
             info->text);
}

/* ---- permission ---- */

static bool may(struct ice_call *c, unsigned access, const char *name)
{
    if (c->everything || auth_permits(&c->who, access, slice_str(name)))
        return true;
    ice_fail(c, ERR_FORBIDDEN, NULL, "the token does not permit this");
    return false;
}

static bool may_read_some(struct ice_call *c)
{
    if (c->everything || auth_permits_any(&c->who, AUTH_READ))
        return true;
    ice_fail(c, ERR_FORBIDDEN, NULL, "the token does not permit reading");
    return false;
}

static bool may_all(struct ice_call *c)
{
    if (!c->everything)
        ice_fail(c, ERR_FORBIDDEN, NULL, "only an admin of everything may change namespaces");
    return c->everything;
}

/* The body as an object; NULL after having answered. */
static json_t *body_of(struct ice_call *c)
{
    json_error_t why;
    json_t *o = json_loadb(c->body, c->body_len, JSON_REJECT_DUPLICATES, &why);

    if (o && json_is_object(o))
        return o;
    ice_fail(c, ERR_INVALID, NULL, o ? "the body is not an object" : why.text);
    json_decref(o);
    return NULL;
}

/* ---- config ---- */

static void config(struct ice_call *c)
{
    static const char *const endpoints[] = {
        "GET /v1/{prefix}/namespaces",
        "POST /v1/{prefix}/namespaces",
        "GET /v1/{prefix}/namespaces/{namespace}",
        "HEAD /v1/{prefix}/namespaces/{namespace}",
        "DELETE /v1/{prefix}/namespaces/{namespace}",
        "GET /v1/{prefix}/namespaces/{namespace}/tables",
        "POST /v1/{prefix}/namespaces/{namespace}/tables",
        "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
        "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
        "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
        "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
        "POST /v1/{prefix}/namespaces/{namespace}/register",
        "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics",
    };
    json_t *list = json_array();

    for (size_t i = 0; i < sizeof endpoints / sizeof endpoints[0]; i++)
        json_array_append_new(list, json_string(endpoints[i]));
    ok(c, json_pack("{s:{}, s:{}, s:o}", "defaults", "overrides", "endpoints", list));
}

/* ---- lists, in pages: the token is the last name of the page before ---- */

struct page {
    struct ice_call *c;
    const char *space; /* of tables; NULL: namespaces */
    char **name;       /* all that may be seen; in the order of the store, which is not ours */
    size_t n, cap;
};

static bool page_one(void *arg, const char *name)
{
    struct page *p = arg;
    struct ice_call *c = p->c;

    if (c->page_token && *c->page_token && strcmp(name, c->page_token) <= 0)
        return true;
    if (p->space && !c->everything && !auth_permits(&c->who, AUTH_READ, slice_str(name)))
        return true;
    if (p->n == p->cap) {
        p->cap = p->cap * 2 + 64;
        p->name = xrealloc(p->name, p->cap * sizeof *p->name);
    }
    p->name[p->n++] = xstrdup(name);
    return true;
}

static int name_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void page_answer(struct page *p, const char *member)
{
    int64_t most = p->c->page_size;
    size_t n = most && (size_t)most < p->n ? (size_t)most : p->n;
    json_t *list = json_array();

    if (p->n)
        qsort(p->name, p->n, sizeof *p->name, name_order);
    for (size_t i = 0; i < n; i++)
        json_array_append_new(
            list, p->space ? json_pack("{s:[s], s:s}", "namespace", p->space, "name", p->name[i])
                           : json_pack("[s]", p->name[i]));
    ok(p->c, json_pack("{s:o, s:o}", member, list, "next-page-token",
                       n < p->n ? json_string(p->name[n - 1]) : json_null()));
}

static void page_fini(struct page *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->name[i]);
    free(p->name);
}

static void spaces_list(struct ice_call *c)
{
    struct page p = {.c = c};
    struct errinfo info = {0};
    enum err e;

    if (!may_read_some(c))
        return;
    e = catalog_spaces(c->catalog, page_one, &p, &info);
    if (e)
        fail_space(c, e, &info);
    else
        page_answer(&p, "namespaces");
    page_fini(&p);
}

static void tables_list(struct ice_call *c)
{
    struct page p = {.c = c, .space = c->segment[1]};
    struct errinfo info = {0};
    enum err e;

    if (!may_read_some(c))
        return;
    e = catalog_tables(c->catalog, p.space, page_one, &p, &info);
    if (e)
        fail_space(c, e, &info);
    else
        page_answer(&p, "identifiers");
    page_fini(&p);
}

/* ---- namespaces ---- */

static void space_get(struct ice_call *c)
{
    struct errinfo info = {0};
    json_t *properties;
    enum err e;

    if (!may_read_some(c))
        return;
    e = catalog_space_load(c->catalog, c->segment[1], &properties, &info);
    if (e)
        fail_space(c, e, &info);
    else if (c->method == HTTP_HEAD) {
        json_decref(properties);
        empty(c);
    } else {
        ok(c, json_pack("{s:[s], s:o}", "namespace", c->segment[1], "properties", properties));
    }
}

static void space_create(struct ice_call *c)
{
    struct errinfo info = {0};
    json_t *o, *levels, *properties;
    const char *name;
    enum err e;

    if (!may_all(c) || !(o = body_of(c)))
        return;
    levels = json_object_get(o, "namespace");
    name = json_string_value(json_array_get(levels, 0));
    properties = json_object_get(o, "properties");
    if (json_array_size(levels) != 1 || !name) {
        ice_fail(c, ERR_INVALID, NULL, "a namespace of this catalog has one level");
    } else {
        e = catalog_space_create(c->catalog, name, properties, &info);
        if (e)
            ice_fail(c, e, NULL, info.text);
        else
            ok(c, json_pack("{s:[s], s:o}", "namespace", name, "properties",
                            json_is_object(properties) ? json_incref(properties) : json_object()));
    }
    json_decref(o);
}

static void space_drop(struct ice_call *c)
{
    struct errinfo info = {0};
    enum err e;

    if (!may_all(c))
        return;
    e = catalog_space_drop(c->catalog, c->segment[1], &info);
    if (e)
        fail_space(c, e, &info);
    else
        empty(c);
}

/* ---- tables ---- */

/* How to reach the files; secrets are not given away: who reads files has credentials of its own. */
static json_t *table_config(const struct ice_call *c)
{
    struct store_access a;
    json_t *o = json_object();

    store_access_get(c->store, &a);
    if (!a.s3)
        return o;
    if (a.endpoint && *a.endpoint)
        json_object_set_new(o, "s3.endpoint", json_string(a.endpoint));
    if (a.region && *a.region)
        json_object_set_new(o, "client.region", json_string(a.region));
    json_object_set_new(o, "s3.path-style-access", json_string(a.path_style ? "true" : "false"));
    return o;
}

/* Only the snapshots that a ref names. */
static json_t *refs_only(const json_t *doc)
{
    json_t *copy = json_deep_copy(doc), *list = json_object_get(copy, "snapshots"), *ref;
    const char *name;

    for (size_t i = json_array_size(list); i-- > 0;) {
        int64_t id = json_int_or(json_array_get(list, i), "snapshot-id", -1);
        bool named = false;

        json_object_foreach(json_object_get(copy, "refs"), name, ref)
        {
            named |= json_int_or(ref, "snapshot-id", -2) == id;
        }
        if (!named)
            json_array_remove(list, i);
    }
    return copy;
}

static void table_answer(struct ice_call *c, const struct metadata *md)
{
    json_t *doc = c->refs_only ? refs_only(md->doc) : json_incref(md->doc);
    json_t *o = json_pack("{s:o, s:o}", "metadata", doc, "config", table_config(c));

    if (md->location) {
        json_object_set_new(o, "metadata-location", json_string(md->location));
        snprintf(c->etag, sizeof c->etag, "\"%016" PRIx64 "%c\"",
                 hash64(md->location, strlen(md->location), 1), c->refs_only ? 'r' : 'a');
    }
    if (*c->etag && c->none_match && strcmp(c->none_match, c->etag) == 0) {
        json_decref(o);
        c->status = 304;
        return;
    }
    ok(c, o);
}

static struct table_name table_of(const struct ice_call *c)
{
    return (struct table_name){c->segment[1], c->segment[3]};
}

static void table_get(struct ice_call *c)
{
    struct table_name t = table_of(c);
    struct errinfo info = {0};
    struct metadata *md;
    enum err e;

    if (!may(c, AUTH_READ, t.name))
        return;
    e = catalog_load(c->catalog, &t, &md, &info);
    if (e == ERR_INVALID)
        e = ERR_NOT_FOUND;
    if (e) {
        fail_table(c, e, &info);
        return;
    }
    if (c->method == HTTP_HEAD)
        empty(c);
    else
        table_answer(c, md);
    metadata_free(&md);
}

/* A table that a later commit makes: its metadata as it would be. */
static enum err stage(struct ice_call *c, const struct table_name *t, const json_t *request,
                      struct metadata **out, struct errinfo *info)
{
    char location[STORE_LOCATION_MAX + 1], key[STORE_KEY_MAX + 1], uuid[37];
    uint8_t random[16];
    enum err e;

    if (!catalog_name_ok(t->name))
        return errinfo_set(info, ERR_INVALID, "not a name of a table");
    e = catalog_load(c->catalog, t, out, info);
    if (!e) {
        metadata_free(out);
        return errinfo_set(info, ERR_EXISTS, "there is a table %s.%s already", t->space, t->name);
    }
    if (e != ERR_NOT_FOUND)
        return e;
    snprintf(key, sizeof key, "%s/%s", t->space, t->name);
    e = store_location(c->store, key, location, info);
    io_random(io_real(), random, sizeof random);
    uuid_text(random, uuid);
    return e ? e : metadata_create(request, location, uuid, io_wall_ms(io_real()), out, info);
}

static void table_create(struct ice_call *c)
{
    struct errinfo info = {0};
    struct metadata *md = NULL;
    json_t *o, *properties = NULL;
    struct table_name t;
    enum err e;

    if (!(o = body_of(c)))
        return;
    t = (struct table_name){c->segment[1], json_get_text(o, "name")};
    if (!t.name)
        ice_fail(c, ERR_INVALID, NULL, "the table has no name");
    else if (may(c, AUTH_ADMIN, t.name)) {
        e = catalog_space_load(c->catalog, t.space, &properties, &info);
        if (e) {
            fail_space(c, e, &info);
        } else {
            e = json_is_true(json_object_get(o, "stage-create"))
                    ? stage(c, &t, o, &md, &info)
                    : catalog_create(c->catalog, &t, o, &md, &info);
            if (e)
                ice_fail(c, e, NULL, info.text);
            else
                table_answer(c, md);
        }
    }
    metadata_free(&md);
    json_decref(properties);
    json_decref(o);
}

static void table_register(struct ice_call *c)
{
    struct errinfo info = {0};
    struct metadata *md = NULL;
    const char *location;
    struct table_name t;
    json_t *o;
    enum err e;

    if (!(o = body_of(c)))
        return;
    t = (struct table_name){c->segment[1], json_get_text(o, "name")};
    location = json_get_text(o, "metadata-location");
    if (!t.name || !location)
        ice_fail(c, ERR_INVALID, NULL, "name and metadata-location are needed");
    else if (may_all(c)) { /* it shows files of any place in the store */
        e = catalog_register(c->catalog, &t, location, &md, &info);
        if (e)
            ice_fail(c, e, NULL, info.text);
        else
            table_answer(c, md);
    }
    metadata_free(&md);
    json_decref(o);
}

static void table_commit(struct ice_call *c)
{
    struct table_name t = table_of(c);
    const json_t *requirements, *updates;
    struct errinfo info = {0};
    struct metadata *md = NULL;
    json_t *o;
    enum err e;

    if (!may(c, AUTH_ADMIN, t.name) || !(o = body_of(c)))
        return;
    requirements = json_object_get(o, "requirements");
    updates = json_object_get(o, "updates");
    if (!json_is_array(requirements) || !json_is_array(updates)) {
        ice_fail(c, ERR_INVALID, NULL, "requirements and updates are lists");
    } else {
        e = catalog_commit(c->catalog, &t, requirements, updates, &md, &info);
        if (e)
            fail_table(c, e, &info);
        else
            table_answer(c, md);
    }
    metadata_free(&md);
    json_decref(o);
}

static void table_drop(struct ice_call *c)
{
    struct table_name t = table_of(c);
    struct errinfo info = {0};
    enum err e;

    if (!may(c, AUTH_ADMIN, t.name))
        return;
    e = catalog_drop(c->catalog, &t, c->purge, &info);
    if (e)
        fail_table(c, e, &info);
    else
        empty(c);
}

/* What a client measured of its scan: it may say so, and nobody keeps it. */
static void table_metrics(struct ice_call *c)
{
    if (may(c, AUTH_READ, c->segment[3]))
        empty(c);
}

/* ---- dispatch ---- */

static const struct {
    enum http_method method;
    unsigned segments;
    const char *word[ICE_SEGMENTS]; /* NULL: any */
    void (*fn)(struct ice_call *c);
} calls[] = {
    {HTTP_GET, 1, {"config"}, config},
    {HTTP_GET, 1, {"namespaces"}, spaces_list},
    {HTTP_POST, 1, {"namespaces"}, space_create},
    {HTTP_GET, 2, {"namespaces"}, space_get},
    {HTTP_HEAD, 2, {"namespaces"}, space_get},
    {HTTP_DELETE, 2, {"namespaces"}, space_drop},
    {HTTP_GET, 3, {"namespaces", NULL, "tables"}, tables_list},
    {HTTP_POST, 3, {"namespaces", NULL, "tables"}, table_create},
    {HTTP_POST, 3, {"namespaces", NULL, "register"}, table_register},
    {HTTP_GET, 4, {"namespaces", NULL, "tables"}, table_get},
    {HTTP_HEAD, 4, {"namespaces", NULL, "tables"}, table_get},
    {HTTP_POST, 4, {"namespaces", NULL, "tables"}, table_commit},
    {HTTP_DELETE, 4, {"namespaces", NULL, "tables"}, table_drop},
    {HTTP_POST, 5, {"namespaces", NULL, "tables", NULL, "metrics"}, table_metrics},
};

void ice_call_run(struct ice_call *c)
{
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        bool fits = calls[i].method == c->method && calls[i].segments == c->segments;

        for (unsigned k = 0; fits && k < c->segments; k++)
            fits = !calls[i].word[k] || strcmp(calls[i].word[k], c->segment[k]) == 0;
        if (fits) {
            calls[i].fn(c);
            return;
        }
    }
    ice_fail(c, ERR_UNSUPPORTED, NULL, "the catalog does not have this call");
}
