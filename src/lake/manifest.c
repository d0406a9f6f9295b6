/* Manifests and manifest lists. See manifest.h.
 *
 * The Avro schemas are made from the tables below, which restate the specification's; the test
 * tests/unit/lake/manifest.c holds the ids against it. A union with null comes first null, as the
 * specification demands: branch 0 is null, branch 1 the value. */
#include "lake/manifest.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/tbl/limits.h"

#define SCHEMA_MAX (16u << 20)
#define ENTRY_MAX  (64u << 20) /* memory for what one entry holds */

/* ---- Avro schemas ---- */

/* One row: field id, name, Avro type, whether it is required. */
struct row {
    int id;
    const char *name, *type;
    bool required;
};

#define MAP_OF(key, value, type)                                                       \
    "{\"type\":\"array\",\"items\":{\"type\":\"record\",\"name\":\"k" #key "_v" #value \
    "\",\"fields\":[{\"name\":\"key\",\"type\":\"int\",\"field-id\":" #key             \
    "},{\"name\":\"value\",\"type\":\"" type "\",\"field-id\":" #value                 \
    "}]},\"logicalType\":\"map\"}"
#define LIST_OF(element, type) \
    "{\"type\":\"array\",\"items\":\"" type "\",\"element-id\":" #element "}"

#define PARTITION_ID 102
/* data_file; the partition (102) stands in between, as the specification orders them. */
static const struct row data_file_rows[] = {
    {134, "content", "\"int\"", true},
    {100, "file_path", "\"string\"", true},
    {101, "file_format", "\"string\"", true},
    {PARTITION_ID, "partition", NULL, true},
    {103, "record_count", "\"long\"", true},
    {104, "file_size_in_bytes", "\"long\"", true},
    {108, "column_sizes", MAP_OF(117, 118, "long"), false},
    {109, "value_counts", MAP_OF(119, 120, "long"), false},
    {110, "null_value_counts", MAP_OF(121, 122, "long"), false},
    {137, "nan_value_counts", MAP_OF(138, 139, "long"), false},
    {125, "lower_bounds", MAP_OF(126, 127, "bytes"), false},
    {128, "upper_bounds", MAP_OF(129, 130, "bytes"), false},
    {131, "key_metadata", "\"bytes\"", false},
    {132, "split_offsets", LIST_OF(133, "long"), false},
    {135, "equality_ids", LIST_OF(136, "int"), false},
    {140, "sort_order_id", "\"int\"", false},
    {143, "referenced_data_file", "\"string\"", false},
};
#define DATA_FILE_ROWS (sizeof data_file_rows / sizeof data_file_rows[0])

static const struct row entry_rows[] = {
    {0, "status", "\"int\"", true},
    {1, "snapshot_id", "\"long\"", false},
    {3, "sequence_number", "\"long\"", false},
    {4, "file_sequence_number", "\"long\"", false},
};
#define ENTRY_ROWS (sizeof entry_rows / sizeof entry_rows[0])

#define FIELD_SUMMARY                                                                              \
    "{\"type\":\"array\",\"items\":{\"type\":\"record\",\"name\":\"r508\",\"fields\":["            \
    "{\"name\":\"contains_null\",\"type\":\"boolean\",\"field-id\":509},"                          \
    "{\"name\":\"contains_nan\",\"type\":[\"null\",\"boolean\"],\"default\":null,\"field-id\":"    \
    "518},"                                                                                        \
    "{\"name\":\"lower_bound\",\"type\":[\"null\",\"bytes\"],\"default\":null,\"field-id\":510},"  \
    "{\"name\":\"upper_bound\",\"type\":[\"null\",\"bytes\"],\"default\":null,\"field-id\":511}]}" \
    ","                                                                                            \
    "\"element-id\":508}"
static const struct row list_rows[] = {
    {500, "manifest_path", "\"string\"", true},     {501, "manifest_length", "\"long\"", true},
    {502, "partition_spec_id", "\"int\"", true},    {517, "content", "\"int\"", true},
    {515, "sequence_number", "\"long\"", true},     {516, "min_sequence_number", "\"long\"", true},
    {503, "added_snapshot_id", "\"long\"", true},   {504, "added_files_count", "\"int\"", true},
    {505, "existing_files_count", "\"int\"", true}, {506, "deleted_files_count", "\"int\"", true},
    {512, "added_rows_count", "\"long\"", true},    {513, "existing_rows_count", "\"long\"", true},
    {514, "deleted_rows_count", "\"long\"", true},  {507, "partitions", FIELD_SUMMARY, false},
    {519, "key_metadata", "\"bytes\"", false},
};
#define LIST_ROWS (sizeof list_rows / sizeof list_rows[0])

static enum err put_row(struct buf *b, const struct row *r, const char *type, bool first)
{
    return buf_printf(b, "%s{\"name\":\"%s\",\"type\":%s%s%s%s,\"field-id\":%d}", first ? "" : ",",
                      r->name, r->required ? "" : "[\"null\",", type, r->required ? "" : "]",
                      r->required ? "" : ",\"default\":null", r->id);
}

/* An Avro name is letters, digits and '_' and begins with no digit: others are written as _xHH. */
static enum err put_avro_name(struct buf *b, const char *name)
{
    enum err e = *name >= '0' && *name <= '9' ? buf_append_u8(b, '_') : ERR_OK;

    for (; !e && *name; name++) {
        char c = *name;

        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_')
            e = buf_append_u8(b, (uint8_t)c);
        else
            e = buf_printf(b, "_x%X", (unsigned)(uint8_t)c);
    }
    return e;
}

static uint32_t decimal_bytes(uint8_t precision)
{
    double bits = precision * log2(10) + 1;

    return (uint32_t)ceil(bits / 8);
}

/* The Avro type of a partition value. */
static enum err put_avro_type(struct buf *b, struct ice_type t, int32_t field_id)
{
    switch (t.kind) {
    case ICE_BOOLEAN:
        return buf_append_str(b, "\"boolean\"");
    case ICE_INT:
        return buf_append_str(b, "\"int\"");
    case ICE_FLOAT:
        return buf_append_str(b, "\"float\"");
    case ICE_DOUBLE:
        return buf_append_str(b, "\"double\"");
    case ICE_DATE:
        return buf_append_str(b, "{\"type\":\"int\",\"logicalType\":\"date\"}");
    case ICE_TIME:
        return buf_append_str(b, "{\"type\":\"long\",\"logicalType\":\"time-micros\"}");
    case ICE_TIMESTAMP:
    case ICE_TIMESTAMPTZ:
        return buf_printf(
            b, "{\"type\":\"long\",\"logicalType\":\"timestamp-micros\",\"adjust-to-utc\":%s}",
            t.kind == ICE_TIMESTAMPTZ ? "true" : "false");
    case ICE_TIMESTAMP_NS:
    case ICE_TIMESTAMPTZ_NS:
        return buf_printf(
            b, "{\"type\":\"long\",\"logicalType\":\"timestamp-nanos\",\"adjust-to-utc\":%s}",
            t.kind == ICE_TIMESTAMPTZ_NS ? "true" : "false");
    case ICE_STRING:
        return buf_append_str(b, "\"string\"");
    case ICE_UUID:
        return buf_printf(
            b, "{\"type\":\"fixed\",\"name\":\"uuid_%d\",\"size\":16,\"logicalType\":\"uuid\"}",
            (int)field_id);
    case ICE_FIXED:
        return buf_printf(b, "{\"type\":\"fixed\",\"name\":\"fixed_%d\",\"size\":%u}",
                          (int)field_id, t.len);
    case ICE_DECIMAL:
        return buf_printf(b,
                          "{\"type\":\"fixed\",\"name\":\"decimal_%d\",\"size\":%u,"
                          "\"logicalType\":\"decimal\",\"precision\":%u,\"scale\":%u}",
                          (int)field_id, decimal_bytes(t.precision), t.precision, t.scale);
    case ICE_BINARY:
        return buf_append_str(b, "\"bytes\"");
    default:
        return buf_append_str(b, "\"long\"");
    }
}

static enum err put_partition_type(struct buf *b, const struct spec *spec)
{
    enum err e = buf_append_str(b, "{\"type\":\"record\",\"name\":\"r102\",\"fields\":[");

    for (uint32_t i = 0; !e && i < spec->n; i++) {
        const struct spec_field *f = &spec->field[i];

        e = buf_printf(b, "%s{\"name\":\"", i ? "," : "");
        e = e ? e : put_avro_name(b, f->name);
        e = e ? e : buf_append_str(b, "\",\"type\":[\"null\",");
        e = e ? e : put_avro_type(b, f->result, f->field_id);
        e = e ? e : buf_printf(b, "],\"default\":null,\"field-id\":%d}", (int)f->field_id);
    }
    return e ? e : buf_append_str(b, "]}");
}

static enum err put_entry_schema(struct buf *b, const struct spec *spec)
{
    struct buf partition;
    enum err e = buf_append_str(b, "{\"type\":\"record\",\"name\":\"manifest_entry\",\"fields\":[");

    buf_init(&partition, SCHEMA_MAX);
    for (size_t i = 0; !e && i < ENTRY_ROWS; i++)
        e = put_row(b, &entry_rows[i], entry_rows[i].type, i == 0);
    e = e ? e
          : buf_append_str(b,
                           ",{\"name\":\"data_file\",\"type\":{\"type\":\"record\",\"name\":\"r2\","
                           "\"fields\":[");
    e = e ? e : put_partition_type(&partition, spec);
    e = e ? e : buf_append_u8(&partition, 0);
    for (size_t i = 0; !e && i < DATA_FILE_ROWS; i++) {
        const struct row *r = &data_file_rows[i];

        e = put_row(b, r, r->type ? r->type : (const char *)partition.ptr, i == 0);
    }
    buf_fini(&partition);
    return e ? e : buf_append_str(b, "]},\"field-id\":2}]}");
}

/* ---- writing a manifest ---- */

/* The texts of the manifest's own metadata. */
static void begin_avro(struct manifest_writer *w, struct buf *out, const struct schema *schema,
                       enum avro_codec codec, const uint8_t sync[16])
{
    json_t *sj = schema_json(schema), *pj = spec_fields_json(w->spec);
    char *schema_text = json_dumps(sj, JSON_COMPACT), *spec_text = json_dumps(pj, JSON_COMPACT);
    char schema_id[16], spec_id[16];
    struct buf avro;
    enum err e;

    ASSERT(schema_text && spec_text);
    snprintf(schema_id, sizeof schema_id, "%d", (int)schema->id);
    snprintf(spec_id, sizeof spec_id, "%d", (int)w->spec->id);
    const struct avro_meta meta[] = {
        {"schema", slice_str(schema_text)},
        {"schema-id", slice_str(schema_id)},
        {"partition-spec", slice_str(spec_text)},
        {"partition-spec-id", slice_str(spec_id)},
        {"format-version", SLICE_LIT("2")},
        {"content", w->file.content == MANIFEST_DATA ? SLICE_LIT("data") : SLICE_LIT("deletes")},
    };

    buf_init(&avro, SCHEMA_MAX);
    e = put_entry_schema(&avro, w->spec);
    avro_begin(&w->avro, out, codec, sync, buf_slice(&avro), meta, sizeof meta / sizeof meta[0]);
    w->avro.e = w->avro.e ? w->avro.e : e;
    buf_fini(&avro);
    free(schema_text);
    free(spec_text);
    json_decref(sj);
    json_decref(pj);
}

void manifest_begin(struct manifest_writer *w, struct buf *out, const struct schema *schema,
                    const struct spec *spec, enum manifest_content content, int64_t snapshot_id,
                    enum avro_codec codec, const uint8_t sync[16])
{
    *w = (struct manifest_writer){.spec = spec, .snapshot_id = snapshot_id};
    w->file = (struct manifest_file){.spec_id = spec->id,
                                     .content = content,
                                     .min_sequence = INT64_MAX,
                                     .added_snapshot_id = snapshot_id};
    w->low = xcalloc(spec->n + 1, sizeof *w->low);
    w->high = xcalloc(spec->n + 1, sizeof *w->high);
    w->has_null = xcalloc(spec->n + 1, 1);
    w->has_nan = xcalloc(spec->n + 1, 1);
    w->has_value = xcalloc(spec->n + 1, 1);
    for (uint32_t i = 0; i < spec->n; i++) {
        buf_init(&w->low[i], LIMIT_LAKE_MANIFEST);
        buf_init(&w->high[i], LIMIT_LAKE_MANIFEST);
    }
    begin_avro(w, out, schema, codec, sync);
}

static void put_partition_value(struct avro_writer *a, struct ice_type t, const struct ice_value *v)
{
    uint8_t wide[17];
    uint32_t size;

    avro_put_long(a, !v->null);
    if (v->null)
        return;
    switch (t.kind) {
    case ICE_BOOLEAN:
        avro_put_bool(a, v->i != 0);
        break;
    case ICE_FLOAT:
        avro_put_float(a, (float)v->d);
        break;
    case ICE_DOUBLE:
        avro_put_double(a, v->d);
        break;
    case ICE_STRING:
    case ICE_BINARY:
        avro_put_bytes(a, v->bytes);
        break;
    case ICE_UUID:
    case ICE_FIXED:
        avro_put_fixed(a, v->bytes);
        break;
    case ICE_DECIMAL: /* as wide as the type, the sign repeated */
        size = decimal_bytes(t.precision);
        memset(wide, v->bytes.len && v->bytes.ptr[0] >= 0x80 ? 0xff : 0, sizeof wide);
        for (size_t i = 0; i < v->bytes.len && i < size; i++)
            wide[size - 1 - i] = v->bytes.ptr[v->bytes.len - 1 - i];
        avro_put_fixed(a, slice_of(wide, size));
        break;
    default:
        avro_put_long(a, v->i);
    }
}

/* A map from columns to counts or bounds, whichever is given; null if it is empty. */
static void put_columns(struct avro_writer *a, uint32_t n, const struct id_count *counts,
                        const struct id_bytes *bounds)
{
    avro_put_long(a, n > 0);
    if (!n)
        return;
    avro_put_array(a, n);
    for (uint32_t i = 0; i < n; i++) {
        avro_put_long(a, counts ? counts[i].id : bounds[i].id);
        if (counts)
            avro_put_long(a, counts[i].n);
        else
            avro_put_bytes(a, bounds[i].bytes);
    }
    avro_put_array_end(a, n);
}

static void put_bytes_or_null(struct avro_writer *a, struct slice s)
{
    avro_put_long(a, s.ptr != NULL);
    if (s.ptr)
        avro_put_bytes(a, s);
}

static void put_long_or_null(struct avro_writer *a, int64_t v, bool some)
{
    avro_put_long(a, some);
    if (some)
        avro_put_long(a, v);
}

/* In the order of data_file_rows. */
static void put_data_file(struct manifest_writer *w, const struct data_file *f)
{
    struct avro_writer *a = &w->avro;

    avro_put_long(a, f->content);
    avro_put_bytes(a, f->path);
    avro_put_bytes(a, f->format);
    for (uint32_t i = 0; i < w->spec->n; i++)
        put_partition_value(a, w->spec->field[i].result, &f->partition[i]);
    avro_put_long(a, f->records);
    avro_put_long(a, f->bytes);
    put_columns(a, f->column_sizes.n, f->column_sizes.at, NULL);
    put_columns(a, f->value_counts.n, f->value_counts.at, NULL);
    put_columns(a, f->null_counts.n, f->null_counts.at, NULL);
    put_columns(a, f->nan_counts.n, f->nan_counts.at, NULL);
    put_columns(a, f->lower.n, NULL, f->lower.at);
    put_columns(a, f->upper.n, NULL, f->upper.at);
    put_bytes_or_null(a, f->key_metadata);
    avro_put_long(a, f->split_offsets_n > 0);
    if (f->split_offsets_n) {
        avro_put_array(a, f->split_offsets_n);
        for (uint32_t i = 0; i < f->split_offsets_n; i++)
            avro_put_long(a, f->split_offsets[i]);
        avro_put_array_end(a, f->split_offsets_n);
    }
    avro_put_long(a, f->equality_ids_n > 0);
    if (f->equality_ids_n) {
        avro_put_array(a, f->equality_ids_n);
        for (uint32_t i = 0; i < f->equality_ids_n; i++)
            avro_put_long(a, f->equality_ids[i]);
        avro_put_array_end(a, f->equality_ids_n);
    }
    put_long_or_null(a, f->sort_order_id, f->sort_order_id >= 0);
    put_bytes_or_null(a, f->referenced_data_file);
}

/* Widens the range of one partition field by a value. */
static void summary_add(struct manifest_writer *w, uint32_t i, const struct ice_value *v)
{
    struct ice_type t = w->spec->field[i].result;
    struct ice_value low, high;
    bool first = !w->has_value[i];

    if (v->null) {
        w->has_null[i] = true;
        return;
    }
    if ((t.kind == ICE_FLOAT || t.kind == ICE_DOUBLE) && isnan(v->d)) {
        w->has_nan[i] = true;
        return;
    }
    w->has_value[i] = true;
    if (first ||
        (ice_value_read(t, buf_slice(&w->low[i]), &low) && ice_value_compare(t, v, &low) < 0)) {
        buf_clear(&w->low[i]);
        w->avro.e = w->avro.e ? w->avro.e : ice_value_write(t, v, &w->low[i]);
    }
    if (first ||
        (ice_value_read(t, buf_slice(&w->high[i]), &high) && ice_value_compare(t, v, &high) > 0)) {
        buf_clear(&w->high[i]);
        w->avro.e = w->avro.e ? w->avro.e : ice_value_write(t, v, &w->high[i]);
    }
}

static void count_entry(struct manifest_file *f, const struct manifest_entry *e)
{
    if (e->status == ENTRY_ADDED) {
        f->added_files++;
        f->added_rows += e->file.records;
    } else if (e->status == ENTRY_EXISTING) {
        f->existing_files++;
        f->existing_rows += e->file.records;
    } else {
        f->deleted_files++;
        f->deleted_rows += e->file.records;
    }
    if (e->status != ENTRY_DELETED && e->sequence >= 0 && e->sequence < f->min_sequence)
        f->min_sequence = e->sequence;
}

void manifest_add(struct manifest_writer *w, const struct manifest_entry *e)
{
    struct avro_writer *a = &w->avro;

    avro_put_long(a, e->status);
    put_long_or_null(a, e->snapshot_id, true);
    put_long_or_null(a, e->sequence, e->sequence >= 0);
    put_long_or_null(a, e->file_sequence, e->file_sequence >= 0);
    put_data_file(w, &e->file);
    avro_record_end(a);
    count_entry(&w->file, e);
    for (uint32_t i = 0; i < w->spec->n; i++)
        summary_add(w, i, &e->file.partition[i]);
}

/* An empty slice is not "none". */
static struct slice dup_bytes(struct arena *a, struct slice s)
{
    return s.ptr && s.len ? arena_dup(a, s) : s.ptr ? SLICE_LIT("") : SLICE_NULL;
}

static enum err summaries_take(struct manifest_writer *w, struct arena *a,
                               struct manifest_file *out)
{
    out->partitions_n = w->spec->n;
    out->partitions = arena_zalloc(a, w->spec->n, sizeof *out->partitions);
    if (!out->partitions)
        return ERR_TOO_LARGE;
    for (uint32_t i = 0; i < w->spec->n; i++) {
        struct field_summary *s = &out->partitions[i];
        enum ice_kind k = w->spec->field[i].result.kind;

        s->contains_null = w->has_null[i];
        s->contains_nan = k == ICE_FLOAT || k == ICE_DOUBLE ? w->has_nan[i] : 0;
        if (!w->has_value[i])
            continue;
        s->lower = dup_bytes(a, w->low[i].len ? buf_slice(&w->low[i]) : SLICE_LIT(""));
        s->upper = dup_bytes(a, w->high[i].len ? buf_slice(&w->high[i]) : SLICE_LIT(""));
        if (!s->lower.ptr || !s->upper.ptr)
            return ERR_TOO_LARGE;
    }
    return ERR_OK;
}

enum err manifest_end(struct manifest_writer *w, struct arena *a, struct manifest_file *out)
{
    struct buf *file = w->avro.out;
    enum err e = avro_end(&w->avro);

    *out = w->file;
    out->length = (int64_t)file->len;
    e = e ? e : summaries_take(w, a, out);
    for (uint32_t i = 0; i < w->spec->n; i++) {
        buf_fini(&w->low[i]);
        buf_fini(&w->high[i]);
    }
    free(w->low);
    free(w->high);
    free(w->has_null);
    free(w->has_nan);
    free(w->has_value);
    return e;
}

/* ---- reading ---- */

static int64_t get_long(const struct avro_value *rec, int32_t id, int64_t def)
{
    const struct avro_value *v = avro_get(rec, id);

    return v && (v->type->kind == AVRO_INT || v->type->kind == AVRO_LONG) ? v->i : def;
}

static struct slice get_bytes(const struct avro_value *rec, int32_t id)
{
    const struct avro_value *v = avro_get(rec, id);

    return v && (v->type->kind == AVRO_BYTES || v->type->kind == AVRO_STRING) ? v->bytes
                                                                              : SLICE_NULL;
}

/* The items of a map with int keys: an array of records of two. NULL: none. */
static const struct avro_value *get_pairs(const struct avro_value *rec, int32_t id)
{
    const struct avro_value *v = avro_get(rec, id);

    if (!v || v->type->kind != AVRO_ARRAY || !v->n)
        return NULL;
    return v->type->field[0].type->kind == AVRO_RECORD && v->type->field[0].type->n == 2 ? v : NULL;
}

static enum err get_counts(const struct avro_value *rec, int32_t id, struct arena *a,
                           struct id_counts *out)
{
    const struct avro_value *v = get_pairs(rec, id);

    *out = (struct id_counts){0};
    if (!v)
        return ERR_OK;
    out->at = arena_zalloc(a, v->n, sizeof *out->at);
    if (!out->at)
        return ERR_TOO_LARGE;
    out->n = v->n;
    for (uint32_t i = 0; i < v->n; i++)
        out->at[i] = (struct id_count){(int32_t)v->item[i].item[0].i, v->item[i].item[1].i};
    return ERR_OK;
}

static enum err get_bounds(const struct avro_value *rec, int32_t id, struct arena *a,
                           struct id_bounds *out)
{
    const struct avro_value *v = get_pairs(rec, id);

    *out = (struct id_bounds){0};
    if (!v)
        return ERR_OK;
    out->at = arena_zalloc(a, v->n, sizeof *out->at);
    if (!out->at)
        return ERR_TOO_LARGE;
    out->n = v->n;
    for (uint32_t i = 0; i < v->n; i++)
        out->at[i] = (struct id_bytes){(int32_t)v->item[i].item[0].i, v->item[i].item[1].bytes};
    return ERR_OK;
}

static bool is_kind(const struct avro_value *v, enum avro_kind a, enum avro_kind b)
{
    return v->type->kind == a || v->type->kind == b;
}

/* A partition value, from whatever Avro type it was written as; false: not of the type. */
static bool partition_value(struct ice_type t, const struct avro_value *v, struct ice_value *out)
{
    *out = ICE_NULL;
    if (!v)
        return true;
    *out = (struct ice_value){.i = v->i, .d = v->d, .bytes = v->bytes};
    switch (t.kind) {
    case ICE_BOOLEAN:
        return v->type->kind == AVRO_BOOLEAN;
    case ICE_FLOAT:
    case ICE_DOUBLE:
        return is_kind(v, AVRO_FLOAT, AVRO_DOUBLE);
    case ICE_STRING:
        return is_kind(v, AVRO_STRING, AVRO_BYTES);
    case ICE_BINARY:
        return is_kind(v, AVRO_BYTES, AVRO_FIXED);
    case ICE_UUID:
        return is_kind(v, AVRO_FIXED, AVRO_FIXED) && v->bytes.len == 16;
    case ICE_FIXED:
        return is_kind(v, AVRO_FIXED, AVRO_BYTES) && v->bytes.len == t.len;
    case ICE_DECIMAL:
        return is_kind(v, AVRO_FIXED, AVRO_BYTES) && v->bytes.len >= 1 && v->bytes.len <= 16;
    default:
        return is_kind(v, AVRO_INT, AVRO_LONG);
    }
}

static enum err get_partition(const struct avro_value *file, const struct spec *spec,
                              struct arena *a, struct ice_value **out)
{
    const struct avro_value *rec = avro_get(file, PARTITION_ID);

    *out = NULL;
    if (!spec)
        return ERR_OK;
    *out = arena_zalloc(a, spec->n, sizeof **out);
    if (!*out)
        return ERR_TOO_LARGE;
    if (!rec || rec->type->kind != AVRO_RECORD)
        return ERR_CORRUPT;
    for (uint32_t i = 0; i < spec->n; i++) {
        if (!partition_value(spec->field[i].result, avro_get(rec, spec->field[i].field_id),
                             &(*out)[i]))
            return ERR_CORRUPT;
    }
    return ERR_OK;
}

static enum err get_lists(const struct avro_value *rec, struct arena *a, struct data_file *f)
{
    const struct avro_value *splits = avro_get(rec, 132), *ids = avro_get(rec, 135);

    if (splits && splits->type->kind == AVRO_ARRAY && splits->n) {
        f->split_offsets = arena_zalloc(a, splits->n, sizeof *f->split_offsets);
        if (!f->split_offsets)
            return ERR_TOO_LARGE;
        f->split_offsets_n = splits->n;
        for (uint32_t i = 0; i < splits->n; i++)
            f->split_offsets[i] = splits->item[i].i;
    }
    if (ids && ids->type->kind == AVRO_ARRAY && ids->n) {
        f->equality_ids = arena_zalloc(a, ids->n, sizeof *f->equality_ids);
        if (!f->equality_ids)
            return ERR_TOO_LARGE;
        f->equality_ids_n = ids->n;
        for (uint32_t i = 0; i < ids->n; i++)
            f->equality_ids[i] = (int32_t)ids->item[i].i;
    }
    return ERR_OK;
}

static enum err data_file_get(const struct avro_value *rec, const struct spec *spec,
                              struct arena *a, struct data_file *f)
{
    int64_t content = get_long(rec, 134, DATA_ROWS);
    enum err e;

    *f = (struct data_file){.content = (enum data_content)content};
    f->path = get_bytes(rec, 100);
    f->format = get_bytes(rec, 101);
    f->records = get_long(rec, 103, -1);
    f->bytes = get_long(rec, 104, -1);
    f->key_metadata = get_bytes(rec, 131);
    f->sort_order_id = (int32_t)get_long(rec, 140, -1);
    f->referenced_data_file = get_bytes(rec, 143);
    if (content < 0 || content > DATA_EQUALITY_DELETES || !f->path.len || !f->format.ptr ||
        f->records < 0 || f->bytes < 0)
        return ERR_CORRUPT;
    e = get_partition(rec, spec, a, &f->partition);
    e = e ? e : get_counts(rec, 108, a, &f->column_sizes);
    e = e ? e : get_counts(rec, 109, a, &f->value_counts);
    e = e ? e : get_counts(rec, 110, a, &f->null_counts);
    e = e ? e : get_counts(rec, 137, a, &f->nan_counts);
    e = e ? e : get_bounds(rec, 125, a, &f->lower);
    e = e ? e : get_bounds(rec, 128, a, &f->upper);
    return e ? e : get_lists(rec, a, f);
}

static enum err entry_get(const struct avro_value *rec, const struct manifest_file *from,
                          const struct spec *spec, struct arena *a, struct manifest_entry *e)
{
    const struct avro_value *file = avro_get(rec, 2);
    int64_t status = get_long(rec, 0, -1);

    if (status < 0 || status > ENTRY_DELETED || !file)
        return ERR_CORRUPT;
    *e = (struct manifest_entry){.status = (enum entry_status)status};
    e->snapshot_id = get_long(rec, 1, from->added_snapshot_id);
    /* Inherited where it is null: by added entries, and by all of a manifest of version 1, whose
     * sequence number is 0. */
    e->sequence = get_long(rec, 3, from->sequence);
    e->file_sequence = get_long(rec, 4, from->sequence);
    return data_file_get(file, spec, a, &e->file);
}

enum err manifest_read(struct slice file, const struct manifest_file *from, const struct spec *spec,
                       enum err (*fn)(void *arg, const struct manifest_entry *e), void *arg,
                       struct errinfo *info)
{
    struct avro_reader r;
    struct arena a;
    enum err e = avro_open(&r, file, info);

    if (e)
        return e;
    arena_init(&a, 64u << 10, ENTRY_MAX);
    for (;;) {
        struct manifest_entry entry;
        struct avro_value *rec;

        arena_reset(&a);
        e = avro_next(&r, &a, &rec, info);
        if (e || !rec)
            break;
        e = entry_get(rec, from, spec, &a, &entry);
        if (e) {
            errinfo_set(info, e, "a manifest's entry is not as it must be");
            break;
        }
        e = fn(arg, &entry);
        if (e)
            break;
    }
    arena_fini(&a);
    avro_close(&r);
    return e;
}

/* ---- manifest lists ---- */

static void put_summaries(struct avro_writer *a, const struct manifest_file *m)
{
    avro_put_long(a, m->partitions_n > 0);
    if (!m->partitions_n)
        return;
    avro_put_array(a, m->partitions_n);
    for (uint32_t i = 0; i < m->partitions_n; i++) {
        const struct field_summary *s = &m->partitions[i];

        avro_put_bool(a, s->contains_null);
        avro_put_long(a, s->contains_nan >= 0);
        if (s->contains_nan >= 0)
            avro_put_bool(a, s->contains_nan);
        put_bytes_or_null(a, s->lower);
        put_bytes_or_null(a, s->upper);
    }
    avro_put_array_end(a, m->partitions_n);
}

/* In the order of list_rows. */
static void put_manifest(struct avro_writer *a, const struct manifest_file *m)
{
    avro_put_bytes(a, m->path);
    avro_put_long(a, m->length);
    avro_put_long(a, m->spec_id);
    avro_put_long(a, m->content);
    avro_put_long(a, m->sequence);
    avro_put_long(a, m->min_sequence);
    avro_put_long(a, m->added_snapshot_id);
    avro_put_long(a, m->added_files);
    avro_put_long(a, m->existing_files);
    avro_put_long(a, m->deleted_files);
    avro_put_long(a, m->added_rows);
    avro_put_long(a, m->existing_rows);
    avro_put_long(a, m->deleted_rows);
    put_summaries(a, m);
    put_bytes_or_null(a, m->key_metadata);
    avro_record_end(a);
}

enum err manifest_list_write(struct buf *out, const struct manifest_file *m, size_t n,
                             int64_t snapshot_id, int64_t parent_id, int64_t sequence,
                             enum avro_codec codec, const uint8_t sync[16])
{
    char id[24], parent[24], seq[24];
    struct avro_writer w;
    struct buf schema;
    enum err e;

    snprintf(id, sizeof id, "%" PRId64, snapshot_id);
    snprintf(parent, sizeof parent, "%" PRId64, parent_id);
    snprintf(seq, sizeof seq, "%" PRId64, sequence);
    const struct avro_meta meta[] = {
        {"snapshot-id", slice_str(id)},
        {"parent-snapshot-id", parent_id < 0 ? SLICE_LIT("null") : slice_str(parent)},
        {"sequence-number", slice_str(seq)},
        {"format-version", SLICE_LIT("2")},
    };

    buf_init(&schema, SCHEMA_MAX);
    e = buf_append_str(&schema, "{\"type\":\"record\",\"name\":\"manifest_file\",\"fields\":[");
    for (size_t i = 0; !e && i < LIST_ROWS; i++)
        e = put_row(&schema, &list_rows[i], list_rows[i].type, i == 0);
    e = e ? e : buf_append_str(&schema, "]}");
    avro_begin(&w, out, codec, sync, buf_slice(&schema), meta, sizeof meta / sizeof meta[0]);
    w.e = w.e ? w.e : e;
    for (size_t i = 0; i < n; i++)
        put_manifest(&w, &m[i]);
    e = avro_end(&w);
    buf_fini(&schema);
    return e;
}

static enum err summaries_get(const struct avro_value *rec, struct arena *keep,
                              struct manifest_file *m)
{
    const struct avro_value *v = avro_get(rec, 507);

    if (!v || v->type->kind != AVRO_ARRAY || v->type->field[0].type->kind != AVRO_RECORD)
        return ERR_OK;
    m->partitions = arena_zalloc(keep, v->n, sizeof *m->partitions);
    if (!m->partitions)
        return ERR_TOO_LARGE;
    m->partitions_n = v->n;
    for (uint32_t i = 0; i < v->n; i++) {
        const struct avro_value *null = avro_get(&v->item[i], 509);
        const struct avro_value *nan = avro_get(&v->item[i], 518);

        m->partitions[i].contains_null = !null || null->i;
        m->partitions[i].contains_nan = nan ? nan->i != 0 : -1;
        m->partitions[i].lower = dup_bytes(keep, get_bytes(&v->item[i], 510));
        m->partitions[i].upper = dup_bytes(keep, get_bytes(&v->item[i], 511));
    }
    return ERR_OK;
}

static enum err manifest_get(const struct avro_value *rec, struct arena *keep,
                             struct manifest_file *m)
{
    int64_t content = get_long(rec, 517, MANIFEST_DATA);

    *m = (struct manifest_file){
        .path = dup_bytes(keep, get_bytes(rec, 500)),
        .length = get_long(rec, 501, -1),
        .spec_id = (int32_t)get_long(rec, 502, -1),
        .content = (enum manifest_content)content,
        .sequence = get_long(rec, 515, 0),
        .min_sequence = get_long(rec, 516, 0),
        .added_snapshot_id = get_long(rec, 503, -1),
        .added_files = (int32_t)get_long(rec, 504, 0),
        .existing_files = (int32_t)get_long(rec, 505, 0),
        .deleted_files = (int32_t)get_long(rec, 506, 0),
        .added_rows = get_long(rec, 512, 0),
        .existing_rows = get_long(rec, 513, 0),
        .deleted_rows = get_long(rec, 514, 0),
        .key_metadata = dup_bytes(keep, get_bytes(rec, 519)),
    };
    if (!m->path.len || m->length < 0 || m->spec_id < 0 || content < 0 ||
        content > MANIFEST_DELETES)
        return ERR_CORRUPT;
    return summaries_get(rec, keep, m);
}

/* Reads records until the end; *out grows by doubling within the arena. */
static enum err list_read(struct avro_reader *r, struct arena *keep, struct manifest_file **out,
                          size_t *n, struct errinfo *info)
{
    struct arena a;
    size_t cap = 0;
    enum err e;

    arena_init(&a, 64u << 10, ENTRY_MAX);
    for (;;) {
        struct avro_value *rec;

        arena_reset(&a);
        e = avro_next(r, &a, &rec, info);
        if (e || !rec)
            break;
        if (*n == cap) {
            struct manifest_file *more;

            cap = cap ? cap * 2 : 64;
            more = *n < LIMIT_LAKE_MANIFESTS ? arena_zalloc(keep, cap, sizeof *more) : NULL;
            if (!more) {
                e = errinfo_set(info, ERR_TOO_LARGE, "a snapshot has too many manifests");
                break;
            }
            if (*n)
                memcpy(more, *out, *n * sizeof *more);
            *out = more;
        }
        e = manifest_get(rec, keep, &(*out)[*n]);
        if (e) {
            errinfo_set(info, e, "a manifest list's entry is not as it must be");
            break;
        }
        ++*n;
    }
    arena_fini(&a);
    return e;
}

enum err manifest_list_read(struct slice file, struct arena *keep, struct manifest_file **out,
                            size_t *n, struct errinfo *info)
{
    struct avro_reader r;
    enum err e;

    *out = NULL;
    *n = 0;
    e = avro_open(&r, file, info);
    if (e)
        return e;
    e = list_read(&r, keep, out, n, info);
    avro_close(&r);
    return e;
}
