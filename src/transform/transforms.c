/* The transforms there are, and the workers that run their steps. See transforms.h.
 *
 *   apply ── kv_put ──> durable ──> struct tform has the definition (at once, or after the step that
 *                                   runs), is due
 *   delete ─ kv_put ──> durable ──> def is NULL: a worker forgets its place, then frees it
 *
 * A worker takes whatever is due first; steps of different transforms run side by side, those of one
 * after each other. Between steps a transform waits for its input (a waiter of the topic) or a time. */
#include "transform/transforms.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_write.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/timefmt.h"
#include "journal/journal.h"
#include "transform/transform_int.h"

static const char *const state_names[] = {"starting", "running", "waiting", "error", "paused"};

/* ---- the list; lock held ---- */

static struct tform *find(struct transforms *m, struct slice name)
{
    struct tform *t;

    list_for_each(t, &m->list, struct tform, link) if (slice_eq_str(name, t->name)) return t;
    return NULL;
}

static void def_free(struct transform_def **d)
{
    if (*d)
        transform_def_fini(*d);
    free(*d);
    *d = NULL;
}

static struct transform_def *def_copy(const struct transform_def *d)
{
    struct transform_def *c = xmalloc(sizeof *c);

    *c = *d;
    c->time = xstrdup(d->time);
    c->columns = xstrdup(d->columns);
    c->sql = xstrdup(d->sql);
    return c;
}

/* What is or will be in force; NULL: it is being forgotten. */
static const struct transform_def *def_now(const struct tform *t)
{
    return t->next ? t->next : t->gone ? NULL : t->def;
}

static void wake(struct waiter *w)
{
    struct tform *t = list_entry(w, struct tform, waiter);

    io_mutex_lock(&t->m->lock);
    t->due_ns = 0;
    io_cond_signal(&t->m->work);
    io_mutex_unlock(&t->m->lock);
}

static struct tform *tform_new(struct transforms *m, const char *name)
{
    struct tform *t = xcalloc(1, sizeof *t), *x;

    t->magic = TFORM_MAGIC;
    t->m = m;
    snprintf(t->name, sizeof t->name, "%s", name);
    t->waiter = (struct waiter){.broker = m->conf.broker, .wake = wake};
    t->closed_us = t->saved_closed_us = t->told.watermark_us = t->told.closed_us = INT64_MIN;
    list_for_each(x, &m->list, struct tform, link) if (strcmp(x->name, name) > 0) break;
    if (&x->link == &m->list.node)
        list_push_back(&m->list, &t->link);
    else
        list_insert_before(&x->link, &t->link);
    return t;
}

/* Nobody else has it. */
static void tform_free(struct tform *t)
{
    ASSERT(t->magic == TFORM_MAGIC);
    waiter_cancel(&t->waiter);
    tform_drop(t);
    def_free(&t->def);
    def_free(&t->next);
    t->magic = 0;
    free(t);
}

/* ---- workers ---- */

/* The transform to run now, or NULL and when there may be one. Lock held. */
static struct tform *pick(struct transforms *m, uint64_t now, uint64_t *when)
{
    struct tform *t, *best = NULL;

    *when = UINT64_MAX;
    list_for_each(t, &m->list, struct tform, link)
    {
        const struct transform_def *d = t->next ? t->next : t->def;

        if (t->busy || (!t->gone && d->paused))
            continue;
        if (t->due_ns < *when) {
            *when = t->due_ns;
            best = t;
        }
    }
    return *when <= now ? best : NULL;
}

/* The definition to go by; false: it is to be forgotten. Lock held; t is busy. */
static bool take_definition(struct tform *t)
{
    if (t->gone)
        return false;
    if (t->next) {
        def_free(&t->def);
        t->def = t->next;
        t->next = NULL;
        t->reload = true;
    }
    return true;
}

/* Lock held, given up meanwhile. */
static void forget(struct transforms *m, struct tform *t)
{
    enum err e;

    io_mutex_unlock(&m->lock);
    waiter_cancel(&t->waiter);
    tform_drop(t);
    e = tform_forget(t);
    io_mutex_lock(&m->lock);
    t->busy = false;
    if (e) { /* again, later */
        t->due_ns = io_mono_ns(m->io) + 1000000000u;
        return;
    }
    t->gone = false;
    def_free(&t->def);
    if (t->next) {
        t->due_ns = 0;
        return;
    }
    list_remove(&t->link);
    io_mutex_unlock(&m->lock);
    tform_free(t);
    io_mutex_lock(&m->lock);
}

/* Lock held, given up meanwhile. */
static void run(struct transforms *m, struct tform *t)
{
    uint64_t due;
    bool reload;

    t->busy = true;
    if (!take_definition(t)) {
        forget(m, t);
        return;
    }
    reload = t->reload;
    t->reload = false;
    t->due_ns = UINT64_MAX; /* who wakes it meanwhile sets 0 */
    io_mutex_unlock(&m->lock);
    if (reload) {
        waiter_cancel(&t->waiter);
        tform_drop(t);
        t->budget = t->def->max_bytes;
        t->fails = 0;
    }
    due = tform_step(t);
    io_mutex_lock(&m->lock);
    t->busy = false;
    if (due < t->due_ns)
        t->due_ns = due;
}

static void worker_main(void *arg)
{
    struct transforms *m = arg;
    uint64_t now, when;
    struct tform *t;

    io_mutex_lock(&m->lock);
    while (!atomic_load(&m->closing)) {
        now = io_mono_ns(m->io);
        t = pick(m, now, &when);
        if (t)
            run(m, t);
        else if (when == UINT64_MAX)
            io_cond_wait(&m->work, &m->lock);
        else
            io_cond_wait_ns(&m->work, &m->lock, when - now);
    }
    io_mutex_unlock(&m->lock);
}

/* Lock held. */
static enum err workers_start(struct transforms *m, struct errinfo *info)
{
    enum err e = ERR_OK;

    while (m->workers_n < LIMIT_TRANSFORM_WORKERS && !e) {
        e = io_thread_start("weir-transform", IO_PRIO_BACKGROUND, worker_main, m,
                            &m->workers[m->workers_n], info);
        m->workers_n += !e;
    }
    return m->workers_n ? ERR_OK : e;
}

/* ---- in force ---- */

/* Takes d; NULL: it is deleted. */
static void enforce(struct transforms *m, const char *name, struct transform_def *d)
{
    struct tform *t;

    io_mutex_lock(&m->lock);
    t = find(m, slice_str(name));
    if (!t && d)
        t = tform_new(m, name);
    if (t) {
        def_free(&t->next);
        t->next = d;
        if (!d) /* another of the same name begins at nothing */
            t->told = (struct tform_told){.watermark_us = INT64_MIN, .closed_us = INT64_MIN};
        if (d)
            t->told.state = d->paused ? TFORM_PAUSED : TFORM_STARTING;
        else
            t->gone = true;
        if (d && !d->paused)
            t->told.error[0] = 0;
        t->due_ns = 0;
    }
    io_cond_broadcast(&m->work);
    io_mutex_unlock(&m->lock);
}

struct put {
    struct transforms *m;
    char name[TRANSFORM_NAME_MAX + 1];
    struct transform_def *def; /* NULL: deleted */
    broker_done_fn done;
    void *arg;
};

static void put_done(void *arg, enum err e, const struct errinfo *info)
{
    struct put *p = arg;

    if (!e) {
        enforce(p->m, p->name, p->def);
        p->def = NULL;
    }
    if (p->done)
        p->done(p->arg, e, info);
    def_free(&p->def);
    free(p);
}

/* Stores d (NULL: deletes), then it is in force. */
static enum err put(struct transforms *m, const char *name, const struct transform_def *d,
                    broker_done_fn done, void *arg, struct errinfo *info)
{
    struct put *p = xcalloc(1, sizeof *p);
    struct buf b;
    enum err e = ERR_OK;

    *p = (struct put){.m = m, .done = done, .arg = arg};
    snprintf(p->name, sizeof p->name, "%s", name);
    p->def = d ? def_copy(d) : NULL;
    buf_init(&b, LIMIT_KV_VALUE);
    if (d) {
        e = transform_def_write(d, true, &b);
        e = e ? e : buf_append_u8(&b, '}');
    }
    if (!e)
        e = kv_put(m->conf.broker, TRANSFORM_NS, slice_str(name), d ? buf_slice(&b) : SLICE_NULL, 0,
                   put_done, p, info);
    else
        errinfo_set(info, e, "the definition is too large");
    buf_fini(&b);
    if (e) {
        def_free(&p->def);
        free(p);
    }
    return e;
}

/* ---- changes ---- */

/* Whether what is written to `from` gets into `to`, by transforms but `without`. Lock held; visited is
 * false for all at first. */
static bool reaches(struct transforms *m, const char *from, const char *to, const char *without)
{
    const struct transform_def *d;
    struct tform *t;

    if (!strcmp(from, to))
        return true;
    list_for_each(t, &m->list, struct tform, link)
    {
        d = def_now(t);
        if (!d || t->visited || strcmp(t->name, without) == 0 || strcmp(d->input, from) != 0)
            continue;
        t->visited = true;
        if (reaches(m, d->output, to, without) || reaches(m, d->dead_letters, to, without))
            return true;
    }
    return false;
}

static enum err circle_check(struct transforms *m, const struct transform_def *d,
                             struct errinfo *info)
{
    struct tform *t;
    bool circle;

    io_mutex_lock(&m->lock);
    list_for_each(t, &m->list, struct tform, link) t->visited = false;
    circle =
        reaches(m, d->output, d->input, d->name) || reaches(m, d->dead_letters, d->input, d->name);
    io_mutex_unlock(&m->lock);
    if (!circle)
        return ERR_OK;
    return errinfo_set(info, ERR_CONFLICT,
                       "what it writes would come back to its input \"%s\" through transforms",
                       d->input);
}

static enum err count_check(struct transforms *m, const struct transform_def *d, bool *created,
                            struct transform_def **was, struct errinfo *info)
{
    const struct transform_def *now;
    unsigned n = 0;
    struct tform *t;

    io_mutex_lock(&m->lock);
    list_for_each(t, &m->list, struct tform, link) n++;
    t = find(m, slice_str(d->name));
    now = t ? def_now(t) : NULL;
    *created = !now;
    *was = now ? def_copy(now) : NULL;
    io_mutex_unlock(&m->lock);
    if (t || n < LIMIT_TRANSFORMS)
        return ERR_OK;
    return errinfo_set(info, ERR_LIMIT, "there are %u transforms already", LIMIT_TRANSFORMS);
}

enum err transforms_apply(struct transforms *m, struct transform_def *d, bool *created,
                          broker_done_fn done, void *arg, struct errinfo *info)
{
    struct transform_def *was = NULL;
    enum err e = transform_def_check(d, info);

    e = e ? e : circle_check(m, d, info);
    e = e ? e : count_check(m, d, created, &was, info);
    if (!e && was)
        d->paused = was->paused;
    def_free(&was);
    if (!e) {
        io_mutex_lock(&m->lock);
        e = workers_start(m, info);
        io_mutex_unlock(&m->lock);
    }
    return e ? e : put(m, d->name, d, done, arg, info);
}

struct applied {
    struct io_mutex lock;
    struct io_cond cond;
    bool done;
    enum err e;
    struct errinfo info;
};

static void applied_done(void *arg, enum err e, const struct errinfo *info)
{
    struct applied *a = arg;

    io_mutex_lock(&a->lock);
    a->e = e;
    if (info)
        a->info = *info;
    a->done = true;
    io_cond_signal(&a->cond);
    io_mutex_unlock(&a->lock);
}

enum err transforms_apply_wait(struct transforms *m, struct transform_def *d, struct errinfo *info)
{
    struct transform_def *was = NULL;
    struct applied a = {.e = ERR_OK};
    bool created, same;
    enum err e = transform_def_check(d, info);

    e = e ? e : count_check(m, d, &created, &was, info);
    same = was && transform_def_same(was, d);
    def_free(&was);
    if (e || same)
        return e;
    io_mutex_init(&a.lock);
    io_cond_init(&a.cond);
    e = transforms_apply(m, d, &created, applied_done, &a, info);
    if (!e) {
        io_mutex_lock(&a.lock);
        while (!a.done)
            io_cond_wait(&a.cond, &a.lock);
        io_mutex_unlock(&a.lock);
        e = a.e;
        if (e && info)
            *info = a.info;
    }
    io_cond_fini(&a.cond);
    io_mutex_fini(&a.lock);
    return e;
}

enum err transforms_get(struct transforms *m, struct slice name, struct transform_def *out,
                        struct errinfo *info)
{
    const struct transform_def *d;
    struct transform_def *c = NULL;
    struct tform *t;

    io_mutex_lock(&m->lock);
    t = find(m, name);
    d = t ? def_now(t) : NULL;
    if (d)
        c = def_copy(d);
    io_mutex_unlock(&m->lock);
    if (!c)
        return errinfo_set(info, ERR_NOT_FOUND, "there is no transform \"%.*s\"",
                           (int)(name.len < 100 ? name.len : 100), (const char *)name.ptr);
    *out = *c;
    free(c);
    return ERR_OK;
}

enum err transforms_delete(struct transforms *m, struct slice name, broker_done_fn done, void *arg,
                           struct errinfo *info)
{
    struct transform_def d;
    enum err e = transforms_get(m, name, &d, info);

    if (e)
        return e;
    e = put(m, d.name, NULL, done, arg, info);
    transform_def_fini(&d);
    return e;
}

enum err transforms_pause(struct transforms *m, struct slice name, bool pause, broker_done_fn done,
                          void *arg, struct errinfo *info)
{
    struct transform_def d;
    enum err e = transforms_get(m, name, &d, info);

    if (e)
        return e;
    d.paused = pause;
    e = put(m, d.name, &d, done, arg, info);
    transform_def_fini(&d);
    return e;
}

/* ---- opening, closing ---- */

struct loading {
    struct transforms *m;
    enum err e;
};

static bool load_one(void *arg, struct slice key, struct slice value)
{
    struct loading *l = arg;
    struct transform_def *d = xmalloc(sizeof *d);
    struct errinfo why = {0};
    struct tform *t;

    transform_def_init(d);
    if (transform_def_json(d, value, &why) || transform_def_check(d, &why)) {
        LOG(l->m->conf.log, LOG_ERROR, "a stored transform cannot be understood",
            LOG_SLICE("transform", key), LOG_STR("error", why.text));
        def_free(&d);
        return true;
    }
    t = tform_new(l->m, d->name);
    t->next = d;
    t->told.state = d->paused ? TFORM_PAUSED : TFORM_STARTING;
    return true;
}

/* A place without a transform: it was being deleted. */
static bool load_place(void *arg, struct slice key, struct slice value)
{
    struct loading *l = arg;
    const uint8_t *slash = memchr(key.ptr, '/', key.len);
    char name[TRANSFORM_NAME_MAX + 1];
    size_t n = slash ? (size_t)(slash - key.ptr) : key.len;

    if (n >= sizeof name)
        return true;
    memcpy(name, key.ptr, n);
    name[n] = 0;
    if (!find(l->m, slice_str(name)))
        tform_new(l->m, name)->gone = true;
    return true;
}

enum err transforms_open(const struct transforms_conf *conf, struct transforms **out,
                         struct errinfo *info)
{
    struct transforms *m = xcalloc(1, sizeof *m);
    struct loading l = {.m = m};
    enum err e = ERR_OK;

    m->conf = *conf;
    m->io = broker_io(conf->broker);
    io_mutex_init(&m->lock);
    io_cond_init(&m->work);
    list_init(&m->list);
    kv_each(conf->broker, TRANSFORM_NS, load_one, &l);
    kv_each(conf->broker, TRANSFORM_AT_NS, load_place, &l);
    io_mutex_lock(&m->lock);
    if (!list_empty(&m->list))
        e = workers_start(m, info);
    io_mutex_unlock(&m->lock);
    *out = m;
    if (e)
        transforms_close(out);
    return e;
}

void transforms_close(struct transforms **mp)
{
    struct transforms *m = *mp;
    unsigned i;

    if (!m)
        return;
    io_mutex_lock(&m->lock);
    atomic_store(&m->closing, true);
    io_cond_broadcast(&m->work);
    io_mutex_unlock(&m->lock);
    for (i = 0; i < m->workers_n; i++)
        io_thread_join(&m->workers[i]);
    while (!list_empty(&m->list))
        tform_free(list_entry(list_pop_front(&m->list), struct tform, link));
    io_cond_fini(&m->work);
    io_mutex_fini(&m->lock);
    free(m);
    *mp = NULL;
}

/* ---- trials ---- */

enum err transforms_trial(struct transforms *m, const struct transform_def *d, int64_t records,
                          struct buf *text, struct sql_input *in, struct errinfo *info)
{
    struct topic *t = topic_find(m->conf.broker, slice_str(d->input));
    struct sql_range *v;
    int32_t i, n;

    if (!t)
        return errinfo_set(info, ERR_TOPIC_NOT_FOUND, "there is no topic \"%s\"", d->input);
    if (transform_statement(d, INT64_MIN, INT64_MAX, text)) {
        topic_unref(&t);
        return errinfo_set(info, ERR_TOO_LARGE, "the statement is too long");
    }
    n = topic_partitions(t);
    v = xcalloc((size_t)n, sizeof *v);
    for (i = 0; i < n; i++) {
        struct partition *p = topic_partition(t, i);
        struct plog_info now;
        int64_t end = partition_lso(p);

        plog_info_get(partition_log(p), &now);
        v[i] = (struct sql_range){
            i, end - now.start_offset > records ? end - records : now.start_offset, end};
    }
    *in = (struct sql_input){.name = slice_str(transform_input_name(d)),
                             .topic = t,
                             .ranges = v,
                             .ranges_n = (unsigned)n};
    return ERR_OK;
}

/* ---- what people see ---- */

/* A copy of what there is to tell, so that it is written without the lock. */
struct view {
    struct transform_def *def;
    struct tform_told told;
};

static bool view_take(struct tform *t, struct view *v)
{
    const struct transform_def *d = def_now(t);

    if (!d)
        return false;
    v->def = def_copy(d);
    v->told = t->told;
    if (d->paused)
        v->told.state = TFORM_PAUSED;
    return true;
}

/* Records behind the committed places, and their sum by partition. */
static int64_t lag(struct transforms *m, const struct view *v)
{
    struct topic *in = topic_find(m->conf.broker, slice_str(v->def->input));
    char group[TRANSFORM_NAME_MAX + 16];
    int64_t sum = 0;
    int32_t i;

    snprintf(group, sizeof group, "transform.%s", v->def->name);
    for (i = 0; in && i < topic_partitions(in); i++) {
        struct partition *p = topic_partition(in, i);
        struct group_offset o;
        struct plog_info now;
        int64_t end = partition_lso(p);

        plog_info_get(partition_log(p), &now);
        if (group_offset_get(m->conf.broker, slice_str(group), p, &o))
            o.offset = v->def->latest ? end : now.start_offset;
        sum += end > o.offset ? end - o.offset : 0;
    }
    topic_unref(&in);
    return sum;
}

static enum err put_time(struct buf *out, const char *name, int64_t us)
{
    char when[TIME_TEXT_LEN + 1];

    if (us == INT64_MIN)
        return buf_printf(out, ",\"%s\":null", name);
    time_format(us / 1000, when);
    return buf_printf(out, ",\"%s\":\"%s\"", name, when);
}

static enum err view_write(struct transforms *m, const struct view *v, struct buf *out)
{
    const struct tform_told *t = &v->told;
    char when[TIME_TEXT_LEN + 1];
    enum err e = transform_def_write(v->def, false, out);

    e = e ? e
          : buf_printf(out,
                       ",\"group\":\"transform.%s\",\"state\":\"%s\",\"lag\":%" PRId64
                       ",\"steps\":%" PRIu64 ",\"records_in\":%" PRIu64 ",\"rows_out\":%" PRIu64
                       ",\"bytes_out\":%" PRIu64 ",\"failed_records\":%" PRIu64
                       ",\"late_records\":%" PRIu64 ",\"lost_records\":%" PRIu64
                       ",\"errors\":%" PRIu64 ",\"last_step_seconds\":%.6f",
                       v->def->name, state_names[t->state], lag(m, v), t->steps, t->records_in,
                       t->rows_out, t->bytes_out, t->dead, t->late, t->lost, t->errors,
                       (double)t->step_ns * 1e-9);
    if (!e && transform_windowed(v->def)) {
        e = put_time(out, "watermark", t->watermark_us);
        e = e ? e : put_time(out, "closed", t->closed_us);
    }
    if (!e && t->error[0]) {
        time_format(t->error_ms, when);
        e = buf_printf(out, ",\"failed_at\":\"%s\",\"error\":", when);
        e = e ? e : json_write_string(out, slice_str(t->error));
    }
    return e ? e : buf_append_u8(out, '}');
}

enum err transforms_show(struct transforms *m, struct slice name, struct buf *out,
                         struct errinfo *info)
{
    struct view *v = xcalloc(1, sizeof *v);
    struct tform *t;
    enum err e = ERR_NOT_FOUND;

    io_mutex_lock(&m->lock);
    t = find(m, name);
    if (t && view_take(t, v))
        e = ERR_OK;
    io_mutex_unlock(&m->lock);
    if (e)
        errinfo_set(info, e, "there is no transform \"%.*s\"",
                    (int)(name.len < 100 ? name.len : 100), (const char *)name.ptr);
    else
        e = view_write(m, v, out);
    def_free(&v->def);
    free(v);
    return e;
}

/* Copies of all; the caller frees each one's def, and the array. */
static struct view *views_take(struct transforms *m, unsigned *n)
{
    struct view *v;
    struct tform *t;

    *n = 0;
    io_mutex_lock(&m->lock);
    list_for_each(t, &m->list, struct tform, link)(*n)++;
    v = xcalloc((size_t)*n + 1, sizeof *v);
    *n = 0;
    list_for_each(t, &m->list, struct tform, link) *n += view_take(t, &v[*n]);
    io_mutex_unlock(&m->lock);
    return v;
}

enum err transforms_list(struct transforms *m, bool (*sees)(void *arg, struct slice input),
                         void *arg, struct buf *out)
{
    unsigned n, i, shown = 0;
    struct view *v = views_take(m, &n);
    enum err e = buf_append_str(out, "{\"transforms\":[");

    for (i = 0; i < n; i++) {
        if (!e && (!sees || sees(arg, slice_str(v[i].def->input)))) {
            e = shown++ ? buf_append_u8(out, ',') : ERR_OK;
            e = e ? e : view_write(m, &v[i], out);
        }
        def_free(&v[i].def);
    }
    free(v);
    return e ? e : buf_append_str(out, "]}");
}

static const struct {
    const char *name, *type, *help;
    size_t at; /* in struct tform_told; 0: computed */
} metrics[] = {
#define AT(field) offsetof(struct tform_told, field)
    {"steps_total", "counter", "Steps that had something to do.", AT(steps)},
    {"records_in_total", "counter", "Records that were read.", AT(records_in)},
    {"rows_out_total", "counter", "Rows that were written.", AT(rows_out)},
    {"out_bytes_total", "counter", "Bytes of those rows.", AT(bytes_out)},
    {"dead_letters_total", "counter", "Records that the statement failed for.", AT(dead)},
    {"late_total", "counter", "Records whose window was closed, or without a time.", AT(late)},
    {"lost_records_total", "counter", "Records that were deleted before they were read.", AT(lost)},
    {"errors_total", "counter", "Steps that failed.", AT(errors)},
    {"lag_records", "gauge", "Records behind the committed offsets.", 0},
    {"watermark_seconds", "gauge", "Event time up to which windows are closed, since 1970.", 0},
    {"failing", "gauge", "1 while the last step failed.", 0},
#undef AT
};

static void metric_value(struct transforms *m, unsigned i, const struct view *v, struct buf *out)
{
    const char *name = metrics[i].name;

    if (!strcmp(name, "watermark_seconds") && v->told.watermark_us == INT64_MIN)
        return;
    buf_printf(out, "weir_transform_%s{transform=\"%s\"} ", name, v->def->name);
    if (metrics[i].at)
        buf_printf(out, "%" PRIu64 "\n",
                   *(const uint64_t *)(const void *)((const char *)&v->told + metrics[i].at));
    else if (!strcmp(name, "lag_records"))
        buf_printf(out, "%" PRId64 "\n", lag(m, v));
    else if (!strcmp(name, "failing"))
        buf_printf(out, "%d\n", v->told.state == TFORM_FAILING);
    else
        buf_printf(out, "%.3f\n", (double)v->told.watermark_us * 1e-6);
}

void transforms_metrics(struct transforms *m, struct buf *out)
{
    unsigned n, i, k;
    struct view *v = views_take(m, &n);

    for (k = 0; n && k < sizeof metrics / sizeof *metrics; k++) {
        buf_printf(out, "# HELP weir_transform_%s %s\n# TYPE weir_transform_%s %s\n",
                   metrics[k].name, metrics[k].help, metrics[k].name, metrics[k].type);
        for (i = 0; i < n; i++)
            metric_value(m, k, &v[i], out);
    }
    for (i = 0; i < n; i++)
        def_free(&v[i].def);
    free(v);
}
