/* weir produce: lines become records of a topic, over Kafka's protocol or in a data directory.
 *
 * Records gather in one batch for each partition. All batches are delivered together when one of them is
 * full, when they hold PENDING_BYTES, or when the input pauses; delivering waits until they are durable.
 * Memory: PENDING_BYTES, one line (LINE_MAX) and what a delivery copies of them. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/murmur2.h"
#include "cli/record_text.h"
#include "cli/sink.h"
#include "io/io.h"

#define LINE_MAX_BYTES (32u << 20)
#define BATCH_BYTES    900000u /* Kafka's brokers take 1 MiB a batch unless told otherwise */
#define PENDING_BYTES  (8u << 20)
#define READ_BYTES     (256u << 10)
#define LINGER_MS      20 /* an input that pauses for it has nothing more now */

struct produce {
    const struct args *a;
    struct sink *sink;
    struct batch_builder *builders; /* of each partition; buf.max 0: not yet initialised */
    int32_t *sequence;
    int32_t partitions, fixed, sticky; /* fixed: --partition or -1 */
    enum codec codec;
    size_t pending;
    uint64_t n, sent;
    bool json, null, tty;
    struct buf delimiter;
    struct slice key; /* --key; NULL: none */
    struct record_header headers[RECORD_HEADERS_MAX];
    uint32_t headers_n; /* of --header */
    struct arena arena;
    const char *file;
    uint64_t line, start_ns, shown_ns;
};

/* ---- delivering ---- */

static void show(struct produce *p, bool end)
{
    uint64_t now = io_mono_ns(io_real());
    double s = (double)(now - p->start_ns) * 1e-9;

    if (!p->tty || (end ? p->shown_ns == p->start_ns : now - p->shown_ns < 1000000000))
        return;
    p->shown_ns = now;
    fprintf(stderr, "\r%" PRIu64 " records  %.0f/s %s", p->sent, (double)p->sent / s,
            end ? "\n" : "");
}

static bool finish(struct produce *p, int32_t at, struct sink_batch *out)
{
    bool idempotent = p->sink->producer_id >= 0;
    enum err e;

    out->partition = at;
    e = batch_builder_finish(&p->builders[at], 0, p->sink->producer_id, p->sink->producer_epoch,
                             idempotent ? p->sequence[at] : -1, &out->data);
    if (e)
        fail("a batch of partition %d cannot be made: %s", (int)at, err_text(e));
    return !e;
}

/* Delivers what has gathered. */
static bool flush(struct produce *p)
{
    struct sink_batch *b;
    unsigned n = 0;
    int32_t i;
    bool ok = true;

    if (p->pending == 0)
        return true;
    b = xcalloc((size_t)p->partitions, sizeof *b);
    for (i = 0; i < p->partitions && ok; i++)
        if (p->builders[i].count)
            ok = finish(p, i, &b[n++]);
    ok = ok && p->sink->ops->deliver(p->sink, b, n);
    for (i = 0; i < p->partitions; i++) {
        int32_t count = p->builders[i].count;

        if (!count)
            continue;
        p->sequence[i] = (int32_t)(((uint32_t)p->sequence[i] + (uint32_t)count) & INT32_MAX);
        p->sent += ok ? (uint64_t)count : 0;
        batch_builder_reset(&p->builders[i]);
    }
    free(b);
    p->pending = 0;
    p->sticky = (p->sticky + 1) % p->partitions;
    show(p, false);
    return ok;
}

/* ---- records ---- */

static bool line_fail(const struct produce *p, const char *why)
{
    fail("%s, line %" PRIu64 ": %s", p->file, p->line, why);
    return false;
}

static bool add(struct produce *p, const struct record *r, const struct record_header *h,
                uint32_t headers_n)
{
    size_t size = record_size_max(r->key, r->value, h, headers_n);
    int64_t ts = r->timestamp_ms < 0 ? io_wall_ms(io_real()) : r->timestamp_ms;
    int32_t at = p->fixed >= 0 ? p->fixed
                 : r->key.ptr  ? murmur2_partition(r->key, p->partitions)
                               : p->sticky;
    struct batch_builder *b = &p->builders[at];

    if (b->buf.max == 0)
        batch_builder_init(b, p->codec, LINE_MAX_BYTES + (1u << 20));
    if (p->pending + size > PENDING_BYTES ||
        (b->count && batch_builder_bytes(b) + size > BATCH_BYTES))
        if (!flush(p))
            return false;
    if (batch_builder_add(b, ts, r->key, r->value, h, headers_n, NULL))
        return line_fail(p, "the record is too large");
    p->pending += size;
    p->n++;
    return true;
}

static bool take_json(struct produce *p, struct slice line)
{
    struct record_header headers[RECORD_HEADERS_MAX];
    uint32_t n = 0;
    struct record r;
    const char *why;

    arena_reset(&p->arena);
    if (!record_json_read(line, &p->arena, &r, headers, &n, &why))
        return line_fail(p, why);
    if (!r.key.ptr)
        r.key = p->key;
    return add(p, &r, n ? headers : p->headers, n ? n : p->headers_n);
}

static bool take_line(struct produce *p, struct slice line)
{
    struct slice d = buf_slice(&p->delimiter);
    struct record r = {.timestamp_ms = -1, .key = p->key};
    const uint8_t *hit;

    p->line++;
    if (p->json)
        return line.len == 0 || take_json(p, line);
    hit = d.len && line.len ? memmem(line.ptr, line.len, d.ptr, d.len) : NULL;
    if (hit) {
        r.key = slice_of(line.ptr, (size_t)(hit - line.ptr));
        line = slice_of(hit + d.len, line.len - r.key.len - d.len);
    }
    r.value = line;
    if (p->null && line.len == 0)
        r.value = SLICE_NULL;
    if (p->null && hit && r.key.len == 0)
        r.key = SLICE_NULL;
    return add(p, &r, p->headers, p->headers_n);
}

/* ---- input ---- */

/* Takes the whole lines of what was read; a rest stays. */
static bool take_lines(struct produce *p, struct buf *in, bool end)
{
    size_t at = 0;
    bool ok = true;

    while (ok && at < in->len) {
        const uint8_t *nl = memchr(in->ptr + at, '\n', in->len - at);
        size_t n = nl ? (size_t)(nl - in->ptr) - at : in->len - at;

        if (!nl && !end)
            break;
        ok = take_line(p, slice_of(in->ptr + at, n));
        at += n + (nl != NULL);
    }
    at = at < in->len ? at : in->len;
    if (at)
        memmove(in->ptr, in->ptr + at, in->len - at);
    in->len -= at;
    return ok;
}

/* Before a read that may wait: what has gathered goes out. */
static bool pause_flush(struct produce *p, int fd)
{
    struct pollfd q = {.fd = fd, .events = POLLIN};

    return p->pending == 0 || poll(&q, 1, LINGER_MS) != 0 || flush(p);
}

static bool take_file(struct produce *p, int fd)
{
    struct buf in;
    ssize_t n = 1;
    bool ok = true;

    buf_init(&in, LINE_MAX_BYTES + READ_BYTES);
    while (ok && n) {
        ok = pause_flush(p, fd);
        if (ok && buf_reserve(&in, READ_BYTES))
            ok = line_fail(p, "longer than 32 MiB");
        if (!ok)
            break;
        n = read(fd, in.ptr + in.len, READ_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            fail("%s: %s", p->file, strerror(errno));
            ok = false;
            break;
        }
        in.len += (size_t)n;
        ok = take_lines(p, &in, n == 0);
    }
    buf_fini(&in);
    return ok;
}

static bool take_files(struct produce *p)
{
    unsigned i;
    bool ok = true;

    p->file = "standard input";
    if (p->a->pos_n == 1)
        return take_file(p, 0);
    for (i = 1; i < p->a->pos_n && ok; i++) {
        bool std = strcmp(p->a->pos[i], "-") == 0;
        int fd = std ? 0 : open(p->a->pos[i], O_RDONLY | O_CLOEXEC);

        p->file = std ? "standard input" : p->a->pos[i];
        p->line = 0;
        if (fd < 0) {
            fail("%s: %s", p->file, strerror(errno));
            return false;
        }
        ok = take_file(p, fd);
        if (!std)
            close(fd);
    }
    return ok;
}

/* ---- the command ---- */

static int headers_take(struct produce *p)
{
    unsigned i;

    for (i = 0; i < p->a->sets_n; i++) {
        const char *s = p->a->sets[i], *eq = strchr(s, '=');
        struct record_header *h = &p->headers[p->headers_n++];

        h->key = slice_of(s, eq ? (size_t)(eq - s) : strlen(s));
        h->value = eq ? slice_str(eq + 1) : SLICE_NULL;
        if (h->key.len == 0)
            return usage_fail(p->a, "--header takes NAME=VALUE, not '%s'", s);
    }
    return EXIT_FINE;
}

static int options_take(struct produce *p)
{
    const char *codec = arg_get(p->a, "compression"), *key = arg_get(p->a, "key"),
               *delimiter = arg_get(p->a, "key-delimiter");

    p->json = arg_get(p->a, "json") != NULL;
    p->null = arg_get(p->a, "null") != NULL;
    p->key = key ? slice_str(key) : SLICE_NULL;
    p->fixed = (int32_t)arg_number(p->a, "partition", -1, 0, INT32_MAX);
    p->tty = isatty(2) && !isatty(0);
    if (delimiter && !*delimiter)
        return usage_fail(p->a, "--key-delimiter must not be empty");
    if (delimiter && p->json)
        return usage_fail(p->a, "--json has the keys in its lines: leave out --key-delimiter");
    if (delimiter)
        text_unescape(delimiter, &p->delimiter);
    if (codec && codec_find(slice_str(codec)) < 0)
        return usage_fail(p->a, "--compression is none, gzip, snappy, lz4 or zstd, not '%s'",
                          codec);
    return headers_take(p);
}

static int run(struct produce *p)
{
    const char *topic = p->a->pos[0], *codec = arg_get(p->a, "compression");
    bool ok, all;
    int32_t i;

    p->sink = arg_get(p->a, "data") ? local_sink_open(p->a, topic) : kafka_sink_open(p->a, topic);
    if (!p->sink)
        return EXIT_FAILED;
    p->partitions = p->sink->partitions;
    p->codec = codec ? (enum codec)codec_find(slice_str(codec)) : p->sink->codec;
    if (p->fixed >= p->partitions) {
        fail("%s has partitions 0 to %d", topic, (int)p->partitions - 1);
        p->sink->ops->close(p->sink);
        return EXIT_FAILED;
    }
    p->builders = xcalloc((size_t)p->partitions, sizeof *p->builders);
    p->sequence = xcalloc((size_t)p->partitions, sizeof *p->sequence);
    p->sticky = (int32_t)(io_mono_ns(io_real()) / 1000 % (uint64_t)p->partitions);
    p->start_ns = p->shown_ns = io_mono_ns(io_real());
    ok = take_files(p);
    all = flush(p) && ok; /* what came before a bad line is written */
    show(p, true);
    if (!all)
        fail("%" PRIu64 " records are written", p->sent);
    for (i = 0; i < p->partitions; i++)
        if (p->builders[i].buf.max)
            batch_builder_fini(&p->builders[i]);
    free(p->builders);
    free(p->sequence);
    p->sink->ops->close(p->sink);
    return all ? EXIT_FINE : EXIT_FAILED;
}

int cmd_produce(const struct args *a)
{
    struct produce *p = xcalloc(1, sizeof *p);
    int rc;

    p->a = a;
    buf_init(&p->delimiter, 1024);
    arena_init(&p->arena, 65536, 3 * LINE_MAX_BYTES);
    rc = options_take(p);
    if (rc == EXIT_FINE)
        rc = run(p);
    arena_fini(&p->arena);
    buf_fini(&p->delimiter);
    free(p);
    return rc;
}
