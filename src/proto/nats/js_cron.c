/* See js_cron.h. A time of cron is looked for from the largest unit to the smallest: where one does
 * not match, all goes on to the next one of it, and is looked at again from the start. */
#include "proto/nats/js_cron.h"

#include <stdio.h>

#include "base/timefmt.h"
#include "proto/nats/js_conf.h"
#include "proto/nats/js_words.h"
#include "proto/nats/parse.h"

#define S_NS      1000000000ll
#define DAY_S     86400
#define YEARS_MAX 5
#define STAR      (1ull << 63)
#define FIELDS    6u

enum { SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY };

static const struct field {
    unsigned min, max;
    const char *names; /* of three letters each, from min on */
} fields[FIELDS] = {{0, 59, ""},
                    {0, 59, ""},
                    {0, 23, ""},
                    {1, 31, ""},
                    {1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
                    {0, 6, "sunmontuewedthufrisat"}};

/* ---- reading ---- */

/* Up to a delimiter, which is taken off; false: there is no more. */
static bool part(struct slice *rest, char delimiter, struct slice *out)
{
    const uint8_t *at;

    if (slice_is_null(*rest))
        return false;
    at = rest->len ? memchr(rest->ptr, delimiter, rest->len) : NULL;
    *out = slice_of(rest->ptr, at ? (size_t)(at - rest->ptr) : rest->len);
    *rest = at ? slice_of(at + 1, rest->len - out->len - 1) : SLICE_NULL;
    return true;
}

static bool number(struct slice s, unsigned *out)
{
    int64_t v = nats_number(s);

    *out = (unsigned)v;
    return v >= 0;
}

static bool number_or_name(struct slice s, const struct field *f, unsigned *out)
{
    size_t i, j;

    for (i = 0; s.len == 3 && f->names[i]; i += 3) {
        for (j = 0; j < 3 && (s.ptr[j] | 32) == f->names[i + j]; j++)
            ;
        if (j == 3) {
            *out = f->min + (unsigned)i / 3;
            return true;
        }
    }
    return number(s, out);
}

/* 5, 5-9, *, ?, each with /step. */
static bool range_read(struct slice s, const struct field *f, uint64_t *bits)
{
    struct slice steps, range, low, high = SLICE_NULL, more;
    unsigned from = f->min, to = f->max, step = 1, i;
    bool stepped, star, single;

    part(&s, '/', &range);
    stepped = part(&s, '/', &steps);
    part(&range, '-', &low);
    single = !part(&range, '-', &high);
    star = slice_eq_str(low, "*") || slice_eq_str(low, "?");
    if (part(&s, '/', &more) || (stepped && !number(steps, &step)))
        return false;
    if (!star) {
        if (!number_or_name(low, f, &from) || (!single && !number_or_name(high, f, &to)) ||
            part(&range, '-', &more))
            return false;
        if (single && !stepped)
            to = from;
    }
    if (from < f->min || to > f->max || from > to || !step)
        return false;
    for (i = from; i <= to; i += step)
        *bits |= 1ull << i;
    if (star && step == 1)
        *bits |= STAR;
    return true;
}

static bool field_read(struct slice s, const struct field *f, uint64_t *bits)
{
    struct slice range;

    for (*bits = 0; part(&s, ',', &range);)
        if (range.len && !range_read(range, f, bits))
            return false;
    return true;
}

static bool blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool fields_read(struct slice s, uint64_t bits[FIELDS])
{
    unsigned n = 0;
    size_t i = 0, from;

    for (;;) {
        while (i < s.len && blank(s.ptr[i]))
            i++;
        if (i == s.len)
            return n == FIELDS;
        for (from = i; i < s.len && !blank(s.ptr[i]);)
            i++;
        if (n == FIELDS || !field_read(slice_of(s.ptr + from, i - from), &fields[n], &bits[n]))
            return false;
        n++;
    }
}

/* ---- what follows ---- */

struct local {
    int64_t day, year; /* day: since 1970 */
    int month, mday, second;
};

static void local_of(const struct tz *z, int64_t at_s, struct local *l)
{
    int64_t s = at_s + tz_offset_s(z, at_s);

    l->second = (int)((s % DAY_S + DAY_S) % DAY_S);
    l->day = (s - l->second) / DAY_S;
    time_civil(l->day, &l->year, &l->month, &l->mday);
}

static bool day_matches(const uint64_t bits[FIELDS], const struct local *l)
{
    bool day = bits[DAY] >> l->mday & 1;
    bool week = bits[WEEKDAY] >> ((l->day + 4) % 7 + 7) % 7 & 1;

    return (bits[DAY] | bits[WEEKDAY]) & STAR ? day && week : day || week;
}

/* When a day begins, behind at_s. */
static int64_t day_begins(const struct tz *z, int64_t day, int64_t at_s)
{
    int64_t t = tz_from_local(z, day * DAY_S);

    return t > at_s ? t : at_s + 3600;
}

static bool cron_next(const uint64_t bits[FIELDS], const struct tz *z, int64_t from_s, int64_t *out)
{
    int64_t t = from_s + 1, last;
    struct local l;

    if (!bits[SECOND] || !bits[MINUTE] || !bits[HOUR])
        return false; /* it would be looked for second by second, for years */
    local_of(z, t, &l);
    for (last = l.year + YEARS_MAX; l.year <= last; local_of(z, t, &l)) {
        if (!(bits[MONTH] >> l.month & 1)) {
            t = day_begins(z, time_days(l.month == 12 ? l.year + 1 : l.year, l.month % 12 + 1, 1),
                           t);
        } else if (!day_matches(bits, &l)) {
            t = day_begins(z, l.day + 1, t);
        } else if (!(bits[HOUR] >> l.second / 3600 & 1)) {
            t += 3600 - l.second % 3600;
        } else if (!(bits[MINUTE] >> l.second / 60 % 60 & 1)) {
            t += 60 - l.second % 60;
        } else if (!(bits[SECOND] >> l.second % 60 & 1)) {
            t++;
        } else {
            *out = t;
            return t <= INT64_MAX / S_NS;
        }
    }
    return false;
}

static int64_t floor_s(int64_t ns)
{
    return ns / S_NS - (ns % S_NS < 0);
}

static int64_t rounded_s(int64_t ns)
{
    int64_t s = floor_s(ns);

    return s + (ns - s * S_NS >= S_NS / 2);
}

static bool fields_next(struct slice pattern, const struct tz *z, int64_t from_ns, int64_t now_ns,
                        int64_t *ns)
{
    static const struct {
        const char *name, *fields;
    } names[] = {{"@yearly", "0 0 0 1 1 *"},  {"@annually", "0 0 0 1 1 *"},
                 {"@monthly", "0 0 0 1 * *"}, {"@weekly", "0 0 0 * * 0"},
                 {"@daily", "0 0 0 * * *"},   {"@midnight", "0 0 0 * * *"},
                 {"@hourly", "0 0 * * * *"}};
    uint64_t bits[FIELDS];
    int64_t s;
    size_t i;

    for (i = 0; i < sizeof names / sizeof *names; i++)
        if (slice_eq_str(pattern, names[i].name))
            pattern = slice_str(names[i].fields);
    if (!fields_read(pattern, bits) || !cron_next(bits, z, floor_s(from_ns), &s))
        return false;
    if (s * S_NS < now_ns && !cron_next(bits, z, rounded_s(now_ns), &s))
        return false;
    *ns = s * S_NS;
    return true;
}

static bool every_next(struct slice text, int64_t from_ns, int64_t now_ns, int64_t *ns)
{
    int64_t every;

    if (!jduration_read(text, &every) || every < S_NS)
        return false;
    if (every > INT64_MAX - S_NS - (from_ns > now_ns ? from_ns : now_ns))
        return false;
    *ns = rounded_s(from_ns) * S_NS + every;
    if (*ns < now_ns)
        *ns = rounded_s(now_ns) * S_NS + every;
    return true;
}

/* With a time and a zone. */
static bool at_read(struct slice s, int64_t *ns)
{
    return s.len >= 20 && (s.ptr[10] | 32) == 't' &&
           ((s.ptr[s.len - 1] | 32) == 'z' || memchr("+-", s.ptr[s.len - 6], 2)) &&
           jtime_read(s, ns);
}

bool jcron_next(struct slice pattern, bool zoned, const struct tz *zone, int64_t from_ns,
                int64_t now_ns, struct jcron *out)
{
    struct slice at = SLICE_LIT("@at "), every = SLICE_LIT("@every ");

    out->repeat = !slice_has_prefix(pattern, at);
    if (!out->repeat)
        return !zoned && at_read(slice_of(pattern.ptr + at.len, pattern.len - at.len), &out->ns);
    if (slice_has_prefix(pattern, every))
        return !zoned && every_next(slice_of(pattern.ptr + every.len, pattern.len - every.len),
                                    from_ns, now_ns, &out->ns);
    return fields_next(pattern, zone, from_ns, now_ns, &out->ns);
}

void jcron_time(int64_t ns, const struct tz *zone, char out[JCRON_TIME_LEN + 1])
{
    int32_t off = tz_offset_s(zone, floor_s(ns)), east = off < 0 ? -off : off;
    char text[TIME_TEXT_LEN + 1];

    time_format((floor_s(ns) + off) * 1000, text);
    if (zone && off)
        (void)snprintf(out, JCRON_TIME_LEN + 1, "%.19s%c%02d:%02d", text, off < 0 ? '-' : '+',
                       east / 3600 % 100, east / 60 % 60);
    else
        (void)snprintf(out, JCRON_TIME_LEN + 1, "%.19sZ", text);
}
