/* See notices.h. A record of the topic of events is
 *
 *   headers  ce_type, ce_source "weir"
 *   key      topic (stream.produce), else group
 *   value    {"type":"stream.produce","topic":…,"partition":…,"offset":…,"key":…,"timestamp":…}
 *            {"type":"stream.commit","groupId":…,"topic":…,"partition":…,"offset":…,"timestamp":…}
 *            {"type":"group.join"|"group.leave","groupId":…,"memberId":…,"timestamp":…}
 *            {"type":"group.rebalance","groupId":…,"generation":…,"timestamp":…}
 *
 * Hooks put a notice of fixed size into a queue; of a batch that is its place only. The publisher (a
 * thread of its own; the caller of notices_turn in simulation) exchanges the full queue for an empty one,
 * reads batches back from the log for their keys, and writes the events.
 *
 * Invariants: a hook never waits: the lock is held for a copy or for the exchange. A full queue drops.
 * Nothing is told of the topic of events: hooks know its id, once it has one, and the publisher compares
 * names, as the topic may have been made by another a moment ago.
 *
 * Lock: ns->lock, the last of all: a thread that holds any other may take it. */
#include "broker/notices.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "base/topic_name.h"
#include "base/utf8.h"
#include "broker/broker_int.h"
#include "journal/batch.h"

#define LINGER_NS   10000000u /* events that come close together share a write */
#define APPEND_MAX  1000u     /* events of one unit */
#define READ_BYTES  (256u << 10)
#define EVENT_BYTES (16u << 10)

struct notice {
    uint8_t kind; /* enum notice_kind */
    int32_t partition, generation;
    uint32_t topic, records, text_at;
    uint16_t group_len, member_len;
    int64_t offset, at_ms;
};

struct queue {
    uint32_t n, text_n;
    struct notice v[NOTICES_MAX];
    char text[NOTICES_TEXT_MAX];
};

struct notices {
    struct broker *b;
    char *name;                /* of the topic of events */
    _Atomic uint32_t topic_id; /* 0: not known */
    struct io_mutex lock;
    struct queue *in; /* lock */
    bool stopped;     /* lock */
    struct io_event event;
    _Atomic bool stop;
    struct io_thread *thread;
    _Atomic uint64_t told, dropped;
    /* publisher */
    struct queue *out;
    struct topic *topic; /* referenced; NULL not found yet */
    struct append *append;
    struct plog_read read;
    struct buf value, inflated;
};

/* ---- hooks ---- */

static void drop(struct notices *ns, uint64_t n)
{
    atomic_fetch_add_explicit(&ns->dropped, n, memory_order_relaxed);
}

/* Takes the notice with its two names; `worth` events are lost if there is no room. */
static void push(struct notices *ns, struct notice *x, struct slice group, struct slice member,
                 uint64_t worth)
{
    size_t text = group.len + member.len;
    struct queue *q;
    bool first = false, room;

    x->at_ms = journal_wall_ms(ns->b->journal);
    x->group_len = (uint16_t)group.len;
    x->member_len = (uint16_t)member.len;
    io_mutex_lock(&ns->lock);
    q = ns->in;
    room = !ns->stopped && q->n < NOTICES_MAX && q->text_n + text <= NOTICES_TEXT_MAX &&
           group.len <= UINT16_MAX && member.len <= UINT16_MAX;
    if (room) {
        first = q->n == 0;
        x->text_at = q->text_n;
        if (group.len)
            memcpy(q->text + q->text_n, group.ptr, group.len);
        if (member.len)
            memcpy(q->text + q->text_n + group.len, member.ptr, member.len);
        q->text_n += (uint32_t)text;
        q->v[q->n++] = *x;
    }
    io_mutex_unlock(&ns->lock);
    if (!room)
        drop(ns, worth);
    if (first)
        io_event_signal(&ns->event);
}

void notice__produce(struct broker *b, uint32_t topic, int32_t partition, int64_t offset,
                     uint32_t records)
{
    struct notice x = {.kind = NOTICE_PRODUCE,
                       .topic = topic,
                       .partition = partition,
                       .offset = offset,
                       .records = records};

    if ((b->conf.notices & BROKER_NOTICES_PRODUCE) &&
        topic != atomic_load_explicit(&b->notices->topic_id, memory_order_relaxed))
        push(b->notices, &x, SLICE_NULL, SLICE_NULL, records);
}

void notice__commit(struct broker *b, const struct entry_group_offset *en)
{
    struct notice x = {.kind = NOTICE_COMMIT,
                       .topic = en->topic,
                       .partition = (int32_t)en->partition,
                       .offset = en->offset};

    if ((b->conf.notices & BROKER_NOTICES_GROUPS) &&
        en->topic != atomic_load_explicit(&b->notices->topic_id, memory_order_relaxed))
        push(b->notices, &x, en->group, SLICE_NULL, 1);
}

void notice__group(struct broker *b, enum notice_kind kind, struct slice group, struct slice member,
                   int32_t generation)
{
    struct notice x = {.kind = (uint8_t)kind, .generation = generation};

    if (b->conf.notices & BROKER_NOTICES_GROUPS)
        push(b->notices, &x, group, member, 1);
}

/* ---- writing events ---- */

/* Makes the topic if it is not there. */
static bool topic_get(struct notices *ns)
{
    if (ns->topic && !topic_deleted(ns->topic))
        return true;
    topic_unref(&ns->topic);
    ns->topic = topic_find(ns->b, slice_str(ns->name));
    if (!ns->topic && topic_create_wait(ns->b, slice_str(ns->name), 0, NULL, NULL) == ERR_OK)
        ns->topic = topic_find(ns->b, slice_str(ns->name));
    if (ns->topic)
        atomic_store_explicit(&ns->topic_id, topic_id(ns->topic), memory_order_relaxed);
    return ns->topic != NULL;
}

static void submit(struct notices *ns)
{
    uint64_t n = append_records(ns->append);

    if (n == 0)
        return;
    if (append_submit_wait(ns->append, NULL))
        drop(ns, n);
    else
        atomic_fetch_add_explicit(&ns->told, n, memory_order_relaxed);
    append_reset(ns->append);
}

static enum err put_text(struct buf *b, const char *name, struct slice s)
{
    char text[BASE64_LEN(NOTICE_KEY_MAX) + 1];
    enum err e;

    if (s.len > NOTICE_KEY_MAX)
        return buf_printf(b, ",\"%s_bytes\":%zu", name, s.len);
    if (slice_is_null(s))
        return buf_printf(b, ",\"%s\":null", name);
    if (utf8_valid(s)) {
        e = buf_printf(b, ",\"%s\":", name);
        return e ? e : json_write_string(b, s);
    }
    base64_encode(s.ptr, s.len, text);
    return buf_printf(b, ",\"%s_base64\":\"%s\"", name, text);
}

/* Ends the value with its time and adds the event to the unit. */
static void emit(struct notices *ns, const char *type, struct slice key, int64_t ms, enum err e)
{
    char at[TIME_TEXT_LEN + 1];
    struct record_header h[] = {{SLICE_LIT("ce_type"), slice_str(type)},
                                {SLICE_LIT("ce_source"), SLICE_LIT("weir")}};
    struct append_record r = {.timestamp_ms = -1, .key = key, .headers = h, .headers_n = 2};
    struct append_slot slot;

    time_format(ms, at);
    e = e ? e : buf_printf(&ns->value, ",\"timestamp\":\"%s\"}", at);
    r.value = buf_slice(&ns->value);
    if (e || !topic_get(ns)) {
        drop(ns, 1);
        return;
    }
    e = append_record(ns->append, ns->topic, -1, &r, &slot, NULL);
    if (e && append_records(ns->append)) { /* full: once more with an empty one */
        submit(ns);
        e = append_record(ns->append, ns->topic, -1, &r, &slot, NULL);
    }
    if (e)
        drop(ns, 1);
    if (append_records(ns->append) >= APPEND_MAX)
        submit(ns);
}

static void tell_record(struct notices *ns, const struct topic *t, int32_t partition,
                        const struct record *r)
{
    struct slice name = slice_str(topic_name(t));
    enum err e;

    buf_clear(&ns->value);
    e = buf_printf(&ns->value,
                   "{\"type\":\"stream.produce\",\"topic\":\"%s\",\"partition\":%" PRId32
                   ",\"offset\":%" PRId64,
                   topic_name(t), partition, r->offset);
    e = e ? e : put_text(&ns->value, "key", r->key);
    emit(ns, "stream.produce", name, r->timestamp_ms, e);
}

/* Of the batches read: the records in [from, to). Answers how many. */
static uint64_t tell_batches(struct notices *ns, const struct topic *t, int32_t partition,
                             int64_t from, int64_t to, int64_t *next)
{
    uint64_t n = 0;
    unsigned i;

    for (i = 0; i < ns->read.n && ns->read.batch[i].base_offset < to; i++) {
        struct batch_iter it;
        struct record r;

        *next = ns->read.batch[i].last_offset + 1;
        if (batch_iter_init(&it, ns->read.batch[i].data, &ns->inflated))
            continue;
        while (batch_iter_next(&it, &r) == ERR_OK)
            if (r.offset >= from && r.offset < to) {
                tell_record(ns, t, partition, &r);
                n++;
            }
    }
    return n;
}

static void tell_produce(struct notices *ns, const struct notice *x)
{
    struct topic *t = topic_find_id(ns->b, x->topic);
    struct partition *p = t ? topic_partition(t, x->partition) : NULL;
    int64_t next = x->offset, to = x->offset + x->records;
    bool own = t && strcmp(topic_name(t), ns->name) == 0;
    uint64_t n = 0;

    while (p && !own && next < to) {
        int64_t at = next;

        if (plog_read(partition_log(p), next, READ_BYTES, &ns->read, NULL) == ERR_OK)
            n += tell_batches(ns, t, x->partition, next, to, &next);
        plog_read_release(&ns->read);
        if (next == at) /* deleted already, or cannot be read */
            break;
    }
    if (!own)
        drop(ns, x->records - n);
    topic_unref(&t);
}

static void tell_commit(struct notices *ns, const struct notice *x, struct slice group)
{
    struct topic *t = topic_find_id(ns->b, x->topic);
    enum err e;

    if (!t) {
        drop(ns, 1);
        return;
    }
    if (strcmp(topic_name(t), ns->name) != 0) {
        buf_clear(&ns->value);
        e = buf_printf(&ns->value, "{\"type\":\"stream.commit\"");
        e = e ? e : put_text(&ns->value, "groupId", group);
        e = e ? e
              : buf_printf(&ns->value,
                           ",\"topic\":\"%s\",\"partition\":%" PRId32 ",\"offset\":%" PRId64,
                           topic_name(t), x->partition, x->offset);
        emit(ns, "stream.commit", group, x->at_ms, e);
    }
    topic_unref(&t);
}

static void tell_group(struct notices *ns, const struct notice *x, struct slice group,
                       struct slice member)
{
    const char *type = x->kind == NOTICE_JOIN    ? "group.join"
                       : x->kind == NOTICE_LEAVE ? "group.leave"
                                                 : "group.rebalance";
    enum err e;

    buf_clear(&ns->value);
    e = buf_printf(&ns->value, "{\"type\":\"%s\"", type);
    e = e ? e : put_text(&ns->value, "groupId", group);
    if (!e && x->kind == NOTICE_REBALANCE)
        e = buf_printf(&ns->value, ",\"generation\":%" PRId32, x->generation);
    else if (!e)
        e = put_text(&ns->value, "memberId", member);
    emit(ns, type, group, x->at_ms, e);
}

/* ---- the publisher ---- */

static bool tell_all(struct notices *ns)
{
    struct queue *q;
    uint32_t i;

    io_mutex_lock(&ns->lock);
    q = ns->in;
    ns->in = ns->out;
    io_mutex_unlock(&ns->lock);
    ns->out = q;
    for (i = 0; i < q->n; i++) {
        const struct notice *x = &q->v[i];
        struct slice group = slice_of(q->text + x->text_at, x->group_len);
        struct slice member = slice_of(q->text + x->text_at + x->group_len, x->member_len);

        if (x->kind == NOTICE_PRODUCE)
            tell_produce(ns, x);
        else if (x->kind == NOTICE_COMMIT)
            tell_commit(ns, x, group);
        else
            tell_group(ns, x, group, member);
    }
    submit(ns);
    i = q->n;
    q->n = q->text_n = 0;
    return i > 0;
}

static void run(void *arg)
{
    struct notices *ns = arg;

    while (!atomic_load(&ns->stop)) {
        io_event_wait(&ns->event, UINT64_MAX);
        if (!atomic_load(&ns->stop))
            io_event_wait(&ns->event, LINGER_NS);
        tell_all(ns);
    }
}

bool notices_turn(struct broker *b)
{
    return b->notices && !b->notices->thread && tell_all(b->notices);
}

void notices_count(struct broker *b, uint64_t *told, uint64_t *dropped)
{
    *told = b->notices ? atomic_load_explicit(&b->notices->told, memory_order_relaxed) : 0;
    *dropped = b->notices ? atomic_load_explicit(&b->notices->dropped, memory_order_relaxed) : 0;
}

/* ---- life ---- */

enum err notices_open(struct broker *b, struct errinfo *info)
{
    const char *name = b->conf.notices_topic ? b->conf.notices_topic : "weir.events";
    struct notices *ns;
    enum err e;

    if (!b->conf.notices || b->conf.read_only)
        return ERR_OK;
    if (!topic_name_valid(slice_str(name)))
        return errinfo_set(info, ERR_TOPIC_NAME, "'%s' is not a valid topic name", name);
    ns = xcalloc(1, sizeof *ns);
    ns->b = b;
    ns->name = xstrdup(name);
    ns->in = xcalloc(1, sizeof *ns->in);
    ns->out = xcalloc(1, sizeof *ns->out);
    io_mutex_init(&ns->lock);
    io_event_init(&ns->event);
    buf_init(&ns->value, EVENT_BYTES);
    buf_init(&ns->inflated, LIMIT_BATCH_INFLATED);
    ns->append = append_new(b, NULL, NULL);
    ns->topic = topic_find(b, slice_str(name));
    if (ns->topic)
        atomic_store(&ns->topic_id, topic_id(ns->topic));
    b->notices = ns;
    if (!b->conf.threads)
        return ERR_OK;
    e = io_thread_start("weir-notices", IO_PRIO_NORMAL, run, ns, &ns->thread, info);
    if (e)
        notices_free(b);
    return e;
}

void notices_stop(struct broker *b)
{
    struct notices *ns = b->notices;

    if (!ns)
        return;
    if (ns->thread) {
        atomic_store(&ns->stop, true);
        io_event_signal(&ns->event);
        io_thread_join(&ns->thread);
    }
    tell_all(ns);
    io_mutex_lock(&ns->lock);
    ns->stopped = true;
    io_mutex_unlock(&ns->lock);
    append_free(&ns->append);
    topic_unref(&ns->topic);
}

void notices_free(struct broker *b)
{
    struct notices *ns = b->notices;

    if (!ns)
        return;
    if (ns->append)
        append_free(&ns->append);
    topic_unref(&ns->topic);
    buf_fini(&ns->value);
    buf_fini(&ns->inflated);
    io_event_fini(&ns->event);
    io_mutex_fini(&ns->lock);
    free(ns->in);
    free(ns->out);
    free(ns->name);
    free(ns);
    b->notices = NULL;
}
