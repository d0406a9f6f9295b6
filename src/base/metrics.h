/* Metrics: counters, gauges and histograms in a registry, rendered as Prometheus' text exposition
 * (format 0.0.4). Changing a metric is one relaxed atomic add on a cache line that few threads
 * share; it never locks or allocates. Registering and rendering may happen at the same time on any
 * threads.
 *
 * Names are `weir_…` with the unit as last word (`_seconds`, `_bytes`, `_total` behind it for
 * counters). A metric lives as long as its registry: for things that come and go (topics,
 * connections) add a collector, which writes samples from its own state when the registry is
 * rendered. */
#ifndef WEIR_BASE_METRICS_H
#define WEIR_BASE_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define METRIC_SHARDS          8u
#define METRIC_SERIES_MAX      4096u /* of a registry; what is more is counted but not rendered */
#define METRIC_LABELS_MAX      4u    /* of a series */
#define METRIC_LABEL_BYTES_MAX 256u  /* of a label's value; cut behind that */
#define METRIC_BUCKETS_MAX     64u   /* of a histogram, without +Inf */

struct metrics;

/* What a metric is, as data; static storage. */
struct metric_desc {
    const char *name;  /* [a-z][a-z0-9_]*, ends in _total for counters */
    const char *unit;  /* "seconds", "bytes", "records" …: for people; "" for none */
    const char *prose; /* one sentence: the HELP text */
};
struct metric_label {
    const char *name, *value;
};

struct metric_cell {
    _Alignas(64) _Atomic uint64_t v;
};
struct counter {
    struct metric_cell cell[METRIC_SHARDS];
};
struct gauge {
    _Alignas(64) _Atomic int64_t v;
};
/* Bounds 2^k and 1.5 * 2^k of the raw unit, from 2^log2_min on, `buckets` of them. */
struct histogram {
    double scale; /* rendered = raw * scale, such as 1e-9 for nanoseconds shown as seconds */
    unsigned log2_min, buckets;
    struct histogram_shard {
        _Alignas(64) _Atomic uint64_t sum;
        _Atomic uint64_t bucket[METRIC_BUCKETS_MAX + 1];
    } shard[2];
};

struct metrics *metrics_new(void);
/* Ends all its metrics. */
void metrics_free(struct metrics **m);

/* The metric of this name and these labels (copied): made at the first call, the same one later.
 * Never NULL. The same name with another kind is a mistake of the program and stops it. */
struct counter *metrics_counter(struct metrics *m, const struct metric_desc *d,
                                const struct metric_label *labels, unsigned n);
struct gauge *metrics_gauge(struct metrics *m, const struct metric_desc *d,
                            const struct metric_label *labels, unsigned n);
/* log2_min >= 1, raw unit; buckets <= METRIC_BUCKETS_MAX, two for each doubling. */
struct histogram *metrics_histogram(struct metrics *m, const struct metric_desc *d,
                                    const struct metric_label *labels, unsigned n, double scale,
                                    unsigned log2_min, unsigned buckets);
/* Nanoseconds, shown as seconds: bounds from 1.024 microseconds to about 51 s. */
struct histogram *metrics_histogram_ns(struct metrics *m, const struct metric_desc *d,
                                       const struct metric_label *labels, unsigned n);

/* A value read when rendered, by fn(arg), on the rendering thread. */
void metrics_gauge_fn(struct metrics *m, const struct metric_desc *d,
                      const struct metric_label *labels, unsigned n, double (*fn)(void *arg),
                      void *arg);
void metrics_counter_fn(struct metrics *m, const struct metric_desc *d,
                        const struct metric_label *labels, unsigned n, double (*fn)(void *arg),
                        void *arg);

/* Calls fn when rendering, behind all metrics; it writes by metrics_head and metrics_sample. */
typedef enum err (*metrics_collect_fn)(void *arg, struct buf *out);
void metrics_collector(struct metrics *m, metrics_collect_fn fn, void *arg);
enum err metrics_head(struct buf *out, const struct metric_desc *d, const char *kind);
enum err metrics_sample(struct buf *out, const struct metric_desc *d,
                        const struct metric_label *labels, unsigned n, double v);

/* Appends everything, families sorted by name. ERR_TOO_LARGE: out's maximum, or a collector's
 * error. */
enum err metrics_render(struct metrics *m, struct buf *out);

/* This thread's shard: threads are dealt out in turn. */
unsigned metric_shard_take(void);
extern _Thread_local unsigned metric_shard_own; /* 0: not dealt yet; otherwise shard + 1 */

static inline unsigned metric_shard(void)
{
    unsigned s = metric_shard_own;

    return s ? s - 1 : metric_shard_take();
}

static inline void counter_add(struct counter *c, uint64_t n)
{
    atomic_fetch_add_explicit(&c->cell[metric_shard()].v, n, memory_order_relaxed);
}
uint64_t counter_get(const struct counter *c);

static inline void gauge_set(struct gauge *g, int64_t v)
{
    atomic_store_explicit(&g->v, v, memory_order_relaxed);
}
static inline void gauge_add(struct gauge *g, int64_t n)
{
    atomic_fetch_add_explicit(&g->v, n, memory_order_relaxed);
}
static inline int64_t gauge_get(const struct gauge *g)
{
    return atomic_load_explicit(&g->v, memory_order_relaxed);
}

/* Which bucket a raw value falls into: the first whose bound is not below it; `buckets` for +Inf.
 */
unsigned histogram_bucket(const struct histogram *h, uint64_t raw);
void histogram_add(struct histogram *h, uint64_t raw);
/* Upper bound, in the raw unit, of the bucket that holds the q-quantile (0 < q <= 1) of what was
 * added; 0 if nothing was, UINT64_MAX if it is in +Inf. */
uint64_t histogram_quantile(const struct histogram *h, double q);

#endif
