/* The tree of a statement, as DuckDB's json_serialize_sql writes it: what bounds.c and partial.c read.
 * Private to src/sql. Any thread. */
#ifndef WEIR_SQL_TREE_H
#define WEIR_SQL_TREE_H

#include <jansson.h>
#include <string.h>

#include "base/slice.h"

/* Of the whole text; NULL: it is not JSON. The caller's reference. */
json_t *tree_load(struct slice json);

/* A member's text; "" if it is none. */
static inline const char *tree_str(const json_t *n, const char *key)
{
    const char *s = json_string_value(json_object_get(n, key));

    return s ? s : "";
}

static inline bool tree_is(const json_t *n, const char *key, const char *value)
{
    return !strcmp(tree_str(n, key), value);
}

#endif
