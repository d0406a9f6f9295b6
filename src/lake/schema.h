/* Iceberg schemas: a tree of fields with ids, to and from JSON (specification, appendix C), and
 * their evolution. An id belongs to one column for ever: what is added takes ids above the table's
 * last-column-id, and nothing here gives one back.
 *
 * A schema owns all its memory. Those that are shared are not changed; a change is made to a clone.
 * From others: at most LIMIT_LAKE_FIELDS fields, 32 levels deep, ids and (within a struct) names
 * unique. Pure; one thread at a time for a schema that is being changed. */
#ifndef WEIR_LAKE_SCHEMA_H
#define WEIR_LAKE_SCHEMA_H

#include <jansson.h>

#include "base/err.h"
#include "base/slice.h"
#include "lake/value.h"

#define SCHEMA_DEPTH_MAX 32

struct schema_field {
    int32_t id;
    bool required;
    struct ice_type type;
    char *name;                 /* "element"; "key" and "value" for those of lists and maps */
    char *doc;                  /* NULL: none */
    struct schema_field *child; /* of a struct its fields, a list one, a map two */
    uint32_t child_n;
};

struct schema {
    int32_t id;
    struct schema_field root; /* a struct; its own id and name mean nothing */
    int32_t *identifier;      /* ids of the fields that tell rows apart */
    uint32_t identifier_n;
};

/* Without fields. */
struct schema *schema_new(int32_t id);
void schema_free(struct schema **s);
struct schema *schema_clone(const struct schema *s);
/* ERR_CORRUPT_INPUT with the reason. */
enum err schema_parse(const json_t *o, struct schema **out, struct errinfo *info);
/* A new reference. */
json_t *schema_json(const struct schema *s);
/* Whether they have the same fields (whatever their own ids are). */
bool schema_same(const struct schema *a, const struct schema *b);

/* NULL if there is none. Borrowed, valid until the schema changes. */
const struct schema_field *schema_find(const struct schema *s, int32_t id);
/* By name, "customer.id" for a field within a struct. */
const struct schema_field *schema_find_name(const struct schema *s, struct slice name);
/* Whether the field is not within a list or map, so that one value belongs to a row. */
bool schema_once_a_row(const struct schema *s, int32_t id);
int32_t schema_max_id(const struct schema *s);
/* Each field that has values of its own (a primitive one), in order of their place. */
void schema_each_leaf(const struct schema *s, void (*fn)(void *arg, const struct schema_field *f),
                      void *arg);

/* ---- changing; of a clone ---- */

/* Adds a field to the struct `to` (the root, or one in the schema). Its children are added to what
 * is returned, in the same way. Borrowed until the next change. */
struct schema_field *schema_add(struct schema_field *to, int32_t id, const char *name,
                                struct ice_type type, bool required);
/* ERR_INVALID: not a promotion that leaves the files as they are. ERR_NOT_FOUND. */
enum err schema_promote(struct schema *s, int32_t id, struct ice_type type, struct errinfo *info);

/* The names as JSON text, for files without ids (property schema.name-mapping.default); malloc'ed.
 */
char *schema_name_mapping(const struct schema *s);

#endif
