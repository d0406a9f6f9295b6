/* A stream's log, as it is read and followed. See js_store_int.h.
 *
 * The log is read once, by a worker, when the stream is opened, from what is trimmed away to its
 * end; from then on it is followed. What the stream itself appended it knows (jwritten); what others
 * append is read, in order: before an own append is looked at, all before it is in the index. Nothing
 * of others is looked at while own appends are on their way, as it is not known yet which are which. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "broker/producer.h"
#include "proto/nats/js_header.h"
#include "proto/nats/js_publish.h"
#include "proto/nats/js_store_int.h"
#include "proto/nats/record.h"

#define READ_BYTES    (1u << 20)
#define FAILED_MS_MAX 60000u
#define MS_NS         1000000

/* ---- records as messages ---- */

struct slice jstore_subject(struct jstream *s, struct slice key, struct buf *scratch)
{
    struct jfilter *takes = s->store->takes;

    if (!s->implicit && key.len && subject_valid(key) && (!takes || jfilter_takes_name(takes, key)))
        return key;
    buf_clear(scratch);
    if (!subject_of_record(slice_str(topic_name(s->topic)), key, scratch))
        return SLICE_NULL;
    return buf_slice(scratch);
}

void jstore_retake(struct jstream *s)
{
    jfilter_free(&s->store->takes);
    s->store->takes = jstream_taken(s);
}

/* How many headers it has, which are in st->headers then. */
static uint32_t facts_of(struct jstore *st, const struct record *r, struct jfacts *f)
{
    uint32_t n = 0, i;

    *f = (struct jfacts){.subject = jstore_subject(st->s, r->key, &st->subject),
                         .time_ms = jtime_ns(r->timestamp_ms) / MS_NS}; /* others write any */
    if (r->headers_n)
        record_headers(r, st->headers, LIMIT_RECORD_HEADERS, &n);
    for (i = 0; i < n && !st->s->implicit; i++)
        if (slice_has_prefix(st->headers[i].key, SLICE_LIT("Nats-")))
            jfacts_header(f, st->headers[i].key, st->headers[i].value);
    f->bytes = jstream_msg_bytes(f->subject.len, nheader_record_len(st->headers, n), r->value.len);
    return n;
}

static bool batch_void(const struct jstore *st, const struct batch_info *bi)
{
    return bi->attributes & BATCH_CONTROL ||
           (bi->attributes & BATCH_TRANSACTIONAL &&
            partition_aborted_batch(st->s->p, bi->producer_id, bi->base_offset));
}

/* What others wrote is a message to the core's subscribers, too. */
static void tell_core(struct jstore *st, const struct record *r, const struct jfacts *f, uint32_t n)
{
    struct jstream *s = st->s;
    struct ntopics *t = s->js->n->topics;
    struct ntopics_record rec = {.topic = slice_str(topic_name(s->topic)),
                                 .key = r->key,
                                 .subject = f->subject,
                                 .value = r->value,
                                 .headers = st->headers,
                                 .headers_n = n};

    if (t && st->owned)
        ntopics_deliver(t, s->l, &rec);
}

static enum err batch_take(struct jstore *st, const struct read_batch *b)
{
    struct jstream *s = st->s;
    struct batch_iter it;
    struct jfacts f;
    struct record r;
    uint32_t n;
    enum err e;

    if ((e = batch_iter_init(&it, b->data, &st->scratch)))
        return e;
    if (batch_void(st, &it.info))
        return ERR_OK;
    while ((e = batch_iter_next(&it, &r)) == ERR_OK && r.offset < st->to) {
        if (r.offset < st->next || jstream_seq(s, r.offset) < s->index.first)
            continue;
        jindex_skip(&s->index, jstream_seq(s, r.offset));
        if (st->opening && jstore_removed_before(st, r.offset))
            continue;
        if (s->mirrored && !r.key.len && slice_is_null(r.value)) {
            jstore_gap(s, 1, jstream_seq(s, r.offset));
            continue;
        }
        n = facts_of(st, &r, &f);
        if (!f.subject.len) { /* its key is too long for one */
            jindex_skip(&s->index, jstream_seq(s, r.offset) + 1);
            continue;
        }
        jstore_add(s, jstream_seq(s, r.offset), &f);
        tell_core(st, &r, &f, n);
    }
    return e == ERR_EOF ? ERR_OK : e;
}

/* What was read. Batches that cannot be read are passed by: what is in them is not there. */
static void read_take(struct jstore *st)
{
    struct plog_read *r = &st->read;
    unsigned i;

    for (i = 0; i < r->n && r->batch[i].base_offset < st->to; i++) {
        batch_take(st, &r->batch[i]);
        st->next = r->batch[i].last_offset + 1;
    }
    if (st->next > st->to)
        st->next = st->to;
    jindex_skip(&st->s->index, jstream_seq(st->s, st->next));
}

/* The log begins later than what was to be read: others trimmed it. */
static void log_begins(struct jstore *st, int64_t start)
{
    if (start <= st->next)
        start = st->next;
    st->next = start;
    jindex_skip(&st->s->index, jstream_seq(st->s, start));
}

/* ---- opening ---- */

static void follow(struct jstore *st);

static void open_run(struct work *w)
{
    struct jstore *st = list_entry(w, struct jstore, work);
    struct plog *log = partition_log(st->s->p);
    enum err e = ERR_OK;

    while (!e && st->next < st->to && !atomic_load(&st->s->js->ending)) {
        e = plog_read(log, st->next, READ_BYTES, &st->read, NULL);
        if (e == ERR_OFFSET_RANGE) {
            log_begins(st, st->read.start_offset);
            e = ERR_OK;
        } else if (!e) {
            read_take(st);
        }
    }
    plog_read_release(&st->read);
    if (e == ERR_TOPIC_NOT_FOUND) { /* others deleted it: nothing comes back by waiting */
        log_begins(st, st->to);
        e = ERR_OK;
    }
    st->e = e;
    loop_post(st->s->l->loop, &st->task);
}

/* A stream that was not read is not an empty one, whose log would be trimmed. */
static void open_later(struct jstore *st)
{
    LOG(st->s->js->n->conf.log, LOG_ERROR, "a stream cannot be read; it is tried again",
        LOG_STR("stream", st->s->conf.name), LOG_STR("error", err_text(st->e)));
    st->failed = true;
    st->failed_ms = !st->failed_ms                  ? JSTORE_TIMER_MS
                    : st->failed_ms < FAILED_MS_MAX ? st->failed_ms * 2
                                                    : FAILED_MS_MAX;
    loop_timer_arm(st->s->l->loop, &st->timer, st->failed_ms);
}

static void opened(struct loop_task *t)
{
    struct jstore *st = list_entry(t, struct jstore, task);
    struct jstream *s = st->s;

    if (st->e && !st->stopped) {
        open_later(st);
        return;
    }
    st->busy = st->opening = false;
    jstream_note(s);
    if (s->js->n->topics && !st->stopped && !s->implicit &&
        strcmp(s->account->name, s->js->n->conf.topics_account) == 0) {
        ntopics_own(s->js->n->topics, topic_id(s->topic), st->next);
        st->owned = true;
    }
    s->store->ready(s, st->arg);
    if (!st->stopped) {
        jstore_tick(st);
        follow(st);
    }
    js_end(s->js);
    jstream_unref(s);
}

static void on_wake(struct waiter *w);
static void on_woken(struct loop_task *t);

void jstore_log_begin(struct jstore *st)
{
    struct jstream *s = st->s;
    struct plog_info log;

    st->busy = st->opening = true;
    st->work.fn = open_run;
    st->task.fn = opened;
    st->waiter.wake = on_wake;
    st->waiter.broker = s->js->b;
    st->woken.fn = on_woken;
    list_init(&st->written);
    buf_init(&st->scratch, LIMIT_BATCH_INFLATED);
    buf_init(&st->subject, SIZE_MAX);
    st->headers = xcalloc(LIMIT_RECORD_HEADERS, sizeof *st->headers);
    st->takes = jstream_taken(s);
    plog_info_get(partition_log(s->p), &log);
    st->trimmed = log.start_offset;
    jstore_removed_load(st, log.start_offset);
    st->next = jstream_offset(s, st->begin);
    st->to = log.end_offset < partition_lso(s->p) ? log.end_offset : partition_lso(s->p);
    if (st->next > st->to)
        st->next = st->to;
    jindex_fini(&s->index);
    jindex_init(&s->index, jstream_seq(s, st->next), s->js->seed);
    jstream_ref(s);
    js_begin(s->js);
    if (st->next == st->to) /* nothing to read */
        loop_post(s->l->loop, &st->task);
    else
        workers_run(s->js->workers, &st->work);
}

/* ---- following ---- */

static void read_run(struct work *w)
{
    struct jstore *st = list_entry(w, struct jstore, work);

    st->read.memory_only = false;
    st->e = plog_read(partition_log(st->s->p), st->next, READ_BYTES, &st->read, NULL);
    loop_post(st->s->l->loop, &st->task);
}

/* What others wrote: it is in the index, consumers are told. */
static void others_take(struct jstore *st)
{
    struct jstream *s = st->s;
    uint64_t before = s->index.last;

    if (st->e == ERR_OFFSET_RANGE)
        log_begins(st, st->read.start_offset < st->to ? st->read.start_offset : st->to);
    else if (!st->e)
        read_take(st);
    else
        log_begins(st, st->to); /* it cannot be read: it is not there */
    jstream_note(s);
    if (s->index.last > before)
        jconsumers_stored(s, before + 1, s->index.last);
    jpublish_followed(s);
}

static void others_read(struct loop_task *t)
{
    struct jstore *st = list_entry(t, struct jstore, task);
    struct jstream *s = st->s;

    st->busy = false;
    if (!st->stopped)
        others_take(st);
    follow(st);
    js_end(s->js);
    jstream_unref(s);
}

/* True: it was in memory, and is taken. */
static bool others(struct jstore *st, int64_t to)
{
    st->to = to;
    st->read.memory_only = true;
    st->e = plog_read(partition_log(st->s->p), st->next, READ_BYTES, &st->read, NULL);
    if (st->e != ERR_AGAIN) {
        others_take(st);
        return true;
    }
    st->busy = true;
    st->work.fn = read_run;
    st->task.fn = others_read;
    jstream_ref(st->s);
    js_begin(st->s->js);
    workers_run(st->s->js->workers, &st->work);
    return false;
}

static void on_wake(struct waiter *w)
{
    struct jstore *st = list_entry(w, struct jstore, waiter);

    atomic_store(&st->came, true);
    loop_post(st->s->l->loop, &st->woken);
}

static void on_woken(struct loop_task *t)
{
    struct jstore *st = list_entry(t, struct jstore, woken);
    struct jstream *s = st->s;

    st->waiting = false;
    follow(st);
    js_end(s->js);
    jstream_unref(s);
}

/* False: there is something already. */
static bool wait_more(struct jstore *st, uint64_t seen)
{
    if (st->waiting)
        return true;
    jstream_ref(st->s);
    js_begin(st->s->js);
    st->waiting = true;
    atomic_store(&st->came, false);
    if (topic_wait(st->s->topic, seen, &st->waiter))
        return true;
    st->waiting = false;
    js_end(st->s->js);
    jstream_unref(st->s);
    return false;
}

static void written_apply(struct jstore *st)
{
    struct jwritten *w = list_entry(list_pop_front(&st->written), struct jwritten, link);

    st->next = w->last + 1;
    w->apply(w);
}

/* Others may have trimmed the log: retention, or Kafka's DeleteRecords. What was read of that is not
 * there any more. */
static void follow_start(struct jstore *st)
{
    struct jstream *s = st->s;
    struct plog_info log;

    plog_info_get(partition_log(s->p), &log);
    if (jstream_seq(s, log.start_offset) > s->index.first)
        jstore_purge(s, jstream_seq(s, log.start_offset));
}

/* How far the log may be looked at. */
static int64_t follow_to(struct jstore *st)
{
    int64_t lso = partition_lso(st->s->p), to = st->next;
    struct plog_info log;

    if (!list_empty(&st->written)) {
        to = list_entry(st->written.node.next, struct jwritten, link)->first;
    } else if (!jpublish_under_way(st->s)) {
        plog_info_get(partition_log(st->s->p), &log);
        to = log.end_offset;
    }
    return to < lso ? to : lso;
}

static void follow(struct jstore *st)
{
    uint64_t seen;
    int64_t to;

    while (!st->busy) {
        seen = topic_commits(st->s->topic);
        if (!list_empty(&st->written) &&
            (st->stopped ||
             list_entry(st->written.node.next, struct jwritten, link)->first <= st->next)) {
            written_apply(st);
            continue;
        }
        if (st->stopped)
            return;
        follow_start(st);
        to = follow_to(st);
        if (st->next < to) {
            if (!others(st, to))
                return;
        } else if (jpublish_under_way(st->s) && list_empty(&st->written)) {
            return; /* what is under way comes back */
        } else if (wait_more(st, seen)) {
            return;
        }
    }
}

void jstore_written(struct jstream *s, struct jwritten *w)
{
    list_push_back(&s->store->written, &w->link);
    follow(s->store);
}

void jstore_follow(struct jstream *s)
{
    follow(s->store);
}

int64_t jstore_next(const struct jstream *s)
{
    return s->store->next;
}

/* ---- the end ---- */

void jstore_log_stop(struct jstore *st)
{
    struct jstream *s = st->s;

    if (st->failed) {
        st->failed = false;
        loop_post(s->l->loop, &st->task);
    }
    if (!st->waiting)
        return;
    waiter_cancel(&st->waiter);
    if (!atomic_load(&st->came)) { /* it does not come any more */
        st->waiting = false;
        js_end(s->js);
        jstream_unref(s);
    }
}

void jstore_log_free(struct jstore *st)
{
    ASSERT(list_empty(&st->written));
    plog_read_release(&st->read);
    jfilter_free(&st->takes);
    buf_fini(&st->scratch);
    buf_fini(&st->subject);
    free(st->headers);
}
