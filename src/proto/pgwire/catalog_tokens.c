/* What SQL does not know in a statement about the catalogue is replaced token by token, in one pass:
 *
 *   pg_catalog.X, public.X, DATABASE.public.X, OPERATOR(pg_catalog.~)  ->  X, X, X, ~
 *   x::regclass, CAST(x AS regtype), x::name …   ->  numbers, names, or a type that there is
 *   COLLATE …                                    ->  nothing
 *   calls of tbl/catalog.h, version()            ->  what they would say
 *   FROM f(x) AS f                               ->  FROM (SELECT f(x)) AS f(f), for those
 *   x = ANY ($1), '{1,2}'::int[]                 ->  lists, as SQL writes them
 *   x ~ 'pattern'                                ->  a match of a part, in statements about the catalogue
 *
 * The operand in front of "::" or an operator is known by where it begins in what was put out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proto/pgwire/catalog_int.h"

#define ARGS_MAX  64u
#define DEPTH_MAX 32u
#define NOWHERE   SIZE_MAX
#define CALL_MAX  (1u << 20) /* bytes of a call's arguments */

static const struct {
    const char *name, *text;
} calls[] = {
#define CATALOG_CALL(name, text) {name, text},
#include "proto/pgwire/tbl/catalog.h"
};
static const struct {
    const char *name;
    uint32_t oid;
} procs[] = {
#define CATALOG_PROC(name, oid) {name, oid},
#include "proto/pgwire/tbl/catalog.h"
};

static bool word_in(const struct lex_token *t, const char *const *words, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        if (lex_is(t, words[i]))
            return true;
    return false;
}
#define IS_ONE_OF(t, words) word_in(t, words, sizeof(words) / sizeof *(words))

static struct lex_token peek(const struct rewriting *r)
{
    struct slice rest = r->in;

    return lex_next(&rest);
}

static void say_slice(struct rewriting *r, struct slice s)
{
    r->e = r->e ? r->e : buf_append_slice(r->out, s);
}

/* The innermost bracket's clause. */
static enum catalog_clause *clause_of(struct rewriting *r)
{
    return &r->open[r->opens < CATALOG_OPEN_MAX ? r->opens : CATALOG_OPEN_MAX - 1].clause;
}

/* What follows is an operand that begins here and ends before the next token. */
static void operand_is(struct rewriting *r, size_t from, enum catalog_operand kind)
{
    if (from != r->operand)
        r->operand_item = r->item;
    r->operand = from;
    r->kind = kind;
    r->last_dot = r->matching = r->folded = r->item = false;
}

/* ---- names ---- */

/* "public"."a b", public.x, x: the last part, in out. */
static bool name_last(struct slice in, char *out, size_t n)
{
    struct lex_token t;

    do {
        t = lex_next(&in);
        if (!lex_name(&t, out, n))
            return false;
        t = lex_next(&in);
    } while (lex_op(&t, '.'));
    return t.kind == LEX_END;
}

/* A literal's object as a number; 0: it is none that is known. */
static uint32_t object_of(const char *type, const char *text)
{
    char name[CATALOG_WORD_MAX];
    size_t i;

    if (!name_last(slice_str(text), name, sizeof name))
        snprintf(name, sizeof name, "%s", text);
    if (strcmp(type, "regclass") == 0)
        return catalog_oid(name);
    for (i = 0; strcmp(type, "regproc") == 0 && i < sizeof procs / sizeof *procs; i++)
        if (strcmp(procs[i].name, name) == 0)
            return procs[i].oid;
    return 0;
}

/* ---- columns ---- */

/* What a column is called in PostgreSQL, behind what it became here. item: this is all of it so far. */
static void column_name_put(struct rewriting *r, const char *name, bool item)
{
    static const char *const ends[] = {"from", "where", "union", "order", "limit"};
    struct lex_token t = peek(r);

    if (item && *clause_of(r) == CLAUSE_LIST &&
        (t.kind == LEX_END || lex_op(&t, ',') || lex_op(&t, ')') || IS_ONE_OF(&t, ends)))
        r->e = r->e ? r->e : buf_printf(r->out, " AS \"%s\"", name);
}

/* ---- types ---- */

/* What was put from r->operand on is taken off, into text, which the caller ends. */
static bool operand_take(struct rewriting *r, struct buf *text)
{
    buf_init(text, CALL_MAX);
    if (r->operand == NOWHERE || r->e)
        return false;
    r->e = buf_append(text, r->out->ptr + r->operand, r->out->len - r->operand);
    r->out->len = r->operand;
    return !r->e;
}

/* Around an operand: its number, or its name. */
struct lookup {
    const char *type, *number, *name; /* either around "%s" as text */
    unsigned uses;
};
static const struct lookup lookups[] = {
    {"regclass",
     "(SELECT max(weir_n.weir_oid) FROM weir_names weir_n WHERE weir_n.weir_name = (%s)::VARCHAR)",
     "coalesce((SELECT max(weir_n.weir_rel) FROM weir_names weir_n WHERE weir_n.weir_name = "
     "(%s)::VARCHAR), (%s)::VARCHAR)",
     CATALOG_PG | CATALOG_CLASS | CATALOG_NAMED},
    {"regtype",
     "(SELECT max(weir_t.weir_oid) FROM weir_formats weir_t WHERE (%s)::VARCHAR IN "
     "(weir_t.weir_type, "
     "weir_t.weir_format, 'pg_catalog.' || weir_t.weir_type, weir_t.weir_oid::VARCHAR))",
     "coalesce((SELECT max(weir_t.weir_format) FROM weir_formats weir_t WHERE (%s)::VARCHAR = "
     "weir_t.weir_oid::VARCHAR), (%s)::VARCHAR)",
     CATALOG_PG},
    {"regproc",
     "(SELECT max(weir_p.weir_oid) FROM weir_procs weir_p WHERE weir_p.weir_name = (%s)::VARCHAR)",
     "coalesce((SELECT max(weir_p.weir_name) FROM weir_procs weir_p WHERE weir_p.weir_oid::VARCHAR "
     "= "
     "(%s)::VARCHAR), (%s)::VARCHAR)",
     CATALOG_PG},
    {"regnamespace",
     "CASE (%s)::VARCHAR WHEN 'public' THEN 2200 WHEN 'pg_catalog' THEN 11 WHEN "
     "'information_schema' THEN 13000 END",
     "CASE (%s)::VARCHAR WHEN '2200' THEN 'public' WHEN '11' THEN 'pg_catalog' ELSE (%s)::VARCHAR "
     "END",
     0},
};

static void lookup_put(struct rewriting *r, const char *around, struct slice operand)
{
    const char *at;

    for (at = strstr(around, "%s"); at && !r->e; around = at + 2, at = strstr(around, "%s")) {
        say_slice(r, slice_of(around, (size_t)(at - around)));
        say_slice(r, operand);
    }
    catalog_say(r, around);
}

/* Objects' types: the number of what a literal names; of a column the name, as it is a number most
 * often; else the number. False: it is another type. */
static bool object_type(struct rewriting *r, const char *type)
{
    const struct lookup *l = NULL;
    struct lex_token next = peek(r), t;
    char text[CATALOG_WORD_MAX];
    struct slice word;
    struct buf operand;
    uint32_t oid = 0;
    size_t i, from = r->operand;
    bool item = r->operand_item;

    for (i = 0; i < sizeof lookups / sizeof *lookups; i++)
        if (strcmp(lookups[i].type, type) == 0)
            l = &lookups[i];
    if (!l || lex_op(&next, '[') || !operand_take(r, &operand))
        return false;
    word = buf_slice(&operand);
    t = lex_next(&word);
    if (r->kind == OPERAND_STRING && lex_string(&t, text, sizeof text))
        oid = object_of(type, text);
    if (oid) {
        r->e = r->e ? r->e : buf_printf(r->out, " %u ", oid);
    } else {
        lookup_put(r, r->kind == OPERAND_COLUMN ? l->name : l->number, buf_slice(&operand));
        r->uses |= l->uses;
    }
    if (!name_last(buf_slice(&operand), text, sizeof text))
        snprintf(text, sizeof text, "%s", type);
    buf_fini(&operand);
    operand_is(r, from, OPERAND_OTHER);
    column_name_put(r, text, item);
    return true;
}

/* A literal {1,NULL,"a b"} that becomes a list: [1,NULL,"a b"]. */
static void list_literal(struct rewriting *r)
{
    char text[CATALOG_WORD_MAX];
    struct slice word;
    struct lex_token t;
    uint8_t *p;

    if (r->kind != OPERAND_STRING || r->operand == NOWHERE)
        return;
    word = slice_of(r->out->ptr + r->operand, r->out->len - r->operand);
    t = lex_next(&word);
    p = r->out->ptr + r->operand;
    if (!lex_string(&t, text, sizeof text) || text[0] != '{' || p[0] != '\'' ||
        t.text.ptr[t.text.len - 2] != '}')
        return;
    p[1] = '[';
    p[t.text.len - 2] = ']';
    r->changed = true;
}

/* The type's name has been taken. False: SQL knows it as it is. */
static bool type_replace(struct rewriting *r, const char *name)
{
    static const struct {
        const char *name, *text;
    } types[] = {{"regclass", "VARCHAR"},
                 {"regtype", "VARCHAR"},
                 {"regproc", "VARCHAR"},
                 {"regprocedure", "VARCHAR"},
                 {"regnamespace", "VARCHAR"},
                 {"regrole", "VARCHAR"},
                 {"regoper", "VARCHAR"},
                 {"regoperator", "VARCHAR"},
                 {"name", "VARCHAR"},
                 {"char", "VARCHAR"},
                 {"int2vector", "VARCHAR"},
                 {"oidvector", "VARCHAR"},
                 {"aclitem", "VARCHAR"},
                 {"xid", "BIGINT"},
                 {"cid", "BIGINT"},
                 {"pg_node_tree", "VARCHAR"},
                 {"citext", "VARCHAR"},
                 {"sql_identifier", "VARCHAR"},
                 {"character_data", "VARCHAR"},
                 {"yes_or_no", "VARCHAR"},
                 {"cardinal_number", "INTEGER"},
                 {"jsonb", "JSON"},
                 {"oid", "UINTEGER"}};
    size_t i;

    for (i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, name) == 0) {
            catalog_say(r, types[i].text);
            return true;
        }
    return false;
}

/* A type's name behind "::" or AS, with or without a schema; what stands in front of it has not been
 * put out yet: put it. False: nothing was taken. */
static bool type_take(struct rewriting *r, const char *before)
{
    struct slice start = r->in;
    char name[CATALOG_WORD_MAX];
    struct lex_token t = lex_next(&r->in), next;
    size_t operand = r->operand;
    bool schema = false, column;

    if (!lex_name(&t, name, sizeof name)) {
        r->in = start;
        return false;
    }
    next = peek(r);
    if (lex_op(&next, '.') &&
        (strcmp(name, "pg_catalog") == 0 || strcmp(name, "information_schema") == 0)) {
        lex_next(&r->in);
        t = lex_next(&r->in);
        schema = lex_name(&t, name, sizeof name);
        next = peek(r);
    }
    column = r->kind == OPERAND_COLUMN;
    if (object_type(r, name)) {
        if (strcmp(before, "::") != 0)
            catalog_say(r, column ? " AS VARCHAR" : " AS UINTEGER");
        return r->changed = true;
    }
    if (lex_op(&next, '['))
        list_literal(r);
    catalog_say(r, before);
    if (type_replace(r, name))
        r->changed = true;
    else
        say_slice(r, t.text);
    r->changed = r->changed || schema;
    operand_is(r, operand, OPERAND_OTHER);
    return true;
}

/* ---- calls ---- */

/* Takes everything up to the bracket that closes the one at hand, which was just taken. The arguments
 * in arg; *n: how many. */
static void call_take(struct rewriting *r, struct slice *arg, unsigned *n)
{
    const uint8_t *from = r->in.ptr;
    unsigned depth = 1;
    struct lex_token t;
    bool any = false;

    *n = 0;
    while (depth) {
        t = lex_next(&r->in);
        if (t.kind == LEX_END)
            break;
        depth += lex_op(&t, '(') || lex_op(&t, '[');
        depth -= lex_op(&t, ')') || lex_op(&t, ']');
        if ((depth == 1 && lex_op(&t, ',')) || depth == 0) {
            if (*n < ARGS_MAX && (any || depth))
                arg[(*n)++] = slice_of(from, (size_t)(t.text.ptr - from));
            from = t.text.ptr + 1;
        }
        any = true;
    }
}

/* The text as SQL is to get it, appended. */
static void inner_put(struct rewriting *r, struct slice text)
{
    struct slice rest = r->in;
    unsigned opens = r->opens;

    if (r->depth >= DEPTH_MAX) {
        say_slice(r, text);
        return;
    }
    r->depth++;
    if (r->opens + 1 < CATALOG_OPEN_MAX)
        r->open[++r->opens] = (struct catalog_open){.operand = NOWHERE};
    r->in = text;
    catalog_tokens(r);
    r->in = rest;
    r->opens = opens;
    r->depth--;
}

/* A call's text with its arguments: %1 … as they are, %* all, %0 the session's user, %d its database. */
static void template_put(struct rewriting *r, const char *text, const struct slice *arg, unsigned n)
{
    const char *at;
    unsigned i;

    for (at = strchr(text, '%'); at && !r->e; text = at + 2, at = strchr(text, '%')) {
        say_slice(r, slice_of(text, (size_t)(at - text)));
        if (at[1] == '0')
            catalog_say_literal(r, r->pc->s.user);
        else if (at[1] == 'd')
            catalog_say_literal(r, r->pc->s.database);
        else if (at[1] >= '1' && at[1] < '1' + (int)n)
            inner_put(r, arg[at[1] - '1']);
        else if (at[1] == '*')
            for (i = 0; i < n; i++) {
                catalog_say(r, i ? ", " : "");
                inner_put(r, arg[i]);
            }
        else
            catalog_say(r, "NULL");
    }
    catalog_say(r, text);
}

static void template_uses(struct rewriting *r, const char *text)
{
    if (strstr(text, "weir_formats") || strstr(text, "weir_procs"))
        r->uses |= CATALOG_PG;
    if (strstr(text, "weir_names"))
        r->uses |= CATALOG_PG | CATALOG_CLASS | CATALOG_NAMED;
    if (strstr(text, "weir_sizes"))
        r->uses |= CATALOG_PG | CATALOG_CLASS | CATALOG_NAMED | CATALOG_SIZES;
    if (strstr(text, "weir_settings"))
        r->uses |= CATALOG_PG | CATALOG_SETTINGS;
}

/* A setting that is asked for by a literal. False: it is asked for otherwise, or there is none. */
static bool setting_put(struct rewriting *r, struct slice arg)
{
    char name[CATALOG_WORD_MAX];
    struct lex_token t = lex_next(&arg), end = lex_next(&arg);
    const char *v;

    if (end.kind != LEX_END || !lex_string(&t, name, sizeof name))
        return false;
    v = session_get(&r->pc->s, name);
    if (v)
        catalog_say_literal(r, v);
    else
        catalog_say(r, "NULL::VARCHAR");
    return true;
}

/* A parameter that the client says is an array is a list. */
static bool param_take(struct rewriting *r)
{
    unsigned long n = strtoul((const char *)r->t.text.ptr + 1, NULL, 10);
    const char *list = n && n <= r->oids_n ? pg_list_type(r->oids[n - 1]) : NULL;

    if (!list)
        return false;
    r->e = r->e ? r->e
                : buf_printf(r->out, "(%.*s::%s)", (int)r->t.text.len, (const char *)r->t.text.ptr,
                             list);
    return r->changed = true;
}

bool catalog_param_is_list(struct slice sql, unsigned n)
{
    static const char *const words[] = {"any", "all", "some"};
    struct lex_token t, before[2] = {{LEX_END, SLICE_NULL}, {LEX_END, SLICE_NULL}};
    struct slice rest;

    for (t = lex_next(&sql); t.kind != LEX_END; t = lex_next(&sql)) {
        if (t.kind == LEX_PARAM && strtoul((const char *)t.text.ptr + 1, NULL, 10) == n) {
            if (IS_ONE_OF(&before[0], words) && lex_op(&before[1], '('))
                return true;
            rest = sql;
            t = lex_next(&rest);
            if (t.kind == LEX_OTHER && t.text.len == 2) { /* :: words [ */
                do
                    t = lex_next(&rest);
                while (t.kind == LEX_WORD || lex_op(&t, '.'));
                if (lex_op(&t, '['))
                    return true;
            }
            t.kind = LEX_PARAM;
        }
        before[0] = before[1];
        before[1] = t;
    }
    return false;
}

/* In FROM a call is a table of one column and one row, of the call's name if it is given no other. */
static void from_end(struct rewriting *r, const char *name)
{
    static const char *const keywords[] = {"cross", "full",  "group", "having",  "inner",
                                           "join",  "left",  "limit", "natural", "on",
                                           "order", "right", "union", "where",   "as"};
    char alias[CATALOG_WORD_MAX];
    struct lex_token t = peek(r);
    struct slice rest;

    snprintf(alias, sizeof alias, "%s", name);
    if (lex_is(&t, "as"))
        lex_next(&r->in);
    rest = r->in;
    t = lex_next(&rest);
    if (!IS_ONE_OF(&t, keywords) && lex_name(&t, alias, sizeof alias))
        r->in = rest;
    catalog_say(r, ") AS ");
    r->e = r->e ? r->e : buf_printf(r->out, "\"%s\"", alias);
    t = peek(r);
    if (!lex_op(&t, '('))
        r->e = r->e ? r->e : buf_printf(r->out, "(\"%s\")", alias);
}

/* format('%I.%s', …) is printf. */
static bool format_put(struct rewriting *r, const struct slice *arg, unsigned n)
{
    char text[CATALOG_WORD_MAX];
    struct slice first = n ? arg[0] : SLICE_NULL;
    struct lex_token t = lex_next(&first);
    unsigned i;
    char *p;

    if (!lex_string(&t, text, sizeof text) || !strchr(text, '%') || strchr(text, '{'))
        return false;
    for (p = strchr(text, '%'); p; p = strchr(p + 1, '%'))
        if (p[1] == 'I' || p[1] == 'L')
            p[1] = 's';
    catalog_say(r, "printf(");
    catalog_say_literal(r, text);
    for (i = 1; i < n; i++) {
        catalog_say(r, ", (");
        inner_put(r, arg[i]);
        catalog_say(r, ")::VARCHAR");
    }
    catalog_say(r, ")");
    return true;
}

/* In PostgreSQL the alias of generate_series is its column's name, too. About the catalogue it may
 * depend on other tables' columns, and is short. */
static void series_put(struct rewriting *r, const struct slice *arg, unsigned n)
{
    unsigned i;

    catalog_say(r, r->catalogue ? "(SELECT unnest(generate_series(" : "(FROM generate_series(");
    for (i = 0; i < n; i++) {
        catalog_say(r, i ? ", " : "");
        inner_put(r, arg[i]);
    }
    catalog_say(r, r->catalogue ? "))" : ")");
    from_end(r, "generate_series");
}

static const char *call_text(const char *name)
{
    size_t i;

    for (i = 0; i < sizeof calls / sizeof *calls; i++)
        if (strcmp(calls[i].name, name) == 0)
            return calls[i].text;
    return NULL;
}

/* A function that is answered otherwise. False: it is none of them, and nothing was taken. */
static bool call_replace(struct rewriting *r, const char *name)
{
    bool table = r->item && *clause_of(r) == CLAUSE_FROM, item = r->item;
    bool series = table && strcmp(name, "generate_series") == 0;
    struct lex_token open = peek(r);
    const char *text = call_text(name);
    struct slice rest = r->in, arg[ARGS_MAX];
    size_t at = r->out->len;
    unsigned n;

    if (!lex_op(&open, '(') || (!text && !series && (!r->catalogue || strcmp(name, "format") != 0)))
        return false;
    lex_next(&r->in);
    call_take(r, arg, &n);
    if (series) {
        series_put(r, arg, n);
        operand_is(r, at, OPERAND_OTHER);
        return true;
    }
    if (text && strncmp(text, "TABLE ", 6) == 0) {
        text += 6;
        table = item = false;
    }
    if (table)
        catalog_say(r, "(SELECT ");
    if (!text && !format_put(r, arg, n)) {
        r->out->len = at;
        r->in = rest;
        return false;
    }
    if (text && (strcmp(name, "current_setting") != 0 || !n || !setting_put(r, arg[0]))) {
        template_put(r, text, arg, n);
        template_uses(r, text);
    }
    operand_is(r, at, OPERAND_OTHER);
    if (table)
        from_end(r, name);
    else
        column_name_put(r, name, item);
    return true;
}

/* ---- words ---- */

/* Who asks, and where: words that are values. */
static bool value_word(struct rewriting *r, const char *name)
{
    static const char *const users[] = {"current_user", "session_user", "current_role"};
    struct lex_token next = peek(r);
    bool item = r->item, user;
    size_t at = r->out->len;

    if (r->t.kind != LEX_WORD || lex_op(&next, '.') || lex_op(&next, '('))
        return false;
    user = IS_ONE_OF(&r->t, users) ||
           (strcmp(name, "user") == 0 && r->catalogue && r->kind == OPERAND_NONE);
    if (!user && strcmp(name, "current_catalog") != 0)
        return false;
    catalog_say_literal(r, user ? r->pc->s.user : r->pc->s.database);
    operand_is(r, at, OPERAND_OTHER);
    column_name_put(r, name, item);
    return r->changed = true;
}

/* A schema, or the database and one, in front of a name: dropped. */
static bool schema_drop(struct rewriting *r, const char *name)
{
    struct slice rest = r->in;
    struct lex_token dot = lex_next(&rest), t = lex_next(&rest), more = lex_next(&rest);
    char second[CATALOG_WORD_MAX] = "", third[CATALOG_WORD_MAX] = "";

    if (r->last_dot || !lex_op(&dot, '.') || !lex_name(&t, second, sizeof second))
        return false;
    if (lex_op(&more, '.') && strcmp(name, r->pc->s.database) == 0 &&
        (strcmp(second, "pg_catalog") == 0 || strcmp(second, "public") == 0 ||
         strcmp(second, "information_schema") == 0)) {
        lex_next(&r->in);
        return r->changed = true;
    }
    if (strcmp(name, "information_schema") == 0) {
        snprintf(third, sizeof third, "%s", second);
        if (!catalog_mention(r, third, true) && !call_text(third))
            return false;
    } else if (strcmp(name, "pg_catalog") != 0 && strcmp(name, "public") != 0) {
        return false;
    }
    lex_next(&r->in);
    return r->changed = true;
}

/* COLLATE name; OPERATOR(schema.op). False: it is neither. */
static bool oddity_take(struct rewriting *r)
{
    struct lex_token t = peek(r), dot;

    if (lex_is(&r->t, "collate")) {
        lex_next(&r->in);
        dot = peek(r);
        if (lex_op(&dot, '.')) {
            lex_next(&r->in);
            lex_next(&r->in);
        }
        return r->changed = true;
    }
    if (!lex_is(&r->t, "operator") || !lex_op(&t, '('))
        return false;
    lex_next(&r->in);
    for (t = lex_next(&r->in); t.kind != LEX_END && !lex_op(&t, ')'); t = lex_next(&r->in)) {
        if (t.kind != LEX_OTHER || lex_op(&t, '.'))
            continue;
        say_slice(r, t.text);
        r->matching = lex_op(&t, '~');
    }
    r->operand = NOWHERE;
    r->kind = OPERAND_NONE;
    return r->changed = true;
}

/* = ANY ($1): the parameter is a list of what stands on the left. */
static bool any_take(struct rewriting *r)
{
    static const char *const words[] = {"any", "all", "some"};
    struct slice rest = r->in;
    struct lex_token open = lex_next(&rest), p = lex_next(&rest), close = lex_next(&rest);
    struct buf left;

    if (!IS_ONE_OF(&r->t, words) || r->left == NOWHERE || !lex_op(&open, '(') ||
        p.kind != LEX_PARAM || !lex_op(&close, ')'))
        return false;
    r->in = rest;
    buf_init(&left, CALL_MAX);
    r->e = r->e ? r->e : buf_append(&left, r->out->ptr + r->left, r->left_end - r->left);
    say_slice(r, r->t.text);
    catalog_say(r, "(");
    r->t = p;
    if (!param_take(r)) {
        catalog_say(r, "cast_to_type(");
        say_slice(r, p.text);
        catalog_say(r, "::VARCHAR, [");
        say_slice(r, buf_slice(&left));
        catalog_say(r, "])");
    }
    catalog_say(r, ")");
    buf_fini(&left);
    operand_is(r, NOWHERE, OPERAND_NONE);
    return r->changed = true;
}

static void clause_note(struct rewriting *r)
{
    static const char *const others[] = {"where",  "group",     "having", "order",  "limit",
                                         "on",     "using",     "offset", "window", "union",
                                         "except", "intersect", "fetch",  "set",    "values"};
    enum catalog_clause *c = clause_of(r);

    if (lex_is(&r->t, "select"))
        *c = CLAUSE_LIST;
    else if (lex_is(&r->t, "from") && !r->distinct && (*c == CLAUSE_LIST || !r->opens))
        *c = CLAUSE_FROM; /* not of extract(… FROM …) */
    else if (lex_is(&r->t, "join"))
        *c = CLAUSE_FROM;
    else if (IS_ONE_OF(&r->t, others))
        *c = CLAUSE_OTHER;
    r->distinct = lex_is(&r->t, "distinct"); /* IS DISTINCT FROM */
}

/* ---- tokens ---- */

static bool is_keyword(const struct lex_token *t)
{
    static const char *const words[] = {
        "all",       "and",   "any",      "as",      "asc",    "between", "by",     "case",
        "cross",     "desc",  "distinct", "else",    "end",    "except",  "exists", "fetch",
        "filter",    "from",  "full",     "group",   "having", "ilike",   "in",     "inner",
        "intersect", "is",    "join",     "lateral", "left",   "like",    "limit",  "natural",
        "not",       "null",  "offset",   "on",      "or",     "order",   "outer",  "over",
        "recursive", "right", "select",   "similar", "some",   "then",    "union",  "using",
        "values",    "when",  "where",    "with"};

    return t->kind == LEX_WORD && IS_ONE_OF(t, words);
}

static void bracket_open(struct rewriting *r)
{
    size_t at = r->out->len;
    bool call = r->kind == OPERAND_COLUMN;

    if (r->opens + 1 < CATALOG_OPEN_MAX) {
        r->open[++r->opens] = (struct catalog_open){
            .operand = r->kind != OPERAND_NONE ? r->operand : at,
            .clause = CLAUSE_OTHER,
            .cast = call && r->out->len - r->operand >= 4 &&
                    strncasecmp((const char *)r->out->ptr + r->operand, "cast", 4) == 0};
    } else {
        r->opens++;
    }
    say_slice(r, r->t.text);
    if (r->opens < CATALOG_OPEN_MAX)
        r->open[r->opens].inside = r->out->len;
    operand_is(r, NOWHERE, OPERAND_NONE);
}

static void bracket_close(struct rewriting *r)
{
    size_t from = NOWHERE;

    if (r->opens && r->opens < CATALOG_OPEN_MAX)
        from = r->open[r->opens].operand;
    r->opens -= r->opens > 0;
    say_slice(r, r->t.text);
    operand_is(r, from, from == NOWHERE ? OPERAND_NONE : OPERAND_OTHER);
}

static void other_take(struct rewriting *r)
{
    bool operator=
        r->t.kind == LEX_OTHER && r->t.text.len == 1 && memchr("=<>!~*", r->t.text.ptr[0], 6);

    if (lex_op(&r->t, '(') || lex_op(&r->t, '[')) {
        bracket_open(r);
        return;
    }
    if (lex_op(&r->t, ')') || lex_op(&r->t, ']')) {
        bracket_close(r);
        return;
    }
    if (lex_op(&r->t, '.')) {
        say_slice(r, r->t.text);
        r->last_dot = true;
        return;
    }
    if (!operator)
        r->left = NOWHERE;
    else if (r->kind != OPERAND_NONE) {
        r->left = r->operand;
        r->left_end = r->out->len;
    }
    if (r->matching && r->catalogue && lex_op(&r->t, '*')) { /* ~*: the pattern says it */
        r->folded = true;
        return;
    }
    say_slice(r, r->t.text);
    operand_is(r, NOWHERE, OPERAND_NONE);
    r->matching = lex_op(&r->t, '~');
    r->item = lex_op(&r->t, ',');
}

/* A pattern matches a part in PostgreSQL, all of a text here. */
static bool pattern_take(struct rewriting *r)
{
    if (!r->matching || !r->catalogue || (r->t.kind != LEX_STRING && r->t.kind != LEX_PARAM))
        return false;
    catalog_say(r, r->folded ? "('(?i)(?s:.*)(?:' || " : "('(?s:.*)(?:' || ");
    say_slice(r, r->t.text);
    catalog_say(r, " || ')(?s:.*)')");
    operand_is(r, NOWHERE, OPERAND_NONE);
    return r->changed = true;
}

static void word_take(struct rewriting *r)
{
    char name[CATALOG_WORD_MAX] = "";
    size_t from = r->last_dot ? r->operand : r->out->len, inside;
    bool cast = r->opens < CATALOG_OPEN_MAX && r->open[r->opens].cast;

    if (r->t.kind == LEX_WORD && !r->last_dot) {
        if (oddity_take(r) || any_take(r))
            return;
        if (cast && lex_is(&r->t, "as")) {
            inside = r->open[r->opens].inside;
            operand_is(r, inside, r->operand == inside ? r->kind : OPERAND_OTHER);
            if (type_take(r, "AS "))
                return;
        }
        if (is_keyword(&r->t)) {
            clause_note(r);
            say_slice(r, r->t.text);
            r->item = *clause_of(r) != CLAUSE_OTHER && !lex_is(&r->t, "as");
            r->operand = r->left = NOWHERE;
            r->kind = lex_is(&r->t, "as") ? OPERAND_OTHER : OPERAND_NONE;
            r->last_dot = r->matching = false;
            return;
        }
    }
    if (lex_name(&r->t, name, sizeof name)) {
        if (schema_drop(r, name))
            return;
        if (!r->last_dot && (call_replace(r, name) || value_word(r, name))) {
            r->changed = true;
            return;
        }
        if (strncmp(name, "pg_", 3) == 0)
            catalog_mention(r, name, false);
    }
    say_slice(r, r->t.text);
    operand_is(r, from, OPERAND_COLUMN);
}

static void token_take(struct rewriting *r)
{
    size_t at = r->out->len;

    if (r->t.kind == LEX_OTHER && r->t.text.len == 2) {
        if (!type_take(r, "::"))
            say_slice(r, r->t.text);
    } else if (r->t.kind == LEX_WORD || r->t.kind == LEX_QUOTED) {
        word_take(r);
    } else if (r->t.kind == LEX_OTHER) {
        other_take(r);
    } else if (!pattern_take(r)) {
        if (r->t.kind != LEX_PARAM || !param_take(r))
            say_slice(r, r->t.text);
        operand_is(r, at, r->t.kind == LEX_STRING ? OPERAND_STRING : OPERAND_OTHER);
    }
}

/* The text between tokens stays, so that what is not changed reads as before. */
void catalog_tokens(struct rewriting *r)
{
    const uint8_t *end = r->in.ptr;

    r->operand = r->left = NOWHERE;
    r->kind = OPERAND_NONE;
    r->last_dot = r->matching = r->folded = false;
    for (r->t = lex_next(&r->in); r->t.kind != LEX_END && !r->e; r->t = lex_next(&r->in)) {
        if (r->t.text.ptr > end)
            r->e = buf_append(r->out, end, (size_t)(r->t.text.ptr - end));
        token_take(r);
        end = r->in.ptr;
    }
}
