/* The lake's settings and its Parquet functions. See lake.h. */
#include "server/lake.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "lake/lake.h"
#include "sql/infer.h"
#include "sql/parquet.h"
#include "sql/sql.h"

struct server_lake {
    struct lake *lake;
    struct parquet *parquet;
    char url[PATH_MAX + 16];
    char dir[PATH_MAX + 16];
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

static enum err write_file(void *arg, struct topic *t, const struct lake_range *r,
                           uint32_t ranges_n, const struct lake_column *c, uint32_t columns_n,
                           const char *path, struct lake_file_stats *out, struct errinfo *info)
{
    struct sql_range *ranges = xcalloc(ranges_n + 1, sizeof *ranges);
    struct sql_column *columns = columns_of(c, columns_n);
    struct server_lake *l = arg;
    struct parquet_write w = {.topic = t,
                              .ranges = ranges,
                              .ranges_n = ranges_n,
                              .columns = columns,
                              .columns_n = columns_n,
                              .path = path};
    struct parquet_stats st;
    uint32_t i;
    enum err e;

    for (i = 0; i < ranges_n; i++)
        ranges[i] = (struct sql_range){r[i].partition, r[i].from, r[i].to};
    e = parquet_write(l->parquet, &w, &st, info);
    if (!e)
        stats_of(&st, out);
    free(columns);
    free(ranges);
    return e;
}

static enum err rewrite_files(void *arg, const char *const *files, uint32_t files_n,
                              const struct lake_column *c, uint32_t columns_n, const char *path,
                              struct lake_file_stats *out, struct errinfo *info)
{
    struct sql_column *columns = columns_of(c, columns_n);
    struct parquet_order order[2];
    struct server_lake *l = arg;
    struct parquet_rewrite w = {.files = files,
                                .files_n = files_n,
                                .columns = columns,
                                .columns_n = columns_n,
                                .order = order,
                                .path = path};
    struct parquet_stats st;
    uint32_t i;
    enum err e;

    for (i = 0; i < columns_n && w.order_n < 2; i++)
        if (c[i].source == LAKE_PARTITION || c[i].source == LAKE_OFFSET)
            order[w.order_n++] = (struct parquet_order){.column = i};
    e = parquet_rewrite(l->parquet, &w, &st, info);
    if (!e)
        stats_of(&st, out);
    free(columns);
    return e;
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

/* ---- opening ---- */

static const char *text_or_null(const struct config_value *v)
{
    return v->text && v->text[0] ? v->text : NULL;
}

static enum err paths_make(const struct config *c, struct server_lake *l, struct errinfo *info)
{
    char data[PATH_MAX];

    if (!realpath(c->data.text, data))
        return errinfo_set(info, ERR_IO, "the path of %.200s cannot be found out", c->data.text);
    snprintf(l->dir, sizeof l->dir, "%s/lake-tmp", data);
    if (c->lake_url.text[0])
        snprintf(l->url, sizeof l->url, "%s", c->lake_url.text);
    else
        snprintf(l->url, sizeof l->url, "file://%s/lake", data);
    return ERR_OK;
}

static struct store_conf store_of(const struct config *c, const struct server_lake *l)
{
    return (struct store_conf){.url = l->url,
                               .endpoint = text_or_null(&c->lake_endpoint),
                               .region = text_or_null(&c->lake_region),
                               .credentials_file = text_or_null(&c->lake_credentials),
                               .profile = text_or_null(&c->lake_profile),
                               .path_style = (enum store_switch)c->lake_path_style.n,
                               .checksums = (enum store_switch)c->lake_checksums.n,
                               .ca_file = text_or_null(&c->lake_ca),
                               .storage_class = text_or_null(&c->lake_storage_class),
                               .stall_timeout_ms = (uint32_t)c->lake_stall_ms.n,
                               .deadline_ms = (uint32_t)c->lake_deadline_ms.n};
}

enum err server_lake_open(const struct config *c, struct broker *b, struct sql *sql,
                          const struct log *log, struct server_lake **out, struct errinfo *info)
{
    struct server_lake *l = xcalloc(1, sizeof *l);
    const char *dirs[] = {l->dir};
    struct parquet_conf pc = {
        .sql = sql, .memory_bytes = (uint64_t)c->lake_memory.n, .dirs = dirs, .dirs_n = 1};
    struct lake_conf lc = {.broker = b,
                           .dir = l->dir,
                           .namespace_ = c->lake_namespace.text,
                           .log = log,
                           .file_bytes = (uint64_t)c->lake_file_bytes.n,
                           .orphan_age_ms = c->lake_orphan_ms.n,
                           .parquet = {.arg = l,
                                       .write = write_file,
                                       .rewrite = rewrite_files,
                                       .stats_fini = stats_fini,
                                       .fields_new = fields_new,
                                       .fields_value = fields_value,
                                       .fields_each = fields_each,
                                       .fields_free = fields_free}};
    enum err e = paths_make(c, l, info);

    *out = l;
    lc.store = store_of(c, l);
    if (!e)
        e = parquet_open(&pc, &l->parquet, info);
    if (!e)
        e = lake_open(&lc, &l->lake, info);
    if (e)
        server_lake_close(out);
    return e;
}

void server_lake_close(struct server_lake **lp)
{
    struct server_lake *l = *lp;

    *lp = NULL;
    if (!l)
        return;
    lake_close(&l->lake);
    parquet_close(&l->parquet);
    free(l);
}

struct lake *server_lake_get(struct server_lake *l)
{
    return l->lake;
}
