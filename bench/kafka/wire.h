/* The little of Kafka's protocol that the raw load program speaks: versions that are not flexible
 * and that both servers serve (Produce 7, Fetch 11, CreateTopics 4, DeleteTopics 3,
 * ApiVersions 0). Requests are built once; answers are read in place. Layouts:
 * https://kafka.apache.org/protocol.html. Any thread. */
#ifndef WEIR_BENCH_KAFKA_WIRE_H
#define WEIR_BENCH_KAFKA_WIRE_H

#include <stdbool.h>

#include "base/buf.h"

#define WIRE_REQUEST_MAX (256u << 20)

/* Topics that a run writes to: NAME-0, NAME-1, …, all with as many partitions. Partitions are
 * numbered through: the i-th is partition i % partitions of topic NAME-(i / partitions). */
struct wire_topics {
    const char *name;
    uint32_t topics, partitions;
};

/* A Produce request with one batch for each partition of a run of them. */
struct wire_produce {
    struct buf frame;
    uint32_t records, payload;            /* in all batches; bytes of their values */
    size_t batch_at, batch_len, stamp_at; /* of the first batch; and where its first value begins */
};

/* `records` values of `size` bytes in each batch of partitions [first, first + n). The values are
 * noise that does not compress, the same in each batch. */
void wire_produce_init(struct wire_produce *r, const struct wire_topics *t, uint32_t first,
                       uint32_t n, uint32_t records, uint32_t size);
void wire_produce_fini(struct wire_produce *r);
/* Puts a number into the first value of the first batch, whose checksum is made anew. */
void wire_produce_stamp(struct wire_produce *r, uint64_t stamp);
/* How far behind a batch's begin its first value begins, for records of `size` bytes. */
size_t wire_stamp_at(uint32_t size);

/* The first error code of a Produce answer (the frame without its length), 0: none; -1: it is cut
 * short. */
int wire_produce_code(struct slice frame);

void wire_fetch(struct buf *out, const struct wire_topics *t, uint32_t partition, int64_t offset,
                int32_t max_bytes, int32_t wait_ms);
struct wire_fetched {
    int code;
    int64_t high_watermark, start;
    struct slice records;
};
/* The first partition of a Fetch answer; false: it is cut short. */
bool wire_fetched_read(struct slice frame, struct wire_fetched *f);

struct wire_batch {
    int64_t next_offset; /* behind its last record */
    uint32_t records;
    struct slice bytes;
};
/* The next whole batch of *rest, which moves behind it; false: there is none. */
bool wire_batch_next(struct slice *rest, struct wire_batch *b);

void wire_api_versions(struct buf *out);
void wire_create(struct buf *out, const struct wire_topics *t, uint32_t topic);
void wire_delete(struct buf *out, const struct wire_topics *t, uint32_t topic);
/* The code of the one topic of a CreateTopics or DeleteTopics answer; -1: it is cut short. */
int wire_admin_code(struct slice frame);
/* Asks for all partitions of a topic at once: for one that must not fail when it is there. */
void wire_probe(struct buf *out, const struct wire_topics *t, uint32_t topic);
/* The first error code in a Fetch answer of several partitions, 0: none; -1: it is cut short. */
int wire_probe_code(struct slice frame);

#endif
