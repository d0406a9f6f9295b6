/* See record_text.h. */
#include "cli/record_text.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/endian.h"
#include "base/hex.h"
#include "base/json_write.h"
#include "base/timefmt.h"
#include "base/utf8.h"

void text_unescape(const char *s, struct buf *out)
{
    static const char from[] = "nrt0\\", to[] = "\n\r\t\0\\";
    uint8_t byte;

    for (; *s; s++) {
        const char *hit = *s == '\\' && s[1] ? strchr(from, s[1]) : NULL;

        if (hit) {
            buf_append_u8(out, (uint8_t)to[hit - from]);
            s++;
        } else if (*s == '\\' && s[1] == 'x' && s[2] && hex_decode(s + 2, 1, &byte)) {
            buf_append_u8(out, byte);
            s += 3;
        } else {
            buf_append_u8(out, (uint8_t)*s);
        }
    }
}

/* ---- JSON, out ---- */

static enum err put_header(struct buf *out, const struct record_header *h)
{
    enum err e = buf_append_u8(out, '[');

    e = e ? e : json_write_string(out, h->key);
    e = e ? e : buf_append_u8(out, ',');
    if (!e && slice_is_null(h->value)) {
        e = buf_append_str(out, "null");
    } else if (!e && utf8_valid(h->value)) {
        e = json_write_string(out, h->value);
    } else if (!e) {
        e = buf_append_str(out, "{\"base64\":");
        e = e ? e : json_write_base64(out, h->value);
        e = e ? e : buf_append_u8(out, '}');
    }
    return e ? e : buf_append_u8(out, ']');
}

enum err record_json_write(struct buf *out, const struct placed_record *p)
{
    enum err e = buf_append_str(out, "{\"topic\":");
    uint32_t i;

    e = e ? e : json_write_string(out, slice_str(p->topic));
    e = e ? e
          : buf_printf(out, ",\"partition\":%d,\"offset\":%" PRId64 ",\"timestamp\":%" PRId64,
                       (int)p->partition, p->r->offset, p->r->timestamp_ms);
    e = e ? e : buf_append_u8(out, ',');
    e = e ? e : json_write_bytes(out, "key", p->r->key);
    e = e ? e : buf_append_u8(out, ',');
    e = e ? e : json_write_bytes(out, "value", p->r->value);
    if (!e && p->headers_n)
        e = buf_append_str(out, ",\"headers\":[");
    for (i = 0; i < p->headers_n && !e; i++) {
        e = i ? buf_append_u8(out, ',') : ERR_OK;
        e = e ? e : put_header(out, &p->headers[i]);
    }
    if (!e && p->headers_n)
        e = buf_append_u8(out, ']');
    return e ? e : buf_append_u8(out, '}');
}

/* ---- JSON, in ---- */

static bool take_base64(const json_t *j, struct arena *a, struct slice *out)
{
    size_t len = json_string_length(j), n = 0;
    uint8_t *p = arena_alloc(a, len / 4 * 3 + 1);

    if (!json_is_string(j) || !p || !base64_decode(json_string_value(j), len, p, &n))
        return false;
    *out = slice_of(p, n);
    return true;
}

static bool take_text(const json_t *j, struct arena *a, struct slice *out)
{
    char *text;

    if (!j || json_is_null(j)) {
        *out = SLICE_NULL;
        return true;
    }
    if (json_is_string(j)) {
        *out = arena_dup(a, slice_of(json_string_value(j), json_string_length(j)));
        return out->ptr != NULL;
    }
    if (!(text = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY)))
        return false;
    *out = arena_dup(a, slice_str(text));
    free(text);
    return out->ptr != NULL;
}

static bool take_member(const json_t *j, const char *name, const char *name64, struct arena *a,
                        struct slice *out)
{
    const json_t *b64 = json_object_get(j, name64);

    return b64 && !json_is_null(b64) ? take_base64(b64, a, out)
                                     : take_text(json_object_get(j, name), a, out);
}

static bool take_header(const char *name, size_t len, const json_t *v, struct arena *a,
                        struct record_header *h)
{
    const json_t *b64 = json_object_get(v, "base64");

    h->key = arena_dup(a, slice_of(name, len));
    return h->key.ptr && (b64 ? take_base64(b64, a, &h->value) : take_text(v, a, &h->value));
}

static bool take_headers(json_t *j, struct arena *a, struct record_header *h, uint32_t *n)
{
    const char *name;
    json_t *v;
    size_t i;

    *n = 0;
    if (!j || json_is_null(j))
        return true;
    if (json_object_size(j) > RECORD_HEADERS_MAX || json_array_size(j) > RECORD_HEADERS_MAX)
        return false;
    if (json_is_object(j)) {
        json_object_foreach(j, name,
                            v) if (!take_header(name, strlen(name), v, a, &h[(*n)++])) return false;
        return true;
    }
    if (!json_is_array(j))
        return false;
    json_array_foreach(j, i, v)
    {
        const json_t *k = json_array_get(v, 0);

        if (json_array_size(v) != 2 || !json_is_string(k) ||
            !take_header(json_string_value(k), json_string_length(k), json_array_get(v, 1), a,
                         &h[(*n)++]))
            return false;
    }
    return true;
}

static bool take_time(const json_t *j, int64_t *ms)
{
    *ms = -1;
    if (!j || json_is_null(j))
        return true;
    if (json_is_integer(j)) {
        *ms = json_integer_value(j);
        return *ms >= 0;
    }
    return json_is_string(j) &&
           time_parse(slice_of(json_string_value(j), json_string_length(j)), ms);
}

bool record_json_read(struct slice line, struct arena *arena, struct record *out,
                      struct record_header *headers, uint32_t *headers_n, const char **why)
{
    json_t *j = json_loadb((const char *)line.ptr, line.len, JSON_ALLOW_NUL, NULL);

    *out = (struct record){0};
    *why = NULL;
    if (!json_is_object(j))
        *why = "not a JSON object";
    else if (!take_member(j, "key", "key_base64", arena, &out->key))
        *why = "\"key\" cannot be taken";
    else if (!take_member(j, "value", "value_base64", arena, &out->value))
        *why = "\"value\" cannot be taken";
    else if (!take_headers(json_object_get(j, "headers"), arena, headers, headers_n))
        *why = "\"headers\" must be an object, or pairs of a name and a value";
    else if (!take_time(json_object_get(j, "timestamp"), &out->timestamp_ms))
        *why = "\"timestamp\" must be milliseconds or an ISO time";
    json_decref(j);
    return *why == NULL;
}

/* ---- formats ---- */

bool format_check(struct slice format, const char **bad)
{
    size_t i;

    for (i = 0; i < format.len; i++)
        if (format.ptr[i] == '%' &&
            (++i == format.len || !memchr("tpokKsSRhT%", format.ptr[i], 11))) {
            *bad = (const char *)format.ptr + i - 1;
            return false;
        }
    return true;
}

static enum err put_plain_headers(struct buf *out, const struct placed_record *p, struct slice null)
{
    enum err e = ERR_OK;
    uint32_t i;

    for (i = 0; i < p->headers_n && !e; i++) {
        const struct record_header *h = &p->headers[i];

        e = i ? buf_append_u8(out, ',') : ERR_OK;
        e = e ? e : buf_append_slice(out, h->key);
        e = e ? e : buf_append_u8(out, '=');
        e = e ? e : buf_append_slice(out, slice_is_null(h->value) ? null : h->value);
    }
    return e;
}

static int64_t length(struct slice s)
{
    return slice_is_null(s) ? -1 : (int64_t)s.len;
}

static enum err put_item(struct buf *out, char letter, const struct placed_record *p,
                         struct slice null)
{
    struct slice key = p->r->key, value = p->r->value;

    switch (letter) {
    case 't':
        return buf_append_str(out, p->topic);
    case 'p':
        return buf_printf(out, "%d", (int)p->partition);
    case 'o':
        return buf_printf(out, "%" PRId64, p->r->offset);
    case 'k':
        return buf_append_slice(out, slice_is_null(key) ? null : key);
    case 'K':
        return buf_printf(out, "%" PRId64, length(key));
    case 's':
        return buf_append_slice(out, slice_is_null(value) ? null : value);
    case 'S':
        return buf_printf(out, "%" PRId64, length(value));
    case 'R':
        return buf_append_be32(out, (uint32_t)length(value));
    case 'h':
        return put_plain_headers(out, p, null);
    case 'T':
        return buf_printf(out, "%" PRId64, p->r->timestamp_ms);
    default:
        return buf_append_u8(out, '%');
    }
}

enum err format_write(struct buf *out, struct slice format, const struct placed_record *p,
                      struct slice null)
{
    enum err e = ERR_OK;
    size_t i;

    for (i = 0; i < format.len && !e; i++)
        e = format.ptr[i] == '%' ? put_item(out, (char)format.ptr[++i], p, null)
                                 : buf_append_u8(out, format.ptr[i]);
    return e;
}
