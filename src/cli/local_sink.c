/* `weir produce --data`: batches into a data directory, each delivery one durable unit. */
#include <stdlib.h>

#include "base/mem.h"
#include "broker/broker.h"
#include "cli/local.h"
#include "cli/sink.h"

struct local_sink {
    struct sink sink; /* first */
    struct broker *b;
    struct topic *t;
    struct append *ap;
};

static bool say(enum err e, const struct errinfo *info)
{
    if (e)
        fail("%s", info->text[0] ? info->text : err_text(e));
    return !e;
}

static bool deliver(struct sink *s, const struct sink_batch *b, unsigned n)
{
    struct local_sink *l = (struct local_sink *)s;
    struct append_slot slot;
    struct errinfo info = {0};
    enum err e = ERR_OK;
    unsigned i;

    append_reset(l->ap);
    for (i = 0; i < n && !e; i++)
        e = append_batch(l->ap, topic_partition(l->t, b[i].partition), b[i].data, &slot, &info);
    if (!e)
        e = append_submit_wait(l->ap, &info);
    return say(e, &info);
}

static void close_sink(struct sink *s)
{
    struct local_sink *l = (struct local_sink *)s;

    append_free(&l->ap);
    topic_unref(&l->t);
    broker_close(&l->b);
    free(l);
}

static const struct sink_ops ops = {deliver, close_sink};

struct sink *local_sink_open(const struct args *a, const char *topic)
{
    struct local_sink *l = xcalloc(1, sizeof *l);
    struct errinfo info = {0};
    struct topic_conf conf;

    l->sink.ops = &ops;
    l->sink.producer_id = -1;
    l->sink.producer_epoch = -1;
    if (!(l->b = local_open(a, false))) {
        free(l);
        return NULL;
    }
    if (!say(topic_find_or_create_wait(l->b, slice_str(topic), &l->t, &info), &info)) {
        broker_close(&l->b);
        free(l);
        return NULL;
    }
    topic_conf_get(l->t, &conf);
    l->sink.partitions = topic_partitions(l->t);
    l->sink.codec = (enum codec)topic_conf_codec(&conf);
    l->ap = append_new(l->b, NULL, NULL);
    return &l->sink;
}
