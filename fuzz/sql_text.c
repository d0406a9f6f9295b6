/* Fuzzing of what is done to a statement before DuckDB has it, and of the reader of its tree. An
 * input begins with a byte: even: a statement follows, odd: a tree in JSON. Checked beside the
 * sanitizers: a statement comes out as a text of its own length; what was put in is where it is said
 * to be, and without it the statement is as it was, unless it looks back or asks what there is; places
 * of errors are in the statement; bounds are never turned around by a tree that says nothing. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "sql/sql_int.h"

#define INPUT_MAX 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whether names in the statement may be replaced. */
static bool renames(const char *text)
{
    return strcasestr(text, "at") || strcasestr(text, "show") ||
           strcasestr(text, "information_schema");
}

static void statement(struct slice text)
{
    struct rewrite r;
    char *z = xcalloc(1, text.len + 1);
    size_t i, d = 0, k = 0, len;

    for (i = 0; i < text.len; i++)
        z[i] = text.ptr[i] ? (char)text.ptr[i] : ' ';
    rewrite_make(&r, text);
    len = strlen(r.full);
    ASSERT(r.text >= r.full && r.text + r.len == r.full + len);
    for (i = 0; i < r.at_n; i++) {
        ASSERT(r.at[i] < len && (i == 0 || r.at[i] > r.at[i - 1]));
        ASSERT(r.full[r.at[i]] == '(' || r.full[r.at[i]] == ')');
    }
    for (i = 0; i < len && !renames(z); i++) {
        if (k < r.at_n && r.at[k] == i)
            k++;
        else
            ASSERT(r.full[i] == z[d++]);
    }
    for (i = 0; i <= len; i += 1 + len / 16)
        ASSERT(rewrite_origin(&r, text, i) <= text.len + 1);
    rewrite_fini(&r);
    free(z);
}

static void tree(struct slice json)
{
    static const struct sql_param params[] = {
        {.type = SQL_BIGINT, .i64 = 5}, {.type = SQL_NULL}, {.type = SQL_TIMESTAMP_TZ, .i64 = -1}};
    static const struct sql_request rq = {.params = params, .params_n = 3};
    struct plan *p = xmalloc(sizeof *p);
    struct plan_tree t;
    uint32_t i;

    plan_init(p, NULL, &rq);
    plan_tree_read(p, json, 1700000000000, &t);
    ASSERT(t.error == PLAN_TREE_OK || t.message);
    for (i = 0; i < p->bounds_n; i++)
        ASSERT(p->bounds[i].name && p->bounds[i].b.partition >= -1);
    plan_tree_fini(&t);
    plan_fini(p);
    free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy;

    if (size < 2 || size > INPUT_MAX)
        return 0;
    copy = xmemdup(data + 1, size - 1); /* nothing behind it */
    if (data[0] & 1)
        tree(slice_of(copy, size - 1));
    else
        statement(slice_of(copy, size - 1));
    free(copy);
    return 0;
}
