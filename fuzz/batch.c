/* Fuzzing of record batches, as a client may send them: header, records, headers, all codecs.
 *
 * The first byte chooses: odd, and the batch's length and CRC are made right first, so that what
 * lies behind them is reached. Checked beside the sanitizers: what validates can be walked with the
 * same count, and is found again unchanged when encoded anew. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "journal/batch.h"

#define HEADERS  16u
#define INFLATED (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make_right(uint8_t *b, size_t n)
{
    if (n < BATCH_HEADER)
        return;
    be32_store(b + 8, (uint32_t)n - 12);
    b[16] = 2;
    be32_store(b + 17, crc32c(0, b + 21, n - 21));
}

/* Encodes what was read and compares. */
static void again(const struct batch_info *info, struct slice batch, struct buf *scratch)
{
    struct record_header h[HEADERS];
    struct batch_builder bb;
    struct batch_iter a, b;
    struct record r, s;
    struct slice out;
    struct buf other;
    uint32_t n;

    batch_builder_init(&bb, CODEC_NONE, 4 * INFLATED);
    ASSERT(batch_iter_init(&a, batch, scratch) == ERR_OK);
    while (batch_iter_next(&a, &r) == ERR_OK) {
        if (record_headers(&r, h, HEADERS, &n) || n != r.headers_n ||
            batch_builder_add(&bb, r.timestamp_ms, r.key, r.value, h, n, NULL))
            goto out; /* more than this target has room for */
    }
    if (bb.count == 0)
        goto out;
    ASSERT(batch_builder_finish(&bb, 0, info->producer_id, info->producer_epoch,
                                info->base_sequence, &out) == ERR_OK);
    buf_init(&other, INFLATED);
    ASSERT(batch_validate(out, &other) == ERR_OK);
    ASSERT(batch_iter_init(&a, batch, scratch) == ERR_OK);
    ASSERT(batch_iter_init(&b, out, &other) == ERR_OK);
    while (batch_iter_next(&a, &r) == ERR_OK) {
        ASSERT(batch_iter_next(&b, &s) == ERR_OK);
        ASSERT(slice_eq(r.key, s.key) && slice_eq(r.value, s.value));
        ASSERT(slice_is_null(r.key) == slice_is_null(s.key));
        ASSERT(r.timestamp_ms == s.timestamp_ms && r.headers_n == s.headers_n);
    }
    ASSERT(batch_iter_next(&b, &s) == ERR_EOF);
    buf_fini(&other);
out:
    batch_builder_fini(&bb);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct batch_info info;
    struct batch_iter it;
    struct buf scratch;
    struct record r;
    struct slice batch;
    uint8_t *copy;
    int32_t n = 0;

    if (size < 1)
        return 0;
    copy = malloc(size);
    ASSERT(copy);
    memcpy(copy, data + 1, size - 1);
    batch = slice_of(copy, size - 1);
    if (data[0] & 1)
        make_right(copy, size - 1);
    buf_init(&scratch, INFLATED);
    if (batch_iter_init(&it, batch, &scratch) == ERR_OK) {
        while (batch_iter_next(&it, &r) == ERR_OK) {
            struct record_header h[HEADERS];
            uint32_t k;

            record_headers(&r, h, HEADERS, &k);
            n++;
        }
        ASSERT(n <= it.info.count);
        if (batch_validate(batch, &scratch) == ERR_OK) {
            ASSERT(batch_parse(batch, &info) == ERR_OK && info.count == n);
            again(&info, batch, &scratch);
        }
    }
    buf_fini(&scratch);
    free(copy);
    return 0;
}
