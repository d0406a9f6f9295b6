/* Values of Iceberg's types. See value.h. */
#include "lake/value.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/utf8.h"

/* ---- types ---- */

static const char *const kind_names[] = {
    [ICE_BOOLEAN] = "boolean",
    [ICE_INT] = "int",
    [ICE_LONG] = "long",
    [ICE_FLOAT] = "float",
    [ICE_DOUBLE] = "double",
    [ICE_DECIMAL] = "decimal",
    [ICE_DATE] = "date",
    [ICE_TIME] = "time",
    [ICE_TIMESTAMP] = "timestamp",
    [ICE_TIMESTAMPTZ] = "timestamptz",
    [ICE_TIMESTAMP_NS] = "timestamp_ns",
    [ICE_TIMESTAMPTZ_NS] = "timestamptz_ns",
    [ICE_STRING] = "string",
    [ICE_UUID] = "uuid",
    [ICE_FIXED] = "fixed",
    [ICE_BINARY] = "binary",
    [ICE_STRUCT] = "struct",
    [ICE_LIST] = "list",
    [ICE_MAP] = "map",
};

void ice_type_text(struct ice_type t, char out[ICE_TYPE_TEXT])
{
    if (t.kind == ICE_DECIMAL)
        snprintf(out, ICE_TYPE_TEXT, "decimal(%u, %u)", t.precision, t.scale);
    else if (t.kind == ICE_FIXED)
        snprintf(out, ICE_TYPE_TEXT, "fixed[%u]", t.len);
    else
        snprintf(out, ICE_TYPE_TEXT, "%s", kind_names[t.kind]);
}

/* Passes spaces, digits (at most 9) and the byte c. */
static bool number_then(struct slice *s, uint32_t *out, uint8_t c)
{
    unsigned digits = 0;

    *out = 0;
    while (s->len && *s->ptr == ' ')
        *s = slice_of(s->ptr + 1, s->len - 1);
    for (; s->len && *s->ptr >= '0' && *s->ptr <= '9' && digits < 9; digits++) {
        *out = *out * 10 + (uint32_t)(*s->ptr - '0');
        *s = slice_of(s->ptr + 1, s->len - 1);
    }
    if (!digits || !s->len || *s->ptr != c)
        return false;
    *s = slice_of(s->ptr + 1, s->len - 1);
    return true;
}

bool ice_type_parse(struct slice s, struct ice_type *out)
{
    uint32_t a, b;

    *out = (struct ice_type){0};
    for (enum ice_kind k = 0; k < ICE_PRIMITIVES; k++) {
        if (k != ICE_DECIMAL && k != ICE_FIXED && slice_eq_str(s, kind_names[k])) {
            out->kind = k;
            return true;
        }
    }
    if (slice_has_prefix(s, SLICE_LIT("fixed["))) {
        s = slice_of(s.ptr + 6, s.len - 6);
        out->kind = ICE_FIXED;
        return number_then(&s, &out->len, ']') && s.len == 0;
    }
    if (!slice_has_prefix(s, SLICE_LIT("decimal(")))
        return false;
    s = slice_of(s.ptr + 8, s.len - 8);
    if (!number_then(&s, &a, ',') || !number_then(&s, &b, ')') || s.len || a < 1 || a > 38 || b > a)
        return false;
    *out = (struct ice_type){.kind = ICE_DECIMAL, .precision = (uint8_t)a, .scale = (uint8_t)b};
    return true;
}

bool ice_type_eq(struct ice_type a, struct ice_type b)
{
    return a.kind == b.kind && (a.kind != ICE_FIXED || a.len == b.len) &&
           (a.kind != ICE_DECIMAL || (a.precision == b.precision && a.scale == b.scale));
}

bool ice_type_promotes(struct ice_type from, struct ice_type to)
{
    return (from.kind == ICE_INT && to.kind == ICE_LONG) ||
           (from.kind == ICE_FLOAT && to.kind == ICE_DOUBLE) ||
           (from.kind == ICE_DECIMAL && to.kind == ICE_DECIMAL && from.scale == to.scale &&
            from.precision <= to.precision);
}

static bool is_float(enum ice_kind k)
{
    return k == ICE_FLOAT || k == ICE_DOUBLE;
}

static bool is_bytes(enum ice_kind k)
{
    return k == ICE_DECIMAL || k == ICE_STRING || k == ICE_UUID || k == ICE_FIXED ||
           k == ICE_BINARY;
}

/* ---- order ---- */

static int order_double(double a, double b)
{
    if (isnan(a) || isnan(b))
        return (isnan(a) != 0) - (isnan(b) != 0);
    if (a == b)
        return (signbit(b) != 0) - (signbit(a) != 0);
    return a < b ? -1 : 1;
}

static int order_bytes(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.ptr, b.ptr, n) : 0;

    return c ? c : (a.len > b.len) - (a.len < b.len);
}

/* Two's complement, big-endian, of any lengths. */
static int order_decimal(struct slice a, struct slice b)
{
    uint8_t fill_a = a.len && a.ptr[0] >= 0x80 ? 0xff : 0;
    uint8_t fill_b = b.len && b.ptr[0] >= 0x80 ? 0xff : 0;
    size_t n = a.len > b.len ? a.len : b.len;

    if (fill_a != fill_b)
        return fill_a ? -1 : 1;
    for (size_t i = 0; i < n; i++) {
        uint8_t x = n - i > a.len ? fill_a : a.ptr[i - (n - a.len)];
        uint8_t y = n - i > b.len ? fill_b : b.ptr[i - (n - b.len)];

        if (x != y)
            return x < y ? -1 : 1;
    }
    return 0;
}

int ice_value_compare(struct ice_type t, const struct ice_value *a, const struct ice_value *b)
{
    if (is_float(t.kind))
        return order_double(a->d, b->d);
    if (t.kind == ICE_DECIMAL)
        return order_decimal(a->bytes, b->bytes);
    if (is_bytes(t.kind))
        return order_bytes(a->bytes, b->bytes);
    return (a->i > b->i) - (a->i < b->i);
}

/* ---- binary form ---- */

/* Without the bytes that only repeat the sign. */
static struct slice decimal_least(struct slice s)
{
    while (s.len > 1 &&
           ((s.ptr[0] == 0 && s.ptr[1] < 0x80) || (s.ptr[0] == 0xff && s.ptr[1] >= 0x80)))
        s = slice_of(s.ptr + 1, s.len - 1);
    return s;
}

enum err ice_value_write(struct ice_type t, const struct ice_value *v, struct buf *out)
{
    uint8_t raw[8];
    uint64_t bits;
    uint32_t narrow;
    float f = (float)v->d;

    switch (t.kind) {
    case ICE_BOOLEAN:
        return buf_append_u8(out, v->i != 0);
    case ICE_INT:
    case ICE_DATE:
        le32_store(raw, (uint32_t)v->i);
        return buf_append(out, raw, 4);
    case ICE_FLOAT:
        memcpy(&narrow, &f, 4);
        le32_store(raw, narrow);
        return buf_append(out, raw, 4);
    case ICE_DOUBLE:
        memcpy(&bits, &v->d, 8);
        le64_store(raw, bits);
        return buf_append(out, raw, 8);
    case ICE_DECIMAL:
        return buf_append_slice(out, decimal_least(v->bytes));
    case ICE_STRING:
    case ICE_UUID:
    case ICE_FIXED:
    case ICE_BINARY:
        return buf_append_slice(out, v->bytes);
    default:
        ASSERT(t.kind < ICE_PRIMITIVES);
        le64_store(raw, (uint64_t)v->i);
        return buf_append(out, raw, 8);
    }
}

static bool read_float(struct slice s, double *out)
{
    uint32_t bits;
    uint64_t wide;
    float f;

    if (s.len == 4) {
        bits = le32_load(s.ptr);
        memcpy(&f, &bits, 4);
        *out = (double)f;
    } else if (s.len == 8) {
        wide = le64_load(s.ptr);
        memcpy(out, &wide, 8);
    }
    return s.len == 4 || s.len == 8;
}

bool ice_value_read(struct ice_type t, struct slice s, struct ice_value *v)
{
    *v = (struct ice_value){0};
    switch (t.kind) {
    case ICE_BOOLEAN:
        v->i = s.len && s.ptr[0];
        return s.len == 1;
    case ICE_INT:
    case ICE_DATE:
        v->i = s.len == 4 ? (int32_t)le32_load(s.ptr) : 0;
        return s.len == 4;
    case ICE_FLOAT:
        return s.len == 4 && read_float(s, &v->d);
    case ICE_DOUBLE:
        return read_float(s, &v->d);
    case ICE_STRING:
    case ICE_BINARY:
        v->bytes = s.ptr ? s : SLICE_LIT("");
        return true;
    case ICE_DECIMAL:
        v->bytes = s;
        return s.len >= 1 && s.len <= 16;
    case ICE_UUID:
        v->bytes = s;
        return s.len == 16;
    case ICE_FIXED:
        v->bytes = s;
        return s.len == t.len;
    case ICE_LONG:
        if (s.len == 4) { /* an int, then */
            v->i = (int32_t)le32_load(s.ptr);
            return true;
        }
        /* fallthrough */
    default:
        v->i = s.len == 8 ? (int64_t)le64_load(s.ptr) : 0;
        return s.len == 8 && t.kind < ICE_PRIMITIVES;
    }
}

/* ---- hash ---- */

static uint32_t rotate(uint32_t v, unsigned by)
{
    return (v << by) | (v >> (32 - by));
}

static uint32_t mix_word(uint32_t k)
{
    return rotate(k * 0xcc9e2d51u, 15) * 0x1b873593u;
}

uint32_t murmur3_32(const void *p, size_t n)
{
    const uint8_t *at = p;
    uint32_t h = 0, k = 0;
    size_t i;

    for (i = 0; i + 4 <= n; i += 4)
        h = rotate(h ^ mix_word(le32_load(at + i)), 13) * 5 + 0xe6546b64u;
    switch (n & 3) {
    case 3:
        k ^= (uint32_t)at[i + 2] << 16; /* fallthrough */
    case 2:
        k ^= (uint32_t)at[i + 1] << 8; /* fallthrough */
    case 1:
        h ^= mix_word(k ^ at[i]);
    }
    h ^= (uint32_t)n;
    h = (h ^ (h >> 16)) * 0x85ebca6bu;
    h = (h ^ (h >> 13)) * 0xc2b2ae35u;
    return h ^ (h >> 16);
}

bool ice_value_hashes(enum ice_kind k)
{
    return k < ICE_PRIMITIVES && k != ICE_BOOLEAN && !is_float(k);
}

uint32_t ice_value_hash(struct ice_type t, const struct ice_value *v)
{
    uint8_t raw[8];
    int64_t i = v->i;

    ASSERT(ice_value_hashes(t.kind) && !v->null);
    if (t.kind == ICE_DECIMAL) {
        struct slice s = decimal_least(v->bytes);

        return murmur3_32(s.ptr, s.len);
    }
    if (is_bytes(t.kind))
        return murmur3_32(v->bytes.ptr, v->bytes.len);
    if (t.kind == ICE_TIMESTAMP_NS || t.kind == ICE_TIMESTAMPTZ_NS) /* as in microseconds */
        i = i / 1000 - (i % 1000 < 0);
    le64_store(raw, (uint64_t)i);
    return murmur3_32(raw, 8);
}

/* ---- bounds ---- */

struct slice utf8_first(struct slice s, size_t n)
{
    size_t at = 0;

    while (n-- && at < s.len) {
        size_t step = utf8_next(slice_of(s.ptr + at, s.len - at));

        at += step ? step : 1;
    }
    return slice_of(s.ptr, at);
}

static struct slice cut(struct ice_type t, struct slice s)
{
    if (t.kind == ICE_STRING)
        return utf8_first(s, ICE_BOUND_LEN);
    if (t.kind == ICE_BINARY && s.len > ICE_BOUND_LEN)
        return slice_of(s.ptr, ICE_BOUND_LEN);
    return s;
}

enum err ice_bound_lower(struct ice_type t, const struct ice_value *v, struct buf *out, bool *some)
{
    struct ice_value low = *v;

    *some = !v->null && !(is_float(t.kind) && isnan(v->d));
    if (!*some)
        return ERR_OK;
    low.bytes = cut(t, v->bytes);
    return ice_value_write(t, &low, out);
}

static uint32_t utf8_code(const uint8_t *p, size_t n)
{
    if (n == 1)
        return p[0];
    if (n == 2)
        return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    if (n == 3)
        return (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 |
           (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
}

static size_t utf8_put(uint32_t c, uint8_t out[4])
{
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};

    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (uint8_t)(0x80 | (c & 0x3f));
    out[0] = (uint8_t)(lead[n] | c);
    return n;
}

/* The last character that has a next one is raised, what follows it dropped. */
static enum err raise_text(struct slice s, struct buf *out, bool *some)
{
    size_t end = s.len;

    while (end) {
        size_t at = end - 1;
        uint8_t raw[4];
        uint32_t c;
        enum err e;

        while (at > 0 && end - at < 4 && (s.ptr[at] & 0xc0) == 0x80)
            at--;
        c = utf8_code(s.ptr + at, end - at);
        if (utf8_next(slice_of(s.ptr + at, end - at)) == end - at && c < 0x10ffff) {
            c = c == 0xd7ff ? 0xe000 : c + 1; /* surrogates are no characters */
            e = buf_append(out, s.ptr, at);
            return e ? e : buf_append(out, raw, utf8_put(c, raw));
        }
        end = at;
    }
    *some = false;
    return ERR_OK;
}

static enum err raise_bytes(struct slice s, struct buf *out, bool *some)
{
    enum err e;

    while (s.len && s.ptr[s.len - 1] == 0xff)
        s.len--;
    *some = s.len > 0;
    if (!*some)
        return ERR_OK;
    e = buf_append(out, s.ptr, s.len - 1);
    return e ? e : buf_append_u8(out, (uint8_t)(s.ptr[s.len - 1] + 1));
}

enum err ice_bound_upper(struct ice_type t, const struct ice_value *v, struct buf *out, bool *some)
{
    struct slice s;

    *some = !v->null && !(is_float(t.kind) && isnan(v->d));
    if (!*some)
        return ERR_OK;
    s = cut(t, v->bytes);
    if (s.len == v->bytes.len)
        return ice_value_write(t, v, out);
    return t.kind == ICE_STRING ? raise_text(s, out, some) : raise_bytes(s, out, some);
}
