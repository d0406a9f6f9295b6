/* A catalog that is an object store: what Iceberg calls a Hadoop or file-system catalog.
 *
 *     NAMESPACE/.namespace                          properties, as JSON
 *     NAMESPACE/TABLE/metadata/vN.metadata.json     the table's metadata, N = 1, 2, 3…
 *     NAMESPACE/TABLE/metadata/version-hint.text    N, or an N that was current before
 *
 * Invariants
 *   1. vN is written once, on the condition that it does not exist: that is the commit, and who
 *      loses it looks again. The hint only saves looking: whoever reads it goes on from there.
 *   2. Versions are dense up to the newest; older ones are removed from below.
 *
 * A table that is dropped loses its metadata from the newest version down, so that a crash in
 * between leaves an older version, not a table without any of its past. Threads: any; there is no
 * state but the store's. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "lake/catalog_int.h"
#include "lake/json.h"

#define SPACE_FILE     ".namespace"
#define HINT           "version-hint.text"
#define COMMIT_TRIES   64u
#define PUT_TRIES      4u
#define SPACE_BYTES    (1u << 20)
#define KEY_BEHIND     "/\xf4\x8f\xbf\xbf" /* behind all keys of a folder */
#define DELETE_AT_ONCE 500u

struct catalog_dir {
    struct catalog c;
    struct store *store;
};

static struct store *store_of(struct catalog *c)
{
    return ((struct catalog_dir *)(void *)c)->store;
}

static enum err key_of(const struct table_name *t, const char *rest, char out[STORE_KEY_MAX + 1],
                       struct errinfo *info)
{
    int n = snprintf(out, STORE_KEY_MAX + 1, "%s/%s/%s", t->space, t->name, rest);

    return n > (int)STORE_KEY_MAX ? errinfo_set(info, ERR_INVALID, "the table's name is too long")
                                  : ERR_OK;
}

static enum err version_key(const struct table_name *t, int64_t v, char out[STORE_KEY_MAX + 1],
                            struct errinfo *info)
{
    char rest[64];

    snprintf(rest, sizeof rest, "metadata/v%" PRId64 ".metadata.json", v);
    return key_of(t, rest, out, info);
}

/* ---- the newest version ---- */

struct newest {
    int64_t v;
    size_t skip; /* bytes of the prefix */
};

static int64_t version_in(const char *name)
{
    char *end;
    long long v;

    if (*name != 'v')
        return 0;
    v = strtoll(name + 1, &end, 10);
    return strcmp(end, ".metadata.json") == 0 && v > 0 ? v : 0;
}

static bool newest_one(void *arg, const struct store_entry *e)
{
    struct newest *n = arg;
    int64_t v = version_in(e->key + n->skip);

    n->v = v > n->v ? v : n->v;
    return true;
}

/* *v 0: there is no such table. */
static enum err newest_by_list(struct catalog *c, const struct table_name *t, int64_t *v,
                               struct errinfo *info)
{
    char prefix[STORE_KEY_MAX + 1];
    struct newest n = {0};
    enum err e = key_of(t, "metadata/", prefix, info);

    n.skip = strlen(prefix);
    e = e ? e : store_list(store_of(c), prefix, NULL, newest_one, &n, info);
    *v = n.v;
    return e;
}

static enum err hint_read(struct catalog *c, const struct table_name *t, int64_t *v,
                          struct errinfo *info)
{
    char key[STORE_KEY_MAX + 1];
    struct buf b;
    enum err e = key_of(t, "metadata/" HINT, key, info);

    *v = 0;
    if (e)
        return e;
    buf_init(&b, 64);
    e = store_get(store_of(c), key, 0, STORE_ALL, &b, NULL, info);
    if (!e && buf_append_u8(&b, 0) == ERR_OK)
        *v = strtoll((const char *)b.ptr, NULL, 10);
    buf_fini(&b);
    return e == ERR_NOT_FOUND || e == ERR_TOO_LARGE ? ERR_OK : e;
}

static enum err there(struct catalog *c, const struct table_name *t, int64_t v, bool *yes,
                      struct errinfo *info)
{
    char key[STORE_KEY_MAX + 1];
    struct store_stat st;
    enum err e = version_key(t, v, key, info);

    e = e ? e : store_head(store_of(c), key, &st, info);
    *yes = !e;
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

static enum err newest(struct catalog *c, const struct table_name *t, int64_t *v,
                       struct errinfo *info)
{
    bool yes = false;
    enum err e = hint_read(c, t, v, info);

    if (!e && *v > 0)
        e = there(c, t, *v, &yes, info);
    if (e)
        return e;
    if (!yes)
        return newest_by_list(c, t, v, info);
    for (; yes; *v += yes) {
        e = there(c, t, *v + 1, &yes, info);
        if (e)
            return e;
    }
    return ERR_OK;
}

static enum err read_version(struct catalog *c, const struct table_name *t, int64_t v,
                             struct metadata **out, struct errinfo *info)
{
    char key[STORE_KEY_MAX + 1], location[STORE_LOCATION_MAX + 1];
    struct buf b;
    enum err e = version_key(t, v, key, info);

    e = e ? e : store_location(store_of(c), key, location, info);
    if (e)
        return e;
    buf_init(&b, LIMIT_LAKE_METADATA);
    e = store_get(store_of(c), key, 0, STORE_ALL, &b, NULL, info);
    e = e ? e : metadata_parse(buf_slice(&b), location, out, info);
    buf_fini(&b);
    return e;
}

static enum err no_table(const struct table_name *t, struct errinfo *info)
{
    return errinfo_set(info, ERR_NOT_FOUND, "there is no table %s.%s", t->space, t->name);
}

static enum err dir_load_version(struct catalog *c, const struct table_name *t, int64_t *v,
                                 struct metadata **out, struct errinfo *info)
{
    enum err e = ERR_OK;

    *out = NULL;
    for (unsigned i = 0; i < COMMIT_TRIES; i++) {
        e = newest(c, t, v, info);
        if (e || *v == 0)
            return e ? e : no_table(t, info);
        e = read_version(c, t, *v, out, info);
        if (e != ERR_NOT_FOUND) /* else removed meanwhile, so that there is a newer one */
            return e;
    }
    return e;
}

static enum err dir_load(struct catalog *c, const struct table_name *t, struct metadata **out,
                         struct errinfo *info)
{
    int64_t v;

    return dir_load_version(c, t, &v, out, info);
}

/* ---- writing ---- */

/* Whether the object has exactly these bytes. */
static bool is_ours(struct catalog *c, const char *key, struct slice bytes)
{
    struct buf b;
    bool same;

    buf_init(&b, LIMIT_LAKE_METADATA);
    same = store_get(store_of(c), key, 0, STORE_ALL, &b, NULL, NULL) == ERR_OK &&
           slice_eq(buf_slice(&b), bytes);
    buf_fini(&b);
    return same;
}

/* Makes version v. ERR_EXISTS: another has. */
static enum err write_version(struct catalog *c, const struct table_name *t, int64_t v,
                              const struct metadata *md, char **location, struct errinfo *info)
{
    static const struct store_put how = {.condition = STORE_IF_NONE,
                                         .content_type = "application/json"};
    char key[STORE_KEY_MAX + 1], where[STORE_LOCATION_MAX + 1];
    struct store_source src = {0};
    struct buf b;
    enum err e = version_key(t, v, key, info);

    e = e ? e : store_location(store_of(c), key, where, info);
    if (e)
        return e;
    buf_init(&b, LIMIT_LAKE_METADATA);
    e = metadata_write(md, &b);
    if (e)
        errinfo_set(info, e, "the table's metadata is too large");
    src.bytes = buf_slice(&b);
    for (unsigned i = 0; !e && i < PUT_TRIES; i++) {
        e = store_put(store_of(c), key, &src, &how, NULL, info);
        if (e == ERR_UNCERTAIN && is_ours(c, key, src.bytes))
            e = ERR_OK;
        if (e != ERR_UNCERTAIN)
            break;
        e = i + 1 < PUT_TRIES ? ERR_OK : e; /* put again: it decides for itself */
    }
    if (e == ERR_EXISTS && is_ours(c, key, src.bytes)) /* of an attempt whose outcome got lost */
        e = ERR_OK;
    buf_fini(&b);
    if (!e) {
        free(*location);
        *location = xstrdup(where);
    }
    return e;
}

/* Both only save work later: a failure is no failure of the commit. */
static void tidy_up(struct catalog *c, const struct table_name *t, int64_t v, const json_t *gone)
{
    char key[STORE_KEY_MAX + 1], text[24];
    struct store_source src;
    const char *old;

    snprintf(text, sizeof text, "%" PRId64, v);
    src = (struct store_source){.bytes = slice_str(text)};
    if (key_of(t, "metadata/" HINT, key, NULL) == ERR_OK)
        (void)store_put(store_of(c), key, &src, NULL, NULL, NULL);
    for (size_t i = 0; i < json_array_size(gone); i++) {
        const char *location = json_string_value(json_array_get(gone, i));

        old = location ? store_key(store_of(c), location) : NULL;
        if (old)
            (void)store_delete(store_of(c), &old, 1, NULL);
    }
}

static enum err first_version(struct catalog *c, const struct table_name *t, struct metadata **md,
                              struct metadata **out, struct errinfo *info);

static enum err base_of(struct catalog *c, const struct table_name *t,
                        char out[STORE_LOCATION_MAX + 1], struct errinfo *info)
{
    char key[STORE_KEY_MAX + 1];
    enum err e = key_of(t, "metadata", key, info);

    e = e ? e : store_location(store_of(c), key, out, info);
    if (!e)
        out[strlen(out) - strlen("/metadata")] = 0;
    return e;
}

/* A commit that makes the table, as writers of other engines do it who write files first. */
static enum err commit_first(struct catalog *c, const struct table_name *t, const json_t *updates,
                             struct metadata **out, struct errinfo *info)
{
    char base[STORE_LOCATION_MAX + 1], uuid[37];
    struct metadata *md;
    uint8_t random[16];
    enum err e = base_of(c, t, base, info);

    if (e)
        return e;
    io_random(c->io, random, sizeof random);
    uuid_text(random, uuid);
    e = metadata_make(updates, base, uuid, io_wall_ms(c->io), &md, info);
    if (!e && strcmp(metadata_base(md), base) != 0) {
        metadata_free(&md);
        e = errinfo_set(info, ERR_INVALID, "a table of this catalog lies at %s", base);
    }
    e = e ? e : first_version(c, t, &md, out, info);
    return e == ERR_EXISTS ? ERR_CONFLICT : e;
}

static enum err dir_commit(struct catalog *c, const struct table_name *t,
                           const json_t *requirements, const json_t *updates, struct metadata **out,
                           struct errinfo *info)
{
    enum err e = ERR_EXISTS;

    for (unsigned i = 0; e == ERR_EXISTS && i < COMMIT_TRIES; i++) {
        json_t *gone = json_array();
        struct metadata *md;
        int64_t v;

        e = dir_load_version(c, t, &v, &md, info);
        if (e == ERR_NOT_FOUND && metadata_creates(requirements)) {
            json_decref(gone);
            return commit_first(c, t, updates, out, info);
        }
        e = e ? e : metadata_check(md, requirements, info);
        if (!e)
            metadata_log(md, gone);
        e = e ? e : metadata_apply(md, updates, io_wall_ms(c->io), info);
        e = e ? e : write_version(c, t, v + 1, md, &md->location, info);
        if (!e) {
            const char *yes = metadata_property(md, "write.metadata.delete-after-commit.enabled");

            if (!yes || strcmp(yes, "true") != 0)
                json_array_clear(gone);
            tidy_up(c, t, v + 1, gone);
            *out = md;
            md = NULL;
        }
        metadata_free(&md);
        json_decref(gone);
    }
    return e == ERR_EXISTS ? errinfo_set(info, ERR_CONFLICT, "too many others commit to %s.%s",
                                         t->space, t->name)
                           : e;
}

/* Writes the first version. */
static enum err first_version(struct catalog *c, const struct table_name *t, struct metadata **md,
                              struct metadata **out, struct errinfo *info)
{
    int64_t v;
    enum err e = newest(c, t, &v, info);

    if (!e && v)
        e = ERR_EXISTS;
    e = e ? e : write_version(c, t, 1, *md, &(*md)->location, info);
    if (e == ERR_EXISTS)
        errinfo_set(info, e, "there is a table %s.%s already", t->space, t->name);
    if (e) {
        metadata_free(md);
        return e;
    }
    tidy_up(c, t, 1, NULL);
    *out = *md;
    return ERR_OK;
}

static enum err dir_create(struct catalog *c, const struct table_name *t, const json_t *request,
                           struct metadata **out, struct errinfo *info)
{
    char base[STORE_LOCATION_MAX + 1], uuid[37];
    const char *asked = json_get_text(request, "location");
    struct metadata *md;
    uint8_t random[16];
    size_t n = asked ? strlen(asked) : 0;
    enum err e = base_of(c, t, base, info);

    if (e)
        return e;
    while (n && asked[n - 1] == '/')
        n--;
    if (asked && (n != strlen(base) || memcmp(asked, base, n) != 0))
        return errinfo_set(info, ERR_INVALID, "a table of this catalog lies at %s", base);
    io_random(c->io, random, sizeof random);
    uuid_text(random, uuid);
    e = metadata_create(request, base, uuid, io_wall_ms(c->io), &md, info);
    return e ? e : first_version(c, t, &md, out, info);
}

/* A table whose files lie where this catalog would have put them, or anywhere in its store. */
static enum err dir_adopt(struct catalog *c, const struct table_name *t, const char *location,
                          struct metadata **out, struct errinfo *info)
{
    const char *key = store_key(store_of(c), location);
    struct metadata *md;
    struct buf b;
    enum err e;

    if (!key)
        return errinfo_set(info, ERR_INVALID, "%s is not in this catalog's store", location);
    buf_init(&b, LIMIT_LAKE_METADATA);
    e = store_get(store_of(c), key, 0, STORE_ALL, &b, NULL, info);
    e = e ? e : metadata_parse(buf_slice(&b), location, &md, info);
    buf_fini(&b);
    return e ? e : first_version(c, t, &md, out, info);
}

/* ---- dropping ---- */

struct dropping {
    char **key;
    size_t n, cap, skip;
    bool all;
};

static bool drop_one(void *arg, const struct store_entry *e)
{
    struct dropping *d = arg;
    const char *name = e->key + d->skip;

    if (!d->all && strcmp(name, "metadata/" HINT) != 0 &&
        (strncmp(name, "metadata/", 9) != 0 || !version_in(name + 9)))
        return true;
    if (d->n == d->cap) {
        d->cap = d->cap * 2 + 64;
        d->key = xrealloc(d->key, d->cap * sizeof *d->key);
    }
    d->key[d->n++] = xstrdup(e->key);
    return d->n < LIMIT_STORE_LIST;
}

static enum err delete_batch(struct catalog *c, char **key, size_t n, struct errinfo *info)
{
    const char *keys[DELETE_AT_ONCE];

    for (size_t i = 0; i < n; i++)
        keys[i] = key[i];
    return store_delete(store_of(c), keys, n, info);
}

static enum err dir_drop(struct catalog *c, const struct table_name *t, bool purge,
                         struct errinfo *info)
{
    char prefix[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1];
    struct dropping d = {.all = purge};
    const char *one = key;
    int64_t v;
    enum err e = newest(c, t, &v, info);

    if (!e && v == 0)
        return no_table(t, info);
    for (; !e && v > 0; v--) { /* from the newest down: invariant 2 */
        bool yes;

        e = there(c, t, v, &yes, info);
        if (e || !yes)
            break;
        e = version_key(t, v, key, info);
        e = e ? e : store_delete(store_of(c), &one, 1, info);
    }
    e = e ? e : key_of(t, "", prefix, info);
    d.skip = strlen(prefix);
    e = e ? e : store_list(store_of(c), prefix, NULL, drop_one, &d, info);
    for (size_t i = 0; !e && i < d.n; i += DELETE_AT_ONCE)
        e = delete_batch(c, d.key + i, d.n - i < DELETE_AT_ONCE ? d.n - i : DELETE_AT_ONCE, info);
    for (size_t i = 0; i < d.n; i++)
        free(d.key[i]);
    free(d.key);
    return e;
}

/* ---- lists ---- */

/* The first folder behind `after` below prefix, found by one key of it; *found empty: none. */
struct folder {
    size_t skip;
    char found[CATALOG_NAME_MAX + 1];
    bool plain; /* the key was no folder's: look on behind it */
    char key[STORE_KEY_MAX + 1];
};

static bool folder_one(void *arg, const struct store_entry *e)
{
    struct folder *f = arg;
    const char *name = e->key + f->skip, *slash = strchr(name, '/');

    snprintf(f->key, sizeof f->key, "%s", e->key);
    f->plain = !slash || slash - name > CATALOG_NAME_MAX;
    if (!f->plain) {
        memcpy(f->found, name, (size_t)(slash - name));
        f->found[slash - name] = 0;
    }
    return false;
}

/* Each folder below prefix ("" or "NAMESPACE/"): one short listing for each, whatever they hold. */
static enum err each_folder(struct catalog *c, const char *prefix,
                            enum err (*fn)(void *arg, const char *name, bool *go_on), void *arg,
                            struct errinfo *info)
{
    char after[STORE_KEY_MAX + 8] = "", last[CATALOG_NAME_MAX + 1] = "";
    bool go_on = true;
    enum err e = ERR_OK;

    while (!e && go_on) {
        struct folder f = {.skip = strlen(prefix)};

        e = store_list(store_of(c), prefix, *after ? after : NULL, folder_one, &f, info);
        if (e || !*f.key)
            break;
        if (f.plain) {
            snprintf(after, sizeof after, "%s", f.key);
            continue;
        }
        if (strcmp(last, f.found) == 0)
            return errinfo_set(info, ERR_IO, "the store lists \"%s\" again and again", last);
        snprintf(last, sizeof last, "%s", f.found);
        snprintf(after, sizeof after, "%s%s" KEY_BEHIND, prefix, f.found);
        e = catalog_name_ok(f.found) ? fn(arg, f.found, &go_on) : ERR_OK;
    }
    return e;
}

struct listing {
    struct catalog *c;
    const char *space;
    bool (*fn)(void *arg, const char *name);
    void *arg;
    struct errinfo *info;
};

static enum err table_seen(void *arg, const char *name, bool *go_on)
{
    struct listing *l = arg;
    struct table_name t = {l->space, name};
    int64_t v;
    enum err e = newest(l->c, &t, &v, l->info);

    if (!e && v)
        *go_on = l->fn(l->arg, name);
    return e;
}

static enum err dir_tables(struct catalog *c, const char *space,
                           bool (*fn)(void *arg, const char *name), void *arg, struct errinfo *info)
{
    struct listing l = {.c = c, .space = space, .fn = fn, .arg = arg, .info = info};
    char prefix[CATALOG_NAME_MAX + 2];
    json_t *properties;
    enum err e = c->ops->space_load(c, space, &properties, info);

    if (e)
        return e;
    json_decref(properties);
    snprintf(prefix, sizeof prefix, "%s/", space);
    return each_folder(c, prefix, table_seen, &l, info);
}

static enum err space_seen(void *arg, const char *name, bool *go_on)
{
    struct listing *l = arg;

    *go_on = l->fn(l->arg, name);
    return ERR_OK;
}

static enum err dir_spaces(struct catalog *c, bool (*fn)(void *arg, const char *space), void *arg,
                           struct errinfo *info)
{
    struct listing l = {.c = c, .fn = fn, .arg = arg, .info = info};

    return each_folder(c, "", space_seen, &l, info);
}

/* ---- namespaces ---- */

static void space_key(const char *space, char out[STORE_KEY_MAX + 1])
{
    snprintf(out, STORE_KEY_MAX + 1, "%s/" SPACE_FILE, space);
}

static bool any_key(void *arg, const struct store_entry *e)
{
    *(bool *)arg = true;
    return false;
}

static enum err dir_space_load(struct catalog *c, const char *space, json_t **properties,
                               struct errinfo *info)
{
    char key[STORE_KEY_MAX + 1], prefix[CATALOG_NAME_MAX + 2];
    bool any = false;
    struct buf b;
    enum err e;

    space_key(space, key);
    buf_init(&b, SPACE_BYTES);
    e = store_get(store_of(c), key, 0, STORE_ALL, &b, NULL, info);
    if (!e) {
        *properties = json_loadb((const char *)b.ptr, b.len, 0, NULL);
        if (!json_is_object(*properties)) {
            json_decref(*properties);
            *properties = NULL;
            e = errinfo_set(info, ERR_CORRUPT, "the properties of %s do not parse", space);
        }
    } else if (e == ERR_NOT_FOUND) { /* it may have tables all the same */
        snprintf(prefix, sizeof prefix, "%s/", space);
        e = store_list(store_of(c), prefix, NULL, any_key, &any, info);
        *properties = !e && any ? json_object() : NULL;
        if (!e && !any)
            e = errinfo_set(info, ERR_NOT_FOUND, "there is no namespace %s", space);
    }
    buf_fini(&b);
    return e;
}

static enum err dir_space_create(struct catalog *c, const char *space, const json_t *properties,
                                 struct errinfo *info)
{
    static const struct store_put how = {.condition = STORE_IF_NONE,
                                         .content_type = "application/json"};
    char key[STORE_KEY_MAX + 1];
    json_t *there_already;
    struct store_source src;
    char *text;
    enum err e = dir_space_load(c, space, &there_already, info);

    if (e != ERR_NOT_FOUND) {
        json_decref(there_already);
        return e ? e : errinfo_set(info, ERR_EXISTS, "there is a namespace %s already", space);
    }
    text = properties ? json_dumps(properties, JSON_COMPACT) : xstrdup("{}");
    ASSERT(text);
    space_key(space, key);
    src = (struct store_source){.bytes = slice_str(text)};
    e = src.bytes.len > SPACE_BYTES ? errinfo_set(info, ERR_TOO_LARGE, "too many properties")
                                    : store_put(store_of(c), key, &src, &how, NULL, info);
    free(text);
    return e;
}

static bool any_table(void *arg, const char *name)
{
    *(bool *)arg = true;
    return false;
}

static enum err dir_space_drop(struct catalog *c, const char *space, struct errinfo *info)
{
    char key[STORE_KEY_MAX + 1];
    const char *one = key;
    bool any = false;
    enum err e = dir_tables(c, space, any_table, &any, info);

    if (e)
        return e;
    if (any)
        return errinfo_set(info, ERR_CONFLICT, "the namespace %s has tables", space);
    space_key(space, key);
    return store_delete(store_of(c), &one, 1, info);
}

static void dir_close(struct catalog *c)
{
    free(c);
}

static const struct catalog_ops dir_ops = {
    .close = dir_close,
    .load = dir_load,
    .create = dir_create,
    .commit = dir_commit,
    .drop = dir_drop,
    .adopt = dir_adopt,
    .tables = dir_tables,
    .spaces = dir_spaces,
    .space_load = dir_space_load,
    .space_create = dir_space_create,
    .space_drop = dir_space_drop,
};

enum err catalog_dir_open(struct store *s, struct io *io, struct catalog **out,
                          struct errinfo *info)
{
    struct catalog_dir *d = xcalloc(1, sizeof *d);

    d->c = (struct catalog){.ops = &dir_ops, .io = io};
    d->store = s;
    *out = &d->c;
    return ERR_OK;
}
