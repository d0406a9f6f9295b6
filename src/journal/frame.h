/* Frames: the unit that is written and synced, and entries within it. Bytes on disk, all integers
 * little-endian, every frame starts at a multiple of FRAME_ALIGN in its file and is padded with
 * zeros to the next multiple:
 *
 *   frame header (64 bytes)                      entry header (32 bytes, 8-aligned)
 *    0 u32 magic "WFR1"                            0 u8  type
 *    4 u32 length, header included, no padding     1 u8  reserved, 0   2 u16 reserved, 0
 *    8 u64 seq, one more than the frame before     4 u32 length of the payload
 *   16 u64 durable_seq                             8 u32 plog uid (batches, log starts), else 0
 *   24 u64 position of the first record           12 u32 records (batches), else 0
 *   32 i64 wall clock, ms since 1970              16 u64 position of the first record (batches)
 *   40 u64 log id (first 8 bytes)                 24 i64 unit's wall clock, ms
 *   48 u32 entries                                32 payload, padded with zeros to 8 bytes
 *   52 u32 records
 *   56 u32 crc of the frame before (0 for seq 1)
 *   60 u32 crc: CRC32C of bytes 0..59 and 64..length-1
 *
 * durable_seq says: when this frame was written, all frames up to that one were on stable storage.
 * The chain of crcs keeps a stale frame (of before a crash) from being taken for the next one.
 * No I/O, no state; any thread. */
#ifndef WEIR_JOURNAL_FRAME_H
#define WEIR_JOURNAL_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

#define FRAME_ALIGN  4096u
#define FRAME_HEADER 64u
#define ENTRY_HEADER 32u
#define FRAME_MAGIC  0x31524657u /* "WFR1" */

struct frame_header {
    uint32_t length;
    uint64_t seq, durable_seq, position;
    int64_t wall_ms;
    uint64_t log_id;
    uint32_t entries, records, prev_crc, crc;
};

struct entry_header {
    uint8_t type;
    uint32_t length, uid, records;
    uint64_t position;
    int64_t wall_ms;
};

static inline uint64_t frame_padded(uint64_t length)
{
    return (length + FRAME_ALIGN - 1) & ~(uint64_t)(FRAME_ALIGN - 1);
}

/* Room that an entry with this payload takes. */
static inline uint64_t entry_room(uint64_t payload)
{
    return (ENTRY_HEADER + payload + 7) & ~(uint64_t)7;
}

/* Writes the header's 64 bytes; h->crc is computed from `body_crc`, the CRC32C of the bytes after
 * the header, and stored in both. */
void frame_header_write(uint8_t *dst, struct frame_header *h, uint32_t body_crc);
/* Reads a header; false if the magic, the length (64..max) or the reserved bytes are not right.
 * Does not check the crc. */
bool frame_header_read(const uint8_t *src, size_t avail, uint64_t length_max,
                       struct frame_header *h);
/* frame holds h->length bytes. */
bool frame_crc_ok(const uint8_t *frame, const struct frame_header *h);

void entry_header_write(uint8_t *dst, const struct entry_header *h);
/* Walks entries: *off starts at FRAME_HEADER. ERR_OK: *h and *payload set, *off advanced. ERR_EOF
 * at the end of the frame. ERR_CORRUPT_INPUT when lengths do not fit. */
enum err frame_entry_next(const uint8_t *frame, uint32_t length, uint32_t *off,
                          struct entry_header *h, struct slice *payload);

#endif
