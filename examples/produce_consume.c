/* Makes a topic, writes records with keys and headers, and reads them back.
 *
 *     cc produce_consume.c $(pkg-config --cflags --libs weir) -o produce_consume
 *     ./produce_consume data
 */
#include <stdio.h>
#include <string.h>

#include <weir.h>

static int failed(const char *what, const struct weir_error *error)
{
    fprintf(stderr, "%s: %s: %s\n", what, weir_err_name(error->code), error->text);
    return 1;
}

static int produce(struct weir *w)
{
    struct weir_setting settings[] = {{"retention.ms", "86400000"}};
    struct weir_header headers[] = {{"content-type", "application/json", 16}};
    const char *keys[] = {"c-1", "c-2", "c-1"};
    const char *values[] = {"{\"total\":10}", "{\"total\":20}", "{\"total\":30}"};
    struct weir_error error;
    struct weir_place place;
    int i;

    if (weir_topic_create(w, "orders", 2, settings, 1, &error))
        return failed("topic", &error);
    for (i = 0; i < 3; i++) {
        struct weir_record r = {.key = keys[i],
                                .key_len = strlen(keys[i]),
                                .value = values[i],
                                .value_len = strlen(values[i]),
                                .headers = headers,
                                .headers_n = 1};

        /* It is on stable storage when this returns. The same key goes to the same partition. */
        if (weir_produce(w, "orders", &r, &place, &error))
            return failed("produce", &error);
        printf("wrote %s to partition %d, offset %d\n", keys[i], (int)place.partition,
               (int)place.offset);
    }
    return 0;
}

static int consume(struct weir *w)
{
    struct weir_consumer *c;
    struct weir_message m;
    struct weir_error error;
    weir_err e;

    if (weir_consumer_new(w, "orders", NULL, &c, &error)) /* NULL: from the beginning */
        return failed("consumer", &error);
    while ((e = weir_consumer_next(c, 0, &m, &error)) == WEIR_OK)
        printf("read %.*s: %.*s (%s: %.*s)\n", (int)m.key_len, (const char *)m.key,
               (int)m.value_len, (const char *)m.value, m.headers[0].name,
               (int)m.headers[0].value_len, (const char *)m.headers[0].value);
    weir_consumer_close(&c);
    return e == WEIR_ERR_AGAIN ? 0 : failed("read", &error); /* AGAIN: all has been read */
}

int main(int argc, char **argv)
{
    struct weir_error error;
    struct weir *w;
    int rc;

    if (argc != 2) {
        fprintf(stderr, "usage: produce_consume DIRECTORY\n");
        return 2;
    }
    if (weir_open(argv[1], NULL, &w, &error))
        return failed("open", &error);
    rc = produce(w);
    if (!rc)
        rc = consume(w);
    weir_close(&w);
    return rc;
}
