/* The columns that a topic's JSON values have, learnt from records. Types widen: whole numbers
 * (BIGINT) to DOUBLE when one has a fraction or does not fit, anything to VARCHAR when kinds mix;
 * objects and arrays are JSON. A field that was only null so far is VARCHAR. What was once seen
 * stays.
 *
 * Names of columns: a field's own name, unless that is a record's column or an earlier field's in
 * any case (SQL's names do not differ by case), or empty: then value_NAME, and if that is taken,
 * too, value_NAME_2 and so on. One thread at a time. */
#ifndef WEIR_SQL_INFER_H
#define WEIR_SQL_INFER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "base/slice.h"
#include "sql/column.h"
#include "sql/field.h"

struct infer_field {
    char *name;   /* of the member, unescaped */
    char *column; /* its column's */
    uint32_t name_len;
    uint8_t seen; /* INFER_… bits */
};
#define INFER_BOOLEAN 1u
#define INFER_WHOLE   2u /* numbers that are an int64 */
#define INFER_NUMBER  4u /* other numbers */
#define INFER_STRING  8u
#define INFER_NESTED  16u /* objects, arrays */

struct infer {
    struct infer_field *fields; /* in the order in which they were first seen */
    uint32_t n, cap;
    struct map by_name; /* field number + 1 as the pointer */
    uint32_t next;
    uint64_t version; /* grows with every change of a field's type or number */
    bool full;        /* LIMIT_SQL_FIELDS are there; others are left out */
};

void infer_init(struct infer *f);
void infer_fini(struct infer *f);
/* Looks at a record's value; whether anything changed. */
bool infer_value(struct infer *f, struct slice value);
/* One more value of a field: whether its type changed. */
bool infer_widen(struct infer *f, uint32_t field, const struct field_value *v);
/* Adds what another has learnt; whether anything changed. */
bool infer_merge(struct infer *f, const struct infer *from);
enum sql_type infer_type(const struct infer_field *f);
uint32_t infer_find(const struct infer *f, struct slice name); /* UINT32_MAX: none */
/* The same; added if it is not there. UINT32_MAX: there are too many, or it is no name of a column. */
uint32_t infer_field(struct infer *f, struct slice name);

/* The name that a field's column gets: see above. taken: whether another column has a name (in any
 * case). out has room for SQL_COLUMN_NAME_MAX + 1. */
#define SQL_COLUMN_NAME_MAX 280u
void infer_column_name(struct slice field, bool (*taken)(void *arg, const char *name), void *arg,
                       char *out);
/* A record's own column, in any case? */
bool infer_reserved(const char *name);

#endif
