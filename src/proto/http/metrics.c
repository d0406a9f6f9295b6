/* Counters of events over HTTP and their Prometheus text. See metrics.h. */
#include "proto/http/metrics.h"

#include <stdio.h>

#include "base/buf.h"
#include "proto/http/http_int.h"

/* Upper bounds in microseconds; the last bucket is +Inf. */
static const uint64_t bound_us[METRIC_BUCKETS - 1] = {
    100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 1000000, 10000000};

void metrics_answer(struct http_metrics *m, unsigned route, int status, uint64_t ns)
{
    unsigned b = 0;

    while (b < METRIC_BUCKETS - 1 && ns > bound_us[b] * 1000)
        b++;
    metric_add(&m->status[route][status / 100 % 6], 1);
    metric_add(&m->seconds[route][b], 1);
    metric_add(&m->seconds_ns[route], ns);
}

static uint64_t sum(struct http_proto *p, size_t offset)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < p->ctx_n; i++) {
        metric *m = (metric *)(void *)((char *)&p->ctx[i].metrics + offset);

        v += atomic_load_explicit(m, memory_order_relaxed);
    }
    return v;
}
#define SUM(p, field) sum(p, offsetof(struct http_metrics, field))

static const char *path_label(unsigned r)
{
    return r == METRIC_ROUTES - 1 ? "none" : route_path(r);
}

static enum err requests(struct http_proto *p, struct buf *out)
{
    enum err e = buf_append_str(out, "# HELP weir_http_requests_total Requests answered.\n"
                                     "# TYPE weir_http_requests_total counter\n");

    for (unsigned r = 0; !e && r < METRIC_ROUTES; r++) {
        for (unsigned s = 1; !e && s < 6; s++) {
            uint64_t v =
                sum(p, offsetof(struct http_metrics, status) + (r * 6 + s) * sizeof(metric));

            if (v)
                e = buf_printf(out,
                               "weir_http_requests_total{method=\"%s\",route=\"%s\","
                               "status=\"%uxx\"} %llu\n",
                               route_method(r), path_label(r), s, (unsigned long long)v);
        }
    }
    return e;
}

static enum err route_seconds(struct http_proto *p, unsigned r, struct buf *out)
{
    uint64_t n = 0, ns;
    enum err e = ERR_OK;

    for (unsigned b = 0; !e && b < METRIC_BUCKETS; b++) {
        char le[24] = "+Inf";

        n += sum(p, offsetof(struct http_metrics, seconds) +
                        (r * METRIC_BUCKETS + b) * sizeof(metric));
        if (b < METRIC_BUCKETS - 1)
            snprintf(le, sizeof le, "%g", (double)bound_us[b] / 1e6);
        e = buf_printf(out,
                       "weir_http_request_duration_seconds_bucket{method=\"%s\",route=\"%s\","
                       "le=\"%s\"} %llu\n",
                       route_method(r), path_label(r), le, (unsigned long long)n);
    }
    ns = sum(p, offsetof(struct http_metrics, seconds_ns) + r * sizeof(metric));
    return e ? e
             : buf_printf(out,
                          "weir_http_request_duration_seconds_sum{method=\"%s\",route=\"%s\"} %g\n"
                          "weir_http_request_duration_seconds_count{method=\"%s\",route=\"%s\"} "
                          "%llu\n",
                          route_method(r), path_label(r), (double)ns / 1e9, route_method(r),
                          path_label(r), (unsigned long long)n);
}

static enum err seconds(struct http_proto *p, struct buf *out)
{
    enum err e =
        buf_append_str(out, "# HELP weir_http_request_duration_seconds Time from a request's last "
                            "byte to its answer.\n"
                            "# TYPE weir_http_request_duration_seconds histogram\n");

    for (unsigned r = 0; !e && r < METRIC_ROUTES; r++) {
        if (sum(p, offsetof(struct http_metrics, seconds_ns) + r * sizeof(metric)))
            e = route_seconds(p, r, out);
    }
    return e;
}

enum err http_metrics_write(struct http_proto *p, struct buf *out)
{
    enum err e = requests(p, out);

    e = e ? e : seconds(p, out);
    return e ? e
             : buf_printf(
                   out,
                   "# HELP weir_http_events_written_total Events accepted over HTTP.\n"
                   "# TYPE weir_http_events_written_total counter\n"
                   "weir_http_events_written_total %llu\n"
                   "# HELP weir_http_events_read_total Events in pages.\n"
                   "# TYPE weir_http_events_read_total counter\n"
                   "weir_http_events_read_total %llu\n"
                   "# HELP weir_http_events_pushed_total Events sent to followers.\n"
                   "# TYPE weir_http_events_pushed_total counter\n"
                   "weir_http_events_pushed_total %llu\n"
                   "# HELP weir_http_followers Followers connected.\n"
                   "# TYPE weir_http_followers gauge\n"
                   "weir_http_followers{kind=\"websocket\"} %llu\n"
                   "weir_http_followers{kind=\"sse\"} %llu\n"
                   "# HELP weir_http_follower_lags_total Times that a follower's buffer was full.\n"
                   "# TYPE weir_http_follower_lags_total counter\n"
                   "weir_http_follower_lags_total %llu\n"
                   "# HELP weir_http_live_queries Live queries connected.\n"
                   "# TYPE weir_http_live_queries gauge\n"
                   "weir_http_live_queries %llu\n"
                   "# HELP weir_http_live_rows_total Rows and groups sent by live queries.\n"
                   "# TYPE weir_http_live_rows_total counter\n"
                   "weir_http_live_rows_total %llu\n",
                   (unsigned long long)SUM(p, events_written),
                   (unsigned long long)SUM(p, events_read),
                   (unsigned long long)SUM(p, events_pushed), (unsigned long long)SUM(p, ws_open),
                   (unsigned long long)SUM(p, sse_open), (unsigned long long)SUM(p, lags),
                   (unsigned long long)SUM(p, live_queries), (unsigned long long)SUM(p, live_rows));
}
