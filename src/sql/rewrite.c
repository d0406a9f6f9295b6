/* The statement's text as DuckDB gets it. DuckDB binds -> and ->> weaker than AND and =, so that
 * `a = 1 AND v->>'s' = 'p'` would mean `((a = 1) AND v)->>('s' = 'p')`; PostgreSQL binds them
 * tighter than any comparison, and so does everyone who writes them. So where the right side is a
 * literal or a parameter and the left side is a name, a call, a literal or something in brackets,
 * parentheses are put around. A lambda's body that is such a literal comes out the same.
 *
 * And DuckDB has no time travel for tables of others: `orders AT (VERSION => 5)` becomes
 * `"orders@v=5" AS orders`, a name that plan.c reads (v: snapshot, t: milliseconds, p: position),
 * in as many characters where there is room, so that places of errors stay. */
#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"
#include "base/timefmt.h"
#include "sql/sql_int.h"
#include "sql/token.h"

/* Words that stand before an expression and do not call it. */
static bool keyword(const struct tokens *t, uint32_t i, struct slice s)
{
    static const char *const words[] = {
        "and",         "or",         "not",   "in",      "where",     "select",   "on",
        "having",      "by",         "when",  "then",    "else",      "case",     "between",
        "like",        "ilike",      "is",    "as",      "from",      "distinct", "all",
        "any",         "some",       "union", "except",  "intersect", "values",   "limit",
        "offset",      "qualify",    "using", "over",    "filter",    "similar",  "exists",
        "join",        "left",       "right", "inner",   "full",      "cross",    "natural",
        "asof",        "positional", "semi",  "anti",    "group",     "order",    "window",
        "tablesample", "lateral",    "pivot", "unpivot", "outer",     "returning"};
    size_t k;

    for (k = 0; k < sizeof words / sizeof *words; k++)
        if (token_is(t, i, s, words[k]))
            return true;
    return false;
}

/* The token that opens what token i closes; UINT32_MAX: none. */
static uint32_t opening(const struct tokens *t, uint32_t i, struct slice s)
{
    uint32_t depth = 0;

    for (;; i--) {
        if (token_is(t, i, s, ")") || token_is(t, i, s, "]"))
            depth++;
        else if ((token_is(t, i, s, "(") || token_is(t, i, s, "[")) && --depth == 0)
            return i;
        if (i == 0)
            return UINT32_MAX;
    }
}

/* The token with which the operand begins that token i ends; UINT32_MAX: not told. */
static uint32_t operand(const struct tokens *t, uint32_t i, struct slice s)
{
    for (;;) {
        const struct token *k = &t->v[i];

        if (k->group)
            i = k->group - 1;
        else if (token_is(t, i, s, ")") || token_is(t, i, s, "]")) {
            bool call = token_is(t, i, s, ")");

            i = opening(t, i, s);
            if (i == UINT32_MAX)
                return i;
            if (i > 0 && (call ? t->v[i - 1].kind == TOKEN_NAME && !keyword(t, i - 1, s)
                               : t->v[i - 1].kind <= TOKEN_QUOTED || token_is(t, i - 1, s, ")") ||
                                     token_is(t, i - 1, s, "]"))) {
                i--;
                continue;
            }
        } else if (k->kind == TOKEN_NAME || k->kind == TOKEN_QUOTED) {
            if (k->kind == TOKEN_NAME && keyword(t, i, s))
                return UINT32_MAX;
            if (i > 1 && token_is(t, i - 1, s, ".")) {
                i -= 2;
                continue;
            }
        } else if (k->kind != TOKEN_STRING && k->kind != TOKEN_PARAM && k->kind != TOKEN_NUMBER) {
            return UINT32_MAX;
        }
        if (i > 1 && token_is(t, i - 1, s, "::")) {
            i -= 2;
            continue;
        }
        return i;
    }
}

struct edit {
    uint32_t at;
    char c;
};

static int edit_order(const void *a, const void *b)
{
    const struct edit *x = a, *y = b;

    return x->at < y->at ? -1 : x->at > y->at;
}

/* Parentheses to put in, sorted; *n of them. */
static struct edit *edits_find(struct tokens *t, struct slice s, uint32_t *n)
{
    struct edit *e = xcalloc(2 * (size_t)t->n + 1, sizeof *e);
    uint32_t i, from;

    *n = 0;
    for (i = 1; i + 1 < t->n; i++) {
        struct token *right = &t->v[i + 1];

        if (t->v[i].kind != TOKEN_ARROW ||
            (right->kind != TOKEN_STRING && right->kind != TOKEN_NUMBER &&
             right->kind != TOKEN_PARAM))
            continue;
        from = operand(t, i - 1, s);
        if (from == UINT32_MAX)
            continue;
        right->group = from + 1;
        e[(*n)++] = (struct edit){t->v[from].from, '('};
        e[(*n)++] = (struct edit){right->to, ')'};
    }
    qsort(e, *n, sizeof *e, edit_order);
    return e;
}

/* Where the statement begins behind EXPLAIN, in the original. */
static size_t explain_end(const struct tokens *t, struct slice s)
{
    uint32_t i = 1, depth = 0;

    if (!token_is(t, 0, s, "explain"))
        return 0;
    if (token_is(t, i, s, "analyze"))
        i++;
    if (token_is(t, i, s, "(") && !token_is(t, i + 1, s, "select") &&
        !token_is(t, i + 1, s, "with") && !token_is(t, i + 1, s, "from") &&
        !token_is(t, i + 1, s, "(") && !token_is(t, i + 1, s, "values")) {
        do {
            depth += token_is(t, i, s, "(");
            depth -= token_is(t, i, s, ")");
            i++;
        } while (depth && i < t->n);
    }
    return i < t->n ? t->v[i].from : s.len;
}

/* ---- AT ---- */

struct at {
    uint32_t table, alias, end; /* tokens; alias UINT32_MAX: none in front */
    char code;
    int64_t value;
};

static struct slice token_text(const struct tokens *t, uint32_t i, struct slice s)
{
    return slice_of(s.ptr + t->v[i].from, t->v[i].to - t->v[i].from);
}

static bool is_name(const struct tokens *t, uint32_t i, struct slice s)
{
    return i < t->n &&
           (t->v[i].kind == TOKEN_QUOTED || (t->v[i].kind == TOKEN_NAME && !keyword(t, i, s)));
}

/* AT ( word => value ) with `at` at token i. */
static bool at_value(const struct tokens *t, uint32_t i, struct slice s, struct at *a)
{
    static const struct {
        const char *word;
        char code;
    } words[] = {{"version", 'v'}, {"snapshot", 'v'}, {"timestamp", 't'}, {"position", 'p'}};
    uint32_t v = i + 5;
    struct slice text;
    size_t k;

    if (!token_is(t, i, s, "at") || !token_is(t, i + 1, s, "(") || !token_is(t, i + 3, s, "=") ||
        !token_is(t, i + 4, s, ">"))
        return false;
    for (k = 0; k < 4 && !token_is(t, i + 2, s, words[k].word); k++)
        ;
    if (token_is(t, v, s, "timestamp") || token_is(t, v, s, "timestamptz"))
        v++;
    if (k == 4 || v + 1 >= t->n || !token_is(t, v + 1, s, ")"))
        return false;
    a->code = words[k].code;
    a->end = v + 1;
    text = token_text(t, v, s);
    if (t->v[v].kind == TOKEN_STRING && text.len > 2)
        text = slice_of(text.ptr + 1, text.len - 2);
    if (a->code == 't')
        return time_parse(text, &a->value) && a->value >= 0;
    return field_i64(text, &a->value) && a->value >= 0;
}

static bool at_find(const struct tokens *t, uint32_t i, struct slice s, struct at *a)
{
    if (i == 0 || !at_value(t, i, s, a) || !is_name(t, i - 1, s))
        return false;
    a->table = i - 1;
    a->alias = UINT32_MAX;
    if (i > 2 && token_is(t, i - 2, s, "as") && is_name(t, i - 3, s)) {
        a->alias = i - 1;
        a->table = i - 3;
    } else if (i > 1 && is_name(t, i - 2, s)) {
        a->alias = i - 1;
        a->table = i - 2;
    }
    return true;
}

/* The text in the place of tokens a->table to a->end. */
static void at_put(const struct tokens *t, struct slice s, const struct at *a, struct buf *out)
{
    struct slice name = token_text(t, a->table, s), alias = name;
    size_t from = out->len, was = t->v[a->end].to - t->v[a->table].from;

    if (t->v[a->table].kind == TOKEN_QUOTED)
        name = slice_of(name.ptr + 1, name.len - 2);
    if (a->alias != UINT32_MAX)
        alias = token_text(t, a->alias, s);
    buf_printf(out, "\"%.*s@%c=%lld\"", (int)name.len, (const char *)name.ptr, a->code,
               (long long)a->value);
    if (a->alias != UINT32_MAX || (!token_is(t, a->end + 1, s, "as") && !is_name(t, a->end + 1, s)))
        buf_printf(out, " AS %.*s", (int)alias.len, (const char *)alias.ptr);
    while (out->len - from < was)
        buf_append_u8(out, ' ');
}

/* ---- what there is ---- */

#define SHOW_TABLES                                                                        \
    "SELECT CASE table_schema WHEN 'weir' THEN 'weir.' ELSE '' END || table_name AS name " \
    "FROM weir.tables ORDER BY ALL"
#define SHOW_ALL_TABLES                                                              \
    "SELECT table_catalog AS database, table_schema AS schema, table_name AS name, " \
    "list(column_name ORDER BY ordinal_position) AS column_names, "                  \
    "list(data_type ORDER BY ordinal_position) AS column_types, false AS temporary " \
    "FROM weir.columns GROUP BY ALL ORDER BY ALL"

/* SHOW [ALL] TABLES, which list topics as tables of DuckDB's are not; NULL: it is another. */
static const char *show_text(const struct tokens *t, struct slice s)
{
    uint32_t n = t->n && token_is(t, t->n - 1, s, ";") ? t->n - 1 : t->n;

    if (!token_is(t, 0, s, "show"))
        return NULL;
    if (n == 2 && token_is(t, 1, s, "tables"))
        return SHOW_TABLES;
    return n == 3 && token_is(t, 1, s, "all") && token_is(t, 2, s, "tables") ? SHOW_ALL_TABLES
                                                                             : NULL;
}

/* information_schema.tables and .columns at token i. */
static bool schema_find(const struct tokens *t, uint32_t i, struct slice s)
{
    return token_is(t, i, s, "information_schema") && token_is(t, i + 1, s, ".") &&
           (token_is(t, i + 2, s, "tables") || token_is(t, i + 2, s, "columns"));
}

/* Ours, in as many characters. */
static void schema_put(const struct tokens *t, uint32_t i, struct slice s, struct buf *out)
{
    buf_printf(out, "%-*s", (int)(t->v[i + 2].to - t->v[i].from),
               token_is(t, i + 2, s, "tables") ? "weir.tables" : "weir.columns");
}

/* kv.<bucket> behind FROM or JOIN, at token i. */
static bool bucket_find(const struct tokens *t, uint32_t i, struct slice s)
{
    return i > 0 && (token_is(t, i - 1, s, "from") || token_is(t, i - 1, s, "join")) &&
           token_is(t, i, s, "kv") && token_is(t, i + 1, s, ".") && is_name(t, i + 2, s);
}

/* A name that duckdb_kv.c reads. */
static void bucket_put(const struct tokens *t, uint32_t i, struct slice s, struct buf *out)
{
    struct slice name = token_text(t, i + 2, s), bare = name;

    if (t->v[i + 2].kind == TOKEN_QUOTED)
        bare = slice_of(name.ptr + 1, name.len - 2);
    buf_printf(out, "\"%.*s@kv\"", (int)bare.len, (const char *)bare.ptr);
    if (!token_is(t, i + 3, s, "as") && !is_name(t, i + 3, s))
        buf_printf(out, " AS %.*s", (int)name.len, (const char *)name.ptr);
}

/* The statement without AT clauses and names of buckets, and with what lists topics; empty: it has
 * none of them. */
static void names_rewrite(struct slice s, struct buf *out)
{
    struct tokens t = {.n = 0};
    struct at a;
    uint32_t i, first;
    size_t done = 0;
    bool schema, bucket;

    tokens_make(&t, s);
    if (show_text(&t, s)) {
        buf_append_str(out, show_text(&t, s));
        t.n = 0;
    }
    for (i = 0; i < t.n; i++) {
        schema = schema_find(&t, i, s);
        bucket = !schema && bucket_find(&t, i, s);
        if (!schema && !bucket && !at_find(&t, i, s, &a))
            continue;
        first = schema || bucket ? i : a.table;
        if (t.v[first].from < done)
            continue;
        buf_append(out, s.ptr + done, t.v[first].from - done);
        if (schema)
            schema_put(&t, i, s, out);
        else if (bucket)
            bucket_put(&t, i, s, out);
        else
            at_put(&t, s, &a, out);
        i = schema || bucket ? i + 2 : a.end;
        done = t.v[i].to;
    }
    if (done)
        buf_append(out, s.ptr + done, s.len - done);
    free(t.v);
}

/* ---- the whole ---- */

static void arrows_rewrite(struct rewrite *r, struct slice s)
{
    struct tokens t = {.n = 0};
    struct edit *e;
    uint32_t n, k = 0;
    size_t i, d = 0, body;

    memset(r, 0, sizeof *r);
    tokens_make(&t, s);
    if (t.n && token_is(&t, t.n - 1, s, ";"))
        s.len = t.v[--t.n].from;
    else if (t.n)
        s.len = t.v[t.n - 1].to;
    body = explain_end(&t, s);
    e = edits_find(&t, s, &n);
    r->full = xmalloc(s.len + n + 1);
    r->at = xcalloc(n + 1u, sizeof *r->at);
    r->text = r->full;
    for (i = 0; i <= s.len; i++) {
        if (i == body)
            r->text = r->full + d;
        while (k < n && e[k].at == i) {
            r->at[r->at_n++] = (uint32_t)d;
            r->full[d++] = e[k++].c;
        }
        if (i < s.len)
            r->full[d++] = (char)(s.ptr[i] ? s.ptr[i] : ' ');
    }
    r->full[d] = 0;
    r->len = d - (size_t)(r->text - r->full);
    free(e);
    free(t.v);
}

void rewrite_make(struct rewrite *r, struct slice original)
{
    struct buf plain;

    buf_init(&plain, 2 * (size_t)LIMIT_SQL_TEXT + 4096);
    names_rewrite(original, &plain);
    arrows_rewrite(r, plain.len ? buf_slice(&plain) : original);
    buf_fini(&plain);
}

char *rewrite_without_params(const char *text, bool (*known)(void *arg, uint64_t i), void *arg)
{
    struct slice s = slice_str(text);
    struct tokens t = {.n = 0};
    uint64_t n, unnamed = 0;
    size_t done = 0;
    struct buf b;
    uint32_t i;
    char *out;

    buf_init(&b, 8 * s.len + 16);
    tokens_make(&t, s);
    for (i = 0; i < t.n; i++) {
        if (t.v[i].kind != TOKEN_PARAM)
            continue;
        buf_append(&b, s.ptr + done, t.v[i].from - done);
        n = strtoul(text + t.v[i].from + 1, NULL, 10);
        buf_append_str(&b, known(arg, n ? n : ++unnamed) ? "NULL" : "NULL::VARCHAR");
        done = t.v[i].to;
    }
    buf_append(&b, s.ptr + done, s.len - done);
    buf_append_u8(&b, 0);
    out = xstrdup((const char *)b.ptr);
    buf_fini(&b);
    free(t.v);
    return out;
}

void rewrite_fini(struct rewrite *r)
{
    free(r->full);
    free(r->at);
    memset(r, 0, sizeof *r);
}

uint32_t rewrite_origin(const struct rewrite *r, struct slice original, size_t offset)
{
    uint32_t chars = 0, k = 0;
    size_t i;

    while (k < r->at_n && r->at[k] < offset)
        k++;
    offset -= k;
    for (i = 0; i < offset && i < original.len; i++)
        chars += (original.ptr[i] & 0xc0) != 0x80;
    return chars + 1;
}
