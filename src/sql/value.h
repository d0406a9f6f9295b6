/* What a query gives: columns with types, and chunks of rows by column. The types are those of
 * DuckDB; nothing here includes its header.
 *
 * A chunk is a set of vectors, one a column, of the same number of rows. A vector is an array of
 * the type's fixed-size elements (see enum sql_type), a bitmap of the rows that are not NULL, and
 * for nested types the vectors of what is inside. Everything is borrowed and valid until the
 * callback that was given the chunk returns. Any thread, one at a time. */
#ifndef WEIR_SQL_VALUE_H
#define WEIR_SQL_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

/* Each with the element of its vectors. */
enum sql_type {
    SQL_NULL,         /* int32_t, every row is NULL: the type of a bare NULL */
    SQL_BOOLEAN,      /* uint8_t, 0 or 1 */
    SQL_TINYINT,      /* int8_t */
    SQL_SMALLINT,     /* int16_t */
    SQL_INTEGER,      /* int32_t */
    SQL_BIGINT,       /* int64_t */
    SQL_HUGEINT,      /* struct sql_hugeint */
    SQL_UTINYINT,     /* uint8_t */
    SQL_USMALLINT,    /* uint16_t */
    SQL_UINTEGER,     /* uint32_t */
    SQL_UBIGINT,      /* uint64_t */
    SQL_UHUGEINT,     /* struct sql_hugeint, upper unsigned */
    SQL_FLOAT,        /* float */
    SQL_DOUBLE,       /* double */
    SQL_DECIMAL,      /* int16_t, int32_t, int64_t or struct sql_hugeint for a width up to 4, 9, 18,
                         38: the value times ten to the scale */
    SQL_VARCHAR,      /* struct sql_string, UTF-8 */
    SQL_JSON,         /* as VARCHAR: JSON text */
    SQL_BLOB,         /* struct sql_string */
    SQL_BIT,          /* struct sql_string: number of padding bits, then bits from the highest on */
    SQL_BIGNUM,       /* struct sql_string; as text: sql_value_text */
    SQL_DATE,         /* int32_t, days since 1970-01-01 */
    SQL_TIME,         /* int64_t, microseconds since midnight */
    SQL_TIME_NS,      /* int64_t, nanoseconds */
    SQL_TIME_TZ,      /* uint64_t: microseconds << 24 | (57599 - offset in seconds) */
    SQL_TIMESTAMP,    /* int64_t, microseconds since 1970 */
    SQL_TIMESTAMP_S,  /* int64_t, seconds */
    SQL_TIMESTAMP_MS, /* int64_t, milliseconds */
    SQL_TIMESTAMP_NS, /* int64_t, nanoseconds */
    SQL_TIMESTAMP_TZ, /* int64_t, microseconds since 1970 UTC */
    SQL_INTERVAL,     /* struct sql_interval */
    SQL_UUID,         /* struct sql_hugeint with the highest bit flipped; see sql_uuid_bytes */
    SQL_ENUM,         /* uint8_t, uint16_t or uint32_t (sql_column_type.enum_bytes): words[i] */
    SQL_LIST,         /* struct sql_list_entry into child[0] */
    SQL_ARRAY,        /* none: row i has array_size elements of child[0] from i * array_size on */
    SQL_MAP,          /* struct sql_list_entry into child[0], a STRUCT of key and value */
    SQL_STRUCT,       /* none: row i of every child */
    SQL_UNION,        /* none: child[0] (uint8_t) says which of child[1…] has row i */
};

struct sql_hugeint {
    uint64_t lower;
    int64_t upper;
};
struct sql_interval {
    int32_t months, days;
    int64_t micros;
};
struct sql_list_entry {
    uint64_t offset, length;
};
/* Up to 12 bytes lie in the element itself; see sql_string_get. */
struct sql_string {
    uint32_t length;
    char head[4];
    union {
        char inlined[8];
        const char *ptr;
    } rest;
};

/* A type with its parts. Owned by the struct sql_columns that it belongs to. */
struct sql_column_type {
    enum sql_type type;
    uint8_t width, scale; /* DECIMAL */
    uint8_t enum_bytes;   /* ENUM: 1, 2 or 4 */
    uint32_t words_n;     /* ENUM */
    const char *const *words;
    uint64_t array_size;                 /* ARRAY */
    uint32_t child_n;                    /* LIST, ARRAY: 1; MAP: 1 (a STRUCT of two); STRUCT; UNION:
                                             the tag, then its members */
    const struct sql_column_type *child; /* child_n of them */
    const char *const *child_name;       /* STRUCT, UNION; else NULL */
};

struct sql_columns {
    uint32_t n;
    const char *const *name; /* UTF-8, NUL-terminated; may be empty, may repeat */
    const struct sql_column_type *type;
};

struct sql_vector {
    const struct sql_column_type *type;
    const void *data;
    const uint64_t *valid;          /* bit i of the bitmap: row i is not NULL; NULL: no row is */
    uint64_t rows;                  /* elements that there are */
    const struct sql_vector *child; /* type->child_n of them */
};

/* Rows of a result. */
struct sql_chunk {
    uint32_t rows; /* at least 1 */
    uint32_t columns_n;
    const struct sql_vector *column;
    void *private; /* for sql_chunk_arrow */
};

static inline bool sql_valid(const struct sql_vector *v, uint64_t row)
{
    return !v->valid || (v->valid[row >> 6] >> (row & 63) & 1);
}

/* The bytes of an element of VARCHAR, JSON, BLOB, BIT or BIGNUM; s must stay where it is. */
static inline struct slice sql_string_get(const struct sql_string *s)
{
    return slice_of(s->length <= 12 ? s->head : s->rest.ptr, s->length);
}

/* The name as SQL writes it: "DECIMAL(18,3)", "VARCHAR[]", "STRUCT(a BIGINT, b VARCHAR)". Appended
 * to out. */
enum err sql_type_name(const struct sql_column_type *t, struct buf *out);
/* Row's value as PostgreSQL writes it, appended: t/f, 1.5, 2026-01-02 03:04:05.678+00, \x00ff,
 * {a,NULL,"b c"} for lists; JSON for STRUCT, MAP and UNION. A NULL appends nothing: ask sql_valid.
 * ERR_TOO_LARGE: out's maximum. */
enum err sql_value_text(const struct sql_vector *v, uint64_t row, struct buf *out);
/* As a JSON value: numbers for numbers that a double holds (others, such as integers beyond 2^53,
 * as their digits: still a JSON number), null for NULL, NaN and infinities; JSON columns as they
 * are; times as RFC 3339 text, blobs as base64, intervals as ISO 8601, all others as text. */
enum err sql_value_json(const struct sql_vector *v, uint64_t row, struct buf *out);
/* The 16 bytes of a UUID element, in the order in which they are written. */
void sql_uuid_bytes(const struct sql_hugeint *v, uint8_t out[16]);

#endif
