/* Records as JSON. See render.h. The output's size is bounded first, so that writing needs no
 * checks: invariant: render_event never writes more than render_event_max said. */
#include "proto/http/render.h"

#include "base/assert.h"
#include "base/hex.h"
#include "base/jtext.h"
#include "base/timefmt.h"
#include "base/utf8.h"
#include "proto/http/event.h"

/* Everything in the object whose size does not depend on the record. */
#define FIXED_BYTES 512
/* Longer text goes as base64: escaped it may be six times as long. */
#define TEXT_MAX (8u << 20)

/* What one piece of text or bytes may take, as escaped string or as base64, with its name. */
static size_t piece_max(size_t len)
{
    return JTEXT_ESCAPE_MAX(len) + 32;
}

struct slice record_header_find(const struct reader_record *r, const char *name)
{
    size_t n = strlen(name);

    for (unsigned i = 0; i < r->headers_n; i++) {
        if (r->headers[i].key.len == n && memcmp(r->headers[i].key.ptr, name, n) == 0)
            return r->headers[i].value;
    }
    return SLICE_NULL;
}

size_t render_event_max(const struct reader_record *r)
{
    size_t n = FIXED_BYTES + strlen(topic_name(r->topic)) + piece_max(r->key.len);
    bool text = false;

    for (unsigned i = 0; i < r->headers_n; i++) {
        const struct record_header *h = &r->headers[i];

        n += piece_max(h->key.len) + piece_max(h->value.len);
        text = text || (r->value.len <= TEXT_MAX && slice_eq(h->key, SLICE_LIT("content-type")) &&
                        media_is_text(h->value)); /* whichever it is that counts */
    }
    return n + (text ? piece_max(r->value.len) : BASE64_LEN(r->value.len));
}

/* The headers that have a field of their own in the object. */
struct known {
    struct slice type, id, source, media;
    unsigned others;
};

static struct slice *known_slot(struct known *k, struct slice name)
{
    if (slice_eq(name, SLICE_LIT("ce_type")))
        return &k->type;
    if (slice_eq(name, SLICE_LIT("ce_id")))
        return &k->id;
    if (slice_eq(name, SLICE_LIT("ce_source")))
        return &k->source;
    if (slice_eq(name, SLICE_LIT("content-type")))
        return &k->media;
    return NULL;
}

/* Whether header h goes into its own field: the first of its name, if it is text. Fills k. */
static bool own_field(struct known *k, const struct record_header *h)
{
    struct slice *slot = known_slot(k, h->key);

    if (!slot || !h->value.ptr || !utf8_valid(h->value))
        return false;
    if (slot->ptr)
        return slot->ptr == h->value.ptr;
    *slot = h->value;
    return true;
}

/* `name`:"text" or `name_base64`:"…"; name comes with its opening quote and without the closing. */
static uint8_t *put_piece(uint8_t *out, struct slice name, struct slice v)
{
    memcpy(out, name.ptr, name.len);
    out += name.len;
    if (utf8_valid(v)) {
        out = PUT_LIT(out, "\":");
        return jtext_escape(out, v);
    }
    out = PUT_LIT(out, "_base64\":\"");
    base64_encode(v.ptr, v.len, (char *)out);
    out += BASE64_LEN(v.len);
    *out++ = '"';
    return out;
}

/* CloudEvents 1.0.2, JSON format, section 3.1: JSON as it is; what its content type says is text as
 * a string, which says the type beside it; all else, and what has no type, as base64: a string there
 * would be taken for JSON. */
static uint8_t *put_data(uint8_t *out, const struct reader_record *r, struct slice media,
                         unsigned flags)
{
    if (!r->value.ptr)
        return out;
    if ((!media.ptr || media_is_json(media)) && jtext_valid(r->value, JTEXT_DEPTH_CAP)) {
        out = PUT_LIT(out, ",\"data\":");
        memcpy(out, r->value.ptr, r->value.len);
        if ((flags & RENDER_ONE_LINE) &&
            (memchr(out, '\n', r->value.len) || memchr(out, '\r', r->value.len))) {
            for (size_t i = 0; i < r->value.len; i++)
                out[i] = out[i] == '\n' || out[i] == '\r' ? ' ' : out[i];
        }
        return out + r->value.len;
    }
    if (media.ptr && r->value.len <= TEXT_MAX && media_is_text(media) && utf8_valid(r->value))
        return jtext_escape(PUT_LIT(out, ",\"data\":"), r->value);
    out = PUT_LIT(out, ",\"data_base64\":\"");
    base64_encode(r->value.ptr, r->value.len, (char *)out);
    out += BASE64_LEN(r->value.len);
    *out++ = '"';
    return out;
}

static uint8_t *put_headers(uint8_t *out, const struct reader_record *r, struct known *k)
{
    bool any = false;

    out = PUT_LIT(out, ",\"headers\":[");
    for (unsigned i = 0; i < r->headers_n; i++) {
        const struct record_header *h = &r->headers[i];

        if (own_field(k, h))
            continue;
        if (any)
            *out++ = ',';
        any = true;
        out = put_piece(out, SLICE_LIT("{\"name"), h->key);
        if (h->value.ptr)
            out = put_piece(out, SLICE_LIT(",\"value"), h->value);
        else
            out = PUT_LIT(out, ",\"value\":null");
        *out++ = '}';
    }
    *out++ = ']';
    return out;
}

static uint8_t *put_place(uint8_t *out, const struct reader_record *r)
{
    out = PUT_LIT(out, ",\"ts\":\"");
    out += time_format(r->timestamp_ms, (char *)out);
    out = PUT_LIT(out, "\",\"partition\":");
    out = jtext_i64(out, r->partition);
    out = PUT_LIT(out, ",\"offset\":");
    return jtext_i64(out, r->offset);
}

uint8_t *render_event(uint8_t *out, const struct reader_record *r, unsigned flags)
{
    const uint8_t *start = out;
    const char *topic = topic_name(r->topic);
    size_t topic_len = strlen(topic);
    struct known k = {0};

    for (unsigned i = 0; i < r->headers_n; i++)
        k.others += !own_field(&k, &r->headers[i]);
    out = PUT_LIT(out, "{\"id\":\"");
    event_id_format(r->position, (char *)out);
    out += EVENT_ID_LEN;
    out = PUT_LIT(out, "\",\"type\":");
    out = k.type.ptr ? jtext_escape(out, k.type) : PUT_LIT(out, "null");
    out = PUT_LIT(out, ",\"stream\":\"");
    memcpy(out, topic, topic_len);
    out += topic_len;
    *out++ = '"';
    if (r->key.ptr)
        out = put_piece(out, SLICE_LIT(",\"key"), r->key);
    out = put_place(out, r);
    if (k.id.ptr)
        out = put_piece(out, SLICE_LIT(",\"event_id"), k.id);
    if (k.source.ptr)
        out = put_piece(out, SLICE_LIT(",\"source"), k.source);
    if (k.media.ptr)
        out = put_piece(out, SLICE_LIT(",\"datacontenttype"), k.media);
    out = put_data(out, r, k.media, flags);
    if (k.others)
        out = put_headers(out, r, &k);
    *out++ = '}';
    DASSERT((size_t)(out - start) <= render_event_max(r));
    (void)start;
    return out;
}
