/* Types and values: SQL's as PostgreSQL names and writes them (documentation, "Data Types"; the binary
 * forms are those of the send and receive functions in PostgreSQL's src/backend/utils/adt). What has
 * no like of its own is text, or JSON where it is nested. Any thread. */
#ifndef WEIR_PROTO_PGWIRE_TYPES_H
#define WEIR_PROTO_PGWIRE_TYPES_H

#include "base/arena.h"
#include "base/buf.h"
#include "sql/sql.h"

enum {
    PG_BOOL = 16,
    PG_BYTEA = 17,
    PG_NAME = 19,
    PG_INT8 = 20,
    PG_INT2 = 21,
    PG_INT4 = 23,
    PG_TEXT = 25,
    PG_OID = 26,
    PG_JSON = 114,
    PG_FLOAT4 = 700,
    PG_FLOAT8 = 701,
    PG_UNKNOWN = 705,
    PG_BPCHAR = 1042,
    PG_VARCHAR = 1043,
    PG_DATE = 1082,
    PG_TIME = 1083,
    PG_TIMESTAMP = 1114,
    PG_TIMESTAMPTZ = 1184,
    PG_INTERVAL = 1186,
    PG_TIMETZ = 1266,
    PG_VARBIT = 1562,
    PG_NUMERIC = 1700,
    PG_UUID = 2950,
    PG_JSONB = 3802
};

struct pg_type {
    uint32_t oid;
    int16_t len; /* -1: varies */
    int32_t mod; /* -1: none */
};
struct pg_type pg_type_of(const struct sql_column_type *t);

/* A DataRow, appended. formats as Bind gives them. ERR_TOO_LARGE. */
enum err pg_data_row(const struct sql_chunk *c, uint32_t row, const uint8_t *formats,
                     uint16_t formats_n, struct buf *out);

/* A parameter's value as the client sent it, for a query; what has to be made lies in the arena.
 * ERR_CORRUPT_INPUT with a sentence: it is none of that type; ERR_UNSUPPORTED: no such binary form
 * is read here. */
enum err pg_param_read(uint32_t oid, uint16_t format, struct slice v, struct arena *a,
                       struct sql_param *out, struct errinfo *info);
/* Microseconds since 1970 as a text that every time type reads. */
enum err pg_time_text(int64_t micros, struct arena *a, struct sql_param *out, struct errinfo *info);
/* The list type of arrays of this number; NULL: it is no array's. */
const char *pg_list_type(uint32_t oid);
/* pg_param_read of an array: a text that SQL reads as a list. oid: the array's; others are taken for
 * arrays of texts. */
enum err pg_array_read(uint32_t oid, uint16_t format, struct slice v, struct arena *a,
                       struct sql_param *out, struct errinfo *info);

#endif
