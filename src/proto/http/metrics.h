/* Counters of events over HTTP, one set a loop. Written by the loop, read by any: relaxed atomics,
 * so that a counter costs no more than an addition. */
#ifndef WEIR_PROTO_HTTP_METRICS_H
#define WEIR_PROTO_HTTP_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

struct buf;
struct http_proto;

#define METRIC_ROUTES  48u /* at most; the last is for no route */
#define METRIC_BUCKETS 14u

typedef _Atomic uint64_t metric;

struct http_metrics {
    metric status[METRIC_ROUTES][6];               /* by hundreds */
    metric seconds[METRIC_ROUTES][METRIC_BUCKETS]; /* not cumulative */
    metric seconds_ns[METRIC_ROUTES];              /* sum */
    metric events_written, events_read, events_pushed;
    metric ws_open, sse_open; /* now */
    metric lags;
    metric live_queries; /* now */
    metric live_rows;
};

static inline void metric_add(metric *m, uint64_t v)
{
    atomic_store_explicit(m, atomic_load_explicit(m, memory_order_relaxed) + v,
                          memory_order_relaxed);
}

/* An answer of a route that took this long. */
void metrics_answer(struct http_metrics *m, unsigned route, int status, uint64_t ns);
/* Prometheus text over all loops, appended. */
enum err http_metrics_write(struct http_proto *p, struct buf *out);

#endif
