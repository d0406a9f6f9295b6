/* The columns of a topic's table. See lake_int.h.
 *
 * The first seven ids are the record's own; so are two columns that are known by their doc, because
 * catalogs that number columns anew differ in how they go through the headers' children: level by
 * level, or depth first. What JSON values have comes behind. Which member of the
 * value a column holds is in the column's doc, so that a table says it to everybody and the lake
 * finds it again: "value field: NAME", or "misfits of value field: NAME" for the text of values that
 * do not fit the field's own column. A type once given is kept: a table's column cannot become
 * narrower, and files are not written anew for a wider one; so a field whose values change their
 * kind gets a second column for what does not fit, and no value is lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lake/lake_int.h"

#define DOC_FIELD  "value field: "
#define DOC_MISFIT "misfits of value field: "
#define NAME_MAX_  (LIMIT_SQL_FIELD_NAME + sizeof "value__text_4294967295")

static const struct own {
    int32_t id;
    const char *name;
    enum lake_source source;
    enum ice_kind kind;
    bool required;
    const char *doc;
} own[] = {
    {COLUMN_PARTITION, "partition", LAKE_PARTITION, ICE_INT, true, "partition of the topic"},
    {COLUMN_OFFSET, "offset", LAKE_OFFSET, ICE_LONG, true, "offset in the partition"},
    {COLUMN_POSITION, "position", LAKE_POSITION, ICE_LONG, false, "order over all topics"},
    {COLUMN_TIMESTAMP, "timestamp", LAKE_TIMESTAMP, ICE_TIMESTAMPTZ, true, "the record's time"},
    {COLUMN_KEY, "key", LAKE_KEY, ICE_BINARY, false, "the record's key, exactly"},
    {COLUMN_VALUE, "value", LAKE_VALUE, ICE_BINARY, false, "the record's value, exactly"},
    {COLUMN_HEADERS, "headers", LAKE_HEADERS, ICE_LIST, false, "the record's headers, exactly"},
    {COLUMN_CE_TYPE, "ce_type", LAKE_CE_TYPE, ICE_STRING, false, "type of the CloudEvent"},
    {COLUMN_CE_ID, "ce_id", LAKE_CE_ID, ICE_STRING, false, "id of the CloudEvent"},
};
#define OWN (sizeof own / sizeof *own)

static struct ice_type type_of(enum ice_kind k)
{
    return (struct ice_type){.kind = k};
}

static void headers_add(struct schema_field *f, const int32_t id[3])
{
    struct schema_field *e = schema_add(f, id[0], "element", type_of(ICE_STRUCT), true), *v;

    schema_add(e, id[1], "key", type_of(ICE_STRING), true);
    v = schema_add(e, id[2], "value", type_of(ICE_BINARY), false);
    ASSERT(v);
}

struct schema *columns_first_schema(void)
{
    static const int32_t ids[3] = {COLUMN_HEADER, COLUMN_HEADER_KEY, COLUMN_HEADER_VALUE};
    struct schema *s = schema_new(0);
    struct schema_field *f;
    size_t i;

    for (i = 0; i < OWN; i++) {
        f = schema_add(&s->root, own[i].id, own[i].name, type_of(own[i].kind), own[i].required);
        f->doc = xstrdup(own[i].doc);
        if (own[i].id == COLUMN_HEADERS)
            headers_add(f, ids);
    }
    return s;
}

char *lake_columns_json(const struct lake_column *c, uint32_t n)
{
    struct schema *s = schema_new(0);
    char *text;
    uint32_t i;
    json_t *o;

    for (i = 0; i < n; i++) {
        struct schema_field *f =
            schema_add(&s->root, c[i].id, c[i].name, type_of(c[i].kind), c[i].required);

        if (c[i].source == LAKE_HEADERS)
            headers_add(f, c[i].child_id);
    }
    o = schema_json(s);
    text = json_dumps(o, JSON_COMPACT);
    ASSERT(text);
    json_decref(o);
    schema_free(&s);
    return text;
}

static const char *text_keep(struct columns *c, const char *text)
{
    if (c->texts_n == c->texts_cap) {
        c->texts_cap = c->texts_cap ? c->texts_cap * 2 : 32;
        c->texts = xrealloc(c->texts, c->texts_cap * sizeof *c->texts);
    }
    return c->texts[c->texts_n++] = xstrdup(text);
}

static struct lake_column *column_add(struct columns *c)
{
    if (c->n == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 32;
        c->c = xrealloc(c->c, c->cap * sizeof *c->c);
    }
    memset(&c->c[c->n], 0, sizeof *c->c);
    return &c->c[c->n++];
}

void columns_fini(struct columns *c)
{
    uint32_t i;

    for (i = 0; i < c->texts_n; i++)
        free(c->texts[i]);
    free(c->texts);
    free(c->c);
    memset(c, 0, sizeof *c);
}

const struct lake_column *columns_find(const struct columns *c, int32_t id)
{
    uint32_t i;

    for (i = 0; i < c->n; i++)
        if (c->c[i].id == id)
            return &c->c[i];
    return NULL;
}

/* The member's name in a doc; NULL: the doc is another's. */
static const char *doc_field(const char *doc, bool *misfit)
{
    *misfit = doc && strncmp(doc, DOC_MISFIT, sizeof DOC_MISFIT - 1) == 0;
    if (*misfit)
        return doc + sizeof DOC_MISFIT - 1;
    return doc && strncmp(doc, DOC_FIELD, sizeof DOC_FIELD - 1) == 0 ? doc + sizeof DOC_FIELD - 1
                                                                     : NULL;
}

/* The field's own column in the schema, or that of its misfits. */
static const struct schema_field *field_find(const struct schema *s, const char *field, bool misfit)
{
    uint32_t i;
    bool m;

    for (i = 0; i < s->root.child_n; i++) {
        const char *f = doc_field(s->root.child[i].doc, &m);

        if (f && m == misfit && strcmp(f, field) == 0)
            return &s->root.child[i];
    }
    return NULL;
}

static const struct own *own_find(const struct schema_field *f)
{
    size_t i;

    for (i = 0; i < OWN; i++)
        if (own[i].id <= COLUMN_HEADERS ? own[i].id == f->id
                                        : f->doc && strcmp(own[i].doc, f->doc) == 0)
            return &own[i];
    return NULL;
}

/* The ids of the headers' element, key and value; false: they are something else. */
static bool headers_ids(const struct schema_field *f, int32_t id[3])
{
    const struct schema_field *e = f->child_n == 1 ? &f->child[0] : NULL;

    if (!e || e->type.kind != ICE_STRUCT || e->child_n != 2 ||
        e->child[0].type.kind != ICE_STRING || e->child[1].type.kind != ICE_BINARY)
        return false;
    id[0] = e->id;
    id[1] = e->child[0].id;
    id[2] = e->child[1].id;
    return true;
}

static enum err column_own(const struct own *o, const struct schema_field *f, struct columns *out,
                           struct errinfo *info)
{
    struct lake_column *c;
    int32_t child[3] = {0};

    if (f->type.kind != o->kind || (o->id == COLUMN_HEADERS && !headers_ids(f, child)))
        return errinfo_set(info, ERR_UNSUPPORTED,
                           "the column \"%.60s\" has another type than a topic's table gives it",
                           f->name);
    c = column_add(out);
    *c = (struct lake_column){.name = text_keep(out, f->name),
                              .source = o->source,
                              .kind = o->kind,
                              .id = f->id,
                              .required = f->required};
    memcpy(c->child_id, child, sizeof child);
    return ERR_OK;
}

enum err columns_from_schema(const struct schema *s, struct columns *out, struct errinfo *info)
{
    uint32_t i, owned = 0;
    enum err e = ERR_OK;

    memset(out, 0, sizeof *out);
    for (i = 0; !e && i < s->root.child_n; i++) {
        const struct schema_field *f = &s->root.child[i], *main_field;
        const struct own *o = own_find(f);
        struct lake_column *c;
        const char *field;
        bool misfit;

        if (o) {
            e = column_own(o, f, out, info);
            owned++;
            continue;
        }
        field = doc_field(f->doc, &misfit);
        main_field = field ? field_find(s, field, false) : NULL;
        if (!field || (misfit && !main_field) || f->type.kind >= ICE_PRIMITIVES)
            continue; /* somebody else's column: it stays null */
        c = column_add(out);
        c->name = text_keep(out, f->name);
        c->field = text_keep(out, field);
        c->source = misfit ? LAKE_MISFIT : LAKE_FIELD;
        c->kind = f->type.kind;
        c->kind_of = misfit ? main_field->type.kind : f->type.kind;
        c->id = f->id;
    }
    if (!e && owned < OWN)
        e = errinfo_set(info, ERR_UNSUPPORTED,
                        "the table lacks columns of a topic's table: it was made by something "
                        "else, or they were dropped");
    if (e)
        columns_fini(out);
    return e;
}

/* ---- growing ---- */

struct evolution {
    struct schema *s;
    int32_t *last_id;
    bool changed;
};

static bool name_taken(const struct schema *s, const char *name)
{
    uint32_t i;

    for (i = 0; i < s->root.child_n; i++)
        if (strcasecmp(s->root.child[i].name, name) == 0)
            return true;
    return strcasecmp(name, "topic") == 0; /* a column that queries have besides */
}

/* A name that no column has in any case, as SQL's names do not differ by case. */
static void name_make(const struct schema *s, const char *field, const char *suffix,
                      char out[NAME_MAX_])
{
    unsigned n;

    snprintf(out, NAME_MAX_, "%s%s", field, suffix);
    if (field[0] && !name_taken(s, out))
        return;
    snprintf(out, NAME_MAX_, "value_%s%s", field, suffix);
    for (n = 2; name_taken(s, out); n++)
        snprintf(out, NAME_MAX_, "value_%s%s_%u", field, suffix, n);
}

static enum ice_kind kind_for(unsigned seen)
{
    switch (seen) {
    case LAKE_SEEN_BOOLEAN:
        return ICE_BOOLEAN;
    case LAKE_SEEN_WHOLE:
        return ICE_LONG;
    case LAKE_SEEN_NUMBER:
    case LAKE_SEEN_NUMBER | LAKE_SEEN_WHOLE:
        return ICE_DOUBLE;
    default:
        return ICE_STRING;
    }
}

/* Do all values that were seen fit a column of this kind? */
static bool fits(enum ice_kind k, unsigned seen)
{
    switch (k) {
    case ICE_BOOLEAN:
        return !(seen & ~LAKE_SEEN_BOOLEAN);
    case ICE_INT: /* may be too small; what does not fit goes to the misfits */
        return seen == 0;
    case ICE_LONG:
        return !(seen & ~LAKE_SEEN_WHOLE);
    case ICE_FLOAT:
    case ICE_DOUBLE:
        return !(seen & ~(LAKE_SEEN_WHOLE | LAKE_SEEN_NUMBER));
    case ICE_STRING:
        return true;
    default:
        return seen == 0;
    }
}

static void field_add(struct evolution *ev, const char *field, const char *suffix,
                      const char *doc_start, enum ice_kind kind)
{
    char name[NAME_MAX_], doc[sizeof DOC_MISFIT + LIMIT_SQL_FIELD_NAME];
    struct schema_field *f;

    name_make(ev->s, field, suffix, name);
    f = schema_add(&ev->s->root, ++*ev->last_id, name, type_of(kind), false);
    snprintf(doc, sizeof doc, "%s%s", doc_start, field);
    f->doc = xstrdup(doc);
    ev->changed = true;
}

static void on_field(void *arg, const char *name, unsigned seen)
{
    struct evolution *ev = arg;
    const struct schema_field *f = field_find(ev->s, name, false);

    ASSERT(strlen(name) <= LIMIT_SQL_FIELD_NAME); /* longer ones are not learnt */
    if (seen == 0 || (uint32_t)*ev->last_id + 2 > LIMIT_LAKE_COLUMNS)
        return; /* only null so far, or beyond the limit: the value has it all the same */
    if (!f)
        field_add(ev, name, "", DOC_FIELD, kind_for(seen));
    else if (!fits(f->type.kind, seen) && !field_find(ev->s, name, true))
        field_add(ev, name, "_text", DOC_MISFIT, ICE_STRING);
}

enum err columns_evolve(struct lake *l, struct schema *s, void *fields, int32_t *last_id,
                        bool *changed, struct errinfo *info)
{
    struct evolution ev = {.s = s, .last_id = last_id};

    (void)info;
    if (fields)
        l->conf.parquet.fields_each(fields, on_field, &ev);
    *changed = ev.changed;
    return ERR_OK;
}
