/* Messages that no publisher sent: copies of other streams, what schedules make, what fills a mirror's
 * gaps. See js_publish_int.h.
 *
 * Nobody is answered: who put one in is told by jsources_came, jschedules_note or jschedules_failed,
 * or tries again later. Nothing of it depends on what is in the log, but for sums of counters, which
 * wait until nothing that may have to be added up anew is before them. */
#include "base/tbl/limits.h"
#include "proto/nats/js_publish_int.h"

static enum jcopied copy_check(struct jpublish *p, const struct jwish *w, const struct jmsg *m)
{
    const struct jstream_conf *c = &p->s->conf;
    struct js_fault f;

    if (m->headers.len > UINT16_MAX ||
        (c->max_msg_size >= 0 && m->headers.len + m->payload.len > (uint64_t)c->max_msg_size))
        return JCOPY_PASSED;
    if (p->bytes > JPUB_BYTES_MAX || c->sealed ||
        !jpub_check_limits(p, w->facts.subject, w->facts.bytes, &f))
        return JCOPY_LATER;
    return JCOPIED;
}

/* Where sums are stored, m becomes one. What may have to be added up anew is not added to. */
static enum jcopied copy_sum(struct jpublish *p, struct jwish *w, struct jmsg *m)
{
    struct js_fault f;
    struct jpub_batch *b;
    enum err e;

    if (!p->s->conf.allow_counter)
        return JCOPIED;
    if (!w->incr.len)
        return JCOPY_PASSED;
    if (p->redoing || (p->open && p->open->guarded))
        return JCOPY_LATER;
    list_for_each(b, &p->closed, struct jpub_batch, link) if (b->guarded) return JCOPY_LATER;
    e = jpub_amend(p, w, m, true, &p->amended, &f);
    return !e ? JCOPIED : e == ERR_AGAIN ? JCOPY_LATER : JCOPY_PASSED;
}

enum jcopied jpublish_copy(struct jstream *s, const struct jmsg *m, bool mirror)
{
    struct jmsg made = *m;
    struct jpublish *p = s->pub;
    struct jwish w = {.facts.subject = jpub_mapped(p, m->subject)};
    enum jcopied c;
    enum err e;

    jpub_guard_begin(p, false);
    if (m->headers.len)
        jwish_read(&w, m->headers);
    w.facts.bytes = jstream_msg_bytes(w.facts.subject.len, m->headers.len, m->payload.len);
    if (mirror)
        w.facts.time_ms = m->time_ns / 1000000;
    else if (w.facts.msg_id.len && s->conf.duplicates_ns > 0 &&
             jstore_dedup_find(s, w.facts.msg_id))
        return JCOPY_PASSED;
    if ((c = copy_check(p, &w, m)) != JCOPIED ||
        (!mirror && (c = copy_sum(p, &w, &made)) != JCOPIED))
        return c;
    if (!jpub_fits(p, jpub_record_room(&w, made.headers, made.payload)))
        return JCOPY_LATER; /* where to go on is written in the unit of what was copied */
    p->copying = true;
    e = jpub_store(p, SLICE_NULL, &w, made.headers, made.payload);
    p->copying = false;
    return !e ? JCOPIED : e == ERR_TOO_LARGE ? JCOPY_PASSED : JCOPY_LATER;
}

enum jcopied jpublish_scheduled(struct jstream *s, const struct jmsg *m, const char *ns,
                                struct slice key, struct slice value)
{
    struct jpublish *p = s->pub;
    struct jwish w = {.facts.subject = jpub_mapped(p, m->subject)};
    enum jcopied c;
    enum err e;

    jwish_read(&w, m->headers);
    w.facts.bytes = jstream_msg_bytes(w.facts.subject.len, m->headers.len, m->payload.len);
    if ((c = copy_check(p, &w, m)) != JCOPIED)
        return c;
    jpub_guard_begin(p, false);
    if (!jpub_fits(p, jpub_record_room(&w, m->headers, m->payload) + key.len + value.len))
        jpub_batch_close(p);
    p->copying = true;
    e = jpub_store(p, SLICE_NULL, &w, m->headers, m->payload);
    p->copying = false;
    if (!e && key.len)
        e = append_kv(p->open->a, ns, key, value);
    return !e ? JCOPIED : e == ERR_TOO_LARGE ? JCOPY_PASSED : JCOPY_LATER;
}

enum err jpublish_fill(struct jstream *s, uint64_t n)
{
    const struct append_record r = {.timestamp_ms = -1, .key = SLICE_LIT(""), .value = SLICE_NULL};
    struct jpublish *p = s->pub;
    struct jpub_batch *b = jpub_batch_open(p);
    struct append_slot first = {0}, slot = {0};
    struct jpub_entry *entry;
    uint64_t i;
    enum err e = ERR_OK;

    for (i = 0; i < n; i++) {
        if (!jpub_fits(p, JPUB_RECORD_ROOM))
            e = ERR_LIMIT;
        else
            e = append_record(b->a, s->topic, 0, &r, &slot, NULL);
        if (e)
            break;
        if (!i)
            first = slot;
    }
    if (!i)
        return e;
    entry = jpub_entry_add(p, JPUB_FILLED, SLICE_NULL, SLICE_NULL, SLICE_NULL, SLICE_NULL);
    entry->seq = i;
    entry->slot = slot;
    jpub_batch_count(p, first, slot, (uint32_t)i, 0);
    return e;
}

const void *jpublish_copied(struct jstream *s, const char *ns, struct slice key, struct slice value)
{
    struct jpub_batch *b = s->pub->open;

    if (!b || !b->stored || append_kv(b->a, ns, key, value))
        return NULL;
    return b;
}
