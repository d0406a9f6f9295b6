/* Fuzzes backups of streams. The first byte says what follows the second:
 *
 *   0   a file as it is
 *   1   entries, which are put into frames here, so that their sums are right
 *   2   blocks of S2, each behind its length (2 bytes, big endian): the payload of one entry. They get
 *       the sums of what snappy makes of them, whose blocks S2 reads, too: it is the same then.
 *
 * The second byte is how many bytes come at a time: what is read is the same as when all come at once.
 * What was read is, written and read again, the same. Little more waits than the largest entry. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/hash.h"
#include "journal/compress.h"
#include "proto/nats/js_archive.h"

#define INPUT_MAX  16384u
#define BLOCKS_MAX 16u
#define RAW_MAX    (JARCHIVE_ENTRY_MAX + JARCHIVE_NAME_MAX + (6u << 20))
#define BLOCK_MAX  (4u << 20)
#define FRAME_HEAD 4u
#define XERIAL     0x82 /* codec_inflate takes what begins so for another framing */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    enum err e; /* the end; ERR_AGAIN: more could come */
    uint64_t n, hash;
};

static uint64_t slice_hash(struct slice s, uint64_t seed)
{
    return hash64(s.ptr, s.len, hash_u64(s.len, seed));
}

static struct outcome read_all(struct slice file, size_t step, struct buf *again)
{
    struct outcome o = {.e = ERR_AGAIN};
    struct jarchive_entry e;
    struct jarchive a;
    size_t n;

    jarchive_init(&a);
    do {
        n = file.len < step ? file.len : step;
        ASSERT(!jarchive_feed(&a, slice_of(file.ptr, n), SIZE_MAX));
        file = slice_of(file.ptr + n, file.len - n);
        while (!(o.e = jarchive_next(&a, &e))) {
            o.n++;
            o.hash = hash_u64((uint64_t)e.time_ns, hash_u64(e.seq, o.hash));
            o.hash = slice_hash(e.payload, slice_hash(e.headers, slice_hash(e.name, o.hash)));
            if (again)
                jarchive_put(again, &e);
        }
        ASSERT(a.raw.len <= RAW_MAX);
    } while (o.e == ERR_AGAIN && file.len);
    jarchive_fini(&a);
    return o;
}

static void check(struct slice file, size_t step)
{
    struct outcome whole, parts, twice;
    struct buf raw, again;

    buf_init(&raw, SIZE_MAX);
    buf_init(&again, SIZE_MAX);
    jarchive_begin(&raw);
    whole = read_all(file, SIZE_MAX, &raw);
    ASSERT(whole.e == ERR_AGAIN || whole.e == ERR_CORRUPT_INPUT || whole.e == ERR_TOO_LARGE ||
           whole.e == ERR_UNSUPPORTED);
    parts = read_all(file, step, NULL);
    ASSERT(parts.e == whole.e && parts.n == whole.n && parts.hash == whole.hash);
    jarchive_frame(buf_slice(&raw), true, &again);
    twice = read_all(buf_slice(&again), SIZE_MAX, NULL);
    ASSERT(twice.e == ERR_AGAIN && twice.n == whole.n && twice.hash == whole.hash);
    buf_fini(&raw);
    buf_fini(&again);
}

/* A frame with this block, whose sum is that of text. */
static void block_put(struct buf *file, struct slice block, struct slice text)
{
    size_t from = file->len;
    struct buf plain;

    buf_init(&plain, SIZE_MAX);
    jarchive_frame(text, false, &plain); /* a sum is of a frame: 64 KiB at most */
    buf_append(file, "", 1);
    buf_append_u8(file, (uint8_t)(block.len + 4));
    buf_append_u8(file, (uint8_t)((block.len + 4) >> 8));
    buf_append_u8(file, (uint8_t)((block.len + 4) >> 16));
    if (plain.len)
        buf_append(file, plain.ptr + FRAME_HEAD, 4);
    else
        buf_append(file, "\xd8\xea\x82\xa2", 4); /* of nothing */
    buf_append_slice(file, block);
    ASSERT(file->len == from + FRAME_HEAD + 4 + block.len);
    buf_fini(&plain);
}

/* Of an entry with so much payload, which begins the file. */
static void entry_begin(struct buf *file, size_t payload)
{
    uint8_t *none = calloc(1, payload + 1);
    struct buf raw;

    buf_init(&raw, SIZE_MAX);
    jarchive_begin(&raw);
    jarchive_put(&raw, &(struct jarchive_entry){.seq = 1, .payload = slice_of(none, payload)});
    jarchive_frame(slice_of(raw.ptr, raw.len - payload), true, file);
    buf_fini(&raw);
    free(none);
}

static void blocks(struct slice in, size_t step)
{
    struct buf text, frames, file;
    struct jarchive_entry e;
    struct jarchive a;
    bool known = true;
    unsigned i;

    buf_init(&text, SIZE_MAX);
    buf_init(&frames, SIZE_MAX);
    buf_init(&file, SIZE_MAX);
    for (i = 0; i < BLOCKS_MAX && in.len >= 2; i++) {
        size_t n = be16_load(in.ptr) < in.len - 2 ? be16_load(in.ptr) : in.len - 2;
        struct slice block = slice_of(in.ptr + 2, n);
        struct buf one;

        in = slice_of(block.ptr + n, in.len - 2 - n);
        buf_init(&one, BLOCK_MAX);
        known = known && n && block.ptr[0] != XERIAL && !codec_inflate(CODEC_SNAPPY, block, &one) &&
                one.len <= 65536;
        block_put(&frames, block, known ? buf_slice(&one) : SLICE_LIT(""));
        if (known)
            buf_append_slice(&text, buf_slice(&one));
        buf_fini(&one);
    }
    entry_begin(&file, text.len);
    buf_append_slice(&file, buf_slice(&frames));
    if (known) {
        jarchive_init(&a);
        ASSERT(!jarchive_feed(&a, buf_slice(&file), SIZE_MAX));
        ASSERT(!jarchive_next(&a, &e) && e.seq == 1 && slice_eq(e.payload, buf_slice(&text)));
        jarchive_fini(&a);
    }
    check(buf_slice(&file), step);
    buf_fini(&text);
    buf_fini(&frames);
    buf_fini(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in;
    struct buf raw, file;
    size_t step;

    if (size < 2 || size > INPUT_MAX)
        return 0;
    in = slice_of(data + 2, size - 2);
    step = (size_t)data[1] + 1;
    if (data[0] % 3 == 0)
        check(in, step);
    if (data[0] % 3 == 2)
        blocks(in, step);
    if (data[0] % 3 != 1)
        return 0;
    buf_init(&raw, SIZE_MAX);
    buf_init(&file, SIZE_MAX);
    jarchive_begin(&raw);
    buf_append_slice(&raw, in);
    jarchive_frame(buf_slice(&raw), true, &file);
    check(buf_slice(&file), step);
    buf_fini(&raw);
    buf_fini(&file);
    return 0;
}
