/* Fuzzes files of time zones. What is taken has an offset at any time, and local times are found again
 * where a clock shows them. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/tz.h"

#define SHIFT_S_MAX (26 * 3600)
#define YEAR_S      31556952ll
#define DAY_S       86400

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int32_t offset(const struct tz *z, int64_t at_s)
{
    int32_t s = tz_offset_s(z, at_s);

    ASSERT(s <= SHIFT_S_MAX && s >= -SHIFT_S_MAX);
    return s;
}

/* Shown by a clock that shows the offset of the day before or after. */
static bool shown(const struct tz *z, int64_t local_s)
{
    int32_t before = offset(z, local_s - DAY_S), after = offset(z, local_s + DAY_S);

    return offset(z, local_s - before) == before || offset(z, local_s - after) == after;
}

static void check(const struct tz *z, int64_t at_s)
{
    int64_t t = tz_from_local(z, at_s);

    ASSERT(t <= at_s + SHIFT_S_MAX && t >= at_s - SHIFT_S_MAX);
    ASSERT((t + offset(z, t) == at_s) == shown(z, at_s));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t state = size;
    struct tz *z;
    int i;

    if (size > TZ_FILE_MAX)
        return 0;
    if (tz_new(slice_of(data, size), &z)) {
        ASSERT(!z);
        return 0;
    }
    for (i = -400; i < 400; i++) /* some in each year, as nanoseconds can tell them */
        check(z, i * YEAR_S / 2 + (int64_t)(rng_next(&state) % YEAR_S));
    tz_free(&z);
    ASSERT(!z);
    return 0;
}
