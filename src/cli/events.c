/* weir emit, read, tail, export, checkpoint: events, over HTTP or straight from a data directory.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json_write.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "broker/broker.h"
#include "cli/cli.h"
#include "cli/local.h"
#include "io/io.h"

#define STDIN_MAX (64u << 20)

/* ---- emit ---- */

static bool read_stdin(struct buf *b)
{
    uint8_t chunk[65536];
    size_t n;

    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0)
        if (buf_append(b, chunk, n))
            return false;
    while (b->len && (b->ptr[b->len - 1] == '\n' || b->ptr[b->len - 1] == '\r'))
        b->len--;
    return true;
}

static void event_json(struct buf *b, const struct args *a, struct slice data)
{
    const char *stream = arg_get(a, "stream"), *id = arg_get(a, "id");

    buf_append_str(b, "{\"type\":");
    json_write_string(b, slice_str(a->pos[0]));
    if (stream) {
        buf_append_str(b, ",\"stream\":");
        json_write_string(b, slice_str(stream));
    }
    if (id) {
        buf_append_str(b, ",\"id\":");
        json_write_string(b, slice_str(id));
    }
    if (data.len) {
        buf_append_str(b, ",\"data\":");
        buf_append_slice(b, data);
    }
    buf_append_str(b, "}");
}

static int emit_http(const struct args *a, struct slice data)
{
    struct client *c = client_new(a);
    struct client_reply r;
    struct buf body;
    int rc = EXIT_FAILED;

    if (!c)
        return EXIT_FAILED;
    buf_init(&body, STDIN_MAX + 4096);
    event_json(&body, a, data);
    if (client_call(c, "POST", "/events", "application/json", buf_slice(&body), &r)) {
        if (r.status == 200 || r.status == 201) {
            printf("%.*s%s", (int)r.body.len, (const char *)r.body.ptr,
                   r.body.len && r.body.ptr[r.body.len - 1] == '\n' ? "" : "\n");
            rc = EXIT_FINE;
        } else {
            client_problem(c, &r);
        }
        buf_fini(&r.body);
    }
    buf_fini(&body);
    client_free(&c);
    return rc;
}

int cmd_emit(const struct args *a)
{
    struct slice data = SLICE_NULL;
    struct buf in;
    int rc;

    buf_init(&in, STDIN_MAX);
    if (a->pos_n == 2 && strcmp(a->pos[1], "-") != 0) {
        data = slice_str(a->pos[1]);
    } else if (a->pos_n == 2 || !isatty(0)) {
        if (!read_stdin(&in)) {
            buf_fini(&in);
            return fail("standard input has more than 64 MiB");
        }
        data = buf_slice(&in);
    }
    rc = arg_get(a, "data") ? local_emit(a, data) : emit_http(a, data);
    buf_fini(&in);
    return rc;
}

/* ---- read and export ---- */

struct out {
    FILE *f;
    bool values;
    uint64_t n, limit;
    bool bad;
    struct buf line;
    /* progress */
    bool progress;
    time_t shown;
};

static void put_value(struct out *o, struct slice line)
{
    json_t *j = json_loadb((const char *)line.ptr, line.len, 0, NULL);
    json_t *d = json_object_get(j, "data");
    const char *b64 = json_string_value(json_object_get(j, "data_base64"));
    char *text = d ? json_dumps(d, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

    if (text)
        fprintf(o->f, "%s\n", text);
    else
        fprintf(o->f, "%s\n", b64 ? b64 : "null");
    free(text);
    json_decref(j);
}

static void show_progress(struct out *o, bool end)
{
    time_t now = time(NULL);

    if (!o->progress || (!end && now == o->shown))
        return;
    o->shown = now;
    fprintf(stderr, "\r%" PRIu64 " events%s", o->n, end ? "\n" : "");
}

/* One event, as a JSON line without its end. False: enough. */
static bool put_line(struct out *o, struct slice line)
{
    if (line.len == 0)
        return true;
    if (o->values) {
        put_value(o, line);
    } else {
        fwrite(line.ptr, 1, line.len, o->f);
        fputc('\n', o->f);
    }
    o->n++;
    show_progress(o, false);
    return (!o->limit || o->n < o->limit) && !ferror(o->f);
}

static bool on_piece(void *arg, struct slice piece)
{
    struct out *o = arg;
    const uint8_t *nl;

    while ((nl = memchr(piece.ptr, '\n', piece.len))) {
        size_t n = (size_t)(nl - piece.ptr);
        struct slice line = slice_of(piece.ptr, n);
        bool more;

        if (o->line.len) {
            if (buf_append(&o->line, piece.ptr, n)) {
                o->bad = true;
                return false;
            }
            line = buf_slice(&o->line);
        }
        more = put_line(o, line);
        buf_clear(&o->line);
        if (!more)
            return false;
        piece.ptr += n + 1;
        piece.len -= n + 1;
    }
    if (buf_append_slice(&o->line, piece)) {
        o->bad = true;
        return false;
    }
    return true;
}

static void add_param(struct buf *b, const char *name, const char *value)
{
    if (!value)
        return;
    buf_printf(b, "&%s=", name);
    url_encode(b, slice_str(value));
}

static void page_path(struct buf *b, const struct args *a, const char *after, uint64_t limit)
{
    buf_clear(b);
    buf_append_str(b, "/events?stream=");
    url_encode(b, slice_str(a->pos[0]));
    add_param(b, "after", after);
    if (!after)
        add_param(b, "from", arg_get(a, "from"));
    add_param(b, "type", arg_get(a, "type"));
    buf_printf(b, "&limit=%" PRIu64, limit);
    buf_append_u8(b, 0);
}

static int read_http(const struct args *a, struct out *o)
{
    struct client *c = client_new(a);
    struct buf path;
    char after[64] = "", last[64] = "";
    uint64_t page;
    bool ok = c != NULL;

    buf_init(&path, 65536);
    if (arg_get(a, "after"))
        snprintf(after, sizeof after, "%s", arg_get(a, "after"));
    while (ok && (!o->limit || o->n < o->limit)) {
        uint64_t before = o->n;

        page = o->limit && o->limit - o->n < 10000 ? o->limit - o->n : 10000;
        page_path(&path, a, after[0] ? after : NULL, page);
        ok = client_stream(c, (const char *)path.ptr, "application/x-ndjson", on_piece, o);
        if (!ok || o->bad)
            break;
        snprintf(last, sizeof last, "%s", client_cursor(c));
        if (!last[0] || (o->n == before && strcmp(last, after) == 0))
            break;
        memcpy(after, last, sizeof after);
    }
    buf_fini(&path);
    client_free(&c);
    return ok && !o->bad ? EXIT_FINE : EXIT_FAILED;
}

static bool local_line(void *arg, struct slice line)
{
    return put_line(arg, line);
}

static int read_run(const struct args *a, struct out *o)
{
    int rc;

    buf_init(&o->line, STDIN_MAX);
    rc = arg_get(a, "data") ? local_read(a, local_line, o) : read_http(a, o);
    buf_fini(&o->line);
    show_progress(o, true);
    if (ferror(o->f))
        rc = fail("writing the events failed");
    return rc;
}

int cmd_read(const struct args *a)
{
    struct out o = {.f = stdout,
                    .values = arg_get(a, "values") != NULL,
                    .limit = (uint64_t)arg_number(a, "limit", 0, 0, INT64_MAX)};

    return read_run(a, &o);
}

int cmd_export(const struct args *a)
{
    const char *path = arg_get(a, "output");
    struct out o = {.f = stdout, .values = arg_get(a, "values") != NULL};
    int rc;

    if (path && !(o.f = fopen(path, "w")))
        return fail("%s cannot be written", path);
    o.progress = path && isatty(2) && !arg_get(a, "quiet");
    rc = read_run(a, &o);
    if (path && fclose(o.f))
        rc = fail("%s could not be written to the end", path);
    if (path && rc == EXIT_FINE)
        printf("%" PRIu64 " events written to %s\n", o.n, path);
    return rc;
}

/* ---- tail ---- */

struct tail {
    struct buf line;
    bool json, colour, is_event;
    uint64_t n, limit;
    char last[64];
};

static void pretty(struct tail *t, struct slice line)
{
    json_t *j = json_loadb((const char *)line.ptr, line.len, 0, NULL);
    const char *type = json_string_value(json_object_get(j, "type"));
    const char *key = json_string_value(json_object_get(j, "key"));
    json_t *d = json_object_get(j, "data");
    char *text = d ? json_dumps(d, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    const char *dim = t->colour ? "\033[2m" : "", *bold = t->colour ? "\033[1m" : "",
               *end = t->colour ? "\033[0m" : "";

    printf("%s%s  %s%s  %s%s%s  %s%s%s%s\n", dim, json_string_value(json_object_get(j, "ts")),
           json_string_value(json_object_get(j, "id")), end, bold, type ? type : "-", end,
           key ? key : "", key ? "  " : "", text ? text : "", end);
    free(text);
    json_decref(j);
}

/* One line of the event stream (WHATWG HTML, "Server-sent events"). */
static bool sse_line(struct tail *t, struct slice line)
{
    if (line.len && line.ptr[line.len - 1] == '\r')
        line.len--;
    if (slice_has_prefix(line, SLICE_LIT("id:")) && line.len < sizeof t->last) {
        size_t skip = line.len > 3 && line.ptr[3] == ' ' ? 4 : 3;

        snprintf(t->last, sizeof t->last, "%.*s", (int)(line.len - skip),
                 (const char *)line.ptr + skip);
    }
    if (slice_has_prefix(line, SLICE_LIT("event:")))
        t->is_event = false; /* "lost" and the like: said as they are */
    if (line.len == 0)
        t->is_event = true;
    if (!slice_has_prefix(line, SLICE_LIT("data:")))
        return true;
    line.ptr += 5;
    line.len -= 5;
    while (line.len && *line.ptr == ' ') {
        line.ptr++;
        line.len--;
    }
    if (t->json || !t->is_event)
        printf("%.*s\n", (int)line.len, (const char *)line.ptr);
    else
        pretty(t, line);
    fflush(stdout);
    return !t->limit || ++t->n < t->limit;
}

static bool on_sse(void *arg, struct slice piece)
{
    struct tail *t = arg;
    size_t i;

    for (i = 0; i < piece.len; i++) {
        if (piece.ptr[i] != '\n') {
            if (buf_append_u8(&t->line, piece.ptr[i]))
                return false;
            continue;
        }
        if (!sse_line(t, buf_slice(&t->line)))
            return false;
        buf_clear(&t->line);
    }
    return true;
}

int cmd_tail(const struct args *a)
{
    struct tail t = {.json = arg_get(a, "json") || !isatty(1),
                     .colour = colours(stdout),
                     .is_event = true,
                     .limit = (uint64_t)arg_number(a, "limit", 0, 0, INT64_MAX)};
    struct client *c = client_new(a);
    struct buf path;
    bool ok = c != NULL;

    buf_init(&path, 65536);
    buf_init(&t.line, STDIN_MAX);
    if (arg_get(a, "after"))
        snprintf(t.last, sizeof t.last, "%s", arg_get(a, "after"));
    while (ok && (!t.limit || t.n < t.limit)) { /* the server may close: go on where it ended */
        buf_clear(&path);
        buf_append_str(&path, "/events/stream?stream=");
        url_encode(&path, slice_str(a->pos[0]));
        add_param(&path, "after", t.last[0] ? t.last : NULL);
        if (!t.last[0])
            add_param(&path, "from", arg_get(a, "from"));
        add_param(&path, "type", arg_get(a, "type"));
        buf_append_u8(&path, 0);
        ok = client_stream(c, (const char *)path.ptr, "text/event-stream", on_sse, &t);
    }
    buf_fini(&path);
    buf_fini(&t.line);
    client_free(&c);
    return ok ? EXIT_FINE : EXIT_FAILED;
}

/* ---- checkpoint ---- */

static void checkpoint_path(struct buf *b, const struct args *a)
{
    buf_append_str(b, "/checkpoints/");
    url_encode(b, slice_str(a->pos[1]));
    if (a->pos_n > 2) {
        buf_append_u8(b, '/');
        url_encode(b, slice_str(a->pos[2]));
    }
    buf_append_u8(b, 0);
}

int cmd_checkpoint(const struct args *a)
{
    bool set = strcmp(a->pos[0], "set") == 0, del = strcmp(a->pos[0], "delete") == 0;
    struct client_reply r;
    struct buf path, body;
    struct client *c;
    int rc = EXIT_FAILED;

    if (!set && !del && strcmp(a->pos[0], "get") != 0)
        return usage_fail(a, "say get, set or delete, not '%s'", a->pos[0]);
    if ((set && a->pos_n != 4) || (del && a->pos_n != 3))
        return usage_fail(a, "%s takes a consumer, a stream%s", a->pos[0],
                          set ? " and an event's id" : "");
    if (!(c = client_new(a)))
        return EXIT_FAILED;
    buf_init(&path, 65536);
    buf_init(&body, 4096);
    checkpoint_path(&path, a);
    if (set) {
        buf_append_str(&body, "{\"after\":");
        json_write_string(&body, slice_str(a->pos[3]));
        buf_append_str(&body, "}");
    }
    if (client_call(c,
                    set   ? "PUT"
                    : del ? "DELETE"
                          : "GET",
                    (const char *)path.ptr, set ? "application/json" : NULL, buf_slice(&body),
                    &r)) {
        if (r.status < 300) {
            printf("%.*s%s", (int)r.body.len, (const char *)r.body.ptr,
                   !r.body.len || r.body.ptr[r.body.len - 1] == '\n' ? "" : "\n");
            rc = EXIT_FINE;
        } else {
            client_problem(c, &r);
        }
        buf_fini(&r.body);
    }
    buf_fini(&path);
    buf_fini(&body);
    client_free(&c);
    return rc;
}
