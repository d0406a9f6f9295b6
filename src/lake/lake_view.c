/* What readers see of a topic's table: the files of a snapshot, and up to where each partition of the
 * topic is in them, taken together. See lake.h.
 *
 * A view is read by the thread that asks, from the catalog, and kept for those who ask next until the
 * lake's thread commits to the table. It is counted by reference.
 *
 * Files that a view names are deleted only when their snapshot has expired: that is
 * lake.snapshot.retention.ms (a minute at least) after a newer one took its place. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/tier.h"
#include "lake/catalog.h"
#include "lake/jsonl.h"

#define ARENA_CHUNK (64u << 10)
#define ARENA_MAX   (256u << 20)

/* A view and what it owns. */
struct view {
    struct lake_view v; /* first */
    _Atomic uint32_t refs;
    struct place *place;
    struct columns columns;
    struct arena arena;
    uint32_t cap;
    int32_t *leaf; /* ids of the columns that have values of their own, while it is built */
    uint32_t leaves_n;
    struct errinfo *info;
};

/* ---- building ---- */

void file_bounds(const struct data_file *f, int32_t column, enum ice_kind k, int64_t *min,
                 int64_t *max)
{
    struct ice_type t = {.kind = k};
    struct ice_value v;
    uint32_t i;

    *min = INT64_MIN;
    *max = INT64_MAX;
    for (i = 0; i < f->lower.n; i++)
        if (f->lower.at[i].id == column && ice_value_read(t, f->lower.at[i].bytes, &v))
            *min = v.i;
    for (i = 0; i < f->upper.n; i++)
        if (f->upper.at[i].id == column && ice_value_read(t, f->upper.at[i].bytes, &v))
            *max = v.i;
}

/* Whether the file has values (be they null) of all the table's columns. */
static bool has_leaves(const struct view *w, const struct id_counts *c)
{
    uint32_t i, k, at = 0;

    for (i = 0; i < w->leaves_n; i++) {
        for (k = 0; k < c->n && c->at[(at + k) % c->n].id != w->leaf[i]; k++)
            ;
        if (k == c->n)
            return false;
        at += k + 1; /* they mostly come in the same order */
    }
    return true;
}

static void on_leaf(void *arg, const struct schema_field *f)
{
    struct view *w = arg;

    w->leaf = xrealloc(w->leaf, (w->leaves_n + 1) * sizeof *w->leaf);
    w->leaf[w->leaves_n++] = f->id;
}

/* Whether the fields that both have are called the same and have the same type. */
static bool fields_agree(const struct schema_field *now, const struct schema *then)
{
    uint32_t i;

    for (i = 0; i < now->child_n; i++) {
        const struct schema_field *f = &now->child[i], *g = schema_find(then, f->id);

        if (g && (strcmp(f->name, g->name) != 0 || f->type.kind != g->type.kind ||
                  !fields_agree(f, then)))
            return false;
    }
    return true;
}

/* Whether columns never changed but that some were added. */
static bool schemas_agree(const struct metadata *md, const struct schema *now)
{
    const json_t *list = json_object_get(md->doc, "schemas"), *o;
    struct schema *then = NULL;
    bool same = true;
    size_t i;

    json_array_foreach(list, i, o)
    {
        same = same && schema_parse(o, &then, NULL) == ERR_OK && fields_agree(&now->root, then);
        schema_free(&then);
    }
    return same;
}

static enum err on_file(void *arg, const struct manifest_entry *e, const struct spec *spec)
{
    struct view *w = arg;
    struct lake_view_file *f;

    (void)spec;
    if (e->file.content != DATA_ROWS)
        return errinfo_set(w->info, ERR_UNSUPPORTED,
                           "the table has delete files, which Weir does not read: have them "
                           "applied by rewriting the data files");
    if (w->v.files_n == w->cap) {
        w->cap = w->cap ? w->cap * 2 : 64;
        w->v.file = xrealloc(w->v.file, w->cap * sizeof *w->v.file);
    }
    f = &w->v.file[w->v.files_n];
    memset(f, 0, sizeof *f);
    f->location = arena_str(&w->arena, e->file.path);
    if (!f->location)
        return errinfo_set(w->info, ERR_LIMIT, "the table has too many files");
    f->rows = (uint64_t)e->file.records;
    f->bytes = (uint64_t)e->file.bytes;
    f->sorted = e->file.sort_order_id > 0;
    file_bounds(&e->file, COLUMN_PARTITION, ICE_INT, &f->partition_min, &f->partition_max);
    file_bounds(&e->file, COLUMN_OFFSET, ICE_LONG, &f->offset_min, &f->offset_max);
    file_bounds(&e->file, COLUMN_POSITION, ICE_LONG, &f->position_min, &f->position_max);
    file_bounds(&e->file, COLUMN_TIMESTAMP, ICE_TIMESTAMPTZ, &f->time_min_us, &f->time_max_us);
    w->v.uniform = w->v.uniform && has_leaves(w, &e->file.value_counts);
    w->v.files_n++;
    return ERR_OK;
}

static enum err offsets_parse(const char *text, struct lake_view *v, struct errinfo *info)
{
    json_t *list = text ? json_loads(text, 0, NULL) : NULL;
    size_t i;

    if (text && !json_is_array(list)) {
        json_decref(list);
        return errinfo_set(info, ERR_CORRUPT, "%s is no list", SNAPSHOT_OFFSETS);
    }
    v->boundary_n = (uint32_t)json_array_size(list);
    v->boundary = xcalloc((size_t)v->boundary_n + 1, sizeof *v->boundary);
    for (i = 0; i < v->boundary_n; i++)
        v->boundary[i] = json_integer_value(json_array_get(list, i));
    json_decref(list);
    return ERR_OK;
}

/* The snapshot that was current at a time; NULL: none was, or it is expired. */
static const json_t *snapshot_at(const struct metadata *md, int64_t ms)
{
    const json_t *log = json_object_get(md->doc, "snapshot-log"), *e, *found = NULL;
    size_t i;

    json_array_foreach(log, i, e)
    {
        if (json_integer_value(json_object_get(e, "timestamp-ms")) <= ms)
            found = metadata_snapshot(md, json_integer_value(json_object_get(e, "snapshot-id")));
    }
    return found;
}

static enum err snapshot_pick(const struct metadata *md, const struct lake_at *at,
                              const json_t **out, struct errinfo *info)
{
    *out = at->kind == LAKE_AT_SNAPSHOT ? metadata_snapshot(md, at->value)
           : at->kind == LAKE_AT_TIME   ? snapshot_at(md, at->value)
                                        : metadata_current(md);
    if (*out || at->kind == LAKE_AT_NOW)
        return ERR_OK;
    return errinfo_set(info, ERR_NOT_FOUND, "the table has no snapshot %s %" PRId64,
                       at->kind == LAKE_AT_TIME ? "as old as" : "with the id", at->value);
}

static enum err view_fill(struct lake *l, const struct metadata *md, const struct lake_at *at,
                          struct view *w, struct errinfo *info)
{
    struct snapshot_scan scan = {.file = on_file, .arg = w};
    const json_t *snapshot = NULL;
    struct schema *s = NULL;
    struct lake_env env;
    enum err e = snapshot_pick(md, at, &snapshot, info);

    if (!e)
        e = place_get(l, md, &w->place, info);
    env = (struct lake_env){place_store(l, w->place), io_real()};
    if (!e)
        e = metadata_schema(md, -1, &s, info);
    if (!e)
        e = columns_from_schema(s, &w->columns, info);
    if (!e) {
        w->v.uniform = schemas_agree(md, s);
        schema_each_leaf(s, on_leaf, w);
    }
    schema_free(&s);
    if (e)
        return e;
    w->v.column = w->columns.c;
    w->v.columns_n = w->columns.n;
    w->v.snapshot_id = snapshot ? json_integer_value(json_object_get(snapshot, "snapshot-id")) : -1;
    e = offsets_parse(snapshot_offsets_at(md, snapshot), &w->v, info);
    if (!e && snapshot)
        e = snapshot_files(&env, md, w->v.snapshot_id, &scan, info);
    return e;
}

void lake_view_unref(struct lake_view *v)
{
    struct view *w = (struct view *)v;

    if (atomic_fetch_sub(&w->refs, 1) != 1)
        return;
    columns_fini(&w->columns);
    arena_fini(&w->arena);
    place_unref(&w->place);
    free(w->leaf);
    free(v->file);
    free(v->boundary);
    free(w);
}

static enum err table_read(struct lake *l, struct topic *topic, struct metadata **md,
                           struct errinfo *info)
{
    struct table_name name = {l->conf.namespace_, topic_name(topic)};
    enum err e = lake_ready(l, info);

    if (!e)
        e = catalog_load(l->catalog, &name, md, info);
    if (!e && table_topic_check(*md, topic, info)) {
        metadata_free(md);
        e = ERR_NOT_FOUND; /* another's */
    }
    return e;
}

static enum err view_make(struct lake *l, struct topic *topic, const struct lake_at *at,
                          struct lake_view **out, struct errinfo *info)
{
    struct view *w = xcalloc(1, sizeof *w);
    struct metadata *md = NULL;
    struct topic_conf c;
    enum err e;

    atomic_init(&w->refs, 1);
    arena_init(&w->arena, ARENA_CHUNK, ARENA_MAX);
    w->info = info;
    topic_conf_get(topic, &c);
    if (c.lake_format == LAKE_JSONL) {
        w->v.lines = true;
        e = jsonl_view_fill(l, topic, &w->v, &w->cap, &w->arena, info);
    } else {
        e = table_read(l, topic, &md, info);
        if (!e)
            e = view_fill(l, md, at, w, info);
        metadata_free(&md);
    }
    w->info = NULL;
    if (e)
        lake_view_unref(&w->v);
    else
        *out = &w->v;
    return e;
}

static struct lake_view *ref(struct lake_view *v)
{
    atomic_fetch_add(&((struct view *)v)->refs, 1);
    return v;
}

/* One that the lake's thread has not come to, or whose lake.enable is off now. */
static bool may_have_table(struct topic *topic, const struct topic_conf *c)
{
    struct plog_info now;
    int32_t i;

    for (i = 0; !c->lake_enable && i < topic_partitions(topic); i++) {
        struct partition *p = topic_partition(topic, i);

        plog_info_get(partition_log(p), &now);
        if (partition_start(p) < now.start_offset)
            return true;
    }
    return c->lake_enable;
}

enum err lake_view_get(struct lake *l, struct topic *topic, const struct lake_at *at,
                       struct lake_view **out, struct errinfo *info)
{
    struct slice name = slice_str(topic_name(topic));
    struct lake_view *old = NULL;
    struct table *t;
    uint64_t version = 0;
    struct topic_conf c;
    enum err e;

    *out = NULL;
    topic_conf_get(topic, &c);
    if (c.lake_format == LAKE_JSONL && at->kind != LAKE_AT_NOW)
        return errinfo_set(info, ERR_NOT_FOUND,
                           "the topic \"%s\" is a folder of JSON lines, which has no snapshots",
                           topic_name(topic));
    io_mutex_lock(&l->lock);
    t = lake_table_find(l, name);
    io_mutex_unlock(&l->lock);
    if (!t && may_have_table(topic, &c))
        t = lake_table_of(l, topic);
    io_mutex_lock(&l->lock);
    if (t) {
        version = t->version;
        if (t->view && t->view_version == version && at->kind == LAKE_AT_NOW &&
            !place_old(((struct view *)t->view)->place))
            *out = ref(t->view);
    }
    io_mutex_unlock(&l->lock);
    if (!t)
        return errinfo_set(info, ERR_NOT_FOUND, "the topic \"%s\" has no table", topic_name(topic));
    if (*out)
        return ERR_OK;
    e = view_make(l, topic, at, out, info);
    if (e || at->kind != LAKE_AT_NOW)
        return e;
    io_mutex_lock(&l->lock);
    if (t->version == version) {
        old = t->view; /* whose credentials end */
        t->view = ref(*out);
        t->view_version = version;
    }
    io_mutex_unlock(&l->lock);
    lake_view_release(&old);
    return ERR_OK;
}

void lake_view_release(struct lake_view **v)
{
    if (*v)
        lake_view_unref(*v);
    *v = NULL;
}

enum err lake_snapshots(struct lake *l, struct topic *topic,
                        void (*fn)(void *arg, const char *json, bool current), void *arg,
                        struct errinfo *info)
{
    struct metadata *md = NULL;
    const json_t *s;
    size_t i;
    enum err e = table_read(l, topic, &md, info);

    if (e)
        return e;
    json_array_foreach(json_object_get(md->doc, "snapshots"), i, s)
    {
        char *text = json_dumps(s, JSON_COMPACT);

        if (text)
            fn(arg, text,
               json_integer_value(json_object_get(s, "snapshot-id")) == metadata_current_id(md));
        free(text);
    }
    metadata_free(&md);
    return ERR_OK;
}

void lake_topics_each(struct lake *l, void (*fn)(void *arg, const char *topic), void *arg)
{
    struct table *t;

    io_mutex_lock(&l->lock);
    t = l->tables;
    io_mutex_unlock(&l->lock);
    for (; t; t = t->next) /* entries stay, with their names */
        fn(arg, t->name);
}
