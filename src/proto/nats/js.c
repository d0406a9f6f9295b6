/* All streams: their table, start and end; what a loop does at the end of a turn. See js_int.h. */
#include "proto/nats/js.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/subject.h"
#include "base/tbl/limits.h"
#include "io/io.h"
#include "proto/nats/js_implicit.h"
#include "proto/nats/js_int.h"
#include "proto/nats/js_stream.h"
#include "proto/nats/js_zone.h"

#define SETTLE_NS   1000000u /* between looks at what is still under way at the end */
#define ORIGINS_MAX 200u     /* streams that one copies through others */

int js_by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

int64_t js_now_ms(const struct js *js)
{
    return io_wall_ms(js->n->conf.io);
}

int64_t js_now_ns(const struct js *js)
{
    return io_wall_ms(js->n->conf.io) * 1000000;
}

/* ---- the end of a turn ---- */

struct jloop *js_loop(struct js *js, const struct nloop *l)
{
    return &js->loops[l->index];
}

void js_later(struct jloop *jl, struct jlater *j)
{
    if (j->queued)
        return;
    j->queued = true;
    list_push_back(&jl->later, &j->link);
}

void js_later_cancel(struct jlater *j)
{
    if (!j->queued)
        return;
    j->queued = false;
    list_remove(&j->link);
}

static void wake(struct loop_task *t)
{
    list_entry(t, struct jloop, wake)->awake = false;
}

/* What is asked for meanwhile comes in the next turn, which does not wait then: others get on, too. */
void js_turn_end(struct js *js, struct nloop *l)
{
    struct jloop *jl = js_loop(js, l);
    struct list_head now;
    struct jlater *j;

    list_init(&now);
    while (!list_empty(&jl->later))
        list_push_back(&now, list_pop_front(&jl->later));
    while (!list_empty(&now)) {
        j = list_entry(list_pop_front(&now), struct jlater, link);
        j->queued = false;
        j->fn(j);
    }
    if (list_empty(&jl->later) || jl->awake)
        return;
    jl->awake = true;
    jl->wake.fn = wake;
    loop_post(l->loop, &jl->wake);
}

/* ---- what the log confirms ---- */

static void done_run(struct loop_task *t)
{
    struct jdone *d = list_entry(t, struct jdone, task);
    struct jstream *s = d->s;

    js_end(s->js);
    d->fn(d);
    jstream_unref(s);
}

void jdone_begin(struct jdone *d, struct jstream *s, void (*fn)(struct jdone *d))
{
    *d = (struct jdone){.task.fn = done_run, .s = jstream_ref(s), .fn = fn};
    js_begin(s->js);
}

void jdone_cancel(struct jdone *d)
{
    js_end(d->s->js);
    jstream_unref(d->s);
}

void jdone_call(void *arg, enum err e, const struct errinfo *info)
{
    struct jdone *d = arg;

    (void)info;
    d->e = e;
    loop_post(d->s->l->loop, &d->task);
}

/* ---- the table ---- */

struct jstream *jstream_ref(struct jstream *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void jstream_unref(struct jstream *s)
{
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
        jstream_free(s);
}

static size_t stream_key(char *out, size_t room, const struct naccount *a, struct slice name)
{
    size_t n = strlen(a->name) + 1;

    if (n + name.len > room)
        return 0;
    memcpy(out, a->name, n);
    if (name.len)
        memcpy(out + n, name.ptr, name.len);
    return n + name.len;
}

struct jstream *js_stream_find(struct js *js, const struct naccount *a, struct slice name)
{
    char key[LIMIT_KV_KEY];
    size_t n = name.len ? stream_key(key, sizeof key, a, name) : 0;
    struct jstream *s;

    if (!n)
        return NULL;
    io_mutex_lock(&js->lock);
    s = map_find(&js->streams, slice_of(key, n));
    if (s)
        jstream_ref(s);
    io_mutex_unlock(&js->lock);
    return s;
}

/* The lock is held. */
static bool subjects_free(struct jstream *s)
{
    const struct jlist *mine = &s->conf.subjects;
    uint32_t at = 0;
    unsigned i, k;
    void *v;

    while (map_next(&s->js->streams, &at, NULL, &v)) {
        const struct jstream *other = v;

        if (other == s || other->account != s->account)
            continue;
        for (i = 0; !s->implicit && i < mine->n; i++)
            for (k = 0; k < other->claimed_n; k++)
                if (subjects_meet(jlist_text(mine, i), slice_str(other->claimed[k])))
                    return false;
    }
    return true;
}

static void claim_origins(struct jstream *s)
{
    const struct jsource *v = s->conf.mirror ? s->conf.mirror : s->conf.sources.v;
    unsigned i;

    for (i = 0; i < s->origins_n; i++)
        free(s->origins[i]);
    free(s->origins);
    s->origins_n = s->conf.mirror ? 1 : s->conf.sources.n;
    s->origins = xcalloc(s->origins_n + 1, sizeof(char *));
    for (i = 0; i < s->origins_n; i++)
        s->origins[i] = xstrdup(v[i].name);
}

/* The lock is held, or nobody else knows s. */
static void claim(struct jstream *s)
{
    unsigned i;

    claim_origins(s);
    s->claimed_size = s->conf.max_msg_size;
    for (i = 0; i < s->claimed_n; i++)
        free(s->claimed[i]);
    free(s->claimed);
    s->claimed_n = s->implicit ? 0 : s->conf.subjects.n; /* of the others, too */
    s->claimed = xcalloc(s->claimed_n + 1, sizeof(char *));
    for (i = 0; i < s->claimed_n; i++)
        s->claimed[i] = xstrdup((const char *)jlist_text(&s->conf.subjects, i).ptr);
}

bool js_subjects_claim(struct jstream *s)
{
    bool ok;

    io_mutex_lock(&s->js->lock);
    ok = subjects_free(s);
    if (ok)
        claim(s);
    io_mutex_unlock(&s->js->lock);
    return ok;
}

/* Whether `to` is reached from s by what is copied; the lock is held. steps: a bound, as ways may
 * part and meet. */
static bool origins_reach(const struct jstream *s, const struct jstream *to, unsigned *steps)
{
    char key[LIMIT_KV_KEY];
    const struct jstream *o;
    unsigned i;
    size_t n;

    for (i = 0; i < s->origins_n; i++) {
        n = stream_key(key, sizeof key, s->account, slice_str(s->origins[i]));
        o = map_find(&s->js->streams, slice_of(key, n));
        if (o && (o == to || !*steps || (--*steps, origins_reach(o, to, steps))))
            return true;
    }
    return false;
}

bool js_origins_fit(struct jstream *s)
{
    int64_t most = s->conf.max_msg_size;
    char key[LIMIT_KV_KEY];
    const struct jstream *o;
    bool fit = true;
    unsigned i;
    size_t n;

    io_mutex_lock(&s->js->lock);
    for (i = 0; fit && most > 0 && i < s->origins_n; i++) {
        n = stream_key(key, sizeof key, s->account, slice_str(s->origins[i]));
        o = map_find(&s->js->streams, slice_of(key, n));
        fit = !o || o->claimed_size <= most;
    }
    io_mutex_unlock(&s->js->lock);
    return fit;
}

bool js_origins_cycle(struct jstream *s)
{
    unsigned steps = ORIGINS_MAX;
    bool found;

    io_mutex_lock(&s->js->lock);
    found = origins_reach(s, s, &steps);
    io_mutex_unlock(&s->js->lock);
    return found;
}

enum err js_stream_put(struct js *js, struct jstream *s)
{
    enum err e;

    io_mutex_lock(&js->lock);
    e = subjects_free(s) ? map_put(&js->streams, slice_of(s->key, s->key_len), s) : ERR_CONFLICT;
    if (!e) {
        claim(s);
        jstream_ref(s);
    }
    io_mutex_unlock(&js->lock);
    return e;
}

void js_stream_take(struct js *js, struct jstream *s)
{
    struct jstream *was;

    io_mutex_lock(&js->lock);
    was = map_find(&js->streams, slice_of(s->key, s->key_len));
    if (was == s)
        map_remove(&js->streams, slice_of(s->key, s->key_len));
    io_mutex_unlock(&js->lock);
    if (was == s)
        jstream_unref(s);
}

static int by_key(const void *a, const void *b)
{
    const struct jstream *x = *(struct jstream *const *)a, *y = *(struct jstream *const *)b;
    size_t n = x->key_len < y->key_len ? x->key_len : y->key_len;
    int c = memcmp(x->key, y->key, n);

    return c ? c : (x->key_len > y->key_len) - (x->key_len < y->key_len);
}

void js_streams_each(struct js *js, const struct naccount *a,
                     bool (*fn)(void *arg, struct jstream *s), void *arg)
{
    struct jstream **v;
    uint32_t at = 0;
    size_t n = 0, i;
    bool go = true;
    void *s;

    io_mutex_lock(&js->lock);
    v = xcalloc(js->streams.n + 1, sizeof(struct jstream *));
    while (map_next(&js->streams, &at, NULL, &s))
        if (!a || ((struct jstream *)s)->account == a)
            v[n++] = jstream_ref(s);
    io_mutex_unlock(&js->lock);
    qsort(v, n, sizeof(struct jstream *), by_key);
    for (i = 0; i < n; i++) {
        go = go && fn(arg, v[i]);
        jstream_unref(v[i]);
    }
    free(v);
}

struct nloop *js_loop_for(struct js *js, const struct naccount *a, struct slice name)
{
    char key[LIMIT_KV_KEY];
    size_t n = stream_key(key, sizeof key, a, name);

    return &js->n->loops[hash64(key, n, 0) % js->n->conf.loops_n];
}

/* ---- accounts ---- */

void js_account(struct js *js, struct naccount *a)
{
    struct jaccount *ja = xcalloc(1, sizeof *ja);

    ja->js = js;
    ja->account = a;
    ja->l = js_loop_for(js, a, SLICE_NULL);
    atomic_init(&ja->pressed, false);
    io_mutex_lock(&js->lock);
    ja->next = js->accounts;
    js->accounts = ja;
    io_mutex_unlock(&js->lock);
    js_api_open(ja);
}

struct jaccount *js_account_of(struct js *js, const struct naccount *a)
{
    struct jaccount *ja;

    io_mutex_lock(&js->lock);
    for (ja = js->accounts; ja && ja->account != a;)
        ja = ja->next;
    io_mutex_unlock(&js->lock);
    ASSERT(ja);
    return ja;
}

/* ---- start and end ---- */

struct saved {
    struct saved *next;
    size_t key_len, value_len;
    uint8_t text[];
};

static bool note_saved(void *arg, struct slice key, struct slice value)
{
    struct saved **list = arg, *s = xmalloc(sizeof *s + key.len + value.len);

    s->key_len = key.len;
    s->value_len = value.len;
    memcpy(s->text, key.ptr, key.len);
    memcpy(s->text + key.len, value.ptr, value.len);
    s->next = *list;
    *list = s;
    return true;
}

static struct naccount *account_of(struct nats *n, struct slice name)
{
    struct naccount *a;

    for (a = n->accounts; a; a = a->next)
        if (slice_eq_str(name, a->name))
            return a;
    return NULL;
}

static void stream_restore(struct js *js, const struct saved *v)
{
    struct slice key = slice_of(v->text, v->key_len), name;
    const uint8_t *nul = memchr(key.ptr, 0, key.len);
    struct naccount *a;

    if (!nul)
        return;
    name = slice_of(nul + 1, key.len - (size_t)(nul + 1 - key.ptr));
    a = account_of(js->n, slice_of(key.ptr, (size_t)(nul - key.ptr)));
    if (a) /* else it is of an account that is not in the file of users: kept, but nobody's */
        jstream_restore(js, a, name, slice_of(v->text + v->key_len, v->value_len));
}

enum err js_new(struct nats *n, struct broker *b, struct js **out, struct errinfo *info)
{
    struct js *js = xcalloc(1, sizeof *js);
    struct saved *list = NULL, *v;
    struct naccount *a;
    unsigned i;

    js->n = n;
    js->b = b;
    io_random(n->conf.io, js->seed, sizeof js->seed);
    io_mutex_init(&js->lock);
    js->zones = jzones_new(n->conf.io);
    map_init(&js->streams, LIMIT_JS_STREAMS, js->seed);
    js->loops = xcalloc(n->conf.loops_n, sizeof *js->loops);
    for (i = 0; i < n->conf.loops_n; i++) {
        js->loops[i] = (struct jloop){.js = js, .l = &n->loops[i]};
        list_init(&js->loops[i].later);
        buf_init(&js->loops[i].scratch, SIZE_MAX);
    }
    *out = n->js = js;
    n->js_monitor = &js_monitor;
    if (workers_new(&js->workers, "weir-stream", broker_simulated(b) ? 0 : LIMIT_JS_READ_THREADS,
                    info)) {
        js_free(out);
        return info ? info->code : ERR_IO;
    }
    for (a = n->accounts; a; a = a->next)
        js_account(js, a);
    js_clock_start(js);
    kv_each(b, JS_STREAM_NS, note_saved, &list);
    while ((v = list)) {
        list = v->next;
        stream_restore(js, v);
        free(v);
    }
    jimplicit_start(js);
    return ERR_OK;
}

/* What is with the writer thread and the workers comes back to loops, which do not run any more. */
static void settle(struct js *js)
{
    struct io_event ev; /* nobody signals it: threads of others are to get on */
    unsigned i, rest = 0;

    io_event_init(&ev);
    while (rest < 2) {
        broker_step(js->b);
        rest = atomic_load_explicit(&js->under_way, memory_order_acquire) ? 0 : rest + 1;
        for (i = 0; i < js->n->conf.loops_n; i++) {
            js_turn_end(js, &js->n->loops[i]);
            loop_drain(js->n->loops[i].loop);
        }
        if (!rest)
            io_event_wait(&ev, SETTLE_NS);
    }
    io_event_fini(&ev);
}

static bool end_one(void *arg, struct jstream *s)
{
    (void)arg;
    jstream_close(s);
    return true;
}

void js_free(struct js **jsp)
{
    struct js *js = *jsp;
    struct jaccount *ja;
    unsigned i;

    if (!js)
        return;
    atomic_store(&js->ending, true);
    jimplicit_stop(js);
    js_streams_each(js, NULL, end_one, NULL);
    settle(js);
    workers_free(&js->workers);
    js_clock_stop(js);
    while ((ja = js->accounts)) {
        js->accounts = ja->next;
        nats_sub_end(ja->api, ja->account);
        free(ja);
    }
    ASSERT(!js->streams.n);
    map_fini(&js->streams);
    jzones_free(&js->zones);
    for (i = 0; i < js->n->conf.loops_n; i++)
        buf_fini(&js->loops[i].scratch);
    free(js->loops);
    io_mutex_fini(&js->lock);
    js->n->js = NULL;
    js->n->js_monitor = NULL;
    free(js);
    *jsp = NULL;
}

void js_metrics(struct js *js, struct buf *out)
{
    struct jaccount *ja;
    uint64_t requests = 0, errors = 0;
    uint32_t streams;

    io_mutex_lock(&js->lock);
    streams = js->streams.n;
    for (ja = js->accounts; ja; ja = ja->next) {
        requests += atomic_load_explicit(&ja->requests, memory_order_relaxed);
        errors += atomic_load_explicit(&ja->errors, memory_order_relaxed);
    }
    io_mutex_unlock(&js->lock);
    buf_printf(out,
               "# HELP weir_nats_jetstream_streams Streams now.\n"
               "# TYPE weir_nats_jetstream_streams gauge\nweir_nats_jetstream_streams %u\n",
               streams);
    buf_printf(out,
               "# HELP weir_nats_jetstream_requests_total Requests to JetStream's API.\n"
               "# TYPE weir_nats_jetstream_requests_total counter\n"
               "weir_nats_jetstream_requests_total %" PRIu64 "\n",
               requests);
    buf_printf(out,
               "# HELP weir_nats_jetstream_errors_total Those answered with an error.\n"
               "# TYPE weir_nats_jetstream_errors_total counter\n"
               "weir_nats_jetstream_errors_total %" PRIu64 "\n",
               errors);
    buf_printf(
        out,
        "# HELP weir_nats_jetstream_lost_total Messages without a reply subject that a stream "
        "could not keep.\n"
        "# TYPE weir_nats_jetstream_lost_total counter\n"
        "weir_nats_jetstream_lost_total %" PRIu64 "\n",
        atomic_load_explicit(&js->lost, memory_order_relaxed));
}
