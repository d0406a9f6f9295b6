/* Message schedules. See js_schedule.h. Source: NATS ADR-51, and what nats-server answers.
 *
 * A schedule is the last message of its subject; what it makes goes to another subject. All that
 * counts is in the log, so that each time makes one message, whatever crashes between:
 *   - the message that a schedule makes names it (Nats-Scheduler). If that was all, it also says
 *     that the schedule is to be removed (Nats-Schedule-Next: purge): both are one record.
 *   - if the schedule goes on, it says when (Nats-Schedule-Next), and an item of the same unit of the
 *     log does, too, as the message may be removed long before the schedule is.
 *
 *   note -> heap, by time -> tick: making, in order -> read, write headers -> jpublish_scheduled
 *        <- (what was made is durable) note <-
 *
 * Nothing is early; what was due while the server was away is made once when it is back. At most
 * AT_ONCE are made at a time: others wait, however many are due. */
#include "proto/nats/js_schedule.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "broker/removed.h"
#include "proto/nats/js_cron.h"
#include "proto/nats/js_header.h"
#include "proto/nats/js_publish.h"
#include "proto/nats/js_zone.h"

#define SCHEDULE_NS  "js.schedule" /* items: when it is due next, by topic and sequence */
#define AT_ONCE      64u           /* are read and on their way to the log */
#define SLEEP_MS_MAX 60000         /* the clock may be set meanwhile */
#define RETRY_NS     1000000000ll
#define MS_NS        1000000ll
#define NOWHERE      SIZE_MAX
#define PURGE        "purge"

struct schedule {
    struct list_node link; /* of jschedules.making */
    uint64_t seq;
    int64_t due_ns, fire_ns; /* fire_ns: it is tried again later */
    size_t at;               /* in the heap; NOWHERE: what it makes is on its way */
    bool queued;             /* … or is in jschedules.making */
    bool saved;              /* there is an item */
    size_t subject_len;
    uint8_t subject[];
};

struct jschedules {
    struct jstream *s;
    struct map by_subject;
    struct schedule **heap;
    size_t n, cap, away; /* away: those that are not in the heap */
    struct loop_timer timer;
    bool begun, ended, reading;
    struct list_head making;
    struct schedule *now; /* being read for */
    struct jreader *reader, *origin;
    struct buf headers;
};

/* ---- those that wait, by time ---- */

static bool before(const struct schedule *a, const struct schedule *b)
{
    return a->fire_ns != b->fire_ns ? a->fire_ns < b->fire_ns : a->seq < b->seq;
}

static void heap_set(struct jschedules *j, size_t at, struct schedule *e)
{
    j->heap[at] = e;
    e->at = at;
}

static void heap_up(struct jschedules *j, size_t at, struct schedule *e)
{
    size_t up;

    for (; at; at = up) {
        up = (at - 1) / 2;
        if (!before(e, j->heap[up]))
            break;
        heap_set(j, at, j->heap[up]);
    }
    heap_set(j, at, e);
}

static void heap_down(struct jschedules *j, size_t at, struct schedule *e)
{
    size_t down;

    for (; (down = at * 2 + 1) < j->n; at = down) {
        if (down + 1 < j->n && before(j->heap[down + 1], j->heap[down]))
            down++;
        if (!before(j->heap[down], e))
            break;
        heap_set(j, at, j->heap[down]);
    }
    heap_set(j, at, e);
}

static void heap_put(struct jschedules *j, struct schedule *e)
{
    if (j->n == j->cap) {
        j->cap = j->cap ? j->cap * 2 : 16;
        j->heap = xrealloc(j->heap, j->cap * sizeof *j->heap);
    }
    heap_up(j, j->n++, e);
}

static void heap_take(struct jschedules *j, struct schedule *e)
{
    struct schedule *last = j->heap[--j->n];
    size_t at = e->at;

    ASSERT(j->heap[at] == e);
    e->at = NOWHERE;
    if (last == e)
        return;
    heap_up(j, at, last);
    heap_down(j, last->at, last);
}

/* ---- what is saved ---- */

struct item_key {
    uint8_t b[REMOVED_KEY];
};

static struct slice item_key(const struct jstream *s, uint64_t seq, struct item_key *k)
{
    removed_key(topic_id(s->topic), seq, k->b);
    return slice_of(k->b, sizeof k->b);
}

static void item_drop(struct jstream *s, uint64_t seq)
{
    struct item_key k;

    /* one that stays is dropped when the stream is loaded */
    (void)kv_put(s->js->b, SCHEDULE_NS, item_key(s, seq, &k), SLICE_NULL, 0, NULL, NULL, NULL);
}

/* ---- schedules ---- */

static void timer_set(struct jschedules *j);

static struct schedule *find(const struct jstream *s, struct slice subject)
{
    return s->schedules ? map_find(&s->schedules->by_subject, subject) : NULL;
}

static void on_timer(struct loop_timer *t);

static struct jschedules *schedules_of(struct jstream *s)
{
    struct jschedules *j = s->schedules;

    if (j)
        return j;
    j = s->schedules = xcalloc(1, sizeof *j);
    j->s = s;
    map_init(&j->by_subject, LIMIT_JS_SCHEDULES, s->js->seed);
    loop_timer_init(&j->timer, on_timer);
    list_init(&j->making);
    buf_init(&j->headers, SIZE_MAX);
    j->begun = !s->loading;
    return j;
}

static void away_end(struct jschedules *j, struct schedule *e)
{
    j->away--;
    if (e->queued)
        list_remove(&e->link);
    e->queued = false;
    if (j->now == e)
        j->now = NULL;
    timer_set(j);
}

static void drop(struct jschedules *j, struct schedule *e)
{
    map_remove(&j->by_subject, slice_of(e->subject, e->subject_len));
    if (e->at != NOWHERE)
        heap_take(j, e);
    else
        away_end(j, e);
    if (e->saved && j->begun)
        item_drop(j->s, e->seq);
    free(e);
}

/* It is due at due_ns, and tried at fire_ns. */
static void wait_for(struct jschedules *j, struct schedule *e, int64_t due_ns, int64_t fire_ns)
{
    if (e->at != NOWHERE)
        heap_take(j, e);
    else
        away_end(j, e);
    e->due_ns = due_ns;
    e->fire_ns = fire_ns;
    heap_put(j, e);
    timer_set(j);
}

static void add(struct jstream *s, uint64_t seq, struct slice subject, int64_t due_ns)
{
    struct jschedules *j = schedules_of(s);
    struct schedule *e = find(s, subject);

    if (e)
        drop(j, e);
    e = xcalloc(1, sizeof *e + subject.len);
    *e = (struct schedule){
        .seq = seq, .due_ns = due_ns, .fire_ns = due_ns, .subject_len = subject.len};
    memcpy(e->subject, subject.ptr, subject.len);
    if (map_put(&j->by_subject, slice_of(e->subject, e->subject_len), e)) {
        free(e); /* others wrote more than there may be */
        return;
    }
    heap_put(j, e);
    timer_set(j);
}

static bool zone_of(struct jstream *s, const struct jfacts_schedule *f, const struct tz **zone)
{
    *zone = NULL;
    return slice_is_null(f->zone) || jzone_find(s->js->zones, f->zone, zone);
}

static bool next_of(struct jstream *s, const struct jfacts_schedule *f, int64_t from_ns,
                    int64_t now_ns, struct jcron *out)
{
    const struct tz *zone;

    return zone_of(s, f, &zone) &&
           jcron_next(f->pattern, !slice_is_null(f->zone), zone, from_ns, now_ns, out);
}

struct slice jschedules_note(struct jstream *s, uint64_t seq, const struct jfacts *f)
{
    const struct jfacts_schedule *c = &f->schedule;
    int64_t from = f->time_ms < 0 ? 0 : jtime_ns(f->time_ms), next;
    struct schedule *e;
    struct jcron due;

    if (c->pattern.len && next_of(s, c, from, from, &due))
        add(s, seq, f->subject, due.ns);
    else if (s->schedules && !c->by.len && (e = find(s, f->subject)))
        drop(s->schedules, e); /* it is not the last of its subject any more */
    if (!c->by.len || !c->next.len)
        return SLICE_NULL;
    if (slice_eq_str(c->next, PURGE))
        return s->conf.allow_rollup && !s->conf.deny_purge ? c->by : SLICE_NULL;
    if ((e = find(s, c->by)) && jtime_read(c->next, &next)) {
        e->saved = true;
        wait_for(s->schedules, e, next, next);
    }
    return SLICE_NULL;
}

void jschedules_removed(struct jstream *s, uint64_t seq)
{
    struct jindex_msg m;
    struct schedule *e;

    if (s->schedules && s->schedules->by_subject.n && jindex_get(&s->index, seq, &m) &&
        (e = find(s, jindex_subject(&s->index, m.subject))) && e->seq == seq)
        drop(s->schedules, e);
}

void jschedules_purged(struct jstream *s, uint64_t first)
{
    struct jschedules *j = s->schedules;
    struct schedule **v, *e;
    struct slice subject;
    uint32_t at = 0;
    size_t n = 0;
    void *p;

    if (!j || !j->by_subject.n)
        return;
    v = xcalloc(j->by_subject.n, sizeof *v);
    while (map_next(&j->by_subject, &at, &subject, &p)) {
        e = p;
        if (e->seq < first)
            v[n++] = e;
    }
    while (n)
        drop(j, v[--n]);
    free(v);
}

void jschedules_failed(struct jstream *s, struct slice subject)
{
    struct schedule *e = find(s, subject);

    if (e && e->at == NOWHERE && !s->schedules->ended)
        wait_for(s->schedules, e, e->due_ns, js_now_ns(s->js) + RETRY_NS);
}

/* ---- what publishers say ---- */

/* Whether a message to this subject, or some, could come to the stream. */
static bool ours(const struct jstream *s, struct slice subject)
{
    unsigned i;

    for (i = 0; i < s->conf.subjects.n; i++)
        if (subjects_meet(jlist_text(&s->conf.subjects, i), subject))
            return true;
    return false;
}

static bool check_pattern(struct jstream *s, const struct jwish *w, struct js_fault *f)
{
    const struct jfacts_schedule *c = &w->facts.schedule;
    int64_t now = js_now_ns(s->js);
    const struct tz *zone;
    struct jcron due;

    if (!zone_of(s, c, &zone))
        return js_fault_set(f,
                            s->conf.allow_schedules ? JSE_MESSAGE_SCHEDULES_TIME_ZONE_INVALID
                                                    : JSE_MESSAGE_SCHEDULES_DISABLED,
                            NULL);
    if (!c->pattern.len)
        return true;
    if (!s->conf.allow_schedules)
        return js_fault_set(f, JSE_MESSAGE_SCHEDULES_DISABLED, NULL);
    return next_of(s, c, now, now, &due) ||
           js_fault_set(f, JSE_MESSAGE_SCHEDULES_PATTERN_INVALID, NULL);
}

static bool check_made(struct jstream *s, const struct jwish *w, struct js_fault *f)
{
    const struct jwish_schedule *c = &w->schedule;
    struct slice own = w->facts.subject;
    int64_t ttl_s;

    if (c->ttl.len && !jttl_read(c->ttl, &ttl_s))
        return js_fault_set(f, JSE_MESSAGE_SCHEDULES_TTL_INVALID, NULL);
    if (c->rollup.len && !slice_eq_str(c->rollup, "sub"))
        return js_fault_set(f, JSE_MESSAGE_SCHEDULES_ROLLUP_INVALID, NULL);
    if (c->ttl.len && !s->conf.allow_ttl)
        return js_fault_set(f, JSE_MESSAGE_TTL_DISABLED, NULL);
    if (!subject_literal(c->target) || slice_eq(c->target, own))
        return js_fault_set(f, JSE_MESSAGE_SCHEDULES_TARGET_INVALID, NULL);
    if (c->source.len &&
        (slice_eq(c->source, c->target) || slice_eq(c->source, own) || !subject_literal(c->source)))
        return js_fault_set(f, JSE_MESSAGE_SCHEDULES_SOURCE_INVALID, NULL);
    if (!ours(s, c->target))
        return js_fault_set(f, JSE_MESSAGE_SCHEDULES_TARGET_INVALID, NULL);
    if (c->source.len && !ours(s, c->source))
        return js_fault_set(f, JSE_MESSAGE_SCHEDULES_SOURCE_INVALID, NULL);
    if (w->rollup.len && w->facts.rollup != JROLLUP_SUBJECT)
        return js_fault_set(f, JSE_MESSAGE_SCHEDULES_ROLLUP_INVALID, NULL);
    if (s->schedules && s->schedules->by_subject.n >= LIMIT_JS_SCHEDULES && !find(s, own))
        return js_fault_set(f, JSE_STREAM_STORE_FAILED, "%s", "maximum schedules exceeded");
    return true;
}

/* Clients may end a schedule, and say no more of what it made than that. */
static bool check_purge(struct jstream *s, const struct jwish *w, struct js_fault *f)
{
    const struct jfacts_schedule *c = &w->facts.schedule;
    const struct schedule *e;
    uint64_t last;

    if (!c->next.len)
        return !c->by.len || js_fault_set(f, JSE_MESSAGE_SCHEDULES_SCHEDULER_INVALID, NULL);
    if (!slice_eq_str(c->next, PURGE) || !subject_literal(c->by) ||
        slice_eq(c->by, w->facts.subject))
        return js_fault_set(f, JSE_MESSAGE_SCHEDULES_SCHEDULER_INVALID, NULL);
    if (!s->conf.allow_schedules)
        return js_fault_set(f, JSE_MESSAGE_SCHEDULES_DISABLED, NULL);
    last = jindex_subject_last(&s->index, c->by);
    e = find(s, c->by);
    if (last && jpublish_last(s, c->by) == last && (!e || e->seq != last))
        return js_fault_set(f, JSE_MESSAGE_SCHEDULES_SCHEDULER_INVALID, NULL);
    return true;
}

bool jschedules_check(struct jstream *s, const struct jwish *w, struct js_fault *f)
{
    const struct jfacts_schedule *c = &w->facts.schedule;

    if (!c->pattern.len && slice_is_null(c->zone) && !c->next.len && !c->by.len)
        return true;
    return check_pattern(s, w, f) && (!c->pattern.len || check_made(s, w, f)) &&
           check_purge(s, w, f);
}

/* ---- making ---- */

static bool is_kept(void *arg, struct slice name)
{
    (void)arg;
    return !slice_has_prefix(name, SLICE_LIT("Nats-Schedule")) &&
           !slice_has_prefix(name, SLICE_LIT("Nats-Expected-")) &&
           !slice_eq_str(name, "Nats-Msg-Id") && !slice_eq_str(name, "Nats-TTL") &&
           !slice_eq_str(name, "Nats-Rollup");
}

static void header_put(struct buf *b, const char *name, struct slice value)
{
    if (value.len)
        nheader_put(b, slice_str(name), value);
}

/* Those of a message (text), as what is made of it has them. */
static void headers_make(struct jschedules *j, const struct schedule *e, const struct jwish *w,
                         struct slice text, const char *next)
{
    struct buf *b = &j->headers;

    buf_clear(b);
    nheader_copy(text, is_kept, NULL, b);
    header_put(b, "Nats-Scheduler", slice_of(e->subject, e->subject_len));
    header_put(b, "Nats-Schedule-Next", slice_str(next));
    header_put(b, "Nats-TTL", w->schedule.ttl);
    header_put(b, "Nats-Rollup", w->schedule.rollup);
    buf_append_str(b, "\r\n");
}

static void make_more(struct jschedules *j);

static void on_read(void *arg)
{
    struct jschedules *j = arg;

    j->reading = false;
    make_more(j);
}

/* The last message of the source, if there is one; out stays as it is else. */
static enum err source_get(struct jschedules *j, struct slice subject, struct jmsg *out)
{
    uint64_t seq = subject.len ? jindex_subject_last(&j->s->index, subject) : 0;
    struct jmsg m;
    enum err e;

    if (!seq)
        return ERR_OK;
    if (!j->origin)
        j->origin = jreader_new(j->s);
    e = jreader_get(j->origin, seq, &m, on_read, j);
    if (!e)
        *out = m;
    return e == ERR_NOT_FOUND ? ERR_OK : e;
}

/* Stores what e makes of the text of m; w: what e itself says. */
static enum jcopied publish(struct jschedules *j, struct schedule *e, const struct jwish *w,
                            const struct jmsg *m)
{
    char next[JCRON_TIME_LEN + 1] = PURGE;
    struct jmsg made = {.subject = w->schedule.target, .payload = m->payload};
    const struct tz *zone;
    struct item_key k;
    struct jcron due;
    uint8_t item[8];
    enum jcopied c;

    if (!next_of(j->s, &w->facts.schedule, e->due_ns, js_now_ns(j->s->js), &due) ||
        !subject_literal(made.subject))
        return JCOPY_PASSED;
    zone_of(j->s, &w->facts.schedule, &zone);
    if (due.repeat)
        jcron_time(due.ns, zone, next);
    headers_make(j, e, w, m->headers, next);
    made.headers = buf_slice(&j->headers);
    be64_store(item, (uint64_t)due.ns);
    c = jpublish_scheduled(j->s, &made, SCHEDULE_NS,
                           due.repeat ? item_key(j->s, e->seq, &k) : SLICE_NULL,
                           slice_of(item, sizeof item));
    if (c == JCOPY_PASSED && due.repeat) { /* the next one may be one that can be kept */
        wait_for(j, e, due.ns, due.ns);
        c = JCOPIED;
    }
    return c;
}

/* False: something is being read for it. */
static bool make(struct jschedules *j, struct schedule *e)
{
    struct jstream *s = j->s;
    struct jwish w = {0};
    struct jmsg m;
    enum jcopied c = JCOPY_LATER;
    enum err err;

    if (!j->reader)
        j->reader = jreader_new(s);
    err = jreader_get(j->reader, e->seq, &m, on_read, j);
    if (!err) {
        jwish_read(&w, m.headers);
        err = source_get(j, w.schedule.source, &m);
    }
    if (err == ERR_AGAIN)
        return false;
    j->now = NULL;
    /* if another one of its subject is on its way, that is the one */
    if (!err && jpublish_last(s, slice_of(e->subject, e->subject_len)) == e->seq)
        c = publish(j, e, &w, &m);
    if (err == ERR_NOT_FOUND || c == JCOPY_PASSED) {
        LOG(s->js->n->conf.log, LOG_WARN, "a schedule makes nothing that could be kept",
            LOG_STR("stream", s->conf.name), LOG_U64("sequence", e->seq));
        drop(j, e);
    } else if (c == JCOPY_LATER) {
        wait_for(j, e, e->due_ns, js_now_ns(s->js) + RETRY_NS);
    }
    return true;
}

static bool makes(const struct jschedules *j)
{
    const struct jstream_conf *c = &j->s->conf;

    return j->begun && !j->ended && !j->s->gone && c->allow_schedules && !c->sealed && !c->mirror;
}

static void make_more(struct jschedules *j)
{
    struct schedule *e;

    while (!j->reading && !j->ended && (j->now || !list_empty(&j->making))) {
        if (!(e = j->now)) {
            e = j->now = list_entry(list_pop_front(&j->making), struct schedule, link);
            e->queued = false;
        }
        j->reading = !make(j, e);
    }
    timer_set(j);
}

static void tick(struct jschedules *j)
{
    int64_t now = js_now_ns(j->s->js);
    struct schedule *e;

    while (makes(j) && j->n && j->away < AT_ONCE && j->heap[0]->fire_ns <= now) {
        e = j->heap[0];
        heap_take(j, e);
        j->away++;
        e->queued = true;
        list_push_back(&j->making, &e->link);
    }
    make_more(j);
}

static void on_timer(struct loop_timer *t)
{
    tick(list_entry(t, struct jschedules, timer));
}

/* The timer comes when the first one is due; those that are on their way come back to here. */
static void timer_set(struct jschedules *j)
{
    int64_t ms;

    if (!makes(j) || !j->n || j->away >= AT_ONCE)
        return;
    ms = j->heap[0]->fire_ns - js_now_ns(j->s->js);
    ms = ms <= 0 ? 0 : ms / MS_NS + 1;
    loop_timer_arm(j->s->l->loop, &j->timer,
                   (uint64_t)(ms < 1              ? 1
                              : ms > SLEEP_MS_MAX ? SLEEP_MS_MAX
                                                  : ms));
}

/* ---- begin and end ---- */

struct saved {
    const struct jstream *s;
    struct buf found; /* sequence, time … */
};

static bool saved_note(void *arg, struct slice key, struct slice value)
{
    struct saved *v = arg;
    struct item_key k;

    item_key(v->s, 0, &k);
    if (key.len == REMOVED_KEY && memcmp(key.ptr, k.b, REMOVED_KEY - 8) == 0 && value.len == 8) {
        buf_append(&v->found, key.ptr + REMOVED_KEY - 8, 8);
        buf_append_slice(&v->found, value);
    }
    return true;
}

static void saved_get(struct jstream *s, struct saved *v)
{
    v->s = s;
    buf_init(&v->found, SIZE_MAX);
    kv_each(s->js->b, SCHEDULE_NS, saved_note, v);
}

void jschedules_begin(struct jstream *s)
{
    struct jindex_msg m;
    struct schedule *e;
    struct saved v;
    uint64_t seq;
    int64_t due;
    size_t at;

    saved_get(s, &v);
    for (at = 0; at < v.found.len; at += 16) {
        seq = be64_load(v.found.ptr + at);
        due = (int64_t)be64_load(v.found.ptr + at + 8);
        e = jindex_get(&s->index, seq, &m) ? find(s, jindex_subject(&s->index, m.subject)) : NULL;
        if (!e || e->seq != seq) {
            item_drop(s, seq);
            continue;
        }
        e->saved = true;
        if (due > e->due_ns)
            wait_for(s->schedules, e, due, due);
    }
    buf_fini(&v.found);
    if (s->schedules) {
        s->schedules->begun = true;
        timer_set(s->schedules);
    }
}

void jschedules_changed(struct jstream *s)
{
    if (s->schedules)
        timer_set(s->schedules);
}

void jschedules_end(struct jstream *s)
{
    struct jschedules *j = s->schedules;

    if (!j || j->ended)
        return;
    j->ended = true;
    loop_timer_cancel(s->l->loop, &j->timer);
    jreader_free(&j->reader);
    jreader_free(&j->origin);
}

void jschedules_forget(struct jstream *s)
{
    struct saved v;
    size_t at;

    if (!s->schedules)
        return;
    saved_get(s, &v);
    for (at = 0; at < v.found.len; at += 16)
        item_drop(s, be64_load(v.found.ptr + at));
    buf_fini(&v.found);
}

void jschedules_free(struct jstream *s)
{
    struct jschedules *j = s->schedules;
    struct slice subject;
    uint32_t at = 0;
    void *e;

    if (!j)
        return;
    ASSERT(!j->reader && !j->origin);
    while (map_next(&j->by_subject, &at, &subject, &e))
        free(e);
    map_fini(&j->by_subject);
    buf_fini(&j->headers);
    free(j->heap);
    free(j);
    s->schedules = NULL;
}
