/* Producers: records are encoded once, into the batch of their partition; a full batch is handed to
 * the journal as it is by the sending thread, the rest by the producer's own thread after
 * linger_us.
 *
 *   filling (p->open, one a partition) -> handed over (append_submit) -> durable -> pool
 *
 * p->order is held from taking an open batch to handing it over: batches of a partition are
 * sequenced in the order in which they were filled, whether the sender or the producer's thread
 * hands them over. It is taken before p->lock.
 *
 * p->lock guards the open batches, the pool and the counters. Only the producer's thread, the
 * sender and the journal's writer ever take it, so senders of different producers share nothing but
 * the journal. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "io/io.h"
#include "journal/batch.h"
#include "lib/lib_int.h"

#define BATCH_BYTES_DEFAULT  (256u << 10)
#define BUFFER_BYTES_DEFAULT (16u << 20)
#define LINGER_US_DEFAULT    1000

struct delivery {
    weir_delivery_fn fn;
    void *arg;
    int64_t ts;
};

struct pbatch {
    struct list_node link; /* pool */
    struct weir_producer *p;
    struct batch_builder bb;
    struct append *a;
    struct append_slot slot;
    struct partition *part;
    struct delivery *d;
    int32_t d_cap;
    bool wants;        /* some record has a callback */
    bool log_time;     /* the topic's message.timestamp.type is LogAppendTime */
    size_t bytes;      /* once it is not open any more */
    uint64_t since_ns; /* of its first record */
};

struct weir_producer {
    struct weir *w;
    struct topic *topic;
    size_t batch_bytes, buffer_bytes;
    size_t message_bytes_max; /* the topic's, as last seen */
    uint64_t linger_ns;       /* UINT64_MAX: never by time */
    enum codec codec;
    struct io_mutex order, lock;
    struct io_cond room; /* something became durable, or failed */
    struct io_event wake;
    struct io_thread *thread;
    bool stop;
    struct pbatch **open; /* by partition */
    int32_t open_n;
    struct list_head pool;
    size_t gathered; /* bytes in open batches */
    size_t inflight; /* bytes handed over */
    enum err failed; /* first since the last flush */
    struct errinfo why;
};

static void batch_done(struct append *a, void *arg, enum err e);

/* What the topic says now; lock held. */
static struct topic_conf topic_look(struct weir_producer *p)
{
    struct topic_conf conf;

    topic_conf_get(p->topic, &conf);
    p->message_bytes_max = (size_t)conf.max_message_bytes;
    return conf;
}

static struct pbatch *batch_get(struct weir_producer *p)
{
    struct topic_conf conf = topic_look(p);
    struct pbatch *b;

    if (!list_empty(&p->pool)) {
        b = list_entry(list_pop_front(&p->pool), struct pbatch, link);
        append_reset(b->a);
    } else {
        b = xcalloc(1, sizeof *b);
        b->p = p;
        batch_builder_init(&b->bb, p->codec, LIMIT_BATCH_BYTES);
        b->a = append_new(p->w->b, batch_done, b);
    }
    batch_builder_reset(&b->bb);
    b->wants = false;
    b->log_time = conf.timestamp_type == 1;
    return b;
}

static void batch_free(struct pbatch *b)
{
    batch_builder_fini(&b->bb);
    append_free(&b->a);
    free(b->d);
    free(b);
}

static void deliver(struct pbatch *b, enum err e)
{
    struct append_place first = {0};
    struct weir_place place;
    int32_t i;

    if (!b->wants)
        return;
    if (!e)
        e = append_place(b->a, b->slot, &first);
    for (i = 0; i < b->bb.count; i++) {
        if (!b->d[i].fn)
            continue;
        place = (struct weir_place){first.partition, first.offset + i, first.position + (uint64_t)i,
                                    b->log_time ? b->bb.max_ts : b->d[i].ts, false};
        b->d[i].fn(b->d[i].arg, lib_code(e), e ? NULL : &place);
    }
}

/* Writer thread, or the sender's when it could not be handed over. */
static void batch_end(struct pbatch *b, enum err e, const struct errinfo *why)
{
    struct weir_producer *p = b->p;

    deliver(b, e);
    io_mutex_lock(&p->lock);
    p->inflight -= b->bytes;
    if (e && !p->failed) {
        p->failed = e;
        p->why = *why;
    }
    list_push_back(&p->pool, &b->link);
    io_cond_broadcast(&p->room);
    io_mutex_unlock(&p->lock);
}

static void batch_done(struct append *a, void *arg, enum err e)
{
    struct errinfo why;

    errinfo_set(&why, e, "%s", err_text(e));
    batch_end(arg, e, &why);
}

/* Hands a batch over. Called without the lock; the batch is not open any more. */
static void batch_submit(struct pbatch *b)
{
    struct errinfo why = {0};
    struct slice s;
    enum err e =
        batch_builder_finish(&b->bb, b->log_time ? BATCH_LOG_APPEND_TIME : 0, -1, -1, -1, &s);

    if (!e)
        e = append_made_batch(b->a, b->part, s, &b->slot, &why);
    if (!e)
        e = append_submit(b->a, false, &why);
    if (e)
        batch_end(b, e, &why);
}

/* Hands over the open batch of partition i, if it has records. Both locks held; p->lock is let go
 * meanwhile. */
static void hand_over_one(struct weir_producer *p, int32_t i)
{
    struct pbatch *b = p->open[i];

    if (!b || b->bb.count == 0)
        return;
    p->open[i] = NULL;
    b->bytes = batch_builder_bytes(&b->bb);
    p->gathered -= b->bytes;
    p->inflight += b->bytes;
    io_mutex_unlock(&p->lock);
    batch_submit(b);
    io_mutex_lock(&p->lock);
}

static void hand_over_partition(struct weir_producer *p, int32_t i)
{
    io_mutex_lock(&p->order);
    io_mutex_lock(&p->lock);
    hand_over_one(p, i);
    io_mutex_unlock(&p->lock);
    io_mutex_unlock(&p->order);
}

/* Hands over what is due (all: everything); returns when the next is due, 0 for never. */
static uint64_t hand_over(struct weir_producer *p, bool all)
{
    uint64_t now = io_mono_ns(io_real()), next = 0;
    struct pbatch *b;
    int32_t i;

    io_mutex_lock(&p->order);
    io_mutex_lock(&p->lock);
    for (i = 0; i < p->open_n; i++) {
        b = p->open[i];
        if (!b || b->bb.count == 0)
            continue;
        if (!all && (p->linger_ns == UINT64_MAX || now - b->since_ns < p->linger_ns)) {
            if (p->linger_ns != UINT64_MAX && (!next || b->since_ns + p->linger_ns < next))
                next = b->since_ns + p->linger_ns;
            continue;
        }
        hand_over_one(p, i);
    }
    io_mutex_unlock(&p->lock);
    io_mutex_unlock(&p->order);
    return next;
}

static void producer_main(void *arg)
{
    struct weir_producer *p = arg;
    uint64_t next = 0, now;
    bool stop = false;

    while (!stop) {
        now = io_mono_ns(io_real());
        io_event_wait(&p->wake, next == 0 ? UINT64_MAX : next > now ? next - now : 1);
        next = hand_over(p, false);
        io_mutex_lock(&p->lock);
        stop = p->stop;
        io_mutex_unlock(&p->lock);
    }
}

/* ---- the public part ---- */

static enum err options_take(struct weir_producer *p, const struct weir_producer_options *given,
                             struct errinfo *info)
{
    struct weir_producer_options o = {0};
    struct topic_conf conf;
    int codec;
    enum err e = lib_options(&o, sizeof o, given, info);

    if (e)
        return e;
    conf = topic_look(p);
    p->batch_bytes = o.batch_bytes ? o.batch_bytes : BATCH_BYTES_DEFAULT;
    if (p->batch_bytes > p->w->gather_bytes_max)
        p->batch_bytes = p->w->gather_bytes_max;
    p->buffer_bytes = o.buffer_bytes ? o.buffer_bytes : BUFFER_BYTES_DEFAULT;
    p->linger_ns = o.linger_us < 0
                       ? UINT64_MAX
                       : (uint64_t)(o.linger_us ? o.linger_us : LINGER_US_DEFAULT) * 1000;
    codec = o.compression ? codec_find(slice_str(o.compression)) : topic_conf_codec(&conf);
    if (codec < 0)
        return errinfo_set(info, ERR_INVALID,
                           "compression is none, gzip, snappy, lz4 or zstd, not '%.40s'",
                           o.compression);
    p->codec = (enum codec)codec;
    return ERR_OK;
}

weir_err weir_producer_new(struct weir *w, const char *topic,
                           const struct weir_producer_options *options, struct weir_producer **out,
                           struct weir_error *error)
{
    struct weir_producer *p = xcalloc(1, sizeof *p);
    struct errinfo info = {0};
    enum err e;

    *out = NULL;
    p->w = w;
    list_init(&p->pool);
    io_mutex_init(&p->order);
    io_mutex_init(&p->lock);
    io_cond_init(&p->room);
    io_event_init(&p->wake);
    e = lib_topic(w, slice_str(topic), &p->topic, &info);
    if (!e)
        e = options_take(p, options, &info);
    if (!e) {
        p->open_n = topic_partitions(p->topic);
        p->open = xcalloc((size_t)p->open_n, sizeof *p->open);
        e = io_thread_start("weir-producer", IO_PRIO_NORMAL, producer_main, p, &p->thread, &info);
    }
    if (e) {
        weir_producer_close(&p, NULL);
        return lib_fail(e, &info, error);
    }
    *out = p;
    return lib_fail(ERR_OK, NULL, error);
}

static void note_delivery(struct pbatch *b, int32_t i, weir_delivery_fn fn, void *arg, int64_t ts)
{
    if (!fn && !b->wants)
        return;
    if (!b->wants) {
        b->wants = true;
        if (b->d_cap)
            memset(b->d, 0, (size_t)b->d_cap * sizeof *b->d);
    }
    if (i >= b->d_cap) {
        int32_t cap = b->d_cap ? b->d_cap * 2 : 256;

        while (cap <= i)
            cap *= 2;
        b->d = xrealloc(b->d, (size_t)cap * sizeof *b->d);
        memset(b->d + b->d_cap, 0, (size_t)(cap - b->d_cap) * sizeof *b->d);
        b->d_cap = cap;
    }
    b->d[i] = (struct delivery){fn, arg, ts};
}

static struct partition *partition_for(struct weir_producer *p, const struct weir_record *r,
                                       const struct append_record *rec)
{
    if (r->partition_1)
        return topic_partition(p->topic, r->partition_1 - 1);
    return topic_partition_for(p->topic, rec->key);
}

/* Waits until the buffer has room; what fills it may be batches that nobody else would hand over. */
static void room_wait(struct weir_producer *p)
{
    while (p->gathered + p->inflight > p->buffer_bytes) {
        if (p->inflight) {
            io_cond_wait(&p->room, &p->lock);
            continue;
        }
        io_mutex_unlock(&p->lock);
        hand_over(p, true);
        io_mutex_lock(&p->lock);
    }
}

/* Makes sure that the record can go into the open batch of partition i, which may be a new one.
 * Lock held, let go to hand over the present one. */
static enum err batch_ready(struct weir_producer *p, struct partition *part, size_t size,
                            struct errinfo *info)
{
    int32_t i = partition_index(part);
    struct pbatch *b;
    size_t most;

    if (BATCH_HEADER + size > p->message_bytes_max) {
        topic_look(p); /* it may have been raised */
        if (BATCH_HEADER + size > p->message_bytes_max)
            return errinfo_set(info, ERR_TOO_LARGE,
                               "a record of %zu bytes is larger than max.message.bytes (%zu)", size,
                               p->message_bytes_max);
    }
    if (i >= p->open_n) { /* the topic has grown */
        p->open = xrealloc(p->open, ((size_t)i + 1) * sizeof *p->open);
        memset(p->open + p->open_n, 0, (size_t)(i + 1 - p->open_n) * sizeof *p->open);
        p->open_n = i + 1;
    }
    most = p->batch_bytes < p->message_bytes_max ? p->batch_bytes : p->message_bytes_max;
    b = p->open[i];
    if (b && b->bb.count && batch_builder_bytes(&b->bb) + size > most) {
        io_mutex_unlock(&p->lock);
        hand_over_partition(p, i);
        io_mutex_lock(&p->lock);
    }
    if (!p->open[i])
        p->open[i] = batch_get(p);
    p->open[i]->part = part;
    return ERR_OK;
}

/* Adds to the open batch. *first: its first record; *full: it is to be handed over. Lock held. */
static enum err add(struct weir_producer *p, struct pbatch *b, const struct append_record *r,
                    weir_delivery_fn fn, void *arg, bool *first, bool *full)
{
    size_t before = b->bb.count ? batch_builder_bytes(&b->bb) : 0;
    int64_t ts = r->timestamp_ms;
    int32_t at;
    enum err e;

    if (ts < 0 || b->log_time)
        ts = io_wall_ms(io_real());
    e = batch_builder_add(&b->bb, ts, r->key, r->value, r->headers, r->headers_n, &at);
    if (e)
        return e;
    p->gathered += batch_builder_bytes(&b->bb) - before;
    note_delivery(b, at, fn, arg, ts);
    *first = at == 0;
    if (at == 0)
        b->since_ns = io_mono_ns(io_real());
    *full = batch_builder_bytes(&b->bb) >= p->batch_bytes;
    return ERR_OK;
}

weir_err weir_producer_send(struct weir_producer *p, const struct weir_record *record,
                            weir_delivery_fn fn, void *arg, struct weir_error *error)
{
    struct record_header h[LIB_HEADERS_MAX];
    struct append_record r;
    struct errinfo info = {0};
    struct partition *part;
    bool first = false, full = false;
    enum err e = lib_record(record, h, &r, &info);

    if (!e && record->dedup_id)
        e = errinfo_set(&info, ERR_INVALID, "a producer takes no dedup_id; use weir_produce");
    if (!e && slice_is_null(r.key) && topic_needs_keys(p->topic))
        e = errinfo_set(&info, ERR_RECORD, "\"%s\" is compacted: its records need keys",
                        topic_name(p->topic));
    if (e)
        return lib_fail(e, &info, error);
    part = partition_for(p, record, &r);
    if (!part)
        return lib_fail(errinfo_set(&info, ERR_PARTITION_NOT_FOUND, "there is no partition %d",
                                    record->partition_1 - 1),
                        &info, error);
    io_mutex_lock(&p->lock);
    room_wait(p);
    e = batch_ready(p, part, record_size_max(r.key, r.value, r.headers, r.headers_n), &info);
    if (!e && (e = add(p, p->open[partition_index(part)], &r, fn, arg, &first, &full)))
        errinfo_set(&info, e, "the record does not fit a batch");
    io_mutex_unlock(&p->lock);
    if (full)
        hand_over_partition(p, partition_index(part));
    else if (first && p->linger_ns != UINT64_MAX)
        io_event_signal(&p->wake);
    return lib_fail(e, &info, error);
}

weir_err weir_producer_flush(struct weir_producer *p, struct weir_error *error)
{
    struct errinfo why;
    enum err e;

    hand_over(p, true);
    io_mutex_lock(&p->lock);
    while (p->inflight)
        io_cond_wait(&p->room, &p->lock);
    e = p->failed;
    why = p->why;
    p->failed = ERR_OK;
    io_mutex_unlock(&p->lock);
    return lib_fail(e, &why, error);
}

weir_err weir_producer_close(struct weir_producer **pp, struct weir_error *error)
{
    struct weir_producer *p = *pp;
    weir_err e = WEIR_OK;
    int32_t i;

    if (!p)
        return lib_fail(ERR_OK, NULL, error);
    if (p->thread) {
        e = weir_producer_flush(p, error);
        io_mutex_lock(&p->lock);
        p->stop = true;
        io_mutex_unlock(&p->lock);
        io_event_signal(&p->wake);
        io_thread_join(&p->thread);
    }
    for (i = 0; p->open && i < p->open_n; i++)
        if (p->open[i])
            batch_free(p->open[i]);
    while (!list_empty(&p->pool))
        batch_free(list_entry(list_pop_front(&p->pool), struct pbatch, link));
    free(p->open);
    topic_unref(&p->topic);
    io_event_fini(&p->wake);
    io_cond_fini(&p->room);
    io_mutex_fini(&p->lock);
    io_mutex_fini(&p->order);
    free(p);
    *pp = NULL;
    return e;
}
