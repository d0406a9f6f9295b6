/* A consumer: made, in its turns, closed; and what there is to say of it. See js_consumer_int.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/tbl/limits.h"
#include "proto/nats/js_consumer_int.h"

#define MS_NS       1000000
#define INACTIVE_NS 5000000000ll /* of those that are not durable, if they do not say */
#define ADVICE_ROOM 640u

/* ---- references ---- */

struct jconsumer *jconsumer_find(const struct jstream *s, struct slice name)
{
    return map_find(&s->consumers, name);
}

void jconsumer_ref(struct jconsumer *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
}

static void consumer_free(struct jconsumer *c)
{
    struct jspent_note *n;

    ASSERT(c->gone && list_empty(&c->pulls) && list_empty(&c->asked));
    while ((n = c->told_spent)) {
        c->told_spent = n->next;
        free(n);
    }
    io_mutex_fini(&c->told_lock);
    cursor_unref(&c->cursor);
    jfilter_free(&c->filter);
    jwindow_fini(&c->window);
    jconsumer_conf_fini(&c->conf);
    buf_fini(&c->replies);
    buf_fini(&c->headers);
    free(c->acks);
    free(c->lasts);
    free(c->spent);
    free(c->group);
    free(c->ack_prefix);
    free(c);
}

void jconsumer_unref(struct jconsumer *c)
{
    if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
        consumer_free(c);
}

/* ---- turns ---- */

bool jconsumer_paused(const struct jconsumer *c)
{
    return c->conf.pause_until_ns != JTIME_NONE && c->conf.pause_until_ns > js_now_ns(c->js);
}

uint64_t jconsumer_now_ms(const struct jconsumer *c)
{
    return loop_now_ms(c->l->loop);
}

void jconsumer_wake(struct jconsumer *c)
{
    if (!c->gone)
        js_later(js_loop(c->js, c->l), &c->work);
}

static void more_run(struct loop_task *t)
{
    struct jconsumer *c = list_entry(t, struct jconsumer, more);
    struct jstream *s = c->s;

    c->more_posted = false;
    jconsumer_wake(c);
    js_end(c->js);
    jconsumer_unref(c);
    jstream_unref(s);
}

void jconsumer_wake_later(struct jconsumer *c)
{
    if (c->more_posted || c->gone)
        return;
    c->more_posted = true;
    c->more.fn = more_run;
    jstream_ref(c->s);
    jconsumer_ref(c);
    js_begin(c->js);
    loop_post(c->l->loop, &c->more);
}

static void timer_run(struct loop_timer *t)
{
    struct jconsumer *c = list_entry(t, struct jconsumer, timer);

    jconsumer_wake(c);
}

void jconsumer_due(struct jconsumer *c, uint64_t at_ms)
{
    uint64_t now = jconsumer_now_ms(c);

    if (c->gone || (loop_timer_armed(&c->timer) && c->timer.due_ms <= at_ms))
        return;
    loop_timer_arm(c->l->loop, &c->timer, at_ms > now ? at_ms - now : 0);
}

static bool in_use(const struct jconsumer *c, uint64_t now)
{
    uint64_t most = (uint64_t)(c->conf.inactive_ns / MS_NS);

    if (jconsumer_push(c))
        return c->bound;
    return c->pulls_n > 0 || now - c->last_pull_ms < most;
}

/* False: it is gone by now. */
static bool look_at_time(struct jconsumer *c)
{
    uint64_t now = jconsumer_now_ms(c), most = (uint64_t)(c->conf.inactive_ns / MS_NS);
    int64_t left;

    if (c->pin[0]) {
        if (now >= c->pin_until_ms)
            jpin_drop(c, "timeout");
        else
            jconsumer_due(c, c->pin_until_ms);
    }
    if (c->conf.pause_until_ns != JTIME_NONE &&
        (left = c->conf.pause_until_ns - js_now_ns(c->js)) > 0)
        jconsumer_due(c, now + (uint64_t)(left / MS_NS) + 1);
    if (!most)
        return true;
    if (in_use(c, now))
        c->idle_since_ms = now;
    if (now - c->idle_since_ms >= most) {
        jconsumer_delete(c, NULL, NULL);
        return false;
    }
    jconsumer_due(c, c->idle_since_ms + most);
    return true;
}

static void work(struct jlater *j)
{
    struct jconsumer *c = list_entry(j, struct jconsumer, work);

    if (c->gone)
        return;
    jacks_settle(c);
    jpulls_take(c);
    if (jconsumer_push(c))
        jpush_look(c);
    if (!look_at_time(c))
        return;
    jdeliver(c);
    if (jconsumer_push(c))
        jpush_beat(c);
    if (c->place_ms && jconsumer_now_ms(c) >= c->place_ms)
        jconsumer_place_save(c);
    else if (c->place_ms)
        jconsumer_due(c, c->place_ms);
}

/* ---- what other threads tell ---- */

static void told_run(struct loop_task *t)
{
    struct jconsumer *c = list_entry(t, struct jconsumer, told);
    struct jstream *s = c->s;
    struct jspent_note *n, *next;
    uint64_t seq;

    atomic_store(&c->told_posted, false);
    io_mutex_lock(&c->told_lock);
    n = c->told_spent;
    c->told_spent = NULL;
    io_mutex_unlock(&c->told_lock);
    for (; n; n = next) {
        next = n->next;
        for (seq = jstream_seq(s, n->first); !c->gone && seq <= jstream_seq(s, n->last); seq++)
            jack_spent(c, seq, n->deliveries);
        free(n);
    }
    jconsumer_wake(c);
    js_end(c->js);
    jconsumer_unref(c);
    jstream_unref(s);
}

/* The cursor is locked; any thread. */
static void told(void *arg, enum cursor_event what, int64_t first, int64_t last,
                 uint16_t deliveries)
{
    struct jconsumer *c = arg;
    struct jspent_note *n;

    if (what == CURSOR_SPENT) {
        n = xmalloc(sizeof *n);
        *n = (struct jspent_note){NULL, first, last, deliveries};
        io_mutex_lock(&c->told_lock);
        n->next = c->told_spent;
        c->told_spent = n;
        io_mutex_unlock(&c->told_lock);
    }
    if (atomic_exchange(&c->told_posted, true))
        return;
    jstream_ref(c->s);
    jconsumer_ref(c);
    js_begin(c->js);
    loop_post(c->l->loop, &c->told);
}

void jconsumer_cursor_found(struct jconsumer *c)
{
    c->cursor = cursor_find(c->js->b, slice_str(c->group), c->s->p);
    if (c->cursor)
        cursor_watch(c->cursor, told, c);
}

/* ---- made ---- */

char *jconsumer_text(const char *a, const char *b, const char *c, const char *d)
{
    size_t n = strlen(a) + strlen(b) + strlen(c) + strlen(d) + 1;
    char *out = xmalloc(n);

    snprintf(out, n, "%s%s%s%s", a, b, c, d);
    return out;
}

static void filter_make(struct jconsumer *c)
{
    unsigned i, n = jconsumer_conf_filters(&c->conf);
    struct slice *v = xcalloc(n + 1, sizeof *v);

    for (i = 0; i < n; i++)
        v[i] = jconsumer_conf_filter(&c->conf, i);
    jfilter_free(&c->filter);
    if (n && !(n == 1 && slice_eq_str(v[0], ">")))
        c->filter = jfilter_new(v, n);
    free(v);
}

static void lease_configure(struct jconsumer *c)
{
    const char *dead = json_string_value(json_object_get(c->conf.metadata, "weir.dead_letters"));
    bool keeps = c->s->conf.retention != JRETENTION_LIMITS;

    cursor_conf_default(&c->lease);
    c->lease.lease_ms = jconsumer_lease_ms(c, 1);
    c->lease.deliveries_max = 0;
    if (c->conf.max_deliver > 0 && c->conf.max_deliver < INT16_MAX && !keeps)
        c->lease.deliveries_max = (int32_t)c->conf.max_deliver;
    c->lease.records_max = LIMIT_JS_ACK_PENDING;
    if (c->conf.max_ack_pending > 0 && c->conf.max_ack_pending < LIMIT_JS_ACK_PENDING)
        c->lease.records_max = (int32_t)c->conf.max_ack_pending;
    if (dead && topic_name_valid(slice_str(dead)))
        snprintf(c->lease.dead_letters, sizeof c->lease.dead_letters, "%s", dead);
}

void jconsumer_configure(struct jconsumer *c)
{
    filter_make(c);
    if (!c->conf.durable && !c->conf.inactive_ns)
        c->conf.inactive_ns = INACTIVE_NS;
    c->sample = c->conf.sample_freq ? (int)strtol(c->conf.sample_freq, NULL, 10) : 0;
    lease_configure(c);
    c->bound_stamp = 0;
    c->looked = false;
    jconsumer_wake(c);
}

struct jconsumer *jconsumer_new(struct jstream *s, struct jconsumer_conf *conf, int64_t created_ns)
{
    struct jconsumer *c = xcalloc(1, sizeof *c);

    c->s = s;
    c->js = s->js;
    c->l = s->l;
    atomic_init(&c->refs, 1);
    c->conf = *conf;
    memset(conf, 0, sizeof *conf);
    c->created_ns = created_ns;
    c->acked = c->conf.ack != JACK_NONE;
    c->saved = c->acked || (!c->conf.direct && (c->conf.durable || !c->conf.mem_storage));
    c->group = jconsumer_text("$JS.", s->account->name, ".", c->conf.name);
    c->ack_prefix = jconsumer_text("$JS.ACK.", s->conf.name, ".", c->conf.name);
    c->ack_prefix = xrealloc(c->ack_prefix, strlen(c->ack_prefix) + 2);
    c->ack_prefix_len = strlen(c->ack_prefix) + 1;
    memcpy(c->ack_prefix + c->ack_prefix_len - 1, ".", 2);
    jwindow_init(&c->window);
    list_init(&c->asked);
    list_init(&c->pulls);
    list_init(&c->unparking);
    buf_init(&c->replies, LIMIT_JS_REPLIES);
    buf_init(&c->headers, SIZE_MAX);
    c->work.fn = work;
    c->told.fn = told_run;
    atomic_init(&c->told_posted, false);
    io_mutex_init(&c->told_lock);
    loop_timer_init(&c->timer, timer_run);
    c->reader = jreader_new(s);
    c->dseq = 1;
    c->last_pull_ms = c->idle_since_ms = c->rate_ms = jconsumer_now_ms(c);
    c->rate_room = (double)c->conf.rate_bps / 8;
    jconsumer_configure(c);
    map_put(&s->consumers, jconsumer_name(c), c);
    jstream_note(s);
    return c;
}

/* ---- where it begins ---- */

static bool last_note(void *arg, const struct jindex_subject_info *i)
{
    struct jconsumer *c = arg;

    c->lasts[c->lasts_n++] = i->last;
    return true;
}

static uint64_t start_lasts(struct jconsumer *c)
{
    const struct jindex *x = &c->s->index;

    c->lasts = xcalloc((size_t)x->subjects + 1, sizeof *c->lasts);
    jindex_subjects(x, c->filter, last_note, c);
    qsort(c->lasts, c->lasts_n, sizeof *c->lasts, js_by_number);
    c->resume = x->last + 1;
    return c->lasts_n ? c->lasts[0] : c->resume;
}

static uint64_t start_of(struct jconsumer *c)
{
    const struct jindex *x = &c->s->index;
    uint64_t seq = 0;

    switch ((enum jdeliver)c->conf.deliver) {
    case JDELIVER_ALL:
        return x->first;
    case JDELIVER_LAST:
        seq = jindex_prev(x, c->filter, x->last);
        break;
    case JDELIVER_NEW:
        break;
    case JDELIVER_SEQUENCE:
        return c->conf.start_seq;
    case JDELIVER_TIME:
        seq = jindex_seek_time(x, (c->conf.start_time_ns + MS_NS - 1) / MS_NS);
        break;
    case JDELIVER_LAST_PER_SUBJECT:
        return start_lasts(c);
    }
    return seq ? seq : x->last + 1;
}

/* The place may be ahead of the cursor, after a restart: what was delivered last was not counted. */
bool jconsumer_open(const struct jconsumer *c, uint64_t seq)
{
    int64_t offset = jstream_offset(c->s, seq);
    struct cursor_info ci;

    cursor_info_get(c->cursor, &ci);
    return offset >= ci.next || cursor_record_get(c->cursor, offset, NULL, NULL);
}

/* What was delivered before a restart, behind what is known of that, and is acknowledged by now. */
static void pending_done(struct jconsumer *c)
{
    struct cursor_info ci;
    uint64_t seq, end;

    if (!c->acked || !c->cursor)
        return;
    cursor_info_get(c->cursor, &ci);
    end = jstream_seq(c->s, ci.next);
    for (seq = jindex_next(&c->s->index, c->filter, c->next); seq && seq < end;
         seq = jindex_next(&c->s->index, c->filter, seq + 1))
        if (c->pending && jconsumer_ahead(c, seq) && !jconsumer_open(c, seq))
            c->pending--;
}

void jconsumer_recount(struct jconsumer *c)
{
    const struct jindex *x = &c->s->index;
    uint32_t i;

    c->counted = x->last;
    c->pending = jindex_count(x, c->filter, c->next < c->resume ? c->resume : c->next);
    for (i = c->lasts_at; i < c->lasts_n; i++)
        c->pending += c->lasts[i] >= c->next && jindex_has(x, c->lasts[i]);
    pending_done(c);
}

static void set_place(struct jconsumer *c, uint64_t seq)
{
    c->next = seq;
    c->last_seq = seq - 1;
    c->replay_end = c->s->index.last;
    jconsumer_recount(c);
}

void jconsumer_start(struct jconsumer *c)
{
    uint64_t seq = start_of(c);

    if (seq < c->s->index.first)
        seq = c->s->index.first;
    if (seq < c->s->first_seq)
        seq = c->s->first_seq;
    c->start = seq;
    set_place(c, seq);
}

void jconsumer_rewind(struct jconsumer *c, uint64_t seq)
{
    c->window.head = c->window.end = c->window.open = c->window.again = 0;
    c->lasts_n = c->lasts_at = 0;
    c->resume = 0;
    c->acks_n = 0;
    c->start = seq < c->start ? seq : c->start;
    jspent_forget(c, seq);
    set_place(c, seq < c->s->first_seq ? c->s->first_seq : seq);
    jconsumer_moved(c);
    jconsumer_wake(c);
}

struct jconsumer *jconsumer_at(struct jstream *s, struct jconsumer_conf *conf, uint64_t seq,
                               uint64_t dseq)
{
    struct jconsumer *c = jconsumer_new(s, conf, js_now_ns(s->js));

    jconsumer_start(c);
    if (seq) {
        seq = seq < s->first_seq ? s->first_seq : seq > s->index.last + 1 ? s->index.last + 1 : seq;
        c->start = seq;
        jconsumer_rewind(c, seq);
    }
    c->dseq = dseq;
    return c;
}

/* ---- ended ---- */

void jconsumer_close(struct jconsumer *c, const char *status)
{
    if (c->gone)
        return;
    c->gone = true;
    map_remove(&c->s->consumers, jconsumer_name(c));
    jstream_note(c->s);
    if (c->cursor)
        cursor_watch(c->cursor, NULL, NULL);
    loop_timer_cancel(c->l->loop, &c->timer);
    js_later_cancel(&c->work);
    jreader_free(&c->reader);
    jpulls_end(c, status);
    jconsumer_unref(c);
}

/* ---- what there is to say ---- */

struct jfloor jconsumer_floor(const struct jconsumer *c)
{
    const struct jgiven *g = c->acked ? jwindow_from(&c->window, 0) : NULL;

    if (g)
        return (struct jfloor){g->dseq - 1, g->seq - 1};
    return (struct jfloor){c->dseq - 1, c->last_seq};
}

void jconsumer_advise(struct jconsumer *c, const char *subject, const char *type, json_t *o)
{
    char text[ADVICE_ROOM];

    json_object_set_new(o, "stream", json_string(c->s->conf.name));
    json_object_set_new(o, "consumer", json_string(c->conf.name));
    snprintf(text, sizeof text, "%s.%s.%s", subject, c->s->conf.name, c->conf.name);
    js_advise(c->s, text, type, o);
}

static json_t *sequences(uint64_t dseq, uint64_t seq, int64_t active_ns)
{
    json_t *o =
        json_pack("{s:I, s:I}", "consumer_seq", (json_int_t)dseq, "stream_seq", (json_int_t)seq);

    if (active_ns)
        jtime_put(o, "last_active", active_ns);
    return o;
}

static void put_groups(const struct jconsumer *c, json_t *o)
{
    json_t *g;

    if (!c->conf.priority_groups.n)
        return;
    g = json_pack("{s:s}", "group", (const char *)jlist_text(&c->conf.priority_groups, 0).ptr);
    if (c->pin[0]) {
        json_object_set_new(g, "pinned_client_id", json_string(c->pin));
        jtime_put(g, "pinned_ts", c->pinned_ns);
    }
    json_object_set_new(o, "priority_groups", json_pack("[o]", g));
}

json_t *jconsumer_info(struct jconsumer *c)
{
    struct jfloor floor = jconsumer_floor(c);
    int64_t now = js_now_ns(c->js), left = 0;
    json_t *o = json_object();

    if (jconsumer_paused(c))
        left = c->conf.pause_until_ns - now;
    json_object_set_new(o, "stream_name", json_string(c->s->conf.name));
    json_object_set_new(o, "name", json_string(c->conf.name));
    jtime_put(o, "created", c->created_ns);
    json_object_set_new(o, "config", jconsumer_conf_write(&c->conf));
    json_object_set_new(o, "delivered", sequences(c->dseq - 1, c->last_seq, c->active_ns));
    json_object_set_new(o, "ack_floor", sequences(floor.dseq, floor.seq, c->ack_active_ns));
    json_object_set_new(o, "num_ack_pending", json_integer(c->window.open));
    json_object_set_new(o, "num_redelivered",
                        json_integer(c->conf.max_deliver == 1 ? 0 : c->window.again));
    if (!jconsumer_push(c) && c->pulls_n)
        jpulls_look(c, false);
    json_object_set_new(o, "num_waiting", json_integer(c->pulls_n));
    json_object_set_new(o, "num_pending", json_integer((json_int_t)c->pending));
    if (jconsumer_push(c)) {
        jpush_look(c);
        if (c->bound)
            json_object_set_new(o, "push_bound", json_true());
    }
    if (left) {
        json_object_set_new(o, "paused", json_true());
        json_object_set_new(o, "pause_remaining", json_integer(left));
    }
    jtime_put(o, "ts", now);
    put_groups(c, o);
    return o;
}
