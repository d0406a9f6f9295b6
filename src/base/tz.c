/* See tz.h. A file has its header and data twice: with times of 32 bits for old readers, which are
 * passed over, and of 64 bits; then a line that tells the rule for all later times, in the notation
 * of POSIX's TZ, extended to hours of a week (RFC 9636, 3.3). */
#include "base/tz.h"

#include <stdlib.h>

#include "base/endian.h"
#include "base/mem.h"
#include "base/timefmt.h"

#define HEADER      44u
#define TYPE_BYTES  6u
#define DAY_S       86400
#define TIMES_MAX   4096u
#define TYPES_MAX   256u
#define SHIFT_S_MAX (26 * 3600)

/* When a part of the year begins. */
struct rule {
    enum { JULIAN, DAY, WEEKDAY } kind; /* Jn: without leap days; n: from 0; Mm.w.d */
    int day, month, week;
    int32_t at_s;
};

struct tz {
    uint32_t times, types;
    int64_t *time;   /* each: from when … */
    uint8_t *type;   /* … which type holds */
    int32_t *offset; /* by type */
    bool ruled;      /* what follows is known: behind the last time */
    bool saving;
    int32_t standard, summer;
    struct rule begin, end; /* of summer */
};

/* ---- the rule ---- */

struct cursor {
    const uint8_t *p, *end;
    bool bad;
};

static bool take(struct cursor *c, uint8_t ch)
{
    if (c->p == c->end || *c->p != ch)
        return false;
    c->p++;
    return true;
}

static int number(struct cursor *c, int max)
{
    int v = 0;
    const uint8_t *from = c->p;

    while (c->p < c->end && *c->p >= '0' && *c->p <= '9' && v <= max)
        v = v * 10 + (*c->p++ - '0');
    c->bad = c->bad || c->p == from || v > max;
    return v;
}

static void name(struct cursor *c)
{
    const uint8_t *from = c->p;

    if (take(c, '<')) {
        while (c->p < c->end && *c->p != '>')
            c->p++;
        c->bad = c->bad || !take(c, '>');
        return;
    }
    while (c->p < c->end && ((*c->p | 32) >= 'a' && (*c->p | 32) <= 'z'))
        c->p++;
    c->bad = c->bad || c->p - from < 3;
}

/* [+-]h[h[h]][:mm[:ss]], in seconds. */
static int32_t clock_s(struct cursor *c)
{
    bool minus = take(c, '-');
    int32_t s;

    if (!minus)
        take(c, '+');
    s = number(c, 167) * 3600;
    if (take(c, ':'))
        s += number(c, 59) * 60;
    if (take(c, ':'))
        s += number(c, 59);
    return minus ? -s : s;
}

static void rule_read(struct cursor *c, struct rule *r)
{
    *r = (struct rule){.kind = DAY, .at_s = 2 * 3600};
    c->bad = c->bad || !take(c, ',');
    if (take(c, 'M')) {
        r->kind = WEEKDAY;
        r->month = number(c, 12);
        c->bad = c->bad || !take(c, '.') || !r->month;
        r->week = number(c, 5);
        c->bad = c->bad || !take(c, '.') || !r->week;
        r->day = number(c, 6);
    } else if (take(c, 'J')) {
        r->kind = JULIAN;
        r->day = number(c, 365);
    } else {
        r->day = number(c, 365);
    }
    if (take(c, '/'))
        r->at_s = clock_s(c);
}

static bool shift_ok(int32_t s)
{
    return s <= SHIFT_S_MAX && s >= -SHIFT_S_MAX;
}

static bool rules_read(struct tz *z, struct slice line)
{
    struct cursor c = {line.ptr, line.ptr + line.len, false};

    name(&c);
    z->standard = -clock_s(&c);
    z->ruled = true;
    if (c.p == c.end)
        return !c.bad && shift_ok(z->standard);
    z->saving = true;
    name(&c);
    z->summer = z->standard + 3600;
    if (c.p < c.end && *c.p != ',')
        z->summer = -clock_s(&c);
    rule_read(&c, &z->begin);
    rule_read(&c, &z->end);
    return !c.bad && c.p == c.end && shift_ok(z->standard) && shift_ok(z->summer);
}

/* Local time at which it comes in a year, in seconds since 1970. */
static int64_t rule_at(const struct rule *r, int64_t year)
{
    int64_t first = time_days(year, 1, 1), day;
    bool leap = time_days(year + 1, 1, 1) - first == 366;
    int weekday;

    if (r->kind == JULIAN) {
        day = first + r->day - 1 + (leap && r->day >= 60);
    } else if (r->kind == DAY) {
        day = first + r->day;
    } else {
        day = time_days(year, r->month, 1);
        weekday = (int)((day + 4) % 7 + 7) % 7;
        day += (r->day - weekday + 7) % 7 + (int64_t)(r->week - 1) * 7;
        if (day >= time_days(r->month == 12 ? year + 1 : year, r->month % 12 + 1, 1))
            day -= 7; /* the fifth is the last */
    }
    return day * DAY_S + r->at_s;
}

static int32_t rule_offset(const struct tz *z, int64_t at_s)
{
    int64_t local = at_s + z->standard, year, begin, end;
    int64_t days = local / DAY_S - (local % DAY_S < 0);
    int m, d;
    bool in;

    if (!z->saving)
        return z->standard;
    time_civil(days, &year, &m, &d);
    begin = rule_at(&z->begin, year) - z->standard;
    end = rule_at(&z->end, year) - z->summer;
    in = begin < end ? at_s >= begin && at_s < end : at_s >= begin || at_s < end;
    return in ? z->summer : z->standard;
}

/* ---- the file ---- */

struct counts {
    uint32_t isut, isstd, leaps, times, types, chars;
};

static bool header_read(struct slice f, struct counts *c, uint8_t *version)
{
    if (f.len < HEADER || memcmp(f.ptr, "TZif", 4) != 0)
        return false;
    *version = f.ptr[4];
    *c = (struct counts){be32_load(f.ptr + 20), be32_load(f.ptr + 24), be32_load(f.ptr + 28),
                         be32_load(f.ptr + 32), be32_load(f.ptr + 36), be32_load(f.ptr + 40)};
    return c->times <= TIMES_MAX && c->types && c->types <= TYPES_MAX && c->chars <= 4096 &&
           c->leaps <= 4096 && c->isut <= TYPES_MAX && c->isstd <= TYPES_MAX;
}

static size_t data_len(const struct counts *c, size_t time)
{
    return c->times * (time + 1) + c->types * TYPE_BYTES + c->chars + c->leaps * (time + 4) +
           c->isstd + c->isut;
}

static bool data_read(struct tz *z, const struct counts *c, const uint8_t *p)
{
    uint32_t i;

    z->times = c->times;
    z->types = c->types;
    z->time = xcalloc(c->times + 1, sizeof *z->time);
    z->type = xcalloc(c->times + 1, 1);
    z->offset = xcalloc(c->types, sizeof *z->offset);
    for (i = 0; i < c->times; i++, p += 8) {
        z->time[i] = (int64_t)be64_load(p);
        if (i && z->time[i] <= z->time[i - 1])
            return false;
    }
    for (i = 0; i < c->times; i++, p++) {
        z->type[i] = *p;
        if (*p >= c->types)
            return false;
    }
    for (i = 0; i < c->types; i++, p += TYPE_BYTES) {
        z->offset[i] = (int32_t)be32_load(p);
        if (!shift_ok(z->offset[i]))
            return false;
    }
    return true;
}

enum err tz_new(struct slice f, struct tz **out)
{
    struct tz *z = xcalloc(1, sizeof *z);
    struct slice line;
    struct counts c;
    uint8_t version;
    size_t n;

    *out = NULL;
    if (!header_read(f, &c, &version) || version < '2' || f.len < HEADER + data_len(&c, 4))
        goto corrupt;
    n = HEADER + data_len(&c, 4);
    f = slice_of(f.ptr + n, f.len - n);
    if (!header_read(f, &c, &version) || f.len < HEADER + data_len(&c, 8) ||
        !data_read(z, &c, f.ptr + HEADER))
        goto corrupt;
    n = HEADER + data_len(&c, 8);
    line = slice_of(f.ptr + n, f.len - n);
    if (line.len < 2 || line.ptr[0] != '\n' || line.ptr[line.len - 1] != '\n')
        goto corrupt;
    line = slice_of(line.ptr + 1, line.len - 2);
    if (line.len && !rules_read(z, line))
        goto corrupt;
    *out = z;
    return ERR_OK;
corrupt:
    tz_free(&z);
    return ERR_CORRUPT;
}

void tz_free(struct tz **zp)
{
    struct tz *z = *zp;

    *zp = NULL;
    if (!z)
        return;
    free(z->time);
    free(z->type);
    free(z->offset);
    free(z);
}

int32_t tz_offset_s(const struct tz *z, int64_t at_s)
{
    uint32_t lo = 0, hi, mid;

    if (!z)
        return 0;
    if (z->ruled && (!z->times || at_s >= z->time[z->times - 1]))
        return rule_offset(z, at_s);
    for (hi = z->times; lo < hi;) { /* the first time behind it */
        mid = lo + (hi - lo) / 2;
        if (z->time[mid] <= at_s)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? z->offset[z->type[lo - 1]] : z->offset[0];
}

int64_t tz_from_local(const struct tz *z, int64_t local_s)
{
    int32_t before = tz_offset_s(z, local_s - DAY_S), after = tz_offset_s(z, local_s + DAY_S);

    /* the one before a change nearby is right, unless it is over by then */
    if (before != after && tz_offset_s(z, local_s - before) != before &&
        tz_offset_s(z, local_s - after) == after)
        return local_s - after;
    return local_s - before;
}
