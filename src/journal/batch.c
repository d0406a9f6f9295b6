/* Record batches: parsing, walking, building. See batch.h for the bytes.
 *
 * A record: varint length of what follows; i8 attributes (0); varlong timestamp delta; varint
 * offset delta; varint key length (-1 null), key; varint value length (-1 null), value; varint
 * headers, each: varint key length, key, varint value length (-1 null), value. */
#include "journal/batch.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/tbl/limits.h"
#include "base/varint.h"

enum err batch_parse(struct slice d, struct batch_info *o)
{
    uint32_t len;

    if (d.len < BATCH_HEADER)
        return ERR_EOF;
    len = be32_load(d.ptr + 8);
    if (len < BATCH_HEADER - 12 || len > LIMIT_BATCH_BYTES - 12 || d.ptr[16] != 2)
        return ERR_CORRUPT_INPUT;
    o->base_offset = (int64_t)be64_load(d.ptr);
    o->length = len + 12;
    o->leader_epoch = (int32_t)be32_load(d.ptr + 12);
    o->crc = be32_load(d.ptr + 17);
    o->attributes = (int16_t)be16_load(d.ptr + 21);
    o->last_offset_delta = (int32_t)be32_load(d.ptr + 23);
    o->base_ts = (int64_t)be64_load(d.ptr + 27);
    o->max_ts = (int64_t)be64_load(d.ptr + 35);
    o->producer_id = (int64_t)be64_load(d.ptr + 43);
    o->producer_epoch = (int16_t)be16_load(d.ptr + 51);
    o->base_sequence = (int32_t)be32_load(d.ptr + 53);
    o->count = (int32_t)be32_load(d.ptr + 57);
    if (o->last_offset_delta < 0 || o->count < 0 || o->base_offset < 0 ||
        o->base_offset > INT64_MAX - LIMIT_BATCH_RECORDS * 16 ||
        o->last_offset_delta >= (int32_t)LIMIT_BATCH_RECORDS * 16 ||
        o->count > o->last_offset_delta + 1 || (o->attributes & BATCH_CODEC_MASK) >= CODEC_N)
        return ERR_CORRUPT_INPUT;
    return d.len < o->length ? ERR_EOF : ERR_OK;
}

bool batch_crc_ok(struct slice b)
{
    return b.len >= BATCH_HEADER && crc32c(0, b.ptr + 21, b.len - 21) == be32_load(b.ptr + 17);
}

bool batch_producer_ok(const struct batch_info *bi)
{
    return bi->producer_id < 0 ||
           (bi->producer_epoch >= 0 && (bi->base_sequence >= 0 || bi->attributes & BATCH_CONTROL));
}

void batch_set_base_offset(uint8_t *batch, int64_t offset)
{
    be64_store(batch, (uint64_t)offset);
}

void batch_set_leader_epoch(uint8_t *batch, int32_t epoch)
{
    be32_store(batch + 12, (uint32_t)epoch);
}

/* ---- walking ---- */

enum err batch_iter_init(struct batch_iter *it, struct slice batch, struct buf *scratch)
{
    enum err e = batch_parse(batch, &it->info);
    enum codec codec;

    if (e)
        return e;
    codec = (enum codec)(it->info.attributes & BATCH_CODEC_MASK);
    it->left = it->info.count;
    it->rest = slice_of(batch.ptr + BATCH_HEADER, it->info.length - BATCH_HEADER);
    if (codec == CODEC_NONE || it->rest.len == 0)
        return ERR_OK;
    buf_clear(scratch);
    e = codec_inflate(codec, it->rest, scratch);
    it->rest = buf_slice(scratch);
    return e;
}

/* Takes a varint-prefixed run; -1 gives NULL if allowed. */
static bool take_bytes(struct slice *s, bool nullable, struct slice *out)
{
    int32_t len;
    size_t n = varint_read(s->ptr, s->len, &len);

    if (n == 0 || len < -1 || (len == -1 && !nullable))
        return false;
    s->ptr += n;
    s->len -= n;
    if (len == -1) {
        *out = SLICE_NULL;
        return true;
    }
    if ((size_t)len > s->len)
        return false;
    *out = slice_of(s->ptr, (size_t)len);
    s->ptr += len;
    s->len -= (size_t)len;
    return true;
}

static bool take_varint(struct slice *s, int32_t *v)
{
    size_t n = varint_read(s->ptr, s->len, v);

    s->ptr += n;
    s->len -= n;
    return n > 0;
}

enum err batch_iter_next(struct batch_iter *it, struct record *r)
{
    struct slice body;
    int32_t delta, headers;
    int64_t ts;
    size_t n;

    if (it->left == 0)
        return it->rest.len ? ERR_CORRUPT_INPUT : ERR_EOF;
    if (!take_bytes(&it->rest, false, &body) || body.len < 1)
        return ERR_CORRUPT_INPUT;
    body.ptr++;
    body.len--;
    n = varlong_read(body.ptr, body.len, &ts);
    if (n == 0)
        return ERR_CORRUPT_INPUT;
    body.ptr += n;
    body.len -= n;
    if (!take_varint(&body, &delta) || !take_bytes(&body, true, &r->key) ||
        !take_bytes(&body, true, &r->value) || !take_varint(&body, &headers))
        return ERR_CORRUPT_INPUT;
    if (delta < 0 || delta > it->info.last_offset_delta || headers < 0 ||
        (size_t)headers > body.len / 2)
        return ERR_CORRUPT_INPUT;
    r->offset = it->info.base_offset + delta;
    r->timestamp_ms = it->info.attributes & BATCH_LOG_APPEND_TIME
                          ? it->info.max_ts
                          : (int64_t)((uint64_t)it->info.base_ts + (uint64_t)ts);
    r->headers_raw = body;
    r->headers_n = (uint32_t)headers;
    it->left--;
    return headers || body.len == 0 ? ERR_OK : ERR_CORRUPT_INPUT;
}

enum err record_headers(const struct record *r, struct record_header *out, uint32_t max,
                        uint32_t *n)
{
    struct slice s = r->headers_raw;
    struct record_header h;
    uint32_t i;

    *n = 0;
    for (i = 0; i < r->headers_n; i++) {
        if (!take_bytes(&s, false, &h.key) || !take_bytes(&s, true, &h.value))
            return ERR_CORRUPT_INPUT;
        if (i < max)
            out[(*n)++] = h;
    }
    return s.len ? ERR_CORRUPT_INPUT : ERR_OK;
}

enum err batch_validate(struct slice batch, struct buf *scratch)
{
    struct batch_iter it;
    struct record r;
    uint32_t n;
    int64_t want;
    enum err e = batch_iter_init(&it, batch, scratch);

    if (e)
        return e;
    if (it.info.length != batch.len || !batch_crc_ok(batch) || it.info.count < 1 ||
        it.info.count != it.info.last_offset_delta + 1)
        return ERR_CORRUPT_INPUT;
    want = it.info.base_offset;
    while ((e = batch_iter_next(&it, &r)) == ERR_OK) {
        if (r.offset != want++ || r.headers_n > LIMIT_RECORD_HEADERS)
            return ERR_CORRUPT_INPUT;
        if ((e = record_headers(&r, NULL, 0, &n)))
            return e;
    }
    return e == ERR_EOF ? ERR_OK : e;
}

/* ---- building ---- */

void batch_builder_init(struct batch_builder *b, enum codec codec, size_t bytes_max)
{
    ASSERT(bytes_max > BATCH_HEADER && bytes_max <= BATCH_HEADER + LIMIT_BATCH_INFLATED);
    memset(b, 0, sizeof *b);
    buf_init(&b->buf, bytes_max);
    buf_init(&b->packed, BATCH_HEADER + codec_bound(bytes_max));
    b->codec = codec;
    batch_builder_reset(b);
}

void batch_builder_fini(struct batch_builder *b)
{
    buf_fini(&b->buf);
    buf_fini(&b->packed);
}

void batch_builder_reset(struct batch_builder *b)
{
    buf_clear(&b->buf);
    b->count = 0;
    b->base_ts = b->max_ts = -1;
}

size_t record_size_max(struct slice key, struct slice value, const struct record_header *h,
                       uint32_t n)
{
    size_t size = 1 + VARLONG_MAX + 5 * VARINT_MAX + key.len + value.len;
    uint32_t i;

    for (i = 0; i < n; i++)
        size += 2 * VARINT_MAX + h[i].key.len + h[i].value.len;
    return size;
}

static size_t bytes_size(struct slice s)
{
    return s.ptr ? varint_size((int64_t)s.len) + s.len : 1;
}

static uint8_t *put_bytes(uint8_t *p, struct slice s)
{
    if (!s.ptr) {
        *p++ = 1; /* zigzag of -1 */
        return p;
    }
    p += varint_write(p, (int64_t)s.len);
    if (s.len)
        memcpy(p, s.ptr, s.len);
    return p + s.len;
}

static size_t body_size(int64_t ts_delta, int32_t delta, struct slice key, struct slice value,
                        const struct record_header *h, uint32_t n)
{
    size_t size = 1 + varint_size(ts_delta) + varint_size(delta) + bytes_size(key) +
                  bytes_size(value) + varint_size(n);
    uint32_t i;

    for (i = 0; i < n; i++)
        size += bytes_size(h[i].key) + bytes_size(h[i].value);
    return size;
}

enum err batch_builder_add(struct batch_builder *b, int64_t ts, struct slice key,
                           struct slice value, const struct record_header *h, uint32_t n,
                           int32_t *index)
{
    int64_t ts_delta = b->count ? (int64_t)((uint64_t)ts - (uint64_t)b->base_ts) : 0;
    size_t body, head = b->count ? 0 : BATCH_HEADER;
    uint8_t *p;
    uint32_t i;

    if (n > LIMIT_RECORD_HEADERS || b->count >= (int32_t)LIMIT_BATCH_RECORDS ||
        key.len > LIMIT_BATCH_INFLATED || value.len > LIMIT_BATCH_INFLATED)
        return ERR_TOO_LARGE;
    body = body_size(ts_delta, b->count, key, value, h, n);
    if (buf_reserve(&b->buf, head + varint_size((int64_t)body) + body))
        return ERR_TOO_LARGE;
    b->buf.len += head;
    p = b->buf.ptr + b->buf.len;
    p += varint_write(p, (int64_t)body);
    *p++ = 0;
    p += varint_write(p, ts_delta);
    p += varint_write(p, b->count);
    p = put_bytes(p, key);
    p = put_bytes(p, value);
    p += varint_write(p, n);
    for (i = 0; i < n; i++)
        p = put_bytes(put_bytes(p, h[i].key), h[i].value);
    b->buf.len = (size_t)(p - b->buf.ptr);
    if (b->count == 0)
        b->base_ts = b->max_ts = ts;
    if (ts > b->max_ts)
        b->max_ts = ts;
    if (index)
        *index = b->count;
    b->count++;
    return ERR_OK;
}

/* Compresses the records if that makes them smaller; *out is the whole batch then. */
static bool pack(struct batch_builder *b, struct buf **out)
{
    struct slice records = slice_of(b->buf.ptr + BATCH_HEADER, b->buf.len - BATCH_HEADER);

    if (b->codec == CODEC_NONE)
        return false;
    buf_clear(&b->packed);
    if (buf_append(&b->packed, b->buf.ptr, BATCH_HEADER) ||
        codec_deflate(b->codec, records, &b->packed) || b->packed.len >= b->buf.len)
        return false;
    *out = &b->packed;
    return true;
}

enum err batch_builder_finish(struct batch_builder *b, int16_t attributes, int64_t producer_id,
                              int16_t producer_epoch, int32_t base_sequence, struct slice *out)
{
    struct buf *buf = &b->buf;
    uint8_t *p;

    ASSERT(b->count > 0);
    attributes = (int16_t)(attributes & ~BATCH_CODEC_MASK);
    if (pack(b, &buf))
        attributes = (int16_t)(attributes | (int16_t)b->codec);
    p = buf->ptr;
    be64_store(p, 0);
    be32_store(p + 8, (uint32_t)(buf->len - 12));
    be32_store(p + 12, UINT32_MAX);
    p[16] = 2;
    be16_store(p + 21, (uint16_t)attributes);
    be32_store(p + 23, (uint32_t)(b->count - 1));
    be64_store(p + 27, (uint64_t)b->base_ts);
    be64_store(p + 35, (uint64_t)b->max_ts);
    be64_store(p + 43, (uint64_t)producer_id);
    be16_store(p + 51, (uint16_t)producer_epoch);
    be32_store(p + 53, (uint32_t)base_sequence);
    be32_store(p + 57, (uint32_t)b->count);
    be32_store(p + 17, crc32c(0, p + 21, buf->len - 21));
    *out = buf_slice(buf);
    return ERR_OK;
}
