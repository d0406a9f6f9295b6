/* What is durable in a stream's log, as the stream sees it. See js_store_int.h.
 *
 * A message that is there is in the index. What is removed leaves the index at once, whatever removes
 * it: a limit, its age or time to live, an acknowledgement, a request. From the front the log is
 * trimmed, now and then, by a timer; of the rest js_store_removed.c sees to it that it is remembered. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "proto/nats/js_publish.h"
#include "proto/nats/js_schedule.h"
#include "proto/nats/js_store_int.h"

#define TIMER_MS_MAX 3600000u

/* ---- duplicates ---- */

static void ids_expire(struct jstore *st)
{
    jids_expire(&st->ids, js_now_ms(st->s->js) - st->s->conf.duplicates_ns / 1000000);
}

uint64_t jstore_dedup_find(struct jstream *s, struct slice id)
{
    ids_expire(s->store);
    return jids_find(&s->store->ids, id);
}

void jstore_dedup_begin(struct jstream *s, struct slice id)
{
    jids_begin(&s->store->ids, id, js_now_ms(s->js));
}

void jstore_dedup_cancel(struct jstream *s, struct slice id)
{
    jids_cancel(&s->store->ids, id);
}

/* ---- removing ---- */

void jstore_timer_in(struct jstore *st, int64_t ms)
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

static void remove_one(struct jstore *st, uint64_t seq)
{
    struct jstream *s = st->s;
    uint64_t first = s->index.first;

    if (!jindex_has(&s->index, seq))
        return;
    if (!st->opening)
        jconsumers_removed(s, seq);
    jttls_removed(&st->ttls, seq);
    jschedules_removed(s, seq);
    jindex_remove(&s->index, seq);
    jstream_note(s);
    if (seq != first)
        jstore_removed_note(st, (uint64_t)jstream_offset(s, seq) / JSTORE_BLOCK);
    jstore_timer_in(st, JSTORE_TIMER_MS);
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
    jstore_timer_in(s->store, JSTORE_TIMER_MS);
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

/* Removes what is due; when the next one is, or JTTL_NEVER. */
static int64_t expire(struct jstore *st, int64_t now_ms)
{
    struct jstream *s = st->s;
    int64_t age_ms = s->conf.max_age_ns / 1000000, due;
    struct jindex_msg m;
    uint64_t seq;

    while ((seq = jttls_take(&st->ttls, now_ms)))
        expire_one(st, seq);
    due = jttls_next(&st->ttls);
    if (!s->conf.max_age_ns)
        return due;
    for (seq = jindex_next(&s->index, NULL, s->index.first); seq;
         seq = jindex_next(&s->index, NULL, seq + 1)) {
        if (jttls_lasting(&st->ttls, seq))
            continue;
        jindex_get(&s->index, seq, &m);
        if (m.time_ms + age_ms > now_ms)
            return m.time_ms + age_ms < due ? m.time_ms + age_ms : due;
        expire_one(st, seq);
    }
    return due;
}

void jstore_tick(struct jstore *st)
{
    int64_t now = js_now_ms(st->s->js), due;

    if (st->stopped)
        return;
    due = expire(st, now);
    ids_expire(st);
    trim(st);
    if (due == JTTL_NEVER && (st->ids.first || st->trimming))
        due = now + JSTORE_TIMER_MS;
    if (due != JTTL_NEVER)
        jstore_timer_in(st, due - now);
    jstore_removed_tick(st, now);
}

static void on_timer(struct loop_timer *t)
{
    struct jstore *st = list_entry(t, struct jstore, timer);

    if (st->failed) {
        st->failed = false;
        workers_run(st->s->js->workers, &st->work);
    } else {
        jstore_tick(st);
    }
}

static bool is_there(void *arg, uint64_t seq)
{
    return jindex_has(arg, seq);
}

static void ttl_note(struct jstore *st, uint64_t seq, const struct jfacts *f)
{
    struct jindex *x = &st->s->index;

    jttls_put(&st->ttls, seq, f->ttl_s < 0 ? JTTL_NEVER : f->time_ms + f->ttl_s * 1000);
    if (jttls_stale(&st->ttls, x->msgs))
        jttls_sweep(&st->ttls, is_there, x);
}

/* The timer is to come for it: for one that goes by the stream's age it does so already, if there is
 * one before it. */
static void timer_for(struct jstore *st, const struct jfacts *f)
{
    int64_t age_ms = st->s->conf.max_age_ns / 1000000;

    if (age_ms && !loop_timer_armed(&st->timer))
        jstore_timer_in(st, f->time_ms + age_ms - js_now_ms(st->s->js));
    if (f->ttl_s > 0)
        jstore_timer_in(st, f->time_ms + f->ttl_s * 1000 - js_now_ms(st->s->js));
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
    jstore_tick(st);
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
        jids_note(&st->ids, f->msg_id, seq, f->time_ms, s->conf.duplicates_ns > 0);
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
    for (; seq <= last; seq += JSTORE_BLOCK - (uint64_t)jstream_offset(s, seq) % JSTORE_BLOCK)
        jstore_removed_note(s->store, (uint64_t)jstream_offset(s, seq) / JSTORE_BLOCK);
}

int64_t jstore_last_ms(const struct jstream *s)
{
    return s->store ? s->store->last_ms : JTIME_NONE;
}

struct slice jstore_last_id(const struct jstream *s)
{
    return buf_slice(&s->store->last_id);
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

/* ---- begin and end ---- */

void jstore_open(struct jstream *s, void (*ready)(struct jstream *s, void *arg), void *arg)
{
    struct jstore *st = s->store = xcalloc(1, sizeof *st);

    st->s = s;
    st->ready = ready;
    st->arg = arg;
    st->last_ms = JTIME_NONE;
    buf_init(&st->bits, LIMIT_KV_VALUE);
    buf_init(&st->last_id, SIZE_MAX);
    u64map_init(&st->dirty, LIMIT_JS_BLOCKS, 0);
    u64map_init(&st->kept, LIMIT_JS_BLOCKS, 0);
    jids_init(&st->ids, s->js->seed);
    jttls_init(&st->ttls);
    loop_timer_init(&st->timer, on_timer);
    jstore_log_begin(st);
}

void jstore_stop(struct jstream *s)
{
    struct jstore *st = s->store;

    if (!st || st->stopped)
        return;
    st->stopped = true;
    loop_timer_cancel(s->l->loop, &st->timer);
    jstore_log_stop(st);
}

void jstore_free(struct jstream *s)
{
    struct jstore *st = s->store;

    if (!st)
        return;
    jstore_log_free(st);
    jstore_removed_fini(st);
    jids_fini(&st->ids);
    jttls_fini(&st->ttls);
    buf_fini(&st->last_id);
    free(st);
    s->store = NULL;
}
