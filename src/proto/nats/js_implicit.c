/* Streams that nobody made. See js_implicit.h.
 *
 * A topic of one partition that other protocols made is a stream of the same name, if it may be one's
 * name, in the account that sees topics (nats.topics.account). Its messages have the subjects by which
 * the core's subscribers get them (topics.h). It takes nothing that is published, removes nothing,
 * and changes nothing of the topic, which belongs to whoever made it; STREAM.CREATE of its name makes
 * it a stream as any other.
 *
 * Topics may be many, and an index takes memory: so one is put into the table and loaded when a
 * request names it, and goes again when nobody has asked for a while and it has no consumers. Which
 * have consumers say those' items: they are loaded when the server starts. One whose topic is deleted,
 * or gets more partitions, goes at once, with its consumers.
 *
 *     a request names it -> jimplicit_find: table -> open_run -> jimplicit_loaded
 *     on_idle, on_topic -> leave_run: jstream_close */
#include "proto/nats/js_implicit.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/tbl/limits.h"
#include "base/topic_name.h"
#include "journal/journal.h"
#include "proto/nats/js_consumer_int.h"
#include "proto/nats/js_store.h"

#define LIST_TOPICS 64u
#define IDLE_MS     60000u /* it goes after one to two of these */

struct jimplicit {
    struct js *js;
    struct naccount *account;
    struct topics_watch watch;
};

/* ---- which topics are ---- */

static bool name_fits(struct slice name)
{
    return jname_valid(name) && topic_name_valid(name) && !slice_has_prefix(name, SLICE_LIT("__"));
}

static bool is_stream(struct topic *t)
{
    return !topic_deleted(t) && topic_partitions(t) == 1;
}

/* Numbers of topics that have streams that were made, in any account. */
static bool note_made(void *arg, struct jstream *s)
{
    uint32_t id = atomic_load(&s->topic_no);

    if (!s->implicit && id)
        u64map_put(arg, id, s);
    return true;
}

static bool is_made(struct js *js, const struct topic *t)
{
    struct u64map made;
    bool found;

    u64map_init(&made, LIMIT_JS_STREAMS, 0);
    js_streams_each(js, NULL, note_made, &made);
    found = u64map_find(&made, topic_id(t)) != NULL;
    u64map_fini(&made);
    return found;
}

/* ---- its configuration ---- */

/* What it tells clients; they find it by these subjects, which it does not take. */
static json_t *conf_json(const char *name)
{
    return json_pack("{s:s, s:[s, s+], s:s, s:s, s:s, s:i, s:b, s:b, s:b, s:{s:s}}", "name", name,
                     "subjects", name, name, ".*", "retention", "limits", "discard", "old",
                     "storage", "file", "num_replicas", 1, "allow_direct", 1, "deny_delete", 1,
                     "deny_purge", 1, "metadata", "weir.topic", "true");
}

static bool conf_make(struct jstream_conf *c, const char *name)
{
    json_t *o = conf_json(name);
    struct js_fault f;
    bool ok = jstream_conf_read(c, o, false, &f);

    json_decref(o);
    if (ok && !jstream_conf_check(c, false, &f)) {
        jstream_conf_fini(c);
        ok = false;
    }
    return ok;
}

/* ---- coming ---- */

struct opening {
    struct loop_task task;
    struct jstream *s; /* referenced */
};

static void open_run(struct loop_task *t)
{
    struct opening *o = list_entry(t, struct opening, task);
    struct jstream *s = o->s;

    js_end(s->js);
    if (!s->gone && !is_stream(s->topic)) /* on_topic looked for it before it was in the table */
        jstream_close(s);
    if (!s->gone) {
        jstream_open(s);
    } else {
        s->loading = false;
        jstream_waits_run(s);
    }
    jstream_unref(s);
    free(o);
}

static void on_idle(struct loop_timer *t)
{
    struct jstream *s = list_entry(t, struct jstream, idle);

    if (s->gone)
        return;
    if (s->used || jconsumers_count(s) || !list_empty(&s->askers)) {
        s->used = false;
        loop_timer_arm(s->l->loop, &s->idle, IDLE_MS);
    } else {
        jstream_close(s);
    }
}

static struct jstream *put(struct js *js, struct naccount *a, struct topic *t)
{
    struct slice name = slice_str(topic_name(t));
    struct jstream *s = jstream_new(js, a, name);
    struct opening *o;

    s->implicit = true;
    loop_timer_init(&s->idle, on_idle);
    s->created_ns = topic_created_ms(t) * 1000000;
    jstream_topic(s, topic_ref(t));
    s->first_seq = 1;
    s->mirrored = false;
    if (!conf_make(&s->conf, topic_name(t))) {
        jstream_unref(s);
        return NULL;
    }
    if (js_stream_put(js, s)) { /* somebody was quicker, or there are too many */
        jstream_unref(s);
        return js_stream_find(js, a, name);
    }
    o = xcalloc(1, sizeof *o);
    o->task.fn = open_run;
    o->s = jstream_ref(s);
    js_begin(js);
    loop_post(s->l->loop, &o->task);
    return s;
}

struct jstream *jimplicit_find(struct js *js, struct naccount *a, struct slice name,
                               struct js_fault *why)
{
    struct jstream *s = js_stream_find(js, a, name);
    struct topic *t;
    int32_t n;

    if (why)
        js_fault_set(why, JSE_STREAM_NOT_FOUND, NULL);
    if (s || !js->implicit || js->implicit->account != a || !name_fits(name) ||
        atomic_load(&js->ending) || !(t = topic_find(js->b, name)))
        return s;
    n = topic_partitions(t);
    if (n == 1 && !is_made(js, t))
        s = put(js, a, t);
    else if (n > 1 && why)
        snprintf(why->text, sizeof why->text,
                 "stream not found: the topic has %d partitions; JetStream needs one", (int)n);
    topic_unref(&t);
    return s;
}

/* ---- going ---- */

static void leave_run(struct loop_task *t)
{
    struct opening *o = list_entry(t, struct opening, task);
    struct jstream *s = o->s;

    js_end(s->js);
    if (!s->gone)
        jstream_close(s);
    jstream_unref(s);
    free(o);
}

/* Writer thread. */
static void on_topic(struct topics_watch *w, struct topic *t)
{
    struct jimplicit *m = list_entry(w, struct jimplicit, watch);
    struct jstream *s;
    struct opening *o;

    if (is_stream(t))
        return;
    s = js_stream_find(m->js, m->account, slice_str(topic_name(t)));
    if (!s)
        return;
    if (!s->implicit || s->topic != t || atomic_load(&m->js->ending)) {
        jstream_unref(s);
        return;
    }
    o = xcalloc(1, sizeof *o);
    o->task.fn = leave_run;
    o->s = s;
    js_begin(m->js);
    loop_post(s->l->loop, &o->task);
}

void jimplicit_loaded(struct jstream *s)
{
    loop_timer_arm(s->l->loop, &s->idle, IDLE_MS);
}

/* ---- requests ---- */

bool jimplicit_allows(struct jreq *r)
{
    static const struct {
        const char *prefix, *type;
        enum js_error e;
    } refused[] = {
        {"STREAM.UPDATE.", "stream_update", JSE_STREAM_UPDATE},
        {"STREAM.DELETE.", "stream_delete", JSE_STREAM_DELETE},
        {"STREAM.PURGE.", "stream_purge", JSE_STREAM_PURGE_FAILED},
        {"STREAM.MSG.DELETE.", "stream_msg_delete", JSE_STREAM_MSG_DELETE_FAILED},
    };
    unsigned i;

    r->stream->used = true;
    for (i = 0; r->stream->implicit && i < sizeof refused / sizeof *refused; i++)
        if (slice_has_prefix(r->subject, slice_str(refused[i].prefix))) {
            js_fail(r, refused[i].type, refused[i].e,
                    "the stream is a topic of other protocols; create a stream of this name first");
            return false;
        }
    return true;
}

/* What can be told without its index. */
static json_t *listed(struct jreq *r, struct topic *t)
{
    char created[JTIME_TEXT_LEN + 1], last[JTIME_TEXT_LEN + 1];
    struct jstream *s = js_stream_find(r->js, r->account, slice_str(topic_name(t)));
    struct jstream_conf c;
    struct plog_info log;
    json_t *o = NULL;

    plog_info_get(partition_log(topic_partition(t, 0)), &log);
    jtime_text(topic_created_ms(t) * 1000000, created);
    jtime_text(log.max_timestamp_ms > 0 ? jtime_ns(log.max_timestamp_ms) : 0, last);
    if (conf_make(&c, topic_name(t))) {
        o = json_pack("{s:o, s:s, s:{s:I, s:I, s:I, s:s, s:I, s:s, s:I}}", "config",
                      jstream_conf_write(&c), "created", created, "state", "messages",
                      (json_int_t)(log.end_offset - log.start_offset), "bytes",
                      (json_int_t)log.bytes, "first_seq",
                      (json_int_t)(log.end_offset ? log.start_offset + 1 : 0), "first_ts",
                      JS_NO_TIME, "last_seq", (json_int_t)log.end_offset, "last_ts",
                      log.max_timestamp_ms > 0 ? last : JS_NO_TIME, "consumer_count",
                      (json_int_t)(s ? atomic_load(&s->figures.consumers) : 0));
        jstream_conf_fini(&c);
    }
    if (s)
        jstream_unref(s);
    return o;
}

static void list_one(struct jreq *r, struct topic *t, uint64_t limit, bool names)
{
    json_t *total = json_object_get(r->gathered, "total");
    json_t *streams = json_object_get(r->gathered, "streams"), *o;
    uint64_t n = (uint64_t)json_integer_value(total), offset = js_offset(r);
    struct jstream_conf c;
    bool fits;

    if (!conf_make(&c, topic_name(t)))
        return;
    fits = js_stream_shown(r, &c);
    jstream_conf_fini(&c);
    if (!fits)
        return;
    json_integer_set(total, (json_int_t)n + 1);
    if (n < offset || n - offset >= limit)
        return;
    o = names ? json_string(topic_name(t)) : listed(r, t);
    if (o)
        json_array_append_new(streams, o);
}

void jimplicit_list(struct jreq *r, uint64_t limit, bool names)
{
    struct topic *list[LIST_TOPICS];
    char after[TOPIC_NAME_MAX + 1] = "";
    struct u64map made;
    size_t i, n;

    if (!r->js->implicit || r->js->implicit->account != r->account)
        return;
    u64map_init(&made, LIMIT_JS_STREAMS, 0);
    js_streams_each(r->js, NULL, note_made, &made);
    do {
        n = topic_list(r->js->b, slice_str(after), "*", list, LIST_TOPICS);
        for (i = 0; i < n; i++) {
            if (topic_partitions(list[i]) == 1 && name_fits(slice_str(topic_name(list[i]))) &&
                !u64map_find(&made, topic_id(list[i])))
                list_one(r, list[i], limit, names);
            if (i == n - 1)
                snprintf(after, sizeof after, "%s", topic_name(list[i]));
            topic_unref(&list[i]);
        }
    } while (n == LIST_TOPICS);
    u64map_fini(&made);
}

/* ---- start and end ---- */

/* Names of streams that have consumers, each behind the other, with a NUL. */
static bool note_consumer(void *arg, struct slice key, struct slice value)
{
    struct buf *names = arg;
    const uint8_t *nul = memchr(key.ptr, 0, key.len), *end;

    (void)value;
    if (!nul)
        return true;
    nul++;
    end = memchr(nul, 0, key.len - (size_t)(nul - key.ptr));
    if (end)
        buf_append_slice(names, slice_of(key.ptr, (size_t)(end + 1 - key.ptr)));
    return true;
}

void jimplicit_start(struct js *js)
{
    const char *wanted = js->n->conf.topics_account;
    struct jimplicit *m;
    struct naccount *a;
    struct jstream *s;
    struct buf names;
    const char *at;

    for (a = js->n->accounts; a && strcmp(a->name, wanted ? wanted : "") != 0;)
        a = a->next;
    if (!a)
        return;
    m = js->implicit = xcalloc(1, sizeof *m);
    m->js = js;
    m->account = a;
    m->watch.fn = on_topic;
    broker_watch_topics(js->b, &m->watch);
    buf_init(&names, SIZE_MAX);
    kv_each(js->b, JCONSUMER_NS, note_consumer, &names);
    for (at = (const char *)names.ptr; names.len && at < (const char *)names.ptr + names.len;) {
        const char *name = at + strlen(at) + 1;

        s = strcmp(at, a->name) == 0 ? jimplicit_find(js, a, slice_str(name), NULL) : NULL;
        if (s)
            jstream_unref(s);
        at = name + strlen(name) + 1;
    }
    buf_fini(&names);
}

void jimplicit_stop(struct js *js)
{
    if (!js->implicit)
        return;
    broker_unwatch_topics(js->b, &js->implicit->watch);
    free(js->implicit);
    js->implicit = NULL;
}
