/* Table metadata. See metadata.h.
 *
 * metadata_take checks the members that are relied on; afterwards lookups need no checks. Updates
 * are applied to a deep copy that takes the document's place when all have succeeded. */
#include "lake/metadata.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "lake/json.h"

/* ---- life ---- */

static const char *const arrays[] = {"schemas",   "partition-specs", "sort-orders",
                                     "snapshots", "snapshot-log",    "metadata-log"};

static enum err corrupt(struct errinfo *info, const char *what)
{
    return errinfo_set(info, ERR_CORRUPT, "table metadata: %s", what);
}

/* Each of the list is an object with this whole-number member. */
static bool list_ok(const json_t *doc, const char *list, const char *key)
{
    const json_t *a = json_object_get(doc, list), *one;
    int64_t v;
    size_t i;

    json_array_foreach(a, i, one)
    {
        if (!json_get_int(one, key, INT64_MIN, INT64_MAX, &v))
            return false;
    }
    return true;
}

static enum err check(json_t *doc, struct errinfo *info)
{
    int64_t version, v;

    if (!json_get_int(doc, "format-version", 1, INT32_MAX, &version))
        return corrupt(info, "no format-version");
    if (version != 2)
        return errinfo_set(info, ERR_UNSUPPORTED,
                           "the table has format version %d; version 2 is supported", (int)version);
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        const json_t *a = json_object_get(doc, arrays[i]);

        if (i < 3 ? !json_array_size(a) : a && !json_is_array(a) && !json_is_null(a))
            return corrupt(info, arrays[i]);
        if (i >= 3 && !json_is_array(a))
            json_object_set_new(doc, arrays[i], json_array());
    }
    if (!json_get_text(doc, "table-uuid") || !json_get_text(doc, "location"))
        return corrupt(info, "table-uuid or location is missing");
    if (!json_get_int(doc, "last-sequence-number", 0, INT64_MAX, &v) ||
        !json_get_int(doc, "last-column-id", 0, INT32_MAX, &v) ||
        !json_get_int(doc, "current-schema-id", 0, INT32_MAX, &v) ||
        !json_get_int(doc, "default-spec-id", 0, INT32_MAX, &v) ||
        !json_get_int(doc, "last-partition-id", 0, INT32_MAX, &v) ||
        !json_get_int(doc, "default-sort-order-id", 0, INT32_MAX, &v) ||
        !json_get_int(doc, "last-updated-ms", INT64_MIN, INT64_MAX, &v))
        return corrupt(info, "one of its numbers is missing");
    if (!list_ok(doc, "schemas", "schema-id") || !list_ok(doc, "partition-specs", "spec-id") ||
        !list_ok(doc, "sort-orders", "order-id") || !list_ok(doc, "snapshots", "snapshot-id") ||
        !list_ok(doc, "snapshots", "timestamp-ms"))
        return corrupt(info, "a schema, spec, order or snapshot has no id");
    if (json_array_size(json_object_get(doc, "snapshots")) > LIMIT_LAKE_SNAPSHOTS)
        return corrupt(info, "too many snapshots");
    if (!json_is_object(json_object_get(doc, "refs")))
        json_object_set_new(doc, "refs", json_object());
    if (!json_is_object(json_object_get(doc, "properties")))
        json_object_set_new(doc, "properties", json_object());
    return ERR_OK;
}

/* A table whose writer left the refs out has its current snapshot as main. */
static enum err main_ref(json_t *doc, struct errinfo *info)
{
    int64_t id = json_int_or(doc, "current-snapshot-id", -1);
    struct metadata md = {.doc = doc};

    if (id < 0)
        return ERR_OK;
    if (!metadata_snapshot(&md, id))
        return corrupt(info, "the current snapshot is not in its list");
    if (!json_object_get(json_object_get(doc, "refs"), "main"))
        json_object_set_new(
            json_object_get(doc, "refs"), "main",
            json_pack("{s:I, s:s}", "snapshot-id", (json_int_t)id, "type", "branch"));
    return ERR_OK;
}

enum err metadata_take(json_t *doc, const char *location, struct metadata **out,
                       struct errinfo *info)
{
    struct metadata *md;
    enum err e;

    *out = NULL;
    e = json_is_object(doc) ? check(doc, info) : corrupt(info, "not a JSON object");
    e = e ? e : main_ref(doc, info);
    if (e) {
        json_decref(doc);
        return e;
    }
    md = xcalloc(1, sizeof *md);
    md->doc = doc;
    md->location = location ? xstrdup(location) : NULL;
    *out = md;
    return ERR_OK;
}

enum err metadata_parse(struct slice text, const char *location, struct metadata **out,
                        struct errinfo *info)
{
    json_error_t why;
    json_t *doc = json_loadb((const char *)text.ptr, text.len, 0, &why);

    *out = NULL;
    if (!doc)
        return errinfo_set(info, ERR_CORRUPT, "table metadata: line %d: %s", why.line, why.text);
    return metadata_take(doc, location, out, info);
}

struct metadata *metadata_clone(const struct metadata *md)
{
    struct metadata *c = xcalloc(1, sizeof *c);

    c->doc = json_deep_copy(md->doc);
    ASSERT(c->doc);
    c->location = md->location ? xstrdup(md->location) : NULL;
    c->config = json_incref(md->config);
    return c;
}

void metadata_free(struct metadata **md)
{
    if (!*md)
        return;
    json_decref((*md)->doc);
    json_decref((*md)->config);
    free((*md)->location);
    free((*md)->etag);
    free(*md);
    *md = NULL;
}

static int dump_to(const char *p, size_t n, void *arg)
{
    return buf_append(arg, p, n) ? -1 : 0;
}

enum err metadata_write(const struct metadata *md, struct buf *out)
{
    return json_dump_callback(md->doc, dump_to, out, JSON_COMPACT) ? ERR_TOO_LARGE : ERR_OK;
}

/* ---- looking ---- */

const char *metadata_uuid(const struct metadata *md)
{
    return json_get_text(md->doc, "table-uuid");
}

const char *metadata_base(const struct metadata *md)
{
    return json_get_text(md->doc, "location");
}

const char *metadata_property(const struct metadata *md, const char *key)
{
    return json_get_text(json_object_get(md->doc, "properties"), key);
}

int64_t metadata_property_int(const struct metadata *md, const char *key, int64_t def)
{
    const char *s = metadata_property(md, key);
    char *end;
    long long v;

    if (!s || !*s)
        return def;
    v = strtoll(s, &end, 10);
    return *end ? def : v;
}

static int64_t max_member(const json_t *doc, const char *list, const char *key)
{
    json_t *one;
    int64_t most = -1;
    size_t i;

    json_array_foreach(json_object_get(doc, list), i, one)
    {
        if (json_int_or(one, key, -1) > most)
            most = json_int_or(one, key, -1);
    }
    return most;
}

int32_t metadata_next_id(const struct metadata *md, const char *list, const char *member)
{
    return (int32_t)(max_member(md->doc, list, member) + 1);
}

int64_t metadata_last_sequence(const struct metadata *md)
{
    return json_int_or(md->doc, "last-sequence-number", 0);
}

int32_t metadata_last_column(const struct metadata *md)
{
    return (int32_t)json_int_or(md->doc, "last-column-id", 0);
}

/* The object of the list whose member key is id. */
static json_t *by_id(const json_t *doc, const char *list, const char *key, int64_t id)
{
    json_t *a = json_object_get(doc, list), *one;
    size_t i;

    json_array_foreach(a, i, one)
    {
        if (json_int_or(one, key, -1) == id)
            return one;
    }
    return NULL;
}

const json_t *metadata_snapshot(const struct metadata *md, int64_t id)
{
    return by_id(md->doc, "snapshots", "snapshot-id", id);
}

int64_t metadata_current_id(const struct metadata *md)
{
    return json_int_or(md->doc, "current-snapshot-id", -1);
}

const json_t *metadata_current(const struct metadata *md)
{
    int64_t id = metadata_current_id(md);

    return id < 0 ? NULL : metadata_snapshot(md, id);
}

enum err metadata_schema(const struct metadata *md, int32_t id, struct schema **out,
                         struct errinfo *info)
{
    const json_t *o;

    *out = NULL;
    if (id < 0)
        id = (int32_t)json_int_or(md->doc, "current-schema-id", -1);
    o = by_id(md->doc, "schemas", "schema-id", id);
    if (!o)
        return errinfo_set(info, ERR_NOT_FOUND, "the table has no schema %d", (int)id);
    return schema_parse(o, out, info)
               ? errinfo_set(info, ERR_CORRUPT, "schema %d does not parse", (int)id)
               : ERR_OK;
}

enum err metadata_spec(const struct metadata *md, int32_t id, struct spec **out,
                       struct errinfo *info)
{
    struct schema *s;
    const json_t *o;
    enum err e;

    *out = NULL;
    if (id < 0)
        id = (int32_t)json_int_or(md->doc, "default-spec-id", -1);
    o = by_id(md->doc, "partition-specs", "spec-id", id);
    if (!o)
        return errinfo_set(info, ERR_NOT_FOUND, "the table has no partition spec %d", (int)id);
    e = metadata_schema(md, -1, &s, info);
    if (e)
        return e;
    e = spec_parse(o, s, out, info);
    schema_free(&s);
    return e ? errinfo_set(info, ERR_CORRUPT, "partition spec %d does not parse", (int)id) : ERR_OK;
}

/* ---- requirements ---- */

static enum err unmet(struct errinfo *info, const char *what)
{
    return errinfo_set(info, ERR_CONFLICT, "requirement failed: %s", what);
}

static enum err check_ref(const struct metadata *md, const json_t *r, struct errinfo *info)
{
    const char *name = json_get_text(r, "ref");
    const json_t *want = json_object_get(r, "snapshot-id"), *ref;
    int64_t have;

    if (!name)
        return errinfo_set(info, ERR_INVALID, "assert-ref-snapshot-id without a ref");
    ref = json_object_get(json_object_get(md->doc, "refs"), name);
    have = ref ? json_int_or(ref, "snapshot-id", -1) : -1;
    if (!json_is_integer(want) || json_integer_value(want) < 0)
        return ref ? unmet(info, "the ref exists already") : ERR_OK;
    if (json_integer_value(want) == have)
        return ERR_OK;
    return errinfo_set(info, ERR_CONFLICT,
                       "requirement failed: %s is at snapshot %" PRId64 ", not %lld", name, have,
                       (long long)json_integer_value(want));
}

static const struct {
    const char *type, *member, *of_table;
} number_requirements[] = {
    {"assert-last-assigned-field-id", "last-assigned-field-id", "last-column-id"},
    {"assert-current-schema-id", "current-schema-id", "current-schema-id"},
    {"assert-last-assigned-partition-id", "last-assigned-partition-id", "last-partition-id"},
    {"assert-default-spec-id", "default-spec-id", "default-spec-id"},
    {"assert-default-sort-order-id", "default-sort-order-id", "default-sort-order-id"},
};

static enum err check_one(const struct metadata *md, const json_t *r, struct errinfo *info)
{
    const char *type = json_get_text(r, "type"), *uuid;

    if (!type)
        return errinfo_set(info, ERR_INVALID, "a requirement has no type");
    if (strcmp(type, "assert-create") == 0)
        return md ? unmet(info, "the table exists already") : ERR_OK;
    if (!md)
        return unmet(info, "there is no such table");
    if (strcmp(type, "assert-table-uuid") == 0) {
        uuid = json_get_text(r, "uuid");
        return uuid && strcasecmp(uuid, metadata_uuid(md)) == 0
                   ? ERR_OK
                   : unmet(info, "it is another table (table-uuid)");
    }
    if (strcmp(type, "assert-ref-snapshot-id") == 0)
        return check_ref(md, r, info);
    for (size_t i = 0; i < sizeof number_requirements / sizeof number_requirements[0]; i++) {
        if (strcmp(type, number_requirements[i].type) == 0)
            return json_int_or(r, number_requirements[i].member, -1) ==
                           json_int_or(md->doc, number_requirements[i].of_table, -2)
                       ? ERR_OK
                       : unmet(info, type);
    }
    return errinfo_set(info, ERR_INVALID, "an unknown requirement, \"%s\"", type);
}

bool metadata_creates(const json_t *requirements)
{
    const json_t *one;
    size_t i;

    json_array_foreach(requirements, i, one)
    {
        const char *type = json_get_text(one, "type");

        if (type && strcmp(type, "assert-create") == 0)
            return true;
    }
    return false;
}

enum err metadata_check(const struct metadata *md, const json_t *requirements, struct errinfo *info)
{
    const json_t *one;
    enum err e;
    size_t i;

    json_array_foreach(requirements, i, one)
    {
        e = check_one(md, one, info);
        if (e)
            return e;
    }
    return ERR_OK;
}

/* ---- updates ---- */

struct applying {
    json_t *doc;
    int64_t now_ms;
    int64_t last_schema, last_spec, last_order; /* added in this change; -1: none */
    struct errinfo *info;
};

static enum err invalid(struct applying *a, const char *what)
{
    return errinfo_set(a->info, ERR_INVALID, "%s", what);
}

static void set_int(json_t *o, const char *key, int64_t v)
{
    json_object_set_new(o, key, json_integer(v));
}

/* A column keeps its type, or is promoted. */
static bool types_follow(const struct schema_field *was, const struct schema *now)
{
    for (uint32_t i = 0; i < was->child_n; i++) {
        const struct schema_field *a = &was->child[i], *b = schema_find(now, a->id);

        if (b && !ice_type_eq(a->type, b->type) && !ice_type_promotes(a->type, b->type))
            return false;
        if (!types_follow(a, now))
            return false;
    }
    return true;
}

static enum err put_schema(struct applying *a, struct schema *s, int64_t last_column)
{
    json_t *list = json_object_get(a->doc, "schemas"), *one;
    int64_t most = schema_max_id(s), was = json_int_or(a->doc, "last-column-id", 0);
    size_t i;

    json_array_foreach(list, i, one)
    {
        struct schema *other;
        bool same, follows;

        if (schema_parse(one, &other, NULL))
            continue;
        same = schema_same(s, other);
        follows = types_follow(&other->root, s);
        schema_free(&other);
        if (same) {
            a->last_schema = json_int_or(one, "schema-id", 0);
            return ERR_OK;
        }
        if (!follows)
            return invalid(a, "a column's type would change in a way that Iceberg does not allow");
    }
    s->id = (int32_t)(max_member(a->doc, "schemas", "schema-id") + 1);
    json_array_append_new(list, schema_json(s));
    a->last_schema = s->id;
    most = last_column > most ? last_column : most;
    set_int(a->doc, "last-column-id", most > was ? most : was);
    return ERR_OK;
}

static enum err add_schema(struct applying *a, const json_t *u)
{
    struct schema *s;
    enum err e = schema_parse(json_object_get(u, "schema"), &s, a->info);

    if (e)
        return ERR_INVALID;
    e = put_schema(a, s, json_int_or(u, "last-column-id", 0));
    schema_free(&s);
    return e;
}

/* Sets a "current" or "default" id; -1 stands for what this change added. */
static enum err set_default(struct applying *a, const json_t *u, const char *member, int64_t last,
                            const char *list, const char *key, const char *of_table)
{
    int64_t id;

    if (!json_get_int(u, member, -1, INT32_MAX, &id) || (id == -1 && last < 0))
        return invalid(a, "an update has no such id");
    id = id == -1 ? last : id;
    if (!by_id(a->doc, list, key, id))
        return invalid(a, "an update names an id that the table does not have");
    set_int(a->doc, of_table, id);
    return ERR_OK;
}

static enum err set_current_schema(struct applying *a, const json_t *u)
{
    return set_default(a, u, "schema-id", a->last_schema, "schemas", "schema-id",
                       "current-schema-id");
}

static enum err put_spec(struct applying *a, const json_t *o)
{
    json_t *list = json_object_get(a->doc, "partition-specs"), *copy = json_deep_copy(o), *one;
    int64_t last = json_int_or(a->doc, "last-partition-id", SPEC_FIRST_FIELD - 1);
    struct metadata md = {.doc = a->doc};
    struct schema *schema;
    struct spec *spec;
    size_t i;
    enum err e;

    json_array_foreach(json_object_get(copy, "fields"), i, one)
    {
        if (!json_is_integer(json_object_get(one, "field-id")))
            set_int(one, "field-id", ++last);
        else if (json_int_or(one, "field-id", 0) > last)
            last = json_int_or(one, "field-id", 0);
    }
    e = metadata_schema(&md, (int32_t)(a->last_schema >= 0 ? a->last_schema : -1), &schema,
                        a->info);
    if (e) {
        json_decref(copy);
        return e;
    }
    e = spec_parse(copy, schema, &spec, a->info);
    for (i = 0; !e && i < spec->n; i++) {
        if (!schema_find(schema, spec->field[i].source_id) ||
            spec->field[i].transform.kind == TRANSFORM_UNKNOWN)
            e = errinfo_set(a->info, ERR_INVALID,
                            "a partition field's column or transform is not known");
    }
    schema_free(&schema);
    json_decref(copy);
    if (e) {
        spec_free(&spec);
        return ERR_INVALID;
    }
    json_array_foreach(list, i, one)
    {
        struct spec *other;
        bool same;

        if (spec_parse(one, NULL, &other, NULL))
            continue;
        same = spec_same(spec, other);
        spec_free(&other);
        if (same) {
            a->last_spec = json_int_or(one, "spec-id", 0);
            spec_free(&spec);
            return ERR_OK;
        }
    }
    spec->id = (int32_t)(max_member(a->doc, "partition-specs", "spec-id") + 1);
    a->last_spec = spec->id;
    json_array_append_new(list, spec_json(spec));
    set_int(a->doc, "last-partition-id", last);
    spec_free(&spec);
    return ERR_OK;
}

static enum err add_spec(struct applying *a, const json_t *u)
{
    return put_spec(a, json_object_get(u, "spec"));
}

static enum err set_default_spec(struct applying *a, const json_t *u)
{
    return set_default(a, u, "spec-id", a->last_spec, "partition-specs", "spec-id",
                       "default-spec-id");
}

static enum err put_order(struct applying *a, const json_t *o)
{
    json_t *list = json_object_get(a->doc, "sort-orders"), *copy, *one;
    const json_t *fields = json_object_get(o, "fields");
    int64_t id = 0;
    size_t i;

    if (!json_is_array(fields) || json_array_size(fields) > LIMIT_LAKE_SPEC_FIELDS)
        return invalid(a, "a sort order has no list of fields");
    json_array_foreach(fields, i, one)
    {
        if (!json_get_text(one, "transform") || !json_get_text(one, "direction") ||
            !json_get_text(one, "null-order") ||
            !json_is_integer(json_object_get(one, "source-id")))
            return invalid(a, "a sort field lacks a member");
    }
    json_array_foreach(list, i, one)
    {
        if (json_equal(json_object_get(one, "fields"), fields)) {
            a->last_order = json_int_or(one, "order-id", 0);
            return ERR_OK;
        }
    }
    if (json_array_size(fields)) { /* 0 is: unsorted */
        id = max_member(a->doc, "sort-orders", "order-id") + 1;
        id = id < 1 ? 1 : id;
    }
    copy = json_deep_copy(o);
    set_int(copy, "order-id", id);
    json_array_append_new(list, copy);
    a->last_order = id;
    return ERR_OK;
}

static enum err add_order(struct applying *a, const json_t *u)
{
    return put_order(a, json_object_get(u, "sort-order"));
}

static enum err set_default_order(struct applying *a, const json_t *u)
{
    return set_default(a, u, "sort-order-id", a->last_order, "sort-orders", "order-id",
                       "default-sort-order-id");
}

static enum err add_snapshot(struct applying *a, const json_t *u)
{
    const json_t *s = json_object_get(u, "snapshot"), *list = json_object_get(a->doc, "snapshots");
    int64_t id, sequence, stamp, last = json_int_or(a->doc, "last-sequence-number", 0);

    if (!json_get_int(s, "snapshot-id", 1, INT64_MAX, &id) ||
        !json_get_int(s, "sequence-number", 1, INT64_MAX, &sequence) ||
        !json_get_int(s, "timestamp-ms", INT64_MIN, INT64_MAX, &stamp) ||
        !json_get_text(s, "manifest-list") ||
        !json_get_text(json_object_get(s, "summary"), "operation"))
        return invalid(a, "a snapshot lacks a member");
    if (by_id(a->doc, "snapshots", "snapshot-id", id))
        return invalid(a, "the table has a snapshot of this id already");
    if (sequence <= last)
        return errinfo_set(a->info, ERR_CONFLICT,
                           "the snapshot's sequence number %" PRId64
                           " is not above the table's, %" PRId64,
                           sequence, last);
    if (json_array_size(list) >= LIMIT_LAKE_SNAPSHOTS)
        return errinfo_set(a->info, ERR_LIMIT, "the table has too many snapshots: expire some");
    json_array_append_new(json_object_get(a->doc, "snapshots"), json_deep_copy(s));
    set_int(a->doc, "last-sequence-number", sequence);
    if (stamp > a->now_ms)
        a->now_ms = stamp;
    return ERR_OK;
}

static enum err set_ref(struct applying *a, const json_t *u)
{
    const char *name = json_get_text(u, "ref-name"), *type = json_get_text(u, "type");
    json_t *ref, *refs = json_object_get(a->doc, "refs");
    int64_t id, before;

    if (!name || !type || !json_get_int(u, "snapshot-id", 1, INT64_MAX, &id) ||
        (strcmp(type, "branch") != 0 && strcmp(type, "tag") != 0))
        return invalid(a, "set-snapshot-ref lacks a member");
    if (!by_id(a->doc, "snapshots", "snapshot-id", id))
        return invalid(a, "set-snapshot-ref names a snapshot that the table does not have");
    ref = json_deep_copy(u);
    json_object_del(ref, "action");
    json_object_del(ref, "ref-name");
    json_object_set_new(refs, name, ref);
    before = json_int_or(a->doc, "current-snapshot-id", -1);
    if (strcmp(name, "main") != 0 || before == id)
        return ERR_OK;
    set_int(a->doc, "current-snapshot-id", id);
    json_array_append_new(json_object_get(a->doc, "snapshot-log"),
                          json_pack("{s:I, s:I}", "timestamp-ms", (json_int_t)a->now_ms,
                                    "snapshot-id", (json_int_t)id));
    return ERR_OK;
}

static enum err remove_ref(struct applying *a, const json_t *u)
{
    const char *name = json_get_text(u, "ref-name");

    if (!name)
        return invalid(a, "remove-snapshot-ref has no ref-name");
    json_object_del(json_object_get(a->doc, "refs"), name);
    if (strcmp(name, "main") == 0)
        set_int(a->doc, "current-snapshot-id", -1);
    return ERR_OK;
}

/* Keeps those of the list for which the member `key` is a snapshot that is still there. */
static void prune(json_t *doc, const char *list, const char *key)
{
    json_t *a = json_object_get(doc, list);

    for (size_t i = json_array_size(a); i-- > 0;) {
        int64_t id = json_int_or(json_array_get(a, i), key, -1);

        if (!by_id(doc, "snapshots", "snapshot-id", id))
            json_array_remove(a, i);
    }
}

/* What came before a gap in the log cannot be told any more: it goes, too. */
static void prune_log(json_t *doc)
{
    json_t *a = json_object_get(doc, "snapshot-log");

    for (size_t i = json_array_size(a); i-- > 0;) {
        int64_t id = json_int_or(json_array_get(a, i), "snapshot-id", -1);

        if (by_id(doc, "snapshots", "snapshot-id", id))
            continue;
        for (size_t k = 0; k <= i; k++)
            json_array_remove(a, 0);
        return;
    }
}

static bool in_list(const json_t *list, int64_t id)
{
    const json_t *one;
    size_t i;

    json_array_foreach(list, i, one)
    {
        if (json_is_integer(one) && json_integer_value(one) == id)
            return true;
    }
    return false;
}

static enum err remove_snapshots(struct applying *a, const json_t *u)
{
    const json_t *ids = json_object_get(u, "snapshot-ids");
    json_t *list = json_object_get(a->doc, "snapshots"), *ref;
    const char *name;
    void *next;

    if (!json_is_array(ids))
        return invalid(a, "remove-snapshots has no snapshot-ids");
    if (in_list(ids, json_int_or(a->doc, "current-snapshot-id", -1)))
        return invalid(a, "the current snapshot cannot be removed");
    for (size_t i = json_array_size(list); i-- > 0;) {
        if (in_list(ids, json_int_or(json_array_get(list, i), "snapshot-id", -1)))
            json_array_remove(list, i);
    }
    json_object_foreach_safe(json_object_get(a->doc, "refs"), next, name, ref)
    {
        if (in_list(ids, json_int_or(ref, "snapshot-id", -1)))
            json_object_del(json_object_get(a->doc, "refs"), name);
    }
    prune_log(a->doc);
    prune(a->doc, "statistics", "snapshot-id");
    prune(a->doc, "partition-statistics", "snapshot-id");
    return ERR_OK;
}

static enum err set_location(struct applying *a, const json_t *u)
{
    if (!json_get_text(u, "location"))
        return invalid(a, "set-location has no location");
    json_object_set(a->doc, "location", json_object_get(u, "location"));
    return ERR_OK;
}

static enum err set_properties(struct applying *a, const json_t *u)
{
    const json_t *map = json_object_get(u, "updates");
    const char *key;
    json_t *value;

    if (!json_is_object(map))
        return invalid(a, "set-properties has no updates");
    json_object_foreach((json_t *)(uintptr_t)map, key, value)
    {
        if (!json_is_string(value))
            return invalid(a, "a property's value is not text");
        json_object_set(json_object_get(a->doc, "properties"), key, value);
    }
    return ERR_OK;
}

static enum err remove_properties(struct applying *a, const json_t *u)
{
    const json_t *list = json_object_get(u, "removals"), *one;
    size_t i;

    if (!json_is_array(list))
        return invalid(a, "remove-properties has no removals");
    json_array_foreach(list, i, one)
    {
        if (json_is_string(one))
            json_object_del(json_object_get(a->doc, "properties"), json_string_value(one));
    }
    return ERR_OK;
}

/* Removes what the list says of the snapshot; then puts o there, if it is not NULL. */
static enum err replace_statistics(struct applying *a, const char *list, int64_t id,
                                   const json_t *o)
{
    json_t *all = json_object_get(a->doc, list);

    if (id < 0)
        return invalid(a, "statistics have no snapshot-id");
    if (!json_is_array(all)) {
        all = json_array();
        json_object_set_new(a->doc, list, all);
    }
    for (size_t i = json_array_size(all); i-- > 0;) {
        if (json_int_or(json_array_get(all, i), "snapshot-id", -1) == id)
            json_array_remove(all, i);
    }
    if (o)
        json_array_append_new(all, json_deep_copy(o));
    return ERR_OK;
}

static enum err set_statistics(struct applying *a, const json_t *u)
{
    const json_t *o = json_object_get(u, "statistics");

    return replace_statistics(a, "statistics", json_int_or(o, "snapshot-id", -1), o);
}

static enum err remove_statistics(struct applying *a, const json_t *u)
{
    return replace_statistics(a, "statistics", json_int_or(u, "snapshot-id", -1), NULL);
}

static enum err set_partition_statistics(struct applying *a, const json_t *u)
{
    const json_t *o = json_object_get(u, "partition-statistics");

    return replace_statistics(a, "partition-statistics", json_int_or(o, "snapshot-id", -1), o);
}

static enum err remove_partition_statistics(struct applying *a, const json_t *u)
{
    return replace_statistics(a, "partition-statistics", json_int_or(u, "snapshot-id", -1), NULL);
}

/* Removes those of a list whose ids the update names, but not the one in use. */
static enum err remove_ids(struct applying *a, const json_t *u, const char *member,
                           const char *list, const char *key, const char *in_use)
{
    const json_t *ids = json_object_get(u, member);
    json_t *all = json_object_get(a->doc, list);

    if (!json_is_array(ids))
        return invalid(a, "an update has no list of ids");
    if (in_list(ids, json_int_or(a->doc, in_use, -1)))
        return invalid(a, "what is in use cannot be removed");
    for (size_t i = json_array_size(all); i-- > 0;) {
        if (in_list(ids, json_int_or(json_array_get(all, i), key, -1)))
            json_array_remove(all, i);
    }
    return ERR_OK;
}

static enum err remove_specs(struct applying *a, const json_t *u)
{
    return remove_ids(a, u, "spec-ids", "partition-specs", "spec-id", "default-spec-id");
}

static enum err remove_schemas(struct applying *a, const json_t *u)
{
    return remove_ids(a, u, "schema-ids", "schemas", "schema-id", "current-schema-id");
}

static enum err assign_uuid(struct applying *a, const json_t *u)
{
    const char *uuid = json_get_text(u, "uuid"), *own = json_get_text(a->doc, "table-uuid");

    if (!uuid || strlen(uuid) != 36)
        return invalid(a, "assign-uuid has no uuid");
    if (strcasecmp(uuid, own) != 0)
        return invalid(a, "the table has another uuid");
    return ERR_OK;
}

static enum err upgrade_version(struct applying *a, const json_t *u)
{
    int64_t v = json_int_or(u, "format-version", 0);

    if (v == 2)
        return ERR_OK;
    return errinfo_set(a->info, ERR_UNSUPPORTED, "format version %d is not supported; 2 is",
                       (int)v);
}

static const struct {
    const char *action;
    enum err (*fn)(struct applying *a, const json_t *u);
} actions[] = {
    {"assign-uuid", assign_uuid},
    {"upgrade-format-version", upgrade_version},
    {"add-schema", add_schema},
    {"set-current-schema", set_current_schema},
    {"add-spec", add_spec},
    {"set-default-spec", set_default_spec},
    {"add-sort-order", add_order},
    {"set-default-sort-order", set_default_order},
    {"add-snapshot", add_snapshot},
    {"set-snapshot-ref", set_ref},
    {"remove-snapshot-ref", remove_ref},
    {"remove-snapshots", remove_snapshots},
    {"set-location", set_location},
    {"set-properties", set_properties},
    {"remove-properties", remove_properties},
    {"set-statistics", set_statistics},
    {"remove-statistics", remove_statistics},
    {"set-partition-statistics", set_partition_statistics},
    {"remove-partition-statistics", remove_partition_statistics},
    {"remove-partition-specs", remove_specs},
    {"remove-schemas", remove_schemas},
};

static enum err apply_one(struct applying *a, const json_t *u)
{
    const char *action = json_get_text(u, "action");

    for (size_t i = 0; action && i < sizeof actions / sizeof actions[0]; i++) {
        if (strcmp(action, actions[i].action) == 0)
            return actions[i].fn(a, u);
    }
    return errinfo_set(a->info, action ? ERR_UNSUPPORTED : ERR_INVALID,
                       "the update \"%s\" is not supported", action ? action : "");
}

enum err metadata_apply(struct metadata *md, const json_t *updates, int64_t now_ms,
                        struct errinfo *info)
{
    struct applying a = {
        .now_ms = now_ms, .last_schema = -1, .last_spec = -1, .last_order = -1, .info = info};
    int64_t before = json_int_or(md->doc, "last-updated-ms", 0);
    const json_t *u;
    enum err e = ERR_OK;
    size_t i;

    a.doc = json_deep_copy(md->doc);
    ASSERT(a.doc);
    json_array_foreach(updates, i, u)
    {
        e = apply_one(&a, u);
        if (e)
            break;
    }
    if (e) {
        json_decref(a.doc);
        return e;
    }
    set_int(a.doc, "last-updated-ms", a.now_ms > before ? a.now_ms : before);
    json_decref(md->doc);
    md->doc = a.doc;
    return ERR_OK;
}

void metadata_log(struct metadata *md, json_t *gone)
{
    json_t *log = json_object_get(md->doc, "metadata-log");
    int64_t most =
        metadata_property_int(md, "write.metadata.previous-versions-max", METADATA_LOG_MAX);

    most = most < 1 ? 1 : most > 10000 ? 10000 : most;
    if (!md->location)
        return;
    json_array_append_new(log, json_pack("{s:I, s:s}", "timestamp-ms",
                                         (json_int_t)json_int_or(md->doc, "last-updated-ms", 0),
                                         "metadata-file", md->location));
    while (json_array_size(log) > (size_t)most) {
        if (gone)
            json_array_append(gone, json_object_get(json_array_get(log, 0), "metadata-file"));
        json_array_remove(log, 0);
    }
}

/* ---- new tables ---- */

static json_t *empty_table(const char *location, const char uuid[37], int64_t now_ms)
{
    return json_pack(
        "{s:i, s:s, s:s, s:i, s:I, s:i, s:[], s:i, s:[], s:i, s:i, s:[], s:i, s:{}, s:i,"
        " s:{}, s:[], s:[], s:[]}",
        "format-version", 2, "table-uuid", uuid, "location", location, "last-sequence-number", 0,
        "last-updated-ms", (json_int_t)now_ms, "last-column-id", 0, "schemas", "current-schema-id",
        0, "partition-specs", "default-spec-id", 0, "last-partition-id", SPEC_FIRST_FIELD - 1,
        "sort-orders", "default-sort-order-id", 0, "properties", "current-snapshot-id", -1, "refs",
        "snapshots", "snapshot-log", "metadata-log");
}

enum err metadata_create(const json_t *request, const char *location, const char uuid[37],
                         int64_t now_ms, struct metadata **out, struct errinfo *info)
{
    struct applying a = {
        .now_ms = now_ms, .last_schema = -1, .last_spec = -1, .last_order = -1, .info = info};
    const json_t *spec = json_object_get(request, "partition-spec");
    const json_t *order = json_object_get(request, "write-order");
    const json_t *properties = json_object_get(request, "properties");
    json_t *none = json_pack("{s:[]}", "fields"), *props;
    enum err e;

    *out = NULL;
    a.doc = empty_table(location, uuid, now_ms);
    ASSERT(a.doc);
    e = add_schema(&a, request);
    e = e ? e : put_spec(&a, json_is_object(spec) ? spec : none);
    e = e ? e : put_order(&a, json_is_object(order) ? order : none);
    if (!e && json_is_object(properties)) {
        props = json_pack("{s:O}", "updates", (json_t *)(uintptr_t)properties);
        e = set_properties(&a, props);
        json_decref(props);
        json_object_del(json_object_get(a.doc, "properties"), "format-version");
    }
    json_decref(none);
    if (e) {
        json_decref(a.doc);
        return e;
    }
    set_int(a.doc, "current-schema-id", a.last_schema);
    set_int(a.doc, "default-spec-id", a.last_spec);
    set_int(a.doc, "default-sort-order-id", a.last_order);
    return metadata_take(a.doc, NULL, out, info);
}

/* The uuid and location that updates give, if they do. */
static const char *given(const json_t *updates, const char *action, const char *member)
{
    const json_t *one;
    size_t i;

    json_array_foreach(updates, i, one)
    {
        const char *a = json_get_text(one, "action"), *text = json_get_text(one, member);

        if (a && text && strcmp(a, action) == 0)
            return text;
    }
    return NULL;
}

enum err metadata_make(const json_t *updates, const char *location, const char uuid[37],
                       int64_t now_ms, struct metadata **out, struct errinfo *info)
{
    const char *own = given(updates, "assign-uuid", "uuid");
    struct metadata *md = xcalloc(1, sizeof *md);
    json_t *doc;
    enum err e;

    *out = NULL;
    md->doc = empty_table(location, own && strlen(own) == 36 ? own : uuid, now_ms);
    ASSERT(md->doc);
    e = metadata_apply(md, updates, now_ms, info);
    doc = json_incref(md->doc);
    metadata_free(&md);
    if (e) {
        json_decref(doc);
        return e;
    }
    return metadata_take(doc, NULL, out, info) ? ERR_INVALID : ERR_OK;
}

/* ---- expiry ---- */

/* Marks what a branch keeps: the newest `keep`, and what is younger than its age. */
static void keep_branch(const struct metadata *md, const json_t *ref, int64_t older_than_ms,
                        int64_t now_keep, json_t *kept)
{
    int64_t id = json_int_or(ref, "snapshot-id", -1), n = 0;
    int64_t least = json_int_or(ref, "min-snapshots-to-keep", now_keep);
    char key[24];

    for (; id >= 0; n++) {
        const json_t *s = metadata_snapshot(md, id);

        if (!s || (n >= least && json_int_or(s, "timestamp-ms", 0) < older_than_ms))
            return;
        snprintf(key, sizeof key, "%" PRId64, id);
        if (json_object_get(kept, key) && n > 0 && n >= least)
            return; /* another branch has passed here */
        json_object_set_new(kept, key, json_true());
        id = json_int_or(s, "parent-snapshot-id", -1);
        if (n > (int64_t)LIMIT_LAKE_SNAPSHOTS)
            return; /* parents in a circle */
    }
}

json_t *metadata_expired(const struct metadata *md, int64_t older_than_ms, unsigned keep)
{
    json_t *out = json_array(), *kept = json_object(), *reached = json_object(), *ref;
    const json_t *snapshots = json_object_get(md->doc, "snapshots");
    const char *name;

    json_object_foreach(json_object_get(md->doc, "refs"), name, ref)
    {
        const char *type = json_get_text(ref, "type");
        bool tag = type && strcmp(type, "tag") == 0;

        keep_branch(md, ref, tag ? INT64_MAX : older_than_ms, tag ? 1 : keep < 1 ? 1 : keep, kept);
        keep_branch(md, ref, INT64_MIN, INT32_MAX, reached);
    }
    for (size_t i = 0; i < json_array_size(snapshots); i++) {
        const json_t *s = json_array_get(snapshots, i);
        char key[24];

        snprintf(key, sizeof key, "%" PRId64, json_int_or(s, "snapshot-id", -1));
        if (json_object_get(kept, key))
            continue;
        if (!json_object_get(reached, key) && json_int_or(s, "timestamp-ms", 0) >= older_than_ms)
            continue; /* of no branch, but young: perhaps being written to */
        json_array_append(out, json_object_get(s, "snapshot-id"));
    }
    json_decref(kept);
    json_decref(reached);
    return out;
}

/* ---- ids ---- */

void uuid_text(const uint8_t random[16], char out[37])
{
    uint8_t u[16];
    char hex[33];
    size_t n = 0;

    memcpy(u, random, 16);
    u[6] = (uint8_t)((u[6] & 0x0f) | 0x40);
    u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
    hex_encode(u, 16, hex);
    for (size_t i = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20)
            out[n++] = '-';
        out[n++] = hex[i];
    }
    out[n] = 0;
}

int64_t snapshot_id_from(const uint8_t random[8])
{
    int64_t v = (int64_t)(le64_load(random) >> 11);

    return v ? v : 1;
}
