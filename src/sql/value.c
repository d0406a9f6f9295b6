/* Values as text and as JSON. Text follows PostgreSQL's output (ISO date style, hex bytea, array
 * braces), as psql and drivers read it. Nothing of DuckDB is needed: only the layouts in value.h. */
#include "sql/value.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json_write.h"
#include "sql/field.h"

#define DAY_US 86400000000

/* ---- whole numbers ---- */

static unsigned __int128 huge_bits(const struct sql_hugeint *h)
{
    return (unsigned __int128)(uint64_t)h->upper << 64 | h->lower;
}

/* Decimal digits, with a point `scale` digits from the right. */
static enum err put_huge(unsigned __int128 v, bool neg, unsigned scale, struct buf *out)
{
    char tmp[64];
    unsigned i = sizeof tmp, digits = 0;

    do {
        if (scale && digits == scale)
            tmp[--i] = '.';
        tmp[--i] = (char)('0' + (int)(v % 10));
        v /= 10;
        digits++;
    } while (v || digits <= scale);
    if (neg)
        tmp[--i] = '-';
    return buf_append(out, tmp + i, sizeof tmp - i);
}

static enum err put_int128(__int128 v, unsigned scale, struct buf *out)
{
    return put_huge(v < 0 ? -(unsigned __int128)v : (unsigned __int128)v, v < 0, scale, out);
}

/* The value of any whole type. false: it is of another. */
static bool whole(const struct sql_vector *v, uint64_t i, __int128 *out)
{
    const void *d = v->data;

    switch (v->type->type) {
    case SQL_TINYINT:
        *out = ((const int8_t *)d)[i];
        return true;
    case SQL_SMALLINT:
        *out = ((const int16_t *)d)[i];
        return true;
    case SQL_INTEGER:
        *out = ((const int32_t *)d)[i];
        return true;
    case SQL_BIGINT:
        *out = ((const int64_t *)d)[i];
        return true;
    case SQL_UTINYINT:
        *out = ((const uint8_t *)d)[i];
        return true;
    case SQL_USMALLINT:
        *out = ((const uint16_t *)d)[i];
        return true;
    case SQL_UINTEGER:
        *out = ((const uint32_t *)d)[i];
        return true;
    case SQL_UBIGINT:
        *out = ((const uint64_t *)d)[i];
        return true;
    case SQL_HUGEINT:
        *out = (__int128)huge_bits(&((const struct sql_hugeint *)d)[i]);
        return true;
    default:
        return false;
    }
}

static __int128 decimal(const struct sql_vector *v, uint64_t i)
{
    if (v->type->width <= 4)
        return ((const int16_t *)v->data)[i];
    if (v->type->width <= 9)
        return ((const int32_t *)v->data)[i];
    if (v->type->width <= 18)
        return ((const int64_t *)v->data)[i];
    return (__int128)huge_bits(&((const struct sql_hugeint *)v->data)[i]);
}

/* ---- fractions ---- */

/* The fewest digits that read back as the same number. */
static enum err put_double(double d, bool single, struct buf *out)
{
    char tmp[40];
    int digits = single ? 6 : 15;

    if (isnan(d))
        return buf_append_str(out, "NaN");
    if (isinf(d))
        return buf_append_str(out, d < 0 ? "-Infinity" : "Infinity");
    for (;; digits++) {
        snprintf(tmp, sizeof tmp, "%.*g", digits, d);
        if (digits >= 17 || (single ? strtof(tmp, NULL) == (float)d : strtod(tmp, NULL) == d))
            return buf_append_str(out, tmp);
    }
}

/* ---- times ---- */

struct civil {
    int64_t year;
    unsigned month, day;
};

/* Of days since 1970-01-01, proleptic Gregorian. */
static struct civil civil_of(int64_t days)
{
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
    unsigned doe = (unsigned)(z - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    struct civil c = {(int64_t)yoe + era * 400, mp < 10 ? mp + 3 : mp - 9,
                      doy - (153 * mp + 2) / 5 + 1};

    c.year += c.month <= 2;
    return c;
}

/* Years before 1 are BC, which stands at the very end. */
static enum err put_date(int64_t days, bool *bc, struct buf *out)
{
    struct civil c = civil_of(days);

    *bc = c.year <= 0;
    return buf_printf(out, "%04" PRId64 "-%02u-%02u", *bc ? 1 - c.year : c.year, c.month, c.day);
}

/* Time of day; fraction of `unit`ths of a second, without zeros at its end. */
static enum err put_time(int64_t v, int64_t unit, struct buf *out)
{
    int64_t s = v / unit, f = v % unit;
    int width = unit == 1000000000 ? 9 : unit == 1000000 ? 6 : 3;
    enum err e;

    e = buf_printf(out, "%02d:%02d:%02d", (int)(s / 3600), (int)(s / 60 % 60), (int)(s % 60));
    if (e || f == 0)
        return e;
    while (f % 10 == 0) {
        f /= 10;
        width--;
    }
    return buf_printf(out, ".%0*" PRId64, width, f);
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* sep: between date and time; zone: what follows. */
static enum err put_timestamp(int64_t v, int64_t unit, char sep, const char *zone, struct buf *out)
{
    int64_t days = floor_div(v, 86400 * unit);
    bool bc;
    enum err e;

    if (v == INT64_MAX || v == -INT64_MAX)
        return buf_append_str(out, v > 0 ? "infinity" : "-infinity");
    e = put_date(days, &bc, out);
    if (!e)
        e = buf_append_u8(out, (uint8_t)sep);
    if (!e)
        e = put_time(v - days * 86400 * unit, unit, out);
    if (!e)
        e = buf_append_str(out, zone);
    return e || !bc ? e : buf_append_str(out, " BC");
}

static bool timestamp(const struct sql_vector *v, uint64_t i, int64_t *value, int64_t *unit)
{
    switch (v->type->type) {
    case SQL_TIMESTAMP:
    case SQL_TIMESTAMP_TZ:
        *unit = 1000000;
        break;
    case SQL_TIMESTAMP_S:
        *unit = 1;
        break;
    case SQL_TIMESTAMP_MS:
        *unit = 1000;
        break;
    case SQL_TIMESTAMP_NS:
        *unit = 1000000000;
        break;
    default:
        return false;
    }
    *value = ((const int64_t *)v->data)[i];
    return true;
}

static enum err put_time_tz(uint64_t bits, struct buf *out)
{
    int offset = 57599 - (int)(bits & 0xffffff), a = offset < 0 ? -offset : offset;
    enum err e = put_time((int64_t)(bits >> 24), 1000000, out);

    if (!e)
        e = buf_printf(out, "%c%02d", offset < 0 ? '-' : '+', a / 3600);
    if (!e && a % 3600)
        e = buf_printf(out, ":%02d", a / 60 % 60);
    return e || a % 60 == 0 ? e : buf_printf(out, ":%02d", a % 60);
}

/* PostgreSQL: 1 year 2 mons 3 days 04:05:06. */
static enum err put_interval(const struct sql_interval *x, struct buf *out)
{
    size_t from = out->len;
    int64_t us = x->micros < 0 ? -x->micros : x->micros;
    int years = x->months / 12, months = x->months % 12;
    enum err e = ERR_OK;

    if (years)
        e = buf_printf(out, "%d year%s", years, years == 1 ? "" : "s");
    if (!e && months)
        e = buf_printf(out, "%s%d mon%s", out->len > from ? " " : "", months,
                       months == 1 ? "" : "s");
    if (!e && x->days)
        e = buf_printf(out, "%s%d day%s", out->len > from ? " " : "", (int)x->days,
                       x->days == 1 ? "" : "s");
    if (e || (x->micros == 0 && out->len > from))
        return e;
    e = buf_append_str(out, out->len > from ? " " : "");
    if (!e && x->micros < 0)
        e = buf_append_u8(out, '-');
    return e ? e : put_time(us, 1000000, out);
}

/* ISO 8601: P1Y2M3DT4H5M6.5S. */
static enum err put_interval_iso(const struct sql_interval *x, struct buf *out)
{
    int64_t s = x->micros / 1000000, f = x->micros % 1000000;
    enum err e = buf_append_u8(out, 'P');

    if (!e && x->months / 12)
        e = buf_printf(out, "%dY", (int)(x->months / 12));
    if (!e && x->months % 12)
        e = buf_printf(out, "%dM", (int)(x->months % 12));
    if (!e && x->days)
        e = buf_printf(out, "%dD", (int)x->days);
    if (!e && (x->micros || (!x->months && !x->days))) {
        e = buf_append_u8(out, 'T');
        if (!e && s / 3600)
            e = buf_printf(out, "%" PRId64 "H", s / 3600);
        if (!e && s / 60 % 60)
            e = buf_printf(out, "%" PRId64 "M", s / 60 % 60);
        if (!e && (s % 60 || f || s == 0))
            e = buf_printf(out, "%s%d", x->micros < 0 ? "-" : "", abs((int)(s % 60)));
        if (!e && (s % 60 || f || s == 0) && f)
            e = buf_printf(out, ".%06d", abs((int)f));
        if (!e && (s % 60 || f || s == 0))
            e = buf_append_u8(out, 'S');
    }
    return e;
}

/* ---- bytes ---- */

static enum err put_hex(struct slice s, struct buf *out)
{
    static const char hex[] = "0123456789abcdef";
    size_t i;

    if (buf_reserve(out, s.len * 2 + 3) || buf_append_str(out, "\\x"))
        return ERR_TOO_LARGE;
    for (i = 0; i < s.len; i++) {
        out->ptr[out->len++] = (uint8_t)hex[s.ptr[i] >> 4];
        out->ptr[out->len++] = (uint8_t)hex[s.ptr[i] & 15];
    }
    return ERR_OK;
}

static enum err put_base64(struct slice s, struct buf *out)
{
    static const char abc[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t i;

    if (buf_reserve(out, (s.len + 2) / 3 * 4 + 1))
        return ERR_TOO_LARGE;
    for (i = 0; i < s.len; i += 3) {
        uint32_t v = (uint32_t)s.ptr[i] << 16;

        v |= i + 1 < s.len ? (uint32_t)s.ptr[i + 1] << 8 : 0;
        v |= i + 2 < s.len ? s.ptr[i + 2] : 0;
        out->ptr[out->len++] = (uint8_t)abc[v >> 18];
        out->ptr[out->len++] = (uint8_t)abc[v >> 12 & 63];
        out->ptr[out->len++] = (uint8_t)(i + 1 < s.len ? abc[v >> 6 & 63] : '=');
        out->ptr[out->len++] = (uint8_t)(i + 2 < s.len ? abc[v & 63] : '=');
    }
    return ERR_OK;
}

static enum err put_bits(struct slice s, struct buf *out)
{
    size_t i, pad = s.len ? s.ptr[0] : 0;
    enum err e = ERR_OK;

    for (i = pad; !e && s.len > 1 && i < (s.len - 1) * 8; i++)
        e = buf_append_u8(out, (uint8_t)('0' + (s.ptr[1 + i / 8] >> (7 - i % 8) & 1)));
    return e;
}

/* DuckDB's BIGNUM: three bytes of header (sign in the highest bit, inverted for negative numbers),
 * then the magnitude, big-endian, inverted too if negative. */
static enum err put_bignum(struct slice s, struct buf *out)
{
    uint8_t mag[256], digits[640];
    size_t n = s.len > 3 ? s.len - 3 : 0, d = 0, i, from = 0;
    bool neg = s.len && !(s.ptr[0] & 0x80);
    enum err e = ERR_OK;

    if (n > sizeof mag)
        return put_hex(s, out); /* beyond 600 digits */
    for (i = 0; i < n; i++)
        mag[i] = neg ? (uint8_t)~s.ptr[3 + i] : s.ptr[3 + i];
    do {
        unsigned rest = 0;

        for (i = from; i < n; i++) {
            rest = rest << 8 | mag[i];
            mag[i] = (uint8_t)(rest / 10);
            rest %= 10;
        }
        digits[d++] = (uint8_t)('0' + rest);
        while (from < n && mag[from] == 0)
            from++;
    } while (from < n && d < sizeof digits);
    if (neg)
        e = buf_append_u8(out, '-');
    while (!e && d)
        e = buf_append_u8(out, digits[--d]);
    return e;
}

void sql_uuid_bytes(const struct sql_hugeint *v, uint8_t out[16])
{
    uint64_t hi = (uint64_t)v->upper ^ (1ull << 63);
    int i;

    for (i = 0; i < 8; i++) {
        out[i] = (uint8_t)(hi >> (56 - 8 * i));
        out[8 + i] = (uint8_t)(v->lower >> (56 - 8 * i));
    }
}

static enum err put_uuid(const struct sql_hugeint *v, struct buf *out)
{
    uint8_t b[16];
    enum err e = ERR_OK;
    int i;

    sql_uuid_bytes(v, b);
    for (i = 0; !e && i < 16; i++)
        e = buf_printf(out, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", b[i]);
    return e;
}

static const char *enum_word(const struct sql_vector *v, uint64_t i)
{
    uint32_t at = v->type->enum_bytes == 1   ? ((const uint8_t *)v->data)[i]
                  : v->type->enum_bytes == 2 ? ((const uint16_t *)v->data)[i]
                                             : ((const uint32_t *)v->data)[i];

    return at < v->type->words_n ? v->type->words[at] : "";
}

static struct slice string(const struct sql_vector *v, uint64_t i)
{
    return sql_string_get(&((const struct sql_string *)v->data)[i]);
}

/* ---- text ---- */

/* Types without parts. ERR_UNSUPPORTED: another. */
static enum err scalar_text(const struct sql_vector *v, uint64_t i, struct buf *out)
{
    int64_t t, unit;
    __int128 n;
    bool bc;
    enum err e;

    if (whole(v, i, &n))
        return put_int128(n, 0, out);
    if (timestamp(v, i, &t, &unit))
        return put_timestamp(t, unit, ' ', v->type->type == SQL_TIMESTAMP_TZ ? "+00" : "", out);
    switch (v->type->type) {
    case SQL_BOOLEAN:
        return buf_append_str(out, ((const uint8_t *)v->data)[i] ? "t" : "f");
    case SQL_UHUGEINT:
        return put_huge(huge_bits(&((const struct sql_hugeint *)v->data)[i]), false, 0, out);
    case SQL_FLOAT:
        return put_double((double)((const float *)v->data)[i], true, out);
    case SQL_DOUBLE:
        return put_double(((const double *)v->data)[i], false, out);
    case SQL_DECIMAL:
        return put_int128(decimal(v, i), v->type->scale, out);
    case SQL_VARCHAR:
    case SQL_JSON:
        return buf_append_slice(out, string(v, i));
    case SQL_BLOB:
        return put_hex(string(v, i), out);
    case SQL_BIT:
        return put_bits(string(v, i), out);
    case SQL_BIGNUM:
        return put_bignum(string(v, i), out);
    case SQL_DATE:
        t = ((const int32_t *)v->data)[i];
        if (t == INT32_MAX || t == -INT32_MAX)
            return buf_append_str(out, t > 0 ? "infinity" : "-infinity");
        e = put_date(t, &bc, out);
        return e || !bc ? e : buf_append_str(out, " BC");
    case SQL_TIME:
        return put_time(((const int64_t *)v->data)[i], 1000000, out);
    case SQL_TIME_NS:
        return put_time(((const int64_t *)v->data)[i], 1000000000, out);
    case SQL_TIME_TZ:
        return put_time_tz(((const uint64_t *)v->data)[i], out);
    case SQL_INTERVAL:
        return put_interval(&((const struct sql_interval *)v->data)[i], out);
    case SQL_UUID:
        return put_uuid(&((const struct sql_hugeint *)v->data)[i], out);
    case SQL_ENUM:
        return buf_append_str(out, enum_word(v, i));
    default:
        return ERR_UNSUPPORTED;
    }
}

/* The elements of row i of a LIST or ARRAY. */
static struct sql_list_entry elements(const struct sql_vector *v, uint64_t i)
{
    if (v->type->type == SQL_ARRAY)
        return (struct sql_list_entry){i * v->type->array_size, v->type->array_size};
    return ((const struct sql_list_entry *)v->data)[i];
}

/* An element of an array: quoted where PostgreSQL does. */
static enum err element_quote(struct slice s, struct buf *out)
{
    bool quote = s.len == 0 || (s.len == 4 && !strncasecmp((const char *)s.ptr, "null", 4));
    size_t i;
    enum err e;

    for (i = 0; !quote && i < s.len; i++)
        quote = s.ptr[i] <= ' ' || memchr("{},\"\\", s.ptr[i], 5) != NULL;
    if (!quote)
        return buf_append_slice(out, s);
    e = buf_append_u8(out, '"');
    for (i = 0; !e && i < s.len; i++) {
        if (s.ptr[i] == '"' || s.ptr[i] == '\\')
            e = buf_append_u8(out, '\\');
        if (!e)
            e = buf_append_u8(out, s.ptr[i]);
    }
    return e ? e : buf_append_u8(out, '"');
}

static enum err list_text(const struct sql_vector *v, uint64_t i, struct buf *out)
{
    struct sql_list_entry at = elements(v, i);
    const struct sql_vector *c = &v->child[0];
    bool nested = c->type->type == SQL_LIST || c->type->type == SQL_ARRAY;
    struct buf tmp;
    uint64_t k;
    enum err e = buf_append_u8(out, '{');

    buf_init(&tmp, out->max);
    for (k = at.offset; !e && k < at.offset + at.length; k++) {
        if (k > at.offset)
            e = buf_append_u8(out, ',');
        if (e)
            break;
        if (!sql_valid(c, k)) {
            e = buf_append_str(out, "NULL");
        } else if (nested) {
            e = sql_value_text(c, k, out);
        } else {
            buf_clear(&tmp);
            e = sql_value_text(c, k, &tmp);
            if (!e)
                e = element_quote(buf_slice(&tmp), out);
        }
    }
    buf_fini(&tmp);
    return e ? e : buf_append_u8(out, '}');
}

enum err sql_value_text(const struct sql_vector *v, uint64_t row, struct buf *out)
{
    if (!sql_valid(v, row))
        return ERR_OK;
    switch (v->type->type) {
    case SQL_LIST:
    case SQL_ARRAY:
        return list_text(v, row, out);
    case SQL_STRUCT:
    case SQL_MAP:
    case SQL_UNION:
        return sql_value_json(v, row, out);
    case SQL_NULL:
        return ERR_OK;
    default:
        return scalar_text(v, row, out);
    }
}

/* ---- JSON ---- */

static enum err list_json(const struct sql_vector *v, uint64_t i, struct buf *out)
{
    struct sql_list_entry at = elements(v, i);
    uint64_t k;
    enum err e = buf_append_u8(out, '[');

    for (k = at.offset; !e && k < at.offset + at.length; k++) {
        if (k > at.offset)
            e = buf_append_u8(out, ',');
        if (!e)
            e = sql_value_json(&v->child[0], k, out);
    }
    return e ? e : buf_append_u8(out, ']');
}

static enum err member(struct slice name, const struct sql_vector *v, uint64_t i, struct buf *out)
{
    enum err e = json_write_string(out, name);

    if (!e)
        e = buf_append_u8(out, ':');
    return e ? e : sql_value_json(v, i, out);
}

static enum err struct_json(const struct sql_vector *v, uint64_t i, struct buf *out)
{
    uint32_t k;
    enum err e = buf_append_u8(out, '{');

    for (k = 0; !e && k < v->type->child_n; k++) {
        if (k)
            e = buf_append_u8(out, ',');
        if (!e)
            e = member(slice_str(v->type->child_name[k]), &v->child[k], i, out);
    }
    return e ? e : buf_append_u8(out, '}');
}

static enum err map_json(const struct sql_vector *v, uint64_t i, struct buf *out)
{
    struct sql_list_entry at = elements(v, i);
    const struct sql_vector *kv = v->child[0].child;
    struct buf key;
    uint64_t k;
    enum err e = buf_append_u8(out, '{');

    buf_init(&key, out->max);
    for (k = at.offset; !e && k < at.offset + at.length; k++) {
        if (k > at.offset)
            e = buf_append_u8(out, ',');
        buf_clear(&key);
        if (!e)
            e = sql_value_text(&kv[0], k, &key);
        if (!e)
            e = member(buf_slice(&key), &kv[1], k, out);
    }
    buf_fini(&key);
    return e ? e : buf_append_u8(out, '}');
}

static enum err union_json(const struct sql_vector *v, uint64_t i, struct buf *out)
{
    uint32_t tag = 1u + ((const uint8_t *)v->child[0].data)[i];

    return tag < v->type->child_n ? sql_value_json(&v->child[tag], i, out)
                                  : buf_append_str(out, "null");
}

static enum err quoted(const struct sql_vector *v, uint64_t i, struct buf *out)
{
    struct buf tmp;
    enum err e;

    buf_init(&tmp, out->max);
    e = scalar_text(v, i, &tmp);
    if (!e)
        e = json_write_string(out, buf_slice(&tmp));
    buf_fini(&tmp);
    return e;
}

static enum err number_json(const struct sql_vector *v, uint64_t i, struct buf *out)
{
    double d = v->type->type == SQL_FLOAT ? (double)((const float *)v->data)[i]
                                          : ((const double *)v->data)[i];

    return isfinite(d) ? scalar_text(v, i, out) : buf_append_str(out, "null");
}

static enum err bytes_json(const struct sql_vector *v, uint64_t i, struct buf *out)
{
    enum err e = buf_append_u8(out, '"');

    if (!e)
        e = put_base64(string(v, i), out);
    return e ? e : buf_append_u8(out, '"');
}

enum err sql_value_json(const struct sql_vector *v, uint64_t row, struct buf *out)
{
    int64_t t, unit;
    enum err e;

    if (!sql_valid(v, row) || v->type->type == SQL_NULL)
        return buf_append_str(out, "null");
    if (timestamp(v, row, &t, &unit)) {
        e = buf_append_u8(out, '"');
        if (!e)
            e = put_timestamp(t, unit, 'T', v->type->type == SQL_TIMESTAMP_TZ ? "Z" : "", out);
        return e ? e : buf_append_u8(out, '"');
    }
    switch (v->type->type) {
    case SQL_BOOLEAN:
        return buf_append_str(out, ((const uint8_t *)v->data)[row] ? "true" : "false");
    case SQL_FLOAT:
    case SQL_DOUBLE:
        return number_json(v, row, out);
    case SQL_TINYINT:
    case SQL_SMALLINT:
    case SQL_INTEGER:
    case SQL_BIGINT:
    case SQL_HUGEINT:
    case SQL_UTINYINT:
    case SQL_USMALLINT:
    case SQL_UINTEGER:
    case SQL_UBIGINT:
    case SQL_UHUGEINT:
    case SQL_DECIMAL:
    case SQL_JSON:
        return scalar_text(v, row, out);
    case SQL_BLOB:
        return bytes_json(v, row, out);
    case SQL_INTERVAL:
        e = buf_append_u8(out, '"');
        if (!e)
            e = put_interval_iso(&((const struct sql_interval *)v->data)[row], out);
        return e ? e : buf_append_u8(out, '"');
    case SQL_LIST:
    case SQL_ARRAY:
        return list_json(v, row, out);
    case SQL_STRUCT:
        return struct_json(v, row, out);
    case SQL_MAP:
        return map_json(v, row, out);
    case SQL_UNION:
        return union_json(v, row, out);
    default:
        return quoted(v, row, out);
    }
}

/* ---- names of types ---- */

static const char *const type_names[] = {
    [SQL_NULL] = "NULL",
    [SQL_BOOLEAN] = "BOOLEAN",
    [SQL_TINYINT] = "TINYINT",
    [SQL_SMALLINT] = "SMALLINT",
    [SQL_INTEGER] = "INTEGER",
    [SQL_BIGINT] = "BIGINT",
    [SQL_HUGEINT] = "HUGEINT",
    [SQL_UTINYINT] = "UTINYINT",
    [SQL_USMALLINT] = "USMALLINT",
    [SQL_UINTEGER] = "UINTEGER",
    [SQL_UBIGINT] = "UBIGINT",
    [SQL_UHUGEINT] = "UHUGEINT",
    [SQL_FLOAT] = "FLOAT",
    [SQL_DOUBLE] = "DOUBLE",
    [SQL_DECIMAL] = "DECIMAL",
    [SQL_VARCHAR] = "VARCHAR",
    [SQL_JSON] = "JSON",
    [SQL_BLOB] = "BLOB",
    [SQL_BIT] = "BIT",
    [SQL_BIGNUM] = "BIGNUM",
    [SQL_DATE] = "DATE",
    [SQL_TIME] = "TIME",
    [SQL_TIME_NS] = "TIME_NS",
    [SQL_TIME_TZ] = "TIME WITH TIME ZONE",
    [SQL_TIMESTAMP] = "TIMESTAMP",
    [SQL_TIMESTAMP_S] = "TIMESTAMP_S",
    [SQL_TIMESTAMP_MS] = "TIMESTAMP_MS",
    [SQL_TIMESTAMP_NS] = "TIMESTAMP_NS",
    [SQL_TIMESTAMP_TZ] = "TIMESTAMP WITH TIME ZONE",
    [SQL_INTERVAL] = "INTERVAL",
    [SQL_UUID] = "UUID",
    [SQL_ENUM] = "ENUM",
};

static enum err members_name(const struct sql_column_type *t, const char *word, uint32_t from,
                             struct buf *out)
{
    uint32_t i;
    enum err e = buf_printf(out, "%s(", word);

    for (i = from; !e && i < t->child_n; i++) {
        e = buf_printf(out, "%s%s ", i > from ? ", " : "", t->child_name[i]);
        if (!e)
            e = sql_type_name(&t->child[i], out);
    }
    return e ? e : buf_append_u8(out, ')');
}

static enum err map_name(const struct sql_column_type *t, struct buf *out)
{
    enum err e = buf_append_str(out, "MAP(");

    if (!e)
        e = sql_type_name(&t->child[0].child[0], out);
    if (!e)
        e = buf_append_str(out, ", ");
    if (!e)
        e = sql_type_name(&t->child[0].child[1], out);
    return e ? e : buf_append_u8(out, ')');
}

enum err sql_type_name(const struct sql_column_type *t, struct buf *out)
{
    enum err e;

    switch (t->type) {
    case SQL_DECIMAL:
        return buf_printf(out, "DECIMAL(%u,%u)", t->width, t->scale);
    case SQL_LIST:
        e = sql_type_name(&t->child[0], out);
        return e ? e : buf_append_str(out, "[]");
    case SQL_ARRAY:
        e = sql_type_name(&t->child[0], out);
        return e ? e : buf_printf(out, "[%" PRIu64 "]", t->array_size);
    case SQL_STRUCT:
        return members_name(t, "STRUCT", 0, out);
    case SQL_UNION:
        return members_name(t, "UNION", 1, out);
    case SQL_MAP:
        return map_name(t, out);
    default:
        return buf_append_str(out, type_names[t->type]);
    }
}
