/* See partial.h. The statement's tree (of json_serialize_sql) is taken apart into expressions; each
 * becomes text again by json_deserialize_sql, and the three statements are put together from these
 * texts. An aggregate of the statement is a `term`: one or more states, columns of partial and merge,
 * and a value made of them, the column _vN that stands for the aggregate in finish:
 *
 *   avg(x) FILTER (WHERE f)
 *     partial  sum(x) FILTER (WHERE f) AS _a0, count(x) FILTER (WHERE f) AS _a1
 *     merge    sum(_a0) AS _a0, coalesce(sum(_a1), 0)::BIGINT AS _a1
 *     finish   SELECT _v0 … FROM (SELECT *, _a0 / nullif(_a1, 0) AS _v0 FROM merged)
 *
 * Two expressions are the same if their trees are, but for their places in the text, the case of
 * names, and the table's name before a column's. */
#include "sql/partial.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "base/mem.h"
#include "sql/partial_int.h"
#include "sql/sql_int.h"
#include "sql/tree.h"

#define TEXT_MAX   (64u << 20)
#define DEPTH_MAX  200
#define GROUPS_MAX 64u
#define TERMS_MAX  256u
#define OUTPUT_MAX 1024u
/* ln of 1.01 / 0.99: buckets whose middle is within 1 % of all in them. */
#define SKETCH_LN     "0.0200006667066695"
#define SKETCH_MIDDLE "0.99"
#define SKETCH_ZERO   2000

enum how { COUNT, COUNT_IF, SELF, AVG, FAVG, ARG_MAX, ARG_MIN, QUANTILE, ORDER, ALL, STATE };
static const struct aggregate {
    const char *name;
    enum how how;
} aggregates[] = {
#define AGGREGATE(name, how) {name, how},
#include "sql/tbl/aggregates.h"
#undef AGGREGATE
};

/* A column of the select list. */
struct item {
    json_t *tree;  /* canonical */
    char *name;    /* of the answer's column */
    bool alias;    /* the name was given */
    bool star;     /* more columns than one, maybe */
    json_t *final; /* PARTIAL_GROUPS: over `merged` */
};
struct split {
    const struct sql_request *rq;
    partial_text_fn text;
    void *text_arg;
    struct errinfo *info;
    struct partial *out;
    json_t *node; /* of the SELECT */
    const char *table;
    struct item *item;
    uint32_t items_n;
    json_t *group[GROUPS_MAX];
    uint32_t groups_n;
    json_t *term[TERMS_MAX];
    uint32_t terms_n, states_n;
    struct buf from;                   /* FROM … WHERE … */
    struct buf states, merges, values; /* each ", text AS _xN" */
    struct buf orders;                 /* " ORDER BY …"; over `merged` */
    struct buf hidden, hidden_names;   /* of PARTIAL_ROWS */
    uint32_t hidden_n;
    char *having;
    bool full; /* a buffer is */
};

static void put(struct split *s, struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void put(struct split *s, struct buf *b, const char *fmt, ...)
{
    va_list ap;
    char *text = NULL;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0 || buf_append_str(b, text))
        s->full = true;
    va_end(ap);
    free(text);
}

/* What is in it is a string from now on. */
static void terminate(struct split *s, struct buf *b)
{
    if (buf_append_u8(b, 0))
        s->full = true;
}

static const char *sofar(struct buf *b)
{
    return b->len ? (const char *)b->ptr : "";
}

static char *text_take(struct split *s, struct buf *b)
{
    char *out;

    terminate(s, b);
    out = xstrdup(s->full ? "" : sofar(b));
    buf_fini(b);
    return out;
}

static char *quoted(const char *name)
{
    char *out = xmalloc(2 * strlen(name) + 3), *d = out;

    for (*d++ = '"'; *name; *d++ = *name++)
        if (*name == '"')
            *d++ = '"';
    *d++ = '"';
    *d = 0;
    return out;
}

static enum err refuse(struct split *s, const char *what, const char *why)
{
    return errinfo_set(s->info, ERR_SQL, "%s cannot be answered in parts%s%s", what,
                       *why ? ": " : "", why);
}

/* ---- trees ---- */

static json_t *constant(const char *type, json_t *value)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:{s:{s:s, s:n}, s:b, s:o*}}", "class", "CONSTANT",
                     "type", "VALUE_CONSTANT", "alias", "", "query_location", 0, "value", "type",
                     "id", type, "type_info", "is_null", value == NULL, "value", value);
}

static json_t *cast(json_t *child, const char *type)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:o, s:{s:s, s:n}, s:b}", "class", "CAST", "type",
                     "OPERATOR_CAST", "alias", "", "query_location", 0, "child", child, "cast_type",
                     "id", type, "type_info", "try_cast", 0);
}

static json_t *column(const char *fmt, unsigned i)
{
    char name[24];

    snprintf(name, sizeof name, fmt, i);
    return json_pack("{s:s, s:s, s:s, s:i, s:[s]}", "class", "COLUMN_REF", "type", "COLUMN_REF",
                     "alias", "", "query_location", 0, "column_names", name);
}

static json_t *cast_text(const char *text, const char *type)
{
    return cast(constant("VARCHAR", json_string(text)), type);
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

/* A copy of an expression in which each node for which fn gives one (a new reference) is replaced by
 * it. NULL: fn set *e. */
typedef json_t *(*swap_fn)(struct split *s, const json_t *n, enum err *e);
static json_t *swapped(struct split *s, const json_t *n, swap_fn fn, int depth, enum err *e)
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
        json_array_foreach(n, i, v) json_array_append_new(out, swapped(s, v, fn, depth + 1, e));
    } else if (json_is_object(n)) {
        out = json_object();
        json_object_foreach((json_t *)(uintptr_t)n, key, v)
            json_object_set_new(out, key, swapped(s, v, fn, depth + 1, e));
    } else {
        out = json_deep_copy(n);
    }
    if (*e) {
        json_decref(out);
        out = NULL;
    }
    return out;
}

/* The first node of the tree that fn wants; NULL: none. */
typedef bool (*want_fn)(const json_t *n);
static const json_t *found(const json_t *n, want_fn fn, int depth)
{
    const json_t *v, *hit = NULL;
    const char *key;
    size_t i;

    if (depth > DEPTH_MAX)
        return NULL;
    if (json_is_array(n)) {
        json_array_foreach(n, i, v) if ((hit = found(v, fn, depth + 1))) return hit;
    } else if (json_is_object(n)) {
        if (fn(n))
            return n;
        json_object_foreach((json_t *)(uintptr_t)n, key,
                            v) if ((hit = found(v, fn, depth + 1))) return hit;
    }
    return NULL;
}

static const struct aggregate *aggregate_of(const json_t *n)
{
    size_t i;

    if (tree_is(n, "class", "FUNCTION"))
        for (i = 0; i < sizeof aggregates / sizeof *aggregates; i++)
            if (!strcasecmp(tree_str(n, "function_name"), aggregates[i].name))
                return &aggregates[i];
    return NULL;
}

static bool is_aggregate(const json_t *n)
{
    return aggregate_of(n) != NULL;
}

static bool is_subquery(const json_t *n)
{
    return tree_is(n, "class", "SUBQUERY");
}

static bool is_window(const json_t *n)
{
    return tree_is(n, "class", "WINDOW");
}

static bool is_star(const json_t *n)
{
    return tree_is(n, "class", "STAR") || tree_is(n, "function_name", "unnest");
}

/* Places are taken out, parameters put in. */
static json_t *plain_node(struct split *s, const json_t *n, enum err *e)
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

static void places_drop(json_t *n, int depth)
{
    const char *key;
    json_t *v;
    size_t i;

    if (depth > DEPTH_MAX)
        return;
    if (json_is_array(n)) {
        json_array_foreach(n, i, v) places_drop(v, depth + 1);
    } else if (json_is_object(n)) {
        if (json_object_get(n, "query_location"))
            json_object_set_new(n, "query_location", json_integer(0));
        json_object_foreach(n, key, v) places_drop(v, depth + 1);
    }
}

static json_t *canonical(struct split *s, const json_t *n, enum err *e)
{
    json_t *out = swapped(s, n, canonical_node, 0, e);

    if (out && json_is_object(out))
        json_object_set_new(out, "alias", json_string(""));
    return out;
}

/* ---- text ---- */

/* An expression as SQL; the caller frees. */
static enum err text_of(struct split *s, const json_t *n, char **out)
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
    buf_init(&b, TEXT_MAX);
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

/* ---- what the statement is ---- */

static enum err shape_check(struct split *s)
{
    const json_t *from = json_object_get(s->node, "from_table");
    const json_t *sets = json_object_get(s->node, "group_sets");

    if (!tree_is(s->node, "type", "SELECT_NODE"))
        return refuse(s, "UNION, EXCEPT, INTERSECT and VALUES", "ask with one SELECT");
    if (json_array_size(json_object_get(json_object_get(s->node, "cte_map"), "map")))
        return refuse(s, "WITH", "");
    if (!tree_is(from, "type", "BASE_TABLE"))
        return refuse(s, "a SELECT that does not read one topic", "joins and subqueries are not");
    if (*tree_str(from, "schema_name") || *tree_str(from, "catalog_name"))
        return refuse(s, "a system table", "");
    if (json_array_size(json_object_get(from, "column_name_alias")))
        return refuse(s, "a table with new names for its columns", "");
    if (!json_is_null(json_object_get(from, "sample")) ||
        !json_is_null(json_object_get(s->node, "sample")))
        return refuse(s, "a sample", "");
    if (!json_is_null(json_object_get(s->node, "qualify")) || found(s->node, is_window, 0))
        return refuse(s, "a window function", "it looks at other rows");
    if (found(s->node, is_subquery, 0))
        return refuse(s, "a subquery", "");
    if (json_array_size(sets) > 1 ||
        (json_array_size(sets) == 1 &&
         json_array_size(json_array_get(sets, 0)) !=
             json_array_size(json_object_get(s->node, "group_expressions"))))
        return refuse(s, "ROLLUP, CUBE and GROUPING SETS", "ask once for each");
    return ERR_OK;
}

static enum err items_make(struct split *s)
{
    const json_t *list = json_object_get(s->node, "select_list"), *n;
    const json_t *names;
    enum err e = ERR_OK;
    size_t i;

    if (json_array_size(list) > OUTPUT_MAX)
        return errinfo_set(s->info, ERR_SQL, "more than %u columns", OUTPUT_MAX);
    s->item = xcalloc(json_array_size(list) + 1, sizeof *s->item);
    for (i = 0; !e && i < json_array_size(list); i++) {
        struct item *it = &s->item[s->items_n++];

        n = json_array_get(list, i);
        names = json_object_get(n, "column_names");
        it->alias = *tree_str(n, "alias") != 0;
        it->star = found(n, is_star, 0) != NULL;
        if (it->alias)
            it->name = xstrdup(tree_str(n, "alias"));
        else if (json_array_size(names))
            it->name =
                xstrdup(json_string_value(json_array_get(names, json_array_size(names) - 1)));
        else
            e = text_of(s, n, &it->name);
        if (!e)
            it->tree = canonical(s, n, &e);
    }
    return e;
}

static enum err from_make(struct split *s)
{
    const json_t *from = json_object_get(s->node, "from_table");
    const json_t *where = json_object_get(s->node, "where_clause");
    char *name = quoted(tree_str(from, "table_name")), *alias = quoted(tree_str(from, "alias"));

    put(s, &s->from, " FROM %s%s%s", name, *tree_str(from, "alias") ? " AS " : "",
        *tree_str(from, "alias") ? alias : "");
    free(name);
    free(alias);
    return json_is_object(where) ? text_of(s, where, &s->out->where) : ERR_OK;
}

/* The column of the select list that a name or a position means; NULL: none. In GROUP BY only
 * aliases count, whose expression does not mention the name itself. */
static const struct item *item_of(struct split *s, const json_t *n, bool grouping)
{
    const json_t *value = json_object_get(n, "value");
    const json_t *names = json_object_get(n, "column_names");
    json_t *self = NULL;
    enum err e = ERR_OK;
    uint32_t i;
    bool mentions;

    if (tree_is(n, "class", "CONSTANT") && json_is_integer(json_object_get(value, "value"))) {
        json_int_t at = json_integer_value(json_object_get(value, "value"));

        for (i = 0; i < s->items_n && !s->item[i].star; i++)
            if (at == (json_int_t)i + 1)
                return &s->item[i];
        return NULL;
    }
    if (!tree_is(n, "class", "COLUMN_REF") || json_array_size(names) != 1)
        return NULL;
    for (i = 0; i < s->items_n; i++) {
        const struct item *it = &s->item[i];
        char *dump, *word;

        if (strcasecmp(it->name, json_string_value(json_array_get(names, 0))) != 0 ||
            (grouping && !it->alias) || it->star)
            continue;
        if (!grouping)
            return it;
        self = canonical(s, n, &e);
        word = json_dumps(json_object_get(self, "column_names"), JSON_COMPACT);
        dump = json_dumps(it->tree, JSON_COMPACT);
        mentions = strstr(dump, word) != NULL;
        free(word);
        free(dump);
        json_decref(self);
        if (!mentions)
            return it;
    }
    return NULL;
}

/* ---- groups ---- */

static enum err group_add(struct split *s, json_t *tree)
{
    uint32_t i;

    for (i = 0; i < s->groups_n; i++)
        if (json_equal(s->group[i], tree)) {
            json_decref(tree);
            return ERR_OK;
        }
    if (s->groups_n == GROUPS_MAX) {
        json_decref(tree);
        return errinfo_set(s->info, ERR_SQL, "more than %u group keys", GROUPS_MAX);
    }
    s->group[s->groups_n++] = tree;
    return ERR_OK;
}

static enum err groups_make(struct split *s)
{
    const json_t *list = json_object_get(s->node, "group_expressions"), *n;
    enum err e = ERR_OK;
    uint32_t k;
    size_t i;

    if (tree_is(s->node, "aggregate_handling", "FORCE_AGGREGATES"))
        for (k = 0; !e && k < s->items_n; k++)
            if (!found(s->item[k].tree, is_aggregate, 0))
                e = group_add(s, json_incref(s->item[k].tree));
    for (i = 0; !e && i < json_array_size(list); i++) {
        const struct item *it;
        json_t *tree;

        n = json_array_get(list, i);
        it = item_of(s, n, true);
        tree = it ? json_incref(it->tree) : canonical(s, n, &e);
        if (!e && found(tree, is_aggregate, 0)) {
            e = errinfo_set(s->info, ERR_SQL, "GROUP BY cannot have an aggregate");
            json_decref(tree);
        } else if (!e) {
            e = group_add(s, tree);
        }
    }
    return e;
}

/* ---- aggregates ---- */

/* One column of partial. */
static void state_add(struct split *s, const char *partial)
{
    put(s, &s->states, "%s%s AS _a%u", s->groups_n + s->states_n ? ", " : "", partial, s->states_n);
    s->states_n++;
}

/* The same call of another function. */
static json_t *renamed(const json_t *n, const char *function)
{
    json_t *out = json_deep_copy(n);

    json_object_set_new(out, "function_name", json_string(function));
    return out;
}

static enum err state_of_tree(struct split *s, json_t *tree)
{
    char *text = NULL;
    enum err e = text_of(s, tree, &text);

    if (!e)
        state_add(s, text);
    free(text);
    json_decref(tree);
    return e;
}

#define MERGE(s, ...)                                                \
    put(s, &(s)->merges, (s)->groups_n + (s)->states_n ? ", " : ""), \
        put(s, &(s)->merges, __VA_ARGS__)

static enum err term_count(struct split *s, const json_t *n, const char *type)
{
    MERGE(s, "CAST(coalesce(sum(_a%u), 0) AS %s) AS _a%u", s->states_n, type, s->states_n);
    return state_of_tree(s, json_deep_copy(n));
}

static enum err term_self(struct split *s, const json_t *n, const char *function)
{
    MERGE(s, "%s(_a%u) AS _a%u", function, s->states_n, s->states_n);
    return state_of_tree(s, json_deep_copy(n));
}

static enum err term_avg(struct split *s, const json_t *n, const char *sum)
{
    json_t *tree = renamed(n, sum);
    enum err e = term_self(s, tree, sum);

    json_decref(tree);
    tree = renamed(n, "count");
    if (!e)
        e = term_count(s, tree, "BIGINT");
    json_decref(tree);
    return e;
}

/* arg_max(v, k): v, and the greatest k of those that have a v. */
static enum err term_arg(struct split *s, const json_t *n, const char *function, const char *by)
{
    json_t *args = json_object_get(n, "children"), *tree, *filter = json_object_get(n, "filter");
    json_t *there;
    enum err e;

    if (json_array_size(args) != 2)
        return refuse(s, "arg_max and arg_min of several", "");
    MERGE(s, "%s(_a%u, _a%u) AS _a%u", function, s->states_n, s->states_n + 1, s->states_n);
    e = state_of_tree(s, json_deep_copy(n));
    if (e)
        return e;
    there = json_pack("{s:s, s:s, s:s, s:i, s:[O]}", "class", "OPERATOR", "type",
                      "OPERATOR_IS_NOT_NULL", "alias", "", "query_location", 0, "children",
                      json_array_get(args, 0));
    if (json_is_object(filter))
        there = json_pack("{s:s, s:s, s:s, s:i, s:[O, o]}", "class", "CONJUNCTION", "type",
                          "CONJUNCTION_AND", "alias", "", "query_location", 0, "children", filter,
                          there);
    tree = renamed(n, by);
    json_object_set_new(tree, "filter", there);
    json_array_remove(json_object_get(tree, "children"), 0);
    MERGE(s, "%s(_a%u) AS _a%u", by, s->states_n, s->states_n);
    return state_of_tree(s, tree);
}

/* Numbers by powers of 1.01 / 0.99, as MAP(INTEGER, UBIGINT). */
static enum err term_quantile(struct split *s, const json_t *n, char **q)
{
    const json_t *args = json_object_get(n, "children"), *filter = json_object_get(n, "filter");
    const json_t *value =
        json_object_get(json_object_get(json_array_get(args, 1), "value"), "value");
    char *x = NULL, *f = NULL;
    json_t *number;
    struct buf b;
    unsigned a = s->states_n;
    enum err e;

    *q = NULL;
    if (json_array_size(args) != 2 || !tree_is(json_array_get(args, 1), "class", "CONSTANT") ||
        !json_is_number(value))
        return refuse(s, "approx_quantile", "name one quantile as a number");
    number = cast(json_incref(json_array_get(args, 0)), "DOUBLE");
    e = text_of(s, number, &x);
    json_decref(number);
    if (!e)
        e = text_of(s, json_array_get(args, 1), q);
    if (!e && json_is_object(filter))
        e = text_of(s, filter, &f);
    buf_init(&b, TEXT_MAX);
    if (!e) {
        put(s, &b,
            "histogram(CASE WHEN isnan(%s) THEN NULL WHEN abs(%s) < 1e-12 THEN 0 ELSE "
            "CAST(sign(%s) * (ceil(ln(least(abs(%s), 1e12)) / " SKETCH_LN ") + %d) AS INTEGER) END)"
            "%s%s%s",
            x, x, x, x, SKETCH_ZERO, f ? " FILTER (WHERE " : "", f ? f : "", f ? ")" : "");
        MERGE(s,
              "map_from_entries(list_transform(list_sort(list_distinct(flatten(list(map_keys(_a%u)"
              ") FILTER (WHERE _a%u IS NOT NULL)))), lambda k: struct_pack(k := k, v := "
              "CAST(list_sum(list_transform(list(_a%u), lambda m: m[k])) AS UBIGINT)))) AS _a%u",
              a, a, a, a);
        terminate(s, &b);
        state_add(s, sofar(&b));
    }
    buf_fini(&b);
    free(x);
    free(f);
    return e;
}

/* The value at rank q: of the first bucket with which more than q (n - 1) are counted. */
static void value_quantile(struct split *s, unsigned a, const char *q)
{
    char key[512];

    snprintf(key, sizeof key,
             "map_keys(_a%u)[1 + len(list_filter(range(1, 1 + len(map_values(_a%u))), lambda i: "
             "list_sum(map_values(_a%u)[1:i]) <= %.30s * (list_sum(map_values(_a%u)) - 1)))]",
             a, a, a, q, a);
    put(s, &s->values, "sign(%s) * exp(" SKETCH_LN " * (abs(%s) - %d)) * " SKETCH_MIDDLE, key, key,
        SKETCH_ZERO);
}

static enum err term_refuse(struct split *s, const json_t *n, enum how how)
{
    char what[80];

    snprintf(what, sizeof what, "%.60s", tree_str(n, "function_name"));
    return refuse(s, what,
                  how == ORDER ? "it depends on the order of all rows"
                  : how == ALL ? "it needs all values at once; approx_quantile does not"
                               : "what it keeps of a part is not to be had");
}

/* The states and the value of an aggregate. */
static enum err term_make(struct split *s, const json_t *n, const struct aggregate *g)
{
    bool repeats = g->how == SELF && strcasecmp(g->name, "sum") != 0 &&
                   strcasecmp(g->name, "fsum") != 0 && strcasecmp(g->name, "product") != 0 &&
                   !strstr(g->name, "kahan") && strcasecmp(g->name, "bit_xor") != 0;
    size_t args = json_array_size(json_object_get(n, "children"));
    unsigned a = s->states_n, v = s->terms_n - 1;
    char *q = NULL;
    enum err e;

    if (json_is_true(json_object_get(n, "distinct")) && !repeats)
        return refuse(s, "DISTINCT in an aggregate", "it needs all values at once");
    if (g->how == SELF && args != 1)
        return refuse(s, "an aggregate of several values", "");
    switch (g->how) {
    case COUNT:
    case COUNT_IF:
        e = term_count(s, n, g->how == COUNT ? "BIGINT" : "HUGEINT");
        break;
    case SELF:
        e = term_self(s, n, g->name);
        break;
    case AVG:
    case FAVG:
        e = term_avg(s, n, g->how == AVG ? "sum" : "fsum");
        break;
    case ARG_MAX:
    case ARG_MIN:
        e = term_arg(s, n, g->name, g->how == ARG_MAX ? "max" : "min");
        break;
    case QUANTILE:
        e = term_quantile(s, n, &q);
        break;
    default:
        e = term_refuse(s, n, g->how);
    }
    put(s, &s->values, ", ");
    if (!e && g->how == QUANTILE)
        value_quantile(s, a, q);
    else if (g->how == AVG || g->how == FAVG)
        put(s, &s->values, "_a%u / nullif(_a%u, 0)", a, a + 1);
    else
        put(s, &s->values, "_a%u", a);
    put(s, &s->values, " AS _v%u", v);
    free(q);
    return e;
}

/* ---- expressions over `merged` ---- */

static json_t *final_node(struct split *s, const json_t *n, enum err *e)
{
    const struct aggregate *g = aggregate_of(n);
    const struct item *it;
    json_t *bare;
    uint32_t i;

    if (!*tree_str(n, "class"))
        return NULL;
    bare = json_copy((json_t *)(uintptr_t)n);
    json_object_set_new(bare, "alias", json_string(""));
    for (i = 0; i < s->groups_n && !json_equal(s->group[i], bare); i++)
        ;
    if (i < s->groups_n) {
        json_decref(bare);
        return column("_g%u", i);
    }
    if (g) {
        for (i = 0; i < s->terms_n && !json_equal(s->term[i], bare); i++)
            ;
        if (i == TERMS_MAX) {
            *e = errinfo_set(s->info, ERR_SQL, "more than %u aggregates", TERMS_MAX);
        } else if (i == s->terms_n) {
            s->term[s->terms_n++] = json_incref(bare);
            *e = term_make(s, n, g);
        }
        json_decref(bare);
        return *e ? NULL : column("_v%u", i);
    }
    json_decref(bare);
    if (is_star(n))
        *e = errinfo_set(s->info, ERR_SQL, "a star is not possible beside GROUP BY and aggregates");
    if (!tree_is(n, "class", "COLUMN_REF"))
        return NULL;
    it = item_of(s, n, false);
    if (it && it->final)
        return json_incref(it->final);
    *e = errinfo_set(s->info, ERR_SQL,
                     "column \"%.100s\" must appear in the GROUP BY clause or be used in an "
                     "aggregate",
                     json_string_value(json_array_get(json_object_get(n, "column_names"), 0)));
    return NULL;
}

/* An expression of the statement as text over `merged`. */
static enum err final_text(struct split *s, const json_t *n, char **out)
{
    enum err e = ERR_OK;
    json_t *tree = canonical(s, n, &e), *final = NULL;

    *out = NULL;
    if (!e)
        final = swapped(s, tree, final_node, 0, &e);
    if (!e)
        e = text_of(s, final, out);
    json_decref(tree);
    json_decref(final);
    return e;
}

/* ---- modifiers ---- */

static bool whole(const json_t *n, int64_t *out)
{
    const json_t *v = json_object_get(json_object_get(n, "value"), "value");

    if (!tree_is(n, "class", "CONSTANT") || !json_is_integer(v) || json_integer_value(v) < 0 ||
        json_integer_value(v) > INT64_MAX / 4)
        return false;
    *out = json_integer_value(v);
    return true;
}

static enum err limit_take(struct split *s, const json_t *m)
{
    const json_t *limit = json_object_get(m, "limit"), *offset = json_object_get(m, "offset");

    if (!tree_is(m, "type", "LIMIT_MODIFIER") ||
        (json_is_object(limit) && !whole(limit, &s->out->limit)) ||
        (json_is_object(offset) && !whole(offset, &s->out->offset)))
        return refuse(s, "LIMIT and OFFSET that are not whole numbers", "");
    return ERR_OK;
}

/* What one ORDER BY term is over `merged`; the caller frees. */
static enum err order_text(struct split *s, const json_t *x, char **out)
{
    const struct item *it = item_of(s, x, false);
    char *text = NULL, name[24];
    enum err e;

    *out = NULL;
    if (tree_is(x, "class", "STAR")) {
        *out = xstrdup("ALL");
        return ERR_OK;
    }
    if (tree_is(x, "class", "CONSTANT") || (it && s->out->kind == PARTIAL_ROWS)) {
        if (tree_is(x, "class", "CONSTANT"))
            return text_of(s, x, out);
        *out = quoted(it->name);
        return ERR_OK;
    }
    if (s->out->kind == PARTIAL_GROUPS)
        return it ? text_of(s, it->final, out) : final_text(s, x, out);
    if (s->out->has_distinct)
        return refuse(s, "DISTINCT sorted by what is not selected", "");
    if ((e = text_of(s, x, &text)))
        return e;
    snprintf(name, sizeof name, "_o%u", s->hidden_n);
    put(s, &s->hidden, ", %s AS %s", text, name);
    put(s, &s->hidden_names, "%s%s", s->hidden_n++ ? ", " : "", name);
    *out = xstrdup(name);
    free(text);
    return ERR_OK;
}

static enum err order_take(struct split *s, const json_t *m)
{
    const json_t *orders = json_object_get(m, "orders"), *o;
    enum err e = ERR_OK;
    char *text;
    size_t i;

    for (i = 0; !e && i < json_array_size(orders); i++) {
        o = json_array_get(orders, i);
        if ((e = order_text(s, json_object_get(o, "expression"), &text)))
            break;
        put(s, &s->orders, "%s%s%s%s%s", i ? ", " : " ORDER BY ", text,
            tree_is(o, "type", "DESCENDING")  ? " DESC"
            : tree_is(o, "type", "ASCENDING") ? " ASC"
                                              : "",
            strstr(tree_str(o, "null_order"), "NULLS") ? " " : "",
            strstr(tree_str(o, "null_order"), "NULLS") ? tree_str(o, "null_order") : "");
        free(text);
        s->out->has_order = true;
    }
    return e;
}

static enum err modifiers_take(struct split *s)
{
    const json_t *list = json_object_get(s->node, "modifiers"), *m;
    enum err e = ERR_OK;
    size_t i;

    s->out->limit = -1;
    json_array_foreach(list, i, m) if (tree_is(m, "type", "DISTINCT_MODIFIER"))
    {
        s->out->has_distinct = true;
        if (json_array_size(json_object_get(m, "distinct_on_targets")))
            e = refuse(s, "DISTINCT ON", "it depends on the order of all rows");
    }
    for (i = 0; !e && i < json_array_size(list); i++) {
        m = json_array_get(list, i);
        if (tree_is(m, "type", "ORDER_MODIFIER"))
            e = order_take(s, m);
        else if (!tree_is(m, "type", "DISTINCT_MODIFIER"))
            e = limit_take(s, m);
    }
    return e;
}

/* ---- the statements ---- */

static void limit_put(struct split *s, struct buf *b)
{
    if (s->out->limit >= 0)
        put(s, b, " LIMIT %lld", (long long)s->out->limit);
    if (s->out->offset > 0)
        put(s, b, " OFFSET %lld", (long long)s->out->offset);
}

/* Each item as text; name: with it. */
static enum err list_put(struct split *s, struct buf *b, bool final)
{
    const json_t *list = json_object_get(s->node, "select_list");
    enum err e = ERR_OK;
    char *text = NULL, *name;
    uint32_t i;

    for (i = 0; !e && i < s->items_n; i++) {
        struct item *it = &s->item[i];

        e = text_of(s, final ? it->final : json_array_get(list, i), &text);
        if (e)
            break;
        name = quoted(it->name);
        put(s, b, "%s%s%s%s", i ? ", " : "", text, final || it->alias ? " AS " : "",
            final || it->alias ? name : "");
        free(name);
        free(text);
    }
    return e;
}

static enum err rows_write(struct split *s)
{
    const char *distinct = s->out->has_distinct ? "DISTINCT " : "";
    struct buf b, tail;
    enum err e;

    buf_init(&b, TEXT_MAX);
    buf_init(&tail, TEXT_MAX);
    put(s, &b, "SELECT %s", distinct);
    e = list_put(s, &b, false);
    if (s->out->limit >= 0) {
        put(s, &tail, "%s LIMIT %lld", sofar(&s->orders),
            (long long)(s->out->limit + s->out->offset));
        terminate(s, &tail);
    }
    put(s, &b, "%s%s", sofar(&s->hidden), sofar(&s->from));
    s->out->head = text_take(s, &b);
    s->out->tail = xstrdup(sofar(&tail));
    buf_init(&b, TEXT_MAX);
    put(s, &b, "SELECT %s* FROM partials%s", distinct, sofar(&tail));
    s->out->merge = text_take(s, &b);
    buf_init(&b, TEXT_MAX);
    put(s, &b, "SELECT %s*", distinct);
    if (s->hidden_n)
        put(s, &b, " EXCLUDE (%s)", sofar(&s->hidden_names));
    put(s, &b, " FROM merged%s", sofar(&s->orders));
    limit_put(s, &b);
    s->out->finish = text_take(s, &b);
    buf_fini(&tail);
    return e;
}

static void positions_put(struct split *s, struct buf *b)
{
    uint32_t i;

    for (i = 0; i < s->groups_n; i++)
        put(s, b, "%s%u", i ? ", " : " GROUP BY ", i + 1);
}

static enum err groups_write(struct split *s)
{
    struct buf b, m;
    uint32_t i;
    enum err e = ERR_OK;

    buf_init(&b, TEXT_MAX);
    buf_init(&m, TEXT_MAX);
    s->out->group = xcalloc(s->groups_n + 1u, sizeof *s->out->group);
    s->out->bucket = -1;
    put(s, &b, "SELECT ");
    put(s, &m, "SELECT ");
    for (i = 0; !e && i < s->groups_n; i++) {
        e = text_of(s, s->group[i], &s->out->group[i]);
        if (s->out->bucket < 0 && (tree_is(s->group[i], "function_name", "date_trunc") ||
                                   tree_is(s->group[i], "function_name", "time_bucket")))
            s->out->bucket = (int32_t)i;
        s->out->groups_n = i + 1;
        put(s, &b, "%s%s AS _g%u", i ? ", " : "", e ? "" : s->out->group[i], i);
        put(s, &m, "%s_g%u", i ? ", " : "", i);
    }
    put(s, &b, "%s%s", sofar(&s->states), sofar(&s->from));
    s->out->head = text_take(s, &b);
    buf_init(&b, TEXT_MAX);
    positions_put(s, &b);
    s->out->tail = text_take(s, &b);
    put(s, &m, "%s FROM partials%s", sofar(&s->merges), s->out->tail);
    s->out->merge = text_take(s, &m);
    return e;
}

static enum err finish_write(struct split *s)
{
    struct buf b, list;
    uint32_t i;
    enum err e;

    buf_init(&b, TEXT_MAX);
    buf_init(&list, TEXT_MAX);
    e = list_put(s, &list, true);
    terminate(s, &list);
    put(s, &b, "SELECT %s%s FROM (SELECT *%s FROM merged)", s->out->has_distinct ? "DISTINCT " : "",
        sofar(&list), sofar(&s->values));
    if (s->having)
        put(s, &b, " WHERE %s", s->having);
    put(s, &b, "%s", sofar(&s->orders));
    limit_put(s, &b);
    s->out->finish = text_take(s, &b);
    buf_init(&b, TEXT_MAX);
    put(s, &b, "SELECT ");
    for (i = 0; i < s->groups_n; i++)
        put(s, &b, "_g%u, ", i);
    put(s, &b, "coalesce(%s, false) AS _having, %s FROM (SELECT *%s FROM merged)",
        s->having ? s->having : "true", sofar(&list), sofar(&s->values));
    s->out->values = text_take(s, &b);
    buf_fini(&list);
    return e;
}

static void outputs_tell(struct split *s)
{
    uint32_t i, k;

    for (i = 0; i < s->items_n; i++)
        if (s->item[i].star)
            return;
    s->out->output = xcalloc(s->items_n + 1u, sizeof *s->out->output);
    s->out->outputs_n = s->items_n;
    for (i = 0; i < s->items_n; i++) {
        s->out->output[i].name = xstrdup(s->item[i].name);
        s->out->output[i].group = -1;
        for (k = 0; k < s->groups_n; k++)
            if (json_equal(s->group[k], s->item[i].tree))
                s->out->output[i].group = (int32_t)k;
    }
}

static enum err groups_split(struct split *s)
{
    const json_t *having = json_object_get(s->node, "having");
    enum err e = groups_make(s);
    uint32_t i;

    for (i = 0; !e && i < s->items_n; i++)
        s->item[i].final = swapped(s, s->item[i].tree, final_node, 0, &e);
    if (!e && json_is_object(having)) {
        e = final_text(s, having, &s->having);
        s->out->has_having = true;
    }
    if (!e)
        e = modifiers_take(s);
    if (!e && s->groups_n + s->states_n == 0)
        e = refuse(s, "an aggregation without aggregates", "");
    terminate(s, &s->states);
    terminate(s, &s->merges);
    terminate(s, &s->values);
    terminate(s, &s->orders);
    if (!e)
        e = groups_write(s);
    s->out->states_n = s->states_n;
    return e ? e : finish_write(s);
}

static enum err rows_split(struct split *s)
{
    enum err e = modifiers_take(s);

    terminate(s, &s->hidden);
    terminate(s, &s->hidden_names);
    terminate(s, &s->orders);
    return e ? e : rows_write(s);
}

static enum err node_split(struct split *s)
{
    const json_t *from = json_object_get(s->node, "from_table");
    enum err e = shape_check(s);

    if (e)
        return e;
    s->table = *tree_str(from, "alias") ? tree_str(from, "alias") : tree_str(from, "table_name");
    s->out->topic = xstrdup(tree_str(from, "table_name"));
    e = items_make(s);
    if (!e)
        e = from_make(s);
    terminate(s, &s->from);
    if (e)
        return e;
    s->out->kind = json_array_size(json_object_get(s->node, "group_sets")) ||
                           tree_is(s->node, "aggregate_handling", "FORCE_AGGREGATES") ||
                           json_is_object(json_object_get(s->node, "having")) ||
                           found(json_object_get(s->node, "select_list"), is_aggregate, 0)
                       ? PARTIAL_GROUPS
                       : PARTIAL_ROWS;
    e = s->out->kind == PARTIAL_GROUPS ? groups_split(s) : rows_split(s);
    if (!e) {
        outputs_tell(s);
        s->out->partial = partial_where(s->out, NULL);
    }
    return e;
}

static void split_fini(struct split *s)
{
    uint32_t i;

    for (i = 0; i < s->items_n; i++) {
        json_decref(s->item[i].tree);
        json_decref(s->item[i].final);
        free(s->item[i].name);
    }
    for (i = 0; i < s->groups_n; i++)
        json_decref(s->group[i]);
    for (i = 0; i < s->terms_n; i++)
        json_decref(s->term[i]);
    free(s->item);
    free(s->having);
    buf_fini(&s->from);
    buf_fini(&s->states);
    buf_fini(&s->merges);
    buf_fini(&s->values);
    buf_fini(&s->orders);
    buf_fini(&s->hidden);
    buf_fini(&s->hidden_names);
    json_decref(s->node);
}

static enum err root_check(const json_t *root, struct errinfo *info)
{
    if (!root)
        return errinfo_set(info, ERR_SQL, "the statement cannot be analysed");
    if (json_is_true(json_object_get(root, "error")))
        return errinfo_set(info, ERR_SQL, "%.200s",
                           tree_is(root, "error_type", "not implemented")
                               ? "only SELECT can be split"
                               : tree_str(root, "error_message"));
    if (json_array_size(json_object_get(root, "statements")) != 1)
        return errinfo_set(info, ERR_SQL, "one statement at a time");
    return ERR_OK;
}

enum err partial_split(struct slice tree, const struct sql_request *rq, partial_text_fn text,
                       void *arg, struct partial *out, struct errinfo *info)
{
    struct split s = {.rq = rq, .text = text, .text_arg = arg, .info = info, .out = out};
    json_t *root = tree_load(tree);
    enum err e = root_check(root, info);

    memset(out, 0, sizeof *out);
    buf_init(&s.from, TEXT_MAX);
    buf_init(&s.states, TEXT_MAX);
    buf_init(&s.merges, TEXT_MAX);
    buf_init(&s.values, TEXT_MAX);
    buf_init(&s.orders, TEXT_MAX);
    buf_init(&s.hidden, TEXT_MAX);
    buf_init(&s.hidden_names, TEXT_MAX);
    if (!e) {
        places_drop(root, 0);
        s.node = swapped(
            &s, json_object_get(json_array_get(json_object_get(root, "statements"), 0), "node"),
            plain_node, 0, &e);
    }
    if (!e)
        e = node_split(&s);
    if (!e && s.full)
        e = errinfo_set(info, ERR_SQL, "the statement is too large");
    split_fini(&s);
    json_decref(root);
    if (e)
        partial_fini(out);
    return e;
}

char *partial_where(const struct partial *p, const char *condition)
{
    bool both = p->where && condition;
    char *out;

    if (asprintf(&out, "%s%s%s%s%s%s%s", p->head, p->where || condition ? " WHERE " : "",
                 both ? "(" : "", p->where ? p->where : "", both ? ") AND " : "",
                 condition ? condition : "", p->tail) < 0)
        return xstrdup("");
    return out;
}

void partial_fini(struct partial *p)
{
    uint32_t i;

    for (i = 0; i < p->groups_n; i++)
        free(p->group[i]);
    for (i = 0; i < p->outputs_n; i++)
        free(p->output[i].name);
    free(p->group);
    free(p->output);
    free(p->topic);
    free(p->head);
    free(p->where);
    free(p->tail);
    free(p->partial);
    free(p->merge);
    free(p->finish);
    free(p->values);
    memset(p, 0, sizeof *p);
}
