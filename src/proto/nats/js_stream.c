/* A stream's life: what it has, how it is changed, purged, deleted. See js_stream.h.
 *
 * Deleted: it is taken out of the table, its topic is deleted, then what is saved of it; a crash
 * between the two finds the saved configuration without its topic at the next start, and drops it. */
#include "proto/nats/js_stream.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "proto/nats/js_batch.h"
#include "proto/nats/js_counter.h"
#include "proto/nats/js_get.h"
#include "proto/nats/js_implicit.h"
#include "proto/nats/js_publish.h"
#include "proto/nats/js_schedule.h"
#include "proto/nats/js_snapshot.h"
#include "proto/nats/js_source.h"
#include "proto/nats/js_store.h"

/* ---- subjects ---- */

static bool taken_has(const struct jstream *s, const char *pattern)
{
    size_t i;

    for (i = 0; i < json_array_size(s->taken); i++)
        if (strcmp(json_string_value(json_array_get(s->taken, i)), pattern) == 0)
            return true;
    return false;
}

/* What the configuration takes now is noted. */
static void taken_add(struct jstream *s)
{
    unsigned i;

    if (!s->taken)
        s->taken = json_array();
    for (i = 0; i < s->conf.subjects.n; i++) {
        const char *pattern = (const char *)jlist_text(&s->conf.subjects, i).ptr;

        if (!taken_has(s, pattern))
            json_array_append_new(s->taken, json_string(pattern));
    }
    s->takes_any = s->takes_any || s->conf.mirror || s->conf.sources.n || s->conf.transform;
}

struct jfilter *jstream_taken(const struct jstream *s)
{
    size_t n = json_array_size(s->taken), i;
    struct jfilter *f;
    struct slice *v;

    if (s->takes_any || !n)
        return NULL;
    v = xcalloc(n, sizeof *v);
    for (i = 0; i < n; i++)
        v[i] = slice_str(json_string_value(json_array_get(s->taken, i)));
    f = jfilter_new(v, (unsigned)n);
    free(v);
    return f;
}

/* ---- what is saved ---- */

static json_t *saved_of(const struct jstream *s)
{
    return json_pack("{s:o, s:I, s:s, s:I, s:O, s:b, s:b}", "config", jstream_conf_write(&s->conf),
                     "created", (json_int_t)s->created_ns, "topic", topic_name(s->topic), "id",
                     (json_int_t)topic_id(s->topic), "taken", s->taken, "any", s->takes_any,
                     "restoring", s->restoring);
}

enum err jstream_save(struct jstream *s, struct jdone *d, void (*fn)(struct jdone *d))
{
    char *text;
    json_t *o;
    enum err e;

    taken_add(s);
    o = saved_of(s);
    text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    jdone_begin(d, s, fn);
    e = kv_put(s->js->b, JS_STREAM_NS, slice_of(s->key, s->key_len), slice_str(text), 0, jdone_call,
               d, NULL);
    free(text);
    if (e)
        jdone_cancel(d);
    return e;
}

/* ---- one of them ---- */

struct jstream *jstream_new(struct js *js, struct naccount *a, struct slice name)
{
    size_t n = strlen(a->name) + 1;
    struct jstream *s = xcalloc(1, sizeof *s + n + name.len + 1);

    s->js = js;
    s->account = a;
    s->ja = js_account_of(js, a);
    s->l = js_loop_for(js, a, name);
    atomic_init(&s->refs, 1);
    atomic_init(&s->pressed, false);
    s->loading = true;
    s->first_seq = 1;
    memcpy(s->key, a->name, n);
    memcpy(s->key + n, name.ptr, name.len);
    s->key_len = n + name.len;
    list_init(&s->waits);
    list_init(&s->askers);
    list_init(&s->snapshots);
    map_init(&s->consumers, LIMIT_JS_CONSUMERS, js->seed);
    jindex_init(&s->index, 1, js->seed);
    return s;
}

void jstream_free(struct jstream *s)
{
    unsigned i;

    jconsumers_fini(s);
    ASSERT(list_empty(&s->waits) && list_empty(&s->askers) && !s->subs && !s->src);
    jpublish_free(s);
    jstore_free(s);
    jschedules_free(s);
    jcounters_free(s);
    jindex_fini(&s->index);
    map_fini(&s->consumers);
    for (i = 0; i < s->claimed_n; i++)
        free(s->claimed[i]);
    free(s->claimed);
    for (i = 0; i < s->origins_n; i++)
        free(s->origins[i]);
    free(s->origins);
    json_decref(s->taken);
    topic_unref(&s->topic);
    jstream_conf_fini(&s->conf);
    free(s);
}

void jstream_subs_end(struct jstream *s)
{
    unsigned i;

    for (i = 0; i < s->subs_n; i++)
        nats_sub_end(s->subs[i], s->account);
    free(s->subs);
    s->subs = NULL;
    s->subs_n = 0;
}

void jstream_subs_begin(struct jstream *s)
{
    unsigned i;

    jstream_note(s);
    s->subs_n = s->conf.mirror || s->implicit ? 0 : s->conf.subjects.n;
    s->subs = xcalloc(s->subs_n + 1, sizeof(struct nsub *));
    for (i = 0; i < s->subs_n; i++)
        s->subs[i] = nats_sub_new(s->l, s->account, jlist_text(&s->conf.subjects, i), SLICE_NULL,
                                  jpublish_handle, s, &s->pressed);
}

void jstream_close(struct jstream *s)
{
    if (s->implicit)
        loop_timer_cancel(s->l->loop, &s->idle);
    jstream_subs_end(s);
    jconsumers_end(s);
    s->gone = true;
    jrestore_end(s);
    jsnapshots_end(s);
    jsources_end(s);
    jschedules_end(s);
    jcounters_end(s);
    jbatches_end(s);
    jpublish_stop(s);
    jstore_stop(s);
    js_stream_take(s->js, s);
}

/* ---- changing ---- */

struct changing {
    struct jdone done;
    struct jreq *r;
    struct jstream_conf old;
};

static void changed(struct jdone *d)
{
    struct changing *c = list_entry(d, struct changing, done);
    struct jstream *s = d->s;

    if (d->e && !s->gone) {
        jstream_conf_fini(&s->conf);
        s->conf = c->old;
        js_subjects_claim(s);
        js_fail(c->r, "stream_update", JSE_STREAM_UPDATE, "%s", err_text(d->e));
        free(c);
        return;
    }
    if (!s->gone) {
        jstream_subs_end(s);
        jstream_subs_begin(s);
        jpublish_changed(s);
        jsources_changed(s);
        jschedules_changed(s);
        jstore_retake(s);
        jstore_limits(s);
        jconsumers_changed(s);
        jstream_advise(s, "modify");
    }
    jstream_conf_fini(&c->old);
    jstream_answer(c->r, "stream_update", false);
    free(c);
}

/* What is not there by the old limits is remembered: it does not come back by wider ones. */
static void flushed(struct jdone *d)
{
    enum err e = d->e;

    if (!e)
        e = jstream_save(d->s, d, changed);
    if (e) {
        d->e = e;
        changed(d);
    }
}

static void on_update(struct jreq *r)
{
    bool pedantic = json_is_true(json_object_get(r->json, "pedantic"));
    struct jstream *s = r->stream;
    struct jstream_conf c;
    struct changing *ch;
    struct js_fault f;

    if (!jstream_conf_read(&c, r->json, false, &f)) {
        js_fault(r, "stream_update", &f);
        return;
    }
    if (!c.name || strcmp(c.name, s->conf.name) != 0)
        js_fault_set(&f, JSE_STREAM_MISMATCH, NULL);
    else if (jstream_conf_check(&c, pedantic, &f) && jstream_conf_update_check(&c, &s->conf, &f) &&
             jstream_supported(&c, &f)) {
        ch = xcalloc(1, sizeof *ch);
        ch->r = r;
        ch->old = s->conf;
        s->conf = c;
        if (!js_subjects_claim(s)) {
            js_fault_set(&f, JSE_STREAM_SUBJECT_OVERLAP, NULL);
        } else if (jstream_origins_check(s, &f)) {
            jstore_flush(s, &ch->done, flushed);
            return;
        }
        s->conf = ch->old;
        js_subjects_claim(s);
        free(ch);
    }
    jstream_conf_fini(&c);
    js_fault(r, "stream_update", &f);
}

/* ---- deleting ---- */

struct deleting {
    struct jdone done;
    struct jreq *r;
};

static void forgotten(struct jdone *d)
{
    struct deleting *g = list_entry(d, struct deleting, done);

    if (d->e && g->r)
        js_fail(g->r, "stream_delete", JSE_STREAM_DELETE, "%s", err_text(d->e));
    else if (g->r)
        js_answer(g->r, "stream_delete", json_pack("{s:b}", "success", 1));
    free(g);
}

static void topic_gone(struct jdone *d)
{
    struct deleting *g = list_entry(d, struct deleting, done);
    struct jstream *s = d->s;
    enum err e = d->e == ERR_TOPIC_NOT_FOUND ? ERR_OK : d->e;

    if (!e) {
        jdone_begin(d, s, forgotten);
        jstore_forget(s, JS_STREAM_NS, slice_of(s->key, s->key_len), d);
        return;
    }
    if (g->r)
        js_fail(g->r, "stream_delete", JSE_STREAM_DELETE, "%s", err_text(e));
    free(g);
}

/* r NULL: nobody asked for it. */
static void stream_delete(struct jstream *s, struct jreq *r)
{
    struct deleting *g = xcalloc(1, sizeof *g);
    enum err e;

    g->r = r;
    jschedules_forget(s);
    jstream_close(s);
    jdone_begin(&g->done, s, topic_gone);
    e = topic_delete(s->js->b, slice_str(topic_name(s->topic)), jdone_call, &g->done, NULL);
    if (e)
        jdone_call(&g->done, e, NULL);
}

static void on_delete(struct jreq *r)
{
    jstream_advise(r->stream, "delete");
    stream_delete(r->stream, r);
}

void jstream_drop(struct jstream *s)
{
    jstream_ref(s); /* the table's goes */
    stream_delete(s, NULL);
    jstream_unref(s);
}

/* ---- backups ---- */

enum err jstream_save_whole(struct jstream *s, struct jdone *d, void (*fn)(struct jdone *d))
{
    s->restoring = false;
    return jstream_save(s, d, fn);
}

void jstream_restored(struct jstream *s)
{
    jstream_subs_begin(s);
    jsources_begin(s);
    jschedules_begin(s);
    jstream_advise(s, "create");
}

/* ---- purging ---- */

struct purging {
    struct jdone done;
    struct jreq *r;
    uint64_t n;
};

static void purged(struct jdone *d)
{
    struct purging *p = list_entry(d, struct purging, done);

    if (d->e)
        js_fail(p->r, "stream_purge", JSE_STREAM_PURGE_FAILED, "%s", err_text(d->e));
    else
        js_answer(p->r, "stream_purge",
                  json_pack("{s:b, s:I}", "success", 1, "purged", (json_int_t)p->n));
    free(p);
}

static void on_purge(struct jreq *r)
{
    struct jstream *s = r->stream;
    json_int_t below = json_integer_value(json_object_get(r->json, "seq"));
    json_int_t keep = json_integer_value(json_object_get(r->json, "keep"));
    struct slice pattern = slice_str(json_string_value(json_object_get(r->json, "filter")));
    struct jfilter *f;
    struct purging *p;

    if (below > 0 && keep > 0) {
        js_fail(r, "stream_purge", JSE_BAD_REQUEST, NULL);
    } else if (s->conf.sealed) {
        js_fail(r, "stream_purge", JSE_STREAM_SEALED, NULL);
    } else if (s->conf.deny_purge) {
        js_fail(r, "stream_purge", JSE_STREAM_PURGE_FAILED, "stream purge not permitted");
    } else {
        p = xcalloc(1, sizeof *p);
        p->r = r;
        f = jfilter_new(&pattern, pattern.len ? 1 : 0);
        p->n = jstore_purge_filter(s, f, below > 0 ? (uint64_t)below : 0,
                                   keep > 0 ? (uint64_t)keep : 0);
        jfilter_free(&f);
        jstore_flush(s, &p->done, purged);
    }
}

/* ---- requests ---- */

static void on_info(struct jreq *r)
{
    jstream_answer(r, "stream_info", false);
}

static void on_peer(struct jreq *r)
{
    js_fail(r, "stream_remove_peer", JSE_CLUSTER_REQUIRED, NULL);
}

static void on_stepdown(struct jreq *r)
{
    js_fail(r, "stream_leader_stepdown", JSE_CLUSTER_REQUIRED, NULL);
}

void jstream_request(struct jreq *r)
{
    static const struct {
        const char *prefix;
        void (*run)(struct jreq *r);
    } calls[] = {
        {"DIRECT.GET.", jget_direct},        {"STREAM.INFO.", on_info},
        {"STREAM.UPDATE.", on_update},       {"STREAM.DELETE.", on_delete},
        {"STREAM.PURGE.", on_purge},         {"STREAM.MSG.GET.", jget_msg},
        {"STREAM.MSG.DELETE.", jget_delete}, {"STREAM.SNAPSHOT.", jsnapshot_request},
        {"STREAM.PEER.", on_peer},           {"STREAM.LEADER.", on_stepdown},
    };
    unsigned i;

    if (!jimplicit_allows(r))
        return;
    for (i = 0; i < sizeof calls / sizeof *calls; i++)
        if (slice_has_prefix(r->subject, slice_str(calls[i].prefix))) {
            calls[i].run(r);
            return;
        }
    ASSERT(!"a request that js_api.c knows");
}
