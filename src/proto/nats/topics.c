/* Topics for core subscribers. See topics.h.
 *
 * Which topics are followed: those in whose subjects somebody is interested. A subscription to a
 * pattern that is new in the account is noted with the position of the log before it was there; so
 * is a topic that is made. A thread finds the topics that a noted pattern takes, and begins to
 * follow each at the noted position: so nothing is missed of what became durable after the
 * subscription, however late the thread comes. Of a transaction that was open then what came before is
 * to be seen, too: topics with such are noted for themselves, with where it begins, as it may be over
 * when the thread comes. A followed topic has a reader (broker.h), which gives
 * what is committed, in order, and a waiter; nothing is looked at until something is appended to that
 * very topic. When that happens and nobody is interested any more, following it ends.
 *
 * Records go to a loop (one for each topic, so they keep their order) in bundles of messages, which
 * the loop routes as if it had read them from a client. Not more than UNDER_WAY bytes are on their
 * way; and while receivers are slow, the thread waits a moment between bundles, as publishers do.
 * Meanwhile records wait where they are, in the log. Those that the log deleted before they were
 * read are a gap: it is counted and written into the program's log.
 *
 *     noted -> follow_begin -> READY -> run -> waits (armed) -> on_wake -> READY
 *                                        |-> follow_end: nobody is interested, the topic is gone
 *
 * Threads: follows and their readers belong to the thread; `ready` and notes are under t->lock. A
 * wake comes on the writer thread. Bundles are the loop's between loop_post and bundle_done. */
#include "proto/nats/topics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/topic_name.h"
#include "broker/broker.h"
#include "broker/producer.h"
#include "io/io.h"
#include "journal/journal.h"
#include "proto/nats/nats_int.h"
#include "proto/nats/record.h"

#define NOTES_MAX    65536u       /* patterns; when more are waiting all topics are looked at */
#define RUN_RECORDS  512u         /* of a topic, before another one's turn */
#define BUNDLE_BYTES (256u << 10) /* is posted when it has so many */
#define UNDER_WAY    (4u << 20)
#define LIST_TOPICS  64u
#define OPEN_TOPICS  256u /* with open transactions, that a subscription looks at */
#define FOLLOWS_MAX  (1u << 24)

struct note {
    struct note *next;
    uint64_t since;
    uint64_t open;     /* of transactions, what is from here on, too; 0: nothing */
    uint32_t topic_id; /* of a topic that was made or changed; 0: a pattern */
    size_t len;
    char pattern[];
};

struct follow {
    struct waiter waiter; /* first */
    struct ntopics *t;
    struct topic *topic; /* referenced */
    struct reader *r;
    struct list_node link; /* t->lock: in t->ready */
    bool ready;            /* t->lock */
    bool known, wanted;    /* whether somebody is interested, as of `stamp` */
    uint64_t stamp;
};

struct bundle {
    struct loop_task task;
    struct ntopics *t;
    struct nloop *l;
    struct buf data;
};

/* In a bundle: this, then subject and body. */
struct parcel {
    uint32_t subject_len, body_len, header_len;
};

struct ntopics {
    struct nats *n;
    struct naccount *account;
    struct broker *b;
    const struct log *log;
    struct topics_watch watch;
    struct io_thread *thread;
    struct io_event event;
    struct io_mutex lock;
    struct list_head ready;    /* lock: follows that may have something to read */
    struct note *notes, *last; /* lock: oldest first */
    uint32_t notes_n;          /* lock */
    bool all;                  /* lock: there were too many notes: every topic … */
    uint64_t all_since;        /* … from here on */
    struct u64map owned;       /* lock: int64_t * by topic id */
    bool pressed;              /* lock: receivers of a bundle were slow */
    size_t under_way;          /* lock */
    atomic_bool stop;
    struct u64map follows;    /* the thread's: struct follow by topic id */
    struct bundle *open;      /* the thread's: being filled */
    struct buf subject, body; /* the thread's */
    uint32_t stall_ms;        /* the thread's */
    _Atomic uint64_t delivered, left_out, gaps, followed;
};

/* ---- bundles ---- */

static void bundle_done(struct bundle *o, bool pressed)
{
    struct ntopics *t = o->t;

    io_mutex_lock(&t->lock);
    t->under_way -= o->data.len;
    t->pressed |= pressed;
    io_event_signal(&t->event);
    io_mutex_unlock(&t->lock);
    buf_fini(&o->data);
    free(o);
}

/* On its loop. */
static void bundle_take(struct loop_task *task)
{
    struct bundle *o = (struct bundle *)(void *)task;
    size_t at = 0;
    bool pressed;

    while (at < o->data.len) {
        struct nmsg m = {.record = true};
        struct parcel p;

        memcpy(&p, o->data.ptr + at, sizeof p);
        at += sizeof p;
        m.subject = slice_of(o->data.ptr + at, p.subject_len);
        m.body = slice_of(o->data.ptr + at + p.subject_len, p.body_len);
        m.header_len = p.header_len;
        at += (size_t)p.subject_len + p.body_len;
        nats_route(o->l, o->t->account, &m);
    }
    pressed = o->l->pressed;
    o->l->pressed = false;
    bundle_done(o, pressed);
}

static void bundle_post(struct ntopics *t)
{
    struct bundle *o = t->open;

    if (!o)
        return;
    t->open = NULL;
    io_mutex_lock(&t->lock);
    t->under_way += o->data.len;
    io_mutex_unlock(&t->lock);
    loop_post(o->l->loop, &o->task);
}

static void bundle_add(struct ntopics *t, struct nloop *l, struct slice subject, struct slice body,
                       size_t header_len)
{
    struct parcel p = {(uint32_t)subject.len, (uint32_t)body.len, (uint32_t)header_len};
    struct bundle *o = t->open;

    if (!o) {
        o = t->open = xcalloc(1, sizeof *o);
        o->task.fn = bundle_take;
        o->t = t;
        o->l = l;
        buf_init(&o->data, SIZE_MAX);
    }
    ASSERT(o->l == l);
    if (buf_append(&o->data, &p, sizeof p) || buf_append_slice(&o->data, subject) ||
        buf_append_slice(&o->data, body))
        abort(); /* no memory */
    if (o->data.len >= BUNDLE_BYTES)
        bundle_post(t);
}

/* ---- records as messages ---- */

/* Into subject and body, cleared first. False: it is not deliverable, and counted. */
static bool message_make(struct ntopics *t, const struct ntopics_record *r, struct buf *subject,
                         struct buf *body, size_t *header_len)
{
    bool ok;

    buf_clear(subject);
    buf_clear(body);
    ok = r->subject.len ? buf_append_slice(subject, r->subject) == ERR_OK
                        : subject_of_record(r->topic, r->key, subject);
    *header_len = record_nats_headers(r->headers, r->headers_n, body);
    if (!ok || body->len + r->value.len > t->n->conf.payload_max) {
        atomic_fetch_add(&t->left_out, 1);
        return false;
    }
    buf_append_slice(body, r->value);
    atomic_fetch_add(&t->delivered, 1);
    return true;
}

void ntopics_deliver(struct ntopics *t, struct nloop *l, const struct ntopics_record *r)
{
    struct nmsg m = {.record = true};
    struct buf subject, body;

    if (interest_none(&t->account->interest))
        return;
    buf_init(&subject, SIZE_MAX);
    buf_init(&body, SIZE_MAX);
    if (message_make(t, r, &subject, &body, &m.header_len)) {
        m.subject = buf_slice(&subject);
        m.body = buf_slice(&body);
        nats_route(l, t->account, &m);
    }
    buf_fini(&subject);
    buf_fini(&body);
}

/* ---- following a topic ---- */

static struct slice name_of(const struct topic *topic)
{
    return slice_str(topic_name(topic));
}

/* lock held. */
static void make_ready(struct follow *f)
{
    if (f->ready)
        return;
    f->ready = true;
    list_push_back(&f->t->ready, &f->link);
    io_event_signal(&f->t->event);
}

/* Writer thread. */
static void on_wake(struct waiter *w)
{
    struct follow *f = (struct follow *)(void *)w;

    io_mutex_lock(&f->t->lock);
    make_ready(f);
    io_mutex_unlock(&f->t->lock);
}

static void follow_end(struct follow *f)
{
    struct ntopics *t = f->t;

    waiter_cancel(&f->waiter);
    io_mutex_lock(&t->lock);
    if (f->ready)
        list_remove(&f->link);
    io_mutex_unlock(&t->lock);
    u64map_remove(&t->follows, topic_id(f->topic));
    atomic_fetch_sub(&t->followed, 1);
    reader_close(&f->r);
    topic_unref(&f->topic);
    free(f);
}

/* From what is not owned on; INT64_MAX: nobody owns it. */
static int64_t owned_from(struct ntopics *t, uint32_t id)
{
    const int64_t *from;
    int64_t at;

    io_mutex_lock(&t->lock);
    from = u64map_find(&t->owned, id);
    at = from ? *from : INT64_MAX;
    io_mutex_unlock(&t->lock);
    return at;
}

/* Whether somebody is interested in a subject that records of it may have. */
static bool topic_wanted(const struct ntopics *t, const struct topic *topic)
{
    char keyed[TOPIC_NAME_MAX + 3];
    int n = snprintf(keyed, sizeof keyed, "%s.*", topic_name(topic));

    return subject_literal(name_of(topic)) &&
           (interest_any(&t->account->interest, name_of(topic)) ||
            interest_any(&t->account->interest, slice_of(keyed, (size_t)n)));
}

static bool is_topic(void *arg, const struct partition *p)
{
    return topic_id(partition_topic(p)) == *(const uint32_t *)arg;
}

/* Where the first transaction begins that is open in this topic; 0: none is. */
static uint64_t open_in(struct ntopics *t, uint32_t id)
{
    uint64_t at = producers_open_position(t->b, is_topic, &id);

    return at == UINT64_MAX ? 0 : at;
}

static void follow_begin(struct ntopics *t, struct topic *topic, uint64_t since, uint64_t open)
{
    struct reader_conf conf = {.selector = name_of(topic),
                               .partition = -1,
                               .from = READ_FROM_POSITION,
                               .position = since,
                               .position_open = open};
    struct errinfo info = {0};
    struct follow *f;
    enum err e;

    if (u64map_find(&t->follows, topic_id(topic)) || owned_from(t, topic_id(topic)) == 0)
        return;
    f = xcalloc(1, sizeof *f);
    f->t = t;
    f->waiter.wake = on_wake;
    f->topic = topic_ref(topic);
    e = reader_open(t->b, &conf, &f->r, &info);
    if (!e)
        e = u64map_put(&t->follows, topic_id(topic), f);
    if (e) {
        if (e != ERR_TOPIC_NOT_FOUND) {
            atomic_fetch_add(&t->gaps, 1);
            LOG(t->log, LOG_ERROR, "records of a topic do not reach NATS's subscribers",
                LOG_STR("topic", topic_name(topic)), LOG_STR("error", info.text));
        }
        reader_close(&f->r);
        topic_unref(&f->topic);
        free(f);
        return;
    }
    atomic_fetch_add(&t->followed, 1);
    io_mutex_lock(&t->lock);
    make_ready(f);
    io_mutex_unlock(&t->lock);
}

/* Records were lost before they were read, or do not decode. False: following ends here, and begins
 * anew with what comes. */
static bool on_trouble(struct follow *f, enum err e, const struct errinfo *info)
{
    struct ntopics *t = f->t;
    struct topic *topic;

    if (e == ERR_TOPIC_NOT_FOUND) {
        follow_end(f);
        return false;
    }
    atomic_fetch_add(&t->gaps, 1);
    LOG(t->log, LOG_WARN, "subscribers of NATS missed records of a topic",
        LOG_STR("topic", topic_name(f->topic)), LOG_STR("why", info->text));
    if (e == ERR_OFFSET_RANGE)
        return true;
    topic = topic_ref(f->topic);
    follow_end(f);
    follow_begin(t, topic, ntopics_since(t), open_in(t, topic_id(topic)));
    topic_unref(&topic);
    return false;
}

static void deliver(struct follow *f, const struct reader_record *rec)
{
    struct ntopics *t = f->t;
    struct ntopics_record r = {.topic = name_of(f->topic),
                               .key = rec->key,
                               .value = rec->value,
                               .headers = rec->headers,
                               .headers_n = rec->headers_n};
    struct nloop *l = &t->n->loops[topic_id(f->topic) % t->n->conf.loops_n];
    size_t header_len;

    if (message_make(t, &r, &t->subject, &t->body, &header_len))
        bundle_add(t, l, buf_slice(&t->subject), buf_slice(&t->body), header_len);
}

static bool still_wanted(struct follow *f)
{
    uint64_t stamp = interest_stamp(&f->t->account->interest, name_of(f->topic));

    if (!f->known || stamp != f->stamp)
        f->wanted = topic_wanted(f->t, f->topic);
    f->known = true;
    f->stamp = stamp; /* read before: what changed meanwhile makes it old */
    return f->wanted;
}

static void again(struct follow *f)
{
    io_mutex_lock(&f->t->lock);
    make_ready(f);
    io_mutex_unlock(&f->t->lock);
}

/* Some of what there is. */
static void run(struct follow *f)
{
    int64_t owned = owned_from(f->t, topic_id(f->topic));
    struct reader_record rec;
    struct errinfo info;
    uint32_t i;
    enum err e;

    if (!still_wanted(f)) {
        follow_end(f);
        return;
    }
    for (i = 0; i < RUN_RECORDS; i++) {
        info = (struct errinfo){0};
        e = reader_next(f->r, &rec, &info);
        if (e == ERR_AGAIN) {
            if (owned != INT64_MAX && !reader_busy(f->r))
                follow_end(f); /* the rest is its owner's */
            else if (reader_busy(f->r) || !reader_wait(f->r, &f->waiter))
                again(f);
            return;
        }
        if (e && !on_trouble(f, e, &info))
            return;
        if (!e && rec.offset < owned)
            deliver(f, &rec);
    }
    again(f);
}

/* ---- what is noted ---- */

uint64_t ntopics_since(struct ntopics *t)
{
    return journal_position_end(broker_journal(t->b));
}

static void note(struct ntopics *t, struct slice pattern, uint32_t id, uint64_t since,
                 uint64_t open)
{
    struct note *n = xcalloc(1, sizeof *n + pattern.len);

    n->since = since;
    n->open = open;
    n->topic_id = id;
    n->len = pattern.len;
    if (pattern.len)
        memcpy(n->pattern, pattern.ptr, pattern.len);
    io_mutex_lock(&t->lock);
    if (t->notes_n == NOTES_MAX) {
        t->all_since = t->all && t->all_since < since ? t->all_since : since;
        t->all = true;
        free(n);
    } else {
        if (t->notes)
            t->last->next = n;
        else
            t->notes = n;
        t->last = n;
        t->notes_n++;
    }
    io_event_signal(&t->event);
    io_mutex_unlock(&t->lock);
}

/* The literal tokens at a pattern's beginning. */
static struct slice head_of(struct slice pattern)
{
    struct slice rest = pattern, token;
    size_t n = 0;

    while (subject_token(&rest, &token) && !token_is(token, '*') && !token_is(token, '>'))
        n = (size_t)(token.ptr - pattern.ptr) + token.len;
    return slice_of(pattern.ptr, n);
}

static struct slice without_last(struct slice subject)
{
    while (subject.len && subject.ptr[--subject.len] != '.')
        ;
    return subject;
}

static bool topic_there(struct ntopics *t, struct slice name)
{
    struct topic *topic = name.len && name.len <= TOPIC_NAME_MAX ? topic_find(t->b, name) : NULL;
    bool there = topic != NULL;

    topic_unref(&topic);
    return there;
}

struct open_topics {
    struct slice pattern;
    uint32_t id[OPEN_TOPICS], n;
};

/* Takes down the topic, if the pattern takes its subjects. */
static bool open_topic(void *arg, const struct partition *p)
{
    const struct topic *topic = partition_topic(p);
    struct slice name = name_of(topic);
    char keyed[TOPIC_NAME_MAX + 3];
    int len = snprintf(keyed, sizeof keyed, "%s.*", topic_name(topic));
    struct open_topics *o = arg;
    uint32_t i;

    for (i = 0; i < o->n && o->id[i] != topic_id(topic);)
        i++;
    if (i == o->n && o->n < OPEN_TOPICS && subject_literal(name) &&
        (subjects_meet(o->pattern, name) ||
         subjects_meet(o->pattern, slice_of(keyed, (size_t)len))))
        o->id[o->n++] = topic_id(topic);
    return false;
}

/* Topics with transactions that are open. */
static void note_open(struct ntopics *t, struct slice pattern, uint64_t since)
{
    struct open_topics o = {.pattern = pattern};
    uint32_t i;

    (void)producers_open_position(t->b, open_topic, &o);
    for (i = 0; i < o.n; i++)
        note(t, SLICE_NULL, o.id[i], since, open_in(t, o.id[i]));
}

void ntopics_subscribed(struct ntopics *t, const struct naccount *a, struct slice pattern,
                        uint64_t since)
{
    struct slice token, rest = pattern;

    if (a != t->account || !subject_token(&rest, &token) || token.ptr[0] == '$' ||
        slice_eq_str(token, "_INBOX"))
        return; /* no topic's name begins so, or should */
    if (!subject_has_wildcard(pattern) && !topic_there(t, pattern) &&
        !topic_there(t, without_last(pattern)))
        return; /* one that is made later is noted then */
    note_open(t, pattern, since);
    note(t, pattern, 0, since, 0);
}

static void own_end(struct ntopics *t, uint32_t id)
{
    io_mutex_lock(&t->lock);
    free(u64map_remove(&t->owned, id));
    io_mutex_unlock(&t->lock);
}

/* Writer thread. */
static void on_topic(struct topics_watch *w, struct topic *topic)
{
    struct ntopics *t = list_entry(w, struct ntopics, watch);

    if (topic_deleted(topic))
        own_end(t, topic_id(topic));
    else if (!interest_none(&t->account->interest))
        note(t, SLICE_NULL, topic_id(topic), ntopics_since(t), 0);
}

static void follow_named(struct ntopics *t, struct slice name, uint64_t since)
{
    struct topic *topic = name.len && name.len <= TOPIC_NAME_MAX ? topic_find(t->b, name) : NULL;

    if (topic && topic_wanted(t, topic))
        follow_begin(t, topic, since, 0);
    topic_unref(&topic);
}

/* Topics that the glob takes and in whose subjects somebody is interested. */
static void follow_listed(struct ntopics *t, const char *glob, uint64_t since)
{
    struct topic *list[LIST_TOPICS];
    char after[TOPIC_NAME_MAX + 1] = "";
    size_t i, n;

    do {
        n = topic_list(t->b, slice_str(after), glob, list, LIST_TOPICS);
        for (i = 0; i < n; i++) {
            if (!u64map_find(&t->follows, topic_id(list[i])) && topic_wanted(t, list[i]))
                follow_begin(t, list[i], since, 0);
            if (i == n - 1)
                snprintf(after, sizeof after, "%s", topic_name(list[i]));
            topic_unref(&list[i]);
        }
    } while (n == LIST_TOPICS && !atomic_load(&t->stop));
}

static void follow_noted(struct ntopics *t, const struct note *n)
{
    struct slice pattern = slice_of(n->pattern, n->len), head = head_of(pattern);
    char glob[TOPIC_NAME_MAX + 3];
    struct topic *topic;

    if (n->topic_id) {
        topic = topic_find_id(t->b, n->topic_id);
        if (topic && topic_wanted(t, topic))
            follow_begin(t, topic, n->since, n->open);
        topic_unref(&topic);
        return;
    }
    if (head.len > TOPIC_NAME_MAX) {
        follow_named(t, without_last(pattern), n->since); /* the last token is a key */
        return;
    }
    follow_named(t, head, n->since);
    if (head.len == pattern.len) {
        follow_named(t, without_last(head), n->since);
        return;
    }
    snprintf(glob, sizeof glob, head.len ? "%.*s.*" : "%.*s*", (int)head.len, n->pattern);
    follow_listed(t, glob, n->since);
}

/* ---- the thread ---- */

/* What was noted, in order; false if nothing was. */
static bool take_notes(struct ntopics *t)
{
    struct note *n, *next;
    uint64_t all_since;
    bool all;

    io_mutex_lock(&t->lock);
    n = t->notes;
    t->notes = t->last = NULL;
    t->notes_n = 0;
    all = t->all;
    all_since = t->all_since;
    t->all = false;
    io_mutex_unlock(&t->lock);
    if (!n && !all)
        return false;
    for (; n; n = next) {
        next = n->next;
        if (!atomic_load(&t->stop))
            follow_noted(t, n);
        free(n);
    }
    if (all)
        follow_listed(t, "*", all_since);
    return true;
}

static struct follow *take_ready(struct ntopics *t)
{
    struct follow *f = NULL;

    io_mutex_lock(&t->lock);
    if (!list_empty(&t->ready)) {
        f = list_entry(list_pop_front(&t->ready), struct follow, link);
        f->ready = false;
    }
    io_mutex_unlock(&t->lock);
    return f;
}

/* Waits while too much is on its way, and a moment when receivers are slow. */
static void hold_back(struct ntopics *t)
{
    bool full, pressed;

    for (;;) {
        io_mutex_lock(&t->lock);
        full = t->under_way > UNDER_WAY;
        pressed = t->pressed;
        t->pressed = false;
        io_mutex_unlock(&t->lock);
        if (atomic_load(&t->stop))
            return;
        t->stall_ms = !pressed ? 0 : !t->stall_ms ? NATS_STALL_MS : t->stall_ms * 2;
        if (t->stall_ms > NATS_STALL_MS_MAX)
            t->stall_ms = NATS_STALL_MS_MAX;
        if (pressed)
            io_event_wait(&t->event, t->stall_ms * 1000000ull);
        if (!full)
            return;
        io_event_wait(&t->event, UINT64_MAX);
    }
}

static void thread_main(void *arg)
{
    struct ntopics *t = arg;
    struct follow *f;

    while (!atomic_load(&t->stop)) {
        bool noted;

        hold_back(t); /* first: it may take a signal, and what that was for is looked at below */
        noted = take_notes(t);
        if ((f = take_ready(t))) {
            run(f);
            bundle_post(t);
        } else if (!noted) {
            io_event_wait(&t->event, UINT64_MAX);
        }
    }
}

/* ---- begin and end ---- */

enum err ntopics_new(struct nats *n, struct naccount *a, struct broker *b, const struct log *log,
                     struct ntopics **out, struct errinfo *info)
{
    struct ntopics *t = xcalloc(1, sizeof *t);
    enum err e;

    t->n = n;
    t->account = a;
    t->b = b;
    t->log = log;
    io_event_init(&t->event);
    io_mutex_init(&t->lock);
    list_init(&t->ready);
    u64map_init(&t->owned, FOLLOWS_MAX, 0);
    u64map_init(&t->follows, FOLLOWS_MAX, 0);
    buf_init(&t->subject, SIZE_MAX);
    buf_init(&t->body, SIZE_MAX);
    atomic_init(&t->stop, false);
    t->watch.fn = on_topic;
    broker_watch_topics(b, &t->watch);
    e = io_thread_start("weir-nats", IO_PRIO_NORMAL, thread_main, t, &t->thread, info);
    *out = t;
    if (e)
        ntopics_free(out);
    return e;
}

void ntopics_stop(struct ntopics *t)
{
    uint32_t at = 0;
    void *f;

    if (atomic_exchange(&t->stop, true))
        return;
    io_event_signal(&t->event);
    if (t->thread)
        io_thread_join(&t->thread);
    broker_unwatch_topics(t->b, &t->watch);
    take_notes(t);
    while (u64map_next(&t->follows, &at, NULL, &f)) {
        follow_end(f);
        at = 0;
    }
}

void ntopics_free(struct ntopics **tp)
{
    struct ntopics *t = *tp;
    uint32_t at = 0;
    void *from;

    if (!t)
        return;
    ntopics_stop(t);
    ASSERT(t->under_way == 0 && !t->open);
    while (u64map_next(&t->owned, &at, NULL, &from))
        free(from);
    u64map_fini(&t->owned);
    u64map_fini(&t->follows);
    buf_fini(&t->subject);
    buf_fini(&t->body);
    io_mutex_fini(&t->lock);
    io_event_fini(&t->event);
    free(t);
    *tp = NULL;
}

/* ---- topics that somebody else delivers ---- */

void ntopics_own(struct ntopics *t, uint32_t topic_id, int64_t offset)
{
    int64_t *from;

    io_mutex_lock(&t->lock);
    from = u64map_find(&t->owned, topic_id);
    if (!from) {
        from = xmalloc(sizeof *from);
        if (u64map_put(&t->owned, topic_id, from))
            abort(); /* more topics than there can be */
    }
    *from = offset;
    io_mutex_unlock(&t->lock);
}

void ntopics_disown(struct ntopics *t, uint32_t topic_id)
{
    own_end(t, topic_id);
    note(t, SLICE_NULL, topic_id, ntopics_since(t), open_in(t, topic_id));
}

/* ---- metrics ---- */

void ntopics_metrics(struct ntopics *t, struct buf *out)
{
    const struct {
        const char *name, *type, *help;
        _Atomic uint64_t *v;
    } m[] = {
        {"topics_followed", "gauge", "Topics whose records subscribers want.", &t->followed},
        {"topic_records_total", "counter", "Records of topics sent to subscribers.", &t->delivered},
        {"topic_records_left_out_total", "counter",
         "Records of topics that are larger than max_payload, or have no subject.", &t->left_out},
        {"topic_gaps_total", "counter",
         "Times that records were deleted or unreadable before subscribers had them.", &t->gaps},
    };
    unsigned i;

    for (i = 0; i < sizeof m / sizeof *m; i++)
        buf_printf(out,
                   "# HELP weir_nats_%s %s\n# TYPE weir_nats_%s %s\nweir_nats_%s %" PRIu64 "\n",
                   m[i].name, m[i].help, m[i].name, m[i].type, m[i].name,
                   atomic_load_explicit(m[i].v, memory_order_relaxed));
}
