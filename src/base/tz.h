/* Time zones: how far local time is from UTC, of a file of the tz database (TZif, RFC 9636). No I/O:
 * who reads the file gives its bytes. What there is of them does not change: any thread. */
#ifndef WEIR_BASE_TZ_H
#define WEIR_BASE_TZ_H

#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

#define TZ_FILE_MAX (256u << 10) /* bytes; the database's largest has less than 4 KiB */

struct tz;

/* ERR_CORRUPT: it is no such file. */
enum err tz_new(struct slice file, struct tz **out);
void tz_free(struct tz **z);
/* Seconds east of UTC at this time, in seconds since 1970. z NULL: UTC. */
int32_t tz_offset_s(const struct tz *z, int64_t at_s);
/* When a clock on the wall shows this, as seconds since 1970 if it were UTC: the first time if it
 * shows it twice; if it never does, as if it had not been put forward. */
int64_t tz_from_local(const struct tz *z, int64_t local_s);

#endif
