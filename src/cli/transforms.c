/* weir transforms: list, look at, apply, try, pause, resume and delete them, over HTTP. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/tbl/limits.h"
#include "cli/cli.h"

struct job {
    const struct args *a;
    struct client *c;
};

static const char *text(const json_t *j, const char *name)
{
    const char *t = json_string_value(json_object_get(j, name));

    return t ? t : "";
}

static json_int_t number(const json_t *j, const char *name)
{
    return json_integer_value(json_object_get(j, name));
}

/* ---- calls ---- */

static void path_make(struct buf *b, const char *name, const char *rest)
{
    buf_clear(b);
    buf_append_str(b, "/transforms");
    if (name) {
        buf_append_u8(b, '/');
        url_encode(b, slice_str(name));
    }
    buf_append_str(b, rest);
    buf_append_u8(b, 0);
}

/* The answer's JSON, to be freed by json_decref; NULL after saying why, or if it has no body (then
 * *ok). */
static json_t *call(struct client *c, const char *method, const char *name, const char *rest,
                    struct slice body, bool *ok)
{
    struct client_reply r;
    struct buf path;
    json_t *j = NULL;
    bool answered;

    buf_init(&path, 8192);
    path_make(&path, name, rest);
    *ok = false;
    answered = client_call(c, method, (const char *)path.ptr, body.ptr ? "application/sql" : NULL,
                           body, &r);
    buf_fini(&path);
    if (!answered)
        return NULL;
    if (r.status >= 300)
        client_problem(c, &r);
    else if (r.body.len && !(j = json_loadb((const char *)r.body.ptr, r.body.len, 0, NULL)))
        fail("the server's answer is not JSON");
    else
        *ok = true;
    buf_fini(&r.body);
    return j;
}

/* ---- showing ---- */

static void print_row(const json_t *t)
{
    printf("%-24s %-24s %-24s %-8s %10" JSON_INTEGER_FORMAT " %12" JSON_INTEGER_FORMAT
           " %12" JSON_INTEGER_FORMAT " %8" JSON_INTEGER_FORMAT " %s\n",
           text(t, "name"), text(t, "input"), text(t, "output"), text(t, "state"), number(t, "lag"),
           number(t, "records_in"), number(t, "rows_out"),
           number(t, "failed_records") + number(t, "late_records"), text(t, "error"));
}

static int list(const struct job *w, const char *name)
{
    json_t *j, *all, *t;
    size_t i;
    bool ok;

    j = call(w->c, "GET", name, "", SLICE_NULL, &ok);
    if (!ok)
        return EXIT_FAILED;
    all = json_object_get(j, "transforms");
    if (arg_get(w->a, "json")) {
        json_dumpf(j, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        printf("%-24s %-24s %-24s %-8s %10s %12s %12s %8s %s\n", "NAME", "INPUT", "OUTPUT", "STATE",
               "LAG", "RECORDS IN", "ROWS OUT", "STRAYS", "ERROR");
        if (!all)
            print_row(j);
        json_array_foreach(all, i, t) print_row(t);
    }
    json_decref(j);
    return EXIT_FINE;
}

/* As a file that can be applied again. */
static int show(const struct job *w, const char *name)
{
    static const char *const told[] = {"input",      "output",       "key",         "columns",
                                       "window",     "time",         "lateness",    "emit",
                                       "late",       "idle_seconds", "start",       "lake",
                                       "partitions", "max_bytes",    "max_seconds", "dead_letters"};
    bool ok, windowed;
    json_t *j = call(w->c, "GET", name, "", SLICE_NULL, &ok), *v;
    size_t i;

    if (!ok)
        return EXIT_FAILED;
    if (arg_get(w->a, "json")) {
        json_dumpf(j, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(j);
        return EXIT_FINE;
    }
    printf("-- name: %s\n", text(j, "name"));
    windowed = json_object_get(j, "window") != NULL;
    for (i = 0; i < sizeof told / sizeof *told; i++) {
        if (!windowed && (!strcmp(told[i], "emit") || !strcmp(told[i], "late")))
            continue;
        if (!(v = json_object_get(j, told[i])))
            continue;
        printf("-- %s: ", told[i]);
        if (json_is_string(v))
            printf("%s\n", json_string_value(v));
        else if (json_is_boolean(v))
            printf("%s\n", json_is_true(v) ? "true" : "false");
        else
            printf("%.15g\n", json_number_value(v));
    }
    printf("%s\n", text(j, "sql"));
    json_decref(j);
    return EXIT_FINE;
}

/* ---- files ---- */

static bool file_read(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "r");
    char piece[4096];
    size_t n;
    bool ok = true;

    if (!f)
        return fail("%s: %s", path, strerror(errno)), false;
    while (ok && (n = fread(piece, 1, sizeof piece, f)) > 0)
        ok = buf_append(out, piece, n) == ERR_OK;
    if (!ok)
        fail("%s is larger than a transform may be", path);
    else if (ferror(f) && !(ok = false))
        fail("%s: %s", path, strerror(errno));
    fclose(f);
    return ok;
}

/* The name that a file's header says, else the file's own without .sql. */
static void file_name(const char *path, const struct buf *b, char out[256])
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t n = strlen(base);
    char line[256];
    FILE *f = fmemopen(b->ptr, b->len, "r");

    if (n > 4 && !strcmp(base + n - 4, ".sql"))
        n -= 4;
    snprintf(out, 256, "%.*s", (int)(n < 255 ? n : 255), base);
    while (f && fgets(line, sizeof line, f) && line[0] == '-' && line[1] == '-')
        if (sscanf(line, "-- name: %250s", out) == 1)
            break;
    if (f)
        fclose(f);
}

static int file_apply(const struct job *w, const char *path)
{
    char name[256];
    struct buf b;
    json_t *j;
    bool ok = false;

    buf_init(&b, LIMIT_KV_VALUE);
    if (file_read(path, &b) && (b.len || (fail("%s is empty", path), false))) {
        file_name(path, &b, name);
        j = call(w->c, "PUT", name, "", buf_slice(&b), &ok);
        if (ok)
            printf("%s: %s to %s\n", text(j, "name"), text(j, "input"), text(j, "output"));
        json_decref(j);
    }
    buf_fini(&b);
    return ok ? EXIT_FINE : EXIT_FAILED;
}

static int is_sql(const struct dirent *d)
{
    size_t n = strlen(d->d_name);

    return n > 4 && d->d_name[0] != '.' && !strcmp(d->d_name + n - 4, ".sql");
}

/* A file, or all of a folder. */
static int apply(const struct job *w, const char *path)
{
    struct dirent **v;
    struct stat st;
    char full[1024];
    int n, i, rc = EXIT_FINE;

    if (stat(path, &st))
        return fail("%s: %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return file_apply(w, path);
    n = scandir(path, &v, is_sql, alphasort);
    if (n < 0)
        return fail("%s: %s", path, strerror(errno));
    for (i = 0; i < n; i++) {
        snprintf(full, sizeof full, "%s/%s", path, v[i]->d_name);
        if (file_apply(w, full))
            rc = EXIT_FAILED;
        free(v[i]);
    }
    free(v);
    return n ? rc : fail("%s has no *.sql", path);
}

static bool print_piece(void *arg, struct slice piece)
{
    return fwrite(piece.ptr, 1, piece.len, stdout) == piece.len;
}

/* Rows of a file, or of a transform that is applied, as JSON lines. */
static int trial(const struct job *w, const char *what)
{
    char name[256], why[512], rest[64];
    struct client_reply r = {0};
    struct buf b, path;
    struct stat st;
    bool ok = true;

    buf_init(&b, LIMIT_KV_VALUE);
    buf_init(&path, 8192);
    snprintf(name, sizeof name, "%s", what);
    if (stat(what, &st) == 0 && (ok = file_read(what, &b)))
        file_name(what, &b, name);
    snprintf(rest, sizeof rest, "/test?records=%" PRId64,
             arg_number(w->a, "records", 1000, 1, 10000000));
    path_make(&path, name, rest);
    if (ok) {
        ok = client_ask(w->c, (const char *)path.ptr, "application/sql", buf_slice(&b),
                        "application/x-ndjson", print_piece, NULL, NULL, &r, why, sizeof why);
        if (!ok)
            fail("%s", why);
        else if (r.status != 200)
            ok = client_problem(w->c, &r) == EXIT_FINE;
        buf_fini(&r.body);
    }
    buf_fini(&path);
    buf_fini(&b);
    return ok ? EXIT_FINE : EXIT_FAILED;
}

/* ---- the command ---- */

static int change(const struct job *w, const char *name, const char *what)
{
    bool ok, del = strcmp(what, "delete") == 0;
    char rest[16];

    snprintf(rest, sizeof rest, "/%s", what);
    json_decref(call(w->c, del ? "DELETE" : "POST", name, del ? "" : rest, SLICE_NULL, &ok));
    if (ok)
        printf("%s: %s\n", name, del ? "deleted" : what[0] == 'p' ? "paused" : "resumed");
    return ok ? EXIT_FINE : EXIT_FAILED;
}

static int run(const struct job *w, const char *what)
{
    const struct args *a = w->a;
    int rc = EXIT_FINE;
    unsigned i;

    if (!strcmp(what, "list"))
        return list(w, NULL);
    for (i = 1; i < a->pos_n; i++) {
        const char *x = a->pos[i];
        int one = !strcmp(what, "apply")    ? apply(w, x)
                  : !strcmp(what, "test")   ? trial(w, x)
                  : !strcmp(what, "show")   ? show(w, x)
                  : !strcmp(what, "status") ? list(w, x)
                                            : change(w, x, what);

        rc = one ? one : rc;
    }
    return rc;
}

int cmd_transforms(const struct args *a)
{
    static const char *const words[] = {"list",   "apply", "test",   "show",
                                        "status", "pause", "resume", "delete"};
    const char *what = a->pos_n ? a->pos[0] : "list";
    struct job w = {.a = a};
    size_t i;
    int rc;

    for (i = 0; i < sizeof words / sizeof *words && strcmp(words[i], what) != 0; i++)
        ;
    if (i == sizeof words / sizeof *words)
        return usage_fail(
            a, "say list, apply, test, show, status, pause, resume or delete, not '%s'", what);
    if (i && a->pos_n < 2)
        return usage_fail(a, "%s needs %s", what, i < 3 ? "a file" : "the transform's name");
    if (!(w.c = client_new(a)))
        return EXIT_FAILED;
    rc = run(&w, what);
    client_free(&w.c);
    return rc;
}
