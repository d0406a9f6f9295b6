/* The registry of metrics and its text form. See metrics.h.
 *
 * A registry is two linked lists, families and collectors, and a list of series in each family.
 * Nodes are only ever put in front (compare and swap) and freed with the registry, so readers need
 * no lock. Two threads that make the same metric at once: one wins the swap, the other looks again
 * and finds it. Doubles are written digit by digit: printf would use the host program's decimal
 * comma. */
#include "base/metrics.h"

#include <math.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

#define METRICS_MAGIC 0x4d455452u

enum kind { COUNTER, GAUGE, HISTOGRAM, COUNTER_FN, GAUGE_FN, KIND_N };
static const char *const kind_names[KIND_N] = {"counter", "gauge", "histogram", "counter", "gauge"};

struct series {
    struct series *next;
    struct buf labels; /* a="b",c="d" */
    void *metric;      /* struct counter, gauge or histogram; NULL for _FN */
    double (*fn)(void *arg);
    void *arg;
};

struct family {
    struct family *next;
    const struct metric_desc *desc;
    enum kind kind;
    _Atomic(struct series *) series;
};

struct collector {
    struct collector *next;
    metrics_collect_fn fn;
    void *arg;
};

struct metrics {
    uint32_t magic;
    _Atomic(struct family *) families;
    _Atomic(struct collector *) collectors;
    _Atomic uint32_t series_n, spilled;
    _Atomic(struct series *) spill[KIND_N]; /* what is past METRIC_SERIES_MAX counts here */
};

_Thread_local unsigned metric_shard_own;
static _Atomic unsigned shards_dealt; /* threads that have a shard, any registry */

unsigned metric_shard_take(void)
{
    unsigned s = atomic_fetch_add_explicit(&shards_dealt, 1, memory_order_relaxed) % METRIC_SHARDS;

    metric_shard_own = s + 1;
    return s;
}

uint64_t counter_get(const struct counter *c)
{
    uint64_t sum = 0;
    unsigned i;

    for (i = 0; i < METRIC_SHARDS; i++)
        sum += atomic_load_explicit(&c->cell[i].v, memory_order_relaxed);
    return sum;
}

/* ---- histograms ---- */

unsigned histogram_bucket(const struct histogram *h, uint64_t raw)
{
    unsigned log2, half;
    int i;

    if (raw <= 1ull << h->log2_min)
        return 0;
    raw--;
    log2 = 63u - (unsigned)__builtin_clzll(raw);
    half = (unsigned)(raw >> (log2 - 1)) & 1;
    i = 2 * ((int)log2 - (int)h->log2_min) + 1 + (int)half;
    return i < (int)h->buckets ? (unsigned)i : h->buckets;
}

static uint64_t bound(const struct histogram *h, unsigned i)
{
    uint64_t b = 1ull << (h->log2_min + i / 2);

    return i & 1 ? b + b / 2 : b;
}

void histogram_add(struct histogram *h, uint64_t raw)
{
    struct histogram_shard *s = &h->shard[metric_shard() & 1];

    atomic_fetch_add_explicit(&s->bucket[histogram_bucket(h, raw)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->sum, raw, memory_order_relaxed);
}

static uint64_t bucket_get(const struct histogram *h, unsigned i)
{
    return atomic_load_explicit(&h->shard[0].bucket[i], memory_order_relaxed) +
           atomic_load_explicit(&h->shard[1].bucket[i], memory_order_relaxed);
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
    uint64_t n[METRIC_BUCKETS_MAX + 1], all = 0, seen = 0, want;
    unsigned i;

    for (i = 0; i <= h->buckets; i++)
        all += n[i] = bucket_get(h, i);
    if (all == 0)
        return 0;
    want = (uint64_t)(q * (double)all);
    for (i = 0; i < h->buckets; i++) {
        seen += n[i];
        if (seen > want || seen == all)
            return bound(h, i);
    }
    return UINT64_MAX;
}

/* ---- text ---- */

/* Nine significant digits; whole numbers below 2^53 exactly. */
static enum err put_double(struct buf *out, double v)
{
    int exp = 0;
    uint64_t digits;
    enum err e;

    if (isnan(v))
        return buf_append_str(out, "NaN");
    if (v < 0) {
        if ((e = buf_append_u8(out, '-')))
            return e;
        v = -v;
    }
    if (isinf(v))
        return buf_append_str(out, "Inf");
    if (v < 9007199254740992.0 && v == (double)(uint64_t)v)
        return buf_printf(out, "%llu", (unsigned long long)v);
    for (; v >= 1e9; exp++)
        v /= 10;
    for (; v < 1e8; exp--)
        v *= 10;
    digits = (uint64_t)(v + 0.5);
    for (; digits % 10 == 0; exp++)
        digits /= 10;
    if (exp < 0 && exp >= -9) {
        uint64_t ten = 1;
        int i;

        for (i = exp; i < 0; i++)
            ten *= 10;
        return buf_printf(out, "%llu.%0*llu", (unsigned long long)(digits / ten), -exp,
                          (unsigned long long)(digits % ten));
    }
    return buf_printf(out, "%llue%d", (unsigned long long)digits, exp);
}

/* The value of a label or a HELP text, escaped as the exposition format demands. */
static enum err put_escaped(struct buf *out, const char *s, size_t max, bool quotes)
{
    enum err e = ERR_OK;
    size_t i;

    for (i = 0; !e && s[i] && i < max; i++) {
        if (s[i] == '\n')
            e = buf_append_str(out, "\\n");
        else if (s[i] == '\\' || (quotes && s[i] == '"'))
            e = buf_printf(out, "\\%c", s[i]);
        else
            e = buf_append_u8(out, (uint8_t)s[i]);
    }
    return e;
}

static enum err put_labels(struct buf *out, const struct metric_label *labels, unsigned n)
{
    enum err e = ERR_OK;
    unsigned i;

    for (i = 0; !e && i < n; i++) {
        if ((e = buf_printf(out, "%s%s=\"", i ? "," : "", labels[i].name)) ||
            (e = put_escaped(out, labels[i].value, METRIC_LABEL_BYTES_MAX, true)))
            return e;
        e = buf_append_u8(out, '"');
    }
    return e;
}

/* name+suffix{labels,extra} value */
static enum err put_sample(struct buf *out, const char *name, const char *suffix,
                           struct slice labels, const char *extra, double v)
{
    enum err e = buf_printf(out, "%s%s", name, suffix);

    if (!e && (labels.len || extra[0])) {
        if ((e = buf_append_u8(out, '{')) || (e = buf_append_slice(out, labels)) ||
            (e = buf_printf(out, "%s%s}", labels.len && extra[0] ? "," : "", extra)))
            return e;
    }
    if (e || (e = buf_append_u8(out, ' ')) || (e = put_double(out, v)))
        return e;
    return buf_append_u8(out, '\n');
}

enum err metrics_head(struct buf *out, const struct metric_desc *d, const char *kind)
{
    enum err e = buf_printf(out, "# HELP %s ", d->name);

    if (e || (e = put_escaped(out, d->prose, SIZE_MAX, false)))
        return e;
    if (d->unit[0] && (e = buf_printf(out, " (%s)", d->unit)))
        return e;
    return buf_printf(out, "\n# TYPE %s %s\n", d->name, kind);
}

enum err metrics_sample(struct buf *out, const struct metric_desc *d,
                        const struct metric_label *labels, unsigned n, double v)
{
    struct buf text;
    enum err e;

    ASSERT(n <= METRIC_LABELS_MAX);
    buf_init(&text, METRIC_LABELS_MAX * (2 * METRIC_LABEL_BYTES_MAX + 256));
    e = put_labels(&text, labels, n);
    if (!e)
        e = put_sample(out, d->name, "", buf_slice(&text), "", v);
    buf_fini(&text);
    return e;
}

/* Buckets are read before the sum and counted from what was read, so that one rendering is
 * consistent with itself: `_count` is the +Inf bucket. */
static enum err render_histogram(struct buf *out, const char *name, const struct series *s)
{
    const struct histogram *h = s->metric;
    struct buf le;
    uint64_t n = 0, sum;
    enum err e = ERR_OK;
    unsigned i;

    buf_init(&le, 64);
    for (i = 0; !e && i <= h->buckets; i++) {
        n += bucket_get(h, i);
        buf_clear(&le);
        if ((e = buf_append_str(&le, "le=\"")) ||
            (e = i < h->buckets ? put_double(&le, (double)bound(h, i) * h->scale)
                                : buf_append_str(&le, "+Inf")) ||
            (e = buf_append(&le, "\"", 2)))
            break;
        e = put_sample(out, name, "_bucket", buf_slice(&s->labels), (const char *)le.ptr,
                       (double)n);
    }
    buf_fini(&le);
    sum = atomic_load_explicit(&h->shard[0].sum, memory_order_relaxed) +
          atomic_load_explicit(&h->shard[1].sum, memory_order_relaxed);
    if (!e)
        e = put_sample(out, name, "_sum", buf_slice(&s->labels), "", (double)sum * h->scale);
    if (!e)
        e = put_sample(out, name, "_count", buf_slice(&s->labels), "", (double)n);
    return e;
}

static enum err render_series(struct buf *out, const struct family *f, const struct series *s)
{
    double v = 0;

    switch (f->kind) {
    case HISTOGRAM:
        return render_histogram(out, f->desc->name, s);
    case COUNTER:
        v = (double)counter_get(s->metric);
        break;
    case GAUGE:
        v = (double)gauge_get(s->metric);
        break;
    case COUNTER_FN:
    case GAUGE_FN:
        v = s->fn(s->arg);
        break;
    case KIND_N:
        break;
    }
    return put_sample(out, f->desc->name, "", buf_slice(&s->labels), "", v);
}

static int family_cmp(const void *a, const void *b)
{
    const struct family *const *x = a, *const *y = b;

    return strcmp((*x)->desc->name, (*y)->desc->name);
}

static int series_cmp(const void *a, const void *b)
{
    const struct series *const *x = a, *const *y = b;
    struct slice s = buf_slice(&(*x)->labels), t = buf_slice(&(*y)->labels);
    size_t n = s.len < t.len ? s.len : t.len;
    int c = n ? memcmp(s.ptr, t.ptr, n) : 0;

    return c ? c : (s.len > t.len) - (s.len < t.len);
}

static enum err render_family(struct buf *out, const struct family *f)
{
    struct series *first = atomic_load_explicit(&f->series, memory_order_acquire), *s, **sorted;
    enum err e = metrics_head(out, f->desc, kind_names[f->kind]);
    size_t n = 0, i = 0;

    for (s = first; s; s = s->next)
        n++;
    sorted = xmalloc(n * sizeof *sorted);
    for (s = first; s; s = s->next)
        sorted[i++] = s;
    qsort(sorted, n, sizeof(*sorted), series_cmp);
    for (i = 0; !e && i < n; i++)
        e = render_series(out, f, sorted[i]);
    free(sorted);
    return e;
}

static enum err render_spilled(struct metrics *m, struct buf *out)
{
    static const struct metric_desc d = {"weir_metrics_dropped", "series",
                                         "Series that are not shown: there are too many"};
    uint32_t n = atomic_load_explicit(&m->spilled, memory_order_relaxed);
    enum err e = n ? metrics_head(out, &d, "gauge") : ERR_OK;

    return e || n == 0 ? e : metrics_sample(out, &d, NULL, 0, n);
}

enum err metrics_render(struct metrics *m, struct buf *out)
{
    struct family *first, *f, **sorted;
    struct collector *c;
    enum err e = ERR_OK;
    size_t n = 0, i = 0;

    ASSERT(m->magic == METRICS_MAGIC);
    first = atomic_load_explicit(&m->families, memory_order_acquire);
    for (f = first; f; f = f->next)
        n++;
    sorted = xmalloc(n * sizeof *sorted);
    for (f = first; f; f = f->next)
        sorted[i++] = f;
    qsort(sorted, n, sizeof(*sorted), family_cmp);
    for (i = 0; !e && i < n; i++)
        e = render_family(out, sorted[i]);
    free(sorted);
    if (!e)
        e = render_spilled(m, out);
    c = atomic_load_explicit(&m->collectors, memory_order_acquire);
    for (; !e && c; c = c->next)
        e = c->fn(c->arg, out);
    return e;
}

/* ---- registry ---- */

struct metrics *metrics_new(void)
{
    struct metrics *m = xcalloc(1, sizeof *m);

    m->magic = METRICS_MAGIC;
    return m;
}

static void series_free(struct series *s)
{
    buf_fini(&s->labels);
    free(s->metric);
    free(s);
}

void metrics_free(struct metrics **pm)
{
    struct metrics *m = *pm;
    struct family *f, *fn;
    struct collector *c, *cn;
    struct series *s, *sn;
    unsigned i;

    *pm = NULL;
    if (!m)
        return;
    ASSERT(m->magic == METRICS_MAGIC);
    for (f = atomic_load(&m->families); f; f = fn) {
        fn = f->next;
        for (s = atomic_load(&f->series); s; s = sn) {
            sn = s->next;
            series_free(s);
        }
        free(f);
    }
    for (c = atomic_load(&m->collectors); c; c = cn) {
        cn = c->next;
        free(c);
    }
    for (i = 0; i < KIND_N; i++)
        if ((s = atomic_load(&m->spill[i])))
            series_free(s);
    free(m);
}

static bool name_ok(const char *s)
{
    if (*s < 'a' || *s > 'z')
        return false;
    for (; *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9') || *s == '_'))
            return false;
    return true;
}

static struct family *family_get(struct metrics *m, const struct metric_desc *d, enum kind kind)
{
    struct family *first = atomic_load_explicit(&m->families, memory_order_acquire), *f, *made;
    size_t n = strlen(d->name);

    ASSERT(m->magic == METRICS_MAGIC && name_ok(d->name));
    if (kind == COUNTER || kind == COUNTER_FN)
        ASSERT(n > 6 && !strcmp(d->name + n - 6, "_total"));
    made = xcalloc(1, sizeof *made);
    made->desc = d;
    made->kind = kind;
    do {
        for (f = first; f; f = f->next) {
            if (strcmp(f->desc->name, d->name) == 0) {
                ASSERT(f->kind == kind);
                free(made);
                return f;
            }
        }
        made->next = first;
    } while (!atomic_compare_exchange_weak_explicit(&m->families, &first, made,
                                                    memory_order_acq_rel, memory_order_acquire));
    return made;
}

/* Puts s into the family, or frees it and returns the one that is there or counts for it. */
static struct series *series_put(struct metrics *m, struct family *f, struct series *s)
{
    struct series *first = atomic_load_explicit(&f->series, memory_order_acquire), *t;
    bool full =
        atomic_fetch_add_explicit(&m->series_n, 1, memory_order_relaxed) >= METRIC_SERIES_MAX;

    do {
        for (t = first; t; t = t->next) {
            if (slice_eq(buf_slice(&t->labels), buf_slice(&s->labels))) {
                series_free(s);
                atomic_fetch_sub_explicit(&m->series_n, 1, memory_order_relaxed);
                return t;
            }
        }
        if (full)
            break;
        s->next = first;
    } while (!atomic_compare_exchange_weak_explicit(&f->series, &first, s, memory_order_acq_rel,
                                                    memory_order_acquire));
    if (!full)
        return s;
    atomic_fetch_sub_explicit(&m->series_n, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->spilled, 1, memory_order_relaxed);
    t = NULL;
    if (atomic_compare_exchange_strong(&m->spill[f->kind], &t, s))
        return s;
    series_free(s);
    return t;
}

static struct series *series_make(const struct metric_label *labels, unsigned n, size_t size)
{
    struct series *s = xcalloc(1, sizeof *s);
    unsigned i;

    ASSERT(n <= METRIC_LABELS_MAX);
    for (i = 0; i < n; i++)
        ASSERT(name_ok(labels[i].name) && strlen(labels[i].name) < 128);
    buf_init(&s->labels, METRIC_LABELS_MAX * (2 * METRIC_LABEL_BYTES_MAX + 256));
    ASSERT(put_labels(&s->labels, labels, n) == ERR_OK);
    if (size) {
        s->metric = xaligned(64, size);
        memset(s->metric, 0, size);
    }
    return s;
}

struct counter *metrics_counter(struct metrics *m, const struct metric_desc *d,
                                const struct metric_label *labels, unsigned n)
{
    struct series *s = series_make(labels, n, sizeof(struct counter));

    return series_put(m, family_get(m, d, COUNTER), s)->metric;
}

struct gauge *metrics_gauge(struct metrics *m, const struct metric_desc *d,
                            const struct metric_label *labels, unsigned n)
{
    struct series *s = series_make(labels, n, sizeof(struct gauge));

    return series_put(m, family_get(m, d, GAUGE), s)->metric;
}

struct histogram *metrics_histogram(struct metrics *m, const struct metric_desc *d,
                                    const struct metric_label *labels, unsigned n, double scale,
                                    unsigned log2_min, unsigned buckets)
{
    struct series *s = series_make(labels, n, sizeof(struct histogram));
    struct histogram *h = s->metric;

    ASSERT(log2_min >= 1 && buckets > 0 && buckets <= METRIC_BUCKETS_MAX &&
           log2_min + buckets / 2 < 63);
    h->scale = scale;
    h->log2_min = log2_min;
    h->buckets = buckets;
    return series_put(m, family_get(m, d, HISTOGRAM), s)->metric;
}

struct histogram *metrics_histogram_ns(struct metrics *m, const struct metric_desc *d,
                                       const struct metric_label *labels, unsigned n)
{
    return metrics_histogram(m, d, labels, n, 1e-9, 10, 52);
}

static void register_fn(struct metrics *m, const struct metric_desc *d, enum kind kind,
                        struct series *s, double (*fn)(void *arg), void *arg)
{
    s->fn = fn;
    s->arg = arg;
    series_put(m, family_get(m, d, kind), s);
}

void metrics_gauge_fn(struct metrics *m, const struct metric_desc *d,
                      const struct metric_label *labels, unsigned n, double (*fn)(void *arg),
                      void *arg)
{
    register_fn(m, d, GAUGE_FN, series_make(labels, n, 0), fn, arg);
}

void metrics_counter_fn(struct metrics *m, const struct metric_desc *d,
                        const struct metric_label *labels, unsigned n, double (*fn)(void *arg),
                        void *arg)
{
    register_fn(m, d, COUNTER_FN, series_make(labels, n, 0), fn, arg);
}

void metrics_collector(struct metrics *m, metrics_collect_fn fn, void *arg)
{
    struct collector *c = xcalloc(1, sizeof *c);

    ASSERT(m->magic == METRICS_MAGIC);
    c->fn = fn;
    c->arg = arg;
    c->next = atomic_load_explicit(&m->collectors, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&m->collectors, &c->next, c, memory_order_acq_rel,
                                                  memory_order_relaxed))
        ;
}
