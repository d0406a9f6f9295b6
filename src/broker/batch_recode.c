/* See batch_recode.h. The bytes of the records are the same in all codecs, so they are packed as they
 * stand; the header is copied, with another length, codec and checksum. */
#include "broker/batch_recode.h"

#include <string.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"
#include "broker/broker_int.h"
#include "journal/batch.h"

static enum err pack(enum codec codec, struct slice head, struct slice records, struct buf *out)
{
    enum err e = buf_append_slice(out, head);

    if (!e)
        e = codec == CODEC_NONE ? buf_append_slice(out, records)
                                : codec_deflate(codec, records, out);
    return e;
}

enum err batch_recode(struct topic *t, struct slice batch, const struct buf *inflated,
                      struct batch_checked *c, struct slice *own, struct errinfo *info)
{
    int want = atomic_load_explicit(&t->recode, memory_order_relaxed);
    int is = c->info.attributes & BATCH_CODEC_MASK;
    struct slice head = slice_of(batch.ptr, BATCH_HEADER), records;
    struct buf out;
    uint8_t *b;
    enum err e;

    *own = SLICE_NULL;
    if (want < 0 || want == is)
        return ERR_OK;
    records = is == CODEC_NONE ? slice_of(batch.ptr + BATCH_HEADER, batch.len - BATCH_HEADER)
                               : buf_slice(inflated);
    if (want == CODEC_NONE && BATCH_HEADER + records.len > (uint32_t)t->max_message_bytes)
        return batch_too_large(BATCH_HEADER + records.len, t, info);
    buf_init(&out, BATCH_HEADER + codec_bound(records.len));
    e = pack((enum codec)want, head, records, &out);
    if (!e && out.len > (uint32_t)t->max_message_bytes)
        e = batch_too_large(out.len, t, info);
    if (!e) {
        b = xmalloc(out.len); /* what was reserved for packing may be much more */
        memcpy(b, out.ptr, out.len);
        be32_store(b + 8, (uint32_t)(out.len - 12));
        be16_store(b + 21, (uint16_t)((c->info.attributes & ~BATCH_CODEC_MASK) | want));
        be32_store(b + 17, crc32c(0, b + 21, out.len - 21));
        *own = slice_of(b, out.len);
        e = batch_parse(*own, &c->info);
        ASSERT(!e);
    }
    buf_fini(&out);
    return e;
}
