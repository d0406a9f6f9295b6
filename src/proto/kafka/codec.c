/* The parts of the codec that the generated one calls (see codec.h): lengths, counts, tags, splices,
 * frames and headers. Any thread, one at a time for each reader and writer. */
#include "proto/kafka/codec.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/varint.h"
#include "proto/kafka/kafka_messages.h"

/* ---- reader ---- */

void kreader_fail(struct kreader *r, enum err e)
{
    if (!r->err)
        r->err = e;
    r->p = r->end;
}

uint32_t kreader_uvarint(struct kreader *r)
{
    uint64_t v = 0;
    size_t n;

    if (r->p != r->end && *r->p < 0x80)
        return *r->p++;
    n = uvarint_read(r->p, kreader_left(r), VARINT_MAX, &v);
    if (n == 0 || v > UINT32_MAX) {
        kreader_fail(r, ERR_CORRUPT_INPUT);
        return 0;
    }
    r->p += n;
    return (uint32_t)v;
}

/* A compact length or count: one more than it is, 0 for null (-1). */
static int64_t compact(struct kreader *r)
{
    return (int64_t)kreader_uvarint(r) - 1;
}

/* A null length after an error is as good as any: the error stays. */
static struct slice take(struct kreader *r, int64_t len, int64_t max, bool nullable)
{
    struct slice s = SLICE_NULL;

    if (len == -1 && nullable)
        return s;
    if (len < 0 || len > max || (size_t)len > kreader_left(r)) {
        kreader_fail(r, ERR_CORRUPT_INPUT);
        return s;
    }
    s = slice_of(r->p, (size_t)len);
    r->p += len;
    return s;
}

struct slice kreader_string(struct kreader *r, bool flex, bool nullable)
{
    return take(r, flex ? compact(r) : kreader_i16(r), KAFKA_STRING_MAX, nullable);
}

struct slice kreader_bytes(struct kreader *r, bool flex, bool nullable)
{
    return take(r, flex ? compact(r) : kreader_i32(r), INT32_MAX, nullable);
}

struct kafka_records kreader_records(struct kreader *r, bool flex, bool nullable)
{
    return (struct kafka_records){.bytes = kreader_bytes(r, flex, nullable)};
}

uint32_t kreader_count(struct kreader *r, bool flex, bool nullable, size_t size_min, bool *null)
{
    int64_t n = flex ? compact(r) : kreader_i32(r);

    if (n == -1 && nullable) {
        *null = true;
        return 0;
    }
    if (null)
        *null = false;
    if (n < 0 || n > INT32_MAX || (uint64_t)n * size_min > kreader_left(r)) {
        kreader_fail(r, ERR_CORRUPT_INPUT);
        return 0;
    }
    return (uint32_t)n;
}

void *kreader_alloc(struct kreader *r, struct arena *a, uint32_t n, size_t size)
{
    size_t bytes = n * size; /* n is at most INT32_MAX, size that of a struct */
    void *p;

    if (n == 0 || r->err)
        return NULL;
    if (bytes > r->arena_left || !(p = arena_alloc(a, bytes))) {
        kreader_fail(r, ERR_TOO_LARGE);
        return NULL;
    }
    r->arena_left -= bytes;
    return p;
}

int8_t *kreader_i8s(struct kreader *r, struct arena *a, uint32_t n)
{
    int8_t *v = kreader_alloc(r, a, n, sizeof *v);

    if (v && kreader_need(r, n)) {
        memcpy(v, r->p, n);
        r->p += n;
    }
    return v;
}

#define KREADER_INTS(name, bits)                                                  \
    int##bits##_t *kreader_##name(struct kreader *r, struct arena *a, uint32_t n) \
    {                                                                             \
        int##bits##_t *v = kreader_alloc(r, a, n, sizeof *v);                     \
        uint32_t i;                                                               \
                                                                                  \
        if (v && kreader_need(r, (size_t)n * (bits / 8)))                         \
            for (i = 0; i < n; i++, r->p += bits / 8)                             \
                v[i] = (int##bits##_t)be##bits##_load(r->p);                      \
        return v;                                                                 \
    }
KREADER_INTS(i16s, 16)
KREADER_INTS(i32s, 32)
KREADER_INTS(i64s, 64)
#undef KREADER_INTS

struct slice *kreader_strings(struct kreader *r, struct arena *a, uint32_t n, bool flex)
{
    struct slice *v = kreader_alloc(r, a, n, sizeof *v);
    uint32_t i;

    for (i = 0; i < n && !r->err; i++)
        v[i] = kreader_string(r, flex, false);
    return v;
}

void kreader_tags_open(struct kreader *r, struct kreader_tags *t)
{
    t->left = kreader_uvarint(r);
    t->end = r->end;
    t->tag = -1;
}

bool kreader_tag_next(struct kreader *r, struct kreader_tags *t)
{
    uint32_t tag, len;

    if (t->tag >= 0 && r->p != r->end)
        kreader_fail(r, ERR_CORRUPT_INPUT); /* the value is shorter than its length */
    r->end = t->end;
    if (r->err)
        r->p = r->end;
    if (t->left == 0 || r->err)
        return false;
    t->left--;
    tag = kreader_uvarint(r);
    len = kreader_uvarint(r);
    if ((int64_t)tag <= t->tag || len > kreader_left(r))
        kreader_fail(r, ERR_CORRUPT_INPUT);
    if (r->err)
        return false;
    t->tag = tag;
    r->end = r->p + len;
    return true;
}

void kreader_tags_skip(struct kreader *r)
{
    struct kreader_tags t;

    if (r->p != r->end && *r->p == 0) { /* nearly always */
        r->p++;
        return;
    }
    for (kreader_tags_open(r, &t); kreader_tag_next(r, &t);)
        kreader_tag_skip(r);
}

/* ---- writer ---- */

void kwriter_init(struct kwriter *w, size_t max)
{
    *w = (struct kwriter){.max = max};
    buf_init(&w->buf, max);
}

void kwriter_fini(struct kwriter *w)
{
    buf_fini(&w->buf);
    free(w->splices);
    w->splices = NULL;
    w->splices_n = w->splices_cap = 0;
}

void kwriter_clear(struct kwriter *w)
{
    buf_clear(&w->buf);
    w->splices_n = w->frame_splices = 0;
    w->spliced = w->frame_spliced = w->frame_at = 0;
    w->err = ERR_OK;
}

void kwriter_fail(struct kwriter *w, enum err e)
{
    if (!w->err)
        w->err = e;
}

bool kwriter_grow(struct kwriter *w, size_t n)
{
    enum err e = buf_reserve(&w->buf, n);

    if (e)
        kwriter_fail(w, e);
    return e == ERR_OK;
}

void kwriter_begin(struct kwriter *w)
{
    w->frame_at = w->buf.len;
    w->frame_splices = w->splices_n;
    w->frame_spliced = w->spliced;
    w->err = ERR_OK;
    kwriter_i32(w, 0);
}

enum err kwriter_end(struct kwriter *w)
{
    size_t len = kwriter_size(w) - w->frame_at - w->frame_spliced;
    enum err e = w->err;

    if (!e && (kwriter_size(w) > w->max || len - 4 > INT32_MAX))
        e = ERR_TOO_LARGE;
    if (e) {
        w->buf.len = w->frame_at;
        w->splices_n = w->frame_splices;
        w->spliced = w->frame_spliced;
        w->err = ERR_OK;
        return e;
    }
    be32_store(w->buf.ptr + w->frame_at, (uint32_t)(len - 4));
    return ERR_OK;
}

bool kwriter_part(const struct kwriter *w, struct kwriter_cursor *c, struct kwriter_part *part)
{
    const struct kwriter_splice *s = c->splice < w->splices_n ? &w->splices[c->splice] : NULL;
    size_t end = s ? s->at : w->buf.len;

    if (c->at < end) {
        *part = (struct kwriter_part){.bytes = slice_of(w->buf.ptr + c->at, end - c->at)};
        c->at = end;
        return true;
    }
    if (!s)
        return false;
    *part = (struct kwriter_part){s->span.bytes, s->span.owner, true};
    c->splice++;
    return true;
}

enum err kwriter_flatten(const struct kwriter *w, struct buf *out)
{
    struct kwriter_cursor c = {0};
    struct kwriter_part part;
    enum err e = ERR_OK;

    while (!e && kwriter_part(w, &c, &part))
        e = buf_append_slice(out, part.bytes);
    return e;
}

void kwriter_uvarint(struct kwriter *w, uint32_t v)
{
    if (kwriter_room(w, uvarint_size(v)))
        w->buf.len += uvarint_write(w->buf.ptr + w->buf.len, v);
}

static void put(struct kwriter *w, struct slice s)
{
    if (s.len && kwriter_room(w, s.len)) {
        memcpy(w->buf.ptr + w->buf.len, s.ptr, s.len);
        w->buf.len += s.len;
    }
}

void kwriter_string(struct kwriter *w, struct slice s, bool flex)
{
    if (s.len > KAFKA_STRING_MAX) {
        kwriter_fail(w, ERR_INVALID);
        return;
    }
    if (flex)
        kwriter_uvarint(w, (uint32_t)s.len + 1);
    else
        kwriter_i16(w, (int16_t)s.len);
    put(w, s);
}

/* The length of bytes or records; false: too many. */
static bool put_length(struct kwriter *w, size_t len, bool flex)
{
    if (len > INT32_MAX) {
        kwriter_fail(w, ERR_TOO_LARGE);
        return false;
    }
    if (flex)
        kwriter_uvarint(w, (uint32_t)len + 1);
    else
        kwriter_i32(w, (int32_t)len);
    return true;
}

void kwriter_bytes(struct kwriter *w, struct slice s, bool flex)
{
    if (put_length(w, s.len, flex))
        put(w, s);
}

/* A null string has 16 bits where it is not compact, all else 32. */
static void put_null(struct kwriter *w, bool flex, bool nullable, bool string)
{
    if (!nullable)
        kwriter_fail(w, ERR_INVALID);
    else if (flex)
        kwriter_i8(w, 0);
    else if (string)
        kwriter_i16(w, -1);
    else
        kwriter_i32(w, -1);
}

void kwriter_string_null(struct kwriter *w, struct slice s, bool flex, bool nullable)
{
    if (slice_is_null(s))
        put_null(w, flex, nullable, true);
    else
        kwriter_string(w, s, flex);
}

void kwriter_bytes_null(struct kwriter *w, struct slice s, bool flex, bool nullable)
{
    if (slice_is_null(s))
        put_null(w, flex, nullable, false);
    else
        kwriter_bytes(w, s, flex);
}

static void splice(struct kwriter *w, struct kafka_span span)
{
    if (span.bytes.len <= w->inline_max) {
        put(w, span.bytes);
        return;
    }
    if (w->splices_n == KAFKA_SPLICES_MAX) {
        kwriter_fail(w, ERR_TOO_LARGE);
        return;
    }
    if (w->splices_n == w->splices_cap) {
        w->splices_cap = w->splices_cap ? w->splices_cap * 2 : 16;
        w->splices = xrealloc(w->splices, w->splices_cap * sizeof *w->splices);
    }
    w->splices[w->splices_n++] = (struct kwriter_splice){w->buf.len, span};
    w->spliced += span.bytes.len;
}

void kwriter_records(struct kwriter *w, const struct kafka_records *s, bool flex, bool nullable)
{
    size_t len = s->spans_n ? 0 : s->bytes.len;
    uint32_t i;

    if (s->spans_n == 0 && slice_is_null(s->bytes) && nullable) {
        put_null(w, flex, true, false);
        return;
    }
    for (i = 0; i < s->spans_n; i++)
        len += s->spans[i].bytes.len;
    if (!put_length(w, len, flex))
        return;
    for (i = 0; i < s->spans_n; i++)
        if (s->spans[i].bytes.len)
            splice(w, s->spans[i]);
    if (s->spans_n == 0 && len)
        splice(w, (struct kafka_span){s->bytes, NULL});
}

void kwriter_made(struct kwriter *w, struct slice s)
{
    if (s.len)
        splice(w, (struct kafka_span){s, NULL});
}

uint32_t kwriter_count(struct kwriter *w, uint32_t n, bool flex)
{
    return put_length(w, n, flex) ? n : 0;
}

uint32_t kwriter_count_null(struct kwriter *w, uint32_t n, bool null, bool flex, bool nullable)
{
    if (!null)
        return kwriter_count(w, n, flex);
    put_null(w, flex, nullable, false);
    return 0;
}

void kwriter_i8s(struct kwriter *w, const int8_t *v, uint32_t n)
{
    put(w, slice_of(v, n));
}

#define KWRITER_INTS(name, bits)                                               \
    void kwriter_##name(struct kwriter *w, const int##bits##_t *v, uint32_t n) \
    {                                                                          \
        uint32_t i;                                                            \
                                                                               \
        if (!kwriter_room(w, (size_t)n * (bits / 8)))                          \
            return;                                                            \
        for (i = 0; i < n; i++, w->buf.len += bits / 8)                        \
            be##bits##_store(w->buf.ptr + w->buf.len, (uint##bits##_t)v[i]);   \
    }
KWRITER_INTS(i16s, 16)
KWRITER_INTS(i32s, 32)
KWRITER_INTS(i64s, 64)
#undef KWRITER_INTS

void kwriter_strings(struct kwriter *w, const struct slice *v, uint32_t n, bool flex)
{
    uint32_t i;

    for (i = 0; i < n; i++)
        kwriter_string(w, v[i], flex);
}

/* One byte is left for the length: few values need more, and then they are moved. */
size_t kwriter_tag_open(struct kwriter *w, uint32_t tag)
{
    kwriter_uvarint(w, tag);
    kwriter_i8(w, 0);
    return w->buf.len;
}

void kwriter_tag_close(struct kwriter *w, size_t at)
{
    size_t len = w->buf.len - at, more;
    uint8_t length[VARLONG_MAX];

    if (w->err)
        return;
    if (len > INT32_MAX) {
        kwriter_fail(w, ERR_TOO_LARGE);
        return;
    }
    more = uvarint_write(length, len) - 1;
    if (!kwriter_room(w, more))
        return;
    memmove(w->buf.ptr + at + more, w->buf.ptr + at, len);
    memcpy(w->buf.ptr + at - 1, length, more + 1);
    w->buf.len += more;
}

/* ---- around a message ---- */

const struct kafka_api *kafka_api_find(int16_t key)
{
    size_t lo = 0, hi = kafka_apis_n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (kafka_apis[mid].key == key)
            return &kafka_apis[mid];
        if (kafka_apis[mid].key < key)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

int16_t kafka_request_header_version(const struct kafka_api *api, int16_t version)
{
    return version >= api->flexible ? 2 : 1;
}

int16_t kafka_response_header_version(const struct kafka_api *api, int16_t version)
{
    return version >= api->flexible && api->key != KAFKA_API_API_VERSIONS;
}

enum err kafka_request_open(struct kreader *r, struct arena *a, struct kafka_request_header *h,
                            const struct kafka_api **api)
{
    struct kreader peek = *r;

    kafka_request_header_init(h);
    h->request_api_key = kreader_i16(&peek);
    h->request_api_version = kreader_i16(&peek);
    h->correlation_id = kreader_i32(&peek);
    *api = peek.err ? NULL : kafka_api_find(h->request_api_key);
    if (peek.err)
        return peek.err;
    if (!*api || !kafka_api_has(*api, h->request_api_version))
        return ERR_UNSUPPORTED;
    return kafka_request_header_decode(
        r, kafka_request_header_version(*api, h->request_api_version), a, h);
}

void kafka_request_begin(struct kwriter *w, const struct kafka_api *api, int16_t version,
                         int32_t correlation_id, struct slice client_id)
{
    struct kafka_request_header h = {.request_api_key = api->key,
                                     .request_api_version = version,
                                     .correlation_id = correlation_id,
                                     .client_id = client_id};

    kwriter_begin(w);
    kafka_request_header_encode(w, kafka_request_header_version(api, version), &h);
}

void kafka_response_begin(struct kwriter *w, const struct kafka_api *api, int16_t version,
                          int32_t correlation_id)
{
    struct kafka_response_header h = {.correlation_id = correlation_id};

    kwriter_begin(w);
    kafka_response_header_encode(w, kafka_response_header_version(api, version), &h);
}
