/* Maintenance of a table: small files become large ones, what is too old leaves (what is below the log's
 * start: lake_trim.c), snapshots expire,
 * files that nothing names are removed. Each step is a commit of its own that either happens wholly
 * or not at all, so a crash at any point leaves a table that is right, and files that the next
 * removal of orphans takes.
 *
 * Files that are old enough are copied into the archive, and the copies take their place in one commit; the
 * originals go with the snapshots that have them. What is in the archive is not merged any more.
 *
 * Bounds: a compaction takes at most FILES_MAX files and lake_conf.file_bytes of one partition into
 * one file, and at most MERGES_MAX such merges in a turn; the rest is for the next. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/hex.h"
#include "lake/catalog.h"
#include "lake/lake_int.h"

#define ARENA_CHUNK  (256u << 10)
#define ARENA_MAX    (256u << 20)
#define FILES_MAX    64u
#define FILES_LEAST  4u /* fewer are not worth a merge */
#define MERGES_MAX   8u
#define SEEN_MAX     100000u /* files looked at in a turn */
#define KEEP         1u      /* snapshots, whatever their age */
#define ARCHIVE_NAME 100u    /* room for "/data/NAME/" */

/* ---- looking at the files ---- */

static struct slice partition_key(struct table_survey *s, const struct ice_value *v,
                                  const struct spec *spec)
{
    struct slice out;
    struct buf b;
    uint32_t i;

    buf_init(&b, 64u << 10);
    for (i = 0; i < spec->n; i++) {
        struct buf one;

        buf_init(&one, 32u << 10);
        if (!v[i].null)
            (void)ice_value_write(spec->field[i].result, &v[i], &one);
        (void)buf_append_u8(&b, v[i].null);
        (void)buf_append_be32(&b, (uint32_t)one.len);
        (void)buf_append_slice(&b, buf_slice(&one));
        buf_fini(&one);
    }
    out = arena_dup(&s->a, b.len ? buf_slice(&b) : SLICE_LIT(""));
    buf_fini(&b);
    return out;
}

static bool too_young(const struct table_survey *s, const struct data_file *f)
{
    struct ice_type t = {.kind = ICE_TIMESTAMPTZ};
    struct ice_value v;
    uint32_t i;

    if (s->time_max == INT64_MAX)
        return false;
    for (i = 0; i < f->upper.n; i++)
        if (f->upper.at[i].id == COLUMN_TIMESTAMP && ice_value_read(t, f->upper.at[i].bytes, &v))
            return v.i >= s->time_max;
    return true;
}

static void bounds_copy(struct arena *a, struct id_bounds *to, const struct id_bounds *from)
{
    uint32_t i;

    to->at = arena_zalloc(a, from->n + 1, sizeof *to->at);
    to->n = to->at ? from->n : 0;
    for (i = 0; i < to->n; i++)
        to->at[i] = (struct id_bytes){from->at[i].id, arena_dup(a, from->at[i].bytes)};
}

static void counts_copy(struct arena *a, struct id_counts *to, const struct id_counts *from)
{
    to->at = arena_zalloc(a, from->n + 1, sizeof *to->at);
    to->n = to->at ? from->n : 0;
    if (to->n)
        memcpy(to->at, from->at, to->n * sizeof *to->at);
}

static enum err on_file(void *arg, const struct manifest_entry *e, const struct spec *spec)
{
    struct table_survey *s = arg;
    const struct data_file *f = &e->file;
    struct table_file *to;
    uint32_t i;

    /* files of one spec are not merged with those of another; what is too old goes all the same */
    if (f->content != DATA_ROWS || s->n == SEEN_MAX || (uint64_t)f->bytes > s->bytes_max ||
        (s->not_in && spec->id != s->t->spec->id) || too_young(s, f) ||
        (s->not_in && memmem(f->path.ptr, f->path.len, s->not_in, strlen(s->not_in))))
        return ERR_OK;
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 64;
        s->seen = xrealloc(s->seen, s->cap * sizeof *s->seen);
    }
    to = &s->seen[s->n];
    memset(to, 0, sizeof *to);
    to->spec_id = spec->id;
    to->key = partition_key(s, f->partition, spec);
    to->file.path = arena_dup(&s->a, f->path);
    to->file.records = f->records;
    to->file.bytes = f->bytes;
    to->file.sort_order_id = f->sort_order_id;
    bounds_copy(&s->a, &to->file.lower, &f->lower);
    bounds_copy(&s->a, &to->file.upper, &f->upper);
    counts_copy(&s->a, &to->file.value_counts, &f->value_counts);
    counts_copy(&s->a, &to->file.null_counts, &f->null_counts);
    to->file.partition = arena_zalloc(&s->a, spec->n + 1, sizeof *to->file.partition);
    if (!to->key.ptr || !to->file.path.ptr || !to->file.partition)
        return ERR_LIMIT;
    for (i = 0; i < spec->n; i++) {
        to->file.partition[i] = f->partition[i];
        if (f->partition[i].bytes.ptr)
            to->file.partition[i].bytes = arena_dup(&s->a, f->partition[i].bytes);
    }
    s->n++;
    return ERR_OK;
}

static int seen_order(const void *x, const void *y)
{
    const struct table_file *a = x, *b = y;
    size_t n = a->key.len < b->key.len ? a->key.len : b->key.len;
    int c = memcmp(a->key.ptr, b->key.ptr, n);

    if (c)
        return c;
    if (a->key.len != b->key.len)
        return a->key.len < b->key.len ? -1 : 1;
    return a->file.bytes < b->file.bytes ? -1 : a->file.bytes > b->file.bytes;
}

enum err table_survey_make(struct lake *l, struct table *t, uint64_t bytes_max, int64_t time_max,
                           const char *not_in, struct table_survey *s, struct errinfo *info)
{
    struct snapshot_scan scan = {.file = on_file, .arg = s};
    struct lake_env env = table_env(l, t);
    enum err e;

    memset(s, 0, sizeof *s);
    s->t = t;
    s->bytes_max = bytes_max;
    s->time_max = time_max;
    s->not_in = not_in;
    arena_init(&s->a, ARENA_CHUNK, ARENA_MAX);
    if (metadata_current_id(t->md) < 0)
        return ERR_OK;
    e = snapshot_files(&env, t->md, -1, &scan, info);
    if (!e && s->n)
        qsort(s->seen, s->n, sizeof *s->seen, seen_order);
    return e;
}

void table_survey_fini(struct table_survey *s)
{
    free(s->seen);
    arena_fini(&s->a);
}

/* ---- merging ---- */

static const struct slice *bound_find(const struct id_bounds *b, int32_t id)
{
    uint32_t i;

    for (i = 0; i < b->n; i++)
        if (b->at[i].id == id)
            return &b->at[i].bytes;
    return NULL;
}

static bool all_null(const struct data_file *f, int32_t id)
{
    int64_t values = -1, nulls = -2;
    uint32_t i;

    for (i = 0; i < f->value_counts.n; i++)
        if (f->value_counts.at[i].id == id)
            values = f->value_counts.at[i].n;
    for (i = 0; i < f->null_counts.n; i++)
        if (f->null_counts.at[i].id == id)
            nulls = f->null_counts.at[i].n;
    return values == -1 || values == nulls; /* not there: made before the column was */
}

/* The least lower (or greatest upper) bound of a column over the files; NULL: one is not known. */
static const struct slice *bound_merge(const struct table_file *s, uint32_t n, int32_t id,
                                       struct ice_type type, bool upper)
{
    const struct slice *best = NULL;
    struct ice_value b = ICE_NULL, v;
    uint32_t i;

    for (i = 0; i < n; i++) {
        const struct slice *at = bound_find(upper ? &s[i].file.upper : &s[i].file.lower, id);
        int c;

        if (!at && all_null(&s[i].file, id))
            continue;
        if (!at || !ice_value_read(type, *at, &v))
            return NULL;
        c = best ? ice_value_compare(type, &v, &b) : 0;
        if (!best || (upper ? c > 0 : c < 0)) {
            best = at;
            b = v;
        }
    }
    return best;
}

/* A column that was promoted since has bounds of the narrower form: they are written anew. */
static void bounds_merge(const struct table *t, const struct table_file *s, uint32_t n,
                         struct arena *a, struct data_file *f)
{
    uint32_t i, k;

    for (k = 0; k < 2; k++) {
        struct id_bounds *to = k ? &f->upper : &f->lower;

        to->at = arena_zalloc(a, t->columns.n + 1, sizeof *to->at);
        to->n = 0;
        for (i = 0; to->at && i < t->columns.n; i++) {
            const struct lake_column *c = &t->columns.c[i];
            struct ice_type type = {.kind = c->kind};
            const struct slice *best;
            struct ice_value v;
            struct buf b;

            best = c->kind < ICE_PRIMITIVES ? bound_merge(s, n, c->id, type, k == 1) : NULL;
            if (!best || !ice_value_read(type, *best, &v))
                continue;
            buf_init(&b, 64u << 10);
            if (!ice_value_write(type, &v, &b))
                to->at[to->n++] =
                    (struct id_bytes){c->id, arena_dup(a, b.len ? buf_slice(&b) : SLICE_LIT(""))};
            buf_fini(&b);
        }
    }
}

static void tmp_remove(char (*tmp)[512], uint32_t n)
{
    uint32_t i;

    for (i = 0; i < n; i++)
        io_unlink(io_real(), tmp[i], NULL);
}

static enum err fetch_all(struct lake *l, const struct table *t, const struct table_file *s,
                          uint32_t n, char (*tmp)[512], uint32_t *got, struct errinfo *info)
{
    char at[STORE_LOCATION_MAX + 1];
    enum err e = ERR_OK;

    for (*got = 0; !e && *got < n; ++*got) {
        const char *key;

        snprintf(at, sizeof at, "%.*s", (int)s[*got].file.path.len,
                 (const char *)s[*got].file.path.ptr);
        key = store_key(place_store(l, t->place), at);
        if (!key)
            return errinfo_set(info, ERR_UNSUPPORTED, "the file %.150s is outside of the store",
                               at);
        if (lake_stopping(l))
            return errinfo_set(info, ERR_CANCELLED, "the server stops");
        tmp_path(l, tmp[*got]);
        e = store_get_file(place_store(l, t->place), key, tmp[*got], NULL, info);
    }
    return e;
}

/* Where rows were left out the bounds of what is left are those of the file, not of the files it was
 * made of: *own has them. */
static void places_exact(struct id_bounds *to, const struct id_bounds *own)
{
    uint32_t i;

    for (i = 0; i < to->n; i++) {
        const struct slice *b =
            to->at[i].id <= COLUMN_POSITION ? bound_find(own, to->at[i].id) : NULL;

        if (b)
            to->at[i].bytes = *b;
    }
}

static void rewritten_metrics(const struct table *t, const struct table_file *s, uint32_t n,
                              bool fewer, const struct lake_file_stats *st, struct arena *a,
                              struct data_file *f)
{
    struct id_bounds lower, upper;

    f->partition = s[0].file.partition;
    file_metrics(&t->columns, st, NULL, a, f);
    lower = f->lower;
    upper = f->upper;
    bounds_merge(t, s, n, a, f);
    if (fewer) {
        places_exact(&f->lower, &lower);
        places_exact(&f->upper, &upper);
    }
}

/* f->records 0: none are left, and there is no file. */
static enum err rewrite(struct lake *l, struct table *t, const struct table_file *s, uint32_t n,
                        const struct lake_range *drop, uint32_t drop_n, char (*tmp)[512],
                        struct arena *a, struct data_file *f, struct errinfo *info)
{
    const struct lake_parquet *pq = &l->conf.parquet;
    const char *files[FILES_MAX];
    char out[512], key[STORE_KEY_MAX + 1];
    struct lake_rewrite w = {.files = files,
                             .files_n = n,
                             .columns = t->columns.c,
                             .columns_n = t->columns.n,
                             .drop = drop,
                             .drop_n = drop_n,
                             .path = out};
    struct table_order order;
    struct lake_file_stats st = {0};
    uint64_t rows = 0;
    uint32_t i;
    enum err e;

    for (i = 0; i < n; i++) {
        files[i] = tmp[i];
        rows += (uint64_t)s[i].file.records;
    }
    table_order_get(t, &order);
    w.order = order.by;
    w.order_n = order.n;
    tmp_path(l, out);
    e = pq->rewrite(pq->arg, &w, &st, info);
    if (e)
        return e;
    if (drop_n ? st.rows > rows : st.rows != rows)
        e = errinfo_set(info, ERR_CORRUPT,
                        "files with %" PRIu64 " rows became one with %" PRIu64
                        ": they stay as they are",
                        rows, st.rows);
    if (!e && st.rows)
        e = file_key(t, s[0].file.partition, key, info);
    if (!e && st.rows)
        e = file_upload(l, t, out, key, &st, a, f, info);
    f->sort_order_id = order.id;
    if (!e && st.rows)
        rewritten_metrics(t, s, n, drop_n != 0, &st, a, f);
    io_unlink(io_real(), out, NULL);
    pq->stats_fini(pq->arg, &st);
    return e;
}

enum err files_merge(struct lake *l, struct table *t, const struct table_file *s, uint32_t n,
                     const struct lake_range *drop, uint32_t drop_n, struct arena *a,
                     struct errinfo *info)
{
    struct snapshot_change c = {.operation = drop_n ? SNAPSHOT_OVERWRITE : SNAPSHOT_REPLACE};
    char(*tmp)[512] = xcalloc(n, sizeof *tmp);
    struct slice removed[FILES_MAX];
    struct place *place; /* of the file, also when the table is unloaded */
    struct data_file f = {0};
    uint32_t i, got;
    enum err e = fetch_all(l, t, s, n, tmp, &got, info);

    if (!e)
        e = rewrite(l, t, s, n, drop, drop_n, tmp, a, &f, info);
    tmp_remove(tmp, got);
    free(tmp);
    if (e)
        return e;
    for (i = 0; i < n; i++)
        removed[i] = s[i].file.path;
    place = place_ref(t->place);
    c.added = &f;
    c.added_n = f.records > 0;
    c.removed = removed;
    c.removed_n = n;
    if (!c.added_n)
        c.operation = SNAPSHOT_DELETE;
    e = table_commit(l, t, &c, NULL, info);
    if (e == ERR_CONFLICT)
        files_forget(place_store(l, place), &f, c.added_n);
    place_unref(&place);
    return e;
}

/* "/data/archive/" */
static void archive_folder(const struct lake *l, char out[ARCHIVE_NAME])
{
    const char *name = l->conf.archive && l->conf.archive[0] ? l->conf.archive : "archive";

    snprintf(out, ARCHIVE_NAME, "/data/%s/", name);
}

/* How many files from s on go together: of one partition, as many as the limits allow. */
static uint32_t merge_size(const struct lake *l, const struct table_file *s, uint32_t left)
{
    uint64_t bytes = 0;
    uint32_t n;

    for (n = 0; n < left && n < FILES_MAX && slice_eq(s[n].key, s[0].key); n++) {
        bytes += (uint64_t)s[n].file.bytes;
        if (n && bytes > l->conf.file_bytes)
            break;
    }
    return n;
}

enum err table_compact(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info)
{
    char archive[ARCHIVE_NAME];
    uint32_t i, n, merges = 0;
    struct table_survey s;
    enum err e;

    table_unload(t); /* others may have changed it, and expired what is known here */
    e = table_load(l, t, topic, info);
    if (e)
        return e;
    archive_folder(l, archive);
    e = table_survey_make(l, t, l->conf.file_bytes / 2, INT64_MAX, archive, &s, info);
    for (i = 0; !e && i < s.n && merges < MERGES_MAX; i += n) {
        n = merge_size(l, s.seen + i, s.n - i);
        if (n < FILES_LEAST)
            continue;
        e = files_merge(l, t, s.seen + i, n, NULL, 0, &s.a, info);
        atomic_fetch_add(&l->compactions, e == ERR_OK);
        merges++;
        if (!e && !t->md)
            break;
    }
    table_survey_fini(&s);
    return e;
}

/* ---- what is too old ---- */

enum err files_delete(struct lake *l, struct table *t, const struct table_file *const *files,
                      uint32_t n, struct errinfo *info)
{
    struct snapshot_change c = {.operation = SNAPSHOT_DELETE, .removed_n = n};
    struct slice *removed = xcalloc((size_t)n + 1, sizeof *removed);
    uint32_t i;
    enum err e;

    for (i = 0; i < n; i++)
        removed[i] = files[i]->file.path;
    c.removed = removed;
    e = n ? table_commit(l, t, &c, NULL, info) : ERR_OK;
    free(removed);
    return e;
}

static enum err rows_expire(struct lake *l, struct table *t, int64_t before_ms,
                            struct errinfo *info)
{
    const struct table_file **old;
    struct table_survey s;
    uint32_t i;
    enum err e;

    if (before_ms <= 0 || before_ms > INT64_MAX / 1000)
        return ERR_OK;
    e = table_survey_make(l, t, UINT64_MAX, before_ms * 1000, NULL, &s, info);
    old = xcalloc((size_t)s.n + 1, sizeof *old);
    for (i = 0; i < s.n; i++)
        old[i] = &s.seen[i];
    e = e ? e : files_delete(l, t, old, s.n, info);
    free(old);
    table_survey_fini(&s);
    return e;
}

/* ---- the archive ---- */

/* Copies a file into the archive; *f describes the copy. */
static enum err archive_copy(struct lake *l, struct table *t, const struct table_file *s,
                             struct arena *a, struct data_file *f, struct errinfo *info)
{
    struct store_put how = {.storage_class = l->conf.archive_class};
    struct store *store = place_store(l, t->place);
    char tmp[1][512], key[STORE_KEY_MAX + 1], at[STORE_LOCATION_MAX + 1], folder[ARCHIVE_NAME];
    struct store_source src = {.path = tmp[0], .len = (uint64_t)s->file.bytes};
    uint8_t id[16];
    char name[2 * sizeof id + 1];
    uint32_t got;
    enum err e;
    int n;

    archive_folder(l, folder);
    io_random(io_real(), id, sizeof id);
    hex_encode(id, sizeof id, name);
    n = snprintf(key, sizeof key, "%s%s%s.parquet", t->base, folder + 1, name);
    if (n < 0 || (size_t)n >= sizeof key)
        return errinfo_set(info, ERR_TOO_LARGE, "the names of the archive's files are too long");
    e = fetch_all(l, t, s, 1, tmp, &got, info);
    e = e ? e : store_put(store, key, &src, &how, NULL, info);
    tmp_remove(tmp, got);
    e = e ? e : store_location(store, key, at, info);
    if (e)
        return e;
    *f = s->file;
    f->content = DATA_ROWS;
    f->format = SLICE_LIT("PARQUET");
    f->path = arena_dup(a, slice_str(at));
    return f->path.ptr ? ERR_OK : errinfo_set(info, ERR_LIMIT, "too many files in one commit");
}

/* n files into the archive, in one commit. */
static enum err archive_some(struct lake *l, struct table *t, const struct table_file *s,
                             uint32_t n, struct arena *a, struct errinfo *info)
{
    struct snapshot_change c = {.operation = SNAPSHOT_REPLACE};
    struct data_file *f = xcalloc(n, sizeof *f);
    struct place *place = place_ref(t->place);
    struct slice removed[FILES_MAX];
    uint32_t done = 0;
    enum err e = ERR_OK;

    for (; !e && done < n; done += !e) {
        removed[done] = s[done].file.path;
        e = archive_copy(l, t, &s[done], a, &f[done], info);
    }
    if (!e) {
        c.added = f;
        c.added_n = n;
        c.removed = removed;
        c.removed_n = n;
        e = table_commit(l, t, &c, NULL, info);
        if (e && e != ERR_CONFLICT)
            done = 0; /* they may be in the table */
    }
    if (e)
        files_forget(place_store(l, place), f, done);
    place_unref(&place);
    free(f);
    return e;
}

static enum err files_archive(struct lake *l, struct table *t, int64_t before_ms,
                              struct errinfo *info)
{
    char folder[ARCHIVE_NAME];
    struct table_survey s;
    uint32_t i, n;
    enum err e;

    if (before_ms <= 0 || before_ms > INT64_MAX / 1000)
        return ERR_OK;
    archive_folder(l, folder);
    e = table_survey_make(l, t, UINT64_MAX, before_ms * 1000, folder, &s, info);
    for (i = 0; !e && t->md && i < s.n; i += n) {
        n = s.n - i < FILES_MAX ? s.n - i : FILES_MAX;
        e = archive_some(l, t, s.seen + i, n, &s.a, info);
    }
    table_survey_fini(&s);
    return e;
}

/* A table with gc.enabled=false shares files with what its metadata does not tell of (the branches,
 * tags and history of Nessie): who keeps that removes files and snapshots, nobody else may. */
static bool garbage_ours(const struct metadata *md)
{
    const char *on = metadata_property(md, "gc.enabled");

    return !on || strcasecmp(on, "false") != 0;
}

enum err table_expire(struct lake *l, struct table *t, struct topic *topic, struct errinfo *info)
{
    struct table_name name = table_name_of(l, t);
    int64_t now = io_wall_ms(io_real());
    struct expire_result r = {0};
    struct topic_conf c;
    struct lake_env env;
    uint64_t n = 0;
    enum err e;

    table_unload(t); /* as above */
    e = table_load(l, t, topic, info);
    topic_conf_get(topic, &c);
    if (!e && c.lake_retention_ms >= 0)
        e = rows_expire(l, t, now - c.lake_retention_ms, info);
    if (!e)
        e = lake_trim(l, t, topic, info);
    if (!e && c.lake_archive_ms >= 0)
        e = files_archive(l, t, now - c.lake_archive_ms, info);
    if (!e)
        e = table_load(l, t, topic, info); /* if that let go of it */
    env = table_env(l, t);
    if (!e && garbage_ours(t->md))
        e = snapshot_expire(&env, l->catalog, &name, now - c.lake_snapshots_ms, KEEP, &r, info);
    atomic_fetch_add(&l->expired, r.snapshots);
    table_changed(l, t);
    table_unload(t); /* the table's metadata is another now */
    if (!e)
        e = table_load(l, t, topic, info);
    env = table_env(l, t);
    if (!e && garbage_ours(t->md))
        e = snapshot_orphans(&env, t->md, now - l->conf.orphan_age_ms, &n, info);
    atomic_fetch_add(&l->orphans, n);
    e = place_unlisted(t->place, e);
    if (!e)
        e = store_sweep(env.store, now - l->conf.orphan_age_ms, &n, info);
    return place_unlisted(t->place, e);
}
