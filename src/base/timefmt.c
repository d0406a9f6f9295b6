/* RFC 3339. See timefmt.h. Calendar arithmetic by the days-from-civil method, no library state. */
#include "base/timefmt.h"

#define DAY_MS    86400000ll
#define US_MAX_MS 9223372036854775ll    /* as microseconds in 64 bits */
#define US_MIN_MS (-9223372022400000ll) /* a whole day, which DuckDB asks for */

int64_t time_us(int64_t ms)
{
    return (ms > US_MAX_MS ? US_MAX_MS : ms < US_MIN_MS ? US_MIN_MS : ms) * 1000;
}

int64_t time_days(int64_t y, int m, int d)
{
    int64_t era, yoe, doy;

    y -= m <= 2;
    era = (y >= 0 ? y : y - 399) / 400;
    yoe = y - era * 400;
    doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

void time_civil(int64_t days, int64_t *y, int *m, int *d)
{
    int64_t era, doe, yoe, doy, mp;

    days += 719468;
    era = (days >= 0 ? days : days - 146096) / 146097;
    doe = days - era * 146097;
    yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    mp = (5 * doy + 2) / 153;
    *d = (int)(doy - (153 * mp + 2) / 5 + 1);
    *m = (int)(mp < 10 ? mp + 3 : mp - 9);
    *y = yoe + era * 400 + (*m <= 2);
}

static char *digits(char *p, int64_t v, int n)
{
    int i;

    for (i = n - 1; i >= 0; i--, v /= 10)
        p[i] = (char)('0' + v % 10);
    return p + n;
}

int time_format(int64_t ms, char out[TIME_TEXT_LEN + 1])
{
    int64_t days, rest, y;
    int m, d;
    char *p = out;

    ms = ms > TIME_MS_MAX ? TIME_MS_MAX : ms < TIME_MS_MIN ? TIME_MS_MIN : ms;
    days = ms / DAY_MS;
    rest = ms % DAY_MS;
    if (rest < 0) {
        rest += DAY_MS;
        days--;
    }
    time_civil(days, &y, &m, &d);
    p = digits(p, y, 4);
    *p++ = '-';
    p = digits(p, m, 2);
    *p++ = '-';
    p = digits(p, d, 2);
    *p++ = 'T';
    p = digits(p, rest / 3600000, 2);
    *p++ = ':';
    p = digits(p, rest / 60000 % 60, 2);
    *p++ = ':';
    p = digits(p, rest / 1000 % 60, 2);
    *p++ = '.';
    p = digits(p, rest % 1000, 3);
    *p++ = 'Z';
    *p = 0;
    return TIME_TEXT_LEN;
}

struct cursor {
    const uint8_t *p, *end;
    bool bad;
};

static int64_t number(struct cursor *c, int n, int64_t lo, int64_t hi)
{
    int64_t v = 0;

    if (c->end - c->p < n) {
        c->bad = true;
        return 0;
    }
    while (n--) {
        if (*c->p < '0' || *c->p > '9')
            c->bad = true;
        v = v * 10 + (*c->p++ - '0');
    }
    if (v < lo || v > hi)
        c->bad = true;
    return v;
}

static bool take(struct cursor *c, char ch)
{
    if (c->p < c->end && *c->p == (uint8_t)ch) {
        c->p++;
        return true;
    }
    return false;
}

static void expect(struct cursor *c, char ch)
{
    if (!take(c, ch))
        c->bad = true;
}

static int64_t fraction(struct cursor *c)
{
    int64_t ms = 0, scale = 100;

    if (c->p == c->end || *c->p < '0' || *c->p > '9')
        c->bad = true;
    for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++, scale /= 10)
        ms += (*c->p - '0') * scale;
    return ms;
}

static int64_t zone(struct cursor *c)
{
    int64_t sign, h, m;

    if (c->p == c->end || take(c, 'Z') || take(c, 'z'))
        return 0;
    sign = take(c, '+') ? 1 : -1;
    if (sign < 0)
        expect(c, '-');
    h = number(c, 2, 0, 23);
    expect(c, ':');
    m = number(c, 2, 0, 59);
    return sign * (h * 60 + m) * 60000;
}

bool time_parse(struct slice s, int64_t *ms)
{
    static const int len[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    struct cursor c = {s.ptr, s.ptr ? s.ptr + s.len : NULL, false};
    int64_t y, t = 0;
    int m, d, max;

    y = number(&c, 4, 0, 9999);
    expect(&c, '-');
    m = (int)number(&c, 2, 1, 12);
    expect(&c, '-');
    d = (int)number(&c, 2, 1, 31);
    if (c.bad)
        return false;
    max = len[m - 1] + (m == 2 && y % 4 == 0 && (y % 100 != 0 || y % 400 == 0));
    if (d > max)
        return false;
    if (c.p < c.end) {
        if (!take(&c, 'T') && !take(&c, 't'))
            expect(&c, ' ');
        t = number(&c, 2, 0, 23) * 3600000;
        expect(&c, ':');
        t += number(&c, 2, 0, 59) * 60000;
        expect(&c, ':');
        t += number(&c, 2, 0, 60) * 1000;
        if (take(&c, '.'))
            t += fraction(&c);
        t -= zone(&c);
    }
    *ms = time_days(y, m, d) * DAY_MS + t;
    return !c.bad && c.p == c.end;
}
