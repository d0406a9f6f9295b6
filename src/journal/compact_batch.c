/* Filtering one batch: see compact_batch.h. */
#include "journal/compact_batch.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/tbl/limits.h"
#include "base/varint.h"

#define RECORD_HEAD_MAX (1 + VARLONG_MAX + 5 * VARINT_MAX)

void batch_filter_init(struct batch_filter *f)
{
    memset(f, 0, sizeof *f);
    buf_init(&f->scratch, LIMIT_BATCH_INFLATED);
    buf_init(&f->plain, BATCH_HEADER + LIMIT_BATCH_INFLATED);
    buf_init(&f->packed, BATCH_HEADER + codec_bound(LIMIT_BATCH_INFLATED));
}

void batch_filter_fini(struct batch_filter *f)
{
    buf_fini(&f->scratch);
    buf_fini(&f->plain);
    buf_fini(&f->packed);
}

/* What the first pass over the records found out. */
struct found {
    int32_t kept;
    bool tombstones; /* among them */
    int64_t max_ts;
};

static bool horizon_passed(const struct batch_info *bi, const struct batch_rules *r)
{
    return bi->attributes & BATCH_DELETE_HORIZON && bi->base_ts <= r->now_ms;
}

static bool stays(const struct batch_info *bi, const struct record *rec,
                  const struct batch_rules *r)
{
    if (bi->attributes & BATCH_CONTROL)
        return !(r->marker_unneeded && horizon_passed(bi, r));
    if (r->drop_records || batch_removed(r, rec->offset))
        return false;
    if (slice_is_null(rec->key))
        return r->keep;
    return (r->all_keys || rec->offset >= keymap_get(r->map, rec->key)) &&
           (r->keep || !slice_is_null(rec->value) || !horizon_passed(bi, r));
}

/* ERR_EOF: all records were looked at. */
static enum err look(struct batch_filter *f, struct slice batch, const struct batch_rules *r,
                     struct found *out)
{
    struct batch_iter it;
    struct record rec;
    enum err e = batch_iter_init(&it, batch, &f->scratch);

    *out = (struct found){.max_ts = -1};
    while (!e && (e = batch_iter_next(&it, &rec)) == ERR_OK) {
        if (!stays(&it.info, &rec, r))
            continue;
        if (out->kept++ == 0 || rec.timestamp_ms > out->max_ts)
            out->max_ts = rec.timestamp_ms;
        out->tombstones = out->tombstones || slice_is_null(rec.value);
    }
    return e;
}

static size_t bytes_size(struct slice s)
{
    return s.ptr ? varint_size((int64_t)s.len) + s.len : 1;
}

static uint8_t *put_bytes(uint8_t *p, struct slice s)
{
    p += varint_write(p, s.ptr ? (int64_t)s.len : -1);
    if (s.len)
        memcpy(p, s.ptr, s.len);
    return p + s.len;
}

static enum err record_put(struct buf *b, const struct record *rec, int64_t base_offset,
                           int64_t base_ts)
{
    int64_t ts = (int64_t)((uint64_t)rec->timestamp_ms - (uint64_t)base_ts);
    int64_t delta = rec->offset - base_offset;
    size_t body = 1 + varint_size(ts) + varint_size(delta) + bytes_size(rec->key) +
                  bytes_size(rec->value) + varint_size(rec->headers_n) + rec->headers_raw.len;
    uint8_t *p;
    enum err e = buf_reserve(b, RECORD_HEAD_MAX + body);

    if (e)
        return e;
    p = b->ptr + b->len;
    p += varint_write(p, (int64_t)body);
    *p++ = 0;
    p += varint_write(p, ts);
    p += varint_write(p, delta);
    p = put_bytes(put_bytes(p, rec->key), rec->value);
    p += varint_write(p, rec->headers_n);
    if (rec->headers_raw.len)
        memcpy(p, rec->headers_raw.ptr, rec->headers_raw.len);
    b->len = (size_t)(p - b->ptr) + rec->headers_raw.len;
    return ERR_OK;
}

/* The header of `batch` with other numbers in front of the records in b, and the CRC. */
static enum err seal(struct buf *b, const uint8_t *batch, int16_t attributes, int64_t base_ts,
                     int64_t max_ts, int32_t count, struct slice *out)
{
    uint8_t *p = b->ptr;

    if (b->len > LIMIT_BATCH_BYTES)
        return ERR_TOO_LARGE;
    memcpy(p, batch, BATCH_HEADER);
    be32_store(p + 8, (uint32_t)(b->len - 12));
    be16_store(p + 21, (uint16_t)attributes);
    be64_store(p + 27, (uint64_t)base_ts);
    be64_store(p + 35, (uint64_t)max_ts);
    be32_store(p + 57, (uint32_t)count);
    be32_store(p + 17, crc32c(0, p + 21, b->len - 21));
    *out = buf_slice(b);
    return ERR_OK;
}

static enum err head_room(struct buf *b)
{
    enum err e;

    buf_clear(b);
    e = buf_reserve(b, BATCH_HEADER);
    b->len = e ? 0 : BATCH_HEADER;
    return e;
}

static enum err encode(struct batch_filter *f, struct slice batch, const struct batch_rules *r,
                       const struct found *found, int16_t attributes, int64_t base_ts,
                       struct slice *out)
{
    enum codec codec = (enum codec)(attributes & BATCH_CODEC_MASK);
    struct batch_iter it;
    struct record rec;
    struct buf *b = &f->plain;
    int64_t max_ts;
    enum err e = batch_iter_init(&it, batch, &f->scratch);

    if (!e)
        e = head_room(b);
    while (!e && (e = batch_iter_next(&it, &rec)) == ERR_OK)
        if (stays(&it.info, &rec, r))
            e = record_put(b, &rec, it.info.base_offset, base_ts);
    if (e != ERR_EOF)
        return e;
    if (codec != CODEC_NONE) {
        struct slice records = slice_of(b->ptr + BATCH_HEADER, b->len - BATCH_HEADER);

        b = &f->packed;
        if ((e = head_room(b)) || (e = codec_deflate(codec, records, b)))
            return e;
    }
    max_ts = attributes & BATCH_LOG_APPEND_TIME ? it.info.max_ts : found->max_ts;
    return seal(b, batch.ptr, attributes, base_ts, max_ts, found->kept, out);
}

/* The header alone. One that was alone before keeps its horizon. */
static enum err empty(struct batch_filter *f, struct slice batch, const struct batch_info *bi,
                      const struct batch_rules *r, struct slice *out)
{
    int16_t attributes = (int16_t)(bi->attributes & ~(BATCH_CODEC_MASK | BATCH_DELETE_HORIZON));
    int64_t base_ts = -1;
    bool before = bi->count == 0 && bi->attributes & BATCH_DELETE_HORIZON;
    enum err e;

    if (r->empty == EMPTY_DROP || (r->empty == EMPTY_PRODUCER && before && horizon_passed(bi, r)))
        return ERR_OK;
    if (bi->count == 0 && (r->empty == EMPTY_KEEP || before)) {
        *out = batch;
        return ERR_OK;
    }
    if (r->empty == EMPTY_PRODUCER) {
        attributes |= BATCH_DELETE_HORIZON;
        base_ts = r->producer_horizon_ms;
    }
    e = head_room(&f->plain);
    return e ? e : seal(&f->plain, batch.ptr, attributes, base_ts, bi->max_ts, 0, out);
}

void batch_filter(struct batch_filter *f, struct slice batch, const struct batch_rules *r,
                  struct slice *out)
{
    struct batch_info bi;
    struct found found;
    int16_t attributes;
    int64_t base_ts;
    bool horizon;
    enum err e = batch_parse(batch, &bi);

    ASSERT(!e && bi.length == batch.len); /* the log has checked it */
    *out = slice_of(batch.ptr, 0);
    e = look(f, batch, r, &found);
    attributes = bi.attributes;
    base_ts = bi.base_ts;
    horizon = !(attributes & BATCH_DELETE_HORIZON) &&
              (attributes & BATCH_CONTROL ? r->marker_unneeded : found.tombstones && !r->keep);
    if (e == ERR_EOF && found.kept == 0) {
        e = empty(f, batch, &bi, r, out);
    } else if (e == ERR_EOF && found.kept == bi.count && !horizon) {
        *out = batch;
        e = ERR_OK;
    } else if (e == ERR_EOF) {
        if (horizon) {
            attributes |= BATCH_DELETE_HORIZON;
            base_ts = r->delete_horizon_ms;
        }
        e = encode(f, batch, r, &found, attributes, base_ts, out);
    }
    if (e) { /* it does not decode, or would become too large */
        *out = batch;
        found.kept = bi.count;
    }
    f->records_in += (uint64_t)bi.count;
    f->records_out += (uint64_t)found.kept;
}
