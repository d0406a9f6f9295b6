/* Parquet for the lake, and the lake's tables for SQL. See table.h. */
#include "table/table.h"

#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "broker/broker.h"
#include "broker/tier.h"
#include "journal/batch.h"
#include "sql/cold.h"
#include "sql/field.h"
#include "sql/infer.h"
#include "sql/parquet.h"
#include "sql/sql.h"

struct tables {
    struct broker *broker;
    struct lake *lake;
    struct parquet *parquet;
    struct parquet *replay; /* an instance of its own: replays do not take a flush's memory */
    char url[PATH_MAX + 16];
    char dir[PATH_MAX + 16];
    const char *dirs[2];
    unsigned dirs_n;
    struct sql_cold cold;
};

/* ---- columns ---- */

static enum sql_type type_of(enum ice_kind k)
{
    switch (k) {
    case ICE_BOOLEAN:
        return SQL_BOOLEAN;
    case ICE_INT:
        return SQL_INTEGER;
    case ICE_LONG:
        return SQL_BIGINT;
    case ICE_FLOAT:
        return SQL_FLOAT;
    case ICE_DOUBLE:
        return SQL_DOUBLE;
    case ICE_TIMESTAMPTZ:
        return SQL_TIMESTAMP_TZ;
    case ICE_STRING:
        return SQL_VARCHAR;
    default:
        return SQL_BLOB; /* binary; of headers their values */
    }
}

static enum sql_source source_of(enum lake_source s)
{
    static const enum sql_source of[] = {[LAKE_PARTITION] = SQL_FROM_PARTITION,
                                         [LAKE_OFFSET] = SQL_FROM_OFFSET,
                                         [LAKE_POSITION] = SQL_FROM_POSITION,
                                         [LAKE_TIMESTAMP] = SQL_FROM_TIMESTAMP,
                                         [LAKE_KEY] = SQL_FROM_KEY,
                                         [LAKE_VALUE] = SQL_FROM_VALUE,
                                         [LAKE_HEADERS] = SQL_FROM_HEADERS,
                                         [LAKE_CE_TYPE] = SQL_FROM_CE_TYPE,
                                         [LAKE_CE_ID] = SQL_FROM_CE_ID,
                                         [LAKE_FIELD] = SQL_FROM_FIELD,
                                         [LAKE_MISFIT] = SQL_FROM_MISFIT};

    return of[s];
}

/* Borrows the names. */
static struct sql_column *columns_of(const struct lake_column *c, uint32_t n)
{
    struct sql_column *out = xcalloc(n + 1, sizeof *out);
    uint32_t i;

    for (i = 0; i < n; i++)
        out[i] = (struct sql_column){
            .name = c[i].name,
            .source = source_of(c[i].source),
            .type = type_of(c[i].kind),
            .type_of = c[i].source == LAKE_MISFIT ? type_of(c[i].kind_of) : SQL_NULL,
            .field = c[i].field,
            .field_id = c[i].id,
            .child_id = {c[i].child_id[0], c[i].child_id[1], c[i].child_id[2]},
            .required = c[i].required};
    return out;
}

/* ---- files ---- */

static void stats_of(const struct parquet_stats *from, struct lake_file_stats *out)
{
    struct parquet_stats *kept = xmemdup(from, sizeof *from);
    uint32_t i;

    *out = (struct lake_file_stats){
        .rows = from->rows, .bytes = from->bytes, .leaves_n = from->columns_n, .private = kept};
    out->leaf = xcalloc(from->columns_n + 1, sizeof *out->leaf);
    for (i = 0; i < from->columns_n; i++) {
        const struct parquet_column_stats *c = &from->columns[i];

        out->leaf[i] = (struct lake_leaf){.id = c->field_id,
                                          .values = c->values,
                                          .bytes = c->bytes,
                                          .nulls = c->nulls,
                                          .has_bounds = c->has_bounds,
                                          .has_nan = c->has_nan,
                                          .min = c->min,
                                          .max = c->max};
    }
}

static void stats_fini(void *arg, struct lake_file_stats *s)
{
    struct parquet_stats *kept = s->private;

    (void)arg;
    if (kept)
        parquet_stats_fini(kept);
    free(kept);
    free(s->leaf);
    memset(s, 0, sizeof *s);
}

/* Room for two more. */
static struct parquet_order *orders_of(const struct lake_order *o, uint32_t n)
{
    struct parquet_order *out = xcalloc(n + 2, sizeof *out);
    uint32_t i;

    for (i = 0; i < n; i++)
        out[i] = (struct parquet_order){o[i].column, o[i].descending, o[i].nulls_last};
    return out;
}

static enum err write_file(void *arg, struct topic *t, const struct lake_range *r,
                           uint32_t ranges_n, const struct lake_column *c, uint32_t columns_n,
                           const struct lake_order *order, uint32_t order_n, const char *path,
                           struct lake_file_stats *out, struct errinfo *info)
{
    struct sql_range *ranges = xcalloc(ranges_n + 1, sizeof *ranges);
    struct parquet_order *by = orders_of(order, order_n);
    struct sql_column *columns = columns_of(c, columns_n);
    struct tables *l = arg;
    struct parquet_write w = {.topic = t,
                              .ranges = ranges,
                              .ranges_n = ranges_n,
                              .columns = columns,
                              .columns_n = columns_n,
                              .order = by,
                              .order_n = order_n,
                              .path = path};
    char *schema = lake_columns_json(c, columns_n);
    struct parquet_stats st;
    uint32_t i;
    enum err e;

    for (i = 0; i < ranges_n; i++)
        ranges[i] = (struct sql_range){r[i].partition, r[i].from, r[i].to};
    w.schema = schema;
    e = parquet_write(l->parquet, &w, &st, info);
    if (!e)
        stats_of(&st, out);
    free(schema);
    free(columns);
    free(ranges);
    free(by);
    return e;
}

/* A column's name as SQL has it; the columns of every table have names that need no quotes. */
static const char *name_of(const struct lake_rewrite *w, enum lake_source source)
{
    uint32_t i;

    for (i = 0; i < w->columns_n; i++)
        if (w->columns[i].source == source)
            return w->columns[i].name;
    return "NULL";
}

/* partition = 0 AND "offset" BETWEEN 0 AND 99 OR … */
static enum err drop_text(const struct lake_rewrite *w, struct buf *b)
{
    enum err e = ERR_OK;
    uint32_t i;

    for (i = 0; !e && i < w->drop_n; i++)
        e = buf_printf(b, "%s\"%s\" = %d AND \"%s\" BETWEEN %" PRId64 " AND %" PRId64,
                       i ? " OR " : "", name_of(w, LAKE_PARTITION), (int)w->drop[i].partition,
                       name_of(w, LAKE_OFFSET), w->drop[i].from, w->drop[i].to - 1);
    return e ? e : buf_append_u8(b, 0);
}

static enum err rewrite_files(void *arg, const struct lake_rewrite *lw, struct lake_file_stats *out,
                              struct errinfo *info)
{
    struct sql_column *columns = columns_of(lw->columns, lw->columns_n);
    struct parquet_order *order = orders_of(lw->order, lw->order_n);
    struct tables *l = arg;
    struct parquet_rewrite w = {.files = lw->files,
                                .files_n = lw->files_n,
                                .columns = columns,
                                .columns_n = lw->columns_n,
                                .order = order,
                                .order_n = lw->order_n,
                                .path = lw->path};
    char *schema = lake_columns_json(lw->columns, lw->columns_n);
    struct parquet_stats st;
    struct buf drop;
    uint32_t i;
    enum err e;

    for (i = 0; i < lw->columns_n && w.order_n < lw->order_n + 2; i++) /* and among equals */
        if (lw->columns[i].source == LAKE_PARTITION || lw->columns[i].source == LAKE_OFFSET)
            order[w.order_n++] = (struct parquet_order){.column = i};
    buf_init(&drop, (size_t)lw->drop_n * 128 + 64);
    e = drop_text(lw, &drop);
    w.drop = lw->drop_n ? (const char *)drop.ptr : NULL;
    w.schema = schema;
    e = e ? e : parquet_rewrite(l->parquet, &w, &st, info);
    if (!e)
        stats_of(&st, out);
    buf_fini(&drop);
    free(schema);
    free(columns);
    free(order);
    return e;
}

/* ---- records one after the other ---- */

struct cursor {
    struct parquet_cursor *c;
    struct sql_column *columns;
    struct lake_record record;
};

static void cursor_close(void *cursor)
{
    struct cursor *c = cursor;

    parquet_cursor_close(&c->c);
    free(c->columns);
    free(c);
}

static enum err cursor_open(void *arg, const struct lake_cursor_conf *lc, void **out,
                            struct errinfo *info)
{
    struct tables *l = arg;
    struct cursor *c = xcalloc(1, sizeof *c);
    struct parquet_scan s = {.file = lc->path,
                             .columns = columns_of(lc->columns, lc->columns_n),
                             .columns_n = lc->columns_n,
                             .partition = lc->partition,
                             .from = lc->from,
                             .to = lc->to,
                             .ts_min_ms = lc->ts_min_ms,
                             .position_min = lc->position_min,
                             .sorted = lc->sorted,
                             .places_only = lc->places_only};
    enum err e;

    c->columns = (struct sql_column *)(uintptr_t)s.columns;
    e = parquet_cursor_open(l->replay, &s, &c->c, info);
    if (e) {
        cursor_close(c);
        return e;
    }
    *out = c;
    return ERR_OK;
}

static enum err cursor_next(void *cursor, const struct lake_record **out, struct errinfo *info)
{
    const struct parquet_record *r;
    struct cursor *c = cursor;
    enum err e = parquet_cursor_next(c->c, &r, info);

    if (e)
        return e;
    c->record = (struct lake_record){.offset = r->offset,
                                     .timestamp_ms = r->timestamp_ms,
                                     .position = r->position,
                                     .key = r->key,
                                     .value = r->value,
                                     .headers = r->headers,
                                     .headers_n = r->headers_n};
    *out = &c->record;
    return ERR_OK;
}

/* ---- fields of values ---- */

static void *fields_new(void *arg)
{
    struct infer *f = xcalloc(1, sizeof *f);

    (void)arg;
    infer_init(f);
    return f;
}

static void fields_value(void *fields, struct slice value)
{
    infer_value(fields, value);
}

static void fields_each(void *fields, void (*fn)(void *fn_arg, const char *name, unsigned seen),
                        void *fn_arg)
{
    const struct infer *f = fields;
    uint32_t i;

    _Static_assert(LAKE_SEEN_BOOLEAN == INFER_BOOLEAN && LAKE_SEEN_WHOLE == INFER_WHOLE &&
                       LAKE_SEEN_NUMBER == INFER_NUMBER && LAKE_SEEN_STRING == INFER_STRING &&
                       LAKE_SEEN_NESTED == INFER_NESTED,
                   "the same bits");
    for (i = 0; i < f->n; i++)
        fn(fn_arg, f->fields[i].name, f->fields[i].seen);
}

static void fields_free(void *fields)
{
    infer_fini(fields);
    free(fields);
}

/* ---- one column of one record ---- */

/* Text as a column of text has it: bytes that are no UTF-8 are escaped. */
static enum err text_give(struct slice s, struct ice_value *out, struct buf *text)
{
    size_t n;

    out->null = false;
    out->bytes = s.ptr ? s : SLICE_LIT("");
    if (text_valid(out->bytes))
        return ERR_OK;
    n = text_escaped_len(s);
    if (buf_reserve(text, n))
        return ERR_TOO_LARGE;
    out->bytes = slice_of(text->ptr + text->len, text_escape(s, (char *)text->ptr + text->len));
    return ERR_OK;
}

static enum err string_give(const struct field_value *v, struct ice_value *out, struct buf *text)
{
    size_t n;

    if (v->kind != FIELD_STRING || !v->escaped)
        return text_give(v->text, out, text);
    if (buf_reserve(text, 5 * v->text.len + 1)) /* and as much again to escape it */
        return ERR_TOO_LARGE;
    n = field_unescape(v->text, text->ptr);
    text->len = n == SIZE_MAX ? 0 : n;
    return n == SIZE_MAX ? ERR_OK : text_give(slice_of(text->ptr, n), out, text);
}

static enum err field_give(const struct lake_column *c, struct slice value, struct ice_value *out,
                           struct buf *text)
{
    struct slice name = slice_str(c->field);
    struct field_value v;
    struct field_set set;
    double d = 0;

    field_set_init(&set, &name, 1);
    field_set_scan(&set, value, &v);
    field_set_fini(&set);
    if (v.kind == FIELD_MISSING || v.kind == FIELD_NULL)
        return ERR_OK;
    switch (c->kind) {
    case ICE_BOOLEAN:
        out->i = v.kind == FIELD_TRUE;
        out->null = v.kind != FIELD_TRUE && v.kind != FIELD_FALSE;
        return ERR_OK;
    case ICE_INT:
    case ICE_LONG:
        out->null = v.kind != FIELD_NUMBER || !field_i64(v.text, &out->i) ||
                    (c->kind == ICE_INT && out->i != (int32_t)out->i);
        return ERR_OK;
    case ICE_FLOAT:
    case ICE_DOUBLE:
        out->null = v.kind != FIELD_NUMBER || !field_f64(v.text, &d);
        out->d = c->kind == ICE_FLOAT ? (double)(float)d : d;
        return ERR_OK;
    case ICE_STRING:
        return string_give(&v, out, text);
    default:
        return ERR_UNSUPPORTED;
    }
}

static enum err column_value(void *arg, const struct lake_column *c, const struct record *r,
                             struct ice_value *out, struct buf *text)
{
    struct slice want = c->source == LAKE_CE_TYPE ? SLICE_LIT("ce_type") : SLICE_LIT("ce_id");
    struct record_header h[LIMIT_RECORD_HEADERS];
    uint32_t i, n = 0;

    (void)arg;
    *out = ICE_NULL;
    buf_clear(text);
    if (c->source == LAKE_FIELD)
        return slice_is_null(r->value) ? ERR_OK : field_give(c, r->value, out, text);
    if (r->headers_n && record_headers(r, h, LIMIT_RECORD_HEADERS, &n))
        n = 0;
    for (i = 0; i < n && !slice_eq(h[i].key, want); i++)
        ;
    return i == n || slice_is_null(h[i].value) ? ERR_OK : text_give(h[i].value, out, text);
}

/* ---- tables for queries ---- */

/* A view in sql's terms. */
struct cold_view {
    struct lake_view *view;
    struct sql_cold_file *file;
    struct lake_file *pin; /* of file[i] */
    uint32_t files_n;
    int64_t *start; /* of each partition, NULL: rows below the log's start are seen */
    uint32_t start_n;
    struct sql_column *columns;
};

static void cold_free(struct tables *l, struct cold_view *v)
{
    lake_files_unpin(l->lake, v->pin, v->files_n);
    lake_view_release(&v->view);
    free(v->columns);
    free(v->pin);
    free(v->start);
    free(v->file);
    free(v);
}

static void cold_release(void *arg, struct sql_cold_snapshot *s)
{
    if (s->private)
        cold_free(arg, s->private);
    memset(s, 0, sizeof *s);
}

/* May the file have rows within the bounds? */
static bool wanted(const struct lake_view_file *f, const struct sql_bounds *b)
{
    if (!b)
        return true;
    return (b->partition < 0 ||
            (f->partition_min <= b->partition && b->partition <= f->partition_max)) &&
           f->offset_min <= b->offset_max && b->offset_min <= f->offset_max &&
           (b->position_max > INT64_MAX || f->position_min <= (int64_t)b->position_max) &&
           (b->position_min > INT64_MAX || (int64_t)b->position_min <= f->position_max) &&
           f->time_min_us / 1000 - 1 <= b->ts_max_ms && b->ts_min_ms <= f->time_max_us / 1000 + 1;
}

/* The log's starts, if rows below them are to leave the table. */
static void starts_get(struct cold_view *v, struct topic *t)
{
    struct topic_conf c;
    uint32_t i;

    topic_conf_get(t, &c);
    if (!lake_trims(&c))
        return;
    v->start_n = (uint32_t)topic_partitions(t);
    v->start = xcalloc((size_t)v->start_n + 1, sizeof *v->start);
    for (i = 0; i < v->start_n; i++)
        v->start[i] = partition_start(topic_partition(t, (int32_t)i));
}

/* May rows of the file be below the starts, and may others not? */
static void starts_look(const struct cold_view *v, const struct lake_view_file *f, bool *below,
                        bool *above)
{
    int64_t p, n = v->start_n, last = f->partition_max < n ? f->partition_max : n - 1;

    *below = false;
    *above = !v->start || f->partition_min < 0 || f->partition_max >= n;
    for (p = f->partition_min < 0 ? 0 : f->partition_min; p <= last; p++) {
        *below = *below || f->offset_min < v->start[p];
        *above = *above || f->offset_max >= v->start[p];
    }
}

/* NULL: everything is wanted. */
static const struct lake_wanted *wanted_rows(const struct sql_bounds *b, struct lake_wanted *w)
{
    const int64_t ms_max = INT64_MAX / 1000;

    if (!b)
        return NULL;
    *w = (struct lake_wanted){
        .partition = b->partition,
        .offset_min = b->offset_min,
        .offset_max = b->offset_max,
        .position_min = b->position_min > INT64_MAX ? INT64_MAX : (int64_t)b->position_min,
        .position_max = b->position_max > INT64_MAX ? INT64_MAX : (int64_t)b->position_max,
        .time_min_us = b->ts_min_ms <= -ms_max ? INT64_MIN : (b->ts_min_ms - 1) * 1000,
        .time_max_us = b->ts_max_ms >= ms_max ? INT64_MAX : (b->ts_max_ms + 1) * 1000};
    return b->partition < 0 && b->offset_min <= 0 && b->offset_max == INT64_MAX &&
                   b->position_min <= 1 && b->position_max == UINT64_MAX &&
                   b->ts_min_ms == INT64_MIN && b->ts_max_ms == INT64_MAX
               ? NULL
               : w;
}

static enum err cold_files(struct tables *l, struct cold_view *v, const struct sql_bounds *b,
                           struct errinfo *info)
{
    const struct lake_view *w = v->view;
    struct lake_wanted rows;
    bool below, above;
    uint32_t i, n = 0;
    enum err e;

    v->file = xcalloc((size_t)w->files_n + 1, sizeof *v->file);
    v->pin = xcalloc((size_t)w->files_n + 1, sizeof *v->pin);
    for (i = 0; i < w->files_n; i++) {
        starts_look(v, &w->file[i], &below, &above);
        if (!above || !wanted(&w->file[i], b))
            continue;
        v->pin[n] = (struct lake_file){.location = w->file[i].location, .bytes = w->file[i].bytes};
        v->file[n] = (struct sql_cold_file){v->pin[n].path, w->file[i].rows, below};
        n++;
    }
    e = n ? lake_files_pin(l->lake, v->pin, n, wanted_rows(b, &rows), info) : ERR_OK;
    if (!e)
        v->files_n = n;
    return e;
}

static enum err at_of(const struct sql_at *at, struct lake_at *out, struct errinfo *info)
{
    *out = (struct lake_at){LAKE_AT_NOW, 0};
    if (!at || at->kind == SQL_AT_NOW)
        return ERR_OK;
    if (at->kind == SQL_AT_POSITION)
        return errinfo_set(info, ERR_UNSUPPORTED,
                           "a table in the lake is read as of a snapshot or a time; for a position "
                           "say WHERE position < …");
    *out =
        (struct lake_at){at->kind == SQL_AT_SNAPSHOT ? LAKE_AT_SNAPSHOT : LAKE_AT_TIME, at->value};
    return ERR_OK;
}

static bool topic_reads_lines(struct topic *t)
{
    struct topic_conf c;

    topic_conf_get(t, &c);
    return c.lake_format == LAKE_JSONL;
}

static enum err cold_snapshot(void *arg, struct topic *t, const struct sql_at *at,
                              const struct sql_bounds *bounds, struct sql_cold_snapshot *out,
                              struct errinfo *info)
{
    struct tables *l = arg;
    struct cold_view *v;
    struct lake_at when;
    enum err e = at_of(at, &when, info);

    memset(out, 0, sizeof *out);
    if (e || !l->lake || topic_reads_lines(t)) /* those are read as the log is */
        return e ? e : ERR_NOT_FOUND;
    v = xcalloc(1, sizeof *v);
    e = lake_view_get(l->lake, t, &when, &v->view, info);
    if (!e && when.kind == LAKE_AT_NOW)
        starts_get(v, t);
    if (!e)
        e = cold_files(l, v, bounds, info);
    if (e) {
        cold_free(l, v);
        return e;
    }
    v->columns = columns_of(v->view->column, v->view->columns_n);
    *out = (struct sql_cold_snapshot){.id = v->view->snapshot_id,
                                      .files = v->file,
                                      .files_n = v->files_n,
                                      .boundary = v->view->boundary,
                                      .end = when.kind == LAKE_AT_NOW ? NULL : v->view->boundary,
                                      .start = v->start,
                                      .start_n = v->start_n,
                                      .partitions_n = v->view->boundary_n,
                                      .columns = v->columns,
                                      .columns_n = v->view->columns_n,
                                      .uniform = v->view->uniform,
                                      .private = v};
    return ERR_OK;
}

struct snapshot_pass {
    struct tables *l;
    bool (*allowed)(void *arg, struct slice topic);
    void *allowed_arg;
    void (*fn)(void *fn_arg, const struct sql_snapshot_row *row);
    void *fn_arg;
    const char *topic;
};

static int64_t summed(const json_t *summary, const char *name)
{
    const char *text = json_string_value(json_object_get(summary, name));

    return text ? strtoll(text, NULL, 10) : 0;
}

static void on_snapshot(void *arg, const char *text, bool current)
{
    struct snapshot_pass *p = arg;
    json_t *s = json_loads(text, 0, NULL), *sum = json_object_get(s, "summary");
    const json_t *parent = json_object_get(s, "parent-snapshot-id");
    const char *op = json_string_value(json_object_get(sum, "operation"));
    char *summary = json_dumps(sum, JSON_COMPACT);

    (void)current;
    p->fn(p->fn_arg, &(struct sql_snapshot_row){
                         .topic = slice_str(p->topic),
                         .snapshot_id = json_integer_value(json_object_get(s, "snapshot-id")),
                         .parent_id = json_is_integer(parent) ? json_integer_value(parent) : -1,
                         .sequence = json_integer_value(json_object_get(s, "sequence-number")),
                         .committed_ms = json_integer_value(json_object_get(s, "timestamp-ms")),
                         .schema_id = json_integer_value(json_object_get(s, "schema-id")),
                         .operation = slice_str(op ? op : ""),
                         .records = summed(sum, "total-records"),
                         .files = summed(sum, "total-data-files"),
                         .bytes = summed(sum, "total-files-size"),
                         .summary = slice_str(summary ? summary : "{}")});
    free(summary);
    json_decref(s);
}

static void on_topic(void *arg, const char *topic)
{
    struct snapshot_pass *p = arg;
    struct topic *t = topic_find(p->l->broker, slice_str(topic));

    p->topic = topic;
    if (t && p->allowed(p->allowed_arg, slice_str(topic)))
        (void)lake_snapshots(p->l->lake, t, on_snapshot, p, NULL);
    topic_unref(&t);
}

static void cold_snapshots(void *arg, bool (*allowed)(void *arg, struct slice topic),
                           void *allowed_arg,
                           void (*fn)(void *fn_arg, const struct sql_snapshot_row *row),
                           void *fn_arg)
{
    struct snapshot_pass p = {
        .l = arg, .allowed = allowed, .allowed_arg = allowed_arg, .fn = fn, .fn_arg = fn_arg};

    if (p.l->lake)
        lake_topics_each(p.l->lake, on_topic, &p);
}

/* ---- opening ---- */

enum err tables_new(const char *data_dir, const char *url, struct tables **out,
                    struct errinfo *info)
{
    char data[PATH_MAX];
    struct tables *l;

    *out = NULL;
    if (!realpath(data_dir, data))
        return errinfo_set(info, ERR_IO, "the path of %.200s cannot be found out", data_dir);
    l = xcalloc(1, sizeof *l);
    snprintf(l->dir, sizeof l->dir, "%s/lake-tmp", data);
    if (url && url[0])
        snprintf(l->url, sizeof l->url, "%s", url);
    else
        snprintf(l->url, sizeof l->url, "file://%s/lake", data);
    l->dirs[l->dirs_n++] = l->dir;
    if (strncmp(l->url, "file://", 7) == 0)
        l->dirs[l->dirs_n++] = l->url + 7;
    l->cold = (struct sql_cold){
        .arg = l, .snapshot = cold_snapshot, .release = cold_release, .snapshots = cold_snapshots};
    *out = l;
    return ERR_OK;
}

const struct sql_cold *tables_cold(struct tables *l)
{
    return &l->cold;
}

const char *const *tables_dirs(struct tables *l, unsigned *n)
{
    *n = l->dirs_n;
    return l->dirs;
}

const char *tables_url(const struct tables *l)
{
    return l->url;
}

enum err tables_open(struct tables *l, const struct lake_conf *conf, uint64_t memory_bytes,
                     struct sql *sql, struct errinfo *info)
{
    const char *dirs[] = {l->dir};
    struct parquet_conf pc = {.sql = sql, .memory_bytes = memory_bytes, .dirs = dirs, .dirs_n = 1};
    struct lake_conf lc = *conf;
    enum err e;

    lc.dir = l->dir;
    lc.store.url = l->url;
    lc.parquet = (struct lake_parquet){.arg = l,
                                       .write = write_file,
                                       .rewrite = rewrite_files,
                                       .stats_fini = stats_fini,
                                       .cursor_open = cursor_open,
                                       .cursor_next = cursor_next,
                                       .cursor_close = cursor_close,
                                       .fields_new = fields_new,
                                       .fields_value = fields_value,
                                       .fields_each = fields_each,
                                       .fields_free = fields_free,
                                       .column_value = column_value};
    l->broker = conf->broker;
    e = parquet_open(&pc, &l->parquet, info);
    pc.dirs = l->dirs;
    pc.dirs_n = l->dirs_n;
    if (!e)
        e = parquet_open(&pc, &l->replay, info);
    return e ? e : lake_open(&lc, &l->lake, info);
}

void tables_close(struct tables **lp)
{
    struct tables *l = *lp;

    *lp = NULL;
    if (!l)
        return;
    lake_close(&l->lake);
    parquet_close(&l->parquet);
    parquet_close(&l->replay);
    free(l);
}

struct lake *tables_lake(struct tables *l)
{
    return l ? l->lake : NULL;
}
