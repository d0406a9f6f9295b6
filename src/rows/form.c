/* Results as JSON, NDJSON and CSV; Arrow is arrow_ipc.c's. See form.h. */
#include "rows/form.h"

#include <string.h>

#include "base/json_write.h"
#include "rows/arrow_ipc.h"

#define KEYS_MAX (64u << 20)

const char *rows_form_name(enum rows_form f)
{
    static const char *const names[] = {"json", "ndjson", "csv", "arrow", NULL};

    return names[f];
}

const char *rows_form_media(enum rows_form f)
{
    static const char *const media[] = {"application/json", "application/x-ndjson",
                                        "text/csv; charset=utf-8",
                                        "application/vnd.apache.arrow.stream"};

    return media[f];
}

void rows_writer_init(struct rows_writer *w, enum rows_form f)
{
    *w = (struct rows_writer){.form = f};
    buf_init(&w->keys, KEYS_MAX);
}

void rows_writer_fini(struct rows_writer *w)
{
    buf_fini(&w->keys);
}

/* ---- beginning ---- */

static enum err json_begin(const struct sql_columns *c, struct buf *out)
{
    enum err e = buf_append_str(out, "{\"columns\":[");
    struct buf type;
    uint32_t i;

    buf_init(&type, 1u << 20);
    for (i = 0; i < c->n && !e; i++) {
        buf_clear(&type);
        if ((e = buf_append_str(out, i ? ",{\"name\":" : "{\"name\":")) ||
            (e = json_write_string(out, slice_str(c->name[i]))) ||
            (e = buf_append_str(out, ",\"type\":")) || (e = sql_type_name(&c->type[i], &type)) ||
            (e = json_write_string(out, buf_slice(&type))))
            break;
        e = buf_append_u8(out, '}');
    }
    buf_fini(&type);
    return e ? e : buf_append_str(out, "],\"rows\":[");
}

/* Names that repeat get a number behind them, so that no value of an object is lost. */
static enum err ndjson_begin(struct rows_writer *w, const struct sql_columns *c)
{
    enum err e = ERR_OK;
    struct buf name;
    uint32_t i, k, same;

    buf_init(&name, KEYS_MAX);
    for (i = 0; i < c->n && !e; i++) {
        for (same = k = 0; k < i; k++)
            same += strcmp(c->name[k], c->name[i]) == 0;
        buf_clear(&name);
        e = same ? buf_printf(&name, "%s_%u", c->name[i], same) : buf_append_str(&name, c->name[i]);
        e = e ? e : json_write_string(&w->keys, buf_slice(&name));
        e = e ? e : buf_append(&w->keys, ":", 2);
    }
    buf_fini(&name);
    return e;
}

enum err rows_csv_field(struct slice s, struct buf *out)
{
    enum err e;
    size_t i, from = 0;
    bool quote = s.len == 0;

    for (i = 0; i < s.len && !quote; i++)
        quote = s.ptr[i] == '"' || s.ptr[i] == ',' || s.ptr[i] == '\n' || s.ptr[i] == '\r';
    if (!quote)
        return buf_append_slice(out, s);
    e = buf_append_u8(out, '"');
    for (i = 0; i < s.len && !e; i++)
        if (s.ptr[i] == '"') {
            e = buf_append(out, s.ptr + from, i + 1 - from);
            from = i;
        }
    if (!e && s.len)
        e = buf_append(out, s.ptr + from, s.len - from);
    return e ? e : buf_append_u8(out, '"');
}

static enum err csv_begin(const struct sql_columns *c, struct buf *out)
{
    enum err e = ERR_OK;
    uint32_t i;

    for (i = 0; i < c->n && !e; i++) {
        if (i)
            e = buf_append_u8(out, ',');
        e = e ? e : rows_csv_field(slice_str(c->name[i]), out);
    }
    return e ? e : buf_append_str(out, "\r\n");
}

enum err rows_begin(struct rows_writer *w, struct sql_query *q, const struct sql_columns *c,
                    struct buf *out, struct errinfo *info)
{
    w->begun = true;
    switch (w->form) {
    case ROWS_JSON:
        return json_begin(c, out);
    case ROWS_NDJSON:
        return ndjson_begin(w, c);
    case ROWS_CSV:
        return csv_begin(c, out);
    default:
        return arrow_ipc_schema(q, out, info);
    }
}

/* ---- rows ---- */

static enum err json_row(struct rows_writer *w, const struct sql_chunk *c, uint32_t row,
                         struct buf *out)
{
    enum err e = buf_append_str(out, w->rows ? ",\n[" : "\n[");
    uint32_t i;

    for (i = 0; i < c->columns_n && !e; i++) {
        if (i)
            e = buf_append_u8(out, ',');
        e = e ? e : sql_value_json(&c->column[i], row, out);
    }
    return e ? e : buf_append_u8(out, ']');
}

static enum err ndjson_row(struct rows_writer *w, const struct sql_chunk *c, uint32_t row,
                           struct buf *out)
{
    const char *key = (const char *)w->keys.ptr;
    enum err e = buf_append_u8(out, '{');
    uint32_t i;

    for (i = 0; i < c->columns_n && !e; i++) {
        if (i)
            e = buf_append_u8(out, ',');
        e = e ? e : buf_append_str(out, key);
        e = e ? e : sql_value_json(&c->column[i], row, out);
        key += strlen(key) + 1;
    }
    return e ? e : buf_append_str(out, "}\n");
}

static enum err csv_row(struct rows_writer *w, const struct sql_chunk *c, uint32_t row,
                        struct buf *out)
{
    enum err e = ERR_OK;
    uint32_t i;

    buf_clear(&w->keys);
    for (i = 0; i < c->columns_n && !e; i++) {
        if (i)
            e = buf_append_u8(out, ',');
        if (e || !sql_valid(&c->column[i], row))
            continue;
        buf_clear(&w->keys);
        e = sql_value_text(&c->column[i], row, &w->keys);
        e = e ? e : rows_csv_field(buf_slice(&w->keys), out);
    }
    return e ? e : buf_append_str(out, "\r\n");
}

enum err rows_some(struct rows_writer *w, const struct sql_chunk *c, uint32_t from, uint32_t to,
                   struct buf *out)
{
    enum err e = ERR_OK;

    for (; from < to && !e; from++) {
        e = w->form == ROWS_JSON     ? json_row(w, c, from, out)
            : w->form == ROWS_NDJSON ? ndjson_row(w, c, from, out)
                                     : csv_row(w, c, from, out);
        w->rows++;
    }
    return e;
}

enum err rows_chunk(struct rows_writer *w, struct sql_query *q, const struct sql_chunk *c,
                    struct buf *out, struct errinfo *info)
{
    enum err e;

    if (w->form != ROWS_ARROW)
        return rows_some(w, c, 0, c->rows, out);
    e = arrow_ipc_batch(q, c, out, info);
    w->rows += c->rows;
    return e;
}

/* ---- the end ---- */

enum err rows_error_json(const struct sql_error *x, struct buf *out)
{
    enum err e = buf_append_str(out, "{\"code\":");

    e = e ? e : json_write_string(out, slice_str(err_code(x->code)));
    e = e ? e : buf_append_str(out, ",\"sqlstate\":");
    e = e ? e : json_write_string(out, slice_str(x->sqlstate));
    e = e ? e : buf_append_str(out, ",\"message\":");
    e = e ? e : json_write_string(out, slice_str(x->message ? x->message : err_text(x->code)));
    if (!e && x->position)
        e = buf_printf(out, ",\"position\":%u", x->position);
    if (!e && x->hint) {
        e = buf_append_str(out, ",\"hint\":");
        e = e ? e : json_write_string(out, slice_str(x->hint));
    }
    return e ? e : buf_append_u8(out, '}');
}

static enum err json_end(struct rows_writer *w, const struct sql_error *error,
                         const struct sql_stats *stats, struct buf *out)
{
    enum err e =
        buf_printf(out, "\n],\"row_count\":%llu,\"truncated\":%s", (unsigned long long)w->rows,
                   stats && stats->truncated ? "true" : "false");

    if (!e && error) {
        e = buf_append_str(out, ",\"error\":");
        e = e ? e : rows_error_json(error, out);
    }
    return e ? e : buf_append_str(out, "}\n");
}

enum err rows_end(struct rows_writer *w, const struct sql_error *error,
                  const struct sql_stats *stats, struct buf *out)
{
    enum err e = ERR_OK;

    if (!w->begun)
        return ERR_OK;
    if (w->form == ROWS_JSON)
        return json_end(w, error, stats, out);
    if (w->form == ROWS_ARROW)
        return error ? ERR_OK : arrow_ipc_end(out);
    if (w->form == ROWS_NDJSON && error) {
        e = buf_append_str(out, "{\"error\":");
        e = e ? e : rows_error_json(error, out);
        e = e ? e : buf_append_str(out, "}\n");
    }
    return e;
}
