/* See js_archive.h. */
#include "proto/nats/js_archive.h"

#include <stdlib.h>

#include "base/crc32c.h"
#include "base/endian.h"

#define MAGIC        "NATSARC1"
#define FRAME_HEAD   4u
#define FRAME_CRC    4u
#define PIECE        65536u     /* of a frame that is written */
#define FRAME_MAX    (5u << 20) /* of one that is read: a block of 4 MiB, and what it may grow by */
#define INFLATED_MAX (4u << 20)
#define FRAME_S2     0x00
#define FRAME_PLAIN  0x01
#define FRAME_SKIP   0x80 /* from here on frames may be passed over */
#define FRAME_BEGINS 0xff
#define CRC_MASK     0xa282ead8u
#define VARINT_MAX   10u

/* ---- writing ---- */

static void uvarint_put(struct buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        buf_append_u8(b, (uint8_t)(v | 0x80));
    buf_append_u8(b, (uint8_t)v);
}

void jarchive_begin(struct buf *raw)
{
    buf_append_str(raw, MAGIC);
}

void jarchive_put(struct buf *raw, const struct jarchive_entry *e)
{
    uvarint_put(raw, e->name.len);
    uvarint_put(raw, (uint64_t)e->time_ns << 1 ^ (uint64_t)(e->time_ns >> 63));
    uvarint_put(raw, e->seq);
    uvarint_put(raw, e->headers.len);
    uvarint_put(raw, e->payload.len);
    buf_append_slice(raw, e->name);
    buf_append_slice(raw, e->headers);
    buf_append_slice(raw, e->payload);
}

static uint32_t masked_crc(struct slice s)
{
    uint32_t c = crc32c(0, s.ptr, s.len);

    return (c >> 15 | c << 17) + CRC_MASK;
}

static void le_put(struct buf *b, uint32_t v, unsigned bytes)
{
    for (; bytes; bytes--, v >>= 8)
        buf_append_u8(b, (uint8_t)v);
}

void jarchive_frame(struct slice raw, bool first, struct buf *out)
{
    struct slice piece;

    if (first)
        buf_append(out, "\xff\x06\x00\x00sNaPpY", 10);
    while (raw.len) {
        piece = slice_of(raw.ptr, raw.len < PIECE ? raw.len : PIECE);
        raw = slice_of(raw.ptr + piece.len, raw.len - piece.len);
        buf_append_u8(out, FRAME_PLAIN);
        le_put(out, (uint32_t)piece.len + FRAME_CRC, 3);
        le_put(out, masked_crc(piece), 4);
        buf_append_slice(out, piece);
    }
}

/* ---- blocks of S2 ---- */

struct block {
    const uint8_t *p, *end;
    uint8_t *out;
    size_t n, len; /* written; of all */
    uint32_t offset;
};

/* Little endian; false: there are not so many bytes. */
static bool le_take(struct block *b, unsigned bytes, uint32_t *out)
{
    unsigned i;

    if ((size_t)(b->end - b->p) < bytes)
        return false;
    for (*out = 0, i = 0; i < bytes; i++)
        *out |= (uint32_t)*b->p++ << 8 * i;
    return true;
}

static bool literal(struct block *b, uint8_t tag)
{
    uint32_t n = tag >> 2;

    if (n >= 60 && !le_take(b, n - 59, &n))
        return false;
    if (n >= b->len - b->n || n >= (size_t)(b->end - b->p))
        return false;
    memcpy(b->out + b->n, b->p, (size_t)n + 1);
    b->p += n + 1;
    b->n += n + 1;
    return true;
}

/* How much is copied, whence is in b->offset then; 0: it is damaged. */
static uint32_t copy_read(struct block *b, uint8_t tag)
{
    uint32_t n = tag >> 2 & 7, v;

    if ((tag & 3) == 1) {
        if (!le_take(b, 1, &v))
            return 0;
        if (((uint32_t)(tag & 0xe0) << 3 | v)) {
            b->offset = (uint32_t)(tag & 0xe0) << 3 | v;
        } else if (n >= 5) { /* as far back as before, and longer ones */
            if (!le_take(b, n - 4, &v))
                return 0;
            n = v + (n == 5 ? 4 : n == 6 ? 1u << 8 : 1u << 16);
        }
        return n + 4;
    }
    return le_take(b, (tag & 3) == 2 ? 2 : 4, &b->offset) ? (tag >> 2) + 1u : 0;
}

static bool copy(struct block *b, uint8_t tag)
{
    uint32_t n = copy_read(b, tag);

    if (!n || !b->offset || b->offset > b->n || n > b->len - b->n)
        return false;
    for (; n; n--, b->n++) /* it may copy what it writes */
        b->out[b->n] = b->out[b->n - b->offset];
    return true;
}

static bool uvarint_take(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
    unsigned i;

    for (*out = 0, i = 0; i < VARINT_MAX && *p < end; i++) {
        uint8_t c = *(*p)++;

        *out |= (uint64_t)(c & 0x7f) << 7 * i;
        if (!(c & 0x80))
            return i < VARINT_MAX - 1 || c <= 1;
    }
    return false;
}

static enum err inflate(struct slice in, struct buf *out)
{
    struct block b = {.p = in.ptr, .end = in.ptr + in.len};
    uint64_t len;
    uint8_t tag;

    if (!uvarint_take(&b.p, b.end, &len) || len > INFLATED_MAX)
        return ERR_CORRUPT_INPUT;
    if (buf_reserve(out, len))
        return ERR_TOO_LARGE;
    b.out = out->ptr + out->len;
    b.len = len;
    while (b.p < b.end) {
        tag = *b.p++;
        if (!(tag & 3 ? copy(&b, tag) : literal(&b, tag)))
            return ERR_CORRUPT_INPUT;
    }
    if (b.n != b.len)
        return ERR_CORRUPT_INPUT;
    out->len += b.n;
    return ERR_OK;
}

/* ---- reading ---- */

void jarchive_init(struct jarchive *a)
{
    *a = (struct jarchive){0};
    buf_init(&a->frames, SIZE_MAX);
    buf_init(&a->raw, SIZE_MAX);
}

void jarchive_fini(struct jarchive *a)
{
    buf_fini(&a->frames);
    buf_fini(&a->raw);
}

/* What was looked at goes, where that is worth its while. */
static void shift(struct buf *b, size_t *at)
{
    if (*at < b->len && *at < PIECE)
        return;
    if (*at < b->len)
        memmove(b->ptr, b->ptr + *at, b->len - *at);
    b->len -= *at;
    *at = 0;
}

enum err jarchive_feed(struct jarchive *a, struct slice s, size_t max)
{
    shift(&a->frames, &a->frames_at);
    if (a->frames.len - a->frames_at + s.len > max)
        return ERR_TOO_LARGE;
    return buf_append_slice(&a->frames, s);
}

static enum err frame_open(struct jarchive *a, uint8_t kind, struct slice body)
{
    size_t from;
    enum err e;

    if (kind == FRAME_BEGINS) {
        a->framed = slice_eq_str(body, "sNaPpY") || slice_eq_str(body, "S2sTwO");
        return a->framed ? ERR_OK : ERR_CORRUPT_INPUT;
    }
    if (!a->framed || (kind > FRAME_PLAIN && kind < FRAME_SKIP))
        return ERR_CORRUPT_INPUT;
    if (kind >= FRAME_SKIP)
        return ERR_OK;
    if (body.len < FRAME_CRC)
        return ERR_CORRUPT_INPUT;
    shift(&a->raw, &a->raw_at);
    from = a->raw.len;
    body = slice_of(body.ptr + FRAME_CRC, body.len - FRAME_CRC);
    e = kind == FRAME_S2 ? inflate(body, &a->raw) : buf_append_slice(&a->raw, body);
    if (!e && masked_crc(slice_of(a->raw.ptr + from, a->raw.len - from)) !=
                  le32_load(body.ptr - FRAME_CRC))
        e = ERR_CORRUPT_INPUT;
    return e;
}

/* The next frame's bytes come to raw. */
static enum err frame_next(struct jarchive *a)
{
    const uint8_t *p = a->frames.ptr + a->frames_at;
    size_t left = a->frames.len - a->frames_at, n;

    if (left < FRAME_HEAD)
        return ERR_AGAIN;
    n = p[1] | (size_t)p[2] << 8 | (size_t)p[3] << 16;
    if (n > FRAME_MAX)
        return ERR_CORRUPT_INPUT;
    if (left < FRAME_HEAD + n)
        return ERR_AGAIN;
    a->frames_at += FRAME_HEAD + n;
    return frame_open(a, p[0], slice_of(p + FRAME_HEAD, n));
}

/* From what there is in raw. */
static enum err entry_read(struct jarchive *a, struct jarchive_entry *e)
{
    const uint8_t *p = a->raw.ptr + a->raw_at, *end = a->raw.ptr + a->raw.len;
    uint64_t name, time, headers, payload;

    if (!uvarint_take(&p, end, &name) || !uvarint_take(&p, end, &time) ||
        !uvarint_take(&p, end, &e->seq) || !uvarint_take(&p, end, &headers) ||
        !uvarint_take(&p, end, &payload))
        return end - p > 0 || a->raw.len - a->raw_at > 5 * VARINT_MAX ? ERR_CORRUPT_INPUT
                                                                      : ERR_AGAIN;
    if (name > JARCHIVE_NAME_MAX || headers > JARCHIVE_ENTRY_MAX ||
        payload > JARCHIVE_ENTRY_MAX - headers)
        return ERR_TOO_LARGE;
    if ((uint64_t)(end - p) < name + headers + payload)
        return ERR_AGAIN;
    e->time_ns = (int64_t)(time >> 1 ^ -(time & 1));
    e->name = slice_of(p, name);
    e->headers = slice_of(p + name, headers);
    e->payload = slice_of(p + name + headers, payload);
    a->raw_at = (size_t)(p + name + headers + payload - a->raw.ptr);
    return ERR_OK;
}

static enum err begin_read(struct jarchive *a)
{
    if (a->raw.len - a->raw_at < sizeof MAGIC - 1)
        return ERR_AGAIN;
    if (memcmp(a->raw.ptr + a->raw_at, MAGIC, sizeof MAGIC - 1) != 0)
        return ERR_UNSUPPORTED;
    a->raw_at += sizeof MAGIC - 1;
    a->begun = true;
    return ERR_OK;
}

enum err jarchive_next(struct jarchive *a, struct jarchive_entry *e)
{
    enum err r;

    for (;;) {
        if (!a->begun && (r = begin_read(a)) == ERR_UNSUPPORTED)
            return r;
        r = a->begun ? entry_read(a, e) : ERR_AGAIN;
        if (r != ERR_AGAIN || (r = frame_next(a)))
            return r;
    }
}
