/* A record as a line of JSON. See jsonl.h. */
#include <inttypes.h>
#include <string.h>

#include "base/json_write.h"
#include "base/jtext.h"
#include "base/timefmt.h"
#include "base/utf8.h"
#include "lake/jsonl.h"

#define DEPTH_MAX 100u       /* DuckDB reads 128 levels, the line's own included */
#define TEXT_MAX  (8u << 20) /* longer text is base64: escaped it may be six times as long */
#define YEAR_ZERO -62167219200000ll
#define YEAR_END  253402300800000ll

static enum err put_time(struct buf *out, int64_t ms)
{
    char text[TIME_TEXT_LEN + 1];
    enum err e;

    time_format(ms, text);
    e = buf_printf(out, ",\"timestamp\":\"%s\",", text);
    if (!e && (ms < YEAR_ZERO || ms >= YEAR_END))
        e = buf_printf(out, "\"timestamp_ms\":%" PRId64 ",", ms);
    return e;
}

static enum err put_headers(struct buf *out, const struct jsonl_record *r)
{
    enum err e = buf_append_str(out, ",\"headers\":[");
    uint32_t i;

    for (i = 0; !e && i < r->headers_n; i++) {
        e = buf_append_str(out, i ? ",{" : "{");
        e = e ? e : json_write_bytes(out, "name", r->headers[i].key);
        e = e ? e : buf_append_u8(out, ',');
        e = e ? e : json_write_bytes(out, "value", r->headers[i].value);
        e = e ? e : buf_append_u8(out, '}');
    }
    return e ? e : buf_append_u8(out, ']');
}

/* JSON has line breaks between its tokens alone. */
static void one_line(uint8_t *p, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        if (p[i] == '\n' || p[i] == '\r')
            p[i] = ' ';
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Can the JSON be told from the line? Breaks in it cannot, nor the space around it. */
static bool is_exact(struct slice v)
{
    return !memchr(v.ptr, '\n', v.len) && !memchr(v.ptr, '\r', v.len) && !is_space(v.ptr[0]) &&
           !is_space(v.ptr[v.len - 1]);
}

static enum err put_base64(struct buf *out, struct slice v)
{
    enum err e = buf_append_str(out, ",\"value_base64\":");

    return e ? e : json_write_base64(out, v);
}

static enum err put_value(struct buf *out, struct slice v)
{
    enum err e;

    if (slice_is_null(v))
        return ERR_OK;
    if (jtext_valid(v, DEPTH_MAX)) {
        e = buf_append_str(out, ",\"value\":");
        e = e ? e : buf_append_slice(out, v);
        if (e || is_exact(v))
            return e;
        one_line(out->ptr + out->len - v.len, v.len);
        return put_base64(out, v);
    }
    if (v.len <= TEXT_MAX && utf8_valid(v)) {
        e = buf_append_str(out, ",\"value_text\":");
        return e ? e : json_write_string(out, v);
    }
    return put_base64(out, v);
}

enum err jsonl_line(struct buf *out, const struct jsonl_record *r)
{
    char id[EVENT_ID_LEN + 1];
    enum err e;

    event_id_format(r->position, id);
    e = buf_printf(
        out, "{\"partition\":%d,\"offset\":%" PRId64 ",\"position\":%" PRIu64 ",\"id\":\"%s\"",
        (int)r->partition, r->r->offset, r->position, id);
    e = e ? e : put_time(out, r->r->timestamp_ms);
    e = e ? e : json_write_bytes(out, "key", r->r->key);
    e = e ? e : put_headers(out, r);
    e = e ? e : put_value(out, r->r->value);
    return e ? e : buf_append_str(out, "}\n");
}
