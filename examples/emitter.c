/* Fire and forget: events are taken into memory at once and written in the background; a flush says
 * whether all of them became durable.
 *
 *     ./emitter data
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

/* On a thread of the library, should events be lost: the disk failed, say. */
static void lost(void *arg, weir_err e, const char *text, uint64_t events)
{
    fprintf(stderr, "%" PRIu64 " events lost: %s: %s\n", events, weir_err_name(e), text);
}

static int emit_all(struct weir_emitter *em)
{
    struct weir_emitter_stats st;
    struct weir_error error;
    char payload[32];
    int i;

    for (i = 1; i <= 1000; i++) {
        snprintf(payload, sizeof payload, "{\"n\":%d}", i);
        /* No stream given: "order.created" goes to the topic "orders". */
        if (weir_emit(em, "order.created", NULL, payload, strlen(payload), &error))
            return failed("emit", &error);
    }
    /* "topic:key": the events of one key stay in order. */
    if (weir_emit(em, "payment.settled", "payments:c-1", "{}", 2, &error))
        return failed("emit", &error);
    if (weir_emitter_flush(em, &error))
        return failed("flush", &error);
    weir_emitter_stats_get(em, &st);
    printf("taken %" PRIu64 ", durable %" PRIu64 ", failed %" PRIu64 "\n", st.taken, st.durable,
           st.failed);
    return 0;
}

static int count(struct weir *w, const char *topic)
{
    struct weir_topic_info info;
    struct weir_error error;

    if (weir_topic_describe(w, topic, &info, &error))
        return failed("describe", &error);
    printf("%s: %" PRIu64 "\n", topic, info.records);
    return 0;
}

int main(int argc, char **argv)
{
    struct weir_emitter_options options = {
        .size = sizeof options, .source = "shop", .flush_interval_ms = 5, .on_error = lost};
    struct weir_emitter *em = NULL;
    struct weir_error error;
    struct weir *w;
    int rc;

    if (argc != 2) {
        fprintf(stderr, "usage: emitter DIRECTORY\n");
        return 2;
    }
    if (weir_open(argv[1], NULL, &w, &error))
        return failed("open", &error);
    rc = weir_emitter_new(w, &options, &em, &error) ? failed("emitter", &error) : emit_all(em);
    if (weir_emitter_close(&em, &error) && !rc)
        rc = failed("close", &error);
    if (!rc)
        rc = count(w, "orders") || count(w, "payments");
    weir_close(&w);
    return rc;
}
