/* Fuzzing of what compaction does to a batch, as a client may have sent it.
 *
 * The first byte says which rules hold, the second which records are not the newest of their key; the
 * rest is a batch whose length and CRC are made right first. Checked beside the sanitizers: what is
 * left is a sound batch with the same offsets and producer, has no record that was not there, in the
 * same order; and compacting it again changes nothing. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/tbl/limits.h"
#include "journal/compact_batch.h"

#define NOW 1000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make_right(uint8_t *b, size_t n)
{
    be32_store(b + 8, (uint32_t)n - 12);
    b[16] = 2;
    be32_store(b + 17, crc32c(0, b + 21, n - 21));
}

/* Says of records whose bit is set that there is a newer one of their key. */
static void map_fill(struct keymap *map, struct slice batch, uint8_t bits)
{
    struct batch_iter it;
    struct buf scratch;
    struct record r;
    unsigned i = 0;

    buf_init(&scratch, LIMIT_BATCH_INFLATED);
    if (!batch_iter_init(&it, batch, &scratch))
        for (; i < 10000 && !batch_iter_next(&it, &r); i++)
            if (!slice_is_null(r.key))
                keymap_put(map, r.key, r.offset + (bits >> i % 8 & 1));
    buf_fini(&scratch);
}

/* Every record of out is in the batch, in this order. */
static void records_check(struct slice batch, struct slice out)
{
    struct batch_iter a, b;
    struct buf sa, sb;
    struct record x, y;
    enum err e = ERR_OK;

    buf_init(&sa, LIMIT_BATCH_INFLATED);
    buf_init(&sb, LIMIT_BATCH_INFLATED);
    ASSERT(!batch_iter_init(&a, batch, &sa) && !batch_iter_init(&b, out, &sb));
    while ((e = batch_iter_next(&b, &y)) == ERR_OK) {
        do
            ASSERT(batch_iter_next(&a, &x) == ERR_OK);
        while (x.offset != y.offset || !slice_eq(x.key, y.key) || !slice_eq(x.value, y.value) ||
               x.timestamp_ms != y.timestamp_ms);
        ASSERT(slice_is_null(x.key) == slice_is_null(y.key));
        ASSERT(slice_is_null(x.value) == slice_is_null(y.value));
        ASSERT(slice_eq(x.headers_raw, y.headers_raw) && x.headers_n == y.headers_n);
    }
    ASSERT(e == ERR_EOF);
    buf_fini(&sa);
    buf_fini(&sb);
}

static void out_check(struct slice batch, struct slice out)
{
    struct batch_info a, b;

    ASSERT(batch_parse(batch, &a) == ERR_OK && batch_parse(out, &b) == ERR_OK);
    ASSERT(b.length == out.len && batch_crc_ok(out));
    ASSERT(a.base_offset == b.base_offset && a.last_offset_delta == b.last_offset_delta);
    ASSERT(a.producer_id == b.producer_id && a.producer_epoch == b.producer_epoch);
    ASSERT(a.base_sequence == b.base_sequence && a.leader_epoch == b.leader_epoch);
    ASSERT(b.count <= a.count);
    records_check(batch, out);
}

static void compact(struct slice batch, const struct batch_rules *r)
{
    struct batch_filter f, g;
    struct slice out, again;

    batch_filter_init(&f);
    batch_filter_init(&g);
    batch_filter(&f, batch, r, &out);
    ASSERT(out.len || r->empty == EMPTY_DROP || r->empty == EMPTY_PRODUCER);
    if (out.len && out.ptr != batch.ptr) {
        out_check(batch, out);
        batch_filter(&g, out, r, &again);
        ASSERT(slice_eq(out, again));
    }
    batch_filter_fini(&f);
    batch_filter_fini(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum batch_empty empties[4] = {EMPTY_DROP, EMPTY_KEEP, EMPTY_PRODUCER, EMPTY_KEEP};
    struct batch_rules r = {
        .now_ms = NOW, .delete_horizon_ms = NOW + 1, .producer_horizon_ms = NOW + 1};
    struct batch_info bi;
    struct keymap map;
    uint8_t *copy;

    if (size < 2 + BATCH_HEADER)
        return 0;
    r.empty = empties[data[0] & 3];
    r.drop_records = data[0] & 4;
    r.marker_unneeded = data[0] & 8;
    copy = malloc(size - 2); /* its own, so that reading beyond it is found */
    memcpy(copy, data + 2, size - 2);
    make_right(copy, size - 2);
    if (batch_parse(slice_of(copy, size - 2), &bi) == ERR_OK) {
        keymap_init(&map, 20000, (const uint8_t *)"0123456789abcdef");
        r.map = &map;
        map_fill(&map, slice_of(copy, size - 2), data[1]);
        compact(slice_of(copy, size - 2), &r);
        keymap_fini(&map);
    }
    free(copy);
    return 0;
}
