/* See measure.h. Processor time comes from /proc: what the kernel accounted to the server, to this
 * program, and to the machine as a whole; what is left is somebody else's and spoils the figures. */
#include "measure.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- histograms ---- */

static unsigned bucket_of(uint64_t ns)
{
    unsigned power;

    if (ns < 32)
        return (unsigned)ns;
    power = 63u - (unsigned)__builtin_clzll(ns);
    return (power - 4) * 32 + (unsigned)(ns >> (power - 5) & 31);
}

static uint64_t bucket_end(unsigned i)
{
    if (i < 32)
        return i;
    return ((uint64_t)(32 + i % 32 + 1) << (i / 32 - 1)) - 1;
}

void hist_add(struct hist *h, uint64_t ns)
{
    h->n++;
    h->max_ns = ns > h->max_ns ? ns : h->max_ns;
    h->bucket[bucket_of(ns)]++;
}

void hist_merge(struct hist *to, const struct hist *from)
{
    unsigned i;

    to->n += from->n;
    to->max_ns = from->max_ns > to->max_ns ? from->max_ns : to->max_ns;
    for (i = 0; i < HIST_BUCKETS; i++)
        to->bucket[i] += from->bucket[i];
}

uint64_t hist_at(const struct hist *h, double q)
{
    uint64_t seen = 0, want = (uint64_t)(q * (double)h->n);
    unsigned i;

    for (i = 0; i < HIST_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen > want)
            return bucket_end(i) < h->max_ns ? bucket_end(i) : h->max_ns;
    }
    return h->max_ns;
}

void counts_merge(struct counts *to, const struct counts *from)
{
    to->out_bytes += from->out_bytes;
    to->out_records += from->out_records;
    to->out_requests += from->out_requests;
    to->in_bytes += from->in_bytes;
    to->in_records += from->in_records;
    hist_merge(&to->ack, &from->ack);
    hist_merge(&to->e2e, &from->e2e);
}

/* ---- processor time and memory ---- */

static bool proc_read(char *out, size_t size, const char *path)
{
    FILE *f = fopen(path, "r");
    size_t n;

    if (!f)
        return false;
    n = fread(out, 1, size - 1, f);
    out[n] = 0;
    fclose(f);
    return n > 0;
}

/* utime + stime: fields 14 and 15 of stat, counted behind the name's closing parenthesis. */
static double process_s(pid_t pid)
{
    char path[64], text[1024], *at;
    uint64_t user = 0, kernel = 0;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (!proc_read(text, sizeof text, path) || !(at = strrchr(text, ')')) ||
        sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64, &user,
               &kernel) != 2)
        die("server", "it is gone");
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

/* All but idle and waiting for disks. */
static double machine_s(void)
{
    char text[512];
    uint64_t v[8] = {0};

    if (!proc_read(text, sizeof text, "/proc/stat") ||
        sscanf(text,
               "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
               " %" SCNu64 " %" SCNu64,
               &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) != 8)
        return 0;
    return (double)(v[0] + v[1] + v[2] + v[5] + v[6] + v[7]) / (double)sysconf(_SC_CLK_TCK);
}

static long rss_kib(pid_t pid)
{
    char path[64], text[4096], *at;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    if (!proc_read(text, sizeof text, path) || !(at = strstr(text, "VmRSS:")))
        return 0;
    return strtol(at + 6, NULL, 10);
}

static double used_s(int who)
{
    struct rusage r;

    getrusage(who, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

static struct usage usage_now(pid_t pid)
{
    struct usage u = {.now_ns = now_ns(), .machine_s = machine_s()};

    u.self_s = used_s(RUSAGE_SELF) + used_s(RUSAGE_CHILDREN);
    if (pid)
        u.server_s = process_s(pid);
    return u;
}

/* ---- windows ---- */

void meter_init(struct meter *m, pid_t pid, double warm_s, double window_s, int windows)
{
    m->pid = pid;
    m->window_ns = (uint64_t)(window_s * 1e9);
    m->windows = windows + 1;
    m->warm = true;
    m->begin = usage_now(pid);
    m->next_ns = m->begin.now_ns + (uint64_t)(warm_s * 1e9);
}

static void hist_print(const char *name, const struct hist *h)
{
    if (h->n == 0)
        return;
    printf(",\"%s\":{\"n\":%" PRIu64 ",\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f"
           ",\"max_us\":%.1f}",
           name, h->n, (double)hist_at(h, 0.5) / 1e3, (double)hist_at(h, 0.99) / 1e3,
           (double)hist_at(h, 0.999) / 1e3, (double)h->max_ns / 1e3);
}

static void window_print(const struct meter *m, const struct counts *c, const struct usage *end)
{
    double s = (double)(end->now_ns - m->begin.now_ns) * 1e-9;
    double server = end->server_s - m->begin.server_s, self = end->self_s - m->begin.self_s;
    double others = end->machine_s - m->begin.machine_s - server - self;
    double all = s * (double)sysconf(_SC_NPROCESSORS_ONLN);

    printf("{\"seconds\":%.4f,\"out_bytes\":%" PRIu64 ",\"out_records\":%" PRIu64
           ",\"out_requests\":%" PRIu64 ",\"in_bytes\":%" PRIu64 ",\"in_records\":%" PRIu64
           ",\"server_s\":%.3f,\"client_s\":%.3f,\"others\":%.3f,\"rss_kib\":%ld",
           s, c->out_bytes, c->out_records, c->out_requests, c->in_bytes, c->in_records, server,
           self, others > 0 ? others / all : 0, m->pid ? rss_kib(m->pid) : 0);
    hist_print("ack", &c->ack);
    hist_print("e2e", &c->e2e);
    printf("}\n");
    fflush(stdout);
}

bool meter_window(struct meter *m, struct counts *c)
{
    struct usage end = usage_now(m->pid);

    if (!m->warm)
        window_print(m, c, &end);
    m->warm = false;
    memset(c, 0, sizeof *c);
    m->begin = usage_now(m->pid);
    m->next_ns = m->begin.now_ns + m->window_ns;
    return --m->windows > 0;
}
