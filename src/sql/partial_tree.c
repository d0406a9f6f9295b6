/* The tree of a statement that is split, and texts made of it. See partial_split.h. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "base/assert.h"
#include "base/mem.h"
#include "sql/partial_split.h"
#include "sql/tree.h"

#define DEPTH_MAX 200

/* ---- texts ---- */

void split_put(struct split *s, struct buf *b, const char *fmt, ...)
{
    va_list ap;
    char *text = NULL;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0 || buf_append_str(b, text))
        s->full = true;
    va_end(ap);
    free(text);
}

void split_terminate(struct split *s, struct buf *b)
{
    if (buf_append_u8(b, 0))
        s->full = true;
}

const char *split_sofar(struct buf *b)
{
    return b->len ? (const char *)b->ptr : "";
}

enum err split_refuse(struct split *s, const char *what, const char *why)
{
    return errinfo_set(s->info, ERR_SQL, "%s cannot be answered in parts%s%s", what,
                       *why ? ": " : "", why);
}

enum err split_text(struct split *s, const json_t *n, char **out)
{
    json_t *bare = json_copy((json_t *)(uintptr_t)n), *tree;
    struct buf b;
    char *dump;
    enum err e;

    json_object_set_new(bare, "alias", json_string(""));
    tree = json_pack("{s:b, s:[{s:{s:s, s:[], s:{s:[]}, s:[o], s:{s:s, s:s, s:n, s:i}, s:n, s:[], "
                     "s:[], s:s, s:n, s:n, s:n}, s:[]}]}",
                     "error", 0, "statements", "node", "type", "SELECT_NODE", "modifiers",
                     "cte_map", "map", "select_list", bare, "from_table", "type", "EMPTY", "alias",
                     "", "sample", "query_location", 0, "where_clause", "group_expressions",
                     "group_sets", "aggregate_handling", "STANDARD_HANDLING", "having", "sample",
                     "qualify", "named_param_map");
    ASSERT(tree);
    dump = json_dumps(tree, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(tree);
    buf_init(&b, SPLIT_TEXT_MAX);
    e = s->text(s->text_arg, slice_str(dump), &b, s->info);
    if (!e && (b.len < 8 || memcmp(b.ptr, "SELECT ", 7) != 0))
        e = errinfo_set(s->info, ERR_SQL, "an expression of the statement cannot be written");
    if (!e)
        e = buf_append_u8(&b, 0);
    *out = e ? NULL : xstrdup((const char *)b.ptr + 7);
    free(dump);
    buf_fini(&b);
    return e;
}

/* ---- trees ---- */

static json_t *constant(const char *type, json_t *value)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:{s:{s:s, s:n}, s:b, s:o*}}", "class", "CONSTANT",
                     "type", "VALUE_CONSTANT", "alias", "", "query_location", 0, "value", "type",
                     "id", type, "type_info", "is_null", value == NULL, "value", value);
}

json_t *split_cast(json_t *child, const char *type)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:o, s:{s:s, s:n}, s:b}", "class", "CAST", "type",
                     "OPERATOR_CAST", "alias", "", "query_location", 0, "child", child, "cast_type",
                     "id", type, "type_info", "try_cast", 0);
}

json_t *split_column(const char *fmt, unsigned i)
{
    char name[24];

    snprintf(name, sizeof name, fmt, i);
    return json_pack("{s:s, s:s, s:s, s:i, s:[s]}", "class", "COLUMN_REF", "type", "COLUMN_REF",
                     "alias", "", "query_location", 0, "column_names", name);
}

static json_t *cast_text(const char *text, const char *type)
{
    return split_cast(constant("VARCHAR", json_string(text)), type);
}

static json_t *time_tree(int64_t us)
{
    char text[64];
    int64_t secs = us / 1000000 - (us % 1000000 < 0), rest = us - secs * 1000000;
    time_t t = (time_t)secs;
    struct tm tm;

    if (!gmtime_r(&t, &tm))
        return constant("NULL", NULL);
    snprintf(text, sizeof text, "%04d-%02d-%02d %02d:%02d:%02d.%06d+00", tm.tm_year + 1900,
             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)rest);
    return cast_text(text, "TIMESTAMP WITH TIME ZONE");
}

static json_t *blob_tree(struct slice b)
{
    char *text = xmalloc(4 * b.len + 1);
    json_t *out;
    size_t i;

    for (i = 0; i < b.len; i++)
        snprintf(text + 4 * i, 5, "\\x%02X", b.ptr[i]);
    text[4 * b.len] = 0;
    out = cast_text(text, "BLOB");
    free(text);
    return out;
}

static json_t *param_tree(const struct sql_param *p)
{
    char text[40];

    switch (p->type) {
    case SQL_BOOLEAN:
        return cast_text(p->i64 ? "t" : "f", "BOOLEAN");
    case SQL_BIGINT:
        return constant("BIGINT", json_integer(p->i64));
    case SQL_DOUBLE:
        snprintf(text, sizeof text, "%.17g", p->f64);
        return cast_text(text, "DOUBLE");
    case SQL_TIMESTAMP_TZ:
        return time_tree(p->i64);
    case SQL_BLOB:
        return blob_tree(p->bytes);
    case SQL_VARCHAR:
        return constant("VARCHAR", json_stringn((const char *)p->bytes.ptr, p->bytes.len));
    default:
        return constant("NULL", NULL);
    }
}

json_t *split_swapped(struct split *s, const json_t *n, split_swap_fn fn, int depth, enum err *e)
{
    json_t *out = NULL, *v;
    const char *key;
    size_t i;

    if (depth > DEPTH_MAX)
        *e = errinfo_set(s->info, ERR_SQL, "the statement is nested too deeply");
    else if (json_is_object(n))
        out = fn(s, n, e);
    if (out || *e)
        return out;
    if (json_is_array(n)) {
        out = json_array();
        json_array_foreach(n, i, v)
            json_array_append_new(out, split_swapped(s, v, fn, depth + 1, e));
    } else if (json_is_object(n)) {
        out = json_object();
        json_object_foreach((json_t *)(uintptr_t)n, key, v)
            json_object_set_new(out, key, split_swapped(s, v, fn, depth + 1, e));
    } else {
        out = json_deep_copy(n);
    }
    if (*e) {
        json_decref(out);
        out = NULL;
    }
    return out;
}

const json_t *split_found(const json_t *n, split_want_fn fn, int depth)
{
    const json_t *v, *hit = NULL;
    const char *key;
    size_t i;

    if (depth > DEPTH_MAX)
        return NULL;
    if (json_is_array(n)) {
        json_array_foreach(n, i, v) if ((hit = split_found(v, fn, depth + 1))) return hit;
    } else if (json_is_object(n)) {
        if (fn(n))
            return n;
        json_object_foreach((json_t *)(uintptr_t)n, key,
                            v) if ((hit = split_found(v, fn, depth + 1))) return hit;
    }
    return NULL;
}

/* Places are taken out, parameters put in. */
json_t *split_plain_node(struct split *s, const json_t *n, enum err *e)
{
    unsigned long i;

    if (!tree_is(n, "class", "PARAMETER"))
        return NULL;
    i = strtoul(tree_str(n, "identifier"), NULL, 10);
    if (i >= 1 && i <= s->rq->params_n)
        return param_tree(&s->rq->params[i - 1]);
    *e = errinfo_set(s->info, ERR_SQL, "parameter $%.20s was not given", tree_str(n, "identifier"));
    return NULL;
}

/* Columns by small letters and without the table's name. */
static json_t *canonical_node(struct split *s, const json_t *n, enum err *e)
{
    const json_t *names = json_object_get(n, "column_names");
    json_t *out, *list;
    size_t i = 0, at;
    char *name;

    if (!tree_is(n, "class", "COLUMN_REF"))
        return NULL;
    if (json_array_size(names) > 1 &&
        !strcasecmp(json_string_value(json_array_get(names, 0)), s->table))
        i = 1;
    list = json_array();
    for (; i < json_array_size(names); i++) {
        name = xstrdup(json_string_value(json_array_get(names, i)));
        for (at = 0; name[at]; at++)
            name[at] = (char)tolower((unsigned char)name[at]);
        json_array_append_new(list, json_string(name));
        free(name);
    }
    out = json_copy((json_t *)(uintptr_t)n);
    json_object_set_new(out, "column_names", list);
    return out;
}

void split_places_drop(json_t *n, int depth)
{
    const char *key;
    json_t *v;
    size_t i;

    if (depth > DEPTH_MAX)
        return;
    if (json_is_array(n)) {
        json_array_foreach(n, i, v) split_places_drop(v, depth + 1);
    } else if (json_is_object(n)) {
        if (json_object_get(n, "query_location"))
            json_object_set_new(n, "query_location", json_integer(0));
        json_object_foreach(n, key, v) split_places_drop(v, depth + 1);
    }
}

json_t *split_canonical(struct split *s, const json_t *n, enum err *e)
{
    json_t *out = split_swapped(s, n, canonical_node, 0, e);

    if (out && json_is_object(out))
        json_object_set_new(out, "alias", json_string(""));
    return out;
}
