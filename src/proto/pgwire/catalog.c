/* What clients ask about the catalogue. Their statements are for PostgreSQL's own tables; here these
 * become common table expressions in front of the statement, made of the topics that may be read and
 * of DESCRIBE, and what SQL does not know is replaced token by token:
 *
 *   pg_catalog.X, public.X, OPERATOR(pg_catalog.~)  ->  X, X, ~
 *   x::regclass, x::name …                          ->  a type that there is; 'topic'::regclass its number
 *   COLLATE …                                       ->  nothing
 *   calls of tbl/catalog.h, format_type, version()  ->  what they would say
 *
 * A statement that mentions none of this goes on as it came. The number of a topic is a hash of its
 * name. Runs on the connection's loop, bounded by TOPICS_MAX. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/murmur2.h"
#include "proto/pgwire/pgwire_int.h"
#include "rows/lex.h"

#define TOPICS_MAX   2000u /* that are listed */
#define DESCRIBE_MAX 200u  /* whose columns are, where the statement names none */
#define PAGE         64u
#define WORD_MAX     256u

enum uses { USES_PG = 1, USES_CLASS = 2, USES_COLUMNS = 4 };

struct rewriting {
    struct pconn *pc;
    struct slice sql, in;
    struct buf *out;
    struct lex_token t; /* the one at hand */
    size_t last;        /* where the token before it begins in out */
    bool last_string, last_dot, changed;
    unsigned uses;
    enum err e;
};

static const struct {
    const char *name, *select;
} empties[] = {
#define CATALOG_EMPTY(name, columns) {name, columns},
#include "proto/pgwire/tbl/catalog.h"
};
static const struct {
    const char *name, *text;
} calls[] = {
#define CATALOG_CALL(name, text) {name, text},
#include "proto/pgwire/tbl/catalog.h"
};

static uint32_t oid_of(const char *topic)
{
    return 0x40000000u | (murmur2(topic, strlen(topic)) & 0x3fffffffu);
}

static void say(struct rewriting *r, const char *text)
{
    if (!r->e)
        r->e = buf_append_str(r->out, text);
}

static void say_literal(struct rewriting *r, const char *text)
{
    say(r, "'");
    for (; *text && !r->e; text++) {
        if (*text == '\'')
            say(r, "'");
        r->e = r->e ? r->e : buf_append_u8(r->out, (uint8_t)*text);
    }
    say(r, "'");
}

/* ---- tokens ---- */

static struct lex_token peek(const struct rewriting *r)
{
    struct slice rest = r->in;

    return lex_next(&rest);
}

/* Takes everything up to the bracket that closes the one at hand, which was just taken. The arguments
 * before the first comma in *first. */
static void call_skip(struct rewriting *r, struct slice *first)
{
    const uint8_t *from = r->in.ptr, *comma = NULL;
    unsigned depth = 1;
    struct lex_token t;

    while (depth) {
        t = lex_next(&r->in);
        if (t.kind == LEX_END)
            break;
        depth += lex_op(&t, '(') || lex_op(&t, '[');
        depth -= lex_op(&t, ')') || lex_op(&t, ']');
        if ((depth == 1 && lex_op(&t, ',')) || depth == 0)
            comma = comma ? comma : t.text.ptr;
    }
    *first = slice_of(from, comma ? (size_t)(comma - from) : 0);
}

/* A function that is answered otherwise. False: it is none of them. */
static bool call_replace(struct rewriting *r, const char *name)
{
    struct lex_token open = peek(r);
    struct slice rest, first;
    char value[WORD_MAX];
    unsigned i;

    if (!lex_op(&open, '('))
        return false;
    rest = r->in;
    lex_next(&r->in);
    for (i = 0; i < sizeof calls / sizeof *calls; i++)
        if (strcmp(calls[i].name, name) == 0) {
            call_skip(r, &first);
            say(r, calls[i].text);
            return true;
        }
    if (strcmp(name, "version") == 0) {
        call_skip(r, &first);
        say_literal(r, "PostgreSQL " PG_SERVER_VERSION " (Weir " WEIR_VERSION ")");
    } else if (strcmp(name, "current_schema") == 0) {
        call_skip(r, &first);
        say(r, "'public'");
    } else if (strcmp(name, "current_database") == 0) {
        call_skip(r, &first);
        say_literal(r, r->pc->s.database);
    } else if (strcmp(name, "format_type") == 0) {
        call_skip(r, &first);
        r->uses |= USES_PG;
        say(r, "(SELECT weir_t.formatted FROM weir_types weir_t WHERE weir_t.oid = (");
        r->e = r->e ? r->e : buf_append_slice(r->out, first);
        say(r, "))");
    } else if (strcmp(name, "to_regtype") == 0) {
        call_skip(r, &first);
        r->uses |= USES_PG;
        say(r, "(SELECT weir_t.oid FROM weir_types weir_t WHERE weir_t.typname = (");
        r->e = r->e ? r->e : buf_append_slice(r->out, first);
        say(r, "))");
    } else if (strcmp(name, "quote_ident") == 0) {
        call_skip(r, &first);
        say(r, "(");
        r->e = r->e ? r->e : buf_append_slice(r->out, first);
        say(r, ")");
    } else if (strcmp(name, "current_setting") == 0) {
        struct lex_token arg;
        const char *v;

        call_skip(r, &first);
        arg = lex_next(&first);
        v = lex_string(&arg, value, sizeof value) ? session_get(&r->pc->s, value) : NULL;
        if (v)
            say_literal(r, v);
        else
            say(r, "NULL::VARCHAR");
    } else {
        r->in = rest;
        return false;
    }
    return true;
}

static void tokens_take(struct rewriting *r);

/* In PostgreSQL the alias of generate_series is its column's name, too. */
static void series_take(struct rewriting *r)
{
    static const char *const keywords[] = {"as",    "cross", "full",  "group", "having",
                                           "inner", "join",  "left",  "limit", "natural",
                                           "on",    "order", "right", "union", "where"};
    struct slice first, inside, rest;
    struct lex_token t;
    unsigned i;

    lex_next(&r->in);
    inside = r->in;
    call_skip(r, &first);
    rest = r->in;
    r->in = slice_of(inside.ptr, inside.len - rest.len);
    say(r, "generate_series(");
    tokens_take(r); /* the closing bracket, too */
    r->in = rest;
    t = peek(r);
    for (i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (lex_is(&t, keywords[i]))
            return;
    if (t.kind != LEX_WORD)
        return;
    lex_next(&r->in);
    r->e = r->e ? r->e
                : buf_printf(r->out, " %.*s(%.*s)", (int)t.text.len, (const char *)t.text.ptr,
                             (int)t.text.len, (const char *)t.text.ptr);
    r->changed = true;
}

/* Types that there are not, behind "::". False: it is another. */
static bool type_replace(struct rewriting *r, const char *name)
{
    static const char *const texts[] = {"regclass",     "regtype",     "regproc", "regprocedure",
                                        "regnamespace", "regrole",     "name",    "char",
                                        "int2vector",   "oidvector",   "aclitem", "xid",
                                        "cid",          "pg_node_tree"};
    char topic[WORD_MAX];
    struct slice word;
    struct lex_token t;
    unsigned i;

    if (strcmp(name, "regclass") == 0 && r->last_string) {
        word = slice_of(r->out->ptr + r->last, r->out->len - r->last);
        t = lex_next(&word);
        if (lex_string(&t, topic, sizeof topic)) {
            r->out->len = r->last;
            r->e = r->e ? r->e : buf_printf(r->out, " %u ", oid_of(topic));
            return true;
        }
    }
    for (i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(texts[i], name) == 0) {
            say(r, "::VARCHAR");
            return true;
        }
    if (strcmp(name, "oid") != 0)
        return false;
    say(r, "::BIGINT");
    return true;
}

/* Takes `schema .` that was looked at already. */
static void prefix_drop(struct rewriting *r)
{
    lex_next(&r->in);
    r->changed = true;
}

static bool is_schema(const struct rewriting *r, const char *name)
{
    struct lex_token next = peek(r);

    return !r->last_dot && lex_op(&next, '.') &&
           (strcmp(name, "pg_catalog") == 0 || strcmp(name, "public") == 0);
}

/* ::type, with or without a schema. */
static bool cast_take(struct rewriting *r)
{
    struct slice before = r->in;
    char name[WORD_MAX];
    struct lex_token t = lex_next(&r->in), dot = peek(r);

    if (lex_name(&t, name, sizeof name) && strcmp(name, "pg_catalog") == 0 && lex_op(&dot, '.')) {
        lex_next(&r->in);
        t = lex_next(&r->in);
        before = slice_of(t.text.ptr, r->in.len + t.text.len);
        r->changed = true;
    }
    if (lex_name(&t, name, sizeof name) && type_replace(r, name)) {
        r->changed = true;
        return true;
    }
    r->in = before;
    return false;
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
    for (t = lex_next(&r->in); t.kind != LEX_END && !lex_op(&t, ')'); t = lex_next(&r->in))
        if (t.kind == LEX_OTHER && !lex_op(&t, '.'))
            r->e = r->e ? r->e : buf_append_slice(r->out, t.text);
    return r->changed = true;
}

static void uses_note(struct rewriting *r, const char *name)
{
    if (strncmp(name, "pg_", 3) == 0)
        r->uses |= USES_PG | USES_CLASS;
    if (strcmp(name, "pg_attribute") == 0)
        r->uses |= USES_COLUMNS;
}

/* information_schema.tables and .columns are ours. */
static bool information_take(struct rewriting *r, const char *name)
{
    struct slice before = r->in;
    struct lex_token t = lex_next(&r->in), x = lex_next(&r->in);
    char what[WORD_MAX] = "";

    if (strcmp(name, "information_schema") == 0 && lex_op(&t, '.') &&
        lex_name(&x, what, sizeof what)) {
        if (strcmp(what, "tables") == 0)
            say(r, "weir_tables");
        else if (strcmp(what, "columns") == 0)
            say(r, "weir_columns");
        if (strcmp(what, "tables") == 0 || strcmp(what, "columns") == 0) {
            r->uses |= USES_PG | USES_CLASS | (what[0] == 'c' ? USES_COLUMNS : 0);
            return r->changed = true;
        }
    }
    r->in = before;
    return false;
}

static void token_take(struct rewriting *r)
{
    char name[WORD_MAX];
    struct lex_token t;

    if (r->t.kind == LEX_OTHER && r->t.text.len == 2 && cast_take(r))
        return;
    if (r->t.kind == LEX_WORD && oddity_take(r))
        return;
    if (lex_name(&r->t, name, sizeof name)) {
        if (is_schema(r, name)) {
            prefix_drop(r);
            return;
        }
        t = peek(r);
        if (strcmp(name, "generate_series") == 0 && lex_op(&t, '(')) {
            series_take(r);
            return;
        }
        if (!r->last_dot && (information_take(r, name) || call_replace(r, name))) {
            r->changed = true;
            return;
        }
        uses_note(r, name);
    }
    r->last = r->out->len;
    r->last_string = r->t.kind == LEX_STRING;
    r->last_dot = lex_op(&r->t, '.');
    r->e = r->e ? r->e : buf_append_slice(r->out, r->t.text);
}

/* The text between tokens stays, so that what is not changed reads as before. */
static void tokens_take(struct rewriting *r)
{
    const uint8_t *end = r->in.ptr;

    for (r->t = lex_next(&r->in); r->t.kind != LEX_END && !r->e; r->t = lex_next(&r->in)) {
        if (r->t.text.ptr > end)
            r->e = buf_append(r->out, end, (size_t)(r->t.text.ptr - end));
        token_take(r);
        end = r->in.ptr;
    }
}

/* ---- what is in front ---- */

static bool may_read(struct pconn *pc, const struct principal *who, const char *topic)
{
    const struct pgwire_conf *conf = &pc->p->conf;

    if (!pc->by_user)
        return auth_permits(who, AUTH_READ, slice_str(topic));
    return !conf->user_may_read || conf->user_may_read(conf->arg, pc->s.user, "", slice_str(topic));
}

/* Whether the statement has the topic's name or number as (part of) a literal. */
static bool is_named(struct slice sql, const char *topic)
{
    char number[16];

    snprintf(number, sizeof number, "%u", oid_of(topic));
    return memmem(sql.ptr, sql.len, topic, strlen(topic)) ||
           memmem(sql.ptr, sql.len, number, strlen(number));
}

/* fn for each topic that may be read. */
static void topics_each(struct rewriting *r,
                        void (*fn)(struct rewriting *r, const char *topic, unsigned i))
{
    struct broker *b = r->pc->p->conf.broker;
    const struct principal *who = NULL;
    char after[WORD_MAX] = "";
    struct topic *t[PAGE];
    unsigned seen = 0;
    size_t n, i;

    if (login_check(r->pc, &who, NULL))
        return;
    do {
        n = topic_list(b, slice_str(after), NULL, t, PAGE);
        for (i = 0; i < n; i++) {
            snprintf(after, sizeof after, "%s", topic_name(t[i]));
            if (seen < TOPICS_MAX && may_read(r->pc, who, after))
                fn(r, after, seen++);
            topic_unref(&t[i]);
        }
    } while (n == PAGE && seen < TOPICS_MAX);
}

static void topic_value(struct rewriting *r, const char *topic, unsigned i)
{
    r->e = r->e ? r->e : buf_printf(r->out, "%s(%u,", i ? "," : "", oid_of(topic));
    say_literal(r, topic);
    say(r, ")");
}

static void identifier(struct rewriting *r, const char *name)
{
    say(r, "\"");
    for (; *name && !r->e; name++) {
        if (*name == '"')
            say(r, "\"");
        r->e = r->e ? r->e : buf_append_u8(r->out, (uint8_t)*name);
    }
    say(r, "\"");
}

static void topic_columns(struct rewriting *r, const char *topic)
{
    r->e = r->e ? r->e
                : buf_printf(r->out,
                             " UNION ALL SELECT %u relid, row_number() OVER () num, column_name, "
                             "column_type FROM (DESCRIBE ",
                             oid_of(topic));
    identifier(r, topic);
    say(r, ")");
}

static void named_columns(struct rewriting *r, const char *topic, unsigned i)
{
    if (is_named(r->sql, topic)) {
        r->uses |= 1u << 31;
        topic_columns(r, topic);
    }
}

static void some_columns(struct rewriting *r, const char *topic, unsigned i)
{
    if (i < DESCRIBE_MAX)
        topic_columns(r, topic);
}

/* Types as pg_type_of numbers them; DECIMAL with its parts is numeric, lists are arrays. */
static const char types_text[] =
    "weir_types(oid,typname,formatted,typlen,typcategory,typarray,duck) AS (VALUES "
    "(16,'bool','boolean',1,'B',1000,'BOOLEAN'),(17,'bytea','bytea',-1,'U',1001,'BLOB'),"
    "(19,'name','name',64,'S',1003,'-'),(20,'int8','bigint',8,'N',1016,'BIGINT'),"
    "(21,'int2','smallint',2,'N',1005,'SMALLINT'),(23,'int4','integer',4,'N',1007,'INTEGER'),"
    "(25,'text','text',-1,'S',1009,'VARCHAR'),(26,'oid','oid',4,'N',1028,'-'),"
    "(114,'json','json',-1,'U',199,'JSON'),(700,'float4','real',4,'N',1021,'FLOAT'),"
    "(701,'float8','double precision',8,'N',1022,'DOUBLE'),"
    "(1043,'varchar','character varying',-1,'S',1015,'-'),(1082,'date','date',4,'D',1182,'DATE'),"
    "(1083,'time','time without time zone',8,'D',1183,'TIME'),"
    "(1114,'timestamp','timestamp without time zone',8,'D',1115,'TIMESTAMP'),"
    "(1184,'timestamptz','timestamp with time zone',8,'D',1185,'TIMESTAMP WITH TIME ZONE'),"
    "(1186,'interval','interval',16,'T',1187,'INTERVAL'),"
    "(1266,'timetz','time with time zone',12,'D',1270,'TIME WITH TIME ZONE'),"
    "(1700,'numeric','numeric',-1,'N',1231,'UBIGINT'),(2950,'uuid','uuid',16,'U',2951,'UUID'),"
    "(199,'_json','json[]',-1,'A',0,'-'),(1009,'_text','text[]',-1,'A',0,'VARCHAR[]'),"
    "(1016,'_int8','bigint[]',-1,'A',0,'BIGINT[]'),"
    "(1022,'_float8','double precision[]',-1,'A',0,'DOUBLE[]'))";

static const char tables_text[] =
    ",pg_class AS (SELECT oid,relname,2200 relnamespace,0 reltype,0 reloftype,10 relowner,0 relam,"
    "0 relfilenode,0 reltablespace,0 relpages,-1.0 reltuples,0 relallvisible,0 reltoastrelid,"
    "false relhasindex,false relisshared,'p' relpersistence,'r' relkind,0 relnatts,0 relchecks,"
    "false relhasrules,false relhastriggers,false relhassubclass,false relrowsecurity,"
    "false relforcerowsecurity,true relispopulated,'d' relreplident,false relispartition,"
    "NULL::VARCHAR[] relacl,NULL::VARCHAR[] reloptions,NULL::VARCHAR relpartbound FROM weir_list)"
    ",pg_tables AS (SELECT 'public' schemaname,relname tablename,'weir' tableowner,"
    "NULL::VARCHAR AS \"tablespace\",false hasindexes,false hasrules,false hastriggers,false "
    "rowsecurity "
    "FROM weir_list),pg_namespace(oid,nspname,nspowner,nspacl) AS (VALUES "
    "(11,'pg_catalog',10,NULL::VARCHAR[]),(2200,'public',10,NULL),"
    "(13000,'information_schema',10,NULL)),pg_type AS (SELECT oid,typname,11 typnamespace,"
    "10 typowner,typlen,false typbyval,'b' typtype,typcategory,false typispreferred,"
    "true typisdefined,',' typdelim,0 typrelid,0 typsubscript,coalesce((SELECT e.oid FROM "
    "weir_types "
    "e WHERE e.typarray = weir_types.oid),0) typelem,typarray,0 typbasetype,-1 typtypmod,"
    "0 typcollation,false typnotnull,0 typndims,NULL::VARCHAR typdefault,'array_in' typinput,"
    "'array_recv' typreceive,NULL::VARCHAR[] typacl FROM weir_types)"
    ",pg_roles(oid,rolname,rolsuper,rolinherit,rolcreaterole,rolcreatedb,rolcanlogin,"
    "rolreplication,rolconnlimit,rolvaliduntil,rolbypassrls) AS (VALUES (10,'weir',false,true,"
    "false,false,true,false,-1,NULL::TIMESTAMPTZ,false)),pg_user(usename,usesysid,usecreatedb,"
    "usesuper) AS (VALUES ('weir',10,false,false))"
    ",weir_tables AS (SELECT current_database() table_catalog,'public' table_schema,"
    "relname table_name,'BASE TABLE' table_type,'NO' is_insertable_into FROM weir_list)";

static const char columns_text[] =
    ",weir_typed AS (SELECT c.*,coalesce(CASE WHEN column_type LIKE 'DECIMAL%' AND column_type NOT "
    "LIKE '%]' THEN 1700 WHEN column_type LIKE 'STRUCT%]' THEN 199 WHEN column_type LIKE 'STRUCT%' "
    "OR column_type LIKE 'MAP%' THEN 114 END,t.oid,25) typid FROM weir_described c LEFT JOIN "
    "weir_types t ON t.duck = c.column_type)"
    ",pg_attribute AS (SELECT relid attrelid,column_name attname,typid atttypid,-1 attstattarget,"
    "t.typlen attlen,num attnum,0 attndims,-1 attcacheoff,-1 atttypmod,false attbyval,"
    "'x' attstorage,'' attcompression,'i' attalign,false attnotnull,false atthasdef,"
    "false atthasmissing,'' attidentity,'' attgenerated,false attisdropped,true attislocal,"
    "0 attinhcount,0 attcollation,NULL::VARCHAR[] attacl,NULL::VARCHAR[] attoptions,"
    "NULL::VARCHAR[] attfdwoptions FROM weir_typed JOIN weir_types t ON t.oid = typid)"
    ",weir_columns AS (SELECT current_database() table_catalog,'public' table_schema,"
    "l.relname table_name,column_name,num ordinal_position,NULL::VARCHAR column_default,"
    "'YES' is_nullable,t.formatted data_type,NULL::INTEGER character_maximum_length,"
    "NULL::INTEGER numeric_precision,NULL::INTEGER numeric_scale,NULL::INTEGER datetime_precision,"
    "t.typname udt_name,'pg_catalog' udt_schema,'NO' is_identity,'NEVER' is_generated,"
    "'NO' is_updatable FROM weir_typed JOIN weir_types t ON t.oid = typid JOIN weir_list l ON "
    "l.oid = relid)";

static void database_put(struct rewriting *r)
{
    say(r, ",pg_database(oid,datname,datdba,encoding,datcollate,datctype,datistemplate,"
           "datallowconn,datconnlimit,dattablespace,datacl,datlocprovider,daticulocale) AS (VALUES "
           "(5,");
    say_literal(r, r->pc->s.database);
    say(r, ",10,6,'C.UTF-8','C.UTF-8',false,true,-1,1663,NULL::VARCHAR[],'c',NULL::VARCHAR))");
}

/* The relations, as far as the statement needs them. */
static void prelude_put(struct rewriting *r)
{
    unsigned i;

    say(r, types_text);
    if (!(r->uses & (USES_CLASS | USES_COLUMNS)))
        return;
    say(r, ",weir_list(oid,relname) AS (SELECT * FROM (VALUES ");
    topics_each(r, topic_value);
    if (r->out->ptr[r->out->len - 1] == ' ')
        say(r, "(0,'')");
    say(r, ") WHERE col0 <> 0)");
    say(r, tables_text);
    database_put(r);
    for (i = 0; i < sizeof empties / sizeof *empties; i++)
        if (memmem(r->sql.ptr, r->sql.len, empties[i].name, strlen(empties[i].name)))
            r->e = r->e ? r->e
                        : buf_printf(r->out, ",%s AS (SELECT %s WHERE false)", empties[i].name,
                                     empties[i].select);
    if (!(r->uses & USES_COLUMNS))
        return;
    say(r, ",weir_described AS (SELECT 0 relid,0::BIGINT num,'' column_name,'' column_type WHERE "
           "false");
    topics_each(r, named_columns);
    if (!(r->uses & 1u << 31))
        topics_each(r, some_columns);
    say(r, ")");
    say(r, columns_text);
}

/* The statement's own WITH goes on behind ours. */
static void prelude_join(struct rewriting *r, struct buf *body)
{
    struct slice rest = buf_slice(body);
    struct lex_token t = lex_next(&rest), next;

    say(r, "WITH ");
    if (lex_is(&t, "with")) {
        struct slice after = rest;

        next = lex_next(&after);
        if (lex_is(&next, "recursive")) {
            say(r, "RECURSIVE ");
            rest = after;
        }
        prelude_put(r);
        say(r, ", ");
    } else {
        rest = buf_slice(body);
        prelude_put(r);
        say(r, " ");
    }
    r->e = r->e ? r->e : buf_append_slice(r->out, rest);
}

static bool is_select(struct slice sql)
{
    struct lex_token t = lex_next(&sql);

    return lex_is(&t, "select") || lex_is(&t, "with") || lex_is(&t, "from") ||
           lex_is(&t, "values") || lex_op(&t, '(');
}

enum err catalog_rewrite(struct pconn *pc, struct slice sql, struct buf *out, bool *changed)
{
    struct rewriting r = {.pc = pc, .sql = sql, .in = sql};
    struct buf body;

    buf_init(&body, out->max);
    r.out = &body;
    if (is_select(sql))
        tokens_take(&r);
    *changed = r.changed || r.uses;
    r.out = out;
    if (!r.e && r.uses)
        prelude_join(&r, &body);
    else if (!r.e)
        r.e = buf_append_slice(out, r.changed ? buf_slice(&body) : sql);
    buf_fini(&body);
    return r.e;
}
