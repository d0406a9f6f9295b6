/* The columns of a topic's table, and where each value comes from in a record. Shared by queries,
 * by Parquet files (parquet.h) and by the lake, whose table schema is a list of these. */
#ifndef WEIR_SQL_COLUMN_H
#define WEIR_SQL_COLUMN_H

#include <stdbool.h>
#include <stdint.h>

#include "sql/value.h"

enum sql_source {
    SQL_FROM_TOPIC,     /* VARCHAR */
    SQL_FROM_PARTITION, /* INTEGER */
    SQL_FROM_OFFSET,    /* BIGINT */
    SQL_FROM_POSITION,  /* UBIGINT; BIGINT in Parquet files, as Iceberg has no unsigned */
    SQL_FROM_TIMESTAMP, /* TIMESTAMP_TZ */
    SQL_FROM_KEY,       /* BLOB exact, or VARCHAR as text */
    SQL_FROM_VALUE,     /* BLOB or VARCHAR */
    SQL_FROM_HEADERS,   /* LIST of STRUCT(key VARCHAR, value BLOB or VARCHAR): see `type` below */
    SQL_FROM_CE_TYPE,   /* VARCHAR: the header ce_type */
    SQL_FROM_CE_ID,     /* VARCHAR: the header ce_id */
    SQL_FROM_FIELD,  /* a field of the JSON value: BOOLEAN, BIGINT, DOUBLE, VARCHAR or JSON (text of
                           any value); also INTEGER, FLOAT. NULL where the field is missing, null, or
                           does not fit the type */
    SQL_FROM_MISFIT, /* VARCHAR: the same field's text where it is there, not null, and does not fit
                           `type_of`: with the column of that type nothing is lost */
};

struct sql_column {
    const char *name;
    enum sql_source source;
    enum sql_type type;    /* for SQL_FROM_HEADERS: that of the headers' values, BLOB or VARCHAR */
    enum sql_type type_of; /* SQL_FROM_MISFIT */
    const char *field;     /* SQL_FROM_FIELD, SQL_FROM_MISFIT: the member's name, unescaped */
    int32_t field_id;      /* of Iceberg; 0: none */
    int32_t child_id[3];   /* of headers: the list's element, the struct's key and value */
    bool required;         /* never NULL */
};

/* How a JSON value becomes a value of a type:
 *   BOOLEAN  true, false
 *   INTEGER, BIGINT  numbers without a fraction that fit, written as such (1, -5, 1e3 is none)
 *   FLOAT, DOUBLE  numbers
 *   VARCHAR  strings, unescaped; of all else its JSON text
 *   JSON     any value's JSON text
 * Of members with the same name the first counts. A value that is no JSON object has no fields; in
 * one that breaks off, the fields before the place that is not JSON count. */

#endif
