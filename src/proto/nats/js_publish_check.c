/* Whether a message may be stored. See js_publish_int.h.
 *
 * It is checked against the index and what is on its way to the log, as if that was stored: of the
 * latter counts are always known (p->msgs, p->bytes), the last one of a subject, and how many it has,
 * from when somebody asks for them until nothing is on its way (p->tracking). */
#include <inttypes.h>

#include "base/siphash.h"
#include "base/subject.h"
#include "proto/nats/js_counter.h"
#include "proto/nats/js_publish_int.h"
#include "proto/nats/js_schedule.h"

/* ---- what is on its way, by subject ---- */

static uint64_t subject_hash(const struct jpublish *p, struct slice subject)
{
    return siphash64(p->s->js->seed, subject.ptr, subject.len);
}

static uint64_t get(const struct u64map *m, uint64_t hash)
{
    return (uint64_t)(uintptr_t)u64map_find(m, hash);
}

static void set(struct u64map *m, uint64_t hash, uint64_t v)
{
    u64map_remove(m, hash);
    if (v)
        u64map_put(m, hash, (void *)(uintptr_t)v);
}

void jpub_ahead_add(struct jpublish *p, struct slice subject, uint64_t seq)
{
    uint64_t hash;

    if (!p->tracking)
        return;
    hash = subject_hash(p, subject);
    set(&p->last, hash, seq);
    set(&p->count, hash, get(&p->count, hash) + 1);
}

void jpub_ahead_take(struct jpublish *p, struct slice subject)
{
    uint64_t hash, n;

    if (!p->tracking)
        return;
    hash = subject_hash(p, subject);
    n = get(&p->count, hash);
    set(&p->count, hash, n - 1);
    if (n == 1)
        u64map_remove(&p->last, hash);
}

void jpub_ahead_scan(struct jpublish *p, struct jpub_batch *b, uint64_t *seq)
{
    struct jpub_entry *e;
    size_t at = 0;

    while ((e = jpub_entry_next(b, &at)))
        if (e->kind == JPUB_STORED)
            jpub_ahead_add(p, jpub_entry_subject(e), ++*seq);
}

/* From now on what is on its way is known by subject, until nothing is any more. */
static void ahead_track(struct jpublish *p)
{
    uint64_t seq = p->s->index.last;
    struct jpub_batch *b;

    if (p->tracking)
        return;
    p->tracking = true;
    list_for_each(b, &p->batches, struct jpub_batch, link) jpub_ahead_scan(p, b, &seq);
    list_for_each(b, &p->closed, struct jpub_batch, link) jpub_ahead_scan(p, b, &seq);
    if (p->open)
        jpub_ahead_scan(p, p->open, &seq);
}

/* Those of the batch that the pattern takes; *found: the last one's sequence. */
static void match_scan(struct jpub_batch *b, struct slice pattern, uint64_t *seq, uint64_t *found)
{
    struct jpub_entry *e;
    size_t at = 0;

    while ((e = jpub_entry_next(b, &at)))
        if (e->kind == JPUB_STORED && ++*seq && subject_match(pattern, jpub_entry_subject(e)))
            *found = *seq;
}

/* The last one on its way that a pattern takes; 0: none does. */
static uint64_t ahead_match(struct jpublish *p, struct slice pattern)
{
    uint64_t seq = p->s->index.last, found = 0;
    struct jpub_batch *b;

    list_for_each(b, &p->batches, struct jpub_batch, link) match_scan(b, pattern, &seq, &found);
    list_for_each(b, &p->closed, struct jpub_batch, link) match_scan(b, pattern, &seq, &found);
    if (p->open)
        match_scan(p->open, pattern, &seq, &found);
    return found;
}

struct jpub_before jpub_ahead_before(struct jpublish *p, struct slice subject)
{
    uint64_t hash = subject_hash(p, subject);

    ahead_track(p);
    return (struct jpub_before){hash, get(&p->last, hash)};
}

void jpub_ahead_back(struct jpublish *p, struct slice subject, const struct jpub_before *was)
{
    jpub_ahead_take(p, subject);
    set(&p->last, was->hash, was->last);
}

/* ---- checks ---- */

uint64_t jpub_last_seq(const struct jpublish *p)
{
    return p->s->index.last + p->msgs;
}

uint64_t jpublish_next(const struct jstream *s)
{
    return jpub_last_seq(s->pub) + 1;
}

/* The last message of a subject, of those on their way too; a pattern takes several. */
static uint64_t subject_last(struct jpublish *p, struct slice subject)
{
    bool pattern = subject_has_wildcard(subject);
    struct jfilter *f;
    uint64_t seq;

    ahead_track(p);
    seq = pattern ? ahead_match(p, subject) : get(&p->last, subject_hash(p, subject));
    if (seq)
        return seq;
    if (!pattern)
        return jindex_subject_last(&p->s->index, subject);
    f = jfilter_new(&subject, 1);
    seq = jindex_prev(&p->s->index, f, p->s->index.last);
    jfilter_free(&f);
    return seq;
}

uint64_t jpublish_last(struct jstream *s, struct slice subject)
{
    return subject_last(s->pub, subject);
}

static uint64_t subject_count(struct jpublish *p, struct slice subject)
{
    ahead_track(p);
    return jindex_subject_count(&p->s->index, subject) +
           (p->tracking ? get(&p->count, subject_hash(p, subject)) : 0);
}

static bool check_expected(struct jpublish *p, const struct jwish *w, struct slice subject,
                           struct js_fault *f)
{
    struct jstream *s = p->s;
    struct slice of = w->expect_for.len ? w->expect_for : subject, id;
    uint64_t seq;

    if (w->expect_stream.len && !slice_eq_str(w->expect_stream, s->conf.name))
        return js_fault_set(f, JSE_STREAM_NOT_MATCH, NULL);
    if (w->has_subject_seq) {
        seq = subject_last(p, of);
        if (seq != w->subject_seq)
            return js_fault_set(f, JSE_STREAM_WRONG_LAST_SEQUENCE, "%" PRIu64, seq);
    } else if (w->expect_for.len) {
        return js_fault_set(f, JSE_STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID, NULL);
    }
    if (w->has_last_seq && w->last_seq != jpub_last_seq(p))
        return js_fault_set(f, JSE_STREAM_WRONG_LAST_SEQUENCE, "%" PRIu64, jpub_last_seq(p));
    if (w->expect_id.len) {
        id = p->msgs ? buf_slice(&p->last_id) : jstore_last_id(s);
        if (!slice_eq(w->expect_id, id))
            return js_fault_set(f, JSE_STREAM_WRONG_LAST_MSG_ID, "%.*s", (int)id.len,
                                (const char *)id.ptr);
    }
    return true;
}

static bool check_wish(struct jpublish *p, const struct jwish *w, struct js_fault *f)
{
    const struct jstream_conf *c = &p->s->conf;

    if (w->ttl_bad)
        return js_fault_set(f, JSE_MESSAGE_TTL_INVALID, NULL);
    if (w->facts.ttl_s && !c->allow_ttl)
        return js_fault_set(f, JSE_MESSAGE_TTL_DISABLED, NULL);
    if (w->rollup_bad)
        return js_fault_set(f, JSE_STREAM_ROLLUP_FAILED, "rollup value invalid: \"%.*s\"",
                            (int)w->rollup.len, (const char *)w->rollup.ptr);
    if (w->facts.rollup && (!c->allow_rollup || c->deny_purge))
        return js_fault_set(f, JSE_STREAM_ROLLUP_FAILED, "%s", "rollup not permitted");
    return true;
}

bool jpub_check_limits(struct jpublish *p, struct slice subject, uint32_t bytes, struct js_fault *f)
{
    const struct jstream_conf *c = &p->s->conf;
    const struct jindex *x = &p->s->index;
    bool full_subject = false;

    if (c->discard != JDISCARD_NEW)
        return true;
    if (c->max_msgs_per_subject > 0)
        full_subject = subject_count(p, subject) >= (uint64_t)c->max_msgs_per_subject;
    if (full_subject && c->discard_new_per)
        return js_fault_set(f, JSE_STREAM_STORE_FAILED, "%s",
                            "maximum messages per subject exceeded");
    if (c->max_msgs > 0 && x->msgs + p->msgs >= (uint64_t)c->max_msgs && !full_subject)
        return js_fault_set(f, JSE_STREAM_STORE_FAILED, "%s", "maximum messages exceeded");
    if (c->max_bytes > 0 && x->bytes + p->bytes + bytes > (uint64_t)c->max_bytes && !full_subject)
        return js_fault_set(f, JSE_STREAM_STORE_FAILED, "%s", "maximum bytes exceeded");
    return true;
}

bool jpub_check(struct jpublish *p, const struct jwish *w, struct slice headers,
                struct slice payload, struct js_fault *f)
{
    const struct jstream_conf *c = &p->s->conf;

    if (c->sealed)
        return js_fault_set(f, JSE_STREAM_SEALED, NULL);
    if (headers.len > UINT16_MAX)
        return js_fault_set(f, JSE_STREAM_HEADER_EXCEEDS_MAXIMUM, NULL);
    if (c->max_msg_size >= 0 && headers.len + payload.len > (uint64_t)c->max_msg_size)
        return js_fault_set(f, JSE_STREAM_MESSAGE_EXCEEDS_MAXIMUM, NULL);
    if (p->bytes > JPUB_BYTES_MAX)
        return js_fault_set(f, JSE_STREAM_TOO_MANY_REQUESTS, NULL);
    if (!jcounters_check(p->s, w, payload.len, f))
        return false;
    if (w->stream_source.len)
        return js_fault_set(f, JSE_MESSAGE_SOURCE_HDR_NOT_ALLOWED, NULL);
    if (c->allow_counter && !w->incr.len)
        return js_fault_set(f, JSE_MESSAGE_INCR_MISSING, NULL);
    return check_wish(p, w, f) && check_expected(p, w, w->facts.subject, f) &&
           jschedules_check(p->s, w, f) &&
           jpub_check_limits(p, w->facts.subject, w->facts.bytes, f);
}

bool jpub_depends(const struct jpublish *p, const struct jwish *w)
{
    const struct jstream_conf *c = &p->s->conf;

    if (w->has_subject_seq || w->has_last_seq || w->expect_id.len || c->allow_counter)
        return true;
    return c->discard == JDISCARD_NEW && (c->max_msgs > 0 || c->max_bytes > 0 ||
                                          (c->max_msgs_per_subject > 0 && c->discard_new_per));
}

bool jpub_knows_more(struct jpublish *p, const struct jwish *w)
{
    uint64_t wants = w->has_subject_seq ? w->subject_seq : w->has_last_seq ? w->last_seq : 0;
    int64_t end;

    if (wants <= p->s->index.last)
        return false;
    end = partition_lso(p->s->p);
    if (end <= jstore_next(p->s) + (int64_t)p->away)
        return false;
    jpub_redo_from(p, end);
    return true;
}
