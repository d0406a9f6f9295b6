/* weir consume: prints records of topics, from Kafka's protocol or a data directory. What of a group was
 * printed is committed once a second and at the end: after a crash some is printed again, none is left
 * out. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/timefmt.h"
#include "cli/record_text.h"
#include "cli/source.h"
#include "io/io.h"

#define INFLATED_MAX (256u << 20)
#define LINE_BYTES   (512u << 20)
#define COMMIT_NS    1000000000u

struct consume {
    struct source_conf conf;
    struct source *source;
    struct buf format, line, inflated;
    bool json;
    struct slice null; /* what stands for null */
    uint64_t n, count; /* printed; how many are wanted */
    bool failed;       /* said why */
    int64_t *active;   /* producers inside an aborted transaction, while batches are gone through */
    size_t active_n, active_cap;
    uint64_t committed_ns;
    struct record_header headers[RECORD_HEADERS_MAX];
};

/* Set by SIGINT and SIGTERM: the second one ends the process. */
static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    stop = 1;
}

/* ---- parts ---- */

struct part *source_part_add(struct source *s, struct slice topic, int32_t index)
{
    struct part *p;

    s->parts = xrealloc(s->parts, (s->parts_n + 1) * sizeof *s->parts);
    p = &s->parts[s->parts_n++];
    *p = (struct part){.index = index,
                       .leader = -1,
                       .next = -1,
                       .committed = -1,
                       .end = -1,
                       .since_ms = -1,
                       .topic = xcalloc(1, topic.len + 1)};
    memcpy(p->topic, topic.ptr, topic.len);
    return p;
}

void source_part_remove(struct source *s, unsigned i)
{
    free(s->parts[i].topic);
    s->parts[i] = s->parts[--s->parts_n];
}

/* ---- records ---- */

static bool say(struct consume *c, const struct part *p, int64_t offset, const char *why)
{
    fail("%s [%d] at offset %" PRId64 ": %s", p->topic, (int)p->index, offset, why);
    c->failed = true;
    return false;
}

static bool print(struct consume *c, const struct part *p, const struct record *r)
{
    struct placed_record placed = {
        .topic = p->topic, .partition = p->index, .r = r, .headers = c->headers};
    enum err e = record_headers(r, c->headers, RECORD_HEADERS_MAX, &placed.headers_n);

    buf_clear(&c->line);
    if (!e && c->json) {
        e = record_json_write(&c->line, &placed);
        e = e ? e : buf_append_u8(&c->line, '\n');
    } else if (!e) {
        e = format_write(&c->line, buf_slice(&c->format), &placed, c->null);
    }
    if (e)
        return say(c, p, r->offset, err_text(e));
    if (c->line.len && fwrite(c->line.ptr, c->line.len, 1, stdout) != 1) {
        c->failed = true;
        return false;
    }
    c->n++;
    return true;
}

/* The records of one batch from p->next on. */
static bool take_records(struct consume *c, struct part *p, struct slice batch)
{
    struct batch_iter it;
    struct record r;
    enum err e = batch_iter_init(&it, batch, &c->inflated);

    while (!e && !(e = batch_iter_next(&it, &r))) {
        if (r.offset < p->next || r.timestamp_ms < p->since_ms)
            continue;
        p->since_ms = -1;
        if (!print(c, p, &r))
            return false;
        p->next = r.offset + 1;
        if (c->n == c->count)
            return false;
    }
    return e == ERR_EOF || say(c, p, p->next, err_text(e));
}

/* ---- transactions ---- */

static void active_set(struct consume *c, int64_t producer, bool on)
{
    size_t i;

    for (i = 0; i < c->active_n && c->active[i] != producer; i++)
        ;
    if (!on && i < c->active_n) {
        c->active[i] = c->active[--c->active_n];
    } else if (on && i == c->active_n) {
        if (c->active_n == c->active_cap) {
            c->active_cap = c->active_cap ? 2 * c->active_cap : 16;
            c->active = xrealloc(c->active, c->active_cap * sizeof *c->active);
        }
        c->active[c->active_n++] = producer;
    }
}

static bool is_active(const struct consume *c, int64_t producer)
{
    size_t i;

    for (i = 0; i < c->active_n; i++)
        if (c->active[i] == producer)
            return true;
    return false;
}

/* Are the batch's records for people? A control batch ends its producer's transaction. */
static bool batch_wanted(struct consume *c, const struct batch_info *b)
{
    if (b->attributes & BATCH_CONTROL) {
        active_set(c, b->producer_id, false);
        return false;
    }
    return !c->conf.committed || !(b->attributes & BATCH_TRANSACTIONAL) ||
           !is_active(c, b->producer_id);
}

static bool take_batches(void *arg, struct part *p, struct slice data,
                         const struct aborted_txn *aborted, size_t aborted_n)
{
    struct consume *c = arg;
    struct batch_info b;
    size_t at = 0, a = 0;
    enum err e;

    c->active_n = 0;
    while (at < data.len) {
        struct slice rest = slice_of(data.ptr + at, data.len - at);
        int64_t last;

        if ((e = batch_parse(rest, &b)))
            return e == ERR_EOF && at ? true : say(c, p, p->next, err_text(e));
        rest.len = b.length;
        last = b.base_offset + b.last_offset_delta;
        if (c->conf.committed && p->end >= 0 && b.base_offset >= p->end)
            return true;
        for (; a < aborted_n && aborted[a].first_offset <= last; a++)
            active_set(c, aborted[a].producer_id, true);
        if (!batch_crc_ok(rest))
            return say(c, p, b.base_offset, "the batch's checksum is wrong");
        if (batch_wanted(c, &b) && !take_records(c, p, rest))
            return false;
        p->next = p->next > last + 1 ? p->next : last + 1;
        at += b.length;
    }
    return true;
}

/* ---- the command ---- */

static int take_from(struct consume *c)
{
    const char *from = arg_get(c->conf.a, "from");
    char *end;

    c->conf.from = FROM_START;
    if (!from || strcmp(from, "beginning") == 0)
        return EXIT_FINE;
    if (strcmp(from, "end") == 0) {
        c->conf.from = FROM_END;
        return EXIT_FINE;
    }
    errno = 0;
    c->conf.from_value = strtoll(from, &end, 10);
    c->conf.from = *from == '-' ? FROM_LAST : FROM_OFFSET;
    if (c->conf.from == FROM_LAST)
        c->conf.from_value = -c->conf.from_value;
    if (end != from && *end == 0 && errno == 0 && c->conf.from_value >= 0)
        return EXIT_FINE;
    c->conf.from = FROM_TIME;
    if (time_parse(slice_str(from), &c->conf.from_value))
        return EXIT_FINE;
    return usage_fail(c->conf.a,
                      "--from is beginning, end, an offset, -N for the last N records of each "
                      "partition, or a time such as 2026-01-31T12:00:00Z, not '%s'",
                      from);
}

static int take_format(struct consume *c)
{
    const struct args *a = c->conf.a;
    const char *format = arg_get(a, "format"), *delimiter = arg_get(a, "key-delimiter"), *bad;

    c->json = arg_get(a, "json") != NULL;
    c->null = arg_get(a, "null") ? SLICE_LIT("NULL") : SLICE_LIT("");
    if ((format != NULL) + (delimiter != NULL) + c->json > 1)
        return usage_fail(a, "take one of --format, --key-delimiter and --json");
    if (delimiter) {
        size_t i;

        text_unescape(delimiter, &c->line);
        buf_append_str(&c->format, "%k");
        for (i = 0; i < c->line.len; i++) {
            buf_append_u8(&c->format, c->line.ptr[i]);
            if (c->line.ptr[i] == '%')
                buf_append_u8(&c->format, '%');
        }
        buf_append_str(&c->format, "%s\n");
    } else {
        text_unescape(format ? format : "%s\\n", &c->format);
    }
    return format_check(buf_slice(&c->format), &bad)
               ? EXIT_FINE
               : usage_fail(
                     a,
                     "--format knows %%t %%p %%o %%k %%K %%s %%S %%R %%h %%T and %%%%, not '%.2s'",
                     bad);
}

static int options_take(struct consume *c)
{
    const struct args *a = c->conf.a;
    const char *isolation = arg_get(a, "isolation");
    int rc = take_from(c);

    c->conf.topics = (const char *const *)a->pos;
    c->conf.topics_n = a->pos_n;
    c->conf.group = arg_get(a, "group");
    c->conf.partition = (int32_t)arg_number(a, "partition", -1, 0, INT32_MAX);
    c->conf.exit_at_end = arg_get(a, "exit") || arg_get(a, "data");
    c->count = (uint64_t)arg_number(a, "count", 0, 1, INT64_MAX);
    c->conf.committed = !isolation || strcmp(isolation, "committed") == 0;
    if (rc == EXIT_FINE && !c->conf.committed && strcmp(isolation, "uncommitted") != 0)
        rc = usage_fail(a, "--isolation is committed or uncommitted, not '%s'", isolation);
    if (rc == EXIT_FINE && c->conf.group && c->conf.partition >= 0 && !arg_get(a, "data"))
        rc = usage_fail(a, "the members of a group share the partitions: leave out --partition");
    if (rc == EXIT_FINE && c->conf.group && !*c->conf.group)
        rc = usage_fail(a, "--group needs a name");
    return rc == EXIT_FINE ? take_format(c) : rc;
}

static bool all_at_end(const struct source *s)
{
    unsigned i;

    for (i = 0; i < s->parts_n; i++)
        if (!part_at_end(&s->parts[i]))
            return false;
    return s->settled;
}

static bool commit(struct consume *c, bool now)
{
    uint64_t ns = io_mono_ns(io_real());

    if (!c->conf.group || (!now && ns - c->committed_ns < COMMIT_NS))
        return true;
    c->committed_ns = ns;
    return c->source->ops->commit(c->source);
}

static bool go_on(const struct consume *c)
{
    return !stop && !c->failed && (c->count == 0 || c->n < c->count) &&
           !(c->conf.exit_at_end && all_at_end(c->source));
}

static int run(struct consume *c)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    bool ok;

    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    c->source =
        arg_get(c->conf.a, "data") ? local_source_open(&c->conf) : kafka_source_open(&c->conf);
    if (!c->source)
        return EXIT_FAILED;
    c->committed_ns = io_mono_ns(io_real());
    do {
        ok = c->source->ops->poll(c->source, take_batches, c) && !c->failed;
        if (fflush(stdout)) {
            ok = false;
            if (errno != EPIPE)
                fail("writing to standard output failed: %s", strerror(errno));
        }
        ok = ok && commit(c, false);
    } while (ok && go_on(c));
    ok = ok && commit(c, true);
    c->source->ops->close(c->source);
    return ok ? EXIT_FINE : EXIT_FAILED;
}

int cmd_consume(const struct args *a)
{
    struct consume *c = xcalloc(1, sizeof *c);
    int rc;

    c->conf.a = a;
    buf_init(&c->format, 1u << 20);
    buf_init(&c->line, LINE_BYTES);
    buf_init(&c->inflated, INFLATED_MAX);
    rc = options_take(c);
    if (rc == EXIT_FINE)
        rc = run(c);
    buf_fini(&c->format);
    buf_fini(&c->line);
    buf_fini(&c->inflated);
    free(c->active);
    free(c);
    return rc;
}
