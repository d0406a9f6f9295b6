/* Reading members of JSON objects that others wrote, by jansson. Header only; private to the lake
 * and to those who speak its catalog's protocol. */
#ifndef WEIR_LAKE_JSON_H
#define WEIR_LAKE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"

/* Whole-number member in [least, most]; false if it is not there or is something else. */
static inline bool json_get_int(const json_t *o, const char *key, int64_t least, int64_t most,
                                int64_t *out)
{
    const json_t *v = json_object_get(o, key);

    if (!json_is_integer(v) || json_integer_value(v) < least || json_integer_value(v) > most)
        return false;
    *out = json_integer_value(v);
    return true;
}

static inline bool json_get_i32(const json_t *o, const char *key, int32_t *out)
{
    int64_t v;

    if (!json_get_int(o, key, INT32_MIN, INT32_MAX, &v))
        return false;
    *out = (int32_t)v;
    return true;
}

/* Borrowed; NULL if it is not there or not text. */
static inline const char *json_get_text(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* The integer, or def. */
static inline int64_t json_int_or(const json_t *o, const char *key, int64_t def)
{
    int64_t v;

    return json_get_int(o, key, INT64_MIN, INT64_MAX, &v) ? v : def;
}

#endif
