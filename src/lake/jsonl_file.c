/* Ranges of offsets as a file of JSON lines. See jsonl.h. Lines are gathered into pieces of about a
 * MiB; a compressed file is a row of members (gzip, RFC 1952) or frames (zstd, RFC 8878), a piece
 * each, which readers take as one stream. So two files joined are a file, too. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/producer.h"
#include "lake/jsonl.h"

#define READ_BYTES  (1u << 20)
#define PIECE_BYTES (1u << 20)
/* A record is of a batch of at most LIMIT_BATCH_INFLATED bytes; base64 makes them a third more, names of
 * headers up to six times as long. */
#define LINE_MAX_BYTES (6ull * LIMIT_BATCH_INFLATED + PIECE_BYTES)

struct out {
    struct io_file *file;
    enum codec codec;
    struct buf lines, packed;
    struct record_header *header;
    uint32_t headers_cap;
    struct jsonl_made made;
};

static enum err piece_put(struct out *o, struct errinfo *info)
{
    struct slice s = buf_slice(&o->lines);
    enum err e = ERR_OK;

    if (!s.len)
        return ERR_OK;
    if (o->codec != CODEC_NONE) {
        buf_clear(&o->packed);
        e = codec_deflate(o->codec, s, &o->packed);
        if (e)
            return errinfo_set(info, e, "lines do not compress");
        s = buf_slice(&o->packed);
    }
    e = io_pwrite(o->file, s.ptr, s.len, o->made.bytes, info);
    if (!e)
        o->made.bytes += s.len;
    buf_clear(&o->lines);
    return e;
}

static enum err record_put(struct out *o, int32_t partition, const struct record *r,
                           uint64_t position, struct errinfo *info)
{
    struct jsonl_record line = {.r = r, .partition = partition, .position = position};
    enum err e;

    if (r->headers_n > o->headers_cap) {
        o->headers_cap = r->headers_n;
        o->header = xrealloc(o->header, o->headers_cap * sizeof *o->header);
    }
    if (r->headers_n) {
        e = record_headers(r, o->header, o->headers_cap, &line.headers_n);
        if (e)
            return errinfo_set(info, ERR_CORRUPT, "headers at offset %" PRId64 " do not decode",
                               r->offset);
    }
    line.headers = o->header;
    e = jsonl_line(&o->lines, &line);
    if (e)
        return errinfo_set(info, e, "the record at offset %" PRId64 " makes too long a line",
                           r->offset);
    if (!o->made.records++)
        o->made.first = r->offset;
    o->made.last = r->offset;
    return o->lines.len >= PIECE_BYTES ? piece_put(o, info) : ERR_OK;
}

static enum err batch_put(struct out *o, struct partition *p, const struct read_batch *b,
                          const struct lake_range *range, struct buf *scratch, struct errinfo *info)
{
    struct batch_iter it;
    struct record r;
    enum err e = batch_iter_init(&it, b->data, scratch);

    if (!e && ((it.info.attributes & BATCH_CONTROL) ||
               ((it.info.attributes & BATCH_TRANSACTIONAL) &&
                partition_aborted_batch(p, it.info.producer_id, b->base_offset))))
        return ERR_OK;
    while (!e && !(e = batch_iter_next(&it, &r)) && r.offset < range->to) {
        if (r.offset < range->from)
            continue;
        e = record_put(o, range->partition, &r, b->position + (uint64_t)(r.offset - b->base_offset),
                       info);
        if (e)
            return e;
    }
    return !e || e == ERR_EOF
               ? ERR_OK
               : errinfo_set(info, ERR_CORRUPT, "the batch at offset %" PRId64 " does not decode",
                             b->base_offset);
}

static enum err range_put(struct lake *l, struct out *o, struct partition *p,
                          const struct lake_range *range, struct plog_read *rd, struct buf *scratch,
                          struct errinfo *info)
{
    int64_t at = range->from;
    enum err e = ERR_OK;
    unsigned i;

    while (!e && at < range->to) {
        if (lake_stopping(l))
            return errinfo_set(info, ERR_CANCELLED, "the server stops");
        e = plog_read(partition_log(p), at, READ_BYTES, rd, info);
        if (e == ERR_OFFSET_RANGE && rd->start_offset > at) { /* deleted meanwhile */
            at = rd->start_offset;
            e = ERR_OK;
            continue;
        }
        if (e || rd->n == 0)
            break;
        for (i = 0; !e && i < rd->n && at < range->to; i++) {
            e = batch_put(o, p, &rd->batch[i], range, scratch, info);
            at = rd->batch[i].last_offset + 1;
        }
    }
    return e == ERR_OFFSET_RANGE ? ERR_OK : e; /* the log ends before: all of it was deleted */
}

static enum err ranges_put(struct lake *l, struct out *o, struct topic *topic,
                           const struct lake_range *r, uint32_t n, struct errinfo *info)
{
    struct plog_read *rd = xcalloc(1, sizeof *rd);
    struct buf scratch;
    enum err e = ERR_OK;
    uint32_t i;

    rd->patient = true;
    buf_init(&scratch, LIMIT_BATCH_INFLATED);
    for (i = 0; !e && i < n; i++) {
        struct partition *p = topic_partition(topic, r[i].partition);

        e = p ? range_put(l, o, p, &r[i], rd, &scratch, info)
              : errinfo_set(info, ERR_CORRUPT, "\"%s\" has no partition %d", topic_name(topic),
                            (int)r[i].partition);
    }
    buf_fini(&scratch);
    plog_read_release(rd);
    free(rd);
    return e;
}

enum err jsonl_write(struct lake *l, struct topic *topic, const struct lake_range *r, uint32_t n,
                     enum codec codec, const char *path, struct jsonl_made *out,
                     struct errinfo *info)
{
    struct out o = {.codec = codec};
    enum err e = io_open(io_real(), path, IO_CREATE | IO_TRUNC, &o.file, info);

    memset(out, 0, sizeof *out);
    if (e)
        return e;
    buf_init(&o.lines, LINE_MAX_BYTES);
    buf_init(&o.packed, codec_bound(LINE_MAX_BYTES));
    e = ranges_put(l, &o, topic, r, n, info);
    if (!e)
        e = piece_put(&o, info);
    io_close(&o.file);
    buf_fini(&o.lines);
    buf_fini(&o.packed);
    free(o.header);
    if (e)
        io_unlink(io_real(), path, NULL);
    else
        *out = o.made;
    return e;
}
