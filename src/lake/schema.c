/* Iceberg schemas. See schema.h.
 *
 * Recursion follows the nesting, which parsing limits to SCHEMA_DEPTH_MAX. */
#include "lake/schema.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "lake/json.h"

/* ---- life ---- */

struct schema *schema_new(int32_t id)
{
    struct schema *s = xcalloc(1, sizeof *s);

    s->id = id;
    s->root.type.kind = ICE_STRUCT;
    return s;
}

static void field_fini(struct schema_field *f)
{
    for (uint32_t i = 0; i < f->child_n; i++)
        field_fini(&f->child[i]);
    free(f->child);
    free(f->name);
    free(f->doc);
}

void schema_free(struct schema **s)
{
    if (!*s)
        return;
    field_fini(&(*s)->root);
    free((*s)->identifier);
    free(*s);
    *s = NULL;
}

static void field_copy(struct schema_field *to, const struct schema_field *from)
{
    *to = *from;
    to->name = from->name ? xstrdup(from->name) : NULL;
    to->doc = from->doc ? xstrdup(from->doc) : NULL;
    to->child = from->child_n ? xcalloc(from->child_n, sizeof *to->child) : NULL;
    for (uint32_t i = 0; i < from->child_n; i++)
        field_copy(&to->child[i], &from->child[i]);
}

struct schema *schema_clone(const struct schema *s)
{
    struct schema *c = xcalloc(1, sizeof *c);

    c->id = s->id;
    c->identifier_n = s->identifier_n;
    if (s->identifier_n)
        c->identifier = xmemdup(s->identifier, s->identifier_n * sizeof *s->identifier);
    field_copy(&c->root, &s->root);
    return c;
}

struct schema_field *schema_add(struct schema_field *to, int32_t id, const char *name,
                                struct ice_type type, bool required)
{
    struct schema_field *f;

    ASSERT(to->type.kind >= ICE_PRIMITIVES);
    to->child = xrealloc(to->child, (to->child_n + 1) * sizeof *to->child);
    f = &to->child[to->child_n++];
    *f = (struct schema_field){.id = id, .required = required, .type = type, .name = xstrdup(name)};
    return f;
}

/* ---- from JSON ---- */

struct parsing {
    struct u64map ids;
    uint32_t fields;
    struct errinfo *info;
};

static enum err bad(struct parsing *p, const char *what)
{
    return errinfo_set(p->info, ERR_CORRUPT_INPUT, "schema: %s", what);
}

static enum err type_parse(struct parsing *p, const json_t *o, unsigned depth,
                           struct schema_field *f);

/* Adds the child with the id and type that o has under these members. */
static enum err child_parse(struct parsing *p, const json_t *o, const char *id_key,
                            const char *type_key, const char *name, bool required, unsigned depth,
                            struct schema_field *to)
{
    struct schema_field *f;
    int64_t id;

    if (!json_get_int(o, id_key, 0, INT32_MAX, &id))
        return bad(p, "a field has no id");
    if (++p->fields > LIMIT_LAKE_FIELDS)
        return bad(p, "too many fields");
    if (u64map_put(&p->ids, (uint64_t)id, p))
        return bad(p, "two fields have the same id");
    f = schema_add(to, (int32_t)id, name, (struct ice_type){0}, required);
    return type_parse(p, json_object_get(o, type_key), depth + 1, f);
}

static enum err struct_parse(struct parsing *p, const json_t *o, unsigned depth,
                             struct schema_field *to)
{
    const json_t *fields = json_object_get(o, "fields"), *one;
    struct map names;
    size_t i;
    enum err e = ERR_OK;

    if (!json_is_array(fields))
        return bad(p, "a struct has no fields");
    map_init(&names, LIMIT_LAKE_FIELDS, NULL);
    json_array_foreach(fields, i, one)
    {
        const char *name = json_get_text(one, "name"), *doc = json_get_text(one, "doc");
        const json_t *required = json_object_get(one, "required");

        if (!name || !json_is_boolean(required))
            e = bad(p, "a field lacks its name or whether it is required");
        else if (map_put(&names, slice_str(name), p))
            e = bad(p, "two fields have the same name");
        else
            e = child_parse(p, one, "id", "type", name, json_is_true(required), depth, to);
        if (e)
            break;
        if (doc)
            to->child[to->child_n - 1].doc = xstrdup(doc);
    }
    map_fini(&names);
    return e;
}

static enum err type_parse(struct parsing *p, const json_t *o, unsigned depth,
                           struct schema_field *f)
{
    const char *word = json_is_string(o) ? json_string_value(o) : json_get_text(o, "type");
    enum err e;

    if (!word || depth > SCHEMA_DEPTH_MAX)
        return bad(p, word ? "nested too deeply" : "a field has no type");
    if (json_is_string(o))
        return ice_type_parse(slice_str(word), &f->type) ? ERR_OK : bad(p, "an unknown type");
    if (strcmp(word, "struct") == 0) {
        f->type.kind = ICE_STRUCT;
        return struct_parse(p, o, depth, f);
    }
    if (strcmp(word, "list") == 0) {
        f->type.kind = ICE_LIST;
        return child_parse(p, o, "element-id", "element", "element",
                           json_is_true(json_object_get(o, "element-required")), depth, f);
    }
    if (strcmp(word, "map") != 0)
        return bad(p, "an unknown type");
    f->type.kind = ICE_MAP;
    e = child_parse(p, o, "key-id", "key", "key", true, depth, f);
    return e ? e
             : child_parse(p, o, "value-id", "value", "value",
                           json_is_true(json_object_get(o, "value-required")), depth, f);
}

static enum err identifier_parse(struct parsing *p, const json_t *o, struct schema *s)
{
    const json_t *list = json_object_get(o, "identifier-field-ids"), *one;
    size_t i;

    if (!json_array_size(list))
        return ERR_OK;
    if (json_array_size(list) > LIMIT_LAKE_FIELDS)
        return bad(p, "too many identifier fields");
    s->identifier = xcalloc(json_array_size(list), sizeof *s->identifier);
    json_array_foreach(list, i, one)
    {
        int64_t id = json_is_integer(one) ? json_integer_value(one) : -1;

        if (id < 0 || id > INT32_MAX || !u64map_find(&p->ids, (uint64_t)id))
            return bad(p, "an identifier field is not in the schema");
        s->identifier[s->identifier_n++] = (int32_t)id;
    }
    return ERR_OK;
}

enum err schema_parse(const json_t *o, struct schema **out, struct errinfo *info)
{
    struct parsing p = {.info = info};
    struct schema *s;
    enum err e;

    *out = NULL;
    if (!json_is_object(o))
        return bad(&p, "not an object");
    s = schema_new((int32_t)json_int_or(o, "schema-id", 0));
    u64map_init(&p.ids, LIMIT_LAKE_FIELDS + 1, 0);
    e = struct_parse(&p, o, 0, &s->root);
    e = e ? e : identifier_parse(&p, o, s);
    u64map_fini(&p.ids);
    if (e)
        schema_free(&s);
    *out = s;
    return e;
}

/* ---- to JSON ---- */

static json_t *type_json(const struct schema_field *f);

static json_t *struct_json(const struct schema_field *f)
{
    json_t *o = json_object(), *fields = json_array();

    for (uint32_t i = 0; i < f->child_n; i++) {
        const struct schema_field *c = &f->child[i];
        json_t *one = json_object();

        json_object_set_new(one, "id", json_integer(c->id));
        json_object_set_new(one, "name", json_string(c->name));
        json_object_set_new(one, "required", json_boolean(c->required));
        json_object_set_new(one, "type", type_json(c));
        if (c->doc)
            json_object_set_new(one, "doc", json_string(c->doc));
        json_array_append_new(fields, one);
    }
    json_object_set_new(o, "type", json_string("struct"));
    json_object_set_new(o, "fields", fields);
    return o;
}

static json_t *type_json(const struct schema_field *f)
{
    char text[ICE_TYPE_TEXT];
    json_t *o;

    if (f->type.kind == ICE_STRUCT)
        return struct_json(f);
    ice_type_text(f->type, text);
    if (f->type.kind < ICE_PRIMITIVES)
        return json_string(text);
    o = json_object();
    json_object_set_new(o, "type", json_string(text));
    if (f->type.kind == ICE_LIST) {
        json_object_set_new(o, "element-id", json_integer(f->child[0].id));
        json_object_set_new(o, "element", type_json(&f->child[0]));
        json_object_set_new(o, "element-required", json_boolean(f->child[0].required));
        return o;
    }
    json_object_set_new(o, "key-id", json_integer(f->child[0].id));
    json_object_set_new(o, "key", type_json(&f->child[0]));
    json_object_set_new(o, "value-id", json_integer(f->child[1].id));
    json_object_set_new(o, "value", type_json(&f->child[1]));
    json_object_set_new(o, "value-required", json_boolean(f->child[1].required));
    return o;
}

json_t *schema_json(const struct schema *s)
{
    json_t *o = struct_json(&s->root), *ids;

    json_object_set_new(o, "schema-id", json_integer(s->id));
    if (s->identifier_n) {
        ids = json_array();
        for (uint32_t i = 0; i < s->identifier_n; i++)
            json_array_append_new(ids, json_integer(s->identifier[i]));
        json_object_set_new(o, "identifier-field-ids", ids);
    }
    return o;
}

/* ---- looking ---- */

static bool text_same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool field_same(const struct schema_field *a, const struct schema_field *b)
{
    if (a->id != b->id || a->required != b->required || !ice_type_eq(a->type, b->type) ||
        a->child_n != b->child_n || !text_same(a->name, b->name) || !text_same(a->doc, b->doc))
        return false;
    for (uint32_t i = 0; i < a->child_n; i++) {
        if (!field_same(&a->child[i], &b->child[i]))
            return false;
    }
    return true;
}

bool schema_same(const struct schema *a, const struct schema *b)
{
    return field_same(&a->root, &b->root) && a->identifier_n == b->identifier_n &&
           (!a->identifier_n ||
            memcmp(a->identifier, b->identifier, a->identifier_n * sizeof *a->identifier) == 0);
}

static const struct schema_field *find(const struct schema_field *in, int32_t id)
{
    const struct schema_field *f;

    for (uint32_t i = 0; i < in->child_n; i++) {
        if (in->child[i].id == id)
            return &in->child[i];
        f = find(&in->child[i], id);
        if (f)
            return f;
    }
    return NULL;
}

const struct schema_field *schema_find(const struct schema *s, int32_t id)
{
    return find(&s->root, id);
}

static const struct schema_field *find_name(const struct schema_field *in, struct slice name)
{
    for (uint32_t i = 0; i < in->child_n; i++) {
        const struct schema_field *c = &in->child[i], *f;
        struct slice own = slice_str(c->name);

        if (slice_eq(own, name))
            return c;
        if (!slice_has_prefix(name, own) || name.ptr[own.len] != '.')
            continue;
        f = find_name(c, slice_of(name.ptr + own.len + 1, name.len - own.len - 1));
        if (f)
            return f;
    }
    return NULL;
}

const struct schema_field *schema_find_name(const struct schema *s, struct slice name)
{
    return find_name(&s->root, name);
}

static bool within_structs(const struct schema_field *in, int32_t id)
{
    for (uint32_t i = 0; i < in->child_n; i++) {
        const struct schema_field *c = &in->child[i];

        if (c->id == id || (c->type.kind == ICE_STRUCT && within_structs(c, id)))
            return true;
    }
    return false;
}

bool schema_once_a_row(const struct schema *s, int32_t id)
{
    return within_structs(&s->root, id);
}

static int32_t max_id(const struct schema_field *in)
{
    int32_t most = 0;

    for (uint32_t i = 0; i < in->child_n; i++) {
        int32_t below = max_id(&in->child[i]);

        most = in->child[i].id > most ? in->child[i].id : most;
        most = below > most ? below : most;
    }
    return most;
}

int32_t schema_max_id(const struct schema *s)
{
    return max_id(&s->root);
}

static void each_leaf(const struct schema_field *in,
                      void (*fn)(void *arg, const struct schema_field *f), void *arg)
{
    for (uint32_t i = 0; i < in->child_n; i++) {
        if (in->child[i].type.kind < ICE_PRIMITIVES)
            fn(arg, &in->child[i]);
        else
            each_leaf(&in->child[i], fn, arg);
    }
}

void schema_each_leaf(const struct schema *s, void (*fn)(void *arg, const struct schema_field *f),
                      void *arg)
{
    each_leaf(&s->root, fn, arg);
}

enum err schema_promote(struct schema *s, int32_t id, struct ice_type type, struct errinfo *info)
{
    struct schema_field *f = (struct schema_field *)(uintptr_t)schema_find(s, id);
    char from[ICE_TYPE_TEXT], to[ICE_TYPE_TEXT];

    if (!f)
        return errinfo_set(info, ERR_NOT_FOUND, "there is no column %d", (int)id);
    if (!ice_type_promotes(f->type, type)) {
        ice_type_text(f->type, from);
        ice_type_text(type, to);
        return errinfo_set(info, ERR_INVALID, "column \"%s\" cannot become %s from %s", f->name, to,
                           from);
    }
    f->type = type;
    return ERR_OK;
}

/* ---- names ---- */

static json_t *mapping(const struct schema_field *in)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < in->child_n; i++) {
        const struct schema_field *c = &in->child[i];
        json_t *one = json_object();

        json_object_set_new(one, "field-id", json_integer(c->id));
        json_object_set_new(one, "names", json_pack("[s]", c->name));
        if (c->child_n)
            json_object_set_new(one, "fields", mapping(c));
        json_array_append_new(list, one);
    }
    return list;
}

char *schema_name_mapping(const struct schema *s)
{
    json_t *list = mapping(&s->root);
    char *text = json_dumps(list, JSON_COMPACT);

    json_decref(list);
    ASSERT(text);
    return text;
}
