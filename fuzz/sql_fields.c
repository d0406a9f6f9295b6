/* Fuzzing of the scanner of records' values. An input is a record's value. Checked beside the
 * sanitizers: a member that is found lies within the value; walking the members and looking for them
 * by name agree; where jansson takes the whole value, what is found is what jansson has. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "sql/field.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void within(struct slice whole, const struct field_value *v)
{
    if (v->kind >= FIELD_NUMBER)
        ASSERT(v->text.ptr >= whole.ptr && v->text.ptr + v->text.len <= whole.ptr + whole.len);
}

static void same(const struct field_value *v, const json_t *j)
{
    static const enum field_kind kinds[] = {
        [JSON_OBJECT] = FIELD_OBJECT,  [JSON_ARRAY] = FIELD_ARRAY, [JSON_STRING] = FIELD_STRING,
        [JSON_INTEGER] = FIELD_NUMBER, [JSON_REAL] = FIELD_NUMBER, [JSON_TRUE] = FIELD_TRUE,
        [JSON_FALSE] = FIELD_FALSE,    [JSON_NULL] = FIELD_NULL};
    uint8_t *text;
    int64_t n;
    double d;

    ASSERT(v->kind == kinds[json_typeof(j)]);
    if (json_is_integer(j))
        ASSERT(field_i64(v->text, &n) && n == json_integer_value(j));
    if (json_is_real(j))
        ASSERT(field_f64(v->text, &d) && d == json_real_value(j));
    if (!json_is_string(j))
        return;
    text = xmalloc(v->text.len + 1);
    n = v->escaped ? (int64_t)field_unescape(v->text, text) : (int64_t)v->text.len;
    ASSERT((size_t)n == json_string_length(j));
    ASSERT(n == 0 || !memcmp(v->escaped ? text : v->text.ptr, json_string_value(j), (size_t)n));
    free(text);
}

/* Each member by name, as the set of two finds it. */
static void by_name(struct slice value)
{
    struct slice names[] = {SLICE_LIT("a"), SLICE_LIT("b")};
    struct field_value found[2];
    struct field_set set;
    json_error_t why;
    json_t *j = NULL;
    unsigned i;

    if (!memchr(value.ptr, 0, value.len)) /* jansson passes over it behind numbers */
        j = json_loadb((const char *)value.ptr, value.len, JSON_REJECT_DUPLICATES, &why);
    field_set_init(&set, names, 2);
    field_set_scan(&set, value, found);
    for (i = 0; i < 2; i++) {
        const json_t *m = json_object_get(j, i ? "b" : "a");

        within(value, &found[i]);
        if (m)
            same(&found[i], m);
        else if (json_is_object(j))
            ASSERT(found[i].kind == FIELD_MISSING);
    }
    field_set_fini(&set);
    json_decref(j);
}

static void walk(struct slice value)
{
    struct field_members m;
    struct field_value v;
    struct slice key;
    bool escaped;
    uint8_t *out;
    size_t n;

    if (!field_members_init(&m, value))
        return;
    while (field_members_next(&m, &key, &escaped, &v)) {
        ASSERT(key.ptr >= value.ptr && key.ptr + key.len <= value.ptr + value.len);
        within(value, &v);
        out = xmalloc(v.text.len + 1);
        n = v.kind == FIELD_STRING ? field_unescape(v.text, out) : 0;
        ASSERT(n == SIZE_MAX || n <= v.text.len);
        free(out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = xmalloc(size ? size : 1); /* nothing behind it */
    struct slice value = slice_of(copy, size);
    char *text;

    if (size)
        memcpy(copy, data, size);
    walk(value);
    by_name(value);
    text = xmalloc(text_escaped_len(value) + 1);
    ASSERT(text_escape(value, text) <= text_escaped_len(value));
    free(text);
    free(copy);
    return 0;
}
