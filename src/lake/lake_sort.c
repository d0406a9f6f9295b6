/* How rows lie in a table's files: lake.sort as Iceberg's sort order, and files that are written so.
 *
 * The setting is a list of columns, each with asc or desc and nulls first or last (transform.h). The order
 * of terms counts, so it ends in front of the first one whose column the table does not have yet. As with
 * lake.partition, the terms that were applied are in a property of the table, weir.sort, and somebody else's
 * order stays until the setting changes. Files say which order they are in; older ones keep theirs until
 * they are merged. An order by transforms, which somebody else may give the table, is not followed.
 *
 * Threads: the lake's. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lake/catalog.h"
#include "lake/json.h"
#include "lake/lake_int.h"

/* ---- writing in it ---- */

static bool column_index(const struct columns *c, int32_t id, uint32_t *out)
{
    for (*out = 0; *out < c->n; ++*out)
        if (c->c[*out].id == id)
            return c->c[*out].kind < ICE_PRIMITIVES;
    return false;
}

void table_order_get(const struct table *t, struct table_order *out)
{
    int64_t id = json_int_or(t->md->doc, "default-sort-order-id", 0);
    const json_t *one, *f, *fields = NULL;
    size_t i;

    *out = (struct table_order){.id = -1};
    json_array_foreach(json_object_get(t->md->doc, "sort-orders"), i, one)
    {
        if (json_int_or(one, "order-id", -1) == id)
            fields = json_object_get(one, "fields");
    }
    if (id <= 0 || json_array_size(fields) > LIMIT_LAKE_SPEC_FIELDS)
        return;
    json_array_foreach(fields, i, f)
    {
        const char *transform = json_get_text(f, "transform"), *way = json_get_text(f, "direction");
        const char *nulls = json_get_text(f, "null-order");
        struct lake_order *o = &out->by[out->n++];

        if (!transform || strcmp(transform, "identity") != 0 || !way || !nulls ||
            !column_index(&t->columns, (int32_t)json_int_or(f, "source-id", -1), &o->column)) {
            out->n = 0;
            return;
        }
        o->descending = strcmp(way, "desc") == 0;
        o->nulls_last = strcmp(nulls, "nulls-last") == 0;
    }
    out->id = out->n ? (int32_t)id : -1;
}

/* ---- following the setting ---- */

/* The column that a term begins with is there? ERR_NOT_FOUND, ERR_CONFIG. */
static enum err term_check(const char *term, const struct schema *s, struct errinfo *info)
{
    struct slice name = slice_of(term, strcspn(term, " "));

    if (memchr(name.ptr, '(', name.len))
        return errinfo_set(info, ERR_CONFIG, "lake.sort takes columns, not \"%s\"", term);
    return schema_find_name(s, name) || slice_eq_str(name, "ts") ? ERR_OK : ERR_NOT_FOUND;
}

/* The order, and the terms that it is made of. */
static enum err order_wanted(const char *text, const struct schema *s, json_t **out,
                             char applied[TOPIC_CONF_WORD_MAX + 1], struct errinfo *info)
{
    const char *there[LIMIT_LAKE_SPEC_FIELDS];
    struct terms *t = xcalloc(1, sizeof *t);
    enum err e = terms_parse("lake.sort", text, t, info);
    unsigned n = 0;
    size_t len = 0;

    *out = NULL;
    applied[0] = 0;
    while (!e && n < t->n && !(e = term_check(t->at[n], s, info))) {
        there[n] = t->at[n];
        len += (size_t)snprintf(applied + len, TOPIC_CONF_WORD_MAX + 1 - len, "%s%s", n ? "," : "",
                                t->at[n]);
        ASSERT(len <= TOPIC_CONF_WORD_MAX); /* parts of text */
        n++;
    }
    if (!e || e == ERR_NOT_FOUND)
        e = sort_order_from_texts(there, n, s, 1, out, info);
    free(t);
    return e;
}

static enum err order_commit(struct lake *l, struct table *t, json_t *order, const char *applied,
                             struct errinfo *info)
{
    int32_t id = metadata_next_id(t->md, "sort-orders", "order-id");
    json_t *requirements, *updates;

    if (json_array_size(json_object_get(order, "fields"))) /* 0 is: unsorted */
        json_object_set_new(order, "order-id", json_integer(id < 1 ? 1 : id));
    requirements = json_pack("[{s:s, s:s}, {s:s, s:I}]", "type", "assert-table-uuid", "uuid",
                             metadata_uuid(t->md), "type", "assert-default-sort-order-id",
                             "default-sort-order-id",
                             (json_int_t)json_int_or(t->md->doc, "default-sort-order-id", 0));
    updates = json_pack("[{s:s, s:O}, {s:s, s:i}, {s:s, s:{s:s}}]", "action", "add-sort-order",
                        "sort-order", order, "action", "set-default-sort-order", "sort-order-id",
                        -1, "action", "set-properties", "updates", PROPERTY_SORT, applied);
    return table_update(l, t, requirements, updates, info);
}

enum err table_sort_follow(struct lake *l, struct table *t, struct topic *topic,
                           struct errinfo *info)
{
    const char *was = metadata_property(t->md, PROPERTY_SORT);
    char applied[TOPIC_CONF_WORD_MAX + 1];
    struct schema *s = NULL;
    json_t *order = NULL;
    struct topic_conf c;
    enum err e;

    topic_conf_get(topic, &c);
    if (!was && strcmp(c.lake_sort, "none") == 0)
        return ERR_OK;
    e = metadata_schema(t->md, -1, &s, info);
    e = e ? e : order_wanted(c.lake_sort, s, &order, applied, info);
    if (!e && strcmp(was ? was : "", applied) != 0) {
        e = order_commit(l, t, order, applied, info);
        e = e ? e : table_load(l, t, topic, info);
    }
    json_decref(order);
    schema_free(&s);
    return e;
}
