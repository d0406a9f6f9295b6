/* Older records out of a topic's table, as record batches: what src/broker/tier.h asks for. A pass
 * reads one view of the table, in order of offset (lake_merge.c).
 *
 * Batches have the records' own offsets, positions, timestamps, keys, values and headers; no producer, no
 * transaction, create time, and the topic's compression. A batch ends where offsets or positions have
 * a gap, for both count on within it.
 *
 * Control records are not in the table. One at the end would keep readers from getting to where the log
 * ends, so a gap there is closed by a marker like the one that was there: of a commit, by no producer.
 *
 * What the local log has deleted must be in the table: one that is covered up to less than where the
 * local log begins (it was rolled back, or dropped and made anew) is an error, not a gap.
 *
 * Files that compaction has replaced stay for lake.snapshot.retention.ms. A pass that takes longer
 * finds one gone: it goes on from its offset with a new view, once.
 *
 * Threads: a pass belongs to the tier's thread that calls it. retain is the lake's thread's. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "broker/tier.h"
#include "lake/lake_int.h"

#define BATCH_BYTES (256u << 10) /* of records, not compressed */

struct tier_pass {
    struct lake *l;
    struct topic *topic; /* referenced */
    int32_t partition;
    int64_t next, to;
    struct lake_view *view;
    struct merge *merge;          /* of the view's files */
    struct batch_builder builder; /* has room for what was compressed when it came */
    enum codec codec;             /* of the topic */
    int64_t base_offset;          /* of the batch being built */
    uint64_t base_position;
    bool renewed; /* the view is new, and nothing was read since */
};

/* ---- the view ---- */

/* The table as it is now, checked to have all below `to`. */
static enum err view_of(struct lake *l, struct topic *topic, int32_t partition, int64_t to,
                        bool renew, struct lake_view **out, struct errinfo *info)
{
    const struct lake_at now = {LAKE_AT_NOW, 0};
    struct table *t = lake_table_of(l, topic);
    enum err e;

    if (t && renew)
        table_changed(l, t);
    e = lake_view_get(l, topic, &now, out, info);
    if (e)
        return e;
    if ((uint32_t)partition < (*out)->boundary_n && (*out)->boundary[partition] >= to)
        return ERR_OK;
    e = errinfo_set(info, ERR_CORRUPT,
                    "what the lake has of \"%.80s\" has partition %d up to offset %" PRId64
                    " only, and the local log begins at %" PRId64,
                    topic_name(topic), (int)partition,
                    (uint32_t)partition < (*out)->boundary_n ? (*out)->boundary[partition] : 0, to);
    lake_view_release(out);
    return e;
}

/* ---- a pass ---- */

static enum err pass_view(struct tier_pass *s, bool renew, struct errinfo *info)
{
    enum err e;

    merge_free(&s->merge);
    lake_view_release(&s->view);
    e = view_of(s->l, s->topic, s->partition, s->to, renew, &s->view, info);
    if (!e)
        s->merge = merge_new(s->l, s->view, s->partition, s->next, s->to);
    return e;
}

static void pass_close(struct tier_pass **sp)
{
    struct tier_pass *s = *sp;

    if (!s)
        return;
    merge_free(&s->merge);
    lake_view_release(&s->view);
    batch_builder_fini(&s->builder);
    topic_unref(&s->topic);
    free(s);
    *sp = NULL;
}

static enum err pass_open(void *arg, struct partition *p, int64_t from, int64_t to,
                          struct tier_pass **out, struct errinfo *info)
{
    struct tier_pass *s = xcalloc(1, sizeof *s);
    struct topic_conf conf;
    enum err e;

    s->l = arg;
    s->topic = topic_ref(partition_topic(p));
    s->partition = partition_index(p);
    s->next = from;
    s->to = to;
    topic_conf_get(s->topic, &conf);
    s->codec = (enum codec)topic_conf_codec(&conf);
    batch_builder_init(&s->builder, s->codec, BATCH_HEADER + LIMIT_BATCH_INFLATED);
    e = pass_view(s, false, info);
    if (e)
        pass_close(&s);
    *out = s;
    return e;
}

/* For the next batch. Room that only a huge record needed is given back. */
static void builder_clear(struct tier_pass *s)
{
    if (batch_builder_bytes(&s->builder) <= LIMIT_BATCH_BYTES) {
        batch_builder_reset(&s->builder);
        return;
    }
    batch_builder_fini(&s->builder);
    batch_builder_init(&s->builder, s->codec, BATCH_HEADER + LIMIT_BATCH_INFLATED);
}

/* The batch being built, if it has records, into out. */
static enum err batch_end(struct tier_pass *s, int16_t attributes, struct tier_block *out,
                          struct errinfo *info)
{
    int32_t n = s->builder.count;
    struct slice bytes;
    struct tier_batch *b;
    enum err e;

    if (n == 0)
        return ERR_OK;
    /* one that is too large by itself came compressed, whatever the topic says */
    s->builder.codec = batch_builder_bytes(&s->builder) > LIMIT_BATCH_BYTES ? CODEC_ZSTD : s->codec;
    e = batch_builder_finish(&s->builder, attributes, -1, -1, -1, &bytes);
    if (!e)
        e = buf_append_slice(&out->bytes, bytes);
    if (e)
        return errinfo_set(info, e, "the batch at offset %" PRId64 " cannot be made",
                           s->base_offset);
    if (out->n == out->cap) {
        out->cap = out->cap ? out->cap * 2 : 8;
        out->batch = xrealloc(out->batch, out->cap * sizeof *out->batch);
    }
    b = &out->batch[out->n++];
    *b = (struct tier_batch){.at = (uint32_t)(out->bytes.len - bytes.len),
                             .len = (uint32_t)bytes.len,
                             .base_offset = s->base_offset,
                             .last_offset = s->base_offset + n - 1,
                             .max_ts = s->builder.max_ts,
                             .position = s->base_position};
    batch_set_base_offset(out->bytes.ptr + b->at, b->base_offset);
    batch_set_leader_epoch(out->bytes.ptr + b->at, 0);
    out->next = b->last_offset + 1;
    builder_clear(s);
    return ERR_OK;
}

/* Puts a record behind those before it, in a new batch if it does not follow on them. */
static enum err record_put(struct tier_pass *s, const struct lake_record *r, struct tier_block *out,
                           struct errinfo *info)
{
    int32_t n = s->builder.count;
    enum err e = ERR_OK;

    if (n && (r->offset != s->base_offset + n || r->position != s->base_position + (uint64_t)n ||
              batch_builder_bytes(&s->builder) >= BATCH_BYTES))
        e = batch_end(s, 0, out, info);
    if (!e && s->builder.count == 0) {
        s->base_offset = r->offset;
        s->base_position = r->position;
    }
    if (!e && batch_builder_add(&s->builder, r->timestamp_ms, r->key, r->value, r->headers,
                                r->headers_n, NULL)) {
        e = batch_end(s, 0, out, info); /* it is too large beside the others */
        s->base_offset = r->offset;
        s->base_position = r->position;
        if (!e && (e = batch_builder_add(&s->builder, r->timestamp_ms, r->key, r->value, r->headers,
                                         r->headers_n, NULL)))
            errinfo_set(info, e, "the record at offset %" PRId64 " fits no batch", r->offset);
    }
    if (!e)
        s->next = r->offset + 1;
    return e;
}

static enum err records_put(struct tier_pass *s, size_t bytes, struct tier_block *out,
                            struct errinfo *info)
{
    const struct lake_record *r;
    enum err e = ERR_OK;

    while (!e && out->bytes.len + batch_builder_bytes(&s->builder) < bytes) {
        e = merge_next(s->merge, &r, info);
        if (!e)
            e = record_put(s, r, out, info);
    }
    return e;
}

/* The end of what the table has, with a gap up to `to`. */
static enum err gap_close(struct tier_pass *s, struct tier_block *out, struct errinfo *info)
{
    static const uint8_t commit[] = {0, 0, 0, 1}, value[] = {0, 0, 0, 0, 0, 0};
    enum err e = batch_builder_add(&s->builder, -1, slice_of(commit, sizeof commit),
                                   slice_of(value, sizeof value), NULL, 0, NULL);

    s->base_offset = s->to - 1;
    s->base_position = 0;
    s->next = s->to;
    return e ? e : batch_end(s, BATCH_CONTROL | BATCH_TRANSACTIONAL, out, info);
}

static enum err pass_next(struct tier_pass *s, size_t bytes, struct tier_block *out,
                          struct errinfo *info)
{
    enum err e, ended;

    e = buf_reserve(&out->bytes, bytes + BATCH_BYTES);
    if (!e && !s->merge)
        e = pass_view(s, false, info);
    for (; !e;) {
        e = records_put(s, bytes, out, info);
        if (e == ERR_EOF && s->builder.count == 0 && out->n == 0 && s->next < s->to)
            return gap_close(s, out, info);
        if (e == ERR_CORRUPT)
            return e; /* what came before it may be out of order, too */
        ended = batch_end(s, 0, out, e && e != ERR_EOF ? NULL : info);
        if (out->n && !ended) {
            s->renewed = false;
            if (e && e != ERR_EOF)
                merge_free(&s->merge); /* what failed behind it is read again, and fails again */
            return ERR_OK;
        }
        if (ended)
            return ended;
        if (e == ERR_EOF || s->renewed)
            return e;
        s->renewed = true;
        e = pass_view(s, true, info);
    }
    return e;
}

/* ---- searching ---- */

/* The file's first record that is wanted, if it is before *offset. */
static enum err file_find(struct lake *l, const struct lake_view *v, const struct lake_view_file *f,
                          struct lake_cursor_conf c, int64_t *offset, int64_t *ts_ms,
                          struct errinfo *info)
{
    const struct lake_record *r;
    struct lake_cursor cursor;
    enum err e;

    if (c.to > *offset)
        c.to = *offset;
    e = lake_cursor_open(l, v, f, &c, &cursor, info);
    if (e)
        return e;
    e = lake_cursor_next(l, &cursor, &r, info);
    if (!e) {
        *offset = r->offset;
        *ts_ms = r->timestamp_ms;
    }
    lake_cursor_close(l, &cursor);
    return e == ERR_EOF ? ERR_OK : e;
}

/* The first of the files' records that is wanted: *offset is at most c->to before, and stays if there is
 * none. */
static enum err files_find(struct lake *l, const struct lake_view *v,
                           const struct lake_view_file *const *files, uint32_t n,
                           const struct lake_cursor_conf *c, int64_t *offset, int64_t *ts_ms,
                           struct errinfo *info)
{
    enum err e = ERR_OK;
    uint32_t i;

    for (i = 0; !e && i < n && files[i]->offset_min < *offset; i++)
        if (c->ts_min_ms <= files[i]->time_max_us / 1000 &&
            (int64_t)c->position_min <= files[i]->position_max)
            e = file_find(l, v, files[i], *c, offset, ts_ms, info);
    return e;
}

static enum err find(void *arg, struct partition *p, enum tier_by by, int64_t value, int64_t from,
                     int64_t to, int64_t *offset, int64_t *ts_ms, struct errinfo *info)
{
    struct lake_cursor_conf c = {.partition = partition_index(p),
                                 .from = from,
                                 .to = to,
                                 .ts_min_ms = by == TIER_BY_TIME ? value : INT64_MIN,
                                 .position_min = by == TIER_BY_POSITION ? (uint64_t)value : 0,
                                 .sorted = true,
                                 .places_only = true};
    const struct lake_view_file **files;
    struct lake_view *v = NULL;
    uint32_t n;
    enum err e = view_of(arg, partition_topic(p), c.partition, to, false, &v, info);

    if (e)
        return e;
    *offset = to;
    files = lake_files_of(v, c.partition, from, to, &n);
    e = files_find(arg, v, files, n, &c, offset, ts_ms, info);
    free(files);
    lake_view_release(&v);
    return e ? e : *offset < to ? ERR_OK : ERR_EOF;
}

enum err lake_tier_start(struct lake *l, struct errinfo *info)
{
    const struct tier_ops ops = {
        .arg = l, .open = pass_open, .next = pass_next, .close = pass_close, .find = find};

    return tier_start(l->conf.broker, &ops, info);
}

/* ---- how far retention has come ---- */

struct limits {
    int64_t time_us;  /* files whose records are all older go; INT64_MIN: no rule */
    uint64_t bytes;   /* of the partition, here and there; UINT64_MAX: no rule */
    uint64_t started; /* bytes of the local log */
};

/* A file that several partitions share counts for each as its part of it. */
static uint64_t share(const struct lake_view_file *f)
{
    uint64_t n = (uint64_t)(f->partition_max - f->partition_min) + 1;

    return f->partition_min < 0 || f->partition_max == INT64_MAX ? f->bytes : f->bytes / n;
}

/* How many files the rules let go: from the start, while the first of them is too old, or there is too
 * much without it. */
static uint32_t files_past(const struct lake_view_file **files, uint32_t n, const struct limits *m)
{
    uint64_t all = m->started;
    uint32_t i;

    for (i = 0; i < n; i++)
        all += share(files[i]);
    for (i = 0; i < n; i++) {
        if (files[i]->time_max_us >= m->time_us &&
            (m->bytes == UINT64_MAX || all < m->bytes + share(files[i])))
            break;
        all -= share(files[i]);
    }
    return i;
}

/* Where a partition's records begin in the first file that is kept, as it was found last. */
struct kept {
    uint64_t file; /* hash of its location; 0: nothing was looked for */
    int64_t offset;
};

static struct kept *kept_of(struct table *t, int32_t partition)
{
    int32_t n = partition + 1;

    if (n > t->kept_n) {
        t->kept = xrealloc(t->kept, (size_t)n * sizeof *t->kept);
        memset(t->kept + t->kept_n, 0, (size_t)(n - t->kept_n) * sizeof *t->kept);
        t->kept_n = n;
    }
    return &t->kept[partition];
}

/* The first offset in the files, the first of which are kept. One that is not shared tells it itself. */
static enum err kept_from(struct lake *l, struct table *t, const struct lake_view *v,
                          const struct lake_view_file **files, uint32_t n, int32_t partition,
                          int64_t start, int64_t local, int64_t *out)
{
    struct lake_cursor_conf c = {.partition = partition,
                                 .from = start,
                                 .to = local,
                                 .ts_min_ms = INT64_MIN,
                                 .sorted = true,
                                 .places_only = true};
    struct kept *k = kept_of(t, partition);
    uint64_t hash;
    int64_t ts_ms;
    enum err e;

    *out = local;
    if (!n)
        return ERR_OK;
    if (files[0]->partition_min == files[0]->partition_max) {
        *out = files[0]->offset_min;
        return ERR_OK;
    }
    hash = hash64(files[0]->location, strlen(files[0]->location), 1) | 1;
    if (k->file != hash) {
        e = files_find(l, v, files, n, &c, out, &ts_ms, NULL);
        if (e)
            return e;
        *k = (struct kept){hash, *out};
    }
    *out = k->offset;
    return ERR_OK;
}

static void partition_retain(struct lake *l, struct table *t, struct partition *p,
                             const struct lake_view *v, struct limits m)
{
    int64_t start = partition_start(p), at = start;
    const struct lake_view_file **files;
    struct plog_info now;
    uint32_t n, past;

    plog_info_get(partition_log(p), &now);
    if (start >= now.start_offset)
        return;
    m.started = now.bytes;
    files = lake_files_of(v, partition_index(p), start, now.start_offset, &n);
    past = files_past(files, n, &m);
    if (past && kept_from(l, t, v, files + past, n - past, partition_index(p), start,
                          now.start_offset, &at))
        at = start; /* it is tried again */
    free(files);
    partition_expired(p, at > start ? at : start);
}

void lake_tier_retain(struct lake *l, struct table *t, struct topic *topic,
                      const struct topic_conf *c)
{
    const struct lake_at at = {LAKE_AT_NOW, 0};
    int64_t ms = c->retention_ms;
    struct limits m = {INT64_MIN,
                       c->retention_bytes < 0 ? UINT64_MAX : (uint64_t)c->retention_bytes, 0};
    struct lake_view *v = NULL;
    bool some = false;
    int32_t i;

    for (i = 0; i < topic_partitions(topic) && !some; i++) {
        struct partition *p = topic_partition(topic, i);
        struct plog_info now;

        plog_info_get(partition_log(p), &now);
        some = partition_start(p) < now.start_offset;
    }
    /* what leaves the table cannot be read from it */
    if (c->lake_retention_ms >= 0 && (ms < 0 || c->lake_retention_ms < ms))
        ms = c->lake_retention_ms;
    if (!some || (ms < 0 && c->retention_bytes < 0) || lake_view_get(l, topic, &at, &v, NULL))
        return;
    if (ms >= 0)
        m.time_us = (io_wall_ms(io_real()) - ms) * 1000;
    for (i = 0; i < topic_partitions(topic); i++)
        partition_retain(l, t, topic_partition(topic, i), v, m);
    lake_view_release(&v);
}
