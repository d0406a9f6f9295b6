/* What a statement demands of the tables that it reads, from its tree as DuckDB's json_serialize_sql
 * writes it. It may only narrow what it can prove, so:
 *
 *  1. Every mention of a table, anywhere in the tree, widens what is known of its name; one that is
 *     not understood widens it to everything. What holds for a name holds for all its mentions.
 *  2. A mention is narrowed by comparisons that are top-level AND conjuncts of the WHERE of the very
 *     SELECT whose FROM it stands in. They are all false for NULL, so outer joins do not matter: a
 *     row that is left out could only have appeared in a row that the WHERE drops. Not narrowed:
 *     mentions under ASOF and POSITIONAL joins (what they match with would change), sampled ones,
 *     and those with names of their own for the columns.
 *  3. A column without a table's name counts only if the FROM has one table.
 *  4. Bounds are included, and may be too wide: times are rounded outwards, now() is taken before
 *     the statement's own and trusted as a lower end only.
 *
 * The functions that change an instance, and those that hide a statement in a text, are refused
 * here. */
#include <jansson.h>
#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"
#include "base/timefmt.h"
#include "sql/sql_int.h"
#include "sql/tree.h"

#define DEPTH_MAX 200

/* ---- functions ---- */

static bool function_banned(const char *name)
{
    static const char *const banned[] = {"query",
                                         "query_table",
                                         "json_execute_serialized_sql",
                                         "enable_logging",
                                         "disable_logging",
                                         "truncate_duckdb_logs",
                                         "write_log",
                                         "enable_profiling",
                                         "disable_profiling",
                                         "enable_peg_parser",
                                         "disable_peg_parser",
                                         "check_peg_parser",
                                         "checkpoint",
                                         "force_checkpoint",
                                         "seq_scan",
                                         "index_scan",
                                         "arrow_scan",
                                         "arrow_scan_dumb",
                                         "setseed",
                                         "nextval",
                                         "currval",
                                         "txid_current",
                                         "weir_table",
                                         "weir_feed",
                                         "test_all_types",
                                         "test_vector_types",
                                         "read_duckdb",
                                         "add_parquet_key",
                                         "getenv",
                                         "duckdb_secrets",
                                         "which_secret",
                                         "duckdb_logs",
                                         "duckdb_log_contexts",
                                         "pragma_user_agent",
                                         "copy_database"};
    size_t i;

    for (i = 0; i < sizeof banned / sizeof *banned; i++)
        if (!strcasecmp(name, banned[i]))
            return true;
    return !strncasecmp(name, "__internal", 10);
}

/* The first such function in the tree; NULL: none. */
static const char *function_find(const json_t *n, bool (*is)(const char *name), int depth)
{
    const char *name, *hit = NULL, *key;
    const json_t *v;
    size_t i;

    if (depth > DEPTH_MAX)
        return "(too deep)";
    if (json_is_array(n)) {
        json_array_foreach(n, i, v) if ((hit = function_find(v, is, depth + 1))) return hit;
        return NULL;
    }
    if (!json_is_object(n))
        return NULL;
    name = json_string_value(json_object_get(n, "function_name"));
    if (name && is(name))
        return name;
    json_object_foreach((json_t *)(uintptr_t)n, key,
                        v) if ((hit = function_find(v, is, depth + 1))) return hit;
    return NULL;
}

/* ---- values ---- */

struct walk {
    struct plan *plan;
    int64_t now_ms;
};

static const struct sql_param *param_of(const struct walk *w, const json_t *n)
{
    unsigned long i = strtoul(tree_str(n, "identifier"), NULL, 10);

    return i >= 1 && i <= w->plan->rq->params_n ? &w->plan->rq->params[i - 1] : NULL;
}

static bool text_i64(struct slice s, int64_t *out)
{
    return field_i64(s, out);
}

/* A constant whole number. */
static bool whole(const struct walk *w, const json_t *n, int64_t *out)
{
    const json_t *value = json_object_get(n, "value"), *v;
    const struct sql_param *p;

    if (tree_is(n, "class", "CONSTANT")) {
        v = json_object_get(value, "value");
        if (!json_is_integer(v))
            return false;
        *out = json_integer_value(v);
        return true;
    }
    if (tree_is(n, "class", "PARAMETER") && (p = param_of(w, n))) {
        if (p->type == SQL_BIGINT) {
            *out = p->i64;
            return true;
        }
        return p->type == SQL_VARCHAR && text_i64(p->bytes, out);
    }
    return false;
}

/* "1 hour", "15 minutes", "-2 days": an upper end of its milliseconds. */
static bool interval_text(const char *s, int64_t *most)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {
        {"ms", 1},           {"millisecond", 1},    {"s", 1000},         {"sec", 1000},
        {"second", 1000},    {"m", 60000},          {"min", 60000},      {"minute", 60000},
        {"h", 3600000},      {"hr", 3600000},       {"hour", 3600000},   {"d", 86400000},
        {"day", 86400000},   {"w", 604800000},      {"week", 604800000}, {"month", 2678400000},
        {"mon", 2678400000}, {"year", 31622400000}, {"y", 31622400000}};
    char *end, word[16];
    double v = strtod(s, &end);
    size_t i, n = 0;

    if (end == s || !(v >= 0 && v < 1e6))
        return false;
    while (*end == ' ')
        end++;
    while (end[n] && n < sizeof word - 1) {
        word[n] = (char)(end[n] | 32);
        n++;
    }
    word[n] = 0;
    if (n > 2 && word[n - 1] == 's')
        word[n - 1] = 0;
    for (i = 0; i < sizeof units / sizeof *units; i++)
        if (!strcmp(word, units[i].unit)) {
            *most = (int64_t)(v * (double)units[i].ms) + 1;
            return true;
        }
    return false;
}

/* 1 or '1'. */
static bool interval_count(const struct walk *w, const json_t *n, int64_t *out)
{
    const char *text = tree_str(json_object_get(n, "value"), "value");

    return whole(w, n, out) || (tree_is(n, "class", "CONSTANT") && field_i64(slice_str(text), out));
}

/* An interval: INTERVAL '1 hour', or INTERVAL 1 HOUR, which is to_hours(CAST(1 …)). */
static bool interval(const struct walk *w, const json_t *n, int64_t *most)
{
    static const struct {
        const char *name;
        int64_t ms;
    } to[] = {{"to_seconds", 1000},      {"to_minutes", 60000},   {"to_hours", 3600000},
              {"to_days", 86400000},     {"to_weeks", 604800000}, {"to_months", 2678400000},
              {"to_years", 31622400000}, {"to_milliseconds", 1}};
    const json_t *child = json_object_get(n, "child"), *arg;
    int64_t v;
    size_t i;

    if (tree_is(n, "class", "CAST") &&
        !strcmp(tree_str(json_object_get(n, "cast_type"), "id"), "INTERVAL") &&
        tree_is(child, "class", "CONSTANT"))
        return interval_text(tree_str(json_object_get(child, "value"), "value"), most);
    if (!tree_is(n, "class", "FUNCTION"))
        return false;
    arg = json_array_get(json_object_get(n, "children"), 0);
    for (;;) {
        if (tree_is(arg, "class", "CAST"))
            arg = json_object_get(arg, "child");
        else if (tree_is(arg, "function_name", "trunc"))
            arg = json_array_get(json_object_get(arg, "children"), 0);
        else
            break;
    }
    for (i = 0; i < sizeof to / sizeof *to; i++)
        if (tree_is(n, "function_name", to[i].name) && interval_count(w, arg, &v) && v >= 0 &&
            v < 1000000) {
            *most = v * to[i].ms;
            return true;
        }
    return false;
}

static bool is_now(const json_t *n)
{
    static const char *const names[] = {"now", "current_timestamp", "get_current_timestamp",
                                        "transaction_timestamp"};
    size_t i;

    if (!tree_is(n, "class", "FUNCTION"))
        return false;
    for (i = 0; i < sizeof names / sizeof *names; i++)
        if (tree_is(n, "function_name", names[i]))
            return true;
    return false;
}

bool time_read(struct slice s, int64_t *ms)
{
    char whole[40];

    if (s.len < sizeof "2026-01-01 00:00:00+00" - 1 || s.len + 4 > sizeof whole ||
        (s.ptr[s.len - 3] != '+' && s.ptr[s.len - 3] != '-'))
        return time_parse(s, ms);
    memcpy(whole, s.ptr, s.len);
    memcpy(whole + s.len, ":00", 4);
    return time_parse(slice_str(whole), ms);
}

/* A moment, as an interval [*lo, *hi] in which it lies. */
static bool moment(const struct walk *w, const json_t *n, int64_t *lo, int64_t *hi)
{
    const json_t *child, *args;
    const struct sql_param *p;
    const char *id;
    int64_t most;

    *hi = INT64_MAX;
    if (is_now(n)) {
        *lo = w->now_ms - 1;
        return true;
    }
    if (tree_is(n, "class", "FUNCTION") && tree_is(n, "function_name", "-")) {
        args = json_object_get(n, "children");
        if (json_array_size(args) != 2 || !is_now(json_array_get(args, 0)) ||
            !interval(w, json_array_get(args, 1), &most))
            return false;
        *lo = w->now_ms - most - 7200000; /* days may have 25 hours */
        return true;
    }
    if (tree_is(n, "class", "PARAMETER") && (p = param_of(w, n))) {
        if (p->type == SQL_TIMESTAMP_TZ)
            *lo = p->i64 / 1000 - 1;
        else if (p->type != SQL_VARCHAR || !time_read(p->bytes, lo))
            return false;
        *hi = *lo + 2;
        return true;
    }
    child = n;
    if (tree_is(n, "class", "CAST")) {
        id = tree_str(json_object_get(n, "cast_type"), "id");
        if (strcmp(id, "TIMESTAMP") != 0 && strcmp(id, "TIMESTAMP WITH TIME ZONE") != 0 &&
            strcmp(id, "DATE") != 0)
            return false;
        child = json_object_get(n, "child");
    }
    if (!tree_is(child, "class", "CONSTANT") ||
        !time_read(slice_str(tree_str(json_object_get(child, "value"), "value")), lo))
        return false;
    if (tree_is(n, "class", "CAST") &&
        !strcmp(tree_str(json_object_get(n, "cast_type"), "id"), "DATE"))
        *lo -= *lo % 86400000; /* what is cast away */
    *hi = *lo + 1;
    return true;
}

/* ---- comparisons ---- */

enum op { OP_EQ, OP_LT, OP_LE, OP_GT, OP_GE, OP_NONE };

static enum op op_of(const char *type)
{
    if (!strcmp(type, "COMPARE_EQUAL"))
        return OP_EQ;
    if (!strcmp(type, "COMPARE_LESSTHAN"))
        return OP_LT;
    if (!strcmp(type, "COMPARE_LESSTHANOREQUALTO"))
        return OP_LE;
    if (!strcmp(type, "COMPARE_GREATERTHAN"))
        return OP_GT;
    return !strcmp(type, "COMPARE_GREATERTHANOREQUALTO") ? OP_GE : OP_NONE;
}

static enum op op_swap(enum op o)
{
    return o == OP_LT ? OP_GT : o == OP_LE ? OP_GE : o == OP_GT ? OP_LT : o == OP_GE ? OP_LE : o;
}

static void narrow_i64(enum op op, int64_t v, int64_t *min, int64_t *max)
{
    int64_t lo = op == OP_GT ? (v < INT64_MAX ? v + 1 : v) : v;
    int64_t hi = op == OP_LT ? (v > INT64_MIN ? v - 1 : v) : v;

    if (op != OP_LT && op != OP_LE && lo > *min)
        *min = lo;
    if (op != OP_GT && op != OP_GE && hi < *max)
        *max = hi;
}

struct demand {
    struct sql_bounds b;
    char topic[256];
};

/* topic = 'orders' */
static void narrow_topic(const struct walk *w, enum op op, const json_t *value, struct demand *d)
{
    const struct sql_param *p;
    struct slice s = SLICE_NULL;

    if (tree_is(value, "class", "CONSTANT"))
        s = slice_str(tree_str(json_object_get(value, "value"), "value"));
    else if (tree_is(value, "class", "PARAMETER") && (p = param_of(w, value)) &&
             p->type == SQL_VARCHAR)
        s = p->bytes;
    if (op != OP_EQ || s.len == 0 || s.len >= sizeof d->topic)
        return;
    memcpy(d->topic, s.ptr, s.len);
    d->topic[s.len] = 0;
}

static void narrow(const struct walk *w, const char *column, enum op op, const json_t *value,
                   struct demand *d)
{
    struct sql_bounds *b = &d->b;
    int64_t v, lo, hi, min = 0, max = INT64_MAX;

    if (!strcasecmp(column, "timestamp")) {
        if (!moment(w, value, &lo, &hi))
            return;
        if (op != OP_LT && op != OP_LE && lo > b->ts_min_ms)
            b->ts_min_ms = lo;
        if (op != OP_GT && op != OP_GE && hi < b->ts_max_ms)
            b->ts_max_ms = hi;
        return;
    }
    if (!strcasecmp(column, "topic"))
        narrow_topic(w, op, value, d);
    if (!whole(w, value, &v))
        return;
    if (!strcasecmp(column, "offset")) {
        narrow_i64(op, v, &b->offset_min, &b->offset_max);
    } else if (!strcasecmp(column, "partition")) {
        if (op == OP_EQ && v >= 0 && v < INT32_MAX && b->partition < 0)
            b->partition = (int32_t)v;
    } else if (!strcasecmp(column, "position")) {
        narrow_i64(op, v, &min, &max);
        if ((uint64_t)min > b->position_min)
            b->position_min = (uint64_t)min;
        if (max < INT64_MAX && (max < 0 ? 0 : (uint64_t)max) < b->position_max)
            b->position_max = max < 0 ? 0 : (uint64_t)max;
    }
}

/* The column that a reference means, if it is one of the table called `alias`; NULL: it is not. */
static const char *column_of(const json_t *n, const char *alias, bool only)
{
    const json_t *names = json_object_get(n, "column_names");

    if (!tree_is(n, "class", "COLUMN_REF"))
        return NULL;
    if (json_array_size(names) == 1 && only)
        return json_string_value(json_array_get(names, 0));
    if (json_array_size(names) == 2 &&
        !strcasecmp(json_string_value(json_array_get(names, 0)), alias))
        return json_string_value(json_array_get(names, 1));
    return NULL;
}

static void conjunct(const struct walk *w, const json_t *n, const char *alias, bool only,
                     struct demand *b, int depth)
{
    const json_t *v, *children = json_object_get(n, "children");
    const char *column;
    size_t i;

    if (depth > DEPTH_MAX)
        return;
    if (tree_is(n, "type", "CONJUNCTION_AND")) {
        json_array_foreach(children, i, v) conjunct(w, v, alias, only, b, depth + 1);
    } else if (tree_is(n, "type", "COMPARE_BETWEEN")) {
        column = column_of(json_object_get(n, "input"), alias, only);
        if (column) {
            narrow(w, column, OP_GE, json_object_get(n, "lower"), b);
            narrow(w, column, OP_LE, json_object_get(n, "upper"), b);
        }
    } else if (tree_is(n, "class", "COMPARISON")) {
        enum op op = op_of(tree_str(n, "type"));
        const json_t *l = json_object_get(n, "left"), *r = json_object_get(n, "right");

        if (op == OP_NONE)
            return;
        if ((column = column_of(l, alias, only)))
            narrow(w, column, op, r, b);
        else if ((column = column_of(r, alias, only)))
            narrow(w, column, op_swap(op), l, b);
    } else if (tree_is(n, "type", "COMPARE_IN") && json_array_size(children) > 1) {
        int64_t x, lo = INT64_MAX, hi = INT64_MIN;

        column = column_of(json_array_get(children, 0), alias, only);
        for (i = 1; column && i < json_array_size(children); i++) {
            if (!whole(w, json_array_get(children, i), &x))
                return;
            lo = x < lo ? x : lo;
            hi = x > hi ? x : hi;
        }
        if (column && !strcasecmp(column, "offset")) {
            narrow_i64(OP_GE, lo, &b->b.offset_min, &b->b.offset_max);
            narrow_i64(OP_LE, hi, &b->b.offset_min, &b->b.offset_max);
        }
    }
}

/* ---- mentions ---- */

static struct plan_bounds *bounds_get(struct plan *p, const char *name, bool *fresh)
{
    uint32_t i;

    *fresh = false;
    for (i = 0; i < p->bounds_n; i++)
        if (!strcmp(p->bounds[i].name, name))
            return &p->bounds[i];
    p->bounds = xrealloc(p->bounds, (p->bounds_n + 1u) * sizeof *p->bounds);
    *fresh = true;
    p->bounds[p->bounds_n] = (struct plan_bounds){.name = xstrdup(name)};
    return &p->bounds[p->bounds_n++];
}

static void widen(struct sql_bounds *a, const struct sql_bounds *b)
{
    if (a->partition != b->partition)
        a->partition = -1;
    a->offset_min = a->offset_min < b->offset_min ? a->offset_min : b->offset_min;
    a->offset_max = a->offset_max > b->offset_max ? a->offset_max : b->offset_max;
    a->position_min = a->position_min < b->position_min ? a->position_min : b->position_min;
    a->position_max = a->position_max > b->position_max ? a->position_max : b->position_max;
    a->ts_min_ms = a->ts_min_ms < b->ts_min_ms ? a->ts_min_ms : b->ts_min_ms;
    a->ts_max_ms = a->ts_max_ms > b->ts_max_ms ? a->ts_max_ms : b->ts_max_ms;
}

static void mention(struct plan *p, const char *name, const struct demand *d)
{
    bool fresh;
    struct plan_bounds *x = bounds_get(p, name, &fresh);

    if (fresh) {
        x->b = d->b;
        memcpy(x->topic, d->topic, sizeof x->topic);
    } else {
        widen(&x->b, &d->b);
        if (strcmp(x->topic, d->topic) != 0)
            x->topic[0] = 0;
    }
    x->mentions++;
}

void plan_bounds_put(struct plan *p, const char *name, const struct sql_bounds *b)
{
    bool fresh;

    bounds_get(p, name, &fresh)->b = *b;
}

/* How many tables a FROM has. */
static unsigned from_count(const json_t *n)
{
    if (tree_is(n, "type", "JOIN"))
        return from_count(json_object_get(n, "left")) + from_count(json_object_get(n, "right"));
    return tree_is(n, "type", "EMPTY") ? 0 : 1;
}

static void from_walk(struct walk *w, const json_t *n, const json_t *where, bool only, int depth)
{
    struct demand d = {.b = scan_unbounded};

    if (depth > DEPTH_MAX)
        return;
    if (tree_is(n, "type", "JOIN")) {
        if (tree_is(n, "ref_type", "ASOF") || tree_is(n, "ref_type", "POSITIONAL"))
            where = NULL;
        from_walk(w, json_object_get(n, "left"), where, only, depth + 1);
        from_walk(w, json_object_get(n, "right"), where, only, depth + 1);
    } else if (tree_is(n, "type", "BASE_TABLE")) {
        const char *name = tree_str(n, "table_name"), *alias = tree_str(n, "alias");

        if (where && json_is_null(json_object_get(n, "sample")) &&
            json_array_size(json_object_get(n, "column_name_alias")) == 0)
            conjunct(w, where, *alias ? alias : name, only, &d, 0);
        mention(w->plan, name, &d);
    }
}

/* Every SELECT of the tree. */
static void selects_walk(struct walk *w, const json_t *n, int depth)
{
    const json_t *v;
    const char *key;
    size_t i;

    if (depth > DEPTH_MAX)
        return;
    if (json_is_array(n)) {
        json_array_foreach(n, i, v) selects_walk(w, v, depth + 1);
        return;
    }
    if (!json_is_object(n))
        return;
    if (tree_is(n, "type", "SELECT_NODE")) {
        const json_t *from = json_object_get(n, "from_table");
        bool plain = json_is_null(json_object_get(n, "sample"));

        from_walk(w, from, plain ? json_object_get(n, "where_clause") : NULL, from_count(from) == 1,
                  0);
    }
    json_object_foreach((json_t *)(uintptr_t)n, key, v) selects_walk(w, v, depth + 1);
}

/* Mentions in all of the tree, counted again: those that no FROM had make a name unbounded. */
static void mentions_count(struct walk *w, const json_t *n, int depth)
{
    const json_t *v;
    const char *key;
    size_t i;
    bool fresh;

    if (json_is_array(n)) {
        json_array_foreach(n, i, v) mentions_count(w, v, depth + 1);
        return;
    }
    if (!json_is_object(n))
        return;
    if (tree_is(n, "type", "BASE_TABLE")) {
        struct plan_bounds *x = bounds_get(w->plan, tree_str(n, "table_name"), &fresh);

        x->mentions--;
        if (fresh || x->mentions < 0) {
            x->b = scan_unbounded;
            x->topic[0] = 0;
        }
    }
    json_object_foreach((json_t *)(uintptr_t)n, key, v) mentions_count(w, v, depth + 1);
}

/* ---- how many rows are there? ---- */

static bool tree_none(const json_t *n, const char *key)
{
    const json_t *v = json_object_get(n, key);

    return !v || json_is_null(v) || (json_is_array(v) && json_array_size(v) == 0);
}

static bool is_count(const json_t *n)
{
    return tree_is(n, "class", "FUNCTION") && tree_is(n, "function_name", "count_star") &&
           !*tree_str(n, "schema") && !*tree_str(n, "catalog") && tree_none(n, "children") &&
           tree_none(n, "filter") && tree_none(json_object_get(n, "order_bys"), "orders") &&
           !json_is_true(json_object_get(n, "distinct")) &&
           !json_is_true(json_object_get(n, "export_state"));
}

/* SELECT count(*) [AS name] FROM table, and nothing else. */
static void count_find(const json_t *statement, struct plan_tree *out)
{
    static const char *const none[] = {"modifiers",  "where_clause", "group_expressions",
                                       "group_sets", "having",       "sample",
                                       "qualify"};
    static const char *const of_table[] = {"sample", "column_name_alias", "at_clause"};
    const json_t *n = json_object_get(statement, "node"), *list = json_object_get(n, "select_list"),
                 *item = json_array_get(list, 0), *from = json_object_get(n, "from_table");
    const char *as = tree_str(item, "alias");
    size_t i;

    if (!tree_is(n, "type", "SELECT_NODE") || json_array_size(list) != 1 || !is_count(item) ||
        !tree_is(from, "type", "BASE_TABLE") || *tree_str(from, "schema_name") ||
        *tree_str(from, "catalog_name") || !tree_none(json_object_get(n, "cte_map"), "map") ||
        !tree_is(n, "aggregate_handling", "STANDARD_HANDLING"))
        return;
    for (i = 0; i < sizeof none / sizeof *none; i++)
        if (!tree_none(n, none[i]))
            return;
    for (i = 0; i < sizeof of_table / sizeof *of_table; i++)
        if (!tree_none(from, of_table[i]))
            return;
    out->count_of = xstrdup(tree_str(from, "table_name"));
    out->count_as = xstrdup(*as ? as : "count_star()");
}

/* ---- are there few rows? ---- */

static bool limit_few(const json_t *n)
{
    const json_t *m, *value;
    size_t i;

    json_array_foreach(json_object_get(n, "modifiers"), i, m)
    {
        value = json_object_get(json_object_get(json_object_get(m, "limit"), "value"), "value");
        if (tree_is(m, "type", "LIMIT_MODIFIER") && json_is_integer(value) &&
            json_integer_value(value) >= 0 && json_integer_value(value) <= PLAN_FEW_ROWS)
            return true;
    }
    return false;
}

/* One that makes rows out of a value. */
static bool function_unnests(const char *name)
{
    return !strcmp(name, "unnest") || !strcmp(name, "unlist");
}

/* Is it made of an aggregate? */
static bool has_aggregate(const json_t *n, int depth)
{
    static const char *const names[] = {"count",  "count_star",    "sum",
                                        "avg",    "min",           "max",
                                        "median", "quantile_cont", "approx_count_distinct"};
    const json_t *v;
    size_t i;

    if (depth > DEPTH_MAX)
        return false;
    if (tree_is(n, "class", "CAST"))
        return has_aggregate(json_object_get(n, "child"), depth + 1);
    if (!tree_is(n, "class", "FUNCTION"))
        return false;
    for (i = 0; i < sizeof names / sizeof *names; i++)
        if (tree_is(n, "function_name", names[i]) && !*tree_str(n, "schema"))
            return true;
    json_array_foreach(json_object_get(n, "children"), i,
                       v) if (has_aggregate(v, depth + 1)) return true;
    return false;
}

/* A small LIMIT, or aggregates and no groups. */
static bool few_rows(const json_t *statement)
{
    const json_t *n = json_object_get(statement, "node"), *list = json_object_get(n, "select_list"),
                 *item;
    size_t i;

    if (limit_few(n))
        return true;
    if (!tree_is(n, "type", "SELECT_NODE") || !tree_none(n, "group_expressions") ||
        !tree_none(n, "group_sets") || !tree_is(n, "aggregate_handling", "STANDARD_HANDLING"))
        return false;
    json_array_foreach(list, i, item) if (!has_aggregate(item, 0) ||
                                          function_find(item, function_unnests, 0)) return false;
    return json_array_size(list) > 0;
}

/* ---- the whole ---- */

/* It has the largest uint64 for "no place", and may have numbers that no int64 holds: those
 * are read as reals then, which narrow nothing. */
json_t *tree_load(struct slice json)
{
    static const char none[] = "18446744073709551615";
    char *text = xmemdup(json.ptr, json.len), *at = text, *end = text + json.len;
    json_error_t why;
    json_t *root;

    while ((at = memmem(at, (size_t)(end - at), none, sizeof none - 1))) {
        memset(at, ' ', sizeof none - 1);
        *at = '0';
    }
    root = json_loadb(text, json.len, JSON_ALLOW_NUL, &why);
    if (!root)
        root = json_loadb(text, json.len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &why);
    free(text);
    return root;
}

static void tree_error(struct plan_tree *out, enum plan_tree_error e, const char *message)
{
    out->error = e;
    out->message = xstrdup(message);
}

static void tree_failed(const json_t *root, struct plan_tree *out)
{
    const char *at = tree_str(root, "position");

    if (tree_is(root, "error_type", "not implemented")) {
        tree_error(out, PLAN_TREE_KIND, "");
        return;
    }
    tree_error(out, PLAN_TREE_SYNTAX, tree_str(root, "error_message"));
    out->position_known = *at != 0;
    out->position = strtoul(at, NULL, 10);
}

void plan_tree_read(struct plan *p, struct slice json, int64_t now_ms, struct plan_tree *out)
{
    struct walk w = {.plan = p, .now_ms = now_ms};
    json_t *root = tree_load(json);
    const json_t *statements = json_object_get(root, "statements");
    const char *banned;

    memset(out, 0, sizeof *out);
    if (!root)
        tree_error(out, PLAN_TREE_SYNTAX, "the statement cannot be analysed");
    else if (json_is_true(json_object_get(root, "error")))
        tree_failed(root, out);
    else if (json_array_size(statements) != 1)
        tree_error(out, PLAN_TREE_MANY, "");
    else if ((banned = function_find(statements, function_banned, 0)))
        tree_error(out, PLAN_TREE_FUNCTION, banned);
    else {
        selects_walk(&w, statements, 0);
        mentions_count(&w, statements, 0);
        count_find(json_array_get(statements, 0), out);
        out->few = few_rows(json_array_get(statements, 0));
    }
    json_decref(root);
}

void plan_tree_fini(struct plan_tree *t)
{
    free(t->message);
    free(t->count_of);
    free(t->count_as);
}
