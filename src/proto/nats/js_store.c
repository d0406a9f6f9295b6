/* What is durable in a stream's log, as the stream sees it. See js_store.h.
 *
 * The log is read once, by a worker, when the stream is opened, from what is trimmed away to its
 * end; from then on it is followed. What the stream itself appended it knows (jwritten); what others
 * append is read, in order: before an own append is looked at, all before it is in the index. Nothing
 * of others is looked at while own appends are on their way, as it is not known yet which are which.
 *
 * What is removed leaves the index at once. From the front the log is trimmed, now and then, by a
 * timer. From between, the blocks (of 4,096 offsets) that it is in are noted, and written as items,
 * a bit for each offset, when something must be remembered: an explicit deletion, a change of
 * limits, the end of a consumer. What limits removed need not be written for itself: reading the log
 * with the same limits removes the same again; it is written some seconds later, as compaction gives
 * back the room of what is marked as removed (broker/removed.h). Whatever is written is so together with all that was
 * removed before, and with where the stream begins: so nothing comes back as room was made later. */
#include "proto/nats/js_store.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "broker/producer.h"
#include "broker/removed.h"
#include "journal/journal.h"
#include "proto/nats/js_header.h"
#include "proto/nats/js_publish.h"
#include "proto/nats/js_schedule.h"
#include "proto/nats/js_source.h"
#include "proto/nats/record.h"

#define BLOCK         ((int64_t)REMOVED_BLOCK)
#define BLOCK_BYTES   REMOVED_BYTES
#define READ_BYTES    (1u << 20)
#define BEGIN_BLOCK   REMOVED_BEGIN
#define TIMER_MS      1000u
#define FLUSH_MS      10000 /* what was removed is remembered at the latest, so that room is made */
#define FLUSH_BYTES   (4u << 20) /* of a unit of that, or what a file holds */
#define FLUSH_ITEM    1024u      /* a block in it, at most */
#define TIMER_MS_MAX  3600000u
#define FAILED_MS_MAX 60000u
#define NEVER         INT64_MAX

struct jid { /* in the window of duplicates */
    struct jid *next;
    uint64_t seq; /* UINT64_MAX: under way */
    int64_t time_ms;
    size_t len;
    uint8_t text[];
};

struct due { /* when a message with a time to live goes */
    int64_t ms;
    uint64_t seq;
};

struct jstore {
    struct jstream *s;
    struct jfilter *takes; /* subjects that are the stream's; NULL: any */
    int64_t next;          /* offset of the first record that was not looked at */
    /* reading: by a worker while `busy` */
    struct work work;
    struct loop_task task;
    struct plog_read read;
    struct buf scratch, subject, bits;
    struct record_header *headers;
    int64_t to;
    enum err e;
    bool busy, opening, stopped;
    bool failed;         /* the log could not be read: it is opened again by the timer … */
    uint32_t failed_ms;  /* … after so long */
    bool owned;          /* the core's subscribers get its records from here */
    uint64_t bits_block; /* that `bits` is of; BEGIN_BLOCK: none */
    void (*ready)(struct jstream *s, void *arg);
    void *arg;
    /* following */
    struct waiter waiter;
    struct loop_task woken;
    bool waiting;     /* the waiter was armed, and `woken` has not run */
    atomic_bool came; /* … but is posted */
    struct list_head written;
    /* removing */
    struct u64map dirty; /* blocks that are not as their items say */
    struct u64map kept;  /* blocks that have items */
    uint64_t begin;      /* first sequence, as saved */
    int64_t trimmed;     /* offset that the log was trimmed to last */
    bool trimming, flushing;
    int64_t flushed_ms;
    struct jdone trim, save;
    struct loop_timer timer;
    uint64_t timer_at;
    /* duplicates */
    struct map ids;
    struct jid *id_first, **id_last;
    /* times to live */
    struct due *due;
    size_t due_n, due_cap;
    struct u64map lasting; /* messages that do not go by the stream's age */
    int64_t last_ms;
    struct buf last_id;
};

static void follow(struct jstore *st);

/* ---- the window of duplicates ---- */

static void ids_expire(struct jstore *st, int64_t now_ms)
{
    int64_t window = st->s->conf.duplicates_ns / 1000000;
    struct jid *id;

    while ((id = st->id_first) && id->time_ms + window < now_ms) {
        if (id->seq == UINT64_MAX)
            break; /* it is still under way */
        if (!(st->id_first = id->next))
            st->id_last = &st->id_first;
        if (map_find(&st->ids, slice_of(id->text, id->len)) == id)
            map_remove(&st->ids, slice_of(id->text, id->len));
        free(id);
    }
}

uint64_t jstore_dedup_find(struct jstream *s, struct slice id)
{
    struct jid *d;

    ids_expire(s->store, js_now_ms(s->js));
    d = map_find(&s->store->ids, id);
    return d ? d->seq : 0;
}

static struct jid *id_add(struct jstore *st, struct slice id, uint64_t seq, int64_t time_ms)
{
    struct jid *d = xmalloc(sizeof *d + id.len);

    *d = (struct jid){.seq = seq, .time_ms = time_ms, .len = id.len};
    memcpy(d->text, id.ptr, id.len);
    if (map_put(&st->ids, slice_of(d->text, d->len), d)) {
        free(d); /* too many in a window: the later ones are not looked for */
        return NULL;
    }
    *st->id_last = d;
    st->id_last = &d->next;
    return d;
}

void jstore_dedup_begin(struct jstream *s, struct slice id)
{
    id_add(s->store, id, UINT64_MAX, js_now_ms(s->js));
}

void jstore_dedup_cancel(struct jstream *s, struct slice id)
{
    struct jid *d = map_find(&s->store->ids, id);

    if (d && d->seq == UINT64_MAX) {
        map_remove(&s->store->ids, id);
        d->seq = 0; /* it goes with its time */
    }
}

static void id_note(struct jstore *st, struct slice id, uint64_t seq, int64_t time_ms)
{
    struct jid *d = map_find(&st->ids, id);

    if (d && d->seq == UINT64_MAX)
        d->seq = seq;
    else if (!d && st->s->conf.duplicates_ns > 0)
        id_add(st, id, seq, time_ms);
}

/* ---- removing ---- */

/* The timer comes after so long, or earlier. */
static void timer_in(struct jstore *st, int64_t ms)
{
    uint64_t after = ms < 1 ? 1 : ms > (int64_t)TIMER_MS_MAX ? TIMER_MS_MAX : (uint64_t)ms, at;

    if (st->opening || st->stopped)
        return;
    at = loop_now_ms(st->s->l->loop) + after;
    if (loop_timer_armed(&st->timer) && st->timer_at <= at)
        return;
    st->timer_at = at;
    loop_timer_arm(st->s->l->loop, &st->timer, after);
}

static void note_removed(struct jstore *st, uint64_t block)
{
    if (u64map_put(&st->dirty, block, st) == ERR_OK && st->dirty.n == 1)
        timer_in(st, FLUSH_MS);
}

static void remove_one(struct jstore *st, uint64_t seq)
{
    struct jstream *s = st->s;
    uint64_t first = s->index.first;

    if (!jindex_has(&s->index, seq))
        return;
    if (!st->opening)
        jconsumers_removed(s, seq);
    u64map_remove(&st->lasting, seq);
    jschedules_removed(s, seq);
    jindex_remove(&s->index, seq);
    jstream_note(s);
    if (seq != first)
        note_removed(st, (uint64_t)jstream_offset(s, seq) / BLOCK);
    timer_in(st, TIMER_MS);
}

void jstore_remove(struct jstream *s, uint64_t seq)
{
    remove_one(s->store, seq);
}

void jstore_purge(struct jstream *s, uint64_t first)
{
    if (first > s->index.last + 1)
        first = s->index.last + 1;
    if (first <= s->index.first)
        return;
    if (!s->store->opening)
        jconsumers_purged(s, first);
    jschedules_purged(s, first);
    jindex_purge(&s->index, first);
    jstream_note(s);
    timer_in(s->store, TIMER_MS);
}

uint64_t jstore_purge_filter(struct jstream *s, struct jfilter *f, uint64_t below, uint64_t keep)
{
    uint64_t n = 0, total = jindex_count(&s->index, f, s->index.first), seq;
    uint64_t before = s->index.msgs;

    if (f && !jfilter_all(f)) {
        for (seq = jindex_next(&s->index, f, s->index.first);
             seq && (!below || seq < below) && total - n > keep;
             seq = jindex_next(&s->index, f, seq + 1), n++)
            remove_one(s->store, seq);
        return n;
    }
    if (!below)
        below = s->index.last + 1;
    if (keep >= total)
        return 0;
    for (seq = s->index.last + 1; keep && seq; keep--)
        seq = jindex_prev(&s->index, NULL, seq - 1);
    jstore_purge(s, below < seq ? below : seq);
    return before - s->index.msgs;
}

/* Bits of what is not there of a block; false: all of it is before the stream's begin. */
static bool block_bits(struct jstore *st, uint64_t block, uint8_t out[BLOCK_BYTES])
{
    struct jstream *s = st->s;
    int64_t from = (int64_t)(block * BLOCK), i;

    memset(out, 0, BLOCK_BYTES);
    if (jstream_seq(s, from + BLOCK - 1) < s->index.first)
        return false;
    for (i = 0; i < BLOCK; i++) {
        uint64_t seq = jstream_seq(s, from + i);

        if (seq >= s->index.first && seq <= s->index.last && !jindex_has(&s->index, seq))
            out[i / 8] |= (uint8_t)(1u << i % 8);
    }
    return true;
}

struct gone_key {
    uint8_t b[REMOVED_KEY];
};

static struct slice gone_key(const struct jstore *st, uint64_t block, struct gone_key *k)
{
    removed_key(topic_id(st->s->topic), block, k->b);
    return slice_of(k->b, sizeof k->b);
}

/* Blocks are written in order, in as many units as they need, each when the one before is durable.
 * Limits remove what is older before what is younger, so what a crash leaves of it makes no room for
 * what was removed before. */
struct flushing {
    struct jdone step;
    struct jstore *st;
    struct jdone *d;
    struct append *a;
    uint64_t *block;
    uint32_t n, at, from; /* those of the unit under way: from on to at */
    bool forget, last;    /* they are deleted, then this item: */
    const char *ns;
    size_t key_len;
    uint8_t key[];
};

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static struct flushing *flushing_new(struct jstore *st, struct u64map *blocks, struct jdone *d,
                                     struct slice key)
{
    struct flushing *f = xcalloc(1, sizeof *f + key.len);
    uint32_t at = 0;
    void *v;

    f->st = st;
    f->d = d;
    f->block = xcalloc(blocks->n + 1, sizeof *f->block);
    while (u64map_next(blocks, &at, &f->block[f->n], &v))
        f->n++;
    qsort(f->block, f->n, sizeof *f->block, by_number);
    f->key_len = key.len;
    if (key.len)
        memcpy(f->key, key.ptr, key.len);
    return f;
}

static void flush_end(struct flushing *f, enum err e)
{
    jdone_call(f->d, e, NULL);
    append_free(&f->a);
    free(f->block);
    free(f);
}

static void append_done(struct append *a, void *arg, enum err e)
{
    (void)a;
    jdone_call(arg, e, NULL);
}

static enum err put_block(struct flushing *f, uint64_t block)
{
    struct jstore *st = f->st;
    uint8_t bits[BLOCK_BYTES];
    struct gone_key k;

    if (f->forget)
        return append_kv(f->a, REMOVED_NS, gone_key(st, block, &k), SLICE_NULL);
    if (!u64map_find(&st->dirty, block) || !block_bits(st, block, bits))
        return ERR_OK; /* it is as its item says, or before the begin */
    u64map_put(&st->kept, block, st);
    return append_kv(f->a, REMOVED_NS, gone_key(st, block, &k), slice_of(bits, sizeof bits));
}

/* What goes along with the blocks: where the stream begins, first; the other item, last. */
static enum err put_rest(struct flushing *f, bool first)
{
    struct gone_key k;
    uint8_t begin[8];
    enum err e = ERR_OK;

    be64_store(begin, f->st->s->index.first);
    if (first)
        e = append_kv(f->a, REMOVED_NS, gone_key(f->st, BEGIN_BLOCK, &k),
                      f->forget ? SLICE_NULL : slice_of(begin, sizeof begin));
    if (!e && f->last && f->forget)
        e = jsources_forget(f->st->s, f->a);
    if (!e && f->last && f->forget)
        e = append_kv(f->a, f->ns, slice_of(f->key, f->key_len), SLICE_NULL);
    return e;
}

static void flush_step(struct flushing *f);

static void flush_stepped(struct jdone *step)
{
    struct flushing *f = list_entry(step, struct flushing, step);
    struct jstore *st = f->st;
    uint32_t i;

    if (step->e) {
        for (i = f->from; !f->forget && i < f->at; i++)
            note_removed(st, f->block[i]);
        flush_end(f, step->e);
    } else if (f->last) {
        flush_end(f, ERR_OK);
    } else if (st->stopped && !f->forget) {
        flush_end(f, ERR_TOPIC_NOT_FOUND);
    } else {
        append_reset(f->a);
        flush_step(f);
    }
}

static void flush_step(struct flushing *f)
{
    size_t room = append_bytes_max(f->st->s->js->b) - 2 * LIMIT_KV_KEY - 2 * FLUSH_ITEM;
    struct jstore *st = f->st;
    enum err e = ERR_OK;
    uint32_t i;

    if (room > FLUSH_BYTES)
        room = FLUSH_BYTES;
    for (f->from = f->at; !e && f->at < f->n && append_bytes(f->a) < room; f->at++)
        e = put_block(f, f->block[f->at]);
    f->last = f->at == f->n;
    if (!e)
        e = put_rest(f, !f->from);
    jdone_begin(&f->step, st->s, flush_stepped);
    if (!e)
        e = append_submit(f->a, true, NULL);
    if (e) {
        jdone_cancel(&f->step);
        flush_end(f, e);
        return;
    }
    if (f->forget)
        return;
    st->begin = st->s->index.first;
    for (i = f->from; i < f->at; i++)
        u64map_remove(&st->dirty, f->block[i]);
}

static void flush_begin(struct flushing *f)
{
    f->a = append_new(f->st->s->js->b, append_done, &f->step);
    flush_step(f);
}

void jstore_flush(struct jstream *s, struct jdone *d, void (*fn)(struct jdone *d))
{
    struct jstore *st = s->store;

    jdone_begin(d, s, fn);
    if (!s->implicit && (st->dirty.n || st->begin != s->index.first))
        flush_begin(flushing_new(st, &st->dirty, d, SLICE_NULL));
    else
        jdone_call(d, ERR_OK, NULL);
}

void jstream_flush(struct jstream *s, struct jdone *d, void (*fn)(struct jdone *d))
{
    jstore_flush(s, d, fn);
}

void jstore_forget(struct jstream *s, const char *ns, struct slice key, struct jdone *d)
{
    struct flushing *f = flushing_new(s->store, &s->store->kept, d, key);

    f->ns = ns;
    f->forget = true;
    flush_begin(f);
}

/* ---- trimming ---- */

static void trimmed(struct jdone *d)
{
    struct jstore *st = list_entry(d, struct jstore, trim);

    st->trimming = false;
}

static void trim(struct jstore *st)
{
    int64_t to = jstream_offset(st->s, st->s->index.first);
    enum err e;

    if (st->s->implicit || st->trimming || to <= st->trimmed)
        return;
    st->trimming = true;
    jdone_begin(&st->trim, st->s, trimmed);
    e = partition_trim(st->s->p, to, jdone_call, &st->trim, NULL);
    if (e) {
        jdone_cancel(&st->trim);
        st->trimming = false; /* the timer comes again with the next removal */
        return;
    }
    st->trimmed = to;
}

/* ---- time ---- */

static void due_put(struct jstore *st, int64_t ms, uint64_t seq)
{
    size_t i, up;

    if (st->due_n == st->due_cap) {
        st->due_cap = st->due_cap ? st->due_cap * 2 : 16;
        st->due = xrealloc(st->due, st->due_cap * sizeof *st->due);
    }
    for (i = st->due_n++; i; i = up) {
        up = (i - 1) / 2;
        if (st->due[up].ms <= ms)
            break;
        st->due[i] = st->due[up];
    }
    st->due[i] = (struct due){ms, seq};
}

static void due_pop(struct jstore *st)
{
    struct due last = st->due[--st->due_n];
    size_t i = 0, down;

    for (; (down = i * 2 + 1) < st->due_n; i = down) {
        if (down + 1 < st->due_n && st->due[down + 1].ms < st->due[down].ms)
            down++;
        if (last.ms <= st->due[down].ms)
            break;
        st->due[i] = st->due[down];
    }
    st->due[i] = last;
}

/* A message goes by its age, or its time to live: where the stream wants that, who looks for the
 * subject's last message is told so by a marker. */
static void expire_one(struct jstore *st, uint64_t seq)
{
    struct jstream *s = st->s;
    struct buf subject;
    struct jindex_msg m;
    bool last;

    if (!jindex_get(&s->index, seq, &m))
        return;
    last = s->conf.marker_ttl_ns > 0 &&
           jindex_subject_last(&s->index, jindex_subject(&s->index, m.subject)) == seq;
    buf_init(&subject, SIZE_MAX);
    if (last)
        buf_append_slice(&subject, jindex_subject(&s->index, m.subject));
    remove_one(st, seq);
    if (last)
        jpublish_marker(s, buf_slice(&subject), "MaxAge");
    buf_fini(&subject);
}

/* Removes what is due; when the next one is, or NEVER. */
static int64_t expire(struct jstore *st, int64_t now_ms)
{
    struct jstream *s = st->s;
    int64_t age_ms = s->conf.max_age_ns / 1000000, due = NEVER;
    struct jindex_msg m;
    uint64_t seq;

    while (st->due_n && st->due[0].ms <= now_ms) {
        seq = st->due[0].seq;
        due_pop(st);
        expire_one(st, seq);
    }
    if (st->due_n)
        due = st->due[0].ms;
    if (!s->conf.max_age_ns)
        return due;
    for (seq = jindex_next(&s->index, NULL, s->index.first); seq;
         seq = jindex_next(&s->index, NULL, seq + 1)) {
        if (st->lasting.n && u64map_find(&st->lasting, seq))
            continue;
        jindex_get(&s->index, seq, &m);
        if (m.time_ms + age_ms > now_ms)
            return m.time_ms + age_ms < due ? m.time_ms + age_ms : due;
        expire_one(st, seq);
    }
    return due;
}

static void flushed(struct jdone *d)
{
    struct jstore *st = list_entry(d, struct jstore, save);

    st->flushing = false;
}

static void flush_in_time(struct jstore *st, int64_t now)
{
    if (!st->dirty.n || st->flushing)
        return;
    if (now - st->flushed_ms >= FLUSH_MS) {
        st->flushing = true;
        st->flushed_ms = now;
        jstore_flush(st->s, &st->save, flushed);
    }
    if (st->dirty.n)
        timer_in(st, FLUSH_MS);
}

static void on_timer(struct loop_timer *t)
{
    struct jstore *st = list_entry(t, struct jstore, timer);
    int64_t now = js_now_ms(st->s->js), due;

    if (st->stopped)
        return;
    if (st->failed) {
        st->failed = false;
        workers_run(st->s->js->workers, &st->work);
        return;
    }
    due = expire(st, now);
    ids_expire(st, now);
    trim(st);
    if (due == NEVER && (st->id_first || st->trimming))
        due = now + TIMER_MS;
    if (due != NEVER)
        timer_in(st, due - now);
    flush_in_time(st, now);
}

static void ttl_note(struct jstore *st, uint64_t seq, const struct jfacts *f)
{
    if (f->ttl_s < 0)
        u64map_put(&st->lasting, seq, st);
    else if (f->ttl_s > 0)
        due_put(st, f->time_ms + f->ttl_s * 1000, seq);
}

/* The timer is to come for it: for one that goes by the stream's age it does so already, if there is
 * one before it. */
static void timer_for(struct jstore *st, const struct jfacts *f)
{
    int64_t age_ms = st->s->conf.max_age_ns / 1000000;

    if (age_ms && !loop_timer_armed(&st->timer))
        timer_in(st, f->time_ms + age_ms - js_now_ms(st->s->js));
    if (f->ttl_s > 0)
        timer_in(st, f->time_ms + f->ttl_s * 1000 - js_now_ms(st->s->js));
}

/* ---- limits ---- */

static void limit_subject(struct jstore *st, struct slice subject)
{
    struct jstream *s = st->s;
    int64_t max = s->conf.max_msgs_per_subject;

    if (max <= 0)
        return;
    while (jindex_subject_count(&s->index, subject) > (uint64_t)max)
        remove_one(st, jindex_subject_first(&s->index, subject));
}

static void limit_all(struct jstore *st)
{
    struct jstream *s = st->s;
    const struct jstream_conf *c = &s->conf;

    if (c->discard != JDISCARD_OLD)
        return;
    while (s->index.msgs && ((c->max_msgs > 0 && s->index.msgs > (uint64_t)c->max_msgs) ||
                             (c->max_bytes > 0 && s->index.bytes > (uint64_t)c->max_bytes)))
        remove_one(st, s->index.first);
}

static bool limit_each(void *arg, const struct jindex_subject_info *i)
{
    struct buf *names = arg;
    uint32_t n = (uint32_t)i->name.len;

    buf_append(names, &n, sizeof n);
    buf_append_slice(names, i->name);
    return true;
}

void jstore_limits(struct jstream *s)
{
    struct jstore *st = s->store;
    struct buf names;
    size_t at;
    uint32_t n;

    if (s->conf.max_msgs_per_subject > 0) {
        buf_init(&names, SIZE_MAX);
        jindex_subjects(&s->index, NULL, limit_each, &names);
        for (at = 0; at < names.len; at += sizeof n + n) {
            memcpy(&n, names.ptr + at, sizeof n);
            limit_subject(st, slice_of(names.ptr + at + sizeof n, n));
        }
        buf_fini(&names);
    }
    limit_all(st);
    on_timer(&st->timer);
}

/* ---- a message is there ---- */

static void remove_before(struct jstore *st, struct slice subject, uint64_t seq)
{
    uint64_t first;

    while ((first = jindex_subject_first(&st->s->index, subject)) && first < seq)
        remove_one(st, first);
}

/* By a subject with wildcards goes all that it takes, as nats-server has it: the message too. */
static void rollup(struct jstore *st, uint64_t seq, const struct jfacts *f)
{
    struct jstream *s = st->s;
    struct jfilter *all;

    if (f->rollup == JROLLUP_ALL) {
        jstore_purge(s, seq);
    } else if (subject_has_wildcard(f->subject)) {
        all = jfilter_new(&f->subject, 1);
        jstore_purge_filter(s, all, seq + 1, 0);
        jfilter_free(&all);
    } else {
        remove_before(st, f->subject, seq);
    }
}

void jstore_add(struct jstream *s, uint64_t seq, const struct jfacts *f)
{
    struct jstore *st = s->store;

    if (!jindex_add(&s->index, seq, f->subject, f->bytes, f->time_ms)) {
        jindex_skip(&s->index, seq + 1); /* no room for its subject */
        return;
    }
    st->last_ms = f->time_ms;
    jstream_note(s);
    buf_clear(&st->last_id);
    if (f->msg_id.len) {
        buf_append_slice(&st->last_id, f->msg_id);
        id_note(st, f->msg_id, seq, f->time_ms);
    }
    if (f->rollup)
        rollup(st, seq, f);
    if (f->schedule.pattern.len || f->schedule.by.len || s->schedules)
        remove_before(st, jschedules_note(s, seq, f), seq);
    if (f->ttl_s)
        ttl_note(st, seq, f);
    limit_subject(st, f->subject);
    limit_all(st);
    timer_for(st, f);
}

void jstore_gap(struct jstream *s, uint64_t n, uint64_t last)
{
    uint64_t seq = last + 1 - n;

    jindex_skip(&s->index, last + 1);
    for (; seq <= last; seq += BLOCK - (uint64_t)jstream_offset(s, seq) % BLOCK)
        note_removed(s->store, (uint64_t)jstream_offset(s, seq) / BLOCK);
}

int64_t jstore_next(const struct jstream *s)
{
    return s->store->next;
}

int64_t jstore_last_ms(const struct jstream *s)
{
    return s->store ? s->store->last_ms : JTIME_NONE;
}

struct slice jstore_last_id(const struct jstream *s)
{
    return buf_slice(&s->store->last_id);
}

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

/* How many headers it has, which are in st->headers then. */
static uint32_t facts_of(struct jstore *st, const struct record *r, struct jfacts *f)
{
    uint32_t n = 0, i;

    *f = (struct jfacts){.subject = jstore_subject(st->s, r->key, &st->subject),
                         .time_ms = r->timestamp_ms};
    if (r->headers_n)
        record_headers(r, st->headers, LIMIT_RECORD_HEADERS, &n);
    for (i = 0; i < n && !st->s->implicit; i++)
        if (slice_has_prefix(st->headers[i].key, SLICE_LIT("Nats-")))
            jfacts_header(f, st->headers[i].key, st->headers[i].value);
    f->bytes = jstream_msg_bytes(f->subject.len, nheader_record_len(st->headers, n), r->value.len);
    return n;
}

/* Whether a record was removed, as saved; while opening. */
static bool removed_before(struct jstore *st, int64_t offset)
{
    uint64_t block = (uint64_t)offset / BLOCK;
    unsigned bit = (unsigned)(offset % BLOCK);
    struct gone_key k;

    if (block != st->bits_block) {
        st->bits_block = block;
        if (kv_get(st->s->js->b, REMOVED_NS, gone_key(st, block, &k), &st->bits))
            buf_clear(&st->bits);
        else
            u64map_put(&st->kept, block, st);
    }
    return st->bits.len == BLOCK_BYTES && st->bits.ptr[bit / 8] & 1u << bit % 8;
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
        if (st->opening && removed_before(st, r.offset))
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
    st->e = e;
    loop_post(st->s->l->loop, &st->task);
}

/* A stream that was not read is not an empty one, whose log would be trimmed. */
static void open_later(struct jstore *st)
{
    LOG(st->s->js->n->conf.log, LOG_ERROR, "a stream cannot be read; it is tried again",
        LOG_STR("stream", st->s->conf.name), LOG_STR("error", err_text(st->e)));
    st->failed = true;
    st->failed_ms = !st->failed_ms                  ? TIMER_MS
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
        on_timer(&st->timer);
        follow(st);
    }
    js_end(s->js);
    jstream_unref(s);
}

static void begin_read(struct jstore *st)
{
    struct jstream *s = st->s;
    struct plog_info log;
    struct gone_key k;

    plog_info_get(partition_log(s->p), &log);
    st->trimmed = log.start_offset;
    st->begin = jstream_seq(s, log.start_offset);
    if (!kv_get(s->js->b, REMOVED_NS, gone_key(st, BEGIN_BLOCK, &k), &st->bits) &&
        st->bits.len == 8 && be64_load(st->bits.ptr) > st->begin)
        st->begin = be64_load(st->bits.ptr);
    st->bits_block = BEGIN_BLOCK;
    st->next = jstream_offset(s, st->begin);
    st->to = log.end_offset < partition_lso(s->p) ? log.end_offset : partition_lso(s->p);
    if (st->next > st->to)
        st->next = st->to;
    jindex_fini(&s->index);
    jindex_init(&s->index, jstream_seq(s, st->next), s->js->seed);
}

static void on_wake(struct waiter *w);
static void on_woken(struct loop_task *t);

void jstore_open(struct jstream *s, void (*ready)(struct jstream *s, void *arg), void *arg)
{
    struct jstore *st = s->store = xcalloc(1, sizeof *st);

    st->s = s;
    st->ready = ready;
    st->arg = arg;
    st->last_ms = JTIME_NONE;
    st->busy = st->opening = true;
    st->work.fn = open_run;
    st->task.fn = opened;
    st->waiter.wake = on_wake;
    st->waiter.broker = s->js->b;
    st->woken.fn = on_woken;
    list_init(&st->written);
    buf_init(&st->scratch, LIMIT_BATCH_INFLATED);
    buf_init(&st->subject, SIZE_MAX);
    buf_init(&st->bits, LIMIT_KV_VALUE);
    buf_init(&st->last_id, SIZE_MAX);
    st->headers = xcalloc(LIMIT_RECORD_HEADERS, sizeof *st->headers);
    u64map_init(&st->dirty, LIMIT_JS_BLOCKS, 0);
    u64map_init(&st->kept, LIMIT_JS_BLOCKS, 0);
    u64map_init(&st->lasting, LIMIT_JS_BLOCKS, 0);
    map_init(&st->ids, LIMIT_JS_IDS, s->js->seed);
    st->id_last = &st->id_first;
    loop_timer_init(&st->timer, on_timer);
    st->takes = jstream_taken(s);
    begin_read(st);
    jstream_ref(s);
    js_begin(s->js);
    if (st->next == st->to) /* nothing to read */
        loop_post(s->l->loop, &st->task);
    else
        workers_run(s->js->workers, &st->work);
}

void jstore_retake(struct jstream *s)
{
    jfilter_free(&s->store->takes);
    s->store->takes = jstream_taken(s);
}

void jstore_stop(struct jstream *s)
{
    struct jstore *st = s->store;

    if (!st || st->stopped)
        return;
    st->stopped = true;
    loop_timer_cancel(s->l->loop, &st->timer);
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

void jstore_free(struct jstream *s)
{
    struct jstore *st = s->store;
    struct jid *id;

    if (!st)
        return;
    ASSERT(list_empty(&st->written));
    plog_read_release(&st->read);
    jfilter_free(&st->takes);
    buf_fini(&st->scratch);
    buf_fini(&st->subject);
    buf_fini(&st->bits);
    buf_fini(&st->last_id);
    free(st->headers);
    u64map_fini(&st->dirty);
    u64map_fini(&st->kept);
    u64map_fini(&st->lasting);
    map_fini(&st->ids);
    while ((id = st->id_first)) {
        st->id_first = id->next;
        free(id);
    }
    free(st->due);
    free(st);
    s->store = NULL;
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

/* ---- acks ---- */

void jstream_acked(struct jstream *s, uint64_t seq)
{
    if (s->gone || !jindex_has(&s->index, seq))
        return;
    if (s->conf.retention == JRETENTION_WORKQUEUE ||
        (s->conf.retention == JRETENTION_INTEREST && !jconsumers_want(s, seq)))
        remove_one(s->store, seq);
}

void jstream_interest_less(struct jstream *s)
{
    uint64_t seq;

    if (s->gone || s->conf.retention != JRETENTION_INTEREST)
        return;
    if (!jconsumers_count(s)) {
        jstore_purge(s, s->index.last + 1);
        return;
    }
    for (seq = jindex_next(&s->index, NULL, s->index.first); seq;
         seq = jindex_next(&s->index, NULL, seq + 1))
        if (!jconsumers_want(s, seq))
            remove_one(s->store, seq);
}
