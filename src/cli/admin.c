/* weir topics, groups, token, check, repair, bench: looking after a server or a data directory. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json_write.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/local.h"
#include "io/io.h"
#include "journal/journal.h"

/* Calls and gives the answer's JSON (to be freed by json_decref), or NULL after saying why. An
 * answer without a body is an empty object. */
static json_t *call(struct client *c, const char *method, const char *path, struct slice body)
{
    struct client_reply r;
    json_t *j = NULL;

    if (!client_call(c, method, path, body.len ? "application/json" : NULL, body, &r))
        return NULL;
    if (r.status >= 300)
        client_problem(c, &r);
    else if (!(j = json_loadb((const char *)r.body.ptr, r.body.len, 0, NULL)))
        j = r.body.len ? NULL : json_object();
    if (!j && r.status < 300)
        fail("the server's answer is not JSON");
    buf_fini(&r.body);
    return j;
}

static void print_json(json_t *j)
{
    json_dumpf(j, stdout, JSON_INDENT(2));
    putchar('\n');
}

/* ---- topics ---- */

static void path_of(struct buf *b, const char *prefix, const char *name)
{
    buf_append_str(b, prefix);
    url_encode(b, slice_str(name));
    buf_append_u8(b, 0);
}

static json_t *topic_body(const struct args *a, const char *name)
{
    json_t *j = json_object(), *config = json_object();
    int64_t partitions = arg_number(a, "partitions", 0, 1, 10000);
    unsigned i;

    if (name)
        json_object_set_new(j, "name", json_string(name));
    if (partitions)
        json_object_set_new(j, "partitions", json_integer(partitions));
    for (i = 0; i < a->sets_n; i++) {
        const char *eq = strchr(a->sets[i], '=');
        char key[128];

        if (!eq || (size_t)(eq - a->sets[i]) >= sizeof key)
            exit(usage_fail(a, "--set takes KEY=VALUE, not '%s'", a->sets[i]));
        snprintf(key, sizeof key, "%.*s", (int)(eq - a->sets[i]), a->sets[i]);
        json_object_set_new(config, key, json_string(eq + 1));
    }
    json_object_set_new(j, "config", config);
    return j;
}

static void print_topics(json_t *list)
{
    json_t *t;
    size_t i;

    printf("%-40s %10s %14s %14s\n", "NAME", "PARTITIONS", "RECORDS", "BYTES");
    json_array_foreach(list, i, t)
    {
        printf("%-40s %10" JSON_INTEGER_FORMAT " %14" JSON_INTEGER_FORMAT " %14" JSON_INTEGER_FORMAT
               "\n",
               json_string_value(json_object_get(t, "name")),
               json_integer_value(json_object_get(t, "partitions")),
               json_integer_value(json_object_get(t, "records")),
               json_integer_value(json_object_get(t, "bytes")));
    }
}

static void print_partitions(json_t *list)
{
    json_t *p;
    size_t i;

    printf("\n%9s %14s %14s %14s %14s\n", "PARTITION", "START", "END", "RECORDS", "BYTES");
    json_array_foreach(list, i, p)
    {
        json_int_t start = json_integer_value(json_object_get(p, "start"));
        json_int_t end = json_integer_value(json_object_get(p, "end"));

        printf("%9" JSON_INTEGER_FORMAT " %14" JSON_INTEGER_FORMAT " %14" JSON_INTEGER_FORMAT
               " %14" JSON_INTEGER_FORMAT " %14" JSON_INTEGER_FORMAT "\n",
               json_integer_value(json_object_get(p, "partition")), start, end, end - start,
               json_integer_value(json_object_get(p, "bytes")));
    }
}

static void print_topic(json_t *t)
{
    const char *name;
    json_t *v;

    printf("%s: %" JSON_INTEGER_FORMAT " partition%s, %" JSON_INTEGER_FORMAT
           " records, %" JSON_INTEGER_FORMAT " bytes, created %s\n",
           json_string_value(json_object_get(t, "name")),
           json_integer_value(json_object_get(t, "partitions")),
           json_integer_value(json_object_get(t, "partitions")) == 1 ? "" : "s",
           json_integer_value(json_object_get(t, "records")),
           json_integer_value(json_object_get(t, "bytes")),
           json_string_value(json_object_get(t, "created")));
    json_object_foreach(json_object_get(t, "config"), name, v)
    {
        char *text = json_is_string(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY);

        printf("  %s=%s\n", name, text ? text : json_string_value(v));
        free(text);
    }
    print_partitions(json_object_get(t, "partition_offsets"));
}

/* A topic and, as "partition_offsets", its partitions; NULL after saying why. */
static json_t *topic_get(struct client *c, const char *name)
{
    struct buf path;
    json_t *t, *p;

    buf_init(&path, 8192);
    path_of(&path, "/topics/", name);
    t = call(c, "GET", (const char *)path.ptr, SLICE_NULL);
    if (t) {
        path.len--;
        buf_append(&path, "/partitions", sizeof "/partitions");
        p = call(c, "GET", (const char *)path.ptr, SLICE_NULL);
        if (p)
            json_object_set(t, "partition_offsets", json_object_get(p, "partitions"));
        else
            json_decref(t);
        t = p ? t : NULL;
        json_decref(p);
    }
    buf_fini(&path);
    return t;
}

static int topic_describe(const struct args *a, struct client *c, const char *name)
{
    json_t *t = topic_get(c, name);

    if (t && arg_get(a, "json"))
        print_json(t);
    else if (t)
        print_topic(t);
    json_decref(t);
    return t ? EXIT_FINE : EXIT_FAILED;
}

/* Each of the list; the JSON is one array. */
static bool describe_all(const struct args *a, struct client *c, json_t *list)
{
    json_t *t;
    size_t i;
    bool ok = true;

    for (i = 0; ok && i < json_array_size(list); i++) {
        t = topic_get(c, json_string_value(json_object_get(json_array_get(list, i), "name")));
        ok = t != NULL;
        if (ok && !arg_get(a, "json")) {
            if (i)
                putchar('\n');
            print_topic(t);
        }
        if (ok)
            json_array_set(list, i, t);
        json_decref(t);
    }
    if (ok && arg_get(a, "json"))
        print_json(list);
    return ok;
}

static int topics_list(const struct args *a, struct client *c, const char *pattern)
{
    json_t *all = json_array(), *j = NULL;
    struct buf path;
    char after[256] = "";
    bool ok = true;

    buf_init(&path, 8192);
    do {
        const char *next;

        buf_clear(&path);
        buf_append_str(&path, "/topics?limit=1000");
        if (pattern) {
            buf_append_str(&path, "&pattern=");
            url_encode(&path, slice_str(pattern));
        }
        if (after[0]) {
            buf_append_str(&path, "&after=");
            url_encode(&path, slice_str(after));
        }
        buf_append_u8(&path, 0);
        j = call(c, "GET", (const char *)path.ptr, SLICE_NULL);
        ok = j != NULL;
        if (ok)
            json_array_extend(all, json_object_get(j, "topics"));
        next = json_string_value(json_object_get(j, "next"));
        snprintf(after, sizeof after, "%s", next ? next : "");
        json_decref(j);
    } while (ok && after[0]);
    if (ok && arg_get(a, "describe"))
        ok = describe_all(a, c, all);
    else if (ok && arg_get(a, "json"))
        print_json(all);
    else if (ok)
        print_topics(all);
    json_decref(all);
    buf_fini(&path);
    return ok ? EXIT_FINE : EXIT_FAILED;
}

static int topics_change(const struct args *a, struct client *c, const char *what, const char *name)
{
    bool create = strcmp(what, "create") == 0, alter = strcmp(what, "alter") == 0;
    bool del = strcmp(what, "delete") == 0;
    json_t *body = create || alter ? topic_body(a, create ? name : NULL) : NULL, *j;
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct buf path;
    int rc = EXIT_FAILED;

    buf_init(&path, 8192);
    if (create)
        buf_append(&path, "/topics", 8);
    else
        path_of(&path, "/topics/", name);
    j = call(c,
             create  ? "POST"
             : alter ? "PATCH"
                     : "DELETE",
             (const char *)path.ptr, slice_str(text));
    if (j) {
        if (del)
            printf("%s is deleted\n", name);
        else
            print_json(j);
        rc = EXIT_FINE;
    }
    json_decref(j);
    json_decref(body);
    free(text);
    buf_fini(&path);
    return rc;
}

int cmd_topics(const struct args *a)
{
    const char *what = a->pos_n ? a->pos[0] : "list", *name = a->pos_n > 1 ? a->pos[1] : NULL;
    struct client *c;
    int rc;

    if (arg_get(a, "describe")) {
        if (a->pos_n > 1 && strcmp(what, "describe") != 0)
            return usage_fail(a, "--describe takes one topic's name");
        name = a->pos_n > 1 ? name : a->pos_n ? a->pos[0] : NULL;
        what = name ? "describe" : "list";
    }
    if (strcmp(what, "list") != 0 && strcmp(what, "create") != 0 && strcmp(what, "describe") != 0 &&
        strcmp(what, "alter") != 0 && strcmp(what, "delete") != 0)
        return usage_fail(a, "say list, create, describe, alter or delete, not '%s'", what);
    if (strcmp(what, "list") != 0 && !name)
        return usage_fail(a, "%s needs the topic's name", what);
    if (!(c = client_new(a)))
        return EXIT_FAILED;
    rc = strcmp(what, "list") == 0       ? topics_list(a, c, name)
         : strcmp(what, "describe") == 0 ? topic_describe(a, c, name)
                                         : topics_change(a, c, what, name);
    client_free(&c);
    return rc;
}

/* ---- groups ---- */

static const char *text_at(const json_t *j, const char *name)
{
    const char *s = json_string_value(json_object_get(j, name));

    return s ? s : "-";
}

static void print_groups(json_t *list)
{
    json_t *g;
    size_t i;

    printf("%-40s %-10s %-22s %s\n", "GROUP", "TYPE", "STATE", "PROTOCOL");
    json_array_foreach(list, i, g)
        printf("%-40s %-10s %-22s %s\n", text_at(g, "group"), text_at(g, "type"),
               text_at(g, "state"), text_at(g, "protocol_type"));
}

static void print_group(json_t *g)
{
    json_t *members = json_object_get(g, "members"), *x;
    size_t i;

    printf("%s: %s, %s, generation %" JSON_INTEGER_FORMAT ", lag %" JSON_INTEGER_FORMAT "\n",
           text_at(g, "group"), text_at(g, "type"), text_at(g, "state"),
           json_integer_value(json_object_get(g, "generation")),
           json_integer_value(json_object_get(g, "lag")));
    if (json_array_size(members))
        printf("\n%-50s %-20s %s\n", "MEMBER", "CLIENT", "HOST");
    json_array_foreach(members, i, x)
        printf("%-50s %-20s %s\n", text_at(x, "member"), text_at(x, "client"), text_at(x, "host"));
    printf("\n%-40s %9s %14s %14s %12s\n", "TOPIC", "PARTITION", "OFFSET", "END", "LAG");
    json_array_foreach(json_object_get(g, "offsets"), i, x)
        printf("%-40s %9" JSON_INTEGER_FORMAT " %14" JSON_INTEGER_FORMAT " %14" JSON_INTEGER_FORMAT
               " %12" JSON_INTEGER_FORMAT "\n",
               text_at(x, "topic"), json_integer_value(json_object_get(x, "partition")),
               json_integer_value(json_object_get(x, "offset")),
               json_integer_value(json_object_get(x, "end")),
               json_integer_value(json_object_get(x, "lag")));
}

int cmd_groups(const struct args *a)
{
    const char *what = a->pos_n ? a->pos[0] : "list", *name = a->pos_n > 1 ? a->pos[1] : NULL;
    bool list = strcmp(what, "list") == 0, del = strcmp(what, "delete") == 0;
    struct client *c;
    struct buf path;
    json_t *j;

    if (!list && !del && strcmp(what, "describe") != 0)
        return usage_fail(a, "say list, describe or delete, not '%s'", what);
    if (!list && !name)
        return usage_fail(a, "%s needs the group's name", what);
    if (!(c = client_new(a)))
        return EXIT_FAILED;
    buf_init(&path, 8192);
    if (list)
        buf_append(&path, "/groups", 8);
    else
        path_of(&path, "/groups/", name);
    j = call(c, del ? "DELETE" : "GET", (const char *)path.ptr, SLICE_NULL);
    if (j && del)
        printf("%s is deleted\n", name);
    else if (j && arg_get(a, "json"))
        print_json(j);
    else if (j && list)
        print_groups(json_object_get(j, "groups"));
    else if (j)
        print_group(j);
    json_decref(j);
    buf_fini(&path);
    client_free(&c);
    return j ? EXIT_FINE : EXIT_FAILED;
}

/* ---- tokens: of a server (c), or of --data (c is NULL) ---- */

static int token_list(const struct args *a, struct client *c)
{
    json_t *j = c ? call(c, "GET", "/tokens", SLICE_NULL) : local_tokens(a), *t;
    size_t i;

    if (!j)
        return EXIT_FAILED;
    if (arg_get(a, "json")) {
        print_json(j);
    } else {
        printf("%-14s %-24s %s\n", "ID", "NAME", "GRANTS");
        json_array_foreach(json_object_get(j, "tokens"), i, t)
        {
            char *g = json_dumps(json_object_get(t, "grants"), JSON_COMPACT);

            printf("%-14s %-24s %s\n", json_string_value(json_object_get(t, "id")),
                   json_string_value(json_object_get(t, "name")), g ? g : "");
            free(g);
        }
    }
    json_decref(j);
    return EXIT_FINE;
}

static void grant(json_t *grants, const char *access, const char *prefix)
{
    if (prefix)
        json_array_append_new(grants, json_pack("{s:s, s:s}", "access", access, "prefix",
                                                strcmp(prefix, "*") == 0 ? "" : prefix));
}

static int token_create(const struct args *a, struct client *c)
{
    const char *name = arg_get(a, "name");
    json_t *grants = json_array(), *body, *j;
    char *text;

    grant(grants, "read", arg_get(a, "read"));
    grant(grants, "write", arg_get(a, "write"));
    if (arg_get(a, "admin"))
        grant(grants, "admin", "*");
    if (!json_array_size(grants)) {
        json_decref(grants);
        return usage_fail(a, "say what it permits: --read PREFIX, --write PREFIX or --admin");
    }
    body = json_pack("{s:s, s:o}", "name", name ? name : "", "grants", grants);
    text = json_dumps(body, JSON_COMPACT);
    j = c ? call(c, "POST", "/tokens", slice_str(text)) : local_token_create(a, text);
    if (j) {
        if (arg_get(a, "json"))
            print_json(j);
        else
            printf("%s\n", json_string_value(json_object_get(j, "token")));
        if (isatty(2))
            fprintf(stderr, "Keep it: it is not shown again.\n");
    }
    json_decref(body);
    free(text);
    json_decref(j);
    return j ? EXIT_FINE : EXIT_FAILED;
}

static int token_revoke(const struct args *a, const char *id, struct client *c)
{
    struct buf path;
    json_t *j;

    buf_init(&path, 4096);
    path_of(&path, "/tokens/", id);
    j = c ? call(c, "DELETE", (const char *)path.ptr, SLICE_NULL) : local_token_revoke(a, id);
    buf_fini(&path);
    if (!j)
        return EXIT_FAILED;
    json_decref(j);
    printf("%s is revoked\n", id);
    return EXIT_FINE;
}

int cmd_token(const struct args *a)
{
    const char *what = a->pos_n ? a->pos[0] : "list";
    struct client *c = NULL;
    int rc;

    if (strcmp(what, "list") != 0 && strcmp(what, "create") != 0 &&
        (strcmp(what, "revoke") != 0 || a->pos_n != 2))
        return usage_fail(a, "say create, list, or revoke ID");
    if (!arg_get(a, "data") && !(c = client_new(a)))
        return EXIT_FAILED;
    rc = strcmp(what, "list") == 0     ? token_list(a, c)
         : strcmp(what, "create") == 0 ? token_create(a, c)
                                       : token_revoke(a, a->pos[1], c);
    client_free(&c);
    return rc;
}

/* ---- check and repair ---- */

struct report {
    bool quiet, tty;
    uint64_t lines;
};

static void report(void *arg, bool problem, const char *text)
{
    struct report *r = arg;

    if (problem)
        printf("problem: %s\n", text);
    else if (!r->quiet)
        fprintf(stderr, r->tty ? "\r\033[K%s" : "%s\n", text);
    r->lines++;
}

int cmd_check(const struct args *a)
{
    struct report r = {.quiet = arg_get(a, "quiet") != NULL, .tty = isatty(2)};
    const char *dir = arg_get(a, "data") ? arg_get(a, "data") : "weir-data";
    struct journal_check_result res;
    struct errinfo info = {0};
    enum err e = journal_check(io_real(), dir, report, &r, &res, &info);

    if (r.tty && !r.quiet)
        fprintf(stderr, "\r\033[K");
    if (e)
        return fail("%s", info.text[0] ? info.text : err_text(e));
    printf("%" PRIu64 " files, %" PRIu64 " frames, %" PRIu64 " batches, %" PRIu64
           " records, %" PRIu64 " bytes: %" PRIu64 " problem%s\n",
           res.files, res.frames, res.batches, res.records, res.bytes, res.problems,
           res.problems == 1 ? "" : "s");
    return res.problems ? EXIT_FAILED : EXIT_FINE;
}

int cmd_repair(const struct args *a)
{
    struct report r = {.tty = false};
    const char *dir = arg_get(a, "data") ? arg_get(a, "data") : "weir-data";
    struct errinfo info = {0};
    enum err e = journal_repair(io_real(), dir, arg_get(a, "dry-run") != NULL, report, &r, &info);

    if (e)
        return fail("%s", info.text[0] ? info.text : err_text(e));
    if (r.lines == 0)
        printf("nothing to repair\n");
    return EXIT_FINE;
}

/* ---- bench ---- */

static double now(void)
{
    return (double)io_mono_ns(io_real()) * 1e-9;
}

static bool count_lines(void *arg, struct slice piece)
{
    uint64_t *n = arg;
    size_t i;

    for (i = 0; i < piece.len; i++)
        *n += piece.ptr[i] == '\n';
    return true;
}

static int number_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void bench_body(struct buf *b, const char *stream, int64_t batch, int64_t size)
{
    int64_t i, k;

    for (i = 0; i < batch; i++) {
        buf_append_str(b, "{\"type\":\"bench.event\",\"stream\":");
        json_write_string(b, slice_str(stream));
        buf_append_str(b, ",\"data\":\"");
        for (k = 0; k < size; k++)
            buf_append_u8(b, (uint8_t)('a' + k % 26));
        buf_append_str(b, "\"}\n");
    }
}

static int bench_read(struct client *c, const char *stream, const char *after, uint64_t want)
{
    uint64_t n = 0, before;
    char at[64];
    struct buf path;
    double t = now();
    bool ok = true;

    buf_init(&path, 4096);
    snprintf(at, sizeof at, "%s", after);
    do {
        before = n;
        buf_clear(&path);
        buf_append_str(&path, "/events?limit=10000&stream=");
        url_encode(&path, slice_str(stream));
        if (at[0])
            buf_printf(&path, "&after=%s", at);
        buf_append_u8(&path, 0);
        ok = client_stream(c, (const char *)path.ptr, "application/x-ndjson", count_lines, &n);
        snprintf(at, sizeof at, "%s", client_cursor(c));
    } while (ok && n > before && n < want);
    t = now() - t;
    if (ok)
        printf("read    %10.0f events/s   %" PRIu64 " events in %.2f s\n", (double)n / t, n, t);
    buf_fini(&path);
    return ok ? EXIT_FINE : EXIT_FAILED;
}

int cmd_bench(const struct args *a)
{
    const char *stream = arg_get(a, "stream") ? arg_get(a, "stream") : "bench";
    int64_t seconds = arg_number(a, "seconds", 5, 1, 3600),
            size = arg_number(a, "size", 100, 1, 65536);
    int64_t batch = arg_number(a, "batch", 1000, 1, 10000);
    double *took = xcalloc(1000000, sizeof *took), start, t;
    struct client *c = client_new(a);
    struct client_reply r;
    struct buf body;
    uint64_t n = 0;
    char first[64] = "";
    int rc = c ? EXIT_FINE : EXIT_FAILED;

    buf_init(&body, 1u << 30);
    bench_body(&body, stream, batch, size);
    for (start = now(); rc == EXIT_FINE && now() - start < (double)seconds && n < 1000000; n++) {
        t = now();
        if (!client_call(c, "POST", "/events", "application/x-ndjson", buf_slice(&body), &r)) {
            rc = EXIT_FAILED;
            break;
        }
        took[n] = now() - t;
        if (r.status >= 300)
            rc = client_problem(c, &r);
        buf_fini(&r.body);
    }
    t = now() - start;
    if (rc == EXIT_FINE) {
        qsort(took, n, sizeof *took, number_order);
        printf("write   %10.0f events/s   %.1f MB/s   batches of %" PRId64 ", one connection\n",
               (double)n * (double)batch / t, (double)n * (double)(batch * size) / t / 1e6, batch);
        printf("        a batch takes p50 %.2f ms, p99 %.2f ms, longest %.2f ms\n",
               took[n / 2] * 1e3, took[n * 99 / 100] * 1e3, took[n - 1] * 1e3);
        rc = bench_read(c, stream, first, n * (uint64_t)batch);
    }
    buf_fini(&body);
    free(took);
    client_free(&c);
    return rc;
}
