/* A stream's life: made, changed, deleted, loaded; what the API tells of it. See js_int.h.
 *
 * Made: it is put into the table, loading; its topic is made or found; its configuration is saved;
 * its log is read; its subscriptions begin; the request is answered. Deleted: it is taken out of the
 * table, its topic is deleted, then what is saved of it; a crash between the two finds the saved
 * configuration without its topic at the next start, and drops it. */
#include "proto/nats/js_stream.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "base/topic_name.h"
#include "broker/removed.h"
#include "io/io.h"
#include "journal/journal.h"
#include "proto/nats/js_batch.h"
#include "proto/nats/js_counter.h"
#include "proto/nats/js_get.h"
#include "proto/nats/js_implicit.h"
#include "proto/nats/js_publish.h"
#include "proto/nats/js_schedule.h"
#include "proto/nats/js_snapshot.h"
#include "proto/nats/js_source.h"
#include "proto/nats/js_store.h"
#include "proto/nats/js_transform.h"

#define NAMES_PAGE    1024u
#define LIST_PAGE     256u
#define SUBJECTS_PAGE 100000u

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

static enum err save(struct jstream *s, struct jdone *d, void (*fn)(struct jdone *d))
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

static void subs_end(struct jstream *s)
{
    unsigned i;

    for (i = 0; i < s->subs_n; i++)
        nats_sub_end(s->subs[i], s->account);
    free(s->subs);
    s->subs = NULL;
    s->subs_n = 0;
}

static void subs_begin(struct jstream *s)
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
    subs_end(s);
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

/* ---- what there is to say ---- */

static void time_put(json_t *o, const char *name, int64_t ms)
{
    char text[JTIME_TEXT_LEN + 1];

    jtime_text(ms * 1000000, text);
    json_object_set_new(o, name, json_string(text));
}

struct totals {
    json_t *o;
    struct slice *v;
    uint64_t *count;
    size_t n, cap;
};

static bool total_note(void *arg, const struct jindex_subject_info *i)
{
    struct totals *t = arg;

    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->v = xrealloc(t->v, t->cap * sizeof *t->v);
    }
    t->v[t->n++] = i->name;
    return true;
}

static int by_name(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    int c = memcmp(x->ptr, y->ptr, x->len < y->len ? x->len : y->len);

    return c ? c : (x->len > y->len) - (x->len < y->len);
}

/* Subjects and how many messages they have, a page of them. */
static void subjects_put(struct jstream *s, const json_t *options, json_t *root, json_t *state)
{
    const char *pattern = json_string_value(json_object_get(options, "subjects_filter"));
    json_int_t offset = json_integer_value(json_object_get(options, "offset"));
    struct slice p = slice_str(pattern);
    struct jfilter *f;
    struct totals t = {0};
    size_t i, from;
    json_t *o;

    if (!pattern || !*pattern || !subject_valid(p))
        return;
    f = jfilter_new(&p, 1);
    jindex_subjects(&s->index, f, total_note, &t);
    jfilter_free(&f);
    if (t.n) {
        qsort(t.v, t.n, sizeof *t.v, by_name);
        from = offset > 0 ? (uint64_t)offset < t.n ? (size_t)offset : t.n : 0;
        o = json_object();
        for (i = from; i < t.n && i < from + SUBJECTS_PAGE; i++)
            json_object_setn_new(o, (const char *)t.v[i].ptr, t.v[i].len,
                                 json_integer((json_int_t)jindex_subject_count(&s->index, t.v[i])));
        json_object_set_new(state, "subjects", o);
        json_object_set_new(root, "total", json_integer((json_int_t)t.n));
        json_object_set_new(root, "offset", json_integer((json_int_t)from));
        json_object_set_new(root, "limit", json_integer(SUBJECTS_PAGE));
    }
    free(t.v);
}

static void deleted_put(struct jstream *s, json_t *state)
{
    const struct jindex *x = &s->index;
    json_t *v = json_array();
    uint64_t seq, next;

    for (seq = x->first; seq <= x->last; seq = next + 1) {
        next = jindex_next(x, NULL, seq);
        if (!next)
            break;
        for (; seq < next; seq++)
            json_array_append_new(v, json_integer((json_int_t)seq));
    }
    if (x->msgs) /* behind the last one that is there */
        for (seq = jindex_prev(x, NULL, x->last) + 1; seq <= x->last; seq++)
            json_array_append_new(v, json_integer((json_int_t)seq));
    json_object_set_new(state, "deleted", v);
}

static json_t *state_of(struct jstream *s, const json_t *options)
{
    const struct jindex *x = &s->index;
    uint64_t gone = x->msgs ? x->last - x->first + 1 - x->msgs : 0;
    bool fresh = !x->msgs && x->last == 0;
    json_t *o =
        json_pack("{s:I, s:I, s:I, s:s, s:I, s:s}", "messages", (json_int_t)x->msgs, "bytes",
                  (json_int_t)x->bytes, "first_seq", (json_int_t)(fresh ? 0 : x->first), "first_ts",
                  JS_NO_TIME, "last_seq", (json_int_t)x->last, "last_ts", JS_NO_TIME);
    struct jindex_msg m;

    if (x->msgs && jindex_get(x, x->first, &m))
        time_put(o, "first_ts", m.time_ms);
    if (jstore_last_ms(s) != JTIME_NONE)
        time_put(o, "last_ts", jstore_last_ms(s));
    if (x->subjects)
        json_object_set_new(o, "num_subjects", json_integer(x->subjects));
    if (gone)
        json_object_set_new(o, "num_deleted", json_integer((json_int_t)gone));
    if (gone && json_is_true(json_object_get(options, "deleted_details")))
        deleted_put(s, o);
    json_object_set_new(o, "consumer_count", json_integer(jconsumers_count(s)));
    return o;
}

json_t *jstream_info(struct jstream *s, const json_t *options)
{
    json_t *root = json_object(), *state = state_of(s, options);
    char text[JTIME_TEXT_LEN + 1];

    subjects_put(s, options, root, state);
    json_object_set_new(root, "config", jstream_conf_write(&s->conf));
    jtime_text(s->created_ns, text);
    json_object_set_new(root, "created", json_string(text));
    json_object_set_new(root, "state", state);
    jsources_info(s, root);
    jtime_text(js_now_ns(s->js), text);
    json_object_set_new(root, "ts", json_string(text));
    return root;
}

static void answer_info(struct jreq *r, const char *type, bool made)
{
    json_t *o = jstream_info(r->stream, r->json);

    if (made)
        json_object_set_new(o, "did_create", json_true());
    js_answer(r, type, o);
}

static void advise_action(struct jstream *s, const char *what)
{
    char subject[64 + JCONF_NAME_MAX];

    snprintf(subject, sizeof subject, "ADVISORY.STREAM.%s.%s",
             *what == 'c'   ? "CREATED"
             : *what == 'd' ? "DELETED"
                            : "UPDATED",
             s->conf.name);
    js_advise(s, subject, "io.nats.jetstream.advisory.v1.stream_action",
              json_pack("{s:s, s:s}", "stream", s->conf.name, "action", what));
}

/* ---- making ---- */

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
                subs_begin(s);
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
        advise_action(s, "create");
        answer_info(m->r, "stream_create", true);
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
    if ((e = save(s, &m->done, saved)))
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
        answer_info(r, "stream_create", false);
    else
        js_fail(r, "stream_create", JSE_STREAM_NAME_EXIST, NULL);
    jstream_conf_fini(&c);
}

/* What there is no such thing of here is said, rather than taken and not done. */
static bool supported(struct jstream_conf *c, struct js_fault *f)
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
    if (!jstream_conf_check(c, pedantic, f) || !supported(c, f))
        return false;
    ok = topic_of(r->account, slice_str(c->name), &topic);
    buf_fini(&topic);
    if (!ok)
        return js_fault_set(f, JSE_STREAM_INVALID_CONFIG, "%s", "stream name is too long");
    return true;
}

/* What needs to know the streams that it copies; s is in the table. */
static bool origins_check(struct jstream *s, struct js_fault *f)
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
    if (!origins_check(s, &f)) {
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
        subs_begin(s);
        jstore_open(s, ready, m);
    }
    jstream_unref(s);
    json_decref(o);
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
        subs_end(s);
        subs_begin(s);
        jpublish_changed(s);
        jsources_changed(s);
        jschedules_changed(s);
        jstore_retake(s);
        jstore_limits(s);
        jconsumers_changed(s);
        advise_action(s, "modify");
    }
    jstream_conf_fini(&c->old);
    answer_info(c->r, "stream_update", false);
    free(c);
}

/* What is not there by the old limits is remembered: it does not come back by wider ones. */
static void flushed(struct jdone *d)
{
    enum err e = d->e;

    if (!e)
        e = save(d->s, d, changed);
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
             supported(&c, &f)) {
        ch = xcalloc(1, sizeof *ch);
        ch->r = r;
        ch->old = s->conf;
        s->conf = c;
        if (!js_subjects_claim(s)) {
            js_fault_set(&f, JSE_STREAM_SUBJECT_OVERLAP, NULL);
        } else if (origins_check(s, &f)) {
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
    advise_action(r->stream, "delete");
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
    return save(s, d, fn);
}

void jstream_restored(struct jstream *s)
{
    subs_begin(s);
    jsources_begin(s);
    jschedules_begin(s);
    advise_action(s, "create");
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

/* ---- lists ---- */

bool js_stream_shown(const struct jreq *r, const struct jstream_conf *c)
{
    struct slice p = slice_str(json_string_value(json_object_get(r->json, "subject")));
    unsigned i;

    if (!p.len)
        return true;
    for (i = 0; i < c->subjects.n; i++)
        if (subjects_meet(p, jlist_text(&c->subjects, i)))
            return true;
    return false;
}

static void list_end(struct jreq *r, const char *type, uint64_t limit)
{
    uint64_t total = (uint64_t)json_integer_value(json_object_get(r->gathered, "total"));
    uint64_t offset = js_offset(r);
    json_t *o = r->gathered;

    r->gathered = NULL;
    json_object_set_new(o, "offset", json_integer((json_int_t)(offset < total ? offset : total)));
    json_object_set_new(o, "limit", json_integer((json_int_t)limit));
    js_answer(r, type, o);
}

static void list_begin(struct jreq *r, void (*each)(struct jreq *r, struct jstream *s),
                       void (*end)(struct jreq *r))
{
    r->gathered =
        json_pack("{s:i, s:i, s:i, s:[]}", "total", 0, "offset", 0, "limit", 0, "streams");
    js_visit(r, each, end);
}

/* Whether it is on the page. */
static bool list_count(struct jreq *r, struct jstream *s, uint64_t limit)
{
    json_t *total = json_object_get(r->gathered, "total");
    uint64_t n = (uint64_t)json_integer_value(total), offset = js_offset(r);

    if (s->implicit || !js_stream_shown(r, &s->conf)) /* those come behind */
        return false;
    json_integer_set(total, (json_int_t)n + 1);
    return n >= offset && n - offset < limit;
}

static void names_each(struct jreq *r, struct jstream *s)
{
    if (list_count(r, s, NAMES_PAGE))
        json_array_append_new(json_object_get(r->gathered, "streams"), json_string(s->conf.name));
}

static void names_end(struct jreq *r)
{
    jimplicit_list(r, NAMES_PAGE, true);
    list_end(r, "stream_names", NAMES_PAGE);
}

void js_stream_names(struct jreq *r)
{
    list_begin(r, names_each, names_end);
}

static void list_each(struct jreq *r, struct jstream *s)
{
    if (list_count(r, s, LIST_PAGE))
        json_array_append_new(json_object_get(r->gathered, "streams"), jstream_info(s, NULL));
}

static void listed(struct jreq *r)
{
    jimplicit_list(r, LIST_PAGE, false);
    list_end(r, "stream_list", LIST_PAGE);
}

void js_stream_list(struct jreq *r)
{
    list_begin(r, list_each, listed);
}

static void add(json_t *o, const char *name, uint64_t n)
{
    json_t *v = json_object_get(o, name);

    json_integer_set(v, json_integer_value(v) + (json_int_t)n);
}

static void account_each(struct jreq *r, struct jstream *s)
{
    bool memory = s->conf.storage == JSTORAGE_MEMORY;

    if (s->implicit)
        return; /* nobody's in particular */
    add(r->gathered, memory ? "memory" : "storage", s->index.bytes);
    add(r->gathered, memory ? "reserved_memory" : "reserved_storage",
        s->conf.max_bytes > 0 ? (uint64_t)s->conf.max_bytes : 0);
    add(r->gathered, "streams", 1);
    add(r->gathered, "consumers", jconsumers_count(s));
}

static void account_end(struct jreq *r)
{
    json_t *o = r->gathered;

    r->gathered = NULL;
    json_object_set_new(o, "limits",
                        json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b}", "max_memory", -1,
                                  "max_storage", -1, "max_streams", -1, "max_consumers", -1,
                                  "max_ack_pending", -1, "memory_max_stream_bytes", -1,
                                  "storage_max_stream_bytes", -1, "max_bytes_required", 0));
    json_object_set_new(o, "api",
                        json_pack("{s:i, s:I, s:I}", "level", JS_API_LEVEL, "total",
                                  (json_int_t)atomic_load(&r->ja->requests), "errors",
                                  (json_int_t)atomic_load(&r->ja->errors)));
    js_answer(r, "account_info", o);
}

void js_account_info(struct jreq *r)
{
    r->gathered =
        json_pack("{s:i, s:i, s:i, s:i, s:i, s:i}", "memory", 0, "storage", 0, "reserved_memory", 0,
                  "reserved_storage", 0, "streams", 0, "consumers", 0);
    js_visit(r, account_each, account_end);
}

/* ---- the rest ---- */

static void on_info(struct jreq *r)
{
    answer_info(r, "stream_info", false);
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
