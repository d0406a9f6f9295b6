/* Avro object container files (Avro 1.11 specification, "Object Container Files"), as far as
 * Iceberg's manifests and manifest lists need them, with the attributes that Iceberg adds to schemas
 * (field-id, element-id, key-id, value-id). Why our own: docs/why/lake.md.
 *
 * Writing: avro_begin, then for each record avro_put_… in the order of the schema's fields and
 * avro_record_end, then avro_end. An error sticks: it is told by avro_end.
 *
 * Reading is led by the schema within the file: each record becomes a tree of values, in which
 * the reader of manifests looks fields up by id; what it does not know it passes over. The bytes may
 * come from anybody: every length and count is checked against what remains, nesting is limited,
 * what inflates is bounded by LIMIT_LAKE_MANIFEST in all.
 *
 * No I/O; one thread at a time for each writer or reader. */
#ifndef WEIR_LAKE_AVRO_H
#define WEIR_LAKE_AVRO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

enum avro_codec { AVRO_PLAIN, AVRO_DEFLATE, AVRO_ZSTANDARD, AVRO_SNAPPY };

/* ---- writing ---- */

struct avro_meta {
    const char *key;
    struct slice value;
};

struct avro_writer {
    struct buf *out;  /* the file */
    struct buf block; /* records not yet in it */
    struct buf packed;
    uint64_t records; /* in block */
    uint8_t sync[16];
    enum avro_codec codec;
    enum err e;
};

/* Begins the file in out. schema: JSON text. sync: 16 random bytes. codec: all but AVRO_SNAPPY. */
void avro_begin(struct avro_writer *w, struct buf *out, enum avro_codec codec,
                const uint8_t sync[16], struct slice schema, const struct avro_meta *meta,
                unsigned meta_n);
void avro_put_bool(struct avro_writer *w, bool v);
/* int, long, and the number of a union's branch. */
void avro_put_long(struct avro_writer *w, int64_t v);
void avro_put_float(struct avro_writer *w, float v);
void avro_put_double(struct avro_writer *w, double v);
/* bytes and string. */
void avro_put_bytes(struct avro_writer *w, struct slice s);
void avro_put_fixed(struct avro_writer *w, struct slice s);
/* n items follow, each put, then avro_put_array_end. */
void avro_put_array(struct avro_writer *w, size_t n);
void avro_put_array_end(struct avro_writer *w, size_t n);
void avro_record_end(struct avro_writer *w);
/* Writes what is left and frees the writer's memory; the file in out is whole if ERR_OK. Must be
 * called in any case. */
enum err avro_end(struct avro_writer *w);

/* ---- reading ---- */

enum avro_kind {
    AVRO_NULL,
    AVRO_BOOLEAN,
    AVRO_INT,
    AVRO_LONG,
    AVRO_FLOAT,
    AVRO_DOUBLE,
    AVRO_BYTES,
    AVRO_STRING,
    AVRO_PRIMITIVES, /* how many */
    AVRO_RECORD = AVRO_PRIMITIVES,
    AVRO_ENUM,
    AVRO_ARRAY,
    AVRO_MAP,
    AVRO_UNION,
    AVRO_FIXED,
};

struct avro_type;
struct avro_field {
    int32_t id; /* field-id, element-id, value-id; -1: none */
    const char *name;
    const struct avro_type *type;
};
struct avro_type {
    enum avro_kind kind;
    uint32_t n;               /* fields of a record, branches of a union, bytes of a fixed */
    struct avro_field *field; /* of an array its item, of a map its value */
};

/* A value; of a union, the branch's. */
struct avro_value {
    const struct avro_type *type;
    int64_t i;          /* boolean, int, long, number of an enum's symbol */
    double d;           /* float, double */
    struct slice bytes; /* bytes, string, fixed; borrowed until the next avro_next */
    uint32_t n; /* items: of a record in the order of its fields, of an array; of a map key, */
    struct avro_value *item; /* value, key, value, … */
};

struct avro_reader {
    struct arena types;
    struct slice file; /* all of it */
    size_t at;
    const struct avro_type *root;
    enum avro_codec codec;
    const uint8_t *sync;
    struct avro_meta *meta;
    uint32_t meta_n;
    struct buf inflated;
    uint64_t inflated_all;
    struct slice block; /* what is left of the open one */
    uint64_t records;   /* left in it */
};

/* The file's bytes stay the caller's and must outlive the reader. ERR_CORRUPT with the reason,
 * ERR_UNSUPPORTED for a codec. After an error there is nothing to close. */
enum err avro_open(struct avro_reader *r, struct slice file, struct errinfo *info);
void avro_close(struct avro_reader *r);
/* The value of a metadata key of the file; NULL ptr if it has none. */
struct slice avro_meta_get(const struct avro_reader *r, const char *key);
/* The next record, its tree in a; *out is NULL at the end of the file. ERR_CORRUPT, ERR_TOO_LARGE (it
 * does not fit the arena). */
enum err avro_next(struct avro_reader *r, struct arena *a, struct avro_value **out,
                   struct errinfo *info);
/* The field of a record by its id; NULL if there is none, or it is null. */
const struct avro_value *avro_get(const struct avro_value *record, int32_t field_id);

#endif
