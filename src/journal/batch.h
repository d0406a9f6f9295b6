/* The record batch of Kafka, magic 2: the unit that is stored and sent. Big-endian (Kafka protocol
 * guide, "Record Batch"):
 *
 *    0  i64  base offset
 *    8  i32  length of what follows
 *   12  i32  leader epoch
 *   16  i8   magic: 2
 *   17  u32  CRC32C of 21 to the end
 *   21  i16  attributes: bits 0-2 codec, 3 log append time, 4 transactional, 5 control
 *   23  i32  last offset delta
 *   27  i64  first timestamp
 *   35  i64  max timestamp
 *   43  i64  producer id
 *   51  i16  producer epoch
 *   53  i32  base sequence
 *   57  i32  records
 *   61       records
 *
 * Offset and epoch are outside the CRC: a broker sets them without touching the rest. Decoders
 * check every length against what remains; none allocates by a declared count. Any thread; a
 * builder or an iterator is used by one thread at a time. */
#ifndef WEIR_JOURNAL_BATCH_H
#define WEIR_JOURNAL_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"
#include "journal/compress.h"

#define BATCH_HEADER          61u
#define BATCH_CODEC_MASK      7
#define BATCH_LOG_APPEND_TIME 8
#define BATCH_TRANSACTIONAL   16
#define BATCH_CONTROL         32

struct batch_info {
    int64_t base_offset;
    uint32_t length; /* of the whole batch, the first 12 bytes included */
    int32_t leader_epoch;
    uint32_t crc;
    int16_t attributes;
    int32_t last_offset_delta;
    int64_t base_ts, max_ts;
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_sequence;
    int32_t count; /* records there are; fewer than the offsets once compacted */
};

/* The header of the batch at the start of data. ERR_EOF: data ends before the batch does;
 * ERR_CORRUPT_INPUT: not a batch of magic 2, or fields that contradict each other. */
enum err batch_parse(struct slice data, struct batch_info *out);
/* batch: exactly one. */
bool batch_crc_ok(struct slice batch);
/* Whether it is of no producer, or of one with its epoch, and its sequence unless it is a marker: no
 * broker writes anything else, and what is remembered of producers has no room for it. */
bool batch_producer_ok(const struct batch_info *bi);
void batch_set_base_offset(uint8_t *batch, int64_t offset);
void batch_set_leader_epoch(uint8_t *batch, int32_t epoch);
/* Full check of one batch: header, CRC, every record, offsets 0..n-1 in order, nothing behind.
 * scratch (cleared) holds inflated records; its maximum bounds them. */
enum err batch_validate(struct slice batch, struct buf *scratch);

struct record_header {
    struct slice key, value; /* value NULL ptr: null */
};

struct record {
    int64_t offset, timestamp_ms;
    struct slice key, value;  /* views; NULL ptr: null */
    struct slice headers_raw; /* encoded headers, for record_headers */
    uint32_t headers_n;
};

/* Walks a batch's records. */
struct batch_iter {
    struct batch_info info;
    struct slice rest;
    int32_t left;
};
/* Inflates into scratch (cleared) if need be: views stay valid while batch and scratch do. ERR_EOF,
 * ERR_CORRUPT_INPUT, ERR_TOO_LARGE (scratch's maximum). Does not check the CRC. */
enum err batch_iter_init(struct batch_iter *it, struct slice batch, struct buf *scratch);
/* ERR_OK, ERR_EOF after the last, ERR_CORRUPT_INPUT. */
enum err batch_iter_next(struct batch_iter *it, struct record *out);
/* Decodes a record's headers; *n is how many were put into out (at most max). */
enum err record_headers(const struct record *r, struct record_header *out, uint32_t max,
                        uint32_t *n);

/* Makes a batch. Records are encoded once, straight into the buffer. */
struct batch_builder {
    struct buf buf, packed;
    enum codec codec;
    int32_t count;
    int64_t base_ts, max_ts;
};
/* bytes_max: of the batch, before it is compressed. */
void batch_builder_init(struct batch_builder *b, enum codec codec, size_t bytes_max);
void batch_builder_fini(struct batch_builder *b);
void batch_builder_reset(struct batch_builder *b);
/* Number of bytes that a record takes at most. */
size_t record_size_max(struct slice key, struct slice value, const struct record_header *h,
                       uint32_t n);
/* *index (may be NULL): the record's place, 0-based. ERR_TOO_LARGE: it does not fit any more, the
 * builder is unchanged. */
enum err batch_builder_add(struct batch_builder *b, int64_t timestamp_ms, struct slice key,
                           struct slice value, const struct record_header *h, uint32_t n,
                           int32_t *index);
static inline size_t batch_builder_bytes(const struct batch_builder *b)
{
    return b->buf.len;
}
/* Base offset 0, epoch -1, CRC set; compressed if that is smaller. producer_id -1: none. The slice
 * is valid until the next call on the builder. count must be > 0. */
enum err batch_builder_finish(struct batch_builder *b, int16_t attributes, int64_t producer_id,
                              int16_t producer_epoch, int32_t base_sequence, struct slice *out);

#endif
