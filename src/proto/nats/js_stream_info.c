/* What the API tells of streams: one, lists of them, accounts. See js_stream.h. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/subject.h"
#include "proto/nats/js_implicit.h"
#include "proto/nats/js_source.h"
#include "proto/nats/js_store.h"
#include "proto/nats/js_stream.h"

#define NAMES_PAGE    1024u
#define LIST_PAGE     256u
#define SUBJECTS_PAGE 100000u

/* ---- one ---- */

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
        jtime_put(o, "first_ts", jtime_ns(m.time_ms));
    if (jstore_last_ms(s) != JTIME_NONE)
        jtime_put(o, "last_ts", jtime_ns(jstore_last_ms(s)));
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

    subjects_put(s, options, root, state);
    json_object_set_new(root, "config", jstream_conf_write(&s->conf));
    jtime_put(root, "created", s->created_ns);
    json_object_set_new(root, "state", state);
    jsources_info(s, root);
    jtime_put(root, "ts", js_now_ns(s->js));
    return root;
}

void jstream_answer(struct jreq *r, const char *type, bool made)
{
    json_t *o = jstream_info(r->stream, r->json);

    if (made)
        json_object_set_new(o, "did_create", json_true());
    js_answer(r, type, o);
}

void jstream_advise(struct jstream *s, const char *what)
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

/* ---- accounts ---- */

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
