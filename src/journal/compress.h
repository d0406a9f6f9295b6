/* Compression of record batches, by the codec numbers of Kafka's batch attributes. Sizes from
 * outside are bounded: inflating stops with ERR_TOO_LARGE at the output's maximum, whatever the
 * input claims. Any thread; contexts are kept between calls (see compress.c), at most four of a
 * kind. */
#ifndef WEIR_JOURNAL_COMPRESS_H
#define WEIR_JOURNAL_COMPRESS_H

#include "base/buf.h"

enum codec { CODEC_NONE = 0, CODEC_GZIP = 1, CODEC_SNAPPY = 2, CODEC_LZ4 = 3, CODEC_ZSTD = 4 };
#define CODEC_N 5

/* "none", "gzip", … ; NULL if the number is not one. */
const char *codec_name(int codec);
/* -1 if the name is not one. */
int codec_find(struct slice name);

/* Appends the compressed form to out. ERR_TOO_LARGE: out's maximum, which should leave room for
 * codec_bound (some libraries want it all before they begin); ERR_NO_MEMORY, ERR_UNSUPPORTED. On an
 * error, bytes behind out's old length may have been appended. */
enum err codec_deflate(enum codec codec, struct slice in, struct buf *out);
/* The most that n bytes become, by any codec. */
size_t codec_bound(size_t n);
/* Appends the inflated form. ERR_CORRUPT_INPUT (also bytes behind the end), ERR_TOO_LARGE,
 * ERR_NO_MEMORY, ERR_UNSUPPORTED. snappy: raw or in Xerial's framing; lz4: frame format. On an
 * error, bytes behind out's old length may have been appended. */
enum err codec_inflate(enum codec codec, struct slice in, struct buf *out);

#endif
