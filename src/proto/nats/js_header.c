/* See js_header.h. */
#include "proto/nats/js_header.h"

#include "proto/nats/record.h"

/* Up to the end of a line, which is taken off. */
static bool line(struct slice *rest, struct slice *out)
{
    const uint8_t *nl;

    if (!rest->len)
        return false;
    nl = memchr(rest->ptr, '\n', rest->len);
    *out = slice_of(rest->ptr, nl ? (size_t)(nl - rest->ptr) : rest->len);
    *rest = nl ? slice_of(nl + 1, rest->len - out->len - 1) : slice_of(rest->ptr + rest->len, 0);
    if (out->len && out->ptr[out->len - 1] == '\r')
        out->len--;
    return true;
}

/* The line before all headers: its text may have a colon, too. */
static bool is_first(struct slice l)
{
    size_t n = sizeof NHEADER_LINE - 1;

    return slice_has_prefix(l, SLICE_LIT(NHEADER_LINE)) &&
           (l.len == n || l.ptr[n] == ' ' || l.ptr[n] == '\t');
}

bool nheader_next(struct slice *rest, struct slice *name, struct slice *value)
{
    const uint8_t *colon;
    struct slice l;

    while (line(rest, &l)) {
        colon = l.len ? memchr(l.ptr, ':', l.len) : NULL;
        if (!colon || colon == l.ptr || is_first(l))
            continue; /* the first line, the empty one, or none at all */
        *name = slice_of(l.ptr, (size_t)(colon - l.ptr));
        *value = slice_trim(slice_of(colon + 1, l.len - name->len - 1), SLICE_LIT(" \t"));
        return true;
    }
    return false;
}

struct slice nheader_status(struct slice headers)
{
    size_t n = sizeof NHEADER_LINE - 1;
    struct slice l;

    if (!line(&headers, &l) || !is_first(l))
        return SLICE_NULL;
    return slice_trim(slice_of(l.ptr + n, l.len - n), SLICE_LIT(" \t"));
}

struct slice nheader_find(struct slice headers, struct slice name)
{
    struct slice n, v;

    while (nheader_next(&headers, &n, &v))
        if (slice_eq(n, name))
            return v;
    return SLICE_NULL;
}

void nheader_copy(struct slice headers, bool (*keep)(void *arg, struct slice name), void *arg,
                  struct buf *out)
{
    struct slice status = nheader_status(headers), name, value;

    buf_append_str(out, status.len ? NHEADER_LINE " " : NHEADER_LINE);
    buf_append_slice(out, status);
    buf_append_str(out, "\r\n");
    while (nheader_next(&headers, &name, &value))
        if (keep(arg, name))
            nheader_put(out, name, value);
}

void nheader_put(struct buf *out, struct slice name, struct slice value)
{
    buf_append_slice(out, name);
    buf_append_str(out, ": ");
    buf_append_slice(out, value);
    buf_append_str(out, "\r\n");
}

bool nheader_to_record(struct slice headers, struct record_header *out, uint32_t max, uint32_t *n)
{
    struct slice status = nheader_status(headers), name, value;

    *n = 0;
    if (status.len) {
        if (!max)
            return false;
        out[(*n)++] = (struct record_header){SLICE_LIT(RECORD_STATUS), status};
    }
    while (nheader_next(&headers, &name, &value)) {
        if (*n == max)
            return false;
        out[(*n)++] = (struct record_header){name, value};
    }
    return true;
}

size_t nheader_record_len(const struct record_header *h, uint32_t n)
{
    size_t len = sizeof NHEADER_LINE - 1 + 4;
    uint32_t i = 0;

    if (!n)
        return 0;
    if (slice_eq_str(h[0].key, RECORD_STATUS))
        len += 1 + h[i++].value.len;
    for (; i < n; i++)
        len += h[i].key.len + h[i].value.len + 4;
    return len;
}
