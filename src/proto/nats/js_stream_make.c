/* Streams are made, or found as they were saved. See js_stream.h.
 *
 * Made: it is put into the table, loading; its topic is made or found; its configuration is saved;
 * its log is read; its subscriptions begin; the request is answered. One that a backup is to come into
 * is saved as not whole, and goes if it does not come to be (js_restore.c). */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "base/topic_name.h"
#include "broker/removed.h"
#include "proto/nats/js_implicit.h"
#include "proto/nats/js_publish.h"
#include "proto/nats/js_schedule.h"
#include "proto/nats/js_snapshot.h"
#include "proto/nats/js_source.h"
#include "proto/nats/js_store.h"
#include "proto/nats/js_stream.h"
#include "proto/nats/js_transform.h"

/* ---- names of topics ---- */

/* What may not be in a topic's name is written as _xx, hexadecimal. */
static void topic_text(struct buf *out, struct slice s)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t i;

    for (i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];

        if (topic_name_valid(slice_of(&c, 1)) || (c == '.' && s.len > 1))
            buf_append_u8(out, c);
        else
            buf_printf(out, "_%c%c", hex[c >> 4], hex[c & 15]);
    }
}

static bool topic_of(const struct naccount *a, struct slice name, struct buf *out)
{
    buf_init(out, TOPIC_NAME_MAX);
    if (strcmp(a->name, "$G") != 0) {
        topic_text(out, slice_str(a->name));
        buf_append_str(out, ".");
    }
    topic_text(out, name);
    return topic_name_valid(buf_slice(out));
}

/* ---- its topic, its log ---- */

struct making {
    struct jdone done;
    struct jreq *r; /* NULL: it was there when the server began */
};

static void topic_conf_of(struct jstream *s, struct topic_conf *c)
{
    removed_topic_conf(s->js->b, c); /* js_store.c says what goes */
    if (s->conf.storage == JSTORAGE_MEMORY)
        c->durability = DURABILITY_OS;
    if (s->conf.compression == JCOMPRESSION_S2)
        topic_conf_set(c, SLICE_LIT("compression.type"), SLICE_LIT("lz4"), NULL);
}

static void making_failed(struct making *m, const char *why)
{
    struct jstream *s = m->done.s;

    s->loading = false;
    s->gone = true;
    js_stream_take(s->js, s);
    if (s->restoring)
        js_fail(m->r, "stream_restore", JSE_STREAM_RESTORE, "%s", why);
    else
        js_fail(m->r, "stream_create", JSE_STREAM_CREATE, "%s", why);
    jstream_waits_run(s);
    free(m);
}

static void ready(struct jstream *s, void *arg)
{
    struct making *m = arg;
    struct errinfo info = {0};

    s->loading = false;
    if (!s->gone) {
        jconsumers_load(s, &info);
        if (!s->pub) {
            jpublish_begin(s);
            if (!s->restoring)
                jstream_subs_begin(s);
        }
        if (!s->restoring) {
            jpublish_loaded(s);
            jsources_begin(s);
            jschedules_begin(s);
        }
        if (s->implicit)
            jimplicit_loaded(s);
    }
    if (m->r && s->restoring) {
        jrestore_begin(m->r);
    } else if (m->r) {
        jstream_advise(s, "create");
        jstream_answer(m->r, "stream_create", true);
    }
    free(m);
    jstream_waits_run(s);
}

bool jstream_topic(struct jstream *s, struct topic *t)
{
    s->topic = t;
    atomic_store(&s->topic_no, t ? topic_id(t) : 0);
    if (!s->topic || topic_partitions(s->topic) != 1)
        return false;
    s->p = topic_partition(s->topic, 0);
    s->first_seq = jsources_base(s);
    s->mirrored = s->first_seq || s->conf.mirror;
    if (!s->first_seq)
        s->first_seq = s->conf.first_seq ? s->conf.first_seq : 1;
    return true;
}

void jstream_open(struct jstream *s)
{
    jstore_open(s, ready, xcalloc(1, sizeof(struct making)));
}

static void saved(struct jdone *d)
{
    struct making *m = list_entry(d, struct making, done);

    if (d->e)
        making_failed(m, err_text(d->e));
    else
        jstore_open(d->s, ready, m);
}

static void topic_made(struct jdone *d)
{
    struct making *m = list_entry(d, struct making, done);
    struct jstream *s = d->s;
    struct buf name;
    char text[128];
    enum err e;
    bool ok;

    if (d->e == ERR_TOPIC_EXISTS && s->restoring) { /* what fails takes its topic with it */
        making_failed(m, "there is a topic of this name, which others may have written to");
        return;
    }
    if (d->e && d->e != ERR_TOPIC_EXISTS) {
        making_failed(m, err_text(d->e));
        return;
    }
    topic_of(s->account, jstream_name(s), &name);
    ok = jstream_topic(s, topic_find(s->js->b, buf_slice(&name)));
    buf_fini(&name);
    if (!ok) {
        snprintf(text, sizeof text, "the topic has %d partitions; JetStream needs one",
                 s->topic ? (int)topic_partitions(s->topic) : 0);
        making_failed(m, text);
        return;
    }
    if ((e = jstream_save(s, &m->done, saved)))
        making_failed(m, err_text(e));
}

/* On the stream's loop. */
static void make_run(struct jreq *r)
{
    struct making *m = xcalloc(1, sizeof *m);
    struct jstream *s = r->stream;
    struct errinfo info = {0};
    struct topic_conf conf;
    struct buf name;
    enum err e;

    m->r = r;
    jdone_begin(&m->done, s, topic_made);
    topic_conf_of(s, &conf);
    e = ERR_TOPIC_NAME;
    if (topic_of(s->account, jstream_name(s), &name))
        e = topic_create(s->js->b, buf_slice(&name), 1, &conf, jdone_call, &m->done, &info);
    buf_fini(&name);
    if (e == ERR_TOPIC_EXISTS)
        jdone_call(&m->done, e, &info);
    else if (e) {
        jstream_ref(s);
        jdone_cancel(&m->done);
        making_failed(m, info.text[0] ? info.text : err_text(e));
        jstream_unref(s);
    }
}

/* ---- requests ---- */

/* There is one with this name: the same again is fine; one that nobody made gives way. */
static void again_run(struct jreq *r)
{
    struct jstream *s = r->stream;
    struct jstream_conf c;
    struct js_fault f;

    if (s->implicit && !s->gone && jconsumers_count(s)) {
        js_fail(r, "stream_create", JSE_STREAM_CREATE,
                "the topic is a stream with consumers already; delete them first");
        return;
    }
    if (s->implicit) {
        if (!s->gone)
            jstream_close(s);
        r->stream = NULL;
        js_post(r, r->ja->l, js_stream_create);
        jstream_unref(s);
        return;
    }
    if (s->gone) {
        js_fail(r, "stream_create", JSE_STREAM_NOT_FOUND, NULL);
        return;
    }
    if (!jstream_conf_read(&c, r->json, false, &f)) {
        js_fault(r, "stream_create", &f);
        return;
    }
    c.allow_batched = false; /* as it was made: see supported */
    if (!jstream_conf_check(&c, false, &f))
        js_fault(r, "stream_create", &f);
    else if (jstream_conf_equal(&c, &s->conf))
        jstream_answer(r, "stream_create", true);
    else
        js_fail(r, "stream_create", JSE_STREAM_NAME_EXIST, NULL);
    jstream_conf_fini(&c);
}

bool jstream_supported(struct jstream_conf *c, struct js_fault *f)
{
    const struct jtransform *t = c->transform;
    const struct jrepublish *r = c->republish;

    c->allow_batched = false; /* not granted: clients do without, as with older servers */
    if (!jsources_supported(c, f))
        return false;
    if (t && t->dest && !jtransform_valid(slice_str(t->src), slice_str(t->dest)))
        return js_fault_set(f, JSE_STREAM_TRANSFORM_INVALID_DESTINATION, "%s",
                            "invalid mapping destination");
    if (r && r->dest && !jtransform_valid(slice_str(r->src), slice_str(r->dest)))
        return js_fault_set(f, JSE_STREAM_INVALID_CONFIG, "%s",
                            "stream configuration for republish with transform from source to "
                            "destination not valid");
    return true;
}

/* Checks that need not know other streams. */
static bool create_check(struct jreq *r, struct jstream_conf *c, struct js_fault *f)
{
    bool pedantic = json_is_true(json_object_get(r->json, "pedantic"));
    struct buf topic;
    bool ok;

    if (!c->name || !slice_eq_str(js_token(r->subject, 2), c->name) || js_token(r->subject, 3).len)
        return js_fault_set(f, JSE_STREAM_MISMATCH, NULL);
    if (c->sealed)
        return js_fault_set(f, JSE_STREAM_INVALID_CONFIG, "%s",
                            "stream configuration for create can not be sealed");
    if (!jstream_conf_check(c, pedantic, f) || !jstream_supported(c, f))
        return false;
    ok = topic_of(r->account, slice_str(c->name), &topic);
    buf_fini(&topic);
    if (!ok)
        return js_fault_set(f, JSE_STREAM_INVALID_CONFIG, "%s", "stream name is too long");
    return true;
}

bool jstream_origins_check(struct jstream *s, struct js_fault *f)
{
    if (js_origins_cycle(s))
        return js_fault_set(f, JSE_STREAM_INVALID_CONFIG, "%s", "detected cycle");
    if (!js_origins_fit(s))
        return js_fault_set(f,
                            s->conf.mirror ? JSE_MIRROR_MAX_MESSAGE_SIZE_TOO_BIG
                                           : JSE_SOURCE_MAX_MESSAGE_SIZE_TOO_BIG,
                            NULL);
    return true;
}

/* r->json is the configuration. restoring: a backup is to come into it. */
static void create(struct jreq *r, const char *type, bool restoring)
{
    struct jstream_conf c;
    struct js_fault f;
    struct jstream *s;
    enum err e;

    if (!jstream_conf_read(&c, r->json, false, &f)) {
        js_fault(r, type, &f);
        return;
    }
    if (!create_check(r, &c, &f)) {
        jstream_conf_fini(&c);
        js_fault(r, type, &f);
        return;
    }
    if ((r->stream = js_stream_find(r->js, r->account, slice_str(c.name)))) {
        jstream_conf_fini(&c);
        if (restoring)
            js_fail(r, type, JSE_STREAM_NAME_EXIST_RESTORE_FAILED, NULL);
        else
            js_post_stream(r, again_run);
        return;
    }
    if (restoring && c.sources.n) {
        jstream_conf_fini(&c);
        js_fail(r, type, JSE_STREAM_RESTORE, "streams with sources are not restored");
        return;
    }
    s = jstream_new(r->js, r->account, slice_str(c.name));
    s->conf = c;
    s->restoring = restoring;
    s->created_ns = js_now_ns(r->js);
    e = js_stream_put(r->js, s);
    if (e) {
        js_fail(r, type, e == ERR_CONFLICT ? JSE_STREAM_SUBJECT_OVERLAP : JSE_MAXIMUM_STREAMS_LIMIT,
                NULL);
        jstream_unref(s);
        return;
    }
    if (!jstream_origins_check(s, &f)) {
        js_stream_take(r->js, s);
        jstream_unref(s);
        js_fault(r, type, &f);
        return;
    }
    r->stream = s; /* its reference */
    js_post(r, s->l, make_run);
}

void js_stream_create(struct jreq *r)
{
    create(r, "stream_create", false);
}

void js_stream_restore_request(struct jreq *r)
{
    json_t *config = json_incref(json_object_get(r->json, "config"));

    if (!r->json) {
        js_fail(r, "stream_restore", JSE_BAD_REQUEST, NULL);
        return;
    }
    json_decref(r->json);
    r->json = config;
    create(r, "stream_restore", true);
}

/* ---- as it was saved ---- */

void jstream_restore(struct js *js, struct naccount *a, struct slice name, struct slice text)
{
    json_t *o = json_loadb((const char *)text.ptr, text.len, 0, NULL);
    struct topic *t = topic_find(js->b, slice_str(json_string_value(json_object_get(o, "topic"))));
    struct jstream *s = jstream_new(js, a, name);
    struct making *m;
    struct js_fault f = {0};

    s->created_ns = json_integer_value(json_object_get(o, "created"));
    s->topic = t;
    s->taken = json_deep_copy(json_object_get(o, "taken"));
    s->takes_any = json_is_true(json_object_get(o, "any"));
    if (!jstream_conf_read(&s->conf, json_object_get(o, "config"), false, &f)) {
        ; /* of a newer version: it stays as it is, and is nobody's */
    } else if (!t || topic_id(t) != json_integer_value(json_object_get(o, "id")) ||
               !jstream_topic(s, t)) {
        /* it was deleted, by another protocol perhaps */
        kv_put(js->b, JS_STREAM_NS, slice_of(s->key, s->key_len), SLICE_NULL, 0, NULL, NULL, NULL);
    } else if (json_is_true(json_object_get(o, "restoring"))) {
        /* a backup of which only a part came: nobody has been told that it is there */
        topic_delete(js->b, slice_str(topic_name(t)), NULL, NULL, NULL);
        kv_put(js->b, JS_STREAM_NS, slice_of(s->key, s->key_len), SLICE_NULL, 0, NULL, NULL, NULL);
    } else if (!js_stream_put(js, s)) {
        m = xcalloc(1, sizeof *m);
        jpublish_begin(s); /* what is published meanwhile waits */
        jstream_subs_begin(s);
        jstore_open(s, ready, m);
    }
    jstream_unref(s);
    json_decref(o);
}
