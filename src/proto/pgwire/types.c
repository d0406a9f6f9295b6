/* Types and values. See types.h. */
#include "proto/pgwire/types.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/endian.h"
#include "proto/pgwire/msg.h"

#define EPOCH_DAYS   10957             /* from 1970-01-01 to 2000-01-01, PostgreSQL's zero */
#define EPOCH_MICROS 946684800000000LL /* the same */
#define DAY_MICROS   86400000000LL
#define NUMERIC_MAX  4096 /* digits of a parameter */

/* ---- types ---- */

static const struct row {
    struct pg_type t;
    uint32_t array; /* the type of arrays of it */
} types[] = {
    [SQL_NULL] = {{PG_TEXT, -1, -1}, 1009},
    [SQL_BOOLEAN] = {{PG_BOOL, 1, -1}, 1000},
    [SQL_TINYINT] = {{PG_INT2, 2, -1}, 1005},
    [SQL_SMALLINT] = {{PG_INT2, 2, -1}, 1005},
    [SQL_INTEGER] = {{PG_INT4, 4, -1}, 1007},
    [SQL_BIGINT] = {{PG_INT8, 8, -1}, 1016},
    [SQL_HUGEINT] = {{PG_NUMERIC, -1, -1}, 1231},
    [SQL_UTINYINT] = {{PG_INT2, 2, -1}, 1005},
    [SQL_USMALLINT] = {{PG_INT4, 4, -1}, 1007},
    [SQL_UINTEGER] = {{PG_OID, 4, -1}, 1028},
    [SQL_UBIGINT] = {{PG_NUMERIC, -1, -1}, 1231},
    [SQL_UHUGEINT] = {{PG_NUMERIC, -1, -1}, 1231},
    [SQL_FLOAT] = {{PG_FLOAT4, 4, -1}, 1021},
    [SQL_DOUBLE] = {{PG_FLOAT8, 8, -1}, 1022},
    [SQL_DECIMAL] = {{PG_NUMERIC, -1, -1}, 1231},
    [SQL_VARCHAR] = {{PG_TEXT, -1, -1}, 1009},
    [SQL_JSON] = {{PG_JSON, -1, -1}, 199},
    [SQL_BLOB] = {{PG_BYTEA, -1, -1}, 1001},
    [SQL_BIT] = {{PG_TEXT, -1, -1}, 1009},
    [SQL_BIGNUM] = {{PG_NUMERIC, -1, -1}, 1231},
    [SQL_DATE] = {{PG_DATE, 4, -1}, 1182},
    [SQL_TIME] = {{PG_TIME, 8, -1}, 1183},
    [SQL_TIME_NS] = {{PG_TIME, 8, -1}, 1183},
    [SQL_TIME_TZ] = {{PG_TIMETZ, 12, -1}, 1270},
    [SQL_TIMESTAMP] = {{PG_TIMESTAMP, 8, -1}, 1115},
    [SQL_TIMESTAMP_S] = {{PG_TIMESTAMP, 8, -1}, 1115},
    [SQL_TIMESTAMP_MS] = {{PG_TIMESTAMP, 8, -1}, 1115},
    [SQL_TIMESTAMP_NS] = {{PG_TIMESTAMP, 8, -1}, 1115},
    [SQL_TIMESTAMP_TZ] = {{PG_TIMESTAMPTZ, 8, -1}, 1185},
    [SQL_INTERVAL] = {{PG_INTERVAL, 16, -1}, 1187},
    [SQL_UUID] = {{PG_UUID, 16, -1}, 2951},
    [SQL_ENUM] = {{PG_TEXT, -1, -1}, 1009},
    [SQL_LIST] = {{PG_TEXT, -1, -1}, 0},
    [SQL_ARRAY] = {{PG_TEXT, -1, -1}, 0},
    [SQL_MAP] = {{PG_JSON, -1, -1}, 199},
    [SQL_STRUCT] = {{PG_JSON, -1, -1}, 199},
    [SQL_UNION] = {{PG_JSON, -1, -1}, 199},
};

static bool is_array(const struct sql_column_type *t)
{
    return (t->type == SQL_LIST || t->type == SQL_ARRAY) && types[t->child[0].type].array;
}

struct pg_type pg_type_of(const struct sql_column_type *t)
{
    struct pg_type p = types[t->type].t;

    if (is_array(t))
        p.oid = types[t->child[0].type].array;
    if (t->type == SQL_DECIMAL)
        p.mod = (t->width << 16 | t->scale) + 4;
    return p;
}

/* ---- values out ---- */

static enum err put_be(struct buf *out, uint64_t v, unsigned bytes)
{
    uint8_t x[8];

    be64_store(x, v);
    return buf_append(out, x + 8 - bytes, bytes);
}

/* PostgreSQL's numeric: groups of four decimal digits, the weight of the first, the sign, how many
 * digits stand behind the point. text: [-]digits[.digits]. */
static enum err put_numeric(struct slice text, struct buf *out)
{
    const uint8_t *p = text.ptr, *end = p + text.len, *point;
    bool negative = p < end && *p == '-';
    size_t whole, frac, groups, lead, i;
    enum err e = ERR_OK;
    int g = 0;

    p += negative;
    while (p < end && *p == '0') /* the digits begin with the first that counts */
        p++;
    point = memchr(p, '.', (size_t)(end - p));
    whole = (size_t)((point ? point : end) - p);
    frac = point ? (size_t)(end - point - 1) : 0;
    lead = (4 - whole % 4) % 4;
    groups = (whole + 3) / 4 + (frac + 3) / 4;
    if ((e = put_be(out, groups, 2)) ||
        (e = put_be(out, (uint64_t)((int64_t)((whole + 3) / 4) - 1), 2)) ||
        (e = put_be(out, negative && groups ? 0x4000 : 0, 2)) || (e = put_be(out, frac, 2)))
        return e;
    for (i = 0; i < groups * 4 && !e; i++) {
        size_t d = i - lead; /* of whole and fraction in a row */
        int digit = 0;

        if (i >= lead && d < whole)
            digit = p[d] - '0';
        else if (i >= lead && d - whole < frac)
            digit = point[1 + d - whole] - '0';
        g = g * 10 + digit;
        if (i % 4 == 3) {
            e = put_be(out, (uint64_t)g, 2);
            g = 0;
        }
    }
    return e;
}

static int64_t pg_micros(int64_t v)
{
    if (v == INT64_MAX)
        return INT64_MAX;
    return v == -INT64_MAX || v < INT64_MIN + EPOCH_MICROS ? INT64_MIN : v - EPOCH_MICROS;
}

static int64_t floor_div(int64_t v, int64_t by)
{
    return v / by - (v % by < 0);
}

static int64_t timestamp_micros(enum sql_type t, int64_t v)
{
    if (v == INT64_MAX || v == -INT64_MAX)
        return v;
    if (t == SQL_TIMESTAMP_S)
        return v > INT64_MAX / 1000000 || v < INT64_MIN / 1000000 ? INT64_MAX : v * 1000000;
    if (t == SQL_TIMESTAMP_MS)
        return v > INT64_MAX / 1000 || v < INT64_MIN / 1000 ? INT64_MAX : v * 1000;
    return t == SQL_TIMESTAMP_NS ? floor_div(v, 1000) : v;
}

static enum err put_interval(const struct sql_interval *v, struct buf *out)
{
    enum err e = put_be(out, (uint64_t)v->micros, 8);

    e = e ? e : put_be(out, (uint32_t)v->days, 4);
    return e ? e : put_be(out, (uint32_t)v->months, 4);
}

static enum err put_time_tz(uint64_t v, struct buf *out)
{
    enum err e = put_be(out, v >> 24, 8);
    int32_t east = 57599 - (int32_t)(v & 0xffffff);

    return e ? e : put_be(out, (uint32_t)-east, 4);
}

static enum err put_text(const struct sql_vector *v, uint64_t row, bool numeric, struct buf *out)
{
    enum err e;
    struct buf text;

    if (!numeric)
        return sql_value_text(v, row, out);
    buf_init(&text, 1u << 20);
    e = sql_value_text(v, row, &text);
    e = e ? e : put_numeric(buf_slice(&text), out);
    buf_fini(&text);
    return e;
}

static enum err put_list(const struct sql_vector *v, uint64_t row, struct buf *out);

#define AT(type) (((const type *)v->data)[row])

/* Numbers and times of a fixed size. */
static enum err put_fixed(const struct sql_vector *v, uint64_t row, struct buf *out)
{
    int64_t days;

    switch (v->type->type) {
    case SQL_BOOLEAN:
        return put_be(out, AT(uint8_t), 1);
    case SQL_TINYINT:
        return put_be(out, (uint64_t)(int64_t)AT(int8_t), 2);
    case SQL_UTINYINT:
        return put_be(out, AT(uint8_t), 2);
    case SQL_SMALLINT:
        return put_be(out, AT(uint16_t), 2);
    case SQL_USMALLINT:
        return put_be(out, AT(uint16_t), 4);
    case SQL_INTEGER:
    case SQL_UINTEGER:
    case SQL_FLOAT:
        return put_be(out, AT(uint32_t), 4);
    case SQL_BIGINT:
    case SQL_DOUBLE:
    case SQL_TIME:
        return put_be(out, AT(uint64_t), 8);
    case SQL_TIME_NS:
        return put_be(out, (uint64_t)floor_div(AT(int64_t), 1000), 8);
    case SQL_DATE:
        days = AT(int32_t);
        if (days == INT32_MAX || days == -INT32_MAX)
            return put_be(out, (uint32_t)(days > 0 ? INT32_MAX : INT32_MIN), 4);
        return put_be(out, (uint32_t)(days - EPOCH_DAYS), 4);
    default:
        return put_be(out, (uint64_t)pg_micros(timestamp_micros(v->type->type, AT(int64_t))), 8);
    }
}

static enum err put_binary(const struct sql_vector *v, uint64_t row, struct buf *out)
{
    uint8_t uuid[16];

    switch (v->type->type) {
    case SQL_HUGEINT:
    case SQL_UHUGEINT:
    case SQL_UBIGINT:
    case SQL_DECIMAL:
    case SQL_BIGNUM:
        return put_text(v, row, true, out);
    case SQL_BLOB:
        return buf_append_slice(out, sql_string_get(&AT(struct sql_string)));
    case SQL_UUID:
        sql_uuid_bytes(&AT(struct sql_hugeint), uuid);
        return buf_append(out, uuid, 16);
    case SQL_TIME_TZ:
        return put_time_tz(AT(uint64_t), out);
    case SQL_INTERVAL:
        return put_interval(&AT(struct sql_interval), out);
    case SQL_LIST:
    case SQL_ARRAY:
        return is_array(v->type) ? put_list(v, row, out) : put_text(v, row, false, out);
    case SQL_NULL:
    case SQL_VARCHAR:
    case SQL_JSON:
    case SQL_BIT:
    case SQL_ENUM:
    case SQL_MAP:
    case SQL_STRUCT:
    case SQL_UNION:
        return put_text(v, row, false, out);
    default:
        return put_fixed(v, row, out);
    }
}

/* The length goes before what fn appends. */
static enum err put_value(const struct sql_vector *v, uint64_t row, bool binary, struct buf *out)
{
    size_t at = out->len;
    enum err e = buf_append_be32(out, UINT32_MAX);

    if (e || !sql_valid(v, row))
        return e;
    e = binary ? put_binary(v, row, out) : sql_value_text(v, row, out);
    if (!e)
        be32_store(out->ptr + at, (uint32_t)(out->len - at - 4));
    return e;
}

/* An array of one dimension, counted from 1. */
static enum err put_list(const struct sql_vector *v, uint64_t row, struct buf *out)
{
    const struct sql_vector *child = &v->child[0];
    uint64_t from, n, i, nulls = 0;
    enum err e;

    if (v->type->type == SQL_LIST) {
        from = AT(struct sql_list_entry).offset;
        n = AT(struct sql_list_entry).length;
    } else {
        n = v->type->array_size;
        from = row * n;
    }
    for (i = 0; i < n; i++)
        nulls += !sql_valid(child, from + i);
    if ((e = buf_append_be32(out, n > 0)) || (e = buf_append_be32(out, nulls > 0)) ||
        (e = buf_append_be32(out, types[child->type->type].t.oid)))
        return e;
    if (n && ((e = buf_append_be32(out, (uint32_t)n)) || (e = buf_append_be32(out, 1))))
        return e;
    for (i = 0; i < n && !e; i++)
        e = put_value(child, from + i, true, out);
    return e;
}

static uint16_t format_of(const uint8_t *formats, uint16_t n, unsigned i)
{
    if (n == 0 || (n > 1 && i >= n))
        return 0;
    return be16_load(formats + (n == 1 ? 0 : 2u * i));
}

enum err pg_data_row(const struct sql_chunk *c, uint32_t row, const uint8_t *formats,
                     uint16_t formats_n, struct buf *out)
{
    size_t at = out->len;
    enum err e = buf_append(out, "D\0\0\0\0", 5);
    uint32_t i;

    e = e ? e : buf_append_be16(out, (uint16_t)c->columns_n);
    for (i = 0; i < c->columns_n && !e; i++)
        e = put_value(&c->column[i], row, format_of(formats, formats_n, i) == 1, out);
    return pg_message_end(out, at, e);
}

/* ---- values in ---- */

static enum err bad(const char *what, struct errinfo *info)
{
    return errinfo_set(info, ERR_CORRUPT_INPUT, "a parameter is no %s", what);
}

static bool int_of(struct slice v, int64_t *out)
{
    char text[32], *end;

    if (v.len == 0 || v.len >= sizeof text)
        return false;
    memcpy(text, v.ptr, v.len);
    text[v.len] = 0;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return *end == 0 && errno == 0;
}

static bool double_of(struct slice v, double *out)
{
    char text[400], *end;

    if (v.len == 0 || v.len >= sizeof text)
        return false;
    memcpy(text, v.ptr, v.len);
    text[v.len] = 0;
    *out = strtod(text, &end);
    return *end == 0;
}

static bool bool_of(struct slice v, int64_t *out)
{
    static const char *const words[] = {"f", "false", "0", "off", "no",
                                        "t", "true",  "1", "on",  "yes"};
    unsigned i;

    for (i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i]) == v.len && strncasecmp((const char *)v.ptr, words[i], v.len) == 0) {
            *out = i >= 5;
            return true;
        }
    return false;
}

/* \x00ff */
static enum err bytea_read(struct slice v, struct arena *a, struct sql_param *out,
                           struct errinfo *info)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t *p;
    size_t i;

    out->type = SQL_BLOB;
    out->bytes = v;
    if (v.len < 2 || v.ptr[0] != '\\' || v.ptr[1] != 'x')
        return ERR_OK;
    if (v.len % 2 || !(p = arena_alloc(a, v.len / 2 + 1)))
        return bad("bytea", info);
    for (i = 2; i < v.len; i++) {
        const char *d = v.ptr[i] ? strchr(digits, v.ptr[i] | 32) : NULL;

        if (!d)
            return bad("bytea", info);
        p[i / 2 - 1] = (uint8_t)((i % 2 ? p[i / 2 - 1] << 4 : 0) | (d - digits));
    }
    out->bytes = slice_of(p, v.len / 2 - 1);
    return ERR_OK;
}

static enum err text_read(uint32_t oid, struct slice v, struct arena *a, struct sql_param *out,
                          struct errinfo *info)
{
    switch (oid) {
    case PG_BOOL:
        out->type = SQL_BOOLEAN;
        return bool_of(v, &out->i64) ? ERR_OK : bad("bool", info);
    case PG_INT2:
    case PG_INT4:
    case PG_INT8:
    case PG_OID:
        out->type = SQL_BIGINT;
        return int_of(v, &out->i64) ? ERR_OK : bad("integer", info);
    case PG_FLOAT4:
    case PG_FLOAT8:
        out->type = SQL_DOUBLE;
        return double_of(v, &out->f64) ? ERR_OK : bad("number", info);
    case PG_BYTEA:
        return bytea_read(v, a, out, info);
    default:
        out->type = SQL_VARCHAR;
        out->bytes = v;
        return ERR_OK;
    }
}

static enum err as_text(const char *text, struct arena *a, struct sql_param *out)
{
    out->type = SQL_VARCHAR;
    out->bytes = arena_dup(a, slice_str(text));
    return slice_is_null(out->bytes) ? ERR_TOO_LARGE : ERR_OK;
}

/* The k-th group of four digits. */
static unsigned group(struct slice v, int k)
{
    return k >= 0 && k < (int)be16_load(v.ptr) ? be16_load(v.ptr + 8 + 2 * k) % 10000u : 0;
}

static enum err numeric_read(struct slice v, struct arena *a, struct sql_param *out,
                             struct errinfo *info)
{
    uint16_t sign, scale;
    struct buf text;
    enum err e;
    int weight, i;

    if (v.len < 8 || be16_load(v.ptr) * 2u != v.len - 8u)
        return bad("numeric", info);
    weight = (int16_t)be16_load(v.ptr + 2);
    sign = be16_load(v.ptr + 4);
    scale = be16_load(v.ptr + 6);
    if (sign & 0x8000 || weight > NUMERIC_MAX / 4 || weight < -NUMERIC_MAX / 4 ||
        scale > NUMERIC_MAX)
        return sign == 0xC000 ? as_text("NaN", a, out) : bad("numeric", info);
    buf_init(&text, 4 * NUMERIC_MAX);
    e = buf_append_str(&text, sign == 0x4000 ? "-" : "");
    e = e ? e : buf_printf(&text, "%u", weight < 0 ? 0 : group(v, 0));
    for (i = 1; i <= weight && !e; i++)
        e = buf_printf(&text, "%04u", group(v, i));
    if (scale && !e) {
        size_t end = text.len + 1 + scale;

        e = buf_append_u8(&text, '.');
        for (i = weight + 1; text.len < end && !e; i++)
            e = buf_printf(&text, "%04u", group(v, i));
        text.len = end;
    }
    e = e ? e : buf_append_u8(&text, 0);
    e = e ? e : as_text((const char *)text.ptr, a, out);
    buf_fini(&text);
    return e;
}

/* Seconds and microseconds since 1970 as text that every time type reads. */
static enum err time_text(int64_t micros, const char *format, bool fraction, struct arena *a,
                          struct sql_param *out, struct errinfo *info)
{
    int64_t s = floor_div(micros, 1000000);
    time_t t = (time_t)s;
    char text[80];
    struct tm tm;
    size_t n;

    if (!gmtime_r(&t, &tm) || !(n = strftime(text, sizeof text - 16, format, &tm)))
        return bad("time", info);
    if (fraction)
        snprintf(text + n, sizeof text - n, ".%06d", (int)(micros - s * 1000000));
    return as_text(text, a, out);
}

enum err pg_time_text(int64_t micros, struct arena *a, struct sql_param *out, struct errinfo *info)
{
    return time_text(micros, "%F %T", true, a, out, info);
}

static enum err date_read(struct slice v, uint32_t oid, struct arena *a, struct sql_param *out,
                          struct errinfo *info)
{
    int64_t n;

    if (v.len != (oid == PG_DATE ? 4u : 8u))
        return bad("date or time", info);
    n = oid == PG_DATE ? (int32_t)be32_load(v.ptr) : (int64_t)be64_load(v.ptr);
    if (oid == PG_TIME)
        return time_text(n, "%H:%M:%S", true, a, out, info);
    if (oid == PG_DATE && n != INT32_MAX && n != INT32_MIN)
        return time_text((n + EPOCH_DAYS) * DAY_MICROS, "%F", false, a, out, info);
    if (oid == PG_DATE || n == INT64_MAX || n == INT64_MIN)
        return as_text(n > 0 ? "infinity" : "-infinity", a, out);
    if (n > INT64_MAX - EPOCH_MICROS)
        return bad("time", info);
    if (oid == PG_TIMESTAMP)
        return pg_time_text(n + EPOCH_MICROS, a, out, info);
    out->type = SQL_TIMESTAMP_TZ;
    out->i64 = n + EPOCH_MICROS;
    return ERR_OK;
}

static enum err uuid_read(struct slice v, struct arena *a, struct sql_param *out,
                          struct errinfo *info)
{
    char text[40];
    unsigned i, n = 0;

    if (v.len != 16)
        return bad("uuid", info);
    for (i = 0; i < 16; i++)
        n += (unsigned)snprintf(text + n, sizeof text - n, "%s%02x",
                                i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", v.ptr[i]);
    return as_text(text, a, out);
}

static enum err number_read(uint32_t oid, struct slice v, struct sql_param *out,
                            struct errinfo *info)
{
    uint32_t u;
    float f;
    size_t want = oid == PG_BOOL                       ? 1
                  : oid == PG_INT2                     ? 2
                  : oid == PG_INT8 || oid == PG_FLOAT8 ? 8
                                                       : 4;

    if (v.len != want)
        return bad("number of its type's length", info);
    out->type = oid == PG_BOOL ? SQL_BOOLEAN : SQL_BIGINT;
    if (oid == PG_FLOAT4 || oid == PG_FLOAT8)
        out->type = SQL_DOUBLE;
    if (oid == PG_FLOAT4) {
        u = be32_load(v.ptr);
        memcpy(&f, &u, 4);
        out->f64 = f;
        return ERR_OK;
    }
    out->i64 = want == 1   ? v.ptr[0] != 0
               : want == 2 ? (int16_t)be16_load(v.ptr)
               : want == 4 ? (int32_t)be32_load(v.ptr)
                           : (int64_t)be64_load(v.ptr); /* a double's bits, too */
    if (oid == PG_OID)
        out->i64 = be32_load(v.ptr);
    return ERR_OK;
}

static enum err binary_read(uint32_t oid, struct slice v, struct arena *a, struct sql_param *out,
                            struct errinfo *info)
{
    switch (oid) {
    case PG_BOOL:
    case PG_INT2:
    case PG_INT4:
    case PG_INT8:
    case PG_OID:
    case PG_FLOAT4:
    case PG_FLOAT8:
        return number_read(oid, v, out, info);
    case PG_NUMERIC:
        return numeric_read(v, a, out, info);
    case PG_DATE:
    case PG_TIME:
    case PG_TIMESTAMP:
    case PG_TIMESTAMPTZ:
        return date_read(v, oid, a, out, info);
    case PG_UUID:
        return uuid_read(v, a, out, info);
    case PG_BYTEA:
        out->type = SQL_BLOB;
        out->bytes = v;
        return ERR_OK;
    case PG_JSONB:
        if (v.len == 0 || v.ptr[0] != 1)
            return bad("jsonb", info);
        v = slice_of(v.ptr + 1, v.len - 1);
        break;
    case 0:
    case PG_TEXT:
    case PG_VARCHAR:
    case PG_BPCHAR:
    case PG_NAME:
    case PG_JSON:
    case PG_UNKNOWN:
        break;
    default:
        return errinfo_set(info, ERR_UNSUPPORTED,
                           "parameters of type %u are read as text only, not in binary", oid);
    }
    out->type = SQL_VARCHAR;
    out->bytes = v;
    return ERR_OK;
}

enum err pg_param_read(uint32_t oid, uint16_t format, struct slice v, struct arena *a,
                       struct sql_param *out, struct errinfo *info)
{
    memset(out, 0, sizeof *out);
    out->type = SQL_NULL;
    if (slice_is_null(v))
        return ERR_OK;
    if (format > 1)
        return errinfo_set(info, ERR_CORRUPT_INPUT, "there is no format %u", format);
    if (pg_list_type(oid))
        return pg_array_read(oid, format, v, a, out, info);
    return format ? binary_read(oid, v, a, out, info) : text_read(oid, v, a, out, info);
}
