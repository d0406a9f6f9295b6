/* Manifests and manifest lists (Iceberg specification, "Manifests", "Snapshots"), as Avro files.
 * Written as format version 2; read as version 1, 2 and 3 have them (what version 3 adds is passed
 * over).
 *
 * A manifest lists data files (or delete files) of one partition spec, each with its state: added
 * by the snapshot that wrote the manifest, existing from before, or deleted by it. An added file's
 * sequence number is left out: whoever reads takes it from the manifest list, so that a commit
 * that is tried again with another number need not write its manifests anew.
 *
 * What readers hand out lives until the next one is handed out, unless said otherwise. */
#ifndef WEIR_LAKE_MANIFEST_H
#define WEIR_LAKE_MANIFEST_H

#include "lake/avro.h"
#include "lake/schema.h"
#include "lake/transform.h"

enum manifest_content { MANIFEST_DATA = 0, MANIFEST_DELETES = 1 };
enum data_content { DATA_ROWS = 0, DATA_POSITION_DELETES = 1, DATA_EQUALITY_DELETES = 2 };
enum entry_status { ENTRY_EXISTING = 0, ENTRY_ADDED = 1, ENTRY_DELETED = 2 };

/* A number, or bytes, by field id. */
struct id_count {
    int32_t id;
    int64_t n;
};
struct id_bytes {
    int32_t id;
    struct slice bytes;
};
struct id_counts {
    struct id_count *at;
    uint32_t n;
};
struct id_bounds {
    struct id_bytes *at;
    uint32_t n;
};

struct data_file {
    enum data_content content;
    struct slice path, format;   /* whole location; "PARQUET" */
    struct ice_value *partition; /* a value for each field of the manifest's spec */
    int64_t records, bytes;
    struct id_counts column_sizes, value_counts, null_counts, nan_counts;
    struct id_bounds lower, upper; /* single-value binary form */
    struct slice key_metadata;     /* NULL ptr: none */
    int64_t *split_offsets;
    uint32_t split_offsets_n;
    int32_t *equality_ids;
    uint32_t equality_ids_n;
    int32_t sort_order_id; /* -1: none */
    struct slice referenced_data_file;
};

struct manifest_entry {
    enum entry_status status;
    int64_t snapshot_id;
    int64_t sequence, file_sequence; /* -1 in an entry to be written as added: inherited */
    struct data_file file;
};

/* An entry of a manifest list. */
struct field_summary {
    bool contains_null;
    int contains_nan;          /* -1: not told */
    struct slice lower, upper; /* NULL ptr: not told */
};
struct manifest_file {
    struct slice path;
    int64_t length;
    int32_t spec_id;
    enum manifest_content content;
    int64_t sequence, min_sequence, added_snapshot_id;
    int32_t added_files, existing_files, deleted_files;
    int64_t added_rows, existing_rows, deleted_rows;
    struct field_summary *partitions;
    uint32_t partitions_n;
    struct slice key_metadata;
};

/* ---- writing a manifest ---- */

struct manifest_writer {
    struct avro_writer avro;
    const struct spec *spec;
    struct manifest_file file; /* counts and least sequence number as they come */
    struct buf *low, *high;    /* of each partition field; cap 0: none yet */
    bool *has_null, *has_nan, *has_value;
    int64_t snapshot_id;
};
/* The manifest's bytes go to out; schema and spec outlive the writer. sync: 16 random bytes. */
void manifest_begin(struct manifest_writer *w, struct buf *out, const struct schema *schema,
                    const struct spec *spec, enum manifest_content content, int64_t snapshot_id,
                    enum avro_codec codec, const uint8_t sync[16]);
void manifest_add(struct manifest_writer *w, const struct manifest_entry *e);
/* Fills *out but for its path and sequence numbers (min_sequence: the least that is known, INT64_MAX
 * if none is); its texts live in a. Must be called in any case. */
enum err manifest_end(struct manifest_writer *w, struct arena *a, struct manifest_file *out);

/* ---- reading a manifest ---- */

/* from: the list's entry, from which entries inherit. spec may be NULL: partitions are left out.
 * fn returns an error to stop with. ERR_CORRUPT. */
enum err manifest_read(struct slice file, const struct manifest_file *from, const struct spec *spec,
                       enum err (*fn)(void *arg, const struct manifest_entry *e), void *arg,
                       struct errinfo *info);

/* ---- manifest lists ---- */

/* Writes a list of n manifests. */
enum err manifest_list_write(struct buf *out, const struct manifest_file *m, size_t n,
                             int64_t snapshot_id, int64_t parent_id, int64_t sequence,
                             enum avro_codec codec, const uint8_t sync[16]);
/* All of them; what is handed out lives in a. ERR_CORRUPT, ERR_TOO_LARGE. */
enum err manifest_list_read(struct slice file, struct arena *a, struct manifest_file **out,
                            size_t *n, struct errinfo *info);

#endif
