/* Members of the JSON objects that monitoring tells, as nats-server writes them. See monitor_int.h. */
#include "base/timefmt.h"
#include "io/io.h"
#include "proto/nats/monitor_int.h"

void nmon_member(struct buf *b, const char *name, struct slice value)
{
    buf_printf(b, "\"%s\":", name);
    json_write_string(b, value);
    buf_append_str(b, ",");
}

void nmon_member_n(struct buf *b, const char *name, uint64_t v)
{
    buf_printf(b, "\"%s\":%" PRIu64 ",", name, v);
}

void nmon_member_time(struct buf *b, const char *name, int64_t ms)
{
    char t[TIME_TEXT_LEN + 1];

    time_format(ms, t);
    buf_printf(b, "\"%s\":\"%s\",", name, t);
}

void nmon_member_span(struct buf *b, const char *name, uint64_t ms)
{
    uint64_t s = ms / 1000, m = s / 60, h = m / 60, d = h / 24, y = d / 365;

    buf_printf(b, "\"%s\":\"", name);
    if (y)
        buf_printf(b, "%" PRIu64 "y", y);
    if (d)
        buf_printf(b, "%" PRIu64 "d", d % 365);
    if (h)
        buf_printf(b, "%" PRIu64 "h", h % 24);
    if (m)
        buf_printf(b, "%" PRIu64 "m", m % 60);
    buf_printf(b, "%" PRIu64 "s\",", s % 60);
}

void nmon_member_us(struct buf *b, const char *name, uint64_t us)
{
    if (us >= 1000000)
        buf_printf(b, "\"%s\":\"%.3fs\",", name, (double)us / 1e6);
    else if (us >= 1000)
        buf_printf(b, "\"%s\":\"%.3fms\",", name, (double)us / 1e3);
    else
        buf_printf(b, "\"%s\":\"%" PRIu64 "µs\",", name, us);
}

void nmon_members_end(struct buf *b)
{
    if (b->len && b->ptr[b->len - 1] == ',')
        b->ptr[b->len - 1] = '}';
    else
        buf_append_str(b, "}");
}

void nmon_head(struct nats *n, struct buf *b)
{
    buf_printf(b, "{\"server_id\":\"%s\",", n->id);
    nmon_member_time(b, "now", io_wall_ms(n->conf.io));
}
