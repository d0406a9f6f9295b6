/* Table metadata, format version 2 (Iceberg specification, "Table Metadata"), and the changes that
 * the REST catalog protocol names: every change of a table, whoever asks for it and in whichever
 * catalog it lies, is a list of requirements and a list of updates in that protocol's JSON.
 *
 * The document is kept as the JSON that it is: what others have written into it (statistics, refs,
 * properties, members that are not known here) stays as it was. Members that a function here relies
 * on are checked once, by metadata_parse.
 *
 * Pure, but for memory. One thread at a time for each struct metadata. */
#ifndef WEIR_LAKE_METADATA_H
#define WEIR_LAKE_METADATA_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "lake/schema.h"
#include "lake/transform.h"

#define METADATA_LOG_MAX 100 /* write.metadata.previous-versions-max, if the table does not say */

struct metadata {
    json_t *doc;
    char *location; /* of the file it came from; NULL: of none yet */
    char *etag;     /* of a catalog's answer; NULL: none */
    json_t *config; /* what a catalog says of access to its storage: texts; NULL: nothing */
};

/* From a file's text. ERR_CORRUPT with what is wrong, ERR_UNSUPPORTED for a version other than 2. */
enum err metadata_parse(struct slice text, const char *location, struct metadata **out,
                        struct errinfo *info);
/* From JSON that is already there; takes doc, also on errors. */
enum err metadata_take(json_t *doc, const char *location, struct metadata **out,
                       struct errinfo *info);
/* A new table, from a request to create it: {"schema", "location", "partition-spec"?, "write-order"?,
 * "properties"?}. Ids of columns stay as the request has them. ERR_INVALID. */
enum err metadata_create(const json_t *request, const char *location, const char uuid[37],
                         int64_t now_ms, struct metadata **out, struct errinfo *info);
/* A table that a commit makes (requirement assert-create): nothing but what updates bring. The updates
 * must give it a schema, a spec and a sort order. ERR_INVALID. */
enum err metadata_make(const json_t *updates, const char *location, const char uuid[37],
                       int64_t now_ms, struct metadata **out, struct errinfo *info);
struct metadata *metadata_clone(const struct metadata *md);
void metadata_free(struct metadata **md);
/* Its text, appended. */
enum err metadata_write(const struct metadata *md, struct buf *out);

/* ---- looking ---- */

const char *metadata_uuid(const struct metadata *md);
/* The table's base location, without a '/' at its end as far as the table says so. */
const char *metadata_base(const struct metadata *md);
const char *metadata_property(const struct metadata *md, const char *key); /* NULL: none */
int64_t metadata_property_int(const struct metadata *md, const char *key, int64_t def);
int64_t metadata_last_sequence(const struct metadata *md);
int32_t metadata_last_column(const struct metadata *md);
/* What the next of "schemas" (by "schema-id"), "partition-specs" or "sort-orders" is numbered. A
 * catalog numbers what a commit adds by itself; some refuse a number that is taken. */
int32_t metadata_next_id(const struct metadata *md, const char *list, const char *member);
/* The snapshot with this id, or the current one; NULL if there is none. Borrowed. */
const json_t *metadata_snapshot(const struct metadata *md, int64_t id);
const json_t *metadata_current(const struct metadata *md);
int64_t metadata_current_id(const struct metadata *md); /* -1: none */
/* Parsed anew; the caller's. id -1: the current (default) one. ERR_NOT_FOUND, ERR_CORRUPT. */
enum err metadata_schema(const struct metadata *md, int32_t id, struct schema **out,
                         struct errinfo *info);
enum err metadata_spec(const struct metadata *md, int32_t id, struct spec **out,
                       struct errinfo *info);

/* ---- changing ---- */

/* Whether the requirements say that the table must not be there yet. */
bool metadata_creates(const json_t *requirements);
/* Whether all requirements hold; md NULL: there is no such table. ERR_CONFLICT with the one that does
 * not; ERR_INVALID for one that is not known. */
enum err metadata_check(const struct metadata *md, const json_t *requirements,
                        struct errinfo *info);
/* Applies the updates, in order, all or none of them. ERR_INVALID, ERR_UNSUPPORTED. */
enum err metadata_apply(struct metadata *md, const json_t *updates, int64_t now_ms,
                        struct errinfo *info);
/* Notes the file that md came from in the metadata log, which is kept short. Files that fell out of
 * it are appended to *gone (a JSON array), which may be NULL. */
void metadata_log(struct metadata *md, json_t *gone);

/* The snapshots that may go: older than older_than_ms and not among the newest keep (at least 1) of a
 * branch, or what the branch itself says; tags are kept. A new array of ids. */
json_t *metadata_expired(const struct metadata *md, int64_t older_than_ms, unsigned keep);

/* A random version 4 UUID from 16 random bytes. */
void uuid_text(const uint8_t random[16], char out[37]);
/* A snapshot id from random bytes: 1 to 2^53-1, so that JavaScript can hold it. */
int64_t snapshot_id_from(const uint8_t random[8]);

#endif
