/* RFC 3339 times in UTC, to and from milliseconds since 1970. Any thread. */
#ifndef WEIR_BASE_TIMEFMT_H
#define WEIR_BASE_TIMEFMT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define TIME_MS_MIN   (-62167219200000ll) /* 0000-01-01 */
#define TIME_MS_MAX   253402300799999ll   /* 9999-12-31T23:59:59.999Z */
#define TIME_TEXT_LEN 24
/* "2026-01-02T03:04:05.678Z"; years 0 to 9999, others are clamped. Returns TIME_TEXT_LEN. */
int time_format(int64_t ms, char out[TIME_TEXT_LEN + 1]);
/* Date and time with optional fraction (any number of digits, cut to milliseconds) and zone (Z or
 * +hh:mm; none means UTC), or a date alone. False if it is not one. */
bool time_parse(struct slice s, int64_t *ms);
/* Milliseconds as microseconds, cut to what tables, too, take for a time: from 290309-12-22 BC to
 * 294247-01-10, where microseconds end in 64 bits. */
int64_t time_us(int64_t ms);
/* Days since 1970-01-01 of a date of the Gregorian calendar, m from 1 on; d need not be in it. */
int64_t time_days(int64_t y, int m, int d);
void time_civil(int64_t days, int64_t *y, int *m, int *d);

#endif
