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
 * names, and the table's name before a column's.
 *
 * Trees and the text of them: partial_tree.c; aggregates: partial_terms.c. */
#include "sql/partial.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"
#include "sql/partial_split.h"
#include "sql/sql_int.h"
#include "sql/tree.h"

#define OUTPUT_MAX 1024u

static char *text_take(struct split *s, struct buf *b)
{
    char *out;

    split_terminate(s, b);
    out = xstrdup(s->full ? "" : split_sofar(b));
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

/* ---- what the statement is ---- */

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

static enum err shape_check(struct split *s)
{
    const json_t *from = json_object_get(s->node, "from_table");
    const json_t *sets = json_object_get(s->node, "group_sets");

    if (!tree_is(s->node, "type", "SELECT_NODE"))
        return split_refuse(s, "UNION, EXCEPT, INTERSECT and VALUES", "ask with one SELECT");
    if (json_array_size(json_object_get(json_object_get(s->node, "cte_map"), "map")))
        return split_refuse(s, "WITH", "");
    if (!tree_is(from, "type", "BASE_TABLE"))
        return split_refuse(s, "a SELECT that does not read one topic",
                            "joins and subqueries are not");
    if (*tree_str(from, "schema_name") || *tree_str(from, "catalog_name"))
        return split_refuse(s, "a system table", "");
    if (json_array_size(json_object_get(from, "column_name_alias")))
        return split_refuse(s, "a table with new names for its columns", "");
    if (!json_is_null(json_object_get(from, "sample")) ||
        !json_is_null(json_object_get(s->node, "sample")))
        return split_refuse(s, "a sample", "");
    if (!json_is_null(json_object_get(s->node, "qualify")) || split_found(s->node, is_window, 0))
        return split_refuse(s, "a window function", "it looks at other rows");
    if (split_found(s->node, is_subquery, 0))
        return split_refuse(s, "a subquery", "");
    if (json_array_size(sets) > 1 ||
        (json_array_size(sets) == 1 &&
         json_array_size(json_array_get(sets, 0)) !=
             json_array_size(json_object_get(s->node, "group_expressions"))))
        return split_refuse(s, "ROLLUP, CUBE and GROUPING SETS", "ask once for each");
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
        it->star = split_found(n, is_star, 0) != NULL;
        if (it->alias)
            it->name = xstrdup(tree_str(n, "alias"));
        else if (json_array_size(names))
            it->name =
                xstrdup(json_string_value(json_array_get(names, json_array_size(names) - 1)));
        else
            e = split_text(s, n, &it->name);
        if (!e)
            it->tree = split_canonical(s, n, &e);
    }
    return e;
}

static enum err from_make(struct split *s)
{
    const json_t *from = json_object_get(s->node, "from_table");
    const json_t *where = json_object_get(s->node, "where_clause");
    char *name = quoted(tree_str(from, "table_name")), *alias = quoted(tree_str(from, "alias"));

    split_put(s, &s->from, " FROM %s%s%s", name, *tree_str(from, "alias") ? " AS " : "",
              *tree_str(from, "alias") ? alias : "");
    free(name);
    free(alias);
    return json_is_object(where) ? split_text(s, where, &s->out->where) : ERR_OK;
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
        self = split_canonical(s, n, &e);
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
    if (s->groups_n == SPLIT_GROUPS_MAX) {
        json_decref(tree);
        return errinfo_set(s->info, ERR_SQL, "more than %u group keys", SPLIT_GROUPS_MAX);
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
            if (!split_found(s->item[k].tree, split_is_aggregate, 0))
                e = group_add(s, json_incref(s->item[k].tree));
    for (i = 0; !e && i < json_array_size(list); i++) {
        const struct item *it;
        json_t *tree;

        n = json_array_get(list, i);
        it = item_of(s, n, true);
        tree = it ? json_incref(it->tree) : split_canonical(s, n, &e);
        if (!e && split_found(tree, split_is_aggregate, 0)) {
            e = errinfo_set(s->info, ERR_SQL, "GROUP BY cannot have an aggregate");
            json_decref(tree);
        } else if (!e) {
            e = group_add(s, tree);
        }
    }
    return e;
}

/* ---- expressions over `merged` ---- */

static json_t *final_node(struct split *s, const json_t *n, enum err *e)
{
    const struct aggregate *g = split_aggregate(n);
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
        return split_column("_g%u", i);
    }
    if (g) {
        for (i = 0; i < s->terms_n && !json_equal(s->term[i], bare); i++)
            ;
        if (i == SPLIT_TERMS_MAX) {
            *e = errinfo_set(s->info, ERR_SQL, "more than %u aggregates", SPLIT_TERMS_MAX);
        } else if (i == s->terms_n) {
            s->term[s->terms_n++] = json_incref(bare);
            *e = split_term(s, n, g);
        }
        json_decref(bare);
        return *e ? NULL : split_column("_v%u", i);
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
    json_t *tree = split_canonical(s, n, &e), *final = NULL;

    *out = NULL;
    if (!e)
        final = split_swapped(s, tree, final_node, 0, &e);
    if (!e)
        e = split_text(s, final, out);
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
        return split_refuse(s, "LIMIT and OFFSET that are not whole numbers", "");
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
            return split_text(s, x, out);
        *out = quoted(it->name);
        return ERR_OK;
    }
    if (s->out->kind == PARTIAL_GROUPS)
        return it ? split_text(s, it->final, out) : final_text(s, x, out);
    if (s->out->has_distinct)
        return split_refuse(s, "DISTINCT sorted by what is not selected", "");
    if ((e = split_text(s, x, &text)))
        return e;
    snprintf(name, sizeof name, "_o%u", s->hidden_n);
    split_put(s, &s->hidden, ", %s AS %s", text, name);
    split_put(s, &s->hidden_names, "%s%s", s->hidden_n++ ? ", " : "", name);
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
        split_put(s, &s->orders, "%s%s%s%s%s", i ? ", " : " ORDER BY ", text,
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
            e = split_refuse(s, "DISTINCT ON", "it depends on the order of all rows");
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
        split_put(s, b, " LIMIT %lld", (long long)s->out->limit);
    if (s->out->offset > 0)
        split_put(s, b, " OFFSET %lld", (long long)s->out->offset);
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

        e = split_text(s, final ? it->final : json_array_get(list, i), &text);
        if (e)
            break;
        name = quoted(it->name);
        split_put(s, b, "%s%s%s%s", i ? ", " : "", text, final || it->alias ? " AS " : "",
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

    buf_init(&b, SPLIT_TEXT_MAX);
    buf_init(&tail, SPLIT_TEXT_MAX);
    split_put(s, &b, "SELECT %s", distinct);
    e = list_put(s, &b, false);
    if (s->out->limit >= 0) {
        split_put(s, &tail, "%s LIMIT %lld", split_sofar(&s->orders),
                  (long long)(s->out->limit + s->out->offset));
        split_terminate(s, &tail);
    }
    split_put(s, &b, "%s%s", split_sofar(&s->hidden), split_sofar(&s->from));
    s->out->head = text_take(s, &b);
    s->out->tail = xstrdup(split_sofar(&tail));
    buf_init(&b, SPLIT_TEXT_MAX);
    split_put(s, &b, "SELECT %s* FROM partials%s", distinct, split_sofar(&tail));
    s->out->merge = text_take(s, &b);
    buf_init(&b, SPLIT_TEXT_MAX);
    split_put(s, &b, "SELECT %s*", distinct);
    if (s->hidden_n)
        split_put(s, &b, " EXCLUDE (%s)", split_sofar(&s->hidden_names));
    split_put(s, &b, " FROM merged%s", split_sofar(&s->orders));
    limit_put(s, &b);
    s->out->finish = text_take(s, &b);
    buf_fini(&tail);
    return e;
}

static void positions_put(struct split *s, struct buf *b)
{
    uint32_t i;

    for (i = 0; i < s->groups_n; i++)
        split_put(s, b, "%s%u", i ? ", " : " GROUP BY ", i + 1);
}

static enum err groups_write(struct split *s)
{
    struct buf b, m;
    uint32_t i;
    enum err e = ERR_OK;

    buf_init(&b, SPLIT_TEXT_MAX);
    buf_init(&m, SPLIT_TEXT_MAX);
    s->out->group = xcalloc(s->groups_n + 1u, sizeof *s->out->group);
    s->out->bucket = -1;
    split_put(s, &b, "SELECT ");
    split_put(s, &m, "SELECT ");
    for (i = 0; !e && i < s->groups_n; i++) {
        e = split_text(s, s->group[i], &s->out->group[i]);
        if (s->out->bucket < 0 && (tree_is(s->group[i], "function_name", "date_trunc") ||
                                   tree_is(s->group[i], "function_name", "time_bucket")))
            s->out->bucket = (int32_t)i;
        s->out->groups_n = i + 1;
        split_put(s, &b, "%s%s AS _g%u", i ? ", " : "", e ? "" : s->out->group[i], i);
        split_put(s, &m, "%s_g%u", i ? ", " : "", i);
    }
    split_put(s, &b, "%s%s", split_sofar(&s->states), split_sofar(&s->from));
    s->out->head = text_take(s, &b);
    buf_init(&b, SPLIT_TEXT_MAX);
    positions_put(s, &b);
    s->out->tail = text_take(s, &b);
    split_put(s, &m, "%s FROM partials%s", split_sofar(&s->merges), s->out->tail);
    s->out->merge = text_take(s, &m);
    return e;
}

static enum err finish_write(struct split *s)
{
    struct buf b, list;
    uint32_t i;
    enum err e;

    buf_init(&b, SPLIT_TEXT_MAX);
    buf_init(&list, SPLIT_TEXT_MAX);
    e = list_put(s, &list, true);
    split_terminate(s, &list);
    split_put(s, &b, "SELECT %s%s FROM (SELECT *%s FROM merged)",
              s->out->has_distinct ? "DISTINCT " : "", split_sofar(&list), split_sofar(&s->values));
    if (s->having)
        split_put(s, &b, " WHERE %s", s->having);
    split_put(s, &b, "%s", split_sofar(&s->orders));
    limit_put(s, &b);
    s->out->finish = text_take(s, &b);
    buf_init(&b, SPLIT_TEXT_MAX);
    split_put(s, &b, "SELECT ");
    for (i = 0; i < s->groups_n; i++)
        split_put(s, &b, "_g%u, ", i);
    split_put(s, &b, "coalesce(%s, false) AS _having, %s FROM (SELECT *%s FROM merged)",
              s->having ? s->having : "true", split_sofar(&list), split_sofar(&s->values));
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
        s->item[i].final = split_swapped(s, s->item[i].tree, final_node, 0, &e);
    if (!e && json_is_object(having)) {
        e = final_text(s, having, &s->having);
        s->out->has_having = true;
    }
    if (!e)
        e = modifiers_take(s);
    if (!e && s->groups_n + s->states_n == 0)
        e = split_refuse(s, "an aggregation without aggregates", "");
    split_terminate(s, &s->states);
    split_terminate(s, &s->merges);
    split_terminate(s, &s->values);
    split_terminate(s, &s->orders);
    if (!e)
        e = groups_write(s);
    s->out->states_n = s->states_n;
    return e ? e : finish_write(s);
}

static enum err rows_split(struct split *s)
{
    enum err e = modifiers_take(s);

    split_terminate(s, &s->hidden);
    split_terminate(s, &s->hidden_names);
    split_terminate(s, &s->orders);
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
    split_terminate(s, &s->from);
    if (e)
        return e;
    s->out->kind =
        json_array_size(json_object_get(s->node, "group_sets")) ||
                tree_is(s->node, "aggregate_handling", "FORCE_AGGREGATES") ||
                json_is_object(json_object_get(s->node, "having")) ||
                split_found(json_object_get(s->node, "select_list"), split_is_aggregate, 0)
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
    buf_init(&s.from, SPLIT_TEXT_MAX);
    buf_init(&s.states, SPLIT_TEXT_MAX);
    buf_init(&s.merges, SPLIT_TEXT_MAX);
    buf_init(&s.values, SPLIT_TEXT_MAX);
    buf_init(&s.orders, SPLIT_TEXT_MAX);
    buf_init(&s.hidden, SPLIT_TEXT_MAX);
    buf_init(&s.hidden_names, SPLIT_TEXT_MAX);
    if (!e) {
        split_places_drop(root, 0);
        s.node = split_swapped(
            &s, json_object_get(json_array_get(json_object_get(root, "statements"), 0), "node"),
            split_plain_node, 0, &e);
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
