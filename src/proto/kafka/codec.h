/* Kafka's wire format: the reader and the writer that the generated codec (kafka_messages.h, made by
 * gen.py from messages/) is written in, and what stands around a message: frame length and headers.
 *
 * Reading. A kreader walks one frame without its length. Everything decoded borrows from the frame:
 * strings, bytes and records are slices of it; arrays and nullable structs are in the arena that the
 * caller gives. An array is allocated only after its count was checked against the bytes left (count
 * * smallest encoding of an element), and all arrays of a message together take at most arena_max
 * bytes. Errors stick: after the first one reading gives zeros, and the decode function returns it:
 *   ERR_CORRUPT_INPUT  ends early, a count or length that does not fit, null where there is none,
 *                      tags that do not ascend, a tag whose value does not fill its length
 *   ERR_TOO_LARGE      past arena_max or the arena's own maximum
 *   ERR_UNSUPPORTED    not a version of this message
 * and the message is as after its init function. Bytes behind the message are not an error:
 * kreader_left says how many. Strings are not checked to be UTF-8. Unknown tags are skipped.
 *
 * Writing. A kwriter owns a buffer; record batches are not copied into it but noted as splices: the
 * caller keeps their memory until the frame was sent, and sends the parts that kwriter_part gives.
 * Errors stick, too:
 *   ERR_INVALID      a value that this version has no room for (Kafka: UnsupportedVersionException),
 *                    null where this version has none, a string beyond 32,767 bytes
 *   ERR_TOO_LARGE    past the writer's maximum
 *   ERR_UNSUPPORTED  not a version of this message
 * A field that is absent in a version and marked `ignorable` in the schema is left out in silence.
 *
 * Null, in both directions:
 *   string, bytes    slice whose ptr is NULL. Where no version of the field is nullable NULL is
 *                    written as empty; where only other versions are, it is ERR_INVALID.
 *   array x          bool x_null beside x and x_n, only where some version has null
 *   struct x         where some version has null: a pointer, NULL is null
 *   records          see struct kafka_records
 * A struct of zeros has empty strings and arrays; the init functions set the protocol's defaults
 * (such as -1), which decoding also gives to fields that a version does not have.
 *
 *   struct kafka_fetch_request q;                          struct kafka_heartbeat_response s;
 *   kreader_init(&r, frame, arena_max);                    kafka_heartbeat_response_init(&s);
 *   e = kafka_request_open(&r, &arena, &head, &api);       s.error_code = 27;
 *   e = kafka_fetch_request_decode(&r,                     kafka_response_begin(&w, api, v, id);
 *           head.request_api_version, &arena, &q);         kafka_heartbeat_response_encode(&w, v, &s);
 *   if (kreader_left(&r)) …                                e = kwriter_end(&w);
 *
 * A reader and a writer have one thread at a time. Source: Kafka's protocol guide, KIP-482 (flexible
 * versions, tagged fields), KIP-511 (ApiVersions). */
#ifndef WEIR_PROTO_KAFKA_CODEC_H
#define WEIR_PROTO_KAFKA_CODEC_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/endian.h"
#include "base/err.h"
#include "base/slice.h"

#define KAFKA_STRING_MAX  32767u     /* bytes: a length was an int16 once, and still must fit */
#define KAFKA_SPLICES_MAX (1u << 20) /* runs of records in a writer; 40 bytes each */

/* ---- records ---- */

/* A run of record batches, and whatever the caller needs to find its owner again. */
struct kafka_span {
    struct slice bytes;
    void *owner;
};
/* Record batches. spans_n == 0: `bytes`, null if its ptr is NULL; that is what decoding gives.
 * Otherwise the spans, one behind the other. The writer borrows them all. */
struct kafka_records {
    struct slice bytes;
    const struct kafka_span *spans;
    uint32_t spans_n;
};

/* ---- reader ---- */

struct kreader {
    const uint8_t *p, *end;
    size_t arena_left; /* bytes that the arrays still may take */
    enum err err;
};

/* bytes is borrowed as long as what is decoded from it. */
static inline void kreader_init(struct kreader *r, struct slice bytes, size_t arena_max)
{
    *r = (struct kreader){bytes.ptr, bytes.len ? bytes.ptr + bytes.len : bytes.ptr, arena_max,
                          ERR_OK};
}
static inline size_t kreader_left(const struct kreader *r)
{
    return (size_t)(r->end - r->p);
}
/* The first error stays. */
void kreader_fail(struct kreader *r, enum err e);
/* Are there n more bytes? If not it fails. */
static inline bool kreader_need(struct kreader *r, size_t n)
{
    if (__builtin_expect(kreader_left(r) >= n, 1))
        return true;
    kreader_fail(r, ERR_CORRUPT_INPUT);
    return false;
}

#define KREADER_INT(name, type, bits)                    \
    static inline type kreader_##name(struct kreader *r) \
    {                                                    \
        type v;                                          \
        if (!kreader_need(r, bits / 8))                  \
            return 0;                                    \
        v = (type)be##bits##_load(r->p);                 \
        r->p += bits / 8;                                \
        return v;                                        \
    }
KREADER_INT(i16, int16_t, 16)
KREADER_INT(u16, uint16_t, 16)
KREADER_INT(i32, int32_t, 32)
KREADER_INT(i64, int64_t, 64)
#undef KREADER_INT

static inline int8_t kreader_i8(struct kreader *r)
{
    return kreader_need(r, 1) ? (int8_t)*r->p++ : 0;
}
static inline bool kreader_bool(struct kreader *r)
{
    return kreader_i8(r) != 0;
}
static inline double kreader_f64(struct kreader *r)
{
    int64_t bits = kreader_i64(r);
    double v;

    memcpy(&v, &bits, sizeof v);
    return v;
}
static inline void kreader_uuid(struct kreader *r, uint8_t out[16])
{
    if (kreader_need(r, 16)) {
        memcpy(out, r->p, 16);
        r->p += 16;
    }
}
/* At most 32 bits, in at most 5 bytes. */
uint32_t kreader_uvarint(struct kreader *r);
/* flex: compact, as flexible versions have it. nullable: null is allowed in this version. */
struct slice kreader_string(struct kreader *r, bool flex, bool nullable);
struct slice kreader_bytes(struct kreader *r, bool flex, bool nullable);
struct kafka_records kreader_records(struct kreader *r, bool flex, bool nullable);
/* The count of an array whose elements have at least size_min bytes each: that many are there, or it
 * fails. null may be NULL if there is no null in any version. */
uint32_t kreader_count(struct kreader *r, bool flex, bool nullable, size_t size_min, bool *null);
/* Room for n elements of the given size in the arena, not zeroed; NULL if n is 0 or it failed. */
void *kreader_alloc(struct kreader *r, struct arena *a, uint32_t n, size_t size);
int8_t *kreader_i8s(struct kreader *r, struct arena *a, uint32_t n);
int16_t *kreader_i16s(struct kreader *r, struct arena *a, uint32_t n);
int32_t *kreader_i32s(struct kreader *r, struct arena *a, uint32_t n);
int64_t *kreader_i64s(struct kreader *r, struct arena *a, uint32_t n);
struct slice *kreader_strings(struct kreader *r, struct arena *a, uint32_t n, bool flex);
/* Reads over tagged fields none of which is known. */
void kreader_tags_skip(struct kreader *r);
/* A walk over tagged fields: each kreader_tag_next that is true makes the value the whole input, until
 * the next one checks that it was used up (or skipped by kreader_tag_skip). */
struct kreader_tags {
    const uint8_t *end; /* of the reader, while a value is the input */
    uint32_t left;
    int64_t tag; /* present one */
};
void kreader_tags_open(struct kreader *r, struct kreader_tags *t);
bool kreader_tag_next(struct kreader *r, struct kreader_tags *t);
static inline void kreader_tag_skip(struct kreader *r)
{
    r->p = r->end;
}

/* ---- writer ---- */

struct kwriter_splice {
    size_t at; /* bytes of the buffer that come before */
    struct kafka_span span;
};

struct kwriter {
    struct buf buf;
    struct kwriter_splice *splices;
    uint32_t splices_n, splices_cap;
    size_t spliced;    /* their bytes */
    size_t max;        /* bytes of the buffer and the splices together; checked at the end */
    size_t inline_max; /* runs of records up to this many bytes are copied; 0 (init): none */
    size_t frame_at, frame_spliced; /* where the frame under way began */
    uint32_t frame_splices;
    enum err err;
};

/* Empty; allocates nothing yet. */
void kwriter_init(struct kwriter *w, size_t max);
void kwriter_fini(struct kwriter *w);
/* Forgets everything written; keeps the memory. */
void kwriter_clear(struct kwriter *w);
/* Starts a frame: room for its length. Frames may follow one another in a writer. */
void kwriter_begin(struct kwriter *w);
/* Ends it: its length is put in. After an error the frame is taken back, the ones before it stay. */
enum err kwriter_end(struct kwriter *w);
/* Bytes of all parts. */
static inline size_t kwriter_size(const struct kwriter *w)
{
    return w->buf.len + w->spliced;
}
/* What was written, in order, part by part: runs of the buffer (owned by the writer, owner NULL) and
 * splices. Start with a cursor of zeros. Valid until the writer is used again. */
struct kwriter_cursor {
    size_t at;
    uint32_t splice;
};
struct kwriter_part {
    struct slice bytes;
    void *owner;  /* of the span */
    bool spliced; /* borrowed, not the writer's */
};
bool kwriter_part(const struct kwriter *w, struct kwriter_cursor *c, struct kwriter_part *part);
/* All parts, copied behind one another. */
enum err kwriter_flatten(const struct kwriter *w, struct buf *out);

/* The first error stays. */
void kwriter_fail(struct kwriter *w, enum err e);
/* Makes room for n more bytes, or fails. */
bool kwriter_grow(struct kwriter *w, size_t n);
static inline bool kwriter_room(struct kwriter *w, size_t n)
{
    return __builtin_expect(w->buf.cap - w->buf.len >= n, 1) || kwriter_grow(w, n);
}

#define KWRITER_INT(name, type, bits)                                     \
    static inline void kwriter_##name(struct kwriter *w, type v)          \
    {                                                                     \
        if (kwriter_room(w, bits / 8)) {                                  \
            be##bits##_store(w->buf.ptr + w->buf.len, (uint##bits##_t)v); \
            w->buf.len += bits / 8;                                       \
        }                                                                 \
    }
KWRITER_INT(i16, int16_t, 16)
KWRITER_INT(u16, uint16_t, 16)
KWRITER_INT(i32, int32_t, 32)
KWRITER_INT(i64, int64_t, 64)
#undef KWRITER_INT

static inline void kwriter_i8(struct kwriter *w, int8_t v)
{
    if (kwriter_room(w, 1))
        w->buf.ptr[w->buf.len++] = (uint8_t)v;
}
static inline void kwriter_bool(struct kwriter *w, bool v)
{
    kwriter_i8(w, v);
}
static inline void kwriter_f64(struct kwriter *w, double v)
{
    int64_t bits;

    memcpy(&bits, &v, sizeof bits);
    kwriter_i64(w, bits);
}
static inline void kwriter_uuid(struct kwriter *w, const uint8_t v[16])
{
    if (kwriter_room(w, 16)) {
        memcpy(w->buf.ptr + w->buf.len, v, 16);
        w->buf.len += 16;
    }
}
void kwriter_uvarint(struct kwriter *w, uint32_t v);
/* NULL is written as empty. */
void kwriter_string(struct kwriter *w, struct slice s, bool flex);
void kwriter_bytes(struct kwriter *w, struct slice s, bool flex);
/* NULL is null if this version has it, ERR_INVALID otherwise. */
void kwriter_string_null(struct kwriter *w, struct slice s, bool flex, bool nullable);
void kwriter_bytes_null(struct kwriter *w, struct slice s, bool flex, bool nullable);
void kwriter_records(struct kwriter *w, const struct kafka_records *s, bool flex, bool nullable);
/* What was written before, by another writer. Borrowed as records are. */
void kwriter_made(struct kwriter *w, struct slice s);
/* The count of an array. Answers how many elements are to be written. */
uint32_t kwriter_count(struct kwriter *w, uint32_t n, bool flex);
uint32_t kwriter_count_null(struct kwriter *w, uint32_t n, bool null, bool flex, bool nullable);
void kwriter_i8s(struct kwriter *w, const int8_t *v, uint32_t n);
void kwriter_i16s(struct kwriter *w, const int16_t *v, uint32_t n);
void kwriter_i32s(struct kwriter *w, const int32_t *v, uint32_t n);
void kwriter_i64s(struct kwriter *w, const int64_t *v, uint32_t n);
void kwriter_strings(struct kwriter *w, const struct slice *v, uint32_t n, bool flex);
/* A tagged field: open gives what close needs to put the length in. */
size_t kwriter_tag_open(struct kwriter *w, uint32_t tag);
void kwriter_tag_close(struct kwriter *w, size_t at);

static inline bool kafka_uuid_is_zero(const uint8_t v[16])
{
    return (be64_load(v) | be64_load(v + 8)) == 0;
}

/* ---- around a message ---- */

struct kafka_request_header;

/* What there is to know of an API; the table is made from messages/. Static memory. */
struct kafka_api {
    int16_t key, min, max;  /* versions that decode */
    int16_t advertised_min; /* below min where clients insist on seeing it */
    int16_t flexible;       /* first flexible version; INT16_MAX: none */
    const char *name;       /* as Kafka spells it: "Fetch" */
};
extern const struct kafka_api kafka_apis[]; /* by key, ascending */
extern const size_t kafka_apis_n;
/* May be NULL. */
const struct kafka_api *kafka_api_find(int16_t key);
static inline bool kafka_api_has(const struct kafka_api *api, int16_t version)
{
    return version >= api->min && version <= api->max;
}
/* Versions of the headers: a request's is 2 if flexible, else 1; a response's 1 if flexible, else 0,
 * and always 0 for ApiVersions, as a client reads that without knowing the server. */
int16_t kafka_request_header_version(const struct kafka_api *api, int16_t version);
int16_t kafka_response_header_version(const struct kafka_api *api, int16_t version);

/* Reads the header of a request, leaves r at its body. *api is NULL if the key is unknown.
 * ERR_UNSUPPORTED: an API or version that there is none of; key, version and correlation id of *h
 * are set then (a too new ApiVersions is answered by version 0 of the response with error 35). */
enum err kafka_request_open(struct kreader *r, struct arena *a, struct kafka_request_header *h,
                            const struct kafka_api **api);
/* Start a frame and write its header; the body and kwriter_end follow. */
void kafka_request_begin(struct kwriter *w, const struct kafka_api *api, int16_t version,
                         int32_t correlation_id, struct slice client_id);
void kafka_response_begin(struct kwriter *w, const struct kafka_api *api, int16_t version,
                          int32_t correlation_id);

#endif
