/* Records into DuckDB's vectors. Strings are not copied: the elements point into the log's memory,
 * an inflated batch, or memory of the scan, all of which outlive the chunk (see scan.h). */
#include <stdlib.h>

#include "base/mem.h"
#include "base/timefmt.h"
#include "sql/duckdb_int.h"

/* ---- elements ---- */

void string_put(duckdb_string_t *dst, struct slice s)
{
    uint32_t n = (uint32_t)s.len;

    dst->value.inlined.length = n;
    if (n <= 12) {
        memset(dst->value.inlined.inlined, 0, 12);
        if (n)
            memcpy(dst->value.inlined.inlined, s.ptr, n);
    } else {
        memcpy(dst->value.pointer.prefix, s.ptr, 4);
        dst->value.pointer.ptr = (char *)(uintptr_t)s.ptr;
    }
}

void vector_null(duckdb_vector v, uint64_t row)
{
    uint64_t *valid = ddb.vector_get_validity(v);

    if (!valid) {
        ddb.vector_ensure_validity_writable(v);
        valid = ddb.vector_get_validity(v);
    }
    valid[row >> 6] &= ~(1ull << (row & 63));
}

/* As DuckDB casts blobs to text: what is not printable ASCII, and the backslash, as \xAB. */
static bool plain(uint8_t c)
{
    return c >= 32 && c < 127 && c != '\\' && c != '\'' && c != '"';
}

size_t text_escaped_len(struct slice s)
{
    size_t i, n = 0;

    for (i = 0; i < s.len; i++)
        n += plain(s.ptr[i]) ? 1 : 4;
    return n;
}

size_t text_escape(struct slice s, char *dst)
{
    static const char hex[] = "0123456789ABCDEF";
    char *d = dst;
    size_t i;

    for (i = 0; i < s.len; i++) {
        if (plain(s.ptr[i])) {
            *d++ = (char)s.ptr[i];
            continue;
        }
        *d++ = '\\';
        *d++ = 'x';
        *d++ = hex[s.ptr[i] >> 4];
        *d++ = hex[s.ptr[i] & 15];
    }
    return (size_t)(d - dst);
}

static void text_put(struct scan *s, duckdb_string_t *dst, struct slice bytes)
{
    if (!text_valid(bytes)) {
        size_t n = text_escaped_len(bytes);
        char *t = scan_alloc(s, n);

        bytes = slice_of(t, text_escape(bytes, t));
    }
    string_put(dst, bytes);
}

/* ---- columns of records ---- */

static void fill_bytes(const struct fill_column *c, struct scan *s, const struct scan_rows *r)
{
    duckdb_string_t *d = ddb.vector_get_data(c->vector);
    bool key = c->column->source == SQL_FROM_KEY, blob = c->column->type == SQL_BLOB;
    uint32_t i;

    for (i = 0; i < r->n; i++) {
        struct slice v = key ? r->rec[i].key : r->rec[i].value;

        if (slice_is_null(v))
            vector_null(c->vector, i);
        else if (blob)
            string_put(&d[i], v);
        else
            text_put(s, &d[i], v);
    }
}

/* All headers of the rows, behind one another. */
static void fill_headers(const struct fill_column *c, struct scan *s, const struct scan_rows *r)
{
    duckdb_list_entry *d = ddb.vector_get_data(c->vector);
    duckdb_vector child = ddb.list_vector_get_child(c->vector), keys, values;
    duckdb_string_t *k, *v;
    struct record_header *h;
    uint64_t total = 0, at = 0;
    uint32_t i, n, most = 1;

    for (i = 0; i < r->n; i++) {
        total += r->rec[i].headers_n;
        most = r->rec[i].headers_n > most ? r->rec[i].headers_n : most;
    }
    ddb.list_vector_reserve(c->vector, total);
    ddb.list_vector_set_size(c->vector, total);
    child = ddb.list_vector_get_child(c->vector);
    keys = ddb.struct_vector_get_child(child, 0);
    values = ddb.struct_vector_get_child(child, 1);
    k = ddb.vector_get_data(keys);
    v = ddb.vector_get_data(values);
    h = xmalloc(most * sizeof *h);
    for (i = 0; i < r->n; i++) {
        uint32_t x;

        if (r->rec[i].headers_n == 0 || record_headers(&r->rec[i], h, most, &n))
            n = 0;
        d[i] = (duckdb_list_entry){at, n};
        for (x = 0; x < n; x++, at++) {
            text_put(s, &k[at], h[x].key);
            if (slice_is_null(h[x].value))
                vector_null(values, at);
            else if (c->column->type == SQL_BLOB)
                string_put(&v[at], h[x].value);
            else
                text_put(s, &v[at], h[x].value);
        }
    }
    ddb.list_vector_set_size(c->vector, at);
    free(h);
}

/* ce_type, ce_id: the first header of that name. */
static void fill_attribute(const struct fill_column *c, struct scan *s, const struct scan_rows *r)
{
    duckdb_string_t *d = ddb.vector_get_data(c->vector);
    struct slice want =
        c->column->source == SQL_FROM_CE_TYPE ? SLICE_LIT("ce_type") : SLICE_LIT("ce_id");
    struct record_header h[LIMIT_RECORD_HEADERS];
    uint32_t i, k, n;

    for (i = 0; i < r->n; i++) {
        struct slice raw = r->rec[i].headers_raw;

        n = 0; /* most records have no such header: no need to take them apart for that */
        if (r->rec[i].headers_n && memmem(raw.ptr, raw.len, want.ptr, want.len) &&
            record_headers(&r->rec[i], h, LIMIT_RECORD_HEADERS, &n))
            n = 0;
        for (k = 0; k < n && !slice_eq(h[k].key, want); k++)
            ;
        if (k == n || slice_is_null(h[k].value))
            vector_null(c->vector, i);
        else
            text_put(s, &d[i], h[k].value);
    }
}

static void fill_record_column(const struct fill_column *c, struct scan *s,
                               const struct scan_rows *r, const char *topic)
{
    void *d = ddb.vector_get_data(c->vector);
    uint32_t i;

    switch (c->column->source) {
    case SQL_FROM_TOPIC:
        for (i = 0; i < r->n; i++) /* the topic is referenced longer than any chunk lives */
            string_put((duckdb_string_t *)d + i, slice_str(topic));
        break;
    case SQL_FROM_PARTITION:
        for (i = 0; i < r->n; i++)
            ((int32_t *)d)[i] = r->partition;
        break;
    case SQL_FROM_OFFSET:
        for (i = 0; i < r->n; i++)
            ((int64_t *)d)[i] = r->rec[i].offset;
        break;
    case SQL_FROM_POSITION:
        memcpy(d, r->position, r->n * sizeof r->position[0]);
        break;
    case SQL_FROM_TIMESTAMP:
        for (i = 0; i < r->n; i++)
            ((int64_t *)d)[i] = time_us(r->rec[i].timestamp_ms);
        break;
    case SQL_FROM_KEY:
    case SQL_FROM_VALUE:
        fill_bytes(c, s, r);
        break;
    case SQL_FROM_HEADERS:
        fill_headers(c, s, r);
        break;
    default:
        fill_attribute(c, s, r);
    }
}

/* ---- fields ---- */

/* The text that a value is in a column of text: strings unescaped. false: a string that is none. */
static bool value_text(struct scan *s, const struct field_value *v, duckdb_string_t *dst)
{
    struct slice t = v->text;

    if (v->kind == FIELD_STRING && v->escaped) {
        uint8_t *u = scan_alloc(s, t.len);
        size_t n = field_unescape(t, u);

        if (n == SIZE_MAX)
            return false;
        t = slice_of(u, n);
    }
    text_put(s, dst, t);
    return true;
}

static bool value_json(struct scan *s, const struct field_value *v, duckdb_string_t *dst)
{
    struct slice t = v->text;

    if (v->kind == FIELD_STRING) /* with its quotes, which are there */
        t = slice_of(t.ptr - 1, t.len + 2);
    text_put(s, dst, t);
    return true;
}

/* Puts a value into element i of a vector's data, if it fits the type. */
static bool value_put(struct scan *s, enum sql_type type, const struct field_value *v, void *d,
                      uint32_t i)
{
    int64_t n;
    double f;

    switch (type) {
    case SQL_BOOLEAN:
        ((uint8_t *)d)[i] = v->kind == FIELD_TRUE;
        return v->kind == FIELD_TRUE || v->kind == FIELD_FALSE;
    case SQL_BIGINT:
        return v->kind == FIELD_NUMBER && field_i64(v->text, &((int64_t *)d)[i]);
    case SQL_INTEGER:
        if (v->kind != FIELD_NUMBER || !field_i64(v->text, &n) || n != (int32_t)n)
            return false;
        ((int32_t *)d)[i] = (int32_t)n;
        return true;
    case SQL_DOUBLE:
        return v->kind == FIELD_NUMBER && field_f64(v->text, &((double *)d)[i]);
    case SQL_FLOAT:
        if (v->kind != FIELD_NUMBER || !field_f64(v->text, &f))
            return false;
        ((float *)d)[i] = (float)f;
        return true;
    case SQL_JSON:
        return value_json(s, v, (duckdb_string_t *)d + i);
    default:
        return value_text(s, v, (duckdb_string_t *)d + i);
    }
}

/* Would it fit? For the column of what does not. */
static bool value_fits(enum sql_type type, const struct field_value *v)
{
    int64_t n;
    double f;

    switch (type) {
    case SQL_BOOLEAN:
        return v->kind == FIELD_TRUE || v->kind == FIELD_FALSE;
    case SQL_BIGINT:
        return v->kind == FIELD_NUMBER && field_i64(v->text, &n);
    case SQL_INTEGER:
        return v->kind == FIELD_NUMBER && field_i64(v->text, &n) && n == (int32_t)n;
    case SQL_DOUBLE:
    case SQL_FLOAT:
        return v->kind == FIELD_NUMBER && field_f64(v->text, &f);
    default:
        return true;
    }
}

/* Learnt columns of JSON hold objects and arrays only: else the type is to widen. */
static bool learnt_ok(const struct sql_column *c, const struct field_value *v)
{
    return c->type != SQL_JSON || v->kind == FIELD_OBJECT || v->kind == FIELD_ARRAY;
}

static bool fill_field(struct fill *f, const struct fill_column *c, struct scan *s, void *data,
                       uint32_t row)
{
    const struct field_value *v = &f->values[c->field];
    bool learnt = c->column >= f->table->columns + f->table->learnt_from;

    if (v->kind == FIELD_MISSING || v->kind == FIELD_NULL) {
        vector_null(c->vector, row);
        return true;
    }
    if (c->column->source == SQL_FROM_MISFIT) {
        if (value_fits(c->column->type_of, v) || !value_text(s, v, (duckdb_string_t *)data + row))
            vector_null(c->vector, row);
        return true;
    }
    if (value_put(s, c->column->type, v, data, row) && (!learnt || learnt_ok(c->column, v)))
        return true;
    vector_null(c->vector, row);
    return !learnt && !c->textless;
}

/* A value of the row does not fit. true: it is as wide as can be (no JSON after all), or cannot be told. */
static bool misfit_passes(struct fill *f, const struct fill_column *c)
{
    const struct field_value *v = &f->values[c->field];
    struct sql *s = f->table->plan->sql;
    struct topic *t = f->table->view.topic;

    if (c->textless)
        return !schema_misfit_learn(s, t, c->column, v);
    return schema_misfit(s, t, slice_str(c->column->field), v) == c->column->type;
}

static bool fill_fields(struct fill *f, struct scan *s, const struct scan_rows *rows)
{
    void *data[64], **d = f->columns_n <= 64 ? data : xmalloc(f->columns_n * sizeof *d);
    bool fits = true;
    uint32_t i, c;

    for (c = 0; c < f->columns_n; c++)
        d[c] = ddb.vector_get_data(f->columns[c].vector);
    for (i = 0; fits && i < rows->n; i++) {
        field_set_scan(&f->set, rows->rec[i].value, f->values);
        for (c = 0; c < f->columns_n; c++) { /* all of a row: each may be a column to learn */
            const struct fill_column *fc = &f->columns[c];

            if (fc->field != UINT32_MAX && !fill_field(f, fc, s, d[c], i))
                fits = misfit_passes(f, fc) && fits;
        }
    }
    if (d != data)
        free(d);
    return fits;
}

bool fill_rows(struct fill *f, struct scan *s, const struct scan_rows *rows)
{
    const char *topic = topic_name(f->table->view.topic);
    uint32_t c;

    for (c = 0; c < f->columns_n; c++)
        if (f->columns[c].field == UINT32_MAX)
            fill_record_column(&f->columns[c], s, rows, topic);
    return f->set.n == 0 || fill_fields(f, s, rows);
}

void fill_init(struct fill *f, struct plan_table *t, uint32_t columns_n)
{
    memset(f, 0, sizeof *f);
    f->table = t;
    f->columns = xcalloc(columns_n ? columns_n : 1, sizeof *f->columns);
    f->columns_n = columns_n;
}

/* A column of a field in the table, whose misfits have no column. */
static bool is_textless(const struct plan_table *t, const struct sql_column *c)
{
    uint32_t i;

    if (!t->learns || c->source != SQL_FROM_FIELD || c >= t->columns + t->learnt_from)
        return false;
    for (i = 0; i < t->learnt_from; i++)
        if (t->columns[i].source == SQL_FROM_MISFIT && !strcmp(t->columns[i].field, c->field))
            return false;
    return c->type != SQL_VARCHAR && c->type != SQL_JSON;
}

void fill_ready(struct fill *f)
{
    struct slice *names = xcalloc(f->columns_n ? f->columns_n : 1, sizeof *names);
    uint32_t c, k, n = 0;

    for (c = 0; c < f->columns_n; c++) {
        const struct sql_column *col = f->columns[c].column;

        f->columns[c].field = UINT32_MAX;
        if (col->source != SQL_FROM_FIELD && col->source != SQL_FROM_MISFIT)
            continue;
        for (k = 0; k < n && !slice_eq_str(names[k], col->field); k++)
            ;
        if (k == n)
            names[n++] = slice_str(col->field);
        f->columns[c].field = k;
        f->columns[c].textless = is_textless(f->table, col);
    }
    field_set_init(&f->set, names, n);
    f->values = xcalloc(n ? n : 1, sizeof *f->values);
    free(names);
}

void fill_fini(struct fill *f)
{
    if (f->set.name)
        field_set_fini(&f->set);
    free(f->values);
    free(f->columns);
}
