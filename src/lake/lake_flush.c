/* A flush: records -> Parquet files -> store -> one commit. See lake.h for why each record comes to
 * the table exactly once. Files get names that nobody had before; one that was uploaded for a commit
 * that failed is removed at once if it is certain that it failed, else by maintenance. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "lake/lake_int.h"

#define ARENA_CHUNK     (64u << 10)
#define ARENA_MAX       (64u << 20)
#define FOLDER_NAME_MAX 255u /* of Linux */

bool lake_stopping(const struct lake *l)
{
    return atomic_load(&l->stop);
}

/* ---- names ---- */

static void name_make(char out[33])
{
    uint8_t r[16];

    io_random(io_real(), r, sizeof r);
    hex_encode(r, sizeof r, out);
}

void tmp_path(const struct lake *l, char out[512])
{
    char name[33];

    name_make(name);
    snprintf(out, 512, "%s/%s.parquet", l->conf.dir, name);
}

enum err file_key(const struct table *t, const struct ice_value *partition,
                  char out[STORE_KEY_MAX + 1], struct errinfo *info)
{
    char name[33];
    struct buf b;
    enum err e = ERR_OK;
    uint32_t i;

    buf_init(&b, STORE_KEY_MAX + 1);
    e = buf_printf(&b, "%sdata/", t->base);
    for (i = 0; !e && i < t->spec->n; i++) {
        const struct spec_field *f = &t->spec->field[i];
        size_t from = b.len;

        e = transform_path_text(slice_str(f->name), &b);
        if (!e)
            e = buf_append_u8(&b, '=');
        if (!e)
            e = transform_path(f->transform, f->result, &partition[i], &b);
        if (!e && b.len - from > FOLDER_NAME_MAX)
            e = ERR_TOO_LARGE;
        if (!e)
            e = buf_append_u8(&b, '/');
    }
    name_make(name);
    if (!e)
        e = buf_printf(&b, "%s.parquet", name);
    if (e) { /* too long for a key, or for a folder: without them the file is as good */
        buf_clear(&b);
        e = buf_printf(&b, "%sdata/%s.parquet", t->base, name);
    }
    if (e)
        e = errinfo_set(info, e, "the names of the table's files are too long");
    else
        snprintf(out, STORE_KEY_MAX + 1, "%.*s", (int)b.len, (const char *)b.ptr);
    buf_fini(&b);
    return e;
}

/* ---- metrics of a file ---- */

/* A bound's text as a value; copies into a. False: not to be had. */
static bool bound_parse(enum ice_kind k, struct slice text, struct arena *a, struct ice_value *v)
{
    char *s = arena_str(a, text), *end = s;

    if (!s)
        return false;
    memset(v, 0, sizeof *v);
    switch (k) {
    case ICE_BOOLEAN:
        v->i = strcmp(s, "true") == 0;
        return v->i || strcmp(s, "false") == 0;
    case ICE_INT:
    case ICE_LONG:
        v->i = strtoll(s, &end, 10);
        return end != s && !*end;
    case ICE_FLOAT:
    case ICE_DOUBLE:
        v->d = strtod(s, &end);
        return end != s && !*end;
    case ICE_STRING:
        v->bytes = slice_of(s, text.len);
        return true;
    case ICE_BINARY:
        v->bytes = slice_of(s, text.len / 2); /* hexadecimal digits, decoded in place */
        return text.len % 2 == 0 && hex_decode(s, text.len, (uint8_t *)s);
    default:
        return false;
    }
}

static void bound_put(struct arena *a, struct id_bounds *to, int32_t id, enum ice_kind k,
                      const struct ice_value *v, bool upper)
{
    struct ice_type t = {.kind = k};
    bool some = false;
    struct buf b;
    enum err e;

    buf_init(&b, 4096);
    e = upper ? ice_bound_upper(t, v, &b, &some) : ice_bound_lower(t, v, &b, &some);
    if (!e && some) {
        struct slice kept = arena_dup(a, b.len ? buf_slice(&b) : SLICE_LIT(""));

        if (kept.ptr)
            to->at[to->n++] = (struct id_bytes){id, kept};
    }
    buf_fini(&b);
}

static void leaf_bounds(const struct columns *c, const struct lake_leaf *leaf,
                        const struct group *own, struct arena *a, struct data_file *f)
{
    const struct lake_column *col = columns_find(c, leaf->id);
    struct ice_value low = {0}, high = {0};

    if (!col)
        return; /* within a list: bounds of lists are of no use */
    if (own && leaf->id <= COLUMN_TIMESTAMP && own->min[leaf->id] <= own->max[leaf->id]) {
        low.i = own->min[leaf->id];
        high.i = own->max[leaf->id];
    } else if (!leaf->has_bounds || leaf->has_nan || leaf->id == COLUMN_VALUE ||
               !bound_parse(col->kind, leaf->min, a, &low) ||
               !bound_parse(col->kind, leaf->max, a, &high)) {
        return;
    }
    bound_put(a, &f->lower, leaf->id, col->kind, &low, false);
    bound_put(a, &f->upper, leaf->id, col->kind, &high, true);
}

static struct id_count *counts_new(struct arena *a, uint32_t n)
{
    struct id_count *c = arena_zalloc(a, n + 1, sizeof *c);

    ASSERT(c);
    return c;
}

void file_metrics(const struct columns *c, const struct lake_file_stats *st,
                  const struct group *own, struct arena *a, struct data_file *f)
{
    uint32_t i, n = st->leaves_n;

    f->column_sizes.at = counts_new(a, n);
    f->value_counts.at = counts_new(a, n);
    f->null_counts.at = counts_new(a, n);
    f->lower.at = arena_zalloc(a, n + 1, sizeof *f->lower.at);
    f->upper.at = arena_zalloc(a, n + 1, sizeof *f->upper.at);
    ASSERT(f->lower.at && f->upper.at);
    for (i = 0; i < n; i++) {
        const struct lake_leaf *leaf = &st->leaf[i];

        if (leaf->id <= 0)
            continue;
        f->column_sizes.at[f->column_sizes.n++] = (struct id_count){leaf->id, (int64_t)leaf->bytes};
        f->value_counts.at[f->value_counts.n++] =
            (struct id_count){leaf->id, (int64_t)leaf->values};
        if (leaf->nulls != UINT64_MAX)
            f->null_counts.at[f->null_counts.n++] =
                (struct id_count){leaf->id, (int64_t)leaf->nulls};
        leaf_bounds(c, leaf, own, a, f);
    }
}

/* ---- files ---- */

enum err file_upload(struct lake *l, const struct table *t, const char *tmp, const char *key,
                     const struct lake_file_stats *st, struct arena *a, struct data_file *f,
                     struct errinfo *info)
{
    struct store_source src = {.path = tmp, .len = st->bytes, .given = true};
    struct store *store = place_store(l, t->place);
    char at[STORE_LOCATION_MAX + 1];
    enum err e;

    e = store_location(store, key, at, info);
    if (!e)
        e = store_put(store, key, &src, NULL, NULL, info);
    if (e)
        return e;
    f->content = DATA_ROWS;
    f->path = arena_dup(a, slice_str(at));
    f->format = SLICE_LIT("PARQUET");
    f->records = (int64_t)st->rows;
    f->bytes = (int64_t)st->bytes;
    f->sort_order_id = -1;
    atomic_fetch_add(&l->bytes, st->bytes);
    return f->path.ptr ? ERR_OK : errinfo_set(info, ERR_LIMIT, "too many files in one commit");
}

/* One group's records into one uploaded file. file->records 0: there was nothing in it. */
static enum err group_write(struct lake *l, struct table *t, struct topic *topic,
                            const struct group *g, struct arena *a, struct data_file *file,
                            struct errinfo *info)
{
    const struct lake_parquet *pq = &l->conf.parquet;
    char tmp[512], key[STORE_KEY_MAX + 1];
    struct table_order order;
    struct lake_file_stats st = {0};
    enum err e;

    memset(file, 0, sizeof *file);
    table_order_get(t, &order);
    tmp_path(l, tmp);
    e = pq->write(pq->arg, topic, g->range, g->ranges_n, t->columns.c, t->columns.n, order.by,
                  order.n, tmp, &st, info);
    if (e)
        return e;
    if (st.rows)
        e = file_key(t, g->value, key, info);
    if (!e && st.rows)
        e = file_upload(l, t, tmp, key, &st, a, file, info);
    if (!e && st.rows) {
        file->partition = (struct ice_value *)(uintptr_t)g->value;
        file->sort_order_id = order.id;
        file_metrics(&t->columns, &st, g, a, file);
    }
    io_unlink(io_real(), tmp, NULL);
    pq->stats_fini(pq->arg, &st);
    return e;
}

void files_forget(struct store *store, const struct data_file *file, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        char at[STORE_LOCATION_MAX + 1];
        const char *key;

        snprintf(at, sizeof at, "%.*s", (int)file[i].path.len, (const char *)file[i].path.ptr);
        key = store_key(store, at);
        if (key)
            (void)store_delete(store, &key, 1, NULL);
    }
}

static enum err groups_write(struct lake *l, struct table *t, struct topic *topic,
                             const struct scan *s, struct arena *a, struct data_file *file,
                             size_t *n, struct errinfo *info)
{
    const struct group *g;
    enum err e = ERR_OK;

    *n = 0;
    for (g = s->groups; !e && g; g = g->next) {
        if (lake_stopping(l))
            e = errinfo_set(info, ERR_CANCELLED, "the server stops");
        else
            e = group_write(l, t, topic, g, a, &file[*n], info);
        if (!e && file[*n].records)
            ++*n;
    }
    if (e)
        files_forget(place_store(l, t->place), file, *n);
    return e;
}

/* The schema that the fields seen need; *out NULL if it is as it was. The table's columns become
 * those of the new one. */
static enum err schema_grow(struct lake *l, struct table *t, const struct scan *s,
                            struct schema **out, int32_t *last_id, struct errinfo *info)
{
    struct schema *now = NULL;
    bool changed = false;
    enum err e;

    *out = NULL;
    *last_id = metadata_last_column(t->md);
    if (!s->fields)
        return ERR_OK;
    e = metadata_schema(t->md, -1, &now, info);
    if (!e)
        e = columns_evolve(l, now, s->fields, last_id, &changed, info);
    if (!e && changed) {
        columns_fini(&t->columns);
        e = columns_from_schema(now, &t->columns, info);
    }
    if (e || !changed)
        schema_free(&now);
    *out = now;
    return e;
}

/* Records gone before they were in the table. */
void table_lost(struct lake *l, struct table *t, uint64_t lost)
{
    if (!lost)
        return;
    io_mutex_lock(&l->lock);
    t->lost += lost;
    io_mutex_unlock(&l->lock);
    LOG(l->conf.log, LOG_WARN, "records were deleted before they were in the lake",
        LOG_STR("topic", t->name), LOG_U64("records", lost));
}

void table_flushed(struct lake *l, struct table *t, uint64_t files, uint64_t rows, uint64_t bytes)
{
    io_mutex_lock(&l->lock);
    t->commits++;
    t->files += files;
    t->records += rows;
    t->bytes += bytes;
    t->last_commit_ms = io_wall_ms(io_real());
    io_mutex_unlock(&l->lock);
    t->commits_since++;
    atomic_fetch_add(&l->commits, 1);
    atomic_fetch_add(&l->records, rows);
}

static void flushed(struct lake *l, struct table *t, const struct data_file *file, size_t n)
{
    uint64_t rows = 0, bytes = 0;
    size_t i;

    for (i = 0; i < n; i++) {
        rows += (uint64_t)file[i].records;
        bytes += (uint64_t)file[i].bytes;
    }
    table_flushed(l, t, n, rows, bytes);
}

static bool moved(const struct table *t, const struct scan *s)
{
    return memcmp(t->covered, s->covered, (size_t)t->partitions_n * sizeof *t->covered) != 0;
}

static enum err scan_commit(struct lake *l, struct table *t, struct topic *topic,
                            const struct scan *s, struct errinfo *info)
{
    struct snapshot_change c = {.operation = SNAPSHOT_APPEND};
    struct data_file *file = xcalloc(s->groups_n + 1, sizeof *file);
    struct place *place = NULL; /* of the files, also when the table is unloaded */
    struct schema *schema = NULL;
    struct arena a;
    enum err e;

    arena_init(&a, ARENA_CHUNK, ARENA_MAX);
    table_lost(l, t, s->lost);
    e = schema_grow(l, t, s, &schema, &c.last_column, info);
    if (!e)
        e = groups_write(l, t, topic, s, &a, file, &c.added_n, info);
    if (e) {
        table_unload(t);
    } else {
        place = place_ref(t->place);
        c.added = file;
        c.schema = schema;
        e = table_commit(l, t, &c, s->covered, info);
        if (e == ERR_CONFLICT || e == ERR_NOT_FOUND) /* certainly not in the table */
            files_forget(place_store(l, place), file, c.added_n);
    }
    if (!e)
        flushed(l, t, file, c.added_n);
    place_unref(&place);
    schema_free(&schema);
    free(file);
    arena_fini(&a);
    return e;
}

enum err table_flush(struct lake *l, struct table *t, struct topic *topic, bool *more,
                     struct errinfo *info)
{
    struct topic_conf conf;
    struct scan s;
    enum err e;

    *more = false;
    topic_conf_get(topic, &conf);
    if ((e = table_load(l, t, topic, info)) || (e = table_spec_follow(l, t, topic, info)) ||
        (e = table_sort_follow(l, t, topic, info)) ||
        (e = lake_scan_run(l, t, topic, conf.lake_columns, LIMIT_LAKE_FLUSH_BYTES, &s, info)))
        return e;
    *more = s.full;
    if (moved(t, &s))
        e = scan_commit(l, t, topic, &s, info);
    lake_scan_fini(l, &s);
    return e;
}
