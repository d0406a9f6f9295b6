/* A message for one of a stream's subjects comes: it is checked and put into the open batch, or refused.
 * See js_publish_int.h, which tells how it goes on. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "proto/nats/js_batch.h"
#include "proto/nats/js_counter.h"
#include "proto/nats/js_publish_int.h"
#include "proto/nats/js_transform.h"

/* ---- a message comes ---- */

/* Whether it was there before, or is on its way: then it is answered so. */
static bool known(struct jpublish *p, struct slice reply, struct slice id)
{
    uint64_t seq = jstore_dedup_find(p->s, id);
    struct jpub_entry *e;

    if (!seq)
        return false;
    if (reply.len && !p->s->conf.no_ack) {
        e = jpub_entry_add(p, JPUB_KNOWN, SLICE_NULL, reply, seq == UINT64_MAX ? id : SLICE_NULL,
                           SLICE_NULL);
        e->seq = seq;
    }
    return true;
}

struct slice jpub_mapped(struct jpublish *p, struct slice subject)
{
    const struct jtransform *t = p->s->conf.transform;

    return t && t->dest &&
                   jtransform_apply(slice_str(t->src), slice_str(t->dest), subject, &p->mapped)
               ? buf_slice(&p->mapped)
               : subject;
}

/* A schedule replaces the one before it. */
static void amend_schedule(struct jwish *w, struct jmsg *m, struct buf *text)
{
    w->facts.rollup = JROLLUP_SUBJECT;
    buf_clear(text);
    buf_append(text, m->headers.ptr, m->headers.len - 2);
    buf_append_str(text, "Nats-Rollup: sub\r\n\r\n");
    w->facts.bytes += (uint32_t)(text->len - m->headers.len);
    m->headers = buf_slice(text);
}

enum err jpub_amend(struct jpublish *p, struct jwish *w, struct jmsg *m, bool copied,
                    struct buf *text, struct js_fault *f)
{
    if (w->incr.len && p->s->conf.allow_counter)
        return jcounters_add(p->s, w, m, copied, text, f);
    if (w->facts.schedule.pattern.len && !w->facts.rollup && !copied)
        amend_schedule(w, m, text);
    return ERR_OK;
}

enum err jpub_store(struct jpublish *p, struct slice reply, const struct jwish *w,
                    struct slice headers, struct slice payload)
{
    struct append_slot slot;
    enum err err = jpub_record_put(p, w, headers, payload, &slot);

    if (err)
        return err;
    jpub_entry_stored(p, w, reply, headers, payload, slot);
    jpub_batch_count(p, slot, slot, 1, w->facts.bytes);
    jpub_ahead_add(p, w->facts.subject, jpub_last_seq(p));
    jcounters_note(p->s, w, jpub_last_seq(p));
    buf_clear(&p->last_id);
    if (w->facts.msg_id.len) {
        buf_append_slice(&p->last_id, w->facts.msg_id);
        if (p->s->conf.duplicates_ns > 0)
            jstore_dedup_begin(p->s, w->facts.msg_id);
    }
    jpub_pressed_set(p);
    return ERR_OK;
}

static void message_refuse(struct jpublish *p, struct slice reply, const struct js_fault *f,
                           bool lost)
{
    jpub_refuse(p, reply, f);
    if (!reply.len && (lost || f->e == JSE_STREAM_TOO_MANY_REQUESTS))
        jpub_lose(p, 1, f->text);
}

/* False: it waits, as there is more in the log than was looked at. */
static bool message_take(struct jpublish *p, struct jwish *w, struct slice reply,
                         struct slice headers, struct slice payload, bool may_wait)
{
    struct jmsg m = {.headers = headers, .payload = payload};
    struct js_fault f;
    enum err e;

    if (w->facts.msg_id.len && p->s->conf.duplicates_ns > 0 && known(p, reply, w->facts.msg_id))
        return true;
    if (!jpub_check(p, w, headers, payload, &f)) {
        if (may_wait && jpub_knows_more(p, w))
            return false;
        message_refuse(p, reply, &f, false);
        return true;
    }
    e = jpub_amend(p, w, &m, false, &p->amended, &f);
    if (e == ERR_AGAIN)
        return false;
    if (!e && w->sum.len)
        buf_printf(&p->tail, ", \"val\": \"%.*s\"", (int)w->sum.len, (const char *)w->sum.ptr);
    if (!e && (e = jpub_store(p, reply, w, m.headers, m.payload)))
        js_fault_set(&f, JSE_STREAM_STORE_FAILED, "%s", err_text(e));
    if (e) {
        buf_clear(&p->tail);
        message_refuse(p, reply, &f, e != ERR_INVALID);
    }
    return true;
}

bool jpub_message(struct jpublish *p, struct slice as, struct slice reply, struct slice headers,
                  struct slice payload, bool may_wait)
{
    struct slice subject = jpub_mapped(p, as);
    struct jwish w = {.facts.subject = subject};
    bool depending;

    if (headers.len)
        jwish_read(&w, headers);
    if (w.batch.len) {
        if (!jbatches_ready(p->s, &w))
            return false;
        jpub_guard_begin(p, false);
        jbatches_take(p->s, &w,
                      &(struct jmsg){.subject = subject, .headers = headers, .payload = payload},
                      reply);
        return true;
    }
    w.facts.bytes = jstream_msg_bytes(subject.len, headers.len, payload.len);
    depending = jpub_depends(p, &w);
    if (depending)
        jpub_guard_begin(p, true);
    if (!message_take(p, &w, reply, headers, payload, may_wait))
        return false;
    if (depending || (p->open && p->open->guarded))
        jpub_guard_tell(p, depending, jpub_held_new(as, reply, headers, payload, SLICE_NULL));
    return true;
}

void jpublish_handle(struct nsub *sub, struct nmsg *m)
{
    struct jstream *s = sub->arg;
    struct jpublish *p = s->pub;

    if (s->gone || !p || p->stopped)
        return;
    if (s->loading || p->redoing || !list_empty(&p->held) ||
        !jpub_message(p, m->subject, m->reply, slice_of(m->body.ptr, m->header_len),
                      slice_of(m->body.ptr + m->header_len, m->body.len - m->header_len), true))
        jpub_hold(p, m);
}

void jpublish_loaded(struct jstream *s)
{
    jpub_held_go_on(s->pub);
}

void jpublish_go_on(struct jstream *s)
{
    struct jpublish *p = s->pub;

    if (p && !p->stopped && !s->loading && !p->redoing)
        jpub_held_go_on(p);
}

void jpublish_own(struct jstream *s, struct slice subject, struct slice headers,
                  struct slice payload)
{
    if (s->pub && !s->pub->stopped)
        jpub_message(s->pub, subject, SLICE_NULL, headers, payload, false);
}

void jpublish_marker(struct jstream *s, struct slice subject, const char *reason)
{
    char text[256];
    int n = snprintf(text, sizeof text,
                     "NATS/1.0\r\nNats-Marker-Reason: %s\r\nNats-TTL: %" PRId64 "s\r\n"
                     "Nats-Rollup: sub\r\n\r\n",
                     reason, s->conf.marker_ttl_ns / 1000000000);

    jpublish_own(s, subject, slice_of(text, (size_t)n), SLICE_NULL);
}

void jpublish_answer(struct jstream *s, struct slice reply, const struct js_fault *f)
{
    if (f)
        jpub_refuse(s->pub, reply, f);
    else if (reply.len && !s->conf.no_ack)
        jpub_entry_add(s->pub, JPUB_REFUSED, SLICE_NULL, reply, SLICE_NULL, SLICE_NULL);
}

/* ---- begin and end ---- */

void jpublish_changed(struct jstream *s)
{
    struct jpublish *p = s->pub;
    json_t *name = json_string(s->conf.name);
    char *text = json_dumps(name, JSON_ENCODE_ANY);
    size_t room = strlen(text) + 32;

    json_decref(name);
    free(p->ack);
    p->ack = xmalloc(room);
    p->ack_len = (size_t)snprintf(p->ack, room, "{\"stream\":%s, \"seq\":", text);
    free(text);
}

void jpublish_begin(struct jstream *s)
{
    struct jpublish *p = s->pub = xcalloc(1, sizeof *p);

    p->s = s;
    jpub_append_begin(p);
    list_init(&p->held);
    u64map_init(&p->last, LIMIT_JS_BLOCKS, 0);
    u64map_init(&p->count, LIMIT_JS_BLOCKS, 0);
    buf_init(&p->last_id, SIZE_MAX);
    buf_init(&p->tail, SIZE_MAX);
    buf_init(&p->schedule, SIZE_MAX);
    buf_init(&p->amended, SIZE_MAX);
    buf_init(&p->mapped, SIZE_MAX);
    buf_init(&p->sent, SIZE_MAX);
    jpublish_changed(s);
}

void jpublish_stop(struct jstream *s)
{
    struct jpublish *p = s->pub;

    if (!p || p->stopped)
        return;
    p->stopped = true;
    p->redoing = false;
    jpub_reserve_end(p);
    jpub_held_drop(p);
    jpub_append_stop(p);
}

void jpublish_free(struct jstream *s)
{
    struct jpublish *p = s->pub;

    if (!p)
        return;
    ASSERT(!p->open && !p->spare && !p->under_way && list_empty(&p->closed) &&
           list_empty(&p->held));
    u64map_fini(&p->last);
    u64map_fini(&p->count);
    buf_fini(&p->last_id);
    buf_fini(&p->tail);
    buf_fini(&p->schedule);
    buf_fini(&p->amended);
    buf_fini(&p->mapped);
    buf_fini(&p->sent);
    free(p->headers);
    free(p->ack);
    free(p);
    s->pub = NULL;
}
