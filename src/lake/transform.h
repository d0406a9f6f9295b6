/* Partition transforms, partition specs and sort orders (Iceberg specification, "Partitioning",
 * "Sorting", appendix C). A spec can be written as a list of texts, for configurations:
 *
 *     "hour(timestamp)"    "bucket[16](key)"    "key_bucket[16]"    "country"    "void(x)"
 *
 * "ts" stands for the column timestamp if the table has no column of that name. Pure; any thread. */
#ifndef WEIR_LAKE_TRANSFORM_H
#define WEIR_LAKE_TRANSFORM_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "lake/schema.h"
#include "lake/value.h"

enum transform_kind {
    TRANSFORM_IDENTITY,
    TRANSFORM_BUCKET,
    TRANSFORM_TRUNCATE,
    TRANSFORM_YEAR,
    TRANSFORM_MONTH,
    TRANSFORM_DAY,
    TRANSFORM_HOUR,
    TRANSFORM_VOID,
    TRANSFORM_UNKNOWN, /* of a newer version: a partition value is read, but not computed */
};

struct transform {
    enum transform_kind kind;
    uint32_t arg; /* buckets, or width: 1 to 2^31-1 */
};

#define TRANSFORM_TEXT 32
/* "bucket[16]" into out. */
void transform_text(struct transform t, char out[TRANSFORM_TEXT]);
/* Never fails: what is not known becomes TRANSFORM_UNKNOWN. */
struct transform transform_parse(struct slice s);
/* Whether it can be applied to the type; *result is what it gives. */
bool transform_result(struct transform t, struct ice_type source, struct ice_type *result);
/* v of the type source, to which t applies. NULL gives NULL. The result may borrow v's bytes, or
 * scratch (decimals). */
void transform_apply(struct transform t, struct ice_type source, const struct ice_value *v,
                     uint8_t scratch[16], struct ice_value *out);
/* Text as folder names have it: percent-encoded. Appended. */
enum err transform_path_text(struct slice s, struct buf *out);
/* A value of a partition as folder names have it ("2026-11-21-10", percent-encoded text, "null"),
 * appended. result: the transform's type. */
enum err transform_path(struct transform t, struct ice_type result, const struct ice_value *v,
                        struct buf *out);

/* ---- partition specs ---- */

#define SPEC_FIRST_FIELD 1000 /* ids of partition fields begin here */

struct spec_field {
    int32_t source_id, field_id;
    struct transform transform;
    struct ice_type source,
        result; /* source: as the schema has it; result: of the partition value */
    char *name;
    char *transform_word; /* as it was written; so that an unknown one is kept */
};
struct spec {
    int32_t id;
    uint32_t n;
    struct spec_field *field;
};

/* From JSON; types by the schema. A field whose column the schema does not have (any more) gets the
 * type of its transform, string if that does not tell. ERR_CORRUPT_INPUT. */
enum err spec_parse(const json_t *o, const struct schema *s, struct spec **out,
                    struct errinfo *info);
/* From texts as above; at most LIMIT_LAKE_SPEC_FIELDS. Fields get the ids first_id, … ERR_CONFIG
 * with the text and what is wrong. */
enum err spec_from_texts(const char *const *texts, unsigned n, const struct schema *s,
                         int32_t spec_id, int32_t first_id, struct spec **out,
                         struct errinfo *info);
/* ERR_NOT_FOUND: the schema has no such column; ERR_CONFIG. */
enum err spec_text_check(const char *text, const struct schema *s, struct errinfo *info);
void spec_free(struct spec **s);
json_t *spec_json(const struct spec *s);
/* Only its fields, as manifests have them. */
json_t *spec_fields_json(const struct spec *s);
/* Whether they divide in the same way (ids of spec and fields aside). */
bool spec_same(const struct spec *a, const struct spec *b);

/* ---- sort orders ---- */

/* From texts: a term as above, then "asc" or "desc" (asc), "nulls first" or "nulls last" (as
 * Iceberg's own default: first with asc). A new reference to the JSON of a sort order. */
enum err sort_order_from_texts(const char *const *texts, unsigned n, const struct schema *s,
                               int32_t order_id, json_t **out, struct errinfo *info);

#endif
