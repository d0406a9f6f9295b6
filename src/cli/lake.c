/* weir lake: topics as Iceberg tables: state, and jobs that are asked for and waited for. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "cli/cli.h"

/* The answer's JSON, to be freed by json_decref; NULL after saying why. */
static json_t *call(struct client *c, const char *method, const char *path, const char *body)
{
    struct client_reply r;
    json_t *j = NULL;

    if (!client_call(c, method, path, body ? "application/json" : NULL,
                     body ? slice_str(body) : SLICE_NULL, &r))
        return NULL;
    if (r.status >= 300)
        client_problem(c, &r);
    else if (!(j = json_loadb((const char *)r.body.ptr, r.body.len, 0, NULL)))
        fail("the server's answer is not JSON");
    buf_fini(&r.body);
    return j;
}

static json_int_t number(const json_t *j, const char *name)
{
    return json_integer_value(json_object_get(j, name));
}

static const char *text(const json_t *j, const char *name)
{
    const char *t = json_string_value(json_object_get(j, name));

    return t ? t : "";
}

/* Records that the lake alone has. */
static json_int_t only_there(const json_t *t)
{
    const json_t *list = json_object_get(t, "partitions"), *p;
    json_int_t n = 0;
    size_t i;

    json_array_foreach(list, i, p) n += number(p, "local_start") - number(p, "start");
    return n;
}

static void print_row(const json_t *t)
{
    printf("%-32s %-9s %12" JSON_INTEGER_FORMAT " %9" JSON_INTEGER_FORMAT " %12" JSON_INTEGER_FORMAT
           " %12" JSON_INTEGER_FORMAT " %12" JSON_INTEGER_FORMAT " %-24s",
           text(t, "topic"),
           !json_is_true(json_object_get(t, "enabled")) ? "off"
           : text(t, "error")[0]                        ? "failing"
                                                        : "on",
           number(t, "lag"), number(t, "commits"), number(t, "table_records"),
           number(t, "table_bytes"), only_there(t), text(t, "last_commit"));
    printf("%s\n", text(t, "message"));
}

/* Where each partition begins, and the local log, and up to where the table has it. */
static void print_partitions(const json_t *t)
{
    const json_t *list = json_object_get(t, "partitions"), *p;
    size_t i;

    printf("\n%9s %14s %14s %14s %14s\n", "PARTITION", "START", "LOCAL START", "COVERED", "END");
    json_array_foreach(list, i, p)
    {
        printf("%9" JSON_INTEGER_FORMAT " %14" JSON_INTEGER_FORMAT " %14" JSON_INTEGER_FORMAT
               " %14" JSON_INTEGER_FORMAT " %14" JSON_INTEGER_FORMAT "\n",
               number(p, "partition"), number(p, "start"), number(p, "local_start"),
               number(p, "covered"), number(p, "end"));
    }
}

static int status(const struct args *a, struct client *c, const char *path)
{
    json_t *j = call(c, "GET", path, NULL), *list, *t;
    size_t i;

    if (!j)
        return EXIT_FAILED;
    list = json_object_get(j, "topics");
    if (arg_get(a, "json")) {
        json_dumpf(j, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        printf("%-32s %-9s %12s %9s %12s %12s %12s %-24s\n", "TOPIC", "STATE", "LAG", "COMMITS",
               "RECORDS", "BYTES", "ONLY THERE", "LAST COMMIT");
        if (!list) {
            print_row(j);
            print_partitions(j);
        }
        json_array_foreach(list, i, t) print_row(t);
    }
    json_decref(j);
    return EXIT_FINE;
}

/* Waits until the job with this ticket is over; says how it ended. */
static int job_wait(struct client *c, const char *path, const char *job, json_int_t ticket)
{
    const struct timespec nap = {0, 50000000};
    const char *outcome;
    json_t *j, *state;
    int rc;

    for (;;) {
        j = call(c, "GET", path, NULL);
        if (!j)
            return EXIT_FAILED;
        state = json_object_get(json_object_get(j, "jobs"), job);
        if (number(state, "done") >= ticket)
            break;
        json_decref(j);
        nanosleep(&nap, NULL);
    }
    outcome = text(state, "outcome");
    rc = strcmp(outcome, "ok") == 0 ? EXIT_FINE : EXIT_FAILED;
    if (rc)
        fail("%s: %s", outcome, text(j, "message"));
    else
        printf("%s: %s is done; snapshot %" JSON_INTEGER_FORMAT ", lag %" JSON_INTEGER_FORMAT "\n",
               text(j, "topic"), job, number(j, "snapshot"), number(j, "lag"));
    json_decref(j);
    return rc;
}

static int job(const struct args *a, struct client *c, const char *path, const char *name)
{
    struct buf b;
    json_int_t ticket;
    json_t *j;

    buf_init(&b, 8192);
    buf_printf(&b, "%s/%s", path, name);
    buf_append_u8(&b, 0);
    j = call(c, "POST", (const char *)b.ptr, NULL);
    buf_fini(&b);
    if (!j)
        return EXIT_FAILED;
    ticket = number(j, "ticket");
    json_decref(j);
    if (arg_get(a, "no-wait")) {
        printf("asked for; ticket %" JSON_INTEGER_FORMAT "\n", ticket);
        return EXIT_FINE;
    }
    return job_wait(c, path, name, ticket);
}

/* Turns lake.enable on, then flushes: what the topic has already goes into the table. */
static int backfill(const struct args *a, struct client *c, const char *path)
{
    struct buf b;
    json_t *j;

    buf_init(&b, 8192);
    buf_append_str(&b, "/topics/");
    url_encode(&b, slice_str(a->pos[1]));
    buf_append_u8(&b, 0);
    j = call(c, "PATCH", (const char *)b.ptr, "{\"config\":{\"lake.enable\":\"true\"}}");
    buf_fini(&b);
    if (!j)
        return EXIT_FAILED;
    json_decref(j);
    return job(a, c, path, "flush");
}

int cmd_lake(const struct args *a)
{
    const char *what = a->pos_n ? a->pos[0] : "status", *name = a->pos_n > 1 ? a->pos[1] : NULL;
    bool show = strcmp(what, "status") == 0, fill = strcmp(what, "backfill") == 0;
    struct client *c;
    struct buf path;
    int rc;

    if (!show && !fill && strcmp(what, "flush") != 0 && strcmp(what, "compact") != 0 &&
        strcmp(what, "expire") != 0)
        return usage_fail(a, "say status, flush, compact, expire or backfill, not '%s'", what);
    if (!show && !name)
        return usage_fail(a, "%s needs the topic's name", what);
    if (!(c = client_new(a)))
        return EXIT_FAILED;
    buf_init(&path, 8192);
    buf_append_str(&path, name ? "/lake/" : "/lake");
    if (name)
        url_encode(&path, slice_str(name));
    buf_append_u8(&path, 0);
    rc = show   ? status(a, c, (const char *)path.ptr)
         : fill ? backfill(a, c, (const char *)path.ptr)
                : job(a, c, (const char *)path.ptr, what);
    buf_fini(&path);
    client_free(&c);
    return rc;
}
