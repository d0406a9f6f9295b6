/* Part of a Parquet file, so that a look-up in an object store need not fetch all of it: the row groups
 * that may have what is wanted, by the statistics in the file's footer, and a footer that has these
 * alone. The groups' bytes stay at their places, so a local file with holes, these bytes and that
 * footer is a Parquet file, with fewer rows.
 *
 * A footer is a Thrift struct in the compact protocol (FileMetaData of parquet.thrift). Only what is
 * needed is understood; what is kept is copied byte by byte. Any thread. */
#ifndef WEIR_LAKE_PARQUET_PART_H
#define WEIR_LAKE_PARQUET_PART_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "lake/lake.h"

#define PARQUET_TAIL    8u /* length of the footer, "PAR1" */
#define PART_RANGES_MAX 256u

struct part_range {
    uint64_t from, to; /* bytes of the file */
};
struct parquet_part {
    struct buf footer;                        /* without its tail */
    struct buf groups;                        /* the numbers of those that are there, as text */
    struct part_range range[PART_RANGES_MAX]; /* ascending, without the footer */
    uint32_t ranges_n;
    uint64_t bytes; /* of all ranges */
};

/* data_end: where the file's footer begins. ERR_UNSUPPORTED: it is not understood, or the part would have
 * too many ranges: the whole file is to be read. parquet_part_fini in any case. */
enum err parquet_part_make(struct parquet_part *p, struct slice footer, uint64_t data_end,
                           const struct lake_wanted *wanted);
void parquet_part_fini(struct parquet_part *p);

#endif
