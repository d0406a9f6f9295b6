/* SQL in the C library: weir_query and its results. The worker that makes a chunk of rows waits in its
 * callback while the caller's thread reads them where they lie; so nothing is copied but the texts of
 * the row at hand, and a caller who stops reading holds back the query.
 *
 * Lock: result->lock guards chunk, done, closed and the error; `change` tells of any of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "lib/lib_int.h"
#include "sql/sql.h"

#define TEXT_MAX (1u << 30)

struct column {
    char *name, *type;
};

struct weir_result {
    struct sql_query *q;
    struct io_mutex lock;
    struct io_cond change;
    const struct sql_chunk *chunk; /* NULL: none now */
    bool described, done, closed;
    enum err e;
    char message[256];
    bool truncated;
    /* the caller's thread */
    struct column *column;
    uint32_t columns_n, row; /* of the chunk, the next */
    struct weir_value *value;
    struct buf text;
};

/* ---- the worker ---- */

static char *type_text(const struct sql_column_type *t)
{
    struct buf b;
    char *s;

    buf_init(&b, 1u << 20);
    if (sql_type_name(t, &b) || buf_append_u8(&b, 0))
        buf_clear(&b);
    s = xstrdup(b.len ? (const char *)b.ptr : "?");
    buf_fini(&b);
    return s;
}

static bool on_columns(void *arg, struct sql_query *q, const struct sql_columns *c)
{
    struct weir_result *r = arg;
    uint32_t i;

    r->column = xcalloc(c->n ? c->n : 1, sizeof *r->column);
    r->value = xcalloc(c->n ? c->n : 1, sizeof *r->value);
    for (i = 0; i < c->n; i++)
        r->column[i] = (struct column){xstrdup(c->name[i]), type_text(&c->type[i])};
    io_mutex_lock(&r->lock);
    r->columns_n = c->n;
    r->described = true;
    io_cond_broadcast(&r->change);
    io_mutex_unlock(&r->lock);
    return true;
}

static bool on_chunk(void *arg, struct sql_query *q, const struct sql_chunk *c)
{
    struct weir_result *r = arg;
    bool ok;

    io_mutex_lock(&r->lock);
    r->chunk = c;
    r->row = 0;
    io_cond_broadcast(&r->change);
    while (r->chunk && !r->closed)
        io_cond_wait(&r->change, &r->lock);
    r->chunk = NULL;
    ok = !r->closed;
    io_mutex_unlock(&r->lock);
    return ok;
}

static void on_done(void *arg, struct sql_query *q, const struct sql_error *error,
                    const struct sql_stats *stats)
{
    struct weir_result *r = arg;

    io_mutex_lock(&r->lock);
    if (error) {
        r->e = error->code;
        if (error->position)
            snprintf(r->message, sizeof r->message, "%s (at character %u)", error->message,
                     (unsigned)error->position);
        else
            snprintf(r->message, sizeof r->message, "%s", error->message);
    }
    r->truncated = stats && stats->truncated;
    r->done = true;
    io_cond_broadcast(&r->change);
    io_mutex_unlock(&r->lock);
}

static const struct sql_sink sink = {on_columns, on_chunk, on_done};

/* ---- asking ---- */

static enum err sql_get(struct weir *w, struct sql **out, struct errinfo *info)
{
    enum err e = ERR_OK;

    io_mutex_lock(&w->sql_lock);
    if (!w->sql)
        e = lib_lake_look(w, info);
    *out = w->sql;
    io_mutex_unlock(&w->sql_lock);
    return e;
}

static enum err param_of(const struct weir_value *v, struct sql_param *p, struct errinfo *info)
{
    *p = (struct sql_param){.type = SQL_NULL};
    if (v->len && !v->data && (v->type == WEIR_TEXT || v->type == WEIR_BLOB))
        return errinfo_set(info, ERR_INVALID, "a parameter has a length and no data");
    switch (v->type) {
    case WEIR_NULL:
        return ERR_OK;
    case WEIR_BOOL:
        p->type = SQL_BOOLEAN;
        p->i64 = v->i != 0;
        return ERR_OK;
    case WEIR_INT:
        p->type = SQL_BIGINT;
        p->i64 = v->i;
        return ERR_OK;
    case WEIR_DOUBLE:
        p->type = SQL_DOUBLE;
        p->f64 = v->d;
        return ERR_OK;
    case WEIR_TIME:
        if (v->i > INT64_MAX / 1000 || v->i < INT64_MIN / 1000)
            return errinfo_set(info, ERR_INVALID, "a parameter's time is out of range");
        p->type = SQL_TIMESTAMP_TZ;
        p->i64 = v->i * 1000;
        return ERR_OK;
    case WEIR_TEXT:
    case WEIR_BLOB:
        p->type = v->type == WEIR_TEXT ? SQL_VARCHAR : SQL_BLOB;
        p->bytes = slice_of(v->data ? v->data : "", v->len);
        return ERR_OK;
    }
    return errinfo_set(info, ERR_INVALID, "a parameter is of no known type");
}

static void result_free(struct weir_result *r)
{
    uint32_t i;

    for (i = 0; r->column && i < r->columns_n; i++) {
        free(r->column[i].name);
        free(r->column[i].type);
    }
    free(r->column);
    free(r->value);
    buf_fini(&r->text);
    io_cond_fini(&r->change);
    io_mutex_fini(&r->lock);
    free(r);
}

static struct weir_result *result_new(void)
{
    struct weir_result *r = xcalloc(1, sizeof *r);

    io_mutex_init(&r->lock);
    io_cond_init(&r->change);
    buf_init(&r->text, TEXT_MAX);
    return r;
}

static weir_err failed(struct weir_result *r, struct weir_error *error)
{
    struct errinfo info = {.code = r->e};

    snprintf(info.text, sizeof info.text, "%s", r->message);
    return lib_fail(r->e, &info, error);
}

/* Starts the query and waits for its columns. */
static enum err ask(struct weir *w, const struct sql_request *rq, struct weir_result *r,
                    struct errinfo *info)
{
    struct sql *sql = NULL;
    enum err e = sql_get(w, &sql, info);

    e = e ? e : sql_run(sql, rq, &r->q, info);
    if (e)
        return e;
    io_mutex_lock(&r->lock);
    while (!r->described && !r->done)
        io_cond_wait(&r->change, &r->lock);
    if (r->done && r->e) {
        e = r->e;
        errinfo_set(info, e, "%s", r->message);
    }
    io_mutex_unlock(&r->lock);
    return e;
}

static enum err shards_of(const struct weir_query_options *o, struct sql_shard *out,
                          struct errinfo *info)
{
    size_t i;

    if (o->shards_n > LIMIT_SQL_SHARDS || (o->shards_n && !o->shards))
        return errinfo_set(info, ERR_INVALID, "no shards, or too many");
    for (i = 0; i < o->shards_n; i++) {
        const struct weir_shard *x = &o->shards[i];

        if (!x->name || !x->url || strlen(x->url) > 1000)
            return errinfo_set(info, ERR_INVALID, "a shard has a name and a url");
        out[i] = (struct sql_shard){x->name, x->url, x->token, x->ca_file};
    }
    return ERR_OK;
}

weir_err weir_query(struct weir *w, const char *sql, const struct weir_value *params,
                    size_t params_n, const struct weir_query_options *options,
                    struct weir_result **out, struct weir_error *error)
{
    struct weir_query_options o = {.size = sizeof o};
    struct sql_request rq = {.text = slice_str(sql), .sink = &sink};
    struct weir_result *r = NULL;
    struct sql_param *p = NULL;
    struct errinfo info = {0};
    enum err e = lib_options(&o, sizeof o, options, &info);
    struct sql_shard shards[LIMIT_SQL_SHARDS];
    size_t i;

    *out = NULL;
    e = e ? e : shards_of(&o, shards, &info);
    if (!e && (!sql || (params_n && !params) || params_n > 65535))
        e = errinfo_set(&info, ERR_INVALID, "there is no statement, or no or too many parameters");
    p = xcalloc(!e && params_n ? params_n : 1, sizeof *p);
    for (i = 0; !e && i < params_n; i++)
        e = param_of(&params[i], &p[i], &info);
    if (!e) {
        r = result_new();
        rq.params = p;
        rq.params_n = (unsigned)params_n;
        rq.timeout_ms = o.timeout_ms;
        rq.rows_max = o.max_rows;
        rq.shards = shards;
        rq.shards_n = (unsigned)o.shards_n;
        rq.arg = r;
        e = ask(w, &rq, r, &info);
    }
    free(p);
    if (e && r && r->q)
        weir_result_close(&r);
    else if (e && r)
        result_free(r);
    else
        *out = r;
    return lib_fail(e, &info, error);
}

/* ---- reading ---- */

static void value_of(struct weir_value *v, const struct sql_vector *x, uint32_t row)
{
    switch (x->type->type) {
    case SQL_BOOLEAN:
        v->type = WEIR_BOOL;
        v->i = ((const uint8_t *)x->data)[row];
        break;
    case SQL_TINYINT:
        v->type = WEIR_INT;
        v->i = ((const int8_t *)x->data)[row];
        break;
    case SQL_UTINYINT:
        v->type = WEIR_INT;
        v->i = ((const uint8_t *)x->data)[row];
        break;
    case SQL_SMALLINT:
        v->type = WEIR_INT;
        v->i = ((const int16_t *)x->data)[row];
        break;
    case SQL_USMALLINT:
        v->type = WEIR_INT;
        v->i = ((const uint16_t *)x->data)[row];
        break;
    case SQL_INTEGER:
        v->type = WEIR_INT;
        v->i = ((const int32_t *)x->data)[row];
        break;
    case SQL_UINTEGER:
        v->type = WEIR_INT;
        v->i = ((const uint32_t *)x->data)[row];
        break;
    case SQL_BIGINT:
        v->type = WEIR_INT;
        v->i = ((const int64_t *)x->data)[row];
        break;
    case SQL_UBIGINT:
        if (((const uint64_t *)x->data)[row] <= INT64_MAX) {
            v->type = WEIR_INT;
            v->i = (int64_t)((const uint64_t *)x->data)[row];
        }
        break;
    case SQL_FLOAT:
        v->type = WEIR_DOUBLE;
        v->d = (double)((const float *)x->data)[row];
        break;
    case SQL_DOUBLE:
        v->type = WEIR_DOUBLE;
        v->d = ((const double *)x->data)[row];
        break;
    case SQL_TIMESTAMP:
    case SQL_TIMESTAMP_TZ:
        v->type = WEIR_TIME;
        v->i = ((const int64_t *)x->data)[row] / 1000;
        break;
    case SQL_BLOB:
        v->type = WEIR_BLOB;
        break;
    default:
        break;
    }
    if (v->type == WEIR_INT)
        v->d = (double)v->i;
}

/* The row's values. Texts are made one behind the other and pointed to when all are there. */
static enum err row_read(struct weir_result *r)
{
    enum err e = ERR_OK;
    size_t at = 0;
    uint32_t i;

    buf_clear(&r->text);
    for (i = 0; i < r->columns_n && !e; i++) {
        const struct sql_vector *x = &r->chunk->column[i];
        struct weir_value *v = &r->value[i];

        *v = (struct weir_value){.type = WEIR_NULL};
        if (!sql_valid(x, r->row))
            continue;
        v->type = WEIR_TEXT;
        value_of(v, x, r->row);
        at = r->text.len;
        if (v->type == WEIR_BLOB)
            e = buf_append_slice(&r->text,
                                 sql_string_get(&((const struct sql_string *)x->data)[r->row]));
        else
            e = sql_value_text(x, r->row, &r->text);
        v->len = r->text.len - at;
        e = e ? e : buf_append_u8(&r->text, 0);
    }
    for (i = 0, at = 0; i < r->columns_n && !e; i++)
        if (r->value[i].type != WEIR_NULL) {
            r->value[i].data = r->text.ptr + at;
            at += r->value[i].len + 1;
        }
    return e;
}

weir_err weir_result_next(struct weir_result *r, struct weir_error *error)
{
    enum err e = ERR_OK;

    io_mutex_lock(&r->lock);
    if (r->chunk && r->row >= r->chunk->rows) {
        r->chunk = NULL; /* the worker goes on */
        io_cond_broadcast(&r->change);
    }
    while (!r->chunk && !r->done)
        io_cond_wait(&r->change, &r->lock);
    if (!r->chunk) {
        io_mutex_unlock(&r->lock);
        return r->e ? failed(r, error) : lib_fail(ERR_AGAIN, NULL, error);
    }
    e = row_read(r);
    r->row++;
    io_mutex_unlock(&r->lock);
    return lib_fail(e, NULL, error);
}

size_t weir_result_columns(const struct weir_result *r)
{
    return r->columns_n;
}

const char *weir_result_name(const struct weir_result *r, size_t i)
{
    return i < r->columns_n ? r->column[i].name : "";
}

const char *weir_result_type(const struct weir_result *r, size_t i)
{
    return i < r->columns_n ? r->column[i].type : "";
}

const struct weir_value *weir_result_value(const struct weir_result *r, size_t i)
{
    static const struct weir_value none;

    return i < r->columns_n ? &r->value[i] : &none;
}

bool weir_result_truncated(const struct weir_result *r)
{
    return r->done && r->truncated;
}

void weir_result_cancel(struct weir_result *r)
{
    sql_cancel(r->q);
}

void weir_result_close(struct weir_result **rp)
{
    struct weir_result *r = *rp;

    if (!r)
        return;
    *rp = NULL;
    sql_cancel(r->q);
    io_mutex_lock(&r->lock);
    r->closed = true;
    io_cond_broadcast(&r->change);
    while (!r->done)
        io_cond_wait(&r->change, &r->lock);
    io_mutex_unlock(&r->lock);
    sql_release(&r->q);
    result_free(r);
}
