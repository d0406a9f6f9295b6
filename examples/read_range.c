/* Reads a part of a stream: page by page after a position, and from a point in time on.
 *
 *     ./read_range data
 */
#include <inttypes.h>
#include <stdio.h>

#include <weir.h>

#define DAY_MS   INT64_C(86400000)
#define FIRST_MS (INT64_C(20000) * DAY_MS) /* some midnight */

static int failed(const char *what, const struct weir_error *error)
{
    fprintf(stderr, "%s: %s: %s\n", what, weir_err_name(error->code), error->text);
    return 1;
}

static int write_days(struct weir *w)
{
    struct weir_setting keep = {"retention.ms", "-1"}; /* these are old: keep them */
    struct weir_error error;
    char value[32];
    int day;

    if (weir_topic_create(w, "readings", 1, &keep, 1, &error))
        return failed("topic", &error);
    for (day = 0; day < 7; day++) {
        struct weir_record r = {.value = value, .timestamp_ms = FIRST_MS + day * DAY_MS};

        r.value_len = (size_t)snprintf(value, sizeof value, "day %d", day);
        if (weir_produce(w, "readings", &r, NULL, &error))
            return failed("produce", &error);
    }
    return 0;
}

static bool print(void *arg, const struct weir_message *m)
{
    int *n = arg;

    printf("  %.*s\n", (int)m->value_len, (const char *)m->value);
    (*n)++;
    return true; /* go on */
}

/* Three at a time. The position of a page's end is where the next one begins. */
static int read_pages(struct weir *w)
{
    uint64_t position = 0; /* 0: from the beginning */
    struct weir_error error;
    int n, page = 1;

    do {
        n = 0;
        printf("page %d\n", page++);
        if (weir_read(w, "readings", position, 3, print, &n, &position, &error))
            return failed("read", &error);
    } while (n == 3);
    return 0;
}

static int read_since(struct weir *w, int64_t at_ms)
{
    struct weir_consumer_options options = {
        .size = sizeof options, .from = WEIR_FROM_TIME, .at_ms = at_ms};
    struct weir_consumer *c;
    struct weir_message m;
    struct weir_error error;
    weir_err e;

    if (weir_consumer_new(w, "readings", &options, &c, &error))
        return failed("consumer", &error);
    printf("since noon of day 4\n");
    while ((e = weir_consumer_next(c, 0, &m, &error)) == WEIR_OK)
        printf("  %.*s, offset %" PRId64 "\n", (int)m.value_len, (const char *)m.value, m.offset);
    weir_consumer_close(&c);
    return e == WEIR_ERR_AGAIN ? 0 : failed("read", &error);
}

int main(int argc, char **argv)
{
    struct weir_error error;
    struct weir *w;
    int rc;

    if (argc != 2) {
        fprintf(stderr, "usage: read_range DIRECTORY\n");
        return 2;
    }
    if (weir_open(argv[1], NULL, &w, &error))
        return failed("open", &error);
    rc = write_days(w) || read_pages(w) || read_since(w, FIRST_MS + 4 * DAY_MS + DAY_MS / 2);
    weir_close(&w);
    return rc;
}
