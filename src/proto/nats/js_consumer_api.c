/* Requests of the API about consumers: made and changed, told of, paused, reset, unpinned, deleted.
 * What changes is answered when it is durable. Which errors come first is as in nats-server. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "proto/nats/js_consumer_int.h"
#include "proto/nats/js_stream.h"

#define NAMES_MAX  1024u /* names of one answer */
#define LIST_MAX   256u  /* consumers of one answer */
#define NAME_CHARS 8u    /* of a name that the client did not give */
#define ZERO_TIME  "0001-01-01T00:00:00Z"

/* ---- made and changed ---- */

struct jcreate {
    struct slice name, filter; /* of the subject; empty: none */
    bool durable, legacy;      /* which form of request */
    bool create, update;       /* the action: only if it is new, only if it is not */
    bool pedantic;
};

static struct slice rest_from(struct slice subject, unsigned token)
{
    struct slice t;

    while (token-- && subject_token(&subject, &t))
        ;
    return slice_is_null(subject) ? SLICE_LIT("") : subject;
}

static bool fault(struct js_fault *f, enum js_error e)
{
    return js_fault_set(f, e, NULL);
}

static bool request_read(const struct jreq *r, struct jcreate *q, struct js_fault *f)
{
    const char *action = json_string_value(json_object_get(r->json, "action"));
    const char *stream = json_string_value(json_object_get(r->json, "stream_name"));

    *q = (struct jcreate){.durable = slice_eq_str(js_token(r->subject, 1), "DURABLE")};
    if (!json_is_object(r->json))
        return js_fault_set(f, JSE_INVALID_JSON, "a configuration is expected");
    q->name = js_token(r->subject, q->durable ? 4 : 3);
    q->legacy = !q->durable && !q->name.len;
    q->filter = q->durable ? SLICE_LIT("") : rest_from(r->subject, 4);
    q->pedantic = json_is_true(json_object_get(r->json, "pedantic"));
    q->create = action && !strcmp(action, "create");
    q->update = action && !strcmp(action, "update");
    if (action && *action && !q->create && !q->update)
        return js_fault_set(f, JSE_INVALID_JSON, "unknown consumer action: %.40s", action);
    if (!stream || strcmp(stream, r->stream->conf.name) != 0)
        return fault(f, JSE_STREAM_MISMATCH);
    if (memchr(q->name.ptr ? (const char *)q->name.ptr : "", '/', q->name.len) ||
        memchr(q->name.ptr ? (const char *)q->name.ptr : "", '\\', q->name.len))
        return fault(f, JSE_CONSUMER_NAME_CONTAINS_PATH_SEPARATORS);
    return true;
}

static void set_text(char **to, struct slice s)
{
    free(*to);
    *to = xmalloc(s.len + 1);
    memcpy(*to, s.ptr, s.len);
    (*to)[s.len] = 0;
}

/* What the subject says of the name and the filter, and what the configuration says. */
static bool names_agree(const struct jcreate *q, struct jconsumer_conf *c, struct js_fault *f)
{
    struct slice durable = slice_str(c->durable);

    if (q->durable && !q->name.len)
        return fault(f, JSE_CONSUMER_DURABLE_NAME_NOT_IN_SUBJECT);
    if (q->durable && !c->durable)
        return fault(f, JSE_CONSUMER_DURABLE_NAME_NOT_SET);
    if (!q->legacy && c->durable && !slice_eq(q->name, durable))
        return fault(f, JSE_CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT);
    if (q->legacy && c->durable)
        return fault(f, JSE_CONSUMER_EPHEMERAL_WITH_DURABLE_NAME);
    if (q->filter.len && c->filters.n)
        return fault(f, JSE_CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED);
    if (q->filter.len && !slice_eq(q->filter, slice_str(c->filter ? c->filter : "")))
        return fault(f, JSE_CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH);
    if (q->name.len)
        set_text(&c->name, q->name);
    if (c->replicas > 1)
        return fault(f, JSE_STREAM_REPLICAS_NOT_SUPPORTED);
    return true;
}

/* Whether another consumer of a work queue takes some of what this one would. */
static bool filters_meet(const struct jconsumer_conf *a, const struct jconsumer_conf *b)
{
    unsigned i, k;

    if (!jconsumer_conf_filters(a) || !jconsumer_conf_filters(b))
        return true;
    for (i = 0; i < jconsumer_conf_filters(a); i++)
        for (k = 0; k < jconsumer_conf_filters(b); k++)
            if (subjects_meet(jconsumer_conf_filter(a, i), jconsumer_conf_filter(b, k)))
                return true;
    return false;
}

static bool is_unique(struct jstream *s, const struct jconsumer_conf *conf)
{
    uint32_t at = 0;
    void *v;

    while (map_next(&s->consumers, &at, NULL, &v)) {
        struct jconsumer *c = v;

        if (conf->name && !strcmp(c->conf.name, conf->name))
            continue;
        if (!c->conf.direct && filters_meet(&c->conf, conf))
            return false;
    }
    return true;
}

static bool work_queue_keep(struct jstream *s, const struct jconsumer_conf *c, struct js_fault *f)
{
    if (s->conf.retention != JRETENTION_WORKQUEUE || c->direct || c->sourcing)
        return true;
    if (c->ack != JACK_EXPLICIT && c->ack != JACK_FLOW_CONTROL)
        return fault(f, JSE_CONSUMER_WQ_REQUIRES_EXPLICIT_ACK);
    if (c->deliver != JDELIVER_ALL)
        return fault(f, JSE_CONSUMER_WQ_CONSUMER_NOT_DELIVER_ALL);
    if (s->consumers.n && !jconsumer_conf_filters(c))
        return fault(f, JSE_CONSUMER_WQ_MULTIPLE_UNFILTERED);
    return is_unique(s, c) || fault(f, JSE_CONSUMER_WQ_CONSUMER_NOT_UNIQUE);
}

static bool room_left(struct jstream *s, struct js_fault *f)
{
    uint64_t most =
        s->conf.max_consumers > 0 ? (uint64_t)s->conf.max_consumers : LIMIT_JS_CONSUMERS;

    return (s->consumers.n < most && s->consumers.n < LIMIT_JS_CONSUMERS) ||
           fault(f, JSE_MAXIMUM_CONSUMERS_LIMIT);
}

static bool name_give(struct jstream *s, struct jconsumer_conf *c, struct js_fault *f)
{
    static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    size_t most = LIMIT_GROUP_NAME - strlen("$JS..") - strlen(s->account->name);
    char name[NAME_CHARS + 1] = "";
    unsigned i;

    if (c->durable && !c->name)
        c->name = xstrdup(c->durable);
    while (!c->name) {
        for (i = 0; i < NAME_CHARS; i++)
            name[i] = letters[rng_next(&s->l->rng) % (sizeof letters - 1)];
        if (!jconsumer_find(s, slice_str(name)))
            c->name = xstrdup(name);
    }
    if (strlen(c->name) > most)
        return js_fault_set(f, JSE_CONSUMER_NAME_TOO_LONG, "%zu", most);
    return true;
}

/* A request that is answered with what there is to say of a consumer. */
struct janswer {
    struct jreq *r;
    struct jconsumer *c; /* referenced */
    const char *type;
    json_t *more; /* fields; may be NULL */
    struct jdone d;
};

static struct janswer *answer_new(struct jreq *r, struct jconsumer *c, const char *type)
{
    struct janswer *a = xcalloc(1, sizeof *a);

    a->r = r;
    a->c = c;
    a->type = type;
    jconsumer_ref(c);
    return a;
}

static void answer_send(struct janswer *a, enum err e)
{
    json_t *o;

    if (e) {
        js_fail(a->r, a->type, JSE_CONSUMER_STORE_FAILED, "%s", err_text(e));
    } else if (a->c->gone) {
        js_fail(a->r, a->type, JSE_CONSUMER_NOT_FOUND, NULL);
    } else {
        o = jconsumer_info(a->c);
        if (a->more)
            json_object_update(o, a->more);
        js_answer(a->r, a->type, o);
    }
    json_decref(a->more);
    jconsumer_unref(a->c);
    free(a);
}

static void made(void *arg, enum err e)
{
    struct janswer *a = arg;
    struct jconsumer *c = a->c;

    if (!e)
        jconsumer_advise(c, "ADVISORY.CONSUMER.CREATED",
                         "io.nats.jetstream.advisory.v1.consumer_action",
                         json_pack("{s:s}", "action", "create"));
    else
        jconsumer_close(c, NULL);
    answer_send(a, e);
}

static void changed(struct jdone *d)
{
    answer_send(list_entry(d, struct janswer, d), d->e);
}

static void advise_pause(struct jconsumer *c)
{
    json_t *o = json_pack("{s:b}", "paused", jconsumer_paused(c));

    if (c->conf.pause_until_ns != JTIME_NONE)
        jtime_put(o, "pause_until", c->conf.pause_until_ns);
    jconsumer_advise(c, "ADVISORY.CONSUMER.PAUSE", "io.nats.jetstream.advisory.v1.consumer_pause",
                     o);
}

/* Takes conf. */
static void apply(struct jconsumer *c, struct jconsumer_conf *conf)
{
    bool paused = conf->pause_until_ns != c->conf.pause_until_ns;
    struct jconsumer_conf old = c->conf;

    /* the name is a key of maps: it stays where it is */
    c->conf = *conf;
    c->conf.name = old.name;
    old.name = conf->name;
    jconsumer_conf_fini(&old);
    jconsumer_configure(c);
    jconsumer_recount(c);
    if (paused)
        advise_pause(c);
}

static void save_and_answer(struct jreq *r, struct jconsumer *c, struct janswer *a)
{
    enum err e;

    (void)r;
    if (!c->saved) {
        answer_send(a, ERR_OK);
        return;
    }
    jdone_begin(&a->d, c->s, changed);
    e = jconsumer_save(c, jdone_call, &a->d);
    if (e)
        jdone_call(&a->d, e, NULL);
}

/* Takes r and conf. */
static void update(struct jreq *r, struct jconsumer *c, struct jconsumer_conf *conf,
                   const struct jcreate *q)
{
    static const char type[] = "consumer_create";
    struct js_fault f;
    bool bound = false;

    if (!conf->durable && !conf->inactive_ns)
        conf->inactive_ns = c->conf.inactive_ns;
    if (jconsumer_push(c)) {
        jpush_look(c);
        bound = c->bound;
    }
    if (q->create && !jconsumer_conf_equal(conf, &c->conf)) {
        fault(&f, JSE_CONSUMER_ALREADY_EXISTS);
    } else if (c->s->conf.retention == JRETENTION_WORKQUEUE && !is_unique(c->s, conf)) {
        fault(&f, JSE_CONSUMER_WQ_CONSUMER_NOT_UNIQUE);
    } else if (jconsumer_conf_update_check(conf, &c->conf, bound, &f)) {
        apply(c, conf);
        save_and_answer(r, c, answer_new(r, c, type));
        return;
    }
    jconsumer_conf_fini(conf);
    js_fault(r, type, &f);
}

/* Takes conf if it says true. */
static bool is_new(struct jreq *r, struct jconsumer_conf *conf, const struct jcreate *q,
                   struct js_fault *f)
{
    struct jstream *s = r->stream;

    if (q->update)
        return fault(f, JSE_CONSUMER_DOES_NOT_EXIST);
    return room_left(s, f) && work_queue_keep(s, conf, f) && name_give(s, conf, f);
}

static void create(struct jreq *r)
{
    static const char type[] = "consumer_create";
    json_t *config = json_object_get(r->json, "config"), *none = json_object();
    struct jstream *s = r->stream;
    struct jconsumer_conf conf;
    struct jconsumer *c;
    struct jcreate q;
    struct js_fault f;

    if (!request_read(r, &q, &f) ||
        !jconsumer_conf_read(&conf, config ? config : none, q.pedantic, &f)) {
        json_decref(none);
        js_fault(r, type, &f);
        return;
    }
    json_decref(none);
    if (names_agree(&q, &conf, &f) && jconsumer_conf_check(&conf, &s->conf, q.pedantic, &f)) {
        if (conf.durable && !conf.name)
            conf.name = xstrdup(conf.durable);
        c = conf.name ? jconsumer_find(s, slice_str(conf.name)) : NULL;
        if (c) {
            update(r, c, &conf, &q);
            return;
        }
        if (is_new(r, &conf, &q, &f)) {
            c = jconsumer_new(s, &conf, js_now_ns(r->js));
            jconsumer_start(c);
            jconsumer_make(c, made, answer_new(r, c, type));
            return;
        }
    }
    jconsumer_conf_fini(&conf);
    js_fault(r, type, &f);
}

/* ---- told of ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct jconsumer *const *)a)->conf.name,
                  (*(struct jconsumer *const *)b)->conf.name);
}

static void list(struct jreq *r, bool names)
{
    uint64_t offset = js_offset(r), i, n = 0, most = names ? NAMES_MAX : LIST_MAX;
    struct jconsumer **v = xcalloc(r->stream->consumers.n + 1, sizeof(struct jconsumer *));
    json_t *o, *all = json_array();
    uint32_t at = 0;
    void *c;

    while (map_next(&r->stream->consumers, &at, NULL, &c))
        v[n++] = c;
    qsort(v, n, sizeof *v, by_name);
    for (i = offset; i < n && i - offset < most; i++)
        json_array_append_new(all, names ? json_string(v[i]->conf.name) : jconsumer_info(v[i]));
    free(v);
    o = json_pack("{s:I, s:I, s:I, s:o}", "total", (json_int_t)n, "offset",
                  (json_int_t)(offset < n ? offset : n), "limit", (json_int_t)most, "consumers",
                  all);
    js_answer(r, names ? "consumer_names" : "consumer_list", o);
}

static void names_request(struct jreq *r)
{
    list(r, true);
}

static void list_request(struct jreq *r)
{
    list(r, false);
}

static void info(struct jreq *r, struct jconsumer *c)
{
    js_answer(r, "consumer_info", jconsumer_info(c));
}

/* ---- deleted, paused, reset, unpinned ---- */

static void deleted(void *arg, enum err e)
{
    struct jreq *r = arg;

    if (e)
        js_fail(r, "consumer_delete", JSE_CONSUMER_STORE_FAILED, "%s", err_text(e));
    else
        js_answer(r, "consumer_delete", json_pack("{s:b}", "success", 1));
}

static void delete_request(struct jreq *r, struct jconsumer *c)
{
    if (r->body.len)
        js_fail(r, "consumer_delete", JSE_NOT_EMPTY_REQUEST, NULL);
    else
        jconsumer_delete(c, deleted, r);
}

struct jpausing {
    struct jdone d;
    struct jreq *r;
    int64_t until_ns;
};

static void pause_answer(struct jreq *r, int64_t until_ns)
{
    int64_t left = until_ns == JTIME_NONE ? 0 : until_ns - js_now_ns(r->js);
    char text[JTIME_TEXT_LEN + 1] = ZERO_TIME;
    json_t *o;

    if (until_ns != JTIME_NONE)
        jtime_text(until_ns, text);
    o = json_pack("{s:b, s:s}", "paused", left > 0, "pause_until", text);
    if (left > 0)
        json_object_set_new(o, "pause_remaining", json_integer(left));
    js_answer(r, "consumer_pause", o);
}

static void paused(struct jdone *d)
{
    struct jpausing *p = list_entry(d, struct jpausing, d);

    if (d->e)
        js_fail(p->r, "consumer_pause", JSE_CONSUMER_STORE_FAILED, "%s", err_text(d->e));
    else
        pause_answer(p->r, p->until_ns);
    free(p);
}

static bool pause_read(const struct jreq *r, int64_t *until_ns)
{
    const json_t *v = json_object_get(r->json, "pause_until");

    *until_ns = JTIME_NONE;
    if (!v || json_is_null(v) || (json_is_string(v) && !strncmp(json_string_value(v), "0001-", 5)))
        return r->json == NULL || json_is_object(r->json);
    return json_is_string(v) &&
           jtime_read(slice_of(json_string_value(v), json_string_length(v)), until_ns);
}

static void pause_request(struct jreq *r, struct jconsumer *c)
{
    struct jpausing *p;
    int64_t until;
    enum err e;

    if (!pause_read(r, &until)) {
        js_fail(r, "consumer_pause", JSE_INVALID_JSON, "pause_until is no time");
        return;
    }
    c->conf.pause_until_ns = until;
    advise_pause(c);
    jconsumer_wake(c);
    if (!c->saved) {
        pause_answer(r, until);
        return;
    }
    p = xcalloc(1, sizeof *p);
    p->r = r;
    p->until_ns = until;
    jdone_begin(&p->d, c->s, paused);
    e = jconsumer_save(c, jdone_call, &p->d);
    if (e)
        jdone_call(&p->d, e, NULL);
}

/* Where a consumer may begin anew: NULL, or why not. */
static const char *reset_refused(const struct jconsumer *c, uint64_t seq)
{
    int64_t ms = (c->conf.start_time_ns + 999999) / 1000000;
    uint64_t first;

    switch ((enum jdeliver)c->conf.deliver) {
    case JDELIVER_ALL:
        return NULL;
    case JDELIVER_SEQUENCE:
        return seq < c->conf.start_seq ? "below start seq" : NULL;
    case JDELIVER_TIME:
        first = jindex_seek_time(&c->s->index, ms);
        return seq < (first ? first : c->s->index.last + 1) ? "below start time" : NULL;
    default:
        return "not allowed";
    }
}

static void reset_done(struct jdone *d)
{
    struct janswer *a = list_entry(d, struct janswer, d);

    if (!d->e && !a->c->gone)
        jconsumer_rewind(a->c, (uint64_t)json_integer_value(json_object_get(a->more, "reset_seq")));
    answer_send(a, d->e);
}

static void reset_request(struct jreq *r, struct jconsumer *c)
{
    static const char type[] = "consumer_reset";
    const json_t *v = json_object_get(r->json, "seq");
    json_int_t asked = json_integer_value(v);
    const char *why = NULL;
    struct errinfo info;
    struct janswer *a;
    uint64_t seq;
    enum err e;

    if ((r->json && !json_is_object(r->json)) || (v && !json_is_integer(v)) || asked < 0) {
        js_fail(r, type, JSE_INVALID_JSON, "seq is no sequence");
        return;
    }
    seq = asked ? (uint64_t)asked : jconsumer_floor(c).seq + 1;
    if (asked)
        why = reset_refused(c, seq);
    if (why) {
        js_fail(r, type, JSE_CONSUMER_INVALID_RESET, "%s", why);
        return;
    }
    a = answer_new(r, c, type);
    a->more = json_pack("{s:I}", "reset_seq", (json_int_t)seq);
    jacks_settle(c); /* what came before counts */
    jdone_begin(&a->d, c->s, reset_done);
    if (seq < c->s->first_seq)
        seq = c->s->first_seq;
    e = c->acked ? cursor_set(c->js->b, slice_str(c->group), c->s->p, jstream_offset(c->s, seq),
                              jdone_call, &a->d, &info)
                 : ERR_OK;
    if (e || !c->acked)
        jdone_call(&a->d, e, NULL);
}

static void unpin_request(struct jreq *r, struct jconsumer *c)
{
    const char *group = json_string_value(json_object_get(r->json, "group"));
    unsigned i;

    if (!group || !*group) {
        js_fail(r, "consumer_unpin", JSE_INVALID_JSON, "consumer group not specified");
        return;
    }
    for (i = 0; i < c->conf.priority_groups.n; i++)
        if (slice_eq_str(jlist_text(&c->conf.priority_groups, i), group)) {
            jpin_drop(c, "admin");
            js_answer(r, "consumer_unpin", NULL);
            return;
        }
    js_fail(r, "consumer_unpin", JSE_CONSUMER_INVALID_PRIORITY_GROUP, NULL);
}

static void step_down_request(struct jreq *r)
{
    js_fail(r, "consumer_leader_stepdown", JSE_CLUSTER_REQUIRED, NULL);
}

/* ---- which request ---- */

static const struct {
    const char *prefix, *type;
    unsigned name; /* token of the consumer; 0: it is not about one */
    void (*all)(struct jreq *r);
    void (*one)(struct jreq *r, struct jconsumer *c);
} calls[] = {
    {"CONSUMER.CREATE.", "consumer_create", 0, create, NULL},
    {"CONSUMER.DURABLE.CREATE.", "consumer_create", 0, create, NULL},
    {"CONSUMER.NAMES.", "consumer_names", 0, names_request, NULL},
    {"CONSUMER.LIST.", "consumer_list", 0, list_request, NULL},
    {"CONSUMER.LEADER.STEPDOWN.", "consumer_leader_stepdown", 0, step_down_request, NULL},
    {"CONSUMER.INFO.", "consumer_info", 3, NULL, info},
    {"CONSUMER.DELETE.", "consumer_delete", 3, NULL, delete_request},
    {"CONSUMER.PAUSE.", "consumer_pause", 3, NULL, pause_request},
    {"CONSUMER.RESET.", "consumer_reset", 3, NULL, reset_request},
    {"CONSUMER.UNPIN.", "consumer_unpin", 3, NULL, unpin_request},
};

void jconsumer_request(struct jreq *r)
{
    struct jconsumer *c;
    unsigned i;

    for (i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (!slice_has_prefix(r->subject, slice_str(calls[i].prefix)))
            continue;
        if (calls[i].all) {
            calls[i].all(r);
            return;
        }
        c = jconsumer_find(r->stream, js_token(r->subject, calls[i].name));
        if (c)
            calls[i].one(r, c);
        else
            js_fail(r, calls[i].type, JSE_CONSUMER_NOT_FOUND, NULL);
        return;
    }
    jreq_free(r); /* CONSUMER.MSG.NEXT has a subscription of its own */
}
