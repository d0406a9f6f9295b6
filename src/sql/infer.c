/* See infer.h. Members are looked for first at the place behind the last one found, as records of
 * one kind have theirs in one order. */
#include "sql/infer.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"
#include "base/tbl/limits.h"

void infer_init(struct infer *f)
{
    memset(f, 0, sizeof *f);
    map_init(&f->by_name, LIMIT_SQL_FIELDS + 1, NULL);
}

void infer_fini(struct infer *f)
{
    uint32_t i;

    for (i = 0; i < f->n; i++) {
        free(f->fields[i].name);
        free(f->fields[i].column);
    }
    free(f->fields);
    map_fini(&f->by_name);
    memset(f, 0, sizeof *f);
}

bool infer_reserved(const char *name)
{
    static const char *const record[] = {"topic", "partition", "offset",  "position", "timestamp",
                                         "key",   "value",     "headers", "ce_type",  "ce_id"};
    size_t i;

    for (i = 0; i < sizeof record / sizeof *record; i++)
        if (!strcasecmp(name, record[i]))
            return true;
    return false;
}

void infer_column_name(struct slice field, bool (*taken)(void *arg, const char *name), void *arg,
                       char *out)
{
    int len = (int)(field.len < LIMIT_SQL_FIELD_NAME ? field.len : LIMIT_SQL_FIELD_NAME);
    unsigned k;

    snprintf(out, SQL_COLUMN_NAME_MAX + 1, "%.*s", len, (const char *)field.ptr);
    if (len && !infer_reserved(out) && !taken(arg, out))
        return;
    snprintf(out, SQL_COLUMN_NAME_MAX + 1, "value_%.*s", len, (const char *)field.ptr);
    for (k = 2; infer_reserved(out) || taken(arg, out); k++)
        snprintf(out, SQL_COLUMN_NAME_MAX + 1, "value_%.*s_%u", len, (const char *)field.ptr, k);
}

static bool column_taken(void *arg, const char *name)
{
    const struct infer *f = arg;
    uint32_t i;

    for (i = 0; i < f->n; i++)
        if (!strcasecmp(f->fields[i].column, name))
            return true;
    return false;
}

uint32_t infer_find(const struct infer *f, struct slice name)
{
    const void *v = map_find(&f->by_name, name);

    return v ? (uint32_t)(uintptr_t)v - 1 : UINT32_MAX;
}

static uint32_t field_add(struct infer *f, struct slice name)
{
    char column[SQL_COLUMN_NAME_MAX + 1];
    struct infer_field *x;

    if (f->n >= LIMIT_SQL_FIELDS) {
        f->full = true;
        return UINT32_MAX;
    }
    if (name.len > LIMIT_SQL_FIELD_NAME || memchr(name.ptr, 0, name.len) || !text_valid(name))
        return UINT32_MAX;
    if (f->n == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 16;
        f->fields = xrealloc(f->fields, f->cap * sizeof *f->fields);
    }
    infer_column_name(name, column_taken, f, column);
    x = &f->fields[f->n];
    x->name = xmalloc(name.len + 1);
    memcpy(x->name, name.ptr, name.len);
    x->name[name.len] = 0;
    x->name_len = (uint32_t)name.len;
    x->column = xstrdup(column);
    x->seen = 0;
    map_put(&f->by_name, slice_of(x->name, x->name_len), (void *)(uintptr_t)(f->n + 1));
    f->version++;
    return f->n++;
}

uint32_t infer_field(struct infer *f, struct slice name)
{
    uint32_t i = infer_find(f, name);

    return i == UINT32_MAX ? field_add(f, name) : i;
}

enum sql_type infer_type(const struct infer_field *f)
{
    switch (f->seen) {
    case INFER_BOOLEAN:
        return SQL_BOOLEAN;
    case INFER_WHOLE:
        return SQL_BIGINT;
    case INFER_NUMBER:
    case INFER_NUMBER | INFER_WHOLE:
        return SQL_DOUBLE;
    case INFER_NESTED:
        return SQL_JSON;
    default:
        return SQL_VARCHAR;
    }
}

/* 0: nothing, or nothing that is not in `seen`. */
static uint8_t bit_of(const struct field_value *v, uint8_t seen)
{
    int64_t i;
    double d;

    switch (v->kind) {
    case FIELD_TRUE:
    case FIELD_FALSE:
        return INFER_BOOLEAN;
    case FIELD_NUMBER:
        if ((seen & (INFER_WHOLE | INFER_NUMBER)) == (INFER_WHOLE | INFER_NUMBER))
            return 0;
        if (field_i64(v->text, &i))
            return INFER_WHOLE;
        if (seen & INFER_NUMBER)
            return 0; /* reading fractions is what takes longest */
        return field_f64(v->text, &d) ? INFER_NUMBER : 0;
    case FIELD_STRING:
        return INFER_STRING;
    case FIELD_OBJECT:
    case FIELD_ARRAY:
        return INFER_NESTED;
    default:
        return 0;
    }
}

bool infer_widen(struct infer *f, uint32_t i, const struct field_value *v)
{
    struct infer_field *x = &f->fields[i];
    uint8_t bit = bit_of(v, x->seen);
    enum sql_type was = infer_type(x);

    if (!bit || (x->seen & bit))
        return false;
    x->seen |= bit;
    if (infer_type(x) == was)
        return false;
    f->version++;
    return true;
}

bool infer_value(struct infer *f, struct slice value)
{
    struct field_members m;
    struct field_value v;
    struct slice key;
    uint8_t tmp[FIELD_KEY_MAX];
    uint64_t version = f->version;
    uint32_t i;
    bool escaped;

    f->next = 0;
    if (!field_members_init(&m, value))
        return false;
    while (field_members_next(&m, &key, &escaped, &v)) {
        if (escaped) {
            size_t len = key.len <= sizeof tmp ? field_unescape(key, tmp) : SIZE_MAX;

            if (len == SIZE_MAX)
                continue;
            key = slice_of(tmp, len);
        }
        i = f->next;
        if (i >= f->n || f->fields[i].name_len != key.len ||
            memcmp(f->fields[i].name, key.ptr, key.len) != 0)
            i = infer_field(f, key);
        if (i == UINT32_MAX)
            continue;
        f->next = i + 1;
        infer_widen(f, i, &v);
    }
    return f->version != version;
}

bool infer_merge(struct infer *f, const struct infer *from)
{
    uint64_t version = f->version;
    uint32_t i, at;

    for (i = 0; i < from->n; i++) {
        const struct infer_field *x = &from->fields[i];
        enum sql_type was;

        at = infer_field(f, slice_of(x->name, x->name_len));
        if (at == UINT32_MAX)
            continue;
        was = infer_type(&f->fields[at]);
        f->fields[at].seen |= x->seen;
        if (infer_type(&f->fields[at]) != was)
            f->version++;
    }
    f->full = f->full || from->full;
    return f->version != version;
}
