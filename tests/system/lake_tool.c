/* A table in a folder, changed by the commands of a test: so that readers by others can be tried on
 * metadata that Weir wrote, whatever writes the Parquet files.
 *
 *     lake_tool URL NAMESPACE TABLE < commands        one JSON object a line
 *
 *     {"do":"create","schema":{…},"spec":["hour(timestamp)"],"properties":{…}}
 *     {"do":"append"|"replace"|"delete","files":[{"path","records","bytes","partition":[…],
 *          "values":{"1":3},"nulls":{"3":1},"lower":{"1":5},"upper":{"1":7}}],"remove":["…"],
 *          "offsets":"{…}"}
 *     {"do":"schema","schema":{…}}
 *     {"do":"expire","keep":1}
 *     {"do":"scan"}                 answers {"files":…,"rows":…,"partitions":…} of what is live
 *
 * Each answers with a line: {"snapshot":…} or {"error":"…"}. Bounds are whole numbers or texts, by
 * the column's type. Paths are below the table's data folder. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/io.h"
#include "lake/json.h"
#include "lake/snapshot.h"

#define FILES_MAX 64u
#define IDS_MAX   32u

struct tool {
    struct store *store;
    struct catalog *catalog;
    struct lake_env env;
    struct table_name t;
    struct metadata *md;
    struct errinfo info;
};

struct file {
    struct data_file f;
    struct ice_value partition[8];
    struct id_count values[IDS_MAX], nulls[IDS_MAX];
    struct id_bytes lower[IDS_MAX], upper[IDS_MAX];
    struct buf bounds;
    char path[1024];
};

static enum err create(struct tool *t, const json_t *o)
{
    const char *texts[8];
    const json_t *list = json_object_get(o, "spec");
    unsigned n = (unsigned)json_array_size(list);
    struct schema *s = NULL;
    struct spec *spec = NULL;
    json_t *request;
    enum err e = schema_parse(json_object_get(o, "schema"), &s, &t->info);

    for (unsigned i = 0; i < n && i < 8; i++)
        texts[i] = json_string_value(json_array_get(list, i));
    e = e ? e : spec_from_texts(texts, n, s, 0, SPEC_FIRST_FIELD, &spec, &t->info);
    if (!e) {
        request = json_pack("{s:O, s:o}", "schema", json_object_get(o, "schema"), "partition-spec",
                            spec_json(spec));
        if (json_object_get(o, "properties"))
            json_object_set(request, "properties", json_object_get(o, "properties"));
        e = catalog_create(t->catalog, &t->t, request, &t->md, &t->info);
        json_decref(request);
    }
    schema_free(&s);
    spec_free(&spec);
    return e;
}

static struct ice_value value_of(struct ice_type type, const json_t *v)
{
    struct ice_value out = {0};

    out.null = !v || json_is_null(v);
    out.i = json_integer_value(v);
    out.d = json_number_value(v);
    if (json_is_string(v))
        out.bytes = slice_str(json_string_value(v));
    return out;
}

static struct id_counts counts_of(const json_t *o, struct id_count *at)
{
    struct id_counts c = {.at = at};
    const char *id;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)o, id, v)
    {
        if (c.n < IDS_MAX)
            at[c.n++] = (struct id_count){(int32_t)strtol(id, NULL, 10), json_integer_value(v)};
    }
    return c;
}

static struct id_bounds bounds_of(const json_t *o, const struct schema *s, bool upper,
                                  struct id_bytes *at, struct buf *b)
{
    struct id_bounds out = {.at = at};
    const char *id;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)o, id, v)
    {
        const struct schema_field *f = schema_find(s, (int32_t)strtol(id, NULL, 10));
        struct ice_value value = value_of(f->type, v);
        size_t from = b->len;
        bool some;
        enum err e = upper ? ice_bound_upper(f->type, &value, b, &some)
                           : ice_bound_lower(f->type, &value, b, &some);

        if (!e && some && out.n < IDS_MAX)
            at[out.n++] = (struct id_bytes){f->id, slice_of(b->ptr + from, b->len - from)};
    }
    return out;
}

static void file_of(struct tool *t, const json_t *o, const struct schema *s,
                    const struct spec *spec, struct file *f)
{
    const json_t *partition = json_object_get(o, "partition");

    memset(f, 0, sizeof *f);
    buf_init(&f->bounds, 1u << 20);
    if (buf_reserve(&f->bounds, 65536)) /* so that slices stay */
        abort();
    snprintf(f->path, sizeof f->path, "%s/data/%s", metadata_base(t->md), json_get_text(o, "path"));
    for (uint32_t i = 0; i < spec->n && i < 8; i++)
        f->partition[i] = value_of(spec->field[i].result, json_array_get(partition, i));
    f->f = (struct data_file){.path = slice_str(f->path),
                              .format = SLICE_LIT("PARQUET"),
                              .partition = f->partition,
                              .records = json_int_or(o, "records", 0),
                              .bytes = json_int_or(o, "bytes", 0),
                              .sort_order_id = -1};
    f->f.value_counts = counts_of(json_object_get(o, "values"), f->values);
    f->f.null_counts = counts_of(json_object_get(o, "nulls"), f->nulls);
    f->f.lower = bounds_of(json_object_get(o, "lower"), s, false, f->lower, &f->bounds);
    f->f.upper = bounds_of(json_object_get(o, "upper"), s, true, f->upper, &f->bounds);
}

static enum err change(struct tool *t, const json_t *o, enum snapshot_operation op)
{
    const json_t *files = json_object_get(o, "files"), *remove = json_object_get(o, "remove");
    const char *summary[2] = {SNAPSHOT_OFFSETS, json_get_text(o, "offsets")};
    struct file *f = xcalloc(FILES_MAX, sizeof *f);
    struct data_file added[FILES_MAX];
    char gone[FILES_MAX][1024];
    struct slice removed[FILES_MAX];
    struct snapshot_change c = {.operation = op,
                                .added = added,
                                .added_n = json_array_size(files),
                                .removed = removed,
                                .removed_n = json_array_size(remove),
                                .summary = summary,
                                .summary_n = summary[1] != NULL};
    struct schema *s = NULL;
    struct spec *spec = NULL;
    enum err e = metadata_schema(t->md, -1, &s, &t->info);

    e = e ? e : metadata_spec(t->md, -1, &spec, &t->info);
    if (c.added_n > FILES_MAX || c.removed_n > FILES_MAX)
        e = errinfo_set(&t->info, ERR_INVALID, "too many files");
    for (size_t i = 0; !e && i < c.added_n; i++) {
        file_of(t, json_array_get(files, i), s, spec, &f[i]);
        added[i] = f[i].f;
    }
    for (size_t i = 0; !e && i < c.removed_n; i++) {
        snprintf(gone[i], sizeof gone[i], "%s/data/%s", metadata_base(t->md),
                 json_string_value(json_array_get(remove, i)));
        removed[i] = slice_str(gone[i]);
    }
    e = e ? e : snapshot_commit(&t->env, t->catalog, &t->t, &t->md, &c, NULL, NULL, &t->info);
    for (size_t i = 0; i < FILES_MAX; i++)
        buf_fini(&f[i].bounds);
    free(f);
    schema_free(&s);
    spec_free(&spec);
    return e;
}

static enum err evolve(struct tool *t, const json_t *o)
{
    json_t *updates =
        json_pack("[{s:s, s:O}, {s:s, s:i}]", "action", "add-schema", "schema",
                  json_object_get(o, "schema"), "action", "set-current-schema", "schema-id", -1);
    struct metadata *after = NULL;
    enum err e = catalog_commit(t->catalog, &t->t, NULL, updates, &after, &t->info);

    json_decref(updates);
    if (!e) {
        metadata_free(&t->md);
        t->md = after;
    }
    return e;
}

static enum err expire(struct tool *t, const json_t *o)
{
    struct expire_result r;
    enum err e = snapshot_expire(&t->env, t->catalog, &t->t, INT64_MAX,
                                 (unsigned)json_int_or(o, "keep", 1), &r, &t->info);

    metadata_free(&t->md);
    return e ? e : catalog_load(t->catalog, &t->t, &t->md, &t->info);
}

struct scan {
    long long files, rows, values;
};

static enum err scan_one(void *arg, const struct manifest_entry *e, const struct spec *spec)
{
    struct scan *s = arg;

    s->files++;
    s->rows += e->file.records;
    for (uint32_t i = 0; i < spec->n; i++)
        s->values += !e->file.partition[i].null;
    return e->sequence > 0 ? ERR_OK : ERR_CORRUPT;
}

static enum err scan(struct tool *t)
{
    struct scan s = {0};
    struct snapshot_scan how = {.file = scan_one, .arg = &s};
    enum err e;

    metadata_free(&t->md);
    e = catalog_load(t->catalog, &t->t, &t->md, &t->info);
    e = e ? e : snapshot_files(&t->env, t->md, -1, &how, &t->info);
    if (!e)
        printf("{\"files\":%lld,\"rows\":%lld,\"partitions\":%lld}\n", s.files, s.rows, s.values);
    return e;
}

static enum err run(struct tool *t, const json_t *o)
{
    const char *what = json_get_text(o, "do");

    if (what && strcmp(what, "create") == 0)
        return create(t, o);
    if (!t->md) {
        enum err e = catalog_load(t->catalog, &t->t, &t->md, &t->info);

        if (e)
            return e;
    }
    if (what && strcmp(what, "append") == 0)
        return change(t, o, SNAPSHOT_APPEND);
    if (what && strcmp(what, "replace") == 0)
        return change(t, o, SNAPSHOT_REPLACE);
    if (what && strcmp(what, "delete") == 0)
        return change(t, o, SNAPSHOT_DELETE);
    if (what && strcmp(what, "schema") == 0)
        return evolve(t, o);
    if (what && strcmp(what, "expire") == 0)
        return expire(t, o);
    return errinfo_set(&t->info, ERR_INVALID, "no such command");
}

int main(int argc, char **argv)
{
    struct store_conf conf = {.url = argc > 1 ? argv[1] : ""};
    struct tool t = {.t = {argc > 2 ? argv[2] : "", argc > 3 ? argv[3] : ""}};
    char *line = NULL;
    size_t cap = 0;
    int failed = 0;

    if (argc != 4 || store_open(&conf, &t.store, &t.info) ||
        catalog_dir_open(t.store, io_real(), &t.catalog, &t.info)) {
        fprintf(stderr, "lake_tool URL NAMESPACE TABLE: %s\n", t.info.text);
        return 2;
    }
    t.env = (struct lake_env){t.store, io_real()};
    while (getline(&line, &cap, stdin) > 0) {
        json_t *o = json_loads(line, 0, NULL);
        const char *what = json_get_text(o, "do");
        bool scans = what && strcmp(what, "scan") == 0;
        enum err e = scans ? scan(&t) : run(&t, o);

        if (e)
            printf("{\"error\":\"%s: %s\"}\n", err_code(e), t.info.text);
        else if (!scans)
            printf("{\"snapshot\":%" PRId64 ",\"metadata\":\"%s\"}\n", metadata_current_id(t.md),
                   t.md->location);
        fflush(stdout);
        failed |= e != ERR_OK;
        json_decref(o);
    }
    free(line);
    metadata_free(&t.md);
    catalog_close(&t.catalog);
    store_close(&t.store);
    return failed;
}
