/* Results: DuckDB's types and chunks as those of value.h, and as Arrow's. A chunk's vectors are
 * views of DuckDB's, which result chunks have flat. */
#include <stdlib.h>

#include "base/mem.h"
#include "sql/duckdb_int.h"

#define TYPES_MAX (64u << 20) /* bytes of a result's types: ENUMs have their words here */

_Static_assert(sizeof(struct sql_string) == sizeof(duckdb_string_t), "one layout");
_Static_assert(sizeof(struct sql_hugeint) == sizeof(duckdb_hugeint), "one layout");
_Static_assert(sizeof(struct sql_interval) == sizeof(duckdb_interval), "one layout");
_Static_assert(sizeof(struct sql_list_entry) == sizeof(duckdb_list_entry), "one layout");

/* ---- types ---- */

static const struct {
    duckdb_type from;
    enum sql_type to;
} plain_type[] = {
    {DUCKDB_TYPE_SQLNULL, SQL_NULL},
    {DUCKDB_TYPE_BOOLEAN, SQL_BOOLEAN},
    {DUCKDB_TYPE_TINYINT, SQL_TINYINT},
    {DUCKDB_TYPE_SMALLINT, SQL_SMALLINT},
    {DUCKDB_TYPE_INTEGER, SQL_INTEGER},
    {DUCKDB_TYPE_BIGINT, SQL_BIGINT},
    {DUCKDB_TYPE_HUGEINT, SQL_HUGEINT},
    {DUCKDB_TYPE_UTINYINT, SQL_UTINYINT},
    {DUCKDB_TYPE_USMALLINT, SQL_USMALLINT},
    {DUCKDB_TYPE_UINTEGER, SQL_UINTEGER},
    {DUCKDB_TYPE_UBIGINT, SQL_UBIGINT},
    {DUCKDB_TYPE_UHUGEINT, SQL_UHUGEINT},
    {DUCKDB_TYPE_FLOAT, SQL_FLOAT},
    {DUCKDB_TYPE_DOUBLE, SQL_DOUBLE},
    {DUCKDB_TYPE_DECIMAL, SQL_DECIMAL},
    {DUCKDB_TYPE_VARCHAR, SQL_VARCHAR},
    {DUCKDB_TYPE_BLOB, SQL_BLOB},
    {DUCKDB_TYPE_BIT, SQL_BIT},
    {DUCKDB_TYPE_BIGNUM, SQL_BIGNUM},
    {DUCKDB_TYPE_DATE, SQL_DATE},
    {DUCKDB_TYPE_TIME, SQL_TIME},
    {DUCKDB_TYPE_TIME_NS, SQL_TIME_NS},
    {DUCKDB_TYPE_TIME_TZ, SQL_TIME_TZ},
    {DUCKDB_TYPE_TIMESTAMP, SQL_TIMESTAMP},
    {DUCKDB_TYPE_TIMESTAMP_S, SQL_TIMESTAMP_S},
    {DUCKDB_TYPE_TIMESTAMP_MS, SQL_TIMESTAMP_MS},
    {DUCKDB_TYPE_TIMESTAMP_NS, SQL_TIMESTAMP_NS},
    {DUCKDB_TYPE_TIMESTAMP_TZ, SQL_TIMESTAMP_TZ},
    {DUCKDB_TYPE_INTERVAL, SQL_INTERVAL},
    {DUCKDB_TYPE_UUID, SQL_UUID},
    {DUCKDB_TYPE_ENUM, SQL_ENUM},
    {DUCKDB_TYPE_LIST, SQL_LIST},
    {DUCKDB_TYPE_ARRAY, SQL_ARRAY},
    {DUCKDB_TYPE_MAP, SQL_MAP},
    {DUCKDB_TYPE_STRUCT, SQL_STRUCT},
    {DUCKDB_TYPE_UNION, SQL_UNION},
};

static const char *arena_name(struct arena *a, char *from)
{
    const char *s = arena_str(a, slice_str(from));

    ddb.free(from);
    return s ? s : "";
}

static bool type_fill(struct arena *a, duckdb_logical_type t, struct sql_column_type *out);

/* n children: type(i) gives each, name(i) its name (may be NULL). */
static bool children_fill(struct arena *a, duckdb_logical_type t, struct sql_column_type *out,
                          idx_t n, duckdb_logical_type (*type)(duckdb_logical_type, idx_t),
                          char *(*name)(duckdb_logical_type, idx_t))
{
    struct sql_column_type *child = arena_zalloc(a, n, sizeof *child);
    const char **names = arena_zalloc(a, n, sizeof *names);
    idx_t i;
    bool ok = child && names;

    for (i = 0; ok && i < n; i++) {
        duckdb_logical_type ct = type(t, i);

        names[i] = name ? arena_name(a, name(t, i)) : "";
        ok = type_fill(a, ct, &child[i]);
        ddb.destroy_logical_type(&ct);
    }
    out->child = child;
    out->child_name = name ? names : NULL;
    out->child_n = (uint32_t)n;
    return ok;
}

static duckdb_logical_type list_child(duckdb_logical_type t, idx_t i)
{
    return ddb.list_type_child_type(t);
}

static duckdb_logical_type array_child(duckdb_logical_type t, idx_t i)
{
    return ddb.array_type_child_type(t);
}

static duckdb_logical_type map_part(duckdb_logical_type t, idx_t i)
{
    return i ? ddb.map_type_value_type(t) : ddb.map_type_key_type(t);
}

static duckdb_logical_type struct_child(duckdb_logical_type t, idx_t i)
{
    return ddb.struct_type_child_type(t, i);
}

static char *struct_name(duckdb_logical_type t, idx_t i)
{
    return ddb.struct_type_child_name(t, i);
}

static bool map_fill(struct arena *a, duckdb_logical_type t, struct sql_column_type *out)
{
    static const char *const names[] = {"key", "value"};
    struct sql_column_type *entry = arena_zalloc(a, 1, sizeof *entry);

    if (!entry || !children_fill(a, t, entry, 2, map_part, NULL))
        return false;
    entry->type = SQL_STRUCT;
    entry->child_name = names;
    out->child = entry;
    out->child_n = 1;
    return true;
}

static bool union_fill(struct arena *a, duckdb_logical_type t, struct sql_column_type *out)
{
    idx_t i, n = ddb.union_type_member_count(t);
    struct sql_column_type *child = arena_zalloc(a, n + 1, sizeof *child);
    const char **names = arena_zalloc(a, n + 1, sizeof *names);
    bool ok = child && names;

    if (ok) {
        child[0].type = SQL_UTINYINT;
        names[0] = "";
    }
    for (i = 0; ok && i < n; i++) {
        duckdb_logical_type ct = ddb.union_type_member_type(t, i);

        names[i + 1] = arena_name(a, ddb.union_type_member_name(t, i));
        ok = type_fill(a, ct, &child[i + 1]);
        ddb.destroy_logical_type(&ct);
    }
    out->child = child;
    out->child_name = names;
    out->child_n = (uint32_t)n + 1;
    return ok;
}

static bool enum_fill(struct arena *a, duckdb_logical_type t, struct sql_column_type *out)
{
    uint32_t i, n = ddb.enum_dictionary_size(t);
    const char **words = arena_zalloc(a, n, sizeof *words);

    for (i = 0; words && i < n; i++)
        words[i] = arena_name(a, ddb.enum_dictionary_value(t, i));
    out->words = words;
    out->words_n = n;
    switch (ddb.enum_internal_type(t)) {
    case DUCKDB_TYPE_UTINYINT:
        out->enum_bytes = 1;
        break;
    case DUCKDB_TYPE_USMALLINT:
        out->enum_bytes = 2;
        break;
    default:
        out->enum_bytes = 4;
    }
    return words != NULL;
}

static bool is_json(duckdb_logical_type t)
{
    char *alias = ddb.logical_type_get_alias(t);
    bool yes = alias && !strcmp(alias, "JSON");

    if (alias)
        ddb.free(alias);
    return yes;
}

static bool type_fill(struct arena *a, duckdb_logical_type t, struct sql_column_type *out)
{
    duckdb_type id = ddb.get_type_id(t);
    size_t i;

    memset(out, 0, sizeof *out);
    for (i = 0; i < sizeof plain_type / sizeof *plain_type; i++)
        if (plain_type[i].from == id)
            break;
    out->type = i < sizeof plain_type / sizeof *plain_type ? plain_type[i].to : SQL_NULL;
    switch (id) {
    case DUCKDB_TYPE_DECIMAL:
        out->width = ddb.decimal_width(t);
        out->scale = ddb.decimal_scale(t);
        return true;
    case DUCKDB_TYPE_VARCHAR:
        out->type = is_json(t) ? SQL_JSON : SQL_VARCHAR;
        return true;
    case DUCKDB_TYPE_ENUM:
        return enum_fill(a, t, out);
    case DUCKDB_TYPE_LIST:
        return children_fill(a, t, out, 1, list_child, NULL);
    case DUCKDB_TYPE_ARRAY:
        out->array_size = ddb.array_type_array_size(t);
        return children_fill(a, t, out, 1, array_child, NULL);
    case DUCKDB_TYPE_MAP:
        return map_fill(a, t, out);
    case DUCKDB_TYPE_STRUCT:
        return children_fill(a, t, out, ddb.struct_type_child_count(t), struct_child, struct_name);
    case DUCKDB_TYPE_UNION:
        return union_fill(a, t, out);
    default:
        return true;
    }
}

/* Vectors that a type has, itself included. */
static uint32_t type_vectors(const struct sql_column_type *t)
{
    uint32_t i, n = 1;

    for (i = 0; i < t->child_n; i++)
        n += type_vectors(&t->child[i]);
    return n;
}

enum err result_init(struct result *r, duckdb_connection c, idx_t n, column_name_fn name,
                     column_type_fn type, void *of, struct errinfo *info)
{
    struct sql_column_type *t;
    const char **names;
    uint32_t vectors = 0;
    bool ok;
    idx_t i;

    memset(r, 0, sizeof *r);
    arena_init(&r->arena, 4096, TYPES_MAX);
    r->connection = c;
    r->types = xcalloc(n + 1, sizeof *r->types);
    r->columns.n = (uint32_t)n;
    t = arena_zalloc(&r->arena, n + 1, sizeof *t);
    names = arena_zalloc(&r->arena, n + 1, sizeof *names);
    ok = t && names;
    for (i = 0; ok && i < n; i++) {
        const char *s = name(of, i);

        names[i] = arena_str(&r->arena, slice_str(s ? s : ""));
        r->types[i] = type(of, i);
        ok = names[i] && type_fill(&r->arena, r->types[i], &t[i]);
        vectors += ok ? type_vectors(&t[i]) : 0;
    }
    if (!ok) {
        result_fini(r);
        return errinfo_set(info, ERR_TOO_LARGE, "the result's types take too much memory");
    }
    r->columns.name = names;
    r->columns.type = t;
    r->vectors = xcalloc(vectors + 1u, sizeof *r->vectors);
    r->vectors_n = vectors;
    return ERR_OK;
}

void result_fini(struct result *r)
{
    uint32_t i;

    for (i = 0; r->types && i < r->columns.n; i++)
        if (r->types[i])
            ddb.destroy_logical_type(&r->types[i]);
    if (r->arrow)
        ddb.destroy_arrow_options(&r->arrow);
    free(r->types);
    free(r->vectors);
    arena_fini(&r->arena);
    memset(r, 0, sizeof *r);
}

/* ---- chunks ---- */

static void vector_view(duckdb_vector from, const struct sql_column_type *t, uint64_t rows,
                        struct sql_vector *out, struct sql_vector **room)
{
    struct sql_vector *child = *room;
    uint32_t i;

    *out = (struct sql_vector){.type = t,
                               .data = ddb.vector_get_data(from),
                               .valid = ddb.vector_get_validity(from),
                               .rows = rows,
                               .child = child};
    *room += t->child_n;
    switch (t->type) {
    case SQL_LIST:
    case SQL_MAP:
        vector_view(ddb.list_vector_get_child(from), &t->child[0], ddb.list_vector_get_size(from),
                    &child[0], room);
        break;
    case SQL_ARRAY:
        vector_view(ddb.array_vector_get_child(from), &t->child[0], rows * t->array_size, &child[0],
                    room);
        break;
    case SQL_STRUCT:
    case SQL_UNION:
        for (i = 0; i < t->child_n; i++)
            vector_view(ddb.struct_vector_get_child(from, i), &t->child[i], rows, &child[i], room);
        break;
    default:
        break;
    }
}

void result_chunk(struct result *r, duckdb_data_chunk chunk, struct sql_chunk *out)
{
    struct sql_vector *room = r->vectors + r->columns.n;
    uint64_t rows = ddb.data_chunk_get_size(chunk);
    uint32_t i;

    for (i = 0; i < r->columns.n; i++)
        vector_view(ddb.data_chunk_get_vector(chunk, i), &r->columns.type[i], rows, &r->vectors[i],
                    &room);
    ASSERT(room <= r->vectors + r->vectors_n);
    r->chunk = chunk;
    *out = (struct sql_chunk){
        .rows = (uint32_t)rows, .columns_n = r->columns.n, .column = r->vectors, .private = chunk};
}

static uint64_t vector_bytes(const struct sql_vector *v)
{
    static const uint8_t width[] = {
        [SQL_NULL] = 0,         [SQL_BOOLEAN] = 1,      [SQL_TINYINT] = 1,
        [SQL_SMALLINT] = 2,     [SQL_INTEGER] = 4,      [SQL_BIGINT] = 8,
        [SQL_HUGEINT] = 16,     [SQL_UTINYINT] = 1,     [SQL_USMALLINT] = 2,
        [SQL_UINTEGER] = 4,     [SQL_UBIGINT] = 8,      [SQL_UHUGEINT] = 16,
        [SQL_FLOAT] = 4,        [SQL_DOUBLE] = 8,       [SQL_DECIMAL] = 16,
        [SQL_VARCHAR] = 16,     [SQL_JSON] = 16,        [SQL_BLOB] = 16,
        [SQL_BIT] = 16,         [SQL_BIGNUM] = 16,      [SQL_DATE] = 4,
        [SQL_TIME] = 8,         [SQL_TIME_NS] = 8,      [SQL_TIME_TZ] = 8,
        [SQL_TIMESTAMP] = 8,    [SQL_TIMESTAMP_S] = 8,  [SQL_TIMESTAMP_MS] = 8,
        [SQL_TIMESTAMP_NS] = 8, [SQL_TIMESTAMP_TZ] = 8, [SQL_INTERVAL] = 16,
        [SQL_UUID] = 16,        [SQL_ENUM] = 4,         [SQL_LIST] = 16,
        [SQL_ARRAY] = 0,        [SQL_MAP] = 16,         [SQL_STRUCT] = 0,
        [SQL_UNION] = 0,
    };
    uint64_t n = v->rows * width[v->type->type], i;

    switch (v->type->type) {
    case SQL_VARCHAR:
    case SQL_JSON:
    case SQL_BLOB:
    case SQL_BIT:
    case SQL_BIGNUM:
        for (i = 0; i < v->rows; i++) {
            uint32_t len = ((const struct sql_string *)v->data)[i].length;

            if (sql_valid(v, i) && len > 12)
                n += len;
        }
        break;
    default:
        for (i = 0; i < v->type->child_n; i++)
            n += vector_bytes(&v->child[i]);
    }
    return n;
}

uint64_t result_chunk_bytes(const struct sql_chunk *c)
{
    uint64_t n = 0;
    uint32_t i;

    for (i = 0; i < c->columns_n; i++)
        n += vector_bytes(&c->column[i]);
    return n;
}

/* ---- Arrow ---- */

static enum err arrow_error(duckdb_error_data e, struct errinfo *info)
{
    enum err err = ERR_OK;

    if (!e)
        return ERR_OK;
    err = errinfo_set(info, ERR_UNSUPPORTED, "%s", ddb.error_data_message(e));
    ddb.destroy_error_data(&e);
    return err;
}

enum err sql_columns_arrow(struct sql_query *q, struct ArrowSchema *out, struct errinfo *info)
{
    struct result *r = q->result;

    ASSERT(q->magic == SQL_QUERY_MAGIC && r);
    if (!r->arrow)
        ddb.connection_get_arrow_options(r->connection, &r->arrow);
    return arrow_error(ddb.to_arrow_schema(r->arrow, r->types,
                                           (const char **)(uintptr_t)r->columns.name, r->columns.n,
                                           out),
                       info);
}

enum err sql_chunk_arrow(struct sql_query *q, const struct sql_chunk *c, struct ArrowArray *out,
                         struct errinfo *info)
{
    struct result *r = q->result;

    ASSERT(q->magic == SQL_QUERY_MAGIC && r && c->private == r->chunk);
    if (!r->arrow)
        ddb.connection_get_arrow_options(r->connection, &r->arrow);
    return arrow_error(ddb.data_chunk_to_arrow(r->arrow, c->private, out), info);
}
