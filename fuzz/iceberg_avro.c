/* Fuzzing of what others may write into a table: manifests and manifest lists (Avro), and table
 * metadata (JSON).
 *
 * The first byte chooses. Checked beside the sanitizers: what a reader hands out lies within its
 * input or its arena; a manifest that is read and written again is read the same; metadata that was
 * taken gives its schema, spec and snapshot without a check failing, and its text is taken again. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "lake/manifest.h"
#include "lake/metadata.h"

#define INPUT_MAX 262144u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char schema_text[] =
    "{\"type\":\"struct\",\"schema-id\":0,\"fields\":["
    "{\"id\":1,\"name\":\"offset\",\"required\":true,\"type\":\"long\"},"
    "{\"id\":2,\"name\":\"timestamp\",\"required\":true,\"type\":\"timestamptz\"},"
    "{\"id\":3,\"name\":\"key\",\"required\":false,\"type\":\"binary\"}]}";
static const char *const spec_texts[] = {"hour(timestamp)", "key_bucket[16]"};

struct tables {
    struct schema *schema;
    struct spec *spec;
};

static void tables_init(struct tables *t)
{
    json_t *o = json_loads(schema_text, 0, NULL);

    ASSERT(!schema_parse(o, &t->schema, NULL));
    ASSERT(!spec_from_texts(spec_texts, 2, t->schema, 0, SPEC_FIRST_FIELD, &t->spec, NULL));
    json_decref(o);
}

static void tables_fini(struct tables *t)
{
    schema_free(&t->schema);
    spec_free(&t->spec);
}

/* Touches every byte that a slice says it has. */
static unsigned touch(struct slice s)
{
    unsigned sum = 0;

    for (size_t i = 0; i < s.len; i++)
        sum += s.ptr[i];
    return sum;
}

struct copying {
    struct manifest_writer w;
    uint64_t n, rows;
    volatile unsigned sum;
};

static enum err copy_one(void *arg, const struct manifest_entry *e)
{
    struct copying *c = arg;

    c->n++;
    c->rows += (uint64_t)e->file.records;
    c->sum += touch(e->file.path) + touch(e->file.format) + touch(e->file.key_metadata);
    for (uint32_t i = 0; i < e->file.lower.n; i++)
        c->sum += touch(e->file.lower.at[i].bytes);
    manifest_add(&c->w, e);
    return c->w.avro.e;
}

static enum err count_one(void *arg, const struct manifest_entry *e)
{
    struct copying *c = arg;

    c->n--;
    c->rows -= (uint64_t)e->file.records;
    return ERR_OK;
}

static void manifest(const uint8_t *data, size_t size)
{
    static const struct manifest_file from = {.sequence = 3, .added_snapshot_id = 9};
    static const uint8_t sync[16] = {1};
    struct manifest_file out;
    struct copying c = {.n = 0};
    struct tables t;
    struct arena a;
    struct buf b;
    enum err e;

    tables_init(&t);
    arena_init(&a, 4096, 1u << 20);
    buf_init(&b, 1u << 24);
    manifest_begin(&c.w, &b, t.schema, t.spec, MANIFEST_DATA, 9, AVRO_PLAIN, sync);
    e = manifest_read(slice_of(data, size), &from, t.spec, copy_one, &c, NULL);
    if (manifest_end(&c.w, &a, &out) == ERR_OK && e == ERR_OK) {
        ASSERT(!manifest_read(buf_slice(&b), &from, t.spec, count_one, &c, NULL));
        ASSERT(c.n == 0 && c.rows == 0);
    }
    buf_fini(&b);
    arena_fini(&a);
    tables_fini(&t);
}

static void list(const uint8_t *data, size_t size)
{
    struct manifest_file *m;
    volatile unsigned sum = 0;
    struct arena a;
    size_t n;

    arena_init(&a, 4096, 1u << 22);
    if (manifest_list_read(slice_of(data, size), &a, &m, &n, NULL) == ERR_OK) {
        for (size_t i = 0; i < n; i++) {
            sum += touch(m[i].path) + touch(m[i].key_metadata);
            for (uint32_t k = 0; k < m[i].partitions_n; k++)
                sum += touch(m[i].partitions[k].lower) + touch(m[i].partitions[k].upper);
        }
    }
    arena_fini(&a);
}

static void metadata(const uint8_t *data, size_t size)
{
    static const char *const updates[] = {
        "[{\"action\":\"set-properties\",\"updates\":{\"a\":\"b\"}}]",
        "[{\"action\":\"add-spec\",\"spec\":{\"fields\":[]}}]",
        "[{\"action\":\"remove-snapshots\",\"snapshot-ids\":[1,2,3]}]",
    };
    struct metadata *md, *again;
    struct schema *s;
    struct spec *sp;
    struct buf b;

    if (metadata_parse(slice_of(data, size), "file:///x/metadata/v1.metadata.json", &md, NULL))
        return;
    if (metadata_schema(md, -1, &s, NULL) == ERR_OK) {
        free(schema_name_mapping(s));
        schema_free(&s);
    }
    if (metadata_spec(md, -1, &sp, NULL) == ERR_OK)
        spec_free(&sp);
    json_decref(metadata_expired(md, 1700000000000, 2));
    for (size_t i = 0; i < sizeof updates / sizeof updates[0]; i++) {
        json_t *u = json_loads(updates[i], 0, NULL);

        (void)metadata_apply(md, u, 1700000000000, NULL);
        json_decref(u);
    }
    metadata_log(md, NULL);
    buf_init(&b, 1u << 24);
    ASSERT(!metadata_write(md, &b));
    ASSERT(!metadata_parse(buf_slice(&b), NULL, &again, NULL));
    ASSERT(json_equal(md->doc, again->doc));
    metadata_free(&again);
    metadata_free(&md);
    buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > INPUT_MAX)
        return 0;
    if (data[0] % 3 == 0)
        manifest(data + 1, size - 1);
    else if (data[0] % 3 == 1)
        list(data + 1, size - 1);
    else
        metadata(data + 1, size - 1);
    return 0;
}
