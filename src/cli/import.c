/* weir import: a file's JSON values become events, in order, in batches over one kept connection.
 *
 * The splitter finds top-level values (one a line, or the elements of one array) by counting
 * brackets outside strings; that they are JSON is checked by the server, and by jansson when a key
 * is taken out of them. Memory: one value (64 MiB at most) and one batch. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/json_write.h"
#include "base/mem.h"
#include "cli/cli.h"

#define VALUE_MAX   (64u << 20)
#define BATCH_BYTES (8u << 20)
#define IN_CHUNK    (1u << 20)

struct import {
    const struct args *a;
    struct client *c;
    const char *key, *type;
    char stream[256];
    struct buf batch;
    unsigned batch_n, batch_max;
    uint64_t line, first_line, sent, skipped, bytes, total;
    struct timespec start;
    time_t shown;
    bool progress, failed;
    char last_id[64];
    struct buf value;
    int depth;
    bool in_string, escape, array, begun, scalar;
};

static double elapsed(const struct import *im)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)(t.tv_sec - im->start.tv_sec) + (double)(t.tv_nsec - im->start.tv_nsec) * 1e-9;
}

static void show(struct import *im, bool end)
{
    time_t now = time(NULL);
    double s = elapsed(im), part = im->total ? (double)im->bytes / (double)im->total : 0;
    char bar[31];
    int i;

    if (!im->progress || (!end && now == im->shown))
        return;
    im->shown = now;
    for (i = 0; i < 30; i++)
        bar[i] = i < (int)(part * 30) ? '#' : '.';
    bar[30] = 0;
    if (im->total)
        fprintf(stderr, "\r[%s] %3.0f %%  %" PRIu64 " events  %.0f/s  %.0f s left ", bar,
                part * 100, im->sent, (double)im->sent / (s > 0 ? s : 1),
                part > 0 ? s / part - s : 0);
    else
        fprintf(stderr, "\r%" PRIu64 " events  %.0f/s ", im->sent,
                (double)im->sent / (s > 0 ? s : 1));
    if (end)
        fputc('\n', stderr);
}

static void remember_last(struct import *im, struct slice body)
{
    static const char mark[] = "\"id\":\"";
    const uint8_t *p = body.ptr, *hit, *last = NULL;
    size_t left = body.len;

    while ((hit = memmem(p, left, mark, sizeof mark - 1))) {
        last = hit + sizeof mark - 1;
        left -= (size_t)(last - p);
        p = last;
    }
    if (last && left >= 20)
        snprintf(im->last_id, sizeof im->last_id, "%.20s", (const char *)last);
}

static void say_bad(struct import *im, const struct client_reply *r)
{
    json_t *j = json_loadb((const char *)r->body.ptr, r->body.len, JSON_DISABLE_EOF_CHECK, NULL);
    json_t *index = json_object_get(j, "index");

    client_problem(im->c, r);
    if (json_is_integer(index))
        fail("the value is number %" PRIu64 " of the file (from 1)",
             im->first_line + (uint64_t)json_integer_value(index));
    fail("%" PRIu64 " events before it were written", im->sent);
    json_decref(j);
}

static bool send_batch(struct import *im)
{
    struct client_reply r;
    bool ok = false;

    if (!im->batch_n)
        return true;
    if (!client_call(im->c, "POST", "/events", "application/x-ndjson", buf_slice(&im->batch), &r)) {
        fail("%" PRIu64 " events were written; the state of the batch after them is unknown",
             im->sent);
    } else if (r.status != 200 && r.status != 201) {
        say_bad(im, &r);
        buf_fini(&r.body);
    } else {
        remember_last(im, buf_slice(&r.body));
        buf_fini(&r.body);
        im->sent += im->batch_n;
        ok = true;
    }
    im->batch_n = 0;
    buf_clear(&im->batch);
    show(im, false);
    return ok;
}

/* Appends the key's text. False: no JSON object with that field. */
static bool put_key(struct import *im, struct slice value)
{
    json_t *j = json_loadb((const char *)value.ptr, value.len, JSON_DECODE_ANY, NULL);
    json_t *k = json_object_get(j, im->key);
    char *text = k && !json_is_string(k) ? json_dumps(k, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    bool ok = k != NULL;

    if (ok) {
        buf_append_str(&im->batch, ",\"key\":");
        json_write_string(&im->batch, text ? slice_str(text)
                                           : slice_of(json_string_value(k), json_string_length(k)));
    }
    free(text);
    json_decref(j);
    return ok;
}

static void put_flat(struct buf *b, struct slice v)
{
    size_t at = b->len, i;

    buf_append_slice(b, v);
    for (i = at; i < b->len; i++) /* line ends inside a value are white space */
        if (b->ptr[i] == '\n' || b->ptr[i] == '\r')
            b->ptr[i] = ' ';
}

static bool is_json(struct slice v)
{
    json_t *j = json_loadb((const char *)v.ptr, v.len, JSON_DECODE_ANY, NULL);
    bool ok = j != NULL;

    json_decref(j);
    return ok;
}

/* One value of the file. False: stop. */
static bool take_value(struct import *im, struct slice v)
{
    size_t before = im->batch.len;

    im->line++;
    if (arg_get(im->a, "skip-bad") && !is_json(v)) {
        im->skipped++;
        return true;
    }
    if (!im->batch_n)
        im->first_line = im->line;
    buf_append_str(&im->batch, "{\"type\":");
    json_write_string(&im->batch, slice_str(im->type));
    buf_append_str(&im->batch, ",\"stream\":");
    json_write_string(&im->batch, slice_str(im->stream));
    if (im->key && !put_key(im, v)) {
        im->batch.len = before;
        if (arg_get(im->a, "skip-bad")) {
            im->skipped++;
            return true;
        }
        send_batch(im);
        fail("value number %" PRIu64 " of the file is no JSON object with a field '%s'", im->line,
             im->key);
        return false;
    }
    buf_append_str(&im->batch, ",\"data\":");
    put_flat(&im->batch, v);
    if (buf_append_str(&im->batch, "}\n")) {
        fail("value number %" PRIu64 " is too large", im->line);
        return false;
    }
    im->batch_n++;
    return (im->batch_n < im->batch_max && im->batch.len < BATCH_BYTES) || send_batch(im);
}

static bool end_value(struct import *im)
{
    bool ok = true;

    if (im->value.len)
        ok = take_value(im, buf_slice(&im->value));
    buf_clear(&im->value);
    im->scalar = false;
    return ok;
}

static bool keep(struct import *im, uint8_t ch)
{
    if (buf_append_u8(&im->value, ch) == ERR_OK)
        return true;
    fail("value number %" PRIu64 " is larger than 64 MiB", im->line + 1);
    return false;
}

static bool between(struct import *im, uint8_t ch)
{
    if (ch == ' ' || ch == '\t' || ch == '\r' || ch == '\n' || (im->array && ch == ','))
        return true;
    if (!im->begun && ch == '[') {
        im->begun = im->array = true;
        return true;
    }
    im->begun = true;
    if (im->array && ch == ']')
        return true;
    im->depth = ch == '{' || ch == '[';
    im->in_string = ch == '"';
    im->scalar = !im->depth && !im->in_string;
    return keep(im, ch);
}

static bool feed(struct import *im, uint8_t ch)
{
    if (im->value.len == 0)
        return between(im, ch);
    if (im->in_string) {
        if (im->escape)
            im->escape = false;
        else if (ch == '\\')
            im->escape = true;
        else if (ch == '"')
            im->in_string = false;
        if (!im->array && ch == '\n') /* a string cannot have it: a bad line ends here */
            return im->in_string = false, end_value(im);
        return keep(im, ch) && (im->in_string || im->depth || end_value(im));
    }
    if (im->scalar) {
        if (ch == '\n' || (im->array && (ch == ',' || ch == ']')))
            return end_value(im);
        return keep(im, ch);
    }
    if (ch == '"')
        im->in_string = true;
    else if (ch == '{' || ch == '[')
        im->depth++;
    else if (ch == '}' || ch == ']')
        im->depth--;
    return keep(im, ch) && (im->depth || end_value(im));
}

static bool run(struct import *im, FILE *f)
{
    uint8_t *chunk = xmalloc(IN_CHUNK);
    bool ok = true;
    size_t n, i;

    while (ok && (n = fread(chunk, 1, IN_CHUNK, f)) > 0) {
        for (i = 0; ok && i < n; i++)
            ok = feed(im, chunk[i]);
        im->bytes += n;
    }
    free(chunk);
    if (ok && ferror(f))
        ok = fail("reading failed: %s", strerror(errno)) == EXIT_FINE;
    return ok && end_value(im) && send_batch(im);
}

static void stream_of_file(struct import *im, const char *path)
{
    const char *s = arg_get(im->a, "stream"), *base = strrchr(path, '/');

    base = base ? base + 1 : path;
    if (s)
        snprintf(im->stream, sizeof im->stream, "%s", s);
    else
        snprintf(im->stream, sizeof im->stream, "%.*s", (int)strcspn(base, "."), base);
}

int cmd_import(const struct args *a)
{
    const char *path = a->pos[0];
    bool std = strcmp(path, "-") == 0, ok;
    struct import im = {.a = a,
                        .key = arg_get(a, "key"),
                        .type = arg_get(a, "type") ? arg_get(a, "type") : "import",
                        .batch_max = (unsigned)arg_number(a, "batch", 1000, 1, 10000)};
    FILE *f = std ? stdin : fopen(path, "r");
    struct stat st;

    if (!f)
        return fail("%s: %s", path, strerror(errno));
    if (std && !arg_get(a, "stream"))
        return usage_fail(a, "--stream is needed with standard input");
    if (!(im.c = client_new(a)))
        return EXIT_FAILED;
    stream_of_file(&im, path);
    im.progress = isatty(2) && !arg_get(a, "quiet");
    if (!std && fstat(fileno(f), &st) == 0)
        im.total = (uint64_t)st.st_size;
    buf_init(&im.value, VALUE_MAX);
    buf_init(&im.batch, VALUE_MAX + BATCH_BYTES + 65536);
    clock_gettime(CLOCK_MONOTONIC, &im.start);
    ok = run(&im, f);
    show(&im, true);
    if (ok) {
        printf("%" PRIu64 " events written to %s in %.2f s", im.sent, im.stream, elapsed(&im));
        if (im.skipped)
            printf(", %" PRIu64 " left out", im.skipped);
        if (im.last_id[0])
            printf(", last %s", im.last_id);
        printf("\n");
    }
    buf_fini(&im.value);
    buf_fini(&im.batch);
    client_free(&im.c);
    if (!std)
        fclose(f);
    return ok ? EXIT_FINE : EXIT_FAILED;
}
