/* A table's whole life in a folder: created, appended to, evolved, merged, compacted, expired, by
 * two at the same time; manifests and Avro files there and back with every codec. */
#include "lake/snapshot.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "lake/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct fix {
    char dir[64];
    struct store *store;
    struct catalog *catalog;
    struct lake_env env;
    struct table_name t;
    struct metadata *md;
};

static int rm(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static void fix_open(struct fix *f)
{
    char url[80];
    struct store_conf conf = {.url = url};
    struct errinfo info = {0};

    memset(f, 0, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/weir-lake-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(url, sizeof url, "file://%s", f->dir);
    if (store_open(&conf, &f->store, &info))
        fail_msg("%s", info.text);
    assert_int_equal(catalog_dir_open(f->store, io_real(), &f->catalog, &info), ERR_OK);
    f->env = (struct lake_env){f->store, io_real()};
    f->t = (struct table_name){"weir", "orders"};
}

static void fix_close(struct fix *f)
{
    metadata_free(&f->md);
    catalog_close(&f->catalog);
    store_close(&f->store);
    nftw(f->dir, rm, 16, FTW_DEPTH | FTW_PHYS);
}

#define SCHEMA                                                                                     \
    "{\"type\":\"struct\",\"schema-id\":0,\"fields\":["                                            \
    "{\"id\":1,\"name\":\"offset\",\"required\":true,\"type\":\"long\"},"                          \
    "{\"id\":2,\"name\":\"timestamp\",\"required\":true,\"type\":\"timestamptz\"},"                \
    "{\"id\":3,\"name\":\"key\",\"required\":false,\"type\":\"binary\",\"doc\":\"the key\"},"      \
    "{\"id\":4,\"name\":\"headers\",\"required\":false,\"type\":{\"type\":\"list\",\"element-"     \
    "id\":5,"                                                                                      \
    "\"element\":{\"type\":\"struct\",\"fields\":["                                                \
    "{\"id\":6,\"name\":\"key\",\"required\":true,\"type\":\"string\"},"                           \
    "{\"id\":7,\"name\":\"value\",\"required\":false,\"type\":\"binary\"}]},\"element-required\":" \
    "true}},"                                                                                      \
    "{\"id\":8,\"name\":\"n\",\"required\":false,\"type\":\"int\"}]}"

static json_t *parse(const char *text)
{
    json_error_t why;
    json_t *o = json_loads(text, 0, &why);

    if (!o)
        fail_msg("%s in %s", why.text, text);
    return o;
}

static void create(struct fix *f, const char *spec)
{
    static const char *const texts[] = {"hour(timestamp)", "key_bucket[16]"};
    struct errinfo info = {0};
    struct schema *s;
    struct spec *sp;
    json_t *schema = parse(SCHEMA), *request;

    assert_int_equal(schema_parse(schema, &s, &info), ERR_OK);
    assert_int_equal(spec_from_texts(texts, spec ? 2 : 0, s, 0, SPEC_FIRST_FIELD, &sp, &info),
                     ERR_OK);
    request = json_pack("{s:o, s:o, s:{s:s}}", "schema", schema, "partition-spec", spec_json(sp),
                        "properties", "write.parquet.compression-codec", "zstd");
    metadata_free(&f->md);
    if (catalog_create(f->catalog, &f->t, request, &f->md, &info))
        fail_msg("%s", info.text);
    json_decref(request);
    schema_free(&s);
    spec_free(&sp);
}

/* A data file of `rows` rows with the number i. */
struct made {
    struct data_file f;
    struct ice_value partition[2];
    struct id_count counts[2];
    struct id_bytes low, high;
    char path[160];
    uint8_t lo[8], hi[8];
    int64_t splits[1];
};

static void make_file(const struct fix *f, struct made *m, int i, int64_t rows)
{
    memset(m, 0, sizeof *m);
    snprintf(m->path, sizeof m->path, "%s/data/f%d.parquet", metadata_base(f->md), i);
    m->partition[0] = (struct ice_value){.i = 480000 + i % 5};
    m->partition[1] = i % 3 ? (struct ice_value){.i = i % 16} : ICE_NULL;
    le64_store(m->lo, (uint64_t)i * 100);
    le64_store(m->hi, (uint64_t)i * 100 + 99);
    m->low = (struct id_bytes){1, slice_of(m->lo, 8)};
    m->high = (struct id_bytes){1, slice_of(m->hi, 8)};
    m->counts[0] = (struct id_count){1, rows};
    m->counts[1] = (struct id_count){3, rows};
    m->splits[0] = 4;
    m->f = (struct data_file){.path = slice_str(m->path),
                              .format = SLICE_LIT("PARQUET"),
                              .partition = m->partition,
                              .records = rows,
                              .bytes = rows * 10,
                              .column_sizes = {m->counts, 2},
                              .value_counts = {m->counts, 2},
                              .null_counts = {m->counts + 1, 1},
                              .lower = {&m->low, 1},
                              .upper = {&m->high, 1},
                              .split_offsets = m->splits,
                              .split_offsets_n = 1,
                              .sort_order_id = -1};
}

static void put_data(struct fix *f, const struct made *m)
{
    struct store_source src = {.bytes = SLICE_LIT("rows")};

    assert_int_equal(store_put(f->store, store_key(f->store, m->path), &src, NULL, NULL, NULL),
                     ERR_OK);
}

static void append(struct fix *f, int i, int64_t rows)
{
    char offsets[32];
    const char *summary[] = {SNAPSHOT_OFFSETS, offsets};
    struct errinfo info = {0};
    struct made m;
    struct snapshot_change c = {
        .operation = SNAPSHOT_APPEND, .added_n = 1, .summary = summary, .summary_n = 1};

    make_file(f, &m, i, rows);
    put_data(f, &m);
    c.added = &m.f;
    snprintf(offsets, sizeof offsets, "{\"0\":%d}", (i + 1) * 100);
    if (snapshot_commit(&f->env, f->catalog, &f->t, &f->md, &c, NULL, NULL, &info))
        fail_msg("append %d: %s", i, info.text);
}

struct sum {
    uint64_t files, rows;
    int64_t least_sequence, most_sequence;
    bool bounds, partitions;
};

static enum err sum_one(void *arg, const struct manifest_entry *e, const struct spec *spec)
{
    struct sum *s = arg;

    s->files++;
    s->rows += (uint64_t)e->file.records;
    assert_true(e->sequence > 0);
    if (!s->least_sequence || e->sequence < s->least_sequence)
        s->least_sequence = e->sequence;
    s->most_sequence = e->sequence > s->most_sequence ? e->sequence : s->most_sequence;
    s->bounds = e->file.lower.n == 1 && e->file.lower.at[0].bytes.len == 8 &&
                e->file.value_counts.n == 2 && e->file.split_offsets_n == 1;
    if (spec->n == 2)
        s->partitions = !e->file.partition[0].null && e->file.partition[0].i >= 480000;
    return ERR_OK;
}

static struct sum sum_of(const struct fix *f, int64_t snapshot)
{
    struct sum s = {0};
    struct snapshot_scan scan = {.file = sum_one, .arg = &s};
    struct errinfo info = {0};

    if (snapshot_files(&f->env, f->md, snapshot, &scan, &info))
        fail_msg("%s", info.text);
    return s;
}

static size_t manifests(const struct fix *f)
{
    struct manifest_file *m;
    struct arena a;
    size_t n;

    arena_init(&a, 65536, 1u << 24);
    assert_int_equal(snapshot_manifests(&f->env, metadata_current(f->md), &a, &m, &n, NULL),
                     ERR_OK);
    for (size_t i = 0; i < n; i++) {
        struct store_stat st;
        char path[512];

        snprintf(path, sizeof path, "%.*s", (int)m[i].path.len, (const char *)m[i].path.ptr);
        assert_int_equal(store_head(f->store, store_key(f->store, path), &st, NULL), ERR_OK);
        assert_int_equal(st.size, m[i].length);
        assert_true(m[i].min_sequence > 0 && m[i].min_sequence <= m[i].sequence);
    }
    arena_fini(&a);
    return n;
}

static void life(void **state)
{
    struct errinfo info = {0};
    struct expire_result gone;
    struct metadata *other;
    struct fix f;
    struct sum s;
    int64_t first;
    uint64_t orphans;

    fix_open(&f);
    create(&f, "both");
    assert_null(metadata_current(f.md));
    assert_int_equal(catalog_create(f.catalog, &f.t, json_null(), NULL, &info), ERR_INVALID);
    append(&f, 0, 100);
    first = metadata_current_id(f.md);
    assert_true(first > 0 && first < ((int64_t)1 << 53));
    for (int i = 1; i < 10; i++)
        append(&f, i, 100);
    s = sum_of(&f, -1);
    assert_int_equal(s.files, 10);
    assert_int_equal(s.rows, 1000);
    assert_int_equal(s.least_sequence, 1);
    assert_int_equal(s.most_sequence, 10);
    assert_true(s.bounds && s.partitions);
    assert_int_equal(sum_of(&f, first).rows, 100); /* time travel */
    assert_int_equal(manifests(&f), 10);
    assert_string_equal(snapshot_offsets(f.md), "{\"0\":1000}");
    /* what another reads is the same */
    assert_int_equal(catalog_load(f.catalog, &f.t, &other, &info), ERR_OK);
    assert_true(json_equal(other->doc, f.md->doc));
    metadata_free(&other);

    /* three files become one; one that is gone is told */
    struct made m[3], one;
    struct slice removed[3];
    struct snapshot_change c = {.operation = SNAPSHOT_REPLACE,
                                .added = &one.f,
                                .added_n = 1,
                                .removed = removed,
                                .removed_n = 3};

    make_file(&f, &one, 100, 300);
    put_data(&f, &one);
    for (int i = 0; i < 3; i++) {
        make_file(&f, &m[i], i, 100);
        removed[i] = m[i].f.path;
    }
    assert_int_equal(snapshot_commit(&f.env, f.catalog, &f.t, &f.md, &c, NULL, NULL, &info),
                     ERR_OK);
    s = sum_of(&f, -1);
    assert_int_equal(s.files, 8);
    assert_int_equal(s.rows, 1000);
    assert_string_equal(snapshot_offsets(f.md), "{\"0\":1000}"); /* carried over */
    const json_t *summary = json_object_get(metadata_current(f.md), "summary");

    assert_string_equal(json_get_text(summary, "operation"), "replace");
    assert_string_equal(json_get_text(summary, "total-records"), "1000");
    assert_string_equal(json_get_text(summary, "total-data-files"), "8");
    assert_string_equal(json_get_text(summary, "deleted-data-files"), "3");
    assert_string_equal(json_get_text(summary, "total-files-size"), "10000");
    assert_int_equal(snapshot_commit(&f.env, f.catalog, &f.t, &f.md, &c, NULL, NULL, &info),
                     ERR_CONFLICT);
    assert_int_equal(sum_of(&f, -1).files, 8);

    /* expiry: the three files and the old lists go; the table is as it was */
    assert_int_equal(snapshot_expire(&f.env, f.catalog, &f.t, INT64_MAX, 1, &gone, &info), ERR_OK);
    assert_int_equal(gone.snapshots, 10);
    assert_int_equal(gone.data_files, 3);
    assert_true(gone.manifests >= 3);
    metadata_free(&f.md);
    assert_int_equal(catalog_load(f.catalog, &f.t, &f.md, &info), ERR_OK);
    assert_int_equal(json_array_size(json_object_get(f.md->doc, "snapshots")), 1);
    assert_int_equal(json_array_size(json_object_get(f.md->doc, "snapshot-log")), 1);
    assert_int_equal(sum_of(&f, -1).rows, 1000);
    struct store_stat st;

    assert_int_equal(store_head(f.store, store_key(f.store, m[0].path), &st, NULL), ERR_NOT_FOUND);
    assert_int_equal(store_head(f.store, store_key(f.store, one.path), &st, NULL), ERR_OK);
    make_file(&f, &m[0], 3, 100);
    assert_int_equal(store_head(f.store, store_key(f.store, m[0].path), &st, NULL), ERR_OK);

    /* an orphan goes, what is named stays */
    make_file(&f, &m[0], 999, 1);
    put_data(&f, &m[0]);
    assert_int_equal(
        snapshot_orphans(&f.env, f.md, io_wall_ms(io_real()) - 3600000, &orphans, &info), ERR_OK);
    assert_int_equal(orphans, 0); /* too young */
    assert_int_equal(snapshot_orphans(&f.env, f.md, INT64_MAX, &orphans, &info), ERR_OK);
    assert_int_equal(orphans, 1);
    assert_int_equal(sum_of(&f, -1).files, 8);
    manifests(&f);
    assert_int_equal(catalog_drop(f.catalog, &f.t, true, &info), ERR_OK);
    assert_int_equal(catalog_load(f.catalog, &f.t, &other, &info), ERR_NOT_FOUND);
    assert_int_equal(catalog_drop(f.catalog, &f.t, true, &info), ERR_NOT_FOUND);
    fix_close(&f);
}

static void merging(void **state)
{
    struct errinfo info = {0};
    struct fix f;
    json_t *u;

    fix_open(&f);
    create(&f, "both");
    u = parse(
        "[{\"action\":\"set-properties\",\"updates\":{\"commit.manifest.min-count-to-merge\":\"5\","
        "\"write.metadata.previous-versions-max\":\"3\","
        "\"write.metadata.delete-after-commit.enabled\":\"true\"}}]");
    metadata_free(&f.md);
    assert_int_equal(catalog_commit(f.catalog, &f.t, NULL, u, &f.md, &info), ERR_OK);
    json_decref(u);
    for (int i = 0; i < 23; i++) {
        append(&f, i, 10);
        assert_true(manifests(&f) <= 6);
    }
    struct sum s = sum_of(&f, -1);

    assert_int_equal(s.files, 23);
    assert_int_equal(s.rows, 230);
    assert_int_equal(s.least_sequence, 1); /* kept through merging */
    assert_int_equal(s.most_sequence, 23);
    assert_int_equal(json_array_size(json_object_get(f.md->doc, "metadata-log")), 3);
    char gone[128];

    snprintf(gone, sizeof gone, "%s/weir/orders/metadata/v2.metadata.json", f.dir);
    assert_int_equal(access(gone, F_OK), -1);
    /* without its hint the table is found all the same */
    snprintf(gone, sizeof gone, "%s/weir/orders/metadata/version-hint.text", f.dir);
    assert_int_equal(unlink(gone), 0);
    metadata_free(&f.md);
    assert_int_equal(catalog_load(f.catalog, &f.t, &f.md, &info), ERR_OK);
    assert_int_equal(sum_of(&f, -1).files, 23);
    fix_close(&f);
}

static enum err no_more(void *arg, const struct metadata *md, struct errinfo *info)
{
    ++*(int *)arg;
    return strcmp(snapshot_offsets(md), "{\"0\":200}") == 0 ? ERR_EXISTS : ERR_OK;
}

/* Two writers with the same view: the second is asked before it goes on. */
static void two_writers(void **state)
{
    struct errinfo info = {0};
    struct snapshot_change c = {.operation = SNAPSHOT_APPEND, .added_n = 1};
    struct metadata *stale;
    struct made m;
    struct fix f;
    int asked = 0;

    fix_open(&f);
    create(&f, NULL);
    append(&f, 0, 10);
    stale = metadata_clone(f.md);
    append(&f, 1, 10); /* offsets 200 */
    make_file(&f, &m, 2, 10);
    c.added = &m.f;
    assert_int_equal(snapshot_commit(&f.env, f.catalog, &f.t, &stale, &c, no_more, &asked, &info),
                     ERR_EXISTS);
    assert_int_equal(asked, 1);
    assert_true(json_equal(stale->doc, f.md->doc)); /* as loaded */
    metadata_free(&stale);
    stale = metadata_clone(f.md);
    append(&f, 3, 10);
    assert_int_equal(snapshot_commit(&f.env, f.catalog, &f.t, &stale, &c, no_more, &asked, &info),
                     ERR_OK);
    assert_int_equal(asked, 2);
    metadata_free(&f.md);
    f.md = stale;
    assert_int_equal(sum_of(&f, -1).files, 4);
    fix_close(&f);
}

static void evolution(void **state)
{
    struct errinfo info = {0};
    struct snapshot_change c = {.operation = SNAPSHOT_APPEND, .added_n = 1};
    struct schema *s, *back;
    struct made m;
    struct fix f;
    json_t *u;
    char *names;

    fix_open(&f);
    create(&f, NULL);
    append(&f, 0, 10);
    assert_int_equal(metadata_last_column(f.md), 8);
    assert_int_equal(metadata_schema(f.md, -1, &s, &info), ERR_OK);
    assert_int_equal(schema_promote(s, 8, (struct ice_type){.kind = ICE_LONG}, &info), ERR_OK);
    assert_int_equal(schema_promote(s, 8, (struct ice_type){.kind = ICE_STRING}, &info),
                     ERR_INVALID);
    schema_add(&s->root, 9, "city", (struct ice_type){.kind = ICE_STRING}, false);
    make_file(&f, &m, 1, 10);
    c.added = &m.f;
    c.schema = s;
    c.last_column = 9;
    assert_int_equal(snapshot_commit(&f.env, f.catalog, &f.t, &f.md, &c, NULL, NULL, &info),
                     ERR_OK);
    assert_int_equal(metadata_last_column(f.md), 9);
    assert_int_equal(json_array_size(json_object_get(f.md->doc, "schemas")), 2);
    assert_int_equal(json_int_or(metadata_current(f.md), "schema-id", -1), 1);
    assert_int_equal(metadata_schema(f.md, -1, &back, &info), ERR_OK);
    assert_true(schema_same(s, back));
    assert_int_equal(schema_find_name(back, SLICE_LIT("city"))->id, 9);
    assert_int_equal(schema_find_name(back, SLICE_LIT("headers.element.value"))->id, 7);
    assert_false(schema_once_a_row(back, 7));
    assert_true(schema_once_a_row(back, 9));
    assert_string_equal(schema_find(back, 3)->doc, "the key");
    names = schema_name_mapping(back);
    assert_non_null(strstr(names, "{\"field-id\":9,\"names\":[\"city\"]}"));
    free(names);
    schema_free(&back);
    schema_free(&s);
    /* a type cannot go back, an id cannot be given again with another type */
    u = parse("[{\"action\":\"add-schema\",\"schema\":{\"type\":\"struct\",\"fields\":["
              "{\"id\":8,\"name\":\"n\",\"required\":false,\"type\":\"string\"}]}}]");
    assert_int_equal(catalog_commit(f.catalog, &f.t, NULL, u, NULL, &info), ERR_INVALID);
    json_decref(u);
    fix_close(&f);
}

static void lists(void **state)
{
    struct errinfo info = {0};
    struct fix f;
    json_t *p;

    fix_open(&f);
    assert_int_equal(catalog_space_load(f.catalog, "weir", &p, &info), ERR_NOT_FOUND);
    p = parse("{\"owner\":\"me\"}");
    assert_int_equal(catalog_space_create(f.catalog, "weir", p, &info), ERR_OK);
    assert_int_equal(catalog_space_create(f.catalog, "weir", p, &info), ERR_EXISTS);
    json_decref(p);
    assert_int_equal(catalog_space_load(f.catalog, "weir", &p, &info), ERR_OK);
    assert_string_equal(json_get_text(p, "owner"), "me");
    json_decref(p);
    create(&f, NULL);
    assert_int_equal(catalog_space_drop(f.catalog, "weir", &info), ERR_CONFLICT);
    assert_int_equal(catalog_drop(f.catalog, &f.t, false, &info), ERR_OK);
    assert_int_equal(catalog_space_drop(f.catalog, "weir", &info), ERR_OK);
    assert_int_equal(catalog_space_create(f.catalog, "../x", NULL, &info), ERR_INVALID);
    fix_close(&f);
}

/* ---- Avro ---- */

struct seen {
    struct manifest_entry e[8];
    size_t n;
};

static enum err count_one(void *arg, const struct manifest_entry *e)
{
    struct seen *s = arg;

    assert_true(e->file.path.len > 0);
    s->e[s->n % 8] = *e;
    s->n++;
    return ERR_OK;
}

static void manifest_codecs(void **state)
{
    static const uint8_t sync[16] = {1, 2, 3};
    static const enum avro_codec codecs[] = {AVRO_PLAIN, AVRO_DEFLATE, AVRO_ZSTANDARD};
    struct errinfo info = {0};
    struct schema *s;
    struct fix f;
    struct spec *sp;

    fix_open(&f);
    create(&f, "both");
    assert_int_equal(metadata_schema(f.md, -1, &s, &info), ERR_OK);
    assert_int_equal(metadata_spec(f.md, -1, &sp, &info), ERR_OK);
    for (size_t k = 0; k < 3; k++) {
        struct manifest_file from = {.sequence = 7, .added_snapshot_id = 5}, out;
        struct manifest_writer w;
        struct seen seen = {.n = 0};
        struct arena a;
        struct buf b;

        arena_init(&a, 65536, 1u << 20);
        buf_init(&b, 1u << 24);
        manifest_begin(&w, &b, s, sp, MANIFEST_DATA, 5, codecs[k], sync);
        for (int i = 0; i < 500; i++) {
            struct made m;
            struct manifest_entry e = {.status = (enum entry_status)(i % 3),
                                       .snapshot_id = 5,
                                       .sequence = i % 3 == 1 ? -1 : 3,
                                       .file_sequence = i % 3 == 1 ? -1 : 3};

            make_file(&f, &m, i, 10);
            e.file = m.f;
            manifest_add(&w, &e);
        }
        assert_int_equal(manifest_end(&w, &a, &out), ERR_OK);
        assert_int_equal(out.length, b.len);
        assert_int_equal(out.existing_files, 167);
        assert_int_equal(out.added_files, 167);
        assert_int_equal(out.deleted_rows, 1660);
        assert_int_equal(out.min_sequence, 3);
        assert_int_equal(out.partitions_n, 2);
        assert_false(out.partitions[0].contains_null);
        assert_true(out.partitions[1].contains_null);
        assert_int_equal(le32_load(out.partitions[0].lower.ptr), 480000);
        assert_int_equal(le32_load(out.partitions[0].upper.ptr), 480004);
        assert_int_equal(manifest_read(buf_slice(&b), &from, sp, count_one, &seen, &info), ERR_OK);
        assert_int_equal(seen.n, 500);
        for (int i = 0; i < 8; i++) {
            const struct manifest_entry *e = &seen.e[i];

            assert_int_equal(e->sequence, e->status == ENTRY_ADDED ? 7 : 3); /* inherited */
            assert_int_equal(e->file.content, DATA_ROWS);
        }
        for (size_t cut = 0; cut < b.len; cut += 97) { /* a part of a file is damaged, not less */
            seen.n = 0;
            if (manifest_read(slice_of(b.ptr, cut), &from, sp, count_one, &seen, &info) == ERR_OK)
                assert_true(seen.n < 500);
        }
        buf_fini(&b);
        arena_fini(&a);
    }
    schema_free(&s);
    spec_free(&sp);
    fix_close(&f);
}

/* The ids in our Avro schemas are the specification's. The reference is no part of the repository:
 * without it there is nothing to hold against. */
static void ids_as_specified(void **state)
{
    const char *path = getenv("WEIR_SOURCE_ROOT");
    char line[512], file[512];
    unsigned rows = 0;
    FILE *in;

    if (!path)
        skip();
    snprintf(file, sizeof file, "%s/../shared/reference/iceberg/field-ids.csv", path);
    in = fopen(file, "r");
    if (!in)
        skip();
    struct manifest_file none = {0};
    struct arena a;
    struct buf b;
    struct avro_reader r;
    uint8_t sync[16] = {0};

    arena_init(&a, 65536, 1u << 20);
    buf_init(&b, 1u << 20);
    none.path = SLICE_LIT("x");
    assert_int_equal(manifest_list_write(&b, &none, 1, 1, -1, 1, AVRO_PLAIN, sync), ERR_OK);
    assert_int_equal(avro_open(&r, buf_slice(&b), NULL), ERR_OK);
    while (fgets(line, sizeof line, in)) {
        char structure[64], name[64], type[128], v1[16], v2[16];
        int id;

        if (sscanf(line, "%63[^,],%d,%63[^,],%127[^,],%15[^,],%15[^,]", structure, &id, name, type,
                   v1, v2) != 6 ||
            strcmp(structure, "manifest_file") != 0)
            continue;
        bool found = false;

        for (uint32_t i = 0; i < r.root->n; i++)
            found |= r.root->field[i].id == id && strcmp(r.root->field[i].name, name) == 0;
        if (!found)
            fail_msg("manifest_file has no field %d %s", id, name);
        rows++;
    }
    fclose(in);
    assert_true(rows > 10);
    avro_close(&r);
    buf_fini(&b);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(life),
        cmocka_unit_test(merging),
        cmocka_unit_test(two_writers),
        cmocka_unit_test(evolution),
        cmocka_unit_test(lists),
        cmocka_unit_test(manifest_codecs),
        cmocka_unit_test(ids_as_specified),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
