/* Snapshots. See snapshot.h. */
#include "lake/snapshot.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "lake/json.h"

#define LIST_BYTES   (256u << 20) /* memory for the manifests of a snapshot */
#define COMMIT_TRIES 20u
#define MERGE_COUNT  100
#define MERGE_BYTES  (8 << 20)
#define UUID_LEN     36

/* ---- reading ---- */

/* The whole object at a location, into b. */
static enum err object_read(const struct lake_env *env, struct slice location, struct buf *b,
                            struct errinfo *info)
{
    char text[STORE_LOCATION_MAX + 1];
    const char *key;

    if (location.len > STORE_LOCATION_MAX)
        return errinfo_set(info, ERR_CORRUPT, "a location is too long");
    memcpy(text, location.ptr, location.len);
    text[location.len] = 0;
    key = store_key(env->store, text);
    if (!key)
        return errinfo_set(info, ERR_UNSUPPORTED, "%s is not in this store", text);
    buf_clear(b);
    return store_get(env->store, key, 0, STORE_ALL, b, NULL, info);
}

enum err snapshot_manifests(const struct lake_env *env, const json_t *snapshot, struct arena *a,
                            struct manifest_file **out, size_t *n, struct errinfo *info)
{
    const char *list = json_get_text(snapshot, "manifest-list");
    struct buf b;
    enum err e;

    *out = NULL;
    *n = 0;
    if (!snapshot)
        return ERR_OK;
    if (!list)
        return errinfo_set(info, ERR_UNSUPPORTED, "a snapshot has no manifest list");
    buf_init(&b, LIMIT_LAKE_MANIFEST);
    e = object_read(env, slice_str(list), &b, info);
    e = e ? e : manifest_list_read(buf_slice(&b), a, out, n, info);
    buf_fini(&b);
    return e;
}

struct live {
    const struct snapshot_scan *scan;
    const struct spec *spec;
};

static enum err live_one(void *arg, const struct manifest_entry *e)
{
    struct live *l = arg;

    return e->status == ENTRY_DELETED ? ERR_OK : l->scan->file(l->scan->arg, e, l->spec);
}

static enum err scan_manifest(const struct lake_env *env, const struct metadata *md,
                              const struct manifest_file *m, const struct snapshot_scan *scan,
                              struct buf *b, struct errinfo *info)
{
    struct live l = {.scan = scan};
    struct spec *spec;
    enum err e = metadata_spec(md, m->spec_id, &spec, info);

    if (e)
        return e;
    l.spec = spec;
    if (!scan->want || scan->want(scan->arg, m, spec)) {
        e = object_read(env, m->path, b, info);
        e = e ? e : manifest_read(buf_slice(b), m, spec, live_one, &l, info);
    }
    spec_free(&spec);
    return e;
}

enum err snapshot_files(const struct lake_env *env, const struct metadata *md, int64_t snapshot_id,
                        const struct snapshot_scan *scan, struct errinfo *info)
{
    const json_t *snapshot =
        snapshot_id < 0 ? metadata_current(md) : metadata_snapshot(md, snapshot_id);
    struct manifest_file *m;
    struct arena a;
    struct buf b;
    size_t n;
    enum err e;

    if (!snapshot && snapshot_id >= 0)
        return errinfo_set(info, ERR_NOT_FOUND, "the table has no snapshot %" PRId64, snapshot_id);
    arena_init(&a, 64u << 10, LIST_BYTES);
    buf_init(&b, LIMIT_LAKE_MANIFEST);
    e = snapshot_manifests(env, snapshot, &a, &m, &n, info);
    for (size_t i = 0; !e && i < n; i++)
        e = scan_manifest(env, md, &m[i], scan, &b, info);
    buf_fini(&b);
    arena_fini(&a);
    return e;
}

const char *snapshot_offsets_at(const struct metadata *md, const json_t *snapshot)
{
    const json_t *s = snapshot;

    if (!snapshot)
        return NULL;
    for (unsigned i = 0; s && i < LIMIT_LAKE_SNAPSHOTS; i++) {
        const char *text = json_get_text(json_object_get(s, "summary"), SNAPSHOT_OFFSETS);
        int64_t parent = json_int_or(s, "parent-snapshot-id", -1);

        if (text)
            return text;
        s = parent < 0 ? NULL : metadata_snapshot(md, parent);
    }
    /* those that had them are expired; not if the table was set back behind them */
    return json_int_or(snapshot, "sequence-number", 0) >=
                   metadata_property_int(md, SNAPSHOT_OFFSETS_SEQUENCE, INT64_MAX)
               ? metadata_property(md, SNAPSHOT_OFFSETS)
               : NULL;
}

const char *snapshot_offsets(const struct metadata *md)
{
    return snapshot_offsets_at(md, metadata_current(md));
}

/* ---- preparing ---- */

struct preparing {
    const struct lake_env *env;
    const struct metadata *md;
    const struct snapshot_change *change;
    struct snapshot_prepared *out;
    struct errinfo *info;
    struct schema *schema;
    struct spec *spec;
    int64_t id, sequence;
    char uuid[UUID_LEN + 1];
    unsigned files; /* manifests written */
    struct arena a;
    struct manifest_file *m; /* of the new snapshot */
    size_t n;
    struct buf in, made; /* a manifest read, one being written */
    struct map removed;  /* location -> itself, until found */
    int64_t deleted_files, deleted_rows, deleted_bytes;
};

static enum err put_object(struct preparing *p, const char *location, struct slice bytes)
{
    const char *key = store_key(p->env->store, location);
    struct store_source src = {.bytes = bytes};
    enum err e;

    if (!key)
        return errinfo_set(p->info, ERR_UNSUPPORTED, "%s is not in this store", location);
    json_array_append_new(p->out->written, json_string(key));
    e = store_put(p->env->store, key, &src, NULL, NULL, p->info);
    return e == ERR_UNCERTAIN ? store_put(p->env->store, key, &src, NULL, NULL, p->info) : e;
}

static struct manifest_writer *writer_begin(struct preparing *p, struct manifest_writer *w,
                                            const struct spec *spec, enum manifest_content content)
{
    uint8_t sync[16];

    io_random(p->env->io, sync, sizeof sync);
    buf_clear(&p->made);
    manifest_begin(w, &p->made, p->schema, spec, content, p->id, AVRO_DEFLATE, sync);
    return w;
}

/* Ends the manifest, stores it, and gives what the list has of it. */
static enum err writer_end(struct preparing *p, struct manifest_writer *w,
                           struct manifest_file *out)
{
    char location[STORE_LOCATION_MAX + 1];
    enum err e = manifest_end(w, &p->a, out);

    if (e)
        return errinfo_set(p->info, e, "a manifest cannot be written");
    snprintf(location, sizeof location, "%s/metadata/%s-m%u.avro", metadata_base(p->md), p->uuid,
             p->files++);
    out->path = arena_dup(&p->a, slice_str(location));
    out->sequence = p->sequence;
    out->min_sequence = out->min_sequence < p->sequence ? out->min_sequence : p->sequence;
    return out->path.ptr ? put_object(p, location, buf_slice(&p->made)) : ERR_TOO_LARGE;
}

/* Copies entries of a manifest as existing ones; those to be removed as deleted. */
struct copying {
    struct preparing *p;
    struct manifest_writer *w;
    bool remove;
};

static enum err copy_one(void *arg, const struct manifest_entry *e)
{
    struct copying *c = arg;
    struct manifest_entry out = *e;

    if (e->status == ENTRY_DELETED)
        return ERR_OK;
    out.status = ENTRY_EXISTING;
    if (c->remove && map_remove(&c->p->removed, e->file.path)) {
        out.status = ENTRY_DELETED;
        out.snapshot_id = c->p->id;
        c->p->deleted_files++;
        c->p->deleted_rows += e->file.records;
        c->p->deleted_bytes += e->file.bytes;
    }
    manifest_add(c->w, &out);
    return c->w->avro.e;
}

struct looking {
    const struct map *removed;
    bool any;
};

static enum err look_one(void *arg, const struct manifest_entry *e)
{
    struct looking *l = arg;

    if (e->status == ENTRY_DELETED || !map_find(l->removed, e->file.path))
        return ERR_OK;
    l->any = true;
    return ERR_CANCELLED; /* seen enough */
}

/* Writes the manifest anew if it has files that are to be removed. */
static enum err remove_from(struct preparing *p, struct manifest_file *m)
{
    struct looking look = {.removed = &p->removed};
    struct copying copy = {.p = p, .remove = true};
    struct manifest_writer w;
    struct manifest_file out;
    struct spec *spec;
    enum err e = object_read(p->env, m->path, &p->in, p->info);

    e = e ? e : manifest_read(buf_slice(&p->in), m, NULL, look_one, &look, p->info);
    if (!look.any)
        return e;
    e = metadata_spec(p->md, m->spec_id, &spec, p->info);
    if (e)
        return e;
    copy.w = writer_begin(p, &w, spec, m->content);
    e = manifest_read(buf_slice(&p->in), m, spec, copy_one, &copy, p->info);
    if (e) {
        (void)manifest_end(&w, &p->a, &out);
    } else {
        e = writer_end(p, &w, &out);
        *m = out;
    }
    spec_free(&spec);
    return e;
}

static enum err remove_files(struct preparing *p)
{
    const struct snapshot_change *c = p->change;
    enum err e = ERR_OK;

    for (size_t i = 0; i < c->removed_n; i++) {
        e = map_put(&p->removed, c->removed[i], (void *)(uintptr_t)&c->removed[i]);
        if (e)
            return errinfo_set(p->info, ERR_INVALID, "a file is removed twice");
    }
    for (size_t i = 0; !e && p->removed.n && i < p->n; i++) {
        if (p->m[i].content == MANIFEST_DATA)
            e = remove_from(p, &p->m[i]);
    }
    if (!e && p->removed.n)
        e = errinfo_set(p->info, ERR_CONFLICT, "a file to be removed is not in the table");
    return e;
}

static enum err add_files(struct preparing *p, struct manifest_file *out)
{
    struct manifest_writer w;

    writer_begin(p, &w, p->spec, MANIFEST_DATA);
    for (size_t i = 0; i < p->change->added_n; i++) {
        struct manifest_entry e = {.status = ENTRY_ADDED,
                                   .snapshot_id = p->id,
                                   .sequence = -1,
                                   .file_sequence = -1,
                                   .file = p->change->added[i]};

        manifest_add(&w, &e);
    }
    return writer_end(p, &w, out);
}

/* ---- merging ---- */

static bool mergeable(const struct preparing *p, const struct manifest_file *m, int64_t target)
{
    return m->content == MANIFEST_DATA && m->spec_id == p->spec->id && m->length < target / 2 &&
           m->added_snapshot_id != p->id;
}

/* Writes the chosen ones together; out's length is that of the result. */
static enum err merge_run(struct preparing *p, const bool *chosen, struct manifest_file *out)
{
    struct manifest_writer w;
    struct copying copy = {.p = p, .w = &w};
    enum err e = ERR_OK;

    writer_begin(p, &w, p->spec, MANIFEST_DATA);
    for (size_t i = 0; !e && i < p->n; i++) {
        if (!chosen[i])
            continue;
        e = object_read(p->env, p->m[i].path, &p->in, p->info);
        e = e ? e : manifest_read(buf_slice(&p->in), &p->m[i], p->spec, copy_one, &copy, p->info);
    }
    if (e) {
        (void)manifest_end(&w, &p->a, out);
        return e;
    }
    return writer_end(p, &w, out);
}

static enum err merge(struct preparing *p)
{
    int64_t count = metadata_property_int(p->md, "commit.manifest.min-count-to-merge", MERGE_COUNT);
    int64_t target = metadata_property_int(p->md, "commit.manifest.target-size-bytes", MERGE_BYTES);
    const char *on = metadata_property(p->md, "commit.manifest-merge.enabled");
    struct manifest_file merged;
    int64_t bytes = 0, small = 0;
    bool *chosen;
    size_t n = 0;
    enum err e;

    for (size_t i = 0; i < p->n; i++)
        small += mergeable(p, &p->m[i], target);
    if (small < (count < 2 ? 2 : count) || (on && strcmp(on, "false") == 0))
        return ERR_OK;
    chosen = xcalloc(p->n, 1);
    for (size_t i = p->n; i-- > 0;) { /* from the oldest on */
        if (mergeable(p, &p->m[i], target) && bytes + p->m[i].length <= target) {
            chosen[i] = true;
            bytes += p->m[i].length;
        }
    }
    e = merge_run(p, chosen, &merged);
    for (size_t i = 0; !e && i < p->n; i++) {
        if (!chosen[i])
            p->m[n++] = p->m[i];
    }
    free(chosen);
    if (!e) {
        p->m[n++] = merged;
        p->n = n;
    }
    return e;
}

/* ---- summary ---- */

static const char *const operation_words[] = {"append", "replace", "overwrite", "delete"};

static void put_count(json_t *o, const char *key, int64_t v)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRId64, v);
    json_object_set_new(o, key, json_string(text));
}

static int64_t count_of(const json_t *summary, const char *key)
{
    const char *s = json_get_text(summary, key);

    return s ? strtoll(s, NULL, 10) : 0;
}

/* How many different partitions the added files are in. */
static int64_t partitions_of(const struct preparing *p)
{
    int64_t n = 0;
    struct buf *keys = xcalloc(p->change->added_n + 1, sizeof *keys);
    struct map seen;

    map_init(&seen, LIMIT_LAKE_MANIFESTS, NULL);
    for (size_t i = 0; i < p->change->added_n; i++) {
        buf_init(&keys[i], 1u << 20);
        for (uint32_t k = 0; k < p->spec->n; k++) {
            const struct ice_value *v = &p->change->added[i].partition[k];

            if (buf_append_u8(&keys[i], v->null) ||
                (!v->null && ice_value_write(p->spec->field[k].result, v, &keys[i])) ||
                buf_append_u8(&keys[i], 0))
                break;
        }
        n += map_put(&seen, keys[i].len ? buf_slice(&keys[i]) : SLICE_LIT(""), keys) == ERR_OK;
    }
    map_fini(&seen);
    for (size_t i = 0; i < p->change->added_n; i++)
        buf_fini(&keys[i]);
    free(keys);
    return n;
}

static void put_totals(const struct preparing *p, json_t *s, int64_t added_bytes)
{
    const json_t *parent = metadata_current(p->md), *before = json_object_get(parent, "summary");
    int64_t files = 0, rows = 0, delete_files = 0;

    for (size_t i = 0; i < p->n; i++) {
        if (p->m[i].content != MANIFEST_DATA) {
            delete_files += p->m[i].added_files + p->m[i].existing_files;
            continue;
        }
        files += p->m[i].added_files + p->m[i].existing_files;
        rows += p->m[i].added_rows + p->m[i].existing_rows;
    }
    put_count(s, "total-data-files", files);
    put_count(s, "total-records", rows);
    put_count(s, "total-delete-files", delete_files);
    put_count(s, "total-position-deletes", count_of(before, "total-position-deletes"));
    put_count(s, "total-equality-deletes", count_of(before, "total-equality-deletes"));
    if (!parent || json_get_text(before, "total-files-size"))
        put_count(s, "total-files-size",
                  count_of(before, "total-files-size") + added_bytes - p->deleted_bytes);
}

static json_t *summary_make(const struct preparing *p)
{
    const struct snapshot_change *c = p->change;
    const char *offsets = snapshot_offsets(p->md);
    int64_t rows = 0, bytes = 0;
    json_t *s = json_object();

    for (size_t i = 0; i < c->added_n; i++) {
        rows += c->added[i].records;
        bytes += c->added[i].bytes;
    }
    json_object_set_new(s, "operation", json_string(operation_words[c->operation]));
    if (c->added_n) {
        put_count(s, "added-data-files", (int64_t)c->added_n);
        put_count(s, "added-records", rows);
        put_count(s, "added-files-size", bytes);
        put_count(s, "changed-partition-count", partitions_of(p));
    }
    if (p->deleted_files) {
        put_count(s, "deleted-data-files", p->deleted_files);
        put_count(s, "deleted-records", p->deleted_rows);
        put_count(s, "removed-files-size", p->deleted_bytes);
    }
    put_totals(p, s, bytes);
    if (offsets)
        json_object_set_new(s, SNAPSHOT_OFFSETS, json_string(offsets));
    for (size_t i = 0; i < c->summary_n; i++)
        json_object_set_new(s, c->summary[2 * i], json_string(c->summary[2 * i + 1]));
    return s;
}

/* ---- the list, and the request to commit ---- */

static enum err write_list(struct preparing *p, char location[STORE_LOCATION_MAX + 1])
{
    uint8_t sync[16];
    enum err e;

    snprintf(location, STORE_LOCATION_MAX + 1, "%s/metadata/snap-%" PRId64 "-1-%s.avro",
             metadata_base(p->md), p->id, p->uuid);
    io_random(p->env->io, sync, sizeof sync);
    buf_clear(&p->made);
    e = manifest_list_write(&p->made, p->m, p->n, p->id, metadata_current_id(p->md), p->sequence,
                            AVRO_DEFLATE, sync);
    if (e)
        return errinfo_set(p->info, e, "the manifest list cannot be written");
    return put_object(p, location, buf_slice(&p->made));
}

static void schema_updates(const struct preparing *p, json_t *updates, json_t *requirements)
{
    const struct snapshot_change *c = p->change;

    if (!c->schema)
        return;
    json_array_append_new(requirements,
                          json_pack("{s:s, s:i}", "type", "assert-last-assigned-field-id",
                                    "last-assigned-field-id", (int)metadata_last_column(p->md)));
    json_array_append_new(requirements,
                          json_pack("{s:s, s:I}", "type", "assert-current-schema-id",
                                    "current-schema-id",
                                    (json_int_t)json_int_or(p->md->doc, "current-schema-id", 0)));
    json_array_append_new(updates,
                          json_pack("{s:s, s:o, s:i}", "action", "add-schema", "schema",
                                    schema_json(p->schema), "last-column-id", (int)c->last_column));
    json_array_append_new(updates,
                          json_pack("{s:s, s:i}", "action", "set-current-schema", "schema-id", -1));
}

/* Covered offsets are a property of the table, too: who expires snapshots may leave only his own. */
static void offsets_update(const struct preparing *p, json_t *updates)
{
    const char *text = NULL;

    for (size_t i = 0; i < p->change->summary_n; i++)
        if (strcmp(p->change->summary[2 * i], SNAPSHOT_OFFSETS) == 0)
            text = p->change->summary[2 * i + 1];
    text = text ? text : snapshot_offsets(p->md);
    if (text)
        json_array_append_new(updates, json_pack("{s:s, s:{s:s, s:o}}", "action", "set-properties",
                                                 "updates", SNAPSHOT_OFFSETS, text,
                                                 SNAPSHOT_OFFSETS_SEQUENCE,
                                                 json_sprintf("%" PRId64, p->sequence)));
}

static void put_request(struct preparing *p, const char *list)
{
    int64_t parent = metadata_current_id(p->md), now = io_wall_ms(p->env->io);
    int64_t last = json_int_or(p->md->doc, "last-updated-ms", 0);
    json_t *snapshot;

    p->out->requirements = json_array();
    p->out->updates = json_array();
    json_array_append_new(p->out->requirements, json_pack("{s:s, s:s}", "type", "assert-table-uuid",
                                                          "uuid", metadata_uuid(p->md)));
    json_array_append_new(p->out->requirements,
                          json_pack("{s:s, s:s, s:o}", "type", "assert-ref-snapshot-id", "ref",
                                    "main", "snapshot-id",
                                    parent < 0 ? json_null() : json_integer(parent)));
    schema_updates(p, p->out->updates, p->out->requirements);
    offsets_update(p, p->out->updates);
    snapshot = json_pack("{s:I, s:I, s:I, s:s, s:o, s:i}", "snapshot-id", (json_int_t)p->id,
                         "sequence-number", (json_int_t)p->sequence, "timestamp-ms",
                         (json_int_t)(now > last ? now : last), "manifest-list", list, "summary",
                         summary_make(p), "schema-id", (int)p->schema->id);
    if (parent >= 0)
        json_object_set_new(snapshot, "parent-snapshot-id", json_integer(parent));
    json_array_append_new(p->out->updates,
                          json_pack("{s:s, s:o}", "action", "add-snapshot", "snapshot", snapshot));
    json_array_append_new(p->out->updates, json_pack("{s:s, s:s, s:s, s:I}", "action",
                                                     "set-snapshot-ref", "ref-name", "main", "type",
                                                     "branch", "snapshot-id", (json_int_t)p->id));
}

/* The schema that the snapshot will have: the change's, as it will be numbered. */
static enum err schema_choose(struct preparing *p)
{
    json_t *one;
    int32_t most = -1;
    size_t i;

    if (!p->change->schema)
        return metadata_schema(p->md, -1, &p->schema, p->info);
    p->schema = schema_clone(p->change->schema);
    json_array_foreach(json_object_get(p->md->doc, "schemas"), i, one)
    {
        int32_t id = (int32_t)json_int_or(one, "schema-id", 0);
        struct schema *other;

        most = id > most ? id : most;
        if (schema_parse(one, &other, NULL))
            continue;
        if (schema_same(other, p->change->schema)) {
            p->schema->id = id;
            schema_free(&other);
            return ERR_OK;
        }
        schema_free(&other);
    }
    p->schema->id = most + 1;
    return ERR_OK;
}

static void ids_choose(struct preparing *p)
{
    uint8_t random[16];

    do {
        io_random(p->env->io, random, sizeof random);
        p->id = snapshot_id_from(random);
    } while (metadata_snapshot(p->md, p->id));
    io_random(p->env->io, random, sizeof random);
    uuid_text(random, p->uuid);
    p->sequence = metadata_last_sequence(p->md) + 1;
    p->out->id = p->id;
}

/* The manifests of before that still have files, with room for two more. */
static enum err manifests_load(struct preparing *p)
{
    struct manifest_file *m;
    size_t n;
    enum err e = snapshot_manifests(p->env, metadata_current(p->md), &p->a, &m, &n, p->info);

    if (e)
        return e;
    p->m = arena_zalloc(&p->a, n + 2, sizeof *p->m);
    if (!p->m)
        return errinfo_set(p->info, ERR_TOO_LARGE, "the table has too many manifests");
    for (size_t i = 0; i < n; i++) {
        if (m[i].content == MANIFEST_DELETES && p->change->operation == SNAPSHOT_REPLACE)
            return errinfo_set(p->info, ERR_UNSUPPORTED,
                               "the table has delete files, which compaction does not apply");
        if (m[i].added_files + m[i].existing_files > 0)
            p->m[p->n++] = m[i];
    }
    return ERR_OK;
}

static enum err prepare(struct preparing *p)
{
    char list[STORE_LOCATION_MAX + 1];
    struct manifest_file added;
    enum err e;

    if (strlen(metadata_base(p->md)) + 128 > STORE_LOCATION_MAX)
        return errinfo_set(p->info, ERR_UNSUPPORTED, "the table's location is too long");
    ids_choose(p);
    e = schema_choose(p);
    e = e ? e : metadata_spec(p->md, -1, &p->spec, p->info);
    e = e ? e : manifests_load(p);
    if (!e && p->change->removed_n)
        e = remove_files(p);
    e = e ? e : merge(p);
    if (!e && p->change->added_n) {
        e = add_files(p, &added);
        if (!e) { /* the newest comes first */
            memmove(p->m + 1, p->m, p->n * sizeof *p->m);
            p->m[0] = added;
            p->n++;
        }
    }
    e = e ? e : write_list(p, list);
    if (!e)
        put_request(p, list);
    return e;
}

enum err snapshot_prepare(const struct lake_env *env, const struct metadata *md,
                          const struct snapshot_change *change, struct snapshot_prepared *out,
                          struct errinfo *info)
{
    struct preparing p = {.env = env, .md = md, .change = change, .out = out, .info = info};
    enum err e;

    *out = (struct snapshot_prepared){.written = json_array()};
    arena_init(&p.a, 64u << 10, LIST_BYTES);
    buf_init(&p.in, LIMIT_LAKE_MANIFEST);
    buf_init(&p.made, LIMIT_LAKE_MANIFEST);
    map_init(&p.removed, LIMIT_STORE_LIST, NULL);
    e = prepare(&p);
    map_fini(&p.removed);
    buf_fini(&p.in);
    buf_fini(&p.made);
    schema_free(&p.schema);
    spec_free(&p.spec);
    arena_fini(&p.a);
    if (e)
        snapshot_discard(env, out);
    return e;
}

void snapshot_prepared_fini(struct snapshot_prepared *p)
{
    json_decref(p->requirements);
    json_decref(p->updates);
    json_decref(p->written);
    *p = (struct snapshot_prepared){0};
}

void snapshot_discard(const struct lake_env *env, struct snapshot_prepared *p)
{
    for (size_t i = 0; i < json_array_size(p->written); i++) {
        const char *key = json_string_value(json_array_get(p->written, i));

        (void)store_delete(env->store, &key, 1, NULL);
    }
    snapshot_prepared_fini(p);
}

/* ---- committing ---- */

/* After a commit whose outcome is not known: whether the table has the snapshot. *md is loaded anew.
 */
static enum err landed(struct catalog *c, const struct table_name *t, int64_t id,
                       struct metadata **md, bool *yes, struct errinfo *info)
{
    struct metadata *now;
    enum err e = catalog_load(c, t, &now, info);

    *yes = false;
    if (e)
        return errinfo_set(info, ERR_UNCERTAIN,
                           "the commit may have happened: the table does not "
                           "load to tell");
    metadata_free(md);
    *md = now;
    *yes = metadata_snapshot(now, id) != NULL;
    return ERR_OK;
}

/* One try: ERR_CONFLICT if another commit came first, with *md loaded anew. */
static enum err commit_once(const struct lake_env *env, struct catalog *c,
                            const struct table_name *t, struct metadata **md,
                            const struct snapshot_change *change, struct errinfo *info)
{
    struct snapshot_prepared p;
    struct metadata *after = NULL;
    bool yes = false;
    enum err e = snapshot_prepare(env, *md, change, &p, info), look;

    if (e)
        return e;
    e = catalog_commit(c, t, p.requirements, p.updates, &after, info);
    if (!e) {
        snapshot_prepared_fini(&p);
        metadata_free(md);
        *md = after;
        return ERR_OK;
    }
    if (e == ERR_CONFLICT || e == ERR_UNCERTAIN) {
        look = landed(c, t, p.id, md, &yes, e == ERR_CONFLICT ? NULL : info);
        if (look)
            e = look;
        else if (yes)
            e = ERR_OK;
        else if (e == ERR_UNCERTAIN) /* not yet: what was sent may still arrive */
            errinfo_set(info, e, "the commit is not in the table so far, and may still come");
    }
    if (e && e != ERR_UNCERTAIN)
        snapshot_discard(env, &p);
    else
        snapshot_prepared_fini(&p);
    return e;
}

enum err snapshot_commit(const struct lake_env *env, struct catalog *c, const struct table_name *t,
                         struct metadata **md, const struct snapshot_change *change,
                         enum err (*rebase)(void *arg, const struct metadata *md,
                                            struct errinfo *info),
                         void *arg, struct errinfo *info)
{
    char uuid[UUID_LEN + 1];
    enum err e = ERR_CONFLICT;

    snprintf(uuid, sizeof uuid, "%s", metadata_uuid(*md));
    for (unsigned i = 0; e == ERR_CONFLICT && i < COMMIT_TRIES; i++) {
        int64_t before = metadata_current_id(*md);

        e = commit_once(env, c, t, md, change, info);
        if (e != ERR_CONFLICT)
            break;
        if (strcmp(uuid, metadata_uuid(*md)) != 0)
            return errinfo_set(info, ERR_NOT_FOUND, "the table was dropped and made again");
        if (change->schema || before == metadata_current_id(*md))
            return e; /* not for another snapshot: the caller has to look for itself */
        if (rebase) {
            enum err stop = rebase(arg, *md, info);

            if (stop)
                return stop;
        }
    }
    return e;
}

/* ---- expiry ---- */

/* Locations, with copies as keys. */
struct paths {
    struct map map;
};

static void paths_init(struct paths *p)
{
    map_init(&p->map, LIMIT_STORE_LIST, NULL);
}

static enum err paths_add(struct paths *p, struct slice s)
{
    char *copy;
    enum err e;

    if (map_find(&p->map, s))
        return ERR_OK;
    copy = xmalloc(s.len + 1);
    memcpy(copy, s.ptr, s.len);
    copy[s.len] = 0;
    e = map_put(&p->map, slice_of(copy, s.len), copy);
    if (e)
        free(copy);
    return e;
}

static void paths_remove(struct paths *p, struct slice s)
{
    free(map_remove(&p->map, s));
}

static void paths_fini(struct paths *p)
{
    uint32_t at = 0;
    void *v;

    while (map_next(&p->map, &at, NULL, &v))
        free(v);
    map_fini(&p->map);
}

struct expiring {
    const struct lake_env *env;
    struct paths kept_manifests, manifests, files, lists;
    struct errinfo *info;
    struct buf b;
    bool removing; /* take files out of `files`, instead of adding them */
};

static enum err file_seen(void *arg, const struct manifest_entry *e)
{
    struct expiring *x = arg;

    if (!x->removing)
        return paths_add(&x->files, e->file.path);
    if (e->status != ENTRY_DELETED)
        paths_remove(&x->files, e->file.path);
    return ERR_OK;
}

/* Manifests of a snapshot: into the set. */
static enum err manifests_of(struct expiring *x, const json_t *snapshot, struct paths *to,
                             const struct paths *except)
{
    struct manifest_file *m;
    struct arena a;
    size_t n;
    enum err e;

    arena_init(&a, 64u << 10, LIST_BYTES);
    e = snapshot_manifests(x->env, snapshot, &a, &m, &n, x->info);
    for (size_t i = 0; !e && i < n; i++) {
        if (!except || !map_find(&except->map, m[i].path))
            e = paths_add(to, m[i].path);
    }
    arena_fini(&a);
    return e;
}

/* The files that a set of manifests names. */
static enum err files_of(struct expiring *x, const struct paths *manifests, bool removing)
{
    static const struct manifest_file nothing = {0};
    uint32_t at = 0;
    struct slice key;
    void *v;
    enum err e = ERR_OK;

    x->removing = removing;
    while (!e && map_next(&manifests->map, &at, &key, &v)) {
        e = object_read(x->env, key, &x->b, x->info);
        e = e ? e : manifest_read(buf_slice(&x->b), &nothing, NULL, file_seen, x, x->info);
    }
    return e;
}

/* What only the snapshots that went had: their lists, manifests, files. */
static enum err garbage_find(struct expiring *x, const struct metadata *before,
                             const struct metadata *after)
{
    const json_t *list = json_object_get(before->doc, "snapshots");
    const json_t *rest = json_object_get(after->doc, "snapshots");
    enum err e = ERR_OK;

    for (size_t i = 0; !e && i < json_array_size(rest); i++)
        e = manifests_of(x, json_array_get(rest, i), &x->kept_manifests, NULL);
    for (size_t i = 0; !e && i < json_array_size(list); i++) {
        const json_t *s = json_array_get(list, i);
        const char *path = json_get_text(s, "manifest-list");

        if (metadata_snapshot(after, json_int_or(s, "snapshot-id", -1)) || !path)
            continue;
        e = manifests_of(x, s, &x->manifests, &x->kept_manifests);
        if (e == ERR_NOT_FOUND) /* removed by an expiry that did not come to its end */
            e = ERR_OK;
        e = e ? e : paths_add(&x->lists, slice_str(path));
    }
    e = e ? e : files_of(x, &x->manifests, false);
    if (!e && x->files.map.n)
        e = files_of(x, &x->kept_manifests, true);
    return e;
}

static enum err delete_paths(struct expiring *x, const struct paths *p, uint64_t *n)
{
    uint32_t at = 0;
    void *v;
    enum err e = ERR_OK;

    while (!e && map_next(&p->map, &at, NULL, &v)) {
        const char *key = store_key(x->env->store, v);

        e = key ? store_delete(x->env->store, &key, 1, x->info) : ERR_OK;
        *n += !e && key;
    }
    return e;
}

/* Files first, lists last: what is left after a failure can be found again as orphans. */
static enum err garbage_delete(struct expiring *x, struct expire_result *out)
{
    uint64_t lists = 0;
    enum err e = delete_paths(x, &x->files, &out->data_files);

    e = e ? e : delete_paths(x, &x->manifests, &out->manifests);
    return e ? e : delete_paths(x, &x->lists, &lists);
}

static enum err expire_commit(struct catalog *c, const struct table_name *t,
                              const struct metadata *md, json_t *ids, struct metadata **after,
                              struct errinfo *info)
{
    json_t *requirements =
        json_pack("[{s:s, s:s}, {s:s, s:s, s:o}]", "type", "assert-table-uuid", "uuid",
                  metadata_uuid(md), "type", "assert-ref-snapshot-id", "ref", "main", "snapshot-id",
                  json_integer(metadata_current_id(md)));
    json_t *updates = json_pack("[{s:s, s:O}]", "action", "remove-snapshots", "snapshot-ids", ids);
    enum err e = catalog_commit(c, t, requirements, updates, after, info);

    json_decref(requirements);
    json_decref(updates);
    return e;
}

enum err snapshot_expire(const struct lake_env *env, struct catalog *c, const struct table_name *t,
                         int64_t older_than_ms, unsigned keep, struct expire_result *out,
                         struct errinfo *info)
{
    struct expiring x = {.env = env, .info = info};
    struct metadata *md, *after = NULL;
    json_t *ids;
    enum err e = catalog_load(c, t, &md, info);

    *out = (struct expire_result){0};
    if (e)
        return e;
    ids = metadata_expired(md, older_than_ms, keep);
    out->snapshots = json_array_size(ids);
    if (out->snapshots)
        e = expire_commit(c, t, md, ids, &after, info);
    if (!e && out->snapshots) {
        paths_init(&x.kept_manifests);
        paths_init(&x.manifests);
        paths_init(&x.files);
        paths_init(&x.lists);
        buf_init(&x.b, LIMIT_LAKE_MANIFEST);
        e = garbage_find(&x, md, after);
        e = e ? e : garbage_delete(&x, out);
        paths_fini(&x.kept_manifests);
        paths_fini(&x.manifests);
        paths_fini(&x.files);
        paths_fini(&x.lists);
        buf_fini(&x.b);
    }
    json_decref(ids);
    metadata_free(&md);
    metadata_free(&after);
    return e;
}

/* ---- orphans ---- */

struct orphans {
    const struct lake_env *env;
    struct paths named; /* keys */
    struct paths gone;
    int64_t older_than_ms;
    enum err e;
};

static enum err name_location(struct orphans *o, struct slice location)
{
    char text[STORE_LOCATION_MAX + 1];
    const char *key;

    if (location.len > STORE_LOCATION_MAX)
        return ERR_OK;
    memcpy(text, location.ptr, location.len);
    text[location.len] = 0;
    key = store_key(o->env->store, text);
    return key ? paths_add(&o->named, slice_str(key)) : ERR_OK;
}

static enum err orphan_file(void *arg, const struct manifest_entry *e)
{
    return name_location(arg, e->file.path);
}

/* Every location that the document has somewhere: lists, statistics, the metadata log. */
static enum err name_texts(struct orphans *o, const json_t *v, unsigned depth)
{
    const char *key;
    json_t *one;
    size_t i;
    enum err e = ERR_OK;

    if (json_is_string(v))
        return name_location(o, slice_of(json_string_value(v), json_string_length(v)));
    if (depth > 16)
        return ERR_OK;
    if (json_is_array(v)) {
        json_array_foreach(v, i, one)
        {
            e = e ? e : name_texts(o, one, depth + 1);
        }
    } else {
        json_object_foreach((json_t *)(uintptr_t)v, key, one)
        {
            e = e ? e : name_texts(o, one, depth + 1);
        }
    }
    return e;
}

static enum err name_snapshots(struct orphans *o, const struct metadata *md, struct errinfo *info)
{
    static const struct manifest_file nothing = {0};
    const json_t *list = json_object_get(md->doc, "snapshots");
    struct expiring x = {.env = o->env, .info = info};
    uint32_t at = 0;
    struct slice key;
    void *v;
    enum err e = ERR_OK;

    paths_init(&x.manifests);
    buf_init(&x.b, LIMIT_LAKE_MANIFEST);
    for (size_t i = 0; !e && i < json_array_size(list); i++)
        e = manifests_of(&x, json_array_get(list, i), &x.manifests, NULL);
    while (!e && map_next(&x.manifests.map, &at, &key, &v)) {
        e = name_location(o, key);
        e = e ? e : object_read(o->env, key, &x.b, info);
        e = e ? e : manifest_read(buf_slice(&x.b), &nothing, NULL, orphan_file, o, info);
    }
    paths_fini(&x.manifests);
    buf_fini(&x.b);
    return e;
}

static bool orphan_one(void *arg, const struct store_entry *e)
{
    struct orphans *o = arg;
    const char *name = strrchr(e->key, '/');
    size_t n = strlen(e->key), tail = strlen(".metadata.json");

    if (e->modified_ms <= 0 || e->modified_ms >= o->older_than_ms ||
        map_find(&o->named.map, slice_str(e->key)))
        return true;
    /* Versions and the hint are the catalog's own; whoever loses a race about them is not known
     * here. */
    if ((name && strcmp(name, "/version-hint.text") == 0) ||
        (n > tail && strcmp(e->key + n - tail, ".metadata.json") == 0))
        return true;
    o->e = paths_add(&o->gone, slice_str(e->key));
    return !o->e;
}

static enum err orphans_below(struct orphans *o, const struct metadata *md, const char *folder,
                              struct errinfo *info)
{
    char location[STORE_LOCATION_MAX + 16];
    const char *key;
    enum err e;

    snprintf(location, sizeof location, "%.*s/%s", (int)STORE_LOCATION_MAX - 16, metadata_base(md),
             folder);
    key = store_key(o->env->store, location);
    if (!key)
        return errinfo_set(info, ERR_UNSUPPORTED, "%s is not in this store", location);
    memmove(location, key, strlen(key) + 1);
    snprintf(location + strlen(location), 2, "/");
    e = store_list(o->env->store, location, NULL, orphan_one, o, info);
    return e ? e : o->e;
}

enum err snapshot_orphans(const struct lake_env *env, const struct metadata *md,
                          int64_t older_than_ms, uint64_t *n, struct errinfo *info)
{
    struct orphans o = {.env = env, .older_than_ms = older_than_ms};
    uint32_t at = 0;
    struct slice key;
    void *v;
    enum err e;

    *n = 0;
    paths_init(&o.named);
    paths_init(&o.gone);
    e = name_texts(&o, md->doc, 0);
    if (!e && md->location)
        e = name_location(&o, slice_str(md->location));
    e = e ? e : name_snapshots(&o, md, info);
    e = e ? e : orphans_below(&o, md, "data", info);
    e = e ? e : orphans_below(&o, md, "metadata", info);
    while (!e && map_next(&o.gone.map, &at, &key, &v)) {
        const char *one = v;

        e = store_delete(env->store, &one, 1, info);
        *n += !e;
    }
    paths_fini(&o.named);
    paths_fini(&o.gone);
    return e;
}
