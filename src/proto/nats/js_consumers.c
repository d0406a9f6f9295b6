/* All consumers of a stream: the messages that come for them, and what the stream tells them. See
 * js_int.h, js_consumer_int.h. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/subject.h"
#include "proto/nats/js_consumer_int.h"
#include "proto/nats/js_header.h"
#include "proto/nats/js_source.h"

/* Subscriptions of a stream's consumers. */
struct jconsumers {
    struct nsub *ack, *flow, *next;
    atomic_bool pressed; /* never: acknowledgements make room */
};

/* ---- messages ---- */

/* The consumer whose name comes first in the subject behind the prefix; the rest of it. */
static struct jconsumer *named(struct jstream *s, const struct nsub *sub, const struct nmsg *m,
                               struct slice *rest)
{
    size_t prefix = sub->in.subject.len - 1; /* without > or * */
    struct slice name;

    *rest = slice_of(m->subject.ptr + prefix, m->subject.len - prefix);
    return subject_token(rest, &name) ? jconsumer_find(s, name) : NULL;
}

static struct slice payload_of(const struct nmsg *m)
{
    return slice_of(m->body.ptr + m->header_len, m->body.len - m->header_len);
}

static void on_ack(struct nsub *sub, struct nmsg *m)
{
    struct slice tail;
    struct jconsumer *c = named(sub->arg, sub, m, &tail);

    if (c)
        jack_take(c, tail, m->reply, payload_of(m));
}

static void on_flow(struct nsub *sub, struct nmsg *m)
{
    struct slice tail;
    struct jconsumer *c = named(sub->arg, sub, m, &tail);

    if (c)
        jpush_flow(c, tail, slice_of(m->body.ptr, m->header_len));
}

/* What a client hears that asks where nobody is. */
struct jnobody {
    struct jlater later;
    struct jstream *s; /* referenced */
    size_t len;
    uint8_t to[];
};

static void nobody_say(struct jlater *j)
{
    struct jnobody *x = list_entry(j, struct jnobody, later);

    js_send_status(x->s->l, x->s->account, slice_of(x->to, x->len), NHEADER_LINE " 503", NULL);
    jstream_unref(x->s);
    free(x);
}

static void nobody(struct jstream *s, struct slice to)
{
    struct jnobody *x;

    if (!to.len)
        return;
    x = xcalloc(1, sizeof *x + to.len);
    x->later.fn = nobody_say;
    x->s = jstream_ref(s);
    x->len = to.len;
    memcpy(x->to, to.ptr, to.len);
    js_later(js_loop(s->js, s->l), &x->later);
}

static void on_next(struct nsub *sub, struct nmsg *m)
{
    struct slice tail;
    struct jstream *s = sub->arg;
    struct jconsumer *c = named(s, sub, m, &tail);

    if (c)
        jpull_asked(c, m->reply, payload_of(m));
    else
        nobody(s, m->reply);
}

static struct nsub *subscribe(struct jstream *s, const char *prefix, const char *suffix,
                              nats_handle_fn fn)
{
    char *subject = jconsumer_text(prefix, s->conf.name, suffix, "");
    struct nsub *sub =
        nats_sub_new(s->l, s->account, slice_str(subject), SLICE_NULL, fn, s, &s->jc->pressed);

    free(subject);
    return sub;
}

/* ---- begin and end ---- */

struct jloading {
    struct jstream *s;
    struct jsaved *list;
};
struct jsaved {
    struct jsaved *next;
    json_t *o;
};

static bool note_saved(void *arg, struct slice key, struct slice value)
{
    struct jloading *l = arg;
    struct jsaved *v;
    json_error_t je;

    if (key.len <= l->s->key_len || !slice_has_prefix(key, slice_of(l->s->key, l->s->key_len + 1)))
        return true;
    v = xcalloc(1, sizeof *v);
    v->o = json_loadb((const char *)value.ptr, value.len, 0, &je);
    v->next = l->list;
    l->list = v;
    return true;
}

/* What was acknowledged before, and its removal was not saved: it is removed again. */
static void removals_redo(struct jconsumer *c)
{
    struct jstream *s = c->s;
    struct cursor_info ci;
    int64_t offset;
    uint64_t seq, last;

    if (!c->cursor || s->conf.retention == JRETENTION_LIMITS)
        return;
    cursor_info_get(c->cursor, &ci);
    last = jstream_seq(s, ci.next);
    for (seq = jindex_next(&s->index, c->filter, c->start); seq && seq < last;
         seq = jindex_next(&s->index, c->filter, seq + 1)) {
        offset = jstream_offset(s, seq);
        if (!cursor_record_get(c->cursor, offset, NULL, NULL) && !jconsumer_parked(c, seq))
            jstream_acked(s, seq);
    }
}

enum err jconsumers_load(struct jstream *s, struct errinfo *info)
{
    uint32_t at = 0;
    void *c;
    struct jloading l = {.s = s};
    struct jsaved *v;

    s->jc = xcalloc(1, sizeof *s->jc);
    atomic_init(&s->jc->pressed, false);
    s->jc->ack = subscribe(s, "$JS.ACK.", ".>", on_ack);
    s->jc->flow = subscribe(s, "$JS.FC.", ".>", on_flow);
    s->jc->next = subscribe(s, "$JS.API.CONSUMER.MSG.NEXT.", ".*", on_next);
    kv_each(s->js->b, JCONSUMER_NS, note_saved, &l);
    while ((v = l.list)) {
        l.list = v->next;
        jconsumer_restore(s, v->o);
        json_decref(v->o);
        free(v);
    }
    while (map_next(&s->consumers, &at, NULL, &c))
        removals_redo(c);
    if (s->jc->ack && s->jc->flow && s->jc->next)
        return ERR_OK;
    return errinfo_set(info, ERR_LIMIT, "there are too many subscriptions");
}

void jconsumers_end(struct jstream *s)
{
    bool ending = atomic_load(&s->js->ending);
    struct jconsumer *c;
    uint32_t at = 0;
    void *v;

    for (; map_next(&s->consumers, &at, NULL, &v); at = 0) {
        c = v;
        if (c->saved && ending && c->place_ms)
            jconsumer_place_save(c);
        else if (c->saved && !ending)
            jconsumer_items_drop(c, NULL, NULL);
        jconsumer_close(c, ending ? NULL : "NATS/1.0 409 Consumer Deleted");
    }
    if (!s->jc)
        return;
    nats_sub_end(s->jc->ack, s->account);
    nats_sub_end(s->jc->flow, s->account);
    nats_sub_end(s->jc->next, s->account);
    s->jc->ack = s->jc->flow = s->jc->next = NULL;
}

void jconsumers_fini(struct jstream *s)
{
    ASSERT(!s->consumers.n);
    free(s->jc);
    s->jc = NULL;
}

/* ---- what the stream tells ---- */

#define EACH_CONSUMER(s, c, at, v) \
    for (at = 0; map_next(&(s)->consumers, &at, NULL, &v) && ((c) = v);)

uint32_t jconsumers_count(const struct jstream *s)
{
    return s->consumers.n;
}

static bool takes(struct jconsumer *c, uint64_t seq)
{
    struct jindex_msg m;

    return jindex_get(&c->s->index, seq, &m) &&
           (!c->filter || jfilter_takes(c->filter, &c->s->index, m.subject));
}

void jconsumers_stored(struct jstream *s, uint64_t first, uint64_t last)
{
    struct jconsumer *c;
    uint64_t seq, n;
    uint32_t at;
    void *v;

    jsources_stored(s);
    EACH_CONSUMER(s, c, at, v)
    {
        n = 0;
        for (seq = first > c->counted ? first : c->counted + 1; seq <= last; seq++)
            n += jconsumer_ahead(c, seq) && takes(c, seq);
        c->counted = last > c->counted ? last : c->counted;
        c->pending += n;
        if (n)
            jconsumer_wake(c);
    }
}

void jconsumers_removed(struct jstream *s, uint64_t seq)
{
    struct jconsumer *c;
    uint32_t at;
    void *v;

    EACH_CONSUMER(s, c, at, v)
    {
        if (jconsumer_ahead(c, seq)) {
            if (seq <= c->counted && c->pending && takes(c, seq) &&
                (!c->cursor || jconsumer_open(c, seq)))
                c->pending--; /* what was acknowledged ahead is not counted any more */
        } else if (c->acked) {
            jack_void(c, seq, "Message deleted by stream limits");
        }
    }
}

void jconsumers_purged(struct jstream *s, uint64_t first)
{
    struct jconsumer *c;
    struct jgiven *g;
    uint32_t at;
    void *v;

    EACH_CONSUMER(s, c, at, v)
    {
        while ((g = jwindow_from(&c->window, 0)) && g->seq < first)
            jwindow_done(&c->window, g); /* the cursor begins where the log does */
        if (c->next < first) {
            c->next = first;
            c->last_seq = first - 1;
        }
        jconsumer_recount(c);
        jconsumer_moved(c);
        jconsumer_wake(c);
    }
}

void jconsumers_changed(struct jstream *s)
{
    struct jconsumer *c;
    uint32_t at;
    void *v;

    EACH_CONSUMER(s, c, at, v)
    {
        jconsumer_configure(c);
    }
}

static bool wants(struct jconsumer *c, uint64_t seq)
{
    if (!takes(c, seq) || c->conf.direct)
        return false;
    if (seq >= c->next && (seq < c->start || !jconsumer_ahead(c, seq)))
        return false;
    if (!c->acked)
        return seq >= c->next;
    if (!c->cursor)
        return seq >= c->start;
    return jconsumer_open(c, seq) || jconsumer_parked(c, seq);
}

bool jconsumers_want(struct jstream *s, uint64_t seq)
{
    struct jconsumer *c;
    uint32_t at;
    void *v;

    EACH_CONSUMER(s, c, at, v)
    {
        if (wants(c, seq))
            return true;
    }
    return false;
}

bool jconsumers_take(struct jstream *s, struct slice subject)
{
    struct jconsumer *c;
    uint32_t at;
    void *v;

    EACH_CONSUMER(s, c, at, v)
    {
        if (!c->conf.direct && (!c->filter || jfilter_takes_name(c->filter, subject)))
            return true;
    }
    return false;
}
