/* What fields the JSON values of topics have: looked for in a sample of the records when a topic is
 * first mentioned, then in what came since, and kept in memory. A field that a statement names and
 * that is not known makes it look at more of them (`thoroughly`). */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"
#include "sql/sql_int.h"

#define LOOK_AGAIN_NS   1000000000u
#define SAMPLE_FIRST    200u    /* of each partition, from its start */
#define SAMPLE_RECORDS  10000u  /* in all */
#define SAMPLE_THOROUGH 200000u /* the same when a field is looked for */
#define SAMPLE_AGAIN    2000u   /* of what came since */
#define SAMPLE_BYTES    (16u << 20)
#define SCHEMAS_MAX     100000u

void schemas_init(struct sql *s)
{
    uint8_t seed[16];

    io_mutex_init(&s->schemas_lock);
    io_random(s->io, seed, sizeof seed);
    map_init(&s->schemas, SCHEMAS_MAX, seed);
}

static void schema_free(struct schema *x)
{
    infer_fini(&x->infer);
    free(x->seen);
    free(x);
}

static void schemas_clear(struct sql *s)
{
    uint32_t at = 0;
    void *v;

    while (map_next(&s->schemas, &at, NULL, &v))
        schema_free(v);
    map_fini(&s->schemas);
}

void schemas_fini(struct sql *s)
{
    schemas_clear(s);
    io_mutex_fini(&s->schemas_lock);
}

/* Lock held. */
static struct schema *schema_get(struct sql *s, const uint8_t *uuid)
{
    struct schema *x = map_find(&s->schemas, slice_of(uuid, 16));
    uint8_t seed[16];

    if (x)
        return x;
    if (s->schemas.n == SCHEMAS_MAX) { /* begin anew: what is in use is learnt again */
        memcpy(seed, s->schemas.seed, sizeof seed);
        schemas_clear(s);
        map_init(&s->schemas, SCHEMAS_MAX, seed);
    }
    x = xcalloc(1, sizeof *x);
    memcpy(x->uuid, uuid, 16);
    infer_init(&x->infer);
    map_put(&s->schemas, slice_of(x->uuid, 16), x);
    return x;
}

/* ---- looking at records ---- */

struct sample {
    struct scan_view view; /* borrowed topic */
    uint32_t records;
};

static void sample_add(struct sample *m, const struct scan_part *p, int64_t from, int64_t to)
{
    if (from < p->from)
        from = p->from;
    if (to > p->to)
        to = p->to;
    if (from >= to)
        return;
    m->view.part[m->view.parts_n++] = (struct scan_part){p->p, p->index, from, to};
    m->view.rows += (uint64_t)(to - from);
}

/* Which records to look at. seen, n: from where on, by partition; NULL at first. */
static void sample_choose(struct sample *m, const struct scan_view *v, const int64_t *seen,
                          uint32_t n, uint32_t records)
{
    uint32_t i, each = records / (v->parts_n ? v->parts_n : 1);

    if (each == 0)
        each = 1;
    m->records = records;
    m->view = (struct scan_view){
        .topic = v->topic, .ts_min = INT64_MIN, .ts_max = INT64_MAX, .older = v->older};
    m->view.part = xcalloc(2 * (size_t)v->parts_n + 1, sizeof *m->view.part);
    for (i = 0; i < v->parts_n; i++) {
        const struct scan_part *p = &v->part[i];
        int64_t from = p->to - each, first = p->from + SAMPLE_FIRST;

        if (seen && (uint32_t)p->index < n) {
            sample_add(m, p, from > seen[p->index] ? from : seen[p->index], p->to);
            continue;
        }
        if (first > from)
            first = from;
        sample_add(m, p, p->from, first);
        sample_add(m, p, from, p->to);
    }
}

static void sample_look(struct sample *m, struct infer *out)
{
    struct scan_tasks tasks;
    struct scan_rows *rows = xmalloc(sizeof *rows);
    struct scan *s;
    uint64_t bytes = 0;
    uint32_t i, looked = 0;

    scan_tasks_init(&tasks, &m->view, 1);
    s = scan_new(&tasks);
    while (looked < m->records * 2 && bytes < SAMPLE_BYTES && scan_next(s, rows, NULL) == ERR_OK &&
           rows->n) {
        looked += rows->n;
        for (i = 0; i < rows->n; i++) {
            bytes += rows->rec[i].value.len;
            infer_value(out, rows->rec[i].value);
        }
    }
    scan_free(&s);
    scan_tasks_fini(&tasks);
    free(rows);
}

/* Notes up to where records were looked at. Lock held. */
static void schema_seen(struct schema *x, const struct scan_view *v, uint64_t now)
{
    uint32_t i, n = x->seen_n;

    for (i = 0; i < v->parts_n; i++)
        if ((uint32_t)v->part[i].index >= n)
            n = (uint32_t)v->part[i].index + 1;
    if (n > x->seen_n) {
        x->seen = xrealloc(x->seen, n * sizeof *x->seen);
        memset(x->seen + x->seen_n, 0, (n - x->seen_n) * sizeof *x->seen);
        x->seen_n = n;
    }
    for (i = 0; i < v->parts_n; i++)
        x->seen[v->part[i].index] = v->part[i].to;
    x->looked_ns = now ? now : 1;
}

static void schema_look(struct sql *s, const struct scan_view *v, bool thoroughly)
{
    const uint8_t *uuid = topic_uuid(v->topic);
    uint64_t now = io_mono_ns(s->io);
    struct sample m = {.records = 0};
    struct infer found;
    struct schema *x;

    io_mutex_lock(&s->schemas_lock);
    x = schema_get(s, uuid);
    if (thoroughly)
        sample_choose(&m, v, NULL, 0, SAMPLE_THOROUGH);
    else if (!x->looked_ns)
        sample_choose(&m, v, NULL, 0, SAMPLE_RECORDS);
    else if (now - x->looked_ns >= LOOK_AGAIN_NS)
        sample_choose(&m, v, x->seen, x->seen_n, SAMPLE_AGAIN);
    if (m.records)
        schema_seen(x, v, now);
    io_mutex_unlock(&s->schemas_lock);
    if (m.records && m.view.rows) {
        infer_init(&found);
        sample_look(&m, &found);
        io_mutex_lock(&s->schemas_lock);
        infer_merge(&schema_get(s, uuid)->infer, &found);
        io_mutex_unlock(&s->schemas_lock);
        infer_fini(&found);
    }
    free(m.view.part);
}

/* Do all values that were seen fit a table's column of this type? */
static bool seen_fits(enum sql_type type, uint8_t seen)
{
    switch (type) {
    case SQL_BOOLEAN:
        return !(seen & ~INFER_BOOLEAN);
    case SQL_INTEGER:
    case SQL_BIGINT:
        return !(seen & ~INFER_WHOLE);
    case SQL_FLOAT:
    case SQL_DOUBLE:
        return !(seen & ~(INFER_WHOLE | INFER_NUMBER));
    default:
        return true;
    }
}

bool schema_misfit_learn(struct sql *s, struct topic *t, const struct sql_column *c,
                         const struct field_value *v)
{
    struct infer *f;
    bool fits = true;
    uint32_t i;

    io_mutex_lock(&s->schemas_lock);
    f = &schema_get(s, topic_uuid(t))->infer;
    i = infer_field(f, slice_str(c->field));
    if (i != UINT32_MAX) {
        infer_widen(f, i, v);
        fits = seen_fits(c->type, f->fields[i].seen);
    }
    io_mutex_unlock(&s->schemas_lock);
    return !fits;
}

enum sql_type schema_misfit(struct sql *s, struct topic *t, struct slice field,
                            const struct field_value *v)
{
    struct infer *f;
    enum sql_type type = SQL_VARCHAR;
    uint32_t i;

    io_mutex_lock(&s->schemas_lock);
    f = &schema_get(s, topic_uuid(t))->infer;
    i = infer_find(f, field);
    if (i != UINT32_MAX) {
        infer_widen(f, i, v);
        type = infer_type(&f->fields[i]);
    }
    io_mutex_unlock(&s->schemas_lock);
    return type;
}

/* ---- columns ---- */

static const struct sql_column record_columns[] = {
    {.name = "topic", .source = SQL_FROM_TOPIC, .type = SQL_VARCHAR},
    {.name = "partition", .source = SQL_FROM_PARTITION, .type = SQL_INTEGER},
    {.name = "offset", .source = SQL_FROM_OFFSET, .type = SQL_BIGINT},
    {.name = "position", .source = SQL_FROM_POSITION, .type = SQL_UBIGINT},
    {.name = "timestamp", .source = SQL_FROM_TIMESTAMP, .type = SQL_TIMESTAMP_TZ},
    {.name = "key", .source = SQL_FROM_KEY, .type = SQL_VARCHAR},
    {.name = "value", .source = SQL_FROM_VALUE, .type = SQL_VARCHAR},
    {.name = "headers", .source = SQL_FROM_HEADERS, .type = SQL_VARCHAR},
    {.name = "ce_type", .source = SQL_FROM_CE_TYPE, .type = SQL_VARCHAR},
    {.name = "ce_id", .source = SQL_FROM_CE_ID, .type = SQL_VARCHAR},
};
#define RECORD_COLUMNS (sizeof record_columns / sizeof *record_columns)

static void column_dup(struct sql_column *dst, const struct sql_column *src)
{
    *dst = *src;
    dst->name = xstrdup(src->name);
    dst->field = src->field ? xstrdup(src->field) : NULL;
}

struct sql_column *columns_copy(const struct sql_column *columns, uint32_t n)
{
    struct sql_column *c = xcalloc(n + 1u, sizeof *c);
    uint32_t i;

    for (i = 0; i < n; i++)
        column_dup(&c[i], &columns[i]);
    return c;
}

void columns_free(struct sql_column **columns, uint32_t n)
{
    uint32_t i;

    for (i = 0; *columns && i < n; i++) {
        free((char *)(uintptr_t)(*columns)[i].name);
        free((char *)(uintptr_t)(*columns)[i].field);
    }
    free(*columns);
    *columns = NULL;
}

struct sql_column *columns_record(bool exact, uint32_t *n)
{
    struct sql_column *c = columns_copy(record_columns, RECORD_COLUMNS);
    uint32_t i;

    *n = RECORD_COLUMNS;
    for (i = 0; exact && i < *n; i++)
        if (c[i].source == SQL_FROM_KEY || c[i].source == SQL_FROM_VALUE ||
            c[i].source == SQL_FROM_HEADERS)
            c[i].type = SQL_BLOB;
    return c;
}

/* Those that the lake's table has, with their ids: record columns under our names, then its own. */
static void columns_cold(struct sql_column *c, uint32_t *n, const struct sql_cold_snapshot *cold)
{
    uint32_t i, k;

    for (i = 0; i < cold->columns_n; i++) {
        const struct sql_column *x = &cold->columns[i];

        if (x->source == SQL_FROM_FIELD || x->source == SQL_FROM_MISFIT) {
            column_dup(&c[(*n)++], x);
            continue;
        }
        for (k = 0; k < RECORD_COLUMNS; k++)
            if (c[k].source == x->source)
                c[k].field_id = x->field_id;
    }
}

struct taken {
    const struct sql_column *c;
    uint32_t n;
};

static bool column_taken(void *arg, const char *name)
{
    const struct taken *t = arg;
    uint32_t i;

    for (i = 0; i < t->n; i++)
        if (!strcasecmp(t->c[i].name, name))
            return true;
    return false;
}

static bool has_field(const struct sql_column *c, uint32_t n, enum sql_source source,
                      const char *field)
{
    uint32_t i;

    for (i = RECORD_COLUMNS; i < n; i++)
        if (c[i].source == source && !strcmp(c[i].field, field))
            return true;
    return false;
}

/* Values in the local log that do not fit their column in the table: until a flush gives it a column
 * for their text, the query has one. */
static void columns_misfit(struct sql_column *c, uint32_t *n, const struct infer *f)
{
    char field[LIMIT_SQL_FIELD_NAME + sizeof "_text"], name[SQL_COLUMN_NAME_MAX + 1];
    uint32_t i, at, end = *n;

    for (i = RECORD_COLUMNS; i < end; i++) {
        struct taken t = {c, *n};

        if (c[i].source != SQL_FROM_FIELD || has_field(c, end, SQL_FROM_MISFIT, c[i].field) ||
            (at = infer_find(f, slice_str(c[i].field))) == UINT32_MAX ||
            seen_fits(c[i].type, f->fields[at].seen))
            continue;
        snprintf(field, sizeof field, "%s%s_text", f->fields[at].name_len ? "" : "value_",
                 f->fields[at].name);
        infer_column_name(slice_str(field), column_taken, &t, name);
        c[*n] = (struct sql_column){
            .source = SQL_FROM_MISFIT, .type = SQL_VARCHAR, .type_of = c[i].type};
        c[*n].name = xstrdup(name);
        c[(*n)++].field = xstrdup(c[i].field);
    }
}

void schema_columns(struct sql *s, const struct scan_view *view,
                    const struct sql_cold_snapshot *cold, bool thoroughly, struct sql_column **out,
                    uint32_t *n, uint32_t *learnt_from)
{
    char name[SQL_COLUMN_NAME_MAX + 1];
    const struct infer *f;
    struct sql_column *c;
    uint32_t i;

    schema_look(s, view, thoroughly);
    io_mutex_lock(&s->schemas_lock);
    f = &schema_get(s, topic_uuid(view->topic))->infer;
    c = columns_record(false, n);
    c = xrealloc(c, (RECORD_COLUMNS + f->n + (cold ? 2 * cold->columns_n : 0) + 1) * sizeof *c);
    if (cold)
        columns_cold(c, n, cold);
    columns_misfit(c, n, f);
    *learnt_from = *n;
    for (i = 0; i < f->n; i++) {
        struct taken t = {c, *n};

        if (has_field(c, *learnt_from, SQL_FROM_FIELD, f->fields[i].name))
            continue;
        infer_column_name(slice_of(f->fields[i].name, f->fields[i].name_len), column_taken, &t,
                          name);
        c[*n] = (struct sql_column){.source = SQL_FROM_FIELD, .type = infer_type(&f->fields[i])};
        c[*n].name = xstrdup(name);
        c[(*n)++].field = xstrdup(f->fields[i].name);
    }
    io_mutex_unlock(&s->schemas_lock);
    *out = c;
}
