/* Arrays as parameters: PostgreSQL's text and binary forms become a list as SQL reads it from a text,
 * [1, NULL, "a \"b\""]. See types.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/endian.h"
#include "proto/pgwire/types.h"

#define DIMENSIONS_MAX 6u /* PostgreSQL's own */
#define LIST_MAX       (32u << 20)

static const struct {
    uint32_t array, element;
    const char *list;
} kinds[] = {{199, PG_JSON, "JSON[]"},
             {1000, PG_BOOL, "BOOLEAN[]"},
             {1001, PG_BYTEA, "BLOB[]"},
             {1003, PG_NAME, "VARCHAR[]"},
             {1005, PG_INT2, "SMALLINT[]"},
             {1007, PG_INT4, "INTEGER[]"},
             {1009, PG_TEXT, "VARCHAR[]"},
             {1014, PG_BPCHAR, "VARCHAR[]"},
             {1015, PG_VARCHAR, "VARCHAR[]"},
             {1016, PG_INT8, "BIGINT[]"},
             {1021, PG_FLOAT4, "FLOAT[]"},
             {1022, PG_FLOAT8, "DOUBLE[]"},
             {1028, PG_OID, "UINTEGER[]"},
             {1115, PG_TIMESTAMP, "TIMESTAMP[]"},
             {1182, PG_DATE, "DATE[]"},
             {1183, PG_TIME, "TIME[]"},
             {1185, PG_TIMESTAMPTZ, "TIMESTAMPTZ[]"},
             {1231, PG_NUMERIC, "DECIMAL(38,10)[]"},
             {2951, PG_UUID, "UUID[]"},
             {3807, PG_JSONB, "JSON[]"}};

static uint32_t element_of(uint32_t array)
{
    size_t i;

    for (i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].array == array)
            return kinds[i].element;
    return 0;
}

const char *pg_list_type(uint32_t oid)
{
    size_t i;

    for (i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].array == oid)
            return kinds[i].list;
    return NULL;
}

static enum err bad(struct errinfo *info)
{
    return errinfo_set(info, ERR_CORRUPT_INPUT, "a parameter is no array of its type");
}

/* In double quotes. */
static enum err put_quoted(struct slice v, struct buf *out)
{
    enum err e = buf_append_u8(out, '"');
    size_t i;

    for (i = 0; i < v.len && !e; i++) {
        if (v.ptr[i] == '"' || v.ptr[i] == '\\')
            e = buf_append_u8(out, '\\');
        e = e ? e : buf_append_u8(out, v.ptr[i]);
    }
    return e ? e : buf_append_u8(out, '"');
}

/* Bytes as SQL reads a BLOB from a text. */
static enum err put_bytes(struct slice v, struct buf *out)
{
    enum err e = buf_append_u8(out, '"');
    size_t i;

    for (i = 0; i < v.len && !e; i++)
        e = buf_printf(out, "\\\\x%02X", v.ptr[i]);
    return e ? e : buf_append_u8(out, '"');
}

static enum err put_element(const struct sql_param *p, struct arena *a, struct buf *out,
                            struct errinfo *info)
{
    struct sql_param text;
    enum err e;

    switch (p->type) {
    case SQL_NULL:
        return buf_append_str(out, "NULL");
    case SQL_BOOLEAN:
        return buf_append_str(out, p->i64 ? "true" : "false");
    case SQL_BIGINT:
        return buf_printf(out, "%" PRId64, p->i64);
    case SQL_DOUBLE:
        return buf_printf(out, "%.17g", p->f64);
    case SQL_TIMESTAMP_TZ:
        e = pg_time_text(p->i64, a, &text, info);
        return e ? e : put_quoted(text.bytes, out);
    case SQL_BLOB:
        return put_bytes(p->bytes, out);
    default:
        return put_quoted(p->bytes, out);
    }
}

static bool word_is_null(struct slice w)
{
    return w.len == 4 && strncasecmp((const char *)w.ptr, "null", 4) == 0;
}

/* One element of the text, up to a comma or bracket at *i; quoted ones without their escapes, in word,
 * which has room for all of v. */
static enum err text_element(uint32_t oid, struct slice v, size_t *i, uint8_t *word,
                             struct arena *a, struct buf *out, struct errinfo *info)
{
    struct sql_param p;
    bool quoted = *i < v.len && v.ptr[*i] == '"';
    size_t n = 0, at = *i + quoted;
    enum err e;

    for (; at < v.len && (quoted ? v.ptr[at] != '"' : !memchr(",{}\"", v.ptr[at], 4)); at++) {
        if (v.ptr[at] == '\\' && ++at == v.len)
            return bad(info);
        word[n++] = v.ptr[at];
    }
    if (quoted && at++ >= v.len)
        return bad(info);
    *i = at;
    if (!quoted && word_is_null(slice_of(word, n)))
        return buf_append_str(out, "NULL");
    if (!quoted && n == 0)
        return bad(info);
    e = pg_param_read(oid, 0, slice_of(word, n), a, &p, info);
    return e ? e : put_element(&p, a, out, info);
}

/* {1,NULL,"a b",{…}} */
static enum err text_read(uint32_t oid, struct slice v, struct arena *a, struct buf *out,
                          struct errinfo *info)
{
    uint8_t *word = arena_alloc(a, v.len + 1);
    unsigned depth = 0;
    enum err e = ERR_OK;
    size_t i = 0;

    if (!word)
        return ERR_TOO_LARGE;
    if (v.len < 2 || v.ptr[0] != '{')
        return bad(info);
    while (i < v.len && !e) {
        uint8_t c = v.ptr[i];

        if (c == '{' || c == '}') {
            if (c == '{' ? ++depth > DIMENSIONS_MAX : depth-- == 0)
                return bad(info);
            e = buf_append_u8(out, c == '{' ? '[' : ']');
            i++;
            if (depth == 0)
                break;
        } else if (c == ',' || c == ' ') {
            e = buf_append_u8(out, c);
            i++;
        } else {
            e = text_element(oid, v, &i, word, a, out, info);
        }
    }
    return e ? e : depth || i != v.len ? bad(info) : ERR_OK;
}

struct binary {
    struct slice rest;
    uint32_t element, dimensions, size[DIMENSIONS_MAX];
};

static enum err binary_level(struct binary *b, uint32_t level, struct arena *a, struct buf *out,
                             struct errinfo *info)
{
    struct sql_param p = {.type = SQL_NULL};
    enum err e = buf_append_u8(out, '[');
    uint32_t i, len;

    for (i = 0; i < b->size[level] && !e; i++) {
        e = i ? buf_append_u8(out, ',') : ERR_OK;
        if (!e && level + 1 < b->dimensions) {
            e = binary_level(b, level + 1, a, out, info);
            continue;
        }
        if (b->rest.len < 4)
            return bad(info);
        len = be32_load(b->rest.ptr);
        b->rest = slice_of(b->rest.ptr + 4, b->rest.len - 4);
        p.type = SQL_NULL;
        if (len != UINT32_MAX) {
            if (len > b->rest.len)
                return bad(info);
            e = e ? e : pg_param_read(b->element, 1, slice_of(b->rest.ptr, len), a, &p, info);
            b->rest = slice_of(b->rest.ptr + len, b->rest.len - len);
        }
        e = e ? e : put_element(&p, a, out, info);
    }
    return e ? e : buf_append_u8(out, ']');
}

/* Dimensions, whether there are NULLs, the elements' type; for each dimension its size and where it
 * begins to count; the elements. */
static enum err binary_read(uint32_t oid, struct slice v, struct arena *a, struct buf *out,
                            struct errinfo *info)
{
    struct binary b;
    uint64_t n = 1;
    uint32_t i;

    if (v.len < 12 || (b.dimensions = be32_load(v.ptr)) > DIMENSIONS_MAX ||
        v.len < 12 + 8 * (size_t)b.dimensions)
        return bad(info);
    b.element = be32_load(v.ptr + 8);
    b.element = b.element ? b.element : oid;
    if (pg_list_type(b.element)) /* arrays of arrays have dimensions */
        return bad(info);
    for (i = 0; i < b.dimensions; i++) {
        b.size[i] = be32_load(v.ptr + 12 + 8 * (size_t)i);
        n *= b.size[i];
        if (b.size[i] > v.len || n > v.len)
            return bad(info);
    }
    b.rest = slice_of(v.ptr + 12 + 8 * (size_t)b.dimensions, v.len - 12 - 8 * (size_t)b.dimensions);
    return b.dimensions ? binary_level(&b, 0, a, out, info) : buf_append_str(out, "[]");
}

enum err pg_array_read(uint32_t oid, uint16_t format, struct slice v, struct arena *a,
                       struct sql_param *out, struct errinfo *info)
{
    uint32_t element = element_of(oid);
    struct buf text;
    enum err e;

    buf_init(&text, LIST_MAX);
    element = element ? element : PG_TEXT;
    e = format ? binary_read(element, v, a, &text, info) : text_read(element, v, a, &text, info);
    if (!e) {
        out->type = SQL_VARCHAR;
        out->bytes = arena_dup(a, buf_slice(&text));
        e = slice_is_null(out->bytes) ? ERR_TOO_LARGE : ERR_OK;
    }
    buf_fini(&text);
    return e;
}
