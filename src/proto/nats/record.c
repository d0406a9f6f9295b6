/* Records as messages. See record.h.
 *
 * Keys, names and values of headers come from other protocols and hold any bytes. A message is lines
 * of text, so nothing of them may end a line, and a subject's tokens may hold neither dots nor
 * blanks. Source of the form of headers: NATS ADR-4. */
#include "proto/nats/record.h"

#include <string.h>

#include "base/buf.h"
#include "base/subject.h"
#include "journal/batch.h"

/* A blank within a name stays, as NATS's own clients send such names. */
static void put_name(struct buf *out, struct slice name)
{
    size_t i;

    for (i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        bool within = i > 0 && i + 1 < name.len;

        if (c >= (within ? ' ' : '!') && c < 0x7f && c != ':')
            buf_append_u8(out, c);
        else
            subject_escape(out, c);
    }
}

static void put_value(struct buf *out, struct slice value)
{
    size_t i;

    for (i = 0; i < value.len; i++)
        buf_append_u8(out, value.ptr[i] < ' ' || value.ptr[i] == 0x7f ? ' ' : value.ptr[i]);
}

static bool is_status(const struct record_header *h)
{
    return slice_eq_str(h->key, RECORD_STATUS);
}

size_t record_nats_headers(const struct record_header *h, unsigned n, struct buf *out)
{
    size_t begin = out->len;
    unsigned i;

    if (n == 0)
        return 0;
    buf_append_str(out, "NATS/1.0");
    for (i = 0; i < n; i++)
        if (is_status(&h[i])) {
            buf_append_u8(out, ' ');
            put_value(out, h[i].value);
            break;
        }
    buf_append_str(out, "\r\n");
    for (i = 0; i < n; i++) {
        if (h[i].key.len == 0 || is_status(&h[i]))
            continue;
        put_name(out, h[i].key);
        buf_append_str(out, ": ");
        put_value(out, h[i].value);
        buf_append_str(out, "\r\n");
    }
    buf_append_str(out, "\r\n");
    return out->len - begin;
}
