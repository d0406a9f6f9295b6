/* Throughput: a producer gathers records into compressed batches and says of each by a callback
 * where it is once it is durable.
 *
 *     ./producer_callback data
 */
#include <inttypes.h>
#include <stdio.h>

#include <weir.h>

#define RECORDS 10000

static int failed(const char *what, const struct weir_error *error)
{
    fprintf(stderr, "%s: %s: %s\n", what, weir_err_name(error->code), error->text);
    return 1;
}

struct outcome {
    int64_t next_offset;
    uint64_t durable, failed, out_of_order;
};

/* On a thread of the library, one call after the other: short, and without calling the producer.
 * weir_producer_flush returns after the last one, so main may read the counts then. */
static void delivered(void *arg, weir_err e, const struct weir_place *place)
{
    struct outcome *o = arg;

    if (e) {
        o->failed++;
        return;
    }
    o->durable++;
    if (place->offset != o->next_offset)
        o->out_of_order++;
    o->next_offset = place->offset + 1;
}

static int send_all(struct weir_producer *p, struct outcome *o)
{
    struct weir_error error;
    char value[64];
    int i;

    for (i = 0; i < RECORDS; i++) {
        struct weir_record r = {.value = value};

        r.value_len = (size_t)snprintf(value, sizeof value, "{\"sensor\":7,\"reading\":%d}", i);
        if (weir_producer_send(p, &r, delivered, o, &error)) /* copied: value may be reused */
            return failed("send", &error);
    }
    return weir_producer_flush(p, &error) ? failed("flush", &error) : 0;
}

int main(int argc, char **argv)
{
    struct weir_producer_options options = {
        .size = sizeof options, .batch_bytes = 64 * 1024, .linger_us = 5000, .compression = "lz4"};
    struct weir_producer *p = NULL;
    struct outcome o = {0};
    struct weir_error error;
    struct weir *w;
    int rc;

    if (argc != 2) {
        fprintf(stderr, "usage: producer_callback DIRECTORY\n");
        return 2;
    }
    if (weir_open(argv[1], NULL, &w, &error))
        return failed("open", &error);
    rc = weir_producer_new(w, "readings", &options, &p, &error) ? failed("producer", &error)
                                                                : send_all(p, &o);
    if (weir_producer_close(&p, &error) && !rc)
        rc = failed("close", &error);
    weir_close(&w);
    if (!rc)
        printf("durable %" PRIu64 ", failed %" PRIu64 ", out of order %" PRIu64 "\n", o.durable,
               o.failed, o.out_of_order);
    return rc;
}
