/* Values of Iceberg's primitive types: their kinds, their order, the single-value binary form that
 * bounds and partition summaries use (Iceberg specification, appendix D), the hash that buckets use
 * (appendix B: murmur3 x86 32, seed 0), and bounds cut to a length. Pure; any thread. */
#ifndef WEIR_LAKE_VALUE_H
#define WEIR_LAKE_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

enum ice_kind {
    ICE_BOOLEAN,
    ICE_INT,
    ICE_LONG,
    ICE_FLOAT,
    ICE_DOUBLE,
    ICE_DECIMAL,
    ICE_DATE,
    ICE_TIME,
    ICE_TIMESTAMP,
    ICE_TIMESTAMPTZ,
    ICE_TIMESTAMP_NS,
    ICE_TIMESTAMPTZ_NS,
    ICE_STRING,
    ICE_UUID,
    ICE_FIXED,
    ICE_BINARY,
    ICE_PRIMITIVES, /* how many of them there are; nested kinds follow */
    ICE_STRUCT = ICE_PRIMITIVES,
    ICE_LIST,
    ICE_MAP,
};

struct ice_type {
    enum ice_kind kind;
    uint32_t len;             /* of a fixed, in bytes */
    uint8_t precision, scale; /* of a decimal; precision 1 to 38 */
};

/* i: booleans, ints, longs, days, micro- and nanoseconds. d: float, double. bytes: string (UTF-8),
 * uuid (16), fixed, binary, decimal (two's complement, big-endian), borrowed. */
struct ice_value {
    bool null;
    int64_t i;
    double d;
    struct slice bytes;
};
#define ICE_NULL ((struct ice_value){.null = true})

/* "long", "decimal(9,2)", "fixed[16]" into out; a nested kind's word alone. */
#define ICE_TYPE_TEXT 32
void ice_type_text(struct ice_type t, char out[ICE_TYPE_TEXT]);
/* The reverse, for primitive types. False: not one. */
bool ice_type_parse(struct slice s, struct ice_type *out);
bool ice_type_eq(struct ice_type a, struct ice_type b);
/* Whether a column may become `to` without its files being written anew: int to long, float to
 * double, a decimal to more digits (specification, "Schema Evolution"). */
bool ice_type_promotes(struct ice_type from, struct ice_type to);

/* Neither is null. <0, 0, >0. NaN is above all else, -0.0 below 0.0. */
int ice_value_compare(struct ice_type t, const struct ice_value *a, const struct ice_value *b);
/* Appends the single-value binary form of what is not null. ERR_TOO_LARGE. */
enum err ice_value_write(struct ice_type t, const struct ice_value *v, struct buf *out);
/* The reverse; *v borrows. Understands a value written before its column was promoted. False: the
 * length is not that of the type. */
bool ice_value_read(struct ice_type t, struct slice s, struct ice_value *v);
/* For a type that can be bucketed (all but boolean, float, double). */
bool ice_value_hashes(enum ice_kind k);
uint32_t ice_value_hash(struct ice_type t, const struct ice_value *v);
uint32_t murmur3_32(const void *p, size_t n);

/* Bounds of a column, no longer than 16 characters of a string or bytes of a binary: a lower bound
 * is cut, an upper one is cut and then raised. *some is false (and nothing appended) if there is no
 * such upper bound, and for NaN. */
#define ICE_BOUND_LEN 16
enum err ice_bound_lower(struct ice_type t, const struct ice_value *v, struct buf *out, bool *some);
enum err ice_bound_upper(struct ice_type t, const struct ice_value *v, struct buf *out, bool *some);
/* The first n code points of s, which is UTF-8 (other bytes count as one each). */
struct slice utf8_first(struct slice s, size_t n);

#endif
