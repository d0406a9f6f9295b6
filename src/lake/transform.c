/* Partition transforms and specs. See transform.h. */
#include "lake/transform.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "lake/json.h"

/* ---- names ---- */

static const char *const words[] = {
    [TRANSFORM_IDENTITY] = "identity", [TRANSFORM_BUCKET] = "bucket",
    [TRANSFORM_TRUNCATE] = "truncate", [TRANSFORM_YEAR] = "year",
    [TRANSFORM_MONTH] = "month",       [TRANSFORM_DAY] = "day",
    [TRANSFORM_HOUR] = "hour",         [TRANSFORM_VOID] = "void",
    [TRANSFORM_UNKNOWN] = "unknown",
};

static bool has_arg(enum transform_kind k)
{
    return k == TRANSFORM_BUCKET || k == TRANSFORM_TRUNCATE;
}

void transform_text(struct transform t, char out[TRANSFORM_TEXT])
{
    if (has_arg(t.kind))
        snprintf(out, TRANSFORM_TEXT, "%s[%u]", words[t.kind], t.arg);
    else
        snprintf(out, TRANSFORM_TEXT, "%s", words[t.kind]);
}

/* "[16]" at the end of *s, which loses it; 0 if there is none or it is not 1 to 2^31-1. */
static uint32_t arg_take(struct slice *s)
{
    uint64_t v = 0, place = 1;
    size_t at;

    if (s->len < 3 || s->ptr[s->len - 1] != ']')
        return 0;
    for (at = s->len - 2; at > 0 && s->ptr[at] != '['; at--, place *= 10) {
        if (s->ptr[at] < '0' || s->ptr[at] > '9' || place > 1000000000)
            return 0;
        v += (uint64_t)(s->ptr[at] - '0') * place;
    }
    if (s->ptr[at] != '[' || v < 1 || v > INT32_MAX)
        return 0;
    s->len = at;
    return (uint32_t)v;
}

struct transform transform_parse(struct slice s)
{
    struct transform t = {.arg = arg_take(&s)};

    for (t.kind = 0; t.kind < TRANSFORM_UNKNOWN; t.kind++) {
        if (slice_eq_str(s, words[t.kind]) && has_arg(t.kind) == (t.arg != 0))
            return t;
    }
    return (struct transform){.kind = TRANSFORM_UNKNOWN};
}

/* ---- types ---- */

static bool is_stamp(enum ice_kind k)
{
    return k == ICE_TIMESTAMP || k == ICE_TIMESTAMPTZ || k == ICE_TIMESTAMP_NS ||
           k == ICE_TIMESTAMPTZ_NS;
}

bool transform_result(struct transform t, struct ice_type source, struct ice_type *result)
{
    enum ice_kind k = source.kind;

    *result = (struct ice_type){.kind = ICE_INT};
    switch (t.kind) {
    case TRANSFORM_IDENTITY:
    case TRANSFORM_VOID:
        *result = source;
        return k < ICE_PRIMITIVES;
    case TRANSFORM_BUCKET:
        return ice_value_hashes(k);
    case TRANSFORM_TRUNCATE:
        *result = source;
        return k == ICE_INT || k == ICE_LONG || k == ICE_DECIMAL || k == ICE_STRING ||
               k == ICE_BINARY;
    case TRANSFORM_DAY:
        result->kind = ICE_DATE;
        return is_stamp(k) || k == ICE_DATE;
    case TRANSFORM_YEAR:
    case TRANSFORM_MONTH:
        return is_stamp(k) || k == ICE_DATE;
    case TRANSFORM_HOUR:
        return is_stamp(k);
    default:
        result->kind = ICE_STRING;
        return false;
    }
}

/* ---- values ---- */

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Year and month (0 to 11) of a day since 1970-01-01, and the day of the month (Gregorian, also
 * before 1582; after H. Hinnant's days_from_civil). */
static void civil(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
    int64_t z = days + 719468, era = floor_div(z, 146097), y;
    unsigned doe = (unsigned)(z - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

    y = (int64_t)yoe + era * 400;
    *month = mp < 10 ? mp + 2 : mp - 10;
    *day = doy - (153 * mp + 2) / 5 + 1;
    *year = y + (*month <= 1);
}

static int64_t apply_time(enum transform_kind k, struct ice_type source, int64_t v)
{
    int64_t second =
        source.kind == ICE_TIMESTAMP_NS || source.kind == ICE_TIMESTAMPTZ_NS ? 1000000000 : 1000000;
    int64_t year;
    unsigned month, day;

    if (k == TRANSFORM_HOUR)
        return floor_div(v, 3600 * second);
    v = source.kind == ICE_DATE ? v : floor_div(v, 86400 * second);
    if (k == TRANSFORM_DAY)
        return v;
    civil(v, &year, &month, &day);
    return k == TRANSFORM_YEAR ? year - 1970 : (year - 1970) * 12 + month;
}

/* v - (v mod w), w > 0, of a two's complement big-endian number of at most 16 bytes. */
static struct slice truncate_decimal(struct slice s, uint32_t w, uint8_t scratch[16])
{
    __int128 v = s.len && s.ptr[0] >= 0x80 ? -1 : 0, rest;

    for (size_t i = 0; i < s.len && i < 16; i++)
        v = (__int128)((unsigned __int128)v << 8 | s.ptr[i]);
    rest = v % w;
    v = (__int128)((unsigned __int128)v - (unsigned __int128)(rest < 0 ? rest + w : rest));
    for (size_t i = 16; i-- > 0; v >>= 8)
        scratch[i] = (uint8_t)v;
    return slice_of(scratch, 16);
}

static void apply_truncate(uint32_t w, struct ice_type source, const struct ice_value *v,
                           uint8_t scratch[16], struct ice_value *out)
{
    int64_t rest = v->i % w;

    if (source.kind == ICE_STRING)
        out->bytes = utf8_first(v->bytes, w);
    else if (source.kind == ICE_BINARY)
        out->bytes.len = v->bytes.len < w ? v->bytes.len : w;
    else if (source.kind == ICE_DECIMAL)
        out->bytes = truncate_decimal(v->bytes, w, scratch);
    else /* the least number may pass below int64: it wraps, as elsewhere */
        out->i = (int64_t)((uint64_t)v->i - (uint64_t)(rest < 0 ? rest + w : rest));
}

void transform_apply(struct transform t, struct ice_type source, const struct ice_value *v,
                     uint8_t scratch[16], struct ice_value *out)
{
    *out = *v;
    if (v->null)
        return;
    switch (t.kind) {
    case TRANSFORM_IDENTITY:
        break;
    case TRANSFORM_BUCKET:
        *out =
            (struct ice_value){.i = (int64_t)((ice_value_hash(source, v) & 0x7fffffffu) % t.arg)};
        break;
    case TRANSFORM_TRUNCATE:
        apply_truncate(t.arg, source, v, scratch, out);
        break;
    case TRANSFORM_YEAR:
    case TRANSFORM_MONTH:
    case TRANSFORM_DAY:
    case TRANSFORM_HOUR:
        *out = (struct ice_value){.i = apply_time(t.kind, source, v->i)};
        break;
    default:
        *out = ICE_NULL;
    }
}

/* ---- folder names ---- */

enum err transform_path_text(struct slice s, struct buf *out)
{
    static const char hex[] = "0123456789ABCDEF";
    enum err e = ERR_OK;

    for (size_t i = 0; !e && i < s.len; i++) {
        uint8_t c = s.ptr[i];

        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            c == '-' || c == '_' || (c == '.' && s.len > 2))
            e = buf_append_u8(out, c);
        else
            e = buf_printf(out, "%%%c%c", hex[c >> 4], hex[c & 15]);
    }
    return e;
}

static enum err path_day(int64_t days, struct buf *out)
{
    unsigned month, day;
    int64_t year;

    civil(days, &year, &month, &day);
    return buf_printf(out, "%04lld-%02u-%02u", (long long)year, month + 1, day);
}

enum err transform_path(struct transform t, struct ice_type result, const struct ice_value *v,
                        struct buf *out)
{
    enum err e;

    if (v->null)
        return buf_append_str(out, "null");
    if (t.kind == TRANSFORM_YEAR)
        return buf_printf(out, "%04lld", (long long)(1970 + v->i));
    if (t.kind == TRANSFORM_MONTH)
        return buf_printf(out, "%04lld-%02lld", (long long)(1970 + floor_div(v->i, 12)),
                          (long long)(v->i - floor_div(v->i, 12) * 12 + 1));
    if (t.kind == TRANSFORM_HOUR) {
        e = path_day(floor_div(v->i, 24), out);
        return e ? e : buf_printf(out, "-%02lld", (long long)(v->i - floor_div(v->i, 24) * 24));
    }
    if (t.kind == TRANSFORM_DAY || result.kind == ICE_DATE)
        return path_day(v->i, out);
    if (result.kind == ICE_FLOAT || result.kind == ICE_DOUBLE)
        return buf_printf(out, "%.17g", v->d);
    if (result.kind == ICE_BOOLEAN)
        return buf_append_str(out, v->i ? "true" : "false");
    if (v->bytes.ptr)
        return transform_path_text(v->bytes, out);
    return buf_printf(out, "%lld", (long long)v->i);
}

/* ---- specs ---- */

void spec_free(struct spec **sp)
{
    struct spec *s = *sp;

    if (!s)
        return;
    for (uint32_t i = 0; i < s->n; i++) {
        free(s->field[i].name);
        free(s->field[i].transform_word);
    }
    free(s->field);
    free(s);
    *sp = NULL;
}

static enum err field_parse(const json_t *o, const struct schema *s, int32_t default_id,
                            struct spec_field *f, struct errinfo *info)
{
    const char *name = json_get_text(o, "name"), *word = json_get_text(o, "transform");
    const struct schema_field *column;

    if (!name || !word || !json_get_i32(o, "source-id", &f->source_id))
        return errinfo_set(info, ERR_CORRUPT_INPUT,
                           "a partition field lacks name, transform or source-id");
    f->name = xstrdup(name);
    f->transform_word = xstrdup(word);
    f->transform = transform_parse(slice_str(word));
    if (!json_get_i32(o, "field-id", &f->field_id))
        f->field_id = default_id; /* as version 1 left it out */
    column = s ? schema_find(s, f->source_id) : NULL;
    f->source = column ? column->type : (struct ice_type){.kind = ICE_STRING};
    if (!transform_result(f->transform, f->source, &f->result) &&
        (f->transform.kind == TRANSFORM_IDENTITY || f->transform.kind >= TRANSFORM_VOID))
        f->result = (struct ice_type){.kind = ICE_STRING};
    return ERR_OK;
}

enum err spec_parse(const json_t *o, const struct schema *s, struct spec **out,
                    struct errinfo *info)
{
    const json_t *fields = json_is_array(o) ? o : json_object_get(o, "fields"), *one;
    struct spec *spec;
    enum err e = ERR_OK;
    size_t i;

    *out = NULL;
    if (!json_is_array(fields) || json_array_size(fields) > LIMIT_LAKE_SPEC_FIELDS)
        return errinfo_set(info, ERR_CORRUPT_INPUT, "a partition spec has no list of fields");
    spec = xcalloc(1, sizeof *spec);
    spec->id = (int32_t)json_int_or(o, "spec-id", 0);
    spec->field = xcalloc(json_array_size(fields) + 1, sizeof *spec->field);
    json_array_foreach(fields, i, one)
    {
        spec->n++;
        e = field_parse(one, s, SPEC_FIRST_FIELD + (int32_t)i, &spec->field[i], info);
        if (e)
            break;
    }
    if (e)
        spec_free(&spec);
    *out = spec;
    return e;
}

/* A term: *column and *t. "bucket[16](key)", "bucket(16, key)" is not known; "key_bucket[16]". */
static enum err term_parse(const char *text, const struct schema *s,
                           const struct schema_field **column, struct transform *t,
                           struct errinfo *info)
{
    struct slice all = slice_str(text), name, fn = SLICE_NULL;
    const char *open = strchr(text, '(');
    struct ice_type result;
    uint32_t arg;

    name = all;
    if (open && all.len && text[all.len - 1] == ')') {
        fn = slice_of(text, (size_t)(open - text));
        name = slice_of(open + 1, all.len - fn.len - 2);
        *t = transform_parse(fn);
    } else {
        *t = (struct transform){.kind = TRANSFORM_IDENTITY};
        arg = arg_take(&name);
        for (unsigned k = TRANSFORM_BUCKET; arg && k <= TRANSFORM_TRUNCATE; k++) {
            size_t n = strlen(words[k]);

            if (name.len > n + 1 && memcmp(name.ptr + name.len - n, words[k], n) == 0 &&
                name.ptr[name.len - n - 1] == '_') {
                *t = (struct transform){.kind = k, .arg = arg};
                name.len -= n + 1;
                break;
            }
        }
    }
    *column = schema_find_name(s, name);
    if (!*column && slice_eq_str(name, "ts"))
        *column = schema_find_name(s, SLICE_LIT("timestamp"));
    if (t->kind == TRANSFORM_UNKNOWN)
        return errinfo_set(info, ERR_CONFIG, "\"%s\": no transform \"%.*s\"", text, (int)fn.len,
                           (const char *)fn.ptr);
    if (!*column)
        return errinfo_set(info, ERR_CONFIG, "\"%s\": there is no column \"%.*s\"", text,
                           (int)name.len, (const char *)name.ptr);
    if (!transform_result(*t, (*column)->type, &result) || !schema_once_a_row(s, (*column)->id))
        return errinfo_set(info, ERR_CONFIG, "\"%s\": %s does not apply to a column of its type",
                           text, words[t->kind]);
    return ERR_OK;
}

enum err spec_text_check(const char *text, const struct schema *s, struct errinfo *info)
{
    const struct schema_field *column;
    struct transform t;
    enum err e = term_parse(text, s, &column, &t, info);

    return e && t.kind != TRANSFORM_UNKNOWN && !column ? ERR_NOT_FOUND : e;
}

static const char *name_suffix(enum transform_kind k)
{
    return k == TRANSFORM_IDENTITY   ? ""
           : k == TRANSFORM_TRUNCATE ? "_trunc"
           : k == TRANSFORM_BUCKET   ? "_bucket"
           : k == TRANSFORM_YEAR     ? "_year"
           : k == TRANSFORM_MONTH    ? "_month"
           : k == TRANSFORM_DAY      ? "_day"
           : k == TRANSFORM_HOUR     ? "_hour"
                                     : "_null";
}

enum err spec_from_texts(const char *const *texts, unsigned n, const struct schema *s,
                         int32_t spec_id, int32_t first_id, struct spec **out, struct errinfo *info)
{
    struct spec *spec;
    enum err e = ERR_OK;

    *out = NULL;
    if (n > LIMIT_LAKE_SPEC_FIELDS)
        return errinfo_set(info, ERR_CONFIG, "more than %u partition fields",
                           LIMIT_LAKE_SPEC_FIELDS);
    spec = xcalloc(1, sizeof *spec);
    spec->id = spec_id;
    spec->field = xcalloc(n + 1, sizeof *spec->field);
    for (unsigned i = 0; !e && i < n; i++) {
        struct spec_field *f = &spec->field[i];
        const struct schema_field *column;
        char word[TRANSFORM_TEXT];
        size_t len;

        e = term_parse(texts[i], s, &column, &f->transform, info);
        if (e)
            break;
        spec->n++;
        transform_text(f->transform, word);
        f->transform_word = xstrdup(word);
        f->source_id = column->id;
        f->source = column->type;
        f->field_id = first_id + (int32_t)i;
        transform_result(f->transform, f->source, &f->result);
        len = strlen(column->name) + 16;
        f->name = xmalloc(len);
        snprintf(f->name, len, "%s%s", column->name, name_suffix(f->transform.kind));
        for (unsigned k = 0; k < i; k++) {
            if (strcmp(spec->field[k].name, f->name) == 0)
                e = errinfo_set(info, ERR_CONFIG, "\"%s\": the table is divided by this already",
                                texts[i]);
        }
    }
    if (e)
        spec_free(&spec);
    *out = spec;
    return e;
}

json_t *spec_fields_json(const struct spec *s)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < s->n; i++) {
        const struct spec_field *f = &s->field[i];

        json_array_append_new(list, json_pack("{s:i, s:i, s:s, s:s}", "source-id", f->source_id,
                                              "field-id", f->field_id, "name", f->name, "transform",
                                              f->transform_word));
    }
    return list;
}

json_t *spec_json(const struct spec *s)
{
    return json_pack("{s:i, s:o}", "spec-id", s->id, "fields", spec_fields_json(s));
}

bool spec_same(const struct spec *a, const struct spec *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++) {
        if (a->field[i].source_id != b->field[i].source_id ||
            strcmp(a->field[i].name, b->field[i].name) != 0 ||
            strcmp(a->field[i].transform_word, b->field[i].transform_word) != 0)
            return false;
    }
    return true;
}

/* ---- sort orders ---- */

/* Takes the word from the end of text (with the space before it); false: it does not end so. */
static bool ends_take(char *text, const char *word)
{
    size_t n = strlen(text), w = strlen(word);

    if (n <= w || text[n - w - 1] != ' ' || strcmp(text + n - w, word) != 0)
        return false;
    text[n - w - 1] = 0;
    return true;
}

enum err sort_order_from_texts(const char *const *texts, unsigned n, const struct schema *s,
                               int32_t order_id, json_t **out, struct errinfo *info)
{
    json_t *fields = json_array();
    enum err e = ERR_OK;

    *out = NULL;
    if (n > LIMIT_LAKE_SPEC_FIELDS)
        e = errinfo_set(info, ERR_CONFIG, "more than %u sort fields", LIMIT_LAKE_SPEC_FIELDS);
    for (unsigned i = 0; !e && i < n; i++) {
        char *text = xstrdup(texts[i]), word[TRANSFORM_TEXT];
        bool last = ends_take(text, "nulls last"), first = ends_take(text, "nulls first");
        bool down = ends_take(text, "desc");
        const struct schema_field *column;
        struct transform t;

        ends_take(text, "asc");
        e = term_parse(text, s, &column, &t, info);
        free(text);
        if (e)
            break;
        transform_text(t, word);
        json_array_append_new(
            fields, json_pack("{s:s, s:i, s:s, s:s}", "transform", word, "source-id", column->id,
                              "direction", down ? "desc" : "asc", "null-order",
                              first || (!last && !down) ? "nulls-first" : "nulls-last"));
    }
    if (e)
        json_decref(fields);
    else
        *out = json_pack("{s:i, s:o}", "order-id", n ? order_id : 0, "fields", fields);
    return e;
}
