/* What clients ask about the catalogue. Their statements are for PostgreSQL's own tables; here these
 * become common table expressions in front of the statement, made of the topics that may be read and
 * of DESCRIBE, and what SQL does not know is replaced token by token (catalog_tokens.c).
 *
 * A statement that mentions none of this goes on as it came. The number of a topic is a hash of its
 * name. Runs on the connection's loop, bounded by TOPICS_MAX. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/murmur2.h"
#include "proto/pgwire/catalog_int.h"

#define TOPICS_MAX   2000u /* that are listed */
#define DESCRIBE_MAX 200u  /* whose columns are, where the statement names none */
#define PAGE         64u

#define C_ CATALOG_PG | CATALOG_CLASS

/* Relations: SELECTs, over these of ours:
 *   weir_types    PostgreSQL's types          weir_list   topics          weir_names  their spellings
 *   weir_typed    their columns               weir_sizes  their bytes     weir_procs  functions
 * and without rows (uses 0) the columns alone. %d is the database. */
static const struct relation {
    const char *name;
    bool info; /* of information_schema */
    unsigned uses;
    const char *text;
} relations[] = {
    {"pg_attribute", false, C_ | CATALOG_COLUMNS,
     "SELECT relid attrelid,column_name attname,typid atttypid,-1 attstattarget,"
     "t.typlen attlen,num attnum,0 attndims,-1 attcacheoff,-1 atttypmod,false attbyval,"
     "'x' attstorage,'' attcompression,'i' attalign,false attnotnull,false atthasdef,"
     "false atthasmissing,'' attidentity,'' attgenerated,false attisdropped,true attislocal,"
     "0 attinhcount,0 attcollation,NULL::VARCHAR[] attacl,NULL::VARCHAR[] attoptions,"
     "NULL::VARCHAR[] attfdwoptions,NULL::VARCHAR[] attmissingval FROM weir_typed JOIN weir_types "
     "t "
     "ON t.oid = typid"},
    {"pg_authid", false, C_,
     "SELECT 10 oid,'weir' rolname,false rolsuper,true rolinherit,false rolcreaterole,"
     "false rolcreatedb,true rolcanlogin,false rolreplication,false rolbypassrls,-1 rolconnlimit,"
     "NULL::VARCHAR rolpassword,NULL::TIMESTAMPTZ rolvaliduntil"},
    {"pg_class", false, C_,
     "SELECT oid,1259 tableoid,relname,2200 relnamespace,0 reltype,0 reloftype,10 relowner,0 relam,"
     "0 relfilenode,0 reltablespace,0 relpages,-1.0 reltuples,0 relallvisible,0 reltoastrelid,"
     "false relhasindex,false relisshared,'p' relpersistence,'r' relkind,0 relnatts,0 relchecks,"
     "false relhasrules,false relhastriggers,false relhassubclass,false relrowsecurity,"
     "false relforcerowsecurity,true relispopulated,'d' relreplident,false relispartition,"
     "0 relrewrite,0 relfrozenxid,0 relminmxid,NULL::VARCHAR[] relacl,NULL::VARCHAR[] reloptions,"
     "NULL::VARCHAR relpartbound FROM weir_list"},
    {"pg_database", false, C_,
     "SELECT 5 oid,%d datname,10 datdba,6 AS encoding,'c' datlocprovider,false datistemplate,"
     "true datallowconn,-1 datconnlimit,0 datfrozenxid,0 datminmxid,1663 dattablespace,"
     "'C.UTF-8' datcollate,'C.UTF-8' datctype,NULL::VARCHAR daticulocale,NULL::VARCHAR "
     "datcollversion,NULL::VARCHAR[] datacl"},
    {"pg_namespace", false, C_,
     "SELECT * FROM (VALUES (11,'pg_catalog',10,NULL::VARCHAR[]),(2200,'public',10,NULL),"
     "(13000,'information_schema',10,NULL)) weir_v(oid,nspname,nspowner,nspacl)"},
    {"pg_proc", false, CATALOG_PG,
     "SELECT weir_oid oid,weir_name proname,11 pronamespace,10 proowner,12 prolang,1.0 procost,0.0 "
     "prorows,"
     "0 provariadic,'-' prosupport,'f' prokind,false prosecdef,false proleakproof,true proisstrict,"
     "false proretset,'i' provolatile,'s' proparallel,1 pronargs,0 pronargdefaults,2281 prorettype,"
     "[0] proargtypes,[0] proallargtypes,[''] proargmodes,[''] proargnames,'' proargdefaults,"
     "[0] protrftypes,weir_name prosrc,'' probin,'' prosqlbody,[''] proconfig,NULL::VARCHAR[] "
     "proacl "
     "FROM weir_procs"},
    {"pg_roles", false, C_,
     "SELECT 10 oid,'weir' rolname,false rolsuper,true rolinherit,false rolcreaterole,"
     "false rolcreatedb,true rolcanlogin,false rolreplication,-1 rolconnlimit,'********' "
     "rolpassword,NULL::TIMESTAMPTZ rolvaliduntil,false rolbypassrls,NULL::VARCHAR[] rolconfig"},
    {"pg_settings", false, CATALOG_PG | CATALOG_SETTINGS,
     "SELECT weir_setting \"name\",weir_value setting,NULL::VARCHAR unit,'' category,'' "
     "short_desc,NULL::VARCHAR "
     "extra_desc,"
     "'user' context,'string' vartype,'default' AS source,NULL::VARCHAR min_val,NULL::VARCHAR "
     "max_val,"
     "NULL::VARCHAR[] enumvals,weir_value boot_val,weir_value reset_val,NULL::VARCHAR sourcefile,"
     "NULL::INTEGER sourceline,false pending_restart FROM weir_settings"},
    {"pg_shadow", false, C_,
     "SELECT 'weir' usename,10 usesysid,false usecreatedb,false usesuper,false userepl,false "
     "usebypassrls,NULL::VARCHAR passwd,NULL::TIMESTAMPTZ valuntil,NULL::VARCHAR[] useconfig"},
#define STAT_TABLES(name)                                                                        \
    {                                                                                            \
        name, false, C_,                                                                         \
            "SELECT l.oid relid,'public' schemaname,l.relname,0 seq_scan,0 seq_tup_read,0 "      \
            "idx_scan,0 idx_tup_fetch,0 n_tup_ins,0 n_tup_upd,0 n_tup_del,0 n_tup_hot_upd,"      \
            "coalesce(b.records,0) n_live_tup,0 n_dead_tup,0 n_mod_since_analyze,"               \
            "NULL::TIMESTAMPTZ last_vacuum,NULL::TIMESTAMPTZ last_autovacuum,NULL::TIMESTAMPTZ " \
            "last_analyze,NULL::TIMESTAMPTZ last_autoanalyze,0 vacuum_count,0 autovacuum_count," \
            "0 analyze_count,0 autoanalyze_count FROM weir_list l LEFT JOIN weir.topics b ON "   \
            "b.topic = l.relname"                                                                \
    }
    STAT_TABLES("pg_stat_all_tables"),
    STAT_TABLES("pg_stat_user_tables"),
    {"pg_tables", false, C_,
     "SELECT 'public' schemaname,relname tablename,'weir' tableowner,NULL::VARCHAR AS "
     "\"tablespace\",false hasindexes,false hasrules,false hastriggers,false rowsecurity FROM "
     "weir_list"},
    {"pg_type", false, CATALOG_PG,
     "SELECT oid,1247 tableoid,typname,11 typnamespace,10 typowner,typlen,false typbyval,'b' "
     "typtype,typcategory,false typispreferred,true typisdefined,',' typdelim,0 typrelid,0 "
     "typsubscript,typelem,typarray,CASE typcategory WHEN 'A' THEN 750 ELSE 0 END typinput,"
     "CASE typcategory WHEN 'A' THEN 751 ELSE 0 END typoutput,CASE typcategory WHEN 'A' THEN 2400 "
     "ELSE 0 END typreceive,CASE typcategory WHEN 'A' THEN 2401 ELSE 0 END typsend,0 typmodin,"
     "0 typmodout,0 typanalyze,'i' typalign,'p' typstorage,false typnotnull,0 typbasetype,-1 "
     "typtypmod,0 typndims,0 typcollation,NULL::VARCHAR typdefaultbin,NULL::VARCHAR typdefault,"
     "NULL::VARCHAR[] typacl FROM weir_types"},
    {"pg_user", false, C_,
     "SELECT 'weir' usename,10 usesysid,false usecreatedb,false usesuper,false userepl,false "
     "usebypassrls,'********' passwd,NULL::TIMESTAMPTZ valuntil,NULL::VARCHAR[] useconfig"},
    {"columns", true, C_ | CATALOG_COLUMNS,
     "SELECT %d table_catalog,'public' table_schema,l.relname table_name,column_name,"
     "num::INTEGER ordinal_position,NULL::VARCHAR column_default,'YES' is_nullable,"
     "CASE t.typcategory WHEN 'A' THEN 'ARRAY' ELSE t.formatted END data_type,"
     "NULL::INTEGER character_maximum_length,NULL::INTEGER character_octet_length,"
     "CASE t.typname WHEN 'int2' THEN 16 WHEN 'int4' THEN 32 WHEN 'int8' THEN 64 WHEN 'float4' "
     "THEN 24 WHEN 'float8' THEN 53 END numeric_precision,CASE WHEN t.typname IN ('int2','int4',"
     "'int8','float4','float8') THEN 2 WHEN t.typname = 'numeric' THEN 10 END "
     "numeric_precision_radix,CASE WHEN t.typname IN ('int2','int4','int8') THEN 0 END "
     "numeric_scale,CASE t.typname WHEN 'date' THEN 0 WHEN 'timestamptz' THEN 6 WHEN 'timestamp' "
     "THEN 6 WHEN 'time' THEN 6 END datetime_precision,NULL::VARCHAR interval_type,"
     "NULL::INTEGER interval_precision,NULL::VARCHAR character_set_catalog,NULL::VARCHAR "
     "character_set_schema,NULL::VARCHAR character_set_name,NULL::VARCHAR collation_catalog,"
     "NULL::VARCHAR collation_schema,NULL::VARCHAR collation_name,NULL::VARCHAR domain_catalog,"
     "NULL::VARCHAR domain_schema,NULL::VARCHAR domain_name,%d udt_catalog,'pg_catalog' udt_schema,"
     "t.typname udt_name,NULL::VARCHAR scope_catalog,NULL::VARCHAR scope_schema,NULL::VARCHAR "
     "scope_name,NULL::INTEGER maximum_cardinality,num::VARCHAR dtd_identifier,'NO' "
     "is_self_referencing,'NO' is_identity,NULL::VARCHAR identity_generation,NULL::VARCHAR "
     "identity_start,NULL::VARCHAR identity_increment,NULL::VARCHAR identity_maximum,NULL::VARCHAR "
     "identity_minimum,'NO' identity_cycle,'NEVER' is_generated,NULL::VARCHAR "
     "generation_expression,'NO' is_updatable FROM weir_typed JOIN weir_types t ON t.oid = typid "
     "JOIN weir_list l ON l.oid = relid"},
    {"information_schema_catalog_name", true, CATALOG_PG, "SELECT %d catalog_name"},
    {"schemata", true, CATALOG_PG,
     "SELECT %d catalog_name,schema_name,'weir' schema_owner,NULL::VARCHAR "
     "default_character_set_catalog,NULL::VARCHAR default_character_set_schema,NULL::VARCHAR "
     "default_character_set_name,NULL::VARCHAR sql_path FROM (VALUES ('information_schema'),"
     "('pg_catalog'),('public')) weir_v(schema_name)"},
    {"table_privileges", true, C_,
     "SELECT 'weir' grantor,'weir' grantee,%d table_catalog,'public' table_schema,relname "
     "table_name,'SELECT' privilege_type,'NO' is_grantable,'YES' with_hierarchy FROM weir_list"},
    {"tables", true, C_,
     "SELECT %d table_catalog,'public' table_schema,relname table_name,'BASE TABLE' table_type,"
     "NULL::VARCHAR self_referencing_column_name,NULL::VARCHAR reference_generation,NULL::VARCHAR "
     "user_defined_type_catalog,NULL::VARCHAR user_defined_type_schema,NULL::VARCHAR "
     "user_defined_type_name,'NO' is_insertable_into,'NO' is_typed,NULL::VARCHAR commit_action "
     "FROM "
     "weir_list"},
#define CATALOG_EMPTY(name, columns) {name, false, 0, columns},
#define CATALOG_INFO(name, columns)  {name, true, 0, columns},
#include "proto/pgwire/tbl/catalog.h"
};
#define RELATIONS (sizeof relations / sizeof *relations)
_Static_assert(RELATIONS <= CATALOG_RELATIONS_MAX, "catalog_int.h");

uint32_t catalog_oid(const char *topic)
{
    return 0x40000000u | (murmur2(topic, strlen(topic)) & 0x3fffffffu);
}

void catalog_say(struct rewriting *r, const char *text)
{
    if (!r->e)
        r->e = buf_append_str(r->out, text);
}

void catalog_say_literal(struct rewriting *r, const char *text)
{
    catalog_say(r, "'");
    for (; *text && !r->e; text++) {
        if (*text == '\'')
            catalog_say(r, "'");
        r->e = r->e ? r->e : buf_append_u8(r->out, (uint8_t)*text);
    }
    catalog_say(r, "'");
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

    snprintf(number, sizeof number, "%u", catalog_oid(topic));
    return memmem(sql.ptr, sql.len, topic, strlen(topic)) ||
           memmem(sql.ptr, sql.len, number, strlen(number));
}

/* fn for each topic that may be read. */
static void topics_each(struct rewriting *r,
                        void (*fn)(struct rewriting *r, const char *topic, unsigned i))
{
    struct broker *b = r->pc->p->conf.broker;
    const struct principal *who = NULL;
    char after[CATALOG_WORD_MAX] = "";
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
    r->e = r->e ? r->e : buf_printf(r->out, "%s(%u,", i ? "," : "", catalog_oid(topic));
    catalog_say_literal(r, topic);
    catalog_say(r, ")");
}

static void identifier(struct rewriting *r, const char *name)
{
    catalog_say(r, "\"");
    for (; *name && !r->e; name++) {
        if (*name == '"')
            catalog_say(r, "\"");
        r->e = r->e ? r->e : buf_append_u8(r->out, (uint8_t)*name);
    }
    catalog_say(r, "\"");
}

static void topic_columns(struct rewriting *r, const char *topic)
{
    r->e = r->e ? r->e
                : buf_printf(r->out,
                             " UNION ALL SELECT %u relid, row_number() OVER () num, column_name, "
                             "column_type FROM (DESCRIBE ",
                             catalog_oid(topic));
    identifier(r, topic);
    catalog_say(r, ")");
}

static void named_columns(struct rewriting *r, const char *topic, unsigned i)
{
    if (is_named(r->sql, topic)) {
        r->uses |= CATALOG_ONE;
        topic_columns(r, topic);
    }
}

static void some_columns(struct rewriting *r, const char *topic, unsigned i)
{
    if (i < DESCRIBE_MAX)
        topic_columns(r, topic);
}

/* Types as pg_type_of numbers them, and arrays of them. */
static const char types_text[] =
    "weir_base(oid,typname,formatted,typlen,typcategory,typarray,duck) AS (VALUES "
    "(16,'bool','boolean',1,'B',1000,'BOOLEAN'),(17,'bytea','bytea',-1,'U',1001,'BLOB'),"
    "(18,'char','\"char\"',1,'Z',1002,'-'),"
    "(19,'name','name',64,'S',1003,'-'),(20,'int8','bigint',8,'N',1016,'BIGINT'),"
    "(21,'int2','smallint',2,'N',1005,'SMALLINT'),(23,'int4','integer',4,'N',1007,'INTEGER'),"
    "(25,'text','text',-1,'S',1009,'VARCHAR'),(26,'oid','oid',4,'N',1028,'-'),"
    "(114,'json','json',-1,'U',199,'JSON'),(700,'float4','real',4,'N',1021,'FLOAT'),"
    "(701,'float8','double precision',8,'N',1022,'DOUBLE'),(705,'unknown','unknown',-2,'X',0,'-'),"
    "(1042,'bpchar','character',-1,'S',1014,'-'),"
    "(1043,'varchar','character varying',-1,'S',1015,'-'),(1082,'date','date',4,'D',1182,'DATE'),"
    "(1083,'time','time without time zone',8,'D',1183,'TIME'),"
    "(1114,'timestamp','timestamp without time zone',8,'D',1115,'TIMESTAMP'),"
    "(1184,'timestamptz','timestamp with time zone',8,'D',1185,'TIMESTAMP WITH TIME ZONE'),"
    "(1186,'interval','interval',16,'T',1187,'INTERVAL'),"
    "(1266,'timetz','time with time zone',12,'D',1270,'TIME WITH TIME ZONE'),"
    "(1700,'numeric','numeric',-1,'N',1231,'UBIGINT'),(2950,'uuid','uuid',16,'U',2951,'UUID'),"
    "(3802,'jsonb','jsonb',-1,'U',3807,'-'))"
    ",weir_types AS (SELECT oid::UINTEGER oid,typname,formatted,typlen::SMALLINT "
    "typlen,typcategory,"
    "typarray::UINTEGER typarray,duck,0::UINTEGER typelem FROM weir_base UNION ALL SELECT "
    "typarray::UINTEGER,'_' || typname,formatted || '[]',-1,'A',0,duck || '[]',oid::UINTEGER FROM "
    "weir_base WHERE typarray <> 0)"
    ",weir_formats(weir_oid,weir_type,weir_format) AS (SELECT oid,typname,formatted FROM "
    "weir_types)"
    ",weir_procs(weir_name,weir_oid) AS (VALUES "
#define CATALOG_PROC(name, oid) "('" name "'," #oid "),"
#include "proto/pgwire/tbl/catalog.h"
    "('-',0))";

/* Columns with the numbers of their types, as pg_type_of gives them. */
static const char columns_text[] =
    ",weir_duck(duck,oid) AS (VALUES ('TINYINT',21),('UTINYINT',21),('USMALLINT',23),"
    "('UINTEGER',26),('HUGEINT',1700),('UHUGEINT',1700),('BIGNUM',1700),('TIMESTAMP_S',1114),"
    "('TIMESTAMP_MS',1114),('TIMESTAMP_NS',1114),('TIME_NS',1083))"
    ",weir_typed AS (SELECT c.*,coalesce(CASE WHEN column_type LIKE 'DECIMAL%%' THEN CASE WHEN "
    "column_type LIKE '%%]' THEN 1231 ELSE 1700 END WHEN column_type LIKE 'STRUCT%%]' OR "
    "column_type LIKE 'MAP%%]' THEN 199 WHEN column_type LIKE 'STRUCT%%' OR column_type LIKE "
    "'MAP%%' OR column_type LIKE 'UNION%%' THEN 114 END,t.oid,d.oid,25)::UINTEGER typid FROM "
    "weir_described "
    "c "
    "LEFT JOIN weir_types t ON t.duck = c.column_type LEFT JOIN weir_duck d ON d.duck = "
    "c.column_type)";

/* text, with the database's name for %d, and % for %%. */
static void filled_put(struct rewriting *r, const char *text)
{
    const char *at;

    for (at = strchr(text, '%'); at && !r->e; text = at + 2, at = strchr(text, '%')) {
        r->e = buf_append(r->out, text, (size_t)(at - text));
        if (at[1] == 'd')
            catalog_say_literal(r, r->pc->s.database);
        else
            catalog_say(r, "%");
    }
    catalog_say(r, text);
}

static void setting_row(void *arg, const char *name, const char *value)
{
    struct rewriting *r = arg;

    catalog_say(r, r->out->ptr[r->out->len - 1] == ')' ? ",(" : "(");
    catalog_say_literal(r, name);
    catalog_say(r, ",");
    catalog_say_literal(r, value);
    catalog_say(r, ")");
}

bool catalog_mention(struct rewriting *r, const char *name, bool info)
{
    size_t i;

    for (i = 0; i < RELATIONS; i++)
        if (relations[i].info == info && strcmp(relations[i].name, name) == 0) {
            r->mentioned[i / 64] |= 1ull << i % 64;
            r->uses |= CATALOG_PG | relations[i].uses;
            return true;
        }
    return false;
}

static void columns_put(struct rewriting *r)
{
    catalog_say(r, ",weir_described AS (SELECT 0 relid,0::BIGINT num,'' column_name,'' column_type "
                   "WHERE false");
    topics_each(r, named_columns);
    if (!(r->uses & CATALOG_ONE))
        topics_each(r, some_columns);
    catalog_say(r, ")");
    filled_put(r, columns_text);
}

/* Those parameters of the statement that what was made of it does not have any more: they must be
 * given all the same. How many; r: as a relation that nobody asks, all but its end. */
static unsigned params_lost(struct slice sql, struct slice body, struct rewriting *r)
{
    unsigned n = lex_params(sql), i, lost = 0;
    uint8_t *seen = xcalloc(n + 1u, 1);
    struct lex_token t;

    for (t = lex_next(&body); t.kind != LEX_END; t = lex_next(&body)) {
        unsigned long k = t.kind == LEX_PARAM ? strtoul((const char *)t.text.ptr + 1, NULL, 10) : 0;

        if (k <= n)
            seen[k] = 1;
    }
    for (i = 1; i <= n; i++) {
        if (seen[i])
            continue;
        if (r && !r->e)
            r->e = buf_printf(r->out, "%s$%u::VARCHAR", lost ? "," : ",weir_params AS (SELECT ", i);
        lost++;
    }
    free(seen);
    return lost;
}

/* The relations, as far as the statement needs them. */
static void prelude_put(struct rewriting *r, struct slice body)
{
    size_t i;

    catalog_say(r, types_text);
    if (r->uses & CATALOG_CLASS) {
        catalog_say(r, ",weir_list(oid,relname) AS (SELECT col0::UINTEGER,col1 FROM (VALUES ");
        topics_each(r, topic_value);
        if (r->out->ptr[r->out->len - 1] == ' ')
            catalog_say(r, "(0,'')");
        catalog_say(r, ") WHERE col0 <> 0)");
    }
    if (r->uses & CATALOG_NAMED)
        catalog_say(r, ",weir_names(weir_oid,weir_rel,weir_name) AS (SELECT "
                       "oid,relname,unnest([relname,'\"' || relname || '\"',"
                       "'public.' || relname,'public.\"' || relname || '\"','\"public\".\"' || "
                       "relname || '\"',oid::VARCHAR]) AS name FROM weir_list)");
    if (r->uses & CATALOG_SIZES)
        catalog_say(r, ",weir_sizes(weir_name,weir_bytes) AS (SELECT n.weir_name,b.bytes FROM "
                       "weir_names n JOIN weir.topics b "
                       "ON b.topic = n.weir_rel)");
    if (r->uses & CATALOG_SETTINGS) {
        catalog_say(r, ",weir_settings(weir_setting,weir_value) AS (VALUES ");
        session_each(&r->pc->s, setting_row, r);
        catalog_say(r, ")");
    }
    if (r->uses & CATALOG_COLUMNS)
        columns_put(r);
    for (i = 0; i < RELATIONS; i++) {
        if (!(r->mentioned[i / 64] & 1ull << i % 64))
            continue;
        r->e = r->e ? r->e : buf_printf(r->out, ",\"%s\" AS (", relations[i].name);
        if (!relations[i].uses)
            catalog_say(r, "SELECT ");
        filled_put(r, relations[i].text);
        catalog_say(r, relations[i].uses ? ")" : " WHERE false)");
    }
    if (params_lost(r->sql, body, r))
        catalog_say(r, ")");
}

/* The statement's own WITH goes on behind ours. */
static void prelude_join(struct rewriting *r, struct buf *body)
{
    struct slice rest = buf_slice(body);
    struct lex_token t = lex_next(&rest), next;

    catalog_say(r, "WITH ");
    if (lex_is(&t, "with")) {
        struct slice after = rest;

        next = lex_next(&after);
        if (lex_is(&next, "recursive")) {
            catalog_say(r, "RECURSIVE ");
            rest = after;
        }
        prelude_put(r, buf_slice(body));
        catalog_say(r, ", ");
    } else {
        rest = buf_slice(body);
        prelude_put(r, buf_slice(body));
        catalog_say(r, " ");
    }
    r->e = r->e ? r->e : buf_append_slice(r->out, rest);
}

static bool is_select(struct slice sql)
{
    struct lex_token t = lex_next(&sql);

    return lex_is(&t, "select") || lex_is(&t, "with") || lex_is(&t, "from") ||
           lex_is(&t, "values") || lex_op(&t, '(');
}

static bool has_word(struct slice sql, const char *word)
{
    size_t n = strlen(word), i;

    for (i = 0; i + n <= sql.len; i++)
        if (strncasecmp((const char *)sql.ptr + i, word, n) == 0)
            return true;
    return false;
}

enum err catalog_rewrite(struct pconn *pc, const struct pstatement *st, struct slice sql,
                         struct buf *out, bool *changed)
{
    struct rewriting r = {.pc = pc, .sql = sql, .in = sql, .oids = st->oids, .oids_n = st->oids_n};
    struct buf body;

    buf_init(&body, out->max);
    r.out = &body;
    r.catalogue = has_word(sql, "pg_") || has_word(sql, "information_schema");
    if (is_select(sql))
        catalog_tokens(&r);
    if (r.changed)
        r.uses |= params_lost(sql, buf_slice(&body), NULL) ? CATALOG_PG : 0;
    *changed = r.changed || r.uses;
    r.out = out;
    if (!r.e && r.uses)
        prelude_join(&r, &body);
    else if (!r.e)
        r.e = buf_append_slice(out, r.changed ? buf_slice(&body) : sql);
    buf_fini(&body);
    return r.e;
}
