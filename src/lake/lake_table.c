/* A topic's table: loading or making it, and committing changes. See lake.h and snapshot.h.
 *
 * Offsets covered are the JSON array of weir.offsets: the next offset of partition 0, 1, … A
 * partition that the array does not have yet is covered up to where its log began when the table
 * was loaded: what was deleted before the topic came to the lake cannot be in it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "broker/tier.h"
#include "lake/catalog.h"
#include "lake/lake_int.h"

#define PROPERTY_TOPIC   "weir.topic-id"
#define PROPERTY_MAPPING "schema.name-mapping.default"

struct table_name table_name_of(const struct lake *l, const struct table *t)
{
    return (struct table_name){l->conf.namespace_, t->name};
}

struct lake_env table_env(const struct lake *l, const struct table *t)
{
    return (struct lake_env){place_store(l, t->place), io_real()};
}

void table_unload(struct table *t)
{
    metadata_free(&t->md);
    columns_fini(&t->columns);
    spec_free(&t->spec);
    place_unref(&t->place);
    free(t->base);
    t->base = NULL;
    free(t->covered);
    t->covered = NULL;
    t->partitions_n = 0;
    t->absent = false;
    t->jsonl = false;
    t->jsonl_number = 0;
}

/* ---- making ---- */

/* A catalog may number the columns in another way than it was asked to: then so must the mapping of
 * names, by which files without ids are read. */
static enum err mapping_follow(struct lake *l, struct table *t, struct errinfo *info)
{
    const char *was = metadata_property(t->md, PROPERTY_MAPPING);
    struct table_name name = table_name_of(l, t);
    struct schema *s = NULL;
    json_t *updates;
    enum err e = metadata_schema(t->md, -1, &s, info);
    char *is = e ? NULL : schema_name_mapping(s);

    schema_free(&s);
    if (!e && was && strcmp(was, is) != 0) {
        updates = json_pack("[{s:s, s:{s:s}}]", "action", "set-properties", "updates",
                            PROPERTY_MAPPING, is);
        e = catalog_commit(l->catalog, &name, NULL, updates, NULL, info);
        json_decref(updates);
        metadata_free(&t->md);
        if (!e) /* what a commit answers need not say how to reach the storage */
            e = catalog_load(l->catalog, &name, &t->md, info);
    }
    free(is);
    return e;
}

static enum err table_make(struct lake *l, struct table *t, struct topic *topic,
                           struct errinfo *info)
{
    struct table_name name = table_name_of(l, t);
    struct schema *s = columns_first_schema();
    char applied[TOPIC_CONF_WORD_MAX + 1];
    struct spec *spec = NULL;
    json_t *request;
    char id[33], *mapping = schema_name_mapping(s);
    struct topic_conf c;
    enum err e;

    hex_encode(topic_uuid(topic), 16, id);
    topic_conf_get(topic, &c);
    e = spec_wanted(c.lake_partition, s, &spec, applied, info);
    request =
        json_pack("{s:o, s:o, s:{s:s, s:s, s:s, s:s, s:s}}", "schema", schema_json(s),
                  "partition-spec", spec ? spec_json(spec) : json_null(), "properties",
                  PROPERTY_TOPIC, id, PROPERTY_PARTITION, applied, "write.format.default",
                  "parquet", "write.parquet.compression-codec", "zstd", PROPERTY_MAPPING, mapping);
    free(mapping);
    spec_free(&spec);
    schema_free(&s);
    if (!e && !request)
        e = errinfo_set(info, ERR_INTERNAL, "the request to make a table cannot be built");
    if (!e) {
        e = catalog_space_create(l->catalog, name.space, NULL, info);
        if (!e || e == ERR_EXISTS)
            e = catalog_create(l->catalog, &name, request, &t->md, info);
    }
    json_decref(request);
    if (e == ERR_EXISTS || e == ERR_UNCERTAIN) { /* an attempt of our own, or another server's */
        enum err was = e;

        e = catalog_load(l->catalog, &name, &t->md, NULL);
        if (e) /* what failed first tells more than that it is not there */
            e = was;
    }
    return e ? e : mapping_follow(l, t, info);
}

/* ---- loading ---- */

enum err table_topic_check(const struct metadata *md, struct topic *topic, struct errinfo *info)
{
    const char *is = metadata_property(md, PROPERTY_TOPIC);
    char id[33];

    hex_encode(topic_uuid(topic), 16, id);
    if (is && strcmp(is, id) == 0)
        return ERR_OK;
    return errinfo_set(info, ERR_EXISTS,
                       "the table \"%.100s\" belongs to %s: drop or rename it, or write to a topic "
                       "of another name",
                       topic_name(topic),
                       is ? "another topic, that had this name before"
                          : "something else than Weir");
}

void table_changed(struct lake *l, struct table *t)
{
    struct lake_view *old;

    io_mutex_lock(&l->lock);
    t->version++;
    old = t->view;
    t->view = NULL;
    io_mutex_unlock(&l->lock);
    if (old)
        lake_view_unref(old);
}

enum err table_update(struct lake *l, struct table *t, json_t *requirements, json_t *updates,
                      struct errinfo *info)
{
    struct table_name name = table_name_of(l, t);
    enum err e = catalog_commit(l->catalog, &name, requirements, updates, NULL, info);

    json_decref(requirements);
    json_decref(updates);
    table_unload(t);
    table_changed(l, t);
    return e;
}

enum err table_covered(struct table *t, struct topic *topic, const json_t *list,
                       struct errinfo *info)
{
    const json_t *v;
    enum err e = ERR_OK;
    int32_t i;

    t->partitions_n = topic_partitions(topic);
    t->covered = xcalloc((size_t)t->partitions_n + 1, sizeof *t->covered);
    for (i = 0; !e && i < t->partitions_n; i++) {
        struct plog_info now;

        plog_info_get(partition_log(topic_partition(topic, i)), &now);
        v = json_array_get(list, (size_t)i);
        t->covered[i] = json_is_integer(v) ? json_integer_value(v) : now.start_offset;
        if (t->covered[i] > now.end_offset)
            e = errinfo_set(info, ERR_CORRUPT,
                            "the table has records of \"%.80s\" partition %d up to offset %" PRId64
                            ", but the log ends at %" PRId64
                            ": it was set back, perhaps to an older copy; drop the table to have "
                            "it written anew",
                            t->name, (int)i, t->covered[i], now.end_offset);
    }
    return e;
}

static enum err covered_parse(struct table *t, struct topic *topic, struct errinfo *info)
{
    const char *text = snapshot_offsets(t->md);
    json_t *list = text ? json_loads(text, 0, NULL) : NULL;
    enum err e;

    if (text && !json_is_array(list))
        e = errinfo_set(info, ERR_CORRUPT, "%s of the table \"%.100s\" is no list",
                        SNAPSHOT_OFFSETS, t->name);
    else if (!text && metadata_current(t->md) && metadata_property(t->md, SNAPSHOT_OFFSETS))
        e = errinfo_set(
            info, ERR_CORRUPT,
            "\"%.100s\" was set back to a snapshot that does not tell what it covers, and "
            "those before it are expired: set it to another, or drop the table to have it "
            "written anew",
            t->name);
    else
        e = table_covered(t, topic, list, info);
    json_decref(list);
    return e;
}

/* A new text: what the keys of the table's objects begin with. */
static char *base_key(const struct lake *l, const struct table *t)
{
    char base[STORE_LOCATION_MAX + 1];
    const char *key;
    char *out;
    size_t n;

    if (t->place)
        return xstrdup("");
    snprintf(base, sizeof base, "%s", metadata_base(t->md));
    for (n = strlen(base); n && base[n - 1] == '/';)
        base[--n] = 0;
    key = store_key(l->store, base);
    ASSERT(key); /* by place_get */
    n = strlen(key);
    out = xmalloc(n + 2);
    snprintf(out, n + 2, "%s/", key);
    return out;
}

/* What follows from t->md. */
static enum err table_adopt(struct lake *l, struct table *t, struct topic *topic,
                            struct errinfo *info)
{
    struct schema *s = NULL;
    enum err e;

    columns_fini(&t->columns);
    spec_free(&t->spec);
    free(t->base);
    t->base = NULL;
    place_unref(&t->place);
    if ((e = place_get(l, t->md, &t->place, info)))
        return e;
    t->base = base_key(l, t);
    if ((e = table_topic_check(t->md, topic, info)) || (e = metadata_schema(t->md, -1, &s, info)))
        return e;
    e = columns_from_schema(s, &t->columns, info);
    schema_free(&s);
    if (!e)
        e = metadata_spec(t->md, -1, &t->spec, info);
    if (!e && t->spec->n > LIMIT_LAKE_SPEC_FIELDS)
        e = errinfo_set(info, ERR_UNSUPPORTED, "the table has too many partition fields");
    return e;
}

/* What the table has, retention may delete. */
static void covered_let_go(struct lake *l, const struct table *t)
{
    struct topic *topic = topic_find(l->conf.broker, slice_str(t->name));
    int32_t i;

    if (topic && memcmp(topic_uuid(topic), t->uuid, sizeof t->uuid) == 0)
        for (i = 0; i < t->partitions_n && i < topic_partitions(topic); i++)
            partition_hold(topic_partition(topic, i), t->covered[i]);
    topic_unref(&topic);
}

/* A total of the current snapshot's summary; 0: it has none. */
static int64_t total_of(const struct table *t, const char *name)
{
    const json_t *summary = t->jsonl ? NULL : json_object_get(metadata_current(t->md), "summary");
    const char *text = json_string_value(json_object_get(summary, name));

    return text ? strtoll(text, NULL, 10) : 0;
}

void table_covered_show(struct lake *l, struct table *t)
{
    size_t bytes = (size_t)t->partitions_n * sizeof *t->shown;

    io_mutex_lock(&l->lock);
    t->rows_all = total_of(t, "total-records");
    t->files_all = total_of(t, "total-data-files");
    t->bytes_all = total_of(t, "total-files-size");
    t->shown = xrealloc(t->shown, bytes + 1);
    memcpy(t->shown, t->covered, bytes);
    t->shown_n = (uint32_t)t->partitions_n;
    t->snapshot_id = t->jsonl ? (int64_t)t->jsonl_number : metadata_current_id(t->md);
    io_mutex_unlock(&l->lock);
    covered_let_go(l, t);
}

/* A topic whose older records are only in its table must not get another one, which would have none of
 * them: the store may just be away. */
static enum err table_gone(struct topic *topic, struct errinfo *info)
{
    struct plog_info now;
    int32_t i;

    for (i = 0; i < topic_partitions(topic); i++) {
        struct partition *p = topic_partition(topic, i);

        plog_info_get(partition_log(p), &now);
        if (partition_start(p) < now.start_offset)
            return errinfo_set(
                info, ERR_CORRUPT,
                "the table of \"%.80s\" is not there, and records from offset %" PRId64
                " of partition %d are in it alone: bring it back, or delete them "
                "(records below offset %" PRId64 ")",
                topic_name(topic), partition_start(p), (int)i, now.start_offset);
    }
    return ERR_OK;
}

static enum err load(struct lake *l, struct table *t, struct topic *topic, bool make,
                     struct errinfo *info)
{
    struct table_name name = table_name_of(l, t);
    enum err e = ERR_OK;

    if (t->md && t->partitions_n == topic_partitions(topic) && !place_old(t->place))
        return ERR_OK;
    if ((e = lake_ready(l, info)))
        return e;
    table_unload(t);
    e = catalog_load(l->catalog, &name, &t->md, info);
    if (e == ERR_NOT_FOUND && !(e = table_gone(topic, info))) {
        if (!make) {
            t->absent = true;
            return ERR_OK;
        }
        e = table_make(l, t, topic, info);
    }
    if (!e)
        e = table_adopt(l, t, topic, info);
    if (!e)
        e = covered_parse(t, topic, info);
    if (e)
        table_unload(t);
    else
        table_covered_show(l, t);
    return e;
}

enum err table_load(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info)
{
    return load(l, t, topic, true, info);
}

enum err table_look(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info)
{
    return t->absent ? ERR_OK : load(l, t, topic, false, info);
}

/* ---- committing ---- */

struct base_state {
    char *offsets; /* weir.offsets that the change began with; NULL: none */
    int64_t schema, spec;
};

static int64_t member(const struct metadata *md, const char *name)
{
    return json_integer_value(json_object_get(md->doc, name));
}

/* Somebody else's commit came first. The change stands if it touched neither what is covered nor
 * how the rows are laid out. */
static enum err still_stands(void *arg, const struct metadata *md, struct errinfo *info)
{
    const struct base_state *b = arg;
    const char *now = snapshot_offsets(md);

    if (member(md, "current-schema-id") == b->schema && member(md, "default-spec-id") == b->spec &&
        !now == !b->offsets && (!now || strcmp(now, b->offsets) == 0))
        return ERR_OK;
    return errinfo_set(info, ERR_CONFLICT, "somebody else has changed the table meanwhile");
}

static char *covered_text(const int64_t *covered, int32_t n)
{
    struct buf b;
    size_t len;
    int32_t i;

    buf_init(&b, (size_t)n * 24 + 16);
    (void)buf_append_str(&b, "[");
    for (i = 0; i < n; i++)
        (void)buf_printf(&b, "%s%" PRId64, i ? "," : "", covered[i]);
    (void)buf_append(&b, "]", 2);
    return (char *)buf_take(&b, &len);
}

enum err table_commit(struct lake *l, struct table *t, struct snapshot_change *c,
                      const int64_t *covered, struct errinfo *info)
{
    const char *was = snapshot_offsets(t->md);
    struct base_state base = {was ? xstrdup(was) : NULL, member(t->md, "current-schema-id"),
                              member(t->md, "default-spec-id")};
    char *text = covered ? covered_text(covered, t->partitions_n) : NULL;
    const char *const summary[] = {SNAPSHOT_OFFSETS, text};
    struct table_name name = table_name_of(l, t);
    struct lake_env env = table_env(l, t);
    enum err e;

    c->summary = summary;
    c->summary_n = covered ? 1 : 0;
    e = snapshot_commit(&env, l->catalog, &name, &t->md, c, still_stands, &base, info);
    if (!e && covered)
        memcpy(t->covered, covered, (size_t)t->partitions_n * sizeof *covered);
    table_changed(l, t); /* before the log gives up what readers must find in it */
    if (!e)
        table_covered_show(l, t);
    else
        table_unload(t);
    c->summary = NULL;
    free(base.offsets);
    free(text);
    return e;
}
