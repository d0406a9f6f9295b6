/* Where `weir produce` delivers: a topic over Kafka's protocol, or of a data directory. */
#ifndef WEIR_CLI_SINK_H
#define WEIR_CLI_SINK_H

#include "cli/cli.h"
#include "journal/compress.h"

struct sink_batch {
    int32_t partition;
    struct slice data; /* one finished record batch */
};

struct sink {
    const struct sink_ops *ops;
    int32_t partitions;
    enum codec codec;    /* that the topic asks for */
    int64_t producer_id; /* -1: batches carry none */
    int16_t producer_epoch;
};

struct sink_ops {
    /* Waits until all are durable, at most one batch of each partition. False after saying why; then
     * it is unknown which of them are. */
    bool (*deliver)(struct sink *s, const struct sink_batch *b, unsigned n);
    void (*close)(struct sink *s);
};

/* Finds the topic, or makes it where that is allowed. NULL after saying why not. */
struct sink *kafka_sink_open(const struct args *a, const char *topic);
struct sink *local_sink_open(const struct args *a, const char *topic);

#endif
