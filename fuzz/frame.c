/* Fuzzing of the journal's frames and entries (journal/frame.h), once as the bytes come and once
 * with length and checksum made right, as no random change gets them. Checked beside the
 * sanitizers: what decodes lies within the bytes given, encodes to the same bytes again, and a
 * frame whose checksum is right has no other bit that could change unnoticed. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "journal/batch.h"
#include "journal/frame.h"

#define FRAME_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One entry: its header comes out as it went in, its payload lies between it and the next one. */
static void entry(const uint8_t *frame, uint32_t at, uint32_t next, const struct entry_header *h,
                  struct slice payload)
{
    uint8_t out[ENTRY_HEADER];
    struct batch_info bi;

    ASSERT(payload.ptr == frame + at + ENTRY_HEADER && payload.len == h->length);
    ASSERT(next - at == entry_room(h->length) && next % 8 == at % 8);
    entry_header_write(out, h);
    ASSERT(memcmp(out, frame + at, ENTRY_HEADER) == 0);
    if (batch_parse(payload, &bi) == ERR_OK)
        ASSERT(bi.length <= payload.len && bi.last_offset_delta >= 0);
}

/* Walks all entries of the first `length` bytes. True if they end where the frame does. */
static bool entries(const uint8_t *frame, uint32_t length)
{
    uint32_t off = FRAME_HEADER, at = off;
    struct entry_header h;
    struct slice payload;
    enum err e;

    while ((e = frame_entry_next(frame, length, &off, &h, &payload)) == ERR_OK) {
        ASSERT(off > at && off <= length);
        entry(frame, at, off, &h, payload);
        at = off;
    }
    ASSERT(off == at && (e == ERR_CORRUPT_INPUT || (e == ERR_EOF && off == length)));
    return e == ERR_EOF;
}

/* The bytes as they are. */
static void raw(const uint8_t *data, size_t size)
{
    struct frame_header h;
    uint8_t out[FRAME_HEADER];

    if (!frame_header_read(data, size, FRAME_MAX, &h))
        return;
    ASSERT(h.length >= FRAME_HEADER && h.length <= FRAME_MAX && h.seq > h.durable_seq);
    ASSERT(frame_padded(h.length) >= h.length && frame_padded(h.length) % FRAME_ALIGN == 0);
    if (h.length > size || !frame_crc_ok(data, &h))
        return;
    frame_header_write(out, &h, crc32c(0, data + FRAME_HEADER, h.length - FRAME_HEADER));
    ASSERT(memcmp(out, data, FRAME_HEADER) == 0);
    entries(data, h.length);
}

/* The same with a length and a checksum that fit: any fields, any entries. */
static void mended(const uint8_t *data, size_t size)
{
    struct frame_header h, again;
    uint8_t *frame, out[FRAME_HEADER];
    size_t bit;

    if (size < FRAME_HEADER || size > FRAME_MAX)
        return;
    frame = malloc(size);
    memcpy(frame, data, size);
    le32_store(frame, FRAME_MAGIC);
    le32_store(frame + 4, (uint32_t)size);
    if (frame_header_read(frame, size, FRAME_MAX, &h)) {
        frame_header_write(frame, &h, crc32c(0, frame + FRAME_HEADER, size - FRAME_HEADER));
        ASSERT(frame_header_read(frame, size, FRAME_MAX, &again));
        ASSERT(again.crc == h.crc && frame_crc_ok(frame, &again));
        frame_header_write(out, &again, crc32c(0, frame + FRAME_HEADER, size - FRAME_HEADER));
        ASSERT(memcmp(out, frame, FRAME_HEADER) == 0);
        ASSERT(!frame_header_read(frame, size, size - 1, &again));
        ASSERT(!frame_header_read(frame, FRAME_HEADER - 1, FRAME_MAX, &again));
        entries(frame, (uint32_t)size);
        raw(frame, size);
        bit = (size_t)h.prev_crc % (size * 8); /* as good as any, and the input's to choose */
        frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ASSERT(!frame_header_read(frame, size, size, &again) || again.length != size ||
               !frame_crc_ok(frame, &again));
    }
    free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    raw(data, size);
    mended(data, size);
    return 0;
}
