/* The four codecs over their libraries. See compress.h. Snappy is written in Xerial's framing,
 * which Kafka's Java clients demand and the others accept.
 *
 * Contexts of the libraries are large (zstd's is above a megabyte) and costly to make, so a few of
 * each kind are kept between uses: SPARES_N slots a kind, emptied and filled by atomic exchange, so
 * a context has one user at a time without a lock. They are freed when the library is unloaded.
 *
 * Memory while inflating is bounded by the output's maximum, not by what the input declares: a
 * declared size is only a hint, and zstd decodes straight into the output, so that it needs no
 * window buffer of the size that the frame asks for. */
#include "journal/compress.h"

#include <lz4frame.h>
#include <snappy-c.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/endian.h"
#include "base/mem.h"

#define CHUNK           (64u << 10)
#define XERIAL_BLOCK    (32u << 10)
#define ZSTD_LEVEL      3
#define CODEC_BYTES_MAX (512u << 20) /* the libraries count in 32 bits; batches are far smaller */

static const char *const names[CODEC_N] = {"none", "gzip", "snappy", "lz4", "zstd"};
static const uint8_t xerial_magic[8] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0};

const char *codec_name(int codec)
{
    return codec >= 0 && codec < CODEC_N ? names[codec] : NULL;
}

int codec_find(struct slice name)
{
    int i;

    for (i = 0; i < CODEC_N; i++)
        if (slice_eq_str(name, names[i]))
            return i;
    return -1;
}

/* ---- contexts ---- */

#define SPARES_N 4u
enum context { GZIP_DEFLATE, GZIP_INFLATE, LZ4_INFLATE, ZSTD_DEFLATE, ZSTD_INFLATE, CONTEXT_N };
static _Atomic(void *) spares[CONTEXT_N][SPARES_N];

static void *context_make(enum context kind)
{
    LZ4F_dctx *d = NULL;
    z_stream *z;
    int r;

    switch (kind) {
    case GZIP_DEFLATE:
    case GZIP_INFLATE:
        z = xcalloc(1, sizeof *z);
        r = kind == GZIP_INFLATE
                ? inflateInit2(z, 47)
                : deflateInit2(z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY);
        if (r == Z_OK)
            return z;
        free(z);
        return NULL;
    case LZ4_INFLATE:
        return LZ4F_isError(LZ4F_createDecompressionContext(&d, LZ4F_VERSION)) ? NULL : d;
    case ZSTD_DEFLATE:
        return ZSTD_createCCtx();
    case ZSTD_INFLATE:
        return ZSTD_createDCtx();
    case CONTEXT_N:
        break;
    }
    return NULL;
}

static void context_free(enum context kind, void *c)
{
    switch (kind) {
    case GZIP_DEFLATE:
        deflateEnd(c);
        free(c);
        break;
    case GZIP_INFLATE:
        inflateEnd(c);
        free(c);
        break;
    case LZ4_INFLATE:
        LZ4F_freeDecompressionContext(c);
        break;
    case ZSTD_DEFLATE:
        ZSTD_freeCCtx(c);
        break;
    case ZSTD_INFLATE:
        ZSTD_freeDCtx(c);
        break;
    case CONTEXT_N:
        break;
    }
}

/* NULL: out of memory. */
static void *context_take(enum context kind)
{
    unsigned i;

    for (i = 0; i < SPARES_N; i++) {
        void *c = atomic_exchange_explicit(&spares[kind][i], NULL, memory_order_acquire);

        if (c)
            return c;
    }
    return context_make(kind);
}

/* Whatever state it is in. */
static void context_give(enum context kind, void *c)
{
    unsigned i;

    if (kind == GZIP_DEFLATE)
        deflateReset(c);
    else if (kind == GZIP_INFLATE)
        inflateReset(c);
    else if (kind == LZ4_INFLATE)
        LZ4F_resetDecompressionContext(c);
    for (i = 0; i < SPARES_N; i++) {
        void *none = NULL;

        if (atomic_compare_exchange_strong_explicit(&spares[kind][i], &none, c,
                                                    memory_order_release, memory_order_relaxed))
            return;
    }
    context_free(kind, c);
}

__attribute__((destructor)) static void contexts_end(void)
{
    unsigned kind, i;

    for (kind = 0; kind < CONTEXT_N; kind++) {
        for (i = 0; i < SPARES_N; i++) {
            void *c = atomic_exchange(&spares[kind][i], NULL);

            if (c)
                context_free((enum context)kind, c);
        }
    }
}

/* ---- output ---- */

/* Where the next output goes: behind out's bytes, or, when out is full, into one spare byte, which
 * a decoder that only has its trailer left does not touch. */
struct room {
    uint8_t *ptr;
    size_t len;
    uint8_t spare;
};

static void room_get(struct room *r, struct buf *out, size_t want)
{
    size_t left = out->max - out->len;

    if (want > left)
        want = left;
    if (want == 0 || buf_reserve(out, want)) {
        r->ptr = &r->spare;
        r->len = 1;
        return;
    }
    r->ptr = out->ptr + out->len;
    r->len = out->cap - out->len;
    if (r->len > CODEC_BYTES_MAX)
        r->len = CODEC_BYTES_MAX;
}

/* n bytes were written there. */
static enum err room_used(struct room *r, struct buf *out, size_t n)
{
    if (r->ptr == &r->spare)
        return n ? ERR_TOO_LARGE : ERR_OK;
    out->len += n;
    return ERR_OK;
}

/* How much to ask for at a time: a usual ratio, so that most inputs need one turn. */
static size_t room_guess(struct slice in)
{
    return in.len < CHUNK ? CHUNK : in.len * 4;
}

/* ---- gzip ---- */

static enum err gzip_deflate(struct slice in, struct buf *out)
{
    z_stream *z = context_take(GZIP_DEFLATE);
    enum err e = ERR_OK;
    struct room to;
    int r = Z_OK;

    if (!z)
        return ERR_NO_MEMORY;
    z->next_in = (Bytef *)(uintptr_t)in.ptr;
    z->avail_in = (uInt)in.len;
    while (!e && r != Z_STREAM_END) {
        room_get(&to, out, deflateBound(z, (uLong)in.len));
        z->next_out = to.ptr;
        z->avail_out = (uInt)to.len;
        r = deflate(z, Z_FINISH);
        e = room_used(&to, out, to.len - z->avail_out);
        if (r != Z_OK && r != Z_BUF_ERROR && r != Z_STREAM_END)
            e = ERR_INTERNAL;
    }
    context_give(GZIP_DEFLATE, z);
    return e;
}

static enum err gzip_inflate(struct slice in, struct buf *out)
{
    z_stream *z = context_take(GZIP_INFLATE);
    enum err e = ERR_OK;
    struct room to;
    int r = Z_OK;

    if (!z)
        return ERR_NO_MEMORY;
    z->next_in = (Bytef *)(uintptr_t)in.ptr;
    z->avail_in = (uInt)in.len;
    while (!e && r != Z_STREAM_END) {
        room_get(&to, out, room_guess(in));
        z->next_out = to.ptr;
        z->avail_out = (uInt)to.len;
        r = inflate(z, Z_NO_FLUSH);
        e = room_used(&to, out, to.len - z->avail_out);
        if (!e && r != Z_OK && r != Z_STREAM_END)
            e = r == Z_MEM_ERROR ? ERR_NO_MEMORY : ERR_CORRUPT_INPUT;
    }
    if (!e && z->avail_in)
        e = ERR_CORRUPT_INPUT;
    context_give(GZIP_INFLATE, z);
    return e;
}

/* ---- snappy ---- */

static enum err snappy_deflate(struct slice in, struct buf *out)
{
    uint8_t head[16];
    enum err e;

    memcpy(head, xerial_magic, 8);
    be32_store(head + 8, 1);
    be32_store(head + 12, 1);
    e = buf_append(out, head, sizeof head);
    while (!e && in.len) {
        size_t n = in.len < XERIAL_BLOCK ? in.len : XERIAL_BLOCK;
        size_t cap = snappy_max_compressed_length(n);

        if ((e = buf_reserve(out, 4 + cap)))
            break;
        if (snappy_compress((const char *)in.ptr, n, (char *)out->ptr + out->len + 4, &cap) !=
            SNAPPY_OK)
            return ERR_INTERNAL;
        be32_store(out->ptr + out->len, (uint32_t)cap);
        out->len += 4 + cap;
        in.ptr += n;
        in.len -= n;
    }
    return e;
}

static enum err snappy_block(struct slice in, struct buf *out)
{
    size_t n = 0;
    enum err e;

    if (snappy_uncompressed_length((const char *)in.ptr, in.len, &n) != SNAPPY_OK)
        return ERR_CORRUPT_INPUT;
    if (n > in.len * 32 + 64) /* snappy's best ratio is below 22: the length is a lie */
        return ERR_CORRUPT_INPUT;
    if (n == 0)
        return in.len == 1 ? ERR_OK : ERR_CORRUPT_INPUT;
    if ((e = buf_reserve(out, n)))
        return e;
    if (snappy_uncompress((const char *)in.ptr, in.len, (char *)out->ptr + out->len, &n) !=
        SNAPPY_OK)
        return ERR_CORRUPT_INPUT;
    out->len += n;
    return ERR_OK;
}

static enum err snappy_inflate(struct slice in, struct buf *out)
{
    enum err e = ERR_OK;
    uint32_t n;

    if (in.len < 16 || memcmp(in.ptr, xerial_magic, 8) != 0)
        return snappy_block(in, out);
    in.ptr += 16;
    in.len -= 16;
    while (!e && in.len) {
        if (in.len < 4)
            return ERR_CORRUPT_INPUT;
        n = be32_load(in.ptr);
        if (n > in.len - 4)
            return ERR_CORRUPT_INPUT;
        e = snappy_block(slice_of(in.ptr + 4, n), out);
        in.ptr += 4 + (size_t)n;
        in.len -= 4 + (size_t)n;
    }
    return e;
}

/* ---- lz4 ---- */

static enum err lz4_deflate(struct slice in, struct buf *out)
{
    LZ4F_preferences_t prefs = {0};
    size_t cap, n;
    enum err e;

    prefs.frameInfo.blockMode = LZ4F_blockIndependent;
    cap = LZ4F_compressFrameBound(in.len, &prefs);
    if ((e = buf_reserve(out, cap)))
        return e;
    n = LZ4F_compressFrame(out->ptr + out->len, cap, in.ptr, in.len, &prefs);
    if (LZ4F_isError(n))
        return ERR_INTERNAL;
    out->len += n;
    return ERR_OK;
}

static enum err lz4_inflate(struct slice in, struct buf *out)
{
    LZ4F_dctx *d = context_take(LZ4_INFLATE);
    enum err e = d ? ERR_OK : ERR_NO_MEMORY;
    size_t hint = 1, from, n;
    struct room to;

    while (!e && hint) {
        room_get(&to, out, room_guess(in));
        n = to.len;
        from = in.len;
        hint = LZ4F_decompress(d, to.ptr, &n, in.ptr, &from, NULL);
        if (LZ4F_isError(hint) || (from == 0 && n == 0)) {
            e = ERR_CORRUPT_INPUT;
            break;
        }
        e = room_used(&to, out, n);
        in.ptr += from;
        in.len -= from;
    }
    if (!e && in.len)
        e = ERR_CORRUPT_INPUT;
    if (d)
        context_give(LZ4_INFLATE, d);
    return e;
}

/* ---- zstd ---- */

static enum err zstd_deflate(struct slice in, struct buf *out)
{
    size_t cap = ZSTD_compressBound(in.len), n;
    enum err e = buf_reserve(out, cap);
    ZSTD_CCtx *c;

    if (e)
        return e;
    if (!(c = context_take(ZSTD_DEFLATE)))
        return ERR_NO_MEMORY;
    n = ZSTD_compressCCtx(c, out->ptr + out->len, cap, in.ptr, in.len, ZSTD_LEVEL);
    context_give(ZSTD_DEFLATE, c);
    if (ZSTD_isError(n))
        return ERR_INTERNAL;
    out->len += n;
    return ERR_OK;
}

/* Decodes into the whole room at once, and again into a larger one if that was not enough. */
static enum err zstd_inflate(struct slice in, struct buf *out)
{
    unsigned long long declared = ZSTD_getFrameContentSize(in.ptr, in.len);
    size_t want = room_guess(in), left = out->max - out->len, n;
    enum err e = ERR_OK;
    ZSTD_DCtx *d;

    if (in.len == 0 || declared == ZSTD_CONTENTSIZE_ERROR)
        return ERR_CORRUPT_INPUT;
    if (declared != ZSTD_CONTENTSIZE_UNKNOWN && declared > left)
        return ERR_TOO_LARGE;
    if (!(d = context_take(ZSTD_INFLATE)))
        return ERR_NO_MEMORY;
    for (;; want = want > left / 4 ? left : want * 4) {
        struct room to;

        room_get(&to, out, want);
        n = ZSTD_decompressDCtx(d, to.ptr, to.len, in.ptr, in.len);
        if (!ZSTD_isError(n)) {
            e = room_used(&to, out, n);
            break;
        }
        if (ZSTD_getErrorCode(n) != ZSTD_error_dstSize_tooSmall) {
            e = ERR_CORRUPT_INPUT;
            break;
        }
        if (to.len >= left) {
            e = ERR_TOO_LARGE;
            break;
        }
    }
    context_give(ZSTD_INFLATE, d);
    return e;
}

/* ---- all ---- */

size_t codec_bound(size_t n)
{
    /* snappy's is the largest: a sixth, 32 bytes and a length for each block, and the magic. */
    return n + n / 6 + (n / XERIAL_BLOCK + 1) * 36 + CHUNK;
}

enum err codec_deflate(enum codec codec, struct slice in, struct buf *out)
{
    if (in.len > CODEC_BYTES_MAX)
        return ERR_TOO_LARGE;
    switch (codec) {
    case CODEC_NONE:
        return buf_append_slice(out, in);
    case CODEC_GZIP:
        return gzip_deflate(in, out);
    case CODEC_SNAPPY:
        return snappy_deflate(in, out);
    case CODEC_LZ4:
        return lz4_deflate(in, out);
    case CODEC_ZSTD:
        return zstd_deflate(in, out);
    }
    return ERR_UNSUPPORTED;
}

enum err codec_inflate(enum codec codec, struct slice in, struct buf *out)
{
    if (in.len > CODEC_BYTES_MAX)
        return ERR_TOO_LARGE;
    switch (codec) {
    case CODEC_NONE:
        return buf_append_slice(out, in);
    case CODEC_GZIP:
        return gzip_inflate(in, out);
    case CODEC_SNAPPY:
        return snappy_inflate(in, out);
    case CODEC_LZ4:
        return lz4_inflate(in, out);
    case CODEC_ZSTD:
        return zstd_inflate(in, out);
    }
    return ERR_UNSUPPORTED;
}
