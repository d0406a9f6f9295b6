/* weir sql --follow: rows of a live query (/sql/live of a server, docs/sql.md) as they come.
 *
 * Messages are server-sent events (WHATWG HTML). One is acted upon when the empty line behind it has
 * come, so one that was cut off counts as never sent; its id is what the next request says was had.
 * So each row is printed once, whatever the connection does. The place where the query began is
 * said with each request too, since groups are counted from there; `latest` becomes an event id as
 * soon as the server has said where that was. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/mem.h"
#include "broker/broker.h"
#include "cli/sql.h"
#include "cli/walk.h"

#define MESSAGE_MAX   (256u << 20)
#define PAUSE_MS      100 /* between attempts; twice as long each time */
#define PAUSE_MS_MOST 3200

struct column {
    char *name;
    unsigned width; /* as wide as the widest cell so far */
};

struct follow {
    const struct sql_follow *how;
    struct sql_failure *failure; /* of the last request */
    struct sql_failure problem;  /* what the server said that ends it */
    struct buf line, data, out;
    struct buf columns_text;    /* the message that said the columns */
    char event[16], id[64];     /* of the message that comes */
    char last_id[64], from[64]; /* what was had; where the query began */
    struct column *column;
    unsigned columns_n;
    bool heads; /* names are to be printed before the next row */
    bool live;  /* history was given */
    bool over, failed;
    bool spoke; /* the server said something since it was asked */
    uint64_t rows;
};

/* ---- rows ---- */

static void columns_drop(struct follow *f)
{
    while (f->columns_n)
        free(f->column[--f->columns_n].name);
    free(f->column);
    f->column = NULL;
}

static char *plain_copy(struct slice v)
{
    struct buf b;
    char *s;

    buf_init(&b, MESSAGE_MAX);
    walk_plain(v, &b);
    s = xcalloc(1, b.len + 1);
    if (b.len)
        memcpy(s, b.ptr, b.len);
    buf_fini(&b);
    return s;
}

/* {"columns":[{"name":…,"type":…},…]} */
static void columns_take(struct follow *f, struct walk w)
{
    if (slice_eq(buf_slice(&f->data), buf_slice(&f->columns_text)))
        return; /* said again, by a server that came back */
    buf_clear(&f->columns_text);
    (void)buf_append_slice(&f->columns_text, buf_slice(&f->data)); /* as large as data may be */
    columns_drop(f);
    walk_need(&w, '{');
    walk_value(&w);
    walk_need(&w, ':');
    walk_need(&w, '[');
    while (!w.bad && !walk_take(&w, ']')) {
        struct column *c;

        f->column = xrealloc(f->column, (f->columns_n + 1) * sizeof *f->column);
        walk_need(&w, '{');
        walk_value(&w);
        walk_need(&w, ':');
        c = &f->column[f->columns_n++];
        c->name = plain_copy(walk_value(&w));
        c->width = walk_width(c->name);
        walk_need(&w, ',');
        walk_value(&w);
        walk_need(&w, ':');
        walk_value(&w);
        walk_need(&w, '}');
        walk_take(&w, ',');
    }
    f->heads = true;
}

/* One cell of a line; columns grow with their cells. */
static void cell_put(struct follow *f, unsigned i, const char *text)
{
    struct column *c = &f->column[i];
    unsigned width = walk_width(text);

    if (width > c->width)
        c->width = width;
    buf_append_str(&f->out, text);
    if (i + 1 < f->columns_n)
        buf_printf(&f->out, "%*s", (int)(c->width - width + 2), "");
}

static void field_put(struct buf *out, struct slice v)
{
    struct buf text;

    if (slice_eq_str(v, "null"))
        return;
    buf_init(&text, MESSAGE_MAX);
    walk_text(v, &text);
    rows_csv_field(buf_slice(&text), out);
    buf_fini(&text);
}

static void heads_put(struct follow *f, bool groups)
{
    bool csv = f->how->form == ROWS_CSV;
    unsigned i;

    if (csv && groups)
        buf_append_str(&f->out, "key,");
    for (i = 0; i < f->columns_n; i++) {
        if (csv && i)
            buf_append_u8(&f->out, ',');
        if (csv)
            rows_csv_field(slice_str(f->column[i].name), &f->out);
        else
            cell_put(f, i, f->column[i].name);
    }
    buf_append_str(&f->out, csv ? groups ? ",gone\r\n" : "\r\n" : "\n");
    f->heads = false;
}

/* The columns of {"a":1,…}; an empty row is a group that is gone. */
static void cells_put(struct follow *f, struct slice row)
{
    struct walk w = {row.ptr, row.ptr + row.len, false};
    unsigned i;

    if (row.len)
        walk_need(&w, '{');
    for (i = 0; i < f->columns_n && !w.bad; i++) {
        struct slice v = SLICE_LIT("null");

        if (row.len) {
            if (i)
                walk_need(&w, ',');
            walk_value(&w);
            walk_need(&w, ':');
            v = walk_value(&w);
        }
        if (f->how->form == ROWS_CSV) {
            if (i)
                buf_append_u8(&f->out, ',');
            field_put(&f->out, v);
        } else {
            char *text = slice_eq_str(v, "null") ? xstrdup("NULL") : plain_copy(v);

            cell_put(f, i, text);
            free(text);
        }
    }
}

/* A row, or a group that changed (it has a key) or is gone (its row is empty). */
static void row_put(struct follow *f, struct slice key, struct slice row)
{
    bool groups = key.ptr != NULL, csv = f->how->form == ROWS_CSV;

    if (f->how->form == ROWS_NDJSON) {
        buf_append_slice(&f->out, groups ? buf_slice(&f->data) : row);
        buf_append_u8(&f->out, '\n');
        return;
    }
    if (f->heads)
        heads_put(f, groups);
    if (csv && groups) {
        field_put(&f->out, key);
        buf_append_u8(&f->out, ',');
    }
    if (!csv && !row.len)
        buf_printf(&f->out, "gone: %.*s", (int)key.len, (const char *)key.ptr);
    else
        cells_put(f, row);
    if (csv && groups)
        buf_append_str(&f->out, row.len ? "," : ",true");
    buf_append_str(&f->out, csv ? "\r\n" : "\n");
}

/* {"position":…,"row":{…}}, {"key":[…],"row":{…}} or {"key":[…],"gone":true} */
static void row_take(struct follow *f, struct walk w)
{
    struct slice key = SLICE_NULL, row = SLICE_NULL;

    walk_need(&w, '{');
    while (!w.bad && !walk_take(&w, '}')) {
        struct slice name = walk_value(&w), v;

        walk_need(&w, ':');
        v = walk_value(&w);
        if (slice_eq_str(name, "\"key\""))
            key = v;
        else if (slice_eq_str(name, "\"row\""))
            row = v;
        walk_take(&w, ',');
    }
    row_put(f, key, row);
    fwrite(f->out.ptr, 1, f->out.len, stdout);
    buf_clear(&f->out);
    f->rows++;
    f->over = f->over || (f->how->limit && f->rows >= f->how->limit);
}

/* ---- messages ---- */

/* The text of a member, "" if there is none. */
static void member(struct walk w, const char *name, char *out, size_t n)
{
    struct buf quoted, text;

    out[0] = 0;
    buf_init(&quoted, 64);
    buf_init(&text, MESSAGE_MAX);
    buf_printf(&quoted, "\"%s\"", name);
    walk_need(&w, '{');
    while (!w.bad && !walk_take(&w, '}')) {
        bool found = slice_eq(walk_value(&w), buf_slice(&quoted));
        struct slice v;

        walk_need(&w, ':');
        v = walk_value(&w);
        if (found) {
            walk_plain(v, &text);
            snprintf(out, n, "%.*s", (int)text.len, (const char *)text.ptr);
            break;
        }
        walk_take(&w, ',');
    }
    buf_fini(&quoted);
    buf_fini(&text);
}

/* History is over: where `latest` was is known now. */
static void live_take(struct follow *f)
{
    uint64_t position;

    fflush(stdout);
    if (!f->live && strcasecmp(f->from, "latest") == 0 &&
        event_id_parse(slice_str(f->id), &position))
        event_id_format(position + 1, f->from);
    f->live = true;
}

/* The one that is whole now. */
static void message_take(struct follow *f)
{
    struct walk w = {f->data.ptr, f->data.ptr + f->data.len, false};
    char text[64];

    f->spoke = true;
    if (!f->event[0]) {
        row_take(f, w);
    } else if (strcmp(f->event, "columns") == 0) {
        columns_take(f, w);
    } else if (strcmp(f->event, "live") == 0) {
        live_take(f);
    } else if (strcmp(f->event, "lost") == 0) {
        member(w, "after", text, sizeof text);
        fprintf(stderr, "warning: records behind %s were deleted before they were read\n", text);
    } else if (strcmp(f->event, "end") == 0) {
        f->over = true;
    } else if (strcmp(f->event, "problem") == 0) {
        f->failed = true;
        member(w, "detail", f->problem.message, sizeof f->problem.message);
        member(w, "hint", f->problem.hint, sizeof f->problem.hint);
    }
    if (f->id[0])
        memcpy(f->last_id, f->id, sizeof f->last_id);
}

static bool field_take(struct follow *f, struct slice line)
{
    const uint8_t *colon = memchr(line.ptr, ':', line.len);
    size_t n = colon ? (size_t)(colon - line.ptr) : line.len;
    struct slice name = slice_of(line.ptr, n), value = slice_of(line.ptr + line.len, 0);

    if (colon) {
        n += 1 + (n + 1 < line.len && line.ptr[n + 1] == ' ');
        value = slice_of(line.ptr + n, line.len - n);
    }
    if (slice_eq_str(name, "event"))
        snprintf(f->event, sizeof f->event, "%.*s", (int)value.len, (const char *)value.ptr);
    else if (slice_eq_str(name, "id"))
        snprintf(f->id, sizeof f->id, "%.*s", (int)value.len, (const char *)value.ptr);
    else if (slice_eq_str(name, "data"))
        return !buf_append_slice(&f->data, value);
    return true;
}

static void message_clear(struct follow *f)
{
    buf_clear(&f->data);
    f->event[0] = f->id[0] = 0;
}

static bool line_take(struct follow *f)
{
    struct slice line = buf_slice(&f->line);
    bool ok = true;

    if (line.len && line.ptr[line.len - 1] == '\r')
        line.len--;
    if (line.len) {
        ok = field_take(f, line);
    } else {
        if (f->data.len)
            message_take(f);
        message_clear(f);
    }
    buf_clear(&f->line);
    return ok && !f->over && !f->failed;
}

static bool on_piece(void *arg, struct slice piece)
{
    struct follow *f = arg;
    const uint8_t *end;
    bool ok = true;

    while (ok && piece.len) {
        size_t n;

        end = memchr(piece.ptr, '\n', piece.len);
        n = end ? (size_t)(end - piece.ptr) : piece.len;
        ok = !buf_append(&f->line, piece.ptr, n) && (!end || line_take(f));
        n += end != NULL;
        piece = slice_of(piece.ptr + n, piece.len - n);
    }
    if (f->live)
        fflush(stdout);
    return ok && !ferror(stdout);
}

/* ---- asking ---- */

static void path_put(const struct follow *f, struct buf *b)
{
    buf_clear(b);
    buf_append_str(b, "/sql/live?from=");
    url_encode(b, slice_str(f->from));
    if (f->how->keep_ms)
        buf_printf(b, "&keep_ms=%" PRId64, f->how->keep_ms);
    buf_append_u8(b, 0);
}

/* Whether to ask again; failure says why the last time ended, or nothing. */
static bool again(const struct follow *f, bool first)
{
    long status = f->failure->status;

    if (f->over || f->failed || sql_interrupted || ferror(stdout))
        return false;
    return status == 200 || (!first && (status == 0 || status == 429 || status >= 500));
}

static void pause_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

    nanosleep(&t, NULL); /* a signal ends it */
}

static void follow_ask(struct sql_source *s, struct slice statement, struct follow *f)
{
    unsigned pause = PAUSE_MS;
    bool first = true, told = false;
    struct buf path;

    buf_init(&path, 4096);
    for (;;) {
        path_put(f, &path);
        f->spoke = false;
        sql_source_live(s, (const char *)path.ptr, f->last_id, statement, on_piece, f, f->failure);
        buf_clear(&f->line);
        message_clear(f);
        if (!again(f, first))
            break;
        first = false;
        if (f->spoke) {
            pause = PAUSE_MS;
            told = false;
        }
        fflush(stdout);
        if (!told)
            fprintf(stderr, "the server is gone: trying to go on\n");
        told = true;
        pause_ms(pause);
        pause = pause < PAUSE_MS_MOST ? 2 * pause : pause;
        if (sql_interrupted)
            break;
    }
    buf_fini(&path);
}

bool sql_follow_run(struct sql_source *s, struct slice statement, const struct sql_follow *how,
                    struct sql_failure *failure)
{
    struct follow f = {.how = how, .failure = failure};
    bool ok;

    memset(failure, 0, sizeof *failure);
    snprintf(f.from, sizeof f.from, "%s", how->from ? how->from : "latest");
    buf_init(&f.line, MESSAGE_MAX);
    buf_init(&f.data, MESSAGE_MAX);
    buf_init(&f.out, MESSAGE_MAX);
    buf_init(&f.columns_text, MESSAGE_MAX);
    follow_ask(s, statement, &f);
    ok = fflush(stdout) == 0 && !ferror(stdout);
    if (f.failed)
        *failure = f.problem;
    else if (!ok)
        snprintf(failure->message, sizeof failure->message, "writing the rows failed");
    ok = ok && !f.failed && (f.over || sql_interrupted);
    columns_drop(&f);
    buf_fini(&f.line);
    buf_fini(&f.data);
    buf_fini(&f.out);
    buf_fini(&f.columns_text);
    return ok;
}
