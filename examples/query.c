/* Asks a topic with SQL: fields of JSON values are columns.
 *
 *     ./query data
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <weir.h>

static int failed(const char *what, const struct weir_error *error)
{
    fprintf(stderr, "%s: %s: %s\n", what, weir_err_name(error->code), error->text);
    return 1;
}

static int write_orders(struct weir *w)
{
    static const char *const orders[] = {
        "{\"id\":1,\"status\":\"completed\",\"total\":12.5}",
        "{\"id\":2,\"status\":\"open\",\"total\":3}",
        "{\"id\":3,\"status\":\"completed\",\"total\":20,\"note\":\"gift\"}",
    };
    struct weir_error error;
    size_t i;

    for (i = 0; i < sizeof orders / sizeof *orders; i++) {
        struct weir_record r = {.value = orders[i], .value_len = strlen(orders[i])};

        if (weir_produce(w, "orders", &r, NULL, &error))
            return failed("produce", &error);
    }
    return 0;
}

static int completed_print(struct weir *w)
{
    static const char sql[] =
        "SELECT id, total, note FROM orders WHERE status = $1 ORDER BY id DESC";
    struct weir_value status = {.type = WEIR_TEXT, .data = "completed", .len = 9};
    struct weir_result *r;
    struct weir_error error;
    weir_err e;
    size_t i;

    if (weir_query(w, sql, &status, 1, NULL, &r, &error))
        return failed("query", &error);
    while (!(e = weir_result_next(r, &error)))
        for (i = 0; i < weir_result_columns(r); i++) {
            const struct weir_value *v = weir_result_value(r, i);

            printf("%s=%s%s", weir_result_name(r, i), v->type ? (const char *)v->data : "(none)",
                   i + 1 < weir_result_columns(r) ? " " : "\n");
        }
    weir_result_close(&r);
    return e == WEIR_ERR_AGAIN ? 0 : failed("row", &error);
}

static int total_print(struct weir *w)
{
    struct weir_result *r;
    struct weir_error error;

    if (weir_query(w, "SELECT count(*), sum(total) FROM orders", NULL, 0, NULL, &r, &error))
        return failed("query", &error);
    if (weir_result_next(r, &error))
        return failed("row", &error);
    printf("%" PRId64 " orders, %.2f in all\n", weir_result_value(r, 0)->i,
           weir_result_value(r, 1)->d);
    weir_result_close(&r);
    return 0;
}

static int mistake_print(struct weir *w)
{
    struct weir_result *r;
    struct weir_error error;

    if (weir_query(w, "SELEC 1", NULL, 0, NULL, &r, &error) != WEIR_ERR_INVALID)
        return 1;
    printf("%s\n", weir_err_name(error.code));
    return r != NULL;
}

int main(int argc, char **argv)
{
    struct weir_error error;
    struct weir *w;
    int bad;

    if (weir_open(argc > 1 ? argv[1] : "data", NULL, &w, &error))
        return failed("open", &error);
    bad = write_orders(w) || completed_print(w) || total_print(w) || mistake_print(w);
    weir_close(&w);
    return bad;
}
