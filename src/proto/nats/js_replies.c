/* See js_replies.h. */
#include "proto/nats/js_replies.h"

#include "base/endian.h"
#include "proto/nats/nats_int.h"

_Static_assert(NATS_LINE_MAX <= UINT16_MAX, "a subject's length fits");

bool jreplies_add(struct buf *b, struct slice reply)
{
    if (!reply.len || reply.len >= NATS_LINE_MAX || buf_reserve(b, 2 + reply.len))
        return false;
    buf_append_be16(b, (uint16_t)reply.len);
    buf_append_slice(b, reply);
    return true;
}

bool jreplies_next(struct slice replies, size_t *at, struct slice *out)
{
    if (*at == replies.len)
        return false;
    *out = slice_of(replies.ptr + *at + 2, be16_load(replies.ptr + *at));
    *at += 2 + out->len;
    return true;
}
