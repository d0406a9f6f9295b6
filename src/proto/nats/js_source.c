/* Mirrors and sources: streams that copy others of the same account. See js_source.h.
 *
 * For each stream that one copies there is a feed. It asks the origin, on its loop, for what follows
 * a sequence; the origin answers with a piece of its messages, or keeps the feed until there are
 * some. What is answered becomes one append of the copying stream, together with an item that says
 * where to go on: so each message is copied once, whatever happens between, and however much of
 * either stream is removed. Then the feed asks again: one piece is under way at a time, which bounds
 * memory, and pieces grow as the origin gets ahead.
 *
 *   ask -> (origin's loop) fill … wait -> back -> (own loop) take -> append -> jsources_came -> ask
 *
 * A mirror's messages have the origin's sequences and times. Its offset 0 is its first message
 * (jsources_base); sequences that the origin does not have any more, or that the filter does not
 * take, are records without key and value, which the index leaves out and compaction takes away.
 * So a mirror's log is dense, as every log, and nobody else may write to it: then the feed stops and
 * says so, as sequences would not be the origin's.
 *
 * Threads: a feed is the copying stream's; between ask and back it belongs to the origin's loop, as
 * its reader and filter always do. It ends by a task of its own (`leave`), which comes behind what
 * it asked; it is freed when both are back. */
#include "proto/nats/js_source.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "broker/removed.h"
#include "journal/journal.h"
#include "proto/nats/js_header.h"
#include "proto/nats/js_implicit.h"
#include "proto/nats/js_publish.h"
#include "proto/nats/js_snapshot.h"
#include "proto/nats/js_transform.h"
#include "proto/nats/record.h"

#define SOURCE_NS   "js.source" /* items: where to go on; by topic and feed */
#define MIRROR_ID   0u /* a mirror's item: next, origin's topic, base; others': next, origin's */
#define PIECE_BYTES (256u << 10)
#define PIECE_MSGS  4096u
#define FILL_MAX    65536u /* sequences filled by one append */
#define RETRY_MS    250u   /* until the origin is there, and after what went wrong */

enum state { IDLE, ASKED, APPENDED };

struct feed {
    struct list_node link; /* of jsources.feeds */
    struct jstream *s;
    bool mirror;
    uint64_t id;
    char *name;
    enum state state;
    bool ended;
    unsigned out; /* tasks that are with the origin's loop */
    uint64_t next;
    uint64_t origin;   /* number of its topic; 0: nothing was copied */
    const void *batch; /* APPENDED */
    const char *fault;
    uint64_t lag;
    int64_t heard_ms; /* 0: never */
    struct loop_timer retry;
    struct loop_task ask, leave;
    struct jstream *o; /* origin, referenced while it is asked */
    /* the origin's loop's */
    struct list_node wait; /* of o->askers */
    struct jreader *reader;
    struct jfilter *filter;
    char **patterns;
    unsigned patterns_n;
    uint64_t start_seq;
    int64_t start_ms; /* INT64_MIN: none */
    bool waiting, asked, dropped;
    const char *trouble;
    uint64_t topic; /* the origin's, now */
    struct buf got; /* struct piece_msg, subject, headers, payload … */
    uint32_t got_n;
    uint64_t scanned; /* what follows what was looked at */
    uint64_t left;
};

struct piece_msg {
    uint64_t seq;
    int64_t time_ns;
    uint32_t subject, headers, payload;
};

struct jsources {
    struct jstream *s;
    struct list_head feeds;
    struct buf text, subject;
};

/* ---- what is saved ---- */

struct source_key {
    uint8_t b[REMOVED_KEY];
};

static struct slice source_key(const struct jstream *s, uint64_t id, struct source_key *k)
{
    removed_key(topic_id(s->topic), id, k->b);
    return slice_of(k->b, sizeof k->b);
}

/* 0: there is none. */
static uint64_t saved_number(const struct jstream *s, uint64_t id, unsigned i)
{
    struct source_key k;
    uint64_t n = 0;
    struct buf b;

    buf_init(&b, LIMIT_KV_VALUE);
    if (!kv_get(s->js->b, SOURCE_NS, source_key(s, id, &k), &b) && b.len >= 8 * (i + 1))
        n = be64_load(b.ptr + (size_t)8 * i);
    buf_fini(&b);
    return n;
}

uint64_t jsources_base(const struct jstream *s)
{
    return saved_number(s, MIRROR_ID, 2);
}

enum err jsources_based(struct jstream *s, uint64_t next)
{
    struct source_key k;
    uint8_t item[24];

    be64_store(item, s->conf.mirror ? next : 0);
    be64_store(item + 8, 0);
    be64_store(item + 16, s->first_seq);
    return kv_put(s->js->b, SOURCE_NS, source_key(s, MIRROR_ID, &k), slice_of(item, sizeof item), 0,
                  NULL, NULL, NULL);
}

static void base_take(struct jstream *s, uint64_t first)
{
    s->first_seq = first;
    jindex_fini(&s->index);
    jindex_init(&s->index, first, s->js->seed);
}

enum err jsources_base_set(struct jstream *s, uint64_t first)
{
    base_take(s, first);
    s->mirrored = true;
    return jsources_based(s, 0);
}

static void next_load(struct feed *f)
{
    f->next = saved_number(f->s, f->id, 0);
    f->origin = saved_number(f->s, f->id, 1);
}

struct keys {
    struct slice prefix;
    struct buf found;
};

static bool key_note(void *arg, struct slice key, struct slice value)
{
    struct keys *k = arg;

    (void)value;
    if (key.len == REMOVED_KEY && memcmp(key.ptr, k->prefix.ptr, k->prefix.len) == 0)
        buf_append_slice(&k->found, key);
    return true;
}

enum err jsources_forget(const struct jstream *s, struct append *a)
{
    struct source_key first;
    struct keys k = {.prefix = source_key(s, 0, &first)};
    enum err e = ERR_OK;
    size_t at;

    k.prefix.len = REMOVED_KEY - 8;
    buf_init(&k.found, SIZE_MAX);
    kv_each(s->js->b, SOURCE_NS, key_note, &k);
    for (at = 0; !e && at < k.found.len; at += REMOVED_KEY)
        e = append_kv(a, SOURCE_NS, slice_of(k.found.ptr + at, REMOVED_KEY), SLICE_NULL);
    buf_fini(&k.found);
    return e;
}

/* ---- feeds ---- */

static struct slice text_of(const char *s)
{
    return slice_str(s ? s : "");
}

/* What tells one source from another: where it begins does not. */
static uint64_t feed_id(const struct jsource *c)
{
    const struct jtransform *t = c->transforms.v;
    uint64_t h = hash64(c->name, strlen(c->name), 1);
    unsigned i;

    h = hash64(text_of(c->filter).ptr, text_of(c->filter).len, h);
    for (i = 0; i < c->transforms.n; i++) {
        h = hash64(text_of(t[i].src).ptr, text_of(t[i].src).len, h + 1);
        h = hash64(text_of(t[i].dest).ptr, text_of(t[i].dest).len, h + 2);
    }
    return h == MIRROR_ID ? 1 : h;
}

static void patterns_of(struct feed *f, const struct jsource *c)
{
    const struct jtransform *t = c->transforms.v;
    unsigned i;

    f->patterns = xcalloc(c->transforms.n + 1, sizeof(char *));
    if (c->filter)
        f->patterns[f->patterns_n++] = xstrdup(c->filter);
    for (i = 0; i < c->transforms.n; i++)
        f->patterns[f->patterns_n++] = xstrdup(t[i].src ? t[i].src : ">");
}

static void on_back(struct loop_task *t);
static void on_left(struct loop_task *t);
static void feed_ask(struct feed *f);

static void on_retry(struct loop_timer *t)
{
    feed_ask(list_entry(t, struct feed, retry));
}

static struct feed *feed_new(struct jsources *src, const struct jsource *c, bool mirror)
{
    struct feed *f = xcalloc(1, sizeof *f);

    f->s = src->s;
    f->mirror = mirror;
    f->id = mirror ? MIRROR_ID : feed_id(c);
    f->name = xstrdup(c->name);
    f->start_seq = c->start_seq;
    f->start_ms =
        c->start_time_ns == JTIME_NONE ? INT64_MIN : (c->start_time_ns + 999999) / 1000000;
    patterns_of(f, c);
    loop_timer_init(&f->retry, on_retry);
    buf_init(&f->got, SIZE_MAX);
    list_push_back(&src->feeds, &f->link);
    next_load(f);
    return f;
}

static void feed_free(struct feed *f)
{
    unsigned i;

    ASSERT(!f->reader && !f->filter && !f->o);
    for (i = 0; i < f->patterns_n; i++)
        free(f->patterns[i]);
    free(f->patterns);
    buf_fini(&f->got);
    free(f->name);
    free(f);
}

static void feed_later(struct feed *f, const char *fault)
{
    f->fault = fault;
    f->state = IDLE;
    loop_timer_arm(f->s->l->loop, &f->retry, RETRY_MS);
}

/* A task goes to the origin's loop and comes back. */
static void feed_send(struct feed *f, struct loop_task *t, void (*fn)(struct loop_task *t))
{
    t->fn = fn;
    f->out++;
    jstream_ref(f->s);
    js_begin(f->s->js);
    loop_post(f->o->l->loop, t);
}

/* ---- at the origin ---- */

static void feed_drop(struct feed *f, const char *trouble)
{
    f->trouble = trouble;
    jreader_free(&f->reader);
    jfilter_free(&f->filter);
    f->dropped = true;
}

static void feed_answer(struct feed *f)
{
    f->asked = false;
    f->ask.fn = on_back;
    loop_post(f->s->l->loop, &f->ask);
}

static void got_add(struct feed *f, const struct jmsg *m)
{
    struct piece_msg p = {.seq = m->seq,
                          .time_ns = m->time_ns,
                          .subject = (uint32_t)m->subject.len,
                          .headers = (uint32_t)m->headers.len,
                          .payload = (uint32_t)m->payload.len};

    buf_append(&f->got, &p, sizeof p);
    buf_append_slice(&f->got, m->subject);
    buf_append_slice(&f->got, m->headers);
    buf_append_slice(&f->got, m->payload);
    f->got_n++;
}

static uint64_t start_of(const struct feed *f)
{
    const struct jindex *x = &f->o->index;
    uint64_t seq = 0;

    if (f->start_seq)
        return f->start_seq;
    if (f->start_ms == INT64_MIN)
        return x->first ? x->first : 1;
    seq = jindex_seek_time(x, f->start_ms);
    return seq ? seq : x->last + 1;
}

static void fill(void *arg)
{
    struct feed *f = arg;
    const struct jindex *x = &f->o->index;
    struct jmsg m;
    uint64_t seq;
    enum err e;

    if (f->o->gone) {
        feed_drop(f, "stream not found");
        feed_answer(f);
        return;
    }
    if (!f->scanned)
        f->scanned = start_of(f);
    while (f->got.len < PIECE_BYTES && f->got_n < PIECE_MSGS &&
           (seq = jindex_next(x, f->filter, f->scanned))) {
        e = jreader_get(f->reader, seq, &m, fill, f);
        if (e == ERR_AGAIN)
            return;
        if (e && e != ERR_NOT_FOUND) {
            feed_drop(f, "the origin cannot be read");
            feed_answer(f);
            return;
        }
        if (!e)
            got_add(f, &m);
        f->scanned = seq + 1;
    }
    if (!f->got_n && f->scanned <= x->last)
        f->scanned = x->last + 1;
    f->left = f->scanned <= x->last ? x->last + 1 - f->scanned : 0;
    if (f->left > x->msgs)
        f->left = x->msgs;
    if (f->got_n) {
        feed_answer(f);
    } else {
        f->waiting = true;
        list_push_back(&f->o->askers, &f->wait);
    }
}

static void ask_run(struct loop_task *t)
{
    struct feed *f = list_entry(t, struct feed, ask);
    struct slice *v;
    unsigned i;

    f->asked = true;
    if (f->o->gone || f->o->loading) {
        feed_drop(f, "stream not found");
        feed_answer(f);
        return;
    }
    f->topic = topic_id(f->o->topic);
    if (f->origin && f->topic != f->origin) { /* deleted, and made again */
        if (f->mirror) {
            feed_drop(f, "the origin is not the stream that was mirrored before");
            feed_answer(f);
            return;
        }
        f->scanned = 0;
    }
    if (!f->reader) {
        f->reader = jreader_new(f->o);
        v = xcalloc(f->patterns_n + 1, sizeof *v);
        for (i = 0; i < f->patterns_n; i++)
            v[i] = slice_str(f->patterns[i]);
        f->filter = f->patterns_n ? jfilter_new(v, f->patterns_n) : NULL;
        free(v);
    }
    fill(f);
}

static void feed_wake(struct feed *f)
{
    f->waiting = false;
    list_remove(&f->wait);
    fill(f);
}

void jsources_stored(struct jstream *o)
{
    struct list_head now;

    list_init(&now);
    while (!list_empty(&o->askers))
        list_push_back(&now, list_pop_front(&o->askers));
    while (!list_empty(&now))
        feed_wake(list_entry(now.node.next, struct feed, wait));
}

/* It does not ask any more. */
static void leave_run(struct loop_task *t)
{
    struct feed *f = list_entry(t, struct feed, leave);

    if (f->waiting) {
        f->waiting = false;
        list_remove(&f->wait);
    }
    feed_drop(f, NULL);
    if (f->asked)
        feed_answer(f);
    f->leave.fn = on_left;
    loop_post(f->s->l->loop, &f->leave);
}

/* ---- back at the stream that copies ---- */

static void feed_ask(struct feed *f)
{
    if (f->s->gone)
        return;
    if (!f->o && !(f->o = jimplicit_find(f->s->js, f->s->account, slice_str(f->name), NULL))) {
        feed_later(f, "stream not found");
        return;
    }
    f->state = ASKED;
    f->dropped = false;
    buf_clear(&f->got);
    f->got_n = 0;
    f->scanned = f->next;
    feed_send(f, &f->ask, ask_run);
}

/* A task is back; false: the feed has ended, and is perhaps freed. */
static bool feed_back(struct feed *f)
{
    struct jstream *s = f->s, *o = NULL;
    bool ended = f->ended;

    f->out--;
    if (f->dropped && !f->out) {
        o = f->o;
        f->o = NULL;
    }
    if (ended && !f->out)
        feed_free(f);
    if (o)
        jstream_unref(o);
    js_end(s->js);
    jstream_unref(s);
    return !ended;
}

static void on_left(struct loop_task *t)
{
    feed_back(list_entry(t, struct feed, leave));
}

static void feed_end(struct feed *f)
{
    f->ended = true;
    list_remove(&f->link);
    loop_timer_cancel(f->s->l->loop, &f->retry);
    if (f->o)
        feed_send(f, &f->leave, leave_run);
    else
        feed_free(f);
}

/* ---- taking a piece ---- */

/* Headers that mean something to the origin only, or that this stream does not allow. */
static bool header_kept(void *arg, struct slice name)
{
    const struct feed *f = arg;
    const struct jstream *s = f->s;

    if (slice_eq_str(name, "Nats-Rollup"))
        return s->conf.allow_rollup && !s->conf.deny_purge;
    if (slice_eq_str(name, "Nats-TTL"))
        return s->conf.allow_ttl;
    if (slice_has_prefix(name, SLICE_LIT("Nats-Batch-")))
        return false;
    return f->mirror || (!slice_has_prefix(name, SLICE_LIT("Nats-Expected-")) &&
                         !slice_eq_str(name, "Nats-Stream-Source"));
}

static const struct jtransform *transform_of(const struct jsource *c, struct slice subject,
                                             struct buf *out)
{
    const struct jtransform *t = c->transforms.v;
    unsigned i;

    for (i = 0; i < c->transforms.n; i++)
        if (subject_match(t[i].src ? slice_str(t[i].src) : SLICE_LIT(">"), subject)) {
            if (!t[i].dest ||
                !jtransform_apply(text_of(t[i].src), slice_str(t[i].dest), subject, out)) {
                buf_clear(out);
                buf_append_slice(out, subject);
            }
            return &t[i];
        }
    return NULL;
}

/* m becomes what it is to be here: subject, headers. */
static void rewrite(struct feed *f, const struct jsource *c, struct jmsg *m)
{
    struct jsources *src = f->s->src;
    const struct jtransform *t = transform_of(c, m->subject, &src->subject);
    const char *filter = t ? t->src : c->filter;

    buf_clear(&src->text);
    nheader_copy(m->headers, header_kept, f, &src->text);
    if (!f->mirror)
        buf_printf(&src->text, "Nats-Stream-Source: %s %" PRIu64 " %s %s %.*s\r\n", f->name, m->seq,
                   filter ? filter : ">", t && t->dest ? t->dest : ">", (int)m->subject.len,
                   (const char *)m->subject.ptr);
    buf_append_str(&src->text, "\r\n");
    if (m->headers.len || !f->mirror)
        m->headers = buf_slice(&src->text);
    if (t)
        m->subject = buf_slice(&src->subject);
}

/* The mirror is empty: its first message gives the sequence of offset 0. */
static bool mirror_base(struct feed *f, uint64_t seq)
{
    struct jstream *s = f->s;
    struct plog_info log;

    if (jsources_base(s))
        return true;
    plog_info_get(partition_log(s->p), &log);
    if (log.end_offset || s->index.last >= s->first_seq)
        return s->first_seq == seq;
    base_take(s, seq);
    return true;
}

/* Fills up to seq; false: there is more to fill by another append. */
static bool mirror_fill(struct feed *f, uint64_t seq, uint64_t *filled)
{
    uint64_t next = jpublish_next(f->s), n = seq > next ? seq - next : 0;

    if (n > FILL_MAX - *filled)
        n = FILL_MAX - *filled;
    if (n && jpublish_fill(f->s, n))
        return false;
    *filled += n;
    return jpublish_next(f->s) >= seq;
}

/* The configuration of the feed: s->conf may have changed meanwhile. */
static const struct jsource *conf_of(const struct feed *f)
{
    const struct jstream_conf *c = &f->s->conf;
    const struct jsource *v = c->sources.v;
    unsigned i;

    if (f->mirror)
        return c->mirror;
    for (i = 0; i < c->sources.n; i++)
        if (feed_id(&v[i]) == f->id)
            return &v[i];
    return NULL;
}

/* How far what was got is taken: f->next. */
static enum jcopied take_one(struct feed *f, const struct jsource *c, struct jmsg *m,
                             uint64_t *filled)
{
    uint64_t seq = m->seq;
    enum jcopied r;

    if (f->mirror && !mirror_fill(f, seq, filled)) {
        f->next = jpublish_next(f->s);
        return JCOPY_LATER;
    }
    rewrite(f, c, m);
    r = jpublish_copy(f->s, m, f->mirror);
    if (r != JCOPY_LATER)
        f->next = seq + 1;
    return r;
}

static void take_all(struct feed *f, const struct jsource *c)
{
    uint64_t filled = 0;
    struct piece_msg p;
    struct jmsg m;
    size_t at = 0;
    const uint8_t *v;

    while (at < f->got.len) {
        memcpy(&p, f->got.ptr + at, sizeof p);
        v = f->got.ptr + at + sizeof p;
        at += sizeof p + p.subject + p.headers + p.payload;
        m = (struct jmsg){.seq = p.seq,
                          .time_ns = p.time_ns,
                          .subject = slice_of(v, p.subject),
                          .headers = slice_of(v + p.subject, p.headers),
                          .payload = slice_of(v + p.subject + p.headers, p.payload)};
        if (take_one(f, c, &m, &filled) == JCOPY_LATER)
            return;
    }
}

static void take(struct feed *f, const struct jsource *c)
{
    struct jstream *s = f->s;
    struct piece_msg first;
    struct source_key k;
    uint8_t item[24];

    memcpy(&first, f->got.ptr, sizeof first);
    if (f->mirror && !mirror_base(f, first.seq)) {
        feed_later(f, "the mirror has messages that are not the origin's");
        return;
    }
    f->next = first.seq;
    take_all(f, c);
    f->lag = f->left;
    f->origin = f->topic;
    be64_store(item, f->next);
    be64_store(item + 8, f->origin);
    be64_store(item + 16, s->first_seq);
    f->batch = jpublish_copied(s, SOURCE_NS, source_key(s, f->id, &k),
                               slice_of(item, f->mirror ? 24 : 16));
    f->state = APPENDED;
    if (!f->batch) /* nothing that was to be stored */
        feed_later(f, NULL);
}

static void on_back(struct loop_task *t)
{
    struct feed *f = list_entry(t, struct feed, ask);
    struct jstream *s = f->s;
    const struct jsource *c;

    if (!feed_back(f))
        return;
    if (!f->o) {
        feed_later(f, f->trouble);
        return;
    }
    f->heard_ms = js_now_ms(s->js);
    f->fault = NULL;
    c = conf_of(f);
    if (c && f->got_n && !s->gone)
        take(f, c);
    else
        feed_later(f, NULL);
}

/* A mirror whose log is not as it left it was written to by others. */
static bool mirror_whole(const struct feed *f)
{
    struct plog_info log;

    plog_info_get(partition_log(f->s->p), &log);
    return !f->mirror || !f->next || jstream_offset(f->s, f->next) == log.end_offset;
}

static void feed_begin(struct feed *f)
{
    if (mirror_whole(f))
        feed_ask(f);
    else
        f->fault = "others wrote to the mirror's topic";
}

void jsources_came(struct jstream *s, const void *batch, enum err e)
{
    struct list_node *n, *next;
    struct feed *f;

    jrestore_came(s, e);
    if (!s->src || s->gone)
        return;
    for (n = s->src->feeds.node.next; n != &s->src->feeds.node; n = next) {
        next = n->next;
        f = list_entry(n, struct feed, link);
        if (f->state != APPENDED || f->batch != batch)
            continue;
        f->batch = NULL;
        f->state = IDLE;
        if (e) {
            next_load(f);
            feed_later(f, err_text(e));
        } else if (f->mirror && s->index.last + 1 != f->next) {
            f->fault = "others wrote to the mirror's topic";
        } else {
            feed_ask(f);
        }
    }
}

void jsources_go_on(struct jstream *s)
{
    struct feed *f;

    if (!s->src || s->gone)
        return;
    list_for_each(f, &s->src->feeds, struct feed, link) if (loop_timer_armed(&f->retry))
        loop_timer_arm(s->l->loop, &f->retry, 1);
}

/* ---- begin and end ---- */

static struct feed *feed_find(struct jsources *src, uint64_t id)
{
    struct feed *f;

    list_for_each(f, &src->feeds, struct feed, link) if (f->id == id) return f;
    return NULL;
}

static void feed_want(struct jstream *s, const struct jsource *c, bool mirror)
{
    if (!feed_find(s->src, mirror ? MIRROR_ID : feed_id(c)))
        feed_begin(feed_new(s->src, c, mirror));
}

void jsources_changed(struct jstream *s)
{
    const struct jsource *v = s->conf.sources.v;
    struct list_node *n, *next;
    unsigned i;

    if (!s->src)
        jsources_begin(s);
    if (!s->src)
        return;
    for (n = s->src->feeds.node.next; n != &s->src->feeds.node; n = next) {
        next = n->next;
        if (!conf_of(list_entry(n, struct feed, link)))
            feed_end(list_entry(n, struct feed, link));
    }
    if (s->conf.mirror)
        feed_want(s, s->conf.mirror, true);
    for (i = 0; i < s->conf.sources.n; i++)
        feed_want(s, &v[i], false);
}

void jsources_begin(struct jstream *s)
{
    if (s->gone || s->src || (!s->conf.mirror && !s->conf.sources.n))
        return;
    s->src = xcalloc(1, sizeof *s->src);
    s->src->s = s;
    list_init(&s->src->feeds);
    buf_init(&s->src->text, SIZE_MAX);
    buf_init(&s->src->subject, SIZE_MAX);
    jsources_changed(s);
}

void jsources_end(struct jstream *s)
{
    struct jsources *src = s->src;

    jsources_stored(s); /* it is gone: who waits is told so */
    if (!src)
        return;
    while (!list_empty(&src->feeds))
        feed_end(list_entry(src->feeds.node.next, struct feed, link));
    buf_fini(&src->text);
    buf_fini(&src->subject);
    free(src);
    s->src = NULL;
}

/* ---- what there is to say ---- */

static json_t *feed_info(const struct feed *f, const struct jsource *c)
{
    json_t *o = json_object(), *v, *e;
    const struct jtransform *t = c->transforms.v;
    int64_t active = f->state != IDLE ? 0 : -1;
    unsigned i;

    if (f->state == IDLE && f->heard_ms)
        active = (js_now_ms(f->s->js) - f->heard_ms) * 1000000;
    json_object_set_new(o, "name", json_string(f->name));
    json_object_set_new(o, "lag", json_integer((json_int_t)f->lag));
    json_object_set_new(o, "active", json_integer(active));
    if (c->filter)
        json_object_set_new(o, "filter_subject", json_string(c->filter));
    if (c->transforms.n) {
        v = json_array();
        for (i = 0; i < c->transforms.n; i++)
            json_array_append_new(v, json_pack("{s:s, s:s}", "src", t[i].src ? t[i].src : "",
                                               "dest", t[i].dest ? t[i].dest : ""));
        json_object_set_new(o, "subject_transforms", v);
    }
    if (f->fault) {
        e = json_pack("{s:i, s:i, s:s}", "code", 500, "err_code",
                      f->mirror ? JSE_MIRROR_CONSUMER_SETUP_FAILED
                                : JSE_SOURCE_CONSUMER_SETUP_FAILED,
                      "description", f->fault);
        json_object_set_new(o, "error", e);
    }
    return o;
}

void jsources_info(struct jstream *s, json_t *o)
{
    const struct jsource *c;
    json_t *v;
    struct feed *f;

    if (!s->src || list_empty(&s->src->feeds))
        return;
    v = json_array();
    list_for_each(f, &s->src->feeds, struct feed, link)
    {
        c = conf_of(f);
        if (c && f->mirror)
            json_object_set_new(o, "mirror", feed_info(f, c));
        else if (c)
            json_array_append_new(v, feed_info(f, c));
    }
    if (json_array_size(v))
        json_object_set_new(o, "sources", v);
    else
        json_decref(v);
}

/* ---- what there is ---- */

static bool source_supported(const struct jstream_conf *s, const struct jsource *c, bool mirror,
                             struct js_fault *f)
{
    const struct jtransform *t = c->transforms.v;
    unsigned i;

    if (c->external || c->consumer)
        return js_fault_set(f, JSE_STREAM_INVALID_CONFIG, "%s",
                            "sources of other accounts and domains, and by consumers that there "
                            "are, are not supported");
    if (strcmp(c->name, s->name) == 0)
        return js_fault_set(f, JSE_STREAM_INVALID_CONFIG, "%s", "detected cycle");
    if (c->filter && !subject_valid(slice_str(c->filter)))
        return js_fault_set(
            f, mirror ? JSE_MIRROR_INVALID_SUBJECT_FILTER : JSE_SOURCE_INVALID_SUBJECT_FILTER,
            "invalid subject %.100s", c->filter);
    for (i = 0; i < c->transforms.n; i++)
        if (t[i].dest && !jtransform_valid(text_of(t[i].src), slice_str(t[i].dest)))
            return js_fault_set(f,
                                mirror ? JSE_MIRROR_INVALID_TRANSFORM_DESTINATION
                                       : JSE_SOURCE_INVALID_TRANSFORM_DESTINATION,
                                "%s", "invalid mapping destination");
    return true;
}

bool jsources_supported(const struct jstream_conf *c, struct js_fault *f)
{
    const struct jsource *v = c->sources.v;
    unsigned i;

    if (c->mirror && !source_supported(c, c->mirror, true, f))
        return false;
    for (i = 0; i < c->sources.n; i++)
        if (!source_supported(c, &v[i], false, f))
            return false;
    return true;
}
