/* The earliest timestamp in stretches of the local log, so that a range of time need not read all that
 * comes after its beginning: the log's index has the latest timestamp of each batch, from which nothing
 * follows for what lies behind the range's end. It is learnt by the scans that have to look: what one
 * has seen the next does not read again.
 *
 * A zone says of all records with offsets in [from, to) that none is earlier than min_ms. Records
 * never change, and only go away, so that what was true stays true. Memory is bounded: neighbours become
 * one, and in the end all are forgotten.
 *
 * Any thread. */
#ifndef WEIR_SQL_ZONES_H
#define WEIR_SQL_ZONES_H

#include "io/io.h"

#define ZONE_RECORDS    4096u /* offsets that a zone has at most, at first */
#define ZONES_MAX       4096u /* of one partition; then they become twice as large */
#define ZONES_TOTAL_MAX 262144u
#define ZONE_RANGES_MAX 64u /* that a cut has at most */

struct zones;
struct zones *zones_new(struct io *io);
void zones_free(struct zones **z);
/* start: offsets below are gone. min_ms INT64_MAX: no record will ever be seen there. */
void zones_learn(struct zones *z, const uint8_t uuid[16], int32_t partition, int64_t start,
                 int64_t from, int64_t to, int64_t min_ms);
struct zone_range {
    int64_t from, to;
};
/* Where in [from, to) there may be records at or before last_ms: how many ranges, ascending. */
uint32_t zones_cut(struct zones *z, const uint8_t uuid[16], int32_t partition, int64_t from,
                   int64_t to, int64_t last_ms, struct zone_range out[ZONE_RANGES_MAX]);

#endif
