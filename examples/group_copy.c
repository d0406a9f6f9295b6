/* Exactly once: a member of a group reads orders, writes what it makes of each, and commits its place
 * in the same atomic unit. However often the program is stopped, each order is dealt with once.
 *
 *     ./group_copy data
 */
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
    struct weir_error error;
    struct weir_record r = {0};
    char text[16];
    int i;

    if (weir_topic_create(w, "orders", 3, NULL, 0, &error))
        return failed("topic", &error);
    for (i = 1; i <= 6; i++) {
        snprintf(text, sizeof text, "order %d", i);
        r.key = r.value = text;
        r.key_len = r.value_len = strlen(text);
        if (weir_produce(w, "orders", &r, NULL, &error))
            return failed("produce", &error);
    }
    return 0;
}

static void on_rebalance(void *arg, struct weir_member *m, enum weir_rebalance what,
                         const struct weir_topic_partition *p, size_t n)
{
    printf("%s %zu partitions of %s\n", what == WEIR_ASSIGNED ? "has" : "gives up", n, p[0].topic);
}

/* Deals with up to n orders, as a member of the group. */
static int bill(struct weir *w, int n)
{
    const char *topics[] = {"orders"};
    struct weir_member_options options = {.size = sizeof options,
                                          .group = "billing",
                                          .topics = topics,
                                          .topics_n = 1,
                                          .on_rebalance = on_rebalance};
    struct weir_record r = {0};
    struct weir_member *m;
    struct weir_message in;
    struct weir_error error;
    char text[32];
    weir_err e = WEIR_OK;
    int done = 0;

    if (weir_member_new(w, &options, &m, &error))
        return failed("member", &error);
    while (!e && done < n && (e = weir_member_next(m, 0, &in, &error)) == WEIR_OK) {
        snprintf(text, sizeof text, "bill for %.*s", (int)in.value_len, (const char *)in.value);
        r.value = text;
        r.value_len = strlen(text);
        e = weir_member_produce(m, "bills", &r, 1, NULL, &error);
        done += !e;
    }
    printf("dealt with %d\n", done);
    weir_member_close(&m);
    return e && e != WEIR_ERR_AGAIN ? failed("bill", &error) : 0;
}

int main(int argc, char **argv)
{
    struct weir_topic_info bills;
    struct weir_error error;
    struct weir *w;
    int rc;

    if (weir_open(argc > 1 ? argv[1] : "data", NULL, &w, &error))
        return failed("open", &error);
    rc = write_orders(w) || bill(w, 2) || bill(w, 100);
    if (!rc && weir_topic_describe(w, "bills", &bills, &error) == WEIR_OK)
        printf("%d bills\n", (int)bills.records);
    weir_close(&w);
    return rc;
}
