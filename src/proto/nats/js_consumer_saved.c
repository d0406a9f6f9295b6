/* What is durable of consumers: their items and cursors, made, deleted, and found again when their stream
 * is loaded. See js_consumer_int.h.
 *
 * A consumer is an item (JCONSUMER_NS) and, if it is acknowledged to, a cursor; both are there before
 * anybody is told of it. It goes when its stream remembers otherwise what was removed because of it:
 * then the cursor, then the item, so that what a crash leaves is deleted as a consumer once more. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "proto/nats/js_consumer_int.h"

#define PLACE_MS 1000u /* between savings of where a consumer is */

/* ---- its items ---- */

struct slice jconsumer_key(const struct jconsumer *c, char out[LIMIT_KV_KEY])
{
    size_t n = c->s->key_len + 1, name = strlen(c->conf.name);

    ASSERT(n + name <= LIMIT_KV_KEY);
    memcpy(out, c->s->key, n - 1);
    out[n - 1] = 0;
    memcpy(out + n, c->conf.name, name);
    return slice_of(out, n + name);
}

enum err jconsumer_save(struct jconsumer *c, broker_done_fn done, void *arg)
{
    json_t *o = json_pack("{s:o, s:I, s:I, s:I}", "config", jconsumer_conf_write(&c->conf),
                          "created", (json_int_t)c->created_ns, "start", (json_int_t)c->start,
                          "topic", (json_int_t)topic_id(c->s->topic));
    char key[LIMIT_KV_KEY], *text = json_dumps(o, JSON_COMPACT);
    enum err e =
        kv_put(c->js->b, JCONSUMER_NS, jconsumer_key(c, key), slice_str(text), 0, done, arg, NULL);

    json_decref(o);
    free(text);
    return e;
}

void jconsumer_moved(struct jconsumer *c)
{
    if (c->saved && !c->place_ms) {
        c->place_ms = jconsumer_now_ms(c) + PLACE_MS;
        jconsumer_due(c, c->place_ms);
    }
}

void jconsumer_place_save(struct jconsumer *c)
{
    char key[LIMIT_KV_KEY], text[128];

    c->place_ms = 0;
    snprintf(text, sizeof text, "[%" PRIu64 ",%" PRIu64 ",%" PRIu64 "]", c->next, c->dseq,
             c->last_seq);
    (void)kv_put(c->js->b, JPLACE_NS, jconsumer_key(c, key), slice_str(text), 0, NULL, NULL, NULL);
}

void jconsumer_items_drop(struct jconsumer *c, broker_done_fn done, void *arg)
{
    static const char *const spaces[] = {JPLACE_NS, JSPENT_NS};
    char key[LIMIT_KV_KEY];
    struct slice k = jconsumer_key(c, key);
    struct errinfo info;
    unsigned i;
    enum err e;

    for (i = 0; i < 2; i++)
        (void)kv_put(c->js->b, spaces[i], k, SLICE_NULL, 0, NULL, NULL, NULL);
    e = kv_put(c->js->b, JCONSUMER_NS, k, SLICE_NULL, 0, done, arg, &info);
    if (e && done)
        done(arg, e, &info);
}

/* ---- made ---- */

struct jmaking {
    struct jdone item, cursor;
    struct jconsumer *c; /* referenced */
    void (*then)(void *arg, enum err e);
    void *arg;
    unsigned left;
    enum err e;
};

static void making_end(struct jmaking *m, enum err e)
{
    struct jconsumer *c = m->c;

    m->e = m->e ? m->e : e;
    if (--m->left)
        return;
    if (c->acked && !m->e && !c->gone)
        jconsumer_cursor_found(c);
    if (m->then)
        m->then(m->arg, m->e);
    jconsumer_wake(c);
    jconsumer_unref(c);
    free(m);
}

static void item_made(struct jdone *d)
{
    making_end(list_entry(d, struct jmaking, item), d->e);
}

static void cursor_made(struct jdone *d)
{
    making_end(list_entry(d, struct jmaking, cursor), d->e);
}

void jconsumer_make(struct jconsumer *c, void (*then)(void *arg, enum err e), void *arg)
{
    struct jmaking *m;
    struct errinfo info;
    enum err e;

    if (!c->saved) {
        if (then)
            then(arg, ERR_OK);
        return;
    }
    m = xcalloc(1, sizeof *m);
    *m = (struct jmaking){.c = c, .then = then, .arg = arg, .left = c->acked ? 2 : 1};
    jconsumer_ref(c);
    jdone_begin(&m->item, c->s, item_made);
    e = jconsumer_save(c, jdone_call, &m->item);
    if (e)
        jdone_call(&m->item, e, NULL);
    if (!c->acked)
        return;
    jdone_begin(&m->cursor, c->s, cursor_made);
    e = cursor_make(c->js->b, slice_str(c->group), c->s->p, jstream_offset(c->s, c->start),
                    &c->lease, jdone_call, &m->cursor, &info);
    if (e)
        jdone_call(&m->cursor, e, &info);
}

/* ---- deleted ---- */

/* A consumer being deleted; its cursor goes when the stream knows otherwise what it has removed. */
struct jgone {
    struct jdone flush, d;
    struct jconsumer *c; /* referenced */
    void (*then)(void *arg, enum err e);
    void *arg;
};

static void gone_end(struct jgone *g, enum err e)
{
    if (g->then)
        g->then(g->arg, e);
    if (g->c->s->conf.retention == JRETENTION_INTEREST && !g->c->s->gone)
        jstream_interest_less(g->c->s);
    jconsumer_unref(g->c);
    free(g);
}

static void gone_done(struct jdone *d)
{
    gone_end(list_entry(d, struct jgone, d), d->e);
}

static void gone_flushed(struct jdone *d)
{
    struct jgone *g = list_entry(d, struct jgone, flush);
    struct jconsumer *c = g->c;

    jdone_begin(&g->d, c->s, gone_done);
    if (c->acked)
        (void)cursor_delete(c->js->b, slice_str(c->group), c->s->p, NULL, NULL, NULL);
    jconsumer_items_drop(c, jdone_call, &g->d);
}

void jconsumer_delete(struct jconsumer *c, void (*then)(void *arg, enum err e), void *arg)
{
    struct jgone *g = xcalloc(1, sizeof *g);
    bool saved = c->saved;

    g->c = c;
    g->then = then;
    g->arg = arg;
    jconsumer_ref(c);
    jconsumer_advise(c, "ADVISORY.CONSUMER.DELETED",
                     "io.nats.jetstream.advisory.v1.consumer_action",
                     json_pack("{s:s}", "action", "delete"));
    jconsumer_close(c, "NATS/1.0 409 Consumer Deleted");
    if (saved)
        jstream_flush(c->s, &g->flush, gone_flushed);
    else
        gone_end(g, ERR_OK);
}

/* ---- loaded ---- */

/* What was delivered before, and is not done, is delivered again. */
static void window_restore(struct jconsumer *c)
{
    struct cursor_info ci;
    uint64_t seq, dseq = c->dseq;
    uint16_t n;

    cursor_info_get(c->cursor, &ci);
    if (jstream_seq(c->s, ci.next) > c->next)
        c->next = jstream_seq(c->s, ci.next);
    for (seq = jstream_seq(c->s, ci.start); seq < c->next; seq++) {
        seq = jindex_next(&c->s->index, c->filter, seq);
        if (!seq || seq >= c->next)
            break;
        n = 0;
        if (!cursor_record_get(c->cursor, jstream_offset(c->s, seq), &n, NULL) &&
            jstream_offset(c->s, seq) < ci.next)
            continue;
        if (jconsumer_parked(c, seq)) { /* the cursor was not told in time */
            jconsumer_part(c, seq);
            continue;
        }
        jwindow_put(&c->window, seq, dseq++, n ? n : 1, c->created_ns);
    }
    c->dseq = dseq;
    c->last_seq = c->last_seq >= c->next ? c->last_seq : c->next - 1;
}

static void place_restore(struct jconsumer *c)
{
    char key[LIMIT_KV_KEY];
    struct buf b;
    json_t *v;

    buf_init(&b, LIMIT_KV_VALUE);
    if (!kv_get(c->js->b, JPLACE_NS, jconsumer_key(c, key), &b)) {
        v = json_loadb((const char *)b.ptr, b.len, 0, NULL);
        if (json_array_size(v) == 3) {
            c->next = (uint64_t)json_integer_value(json_array_get(v, 0));
            c->dseq = (uint64_t)json_integer_value(json_array_get(v, 1));
            c->last_seq = (uint64_t)json_integer_value(json_array_get(v, 2));
        }
        json_decref(v);
    }
    buf_fini(&b);
}

void jconsumer_restore(struct jstream *s, const json_t *o)
{
    struct jconsumer_conf conf;
    struct js_fault f;
    struct jconsumer *c;

    if (!jconsumer_conf_read(&conf, json_object_get(o, "config"), false, &f)) {
        LOG(s->js->n->conf.log, LOG_ERROR, "a consumer is not loaded",
            LOG_STR("stream", s->conf.name), LOG_STR("error", f.text));
        return;
    }
    if (!conf.name) {
        LOG(s->js->n->conf.log, LOG_ERROR, "a consumer is not loaded, as it has no name",
            LOG_STR("stream", s->conf.name));
        jconsumer_conf_fini(&conf);
        return;
    }
    c = jconsumer_new(s, &conf, json_integer_value(json_object_get(o, "created")));
    c->start = c->next = (uint64_t)json_integer_value(json_object_get(o, "start"));
    if (json_integer_value(json_object_get(o, "topic")) != topic_id(s->topic) ||
        (c->conf.mem_storage && !c->conf.durable)) {
        jconsumer_delete(c, NULL, NULL); /* of a stream before this one; or it was in memory */
        return;
    }
    if (c->acked)
        jconsumer_cursor_found(c);
    if (c->acked && !c->cursor) /* it was being made */
        jconsumer_make(c, NULL, NULL);
    place_restore(c);
    jspent_load(c);
    if (c->next < s->index.first)
        c->next = s->index.first;
    if (c->cursor)
        window_restore(c);
    c->replay_end = s->index.last;
    jconsumer_recount(c);
    jconsumer_wake(c);
}
