/* Fuzzes when scheduled messages are due. The input: which zone (a byte), when it was due before, and how
 * much later it is now (8 bytes each, big endian), the pattern. What repeats is not due before now; a
 * time of cron is one that its pattern has, and none is left out on the way to it. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/endian.h"
#include "proto/nats/js_cron.h"

#define PATTERN_MAX 512u
#define HEAD        17u
#define S_NS        1000000000ll

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* By its rule alone. */
static struct tz *zone(const char *rule)
{
    struct tz *z;
    struct buf b;
    int i, j;

    buf_init(&b, 1024);
    for (i = 0; i < 2; i++) { /* for old readers, and again */
        buf_append_str(&b, "TZif2");
        for (j = 0; j < 31; j++)
            buf_append_u8(&b, 0);
        buf_append_be32(&b, 1);
        buf_append_be32(&b, 1);
        buf_append(&b, "\0\0\0\0\0\0", 7);
    }
    buf_printf(&b, "\n%s\n", rule);
    ASSERT(tz_new(buf_slice(&b), &z) == ERR_OK);
    buf_fini(&b);
    return z;
}

static const struct tz *zone_of(uint8_t which)
{
    static const char *const rules[] = {
        "CET-1CEST,M3.5.0,M10.5.0/3", "EST5EDT,M3.2.0,M11.1.0",
        "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", /* by half an hour */
        "<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45", "<-02>2<-01>,M3.5.0/-1,M10.5.0/0"};
    static struct tz *zones[sizeof rules / sizeof *rules];
    size_t i;

    for (i = 0; i < sizeof rules / sizeof *rules; i++)
        zones[i] = zones[i] ? zones[i] : zone(rules[i]);
    return which % 8 < i ? zones[which % 8] : NULL;
}

static void check_time(int64_t ns, const struct tz *z)
{
    char text[JCRON_TIME_LEN + 1];

    jcron_time(ns, z, text);
    ASSERT(strlen(text) == JCRON_TIME_LEN || (strlen(text) == 20 && text[19] == 'Z'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int64_t from, now, mid;
    const struct tz *z;
    struct jcron c, d;
    struct slice s;
    bool zoned;

    if (size < HEAD || size > HEAD + PATTERN_MAX)
        return 0;
    z = zone_of(data[0]);
    zoned = z || data[0] & 0x80; /* UTC may be named, too */
    from = (int64_t)(be64_load(data + 1) >> 1);
    now = (int64_t)(be64_load(data + 9) >> 1);
    now = now > INT64_MAX - from ? INT64_MAX : from + now;
    s = slice_of(data + HEAD, size - HEAD);
    if (jcron_next(s, zoned, z, from, now, &c)) {
        ASSERT(!c.repeat || c.ns >= now);
        check_time(c.ns, z);
    }
    if (!jcron_next(s, zoned, z, from, from, &c) || !c.repeat)
        return 0;
    ASSERT(c.ns >= from);
    check_time(c.ns, z);
    if (slice_has_prefix(s, SLICE_LIT("@every ")))
        return 0;
    ASSERT(c.ns % S_NS == 0 && c.ns > from);
    ASSERT(jcron_next(s, zoned, z, c.ns - S_NS, c.ns - S_NS, &d) && d.ns == c.ns);
    mid = from + (c.ns - from) / 2;
    if (mid < c.ns)
        ASSERT(jcron_next(s, zoned, z, mid, mid, &d) && d.ns == c.ns);
    return 0;
}
