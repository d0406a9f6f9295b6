/* What both load programs share: histograms of latency, windows of measurement, and what the server
 * and the rest of the machine used meanwhile. One thread, unless said otherwise. */
#ifndef WEIR_BENCH_KAFKA_MEASURE_H
#define WEIR_BENCH_KAFKA_MEASURE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../choice.h"

/* Nanoseconds, 32 buckets for each power of two: within 3.2 %. */
#define HIST_BUCKETS (60 * 32)
struct hist {
    uint64_t n, max_ns;
    uint64_t bucket[HIST_BUCKETS];
};
void hist_add(struct hist *h, uint64_t ns);
void hist_merge(struct hist *to, const struct hist *from);
/* Upper end of the bucket of the q-th part (0 to 1), in nanoseconds; 0: nothing was added. */
uint64_t hist_at(const struct hist *h, double q);

/* What happened in one window. */
struct counts {
    uint64_t out_bytes, out_records, out_requests; /* acknowledged */
    uint64_t in_bytes, in_records;                 /* fetched */
    struct hist ack;                               /* from when it was due to its answer */
    struct hist e2e;                               /* from when it was due to its reader */
};
void counts_merge(struct counts *to, const struct counts *from);

struct usage {
    uint64_t now_ns;
    double server_s, self_s, machine_s; /* processor seconds */
};

struct meter {
    pid_t pid; /* of the server; 0: not measured */
    uint64_t window_ns, next_ns;
    int windows; /* left, the warming one included */
    bool warm;   /* the window that goes on is not counted */
    struct usage begin;
};

/* First warm_s that is not printed, then `windows` of window_s each. */
void meter_init(struct meter *m, pid_t pid, double warm_s, double window_s, int windows);
/* Is the window over? */
static inline bool meter_due(const struct meter *m, uint64_t ns)
{
    return ns >= m->next_ns;
}
/* Prints the window that ends now as a line of JSON, empties *c; false: it was the last. */
bool meter_window(struct meter *m, struct counts *c);

/* Monotonic. */
uint64_t now_ns(void);
#endif
