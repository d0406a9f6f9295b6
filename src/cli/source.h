/* Where `weir consume` reads: topics over Kafka's protocol, or of a data directory. A source keeps the
 * list of partitions with the place reached in each; of a group's member they come and go. One thread. */
#ifndef WEIR_CLI_SOURCE_H
#define WEIR_CLI_SOURCE_H

#include "broker/broker.h"
#include "cli/cli.h"

struct source_conf {
    const struct args *a;
    const char *const *topics;
    unsigned topics_n;
    enum { FROM_START, FROM_END, FROM_OFFSET, FROM_LAST, FROM_TIME } from;
    int64_t from_value; /* offset, number of records before the end, or milliseconds */
    int32_t partition;  /* -1 all */
    const char *group;  /* NULL: none */
    bool committed;     /* only records of committed transactions, and of none */
    bool exit_at_end;
};

struct part {
    char *topic; /* own */
    uint8_t topic_id[16];
    int32_t index;
    int32_t leader;    /* Kafka: node, -1 not known */
    int64_t next;      /* offset to read from; -1 not known yet */
    int64_t committed; /* of the group; -1 none */
    int64_t end;       /* where what may be read ended when it was last looked at; -1 not yet */
    int64_t since_ms;  /* older records before the first that is not older are left out; -1 */
};

/* Of a part: whole batches, one behind the other (the last may be cut off), from the one that holds
 * p->next on; aborted transactions among them, by first offset. Moves p->next on. False: enough, the rest
 * is not wanted. */
typedef bool (*source_batches_fn)(void *arg, struct part *p, struct slice batches,
                                  const struct aborted_txn *aborted, size_t aborted_n);

struct source {
    const struct source_ops *ops;
    const struct source_conf *conf;
    struct part *parts;
    unsigned parts_n;
    bool settled; /* parts are what this source is to read (a group has given its answer) */
};

struct source_ops {
    /* Hands over what there is, waiting about half a second if there is nothing. False after saying
     * why it does not go on. */
    bool (*poll)(struct source *s, source_batches_fn fn, void *arg);
    /* The group's offsets become p->next. False after saying why. */
    bool (*commit)(struct source *s);
    /* Leaves the group. */
    void (*close)(struct source *s);
};

/* NULL after saying why not. conf stays with the source. */
struct source *kafka_source_open(const struct source_conf *conf);
struct source *local_source_open(const struct source_conf *conf);

/* For sources. part_add copies the name; what is not given is not known. */
struct part *source_part_add(struct source *s, struct slice topic, int32_t index);
void source_part_remove(struct source *s, unsigned i);
static inline bool part_at_end(const struct part *p)
{
    return p->next >= 0 && p->end >= 0 && p->next >= p->end;
}

#endif
