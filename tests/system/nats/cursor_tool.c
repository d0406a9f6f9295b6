/* A cursor by the C library, for nats_cursor_c of the system tests: cursor_tool DIRECTORY TOPIC NAME FILTER
 *
 * Prints what there is to take, "offset deliveries value", and acknowledges the first of it. FILTER "-":
 * the cursor is there already. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <weir.h>

static struct weir_error error;

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", what, weir_err_name(error.code), error.text);
    return 1;
}

static int take(struct weir_cursor *c)
{
    struct weir_batch *b;
    weir_err got = weir_cursor_fetch(c, 100, 0, &b, &error);
    size_t i;
    int rc = 0;

    if (got)
        return got == WEIR_ERR_AGAIN ? 0 : failed("fetch");
    for (i = 0; i < b->n; i++)
        printf("%" PRId64 " %" PRIu32 " %.*s\n", b->v[i].message.offset, b->v[i].deliveries,
               (int)b->v[i].message.value_len, (const char *)b->v[i].message.value);
    if (weir_cursor_ack(c, b->v, 1, &error))
        rc = failed("ack");
    weir_batch_free(&b);
    return rc;
}

int main(int argc, char **argv)
{
    struct weir_cursor_options o = {.size = sizeof o};
    struct weir_cursor *c;
    struct weir *w;
    int rc;

    if (argc != 5) {
        fprintf(stderr, "usage: cursor_tool DIRECTORY TOPIC NAME FILTER|-\n");
        return 2;
    }
    if (weir_open(argv[1], NULL, &w, &error))
        return failed("open");
    o.no_create = strcmp(argv[4], "-") == 0;
    o.filter = o.no_create ? NULL : argv[4];
    if (weir_cursor_open(w, argv[2], argv[3], &o, &c, &error)) {
        rc = failed("cursor");
    } else {
        rc = take(c);
        weir_cursor_close(&c);
    }
    weir_close(&w);
    return rc;
}
