/* The four codecs over their libraries. See compress.h. Snappy is written in Xerial's framing, which
 * Kafka's Java clients demand and the others accept. */
#include "journal/compress.h"

#include <lz4frame.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

#include "base/endian.h"

#define CHUNK (64u << 10)
#define XERIAL_BLOCK (32u << 10)

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

/* Room for some output: a chunk, or what is left of the maximum; 0 when that is used up. */
static size_t room(struct buf *out, size_t want)
{
    size_t left = out->max - out->len;

    if (want > left)
        want = left;
    return want && buf_reserve(out, want) == ERR_OK ? want : 0;
}

static enum err gzip_deflate(struct slice in, struct buf *out)
{
    z_stream z = {0};
    enum err e = ERR_OK;
    size_t n;
    int r;

    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return ERR_NO_MEMORY;
    z.next_in = (Bytef *)(uintptr_t)in.ptr;
    z.avail_in = (uInt)in.len;
    do {
        n = room(out, CHUNK);
        if (n == 0) {
            e = ERR_TOO_LARGE;
            break;
        }
        z.next_out = out->ptr + out->len;
        z.avail_out = (uInt)n;
        r = deflate(&z, Z_FINISH);
        out->len += n - z.avail_out;
    } while (r == Z_OK || r == Z_BUF_ERROR);
    deflateEnd(&z);
    return e;
}

static enum err gzip_inflate(struct slice in, struct buf *out)
{
    z_stream z = {0};
    enum err e = ERR_OK;
    size_t n;
    int r = Z_OK;

    if (inflateInit2(&z, 47) != Z_OK)
        return ERR_NO_MEMORY;
    z.next_in = (Bytef *)(uintptr_t)in.ptr;
    z.avail_in = (uInt)in.len;
    while (!e && r != Z_STREAM_END) {
        n = room(out, CHUNK);
        if (n == 0) {
            e = ERR_TOO_LARGE;
            break;
        }
        z.next_out = out->ptr + out->len;
        z.avail_out = (uInt)n;
        r = inflate(&z, Z_NO_FLUSH);
        out->len += n - z.avail_out;
        if (r != Z_OK && r != Z_STREAM_END)
            e = ERR_CORRUPT_INPUT;
    }
    if (!e && z.avail_in)
        e = ERR_CORRUPT_INPUT;
    inflateEnd(&z);
    return e;
}

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
    LZ4F_dctx *d = NULL;
    enum err e = ERR_OK;
    size_t hint = 1, from, n;

    if (LZ4F_isError(LZ4F_createDecompressionContext(&d, LZ4F_VERSION)))
        return ERR_NO_MEMORY;
    while (!e && hint) {
        n = room(out, CHUNK);
        from = in.len;
        if (n == 0) {
            e = ERR_TOO_LARGE;
            break;
        }
        hint = LZ4F_decompress(d, out->ptr + out->len, &n, in.ptr, &from, NULL);
        if (LZ4F_isError(hint) || (from == 0 && n == 0)) {
            e = ERR_CORRUPT_INPUT;
            break;
        }
        out->len += n;
        in.ptr += from;
        in.len -= from;
    }
    if (!e && in.len)
        e = ERR_CORRUPT_INPUT;
    LZ4F_freeDecompressionContext(d);
    return e;
}

static enum err zstd_deflate(struct slice in, struct buf *out)
{
    size_t cap = ZSTD_compressBound(in.len), n;
    enum err e = buf_reserve(out, cap);

    if (e)
        return e;
    n = ZSTD_compress(out->ptr + out->len, cap, in.ptr, in.len, 3);
    if (ZSTD_isError(n))
        return ERR_INTERNAL;
    out->len += n;
    return ERR_OK;
}

static enum err zstd_inflate(struct slice in, struct buf *out)
{
    ZSTD_DStream *d = ZSTD_createDStream();
    ZSTD_inBuffer i = {in.ptr, in.len, 0};
    enum err e = d ? ERR_OK : ERR_NO_MEMORY;
    size_t r = 1, n;

    while (!e && r) {
        ZSTD_outBuffer o;
        size_t at = i.pos;

        n = room(out, CHUNK);
        if (n == 0) {
            e = ERR_TOO_LARGE;
            break;
        }
        o = (ZSTD_outBuffer){out->ptr + out->len, n, 0};
        r = ZSTD_decompressStream(d, &o, &i);
        if (ZSTD_isError(r) || (i.pos == at && o.pos == 0)) {
            e = ERR_CORRUPT_INPUT;
            break;
        }
        out->len += o.pos;
        if (r == 0 && i.pos < i.size)
            r = 1; /* another frame follows */
    }
    ZSTD_freeDStream(d);
    return e;
}

enum err codec_deflate(enum codec codec, struct slice in, struct buf *out)
{
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
