/* When a scheduled message is due: "@at <RFC 3339>", "@every <duration>", or six fields of cron
 * (seconds first) and their names (@hourly …). Source: NATS ADR-51, and what nats-server takes.
 * Any thread. */
#ifndef WEIR_PROTO_NATS_JS_CRON_H
#define WEIR_PROTO_NATS_JS_CRON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/tz.h"

struct jcron {
    int64_t ns;  /* when it is due next, nanoseconds since 1970 */
    bool repeat; /* and again afterwards */
};

/* What follows from_ns. What repeats is not due before now_ns: what was missed is left out. zoned: a
 * time zone is given, zone (NULL: UTC), which only cron's fields take. False: it is no pattern, or
 * is never due. */
bool jcron_next(struct slice pattern, bool zoned, const struct tz *zone, int64_t from_ns,
                int64_t now_ns, struct jcron *out);

#define JCRON_TIME_LEN 25
/* RFC 3339, as whole seconds: "2026-01-02T03:04:05Z", in a zone "2026-01-02T04:04:05+01:00". */
void jcron_time(int64_t ns, const struct tz *zone, char out[JCRON_TIME_LEN + 1]);

#endif
