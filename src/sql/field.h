/* Finding members of a JSON object without reading all of it: values of records are looked at by
 * the million for a field or two. The scan goes from left to right over the top level, skips what
 * is inside nested values by their brackets and strings, and ends when all that is wanted was
 * found. So a value's fields are those before the first place at its top level that is not JSON;
 * of members with the same name the first counts. Nothing is allocated for a scan. One thread at a
 * time for a set. */
#ifndef WEIR_SQL_FIELD_H
#define WEIR_SQL_FIELD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/tbl/limits.h"

/* Bytes of a member's name in the value, where each may be written as \u00ab; longer ones that are
 * escaped match nothing. */
#define FIELD_KEY_MAX (6u * LIMIT_SQL_FIELD_NAME)

enum field_kind {
    FIELD_MISSING,
    FIELD_NULL,
    FIELD_FALSE,
    FIELD_TRUE,
    FIELD_NUMBER, /* its characters; the grammar is checked by field_i64 and field_f64 */
    FIELD_STRING,
    FIELD_OBJECT,
    FIELD_ARRAY,
};
struct field_value {
    enum field_kind kind;
    bool escaped;      /* STRING: has backslashes */
    struct slice text; /* STRING: between the quotes; else all of it; views */
};

/* ---- walking an object's members ---- */

struct field_members {
    const uint8_t *p, *end;
};
/* False: the value is not an object. */
bool field_members_init(struct field_members *m, struct slice value);
/* False: no more, or what follows is not JSON. key: between its quotes. */
bool field_members_next(struct field_members *m, struct slice *key, bool *key_escaped,
                        struct field_value *v);

/* ---- wanted members ---- */

struct field_set {
    uint32_t n;
    uint32_t next; /* where the member after the one found last is likely to be */
    struct slice *name;
    uint32_t *bucket; /* n + 1 is empty … see field.c */
    uint32_t mask;
};
/* names: n different ones, unescaped; borrowed. */
void field_set_init(struct field_set *s, const struct slice *names, uint32_t n);
void field_set_fini(struct field_set *s);
/* out[i]: the member with the i-th name. */
void field_set_scan(struct field_set *s, struct slice value, struct field_value *out);

/* ---- values ---- */

/* A number written without fraction and exponent that fits. */
bool field_i64(struct slice text, int64_t *out);
/* Any number of JSON's grammar. Beyond the range: infinite. */
bool field_f64(struct slice text, double *out);
/* Writes the text that an escaped string stands for to dst (room for text.len bytes) and returns
 * its length; SIZE_MAX: an escape is wrong. */
size_t field_unescape(struct slice text, uint8_t *dst);
/* Whether bytes are all ASCII or otherwise valid UTF-8; quick for short ASCII. */
bool text_valid(struct slice s);
/* Text as VARCHAR: in place, or with \xAB for what is not UTF-8. Used by weir_text, too. */
size_t text_escape(struct slice bytes, char *dst);
size_t text_escaped_len(struct slice bytes);

#endif
