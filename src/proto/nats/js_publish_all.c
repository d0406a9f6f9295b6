/* Several messages that are stored together or not at all. See js_publish_int.h.
 *
 * Each is checked as if those before it were on their way already; then all that was counted for that
 * is taken back, and they are put into one batch, without a gap: a batch is one append, an append one
 * unit of the journal. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "proto/nats/js_counter.h"
#include "proto/nats/js_header.h"
#include "proto/nats/js_publish_int.h"

/* What one message of several changes in what is on its way, so that it can be taken back. */
struct ahead {
    struct jpub_before before;
    struct jwish w;
    struct jmsg m; /* as it is to be stored, perhaps in: */
    struct buf amended;
};

struct several {
    struct jpublish *p;
    struct ahead *v;
    unsigned n; /* that count as if they were on their way */
    struct map ids;
    size_t room; /* that all of them take in an append, at most */
};

static void several_add(struct several *sv, struct ahead *a)
{
    struct jpublish *p = sv->p;

    a->before = jpub_ahead_before(p, a->w.facts.subject);
    p->msgs++;
    p->bytes += a->w.facts.bytes;
    jpub_ahead_add(p, a->w.facts.subject, jpub_last_seq(p));
    jcounters_note(p->s, &a->w, jpub_last_seq(p));
    sv->n++;
}

static void several_undo(struct several *sv)
{
    struct jpublish *p = sv->p;
    struct ahead *a;

    while (sv->n) {
        a = &sv->v[--sv->n];
        jpub_ahead_back(p, a->w.facts.subject, &a->before);
        jcounters_forget(p->s, a->w.facts.subject);
        p->msgs--;
        p->bytes -= a->w.facts.bytes;
    }
}

/* Whether a message before it has this subject. What is expected of a pattern is what there was before
 * the batch, so that each of its messages may say the same, as with nats-server. */
static bool several_has(const struct several *sv, struct slice subject)
{
    unsigned i;

    for (i = 0; i < sv->n; i++)
        if (slice_eq(sv->v[i].w.facts.subject, subject))
            return true;
    return false;
}

static bool several_id(struct several *sv, const struct jwish *w, struct js_fault *f)
{
    struct jstream *s = sv->p->s;
    uint64_t seq;

    if (!w->facts.msg_id.len || s->conf.duplicates_ns <= 0)
        return true;
    seq = jstore_dedup_find(s, w->facts.msg_id);
    if (seq == UINT64_MAX)
        return js_fault_set(f, JSE_STREAM_DUPLICATE_MESSAGE_CONFLICT, NULL);
    if (seq || map_put(&sv->ids, w->facts.msg_id, sv))
        return js_fault_set(f, JSE_ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE, NULL);
    return true;
}

static bool several_check(struct several *sv, struct ahead *a, const struct jmsg *m,
                          struct js_fault *f)
{
    struct jpublish *p = sv->p;
    struct jwish *w = &a->w;
    uint32_t headers = 0;
    enum err e;

    w->facts.subject = m->subject;
    jwish_read(w, m->headers);
    w->facts.bytes = jstream_msg_bytes(m->subject.len, m->headers.len, m->payload.len);
    if (w->expect_id.len)
        return js_fault_set(f, JSE_ATOMIC_PUBLISH_UNSUPPORTED_HEADER_BATCH, "%s",
                            "Nats-Expected-Last-Msg-Id");
    if ((w->has_last_seq && sv->n) ||
        (w->has_subject_seq && several_has(sv, w->expect_for.len ? w->expect_for : m->subject)))
        return js_fault_set(f, JSE_STREAM_WRONG_LAST_SEQUENCE_CONSTANT, NULL);
    if (!nheader_to_record(m->headers, p->headers, LIMIT_RECORD_HEADERS, &headers))
        return js_fault_set(f, JSE_STREAM_STORE_FAILED, "%s", err_text(ERR_TOO_LARGE));
    if (!several_id(sv, w, f) || !jpub_check(p, w, m->headers, m->payload, f))
        return false;
    a->m = *m;
    e = jpub_amend(p, w, &a->m, false, &a->amended, f);
    if (e == ERR_AGAIN)
        js_fault_set(f, JSE_STREAM_STORE_FAILED, "%s", err_text(e));
    sv->room += jpub_record_room(w, a->m.headers, a->m.payload);
    return !e;
}

static bool several_checked(struct several *sv, const struct jmsg *v, unsigned n,
                            struct js_fault *f)
{
    struct jpublish *p = sv->p;
    bool ok = true;
    unsigned i;

    for (i = 0; ok && i < n; i++) {
        ok = several_check(sv, &sv->v[i], &v[i], f);
        if (ok)
            several_add(sv, &sv->v[i]);
    }
    several_undo(sv);
    if (ok && sv->room > append_bytes_max(p->s->js->b))
        ok = js_fault_set(f, JSE_ATOMIC_PUBLISH_TOO_LARGE_BATCH, "%zu bytes",
                          append_bytes_max(p->s->js->b));
    return ok;
}

static bool several_depend(const struct several *sv, unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i++)
        if (jpub_depends(sv->p, &sv->v[i].w))
            return true;
    return false;
}

static void several_tell(struct jpublish *p, struct slice reply, struct slice tail,
                         const struct jmsg *v, unsigned n)
{
    struct jpub_held *h;
    unsigned i;

    for (i = 0; i < n; i++) {
        h = jpub_held_new(v[i].subject, i + 1 == n ? reply : SLICE_NULL, v[i].headers, v[i].payload,
                          i + 1 == n ? tail : SLICE_NULL);
        h->more = i + 1 < n;
        jpub_guard_tell(p, true, h);
    }
}

bool jpublish_all(struct jstream *s, struct slice reply, struct slice tail, const struct jmsg *v,
                  unsigned n, struct js_fault *f)
{
    struct several sv = {.p = s->pub, .v = xcalloc(n, sizeof(struct ahead))};
    enum err e = ERR_OK;
    bool ok, depending;
    unsigned i;

    map_init(&sv.ids, n, s->js->seed);
    for (i = 0; i < n; i++)
        buf_init(&sv.v[i].amended, SIZE_MAX);
    ok = several_checked(&sv, v, n, f);
    depending = ok && several_depend(&sv, n);
    if (depending)
        jpub_guard_begin(s->pub, true);
    if (ok && !jpub_fits(s->pub, sv.room))
        jpub_batch_close(s->pub);
    s->pub->together = true;
    for (i = 0; ok && i < n && !e; i++) {
        s->pub->copying = i + 1 < n;
        if (i + 1 == n)
            buf_append_slice(&s->pub->tail, tail);
        e = jpub_store(s->pub, i + 1 == n ? reply : SLICE_NULL, &sv.v[i].w, sv.v[i].m.headers,
                       sv.v[i].m.payload);
    }
    s->pub->together = s->pub->copying = false;
    if (e && i > 1)
        s->pub->open->e = e; /* what is in it already goes with it */
    if (e) {
        buf_clear(&s->pub->tail);
        ok = js_fault_set(f, JSE_STREAM_STORE_FAILED, "%s", err_text(e));
    }
    if (ok && depending)
        several_tell(s->pub, reply, tail, v, n);
    map_fini(&sv.ids);
    for (i = 0; i < n; i++)
        buf_fini(&sv.v[i].amended);
    free(sv.v);
    return ok;
}
