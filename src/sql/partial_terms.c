/* Aggregates put together from parts: of each its states, how they are merged, and the value made of
 * them. See partial.c. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"
#include "sql/partial_split.h"
#include "sql/tree.h"

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

const struct aggregate *split_aggregate(const json_t *n)
{
    size_t i;

    if (tree_is(n, "class", "FUNCTION"))
        for (i = 0; i < sizeof aggregates / sizeof *aggregates; i++)
            if (!strcasecmp(tree_str(n, "function_name"), aggregates[i].name))
                return &aggregates[i];
    return NULL;
}

bool split_is_aggregate(const json_t *n)
{
    return split_aggregate(n) != NULL;
}

/* One column of partial. */
static void state_add(struct split *s, const char *partial)
{
    split_put(s, &s->states, "%s%s AS _a%u", s->groups_n + s->states_n ? ", " : "", partial,
              s->states_n);
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
    enum err e = split_text(s, tree, &text);

    if (!e)
        state_add(s, text);
    free(text);
    json_decref(tree);
    return e;
}

#define MERGE(s, ...)                                                      \
    split_put(s, &(s)->merges, (s)->groups_n + (s)->states_n ? ", " : ""), \
        split_put(s, &(s)->merges, __VA_ARGS__)

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
        return split_refuse(s, "arg_max and arg_min of several", "");
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
        return split_refuse(s, "approx_quantile", "name one quantile as a number");
    number = split_cast(json_incref(json_array_get(args, 0)), "DOUBLE");
    e = split_text(s, number, &x);
    json_decref(number);
    if (!e)
        e = split_text(s, json_array_get(args, 1), q);
    if (!e && json_is_object(filter))
        e = split_text(s, filter, &f);
    buf_init(&b, SPLIT_TEXT_MAX);
    if (!e) {
        split_put(s, &b,
                  "histogram(CASE WHEN isnan(%s) THEN NULL WHEN abs(%s) < 1e-12 THEN 0 ELSE "
                  "CAST(sign(%s) * (ceil(ln(least(abs(%s), 1e12)) / " SKETCH_LN
                  ") + %d) AS INTEGER) END)"
                  "%s%s%s",
                  x, x, x, x, SKETCH_ZERO, f ? " FILTER (WHERE " : "", f ? f : "", f ? ")" : "");
        MERGE(s,
              "map_from_entries(list_transform(list_sort(list_distinct(flatten(list(map_keys(_a%u)"
              ") FILTER (WHERE _a%u IS NOT NULL)))), lambda k: struct_pack(k := k, v := "
              "CAST(list_sum(list_transform(list(_a%u), lambda m: m[k])) AS UBIGINT)))) AS _a%u",
              a, a, a, a);
        split_terminate(s, &b);
        state_add(s, split_sofar(&b));
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
    split_put(s, &s->values, "sign(%s) * exp(" SKETCH_LN " * (abs(%s) - %d)) * " SKETCH_MIDDLE, key,
              key, SKETCH_ZERO);
}

static bool is_column(const json_t *n)
{
    return tree_is(n, "class", "COLUMN_REF");
}

/* All values as a list, each once if DISTINCT is asked for: only servers side by side are asked so,
 * whose answers are as long as their parts, and bounded. *call: the aggregate over the list `%s`. */
static enum err term_values(struct split *s, const json_t *n, char **call)
{
    bool distinct = json_is_true(json_object_get(n, "distinct"));
    const json_t *args = json_object_get(n, "children");
    json_t *list, *one;
    struct buf b;
    enum err e = ERR_OK;
    char *text;
    size_t i;

    if (json_array_size(args) == 0)
        return split_refuse(s, "an aggregate of nothing", "");
    buf_init(&b, SPLIT_TEXT_MAX);
    split_put(s, &b, "list_aggregate(_a%u, '%s'", s->states_n, tree_str(n, "function_name"));
    for (i = 1; i < json_array_size(args) && !e; i++) {
        if (split_found(json_array_get(args, i), is_column, 0)) {
            e = split_refuse(s, tree_str(n, "function_name"), "it is of several values");
        } else if (!(e = split_text(s, json_array_get(args, i), &text))) {
            split_put(s, &b, ", %s", text);
            free(text);
        }
    }
    split_put(s, &b, ")");
    split_terminate(s, &b);
    if (!e) {
        *call = xstrdup(split_sofar(&b));
        MERGE(s,
              distinct ? "list_distinct(flatten(list(_a%u))) AS _a%u"
                       : "flatten(list(_a%u)) AS _a%u",
              s->states_n, s->states_n);
        list = renamed(n, "list");
        one = json_pack("[O]", json_array_get(args, 0));
        json_object_set_new(list, "children", one);
        e = state_of_tree(s, list);
    }
    buf_fini(&b);
    return e;
}

static enum err term_refuse(struct split *s, const json_t *n, enum how how)
{
    char what[80];

    snprintf(what, sizeof what, "%.60s", tree_str(n, "function_name"));
    return split_refuse(s, what,
                        how == ORDER ? "it depends on the order of all rows"
                        : how == ALL ? "it needs all values at once; approx_quantile does not"
                                     : "what it keeps of a part is not to be had");
}

/* The states and the value of an aggregate. */
enum err split_term(struct split *s, const json_t *n, const struct aggregate *g)
{
    bool repeats = g->how == SELF && strcasecmp(g->name, "sum") != 0 &&
                   strcasecmp(g->name, "fsum") != 0 && strcasecmp(g->name, "product") != 0 &&
                   !strstr(g->name, "kahan") && strcasecmp(g->name, "bit_xor") != 0;
    size_t args = json_array_size(json_object_get(n, "children"));
    unsigned a = s->states_n, v = s->terms_n - 1;
    bool distinct = json_is_true(json_object_get(n, "distinct")) && !repeats;
    bool values = distinct || ((g->how == ALL || g->how == STATE) && s->rq->shards_n);
    char *q = NULL;
    enum err e;

    if (distinct && (!s->rq->shards_n || g->how == ORDER))
        return split_refuse(s, "DISTINCT in an aggregate", "it needs all values at once");
    if (values) {
        e = term_values(s, n, &q);
        if (!e && (g->how == COUNT || g->how == COUNT_IF))
            split_put(s, &s->values, ", coalesce(%s, 0) AS _v%u", q, v);
        else if (!e)
            split_put(s, &s->values, ", %s AS _v%u", q, v);
        free(q);
        return e;
    }
    if (g->how == SELF && args != 1)
        return split_refuse(s, "an aggregate of several values", "");
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
    split_put(s, &s->values, ", ");
    if (!e && g->how == QUANTILE)
        value_quantile(s, a, q);
    else if (g->how == AVG || g->how == FAVG)
        split_put(s, &s->values, "_a%u / nullif(_a%u, 0)", a, a + 1);
    else
        split_put(s, &s->values, "_a%u", a);
    split_put(s, &s->values, " AS _v%u", v);
    free(q);
    return e;
}
