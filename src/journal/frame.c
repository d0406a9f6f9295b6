/* Encoding and decoding of frames and entries. See frame.h for the bytes. Every length is checked
 * against what remains before it is used. */
#include "journal/frame.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"

void frame_header_write(uint8_t *dst, struct frame_header *h, uint32_t body_crc)
{
    ASSERT(h->length >= FRAME_HEADER);
    le32_store(dst, FRAME_MAGIC);
    le32_store(dst + 4, h->length);
    le64_store(dst + 8, h->seq);
    le64_store(dst + 16, h->durable_seq);
    le64_store(dst + 24, h->position);
    le64_store(dst + 32, (uint64_t)h->wall_ms);
    le64_store(dst + 40, h->log_id);
    le32_store(dst + 48, h->entries);
    le32_store(dst + 52, h->records);
    le32_store(dst + 56, h->prev_crc);
    h->crc = crc32c_combine(crc32c(0, dst, 60), body_crc, h->length - FRAME_HEADER);
    le32_store(dst + 60, h->crc);
}

bool frame_header_read(const uint8_t *src, size_t avail, uint64_t length_max,
                       struct frame_header *h)
{
    if (avail < FRAME_HEADER || le32_load(src) != FRAME_MAGIC)
        return false;
    h->length = le32_load(src + 4);
    h->seq = le64_load(src + 8);
    h->durable_seq = le64_load(src + 16);
    h->position = le64_load(src + 24);
    h->wall_ms = (int64_t)le64_load(src + 32);
    h->log_id = le64_load(src + 40);
    h->entries = le32_load(src + 48);
    h->records = le32_load(src + 52);
    h->prev_crc = le32_load(src + 56);
    h->crc = le32_load(src + 60);
    return h->length >= FRAME_HEADER && h->length <= length_max && h->seq > 0 &&
           h->durable_seq < h->seq;
}

bool frame_crc_ok(const uint8_t *frame, const struct frame_header *h)
{
    uint32_t crc = crc32c(0, frame, 60);

    crc = crc32c(crc, frame + FRAME_HEADER, h->length - FRAME_HEADER);
    return crc == h->crc;
}

void entry_header_write(uint8_t *dst, const struct entry_header *h)
{
    dst[0] = h->type;
    dst[1] = dst[2] = dst[3] = 0;
    le32_store(dst + 4, h->length);
    le32_store(dst + 8, h->uid);
    le32_store(dst + 12, h->records);
    le64_store(dst + 16, h->position);
    le64_store(dst + 24, (uint64_t)h->wall_ms);
}

enum err frame_entry_next(const uint8_t *frame, uint32_t length, uint32_t *off,
                          struct entry_header *h, struct slice *payload)
{
    const uint8_t *p = frame + *off;
    uint64_t room;

    if (*off == length)
        return ERR_EOF;
    if (*off > length || length - *off < ENTRY_HEADER)
        return ERR_CORRUPT_INPUT;
    h->type = p[0];
    h->length = le32_load(p + 4);
    h->uid = le32_load(p + 8);
    h->records = le32_load(p + 12);
    h->position = le64_load(p + 16);
    h->wall_ms = (int64_t)le64_load(p + 24);
    room = entry_room(h->length);
    if (p[1] | p[2] | p[3] || room > length - *off)
        return ERR_CORRUPT_INPUT;
    *payload = slice_of(p + ENTRY_HEADER, h->length);
    *off += (uint32_t)room;
    return ERR_OK;
}
